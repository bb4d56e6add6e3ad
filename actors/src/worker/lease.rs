//! `Lease` and `Progress`: what a worker may hand to other threads: its right to act, and a way to
//! report progress.
//!
//! A handler that was replaced cannot be stopped; it can only check its lease before it acts.
//! Between the check and the act the lease may end, so the window is small and not zero. To close
//! it, write the epoch with the data and have the store refuse a lower one.

use std::fmt;
use std::sync::Arc;

use heartbeat_core::{Epoch, Generation};

use crate::clock::Clock;
use crate::worker::node_lease::NodeLease;
use crate::worker::status_cell::{CellRef, WorkerGeneration};

/// The right of one generation of a worker to act.
///
/// It is over when that generation has failed or ended, or was replaced, fenced or stopped. The
/// lease of a shard is also over when its node may no longer act for its shards. Its session at the
/// authority or its quorum has ended then, or the node was suspended for longer than `timeout`. A
/// comparison with the clock finds this, so it holds even if the control thread is delayed.
///
/// Cloning it is cheap, and any thread may check it. [`Context::lease`](crate::Context::lease) has
/// an example.
///
/// ```
/// use heartbeat_actors::worker::{Fenced, Lease};
///
/// fn append(lease: &Lease, log: &mut Vec<u8>, byte: u8) -> Result<(), Fenced> {
///     lease.check()?; // right before the side effect
///     log.push(byte);
///     Ok(())
/// }
/// # use heartbeat_actors::prelude::*;
/// # struct Writer(Vec<u8>);
/// # impl Actor for Writer { type Context = Context<Self>; }
/// # #[derive(Message)]
/// # #[rtype(result = "bool")]
/// # struct Append(u8);
/// # impl Handler<Append> for Writer {
/// #     type Result = bool;
/// #     fn handle(&mut self, byte: Append, context: &mut Context<Self>) -> bool {
/// #         append(&context.lease(), &mut self.0, byte.0).is_ok()
/// #     }
/// # }
/// # actix::System::new().block_on(async {
/// # let node = Node::start(Config::default()).await.unwrap();
/// # let writer = node.supervise("writer", || Writer(Vec::new())).unwrap();
/// # assert_eq!(writer.send(Append(7)).await, Ok(true));
/// # });
/// ```
#[derive(Clone)]
pub struct Lease {
    cell: CellRef,
    clock: Clock,
    generation: WorkerGeneration,
    /// For a shard: its epoch, and the lease of its node.
    shard_lease: Option<(Epoch, Arc<NodeLease>)>,
}

/// The lease is over: do not act.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fenced {
    /// The generation that held it.
    pub generation: Generation,
}

impl fmt::Display for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {} of this worker is over; its successor is responsible", self.generation.0)
    }
}

impl std::error::Error for Fenced {}

impl Lease {
    pub(crate) fn new(
        cell: CellRef,
        clock: Clock,
        generation: WorkerGeneration,
        shard_lease: Option<(Epoch, Arc<NodeLease>)>,
    ) -> Lease {
        Lease { cell, clock, generation, shard_lease }
    }

    /// Whether it is valid at this instant.
    pub fn is_valid(&self) -> bool {
        let may_act = self.shard_lease.as_ref().is_none_or(|(_, shard_lease)| shard_lease.is_valid(self.clock.now()));
        may_act && self.cell.generation() == self.generation.internal && self.cell.is_live()
    }

    /// As [`Lease::is_valid`], for use with `?`.
    ///
    /// # Errors
    /// [`Fenced`] if it is over.
    pub fn check(&self) -> Result<(), Fenced> {
        if self.is_valid() { Ok(()) } else { Err(Fenced { generation: self.generation.shown }) }
    }

    /// The generation that holds it.
    pub fn generation(&self) -> Generation {
        self.generation.shown
    }

    /// The shard's epoch, if its holder is a shard: to be written with the data.
    pub fn epoch(&self) -> Option<Epoch> {
        self.shard_lease.as_ref().map(|(epoch, _)| *epoch)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("generation", &self.generation.shown)
            .field("epoch", &self.epoch())
            .field("valid", &self.is_valid())
            .finish()
    }
}

/// Reports progress on behalf of one generation of a worker; see
/// [`Context::progress`](crate::Context::progress).
#[derive(Clone)]
pub struct Progress {
    cell: CellRef,
    clock: Clock,
    generation: Generation,
}

impl Progress {
    pub(crate) fn new(cell: CellRef, clock: Clock, generation: Generation) -> Progress {
        Progress { cell, clock, generation }
    }

    /// Reports progress now. The current activity has its whole `timeout` again from here. A report
    /// of a fenced generation has no effect.
    pub fn report(&self) {
        if self.cell.generation() == self.generation {
            self.cell.report_progress(self.clock.now());
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").field("generation", &self.generation).finish_non_exhaustive()
    }
}
