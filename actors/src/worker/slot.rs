//! `WorkerSlot`: what stays when a worker goes: its mailbox, its cell, its factory.
//!
//! A generation sits down, works, and is carried out; the next one sits down in the same slot and
//! reads the same mail. That is why an address outlives every replacement, even one whose
//! predecessor's thread is blocked and will never give anything back.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Wake, Waker};

use actix::{Actor, Addr, Recipient};
use heartbeat_core::{Cause, Generation, Interruption, Report, RestartPermit, Shard, ShardSnapshot, WorkerId};

use crate::clock::Clock;
use crate::lock::lock;
use crate::thread::ThreadHandle;
use crate::worker::context::Context;
use crate::worker::dead_letter::DeadLetterSink;
use crate::worker::drop_queue::DropQueue;
#[cfg(feature = "testkit")]
use crate::worker::fault::Faults;
use crate::worker::mailbox::{CloseReason, FencedMessages, Mailbox, Rules, Undelivered};
use crate::worker::messages::{Command, MadeSnapshot, ToSupervisor, WorkerReport};
use crate::worker::node_lease::NodeLease;
use crate::worker::runner::Runner;
use crate::worker::shared_queue::SharedQueue;
use crate::worker::status_cell::{ActivityKind, CellRef, WorkerGeneration};

/// What the slots of a node share.
pub(crate) struct Control {
    pub(crate) clock: Clock,
    /// Messages and futures handled in a row.
    pub(crate) burst: u32,
    /// Until when its shards may act.
    pub(crate) node_lease: Arc<NodeLease>,
    /// Longest snapshot of a shard, in bytes.
    pub(crate) snapshot_bytes_max: u32,
    /// Whether the node leaves, or has left: nothing is taken on any more.
    pub(crate) is_leaving: Arc<AtomicBool>,
    /// Where dead letters are told.
    pub(crate) dead_letters: DeadLetterSink,
    /// Where dead letters are dropped.
    pub(crate) drop_queue: DropQueue,
    /// Where workers send their reports.
    pub(crate) supervisor: Recipient<ToSupervisor>,
}

/// What a factory is told of the life it is to begin.
#[derive(Clone)]
#[non_exhaustive]
pub struct StartInfo {
    /// The worker's name; a shard's is `group/index`.
    pub name: Arc<str>,
    /// Which life: 1 for the first, one more for each that follows.
    pub generation: Generation,
    /// Why the former life ended, if there was one.
    pub cause: Option<Cause>,
    /// Which shard it is to be, if it is one.
    pub shard: Option<Shard>,
    /// What a former life has kept for it.
    pub(crate) snapshot: Option<Kept>,
    /// What the shard's last owner has left behind, if it is a shard.
    pub(crate) replica: Option<ShardSnapshot>,
}

/// What one life keeps for the next; outside any thread.
pub(crate) type Kept = Arc<dyn Any + Send + Sync>;

impl StartInfo {
    /// The newest snapshot of this shard that its former owner, on whatever node, has made with
    /// [`Context::replicate`] and that was copied here; or that a former life on this node has
    /// made. It lacks what happened since: at most `ownership.copy_every`, and the time it took on
    /// its way, if the former owner was killed; nothing if it handed over.
    pub fn replica(&self) -> Option<&ShardSnapshot> {
        self.replica.as_ref()
    }

    /// What a former life has kept with [`Context::snapshot`], the newest; `None` if nothing was
    /// kept.
    ///
    /// # Errors
    /// [`SnapshotError`] if what was kept is of another type.
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

/// A snapshot was asked for under another type than it was kept under; it is kept still.
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

/// What a worker is a part of.
pub(crate) enum Part<A: Actor<Context = Context<A>>> {
    /// Nothing that matters to it.
    Alone,
    /// A sharded group: it may act only while its node may.
    Shard,
    /// A pool with one queue for all members.
    Member(Arc<SharedQueue<A>>),
}

/// What stays when a worker goes.
pub(crate) struct WorkerSlot<A: Actor<Context = Context<A>>> {
    pub(crate) control: Arc<Control>,
    pub(crate) worker: WorkerId,
    pub(crate) name: Arc<str>,
    pub(crate) cell: CellRef,
    pub(crate) factory: Factory<A>,
    pub(crate) mailbox: Mailbox<A>,
    /// What the next generation is to start from, if any has kept something.
    kept: Mutex<Option<Kept>>,
    /// The same in bytes, as other nodes have it, too.
    replica: Mutex<Option<ShardSnapshot>>,
    /// Whether it is a shard, which may act only while its node may.
    is_shard: bool,
    /// What a test has put down for it.
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
        let (is_shard, shared) = match part {
            Part::Alone => (false, None),
            Part::Shard => (true, None),
            Part::Member(shared) => (false, Some((shared, worker))),
        };
        WorkerSlot {
            control,
            worker,
            name,
            mailbox: Mailbox::new(rules, cell.clone(), shared),
            cell,
            factory,
            kept: Mutex::new(None),
            replica: Mutex::new(None),
            is_shard,
            #[cfg(feature = "testkit")]
            faults: Faults::default(),
        }
    }

