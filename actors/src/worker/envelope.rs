//! `Envelope`: carries each message to a worker, through whichever address it was sent.
//!
//! The proof of life is made here. Before the handler runs, the status cell records the message and
//! the time; afterwards it records that the handler has returned. An envelope that is dropped
//! unopened is a dead letter: it is counted by the type of its message and published. An answer of
//! a fenced generation is not delivered: its worker was replaced, and its sender was notified then.
//!
//! The answer often comes after the handler has returned. It may come from a future within the
//! worker (`ResponseActFuture`, `AtomicResponse`) or from a sender that the worker keeps. It may
//! also come from a future beside the worker (`ResponseFuture`), which actix leaves on the thread.
//! Each gets the end of a channel. If the answer is there when the handler returns, it is delivered
//! at once; otherwise an `AnswerWaker` delivers it.

use std::any::{TypeId, type_name};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{self, Poll, Wake, Waker};
use std::time::Duration;

use actix::dev::{Envelope as ActixEnvelope, EnvelopeProxy, MessageResponse, OneshotSender, ToEnvelope};
use actix::{Actor, Handler, Message};
use heartbeat_core::requests::{Refusal, TraceContext};
use heartbeat_core::{Instant, Interruption};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tracing::Span;
use tracing::span::EnteredSpan;

use crate::lock::{get_mut, lock};
use crate::spans::{self, Handled};
use crate::worker::context::Context;
use crate::worker::dead_letter::{DeadReason, count_dead_letter};
use crate::worker::mailbox::Item;
use crate::worker::send_error::SendError;
use crate::worker::slot::WorkerSlot;
use crate::worker::status_cell::ActivityKind;

/// A message on its way to a worker, and the place for its answer.
pub(crate) struct Envelope<M: Message> {
    /// `None` once opened.
    message: Mutex<Option<M>>,
    reply: Mutex<ReplyState<M::Result>>,
    /// Where it goes if its shard moves away before it is opened.
    onward: Option<Arc<dyn Onward<M>>>,
    /// The number under which it went on; 0 if it did not.
    went_on: AtomicU64,
    /// What most messages have not.
    carried: Option<Box<Carried>>,
}

/// Where messages go on whose shard moves away before they are opened.
pub(crate) trait Onward<M: Message>: Send + Sync {
    /// Sends it to the new owner, before all later ones of this node: to the entity with this key,
    /// if there is one. Returns its number there, which is not 0.
    fn send_on(self: Arc<Self>, envelope: Arc<Envelope<M>>, key: Option<Arc<[u8]>>) -> u64;

    /// Whether earlier messages went on and have not ended. Then this one must not overtake them.
    fn is_busy(&self) -> bool;

    /// The sender of a message that went on waits no more.
    fn forsake(&self, number: u64);
}

/// What most messages have not: that of a request of another node, or of one that waited for its
/// shard, and the span of a sender.
pub(crate) struct Carried {
    /// Whether it is such a request. Then its node may send it elsewhere if it is not begun.
    is_request: bool,
    /// From this instant on its handler is not called.
    deadline: Mutex<Option<Instant>>,
    /// The trace that a request belongs to.
    trace: Option<TraceContext>,
    /// The span in which it was sent on this node, until it is opened.
    sender: Mutex<Option<Span>>,
}

impl Carried {
    /// What a request brings with it.
    pub(crate) fn by_request(deadline: Option<Instant>, trace: Option<TraceContext>) -> Carried {
        Carried { is_request: true, deadline: Mutex::new(deadline), trace, sender: Mutex::new(None) }
    }

    /// The span of the sender, if it is wanted.
    #[cold]
    fn by_sender() -> Option<Box<Carried>> {
        let sender = Mutex::new(Some(spans::sender()?));
        Some(Box::new(Carried { is_request: false, deadline: Mutex::new(None), trace: None, sender }))
    }
}

/// The deadline of a message in a queue.
pub(crate) trait Expiring: Send + Sync {
    /// Sets it, or sets another one.
    fn expire_at(&self, deadline: Instant);
}

/// The state of an answer.
enum ReplyState<R> {
    /// The sender does not want one.
    Unwanted,
    /// The sender has stopped waiting.
    Cancelled,
    /// The sender waits, and is woken by this.
    Awaited(Option<Waker>),
    /// The sender waits at actix's own channel.
    Actix(OneshotSender<R>),
    /// The answer is there.
    Ready(R),
    /// There will be none.
    Failed(SendError),
}

