//! T4 to T6, and what else the order of stopping and starting promises.

use std::time::Duration;

use heartbeat_core::{
    AutoShutdown, Child, Counting, Event, Generation, GroupId, Input, Output, Report, RestartKind, Strategy, Supervise,
    SuperviseGroup, ThreadSlotId, WorkerId,
};

use super::play::Play;

use RestartKind::{Permanent, Temporary, Transient};

const AT_ONCE: &str = "[restart]\ndelay_min = '0s'\ndelay_max = '0s'";

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn spec(id: u32, parent: GroupId) -> SuperviseGroup {
    SuperviseGroup {
        group: GroupId(id),
        name: format!("g{id}").into(),
        parent,
        strategy: Strategy::OneForOne,
        counting: Counting::Together,
        auto_shutdown: AutoShutdown::Never,
        dynamic: false,
        kind: Permanent,
        significant: false,
        restart: None,
    }
}

#[test]
fn t4_reports_of_a_stale_generation_change_nothing() {
    let mut play = Play::new(AT_ONCE);
    let worker = play.worker(0, GroupId::ROOT, Permanent);
    let first = play.running[&worker];
    play.panic(worker);
    let (second, before) = (play.running[&worker], play.outputs.len());
    assert!(second > first);
    for generation in [Generation(0), first, Generation(first.0 + 1), Generation(second.0 + 1), Generation(u64::MAX)] {
        for report in [Report::Started, Report::Stopped, Report::Failed(Play::panicked())] {
            play.report(worker, generation, report);
        }
    }
    play.report(WorkerId(77), second, Report::Stopped);
    assert_eq!(play.outputs.len(), before, "{:?}", &play.outputs[before..]);
}

#[test]
fn t5_stopping_is_in_reverse_order_each_with_its_own_deadline() {
    let mut play = Play::new(AT_ONCE);
    let outer = play.group(1, GroupId::ROOT, Strategy::OneForOne);
    let first = play.worker(1, outer, Permanent);
    let inner = play.group(2, outer, Strategy::OneForOne);
    let stuck = play.worker(2, inner, Permanent);
    play.worker(3, inner, Permanent);
    play.worker(4, outer, Permanent);
    play.stubborn.insert(stuck);
    play.story();
    play.stop(Child::Group(outer));
    assert_eq!(play.story(), ["-w4", "-w3", "-w2"], "the first one waits for the one that does not stop");
    play.advance(Duration::from_millis(4_990));
    assert_eq!(play.story(), [] as [String; 0]);
    play.advance(Duration::from_millis(20));
    assert_eq!(play.story(), ["-w1"]);
    let fenced = play.pick(|event| match event {
        Event::Fenced { worker, after, .. } => Some((worker.to_string(), *after)),
        _ => None,
    });
    assert_eq!(fenced, [("w2".to_owned(), seconds(5))]);
    assert!(!play.running.contains_key(&first));
    let stopped = play.pick(|event| match event {
        Event::GroupStopped { group } => Some(group.to_string()),
        _ => None,
    });
    assert_eq!(stopped, ["g2", "g1"]);
    play.stubborn.clear();
    play.start(Child::Group(outer));
    assert_eq!(play.story(), ["+w1", "+w2", "+w3", "+w4"]);
}

#[test]
fn t5_a_group_stopped_during_a_pause_starts_nothing_later() {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let mut play = Play::new("[restart]\ndelay_min = '10s'\ndelay_max = '10s'");
        let group = play.group(1, GroupId::ROOT, strategy);
        let worker = play.worker(1, group, Permanent);
        play.worker(2, group, Permanent);
        play.panic(worker);
        play.panic(worker);
        assert!(!play.running.contains_key(&worker), "{strategy:?}: it waits");
        play.stop(Child::Group(group));
        play.story();
        play.advance(seconds(100));
        assert_eq!(play.story(), [] as [String; 0], "{strategy:?}");
        assert!(play.running.is_empty());
        play.start(Child::Group(group));
        assert_eq!(play.story(), ["+w1", "+w2"], "{strategy:?}");
    }
}

#[test]
fn t5_a_child_starts_once_the_one_before_it_is_up() {
    let mut play = Play::new(AT_ONCE);
    let group = play.group(1, GroupId::ROOT, Strategy::OneForOne);
    play.sluggish.insert(WorkerId(1));
    let first = play.worker(1, group, Permanent);
    play.worker(2, group, Permanent);
    play.worker(3, GroupId::ROOT, Permanent);
    assert_eq!(play.story(), ["+w1", "+w3"], "the root waits for no child");
    let generation = play.running[&first];
    play.report(first, generation, Report::Started);
    assert_eq!(play.story(), ["+w2"]);
    play.worker(4, group, Permanent);
    assert_eq!(play.story(), ["+w4"]);
}

