//! Requests find their owner, and their senders learn what became of them. Random worlds with
//! requests are in `sweep`.

use std::time::Duration;

use heartbeat_core::config::{DetectorKind, OnSuspected, QuorumRule};
use heartbeat_core::requests::{Outcome, Refusal};
use heartbeat_core::{Config, Event, Interruption, WorkerId};
use heartbeat_sim::world::{SHARDS, WORKERS};
use heartbeat_sim::{Fault, NodeIndex, Shape, World};

use crate::check_well;

const NODES: usize = 5;

/// Five nodes without a monitor, eight seconds old, whose clients send nothing by themselves.
fn world_by(seed: u64, config: Config) -> World {
    let mut world = World::of(seed, Shape { requests: true, ..Shape::decentralised(NODES) }, config);
    world.set_sending(false);
    world.run(Duration::from_secs(8));
    world
}

/// A node that runs shards, one of these, and a node that does not run that one.
fn owner_and_sender(world: &World) -> (NodeIndex, u32, NodeIndex) {
    let owner = (0..NODES).find(|&place| !world.shards_on(place).is_empty()).unwrap();
    let shard = *world.shards_on(owner).first().unwrap();
    (owner, shard, (owner + 1) % NODES)
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn is_handled(world: &World, id: u64) -> bool {
    matches!(world.checker.outcome(id), Some(Outcome::Handled(_)))
}

#[test]
fn a_killed_owner_interrupts_at_once_and_later_requests_move() {
    for seed in 0..20 {
        let mut world = world_by(seed, Config::default());
        let (owner, shard, sender) = owner_and_sender(&world);
        world.apply(Fault::Block(owner, WorkerId(WORKERS + shard), Duration::from_secs(3)));
        let in_queue = world.send_request(sender, shard, 100, None);
        world.run(millis(50));
        assert_eq!(world.checker.outcome(in_queue), None, "seed {seed}");
        world.apply(Fault::Kill(owner));
        world.run(millis(20));
        let outcome = world.checker.outcome(in_queue);
        let is_interrupted =
            matches!(outcome, Some(Outcome::Interrupted(Interruption::ConnectionLost | Interruption::NodeDied)));
        assert!(is_interrupted, "seed {seed}: {outcome:?}");
        let held = world.send_request(sender, shard, 100, None);
        world.run(millis(500));
        assert!(is_handled(&world, held), "seed {seed}: {:?}", world.checker.outcome(held));
        check_well(&world);
    }
}

#[test]
fn a_graceful_leave_and_a_join_fail_no_request() {
    for seed in 0..20 {
        let mut world = world_by(seed, Config::default());
        let (owner, _, _) = owner_and_sender(&world);
        let mut ids = Vec::new();
        for step in 0..600 {
            match step {
                100 => world.apply(Fault::Leave(owner)),
                300 => world.apply(Fault::Start(owner)),
                _ => {}
            }
            let sender = (owner + 1 + step % (NODES - 1)) % NODES;
            ids.push(world.send_request(sender, step as u32 % SHARDS, 100 + step, None));
            world.run(millis(7));
        }
        world.run(Duration::from_secs(5));
        for id in ids {
            assert!(is_handled(&world, id), "seed {seed}: request {id}: {:?}", world.checker.outcome(id));
        }
        check_well(&world);
    }
}

#[test]
fn a_frozen_owner_that_wakes_handles_nothing_of_a_shard_it_lost() {
    for seed in 0..20 {
        let mut config = Config::default();
        (config.ownership.quorum, config.ownership.quorum_min) = (QuorumRule::Majority, 3);
        let mut world = world_by(seed, config);
        let (owner, shard, sender) = owner_and_sender(&world);
        world.send_request(sender, shard, 100, None);
        world.run(millis(500));
        // The connection is open now, so the next request is on its way at once.
        world.apply(Fault::Pause(owner));
        let frozen = world.send_request(sender, shard, 100, None);
        world.run(Duration::from_secs(12));
        let outcome = world.checker.outcome(frozen);
        assert!(matches!(outcome, Some(Outcome::Interrupted(_))), "seed {seed}: {outcome:?}");
        let moved = world.send_request(sender, shard, 100, None);
        world.run(Duration::from_secs(1));
        assert!(is_handled(&world, moved), "seed {seed}: {:?}", world.checker.outcome(moved));
        world.apply(Fault::Resume(owner));
        world.run(Duration::from_secs(10));
        assert!(!world.checker.is_request_handled(frozen), "seed {seed}");
        check_well(&world);
    }
}

#[test]
fn an_answer_after_the_deadline_is_counted_as_late() {
    for seed in 0..20 {
        let mut world = world_by(seed, Config::default());
        let (owner, shard, sender) = owner_and_sender(&world);
        let warm = world.send_request(sender, shard, 100, None);
        world.run(millis(500));
        assert!(is_handled(&world, warm), "seed {seed}");
        world.apply(Fault::Pause(owner));
        let id = world.send_request(sender, shard, 100, Some(millis(100)));
        world.run(millis(99));
        assert_eq!(world.checker.outcome(id), None, "seed {seed}");
        world.run(millis(2));
        assert_eq!(world.checker.outcome(id), Some(&Outcome::TimedOut), "seed {seed}");
        world.apply(Fault::Resume(owner));
        world.run(Duration::from_secs(1));
        assert_eq!(world.request_counters(sender).unwrap().late, 1, "seed {seed}");
        assert!(!world.checker.is_request_handled(id), "its deadline was over: seed {seed}");
    }
}

#[test]
fn requests_wait_while_a_quorum_waits_out_a_lease() {
    let mut config = Config::default();
    (config.ownership.quorum, config.ownership.quorum_min) = (QuorumRule::Majority, 3);
    let mut world = world_by(3, config);
    let (owner, shard, sender) = owner_and_sender(&world);
    world.apply(Fault::Kill(owner));
    world.run(millis(300));
    let id = world.send_request(sender, shard, 100, None);
    world.run(millis(500));
    assert_eq!(world.checker.outcome(id), None, "the lease of the dead owner may still hold");
    world.run(Duration::from_secs(5));
    assert!(is_handled(&world, id), "{:?}", world.checker.outcome(id));
    check_well(&world);
}

#[test]
fn a_shard_without_an_owner_holds_requests_for_held_for() {
    let mut config = Config::default();
    // More than there are: no node may own a shard.
    (config.ownership.quorum, config.ownership.quorum_min) = (QuorumRule::Majority, NODES as u32 + 1);
    config.requests.held_for = Duration::from_secs(2);
    let mut world = world_by(4, config);
    let id = world.send_request(0, 0, 100, None);
    world.run(millis(1_999));
    assert_eq!(world.checker.outcome(id), None);
    world.run(millis(2));
    let outcome = world.checker.outcome(id);
    assert!(matches!(outcome, Some(Outcome::Refused(Refusal::HeldTooLong | Refusal::HopLimit))), "{outcome:?}");
}

#[test]
fn a_shard_that_no_node_supervises_refuses_after_held_for() {
    let mut world = world_by(5, Config::default());
    let id = world.send_request(0, SHARDS + 1, 100, None);
    let bounded = world.send_request(0, SHARDS + 1, 100, Some(millis(500)));
    world.run(millis(501));
    assert_eq!(world.checker.outcome(bounded), Some(&Outcome::Refused(Refusal::Expired)));
    assert_eq!(world.checker.outcome(id), None);
    world.run(world.config.requests.held_for);
    assert_eq!(world.checker.outcome(id), Some(&Outcome::Refused(Refusal::HeldTooLong)));
}

#[test]
fn a_suspected_owner_is_waited_for_sent_to_or_refused() {
    for on_suspected in [OnSuspected::Wait, OnSuspected::Send, OnSuspected::Refuse] {
        let mut config = Config::default();
        config.detector.kind = DetectorKind::Fixed;
        config.membership.lifelines = false;
        config.requests.on_suspected = on_suspected;
        let mut world = world_by(6, config);
        let (owner, shard, sender) = owner_and_sender(&world);
        world.apply(Fault::Pause(owner));
        world.run(millis(4_800));
        let suspects = |(_, place, event): &(Duration, NodeIndex, &Event)| {
            *place == sender && matches!(event, Event::Suspected { .. })
        };
        assert!(world.events().any(|event| suspects(&event)), "{on_suspected:?}");
        let id = world.send_request(sender, shard, 100, None);
        world.run(millis(100));
        let counters = world.request_counters(sender).unwrap();
        let expected = match on_suspected {
            OnSuspected::Wait => (1, 0, None),
            OnSuspected::Send => (0, 1, None),
            OnSuspected::Refuse => (0, 0, Some(Outcome::Refused(Refusal::Suspected))),
        };
        let found = (counters.held, counters.under_way, world.checker.outcome(id).cloned());
        assert_eq!(found, expected, "{on_suspected:?}");
        world.apply(Fault::Resume(owner));
        world.run(Duration::from_secs(2));
        assert_eq!(is_handled(&world, id), on_suspected != OnSuspected::Refuse, "{on_suspected:?}");
    }
}

/// The sender cannot know that its request had its effect: the owner's process ends between the
/// handler and the answer.
#[test]
fn a_request_that_was_handled_may_end_as_interrupted() {
    for seed in 0..20 {
        let mut world = world_by(seed, Config::default());
        let (owner, shard, sender) = owner_and_sender(&world);
        let id = world.send_request(sender, shard, 100, None);
        let mut steps = 0;
        while !world.checker.is_request_handled(id) {
            assert!(steps < 1_000, "seed {seed}: not handled within 100 ms");
            world.run(Duration::from_micros(100));
            steps += 1;
        }
        assert_eq!(world.checker.outcome(id), None, "seed {seed}: the answer takes longer than a step");
        world.apply(Fault::Kill(owner));
        world.run(millis(20));
        let outcome = world.checker.outcome(id);
        let is_interrupted =
            matches!(outcome, Some(Outcome::Interrupted(Interruption::ConnectionLost | Interruption::NodeDied)));
        assert!(is_interrupted && world.checker.is_request_handled(id), "seed {seed}: {outcome:?}");
        world.run(millis(500));
        check_well(&world);
    }
}

#[test]
fn the_random_worlds_meet_every_kind_of_outcome() {
    let mut counts = [0; 4];
    for seed in 0..10 {
        let shape = Shape { requests: true, ..Shape::decentralised(6) };
        let (world, _) = heartbeat_sim::schedule::run_in(seed, shape);
        for (_, outcome, _) in world.checker.requests() {
            match outcome {
                Some(Outcome::Handled(_)) => counts[0] += 1,
                Some(Outcome::Refused(_)) => counts[1] += 1,
                Some(Outcome::Interrupted(_)) => counts[2] += 1,
                Some(Outcome::TimedOut) => counts[3] += 1,
                None => {}
            }
        }
    }
    assert!(counts.iter().all(|count| *count > 20) && counts[0] > 5_000, "{counts:?}");
}

#[test]
fn old_and_new_nodes_share_a_cluster() {
    for seed in 0..10 {
        let mut world = world_by(seed, Config::default());
        let old = [0, 1];
        world.set_old(old);
        let mut sent = Vec::new();
        for step in 0..200_u32 {
            let (sender, shard) = (step as usize % NODES, step % SHARDS);
            let is_new = !old.contains(&sender) && step % 2 == 0;
            let owner = (0..NODES).find(|&place| world.shards_on(place).contains(&shard)).unwrap();
            let id = match is_new {
                true => world.send_new_request(sender, shard, 100, None),
                false => world.send_request(sender, shard, 100, None),
            };
            sent.push((id, is_new && old.contains(&owner)));
            world.run(millis(5));
        }
        world.run(Duration::from_secs(5));
        for (id, is_unknown) in sent {
            let outcome = world.checker.outcome(id);
            let is_refused = matches!(outcome, Some(Outcome::Refused(Refusal::UnknownMessage)));
            assert!(is_handled(&world, id) != is_unknown && is_refused == is_unknown, "seed {seed}: {outcome:?}");
        }
        check_well(&world);
    }
}
