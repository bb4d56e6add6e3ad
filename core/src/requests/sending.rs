//! The requests of this node: they wait, are sent, come back unhandled, and end.

use bytes::Bytes;

use super::connection::{Connection, Message, Phase};
use super::frame::{PART_BYTES_MAX, RequestHead};
use super::lane::Lane;
use super::timers::Timer;
use super::view::Peer;
use super::{
    ConnectionId, GREETING_FOR, MessageType, OnSuspected, Outcome, Output, Refusal, RequestId, Requests, ServedId,
    Target, TraceContext,
};
use crate::interruption::Interruption;
use crate::member::{Epoch, NodeId, Status};
use crate::time::Instant;

/// Where a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// It waits here.
    Held { since: Instant },
    /// It waits for the writer of a connection, or the writer had it. It has this number there.
    UnderWay(ConnectionId, u64),
    /// A worker of this node has it.
    Here(ServedId),
}

#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) target: Target,
    pub(super) message: MessageType,
    pub(super) payload: Bytes,
    pub(super) deadline: Option<Instant>,
    pub(super) place: Place,
    pub(super) hops: u32,
    pub(super) trace: Option<TraceContext>,
}

impl Pending {
    /// A request that waits from now on.
    pub(super) fn new(
        target: Target,
        message: MessageType,
        payload: Bytes,
        trace: Option<TraceContext>,
        now: Instant,
    ) -> Pending {
        Pending { target, message, payload, deadline: None, place: Place::Held { since: now }, hops: 0, trace }
    }
}

impl Requests {
    pub(super) fn handle_send(&mut self, id: RequestId, pending: Pending, deadline: Option<Instant>) {
        self.counters.sent += 1;
        let (bytes, bytes_max) = (pending.payload.len(), self.config.message_bytes_max);
        let refusal = if self.has_left {
            Some(Refusal::Leaving)
        } else {
            (bytes > bytes_max).then(|| too_large(bytes, bytes_max))
        };
        if let Some(refusal) = refusal {
            self.counters.refused += 1;
            self.outputs.push_back(Output::Finish { id, outcome: Outcome::Refused(refusal) });
            return;
        }
        let target = pending.target.clone();
        self.hold(id, &pending);
        self.pending.insert(id, pending);
        if let Some(deadline) = deadline {
            self.set_deadline(id, deadline);
        }
        self.pump(&target);
        match self.why_not_held(id) {
            Some(why) => self.finish(id, Outcome::Refused(why)),
            None => {
                self.set_held_timer(id);
                self.keep_bounds(&target);
            }
        }
    }

    /// Refuses the youngest requests of a lane that wait, as long as too many wait here.
    fn keep_bounds(&mut self, target: &Target) {
        while self.counters.held > self.config.held_max || self.counters.held_bytes > self.config.held_bytes_max {
            let Some(youngest) = self.lanes.get(target).and_then(|lane| lane.held.last().copied()) else { return };
            self.finish(youngest, Outcome::Refused(Refusal::HeldFull));
        }
    }

    /// Ends the wait of a request that waits here, in its time.
    pub(super) fn set_held_timer(&mut self, id: RequestId) {
        if let Some(Place::Held { since }) = self.pending.get(&id).map(|pending| pending.place) {
            self.timers.insert((since + self.config.held_for, Timer::Held(id)));
        }
    }

    /// Puts a request among those that wait.
    pub(super) fn hold(&mut self, id: RequestId, pending: &Pending) {
        self.counters.held += 1;
        self.counters.held_bytes += pending.payload.len();
        let (owners, round) = (&self.owners, self.round);
        let lane = self.lanes.entry(pending.target.clone()).or_insert_with(|| {
            let owner = match &pending.target {
                Target::Shard { group, index } => owners.get(&(*group, *index)).copied(),
                Target::Worker { member, .. } => Some((*member, Epoch(0))),
            };
            Lane::new(owner, round)
        });
        lane.held.insert(id);
    }

