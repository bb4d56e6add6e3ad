//! Faults that others have published, as tests: Lifeguard's grid of pauses (Dadgar, Phillips and
//! Currey, 2017) and the faults by which Rapid was judged (Suresh et al., 2018). Then many deaths
//! at once, a monitor that is cut off, and a node that comes back from the dead. The figures are in
//! the bench `scale`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use heartbeat_core::{Config, Event, NodeId, Status};
use heartbeat_sim::{Fault, NodeIndex, Shape, World};

use crate::check_well;
use crate::events::{is_about, is_death, is_death_of, is_declared_dead, is_suspicion, node_of, seen, seen_by};

const SECOND: Duration = Duration::from_secs(1);

/// Who called whom dead.
type Deaths = Rc<RefCell<Vec<(NodeIndex, NodeIndex)>>>;

/// Nodes without workers that know each other, ten seconds old, and what they say of deaths.
fn large(seed: u64, nodes: usize) -> (World, Deaths) {
    let mut world = World::of(seed, Shape::large(nodes), Config::default());
    let deaths = Deaths::default();
    let told = deaths.clone();
    world.listener = Some(Box::new(move |_, by, event| {
        if let Event::Died { node, .. } = event {
            let place = node.strip_prefix("node-").and_then(|number| number.parse::<NodeIndex>().ok()).unwrap() - 1;
            told.borrow_mut().push((by, place));
        }
    }));
    world.run(SECOND * 10);
    (world, deaths)
}

/// Nodes that some observer declared dead and that are not in `ill`.
fn wronged(deaths: &Deaths, ill: &[NodeIndex]) -> BTreeSet<NodeIndex> {
    deaths.borrow().iter().map(|(_, place)| *place).filter(|place| !ill.contains(place)).collect()
}

/// Whether a node takes all but `gone` for members.
#[track_caller]
fn check_view(world: &World, observer: NodeIndex, nodes: usize, gone: usize) {
    let members = world.engine(observer).unwrap().members();
    let present = members.filter(|member| matches!(member.status, Status::Alive | Status::Suspect)).count();
    assert_eq!(present, nodes - gone);
}

#[test]
fn lifeguards_pauses_make_no_healthy_node_dead() {
    const NODES: usize = 128;
    for (count, pause_ms, between_ms) in
        [(1, 2_048, 1), (4, 128, 64), (4, 16_384, 16), (8, 8_192, 1_024), (16, 1_024, 1), (32, 4_096, 256)]
    {
        let (mut world, deaths) = large(7, NODES);
        let ill: Vec<NodeIndex> = (0..count).map(|index| index * 4 + 1).collect();
        let end = world.elapsed() + SECOND * 30;
        while world.elapsed() < end {
            ill.iter().for_each(|&place| world.apply(Fault::Pause(place)));
            world.run(Duration::from_millis(pause_ms));
            ill.iter().for_each(|&place| world.apply(Fault::Resume(place)));
            world.run(Duration::from_millis(between_ms));
        }
        world.run(SECOND * 8);
        assert_eq!(wronged(&deaths, &ill), BTreeSet::new(), "{count} pause for {pause_ms} ms, {between_ms} ms between");
        if pause_ms < 5_000 {
            assert_eq!(wronged(&deaths, &[]), BTreeSet::new(), "{count} pause for {pause_ms} ms and are spared");
        }
        check_view(&world, 0, NODES, 0);
    }
}

#[test]
fn nodes_without_input_for_twenty_seconds_twice_stay_members() {
    const NODES: usize = 100;
    let (mut world, deaths) = large(8, NODES);
    let ill = [17, 60];
    for _ in 0..2 {
        for deaf in ill {
            (0..NODES).filter(|from| *from != deaf).for_each(|from| world.apply(Fault::Cut(from, deaf)));
        }
        world.run(SECOND * 20);
        for deaf in ill {
            (0..NODES).filter(|from| *from != deaf).for_each(|from| world.apply(Fault::Mend(from, deaf)));
        }
        world.run(SECOND * 20);
    }
    assert_eq!(wronged(&deaths, &[]), BTreeSet::new());
}

#[test]
fn nodes_that_lose_most_of_all_harm_no_others() {
    const NODES: usize = 100;
    let (mut world, deaths) = large(9, NODES);
    for ill in [17, 60] {
        world.apply(Fault::LossyNode(ill, 0.8));
    }
    world.run(SECOND * 60);
    assert_eq!(wronged(&deaths, &[17, 60]), BTreeSet::new());
}

