//! Reflection: an address that has not proven that it receives gets no more bytes back than were
//! sent in its name, for each kind of datagram. Bytes are counted with the headers of IPv4 and UDP.
//!
//! A join that returns its token proves the address, so its answer may be longer. It is not among
//! the cases here: the token is known to the receiver at the address alone.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use heartbeat_actors::seal::{Key, Keyring, Seal};
use heartbeat_core::config::Config;
use heartbeat_core::input::Batch;
use heartbeat_core::member::{Declined, Epoch, GROUPS_MAX, ProcessId, SEAL_KEY, SHARDS_MAX, ShardGroup, name_hash};
use heartbeat_core::random::Random;
use heartbeat_core::wire::{self, Ack, Body, DecodeError, Echo, HEADERS_BYTES, Header, Heartbeat, IndirectProbe};
use heartbeat_core::wire::{Observers, Part, ProbeReport, Refused, Rows, SEALED_MAGIC, VERSION_MAX, VERSION_MIN};
use heartbeat_core::{Engine, Generation, Incarnation, Input, Instant, Member, NodeId, Output, Profile, Status};
use heartbeat_sim::{Shape, World};

use crate::{header, member};

/// An address that is no member's.
const STRANGER: &str = "192.0.2.1:9";

/// How long the answers are waited for.
const WATCHED: Duration = Duration::from_secs(5);

const KEYS: [&str; 2] = ["0123456789abcdef", "fedcba9876543210"];

/// The shortest message of each kind but a join.
fn shortest() -> Vec<Body<'static>> {
    let (incarnation, generation, target) = (Incarnation::default(), Generation(1), NodeId(1));
    let interval = Duration::from_micros(1);
    let observers = Observers::default();
    let silence = Duration::ZERO;
    vec![
        Body::Heartbeat(Heartbeat { incarnation, stage: 1, interval, slept: 0, health: 0, asks: true, observers }),
        Body::Ack(Ack { stage: 1, health: 0 }),
        Body::Probe { number: 1 },
        Body::Echo(Echo { number: 1, incarnation, is_observer: true }),
        Body::IndirectProbe(IndirectProbe { number: 1, target, generation, stage: 1, gone: true, death: true }),
        Body::ProbeReport(ProbeReport {
            number: 1,
            target,
            generation,
            stage: 1,
            silence,
            reached: true,
            gone: true,
            agrees: true,
            health: 0,
        }),
        Body::Release,
        Body::Challenge { token: 1 },
        Body::Introduce,
        Body::Sync(Box::new([1; 64])),
        Body::Rows(Rows { differing: u64::MAX, more: true, welcome: true, whole: true }),
        Body::Gossip,
        Body::Hello,
        Body::Poll { number: 1 },
        Body::Vote { number: 1 },
        Body::Ask { number: 1, group: 1, indexes: vec![].into() },
        Body::Part(Part {
            number: 1,
            group: 1,
            index: 0,
            epoch: Epoch(1),
            sequence: 0,
            version: 0,
            total: 0,
            offset: 0,
            bytes: b"",
        }),
        Body::Kept { parts: 1, refused: true },
        Body::Refused(Refused { reason: 1, value: 0 }),
    ]
}

