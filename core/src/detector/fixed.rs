//! Fixed timeout: suspect a target once a constant time has passed without a heartbeat.
//!
//! The plainest detector and the yardstick for the others. It keeps no history, so it is right from the first heartbeat on; it pays by not
//! knowing the network: the constant has to cover the worst pause anyone should be forgiven.

use std::time::Duration;

use super::{Arrival, Detector};
use crate::time::Instant;

/// Suspects a target that stays silent for longer than a constant.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// Longest silence that still counts as alive. Never zero.
    suspect_after: Duration,
    /// Arrival of the newest heartbeat; before the first one, the start of monitoring.
    newest: Instant,
}

impl Fixed {
    /// A detector for a target watched since `now`. `suspect_after` is the longest silence that still counts as alive.
    ///
    /// # Panics
    /// If `suspect_after` is zero: every target would be suspect at once.
    pub fn new(suspect_after: Duration, now: Instant) -> Fixed {
        assert!(!suspect_after.is_zero(), "a silence of zero would suspect everyone");
        Fixed { suspect_after, newest: now }
    }
}

impl Detector for Fixed {
    fn heartbeat(&mut self, arrival: Arrival) {
        self.newest = self.newest.max(arrival.at);
    }

    fn deadline(&self) -> Instant {
        self.newest + self.suspect_after
    }

    fn excuse(&mut self, now: Instant) {
        self.newest = self.newest.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{self, Alive, Suspect};
    use super::*;

    /// Heartbeats at these milliseconds to a detector of 300 ms, asked at `now_ns`.
    #[track_caller]
    fn check(arrivals: &[u64], now_ns: u64, expected: Verdict) {
        let mut fixed = Fixed::new(Duration::from_millis(300), Instant::ZERO);
        for &at in arrivals {
            fixed.heartbeat(Arrival { at: Instant::from_millis(at), interval: Duration::from_millis(100), slots: 1 });
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
    fn an_excuse_starts_the_silence_anew() {
        let mut fixed = Fixed::new(Duration::from_millis(300), Instant::ZERO);
        fixed.excuse(Instant::from_millis(1_000));
        assert_eq!(fixed.deadline(), Instant::from_millis(1_300));
        fixed.excuse(Instant::from_millis(900));
        assert_eq!(fixed.deadline(), Instant::from_millis(1_300));
    }
}
