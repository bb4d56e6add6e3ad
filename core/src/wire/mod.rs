//! `Datagram`: a message between nodes, in one bounded datagram or one frame of a stream.
//!
//! The code for each field is written by hand. A serde codec of the same layout was measured beside
//! it (`docs/src/benchmarks.md`, "wire"), and is slower. Decoding into borrowed views also
//! allocates nothing, which a codec that makes `Vec`s of members cannot promise.
//!
//! Layout, versions 3 and 4. Numbers are LEB128 varints unless a width is given; fixed widths are
//! little-endian.
//!
//! ```text
//! "HB"  version u8  kind u8  cluster u32  from u64  generation  clock
//!  0 heartbeat   incarnation  stage  interval(us)  slept  health u8  flags u8
//!                count u8, count x observer u32
//!  1 ack         stage  health u8
//!  2 probe       number u32
//!  3 echo        number u32  incarnation  flags u8
//!  4 inquire     number u32  target u64  generation  stage  flags u8
//!  5 evidence    number u32  target u64  generation  stage  silence(us)  flags u8  health u8
//!  6 release     (nothing)
//!  7 join        token u64  row
//!  8 challenge   token u64
//!  9 introduce   (nothing)
//! 10 sync        64 x digest u32
//! 11 rows        differing u64  flags u8
//! 12 gossip      (nothing)
//! 13 hello       (nothing)
//! 14 poll        number u32
//! 15 vote        number u32
//! 16 ask         number u32  group u64  count u8 (at most 128)  count x index
//! 17 part        number u32  group u64  index  epoch  sequence  version  total  offset
//!                length u16  bytes
//! 18 kept        parts u32  flags u8
//! 19 refused     reason u8  value
//! rumours        count u8, count x (row or note), at the end of each datagram; from version 4 on
//!                parts may follow
//! note           tag u8 (status 0..3)  id u64  generation  incarnation  revision
//! row            tag u8 (status 0..3, bit 2 set, bit 3 role)  id u64  generation  incarnation
//!                revision  address  name  zone  pairs u8, pairs x (key  value)
//!                groups u8, groups x (group u64  count  declined)
//!                from version 4 on: length u8 (at most 128), parts
//! part           type u8 (over the one before)  length u8  bytes
//!                in a row: 1 wire versions (min u8  max u8)
//!                behind the rumours of an ack or a heartbeat: 2 summary (see `LinkSummary`)
//! declined       ranges u8 (0 to 127), ranges x (gap  length - 1),
//!                or 128 + shift u8 (128 to 144)  length u16  bits
//! incarnation    returns  refutations
//! address        family u8 (4 or 6)  4 or 16 bytes  port u16
//! name, zone, key, value    length u8  UTF-8
//! ```
//!
//! Nothing follows the last field in version 3; a longer datagram is refused. A node refuses a
//! message as a whole if it does not know all of it: to act on half of a message would be worse
//! than silence. From version 4 on, three things are skipped that a node does not know, since a
//! later release adds only what an earlier one can do without: bits of flags, parts, and kinds.
//! Parts may also follow the last rumour. A release that adds what cannot be skipped raises the
//! version.

mod decode;
mod encode;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

pub use decode::{Start, decode, decode_start};
pub(crate) use encode::{challenge_bytes, encode_row, introduction_bytes};
pub use encode::{encode, encode_in, encode_join, encode_sync, push_rumour, push_summary};

use crate::member::{
    Epoch, Generation, Incarnation, Member, Metadata, NodeId, ProcessId, Profile, Role, Status, WEIGHT_KEY, WIRE_KEY,
    Weight, WireVersions,
};

/// The lowest version of the format that this release can use.
pub const VERSION_MIN: u8 = 3;

/// The highest version of the format that this release can use.
pub const VERSION_MAX: u8 = 4;

/// The version from which on unknown kinds, flags and parts of an extension are skipped.
pub(crate) const VERSION_EXTENSIBLE: u8 = 4;

/// Longest datagram sent or accepted, in bytes: IPv6's smallest MTU of 1,280, less 40 + 8 bytes of
/// headers and 32, of which a seal takes [`SEAL_BYTES`].
pub const DATAGRAM_BYTES_MAX: usize = 1_200;

/// Most observers named in a heartbeat.
pub const OBSERVERS_MAX: usize = 16;

/// Stages in one interval.
pub const STAGES: u64 = 16;

/// Parts of a table that are compared by their digests.
pub const BUCKETS: usize = 64;

/// Longest announced interval; a longer one in a datagram is refused.
pub const INTERVAL_MAX: Duration = Duration::from_secs(3_600);

/// Highest stage of a heartbeat: 557 years of one slot a millisecond. A higher one in a datagram is
/// refused.
pub const STAGE_MAX: u64 = (1 << 48) - 1;

/// Highest generation and highest clock, in milliseconds: 285,000 years. A higher one in a datagram
/// is refused.
pub const TIME_MAX: u64 = (1 << 53) - 1;

/// Highest epoch in a datagram. A higher one is refused.
pub const EPOCH_MAX: u64 = (1 << 63) - 1;

/// Highest sequence of a snapshot: 8,900 years of one a millisecond. A higher one in a datagram is
/// refused.
pub const SEQUENCE_MAX: u64 = (1 << 48) - 1;

/// Longest reported silence of a target, 71 minutes. A longer silence is reported as this; a higher
/// value in a datagram is refused.
pub const SILENCE_MAX: Duration = Duration::from_micros(u32::MAX as u64);

/// Shards asked for in one datagram, at most.
pub const ASKED_MAX: usize = 128;

/// Bytes of a snapshot in one part, at most.
pub const PART_BYTES_MAX: usize = 1_024;

/// Bytes of IPv4 and UDP headers around each datagram.
pub const HEADERS_BYTES: usize = 28;

