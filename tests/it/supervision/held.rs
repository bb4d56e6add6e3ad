//! The neighbours of a worker that holds its thread. They wait for the thread, or start anew on
//! another one, as their settings say.

use std::time::Duration;

use heartbeat_core::config::OnThreadHeld;
use heartbeat_core::{
    ArbiterId, Cause, Child, Event, GroupId, Input, NotReadyReason, RestartKind, Strategy, Supervise, SuperviseGroup,
    ThreadSlotId, WorkerId,
};

use super::order::spec;
use super::play::Play;

const ONE: &str =
    "workers.arbiters = 1\nworkers.thread_wait_timeout = '30s'\n[restart]\ndelay_min = '0s'\ndelay_max = '0s'";
const CULPRIT: WorkerId = WorkerId(0);
const NEIGHBOUR: WorkerId = WorkerId(1);
const OTHER: WorkerId = WorkerId(2);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A node with one thread that answers questions about it, and these workers beside the culprit.
fn beside(settings: &str, group: Option<SuperviseGroup>, neighbours: &[(WorkerId, Option<OnThreadHeld>)]) -> Play {
    let mut play = Play::new(settings);
    play.answers = true;
    let group = group.map_or(GroupId::ROOT, |group| play.group_with(group));
    play.worker_with(Supervise { group, ..Supervise::new(CULPRIT, "w0", 1) });
    for &(id, on_thread_held) in neighbours {
        let name = format!("w{}", id.0);
        play.worker_with(Supervise { group, on_thread_held, ..Supervise::new(id, name, 1) });
    }
    beat(&mut play, 1);
    play.story();
    play
}

/// So many seconds pass, with a beat of each thread that is not held in each half of one.
fn beat(play: &mut Play, seconds: u64) {
    for _ in 0..2 * seconds {
        play.advance(Duration::from_millis(500));
        let slot = play.now.as_nanos();
        play.beat(slot);
    }
}

/// The culprit holds the thread until it is found out.
fn hold(play: &mut Play) -> ArbiterId {
    let thread = play.at[&CULPRIT];
    play.hold(CULPRIT);
    beat(play, 6);
    assert!(play.held.contains_key(&thread) || play.zombies.contains(&thread));
    thread
}

/// The thread comes back.
fn let_go(play: &mut Play, thread: ArbiterId) {
    play.held.remove(&thread);
    play.drain();
    beat(play, 1);
}

fn failed(play: &Play, name: &str) -> Vec<Cause> {
    play.pick(|event| match event {
        Event::Failed { worker, cause, .. } if **worker == *name => Some(cause.clone()),
        _ => None,
    })
}

#[test]
fn a_neighbour_waits_for_its_thread_and_goes_on_with_it() {
    let mut play = beside(ONE, None, &[(NEIGHBOUR, None)]);
    let before = play.running[&NEIGHBOUR];
    let thread = hold(&mut play);
    assert_eq!(play.story(), ["+w0"], "only the culprit is started anew");
    let told = play.pick(|event| match event {
        Event::ThreadHeld {
            by: Some(by), cause: Cause::HeldThread { .. }, waiting, started_anew, zombies: 1, ..
        } => {
            assert_eq!((waiting[0].timeout, started_anew.len()), (seconds(30), 0));
            Some((by.to_string(), waiting[0].worker.to_string()))
        }
        _ => None,
    });
    assert_eq!(told, [("w0".to_owned(), "w1".to_owned())]);
    let unready =
        |event: &Event| matches!(event, Event::NotReady { reason: NotReadyReason::ThreadHeld, .. }).then_some(());
    assert_eq!(play.pick(unready).len(), 1);
    let_go(&mut play, thread);
    assert_eq!(play.pick(|event| matches!(event, Event::ThreadReturned { zombies: 0, .. }).then_some(())).len(), 1);
    assert_eq!(play.pick(|event| matches!(event, Event::Ready { .. }).then_some(())).len(), 1);
    beat(&mut play, 100);
    assert_eq!((play.running[&NEIGHBOUR], failed(&play, "w1")), (before, vec![]), "as if nothing had happened");
    assert!(play.threads.contains(&thread) && play.zombies.is_empty());
    play.order(|engine, now| engine.handle(now, Input::Remove(Child::Worker(NEIGHBOUR))));
    assert!(!play.threads.contains(&thread), "its last worker is gone, and so is it");
}

