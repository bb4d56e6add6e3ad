//! Writing datagrams.

use std::net::{IpAddr, SocketAddr};

use super::{
    BLOCKS_TAG, Body, CHALLENGE_KIND, DATAGRAM_BYTES_MAX, Digests, Header, INTRODUCE_KIND, JOIN_KIND, MAGIC,
    PROBE_KIND, Part, Row, SUMMARY_PART, VERSION_EXTENSIBLE, VERSION_MAX, VERSION_MIN, VERSIONS_PART,
};
use crate::member::{Declined, Incarnation, Member, Role, ShardGroup, Status, WIRE_KEY, WireVersions};

/// Writes "I want to be a member" into `buffer`, which it clears first; `me` is the sender. The
/// version is the lowest that `me` can use.
pub fn encode_join(buffer: &mut Vec<u8>, header: Header, token: u64, me: &Member) {
    begin(buffer, me.wire_versions.min, JOIN_KIND, header);
    buffer.extend_from_slice(&token.to_le_bytes());
    push_member(buffer, me, true);
    buffer.push(0);
}

/// Writes "is your table the same as mine" into `buffer`, which it clears first, as [`encode_in`]
/// would.
pub fn encode_sync(version: u8, buffer: &mut Vec<u8>, header: Header, digests: &Digests) {
    begin(buffer, version, 10, header);
    push_digests(buffer, digests);
    buffer.push(0);
}

/// Writes a datagram of the lowest version into `buffer`, as [`encode_in`] does.
pub fn encode(buffer: &mut Vec<u8>, header: Header, body: &Body<'_>) {
    encode_in(VERSION_MIN, buffer, header, body);
}

/// Writes a datagram of this version into `buffer`, which it clears first; it carries no rumours
/// yet: its last byte counts them.
pub fn encode_in(version: u8, buffer: &mut Vec<u8>, header: Header, body: &Body<'_>) {
    begin(buffer, version, kind(body), header);
    push_body(buffer, body);
    buffer.push(0);
}

fn push_body(buffer: &mut Vec<u8>, body: &Body<'_>) {
    match body {
        Body::Heartbeat(heartbeat) => {
            incarnation(buffer, heartbeat.incarnation);
            varint(buffer, heartbeat.stage);
            varint(buffer, heartbeat.interval.as_micros() as u64);
            varint(buffer, heartbeat.slept);
            buffer.extend_from_slice(&[heartbeat.health, u8::from(heartbeat.asks), heartbeat.observers.count]);
            for short in heartbeat.observers.iter() {
                buffer.extend_from_slice(&short.to_le_bytes());
            }
        }
        Body::Ack(ack) => {
            varint(buffer, ack.stage);
            buffer.push(ack.health);
        }
        Body::Probe { number } | Body::Poll { number } | Body::Vote { number } => {
            buffer.extend_from_slice(&number.to_le_bytes());
        }
        Body::Echo(echo) => {
            buffer.extend_from_slice(&echo.number.to_le_bytes());
            incarnation(buffer, echo.incarnation);
            buffer.push(u8::from(echo.is_observer));
        }
        Body::IndirectProbe(inquire) => {
            buffer.extend_from_slice(&inquire.number.to_le_bytes());
            buffer.extend_from_slice(&inquire.target.0.to_le_bytes());
            varint(buffer, inquire.generation.0);
            varint(buffer, inquire.stage);
            buffer.push(u8::from(inquire.gone) | u8::from(inquire.death) << 1);
        }
        Body::ProbeReport(evidence) => {
            buffer.extend_from_slice(&evidence.number.to_le_bytes());
            buffer.extend_from_slice(&evidence.target.0.to_le_bytes());
            varint(buffer, evidence.generation.0);
            varint(buffer, evidence.stage);
            varint(buffer, evidence.silence.as_micros() as u64);
            let flags = u8::from(evidence.reached) | u8::from(evidence.gone) << 1 | u8::from(evidence.agrees) << 2;
            buffer.extend_from_slice(&[flags, evidence.health]);
        }
        Body::Join(join) => {
            buffer.extend_from_slice(&join.token.to_le_bytes());
            push_row(buffer, &join.row);
        }
        Body::Challenge { token } => buffer.extend_from_slice(&token.to_le_bytes()),
        Body::Sync(digests) => push_digests(buffer, digests),
        Body::Rows(rows) => {
            buffer.extend_from_slice(&rows.differing.to_le_bytes());
            buffer.push(u8::from(rows.more) | u8::from(rows.welcome) << 1 | u8::from(rows.whole) << 2);
        }
        Body::Ask { number, group, indexes } => {
            buffer.extend_from_slice(&number.to_le_bytes());
            buffer.extend_from_slice(&group.to_le_bytes());
            buffer.push(indexes.len() as u8);
            indexes.iter().for_each(|&index| varint(buffer, u64::from(index)));
        }
        Body::Part(part) => push_part(buffer, part),
        Body::Kept { parts, refused } => {
            buffer.extend_from_slice(&parts.to_le_bytes());
            buffer.push(u8::from(*refused));
        }
        Body::Refused(refused) => {
            buffer.push(refused.reason);
            varint(buffer, refused.value);
        }
        Body::Release | Body::Introduce | Body::Gossip | Body::Hello => {}
    }
}

