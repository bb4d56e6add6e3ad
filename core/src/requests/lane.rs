//! A lane: the requests of this node to one shard, or to one worker of a member, in their order.
//!
//! Requests of one lane reach the worker in the order in which they were sent, or the later one
//! ends with an error. So a lane has requests under way to one node only: when the shard moves, it
//! waits until the old owner has answered or refused each of them. A node that refuses a request
//! because it is not the owner refuses all later ones of the same *round*, too; the sender starts
//! the next round once the last one is answered for, and sends the refused ones again in their old
//! order. This is go-back-N, with the refusal in the place of the lost packet.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::member::{Epoch, NodeId};
use crate::requests::RequestId;
use crate::time::Instant;

/// The first pause after a node refused a request because it was not the owner.
const RETRY_MIN: Duration = Duration::from_millis(5);

/// Pauses that are doubled no further. Most shards are on their way for some tens of milliseconds,
/// and a request should not wait much longer than its shard takes.
const RETRY_SHORT: Duration = Duration::from_millis(10);

/// How many pauses are short: together a quarter of a second. Later ones are doubled again.
const RETRIES_SHORT: u32 = 25;

/// The longest pause.
const RETRY_MAX: Duration = Duration::from_millis(500);

/// The requests to one target.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    /// The owner, as this node's view has it, and its epoch.
    pub(crate) owner: Option<(NodeId, Epoch)>,
    /// The owner that has requests of this lane under way, and its epoch then: under a later epoch
    /// its worker has another queue.
    at: Option<(NodeId, Epoch)>,
    /// How many it has.
    pub(crate) under_way: u32,
    /// Whether one of them is sent in parts; none may overtake it.
    pub(crate) has_large: bool,
    /// Requests that wait here, in their order.
    pub(crate) held: BTreeSet<RequestId>,
    /// No two lanes of one node have been refused in the same round.
    pub(crate) round: u32,
    /// The round that begins once none is under way, since a request of this one was refused.
    next_round: Option<u32>,
    /// Refusals in a row.
    refusals: u32,
    /// No request is sent before.
    pub(crate) paused_until: Option<Instant>,
}

impl Lane {
    /// A lane without requests. `round`: one in which no request was refused yet.
    pub(crate) fn new(owner: Option<(NodeId, Epoch)>, round: u32) -> Lane {
        Lane {
            owner,
            at: None,
            under_way: 0,
            has_large: false,
            held: BTreeSet::new(),
            round,
            next_round: None,
            refusals: 0,
            paused_until: None,
        }
    }

    /// Whether a request of the present round was refused.
    pub(crate) fn is_refused(&self) -> bool {
        self.next_round.is_some()
    }

    /// Whether the next held request may go to the owner now, for all this lane knows.
    pub(crate) fn may_send(&self, now: Instant) -> bool {
        let is_free = self.under_way == 0 || (self.at == self.owner && !self.is_refused() && !self.has_large);
        is_free && self.paused_until.is_none_or(|until| until <= now)
    }

    /// A request begins its way to the owner.
    pub(crate) fn begin(&mut self, is_large: bool) {
        if self.under_way == 0
            && let Some(next) = self.next_round.take()
        {
            self.round = next;
        }
        self.at = self.owner;
        self.under_way += 1;
        self.has_large = is_large;
    }

    /// A request under way has ended, whichever way.
    pub(crate) fn end(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
        if self.under_way == 0 {
            self.has_large = false;
        }
    }

    /// A worker took a request.
    pub(crate) fn accepted(&mut self) {
        self.refusals = 0;
    }

    /// A request of this round came back, since its node is not the owner. `next_round` has not
    /// been used; only the first refusal of a round sets it. Returns when to try again, unless the
    /// view changes before.
    pub(crate) fn refused(&mut self, now: Instant, next_round: u32) -> Instant {
        self.next_round.get_or_insert(next_round);
        let pause = match self.refusals {
            0 => RETRY_MIN,
            short @ 1.. if short < RETRIES_SHORT => RETRY_SHORT,
            long => RETRY_SHORT.saturating_mul(2 << (long - RETRIES_SHORT).min(6)).min(RETRY_MAX),
        };
        if self.under_way == 0 {
            self.refusals = self.refusals.saturating_add(1);
        }
        let until = now + pause;
        self.paused_until = Some(until);
        until
    }

    /// The view has another owner, or a new epoch. Returns whether that is a change.
    pub(crate) fn set_owner(&mut self, owner: Option<(NodeId, Epoch)>) -> bool {
        let is_new = self.owner != owner;
        if is_new {
            self.owner = owner;
            self.paused_until = None;
            self.refusals = 0;
        }
        is_new
    }

    /// Whether nothing would be lost if this lane were forgotten.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.under_way == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str, epoch: u64) -> Option<(NodeId, Epoch)> {
        Some((NodeId::of(name), Epoch(epoch)))
    }

    #[test]
    fn a_lane_has_requests_under_way_to_one_owner_only() {
        let mut lane = Lane::new(owner("a", 1), 0);
        lane.begin(false);
        assert!(lane.may_send(Instant::ZERO));
        for other in [owner("b", 2), owner("a", 2)] {
            lane.set_owner(other);
            assert!(!lane.may_send(Instant::ZERO), "{other:?}");
        }
        lane.end();
        assert!(lane.may_send(Instant::ZERO));
    }

    #[test]
    fn after_a_refusal_the_next_round_waits_for_the_last_one() {
        let mut lane = Lane::new(owner("a", 1), 0);
        lane.begin(false);
        lane.begin(false);
        lane.end();
        let until = lane.refused(Instant::ZERO, 7);
        assert!(!lane.may_send(until), "the second one is still under way");
        lane.end();
        let until = lane.refused(Instant::ZERO, 8);
        assert!(lane.may_send(until));
        assert!(!lane.may_send(until - Duration::from_nanos(1)));
        assert_eq!(lane.round, 0);
        lane.begin(false);
        assert_eq!(lane.round, 7);
    }

    #[test]
    fn pauses_are_short_then_double_and_end_with_a_new_owner() {
        let mut lane = Lane::new(owner("a", 1), 0);
        let pauses: Vec<u64> = (0..32)
            .map(|_| {
                lane.begin(false);
                lane.end();
                (lane.refused(Instant::ZERO, 1) - Instant::ZERO).as_millis() as u64
            })
            .collect();
        assert_eq!(pauses[..3], [5, 10, 10]);
        assert_eq!(pauses[..25].iter().sum::<u64>(), 245);
        assert_eq!(pauses[25..], [20, 40, 80, 160, 320, 500, 500]);
        assert!(lane.set_owner(owner("b", 2)));
        assert!(lane.may_send(Instant::ZERO));
        assert!(!lane.set_owner(owner("b", 2)));
    }

    #[test]
    fn no_request_overtakes_a_large_one() {
        let mut lane = Lane::new(owner("a", 1), 0);
        lane.begin(true);
        assert!(!lane.may_send(Instant::ZERO));
        lane.end();
        assert!(lane.may_send(Instant::ZERO));
    }
}
