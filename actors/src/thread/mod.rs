//! `Thread`: what workers run on. It is an arbiter with its thread, or a simulated one in a user's
//! test.
//!
//! A simulated thread is a gate in front of some tasks of the one real thread. While the gate is
//! closed, none of them is polled, as if the thread were held. So a test can block, starve or end a
//! thread in virtual time, and all code above this file is the same as in production.

#[cfg(feature = "testkit")]
pub(crate) mod simulated;
mod system;

use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};

use actix_rt::{Arbiter, ArbiterHandle};
use heartbeat_core::{CpuTimes, ThreadSample};

#[cfg(feature = "testkit")]
use simulated::SimulatedThread;
use system::ThreadNumber;

/// Where the threads of a node come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ThreadSource {
    /// The operating system.
    System,
    /// Simulated threads on the one thread of the test.
    #[cfg(feature = "testkit")]
    SimulatedThread,
}

/// A thread that runs workers.
pub(crate) enum Thread {
    System {
        arbiter: Arbiter,
        number: Number,
    },
    #[cfg(feature = "testkit")]
    SimulatedThread(SimulatedThread),
}

/// The operating system's number of a thread, once the thread has stored it. It does so before it
/// runs anything else: so a thread that is held by its first task can be inspected, too.
type Number = Arc<OnceLock<ThreadNumber>>;

/// Gives a thread something to run, from any other thread.
#[derive(Clone)]
pub(crate) enum ThreadHandle {
    System {
        arbiter: ArbiterHandle,
        number: Number,
    },
    #[cfg(feature = "testkit")]
    SimulatedThread(SimulatedThread),
}

impl Thread {
    /// Makes a thread.
    pub(crate) fn new(source: ThreadSource) -> io::Result<Thread> {
        match source {
            ThreadSource::System => {
                let (arbiter, number) = (Arbiter::try_new()?, Number::default());
                let number_cell = number.clone();
                arbiter.spawn_fn(move || {
                    if let Some(own) = ThreadNumber::own() {
                        let _ = number_cell.set(own); // It is said once.
                    }
                });
                Ok(Thread::System { arbiter, number })
            }
            #[cfg(feature = "testkit")]
            ThreadSource::SimulatedThread => Ok(Thread::SimulatedThread(SimulatedThread::new()?)),
        }
    }

    pub(crate) fn handle(&self) -> ThreadHandle {
        match self {
            Thread::System { arbiter, number } => {
                ThreadHandle::System { arbiter: arbiter.handle(), number: number.clone() }
            }
            #[cfg(feature = "testkit")]
            Thread::SimulatedThread(simulated) => ThreadHandle::SimulatedThread(simulated.clone()),
        }
    }

    /// What it is doing, as seen from outside; `None` where that is not known.
    pub(crate) fn sample(&self) -> Option<ThreadSample> {
        self.handle().sample()
    }

    /// Ends the thread before it runs anything more.
    pub(crate) fn stop(&self) {
        match self {
            Thread::System { arbiter, .. } => drop(arbiter.stop()), // False if it has ended already.
            #[cfg(feature = "testkit")]
            Thread::SimulatedThread(simulated) => simulated.end(),
        }
    }
}

impl ThreadHandle {
    /// Runs the future that `make` returns on this thread. Returns whether the thread is there to
    /// do so.
    pub(crate) fn run<F>(&self, make: impl FnOnce() -> F + Send + 'static) -> bool
    where
        F: Future<Output = ()> + 'static,
    {
        match self {
            ThreadHandle::System { arbiter, .. } => arbiter.spawn_fn(move || drop(actix_rt::spawn(make()))),
            #[cfg(feature = "testkit")]
            ThreadHandle::SimulatedThread(simulated) => simulated.run(make()),
        }
    }

    /// Whether the thread has not ended.
    pub(crate) fn is_alive(&self) -> bool {
        match self {
            ThreadHandle::System { arbiter, .. } => arbiter.alive(),
            #[cfg(feature = "testkit")]
            ThreadHandle::SimulatedThread(simulated) => !simulated.has_ended(),
        }
    }

    /// Ends the thread after all that it was given before, and calls `last` just before it ends.
    pub(crate) fn end_after(&self, last: impl FnOnce() + Send + 'static) -> bool {
        match self {
            ThreadHandle::System { .. } => self.run(move || async {
                // Tasks that were spawned before get their turn before this one.
                tokio::task::yield_now().await;
                last();
                Arbiter::current().stop();
            }),
            #[cfg(feature = "testkit")]
            ThreadHandle::SimulatedThread(simulated) => {
                let ending = simulated.clone();
                simulated.run(async move {
                    tokio::task::yield_now().await;
                    last();
                    ending.end();
                })
            }
        }
    }

    /// Whether the thread may run now: a simulated thread that is held may not.
    pub(crate) fn may_run(&self) -> bool {
        match self {
            ThreadHandle::System { .. } => true,
            #[cfg(feature = "testkit")]
            ThreadHandle::SimulatedThread(simulated) => simulated.may_run(),
        }
    }

    /// What it is doing, as seen from outside; `None` where that is not known.
    pub(crate) fn sample(&self) -> Option<ThreadSample> {
        match self {
            ThreadHandle::System { number, .. } => number.get()?.sample(),
            #[cfg(feature = "testkit")]
            ThreadHandle::SimulatedThread(simulated) => Some(simulated.sample()),
        }
    }

    /// The CPU time that it has used so far; `None` where that is not known.
    pub(crate) fn times(&self) -> Option<CpuTimes> {
        match self {
            ThreadHandle::System { number, .. } => number.get()?.times(),
            #[cfg(feature = "testkit")]
            ThreadHandle::SimulatedThread(simulated) => Some(simulated.times()),
        }
    }
}
