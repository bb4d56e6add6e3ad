//! `Node`: this process as a node, which applications start, ask and leave.

pub mod entity;
pub mod group;
mod operators;
pub mod pool;
mod service;
pub mod shard;
pub(crate) mod start;
pub(crate) mod stop;
pub(crate) mod supervise_error;
#[cfg(feature = "systemd")]
mod systemd;
mod template;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use actix::{Actor, Recipient};
use heartbeat_core::config::ARBITERS_MAX;
use heartbeat_core::member::NAME_BYTES_MAX;
use heartbeat_core::{
    Config, ConfigError, Counters, Engine, GroupId, Input, Instant, Metadata, Supervise, SuperviseGroup, ThreadSlotId,
    WorkerActivity, WorkerId,
};
use tokio::sync::Notify;

use crate::control::input::{NewWorkers, Request, ask};
use crate::control::record::Recorder;
use crate::control::until::until;
#[cfg(feature = "http")]
use crate::http::{Door, Server};
#[cfg(feature = "http")]
use crate::lock::lock;
use crate::node::group::Group;
use crate::node::service::Services;
use crate::node::start::{NodeError, Started};
use crate::node::supervise_error::SuperviseError;
use crate::requests::Route;
use crate::requests::remote::{RemoteAddr, To};
use crate::seal::{MemberSeal, Removal, SealCounts, SealError};
use crate::spans::{PropagatorIsSet, TracePropagator};
use crate::transport::{Transport, UdpTransport};
use crate::view::node_view::View;
use crate::view::owner::{NoOwner, Owner};
use crate::view::peer_status::PeerStatus;
use crate::view::subscribe::{DeadLetters, Subscriber, Update, Updates};
use crate::worker::addr::WorkerAddr;
use crate::worker::context::Context;
use crate::worker::mailbox::Rules;
use crate::worker::messages::{NotUp, ToSupervisor};
use crate::worker::slot::{DynSlot, Factory, Part, StartError, StartInfo, WorkerSlot};
use crate::worker::spec::{Arbiters, Placement, WorkerSpec};
use crate::worker::status_cell::CellRef;

/// This process: it supervises workers and, with a `[cluster]` table, is a member of a cluster.
///
/// A node runs its supervisor on a thread of its own. Cloning a `Node` is cheap; dropping it stops
/// nothing. Call [`Node::leave`] to stop.
///
/// ```
/// use heartbeat_actors::prelude::*;
///
/// struct Worker;
///
/// impl Actor for Worker {
///     type Context = Context<Self>;
/// }
/// # actix::System::new().block_on(async {
/// let node = Node::start(Config::default()).await.unwrap();
/// let worker = node.supervise("worker", || Worker).unwrap();
/// worker.until_up().await.unwrap();
/// assert!(node.supervise("worker", || Worker).is_err(), "the name is taken");
///
/// node.leave().await;
/// assert!(!worker.status().is_up);
/// # });
/// ```
#[derive(Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

struct Inner {
    started: Started,
    /// The next thread slot that is not one of the shared ones.
    next_place: AtomicU32,
    /// The next group; the root is 0.
    next_group: AtomicU32,
    /// Held while a sharded group is added, so that two at once cannot pass the limit on groups.
    sharding: Mutex<()>,
    services: Services,
    /// Notified when the application asks for an orderly end.
    stop: Notify,
    /// What the paths over HTTP read.
    #[cfg(feature = "http")]
    door: Arc<Door>,
    /// The server that the config asks for.
    #[cfg(feature = "http")]
    server: Mutex<Option<Server>>,
}

impl std::ops::Deref for Inner {
    type Target = Started;

    fn deref(&self) -> &Started {
        &self.started
    }
}

impl Node {
    /// Starts this process as a node. Without a `[cluster]` table it stays within the process and
    /// opens no socket.
    ///
    /// # Errors
    /// [`NodeError`]; nothing is left running.
    pub async fn start(config: Config) -> Result<Node, NodeError> {
        let listen = config.cluster.as_ref().map(|cluster| cluster.listen);
        Node::start_on(config, move || match listen {
            Some(listen) => Ok(Some(Rc::new(UdpTransport::bind(listen)?) as Rc<dyn Transport>)),
            None => Ok(None),
        })
        .await
    }

