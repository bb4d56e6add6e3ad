//! Joining, leaving, dying and coming back.

use std::time::Duration;

use heartbeat_core::{Event, Generation};
use heartbeat_sim::Fault;

use crate::events::{
    is_death, is_death_of, is_declared_dead, is_departure_of, is_join_of, is_stop, is_suspicion, seen, seen_after,
    seen_by,
};
use crate::{after, check_well, quiet_world};

#[test]
fn all_nodes_see_the_same_members() {
    let world = quiet_world(1);
    for place in 0..5 {
        assert_eq!(world.engine(place).unwrap().members().count(), 5);
    }
    check_well(&world);
}

#[test]
fn a_node_paused_past_the_timeout_dies_and_returns() {
    for seed in 0..20 {
        let mut world = quiet_world(seed);
        let node_2 = world.node("node-2");
        let held = world.shards_on(node_2);
        after(&mut world, Fault::Pause(node_2), 10);
        assert_eq!(seen_by(&world, "monitor", is_death_of("node-2")).len(), 1);
        after(&mut world, Fault::Resume(node_2), 3);
        assert_eq!(seen_by(&world, "node-2", is_declared_dead).len(), 1);
        let is_next_life =
            |event: &Event| matches!(event, Event::Returned { incarnation, .. } if incarnation.returns == 1);
        assert_eq!(seen_by(&world, "monitor", is_next_life).len(), 1);
        assert_eq!(seen(&world, is_death).len(), 4, "it declared no node dead, and no other node was declared dead");
        assert_eq!(world.shards_on(node_2), held, "it owns the same again, under newer epochs");
        check_well(&world);
    }
}

#[test]
fn a_node_that_leaves_is_not_missed() {
    let mut world = quiet_world(2);
    let node_3 = world.node("node-3");
    let left = world.elapsed();
    after(&mut world, Fault::Leave(node_3), 20);
    let told = seen_by(&world, "monitor", is_departure_of("node-3"));
    assert_eq!(told.len(), 1);
    assert!(told[0].at - left < Duration::from_millis(100), "at once, not after a timeout");
    assert_eq!(seen(&world, is_suspicion), []);
    check_well(&world);
}

#[test]
fn a_node_that_leaves_during_its_join_is_not_missed() {
    let (mut departures, mut refusals) = (0, 0);
    for seed in 0..100 {
        let mut world = quiet_world(seed);
        let node_3 = world.node("node-3");
        after(&mut world, Fault::Leave(node_3), 1);
        world.apply(Fault::Kill(node_3));
        world.apply(Fault::Start(node_3));
        let since = world.elapsed();
        // A join takes four messages, each a millisecond on its way or less.
        world.run(Duration::from_micros(50 * seed));
        after(&mut world, Fault::Leave(node_3), 20);
        assert_eq!(seen_after(&world, since, is_suspicion), [], "seed {seed}");
        assert_eq!(seen(&world, is_death), [], "seed {seed}");
        departures += seen_after(&world, since, is_departure_of("node-3")).len().min(1);
        refusals += seen_after(&world, since, |event| matches!(event, Event::JoinRefused { .. })).len();
        check_well(&world);
    }
    assert!((1..100).contains(&departures), "before and after its admission: {departures} of 100");
    assert!(refusals > 0, "no join was overtaken by its withdrawal");
}

#[test]
fn a_restarted_process_is_a_member_at_once() {
    let mut world = quiet_world(3);
    let node_1 = world.node("node-1");
    after(&mut world, Fault::Kill(node_1), 1);
    after(&mut world, Fault::Start(node_1), 3);
    assert_eq!(seen_by(&world, "monitor", is_join_of("node-1")).len(), 2);
    assert_eq!(seen(&world, is_death), [], "it was back before any member missed it");
    check_well(&world);
}

