//! Requests: a message finds the owner of its shard, and its sender learns what became of it.
//!
//! A second machine beside the [`Engine`](crate::Engine), driven in the same way and apart from it,
//! so that no load of requests delays a heartbeat. The engine's view comes in as inputs
//! ([`Input::Member`], [`Input::Owner`]); payloads are opaque bytes.
//!
//! - **At most once.** A request is written to one connection. It is sent again only if it was not
//!   handed over: the connection never carried it, or the node that it reached refused it because
//!   it does not own the shard.
//! - **Each request ends once**, as handled, refused, interrupted or timed out ([`Outcome`]). The
//!   [`Counters`] add up.
//! - **The epoch travels.** A request carries the highest epoch of its shard that the owner has
//!   shown the sender. A node that does not run the shard, or runs it under a lower epoch, refuses;
//!   the sender routes the request anew.
//! - **While a shard moves, requests wait at their sender**, bounded in number, bytes and time.
//!   When a node is dead, its requests under way are interrupted at once; those that wait go to the
//!   new owner.
//! - **Order**: see `lane`.
//!
//! What this does not do: it repeats nothing that may have been handled, keeps nothing over the end
//! of the process, and does not order requests of two senders.
//!
//! # How to drive it
//! One input, then [`Requests::poll_output`] until it returns `None`, then
//! [`Requests::poll_timeout`]: as with the engine.

mod connection;
mod frame;
mod lane;
mod outcome;
mod serving;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use self::frame::{FRAME_BYTES_MAX, FrameError, PART_BYTES_MAX, PREFACE};
pub use self::outcome::{Outcome, Refusal};
pub use crate::config::{OnSuspected, RequestsConfig};

use self::connection::{Connection, Message, Phase};
use self::frame::RequestHead;
use self::lane::Lane;
use self::serving::Serving;
use crate::interruption::Interruption;
use crate::member::{Epoch, Generation, NodeId, Status};
use crate::time::Instant;

/// How long a node that could not be connected to is left alone; doubled each time.
const RECONNECT_MIN: Duration = Duration::from_millis(20);

/// The longest such pause.
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// How long a connection may take to be ready for requests.
const GREETING_FOR: Duration = Duration::from_secs(5);

/// A request of this node; its driver gives them rising numbers, never one twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// A connection; numbers are never used twice. Odd ones are opened here, even ones were accepted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnectionId(pub u64);

/// A request that a worker of this node is to handle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServedId(pub u64);

/// Where a request goes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Target {
    /// To the owner of a shard.
    Shard {
        /// The hash of the group's name.
        group: u64,
        /// The shard's index.
        index: u32,
    },
    /// To a worker of a member.
    Worker {
        /// The member.
        member: NodeId,
        /// The worker's name.
        name: Arc<str>,
    },
}

/// A type of messages, as both sides know it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MessageType {
    /// The hash of its stable name.
    pub name_hash: u64,
    /// Its version.
    pub version: u16,
}

/// Something that happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// The application sends a request.
    Send {
        /// Its number.
        id: RequestId,
        /// Where it goes.
        target: Target,
        /// What it is.
        message: MessageType,
        /// Its encoded message.
        payload: Arc<[u8]>,
        /// When its sender stops waiting.
        deadline: Option<Instant>,
    },
    /// The sender waits until then only.
    SetDeadline {
        /// The request.
        id: RequestId,
        /// The instant.
        deadline: Instant,
    },
    /// The sender does not wait any more.
    Forsake {
        /// The request.
        id: RequestId,
    },
    /// A member as the engine's view has it now.
    Member {
        /// Which.
        node: NodeId,
        /// The generation of its process.
        generation: Generation,
        /// Where it listens.
        address: SocketAddr,
        /// Its status.
        status: Status,
    },
    /// The owner of a shard as the engine's view has it now.
    Owner {
        /// The hash of the group's name.
        group: u64,
        /// The shard's index.
        index: u32,
        /// The owner and its epoch; none if there is none.
        owner: Option<(NodeId, Epoch)>,
    },
    /// The worker that got a request has answered, or cannot.
    Served {
        /// The request there.
        served: ServedId,
        /// What became of it.
        outcome: Outcome,
    },
    /// Another node has connected, and sent [`PREFACE`]'s frame or will.
    Accepted {
        /// Its number: even.
        connection: ConnectionId,
    },
    /// A connection that was asked for is there.
    Connected {
        /// Which.
        connection: ConnectionId,
    },
    /// Bytes have arrived on a connection.
    Read {
        /// Which.
        connection: ConnectionId,
        /// The bytes, any number of them.
        bytes: Vec<u8>,
    },
    /// Bytes of a connection have been written.
    Written {
        /// Which.
        connection: ConnectionId,
        /// How many.
        bytes: usize,
    },
    /// A connection could not be made, or has ended.
    Ended {
        /// Which.
        connection: ConnectionId,
    },
    /// Nothing but the time.
    Timeout,
}

