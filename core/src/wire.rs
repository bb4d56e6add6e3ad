//! `Datagram`: what nodes say to each other, in one bounded datagram each.
//!
//! The fields are written by hand. A serde codec of the same layout was measured beside it (`docs/src/benchmarks.md`, "wire"): the hand is
//! faster, and decoding into borrowed views allocates nothing, which a codec that makes `Vec`s of members cannot promise.
//!
//! Layout, version 1. Numbers are LEB128 varints unless a width is given; fixed widths are little-endian.
//!
//! ```text
//! "HB"  version u8  kind u8  cluster u32  from u64  generation
//! kind 0 heartbeat  incarnation  slot  interval(us)  slept  view  count u8, count x observer u64
//! kind 1 join       incarnation  role u8  address  name
//! kind 2 leave      incarnation
//! kind 3 introduce  (nothing)
//! kind 4 answer     slot  since  version  flags u8 (bit 0 more, bit 1 settled)  count u8, count x entry
//! entry             id u64  flags u8 (status 0..3, bit 2 role)  generation  incarnation  address  name
//! address           family u8 (4 or 6)  4 or 16 bytes  port u16
//! name              length u8  UTF-8
//! ```
//!
//! Nothing follows the last field; a longer datagram is refused. What a version does not know it refuses as a whole: guessing at half of a
//! message about who is alive would be worse than silence.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::member::{Generation, Incarnation, Member, NAME_BYTES_MAX, NodeId, Role, Status};

/// The version this release speaks.
pub const VERSION: u8 = 1;

/// Longest datagram sent or accepted, in bytes: IPv6's least MTU of 1,280 less 40 + 8 bytes of headers and 32 for a seal to come.
pub const DATAGRAM_BYTES_MAX: usize = 1_200;

/// Most observers named in a heartbeat.
pub const OBSERVERS_MAX: usize = 16;

/// Longest announced interval; a longer one in a datagram is refused.
pub const INTERVAL_MAX: Duration = Duration::from_secs(3_600);

/// Bytes of IPv4 and UDP headers around each datagram.
pub const HEADERS_BYTES: usize = 28;

/// Size of a heartbeat that names one observer, an hour after the start at the default interval.
pub const HEARTBEAT_BYTES_TYPICAL: usize = 47;

const MAGIC: [u8; 2] = *b"HB";

/// Who speaks, to whom, in which life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The lower half of the hash of the cluster's name.
    pub cluster: u32,
    /// The sender.
    pub from: NodeId,
    /// Which start of the sender's process.
    pub generation: Generation,
}

/// One datagram, borrowed from the bytes it came in.
#[derive(Clone, PartialEq, Debug)]
pub struct Datagram<'a> {
    /// Who speaks.
    pub header: Header,
    /// What is said.
    pub body: Body<'a>,
}

/// What is said.
#[derive(Clone, PartialEq, Debug)]
pub enum Body<'a> {
    /// The periodic sign of life, to an observer.
    Heartbeat(Heartbeat),
    /// "I want to be a member", to a monitor; also the answer to `Introduce`.
    Join(Join<'a>),
    /// "I am going, on purpose", to an observer.
    Leave {
        /// The sender's incarnation.
        incarnation: Incarnation,
    },
    /// "I do not know you, tell me your name", to an unknown sender. Always shorter than what it answers.
    Introduce,
    /// The view, or what is new in it, to a member.
    Answer(Answer<'a>),
}

/// The periodic sign of life (DESIGN D9).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// The number of the schedule slot, not of the sends: a gap is a loss or a slept-through slot.
    pub slot: u64,
    /// Time to the next one, in whole microseconds, over zero to [`INTERVAL_MAX`].
    pub interval: Duration,
    /// Slots that the sender slept through since it started, by its own count.
    pub slept: u64,
    /// Version of the view that the sender holds; zero is none.
    pub view: u64,
    /// Who watches the sender, the receiver included.
    pub observers: Observers,
}

/// Up to [`OBSERVERS_MAX`] node ids, without a heap.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Observers {
    /// Only the first `count` are meant.
    ids: [u64; OBSERVERS_MAX],
    count: u8,
}