    /// Starts this process as a node over a transport of your own, made by `bind` on the thread
    /// that is to use it. Returning none makes the node stay within its process.
    ///
    /// # Errors
    /// [`NodeError`]; nothing is left running.
    pub async fn start_on<F>(config: Config, bind: F) -> Result<Node, NodeError>
    where
        F: FnOnce() -> io::Result<Option<Rc<dyn Transport>>> + Send + 'static,
    {
        let listener = operators::bind(&config)?;
        let node = Node::new(start::on_own_thread(config, bind).await?);
        match operators::serve(&node, listener) {
            Ok(()) => Ok(node),
            Err(error) => {
                node.leave().await;
                Err(error)
            }
        }
    }

    /// Wraps a node whose actors run.
    pub(crate) fn new(started: Started) -> Node {
        let arbiters = started.config.workers.arbiters;
        let (next_place, next_group) = (AtomicU32::new(arbiters), AtomicU32::new(GroupId::ROOT.0 + 1));
        #[cfg(feature = "http")]
        let door = Arc::new(Door::new(
            started.config.clone(),
            started.view.clone(),
            started.control.clone(),
            started.supervisor.clone(),
            started.receiver.clone(),
            started.requests.clone(),
            started.seal.clone(),
        ));
        Node {
            inner: Arc::new(Inner {
                started,
                next_place,
                next_group,
                sharding: Mutex::default(),
                services: Services::default(),
                stop: Notify::new(),
                #[cfg(feature = "http")]
                door,
                #[cfg(feature = "http")]
                server: Mutex::default(),
            }),
        }
    }

    /// Starts a worker and keeps it running: `factory` makes the first one and each replacement.
    ///
    /// The factory is called on the worker's thread. If it panics, that is a failed start, to which
    /// the restart limits apply.
    ///
    /// # Errors
    /// [`SuperviseError`] if the name is taken, empty or too long, or the node leaves.
    pub fn supervise<A, F>(&self, name: &str, factory: F) -> Result<WorkerAddr<A>, SuperviseError>
    where
        A: Actor<Context = Context<A>>,
        F: Fn() -> A + Send + Sync + 'static,
    {
        self.supervise_with(WorkerSpec::new(name), move |_| Ok(factory()))
    }

    /// Starts a worker and keeps it running, with limits of its own. The factory may fail, and its
    /// [`StartInfo`] says why it is called.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// # struct Reader(std::net::Ipv4Addr);
    /// # impl Actor for Reader { type Context = Context<Self>; }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let reader = node.supervise_with(WorkerSpec::new("reader").capacity(64), |start| {
    ///     assert!(start.generation.0 >= 1); // 1 for the first, one more for each replacement
    ///     Ok(Reader("10.0.0.1".parse()?)) // an error is a failed start
    /// });
    /// reader.unwrap().until_up().await.unwrap();
    /// # });
    /// ```
    ///
    /// # Errors
    /// [`SuperviseError`] if the name is taken or no name at all, or the limits contradict each
    /// other.
    pub fn supervise_with<A, F>(&self, spec: WorkerSpec, factory: F) -> Result<WorkerAddr<A>, SuperviseError>
    where
        A: Actor<Context = Context<A>>,
        F: Fn(&StartInfo) -> Result<A, StartError> + Send + Sync + 'static,
    {
        self.root().supervise_with(spec, factory)
    }

    /// The group that holds all workers and groups of this node: the way to groups, templates and
    /// pools.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// # struct Encoder;
    /// # impl Actor for Encoder { type Context = Context<Self>; }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let encoders = node.root().pool("encoders", 4, || Encoder).unwrap();
    /// encoders.until_ready().await;
    /// assert_eq!(encoders.ready(), 4);
    /// # });
    /// ```
    pub fn root(&self) -> Group {
        Group::root(self)
    }

