//! Children that come and go: those of templates, those that are removed in any phase, and threads
//! of their own. Nothing is kept of a child that has gone.

use std::time::Duration;

use heartbeat_core::config::RestartConfig;
use heartbeat_core::{
    Child, Counting, Event, GroupId, Input, Output, RestartKind, Strategy, Supervise, SuperviseGroup, ThreadSlotId,
    WorkerId,
};

use super::order::spec;
use super::play::Play;

use RestartKind::{Permanent, Temporary, Transient};

const SETTINGS: &str = "[restart]\nintensity = 2\nperiod = '1h'\ndelay_min = '10s'\ndelay_max = '10s'";
const ID: WorkerId = WorkerId(1);

/// How often a number became free.
fn forgotten(play: &Play, id: WorkerId) -> usize {
    play.outputs.iter().filter(|&output| *output == Output::Forget { worker: id }).count()
}

/// What the engine holds, but for its numbers, which grow.
fn shape(play: &Play) -> usize {
    format!("{:?}", play.engine).chars().filter(|letter| !letter.is_ascii_digit()).count()
}

#[test]
fn a_template_that_restarts_drops_its_temporary_children() {
    let mut play = Play::new("[restart]\ndelay_min = '0s'\ndelay_max = '0s'");
    let none = RestartConfig { intensity: 0, ..play.engine.config().restart.clone() };
    let template = SuperviseGroup { dynamic: true, restart: Some(none.into()), ..spec(1, GroupId::ROOT) };
    let group = play.group_with(template);
    for id in 1..=3 {
        play.worker(id, group, Temporary);
    }
    play.worker(4, group, Permanent);
    play.stubborn.insert(WorkerId(2));
    play.story();
    play.panic(WorkerId(4));
    assert_eq!(play.story(), ["-w3", "-w2", "-w1"], "all at once");
    play.advance(Duration::from_secs(6));
    assert_eq!(play.story(), ["+w4"]);
    for id in 1..=3 {
        assert!(play.outputs.contains(&Output::Close { worker: WorkerId(id), gave_up: false }));
        assert_eq!(forgotten(&play, WorkerId(id)), 1);
        play.worker(id, group, Temporary);
    }
    assert_eq!(play.running.len(), 4);
}

#[test]
fn a_template_forgets_a_child_that_ends_by_itself() {
    let mut play = Play::new(SETTINGS);
    let group = play.group_with(SuperviseGroup { dynamic: true, ..spec(1, GroupId::ROOT) });
    for kind in [Transient, Temporary] {
        play.worker(1, group, kind);
        play.finish(ID);
    }
    play.worker(1, group, Temporary);
    play.panic(ID);
    assert_eq!(forgotten(&play, ID), 3);
    play.worker(1, group, Transient);
    play.panic(ID);
    assert_eq!(forgotten(&play, ID), 3, "it comes back");
    // A worker that was stopped may be started again.
    play.stop(Child::Worker(ID));
    play.start(Child::Worker(ID));
    assert!(play.running.contains_key(&ID) && forgotten(&play, ID) == 3);
}

/// Removes `w1` when `prepare` has brought it where it is to be, in a group of its own; it is gone
/// at the latest when its stop deadline is over.
#[track_caller]
fn check_removed(phase: &str, prepare: impl Fn(&mut Play)) {
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        let mut play = Play::new(SETTINGS);
        let counting = Counting::Each;
        let group = play.group_with(SuperviseGroup { strategy, counting, ..spec(1, GroupId::ROOT) });
        let threads = play.threads.len();
        play.sluggish.insert(WorkerId(9));
        let kind = if phase == "ended" { Transient } else { Permanent };
        play.worker_with(Supervise { group, kind, thread_slot: ThreadSlotId(5), ..Supervise::new(ID, "w1", 2) });
        play.worker(2, group, Permanent);
        prepare(&mut play);
        assert_eq!(forgotten(&play, ID), 0);
        play.order(|engine, now| engine.handle(now, Input::Remove(Child::Worker(ID))));
        play.order(|engine, now| engine.handle(now, Input::Remove(Child::Worker(ID))));
        play.advance(Duration::from_secs(6));
        assert_eq!(forgotten(&play, ID), 1, "{phase}, {strategy:?}");
        assert_eq!(play.threads.len(), threads, "{phase}, {strategy:?}: its thread ends");
        play.stubborn.clear();
        play.story();
        play.worker_with(Supervise { kind: Temporary, ..Supervise::new(ID, "w1", 2) });
        play.advance(Duration::from_secs(60));
        assert_eq!(play.story().iter().filter(|&line| line == "+w1").count(), 1, "{phase}, {strategy:?}: a stranger");
        assert_eq!(play.running.len(), 2, "{phase}, {strategy:?}: its sibling runs");
    }
}

