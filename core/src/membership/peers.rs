//! `Peers`: this node, the members it knows, and how well it can reach them.

use super::heartbeat::Answers;
use crate::config::Mode;
use crate::member::Member;
use crate::membership::gossip::Gossip;
use crate::membership::local_health::LocalHealth;
use crate::membership::observers::Observers;
use crate::membership::table::MemberTable;

/// This node and its peers.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    pub(super) me: Member,
    pub(super) mode: Mode,
    pub(super) table: MemberTable,
    pub(super) gossip: Gossip,
    pub(super) observers: Observers,
    pub(super) answers: Answers,
    pub(super) health: LocalHealth,
}
