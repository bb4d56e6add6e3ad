//! `Context`: what a worker has instead of actix's `Context`, and the one word in which it differs
//! from a plain actor.
//!
//! It offers the same: spawn, wait, timers, streams, stop. It is driven by our own future
//! (`driver`), not by actix's, because three things cannot be had there: a fence that a replaced
//! generation runs into, a panic caught before it takes the mailbox along, and bursts that end, so
//! that a full mailbox starves neither the timers nor the neighbours.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, ActorState, Addr, AsyncContext, SpawnHandle};
use heartbeat_core::{Epoch, Generation, Health, Shard};

use crate::worker::addr::WorkerAddr;
use crate::worker::dead_letter::DeadReason;
use crate::worker::envelope::DynEnvelope;
#[cfg(feature = "testkit")]
use crate::worker::fault::FaultAction;
use crate::worker::interval::Interval;
use crate::worker::lease::{Lease, Progress};
use crate::worker::mailbox::{Item, Undelivered};
use crate::worker::poll_budget::{self, PollBudget};
use crate::worker::slot::WorkerSlot;
use crate::worker::status_cell::{ActivityKind, WorkerGeneration};

/// A future that runs within the worker, and what it is.
pub(crate) struct Task<A: Actor<Context = Context<A>>> {
    pub(crate) kind: &'static ActivityKind,
    /// Whether one poll may do any number of budget of work, and says so after each.
    pub(crate) is_batched: bool,
    pub(crate) future: Pin<Box<dyn ActorFuture<A, Output = ()>>>,
}

impl<A: Actor<Context = Context<A>>> Task<A> {
    fn new<F: ActorFuture<A, Output = ()> + 'static>(future: F) -> Task<A> {
        let is_batched = poll_budget::is_batched::<A, F>();
        Task { kind: ActivityKind::future::<F>(), is_batched, future: Box::pin(future) }
    }
}

/// A snapshot is too long to be passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotTooLarge {
    /// How long it is.
    pub bytes: usize,
    /// How long it may be.
    pub bytes_max: u32,
}

impl fmt::Display for SnapshotTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SnapshotTooLarge { bytes, bytes_max } = self;
        write!(
            f,
            "a snapshot of {bytes} bytes is too large; use at bytes_max {bytes_max}, or raise ownership.snapshot_bytes_max"
        )
    }
}

impl std::error::Error for SnapshotTooLarge {}

/// What is left to be done with a message.
#[cfg(feature = "testkit")]
pub(crate) type Handling<A> = Box<dyn FnOnce(&mut A, &mut Context<A>)>;

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
    slot: Arc<WorkerSlot<A>>,
    /// The reader epoch in which its driver has the slot.
    reader_epoch: u32,
    generation: WorkerGeneration,
    state: ActorState,
    next_handle: SpawnHandle,
    /// Of the spawned future that is being polled, or was last.
    current: SpawnHandle,
    /// Spawned and not yet taken over by the driver.
    pub(crate) spawned: Vec<(SpawnHandle, Task<A>)>,
    /// To be waited for, the newest first, and not yet taken over by the driver.
    pub(crate) waits: Vec<Task<A>>,
    /// Whether it will say itself when it is up.
    is_starting: bool,
    /// A message whose handling waits until its thread, which is played, is let go.
    #[cfg(feature = "testkit")]
    pub(crate) held_handler: Option<Handling<A>>,
    /// Handles of spawned futures that are to be dropped.
    pub(crate) cancelled: Vec<SpawnHandle>,
    /// Whether the driver has futures to wait for.
    pub(crate) waiting: bool,
    /// What the future that is polled now may still do, if it works in budget.
    budget: Cell<Option<PollBudget>>,
    shard: Option<Shard>,
}

impl<A: Actor<Context = Context<A>>> Context<A> {
    pub(crate) fn new(
        slot: Arc<WorkerSlot<A>>,
        reader_epoch: u32,
        generation: WorkerGeneration,
        shard: Option<Shard>,
    ) -> Context<A> {
        Context {
            slot,
            reader_epoch,
            generation,
            state: ActorState::Started,
            next_handle: SpawnHandle::default(),
            current: SpawnHandle::default(),
            spawned: Vec::new(),
            waits: Vec::new(),
            is_starting: false,
            #[cfg(feature = "testkit")]
            held_handler: None,
            cancelled: Vec::new(),
            waiting: false,
            budget: Cell::new(None),
            shard,
        }
    }

    /// Which generation of this worker this is: 1 for the first, one more for each that follows.
    pub fn generation(&self) -> Generation {
        self.generation.shown
    }

    /// Which shard this worker is and under which epoch, if it is one.
    pub fn shard(&self) -> Option<Shard> {
        self.shard
    }

    /// Whether this generation has been replaced: its handler returns into nothing, and what it
    /// still does is on nobody's behalf.
    pub fn is_fenced(&self) -> bool {
        self.slot.is_stale(self.reader_epoch)
    }

    /// The address of this worker, which is bounded and follows every replacement, unlike actix's
    /// own.
    pub fn worker(&self) -> WorkerAddr<A> {
        WorkerAddr { slot: self.slot.clone() }
    }

