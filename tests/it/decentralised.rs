//! The cluster without a centre: all watch each other, each a few.

use std::time::Duration;

use heartbeat_core::config::OnIsolated;
use heartbeat_core::{Config, Event};
use heartbeat_sim::{Fault, Shape, World};

use crate::events::{
    is_about, is_death, is_death_of, is_departure_of, is_isolated, is_suspicion, is_suspicion_of, seen, seen_after,
    seen_by, times_after,
};
use crate::{after, check_well};

/// Nodes of a cluster without a centre, a few seconds old.
fn world(seed: u64, nodes: usize, lifelines: bool) -> World {
    let mut config = Config::default();
    config.membership.lifelines = lifelines;
    let mut world = World::of(seed, Shape::decentralised(nodes), config);
    world.run(Duration::from_secs(10));
    check_well(&world);
    world
}

#[test]
fn all_nodes_know_each_other_soon_without_a_suspicion() {
    for seed in 0..20 {
        let mut world = world(seed, 12, true);
        world.run(Duration::from_secs(60));
        check_well(&world);
        for place in 0..12 {
            assert_eq!(world.engine(place).unwrap().observers().count(), 5);
        }
        assert_eq!(seen(&world, is_suspicion), [], "seed {seed}");
        assert_eq!(seen(&world, is_isolated), [], "seed {seed}");
    }
}

#[test]
fn a_killed_process_is_dead_to_all_within_100_ms() {
    for seed in 0..20 {
        let mut world = world(seed, 12, true);
        let node_5 = world.node("node-5");
        let since = world.elapsed();
        after(&mut world, Fault::Kill(node_5), 2);
        let died = times_after(&world, since, is_death_of("node-5"));
        assert_eq!(died.len(), 11, "seed {seed}");
        assert!(died[10] < 0.1, "seed {seed}: {died:?}");
        let is_refused = |event: &Event| match event {
            Event::Died { evidence, .. } => evidence.iter().any(|report| report.refused),
            _ => false,
        };
        assert!(!seen(&world, is_refused).is_empty(), "the verdict carries its evidence");
        world.run(Duration::from_secs(8));
        check_well(&world);
    }
}

#[test]
fn closed_connections_are_no_death_and_are_reopened() {
    for (seed, monitors, nodes) in [(1, 0, 12), (2, 0, 2), (3, 1, 100), (4, 3, 40)] {
        let mut world = World::of(seed, Shape { monitors, ..Shape::decentralised(nodes) }, Config::default());
        world.run(Duration::from_secs(20));
        let begun = world.elapsed();
        for _ in 0..3 {
            (0..monitors + nodes).for_each(|place| world.apply(Fault::CloseConnections(place)));
            world.run(Duration::from_secs(5));
        }
        assert_eq!(seen_after(&world, begun, is_suspicion), [], "seed {seed}");
        assert_eq!(seen_after(&world, begun, is_death), [], "seed {seed}");
        check_well(&world);
        let since = world.elapsed();
        after(&mut world, Fault::Kill(monitors + nodes - 1), 2);
        let died = times_after(&world, since, is_death_of(&format!("node-{nodes}")));
        assert!(died.len() == monitors + nodes - 1 && died.iter().all(|&after| after < 0.2), "seed {seed}: {died:?}");
    }
}

#[test]
fn a_killed_process_behind_a_cut_is_dead_before_the_timeout() {
    for seed in 0..20 {
        let mut world = world(seed, 12, true);
        let node_5 = world.node("node-5");
        let since = world.elapsed();
        world.apply(Fault::Partition(vec![node_5]));
        after(&mut world, Fault::Kill(node_5), 0);
        world.run(Duration::from_millis(100));
        after(&mut world, Fault::Heal, 4);
        let died = times_after(&world, since, is_death_of("node-5"));
        assert!(died.len() == 11 && died[10] < 2.0, "seed {seed}: {died:?}");
        check_well(&world);
    }
}

#[test]
fn a_node_without_power_is_suspected_then_dead_in_time() {
    let mut suspicions = Vec::new();
    for seed in 0..20 {
        let mut world = world(seed, 12, true);
        let node_5 = world.node("node-5");
        let since = world.elapsed();
        after(&mut world, Fault::Unplug(node_5), 10);
        let (suspected, died) =
            (times_after(&world, since, is_suspicion_of("node-5")), times_after(&world, since, is_death_of("node-5")));
        assert_eq!((suspected.len(), died.len()), (11, 11), "seed {seed}");
        assert!(died[0] > 5.0 && died[10] < 7.0, "seed {seed}: {died:?}");
        suspicions.push(suspected[10]);
        check_well(&world);
    }
    suspicions.sort_by(f64::total_cmp);
    assert!(suspicions[10] < 1.0 && suspicions[19] < 2.0, "{suspicions:?}");
}

