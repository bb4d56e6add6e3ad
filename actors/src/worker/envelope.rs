//! `Envelope`: the envelope every message to a worker travels in, whoever sends it through whatever
//! address.
//!
//! It is where the proof of life is made: around the handler it notes in the status cell which
//! message is being handled since when, and afterwards that it was. An envelope that is dropped
//! undelivered is a dead letter: counted by the type of its message, and told to those who want to
//! know. An answer given by a generation that has become void meanwhile is not delivered: its
//! worker has been replaced, its caller was told, and nobody must take a zombie's word.
//!
//! The answer often comes after the handler has returned: from a future within the worker
//! (`ResponseActFuture`, `AtomicResponse`), from one of its own (`ResponseFuture`, which actix
//! leaves on the thread), or from a sender that the worker keeps. All of them are given the end of
//! a channel. If the answer is in it when the handler has returned, it is passed on at once, else
//! it is an answer under way (`AnswerWaker`).

use std::any::{TypeId, type_name};
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{self, Poll, Wake, Waker};

use actix::dev::{Envelope as ActixEnvelope, EnvelopeProxy, MessageResponse, OneshotSender, ToEnvelope};
use actix::{Actor, Handler, Message};
use heartbeat_core::Interruption;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::lock::{get_mut, lock};
use crate::worker::context::Context;
use crate::worker::dead_letter::{DeadReason, count_dead_letter};
use crate::worker::mailbox::Item;
use crate::worker::send_error::SendError;
use crate::worker::slot::WorkerSlot;
use crate::worker::status_cell::ActivityKind;

/// A message on its way to a worker, and the place where its answer is laid down.
pub(crate) struct Envelope<M: Message> {
    /// `None` once opened.
    message: Mutex<Option<M>>,
    reply: Mutex<ReplyState<M::Result>>,
}

/// What is known of an answer.
enum ReplyState<R> {
    /// Its sender does not want it.
    Unwanted,
    /// Its sender has stopped waiting for it.
    Cancelled,
    /// Its sender waits, and is woken like this.
    Awaited(Option<Waker>),
    /// Its sender waits in actix's way.
    Actix(OneshotSender<R>),
    /// It is there.
    Ready(R),
    /// There will be none.
    Failed(SendError),
}

/// An envelope whose message's type is forgotten.
pub(crate) trait DynEnvelope<A: Actor<Context = Context<A>>>: PendingReply {
    /// Opens it and has it handled; it is the one in flight.
    fn handle(self: Arc<Self>, actor: &mut A, context: &mut Context<A>);
}

/// An envelope as those see it who only decide what becomes of it.
pub(crate) trait PendingReply: Send + Sync {
    /// Tells its sender that there will be no answer, and why.
    fn interrupt(&self, why: &Interruption);

    /// Drops the message and notes why; its sender is told.
    fn dead_letter(&self, reason: DeadReason);
}

/// An envelope as its sender sees it.
pub(crate) trait ReplyReceiver<R>: Send + Sync {
    /// The answer, or why there is none.
    fn poll_reply(&self, task: &mut task::Context<'_>) -> Poll<Result<R, SendError>>;

    /// The sender does not wait any more.
    fn cancel(&self);
}

impl<M: Message> Envelope<M> {
    /// An envelope whose sender wants no answer.
    pub(crate) fn new(message: M) -> Envelope<M> {
        Envelope::in_state(message, ReplyState::Unwanted)
    }

    /// An envelope whose sender waits for the answer with [`ReplyReceiver`].
    pub(crate) fn with_reply(message: M) -> Envelope<M> {
        Envelope::in_state(message, ReplyState::Awaited(None))
    }

    fn in_state(message: M, reply: ReplyState<M::Result>) -> Envelope<M> {
        Envelope { message: Mutex::new(Some(message)), reply: Mutex::new(reply) }
    }

    /// Takes the message out again, if it was not opened.
    pub(crate) fn take(&self) -> Option<M> {
        lock(&self.message).take()
    }

    fn reply(&self) -> MutexGuard<'_, ReplyState<M::Result>> {
        lock(&self.reply)
    }

    /// Whether its sender has stopped waiting.
    fn is_cancelled(&self) -> bool {
        match &*self.reply() {
            ReplyState::Cancelled => true,
            ReplyState::Actix(sender) => sender.is_closed(),
            ReplyState::Unwanted | ReplyState::Awaited(_) | ReplyState::Ready(_) | ReplyState::Failed(_) => false,
        }
    }

