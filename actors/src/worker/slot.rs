//! `WorkerSlot`: what stays when a worker is replaced: its mailbox, its status cell, its factory.
//!
//! Each generation of a worker takes over the slot of the one before and reads the same mailbox.
//! That is why an address outlives every replacement, even one whose predecessor's thread is
//! blocked and gives nothing back.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use actix::{Actor, Addr, Recipient};
use heartbeat_core::{
    Cause, Child, Epoch, Generation, Input, Interruption, Report, RestartPermit, Shard, ShardSnapshot, WorkerId,
};

use crate::clock::Clock;
use crate::lock::lock;
use crate::spans::Propagator;
use crate::thread::ThreadHandle;
use crate::worker::context::{Context, SnapshotTooLarge};
use crate::worker::dead_letter::{DeadLetterSink, DeadReason};
use crate::worker::drop_queue::DropQueue;
use crate::worker::entity::{EntityHost, ShardHost};
#[cfg(feature = "testkit")]
use crate::worker::fault::Faults;
use crate::worker::histogram::Histograms;
use crate::worker::mailbox::{CloseReason, FencedMessages, Mailbox, MessageCounts, Rules, Undelivered};
use crate::worker::messages::ToSupervisor;
use crate::worker::node_lease::NodeLease;
use crate::worker::runner::Runner;
use crate::worker::shared_queue::SharedQueue;
use crate::worker::status_cell::{ActivityKind, CellRef, WorkerGeneration};
use crate::worker::worker_door::WorkerDoors;

/// What the slots of a node share.
pub(crate) struct Control {
    pub(crate) clock: Clock,
    /// How many messages and futures a worker handles in a row.
    pub(crate) burst: u32,
    /// Until when the node's shards may act.
    pub(crate) node_lease: Arc<NodeLease>,
    /// Longest snapshot of a shard, in bytes.
    pub(crate) snapshot_bytes_max: u32,
    /// Whether the node leaves or has left: it accepts no further workers.
    pub(crate) is_leaving: Arc<AtomicBool>,
    /// Where dead letters are published.
    pub(crate) dead_letters: DeadLetterSink,
    /// Where undelivered messages are dropped.
    pub(crate) drop_queue: DropQueue,
    /// The workers that accept messages of other nodes, by name.
    pub(crate) doors: Arc<WorkerDoors>,
    /// What brings traces to other nodes.
    pub(crate) propagator: Propagator,
    /// Where workers send their reports.
    pub(crate) supervisor: Recipient<ToSupervisor>,
    /// How long messages wait and are handled, if that is wanted.
    pub(crate) histograms: Option<Histograms>,
}

impl Control {
    /// The clock that tells since when messages wait, if that is wanted.
    pub(crate) fn stamps(&self) -> Option<Clock> {
        self.histograms.is_some().then_some(self.clock)
    }
}

/// What a factory knows about the generation that it starts.
#[derive(Clone)]
#[non_exhaustive]
pub struct StartInfo {
    /// The worker's name; a shard's is `group/index`.
    pub name: Arc<str>,
    /// The generation: 1 for the first, one more for each that follows.
    pub generation: Generation,
    /// Why the previous generation ended, if there was one.
    pub cause: Option<Cause>,
    /// The shard that the worker is to run, if it is one.
    pub shard: Option<Shard>,
    /// The snapshot that a previous generation kept.
    pub(crate) snapshot: Option<Kept>,
    /// The snapshot that the shard's last owner left behind, if the worker is a shard.
    pub(crate) replica: Option<ShardSnapshot>,
}

/// A snapshot that one generation keeps for the next, outside any thread.
pub(crate) type Kept = Arc<dyn Any + Send + Sync>;

impl StartInfo {
    /// The newest snapshot that was made with [`Context::replicate`] and has reached this node: by
    /// the shard's previous owner, or by a previous generation on this node.
    ///
    /// After a planned hand-over nothing is missing from it. If the previous owner was killed, the
    /// last changes are missing: those of at most `ownership.copy_every` and the time the copy was
    /// under way.
    pub fn replica(&self) -> Option<&ShardSnapshot> {
        self.replica.as_ref()
    }

    /// The newest snapshot that a previous generation kept with [`Context::snapshot`]; `None` if
    /// there is none.
    ///
    /// # Errors
    /// [`SnapshotError`] if the snapshot is of another type.
    pub fn snapshot<S: Send + Sync + 'static>(&self) -> Result<Option<Arc<S>>, SnapshotError> {
        let Some(kept) = &self.snapshot else { return Ok(None) };
        match kept.clone().downcast() {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(_) => Err(SnapshotError { worker: self.name.clone(), expected: std::any::type_name::<S>() }),
        }
    }
}

