//! `SharedQueue`: the one queue of a pool. Each member takes the next message when it is idle.
//!
//! It does for supervised workers what a `SyncArbiter` does. No message waits behind a slow one
//! while another member is idle. A member that fails takes along only the message in its hands. A
//! member looks here after its own queue, which holds the messages that were sent to that member
//! alone.
//!
//! A member that finds nothing leaves its waker. A message wakes two members: another worker may
//! hold the thread of one at this moment, and the other one then takes the message. Once no member
//! is left that can ever take a message, new ones are refused and those that wait become dead
//! letters.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use actix::Actor;
use heartbeat_core::WorkerId;

use crate::clock::Clock;
use crate::lock::{get_mut, lock};
use crate::worker::context::Context;
use crate::worker::dead_letter::DeadReason;
use crate::worker::envelope::DynEnvelope;
use crate::worker::histogram::Waiting;
use crate::worker::mailbox::{CloseReason, Item, MessageCounts, Overflow, Undelivered};
use crate::worker::send_error::SendError;

/// Idle members that are woken for one message.
const WOKEN: usize = 2;

/// The queue of a pool.
pub(crate) struct SharedQueue<A: Actor<Context = Context<A>>> {
    inner: Mutex<Inner<A>>,
    capacity: u32,
    overflow: Overflow,
    /// Tells since when messages wait, if that is wanted.
    stamps: Option<Clock>,
}

struct Inner<A: Actor<Context = Context<A>>> {
    queue: VecDeque<(Arc<dyn DynEnvelope<A>>, Waiting)>,
    /// How to wake the members that found it empty.
    idle: BTreeMap<WorkerId, Waker>,
    /// Members that may take messages, now or after a restart.
    open: BTreeSet<WorkerId>,
    /// Open members that were asked to stop. They leave the queue to the others as long as there
    /// are any.
    stopping: BTreeSet<WorkerId>,
    /// Why the last member was closed.
    closing: CloseReason,
    /// What became of the messages that no member took. Messages that a member took are in that
    /// member's counts.
    counts: MessageCounts,
}

impl<A: Actor<Context = Context<A>>> Inner<A> {
    /// Removes the wakers of some idle members.
    fn take_idle_wakers(&mut self) -> Vec<Waker> {
        (0..WOKEN).filter_map(|_| self.idle.pop_first()).map(|(_, waker)| waker).collect()
    }

    fn take_dead(&mut self, reason: DeadReason) -> Undelivered<A> {
        let items: Vec<Item<A>> = self.queue.drain(..).map(|(envelope, _)| Item::Envelope(envelope)).collect();
        self.counts.dead += items.len() as u64;
        Undelivered { items, reason }
    }
}

