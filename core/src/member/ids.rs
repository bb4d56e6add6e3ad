//! Names and numbers of nodes, workers, threads and shards.
//!
//! Ids are dense where a table is indexed by them (workers, arbiters). They are hashes where nodes
//! must agree on them without asking: a heartbeat then carries eight bytes instead of a name, and
//! the name travels once, on joining.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::random::mix;

/// The owner of each shard where there is no cluster, and the node has no name.
pub const LOCAL_NAME: &str = "local";

/// A 64-bit hash of a name that is the same on every node and in every release (FNV-1a, then
/// SplitMix64's finaliser).
///
/// FNV-1a: Fowler, Noll and Vo; offset and prime as in draft-eastlake-fnv. The finaliser spreads
/// short names over all bits.
pub fn name_hash(name: &str) -> u64 {
    bytes_hash(name.as_bytes())
}

/// As [`name_hash`], of any bytes.
pub fn bytes_hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, step))
}

/// A node's identity: the hash of its name. The address may change, the name may not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The id of the node with this name.
    pub fn of(name: &str) -> NodeId {
        NodeId(name_hash(name))
    }

    /// Its upper half, which stands for it where space is short.
    pub fn short(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node:{:016x}", self.0)
    }
}

/// Rises each time a process or a worker starts; tells a restarted one from its predecessor.
///
/// A node's is the wall clock in milliseconds at its start, so that a restarted node wins over
/// rumours about its former process. A worker's starts at 1; numbers may be left out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Generation(pub u64);

/// One process: a node in one start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProcessId {
    /// The node.
    pub node: NodeId,
    /// Which start of it.
    pub generation: Generation,
}

/// Rises each time a member refutes what others hold of it. Only the member itself raises it, but
/// for one case: an observer that receives its heartbeats clears the suspicion of it.
///
/// It has two parts, since a suspicion and a death differ. A member that refutes a suspicion may
/// not know that it was declared dead since, and that other nodes have its work. So its refutations
/// do not end a death. Only a member that knows of its death counts one more return, and begins its
/// refutations at 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Incarnation {
    /// How often it has come back from the dead in this generation.
    pub returns: u32,
    /// How often it has refuted a suspicion since its last return.
    pub refutations: u32,
}

impl Incarnation {
    /// The highest number of returns, and of refutations after one return. A datagram with a higher
    /// one is refused. No honest member comes near it, and a number without a next one could not be
    /// refuted.
    pub const PART_MAX: u32 = (1 << 31) - 1;

    /// One more refutation; after the last one, one more return. `None` past the last return.
    pub fn refuted(self) -> Option<Incarnation> {
        if self.refutations < Incarnation::PART_MAX {
            Some(Incarnation { refutations: self.refutations + 1, ..self })
        } else {
            self.returned()
        }
    }

    /// One more return. `None` past the last one: only another generation can refute that.
    pub fn returned(self) -> Option<Incarnation> {
        (self.returns < Incarnation::PART_MAX).then(|| Incarnation { returns: self.returns + 1, refutations: 0 })
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.returns, self.refutations)
    }
}

/// Rises each time a shard gets a new owner: the fencing token of all that the owner writes.
///
/// Milliseconds since 1970 when it was given out, or more, above [`Epoch::NUMBER_BITS`] bits that
/// tell nodes apart. All modes and authorities use this one scale, so an epoch is higher than those
/// before it also where the mode has changed in between. It never exceeds [`Epoch::MAX`], so it
/// fits a signed 64-bit integer (SQL's `BIGINT`). Up to the year 2248 it stays below 2^53, so JSON
/// numbers hold it exactly. A higher one is written to JSON as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Epoch(pub u64);

impl Epoch {
    /// The highest one: 2^63 - 1.
    pub const MAX: Epoch = Epoch(i64::MAX as u64);

    /// Bits below the time.
    pub const NUMBER_BITS: u32 = 10;

    /// The latest time in an epoch.
    pub(crate) const MILLIS_MAX: u64 = Epoch::MAX.0 >> Epoch::NUMBER_BITS;

    /// The highest one that JSON numbers hold exactly.
    const EXACT_MAX: u64 = (1 << 53) - 1;

    /// The epoch of this time, in milliseconds since 1970, and of the node with this number.
    pub(crate) fn at(millis: u64, number: u64) -> Epoch {
        let number = number & ((1 << Epoch::NUMBER_BITS) - 1);
        Epoch(millis.min(Epoch::MILLIS_MAX) << Epoch::NUMBER_BITS | number)
    }

    /// The time in it.
    pub(crate) fn millis(self) -> u64 {
        self.0.min(Epoch::MAX.0) >> Epoch::NUMBER_BITS
    }
}

impl Serialize for Epoch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() && self.0 > Epoch::EXACT_MAX {
            return serializer.collect_str(&self.0);
        }
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Epoch, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        if !deserializer.is_human_readable() {
            return u64::deserialize(deserializer).map(Epoch);
        }
        match Written::deserialize(deserializer)? {
            Written::Number(number) => Ok(Epoch(number)),
            Written::Text(text) => text.parse().map(Epoch).map_err(serde::de::Error::custom),
        }
    }
}

/// A supervised worker of this node: a dense index, used again once its worker was removed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct WorkerId(pub u32);

/// An arbiter (a thread that runs workers) of this node: a dense index, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct ArbiterId(pub u32);

/// A supervised group of workers and groups of this node: a dense index, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct GroupId(pub u32);

impl GroupId {
    /// The group everything else is in. Its children are started as they are added, and each has
    /// its own count of restarts.
    pub const ROOT: GroupId = GroupId(0);
}

/// A place for a thread that runs workers: those below `workers.arbiters` are shared by all, the
/// others belong to the worker that asked for one. A fresh thread takes the place of a lost one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct ThreadSlotId(pub u32);

/// A child of a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Child {
    /// A worker.
    Worker(WorkerId),
    /// Another group, with all that is in it.
    Group(GroupId),
}

/// A node, thread or worker that is watched: the monitor treats all three alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Target {
    /// A node of the cluster.
    Node(NodeId),
    /// A thread of this process that runs workers.
    Arbiter(ArbiterId),
    /// A worker of this process.
    Worker(WorkerId),
}

/// Which shard of a group one worker is, and its epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct Shard {
    /// From 0 up to and without the group's number of shards.
    pub index: u32,
    /// The token that this owner's writes carry; every later owner has a higher one.
    pub epoch: Epoch,
}

/// A shard, as all nodes know it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ShardKey {
    /// [`name_hash`] of the name of its group.
    pub(crate) group: u64,
    /// From 0 up to and without the group's number of shards.
    pub(crate) index: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other releases and other machines must find the same owner, so these never change.
    #[test]
    fn the_hash_of_a_name_never_changes() {
        assert_eq!(name_hash(""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(name_hash("node-1"), 0x1395_0d4e_f307_e655);
        assert_ne!(name_hash("node-1"), name_hash("node-2"));
    }

    #[test]
    fn the_last_refutation_is_followed_by_a_return_then_none() {
        let end = Incarnation::PART_MAX;
        let at = |returns, refutations| Incarnation { returns, refutations };
        assert_eq!(at(3, 4).refuted(), Some(at(3, 5)));
        assert_eq!(at(3, 4).returned(), Some(at(4, 0)));
        assert_eq!(at(3, end).refuted(), Some(at(4, 0)));
        assert_eq!((at(end, 4).refuted(), at(end, 4).returned()), (Some(at(end, 5)), None));
        assert_eq!(at(end, end).refuted(), None);
    }
}