#[test]
fn a_restarted_monitor_finds_all_nodes_and_moves_nothing() {
    let mut world = quiet_world(4);
    let monitor = world.node("monitor");
    let before: Vec<_> = (1..5).map(|place| world.shards_on(place)).collect();
    let since = world.elapsed();
    after(&mut world, Fault::Kill(monitor), 2);
    after(&mut world, Fault::Start(monitor), 10);
    assert_eq!(seen(&world, is_death), []);
    assert_eq!((1..5).map(|place| world.shards_on(place)).collect::<Vec<_>>(), before);
    assert_eq!(seen_after(&world, since, is_stop), [], "no member's shards were disturbed");
    check_well(&world);
}

#[test]
fn a_monitor_that_is_not_there_is_named_and_found_when_it_comes() {
    let mut world = quiet_world(5);
    let monitor = world.node("monitor");
    after(&mut world, Fault::Kill(monitor), 20);
    let is_cut_off =
        |event: &Event| matches!(event, Event::Isolated { tried, .. } if &**tried == "monitor at 10.0.0.1:7100");
    for node in ["node-1", "node-2", "node-3", "node-4"] {
        assert_eq!(seen_by(&world, node, is_cut_off).len(), 1);
    }
    after(&mut world, Fault::Start(monitor), 10);
    let connected = seen(&world, |event| matches!(event, Event::Connected));
    assert_eq!(connected.iter().filter(|seen| seen.by != "monitor").count(), 8);
    check_well(&world);
}

#[test]
fn two_processes_under_one_name_do_not_both_stay() {
    use heartbeat_core::wire::{Body, decode, encode_join};
    use heartbeat_core::{Member, NodeId};

    let mut world = quiet_world(6);
    let node_2 = world.node("node-2");
    let mut join = |name: &str, id: &str, generation: u64| {
        let address = "10.9.9.9:7100".parse().unwrap();
        let me = Member { id: NodeId::of(id), ..crate::member(name, Generation(generation), address) };
        let mut bytes = Vec::new();
        encode_join(&mut bytes, crate::header(&me), 0, &me);
        world.take_lost(address);
        world.inject(0, address, bytes.clone());
        let sent = world.take_lost(address);
        let Body::Challenge { token } = decode(&sent[0]).unwrap().body else { panic!("not a challenge") };
        assert!(sent.len() == 1 && sent[0].len() < bytes.len(), "no more than it sent");
        encode_join(&mut bytes, crate::header(&me), token, &me);
        world.inject(0, address, bytes);
        world.run(std::time::Duration::from_millis(1_100));
    };
    join("node-1", "node-1", 5); // Started long before the one that is a member.
    join("node-9", "node-8", 5); // An id that is not its name's.
    let newer = 1_800_000_000_000;
    join("node-2", "node-2", newer); // Started after the one that is a member.
    world.run(std::time::Duration::from_secs(3));
    let refused: Vec<&str> = seen_by(&world, "monitor", |_| true)
        .into_iter()
        .filter_map(|seen| match seen.event {
            Event::JoinRefused { address, reason } if address.to_string() == "10.9.9.9:7100" => Some(&**reason),
            _ => None,
        })
        .collect();
    assert_eq!(refused.len(), 2);
    assert!(refused[0].contains("uses this name; end one of the two"), "{}", refused[0]);
    assert!(refused[1].contains("not that of the name"), "{}", refused[1]);
    let is_superseded =
        |event: &Event| matches!(event, Event::Superseded { generation: Generation(1_800_000_000_000), .. });
    assert!(!seen_by(&world, "node-2", is_superseded).is_empty());
    assert!(world.shards_on(node_2).is_empty(), "the older process has given up its shards");
}