/// An envelope without the type of its message.
pub(crate) trait DynEnvelope<A: Actor<Context = Context<A>>>: PendingReply {
    /// Opens the envelope and calls the handler. The envelope is in flight meanwhile.
    fn handle(self: Arc<Self>, actor: &mut A, context: &mut Context<A>);
}

/// An envelope without the type of its worker: all that is needed to end it unanswered.
pub(crate) trait PendingReply: Send + Sync {
    /// Notifies the sender that there will be no answer, and why.
    fn interrupt(&self, why: &Interruption);

    /// Drops the message as a dead letter and notifies its sender.
    fn dead_letter(&self, reason: DeadReason);

    /// Whether the message goes to the new owner if its shard moves away now.
    fn goes_on(&self) -> bool;

    /// Whether earlier messages of this node are on their way to the new owner.
    fn must_go_on(&self) -> bool;

    /// Sends it to the new owner, to the entity with this key if there is one.
    fn send_on(self: Arc<Self>, key: Option<Arc<[u8]>>);
}

/// The sender's end of an envelope.
pub(crate) trait ReplyReceiver<R>: Send + Sync {
    /// The answer, or why there is none.
    fn poll_reply(&self, task: &mut task::Context<'_>) -> Poll<Result<R, SendError>>;

    /// The sender no longer waits.
    fn cancel(&self);

    /// The sender waits this long only. Returns whether the reply is then ended for it: so it is if
    /// the message went to another node.
    fn wait_at_most(&self, time: Duration) -> bool {
        let _ = time; // The sender keeps the time itself.
        false
    }
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

    /// An envelope whose message goes to another node; only its sender's end is here.
    pub(crate) fn sent_away() -> Envelope<M> {
        Envelope::of(None, ReplyState::Awaited(None))
    }

    /// As [`Envelope::sent_away`], but its sender wants no answer.
    pub(crate) fn sent_off() -> Envelope<M> {
        Envelope::of(None, ReplyState::Unwanted)
    }

    /// The message goes there if its shard moves away before it is opened.
    pub(crate) fn with_onward(mut self, onward: Arc<dyn Onward<M>>) -> Envelope<M> {
        self.onward = Some(onward);
        self
    }

    /// A request that brings this with it.
    pub(crate) fn with_carried(mut self, carried: Carried) -> Envelope<M> {
        self.carried = Some(Box::new(carried));
        self
    }

    fn in_state(message: M, reply: ReplyState<M::Result>) -> Envelope<M> {
        let mut envelope = Envelope::of(Some(message), reply);
        if spans::may_be_wanted() {
            envelope.carried = Carried::by_sender();
        }
        envelope
    }

    fn of(message: Option<M>, reply: ReplyState<M::Result>) -> Envelope<M> {
        let (message, reply) = (Mutex::new(message), Mutex::new(reply));
        Envelope { message, reply, onward: None, went_on: AtomicU64::new(0), carried: None }
    }

    /// Takes the message out, if the envelope was not opened.
    pub(crate) fn take(&self) -> Option<M> {
        lock(&self.message).take()
    }

    fn reply(&self) -> MutexGuard<'_, ReplyState<M::Result>> {
        lock(&self.reply)
    }

    /// Takes out the span in which it was sent on this node, if it has that.
    pub(crate) fn take_sender(&self) -> Option<Span> {
        lock(&self.carried.as_ref()?.sender).take()
    }

    /// Begins the span of the message, whose handler is about to run.
    #[cold]
    fn enter_span<A: Actor<Context = Context<A>>>(&self, context: &Context<A>) -> Option<EnteredSpan> {
        let slot = context.slot();
        let (worker, kind, message) = (&*slot.name, slot.kind(), type_name::<M>());
        let trace = self.carried.as_ref().and_then(|carried| carried.trace);
        let handled = Handled { worker, kind, message, sender: self.take_sender(), trace };
        spans::enter(handled, &slot.control.propagator)
    }

    /// Whether its sender wants no answer.
    pub(crate) fn is_unwanted(&self) -> bool {
        matches!(&*self.reply(), ReplyState::Unwanted)
    }

    /// Whether its deadline is over.
    fn is_expired(&self, now: impl Fn() -> Instant) -> bool {
        let deadline = self.carried.as_ref().and_then(|carried| *lock(&carried.deadline));
        deadline.is_some_and(|deadline| deadline <= now())
    }

