//! `Schedule`: where the sender's time-table lies on our clock.
//!
//! A bus line whose buses all leave on the hour, each numbered: from any bus that arrives you can tell how late it is, and which ones never
//! came. Heartbeats carry the number of their slot and the time to the next one, so the same holds for them, even where heartbeats are lost or
//! the sender slept through some: lateness is arrival less schedule, whatever was missed in between.
//!
//! Slot and interval come from the network and may be nonsense, or the sender's clock may have stood still while its machine was suspended.
//! Then the old time-table says nothing of the new one, and a new one starts with the arrival at hand.

use std::time::Duration;

use super::Arrival;
use crate::time::{Instant, nanos};

/// Intervals by which a heartbeat may come ahead of every other before we say that the time-table has moved.
const AHEAD_MAX: i64 = 8;

/// Intervals for which all heartbeats must come later than expected by more than one interval before we say that the time-table has moved.
const BEHIND_MAX: i64 = 16;

/// The sender's time-table.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// Arrival of the newest heartbeat; before the first one, the start of watching. Nanoseconds.
    newest: i64,
    /// Its place in the time-table, in nanoseconds from the same origin: where it would have arrived if it took as long as the first one.
    due: i64,
    /// From it to the next one, as it announced. Nanoseconds, over zero.
    interval: i64,
    /// Since when all heartbeats have come more than an interval too late; `i64::MAX` if the newest did not.
    behind_since: i64,
    /// Whether a heartbeat has come at all.
    begun: bool,
}

/// A heartbeat's place in the time-table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// How much later it came than its slot asks for, in nanoseconds, measured from the first heartbeat of this time-table.
    pub(super) late: i64,
    /// Whether a new time-table starts with it: what was learnt of lateness is void.
    pub(super) anew: bool,
}

impl Schedule {
    /// The time-table of a sender that says it sends every `interval`, watched since `now`.
    pub(super) fn new(interval: Duration, now: Instant) -> Schedule {
        let now = signed(now);
        Schedule { newest: now, due: now, interval: span(interval), behind_since: i64::MAX, begun: false }
    }

    /// Takes in a heartbeat; `usual` is the lateness of most of them, in nanoseconds.
    pub(super) fn heartbeat(&mut self, arrival: Arrival, usual: i64) -> Place {
        let at = signed(arrival.at);
        let next = span(arrival.interval);
        let due = self.due.saturating_add(self.step(at, arrival.slots, next));
        let late = at.saturating_sub(due).saturating_sub(usual);
        let longest = self.interval.max(next);
        if late <= longest {
            self.behind_since = i64::MAX;
        } else {
            self.behind_since = self.behind_since.min(at);
        }
        let ahead = late < -AHEAD_MAX * longest;
        let behind = self.behind_since < at.saturating_sub(BEHIND_MAX * longest);
        let anew = !self.begun || ahead || behind;
        if anew {
            self.behind_since = i64::MAX;
        }
        (self.newest, self.due, self.interval, self.begun) = (at, if anew { at } else { due }, next, true);
        Place { late: at - self.due, anew }
    }

    /// Place of the next heartbeat in the time-table, in nanoseconds.
    pub(super) fn next_due(&self) -> i64 {
        self.due.saturating_add(self.interval)
    }

    /// From the newest heartbeat to the next one, in nanoseconds.
    pub(super) fn interval(&self) -> i64 {
        self.interval
    }

    /// Arrival of the newest heartbeat, in nanoseconds.
    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    /// Time in the schedule from the newest heartbeat to one `slots` later that arrived at `at` and announces `next`. Where the interval changed
    /// and heartbeats are missing, nobody knows at which of them it did; then the latest that explains the arrival.
    fn step(&self, at: i64, slots: u64, next: i64) -> i64 {
        let slots = i64::try_from(slots).unwrap_or(i64::MAX);
        let step = self.interval.saturating_mul(slots);
        if slots <= 1 || next == self.interval {
            return step;
        }
        let between = slots.saturating_sub(1).saturating_mul(next).saturating_add(self.interval);
        at.saturating_sub(self.newest).clamp(step.min(between), step.max(between))
    }
}

/// An instant as a number that can be subtracted from any other.
pub(super) fn signed(at: Instant) -> i64 {
    i64::try_from(at.as_nanos()).unwrap_or(i64::MAX)
}

/// The instant of a number of nanoseconds; the origin for one before it.
pub(super) fn instant(nanos: i64) -> Instant {
    Instant::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// An interval in nanoseconds: at least one, so that it can be divided by, and at most a year, so that it can be multiplied.
pub(super) fn span(interval: Duration) -> i64 {
    const YEAR: u64 = 365 * 86_400 * 1_000_000_000;
    nanos(interval).clamp(1, YEAR) as i64
}
