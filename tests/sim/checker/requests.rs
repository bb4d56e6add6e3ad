//! Requests: each is handled at most once, by an owner that may, and its sender learns what became
//! of it (promise 8).

use std::collections::BTreeMap;

use heartbeat_core::requests::{Counters, Outcome, Refusal};

use crate::checker::Checker;
use crate::network::NodeIndex;

/// A sender and a shard: the node, its life, the shard's index.
pub(crate) type Lane = (NodeIndex, u64, u32);

/// All requests so far.
#[derive(Default)]
pub(crate) struct Sent {
    requests: BTreeMap<u64, Sending>,
    /// In the order in which workers began to handle them.
    handled: Vec<u64>,
    /// The process that runs on each node, and its newest figures.
    counters: BTreeMap<NodeIndex, (u64, Counters)>,
    /// The highest epoch under which each shard handled a request.
    epochs: BTreeMap<u32, u64>,
}

/// One request.
struct Sending {
    lane: Lane,
    sent_at: u64,
    /// Whether its sender may stop waiting.
    is_bounded: bool,
    is_handled: bool,
    /// Whether an old node may refuse it.
    is_new: bool,
    outcome: Option<Outcome>,
}

impl Sent {
    /// Forgets the requests that were sent before this.
    pub(crate) fn forget_before(&mut self, time: u64) {
        self.requests.retain(|_, sending| sending.sent_at >= time);
        self.handled.retain(|id| self.requests.contains_key(id));
    }
}

impl Checker {
    pub(crate) fn requests_started(&mut self, place: NodeIndex, life: u64) {
        self.sent.counters.insert(place, (life, Counters::default()));
    }

    pub(crate) fn requests_ended(&mut self, place: NodeIndex) {
        self.sent.counters.remove(&place);
    }

    pub(crate) fn request_sent(&mut self, now: u64, id: u64, lane: Lane, is_bounded: bool) {
        let sending = Sending { lane, sent_at: now, is_bounded, is_handled: false, is_new: false, outcome: None };
        self.sent.requests.insert(id, sending);
    }

    pub(crate) fn request_forsaken(&mut self, id: u64) {
        if let Some(sending) = self.sent.requests.get_mut(&id) {
            sending.is_bounded = true;
        }
    }

    pub(crate) fn request_is_new(&mut self, id: u64) {
        if let Some(sending) = self.sent.requests.get_mut(&id) {
            sending.is_new = true;
        }
    }

    /// A worker begins to handle a request, under this epoch. `others` may act for its shard, too.
    pub(crate) fn request_handled(
        &mut self,
        now: u64,
        place: NodeIndex,
        id: u64,
        (shard, epoch): (u32, u64),
        others: &[NodeIndex],
    ) {
        let here = self.names[place].clone();
        if let Some(&other) = others.first() {
            let other = &self.names[other];
            self.note(now, &format!("{here} handles request {id} of shard {shard} while {other} has a lease of it"));
        }
        let newest = self.sent.epochs.entry(shard).or_default();
        let is_late = epoch < *newest;
        *newest = epoch.max(*newest);
        // Without a quorum or an authority both sides of a partition may own a shard.
        if is_late && self.is_exclusive() {
            let newest = self.sent.epochs[&shard];
            self.note(now, &format!("{here} handles request {id} of shard {shard} at epoch {epoch}, after {newest}"));
        }
        let Some(sending) = self.sent.requests.get_mut(&id) else {
            return self.note(now, &format!("{here} handles request {id}, and no client sent it"));
        };
        let (was_handled, lane) = (std::mem::replace(&mut sending.is_handled, true), sending.lane);
        let is_refused = matches!(sending.outcome, Some(Outcome::Refused(_)));
        self.sent.handled.push(id);
        if was_handled {
            self.note(now, &format!("request {id} is handled twice, now on {here}"));
        }
        if is_refused {
            self.note(now, &format!("{here} handles request {id}, and its sender was told that none will"));
        }
        if lane.2 != shard {
            self.note(now, &format!("request {id} to shard {} reached shard {shard}", lane.2));
        }
    }

    pub(crate) fn request_ended(&mut self, now: u64, place: NodeIndex, id: u64, outcome: Outcome) {
        let Some(sending) = self.sent.requests.get_mut(&id) else { return };
        let is_wrong = match &outcome {
            Outcome::Handled(answer) => !sending.is_handled || **answer != id.to_le_bytes(),
            Outcome::Refused(_) => sending.is_handled,
            Outcome::Interrupted(_) | Outcome::TimedOut => false,
        };
        let before = sending.outcome.replace(outcome.clone());
        let text = format!("request {id} of {} ends as {outcome:?}", self.names[place]);
        if is_wrong {
            self.note(now, &format!("{text}, which is not what happened"));
        }
        if let Some(before) = before {
            self.note(now, &format!("{text}, after {before:?}"));
        }
    }