    /// A pool of `count` threads for those workers that are put there with
    /// [`WorkerSpec::placement`]; none is made before it is needed.
    ///
    /// # Errors
    /// [`SuperviseError::Arbiters`] if `count` is 0 or over [`ARBITERS_MAX`].
    pub fn arbiters(&self, count: u32) -> Result<Arbiters, SuperviseError> {
        if !(1..=ARBITERS_MAX).contains(&count) {
            return Err(SuperviseError::Arbiters(count));
        }
        let first = self.inner.next_place.fetch_add(count, Ordering::Relaxed);
        Ok(Arbiters { places: (first..first + count).map(ThreadSlotId).collect(), next: Arc::default() })
    }

    /// Sends `subscriber` the view as it is now and then every event, in order, one at a time.
    ///
    /// A recipient that subscribes again is sent the view again, and each event once. So a worker
    /// may subscribe in `started`, with an address that its next generations keep.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// use heartbeat_actors::{Event, Update};
    ///
    /// struct Audit {
    ///     node: Node,
    ///     starts: u32,
    /// }
    ///
    /// impl Actor for Audit {
    ///     type Context = Context<Self>;
    ///
    ///     fn started(&mut self, context: &mut Context<Self>) {
    ///         self.node.subscribe(context.address().recipient());
    ///     }
    /// }
    ///
    /// impl Handler<Update> for Audit {
    ///     type Result = ();
    ///
    ///     fn handle(&mut self, update: Update, _: &mut Context<Self>) {
    ///         self.starts += u32::from(matches!(update, Update::Event(Event::Started { .. })));
    ///     }
    /// }
    /// # #[derive(Message)]
    /// # #[rtype(result = "u32")]
    /// # struct Starts;
    /// # impl Handler<Starts> for Audit {
    /// #     type Result = u32;
    /// #     fn handle(&mut self, _: Starts, _: &mut Context<Self>) -> u32 { self.starts }
    /// # }
    /// # struct Worker;
    /// # impl Actor for Worker { type Context = Context<Self>; }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let own = node.clone();
    /// let factory = move || Audit { node: own.clone(), starts: 0 };
    /// let audit = node.supervise("audit", factory).unwrap();
    /// audit.until_up().await.unwrap();
    /// node.supervise("worker", || Worker).unwrap().until_up().await.unwrap();
    /// # while audit.send(Starts).await.unwrap() == 0 {
    /// #     actix::clock::sleep(std::time::Duration::from_millis(1)).await;
    /// # }
    /// assert!(audit.send(Starts).await.unwrap() >= 1);
    /// # });
    /// ```
    pub fn subscribe(&self, subscriber: Recipient<Update>) {
        self.inner.supervisor.do_send(Request::Subscribe(Subscriber::Recipient(subscriber)));
    }

    /// The view as it is now and then every event, as a stream.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// # use heartbeat_actors::{Event, Update};
    /// # struct Worker;
    /// # impl Actor for Worker { type Context = Context<Self>; }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let mut updates = node.updates();
    /// node.supervise("worker", || Worker).unwrap();
    /// assert!(matches!(updates.next().await, Some(Update::View(_))));
    /// assert!(matches!(updates.next().await, Some(Update::Event(Event::Started { .. }))));
    /// # });
    /// ```
    pub fn updates(&self) -> Updates {
        let (sender, updates) = Updates::new();
        self.inner.supervisor.do_send(Request::Subscribe(Subscriber::Stream(None, sender)));
        updates
    }

    /// Calls `subscriber` with the view as it is now and then with every event, on this thread. A
    /// subscription under the same name replaces the earlier one.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// # use heartbeat_actors::Update;
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// node.subscribe_fn("printer", |update| {
    ///     if let Update::Event(event) = update {
    ///         println!("{}", event.name());
    ///     }
    /// });
    /// # });
    /// ```
    ///
    /// # Panics
    /// Outside an actix system or arbiter.
    pub fn subscribe_fn(&self, name: &str, mut subscriber: impl FnMut(Update) + 'static) {
        let (sender, mut updates) = Updates::new();
        self.inner.supervisor.do_send(Request::Subscribe(Subscriber::Stream(Some(name.into()), sender)));
        actix_rt::spawn(async move {
            while let Some(update) = updates.next().await {
                subscriber(update);
            }
        });
    }

