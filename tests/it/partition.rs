//! Links that carry nothing, in one direction or both.

use std::time::Duration;

use heartbeat_sim::Fault;
use heartbeat_sim::world::SHARDS;

use crate::events::{
    is_cleared, is_death, is_death_of, is_declared_dead, is_isolated, is_return, is_return_of, is_suspicion,
    is_suspicion_of, seen, seen_by,
};
use crate::{after, check_well, quiet_world};

#[test]
fn a_node_silent_to_the_monitor_alone_stays_a_member() {
    let mut world = quiet_world(1);
    let [monitor, node_2] = ["monitor", "node-2"].map(|name| world.node(name));
    after(&mut world, Fault::Cut(node_2, monitor), 20);
    // It receives each suspicion, and its refutations arrive by way of the others.
    assert!(seen_by(&world, "monitor", is_suspicion_of("node-2")).len() > 1);
    assert_eq!(seen(&world, is_death), []);
    assert_eq!(seen_by(&world, "node-2", is_isolated).len(), 1, "the monitor does not answer it");
    after(&mut world, Fault::Heal, 5);
    check_well(&world);
}

#[test]
fn a_node_silent_to_all_dies_and_comes_back() {
    let mut world = quiet_world(1);
    let node_2 = world.node("node-2");
    [0, 1, 3, 4].into_iter().for_each(|other| world.apply(Fault::Cut(node_2, other)));
    world.run(Duration::from_secs(20));
    assert_eq!(seen_by(&world, "monitor", is_death_of("node-2")).len(), 1);
    assert_eq!(seen_by(&world, "node-2", is_isolated).len(), 1, "no member answers it");
    assert!(
        !seen_by(&world, "node-2", is_declared_dead).is_empty(),
        "it learns of its death, and no member learns that it lives"
    );
    after(&mut world, Fault::Heal, 10);
    assert_eq!(seen_by(&world, "monitor", is_return_of("node-2")).len(), 1);
    check_well(&world);
}

#[test]
fn an_island_dies_and_comes_back_together() {
    let mut world = quiet_world(4);
    let [node_1, node_2] = ["node-1", "node-2"].map(|name| world.node(name));
    after(&mut world, Fault::Partition(vec![node_1, node_2]), 10);
    assert_eq!(seen_by(&world, "monitor", is_death).len(), 2);
    let rest: usize = [3, 4].into_iter().map(|place| world.shards_on(place).len()).sum();
    assert_eq!(rest, SHARDS as usize, "those in reach of the monitor run all shards");
    after(&mut world, Fault::Heal, 5);
    assert_eq!(seen_by(&world, "monitor", is_return).len(), 2);
    check_well(&world);
}

#[test]
fn a_cut_shorter_than_the_timeout_is_no_death() {
    let mut world = quiet_world(5);
    let monitor = world.node("monitor");
    for place in 1..5 {
        after(&mut world, Fault::Cut(place, monitor), 4);
        after(&mut world, Fault::Mend(place, monitor), 2);
    }
    assert_eq!(seen_by(&world, "monitor", is_suspicion).len(), 4);
    assert_eq!(seen_by(&world, "monitor", is_cleared).len(), 4);
    assert_eq!(seen(&world, is_death), []);
    check_well(&world);
}

#[test]
fn a_new_monitor_gives_no_shard_back_under_its_old_epoch() {
    let mut world = quiet_world(6);
    let [monitor, node_2] = ["monitor", "node-2"].map(|name| world.node(name));
    let held = world.shards_on(node_2);
    assert!(!held.is_empty());
    after(&mut world, Fault::Partition(vec![node_2]), 8);
    assert_eq!(seen_by(&world, "monitor", is_death_of("node-2")).len(), 1);
    // No observer declares it dead: the monitor that knew it ends, and the next one never received
    // a heartbeat from it.
    after(&mut world, Fault::Kill(monitor), 1);
    after(&mut world, Fault::Heal, 1);
    after(&mut world, Fault::Start(monitor), 10);
    check_well(&world);
}

#[test]
fn a_node_that_receives_nothing_lives_and_reports_isolation() {
    let mut world = quiet_world(2);
    let [monitor, node_2] = ["monitor", "node-2"].map(|name| world.node(name));
    after(&mut world, Fault::Cut(monitor, node_2), 20);
    assert_eq!(seen(&world, is_death), [], "its heartbeats arrive");
    assert_eq!(seen_by(&world, "node-2", is_isolated).len(), 1);
    after(&mut world, Fault::Heal, 5);
    check_well(&world);
}

#[test]
fn a_node_cut_off_keeps_its_shards_until_it_is_back() {
    let mut world = quiet_world(3);
    let node_2 = world.node("node-2");
    let held = world.shards_on(node_2);
    assert!(!held.is_empty());
    after(&mut world, Fault::Partition(vec![node_2]), 20);
    // The promise for this case is two owners for a while, told apart by their epochs. The test
    // asserts both halves.
    for &shard in &held {
        let others: Vec<_> = [1, 3, 4].into_iter().filter_map(|place| world.epoch_on(place, shard)).collect();
        assert_eq!(others.len(), 1);
        assert!(world.epoch_on(node_2, shard).unwrap() < others[0]);
    }
    after(&mut world, Fault::Heal, 5);
    check_well(&world);
}
