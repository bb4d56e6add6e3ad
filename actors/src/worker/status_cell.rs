//! Status cells: what each worker is doing, written by its thread and readable from any other.
//!
//! A blocked thread cannot answer a question. So each worker writes down in advance which message
//! it handles, since when, and in which generation. A cell is one cache line, written with plain
//! stores by one thread. Cells lie side by side in chunks, so reading a million of them is a walk
//! through memory.

use std::any::type_name;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use crossbeam_utils::atomic::AtomicCell;
use heartbeat_core::{Activity, Generation, Health, Instant, RestartPermit, WorkerActivity, WorkerId};

use crate::lock::{lock, read, write};
use crate::worker::interval;

/// Cells in one chunk; 16 KiB of memory.
const CHUNK: usize = 256;

/// What a worker can be busy with. Each kind has a fixed address, so that it fits into one word of
/// a cell.
pub(crate) struct ActivityKind {
    /// A function, since type names are not constants.
    pub(crate) activity: fn() -> Activity,
}

/// Gives every type of message or future its `ActivityKind`.
struct ActivityKindOf<T>(std::marker::PhantomData<T>);

impl<T> ActivityKindOf<T> {
    const MESSAGE: &'static ActivityKind = &ActivityKind { activity: || Activity::Message(type_name::<T>()) };
    const FUTURE: &'static ActivityKind = &ActivityKind { activity: future_or_timer::<T> };
}

/// The types of the futures that are timers.
const TIMERS: [&str; 3] = ["actix::utils::TimerFunc", "actix::utils::IntervalFunc", interval::TYPE_NAME];

/// actix makes a future of each timer, and so does our context; only the type's name tells them
/// apart.
fn future_or_timer<T>() -> Activity {
    let name = type_name::<T>();
    if TIMERS.iter().any(|timer| name.starts_with(timer)) { Activity::Timer(name) } else { Activity::Future(name) }
}

impl ActivityKind {
    /// While the factory makes the worker.
    pub(crate) const FACTORY: &'static ActivityKind = &ActivityKind { activity: || Activity::Factory };
    /// While `started` runs.
    pub(crate) const STARTED: &'static ActivityKind = &ActivityKind { activity: || Activity::Started };
    /// While `stopping` or `stopped` runs.
    pub(crate) const STOPPING: &'static ActivityKind = &ActivityKind { activity: || Activity::Stopping };
    /// While the worker's value is dropped.
    pub(crate) const DROP: &'static ActivityKind = &ActivityKind { activity: || Activity::Drop };

    /// While a message of type `M` is handled.
    pub(crate) const fn message<M>() -> &'static ActivityKind {
        ActivityKindOf::<M>::MESSAGE
    }

    /// While a spawned future, stream or timer of type `F` is polled.
    pub(crate) const fn future<F>() -> &'static ActivityKind {
        ActivityKindOf::<F>::FUTURE
    }
}

/// How many bits of a packed permit hold the last generation that it covers. The time from which
/// the permit is valid is above them.
const UNTIL_BITS: u32 = 16;

/// The unit of that time, in nanoseconds: with it the time lasts for eight years.
const PERMIT_UNIT: u64 = 1_000;

const NO_PERMIT: u64 = u64::MAX;

/// Packs a permit into one word. It is valid from the next whole microsecond on.
fn packed(permit: RestartPermit) -> u64 {
    let from = permit.from.as_nanos().div_ceil(PERMIT_UNIT);
    if from >= NO_PERMIT >> UNTIL_BITS {
        NO_PERMIT
    } else {
        from << UNTIL_BITS | permit.until.0 & ((1 << UNTIL_BITS) - 1)
    }
}

/// The two numbers of a worker's generation.
///
/// The internal number tells the valid generation from a fenced one. It skips numbers: those that a
/// thread may have used by its permit without having reported them. The shown number counts 1, 2, 3
/// for readers; no two generations of a worker share one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WorkerGeneration {
    pub(crate) internal: Generation,
    pub(crate) shown: Generation,
}

