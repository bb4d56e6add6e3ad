//! `Context`: what a worker has in place of actix's `Context`, and the one word in which it differs
//! from a plain actor.
//!
//! It offers the same: spawn, wait, timers, streams, stop. Our own future (`Runner`) drives it,
//! because actix's lacks three things. A replaced generation must run into a fence. A panic must be
//! caught before it takes the mailbox along. Bursts must end, so that a full mailbox starves
//! neither the timers nor other workers.

use std::cell::Cell;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, ActorState, Addr, AsyncContext, SpawnHandle};
use heartbeat_core::{Epoch, Generation, Health, Instant, Interruption, Shard};

use crate::worker::addr::WorkerAddr;
use crate::worker::dead_letter::DeadReason;
use crate::worker::envelope::DynEnvelope;
#[cfg(feature = "testkit")]
use crate::worker::fault::FaultAction;
use crate::worker::histogram::MessageTimer;
use crate::worker::interval::Interval;
use crate::worker::lease::{Lease, Progress};
use crate::worker::mailbox::{Item, Undelivered};
use crate::worker::poll_budget::{self, PollBudget};
use crate::worker::slot::WorkerSlot;
use crate::worker::status_cell::{ActivityKind, WorkerGeneration};

/// A future that runs within the worker, and what it is.
pub(crate) struct Task<A: Actor<Context = Context<A>>> {
    pub(crate) kind: &'static ActivityKind,
    /// Whether one poll may handle any number of items, with a check of the budget after each.
    pub(crate) is_batched: bool,
    pub(crate) future: Pin<Box<dyn ActorFuture<A, Output = ()>>>,
}

impl<A: Actor<Context = Context<A>>> Task<A> {
    fn new<F: ActorFuture<A, Output = ()> + 'static>(future: F) -> Task<A> {
        let is_batched = poll_budget::is_batched::<A, F>();
        Task { kind: ActivityKind::future::<F>(), is_batched, future: Box::pin(future) }
    }
}

/// A snapshot is too long to be copied to other nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotTooLarge {
    /// Its length, in bytes.
    pub bytes: usize,
    /// Bytes that the snapshots of the shard's other entities take; zero for a worker that is no
    /// entity.
    pub others: usize,
    /// The longest that is accepted, in bytes, those of others included:
    /// `ownership.snapshot_bytes_max`.
    pub bytes_max: u32,
}

impl fmt::Display for SnapshotTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SnapshotTooLarge { bytes, others, bytes_max } = self;
        if *others > 0 {
            return write!(
                f,
                "a snapshot of {bytes} bytes does not fit beside the {others} bytes of the shard's other entities; use at most {bytes_max} together, more shards, or raise ownership.snapshot_bytes_max"
            );
        }
        write!(
            f,
            "a snapshot of {bytes} bytes is too large; use at most {bytes_max}, or raise ownership.snapshot_bytes_max"
        )
    }
}

impl std::error::Error for SnapshotTooLarge {}

/// The rest of the handling of a message.
#[cfg(feature = "testkit")]
pub(crate) type Handling<A> = Box<dyn FnOnce(&mut A, &mut Context<A>)>;

/// The execution context of a supervised worker.
///
/// ```
/// struct Counter;
///
/// impl actix::Actor for Counter {
///     type Context = heartbeat_actors::Context<Self>; // the one word that differs from actix
/// }
/// ```
pub struct Context<A: Actor<Context = Context<A>>> {
    slot: Arc<WorkerSlot<A>>,
    /// The reader epoch in which its runner owns the slot.
    reader_epoch: u32,
    generation: WorkerGeneration,
    state: ActorState,
    next_handle: SpawnHandle,
    /// The handle of the spawned future that is being polled, or was last.
    current: SpawnHandle,
    /// Spawned and not yet taken over by the runner.
    pub(crate) spawned: Vec<(SpawnHandle, Task<A>)>,
    /// To be waited for, the newest first, and not yet taken over by the runner.
    pub(crate) waits: Vec<Task<A>>,
    /// Whether it will say itself when it is up.
    is_starting: bool,
    /// A message whose handling waits until its simulated thread is released.
    #[cfg(feature = "testkit")]
    pub(crate) held_handler: Option<Handling<A>>,
    /// Handles of spawned futures that are to be dropped.
    pub(crate) cancelled: Vec<SpawnHandle>,
    /// Whether the runner has futures to wait for.
    pub(crate) waiting: bool,
    /// What the future that is polled now may still do, if it handles items.
    budget: Cell<Option<PollBudget>>,
    shard: Option<Shard>,
    /// Times the messages, if that is wanted.
    pub(crate) timer: Option<MessageTimer>,
}