/// Adds a rumour to the datagram in `buffer`, whose count of rumours stands at `count_at`: all of
/// the member if `whole`, else a note. Returns whether there was room.
pub fn push_rumour(buffer: &mut Vec<u8>, count_at: usize, member: &Member, whole: bool) -> bool {
    let before = buffer.len();
    if buffer[count_at] == u8::MAX {
        return false;
    }
    push_member(buffer, member, whole);
    if buffer.len() > DATAGRAM_BYTES_MAX {
        buffer.truncate(before);
        return false;
    }
    buffer[count_at] += 1;
    true
}

/// Adds what observers have learnt to the datagram in `buffer`, behind its last rumour. Returns
/// whether that was possible: the version has parts, and there was room.
pub fn push_summary(buffer: &mut Vec<u8>, summary: &[u8]) -> bool {
    let Ok(length) = u8::try_from(summary.len()) else { return false };
    if !is_extensible(buffer) || buffer.len() + 2 + summary.len() > DATAGRAM_BYTES_MAX {
        return false;
    }
    buffer.extend_from_slice(&[SUMMARY_PART, length]);
    buffer.extend_from_slice(summary);
    true
}

/// Clears `buffer` and writes a datagram with this row as its only content, in the highest version:
/// that loses nothing of the row.
pub(crate) fn encode_row(buffer: &mut Vec<u8>, header: Header, row: &Row<'_>) {
    begin(buffer, VERSION_MAX, kind(&Body::Gossip), header);
    buffer.push(1);
    push_row(buffer, row);
}

const fn kind(body: &Body<'_>) -> u8 {
    match body {
        Body::Heartbeat(_) => 0,
        Body::Ack(_) => 1,
        Body::Probe { .. } => PROBE_KIND,
        Body::Echo(_) => 3,
        Body::IndirectProbe(_) => 4,
        Body::ProbeReport(_) => 5,
        Body::Release => 6,
        Body::Join(_) => JOIN_KIND,
        Body::Challenge { .. } => CHALLENGE_KIND,
        Body::Introduce => INTRODUCE_KIND,
        Body::Sync(_) => 10,
        Body::Rows(_) => 11,
        Body::Gossip => 12,
        Body::Hello => 13,
        Body::Poll { .. } => 14,
        Body::Vote { .. } => 15,
        Body::Ask { .. } => 16,
        Body::Part(_) => 17,
        Body::Kept { .. } => 18,
        Body::Refused(_) => 19,
    }
}

fn varint(buffer: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        buffer.push(value as u8 | 0x80);
        value >>= 7;
    }
    buffer.push(value as u8);
}