#[test]
fn a_neighbour_that_has_waited_in_vain_starts_anew() {
    let mut play = beside(ONE, None, &[(NEIGHBOUR, None), (OTHER, Some(OnThreadHeld::Wait { timeout: seconds(60) }))]);
    let thread = hold(&mut play);
    play.story();
    beat(&mut play, 28);
    assert_eq!(play.story(), [] as [String; 0]);
    beat(&mut play, 3);
    assert_eq!(play.story(), ["+w1"]);
    assert_eq!(failed(&play, "w1"), [Cause::Displaced { by: "w0".into() }]);
    assert!(play.threads.contains(&thread), "w2 waits for it");
    beat(&mut play, 30);
    assert_eq!(play.story(), ["+w2"]);
    assert!(play.zombies.contains(&thread), "and now none does");
    assert_eq!(play.at[&OTHER], play.at[&CULPRIT], "back where it belongs");
    assert!(play.pick(|event| matches!(event, Event::Abandoned { zombies: 1, .. }).then_some(())).len() == 1);
}

#[test]
fn a_neighbour_that_does_not_wait_starts_anew_at_once() {
    for settings in
        [ONE.to_owned(), ONE.replace("'30s'", "'0s'"), format!("workers.on_thread_held = 'start_anew'\n{ONE}")]
    {
        let own = (settings == ONE).then_some(OnThreadHeld::StartAnew);
        let mut play = beside(&settings, None, &[(NEIGHBOUR, own)]);
        let thread = hold(&mut play);
        assert_eq!(play.story(), ["+w1", "+w0"]);
        assert_eq!(failed(&play, "w1"), [Cause::Displaced { by: "w0".into() }]);
        assert!(play.zombies.contains(&thread));
    }
}

#[test]
fn the_culprit_may_hold_the_next_thread_meanwhile() {
    let settings = format!("workers.zombies_max = 2\n{ONE}");
    let mut play = beside(&settings, None, &[(NEIGHBOUR, None)]);
    let first = hold(&mut play);
    let second = hold(&mut play);
    assert_ne!(first, second);
    assert!(play.zombies.contains(&second) && play.threads.contains(&first), "only the first one is waited for");
    let before = play.at[&CULPRIT];
    let third = hold(&mut play);
    assert_eq!((third, play.at[&CULPRIT]), (before, before), "the cap counts the one that is waited for");
    let_go(&mut play, first);
    beat(&mut play, 6);
    assert_ne!(play.at[&CULPRIT], before, "one came back, so one more may be lost");
    assert_eq!(failed(&play, "w1"), []);
}

#[test]
fn a_waiting_worker_that_is_stopped_has_its_time_once() {
    let mut play = beside(ONE, None, &[(NEIGHBOUR, None), (OTHER, None)]);
    let thread = hold(&mut play);
    play.stop(Child::Worker(NEIGHBOUR));
    assert!(play.open.contains(&NEIGHBOUR));
    beat(&mut play, 6);
    assert!(!play.open.contains(&NEIGHBOUR) && !play.running.contains_key(&NEIGHBOUR), "fenced");
    play.order(|engine, now| engine.handle(now, Input::Remove(Child::Worker(OTHER))));
    assert!(!play.open.contains(&OTHER), "the time is over for all that wait for this thread");
    assert!(play.zombies.contains(&thread), "no worker waits for it any more");
}

