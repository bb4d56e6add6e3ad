//! `WorkerAddr`: the address of a supervised worker.
//!
//! The address belongs to the worker's slot and not to one generation: it is good for as long as
//! the node runs. It does not promise that a message is handled. A message that was refused may be
//! sent again. A message whose worker failed in the middle of it may have had its effect, so it is
//! never repeated for you.

use std::fmt;
use std::sync::Arc;

use actix::{Actor, Handler, Message};
use heartbeat_core::{Activity, Generation, Health, Input, Instant, NotReadyReason};

use crate::worker::context::Context;
use crate::worker::dead_letter::DeadReason;
use crate::worker::envelope::{DynEnvelope, Envelope};
use crate::worker::mailbox::{Item, MessageCounts, Undelivered};
use crate::worker::reply::Reply;
use crate::worker::send_error::{SendError, TrySendError};
use crate::worker::shared_queue::SharedQueue;
use crate::worker::slot::WorkerSlot;

/// The address of a supervised worker. It follows every replacement. Cloning it is cheap.
///
/// ```
/// # use heartbeat_actors::prelude::*;
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
/// let worker: WorkerAddr<Echo> = node.supervise("echo", || Echo).unwrap();
/// worker.restart();
/// worker.until_up().await.unwrap();
/// assert_eq!(worker.generation().0, 2);
/// assert_eq!(worker.send(Say(7)).await, Ok(7)); // the same address
/// # });
/// ```
pub struct WorkerAddr<A: Actor<Context = Context<A>>> {
    pub(crate) slot: Arc<WorkerSlot<A>>,
}

