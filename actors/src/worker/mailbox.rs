//! `Mailbox`: the queue of one worker, which knows how many messages lie in it, where each of them
//! ends, and who may take the next.
//!
//! It is not actix's own channel, for three reasons: a bound there holds for each clone of an
//! address, so with many clones there is none; nobody can ask it how long it is; and a message that
//! a blocked handler has in its hands is out of everybody's reach. Here one lock holds the queue,
//! the waker of whoever reads it, the envelope that is being handled, and the sums. The sums always
//! add up: accepted is handled, interrupted, dead, answering and still there.
//!
//! A handler may return before its answer is there. The mailbox keeps such an envelope until the
//! answer comes, or cannot come any more. These envelopes have a bound (`answers_max`): at the
//! bound the reader takes no further envelope.
//!
//! A reader epoch is one reader's time in the slot. It is over when somebody else is given the
//! slot, and it is looked at under the lock: a void reader that looked before and acted after would
//! take a envelope, or leave its own waker, in the place of its successor.
//!
//! A plain `Addr` of actix still works. Its channel is made when the first one is asked for, and
//! emptied into the queue as long as there is room.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{self, Poll, Waker};

use actix::dev::Envelope as ActixEnvelope;
use actix::dev::channel::{AddressReceiver, AddressSender};
use actix::{Actor, Addr};
use futures_util::Stream;
use heartbeat_core::config::Drain;
use heartbeat_core::{Event, Interruption, WorkerId};

use crate::lock::lock;
use crate::worker::context::Context;
use crate::worker::dead_letter::DeadReason;
use crate::worker::envelope::DynEnvelope;
use crate::worker::send_error::SendError;
use crate::worker::shared_queue::SharedQueue;
use crate::worker::status_cell::CellRef;

/// What happens to a message that finds the queue full.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overflow {
    /// It is refused, and its sender hears of it: [`SendError::Full`].
    #[default]
    Reject,
    /// It is taken, and the message that has waited longest becomes a dead letter.
    DropOldest,
    /// It becomes a dead letter itself, at once, as if it had waited in vain.
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
    /// Three replacements.
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

/// Where the messages of one worker have ended, in all its lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct MessageCounts {
    /// Taken into the queue: all of the following together.
    pub accepted: u64,
    /// Handled to the end, with the answer if there is one.
    pub handled: u64,
    /// Begun, and not handled to the end: the worker failed, was replaced or dropped the answer.
    pub interrupted: u64,
    /// Never begun, and never will be.
    pub dead: u64,
    /// In the queue, or being handled.
    pub queued: u64,
    /// The handler has returned, and its answer is under way: it comes from a future, or from a
    /// sender that the worker keeps.
    pub answering: u64,
    /// Refused, and never in the queue.
    pub rejected: u64,
}

/// Why a queue is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CloseReason {
    Stopped,
    GaveUp,
}

impl CloseReason {
    /// What the sender of a message is told that comes then.
    pub(crate) fn refusal(self) -> SendError {
        match self {
            CloseReason::Stopped => SendError::Closed,
            CloseReason::GaveUp => SendError::GaveUp,
        }
    }
}

/// Something to be handled.
pub(crate) enum Item<A: Actor<Context = Context<A>>> {
    /// Sent through a `WorkerAddr`.
    Envelope(Arc<dyn DynEnvelope<A>>),
    /// Sent through an `Addr`.
    Actix(ActixEnvelope<A>),
}

struct Queued<A: Actor<Context = Context<A>>> {
    item: Item<A>,
    /// Replacements it has waited through.
    attempts: u32,
}

/// Letters that left the queue undelivered: they are dropped by the caller, since that runs their
/// users' code, which must not happen under the lock.
#[must_use]
pub(crate) struct Undelivered<A: Actor<Context = Context<A>>> {
    pub(crate) items: Vec<Item<A>>,
    pub(crate) reason: DeadReason,
}

/// The queue of one worker.
pub(crate) struct Mailbox<A: Actor<Context = Context<A>>> {
    inner: Mutex<Inner<A>>,
    /// Rises whenever the slot is given to somebody else.
    reader_epoch: AtomicU32,
    rules: Rules,
    cell: CellRef,
    /// actix's channel into this mailbox, if anybody has asked for an `Addr`.
    sender: OnceLock<AddressSender<A>>,
    /// The queue of the pool that its worker is a member of, and that worker's number.
    pub(crate) shared: Option<(Arc<SharedQueue<A>>, WorkerId)>,
}