/// Size of a heartbeat without its observers (four bytes each), an hour after the start at the
/// default interval.
pub const HEARTBEAT_BYTES_TYPICAL: usize = 39;

/// Size of an acknowledgement at the same time.
pub const ACK_BYTES_TYPICAL: usize = 31;

/// Declined shards in blocks begin with this plus the shift; those in ranges begin with a lower
/// value, the number of ranges.
pub(crate) const BLOCKS_TAG: u8 = 128;

/// Most bytes of the extension of a row: the largest row still fits a datagram with it.
pub const EXTENSION_BYTES_MAX: usize = 128;

/// The type of the part of a row's extension that holds its [`WireVersions`].
pub(crate) const VERSIONS_PART: u8 = 1;

/// The type of the part behind the rumours that holds what observers have learnt of a node.
pub(crate) const SUMMARY_PART: u8 = 2;

/// Most bytes of the pairs of a row: a member's own metadata and the pair of [`WIRE_KEY`].
pub(crate) const PAIRS_BYTES_MAX: usize = 256;

pub(crate) const MAGIC: [u8; 2] = *b"HB";

pub(crate) const PROBE_KIND: u8 = 2;

pub(crate) const JOIN_KIND: u8 = 7;

pub(crate) const CHALLENGE_KIND: u8 = 8;

pub(crate) const INTRODUCE_KIND: u8 = 9;

/// The first bytes of a sealed datagram.
pub const SEALED_MAGIC: [u8; 2] = *b"HS";

/// By how much a seal makes a datagram longer, in bytes: two for the key, six for the counter, and
/// a tag of 16.
pub const SEAL_BYTES: usize = 24;

/// The sender, its cluster, and the start of its process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The lower half of the hash of the cluster's name.
    pub cluster: u32,
    /// The sender.
    pub from: NodeId,
    /// Which start of the sender's process.
    pub generation: Generation,
    /// The sender's logical clock, in milliseconds since its generation, modulo 2^64: a clock may
    /// be behind the generation. At most [`TIME_MAX`] in all: see [`crate::engine`].
    pub clock: u64,
}

impl Header {
    /// The process that sent it.
    pub fn sender(&self) -> ProcessId {
        ProcessId { node: self.from, generation: self.generation }
    }
}

/// One datagram, borrowed from the bytes it came in.
#[derive(Clone, PartialEq, Debug)]
pub struct Datagram<'a> {
    /// The sender.
    pub header: Header,
    /// The message.
    pub body: Body<'a>,
    /// News of members, at the end of each datagram.
    pub rumours: Rumours<'a>,
    /// What observers have learnt: of the receiver in an ack, of the sender in a heartbeat. The
    /// bytes of a `LinkSummary`, if the datagram has that part.
    /// They have no meaning in other kinds.
    pub summary: Option<&'a [u8]>,
}

/// The message of a datagram, by its kind.
#[derive(Clone, PartialEq, Debug)]
pub enum Body<'a> {
    /// The periodic sign of life, to an observer.
    Heartbeat(Heartbeat),
    /// The answer to a heartbeat that asks for one.
    Ack(Ack),
    /// "Are you there?"
    Probe {
        /// Comes back in the echo.
        number: u32,
    },
    /// "I am."
    Echo(Echo),
    /// "Have you received a heartbeat of it?", to another observer of the target, or to another
    /// member.
    IndirectProbe(IndirectProbe),
    /// The answer.
    ProbeReport(ProbeReport),
    /// "You are no longer my observer."
    Release,
    /// "I want to be a member."
    Join(Join<'a>),
    /// "Say that again with this token": proves that the asker receives at the address it sends
    /// from. No longer than what it answers.
    Challenge {
        /// To be repeated.
        token: u64,
    },
    /// "I do not know you; join through me." Sent only if it is no longer than what it answers.
    Introduce,
    /// "Is your table the same as mine?"
    Sync(Box<Digests>),
    /// What differs, as rumours.
    Rows(Rows),
    /// Nothing but rumours.
    Gossip,
    /// The first frame of a lifeline.
    Hello,
    /// "Do you receive this, and am I a member to you?"
    Poll {
        /// Its number.
        number: u32,
    },
    /// The answer to a poll.
    Vote {
        /// The number of the poll.
        number: u32,
    },
    /// "I own these shards; answer once they no longer run on you."
    Ask {
        /// Comes back in the parts that answer it; not zero.
        number: u32,
        /// Hash of the group's name.
        group: u64,
        /// Which of its shards, at most [`ASKED_MAX`].
        indexes: std::borrow::Cow<'a, [u32]>,
    },
    /// A part of a shard's snapshot.
    Part(Part<'a>),
    /// How many parts have arrived on this stream.
    Kept {
        /// Parts received.
        parts: u32,
        /// Whether the snapshot that ended with the last of them was refused for its size.
        refused: bool,
    },
    /// "You are not admitted": the answer to a join whose token is right.
    Refused(Refused),
}

/// A part of a shard's snapshot, in a frame of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part<'a> {
    /// The number of the ask that this answers; zero if there was none.
    pub number: u32,
    /// Hash of the group's name.
    pub group: u64,
    /// Which of its shards.
    pub index: u32,
    /// Under which epoch the snapshot was made.
    pub epoch: Epoch,
    /// How many were made under it, this one included, at most [`SEQUENCE_MAX`]; zero if there is
    /// no snapshot.
    pub sequence: u64,
    /// The version of its format, by the application's own count.
    pub version: u32,
    /// Bytes of the whole.
    pub total: u32,
    /// Where in the whole this part begins.
    pub offset: u32,
    /// At most [`PART_BYTES_MAX`].
    pub bytes: &'a [u8],
}

