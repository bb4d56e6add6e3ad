//! `SimulatedThread`: a thread in the virtual time of a test.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use heartbeat_core::{CpuTimes, ThreadSample, ThreadState};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::lock::lock;

/// What holds a simulated thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hold {
    /// It sleeps in a call.
    Sleep,
    /// It runs in a loop.
    Spin,
    /// It gets no CPU.
    Starve,
}

thread_local! {
    /// How many of the next threads are refused.
    static REFUSED: Cell<u32> = const { Cell::new(0) };
}

/// Refuses the next `count` threads of this test, as if the system had no more.
pub(crate) fn refuse(count: u32) {
    REFUSED.set(count);
}

/// A gate in front of some tasks.
#[derive(Clone)]
pub(crate) struct SimulatedThread {
    gate: Arc<Mutex<Gate>>,
}

struct Gate {
    held: Option<(Hold, Instant)>,
    ended: bool,
    times: CpuTimes,
    /// Tasks that wait for the gate to open.
    waiting: Vec<Waker>,
    /// All tasks that were given to it and may still exist.
    tasks: Vec<AbortHandle>,
}

impl SimulatedThread {
    pub(crate) fn new() -> io::Result<SimulatedThread> {
        let refused = REFUSED.get();
        if refused > 0 {
            REFUSED.set(refused - 1);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // A real thread has used some CPU time before its first task, too.
        let times = CpuTimes { ran: Duration::from_micros(1), waited: Duration::ZERO };
        Ok(SimulatedThread {
            gate: Arc::new(Mutex::new(Gate {
                held: None,
                ended: false,
                times,
                waiting: Vec::new(),
                tasks: Vec::new(),
            })),
        })
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        lock(&self.gate)
    }

    /// Runs a task behind the gate.
    pub(crate) fn run(&self, task: impl Future<Output = ()> + 'static) -> bool {
        if self.has_ended() {
            return false;
        }
        let task = actix_rt::spawn(Gated { simulated: self.clone(), task: Box::pin(task) });
        let tasks = &mut self.gate().tasks;
        if tasks.len().is_power_of_two() {
            tasks.retain(|task| !task.is_finished());
        }
        tasks.push(task.abort_handle());
        true
    }

    /// Holds the thread until it is released.
    pub(crate) fn hold(&self, how: Hold) {
        self.gate().held = Some((how, Instant::now()));
    }

    /// Lets the thread go on.
    pub(crate) fn release(&self) {
        let waiting = {
            let mut gate = self.gate();
            gate.times = gate.times_now();
            gate.held = None;
            std::mem::take(&mut gate.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Ends the thread: its tasks are dropped.
    pub(crate) fn end(&self) {
        let tasks = {
            let mut gate = self.gate();
            gate.ended = true;
            std::mem::take(&mut gate.tasks)
        };
        tasks.iter().for_each(AbortHandle::abort);
        self.release();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.gate().ended
    }

    pub(crate) fn may_run(&self) -> bool {
        let gate = self.gate();
        gate.held.is_none() && !gate.ended
    }

    pub(crate) fn times(&self) -> CpuTimes {
        self.gate().times_now()
    }

    pub(crate) fn sample(&self) -> ThreadSample {
        let gate = self.gate();
        let state = match gate.held {
            None | Some((Hold::Sleep, _)) => ThreadState::Sleeping,
            Some((Hold::Spin | Hold::Starve, _)) => ThreadState::Runnable,
        };
        ThreadSample { state, times: gate.times_now() }
    }
}

impl Gate {
    fn times_now(&self) -> CpuTimes {
        let mut times = self.times;
        match self.held {
            Some((Hold::Spin, since)) => times.ran += since.elapsed(),
            Some((Hold::Starve, since)) => times.waited += since.elapsed(),
            Some((Hold::Sleep, _)) | None => {}
        }
        times
    }
}

/// A task behind a gate.
struct Gated {
    simulated: SimulatedThread,
    task: Pin<Box<dyn Future<Output = ()>>>,
}

impl Future for Gated {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        {
            let mut gate = self.simulated.gate();
            if gate.ended {
                return Poll::Ready(());
            }
            if gate.held.is_some() {
                gate.waiting.push(context.waker().clone());
                return Poll::Pending;
            }
        }
        let polled = self.task.as_mut().poll(context);
        // The task may itself have held the thread, and goes on when that is released.
        let mut gate = self.simulated.gate();
        if polled.is_pending() && gate.held.is_some() {
            gate.waiting.push(context.waker().clone());
        }
        drop(gate);
        polled
    }
}