    /// Whether this node has joined or begun a cluster, and knows its members. Without a
    /// `[cluster]` table it always has.
    pub fn is_joined(&self) -> bool {
        self.inner.view.is_joined()
    }

    /// Waits until [`Node::is_joined`]. It has no deadline of its own.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// # actix::System::new().block_on(async {
    /// let node = Node::start(Config::default()).await.unwrap();
    /// node.until_joined().await.unwrap();
    /// assert!(node.is_joined());
    /// # });
    /// ```
    ///
    /// # Errors
    /// [`NotUp`] if this node leaves.
    pub async fn until_joined(&self) -> Result<(), NotUp> {
        self.until(|engine, _| if engine.is_joined() { Poll::Ready(Ok(())) } else { Poll::Pending }).await
    }

    /// The address of the worker of this name on the member of this name, which may be this node.
    /// Neither needs to be there yet.
    ///
    /// The worker must be of type `A`, and must [accept](WorkerAddr::accept) the messages.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// use heartbeat_actors::SendError;
    /// use heartbeat_actors::shard::RemoteMessage;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Message, Serialize, Deserialize)]
    /// #[rtype(result = "u64")]
    /// struct Add(u64);
    ///
    /// impl RemoteMessage for Add {
    ///     const NAME: &str = "counter.add";
    /// }
    /// # struct Counter(u64);
    /// # impl Actor for Counter { type Context = Context<Self>; }
    /// # impl Handler<Add> for Counter {
    /// #     type Result = u64;
    /// #     fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
    /// #         self.0 += add.0;
    /// #         self.0
    /// #     }
    /// # }
    /// # actix::System::new().block_on(async {
    /// let config = "[cluster]
    ///               name = 'shop'
    ///               node = 'a'
    ///               role = 'worker'
    ///               mode = 'random'
    ///               listen = '127.0.0.1:0'
    ///               seeds = []";
    /// let node = Node::start(Config::from_toml(config).unwrap()).await.unwrap();
    /// let _counter = node.supervise("counter", || Counter(0)).unwrap().accept::<Add>();
    ///
    /// let counter = node.remote::<Counter>("a", "counter");
    /// assert_eq!(counter.send(Add(2)).await, Ok(2));
    /// let elsewhere = node.remote::<Counter>("b", "counter");
    /// assert_eq!(elsewhere.send(Add(2)).await, Err(SendError::UnknownMember("b".into())));
    /// # node.leave().await;
    /// # });
    /// ```
    pub fn remote<A>(&self, member: &str, worker: &str) -> RemoteAddr<A>
    where
        A: Actor<Context = Context<A>>,
    {
        let inner = &self.inner;
        let (member, worker): (Arc<str>, Arc<str>) = (member.into(), worker.into());
        let is_here = inner.config.cluster.as_ref().is_some_and(|cluster| cluster.node == *member);
        let to = match &inner.requests {
            _ if is_here => To::Here,
            Some(link) => {
                let route = Route::to_worker(link.clone(), inner.control.clone(), member.clone(), worker.clone());
                To::There(Arc::new(route))
            }
            None => To::Nowhere,
        };
        RemoteAddr::new(inner.control.clone(), member, worker, to)
    }

    /// The dead letters of this node's workers from now on, one after the other.
    pub fn subscribe_dead_letters(&self) -> DeadLetters {
        DeadLetters::new(self.inner.control.dead_letters.subscribe())
    }

    /// Members, owners and workers, to be read from any thread.
    pub fn view(&self) -> &View {
        &self.inner.view
    }

