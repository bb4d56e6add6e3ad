//! Commands to a child while its group is starting, stopping or restarting; and worker numbers that
//! are used again meanwhile.

use std::time::Duration;

use heartbeat_core::{
    AutoShutdown, Child, Event, GroupId, Input, Output, Report, RestartKind, Strategy, Supervise, SuperviseGroup,
    WorkerId,
};

use super::order::spec;
use super::play::Play;

use RestartKind::{Permanent, Temporary, Transient};

const AT_ONCE: &str = "[restart]\ndelay_min = '0s'\ndelay_max = '0s'";
const NOTHING: [String; 0] = [];

fn worker(id: u32) -> Child {
    Child::Worker(WorkerId(id))
}

/// The worker that did not come up does so.
fn come_up(play: &mut Play, id: u32) {
    play.sluggish.remove(&WorkerId(id));
    let generation = play.running[&WorkerId(id)];
    play.report(WorkerId(id), generation, Report::Started);
}

/// The worker that did not stop does so.
fn go_down(play: &mut Play, id: u32) {
    play.stubborn.remove(&WorkerId(id));
    let generation = play.running.remove(&WorkerId(id)).unwrap();
    play.report(WorkerId(id), generation, Report::Stopped);
}

/// A group of this strategy in which `w1` to `w3` run.
fn three(strategy: Strategy, kinds: [RestartKind; 3]) -> (Play, GroupId) {
    let mut play = Play::new(AT_ONCE);
    let group = play.group(1, GroupId::ROOT, strategy);
    for (id, kind) in (1..).zip(kinds) {
        play.worker(id, group, kind);
    }
    play.story();
    (play, group)
}

#[test]
fn a_child_waiting_for_its_turn_starts_once_however_often_asked() {
    let mut play = Play::new(AT_ONCE);
    let group = play.group(1, GroupId::ROOT, Strategy::OneForOne);
    play.sluggish.insert(WorkerId(1));
    play.worker(1, group, Permanent);
    play.worker(2, group, Permanent);
    play.start(worker(2));
    play.start(worker(2));
    come_up(&mut play, 1);
    assert_eq!(play.story(), ["+w1", "+w2"]);
}

#[test]
fn a_start_command_ends_the_pause_after_a_failure() {
    let mut play = Play::new("[restart]\ndelay_min = '10s'\ndelay_max = '10s'");
    let group = play.group(1, GroupId::ROOT, Strategy::OneForOne);
    play.sluggish.insert(WorkerId(1));
    play.worker(1, group, Permanent);
    play.worker(2, group, Permanent);
    play.panic(WorkerId(1));
    play.panic(WorkerId(1));
    play.story();
    play.start(worker(1));
    assert_eq!(play.story(), ["+w1"]);
    come_up(&mut play, 1);
    assert_eq!(play.story(), ["+w2"]);
    play.advance(Duration::from_secs(20));
    assert_eq!(play.story(), NOTHING, "the pause that it waited is over for good");
}

#[test]
fn a_child_stopped_before_its_turn_does_not_start() {
    let mut play = Play::new(AT_ONCE);
    let group = play.group(1, GroupId::ROOT, Strategy::OneForOne);
    play.sluggish.insert(WorkerId(1));
    for id in 1..=3 {
        play.worker(id, group, Permanent);
    }
    play.stop(worker(2));
    come_up(&mut play, 1);
    assert_eq!(play.story(), ["+w1", "+w3"]);
    play.start(worker(2));
    assert_eq!(play.story(), ["+w2"]);
}

#[test]
fn a_child_stopped_while_its_group_restarts_stays_down() {
    for told in ["while it runs still", "when it is parked", "when it waits for its turn"] {
        let (mut play, group) = three(Strategy::OneForAll, [Permanent; 3]);
        play.stubborn.insert(WorkerId(if told == "while it runs still" { 3 } else { 1 }));
        play.sluggish.insert(WorkerId(1));
        play.panic(WorkerId(2));
        if told == "when it waits for its turn" {
            go_down(&mut play, 1);
        }
        play.stop(worker(2));
        play.stop(worker(3));
        if told == "when it is parked" {
            go_down(&mut play, 1);
        } else if told == "while it runs still" {
            go_down(&mut play, 3);
        }
        come_up(&mut play, 1);
        assert_eq!(play.story().iter().filter(|line| line.starts_with('+')).collect::<Vec<_>>(), ["+w1"], "{told}");
        // As in OTP, the next restart of all takes it in again.
        play.panic(WorkerId(1));
        assert_eq!(play.story(), ["+w1", "+w2", "+w3"], "{told}");
        play.stop(Child::Group(group));
        assert!(play.running.is_empty());
    }
}

#[test]
fn a_child_started_while_its_group_restarts_starts() {
    let (mut play, _) = three(Strategy::RestForOne, [Permanent, Permanent, Temporary]);
    play.stop(worker(1));
    play.stubborn.insert(WorkerId(3));
    play.panic(WorkerId(2));
    play.story();
    play.start(worker(1));
    assert_eq!(play.story(), ["+w1"], "it stands before those that are restarted");
    play.start(worker(3));
    go_down(&mut play, 3);
    assert_eq!(play.story(), ["+w2", "+w3"]);
}

