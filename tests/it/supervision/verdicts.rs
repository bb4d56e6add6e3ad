//! What a silent thread means, what a look at a status cell means, and what neither of them means.

use std::time::Duration;

use heartbeat_core::{
    Activity, ArbiterId, Cause, Child, CpuTimes, Event, GroupId, Health, Input, Instant, Interruption, NotReadyReason,
    Output, RestartKind, StatusSample, Strategy, Supervise, ThreadSample, ThreadState, WorkerActivity, WorkerId,
};

use super::play::Play;

/// Neighbours that wait for a held thread are another matter: `held`.
const ONE: &str =
    "workers.arbiters = 1\nworkers.on_thread_held = 'start_anew'\n[restart]\ndelay_min = '0s'\ndelay_max = '0s'";
const THREAD: ArbiterId = ArbiterId(0);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A node with one thread, which has beaten once, and two workers on it.
fn two(settings: &str) -> (Play, WorkerId, WorkerId) {
    let mut play = Play::new(settings);
    let workers = [0, 1].map(|id| play.worker(id, GroupId::ROOT, RestartKind::Permanent));
    play.engine.handle(
        play.now,
        Input::Beat { arbiter: THREAD, slot: 1, times: Some(CpuTimes { ran: seconds(1), waited: seconds(1) }) },
    );
    play.drain();
    (play, workers[0], workers[1])
}

fn busy(worker: WorkerId, since: Instant) -> WorkerActivity {
    WorkerActivity { worker, doing: Activity::Message("Block"), since }
}

/// A look at the thread that has since run and waited for so many milliseconds.
fn look(state: ThreadState, ran: u64, waited: u64) -> Option<ThreadSample> {
    Some(ThreadSample { state, times: CpuTimes { ran: seconds(1) + millis(ran), waited: seconds(1) + millis(waited) } })
}

fn causes(play: &Play, name: &str) -> Vec<Cause> {
    play.pick(|event| match event {
        Event::Failed { worker, cause, .. } if **worker == *name => Some(cause.clone()),
        _ => None,
    })
}

/// The first worker has held the thread for 5.5 s, during which the system saw this. Returns why it
/// was replaced, if it was.
#[track_caller]
fn verdict(seen: Option<ThreadSample>) -> Option<Cause> {
    let (mut play, first, _) = two(ONE);
    let since = play.now;
    play.advance(millis(5_500));
    assert!(play.outputs.contains(&Output::Inspect { arbiter: THREAD }));
    play.order(|engine, now| {
        engine.handle(now, Input::Inspection { arbiter: THREAD, busy: vec![busy(first, since)], seen })
    });
    causes(&play, "w0").into_iter().next()
}

#[test]
fn blocked_spinning_held_and_starved_are_distinguished() {
    assert!(matches!(verdict(look(ThreadState::Sleeping, 10, 10)), Some(Cause::Blocked { .. })));
    assert!(matches!(verdict(look(ThreadState::Runnable, 5_400, 50)), Some(Cause::Spinning { .. })));
    assert!(matches!(verdict(None), Some(Cause::HeldThread { .. })));
    assert_eq!(verdict(look(ThreadState::Sleeping, 10, 4_000)), None, "it waited for a CPU");
    assert_eq!(verdict(look(ThreadState::Runnable, 300, 5_000)), None);
    assert_eq!(verdict(look(ThreadState::Stopped, 0, 0)), None, "a command stopped it");
}

