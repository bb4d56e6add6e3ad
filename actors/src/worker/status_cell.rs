//! Status cells: what each worker is doing, written by its thread, readable from any other.
//!
//! A blocked thread cannot answer a question, so the answer has to lie open before it is asked:
//! which message, since when, in which life. A cell is one cache line, written with plain stores by
//! one thread, and cells lie side by side in chunks, so a look at a million of them is a walk
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

/// What a worker may be busy with, at a fixed address, so that it fits into one word of a cell.
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

/// actix makes a future of each timer, and so does our context; only its type tells.
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

/// Of a permit in one piece, the bits of the last generation that may be started by it; the time
/// from which it holds is above them.
const UNTIL_BITS: u32 = 16;

/// What that time is counted in, in nanoseconds, so that it lasts for eight years.
const PERMIT_UNIT: u64 = 1_000;

const NO_PERMIT: u64 = u64::MAX;

/// A permit in one piece: it holds from the next microsecond on.
fn packed(permit: RestartPermit) -> u64 {
    let from = permit.from.as_nanos().div_ceil(PERMIT_UNIT);
    if from >= NO_PERMIT >> UNTIL_BITS {
        NO_PERMIT
    } else {
        from << UNTIL_BITS | permit.until.0 & ((1 << UNTIL_BITS) - 1)
    }
}

/// Which life of a worker. The internal number tells a void life from the valid one, and leaves
/// numbers out: those that a thread may have used by its permit without having said so yet. The
/// shown one counts 1, 2, 3; no two starts have the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WorkerGeneration {
    pub(crate) internal: Generation,
    pub(crate) shown: Generation,
}

/// What one worker is doing.
#[repr(align(64))]
#[derive(Default)]
pub(crate) struct StatusCell {
    /// The generation that may run; a driver of any other is void.
    generation: AtomicU64,
    /// When the present business began, or last made progress, in nanoseconds; stale while there is
    /// none.
    since: AtomicU64,
    /// The present business.
    busy: AtomicCell<Option<&'static ActivityKind>>,
    /// Messages handled in all generations.
    handled: AtomicU64,
    /// How often progress was reported, in all generations.
    progress: AtomicU64,
    /// Its thread's permit to restart it by itself, in one piece ([`packed`]): half of a new one
    /// and half of the one before would be permit that nobody gave.
    permit: AtomicU64,
    /// Lives begun, by a thread or by the supervisor. Over 2^32 it starts anew.
    starts: AtomicU32,
    /// Whether it was told to stop.
    stop: AtomicBool,
    /// Whether messages are refused.
    closed: AtomicBool,
    /// Whether it waits for a future before it takes up the next message.
    waiting: AtomicBool,
    /// Whether its queue is over the mark.
    overloaded: AtomicBool,
    /// Whether a generation was told to start and has not ended.
    live: AtomicBool,
    /// Whether it is up.
    up: AtomicBool,
    /// Whether it waits for its thread, which is held.
    held: AtomicBool,
    /// Whether the last look had something to say of it.
    was_noteworthy: AtomicBool,
    /// How it says that it is; see `health`.
    health: AtomicU8,
}

impl StatusCell {
    /// Notes that `kind` is begun at `now`.
    pub(crate) fn begin(&self, kind: &'static ActivityKind, now: Instant) {
        self.since.store(now.as_nanos(), Ordering::Relaxed);
        self.busy.store(Some(kind));
    }

    /// Notes that nothing is being done.
    pub(crate) fn end(&self) {
        self.busy.store(None);
    }

