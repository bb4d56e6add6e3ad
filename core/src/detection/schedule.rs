//! `Schedule`: where the sender's time-table lies on our clock.
//!
//! Think of a bus line whose buses leave on the hour, each with a number. Any bus that arrives
//! shows how late it is, and which buses never came. Heartbeats carry the number of their slot and
//! the time to the next one. So lateness is arrival less schedule, even if heartbeats in between
//! were lost or slept through.
//!
//! Slot and interval come from the network and may be nonsense, or the sender's clock may have
//! stood still while its machine was suspended. Then the old time-table is useless, and a new one
//! starts with the present arrival. After a pause of our own, our clock may have run ahead of the
//! sender's: our machine was suspended, or a clock was set. Then the time-table is moved to the
//! heartbeats, and what was learnt of lateness stays.

use std::time::Duration;

use super::Arrival;
use crate::time::{Instant, nanos};

/// Intervals by which a heartbeat may come too early before the time-table counts as moved.
const AHEAD_MAX: i64 = 8;

/// Intervals for which all heartbeats must be late by more than one interval before the time-table
/// counts as moved.
const BEHIND_MAX: i64 = 16;

/// The sender's time-table.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    /// Arrival of the newest heartbeat; before the first one, the start of watching. Nanoseconds.
    newest: i64,
    /// Its place in the time-table, in nanoseconds from the same origin: when it would have arrived
    /// with the delay of the first one.
    due: i64,
    /// From it to the next one, as it announced. Nanoseconds, over zero.
    interval: i64,
    /// Since when all heartbeats have come more than an interval too late; `i64::MAX` if the newest
    /// did not. `i64::MIN` before the first one, so that it starts a time-table in any case.
    behind_since: i64,
}

/// For how many more heartbeats our clock may turn out to have jumped. Kept by the owner of a
/// schedule, whose size counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClockDoubt(u8);

impl ClockDoubt {
    /// There was a pause of our own.
    pub(super) const BEGUN: ClockDoubt = ClockDoubt(BEHIND_MAX as u8);

    /// Whether our clock may have jumped, at one more heartbeat. A heartbeat that has `waited` says
    /// nothing about clocks and is not counted.
    fn take(&mut self, waited: bool) -> bool {
        let is_in_doubt = self.0 > 0 && !waited;
        self.0 -= u8::from(is_in_doubt);
        is_in_doubt
    }
}

/// A heartbeat's place in the time-table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    /// How much later it came than its slot asks for, in nanoseconds, measured from the first
    /// heartbeat of this time-table.
    pub(super) late: i64,
    /// Whether a new time-table starts with it: what was learnt of lateness no longer applies.
    pub(super) anew: bool,
    /// Whether the time-table was moved to it: nothing is learnt from its lateness.
    pub(super) moved: bool,
}

impl Schedule {
    /// The time-table of a sender that says it sends every `interval`, watched since `now`.
    pub(super) fn new(interval: Duration, now: Instant) -> Schedule {
        let now = signed(now);
        Schedule { newest: now, due: now, interval: span(interval), behind_since: i64::MIN }
    }

