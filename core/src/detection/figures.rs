//! `figures`: what a watched link's detector has learnt, for people who ask.
//!
//! The figures are read from the state that verdicts follow from. Nothing is kept for them.

use std::time::Duration;

use crate::detection::{AnyDetector, Detector, Verdict};
use crate::time::Instant;

/// How a watched target stands. The three silences are counted from its newest heartbeat.
#[derive(Clone, PartialEq, Debug)]
pub struct LinkFigures {
    /// The verdict now.
    pub verdict: Verdict,
    /// For how long it has been silent.
    pub silence: Duration,
    /// The silence after which its next heartbeat is expected.
    pub expected_after: Duration,
    /// The silence after which it is suspected. It may lie beyond `dead_after`; then it is never
    /// suspected before it is dead.
    pub suspected_after: Duration,
    /// The silence after which it is dead in any case.
    pub dead_after: Duration,
    /// How improbable the silence is; see [`Detector::phi`].
    pub phi: f64,
    /// Number of the schedule slot of its newest heartbeat; zero before the first.
    pub slot: u64,
    /// What the budget has learnt, if that is the detector.
    pub budget: Option<BudgetFigures>,
}

/// What a [`Budget`](crate::detection::Budget) has learnt about a link.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BudgetFigures {
    /// Heartbeats that it learnt from.
    pub heartbeats: u32,
    /// The interval that the target announced.
    pub interval: Duration,
    /// Wrong suspicions allowed in an hour.
    pub allowed_per_hour: f64,
    /// Wrong suspicions that it made, and that it was allowed. Both fade over about eight budgets,
    /// so that only their difference means something: above zero it is overspent.
    pub made: f64,
    /// See `made`.
    pub allowed: f64,
    /// See [`Budget::kept_at`](crate::detection::Budget::kept_at).
    pub kept_at: Option<f64>,
    /// Whether losses are frequent now.
    pub is_lossy: bool,
    /// Share of heartbeats that come after a loss.
    pub loss: f64,
    /// How late a heartbeat may be before that surprises.
    pub jitter: Duration,
    /// How long it waits past the expected arrival.
    pub margin: Duration,
    /// The longest silence past the expected arrival that it remembers.
    pub longest: Duration,
}

/// Heartbeats of watched nodes, by what became of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeartbeatCounts {
    /// Those that were the newest of their node when they arrived.
    pub received: u64,
    /// Those that had not arrived when a later one did, and that the node has not slept through.
    pub missed: u64,
    /// Of the missed ones, those that arrived after all.
    pub late: u64,
}

/// A budget that cannot be kept below the timeout, in wrong suspicions an hour.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct KeptAt {
    /// How many are allowed.
    pub allowed_per_hour: f64,
    /// How many there are at least, however long the detector waits below the timeout.
    pub kept_per_hour: f64,
}

impl AnyDetector {
    /// What the budget cannot keep below the timeout; `None` if it can, and for the other
    /// detectors.
    pub fn kept_at(&self) -> Option<KeptAt> {
        match self {
            AnyDetector::Budget(budget) => budget
                .kept_at()
                .map(|kept_per_hour| KeptAt { allowed_per_hour: budget.mistakes().per_hour(), kept_per_hour }),
            AnyDetector::Fixed(_) | AnyDetector::Chen(_) | AnyDetector::Phi(_) => None,
        }
    }

    /// What the budget has learnt; `None` for the other detectors.
    pub fn budget_figures(&self) -> Option<BudgetFigures> {
        match self {
            AnyDetector::Budget(budget) => Some(budget.figures()),
            AnyDetector::Fixed(_) | AnyDetector::Chen(_) | AnyDetector::Phi(_) => None,
        }
    }

    /// How improbable silences after a heartbeat at `newest` are: so many silences that divide the
    /// time up to `most` evenly, each with its [`Detector::phi`].
    pub fn curve(&self, newest: Instant, most: Duration, points: u32) -> Vec<(Duration, f64)> {
        let silence = |point: u32| most.mul_f64(f64::from(point) / f64::from(points.max(1)));
        (0..=points).map(silence).map(|silence| (silence, self.phi(newest + silence))).collect()
    }
}