#[test]
fn a_spinning_thread_on_a_shared_cpu_is_judged_by_cpu_time() {
    let (mut play, first, _) = two(ONE);
    let since = play.now;
    let begun = play.now;
    // One of four on one CPU: it runs a quarter of the time.
    while causes(&play, "w0").is_empty() {
        play.outputs.clear();
        play.advance(millis(100));
        if play.outputs.contains(&Output::Inspect { arbiter: THREAD }) {
            let spent = (play.now - since).as_millis() as u64;
            let seen = look(ThreadState::Runnable, spent / 4, spent * 3 / 4);
            play.order(|engine, now| {
                engine.handle(now, Input::Inspection { arbiter: THREAD, busy: vec![busy(first, since)], seen })
            });
        }
        assert!(play.now - begun < seconds(30), "four times 5 s and some looks");
    }
    assert!(play.now - begun > seconds(17), "{:?}", play.now - begun);
    assert_eq!(play.pick(|event| matches!(event, Event::Starved { .. }).then_some(())).len(), 1, "said once");
}

#[test]
fn progress_gives_all_the_time_anew_and_a_beat_ends_the_silence() {
    let (mut play, first, _) = two(ONE);
    let since = play.now;
    play.advance(millis(5_500));
    let progress = since + seconds(4);
    play.order(|engine, now| {
        engine.handle(
            now,
            Input::Inspection {
                arbiter: THREAD,
                busy: vec![busy(first, progress)],
                seen: look(ThreadState::Sleeping, 0, 0),
            },
        );
    });
    assert_eq!(causes(&play, "w0"), []);
    play.outputs.clear();
    play.advance(millis(3_490));
    assert!(!play.outputs.contains(&Output::Inspect { arbiter: THREAD }));
    play.advance(millis(20));
    assert!(play.outputs.contains(&Output::Inspect { arbiter: THREAD }), "5 s after it made progress");
    play.engine.handle(play.now, Input::Beat { arbiter: THREAD, slot: 2, times: None });
    play.order(|engine, now| {
        engine.handle(now, Input::Inspection { arbiter: THREAD, busy: vec![busy(first, progress)], seen: None })
    });
    assert_eq!(causes(&play, "w0"), [], "it beat between the question and the answer");
}

#[test]
fn the_last_worker_to_begin_is_at_fault_and_neighbours_move() {
    let (mut play, first, second) =
        two("workers.arbiters = 1\nworkers.on_thread_held = 'start_anew'\n[restart]\nintensity = 0");
    let since = play.now;
    play.advance(millis(5_500));
    let both = [busy(first, since - millis(3)), busy(second, since)];
    play.order(|engine, now| {
        engine.handle(
            now,
            Input::Inspection { arbiter: THREAD, busy: both.to_vec(), seen: look(ThreadState::Sleeping, 0, 0) },
        )
    });
    assert!(matches!(causes(&play, "w1")[..], [Cause::Blocked { .. }]));
    assert!(matches!(causes(&play, "w0")[..], [Cause::Displaced { .. }]));
    assert_eq!(
        play.running.keys().copied().collect::<Vec<_>>(),
        [first],
        "an intensity of 0 allows nothing that counts"
    );
}

#[test]
fn a_start_has_its_own_timeout_and_a_second_hang_gives_up() {
    let mut play = Play::new("workers.arbiters = 1\nworkers.start_timeout = '20s'\n[restart]\nintensity = 100");
    play.sluggish.insert(WorkerId(0));
    let worker = play.worker(0, GroupId::ROOT, RestartKind::Permanent);
    for round in 1..=2 {
        let (since, thread) = (play.now, ArbiterId(round - 1));
        play.engine.handle(play.now, Input::Beat { arbiter: thread, slot: 1, times: Some(CpuTimes::default()) });
        play.drain();
        let hanging = [WorkerActivity { worker, doing: Activity::Factory, since }];
        let asleep = Some(ThreadSample { state: ThreadState::Sleeping, times: CpuTimes::default() });
        while causes(&play, "w0").len() < round as usize {
            play.outputs.clear();
            play.advance(millis(50));
            if play.outputs.contains(&Output::Inspect { arbiter: thread }) {
                play.order(|engine, now| {
                    engine.handle(now, Input::Inspection { arbiter: thread, busy: hanging.to_vec(), seen: asleep })
                });
            }
            assert!(play.now - since < seconds(21));
        }
        assert!(play.now - since >= seconds(20), "not workers.timeout");
    }
    assert_eq!(play.pick(|event| matches!(event, Event::GaveUp { .. }).then_some(())).len(), 1);
    assert!(play.running.is_empty());
}

