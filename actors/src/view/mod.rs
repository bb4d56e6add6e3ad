//! What a node knows.

pub(crate) mod node_view;
pub(crate) mod owner;
pub(crate) mod peer_status;
pub(crate) mod subscribe;

use std::fmt;

use heartbeat_core::{Cause, Generation, Instant, NotReadyReason, WorkerId};

/// A group of this node as it stands.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct GroupView {
    /// Whether all its children have been up since it was last started.
    pub running: bool,
    /// How often a child failed more than it allows.
    pub escalations: u64,
}

/// Where a worker of this node stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WorkerState {
    /// It was told to start, and is not up yet.
    Starting,
    /// It is up.
    Up,
    /// It does not run: it has ended, was stopped, or its group has not come to it.
    Stopped,
    /// It has failed, and is started again at this instant by its node's clock.
    Waiting(Instant),
    /// It failed too often, and is not started again.
    GivenUp,
    /// It is a shard that this node does not own.
    Elsewhere,
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WorkerState::Starting => "starting",
            WorkerState::Up => "up",
            WorkerState::Stopped => "stopped",
            WorkerState::Waiting(_) => "waiting to restart",
            WorkerState::GivenUp => "given up",
            WorkerState::Elsewhere => "elsewhere",
        })
    }
}

/// A worker of this node as it stands.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WorkerView {
    /// Its number on this node.
    pub id: WorkerId,
    /// Its present or last life; 0 before the first.
    pub generation: Generation,
    /// Where it stands.
    pub state: WorkerState,
    /// Why requests should go elsewhere though it runs, if they should.
    pub unready: Option<NotReadyReason>,
    /// Lives that ended with a fault.
    pub failures: u64,
    /// Why the last of them ended.
    pub last_cause: Option<Box<Cause>>,
}

impl WorkerView {
    /// Takes in that a life failed; the next one is to start at `restart_at`.
    fn fail(&mut self, generation: Generation, cause: &Cause, restart_at: Option<Instant>, now: Instant) {
        self.generation = self.generation.max(generation);
        self.state = match restart_at {
            // By its own thread at once, or told to in a moment.
            Some(at) if at <= now => WorkerState::Starting,
            Some(at) => WorkerState::Waiting(at),
            None => WorkerState::Stopped,
        };
        self.unready = None;
        self.failures += 1;
        self.last_cause = Some(Box::new(cause.clone()));
    }
}
