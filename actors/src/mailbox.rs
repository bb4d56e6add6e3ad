//! `Mailbox`: the queue of one worker, which knows how many messages lie in it, where each of them ends, and who may take the next.
//!
//! It is not actix's own channel, for three reasons: a bound there holds for each clone of an address, so with many clones there is none;
//! nobody can ask it how long it is; and a message that a blocked handler has in its hands is out of everybody's reach. Here one lock holds
//! the queue, the waker of whoever reads it, the letter that is being handled, and the sums. The sums always add up: accepted is handled,
//! interrupted, dead and still there.
//!
//! A term is one reader's time in the seat. It is over when somebody else is given the seat, and it is looked at under the lock: a void reader
//! that looked before and acted after would take a letter, or leave its own waker, in the place of its successor.
//!
//! A plain `Addr` of actix still works. Its channel is made when the first one is asked for, and emptied into the queue as long as there is room.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{self, Poll, Waker};

use actix::dev::Envelope;
use actix::dev::channel::{AddressReceiver, AddressSender};
use actix::{Actor, Addr};
use futures_util::Stream;
use heartbeat_core::Interruption;

use crate::cell::CellRef;
use crate::context::Context;
use crate::letter::{DeadReason, Post};
use crate::worker::SendError;

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

/// What happens to the queue of a worker that held its thread and was replaced. After any other failure the queue is kept as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnReplace {
    /// The replacement gets it. A message that has waited through more than `attempts_max` such replacements becomes a dead letter.
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
}

/// Where the messages of one worker have ended, in all its lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Fates {
    /// Taken into the queue: all of the following together.
    pub accepted: u64,
    /// Handled to the end.
    pub handled: u64,
    /// Begun, and not handled to the end: the worker panicked or was replaced meanwhile.
    pub interrupted: u64,
    /// Never begun, and never will be.
    pub dead: u64,
    /// In the queue, or being handled.
    pub queued: u64,
    /// Refused, and never in the queue.
    pub rejected: u64,
}

/// Why a queue is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Closing {
    Stopped,
    GaveUp,
}

/// Something to be handled.
pub(crate) enum Item<A: Actor<Context = Context<A>>> {
    /// Sent through a `WorkerAddr`.
    Letter(Arc<dyn Post<A>>),
    /// Sent through an `Addr`.
    Envelope(Envelope<A>),
}

struct Queued<A: Actor<Context = Context<A>>> {
    item: Item<A>,
    /// Replacements it has waited through.
    attempts: u32,
}

/// Letters that left the queue unopened: they are dropped by the caller, since that runs their users' code, which must not happen under the lock.
#[must_use]
pub(crate) struct Unopened<A: Actor<Context = Context<A>>> {
    pub(crate) items: Vec<Item<A>>,
    pub(crate) reason: DeadReason,
}

/// The queue of one worker.
pub(crate) struct Mailbox<A: Actor<Context = Context<A>>> {
    inner: Mutex<Inner<A>>,
    /// Rises whenever the seat is given to somebody else.
    term: AtomicU32,
    rules: Rules,
    cell: CellRef,
    /// actix's channel into this mailbox, if anybody has asked for an `Addr`.
    sender: OnceLock<AddressSender<A>>,
}

struct Inner<A: Actor<Context = Context<A>>> {
    queue: VecDeque<Queued<A>>,
    channel: Option<AddressReceiver<A>>,
    /// How to wake whoever has the seat.
    waker: Option<Waker>,
    /// Whether a new letter is a reason to.
    wants_mail: bool,
    in_flight: Option<InFlight<A>>,
    closed: Option<Closing>,
    /// Why the worker was told to stop last.
    ending: Interruption,
    overloaded: bool,
    fates: Fates,
}

/// The letter that is being handled, so that its sender can be told when the worker is replaced.
enum InFlight<A: Actor<Context = Context<A>>> {
    Letter(Arc<dyn Post<A>>),
    /// One that came through an `Addr`, and could not be kept.
    Envelope,
}