    /// Lays the answer down, or why there is none, unless that was settled before.
    fn set_reply(&self, result: Result<M::Result, SendError>) {
        // What is not needed any more is dropped when the lock is free, since that runs its user's
        // code.
        let mut reply = self.reply();
        match &mut *reply {
            ReplyState::Awaited(waker) => {
                let waker = waker.take();
                *reply = match result {
                    Ok(value) => ReplyState::Ready(value),
                    Err(error) => ReplyState::Failed(error),
                };
                drop(reply);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            ReplyState::Actix(_) => {
                let before = std::mem::replace(&mut *reply, ReplyState::Unwanted);
                drop(reply);
                if let (ReplyState::Actix(sender), Ok(value)) = (before, result) {
                    let _ = sender.send(value); // Its sender may wait no more.
                }
            }
            ReplyState::Unwanted | ReplyState::Cancelled | ReplyState::Ready(_) | ReplyState::Failed(_) => {
                drop(reply);
                drop(result);
            }
        }
    }

    /// actix's own sender for the answer, if that is how it is waited for.
    fn take_actix(&self) -> Option<OneshotSender<M::Result>> {
        let mut reply = self.reply();
        match &*reply {
            ReplyState::Actix(_) => match std::mem::replace(&mut *reply, ReplyState::Unwanted) {
                ReplyState::Actix(sender) => Some(sender),
                ReplyState::Unwanted
                | ReplyState::Cancelled
                | ReplyState::Awaited(_)
                | ReplyState::Ready(_)
                | ReplyState::Failed(_) => None,
            },
            ReplyState::Unwanted
            | ReplyState::Cancelled
            | ReplyState::Awaited(_)
            | ReplyState::Ready(_)
            | ReplyState::Failed(_) => None,
        }
    }

    /// Whether its sender waits for the answer with [`ReplyReceiver`].
    fn is_awaited(&self) -> bool {
        matches!(&*self.reply(), ReplyState::Awaited(_))
    }
}

impl<M: Message + Send> PendingReply for Envelope<M>
where
    M::Result: Send,
{
    fn interrupt(&self, why: &Interruption) {
        self.set_reply(Err(SendError::Interrupted(why.clone())));
    }

    fn dead_letter(&self, reason: DeadReason) {
        // Now, and not when the sender lets go of the envelope too; and before the sender hears,
        // who may ask for the count.
        let message = self.take();
        if message.is_some() {
            count_dead_letter(type_name::<M>());
        }
        self.set_reply(Err(match reason {
            DeadReason::Stopped | DeadReason::Refused | DeadReason::Cancelled => SendError::Closed,
            DeadReason::GaveUp => SendError::GaveUp,
            DeadReason::Overflow | DeadReason::Attempts | DeadReason::Replaced => SendError::Dropped,
        }));
        drop(message);
    }
}

impl<M: Message + Send> ReplyReceiver<M::Result> for Envelope<M>
where
    M::Result: Send,
{
    fn poll_reply(&self, task: &mut task::Context<'_>) -> Poll<Result<M::Result, SendError>> {
        let mut reply = self.reply();
        match &mut *reply {
            ReplyState::Awaited(Some(waker)) => {
                waker.clone_from(task.waker());
                Poll::Pending
            }
            ReplyState::Awaited(empty) => {
                *empty = Some(task.waker().clone());
                Poll::Pending
            }
            ReplyState::Failed(error) => Poll::Ready(Err(error.clone())),
            ReplyState::Ready(_) => match std::mem::replace(&mut *reply, ReplyState::Failed(SendError::Closed)) {
                ReplyState::Ready(value) => Poll::Ready(Ok(value)),
                ReplyState::Unwanted
                | ReplyState::Cancelled
                | ReplyState::Awaited(_)
                | ReplyState::Actix(_)
                | ReplyState::Failed(_) => Poll::Pending,
            },
            ReplyState::Unwanted | ReplyState::Cancelled | ReplyState::Actix(_) => Poll::Pending,
        }
    }

    fn cancel(&self) {
        let before = std::mem::replace(&mut *self.reply(), ReplyState::Cancelled);
        drop(before);
    }
}

/// An answer under way: the end of a channel whose other end lies with the handler's response. It
/// is the waker of that channel, so an answer is passed on where it is given, whichever future or
/// thread gives it, and however many are under way.
struct AnswerWaker<A: Actor<Context = Context<A>>, M: Message> {
    slot: Arc<WorkerSlot<A>>,
    envelope: Arc<Envelope<M>>,
    number: u64,
    /// `None` once the answer has come or was dropped. The channel holds its waker, which holds
    /// this, until then and no longer.
    receiver: Mutex<Option<oneshot::Receiver<M::Result>>>,
}

impl<A, M> AnswerWaker<A, M>
where
    A: Actor<Context = Context<A>>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    /// Waits for the answer of the envelope in flight, whose handler has returned.
    fn begin(
        slot: &Arc<WorkerSlot<A>>,
        reader_epoch: u32,
        envelope: Arc<Envelope<M>>,
        receiver: oneshot::Receiver<M::Result>,
    ) {
        let Some(number) = slot.mailbox.begin_answer(reader_epoch) else { return };
        let open = Arc::new(AnswerWaker { slot: slot.clone(), envelope, number, receiver: Mutex::new(Some(receiver)) });
        let waker = Waker::from(open.clone());
        let mut receiver = lock(&open.receiver);
        let Some(channel) = &mut *receiver else { return };
        // The channel is asked once, to leave the waker there. That is no work of the task's, so it
        // must not cost its budget.
        let asked = pin!(tokio::task::unconstrained(channel));
        if let Poll::Ready(came) = asked.poll(&mut task::Context::from_waker(&waker)) {
            *receiver = None;
            drop(receiver);
            open.end(came.ok());
        }
    }