/// The periodic sign of life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// The number of the schedule slot times [`STAGES`], plus the part of the slot in which this
    /// observer has its turn. Of two heartbeats of one sender, also to different observers, the one
    /// with the higher stage was sent later. Missing slots were lost or slept through. At most
    /// [`STAGE_MAX`].
    pub stage: u64,
    /// Time to the next one, in whole microseconds, over zero to [`INTERVAL_MAX`].
    pub interval: Duration,
    /// Slots that the sender slept through since it started, by its own count.
    pub slept: u64,
    /// The sender's local health: 0 is well.
    pub health: u8,
    /// Whether it asks for an [`Ack`].
    pub asks: bool,
    /// Who watches the sender, the receiver included.
    pub observers: Observers,
}

/// The answer to a heartbeat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack {
    /// The stage of the heartbeat that it answers.
    pub stage: u64,
    /// The observer's local health.
    pub health: u8,
}

/// The answer to a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Echo {
    /// Of the probe.
    pub number: u32,
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// Whether the asker is one of the sender's observers.
    pub is_observer: bool,
}

/// "Have you received a heartbeat of it?"
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndirectProbe {
    /// Comes back in the evidence.
    pub number: u32,
    /// Of whom.
    pub target: NodeId,
    /// In which start of its process.
    pub generation: Generation,
    /// The stage that the asker lacks; 0 asks whether the target ever answered.
    pub stage: u64,
    /// Whether the asker found no process at its address.
    pub gone: bool,
    /// Whether it asks about a death rather than a suspicion: then the length of the silence
    /// counts.
    pub death: bool,
}

/// What one observer knows of a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbeReport {
    /// Of the inquiry.
    pub number: u32,
    /// Of whom.
    pub target: NodeId,
    /// In which start of its process.
    pub generation: Generation,
    /// The newest stage that it has received; zero if it does not watch the target.
    pub stage: u64,
    /// How long the target has been silent to it, in whole microseconds, at most [`SILENCE_MAX`].
    pub silence: Duration,
    /// Whether the target answered it just now, or it has received the stage in question or a later
    /// one.
    pub reached: bool,
    /// Whether it found no process at the target's address.
    pub gone: bool,
    /// Whether it agrees that the target is dead.
    pub agrees: bool,
    /// Its local health.
    pub health: u8,
}

/// "I want to be a member."
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Join<'a> {
    /// The token of the challenge; zero at first.
    pub token: u64,
    /// What the sender says of itself.
    pub row: Row<'a>,
}

/// Why a node is not admitted; [`Refusal`](crate::membership::table::Refusal) has the reasons.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// Which reason; a later release may know more of them.
    pub reason: u8,
    /// The number that belongs to it: the bound of a full table, the generation of another process;
    /// else 0.
    pub value: u64,
}

/// Digests of the parts of a table, by the upper six bits of the ids.
pub type Digests = [u32; BUCKETS];

/// What differs between two tables; the rows themselves are the rumours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rows {
    /// Parts of the table that differ, one bit each; zero in the reply.
    pub differing: u64,
    /// Whether rows were left out for lack of room.
    pub more: bool,
    /// Whether the receiver was admitted by this.
    pub welcome: bool,
    /// Whether the table of the sender is whole.
    pub whole: bool,
}

/// Up to [`OBSERVERS_MAX`] short ids, without a heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Observers {
    /// Only the first `count` are meant.
    ids: [u32; OBSERVERS_MAX],
    count: u8,
}

/// News of one member: with its profile, or its status and numbers alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row<'a> {
    /// Hash of the name.
    pub id: NodeId,
    /// Its status in the sender's table.
    pub status: Status,
    /// Which start of its process.
    pub generation: Generation,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// The revision of its profile.
    pub revision: u32,
    /// Its profile; none in a note, which is for receivers that have it.
    pub details: Option<Details<'a>>,
}

/// What a member says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Details<'a> {
    /// What it is in the cluster for.
    pub role: Role,
    /// Where its datagrams go.
    pub address: SocketAddr,
    /// Its name.
    pub name: &'a str,
    /// What fails together with it.
    pub zone: &'a str,
    pub(crate) pairs: Pairs<'a>,
    pub(crate) groups: Groups<'a>,
    pub(crate) extension: Extension<'a>,
}

/// Keys and values, already found to be well-formed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Pairs<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) count: u8,
}

/// Sharded groups, already found to be well-formed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Groups<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) count: u8,
}

/// The extension of a row, already found to be well-formed; empty in version 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Extension<'a> {
    /// All parts, in their order.
    pub(crate) bytes: &'a [u8],
    /// What the part [`VERSIONS_PART`] says, if there is one.
    pub(crate) versions: Option<WireVersions>,
    /// The parts behind it, which this release does not know.
    pub(crate) unknown: &'a [u8],
}

/// The rumours of a datagram, each already found to be well-formed.
#[derive(Clone, PartialEq, Debug)]
pub struct Rumours<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) count: u8,
    /// The version of the datagram.
    pub(crate) version: u8,
}

impl Default for Rumours<'_> {
    fn default() -> Self {
        Rumours { bytes: &[], count: 0, version: VERSION_MIN }
    }
}