#[test]
fn thirty_of_a_hundred_deaths_at_once_are_found_exactly() {
    const NODES: usize = 100;
    for fault in [Fault::Kill, Fault::Unplug] {
        let (mut world, deaths) = large(10, NODES);
        let ended: Vec<NodeIndex> = (0..30).map(|index| index * 3 + 1).collect();
        ended.iter().for_each(|&place| world.apply(fault(place)));
        world.run(SECOND * 40);
        assert_eq!(wronged(&deaths, &ended), BTreeSet::new());
        for observer in [0, 2, 99] {
            check_view(&world, observer, NODES, 30);
        }
    }
}

#[test]
fn a_monitor_that_is_cut_off_declares_no_deaths() {
    let mut world = World::of(11, Shape::central(3, 8), Config::default());
    world.run(SECOND * 10);
    check_well(&world);
    world.apply(Fault::Partition(vec![0]));
    world.run(SECOND * 20);
    // The others conclude its death and no other; it concludes none.
    let died: BTreeSet<&str> = seen(&world, is_death).into_iter().filter_map(|seen| node_of(seen.event)).collect();
    assert_eq!(died, BTreeSet::from(["monitor-1"]));
    assert_eq!(seen_by(&world, "monitor-1", is_death), []);
    world.apply(Fault::Heal);
    world.run(SECOND * 20);
    check_well(&world);
}

#[test]
fn a_returned_node_owns_its_shards_under_higher_epochs() {
    let mut world = World::of(12, Shape::decentralised(6), Config::default());
    world.run(SECOND * 10);
    let sleeper = (0..6).find(|&place| !world.shards_on(place).is_empty()).unwrap();
    let held = world.shards_on(sleeper);
    let epochs: Vec<u64> = held.iter().map(|&shard| world.epoch_on(sleeper, shard).unwrap()).collect();
    world.apply(Fault::Pause(sleeper));
    world.run(SECOND * 15);
    for (&shard, &epoch) in held.iter().zip(&epochs) {
        let owner = (0..6).find(|&place| place != sleeper && world.shards_on(place).contains(&shard)).unwrap();
        assert!(world.epoch_on(owner, shard).unwrap() > epoch, "the successor's epoch is higher");
    }
    world.apply(Fault::Resume(sleeper));
    world.run(SECOND * 10);
    let name = world.name(sleeper).to_owned();
    assert_eq!(seen_by(&world, &name, is_declared_dead).len(), 1);
    assert_eq!(world.shards_on(sleeper), held, "it is the owner again");
    for (&shard, &epoch) in held.iter().zip(&epochs) {
        assert!(world.epoch_on(sleeper, shard).unwrap() > epoch);
    }
    check_well(&world);
}

/// Of many monitors a few watch each node. One of them ends, and others take its places: no node is
/// suspected for it, and a node that ends at that moment is detected.
#[test]
fn the_nodes_of_a_dead_monitor_find_new_observers() {
    for (seed, fault) in [(13, Fault::Kill as fn(NodeIndex) -> Fault), (14, Fault::Unplug)] {
        let mut world = World::of(seed, Shape::central(8, 24), Config::default());
        world.run(SECOND * 20);
        check_well(&world);
        let watched_by = |world: &World, monitor: NodeIndex| {
            let id = NodeId::of(world.name(monitor));
            (8..32).filter(|&node| world.engine(node).unwrap().observers().any(|observer| observer == id)).count()
        };
        let watched = watched_by(&world, 2);
        assert!((5..24).contains(&watched), "it watches {watched} of 24");
        world.apply(fault(2));
        world.run(SECOND * 10);
        for node in 8..32 {
            assert_eq!(world.engine(node).unwrap().observers().count(), 5, "of {}", world.name(node));
        }
        assert_eq!(watched_by(&world, 2), 0);
        let is_of_another = |event: &Event| (is_suspicion(event) || is_death(event)) && !is_about(event, "monitor-3");
        assert_eq!(seen(&world, is_of_another), [], "seed {seed}");
        assert_eq!(seen(&world, is_death_of("monitor-3")).len(), 31);
        world.apply(Fault::Unplug(20));
        world.run(SECOND * 8);
        assert_eq!(seen(&world, is_death_of("node-13")).len(), 30, "seed {seed}");
    }
}
