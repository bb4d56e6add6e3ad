//! `fault`: what a test may do to a worker, and how the driver plays it.
//!
//! Everything here is compiled for the feature `testkit` only. A fault is put down in the worker's
//! slot and found there by its driver: before a turn, before the next message, or before the next
//! start. On a simulated thread time is virtual, so a fault that holds the thread closes its gate
//! and lets the driver go on when it is opened; on a real one it holds the thread really.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::lock::lock;
use crate::thread::ThreadHandle;
use crate::thread::simulated::{Hold, SimulatedThread};

/// Something that is done to a worker.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// It panics with this text.
    Panic(String),
    /// It sleeps in a call for this long, and its thread with it.
    Block(Duration),
    /// It runs in a loop for this long, and its thread with it.
    Spin(Duration),
    /// Its thread gets no CPU for this long. On a real thread this cannot be done: it sleeps
    /// instead.
    Starve(Duration),
    /// It waits for a future that never ends.
    AwaitStuck,
    /// It stops itself.
    Stop,
    /// Its thread ends.
    EndThread,
    /// Its next start takes this long without holding the thread: it is not up before.
    SlowStart(Duration),
    /// Its next start holds the thread for this long.
    HangStart(Duration),
    /// Its next start fails with this text.
    FailStart(String),
}

/// Faults that wait for their moment, and the simulated thread they are to hold.
#[derive(Default)]
pub(crate) struct Faults {
    /// Whether anything waits: looked at for each message, so that a test build is about as fast as
    /// any other.
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

/// What is left to the driver.
pub(crate) enum FaultAction {
    /// The thread was held on the spot, or nothing was to be done: go on.
    Done,
    /// The thread is held from now on: let go of it, and go on when it runs again.
    Held,
    /// Panic with this text.
    Panic(String),
    /// Wait for ever.
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

    /// Notes on which thread the worker runs from now on.
    pub(crate) fn set_thread(&self, thread: Option<&ThreadHandle>) {
        self.waiting().thread = match thread {
            Some(ThreadHandle::SimulatedThread(simulated)) => Some(simulated.clone()),
            Some(ThreadHandle::System { .. }) | None => None,
        };
    }

    /// Whether anything was put down that has not struck yet.
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

    /// Puts a fault down for the next message, or for the next start if it is one of a start.
    pub(crate) fn inject(&self, fault: Fault) {
        let mut waiting = self.waiting();
        match fault {
            Fault::SlowStart(_) | Fault::HangStart(_) | Fault::FailStart(_) => waiting.start = Some(fault),
            fault => waiting.message = Some(fault),
        }
        self.armed.store(true, Ordering::Release);
    }

    /// Puts a fault down for this very moment.
    pub(crate) fn inject_now(&self, fault: Fault) {
        let mut waiting = self.waiting();
        waiting.now = Some(fault);
        self.armed.store(true, Ordering::Release);
    }

    /// Opens the gate of its thread, if it is a simulated one.
    pub(crate) fn release(&self) {
        let thread = self.waiting().thread.clone();
        if let Some(thread) = thread {
            thread.release();
        }
    }

    /// What is to be done at this very moment.
    pub(crate) fn take_now(&self) -> Option<Fault> {
        self.disarm(|waiting| waiting.now.take())
    }

    /// What is to be done with the message that comes now.
    pub(crate) fn take_message(&self) -> Option<Fault> {
        self.disarm(|waiting| waiting.message.take())
    }

    /// What is to be done with the start that comes now.
    pub(crate) fn take_start(&self) -> Option<Fault> {
        self.disarm(|waiting| waiting.start.take())
    }

    /// Does what can be done here; the rest is left to the driver.
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

/// Holds the thread for this long: a simulated one until a timer opens it, a real one here and now.
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
