//! Chen, Toueg and Aguilera's NFD-E: a constant margin past the expected arrival.
//!
//! The network delays every heartbeat. The mean delay of the last n gives the time at which the
//! next one should arrive. Wait for a constant margin longer, then suspect. With arrivals `A_i` of
//! slots `s_i` of a schedule with interval `eta`:
//!
//! ```text
//! EA       = (1/n) * sum(A_i - eta * s_i) + eta * (l + 1)     a time
//! deadline = EA + alpha                                       alpha: the margin, a time
//!
//! l: the newest slot; n: heartbeats in the window
//! ```
//!
//! The estimate follows the slots, so a lost heartbeat costs one interval of the margin and does
//! not move the estimate. A margin of k intervals covers the loss of k heartbeats in a row. Nothing
//! else is learnt: the user has to know the worst pause and choose the margin.
//!
//! Phi assumes no distribution of the delay, since only its mean is known. It is measured in
//! margins: 0 up to the expected arrival, 1 at the deadline.
//!
//! Source: Chen, Toueg and Aguilera, "On the quality of service of failure detectors", IEEE
//! Transactions on Computers 51(5), 2002, section 6 (NFD-E). We differ in three points. Each
//! heartbeat announces eta, so it may change. After a heartbeat that was late by more than the
//! margin, the next one is expected no sooner than eta later: if the sender's clock stood still,
//! all heartbeats after it are as late, and NFD-E would suspect the target after each of them. A
//! schedule that stays behind clears the window.

use std::time::Duration;

use super::schedule::{ClockDoubt, Schedule, instant};
use super::window::Window;
use super::{Arrival, Detector, Pause};
use crate::time::{Instant, nanos};

/// Suspects a target that is later than expected by more than a constant.
#[derive(Clone, Debug)]
pub struct Chen {
    /// Alpha: how long past the expected arrival the target is still alive.
    margin: Duration,
    schedule: Schedule,
    clock_doubt: ClockDoubt,
    /// How late the last heartbeats were in the time-table, in nanoseconds.
    lateness: Window,
    expected: Instant,
    deadline: Instant,
}

impl Chen {
    /// A detector for a target that sends every `interval`, watched since `now`. The target is
    /// suspect later than `margin` past the expected arrival, which is learnt from the last
    /// `window` heartbeats, 8 bytes each. Before the first heartbeat it expects one after
    /// `interval`.
    ///
    /// # Panics
    /// If `window` is zero: no heartbeat, no mean.
    pub fn new(margin: Duration, window: u32, interval: Duration, now: Instant) -> Chen {
        let mut chen = Chen {
            margin,
            schedule: Schedule::new(interval, now),
            clock_doubt: ClockDoubt::default(),
            lateness: Window::new(window),
            expected: now,
            deadline: now,
        };
        chen.update(0);
        chen
    }

    /// Sets what is expected after a heartbeat that came so many nanoseconds later than usual.
    fn update(&mut self, late: i64) {
        let mean = self.lateness.mean().unwrap_or(0.0);
        let scheduled = self.schedule.next_due().saturating_add(mean as i64);
        let is_past_margin = late > 0 && Duration::from_nanos(late as u64) > self.margin;
        let from_arrival = self.schedule.newest().saturating_add(self.schedule.interval());
        self.expected = instant(if is_past_margin { scheduled.max(from_arrival) } else { scheduled });
        self.deadline = self.expected + self.margin;
    }
}

