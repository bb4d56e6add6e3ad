//! Detectors: how long may this target be silent before we suspect it?
//!
//! You wait for a friend who is always on time; after five minutes you worry. For the friend who is always late, you do not. A detector is
//! that habit made explicit: it takes in arrivals and answers with one [`Instant`], the deadline after which silence means
//! suspicion. All detectors, the accrual ones too, are that one question; so the monitor needs one deadline a target and no polling.
//!
//! A detector never says "dead". Death is concluded from silence past a timeout the user set, or from evidence, in `monitor` and above.

mod fixed;
mod phi;

use std::time::Duration;

pub use fixed::Fixed;
pub use phi::Phi;

use crate::config::{DetectorConfig, DetectorKind};
use crate::time::Instant;

/// What one detector thinks of its target now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// Heard of lately enough.
    Alive,
    /// Silent for longer than expected.
    Suspect,
    /// Silent past the hard timeout. No detector says so; the monitor does.
    Dead,
}

/// One heartbeat, as a detector sees it: the newest so far of its target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// When it came in at our door.
    pub at: Instant,
    /// When the next one is due, by the sender's announcement.
    pub interval: Duration,
    /// Schedule slots since the heartbeat before it: 1, or more if some were lost or slept through.
    pub slots: u64,
}

/// Learns from arrivals and turns silence into suspicion.
pub trait Detector {
    /// Takes in a heartbeat. Arrivals are handed over in order of their slots; one whose `at` is not the newest changes nothing.
    fn heartbeat(&mut self, arrival: Arrival);

    /// The last instant at which silence still counts as alive.
    fn deadline(&self) -> Instant;

    /// Counts the silence from `now` on, without learning anything: whatever was missed before is excused.
    fn excuse(&mut self, now: Instant);

    /// What the silence up to `now` means. At the deadline itself the target is still alive.
    fn verdict(&self, now: Instant) -> Verdict {
        if now <= self.deadline() { Verdict::Alive } else { Verdict::Suspect }
    }
}

/// One of the detectors, chosen by the config; a closed set, so that a million of them lie in one table.
#[derive(Clone, Debug)]
pub enum AnyDetector {
    /// Constant silence.
    Fixed(Fixed),
    /// Phi accrual.
    Phi(Phi),
}

impl AnyDetector {
    /// The detector that `config` asks for, for a target that sends every `interval`, watched since `now`.
    pub fn new(config: &DetectorConfig, interval: Duration, now: Instant) -> AnyDetector {
        match config.kind {
            DetectorKind::Fixed => AnyDetector::Fixed(Fixed::new(config.suspect_after, now)),
            DetectorKind::Phi => AnyDetector::Phi(Phi::new(config, interval, now)),
        }
    }
}

impl Detector for AnyDetector {
    fn heartbeat(&mut self, arrival: Arrival) {
        match self {
            AnyDetector::Fixed(fixed) => fixed.heartbeat(arrival),
            AnyDetector::Phi(phi) => phi.heartbeat(arrival),
        }
    }

    fn deadline(&self) -> Instant {
        match self {
            AnyDetector::Fixed(fixed) => fixed.deadline(),
            AnyDetector::Phi(phi) => phi.deadline(),
        }
    }

    fn excuse(&mut self, now: Instant) {
        match self {
            AnyDetector::Fixed(fixed) => fixed.excuse(now),
            AnyDetector::Phi(phi) => phi.excuse(now),
        }
    }
}
