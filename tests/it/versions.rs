//! Nodes of two releases work together: the version of the wire format that they use is the highest
//! that all members can use.

use std::time::Duration;

use heartbeat_core::wire::{VERSION_MAX, VERSION_MIN};
use heartbeat_core::{Event, Random};
use heartbeat_sim::world::SHARDS;
use heartbeat_sim::{Fault, NodeIndex, Releases, Shape, World};

use crate::check_well;
use crate::events::{is_death, is_suspicion, seen};

const NODES: usize = 5;

/// How long a node takes to leave or to join, with room.
const STEP: Duration = Duration::from_secs(5);

/// Five nodes of the former release, or of this one, eight seconds old.
fn world(seed: u64, releases: Releases) -> World {
    let shape = Shape { requests: true, releases, ..Shape::decentralised(NODES) };
    let mut world = World::of(seed, shape, heartbeat_core::Config::default());
    world.set_sending(false);
    world.run(Duration::from_secs(8));
    world
}

/// The versions that the running nodes send in.
fn in_use(world: &World) -> Vec<u8> {
    world.running().into_iter().filter_map(|place| world.engine(place)?.wire_version()).collect()
}

/// When the version rose and fell, by node: the version after each change.
fn changes(world: &World) -> Vec<(Duration, NodeIndex, u8)> {
    let version = |event: &Event| match event {
        Event::WireVersionRaised { to, .. } | Event::WireVersionLowered { to, .. } => Some(*to),
        _ => None,
    };
    world.events().filter_map(|(at, place, event)| Some((at, place, version(event)?))).collect()
}

/// Asserts that no running node received a datagram that it could not decode.
#[track_caller]
fn check_understood(world: &World, seed: u64) {
    for place in world.running() {
        let counters = world.engine(place).unwrap().counters();
        let refused = (counters.wrong_version, counters.unknown_kind, counters.malformed);
        assert_eq!(refused, (0, 0, 0), "seed {seed}: {}", world.name(place));
    }
}

/// Lets this much time pass, with a request every few milliseconds.
fn run_with_requests(world: &mut World, duration: Duration, away: NodeIndex, sent: &mut Vec<u64>) {
    let end = world.elapsed() + duration;
    while world.elapsed() < end {
        let number = sent.len();
        let sender = (away + 1 + number % (NODES - 1)) % NODES;
        sent.push(world.send_request(sender, number as u32 % SHARDS, 100, None));
        world.run(Duration::from_millis(37));
    }
}

#[test]
fn a_new_cluster_uses_the_highest_version_and_says_nothing() {
    for seed in 0..10 {
        let world = world(seed, Releases::This);
        assert_eq!(in_use(&world), [VERSION_MAX; NODES], "seed {seed}");
        assert_eq!(changes(&world), [], "seed {seed}");
        check_understood(&world, seed);
    }
}

#[test]
fn in_a_rolling_upgrade_the_version_rises_once_at_the_end() {
    for seed in 0..20 {
        let (mut world, mut sent) = (world(seed, Releases::Former), Vec::new());
        for place in 0..NODES {
            assert_eq!(in_use(&world), [VERSION_MIN; NODES], "seed {seed}");
            assert_eq!(changes(&world), [], "seed {seed}");
            // The node that leaves waits for no answer itself.
            world.run(Duration::from_secs(1));
            world.apply(Fault::Leave(place));
            run_with_requests(&mut world, STEP, place, &mut sent);
            world.wire_version_max.remove(&place);
            world.apply(Fault::Start(place));
            run_with_requests(&mut world, STEP, place, &mut sent);
        }
        world.run(STEP);
        assert_eq!(in_use(&world), [VERSION_MAX; NODES], "seed {seed}");
        let rises = changes(&world);
        // The last process that is replaced never used the lower version.
        let mut places: Vec<NodeIndex> = rises.iter().map(|(_, place, _)| *place).collect();
        places.sort_unstable();
        assert_eq!(places, [0, 1, 2, 3], "seed {seed}: {rises:?}");
        assert!(rises.iter().all(|(_, _, to)| *to == VERSION_MAX), "seed {seed}");
        assert_eq!(seen(&world, is_suspicion), [], "seed {seed}");
        assert_eq!(seen(&world, is_death), [], "seed {seed}");
        for id in sent {
            let outcome = world.checker.outcome(id);
            let is_handled = matches!(outcome, Some(heartbeat_core::requests::Outcome::Handled(_)));
            assert!(is_handled, "seed {seed}: request {id}: {outcome:?}");
        }
        check_understood(&world, seed);
        check_well(&world);
    }
}

