//! The codec: what decodes is encoded again to an equal message.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heartbeat_core::member::{Declined, WireVersions, name_hash};
use heartbeat_core::wire::{
    Ack, Body, DATAGRAM_BYTES_MAX, Datagram, Echo, Header, Heartbeat, Observers, Part, Refused, Row, Rows, VERSION_MAX,
    VERSION_MIN, decode, encode, encode_in, encode_join, push_rumour,
};
use heartbeat_core::{Epoch, Generation, Incarnation, Member, NodeId, Profile, ShardGroup, Status};

use crate::{bounded, fuzz, mutate};

/// Bytes that decoding one datagram, and what is made of it here, may hold at a time. A datagram
/// has 1,200 bytes; a range of declined shards takes 2 of them and 8 in memory.
const DECODED_BYTES_MAX: usize = 64 * 1_024;

/// The header of the member that the samples are from.
pub(crate) fn header(name: &str, generation: Generation) -> Header {
    Header { cluster: name_hash("c") as u32, from: NodeId::of(name), generation, clock: 60_000 }
}

/// A member that says all that a member may say.
fn member(name: &str, status: Status) -> Member {
    let declined = Declined::Ranges(vec![(1, 3), (9, 300)]);
    let blocks = Declined::Blocks { shift: 3, bits: vec![1, 0x80] };
    let profile = Profile {
        zone: "rack".into(),
        metadata: [("http".to_owned(), "8080".to_owned()), ("weight".to_owned(), "2".to_owned())].into(),
        groups: vec![
            ShardGroup { declined, ..ShardGroup::new(7, 512) },
            ShardGroup { declined: blocks, ..ShardGroup::new(8, 512) },
        ],
        wire_versions: WireVersions { min: VERSION_MIN, max: VERSION_MAX },
        extension: [9, 2, 1, 2, 200, 0].into(),
        revision: 300,
        ..Profile::new(name, "10.0.0.9:7100".parse().unwrap())
    };
    let incarnation = Incarnation::default().refuted().unwrap();
    Member { incarnation, status, ..Member::new(profile, Generation(2)) }
}

/// One datagram of each kind, with rumours and without.
pub(crate) fn samples(header: Header) -> Vec<Vec<u8>> {
    let (number, incarnation) = (7, Incarnation::default());
    let observers = Observers::new([NodeId::of("a"), NodeId::of("b"), NodeId::of("c")]);
    let interval = Duration::from_secs(1);
    let heartbeat = Heartbeat { incarnation, stage: 57_603, interval, slept: 1, health: 0, asks: true, observers };
    let part = Part {
        number,
        group: 7,
        index: 300,
        epoch: Epoch(1 << 40),
        sequence: 1,
        version: 2,
        total: 5,
        offset: 2,
        bytes: b"abc",
    };
    let bodies = [
        Body::Heartbeat(heartbeat),
        Body::Ack(Ack { stage: 57_603, health: 2 }),
        Body::Probe { number },
        Body::Echo(Echo { number, incarnation, is_observer: true }),
        Body::Release,
        Body::Challenge { token: 1 << 63 },
        Body::Introduce,
        Body::Sync(Box::new([3; 64])),
        Body::Rows(Rows { differing: 5, more: true, welcome: false, whole: true }),
        Body::Gossip,
        Body::Hello,
        Body::Poll { number },
        Body::Vote { number },
        Body::Ask { number, group: 7, indexes: vec![0, 300, 65_535].into() },
        Body::Part(part),
        Body::Kept { parts: 70_000, refused: true },
        Body::Refused(Refused { reason: 2, value: 1_000 }),
    ];
    let mut samples = Vec::new();
    let both = [VERSION_MIN, VERSION_MAX];
    for (version, body) in both.into_iter().flat_map(|version| bodies.iter().map(move |body| (version, body))) {
        let mut bytes = Vec::new();
        encode_in(version, &mut bytes, header, body);
        samples.push(bytes.clone());
        let count_at = bytes.len() - 1;
        assert!(push_rumour(&mut bytes, count_at, &member("d", Status::Alive), true));
        assert!(push_rumour(&mut bytes, count_at, &member("e", Status::Dead), false));
        samples.push(bytes);
    }
    let mut join = Vec::new();
    encode_join(&mut join, header, 5, &member("d", Status::Alive));
    samples.push(join);
    // A question about a target and its answer, by their numbers in the layout: 4 and 5.
    let target = NodeId::of("a").0.to_le_bytes();
    let question = [&[7, 0, 0, 0], &target[..], &[1, 9, 3, 0]].concat();
    let answer = [&[7, 0, 0, 0], &target[..], &[1, 9, 100, 5, 0, 0]].concat();
    for (kind, fields) in [(4, question), (5, answer)] {
        let mut bytes = Vec::new();
        encode(&mut bytes, header, &Body::Hello);
        bytes[3] = kind;
        bytes.pop();
        bytes.extend_from_slice(&fields);
        assert!(decode(&bytes).is_ok(), "kind {kind}: {:?}", decode(&bytes));
        samples.push(bytes);
    }
    samples
}

/// The member that a row describes. A note carries no profile: its member has no name.
fn member_of(row: &Row<'_>) -> Member {
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let profile = match &row.details {
        Some(details) => details.profile(row.revision),
        None => Profile { revision: row.revision, ..Profile::new("", nowhere) },
    };
    let Row { id, generation, incarnation, status, .. } = *row;
    Member { id, profile: Arc::new(profile), generation, incarnation, status }
}

fn rumours(datagram: &Datagram<'_>) -> Vec<(bool, Member)> {
    datagram.rumours.iter().map(|row| (row.details.is_some(), member_of(&row))).collect()
}

fn check(bytes: &[u8]) {
    let Ok(datagram) = decode(bytes) else { return };
    let mut again = Vec::new();
    encode_in(datagram.version(), &mut again, datagram.header, &datagram.body);
    let count_at = again.len() - 1;
    for (is_whole, member) in rumours(&datagram) {
        assert!(push_rumour(&mut again, count_at, &member, is_whole), "what came in one datagram fits one");
    }
    assert!(again.len() <= bytes.len(), "the shortest form of each field is written");
    let read = decode(&again).expect("what was written is read");
    assert_eq!((read.header, &read.body), (datagram.header, &datagram.body));
    assert_eq!(rumours(&read), rumours(&datagram));
}

#[test]
fn a_datagram_that_decodes_encodes_to_an_equal_one() {
    let samples = samples(header("b", Generation(1)));
    let mut decoded = 0_u64;
    fuzz(
        |random| mutate::bytes(random, &samples, DATAGRAM_BYTES_MAX + 100),
        |bytes| {
            bounded(DECODED_BYTES_MAX, || check(bytes));
            decoded += u64::from(decode(bytes).is_ok());
        },
    );
    assert!(decoded > 0, "some inputs are well-formed");
}