    /// Counts a message that was handled to its end. That is done under the lock of the mailbox
    /// only, so a load and a store are enough.
    pub(crate) fn count_handled(&self) {
        self.handled.store(self.handled.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Says that the present business goes on well, however long it takes. Any thread may.
    pub(crate) fn report_progress(&self, now: Instant) {
        self.since.store(now.as_nanos(), Ordering::Relaxed);
        self.progress.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages handled and progress reported: any change is a sign of life.
    pub(crate) fn progress(&self) -> u64 {
        self.handled().wrapping_add(self.progress.load(Ordering::Relaxed))
    }

    /// Notes whether a future is waited for.
    pub(crate) fn set_waiting(&self, is_waiting: bool) {
        self.waiting.store(is_waiting, Ordering::Relaxed);
    }

    /// Whether a future is waited for.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Notes whether the queue is over the mark at which requests should go elsewhere.
    pub(crate) fn set_overloaded(&self, is_overloaded: bool) {
        self.overloaded.store(is_overloaded, Ordering::Relaxed);
    }

    /// Whether the queue is over the mark.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.overloaded.load(Ordering::Relaxed)
    }

    /// Notes whether it waits for its thread, which is held.
    pub(crate) fn set_held(&self, is_held: bool) {
        self.held.store(is_held, Ordering::Release);
    }

    /// Whether it waits for its thread, which is held.
    pub(crate) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Notes that the worker is up.
    pub(crate) fn set_up(&self) {
        self.up.store(true, Ordering::Release);
    }

    /// Whether the worker is up and has not ended since.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Notes that the worker has ended.
    pub(crate) fn set_down(&self) {
        self.up.store(false, Ordering::Release);
        self.live.store(false, Ordering::Release);
    }

    /// Whether a generation was told to start and has not ended or been judged to have failed.
    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    /// Notes how the worker says that it is.
    pub(crate) fn set_health(&self, health: Health) {
        self.health.store(health as u8, Ordering::Release);
    }

    /// How the worker says that it is.
    pub(crate) fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            value if value == Health::NotReady as u8 => Health::NotReady,
            value if value == Health::Failed as u8 => Health::Failed,
            _ => Health::Ok,
        }
    }

    /// Whether requests may come here: it is up, was not told to stop, its queue is not long, its
    /// thread is not held, and it has not said otherwise.
    pub(crate) fn is_ready(&self) -> bool {
        let is_free = !self.is_closed() && !self.is_asked_to_stop() && !self.is_overloaded() && !self.is_held();
        self.is_up() && is_free && self.health() == Health::Ok
    }

    /// Whether a look at it has something to say, or had the last time.
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

    /// When the present business began, or the last one.
    pub(crate) fn since(&self) -> Instant {
        Instant::from_nanos(self.since.load(Ordering::Relaxed))
    }

    /// What is being done, and since when.
    pub(crate) fn busy(&self) -> Option<(&'static ActivityKind, Instant)> {
        self.busy.load().map(|kind| (kind, self.since()))
    }

    /// The newest life, as readers count them; 0 before the first.
    pub(crate) fn shown_generation(&self) -> Generation {
        Generation(u64::from(self.starts.load(Ordering::Acquire)))
    }

    /// Counts a life that begins.
    fn count_start(&self) -> Generation {
        Generation(u64::from(self.starts.fetch_add(1, Ordering::AcqRel).wrapping_add(1)))
    }

    /// The generation that may run.
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// Lets `generation` run, and voids every other. Returns which life that is.
    pub(crate) fn begin_generation(&self, generation: Generation, permit: RestartPermit) -> WorkerGeneration {
        self.set_generation(generation, permit);
        WorkerGeneration { internal: generation, shown: self.count_start() }
    }

