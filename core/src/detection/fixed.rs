//! Fixed timeout: suspect a target once a constant time has passed without a heartbeat.
//!
//! The simplest detector, and the one that the others are compared with. It keeps no history, so it
//! works from the first heartbeat on. It does not know the network, so the constant has to cover
//! the longest pause that should not be suspected. For a sender that announces a longer interval
//! than usual, the constant grows by the difference.

use std::time::Duration;

use super::{Arrival, Detector, Pause};
use crate::time::Instant;

/// Suspects a target that stays silent for longer than a constant.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// Longest silence that still counts as alive. Never zero.
    suspect_after: Duration,
    /// Arrival of the newest heartbeat; before the first one, the start of monitoring. Pauses of
    /// our own move it forward.
    newest: Instant,
    /// The interval that the constant was chosen for.
    usual: Duration,
    /// When the next heartbeat is due after the newest, as it announced.
    interval: Duration,
}

impl Fixed {
    /// A detector for a target that usually sends every `interval`, watched since `now`.
    /// `suspect_after` is the longest silence that still counts as alive.
    ///
    /// # Panics
    /// If `suspect_after` is zero: every target would be suspect at once.
    pub fn new(suspect_after: Duration, interval: Duration, now: Instant) -> Fixed {
        assert!(!suspect_after.is_zero(), "a silence of zero would suspect everyone");
        Fixed { suspect_after, newest: now, usual: interval, interval }
    }
}

impl Detector for Fixed {
    fn heartbeat(&mut self, arrival: Arrival) {
        self.newest = self.newest.max(arrival.at);
        self.interval = arrival.interval;
    }

    fn deadline(&self) -> Instant {
        self.newest + self.suspect_after + self.interval.saturating_sub(self.usual)
    }

    fn expected(&self) -> Instant {
        self.newest + self.interval
    }

    /// A constant has no probability: this is the silence in units of `suspect_after`, 1 at the
    /// deadline.
    fn phi(&self, now: Instant) -> f64 {
        (now - self.newest).as_secs_f64() / self.suspect_after.as_secs_f64()
    }

    fn discount_pause(&mut self, pause: Pause) {
        let deadline = self.deadline();
        self.newest += pause.discount(deadline, self.interval.min(self.suspect_after)) - deadline;
    }

    fn extend(&mut self, now: Instant) {
        self.newest = self.newest.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{self, Alive, Suspect};
    use super::super::tests::{beat, pause};
    use super::*;

    /// Heartbeats at these milliseconds to a detector of 300 ms, asked at `now_ns`.
    #[track_caller]
    fn check(arrivals: &[u64], now_ns: u64, expected: Verdict) {
        let mut fixed = Fixed::new(Duration::from_millis(300), Duration::from_millis(100), Instant::ZERO);
        for &at in arrivals {
            fixed.heartbeat(beat(at, 100));
        }
        assert_eq!(fixed.verdict(Instant::from_nanos(now_ns)), expected);
    }

    #[test]
    fn silence_past_the_constant_is_suspicion() {
        check(&[100, 200], 500_000_000, Alive);
        check(&[100, 200], 500_000_001, Suspect);
    }

    #[test]
    fn an_arrival_from_the_past_changes_nothing() {
        check(&[200, 100], 500_000_000, Alive);
        check(&[200, 100], 500_000_001, Suspect);
    }

    #[test]
    fn before_the_first_heartbeat_the_start_counts() {
        check(&[], 300_000_000, Alive);
        check(&[], 300_000_001, Suspect);
    }

    #[test]
    fn a_pause_of_ours_is_no_silence() {
        let mut fixed = Fixed::new(Duration::from_millis(300), Duration::from_millis(100), Instant::ZERO);
        fixed.heartbeat(beat(100, 100));
        fixed.discount_pause(pause(200, 1_200));
        assert_eq!(fixed.deadline(), Instant::from_millis(1_400));
        // Only 10 ms were left before this one: an interval of grace.
        fixed.discount_pause(pause(1_390, 2_000));
        assert_eq!(fixed.deadline(), Instant::from_millis(2_100));
        // It was silent for too long before we fell asleep.
        fixed.discount_pause(pause(2_101, 3_000));
        assert_eq!(fixed.deadline(), Instant::from_millis(2_100));
    }

    #[test]
    fn a_fresh_timer_counts_from_now_on() {
        let mut fixed = Fixed::new(Duration::from_millis(300), Duration::from_millis(100), Instant::ZERO);
        fixed.extend(Instant::from_millis(1_000));
        assert_eq!(fixed.deadline(), Instant::from_millis(1_300));
        fixed.extend(Instant::from_millis(900));
        assert_eq!(fixed.deadline(), Instant::from_millis(1_300));
    }
}
