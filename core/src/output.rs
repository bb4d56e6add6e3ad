//! `Output`: what the engine wants done.
//!
//! The engine changes nothing outside itself. It says what to change, in order, and the caller does
//! it. So a list of inputs ([`Input`](crate::Input)) replays a run, and a test reads the outputs as
//! a log.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::authority::AuthorityRequest;
use crate::detection::trace::Arrived;
use crate::event::{Cause, Event};
use crate::interruption::Interruption;
use crate::member::{ArbiterId, Generation, ProcessId, Shard, WorkerId};
use crate::snapshot::ShardSnapshot;
use crate::time::Instant;

/// Something for the caller to do now.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Send the datagram that was just written into the caller's buffer.
    Transmit {
        /// To here.
        to: SocketAddr,
        /// The process that it is for; `None` if this node does not know which one is there. A
        /// transport that seals binds the seal to it.
        receiver: Option<ProcessId>,
    },
    /// Connect a stream of this number, and report what becomes of it:
    /// [`Input::Stream`](crate::Input::Stream).
    Open {
        /// Its number.
        stream: StreamId,
        /// To here.
        to: SocketAddr,
    },
    /// Send the datagram that was just written into the caller's buffer as one frame of this
    /// stream, if it is open.
    Frame {
        /// Its number.
        stream: StreamId,
    },
    /// Close this stream once its frames are sent. Nothing more is reported of it.
    Shut {
        /// Its number.
        stream: StreamId,
    },
    /// Look this seed up, and answer with [`Input::Resolved`](crate::Input::Resolved).
    Resolve {
        /// A host name and a port.
        seed: Arc<str>,
    },
    /// Start this generation of a worker on this thread. A generation that ran before is stale from
    /// now on.
    Start(Start),
    /// This permit replaces the one that the worker's thread has.
    SetRestartPermit {
        /// Which worker.
        worker: WorkerId,
        /// The permit.
        permit: RestartPermit,
    },
    /// Stop this worker gracefully and report `Stopped`; it is not a failure. Sent again if the
    /// reason changes meanwhile.
    Stop {
        /// Which worker.
        worker: WorkerId,
        /// The reason that the senders of unanswered messages get.
        why: Interruption,
    },
    /// Fence the running generation of this worker: it handles no further message. Its queue stays,
    /// for the next generation.
    Fence {
        /// Which worker.
        worker: WorkerId,
        /// The reason that the senders of its interrupted messages get.
        why: Interruption,
    },
    /// This worker will not be started again: refuse new messages and make dead letters of the
    /// queued ones.
    Close {
        /// Which worker.
        worker: WorkerId,
        /// Whether it failed too often, instead of a normal end.
        gave_up: bool,
    },
    /// This worker was removed: forget it. Its number may be used again.
    Forget {
        /// Which worker.
        worker: WorkerId,
    },
    /// This group was removed; its name is free again.
    ForgetGroup {
        /// Its name.
        group: Arc<str>,
    },
    /// Sample the status cells of all workers, and answer with
    /// [`Input::Looks`](crate::Input::Looks).
    Scan,
    /// Make a thread of this number.
    Spawn {
        /// Its number.
        arbiter: ArbiterId,
    },
    /// This thread is silent: find out what its workers do, and answer with
    /// [`Input::Inspection`](crate::Input::Inspection) once the outputs are drained.
    Inspect {
        /// Which thread.
        arbiter: ArbiterId,
    },
    /// This thread is held, and these workers wait for it. They are not ready, and the thread gets
    /// no work that cannot wait.
    Held {
        /// Which thread.
        arbiter: ArbiterId,
        /// Which workers.
        workers: Vec<WorkerId>,
    },
    /// This thread was held and is back: these workers go on.
    Returned {
        /// Which thread.
        arbiter: ArbiterId,
        /// Which workers.
        workers: Vec<WorkerId>,
    },
    /// This thread is lost: forget it. If it ever comes back, report
    /// [`Input::ArbiterEnded`](crate::Input::ArbiterEnded).
    Abandon {
        /// Which thread.
        arbiter: ArbiterId,
    },
    /// No worker needs this thread any more: let it end.
    Dismiss {
        /// Which thread.
        arbiter: ArbiterId,
    },
    /// End the process with this code, once subscribers have received the events.
    Exit {
        /// The exit code.
        code: u8,
    },
    /// Send this request to the authority, and report its answer:
    /// [`Input::Answer`](crate::Input::Answer).
    AskAuthority {
        /// Identifies the answer.
        number: u64,
        /// The request.
        ask: AuthorityRequest,
    },
    /// A heartbeat was received. Only after [`Input::Record`](crate::Input::Record).
    Arrived(Arrived),
    /// This process was paused: check whether the socket is empty, and when it is, answer with
    /// [`Input::Drained`](crate::Input::Drained). No verdict falls before that.
    Drain,
    /// Pass this event to the subscribers and the log.
    Event(Event),
}

/// The number of a stream of this node, never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamId(pub u64);

/// A worker's start.
#[derive(Clone, PartialEq, Debug)]
pub struct Start {
    /// Which worker.
    pub worker: WorkerId,
    /// The generation to start.
    pub generation: Generation,
    /// The thread to start it on.
    pub arbiter: ArbiterId,
    /// Which shard it is, if it is one.
    pub shard: Option<Shard>,
    /// The newest snapshot of that shard that is known here, from its last owner.
    pub replica: Option<ShardSnapshot>,
    /// Why the former generation ended, if there was one.
    pub cause: Option<Cause>,
    /// What its thread may do without asking.
    pub permit: RestartPermit,
}

/// What a worker's own thread may do without asking when the worker fails: start the next
/// generation at once, and report it afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestartPermit {
    /// From this instant on; `NEVER` means not at all.
    pub from: Instant,
    /// The highest generation that it may start.
    pub until: Generation,
}

impl RestartPermit {
    /// No permit, for a worker of this generation.
    pub fn none(generation: Generation) -> RestartPermit {
        RestartPermit { from: Instant::NEVER, until: generation }
    }
}
