//! `Restart`: does a failed worker start again at once, after a pause, or not at all?
//!
//! After one failure the worker starts again at once. After a second one soon afterwards, an
//! immediate start would only burn the machine. So the worker waits for a random time, whose limit
//! doubles with each failure. A thousand workers that failed together then do not start together.
//! More than `intensity` restarts in `period` mean a fault that restarting does not cure: the
//! worker is given up, with an event. After it ran well for `reset_after`, the next restart is
//! immediate again.
//!
//! The words and the sliding window are those of Erlang/OTP's `supervisor` (lib/stdlib, module
//! documentation). The random pause is "full jitter" (Brooker, "Exponential Backoff And Jitter",
//! AWS Architecture Blog, 2015). Unlike OTP, we remember at most `intensity` instants, so a storm
//! of failures costs the same each time.
//!
//! The reason for a failure plays no role here.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::RestartConfig;
use crate::random::Random;
use crate::time::Instant;

/// Most restarts that one permit covers: enough for all failures until the report of the first has
/// reached the supervisor and a new permit has come back.
pub const PERMITTED_RESTARTS_MAX: u32 = 16;

/// The intensity that means "however often": nothing is counted.
pub const UNLIMITED: u32 = u32::MAX;

/// Which ends of a worker are followed by a restart (OTP's words).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RestartKind {
    /// Every end, also a clean stop.
    #[default]
    Permanent,
    /// Every end except a clean stop.
    Transient,
    /// No end.
    Temporary,
}

/// What follows a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Start again now.
    Now,
    /// Start again at this instant.
    At(Instant),
    /// Do not start again.
    GiveUp,
}

impl Decision {
    /// The decision to start again after this pause.
    pub fn after(now: Instant, pause: Duration) -> Decision {
        if pause.is_zero() { Decision::Now } else { Decision::At(now + pause) }
    }
}

/// A sliding window over restarts: how many count against the limits now.
///
/// A worker may have its own, or a group one for all its children.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// The instants of the restarts in the window, oldest first; at most `intensity`.
    recent: VecDeque<Instant>,
}

impl Window {
    /// Whether one more restart at `now` is within the limits.
    pub fn has_room(&mut self, now: Instant, config: &RestartConfig) -> bool {
        self.forget(now, config);
        self.recent.len() < config.intensity as usize
    }

    /// Counts a restart that is to take place at `at`. With [`UNLIMITED`] it counts nothing.
    pub fn count(&mut self, at: Instant, config: &RestartConfig) {
        if config.intensity == UNLIMITED {
            return;
        }
        // Pauses differ in length, so restarts are not counted in the order in which they take
        // place.
        let place = self.recent.partition_point(|&other| other <= at);
        self.recent.insert(place, at);
        while self.recent.len() > config.intensity as usize {
            self.recent.pop_front();
        }
    }

    /// Restarts in the window that ends at the newest one.
    pub fn len(&self) -> u32 {
        self.recent.len() as u32
    }

    /// Restarts that count at `now`.
    pub fn count_at(&self, now: Instant, config: &RestartConfig) -> u32 {
        self.recent.iter().filter(|&&at| now < at + config.period).count() as u32
    }

    /// Whether no restart counts.
    pub fn is_empty(&self) -> bool {
        self.recent.is_empty()
    }

    /// From when on one more restart is within the limits; `NEVER` if the config allows none.
    fn room_from(&self, now: Instant, config: &RestartConfig) -> Instant {
        if config.intensity == 0 {
            return Instant::NEVER;
        }
        match self.recent.front() {
            Some(&oldest) if self.recent.len() >= config.intensity as usize => oldest + config.period,
            Some(_) | None => now,
        }
    }

    fn forget(&mut self, now: Instant, config: &RestartConfig) {
        while self.recent.front().is_some_and(|&at| now >= at + config.period) {
            self.recent.pop_front();
        }
    }
}

/// How long one child waits before its next restart.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    /// Restarts since the child last ran well for `reset_after`.
    in_a_row: u32,
    /// When the newest restart was decided, or is to take place.
    newest: Option<Instant>,
}

impl Backoff {
    /// Draws the pause before a restart that is decided at `now`, and counts that restart.
    pub fn pause(&mut self, now: Instant, config: &RestartConfig, random: &mut Random) -> Duration {
        self.forget(now, config);
        let limit = self.limit(config);
        let pause =
            if limit.is_zero() { Duration::ZERO } else { random.duration_below(limit + Duration::from_nanos(1)) };
        self.remember(now + pause);
        pause
    }