    /// Places a heartbeat in the time-table. `usual` is the usual lateness, in nanoseconds; `doubt`
    /// counts the heartbeats at which our clock may turn out to have jumped.
    #[inline]
    pub(super) fn heartbeat(&mut self, arrival: Arrival, usual: i64, doubt: &mut ClockDoubt) -> Place {
        let at = signed(arrival.at);
        let next = span(arrival.interval);
        let mut due = self.due.saturating_add(self.step(at, arrival.slots, next));
        let mut late = at.saturating_sub(due).saturating_sub(usual);
        let longest = self.interval.max(next);
        let moved = doubt.take(arrival.waited) && late.saturating_abs() > longest && self.behind_since != i64::MIN;
        if moved {
            (due, late) = (due.saturating_add(late), 0);
        }
        let ahead = late < -AHEAD_MAX * longest;
        let is_behind = late > longest || self.behind_since == i64::MIN;
        let behind_since = if is_behind { self.behind_since.min(at) } else { i64::MAX };
        let anew = ahead || behind_since < at.saturating_sub(BEHIND_MAX * longest);
        self.behind_since = if anew { i64::MAX } else { behind_since };
        (self.newest, self.due, self.interval) = (at, if anew { at } else { due }, next);
        Place { late: at.saturating_sub(self.due), anew, moved }
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

    /// Time in the schedule from the newest heartbeat to one `slots` later that arrived at `at` and
    /// announces `next`. If the interval changed while heartbeats are missing, the slot of the
    /// change is unknown. The result is then the time that fits the arrival best, between a change
    /// at the last slot and one at the first.
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

/// An interval in nanoseconds: at least one, so that it can be divided by, and at most a year, so
/// that it can be multiplied.
pub(super) fn span(interval: Duration) -> i64 {
    const YEAR: u64 = 365 * 86_400 * 1_000_000_000;
    nanos(interval).clamp(1, YEAR) as i64
}

#[cfg(test)]
mod tests {
    use super::super::tests::beat;
    use super::*;

    /// Lateness in milliseconds, and whether the time-table starts anew, of the last of these
    /// heartbeats of a sender with an interval of 100 ms: (arrival in milliseconds, slots).
    #[track_caller]
    fn check(beats: &[(u64, u64)], late_ms: i64, anew: bool) {
        let mut schedule = Schedule::new(Duration::from_millis(100), Instant::ZERO);
        let mut place = None;
        for &(at_ms, slots) in beats {
            place = Some(schedule.heartbeat(Arrival { slots, ..beat(at_ms, 100) }, 0, &mut ClockDoubt::default()));
        }
        assert_eq!(place, Some(Place { late: late_ms * 1_000_000, anew, moved: false }));
    }

    #[test]
    fn lateness_is_arrival_less_schedule_whatever_was_missed() {
        check(&[(500, 1)], 0, true);
        check(&[(500, 1), (630, 1)], 30, false);
        check(&[(500, 1), (1_020, 5)], 20, false);
        check(&[(500, 1), (590, 1)], -10, false);
    }

    #[test]
    fn a_heartbeat_far_ahead_of_all_others_starts_a_new_time_table() {
        check(&[(500, 1), (600, 9)], -800, false);
        check(&[(500, 1), (600, 10)], 0, true);
        check(&[(500, 1), (600, 1 << 40)], 0, true);
        check(&[(500, 1), (600, u64::MAX)], 0, true);
    }

    #[test]
    fn a_sender_that_stays_behind_has_a_new_time_table() {
        let mut beats = vec![(500, 1)];
        beats.extend((1..=17).map(|slot| (5_000 + slot * 100, 1)));
        check(&beats, 4_500, false);
        beats.push((5_000 + 18 * 100, 1));
        check(&beats, 0, true);
    }

    #[test]
    fn what_was_held_up_together_is_no_new_time_table() {
        let mut beats = vec![(500, 1)];
        beats.extend((1..=40).map(|_| (4_500, 1)));
        beats.push((4_610, 1));
        check(&beats, 10, false);
    }

    #[test]
    fn after_a_pause_of_ours_the_time_table_moves_to_heartbeats() {
        let mut schedule = Schedule::new(Duration::from_millis(100), Instant::ZERO);
        let mut doubt = ClockDoubt::default();
        let mut check = |at_ms, waited, late_ms, moved| {
            let place = schedule.heartbeat(Arrival { waited, ..beat(at_ms, 100) }, 0, &mut doubt);
            assert_eq!((place.late / 1_000_000, place.moved), (late_ms, moved), "at {at_ms} ms");
            if at_ms == 700 {
                doubt = ClockDoubt::BEGUN;
            }
        };
        [500, 600, 700].into_iter().for_each(|at| check(at, false, 0, false));
        // It may have waited since long ago.
        check(9_000, true, 8_200, false);
        check(9_090, false, 0, true);
        check(9_200, false, 10, false);
        // Late by the network or by our clock? The next ones tell.
        check(9_800, false, 0, true);
        check(9_810, false, -90, false);
        check(9_815, false, 0, true);
        (0..11).for_each(|slot| check(9_915 + slot * 100, false, 0, false));
        check(11_315, false, 300, false);
    }

    #[test]
    fn intervals_of_nonsense_are_bounded() {
        assert_eq!(span(Duration::ZERO), 1);
        assert_eq!(span(Duration::MAX), 365 * 86_400 * 1_000_000_000);
    }
}