    /// Whether its sender has stopped waiting.
    pub(crate) fn is_cancelled(&self) -> bool {
        match &*self.reply() {
            ReplyState::Cancelled => true,
            ReplyState::Actix(sender) => sender.is_closed(),
            ReplyState::Unwanted | ReplyState::Awaited(_) | ReplyState::Ready(_) | ReplyState::Failed(_) => false,
        }
    }

    /// Sets the answer, or why there is none, unless one was set before.
    pub(crate) fn set_reply(&self, result: Result<M::Result, SendError>) {
        // Values that are no longer needed are dropped after the lock is released, since that runs
        // code of the application.
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

    /// actix's own sender for the answer, if the sender of the message waits there.
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
        // The message is dropped now and not with the sender's end of the envelope. It is counted
        // before the sender is notified, who may ask for the count.
        let message = self.take();
        // The node that sent a request learns that it was not begun, and may send it elsewhere.
        let is_request = self.carried.as_ref().is_some_and(|carried| carried.is_request);
        let is_given_back = is_request && reason == DeadReason::Stopped;
        if message.is_some() && !is_given_back {
            count_dead_letter(type_name::<M>());
        }
        self.set_reply(Err(match reason {
            DeadReason::Stopped | DeadReason::Refused | DeadReason::Cancelled => SendError::Closed,
            DeadReason::GaveUp => SendError::GaveUp,
            DeadReason::Overflow | DeadReason::Attempts | DeadReason::Replaced => SendError::Dropped,
        }));
        drop(message);
    }

    fn goes_on(&self) -> bool {
        self.onward.is_some()
    }

    fn must_go_on(&self) -> bool {
        self.onward.as_ref().is_some_and(|onward| onward.is_busy())
    }

    fn send_on(self: Arc<Self>, key: Option<Arc<[u8]>>) {
        if let Some(onward) = self.onward.clone() {
            let number = onward.clone().send_on(self.clone(), key);
            self.went_on.store(number, Ordering::Release);
            if self.is_cancelled() {
                onward.forsake(number);
            }
        }
    }
}

impl<M: Message + Send> Expiring for Envelope<M>
where
    M::Result: Send,
{
    fn expire_at(&self, deadline: Instant) {
        if let Some(carried) = &self.carried {
            *lock(&carried.deadline) = Some(deadline);
        }
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
        if let (Some(onward), number @ 1..) = (&self.onward, self.went_on.load(Ordering::Acquire)) {
            onward.forsake(number);
        }
    }
}

/// An answer under way: the receiver of a channel whose sender the handler's response holds. This
/// is the waker of that channel. So the answer is delivered by the future or thread that gives it,
/// however many answers are under way.
struct AnswerWaker<A: Actor<Context = Context<A>>, M: Message> {
    slot: Arc<WorkerSlot<A>>,
    envelope: Arc<Envelope<M>>,
    number: u64,
    /// `None` once the answer has come or was dropped. Until then the channel holds its waker,
    /// which holds this.
    receiver: Mutex<Option<oneshot::Receiver<M::Result>>>,
}

impl<A, M> AnswerWaker<A, M>
where
    A: Actor<Context = Context<A>>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    /// Begins to wait for the answer of the envelope in flight, whose handler has returned.
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
        // The channel is polled once, to register the waker. The task does no work by that, so the
        // poll must not cost its budget.
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
        if self.is_expired(|| context.slot().control.clock.now()) {
            self.set_reply(Err(SendError::Refused(Refusal::Expired)));
            return context.discard_in_flight(Item::Envelope(self));
        }
        if self.is_cancelled() {
            return context.discard_in_flight(Item::Envelope(self));
        }
        let Some(message) = self.take() else { return };
        context.begin_message(ActivityKind::message::<M>());
        let handling = move |actor: &mut A, context: &mut Context<A>| {
            let _span = if spans::may_be_wanted() { self.enter_span(context) } else { None };
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
    /// Delivers the handler's response: now, or when it comes.
    fn respond<A>(self: Arc<Self>, response: A::Result, context: &mut Context<A>)
    where
        A: Actor<Context = Context<A>> + Handler<M>,
    {
        // A response of the same type as the answer is the answer, and needs no channel.
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
                // The handler has dropped the answer. A channel that has said so must not be polled
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
