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
//! The rooms: `sending` has the requests of this node, `serving` those of others, `view` what the
//! engine knows, `timers` what is due, `connection` and `frame` the bytes, `trace_context`
//! what travels of a trace.
//!
//! What this does not do: it repeats nothing that may have been handled, keeps nothing over the end
//! of the process, and does not order requests of two senders.
//!
//! # How to drive it
//! One input, then [`Requests::poll_output`] until it returns `None`, then
//! [`Requests::poll_timeout`]: as with the engine.

mod connection;
mod figures;
#[cfg(test)]
mod flow_tests;
mod frame;
mod lane;
mod outcome;
mod sending;
mod serving;
#[cfg(test)]
mod tests;
mod timers;
mod trace_context;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub use bytes::Bytes;

pub use self::figures::{Figures, PeerFigures};
pub use self::frame::{FRAME_BYTES_MAX, FrameError, PART_BYTES_MAX, PREFACE};
pub use self::outcome::{Outcome, Refusal};
pub use self::trace_context::{TraceContext, TraceContextError};
pub use crate::config::{OnSuspected, RequestsConfig};

use self::connection::Connection;
use self::lane::Lane;
use self::sending::Pending;
use self::serving::Serving;
use self::timers::Timer;
use self::view::Peer;
use crate::interruption::Interruption;
use crate::member::{Epoch, Generation, NodeId, Status};
use crate::time::Instant;

/// How long a node that could not be connected to is left alone; doubled each time.
const RECONNECT_MIN: Duration = Duration::from_millis(20);

/// The longest such pause.
const RECONNECT_MAX: Duration = Duration::from_secs(1);

/// How long a connection may take to be ready for requests.
const GREETING_FOR: Duration = Duration::from_secs(5);

/// A request of this node; no number is used twice. Of requests to one target that wait, the one
/// with the lowest number goes first.
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
        payload: Bytes,
        /// When its sender stops waiting.
        deadline: Option<Instant>,
        /// The trace that it belongs to.
        trace: Option<TraceContext>,
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
        /// The host that it comes from: a connection speaks for members on that host alone.
        from: IpAddr,
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
        /// The bytes, any number of them. Nothing holds on to them.
        bytes: Bytes,
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
    /// This node has left: every request ends, and later ones are refused.
    Leave,
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
        /// The bytes; a part of a large payload is not copied.
        bytes: Bytes,
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
        payload: Bytes,
        /// When its sender stops waiting: from this instant on it is not handed to the worker.
        deadline: Option<Instant>,
        /// The trace that it belongs to.
        trace: Option<TraceContext>,
    },
    /// The sender of a request that was delivered waits until then only.
    Deadline {
        /// Which.
        served: ServedId,
        /// From this instant on it is not handed to the worker.
        deadline: Instant,
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
    has_left: bool,
    outputs: VecDeque<Output>,
    counters: Counters,
    /// How often each reason ended a request as refused.
    refusals: BTreeMap<&'static str, u64>,
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
            has_left: false,
            outputs: VecDeque::new(),
            counters: Counters::default(),
            refusals: BTreeMap::new(),
        }
    }

    /// Handles one input. Drain [`Requests::poll_output`] afterwards.
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.now = self.now.max(now);
        match input {
            Input::Send { id, target, message, payload, deadline, trace } => {
                let pending = Pending::new(target, message, payload, trace, self.now);
                self.handle_send(id, pending, deadline);
            }
            Input::SetDeadline { id, deadline } => self.set_deadline(id, deadline),
            Input::Forsake { id } => self.time_out(id),
            Input::Member { node, generation, address, status } => {
                self.handle_member(node, generation, address, status);
            }
            Input::Owner { group, index, owner } => self.handle_owner(group, index, owner),
            Input::Served { served, outcome } => self.handle_served(served, outcome),
            Input::Accepted { connection, from } => self.handle_accepted(connection, from),
            Input::Connected { connection } => self.handle_connected(connection),
            Input::Read { connection, bytes } => self.handle_read(connection, &bytes),
            Input::Written { connection, bytes } => self.handle_written(connection, bytes),
            Input::Ended { connection } => self.end_connection(connection, &Interruption::ConnectionLost),
            Input::Leave => self.leave(),
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
}
