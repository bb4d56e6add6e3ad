//! `storm`: when workers of one type panic in great numbers, they give way to the others of their
//! thread.
//!
//! A thread's tasks have their turns in order. If a hundred thousand workers are told to panic, a
//! healthy neighbour that is asked meanwhile waits for a turn of each, and a turn with a panic
//! takes some forty times as long as one without. So each thread counts panics by the type of
//! actor. While a type panics more often than [`PANICS_MAX`] times in [`WINDOW`], its workers stand
//! in a line of their own, and a few of them have their turn each time that all others have had
//! theirs.
//!
//! It cannot tell the healthy from the failing among workers of one type: before its first panic a
//! worker looks like any other.

use std::any::TypeId;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use heartbeat_core::{Instant, WorkerId};

/// Panics of one type within [`WINDOW`] that are no storm: together they take a fraction of a
/// millisecond.
const PANICS_MAX: u32 = 32;

/// The time in which they are counted.
const WINDOW: Duration = Duration::from_millis(10);

/// How long a type gives way after its last panic over the limit.
const CALM_AFTER: Duration = Duration::from_millis(50);

/// How many of the line have their turn in a row. At some microseconds a panic the others wait a
/// tenth of a millisecond for them.
const TURNS: usize = 16;

/// How long the line waits at most while more workers come to it: the thread then has others to
/// find among them.
const PATIENCE: Duration = Duration::from_millis(10);

/// Types that are counted at once; a further one takes the place of the one that has been quiet for
/// longest.
const TYPES_MAX: usize = 16;

thread_local! {
    /// Whether a type gives way on this thread: all that is looked at on most days.
    static IS_ON: Cell<bool> = const { Cell::new(false) };
    static STORM: RefCell<Storm> = const { RefCell::new(Storm::new()) };
}

/// What one thread knows of its panics.
struct Storm {
    types: Vec<Panics>,
    /// How to wake those that have given way, in order.
    line: VecDeque<Waker>,
    /// Whether a task lets the line go on.
    is_led: bool,
    /// Workers that came to the line since its last turn.
    came: usize,
}

/// The panics of one type of actor.
struct Panics {
    actor: TypeId,
    begun: Instant,
    count: u32,
    /// Which worker panicked last: one that panics again and again is no storm.
    last: Option<WorkerId>,
    /// It gives way until then.
    until: Instant,
}

impl Storm {
    const fn new() -> Storm {
        Storm { types: Vec::new(), line: VecDeque::new(), is_led: false, came: 0 }
    }

    /// The entry of a type, with nothing counted if it is new.
    fn of(&mut self, actor: TypeId, now: Instant) -> &mut Panics {
        let fresh = Panics { actor, begun: now, count: 0, last: None, until: Instant::ZERO };
        let place = match self.types.iter().position(|panics| panics.actor == actor) {
            Some(place) => place,
            None if self.types.len() < TYPES_MAX => {
                self.types.push(fresh);
                self.types.len() - 1
            }
            None => {
                let quiet = (0..TYPES_MAX).min_by_key(|&place| self.types[place].begun).unwrap_or_default();
                self.types[quiet] = fresh;
                quiet
            }
        };
        &mut self.types[place]
    }

    /// Those whose turn it is: none while many more come to the line and it may wait for them.
    /// `None` once the line is empty.
    fn turn(&mut self, may_wait: bool) -> Option<Vec<Waker>> {
        let are_coming = std::mem::take(&mut self.came) > TURNS;
        if are_coming && may_wait {
            return Some(Vec::new());
        }
        self.is_led = !self.line.is_empty();
        let count = self.line.len().min(TURNS);
        self.is_led.then(|| self.line.drain(..count).collect())
    }
}

/// Counts a panic of a worker whose actor is of this type on this thread.
pub(crate) fn count(actor: TypeId, worker: WorkerId, now: Instant) {
    STORM.with_borrow_mut(|storm| {
        let panics = storm.of(actor, now);
        if now - panics.begun > WINDOW {
            (panics.begun, panics.count) = (now, 0);
        }
        panics.count += u32::from(panics.last.replace(worker) != Some(worker));
        if panics.count > PANICS_MAX {
            panics.until = now + CALM_AFTER;
            IS_ON.set(true);
        }
    });
}

/// Whether any type gives way on this thread, as far as is known.
#[inline]
pub(crate) fn is_on() -> bool {
    IS_ON.get()
}

