//! The bytes of each version of the wire format, held by files in `tests/data/wire`: a line for
//! each datagram, its name and its bytes. The decoder in Python reads the same files.
//!
//! A change of `version-3.txt` would mean that this release does not understand the former one.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use heartbeat_core::detection::LinkSummary;
use heartbeat_core::member::{Declined, Epoch, ShardGroup, WireVersions, name_hash};
use heartbeat_core::wire::{
    Ack, Body, EPOCH_MAX, Echo, Header, Heartbeat, IndirectProbe, Observers, PART_BYTES_MAX, Part, ProbeReport,
    Refused, Rows, SEQUENCE_MAX, SILENCE_MAX, STAGE_MAX, TIME_MAX, VERSION_MAX, VERSION_MIN, decode, encode_in,
    encode_join, push_rumour, push_summary,
};
use heartbeat_core::{Generation, Incarnation, Member, NodeId, Profile, Role, Status};

/// A summary: jitter of a sixteenth of an interval, nine tenths of silences are lost heartbeats, no
/// silence after one heartbeat in four, and 1 to 8 intervals after one in 16 to 4^5.
const SUMMARY: [u8; 7] = [64, 230, 0, 128, 144, 160, 176];

fn header() -> Header {
    let (cluster, from) = (name_hash("orders") as u32, NodeId::of("node-1"));
    Header { cluster, from, generation: Generation(1_795_000_000_000), clock: 3_600_000 }
}

/// A member that publishes little.
fn small(name: &str, status: Status) -> Member {
    let profile = Profile::new(name, "10.0.0.2:7100".parse().unwrap());
    Member { status, ..Member::new(profile, Generation(1_795_000_000_000)) }
}

/// A member that publishes something in each field, with numbers near their ends.
fn full(name: &str, status: Status) -> Member {
    let ranges = Declined::Ranges(vec![(3, 3), (63, 300)]);
    let profile = Profile {
        role: Role::Monitor,
        zone: "rack-4".into(),
        metadata: [("http".to_owned(), "8080".to_owned()), ("weight".to_owned(), "2".to_owned())].into(),
        groups: vec![
            ShardGroup { declined: ranges, ..ShardGroup::new(name_hash("orders"), 512) },
            ShardGroup { declined: Declined::Blocks { shift: 14, bits: vec![5] }, ..ShardGroup::new(7, 65_536) },
        ],
        revision: Profile::REVISION_MAX,
        ..Profile::new(name, "[2001:db8::9]:65535".parse().unwrap())
    };
    let incarnation = Incarnation { returns: 1, refutations: Incarnation::PART_MAX };
    Member { incarnation, status, ..Member::new(profile, Generation(TIME_MAX)) }
}

/// The same of a release that publishes the versions that it can use.
fn with_versions(member: Member, extension: &[u8]) -> Member {
    let wire_versions = WireVersions { min: VERSION_MIN, max: VERSION_MAX };
    let profile = Profile { wire_versions, extension: extension.into(), ..(*member.profile).clone() };
    Member { profile: Arc::new(profile), ..member }
}

/// Messages between a node and those that watch it, or are asked about it.
fn signs_of_life() -> Vec<(&'static str, Body<'static>)> {
    let heartbeat = Heartbeat {
        incarnation: Incarnation::default(),
        stage: 57_603,
        interval: Duration::from_secs(1),
        slept: 0,
        health: 0,
        asks: true,
        observers: Observers::new([NodeId::of("node-2")]),
    };
    let latest = Heartbeat {
        incarnation: Incarnation { returns: Incarnation::PART_MAX, refutations: 1 },
        stage: STAGE_MAX,
        interval: Duration::from_secs(3_600),
        slept: STAGE_MAX,
        health: 8,
        asks: false,
        observers: Observers::new((1..=16).map(|number| NodeId::of(&format!("node-{number}")))),
    };
    let (number, target, generation) = (0x0102_0304, NodeId::of("node-2"), Generation(1_795_000_000_000));
    let report = ProbeReport {
        number,
        target,
        generation,
        stage: 5,
        silence: SILENCE_MAX,
        reached: false,
        gone: true,
        agrees: true,
        health: 1,
    };
    let incarnation = Incarnation { returns: 3, refutations: 4 };
    vec![
        ("heartbeat", Body::Heartbeat(heartbeat)),
        ("heartbeat-latest", Body::Heartbeat(latest)),
        ("ack", Body::Ack(Ack { stage: 57_603, health: 2 })),
        ("probe", Body::Probe { number }),
        ("echo", Body::Echo(Echo { number, incarnation, is_observer: true })),
        (
            "indirect-probe",
            Body::IndirectProbe(IndirectProbe { number, target, generation, stage: 57_603, gone: true, death: false }),
        ),
        ("probe-report", Body::ProbeReport(report)),
        (
            "probe-report-reached",
            Body::ProbeReport(ProbeReport { reached: true, gone: false, agrees: false, ..report }),
        ),
        ("release", Body::Release),
    ]
}