#[test]
fn a_child_waiting_before_the_restarted_ones_starts() {
    let (mut play, _) = three(Strategy::RestForOne, [Permanent; 3]);
    play.stop(worker(1));
    play.stop(worker(2));
    play.sluggish.insert(WorkerId(2));
    play.story();
    play.start(worker(2));
    play.start(worker(1));
    assert_eq!(play.story(), ["+w2"], "the first one waits for the second, which was asked for before it");
    play.panic(WorkerId(3));
    assert_eq!(play.story(), ["+w1", "+w3"], "and for nothing else");
}

/// A template's children are started as they are asked for, also while their group starts the
/// others.
#[test]
fn a_child_started_out_of_turn_starts_only_once() {
    let mut play = Play::new(AT_ONCE);
    let (dynamic, strategy) = (true, Strategy::RestForOne);
    let group = play.group_with(SuperviseGroup { dynamic, strategy, ..spec(1, GroupId::ROOT) });
    for id in 1..=3 {
        play.worker(id, group, Permanent);
    }
    play.stop(Child::Group(group));
    play.sluggish.insert(WorkerId(1));
    play.story();
    play.start(Child::Group(group));
    play.start(worker(2));
    play.start(worker(3));
    assert_eq!(play.story(), ["+w1", "+w2", "+w3"]);
    play.panic(WorkerId(3));
    assert_eq!(play.story(), ["+w3"]);
}

/// A worker was removed before its group had got to it. Its number belongs to another worker now.
#[test]
fn a_number_that_is_used_again_meanwhile_is_left_alone() {
    let (mut play, _) = three(Strategy::OneForAll, [Permanent; 3]);
    play.stubborn.extend([WorkerId(3)]);
    play.panic(WorkerId(1));
    play.order(|engine, now| engine.handle(now, Input::Remove(worker(2))));
    let stranger = play.worker(2, GroupId::ROOT, Permanent);
    let generation = play.running[&stranger];
    play.story();
    go_down(&mut play, 3);
    assert_eq!(play.story(), ["+w1", "+w3"]);
    assert_eq!(play.running[&stranger], generation);

    let mut play = Play::new(AT_ONCE);
    let group = play.group(1, GroupId::ROOT, Strategy::OneForOne);
    play.sluggish.insert(WorkerId(1));
    play.worker(1, group, Permanent);
    play.worker(2, group, Permanent);
    play.order(|engine, now| engine.handle(now, Input::Remove(worker(2))));
    play.worker(2, GroupId::ROOT, Permanent);
    come_up(&mut play, 1);
    assert_eq!(play.story(), ["+w1", "+w2"], "once, by the root");
}

/// A temporary child failed while its group was restarting. No runner reads its queue any more, so
/// the queue is closed, and the thread of its own ends.
#[test]
fn a_temporary_child_failing_in_a_restart_leaves_nothing() {
    for fault in [true, false] {
        let (mut play, group) = three(Strategy::OneForAll, [Permanent; 3]);
        let threads = play.threads.len();
        let own = Supervise::new(WorkerId(4), "w4", 2);
        let own = Supervise { group, kind: Temporary, thread_slot: heartbeat_core::ThreadSlotId(9), ..own };
        let temporary = play.worker_with(own);
        play.worker(5, group, Permanent);
        play.stubborn.insert(WorkerId(5));
        play.panic(WorkerId(1));
        if fault {
            play.panic(temporary)
        } else {
            play.finish(temporary)
        };
        go_down(&mut play, 5);
        assert!(play.outputs.contains(&Output::Close { worker: temporary, gave_up: false }));
        assert_eq!(play.threads.len(), threads);
        assert!(!play.running.contains_key(&temporary));
    }
}

/// A transient child that ends while its group is about to stop it ends nothing: in OTP its exit is
/// taken for the answer to the order.
#[test]
fn a_child_that_ends_before_its_stop_restarts_with_the_others() {
    let mut play = Play::new(AT_ONCE);
    let any = AutoShutdown::AnySignificant;
    let all = Strategy::OneForAll;
    let group = play.group_with(SuperviseGroup { auto_shutdown: any, strategy: all, ..spec(1, GroupId::ROOT) });
    for id in 1..=2 {
        let worker = Supervise::new(WorkerId(id), format!("w{id}"), 2);
        play.worker_with(Supervise { group, kind: Transient, significant: true, ..worker });
    }
    play.worker(3, group, Permanent);
    play.worker(4, group, Permanent);
    play.stubborn.insert(WorkerId(4));
    play.panic(WorkerId(3));
    play.finish(WorkerId(2));
    play.story();
    go_down(&mut play, 4);
    assert_eq!(play.story(), ["-w1", "+w1", "+w2", "+w3", "+w4"]);
    assert_eq!(play.pick(|event| matches!(event, Event::GroupStopped { .. }).then_some(())), []);
}

/// The messages of a parked child wait for the start of its group.
#[test]
fn asking_for_a_child_of_a_group_that_waits_closes_no_queue() {
    let mut play = Play::new("[restart]\nintensity = 100\ndelay_min = '10s'\ndelay_max = '10s'");
    let strict = heartbeat_core::config::RestartConfig { intensity: 0, ..play.engine.config().restart.clone() };
    let group = play.group_with(SuperviseGroup { restart: Some(strict.into()), ..spec(1, GroupId::ROOT) });
    let first = play.worker(1, group, Permanent);
    play.worker(2, group, Permanent);
    play.panic(first);
    play.panic(first);
    assert!(play.running.is_empty(), "the group waits");
    let before = play.outputs.len();
    play.start(worker(2));
    assert_eq!(play.outputs[before..], []);
    play.story();
    play.advance(Duration::from_secs(11));
    assert_eq!(play.story(), ["+w1", "+w2"]);
}
