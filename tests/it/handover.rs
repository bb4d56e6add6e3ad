//! Shards on their way: handed over with all that they counted, claimed from an authority, held by
//! a quorum; and what a late write is worth.

use std::collections::BTreeMap;
use std::time::Duration;

use heartbeat_actors::Event;
use heartbeat_actors::shard::{Epoch, Fence};
use heartbeat_core::config::{AuthorityKind, QuorumRule};
use heartbeat_core::{Config, Instant, WorkerId};
use heartbeat_sim::world::{SHARDS, WORKERS};
use heartbeat_sim::{Fault, Shape, World};

use crate::events::{is_death, is_given_up, seen};
use crate::{after, check_well};

/// How long a session at the authority lasts in these worlds, and when its holder counts it as
/// over.
const TTL: Duration = Duration::from_secs(5);
const VALID: Duration = Duration::from_millis(4_500);

/// Five nodes without a centre, eight seconds old, by this config.
fn world_by(seed: u64, config: Config) -> World {
    let mut world = World::of(seed, Shape::decentralised(5), config);
    world.run(Duration::from_secs(8));
    let all: usize = (0..5).map(|place| world.shards_on(place).len()).sum();
    assert_eq!(all, SHARDS as usize);
    world
}

fn with_authority() -> Config {
    let mut config = Config::default();
    (config.ownership.authority, config.ownership.session_ttl) = (AuthorityKind::File, TTL);
    config.ownership.folder = Some("anywhere".into());
    config
}

fn with_quorum() -> Config {
    let mut config = Config::default();
    (config.ownership.quorum, config.ownership.quorum_min) = (QuorumRule::Majority, 3);
    config
}

/// Some node with shards, and what each of them has counted there.
fn busiest_node(world: &World) -> (usize, BTreeMap<u32, u64>) {
    let place = (0..5).max_by_key(|&place| world.shards_on(place).len()).unwrap();
    (place, world.shards_on(place).into_iter().map(|shard| (shard, world.count_on(place, shard).unwrap())).collect())
}

/// Where a shard runs, and what it has counted.
fn now(world: &World, shard: u32) -> Option<(usize, u64)> {
    world.running().into_iter().find_map(|place| Some((place, world.count_on(place, shard)?)))
}

/// When each of these shards was last started anywhere, after `since`.
fn starts(world: &World, shards: &BTreeMap<u32, u64>, since: Duration) -> Vec<Duration> {
    let started = |shard: u32| {
        let is_its = |event: &Event| match event {
            Event::Started { shard: Some(started), .. } => started.index == shard,
            _ => false,
        };
        world.events().filter(|(at, _, event)| *at > since && is_its(event)).map(|(at, _, _)| at).last()
    };
    shards.keys().filter_map(|&shard| started(shard)).collect()
}

#[test]
fn leaving_and_joining_hand_over_every_count_within_50_ms() {
    for config in [Config::default(), with_quorum(), with_authority()] {
        let mut world = world_by(1, config);
        let (place, before) = busiest_node(&world);
        let left_at = world.elapsed();
        after(&mut world, Fault::Leave(place), 3);
        for (&shard, &counted) in &before {
            let (at, count) = now(&world, shard).unwrap();
            assert!(at != place && count >= counted, "shard {shard} has {count}, and had {counted}");
        }
        assert!(starts(&world, &before, left_at).iter().all(|at| *at - left_at < Duration::from_millis(50)));
        let before: BTreeMap<u32, u64> = before.keys().map(|&shard| (shard, now(&world, shard).unwrap().1)).collect();
        after(&mut world, Fault::Start(place), 7);
        for (&shard, &counted) in &before {
            let (at, count) = now(&world, shard).unwrap();
            assert!(at == place && count >= counted, "shard {shard} has {count}, and had {counted}");
        }
        check_well(&world);
    }
}