#[test]
fn over_the_cap_nothing_is_replaced_and_what_was_chosen_happens() {
    for (chosen, exits) in [("report", false), ("exit", true)] {
        let settings = format!("workers.arbiters = 1\nworkers.zombies_max = 0\nworkers.on_give_up = '{chosen}'");
        let (mut play, first, _) = two(&settings);
        let since = play.now;
        play.advance(millis(5_500));
        play.order(|engine, now| {
            engine.handle(now, Input::Inspection { arbiter: THREAD, busy: vec![busy(first, since)], seen: None })
        });
        assert_eq!(play.pick(|event| matches!(event, Event::TooManyZombies { .. }).then_some(())).len(), 1);
        assert_eq!(play.outputs.contains(&Output::Exit { code: 70 }), exits);
        assert_eq!(causes(&play, "w0"), []);
    }
}

#[test]
fn a_thread_that_ended_costs_each_of_its_workers_one_failure() {
    let (mut play, first, second) = two(ONE);
    play.threads.remove(&THREAD);
    play.order(|engine, now| engine.handle(now, Input::ArbiterDead(THREAD)));
    assert_eq!((causes(&play, "w0"), causes(&play, "w1")), (vec![Cause::ArbiterDead], vec![Cause::ArbiterDead]));
    assert_eq!(play.running.keys().copied().collect::<Vec<_>>(), [first, second]);
    let before = play.outputs.len();
    play.order(|engine, now| engine.handle(now, Input::ArbiterDead(THREAD)));
    assert_eq!(play.outputs.len(), before, "published twice");
}

/// One look at the first worker each second, for so many; `progress` says what is seen then.
fn watch(play: &mut Play, seconds_: u64, mut progress: impl FnMut(u64) -> StatusSample) {
    for second in 0..seconds_ {
        play.advance(seconds(1));
        let slot = play.now.as_nanos() / 1_000_000;
        play.engine.handle(play.now, Input::Beat { arbiter: THREAD, slot, times: None });
        let look = progress(second);
        play.order(|engine, now| engine.handle(now, Input::Looks(vec![look])));
    }
}

fn seen(play: &Play, worker: WorkerId) -> StatusSample {
    StatusSample {
        worker,
        generation: play.running[&worker],
        is_waiting: false,
        queued: 0,
        is_overloaded: false,
        progress: 0,
        health: Health::Ok,
    }
}

#[test]
fn only_an_await_that_holds_up_messages_is_stuck() {
    let cases: [(&str, bool, u32, bool, bool); 4] = [
        ("it does not wait", false, 9, false, false),
        ("no worker waits for it", true, 0, false, false),
        ("it makes progress", true, 9, true, false),
        ("it is stuck", true, 9, false, true),
    ];
    for (what, is_waiting, queued, moves, is_stuck) in cases {
        let (mut play, first, _) = two(ONE);
        let base = StatusSample { is_waiting, queued, ..seen(&play, first) };
        watch(&mut play, 15, |second| StatusSample { progress: if moves { second } else { 0 }, ..base });
        assert_eq!(causes(&play, "w0"), [], "{what}: too early");
        watch(&mut play, 2, |second| StatusSample { progress: if moves { 100 + second } else { 0 }, ..base });
        let causes = causes(&play, "w0");
        assert_eq!(matches!(causes[..], [Cause::AwaitStuck { queued: 9, .. }]), is_stuck, "{what}: {causes:?}");
    }
}

