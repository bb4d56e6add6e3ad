//! A12: a group that fails too often ends, its parent starts it again, fails too often itself, and
//! so on up to the root, which gives up.

use std::time::Duration;

use heartbeat_core::config::RestartConfig;
use heartbeat_core::{Cause, Child, Event, GroupId, Output, RestartKind, Strategy, SuperviseGroup, WorkerId};

use super::order::spec;
use super::play::Play;

use RestartKind::Permanent;

const ONCE: &str = "[restart]\nintensity = 1\nperiod = '60s'\ndelay_min = '0s'\ndelay_max = '0s'";
const VICTIM: WorkerId = WorkerId(1);
const NEIGHBOUR: WorkerId = WorkerId(9);

/// `g1` holds `g2` and `w3`, `g2` holds `w1` and `w2`; each group allows one restart, and so does
/// the root. `w9` is beside them.
fn tree(settings: &str) -> Play {
    let mut play = Play::new(&format!("{settings}\n{ONCE}"));
    let outer = play.group(1, GroupId::ROOT, Strategy::OneForOne);
    let inner = play.group(2, outer, Strategy::OneForAll);
    play.worker(1, inner, Permanent);
    play.worker(2, inner, Permanent);
    play.worker(3, outer, Permanent);
    play.worker(9, GroupId::ROOT, Permanent);
    play.story();
    play
}

fn panics(play: &mut Play, times: usize) {
    (0..times).for_each(|_| play.panic(VICTIM));
}

fn escalated(play: &Play) -> Vec<(String, String)> {
    play.pick(|event| match event {
        Event::Escalated { group, child, restarts: 1, .. } => Some((group.to_string(), child.to_string())),
        _ => None,
    })
}

fn gave_up(play: &Play) -> Vec<String> {
    play.pick(|event| match event {
        Event::GaveUp { worker, .. } => Some(worker.to_string()),
        _ => None,
    })
}

fn pairs_of(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|&(group, child)| (group.to_owned(), child.to_owned())).collect()
}

#[test]
fn a12_an_exhausted_group_is_started_again_by_its_parent() {
    let mut play = tree("");
    panics(&mut play, 1);
    assert_eq!(play.story(), ["-w2", "+w1", "+w2"]);
    panics(&mut play, 1);
    assert_eq!(escalated(&play), pairs_of(&[("g2", "w1")]));
    assert_eq!(play.story(), ["-w2", "+w1", "+w2"], "w3 is not concerned");
    let causes = play.pick(|event| match event {
        Event::GroupStarted { group, cause: Some(Cause::Exhausted { child, .. }) } if **group == *"g2" => {
            Some(child.to_string())
        }
        _ => None,
    });
    assert_eq!(causes, ["w1"]);
    // Its window is a new one: the first failure is answered within it again.
    panics(&mut play, 1);
    assert_eq!(escalated(&play).len(), 1);
}

#[test]
fn a12_an_exhausted_parent_ends_and_the_root_gives_up() {
    let mut play = tree("");
    panics(&mut play, 4);
    assert_eq!(escalated(&play), pairs_of(&[("g2", "w1"), ("g2", "w1"), ("g1", "g2")]));
    assert_eq!(play.story()[9..], ["-w2", "-w3", "+w1", "+w2", "+w3"]);
    panics(&mut play, 4);
    assert_eq!(escalated(&play)[3..], pairs_of(&[("g2", "w1"), ("g2", "w1"), ("g1", "g2")]));
    assert_eq!(gave_up(&play), ["g1"]);
    assert_eq!(play.running.keys().copied().collect::<Vec<_>>(), [NEIGHBOUR]);
    for id in 1..=3 {
        assert!(play.outputs.contains(&Output::Close { worker: WorkerId(id), gave_up: true }), "w{id}");
    }
    play.story();
    play.advance(Duration::from_secs(600));
    assert_eq!(play.story(), [] as [String; 0]);
    play.start(Child::Group(GroupId(1)));
    assert_eq!(play.story(), ["+w1", "+w2", "+w3"], "a command may start it anew");
}