    /// Why a request that was just sent may not wait, if it may not.
    pub(super) fn why_not_held(&self, id: RequestId) -> Option<Refusal> {
        let pending = self.pending.get(&id).filter(|pending| matches!(pending.place, Place::Held { .. }))?;
        let lane = self.lanes.get(&pending.target)?;
        if let Some((node, _)) = lane.owner
            && let Some(peer) = self.peers.get(&node)
        {
            if peer.status == Status::Suspect && self.config.on_suspected == OnSuspected::Refuse {
                return Some(Refusal::Suspected);
            }
            // The owner is there and slow: its senders wait on their side, not here.
            let is_there = peer.status == Status::Alive && peer.connection.is_some();
            if is_there && lane.may_send(self.now) && !self.has_room(peer, pending.payload.len()) {
                return Some(Refusal::Full);
            }
        }
        if let Target::Worker { member, .. } = &pending.target
            && *member != self.me
            && !self.peers.get(member).is_some_and(|peer| peer.status.is_member())
        {
            return Some(Refusal::NoMember);
        }
        None
    }

    pub(super) fn has_room(&self, peer: &Peer, bytes: usize) -> bool {
        peer.under_way < self.config.window
            && (peer.under_way == 0 || peer.under_way_bytes + bytes <= self.config.window_bytes)
    }

    /// Sends what may be sent of a lane.
    pub(super) fn pump(&mut self, target: &Target) {
        while let Some(id) = self.next_to_send(target) {
            let Some(lane) = self.lanes.get_mut(target) else { return };
            let Some((node, epoch)) = lane.owner else { return };
            let Some(pending) = self.pending.get_mut(&id) else { return };
            lane.held.remove(&id);
            lane.begin(pending.payload.len() > PART_BYTES_MAX);
            self.counters.held -= 1;
            self.counters.held_bytes -= pending.payload.len();
            self.counters.under_way += 1;
            let round = lane.round;
            if node == self.me {
                let served = self.serving.begin_own(id);
                pending.place = Place::Here(served);
                let (message, payload, deadline) = (pending.message, pending.payload.clone(), pending.deadline);
                let (target, trace) = (target.clone(), pending.trace);
                self.outputs.push_back(Output::Deliver { served, target, epoch, message, payload, deadline, trace });
            } else {
                self.send_to(node, id, round);
            }
        }
    }

    /// The next request of a lane, if it may be sent now.
    pub(super) fn next_to_send(&self, target: &Target) -> Option<RequestId> {
        let lane = self.lanes.get(target).filter(|_| !self.has_left)?;
        let id = *lane.held.first()?;
        let (node, _) = lane.owner?;
        if !lane.may_send(self.now) {
            return None;
        }
        if node == self.me {
            return Some(id);
        }
        let peer = self.peers.get(&node)?;
        let may_send = match peer.status {
            Status::Alive => true,
            Status::Suspect => self.config.on_suspected == OnSuspected::Send,
            Status::Dead | Status::Left => false,
        };
        let bytes = self.pending.get(&id)?.payload.len();
        (may_send && peer.not_before <= self.now && self.has_room(peer, bytes)).then_some(id)
    }

    /// Puts a request into the outbox of the connection to its node, which is opened if needed.
    pub(super) fn send_to(&mut self, node: NodeId, id: RequestId, round: u32) {
        let (Some(peer), Some(pending)) = (self.peers.get_mut(&node), self.pending.get_mut(&id)) else { return };
        let number = peer.connection.unwrap_or_else(|| {
            let number = ConnectionId(self.next_connection);
            self.next_connection += 2;
            self.outputs.push_back(Output::Connect { connection: number, to: peer.address });
            self.timers.insert((self.now + GREETING_FOR, Timer::Greeting(number)));
            let mut connection = Connection::new(Some(node), true, Phase::Connecting);
            connection.push(Message::Hello { cluster: self.cluster, from: self.me, generation: self.generation });
            self.connections.insert(number, connection);
            number
        });
        peer.connection = Some(number);
        peer.under_way += 1;
        peer.under_way_bytes += pending.payload.len();
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let of_connection = connection.next_number();
        pending.place = Place::UnderWay(number, of_connection);
        let epoch = match &pending.target {
            Target::Shard { group, index } => self.shown.get(&(*group, *index)).copied().unwrap_or_default(),
            Target::Worker { .. } => Epoch(0),
        };
        let head = RequestHead {
            number: of_connection,
            target: pending.target.clone(),
            round,
            epoch,
            message: pending.message,
            left_ms: None,
            trace: pending.trace,
        };
        connection.push(Message::Request { id, head, deadline: pending.deadline, payload: pending.payload.clone() });
        self.dirty.insert(number);
    }