#[test]
fn t5_leaving_stops_all_in_reverse_within_its_timeout() {
    let mut play = Play::new("workers.leave_timeout = '12s'\nworkers.shutdown_timeout = '5s'");
    for id in 0..6 {
        let worker = play.worker(id, GroupId::ROOT, Permanent);
        if id != 4 {
            play.stubborn.insert(worker);
        }
    }
    play.story();
    play.order(|engine, now| engine.handle(now, Input::Leave));
    assert_eq!(play.story(), ["-w5"]);
    play.advance(seconds(11));
    assert_eq!(play.story(), ["-w4", "-w3", "-w2"]);
    assert!(!play.engine.has_left());
    play.advance(seconds(2));
    assert!(play.engine.has_left());
    assert!(play.running.is_empty(), "those who were not reached are fenced");
}

#[test]
fn t5_ten_thousand_workers_stop_side_by_side() {
    let mut play = Play::new(AT_ONCE);
    for id in 0..10_001 {
        let worker = play.worker(id, GroupId::ROOT, Permanent);
        play.stubborn.insert(worker);
    }
    play.order(|engine, now| engine.handle(now, Input::Leave));
    play.advance(seconds(6));
    assert!(play.engine.has_left(), "each had its 5 s, all the same 5 s");
}

/// One group with these children (kind, significant), of which `ended` end by themselves, normally.
/// Returns whether the group has ended.
#[track_caller]
fn check_t6(auto_shutdown: AutoShutdown, children: &[(RestartKind, bool)], ended: &[u32], expected: bool) {
    let mut play = Play::new(AT_ONCE);
    let group = play.group_with(SuperviseGroup { auto_shutdown, kind: Temporary, ..spec(1, GroupId::ROOT) });
    for (id, &(kind, significant)) in (0..).zip(children) {
        let worker = Supervise::new(WorkerId(id), format!("w{id}"), 2);
        play.worker_with(Supervise { group, kind, significant, ..worker });
    }
    for &id in ended {
        play.finish(WorkerId(id));
    }
    let has_ended = !play.pick(|event| matches!(event, Event::GroupStopped { .. }).then_some(())).is_empty();
    assert_eq!(has_ended, expected);
    assert_eq!(play.running.is_empty(), expected);
}

#[test]
fn t6_a_group_ends_with_its_significant_children() {
    use AutoShutdown::{AllSignificant, AnySignificant, Never};
    let two = [(Transient, true), (Temporary, true), (Permanent, false), (Transient, false)];
    check_t6(Never, &two, &[0, 1], false);
    check_t6(AnySignificant, &two, &[3], false);
    check_t6(AnySignificant, &two, &[0], true);
    check_t6(AnySignificant, &two, &[1], true);
    check_t6(AllSignificant, &two, &[0], false);
    check_t6(AllSignificant, &two, &[1, 3], false);
    check_t6(AllSignificant, &two, &[1, 0], true);
}

/// As in OTP, all have ended when the last one that is *active* has: one that was stopped, or is
/// not started again, is not waited for.
#[test]
fn t6_a_child_that_no_longer_runs_is_not_waited_for() {
    for was_stopped in [true, false] {
        let mut play = Play::new(AT_ONCE);
        let (auto_shutdown, strategy) = (AutoShutdown::AllSignificant, Strategy::OneForAll);
        let group =
            play.group_with(SuperviseGroup { auto_shutdown, strategy, kind: Temporary, ..spec(1, GroupId::ROOT) });
        for (id, kind) in [(1, Transient), (2, Temporary)] {
            let worker = Supervise::new(WorkerId(id), format!("w{id}"), 2);
            play.worker_with(Supervise { group, kind, significant: true, ..worker });
        }
        let other = play.worker(3, group, Permanent);
        if was_stopped {
            play.stop(Child::Worker(WorkerId(2)));
        } else {
            play.panic(other);
        }
        assert_eq!(play.running.len(), 2);
        play.finish(WorkerId(1));
        assert!(play.running.is_empty(), "was stopped: {was_stopped}");
    }
}

#[test]
fn t6_a_stopped_or_restarted_significant_child_ends_nothing() {
    let mut play = Play::new(AT_ONCE);
    let any = AutoShutdown::AnySignificant;
    let group = play.group_with(SuperviseGroup { auto_shutdown: any, ..spec(1, GroupId::ROOT) });
    let worker = Supervise::new(WorkerId(1), "w1", 2);
    let worker = play.worker_with(Supervise { group, kind: Transient, significant: true, ..worker });
    play.worker(2, group, Permanent);
    play.panic(worker);
    play.order(|engine, now| engine.handle(now, Input::Restart(Child::Worker(worker))));
    play.stop(Child::Worker(worker));
    assert_eq!(play.running.len(), 1);
    assert_eq!(play.pick(|event| matches!(event, Event::GroupStopped { .. }).then_some(())), []);
}

