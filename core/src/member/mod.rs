//! Members, and the names and numbers of all things that a node knows.
//!
//! Nothing here is a rule. `ids` names nodes, workers and shards; this file describes a member;
//! `declined` holds the shards that a member cannot run; `wire_versions` the versions of the wire
//! format that a member can use; `activity` describes what workers and threads do. All of it is
//! public under this module.

mod activity;
mod declined;
mod ids;
mod wire_versions;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use activity::{Activity, CpuTimes, Health, StatusSample, ThreadSample, ThreadState, WorkerActivity};
pub use declined::{DECLINED_BYTES_MAX, DECLINED_RANGES_MAX, Declined};
pub(crate) use ids::ShardKey;
pub use ids::{
    ArbiterId, Child, Epoch, Generation, GroupId, Incarnation, LOCAL_NAME, NodeId, ProcessId, Shard, Target,
    ThreadSlotId, WorkerId, bytes_hash, name_hash,
};
pub(crate) use wire_versions::VersionCounts;
pub use wire_versions::{CommonVersion, WireVersions};

/// Longest name of a node, cluster or worker group, in bytes. Names travel in datagrams; 64 bytes
/// hold any host name part.
pub const NAME_BYTES_MAX: usize = 64;

/// The status of a node in the table of members. At the same incarnation, the later one in this
/// list wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its heartbeats arrive within the time that the detector expects.
    Alive,
    /// Silent for longer than the detector expects; still a member, and it can refute.
    Suspect,
    /// Silent past the timeout: no more requests, its work is moved. It may come back under a
    /// higher incarnation.
    Dead,
    /// It left the cluster gracefully.
    Left,
}

impl Status {
    /// Whether the node may own work: it is alive, or only suspected.
    pub fn is_member(self) -> bool {
        match self {
            Status::Alive | Status::Suspect => true,
            Status::Dead | Status::Left => false,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Alive => "alive",
            Status::Suspect => "suspect",
            Status::Dead => "dead",
            Status::Left => "left",
        })
    }
}

/// The task of a node in the cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Watches the others and keeps the view; runs no shards.
    Monitor,
    /// Runs workers and shards.
    Worker,
}

/// What a member publishes of itself beside its name: keys and values of its own choosing, small
/// enough for a datagram.
pub type Metadata = BTreeMap<String, String>;

/// The key of the metadata under which a member says its [`Weight`].
pub const WEIGHT_KEY: &str = "weight";

/// The key in a member's metadata under which a node with a seal publishes the ids of its keys, the
/// preferred one first, separated by commas.
pub const SEAL_KEY: &str = "seal";

/// How much of the work a member gets, relative to the others: weight 2 gets twice as much as
/// weight 1, and weight 0 gets none. It is constant for the life of a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct Weight(u16);

impl Weight {
    /// The greatest one.
    pub const MAX: u16 = 1_000;

    /// This weight; `None` over [`Weight::MAX`].
    pub fn new(weight: u16) -> Option<Weight> {
        (weight <= Weight::MAX).then_some(Weight(weight))
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }

    /// The weight in this metadata: 1 if there is none; `None` if the value is not a weight.
    pub fn from_metadata(metadata: &Metadata) -> Option<Weight> {
        match metadata.get(WEIGHT_KEY) {
            Some(text) => Weight::parse(text),
            None => Some(Weight::default()),
        }
    }

    /// The weight in this text; `None` if the text is not a weight.
    pub(crate) fn parse(text: &str) -> Option<Weight> {
        Weight::new(text.parse().ok()?)
    }
}

impl Default for Weight {
    fn default() -> Weight {
        Weight(1)
    }
}

/// The key of the metadata under which rows of wire version 3 carry [`WireVersions`]. It is no key
/// of a member's own choosing.
pub const WIRE_KEY: &str = "wire";

/// Most bytes of a member's own metadata in a datagram: one for the length of each key and value,
/// and their text. The 11 bytes up to 256 are for [`WIRE_KEY`] and its value.
pub const METADATA_BYTES_MAX: usize = 245;

/// Most shards of one group.
pub const SHARDS_MAX: u32 = 65_536;

/// Most sharded groups of one member.
pub const GROUPS_MAX: usize = 16;

/// A sharded group that a member supervises, so that it may own shards of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct ShardGroup {
    /// Hash of its name ([`name_hash`]).
    pub group: u64,
    /// How many shards it has there; 1 to [`SHARDS_MAX`].
    pub count: u32,
    /// Shards that it cannot run, since their worker failed too often there: other members run
    /// them.
    pub declined: Declined,
}