#[test]
fn a_waiting_worker_that_is_restarted_starts_at_once() {
    let mut play = beside(ONE, None, &[(NEIGHBOUR, None)]);
    let thread = hold(&mut play);
    play.story();
    play.order(|engine, now| engine.handle(now, Input::Restart(Child::Worker(NEIGHBOUR))));
    assert_eq!(play.story(), ["+w1"]);
    assert!(play.zombies.contains(&thread) && play.at[&NEIGHBOUR] != thread);
}

#[test]
fn the_group_of_a_culprit_restarts_without_waiting() {
    let group = SuperviseGroup { strategy: Strategy::OneForAll, ..spec(1, GroupId::ROOT) };
    let mut play = beside(ONE, Some(group), &[(NEIGHBOUR, None), (OTHER, None)]);
    hold(&mut play);
    assert_eq!(play.story(), ["+w0", "+w1", "+w2"], "all lose their state with the strategy");
}

#[test]
fn a_node_leaves_in_time_while_workers_wait_for_a_thread() {
    let neighbours: Vec<_> = (1..8).map(|id| (WorkerId(id), None)).collect();
    let mut play = beside(ONE, None, &neighbours);
    hold(&mut play);
    play.order(|engine, now| engine.handle(now, Input::Leave));
    play.advance(seconds(5));
    assert!(play.engine.has_left(), "5 s from the verdict on are enough for all of them");
    assert_eq!(play.unread(), []);
}

#[test]
fn a_start_that_was_held_up_has_all_its_time_anew() {
    let mut play = beside(&ONE.replace("'30s'", "'10m'"), None, &[]);
    play.sluggish.insert(NEIGHBOUR);
    play.worker(1, GroupId::ROOT, RestartKind::Permanent);
    let thread = hold(&mut play);
    beat(&mut play, 120);
    assert_eq!(failed(&play, "w1"), [], "its thread could not start it");
    let_go(&mut play, thread);
    beat(&mut play, 28);
    assert_eq!(failed(&play, "w1"), []);
    beat(&mut play, 3);
    assert_eq!(failed(&play, "w1"), [Cause::StartTimedOut { after: seconds(30) }]);
}

#[test]
fn a_held_thread_that_ends_takes_its_waiting_workers_along() {
    let mut play = beside(ONE, None, &[(NEIGHBOUR, None)]);
    let thread = hold(&mut play);
    play.kill(thread);
    assert_eq!(failed(&play, "w1"), [Cause::ArbiterDead]);
    assert!(play.running.contains_key(&NEIGHBOUR) && play.open.contains(&NEIGHBOUR));
    let zombies = play.pick(|event| match event {
        Event::ZombieEnded { zombies, .. } => Some(*zombies),
        _ => None,
    });
    assert_eq!(zombies, [0]);
}

#[test]
fn a_pause_of_our_own_is_no_part_of_a_wait() {
    let mut play = beside(ONE, None, &[(NEIGHBOUR, None)]);
    let thread = hold(&mut play);
    play.now += seconds(3_600);
    play.order(|engine, now| engine.handle(now, Input::Timeout));
    let_go(&mut play, thread);
    assert_eq!(failed(&play, "w1"), []);
}

#[test]
fn a_thread_of_ones_own_that_is_held_is_replaced_alone() {
    let mut play = beside(ONE, None, &[(NEIGHBOUR, None)]);
    let own = play.worker_with(Supervise { thread_slot: ThreadSlotId(7), ..Supervise::new(OTHER, "w2", 1) });
    let before = play.at[&own];
    play.hold(own);
    beat(&mut play, 6);
    assert!(play.zombies.contains(&before) && play.at[&own] != before);
    let threads = play.threads.len();
    play.order(|engine, now| engine.handle(now, Input::Remove(Child::Worker(own))));
    assert_eq!(play.threads.len(), threads - 1);
    assert_eq!(failed(&play, "w1"), []);
}
