//! Panic throttling: while many workers of one type panic, they yield to the other workers of their
//! thread.
//!
//! The tasks of a thread run in turn. If a hundred thousand workers panic, a healthy neighbour
//! waits for a turn of each, and a turn with a panic takes some forty times as long as one without.
//! So each thread counts panics by the type of actor. While a type panics more often than
//! [`PANICS_MAX`] times in [`WINDOW`], its workers wait in a queue of their own. A few of them run
//! each time that all other tasks have had their turn.
//!
//! The throttle cannot tell healthy from failing workers of one type: before its first panic a
//! worker looks like any other.

use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use heartbeat_core::{Instant, WorkerId};

/// Panics of one type within [`WINDOW`] that are tolerated: together they take a fraction of a
/// millisecond.
const PANICS_MAX: u32 = 32;

/// The time in which panics are counted.
const WINDOW: Duration = Duration::from_millis(10);

/// How long a type stays throttled after its last panic over the limit.
const COOL_DOWN: Duration = Duration::from_millis(50);

/// How many workers of the queue run in a row. At some microseconds for each panic the other tasks
/// wait a tenth of a millisecond for them.
const BATCH: usize = 16;

/// Longest time that the queue waits while more workers join it: the thread then has other tasks to
/// find among them.
const WAIT_MAX: Duration = Duration::from_millis(10);

/// Types that are counted at once. A further one replaces the one that has been quiet for longest.
const TYPES_MAX: usize = 16;

thread_local! {
    /// Whether any type is throttled on this thread. Usually this flag is all that is read.
    static IS_ACTIVE: Cell<bool> = const { Cell::new(false) };
    static THROTTLE: RefCell<Throttle> = const { RefCell::new(Throttle::new()) };
}

/// What one thread knows about its panics.
struct Throttle {
    types: Vec<Panics>,
    /// The wakers of the workers that wait, in order.
    queue: VecDeque<Waker>,
    /// Whether a task runs the queue.
    is_running: bool,
    /// Workers that joined the queue since its last turn.
    arrivals: usize,
}

/// The panics of one type of actor.
struct Panics {
    actor: TypeId,
    begun: Instant,
    count: u32,
    /// The worker that panicked last: one worker that panics again and again is not throttled.
    last: Option<WorkerId>,
    /// The type is throttled until then.
    throttled_until: Instant,
}

impl Throttle {
    const fn new() -> Throttle {
        Throttle { types: Vec::new(), queue: VecDeque::new(), is_running: false, arrivals: 0 }
    }

    /// The entry of a type, with nothing counted if it is new.
    fn entry(&mut self, actor: TypeId, now: Instant) -> &mut Panics {
        let fresh = Panics { actor, begun: now, count: 0, last: None, throttled_until: Instant::ZERO };
        let index = match self.types.iter().position(|panics| panics.actor == actor) {
            Some(index) => index,
            None if self.types.len() < TYPES_MAX => {
                self.types.push(fresh);
                self.types.len() - 1
            }
            None => {
                let quiet = (0..TYPES_MAX).min_by_key(|&index| self.types[index].begun).unwrap_or_default();
                self.types[quiet] = fresh;
                quiet
            }
        };
        &mut self.types[index]
    }

    /// The next workers to run: none while many more join the queue and it may wait for them.
    /// `None` once the queue is empty.
    fn next_batch(&mut self, may_wait: bool) -> Option<Vec<Waker>> {
        let are_coming = std::mem::take(&mut self.arrivals) > BATCH;
        if are_coming && may_wait {
            return Some(Vec::new());
        }
        self.is_running = !self.queue.is_empty();
        let count = self.queue.len().min(BATCH);
        self.is_running.then(|| self.queue.drain(..count).collect())
    }
}

/// Counts a panic of a worker whose actor is of this type on this thread.
pub(crate) fn record_panic(actor: TypeId, worker: WorkerId, now: Instant) {
    THROTTLE.with_borrow_mut(|throttle| {
        let panics = throttle.entry(actor, now);
        if now - panics.begun > WINDOW {
            (panics.begun, panics.count) = (now, 0);
        }
        panics.count += u32::from(panics.last.replace(worker) != Some(worker));
        if panics.count > PANICS_MAX {
            panics.throttled_until = now + COOL_DOWN;
            IS_ACTIVE.set(true);
        }
    });
}

/// Whether any type is throttled on this thread; may be true for a while after the last one ended.
#[inline]
pub(crate) fn is_active() -> bool {
    IS_ACTIVE.get()
}

/// Whether workers of this type are throttled on this thread.
pub(crate) fn is_throttled(actor: TypeId, now: Instant) -> bool {
    THROTTLE.with_borrow(|throttle| {
        if throttle.types.iter().all(|panics| panics.throttled_until <= now) {
            IS_ACTIVE.set(false);
        }
        throttle.types.iter().any(|panics| panics.actor == actor && now < panics.throttled_until)
    })
}

