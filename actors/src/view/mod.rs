//! What a node knows now: members, owners of shards, workers and groups, readable from any thread.
//!
//! One actor writes the [`View`](crate::View) from the engine's events. Readers never wait for that
//! actor; it waits for a reader at most as long as one entry is read. The result of one call is
//! consistent for one entry only. For a picture of the whole at one instant, subscribe: the first
//! [`Update`](crate::Update) is one.
//!
//! # Quick start
//! ```
//! use heartbeat_actors::prelude::*;
//! use heartbeat_actors::view::WorkerState;
//!
//! struct Mailer;
//!
//! impl Actor for Mailer {
//!     type Context = Context<Self>;
//! }
//! # actix::System::new().block_on(async {
//! # let node = Node::start(Config::default()).await.unwrap();
//! node.supervise("mailer", || Mailer).unwrap().until_up().await.unwrap();
//! let mailer = node.view().worker("mailer").unwrap();
//! assert_eq!((mailer.state, mailer.failures), (WorkerState::Up, 0));
//! # });
//! ```
//!
//! | about | ask |
//! |---|---|
//! | a worker or all of them | [`View::worker`], [`View::workers`] |
//! | the messages of a worker | [`View::message_counts`] |
//! | a group or all of them | [`View::group`], [`View::groups`] |
//! | a member or all of them | [`View::member`], [`View::members`] |
//! | the owner of a shard | [`View::owner`] |
//! | what happened in between | [`event`](crate::event) |
//!
//! [`View::worker`]: crate::View::worker
//! [`View::workers`]: crate::View::workers
//! [`View::message_counts`]: crate::View::message_counts
//! [`View::group`]: crate::View::group
//! [`View::groups`]: crate::View::groups
//! [`View::member`]: crate::View::member
//! [`View::members`]: crate::View::members
//! [`View::owner`]: crate::View::owner

#[cfg(feature = "http")]
pub(crate) mod event_log;
#[cfg(feature = "http")]
pub(crate) mod link_status;
pub(crate) mod node_view;
pub(crate) mod owner;
pub(crate) mod peer_status;
pub(crate) mod subscribe;
#[cfg(feature = "http")]
pub(crate) mod times;

use std::fmt;
use std::sync::Arc;

use heartbeat_core::{Cause, Generation, Instant, NotReadyReason, WorkerId};

/// A group of this node as it stands.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct GroupView {
    /// The group that it is part of; `None` for one that is part of the node's root.
    pub parent: Option<Arc<str>>,
    /// Whether all its children have been up since it was last started.
    pub running: bool,
    /// How often a child failed more than it allows.
    pub escalations: u64,
}

/// Where a worker of this node stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum WorkerState {
    /// It is being started, and is not up yet.
    Starting,
    /// It is up.
    Up,
    /// It does not run: it has ended, was stopped, or its group has not started it yet.
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
    /// The group that it is part of; `None` for one that is part of the node's root, and for a
    /// shard.
    pub group: Option<Arc<str>>,
    /// Its present or last generation; 0 before the first.
    pub generation: Generation,
    /// Where it stands.
    pub state: WorkerState,
    /// Why requests should go elsewhere though it runs, if they should.
    pub unready: Option<NotReadyReason>,
    /// How many of its generations have failed.
    pub failures: u64,
    /// Why the last of those failed.
    pub last_cause: Option<Box<Cause>>,
}

impl WorkerView {
    /// Notes that a generation failed; the next one starts at `restart_at`, or never.
    fn fail(&mut self, generation: Generation, cause: &Cause, restart_at: Option<Instant>, now: Instant) {
        self.generation = self.generation.max(generation);
        self.state = match restart_at {
            // Its thread has started the next one already, or does so in a moment.
            Some(at) if at <= now => WorkerState::Starting,
            Some(at) => WorkerState::Waiting(at),
            None => WorkerState::Stopped,
        };
        self.unready = None;
        self.failures += 1;
        self.last_cause = Some(Box::new(cause.clone()));
    }
}