struct Inner<A: Actor<Context = Context<A>>> {
    queue: VecDeque<Queued<A>>,
    channel: Option<AddressReceiver<A>>,
    /// How to wake whoever has the slot.
    waker: Option<Waker>,
    /// Whether a new envelope is a reason to.
    wants_mail: bool,
    /// Whether an answer that comes is a reason to, since there is then room for another one.
    wants_room: bool,
    /// Whether the last answer is a reason to, since the reader stops.
    wants_idle: bool,
    in_flight: Option<InFlight<A>>,
    /// Letters whose handlers have returned and whose answers are under way, in the order of their
    /// numbers.
    answers: BTreeMap<u64, Answering<A>>,
    next_answer: u64,
    closed: Option<CloseReason>,
    /// Why the worker was told to stop last.
    ending: Interruption,
    overloaded: bool,
    /// Whether a message in the pool's queue is a reason to wake the reader, too.
    wants_shared: bool,
    counts: MessageCounts,
}

/// An envelope whose answer is under way.
struct Answering<A: Actor<Context = Context<A>>> {
    envelope: Arc<dyn DynEnvelope<A>>,
    /// What its sender is told if the answer is dropped now; without it, that the handler did.
    why: Option<Interruption>,
    /// Whether the life that began it has ended. A future of its own on the thread may still
    /// answer.
    is_detached: bool,
}

/// What a reader finds when it asks for an envelope.
pub(crate) enum Taken<A: Actor<Context = Context<A>>> {
    /// This one, which is in flight from now on.
    Item(Item<A>),
    /// None; the reader is woken when one comes.
    Nothing,
    /// As many answers are under way as may be; the reader is woken when one comes.
    Full,
    /// The reader's reader epoch is over.
    Stale,
}

/// What a reader that stops still has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Draining {
    /// Whether it is to handle what lies in the queue.
    pub(crate) with_queue: bool,
    /// Whether nothing is left.
    pub(crate) is_done: bool,
}

/// What was cut off when a reader was fenced.
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

/// The envelope that is being handled, so that its sender can be told when the worker is replaced.
enum InFlight<A: Actor<Context = Context<A>>> {
    Envelope(Arc<dyn DynEnvelope<A>>),
    /// One that came through an `Addr`, and could not be kept.
    Actix,
}