    /// Whether messages can still reach this generation: it has not been replaced, and its queue is
    /// open. Other than with actix it does not matter whether there are addresses: the node holds
    /// one.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// # struct Worker;
    /// impl Actor for Worker {
    ///     type Context = Context<Self>;
    ///
    ///     fn started(&mut self, context: &mut Context<Self>) {
    ///         assert!(context.connected());
    ///     }
    /// }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// # node.supervise("worker", || Worker).unwrap().until_up().await.unwrap();
    /// # });
    /// ```
    pub fn connected(&self) -> bool {
        !self.is_fenced() && !self.slot.cell.is_closed()
    }

    /// The handle of the spawned future, stream or timer that is being polled; of the last one, in
    /// between.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use heartbeat_actors::prelude::*;
    /// # struct Worker;
    /// impl Actor for Worker {
    ///     type Context = Context<Self>;
    ///
    ///     fn started(&mut self, context: &mut Context<Self>) {
    ///         context.run_interval(Duration::from_millis(10), |_, context| {
    ///             let this_timer = context.handle();
    ///             context.cancel_future(this_timer); // once is enough
    ///         });
    ///     }
    /// }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// # node.supervise("worker", || Worker).unwrap().until_up().await.unwrap();
    /// # });
    /// ```
    pub fn handle(&self) -> SpawnHandle {
        self.current
    }

    /// Notes that the spawned future of this handle is polled.
    pub(crate) fn set_handle(&mut self, handle: SpawnHandle) {
        self.current = handle;
    }

    /// The right of this generation to act, to be looked at before a side effect, by this
    /// worker or by whatever it has started.
    pub fn lease(&self) -> Lease {
        let node_lease = self.shard.map(|shard| (shard.epoch, self.slot.control.node_lease.clone()));
        Lease::new(self.slot.cell.clone(), self.slot.control.clock, self.generation, node_lease)
    }

    /// A handle by which a long handler, or what it has started elsewhere, says that it makes
    /// progress.
    pub fn progress(&self) -> Progress {
        Progress::new(self.slot.cell.clone(), self.slot.control.clock, self.generation.internal)
    }

    /// Called in `started`: this worker is not up until it calls [`Context::up`]. Without this it
    /// is up when `started` has returned and what it waits for there is done.
    pub fn starting(&mut self) {
        self.is_starting = true;
    }

    /// Says that this worker is up, after [`Context::starting`].
    pub fn up(&mut self) {
        self.is_starting = false;
    }

    /// Says how this worker is. [`Health::NotReady`] has requests go elsewhere; [`Health::Failed`]
    /// has it replaced at the next look (`workers.scan`).
    pub fn report_health(&self, health: Health) {
        self.slot.cell.set_health(health);
    }

