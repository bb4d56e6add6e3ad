//! Who is who: nodes, workers, arbiters, and what may be said of them.
//!
//! Everything here is a name or a number; no rule. Ids are dense where a table is indexed by them
//! (workers, arbiters) and hashes where strangers must agree on them (nodes): a heartbeat then
//! carries eight bytes instead of a name, and the name travels once, on joining.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::random::mix;
use crate::time::Instant;

/// Longest name of a node, cluster or worker group, in bytes. Names travel in datagrams; 64 bytes
/// hold any host name part.
pub const NAME_BYTES_MAX: usize = 64;

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
/// rumours about its former life. A worker's starts at 1; numbers may be left out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Generation(pub u64);

/// Rises each time a member contradicts what is said of it; only the member itself raises it.
///
/// It has two parts, as a doubt and a death are two matters: whoever refutes a doubt may not know
/// that it has been called dead since, and that others have its work. So a death ends a *life*,
/// whatever was refuted in it, and only a member that knows of its death begins the next one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Incarnation {
    /// How often it has come back from the dead in this generation.
    pub life: u32,
    /// How often it has spoken for itself in this life: refuted a suspicion, or changed what it
    /// tells of itself.
    pub word: u32,
}

impl Incarnation {
    /// The highest life, and the highest word of a life. Higher ones are refused as they arrive:
    /// nothing honest gets near it, and a number past which there is none could not be
    /// contradicted.
    pub const PART_MAX: u32 = (1 << 31) - 1;

    /// A new word in the same life; after the last word, the first one of the next life. `None`
    /// past the last life.
    pub fn refuted(self) -> Option<Incarnation> {
        if self.word < Incarnation::PART_MAX {
            Some(Incarnation { word: self.word + 1, ..self })
        } else {
            self.returned()
        }
    }

    /// The next life. `None` past the last one: only another generation can contradict that.
    pub fn returned(self) -> Option<Incarnation> {
        (self.life < Incarnation::PART_MAX).then(|| Incarnation { life: self.life + 1, word: 0 })
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.life, self.word)
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

/// What the membership holds of a node. Later ones win at the same incarnation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Heard of within the time the detector expects.
    Alive,
    /// Silent for longer than the detector expects; still a member, and it can refute.
    Suspect,
    /// Silent past the timeout: no more requests, its work is moved. It may come back under a
    /// higher incarnation.
    Dead,
    /// Said goodbye.
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

/// What a node is in the cluster for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Watches the others and keeps the view; runs no shards.
    Monitor,
    /// Runs workers and shards.
    Worker,
}

/// What a member tells of itself beside its name: keys and values of its own choosing, small enough
/// to travel with it.
pub type Metadata = BTreeMap<String, String>;

/// The key of the metadata under which a member says its [`Weight`].
pub const WEIGHT_KEY: &str = "weight";

/// How much of the work a member takes, as against the others: one of weight 2 twice as much as one
/// of weight 1, one of weight 0 none. It stays the same for the life of a process.
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

    /// The weight that this metadata says: 1 if it says nothing; `None` if it says what is none.
    pub fn said_in(metadata: &Metadata) -> Option<Weight> {
        match metadata.get(WEIGHT_KEY) {
            Some(text) => Weight::parse(text),
            None => Some(Weight::default()),
        }
    }

    /// The weight that this text says; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Weight> {
        Weight::new(text.parse().ok()?)
    }
}

impl Default for Weight {
    fn default() -> Weight {
        Weight(1)
    }
}

/// Most bytes that the metadata of a member takes in a datagram: one for each key and value, and
/// what they hold.
pub const METADATA_BYTES_MAX: usize = 256;

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
    /// A group of which the member runs whatever shard is its.
    pub fn new(group: u64, count: u32) -> ShardGroup {
        ShardGroup { group, count, declined: Declined::default() }
    }
}

/// Most bytes that what a member declines takes in a datagram, all its groups together.
pub const DECLINED_BYTES_MAX: usize = 384;

/// Most ranges in which a member says what it declines of one group.
pub const DECLINED_RANGES_MAX: usize = 127;

