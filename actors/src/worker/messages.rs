//! What a worker sends to the supervisor of its node.
//!
//! The supervisor stands above this room, so a worker does not know its type. A worker holds a
//! [`Recipient`](actix::Recipient) of [`ToSupervisor`], and the supervisor turns each message into
//! an input of the engine.

use std::fmt;
use std::sync::Arc;
use std::task::Poll;

use actix::{Message, Recipient};
use heartbeat_core::{Child, Engine, Generation, Instant, Report, Standing, WorkerId};
use tokio::sync::oneshot;

/// All that a worker sends up.
pub(crate) enum ToSupervisor {
    Report(WorkerReport),
    Snapshot(MadeSnapshot),
    Command(Command),
    Wait(WaitUntilUp),
}

impl Message for ToSupervisor {
    type Result = ();
}

/// The thread of a worker reports what became of a generation.
pub(crate) struct WorkerReport {
    pub(crate) at: Instant,
    pub(crate) worker: WorkerId,
    pub(crate) generation: Generation,
    pub(crate) report: Report,
}

/// The worker of a shard has made a snapshot.
pub(crate) struct MadeSnapshot {
    pub(crate) at: Instant,
    pub(crate) worker: WorkerId,
    pub(crate) version: u32,
    pub(crate) bytes: Arc<[u8]>,
}

/// An order for a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    Start,
    Restart,
    Stop,
    Remove,
}

/// A user of an address starts, stops or removes a child.
pub(crate) struct Command {
    pub(crate) child: Child,
    pub(crate) order: Order,
}

/// A user of an address waits until a worker is up.
pub(crate) struct WaitUntilUp {
    /// Called after each input: whether the worker is up, never will be, or the wait goes on.
    pub(crate) check: Box<dyn FnMut(&Engine) -> Poll<Result<(), NotUp>> + Send>,
    pub(crate) done: oneshot::Sender<Result<(), NotUp>>,
}

/// Why a worker, a group or a node is not up and will not be, unless it is started again by hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum NotUp {
    /// It was stopped or removed, has ended by itself, or its node has left.
    Stopped,
    /// It failed too often.
    GaveUp,
}

impl fmt::Display for NotUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotUp::Stopped => "it was stopped and does not start by itself; start it, or a new node",
            NotUp::GaveUp => "it failed too often and was given up; start it again once the cause is mended",
        })
    }
}

impl std::error::Error for NotUp {}

/// Waits until `check` has an answer.
pub(crate) async fn until_up(
    supervisor: &Recipient<ToSupervisor>,
    check: impl FnMut(&Engine) -> Poll<Result<(), NotUp>> + Send + 'static,
) -> Result<(), NotUp> {
    let (done, found) = oneshot::channel();
    supervisor.do_send(ToSupervisor::Wait(WaitUntilUp { check: Box::new(check), done }));
    // The supervisor ends with its system, and with it all workers that it started.
    found.await.unwrap_or(Err(NotUp::Stopped))
}

/// Whether a child is up, as the engine sees it.
pub(crate) fn is_up(engine: &Engine, child: Child) -> Poll<Result<(), NotUp>> {
    match engine.standing(child) {
        Standing::Up => Poll::Ready(Ok(())),
        Standing::Coming => Poll::Pending,
        Standing::Down => Poll::Ready(Err(NotUp::Stopped)),
        Standing::GivenUp => Poll::Ready(Err(NotUp::GaveUp)),
    }
}
