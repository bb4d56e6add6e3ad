//! Links that carry nothing, in one direction or both.

use heartbeat_tests::Fault;

use crate::{after, check_well, lines, quiet_world};

#[test]
fn a_node_that_is_not_heard_is_dead_and_comes_back() {
    let mut world = quiet_world(1);
    after(&mut world, Fault::Cut(2, 0), 20);
    assert_eq!(lines(&world, &["monitor ", "Died", "node-2"]).len(), 1);
    assert_eq!(lines(&world, &["node-2 ", "Isolated"]).len(), 1, "nobody answers it");
    after(&mut world, Fault::Heal, 5);
    assert_eq!(lines(&world, &["monitor ", "Returned", "node-2"]).len(), 1);
    check_well(&world);
}

#[test]
fn a_node_that_does_not_hear_is_alive_and_says_that_it_is_alone() {
    let mut world = quiet_world(2);
    after(&mut world, Fault::Cut(0, 2), 20);
    assert_eq!(lines(&world, &["Died"]), [] as [&str; 0], "its heartbeats arrive");
    assert_eq!(lines(&world, &["node-2 ", "Isolated"]).len(), 1);
    after(&mut world, Fault::Heal, 5);
    check_well(&world);
}

#[test]
fn a_node_cut_off_keeps_its_shards_under_its_old_epoch_and_loses_them_when_it_is_back() {
    let mut world = quiet_world(3);
    let held = world.shards_on(2);
    assert!(!held.is_empty());
    after(&mut world, Fault::Cut(2, 0), 0);
    after(&mut world, Fault::Cut(0, 2), 20);
    // What is promised: two owners for a while, told apart by their epochs. The test holds us to both halves.
    for &shard in &held {
        let others: Vec<_> = [1, 3, 4].into_iter().filter_map(|place| world.epoch_on(place, shard)).collect();
        assert_eq!(others.len(), 1);
        assert!(world.epoch_on(2, shard).unwrap() < others[0]);
    }
    after(&mut world, Fault::Heal, 5);
    check_well(&world);
}
