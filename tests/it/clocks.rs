//! Wall clocks that are wrong, and epochs that rise all the same.

use std::collections::BTreeMap;
use std::time::Duration;

use heartbeat_actors::shard::Fence;
use heartbeat_core::config::{AuthorityKind, QuorumRule};
use heartbeat_core::{Config, Epoch, Event};
use heartbeat_sim::world::SHARDS;
use heartbeat_sim::{Fault, Shape, World};

use crate::{after, check_well};

/// A year, in milliseconds.
const YEAR: i64 = 31_557_600_000;

/// The year 2040, above which no epoch of a world may be: its clocks stand in 2023.
const FAR: u64 = 2_210_000_000_000 << Epoch::NUMBER_BITS;

/// Five nodes without a centre, a few seconds old.
fn world(seed: u64, config: Config) -> World {
    let mut world = World::of(seed, Shape::decentralised(5), config);
    world.run(Duration::from_secs(15));
    check_well(&world);
    world
}

/// Epochs of all shards that run.
fn epochs(world: &World) -> BTreeMap<u32, u64> {
    let running = world.running();
    let of = |shard| running.iter().find_map(|&place| Some((shard, world.epoch_on(place, shard)?)));
    (0..SHARDS).filter_map(of).collect()
}

/// Lets every shard write once, as a store would that checks its epoch.
#[track_caller]
fn write(world: &World, fence: &mut Fence<u32>) {
    let epochs = epochs(world);
    assert_eq!(epochs.len(), SHARDS as usize, "all shards run");
    for (shard, epoch) in epochs {
        let highest = fence.newest(&shard);
        assert!(fence.admit(shard, Epoch(epoch)).is_ok(), "shard {shard} writes under {epoch} after {highest:?}");
    }
}

/// Which nodes reporters that the clock of `node` is off.
fn reporters(world: &World, node: &str) -> Vec<usize> {
    let of = |event: &Event| matches!(event, Event::ClockSkewed { node: named, .. } if &**named == node);
    let mut places: Vec<usize> = world.events().filter(|(_, _, event)| of(event)).map(|(_, place, _)| place).collect();
    places.sort_unstable();
    places.dedup();
    places
}

#[test]
fn a_clock_that_is_years_off_is_not_believed() {
    for (seed, off) in [(1, 5 * YEAR), (2, 20 * YEAR), (3, 300 * YEAR), (4, -5 * YEAR), (5, 61_000)] {
        let mut world = world(seed, Config::default());
        let node_5 = world.node("node-5");
        let mut fence = Fence::new();
        write(&world, &mut fence);
        after(&mut world, Fault::Kill(node_5), 1);
        // A process before it has the later generation.
        if off < 0 {
            continue;
        }
        world.apply(Fault::SetClock(node_5, off));
        after(&mut world, Fault::Start(node_5), 10);
        check_well(&world);
        assert!(!world.shards_on(node_5).is_empty(), "it is let in, and runs shards");
        let by = reporters(&world, "node-5");
        assert!(by.len() > 1 && by.contains(&4), "it publishes that, and so do the members that admit it: {by:?}");
        assert!(epochs(&world).values().all(|epoch| *epoch < FAR), "{:?}", epochs(&world));
        write(&world, &mut fence);
        after(&mut world, Fault::Kill(node_5), 10);
        check_well(&world);
        write(&world, &mut fence);
    }
}

#[test]
fn a_clock_within_the_bound_is_followed() {
    let mut world = world(6, Config::default());
    let node_5 = world.node("node-5");
    let mut fence = Fence::new();
    after(&mut world, Fault::Kill(node_5), 1);
    world.apply(Fault::SetClock(node_5, 50_000));
    after(&mut world, Fault::Start(node_5), 10);
    write(&world, &mut fence);
    after(&mut world, Fault::Kill(node_5), 10);
    write(&world, &mut fence);
    assert!(reporters(&world, "node-5").is_empty());
}

#[test]
fn the_node_with_the_wrong_clock_founds_no_cluster() {
    for (seed, off) in [(7, 20 * YEAR), (8, -50 * YEAR)] {
        let mut world = World::of(seed, Shape::decentralised(3), Config::default());
        let node_1 = world.node("node-1");
        (0..3).for_each(|place| world.apply(Fault::Kill(place)));
        world.apply(Fault::SetClock(node_1, off));
        (0..3).for_each(|place| world.apply(Fault::Start(place)));
        world.run(Duration::from_secs(20));
        check_well(&world);
        assert!(reporters(&world, "node-1").contains(&0));
        let right = |epoch: &u64| (1_600_000_000_000 << Epoch::NUMBER_BITS..FAR).contains(epoch);
        assert!(epochs(&world).values().all(right), "{:?}", epochs(&world));
    }
}

#[test]
fn epochs_rise_when_the_mode_or_the_authority_changes() {
    let mut world = World::of(9, Shape::decentralised(3), Config::default());
    let mut fence = Fence::new();
    let (view, file) = (AuthorityKind::View, AuthorityKind::File);
    let (none, majority) = (QuorumRule::None, QuorumRule::Majority);
    for (authority, quorum) in [(view, none), (file, none), (view, majority), (file, none), (view, none)] {
        (0..3).for_each(|place| world.apply(Fault::Kill(place)));
        (world.config.ownership.authority, world.config.ownership.quorum) = (authority, quorum);
        world.config.ownership.folder = Some("anywhere".into());
        (0..3).for_each(|place| world.apply(Fault::Start(place)));
        world.run(Duration::from_secs(25));
        write(&world, &mut fence);
    }
}

#[test]
fn epochs_rise_when_an_authority_has_lost_everything() {
    let mut config = Config::default();
    (config.ownership.authority, config.ownership.folder) = (AuthorityKind::File, Some("anywhere".into()));
    let mut world = world(10, config);
    let mut fence = Fence::new();
    for _ in 0..3 {
        write(&world, &mut fence);
        after(&mut world, Fault::EmptyAuthority, 20);
    }
    write(&world, &mut fence);
    let is_refused = |event: &Event| matches!(event, Event::TokenRefused { .. });
    assert!(!world.events().any(|(_, _, event)| is_refused(event)));
}

#[test]
fn epochs_rise_over_those_of_a_clock_that_was_wrong() {
    let mut world = World::of(11, Shape::decentralised(3), Config::default());
    let mut fence = Fence::new();
    let restart = |world: &mut World, off| {
        (0..3).for_each(|place| world.apply(Fault::Kill(place)));
        (0..3).for_each(|place| world.apply(Fault::SetClock(place, off)));
        (0..3).for_each(|place| world.apply(Fault::Start(place)));
        world.run(Duration::from_secs(20));
    };
    restart(&mut world, 20 * YEAR);
    write(&world, &mut fence);
    let highest = epochs(&world).into_values().max().unwrap();
    assert!(highest > FAR, "all of them had that clock, so it was believed");
    world.config.ownership.epoch_min = highest;
    restart(&mut world, 0);
    write(&world, &mut fence);
}
