//! The members and the owners of shards, as the engine's view has them.

use std::net::SocketAddr;

use super::{ConnectionId, Outcome, Refusal, RequestId, Requests, Target};
use crate::interruption::Interruption;
use crate::member::{Epoch, Generation, NodeId, Status};
use crate::time::Instant;

/// Another node.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) generation: Generation,
    pub(super) address: SocketAddr,
    pub(super) status: Status,
    pub(super) connection: Option<ConnectionId>,
    /// Requests under way to it, and their bytes.
    pub(super) under_way: u32,
    pub(super) under_way_bytes: usize,
    /// Connecting failed so often in a row.
    pub(super) failures: u32,
    pub(super) not_before: Instant,
}

impl Requests {
    pub(super) fn handle_member(&mut self, node: NodeId, generation: Generation, address: SocketAddr, status: Status) {
        if node == self.me {
            return;
        }
        let peer = self.peers.entry(node).or_insert(Peer {
            generation,
            address,
            status,
            connection: None,
            under_way: 0,
            under_way_bytes: 0,
            failures: 0,
            not_before: Instant::ZERO,
        });
        let is_other = peer.generation < generation;
        let connection = peer.connection;
        (peer.status, peer.address, peer.generation) = (status, address, generation);
        if (is_other || status == Status::Dead)
            && let Some(connection) = connection
        {
            self.close(connection, &Interruption::NodeDied);
        }
        match status {
            Status::Alive => {
                if let Some(peer) = self.peers.get_mut(&node).filter(|peer| peer.connection.is_none()) {
                    (peer.failures, peer.not_before) = (0, Instant::ZERO);
                }
                self.pump_node(node);
            }
            Status::Suspect => self.pump_node(node),
            Status::Dead | Status::Left => self.refuse_held(node),
        }
        if self.peers.get(&node).is_some_and(|peer| !peer.status.is_member() && peer.connection.is_none()) {
            self.peers.remove(&node);
        }
    }

    /// Refuses what waits for workers of a member that is gone.
    fn refuse_held(&mut self, node: NodeId) {
        let is_there = |target: &Target| matches!(target, Target::Worker { member, .. } if *member == node);
        let held: Vec<RequestId> =
            self.lanes.iter().filter(|(target, _)| is_there(target)).flat_map(|(_, lane)| lane.held.clone()).collect();
        for id in held {
            self.finish(id, Outcome::Refused(Refusal::NoMember));
        }
    }

    pub(super) fn handle_owner(&mut self, group: u64, index: u32, owner: Option<(NodeId, Epoch)>) {
        let before = match owner {
            Some(owner) => self.owners.insert((group, index), owner),
            None => self.owners.remove(&(group, index)),
        };
        // Without an authority or a quorum, the epochs of two owners may be in either order.
        if before.map(|(node, _)| node) != owner.map(|(node, _)| node) {
            self.shown.remove(&(group, index));
        }
        let target = Target::Shard { group, index };
        if self.lanes.get_mut(&target).is_some_and(|lane| lane.set_owner(owner)) {
            self.pump(&target);
        }
    }
}