/// What one worker is doing.
#[repr(align(64))]
#[derive(Default)]
pub(crate) struct StatusCell {
    /// The generation that may run; a runner of any other one is fenced.
    generation: AtomicU64,
    /// When the current activity began or last made progress, in nanoseconds; stale while there is
    /// none.
    since: AtomicU64,
    /// The current activity.
    busy: AtomicCell<Option<&'static ActivityKind>>,
    /// Messages handled in all generations.
    handled: AtomicU64,
    /// How often progress was reported, in all generations.
    progress: AtomicU64,
    /// The permit by which the thread may restart the worker by itself, packed into one word
    /// ([`packed`]): so a reader never combines halves of two permits.
    permit: AtomicU64,
    /// Generations begun, by a thread or by the supervisor. Past 2^32 it starts again at zero.
    starts: AtomicU32,
    /// Whether the worker was asked to stop.
    stop: AtomicBool,
    /// Whether messages are refused.
    closed: AtomicBool,
    /// Whether it waits for a future before it takes the next message.
    waiting: AtomicBool,
    /// Whether its queue is too long; see `Mailbox::update_overload`.
    overloaded: AtomicBool,
    /// Whether a generation was started and has not ended.
    live: AtomicBool,
    /// Whether it is up.
    up: AtomicBool,
    /// Whether it waits for its thread, which is held.
    held: AtomicBool,
    /// What [`StatusCell::take_noteworthy`] found the last time.
    was_noteworthy: AtomicBool,
    /// The health that the worker reports; see [`StatusCell::health`].
    health: AtomicU8,
}

impl StatusCell {
    /// Records that the worker begins an activity at `now`.
    pub(crate) fn begin(&self, kind: &'static ActivityKind, now: Instant) {
        self.since.store(now.as_nanos(), Ordering::Relaxed);
        self.busy.store(Some(kind));
    }

    /// Records that the worker is idle.
    pub(crate) fn end(&self) {
        self.busy.store(None);
    }

    /// Counts a message that was handled to its end. Callers hold the lock of the mailbox, so a
    /// load and a store are enough.
    pub(crate) fn count_handled(&self) {
        self.handled.store(self.handled.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Reports progress of the current activity, however long it takes. Any thread may call this.
    pub(crate) fn report_progress(&self, now: Instant) {
        self.since.store(now.as_nanos(), Ordering::Relaxed);
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages handled and progress reported: any change is a sign of life.
    pub(crate) fn progress(&self) -> u64 {
        self.handled().wrapping_add(self.progress.load(Ordering::Relaxed))
    }

    /// Records whether the worker waits for a future.
    pub(crate) fn set_waiting(&self, is_waiting: bool) {
        self.waiting.store(is_waiting, Ordering::Relaxed);
    }

    /// Whether the worker waits for a future.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Records whether the queue is so long that requests should go elsewhere.
    pub(crate) fn set_overloaded(&self, is_overloaded: bool) {
        self.overloaded.store(is_overloaded, Ordering::Relaxed);
    }

    /// Whether the queue is so long that requests should go elsewhere.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.overloaded.load(Ordering::Relaxed)
    }

    /// Records whether it waits for its thread, which is held.
    pub(crate) fn set_held(&self, is_held: bool) {
        self.held.store(is_held, Ordering::Release);
    }

    /// Whether it waits for its thread, which is held.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Records that the worker is up.
    pub(crate) fn set_up(&self) {
        self.up.store(true, Ordering::Release);
    }

    /// Whether the worker is up and has not ended since.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Records that the worker has ended.
    pub(crate) fn set_down(&self) {
        self.up.store(false, Ordering::Release);
        self.live.store(false, Ordering::Release);
    }

    /// Whether a generation was started and has not ended or been judged to have failed.
    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    /// Records the health that the worker reports.
    pub(crate) fn set_health(&self, health: Health) {
        self.health.store(health as u8, Ordering::Release);
    }

    /// The health that the worker reports.
    pub(crate) fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            value if value == Health::NotReady as u8 => Health::NotReady,
            value if value == Health::Failed as u8 => Health::Failed,
            _ => Health::Ok,
        }
    }

    /// Whether requests may come here: the worker is up, was not asked to stop, its queue is not
    /// too long, its thread is not held, and it reports good health.
    pub(crate) fn is_ready(&self) -> bool {
        let is_free = !self.is_closed() && !self.is_asked_to_stop() && !self.is_overloaded() && !self.is_held();
        self.is_up() && is_free && self.health() == Health::Ok
    }