/// A claim that came before the release found the shard held. Then the shard waited for the news of
/// the release, which took 50 ms with files.
#[test]
fn a_graceful_move_claims_no_shard_before_it_is_free() {
    for seed in 0..5 {
        let mut world = world_by(seed, with_authority());
        let (place, before) = busiest_node(&world);
        let held = world.held_claims();
        after(&mut world, Fault::Leave(place), 3);
        assert!(before.keys().all(|&shard| now(&world, shard).is_some()), "seed {seed}");
        after(&mut world, Fault::Start(place), 7);
        assert!(!world.shards_on(place).is_empty(), "seed {seed}");
        assert_eq!(world.held_claims(), held, "seed {seed}");
        check_well(&world);
    }
}

#[test]
fn a_crash_loses_no_more_counts_than_promised() {
    let mut world = world_by(2, Config::default());
    let (place, before) = busiest_node(&world);
    after(&mut world, Fault::Kill(place), 1);
    let ownership = &world.config.ownership;
    let lost_most = ownership.copy_every.as_millis() / world.config.workers.interval.as_millis() + 1;
    for (shard, counted) in before {
        let (_, count) = now(&world, shard).unwrap();
        assert!(u128::from(counted) <= u128::from(count) + lost_most, "shard {shard} has {count}, and had {counted}");
    }
    check_well(&world);
}

#[test]
fn a_snapshot_too_large_for_the_successor_is_refused() {
    let mut config = Config::default();
    config.ownership.copies_bytes_max = 2_000;
    let mut world = world_by(3, config);
    let refused = |event: &Event| match event {
        Event::ReplicaRefused { group, bytes, .. } => &**group == "orders" && *bytes > 0,
        _ => false,
    };
    assert!(world.events().any(|(_, _, event)| refused(event)));
    let (place, _) = busiest_node(&world);
    after(&mut world, Fault::Kill(place), 5);
    check_well(&world);
}

/// A worker of these worlds is up at most 1.001 ms after its start was ordered, and another one is
/// ordered to start at that instant. A shard that does not come up makes room after 50 ms: the
/// rule's own tests play that.
#[test]
fn shards_start_a_few_at_a_time() {
    for starts in 1..=4 {
        let mut config = Config::default();
        config.ownership.starts = starts as u32;
        let mut world = World::of(4, Shape::decentralised(2), config);
        world.run(Duration::from_secs(8));
        for place in 0..2 {
            let is_start = |event: &Event| matches!(event, Event::Started { shard: Some(_), .. });
            let here = world.events().filter(|(_, here, event)| *here == place && is_start(event));
            let up: Vec<Duration> = here.map(|(at, ..)| at).collect();
            assert!(up.len() >= 3, "node {place}: {up:?}");
            assert_eq!(world.starting_max(place), up.len().min(starts), "node {place}, {starts} at a time: {up:?}");
            let longest = up.windows(starts + 1).map(|few| few[starts] - few[0]).max();
            assert!(longest <= Some(Duration::from_micros(1_001)), "node {place}, {starts} at a time: {up:?}");
        }
    }
}

#[test]
fn with_a_quorum_the_minority_stops_before_the_majority_starts() {
    let mut world = world_by(5, with_quorum());
    let (place, before) = busiest_node(&world);
    let cut_at = world.elapsed();
    let other = (place + 1) % 5;
    after(&mut world, Fault::Partition(vec![place, other]), 20);
    assert!(world.shards_on(place).is_empty() && world.shards_on(other).is_empty());
    assert_eq!(seen(&world, |event| matches!(event, Event::QuorumLost { .. })).len(), 2);
    let stopped = |event: &Event| matches!(event, Event::Stopped { worker, .. } if worker.starts_with("orders/"));
    let last_stop = world
        .events()
        .filter(|(at, here, event)| *at > cut_at && *here == place && stopped(event))
        .map(|(at, ..)| at)
        .max()
        .unwrap();
    let first_start = starts(&world, &before, cut_at).into_iter().min().unwrap();
    assert!(last_stop < first_start, "{last_stop:?}, {first_start:?}");
    assert!(last_stop - cut_at <= world.config.ownership.lease + Duration::from_millis(10));
    after(&mut world, Fault::Heal, 15);
    check_well(&world);
}