#[test]
fn only_a_reported_failure_replaces_an_unready_worker() {
    let (mut play, first, _) = two(ONE);
    let base = seen(&play, first);
    watch(&mut play, 3, |_| StatusSample { is_overloaded: true, queued: 900, ..base });
    watch(&mut play, 3, |_| StatusSample { health: Health::NotReady, ..base });
    watch(&mut play, 1, |_| base);
    let told = play.pick(|event| match event {
        Event::NotReady { reason, .. } => Some(Some(*reason)),
        Event::Ready { .. } => Some(None),
        _ => None,
    });
    assert_eq!(told, [Some(NotReadyReason::Overloaded), Some(NotReadyReason::Reported), None]);
    assert_eq!(causes(&play, "w0"), []);
    watch(&mut play, 1, |_| StatusSample { health: Health::Failed, ..base });
    assert_eq!(causes(&play, "w0"), [Cause::ReportedFailed]);
    watch(&mut play, 1, |_| StatusSample { health: Health::Failed, ..base });
    assert_eq!(causes(&play, "w0").len(), 1, "a look at a void generation");
}

#[test]
fn a_pause_of_this_process_is_no_workers_fault() {
    let (mut play, first, _) = two(ONE);
    let starting = Supervise::new(WorkerId(5), "w5", 1);
    play.sluggish.insert(WorkerId(5));
    play.worker_with(starting);
    let stuck = StatusSample { is_waiting: true, queued: 1, ..seen(&play, first) };
    watch(&mut play, 10, |_| stuck);
    // Nothing came in for half an hour, although a timeout was due.
    play.now += seconds(1_800);
    play.engine.handle(play.now, Input::Timeout);
    play.drain();
    assert_eq!(play.pick(|event| matches!(event, Event::Paused { .. }).then_some(())).len(), 1);
    watch(&mut play, 14, |_| stuck);
    assert_eq!((causes(&play, "w0"), causes(&play, "w5")), (vec![], vec![]));
    watch(&mut play, 3, |_| stuck);
    assert!(matches!(causes(&play, "w0")[..], [Cause::AwaitStuck { .. }]), "it has all the time anew, and no more");
    let still = StatusSample { queued: 0, ..stuck };
    watch(&mut play, 15, |_| still);
    assert_eq!(causes(&play, "w5"), [Cause::StartTimedOut { after: seconds(30) }]);
}

#[test]
fn a_pause_of_this_process_is_no_silence_of_a_thread() {
    let (mut play, first, _) = two(ONE);
    play.advance(millis(5_500));
    let since = play.now - seconds(1);
    play.order(|engine, now| {
        engine.handle(now, Input::Inspection { arbiter: THREAD, busy: vec![busy(first, since)], seen: None })
    });
    assert_eq!(causes(&play, "w0"), [], "it has just begun");
    play.now += seconds(3_600);
    play.outputs.clear();
    play.engine.handle(play.now, Input::Timeout);
    play.drain();
    assert!(play.outputs.contains(&Output::Inspect { arbiter: THREAD }));
    // It has let go, and its beat is on its way.
    play.order(|engine, now| engine.handle(now, Input::Inspection { arbiter: THREAD, busy: vec![], seen: None }));
    assert_eq!((causes(&play, "w0"), causes(&play, "w1")), (vec![], vec![]));
    play.outputs.clear();
    play.advance(seconds(5) + millis(1_000));
    assert!(play.outputs.contains(&Output::Inspect { arbiter: THREAD }), "it has the time anew, and no more");
    play.order(|engine, now| engine.handle(now, Input::Inspection { arbiter: THREAD, busy: vec![], seen: None }));
    assert!(matches!(causes(&play, "w0")[..], [Cause::ThreadSilent { .. }]));
}