/// Something for the driver to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Connect there, and say what becomes of it: `Connected` or `Ended`.
    Connect {
        /// Its number.
        connection: ConnectionId,
        /// Where.
        to: SocketAddr,
    },
    /// Write these bytes, and say `Written` when they are.
    Write {
        /// The connection.
        connection: ConnectionId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Close it once its bytes are written; nothing more is said of it.
    Close {
        /// Which.
        connection: ConnectionId,
    },
    /// Hand a request to a worker of this node, and say `Served`.
    Deliver {
        /// Its number.
        served: ServedId,
        /// Which worker.
        target: Target,
        /// For a shard: the epoch under which it must run here, else the request is refused with
        /// [`Refusal::NotOwner`].
        epoch: Epoch,
        /// What it is.
        message: MessageType,
        /// Its encoded message.
        payload: Arc<[u8]>,
        /// When its sender stops waiting.
        deadline: Option<Instant>,
    },
    /// The sender of a request that was delivered waits no more: it need not be handled.
    Withdraw {
        /// Which.
        served: ServedId,
    },
    /// A request has ended.
    Finish {
        /// Which.
        id: RequestId,
        /// What became of it.
        outcome: Outcome,
    },
}

/// Figures of one node since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Requests of this node: `sent` is the sum of all that follow, and of those not ended yet.
    pub sent: u64,
    /// Ended as handled.
    pub handled: u64,
    /// Ended as refused.
    pub refused: u64,
    /// Ended as interrupted.
    pub interrupted: u64,
    /// Ended as timed out, or forsaken by their senders.
    pub timed_out: u64,
    /// Requests that wait here now.
    pub held: u32,
    /// Their bytes.
    pub held_bytes: usize,
    /// Requests that are on their way or with a worker now.
    pub under_way: u32,
    /// Responses to requests that had ended already.
    pub late: u64,
    /// Connections closed because of bytes that are no frame, or that no frame allows.
    pub malformed: u64,
}

/// Where a request is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// It waits here.
    Held { since: Instant },
    /// It waits for the writer of a connection, or the writer had it. It has this number there.
    UnderWay(ConnectionId, u64),
    /// A worker of this node has it.
    Here(ServedId),
}

#[derive(Clone, Debug)]
struct Pending {
    target: Target,
    message: MessageType,
    payload: Arc<[u8]>,
    deadline: Option<Instant>,
    place: Place,
    hops: u32,
}

/// Another node.
#[derive(Clone, Debug)]
struct Peer {
    generation: Generation,
    address: SocketAddr,
    status: Status,
    connection: Option<ConnectionId>,
    /// Requests under way to it, and their bytes.
    under_way: u32,
    under_way_bytes: usize,
    /// Connecting failed so often in a row.
    failures: u32,
    not_before: Instant,
}

/// Something that is due at an instant. Each is checked again when its time has come.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    Deadline(RequestId),
    Held(RequestId),
    Lane(Target),
    Peer(NodeId),
    Greeting(ConnectionId),
    Idle(ConnectionId),
}

/// The requests of one node.
#[derive(Clone, Debug)]
pub struct Requests {
    config: RequestsConfig,
    cluster: u32,
    me: NodeId,
    generation: Generation,
    now: Instant,
    peers: BTreeMap<NodeId, Peer>,
    /// The owners of shards, also of those without requests.
    owners: BTreeMap<(u64, u32), (NodeId, Epoch)>,
    /// The highest epoch of each shard that its present owner has shown in responses. Views cannot
    /// tell: only the owner knows the epoch under which it runs a shard.
    shown: BTreeMap<(u64, u32), Epoch>,
    lanes: BTreeMap<Target, Lane>,
    pending: BTreeMap<RequestId, Pending>,
    connections: BTreeMap<ConnectionId, Connection>,
    serving: Serving,
    timers: BTreeSet<(Instant, Timer)>,
    /// Connections that may have something to write.
    dirty: BTreeSet<ConnectionId>,
    next_connection: u64,
    /// The round of lanes that begin now: no node has refused a request of it.
    round: u32,
    outputs: VecDeque<Output>,
    counters: Counters,
}

