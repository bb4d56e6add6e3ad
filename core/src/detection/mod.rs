//! Detectors: how long may a target be silent before it is suspected?
//!
//! A detector learns from the arrival times of heartbeats what is usual for a target. It answers
//! with one [`Instant`]: the deadline after which silence means suspicion. All detectors, the
//! accrual ones too, reduce to that one deadline. So the monitor keeps one deadline a target, and
//! polls nothing.
//!
//! A detector never concludes death. That follows from silence past a timeout that the user set, or
//! from the evidence of other nodes, in [`monitor`] and in the membership.

mod body;
mod budget;
mod chen;
mod figures;
mod fixed;
pub mod monitor;
pub(crate) mod pause;
mod phi;
pub mod qos;
mod schedule;
mod summary;
mod tail;
pub mod trace;
mod window;

use std::time::Duration;

pub use budget::Budget;
pub use chen::Chen;
pub use figures::{BudgetFigures, HeartbeatCounts, KeptAt, LinkFigures};
pub use fixed::Fixed;
pub use phi::Phi;
pub use summary::LinkSummary;

use crate::config::{DetectorConfig, DetectorKind};
use crate::time::Instant;

/// What one detector concludes about its target now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// The last heartbeat is recent enough.
    Alive,
    /// Silent for longer than expected.
    Suspect,
    /// Silent past the hard timeout. No detector says so; the monitor does.
    Dead,
}

/// One heartbeat, as a detector sees it: the newest so far of its target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// When it arrived.
    pub at: Instant,
    /// When the next one is due, by the sender's announcement.
    pub interval: Duration,
    /// Schedule slots since the heartbeat before it: 1, or more if heartbeats between them were
    /// lost or slept through.
    pub slots: u64,
    /// How many of these slots the sender slept through, as it counts them.
    pub slept: u64,
    /// Whether it may have waited in the socket while we were paused. Then `at` is when we woke,
    /// and the detector learns nothing from it.
    pub waited: bool,
}

/// A time in which this process was paused; datagrams that arrived meanwhile were seen only at its
/// end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pause {
    /// When we were last known to be awake.
    pub from: Instant,
    /// When we woke.
    pub to: Instant,
}

impl Pause {
    /// Moves a deadline by a pause that does not count as silence: by the length of the pause, and
    /// to no earlier than `grace` after waking. A deadline that had passed before the pause stays
    /// where it was.
    pub fn discount(self, deadline: Instant, grace: Duration) -> Instant {
        if deadline < self.from { deadline } else { (deadline + (self.to - self.from)).max(self.to + grace) }
    }
}

/// Learns from arrivals and turns silence into suspicion.
pub trait Detector {
    /// Learns from a heartbeat. The caller passes arrivals in the order of their slots, and leaves
    /// out a heartbeat that a later one overtook.
    fn heartbeat(&mut self, arrival: Arrival);

    /// Learns that the heartbeat of a slot that had counted as lost has come in after all,
    /// `slots_behind` the newest one: it was overtaken. It is no news of the target. A detector
    /// that does not count losses has nothing to take back.
    fn overtaken(&mut self, slots_behind: u64) {
        let _ = slots_behind; // Most detectors count no losses.
    }

    /// The last instant at which silence still counts as alive.
    fn deadline(&self) -> Instant;

    /// When the next heartbeat should arrive, if nothing delays it.
    fn expected(&self) -> Instant;

    /// How improbable the silence up to `now` is: the negative decimal logarithm of its
    /// probability. Zero or more; no unit. Each detector documents what probability means there,
    /// and how far it can be trusted.
    fn phi(&self, now: Instant) -> f64;

    /// Discounts a pause of our own from the silence, without learning anything.
    fn discount_pause(&mut self, pause: Pause);

    /// Counts the silence from `now` on, without learning anything: a sign of life outside the
    /// schedule has shown that the target is alive.
    fn extend(&mut self, now: Instant);

    /// What the silence up to `now` means. At the deadline itself the target is still alive.
    fn verdict(&self, now: Instant) -> Verdict {
        if now <= self.deadline() { Verdict::Alive } else { Verdict::Suspect }
    }
}

/// One of the detectors, chosen by the config; a closed set, so that a million of them lie in one
/// table.
#[derive(Clone, Debug)]
pub enum AnyDetector {
    /// Constant silence.
    Fixed(Fixed),
    /// Constant margin past the expected arrival.
    Chen(Chen),
    /// Phi accrual.
    Phi(Phi),
    /// Learnt silence, by an accepted rate of mistakes.
    Budget(Budget),
}