impl fmt::Debug for StartInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartInfo")
            .field("name", &self.name)
            .field("generation", &self.generation)
            .field("cause", &self.cause)
            .field("shard", &self.shard)
            .field("has_snapshot", &self.snapshot.is_some())
            .field("replica", &self.replica)
            .finish()
    }
}

/// The snapshot is of another type than the one asked for. It is still kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotError {
    /// Name of the worker.
    pub worker: Arc<str>,
    /// Name of the type that was asked for.
    pub expected: &'static str,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SnapshotError { worker, expected } = self;
        write!(f, "the snapshot of {worker} is no {expected}; ask for the type that its worker keeps")
    }
}

impl Error for SnapshotError {}

/// Why a factory could not make a worker; any error will do.
pub type StartError = Box<dyn Error + Send + Sync>;

pub(crate) type Factory<A> = Box<dyn Fn(&StartInfo, &mut Context<A>) -> Result<A, StartError> + Send + Sync>;

/// What a worker belongs to.
pub(crate) enum Part<A: Actor<Context = Context<A>>> {
    /// Nothing that changes how it runs.
    Alone,
    /// A sharded group: the worker may act only while the node's lease is valid. If entities live
    /// in the shard, their table is told when the shard comes and goes.
    Shard(Option<Arc<dyn ShardHost>>),
    /// A table of entities, with the snapshot that its previous life left. It may act only while
    /// the node's lease is valid.
    Entity(Arc<dyn EntityHost<A>>, Option<ShardSnapshot>),
    /// A pool with one queue for all members.
    Member(Arc<SharedQueue<A>>),
}

/// What a worker is for.
enum Role<A: Actor<Context = Context<A>>> {
    /// It may act at any time.
    Worker,
    /// It may act only while the node's lease is valid.
    Shard(Option<Arc<dyn ShardHost>>),
    /// As a shard's worker, and its table is told what becomes of it.
    Entity(Arc<dyn EntityHost<A>>),
}

/// What stays when a worker is replaced.
pub(crate) struct WorkerSlot<A: Actor<Context = Context<A>>> {
    pub(crate) control: Arc<Control>,
    pub(crate) worker: WorkerId,
    pub(crate) name: Arc<str>,
    pub(crate) cell: CellRef,
    pub(crate) factory: Factory<A>,
    pub(crate) mailbox: Mailbox<A>,
    /// The snapshot for the next generation, if one was kept.
    kept: Mutex<Option<Kept>>,
    /// The snapshot in bytes, which is copied to other nodes.
    replica: Mutex<Option<ShardSnapshot>>,
    role: Role<A>,
    /// The epoch under which the shard was started last.
    epoch: AtomicU64,
    /// Faults that a test has injected.
    #[cfg(feature = "testkit")]
    pub(crate) faults: Faults,
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for WorkerSlot<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerSlot").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<A: Actor<Context = Context<A>>> WorkerSlot<A> {
    pub(crate) fn new(
        control: Arc<Control>,
        worker: WorkerId,
        name: Arc<str>,
        cell: CellRef,
        factory: Factory<A>,
        rules: Rules,
        part: Part<A>,
    ) -> WorkerSlot<A> {
        let (role, shared, replica) = match part {
            Part::Alone => (Role::Worker, None, None),
            Part::Shard(host) => (Role::Shard(host), None, None),
            Part::Entity(host, replica) => (Role::Entity(host), None, replica),
            Part::Member(shared) => (Role::Worker, Some((shared, worker)), None),
        };
        let stamps = control.stamps();
        WorkerSlot {
            control,
            worker,
            name,
            mailbox: Mailbox::new(rules, cell.clone(), shared, stamps),
            cell,
            factory,
            kept: Mutex::new(None),
            replica: Mutex::new(replica),
            role,
            epoch: AtomicU64::new(0),
            #[cfg(feature = "testkit")]
            faults: Faults::default(),
        }
    }

    /// Whether the slot has another reader by now. The runner of this epoch is then fenced and must
    /// do nothing more.
    pub(crate) fn is_stale(&self, reader_epoch: u32) -> bool {
        self.mailbox.is_stale(reader_epoch)
    }

    /// Keeps a snapshot for the next generation, unless the caller is fenced.
    pub(crate) fn keep(&self, reader_epoch: u32, snapshot: Kept) {
        let former = {
            let mut kept = lock(&self.kept);
            if self.is_stale(reader_epoch) { Some(snapshot) } else { kept.replace(snapshot) }
        };
        // Dropping it runs code of the application, so not under the lock.
        drop(former);
    }

