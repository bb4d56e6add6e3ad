//! Replacements: a worker is replaced for a fault of its own, and a blocked thread in time.

use std::collections::BTreeMap;
use std::time::Duration;

use heartbeat_core::{ArbiterId, Cause};

use crate::checker::{Checker, nanos};
use crate::network::NodeIndex;

/// The facts about blocked threads by which replacements are judged.
#[derive(Default)]
pub(crate) struct Threads {
    /// When a thread was last blocked, and until when.
    pub(crate) blocked: BTreeMap<(NodeIndex, ArbiterId), (u64, u64)>,
    /// Promise 2: by when a blocked thread must have been abandoned.
    pub(crate) owed: BTreeMap<(NodeIndex, ArbiterId), u64>,
    /// When a node last abandoned a thread.
    pub(crate) abandoned: BTreeMap<NodeIndex, u64>,
    /// When a node last refused to abandon a thread, since it had too many already.
    pub(crate) refused: BTreeMap<NodeIndex, u64>,
}

impl Checker {
    pub(crate) fn thread_blocked(&mut self, now: u64, place: NodeIndex, arbiter: ArbiterId, duration: Duration) {
        /// Deadlines come up to a millisecond late, by construction.
        const SLACK: Duration = Duration::from_millis(2);
        self.threads.blocked.insert((place, arbiter), (now, now + nanos(duration)));
        let bound = self.config.workers.timeout + self.config.workers.interval + SLACK;
        if duration > bound {
            self.threads.owed.insert((place, arbiter), now + nanos(bound));
        }
    }

    pub(crate) fn check_abandonment(&mut self, now: u64, place: NodeIndex, arbiter: ArbiterId) {
        self.threads.owed.remove(&(place, arbiter));
        self.threads.abandoned.insert(place, now);
        let workers = &self.config.workers;
        let blocked_for =
            self.threads.blocked.get(&(place, arbiter)).map_or(0, |&(since, until)| now.min(until) - since.min(now));
        // Its last sign of life came at most an interval before it was blocked.
        if blocked_for + nanos(workers.interval) < nanos(workers.timeout) {
            self.note(now, &format!("{arbiter:?} of {} was abandoned without cause", self.names[place]));
        }
    }

    pub(crate) fn check_failure(&mut self, now: u64, place: NodeIndex, worker: &str, cause: &Cause) {
        let abandoned_now = self.threads.abandoned.get(&place) == Some(&now);
        let harmed = self.harmed.contains(&(place, worker.to_owned()));
        let has_cause = match cause {
            Cause::Panicked { .. } | Cause::Stopped => harmed,
            Cause::Blocked { .. } => harmed && abandoned_now,
            Cause::Displaced { .. } => abandoned_now,
            _ => false,
        };
        if !has_cause {
            self.note(now, &format!("{worker} on {} failed without cause: {cause}", self.names[place]));
        }
    }
}
