//! `LocalHealth`: how far this node trusts itself.
//!
//! Whoever is slow, or badly connected, finds everybody else late. Each sign of it (a pause, an
//! answer that did not come, a suspicion of ours that was refuted) raises a score, each answer that
//! came lowers it. The score stretches our own patience, and we tell it, so that others can leave
//! our word out.
//!
//! Source: Dadgar, Phillips and Currey, "Lifeguard: local health awareness for more accurate
//! failure detection", 2017 (arXiv 1707.00788).

use std::time::Duration;

/// The worst score: patience is then nine times as long.
const SCORE_MAX: u8 = 8;

/// From this score on, a word of doubt does not count.
const CREDIBLE_BELOW: u8 = 4;

/// The score: 0 is well.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LocalHealth(u8);

impl LocalHealth {
    /// Takes in a sign that something is wrong with us.
    pub(crate) fn degrade(&mut self) {
        self.0 = (self.0 + 1).min(SCORE_MAX);
    }

    /// Takes in a sign that all is well.
    pub(crate) fn recover(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    /// The score, as it is told to others.
    pub(crate) fn score(self) -> u8 {
        self.0
    }

    /// Our patience where a node in good health has `patience`.
    pub(crate) fn stretch(self, patience: Duration) -> Duration {
        patience * (1 + u32::from(self.0))
    }
}

/// Whether the word of a node with this score counts.
pub(crate) fn is_credible(score: u8) -> bool {
    score < CREDIBLE_BELOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_bounds_and_stretches_patience() {
        let mut health = LocalHealth::default();
        health.recover();
        assert_eq!(health.stretch(Duration::from_secs(1)), Duration::from_secs(1));
        (0..20).for_each(|_| health.degrade());
        assert_eq!((health.score(), health.stretch(Duration::from_secs(1))), (8, Duration::from_secs(9)));
        assert!(!is_credible(health.score()));
        (0..5).for_each(|_| health.recover());
        assert!(is_credible(health.score()));
    }
}