/// The longest message of the kind of this one. Each kind of [`Body`] stands here: one that is new
/// does not compile.
fn longest(body: &Body<'_>) -> Body<'static> {
    const BYTES: &[u8] = &[7; wire::PART_BYTES_MAX];
    let incarnation = Incarnation { returns: Incarnation::PART_MAX, refutations: Incarnation::PART_MAX };
    let (number, target, generation) = (u32::MAX, NodeId::of("node-2"), Generation(wire::TIME_MAX));
    let stage = wire::STAGE_MAX;
    match body {
        Body::Heartbeat(_) => Body::Heartbeat(Heartbeat {
            incarnation,
            stage,
            interval: wire::INTERVAL_MAX,
            slept: stage,
            health: u8::MAX,
            asks: true,
            observers: Observers::new((1..=wire::OBSERVERS_MAX as u64).map(NodeId)),
        }),
        Body::Ack(_) => Body::Ack(Ack { stage, health: u8::MAX }),
        Body::Probe { .. } => Body::Probe { number },
        Body::Echo(_) => Body::Echo(Echo { number, incarnation, is_observer: true }),
        Body::IndirectProbe(_) => {
            Body::IndirectProbe(IndirectProbe { number, target, generation, stage, gone: true, death: true })
        }
        Body::ProbeReport(_) => Body::ProbeReport(ProbeReport {
            number,
            target,
            generation,
            stage,
            silence: wire::SILENCE_MAX,
            reached: true,
            gone: true,
            agrees: true,
            health: u8::MAX,
        }),
        Body::Release => Body::Release,
        Body::Join(_) => panic!("a join is written from the row of a member"),
        Body::Challenge { .. } => Body::Challenge { token: u64::MAX },
        Body::Introduce => Body::Introduce,
        Body::Sync(_) => Body::Sync(Box::new([u32::MAX; 64])),
        Body::Rows(_) => Body::Rows(Rows { differing: u64::MAX, more: true, welcome: true, whole: true }),
        Body::Gossip => Body::Gossip,
        Body::Hello => Body::Hello,
        Body::Poll { .. } => Body::Poll { number },
        Body::Vote { .. } => Body::Vote { number },
        Body::Ask { .. } => {
            let indexes = (0..wire::ASKED_MAX as u32).collect();
            Body::Ask { number, group: name_hash(heartbeat_sim::GROUP), indexes }
        }
        Body::Part(_) => Body::Part(Part {
            number,
            group: name_hash(heartbeat_sim::GROUP),
            index: 1,
            epoch: Epoch(wire::EPOCH_MAX),
            sequence: wire::SEQUENCE_MAX,
            version: u32::MAX,
            total: BYTES.len() as u32,
            offset: 0,
            bytes: BYTES,
        }),
        Body::Kept { .. } => Body::Kept { parts: number, refused: true },
        Body::Refused(_) => Body::Refused(Refused { reason: u8::MAX, value: u64::MAX }),
    }
}

/// A member of this name that says as much of itself as travels.
fn talkative(name: &str, generation: Generation, address: SocketAddr) -> Member {
    let mut profile = Profile::new(name, address);
    profile.zone = "z".repeat(64).into();
    profile.metadata = [("k".repeat(100), "v".repeat(143))].into();
    profile.groups = vec![ShardGroup::new(u64::MAX, SHARDS_MAX); GROUPS_MAX];
    profile.groups[0].declined = Declined::Blocks { shift: 5, bits: vec![1; 200] };
    profile.revision = Profile::REVISION_MAX;
    Member::new(profile, generation)
}

/// Datagrams of each kind by this process of a node: the shortest and the longest message, the
/// latter also with rumours to the end of the datagram.
fn of_each_kind(name: &str, generation: Generation) -> Vec<Vec<u8>> {
    let from: SocketAddr = STRANGER.parse().unwrap();
    let me = member(name, generation, from);
    let mut all = Vec::new();
    for version in VERSION_MIN..=VERSION_MAX {
        for body in shortest() {
            let (mut short, mut long) = (Vec::new(), Vec::new());
            wire::encode_in(version, &mut short, header(&me), &body);
            let late = Header { clock: wire::TIME_MAX - generation.0, ..header(&me) };
            wire::encode_in(version, &mut long, late, &longest(&body));
            all.extend([short, long.clone()]);
            let count_at = long.len() - 1;
            for number in 0.. {
                let address = SocketAddr::from(([192, 0, 2, 2], 1_000 + number));
                let rumour = member(&format!("ghost-{number}"), Generation(1), address);
                if !wire::push_rumour(&mut long, count_at, &rumour, number % 2 == 0) {
                    break;
                }
            }
            all.push(long);
        }
    }
    for me in [me, talkative(name, generation, from)] {
        for (token, status) in [(0, Status::Alive), (u64::MAX, Status::Alive), (7, Status::Left)] {
            let mut join = Vec::new();
            wire::encode_join(&mut join, header(&me), token, &Member { status, ..me.clone() });
            all.push(join);
        }
    }
    all
}

/// The kinds that can be read.
fn known_kinds() -> BTreeSet<u8> {
    let me = member("m", Generation(1), STRANGER.parse().unwrap());
    let mut bytes = Vec::new();
    wire::encode(&mut bytes, header(&me), &Body::Release);
    let is_known = |kind: &u8| {
        bytes[3] = *kind;
        wire::decode(&bytes) != Err(DecodeError::Field("kind"))
    };
    (0..=u8::MAX).filter(is_known).collect()
}

/// The processes in whose names is sent: strangers; of a member and of the receiver its own one, an
/// earlier and a later one of its name.
fn names(engine: &Engine) -> Vec<(String, Generation)> {
    let mut names = vec![("m".to_owned(), Generation(1)), ("m".to_owned(), Generation(wire::TIME_MAX / 2))];
    for known in engine.members().filter(|known| matches!(&*known.name, "node-1" | "node-2")) {
        let Generation(now) = known.generation;
        names.extend([1, now - 1, now, now + 1].map(|generation| (known.name.to_string(), Generation(generation))));
    }
    names
}

/// A node that is looked at alone: the rest of its cluster is silent from here on.
struct Door {
    engine: Engine,
    seal: Option<Seal>,
    now: Instant,
}

impl Door {
    /// Hands over datagrams from one address, in one batch. Returns how many bytes of datagrams go
    /// there within [`WATCHED`], with their headers.
    fn answered(&mut self, from: SocketAddr, datagrams: &[Vec<u8>]) -> usize {
        let mut batch = Batch::default();
        datagrams.iter().for_each(|bytes| batch.push(from, bytes));
        if let Some(seal) = &mut self.seal {
            batch.open_each(|_, bytes| seal.open(bytes).ok());
        }
        let end = self.now + WATCHED;
        self.engine.handle(self.now, Input::Datagrams { batch: batch.into(), wall: None, empty_at: Some(self.now) });
        let mut answered = self.drain(from);
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= end) {
            self.engine.handle(due, Input::Timeout);
            answered += self.drain(from);
        }
        answered
    }

    /// Bytes that go to this address now.
    fn drain(&mut self, to: SocketAddr) -> usize {
        let (mut buffer, mut count) = (Vec::new(), 0);
        while let Some(output) = self.engine.poll_output(&mut buffer) {
            if let Output::Transmit { to: address, receiver } = output
                && address == to
            {
                match &mut self.seal {
                    Some(seal) => seal.seal(receiver, &buffer, |form| count += form.len() + HEADERS_BYTES),
                    None => count += buffer.len() + HEADERS_BYTES,
                }
            }
        }
        count
    }
}

