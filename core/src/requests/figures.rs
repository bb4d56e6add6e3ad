//! `figures`: how the requests of a node stand, for its operators.
//!
//! Nothing is counted for this beside the refusals. The rest is read from what routing needs, at
//! each call.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::member::NodeId;
use crate::requests::sending::Place;
use crate::requests::{Counters, Requests};
use crate::time::Instant;

/// The requests of one node as they stand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Figures {
    /// The counters since the start.
    pub counters: Counters,
    /// How often each reason ended a request as refused, by [`Refusal::name`]; reasons that never
    /// did are left out.
    ///
    /// [`Refusal::name`]: crate::requests::Refusal::name
    pub refused_by: Vec<(&'static str, u64)>,
    /// Requests of other nodes, and of this one, that workers of this node have now.
    pub served: u32,
    /// Requests that wait though no owner of their shard is known.
    pub without_owner: u32,
    /// For how long the oldest of those that wait has done so.
    pub oldest_held_for: Option<Duration>,
    /// The other nodes, in the order of their ids.
    pub peers: Vec<PeerFigures>,
}

/// The requests of this node to one other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PeerFigures {
    /// The other node.
    pub node: NodeId,
    /// Whether there is a connection to it, or one is being made.
    pub is_connected: bool,
    /// Requests under way to it; at most `requests.window`.
    pub under_way: u32,
    /// Their bytes.
    pub under_way_bytes: usize,
    /// Requests that wait here and will go to it.
    pub held: u32,
    /// How often in a row connecting has failed.
    pub failures: u32,
}

impl Requests {
    /// How the requests stand at `now`. It looks at each request that waits, of which there are
    /// `requests.held_max` at most.
    pub fn figures(&self, now: Instant) -> Figures {
        let mut held: BTreeMap<NodeId, u32> = BTreeMap::new();
        let mut without_owner = 0;
        for lane in self.lanes.values() {
            let count = lane.held.len() as u32;
            match lane.owner {
                Some((node, _)) => *held.entry(node).or_default() += count,
                None => without_owner += count,
            }
        }
        let held_since = self.pending.values().filter_map(|pending| match pending.place {
            Place::Held { since } => Some(since),
            Place::UnderWay(..) | Place::Here(_) => None,
        });
        let peers = self.peers.iter().map(|(node, peer)| PeerFigures {
            node: *node,
            is_connected: peer.connection.is_some(),
            under_way: peer.under_way,
            under_way_bytes: peer.under_way_bytes,
            held: held.get(node).copied().unwrap_or_default(),
            failures: peer.failures,
        });
        Figures {
            counters: self.counters,
            refused_by: self.refusals.iter().map(|(reason, count)| (*reason, *count)).collect(),
            served: self.serving.count(),
            without_owner,
            oldest_held_for: held_since.min().map(|since| now - since),
            peers: peers.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::{Epoch, Generation, Status};
    use crate::requests::{Input, MessageType, Outcome, Output, Refusal, RequestId, RequestsConfig, Target};

    fn send(id: u64, target: Target, deadline: Option<Instant>) -> Input {
        let message = MessageType { name_hash: 1, version: 1 };
        Input::Send { id: RequestId(id), target, message, payload: vec![0; 10].into(), deadline, trace: None }
    }

    #[test]
    fn what_waits_is_counted_by_where_it_goes() {
        let (me, other) = (NodeId(1), NodeId(2));
        let mut requests = Requests::new(RequestsConfig::default(), 7, me, Generation(1));
        let at = Instant::from_millis;
        let address = "127.0.0.1:1".parse().unwrap();
        let member = |status| Input::Member { node: other, generation: Generation(1), address, status };
        requests.handle(at(0), member(Status::Alive));
        requests.handle(at(0), Input::Owner { group: 5, index: 1, owner: Some((other, Epoch(1))) });
        let owned = Target::Shard { group: 5, index: 1 };
        requests.handle(at(10), send(0, owned.clone(), None));
        requests.handle(at(10), member(Status::Suspect));
        (1..3).for_each(|id| requests.handle(at(10 + id), send(id, owned.clone(), None)));
        requests.handle(at(20), send(3, Target::Shard { group: 5, index: 0 }, Some(at(60))));
        let figures = requests.figures(at(50));
        assert_eq!((figures.without_owner, figures.oldest_held_for), (1, Some(Duration::from_millis(39))));
        let peer = figures.peers[0];
        assert_eq!((peer.node, peer.under_way, peer.under_way_bytes, peer.held), (other, 1, 10, 2));
        assert!(peer.is_connected && figures.refused_by.is_empty());

        requests.handle(at(60), Input::Timeout);
        let outcomes = std::iter::from_fn(|| requests.poll_output());
        let refused = Output::Finish { id: RequestId(3), outcome: Outcome::Refused(Refusal::Expired) };
        assert!(outcomes.into_iter().any(|output| output == refused));
        let figures = requests.figures(at(60));
        assert_eq!((figures.without_owner, figures.refused_by), (0, vec![("expired", 1)]));
    }
}