impl ShardGroup {
    /// A group of which the member runs every shard that it owns.
    pub fn new(group: u64, count: u32) -> ShardGroup {
        ShardGroup { group, count, declined: Declined::default() }
    }
}

/// What a member publishes of itself. Under a higher revision, its metadata may change and its
/// groups may grow; all else is constant for the life of a process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Profile {
    /// Its name for people; 1 to [`NAME_BYTES_MAX`] bytes.
    pub name: Arc<str>,
    /// Where datagrams and streams to it go.
    pub address: SocketAddr,
    /// Its task in the cluster.
    pub role: Role,
    /// The members that are likely to fail together with it: a rack, a data centre. Empty for none;
    /// at most [`NAME_BYTES_MAX`] bytes.
    pub zone: Arc<str>,
    /// Keys and values of its own choosing.
    pub metadata: Metadata,
    /// The sharded groups it supervises; at most [`GROUPS_MAX`].
    pub groups: Vec<ShardGroup>,
    /// The versions of the wire format that it can use.
    pub wire_versions: WireVersions,
    /// The parts of its row that this release does not know, as they came: they are passed on.
    #[serde(skip)]
    pub extension: Arc<[u8]>,
    /// Number of this profile: 1 at the start of the process, one more for each change, at most
    /// [`Profile::REVISION_MAX`]. 0 if the profile is that of an earlier process.
    pub revision: u32,
}

impl Profile {
    /// The highest revision. A higher one is refused as it arrives, for the reason that
    /// [`Incarnation::PART_MAX`] gives.
    pub const REVISION_MAX: u32 = (1 << 31) - 1;

    /// The first profile of a worker without a zone, metadata or groups. Its release publishes no
    /// [`WireVersions`].
    pub fn new(name: impl Into<Arc<str>>, address: SocketAddr) -> Profile {
        Profile {
            name: name.into(),
            address,
            role: Role::Worker,
            zone: Arc::default(),
            metadata: Metadata::new(),
            groups: Vec::new(),
            wire_versions: WireVersions::UNPUBLISHED,
            extension: Arc::default(),
            revision: 1,
        }
    }
}

/// One node, as another node sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Member {
    /// Hash of the name.
    pub id: NodeId,
    /// Its profile; shared, since a table is copied more often than it changes.
    #[serde(flatten)]
    pub profile: Arc<Profile>,
    /// Which start of its process this is.
    pub generation: Generation,
    /// How often it has returned and refuted in this generation.
    pub incarnation: Incarnation,
    /// Its status in the table of the node that holds this row.
    pub status: Status,
}

impl Member {
    /// A member that has just started: alive, and in its first incarnation.
    ///
    /// ```
    /// use heartbeat_core::member::{Generation, Member, NodeId, Profile, Status};
    ///
    /// let profile = Profile::new("node-1", "10.0.0.1:7100".parse()?);
    /// let member = Member::new(profile, Generation(1));
    /// assert_eq!((member.id, member.status), (NodeId::of("node-1"), Status::Alive));
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn new(profile: Profile, generation: Generation) -> Member {
        Member {
            id: NodeId::of(&profile.name),
            profile: Arc::new(profile),
            generation,
            incarnation: Incarnation::default(),
            status: Status::Alive,
        }
    }

    /// How much of the work it gets. A value that this release does not understand counts as the
    /// default.
    pub fn weight(&self) -> Weight {
        Weight::from_metadata(&self.metadata).unwrap_or_default()
    }

    /// How many shards the group with this name hash has on this member; `None` if it does not
    /// supervise the group.
    pub fn shards_of(&self, group: u64) -> Option<u32> {
        self.sharded(group).map(|sharded| sharded.count)
    }

    /// The group with this name hash, if this member supervises it.
    pub fn sharded(&self, group: u64) -> Option<&ShardGroup> {
        self.groups.iter().find(|sharded| sharded.group == group)
    }
}

impl std::ops::Deref for Member {
    type Target = Profile;

    fn deref(&self) -> &Profile {
        &self.profile
    }
}

/// The IPv4 address behind an address that is mapped into IPv6 (`::ffff:10.0.0.1`), as sockets for
/// both families report it; any other address as it is.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The size of `metadata` in a datagram, in bytes.
pub fn metadata_bytes(metadata: &Metadata) -> usize {
    metadata.iter().map(|(key, value)| 2 + key.len() + value.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_and_the_departed_own_nothing() {
        assert!(Status::Alive.is_member() && Status::Suspect.is_member());
        assert!(!Status::Dead.is_member() && !Status::Left.is_member());
    }
}
