//! `Envelope`: the envelope every message to a worker travels in, whoever sends it through whatever
//! address.
//!
//! It is where the proof of life is made: around the handler it notes in the status cell which
//! message is being handled since when, and afterwards that it was. A letter that is dropped
//! unopened is a dead letter: counted by the type of its message, and told to those who want to
//! know. An answer given by a generation that has become void meanwhile is not delivered: its
//! worker has been replaced, its caller was told, and nobody must take a zombie's word.
//!
//! The answer often comes after the handler has returned: from a future within the worker
//! (`ResponseActFuture`, `AtomicResponse`), from one of its own (`ResponseFuture`, which actix
//! leaves on the thread), or from a sender that the worker keeps. All of them are given the end of
//! a channel. If the answer is in it when the handler has returned, it is passed on at once, else
//! it is an answer under way (`OpenAnswer`).

use std::any::{TypeId, type_name};
use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::task::{self, Poll, Wake, Waker};

use actix::dev::{Envelope as ActixEnvelope, EnvelopeProxy, MessageResponse, OneshotSender, ToEnvelope};
use actix::{Actor, Handler, Message};
use dashmap::DashMap;
use heartbeat_core::Interruption;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{broadcast, oneshot};

use crate::lock::{get_mut, lock};
use crate::worker::addr::SendError;
use crate::worker::context::Context;
use crate::worker::mailbox::Item;
use crate::worker::slot::WorkerSlot;
use crate::worker::status_cell::Kind;

/// Dead letters of this process, by type name of the message. Bounded by the number of message
/// types in the program.
static DEAD: LazyLock<DashMap<&'static str, u64>> = LazyLock::new(DashMap::new);

thread_local! {
    /// Why, and for whom, a letter dies that is dropped on this thread now.
    static DYING: RefCell<Option<Dying>> = const { RefCell::new(None) };
}

#[derive(Clone)]
struct Dying {
    worker: Arc<str>,
    reason: DeadReason,
    told: broadcast::Sender<DeadLetter>,
}

/// A message that was accepted for a worker and never begun.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Name of the worker.
    pub worker: Arc<str>,
    /// Type name of the message.
    pub message: &'static str,
    /// Why it was never begun.
    pub reason: DeadReason,
}

/// Why a message was never begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DeadReason {
    /// Its worker was stopped, has ended, or its shard has moved.
    Stopped,
    /// Its worker was given up.
    GaveUp,
    /// The queue was full.
    Overflow,
    /// Its sender had stopped waiting when the worker came to it.
    NobodyWaits,
    /// It has waited through more replacements of its worker than it may, or was sent again as
    /// often as it may.
    Attempts,
    /// Its worker held its thread and was replaced, and its queue is not kept then.
    Replaced,
    /// It was refused, and its sender did not want to hear of it.
    Refused,
}