/// Why a datagram was refused. It is counted and dropped; no state was touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DecodeError {
    /// It does not begin like one of ours.
    NotOurs,
    /// A version of the format that this release does not know.
    Version(u8),
    /// A kind that this release does not know, in a version that may have such kinds.
    UnknownKind(u8),
    /// Longer than [`DATAGRAM_BYTES_MAX`]; its length.
    Oversized(usize),
    /// It ends within a field.
    Truncated,
    /// Bytes follow the last field; how many.
    Trailing(usize),
    /// A field holds what it may not; which.
    Field(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::NotOurs => f.write_str("not a heartbeat datagram"),
            DecodeError::Version(version) => {
                write!(f, "wire version {version}; this release uses {VERSION_MIN} to {VERSION_MAX}")
            }
            DecodeError::UnknownKind(kind) => write!(f, "kind {kind} is not known to this release"),
            DecodeError::Oversized(length) => write!(f, "{length} bytes are too many; at most {DATAGRAM_BYTES_MAX}"),
            DecodeError::Truncated => f.write_str("ends within a field"),
            DecodeError::Trailing(count) => write!(f, "{count} bytes follow the last field"),
            DecodeError::Field(name) => write!(f, "field {name} holds what it may not"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl Observers {
    /// The first [`OBSERVERS_MAX`] of `ids`.
    pub fn new(ids: impl IntoIterator<Item = NodeId>) -> Observers {
        let mut observers = Observers::default();
        for id in ids.into_iter().take(OBSERVERS_MAX) {
            observers.ids[usize::from(observers.count)] = id.short();
            observers.count += 1;
        }
        observers
    }

    /// The upper halves of the ids, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.ids[..usize::from(self.count)].iter().copied()
    }

    /// Whether this node is one of them.
    pub fn contains(&self, id: NodeId) -> bool {
        self.iter().any(|short| short == id.short())
    }
}

impl Details<'_> {
    /// The metadata, in a map of its own.
    pub fn metadata(&self) -> Metadata {
        let own = self.pairs.iter().filter(|(key, _)| *key != WIRE_KEY);
        own.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    /// The versions of the wire format that the member can use. A text that is no range counts as
    /// none: it may be the metadata of a member whose release knows version 3 alone.
    pub fn wire_versions(&self) -> WireVersions {
        let in_pairs = || self.pairs.iter().find(|(key, _)| *key == WIRE_KEY);
        let of_pair = || in_pairs().and_then(|(_, text)| WireVersions::parse(text));
        self.extension.versions.or_else(of_pair).unwrap_or(WireVersions::UNPUBLISHED)
    }

    /// How much of the work the member takes, as [`Member::weight`](crate::Member::weight) has it.
    pub fn weight(&self) -> Weight {
        let said = self.pairs.iter().filter(|(key, _)| *key == WEIGHT_KEY).last();
        said.map_or(Some(Weight::default()), |(_, text)| Weight::parse(text)).unwrap_or_default()
    }

    /// Whether this is of a process that began like `other`: with its address, its role and its
    /// weight.
    pub(crate) fn begins_like(&self, other: &Member) -> bool {
        (self.role, self.address, self.weight()) == (other.role, other.address, other.weight())
    }

    /// All of it, in an allocation of its own, under this revision.
    pub fn profile(&self, revision: u32) -> Profile {
        Profile {
            name: self.name.into(),
            address: self.address,
            role: self.role,
            zone: self.zone.into(),
            metadata: self.metadata(),
            groups: self.groups.iter().collect(),
            wire_versions: self.wire_versions(),
            extension: self.extension.unknown.into(),
            revision,
        }
    }
}

impl Datagram<'_> {
    /// The version of the format that it is written in.
    pub fn version(&self) -> u8 {
        self.rumours.version
    }
}

