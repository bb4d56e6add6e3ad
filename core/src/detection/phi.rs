//! Phi accrual: suspects a target once so long a silence is improbable.
//!
//! The detector keeps the last intervals between heartbeats, takes them to be distributed in a
//! certain way, and asks how improbable the present silence is. Phi is the negative decimal
//! logarithm of that probability: at phi 3 one in a thousand intervals would be as long. Which
//! distribution, is where the implementations differ; two readings of the paper are in wide use,
//! and both are here.
//!
//! **Akka's**: normally distributed. With elapsed time t since the newest heartbeat, mean m and
//! standard deviation s of the remembered intervals, pause p and floor f:
//!
//! ```text
//! y   = (t - m - p) / max(s, f)                       t, m, p, s, f in seconds; y has no unit
//! e   = exp(-y * (1.5976 + 0.070566 * y^2))
//! phi = -log10(e / (1 + e))                                   no unit
//! ```
//!
//! The logistic approximation of the normal tail is off by less than 0.0002 in probability. Far out
//! in the tail its *logarithm* differs, though: phi 8 is y = 5.2 here and 5.6 in the normal
//! distribution. We keep the approximation, so that "phi 8" means what it means in Akka. The
//! history starts with two made-up samples, three and five quarters of the interval. A silence that
//! ended a suspicion is not learnt, or one outage would make the detector slow for the rest of the
//! window.
//!
//! **Cassandra's**: exponentially distributed, so that the mean is all there is to learn:
//!
//! ```text
//! phi = log10(e) * t / m = 0.4343 * t / m                     t, m in seconds; no unit
//! ```
//!
//! The history starts with one made-up sample of two intervals, and silences longer than two
//! intervals are not learnt. "Phi 8" is 18.4 means.
//!
//! Phi is monotone in t, so the threshold is a deadline. For Akka's reading it is newest + m + p +
//! y' * max(s, f), where y' solves the formula for the threshold and is computed once. For
//! Cassandra's it is newest + m * threshold / 0.4343.
//!
//! If a sender announces another interval than at first, the deadline moves by the difference. The
//! history stays that of the first interval.
//!
//! What it does not do: intervals are distributed in neither way, so phi is not calibrated; floor
//! and pause, or the mean alone, decide most of the time. It does not look at slots: a lost
//! heartbeat is one long interval.
//!
//! Sources: Hayashibara, Defago, Yared and Katayama, "The phi accrual failure detector", SRDS 2004;
//! `PhiAccrualFailureDetector` of Akka (akka-remote), of which we differ in keeping nanoseconds
//! where it rounds to milliseconds; `gms/FailureDetector` of Apache Cassandra.

use std::f64::consts::LN_10;
use std::time::Duration;

use super::window::Window;
use super::{Arrival, Detector, Pause};
use crate::config::{DetectorConfig, PhiReading};
use crate::time::{Instant, nanos};

/// Longest interval that is learnt as it is; longer ones count as this (eleven days). Keeps the sum
/// of squares within 128 bits.
const INTERVAL_NANOS_MAX: u64 = 1_000_000_000_000_000;

/// Cassandra's made-up first sample, and the longest silence that its reading learns, in intervals.
const CASSANDRA_INTERVALS: u32 = 2;

/// Suspects a target when its silence has become improbable.
#[derive(Clone, Debug)]
pub struct Phi {
    /// The last intervals between arrivals.
    intervals: Window,
    reading: Reading,
    /// Arrival of the newest heartbeat; before the first one, the start of monitoring.
    newest: Instant,
    /// The interval that the history is kept for.
    usual: Duration,
    /// When the next one is due after it, by the sender's announcement.
    interval: Duration,
    /// Whether the present silence is not the target's own, and must not be learnt.
    discounted: bool,
    deadline: Instant,
}

/// What the intervals are taken to be distributed like.
#[derive(Clone, Debug)]
enum Reading {
    Akka {
        /// Sum of the squares of the intervals in the window.
        squares: u128,
        /// Standard deviations past the mean at which phi reaches the threshold.
        reach: f64,
        /// Least standard deviation, in nanoseconds.
        deviation_min: f64,
        /// How long past the mean the target is still alive, in any case.
        pause: Duration,
    },
    Cassandra {
        /// Phi at which a target is suspected.
        threshold: f64,
    },
}

