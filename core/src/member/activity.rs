//! What workers and threads are doing, as seen from outside.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::member::{Generation, WorkerId};
use crate::time::Instant;

/// What a worker is doing, or was doing when it failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// Its factory makes it.
    Factory,
    /// Its `started` runs.
    Started,
    /// It handles a message of this type.
    Message(&'static str),
    /// A timer of its own fires; the type names it.
    Timer(&'static str),
    /// A future or stream it spawned, or waits for, is polled; the type names it.
    Future(&'static str),
    /// Its `stopping` or `stopped` runs.
    Stopping,
    /// Its value is dropped.
    Drop,
}

impl Activity {
    /// Whether it is still on its way to being up, when only the start timeout counts.
    pub fn is_start(self) -> bool {
        match self {
            Activity::Factory | Activity::Started => true,
            Activity::Message(_) | Activity::Timer(_) | Activity::Future(_) | Activity::Stopping | Activity::Drop => {
                false
            }
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Activity::Factory => f.write_str("its factory"),
            Activity::Started => f.write_str("started"),
            Activity::Message(name) => f.write_str(name),
            Activity::Timer(name) => write!(f, "a timer ({name})"),
            Activity::Future(name) => write!(f, "a future ({name})"),
            Activity::Stopping => f.write_str("stopping"),
            Activity::Drop => f.write_str("its drop"),
        }
    }
}

/// A worker at work, as its status cell shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorkerActivity {
    /// Which worker.
    pub worker: WorkerId,
    /// What it does.
    pub doing: Activity,
    /// When it took that up, or last said that it makes progress with it.
    pub since: Instant,
}

/// How a worker says that it is; what it does not say is [`Health::Ok`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All is well.
    #[default]
    Ok,
    /// It lives but cannot serve now: requests should go elsewhere. Not a failure.
    NotReady,
    /// It cannot go on and wants to be replaced.
    Failed,
}

/// What a look at the status cell of a worker showed; only workers of which there is something to
/// say are reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatusSample {
    /// Which worker.
    pub worker: WorkerId,
    /// The generation that was looked at.
    pub generation: Generation,
    /// Whether it waits for a future before it takes up the next message.
    pub is_waiting: bool,
    /// Messages that wait in its queue.
    pub queued: u32,
    /// Whether its queue is over the mark at which requests should go elsewhere.
    pub is_overloaded: bool,
    /// Messages handled and progress reported so far; any change is a sign of life.
    pub progress: u64,
    /// How it says that it is.
    pub health: Health,
}

/// What the operating system says of a thread since it was made. On Linux: `schedstat` and the
/// state in `stat` (proc(5)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuTimes {
    /// Time it ran.
    pub ran: Duration,
    /// Time it could have run but waited for a CPU.
    pub waited: Duration,
}

/// What a thread is doing at this instant, as the operating system sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ThreadState {
    /// It runs, or waits for a CPU.
    Runnable,
    /// It sleeps in a call.
    Sleeping,
    /// It was stopped by a signal or a debugger.
    Stopped,
}

/// A look at a thread from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThreadSample {
    /// What it is doing.
    pub state: ThreadState,
    /// What it has used so far.
    pub times: CpuTimes,
}
