//! Phi accrual, as Akka reads it: suspect when so long a silence has become improbable.
//!
//! The detector keeps the last intervals between heartbeats, takes them to be normally distributed, and asks how improbable the present
//! silence is. Phi is the negative decimal logarithm of that probability: at phi 3 one in a thousand intervals would be as long.
//!
//! With elapsed time t since the newest heartbeat, mean m and standard deviation s of the remembered intervals, pause p and floor f:
//!
//! ```text
//! y   = (t - m - p) / max(s, f)                               t, m, p, s, f in seconds; y has no unit
//! e   = exp(-y * (1.5976 + 0.070566 * y^2))
//! phi = -log10(e / (1 + e))                                   no unit
//! ```
//!
//! The logistic approximation of the normal tail is off by less than 0.0002 in probability, but far out in the tail its *logarithm* is not
//! the normal's: at phi 8 it puts y at 5.2 where the normal distribution has 5.6. We keep it, since "phi 8" should mean what it means there.
//!
//! Phi is monotone in t, so the threshold is a deadline: newest + m + p + y' * max(s, f), where y' solves the formula for the threshold and is
//! computed once.
//!
//! What it does not do: intervals are not normally distributed, so phi is not calibrated; the floor and the pause decide most of the time.
//! A silence that ended a suspicion is not learnt, or one outage would make the detector slow for the rest of the window.
//!
//! Sources: Hayashibara, Defago, Yared and Katayama, "The phi accrual failure detector", SRDS 2004; the approximation, the two made-up first
//! samples, the floor and the pause are those of Akka's `PhiAccrualFailureDetector`. We differ in keeping nanoseconds where Akka rounds
//! to milliseconds.

use std::time::Duration;

use super::{Arrival, Detector};
use crate::config::DetectorConfig;
use crate::time::{Instant, nanos};

/// Longest interval that is learnt as it is; longer ones count as this (eleven days). Keeps the sum of squares within 128 bits.
const INTERVAL_NANOS_MAX: u64 = 1_000_000_000_000_000;

/// Suspects a target when its silence has become improbable.
#[derive(Clone, Debug)]
pub struct Phi {
    /// The last intervals in nanoseconds, a ring; `next` is where the next one goes once it is full.
    intervals: Box<[u64]>,
    /// How many of `intervals` are filled; at least 2, the made-up ones.
    filled: u32,
    next: u32,
    /// Sum of the filled intervals, in nanoseconds.
    sum: u128,
    /// Sum of their squares.
    squares: u128,
    /// Standard deviations past the mean at which phi reaches the threshold.
    reach: f64,
    /// Least standard deviation, in nanoseconds.
    deviation_min: f64,
    /// Forgiven on top of the mean.
    pause: Duration,
    /// Arrival of the newest heartbeat; before the first one, the start of monitoring.
    newest: Instant,
    /// Whether the silence now running was excused and must not be learnt.
    excused: bool,
    deadline: Instant,
}

impl Phi {
    /// A detector for a target that sends every `interval`, watched since `now`; `config` is one that `Config::check` accepts.
    ///
    /// The history starts with two made-up samples, three and five quarters of `interval`, so that there is a mean and a spread at once.
    pub fn new(config: &DetectorConfig, interval: Duration, now: Instant) -> Phi {
        let mut phi = Phi {
            intervals: vec![0; config.window as usize].into_boxed_slice(),
            filled: 0,
            next: 0,
            sum: 0,
            squares: 0,
            reach: reach(config.threshold),
            deviation_min: nanos(config.deviation_min) as f64,
            pause: config.pause,
            newest: now,
            excused: true, // The time before the first heartbeat is no interval.
            deadline: now,
        };
        let quarter = interval / 4;
        phi.learn(interval - quarter);
        phi.learn(interval + quarter);
        phi.update_deadline();
        phi
    }

    /// The silence after which a target with perfectly regular heartbeats is suspected.
    pub fn regular_silence(config: &DetectorConfig, interval: Duration) -> Duration {
        interval
            + config.pause
            + Duration::from_secs_f64((reach(config.threshold) * config.deviation_min.as_secs_f64()).max(0.0))
    }

    /// The improbability of the silence up to `now`: -log10 of the chance of so long an interval. Zero or more, no unit.
    pub fn phi(&self, now: Instant) -> f64 {
        let (mean, deviation) = self.mean_and_deviation();
        let y = ((now - self.newest).as_nanos() as f64 - mean - nanos(self.pause) as f64) / deviation;
        let e = (-exponent(y)).exp();
        // Far out in the tail e vanishes beside 1, and -log10(e) is all that is left; taken from the exponent, it never becomes infinite.
        if e < 1e-15 { exponent(y) / std::f64::consts::LN_10 } else { -(e / (1.0 + e)).log10() }
    }

    fn mean_and_deviation(&self) -> (f64, f64) {
        let count = f64::from(self.filled);
        let mean = self.sum as f64 / count;
        // In integers, so that the difference of two large squares stays exact: count * squares - sum^2.
        let spread = u128::from(self.filled) * self.squares - self.sum * self.sum;
        (mean, ((spread as f64).sqrt() / count).max(self.deviation_min))
    }

    fn learn(&mut self, interval: Duration) {
        let interval = nanos(interval).min(INTERVAL_NANOS_MAX);
        let window = self.intervals.len();
        let place = &mut self.intervals[self.next as usize];
        if self.filled as usize == window {
            self.sum -= u128::from(*place);
            self.squares -= u128::from(*place) * u128::from(*place);
        } else {
            self.filled += 1;
        }
        *place = interval;
        self.sum += u128::from(interval);
        self.squares += u128::from(interval) * u128::from(interval);
        self.next = (self.next + 1) % window as u32;
    }