    /// Whether the worker's status must be passed to the engine: something about it is out of the
    /// ordinary, or was at the previous call. Each call records what it found.
    pub(crate) fn take_noteworthy(&self) -> bool {
        let now = self.is_waiting() || self.is_overloaded() || self.health() != Health::Ok;
        let before = self.was_noteworthy.load(Ordering::Relaxed);
        if now != before {
            self.was_noteworthy.store(now, Ordering::Relaxed);
        }
        now || before
    }

    /// Messages handled in all generations.
    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// When the current activity began, or the last one.
    pub(crate) fn since(&self) -> Instant {
        Instant::from_nanos(self.since.load(Ordering::Relaxed))
    }

    /// The current activity, and since when.
    pub(crate) fn busy(&self) -> Option<(&'static ActivityKind, Instant)> {
        self.busy.load().map(|kind| (kind, self.since()))
    }

    /// The newest generation, as readers count them; 0 before the first.
    pub(crate) fn shown_generation(&self) -> Generation {
        Generation(u64::from(self.starts.load(Ordering::Acquire)))
    }

    /// Counts a generation that begins.
    fn count_start(&self) -> Generation {
        Generation(u64::from(self.starts.fetch_add(1, Ordering::AcqRel).wrapping_add(1)))
    }

    /// The generation that may run.
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// Lets `generation` run and fences every other. Returns both its numbers.
    pub(crate) fn begin_generation(&self, generation: Generation, permit: RestartPermit) -> WorkerGeneration {
        self.set_generation(generation, permit);
        WorkerGeneration { internal: generation, shown: self.count_start() }
    }

    fn set_generation(&self, generation: Generation, permit: RestartPermit) {
        // The old permit goes first: a generation that is being fenced must not restart by the
        // permit of its successor.
        self.permit.store(NO_PERMIT, Ordering::SeqCst);
        self.generation.store(generation.0, Ordering::SeqCst);
        self.set_permit(permit);
        self.stop.store(false, Ordering::Release);
        self.closed.store(false, Ordering::Release);
        self.up.store(false, Ordering::Release);
        self.live.store(generation.0 > 0, Ordering::Release);
        self.waiting.store(false, Ordering::Relaxed);
        self.held.store(false, Ordering::Release);
        self.set_health(Health::Ok);
        self.end();
    }

    /// Fences the generation that runs. The next one to begin has a higher number than the fence.
    pub(crate) fn fence(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.permit.store(NO_PERMIT, Ordering::Release);
        self.set_down();
        self.end();
    }

    /// Gives or takes back the permit for immediate restarts. Only the supervisor does so.
    pub(crate) fn set_permit(&self, permit: RestartPermit) {
        self.permit.store(packed(permit), Ordering::Release);
    }

    /// Uses the permit for an immediate restart, if it covers one at `now` and `generation` may
    /// still run. Returns the next generation.
    pub(crate) fn restart(&self, generation: Generation, now: Instant) -> Option<WorkerGeneration> {
        let next = generation.0 + 1;
        let permit = self.permit.load(Ordering::Acquire);
        // The generations that one permit covers are only a few apart, so their lower bits tell
        // which is later.
        let is_used_up = (permit as u16).wrapping_sub(next as u16) >= 1 << 15;
        if permit == NO_PERMIT || now.as_nanos() / PERMIT_UNIT < permit >> UNTIL_BITS || is_used_up {
            return None;
        }
        if self.is_asked_to_stop() {
            return None;
        }
        self.generation.compare_exchange(generation.0, next, Ordering::AcqRel, Ordering::Acquire).ok()?;
        self.waiting.store(false, Ordering::Relaxed);
        self.set_health(Health::Ok);
        self.live.store(true, Ordering::Release);
        Some(WorkerGeneration { internal: Generation(next), shown: self.count_start() })
    }

    /// Asks the worker to stop; its runner checks this at its next turn.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Whether it was asked to stop.
    pub(crate) fn is_asked_to_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Puts the cell back into the state of a cell that was never used.
    fn reset(&self) {
        self.set_generation(Generation(0), RestartPermit::none(Generation(0)));
        self.starts.store(0, Ordering::Release);
        self.overloaded.store(false, Ordering::Relaxed);
        self.was_noteworthy.store(false, Ordering::Relaxed);
        self.handled.store(0, Ordering::Relaxed);
        self.progress.store(0, Ordering::Relaxed);
    }

    /// Refuses messages from now on.
    pub(crate) fn close(&self) {
        self.set_down();
        self.closed.store(true, Ordering::Release);
    }

