//! `Mailbox`: the queue of one worker. It counts what became of each message and decides which
//! runner may take the next one.
//!
//! actix's own channel would not do, for three reasons. Its bound holds for each clone of an
//! address, so with many clones there is none. Its length cannot be asked for. And a message in the
//! hands of a blocked handler is out of reach for the rest of the program.
//!
//! Here one lock guards the queue, the waker of its reader, the envelope that is being handled, and
//! the counts. The counts always add up: accepted = handled + interrupted + dead + moved +
//! answering + queued.
//!
//! A handler may return before its answer is there. The mailbox keeps its envelope until the answer
//! comes or can no longer come. At most `answers_max` envelopes wait like this: at the bound the
//! reader takes no further one.
//!
//! A reader epoch is the time in which one runner reads the mailbox. It ends when another runner
//! takes over. It is compared under the lock: otherwise a fenced runner could check first, and then
//! take an envelope or leave its waker in place of its successor.
//!
//! When a shard moves away, messages that were sent by key go on to its new owner, in their order.
//! Those that come while the worker still stops wait for that, too, behind the others.
//!
//! A plain `Addr` of actix works, too. Its channel is made when the first one is asked for, and its
//! messages move into the queue as long as there is room.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{self, Poll, Wake, Waker};

use actix::dev::Envelope as ActixEnvelope;
use actix::dev::channel::{AddressReceiver, AddressSender};
use actix::{Actor, Addr};
use futures_util::Stream;
use heartbeat_core::config::Drain;
use heartbeat_core::{Event, Interruption, WorkerId};

use crate::clock::Clock;
use crate::lock::lock;
use crate::worker::context::Context;
use crate::worker::dead_letter::DeadReason;
use crate::worker::envelope::DynEnvelope;
use crate::worker::histogram::{MessageTimer, Waiting};
use crate::worker::send_error::SendError;
use crate::worker::shared_queue::SharedQueue;
use crate::worker::status_cell::CellRef;

/// What happens to a message that finds the queue full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overflow {
    /// It is refused, and its sender gets [`SendError::Full`].
    #[default]
    Reject,
    /// It is accepted, and the message that has waited longest becomes a dead letter.
    DropOldest,
    /// It becomes a dead letter itself, at once, and a sender that waits gets
    /// [`SendError::Dropped`].
    DropNewest,
}

/// What happens to the queue of a worker that held its thread and was replaced. After any other
/// failure the queue is kept as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnReplace {
    /// The replacement gets it. A message that has waited through more than `attempts_max` such
    /// replacements becomes a dead letter.
    Redeliver {
        /// Replacements that a message may wait through.
        attempts_max: u32,
    },
    /// All of it becomes dead letters.
    DeadLetter,
}

impl Default for OnReplace {
    /// Redelivers through three replacements.
    fn default() -> OnReplace {
        OnReplace::Redeliver { attempts_max: 3 }
    }
}

/// How one worker's queue is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rules {
    pub(crate) capacity: u32,
    pub(crate) overflow: Overflow,
    pub(crate) on_replace: OnReplace,
    /// Answers that may be under way at once.
    pub(crate) answers_max: u32,
    /// What a worker that stops still finishes.
    pub(crate) drain: Drain,
}

/// What became of the messages of one worker, in all its generations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct MessageCounts {
    /// Taken into the queue: all of the following together.
    pub accepted: u64,
    /// Handled to the end, with the answer if there is one.
    pub handled: u64,
    /// Begun, and not handled to the end: the worker failed, was replaced or dropped the answer.
    pub interrupted: u64,
    /// Dead letters: never begun, and never will be.
    pub dead: u64,
    /// Never begun here: the shard moved away, and they went on to its new owner, or they were left
    /// to the next life of their entity.
    pub moved: u64,
    /// In the queue, or being handled.
    pub queued: u64,
    /// The handler has returned, and its answer is under way: it comes from a future, or from a
    /// sender that the worker keeps.
    pub answering: u64,
    /// Refused, and never in the queue.
    pub rejected: u64,
}

impl std::ops::AddAssign for MessageCounts {
    fn add_assign(&mut self, other: MessageCounts) {
        let MessageCounts { accepted, handled, interrupted, dead, moved, queued, answering, rejected } = other;
        self.accepted += accepted;
        self.handled += handled;
        self.interrupted += interrupted;
        self.dead += dead;
        self.moved += moved;
        self.queued += queued;
        self.answering += answering;
        self.rejected += rejected;
    }
}

/// Why a queue is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CloseReason {
    Stopped,
    GaveUp,
}

impl CloseReason {
    /// The error for a message that arrives at a closed queue.
    pub(crate) fn refusal(self) -> SendError {
        match self {
            CloseReason::Stopped => SendError::Closed,
            CloseReason::GaveUp => SendError::GaveUp,
        }
    }
}

