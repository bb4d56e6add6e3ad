//! `fault`: what a test may do to a worker, and how the runner applies it.
//!
//! Everything here is compiled for the feature `testkit` only. A fault is stored in the worker's
//! slot. The runner finds it there before a turn, before the next message, or before the next
//! start. A simulated thread runs in virtual time, so a fault that holds it closes its gate, and
//! the runner goes on when the gate opens. A real thread is held in fact.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::lock::lock;
use crate::thread::ThreadHandle;
use crate::thread::simulated::{Hold, SimulatedThread};

/// A fault that a test injects into a worker.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The worker panics with this text.
    Panic(String),
    /// The worker sleeps in a call for this long, and holds its thread.
    Block(Duration),
    /// The worker runs in a loop for this long, and holds its thread.
    Spin(Duration),
    /// The worker's thread gets no CPU for this long. A real thread sleeps instead.
    Starve(Duration),
    /// The worker waits for a future that never ends.
    AwaitStuck,
    /// The worker stops itself.
    Stop,
    /// The worker's thread ends.
    EndThread,
    /// The worker's next start takes this long without holding the thread: it is not up before.
    SlowStart(Duration),
    /// The worker's next start holds the thread for this long.
    HangStart(Duration),
    /// The worker's next start fails with this text.
    FailStart(String),
}

/// Faults that wait for their moment, and the simulated thread that they hold.
#[derive(Default)]
pub(crate) struct Faults {
    /// Whether any fault waits. This is read for each message, so that a test build is about as
    /// fast as any other.
    armed: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    now: Option<Fault>,
    message: Option<Fault>,
    start: Option<Fault>,
    thread: Option<SimulatedThread>,
}

/// What the runner must do about a fault.
pub(crate) enum FaultAction {
    /// Go on: the thread was held on the spot, or nothing was to be done.
    Done,
    /// Return: the thread is held from now on. Go on when it runs again.
    Held,
    /// Panic with this text.
    Panic(String),
    /// Wait without end.
    Wait,
    /// Wait for this long.
    WaitFor(Duration),
    /// Stop.
    Stop,
    /// Refuse to start.
    Refuse(String),
}

impl Faults {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.waiting)
    }

    /// Records on which thread the worker runs from now on.
    pub(crate) fn set_thread(&self, thread: Option<&ThreadHandle>) {
        self.waiting().thread = match thread {
            Some(ThreadHandle::SimulatedThread(simulated)) => Some(simulated.clone()),
            Some(ThreadHandle::System { .. }) | None => None,
        };
    }

    /// Whether a fault waits.
    pub(crate) fn is_armed(&self) -> bool {
        self.armed.load(Ordering::Acquire)
    }

    fn disarm(&self, take: impl FnOnce(&mut Waiting) -> Option<Fault>) -> Option<Fault> {
        if !self.is_armed() {
            return None;
        }
        let mut waiting = self.waiting();
        let fault = take(&mut waiting);
        let is_armed = waiting.now.is_some() || waiting.message.is_some() || waiting.start.is_some();
        self.armed.store(is_armed, Ordering::Release);
        fault
    }

    /// Stores a fault for the next message, or for the next start if it is a fault of a start.
    pub(crate) fn inject(&self, fault: Fault) {
        let mut waiting = self.waiting();
        match fault {
            Fault::SlowStart(_) | Fault::HangStart(_) | Fault::FailStart(_) => waiting.start = Some(fault),
            fault => waiting.message = Some(fault),
        }
        self.armed.store(true, Ordering::Release);
    }

    /// Stores a fault for this moment.
    pub(crate) fn inject_now(&self, fault: Fault) {
        let mut waiting = self.waiting();
        waiting.now = Some(fault);
        self.armed.store(true, Ordering::Release);
    }

    /// Opens the gate of the worker's thread, if it is simulated.
    pub(crate) fn release(&self) {
        let thread = self.waiting().thread.clone();
        if let Some(thread) = thread {
            thread.release();
        }
    }

    /// Takes the fault for this moment.
    pub(crate) fn take_now(&self) -> Option<Fault> {
        self.disarm(|waiting| waiting.now.take())
    }

    /// Takes the fault for the message that comes now.
    pub(crate) fn take_message(&self) -> Option<Fault> {
        self.disarm(|waiting| waiting.message.take())
    }

    /// Takes the fault for the start that comes now.
    pub(crate) fn take_start(&self) -> Option<Fault> {
        self.disarm(|waiting| waiting.start.take())
    }

    /// Does what can be done here, and returns what the runner must do.
    pub(crate) fn apply(&self, fault: Fault) -> FaultAction {
        let thread = self.waiting().thread.clone();
        match fault {
            Fault::Panic(text) => FaultAction::Panic(text),
            Fault::AwaitStuck => FaultAction::Wait,
            Fault::Stop => FaultAction::Stop,
            Fault::SlowStart(time) => FaultAction::WaitFor(time),
            Fault::FailStart(text) => FaultAction::Refuse(text),
            Fault::Block(time) | Fault::HangStart(time) => hold(thread, Hold::Sleep, time),
            Fault::Starve(time) => hold(thread, Hold::Starve, time),
            Fault::Spin(time) => hold(thread, Hold::Spin, time),
            Fault::EndThread => match thread {
                Some(simulated) => {
                    simulated.end();
                    FaultAction::Held
                }
                None => {
                    actix_rt::Arbiter::current().stop();
                    FaultAction::Done
                }
            },
        }
    }
}

/// Holds the thread for this long: a simulated one until a timer opens its gate, a real one here
/// and now.
fn hold(thread: Option<SimulatedThread>, how: Hold, time: Duration) -> FaultAction {
    if let Some(simulated) = thread {
        simulated.hold(how);
        actix_rt::spawn(async move {
            tokio::time::sleep(time).await;
            simulated.release();
        });
        return FaultAction::Held;
    }
    match how {
        Hold::Sleep | Hold::Starve => std::thread::sleep(time),
        Hold::Spin => {
            let begun = Instant::now();
            while begun.elapsed() < time {
                std::hint::spin_loop();
            }
        }
    }
    FaultAction::Done
}