    /// Whether messages are refused.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

type Chunk = [StatusCell; CHUNK];

/// One worker's cell, and the chunk that holds it. Its number is free again when the last clone is
/// dropped: from then on no holder of a reference can mistake the next worker's cell for this one.
pub(crate) struct CellRef {
    owner: Arc<CellOwner>,
}

struct CellOwner {
    chunk: Arc<Chunk>,
    worker: WorkerId,
    cells: Arc<Cells>,
}

impl CellRef {
    /// The number of the worker whose cell this is.
    pub(crate) fn worker(&self) -> WorkerId {
        self.owner.worker
    }
}

impl Clone for CellRef {
    fn clone(&self) -> CellRef {
        CellRef { owner: self.owner.clone() }
    }
}

impl std::ops::Deref for CellRef {
    type Target = StatusCell;

    fn deref(&self) -> &StatusCell {
        &self.owner.chunk[self.owner.worker.0 as usize % CHUNK]
    }
}

impl Drop for CellOwner {
    fn drop(&mut self) {
        self.chunk[self.worker.0 as usize % CHUNK].reset();
        lock(&self.cells.free).push(self.worker);
    }
}

/// All cells of a node, by worker number.
#[derive(Default)]
pub(crate) struct Cells {
    chunks: RwLock<Vec<Arc<Chunk>>>,
    /// Numbers that were used and are free again.
    free: Mutex<Vec<WorkerId>>,
    /// The lowest number never used.
    next: Mutex<u32>,
}

impl Cells {
    /// Takes a cell that is not in use.
    pub(crate) fn take(self: &Arc<Self>) -> CellRef {
        let free = lock(&self.free).pop();
        match free {
            Some(worker) => self.cell_ref(worker),
            None => self.take_run(1).remove(0),
        }
    }

    /// Takes this many cells with consecutive numbers, none of them used before.
    pub(crate) fn take_run(self: &Arc<Self>, count: u32) -> Vec<CellRef> {
        let first = {
            let mut next = lock(&self.next);
            let first = *next;
            *next = first.checked_add(count).expect("fewer than 2^32 workers");
            first
        };
        (first..first + count).map(|worker| self.cell_ref(WorkerId(worker))).collect()
    }

    fn cell_ref(self: &Arc<Self>, worker: WorkerId) -> CellRef {
        let index = worker.0 as usize / CHUNK;
        let known = read(&self.chunks).get(index).cloned();
        let chunk = known.unwrap_or_else(|| {
            let mut chunks = write(&self.chunks);
            while chunks.len() <= index {
                chunks.push(Arc::new(std::array::from_fn(|_| StatusCell::default())));
            }
            chunks[index].clone()
        });
        CellRef { owner: Arc::new(CellOwner { chunk, worker, cells: self.clone() }) }
    }

    /// The workers that are busy, with what and since when.
    pub(crate) fn busy(&self) -> Vec<WorkerActivity> {
        let mut busy = Vec::new();
        self.visit(0..usize::MAX, |worker, cell| {
            if let Some((kind, since)) = cell.busy() {
                busy.push(WorkerActivity { worker, doing: (kind.activity)(), since });
            }
        });
        busy
    }