    /// Whether this reader epoch is over: whoever had the slot in it is void, and may do nothing
    /// more.
    pub(crate) fn is_stale(&self, reader_epoch: u32) -> bool {
        self.mailbox.is_stale(reader_epoch)
    }

    /// Keeps what the next generation is to start from, unless `reader_epoch` is over.
    pub(crate) fn keep(&self, reader_epoch: u32, snapshot: Kept) {
        let former = {
            let mut kept = lock(&self.kept);
            if self.is_stale(reader_epoch) { Some(snapshot) } else { kept.replace(snapshot) }
        };
        // Dropping it runs its user's code, so not under the lock.
        drop(former);
    }

    /// What the next generation is to start from.
    pub(crate) fn kept(&self) -> Option<Kept> {
        lock(&self.kept).clone()
    }

    /// What its shard's last owner has left behind, or this node's own last life of it.
    pub(crate) fn replica(&self) -> Option<ShardSnapshot> {
        lock(&self.replica).clone()
    }

    /// Keeps a snapshot of this shard for the next life and has it copied to its heir, unless
    /// `reader_epoch` is over.
    pub(crate) fn replicate(&self, reader_epoch: u32, shard: Shard, version: u32, bytes: Arc<[u8]>) {
        {
            let mut kept = lock(&self.replica);
            if self.is_stale(reader_epoch) {
                return;
            }
            let before = kept.as_ref().filter(|kept| kept.epoch == shard.epoch).map_or(0, |kept| kept.sequence);
            *kept = Some(ShardSnapshot { epoch: shard.epoch, sequence: before + 1, version, bytes: bytes.clone() });
        }
        let made = MadeSnapshot { at: self.control.clock.now(), worker: self.worker, version, bytes };
        self.control.supervisor.do_send(ToSupervisor::Snapshot(made));
    }

    /// Whether it may act now: one that is no shard may always.
    pub(crate) fn may_act(&self) -> bool {
        !self.is_shard || self.control.node_lease.is_valid(self.control.clock.now())
    }

    /// An address of actix's own.
    pub(crate) fn address(self: &Arc<Self>) -> Addr<A> {
        let address = self.mailbox.address();
        if self.cell.is_closed() {
            // Its channel may be new, and this mailbox was drained without it.
            self.refuse_mail();
        }
        address
    }

    /// Makes dead letters of what lies in the mailbox while it is closed, here and now. A plain
    /// `Addr` cannot be closed, since it must work again when the worker is started again: so each
    /// message that it brings meanwhile is refused in this way, on the thread of its sender.
    fn refuse_mail(self: &Arc<Self>) {
        let undelivered = self.drain();
        if !undelivered.items.is_empty() {
            self.discard(undelivered);
        }
    }

    /// Makes dead letters of what lies in the mailbox while it is closed, on a thread of its own.
    fn dispose_of_mail(self: &Arc<Self>) {
        let undelivered = self.drain();
        if !undelivered.items.is_empty() || self.mailbox.shared.is_some() {
            let slot = self.clone();
            self.control.drop_queue.run(move || {
                slot.discard(undelivered);
                slot.discard_shared();
            });
        }
    }

    fn drain(self: &Arc<Self>) -> Undelivered<A> {
        self.mailbox.drain(|| Waker::from(Arc::new(Refuser(Arc::downgrade(self)))))
    }

    /// Drops envelopes that were never opened, and tells of them.
    pub(crate) fn discard(&self, undelivered: Undelivered<A>) {
        self.control.dead_letters.discard(undelivered.items, &self.name, undelivered.reason);
    }

    /// Drops what waits in the pool's queue, if it is a member of a pool and none takes messages
    /// any more.
    fn discard_shared(&self) {
        if let Some(undelivered) = self.mailbox.shared.as_ref().and_then(|(shared, _)| shared.take_dead()) {
            self.discard(undelivered);
        }
    }

    pub(crate) fn begin(&self, kind: &'static ActivityKind) {
        self.cell.begin(kind, self.control.clock.now());
    }

    /// Sends the supervisor what is to be done with this worker.
    pub(crate) fn order(&self, command: Command) {
        self.control.supervisor.do_send(ToSupervisor::Command(command));
    }

    /// Tells the supervisor what became of a generation.
    pub(crate) fn report(&self, (generation, report): (Generation, Report)) {
        let report = WorkerReport { at: self.control.clock.now(), worker: self.worker, generation, report };
        self.control.supervisor.do_send(ToSupervisor::Report(report));
    }
}