/// Messages of this process that were accepted for a worker and never begun, by type name, most
/// first.
pub fn dead_letters() -> Vec<(&'static str, u64)> {
    let mut counts: Vec<(&'static str, u64)> = DEAD.iter().map(|entry| (*entry.key(), *entry.value())).collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    counts
}

/// Dead letters that wait for a slow subscriber at most: their places are made at the start.
const WAITING_MAX: usize = 65_536;

/// Where dead letters of a node are told.
pub(crate) struct DeadLetterSink {
    told: broadcast::Sender<DeadLetter>,
}

impl DeadLetterSink {
    /// At most `queue` dead letters wait for a slow subscriber, and never more than
    /// [`WAITING_MAX`].
    pub(crate) fn new(queue: u32) -> DeadLetterSink {
        DeadLetterSink { told: broadcast::Sender::new((queue as usize).min(WAITING_MAX)) }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<DeadLetter> {
        self.told.subscribe()
    }

    /// Drops letters that were never opened. A panic in one message's `Drop` is told by the panic
    /// hook; the others are none of its business.
    pub(crate) fn bury<A: Actor<Context = Context<A>>>(
        &self,
        items: impl IntoIterator<Item = Item<A>>,
        worker: &Arc<str>,
        reason: DeadReason,
    ) {
        let dying = Dying { worker: worker.clone(), reason, told: self.told.clone() };
        let before = DYING.replace(Some(dying));
        for item in items {
            let _ = catch_unwind(AssertUnwindSafe(|| match item {
                Item::Envelope(letter) => letter.condemn(reason),
                Item::Actix(envelope) => drop(envelope),
            }));
        }
        DYING.set(before);
    }
}

/// A message on its way to a worker, and the place where its answer is laid down.
pub(crate) struct Envelope<M: Message> {
    /// `None` once opened.
    message: Mutex<Option<M>>,
    answer: Mutex<Reply<M::Result>>,
}

/// What is known of an answer.
enum Reply<R> {
    /// Its sender does not want it.
    Unwanted,
    /// Its sender has stopped waiting for it.
    Forsaken,
    /// Its sender waits, and is woken like this.
    Awaited(Option<Waker>),
    /// Its sender waits in actix's way.
    Actix(OneshotSender<R>),
    /// It is there.
    Here(R),
    /// There will be none.
    PendingReply(SendError),
}

/// A letter whose message's type is forgotten.
pub(crate) trait DynEnvelope<A: Actor<Context = Context<A>>>: PendingReply {
    /// Opens it and has it handled; it is the one in flight.
    fn handle(self: Arc<Self>, actor: &mut A, context: &mut Context<A>);
}

/// A letter as those see it who only decide what becomes of it.
pub(crate) trait PendingReply: Send + Sync {
    /// Tells its sender that there will be no answer, and why.
    fn interrupt(&self, why: &Interruption);

    /// Drops the message and notes why; its sender is told.
    fn condemn(&self, reason: DeadReason);
}

/// A letter as its sender sees it.
pub(crate) trait Asked<R>: Send + Sync {
    /// The answer, or why there is none.
    fn poll_answer(&self, task: &mut task::Context<'_>) -> Poll<Result<R, SendError>>;

    /// The sender does not wait any more.
    fn forsake(&self);
}

impl<M: Message> Envelope<M> {
    /// A letter whose sender wants no answer.
    pub(crate) fn new(message: M) -> Envelope<M> {
        Envelope::with(message, Reply::Unwanted)
    }

    /// A letter whose sender waits for the answer with [`Asked`].
    pub(crate) fn asking(message: M) -> Envelope<M> {
        Envelope::with(message, Reply::Awaited(None))
    }

    fn with(message: M, answer: Reply<M::Result>) -> Envelope<M> {
        Envelope { message: Mutex::new(Some(message)), answer: Mutex::new(answer) }
    }

    /// Takes the message out again, if it was not opened.
    pub(crate) fn take(&self) -> Option<M> {
        lock(&self.message).take()
    }

    fn answer(&self) -> MutexGuard<'_, Reply<M::Result>> {
        lock(&self.answer)
    }

    /// Whether its sender has stopped waiting.
    fn is_forsaken(&self) -> bool {
        match &*self.answer() {
            Reply::Forsaken => true,
            Reply::Actix(sender) => sender.is_closed(),
            Reply::Unwanted | Reply::Awaited(_) | Reply::Here(_) | Reply::PendingReply(_) => false,
        }
    }

    /// Lays the answer down, or why there is none, unless that was settled before.
    fn settle(&self, result: Result<M::Result, SendError>) {
        // What is not needed any more is dropped when the lock is free, since that runs its user's
        // code.
        let mut answer = self.answer();
        match &mut *answer {
            Reply::Awaited(waker) => {
                let waker = waker.take();
                *answer = match result {
                    Ok(value) => Reply::Here(value),
                    Err(error) => Reply::PendingReply(error),
                };
                drop(answer);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            Reply::Actix(_) => {
                let before = std::mem::replace(&mut *answer, Reply::Unwanted);
                drop(answer);
                if let (Reply::Actix(sender), Ok(value)) = (before, result) {
                    let _ = sender.send(value); // Its sender may wait no more.
                }
            }
            Reply::Unwanted | Reply::Forsaken | Reply::Here(_) | Reply::PendingReply(_) => {
                drop(answer);
                drop(result);
            }
        }
    }

    /// actix's own sender for the answer, if that is how it is waited for.
    fn take_actix(&self) -> Option<OneshotSender<M::Result>> {
        let mut answer = self.answer();
        match &*answer {
            Reply::Actix(_) => match std::mem::replace(&mut *answer, Reply::Unwanted) {
                Reply::Actix(sender) => Some(sender),
                _ => None,
            },
            Reply::Unwanted | Reply::Forsaken | Reply::Awaited(_) | Reply::Here(_) | Reply::PendingReply(_) => None,
        }
    }

    /// Whether its sender waits for the answer with [`Asked`].
    fn is_awaited(&self) -> bool {
        matches!(&*self.answer(), Reply::Awaited(_))
    }
}

impl<M: Message + Send> PendingReply for Envelope<M>
where
    M::Result: Send,
{
    fn interrupt(&self, why: &Interruption) {
        self.settle(Err(SendError::Interrupted(why.clone())));
    }

    fn condemn(&self, reason: DeadReason) {
        // Now, and not when the sender lets go of the letter too; and before the sender hears, who
        // may ask for the count.
        let message = self.take();
        if message.is_some() {
            note_dead(type_name::<M>());
        }
        self.settle(Err(match reason {
            DeadReason::Stopped | DeadReason::Refused | DeadReason::NobodyWaits => SendError::Closed,
            DeadReason::GaveUp => SendError::GaveUp,
            DeadReason::Overflow | DeadReason::Attempts | DeadReason::Replaced => SendError::Dropped,
        }));
        drop(message);
    }
}

impl<M: Message + Send> Asked<M::Result> for Envelope<M>
where
    M::Result: Send,
{
    fn poll_answer(&self, task: &mut task::Context<'_>) -> Poll<Result<M::Result, SendError>> {
        let mut answer = self.answer();
        match &mut *answer {
            Reply::Awaited(Some(waker)) => {
                waker.clone_from(task.waker());
                Poll::Pending
            }
            Reply::Awaited(empty) => {
                *empty = Some(task.waker().clone());
                Poll::Pending
            }
            Reply::PendingReply(error) => Poll::Ready(Err(error.clone())),
            Reply::Here(_) => match std::mem::replace(&mut *answer, Reply::PendingReply(SendError::Closed)) {
                Reply::Here(value) => Poll::Ready(Ok(value)),
                _ => Poll::Pending,
            },
            Reply::Unwanted | Reply::Forsaken | Reply::Actix(_) => Poll::Pending,
        }
    }

    fn forsake(&self) {
        let before = std::mem::replace(&mut *self.answer(), Reply::Forsaken);
        drop(before);
    }
}

/// An answer under way: the end of a channel whose other end lies with the handler's response. It
/// is the waker of that channel, so an answer is passed on where it is given, whichever future or
/// thread gives it, and however many are under way.
struct OpenAnswer<A: Actor<Context = Context<A>>, M: Message> {
    slot: Arc<WorkerSlot<A>>,
    letter: Arc<Envelope<M>>,
    number: u64,
    /// `None` once the answer has come or was dropped. The channel holds its waker, which holds
    /// this, until then and no longer.
    receiver: Mutex<Option<oneshot::Receiver<M::Result>>>,
}

impl<A, M> OpenAnswer<A, M>
where
    A: Actor<Context = Context<A>>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    /// Waits for the answer of the letter in flight, whose handler has returned.
    fn begin(slot: &Arc<WorkerSlot<A>>, term: u32, letter: Arc<Envelope<M>>, receiver: oneshot::Receiver<M::Result>) {
        let Some(number) = slot.mailbox.begin_answer(term) else { return };
        let open = Arc::new(OpenAnswer { slot: slot.clone(), letter, number, receiver: Mutex::new(Some(receiver)) });
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
                    self.letter.settle(Ok(value));
                }
            }
            None => {
                if let Some(why) = self.slot.mailbox.drop_answer(self.number) {
                    self.letter.interrupt(&why);
                }
            }
        }
    }
}

