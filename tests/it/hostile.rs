//! What the world may send to a cluster that has no keys: forged, repeated and endless things.
//! Nothing is amplified, nothing grows without bound.

use std::time::Duration;

use heartbeat_core::config::Config;
use heartbeat_core::member::{ShardGroup, name_hash};
use heartbeat_core::wire::{Ack, Body, Echo, HEADERS_BYTES, Header, Heartbeat, IndirectProbe, Observers, STAGE_MAX};
use heartbeat_core::wire::{encode, encode_join, push_rumour};
use heartbeat_core::{
    Engine, Event, Generation, Identity, Incarnation, Input, Instant, Member, NodeId, Output, Profile, Role, Status,
    StreamId,
};
use heartbeat_sim::{Fault, GROUP, SHARDS, Shape, World};

use crate::events::{is_death, is_death_of, is_suspicion, node_of, seen, seen_after, seen_by};
use crate::{after, check_well, header, member};

const SECOND: Duration = Duration::from_secs(1);

/// A cluster without a centre, a few seconds old, that takes at most `members_max` members.
fn world(seed: u64, members_max: u32) -> World {
    let mut config = Config::default();
    config.membership.members_max = members_max;
    // Or too many ghosts would stop all verdicts.
    config.membership.brake = false;
    let mut world = World::of(seed, Shape::decentralised(6), config);
    world.run(SECOND * 8);
    check_well(&world);
    world
}

/// The header of a node with this name.
fn header_of(name: &str, generation: Generation) -> Header {
    header(&member(name, generation, "192.0.2.1:9".parse().unwrap()))
}

/// One datagram of each kind that may make its receiver answer.
fn provocations(header: Header) -> Vec<Vec<u8>> {
    let (number, target, generation) = (7, NodeId::of("node-2"), Generation(1));
    let observers = Observers::new([NodeId::of("node-1"), NodeId::of("node-2")]);
    let incarnation = Incarnation::default();
    let heartbeat =
        Heartbeat { incarnation, stage: 1 << 40, interval: SECOND, slept: 0, health: 0, asks: true, observers };
    let bodies = [
        Body::Heartbeat(heartbeat),
        Body::Probe { number },
        Body::Echo(Echo { number, incarnation, is_observer: true }),
        Body::IndirectProbe(IndirectProbe { number, target, generation, stage: 1, gone: true, death: true }),
        Body::Release,
        Body::Challenge { token: 9 },
        Body::Introduce,
        Body::Sync(Box::new([1; 64])),
        Body::Gossip,
        Body::Hello,
    ];
    let mut all: Vec<Vec<u8>> = bodies
        .iter()
        .map(|body| {
            let mut bytes = Vec::new();
            encode(&mut bytes, header, body);
            bytes
        })
        .collect();
    for token in [0, 77] {
        let mut bytes = Vec::new();
        encode_join(&mut bytes, header, token, &member("m", header.generation, "192.0.2.1:9".parse().unwrap()));
        all.push(bytes);
    }
    all
}

#[test]
fn an_unproven_address_gets_no_more_bytes_than_it_sent() {
    let from = "192.0.2.1:9".parse().unwrap();
    for name in ["m", "node-1", "node-2"] {
        let mut world = world(1, 100);
        for bytes in provocations(header_of(name, Generation(1))) {
            for place in 0..6 {
                world.inject(place, from, bytes.clone());
            }
            let sent = (bytes.len() + HEADERS_BYTES) * 6;
            world.run(SECOND * 2);
            let answers = world.take_lost(from);
            let answered: usize = answers.iter().map(|answer| answer.len() + HEADERS_BYTES).sum();
            assert!(answered <= sent, "{answered} bytes for {sent}, as {name}: {bytes:?} -> {answers:?}");
        }
        check_well(&world);
        assert_eq!(seen(&world, is_death), []);
    }
}

#[test]
fn repeated_datagrams_of_a_former_process_are_ignored() {
    let mut world = world(2, 100);
    let node_4 = world.node("node-4");
    let former = world.engine(node_4).unwrap().members().find(|member| &*member.name == "node-4").unwrap().generation;
    world.apply(Fault::Kill(node_4));
    world.run(SECOND * 2);
    world.apply(Fault::Start(node_4));
    world.run(SECOND * 3);
    let (address, since) = (world.address(node_4), world.elapsed());
    for bytes in provocations(header_of("node-4", former)) {
        for place in [0, 1, 2, 4, 5] {
            world.inject(place, address, bytes.clone());
        }
    }
    world.run(SECOND * 10);
    assert_eq!(seen_after(&world, since, |event| node_of(event) == Some("node-4")), []);
    check_well(&world);
}