/// Adds a task to the queue, which wakes it when its turn has come. Returns whether the queue needs
/// a task that runs it: [`run_queue`].
pub(crate) fn enqueue(waker: &Waker) -> bool {
    THROTTLE.with_borrow_mut(|throttle| {
        throttle.queue.push_back(waker.clone());
        throttle.arrivals += 1;
        !std::mem::replace(&mut throttle.is_running, true)
    })
}

/// Forgets the counts of this thread, for a clock that starts anew.
#[cfg(feature = "testkit")]
pub(crate) fn reset() {
    IS_ACTIVE.set(false);
    THROTTLE.set(Throttle::new());
}

/// Wakes all waiting workers if the task that runs the queue is dropped. Another `System` may
/// follow on this thread, and no worker may wait for a task that is gone.
struct QueueRunner;

impl Drop for QueueRunner {
    fn drop(&mut self) {
        // The thread itself may be ending; then the queue is gone already.
        let left = THROTTLE.try_with(|throttle| {
            let mut throttle = throttle.borrow_mut();
            throttle.is_running = false;
            std::mem::take(&mut throttle.queue)
        });
        left.unwrap_or_default().into_iter().for_each(Waker::wake);
    }
}

/// Runs the queue of this thread, a batch at a time, until it is empty; `now` reads the clock.
pub(crate) async fn run_queue(now: impl Fn() -> Instant) {
    let _runner = QueueRunner;
    let mut last = now();
    loop {
        // Not a plain wake-up: woken in this way, the queue comes after all tasks that are ready
        // now.
        tokio::task::yield_now().await;
        let at = now();
        let Some(turn) = THROTTLE.with_borrow_mut(|throttle| throttle.next_batch(at - last < WAIT_MAX)) else { return };
        if !turn.is_empty() {
            last = at;
        }
        turn.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn a_type_is_throttled_while_it_panics_too_often_alone() {
        let (storming, calm) = (TypeId::of::<u8>(), TypeId::of::<u16>());
        for worker in 0..PANICS_MAX {
            record_panic(storming, WorkerId(worker), at(100));
        }
        for _ in 0..1_000 {
            record_panic(calm, WorkerId(9), at(100)); // One worker alone.
        }
        assert!(!is_active() && !is_throttled(storming, at(100)), "some panics are no storm");
        record_panic(storming, WorkerId(77), at(110));
        assert!(is_active() && is_throttled(storming, at(110)) && !is_throttled(calm, at(110)));
        assert!(is_throttled(storming, at(159)) && !is_throttled(storming, at(160)));
        assert!(!is_active(), "the flag is down");
    }

    #[test]
    fn panics_that_are_far_apart_throttle_nothing() {
        let actor = TypeId::of::<u32>();
        for round in 0..1_000 {
            record_panic(actor, WorkerId(round as u32), at(round));
        }
        assert!(!is_throttled(actor, at(1_000)), "eleven in any 10 ms");
    }

    #[test]
    fn a_queue_whose_runner_is_dropped_wakes_all_and_runs_again() {
        assert!(enqueue(Waker::noop()));
        assert!(!enqueue(Waker::noop()), "it runs");
        let mut running = Box::pin(run_queue(|| at(1)));
        assert!(running.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop())).is_pending());
        drop(running);
        assert!(THROTTLE.with_borrow(|throttle| throttle.queue.is_empty()));
        assert!(enqueue(Waker::noop()), "it needs a new runner");
    }

    #[test]
    fn the_number_of_types_is_bounded() {
        let mut throttle = Throttle::new();
        let types = [TypeId::of::<u8>(), TypeId::of::<u16>(), TypeId::of::<u32>()];
        for round in 0..1_000 {
            throttle.entry(types[round as usize % 3], at(round)).begun = at(round);
        }
        assert!(throttle.types.len() <= TYPES_MAX);
    }

    #[test]
    fn the_queue_waits_for_arrivals_for_a_bounded_time() {
        let mut throttle = Throttle::new();
        throttle.is_running = true;
        throttle.queue.extend((0..BATCH + 1).map(|_| Waker::noop().clone()));
        throttle.arrivals = throttle.queue.len();
        let turn = |throttle: &mut Throttle, may_wait| throttle.next_batch(may_wait).map(|turn| turn.len());
        assert_eq!(turn(&mut throttle, true), Some(0), "many have come since");
        assert_eq!(turn(&mut throttle, true), Some(BATCH));
        throttle.arrivals = 1_000;
        assert_eq!(turn(&mut throttle, false), Some(1), "it has waited for long enough");
        assert!(throttle.is_running);
        assert_eq!((turn(&mut throttle, true), throttle.is_running), (None, false));
    }
}
