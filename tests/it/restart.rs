//! Workers that fail: at once, after a pause, not at all.

use std::time::Duration;

use heartbeat_core::WorkerId;
use heartbeat_tests::Fault;

use crate::{after, check_well, lines, quiet_world};

const NODE: usize = 1;
const WORKER: WorkerId = WorkerId(0);

#[test]
fn a_first_panic_is_answered_at_once() {
    let mut world = quiet_world(1);
    after(&mut world, Fault::Panic(NODE, WORKER), 1);
    assert_eq!(lines(&world, &["Failed", "worker-0", "restart_in: Some(0ns)"]).len(), 1);
    assert_eq!(lines(&world, &["Replaced", "worker-0", "Generation(2)"]).len(), 1);
    check_well(&world);
}

#[test]
fn a_storm_of_panics_is_slowed_down_and_then_given_up() {
    let mut world = quiet_world(2);
    for _ in 0..1_000 {
        world.apply(Fault::Panic(NODE, WORKER));
        world.run(Duration::from_millis(10));
    }
    let intensity = world.config.restart.intensity as usize;
    assert_eq!(lines(&world, &["Replaced", "worker-0"]).len(), intensity);
    assert_eq!(lines(&world, &["GaveUp", "worker-0"]).len(), 1);
    assert_eq!(lines(&world, &["Failed", "worker-1"]), [] as [&str; 0], "its neighbours are not touched");
    assert_eq!(world.checker.broken(), [] as [String; 0]);
}

#[test]
fn failures_spread_out_are_never_given_up() {
    let mut world = quiet_world(3);
    for _ in 0..50 {
        after(&mut world, Fault::Panic(NODE, WORKER), 31);
    }
    assert_eq!(lines(&world, &["GaveUp"]), [] as [&str; 0]);
    assert_eq!(lines(&world, &["Replaced", "worker-0"]).len(), 50);
    check_well(&world);
}

#[test]
fn threads_over_the_cap_are_not_replaced_until_one_comes_back() {
    let mut config = heartbeat_core::Config::default();
    // The neighbour that waits for the first thread would not be there to hold the second.
    config.workers.on_thread_held = heartbeat_core::config::HeldThread::StartAnew;
    let mut world = heartbeat_tests::World::new(4, 4, config);
    world.run(Duration::from_secs(5));
    let most = world.config.workers.zombies_max as usize;
    // Each replacement blocks again, a little later than its timeout, so that each counts as a
    // failure of another worker.
    for round in 0..=most {
        let worker = WorkerId((round % 2) as u32 * 2);
        world.apply(Fault::Block(NODE, worker, Duration::from_secs(120)));
        world.run(Duration::from_secs(8));
    }
    assert_eq!(lines(&world, &["Abandoned"]).len(), most);
    let refused = lines(&world, &["TooManyZombies"]).len();
    assert!(refused > 0);
    world.run(Duration::from_secs(20));
    assert!(lines(&world, &["TooManyZombies"]).len() > refused, "it is looked at again and again");
    world.run(Duration::from_secs(130));
    // The thread that was one too many was abandoned, too, once there was room.
    assert_eq!(lines(&world, &["ZombieEnded"]).len(), most + 1);
    assert_eq!(world.checker.broken(), [] as [String; 0]);
}
