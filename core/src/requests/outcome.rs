//! `Outcome`: what became of a request, in three kinds that a sender can act on.
//!
//! Refused: the message was not handled and will not be, so it is safe to send it again.
//! Interrupted and timed out: it may have been handled, in part or in full.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::interruption::Interruption;
use crate::member::Epoch;

/// What became of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The worker handled it; this is its encoded answer.
    Handled(Bytes),
    /// It was not handled and will not be.
    Refused(Refusal),
    /// There will be no answer, and it may have been handled.
    Interrupted(Interruption),
    /// Its deadline has passed, and it may have been handled.
    TimedOut,
}

/// Why a request was not handled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The node that it reached does not run the shard, or its lease is over. The sender routes it
    /// anew; an application sees this only once the hop limit is reached.
    NotOwner {
        /// The epoch under which that node knows an owner; zero if it knows none.
        known: Epoch,
    },
    /// The worker's queue, or the window to its node, is full.
    Full,
    /// As much waits at this sender already as `requests.held_max` or `requests.held_bytes_max`
    /// allow.
    HeldFull,
    /// It waited for `requests.held_for`, and no node could take it.
    HeldTooLong,
    /// The owner is suspected, and `requests.on_suspected` is `"refuse"`.
    Suspected,
    /// Its deadline passed before it was handed over.
    Expired,
    /// The member runs no worker of this name that accepts messages of other nodes.
    NoWorker,
    /// The worker failed too often and is not started again.
    GaveUp,
    /// The worker is not ready.
    NotReady,
    /// It was dropped from the worker's queue.
    Dropped,
    /// The message type is not registered at the group there.
    UnknownMessage,
    /// The payload does not decode there as this message type.
    Undecodable,
    /// It is larger than `requests.message_bytes_max`, here or at the owner.
    TooLarge {
        /// Its length.
        bytes: u32,
        /// The bound of the node that refused it.
        bytes_max: u32,
    },
    /// This node has left.
    Leaving,
    /// It was sent on as often as `requests.hops_max` allows, and no node was the owner.
    HopLimit,
    /// No member of that name is alive.
    NoMember,
    /// The worker was stopped, or has ended.
    Stopped,
}

