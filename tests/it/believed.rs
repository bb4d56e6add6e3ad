//! Datagrams that an attacker makes up under the name of a member, from that member's address, in
//! clusters without keys. Such a datagram is believed. What it says is lived down within a minute,
//! but for clocks, which are right again after a month.

use std::fmt::Write as _;
use std::time::Duration;

use heartbeat_core::config::Config;
use heartbeat_core::random::Random;
use heartbeat_core::{Event, Member, Status};
use heartbeat_sim::{SHARDS, Shape, World};

use crate::forged::{clocks_ahead, forged_under, worlds};
use crate::header;

const SECOND: Duration = Duration::from_secs(1);

/// How far ahead of its own clock a node follows the clock of a member.
const MONTH: i64 = 30 * 86_400_000;

/// What is amiss in a cluster whose nodes all run.
fn amiss(world: &mut World, places: usize) -> String {
    let mut text = String::new();
    for place in 0..places {
        let Some(engine) = world.engine(place) else {
            writeln!(text, "{} has ended", world.name(place)).unwrap();
            continue;
        };
        if engine.has_left() || !engine.is_joined() {
            writeln!(text, "{} is not in", world.name(place)).unwrap();
        }
        let alive: Vec<&Member> = engine.members().filter(|member| member.status == Status::Alive).collect();
        if alive.len() != places {
            let held: Vec<String> =
                engine.members().map(|member| format!("{} {}", member.name, member.status)).collect();
            writeln!(text, "{} holds {held:?}", world.name(place)).unwrap();
        }
    }
    for shard in 0..SHARDS {
        let on: Vec<usize> = (0..places).filter(|place| world.shards_on(*place).contains(&shard)).collect();
        if on.len() != 1 {
            writeln!(text, "shard {shard} runs on {on:?}").unwrap();
        }
    }
    let clocks = clocks_ahead(world, places);
    if clocks.iter().any(|ahead| ahead - clocks.iter().min().unwrap() > MONTH + 60_000) {
        writeln!(text, "clocks {clocks:?}").unwrap();
    }
    text
}

/// Runs a world with datagrams under the name of a member. Returns what they changed for good.
fn harm(seed: u64) -> Option<String> {
    let mut random = Random::seeded(seed);
    let nodes = 3 + random.below(4) as usize;
    let mut world = World::of(seed, Shape::decentralised(nodes), Config::default());
    world.run(SECOND * 10);
    let members: Vec<Member> = world.engine(0).unwrap().members().cloned().collect();
    let before = amiss(&mut world, nodes);
    assert!(before.is_empty(), "seed {seed}: {before}");
    let since = world.elapsed();
    let mut sent = Vec::new();
    for _ in 0..1 + random.below(2) {
        world.run(random.duration_below(SECOND));
        let sender = &members[random.below(members.len() as u64) as usize];
        let datagram = forged_under(header(sender), &mut random, &members);
        let place = random.below(nodes as u64) as usize;
        let message = heartbeat_core::wire::decode(&datagram);
        sent.push(format!("to {} as {}: {message:?}", world.name(place), sender.name));
        world.inject(place, sender.address, datagram);
    }
    world.run(SECOND * 60);
    let mut after = amiss(&mut world, nodes);
    let is_end = |event: &Event| matches!(event, Event::Superseded { .. });
    for seen in crate::events::seen_after(&world, since, is_end) {
        writeln!(after, "{seen:?}").unwrap();
    }
    let sent = sent.join("\n");
    (!after.is_empty()).then(|| format!("seed {seed}\n{sent}\n{after}"))
}

#[test]
fn what_is_forged_as_a_member_is_lived_down() {
    let harmed: Vec<String> = (0..worlds()).filter_map(harm).collect();
    assert!(harmed.is_empty(), "{} of {} worlds were harmed:\n{}", harmed.len(), worlds(), harmed.join("\n"));
}
