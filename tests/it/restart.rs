//! Workers that fail: at once, after a pause, not at all.

use std::time::Duration;

use heartbeat_core::{Event, Generation, WorkerId};
use heartbeat_sim::Fault;

use crate::events::{is_failure_of, is_given_up, is_given_up_of, is_replacement_of, seen};
use crate::{after, check_well, quiet_world};

const NODE: usize = 1;
const WORKER: WorkerId = WorkerId(0);

#[test]
fn a_first_panic_is_answered_at_once() {
    let mut world = quiet_world(1);
    after(&mut world, Fault::Panic(NODE, WORKER), 1);
    let is_answered_at_once = |event: &Event| match event {
        Event::Failed { worker, restart_in, .. } => &**worker == "worker-0" && *restart_in == Some(Duration::ZERO),
        _ => false,
    };
    let is_second_life = |event: &Event| match event {
        Event::Replaced { worker, generation, .. } => &**worker == "worker-0" && *generation == Generation(2),
        _ => false,
    };
    assert_eq!(seen(&world, is_answered_at_once).len(), 1);
    assert_eq!(seen(&world, is_second_life).len(), 1);
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
    assert_eq!(seen(&world, is_replacement_of("worker-0")).len(), intensity);
    assert_eq!(seen(&world, is_given_up_of("worker-0")).len(), 1);
    assert_eq!(seen(&world, is_failure_of("worker-1")), [], "its neighbours are not touched");
    assert_eq!(world.checker.broken(), [] as [String; 0]);
}

#[test]
fn failures_spread_out_are_never_given_up() {
    let mut world = quiet_world(3);
    for _ in 0..50 {
        after(&mut world, Fault::Panic(NODE, WORKER), 31);
    }
    assert_eq!(seen(&world, is_given_up), []);
    assert_eq!(seen(&world, is_replacement_of("worker-0")).len(), 50);
    check_well(&world);
}

#[test]
fn threads_over_the_cap_are_not_replaced_until_one_comes_back() {
    let mut config = heartbeat_core::Config::default();
    // The neighbour that waits for the first thread would not be there to hold the second.
    config.workers.on_thread_held = heartbeat_core::config::HeldThread::StartAnew;
    let mut world = heartbeat_sim::World::new(4, 4, config);
    world.run(Duration::from_secs(5));
    let most = world.config.workers.zombies_max as usize;
    // Each replacement blocks again, a little later than its timeout, so that each counts as a
    // failure of another worker.
    for round in 0..=most {
        let worker = WorkerId((round % 2) as u32 * 2);
        world.apply(Fault::Block(NODE, worker, Duration::from_secs(120)));
        world.run(Duration::from_secs(8));
    }
    assert_eq!(seen(&world, |event| matches!(event, Event::Abandoned { .. })).len(), most);
    let is_refused = |event: &Event| matches!(event, Event::TooManyZombies { .. });
    let refused = seen(&world, is_refused).len();
    assert!(refused > 0);
    world.run(Duration::from_secs(20));
    assert!(seen(&world, is_refused).len() > refused, "it is looked at again and again");
    world.run(Duration::from_secs(130));
    // The thread that was one too many was abandoned, too, once there was room.
    assert_eq!(seen(&world, |event| matches!(event, Event::ZombieEnded { .. })).len(), most + 1);
    assert_eq!(world.checker.broken(), [] as [String; 0]);
}
