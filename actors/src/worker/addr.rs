//! `WorkerAddr`: a supervised worker as its users see it.
//!
//! The address belongs to the worker's slot, not to one of its lives: it is good for as long as the
//! node runs. What it cannot promise is that a message was handled. A message that was refused was
//! never handed over and may be sent again; one whose worker failed while it was being handled may
//! have had its effect, so it is never repeated for you.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Poll, ready};
use std::time::Duration;

use actix::{Actor, Handler, Message};
use futures_util::future::{Either, select};
use heartbeat_core::{Activity, Child, Generation, Health, Instant, Interruption, NotReadyReason};

use crate::clock::sleep;
use crate::worker::context::Context;
use crate::worker::envelope::{Asked, DeadReason, Envelope};
use crate::worker::mailbox::{Item, MessageCounts, Unopened};
use crate::worker::messages::{Command, Order};
use crate::worker::shared_queue::SharedQueue;
use crate::worker::slot::WorkerSlot;

/// The address of a supervised worker; it follows every replacement. Cloning it is cheap.
pub struct WorkerAddr<A: Actor<Context = Context<A>>> {
    pub(crate) slot: Arc<WorkerSlot<A>>,
}

/// Why a message was not answered.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The queue is full. The message was not handed over: it is safe to send it again.
    Full,
    /// No worker runs here: it was stopped, has ended, or its shard lives on another node. The
    /// message was not handled, and will not be.
    Closed,
    /// The worker failed too often and is not started again. The message was not handled, and will
    /// not be.
    GaveUp,
    /// No member of the pool can serve now. The message was not handed over.
    NotReady,
    /// The message was handed over and dropped unhandled: the queue overflowed, or it had waited
    /// through too many replacements of the worker. It is safe to send it again.
    Dropped,
    /// The message was handed over and there will be no answer, for this reason. It may have been
    /// handled, in part or in full.
    Interrupted(Interruption),
    /// No answer came in time. The message may have been handled, or may be yet, unless the worker
    /// finds that nobody waits any more.
    TimedOut,
}

impl SendError {
    /// Whether the message was certainly not handled and never will be, so that sending it again
    /// does not do anything twice.
    pub fn is_unhandled(&self) -> bool {
        match self {
            SendError::Full | SendError::Closed | SendError::GaveUp | SendError::NotReady | SendError::Dropped => true,
            SendError::Interrupted(_) | SendError::TimedOut => false,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Interrupted(why) => return write!(f, "no answer, and the message may have been handled: {why}"),
            SendError::Full => "the worker's queue is full; the message was not handed over",
            SendError::Closed => "no worker runs under this address; the message was not handled",
            SendError::GaveUp => "the worker failed too often and was given up; the message was not handled",
            SendError::NotReady => "no member of the pool can serve now; the message was not handed over",
            SendError::Dropped => "the message was dropped from the worker's queue; it was not handled",
            SendError::TimedOut => "no answer came in time; the message may have been handled",
        })
    }
}

impl std::error::Error for SendError {}

/// Why a message was refused, with the message.
#[derive(Clone, PartialEq, Eq)]
pub struct TrySendError<M> {
    /// Why.
    pub error: SendError,
    /// The message as it was.
    pub message: M,
}

impl<M> fmt::Debug for TrySendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrySendError").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<M> fmt::Display for TrySendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<M> std::error::Error for TrySendError<M> {}

/// The answer to a message, to be awaited. The message was handed over (or refused) when this was
/// made, awaited or not.
#[must_use = "an answer that is dropped tells the worker that nobody waits for it"]
pub struct Reply<R>(Result<Arc<dyn Asked<R>>, SendError>);

impl<R> Reply<R> {
    /// No answer, and why.
    pub(crate) fn refused(error: SendError) -> Reply<R> {
        Reply(Err(error))
    }

    /// Waits at most this long, from now on.
    ///
    /// # Errors
    /// [`SendError::TimedOut`] if no answer came by then, otherwise as the answer itself.
    pub async fn within(self, time: Duration) -> Result<R, SendError> {
        match select(self, pin!(sleep(time))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => Err(SendError::TimedOut),
        }
    }
}

impl<R> Future for Reply<R> {
    type Output = Result<R, SendError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<Self::Output> {
        match &self.0 {
            Ok(letter) => {
                let answer = ready!(letter.poll_answer(task));
                // It is settled, so there is nothing to forsake.
                self.0 = Err(SendError::Closed);
                Poll::Ready(answer)
            }
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

impl<R> Drop for Reply<R> {
    fn drop(&mut self) {
        if let Ok(letter) = &self.0 {
            letter.forsake();
        }
    }
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("refused", &self.0.as_ref().err()).finish()
    }
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
        self.ask(None, message).unwrap_or_else(|refused| Reply::refused(refused.error))
    }

    /// As [`WorkerAddr::send`], but gives a message back that is refused; through the queue of its
    /// pool, if that is given.
    pub(crate) fn ask<M>(
        &self,
        shared: Option<&SharedQueue<A>>,
        message: M,
    ) -> Result<Reply<M::Result>, TrySendError<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        Ok(Reply(Ok(self.post(shared, Envelope::asking(message))?)))
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
        if let Err(TrySendError { message, .. }) = self.post(None, Envelope::new(message)) {
            self.slot.bury(Unopened {
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
    /// letter.
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
            self.slot.bury(Unopened {
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
        self.post(shared, Envelope::new(message)).map(drop)
    }

    fn post<M>(&self, shared: Option<&SharedQueue<A>>, letter: Envelope<M>) -> Result<Arc<Envelope<M>>, TrySendError<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let letter = Arc::new(letter);
        let pushed = match shared {
            None => self.slot.mailbox.push(letter.clone()),
            Some(shared) => shared.push(letter.clone()),
        };
        match pushed {
            Ok(None) => Ok(letter),
            Ok(Some(unopened)) => {
                self.slot.bury(unopened);
                Ok(letter)
            }
            Err(error) => match letter.take() {
                Some(message) => Err(TrySendError { error, message }),
                None => unreachable!("a letter that was refused was not opened"),
            },
        }
    }

    /// Where the messages to this worker have ended, in all its lives. The sums add up at any
    /// instant.
    pub fn fates(&self) -> MessageCounts {
        self.slot.mailbox.fates()
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
        let unready = match (cell.health(), cell.is_overloaded()) {
            _ if cell.is_held() => Some(NotReadyReason::ThreadHeld),
            (Health::NotReady | Health::Failed, _) => Some(NotReadyReason::Reported),
            (Health::Ok, true) => Some(NotReadyReason::Overloaded),
            (Health::Ok, false) => None,
        };
        let doing = cell.busy().map(|(kind, since)| ((kind.activity)(), since));
        let generation = cell.life();
        WorkerStatus { generation, is_live, is_up, is_ready, unready, queued: self.depth(), doing }
    }

    /// Whether requests may come here: it is up, was not told to stop, its queue is not long,
    /// another answer may be under way, and it has not said otherwise.
    pub fn is_ready(&self) -> bool {
        self.slot.cell.is_ready()
    }

    /// The life that runs now, or that ran last.
    pub fn generation(&self) -> Generation {
        self.slot.cell.life()
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
    pub unready: Option<NotReadyReason>,
    /// Messages in its queue.
    pub queued: u32,
    /// What it is doing, and since when by its node's clock.
    pub doing: Option<(Activity, Instant)>,
}
