//! Services: one worker of a type for a whole node, found by the type.
//!
//! This corresponds to actix's `SystemService` and its registry. Here the registry belongs to the
//! node, since a process may have several nodes. A service is a worker like any other: it has a
//! name, is replaced when it fails, and stops when the node leaves.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::sync::Mutex;

use actix::Actor;
use heartbeat_core::member::NAME_BYTES_MAX;

use crate::lock::lock;
use crate::node::Node;
use crate::node::supervise_error::SuperviseError;
use crate::worker::addr::WorkerAddr;
use crate::worker::context::Context;
use crate::worker::weak_addr::WeakWorkerAddr;

/// The services of a node, by type. It keeps none of them up.
#[derive(Default)]
pub(crate) struct Services {
    found: Mutex<HashMap<TypeId, Box<dyn Any + Send + Sync>>>,
}

impl Services {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TypeId, Box<dyn Any + Send + Sync>>> {
        lock(&self.found)
    }
}

impl Node {
    /// The service of this type among these, unless it was removed.
    fn known<A: Actor<Context = Context<A>>>(
        &self,
        services: &HashMap<TypeId, Box<dyn Any + Send + Sync>>,
    ) -> Option<WorkerAddr<A>> {
        let worker = services.get(&TypeId::of::<A>())?.downcast_ref::<WeakWorkerAddr<A>>()?.upgrade()?;
        let is_supervised = self.view().worker(worker.name()).is_some_and(|view| view.id == worker.slot.worker);
        is_supervised.then_some(worker)
    }

    /// The one worker of this type, as actix's `A::from_registry()`. The first call starts it from
    /// `A::default()`, under the name of its type; the others find it.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// #[derive(Default)]
    /// struct Mailer {
    ///     sent: u32,
    /// }
    ///
    /// impl Actor for Mailer {
    ///     type Context = Context<Self>;
    /// }
    /// # #[derive(Message)]
    /// # #[rtype(result = "u32")]
    /// # struct Mail;
    /// # impl Handler<Mail> for Mailer {
    /// #     type Result = u32;
    /// #     fn handle(&mut self, _: Mail, _: &mut Context<Self>) -> u32 {
    /// #         self.sent += 1;
    /// #         self.sent
    /// #     }
    /// # }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// assert_eq!(node.service::<Mailer>().unwrap().send(Mail).await, Ok(1));
    /// assert_eq!(node.service::<Mailer>().unwrap().send(Mail).await, Ok(2));
    /// # });
    /// ```
    ///
    /// # Errors
    /// As [`Node::supervise`], if it has to be started.
    pub fn service<A: Actor<Context = Context<A>> + Default>(&self) -> Result<WorkerAddr<A>, SuperviseError> {
        let mut services = self.services().lock();
        if let Some(worker) = self.known(&services) {
            return Ok(worker);
        }
        let worker = self.supervise(name_of::<A>(), A::default)?;
        services.insert(TypeId::of::<A>(), Box::new(worker.downgrade()));
        Ok(worker)
    }

    /// Makes this worker the one that [`Node::service`] finds, as `SystemRegistry::set` does. Call
    /// it before the first look-up if the worker needs a factory or a
    /// [`WorkerSpec`](crate::WorkerSpec) of its own. [`Node::find_service`] finds types without a
    /// default, too.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// # #[derive(Default)]
    /// # struct Mailer;
    /// # impl Actor for Mailer { type Context = Context<Self>; }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let spec = WorkerSpec::new("mailer").capacity(64);
    /// let mailer = node.supervise_with(spec, |_| Ok(Mailer)).unwrap();
    /// node.set_service(&mailer);
    /// assert_eq!(node.service::<Mailer>().unwrap(), mailer);
    /// # });
    /// ```
    pub fn set_service<A: Actor<Context = Context<A>>>(&self, worker: &WorkerAddr<A>) {
        self.services().lock().insert(TypeId::of::<A>(), Box::new(worker.downgrade()));
    }

    /// The worker of this type that was made a service, if there is one; it starts none.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// struct Mailer(&'static str); // no default
    /// # impl Actor for Mailer { type Context = Context<Self>; }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// assert!(node.find_service::<Mailer>().is_none());
    /// let mailer = node.supervise("mailer", || Mailer("smtp.example.org")).unwrap();
    /// node.set_service(&mailer);
    /// assert_eq!(node.find_service::<Mailer>(), Some(mailer));
    /// # });
    /// ```
    pub fn find_service<A: Actor<Context = Context<A>>>(&self) -> Option<WorkerAddr<A>> {
        self.known(&self.services().lock())
    }
}

/// The name under which a service of this type is supervised: the end of its path, as much as a
/// name may have.
fn name_of<A>() -> &'static str {
    let path = type_name::<A>();
    let mut start = path.len().saturating_sub(NAME_BYTES_MAX);
    while !path.is_char_boundary(start) {
        start += 1;
    }
    &path[start..]
}