impl<A: Actor<Context = Context<A>>> WorkerAddr<A> {
    /// Puts a message into the queue. The returned [`Reply`] is a future of the answer;
    /// [`Reply::within`] limits the wait.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
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
    /// assert_eq!(worker.send(Say(7)).await, Ok(7));
    /// # });
    /// ```
    ///
    /// # Errors
    /// The future's error is a [`SendError`], which says whether the message may have been handled.
    pub fn send<M>(&self, message: M) -> Reply<M::Result>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.send_through(None, message).unwrap_or_else(|refused| Reply::refused(refused.error))
    }

    /// As [`WorkerAddr::send`], but returns a message that is refused. It goes through the queue of
    /// the worker's pool if that is given.
    pub(crate) fn send_through<M>(
        &self,
        shared: Option<&SharedQueue<A>>,
        message: M,
    ) -> Result<Reply<M::Result>, TrySendError<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        Ok(Reply(Ok(self.push(shared, Envelope::with_reply(message))?)))
    }

    /// Puts an envelope into the queue.
    pub(crate) fn put(&self, envelope: Arc<dyn DynEnvelope<A>>) -> Result<(), SendError> {
        if let Some(undelivered) = self.slot.mailbox.push(envelope)? {
            self.slot.discard(undelivered);
        }
        Ok(())
    }

    /// Puts an envelope into the queue whose sender waits for the answer.
    pub(crate) fn send_envelope<M>(&self, envelope: Envelope<M>) -> Result<Arc<Envelope<M>>, TrySendError<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.push(None, envelope)
    }

    /// Puts a message into the queue and asks for no answer.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// use heartbeat_actors::SendError;
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
    ///
    /// let worker = node.supervise("echo", || Echo).unwrap();
    /// assert!(worker.try_send(Say(7)).is_ok());
    /// node.leave().await;
    /// let refused = worker.try_send(Say(8)).unwrap_err();
    /// assert_eq!(refused.error, SendError::Closed);
    /// assert_eq!(refused.message.0, 8); // the message comes back
    /// # });
    /// ```
    ///
    /// # Errors
    /// [`TrySendError`], with the message: it was not accepted.
    pub fn try_send<M>(&self, message: M) -> Result<(), TrySendError<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.try_send_through(None, message)
    }

    /// Puts a message into the queue and reports nothing back. A message that is refused becomes a
    /// dead letter ([`Node::subscribe_dead_letters`](crate::Node::subscribe_dead_letters)).
    pub fn do_send<M>(&self, message: M)
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        if let Err(TrySendError { message, .. }) = self.push(None, Envelope::new(message)) {
            self.discard(message, DeadReason::Refused);
        }
    }

    /// Counts and publishes a message as a dead letter of this worker.
    pub(crate) fn discard<M>(&self, message: M, reason: DeadReason)
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let items = vec![Item::Envelope(Arc::new(Envelope::new(message)) as Arc<_>)];
        self.slot.discard(Undelivered { items, reason });
    }

    /// Sends a message, and again each time that its worker fails while handling it, at most
    /// `attempts_max` times in all. Use it only for messages that do no harm when they are handled
    /// twice; the framework never repeats one by itself.
    ///
    /// # Errors
    /// The error of the last attempt. If the attempt number `attempts_max` fails, the message
    /// becomes a dead letter.
    pub async fn send_retrying<M>(&self, message: M, attempts_max: u32) -> Result<M::Result, SendError>
    where
        A: Handler<M>,
        M: Message + Send + Clone + 'static,
        M::Result: Send,
    {
        for _ in 1..attempts_max {
            match self.send(message.clone()).await {
                Err(SendError::Interrupted(_)) => {}
                answer => return answer,
            }
        }
        let answer = self.send(message.clone()).await;
        if answer.is_err() {
            self.discard(message, DeadReason::Attempts);
        }
        answer
    }

    /// As [`WorkerAddr::try_send`], through the queue of the worker's pool if that is given.
    pub(crate) fn try_send_through<M>(&self, shared: Option<&SharedQueue<A>>, message: M) -> Result<(), TrySendError<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.push(shared, Envelope::new(message)).map(drop)
    }

    #[inline]
    fn push<M>(
        &self,
        shared: Option<&SharedQueue<A>>,
        envelope: Envelope<M>,
    ) -> Result<Arc<Envelope<M>>, TrySendError<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let envelope = Arc::new(envelope);
        let pushed = match shared {
            None => self.slot.mailbox.push(envelope.clone()),
            Some(shared) => shared.push(envelope.clone()),
        };
        match pushed {
            Ok(None) => Ok(envelope),
            Ok(Some(undelivered)) => {
                self.slot.discard(undelivered);
                Ok(envelope)
            }
            Err(error) => match envelope.take() {
                Some(message) => Err(TrySendError { error, message }),
                None => unreachable!("an envelope that was refused was not opened"),
            },
        }
    }

    /// What became of the messages to this worker, in all its generations. The counts add up at any
    /// instant.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
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
    /// worker.send(Say(7)).await.unwrap();
    /// let counts = worker.message_counts();
    /// assert_eq!((counts.accepted, counts.handled, counts.queued), (1, 1, 0));
    /// # });
    /// ```
    pub fn message_counts(&self) -> MessageCounts {
        self.slot.mailbox.message_counts()
    }

    /// Messages that wait in the queue.
    pub fn depth(&self) -> u32 {
        self.slot.mailbox.depth()
    }

    /// The worker's load: the message in hand, those that wait in the queue, and the answers under
    /// way.
    pub fn load(&self) -> u32 {
        self.slot.mailbox.load()
    }

    /// Starts the worker again if it has ended, was stopped or was given up. A shard's worker
    /// starts on the node that owns the shard; on any other node nothing happens.
    pub fn start(&self) {
        self.slot.order(Input::Start);
    }

    /// Stops the worker gracefully and starts it again. Its queue is kept, and the restart does not
    /// count towards the restart intensity.
    pub fn restart(&self) {
        self.slot.order(Input::Restart);
    }

    /// Stops the worker gracefully; messages are refused until it is started again. A worker that
    /// does not stop in time is fenced. A shard stays owned by this node and runs nowhere
    /// meanwhile.
    pub fn stop(&self) {
        self.slot.order(Input::Stop);
    }

    /// Stops the worker gracefully and forgets it; its name is free again. A shard's worker is only
    /// stopped, since it belongs to its group.
    pub fn remove(&self) {
        self.slot.order(Input::Remove);
    }

    /// The worker's state, as three separate verdicts. It is read from the status cell, so it needs
    /// no answer from the worker.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// # struct Echo;
    /// # impl Actor for Echo { type Context = Context<Self>; }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let worker = node.supervise("echo", || Echo).unwrap();
    /// worker.until_up().await.unwrap();
    /// let status = worker.status();
    /// assert!(status.is_live && status.is_up && status.is_ready);
    /// assert_eq!((status.generation.0, status.queued, status.not_ready), (1, 0, None));
    /// # });
    /// ```
    pub fn status(&self) -> WorkerStatus {
        let cell = &self.slot.cell;
        let (is_up, is_live, is_ready) = (cell.is_up(), cell.is_live(), cell.is_ready());
        let not_ready = match (cell.is_held(), cell.health(), cell.is_overloaded()) {
            (true, Health::Ok | Health::NotReady | Health::Failed, _) => Some(NotReadyReason::ThreadHeld),
            (false, Health::NotReady | Health::Failed, _) => Some(NotReadyReason::Reported),
            (false, Health::Ok, true) => Some(NotReadyReason::Overloaded),
            (false, Health::Ok, false) => None,
        };
        let doing = cell.busy().map(|(kind, since)| ((kind.activity)(), since));
        let generation = cell.shown_generation();
        WorkerStatus { generation, is_live, is_up, is_ready, not_ready, queued: self.depth(), doing }
    }

    /// Whether requests may come here. The worker is up and was not asked to stop, its queue is not
    /// too long, and another answer may be under way. Its thread is not held, and it reports good
    /// health.
    pub fn is_ready(&self) -> bool {
        self.slot.cell.is_ready()
    }

    /// The current generation, or the last one.
    pub fn generation(&self) -> Generation {
        self.slot.cell.shown_generation()
    }

    /// Messages handled to their end, in all generations.
    pub fn handled(&self) -> u64 {
        self.slot.cell.handled()
    }

    /// The worker's name.
    pub fn name(&self) -> &str {
        &self.slot.name
    }
}

impl<A: Actor<Context = Context<A>>> Clone for WorkerAddr<A> {
    fn clone(&self) -> WorkerAddr<A> {
        WorkerAddr { slot: self.slot.clone() }
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for WorkerAddr<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerAddr").field("name", &self.slot.name).field("generation", &self.generation()).finish()
    }
}

/// The state of a worker, as three separate verdicts. A worker that starts is live but not up. A
/// worker that is overloaded is up but not ready. A worker that failed is none of them until its
/// replacement is started.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// Its current or last generation.
    pub generation: Generation,
    /// Liveness: a generation was started and has not ended or been judged to have failed. Only
    /// this verdict leads to a replacement.
    pub is_live: bool,
    /// Startup: this generation is up. Until then only `workers.start_timeout` applies to it.
    pub is_up: bool,
    /// Readiness: requests may come here. A pool sends them to other members while this is false.
    pub is_ready: bool,
    /// Why requests should go elsewhere, if the worker is held, overloaded or reports so.
    pub not_ready: Option<NotReadyReason>,
    /// Messages in its queue.
    pub queued: u32,
    /// Its current activity, and since when by its node's clock.
    pub doing: Option<(Activity, Instant)>,
}
