//! `Template`: a kind of worker of which any number can be started.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::Actor;

use crate::node::group::{Group, GroupSpec};
use crate::node::supervise_error::SuperviseError;
use crate::worker::addr::WorkerAddr;
use crate::worker::context::Context;
use crate::worker::messages::NotUp;
use crate::worker::slot::{StartError, StartInfo};
use crate::worker::spec::WorkerSpec;

type Maker<A, T> = dyn Fn(&T, &StartInfo) -> Result<A, StartError> + Send + Sync;

/// A kind of worker of which any number can be started, each from an argument of its own (OTP calls
/// this simple_one_for_one).
///
/// Restarts of its workers count together. A worker that ends for good is forgotten, and its name
/// is free again. The workers run in a group of the template: [`Group::stop`] stops them all at
/// once.
///
/// ```
/// # use heartbeat_actors::prelude::*;
/// struct Session {
///     user: String,
/// }
/// # impl Actor for Session { type Context = Context<Self>; }
/// # actix::System::new().block_on(async {
/// # let node = Node::start(Config::default()).await.unwrap();
/// let spec = WorkerSpec::new("session");
/// let maker = |user: &String, _: &_| Ok(Session { user: user.clone() });
/// let sessions = node.root().template(spec, maker).unwrap();
/// let ada = sessions.start("ada".to_owned()).unwrap();
/// let bob = sessions.start("bob".to_owned()).unwrap();
/// assert_eq!((ada.name(), bob.name()), ("session/0", "session/1"));
/// # });
/// ```
pub struct Template<A: Actor<Context = Context<A>>, T> {
    group: Group,
    spec: WorkerSpec,
    maker: Arc<Maker<A, T>>,
    started: AtomicU64,
    worker: PhantomData<fn() -> A>,
}

impl<A: Actor<Context = Context<A>>, T: Send + Sync + 'static> Template<A, T> {
    pub(crate) fn new<F>(parent: &Group, spec: WorkerSpec, maker: F) -> Result<Template<A, T>, SuperviseError>
    where
        F: Fn(&T, &StartInfo) -> Result<A, StartError> + Send + Sync + 'static,
    {
        let limits = GroupSpec::new(spec.name.clone()).limits(spec.limits.clone());
        let group = parent.group(limits.dynamic())?;
        Ok(Template { group, spec, maker: Arc::new(maker), started: AtomicU64::new(0), worker: PhantomData })
    }

    /// Starts a worker from this argument, which is kept for its replacements. Its name is the
    /// template's with a number behind it.
    ///
    /// # Errors
    /// As [`Group::supervise_with`].
    pub fn start(&self, argument: T) -> Result<WorkerAddr<A>, SuperviseError> {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let mut spec = self.spec.clone();
        spec.name = format!("{}/{number}", self.spec.name);
        let maker = self.maker.clone();
        self.group.supervise_with(spec, move |start| maker(&argument, start))
    }

    /// Waits until the workers that were started so far are up, as [`Group::until_up`].
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// # struct Session(u32);
    /// # impl Actor for Session { type Context = Context<Self>; }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let spec = WorkerSpec::new("session");
    /// let sessions = node.root().template(spec, |number: &u32, _| Ok(Session(*number))).unwrap();
    /// let session = sessions.start(7).unwrap();
    /// sessions.until_up().await.unwrap();
    /// assert!(session.status().is_up);
    /// # });
    /// ```
    ///
    /// # Errors
    /// As [`Group::until_up`].
    pub async fn until_up(&self) -> Result<(), NotUp> {
        self.group.until_up().await
    }

    /// The group in which its workers run.
    pub fn group(&self) -> &Group {
        &self.group
    }
}

impl<A: Actor<Context = Context<A>>, T> fmt::Debug for Template<A, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("name", &self.group.name()).finish_non_exhaustive()
    }
}