#[test]
fn without_a_majority_anywhere_nothing_runs() {
    let mut world = world_by(6, with_quorum());
    world.apply(Fault::Partition(vec![0, 1]));
    after(&mut world, Fault::Unplug(4), 20);
    assert!((0..5).all(|place| world.shards_on(place).is_empty()));
    after(&mut world, Fault::Heal, 1);
    after(&mut world, Fault::Start(4), 15);
    check_well(&world);
}

#[test]
fn an_authority_frees_shards_at_session_end_or_by_fencing() {
    for fenced in [false, true] {
        let mut config = with_authority();
        config.ownership.fenced = fenced;
        let mut world = world_by(7, config);
        let (place, before) = busiest_node(&world);
        let killed_at = world.elapsed();
        after(&mut world, Fault::Kill(place), 8);
        let starts = starts(&world, &before, killed_at);
        assert_eq!(starts.len(), before.len());
        let (least, most) = match fenced {
            true => (Duration::ZERO, Duration::from_millis(100)),
            // It was last renewed up to a third of its time before.
            false => (TTL * 2 / 3 - Duration::from_millis(10), TTL + Duration::from_millis(600)),
        };
        for at in starts {
            assert!(
                (least..=most).contains(&(at - killed_at)),
                "{:?} after the kill, fenced: {fenced}",
                at - killed_at
            );
        }
        check_well(&world);
    }
}

#[test]
fn a_paused_holder_wakes_without_a_session() {
    let mut world = world_by(8, with_authority());
    let (place, before) = busiest_node(&world);
    let epochs: BTreeMap<u32, u64> =
        before.keys().map(|&shard| (shard, world.epoch_on(place, shard).unwrap())).collect();
    let frozen_at = world.elapsed();
    after(&mut world, Fault::Pause(place), 15);
    let starts = starts(&world, &before, frozen_at);
    assert!(starts.iter().all(|at| *at - frozen_at >= VALID - TTL / 3), "{starts:?}");
    after(&mut world, Fault::Resume(place), 0);
    assert_eq!(seen(&world, |event| matches!(event, Event::SessionEnded { .. })).len(), 1);
    assert_eq!(world.engine(place).unwrap().lease_until(), Some(Instant::ZERO));
    world.run(Duration::from_millis(10));
    for (&shard, &epoch) in &epochs {
        assert_ne!(world.epoch_on(place, shard), Some(epoch), "it holds shard {shard} no more under its old token");
    }
    world.run(Duration::from_secs(10));
    check_well(&world);
}

#[test]
fn without_the_authority_nothing_starts_and_holders_stop() {
    let mut world = world_by(9, with_authority());
    let (place, before) = busiest_node(&world);
    world.apply(Fault::StopAuthority);
    let away_at = world.elapsed();
    // A node dies while the authority is away, and no other node can take its shards over. The
    // others keep theirs until their sessions expire.
    after(&mut world, Fault::Kill(place), 2);
    assert_eq!(starts(&world, &before, away_at).len(), 0);
    assert!((0..5).any(|place| !world.shards_on(place).is_empty()));
    world.run(Duration::from_secs(6));
    assert!((0..5).all(|place| world.shards_on(place).is_empty()));
    // All else goes on: the death was noticed, and so is the return.
    assert!(!seen(&world, is_death).is_empty());
    after(&mut world, Fault::Start(place), 2);
    let back_at = world.elapsed();
    after(&mut world, Fault::StartAuthority, 12);
    check_well(&world);
    // What the one who is new would own was another's before: it is left alone for a session's
    // time.
    let of_new: Vec<Duration> = world
        .events()
        .filter(|(_, here, event)| *here != place && matches!(event, Event::Started { shard: Some(_), .. }))
        .map(|(at, ..)| at)
        .filter(|at| *at > back_at)
        .collect();
    assert!(
        of_new.iter().any(|at| *at - back_at < Duration::from_secs(2)),
        "the former owner of a shard takes it at once"
    );
}

