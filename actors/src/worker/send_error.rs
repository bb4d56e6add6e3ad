//! `SendError`: why a message was not answered, and whether it may have been handled.

use std::fmt;

use heartbeat_core::Interruption;

/// Why a message was not answered.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The queue is full. The message was not handed over: it is safe to send it again.
    Full,
    /// No worker runs here: it was stopped, has ended, or its shard lives on another node. The
    /// message was not handled, and will not be.
    Closed,
    /// The worker failed too often and is not started again. The message was not handled, and will
    /// not be.
    GaveUp,
    /// No member of the pool can serve now. The message was not handed over.
    NotReady,
    /// The message was handed over and dropped unhandled: the queue overflowed, or it had waited
    /// through too many replacements of the worker. It is safe to send it again.
    Dropped,
    /// The message was handed over and there will be no answer, for this reason. It may have been
    /// handled, in part or in full.
    Interrupted(Interruption),
    /// No answer came in time. The message may have been handled, or may be yet, unless the worker
    /// finds that nobody waits any more.
    TimedOut,
}

impl SendError {
    /// Whether the message was certainly not handled and never will be, so that sending it again
    /// does not do anything twice.
    pub fn is_unhandled(&self) -> bool {
        match self {
            SendError::Full | SendError::Closed | SendError::GaveUp | SendError::NotReady | SendError::Dropped => true,
            SendError::Interrupted(_) | SendError::TimedOut => false,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Interrupted(why) => return write!(f, "no answer, and the message may have been handled: {why}"),
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

/// Why a message was refused, with the message.
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