/// Shards of one group that a member declines, in bounded space.
///
/// What fits is said exactly: up to 2,900 shards whichever they are, or more of them in up to
/// [`DECLINED_RANGES_MAX`] ranges. Otherwise whole blocks of shards are declined, which includes
/// shards that the member could run; it never leaves out one that it declines.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Declined {
    /// From the first up to and with the last of each pair, in their order, none of them empty.
    Ranges(Vec<(u32, u32)>),
    /// A bit for each block of `1 << shift` shards, the lowest bit of a byte first.
    Blocks {
        /// At most 16.
        shift: u8,
        /// At least one byte.
        bits: Vec<u8>,
    },
}

impl Default for Declined {
    fn default() -> Declined {
        Declined::Ranges(Vec::new())
    }
}

impl Declined {
    /// These shards of `count`, in at most `bytes_max` bytes, which are at least 4.
    pub fn of(shards: &BTreeSet<u32>, count: u32, bytes_max: usize) -> Declined {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for &index in shards {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == index => *last = index,
                _ => ranges.push((index, index)),
            }
        }
        let exact = Declined::Ranges(ranges);
        if exact.bytes() <= bytes_max && exact.ranges() <= DECLINED_RANGES_MAX {
            return exact;
        }
        let bytes_of = |shift: u8| (count.max(1).div_ceil(1 << shift) as usize).div_ceil(8);
        let shift = (0..16).find(|&shift| BLOCKS_HEAD_BYTES + bytes_of(shift) <= bytes_max).unwrap_or(16);
        let mut bits = vec![0; bytes_of(shift)];
        for &index in shards.range(..count) {
            let block = (index >> shift) as usize;
            bits[block / 8] |= 1 << (block % 8);
        }
        Declined::Blocks { shift, bits }
    }

    /// Whether this shard is declined.
    pub fn contains(&self, index: u32) -> bool {
        match self {
            Declined::Ranges(ranges) => {
                let after = ranges.partition_point(|(first, _)| *first <= index);
                after > 0 && ranges[after - 1].1 >= index
            }
            Declined::Blocks { shift, bits } => {
                let block = (index >> shift) as usize;
                bits.get(block / 8).is_some_and(|byte| byte & (1 << (block % 8)) != 0)
            }
        }
    }

    /// Whether no shard is declined.
    pub fn is_empty(&self) -> bool {
        match self {
            Declined::Ranges(ranges) => ranges.is_empty(),
            Declined::Blocks { bits, .. } => bits.iter().all(|byte| *byte == 0),
        }
    }

    /// How many of `count` shards are declined.
    pub fn len(&self, count: u32) -> u32 {
        (0..count).filter(|&index| self.contains(index)).count() as u32
    }

    /// Bytes that it takes in a datagram.
    pub fn bytes(&self) -> usize {
        let varint_bytes = |value: u32| (38 - (value | 1).leading_zeros() as usize) / 7;
        match self {
            Declined::Ranges(ranges) => {
                let starts = std::iter::once(0).chain(ranges.iter().map(|(_, last)| *last));
                let pairs = ranges.iter().zip(starts);
                1 + pairs
                    .map(|((first, last), from)| varint_bytes(first - from) + varint_bytes(last - first))
                    .sum::<usize>()
            }
            Declined::Blocks { bits, .. } => BLOCKS_HEAD_BYTES + bits.len(),
        }
    }

    fn ranges(&self) -> usize {
        match self {
            Declined::Ranges(ranges) => ranges.len(),
            Declined::Blocks { .. } => 0,
        }
    }
}

/// What goes before the bits of blocks in a datagram: a tag and a length.
const BLOCKS_HEAD_BYTES: usize = 3;