impl Refusal {
    /// Its name in lower case with underscores, as in JSON: `held_too_long`.
    pub fn name(self) -> &'static str {
        match self {
            Refusal::NotOwner { .. } => "not_owner",
            Refusal::Full => "full",
            Refusal::HeldFull => "held_full",
            Refusal::HeldTooLong => "held_too_long",
            Refusal::Suspected => "suspected",
            Refusal::Expired => "expired",
            Refusal::NoWorker => "no_worker",
            Refusal::GaveUp => "gave_up",
            Refusal::NotReady => "not_ready",
            Refusal::Dropped => "dropped",
            Refusal::UnknownMessage => "unknown_message",
            Refusal::Undecodable => "undecodable",
            Refusal::TooLarge { .. } => "too_large",
            Refusal::Leaving => "leaving",
            Refusal::HopLimit => "hop_limit",
            Refusal::NoMember => "no_member",
            Refusal::Stopped => "stopped",
        }
    }

    /// The code on the wire.
    pub(crate) fn code(self) -> u8 {
        match self {
            Refusal::NotOwner { .. } => 0,
            Refusal::Full => 1,
            Refusal::HeldFull => 2,
            Refusal::HeldTooLong => 3,
            Refusal::Suspected => 4,
            Refusal::Expired => 5,
            Refusal::NoWorker => 6,
            Refusal::GaveUp => 7,
            Refusal::NotReady => 8,
            Refusal::Dropped => 9,
            Refusal::UnknownMessage => 10,
            Refusal::Undecodable => 11,
            Refusal::TooLarge { .. } => 12,
            Refusal::Leaving => 13,
            Refusal::HopLimit => 14,
            Refusal::NoMember => 15,
            Refusal::Stopped => 16,
        }
    }

    /// The number that follows the code.
    pub(crate) fn detail(self) -> u64 {
        match self {
            Refusal::NotOwner { known } => known.0,
            Refusal::TooLarge { bytes, bytes_max } => u64::from(bytes) << 32 | u64::from(bytes_max),
            Refusal::Full
            | Refusal::HeldFull
            | Refusal::HeldTooLong
            | Refusal::Suspected
            | Refusal::Expired
            | Refusal::NoWorker
            | Refusal::GaveUp
            | Refusal::NotReady
            | Refusal::Dropped
            | Refusal::UnknownMessage
            | Refusal::Undecodable
            | Refusal::Leaving
            | Refusal::HopLimit
            | Refusal::NoMember
            | Refusal::Stopped => 0,
        }
    }

    pub(crate) fn of_code(code: u8, detail: u64) -> Option<Refusal> {
        Some(match code {
            0 if detail <= Epoch::MAX.0 => Refusal::NotOwner { known: Epoch(detail) },
            1 => Refusal::Full,
            2 => Refusal::HeldFull,
            3 => Refusal::HeldTooLong,
            4 => Refusal::Suspected,
            5 => Refusal::Expired,
            6 => Refusal::NoWorker,
            7 => Refusal::GaveUp,
            8 => Refusal::NotReady,
            9 => Refusal::Dropped,
            10 => Refusal::UnknownMessage,
            11 => Refusal::Undecodable,
            12 => Refusal::TooLarge { bytes: (detail >> 32) as u32, bytes_max: detail as u32 },
            13 => Refusal::Leaving,
            14 => Refusal::HopLimit,
            15 => Refusal::NoMember,
            16 => Refusal::Stopped,
            _ => return None,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::NotOwner { .. } => "the node it reached does not own the shard",
            Refusal::Full => "the worker's queue, or the window to its node, is full",
            Refusal::HeldFull => {
                "too many requests wait at this node already (requests.held_max, requests.held_bytes_max)"
            }
            Refusal::HeldTooLong => "no node could take it within requests.held_for",
            Refusal::Suspected => "the owner is suspected to be dead",
            Refusal::Expired => "its deadline passed before it was handed over",
            Refusal::NoWorker => "no worker of this name accepts messages there",
            Refusal::GaveUp => "the worker failed too often and was given up",
            Refusal::NotReady => "the worker is not ready",
            Refusal::Dropped => "it was dropped from the worker's queue",
            Refusal::UnknownMessage => "its message type is not registered there",
            Refusal::Undecodable => "its payload does not decode there",
            Refusal::TooLarge { bytes, bytes_max } => {
                return write!(f, "it has {bytes} bytes, and requests.message_bytes_max allows {bytes_max}");
            }
            Refusal::Leaving => "the node has left",
            Refusal::HopLimit => "no node it reached was the owner (requests.hops_max)",
            Refusal::NoMember => "no member of this name is alive",
            Refusal::Stopped => "the worker was stopped, or has ended",
        })
    }
}

/// The code of an interruption on the wire.
pub(super) fn code(why: &Interruption) -> u8 {
    match why {
        Interruption::Panicked(_) => 0,
        Interruption::Blocked => 1,
        Interruption::Restarted => 2,
        Interruption::Stopped => 3,
        Interruption::NodeLeft => 4,
        Interruption::ShardMoved => 5,
        Interruption::Unanswered => 6,
        Interruption::ConnectionLost => 7,
        Interruption::NodeDied => 8,
        Interruption::AnswerTooLarge => 9,
        Interruption::AnswerUndecodable => 10,
    }
}

/// The interruption with this code; `text` is that of a panic.
pub(super) fn interruption(code: u8, text: Arc<str>) -> Option<Interruption> {
    Some(match code {
        0 => Interruption::Panicked(text),
        1 => Interruption::Blocked,
        2 => Interruption::Restarted,
        3 => Interruption::Stopped,
        4 => Interruption::NodeLeft,
        5 => Interruption::ShardMoved,
        6 => Interruption::Unanswered,
        7 => Interruption::ConnectionLost,
        8 => Interruption::NodeDied,
        9 => Interruption::AnswerTooLarge,
        10 => Interruption::AnswerUndecodable,
        _ => return None,
    })
}
