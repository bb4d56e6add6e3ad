//! Reading datagrams: any bytes are one datagram of a known version or an error, and nothing is
//! allocated for a heartbeat.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{
    ASKED_MAX, Ack, BLOCKS_TAG, BUCKETS, Body, CHALLENGE_KIND, DATAGRAM_BYTES_MAX, Datagram, DecodeError, Details,
    EPOCH_MAX, EXTENSION_BYTES_MAX, Echo, Extension, Groups, Header, Heartbeat, INTERVAL_MAX, INTRODUCE_KIND,
    IndirectProbe, JOIN_KIND, Join, MAGIC, OBSERVERS_MAX, Observers, PAIRS_BYTES_MAX, PART_BYTES_MAX, PROBE_KIND,
    Pairs, Part, ProbeReport, Refused, Row, Rows, Rumours, SEALED_MAGIC, SEQUENCE_MAX, SILENCE_MAX, STAGE_MAX,
    SUMMARY_PART, TIME_MAX, VERSION_EXTENSIBLE, VERSION_MAX, VERSION_MIN, VERSIONS_PART,
};
use crate::member::{
    DECLINED_BYTES_MAX, Declined, Epoch, GROUPS_MAX, Generation, Incarnation, NAME_BYTES_MAX, NodeId, Profile, Role,
    SHARDS_MAX, ShardGroup, Status, WireVersions, canonical,
};

/// Reads one datagram.
///
/// # Errors
/// [`DecodeError`] for anything that is not exactly one well-formed datagram of a known version.
pub fn decode(bytes: &[u8]) -> Result<Datagram<'_>, DecodeError> {
    if bytes.len() > DATAGRAM_BYTES_MAX {
        return Err(DecodeError::Oversized(bytes.len()));
    }
    let mut reader = Reader { bytes, version: VERSION_MIN };
    let (kind, header) = reader.header(MAGIC)?;
    let version = reader.version;
    let body = reader.body(kind)?;
    let count = reader.byte()?;
    let rumours = Rumours { bytes: reader.bytes, count, version };
    for _ in 0..count {
        reader.row()?;
    }
    let summary = if version >= VERSION_EXTENSIBLE { reader.parts("extension", SUMMARY_PART)? } else { None };
    if reader.bytes.is_empty() {
        Ok(Datagram { header, body, rumours, summary })
    } else {
        Err(DecodeError::Trailing(reader.bytes.len()))
    }
}

/// The start of a datagram: its header and what else is not encrypted if it is sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// The sender, its cluster, and the start of its process.
    pub header: Header,
    /// The kind of the message.
    pub kind: u8,
    /// Whether the rest is sealed.
    pub is_sealed: bool,
    /// Bytes of the start.
    pub length: usize,
}

impl Start {
    /// Whether a message of this kind counts though it is not sealed for a certain process: a join
    /// or a probe, which may go to any process that has the address.
    pub fn is_first_contact(&self) -> bool {
        matches!(self.kind, JOIN_KIND | PROBE_KIND)
    }

    /// Whether a message of this kind may go to an address that has not proven that it receives: a
    /// challenge or an introduction. It is no longer than what it answers.
    pub fn is_answer_to_stranger(&self) -> bool {
        matches!(self.kind, CHALLENGE_KIND | INTRODUCE_KIND)
    }
}

/// Reads the start of a datagram, sealed or not.
///
/// # Errors
/// [`DecodeError`] if it is not the whole start of a datagram of our version.
pub fn decode_start(bytes: &[u8]) -> Result<Start, DecodeError> {
    let mut reader = Reader { bytes, version: VERSION_MIN };
    let is_sealed = bytes.starts_with(&SEALED_MAGIC);
    let (kind, header) = reader.header(if is_sealed { SEALED_MAGIC } else { MAGIC })?;
    Ok(Start { header, kind, is_sealed, length: bytes.len() - reader.bytes.len() })
}

impl<'a> Rumours<'a> {
    /// The rumours in their order.
    pub fn iter(&self) -> impl Iterator<Item = Row<'a>> + use<'a> {
        let mut reader = Reader { bytes: self.bytes, version: self.version };
        (0..self.count).map(move |_| reader.row().expect("rumours were found well-formed on decoding"))
    }
}

impl<'a> Pairs<'a> {
    /// The pairs in their order.
    pub(super) fn iter(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut reader = Reader { bytes: self.bytes, version: VERSION_MIN };
        (0..self.count).map(move |_| {
            let mut next = || reader.text("metadata", usize::from(u8::MAX)).expect("found well-formed on decoding");
            (next(), next())
        })
    }
}