impl Detector for Chen {
    fn heartbeat(&mut self, arrival: Arrival) {
        let usual = self.lateness.mean().unwrap_or(0.0) as i64;
        let place = self.schedule.heartbeat(arrival, usual, &mut self.clock_doubt);
        if place.anew {
            self.lateness.clear();
        }
        if !arrival.waited && !place.moved {
            self.lateness.push(place.late);
        }
        self.update(if place.anew { 0 } else { place.late.saturating_sub(usual) });
        if arrival.waited {
            self.deadline = self.deadline.max(arrival.at + arrival.interval);
        }
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn expected(&self) -> Instant {
        self.expected
    }

    fn phi(&self, now: Instant) -> f64 {
        nanos(now - self.expected) as f64 / nanos(self.deadline - self.expected).max(1) as f64
    }

    fn discount_pause(&mut self, pause: Pause) {
        self.clock_doubt = ClockDoubt::BEGUN;
        let interval = Duration::from_nanos(self.schedule.interval() as u64);
        self.deadline = pause.discount(self.deadline, interval);
    }

    fn extend(&mut self, now: Instant) {
        let interval = Duration::from_nanos(self.schedule.interval() as u64);
        self.deadline = self.deadline.max(now + interval + self.margin);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{Alive, Suspect};
    use super::super::tests::{beat, pause};
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// Heartbeats every second, each 20 ms late but for the even ones, which are 40 ms late; margin
    /// 500 ms.
    fn chen(count: u64) -> Chen {
        let mut chen = Chen::new(Duration::from_millis(500), 100, Duration::from_secs(1), Instant::ZERO);
        for slot in 1..=count {
            chen.heartbeat(beat(slot * 1_000 + 20 + (slot + 1) % 2 * 20, 1_000));
        }
        chen
    }

    #[test]
    fn the_next_is_expected_at_its_slot_with_the_mean_delay() {
        let chen = chen(200);
        assert_eq!(chen.expected(), at(201_030));
        assert_eq!(chen.deadline(), at(201_530));
        assert_eq!(chen.verdict(at(201_530)), Alive);
        assert_eq!(chen.verdict(at(201_530) + Duration::from_nanos(1)), Suspect);
    }

    #[test]
    fn phi_is_counted_in_margins() {
        let chen = chen(200);
        assert_eq!([201_000, 201_030, 201_280, 201_530, 202_030].map(|ms| chen.phi(at(ms))), [0.0, 0.0, 0.5, 1.0, 2.0]);
    }

    /// Asserts that the next heartbeat is expected then, give or take what one sample moves the
    /// mean.
    #[track_caller]
    fn check_expected(chen: &Chen, ms: u64) {
        let off = chen.expected().as_nanos().abs_diff(at(ms).as_nanos());
        assert!(off < 15_000_000, "{:?}, not {ms} ms", chen.expected());
    }

    #[test]
    fn a_lost_heartbeat_does_not_move_the_estimate() {
        let mut chen = chen(200);
        chen.heartbeat(Arrival { slots: 5, ..beat(205_030, 1_000) });
        check_expected(&chen, 206_030);
    }

    #[test]
    fn another_interval_is_followed_at_once() {
        let mut chen = chen(200);
        chen.heartbeat(beat(201_030, 4_000));
        check_expected(&chen, 205_030);
        chen.heartbeat(beat(205_030, 100));
        check_expected(&chen, 205_130);
    }

    #[test]
    fn where_the_change_was_lost_the_arrival_says_when_it_was() {
        let mut chen = chen(200);
        // Slots 201 and 202 are lost, one of which announced 4 s: 203 comes after 1 + 4 + 4 s.
        chen.heartbeat(Arrival { slots: 3, ..beat(209_030, 4_000) });
        check_expected(&chen, 213_030);
    }

    #[test]
    fn before_the_first_heartbeat_one_is_expected_after_an_interval() {
        assert_eq!(chen(0).deadline(), at(1_500));
    }

    #[test]
    fn a_pause_of_ours_is_no_silence_and_teaches_nothing() {
        let (mut with, without) = (chen(200), chen(200));
        with.discount_pause(pause(200_500, 260_500));
        assert_eq!(with.deadline(), at(261_530));
        for slot in 201..=260 {
            with.heartbeat(Arrival { waited: true, ..beat(260_500 + slot % 2, 1_000) });
            assert!(with.deadline() >= at(261_500), "{:?}", with.deadline());
        }
        assert_eq!(with.expected() - without.expected(), Duration::from_secs(60));
    }

    #[test]
    fn a_slipped_schedule_is_one_suspicion() {
        let mut chen = chen(200);
        let mut suspicions = 0;
        for slot in 201..=240u64 {
            let at_ms = slot * 1_000 + 3_000;
            suspicions += u32::from(chen.verdict(at(at_ms)) == Suspect);
            chen.heartbeat(beat(at_ms, 1_000));
            assert_eq!(chen.verdict(at(at_ms + 1_000)), Alive, "slot {slot}");
        }
        assert_eq!(suspicions, 1);
    }

    #[test]
    fn a_schedule_that_has_moved_is_learnt_anew() {
        // The sender's clock stood still for a minute: the slots go on where they were, all a
        // minute later.
        let mut chen = chen(200);
        for slot in 201..=220u64 {
            chen.heartbeat(beat(60_000 + slot * 1_000 + 30, 1_000));
        }
        assert_eq!(chen.expected(), at(281_030));
        // It jumped ahead by hours.
        chen.heartbeat(Arrival { slots: 9_999, ..beat(281_030, 1_000) });
        assert_eq!(chen.expected(), at(282_030));
    }
}