    fn set_generation(&self, generation: Generation, permit: RestartPermit) {
        // No permit first: what the void generation may not do, it must not do by its successor's
        // permit either.
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

    /// Voids whatever generation runs; the next one to begin has a higher number than this.
    pub(crate) fn fence(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.permit.store(NO_PERMIT, Ordering::Release);
        self.set_down();
        self.end();
    }

    /// Gives or takes back permit for immediate restarts. Only the supervisor does.
    pub(crate) fn set_permit(&self, permit: RestartPermit) {
        self.permit.store(packed(permit), Ordering::Release);
    }

    /// Uses the permit for an immediate restart, if there is one at `now` and `generation` may
    /// still run. Returns the next life.
    pub(crate) fn restart(&self, generation: Generation, now: Instant) -> Option<WorkerGeneration> {
        let next = generation.0 + 1;
        let permit = self.permit.load(Ordering::Acquire);
        // Generations of one permit are no more than a few apart, so their lower bits tell which is
        // later.
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

    /// Asks the worker to stop; its driver looks at its next turn.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Whether it was asked to stop.
    pub(crate) fn is_asked_to_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// As nobody has used it.
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

/// One worker's cell, and the chunk it lies in. Its number is free again when the last of these is
/// gone: then nobody can mistake the next worker's cell for this one.
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
    /// A cell that nobody uses.
    pub(crate) fn take(self: &Arc<Self>) -> CellRef {
        let free = lock(&self.free).pop();
        match free {
            Some(worker) => self.cell_ref(worker),
            None => self.take_run(1).remove(0),
        }
    }

    /// This many cells with numbers in a row, none of them used before.
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

    /// The workers that are at work, with what and since when.
    pub(crate) fn busy(&self) -> Vec<WorkerActivity> {
        let mut busy = Vec::new();
        self.visit(0..usize::MAX, |worker, cell| {
            if let Some((kind, since)) = cell.busy() {
                busy.push(WorkerActivity { worker, doing: (kind.activity)(), since });
            }
        });
        busy
    }

    /// Shows `visit` the cells of these chunks; returns whether there are more behind them.
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
    fn a_look_names_who_is_busy_with_what() {
        let cells = Arc::new(Cells::default());
        let taken = cells.take_run(1_000);
        taken[601].begin(ActivityKind::message::<String>(), Instant::from_millis(5));
        let doing = Activity::Message("alloc::string::String");
        assert_eq!(cells.busy(), [WorkerActivity { worker: WorkerId(601), doing, since: Instant::from_millis(5) }]);
        taken[601].end();
        assert_eq!(cells.busy(), []);
    }

    #[test]
    fn a_number_is_used_again_when_nobody_can_see_its_cell_and_not_before() {
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
        assert!(!fresh.is_closed(), "as nobody had used it");
    }

    #[test]
    fn something_to_say_is_said_once_more_when_it_is_over() {
        let cell = StatusCell::default();
        assert!(!cell.take_noteworthy());
        cell.set_overloaded(true);
        assert!(cell.take_noteworthy());
        cell.set_overloaded(false);
        assert!(cell.take_noteworthy());
        assert!(!cell.take_noteworthy());
    }

    #[test]
    fn half_of_a_new_leave_is_none() {
        const ROUNDS: u64 = 3_000_000;
        let cell = StatusCell::default();
        let now = Instant::from_millis(10);
        // Leave in turn for what was done already, and for what may be done later: never for the
        // next one now.
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
    fn leave_to_restart_is_used_as_often_as_it_says_by_the_valid_generation_and_not_before_its_time() {
        let cell = StatusCell::default();
        let now = Instant::from_millis(10);
        let next = |generation, now| cell.restart(generation, now).map(|life| life.internal);
        let permit =
            |from: u64, until: u64| RestartPermit { from: Instant::from_millis(from), until: Generation(until) };
        cell.begin_generation(Generation(1), permit(11, 2));
        assert_eq!(next(Generation(1), now), None, "before its time");
        cell.begin_generation(Generation(1), permit(10, 3));
        assert_eq!(next(Generation(1), now), Some(Generation(2)));
        assert_eq!(next(Generation(1), now), None, "void");
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
    fn lives_count_one_two_three_whatever_numbers_are_left_out() {
        let cell = StatusCell::default();
        let now = Instant::from_millis(10);
        let permit = |until: u64| RestartPermit { from: Instant::ZERO, until: Generation(until) };
        assert_eq!(cell.shown_generation(), Generation(0));
        let first = cell.begin_generation(Generation(1), permit(2));
        let second = cell.restart(first.internal, now).unwrap();
        cell.fence();
        assert_eq!(cell.restart(second.internal, now), None);
        let third = cell.begin_generation(Generation(7), permit(8));
        let shown = [first, second, third].map(|life| life.shown);
        assert_eq!(shown, [Generation(1), Generation(2), Generation(3)]);
        assert_eq!((third.internal, cell.shown_generation()), (Generation(7), Generation(3)));
    }
}