fn incarnation(buffer: &mut Vec<u8>, incarnation: Incarnation) {
    varint(buffer, u64::from(incarnation.returns));
    varint(buffer, u64::from(incarnation.refutations));
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

fn text(buffer: &mut Vec<u8>, text: &str) {
    assert!(text.len() <= usize::from(u8::MAX), "texts are bounded where they come in");
    buffer.push(text.len() as u8);
    buffer.extend_from_slice(text.as_bytes());
}

fn begin(buffer: &mut Vec<u8>, version: u8, kind: u8, header: Header) {
    buffer.clear();
    buffer.extend_from_slice(&MAGIC);
    buffer.extend_from_slice(&[version, kind]);
    buffer.extend_from_slice(&header.cluster.to_le_bytes());
    buffer.extend_from_slice(&header.from.0.to_le_bytes());
    varint(buffer, header.generation.0);
    varint(buffer, header.clock);
}

/// Length of an [`Body::Introduce`] with this header, in bytes.
pub(crate) fn introduction_bytes(header: Header) -> usize {
    let varint_bytes = |value: u64| (70 - (value | 1).leading_zeros() as usize) / 7;
    MAGIC.len() + 2 + 4 + 8 + varint_bytes(header.generation.0) + varint_bytes(header.clock) + 1
}

/// Bytes of a challenge with this header.
pub(crate) fn challenge_bytes(header: Header) -> usize {
    introduction_bytes(header) + size_of::<u64>()
}

fn push_part(buffer: &mut Vec<u8>, part: &Part<'_>) {
    buffer.extend_from_slice(&part.number.to_le_bytes());
    buffer.extend_from_slice(&part.group.to_le_bytes());
    varint(buffer, u64::from(part.index));
    varint(buffer, part.epoch.0);
    varint(buffer, part.sequence);
    for field in [part.version, part.total, part.offset] {
        varint(buffer, u64::from(field));
    }
    buffer.extend_from_slice(&(part.bytes.len() as u16).to_le_bytes());
    buffer.extend_from_slice(part.bytes);
}

fn push_digests(buffer: &mut Vec<u8>, digests: &Digests) {
    digests.iter().for_each(|digest| buffer.extend_from_slice(&digest.to_le_bytes()));
}

fn push_member(buffer: &mut Vec<u8>, member: &Member, whole: bool) {
    if !whole {
        return push_head(buffer, None, &note(member));
    }
    push_head(buffer, Some(member.role), &note(member));
    address(buffer, member.address);
    text(buffer, &member.name);
    text(buffer, &member.zone);
    let is_extensible = is_extensible(buffer);
    let pair = (!is_extensible).then_some(member.wire_versions).filter(|range| *range != WireVersions::UNPUBLISHED);
    buffer.push(member.metadata.len() as u8 + u8::from(pair.is_some()));
    for (key, value) in &member.metadata {
        text(buffer, key);
        text(buffer, value);
    }
    if let Some(range) = pair {
        text(buffer, WIRE_KEY);
        text(buffer, &range.to_string());
    }
    buffer.push(member.groups.len() as u8);
    for ShardGroup { group, count, declined } in &member.groups {
        buffer.extend_from_slice(&group.to_le_bytes());
        varint(buffer, u64::from(*count));
        push_declined(buffer, declined);
    }
    if is_extensible {
        let WireVersions { min, max } = member.wire_versions;
        let versions = [VERSIONS_PART, 2, min, max];
        let is_published = member.wire_versions != WireVersions::UNPUBLISHED;
        let versions = if is_published { &versions[..] } else { &[] };
        buffer.push((versions.len() + member.extension.len()) as u8);
        buffer.extend_from_slice(versions);
        buffer.extend_from_slice(&member.extension);
    }
}

/// Whether the datagram in `buffer` is of a version whose rows have an extension.
fn is_extensible(buffer: &[u8]) -> bool {
    buffer[MAGIC.len()] >= VERSION_EXTENSIBLE
}

fn push_declined(buffer: &mut Vec<u8>, declined: &Declined) {
    match declined {
        Declined::Ranges(ranges) => {
            buffer.push(ranges.len() as u8);
            let mut from = 0;
            for &(first, last) in ranges {
                varint(buffer, u64::from(first - from));
                varint(buffer, u64::from(last - first));
                from = last;
            }
        }
        Declined::Blocks { shift, bits } => {
            buffer.push(BLOCKS_TAG + shift);
            buffer.extend_from_slice(&(bits.len() as u16).to_le_bytes());
            buffer.extend_from_slice(bits);
        }
    }
}

fn push_row(buffer: &mut Vec<u8>, row: &Row<'_>) {
    push_head(buffer, row.details.map(|details| details.role), row);
    if let Some(details) = row.details {
        address(buffer, details.address);
        text(buffer, details.name);
        text(buffer, details.zone);
        buffer.push(details.pairs.count);
        buffer.extend_from_slice(details.pairs.bytes);
        buffer.push(details.groups.count);
        buffer.extend_from_slice(details.groups.bytes);
        if is_extensible(buffer) {
            buffer.push(details.extension.bytes.len() as u8);
            buffer.extend_from_slice(details.extension.bytes);
        }
    }
}

/// A member as a note.
fn note(member: &Member) -> Row<'static> {
    let Member { id, status, generation, incarnation, .. } = *member;
    Row { id, status, generation, incarnation, revision: member.revision, details: None }
}

/// What rows and notes begin with; a note tells no role.
fn push_head(buffer: &mut Vec<u8>, role: Option<Role>, row: &Row<'_>) {
    let status = match row.status {
        Status::Alive => 0,
        Status::Suspect => 1,
        Status::Dead => 2,
        Status::Left => 3,
    };
    let role = match role {
        None => 0,
        Some(Role::Worker) => 1 << 2,
        Some(Role::Monitor) => 3 << 2,
    };
    buffer.push(status | role);
    buffer.extend_from_slice(&row.id.0.to_le_bytes());
    varint(buffer, row.generation.0);
    incarnation(buffer, row.incarnation);
    varint(buffer, u64::from(row.revision));
}