/// "I want to be a member."
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Join<'a> {
    /// The sender's incarnation.
    pub incarnation: Incarnation,
    /// What the sender is in the cluster for.
    pub role: Role,
    /// Where the sender's datagrams are to go.
    pub address: SocketAddr,
    /// The sender's name; 1 to [`NAME_BYTES_MAX`] bytes, and its hash is the sender's id.
    pub name: &'a str,
}

/// The view, or what is new in it.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer<'a> {
    /// The slot of the heartbeat that this answers, and so proves to have arrived; zero if it answers none.
    pub slot: u64,
    /// The version that the entries build on; whoever holds an older one lacks what lies between.
    pub since: u64,
    /// The version that the receiver holds once it has taken in the entries.
    pub version: u64,
    /// Whether entries were left out for lack of room.
    pub more: bool,
    /// Whether the view may be acted upon: its keeper has run long enough for its members to have introduced themselves.
    pub settled: bool,
    /// Members that changed, in the order of their changes.
    pub entries: Entries<'a>,
}

/// One member in an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// Hash of the name.
    pub id: NodeId,
    /// What is held of it.
    pub status: Status,
    /// What it is in the cluster for.
    pub role: Role,
    /// Which start of its process.
    pub generation: Generation,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Where its datagrams go.
    pub address: SocketAddr,
    /// Its name.
    pub name: &'a str,
}

/// The entries of an answer, each already found to be well-formed.
#[derive(Clone, PartialEq, Debug)]
pub struct Entries<'a> {
    bytes: &'a [u8],
    count: u8,
}

/// Why a datagram was refused. It is counted and dropped; no state was touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum DecodeError {
    /// It does not begin like one of ours.
    NotOurs,
    /// Another version of the format; ours is [`VERSION`].
    Version(u8),
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
            DecodeError::Version(version) => write!(f, "wire version {version}; this node speaks {VERSION}"),
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
            observers.ids[usize::from(observers.count)] = id.0;
            observers.count += 1;
        }
        observers
    }

    /// The ids, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> {
        self.ids[..usize::from(self.count)].iter().map(|&id| NodeId(id))
    }
}

impl<'a> Entries<'a> {
    /// The entries in their order.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let mut reader = Reader { bytes: self.bytes };
        (0..self.count).map(move |_| reader.entry().expect("entries were found well-formed on decoding"))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

// ---- encoding ------------------------------------------------------------------------------------------------------------------------

/// Writes a heartbeat into `buffer`, which it clears first.
pub fn encode_heartbeat(buffer: &mut Vec<u8>, header: Header, heartbeat: &Heartbeat) {
    begin(buffer, 0, header);
    varint(buffer, u64::from(heartbeat.incarnation.0));
    varint(buffer, heartbeat.slot);
    varint(buffer, heartbeat.interval.as_micros() as u64);
    varint(buffer, heartbeat.slept);
    varint(buffer, heartbeat.view);
    buffer.push(heartbeat.observers.count);
    for id in heartbeat.observers.iter() {
        buffer.extend_from_slice(&id.0.to_le_bytes());
    }
}

/// Writes a join into `buffer`, which it clears first.
pub fn encode_join(buffer: &mut Vec<u8>, header: Header, join: &Join<'_>) {
    begin(buffer, 1, header);
    varint(buffer, u64::from(join.incarnation.0));
    buffer.push(role_bit(join.role));
    address(buffer, join.address);
    name(buffer, join.name);
}

/// Writes a leave into `buffer`, which it clears first.
pub fn encode_leave(buffer: &mut Vec<u8>, header: Header, incarnation: Incarnation) {
    begin(buffer, 2, header);
    varint(buffer, u64::from(incarnation.0));
}

/// Writes an introduce into `buffer`, which it clears first.
pub fn encode_introduce(buffer: &mut Vec<u8>, header: Header) {
    begin(buffer, 3, header);
}

/// Writes an answer into `buffer`, which it clears first, with as many `changes` as fit; each is a member and the version of its change.
///
/// `slot` is that of the heartbeat it answers, `since` the version that the changes begin after, `version` is the newest, and `settled` says whether a whole view may be acted upon. Returns the version that the answer brings its
/// receiver to: `version` itself if all fitted, else that of the last one that did.
pub fn encode_answer<'m>(
    buffer: &mut Vec<u8>,
    header: Header,
    (slot, since): (u64, u64),
    version: u64,
    settled: bool,
    changes: impl Iterator<Item = (&'m Member, u64)>,
) -> u64 {
    // The entries come first in the making, since only they tell the version and count that stand before them.
    const ENTRIES_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - 70;
    let mut entries = Vec::new();
    let mut count = 0u8;
    let mut reached = version;
    let mut last = 0;
    for (member, changed) in changes {
        let before = entries.len();
        entry(&mut entries, member);
        if entries.len() > ENTRIES_BYTES_MAX || count == u8::MAX {
            entries.truncate(before);
            reached = last;
            break;
        }
        count += 1;
        last = changed;
    }
    begin(buffer, 4, header);
    varint(buffer, slot);
    varint(buffer, since);
    varint(buffer, reached);
    buffer.push(u8::from(reached != version) | u8::from(settled) << 1);
    buffer.push(count);
    buffer.extend_from_slice(&entries);
    reached
}

fn begin(buffer: &mut Vec<u8>, kind: u8, header: Header) {
    buffer.clear();
    buffer.extend_from_slice(&MAGIC);
    buffer.extend_from_slice(&[VERSION, kind]);
    buffer.extend_from_slice(&header.cluster.to_le_bytes());
    buffer.extend_from_slice(&header.from.0.to_le_bytes());
    varint(buffer, header.generation.0);
}

fn varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.push(value as u8);
}