/// All other messages but the joins.
fn other_bodies() -> Vec<(&'static str, Body<'static>)> {
    let number = 7;
    let part = Part {
        number,
        group: name_hash("orders"),
        index: 300,
        epoch: Epoch(EPOCH_MAX),
        sequence: SEQUENCE_MAX,
        version: u32::MAX,
        total: 5,
        offset: 2,
        bytes: b"abc",
    };
    let full_part = Part { total: 70_000, offset: 1_024, bytes: &[0xa5; PART_BYTES_MAX], ..part };
    let empty = Part { epoch: Epoch(0), sequence: 0, version: 0, total: 0, offset: 0, bytes: b"", ..part };
    vec![
        ("challenge", Body::Challenge { token: 0x0102_0304_0506_0708 }),
        ("introduce", Body::Introduce),
        ("sync", Body::Sync(Box::new(std::array::from_fn(|place| place as u32 * 0x0101_0101)))),
        ("rows", Body::Rows(Rows { differing: 5, more: true, welcome: false, whole: true })),
        ("rows-welcome", Body::Rows(Rows { differing: u64::MAX, more: false, welcome: true, whole: false })),
        ("gossip", Body::Gossip),
        ("hello", Body::Hello),
        ("poll", Body::Poll { number }),
        ("vote", Body::Vote { number }),
        ("ask", Body::Ask { number, group: 7, indexes: vec![0, 300, 65_535].into() }),
        ("ask-nothing", Body::Ask { number, group: 7, indexes: vec![].into() }),
        ("part", Body::Part(part)),
        ("part-full", Body::Part(full_part)),
        ("part-none", Body::Part(empty)),
        ("kept", Body::Kept { parts: 70_000, refused: true }),
        ("refused", Body::Refused(Refused { reason: 3, value: TIME_MAX })),
    ]
}

/// The text of the file of this version.
fn text(version: u8) -> String {
    let mut lines = String::new();
    let mut add = |name: &str, bytes: &[u8]| {
        assert!(decode(bytes).is_ok(), "{name}: {:?}", decode(bytes));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(lines, "{name} {hex}").unwrap();
    };
    let mut bytes = Vec::new();
    for (name, body) in signs_of_life().into_iter().chain(other_bodies()) {
        encode_in(version, &mut bytes, header(), &body);
        add(name, &bytes);
    }
    let statuses = [Status::Alive, Status::Suspect, Status::Dead, Status::Left];
    for (name, is_whole) in [("notes", false), ("rows", true)] {
        encode_in(version, &mut bytes, header(), &Body::Gossip);
        let count_at = bytes.len() - 1;
        for status in statuses {
            assert!(push_rumour(&mut bytes, count_at, &small("node-2", status), is_whole));
            assert!(push_rumour(&mut bytes, count_at, &full("ü", status), is_whole));
        }
        add(&format!("gossip-{name}"), &bytes);
    }
    encode_in(version, &mut bytes, header(), &Body::Gossip);
    let count_at = bytes.len() - 1;
    assert!(push_rumour(&mut bytes, count_at, &with_versions(small("node-2", Status::Alive), &[]), true));
    assert!(push_rumour(
        &mut bytes,
        count_at,
        &with_versions(full("ü", Status::Alive), &[9, 3, 1, 2, 3, 255, 0]),
        true
    ));
    add("gossip-versions", &bytes);
    encode_in(version, &mut bytes, Header { clock: u64::MAX, ..header() }, &Body::Introduce);
    add("clock-below-generation", &bytes);
    if version == 4 {
        for (name, body) in signs_of_life().into_iter().filter(|(name, _)| ["ack", "heartbeat"].contains(name)) {
            encode_in(version, &mut bytes, header(), &body);
            let count_at = bytes.len() - 1;
            assert!(push_rumour(&mut bytes, count_at, &small("node-2", Status::Suspect), false));
            assert!(push_summary(&mut bytes, &SUMMARY));
            add(&format!("{name}-summary"), &bytes);
        }
    }
    for (name, member) in [
        ("join", small("node-1", Status::Alive)),
        ("join-full", full("node-1", Status::Left)),
        ("join-versions", with_versions(small("node-1", Status::Alive), &[])),
    ] {
        let mut profile = (*member.profile).clone();
        // A join is written in the lowest version of its sender.
        profile.wire_versions.min = version;
        profile.wire_versions.max = profile.wire_versions.max.max(version);
        encode_join(&mut bytes, header(), 5, &Member { profile: Arc::new(profile), ..member });
        add(name, &bytes);
    }
    lines
}

/// The book has this example of a summary.
#[test]
fn a_summary_is_read_from_its_bytes() {
    let mut bytes = Vec::new();
    encode_in(4, &mut bytes, header(), &Body::Release);
    assert!(push_summary(&mut bytes, &SUMMARY));
    let read = decode(&bytes).unwrap().summary.and_then(LinkSummary::from_bytes).unwrap();
    assert_eq!(read.bytes(), SUMMARY);
}

#[test]
fn each_version_keeps_its_bytes() {
    for (version, expected) in
        [(3, include_str!("../data/wire/version-3.txt")), (4, include_str!("../data/wire/version-4.txt"))]
    {
        let text = text(version);
        for (line, expected) in text.lines().zip(expected.lines()) {
            assert_eq!(line, expected, "version {version}");
        }
        assert_eq!(text.lines().count(), expected.lines().count(), "version {version}");
    }
    assert_eq!((VERSION_MIN, VERSION_MAX), (3, 4), "each version has a file");
}
