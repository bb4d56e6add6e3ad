//! `Letter`: the envelope every message to a worker travels in, whoever sends it through whatever address.
//!
//! It is where the proof of life is made: around the handler it notes in the status cell which message is being handled since when, and
//! afterwards that it was. A letter that is dropped unopened is a dead letter: counted by the type of its message, and told to those who
//! want to know. An answer given by a generation that has become void meanwhile is not delivered: its worker has been replaced, its caller
//! was told, and nobody must take a zombie's word.

use std::any::type_name;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use actix::dev::{Envelope, EnvelopeProxy, MessageResponse, OneshotSender, ToEnvelope};
use actix::{Actor, Handler, Message};
use dashmap::DashMap;
use heartbeat_core::Interruption;
use tokio::sync::broadcast;

use crate::cell::Kind;
use crate::context::Context;
use crate::mailbox::Item;
use crate::worker::SendError;

/// Dead letters of this process, by type name of the message. Bounded by the number of message types in the program.
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
    /// It has waited through more replacements of its worker than it may, or was sent again as often as it may.
    Attempts,
    /// Its worker held its thread and was replaced, and its queue is not kept then.
    Replaced,
    /// It was refused, and its sender did not want to hear of it.
    Refused,
}

/// Messages of this process that were accepted for a worker and never begun, by type name, most first.
pub fn dead_letters() -> Vec<(&'static str, u64)> {
    let mut counts: Vec<(&'static str, u64)> = DEAD.iter().map(|entry| (*entry.key(), *entry.value())).collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    counts
}

/// Dead letters that wait for a slow subscriber at most: their places are made at the start.
const WAITING_MAX: usize = 65_536;

/// Where dead letters of a node are told.
pub(crate) struct Undertaker {
    told: broadcast::Sender<DeadLetter>,
}

impl Undertaker {
    /// At most `queue` dead letters wait for a slow subscriber, and never more than [`WAITING_MAX`].
    pub(crate) fn new(queue: u32) -> Undertaker {
        Undertaker { told: broadcast::Sender::new((queue as usize).min(WAITING_MAX)) }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<DeadLetter> {
        self.told.subscribe()
    }

    /// Drops letters that were never opened. A panic in one message's `Drop` is told by the panic hook; the others are none of its business.
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
                Item::Letter(letter) => letter.condemn(reason),
                Item::Envelope(envelope) => drop(envelope),
            }));
        }
        DYING.set(before);
    }
}

/// A message on its way to a worker.
pub(crate) struct Letter<M: Message> {
    /// `None` once opened.
    message: Mutex<Option<M>>,
    answer: Mutex<Option<OneshotSender<M::Result>>>,
    /// What its sender is told, if there will be no answer and that has a reason.
    loss: OnceLock<SendError>,
}

/// A letter whose message's type is forgotten.
pub(crate) trait Post<A: Actor<Context = Context<A>>>: Lost {
    /// Opens it and has it handled; it is the one in flight.
    fn handle(self: Arc<Self>, actor: &mut A, context: &mut Context<A>);
}

/// A letter as those see it who only decide what becomes of it.
pub(crate) trait Lost: Send + Sync {
    /// Tells its sender that there will be no answer, and why.
    fn interrupt(&self, why: &Interruption);

    /// Drops the message and notes why; whoever waits for the answer is told.
    fn condemn(&self, reason: DeadReason);

    /// What its sender, who got no answer, is to be told.
    fn loss(&self) -> SendError;
}

impl<M: Message> Letter<M> {
    pub(crate) fn new(message: M, answer: Option<OneshotSender<M::Result>>) -> Letter<M> {
        Letter { message: Mutex::new(Some(message)), answer: Mutex::new(answer), loss: OnceLock::new() }
    }

    /// Takes the message out again, if nobody has opened it.
    pub(crate) fn take(&self) -> Option<M> {
        self.message.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn take_answer(&self) -> Option<OneshotSender<M::Result>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether its sender has stopped waiting.
    fn is_unwanted(&self) -> bool {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        answer.as_ref().is_some_and(OneshotSender::is_closed)
    }
}

impl<M: Message + Send> Lost for Letter<M>
where
    M::Result: Send,
{
    fn interrupt(&self, why: &Interruption) {
        self.loss.get_or_init(|| SendError::Interrupted(why.clone()));
        drop(self.take_answer());
    }

    fn condemn(&self, reason: DeadReason) {
        self.loss.get_or_init(|| match reason {
            DeadReason::Stopped | DeadReason::Refused | DeadReason::NobodyWaits => SendError::Closed,
            DeadReason::GaveUp => SendError::GaveUp,
            DeadReason::Overflow | DeadReason::Attempts | DeadReason::Replaced => SendError::Dropped,
        });
        // Now, and not when the sender lets go of the letter too; and before the sender hears, who may ask for the count.
        let message = self.take();
        if message.is_some() {
            note_dead(type_name::<M>());
        }
        drop(self.take_answer());
        drop(message);
    }

    fn loss(&self) -> SendError {
        self.loss.get().cloned().unwrap_or(SendError::Interrupted(Interruption::Unanswered))
    }
}

impl<A, M> Post<A> for Letter<M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn handle(self: Arc<Self>, actor: &mut A, context: &mut Context<A>) {
        if self.is_unwanted() {
            context.discard(Item::Letter(self));
            return;
        }
        let Some(message) = self.take() else { return };
        context.begin(Kind::message::<M>());
        let handling = move |actor: &mut A, context: &mut Context<A>| {
            let response = actor.handle(message, context);
            if context.finish_message() {
                response.handle(context, self.take_answer());
                context.end_message();
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

/// A letter in the form in which actix carries it.
struct Carried<M: Message>(Option<Arc<Letter<M>>>);

impl<A, M> ToEnvelope<A, M> for Context<A>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn pack(message: M, answer: Option<OneshotSender<M::Result>>) -> Envelope<A> {
        Envelope::with_proxy(Box::new(Carried(Some(Arc::new(Letter::new(message, answer))))))
    }
}

impl<A, M> EnvelopeProxy<A> for Carried<M>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn handle(&mut self, actor: &mut A, context: &mut Context<A>) {
        if let Some(letter) = self.0.take() {
            context.keep_in_flight(letter.clone());
            Post::handle(letter, actor, context);
        }
    }
}

impl<M: Message> Drop for Letter<M> {
    fn drop(&mut self) {
        if self.message.get_mut().unwrap_or_else(PoisonError::into_inner).is_some() {
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