/// What a member says of itself. Its metadata may change while it runs, and its groups grow, under
/// a higher revision; all else stays the same for the life of a process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Profile {
    /// What people call it; 1 to [`NAME_BYTES_MAX`] bytes.
    pub name: Arc<str>,
    /// Where its datagrams go, and its streams.
    pub address: SocketAddr,
    /// What it is in the cluster for.
    pub role: Role,
    /// What fails together with it: a rack, a data centre. Empty if it says nothing; at most
    /// [`NAME_BYTES_MAX`] bytes.
    pub zone: Arc<str>,
    /// Whatever else it tells.
    pub metadata: Metadata,
    /// The sharded groups it supervises; at most [`GROUPS_MAX`].
    pub groups: Vec<ShardGroup>,
    /// Which of the things that this process has said of itself: 1 at its start, one more for each
    /// change, at most [`Profile::REVISION_MAX`]; 0 where all this is from a process before it.
    pub revision: u32,
}

impl Profile {
    /// The highest revision. A higher one is refused as it arrives, for the reason that
    /// [`Incarnation::PART_MAX`] gives.
    pub const REVISION_MAX: u32 = (1 << 31) - 1;
}

/// One node as another one sees it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Member {
    /// Hash of the name.
    pub id: NodeId,
    /// What it says of itself; shared, since a table is copied more often than it changes.
    #[serde(flatten)]
    pub profile: Arc<Profile>,
    /// Which start of its process this is.
    pub generation: Generation,
    /// How often it has refuted or returned in this generation.
    pub incarnation: Incarnation,
    /// What is held of it.
    pub status: Status,
}

impl Member {
    /// How much of the work it takes. What another release may say and this one does not understand
    /// counts as the default.
    pub fn weight(&self) -> Weight {
        Weight::said_in(&self.metadata).unwrap_or_default()
    }

    /// How many shards the group with this name hash has there; `None` if it does not supervise it.
    pub fn shards_of(&self, group: u64) -> Option<u32> {
        self.sharded(group).map(|sharded| sharded.count)
    }

    /// What it says of the group with this name hash, if it supervises it.
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

/// An IPv4 address as such, also where it is mapped into IPv6 (`::ffff:10.0.0.1`), as sockets for
/// both have it.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Bytes that `metadata` takes in a datagram.
pub fn metadata_bytes(metadata: &Metadata) -> usize {
    metadata.iter().map(|(key, value)| 2 + key.len() + value.len()).sum()
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
    /// The group everything else is in. Its children are started as they are taken on, and each
    /// counts its restarts for itself.
    pub const ROOT: GroupId = GroupId(0);
}

/// A place for a thread that runs workers: those below `workers.arbiters` are shared by all, the
/// others belong to whoever asked for one. A fresh thread takes the place of a lost one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub struct ThreadSlotId(pub u32);

/// Whatever a group can hold.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Child {
    /// A worker.
    Worker(WorkerId),
    /// Another group, with all that is in it.
    Group(GroupId),
}

/// Whatever is watched: the monitor treats all three alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Target {
    /// A node of the cluster.
    Node(NodeId),
    /// A thread of this process that runs workers.
    Arbiter(ArbiterId),
    /// A worker of this process.
    Worker(WorkerId),
}

/// Which part of a sharded group of workers one worker is, and by which right.
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

/// What a worker is doing, or was doing when it failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// Its factory makes it.
    Factory,
    /// Its `started` runs.
    Started,
    /// It handles a message of this type.
    Message(&'static str),
    /// A timer of its own fires; the type names it.
    Timer(&'static str),
    /// A future or stream it spawned, or waits for, is polled; the type names it.
    Future(&'static str),
    /// Its `stopping` or `stopped` runs.
    Stopping,
    /// Its value is dropped.
    Drop,
}

impl Activity {
    /// Whether it is still on its way to being up, when only the start timeout counts.
    pub fn is_start(self) -> bool {
        match self {
            Activity::Factory | Activity::Started => true,
            Activity::Message(_) | Activity::Timer(_) | Activity::Future(_) | Activity::Stopping | Activity::Drop => {
                false
            }
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Activity::Factory => f.write_str("its factory"),
            Activity::Started => f.write_str("started"),
            Activity::Message(name) => f.write_str(name),
            Activity::Timer(name) => write!(f, "a timer ({name})"),
            Activity::Future(name) => write!(f, "a future ({name})"),
            Activity::Stopping => f.write_str("stopping"),
            Activity::Drop => f.write_str("its drop"),
        }
    }
}

/// A worker at work, as its status cell shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorkerActivity {
    /// Which worker.
    pub worker: WorkerId,
    /// What it does.
    pub doing: Activity,
    /// When it took that up, or last said that it makes progress with it.
    pub since: Instant,
}

/// How a worker says that it is; what it does not say is [`Health::Ok`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// All is well.
    #[default]
    Ok,
    /// It lives but cannot serve now: requests should go elsewhere. Not a failure.
    NotReady,
    /// It cannot go on and wants to be replaced.
    Failed,
}

