//! `Histograms`: how long messages wait and how long they are handled, by kind of worker. They are
//! kept with `metrics.histograms` only.
//!
//! Each thread has cells of its own for each kind of worker that it runs, and is the only writer of
//! them. So a message takes no lock, needs no locked instruction, and shares no cache line with
//! another thread. A reader adds up the cells of all threads. Cells stay when a worker is removed
//! or its thread ends, so that no count ever falls; the next thread goes on with the cells of one
//! that has ended. There are as many cells of a kind as threads have run it at one time.
//!
//! A message that follows another one at once needs no reading of the clock for its end: the
//! beginning of the next one is taken for it. What lies between them takes some ten nanoseconds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
#[cfg(any(feature = "http", test))]
use std::time::Duration;

use heartbeat_core::Instant;

use crate::clock::Clock;
use crate::lock::lock;

/// The upper bounds of the buckets in nanoseconds, each with its bucket: from 10 us, less than most
/// handlers take that do anything, to 50 s, longer than a worker may take by default. In steps of
/// 1, 2.5 and 5, so that a quantile is known to half of it. What takes longer is in one more
/// bucket.
pub(crate) const BOUNDS: [u64; 21] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    25_000_000_000,
    50_000_000_000,
];

/// How often something took how long.
#[cfg(any(feature = "http", test))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct HistogramCounts {
    /// How many of them each bucket has; see [`BOUNDS`]. At its bound itself a time is in it.
    pub(crate) buckets: [u64; BOUNDS.len() + 1],
    /// All of them together, in nanoseconds.
    pub(crate) sum: u64,
}

#[cfg(any(feature = "http", test))]
impl HistogramCounts {
    /// Counts one more.
    #[cfg(feature = "http")]
    pub(crate) fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)] += 1;
        self.sum = self.sum.saturating_add(nanos);
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// The bucket of a time.
fn bucket(nanos: u64) -> usize {
    // Most times are short, so that most searches end at once.
    BOUNDS.iter().position(|bound| nanos <= *bound).unwrap_or(BOUNDS.len())
}

fn nanos_between(from: Instant, to: Instant) -> u64 {
    to.as_nanos().saturating_sub(from.as_nanos())
}

/// A histogram with one writer.
#[derive(Default)]
struct Cells {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

impl Cells {
    fn record(&self, nanos: u64) {
        let add = |cell: &AtomicU64, more: u64| {
            // No other thread writes it, so a load and a store are enough.
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
        };
        add(&self.buckets[bucket(nanos)], 1);
        add(&self.sum, nanos);
    }

    #[cfg(any(feature = "http", test))]
    fn add_to(&self, counts: &mut HistogramCounts) {
        for (count, cell) in counts.buckets.iter_mut().zip(&self.buckets) {
            *count += cell.load(Ordering::Relaxed);
        }
        counts.sum = counts.sum.wrapping_add(self.sum.load(Ordering::Relaxed));
    }
}

/// The cells of one thread for one kind of worker, on cache lines of their own.
#[derive(Default)]
#[repr(align(64))]
struct KindCells {
    wait: Cells,
    handling: Cells,
}

/// The cells of a kind that a thread writes, or wrote last.
struct Stripe {
    thread: ThreadId,
    cells: Arc<KindCells>,
}

/// The histograms of one node.
#[derive(Default)]
pub(crate) struct Histograms {
    by_kind: Mutex<BTreeMap<&'static str, Vec<Stripe>>>,
}

/// What a reader finds of one kind.
#[cfg(any(feature = "http", test))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct KindCounts {
    /// From when a message was accepted to when its handler was called.
    pub(crate) wait: HistogramCounts,
    /// From there to when the handler returned.
    pub(crate) handling: HistogramCounts,
}

impl Histograms {
    /// The cells of this kind for the current thread. Only this thread may write them.
    fn cells(&self, kind: &'static str) -> Arc<KindCells> {
        let thread = std::thread::current().id();
        let mut by_kind = lock(&self.by_kind);
        let stripes = by_kind.entry(kind).or_default();
        if let Some(own) = stripes.iter().find(|stripe| stripe.thread == thread) {
            return own.cells.clone();
        }
        // Of cells that no worker has any more, the last writer is done.
        for stripe in stripes.iter_mut() {
            if Arc::get_mut(&mut stripe.cells).is_some() {
                stripe.thread = thread;
                return stripe.cells.clone();
            }
        }
        let cells = Arc::<KindCells>::default();
        stripes.push(Stripe { thread, cells: cells.clone() });
        cells
    }

    /// What was counted so far, by kind.
    #[cfg(any(feature = "http", test))]
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, KindCounts> {
        let sum = |stripes: &Vec<Stripe>| {
            let mut counts = KindCounts::default();
            for stripe in stripes {
                stripe.cells.wait.add_to(&mut counts.wait);
                stripe.cells.handling.add_to(&mut counts.handling);
            }
            counts
        };
        lock(&self.by_kind).iter().map(|(kind, stripes)| (*kind, sum(stripes))).collect()
    }
}

/// Times the messages of one worker on its thread. Each message whose handler was called is counted
/// once in both histograms.
pub(crate) struct MessageTimer {
    cells: Arc<KindCells>,
    clock: Clock,
    /// Since when the message in hand had waited.
    waiting: Waiting,
    /// When the handler was called that is not counted yet.
    begun: Option<Instant>,
}

