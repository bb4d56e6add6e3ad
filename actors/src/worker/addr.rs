//! `WorkerAddr`: a supervised worker as its users see it.
//!
//! The address belongs to the worker's slot, not to one of its lives: it is good for as long as the
//! node runs. What it cannot promise is that a message was handled. A message that was refused was
//! never handed over and may be sent again; one whose worker failed while it was being handled may
//! have had its effect, so it is never repeated for you.

use std::fmt;
use std::sync::Arc;

use actix::{Actor, Handler, Message};
use heartbeat_core::{Activity, Child, Generation, Health, Instant, NotReadyReason};

use crate::worker::context::Context;
use crate::worker::dead_letter::DeadReason;
use crate::worker::envelope::Envelope;
use crate::worker::mailbox::{Item, MessageCounts, Undelivered};
use crate::worker::messages::{Command, Order};
use crate::worker::reply::Reply;
use crate::worker::send_error::{SendError, TrySendError};
use crate::worker::shared_queue::SharedQueue;
use crate::worker::slot::WorkerSlot;

/// The address of a supervised worker; it follows every replacement. Cloning it is cheap.
pub struct WorkerAddr<A: Actor<Context = Context<A>>> {
    pub(crate) slot: Arc<WorkerSlot<A>>,
}

impl<A: Actor<Context = Context<A>>> WorkerAddr<A> {
    /// Hands a message over and returns its answer to be awaited, without end or with
    /// [`Reply::within`].
    ///
    /// # Errors
    /// The awaited result is a [`SendError`]; each says whether the message may have been handled.
    pub fn send<M>(&self, message: M) -> Reply<M::Result>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.send_through(None, message).unwrap_or_else(|refused| Reply::refused(refused.error))
    }

    /// As [`WorkerAddr::send`], but gives a message back that is refused; through the queue of its
    /// pool, if that is given.
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

    /// Hands a message over without wanting an answer.
    ///
    /// # Errors
    /// [`TrySendError`], with the message: it was not handed over.
    pub fn try_send<M>(&self, message: M) -> Result<(), TrySendError<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.try_send_through(None, message)
    }

    /// Hands a message over without wanting to know what becomes of it. One that is refused is a
    /// dead letter, told to those who subscribe to them.
    pub fn do_send<M>(&self, message: M)
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        if let Err(TrySendError { message, .. }) = self.push(None, Envelope::new(message)) {
            self.slot.discard(Undelivered {
                items: vec![Item::Envelope(Arc::new(Envelope::new(message)))],
                reason: DeadReason::Refused,
            });
        }
    }

    /// Sends a message again as long as its worker fails over it, at most `attempts_max` times in
    /// all. Only for messages that do no harm when they are handled twice; the framework never
    /// sends one again by itself.
    ///
    /// # Errors
    /// That of the last attempt. A message that was interrupted as often as it may is a dead
    /// envelope.
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
            self.slot.discard(Undelivered {
                items: vec![Item::Envelope(Arc::new(Envelope::new(message)))],
                reason: DeadReason::Attempts,
            });
        }
        answer
    }

    /// As [`WorkerAddr::try_send`], through the queue of its pool, if that is given.
    pub(crate) fn try_send_through<M>(&self, shared: Option<&SharedQueue<A>>, message: M) -> Result<(), TrySendError<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.push(shared, Envelope::new(message)).map(drop)
    }

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
                None => unreachable!("a envelope that was refused was not opened"),
            },
        }
    }

    /// Where the messages to this worker have ended, in all its lives. The sums add up at any
    /// instant.
    pub fn message_counts(&self) -> MessageCounts {
        self.slot.mailbox.message_counts()
    }

    /// Messages that wait in its queue.
    pub fn depth(&self) -> u32 {
        self.slot.mailbox.depth()
    }

    /// What it has to do: the message in hand, those that wait in its queue, and the answers under
    /// way.
    pub fn load(&self) -> u32 {
        self.slot.mailbox.load()
    }

    /// Starts it again, if it has ended, was stopped or was given up. A shard's worker is started
    /// as that shard, on the node that runs it; on any other nothing happens.
    pub fn start(&self) {
        self.order(Order::Start);
    }

    /// Stops it in good order and starts it again; its queue is kept and nothing is counted.
    pub fn restart(&self) {
        self.order(Order::Restart);
    }

    /// Stops it in good order; messages are refused until it is started again. One that does not
    /// stop in time is fenced. A shard stays this node's, and runs nowhere meanwhile.
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    /// Stops it in good order and forgets it; its name is free again. A shard's worker is only
    /// stopped, since it belongs to its group.
    pub fn remove(&self) {
        self.order(Order::Remove);
    }

    /// Where it stands now, in three separate verdicts, read from its status cell without asking
    /// anybody.
    pub fn status(&self) -> WorkerStatus {
        let cell = &self.slot.cell;
        let (is_up, is_live, is_ready) = (cell.is_up(), cell.is_live(), cell.is_ready());
        let not_ready = match (cell.health(), cell.is_overloaded()) {
            _ if cell.is_held() => Some(NotReadyReason::ThreadHeld),
            (Health::NotReady | Health::Failed, _) => Some(NotReadyReason::Reported),
            (Health::Ok, true) => Some(NotReadyReason::Overloaded),
            (Health::Ok, false) => None,
        };
        let doing = cell.busy().map(|(kind, since)| ((kind.activity)(), since));
        let generation = cell.shown_generation();
        WorkerStatus { generation, is_live, is_up, is_ready, not_ready, queued: self.depth(), doing }
    }

    /// Whether requests may come here: it is up, was not told to stop, its queue is not long,
    /// another answer may be under way, and it has not said otherwise.
    pub fn is_ready(&self) -> bool {
        self.slot.cell.is_ready()
    }

    /// The life that runs now, or that ran last.
    pub fn generation(&self) -> Generation {
        self.slot.cell.shown_generation()
    }

    /// Messages handled to their end, in all lives.
    pub fn handled(&self) -> u64 {
        self.slot.cell.handled()
    }

    /// The worker's name.
    pub fn name(&self) -> &str {
        &self.slot.name
    }

    fn order(&self, order: Order) {
        self.slot.order(Command { child: Child::Worker(self.slot.worker), order });
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

/// Where a worker stands. The three verdicts are separate: one that starts is live but not up, one
/// that is overloaded is up but not ready, and one that failed is none of them until its
/// replacement was told to start.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// Its present or last life.
    pub generation: Generation,
    /// Liveness: a life was told to start, and has not ended or been judged to have failed. Only
    /// this leads to replacement.
    pub is_live: bool,
    /// Startup: this life is up. Until then nothing but `workers.start_timeout` is held against it.
    pub is_up: bool,
    /// Readiness: requests may come here. A pool sends them elsewhere while it is not.
    pub is_ready: bool,
    /// Why requests should go elsewhere although it is up, if they should.
    pub not_ready: Option<NotReadyReason>,
    /// Messages in its queue.
    pub queued: u32,
    /// What it is doing, and since when by its node's clock.
    pub doing: Option<(Activity, Instant)>,
}