    fn forget(&mut self, now: Instant, config: &RestartConfig) {
        if self.newest.is_none_or(|newest| now >= newest + config.reset_after) {
            self.in_a_row = 0;
        }
    }

    /// The limit of the pause before the next restart: none for the first in a row, then
    /// `delay_min`, doubling up to `delay_max`.
    fn limit(&self, config: &RestartConfig) -> Duration {
        let Some(doublings) = self.in_a_row.checked_sub(1) else { return Duration::ZERO };
        config.delay_min.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(config.delay_max)
    }

    fn remember(&mut self, at: Instant) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.newest = Some(at);
    }
}

/// The restarts of one child, for limits that count each child alone.
#[derive(Clone, Debug, Default)]
pub struct Restart {
    window: Window,
    /// Its pauses. They apply as well where restarts are counted for the whole group.
    pub backoff: Backoff,
}

impl Restart {
    /// Decides what follows a failure at `now`, and counts the restart.
    pub fn decide(&mut self, now: Instant, config: &RestartConfig, random: &mut Random) -> Decision {
        if !self.window.has_room(now, config) {
            return Decision::GiveUp;
        }
        let pause = self.backoff.pause(now, config, random);
        self.window.count(now + pause, config);
        Decision::after(now, pause)
    }

    /// Forgets all counted restarts. The pause before the next restart stays as it was.
    pub fn clear_window(&mut self) {
        self.window = Window::default();
    }

    /// How many failures from [`Restart::permitted_from`] on would each be answered with an
    /// immediate restart, regardless of the time between them; at most [`PERMITTED_RESTARTS_MAX`].
    pub fn permitted_restarts(&self, config: &RestartConfig) -> u32 {
        // If a second failure in a row has to wait, only one immediate restart can be promised.
        let without_pause = if config.delay_min.is_zero() { PERMITTED_RESTARTS_MAX } else { 1 };
        config.intensity.saturating_sub(self.window.len()).clamp(u32::from(config.intensity > 0), without_pause)
    }

    /// From when on a failure would be answered with an immediate restart; `NEVER` if that is not
    /// known yet. A worker's own thread may restart it [`Restart::permitted_restarts`] times
    /// without asking. Each such restart must be reported with [`Restart::record`].
    pub fn permitted_from(&self, now: Instant, config: &RestartConfig) -> Instant {
        let room = self.window.room_from(now, config);
        match self.backoff.newest {
            Some(newest) if !config.delay_min.is_zero() => room.max(newest + config.reset_after),
            Some(_) | None => room,
        }
    }

    /// Counts an immediate restart that took place at `now` under a permit
    /// ([`Restart::permitted_from`]).
    pub fn record(&mut self, now: Instant, config: &RestartConfig) {
        // A permit covers few restarts, but reports may arrive in another order. The window stays
        // bounded in any case.
        self.window.forget(now, config);
        self.window.count(now, config);
        self.backoff.forget(now, config);
        self.backoff.remember(now);
    }

    /// Restarts that count at `now`.
    pub fn count_at(&self, now: Instant, config: &RestartConfig) -> u32 {
        self.window.count_at(now, config)
    }