impl<'a> Groups<'a> {
    /// The groups in their order.
    pub(super) fn iter(self) -> impl Iterator<Item = ShardGroup> + use<'a> {
        let mut reader = Reader { bytes: self.bytes, version: VERSION_MIN };
        (0..self.count).map(move |_| reader.group().expect("found well-formed on decoding"))
    }
}

/// The bytes that are left to read.
struct Reader<'a> {
    bytes: &'a [u8],
    /// The version of the datagram.
    version: u8,
}

impl<'a> Reader<'a> {
    /// The header, and the kind that stands in it.
    fn header(&mut self, magic: [u8; 2]) -> Result<(u8, Header), DecodeError> {
        if self.array::<2>().map_err(|_| DecodeError::NotOurs)? != magic {
            return Err(DecodeError::NotOurs);
        }
        self.version = self.byte()?;
        if !(VERSION_MIN..=VERSION_MAX).contains(&self.version) {
            return Err(DecodeError::Version(self.version));
        }
        let kind = self.byte()?;
        let header = Header {
            cluster: u32::from_le_bytes(self.array()?),
            from: self.id()?,
            generation: self.generation()?,
            clock: self.varint()?,
        };
        // A clock that is behind the generation is below zero, modulo 2^64.
        if header.clock > TIME_MAX && header.generation.0.wrapping_add(header.clock) > TIME_MAX {
            return Err(DecodeError::Field("clock"));
        }
        Ok((kind, header))
    }

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

    fn is_extensible(&self) -> bool {
        self.version >= VERSION_EXTENSIBLE
    }

    /// The bits of `known` in a byte. Version 3 has no others; later versions may, and they are
    /// skipped.
    fn flags(&mut self, known: u8) -> Result<u8, DecodeError> {
        let flags = self.byte()?;
        if self.is_extensible() || flags & !known == 0 { Ok(flags & known) } else { Err(DecodeError::Field("flags")) }
    }