/// The second node of a cluster of six that is some seconds old, as it is then.
fn settled() -> (Engine, Instant) {
    let mut world = World::of(1, Shape::decentralised(6), Config::default());
    world.run(Duration::from_secs(8));
    (world.engine(1).unwrap().clone(), world.clock_of(1))
}

fn ring(keys: &[usize]) -> Keyring {
    Keyring::new(keys.iter().map(|key| Key::from_hex(&KEYS[*key].repeat(4)).unwrap())).unwrap()
}

fn id_of(engine: &Engine) -> ProcessId {
    let me = engine.members().find(|member| &*member.name == "node-2").unwrap();
    ProcessId { node: me.id, generation: me.generation }
}

/// The seal of the node, which knows that all members have the first key.
fn seal_of(engine: &Engine, keys: &[usize], accept_plain: bool) -> Seal {
    let mut seal = Seal::new(id_of(engine), ring(keys), accept_plain, 1_024, 5);
    let with_key = |known: &Member| {
        let mut profile = (*known.profile).clone();
        profile.metadata.insert(SEAL_KEY.into(), ring(&[0]).ids()[0].to_string());
        Member { profile: profile.into(), ..known.clone() }
    };
    seal.set_members(engine.members().map(with_key).collect::<Vec<_>>().iter());
    seal
}

/// Asserts for datagrams of each kind, in each name, that the answers have no more bytes.
/// `seal_with` makes the seal of the receiver, `disguise` what is sent of each datagram.
#[track_caller]
fn check(seal_with: impl Fn(&Engine) -> Option<Seal>, mut disguise: impl FnMut(ProcessId, Vec<u8>) -> Vec<u8>) {
    let (engine, now) = settled();
    let (from, me) = (STRANGER.parse().unwrap(), id_of(&engine));
    let mut all = Vec::new();
    for (name, generation) in names(&engine) {
        for plain in of_each_kind(&name, generation) {
            let decoded = wire::decode(&plain).map(|datagram| format!("{datagram:?}"));
            let bytes = disguise(me, plain);
            let mut door = Door { engine: engine.clone(), seal: seal_with(&engine), now };
            let (sent, answered) = (bytes.len() + HEADERS_BYTES, door.answered(from, std::slice::from_ref(&bytes)));
            assert!(answered <= sent, "{answered} bytes for {sent}, as {name} {generation:?}: {decoded:?}");
            all.push(bytes);
        }
    }
    // And all of them together, as many as a batch takes at a time.
    for several in all.chunks(heartbeat_core::input::BATCH_MAX) {
        let mut door = Door { engine: engine.clone(), seal: seal_with(&engine), now };
        let sent: usize = several.iter().map(|bytes| bytes.len() + HEADERS_BYTES).sum();
        let answered = door.answered(from, several);
        assert!(answered <= sent, "{answered} bytes for {sent} in {} datagrams", several.len());
    }
}