    /// The member that is responsible for a key of this namespace. All nodes that see the same
    /// members agree.
    ///
    /// If a sharded group has that name, on this node or on others, the owner is the node that runs
    /// the key's shard. [`Shards::owner`](crate::shard::Shards::owner) has the worker's address,
    /// too. Otherwise the owner is one of the ready members, by rendezvous hashing and weight. When
    /// a member dies, leaves or is suspected, only its keys go to others, and they come back with
    /// it. Without a cluster the owner is this node.
    ///
    /// # Errors
    /// [`NoOwner`] if no member is ready or known, or if the owner of the shard is suspected.
    pub fn owner(&self, namespace: &str, key: impl AsRef<[u8]>) -> Result<Owner, NoOwner> {
        self.inner.view.responsible(namespace, key.as_ref())
    }

    /// The workers that are at work now: which, with what message, since when by this node's clock
    /// ([`Node::now`]). This reads the status cells; no worker is asked or interrupted.
    pub fn busy(&self) -> Vec<WorkerActivity> {
        self.inner.cells.busy()
    }

    /// What this node's clock shows.
    pub fn now(&self) -> Instant {
        self.inner.control.clock.now()
    }

    /// The settings it started with.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The address that this node publishes, if it is in a cluster.
    pub fn address(&self) -> Option<SocketAddr> {
        self.inner.address
    }

    /// Datagrams sent, received and dropped so far; zeros once the node's system has ended.
    pub async fn counters(&self) -> Counters {
        ask(&self.inner.supervisor, Request::Counters).await.unwrap_or_default()
    }

    /// Which nodes watch this node, which it watches, and its local health. It is empty once the
    /// node's system has ended.
    pub async fn neighbourhood(&self) -> PeerStatus {
        ask(&self.inner.supervisor, Request::PeerStatus).await.unwrap_or_default()
    }

    /// Replaces the metadata of this node, which others read as
    /// [`Member::metadata`](heartbeat_core::Profile::metadata). A later call wins on every node,
    /// even if its news overtakes that of an earlier one.
    ///
    /// # Errors
    /// [`ConfigError::Contradiction`] if it is more than
    /// [`METADATA_BYTES_MAX`](heartbeat_core::member::METADATA_BYTES_MAX); nothing changes then.
    pub async fn set_metadata(&self, metadata: Metadata) -> Result<(), ConfigError> {
        ask(&self.inner.supervisor, |answer| Request::SetMetadata(metadata, answer)).await.unwrap_or(Ok(()))
    }

    /// How each member that is alive and this node can understand each other: with which key it
    /// seals, and whether it can open what this node sends. Empty without `[cluster.seal]`.
    pub fn seals(&self) -> Vec<MemberSeal> {
        self.inner.seal.as_ref().map_or_else(Vec::new, |seal| seal.members())
    }

    /// How many datagrams were sealed, opened and refused; all zero without `[cluster.seal]`.
    pub fn seal_counts(&self) -> SealCounts {
        self.inner.seal.as_ref().map_or_else(SealCounts::default, |seal| seal.counts())
    }

    /// Reads the keys of `[cluster.seal]` again, which also happens by itself within a second after
    /// one of their files changes. Returns whether they have changed. It reads files, so it may
    /// take as long as they do.
    ///
    /// # Errors
    /// [`SealError`] if a key cannot be used: the former ones stay. [`SealError::InUse`] if a key
    /// was taken away that members still need: the node opens with it until they do not, or until
    /// this is called with [`Removal::Force`]. The other changes are taken.
    pub fn reload_keys(&self, removal: Removal) -> Result<bool, SealError> {
        let Some(seal) = &self.inner.seal else { return Ok(false) };
        let reloaded = seal.reload(removal);
        self.inner.supervisor.do_send(Request::PublishKeys);
        reloaded
    }

    /// Records the heartbeats of other nodes from now on into `folder`, which is made if there is
    /// none. Each process gets a file, named for node and generation, in the format of
    /// [`heartbeat_core::Trace`]. A recording ends with the node, after 256 MiB in one file, with
    /// more than 1,000 files, or when the disk does not keep up. The log says why it ended early.
    ///
    /// # Errors
    /// If the folder or the writer's thread cannot be made.
    pub fn record(&self, folder: impl AsRef<Path>) -> io::Result<()> {
        let recorder = Recorder::start(folder.as_ref())?;
        self.inner.supervisor.do_send(Request::Record(recorder));
        Ok(())
    }