/// Whether workers of this type give way on this thread.
pub(crate) fn gives_way(actor: TypeId, now: Instant) -> bool {
    STORM.with_borrow(|storm| {
        if storm.types.iter().all(|panics| panics.until <= now) {
            IS_ON.set(false);
        }
        storm.types.iter().any(|panics| panics.actor == actor && now < panics.until)
    })
}

/// Wakes this task when its turn in the line has come. Returns whether the line has nothing yet
/// that leads it: [`lead`].
pub(crate) fn stand_in_line(waker: &Waker) -> bool {
    STORM.with_borrow_mut(|storm| {
        storm.line.push_back(waker.clone());
        storm.came += 1;
        !std::mem::replace(&mut storm.is_led, true)
    })
}

/// Forgets what was counted on this thread, for a clock that starts anew.
#[cfg(feature = "testkit")]
pub(crate) fn forget() {
    IS_ON.set(false);
    STORM.set(Storm::new());
}

/// Lets the line go on if the task that leads it is dropped: another System may follow on this
/// thread, and no worker may wait for a leader that is gone.
struct Leader;

impl Drop for Leader {
    fn drop(&mut self) {
        // The thread itself may be at its end; then there is no line any more.
        let left = STORM.try_with(|storm| {
            let mut storm = storm.borrow_mut();
            storm.is_led = false;
            std::mem::take(&mut storm.line)
        });
        left.unwrap_or_default().into_iter().for_each(Waker::wake);
    }
}

/// Lets the line of this thread go on, a few at a time, until it is empty; `now` tells the time.
pub(crate) async fn lead(now: impl Fn() -> Instant) {
    let _leader = Leader;
    let mut last = now();
    loop {
        // Not a plain wake-up: woken in this way, the line comes after all that is ready now.
        tokio::task::yield_now().await;
        let at = now();
        let Some(turn) = STORM.with_borrow_mut(|storm| storm.turn(at - last < PATIENCE)) else { return };
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
    fn a_type_gives_way_while_it_panics_too_often_and_no_other_does() {
        let (storming, calm) = (TypeId::of::<u8>(), TypeId::of::<u16>());
        for worker in 0..PANICS_MAX {
            count(storming, WorkerId(worker), at(100));
        }
        for _ in 0..1_000 {
            count(calm, WorkerId(9), at(100)); // One worker alone.
        }
        assert!(!is_on() && !gives_way(storming, at(100)), "some panics are no storm");
        count(storming, WorkerId(77), at(110));
        assert!(is_on() && gives_way(storming, at(110)) && !gives_way(calm, at(110)));
        assert!(gives_way(storming, at(159)) && !gives_way(storming, at(160)));
        assert!(!is_on(), "nothing is looked at any more");
    }

    #[test]
    fn panics_that_are_far_apart_are_no_storm() {
        let actor = TypeId::of::<u32>();
        for round in 0..1_000 {
            count(actor, WorkerId(round as u32), at(round));
        }
        assert!(!gives_way(actor, at(1_000)), "eleven in any 10 ms");
    }

    #[test]
    fn a_line_whose_leader_is_dropped_goes_on_and_is_led_again() {
        assert!(stand_in_line(Waker::noop()));
        assert!(!stand_in_line(Waker::noop()), "it is led");
        let mut leading = Box::pin(lead(|| at(1)));
        assert!(leading.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop())).is_pending());
        drop(leading);
        assert!(STORM.with_borrow(|storm| storm.line.is_empty()));
        assert!(stand_in_line(Waker::noop()), "it needs a new leader");
    }

    #[test]
    fn types_are_bounded() {
        let mut storm = Storm::new();
        let types = [TypeId::of::<u8>(), TypeId::of::<u16>(), TypeId::of::<u32>()];
        for round in 0..1_000 {
            storm.of(types[round as usize % 3], at(round)).begun = at(round);
        }
        assert!(storm.types.len() <= TYPES_MAX);
    }

    #[test]
    fn the_line_waits_for_those_that_come_and_not_for_ever() {
        let mut storm = Storm::new();
        storm.is_led = true;
        storm.line.extend((0..TURNS + 1).map(|_| Waker::noop().clone()));
        storm.came = storm.line.len();
        let turn = |storm: &mut Storm, may_wait| storm.turn(may_wait).map(|turn| turn.len());
        assert_eq!(turn(&mut storm, true), Some(0), "many have come since");
        assert_eq!(turn(&mut storm, true), Some(TURNS));
        storm.came = 1_000;
        assert_eq!(turn(&mut storm, false), Some(1), "it has waited for long enough");
        assert!(storm.is_led);
        assert_eq!((turn(&mut storm, true), storm.is_led), (None, false));
    }
}
