//! Status cells: what each worker is doing, written by its thread, readable from any other.
//!
//! A blocked thread cannot answer a question, so the answer has to lie open before it is asked: which message, since when, in which life. A
//! cell is one cache line, written with plain stores by one thread. Cells of workers that share a thread lie side by side in chunks, so a
//! look at a million of them is a walk through memory, and threads do not write into each other's lines.

use std::any::type_name;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_utils::atomic::AtomicCell;
use heartbeat_core::{Busy, Generation, Instant, WorkerId};

/// Cells in one chunk; 16 KiB of memory.
const CHUNK: usize = 256;

/// What a worker may be busy with: a message type, or a moment of its life.
pub(crate) struct Kind {
    /// Its name, for people; a function, since type names are not constants.
    pub(crate) name: fn() -> &'static str,
}

/// Gives every message type its `Kind` at a fixed address.
struct KindOf<M>(std::marker::PhantomData<M>);

impl<M> KindOf<M> {
    const KIND: &'static Kind = &Kind { name: type_name::<M> };
}

impl Kind {
    /// While the factory makes the worker.
    pub(crate) const FACTORY: &'static Kind = &Kind { name: || "its factory" };
    /// While `started` runs.
    pub(crate) const STARTED: &'static Kind = &Kind { name: || "started" };
    /// While a timer, stream or spawned future runs.
    pub(crate) const FUTURE: &'static Kind = &Kind { name: || "a spawned future" };
    /// While `stopping`, `stopped` or the worker's `Drop` runs.
    pub(crate) const STOPPING: &'static Kind = &Kind { name: || "stopping" };

    /// While a message of type `M` is handled.
    pub(crate) const fn of<M>() -> &'static Kind {
        KindOf::<M>::KIND
    }
}

/// What one worker is doing.
#[repr(align(64))]
#[derive(Default)]
pub(crate) struct Cell {
    /// The generation that may run; a driver of any other is void.
    generation: AtomicU64,
    /// When the present business began, in nanoseconds; stale while there is none.
    since: AtomicU64,
    /// The present business.
    busy: AtomicCell<Option<&'static Kind>>,
    /// Messages handled in all generations.
    handled: AtomicU64,
    /// From when on one immediate restart is allowed, in nanoseconds; `u64::MAX` is never.
    permit: AtomicU64,
    /// Whether it was told to stop.
    stop: AtomicBool,
    /// Whether messages are refused.
    closed: AtomicBool,
}

impl Cell {
    /// Notes that `kind` is begun at `now`.
    pub(crate) fn begin(&self, kind: &'static Kind, now: Instant) {
        self.since.store(now.as_nanos(), Ordering::Relaxed);
        self.busy.store(Some(kind));
    }

    /// Notes that nothing is being done.
    pub(crate) fn end(&self) {
        self.busy.store(None);
    }