impl Requests {
    /// The requests of the process of this node and generation in the cluster with this name hash.
    pub fn new(config: RequestsConfig, cluster: u32, me: NodeId, generation: Generation) -> Requests {
        Requests {
            config,
            cluster,
            me,
            generation,
            now: Instant::ZERO,
            peers: BTreeMap::new(),
            owners: BTreeMap::new(),
            shown: BTreeMap::new(),
            lanes: BTreeMap::new(),
            pending: BTreeMap::new(),
            connections: BTreeMap::new(),
            serving: Serving::default(),
            timers: BTreeSet::new(),
            dirty: BTreeSet::new(),
            next_connection: 1,
            round: 0,
            outputs: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Handles one input. Drain [`Requests::poll_output`] afterwards.
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Send { id, target, message, payload, deadline } => {
                self.handle_send(id, target, message, payload, deadline);
            }
            Input::SetDeadline { id, deadline } => self.set_deadline(id, deadline),
            Input::Forsake { id } => self.time_out(id),
            Input::Member { node, generation, address, status } => {
                self.handle_member(node, generation, address, status);
            }
            Input::Owner { group, index, owner } => self.handle_owner(group, index, owner),
            Input::Served { served, outcome } => self.handle_served(served, outcome),
            Input::Accepted { connection } => self.handle_accepted(connection),
            Input::Connected { connection } => self.handle_connected(connection),
            Input::Read { connection, bytes } => self.handle_read(connection, &bytes),
            Input::Written { connection, bytes } => self.handle_written(connection, bytes),
            Input::Ended { connection } => self.end_connection(connection, &Interruption::ConnectionLost),
            Input::Timeout => {}
        }
        self.handle_due();
        self.write();
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due, unless another input comes before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Figures since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether no request of this node waits or is under way to this target, so that one handed to
    /// a worker of this node directly overtakes none.
    pub fn is_clear(&self, target: &Target) -> bool {
        self.lanes.get(target).is_none_or(Lane::is_empty)
    }

    // ---- requests of this node -----------------------------------------------------------------

    fn handle_send(
        &mut self,
        id: RequestId,
        target: Target,
        message: MessageType,
        payload: Arc<[u8]>,
        deadline: Option<Instant>,
    ) {
        self.counters.sent += 1;
        if payload.len() > self.config.message_bytes_max {
            self.counters.refused += 1;
            self.outputs.push_back(Output::Finish { id, outcome: Outcome::Refused(Refusal::TooLarge) });
            return;
        }
        let place = Place::Held { since: self.now };
        let pending = Pending { target: target.clone(), message, payload, deadline: None, place, hops: 0 };
        self.hold(id, &pending);
        self.pending.insert(id, pending);
        if let Some(deadline) = deadline {
            self.set_deadline(id, deadline);
        }
        self.pump(&target);
        match self.why_not_held(id) {
            Some(why) => self.finish(id, Outcome::Refused(why)),
            None => self.set_held_timer(id),
        }
    }

    /// Ends the wait of a request that waits here, in its time.
    fn set_held_timer(&mut self, id: RequestId) {
        if let Some(Place::Held { since }) = self.pending.get(&id).map(|pending| pending.place) {
            self.timers.insert((since + self.config.held_for, Timer::Held(id)));
        }
    }

    /// Puts a request among those that wait.
    fn hold(&mut self, id: RequestId, pending: &Pending) {
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
    fn why_not_held(&self, id: RequestId) -> Option<Refusal> {
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
            return Some(Refusal::NoWorker);
        }
        let is_over =
            self.counters.held > self.config.held_max || self.counters.held_bytes > self.config.held_bytes_max;
        is_over.then_some(Refusal::HeldFull)
    }

    fn has_room(&self, peer: &Peer, bytes: usize) -> bool {
        peer.under_way < self.config.window
            && (peer.under_way == 0 || peer.under_way_bytes + bytes <= self.config.window_bytes)
    }

    /// Sends what may be sent of a lane.
    fn pump(&mut self, target: &Target) {
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
                let target = target.clone();
                self.outputs.push_back(Output::Deliver { served, target, epoch, message, payload, deadline });
            } else {
                self.send_to(node, id, round);
            }
        }
    }

    /// The next request of a lane, if it may be sent now.
    fn next_to_send(&self, target: &Target) -> Option<RequestId> {
        let lane = self.lanes.get(target)?;
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
    fn send_to(&mut self, node: NodeId, id: RequestId, round: u32) {
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
        let left = pending.deadline.map(|deadline| (deadline.max(self.now) - self.now).as_millis());
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
            left_ms: left.map(|left| left.min(u128::from(u32::MAX - 1)) as u32),
        };
        connection.push(Message::Request { id, head, payload: pending.payload.clone() });
        self.dirty.insert(number);
    }

    /// Takes a request off its way: from its connection's or worker's account and from its lane's.
    fn take_back(&mut self, id: RequestId) {
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
    fn finish(&mut self, id: RequestId, outcome: Outcome) {
        self.take_back(id);
        let Some(pending) = self.pending.remove(&id) else { return };
        if let Some(deadline) = pending.deadline {
            self.timers.remove(&(deadline, Timer::Deadline(id)));
        }
        match &outcome {
            Outcome::Handled(_) => self.counters.handled += 1,
            Outcome::Refused(_) => self.counters.refused += 1,
            Outcome::Interrupted(_) => self.counters.interrupted += 1,
            Outcome::TimedOut => self.counters.timed_out += 1,
        }
        self.outputs.push_back(Output::Finish { id, outcome });
        self.pump_after(&pending.target);
    }

    /// Goes on with a lane one of whose requests has ended, and with others that the window of its
    /// node held back.
    fn pump_after(&mut self, target: &Target) {
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
    fn pump_node(&mut self, node: NodeId) {
        if self.counters.held == 0 {
            return;
        }
        let to_node = |lane: &Lane| !lane.held.is_empty() && lane.owner.is_some_and(|(owner, _)| owner == node);
        let targets: Vec<Target> =
            self.lanes.iter().filter(|(_, lane)| to_node(lane)).map(|(target, _)| target.clone()).collect();
        targets.iter().for_each(|target| self.pump(target));
    }

    /// Lets a request wait again that was not handed over. `is_refusal`: its node said so.
    fn hold_again(&mut self, id: RequestId, is_refusal: bool) {
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
    }

    fn set_deadline(&mut self, id: RequestId, deadline: Instant) {
        let Some(pending) = self.pending.get_mut(&id) else { return };
        if let Some(before) = pending.deadline.replace(deadline) {
            self.timers.remove(&(before, Timer::Deadline(id)));
        }
        self.timers.insert((deadline, Timer::Deadline(id)));
    }

    /// The sender waits no more, or its deadline is over.
    fn time_out(&mut self, id: RequestId) {
        let Some(pending) = self.pending.get(&id) else { return };
        let outcome = match pending.place {
            Place::Held { .. } => Outcome::Refused(Refusal::Expired),
            Place::UnderWay(number, of_connection) => match self.connections.get_mut(&number) {
                Some(connection) => {
                    if connection.withdraw(id) {
                        Outcome::Refused(Refusal::Expired)
                    } else {
                        connection.push(Message::Forsake { number: of_connection });
                        self.dirty.insert(number);
                        Outcome::TimedOut
                    }
                }
                None => Outcome::TimedOut,
            },
            Place::Here(served) => {
                self.outputs.push_back(Output::Withdraw { served });
                Outcome::TimedOut
            }
        };
        self.finish(id, outcome);
    }

    /// An owner has shown the epoch under which it runs a shard.
    fn learn_epoch(&mut self, id: RequestId, epoch: Epoch) {
        let Some(Target::Shard { group, index }) = self.pending.get(&id).map(|pending| &pending.target) else { return };
        let shown = self.shown.entry((*group, *index)).or_default();
        *shown = epoch.max(*shown);
    }

    /// What a node, or a worker of this one, says of a request.
    fn conclude(&mut self, id: RequestId, outcome: Outcome) {
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

    // ---- the view ------------------------------------------------------------------------------

    fn handle_member(&mut self, node: NodeId, generation: Generation, address: SocketAddr, status: Status) {
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
            Status::Dead | Status::Left => {}
        }
        if self.peers.get(&node).is_some_and(|peer| !peer.status.is_member() && peer.connection.is_none()) {
            self.peers.remove(&node);
        }
    }

    fn handle_owner(&mut self, group: u64, index: u32, owner: Option<(NodeId, Epoch)>) {
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

    // ---- time ----------------------------------------------------------------------------------

    fn handle_due(&mut self) {
        while let Some((at, _)) = self.timers.first()
            && *at <= self.now
            && let Some((_, timer)) = self.timers.pop_first()
        {
            match timer {
                Timer::Deadline(id) => {
                    let deadline = self.pending.get(&id).and_then(|pending| pending.deadline);
                    if deadline.is_some_and(|deadline| deadline <= self.now) {
                        self.time_out(id);
                    }
                }
                Timer::Held(id) => {
                    let Some(Place::Held { since }) = self.pending.get(&id).map(|pending| pending.place) else {
                        continue;
                    };
                    if since + self.config.held_for <= self.now {
                        self.finish(id, Outcome::Refused(Refusal::HeldTooLong));
                    }
                }
                Timer::Lane(target) => self.pump(&target),
                Timer::Peer(node) => self.pump_node(node),
                Timer::Greeting(number) => {
                    if self.connections.get(&number).is_some_and(|connection| connection.phase != Phase::Open) {
                        self.close(number, &Interruption::ConnectionLost);
                    }
                }
                Timer::Idle(number) => self.close_idle(number),
            }
        }
    }
}