impl MessageTimer {
    /// A timer for a worker of this kind on the current thread.
    pub(crate) fn new(histograms: &Histograms, kind: &'static str, clock: Clock) -> MessageTimer {
        MessageTimer { cells: histograms.cells(kind), clock, waiting: Waiting::default(), begun: None }
    }

    /// A message was taken out of the queue.
    pub(crate) fn take(&mut self, waiting: Waiting) {
        self.waiting = waiting;
    }

    /// Its handler is called now. If another one came right before, it has returned.
    #[cold]
    pub(crate) fn begin(&mut self, now: Instant) {
        if let Some(begun) = self.begun.replace(now) {
            self.cells.handling.record(nanos_between(begun, now));
        }
        self.cells.wait.record(self.waiting.until(now));
    }

    /// The last handler has returned, if that is not counted yet.
    #[cold]
    pub(crate) fn end(&mut self) {
        if self.begun.is_some() {
            self.end_at(self.clock.now());
        }
    }

    /// As [`MessageTimer::end`], where the time is known.
    pub(crate) fn end_at(&mut self, now: Instant) {
        if let Some(begun) = self.begun.take() {
            self.cells.handling.record(nanos_between(begun, now));
        }
    }
}

impl Drop for MessageTimer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Since when a message waits, and through how many replacements, in one word. So a queue takes the
/// same memory with and without histograms.
///
/// The time is in units of 64 ns, modulo 2^48 of them, which is 208 days: a longer wait counts as
/// shorter by that.
#[derive(Clone, Copy, Default)]
pub(crate) struct Waiting(u64);

const ATTEMPTS_BITS: u32 = 16;
const WAITING_UNIT: u64 = 64;

impl Waiting {
    /// Waits from now on. It is not part of the way of a message whose time is not wanted.
    #[cold]
    pub(crate) fn since_now(clock: &Clock) -> Waiting {
        Waiting::since(clock.now())
    }

    pub(crate) fn since(now: Instant) -> Waiting {
        Waiting((now.as_nanos() / WAITING_UNIT) << ATTEMPTS_BITS)
    }

    /// The time from then to `now` in nanoseconds, to 64 of them.
    fn until(self, now: Instant) -> u64 {
        let units = (Waiting::since(now).0 >> ATTEMPTS_BITS).wrapping_sub(self.0 >> ATTEMPTS_BITS);
        (units & (u64::MAX >> ATTEMPTS_BITS)) * WAITING_UNIT
    }

    /// Counts one more replacement. Returns how many there were; from 65,535 on it counts no more.
    pub(crate) fn count_attempt(&mut self) -> u32 {
        let attempts = (self.0 as u16).saturating_add(1);
        self.0 = self.0 >> ATTEMPTS_BITS << ATTEMPTS_BITS | u64::from(attempts);
        u32::from(attempts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_at_its_bound_is_in_the_bucket() {
        for (index, bound) in BOUNDS.into_iter().enumerate() {
            assert_eq!((bucket(bound), bucket(bound + 1)), (index, index + 1));
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BOUNDS.len()));
    }

    #[test]
    fn a_wait_is_known_beside_the_attempts() {
        let at = Instant::from_millis(1_000);
        let mut waiting = Waiting::since(at);
        assert_eq!((waiting.count_attempt(), waiting.count_attempt()), (1, 2));
        assert_eq!(waiting.until(at + Duration::from_secs(86_400)), 86_400_000_000_000);
        let mut last = Waiting(0xffff);
        assert_eq!(last.count_attempt(), 0xffff);
    }

    #[test]
    fn each_thread_has_cells_and_leaves_them_to_the_next() {
        let histograms = Histograms::default();
        let record = |millis: u64| histograms.cells("kind").wait.record(millis * 1_000_000);
        let own = histograms.cells("kind");
        assert!(Arc::ptr_eq(&own, &histograms.cells("kind")));
        assert!(!Arc::ptr_eq(&own, &histograms.cells("other")));
        for millis in [1, 2, 4] {
            std::thread::scope(|scope| scope.spawn(move || record(millis)).join().expect("it only counts"));
        }
        record(8);
        assert_eq!(lock(&histograms.by_kind)["kind"].len(), 2, "one thread at a time beside this one");
        let counts = histograms.counts()["kind"];
        assert_eq!((counts.wait.count(), counts.wait.sum), (4, 15_000_000));
        assert_eq!(counts.handling, HistogramCounts::default());
    }

    #[test]
    fn each_message_begun_is_counted_once_in_both() {
        let (histograms, clock) = (Histograms::default(), Clock::start());
        let mut timer = MessageTimer::new(&histograms, "kind", clock);
        let at = Instant::from_millis;
        for millis in [10, 20] {
            timer.take(Waiting::since(at(millis)));
            timer.begin(at(millis + 1));
        }
        timer.end_at(at(24));
        timer.end();
        timer.take(Waiting::since(at(30)));
        timer.end(); // It was cancelled, and no handler was called.
        let counts = histograms.counts()["kind"];
        assert_eq!((counts.wait.count(), counts.wait.sum), (2, 2_000_000));
        assert_eq!((counts.handling.count(), counts.handling.sum), (2, 13_000_000), "11 to 21 and 21 to 24");
    }
}