#[test]
fn an_authority_that_has_forgotten_is_found_out_by_its_tokens() {
    let mut world = world_by(10, with_authority());
    // So that its tokens have gone up.
    for place in 0..5 {
        after(&mut world, Fault::Leave(place), 3);
        after(&mut world, Fault::Start(place), 8);
    }
    after(&mut world, Fault::ResetAuthority, 10);
    let refused = |event: &Event| match event {
        Event::TokenRefused { shard, highest, .. } => shard.epoch < *highest,
        _ => false,
    };
    assert!(world.events().any(|(_, _, event)| refused(event)));
}

#[test]
fn only_a_write_that_carries_its_epoch_can_be_refused() {
    let mut world = world_by(11, Config::default());
    let (place, before) = busiest_node(&world);
    let (&shard, _) = before.first_key_value().unwrap();
    let old = Epoch(world.epoch_on(place, shard).unwrap());
    after(&mut world, Fault::Partition(vec![place]), 20);
    let (other, _) =
        (0..5).filter(|&other| other != place).find_map(|other| Some((other, world.epoch_on(other, shard)?))).unwrap();
    let new = Epoch(world.epoch_on(other, shard).unwrap());
    // Both nodes hold the shard. That may happen in a partition without an authority and without a
    // quorum.
    assert_eq!(world.epoch_on(place, shard), Some(old.0));
    // The new owner writes, then the old one.
    let mut plain = BTreeMap::new();
    for owner in [other, place] {
        plain.insert(shard, owner);
    }
    assert_eq!(plain[&shard], place, "without epochs the late write wins");
    let (mut fenced, mut fence) = (BTreeMap::new(), Fence::new());
    for (owner, epoch) in [(other, new), (place, old)] {
        if fence.admit(shard, epoch).is_ok() {
            fenced.insert(shard, owner);
        }
    }
    assert_eq!(fenced[&shard], other, "with epochs it is refused");
}

#[test]
fn a_shard_that_fails_on_one_node_moves_and_returns_later() {
    let mut world = world_by(12, Config::default());
    let (place, before) = busiest_node(&world);
    let (&shard, others) = (before.first_key_value().unwrap().0, before.len() - 1);
    for _ in 0..60 {
        after(&mut world, Fault::Panic(place, WorkerId(WORKERS + shard)), 1);
    }
    assert_eq!(seen(&world, is_given_up).len(), 1);
    let (at, count) = now(&world, shard).unwrap();
    assert!(at != place && count >= before[&shard], "it goes on from its snapshot");
    assert_eq!(world.shards_on(place).len(), others, "its other shards stay where they are");
    check_well(&world);
    world.run(Duration::from_secs(300));
    assert_eq!(now(&world, shard).unwrap().0, place);
    check_well(&world);
}

#[test]
fn a_shard_that_fails_everywhere_stops_no_other_shard() {
    let mut world = world_by(13, Config::default());
    let shard = *busiest_node(&world).1.first_key_value().unwrap().0;
    for _ in 0..300 {
        let at = now(&world, shard).map_or(0, |(at, _)| at);
        after(&mut world, Fault::Panic(at, WorkerId(WORKERS + shard)), 1);
    }
    let given_up = seen(&world, is_given_up).len();
    assert!(given_up >= 5, "{given_up}");
    let rest: usize = (0..5).map(|place| world.shards_on(place).len()).sum();
    assert!(rest >= SHARDS as usize - 1, "{rest}");
}

