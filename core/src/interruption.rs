//! `Interruption`: why an accepted message got no answer.
//!
//! The reason comes from where the worker's generation ends, so a service can tell its caller more
//! than "no answer". It does not say how much of the message was handled: any part of it may have
//! been.

use std::fmt;
use std::sync::Arc;

use crate::event::Cause;

/// Why an accepted message got no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Interruption {
    /// The worker panicked; this is the text of the panic.
    Panicked(Arc<str>),
    /// The worker, or a neighbour on its thread, held the thread for too long, or the worker waited
    /// for too long.
    Blocked,
    /// The worker was restarted for another reason: by command, with its group, or after a failure
    /// it reported itself.
    Restarted,
    /// The worker was stopped or has ended.
    Stopped,
    /// The node has left, and the answer was not ready in time.
    NodeLeft,
    /// The worker is a shard that has moved to another node.
    ShardMoved,
    /// The worker still runs, and its handler has dropped the answer.
    Unanswered,
    /// The connection to the worker's node ended.
    ConnectionLost,
    /// The worker's node is dead, or another process has taken its place.
    NodeDied,
    /// The answer is larger than `requests.message_bytes_max`.
    AnswerTooLarge,
    /// The answer does not decode at the sender.
    AnswerUndecodable,
}

impl fmt::Display for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Interruption::Panicked(text) => write!(f, "the worker panicked: {text}"),
            Interruption::Blocked => f.write_str("the worker was stuck"),
            Interruption::Restarted => f.write_str("the worker was restarted"),
            Interruption::Stopped => f.write_str("the worker was stopped"),
            Interruption::NodeLeft => f.write_str("the node has left"),
            Interruption::ShardMoved => f.write_str("the shard has moved to another node"),
            Interruption::Unanswered => f.write_str("the handler dropped the answer"),
            Interruption::ConnectionLost => f.write_str("the connection to its node ended"),
            Interruption::NodeDied => f.write_str("its node died"),
            Interruption::AnswerTooLarge => f.write_str("the answer is larger than requests.message_bytes_max"),
            Interruption::AnswerUndecodable => f.write_str("the answer does not decode here"),
        }
    }
}

impl From<&Cause> for Interruption {
    /// The interruption that the sender of a message gets when the worker fails with this cause.
    fn from(cause: &Cause) -> Interruption {
        match cause {
            Cause::Panicked { payload, .. } => Interruption::Panicked(payload.clone()),
            Cause::AwaitStuck { .. }
            | Cause::Blocked { .. }
            | Cause::Spinning { .. }
            | Cause::HeldThread { .. }
            | Cause::Displaced { .. }
            | Cause::ThreadSilent { .. } => Interruption::Blocked,
            Cause::Stopped
            | Cause::StartFailed { .. }
            | Cause::StartTimedOut { .. }
            | Cause::ReportedFailed
            | Cause::ArbiterDead
            | Cause::Sibling { .. }
            | Cause::Exhausted { .. }
            | Cause::ShutDown => Interruption::Restarted,
        }
    }
}
