//! Datagrams that an attacker makes up, from an address that is no member's, in clusters without
//! keys: after half a minute of peace nothing is different.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use heartbeat_core::config::Config;
use heartbeat_core::member::{Epoch, ShardGroup, name_hash};
use heartbeat_core::random::Random;
use heartbeat_core::wire::{
    self, Ack, Body, Echo, Header, Heartbeat, IndirectProbe, Observers, Part, ProbeReport, Refused, Rows,
};
use heartbeat_core::{Event, Generation, Incarnation, Member, Profile, Role, Status};
use heartbeat_sim::{GROUP, SHARDS, Shape, World};

use crate::{header, member};

const SECOND: Duration = Duration::from_secs(1);

/// Where the attacker sends from.
pub(crate) const ATTACKER: &str = "192.0.2.66:7100";

/// A number that an attacker would try: small, near a true one, near an end, or any.
fn number(random: &mut Random, near: u64, most: u64) -> u64 {
    match random.below(6) {
        0 => random.below(4),
        1 => near,
        2 => near.saturating_add(1 + random.below(1_000)),
        3 => near.saturating_sub(1 + random.below(1_000)),
        4 => most.saturating_sub(random.below(3)),
        _ => random.next_u64() >> random.below(64),
    }
    .min(most)
}

fn part(random: &mut Random) -> u32 {
    number(random, 1, u64::from(Incarnation::PART_MAX)) as u32
}

fn incarnation(random: &mut Random) -> Incarnation {
    Incarnation { returns: part(random), refutations: part(random) }
}

/// One of the members, or a node that does not exist.
fn subject(random: &mut Random, members: &[Member]) -> Member {
    let known = random.below(members.len() as u64 + 2) as usize;
    let name = format!("ghost-{}", random.below(3));
    members.get(known).cloned().unwrap_or_else(|| member(&name, Generation(1), ATTACKER.parse().unwrap()))
}

/// A row about one of them, true but for some of its fields.
fn row(random: &mut Random, members: &[Member]) -> Member {
    let known = subject(random, members);
    let mut profile: Profile = (*known.profile).clone();
    if random.chance(0.3) {
        profile.address = ATTACKER.parse().unwrap();
    }
    if random.chance(0.3) {
        profile.role = Role::Monitor;
    }
    if random.chance(0.3) {
        profile.groups = vec![ShardGroup::new(name_hash(GROUP), 1 + random.below(100) as u32)];
    }
    let status = [Status::Alive, Status::Suspect, Status::Dead, Status::Left][random.below(4) as usize];
    let generation = Generation(number(random, known.generation.0, wire::TIME_MAX));
    let incarnation = incarnation(random);
    Member { profile: profile.into(), status, generation, incarnation, ..known }
}

fn heartbeat(random: &mut Random, members: &[Member]) -> Body<'static> {
    let named = random.below(6) as usize;
    Body::Heartbeat(Heartbeat {
        incarnation: incarnation(random),
        stage: number(random, 160, wire::STAGE_MAX),
        interval: Duration::from_micros(number(random, 1_000_000, 3_600_000_000).max(1)),
        slept: number(random, 0, wire::STAGE_MAX),
        health: random.below(256) as u8,
        asks: random.chance(0.5),
        observers: Observers::new(members.iter().map(|member| member.id).take(named)),
    })
}

fn probe_report(random: &mut Random, target: &Member) -> Body<'static> {
    Body::ProbeReport(ProbeReport {
        number: random.below(1 << 32) as u32,
        target: target.id,
        generation: Generation(number(random, target.generation.0, wire::TIME_MAX)),
        stage: number(random, 160, wire::STAGE_MAX),
        silence: Duration::from_micros(number(random, 5_000_000, u64::from(u32::MAX))),
        reached: random.chance(0.5),
        gone: random.chance(0.5),
        agrees: random.chance(0.5),
        health: random.below(256) as u8,
    })
}

fn indirect_probe(random: &mut Random, target: &Member) -> Body<'static> {
    Body::IndirectProbe(IndirectProbe {
        number: random.below(1 << 32) as u32,
        target: target.id,
        generation: Generation(number(random, target.generation.0, wire::TIME_MAX)),
        stage: number(random, 160, wire::STAGE_MAX),
        gone: random.chance(0.5),
        death: random.chance(0.5),
    })
}