impl<A: Actor<Context = Context<A>>> SharedQueue<A> {
    pub(crate) fn new(capacity: u32, overflow: Overflow, stamps: Option<Clock>) -> SharedQueue<A> {
        let inner = Inner {
            queue: VecDeque::new(),
            idle: BTreeMap::new(),
            open: BTreeSet::new(),
            stopping: BTreeSet::new(),
            closing: CloseReason::Stopped,
            counts: MessageCounts::default(),
        };
        SharedQueue { inner: Mutex::new(inner), capacity, overflow, stamps }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<A>> {
        lock(&self.inner)
    }

    // ---- for senders ----

    /// Adds an envelope to the queue. Returns the envelopes that must be dropped: the one that had
    /// to make room, or the new one itself.
    pub(crate) fn push(&self, envelope: Arc<dyn DynEnvelope<A>>) -> Result<Option<Undelivered<A>>, SendError> {
        let waiting = self.stamps.as_ref().map_or(Waiting::default(), Waiting::since_now);
        let (wakers, undelivered) = {
            let mut inner = self.lock();
            if inner.open.is_empty() {
                inner.counts.rejected += 1;
                return Err(inner.closing.refusal());
            }
            let is_full = inner.queue.len() >= self.capacity as usize;
            let undelivered =
                |envelope| Some(Undelivered { items: vec![Item::Envelope(envelope)], reason: DeadReason::Overflow });
            let mut dropped = None;
            match self.overflow {
                Overflow::Reject if is_full => {
                    inner.counts.rejected += 1;
                    return Err(SendError::Full);
                }
                Overflow::DropNewest if is_full => {
                    inner.counts.accepted += 1;
                    inner.counts.dead += 1;
                    return Ok(undelivered(envelope));
                }
                Overflow::DropOldest if is_full => {
                    inner.counts.dead += 1;
                    dropped = inner.queue.pop_front().and_then(|(oldest, _)| undelivered(oldest));
                }
                Overflow::Reject | Overflow::DropOldest | Overflow::DropNewest => {}
            }
            inner.counts.accepted += 1;
            inner.queue.push_back((envelope, waiting));
            (inner.take_idle_wakers(), dropped)
        };
        // Waking runs code of the runtime, so not under the lock.
        wakers.into_iter().for_each(Waker::wake);
        Ok(undelivered)
    }

    /// Messages that wait.
    pub(crate) fn depth(&self) -> u32 {
        self.lock().queue.len() as u32
    }

    /// What became of the messages that no member took.
    pub(crate) fn message_counts(&self) -> MessageCounts {
        let inner = self.lock();
        MessageCounts { queued: inner.queue.len() as u64, ..inner.counts }
    }

    // ---- for members ----

    /// The next envelope for this member, which counts it from now on. If there is none, the member
    /// is woken when one comes.
    pub(crate) fn take(&self, member: WorkerId, waker: &Waker) -> Option<(Arc<dyn DynEnvelope<A>>, Waiting)> {
        let (envelope, wakers) = {
            let mut inner = self.lock();
            let leaves_it = inner.stopping.contains(&member) && inner.stopping.len() < inner.open.len();
            let envelope = if leaves_it { None } else { inner.queue.pop_front() };
            match &envelope {
                Some(_) => inner.counts.accepted -= 1,
                None if leaves_it => {}
                None => {
                    inner.idle.insert(member, waker.clone());
                }
            }
            // Some members that were woken for several messages may not come.
            let wakers =
                if envelope.is_some() && !inner.queue.is_empty() { inner.take_idle_wakers() } else { Vec::new() };
            (envelope, wakers)
        };
        wakers.into_iter().for_each(Waker::wake);
        envelope
    }

    /// Whether messages wait that this member, which was asked to stop, must take since no other
    /// one will.
    pub(crate) fn waits_for(&self, member: WorkerId) -> bool {
        let inner = self.lock();
        !inner.queue.is_empty() && inner.open.contains(&member) && inner.stopping.len() == inner.open.len()
    }

    /// This member is busy, or has another runner.
    pub(crate) fn is_not_idle(&self, member: WorkerId) {
        self.lock().idle.remove(&member);
    }

    // ---- for the supervisor ----

    /// This member may take messages from now on.
    pub(crate) fn open(&self, member: WorkerId) {
        let mut inner = self.lock();
        inner.open.insert(member);
        inner.stopping.remove(&member);
    }

    /// This member was asked to stop.
    pub(crate) fn stop(&self, member: WorkerId) {
        let mut inner = self.lock();
        if inner.open.contains(&member) {
            inner.stopping.insert(member);
        }
    }

    /// This member takes no further messages.
    pub(crate) fn close(&self, member: WorkerId, closing: CloseReason) {
        let mut inner = self.lock();
        inner.idle.remove(&member);
        inner.stopping.remove(&member);
        if inner.open.remove(&member) {
            inner.closing = closing;
        }
    }

    /// The messages that no member can take, once the last one is closed.
    pub(crate) fn take_dead(&self) -> Option<Undelivered<A>> {
        let mut inner = self.lock();
        if !inner.open.is_empty() || inner.queue.is_empty() {
            return None;
        }
        let reason = match inner.closing {
            CloseReason::GaveUp => DeadReason::GaveUp,
            CloseReason::Stopped => DeadReason::Stopped,
        };
        Some(inner.take_dead(reason))
    }
}

impl<A: Actor<Context = Context<A>>> Drop for SharedQueue<A> {
    fn drop(&mut self) {
        // No member is left, and the last one has emptied the queue, unless it lost its thread.
        let inner = get_mut(&mut self.inner);
        for (envelope, _) in inner.queue.drain(..) {
            envelope.dead_letter(DeadReason::Stopped);
        }
    }
}