    fn update_deadline(&mut self) {
        let (mean, deviation) = self.mean_and_deviation();
        let silence = (mean + self.reach * deviation).max(0.0);
        self.deadline = self.newest + Duration::from_nanos(silence as u64) + self.pause;
    }
}

impl Detector for Phi {
    fn heartbeat(&mut self, arrival: Arrival) {
        if arrival.at < self.newest {
            return;
        }
        let ended_suspicion = arrival.at > self.deadline;
        if !self.excused && !ended_suspicion {
            self.learn(arrival.at - self.newest);
        }
        self.newest = arrival.at;
        self.excused = false;
        self.update_deadline();
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn excuse(&mut self, now: Instant) {
        if now > self.newest {
            self.newest = now;
            self.excused = true;
            self.update_deadline();
        }
    }
}

/// Akka's polynomial: phi is -log10 of e^-x / (1 + e^-x) at this x.
fn exponent(y: f64) -> f64 {
    y * (1.5976 + 0.070566 * y * y)
}

/// The y at which phi is `threshold`: with p = 10^-threshold, exponent(y) = ln((1 - p) / p). Newton; the cubic is monotone.
fn reach(threshold: f64) -> f64 {
    let p = 10f64.powf(-threshold);
    let goal = ((1.0 - p) / p).ln();
    let mut y = goal.clamp(-5.0, 5.0);
    for _ in 0..50 {
        y -= (exponent(y) - goal) / (1.5976 + 3.0 * 0.070566 * y * y);
    }
    y
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{Alive, Suspect};
    use super::*;
    use crate::Config;

    fn config() -> DetectorConfig {
        DetectorConfig { pause: Duration::ZERO, ..Config::default().detector }
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn regular(count: u64) -> Phi {
        let mut phi = Phi::new(&config(), Duration::from_secs(1), Instant::ZERO);
        for slot in 1..=count {
            phi.heartbeat(Arrival { at: at(slot * 1_000), interval: Duration::from_secs(1), slots: 1 });
        }
        phi
    }

    #[test]
    fn the_deadline_is_where_phi_reaches_the_threshold() {
        for threshold in [0.5, 1.0, 8.0, 16.0] {
            let phi = Phi::new(&DetectorConfig { threshold, ..config() }, Duration::from_secs(1), Instant::ZERO);
            assert!((phi.phi(phi.deadline()) - threshold).abs() < 1e-6, "threshold {threshold}");
            assert_eq!(phi.verdict(phi.deadline()), Alive);
            assert_eq!(phi.verdict(phi.deadline() + Duration::from_nanos(1)), Suspect);
        }
    }

    #[test]
    fn phi_grows_with_silence_and_never_overflows() {
        let phi = regular(100);
        let values: Vec<f64> = (0..60).map(|second| phi.phi(at(100_000 + second * 1_000))).collect();
        assert!(values.is_sorted() && values.iter().all(|value| value.is_finite()), "{values:?}");
    }

    #[test]
    fn a_regular_sender_is_suspected_after_the_mean_and_the_floor() {
        let silence = regular(2_000).deadline() - at(2_000_000);
        let expected = Phi::regular_silence(&config(), Duration::from_secs(1));
        assert!(silence.abs_diff(expected) < Duration::from_millis(1), "{silence:?}, not {expected:?}");
    }

    #[test]
    fn an_irregular_sender_is_given_more_time() {
        let mut phi = Phi::new(&config(), Duration::from_secs(1), Instant::ZERO);
        let mut now = Instant::ZERO;
        for slot in 0..1_000 {
            now += Duration::from_millis(if slot % 2 == 0 { 500 } else { 1_500 });
            phi.heartbeat(Arrival { at: now, interval: Duration::from_secs(1), slots: 1 });
        }
        let silence = phi.deadline() - now;
        assert!(silence > Duration::from_millis(3_400) && silence < Duration::from_millis(3_800), "{silence:?}");
    }

    #[test]
    fn a_gap_that_ended_a_suspicion_is_not_learnt() {
        let (mut with, without) = (regular(100), regular(100));
        with.heartbeat(Arrival { at: at(400_000), interval: Duration::from_secs(1), slots: 300 });
        assert_eq!(with.deadline() - at(400_000), without.deadline() - at(100_000));
    }

    #[test]
    fn an_excused_silence_is_not_learnt() {
        let (mut with, without) = (regular(100), regular(100));
        with.excuse(at(100_900));
        with.heartbeat(Arrival { at: at(100_950), interval: Duration::from_secs(1), slots: 1 });
        assert_eq!(with.deadline() - at(100_950), without.deadline() - at(100_000));
    }

    #[test]
    fn an_arrival_from_the_past_changes_nothing() {
        let mut phi = regular(10);
        let before = phi.deadline();
        phi.heartbeat(Arrival { at: at(9_500), interval: Duration::from_secs(1), slots: 1 });
        assert_eq!(phi.deadline(), before);
    }

    #[test]
    fn the_window_forgets() {
        let mut phi = Phi::new(&DetectorConfig { window: 10, ..config() }, Duration::from_secs(1), Instant::ZERO);
        for slot in 1..=100u64 {
            phi.heartbeat(Arrival { at: at(slot * 2_000), interval: Duration::from_secs(2), slots: 1 });
        }
        assert_eq!(phi.mean_and_deviation(), (2e9, 1e8));
    }
}
