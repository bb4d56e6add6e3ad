//! `LocalHealth`: how far this node trusts itself.
//!
//! A node that is slow or badly connected finds all others late. Each sign of that raises a score:
//! a pause, a missing answer, a suspicion that was refuted. Each answer that comes lowers it. The
//! score lengthens this node's own timeouts. It travels with each report, so that others can
//! discount the reports of an unwell node.
//!
//! Source: Dadgar, Phillips and Currey, "Lifeguard: local health awareness for more accurate
//! failure detection", 2017 (arXiv 1707.00788).

use std::time::Duration;

/// The worst score: timeouts are then nine times as long.
const SCORE_MAX: u8 = 8;

/// From this score on, a report that agrees to a suspicion does not count.
const CREDIBLE_BELOW: u8 = 4;

/// The score: 0 is well.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LocalHealth(u8);

impl LocalHealth {
    /// Handles a sign that something is wrong with this node.
    pub(crate) fn degrade(&mut self) {
        self.0 = (self.0 + 1).min(SCORE_MAX);
    }

    /// Handles a sign that this node is well.
    pub(crate) fn recover(&mut self) {
        self.0 = self.0.saturating_sub(1);
    }

    /// The score, as it is sent to others.
    pub(crate) fn score(self) -> u8 {
        self.0
    }

    /// The timeout of this node, where a healthy node has `timeout`.
    pub(crate) fn stretch(self, timeout: Duration) -> Duration {
        timeout * (1 + u32::from(self.0))
    }
}

/// Whether the report of a node with this score counts.
pub(crate) fn is_credible(score: u8) -> bool {
    score < CREDIBLE_BELOW
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_bounds_and_lengthens_timeouts() {
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
