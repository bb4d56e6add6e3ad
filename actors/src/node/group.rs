//! Groups: workers that fail, start and stop together.
//!
//! A group is a supervisor in the sense of Erlang/OTP. Its children are workers and other groups;
//! they start in the order in which they were added and stop in reverse. If the children fail more
//! often than the group's intensity allows, the group ends and its parent decides. A [`Group`] is a
//! handle: dropping it stops nothing. The decisions are made in `heartbeat-core`.
//!
//! # Quick start
//! ```
//! use std::time::Duration;
//!
//! use heartbeat_actors::group::{GroupSpec, Strategy};
//! use heartbeat_actors::prelude::*;
//!
//! struct Connection;
//! struct Cache;
//! # impl Actor for Connection { type Context = Context<Self>; }
//! # impl Actor for Cache { type Context = Context<Self>; }
//! # actix::System::new().block_on(async {
//! # let node = Node::start(Config::default()).await.unwrap();
//! let minute = Duration::from_secs(60);
//! let spec = GroupSpec::new("storage").strategy(Strategy::RestForOne).intensity(5, minute);
//! let storage = node.root().group(spec).unwrap();
//! let connection = storage.supervise("connection", || Connection).unwrap();
//! let cache = storage.supervise("cache", || Cache).unwrap(); // starts once the connection is up
//! storage.until_up().await.unwrap();
//! assert!(connection.status().is_up && cache.status().is_up);
//! # });
//! ```
//!
//! # Which strategy
//! | [`Strategy`] | a failed child is started again together with |
//! |---|---|
//! | [`OneForOne`](Strategy::OneForOne) | no other child (default) |
//! | [`OneForAll`](Strategy::OneForAll) | all children |
//! | [`RestForOne`](Strategy::RestForOne) | the children added after it |
//!
//! # Which kind of group
//! | children | use |
//! |---|---|
//! | different workers, known at the start | [`Group::group`] |
//! | any number of one kind, each from an argument | [`Group::template`] |
//! | some of one kind behind one address | [`Group::pool`], see [`pool`](crate::pool) |
//! | one kind spread over the nodes | [`Node::supervise_shards`], see [`shard`](crate::shard) |

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use heartbeat_core::config::RestartConfig;
use heartbeat_core::{Child, Config, ConfigError, Counting, GroupId, Input, RestartKind, SuperviseGroup};

use crate::node::Node;
use crate::node::pool::{Pool, Routing};
use crate::node::supervise_error::SuperviseError;
use crate::worker::addr::WorkerAddr;
use crate::worker::context::Context;
use crate::worker::messages::{NotUp, is_up};
use crate::worker::slot::{Factory, Part, StartError, StartInfo};
use crate::worker::spec::{Limits, WorkerSpec};

pub use crate::node::template::Template;
pub use heartbeat_core::{AutoShutdown, Strategy};

/// How a group is to be supervised. The config decides what is not set here.
#[derive(Clone, Debug)]
#[must_use]
pub struct GroupSpec {
    pub(crate) name: String,
    strategy: Strategy,
    auto_shutdown: AutoShutdown,
    counting: Counting,
    dynamic: bool,
    kind: RestartKind,
    significant: bool,
    limits: Limits,
}

impl GroupSpec {
    /// A permanent group of this name in which each failure concerns the failed child alone. The
    /// failures of all children count together against the restart limits of the config.
    pub fn new(name: impl Into<String>) -> GroupSpec {
        GroupSpec {
            name: name.into(),
            strategy: Strategy::OneForOne,
            auto_shutdown: AutoShutdown::Never,
            counting: Counting::Together,
            dynamic: false,
            kind: RestartKind::Permanent,
            significant: false,
            limits: Limits::default(),
        }
    }

    /// Which children are started again after a child has failed.
    pub fn strategy(mut self, strategy: Strategy) -> GroupSpec {
        self.strategy = strategy;
        self
    }