impl<A: Actor<Context = Context<A>>> Context<A> {
    pub(crate) fn new(
        slot: Arc<WorkerSlot<A>>,
        reader_epoch: u32,
        generation: WorkerGeneration,
        shard: Option<Shard>,
    ) -> Context<A> {
        let histograms = slot.control.histograms.as_ref();
        let timer = histograms.map(|all| MessageTimer::new(all, std::any::type_name::<A>(), slot.control.clock));
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
            timer,
        }
    }

    /// The generation of this worker: 1 for the first, one more for each that follows.
    pub fn generation(&self) -> Generation {
        self.generation.shown
    }

    /// The shard that this worker runs, with its epoch, if it runs one.
    pub fn shard(&self) -> Option<Shard> {
        self.shard
    }

    /// Whether this generation was replaced. Its answers are then not delivered, and its successor
    /// may be working on the same data.
    pub fn is_fenced(&self) -> bool {
        self.slot.is_stale(self.reader_epoch)
    }

    /// The address of this worker. Unlike actix's own it is bounded for all clones together.
    pub fn worker(&self) -> WorkerAddr<A> {
        WorkerAddr { slot: self.slot.clone() }
    }

    /// Whether messages can still reach this generation: it was not replaced, and its queue is
    /// open. Unlike in actix it does not matter whether there are addresses: the node holds one.
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

    /// The handle of the spawned future, stream or timer that is being polled; between two polls,
    /// of the last one.
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

    /// Records that the spawned future of this handle is polled.
    pub(crate) fn set_handle(&mut self, handle: SpawnHandle) {
        self.current = handle;
    }

    /// The right of this generation to act. The worker, and anything that it has started, checks it
    /// before a side effect.
    ///
    /// ```
    /// # use heartbeat_actors::worker::Lease;
    /// # use heartbeat_actors::prelude::*;
    /// # struct Writer;
    /// # impl Actor for Writer { type Context = Context<Self>; }
    /// # #[derive(Message)]
    /// # #[rtype(result = "Lease")]
    /// # struct GetLease;
    /// impl Handler<GetLease> for Writer {
    ///     type Result = MessageResult<GetLease>;
    ///
    ///     fn handle(&mut self, _: GetLease, context: &mut Context<Self>) -> Self::Result {
    ///         MessageResult(context.lease())
    ///     }
    /// }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    ///
    /// let writer = node.supervise("writer", || Writer).unwrap();
    /// let lease = writer.send(GetLease).await.unwrap();
    /// assert!(lease.is_valid());
    /// node.leave().await;
    /// assert!(!lease.is_valid());
    /// # });
    /// ```
    pub fn lease(&self) -> Lease {
        let node_lease = self.shard.map(|shard| (shard.epoch, self.slot.control.node_lease.clone()));
        Lease::new(self.slot.cell.clone(), self.slot.control.clock, self.generation, node_lease)
    }

    /// A handle by which a long handler, or work that it has started elsewhere, reports progress.
    /// Each report gives the handler the whole of `workers.timeout` again.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// # struct Encoder;
    /// # impl Actor for Encoder { type Context = Context<Self>; }
    /// # #[derive(Message)]
    /// # #[rtype(result = "usize")]
    /// # struct Encode(Vec<u8>);
    /// impl Handler<Encode> for Encoder {
    ///     type Result = usize;
    ///
    ///     fn handle(&mut self, encode: Encode, context: &mut Context<Self>) -> usize {
    ///         let progress = context.progress();
    ///         encode.0.chunks(2).map(|_frame| progress.report()).count()
    ///     }
    /// }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    ///
    /// let encoder = node.supervise("encoder", || Encoder).unwrap();
    /// assert_eq!(encoder.send(Encode(vec![0; 6])).await, Ok(3));
    /// # });
    /// ```
    pub fn progress(&self) -> Progress {
        Progress::new(self.slot.cell.clone(), self.slot.control.clock, self.generation.internal)
    }

    /// To be called in `started`: this worker is not up until it calls [`Context::up`]. Without
    /// this call it is up once `started` has returned and the futures that it waits for there are
    /// done.
    pub fn starting(&mut self) {
        self.is_starting = true;
    }

    /// Reports that this worker is up, after [`Context::starting`].
    pub fn up(&mut self) {
        self.is_starting = false;
    }

    /// Reports the health of this worker. With [`Health::NotReady`] requests go elsewhere. With
    /// [`Health::Failed`] the worker is replaced at the next scan (`workers.scan`).
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// use heartbeat_actors::event::NotReadyReason;
    /// use heartbeat_actors::worker::Health;
    /// # struct Store;
    /// # impl Actor for Store { type Context = Context<Self>; }
    /// # #[derive(Message)]
    /// # #[rtype(result = "()")]
    /// # struct ConnectionLost;
    ///
    /// impl Handler<ConnectionLost> for Store {
    ///     type Result = ();
    ///
    ///     fn handle(&mut self, _: ConnectionLost, context: &mut Context<Self>) {
    ///         context.report_health(Health::NotReady);
    ///     }
    /// }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    ///
    /// let store = node.supervise("store", || Store).unwrap();
    /// store.send(ConnectionLost).await.unwrap();
    /// assert_eq!(store.status().not_ready, Some(NotReadyReason::Reported));
    /// # });
    /// ```
    pub fn report_health(&self, health: Health) {
        self.slot.cell.set_health(health);
    }

    /// Keeps a snapshot for the next generation, in place of the one before. It lies outside this
    /// worker's thread, so it outlives the thread. The factory reads it with
    /// [`StartInfo::snapshot`](crate::StartInfo::snapshot). A fenced generation keeps nothing.
    ///
    /// ```
    /// # use heartbeat_actors::StartInfo;
    /// # use heartbeat_actors::prelude::*;
    /// # struct Counter { total: u64 }
    /// # impl Actor for Counter { type Context = Context<Self>; }
    /// # #[derive(Message)]
    /// # #[rtype(result = "u64")]
    /// # struct Add(u64);
    /// impl Handler<Add> for Counter {
    ///     type Result = u64;
    ///
    ///     fn handle(&mut self, add: Add, context: &mut Context<Self>) -> u64 {
    ///         self.total += add.0;
    ///         context.snapshot(self.total);
    ///         self.total
    ///     }
    /// }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    ///
    /// let counter = node.supervise_with(WorkerSpec::new("counter"), |start: &StartInfo| {
    ///     Ok(Counter { total: start.snapshot::<u64>()?.map_or(0, |total| *total) })
    /// });
    /// let counter = counter.unwrap();
    /// assert_eq!(counter.send(Add(2)).await, Ok(2));
    /// counter.restart();
    /// counter.until_up().await.unwrap();
    /// assert_eq!(counter.send(Add(3)).await, Ok(5));
    /// # });
    /// ```
    pub fn snapshot<S: Send + Sync + 'static>(&self, snapshot: S) {
        self.slot.keep(self.reader_epoch, Arc::new(snapshot));
    }

    /// Keeps a snapshot of this shard for its next owner, on this node or another one, in place of
    /// the one before.
    ///
    /// The node copies the newest one to the shard's successor: the member that would own the shard
    /// without this node. It does so at most every `ownership.copy_every`. The factory reads the
    /// snapshot with [`StartInfo::replica`](crate::StartInfo::replica). `version` is the version of
    /// your format ([`ShardSnapshot::up_to`](heartbeat_core::ShardSnapshot::up_to)). A fenced
    /// generation keeps nothing. A worker that is not a shard keeps the snapshot for its own next
    /// generation. An [entity](crate::entity) keeps it for its next life; with no bytes it takes
    /// the earlier one back.
    ///
    /// # Errors
    /// [`SnapshotTooLarge`] if it is longer than `ownership.snapshot_bytes_max`, or makes the
    /// snapshots of all entities of its shard longer than that. The snapshot before it is kept.
    pub fn replicate(&self, version: u32, bytes: impl Into<Arc<[u8]>>) -> Result<(), SnapshotTooLarge> {
        let (bytes, bytes_max) = (bytes.into(), self.slot.control.snapshot_bytes_max);
        if bytes.len() > bytes_max as usize {
            return Err(SnapshotTooLarge { bytes: bytes.len(), others: 0, bytes_max });
        }
        let shard = self.shard.unwrap_or(Shard { index: 0, epoch: Epoch(0) });
        self.slot.replicate(self.reader_epoch, shard, version, bytes)
    }

    /// What the node's clock shows.
    pub(crate) fn now(&self) -> Instant {
        self.slot.control.clock.now()
    }

    /// Why the worker was asked to stop last.
    pub(crate) fn ending(&self) -> Interruption {
        self.slot.mailbox.ending()
    }

    /// Whether the worker will call [`Context::up`] and has not yet.
    pub(crate) fn is_starting(&self) -> bool {
        self.is_starting
    }

    /// Records in the status cell what is begun.
    pub(crate) fn begin(&self, kind: &'static ActivityKind) {
        self.slot.cell.begin(kind, self.slot.control.clock.now());
    }

    /// As [`Context::begin`], for a message whose handler is called now.
    pub(crate) fn begin_message(&mut self, kind: &'static ActivityKind) {
        let now = self.slot.control.clock.now();
        self.slot.cell.begin(kind, now);
        if let Some(timer) = &mut self.timer {
            timer.begin(now);
        }
    }

    /// No message follows at once: the time of the last one ends here, if it is wanted.
    pub(crate) fn end_times(&mut self) {
        let Some(timer) = &mut self.timer else { return };
        #[cfg(feature = "testkit")]
        if self.held_handler.is_some() {
            return; // Its handler is called when its simulated thread is released.
        }
        timer.end();
    }

    /// Records in the status cell that the worker is idle.
    pub(crate) fn end(&self) {
        self.slot.cell.end();
    }

    /// Sets the budget of the future that is polled next, if it handles items.
    pub(crate) fn begin_poll(&self, budget: Option<PollBudget>) {
        self.budget.set(budget);
    }

    /// The poll is over. Returns whether the future was cut off.
    pub(crate) fn end_poll(&self) -> bool {
        self.budget.take().is_some_and(|budget| budget.is_over())
    }

    /// Records that an item was handled: that is progress, even if the rest of the poll takes long.
    /// Returns whether the future must leave the rest for its next turn.
    pub(crate) fn end_item(&self) -> bool {
        let Some(mut budget) = self.budget.get() else { return false };
        let now = self.slot.control.clock.now();
        self.slot.cell.report_progress(now);
        budget.count(now);
        self.budget.set(Some(budget));
        budget.is_over()
    }

    /// Keeps the envelope in flight, which came through a plain `Addr`, so that its sender can be
    /// notified when this worker is replaced.
    pub(crate) fn keep_in_flight(&self, envelope: Arc<dyn DynEnvelope<A>>) {
        self.slot.mailbox.keep_in_flight(self.reader_epoch, envelope);
    }

    /// Discards the envelope in flight unopened, since its sender has stopped waiting.
    pub(crate) fn discard_in_flight(&self, envelope: Item<A>) {
        self.slot.mailbox.discard_in_flight(self.reader_epoch);
        self.slot.discard(Undelivered { items: vec![envelope], reason: DeadReason::Cancelled });
    }

    /// Records that the handler has returned with its answer. Returns whether the answer may be
    /// delivered: whether this generation is not fenced.
    pub(crate) fn finish_message(&self) -> bool {
        self.slot.mailbox.finish(self.reader_epoch)
    }

    /// The slot, which stays when this generation ends.
    pub(crate) fn slot(&self) -> &Arc<WorkerSlot<A>> {
        &self.slot
    }

    /// The reader epoch in which it owns the slot.
    pub(crate) fn reader_epoch(&self) -> u32 {
        self.reader_epoch
    }

    /// Whether a test has injected a fault into this worker.
    #[cfg(feature = "testkit")]
    pub(crate) fn is_armed(&self) -> bool {
        self.slot.faults.is_armed()
    }

    /// Applies a fault that a test has injected into the next message. Returns the handling of the
    /// message if it is to begin now.
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
    /// An address of actix's own. It follows replacements like a `WorkerAddr`, but the bound of the
    /// queue does not hold for it. A message that is sent through it while the worker is stopped or
    /// given up becomes a dead letter at once: `send` returns
    /// [`MailboxError::Closed`](actix::MailboxError), `try_send` and `do_send` report nothing.
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
    /// also true once the stream has used up its turn: actix's streams call this after each item,
    /// and go on at the next turn.
    ///
    /// [`StreamHandler::handle`]: actix::StreamHandler::handle
    fn waiting(&self) -> bool {
        self.waiting || self.state.stopping() || self.end_item()
    }

    /// As in actix, but a callback that takes longer than the interval does not hold the thread.
    /// Each call counts as progress, and other tasks get their turn before the calls that were
    /// missed.
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
