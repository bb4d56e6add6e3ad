//! `Outbox`: what leaves this node, and the numbers that it leaves under.

use std::collections::VecDeque;

use super::Outgoing;
use super::clock::Clock;
use crate::member::Epoch;

/// What leaves this node.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    /// What is to be sent, the oldest first.
    pub(crate) queue: VecDeque<Outgoing>,
    pub(super) clock: Clock,
    /// Number of the newest probe, inquiry or poll.
    pub(super) number: u32,
    /// Lower half of the hash of the cluster's name; in every datagram.
    pub(super) cluster: u32,
    /// Epochs given out are above this one.
    pub(super) epoch_min: Epoch,
}
