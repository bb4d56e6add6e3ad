//! `Owner`: the member that is responsible for a key.

use std::fmt;

use heartbeat_core::Member;

/// The member that is responsible for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner<W = ()> {
    /// This node; of a shard, the address of its worker here.
    Here(W),
    /// Another member, with its address and metadata. Forwarding the request is up to the
    /// application.
    There(Member),
}

/// Why no member is known to be responsible for a key now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoOwner {
    /// No member is ready, or this node was not let in yet, or does not know who owns the shard.
    Unknown,
    /// The owner of the shard is suspected, so no request should go there. If the owner is declared
    /// dead, the shard gets a new owner; if not, the owner serves it again. Ask again after an
    /// interval, or send the request all the same if waiting is worse.
    Suspected(Member),
    /// This node's sharded group has another number of shards than the one in force, so that it
    /// cannot tell which shard the key belongs to.
    ShardsRefused {
        /// The number of shards here.
        here: u32,
        /// The number of shards in force.
        in_force: u32,
    },
}

impl fmt::Display for NoOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoOwner::Unknown => f.write_str("no member is known to be responsible for this key now; ask again"),
            NoOwner::Suspected(member) => {
                write!(f, "{} is responsible for this key, and is suspected to be dead; ask again", member.name)
            }
            NoOwner::ShardsRefused { here, in_force } => write!(
                f,
                "the group has {here} shards here and {in_force} on the members that have supervised it for longer; use {in_force}, or wait until they are gone"
            ),
        }
    }
}

impl std::error::Error for NoOwner {}