#[test]
fn a_thread_held_by_no_worker_is_lost_after_its_timeout() {
    let (mut play, first, _) = two(ONE);
    let since = play.now;
    play.advance(millis(5_500));
    let asleep = look(ThreadState::Sleeping, 0, 0);
    let progress = since + seconds(5);
    play.order(|engine, now| {
        engine.handle(now, Input::Inspection { arbiter: THREAD, busy: vec![busy(first, progress)], seen: asleep })
    });
    // It lets go a moment before the next look, and its beat is still on the way.
    play.advance(millis(4_600));
    play.order(|engine, now| engine.handle(now, Input::Inspection { arbiter: THREAD, busy: vec![], seen: asleep }));
    play.advance(millis(4_000));
    play.order(|engine, now| engine.handle(now, Input::Inspection { arbiter: THREAD, busy: vec![], seen: asleep }));
    assert_eq!(causes(&play, "w0"), [], "silent for 14 s, but for 4 s with no worker busy");
    play.advance(millis(1_100));
    play.order(|engine, now| engine.handle(now, Input::Inspection { arbiter: THREAD, busy: vec![], seen: asleep }));
    assert!(matches!(causes(&play, "w0")[..], [Cause::ThreadSilent { .. }]));
}

/// A thread may come back while its workers wait to be started again: they must not go on with
/// their queues meanwhile.
#[test]
fn a_zombie_that_wakes_during_the_pause_is_fenced() {
    let settings = "workers.arbiters = 1\n[restart]\ndelay_min = '10s'\ndelay_max = '10s'";
    let (mut play, first, second) = two(settings);
    play.answers = true;
    play.panic(first);
    play.stubborn.insert(second);
    play.stop(Child::Worker(second));
    play.hold(first);
    play.outputs.clear();
    play.advance(millis(5_500));
    assert!(matches!(causes(&play, "w0")[..], [Cause::Panicked { .. }, Cause::HeldThread { .. }]));
    assert!(play.outputs.contains(&Output::Fence { worker: first, why: Interruption::Blocked }));
    assert!(!play.running.contains_key(&first), "it waits");
}

/// A11: each group of a tree may try again as often as its limits allow. After the first two tries
/// each try is one start. An operator's command resets that.
#[test]
fn a11_a_start_that_hangs_ends_its_group_with_few_threads() {
    let settings = "workers.arbiters = 1\nworkers.zombies_max = 3\nworkers.start_timeout = '1s'\n\
        [restart]\nintensity = 4294967295\ndelay_min = '0s'\ndelay_max = '0s'";
    let mut play = Play::new(settings);
    let group = play.group(1, GroupId::ROOT, Strategy::OneForOne);
    play.sluggish.insert(WorkerId(0));
    let worker = play.worker(0, group, RestartKind::Permanent);
    let escalations = |play: &Play| play.pick(|event| matches!(event, Event::Escalated { .. }).then_some(())).len();
    let hang = |play: &mut Play, is_back: bool| {
        let thread = play.at[&worker];
        let hanging = [WorkerActivity { worker, doing: Activity::Started, since: play.now }];
        play.advance(millis(5_100));
        play.order(|engine, now| {
            engine.handle(now, Input::Inspection { arbiter: thread, busy: hanging.to_vec(), seen: None })
        });
        if is_back && play.zombies.remove(&thread) {
            play.order(|engine, now| engine.handle(now, Input::ArbiterEnded(thread)));
        }
    };
    for expected in [0, 1, 2] {
        hang(&mut play, false);
        assert_eq!(escalations(&play), expected);
    }
    hang(&mut play, false);
    assert_eq!((escalations(&play), play.zombies.len()), (2, 3), "one more would be one too many");
    let zombies: Vec<ArbiterId> = std::mem::take(&mut play.zombies).into_iter().collect();
    zombies.into_iter().for_each(|zombie| play.order(|engine, now| engine.handle(now, Input::ArbiterEnded(zombie))));
    for _ in 0..300 {
        hang(&mut play, true);
    }
    let before = escalations(&play);
    assert!(before > 256, "each one a failure of the whole group: {before}");
    play.stop(Child::Group(group));
    play.advance(seconds(10));
    play.start(Child::Worker(worker));
    play.start(Child::Group(group));
    hang(&mut play, true);
    assert_eq!(escalations(&play), before, "asked for anew, it has two starts again");
}
