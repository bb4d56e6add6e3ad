//! Nodes at the edges of their membership: let in and gone at once, and refused.

use std::time::Duration;

use heartbeat_core::wire::{Body, decode, encode_join};
use heartbeat_core::{Config, Event, Generation};
use heartbeat_sim::{Fault, Shape, World};

use crate::events::{is_death_of, seen};
use crate::{after, check_well, every_detector};

/// The generation of the process at `place` that others hold for a member, if any does.
fn let_in(world: &World, place: usize) -> Option<Generation> {
    let name = world.name(place);
    let others = world.running().into_iter().filter(|&other| other != place);
    let rows = others.filter_map(|other| world.engine(other)?.members().find(|member| &*member.name == name).cloned());
    rows.filter(|member| member.status.is_member()).map(|member| member.generation).max()
}

/// Kills the last node of a cluster, starts it, and cuts its power as soon as it is let in. Returns
/// how long it stayed a member.
fn time_to_notice(seed: u64, shape: Shape, config: Config) -> Duration {
    let mut world = World::of(seed, shape, config);
    let last = shape.monitors + shape.nodes - 1;
    world.run(Duration::from_secs(8));
    let before = let_in(&world, last);
    after(&mut world, Fault::Kill(last), 12);
    assert_eq!(let_in(&world, last), None, "seed {seed}");
    world.apply(Fault::Start(last));
    while let_in(&world, last) <= before {
        world.run(Duration::from_millis(1));
    }
    world.apply(Fault::Unplug(last));
    let gone_at = world.elapsed();
    while let_in(&world, last).is_some() && world.elapsed() - gone_at < Duration::from_secs(60) {
        world.run(Duration::from_millis(50));
    }
    world.elapsed() - gone_at
}

#[test]
fn a_newcomer_that_ends_at_once_is_found_dead_in_time() {
    let shapes = [(0, 2), (1, 1), (0, 3), (1, 3), (2, 2), (0, 6)]
        .map(|(monitors, nodes)| Shape { monitors, ..Shape::decentralised(nodes) });
    for (seed, shape) in (1..).zip(shapes) {
        for config in every_detector() {
            // The timeout, one inquiry, and the way of the news.
            let most = config.timeout + config.interval;
            let took = time_to_notice(seed, shape, config);
            assert!(took <= most, "seed {seed}, {shape:?}: {took:?} of {most:?}");
        }
    }
}

/// A node that joins at each of these seconds, returns its token each time, and receives nothing
/// that it is sent afterwards. Returns how long after its first join it was declared dead, if it
/// was within a minute.
fn death_after_joins(config: Config, nodes: usize, seconds: &[u64]) -> Option<Duration> {
    let mut world = World::of(1, Shape::decentralised(nodes), config);
    world.run(Duration::from_secs(10));
    let (begun, address) = (world.elapsed(), "10.9.9.9:7100".parse().unwrap());
    let newcomer = crate::member("newcomer", Generation(1_800_000_000_000), address);
    for &second in seconds {
        let at = begun + Duration::from_secs(second);
        world.run(at - world.elapsed());
        world.take_lost(address);
        let mut bytes = Vec::new();
        encode_join(&mut bytes, crate::header(&newcomer), 0, &newcomer);
        world.inject(0, address, bytes.clone());
        let lost = world.take_lost(address);
        let token = lost.iter().find_map(|sent| match decode(sent).unwrap().body {
            Body::Challenge { token } => Some(token),
            _ => None,
        });
        encode_join(&mut bytes, crate::header(&newcomer), token.unwrap(), &newcomer);
        world.inject(0, address, bytes);
    }
    world.run(begun + Duration::from_secs(60) - world.elapsed());
    let died_at = seen(&world, is_death_of("newcomer")).iter().map(|death| death.at).min();
    died_at.map(|at| at - begun)
}

/// How long after its first join a newcomer lives at least, if its joins counted for `joining`. Of
/// several nodes, another one may draw it for a probe, which is not answered, and waits for a
/// timeout from then on.
fn least(config: &Config, nodes: usize, joining: Duration) -> Duration {
    config.timeout + if nodes == 1 { joining } else { Duration::ZERO }
}

/// The welcome was lost, so it joins again. It lives for a timeout after each join that counts.
#[test]
fn a_newcomer_that_joins_again_is_not_declared_dead() {
    for (joins, last_that_counts) in [(&[0][..], 0), (&[0, 3], 3), (&[0, 5], 5), (&[0, 1, 2, 4], 4), (&[0, 6], 6)] {
        for config in every_detector() {
            for nodes in [1, 2, 5] {
                let took = death_after_joins(config.clone(), nodes, joins).unwrap();
                let alive_for = Duration::from_secs(last_that_counts) + config.timeout;
                // One inquiry, whose questions are repeated where no other member answers.
                let most = alive_for + config.interval * 2;
                let least = least(&config, nodes, Duration::from_secs(last_that_counts));
                assert!((least..=most).contains(&took), "{joins:?}, {nodes} nodes: {took:?} of {alive_for:?}");
            }
        }
    }
}

/// Its own table is full, or its path loses long datagrams: it asks for ever and runs nothing.
#[test]
fn a_newcomer_that_only_joins_is_dead_after_two_timeouts() {
    let joins: Vec<u64> = (0..60).collect();
    for config in every_detector() {
        for nodes in [1, 2, 5] {
            let took = death_after_joins(config.clone(), nodes, &joins).unwrap();
            let least = least(&config, nodes, config.timeout);
            assert!(took >= least, "{nodes} nodes: {took:?}, and its joins count for a timeout");
            assert!(took <= config.timeout * 2 + config.interval * 2, "{nodes} nodes: {took:?}");
        }
    }
}

#[test]
fn a_node_that_a_full_table_refuses_runs_nothing() {
    let mut config = Config::default();
    config.membership.members_max = 2;
    let mut world = World::of(1, Shape::decentralised(3), config);
    world.run(Duration::from_secs(30));
    let told = |place: usize, is: fn(&Event) -> bool| {
        world.events().filter(|(_, here, event)| *here == place && is(event)).count()
    };
    let refused = (0..3).find(|&place| world.shards_on(place).is_empty()).unwrap();
    let by = told(refused, |event| matches!(event, Event::RefusedBy { reason, .. } if reason.contains("members_max")));
    assert!((1..=4).contains(&by), "published {by} times in 30 s");
    assert!((0..3).any(|place| told(place, |event| matches!(event, Event::JoinRefused { .. })) > 0));
    let shards: usize = (0..3).map(|place| world.shards_on(place).len()).sum();
    assert_eq!(shards, heartbeat_sim::world::SHARDS as usize);
    assert_eq!(world.checker.broken(), [] as [String; 0]);
}

#[test]
fn a_newcomer_that_lives_is_not_suspected() {
    for seed in 1..20 {
        let mut world =
            World::of(seed, Shape { monitors: (seed % 2) as usize, ..Shape::decentralised(12) }, Config::default());
        world.run(Duration::from_secs(30));
        let suspected = world.events().filter(|(_, _, event)| matches!(event, Event::Suspected { .. })).count();
        assert_eq!(suspected, 0, "seed {seed}");
        check_well(&world);
    }
}