impl<A, M> Wake for OpenAnswer<A, M>
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
        if self.is_forsaken() {
            context.discard(Item::Envelope(self));
            return;
        }
        let Some(message) = self.take() else { return };
        context.begin(Kind::message::<M>());
        let handling = move |actor: &mut A, context: &mut Context<A>| {
            let response = actor.handle(message, context);
            if !context.is_void() {
                self.respond(response, context);
            }
        };
        #[cfg(feature = "testkit")]
        if context.is_armed() {
            if let Some(handling) = context.strike(Box::new(handling)) {
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
                    self.settle(Ok(value));
                    context.end();
                }
            }
            Err(TryRecvError::Closed) => {
                // The handler has dropped the answer. A channel that has said so must not be asked
                // again.
                let mailbox = &context.seat().mailbox;
                let number = mailbox.begin_answer(context.term());
                if let Some(why) = number.and_then(|number| mailbox.drop_answer(number)) {
                    self.interrupt(&why);
                }
                if !context.is_void() {
                    context.end();
                }
            }
            Err(TryRecvError::Empty) => {
                OpenAnswer::begin(context.seat(), context.term(), self, receiver);
                if !context.is_void() {
                    context.end();
                }
            }
        }
    }
}

/// A letter in the form in which actix carries it.
struct ActixProxy<M: Message>(Option<Arc<Envelope<M>>>);

impl<A, M> ToEnvelope<A, M> for Context<A>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn pack(message: M, answer: Option<OneshotSender<M::Result>>) -> ActixEnvelope<A> {
        ActixEnvelope::with_proxy(Box::new(ActixProxy(Some(Arc::new(Envelope::with(
            message,
            answer.map_or(Reply::Unwanted, Reply::Actix),
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
        if let Some(letter) = self.0.take() {
            context.keep_in_flight(letter.clone());
            DynEnvelope::handle(letter, actor, context);
        }
    }
}

impl<M: Message> Drop for Envelope<M> {
    fn drop(&mut self) {
        if get_mut(&mut self.message).is_some() {
            note_dead(type_name::<M>());
        }
    }
}

/// Counts a dead letter, and tells of it if it is known for whom it dies.
fn note_dead(message: &'static str) {
    *DEAD.entry(message).or_default() += 1;
    if let Some(Dying { worker, reason, told }) = DYING.with_borrow(Clone::clone) {
        // Nobody may be listening.
        let _ = told.send(DeadLetter { worker, message, reason });
    }
}