#[test]
fn clocks_an_hour_apart_still_give_rising_epochs() {
    let mut world = world_by(14, Config::default());
    let (place, before) = busiest_node(&world);
    after(&mut world, Fault::Kill(place), 1);
    world.apply(Fault::JumpClock(place, Duration::from_secs(3_600)));
    after(&mut world, Fault::Start(place), 8);
    let ahead: BTreeMap<u32, u64> =
        before.keys().map(|&shard| (shard, world.epoch_on(place, shard).unwrap())).collect();
    after(&mut world, Fault::Kill(place), 2);
    for (&shard, &epoch) in &ahead {
        let (at, _) = now(&world, shard).unwrap();
        assert!(world.epoch_on(at, shard).unwrap() > epoch, "shard {shard} went back");
    }
    check_well(&world);
}

#[test]
fn a_returned_node_gets_its_shards_with_every_count() {
    for config in [Config::default(), with_authority(), with_quorum()] {
        let mut world = world_by(15, config);
        let (place, before) = busiest_node(&world);
        after(&mut world, Fault::Pause(place), 20);
        let meanwhile: BTreeMap<u32, u64> = before
            .keys()
            .map(|&shard| {
                let elsewhere = (0..5).filter(|&other| other != place);
                (shard, elsewhere.filter_map(|other| world.count_on(other, shard)).max().unwrap())
            })
            .collect();
        after(&mut world, Fault::Resume(place), 8);
        for (&shard, &counted) in &meanwhile {
            let (at, count) = now(&world, shard).unwrap();
            assert!(at == place && count >= counted, "shard {shard} has {count} at {at}, and had {counted}");
        }
        check_well(&world);
    }
}

#[test]
fn shards_of_a_node_without_the_authority_run_on_the_others() {
    let mut world = world_by(20, with_authority());
    let (place, before) = busiest_node(&world);
    // Its session ends, and the authority lets go of it one session's time after that at the
    // latest.
    after(&mut world, Fault::CutFromAuthority(place), TTL.as_secs() * 2 + 3);
    for (&shard, &counted) in &before {
        let (at, count) = now(&world, shard).unwrap();
        assert!(at != place && count >= counted, "shard {shard} is on {at} with {count}, and had {counted}");
    }
    check_well(&world);
    after(&mut world, Fault::ReconnectToAuthority(place), 10);
    assert_eq!(world.shards_on(place).len(), before.len(), "it has its own again");
    check_well(&world);
}

#[test]
fn a_newcomer_without_the_authority_takes_no_shard_away() {
    let mut world = world_by(21, with_authority());
    let (place, _) = busiest_node(&world);
    after(&mut world, Fault::Kill(place), TTL.as_secs() + 5);
    check_well(&world);
    world.apply(Fault::CutFromAuthority(place));
    let since = world.elapsed();
    after(&mut world, Fault::Start(place), 20);
    let is_moved = |event: &Event| matches!(event, Event::ShardMoved { .. } | Event::Stopped { .. });
    let of_others = |(at, here, event): &(Duration, usize, &Event)| *at > since && *here != place && is_moved(event);
    assert_eq!(world.events().filter(of_others).count(), 0, "no shard of the others was touched");
    check_well(&world);
    after(&mut world, Fault::ReconnectToAuthority(place), 10);
    assert!(!world.shards_on(place).is_empty());
    check_well(&world);
}

#[test]
fn a_leave_that_is_cut_short_says_how_many_shards() {
    for (hand_over, is_cut) in [(Duration::from_millis(1), true), (Duration::from_secs(5), false)] {
        let mut config = Config::default();
        config.ownership.hand_over_timeout = hand_over;
        let mut world = world_by(1, config);
        let (place, before) = busiest_node(&world);
        after(&mut world, Fault::Leave(place), 3);
        let cut = world.events().find_map(|(_, _, event)| match event {
            Event::HandOverCut { shards } => Some(*shards),
            _ => None,
        });
        assert_eq!(cut.is_some(), is_cut, "with {hand_over:?}");
        assert!(cut.is_none_or(|cut| cut > 0 && cut as usize <= 2 * before.len()), "{cut:?} of {}", before.len());
    }
}