    /// Counts a message that was handled to its end. Only the worker's own thread does, so a load and a store are enough.
    pub(crate) fn count_handled(&self) {
        self.handled.store(self.handled.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
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
    pub(crate) fn busy(&self) -> Option<(&'static Kind, Instant)> {
        self.busy.load().map(|kind| (kind, self.since()))
    }

    /// The generation that may run.
    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// Lets `generation` run, and voids every other.
    pub(crate) fn begin_generation(&self, generation: Generation, immediate_from: Instant) {
        self.generation.store(generation.0, Ordering::Release);
        self.permit.store(immediate_from.as_nanos(), Ordering::Release);
        self.stop.store(false, Ordering::Release);
        self.closed.store(false, Ordering::Release);
        self.end();
    }

    /// Gives or takes back leave for one immediate restart of `generation`.
    pub(crate) fn permit(&self, generation: Generation, immediate_from: Instant) {
        if self.generation() == generation {
            self.permit.store(immediate_from.as_nanos(), Ordering::Release);
        }
    }

    /// Uses the leave for an immediate restart, if there is one at `now` and `generation` may still run. Returns the next generation.
    pub(crate) fn restart(&self, generation: Generation, now: Instant) -> Option<Generation> {
        let leave = self.permit.swap(u64::MAX, Ordering::AcqRel);
        if now.as_nanos() < leave || leave == u64::MAX || self.stop.load(Ordering::Acquire) {
            return None;
        }
        let next = generation.0 + 1;
        self.generation.compare_exchange(generation.0, next, Ordering::AcqRel, Ordering::Acquire).ok()?;
        Some(Generation(next))
    }

    /// Asks the worker to stop; its driver looks at its next turn.
    pub(crate) fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Whether it was asked to stop.
    pub(crate) fn is_asked_to_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Refuses messages from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether messages are refused.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

type Chunk = [Cell; CHUNK];

/// One worker's cell, and the chunk it lies in.
#[derive(Clone)]
pub(crate) struct CellRef {
    chunk: Arc<Chunk>,
    index: u16,
}

impl std::ops::Deref for CellRef {
    type Target = Cell;

    fn deref(&self) -> &Cell {
        &self.chunk[usize::from(self.index)]
    }
}

/// All cells of a node: for each place a thread can have, the chunks of the workers that are put there.
pub(crate) struct Cells {
    places: Vec<Mutex<Vec<Arc<Chunk>>>>,
}

impl Cells {
    /// Room for workers in this many places.
    pub(crate) fn new(places: u32) -> Cells {
        Cells { places: (0..places).map(|_| Mutex::new(Vec::new())).collect() }
    }

    /// The cell of a worker. Workers are dealt out to the places in turn, as `core` does.
    pub(crate) fn cell(&self, worker: WorkerId) -> CellRef {
        let count = self.places.len();
        let index = worker.0 as usize / count;
        let mut chunks = self.places[worker.0 as usize % count].lock().unwrap_or_else(PoisonError::into_inner);
        while chunks.len() <= index / CHUNK {
            chunks.push(Arc::new(std::array::from_fn(|_| Cell::default())));
        }
        CellRef { chunk: chunks[index / CHUNK].clone(), index: (index % CHUNK) as u16 }
    }

    /// The workers at one place that are at work, with what and since when.
    pub(crate) fn busy(&self, place: u32) -> Vec<Busy> {
        let count = self.places.len() as u32;
        let chunks = self.places[place as usize].lock().unwrap_or_else(PoisonError::into_inner).clone();
        let cells = chunks.iter().flat_map(|chunk| chunk.iter());
        (0u32..)
            .zip(cells)
            .filter_map(|(index, cell)| {
                let (kind, since) = cell.busy()?;
                Some(Busy { worker: WorkerId(index * count + place), message: (kind.name)(), since })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_one_cache_line() {
        assert_eq!(size_of::<Cell>(), 64);
        assert!(AtomicCell::<Option<&'static Kind>>::is_lock_free());
    }

    #[test]
    fn a_look_names_who_is_busy_with_what() {
        let cells = Cells::new(2);
        for worker in 0..1_000 {
            cells.cell(WorkerId(worker));
        }
        cells.cell(WorkerId(601)).begin(Kind::of::<String>(), Instant::from_millis(5));
        assert_eq!(cells.busy(0), []);
        let busy = Busy { worker: WorkerId(601), message: "alloc::string::String", since: Instant::from_millis(5) };
        assert_eq!(cells.busy(1), [busy]);
        cells.cell(WorkerId(601)).end();
        assert_eq!(cells.busy(1), []);
    }

    #[test]
    fn leave_to_restart_is_used_once_by_the_valid_generation_and_not_before_its_time() {
        let cell = Cell::default();
        let now = Instant::from_millis(10);
        cell.begin_generation(Generation(1), Instant::from_millis(11));
        assert_eq!(cell.restart(Generation(1), now), None, "before its time");
        cell.begin_generation(Generation(1), now);
        assert_eq!(cell.restart(Generation(1), now), Some(Generation(2)));
        assert_eq!(cell.restart(Generation(2), now), None, "used up");
        cell.permit(Generation(2), Instant::ZERO);
        assert_eq!(cell.restart(Generation(1), now), None, "void");
        cell.permit(Generation(2), Instant::NEVER);
        assert_eq!(cell.restart(Generation(2), Instant::NEVER), None, "taken back");
    }
}