    /// Whether the group ends when significant children have ended by themselves.
    pub fn auto_shutdown(mut self, auto_shutdown: AutoShutdown) -> GroupSpec {
        self.auto_shutdown = auto_shutdown;
        self
    }

    /// Which of the group's own ends are followed by a new start by its parent.
    pub fn restart(mut self, kind: RestartKind) -> GroupSpec {
        self.kind = kind;
        self
    }

    /// Makes its end count for its parent's `auto_shutdown`. Only transient and temporary groups in
    /// a parent with an `auto_shutdown` can be significant.
    pub fn significant(mut self) -> GroupSpec {
        self.significant = true;
        self
    }

    /// At most `intensity` restarts of all children together in any `period`. With one more the
    /// group ends, and its parent decides.
    pub fn intensity(mut self, intensity: u32, period: Duration) -> GroupSpec {
        self.limits.intensity = Some((intensity, period));
        self
    }

    /// The restart limits of a template's workers, which count together.
    pub(crate) fn limits(mut self, limits: Limits) -> GroupSpec {
        self.limits = limits;
        self
    }

    /// Each child's restarts count by themselves, against its own limits. A child over its limits
    /// is given up, and the others go on.
    pub(crate) fn each(mut self) -> GroupSpec {
        self.counting = Counting::Each;
        self
    }

    /// Children are started as they are added and stopped all at once.
    pub(crate) fn dynamic(mut self) -> GroupSpec {
        self.dynamic = true;
        self
    }

    fn check(&self, parent: AutoShutdown) -> Result<(), SuperviseError> {
        check_significant(&self.name, self.significant, self.kind, parent)
    }

    fn restart_config(&self, config: &Config) -> Result<Option<Arc<RestartConfig>>, ConfigError> {
        self.limits.restart(config)
    }
}

/// Refuses a significant child whose end could never have an effect on its group.
pub(crate) fn check_significant(
    name: &str,
    significant: bool,
    kind: RestartKind,
    group: AutoShutdown,
) -> Result<(), SuperviseError> {
    match (significant, kind, group) {
        (false, _, _) => Ok(()),
        (true, RestartKind::Permanent, _) => Err(SuperviseError::Significant(format!(
            "significant child {name:?} is permanent, so it never ends by itself; use transient or temporary"
        ))),
        (true, _, AutoShutdown::Never) => Err(SuperviseError::Significant(format!(
            "significant child {name:?} is in a group that never shuts down by itself; set its auto_shutdown"
        ))),
        (true, _, AutoShutdown::AnySignificant | AutoShutdown::AllSignificant) => Ok(()),
    }
}

/// A supervised group. Cloning it is cheap; dropping it stops nothing.
#[derive(Clone)]
pub struct Group {
    node: Node,
    id: GroupId,
    name: Arc<str>,
    auto_shutdown: AutoShutdown,
}

impl Group {
    /// The outermost group, which holds all workers and groups of the node.
    pub(crate) fn root(node: &Node) -> Group {
        Group { node: node.clone(), id: GroupId::ROOT, name: "root".into(), auto_shutdown: AutoShutdown::Never }
    }

    /// The group with this number and name, which never shuts down by itself.
    pub(crate) fn of(node: &Node, id: GroupId, name: Arc<str>) -> Group {
        Group { node: node.clone(), id, name, auto_shutdown: AutoShutdown::Never }
    }

    /// Starts a worker in this group, after the children added before, and keeps it running.
    ///
    /// # Errors
    /// As [`Node::supervise`].
    pub fn supervise<A, F>(&self, name: &str, factory: F) -> Result<WorkerAddr<A>, SuperviseError>
    where
        A: Actor<Context = Context<A>>,
        F: Fn() -> A + Send + Sync + 'static,
    {
        self.supervise_with(WorkerSpec::new(name), move |_| Ok(factory()))
    }

