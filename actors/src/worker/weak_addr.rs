//! What a `WorkerAddr` has in common with actix's `Addr`: recipients, weak addresses, equality.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};
use std::task::Poll;

use actix::{Actor, Addr, Handler, Message, Recipient};
use heartbeat_core::Child;

use crate::worker::addr::WorkerAddr;
use crate::worker::context::Context;
use crate::worker::messages::{NotUp, is_up, until_up};
use crate::worker::slot::WorkerSlot;

impl<A: Actor<Context = Context<A>>> WorkerAddr<A> {
    /// An address of actix's own, for libraries that want one. It follows every replacement, too.
    ///
    /// Its channel is bounded as in actix: each clone may put one message more than `capacity`
    /// there. Messages that one sender sends through both kinds of address keep their order.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use heartbeat_actors::{Config, Context, Node};
    /// # struct Echo;
    /// # impl Actor for Echo { type Context = Context<Self>; }
    /// # #[derive(Message)]
    /// # #[rtype(result = "u32")]
    /// # struct Say(u32);
    /// # impl Handler<Say> for Echo {
    /// #     type Result = u32;
    /// #     fn handle(&mut self, say: Say, _: &mut Context<Self>) -> u32 { say.0 }
    /// # }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let worker = node.supervise("echo", || Echo).unwrap();
    /// let plain: Addr<Echo> = worker.address();
    /// assert_eq!(plain.send(Say(7)).await.unwrap(), 7);
    /// # });
    /// ```
    pub fn address(&self) -> Addr<A> {
        self.slot.mailbox.address()
    }

    /// An actix recipient of one kind of message, as [`Addr::recipient`] gives it: by way of
    /// [`WorkerAddr::address`].
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use heartbeat_actors::{Config, Context, Node};
    /// # struct Echo;
    /// # impl Actor for Echo { type Context = Context<Self>; }
    /// # #[derive(Message)]
    /// # #[rtype(result = "u32")]
    /// # struct Say(u32);
    /// # impl Handler<Say> for Echo {
    /// #     type Result = u32;
    /// #     fn handle(&mut self, say: Say, _: &mut Context<Self>) -> u32 { say.0 }
    /// # }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let recipient: Recipient<Say> = node.supervise("echo", || Echo).unwrap().recipient();
    /// assert_eq!(recipient.send(Say(7)).await.unwrap(), 7);
    /// # });
    /// ```
    pub fn recipient<M>(&self) -> Recipient<M>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.address().recipient()
    }

    /// An address that does not keep the worker's queue, factory and snapshot alive.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use heartbeat_actors::{Config, Context, Node};
    /// # struct Echo;
    /// # impl Actor for Echo { type Context = Context<Self>; }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let worker = node.supervise("echo", || Echo).unwrap();
    /// let weak = worker.downgrade();
    /// assert_eq!(weak.upgrade(), Some(worker));
    /// # });
    /// ```
    pub fn downgrade(&self) -> WeakWorkerAddr<A> {
        WeakWorkerAddr { slot: Arc::downgrade(&self.slot) }
    }

    /// Whether the worker accepts messages: it was not stopped, removed or given up, and has not
    /// ended. This does not mean that it can serve: see [`WorkerAddr::is_ready`].
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use heartbeat_actors::{Config, Context, Node};
    /// # struct Echo;
    /// # impl Actor for Echo { type Context = Context<Self>; }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let worker = node.supervise("echo", || Echo).unwrap();
    /// assert!(worker.connected());
    /// node.leave().await;
    /// assert!(!worker.connected());
    /// # });
    /// ```
    pub fn connected(&self) -> bool {
        !self.slot.cell.is_closed()
    }

    /// Waits until the worker is up: not at all if it is. After [`WorkerAddr::restart`] or
    /// [`WorkerAddr::start`] it waits for the new generation. The wait has no deadline of its own.
    ///
    /// ```
    /// # use actix::prelude::*;
    /// # use heartbeat_actors::{Config, Context, Node};
    /// # struct Echo;
    /// # impl Actor for Echo { type Context = Context<Self>; }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let worker = node.supervise("echo", || Echo).unwrap();
    /// worker.until_up().await.unwrap();
    /// assert!(worker.status().is_up);
    /// # });
    /// ```
    ///
    /// # Errors
    /// [`NotUp`] as soon as the worker will not be up unless it is started by hand.
    pub async fn until_up(&self) -> Result<(), NotUp> {
        let (child, cell) = (Child::Worker(self.slot.worker), self.slot.cell.clone());
        // Its thread may have begun a generation that the supervisor does not know of yet.
        let check = move |engine: &_| match is_up(engine, child) {
            Poll::Ready(Ok(())) if !cell.is_up() => Poll::Pending,
            found => found,
        };
        until_up(&self.slot.control.supervisor, check).await
    }
}

/// Two addresses are equal if they lead to the same worker, in any generation.
impl<A: Actor<Context = Context<A>>> PartialEq for WorkerAddr<A> {
    fn eq(&self, other: &WorkerAddr<A>) -> bool {
        Arc::ptr_eq(&self.slot, &other.slot)
    }
}

impl<A: Actor<Context = Context<A>>> Eq for WorkerAddr<A> {}

impl<A: Actor<Context = Context<A>>> Hash for WorkerAddr<A> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.slot).hash(state);
    }
}

impl<A, M> From<WorkerAddr<A>> for Recipient<M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn from(worker: WorkerAddr<A>) -> Recipient<M> {
        worker.recipient()
    }
}

/// The address of a worker that may be gone; see [`WorkerAddr::downgrade`].
pub struct WeakWorkerAddr<A: Actor<Context = Context<A>>> {
    slot: Weak<WorkerSlot<A>>,
}

impl<A: Actor<Context = Context<A>>> WeakWorkerAddr<A> {
    /// The worker's address; `None` once the worker was removed or its node is gone, and no other
    /// address is left.
    pub fn upgrade(&self) -> Option<WorkerAddr<A>> {
        self.slot.upgrade().map(|slot| WorkerAddr { slot })
    }
}

impl<A: Actor<Context = Context<A>>> Clone for WeakWorkerAddr<A> {
    fn clone(&self) -> WeakWorkerAddr<A> {
        WeakWorkerAddr { slot: self.slot.clone() }
    }
}

impl<A: Actor<Context = Context<A>>> PartialEq for WeakWorkerAddr<A> {
    fn eq(&self, other: &WeakWorkerAddr<A>) -> bool {
        self.slot.ptr_eq(&other.slot)
    }
}

impl<A: Actor<Context = Context<A>>> Eq for WeakWorkerAddr<A> {}

impl<A: Actor<Context = Context<A>>> Hash for WeakWorkerAddr<A> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.slot.as_ptr().hash(state);
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for WeakWorkerAddr<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakWorkerAddr").field("worker", &self.upgrade()).finish()
    }
}