impl<A: Actor<Context = Context<A>>> Mailbox<A> {
    pub(crate) fn new(rules: Rules, cell: CellRef) -> Mailbox<A> {
        let inner = Inner {
            queue: VecDeque::new(),
            channel: None,
            waker: None,
            wants_mail: false,
            in_flight: None,
            closed: None,
            ending: Interruption::Stopped,
            overloaded: false,
            fates: Fates::default(),
        };
        Mailbox { inner: Mutex::new(inner), term: AtomicU32::new(0), rules, cell, sender: OnceLock::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<A>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- for senders -------------------------------------------------------------------------------------------------------------------

    /// Takes a letter in, or says why not. What had to make room for it, or was not kept, is given back to be dropped.
    pub(crate) fn push(&self, letter: Arc<dyn Post<A>>) -> Result<Option<Unopened<A>>, SendError> {
        let (waker, unopened) = {
            let mut inner = self.lock();
            if let Some(closing) = inner.closed {
                inner.fates.rejected += 1;
                return Err(match closing {
                    Closing::Stopped => SendError::Closed,
                    Closing::GaveUp => SendError::GaveUp,
                });
            }
            let mut unopened = None;
            let is_full = inner.queue.len() >= self.rules.capacity as usize;
            match self.rules.overflow {
                Overflow::Reject if is_full => {
                    inner.fates.rejected += 1;
                    return Err(SendError::Full);
                }
                Overflow::DropNewest if is_full => {
                    inner.fates.accepted += 1;
                    inner.fates.dead += 1;
                    return Ok(Some(Unopened { items: vec![Item::Letter(letter)], reason: DeadReason::Overflow }));
                }
                Overflow::DropOldest if is_full => {
                    let oldest = inner.queue.pop_front();
                    inner.fates.dead += 1;
                    unopened = oldest.map(|oldest| Unopened { items: vec![oldest.item], reason: DeadReason::Overflow });
                }
                Overflow::Reject | Overflow::DropOldest | Overflow::DropNewest => {}
            }
            inner.fates.accepted += 1;
            inner.queue.push_back(Queued { item: Item::Letter(letter), attempts: 0 });
            self.mark(&mut inner);
            let waker = if std::mem::take(&mut inner.wants_mail) { inner.waker.take() } else { None };
            (waker, unopened)
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(unopened)
    }

    /// An address of actix's own.
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

    /// Messages that wait, those that came through a plain `Addr` while nobody took any included.
    pub(crate) fn look(&self) -> u32 {
        let mut inner = self.lock();
        // Whoever wants mail has its waker in the channel, and has emptied it. Whoever waits for something else will look for itself.
        if !inner.wants_mail && inner.fetch(self.rules.capacity, &mut task::Context::from_waker(Waker::noop())) {
            self.mark(&mut inner);
        }
        inner.queue.len() as u32
    }

    /// Where the messages have ended.
    pub(crate) fn fates(&self) -> Fates {
        let inner = self.lock();
        let queued = inner.queue.len() as u64 + u64::from(inner.in_flight.is_some());
        Fates { queued, ..inner.fates }
    }

    // ---- for whoever has the seat --------------------------------------------------------------------------------------------------------

    /// Whether this term is over: whoever had the seat in it is void, and may do nothing more.
    pub(crate) fn is_over(&self, term: u32) -> bool {
        self.term.load(Ordering::Acquire) != term
    }

    /// The next letter in `term`, which is in flight from now on; `Ready(None)` if that term is over. If there is none, the reader is woken when
    /// one comes.
    pub(crate) fn take(&self, term: u32, task: &mut task::Context<'_>) -> Poll<Option<Item<A>>> {
        let mut inner = self.lock();
        if self.is_over(term) {
            return Poll::Ready(None);
        }
        let came = inner.fetch(self.rules.capacity, task);
        match inner.queue.pop_front() {
            Some(Queued { item, .. }) => {
                inner.in_flight = Some(match &item {
                    Item::Letter(letter) => InFlight::Letter(letter.clone()),
                    Item::Envelope(_) => InFlight::Envelope,
                });
                if came || inner.overloaded {
                    self.mark(&mut inner);
                }
                Poll::Ready(Some(item))
            }
            None => {
                inner.register(task.waker());
                inner.wants_mail = true;
                Poll::Pending
            }
        }
    }

    /// Says how to wake the reader of `term` for anything but mail. Returns whether the term is not over.
    pub(crate) fn register(&self, term: u32, waker: &Waker) -> bool {
        let mut inner = self.lock();
        if self.is_over(term) {
            return false;
        }
        inner.register(waker);
        inner.wants_mail = false;
        true
    }

    /// The letter that a plain `Addr` brought is in flight in this form.
    pub(crate) fn keep_in_flight(&self, term: u32, letter: Arc<dyn Post<A>>) {
        let mut inner = self.lock();
        if !self.is_over(term) {
            inner.in_flight = Some(InFlight::Letter(letter));
        }
    }

    /// The handler has returned. Returns whether that was in time: `false` if the term is over, and the sender was told long ago.
    pub(crate) fn finish(&self, term: u32) -> bool {
        let mut inner = self.lock();
        if self.is_over(term) {
            return false;
        }
        if inner.in_flight.take().is_some() {
            inner.fates.handled += 1;
        }
        true
    }

    /// The letter in flight was not opened after all.
    pub(crate) fn discard(&self, term: u32) {
        let mut inner = self.lock();
        if !self.is_over(term) && inner.in_flight.take().is_some() {
            inner.fates.dead += 1;
        }
    }

    /// The handler will not return: its sender is told why.
    pub(crate) fn interrupt(&self, term: u32, why: &Interruption) {
        let in_flight = {
            let mut inner = self.lock();
            if self.is_over(term) { None } else { inner.interrupt() }
        };
        tell_interrupted(in_flight, why);
    }

    // ---- for the supervisor --------------------------------------------------------------------------------------------------------------

    /// Begins a new term, in which somebody else has the seat; `change` is done before anybody can see it. Whoever waits for the letter in flight
    /// is told that it was interrupted and why, and whoever had the seat is woken.
    pub(crate) fn begin_term(&self, why: Interruption, change: impl FnOnce()) -> u32 {
        let (term, waker, in_flight) = {
            let mut inner = self.lock();
            change();
            let term = self.term.fetch_add(1, Ordering::AcqRel) + 1;
            inner.wants_mail = false;
            (term, inner.waker.take(), inner.interrupt())
        };
        tell_interrupted(in_flight, &why);
        if let Some(waker) = waker {
            waker.wake();
        }
        term
    }

    /// Wakes whoever has the seat.
    pub(crate) fn wake(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Notes why the worker is told to stop.
    pub(crate) fn set_ending(&self, why: Interruption) {
        self.lock().ending = why;
    }

    /// Why the worker was told to stop last.
    pub(crate) fn ending(&self) -> Interruption {
        self.lock().ending.clone()
    }

    /// Takes letters in again.
    pub(crate) fn open(&self) {
        self.lock().closed = None;
    }

    /// Refuses letters from now on; those in the queue stay there for whoever drains it.
    pub(crate) fn close(&self, closing: Closing) {
        self.lock().closed = Some(closing);
    }

    /// A worker that held its thread was replaced: takes out those letters that may not wait any longer.
    pub(crate) fn replaced(&self) -> Unopened<A> {
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
        inner.fates.dead += items.len() as u64;
        self.mark(&mut inner);
        Unopened { items, reason }
    }

    /// Takes out everything; with `task`, whatever comes later wakes it. `None` if `term` is over.
    pub(crate) fn drain(&self, term: u32, task: Option<&mut task::Context<'_>>) -> Option<Unopened<A>> {
        let mut inner = self.lock();
        if self.is_over(term) {
            return None;
        }
        if let Some(task) = task {
            inner.fetch(u32::MAX, task);
            inner.register(task.waker());
            inner.wants_mail = true;
        }
        let items: Vec<Item<A>> = std::mem::take(&mut inner.queue).into_iter().map(|queued| queued.item).collect();
        inner.fates.dead += items.len() as u64;
        self.mark(&mut inner);
        let reason = match inner.closed {
            Some(Closing::GaveUp) => DeadReason::GaveUp,
            Some(Closing::Stopped) | None => DeadReason::Stopped,
        };
        Some(Unopened { items, reason })
    }

    /// The term that is on.
    pub(crate) fn term(&self) -> u32 {
        self.term.load(Ordering::Acquire)
    }

    /// Notes whether the queue is long: from three quarters of its capacity on, until it is below half of it.
    fn mark(&self, inner: &mut Inner<A>) {
        let (length, capacity) = (inner.queue.len() as u64, u64::from(self.rules.capacity));
        let overloaded = if inner.overloaded { length * 2 >= capacity } else { length * 4 >= capacity * 3 };
        if overloaded != inner.overloaded {
            inner.overloaded = overloaded;
            self.cell.set_overloaded(overloaded);
        }
    }
}

impl<A: Actor<Context = Context<A>>> Inner<A> {
    /// Moves what came through actix's channel into the queue, while there is room. Returns whether anything came.
    fn fetch(&mut self, capacity: u32, task: &mut task::Context<'_>) -> bool {
        let Some(channel) = &mut self.channel else { return false };
        let before = self.queue.len();
        while self.queue.len() < capacity as usize
            // The mailbox holds a sender, so the channel never ends.
            && let Poll::Ready(Some(envelope)) = Pin::new(&mut *channel).poll_next(task)
        {
            self.fates.accepted += 1;
            self.queue.push_back(Queued { item: Item::Envelope(envelope), attempts: 0 });
        }
        self.queue.len() > before
    }

    fn register(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
    }

    fn interrupt(&mut self) -> Option<InFlight<A>> {
        let in_flight = self.in_flight.take();
        self.fates.interrupted += u64::from(in_flight.is_some());
        in_flight
    }
}

fn tell_interrupted<A: Actor<Context = Context<A>>>(in_flight: Option<InFlight<A>>, why: &Interruption) {
    match in_flight {
        Some(InFlight::Letter(letter)) => letter.interrupt(why),
        Some(InFlight::Envelope) | None => {}
    }
}