    /// Starts a worker in this group, after the children added before, with limits of its own. The
    /// factory may fail, and its [`StartInfo`] says why it is called.
    ///
    /// # Errors
    /// As [`Node::supervise_with`].
    pub fn supervise_with<A, F>(&self, spec: WorkerSpec, factory: F) -> Result<WorkerAddr<A>, SuperviseError>
    where
        A: Actor<Context = Context<A>>,
        F: Fn(&StartInfo) -> Result<A, StartError> + Send + Sync + 'static,
    {
        self.supervise_with_context(spec, move |start, _| factory(start))
    }

    /// As [`Group::supervise_with`], with a factory that also gets the context of the worker it
    /// makes, as with actix's `Actor::create`. The factory can spawn futures, start timers, add
    /// streams and give the address away.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use heartbeat_actors::prelude::*;
    /// struct Clock {
    ///     timer: SpawnHandle,
    /// }
    ///
    /// impl Actor for Clock {
    ///     type Context = Context<Self>;
    /// }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let clock = node.root().supervise_with_context(WorkerSpec::new("clock"), |_, context| {
    ///     let timer = context.run_interval(Duration::from_secs(1), |_, _| println!("tick"));
    ///     Ok(Clock { timer })
    /// });
    /// # clock.unwrap().until_up().await.unwrap();
    /// # });
    /// ```
    ///
    /// # Errors
    /// As [`Node::supervise_with`].
    pub fn supervise_with_context<A, F>(&self, spec: WorkerSpec, factory: F) -> Result<WorkerAddr<A>, SuperviseError>
    where
        A: Actor<Context = Context<A>>,
        F: Fn(&StartInfo, &mut Context<A>) -> Result<A, StartError> + Send + Sync + 'static,
    {
        self.supervise_part(spec, Part::Alone, Box::new(factory))
    }

    /// Starts a worker that stands alone or is a pool's member.
    pub(crate) fn supervise_part<A: Actor<Context = Context<A>>>(
        &self,
        spec: WorkerSpec,
        part: Part<A>,
        factory: Factory<A>,
    ) -> Result<WorkerAddr<A>, SuperviseError> {
        check_significant(&spec.name, spec.significant, spec.kind, self.auto_shutdown)?;
        self.node.add_worker(self, spec, factory, part)
    }

    /// Starts an empty group within this one, after the children added before.
    ///
    /// # Errors
    /// [`SuperviseError`] if the name is taken or is no name at all, or the spec contradicts
    /// itself.
    pub fn group(&self, spec: GroupSpec) -> Result<Group, SuperviseError> {
        spec.check(self.auto_shutdown)?;
        let restart = spec.restart_config(self.node.config()).map_err(SuperviseError::Config)?;
        let (id, name) = self.node.take_group(&spec.name, self)?;
        self.node.add_group(SuperviseGroup {
            group: id,
            name: name.clone(),
            parent: self.id,
            strategy: spec.strategy,
            counting: spec.counting,
            auto_shutdown: spec.auto_shutdown,
            dynamic: spec.dynamic,
            kind: spec.kind,
            significant: spec.significant,
            restart,
        });
        Ok(Group { node: self.node.clone(), id, name, auto_shutdown: spec.auto_shutdown })
    }

    /// Adds a kind of worker of which any number can be started, each from an argument of its own.
    ///
    /// # Errors
    /// As [`Group::group`].
    pub fn template<A, T, F>(&self, spec: WorkerSpec, maker: F) -> Result<Template<A, T>, SuperviseError>
    where
        A: Actor<Context = Context<A>>,
        T: Send + Sync + 'static,
        F: Fn(&T, &StartInfo) -> Result<A, StartError> + Send + Sync + 'static,
    {
        Template::new(self, spec, maker)
    }