    /// Restarts in the window that ends at the newest one.
    pub fn count(&self) -> u32 {
        self.window.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RestartConfig {
        RestartConfig {
            intensity: 3,
            period: Duration::from_secs(10),
            delay_min: Duration::from_millis(100),
            delay_max: Duration::from_millis(350),
            reset_after: Duration::from_secs(10),
        }
    }

    /// Failures at these milliseconds; returns the decisions.
    fn decide(config: &RestartConfig, failures: &[u64]) -> Vec<Decision> {
        let (mut restart, mut random) = (Restart::default(), Random::seeded(1));
        failures.iter().map(|&at| restart.decide(Instant::from_millis(at), config, &mut random)).collect()
    }

    // T3
    #[test]
    fn the_first_restart_is_immediate_and_later_ones_wait() {
        let config = RestartConfig { intensity: 1_000, ..config() };
        for seed in 0..200 {
            let (mut restart, mut random) = (Restart::default(), Random::seeded(seed));
            let now = Instant::from_millis(1);
            let mut limits = [100, 200, 350, 350].into_iter();
            assert_eq!(restart.decide(now, &config, &mut random), Decision::Now);
            for limit in limits.by_ref() {
                let Decision::At(at) = restart.decide(now, &config, &mut random) else { panic!("no pause") };
                assert!(at - now <= Duration::from_millis(limit), "{:?} over {limit} ms", at - now);
            }
        }
    }

    // T2
    #[test]
    fn one_more_than_the_intensity_in_a_period_is_given_up() {
        assert_eq!(decide(&config(), &[0, 1_000, 2_000, 9_000]).last(), Some(&Decision::GiveUp));
    }

    // T2
    #[test]
    fn the_window_slides() {
        let config = RestartConfig { delay_min: Duration::ZERO, delay_max: Duration::ZERO, ..config() };
        let spread: Vec<u64> = (0..1_000).map(|n| n * 3_334).collect();
        assert!(decide(&config, &spread).iter().all(|&decision| decision == Decision::Now));
        assert_eq!(decide(&config, &[0, 1, 2, 9_999]).last(), Some(&Decision::GiveUp));
        assert_eq!(decide(&config, &[0, 1, 2, 10_000]).last(), Some(&Decision::Now));
    }

    // T2
    #[test]
    fn restarts_leave_the_window_by_when_they_take_place() {
        let config = config();
        let mut window = Window::default();
        for at in [30_000, 1_000, 2_000] {
            window.count(Instant::from_millis(at), &config);
        }
        assert!(!window.has_room(Instant::from_millis(10_999), &config));
        assert!(window.has_room(Instant::from_millis(11_000), &config));
        assert_eq!(window.len(), 2);
    }

    #[test]
    fn an_intensity_of_zero_allows_nothing() {
        let config = RestartConfig { intensity: 0, ..config() };
        assert_eq!(decide(&config, &[5]), [Decision::GiveUp]);
        assert_eq!(Restart::default().permitted_from(Instant::ZERO, &config), Instant::NEVER);
    }

    #[test]
    fn without_pauses_a_permit_covers_the_room_in_the_window() {
        let config = RestartConfig { delay_min: Duration::ZERO, delay_max: Duration::ZERO, ..config() };
        let mut restart = Restart::default();
        for used in 0..3 {
            assert_eq!(restart.permitted_restarts(&config), 3 - used);
            assert_eq!(restart.permitted_from(Instant::ZERO, &config), Instant::ZERO);
            restart.record(Instant::ZERO, &config);
        }
        // The next one when the window has moved on, and then at least one.
        assert_eq!(restart.permitted_from(Instant::ZERO, &config), Instant::ZERO + config.period);
        assert_eq!(restart.permitted_restarts(&config), 1);
        let unlimited = RestartConfig { intensity: UNLIMITED, ..config.clone() };
        assert_eq!(Restart::default().permitted_restarts(&unlimited), PERMITTED_RESTARTS_MAX);
        let none = RestartConfig { intensity: 0, ..config };
        assert_eq!(Restart::default().permitted_restarts(&none), 0);
    }

    // T3
    #[test]
    fn after_a_good_run_the_next_restart_is_immediate() {
        let config = RestartConfig { period: Duration::from_secs(1), ..config() };
        let decisions = decide(&config, &[0, 2_000, 30_000]);
        assert!(matches!(decisions[..], [Decision::Now, Decision::At(_), Decision::Now]), "{decisions:?}");
    }

    // T3
    #[test]
    fn ten_thousand_failures_do_not_overflow() {
        let config = RestartConfig { intensity: UNLIMITED, ..config() };
        let mut failures = vec![0; 10_000];
        failures.push(u64::MAX);
        for decision in &decide(&config, &failures)[1..10_000] {
            assert!(
                matches!(decision, Decision::At(at) if *at <= Instant::from_millis(350)) || *decision == Decision::Now
            );
        }
    }

    #[test]
    fn a_permit_begins_when_a_decision_would_be_immediate() {
        let (config, mut random) = (config(), Random::seeded(3));
        for seed in 0..500 {
            let (mut restart, mut draw) = (Restart::default(), Random::seeded(seed));
            let mut now = Instant::ZERO;
            for _ in 0..10 {
                now += draw.duration_below(Duration::from_secs(15));
                let permitted_from = restart.permitted_from(now, &config);
                assert_eq!(restart.permitted_restarts(&config), 1, "where there are pauses");
                let mut asked = restart.clone();
                if permitted_from <= now {
                    assert_eq!(asked.decide(now, &config, &mut random), Decision::Now);
                    restart.record(now, &config);
                } else {
                    assert_ne!(
                        asked.decide(
                            now,
                            &RestartConfig { delay_min: config.delay_max, ..config.clone() },
                            &mut random
                        ),
                        Decision::Now
                    );
                    restart = asked;
                }
            }
        }
    }
}