impl Rumours<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::member::{DECLINED_BYTES_MAX, Declined, GROUPS_MAX, SHARDS_MAX, ShardGroup, name_hash};

    fn header() -> Header {
        let (cluster, from) = (name_hash("orders") as u32, NodeId::of("node-1"));
        Header { cluster, from, generation: Generation(1_795_000_000_000), clock: 3_600_000 }
    }

    fn heartbeat() -> Heartbeat {
        Heartbeat {
            incarnation: Incarnation::default(),
            stage: 3_600 * STAGES + 3,
            interval: Duration::from_secs(1),
            slept: 0,
            health: 0,
            asks: true,
            observers: Observers::default(),
        }
    }

    fn member(name: &str, status: Status) -> Member {
        let profile = Profile {
            name: name.into(),
            address: "[::1]:9".parse().unwrap(),
            role: Role::Monitor,
            zone: "rack-4".into(),
            metadata: [("http".to_owned(), "8080".to_owned())].into(),
            groups: vec![
                ShardGroup {
                    declined: Declined::Ranges(vec![(3, 3), (63, 63)]),
                    ..ShardGroup::new(name_hash("orders"), 64)
                },
                ShardGroup {
                    declined: Declined::Blocks { shift: 14, bits: vec![5] },
                    ..ShardGroup::new(7, SHARDS_MAX)
                },
            ],
            wire_versions: WireVersions { min: VERSION_MIN, max: VERSION_MAX },
            extension: Arc::default(),
            revision: 300,
        };
        let incarnation = Incarnation { returns: 1, refutations: Incarnation::PART_MAX };
        let (id, generation) = (NodeId::of(name), Generation(TIME_MAX));
        Member { id, profile: Arc::new(profile), generation, incarnation, status }
    }

    /// One body of each kind but the join.
    fn bodies() -> Vec<Body<'static>> {
        let (number, target, generation) = (7, NodeId(8), Generation(9));
        let silence = Duration::from_millis(1_250);
        let incarnation = Incarnation { returns: 3, refutations: 4 };
        vec![
            Body::Heartbeat(heartbeat()),
            Body::Heartbeat(Heartbeat { observers: Observers::new((0..16).map(|n| NodeId(n << 32))), ..heartbeat() }),
            Body::Ack(Ack { stage: 57_603, health: 2 }),
            Body::Probe { number },
            Body::Echo(Echo { number, incarnation, is_observer: true }),
            Body::IndirectProbe(IndirectProbe { number, target, generation, stage: 5, gone: true, death: false }),
            Body::ProbeReport(ProbeReport {
                number,
                target,
                generation,
                stage: 5,
                silence,
                reached: false,
                gone: true,
                agrees: true,
                health: 1,
            }),
            Body::Release,
            Body::Challenge { token: u64::MAX },
            Body::Introduce,
            Body::Sync(Box::new(std::array::from_fn(|n| n as u32))),
            Body::Rows(Rows { differing: 5, more: true, welcome: false, whole: true }),
            Body::Gossip,
            Body::Hello,
            Body::Poll { number },
            Body::Vote { number },
            Body::Ask { number, group: 7, indexes: vec![0, 300, SHARDS_MAX - 1].into() },
            Body::Part(Part {
                number,
                group: 7,
                index: 300,
                epoch: Epoch(EPOCH_MAX),
                sequence: 1,
                version: 2,
                total: 5,
                offset: 2,
                bytes: b"abc",
            }),
            Body::Kept { parts: 70_000, refused: true },
            Body::Refused(Refused { reason: 2, value: 1_000 }),
        ]
    }

    /// One datagram of each kind, and some with rumours.
    fn samples() -> Vec<Vec<u8>> {
        let mut samples: Vec<Vec<u8>> = Vec::new();
        let versions = [VERSION_MIN, VERSION_MAX];
        for (version, body) in
            versions.into_iter().flat_map(|version| bodies().into_iter().map(move |body| (version, body)))
        {
            let mut buffer = Vec::new();
            encode_in(version, &mut buffer, header(), &body);
            samples.push(buffer.clone());
            let count_at = buffer.len() - 1;
            assert!(push_rumour(&mut buffer, count_at, &member("a", Status::Alive), true));
            assert!(push_rumour(&mut buffer, count_at, &member("b", Status::Dead), false));
            samples.push(buffer);
        }
        let mut join = Vec::new();
        encode_join(&mut join, header(), 5, &member("ü", Status::Alive));
        samples.push(join);
        samples
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: DecodeError) {
        assert_eq!(decode(bytes), Err(expected));
    }

    #[test]
    fn what_is_written_is_read() {
        let versions = [VERSION_MIN, VERSION_MAX];
        for (version, body) in
            versions.into_iter().flat_map(|version| bodies().into_iter().map(move |body| (version, body)))
        {
            let mut buffer = Vec::new();
            encode_in(version, &mut buffer, header(), &body);
            let count_at = buffer.len() - 1;
            let members = [member("a", Status::Left), member(&"ü".repeat(32), Status::Suspect)];
            assert!(push_rumour(&mut buffer, count_at, &members[0], true));
            assert!(push_rumour(&mut buffer, count_at, &members[1], false));
            let datagram = decode(&buffer).unwrap();
            assert_eq!((datagram.version(), datagram.header, &datagram.body), (version, header(), &body));
            let rows: Vec<Row<'_>> = datagram.rumours.iter().collect();
            assert_eq!((rows.len(), rows[0].details.unwrap().profile(300)), (2, (*members[0].profile).clone()));
            assert_eq!((rows[0].revision, rows[1].revision), (300, 300));
            assert_eq!((rows[1].id, rows[1].status, rows[1].details), (members[1].id, Status::Suspect, None));
            assert_eq!(rows[1].incarnation, members[1].incarnation);
        }
    }

    #[test]
    fn a_join_is_read_and_written_again_alike() {
        let mut buffer = Vec::new();
        encode_join(&mut buffer, header(), 5, &member("a", Status::Alive));
        let datagram = decode(&buffer).unwrap();
        let mut again = Vec::new();
        encode(&mut again, datagram.header, &datagram.body);
        assert_eq!(again, buffer);
    }

    /// A datagram of the highest version with one row, and where the row's extension begins.
    fn extended(member: &Member) -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        encode_in(VERSION_MAX, &mut bytes, header(), &Body::Gossip);
        let count_at = bytes.len() - 1;
        assert!(push_rumour(&mut bytes, count_at, member, true));
        let extension_at = bytes.len() - 5 - member.extension.len();
        (bytes, extension_at)
    }

    #[test]
    fn unknown_parts_of_a_row_are_passed_on_unchanged() {
        let (known, at) = extended(&member("a", Status::Alive));
        assert_eq!(known[at..], [4, 1, 2, VERSION_MIN, VERSION_MAX]);
        let mut later = known.clone();
        later.extend_from_slice(&[7, 3, 1, 2, 3, 200, 0]);
        later[at] += 7;
        let datagram = decode(&later).unwrap();
        let row = datagram.rumours.iter().next().unwrap();
        let profile = row.details.unwrap().profile(row.revision);
        assert_eq!(*profile.extension, [7, 3, 1, 2, 3, 200, 0]);
        let member = Member { profile: Arc::new(profile), ..member("a", Status::Alive) };
        assert_eq!(extended(&member).0, later);
        let mut again = Vec::new();
        encode_row(&mut again, header(), &row);
        assert_eq!(again, later);
    }

    #[test]
    fn extensions_that_break_a_rule_are_refused() {
        let (known, at) = extended(&member("a", Status::Alive));
        let with = |extension: &[u8]| [&known[..at], &[extension.len() as u8], extension].concat();
        for good in [&[][..], &[2, 0], &[1, 2, 3, 3], &[1, 2, 1, 255, 255, 1, 0]] {
            assert!(decode(&with(good)).is_ok(), "{good:?}");
        }
        for (bad, field) in [
            (&[0, 0][..], "extension"),
            (&[2, 0, 2, 0], "extension"),
            (&[2, 0, 1, 2, 3, 4], "extension"),
            (&[1, 2, 4, 3], "versions"),
            (&[1, 2, 0, 3], "versions"),
            (&[1, 3, 3, 4, 5], "versions"),
            (&[5; 129], "extension"),
        ] {
            check(&with(bad), DecodeError::Field(field));
        }
        check(&with(&[2, 5, 0]), DecodeError::Truncated);
    }

    #[test]
    fn from_version_4_on_unknown_flags_kinds_and_parts_are_skipped() {
        for (body, from_end) in [
            (Body::Echo(Echo { number: 7, incarnation: Incarnation::default(), is_observer: true }), 2),
            (Body::Rows(Rows { differing: 5, more: true, welcome: false, whole: true }), 2),
            (Body::Heartbeat(heartbeat()), 3),
        ] {
            for version in [VERSION_MIN, VERSION_MAX] {
                let mut bytes = Vec::new();
                encode_in(version, &mut bytes, header(), &body);
                let flags_at = bytes.len() - from_end;
                bytes[flags_at] |= 0xf0;
                match version {
                    VERSION_MIN => check(&bytes, DecodeError::Field("flags")),
                    _ => assert_eq!(decode(&bytes).unwrap().body, body),
                }
            }
        }
        let (mut bytes, _) = extended(&member("a", Status::Dead));
        let whole = decode(&bytes.clone()).map(|datagram| datagram.rumours.iter().count());
        let mut encoded = Vec::new();
        encode(&mut encoded, header(), &Body::Gossip);
        bytes[encoded.len()] |= 0xf0;
        assert_eq!(decode(&bytes).map(|datagram| datagram.rumours.iter().count()), whole);
        bytes.extend_from_slice(&[9, 2, 1, 1]);
        assert_eq!(decode(&bytes).map(|datagram| datagram.rumours.iter().count()), whole);
        bytes.push(9);
        check(&bytes, DecodeError::Truncated);
        bytes[3] = 20;
        check(&bytes, DecodeError::UnknownKind(20));
        bytes[2] = VERSION_MIN;
        check(&bytes, DecodeError::Field("kind"));
    }

    #[test]
    fn a_row_of_version_3_carries_the_range_as_a_pair() {
        let mut bytes = Vec::new();
        encode_join(&mut bytes, header(), 5, &member("a", Status::Alive));
        let Body::Join(join) = decode(&bytes).unwrap().body else { panic!("no join") };
        let details = join.row.details.unwrap();
        assert_eq!(details.pairs.iter().collect::<Vec<_>>(), [("http", "8080"), (WIRE_KEY, "3-4")]);
        assert_eq!(details.metadata().len(), 1, "it is no metadata of the member");
        assert_eq!(details.wire_versions(), WireVersions { min: VERSION_MIN, max: VERSION_MAX });
        let mut old = member("a", Status::Alive);
        Arc::make_mut(&mut old.profile).wire_versions = WireVersions::UNPUBLISHED;
        encode_join(&mut bytes, header(), 5, &old);
        let Body::Join(join) = decode(&bytes).unwrap().body else { panic!("no join") };
        assert_eq!(join.row.details.unwrap().pairs.iter().collect::<Vec<_>>(), [("http", "8080")]);
        assert_eq!(join.row.details.unwrap().wire_versions(), WireVersions::UNPUBLISHED);
    }

    #[test]
    fn a_heartbeat_is_no_longer_in_a_later_version() {
        let mut lengths = Vec::new();
        for version in VERSION_MIN..=VERSION_MAX {
            let mut bytes = Vec::new();
            encode_in(version, &mut bytes, header(), &Body::Heartbeat(heartbeat()));
            lengths.push(bytes.len());
        }
        assert_eq!(lengths, [HEARTBEAT_BYTES_TYPICAL; 2]);
    }

    #[test]
    fn a_summary_travels_behind_the_rumours_from_version_4_on() {
        let body = Body::Ack(Ack { stage: 57_603, health: 2 });
        for (version, expected) in [(VERSION_MIN, None), (VERSION_MAX, Some(&[7, 8, 9][..]))] {
            let mut bytes = Vec::new();
            encode_in(version, &mut bytes, header(), &body);
            let count_at = bytes.len() - 1;
            assert!(push_rumour(&mut bytes, count_at, &member("a", Status::Alive), true));
            let before = bytes.len();
            assert_eq!(push_summary(&mut bytes, &[7, 8, 9]), expected.is_some());
            let datagram = decode(&bytes).unwrap();
            assert_eq!((datagram.summary, datagram.rumours.len()), (expected, 1));
            assert_eq!(bytes.len() - before, if expected.is_some() { 5 } else { 0 });
        }
        let mut full = Vec::new();
        encode_in(VERSION_MAX, &mut full, header(), &body);
        let length = full.len();
        full.resize(DATAGRAM_BYTES_MAX - 4, 0);
        assert!(!push_summary(&mut full, &[7, 8, 9]), "there is no room");
        full.truncate(length);
        full.extend_from_slice(&[1, 1, 5, 2, 0, 9, 1, 1]);
        assert_eq!(decode(&full).unwrap().summary, Some(&[][..]), "between parts that are not known");
    }

    /// The book shows these bytes.
    #[test]
    fn the_layout_never_changes_within_a_version() {
        let mut buffer = Vec::new();
        let observers = Observers::new([NodeId::of("node-2")]);
        encode(&mut buffer, header(), &Body::Heartbeat(Heartbeat { observers, ..heartbeat() }));
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
        let expected = "48 42 03 00 29 72 fc 68 55 e6 07 f3 4e 0d 95 13 80 bc d9 f2 9e 34 80 dd db 01 00 00 83 c2 03 \
                        c0 84 3d 00 00 01 01 6c d8 c9 c8 00";
        assert_eq!(hex(&buffer), expected);
        encode(&mut buffer, header(), &Body::Gossip);
        let count_at = buffer.len() - 1;
        let doubted = Member {
            generation: Generation(1_795_000_000_000),
            incarnation: Incarnation::default(),
            ..member("node-2", Status::Suspect)
        };
        push_rumour(&mut buffer, count_at, &doubted, false);
        let expected = "48 42 03 0c 29 72 fc 68 55 e6 07 f3 4e 0d 95 13 80 bc d9 f2 9e 34 80 dd db 01 01 01 7b 18 83 \
                        1e 6c d8 c9 c8 80 bc d9 f2 9e 34 00 00 ac 02";
        assert_eq!(hex(&buffer), expected);
    }

    #[test]
    fn the_stated_sizes_are_true() {
        let mut buffer = Vec::new();
        encode(&mut buffer, header(), &Body::Heartbeat(heartbeat()));
        assert_eq!(buffer.len(), HEARTBEAT_BYTES_TYPICAL);
        encode(&mut buffer, header(), &Body::Ack(Ack { stage: 57_603, health: 0 }));
        assert_eq!(buffer.len(), ACK_BYTES_TYPICAL);
    }

    #[test]
    fn the_length_of_an_introduction_is_known_before_it_is_written() {
        for (generation, clock) in [(0, 0), (127, 128), (1 << 41, u64::MAX)] {
            let generation = Generation(generation);
            let header = Header { cluster: 1, from: NodeId(2), generation, clock };
            let mut bytes = Vec::new();
            encode(&mut bytes, header, &Body::Introduce);
            assert_eq!(introduction_bytes(header), bytes.len());
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        for sample in samples() {
            for length in 0..sample.len() {
                assert!(decode(&sample[..length]).is_err(), "{length} of {} bytes", sample.len());
            }
        }
    }

    #[test]
    fn no_flipped_bit_panics() {
        for sample in samples() {
            for bit in 0..sample.len() * 8 {
                let mut bytes = sample.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                if let Ok(datagram) = decode(&bytes) {
                    assert_eq!(datagram.rumours.iter().count(), datagram.rumours.len());
                    datagram.rumours.iter().filter_map(|row| row.details).for_each(|details| drop(details.profile(1)));
                }
            }
        }
    }

    #[test]
    fn noise_is_refused_without_a_panic() {
        let mut random = crate::Random::seeded(1);
        for length in 0..DATAGRAM_BYTES_MAX {
            let mut bytes: Vec<u8> = (0..length).map(|_| random.next_u64() as u8).collect();
            assert!(decode(&bytes).is_err());
            if length >= 4 {
                bytes[..4].copy_from_slice(&[b'H', b'B', VERSION_MIN + (length % 2) as u8, (length % 20) as u8]);
                let _ = decode(&bytes); // Any answer will do; it may not panic.
            }
        }
    }

    #[test]
    fn each_fault_has_its_name() {
        let heartbeat = &samples()[0];
        check(b"", DecodeError::NotOurs);
        check(b"GET / HTTP/1.1", DecodeError::NotOurs);
        check(&[b'H', b'B', 9, 0], DecodeError::Version(9));
        check(&vec![0; DATAGRAM_BYTES_MAX + 1], DecodeError::Oversized(DATAGRAM_BYTES_MAX + 1));
        check(&heartbeat[..20], DecodeError::Truncated);
        check(&[heartbeat.as_slice(), &[0]].concat(), DecodeError::Trailing(1));
        let mut bytes = heartbeat.clone();
        bytes[3] = 20;
        check(&bytes, DecodeError::Field("kind"));
        for interval in [Duration::from_secs(31_536_000), Duration::ZERO] {
            let mut bytes = Vec::new();
            encode(&mut bytes, header(), &Body::Heartbeat(Heartbeat { interval, ..self::heartbeat() }));
            check(&bytes, DecodeError::Field("interval"));
        }
    }

    /// The greatest of each number is read, and one more is refused by the name of its field.
    #[test]
    fn numbers_past_their_ends_are_refused() {
        let end = Incarnation { returns: Incarnation::PART_MAX, refutations: Incarnation::PART_MAX };
        let heartbeat = Heartbeat { incarnation: end, stage: STAGE_MAX, slept: STAGE_MAX, ..heartbeat() };
        let evidence = ProbeReport {
            number: 1,
            target: NodeId(2),
            generation: Generation(TIME_MAX),
            stage: STAGE_MAX,
            silence: SILENCE_MAX,
            reached: true,
            gone: false,
            agrees: false,
            health: 0,
        };
        let (target, generation) = (evidence.target, evidence.generation);
        let inquire = IndirectProbe { number: 1, target, generation, stage: STAGE_MAX, gone: false, death: true };
        let part = Part {
            number: 1,
            group: 2,
            index: 3,
            epoch: Epoch(EPOCH_MAX),
            sequence: SEQUENCE_MAX,
            version: u32::MAX,
            total: 0,
            offset: 0,
            bytes: b"",
        };
        let beyond = Generation(TIME_MAX + 1);
        let (returns, refutations) =
            (Incarnation { returns: end.returns + 1, ..end }, Incarnation { refutations: end.refutations + 1, ..end });
        let beat = |heartbeat| Body::Heartbeat(heartbeat);
        for (good, bad) in [
            (beat(heartbeat), (beat(Heartbeat { stage: STAGE_MAX + 1, ..heartbeat }), "stage")),
            (beat(heartbeat), (beat(Heartbeat { slept: STAGE_MAX + 1, ..heartbeat }), "slept")),
            (beat(heartbeat), (beat(Heartbeat { incarnation: returns, ..heartbeat }), "incarnation")),
            (beat(heartbeat), (beat(Heartbeat { incarnation: refutations, ..heartbeat }), "incarnation")),
            (Body::Ack(Ack { stage: STAGE_MAX, health: 0 }), (Body::Ack(Ack { stage: u64::MAX, health: 0 }), "stage")),
            (
                Body::IndirectProbe(inquire),
                (Body::IndirectProbe(IndirectProbe { generation: beyond, ..inquire }), "generation"),
            ),
            (
                Body::IndirectProbe(inquire),
                (Body::IndirectProbe(IndirectProbe { stage: u64::MAX, ..inquire }), "stage"),
            ),
            (Body::ProbeReport(evidence), (Body::ProbeReport(ProbeReport { stage: u64::MAX, ..evidence }), "stage")),
            (
                Body::ProbeReport(evidence),
                (Body::ProbeReport(ProbeReport { silence: SILENCE_MAX * 2, ..evidence }), "silence"),
            ),
            (Body::Part(part), (Body::Part(Part { sequence: u64::MAX, ..part }), "sequence")),
            (Body::Part(part), (Body::Part(Part { epoch: Epoch(u64::MAX), ..part }), "epoch")),
        ] {
            let mut bytes = Vec::new();
            encode(&mut bytes, header(), &good);
            assert_eq!(decode(&bytes).unwrap().body, good);
            encode(&mut bytes, header(), &bad.0);
            check(&bytes, DecodeError::Field(bad.1));
        }
    }

    #[test]
    fn numbers_past_their_ends_are_refused_in_headers_and_rows() {
        let beyond = Generation(TIME_MAX + 1);
        let mut bytes = Vec::new();
        encode(&mut bytes, Header { generation: beyond, ..header() }, &Body::Hello);
        check(&bytes, DecodeError::Field("generation"));
        // A millisecond before the generation, modulo 2^64, and one millisecond before 1970.
        encode(&mut bytes, Header { clock: u64::MAX, ..header() }, &Body::Hello);
        assert!(decode(&bytes).is_ok());
        let before_1970 = 0_u64.wrapping_sub(header().generation.0 + 1);
        for clock in [TIME_MAX + 1, before_1970] {
            encode(&mut bytes, Header { clock, ..header() }, &Body::Hello);
            check(&bytes, DecodeError::Field("clock"));
        }
        let mut later = member("a", Status::Alive);
        later.profile = Arc::new(Profile { revision: Profile::REVISION_MAX + 1, ..(*later.profile).clone() });
        encode_join(&mut bytes, header(), 0, &later);
        check(&bytes, DecodeError::Field("revision"));
    }

    #[test]
    fn metadata_over_its_bound_is_refused() {
        let mut large = member("a", Status::Alive);
        let metadata = (0..3).map(|n| (format!("key {n}"), "x".repeat(100))).collect();
        large.profile = Arc::new(Profile { metadata, ..(*large.profile).clone() });
        let mut buffer = Vec::new();
        encode_join(&mut buffer, header(), 0, &large);
        check(&buffer, DecodeError::Field("metadata"));
    }

    #[test]
    fn groups_over_their_bounds_are_refused() {
        let refused = |groups: Vec<ShardGroup>| {
            let mut large = member("a", Status::Alive);
            large.profile = Arc::new(Profile { groups, ..(*large.profile).clone() });
            let mut buffer = Vec::new();
            encode_join(&mut buffer, header(), 0, &large);
            check(&buffer, DecodeError::Field("groups"));
        };
        refused(vec![ShardGroup::new(1, 1); GROUPS_MAX + 1]);
        refused(vec![ShardGroup::new(1, 0)]);
        refused(vec![ShardGroup::new(1, SHARDS_MAX + 1)]);
        let declines = |declined: Declined| ShardGroup { declined, ..ShardGroup::new(1, SHARDS_MAX) };
        refused(vec![declines(Declined::Blocks { shift: 17, bits: vec![1] })]);
        refused(vec![declines(Declined::Blocks { shift: 0, bits: Vec::new() })]);
        refused(vec![declines(Declined::Ranges(vec![(5, SHARDS_MAX)]))]);
        let half = Declined::Blocks { shift: 5, bits: vec![1; DECLINED_BYTES_MAX / 2] };
        refused(vec![declines(half.clone()), declines(half)]);
    }

    /// Row by row, a member that says all it may say fits a datagram.
    #[test]
    fn the_largest_row_fits_a_datagram() {
        let mut largest = member(&"n".repeat(64), Status::Alive);
        let mut groups = vec![ShardGroup::new(u64::MAX, SHARDS_MAX); GROUPS_MAX];
        groups[0].declined = Declined::Blocks { shift: 5, bits: vec![1; DECLINED_BYTES_MAX - GROUPS_MAX + 1 - 3] };
        let metadata = [("k".repeat(100), "v".repeat(143))].into();
        let (zone, revision) = ("z".repeat(64).into(), Profile::REVISION_MAX);
        let unknown = [&[2, 122][..], &[0; 122]].concat();
        let extension = unknown.into();
        let profile = Profile { metadata, groups, zone, revision, extension, ..(*largest.profile).clone() };
        for min in [VERSION_MIN, VERSION_MAX] {
            let wire_versions = WireVersions { min, max: 255 };
            largest.profile = Arc::new(Profile { wire_versions, ..profile.clone() });
            let mut buffer = Vec::new();
            let header = Header { clock: TIME_MAX, generation: Generation(TIME_MAX), ..header() };
            encode_join(&mut buffer, header, 5, &largest);
            let Ok(Datagram { body: Body::Join(join), .. }) = decode(&buffer) else {
                panic!("{} bytes: {:?}", buffer.len(), decode(&buffer).err())
            };
            let unknown = if min == VERSION_MAX { largest.extension.clone() } else { Arc::default() };
            let expected = Profile { extension: unknown, ..(*largest.profile).clone() };
            assert_eq!(join.row.details.unwrap().profile(revision), expected);
        }
    }

    #[test]
    fn a_datagram_holds_what_fits() {
        let (mut buffer, mut told) = (Vec::new(), 0);
        encode(&mut buffer, header(), &Body::Gossip);
        let count_at = buffer.len() - 1;
        while push_rumour(&mut buffer, count_at, &member(&format!("node-{told}"), Status::Alive), true) {
            told += 1;
        }
        assert!(told >= 10 && buffer.len() <= DATAGRAM_BYTES_MAX);
        assert_eq!(decode(&buffer).unwrap().rumours.len(), told);
    }
}