    fn end(&self, came: Option<M::Result>) {
        match came {
            Some(value) => {
                if self.slot.mailbox.finish_answer(self.number) {
                    self.envelope.set_reply(Ok(value));
                }
            }
            None => {
                if let Some(why) = self.slot.mailbox.drop_answer(self.number) {
                    self.envelope.interrupt(&why);
                }
            }
        }
    }
}

impl<A, M> Wake for AnswerWaker<A, M>
where
    A: Actor<Context = Context<A>>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn wake(self: Arc<Self>) {
        Wake::wake_by_ref(&self);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let came = {
            let mut receiver = lock(&self.receiver);
            let Some(channel) = &mut *receiver else { return };
            match channel.try_recv() {
                Ok(value) => {
                    *receiver = None;
                    Some(value)
                }
                Err(TryRecvError::Closed) => {
                    *receiver = None;
                    None
                }
                Err(TryRecvError::Empty) => return,
            }
        };
        self.end(came);
    }
}

impl<A, M> DynEnvelope<A> for Envelope<M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn handle(self: Arc<Self>, actor: &mut A, context: &mut Context<A>) {
        if self.is_cancelled() {
            context.discard_in_flight(Item::Envelope(self));
            return;
        }
        let Some(message) = self.take() else { return };
        context.begin(ActivityKind::message::<M>());
        let handling = move |actor: &mut A, context: &mut Context<A>| {
            let response = actor.handle(message, context);
            if !context.is_fenced() {
                self.respond(response, context);
            }
        };
        #[cfg(feature = "testkit")]
        if context.is_armed() {
            if let Some(handling) = context.apply_fault(Box::new(handling)) {
                handling(actor, context);
            }
            return;
        }
        handling(actor, context);
    }
}

impl<M> Envelope<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    /// Passes on what the handler has returned: now, or when it comes.
    fn respond<A>(self: Arc<Self>, response: A::Result, context: &mut Context<A>)
    where
        A: Actor<Context = Context<A>> + Handler<M>,
    {
        // A response of the very type of the answer is the answer, and no channel is needed to see
        // it come.
        let is_answer = TypeId::of::<A::Result>() == TypeId::of::<M::Result>();
        if is_answer && !self.is_awaited() {
            if context.finish_message() {
                response.handle(context, self.take_actix());
                context.end();
            }
            return;
        }
        let (sender, mut receiver) = oneshot::channel();
        response.handle(context, Some(sender));
        match receiver.try_recv() {
            Ok(value) => {
                if context.finish_message() {
                    self.set_reply(Ok(value));
                    context.end();
                }
            }
            Err(TryRecvError::Closed) => {
                // The handler has dropped the answer. A channel that has said so must not be asked
                // again.
                let mailbox = &context.slot().mailbox;
                let number = mailbox.begin_answer(context.reader_epoch());
                if let Some(why) = number.and_then(|number| mailbox.drop_answer(number)) {
                    self.interrupt(&why);
                }
                if !context.is_fenced() {
                    context.end();
                }
            }
            Err(TryRecvError::Empty) => {
                AnswerWaker::begin(context.slot(), context.reader_epoch(), self, receiver);
                if !context.is_fenced() {
                    context.end();
                }
            }
        }
    }
}

/// An envelope in the form in which actix carries it.
struct ActixProxy<M: Message>(Option<Arc<Envelope<M>>>);

impl<A, M> ToEnvelope<A, M> for Context<A>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn pack(message: M, answer: Option<OneshotSender<M::Result>>) -> ActixEnvelope<A> {
        ActixEnvelope::with_proxy(Box::new(ActixProxy(Some(Arc::new(Envelope::in_state(
            message,
            answer.map_or(ReplyState::Unwanted, ReplyState::Actix),
        ))))))
    }
}

impl<A, M> EnvelopeProxy<A> for ActixProxy<M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn handle(&mut self, actor: &mut A, context: &mut Context<A>) {
        if let Some(envelope) = self.0.take() {
            context.keep_in_flight(envelope.clone());
            DynEnvelope::handle(envelope, actor, context);
        }
    }
}

impl<M: Message> Drop for Envelope<M> {
    fn drop(&mut self) {
        if get_mut(&mut self.message).is_some() {
            count_dead_letter(type_name::<M>());
        }
    }
}