#[test]
fn a_pause_below_the_timeout_is_a_suspicion_and_no_death() {
    for seed in 0..20 {
        let mut world = world(seed, 12, true);
        let node_5 = world.node("node-5");
        after(&mut world, Fault::Pause(node_5), 5);
        after(&mut world, Fault::Resume(node_5), 10);
        assert!(!seen(&world, is_suspicion_of("node-5")).is_empty());
        assert_eq!(seen(&world, is_death), [], "seed {seed}");
        let is_of_another = |event: &Event| is_suspicion(event) && !is_about(event, "node-5");
        assert_eq!(seen(&world, is_of_another), [], "seed {seed}");
        check_well(&world);
    }
}

#[test]
fn a_link_that_fails_one_way_kills_neither_end() {
    for seed in 0..10 {
        let mut world = world(seed, 8, true);
        for (from, to) in [(1, 2), (3, 4), (5, 0)] {
            world.apply(Fault::Cut(from, to));
        }
        world.run(Duration::from_secs(60));
        assert_eq!(seen(&world, is_death), [], "seed {seed}");
        after(&mut world, Fault::Heal, 10);
        check_well(&world);
    }
}

#[test]
fn a_node_that_leaves_is_never_suspected() {
    for seed in 0..10 {
        let mut world = world(seed, 8, true);
        let node_4 = world.node("node-4");
        let since = world.elapsed();
        after(&mut world, Fault::Leave(node_4), 10);
        let left = times_after(&world, since, is_departure_of("node-4"));
        assert!(left.len() == 7 && left[6] < 0.2, "seed {seed}: {left:?}");
        assert_eq!(seen(&world, is_suspicion), [], "seed {seed}");
        assert_eq!(seen(&world, is_death), [], "seed {seed}");
        check_well(&world);
    }
}

#[test]
fn the_sides_of_a_partition_find_each_other_again() {
    for (seed, islands) in [vec![0, 1, 2, 3], vec![0, 1], vec![6], vec![2, 5, 7]].into_iter().enumerate() {
        for length in [4, 30, 120] {
            let mut world = world(seed as u64, 9, true);
            world.apply(Fault::Partition(islands.clone()));
            world.run(Duration::from_secs(length));
            after(&mut world, Fault::Heal, 30);
            check_well(&world);
        }
    }
}

#[test]
fn a_process_killed_and_started_at_once_is_a_member_at_once() {
    for seed in 0..10 {
        let mut world = world(seed, 8, true);
        let node_4 = world.node("node-4");
        world.apply(Fault::Kill(node_4));
        world.run(Duration::from_millis(30));
        after(&mut world, Fault::Start(node_4), 5);
        check_well(&world);
    }
}

#[test]
fn a_mass_restart_wins_over_older_news() {
    for seed in 0..10 {
        let mut world = world(seed, 10, true);
        (0..10).for_each(|place| world.apply(Fault::Kill(place)));
        world.run(Duration::from_secs(1));
        (0..10).for_each(|place| world.apply(Fault::Start(place)));
        world.run(Duration::from_secs(20));
        check_well(&world);
    }
}

#[test]
fn a_node_without_network_declares_no_death() {
    for seed in 0..10 {
        let mut world = world(seed, 10, true);
        let node_5 = world.node("node-5");
        after(&mut world, Fault::Partition(vec![node_5]), 60);
        let by = |(_, place, event): &(Duration, usize, &Event)| *place == 4 && matches!(event, Event::Died { .. });
        assert_eq!(world.events().filter(by).count(), 0, "seed {seed}: it is rather itself");
        assert!(!seen_by(&world, "node-5", is_isolated).is_empty());
        after(&mut world, Fault::Heal, 20);
        check_well(&world);
    }
}

/// A node that loses sight of most of the others holds its verdicts, and publishes that. Once
/// enough members are back, each node that is still silent has its whole time anew.
#[test]
fn a_mass_failure_holds_verdicts_until_the_zone_recovers() {
    for seed in 0..10 {
        let mut world = world(seed, 12, true);
        (4..12).for_each(|place| world.apply(Fault::Unplug(place)));
        world.run(Duration::from_secs(60));
        assert_eq!(seen(&world, is_death), [], "seed {seed}");
        let is_disrupted = |event: &Event| matches!(event, Event::ZoneDisrupted { zone, .. } if &**zone == "all");
        let is_recovered = |event: &Event| matches!(event, Event::ZoneRecovered { zone } if &**zone == "all");
        let frozen = seen(&world, is_disrupted).len();
        assert!(frozen > 0, "seed {seed}");
        assert_eq!(seen(&world, |event| matches!(event, Event::ZoneRecovered { .. })), [], "it does not end by itself");
        (4..10).for_each(|place| world.apply(Fault::Start(place)));
        world.run(Duration::from_secs(20));
        let thawed: Vec<Duration> = seen(&world, is_recovered).into_iter().map(|seen| seen.at).collect();
        assert_eq!(thawed.len(), frozen, "seed {seed}");
        let died = seen(&world, is_death);
        assert_eq!(died.len(), 20, "two of twelve did not come back: {died:?}");
        let timeout = world.config.timeout;
        assert!(died[0].at - thawed[0] > timeout - Duration::from_secs(1), "seed {seed}: {thawed:?} {died:?}");
        (10..12).for_each(|place| world.apply(Fault::Start(place)));
        world.run(Duration::from_secs(10));
        check_well(&world);
    }
}

