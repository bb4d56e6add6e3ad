//! `Times`: how long hand-overs of shards and answers of the authority took, from events and
//! answers that there are anyway.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heartbeat_core::{Event, Instant, NodeId};

use crate::lock::lock;
use crate::worker::histogram::HistogramCounts;

/// How long hand-overs and the authority took.
#[derive(Debug, Default)]
pub(crate) struct Times(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The workers of shards that this node has from another one and that are not up yet: their
    /// group, and since when this node owns them.
    moving: BTreeMap<Arc<str>, (Arc<str>, Instant)>,
    /// By group.
    hand_overs: BTreeMap<Arc<str>, HistogramCounts>,
    /// By request.
    answers: BTreeMap<&'static str, HistogramCounts>,
    /// By request: how many failed.
    failures: BTreeMap<&'static str, u64>,
    /// Whether the authority did not answer the last time.
    is_unreachable: bool,
}

/// How an authority answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuthorityTimes {
    /// By request, those that it answered.
    pub(crate) answers: BTreeMap<&'static str, HistogramCounts>,
    /// By request, how many it did not answer.
    pub(crate) failures: BTreeMap<&'static str, u64>,
    /// Whether it answers.
    pub(crate) is_reachable: bool,
}

impl Times {
    /// Notes what an event says of shards and of the authority. `me` is this node.
    pub(crate) fn apply(&self, event: &Event, me: Option<NodeId>, now: Instant) {
        if let Event::ShardMoved { group, shard, from, to } = event {
            let is_here = |name: &Option<Arc<str>>| name.as_ref().is_some_and(|name| me == Some(NodeId::of(name)));
            let worker = format!("{group}/{}", shard.index).into();
            let mut inner = lock(&self.0);
            if is_here(to) && from.is_some() && !is_here(from) {
                inner.moving.insert(worker, (group.clone(), now));
            } else {
                inner.moving.remove(&worker);
            }
        } else if let Event::Started { worker, .. } = event {
            let mut inner = lock(&self.0);
            if let Some((group, since)) = inner.moving.remove(worker) {
                inner.hand_overs.entry(group).or_default().record(now - since);
            }
        } else if let Event::AuthorityLost { .. } = event {
            lock(&self.0).is_unreachable = true;
        } else if let Event::AuthorityReached = event {
            lock(&self.0).is_unreachable = false;
        }
    }

    /// Counts an answer of the authority, or that none came, after this time.
    pub(crate) fn answered(&self, request: &'static str, is_answer: bool, time: Duration) {
        let mut inner = lock(&self.0);
        if is_answer {
            inner.answers.entry(request).or_default().record(time);
        } else {
            *inner.failures.entry(request).or_default() += 1;
        }
    }

    /// How long it took from when this node got a shard of another one to when the shard was up
    /// here, by group.
    pub(crate) fn hand_overs(&self) -> BTreeMap<Arc<str>, HistogramCounts> {
        lock(&self.0).hand_overs.clone()
    }

    /// How the authority answers.
    pub(crate) fn authority(&self) -> AuthorityTimes {
        let inner = lock(&self.0);
        AuthorityTimes {
            answers: inner.answers.clone(),
            failures: inner.failures.clone(),
            is_reachable: !inner.is_unreachable,
        }
    }
}

#[cfg(test)]
mod tests {
    use heartbeat_core::{Epoch, Generation, Shard};

    use super::*;

    /// The node `here` gets a shard of `from`, which is up after a second. Returns the hand-overs.
    #[track_caller]
    fn check(from: Option<&str>, to: &str, expected: Option<Duration>) {
        let (times, me, at) = (Times::default(), Some(NodeId::of("here")), Instant::from_millis(500));
        let shard = Shard { index: 7, epoch: Epoch(1) };
        let (from, to) = (from.map(Arc::from), Some(to.into()));
        times.apply(&Event::ShardMoved { group: "orders".into(), shard, from, to }, me, at);
        let started = |worker: &str| Event::Started { worker: worker.into(), generation: Generation(1), shard: None };
        for worker in ["orders/6", "orders/7", "orders/7"] {
            times.apply(&started(worker), me, at + Duration::from_secs(1));
        }
        let found = times.hand_overs().get("orders").map(|counts| (counts.count(), Duration::from_nanos(counts.sum)));
        assert_eq!(found, expected.map(|time| (1, time)));
    }

    #[test]
    fn a_hand_over_ends_when_the_shard_is_up_here() {
        check(Some("there"), "here", Some(Duration::from_secs(1)));
        check(None, "here", None);
        check(Some("here"), "here", None);
        check(Some("here"), "there", None);
    }

    #[test]
    fn answers_and_failures_of_the_authority_are_apart() {
        let times = Times::default();
        times.answered("renew", true, Duration::from_millis(3));
        times.answered("renew", false, Duration::from_secs(5));
        times.apply(&Event::AuthorityLost { reason: "refused".into() }, None, Instant::ZERO);
        let found = times.authority();
        assert_eq!((found.answers["renew"].sum, found.failures["renew"], found.is_reachable), (3_000_000, 1, false));
        times.apply(&Event::AuthorityReached, None, Instant::ZERO);
        assert!(times.authority().is_reachable);
    }
}