    /// What the next generation is to start from.
    pub(crate) fn kept(&self) -> Option<Kept> {
        lock(&self.kept).clone()
    }

    /// The snapshot in bytes: by the shard's previous owner, or by the last generation on this
    /// node.
    pub(crate) fn replica(&self) -> Option<ShardSnapshot> {
        lock(&self.replica).clone()
    }

    /// Keeps a snapshot of this shard for its next generation and has it copied to the shard's
    /// successor, unless the caller is fenced. An entity's is copied with those of its shard.
    ///
    /// # Errors
    /// It is an entity's, and does not fit beside those of the shard's other entities.
    pub(crate) fn replicate(
        &self,
        reader_epoch: u32,
        shard: Shard,
        version: u32,
        bytes: Arc<[u8]>,
    ) -> Result<(), SnapshotTooLarge> {
        {
            let mut kept = lock(&self.replica);
            if self.is_stale(reader_epoch) {
                return Ok(());
            }
            if let Role::Entity(host) = &self.role {
                host.left_behind(version, &bytes)?;
                if bytes.is_empty() {
                    *kept = None;
                    return Ok(());
                }
            }
            let before = kept.as_ref().filter(|kept| kept.epoch == shard.epoch).map_or(0, |kept| kept.sequence);
            *kept = Some(ShardSnapshot { epoch: shard.epoch, sequence: before + 1, version, bytes: bytes.clone() });
        }
        if matches!(self.role, Role::Shard(_)) {
            let made = Input::Snapshot { worker: self.worker, version, bytes };
            self.control.supervisor.do_send(ToSupervisor::at(self.control.clock.now(), made));
        }
        Ok(())
    }

    /// What the worker is, as its spans say.
    pub(crate) fn kind(&self) -> &'static str {
        match self.role {
            Role::Worker => "worker",
            Role::Shard(_) => "shard",
            Role::Entity(_) => "entity",
        }
    }

    /// Whether the worker may act now. A worker that is not a shard always may.
    pub(crate) fn may_act(&self) -> bool {
        match self.role {
            Role::Worker => true,
            Role::Shard(_) | Role::Entity(_) => self.control.node_lease.is_valid(self.control.clock.now()),
        }
    }

    /// An address of actix's own.
    pub(crate) fn address(self: &Arc<Self>) -> Addr<A> {
        let address = self.mailbox.address();
        if self.cell.is_closed() {
            // The channel may be new, and the mailbox was drained before it existed.
            self.refuse_mail();
        }
        address
    }

    /// Turns the messages in a closed mailbox into dead letters, on this thread.
    ///
    /// A plain `Addr` cannot be closed, since it must work again when the worker is started again.
    /// So each message that arrives through it meanwhile is refused here, on the thread of its
    /// sender.
    fn refuse_mail(self: &Arc<Self>) {
        let undelivered = self.drain();
        if !undelivered.items.is_empty() {
            self.discard(undelivered);
        }
    }

    /// Turns the messages in a closed mailbox into dead letters, on a thread of their own. Those of
    /// an entity that has ended wait for its next life.
    fn dispose_of_mail(self: &Arc<Self>) {
        let undelivered = self.drain();
        let undelivered = match (&self.role, undelivered) {
            (Role::Entity(host), Undelivered { items, reason: DeadReason::Stopped }) => {
                self.mailbox.count_moved(items.len());
                host.ended(items);
                Undelivered { items: Vec::new(), reason: DeadReason::Stopped }
            }
            (Role::Worker | Role::Shard(_) | Role::Entity(_), undelivered) => undelivered,
        };
        if !undelivered.items.is_empty() || self.mailbox.shared.is_some() {
            let slot = self.clone();
            self.control.drop_queue.run(move || {
                slot.discard(undelivered);
                slot.discard_shared();
            });
        }
    }

    /// Sends the messages on that go to the shard's new owner, and takes the others.
    ///
    /// The supervisor does this before it says that the shard has stopped. So the new owner gets no
    /// later message of this node before these. What an entity leaves goes to its table, which
    /// knows whether the shard moves.
    fn drain(self: &Arc<Self>) -> Undelivered<A> {
        let mut is_moving = !matches!(self.role, Role::Entity(_));
        while is_moving {
            let moved = self.mailbox.take_moved();
            is_moving = !moved.is_empty();
            moved.into_iter().for_each(|envelope| envelope.send_on(None));
        }
        // What watches the mail does not keep the slot alive.
        let slot = Arc::downgrade(self);
        self.mailbox.drain(move || {
            if let Some(slot) = slot.upgrade() {
                slot.refuse_mail();
            }
        })
    }

    /// Drops envelopes that were never opened, and publishes them as dead letters.
    pub(crate) fn discard(&self, undelivered: Undelivered<A>) {
        self.control.dead_letters.discard(undelivered.items, &self.name, undelivered.reason);
    }

    /// Drops the messages in the pool's queue, if the worker is a member of a pool and no member
    /// takes messages any more.
    fn discard_shared(&self) {
        if let Some(undelivered) = self.mailbox.shared.as_ref().and_then(|(shared, _)| shared.take_dead()) {
            self.discard(undelivered);
        }
    }

    pub(crate) fn begin(&self, kind: &'static ActivityKind) {
        self.cell.begin(kind, self.control.clock.now());
    }

    /// The epoch under which the shard was started last. Its queue is closed while it does not run.
    pub(crate) fn running_epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Sends the supervisor what is to be done with this worker.
    pub(crate) fn order(&self, order: fn(Child) -> Input) {
        self.control.supervisor.do_send(ToSupervisor::unstamped(order(Child::Worker(self.worker))));
    }

    /// Reports to the supervisor what became of a generation.
    pub(crate) fn report(&self, (generation, report): (Generation, Report)) {
        let report = Input::Report { worker: self.worker, generation, report };
        self.control.supervisor.do_send(ToSupervisor::at(self.control.clock.now(), report));
    }
}