#[test]
fn the_version_falls_when_an_older_node_joins_and_rises_again() {
    for seed in 0..20 {
        let mut world = world(seed, Releases::This);
        let place = (seed % NODES as u64) as usize;
        world.apply(Fault::Leave(place));
        world.run(STEP);
        world.wire_version_max.insert(place, VERSION_MIN);
        world.apply(Fault::Start(place));
        world.run(STEP);
        assert_eq!(in_use(&world), [VERSION_MIN; NODES], "seed {seed}");
        let named = |event: &Event| match event {
            Event::WireVersionLowered { from, to, held_back_by } => {
                (*from, *to, held_back_by.len(), &*held_back_by[0]) == (VERSION_MAX, VERSION_MIN, 1, world.name(place))
            }
            _ => false,
        };
        assert_eq!(seen(&world, named).len(), NODES - 1, "seed {seed}");
        check_understood(&world, seed);
        check_well(&world);
        // Its end is enough, graceful or not.
        world.apply(if seed % 2 == 0 { Fault::Leave(place) } else { Fault::Kill(place) });
        world.run(STEP * 4);
        let others: Vec<u8> = in_use(&world).into_iter().filter(|version| *version == VERSION_MAX).collect();
        assert_eq!(others, [VERSION_MAX; NODES - 1], "seed {seed}");
        assert_eq!(changes(&world).len(), 2 * (NODES - 1), "seed {seed}: each fell once and rose once");
    }
}

/// Does a random thing to a random node, in a world where each start is of a random release.
fn disturb(world: &mut World, random: &mut Random) {
    let place = random.below(NODES as u64) as usize;
    if random.chance(0.5) {
        world.wire_version_max.insert(place, VERSION_MIN);
    } else {
        world.wire_version_max.remove(&place);
    }
    let is_running = world.running().contains(&place);
    match random.below(5) {
        0 if is_running => world.apply(Fault::Kill(place)),
        1 if is_running => world.apply(Fault::Leave(place)),
        2 => {
            let apart = (0..NODES).filter(|_| random.chance(0.4)).collect();
            world.apply(Fault::Partition(apart));
        }
        3 => world.apply(Fault::Heal),
        _ if !is_running => world.apply(Fault::Start(place)),
        _ => world.apply(Fault::Disturb(0.1, 0.1, 0.1)),
    }
}

#[test]
fn mixed_versions_agree_after_joins_leaves_and_partitions() {
    for seed in 0..150 {
        let mut random = Random::seeded(seed);
        let mut world = world(seed, Releases::Mixed);
        for _ in 0..12 {
            disturb(&mut world, &mut random);
            world.run(random.duration_below(Duration::from_secs(8)));
        }
        world.apply(Fault::Heal);
        for place in 0..NODES {
            if world.engine(place).is_none_or(|engine| engine.is_leaving()) {
                world.apply(Fault::Start(place));
            }
        }
        world.run(Duration::from_secs(60));
        let own = |place: NodeIndex| {
            let mut members = world.engine(place).unwrap().members();
            members.find(|member| *member.name == *world.name(place)).unwrap().wire_versions.max
        };
        let expected = (0..NODES).map(own).min().unwrap();
        assert_eq!(in_use(&world), [expected; NODES], "seed {seed}");
        check_well(&world);
    }
}