    /// Takes a request off its way: from its connection's or worker's account and from its lane's.
    pub(super) fn take_back(&mut self, id: RequestId) {
        let Some(pending) = self.pending.get(&id) else { return };
        let bytes = pending.payload.len();
        match pending.place {
            Place::Held { .. } => {
                self.counters.held -= 1;
                self.counters.held_bytes -= bytes;
                if let Some(lane) = self.lanes.get_mut(&pending.target) {
                    lane.held.remove(&id);
                }
                return;
            }
            Place::UnderWay(number, of_connection) => {
                if let Some(connection) = self.connections.get_mut(&number) {
                    connection.sent.remove(&of_connection);
                    if bytes > PART_BYTES_MAX {
                        connection.cut_short(of_connection);
                    }
                    if let Some(peer) = connection.peer.and_then(|node| self.peers.get_mut(&node)) {
                        peer.under_way = peer.under_way.saturating_sub(1);
                        peer.under_way_bytes = peer.under_way_bytes.saturating_sub(bytes);
                    }
                    self.dirty.insert(number); // It may be idle now.
                }
            }
            Place::Here(served) => self.serving.forget(served),
        }
        self.counters.under_way -= 1;
        if let Some(lane) = self.lanes.get_mut(&pending.target) {
            lane.end();
        }
    }

    /// Ends a request.
    pub(super) fn finish(&mut self, id: RequestId, outcome: Outcome) {
        self.take_back(id);
        let Some(pending) = self.pending.remove(&id) else { return };
        if let Some(deadline) = pending.deadline {
            self.timers.remove(&(deadline, Timer::Deadline(id)));
        }
        match &outcome {
            Outcome::Handled(_) => self.counters.handled += 1,
            Outcome::Refused(refusal) => {
                self.counters.refused += 1;
                *self.refusals.entry(refusal.name()).or_default() += 1;
            }
            Outcome::Interrupted(_) => self.counters.interrupted += 1,
            Outcome::TimedOut => self.counters.timed_out += 1,
        }
        self.outputs.push_back(Output::Finish { id, outcome });
        self.pump_after(&pending.target);
    }

    /// Goes on with a lane one of whose requests has ended, and with others that the window of its
    /// node held back.
    pub(super) fn pump_after(&mut self, target: &Target) {
        let owner = self.lanes.get(target).and_then(|lane| lane.owner);
        self.pump(target);
        if self.lanes.get(target).is_some_and(Lane::is_empty) {
            self.lanes.remove(target);
        }
        if let Some((node, _)) = owner {
            self.pump_node(node);
        }
    }

    /// Goes on with all lanes to a node that have something to send.
    pub(super) fn pump_node(&mut self, node: NodeId) {
        if self.counters.held == 0 {
            return;
        }
        let to_node = |lane: &Lane| !lane.held.is_empty() && lane.owner.is_some_and(|(owner, _)| owner == node);
        let targets: Vec<Target> =
            self.lanes.iter().filter(|(_, lane)| to_node(lane)).map(|(target, _)| target.clone()).collect();
        targets.iter().for_each(|target| self.pump(target));
    }