/// A slot without the type of its worker: what the supervisor does with it.
pub(crate) trait DynSlot: Send + Sync {
    /// Starts the generation of `start_info` on this thread and fences every other. Without a
    /// thread nothing runs until the worker is launched again. Returns the numbers of the
    /// generation.
    fn launch(
        self: Arc<Self>,
        thread: Option<ThreadHandle>,
        start_info: StartInfo,
        permit: RestartPermit,
    ) -> WorkerGeneration;

    /// Gives or takes back the permit for immediate restarts.
    fn set_permit(&self, permit: RestartPermit);

    /// Records whether the worker waits for its thread, which is held.
    fn set_held(&self, is_held: bool);

    /// Asks the worker to stop. Messages that it can no longer answer are interrupted for this
    /// reason.
    fn stop(&self, why: Interruption);

    /// Fences the generation that runs, for this reason; the queue stays. Returns how many messages
    /// that affected.
    fn fence(&self, why: Interruption) -> FencedMessages;

    /// Refuses messages from now on, through every kind of address, and turns those that wait into
    /// dead letters.
    fn close(self: Arc<Self>, closing: CloseReason);

    /// The node ends: refuses messages from now on. A driver that still has the slot keeps it until
    /// its thread ends, so that `stopping` and `stopped` run.
    fn end(self: Arc<Self>);

    /// No driver has the slot any more, nor ever will.
    fn close_for_good(self: Arc<Self>);

    /// Messages that wait, as a look at the worker finds them.
    fn sample_queue(&self) -> u32;

    fn name(&self) -> &Arc<str>;

    /// What became of its messages.
    fn message_counts(&self) -> MessageCounts;

    /// The type of its actor.
    #[cfg(feature = "http")]
    fn kind(&self) -> &'static str;

    /// How many messages its queue takes.
    #[cfg(feature = "http")]
    fn capacity(&self) -> u32;

    /// Its status cell.
    #[cfg(feature = "http")]
    fn cell(&self) -> &CellRef;

    /// Reads something of its mailbox and of its cell, without a meaning: what is read of them next
    /// is in a cache then.
    #[cfg(feature = "http")]
    fn touch(&self) -> u64;

    /// Faults that a test has injected.
    #[cfg(feature = "testkit")]
    fn faults(&self) -> &Faults;

    /// Wakes the runner.
    #[cfg(feature = "testkit")]
    fn wake(&self);

    /// Whether it is an entity, of which there may be any number.
    fn is_entity(&self) -> bool;
}