impl Phi {
    /// A detector for a target that sends every `interval`, watched since `now`; `config` is one
    /// that `Config::check` accepts.
    pub fn new(config: &DetectorConfig, interval: Duration, now: Instant) -> Phi {
        let reading = match config.reading {
            PhiReading::Akka => Reading::Akka {
                squares: 0,
                reach: reach(config.threshold),
                deviation_min: nanos(config.deviation_min) as f64,
                pause: config.pause,
            },
            PhiReading::Cassandra => Reading::Cassandra { threshold: config.threshold },
        };
        let mut phi = Phi {
            intervals: Window::new(config.window),
            reading,
            newest: now,
            usual: interval,
            interval,
            discounted: true, // The time before the first heartbeat is no interval.
            deadline: now,
        };
        match phi.reading {
            Reading::Akka { .. } => {
                phi.learn(interval - interval / 4);
                phi.learn(interval + interval / 4);
            }
            Reading::Cassandra { .. } => phi.learn(interval * CASSANDRA_INTERVALS),
        }
        phi.update_deadline();
        phi
    }

    /// The silence after which a target with perfectly regular heartbeats is suspected.
    pub fn regular_silence(config: &DetectorConfig, interval: Duration) -> Duration {
        match config.reading {
            PhiReading::Akka => {
                let margin = reach(config.threshold) * config.deviation_min.as_secs_f64();
                interval + config.pause + Duration::from_secs_f64(margin.max(0.0))
            }
            PhiReading::Cassandra => interval.mul_f64(config.threshold * LN_10),
        }
    }

    /// Mean of the remembered intervals, in nanoseconds, at the announced interval; there is always
    /// at least the made-up one.
    fn mean(&self) -> f64 {
        let shift = nanos(self.interval) as f64 - nanos(self.usual) as f64;
        (self.intervals.mean().unwrap_or(0.0) + shift).max(1.0)
    }

    /// Standard deviation of the remembered intervals, in nanoseconds, of which the sum of squares
    /// is `squares`.
    fn deviation(&self, squares: u128) -> f64 {
        let count = u128::from(self.intervals.filled());
        let sum = self.intervals.sum().unsigned_abs();
        // In integers, so that the difference of two large squares stays exact: count * squares -
        // sum^2.
        ((count * squares - sum * sum) as f64).sqrt() / count as f64
    }

    fn learn(&mut self, interval: Duration) {
        // As if it had been announced as usual.
        let interval = (interval + self.usual).saturating_sub(self.interval);
        let interval = nanos(interval).min(INTERVAL_NANOS_MAX) as i64;
        let fell_out = self.intervals.push(interval);
        if let Reading::Akka { squares, .. } = &mut self.reading {
            let square = |interval: i64| u128::from(interval.unsigned_abs()).pow(2);
            *squares = *squares + square(interval) - fell_out.map_or(0, square);
        }
    }

    fn update_deadline(&mut self) {
        let silence = match self.reading {
            Reading::Akka { squares, reach, deviation_min, pause } => {
                self.mean() + reach * self.deviation(squares).max(deviation_min) + nanos(pause) as f64
            }
            Reading::Cassandra { threshold } => self.mean() * threshold * LN_10,
        };
        self.deadline = self.newest + Duration::from_nanos(silence.max(0.0) as u64);
    }
}