#[test]
fn a_member_that_gossips_a_million_rows_is_bounded() {
    let mut world = world(3, 20);
    let [node_1, node_2] = ["node-1", "node-2"].map(|name| world.node(name));
    let sender = world.engine(node_2).unwrap().members().find(|member| &*member.name == "node-2").unwrap().clone();
    let header = header_of("node-2", sender.generation);
    for million in 0..10_000 {
        let mut bytes = Vec::new();
        encode(&mut bytes, header, &Body::Gossip);
        let count_at = bytes.len() - 1;
        let mut told = 0;
        while told < 100 {
            let name = format!("ghost-{million}-{told}");
            let address = format!("192.0.2.1:{}", 1_000 + told).parse().unwrap();
            if !push_rumour(&mut bytes, count_at, &member(&name, Generation(1), address), true) {
                break;
            }
            told += 1;
        }
        world.inject(0, sender.address, bytes);
    }
    world.run(SECOND);
    assert!(world.engine(node_1).unwrap().members().count() <= 20);
    assert!(
        seen(&world, |event| matches!(event, Event::JoinRefused { .. } | Event::RefusedBy { .. })).len() < 20,
        "complaints are paced"
    );
    // The ghosts are silent, and found out.
    world.run(SECOND * 200);
    assert_eq!(world.engine(node_1).unwrap().members().filter(|member| member.status.is_member()).count(), 6);
}

/// What the node at `place` holds of itself.
fn own(world: &World, place: usize) -> Member {
    let name = world.name(place);
    world.engine(place).unwrap().members().find(|member| *member.name == *name).unwrap().clone()
}

/// One node tells another of a member: all of it, or how it is.
fn send_rumour(world: &mut World, sender: usize, to: usize, about: &Member, whole: bool) {
    let (me, from) = (own(world, sender), world.address(sender));
    let mut bytes = Vec::new();
    encode(&mut bytes, header(&me), &Body::Gossip);
    let count_at = bytes.len() - 1;
    assert!(push_rumour(&mut bytes, count_at, about, whole));
    world.inject(to, from, bytes);
}

/// With another profile.
fn saying(member: &Member, change: impl FnOnce(&mut Profile)) -> Member {
    let mut profile = (*member.profile).clone();
    change(&mut profile);
    Member { profile: profile.into(), ..member.clone() }
}

const END: u32 = Incarnation::PART_MAX;

#[test]
fn an_ack_of_a_stage_near_the_end_is_no_panic() {
    let mut world = world(4, 100);
    let [node_1, node_2] = ["node-1", "node-2"].map(|name| world.node(name));
    let sender = own(&world, node_2);
    for stage in [STAGE_MAX, STAGE_MAX + 1, u64::MAX - 1, u64::MAX] {
        let (mut bytes, from) = (Vec::new(), world.address(node_2));
        encode(&mut bytes, header(&sender), &Body::Ack(Ack { stage, health: 0 }));
        (0..6).filter(|place| *place != node_2).for_each(|place| world.inject(place, from, bytes.clone()));
    }
    assert_eq!(world.engine(node_1).unwrap().counters().malformed, 3);
    world.run(SECOND * 5);
    check_well(&world);
}

