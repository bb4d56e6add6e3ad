//! `Lease` and `Progress`: what a worker may carry out of its own thread: its shard_lease to act,
//! and its voice.
//!
//! A handler that has been replaced cannot be stopped, only asked to look before it acts. What
//! happens between the look and the act cannot be undone, so the window is small, not zero; whoever
//! must close it writes the epoch with the data and has the store refuse a lower one.

use std::fmt;
use std::sync::Arc;

use heartbeat_core::{Epoch, Generation};

use crate::clock::Clock;
use crate::worker::node_lease::NodeLease;
use crate::worker::status_cell::{CellRef, WorkerGeneration};

/// The shard_lease of one generation of a worker to act. It is over when that generation has failed
/// or ended, or was replaced, fenced or stopped. That of a shard is over, too, when its node may
/// not act for its shards any more: its session at the authority or its quorum has ended, or it was
/// itself away for longer than `timeout`. That is seen by comparing with the clock, whatever else
/// is held up. Cloning it is cheap, and any thread may ask it.
#[derive(Clone)]
pub struct Lease {
    cell: CellRef,
    clock: Clock,
    generation: WorkerGeneration,
    /// Of a shard: its epoch, and until when its node may act for it.
    shard_lease: Option<(Epoch, Arc<NodeLease>)>,
}

/// The lease is over: whatever was to be done must not be.
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

    /// Whether it is good at this instant.
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

    /// The shard's token, if its holder is a shard: to be written with the data.
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

/// Says on behalf of one generation of a worker that its work goes on, however long it takes.
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

    /// Says so now. What the worker does has all its time anew from here; a void generation says
    /// nothing.
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
