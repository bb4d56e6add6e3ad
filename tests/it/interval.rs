//! The interval changes while everything runs, and no node is suspected for it.

use std::time::Duration;

use heartbeat_core::{Config, ConfigError, Input};
use heartbeat_sim::{Fault, World};

use crate::events::{is_death, is_isolated, is_suspicion, seen, seen_by};
use crate::{after, check_well, every_detector};

const MS: Duration = Duration::from_millis(1);

fn suspicions(world: &World) -> usize {
    seen(world, is_suspicion).len() + seen(world, is_death).len() + seen(world, is_isolated).len()
}

#[test]
fn observers_follow_without_a_suspicion() {
    for config in every_detector() {
        for seed in 0..5 {
            let mut world = World::new(seed, 3, config.clone());
            let node_1 = world.node("node-1");
            world.run(Duration::from_secs(30));
            for millis in [100, 1_000, 100, 4_000, 2_000, 500] {
                world.apply(Fault::SetInterval(node_1, MS * millis));
                world.run(Duration::from_secs(20));
                assert_eq!(suspicions(&world), 0, "{:?}, seed {seed}, to {millis} ms", config.detector.kind);
            }
            check_well(&world);
        }
    }
}

/// With a third of all datagrams lost, the announcement of a longer interval is lost one time in
/// three; said once, it would mean a suspicion.
#[test]
fn an_announcement_that_is_lost_is_made_again() {
    let lossy = |seed: u64, change: bool| {
        let mut world =
            World::new(seed, 1, Config::from_toml("[detector]\nkind = 'fixed'\nsuspect_after = '5s'").unwrap());
        world.run(Duration::from_secs(10));
        world.apply(Fault::Disturb(0.3, 0.0, 0.0));
        if change {
            world.apply(Fault::SetInterval(1, MS * 4_000));
        }
        // Until the second heartbeat at the new interval is due: an observer that suspects by then
        // did not learn of the new interval.
        world.run(Duration::from_millis(6_500));
        usize::from(!seen_by(&world, "monitor", is_suspicion).is_empty())
    };
    let count = |change: bool| (0..300).map(|seed| lossy(seed, change)).sum::<usize>();
    let (without, with) = (count(false), count(true));
    assert!(without <= 3 && with <= 30, "{with} of 300 suspected with a change, {without} without");
}

#[test]
fn a_death_after_a_change_is_noticed_by_the_new_interval() {
    let mut world = World::new(9, 3, Config::default());
    let node_1 = world.node("node-1");
    world.run(Duration::from_secs(30));
    after(&mut world, Fault::SetInterval(node_1, MS * 100), 20);
    let killed = world.elapsed();
    after(&mut world, Fault::Unplug(node_1), 10);
    let after = seen_by(&world, "monitor", is_suspicion)[0].at - killed;
    assert!(after < Duration::from_millis(600), "suspected after {after:?}");
    check_well(&world);
}

#[test]
fn an_interval_that_contradicts_the_config_is_refused() {
    let world = World::new(1, 1, Config::default());
    let mut engine = world.engine(1).unwrap().clone();
    for (interval, part) in [
        (Duration::ZERO, "interval 0s is out of range"),
        (Duration::from_secs(6), "timeout 6s is not longer than interval 6s"),
        (Duration::from_secs(31_557_600), "out of range"),
    ] {
        let refused = engine.check_interval(interval);
        engine.handle(heartbeat_core::Instant::from_millis(1_000), Input::SetInterval(interval));
        let Err(ConfigError::Contradiction(text)) = refused else { panic!("{interval:?}: {refused:?}") };
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(engine.config().interval, Duration::from_secs(1));
}