impl<A: Actor<Context = Context<A>>> DynSlot for WorkerSlot<A> {
    fn launch(
        self: Arc<Self>,
        thread: Option<ThreadHandle>,
        mut start_info: StartInfo,
        permit: RestartPermit,
    ) -> WorkerGeneration {
        let generation = start_info.generation;
        let mut numbers = WorkerGeneration { internal: generation, shown: generation };
        if let Some(shard) = start_info.shard {
            self.epoch.store(shard.epoch.0, Ordering::Release);
        }
        let brought = start_info.replica.clone();
        if let Some(replica) = brought.clone() {
            *lock(&self.replica) = Some(replica);
        }
        match (&self.role, start_info.shard) {
            (Role::Shard(Some(host)), Some(shard)) => host.opened(shard, brought, self.replica()),
            (Role::Entity(host), _) => start_info.shard = Some(host.shard()),
            (Role::Worker | Role::Shard(_), _) => {}
        }
        // A launch without a thread is followed by another one and is not counted against any
        // message.
        let is_counted = |cause: &&Cause| cause.holds_thread() && thread.is_some();
        let undelivered = start_info.cause.as_ref().filter(is_counted).map(|_| self.mailbox.replaced());
        // This wakes the previous runner, which finds itself fenced and ends.
        let why = start_info.cause.as_ref().map_or(Interruption::Restarted, Interruption::from);
        let reader_epoch =
            self.mailbox.replace_reader(&why, || numbers = self.cell.begin_generation(generation, permit));
        start_info.generation = numbers.shown;
        self.mailbox.open();
        let slot = self.clone();
        #[cfg(feature = "testkit")]
        self.faults.set_thread(thread.as_ref());
        let start = move || {
            // Here and not on the control thread: dropping messages runs code of the application.
            if let Some(undelivered) = undelivered {
                slot.discard(undelivered);
            }
            Runner::new(slot, reader_epoch, numbers.internal, start_info)
        };
        // Without a thread the worker waits: the supervisor reports that to the engine, which
        // starts it again.
        if thread.is_some_and(|thread| !thread.run(start)) {
            let reason = "there is no thread to run on".into();
            self.report((generation, Report::Failed(Cause::StartFailed { reason })));
        }
        numbers
    }

    fn set_permit(&self, permit: RestartPermit) {
        self.cell.set_permit(permit);
    }

    fn set_held(&self, is_held: bool) {
        self.cell.set_held(is_held);
    }

    fn stop(&self, why: Interruption) {
        self.mailbox.begin_drain(why);
        if let Some((shared, worker)) = &self.mailbox.shared {
            shared.stop(*worker);
        }
        self.cell.ask_to_stop();
        self.mailbox.wake();
    }

    fn fence(&self, why: Interruption) -> FencedMessages {
        self.mailbox.fence(&why, || self.cell.fence())
    }

    fn sample_queue(&self) -> u32 {
        self.mailbox.sample_queue()
    }

    fn close(self: Arc<Self>, closing: CloseReason) {
        self.mailbox.close(closing);
        // A worker that was asked to stop and is stuck may still have the slot; if it wakes, it
        // ends.
        self.mailbox.replace_reader(&self.mailbox.ending(), || self.cell.close());
        if let Role::Shard(Some(host)) = &self.role {
            host.closed();
        }
        self.dispose_of_mail();
    }

    fn end(self: Arc<Self>) {
        self.mailbox.close(CloseReason::Stopped);
        self.cell.close();
        if let Role::Shard(Some(host)) = &self.role {
            host.closed();
        }
        self.dispose_of_mail();
    }

    fn close_for_good(self: Arc<Self>) {
        self.mailbox.replace_reader(&Interruption::Stopped, || self.cell.close());
        if let Role::Entity(host) = &self.role {
            host.forgotten();
        }
        // This may be the last reference. Factory, snapshot and queued messages run code of the
        // application when they are dropped, so they are dropped on a thread of their own.
        let drop_queue = self.control.drop_queue.clone();
        drop_queue.run(move || drop(self));
    }

    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn message_counts(&self) -> MessageCounts {
        self.mailbox.message_counts()
    }

    #[cfg(feature = "http")]
    fn kind(&self) -> &'static str {
        std::any::type_name::<A>()
    }

    #[cfg(feature = "http")]
    fn capacity(&self) -> u32 {
        self.mailbox.capacity()
    }

    #[cfg(feature = "http")]
    fn cell(&self) -> &CellRef {
        &self.cell
    }

    #[cfg(feature = "http")]
    fn touch(&self) -> u64 {
        self.mailbox.touch().wrapping_add(self.cell.handled())
    }

    #[cfg(feature = "testkit")]
    fn faults(&self) -> &Faults {
        &self.faults
    }

    #[cfg(feature = "testkit")]
    fn wake(&self) {
        self.mailbox.wake();
    }

    fn is_entity(&self) -> bool {
        matches!(self.role, Role::Entity(_))
    }
}

impl<A: Actor<Context = Context<A>>> Drop for WorkerSlot<A> {
    fn drop(&mut self) {
        // No address is left, and no worker will read these messages.
        let undelivered = self.mailbox.take_rest();
        if !undelivered.items.is_empty() {
            self.discard(undelivered);
        }
        self.discard_shared();
        self.control.doors.close_unused(&self.name);
    }
}
