//! Times of a worker's own, shorter and longer than those of the config, beside a neighbour that
//! has none.

use std::sync::Arc;
use std::time::Duration;

use heartbeat_core::{
    ArbiterId, Cause, Child, Event, GroupId, Health, Input, Interruption, Output, RestartKind, StatusSample, Supervise,
    ThreadSlotId, Times, WorkerId,
};

use super::play::Play;

/// The config's: `timeout` 5 s, `start_timeout` 30 s, `await_timeout` 15 s, `shutdown_timeout` 5 s.
const ONE: &str =
    "workers.arbiters = 1\nworkers.on_thread_held = 'start_anew'\n[restart]\ndelay_min = '0s'\ndelay_max = '0s'";
const OWN: WorkerId = WorkerId(0);
const NEIGHBOUR: WorkerId = WorkerId(1);
const THREAD: ArbiterId = ArbiterId(0);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// All its times are this long.
fn with_times(all: Duration) -> Supervise {
    let times = Times { timeout: all, start_timeout: all, await_timeout: all, shutdown_timeout: all };
    Supervise { times: Some(Arc::new(times)), thread_slot: ThreadSlotId(0), ..Supervise::new(OWN, "own", 1) }
}

/// A worker with times of its own, which are all this long, and a neighbour on the same thread.
fn two(all: Duration) -> Play {
    let mut play = Play::new(ONE);
    play.answers = true;
    play.worker_with(with_times(all));
    play.worker(1, GroupId::ROOT, RestartKind::Permanent);
    let slot = play.now.as_nanos();
    play.beat(slot);
    play
}

/// Time passes until `is_there`, in steps of 10 ms; nothing is answered meanwhile but what `each`
/// does.
fn time_until(play: &mut Play, mut each: impl FnMut(&mut Play), is_there: impl Fn(&Play) -> bool) -> Duration {
    let start = play.now;
    while !is_there(play) && play.now - start < Duration::from_secs(100) {
        play.advance(millis(10));
        each(play);
    }
    play.now - start
}

fn failed(play: &Play, name: &str) -> bool {
    play.events.iter().any(|event| matches!(event, Event::Failed { worker, .. } if **worker == *name))
}

#[track_caller]
fn check_about(found: Duration, seconds: u64, slack: Duration) {
    let due = Duration::from_secs(seconds);
    assert!(found >= due && found <= due + slack, "{found:?} rather than {due:?}");
}

#[test]
fn a_worker_may_hold_its_thread_for_its_own_timeout() {
    for seconds in [1, 20] {
        let mut play = two(Duration::from_secs(seconds));
        play.hold(OWN);
        check_about(time_until(&mut play, |_| {}, |play| failed(play, "own")), seconds, millis(300));
        let mut play = two(Duration::from_secs(seconds));
        play.hold(NEIGHBOUR);
        check_about(time_until(&mut play, |_| {}, |play| failed(play, "w1")), 5, millis(300));
        let moved = |event: &Event| matches!(event, Event::Failed { cause: Cause::Displaced { .. }, .. });
        assert!(play.events.iter().any(moved), "the other one is moved");
    }
}

/// No worker with a short timeout is on it any more: a thread that is looked at early is judged as
/// late as ever.
#[test]
fn a_removed_workers_timeout_shortens_no_other() {
    let mut play = two(Duration::from_secs(1));
    play.order(|engine, now| engine.handle(now, Input::Remove(Child::Worker(OWN))));
    play.hold(NEIGHBOUR);
    check_about(time_until(&mut play, |_| {}, |play| failed(play, "w1")), 5, millis(300));
}

#[test]
fn a_start_may_take_its_own_time() {
    for seconds in [1, 60] {
        let mut play = Play::new(ONE);
        play.sluggish.insert(OWN);
        play.worker_with(with_times(Duration::from_secs(seconds)));
        let beat = |play: &mut Play| play.beat(play.now.as_nanos());
        check_about(time_until(&mut play, beat, |play| failed(play, "own")), seconds, millis(20));
        let cause = Cause::StartTimedOut { after: Duration::from_secs(seconds) };
        assert!(play.events.iter().any(|event| matches!(event, Event::Failed { cause: why, .. } if *why == cause)));
    }
}

