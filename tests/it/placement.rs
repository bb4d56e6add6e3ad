//! Shards: each on one node, moved only when they must, never back under an old epoch.

use heartbeat_tests::Fault;
use heartbeat_tests::world::SHARDS;

use crate::{after, check_well, lines, quiet_world};

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
    let before: Vec<_> = (0..5).map(|place| world.shards_on(place)).collect();
    after(&mut world, Fault::Kill(2), 10);
    for place in [1, 3, 4] {
        assert!(world.shards_on(place).is_superset(&before[place]), "node-{place} lost something");
    }
    assert_eq!(lines(&world, &["Stopped"]), [] as [&str; 0]);
    check_well(&world);
}

#[test]
fn nobody_acts_before_the_view_is_settled() {
    let mut world = heartbeat_tests::World::new(3, 4, heartbeat_core::Config::default());
    world.run(std::time::Duration::from_millis(1_900));
    assert_eq!(lines(&world, &["Moved"]), [] as [&str; 0]);
    world.run(std::time::Duration::from_millis(1_200));
    check_well(&world);
}