    /// Sends heartbeats every `interval` from the next one on. Each heartbeat says when the next
    /// one comes, so observers follow without a suspicion; nothing else changes. On a node that has
    /// left the call has no effect.
    ///
    /// # Errors
    /// [`ConfigError::Contradiction`] if the config would not be accepted with this interval;
    /// nothing changes then.
    pub async fn set_interval(&self, interval: Duration) -> Result<(), ConfigError> {
        ask(&self.inner.supervisor, |answer| Request::SetInterval(interval, answer)).await.unwrap_or(Ok(()))
    }

    /// Sets what brings the traces of requests to other nodes: see [`spans`](crate::spans).
    ///
    /// Set it before the node sends or handles the first request. What was sent before travels
    /// without a trace.
    ///
    /// # Errors
    /// [`PropagatorIsSet`] if the node has one already; that one stays.
    pub fn set_trace_propagator(&self, propagator: impl TracePropagator) -> Result<(), PropagatorIsSet> {
        self.inner.control.propagator.set(Box::new(propagator))
    }

    /// Leaves the cluster gracefully: hands shards over (up to `ownership.hand_over_timeout`),
    /// stops the workers in reverse order (up to `workers.leave_timeout`), then notifies the other
    /// nodes. It returns when that is done. The node does nothing afterwards: with
    /// `ownership.authority = "file"` it also waits until no thread works in the folder any more,
    /// for three seconds at most.
    pub async fn leave(&self) {
        // Without an answer the supervisor is gone, which is as much as having left.
        let _ = ask(&self.inner.supervisor, Request::Leave).await;
        #[cfg(feature = "http")]
        {
            let server = lock(&self.inner.server).take();
            if let Some(server) = server {
                server.end().await;
            }
        }
    }

    /// Where the HTTP server of `[http]` listens, if there is one.
    #[cfg(feature = "http")]
    pub fn http_address(&self) -> Option<SocketAddr> {
        lock(&self.inner.server).as_ref().map(|server| server.address)
    }

    /// What the paths over HTTP read.
    #[cfg(feature = "http")]
    pub(crate) fn door(&self) -> &Arc<Door> {
        &self.inner.door
    }

    #[cfg(feature = "testkit")]
    pub(crate) async fn add_members(&self, members: Vec<heartbeat_core::Member>) {
        // An error means that the supervisor is gone, and with it the table of members.
        let _ = self.inner.supervisor.send(ToSupervisor::unstamped(Input::Recall(members))).await;
    }

    /// Adds a worker to a group.
    pub(crate) fn add_worker<A: Actor<Context = Context<A>>>(
        &self,
        group: &Group,
        spec: WorkerSpec,
        factory: Factory<A>,
        part: Part<A>,
    ) -> Result<WorkerAddr<A>, SuperviseError> {
        let config = &self.inner.config;
        let restart = spec.limits.restart(config).map_err(SuperviseError::Config)?;
        let times = spec.times(config).map_err(SuperviseError::Config)?;
        let on_thread_held = spec.held(config).map_err(SuperviseError::Config)?;
        let rules = spec.rules(config).map_err(SuperviseError::Config)?;
        let cell = self.inner.cells.take();
        let worker = cell.worker();
        let name = self.take_name(&spec.name, worker, group.shown_name())?;
        let shared = Supervise::new(worker, name.clone(), config.workers.arbiters);
        let thread_slot = self.place(&spec.placement, shared.thread_slot);
        let (kind, significant) = (spec.kind, spec.significant);
        let group = group.id();
        let supervise = Supervise { group, kind, significant, restart, times, on_thread_held, thread_slot, ..shared };
        let slot = self.make_slot(cell, name, factory, rules, part);
        let dyn_slot: Arc<dyn DynSlot> = slot.clone();
        self.inner.view.set_slot(&dyn_slot);
        let workers = vec![(supervise, dyn_slot)];
        self.inner.supervisor.do_send(Request::Supervise(NewWorkers { workers, group: None }));
        Ok(WorkerAddr { slot })
    }

