//! What a worker sends to the supervisor of its node.
//!
//! The supervisor stands above this room, so a worker does not know its type. A worker holds a
//! [`Recipient`](actix::Recipient) of [`ToSupervisor`], and the supervisor turns each message into
//! an input of the engine.

use std::fmt;
use std::task::Poll;

use actix::{Message, Recipient};
use heartbeat_core::{Child, Engine, Input, Instant, Standing};
use tokio::sync::oneshot;

/// All that a worker sends up, and what else is an input of the engine: from its threads, the
/// socket, streams and users of the node.
pub(crate) enum ToSupervisor {
    /// An input of the engine, with the instant at which it was stamped. Without one it counts from
    /// when the supervisor handles it.
    Input { at: Option<Instant>, input: Input },
    /// A user of an address waits until a worker is up.
    Wait(WaitUntilUp),
}

impl ToSupervisor {
    /// An input that was stamped at `at`.
    pub(crate) fn at(at: Instant, input: Input) -> ToSupervisor {
        ToSupervisor::Input { at: Some(at), input }
    }

    /// An input that counts from when the supervisor handles it.
    pub(crate) fn unstamped(input: Input) -> ToSupervisor {
        ToSupervisor::Input { at: None, input }
    }
}

impl Message for ToSupervisor {
    type Result = ();
}

/// The check after each input: whether a worker or group is up, never will be, or may still be.
type UpCheck = Box<dyn FnMut(&Engine) -> Poll<Result<(), NotUp>> + Send>;

/// A user of an address waits until a worker is up.
pub(crate) struct WaitUntilUp {
    /// Called after each input: whether the worker is up, never will be, or the wait goes on.
    pub(crate) check: UpCheck,
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
