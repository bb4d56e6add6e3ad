//! `SendError`: why a message was not answered, and whether it may have been handled.

use std::fmt;
use std::sync::Arc;

use heartbeat_core::Interruption;
use heartbeat_core::entities::KEY_BYTES_MAX;
use heartbeat_core::requests::Refusal;

/// Why a message was not answered.
///
/// ```
/// # use heartbeat_actors::prelude::*;
/// use heartbeat_actors::SendError;
/// # struct Fragile;
/// # impl Actor for Fragile { type Context = Context<Self>; }
/// # #[derive(Message)]
/// # #[rtype(result = "()")]
/// # struct Break;
/// # impl Handler<Break> for Fragile {
/// #     type Result = ();
/// #     fn handle(&mut self, _: Break, _: &mut Context<Self>) { panic!("broken") }
/// # }
/// # actix::System::new().block_on(async {
/// # let node = Node::start(Config::default()).await.unwrap();
///
/// let fragile = node.supervise("fragile", || Fragile).unwrap();
/// let error = fragile.send(Break).await.unwrap_err();
/// assert!(matches!(error, SendError::Interrupted(_)));
/// assert!(!error.is_unhandled()); // it may have had an effect: do not send it again blindly
/// # });
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The queue is full. The message was not accepted, and it is safe to send it again.
    Full,
    /// No worker runs here: it was stopped, has ended, or its shard lives on another node. The
    /// message was not handled, and will not be.
    Closed,
    /// The worker failed too often and is not started again. The message was not handled, and will
    /// not be.
    GaveUp,
    /// No member of the pool can serve now. The message was not accepted.
    NotReady,
    /// The message was accepted and dropped unhandled: the queue overflowed, or the message had
    /// waited through too many replacements of the worker. It is safe to send it again.
    Dropped,
    /// The message could not be brought to the owner of its shard, for this reason. It was not
    /// handled, and will not be.
    Refused(Refusal),
    /// The message of this name is not registered in this version where it was sent to. It was not
    /// handled.
    UnknownMessage(&'static str),
    /// No member of this name is alive. The message was not sent.
    UnknownMember(Arc<str>),
    /// The member runs no worker of this name and type that accepts messages of other nodes. The
    /// message was not handled.
    UnknownWorker {
        /// The member.
        member: Arc<str>,
        /// The worker.
        worker: Arc<str>,
    },
    /// The message of this name cannot be encoded. It was not sent.
    Unencodable(&'static str),
    /// The key of an entity is empty or too long: it has this many bytes. The message was not sent.
    Key(usize),
    /// The message was accepted and there will be no answer, for this reason. It may have been
    /// handled, in part or in full.
    Interrupted(Interruption),
    /// No answer came in time. The message may have been handled, or may still be: only a message
    /// that the worker has not begun is dropped.
    TimedOut,
}

impl SendError {
    /// Whether the message was certainly not handled and never will be, so that sending it again
    /// cannot repeat an effect.
    pub fn is_unhandled(&self) -> bool {
        match self {
            SendError::Full
            | SendError::Closed
            | SendError::GaveUp
            | SendError::NotReady
            | SendError::Dropped
            | SendError::Refused(_)
            | SendError::UnknownMessage(_)
            | SendError::UnknownMember(_)
            | SendError::UnknownWorker { .. }
            | SendError::Unencodable(_)
            | SendError::Key(_) => true,
            SendError::Interrupted(_) | SendError::TimedOut => false,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Interrupted(why) => return write!(f, "no answer, and the message may have been handled: {why}"),
            SendError::Refused(why) => return write!(f, "the message was not handled: {why}"),
            SendError::UnknownMessage(name) => {
                return write!(f, "the message {name} is not registered in this version where it was sent to");
            }
            SendError::UnknownMember(member) => {
                return write!(f, "no member {member} is alive; the message was not sent");
            }
            SendError::UnknownWorker { member, worker } => {
                return write!(f, "no worker {worker} of this type accepts messages of other nodes on {member}");
            }
            SendError::Unencodable(name) => return write!(f, "the message {name} cannot be encoded"),
            SendError::Key(bytes) => return write!(f, "the key has {bytes} bytes; use 1 to {KEY_BYTES_MAX}"),
            SendError::Full => "the worker's queue is full; the message was not handed over",
            SendError::Closed => "no worker runs under this address; the message was not handled",
            SendError::GaveUp => "the worker failed too often and was given up; the message was not handled",
            SendError::NotReady => "no member of the pool can serve now; the message was not handed over",
            SendError::Dropped => "the message was dropped from the worker's queue; it was not handled",
            SendError::TimedOut => "no answer came in time; the message may have been handled",
        })
    }
}

impl std::error::Error for SendError {}

/// Why a message was refused, with the message itself.
#[derive(Clone, PartialEq, Eq)]
pub struct TrySendError<M> {
    /// Why.
    pub error: SendError,
    /// The message as it was.
    pub message: M,
}

impl<M> fmt::Debug for TrySendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrySendError").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<M> fmt::Display for TrySendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<M> std::error::Error for TrySendError<M> {}