#[test]
fn a_process_restarted_at_another_address_is_found_there() {
    use heartbeat_core::wire::{Body, decode, encode_join};

    let mut world = quiet_world(9);
    let node_2 = world.node("node-2");
    after(&mut world, Fault::Kill(node_2), 1);
    let address = "10.9.9.9:7100".parse().unwrap();
    let me = crate::member("node-2", Generation(1_800_000_000_000), address);
    let mut bytes = Vec::new();
    encode_join(&mut bytes, crate::header(&me), 0, &me);
    world.inject(0, address, bytes.clone());
    let Body::Challenge { token } = decode(&world.take_lost(address)[0]).unwrap().body else { panic!("no challenge") };
    encode_join(&mut bytes, crate::header(&me), token, &me);
    world.inject(0, address, bytes);
    world.run(std::time::Duration::from_secs(1));
    for place in [0, 1, 3, 4] {
        let member = world.engine(place).unwrap().members().find(|member| &*member.name == "node-2").unwrap();
        assert_eq!((member.address, member.generation), (address, me.generation), "as {} sees it", world.name(place));
    }
    assert_eq!(seen(&world, is_death), [], "it was back before any member missed it");
    assert!(!world.take_lost(address).is_empty(), "it is spoken to at its new address");
}

#[test]
fn a_profile_change_reaches_all_and_the_newest_wins() {
    let mut world = quiet_world(7);
    let node_2 = world.node("node-2");
    let before: Vec<_> = (1..5).map(|place| world.shards_on(place)).collect();
    let begun = world.elapsed();
    after(&mut world, Fault::SetNote(node_2, 7), 1);
    let is_note = |event: &Event| match event {
        Event::Updated { member } => member.metadata.get("note").is_some_and(|note| note == "7"),
        _ => false,
    };
    let told = seen(&world, is_note);
    assert_eq!(told.len(), 5, "each once, itself included");
    assert!(told.iter().all(|seen| seen.at - begun < Duration::from_millis(200)), "{told:?}");
    // Three in a row, of which some overtake others.
    world.apply(Fault::Disturb(0.2, 0.2, 0.5));
    (8..11).for_each(|note| world.apply(Fault::SetNote(node_2, note)));
    after(&mut world, Fault::Heal, 15);
    for place in 0..5 {
        let engine = world.engine(place).unwrap();
        // 1 at its start, then its sharded group, then four notes.
        let member = engine.members().find(|member| &*member.name == "node-2").unwrap();
        assert_eq!((&*member.metadata["note"], member.revision), ("10", 6), "as {} sees it", world.name(place));
    }
    assert_eq!((1..5).map(|place| world.shards_on(place)).collect::<Vec<_>>(), before, "nothing moved");
    check_well(&world);
}

#[test]
fn a_process_keeps_the_weight_it_began_with() {
    use heartbeat_core::{Config, Engine, Identity, Input, Instant, Metadata};

    let text = "[cluster]\nname = 'sim'\nnode = 'a'\nrole = 'worker'\nmode = 'random'\nlisten = '10.0.0.1:1'\nseeds = []\nmetadata = { weight = '3' }";
    let identity = Identity { generation: Generation(1), address: "10.0.0.1:1".parse().unwrap() };
    let mut engine = Engine::new(Config::from_toml(text).unwrap(), identity, 1, Instant::ZERO).unwrap();
    let mut say = |weight: Option<&str>| {
        let metadata: Metadata = weight.map(|weight| ("weight".to_owned(), weight.to_owned())).into_iter().collect();
        let checked = engine.check_metadata(&metadata).map_err(|error| error.to_string());
        engine.handle(Instant::ZERO, Input::SetMetadata(metadata));
        checked
    };
    assert_eq!(say(Some("3")), Ok(()));
    let kept = "the metadata has the weight 1; this process began with 3 and keeps it";
    assert_eq!(say(None), Err(kept.to_owned()));
    let none = "the metadata has the weight \"-1\"; use a whole number from 0 to 1000";
    assert_eq!(say(Some("-1")), Err(none.to_owned()));
    assert_eq!(engine.members().next().unwrap().weight().get(), 3);
}