/// With `on_isolated = "proceed"` an isolated node declares all others dead. The default is that it
/// declares none.
#[test]
fn an_isolated_node_declares_deaths_only_with_proceed() {
    for (on_isolated, buries) in [(OnIsolated::Hold, false), (OnIsolated::Proceed, true)] {
        let mut config = Config::default();
        (config.membership.brake, config.membership.on_isolated) = (false, on_isolated);
        let mut world = World::of(3, Shape::decentralised(10), config);
        let node_5 = world.node("node-5");
        world.run(Duration::from_secs(10));
        after(&mut world, Fault::Partition(vec![node_5]), 60);
        let watched = world.engine(node_5).unwrap().watched().count();
        assert_eq!(!seen_by(&world, "node-5", is_death).is_empty(), buries, "{on_isolated:?}");
        assert_eq!(watched == 0, buries, "{on_isolated:?}: all that it watched are dead to it");
        after(&mut world, Fault::Heal, 30);
        assert_eq!(world.unsettled(), [] as [String; 0], "{on_isolated:?}");
    }
}

/// A dead or departed node is kept for `forget_after`, so that old rumours about it are recognised
/// as old. After that nothing of it is left, and no node gossips it again.
#[test]
fn the_dead_and_departed_are_forgotten_in_time() {
    let mut config = Config::default();
    config.membership.forget_after = Duration::from_secs(30);
    let mut world = World::of(5, Shape::decentralised(8), config);
    let [node_4, node_6] = ["node-4", "node-6"].map(|name| world.node(name));
    world.run(Duration::from_secs(10));
    world.apply(Fault::Kill(node_4));
    world.apply(Fault::Leave(node_6));
    let known = |world: &World| -> Vec<usize> {
        [0, 1, 2, 4, 6, 7].into_iter().map(|place| world.engine(place).unwrap().members().count()).collect()
    };
    world.run(Duration::from_secs(29));
    assert_eq!(known(&world), [8; 6]);
    world.run(Duration::from_secs(13));
    assert_eq!(known(&world), [6; 6], "each forgets when it compares next");
    world.run(Duration::from_secs(120));
    assert_eq!(known(&world), [6; 6]);
    assert_eq!(world.checker.broken(), [] as [String; 0]);
    after(&mut world, Fault::Start(node_4), 10);
    assert_eq!(known(&world), [7; 6]);
}

/// A node that joins learns of the dead from a table sync and does not gossip them. If it did, each
/// node would learn of them anew before the last one has forgotten them.
#[test]
fn the_dead_are_forgotten_while_other_nodes_restart() {
    let mut config = Config::default();
    config.membership.forget_after = Duration::from_secs(30);
    let mut world = World::of(5, Shape::decentralised(8), config);
    let node_4 = world.node("node-4");
    world.run(Duration::from_secs(10));
    world.apply(Fault::Kill(node_4));
    let others = [0, 1, 2, 4, 5, 6, 7];
    let who_knows = |world: &World| {
        let knows = |place: &&usize| world.engine(**place).unwrap().members().any(|member| &*member.name == "node-4");
        others.iter().filter(knows).count()
    };
    let mut known = Vec::new();
    for round in 0..20 {
        let place = others[round % 7];
        after(&mut world, Fault::Kill(place), 1);
        after(&mut world, Fault::Start(place), 9);
        known.push(who_knows(&world));
    }
    assert_eq!(known[0], 7, "a node that joins learns of it");
    // The node that learnt of it last keeps it for as long as the nodes that saw the death.
    assert_eq!(known[8..], [0; 12], "{known:?}");
    assert_eq!(world.checker.broken(), [] as [String; 0]);
}

#[test]
fn loss_is_no_death() {
    let mut world = world(1, 10, true);
    after(&mut world, Fault::Disturb(0.05, 0.05, 0.05), 600);
    assert_eq!(seen(&world, is_death), []);
    after(&mut world, Fault::Heal, 10);
    check_well(&world);
}

#[test]
fn a_node_that_receives_nothing_is_vindicated_by_others() {
    for seed in 0..10 {
        let mut world = world(seed, 12, true);
        let node_5 = world.node("node-5");
        (0..12).filter(|from| *from != node_5).for_each(|from| world.apply(Fault::Cut(from, node_5)));
        world.run(Duration::from_secs(60));
        assert_eq!(seen(&world, is_death), [], "seed {seed}");
        assert_eq!(seen_by(&world, "node-5", is_isolated).len(), 1);
        after(&mut world, Fault::Heal, 10);
        check_well(&world);
    }
}