/// What a look at the status cell of a worker showed; only workers of which there is something to
/// say are reported.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatusSample {
    /// Which worker.
    pub worker: WorkerId,
    /// The generation that was looked at.
    pub generation: Generation,
    /// Whether it waits for a future before it takes up the next message.
    pub is_waiting: bool,
    /// Messages that wait in its queue.
    pub queued: u32,
    /// Whether its queue is over the mark at which requests should go elsewhere.
    pub is_overloaded: bool,
    /// Messages handled and progress reported so far; any change is a sign of life.
    pub progress: u64,
    /// How it says that it is.
    pub health: Health,
}

/// What the operating system says of a thread since it was made. On Linux: `schedstat` and the
/// state in `stat` (proc(5)).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuTimes {
    /// Time it ran.
    pub ran: Duration,
    /// Time it could have run but waited for a CPU.
    pub waited: Duration,
}

/// What a thread is doing at this instant, as the operating system sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ThreadState {
    /// It runs, or waits for a CPU.
    Runnable,
    /// It sleeps in a call.
    Sleeping,
    /// It was stopped by a signal or a debugger.
    Stopped,
}

/// A look at a thread from outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThreadSample {
    /// What it is doing.
    pub state: ThreadState,
    /// What it has used so far.
    pub times: CpuTimes,
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
    fn after_the_last_word_comes_the_next_life_and_after_that_none() {
        let end = Incarnation::PART_MAX;
        let at = |life, word| Incarnation { life, word };
        assert_eq!(at(3, 4).refuted(), Some(at(3, 5)));
        assert_eq!(at(3, 4).returned(), Some(at(4, 0)));
        assert_eq!(at(3, end).refuted(), Some(at(4, 0)));
        assert_eq!((at(end, 4).refuted(), at(end, 4).returned()), (Some(at(end, 5)), None));
        assert_eq!(at(end, end).refuted(), None);
    }

    #[test]
    fn what_is_declined_is_said_exactly_where_it_fits_and_never_less() {
        let mut random = crate::Random::seeded(7);
        for round in 0..200 {
            let count = 1 + random.below(if round % 2 == 0 { 3_000 } else { u64::from(SHARDS_MAX) }) as u32;
            let share = random.unit();
            let shards: BTreeSet<u32> = (0..count.min(4_000)).filter(|_| random.chance(share)).collect();
            let bytes_max = if round % 3 == 0 { 24 } else { DECLINED_BYTES_MAX };
            let declined = Declined::of(&shards, count, bytes_max);
            assert!(declined.bytes() <= bytes_max && declined.ranges() <= DECLINED_RANGES_MAX, "round {round}");
            assert!(shards.iter().all(|&index| declined.contains(index)), "round {round}");
            assert_eq!(declined.is_empty(), shards.is_empty());
            if count <= 3_000 && bytes_max == DECLINED_BYTES_MAX {
                assert_eq!(declined.len(count) as usize, shards.len(), "round {round}");
            }
        }
        let all = Declined::of(&(0..SHARDS_MAX).collect(), SHARDS_MAX, 8);
        assert_eq!(all, Declined::Ranges(vec![(0, SHARDS_MAX - 1)]));
    }

    #[test]
    fn the_dead_and_the_departed_own_nothing() {
        assert!(Status::Alive.is_member() && Status::Suspect.is_member());
        assert!(!Status::Dead.is_member() && !Status::Left.is_member());
    }
}
