//! T1 as a table: strategy, restart kind and reason, and exactly who is stopped and started, in
//! which order.

use std::time::Duration;

use heartbeat_core::{
    Cause, Child, Event, Generation, GroupId, Health, Input, Report, RestartKind, StatusSample, Strategy, Supervise,
    ThreadSlotId, WorkerId,
};

use super::play::Play;

use RestartKind::{Permanent, Temporary, Transient};
use Strategy::{OneForAll, OneForOne, RestForOne};

const VICTIM: WorkerId = WorkerId(2);

/// How the second of three children ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Stops,
    Panics,
    DoesNotStart,
    IsNotUpInTime,
    SaysThatItFailed,
    IsStuckInAnAwait,
    HoldsItsThread,
    LosesItsThread,
}

const FAULTS: [Way; 7] = [
    Way::Panics,
    Way::DoesNotStart,
    Way::IsNotUpInTime,
    Way::SaysThatItFailed,
    Way::IsStuckInAnAwait,
    Way::HoldsItsThread,
    Way::LosesItsThread,
];

/// Half seconds pass in which all threads beat that can.
fn live(play: &mut Play, half_seconds: u32) {
    for _ in 0..half_seconds {
        play.advance(Duration::from_millis(500));
        let slot = play.now.as_nanos();
        play.beat(slot);
    }
}

fn look(play: &mut Play, health: Health) {
    let generation = play.running[&VICTIM];
    let is_waiting = health == Health::Ok;
    let look =
        StatusSample { worker: VICTIM, generation, is_waiting, queued: 1, is_overloaded: false, progress: 0, health };
    play.order(|engine, now| engine.handle(now, Input::Looks(vec![look])));
}

/// The victim restarts on command, which is no failure, and this time it does not come up. Returns
/// its generation.
fn start_anew(play: &mut Play) -> Generation {
    play.sluggish.insert(VICTIM);
    play.order(|engine, now| engine.handle(now, Input::Restart(Child::Worker(VICTIM))));
    play.sluggish.clear();
    play.story();
    play.running[&VICTIM]
}

fn end(play: &mut Play, way: Way) {
    match way {
        Way::Stops => play.finish(VICTIM),
        Way::Panics => play.panic(VICTIM),
        Way::DoesNotStart => {
            let generation = start_anew(play);
            play.running.remove(&VICTIM);
            play.report(VICTIM, generation, Report::Failed(Cause::StartFailed { reason: "no luck".into() }));
        }
        Way::IsNotUpInTime => {
            start_anew(play);
            live(play, 61);
        }
        Way::SaysThatItFailed => look(play, Health::Failed),
        Way::IsStuckInAnAwait => {
            look(play, Health::Ok);
            live(play, 30);
            look(play, Health::Ok);
        }
        Way::HoldsItsThread => {
            play.hold(VICTIM);
            live(play, 12);
        }
        Way::LosesItsThread => play.kill(play.at[&VICTIM]),
    }
}

/// Checks which children stop and start when the second of three children, of this kind, ends in
/// this way.
#[track_caller]
fn check(strategy: Strategy, kind: RestartKind, way: Way, expected: &str) {
    let mut play = Play::new("[restart]\ndelay_min = '0s'\ndelay_max = '0s'");
    play.answers = true;
    let group = play.group(1, GroupId::ROOT, strategy);
    for id in 1..=3 {
        let kind = if WorkerId(id) == VICTIM { kind } else { Permanent };
        let place = ThreadSlotId(id + 1);
        play.worker_with(Supervise {
            group,
            kind,
            thread_slot: place,
            ..Supervise::new(WorkerId(id), format!("w{id}"), 2)
        });
    }
    live(&mut play, 1);
    play.story();
    end(&mut play, way);
    assert_eq!(play.story().join(" "), expected, "{strategy:?}, {kind:?}, {way:?}");
    let failures = play.pick(|event| matches!(event, Event::Failed { .. }).then_some(())).len();
    let is_failure = way != Way::Stops || kind == Permanent;
    assert_eq!(failures, usize::from(is_failure), "{strategy:?}, {kind:?}, {way:?}");
}

#[test]
fn t1_a_fault_restarts_the_children_the_strategy_names() {
    for way in FAULTS {
        for kind in [Permanent, Transient] {
            check(OneForOne, kind, way, "+w2");
            check(OneForAll, kind, way, "-w3 -w1 +w1 +w2 +w3");
            check(RestForOne, kind, way, "-w3 +w2 +w3");
        }
        for strategy in [OneForOne, OneForAll, RestForOne] {
            check(strategy, Temporary, way, "");
        }
    }
}

#[test]
fn t1_a_clean_stop_is_answered_for_a_permanent_child_only() {
    check(OneForOne, Permanent, Way::Stops, "+w2");
    check(OneForAll, Permanent, Way::Stops, "-w3 -w1 +w1 +w2 +w3");
    check(RestForOne, Permanent, Way::Stops, "-w3 +w2 +w3");
    for strategy in [OneForOne, OneForAll, RestForOne] {
        for kind in [Transient, Temporary] {
            check(strategy, kind, Way::Stops, "");
        }
    }
}