#[test]
fn a_child_can_be_removed_in_every_phase_and_its_id_reused() {
    check_removed("running", |_| {});
    check_removed("starting", |play| {
        play.sluggish.insert(ID);
        play.order(|engine, now| engine.handle(now, Input::Restart(Child::Worker(ID))));
        play.sluggish.clear();
    });
    check_removed("waiting, or its group pausing", |play| {
        play.panic(ID);
        play.panic(ID);
    });
    check_removed("stopping", |play| {
        play.stubborn.insert(ID);
        play.stop(Child::Worker(ID));
    });
    check_removed("stopping to be started again", |play| {
        play.stubborn.insert(ID);
        play.order(|engine, now| engine.handle(now, Input::Restart(Child::Worker(ID))));
    });
    check_removed("stopped", |play| play.stop(Child::Worker(ID)));
    check_removed("ended", |play| play.finish(ID));
    check_removed("given up", |play| {
        for _ in 0..3 {
            play.panic(ID);
            play.advance(Duration::from_secs(11));
        }
        assert_eq!(play.pick(|event| matches!(event, Event::GaveUp { .. }).then_some(())).len(), 1);
    });
    check_removed("parked while its sibling stops", |play| {
        play.stubborn.insert(WorkerId(2));
        play.panic(ID);
    });
}

#[test]
fn a_group_may_be_removed_with_all_that_is_in_it_in_every_phase() {
    for phase in 0..6 {
        let mut play = Play::new(SETTINGS);
        let outer = play.group(1, GroupId::ROOT, Strategy::OneForAll);
        let inner = play.group(2, outer, Strategy::RestForOne);
        let workers = [1, 2, 3].map(|id| play.worker(id, if id == 3 { outer } else { inner }, Permanent));
        match phase {
            0 => {}
            1 => play.stop(Child::Group(outer)),
            2 => play.stop(Child::Group(inner)),
            // The inner group pauses, then is exhausted, and the outer one pauses.
            3 => (0..2).for_each(|_| play.panic(ID)),
            4 => (0..3).for_each(|_| {
                play.panic(ID);
                play.advance(Duration::from_secs(11));
            }),
            _ => {
                play.stubborn.extend(workers);
                play.panic(ID);
            }
        }
        play.order(|engine, now| engine.handle(now, Input::Remove(Child::Group(outer))));
        play.advance(Duration::from_secs(20));
        assert!(play.running.is_empty(), "phase {phase}");
        assert_eq!(workers.map(|id| forgotten(&play, id)), [1, 1, 1], "phase {phase}");
        for group in ["g1", "g2"] {
            let gone = Output::ForgetGroup { group: group.into() };
            assert_eq!(play.outputs.iter().filter(|&output| *output == gone).count(), 1, "phase {phase}, {group}");
        }
        play.story();
        play.advance(Duration::from_secs(100));
        assert_eq!(play.story(), [] as [String; 0], "phase {phase}");
    }
}

#[test]
fn nothing_is_kept_of_ten_thousand_children_that_came_and_went() {
    let mut play = Play::new("[restart]\nintensity = 4294967295\ndelay_min = '0s'\ndelay_max = '0s'");
    let template = play.group_with(SuperviseGroup { dynamic: true, ..spec(1, GroupId::ROOT) });
    let mut shapes = Vec::new();
    for round in 0..10_000_u32 {
        play.worker(1, template, Temporary);
        play.worker(2, template, Permanent);
        let group = play.group(round + 2, GroupId::ROOT, Strategy::OneForAll);
        let own = Supervise { group, thread_slot: ThreadSlotId(round % 7 + 2), ..Supervise::new(WorkerId(3), "w3", 2) };
        play.worker_with(own);
        match round % 3 {
            0 => play.panic(ID),
            1 => play.finish(ID),
            _ => play.order(|engine, now| engine.handle(now, Input::Remove(Child::Worker(ID)))),
        }
        play.panic(WorkerId(2));
        play.order(|engine, now| engine.handle(now, Input::Remove(Child::Worker(WorkerId(2)))));
        play.order(|engine, now| engine.handle(now, Input::Remove(Child::Group(group))));
        play.outputs.clear();
        play.events.clear();
        play.log.clear();
        if round == 10 || round == 9_999 {
            shapes.push(shape(&play));
        }
    }
    assert_eq!(play.threads.len(), 2);
    assert_eq!(play.engine.arbiters().len(), 2);
    assert!(shapes[1] < shapes[0] + 1_000, "{shapes:?}");
}

#[test]
fn a_slot_of_its_own_has_a_thread_while_a_worker_needs_it() {
    let mut play = Play::new(SETTINGS);
    let threads = play.threads.len();
    let group = play.group_with(SuperviseGroup { counting: Counting::Each, ..spec(1, GroupId::ROOT) });
    for id in 1..=2 {
        let worker = Supervise::new(WorkerId(id), format!("w{id}"), 2);
        play.worker_with(Supervise { group, thread_slot: ThreadSlotId(40), kind: Transient, ..worker });
        assert_eq!(play.threads.len(), threads + 1, "two share it");
    }
    play.finish(WorkerId(2));
    assert_eq!(play.threads.len(), threads + 1);
    for _ in 0..3 {
        assert_eq!(play.threads.len(), threads + 1, "kept while it waits to be started again");
        play.panic(ID);
        play.advance(Duration::from_secs(11));
    }
    assert_eq!(play.threads.len(), threads, "given up");
    play.start(Child::Worker(WorkerId(2)));
    assert_eq!(play.threads.len(), threads + 1);
    play.order(|engine, now| engine.handle(now, Input::Restart(Child::Group(group))));
    assert_eq!(play.threads.len(), threads + 1);
    play.stop(Child::Group(group));
    assert_eq!(play.threads.len(), threads);
}
