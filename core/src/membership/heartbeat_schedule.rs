//! `HeartbeatSchedule`: this node's own schedule: which slot it is, and whose turn within it.
//!
//! A slot is an interval. Its heartbeats are spread over it, one turn for each observer, and a
//! heartbeat's *stage* says slot and turn in one number. What was slept through is counted and not
//! made up for. A changed interval begins with a slot, and the slot's heartbeats announce it.

use std::time::Duration;

use crate::time::{Instant, nanos};
use crate::wire::STAGES;

/// The schedule of this node.
#[derive(Clone, Debug)]
pub(crate) struct HeartbeatSchedule {
    /// Number of the present slot, from 1.
    slot: u64,
    /// When it began.
    began: Instant,
    /// How long it is, as its heartbeats announce.
    announced: Duration,
    /// First slot of the present interval.
    announced_from: u64,
    /// The next turn in it.
    turn: u64,
    /// HeartbeatSchedule slept through.
    slept: u64,
}

impl HeartbeatSchedule {
    /// The first slot begins at `now`.
    pub(crate) fn new(interval: Duration, now: Instant) -> HeartbeatSchedule {
        HeartbeatSchedule { slot: 1, began: now, announced: interval, announced_from: 1, turn: 0, slept: 0 }
    }

    /// When the next turn is, or the next slot if there is none left: `next` is the first turn from
    /// a given one on.
    pub(crate) fn due(&self, next: impl FnOnce(u64) -> Option<u64>) -> Instant {
        self.began + next(self.turn).map_or(self.announced, |turn| self.offset(turn))
    }

    /// The turn that has come by `now`, if there is one left in this slot.
    pub(crate) fn take_turn(&mut self, now: Instant, next: impl FnOnce(u64) -> Option<u64>) -> Option<u64> {
        let turn = next(self.turn).filter(|&turn| self.began + self.offset(turn) <= now)?;
        self.turn = turn + 1;
        Some(turn)
    }

    /// Begins the slot that has come by `now`, if it has. From it on, `interval` holds. Returns the
    /// former interval if it was shorter.
    pub(crate) fn begin(&mut self, now: Instant, interval: Duration) -> Option<Option<Duration>> {
        if now < self.began + self.announced {
            return None;
        }
        // HeartbeatSchedule that passed while we slept are named as such and not made up for.
        let passed = nanos(now - self.began) / nanos(self.announced).max(1);
        if passed == 0 {
            return None; // The end of time.
        }
        self.slot += passed;
        self.slept += passed - 1;
        self.began += self.announced.saturating_mul(u32::try_from(passed).unwrap_or(u32::MAX));
        self.turn = 0;
        let former = std::mem::replace(&mut self.announced, interval);
        if former != interval {
            self.announced_from = self.slot;
        }
        Some(Some(former).filter(|former| *former < interval))
    }

    /// The number of the present slot.
    pub(crate) fn slot(&self) -> u64 {
        self.slot
    }

    /// How long the present slot is.
    pub(crate) fn announced(&self) -> Duration {
        self.announced
    }

    /// HeartbeatSchedule slept through since the start.
    pub(crate) fn slept(&self) -> u64 {
        self.slept
    }

    /// The stage of a turn in the present slot.
    pub(crate) fn stage(&self, turn: u64) -> u64 {
        self.slot * STAGES + turn
    }

    /// Whether a heartbeat of this stage announced the present interval.
    pub(crate) fn announces(&self, stage: u64) -> bool {
        stage / STAGES >= self.announced_from
    }

    fn offset(&self, turn: u64) -> Duration {
        Duration::from_nanos(nanos(self.announced) / STAGES * turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn turns(turn: u64) -> Option<u64> {
        [0, 8].into_iter().find(|&next| next >= turn)
    }

    #[test]
    fn turns_are_spread_over_the_slot() {
        let mut slots = HeartbeatSchedule::new(SECOND, ms(0));
        assert_eq!(slots.take_turn(ms(0), turns), Some(0));
        assert_eq!((slots.take_turn(ms(499), turns), slots.due(turns)), (None, ms(500)));
        assert_eq!((slots.take_turn(ms(500), turns), slots.stage(8)), (Some(8), 24));
        assert_eq!((slots.due(turns), slots.begin(ms(999), SECOND)), (ms(1_000), None));
        assert_eq!((slots.begin(ms(1_000), SECOND), slots.slot(), slots.slept()), (Some(None), 2, 0));
    }

    #[test]
    fn what_was_slept_through_is_counted() {
        let mut slots = HeartbeatSchedule::new(SECOND, ms(0));
        assert_eq!(slots.begin(ms(4_300), SECOND), Some(None));
        assert_eq!((slots.slot(), slots.slept(), slots.due(turns)), (5, 3, ms(4_000)));
    }

    #[test]
    fn another_interval_begins_with_a_slot() {
        let mut slots = HeartbeatSchedule::new(SECOND, ms(0));
        assert_eq!(slots.begin(ms(1_000), 3 * SECOND), Some(Some(SECOND)));
        assert!(!slots.announces(31) && slots.announces(32));
        assert_eq!((slots.begin(ms(3_999), SECOND), slots.due(|_| None)), (None, ms(4_000)));
        assert_eq!(slots.begin(ms(4_000), SECOND), Some(None));
        assert_eq!(slots.due(|_| None), ms(5_000));
    }
}