fn address(buffer: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            buffer.push(4);
            buffer.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            buffer.push(6);
            buffer.extend_from_slice(&ip.octets());
        }
    }
    buffer.extend_from_slice(&address.port().to_le_bytes());
}

fn name(buffer: &mut Vec<u8>, name: &str) {
    assert!(name.len() <= NAME_BYTES_MAX, "names are bounded where they come in");
    buffer.push(name.len() as u8);
    buffer.extend_from_slice(name.as_bytes());
}

fn role_bit(role: Role) -> u8 {
    match role {
        Role::Worker => 0,
        Role::Monitor => 1,
    }
}

fn entry(buffer: &mut Vec<u8>, member: &Member) {
    let status = match member.status {
        Status::Alive => 0,
        Status::Suspect => 1,
        Status::Dead => 2,
        Status::Left => 3,
    };
    buffer.extend_from_slice(&member.id.0.to_le_bytes());
    buffer.push(status | role_bit(member.role) << 2);
    varint(buffer, member.generation.0);
    varint(buffer, u64::from(member.incarnation.0));
    address(buffer, member.address);
    name(buffer, &member.name);
}

// ---- decoding ------------------------------------------------------------------------------------------------------------------------

/// Reads one datagram; allocates nothing.
///
/// # Errors
/// [`DecodeError`] for anything that is not exactly one well-formed datagram of our version.
pub fn decode(bytes: &[u8]) -> Result<Datagram<'_>, DecodeError> {
    if bytes.len() > DATAGRAM_BYTES_MAX {
        return Err(DecodeError::Oversized(bytes.len()));
    }
    let mut reader = Reader { bytes };
    if reader.array::<2>().map_err(|_| DecodeError::NotOurs)? != MAGIC {
        return Err(DecodeError::NotOurs);
    }
    let version = reader.byte()?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let kind = reader.byte()?;
    let header = Header {
        cluster: u32::from_le_bytes(reader.array()?),
        from: NodeId(u64::from_le_bytes(reader.array()?)),
        generation: Generation(reader.varint()?),
    };
    let body = match kind {
        0 => Body::Heartbeat(reader.heartbeat()?),
        1 => Body::Join(reader.join()?),
        2 => Body::Leave { incarnation: reader.incarnation()? },
        3 => Body::Introduce,
        4 => Body::Answer(reader.answer()?),
        _ => return Err(DecodeError::Field("kind")),
    };
    if reader.bytes.is_empty() { Ok(Datagram { header, body }) } else { Err(DecodeError::Trailing(reader.bytes.len())) }
}

