//! `HeartbeatSchedule`: the slot that this node is in, and the next phase within it.
//!
//! A slot is an interval. Its heartbeats are spread over it, one phase for each observer. The
//! *stage* of a heartbeat is its slot and phase in one number. Slots that pass while this node
//! pauses are counted, and their heartbeats are not sent. A changed interval begins with a slot,
//! and the heartbeats of that slot announce it.

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
    /// The next phase in it.
    phase: u64,
    /// Slots that passed while this node paused.
    slept: u64,
}

impl HeartbeatSchedule {
    /// The first slot begins at `now`.
    pub(crate) fn new(interval: Duration, now: Instant) -> HeartbeatSchedule {
        HeartbeatSchedule { slot: 1, began: now, announced: interval, announced_from: 1, phase: 0, slept: 0 }
    }

    /// When the next phase begins, or the next slot if no phase is left. `next` is the first phase
    /// of an observer from a given one on.
    pub(crate) fn due(&self, next: impl FnOnce(u64) -> Option<u64>) -> Instant {
        self.began + next(self.phase).map_or(self.announced, |phase| self.offset(phase))
    }

    /// The phase that has begun by `now`, if one is left in this slot.
    pub(crate) fn take_phase(&mut self, now: Instant, next: impl FnOnce(u64) -> Option<u64>) -> Option<u64> {
        let phase = next(self.phase).filter(|&phase| self.began + self.offset(phase) <= now)?;
        self.phase = phase + 1;
        Some(phase)
    }

    /// Begins the slot that is due by `now`; `None` if none is. From it on, `interval` holds.
    /// Within, the former interval if it was shorter.
    pub(crate) fn begin(&mut self, now: Instant, interval: Duration) -> Option<Option<Duration>> {
        if now < self.began + self.announced {
            return None;
        }
        // Slots that passed meanwhile are counted, and their heartbeats are not sent.
        let passed = nanos(now - self.began) / nanos(self.announced).max(1);
        if passed == 0 {
            return None; // The end of time.
        }
        self.slot += passed;
        self.slept += passed - 1;
        self.began += self.announced.saturating_mul(u32::try_from(passed).unwrap_or(u32::MAX));
        self.phase = 0;
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

    /// Slots that passed while this node paused, since the start.
    pub(crate) fn slept(&self) -> u64 {
        self.slept
    }

    /// The stage of a phase in the present slot.
    pub(crate) fn stage(&self, phase: u64) -> u64 {
        self.slot * STAGES + phase
    }

    /// Whether a heartbeat of this stage announced the present interval.
    pub(crate) fn announces(&self, stage: u64) -> bool {
        stage / STAGES >= self.announced_from
    }

    fn offset(&self, phase: u64) -> Duration {
        Duration::from_nanos(nanos(self.announced) / STAGES * phase)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn phases(phase: u64) -> Option<u64> {
        [0, 8].into_iter().find(|&next| next >= phase)
    }

    #[test]
    fn phases_are_spread_over_the_slot() {
        let mut slots = HeartbeatSchedule::new(SECOND, ms(0));
        assert_eq!(slots.take_phase(ms(0), phases), Some(0));
        assert_eq!((slots.take_phase(ms(499), phases), slots.due(phases)), (None, ms(500)));
        assert_eq!((slots.take_phase(ms(500), phases), slots.stage(8)), (Some(8), 24));
        assert_eq!((slots.due(phases), slots.begin(ms(999), SECOND)), (ms(1_000), None));
        assert_eq!((slots.begin(ms(1_000), SECOND), slots.slot(), slots.slept()), (Some(None), 2, 0));
    }

    #[test]
    fn slots_that_pass_in_a_pause_are_counted() {
        let mut slots = HeartbeatSchedule::new(SECOND, ms(0));
        assert_eq!(slots.begin(ms(4_300), SECOND), Some(None));
        assert_eq!((slots.slot(), slots.slept(), slots.due(phases)), (5, 3, ms(4_000)));
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