    /// Calls `visit` with each cell of these chunks. Returns whether there are chunks behind them.
    pub(crate) fn visit(&self, chunks: std::ops::Range<usize>, mut visit: impl FnMut(WorkerId, &StatusCell)) -> bool {
        let known = read(&self.chunks);
        let end = chunks.end.min(known.len());
        for (index, chunk) in known.iter().enumerate().take(end).skip(chunks.start) {
            for (place, cell) in chunk.iter().enumerate() {
                visit(WorkerId((index * CHUNK + place) as u32), cell);
            }
        }
        end < known.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_cache_line() {
        assert_eq!(size_of::<StatusCell>(), 64);
        assert!(AtomicCell::<Option<&'static ActivityKind>>::is_lock_free());
    }

    #[test]
    fn an_interval_is_reported_as_a_timer() {
        struct Idle;

        impl actix::Actor for Idle {
            type Context = crate::worker::context::Context<Idle>;
        }

        let activity = ActivityKind::future::<interval::Interval<Idle>>().activity;
        assert!(matches!(activity(), Activity::Timer(_)), "{:?}", activity());
    }

    #[test]
    fn the_busy_cells_name_worker_and_activity() {
        let cells = Arc::new(Cells::default());
        let taken = cells.take_run(1_000);
        taken[601].begin(ActivityKind::message::<String>(), Instant::from_millis(5));
        let doing = Activity::Message("alloc::string::String");
        assert_eq!(cells.busy(), [WorkerActivity { worker: WorkerId(601), doing, since: Instant::from_millis(5) }]);
        taken[601].end();
        assert_eq!(cells.busy(), []);
    }

    #[test]
    fn a_number_is_used_again_once_its_cell_has_no_reader() {
        let cells = Arc::new(Cells::default());
        let (first, second) = (cells.take(), cells.take());
        assert_eq!((first.worker(), second.worker()), (WorkerId(0), WorkerId(1)));
        first.close();
        let other = first.clone();
        drop(first);
        assert_eq!(cells.take().worker(), WorkerId(2));
        drop(other);
        let again = [cells.take(), cells.take()];
        let fresh = again.iter().find(|cell| cell.worker() == WorkerId(0)).unwrap();
        assert!(!fresh.is_closed(), "as if it had never been used");
    }

    #[test]
    fn a_status_is_passed_on_once_more_when_it_is_over() {
        let cell = StatusCell::default();
        assert!(!cell.take_noteworthy());
        cell.set_overloaded(true);
        assert!(cell.take_noteworthy());
        cell.set_overloaded(false);
        assert!(cell.take_noteworthy());
        assert!(!cell.take_noteworthy());
    }

    #[test]
    fn half_of_a_new_permit_permits_nothing() {
        const ROUNDS: u64 = 3_000_000;
        let cell = StatusCell::default();
        let now = Instant::from_millis(10);
        // By turns a permit for a generation that began already, and one for later: never one for
        // now.
        let used = RestartPermit { from: Instant::ZERO, until: Generation(1) };
        let later = RestartPermit { from: Instant::from_millis(1_000), until: Generation(2) };
        cell.begin_generation(Generation(1), used);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..ROUNDS).for_each(|round| cell.set_permit(if round % 2 == 0 { later } else { used })));
            let granted = (0..ROUNDS).find_map(|_| cell.restart(Generation(1), now));
            assert_eq!(granted, None);
        });
    }

    #[test]
    fn a_permit_covers_its_generations_from_its_time_on() {
        let cell = StatusCell::default();
        let now = Instant::from_millis(10);
        let next = |generation, now| cell.restart(generation, now).map(|next| next.internal);
        let permit =
            |from: u64, until: u64| RestartPermit { from: Instant::from_millis(from), until: Generation(until) };
        cell.begin_generation(Generation(1), permit(11, 2));
        assert_eq!(next(Generation(1), now), None, "before its time");
        cell.begin_generation(Generation(1), permit(10, 3));
        assert_eq!(next(Generation(1), now), Some(Generation(2)));
        assert_eq!(next(Generation(1), now), None, "fenced");
        assert_eq!(next(Generation(2), now), Some(Generation(3)));
        assert_eq!(next(Generation(3), now), None, "used up");
        cell.set_permit(permit(0, 4));
        assert_eq!(next(Generation(3), now), Some(Generation(4)));
        cell.set_permit(RestartPermit::none(Generation(4)));
        assert_eq!(next(Generation(4), Instant::NEVER), None, "taken back");
        let last = (1 << 16) - 1;
        cell.begin_generation(Generation(last), permit(10, last + 1));
        assert_eq!(next(Generation(last), now), Some(Generation(last + 1)), "where the lower bits begin anew");
        assert_eq!(next(Generation(last + 1), now), None);
    }

    #[test]
    fn shown_generations_count_1_2_3_whatever_is_skipped() {
        let cell = StatusCell::default();
        let now = Instant::from_millis(10);
        let permit = |until: u64| RestartPermit { from: Instant::ZERO, until: Generation(until) };
        assert_eq!(cell.shown_generation(), Generation(0));
        let first = cell.begin_generation(Generation(1), permit(2));
        let second = cell.restart(first.internal, now).unwrap();
        cell.fence();
        assert_eq!(cell.restart(second.internal, now), None);
        let third = cell.begin_generation(Generation(7), permit(8));
        let shown = [first, second, third].map(|started| started.shown);
        assert_eq!(shown, [Generation(1), Generation(2), Generation(3)]);
        assert_eq!((third.internal, cell.shown_generation()), (Generation(7), Generation(3)));
    }
}