impl Detector for Phi {
    fn heartbeat(&mut self, arrival: Arrival) {
        if arrival.at < self.newest {
            return;
        }
        let interval = arrival.at - self.newest;
        let is_learnt = match self.reading {
            Reading::Akka { .. } => arrival.at <= self.deadline,
            Reading::Cassandra { .. } => interval <= self.interval * CASSANDRA_INTERVALS,
        };
        if is_learnt && !self.discounted && !arrival.waited {
            self.learn(interval);
        }
        // After one that waited, the next silence begins at our waking, not at its arrival.
        (self.newest, self.interval, self.discounted) = (arrival.at, arrival.interval, arrival.waited);
        self.update_deadline();
        if arrival.waited {
            self.deadline = self.deadline.max(arrival.at + arrival.interval);
        }
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn expected(&self) -> Instant {
        self.newest + Duration::from_nanos(self.mean() as u64)
    }

    /// By the formulas above: as well calibrated as intervals are normally, or exponentially,
    /// distributed.
    fn phi(&self, now: Instant) -> f64 {
        let silence = nanos(now - self.newest) as f64;
        match self.reading {
            Reading::Akka { squares, deviation_min, pause, .. } => {
                let y = (silence - self.mean() - nanos(pause) as f64) / self.deviation(squares).max(deviation_min);
                let e = (-exponent(y)).exp();
                // Far out in the tail e vanishes beside 1, and -log10(e) is all that is left; taken
                // from the exponent, it never becomes infinite. Far below the mean it is infinite
                // beside 1, and phi is zero.
                if e < 1e-15 { exponent(y) / LN_10 } else { (1.0 + 1.0 / e).log10() }
            }
            Reading::Cassandra { .. } => silence / self.mean() / LN_10,
        }
    }

    fn discount_pause(&mut self, pause: Pause) {
        let deadline = pause.discount(self.deadline, self.interval);
        if deadline > self.deadline {
            // What comes in after our waking is news, however long the grace.
            self.newest = (self.newest + (deadline - self.deadline)).min(pause.to);
            self.deadline = deadline;
            self.discounted = true;
        }
    }

    fn extend(&mut self, now: Instant) {
        if now > self.newest {
            self.newest = now;
            self.discounted = true;
            self.update_deadline();
        }
    }
}

/// Akka's polynomial: phi is -log10 of e^-x / (1 + e^-x) at this x.
fn exponent(y: f64) -> f64 {
    y * (1.5976 + 0.070566 * y * y)
}

/// The y at which phi is `threshold`: with p = 10^-threshold, exponent(y) = ln((1 - p) / p).
/// Newton; the cubic is monotone.
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
    use super::super::tests::{beat, pause};
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
            phi.heartbeat(beat(slot * 1_000, 1_000));
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
            phi.heartbeat(Arrival { at: now, ..beat(0, 1_000) });
        }
        let silence = phi.deadline() - now;
        assert!(silence > Duration::from_millis(3_400) && silence < Duration::from_millis(3_800), "{silence:?}");
    }

    #[test]
    fn a_gap_that_ended_a_suspicion_is_not_learnt() {
        let (mut with, without) = (regular(100), regular(100));
        with.heartbeat(Arrival { slots: 300, ..beat(400_000, 1_000) });
        assert_eq!(with.deadline() - at(400_000), without.deadline() - at(100_000));
    }

    #[test]
    fn a_discounted_silence_is_not_learnt() {
        let (mut with, without) = (regular(100), regular(100));
        with.discount_pause(pause(100_400, 100_900));
        with.heartbeat(beat(100_950, 1_000));
        assert_eq!(with.deadline() - at(100_950), without.deadline() - at(100_000));
    }

    #[test]
    fn an_arrival_from_the_past_changes_nothing() {
        let mut phi = regular(10);
        let before = phi.deadline();
        phi.heartbeat(beat(9_500, 1_000));
        assert_eq!(phi.deadline(), before);
    }

    #[test]
    fn the_window_forgets() {
        let mut phi = Phi::new(&DetectorConfig { window: 10, ..config() }, Duration::from_secs(1), Instant::ZERO);
        for slot in 1..=100u64 {
            phi.heartbeat(beat(slot * 2_000, 2_000));
        }
        assert_eq!(phi.mean(), 2e9);
    }

    #[test]
    fn akkas_constants_are_those_it_publishes() {
        // Phi 8 is y = 5.2 in its approximation; with interval 1 s, pause 3 s and floor 100 ms a
        // regular sender is suspected after 4.52 s.
        assert!((reach(8.0) - 5.2).abs() < 0.03, "{}", reach(8.0));
        let config = DetectorConfig { pause: Duration::from_secs(3), ..config() };
        let silence = Phi::regular_silence(&config, Duration::from_secs(1));
        assert!(silence.abs_diff(Duration::from_millis(4_520)) < Duration::from_millis(5), "{silence:?}");
        // Its first two samples: mean 1 s, spread a quarter of it.
        let phi = Phi::new(&config, Duration::from_secs(1), Instant::ZERO);
        let Reading::Akka { squares, .. } = phi.reading else { panic!("Akka's reading") };
        assert_eq!((phi.mean(), phi.deviation(squares)), (1e9, 2.5e8));
    }

    #[test]
    fn cassandras_constants_are_those_it_publishes() {
        let config = DetectorConfig { reading: PhiReading::Cassandra, ..config() };
        let mut phi = Phi::new(&config, Duration::from_secs(1), Instant::ZERO);
        // Its first sample is two rounds; phi 8 is 18.4 means.
        assert_eq!(phi.mean(), 2e9);
        assert!((phi.deadline() - Instant::ZERO).abs_diff(Duration::from_millis(36_841)) < Duration::from_millis(1));
        assert!((phi.phi(at(2_000)) - std::f64::consts::LOG10_E).abs() < 1e-9);
        phi.heartbeat(beat(1_000, 1_000));
        assert_eq!(phi.mean(), 2e9);
        phi.heartbeat(beat(2_000, 1_000));
        assert_eq!(phi.mean(), 1.5e9);
        // Longer than two rounds: not learnt, suspected or not.
        phi.heartbeat(beat(4_001, 1_000));
        assert_eq!(phi.mean(), 1.5e9);
        phi.heartbeat(beat(6_001, 1_000));
        assert!((phi.mean() - 5e9 / 3.0).abs() < 1.0, "{}", phi.mean());
    }
}