    /// Starts `count` workers of one kind behind one address. The pool sends each message to the
    /// next ready worker in turn.
    ///
    /// # Errors
    /// As [`Group::pool_with`].
    pub fn pool<A, F>(&self, name: &str, count: u32, factory: F) -> Result<Pool<A>, SuperviseError>
    where
        A: Actor<Context = Context<A>>,
        F: Fn() -> A + Send + Sync + 'static,
    {
        self.pool_with(WorkerSpec::new(name), count, Routing::RoundRobin, move |_| Ok(factory()))
    }

    /// Starts `count` workers of one kind behind one address, each with the limits of `spec`.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// use heartbeat_actors::pool::Routing;
    ///
    /// struct Encoder;
    /// # impl Actor for Encoder { type Context = Context<Self>; }
    /// # #[derive(Message)]
    /// # #[rtype(result = "u32")]
    /// # struct Encode(u32);
    /// # impl Handler<Encode> for Encoder {
    /// #     type Result = u32;
    /// #     fn handle(&mut self, encode: Encode, _: &mut Context<Self>) -> u32 { encode.0 * 2 }
    /// # }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let spec = WorkerSpec::new("encoders").capacity(64); // of the one queue of all members
    /// let encoders = node.root().pool_with(spec, 4, Routing::SharedQueue, |_| Ok(Encoder));
    /// let answer = encoders.unwrap().send(Encode(21)); // waits until a member is up
    /// assert_eq!(answer.await, Ok(42));
    /// # });
    /// ```
    ///
    /// # Errors
    /// As [`Node::supervise_with`], or [`SuperviseError::Members`] if `count` is 0 or over
    /// [`POOL_SIZE_MAX`](crate::pool::POOL_SIZE_MAX).
    pub fn pool_with<A, F>(
        &self,
        spec: WorkerSpec,
        count: u32,
        routing: Routing,
        factory: F,
    ) -> Result<Pool<A>, SuperviseError>
    where
        A: Actor<Context = Context<A>>,
        F: Fn(&StartInfo) -> Result<A, StartError> + Send + Sync + 'static,
    {
        Pool::new(self, spec, count, routing, factory)
    }

    /// Waits until the group is up: each of its children that is to run, groups within it included.
    /// After [`Group::restart`] or [`Group::start`] it waits for their next generations. It has no
    /// deadline of its own.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// # use heartbeat_actors::group::GroupSpec;
    /// # struct Worker;
    /// # impl Actor for Worker { type Context = Context<Self>; }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let group = node.root().group(GroupSpec::new("group")).unwrap();
    /// let first = group.supervise("first", || Worker).unwrap();
    /// let second = group.supervise("second", || Worker).unwrap();
    /// group.until_up().await.unwrap();
    /// assert!(first.status().is_up && second.status().is_up);
    /// # });
    /// ```
    ///
    /// # Errors
    /// [`NotUp`] as soon as it will not be up without a call of [`Group::start`].
    pub async fn until_up(&self) -> Result<(), NotUp> {
        let child = Child::Group(self.id);
        self.node.until(move |engine, _| is_up(engine, child)).await
    }

    pub(crate) fn id(&self) -> GroupId {
        self.id
    }

    /// Its name as the view shows it: none for the root.
    pub(crate) fn shown_name(&self) -> Option<Arc<str>> {
        (self.id != GroupId::ROOT).then(|| self.name.clone())
    }

    /// The node it is on.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// Starts the group again, if it has ended, was stopped or was given up.
    pub fn start(&self) {
        self.node.input(Input::Start(Child::Group(self.id)));
    }

    /// Stops its children in reverse order, and starts them again in order. Their queues are kept;
    /// nothing is counted.
    pub fn restart(&self) {
        self.node.input(Input::Restart(Child::Group(self.id)));
    }

    /// Stops its children in reverse order, each within its `shutdown_timeout`.
    pub fn stop(&self) {
        self.node.input(Input::Stop(Child::Group(self.id)));
    }

    /// Stops the group and forgets it with all its children; their names are free again.
    pub fn remove(&self) {
        self.node.input(Input::Remove(Child::Group(self.id)));
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.name).finish_non_exhaustive()
    }
}