    /// Keeps what the next generation is to start from, in the place of what was kept before. It
    /// lies outside this worker's thread, so it survives whatever becomes of that; the factory
    /// finds it in its [`crate::StartInfo`]. A void generation keeps nothing.
    pub fn snapshot<S: Send + Sync + 'static>(&self, snapshot: S) {
        self.slot.keep(self.reader_epoch, Arc::new(snapshot));
    }

    /// Keeps a snapshot of this shard for whoever runs it next, on this node or another one, in the
    /// place of the one before: this node passes it on to the member that would own the shard
    /// without it, at bytes_max every `ownership.copy_every`, the newest only. The factory finds it
    /// in its [`crate::StartInfo`]. `version` is that of the format, by your own count
    /// ([`ShardSnapshot::up_to`](heartbeat_core::ShardSnapshot::up_to)). A void generation keeps nothing. A
    /// worker that is no shard keeps it for its own next generation.
    ///
    /// # Errors
    /// [`SnapshotTooLarge`] if it is longer than `ownership.snapshot_bytes_max`; what was kept
    /// before is kept.
    pub fn replicate(&self, version: u32, bytes: impl Into<Arc<[u8]>>) -> Result<(), SnapshotTooLarge> {
        let (bytes, bytes_max) = (bytes.into(), self.slot.control.snapshot_bytes_max);
        if bytes.len() > bytes_max as usize {
            return Err(SnapshotTooLarge { bytes: bytes.len(), bytes_max });
        }
        let shard = self.shard.unwrap_or(Shard { index: 0, epoch: Epoch(0) });
        self.slot.replicate(self.reader_epoch, shard, version, bytes);
        Ok(())
    }

    /// Whether it will still say itself when it is up.
    pub(crate) fn is_starting(&self) -> bool {
        self.is_starting
    }

    /// Notes in the status cell what is begun.
    pub(crate) fn begin(&self, kind: &'static ActivityKind) {
        self.slot.cell.begin(kind, self.slot.control.clock.now());
    }

    /// Notes in the status cell that nothing is being done.
    pub(crate) fn end(&self) {
        self.slot.cell.end();
    }

    /// The future that is polled next works in budget, or does not.
    pub(crate) fn begin_poll(&self, budget: Option<PollBudget>) {
        self.budget.set(budget);
    }

    /// The poll is over. Returns whether the future was cut off.
    pub(crate) fn end_poll(&self) -> bool {
        self.budget.take().is_some_and(|budget| budget.is_over())
    }

    /// A piece of work was done: it is progress, whatever comes after it in the same poll. Returns
    /// whether the future is to leave the rest for its next turn.
    pub(crate) fn end_item(&self) -> bool {
        let Some(mut budget) = self.budget.get() else { return false };
        let now = self.slot.control.clock.now();
        self.slot.cell.report_progress(now);
        budget.count(now);
        self.budget.set(Some(budget));
        budget.is_over()
    }

    /// The envelope in flight, which came through a plain `Addr`, can be told from now on when this
    /// worker is replaced.
    pub(crate) fn keep_in_flight(&self, envelope: Arc<dyn DynEnvelope<A>>) {
        self.slot.mailbox.keep_in_flight(self.reader_epoch, envelope);
    }

    /// The envelope in flight is not opened, since nobody waits for its answer.
    pub(crate) fn discard_in_flight(&self, envelope: Item<A>) {
        self.slot.mailbox.discard_in_flight(self.reader_epoch);
        self.slot.discard(Undelivered { items: vec![envelope], reason: DeadReason::Cancelled });
    }

    /// The handler has returned, and its answer is there. Returns whether it may answer: whether
    /// this generation is not void.
    pub(crate) fn finish_message(&self) -> bool {
        self.slot.mailbox.finish(self.reader_epoch)
    }

    /// What stays when this generation ends.
    pub(crate) fn slot(&self) -> &Arc<WorkerSlot<A>> {
        &self.slot
    }

    /// The reader epoch in which it has the slot.
    pub(crate) fn reader_epoch(&self) -> u32 {
        self.reader_epoch
    }

    /// Whether a test has put anything down for this worker.
    #[cfg(feature = "testkit")]
    pub(crate) fn is_armed(&self) -> bool {
        self.slot.faults.is_armed()
    }

    /// Does to the message whose handling is about to begin what a test has put down for it. Gives
    /// back the rest of the handling if it is to begin now.
    #[cfg(feature = "testkit")]
    pub(crate) fn apply_fault(&mut self, handling: Handling<A>) -> Option<Handling<A>>
    where
        A: Actor<Context = Context<A>>,
    {
        let Some(fault) = self.slot.faults.take_message() else { return Some(handling) };
        match self.slot.faults.apply(fault) {
            FaultAction::Done | FaultAction::WaitFor(_) | FaultAction::Refuse(_) => return Some(handling),
            FaultAction::Held => self.held_handler = Some(handling),
            FaultAction::Panic(text) => panic!("{text}"),
            FaultAction::Wait => {
                self.end();
                self.held_handler = Some(handling);
                self.wait(actix::fut::wrap_future(std::future::pending()));
            }
            FaultAction::Stop => {
                self.stop();
                return Some(handling);
            }
        }
        None
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
    /// An address of actix's own. It survives replacements like a `WorkerAddr`, but knows nothing
    /// of the bound on the queue. A message that is sent through it while the worker is stopped or
    /// given up becomes a dead letter at once: `send` answers
    /// [`MailboxError::Closed`](actix::MailboxError), `try_send` and `do_send` say nothing.
    fn address(&self) -> Addr<A> {
        self.slot.address()
    }

    fn spawn<F>(&mut self, future: F) -> SpawnHandle
    where
        F: ActorFuture<A, Output = ()> + 'static,
    {
        let handle = self.next_handle.next();
        self.next_handle = handle;
        self.spawned.push((handle, Task::new(future)));
        handle
    }

    fn wait<F>(&mut self, future: F)
    where
        F: ActorFuture<A, Output = ()> + 'static,
    {
        self.waits.push(Task::new(future));
        self.waiting = true;
    }

    /// Whether the context waits for a future, or stops. Within [`StreamHandler::handle`] it is
    /// also true once the stream has used up its turn: actix's streams ask here after each item,
    /// and go on at the next turn.
    ///
    /// [`StreamHandler::handle`]: actix::StreamHandler::handle
    fn waiting(&self) -> bool {
        self.waiting || self.state.stopping() || self.end_item()
    }

    /// As in actix, but a callback that takes longer than the interval does not hold the thread:
    /// each call is progress, and the others have their turn before the calls that were missed.
    fn run_interval<F>(&mut self, interval: Duration, call: F) -> SpawnHandle
    where
        F: FnMut(&mut A, &mut Context<A>) + 'static,
    {
        self.spawn(Interval::new(tokio::time::sleep(interval), interval, call))
    }

    /// As [`Context::run_interval`], from `start` on.
    fn run_interval_at<F>(&mut self, start: tokio::time::Instant, interval: Duration, call: F) -> SpawnHandle
    where
        F: FnMut(&mut A, &mut Context<A>) + 'static,
    {
        self.spawn(Interval::new(tokio::time::sleep_until(start), interval, call))
    }

    fn cancel_future(&mut self, handle: SpawnHandle) -> bool {
        self.cancelled.push(handle);
        true
    }
}