/// What is left to read.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.bytes.split_first().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            // The tenth byte holds the last bit alone.
            if shift == 63 && byte > 1 {
                return Err(DecodeError::Field("varint"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Field("varint"))
    }

    fn incarnation(&mut self) -> Result<Incarnation, DecodeError> {
        let value = self.varint()?;
        Ok(Incarnation(u32::try_from(value).map_err(|_| DecodeError::Field("incarnation"))?))
    }

    fn heartbeat(&mut self) -> Result<Heartbeat, DecodeError> {
        let incarnation = self.incarnation()?;
        let slot = self.varint()?;
        let interval = Duration::from_micros(self.varint()?);
        if interval.is_zero() || interval > INTERVAL_MAX {
            return Err(DecodeError::Field("interval"));
        }
        let slept = self.varint()?;
        let view = self.varint()?;
        let count = self.byte()?;
        if usize::from(count) > OBSERVERS_MAX {
            return Err(DecodeError::Field("observers"));
        }
        let mut observers = Observers { count, ..Observers::default() };
        for id in &mut observers.ids[..usize::from(count)] {
            *id = u64::from_le_bytes(self.array()?);
        }
        Ok(Heartbeat { incarnation, slot, interval, slept, view, observers })
    }

    fn join(&mut self) -> Result<Join<'a>, DecodeError> {
        let incarnation = self.incarnation()?;
        let role = match self.byte()? {
            0 => Role::Worker,
            1 => Role::Monitor,
            _ => return Err(DecodeError::Field("role")),
        };
        Ok(Join { incarnation, role, address: self.address()?, name: self.name()? })
    }

    fn answer(&mut self) -> Result<Answer<'a>, DecodeError> {
        let slot = self.varint()?;
        let since = self.varint()?;
        let version = self.varint()?;
        let flags = self.byte()?;
        if flags > 3 {
            return Err(DecodeError::Field("flags"));
        }
        let (more, settled) = (flags & 1 != 0, flags & 2 != 0);
        let count = self.byte()?;
        let entries = Entries { bytes: self.bytes, count };
        for _ in 0..count {
            self.entry()?;
        }
        Ok(Answer { slot, since, version, more, settled, entries })
    }

    fn entry(&mut self) -> Result<Entry<'a>, DecodeError> {
        let id = NodeId(u64::from_le_bytes(self.array()?));
        let flags = self.byte()?;
        let status = match flags & 3 {
            0 => Status::Alive,
            1 => Status::Suspect,
            2 => Status::Dead,
            _ => Status::Left,
        };
        let role = match flags >> 2 {
            0 => Role::Worker,
            1 => Role::Monitor,
            _ => return Err(DecodeError::Field("flags")),
        };
        let generation = Generation(self.varint()?);
        let incarnation = self.incarnation()?;
        Ok(Entry { id, status, role, generation, incarnation, address: self.address()?, name: self.name()? })
    }

    fn address(&mut self) -> Result<SocketAddr, DecodeError> {
        let ip = match self.byte()? {
            4 => IpAddr::from(self.array::<4>()?),
            6 => IpAddr::from(self.array::<16>()?),
            _ => return Err(DecodeError::Field("address")),
        };
        Ok(SocketAddr::new(ip, u16::from_le_bytes(self.array()?)))
    }

    fn name(&mut self) -> Result<&'a str, DecodeError> {
        let length = usize::from(self.byte()?);
        if length == 0 || length > NAME_BYTES_MAX {
            return Err(DecodeError::Field("name"));
        }
        std::str::from_utf8(self.take(length)?).map_err(|_| DecodeError::Field("name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { cluster: 7, from: NodeId(8), generation: Generation(1_795_000_000_000) };

    fn heartbeat() -> Heartbeat {
        Heartbeat {
            incarnation: Incarnation(0),
            slot: 3_600,
            interval: Duration::from_secs(1),
            slept: 0,
            view: 1_795_000_000_000 << 20,
            observers: Observers::new([NodeId(9)]),
        }
    }

    fn member(name: &str) -> Member {
        Member {
            id: NodeId::of(name),
            name: name.into(),
            address: "[::1]:9".parse().unwrap(),
            role: Role::Monitor,
            generation: Generation(u64::MAX),
            incarnation: Incarnation(u32::MAX),
            status: Status::Left,
        }
    }

    /// One datagram of each kind.
    fn samples() -> Vec<Vec<u8>> {
        let mut samples = vec![Vec::new(); 5];
        let join = Join {
            incarnation: Incarnation(2),
            role: Role::Monitor,
            address: "127.0.0.1:7100".parse().unwrap(),
            name: "node-1",
        };
        let members = [member("a"), member(&"ü".repeat(32))];
        encode_heartbeat(&mut samples[0], HEADER, &heartbeat());
        encode_join(&mut samples[1], HEADER, &join);
        encode_leave(&mut samples[2], HEADER, Incarnation(3));
        encode_introduce(&mut samples[3], HEADER);
        encode_answer(&mut samples[4], HEADER, (3, 2), 5, true, members.iter().zip(4..));
        samples
    }

    #[track_caller]
    fn check(bytes: &[u8], expected: DecodeError) {
        assert_eq!(decode(bytes), Err(expected));
    }

    #[test]
    fn what_is_written_is_read() {
        let samples = samples();
        assert_eq!(decode(&samples[0]).unwrap(), Datagram { header: HEADER, body: Body::Heartbeat(heartbeat()) });
        assert!(matches!(decode(&samples[1]).unwrap().body, Body::Join(Join { name: "node-1", .. })));
        assert_eq!(decode(&samples[2]).unwrap().body, Body::Leave { incarnation: Incarnation(3) });
        assert_eq!(decode(&samples[3]).unwrap().body, Body::Introduce);
        let Body::Answer(answer) = decode(&samples[4]).unwrap().body else { panic!("not an answer") };
        assert_eq!((answer.slot, answer.version, answer.more, answer.entries.len()), (3, 5, false, 2));
        let entry = answer.entries.iter().next().unwrap();
        assert_eq!((entry.name, entry.status, entry.incarnation), ("a", Status::Left, Incarnation(u32::MAX)));
    }

    #[test]
    fn the_stated_size_of_a_heartbeat_is_true() {
        assert_eq!(samples()[0].len(), HEARTBEAT_BYTES_TYPICAL);
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
                if let Ok(Datagram { body: Body::Answer(answer), .. }) = decode(&bytes) {
                    assert_eq!(answer.entries.iter().count(), answer.entries.len());
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
                bytes[..4].copy_from_slice(&[b'H', b'B', VERSION, (length % 5) as u8]);
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
        bytes[3] = 5;
        check(&bytes, DecodeError::Field("kind"));
        let mut year = Vec::new();
        encode_heartbeat(
            &mut year,
            HEADER,
            &Heartbeat { interval: Duration::from_secs(31_536_000), ..self::heartbeat() },
        );
        check(&year, DecodeError::Field("interval"));
        encode_heartbeat(&mut year, HEADER, &Heartbeat { interval: Duration::ZERO, ..self::heartbeat() });
        check(&year, DecodeError::Field("interval"));
    }

    #[test]
    fn an_answer_holds_what_fits_and_says_so() {
        let members: Vec<Member> = (0..100).map(|n| member(&format!("node-{n}"))).collect();
        let mut buffer = Vec::new();
        let reached = encode_answer(&mut buffer, HEADER, (3, 900), 1_000, true, members.iter().zip(901..));
        assert!(buffer.len() <= DATAGRAM_BYTES_MAX, "{} bytes", buffer.len());
        let Body::Answer(answer) = decode(&buffer).unwrap().body else { panic!("not an answer") };
        assert!(answer.more && answer.version == reached && reached == 900 + answer.entries.len() as u64);
        assert!(answer.entries.len() > 10);
    }

    #[test]
    fn an_unsettled_view_says_so() {
        let mut buffer = Vec::new();
        encode_answer(&mut buffer, HEADER, (0, 5), 5, false, std::iter::empty());
        let Body::Answer(answer) = decode(&buffer).unwrap().body else { panic!("not an answer") };
        assert!(!answer.more && !answer.settled && answer.version == 5);
    }
}