impl AnyDetector {
    /// The detector that `config` asks for, for a target that sends every `interval`, watched since
    /// `now`.
    pub fn new(config: &DetectorConfig, interval: Duration, now: Instant) -> AnyDetector {
        match config.kind {
            DetectorKind::Fixed => AnyDetector::Fixed(Fixed::new(config.suspect_after, interval, now)),
            DetectorKind::Chen => AnyDetector::Chen(Chen::new(config.margin, config.window, interval, now)),
            DetectorKind::Phi => AnyDetector::Phi(Phi::new(config, interval, now)),
            DetectorKind::Budget => AnyDetector::Budget(Budget::new(config.mistakes, interval, now)),
        }
    }

    /// The same, for an observer that asks other observers before it suspects.
    #[must_use]
    pub fn with_second_opinion(self) -> AnyDetector {
        match self {
            AnyDetector::Budget(budget) => AnyDetector::Budget(budget.with_second_opinion()),
            AnyDetector::Fixed(_) | AnyDetector::Chen(_) | AnyDetector::Phi(_) => self,
        }
    }

    /// The same, for a target that is dead after a silence of `timeout` in any case. Only the
    /// budget makes use of it.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> AnyDetector {
        match self {
            AnyDetector::Budget(budget) => AnyDetector::Budget(budget.with_timeout(timeout)),
            AnyDetector::Fixed(_) | AnyDetector::Chen(_) | AnyDetector::Phi(_) => self,
        }
    }

    /// The same, for a target of which nothing is known yet; see [`Budget::starting_from`].
    #[must_use]
    pub fn starting_from<'a>(self, others: impl Iterator<Item = &'a AnyDetector>) -> AnyDetector {
        let budgets = others.filter_map(|other| match other {
            AnyDetector::Budget(budget) => Some(budget),
            AnyDetector::Fixed(_) | AnyDetector::Chen(_) | AnyDetector::Phi(_) => None,
        });
        match self {
            AnyDetector::Budget(budget) => AnyDetector::Budget(budget.starting_from(budgets)),
            AnyDetector::Fixed(_) | AnyDetector::Chen(_) | AnyDetector::Phi(_) => self,
        }
    }
}

impl AnyDetector {
    /// Takes what former observers have learnt of the target; see [`Budget::start_from`]. The other
    /// detectors make no use of it.
    pub fn start_from(&mut self, summary: LinkSummary) {
        match self {
            AnyDetector::Budget(budget) => budget.start_from(summary),
            AnyDetector::Fixed(_) | AnyDetector::Chen(_) | AnyDetector::Phi(_) => {}
        }
    }

    /// What it has learnt, for other observers; `None` while that is too little, and for detectors
    /// other than the budget.
    pub fn summary(&self) -> Option<LinkSummary> {
        match self {
            AnyDetector::Budget(budget) => budget.summary(),
            AnyDetector::Fixed(_) | AnyDetector::Chen(_) | AnyDetector::Phi(_) => None,
        }
    }
}

impl Detector for AnyDetector {
    fn heartbeat(&mut self, arrival: Arrival) {
        match self {
            AnyDetector::Fixed(fixed) => fixed.heartbeat(arrival),
            AnyDetector::Chen(chen) => chen.heartbeat(arrival),
            AnyDetector::Phi(phi) => phi.heartbeat(arrival),
            AnyDetector::Budget(budget) => budget.heartbeat(arrival),
        }
    }

    fn overtaken(&mut self, slots_behind: u64) {
        match self {
            AnyDetector::Fixed(fixed) => fixed.overtaken(slots_behind),
            AnyDetector::Chen(chen) => chen.overtaken(slots_behind),
            AnyDetector::Phi(phi) => phi.overtaken(slots_behind),
            AnyDetector::Budget(budget) => budget.overtaken(slots_behind),
        }
    }

    fn deadline(&self) -> Instant {
        match self {
            AnyDetector::Fixed(fixed) => fixed.deadline(),
            AnyDetector::Chen(chen) => chen.deadline(),
            AnyDetector::Phi(phi) => phi.deadline(),
            AnyDetector::Budget(budget) => budget.deadline(),
        }
    }

    fn expected(&self) -> Instant {
        match self {
            AnyDetector::Fixed(fixed) => fixed.expected(),
            AnyDetector::Chen(chen) => chen.expected(),
            AnyDetector::Phi(phi) => phi.expected(),
            AnyDetector::Budget(budget) => budget.expected(),
        }
    }