    /// The thread slot for a worker of this placement; `shared` is the next of the shared slots.
    fn place(&self, placement: &Placement, shared: ThreadSlotId) -> ThreadSlotId {
        match placement {
            Placement::Shared => shared,
            Placement::Dedicated => ThreadSlotId(self.inner.next_place.fetch_add(1, Ordering::Relaxed)),
            Placement::Pool(arbiters) => {
                let turn = arbiters.next.fetch_add(1, Ordering::Relaxed) as usize;
                arbiters.places[turn % arbiters.places.len()]
            }
        }
    }

    /// Waits for a condition, which the supervisor checks after each input.
    pub(crate) async fn until(
        &self,
        check: impl FnMut(&Engine, &View) -> Poll<Result<(), NotUp>> + Send + 'static,
    ) -> Result<(), NotUp> {
        until(&self.inner.supervisor, check).await
    }

    /// The services of this node.
    pub(crate) fn services(&self) -> &Services {
        &self.inner.services
    }

    /// A number and a name for a group within `parent`.
    pub(crate) fn take_group(&self, name: &str, parent: &Group) -> Result<(GroupId, Arc<str>), SuperviseError> {
        self.check_here()?;
        let name = check_name(name)?;
        let id = GroupId(self.inner.next_group.fetch_add(1, Ordering::Relaxed));
        if !self.inner.view.take_group_name(&name, parent.shown_name()) {
            return Err(SuperviseError::NameTaken(name.to_string()));
        }
        Ok((id, name))
    }

    /// Gives back the name of a group that was not added after all.
    pub(crate) fn give_group_back(&self, name: &str) {
        self.inner.view.forget_group(&name.into());
    }

    pub(crate) fn add_group(&self, group: SuperviseGroup) {
        self.input(Input::SuperviseGroup(group.into()));
    }

    /// The slot of the worker with this name.
    #[cfg(feature = "testkit")]
    pub(crate) fn slot_named(&self, name: &str) -> Arc<dyn DynSlot> {
        self.inner.view.slot_of_any(name).unwrap_or_else(|| panic!("no worker of this node is called {name:?}"))
    }

    fn check_here(&self) -> Result<(), SuperviseError> {
        if self.inner.control.is_leaving.load(Ordering::Acquire) { Err(SuperviseError::Left) } else { Ok(()) }
    }

    #[cfg(feature = "systemd")]
    pub(crate) fn supervisor(&self) -> &actix::Addr<crate::control::supervisor::Supervisor> {
        &self.inner.supervisor
    }

    /// Hands an input to the engine.
    pub(crate) fn input(&self, input: Input) {
        self.inner.supervisor.do_send(ToSupervisor::unstamped(input));
    }

    fn take_name(&self, name: &str, worker: WorkerId, group: Option<Arc<str>>) -> Result<Arc<str>, SuperviseError> {
        self.check_here()?;
        let name = check_name(name)?;
        if !self.inner.view.take_name(&name, worker, group) {
            return Err(SuperviseError::NameTaken(name.to_string()));
        }
        Ok(name)
    }

    fn make_slot<A: Actor<Context = Context<A>>>(
        &self,
        cell: CellRef,
        name: Arc<str>,
        factory: Factory<A>,
        rules: Rules,
        part: Part<A>,
    ) -> Arc<WorkerSlot<A>> {
        Arc::new(WorkerSlot::new(self.inner.control.clone(), cell.worker(), name, cell, factory, rules, part))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("address", &self.inner.address).finish_non_exhaustive()
    }
}

fn check_name(name: &str) -> Result<Arc<str>, SuperviseError> {
    // A shard's name is its group's with a number behind it: it is checked on its own.
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err(SuperviseError::Name(name.to_owned()));
    }
    Ok(name.into())
}