impl<A: Actor<Context = Context<A>>> Mailbox<A> {
    pub(crate) fn new(rules: Rules, cell: CellRef, shared: Option<(Arc<SharedQueue<A>>, WorkerId)>) -> Mailbox<A> {
        let inner = Inner {
            queue: VecDeque::new(),
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
            // From the beginning, as its own queue is: messages wait until it has started.
            shared.open(*worker);
        }
        let reader_epoch = AtomicU32::new(0);
        Mailbox { inner: Mutex::new(inner), reader_epoch, rules, cell, sender: OnceLock::new(), shared }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<A>> {
        lock(&self.inner)
    }

    // ---- for senders -------------------------------------------------------------------------------------------------------------------

    /// Takes an envelope in, or says why not. What had to make room for it, or was not kept, is
    /// given back to be dropped.
    pub(crate) fn push(&self, envelope: Arc<dyn DynEnvelope<A>>) -> Result<Option<Undelivered<A>>, SendError> {
        let (waker, undelivered) = {
            let mut inner = self.lock();
            if let Some(closing) = inner.closed {
                inner.counts.rejected += 1;
                return Err(closing.refusal());
            }
            inner.fetch_before_push(self.rules.capacity);
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
            inner.queue.push_back(Queued { item: Item::Envelope(envelope), attempts: 0 });
            self.update_overload(&mut inner);
            let waker = if std::mem::take(&mut inner.wants_mail) { inner.waker.take() } else { None };
            (waker, undelivered)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(undelivered)
    }

    /// An address of actix's own. Of a mailbox that is closed meanwhile, the caller drains it once
    /// more.
    pub(crate) fn address(&self) -> Addr<A> {
        let sender = self.sender.get_or_init(|| {
            let (sender, receiver) = actix::dev::channel::channel(self.rules.capacity as usize);
            let mut inner = self.lock();
            inner.channel = Some(receiver);
            // Whoever sleeps here does not know of the channel yet.
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

    /// What the worker has to do: the message in hand, those that wait, and the answers under way.
    pub(crate) fn load(&self) -> u32 {
        let inner = self.lock();
        (inner.queue.len() + usize::from(inner.in_flight.is_some()) + inner.answers.len()) as u32
    }

    /// Messages that wait, those that came through a plain `Addr` while no reader took any
    /// included, and answers under way. If there are none, the message in hand.
    pub(crate) fn sample_queue(&self) -> u32 {
        let mut inner = self.lock();
        // Whoever wants mail has its waker in the channel, and has emptied it. Whoever waits for
        // something else will look for itself. A closed mailbox has a waker there, too, and keeps
        // it.
        if !inner.wants_mail
            && inner.closed.is_none()
            && inner.fetch(self.rules.capacity, &mut task::Context::from_waker(Waker::noop()))
        {
            self.update_overload(&mut inner);
        }
        (inner.queue.len() + inner.answers.len()).max(usize::from(inner.in_flight.is_some())) as u32
    }

    /// Where the messages have ended.
    pub(crate) fn message_counts(&self) -> MessageCounts {
        let inner = self.lock();
        let queued = inner.queue.len() as u64 + u64::from(inner.in_flight.is_some());
        MessageCounts { queued, answering: inner.answers.len() as u64, ..inner.counts }
    }

    // ---- for whoever has the slot --------------------------------------------------------------------------------------------------------

    /// Whether this reader epoch is over: whoever had the slot in it is void, and may do nothing
    /// more.
    pub(crate) fn is_stale(&self, reader_epoch: u32) -> bool {
        self.reader_epoch.load(Ordering::Acquire) != reader_epoch
    }

    /// The next envelope in `reader_epoch`.
    pub(crate) fn take(&self, reader_epoch: u32, task: &mut task::Context<'_>) -> Taken<A> {
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
        // What comes through a plain `Addr` once the mailbox is closed is for whoever drains it.
        let came = inner.closed.is_none() && inner.fetch(self.rules.capacity, task);
        let next = inner.queue.pop_front().map(|queued| queued.item);
        match self.or_shared(next, &mut inner, task) {
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

    /// Says how to wake the reader of `reader_epoch` for anything but mail. Returns whether the
    /// reader epoch is not over.
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

    /// What the reader is to take up next: `own`, or else an envelope of the pool. If there is
    /// none, it is woken when there is one.
    fn or_shared(&self, own: Option<Item<A>>, inner: &mut Inner<A>, task: &task::Context<'_>) -> Option<Item<A>> {
        let Some((shared, worker)) = &self.shared else { return own };
        if own.is_some() {
            self.leave_shared(inner);
            return own;
        }
        let envelope = shared.take(*worker, task.waker());
        inner.wants_shared = envelope.is_none();
        inner.counts.accepted += u64::from(envelope.is_some());
        envelope.map(Item::Envelope)
    }

    /// The reader has something else to do than to wait for an envelope of the pool.
    fn leave_shared(&self, inner: &mut Inner<A>) {
        if let (true, Some((shared, worker))) = (std::mem::take(&mut inner.wants_shared), &self.shared) {
            shared.is_not_idle(*worker);
        }
    }

    /// The envelope that a plain `Addr` brought is in flight in this form.
    pub(crate) fn keep_in_flight(&self, reader_epoch: u32, envelope: Arc<dyn DynEnvelope<A>>) {
        let mut inner = self.lock();
        if !self.is_stale(reader_epoch) {
            inner.in_flight = Some(InFlight::Envelope(envelope));
        }
    }

    /// The handler has returned, and its answer is there. Returns whether that was in time: `false`
    /// if the reader epoch is over, and the sender was told long ago.
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

    /// The handler has returned, and its answer is under way. Returns the answer's number; none if
    /// the reader epoch is over.
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

    /// An answer has come. Returns whether it may be delivered: not if its sender was told that
    /// there will be none.
    pub(crate) fn finish_answer(&self, number: u64) -> bool {
        self.end_answer(number, |counts| counts.handled += 1).is_some()
    }

    /// An answer was dropped. Returns what its sender is to be told, unless it was told already.
    pub(crate) fn drop_answer(&self, number: u64) -> Option<Interruption> {
        let answer = self.end_answer(number, |counts| counts.interrupted += 1)?;
        Some(answer.why.unwrap_or(Interruption::Unanswered))
    }

    /// Takes out an answer that is not under way any more, and wakes a reader that waits for that.
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

    /// What the reader of `reader_epoch`, which stops, still has to do. If anything is left, it is
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

    /// The life of `reader_epoch` ends: if its answers are dropped with it, their senders are told
    /// why.
    pub(crate) fn end_generation(&self, reader_epoch: u32, why: Option<&Interruption>) {
        let mut inner = self.lock();
        if !self.is_stale(reader_epoch) {
            let why = why.unwrap_or(&inner.ending).clone();
            for answer in inner.answers.values_mut().filter(|answer| !answer.is_detached) {
                answer.why = Some(why.clone());
            }
        }
    }

    /// The life of `reader_epoch` has ended: what is under way still comes from futures of their
    /// own, which actix leaves on the thread.
    pub(crate) fn detach_answers(&self, reader_epoch: u32) {
        let mut inner = self.lock();
        if !self.is_stale(reader_epoch) {
            for answer in inner.answers.values_mut() {
                (answer.why, answer.is_detached) = (None, true);
            }
        }
    }

    /// The envelope in flight was not opened after all.
    pub(crate) fn discard_in_flight(&self, reader_epoch: u32) {
        let mut inner = self.lock();
        if !self.is_stale(reader_epoch) && inner.in_flight.take().is_some() {
            inner.counts.dead += 1;
        }
    }

    /// The handler will not return: its sender is told why.
    pub(crate) fn interrupt(&self, reader_epoch: u32, why: &Interruption) {
        let in_flight = {
            let mut inner = self.lock();
            if self.is_stale(reader_epoch) { None } else { inner.interrupt() }
        };
        if let Some(envelope) = in_flight {
            envelope.interrupt(why);
        }
    }

    // ---- for the supervisor --------------------------------------------------------------------------------------------------------------

    /// Begins a new reader epoch, in which another reader has the slot; `change` is done before any
    /// thread can see it. The senders of the envelope in flight and of the answers of the life that
    /// had the slot are told that they were interrupted and why, and that life is woken. Answers
    /// that outlive their life still come.
    pub(crate) fn replace_reader(&self, why: &Interruption, change: impl FnOnce()) -> u32 {
        self.change_reader(why, |answer| !answer.is_detached, change).0
    }

    /// As [`Mailbox::replace_reader`], but no answer of any former life comes any more. Says what
    /// was cut.
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

    /// Wakes whoever has the slot.
    pub(crate) fn wake(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The worker is told to stop, for this reason. If it is for good, envelopes are refused from
    /// now on; those that have come through a plain `Addr` by now are in the queue.
    pub(crate) fn begin_drain(&self, why: Interruption) {
        let mut inner = self.lock();
        let is_final = why != Interruption::Restarted;
        if is_final && inner.closed.is_none() {
            inner.fetch(u32::MAX, &mut task::Context::from_waker(Waker::noop()));
        }
        inner.closed = is_final.then_some(CloseReason::Stopped);
        inner.ending = why;
    }

    /// Why the worker was told to stop last.
    pub(crate) fn ending(&self) -> Interruption {
        self.lock().ending.clone()
    }

    /// Takes envelopes in again.
    pub(crate) fn open(&self) {
        let mut inner = self.lock();
        (inner.closed, inner.ending) = (None, Interruption::Stopped);
        drop(inner);
        if let Some((shared, worker)) = &self.shared {
            shared.open(*worker);
        }
    }

    /// Refuses envelopes from now on; those in the queue stay there until it is drained.
    pub(crate) fn close(&self, closing: CloseReason) {
        self.lock().closed = Some(closing);
        if let Some((shared, worker)) = &self.shared {
            shared.close(*worker, closing);
        }
    }

    /// A worker that held its thread was replaced: takes out those envelopes that may not wait any
    /// longer.
    pub(crate) fn replaced(&self) -> Undelivered<A> {
        let mut inner = self.lock();
        let (attempts_max, reason) = match self.rules.on_replace {
            OnReplace::Redeliver { attempts_max } => (attempts_max, DeadReason::Attempts),
            OnReplace::DeadLetter => (0, DeadReason::Replaced),
        };
        let mut items = Vec::new();
        for mut queued in std::mem::take(&mut inner.queue) {
            queued.attempts += 1;
            if queued.attempts > attempts_max {
                items.push(queued.item);
            } else {
                inner.queue.push_back(queued);
            }
        }
        inner.counts.dead += items.len() as u64;
        self.update_overload(&mut inner);
        Undelivered { items, reason }
    }

    /// Takes out what lies in a closed mailbox; nothing if it is open again. `waker` is woken by
    /// the next message that a plain `Addr` brings.
    pub(crate) fn drain(&self, waker: impl FnOnce() -> Waker) -> Undelivered<A> {
        let mut inner = self.lock();
        let reason = match inner.closed {
            Some(CloseReason::GaveUp) => DeadReason::GaveUp,
            Some(CloseReason::Stopped) => DeadReason::Stopped,
            None => return Undelivered { items: Vec::new(), reason: DeadReason::Stopped },
        };
        if inner.channel.is_some() {
            inner.fetch(u32::MAX, &mut task::Context::from_waker(&waker()));
        }
        Undelivered { items: self.take_all(&mut inner), reason }
    }

    /// Takes out what is left, for the last time: the mailbox goes.
    pub(crate) fn take_rest(&self) -> Undelivered<A> {
        let mut inner = self.lock();
        let reason = match inner.closed {
            Some(CloseReason::GaveUp) => DeadReason::GaveUp,
            Some(CloseReason::Stopped) | None => DeadReason::Stopped,
        };
        Undelivered { items: self.take_all(&mut inner), reason }
    }

    fn take_all(&self, inner: &mut Inner<A>) -> Vec<Item<A>> {
        let items: Vec<Item<A>> = std::mem::take(&mut inner.queue).into_iter().map(|queued| queued.item).collect();
        inner.counts.dead += items.len() as u64;
        self.update_overload(inner);
        items
    }

    /// Notes whether requests should go elsewhere: the queue is long, from three quarters of its
    /// capacity on until it is below half of it, or no further answer may be under way.
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
    /// Moves what came through actix's channel into the queue, while there is room. Returns whether
    /// anything came.
    fn fetch(&mut self, capacity: u32, task: &mut task::Context<'_>) -> bool {
        let Some(channel) = &mut self.channel else { return false };
        let before = self.queue.len();
        while self.queue.len() < capacity as usize
            // The mailbox holds a sender, so the channel never ends.
            && let Poll::Ready(Some(envelope)) = Pin::new(&mut *channel).poll_next(task)
        {
            self.counts.accepted += 1;
            self.queue.push_back(Queued { item: Item::Actix(envelope), attempts: 0 });
        }
        self.queue.len() > before
    }

    /// Takes in what came through a plain `Addr` before the envelope that is about to be put into
    /// the queue, so that both kinds of address keep the order in which one sender uses them. It
    /// costs nothing where no plain address was asked for.
    fn fetch_before_push(&mut self, capacity: u32) {
        if self.channel.is_none() {
            return;
        }
        // A reader that sleeps until mail comes has left its waker in the channel; it is to stay
        // there.
        let waker = if self.wants_mail { self.waker.clone() } else { None };
        let waker = waker.as_ref().unwrap_or(Waker::noop());
        self.fetch(capacity, &mut task::Context::from_waker(waker));
    }

    fn register(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
    }

    /// Counts the envelope in flight as interrupted, and gives it back if its sender can be told.
    fn interrupt(&mut self) -> Option<Arc<dyn DynEnvelope<A>>> {
        let in_flight = self.in_flight.take()?;
        self.counts.interrupted += 1;
        match in_flight {
            InFlight::Envelope(envelope) => Some(envelope),
            InFlight::Actix => None,
        }
    }
}
