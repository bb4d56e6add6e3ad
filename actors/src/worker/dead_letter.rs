//! Dead letters: messages that were accepted for a worker and never begun.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use actix::Actor;
use dashmap::DashMap;
use tokio::sync::broadcast;

use crate::worker::context::Context;
use crate::worker::mailbox::Item;

/// Dead letters of this process, by type name of the message. Bounded by the number of message
/// types in the program.
static DEAD_LETTER_COUNTS: LazyLock<DashMap<&'static str, u64>> = LazyLock::new(DashMap::new);

thread_local! {
    /// The worker and the reason of the envelopes that are dropped on this thread now.
    static DROP_CONTEXT: RefCell<Option<DropContext>> = const { RefCell::new(None) };
}

#[derive(Clone)]
struct DropContext {
    worker: Arc<str>,
    reason: DeadReason,
    sender: broadcast::Sender<DeadLetter>,
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
    /// Its sender had stopped waiting when the worker took it.
    Cancelled,
    /// It has waited through more replacements of its worker than it may, or was sent again as
    /// often as it may.
    Attempts,
    /// Its worker held its thread and was replaced, and its queue is not redelivered
    /// ([`OnReplace::DeadLetter`](crate::worker::OnReplace::DeadLetter)).
    Replaced,
    /// It was refused, and its sender asked for no report (`do_send`).
    Refused,
}

/// Messages of this process that were accepted for a worker and never begun, by type name, most
/// first.
pub fn dead_letters() -> Vec<(&'static str, u64)> {
    let mut counts: Vec<(&'static str, u64)> =
        DEAD_LETTER_COUNTS.iter().map(|entry| (*entry.key(), *entry.value())).collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    counts
}

/// Most dead letters that can wait for a slow subscriber: the channel allocates their places in
/// advance.
const WAITING_MAX: usize = 65_536;

/// Where the dead letters of a node are published.
pub(crate) struct DeadLetterSink {
    sender: broadcast::Sender<DeadLetter>,
}

impl DeadLetterSink {
    /// At most `queue` dead letters wait for a slow subscriber, and never more than
    /// [`WAITING_MAX`].
    pub(crate) fn new(queue: u32) -> DeadLetterSink {
        DeadLetterSink { sender: broadcast::Sender::new((queue as usize).min(WAITING_MAX)) }
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<DeadLetter> {
        self.sender.subscribe()
    }

    /// Counts and publishes a message that is gone already: it was sent to another node, and was
    /// refused.
    pub(crate) fn count(&self, message: &'static str, worker: &Arc<str>, reason: DeadReason) {
        *DEAD_LETTER_COUNTS.entry(message).or_default() += 1;
        // An error means that there is no subscriber.
        let _ = self.sender.send(DeadLetter { worker: worker.clone(), message, reason });
    }

    /// Drops envelopes that were never opened. A panic in the `Drop` of one message is reported by
    /// the panic hook and does not affect the others.
    pub(crate) fn discard<A: Actor<Context = Context<A>>>(
        &self,
        items: impl IntoIterator<Item = Item<A>>,
        worker: &Arc<str>,
        reason: DeadReason,
    ) {
        let dying = DropContext { worker: worker.clone(), reason, sender: self.sender.clone() };
        let before = DROP_CONTEXT.replace(Some(dying));
        for item in items {
            let _ = catch_unwind(AssertUnwindSafe(|| match item {
                Item::Envelope(envelope) => envelope.dead_letter(reason),
                Item::Actix(envelope) => drop(envelope),
            }));
        }
        DROP_CONTEXT.set(before);
    }
}

/// Counts a dead letter, and publishes it if its worker is known.
pub(crate) fn count_dead_letter(message: &'static str) {
    *DEAD_LETTER_COUNTS.entry(message).or_default() += 1;
    if let Some(DropContext { worker, reason, sender }) = DROP_CONTEXT.with_borrow(Clone::clone) {
        // An error means that there is no subscriber.
        let _ = sender.send(DeadLetter { worker, message, reason });
    }
}