#[test]
fn a_dynamic_group_stops_all_at_once_and_forgets_the_ended() {
    let mut play = Play::new(AT_ONCE);
    let group = play.group_with(SuperviseGroup { dynamic: true, ..spec(1, GroupId::ROOT) });
    let workers: Vec<WorkerId> = (0..3).map(|id| play.worker(id, group, Temporary)).collect();
    play.finish(workers[1]);
    assert!(play.outputs.contains(&Output::Forget { worker: workers[1] }));
    play.worker(1, group, Temporary);
    play.stubborn.extend(workers.iter().copied());
    play.story();
    play.stop(Child::Group(group));
    assert_eq!(play.story(), ["-w1", "-w2", "-w0"], "no worker waits for another");
    play.advance(seconds(6));
    assert_eq!(play.pick(|event| matches!(event, Event::Fenced { .. }).then_some(())).len(), 3);
}

#[test]
fn a_thread_of_its_own_is_made_with_its_worker_and_ends_with_it() {
    let mut play = Play::new(AT_ONCE);
    let before = play.threads.len();
    for round in 0..10_000_u32 {
        let worker = Supervise::new(WorkerId(1), "w1", 2);
        let worker = play.worker_with(Supervise { thread_slot: ThreadSlotId(2 + round), ..worker });
        assert_eq!(play.threads.len(), before + 1);
        play.panic(worker);
        assert_eq!(play.threads.len(), before + 1, "a restart keeps it");
        play.order(|engine, now| engine.handle(now, Input::Remove(Child::Worker(worker))));
        assert_eq!(play.threads.len(), before);
        play.outputs.clear();
        play.events.clear();
        play.advance(seconds(40));
    }
}

/// A worker that did not come up does so.
fn come_up(play: &mut Play, id: u32) {
    let generation = play.running[&WorkerId(id)];
    play.report(WorkerId(id), generation, Report::Started);
}

#[test]
fn the_first_start_is_in_order_across_nested_groups_too() {
    let mut play = Play::new(AT_ONCE);
    play.sluggish.extend((1..=6).map(WorkerId));
    let shop = play.group(1, GroupId::ROOT, Strategy::OneForOne);
    let store = play.group(2, shop, Strategy::OneForOne);
    let disk = play.group(3, store, Strategy::OneForOne);
    play.worker(1, disk, Permanent);
    play.worker(2, store, Permanent);
    play.worker(3, shop, Permanent);
    play.worker(4, shop, Permanent);
    play.worker(5, GroupId::ROOT, Permanent);
    assert_eq!(play.story(), ["+w1", "+w5"], "the root waits for no child");
    for (id, next) in [(1, vec!["+w2"]), (2, vec!["+w3"]), (3, vec!["+w4"]), (4, vec![])] {
        come_up(&mut play, id);
        assert_eq!(play.story(), next);
    }
    // A child that its group was given later is waited for as well, and one that is removed is not.
    play.worker(6, disk, Permanent);
    play.worker(7, shop, Permanent);
    assert_eq!(play.story(), ["+w6"]);
    play.order(|engine, now| engine.handle(now, Input::Remove(Child::Group(disk))));
    play.advance(seconds(6));
    assert_eq!(play.story(), ["-w6", "+w7", "-w1"], "its group goes");
    play.sluggish.clear();
    play.order(|engine, now| engine.handle(now, Input::Restart(Child::Group(shop))));
    assert_eq!(play.story(), ["-w7", "-w4", "-w3", "-w2", "+w2", "+w3", "+w4", "+w7"]);
}

/// In OTP the second exit waits in the supervisor's mailbox, and is one more restart of them all.
#[test]
fn two_failures_at_once_of_rest_for_one_are_one_restart() {
    // The later one goes down with the first; the earlier one is a failure of its own, and the
    // restart under way is taken into its own.
    for (first, second, intensity) in [(2, 3, 1), (3, 2, 2)] {
        let mut play = Play::new(&format!("{AT_ONCE}\nintensity = {intensity}"));
        let group = play.group(1, GroupId::ROOT, Strategy::RestForOne);
        let workers = [1, 2, 3, 4].map(|id| play.worker(id, group, Permanent));
        play.stubborn.insert(workers[3]);
        play.story();
        play.panic(WorkerId(first));
        play.panic(WorkerId(second));
        play.stubborn.clear();
        play.advance(seconds(6));
        assert_eq!(play.story(), ["-w4", "+w2", "+w3", "+w4"]);
        assert_eq!(play.pick(|event| matches!(event, Event::Escalated { .. }).then_some(())), []);
    }
}
