//! What an attacker without the key sends to sealed clusters, from any address: made-up datagrams,
//! recordings, and recordings with changed bits. After half a minute nothing is different.

use std::net::SocketAddr;
use std::time::Duration;

use heartbeat_core::config::Config;
use heartbeat_core::member::ProcessId;
use heartbeat_core::random::Random;
use heartbeat_core::wire::{self, Body};
use heartbeat_core::{Generation, Member};
use heartbeat_sim::{Fault, Shape, World, seal_of};

use crate::forged::{ATTACKER, Before, forged, worlds};
use crate::{header, member};

const SECOND: Duration = Duration::from_secs(1);

/// How far ahead of the time since its start each node's logical clock is, in milliseconds: a
/// stranger that has the key asks for it.
fn clocks_ahead(world: &mut World, places: usize) -> Vec<i64> {
    let address: SocketAddr = "192.0.2.77:7100".parse().unwrap();
    let elapsed = world.elapsed().as_millis() as i64;
    // A process of its own each time, so that no counter comes twice.
    let stranger = member("stranger", Generation(1_700_000_000_000 + elapsed as u64), address);
    let mut seal = seal_of(ProcessId { node: stranger.id, generation: stranger.generation });
    (0..places)
        .map(|place| {
            let mut bytes = Vec::new();
            wire::encode(&mut bytes, header(&stranger), &Body::Probe { number: 1 });
            seal.seal(None, &bytes, |form| world.inject(place, address, form.to_vec()));
            let mut answer = world.take_lost(address).pop().expect("an introduction");
            let plain = seal.open(&mut answer).expect("it is sealed for the stranger");
            let header = wire::decode(&answer[plain]).unwrap().header;
            header.clock as i64 - elapsed
        })
        .collect()
}

/// What the attacker sends, to which node, and from where.
fn attack(random: &mut Random, world: &World, members: &[Member], places: usize) -> (usize, SocketAddr, Vec<u8>) {
    let place = random.below(places as u64) as usize;
    let any = match random.below(3) {
        0 => ATTACKER.parse().unwrap(),
        _ => members[random.below(members.len() as u64) as usize].address,
    };
    let recordings = world.recordings();
    let (to, from, mut bytes) = recordings[random.below(recordings.len() as u64) as usize].clone();
    let there = (0..places).find(|place| world.address(*place) == to).unwrap_or(place);
    match random.below(6) {
        0 => (place, any, forged(random, members)),
        // As it was, also to the process that has taken the place of its receiver.
        1 | 2 => (there, from, bytes),
        3 => (there, any, bytes),
        4 => (place, from, bytes),
        _ => {
            let bit = random.below(bytes.len() as u64 * 8) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
            (there, from, bytes)
        }
    }
}

/// Runs a sealed world with an attacker. Returns what the attacker changed.
fn harm(seed: u64) -> Option<String> {
    let mut random = Random::seeded(seed);
    let nodes = 3 + random.below(4) as usize;
    let monitors = random.below(2) as usize;
    let shape = Shape { monitors, sealed: true, ..Shape::decentralised(nodes) };
    let mut world = World::of(seed, shape, Config::default());
    world.run(SECOND * 10);
    let places = nodes + monitors;
    if random.chance(0.5) {
        // What was recorded before is for a process that is gone.
        let place = random.below(places as u64) as usize;
        world.apply(Fault::Kill(place));
        world.run(SECOND * 15);
        world.apply(Fault::Start(place));
        world.run(SECOND * 60);
    }
    let members: Vec<Member> = world.engine(0).unwrap().members().cloned().collect();
    let before = Before::new(&mut world, places, clocks_ahead);
    let mut sent = Vec::new();
    for _ in 0..1 + random.below(20) {
        world.run(random.duration_below(SECOND / 4));
        let (place, from, bytes) = attack(&mut random, &world, &members, places);
        sent.push(format!("to {} from {from}: {bytes:?}", world.name(place)));
        world.inject(place, from, bytes);
    }
    world.run(SECOND * 30);
    before.changes(&mut world, seed, &sent)
}

#[test]
fn an_attacker_without_the_key_changes_nothing() {
    let harmed: Vec<String> = (0..worlds()).filter_map(harm).collect();
    assert!(harmed.is_empty(), "{} of {} worlds were harmed:\n{}", harmed.len(), worlds(), harmed.join("\n"));
}

/// A sealed world does what a plain one does, with joins, a death and a return.
#[test]
fn a_sealed_cluster_finds_a_death_and_takes_a_node_back() {
    let shape = Shape { sealed: true, ..Shape::decentralised(5) };
    let mut world = World::of(7, shape, Config::default());
    world.run(SECOND * 10);
    assert!((0..5).all(|place| world.engine(place).unwrap().members().count() == 5));
    world.apply(Fault::Kill(2));
    world.run(SECOND * 20);
    let alive = |world: &World| world.engine(0).unwrap().members().filter(|member| member.status.is_member()).count();
    assert_eq!(alive(&world), 4);
    world.apply(Fault::Start(2));
    world.run(SECOND * 20);
    assert_eq!(alive(&world), 5);
    assert_eq!(world.checker.broken().join("\n"), "");
}