/// A rumour with the highest numbers that there are is refuted, on all nodes and soon; and that
/// costs few datagrams.
#[test]
fn numbers_at_their_end_are_contradicted_and_that_ends() {
    for (returns, refutations, status) in [
        (END, END, Status::Dead),
        (END, 0, Status::Left),
        (END, END, Status::Suspect),
        (0, END, Status::Suspect),
        (END, END, Status::Alive),
        (7, 3, Status::Alive),
        (7, END, Status::Suspect),
    ] {
        let mut world = world(5, 100);
        world.run(SECOND * 10);
        let before = world.sent().0;
        world.run(SECOND * 10);
        let usual = world.sent().0 - before;
        let node_1 = own(&world, 0);
        let said = Member { incarnation: Incarnation { returns, refutations }, status, ..node_1.clone() };
        (0..6).for_each(|place| send_rumour(&mut world, 1, place, &said, false));
        let before = world.sent().0;
        world.run(SECOND * 10);
        let sent = world.sent().0 - before;
        assert!(sent < usual + 3_000, "{sent} datagrams, and {usual} as a rule: {returns}.{refutations} {status}");
        let now = own(&world, 0);
        assert!((now.generation, now.incarnation) > (node_1.generation, said.incarnation), "{now:?}");
        check_well(&world);
        for place in 1..6 {
            let theirs = world.engine(place).unwrap().members().find(|member| member.id == now.id).unwrap();
            assert_eq!(theirs, &now, "{returns}.{refutations} {status}");
        }
    }
}

/// The same lie again and again, each time of what was answered last.
#[test]
fn a_node_called_dead_again_and_again_answers_at_a_bounded_rate() {
    let mut world = world(6, 100);
    let before = world.sent().0;
    for _ in 0..10_000 {
        let node_1 = own(&world, 0);
        send_rumour(&mut world, 1, 0, &Member { status: Status::Dead, ..node_1 }, false);
        world.run(Duration::from_micros(100));
    }
    let sent = world.sent().0 - before;
    assert!(sent < 2_000, "{sent} datagrams for 10,000 in a second");
    world.run(SECOND * 20);
    check_well(&world);
}

/// As after a restored image: others hold a later revision, or another text under the same one.
#[test]
fn a_profile_that_others_hold_and_the_node_lacks_is_replaced() {
    let change = |revision: u32, note: &str, world: &World| {
        saying(&own(world, 0), |profile| {
            profile.revision = revision;
            drop(profile.metadata.insert("note".into(), note.into()));
        })
    };
    for (revision, generations) in [(1, 0), (2, 0), (300, 0), (Profile::REVISION_MAX, 1)] {
        let mut world = world(7, 100);
        let (before, said) = (own(&world, 0), change(revision.max(own(&world, 0).revision), "of before", &world));
        (2..6).for_each(|place| send_rumour(&mut world, 1, place, &said, true));
        send_rumour(&mut world, 1, 0, &said, true);
        world.run(SECOND * 25);
        let now = own(&world, 0);
        assert_eq!(now.generation.0 - before.generation.0, generations, "{revision}");
        assert!(generations > 0 || now.revision > said.revision, "{revision}: {now:?}");
        for place in 1..6 {
            let theirs = world.engine(place).unwrap().members().find(|member| member.id == now.id).unwrap();
            assert_eq!(theirs, &now, "{revision}");
        }
        check_well(&world);
    }
}

#[test]
fn a_role_or_weight_never_changes_within_a_process() {
    let lies: [fn(&mut Profile); 2] = [
        |profile| profile.role = Role::Monitor,
        |profile| drop(profile.metadata.insert("weight".into(), "1000".into())),
    ];
    for lie in lies {
        let mut world = world(8, 100);
        let before = own(&world, 0);
        let said = saying(&before, |profile| {
            profile.revision += 1;
            lie(profile);
        });
        (2..6).for_each(|place| send_rumour(&mut world, 1, place, &said, true));
        for place in 2..6 {
            let theirs = world.engine(place).unwrap().members().find(|member| member.id == before.id).unwrap();
            assert_eq!(theirs.profile, before.profile, "it is not believed");
        }
        // If it arrives in a table all the same, the node learns of it, and goes on as a new
        // process would.
        send_rumour(&mut world, 1, 0, &said, true);
        assert_eq!(seen_by(&world, "node-1", |event| matches!(event, Event::Renewed { .. })).len(), 1);
        world.run(SECOND * 20);
        assert_eq!(own(&world, 0).generation.0, before.generation.0 + 1);
        check_well(&world);
    }
}

#[test]
fn the_death_of_a_process_not_yet_known_is_reported() {
    let mut world = world(9, 100);
    let node_4 = world.node("node-4");
    let former = own(&world, 3);
    world.apply(Fault::Pause(node_4));
    let dead = Member { generation: Generation(former.generation.0 + 5), status: Status::Dead, ..former };
    send_rumour(&mut world, 1, 0, &dead, false);
    assert_eq!(seen_by(&world, "node-1", is_death_of("node-4")).len(), 1);
}