fn snapshot_part(random: &mut Random) -> Body<'static> {
    const BYTES: &[u8] = &[7; 64];
    Body::Part(Part {
        number: random.below(3) as u32,
        group: name_hash(GROUP),
        index: random.below(u64::from(SHARDS)) as u32,
        epoch: Epoch(number(random, 1_700_000_000_000, wire::EPOCH_MAX)),
        sequence: number(random, 1, wire::SEQUENCE_MAX),
        version: 1,
        total: BYTES.len() as u32,
        offset: 0,
        bytes: BYTES,
    })
}

fn rows(random: &mut Random) -> Body<'static> {
    let differing = random.next_u64();
    Body::Rows(Rows { differing, more: random.chance(0.5), welcome: random.chance(0.5), whole: random.chance(0.5) })
}

fn echo(random: &mut Random) -> Body<'static> {
    let number = random.below(1 << 32) as u32;
    Body::Echo(Echo { number, incarnation: incarnation(random), is_observer: random.chance(0.5) })
}

/// A message of any kind but a join.
fn body(random: &mut Random, members: &[Member]) -> Body<'static> {
    let target = subject(random, members);
    let token = number(random, 1, u64::MAX);
    let (short, byte) = (token as u32, token as u8);
    let stage = number(random, 160, wire::STAGE_MAX);
    match random.below(19) {
        0 => heartbeat(random, members),
        1 => Body::Ack(Ack { stage, health: byte }),
        2 => Body::Probe { number: short },
        3 => echo(random),
        4 => indirect_probe(random, &target),
        5 => probe_report(random, &target),
        6 => Body::Release,
        7 => Body::Challenge { token },
        8 => Body::Introduce,
        9 => Body::Sync(Box::new([short; 64])),
        10 => rows(random),
        11 => Body::Gossip,
        12 => Body::Hello,
        13 => Body::Poll { number: short },
        14 => Body::Vote { number: short },
        15 => Body::Ask { number: short.max(1), group: name_hash(GROUP), indexes: (0..u32::from(byte % 20)).collect() },
        16 => snapshot_part(random),
        17 => Body::Kept { parts: short, refused: random.chance(0.5) },
        _ => Body::Refused(Refused { reason: byte % 10, value: target.generation.0 }),
    }
}

/// A datagram with random fields.
pub(crate) fn forged(random: &mut Random, members: &[Member]) -> Vec<u8> {
    let sender = subject(random, members);
    let generation = Generation(number(random, sender.generation.0, wire::TIME_MAX));
    forged_under(Header { generation, ..header(&sender) }, random, members)
}

/// A datagram with this sender, and with random fields.
pub(crate) fn forged_under(sender: Header, random: &mut Random, members: &[Member]) -> Vec<u8> {
    let clock = number(random, 10_000, wire::TIME_MAX - sender.generation.0);
    let header = Header { clock, ..sender };
    let mut datagram = Vec::new();
    if random.chance(0.05) {
        let token = number(random, 1, u64::MAX);
        wire::encode_join(&mut datagram, header, token, &row(random, members));
        return datagram;
    }
    let body = body(random, members);
    wire::encode(&mut datagram, header, &body);
    let has_rumours = !matches!(body, Body::Challenge { .. } | Body::Introduce);
    let count_at = datagram.len() - 1;
    for _ in 0..if has_rumours { random.below(4) } else { 0 } {
        let about = row(random, members);
        wire::push_rumour(&mut datagram, count_at, &about, random.chance(0.5));
    }
    datagram
}

/// What every node believes, and what runs where, but for what changes by itself.
fn beliefs(world: &World) -> String {
    let mut text = String::new();
    for place in world.running() {
        let engine = world.engine(place).unwrap();
        let joined = engine.is_joined();
        write!(text, "{} (joined: {joined}, left: {}):", world.name(place), engine.has_left()).unwrap();
        for member in engine.members() {
            let Member { profile, generation, status, incarnation, .. } = member;
            let returns = incarnation.returns;
            write!(text, " [{} {} {generation:?} {status} returns {returns}]", profile.name, profile.address).unwrap();
        }
        for shard in world.shards_on(place) {
            write!(text, " {shard}@{:?}", world.epoch_on(place, shard)).unwrap();
        }
        text.push('\n');
    }
    text
}