    fn phi(&self, now: Instant) -> f64 {
        match self {
            AnyDetector::Fixed(fixed) => fixed.phi(now),
            AnyDetector::Chen(chen) => chen.phi(now),
            AnyDetector::Phi(phi) => phi.phi(now),
            AnyDetector::Budget(budget) => budget.phi(now),
        }
    }

    fn discount_pause(&mut self, pause: Pause) {
        match self {
            AnyDetector::Fixed(fixed) => fixed.discount_pause(pause),
            AnyDetector::Chen(chen) => chen.discount_pause(pause),
            AnyDetector::Phi(phi) => phi.discount_pause(pause),
            AnyDetector::Budget(budget) => budget.discount_pause(pause),
        }
    }

    fn extend(&mut self, now: Instant) {
        match self {
            AnyDetector::Fixed(fixed) => fixed.extend(now),
            AnyDetector::Chen(chen) => chen.extend(now),
            AnyDetector::Phi(phi) => phi.extend(now),
            AnyDetector::Budget(budget) => budget.extend(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, PhiReading};
    use crate::random::Random;

    /// The heartbeat after the one before it, at this millisecond, of a sender with this interval.
    pub(super) fn beat(at_ms: u64, interval_ms: u64) -> Arrival {
        let interval = Duration::from_millis(interval_ms);
        Arrival { at: Instant::from_millis(at_ms), interval, slots: 1, slept: 0, waited: false }
    }

    /// A pause of ours between these milliseconds.
    pub(super) fn pause(from_ms: u64, to_ms: u64) -> Pause {
        Pause { from: Instant::from_millis(from_ms), to: Instant::from_millis(to_ms) }
    }

    fn all() -> Vec<AnyDetector> {
        let (second, config) = (Duration::from_secs(1), Config::default().detector);
        let cassandra = DetectorConfig { kind: DetectorKind::Phi, reading: PhiReading::Cassandra, ..config.clone() };
        let kinds = [DetectorKind::Fixed, DetectorKind::Chen, DetectorKind::Phi, DetectorKind::Budget];
        let configs = kinds.map(|kind| DetectorConfig { kind, ..config.clone() });
        configs.iter().chain([&cassandra]).map(|config| AnyDetector::new(config, second, Instant::ZERO)).collect()
    }

    /// For any arrivals, a heartbeat that has just come in leaves its sender alive, and nothing
    /// panics.
    #[test]
    fn nonsense_from_the_network_is_survived() {
        for seed in 0..200 {
            let mut random = Random::seeded(seed);
            for mut detector in all() {
                let mut now = 0;
                for _ in 0..300 {
                    now += random.below(3_000_000_000);
                    let slots = [1, 1, 1, 2, 1 << 40, u64::MAX, random.next_u64().max(1)][random.below(7) as usize];
                    let interval = [1_000, 1_000, 0, 1, 31_536_000_000, u64::MAX][random.below(6) as usize];
                    let back = if random.chance(0.1) { random.below(now.max(1)) } else { 0 };
                    let at = Instant::from_nanos(now - back);
                    let slept = random.below(slots);
                    let interval = Duration::from_millis(interval);
                    match random.below(12) {
                        0 => detector.discount_pause(Pause { from: at, to: Instant::from_nanos(now) }),
                        1 => detector.extend(at),
                        _ => detector.heartbeat(Arrival { at, interval, slots, slept, waited: random.chance(0.1) }),
                    }
                    assert!(detector.phi(Instant::from_nanos(now + 1)) >= 0.0, "seed {seed}: {detector:?}");
                    assert!(detector.phi(Instant::NEVER).is_finite(), "seed {seed}: {detector:?}");
                    let (_, _) = (detector.deadline(), detector.expected());
                }
                // And it detects well again soon.
                let second = Duration::from_secs(1);
                for _ in 0..3_000 {
                    now += 1_000_000_000;
                    let at = Instant::from_nanos(now);
                    detector.heartbeat(Arrival { at, interval: second, slots: 1, slept: 0, waited: false });
                }
                let at = Instant::from_nanos(now);
                assert_eq!(detector.verdict(at + second), Verdict::Alive, "seed {seed}: {detector:?}");
                let patience = detector.deadline() - at;
                assert!(patience < Duration::from_secs(122), "seed {seed}: {patience:?} {detector:?}");
            }
        }
    }
}
