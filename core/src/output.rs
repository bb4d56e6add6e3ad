//! `Output`: what the engine wants done.
//!
//! The engine changes nothing in the world; it says what to change, in order, and the caller does
//! it. So a list of inputs ([`Input`](crate::Input)) replays a run, and a test reads the outputs as
//! a log.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::authority::AuthorityRequest;
use crate::detection::trace::Arrived;
use crate::event::{Cause, Event};
use crate::interruption::Interruption;
use crate::member::{ArbiterId, Generation, Shard, WorkerId};
use crate::snapshot::ShardSnapshot;
use crate::time::Instant;

/// Something for the caller to do now.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Send the datagram that was just written into the caller's buffer.
    Transmit {
        /// To here.
        to: SocketAddr,
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
    /// Close this stream once its frames are sent; nothing more is said of it.
    Shut {
        /// Its number.
        stream: StreamId,
    },
    /// Look this seed up, and answer with [`Input::Resolved`](crate::Input::Resolved).
    Resolve {
        /// A host name and a port.
        seed: Arc<str>,
    },
    /// Start this generation of a worker on this thread; whatever generation ran before is void
    /// from now on.
    Start(Start),
    /// The worker's own thread has this leave from now on, instead of what it had.
    SetRestartPermit {
        /// Which worker.
        worker: WorkerId,
        /// Its leave.
        permit: RestartPermit,
    },
    /// End this worker in good order; it is not a failure. Report `Stopped`. Said again if the
    /// reason changes meanwhile.
    Stop {
        /// Which worker.
        worker: WorkerId,
        /// What the senders of messages that cannot be answered any more are told.
        why: Interruption,
    },
    /// Void whatever generation of this worker runs; its queue stays, for the one that follows.
    Fence {
        /// Which worker.
        worker: WorkerId,
        /// What the senders of messages that it had begun are told.
        why: Interruption,
    },
    /// This worker will not be started again: refuse new messages and make dead letters of the
    /// queued ones.
    Close {
        /// Which worker.
        worker: WorkerId,
        /// Whether it failed too often, rather than ended in good order.
        gave_up: bool,
    },
    /// This worker was removed: forget it; its number may be used again.
    Forget {
        /// Which worker.
        worker: WorkerId,
    },
    /// This group was removed; its name is free again.
    ForgetGroup {
        /// Its name.
        group: Arc<str>,
    },
    /// Look at the status cells of all workers, and answer with
    /// [`Input::Looks`](crate::Input::Looks).
    Scan,
    /// Make a thread of this number.
    Spawn {
        /// Its number.
        arbiter: ArbiterId,
    },
    /// This thread is silent: look what its workers do, and answer with
    /// [`Input::Inspection`](crate::Input::Inspection) once the outputs are drained.
    Inspect {
        /// Which thread.
        arbiter: ArbiterId,
    },
    /// This thread is held, and these workers wait for it: they are not ready, and nothing that
    /// cannot wait is given to the thread.
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
    /// This thread is lost: forget it, and report
    /// [`Input::ArbiterEnded`](crate::Input::ArbiterEnded) should it ever come back.
    Abandon {
        /// Which thread.
        arbiter: ArbiterId,
    },
    /// No worker needs this thread any more: let it end.
    Dismiss {
        /// Which thread.
        arbiter: ArbiterId,
    },
    /// End the process with this code, once the events have been told.
    Exit {
        /// What the operating system is to be told.
        code: u8,
    },
    /// Ask the authority this, and report its answer: [`Input::Answer`](crate::Input::Answer).
    AskAuthority {
        /// Comes back with the answer.
        number: u64,
        /// What is asked.
        ask: AuthorityRequest,
    },
    /// A heartbeat was received; said only after [`Input::Record`](crate::Input::Record).
    Arrived(Arrived),
    /// This process was paused: look whether the socket is empty, and when it is, answer with
    /// [`Input::Drained`](crate::Input::Drained). Until then there is no verdict.
    Drain,
    /// Tell subscribers and the log.
    Event(Event),
}

/// A stream of this node: a number, never used again.
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
    /// The newest snapshot of that shard that is known here, of whoever ran it last.
    pub replica: Option<ShardSnapshot>,
    /// Why the former generation ended, if there was one.
    pub cause: Option<Cause>,
    /// What its thread may do without asking.
    pub permit: RestartPermit,
}

/// What a worker's own thread may do without asking when the worker fails: start the next
/// generation at once, and report it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestartPermit {
    /// From this instant on; `NEVER` means not at all.
    pub from: Instant,
    /// The last generation that it may start.
    pub until: Generation,
}

impl RestartPermit {
    /// No leave for a worker of this generation.
    pub fn none(generation: Generation) -> RestartPermit {
        RestartPermit { from: Instant::NEVER, until: generation }
    }
}