/// How far ahead of the time since its start each node's logical clock is, in milliseconds, as the
/// header of an answer to a stranger shows it.
pub(crate) fn clocks_ahead(world: &mut World, places: usize) -> Vec<i64> {
    let stranger: SocketAddr = "192.0.2.77:7100".parse().unwrap();
    let mut bytes = Vec::new();
    wire::encode(&mut bytes, header(&member("stranger", Generation(1), stranger)), &Body::Sync(Box::new([0; 64])));
    (0..places)
        .map(|place| {
            world.inject(place, stranger, bytes.clone());
            let answers = world.take_lost(stranger);
            let header = wire::decode(answers.first().expect("an introduction")).unwrap().header;
            header.clock as i64 - world.elapsed().as_millis() as i64
        })
        .collect()
}

/// Whether an event says that something is amiss, or that something changed.
fn is_change(event: &Event) -> bool {
    !matches!(event, Event::JoinRefused { .. } | Event::RefusedBy { .. })
}

/// What nodes believe before an attack, and what their clocks show.
pub(crate) struct Before {
    beliefs: String,
    /// How far the clock of each node's headers is ahead, in milliseconds.
    clocks: Vec<i64>,
    /// What reads the clocks of this many nodes.
    clocks_ahead: fn(&mut World, usize) -> Vec<i64>,
    at: Duration,
}

impl Before {
    pub(crate) fn new(world: &mut World, places: usize, clocks_ahead: fn(&mut World, usize) -> Vec<i64>) -> Before {
        let (beliefs, clocks) = (beliefs(world), clocks_ahead(world, places));
        Before { beliefs, clocks, clocks_ahead, at: world.elapsed() }
    }

    /// What has changed since then, with what was `sent` meanwhile; `None` if nothing has.
    pub(crate) fn changes(self, world: &mut World, seed: u64, sent: &[String]) -> Option<String> {
        let Before { beliefs: before, clocks, clocks_ahead, at } = self;
        let (after, clocks_after) = (beliefs(world), clocks_ahead(world, clocks.len()));
        let is_moved = clocks.iter().zip(&clocks_after).any(|(before, after)| (before - after).abs() > 1_000);
        let seen = crate::events::seen_after(world, at, is_change);
        let events: Vec<String> = seen.iter().map(|seen| format!("{seen:?}")).collect();
        let broken = world.checker.broken().join("\n");
        if before == after && !is_moved && broken.is_empty() && events.is_empty() {
            return None;
        }
        let (sent, events) = (sent.join("\n"), events.join("\n"));
        Some(format!(
            "seed {seed}\n{sent}\nbefore {clocks:?}\n{before}after {clocks_after:?}\n{after}{broken}\n{events}\n"
        ))
    }
}

/// Runs a world with forged datagrams. Returns what they changed.
fn harm(seed: u64) -> Option<String> {
    let mut random = Random::seeded(seed);
    let nodes = 3 + random.below(4) as usize;
    let monitors = random.below(2) as usize;
    let mut world = World::of(seed, Shape { monitors, ..Shape::decentralised(nodes) }, Config::default());
    world.run(SECOND * 10);
    let places = nodes + monitors;
    let members: Vec<Member> = world.engine(0).unwrap().members().cloned().collect();
    let before = Before::new(&mut world, places, clocks_ahead);
    let mut sent = Vec::new();
    for _ in 0..1 + random.below(2) {
        world.run(random.duration_below(SECOND));
        let datagram = forged(&mut random, &members);
        let place = random.below(places as u64) as usize;
        sent.push(format!("to {}: {:?}", world.name(place), wire::decode(&datagram)));
        world.inject(place, ATTACKER.parse().unwrap(), datagram);
    }
    world.run(SECOND * 30);
    before.changes(&mut world, seed, &sent)
}

/// How many worlds are tried: `HEARTBEAT_FORGED_WORLDS`, else a few hundred.
pub(crate) fn worlds() -> u64 {
    std::env::var("HEARTBEAT_FORGED_WORLDS").map_or(300, |count| count.parse().expect("a number of worlds"))
}

#[test]
fn forged_datagrams_of_no_member_change_nothing() {
    let harmed: Vec<String> = (0..worlds()).filter_map(harm).collect();
    assert!(harmed.is_empty(), "{} of {} worlds were harmed:\n{}", harmed.len(), worlds(), harmed.join("\n"));
}