/// A message to be handled.
pub(crate) enum Item<A: Actor<Context = Context<A>>> {
    /// Sent through a `WorkerAddr`.
    Envelope(Arc<dyn DynEnvelope<A>>),
    /// Sent through an `Addr`.
    Actix(ActixEnvelope<A>),
}

struct Queued<A: Actor<Context = Context<A>>> {
    item: Item<A>,
    waiting: Waiting,
}

/// Envelopes that left the queue unopened. The caller drops them: that runs code of the
/// application, which must not happen under the lock.
#[must_use]
pub(crate) struct Undelivered<A: Actor<Context = Context<A>>> {
    pub(crate) items: Vec<Item<A>>,
    pub(crate) reason: DeadReason,
}

/// Tells a closed mailbox of mail that comes through a plain `Addr`.
///
/// A channel may wake a waker while it is being registered. The mailbox is locked then, so the wake
/// is only noted, and the one that drains the mailbox looks again.
struct MailWatch<F> {
    state: AtomicU8,
    on_mail: F,
}

impl<F> MailWatch<F> {
    /// The mailbox is being drained.
    const DRAINING: u8 = 0;
    /// The next message calls `on_mail`.
    const ARMED: u8 = 1;
    /// A message came while the mailbox was being drained.
    const WOKEN: u8 = 2;

    /// From now on a message calls `on_mail`. Returns false if one has come already.
    fn arm(&self) -> bool {
        let armed = self.state.compare_exchange(Self::DRAINING, Self::ARMED, Ordering::AcqRel, Ordering::Acquire);
        armed.is_ok()
    }
}

impl<F: Fn() + Send + Sync> Wake for MailWatch<F> {
    fn wake(self: Arc<Self>) {
        let noted = self.state.compare_exchange(Self::DRAINING, Self::WOKEN, Ordering::AcqRel, Ordering::Acquire);
        if noted == Err(Self::ARMED) {
            (self.on_mail)();
        }
    }
}

/// The queue of one worker.
pub(crate) struct Mailbox<A: Actor<Context = Context<A>>> {
    inner: Mutex<Inner<A>>,
    /// Rises with each new reader.
    reader_epoch: AtomicU32,
    rules: Rules,
    cell: CellRef,
    /// actix's channel into this mailbox, once an `Addr` was asked for.
    sender: OnceLock<AddressSender<A>>,
    /// The queue of the pool that the worker is a member of, and the worker's number.
    pub(crate) shared: Option<(Arc<SharedQueue<A>>, WorkerId)>,
    /// Tells since when messages wait, if that is wanted.
    stamps: Option<Clock>,
}

/// In this order: what a scrape reads of each mailbox lies side by side behind the lock.
#[repr(C)]
struct Inner<A: Actor<Context = Context<A>>> {
    counts: MessageCounts,
    queue: VecDeque<Queued<A>>,
    in_flight: Option<InFlight<A>>,
    /// Envelopes whose handlers have returned and whose answers are under way, by number.
    answers: BTreeMap<u64, Answering<A>>,
    next_answer: u64,
    /// How to wake the reader.
    waker: Option<Waker>,
    /// Envelopes that came while the worker stopped for good and that go on to the shard's new
    /// owner. The worker that stops does not get them.
    late: VecDeque<Queued<A>>,
    channel: Option<AddressReceiver<A>>,
    /// Why the worker was asked to stop last.
    ending: Interruption,
    closed: Option<CloseReason>,
    /// Whether the queue is closed and what was in it has gone on.
    is_drained: bool,
    /// Whether to wake the reader for a new envelope.
    wants_mail: bool,
    /// Whether to wake it when an answer comes, since there is then room for another one.
    wants_room: bool,
    /// Whether to wake it at the last answer, since it stops.
    wants_idle: bool,
    /// Whether to wake it for a message in the pool's queue, too.
    wants_shared: bool,
    overloaded: bool,
}

/// An envelope whose answer is under way.
struct Answering<A: Actor<Context = Context<A>>> {
    envelope: Arc<dyn DynEnvelope<A>>,
    /// What interrupts it if the answer is dropped now. `None` means that the handler itself
    /// dropped it.
    why: Option<Interruption>,
    /// Whether the generation that began it has ended. A future on the thread may still answer.
    is_detached: bool,
}

/// What a reader gets when it asks for an envelope.
pub(crate) enum Taken<A: Actor<Context = Context<A>>> {
    /// This envelope, which is in flight from now on.
    Item(Item<A>),
    /// None; the reader is woken when one comes.
    Nothing,
    /// As many answers are under way as may be; the reader is woken when one comes.
    Full,
    /// The mailbox has another reader by now.
    Stale,
}

/// What a worker that stops still has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Draining {
    /// Whether it is to handle the messages in the queue.
    pub(crate) with_queue: bool,
    /// Whether nothing is left.
    pub(crate) is_done: bool,
}

