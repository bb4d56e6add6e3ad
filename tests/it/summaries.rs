//! What former observers of a node have learnt reaches its new observer.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use heartbeat_core::{Config, Event, NodeId};
use heartbeat_sim::{NodeIndex, Releases, Shape, World};

const NODES: usize = 6;

/// The node whose heartbeats are often lost.
const BAD: NodeIndex = 2;

/// Wrong suspicions of the bad node: when, and by which node.
type Suspicions = Rc<RefCell<Vec<(Duration, NodeIndex)>>>;

/// Six nodes with one observer each, which is replaced after one to three hours. One node loses
/// three heartbeats in ten. The former release has no summaries.
fn world(seed: u64, releases: Releases) -> (World, Suspicions) {
    let mut config = Config { timeout: Duration::from_secs(20), ..Config::default() };
    (config.membership.observers, config.membership.redraw) = (1, Duration::from_secs(7_200));
    let mut world = World::of(seed, Shape { releases, ..Shape::large(NODES) }, config);
    world.network.lossy.insert(BAD, 0.3);
    let suspicions = Suspicions::default();
    let (found, bad) = (suspicions.clone(), world.name(BAD).to_owned());
    world.listener = Some(Box::new(move |at, by, event| {
        if let Event::Suspected { node, reported_by: None, .. } = event
            && **node == *bad
        {
            found.borrow_mut().push((at, by));
        }
    }));
    (world, suspicions)
}

/// The nodes that watch the bad one as its observer, each with the silence after which it suspects
/// it.
fn observers(world: &World) -> Vec<(NodeIndex, Duration)> {
    let bad = NodeId::of(world.name(BAD));
    let mut found = Vec::new();
    for place in world.running() {
        let Some(engine) = world.engine(place) else { continue };
        let link = engine.links(world.clock_of(place)).find(|link| link.node == bad && !link.observers.is_empty());
        found.extend(link.map(|link| (place, link.figures.suspected_after - link.figures.expected_after)));
    }
    found
}

/// What became of a change of observers.
#[derive(Debug)]
struct Change {
    /// How long the former observer waits past an expected heartbeat.
    former: Duration,
    /// How long the new one waits once it has received a few heartbeats.
    new: Duration,
    /// Suspicions by the new observer in its first ten minutes.
    mistakes: usize,
}

/// Lets a world run until the bad node has another observer, and ten minutes more.
fn change(seed: u64, releases: Releases) -> Change {
    let (mut world, suspicions) = world(seed, releases);
    world.run(Duration::from_secs(3_500));
    let mut before = observers(&world);
    let (place, new, former) = loop {
        world.run(Duration::from_secs(1));
        let now = observers(&world);
        if let Some(&(place, new)) = now.iter().find(|(place, _)| before.iter().all(|(former, _)| former != place)) {
            break (place, new, before[0].1);
        }
        if !now.is_empty() {
            before = now;
        }
        assert!(world.elapsed() < Duration::from_secs(12_000), "seed {seed}: no observer was replaced");
    };
    let begun = world.elapsed();
    world.run(Duration::from_secs(600));
    let mistakes = suspicions.borrow().iter().filter(|(at, by)| *at > begun && *by == place).count();
    Change { former, new, mistakes }
}

#[test]
fn a_new_observer_of_a_bad_link_starts_as_careful() {
    let (mut with, mut without) = (0, 0);
    for seed in 0..4 {
        let change = change(seed, Releases::This);
        let share = change.new.as_secs_f64() / change.former.as_secs_f64();
        assert!((0.6..1.6).contains(&share), "seed {seed}: {change:?}");
        with += change.mistakes;
        without += self::change(seed, Releases::Former).mistakes;
    }
    assert_eq!(with, 0, "the former observers suspected none of these silences");
    assert!(without >= 4, "{without} without summaries");
}
