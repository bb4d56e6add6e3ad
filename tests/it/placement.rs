//! Shards: each on one node, moved only when they must, never back under an old epoch.

use std::time::Duration;

use heartbeat_sim::Fault;
use heartbeat_sim::world::SHARDS;

use crate::events::{is_move, is_stop, seen};
use crate::{after, check_well, quiet_world};

#[test]
fn every_shard_runs_on_one_node() {
    let world = quiet_world(1);
    let all: Vec<u32> = (1..5).flat_map(|place| world.shards_on(place)).collect();
    assert_eq!(all.len(), SHARDS as usize);
    assert!(world.shards_on(0).is_empty(), "a monitor runs none");
    check_well(&world);
}

#[test]
fn a_death_moves_only_the_shards_of_the_dead() {
    let mut world = quiet_world(2);
    let node_2 = world.node("node-2");
    let before: Vec<_> = (0..5).map(|place| world.shards_on(place)).collect();
    after(&mut world, Fault::Kill(node_2), 10);
    for place in [1, 3, 4] {
        assert!(world.shards_on(place).is_superset(&before[place]), "node-{place} lost something");
    }
    assert_eq!(seen(&world, is_stop), []);
    check_well(&world);
}

#[test]
fn a_departure_moves_the_shards_at_once() {
    let mut world = quiet_world(4);
    let node_3 = world.node("node-3");
    let held = world.shards_on(node_3);
    assert!(!held.is_empty());
    world.apply(Fault::Leave(node_3));
    world.run(Duration::from_millis(100));
    assert!(world.shards_on(node_3).is_empty());
    check_well(&world);
}

#[test]
fn an_owner_that_came_and_went_unseen_leaves_its_epoch_behind() {
    let mut world = quiet_world(5);
    let [monitor, node_3] = ["monitor", "node-3"].map(|name| world.node(name));
    let owned: Vec<u32> = world.shards_on(node_3).into_iter().collect();
    assert!(!owned.is_empty());
    after(&mut world, Fault::Leave(node_3), 1);
    let successors = [1, 2, 4];
    // The successors receive nothing more, and others receive them. So node-3 reclaims its shards
    // and leaves again, and the successors do not learn of either.
    successors.into_iter().for_each(|place| world.apply(Fault::Cut(monitor, place)));
    after(&mut world, Fault::Start(node_3), 3);
    assert_eq!(world.shards_on(node_3).into_iter().collect::<Vec<_>>(), owned);
    let unseen: Vec<u64> = owned.iter().map(|&shard| world.epoch_on(node_3, shard).unwrap()).collect();
    after(&mut world, Fault::Leave(node_3), 1);
    after(&mut world, Fault::Heal, 5);
    for (&shard, unseen) in owned.iter().zip(unseen) {
        let epochs: Vec<u64> = successors.into_iter().filter_map(|place| world.epoch_on(place, shard)).collect();
        assert!(epochs.len() == 1 && epochs[0] > unseen, "shard {shard} under {epochs:?}, node-3 had {unseen}");
    }
    check_well(&world);
}

#[test]
fn no_shard_starts_before_the_view_is_settled() {
    let mut world = heartbeat_sim::World::new(3, 4, heartbeat_core::Config::default());
    world.run(std::time::Duration::from_millis(1_900));
    assert_eq!(seen(&world, is_move), []);
    world.run(std::time::Duration::from_millis(1_200));
    check_well(&world);
}