/// A heartbeat of the node at `place` to all others, ahead of its own, that announces this
/// interval.
fn announce(world: &mut World, place: usize, interval: Duration) {
    let (me, from) = (own(world, place), world.address(place));
    let others = (0..6).filter(|other| *other != place).map(|other| own(world, other).id);
    let heartbeat = Heartbeat {
        incarnation: me.incarnation,
        stage: 1 << 20,
        interval,
        slept: 0,
        health: 0,
        asks: false,
        observers: Observers::new(others),
    };
    let mut bytes = Vec::new();
    encode(&mut bytes, header(&me), &Body::Heartbeat(heartbeat));
    (0..6).filter(|other| *other != place).for_each(|other| world.inject(other, from, bytes.clone()));
}

#[test]
fn a_node_that_announced_an_hour_and_hangs_is_found_dead() {
    let mut world = world(10, 100);
    let node_2 = world.node("node-2");
    announce(&mut world, 1, SECOND * 3_600);
    world.apply(Fault::Pause(node_2));
    let timeouts = world.config.timeout * 4;
    world.run(timeouts + SECOND * 3);
    assert_eq!(seen(&world, is_death_of("node-2")).len(), 5);
}

#[test]
fn an_announced_interval_of_a_microsecond_is_tolerated() {
    let mut world = world(11, 100);
    announce(&mut world, 1, Duration::from_micros(1));
    world.run(SECOND * 30);
    assert!(seen(&world, is_suspicion).len() < 20, "{:?}", seen(&world, is_suspicion));
    assert_eq!(seen(&world, is_death), []);
    world.run(SECOND * 10);
    assert_eq!(world.unsettled(), [] as [String; 0]);
}

/// Silent nodes that are said to supervise the group, with a thousand times the weight of the
/// others.
fn ghosts(count: usize, address: &str) -> Vec<Member> {
    let group = ShardGroup::new(name_hash(GROUP), SHARDS);
    let ghost = |n: usize| {
        saying(&member(&format!("ghost-{n}"), Generation(1), address.parse().unwrap()), |profile| {
            profile.groups.push(group.clone());
            profile.metadata.insert("weight".into(), "1000".into());
        })
    };
    (0..count).map(ghost).collect()
}

#[test]
fn gossiped_ghosts_own_nothing_and_stop_nothing() {
    let mut world = World::of(12, Shape::decentralised(3), Config::default());
    let node_3 = world.node("node-3");
    world.run(SECOND * 10);
    check_well(&world);
    for round in 0..20 {
        for ghost in ghosts(14, "192.0.2.1:9") {
            (0..3).filter(|place| *place != 1).for_each(|place| send_rumour(&mut world, 1, place, &ghost, true));
        }
        world.run(SECOND);
        assert_eq!(world.unsettled(), [] as [String; 0], "round {round}");
    }
    assert_eq!(seen(&world, |event| node_of(event).is_some_and(|node| node.starts_with("ghost"))), []);
    assert_eq!(seen(&world, |event| matches!(event, Event::ZoneDisrupted { .. })), []);
    after(&mut world, Fault::Kill(node_3), 15);
    assert_eq!(seen(&world, is_death_of("node-3")).len(), 2, "verdicts go on");
    assert_eq!((0..2).map(|place| world.shards_on(place).len()).sum::<usize>(), SHARDS as usize);
}

#[test]
fn an_address_in_thousands_of_rows_is_sent_little() {
    let mut world = world(13, 10_000);
    let target = "192.0.2.1:9";
    for ghost in ghosts(5_000, target) {
        send_rumour(&mut world, 1, 0, &ghost, true);
    }
    for second in 0..60 {
        world.run(SECOND);
        let sent = world.take_lost(target.parse().unwrap()).len();
        assert!(sent <= 2 * 64, "{sent} datagrams in second {second}");
    }
    check_well(&world);
}

