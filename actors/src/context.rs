//! `Context`: what a worker has instead of actix's `Context`, and the one word in which it differs from a plain actor.
//!
//! It offers the same: spawn, wait, timers, streams, stop. It is driven by our own future (`driver`), not by actix's, because three things
//! cannot be had there: a fence that a replaced generation runs into, a panic caught before it takes the mailbox along, and bursts that
//! end, so that a full mailbox starves neither the timers nor the neighbours.

use std::pin::Pin;
use std::sync::Arc;

use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, ActorState, Addr, AsyncContext, SpawnHandle};
use heartbeat_core::{Generation, Shard};

use crate::cell::Kind;
use crate::seat::Seat;

/// A future that runs within the worker.
pub(crate) type Task<A> = Pin<Box<dyn ActorFuture<A, Output = ()>>>;

/// The execution context of a supervised worker.
///
/// ```
/// struct Counter;
///
/// impl actix::Actor for Counter {
///     type Context = heartbeat_actors::Context<Self>; // the one word that differs from plain actix
/// }
/// ```
pub struct Context<A: Actor<Context = Context<A>>> {
    seat: Arc<Seat<A>>,
    /// In which term its driver has the seat.
    term: u32,
    generation: Generation,
    state: ActorState,
    next_handle: SpawnHandle,
    /// Spawned and not yet taken over by the driver.
    pub(crate) spawned: Vec<(SpawnHandle, Task<A>)>,
    /// To be waited for, the newest first, and not yet taken over by the driver.
    pub(crate) waits: Vec<Task<A>>,
    /// Handles of spawned futures that are to be dropped.
    pub(crate) cancelled: Vec<SpawnHandle>,
    /// Whether the driver has futures to wait for.
    pub(crate) waiting: bool,
    shard: Option<Shard>,
}

impl<A: Actor<Context = Context<A>>> Context<A> {
    pub(crate) fn new(seat: Arc<Seat<A>>, term: u32, generation: Generation, shard: Option<Shard>) -> Context<A> {
        Context {
            seat,
            term,
            generation,
            state: ActorState::Started,
            next_handle: SpawnHandle::default(),
            spawned: Vec::new(),
            waits: Vec::new(),
            cancelled: Vec::new(),
            waiting: false,
            shard,
        }
    }

    /// Which life of this worker this is: 1 for the first, higher for each replacement.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Which shard this worker is and under which epoch, if it is one.
    pub fn shard(&self) -> Option<Shard> {
        self.shard
    }

    /// Whether this generation has been replaced: its handler returns into nothing, and what it still does is on nobody's behalf. A long
    /// handler may look at this before a side effect.
    pub fn is_void(&self) -> bool {
        self.seat.is_over(self.term)
    }

    /// Notes in the status cell what is begun.
    pub(crate) fn begin(&self, kind: &'static Kind) {
        self.seat.cell.begin(kind, self.seat.control.clock.now());
    }

    /// Notes in the status cell that nothing is being done.
    pub(crate) fn end(&self) {
        self.seat.cell.end();
    }

    /// Notes in the status cell that a message was handled to its end.
    pub(crate) fn end_message(&self) {
        self.seat.cell.count_handled();
        self.seat.cell.end();
    }

    pub(crate) fn set_state(&mut self, state: ActorState) {
        self.state = state;
    }
}

impl<A: Actor<Context = Context<A>>> ActorContext for Context<A> {
    fn stop(&mut self) {
        if self.state.alive() {
            self.state = ActorState::Stopping;
        }
    }

    fn terminate(&mut self) {
        self.state = ActorState::Stopped;
    }

    fn state(&self) -> ActorState {
        self.state
    }
}

impl<A: Actor<Context = Context<A>>> AsyncContext<A> for Context<A> {
    /// An address of actix's own. It survives replacements like a `WorkerAddr`, but knows nothing of the bound on the queue, and what is sent
    /// through it after the worker was given up becomes a dead letter without the sender being told.
    fn address(&self) -> Addr<A> {
        Addr::new(self.seat.sender.clone())
    }

    fn spawn<F>(&mut self, future: F) -> SpawnHandle
    where
        F: ActorFuture<A, Output = ()> + 'static,
    {
        let handle = self.next_handle.next();
        self.next_handle = handle;
        self.spawned.push((handle, Box::pin(future)));
        handle
    }

    fn wait<F>(&mut self, future: F)
    where
        F: ActorFuture<A, Output = ()> + 'static,
    {
        self.waits.push(Box::pin(future));
        self.waiting = true;
    }

    fn waiting(&self) -> bool {
        self.waiting || self.state.stopping()
    }

    fn cancel_future(&mut self, handle: SpawnHandle) -> bool {
        self.cancelled.push(handle);
        true
    }
}