/// The messages that a fence interrupted or dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct FencedMessages {
    /// Messages that were begun, and answers under way.
    pub(crate) begun: u32,
    /// Messages in the queue, if it is closed.
    pub(crate) queued: u32,
}

impl FencedMessages {
    /// Writes the numbers into the event that follows a fence: the engine does not know them.
    pub(crate) fn write_into(self, event: &mut Event) {
        if let Event::Fenced { interrupted, dropped, .. } = event {
            (*interrupted, *dropped) = (self.begun, self.queued);
        }
    }
}

/// The envelope that is being handled, kept so that its sender can be notified when the worker is
/// replaced.
enum InFlight<A: Actor<Context = Context<A>>> {
    Envelope(Arc<dyn DynEnvelope<A>>),
    /// A message that came through a plain `Addr` and could not be kept.
    Actix,
}

impl<A: Actor<Context = Context<A>>> Mailbox<A> {
    pub(crate) fn new(
        rules: Rules,
        cell: CellRef,
        shared: Option<(Arc<SharedQueue<A>>, WorkerId)>,
        stamps: Option<Clock>,
    ) -> Mailbox<A> {
        let inner = Inner {
            queue: VecDeque::new(),
            late: VecDeque::new(),
            is_drained: false,
            channel: None,
            waker: None,
            wants_mail: false,
            wants_room: false,
            wants_idle: false,
            in_flight: None,
            answers: BTreeMap::new(),
            next_answer: 0,
            closed: None,
            ending: Interruption::Stopped,
            overloaded: false,
            wants_shared: false,
            counts: MessageCounts::default(),
        };
        if let Some((shared, worker)) = &shared {
            // From the beginning, like the worker's own queue: messages wait until it has started.
            shared.open(*worker);
        }
        let reader_epoch = AtomicU32::new(0);
        Mailbox { inner: Mutex::new(inner), reader_epoch, rules, cell, sender: OnceLock::new(), shared, stamps }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<A>> {
        lock(&self.inner)
    }

    /// What a message that comes now is marked with.
    #[inline]
    fn stamp(&self) -> Waiting {
        self.stamps.as_ref().map_or(Waiting::default(), Waiting::since_now)
    }

    // ---- for senders ----

    /// Adds an envelope to the queue. Returns the envelopes that must be dropped: the one that had
    /// to make room, or the new one itself.
    pub(crate) fn push(&self, envelope: Arc<dyn DynEnvelope<A>>) -> Result<Option<Undelivered<A>>, SendError> {
        let (waker, undelivered) = {
            let mut inner = self.lock();
            if let Some(closing) = inner.closed {
                return self.push_late(&mut inner, closing, envelope);
            }
            if envelope.must_go_on() {
                // Its sender sends it the way of those before it.
                inner.counts.rejected += 1;
                return Err(SendError::Closed);
            }
            inner.fetch_before_push(self.rules.capacity, || self.stamp());
            let mut undelivered = None;
            let is_full = inner.queue.len() >= self.rules.capacity as usize;
            match self.rules.overflow {
                Overflow::Reject if is_full => {
                    inner.counts.rejected += 1;
                    return Err(SendError::Full);
                }
                Overflow::DropNewest if is_full => {
                    inner.counts.accepted += 1;
                    inner.counts.dead += 1;
                    return Ok(Some(Undelivered {
                        items: vec![Item::Envelope(envelope)],
                        reason: DeadReason::Overflow,
                    }));
                }
                Overflow::DropOldest if is_full => {
                    let oldest = inner.queue.pop_front();
                    inner.counts.dead += 1;
                    undelivered =
                        oldest.map(|oldest| Undelivered { items: vec![oldest.item], reason: DeadReason::Overflow });
                }
                Overflow::Reject | Overflow::DropOldest | Overflow::DropNewest => {}
            }
            inner.counts.accepted += 1;
            inner.queue.push_back(Queued { item: Item::Envelope(envelope), waiting: self.stamp() });
            self.update_overload(&mut inner);
            let waker = if std::mem::take(&mut inner.wants_mail) { inner.waker.take() } else { None };
            (waker, undelivered)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(undelivered)
    }

    /// Keeps an envelope for the shard's new owner, behind those that wait here. Otherwise it could
    /// overtake them on its own way.
    fn push_late(
        &self,
        inner: &mut Inner<A>,
        closing: CloseReason,
        envelope: Arc<dyn DynEnvelope<A>>,
    ) -> Result<Option<Undelivered<A>>, SendError> {
        let is_late = closing == CloseReason::Stopped && !inner.is_drained && envelope.goes_on();
        let is_full = inner.queue.len() + inner.late.len() >= self.rules.capacity as usize;
        if !is_late || is_full {
            inner.counts.rejected += 1;
            return Err(if is_late { SendError::Full } else { closing.refusal() });
        }
        inner.counts.accepted += 1;
        inner.late.push_back(Queued { item: Item::Envelope(envelope), waiting: self.stamp() });
        Ok(None)
    }

    /// Puts messages into the queue of a worker that was not started yet.
    pub(crate) fn fill(&self, items: Vec<Item<A>>) {
        let waiting = self.stamp();
        let mut inner = self.lock();
        inner.counts.accepted += items.len() as u64;
        inner.queue.extend(items.into_iter().map(|item| Queued { item, waiting }));
        self.update_overload(&mut inner);
    }

    /// An address of actix's own. If the mailbox is closed, the caller must drain it once more.
    pub(crate) fn address(&self) -> Addr<A> {
        let sender = self.sender.get_or_init(|| {
            let (sender, receiver) = actix::dev::channel::channel(self.rules.capacity as usize);
            let mut inner = self.lock();
            inner.channel = Some(receiver);
            // The reader may be asleep and does not know the channel yet.
            let waker = inner.waker.take();
            drop(inner);
            if let Some(waker) = waker {
                waker.wake();
            }
            sender
        });
        Addr::new(sender.clone())
    }

    /// Messages that wait.
    pub(crate) fn depth(&self) -> u32 {
        self.lock().queue.len() as u32
    }

    /// The worker's load: the message in hand, those that wait, and the answers under way.
    pub(crate) fn load(&self) -> u32 {
        let inner = self.lock();
        (inner.queue.len() + usize::from(inner.in_flight.is_some()) + inner.answers.len()) as u32
    }

    /// The messages that wait, with those that came through a plain `Addr` while the reader took
    /// none, and the answers under way. If there are none, the message in hand.
    pub(crate) fn sample_queue(&self) -> u32 {
        let mut inner = self.lock();
        // A reader that waits for mail has its waker in the channel and has emptied it. A reader
        // that waits for something else fetches by itself later. A closed mailbox has a waker in
        // the channel, too, and keeps it.
        if !inner.wants_mail
            && inner.closed.is_none()
            && inner.fetch(self.rules.capacity, &mut task::Context::from_waker(Waker::noop()), || self.stamp())
        {
            self.update_overload(&mut inner);
        }
        (inner.queue.len() + inner.answers.len()).max(usize::from(inner.in_flight.is_some())) as u32
    }

    /// How many messages the queue takes.
    #[cfg(feature = "http")]
    pub(crate) fn capacity(&self) -> u32 {
        self.rules.capacity
    }

    /// Reads something without the lock, without a meaning: what is read next is in a cache then.
    #[cfg(feature = "http")]
    pub(crate) fn touch(&self) -> u64 {
        u64::from(self.inner.is_poisoned()) + u64::from(self.reader_epoch.load(Ordering::Relaxed))
    }

    /// What became of the messages.
    pub(crate) fn message_counts(&self) -> MessageCounts {
        let inner = self.lock();
        let queued = (inner.queue.len() + inner.late.len()) as u64 + u64::from(inner.in_flight.is_some());
        MessageCounts { queued, answering: inner.answers.len() as u64, ..inner.counts }
    }

    // ---- for the reader ----

    /// Whether the mailbox has another reader by now. The runner of this epoch is then fenced and
    /// must do nothing more.
    pub(crate) fn is_stale(&self, reader_epoch: u32) -> bool {
        self.reader_epoch.load(Ordering::Acquire) != reader_epoch
    }

    /// The next envelope for the runner of this epoch; `timer` learns how long it has waited.
    pub(crate) fn take(
        &self,
        reader_epoch: u32,
        task: &mut task::Context<'_>,
        mut timer: Option<&mut MessageTimer>,
    ) -> Taken<A> {
        let mut inner = self.lock();
        if self.is_stale(reader_epoch) {
            return Taken::Stale;
        }
        inner.wants_room = inner.answers.len() >= self.rules.answers_max as usize;
        if inner.wants_room {
            inner.register(task.waker());
            inner.wants_mail = false;
            self.leave_shared(&mut inner);
            return Taken::Full;
        }
        // Once the mailbox is closed, messages from a plain `Addr` stay in the channel until it is
        // drained.
        let came = inner.closed.is_none() && inner.fetch(self.rules.capacity, task, || self.stamp());
        let next = inner.queue.pop_front();
        if let (Some(timer), Some(next)) = (&mut timer, &next) {
            timer.take(next.waiting);
        }
        match self.or_shared(next.map(|next| next.item), &mut inner, task, timer) {
            Some(item) => {
                inner.in_flight = Some(match &item {
                    Item::Envelope(envelope) => InFlight::Envelope(envelope.clone()),
                    Item::Actix(_) => InFlight::Actix,
                });
                if came || inner.overloaded {
                    self.update_overload(&mut inner);
                }
                Taken::Item(item)
            }
            None => {
                inner.register(task.waker());
                inner.wants_mail = true;
                Taken::Nothing
            }
        }
    }

    /// Sets how to wake the runner of this epoch for anything but mail. Returns whether it is still
    /// the reader.
    pub(crate) fn register(&self, reader_epoch: u32, waker: &Waker) -> bool {
        let mut inner = self.lock();
        if self.is_stale(reader_epoch) {
            return false;
        }
        inner.register(waker);
        inner.wants_mail = false;
        self.leave_shared(&mut inner);
        true
    }

    /// What the reader takes next: `own`, or else an envelope of the pool. If there is none, it is
    /// woken when one comes.
    fn or_shared(
        &self,
        own: Option<Item<A>>,
        inner: &mut Inner<A>,
        task: &task::Context<'_>,
        timer: Option<&mut MessageTimer>,
    ) -> Option<Item<A>> {
        let Some((shared, worker)) = &self.shared else { return own };
        if own.is_some() {
            self.leave_shared(inner);
            return own;
        }
        let next = shared.take(*worker, task.waker());
        inner.wants_shared = next.is_none();
        let (envelope, waiting) = next?;
        inner.counts.accepted += 1;
        if let Some(timer) = timer {
            timer.take(waiting);
        }
        Some(Item::Envelope(envelope))
    }

    /// The reader no longer waits for an envelope of the pool.
    fn leave_shared(&self, inner: &mut Inner<A>) {
        if let (true, Some((shared, worker))) = (std::mem::take(&mut inner.wants_shared), &self.shared) {
            shared.is_not_idle(*worker);
        }
    }

    /// Keeps the envelope in flight that a plain `Addr` brought.
    pub(crate) fn keep_in_flight(&self, reader_epoch: u32, envelope: Arc<dyn DynEnvelope<A>>) {
        let mut inner = self.lock();
        if !self.is_stale(reader_epoch) {
            inner.in_flight = Some(InFlight::Envelope(envelope));
        }
    }

    /// Records that the handler has returned with its answer. Returns whether the answer may be
    /// delivered: not if the worker was replaced, since its sender was notified then.
    pub(crate) fn finish(&self, reader_epoch: u32) -> bool {
        let mut inner = self.lock();
        if self.is_stale(reader_epoch) {
            return false;
        }
        if inner.in_flight.take().is_some() {
            inner.counts.handled += 1;
            self.cell.count_handled();
        }
        true
    }

    /// Records that the handler has returned and its answer is under way. Returns the answer's
    /// number; `None` if the worker was replaced.
    pub(crate) fn begin_answer(&self, reader_epoch: u32) -> Option<u64> {
        let mut inner = self.lock();
        if self.is_stale(reader_epoch) {
            return None;
        }
        let InFlight::Envelope(envelope) = inner.in_flight.take()? else { return None };
        let number = inner.next_answer;
        inner.next_answer += 1;
        inner.answers.insert(number, Answering { envelope, why: None, is_detached: false });
        if inner.answers.len() >= self.rules.answers_max as usize {
            self.update_overload(&mut inner);
        }
        Some(number)
    }

    /// Records that an answer has come. Returns whether it may be delivered: not if its sender was
    /// notified that there will be none.
    pub(crate) fn finish_answer(&self, number: u64) -> bool {
        self.end_answer(number, |counts| counts.handled += 1).is_some()
    }

    /// Records that an answer was dropped. Returns the error for its sender, unless it was notified
    /// already.
    pub(crate) fn drop_answer(&self, number: u64) -> Option<Interruption> {
        let answer = self.end_answer(number, |counts| counts.interrupted += 1)?;
        Some(answer.why.unwrap_or(Interruption::Unanswered))
    }

    /// Removes an answer that is no longer under way, and wakes a reader that waits for that.
    fn end_answer(&self, number: u64, count: impl FnOnce(&mut MessageCounts)) -> Option<Answering<A>> {
        let (answer, waker) = {
            let mut inner = self.lock();
            let answer = inner.answers.remove(&number)?;
            let before = inner.counts.handled;
            count(&mut inner.counts);
            if inner.counts.handled > before {
                self.cell.count_handled();
            }
            if inner.overloaded {
                self.update_overload(&mut inner);
            }
            let is_wanted = inner.wants_room || inner.wants_idle && inner.answers.is_empty();
            (answer, if is_wanted { inner.waker.take() } else { None })
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Some(answer)
    }

    /// What the worker of this epoch, which stops, still has to do. If anything is left, it is
    /// woken when that may have changed.
    pub(crate) fn draining(&self, reader_epoch: u32, task: &mut task::Context<'_>) -> Draining {
        let mut inner = self.lock();
        if self.is_stale(reader_epoch) {
            return Draining { with_queue: false, is_done: true };
        }
        let is_final = inner.closed.is_some();
        let (with_queue, with_answers) = match self.rules.drain {
            Drain::Queue => (is_final, true),
            Drain::Answers => (false, true),
            Drain::None => (false, false),
        };
        let shared_waits = self.shared.as_ref().is_some_and(|(shared, worker)| shared.waits_for(*worker));
        let has_mail = !inner.queue.is_empty() || shared_waits;
        let is_idle = inner.in_flight.is_none() && inner.answers.is_empty();
        let is_done = (is_idle || !with_answers) && (!has_mail || !with_queue);
        inner.wants_idle = !is_done;
        if !is_done {
            inner.register(task.waker());
        }
        Draining { with_queue, is_done }
    }

    /// The generation of this epoch ends: answers that are dropped with it are interrupted for this
    /// reason.
    pub(crate) fn end_generation(&self, reader_epoch: u32, why: Option<&Interruption>) {
        let mut inner = self.lock();
        if !self.is_stale(reader_epoch) {
            let why = why.unwrap_or(&inner.ending).clone();
            for answer in inner.answers.values_mut().filter(|answer| !answer.is_detached) {
                answer.why = Some(why.clone());
            }
        }
    }

    /// The generation of this epoch has ended. Answers that are still under way come from futures
    /// that actix leaves on the thread.
    pub(crate) fn detach_answers(&self, reader_epoch: u32) {
        let mut inner = self.lock();
        if !self.is_stale(reader_epoch) {
            for answer in inner.answers.values_mut() {
                (answer.why, answer.is_detached) = (None, true);
            }
        }
    }

    /// Counts the envelope in flight as dead: it was not opened after all.
    pub(crate) fn discard_in_flight(&self, reader_epoch: u32) {
        let mut inner = self.lock();
        if !self.is_stale(reader_epoch) && inner.in_flight.take().is_some() {
            inner.counts.dead += 1;
        }
    }

    /// The handler will not return: notifies the sender of the message in flight.
    pub(crate) fn interrupt(&self, reader_epoch: u32, why: &Interruption) {
        let in_flight = {
            let mut inner = self.lock();
            if self.is_stale(reader_epoch) { None } else { inner.interrupt() }
        };
        if let Some(envelope) = in_flight {
            envelope.interrupt(why);
        }
    }

    // ---- for the supervisor ----

    /// Begins a new reader epoch; `change` runs before any thread can see it.
    ///
    /// The previous reader is woken. The message in its hands and its answers are interrupted for
    /// this reason, apart from answers that have outlived their generation: those still come.
    pub(crate) fn replace_reader(&self, why: &Interruption, change: impl FnOnce()) -> u32 {
        self.change_reader(why, |answer| !answer.is_detached, change).0
    }

    /// As [`Mailbox::replace_reader`], but interrupts all answers. Returns how many messages that
    /// affected.
    pub(crate) fn fence(&self, why: &Interruption, change: impl FnOnce()) -> FencedMessages {
        self.change_reader(why, |_| true, change).1
    }

    fn change_reader(
        &self,
        why: &Interruption,
        is_cut: impl Fn(&Answering<A>) -> bool,
        change: impl FnOnce(),
    ) -> (u32, FencedMessages) {
        let (reader_epoch, waker, interrupted, queued) = {
            let mut inner = self.lock();
            change();
            let reader_epoch = self.reader_epoch.fetch_add(1, Ordering::AcqRel) + 1;
            (inner.wants_mail, inner.wants_room, inner.wants_idle) = (false, false, false);
            let mut interrupted: Vec<_> = inner.interrupt().into_iter().collect();
            let answers = std::mem::take(&mut inner.answers).into_iter();
            let (cut, kept): (BTreeMap<_, _>, BTreeMap<_, _>) = answers.partition(|(_, answer)| is_cut(answer));
            inner.answers = kept;
            inner.counts.interrupted += cut.len() as u64;
            interrupted.extend(cut.into_values().map(|cut| cut.envelope));
            self.leave_shared(&mut inner);
            self.update_overload(&mut inner);
            let queued = if inner.closed.is_some() { inner.queue.len() as u32 } else { 0 };
            (reader_epoch, inner.waker.take(), interrupted, queued)
        };
        let begun = interrupted.len() as u32;
        for envelope in interrupted {
            envelope.interrupt(why);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        (reader_epoch, FencedMessages { begun, queued })
    }

    /// Wakes the reader.
    pub(crate) fn wake(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The worker is asked to stop, for this reason. If it stops for good, messages are refused
    /// from now on. Messages that have come through a plain `Addr` by now are in the queue.
    pub(crate) fn begin_drain(&self, why: Interruption) {
        let mut inner = self.lock();
        let is_final = why != Interruption::Restarted;
        if is_final && inner.closed.is_none() {
            inner.fetch(u32::MAX, &mut task::Context::from_waker(Waker::noop()), || self.stamp());
        }
        inner.closed = is_final.then_some(CloseReason::Stopped);
        inner.ending = why;
    }

    /// Why the worker was asked to stop last.
    pub(crate) fn ending(&self) -> Interruption {
        self.lock().ending.clone()
    }

    /// Accepts messages again.
    pub(crate) fn open(&self) {
        let mut inner = self.lock();
        (inner.closed, inner.ending, inner.is_drained) = (None, Interruption::Stopped, false);
        let mut late = std::mem::take(&mut inner.late);
        inner.queue.append(&mut late);
        drop(inner);
        if let Some((shared, worker)) = &self.shared {
            shared.open(*worker);
        }
    }

    /// Refuses messages from now on; those in the queue stay there until it is drained.
    pub(crate) fn close(&self, closing: CloseReason) {
        let mut inner = self.lock();
        inner.closed = Some(closing);
        inner.is_drained = inner.queue.is_empty() && inner.late.is_empty();
        drop(inner);
        if let Some((shared, worker)) = &self.shared {
            shared.close(*worker, closing);
        }
    }

    /// A worker that held its thread was replaced: removes the messages that may not wait any
    /// longer.
    pub(crate) fn replaced(&self) -> Undelivered<A> {
        let mut inner = self.lock();
        let (attempts_max, reason) = match self.rules.on_replace {
            OnReplace::Redeliver { attempts_max } => (attempts_max, DeadReason::Attempts),
            OnReplace::DeadLetter => (0, DeadReason::Replaced),
        };
        let mut items = Vec::new();
        for mut queued in std::mem::take(&mut inner.queue) {
            if queued.waiting.count_attempt() > attempts_max {
                items.push(queued.item);
            } else {
                inner.queue.push_back(queued);
            }
        }
        inner.counts.dead += items.len() as u64;
        self.update_overload(&mut inner);
        Undelivered { items, reason }
    }

    /// Takes the messages out of a closed mailbox that go on to the shard's new owner. Once there
    /// are none left, later ones are refused.
    pub(crate) fn take_moved(&self) -> Vec<Arc<dyn DynEnvelope<A>>> {
        let mut inner = self.lock();
        if inner.closed != Some(CloseReason::Stopped) {
            return Vec::new();
        }
        let (mut moved, mut rest) = (Vec::new(), VecDeque::new());
        let mut late = std::mem::take(&mut inner.late);
        inner.queue.append(&mut late);
        for queued in std::mem::take(&mut inner.queue) {
            match queued.item {
                Item::Envelope(envelope) if envelope.goes_on() => moved.push(envelope),
                item @ (Item::Envelope(_) | Item::Actix(_)) => rest.push_back(Queued { item, ..queued }),
            }
        }
        inner.queue = rest;
        inner.counts.moved += moved.len() as u64;
        inner.is_drained = moved.is_empty();
        self.update_overload(&mut inner);
        moved
    }

    /// Empties a closed mailbox; takes nothing if it is open again. The next message through a
    /// plain `Addr` calls `on_mail` on the thread of its sender, without the lock.
    pub(crate) fn drain<F>(&self, on_mail: F) -> Undelivered<A>
    where
        F: Fn() + Clone + Send + Sync + 'static,
    {
        let mut undelivered = Undelivered { items: Vec::new(), reason: DeadReason::Stopped };
        loop {
            let mut watch = None;
            let Undelivered { mut items, reason } = self.drain_once(|| {
                let new =
                    Arc::new(MailWatch { state: AtomicU8::new(MailWatch::<F>::DRAINING), on_mail: on_mail.clone() });
                Waker::from(watch.insert(new).clone())
            });
            undelivered.items.append(&mut items);
            undelivered.reason = reason;
            if watch.is_none_or(|watch| watch.arm()) {
                return undelivered;
            }
        }
    }

    fn drain_once(&self, waker: impl FnOnce() -> Waker) -> Undelivered<A> {
        let mut inner = self.lock();
        let reason = match inner.closed {
            Some(CloseReason::GaveUp) => DeadReason::GaveUp,
            Some(CloseReason::Stopped) => DeadReason::Stopped,
            None => return Undelivered { items: Vec::new(), reason: DeadReason::Stopped },
        };
        if inner.channel.is_some() {
            inner.fetch(u32::MAX, &mut task::Context::from_waker(&waker()), || self.stamp());
        }
        inner.is_drained = true;
        Undelivered { items: self.take_all(&mut inner), reason }
    }

    /// So many of the messages that were taken out last are no dead ones: they wait for another
    /// life of their entity, or go on.
    pub(crate) fn count_moved(&self, count: usize) {
        let mut inner = self.lock();
        inner.counts.dead -= count as u64;
        inner.counts.moved += count as u64;
    }

    /// Takes what is left, for the last time: the mailbox is about to be dropped.
    pub(crate) fn take_rest(&self) -> Undelivered<A> {
        let mut inner = self.lock();
        let reason = match inner.closed {
            Some(CloseReason::GaveUp) => DeadReason::GaveUp,
            Some(CloseReason::Stopped) | None => DeadReason::Stopped,
        };
        Undelivered { items: self.take_all(&mut inner), reason }
    }

    fn take_all(&self, inner: &mut Inner<A>) -> Vec<Item<A>> {
        let mut late = std::mem::take(&mut inner.late);
        inner.queue.append(&mut late);
        let items: Vec<Item<A>> = std::mem::take(&mut inner.queue).into_iter().map(|queued| queued.item).collect();
        inner.counts.dead += items.len() as u64;
        self.update_overload(inner);
        items
    }

    /// Updates whether the worker is overloaded, so that requests should go elsewhere. It is from
    /// three quarters of the queue's capacity on until the queue is below half of it, and while no
    /// further answer may be under way.
    fn update_overload(&self, inner: &mut Inner<A>) {
        let (length, capacity) = (inner.queue.len() as u64, u64::from(self.rules.capacity));
        let overloaded = if inner.overloaded { length * 2 >= capacity } else { length * 4 >= capacity * 3 };
        let overloaded = overloaded || inner.answers.len() >= self.rules.answers_max as usize;
        if overloaded != inner.overloaded {
            inner.overloaded = overloaded;
            self.cell.set_overloaded(overloaded);
        }
    }
}

impl<A: Actor<Context = Context<A>>> Inner<A> {
    /// Moves messages from actix's channel into the queue, while there is room. Returns whether
    /// there were any.
    fn fetch(&mut self, capacity: u32, task: &mut task::Context<'_>, stamp: impl Fn() -> Waiting) -> bool {
        let Some(channel) = &mut self.channel else { return false };
        let before = self.queue.len();
        while self.queue.len() < capacity as usize
            // The mailbox holds a sender, so the channel never ends.
            && let Poll::Ready(Some(envelope)) = Pin::new(&mut *channel).poll_next(task)
        {
            self.counts.accepted += 1;
            self.queue.push_back(Queued { item: Item::Actix(envelope), waiting: stamp() });
        }
        self.queue.len() > before
    }

    /// Moves messages from a plain `Addr` into the queue before an envelope is added. So both kinds
    /// of address keep the order in which one sender uses them. It costs nothing where no plain
    /// address was asked for.
    fn fetch_before_push(&mut self, capacity: u32, stamp: impl Fn() -> Waiting) {
        if self.channel.is_none() {
            return;
        }
        // A reader that waits for mail has left its waker in the channel, where it must stay.
        let waker = if self.wants_mail { self.waker.clone() } else { None };
        let waker = waker.as_ref().unwrap_or(Waker::noop());
        self.fetch(capacity, &mut task::Context::from_waker(waker), stamp);
    }

    fn register(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
    }

    /// Counts the envelope in flight as interrupted. Returns it if its sender can be notified.
    fn interrupt(&mut self) -> Option<Arc<dyn DynEnvelope<A>>> {
        let in_flight = self.in_flight.take()?;
        self.counts.interrupted += 1;
        match in_flight {
            InFlight::Envelope(envelope) => Some(envelope),
            InFlight::Actix => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use actix::{Handler, Message};

    use super::*;
    use crate::worker::status_cell::Cells;

    struct Idle;

    impl Actor for Idle {
        type Context = Context<Idle>;
    }

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Ping;

    impl Handler<Ping> for Idle {
        type Result = ();

        fn handle(&mut self, Ping: Ping, _: &mut Context<Idle>) {}
    }

    /// Sends a message when it is dropped: in the middle of the registration of its successor.
    struct SendsAtItsEnd(Addr<Idle>);

    impl Wake for SendsAtItsEnd {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for SendsAtItsEnd {
        fn drop(&mut self) {
            self.0.do_send(Ping);
        }
    }

    #[test]
    fn mail_that_comes_while_a_closed_mailbox_is_drained_is_found() {
        let rules = Rules {
            capacity: 8,
            overflow: Overflow::Reject,
            on_replace: OnReplace::default(),
            answers_max: 1,
            drain: Drain::None,
        };
        let mailbox = Arc::new(Mailbox::<Idle>::new(rules, Arc::new(Cells::default()).take(), None, None));
        let address = mailbox.address();
        let waker = Waker::from(Arc::new(SendsAtItsEnd(address.clone())));
        assert!(matches!(mailbox.take(0, &mut task::Context::from_waker(&waker), None), Taken::Nothing));
        drop(waker);
        mailbox.close(CloseReason::Stopped);
        // The reader's waker, too, is one of those that the mailbox holds.
        mailbox.wake();

        let (sender, calls) = mpsc::channel();
        let drained = mailbox.clone();
        let undelivered = mailbox.drain(move || sender.send(drained.depth()).unwrap());
        assert_eq!(undelivered.items.len(), 1, "sent meanwhile");
        assert_eq!(calls.try_recv(), Err(mpsc::TryRecvError::Empty), "the mailbox was locked");
        address.do_send(Ping);
        assert_eq!(calls.try_recv(), Ok(0), "told on the sender's thread");
        assert_eq!(mailbox.drain(|| ()).items.len(), 1);
        assert_eq!(mailbox.message_counts().dead, 2);
    }
}