/// It does not answer this node, and is there all the same: another one has had its answer.
#[test]
fn a_newcomer_behind_a_bad_link_joins_through_another_node() {
    let mut world = world(14, 100);
    let [node_5, node_6] = ["node-5", "node-6"].map(|name| world.node(name));
    after(&mut world, Fault::Kill(node_6), 10);
    world.apply(Fault::Cut(node_6, node_5));
    world.apply(Fault::Cut(node_5, node_6));
    after(&mut world, Fault::Start(node_6), 4);
    let generation = own(&world, 5).generation;
    let theirs = world.engine(node_5).unwrap().members().find(|member| &*member.name == "node-6").unwrap();
    assert_eq!((theirs.generation, theirs.status.is_member()), (generation, true));
}

#[test]
fn a_hundred_that_start_together_know_each_other_within_seconds() {
    let mut world = World::of(15, Shape { workers: false, log: false, ..Shape::decentralised(100) }, Config::default());
    let is_known = |world: &World| (0..100).all(|place| world.engine(place).unwrap().members().count() == 100);
    let seconds = (1..=20).find(|_| {
        world.run(SECOND);
        is_known(&world)
    });
    assert!(seconds.is_some_and(|seconds| seconds <= 6), "{seconds:?}");
}

fn engine(seeds: &str) -> Engine {
    let config = Config::from_toml(&format!(
        "[cluster]\nname = 'c'\nnode = 'a'\nrole = 'worker'\nmode = 'random'\nlisten = '10.0.0.1:7100'\nseeds = {seeds}"
    ))
    .unwrap();
    let identity = Identity { generation: Generation(1), address: "10.0.0.1:7100".parse().unwrap() };
    Engine::new(config, identity, 1, Instant::from_millis(0)).unwrap()
}

fn outputs(engine: &mut Engine) -> Vec<Output> {
    let mut buffer = Vec::new();
    std::iter::from_fn(|| engine.poll_output(&mut buffer)).collect()
}

#[test]
fn streams_that_are_opened_and_never_used_are_shut() {
    let mut engine = engine("[]");
    outputs(&mut engine);
    let mut accept = |_| {
        engine.handle(Instant::from_millis(10), Input::Accepted);
        engine.accepted()
    };
    let streams: Vec<StreamId> = (0..1_000).map(&mut accept).collect();
    let is_shut = |outputs: &[Output], stream: &StreamId| {
        outputs.iter().any(|output| matches!(output, Output::Shut { stream: shut } if shut == stream))
    };
    let at_once = outputs(&mut engine);
    let kept: Vec<_> = streams.iter().filter(|stream| !is_shut(&at_once, stream)).collect();
    assert!(kept.len() <= 64, "{} are kept", kept.len());
    let mut later = Vec::new();
    while let Some(due) = engine.poll_timeout().filter(|due| *due <= Instant::from_millis(6_000)) {
        engine.handle(due, Input::Timeout);
        later.extend(outputs(&mut engine));
    }
    assert!(kept.iter().all(|stream| is_shut(&later, stream)), "after a few seconds none is kept");
}

#[test]
fn a_seed_that_has_no_address_is_named_and_looked_up_again() {
    let mut engine = engine("['nowhere.example:7100']");
    let (mut asked, mut told) = (Vec::new(), Vec::new());
    for second in 0..100 {
        let now = Instant::from_millis(second * 1_000);
        engine.handle(now, Input::Timeout);
        for output in outputs(&mut engine) {
            match output {
                Output::Resolve { seed } => {
                    asked.push(second);
                    engine.handle(now, Input::Resolved { seed, found: Err("no such host is known".into()) });
                }
                Output::Event(Event::Unresolved { seed, reason }) => told.push((second, seed, reason)),
                _ => {}
            }
        }
    }
    assert!(asked.len() >= 3, "it is looked up for life: {asked:?}");
    assert!(
        told.iter()
            .any(|(_, seed, reason)| { &**seed == "nowhere.example:7100" && reason.contains("no such host is known") })
    );
}

#[test]
fn a_node_that_is_its_own_only_seed_is_a_cluster_of_one() {
    let mut engine = engine("['10.0.0.1:7100']");
    for half in 0..20 {
        engine.handle(Instant::from_millis(half * 500), Input::Timeout);
        let sent = outputs(&mut engine).into_iter().filter(|output| matches!(output, Output::Transmit { .. })).count();
        assert_eq!(sent, 0, "it does not talk to itself");
    }
    assert_eq!(engine.members().count(), 1);
}