/// A slot whose worker's type is forgotten: what the supervisor does with it.
pub(crate) trait DynSlot: Send + Sync {
    /// Starts the generation of `start_info` on this thread, and voids every other; without a
    /// thread nothing runs until it is launched again. Returns which life it is.
    fn launch(
        self: Arc<Self>,
        thread: Option<ThreadHandle>,
        start_info: StartInfo,
        permit: RestartPermit,
    ) -> WorkerGeneration;

    /// Gives or takes back permit for immediate restarts.
    fn set_permit(&self, permit: RestartPermit);

    /// Notes whether the worker waits for its thread, which is held.
    fn set_held(&self, is_held: bool);

    /// Asks the worker to stop; what it cannot answer any more was interrupted for this reason.
    fn stop(&self, why: Interruption);

    /// Voids the life that has the slot, for this reason; the queue stays. Says what was cut.
    fn fence(&self, why: Interruption) -> FencedMessages;

    /// Refuses messages from now on, by whatever address they come, and makes dead letters of those
    /// that wait.
    fn close(self: Arc<Self>, closing: CloseReason);

    /// The node ends: refuses messages from now on. A driver that still has the slot keeps it until
    /// its thread ends, so that `stopping` and `stopped` run.
    fn end(self: Arc<Self>);

    /// No driver has the slot any more, nor ever will.
    fn close_for_good(self: Arc<Self>);

    /// Messages that wait, as a look at the worker finds them.
    fn sample_queue(&self) -> u32;

    fn name(&self) -> &Arc<str>;

    /// What a test has put down for it.
    #[cfg(feature = "testkit")]
    fn faults(&self) -> &Faults;

    /// Has whoever sits here look up.
    #[cfg(feature = "testkit")]
    fn wake(&self);
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
        if let Some(replica) = start_info.replica.clone() {
            *lock(&self.replica) = Some(replica);
        }
        // A launch that finds no thread is followed by another one, and counts for no message.
        let is_counted = |cause: &&Cause| cause.holds_thread() && thread.is_some();
        let undelivered = start_info.cause.as_ref().filter(is_counted).map(|_| self.mailbox.replaced());
        // Whoever sat here before looks up, sees that it is void, and goes.
        let why = start_info.cause.as_ref().map_or(Interruption::Restarted, Interruption::from);
        let reader_epoch =
            self.mailbox.replace_reader(&why, || numbers = self.cell.begin_generation(generation, permit));
        start_info.generation = numbers.shown;
        self.mailbox.open();
        let slot = self.clone();
        #[cfg(feature = "testkit")]
        self.faults.set_thread(thread.as_ref());
        let start = move || {
            // Here and not where the supervisor runs: dropping messages runs their users' code.
            if let Some(undelivered) = undelivered {
                slot.discard(undelivered);
            }
            Runner::new(slot, reader_epoch, numbers.internal, start_info)
        };
        // Without a thread it waits: the supervisor says so to the engine, which starts it again.
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
        // A worker that was told to stop and is stuck may still sit here; should it wake, it goes.
        self.mailbox.replace_reader(&self.mailbox.ending(), || self.cell.close());
        self.dispose_of_mail();
    }

    fn end(self: Arc<Self>) {
        self.mailbox.close(CloseReason::Stopped);
        self.cell.close();
        self.dispose_of_mail();
    }

    fn close_for_good(self: Arc<Self>) {
        self.mailbox.replace_reader(&Interruption::Stopped, || self.cell.close());
        // This may be the last hold on it, and its factory, its snapshot and its mail are its
        // user's.
        let drop_queue = self.control.drop_queue.clone();
        drop_queue.run(move || drop(self));
    }

    fn name(&self) -> &Arc<str> {
        &self.name
    }

    #[cfg(feature = "testkit")]
    fn faults(&self) -> &Faults {
        &self.faults
    }

    #[cfg(feature = "testkit")]
    fn wake(&self) {
        self.mailbox.wake();
    }
}

/// Refuses what a plain `Addr` brings to a closed mailbox, as soon as it is sent. It holds no slot
/// up.
struct Refuser<A: Actor<Context = Context<A>>>(Weak<WorkerSlot<A>>);

impl<A: Actor<Context = Context<A>>> Wake for Refuser<A> {
    fn wake(self: Arc<Self>) {
        if let Some(slot) = self.0.upgrade() {
            slot.refuse_mail();
        }
    }
}

impl<A: Actor<Context = Context<A>>> Drop for WorkerSlot<A> {
    fn drop(&mut self) {
        // Nobody can send here any more, and nobody will read what is left.
        let undelivered = self.mailbox.take_rest();
        if !undelivered.items.is_empty() {
            self.discard(undelivered);
        }
        self.discard_shared();
    }
}