#[test]
fn a12_giving_up_has_the_configured_consequence() {
    for (chosen, exits, leaves) in [("report", 0, false), ("leave", 0, true), ("exit", 1, false)] {
        let mut play = tree(&format!("workers.on_give_up = '{chosen}'\nworkers.exit_code = 42"));
        panics(&mut play, 8);
        assert_eq!(gave_up(&play), ["g1"], "{chosen}");
        assert_eq!(
            play.outputs.iter().filter(|&output| *output == Output::Exit { code: 42 }).count(),
            exits,
            "{chosen}"
        );
        assert_eq!((play.engine.is_leaving(), play.engine.has_left()), (leaves, leaves), "{chosen}");
        assert_eq!(play.running.contains_key(&NEIGHBOUR), !leaves, "{chosen}");
        let place = |wanted: fn(&Output) -> bool| play.outputs.iter().position(wanted);
        if let Some(exit) = place(|output| matches!(output, Output::Exit { .. })) {
            assert!(place(|output| matches!(output, Output::Event(Event::GaveUp { .. }))) < Some(exit));
        }
    }
}

/// The pause of a group that failed: nothing of it runs, nothing of it is closed, and it can be
/// stopped.
#[test]
fn a12_a_group_waits_like_a_worker_before_it_starts_again() {
    let slow = "[restart]\nintensity = 5\nperiod = '1h'\ndelay_min = '10s'\ndelay_max = '10s'";
    for is_stopped in [false, true] {
        let mut play = Play::new(slow);
        let none = RestartConfig { intensity: 0, ..play.engine.config().restart.clone() };
        let strict = SuperviseGroup { restart: Some(none.into()), ..spec(1, GroupId::ROOT) };
        let group = play.group_with(strict);
        play.worker(1, group, Permanent);
        play.worker(2, group, Permanent);
        panics(&mut play, 2);
        play.story();
        assert!(play.running.is_empty());
        assert!(!play.outputs.iter().any(|output| matches!(output, Output::Close { .. })));
        if is_stopped {
            play.stop(Child::Group(group));
        }
        play.advance(Duration::from_millis(10_002));
        let started = play.story();
        assert_eq!(started, if is_stopped { vec![] } else { vec!["+w1".to_owned(), "+w2".to_owned()] });
    }
}

/// T2 for a group: any period holds as many restarts as its intensity, of all its children
/// together; one more is too many.
#[test]
fn t2_the_window_of_a_group_slides_over_all_its_children() {
    let mut play = Play::new("[restart]\nintensity = 3\nperiod = '30s'\ndelay_min = '0s'\ndelay_max = '0s'");
    let group = play.group(1, GroupId::ROOT, Strategy::OneForOne);
    let workers = [1, 2].map(|id| play.worker(id, group, Permanent));
    for round in 0..60 {
        play.panic(workers[round % 2]);
        play.advance(Duration::from_secs(10));
    }
    assert_eq!(escalated(&play), [], "three in any 30 s, the first of four is forgotten at the last moment");
    play.panic(workers[0]);
    play.advance(Duration::from_nanos(9_999_999_999));
    play.panic(workers[1]);
    let escalations = play.pick(|event| matches!(event, Event::Escalated { restarts: 3, .. }).then_some(()));
    assert_eq!(escalations.len(), 1, "a nanosecond too early");
}

/// Nothing recurses: a tree of 500 levels ends as one of two does.
#[test]
fn a12_a_failure_deep_down_is_as_many_steps_as_the_tree_is_deep() {
    let mut play = Play::new(ONCE);
    let mut parent = GroupId::ROOT;
    for id in 1..=500 {
        parent = play.group_with(SuperviseGroup {
            restart: Some(RestartConfig { intensity: 0, ..play.engine.config().restart.clone() }.into()),
            ..spec(id, parent)
        });
    }
    play.worker(1, parent, Permanent);
    panics(&mut play, 2);
    assert_eq!(gave_up(&play), ["g1"]);
    assert_eq!(play.pick(|event| matches!(event, Event::Escalated { .. }).then_some(())).len(), 2 * 500);
}