    /// Checks the figures of a node's requests. The world calls it after each of their inputs.
    pub(crate) fn request_bounds(&mut self, now: u64, place: NodeIndex, counters: Counters) {
        let config = &self.config.requests;
        let (held_max, held_bytes_max) = (config.held_max, config.held_bytes_max);
        let here = self.names[place].clone();
        if counters.held > held_max || counters.held_bytes > held_bytes_max {
            let (held, bytes) = (counters.held, counters.held_bytes);
            self.note(now, &format!("{held} requests of {bytes} bytes wait at {here}"));
        }
        let Counters { sent, handled, refused, interrupted, timed_out, held, under_way, malformed, .. } = counters;
        let sum = handled + refused + interrupted + timed_out + u64::from(held) + u64::from(under_way);
        let before = self.sent.counters.get_mut(&place).map(|(_, kept)| std::mem::replace(kept, counters));
        if sent != sum {
            self.note(now, &format!("the requests of {here} do not add up: {counters:?}"));
        }
        if malformed > before.map_or(0, |before| before.malformed) {
            self.note(now, &format!("{here} was sent bytes that are no frame"));
        }
    }

    /// Whether every request of a process that still runs has ended.
    pub(crate) fn are_requests_over(&self) -> bool {
        self.sent.counters.values().all(|(_, counters)| counters.held == 0 && counters.under_way == 0)
    }

    /// The requests that are not as they should be once none is under way; empty if all are.
    /// Requests sent after `well_since` must have been handled, unless their shard `may_fail`.
    pub(crate) fn unsettled_requests(&self, well_since: u64, may_fail: impl Fn(u32) -> bool) -> Vec<String> {
        let mut wrong = Vec::new();
        let lives = |lane: &Lane| self.sent.counters.get(&lane.0).is_some_and(|(life, _)| *life == lane.1);
        let mut totals: BTreeMap<NodeIndex, [u64; 5]> = BTreeMap::new();
        for (id, sending) in self.sent.requests.iter().filter(|(_, sending)| lives(&sending.lane)) {
            let (place, _, shard) = sending.lane;
            let is_due = sending.sent_at >= well_since && !sending.is_bounded && !may_fail(shard);
            let kind = match &sending.outcome {
                Some(Outcome::Handled(_)) => 1,
                Some(Outcome::Refused(_)) => 2,
                Some(Outcome::Interrupted(_)) => 3,
                Some(Outcome::TimedOut) => 4,
                None => 0,
            };
            let totals = totals.entry(place).or_default();
            totals[0] += 1;
            if kind == 0 {
                wrong.push(format!("request {id} of {} to shard {shard} has no end", self.names[place]));
            } else {
                totals[kind] += 1;
            }
            // A burst may meet the bounds; then its sender learns it.
            let is_full = matches!(sending.outcome, Some(Outcome::Refused(Refusal::Full | Refusal::HeldFull)));
            let is_unknown = matches!(sending.outcome, Some(Outcome::Refused(Refusal::UnknownMessage)));
            if is_unknown && !sending.is_new {
                wrong.push(format!("request {id} of {} was refused as unknown", self.names[place]));
            }
            if is_due && kind != 1 && !is_full && !is_unknown {
                let (here, outcome) = (&self.names[place], &sending.outcome);
                wrong.push(format!("request {id} of {here} to shard {shard} was not handled: {outcome:?}"));
            }
        }
        for (place, (_, counters)) in &self.sent.counters {
            let Counters { sent, handled, refused, interrupted, timed_out, .. } = *counters;
            let counted = [sent, handled, refused, interrupted, timed_out];
            let seen = totals.get(place).copied().unwrap_or_default();
            if counted != seen {
                wrong.push(format!("{} counts {counted:?} requests, and its clients {seen:?}", self.names[*place]));
            }
        }
        wrong.extend(self.out_of_order());
        wrong
    }

    /// Requests of one sender to one shard that were answered, and handled in another order. One
    /// without an answer may have its effect at any time.
    fn out_of_order(&self) -> Vec<String> {
        let (mut wrong, mut latest) = (Vec::new(), BTreeMap::new());
        for id in &self.sent.handled {
            let sending = &self.sent.requests[id];
            if matches!(sending.outcome, Some(Outcome::Handled(_)))
                && let Some(before) = latest.insert(sending.lane, *id)
                && before > *id
            {
                wrong.push(format!("request {id} was handled after {before} of the same sender"));
            }
        }
        wrong
    }

    /// What became of a request.
    pub fn outcome(&self, id: u64) -> Option<&Outcome> {
        self.sent.requests.get(&id)?.outcome.as_ref()
    }

    /// Whether a worker began to handle a request.
    pub fn is_request_handled(&self, id: u64) -> bool {
        self.sent.requests.get(&id).is_some_and(|sending| sending.is_handled)
    }

    /// All requests with their outcomes, and whether a worker began to handle them.
    pub fn requests(&self) -> impl Iterator<Item = (u64, Option<&Outcome>, bool)> {
        self.sent.requests.iter().map(|(id, sending)| (*id, sending.outcome.as_ref(), sending.is_handled))
    }
}