#[test]
fn a_stop_may_take_its_own_time_and_none_if_it_is_zero() {
    for seconds in [0, 1, 40] {
        let mut play = two(Duration::from_secs(seconds.max(1)));
        if seconds == 0 {
            play.order(|engine, now| engine.handle(now, Input::Remove(Child::Worker(OWN))));
            let own = Times { shutdown_timeout: Duration::ZERO, ..*with_times(millis(5_000)).times.unwrap() };
            play.worker_with(Supervise { times: Some(Arc::new(own)), ..with_times(millis(1)) });
        }
        play.stubborn.insert(OWN);
        play.stop(Child::Worker(OWN));
        let beat = |play: &mut Play| play.beat(play.now.as_nanos());
        let found = time_until(&mut play, beat, |play| {
            play.outputs.contains(&Output::Fence { worker: OWN, why: Interruption::Stopped })
        });
        check_about(found, seconds, millis(20));
        let after = Duration::from_secs(seconds);
        assert!(play.events.iter().any(|event| matches!(event, Event::Fenced { after: had, .. } if *had == after)));
    }
}

#[test]
fn messages_may_wait_for_its_own_time() {
    for seconds in [2, 40] {
        let mut play = two(Duration::from_secs(seconds));
        let generation = play.running[&OWN];
        let (queued, health) = (3, Health::Ok);
        let stuck = StatusSample {
            worker: OWN,
            generation,
            is_waiting: true,
            queued,
            is_overloaded: false,
            progress: 7,
            health,
        };
        let look = |play: &mut Play| {
            play.beat(play.now.as_nanos());
            play.order(|engine, now| {
                engine.handle(now, Input::Looks(vec![stuck, StatusSample { worker: NEIGHBOUR, queued: 0, ..stuck }]))
            });
        };
        check_about(time_until(&mut play, look, |play| failed(play, "own")), seconds, millis(20));
        assert!(!failed(&play, "w1"));
    }
}

/// A stop deadline, too, begins anew when we were paused ourselves.
#[test]
fn a_pause_of_this_process_extends_a_stop() {
    let mut play = two(Duration::from_secs(10));
    play.stubborn.insert(OWN);
    play.stop(Child::Worker(OWN));
    play.advance(Duration::from_secs(4));
    play.now += Duration::from_secs(3_600);
    play.order(|engine, now| engine.handle(now, Input::Timeout));
    assert!(!play.outputs.contains(&Output::Fence { worker: OWN, why: Interruption::Stopped }));
    let beat = |play: &mut Play| play.beat(play.now.as_nanos());
    let found = time_until(&mut play, beat, |play| {
        play.outputs.contains(&Output::Fence { worker: OWN, why: Interruption::Stopped })
    });
    check_about(found, 10, millis(20));
}

/// A thread of one's own is judged by its worker's time from the first moment on.
#[test]
fn a_dedicated_thread_may_be_held_for_its_workers_timeout() {
    for seconds in [1, 20] {
        let mut play = two(millis(1_000));
        let alone = Supervise { worker: WorkerId(5), name: "alone".into(), ..with_times(Duration::from_secs(seconds)) };
        play.worker_with(Supervise { thread_slot: ThreadSlotId(7), ..alone });
        play.beat(play.now.as_nanos() + 1);
        play.hold(WorkerId(5));
        let beat = |play: &mut Play| play.beat(play.now.as_nanos());
        check_about(time_until(&mut play, beat, |play| failed(play, "alone")), seconds, millis(300));
        assert!(!failed(&play, "own") && !failed(&play, "w1"));
        assert!(play.threads.contains(&THREAD), "theirs is another one");
    }
}

/// The senders of messages that a worker cannot answer any more receive the reason. The worker
/// refuses new messages only if it stops for good.
#[test]
fn a_stop_says_why_and_says_so_again_if_that_changes() {
    let mut play = two(Duration::from_secs(10));
    play.stubborn.insert(OWN);
    let whys = |play: &Play| -> Vec<Interruption> {
        let why = |output: &Output| match output {
            Output::Stop { worker, why } | Output::Fence { worker, why } if *worker == OWN => Some(why.clone()),
            _ => None,
        };
        play.outputs.iter().filter_map(why).collect()
    };
    play.order(|engine, now| engine.handle(now, Input::Restart(Child::Worker(OWN))));
    assert_eq!(whys(&play), [Interruption::Restarted]);
    play.stop(Child::Worker(OWN));
    assert_eq!(whys(&play)[1..], [Interruption::Stopped]);
    play.start(Child::Worker(OWN));
    play.order(|engine, now| engine.handle(now, Input::Restart(Child::Worker(OWN))));
    assert_eq!(whys(&play)[2..], [Interruption::Restarted], "once");
    play.order(|engine, now| engine.handle(now, Input::Leave));
    let beat = |play: &mut Play| play.beat(play.now.as_nanos());
    time_until(&mut play, beat, |play| whys(play).len() > 4);
    assert_eq!(
        whys(&play)[3..],
        [Interruption::NodeLeft, Interruption::NodeLeft],
        "it had the time it was given first"
    );
}