    /// Lets a request wait again that was not handed over. `is_refusal`: its node said so.
    pub(super) fn hold_again(&mut self, id: RequestId, is_refusal: bool) {
        self.take_back(id);
        let Some(pending) = self.pending.get_mut(&id) else { return };
        pending.place = Place::Held { since: self.now };
        pending.hops += u32::from(is_refusal);
        let pending = pending.clone();
        self.hold(id, &pending);
        self.set_held_timer(id);
        if is_refusal && let Some(lane) = self.lanes.get_mut(&pending.target) {
            if !lane.is_refused() {
                self.round = self.round.wrapping_add(1);
            }
            let until = lane.refused(self.now, self.round);
            self.timers.insert((until, Timer::Lane(pending.target.clone())));
        }
        if pending.hops > self.config.hops_max {
            self.finish(id, Outcome::Refused(Refusal::HopLimit));
        }
        self.keep_bounds(&pending.target);
    }

    pub(super) fn set_deadline(&mut self, id: RequestId, deadline: Instant) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        if let Some(before) = pending.deadline.replace(deadline) {
            self.timers.remove(&(before, Timer::Deadline(id)));
        }
        self.timers.insert((deadline, Timer::Deadline(id)));
        match pending.place {
            Place::Held { .. } => {}
            Place::UnderWay(number, of_connection) => {
                let Some(connection) = self.connections.get_mut(&number) else { return };
                if connection.sent.contains_key(&of_connection) {
                    connection.push(Message::Deadline { number: of_connection, deadline });
                    self.dirty.insert(number);
                } else {
                    connection.set_deadline(id, deadline);
                }
            }
            Place::Here(served) => self.outputs.push_back(Output::Deadline { served, deadline }),
        }
    }

    /// The sender waits no more, or its deadline is over.
    pub(super) fn time_out(&mut self, id: RequestId) {
        let is_handed_over = self.withdraw(id);
        self.finish(id, if is_handed_over { Outcome::TimedOut } else { Outcome::Refused(Refusal::Expired) });
    }

    pub(super) fn leave(&mut self) {
        self.has_left = true;
        // The youngest first, so that the end of one lets no other begin.
        let ids: Vec<RequestId> = self.pending.keys().rev().copied().collect();
        for id in ids {
            let is_handed_over = self.withdraw(id);
            let left = Outcome::Interrupted(Interruption::NodeLeft);
            self.finish(id, if is_handed_over { left } else { Outcome::Refused(Refusal::Leaving) });
        }
    }

    /// Takes a request off its way as far as it can be. Whether a worker may have it.
    fn withdraw(&mut self, id: RequestId) -> bool {
        let Some(pending) = self.pending.get(&id) else { return false };
        match pending.place {
            Place::Held { .. } => false,
            Place::UnderWay(number, of_connection) => {
                let Some(connection) = self.connections.get_mut(&number) else { return true };
                let is_written = !connection.withdraw(id);
                if is_written {
                    connection.forsake(of_connection);
                    self.dirty.insert(number);
                }
                is_written
            }
            Place::Here(served) => {
                self.outputs.push_back(Output::Withdraw { served });
                true
            }
        }
    }

    /// An owner has shown the epoch under which it runs a shard.
    pub(super) fn learn_epoch(&mut self, id: RequestId, epoch: Epoch) {
        let Some(Target::Shard { group, index }) = self.pending.get(&id).map(|pending| &pending.target) else { return };
        let shown = self.shown.entry((*group, *index)).or_default();
        *shown = epoch.max(*shown);
    }

    /// What a node, or a worker of this one, says of a request.
    pub(super) fn conclude(&mut self, id: RequestId, outcome: Outcome) {
        match outcome {
            Outcome::Refused(Refusal::NotOwner { .. }) => self.hold_again(id, true),
            Outcome::Handled(_) | Outcome::Refused(_) | Outcome::Interrupted(_) | Outcome::TimedOut => {
                let target = self.pending.get(&id).map(|pending| pending.target.clone());
                if let Some(lane) = target.and_then(|target| self.lanes.get_mut(&target)) {
                    lane.accepted();
                }
                self.finish(id, outcome);
            }
        }
    }
}

/// The refusal of a message that is larger than a node's bound.
pub(super) fn too_large(bytes: usize, bytes_max: usize) -> Refusal {
    let figure = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    Refusal::TooLarge { bytes: figure(bytes), bytes_max: figure(bytes_max) }
}