    fn word(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn id(&mut self) -> Result<NodeId, DecodeError> {
        Ok(NodeId(u64::from_le_bytes(self.array()?)))
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        // Most of those in a heartbeat take one byte.
        if let Some((&byte, rest)) = self.bytes.split_first()
            && byte < 0x80
        {
            self.bytes = rest;
            return Ok(u64::from(byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, DecodeError> {
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

    fn small(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        u32::try_from(self.varint()?).map_err(|_| DecodeError::Field(field))
    }

    /// A number that has an end: what is computed from it later cannot overflow.
    fn up_to(&mut self, most: u64, field: &'static str) -> Result<u64, DecodeError> {
        let value = self.varint()?;
        if value <= most { Ok(value) } else { Err(DecodeError::Field(field)) }
    }

    fn stage(&mut self) -> Result<u64, DecodeError> {
        self.up_to(STAGE_MAX, "stage")
    }

    fn generation(&mut self) -> Result<Generation, DecodeError> {
        self.up_to(TIME_MAX, "generation").map(Generation)
    }

    fn incarnation(&mut self) -> Result<Incarnation, DecodeError> {
        let mut part = || self.up_to(u64::from(Incarnation::PART_MAX), "incarnation").map(|part| part as u32);
        Ok(Incarnation { returns: part()?, refutations: part()? })
    }

    fn body(&mut self, kind: u8) -> Result<Body<'a>, DecodeError> {
        Ok(match kind {
            0 => Body::Heartbeat(self.heartbeat()?),
            1 => Body::Ack(Ack { stage: self.stage()?, health: self.byte()? }),
            PROBE_KIND => Body::Probe { number: self.word()? },
            3 => {
                let (number, incarnation) = (self.word()?, self.incarnation()?);
                Body::Echo(Echo { number, incarnation, is_observer: self.flags(1)? != 0 })
            }
            4 => Body::IndirectProbe(self.inquire()?),
            5 => Body::ProbeReport(self.evidence()?),
            6 => Body::Release,
            JOIN_KIND => {
                let (token, row) = (u64::from_le_bytes(self.array()?), self.row()?);
                if row.details.is_none() {
                    return Err(DecodeError::Field("row"));
                }
                Body::Join(Join { token, row })
            }
            8 => Body::Challenge { token: u64::from_le_bytes(self.array()?) },
            9 => Body::Introduce,
            10 => {
                let mut digests = Box::new([0; BUCKETS]);
                for digest in digests.iter_mut() {
                    *digest = self.word()?;
                }
                Body::Sync(digests)
            }
            11 => {
                let differing = u64::from_le_bytes(self.array()?);
                let flags = self.flags(7)?;
                let (more, welcome, whole) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
                Body::Rows(Rows { differing, more, welcome, whole })
            }
            12 => Body::Gossip,
            13 => Body::Hello,
            14 => Body::Poll { number: self.word()? },
            15 => Body::Vote { number: self.word()? },
            16 => {
                let (number, group, count) = (self.word()?, self.id()?.0, usize::from(self.byte()?));
                if count > ASKED_MAX || number == 0 {
                    return Err(DecodeError::Field("ask"));
                }
                let indexes: Result<Vec<u32>, DecodeError> = (0..count).map(|_| self.index()).collect();
                Body::Ask { number, group, indexes: indexes?.into() }
            }
            17 => Body::Part(self.part()?),
            18 => {
                let (parts, flags) = (self.word()?, self.flags(1)?);
                Body::Kept { parts, refused: flags != 0 }
            }
            19 => Body::Refused(Refused { reason: self.byte()?, value: self.varint()? }),
            _ if self.is_extensible() => return Err(DecodeError::UnknownKind(kind)),
            _ => return Err(DecodeError::Field("kind")),
        })
    }

    fn index(&mut self) -> Result<u32, DecodeError> {
        let index = self.small("index")?;
        if index < SHARDS_MAX { Ok(index) } else { Err(DecodeError::Field("index")) }
    }

    fn part(&mut self) -> Result<Part<'a>, DecodeError> {
        let (number, group, index) = (self.word()?, self.id()?.0, self.index()?);
        let (epoch, sequence) = (Epoch(self.up_to(EPOCH_MAX, "epoch")?), self.up_to(SEQUENCE_MAX, "sequence")?);
        let version = self.small("version")?;
        let (total, offset) = (self.small("total")?, self.small("offset")?);
        let length = u16::from_le_bytes(self.array()?);
        let bytes = self.take(usize::from(length))?;
        let is_within = u64::from(offset) + u64::from(length) <= u64::from(total);
        // All but the last are full, so that none of them can be without end.
        let is_full = bytes.len() == PART_BYTES_MAX || u64::from(offset) + u64::from(length) == u64::from(total);
        if bytes.len() > PART_BYTES_MAX || !is_within || !is_full {
            return Err(DecodeError::Field("part"));
        }
        Ok(Part { number, group, index, epoch, sequence, version, total, offset, bytes })
    }

    fn heartbeat(&mut self) -> Result<Heartbeat, DecodeError> {
        let incarnation = self.incarnation()?;
        let stage = self.stage()?;
        let interval = Duration::from_micros(self.varint()?);
        if interval.is_zero() || interval > INTERVAL_MAX {
            return Err(DecodeError::Field("interval"));
        }
        let (slept, health, asks) = (self.up_to(STAGE_MAX, "slept")?, self.byte()?, self.flags(1)? != 0);
        let count = self.byte()?;
        if usize::from(count) > OBSERVERS_MAX {
            return Err(DecodeError::Field("observers"));
        }
        let mut observers = Observers { count, ..Observers::default() };
        for id in &mut observers.ids[..usize::from(count)] {
            *id = self.word()?;
        }
        Ok(Heartbeat { incarnation, stage, interval, slept, health, asks, observers })
    }

    fn inquire(&mut self) -> Result<IndirectProbe, DecodeError> {
        let (number, target, generation) = (self.word()?, self.id()?, self.generation()?);
        let (stage, flags) = (self.stage()?, self.flags(3)?);
        Ok(IndirectProbe { number, target, generation, stage, gone: flags & 1 != 0, death: flags & 2 != 0 })
    }

    fn evidence(&mut self) -> Result<ProbeReport, DecodeError> {
        let (number, target, generation) = (self.word()?, self.id()?, self.generation()?);
        let (stage, silence) = (self.stage()?, self.up_to(SILENCE_MAX.as_micros() as u64, "silence")?);
        let silence = Duration::from_micros(silence);
        let (flags, health) = (self.flags(7)?, self.byte()?);
        let (reached, gone, agrees) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
        Ok(ProbeReport { number, target, generation, stage, silence, reached, gone, agrees, health })
    }

    fn row(&mut self) -> Result<Row<'a>, DecodeError> {
        let tag = self.byte()?;
        // The upper four bits are 0 in version 3, and skipped in later ones.
        let tag = if self.is_extensible() { tag & 15 } else { tag };
        let status = match tag & 3 {
            0 => Status::Alive,
            1 => Status::Suspect,
            2 => Status::Dead,
            _ => Status::Left,
        };
        let (id, generation, incarnation) = (self.id()?, self.generation()?, self.incarnation()?);
        let revision = self.up_to(u64::from(Profile::REVISION_MAX), "revision")? as u32;
        let details = match tag >> 2 {
            0 => None,
            1 => Some(self.details(Role::Worker)?),
            3 => Some(self.details(Role::Monitor)?),
            _ => return Err(DecodeError::Field("tag")),
        };
        Ok(Row { id, status, generation, incarnation, revision, details })
    }

    fn details(&mut self, role: Role) -> Result<Details<'a>, DecodeError> {
        let address = self.address()?;
        let name = self.text("name", NAME_BYTES_MAX)?;
        if name.is_empty() {
            return Err(DecodeError::Field("name"));
        }
        let zone = self.text("zone", NAME_BYTES_MAX)?;
        let count = self.byte()?;
        let before = self.bytes;
        for _ in 0..2 * usize::from(count) {
            self.text("metadata", usize::from(u8::MAX))?;
        }
        let bytes = &before[..before.len() - self.bytes.len()];
        if bytes.len() > PAIRS_BYTES_MAX {
            return Err(DecodeError::Field("metadata"));
        }
        let pairs = Pairs { bytes, count };
        let count = self.byte()?;
        if usize::from(count) > GROUPS_MAX {
            return Err(DecodeError::Field("groups"));
        }
        let before = self.bytes;
        let mut declined = 0;
        for _ in 0..count {
            declined += self.group()?.declined.bytes();
        }
        if declined > DECLINED_BYTES_MAX {
            return Err(DecodeError::Field("groups"));
        }
        let groups = Groups { bytes: &before[..before.len() - self.bytes.len()], count };
        let extension = if self.is_extensible() { self.extension()? } else { Extension::default() };
        Ok(Details { role, address, name, zone, pairs, groups, extension })
    }

    fn extension(&mut self) -> Result<Extension<'a>, DecodeError> {
        let length = usize::from(self.byte()?);
        if length > EXTENSION_BYTES_MAX {
            return Err(DecodeError::Field("extension"));
        }
        let bytes = self.take(length)?;
        Reader { bytes, version: self.version }.parts("extension", VERSIONS_PART)?;
        let (versions, unknown) = match bytes {
            [VERSIONS_PART, 2, min, max, unknown @ ..] => {
                (Some(WireVersions::new(*min, *max).ok_or(DecodeError::Field("versions"))?), unknown)
            }
            [VERSIONS_PART, ..] => return Err(DecodeError::Field("versions")),
            unknown => (None, unknown),
        };
        Ok(Extension { bytes, versions, unknown })
    }

    /// Skips parts up to the end. Their types rise, so that each comes once. Returns the bytes of
    /// the one of type `wanted`.
    fn parts(&mut self, field: &'static str, wanted: u8) -> Result<Option<&'a [u8]>, DecodeError> {
        let (mut before, mut found) = (0, None);
        while !self.bytes.is_empty() {
            let (kind, length) = (self.byte()?, usize::from(self.byte()?));
            if kind <= before {
                return Err(DecodeError::Field(field));
            }
            before = kind;
            let bytes = self.take(length)?;
            if kind == wanted {
                found = Some(bytes);
            }
        }
        Ok(found)
    }

    fn group(&mut self) -> Result<ShardGroup, DecodeError> {
        let (group, count) = (self.id()?.0, self.small("groups")?);
        if !(1..=SHARDS_MAX).contains(&count) {
            return Err(DecodeError::Field("groups"));
        }
        Ok(ShardGroup { group, count, declined: self.declined()? })
    }

    fn declined(&mut self) -> Result<Declined, DecodeError> {
        let tag = self.byte()?;
        if let Some(shift) = tag.checked_sub(BLOCKS_TAG) {
            let length = usize::from(u16::from_le_bytes(self.array()?));
            if shift > 16 || length == 0 || length > DECLINED_BYTES_MAX {
                return Err(DecodeError::Field("groups"));
            }
            return Ok(Declined::Blocks { shift, bits: self.take(length)?.to_vec() });
        }
        let (mut ranges, mut from) = (Vec::with_capacity(usize::from(tag)), 0);
        for _ in 0..tag {
            let (gap, length) = (self.index()?, self.index()?);
            let (first, last) = (from + gap, from + gap + length);
            // Each begins behind the one before it.
            if last >= SHARDS_MAX || gap == 0 && !ranges.is_empty() {
                return Err(DecodeError::Field("groups"));
            }
            ranges.push((first, last));
            from = last;
        }
        Ok(Declined::Ranges(ranges))
    }

    fn address(&mut self) -> Result<SocketAddr, DecodeError> {
        let ip = match self.byte()? {
            4 => IpAddr::from(self.array::<4>()?),
            6 => IpAddr::from(self.array::<16>()?),
            _ => return Err(DecodeError::Field("address")),
        };
        Ok(canonical(SocketAddr::new(ip, u16::from_le_bytes(self.array()?))))
    }

    fn text(&mut self, field: &'static str, most: usize) -> Result<&'a str, DecodeError> {
        let length = usize::from(self.byte()?);
        if length > most {
            return Err(DecodeError::Field(field));
        }
        std::str::from_utf8(self.take(length)?).map_err(|_| DecodeError::Field(field))
    }
}