#[test]
fn every_kind_of_datagram_is_among_the_cases() {
    let kinds = of_each_kind("m", Generation(1)).iter().map(|bytes| wire::decode_start(bytes).unwrap().kind).collect();
    assert_eq!(known_kinds(), kinds);
    for bytes in of_each_kind("m", Generation(1)) {
        assert!(wire::decode(&bytes).is_ok(), "{:?}", wire::decode(&bytes));
    }
}

#[test]
fn plain_datagrams_of_each_kind_are_not_amplified() {
    check(|_| None, |_, plain| plain);
}

#[test]
fn plain_datagrams_to_a_sealed_node_are_not_amplified() {
    check(|engine| Some(seal_of(engine, &[0], false)), |_, plain| plain);
}

/// While the seal is turned on or off, with one key and while keys are replaced.
#[test]
fn plain_datagrams_that_are_accepted_are_not_amplified() {
    for keys in [&[0][..], &[1, 0]] {
        check(|engine| Some(seal_of(engine, keys, true)), |_, plain| plain);
    }
}

/// More processes than are remembered are in one batch, some of them in the name of a member.
#[test]
fn a_batch_of_strangers_is_not_amplified() {
    let (engine, now) = settled();
    let (from, body) = (STRANGER.parse().unwrap(), Body::Poll { number: 1 });
    let earlier = engine.members().next().unwrap().generation.0 - 1_000;
    let datagrams: Vec<Vec<u8>> = (0..heartbeat_core::input::BATCH_MAX as u64)
        .map(|number| {
            let mut bytes = Vec::new();
            let name = if number % 2 == 0 { format!("m-{number}") } else { "node-1".to_owned() };
            wire::encode(&mut bytes, header(&member(&name, Generation(earlier + number), from)), &body);
            bytes
        })
        .collect();
    let sent: usize = datagrams.iter().map(|bytes| bytes.len() + HEADERS_BYTES).sum();
    for seal in [None, Some(false), Some(true)] {
        let seal = seal.map(|accept_plain| seal_of(&engine, &[0, 1], accept_plain));
        let answered = Door { engine: engine.clone(), seal, now }.answered(from, &datagrams);
        assert!(answered <= sent, "{answered} bytes for {sent}");
    }
}

#[test]
fn garbage_that_looks_sealed_is_not_amplified() {
    let mut random = Random::seeded(3);
    check(
        |engine| Some(seal_of(engine, &[0], false)),
        |_, mut bytes| {
            let start = wire::decode_start(&bytes).unwrap().length;
            bytes[..2].copy_from_slice(&SEALED_MAGIC);
            bytes.resize(bytes.len() + wire::SEAL_BYTES, 0);
            bytes[start..].iter_mut().for_each(|byte| *byte = random.next_u64() as u8);
            bytes
        },
    );
}

/// Sealed by the sender in whose name it is with a key, for the node itself or for any process.
fn sealed_with(key: usize, is_bound: bool) -> impl FnMut(ProcessId, Vec<u8>) -> Vec<u8> {
    move |receiver, plain| {
        let sender = wire::decode_start(&plain).unwrap().header.sender();
        let mut form = Vec::new();
        let mut seal = Seal::new(sender, ring(&[key]), false, 8, 9);
        seal.seal(is_bound.then_some(receiver), &plain, |bytes| form = bytes.to_vec());
        form
    }
}

/// With the wrong key nothing is answered. With the right one a process may still send from an
/// address that is not its own.
#[test]
fn sealed_datagrams_of_each_kind_are_not_amplified() {
    for (key, keys, is_bound, accept_plain) in [
        (1, &[0][..], true, false),
        (0, &[0], true, false),
        (0, &[0], false, true),
        (1, &[0, 1], false, false),
        (1, &[0, 1], true, true),
    ] {
        check(|engine| Some(seal_of(engine, keys, accept_plain)), sealed_with(key, is_bound));
    }
}
