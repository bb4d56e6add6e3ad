//! Deaths are noticed in time, and nothing else is taken for one.

use std::time::Duration;

use heartbeat_core::{Event, WorkerId};
use heartbeat_tests::Fault;

use crate::{after, at, check_well, lines, quiet_world};

#[test]
fn a_crash_is_suspected_then_concluded_within_the_timeout() {
    for seed in 0..20 {
        let mut world = quiet_world(seed);
        let killed = world.elapsed().as_secs_f64();
        after(&mut world, Fault::Kill(2), 10);
        let (suspected, died) =
            (lines(&world, &["monitor ", "Suspected", "node-2"]), lines(&world, &["monitor ", "Died", "node-2"]));
        assert_eq!((suspected.len(), died.len()), (1, 1));
        // At most one interval passed since its last heartbeat, so both come up to that much before
        // their bound, and never after it.
        let (suspected, died) = (at(suspected[0]) - killed, at(died[0]) - killed);
        assert!(suspected > 2.0 && suspected < 3.01, "suspected after {suspected} s");
        assert!(died > 5.0 && died < 6.01, "dead after {died} s");
        check_well(&world);
    }
}

#[test]
fn everybody_is_told_of_a_death() {
    let mut world = quiet_world(1);
    after(&mut world, Fault::Kill(2), 10);
    for node in ["monitor", "node-1", "node-3", "node-4"] {
        assert_eq!(lines(&world, &[&format!("{node} "), "Died { node: \"node-2\""]).len(), 1, "{node}");
    }
}

#[test]
fn second_hand_news_says_which_member_brought_it() {
    let mut world = quiet_world(4);
    after(&mut world, Fault::Kill(2), 10);
    let (mut own, mut brought) = (0, 0);
    for (_, _, event) in world.events() {
        let (Event::Suspected { evidence, told_by, silent_for, .. }
        | Event::Died { evidence, told_by, silent_for, .. }) = event
        else {
            continue;
        };
        match told_by {
            Some(told_by) => {
                brought += 1;
                assert!(evidence.is_empty() && silent_for.is_zero());
                assert!(["monitor", "node-1", "node-3", "node-4"].contains(&&**told_by), "{told_by}");
            }
            None => {
                own += 1;
                assert!(!evidence.is_empty(), "a verdict of its own: {event:?}");
            }
        }
    }
    assert_eq!((own, brought), (2, 6), "the monitor's suspicion and verdict, and what three others were told");
}

#[test]
fn a_pause_shorter_than_the_timeout_is_no_death() {
    let mut world = quiet_world(2);
    after(&mut world, Fault::Pause(2), 4);
    after(&mut world, Fault::Resume(2), 10);
    assert_eq!(lines(&world, &["Suspected", "node-2"]).len(), 4, "the monitor and the three others");
    assert_eq!(lines(&world, &["Died"]), [] as [&str; 0]);
    assert_eq!(lines(&world, &["Failed"]), [] as [&str; 0], "its own workers were not blamed for its pause");
    check_well(&world);
}

#[test]
fn a_monitor_that_was_paused_blames_nobody() {
    for timers_first in [false, true] {
        let mut world = quiet_world(3);
        world.timers_first = timers_first;
        after(&mut world, Fault::Pause(0), 20);
        after(&mut world, Fault::Resume(0), 20);
        assert_eq!(lines(&world, &["monitor ", "Paused"]).len(), 1, "told once, however much waited");
        assert_eq!(lines(&world, &["monitor ", "Suspected"]), [] as [&str; 0]);
        assert_eq!(lines(&world, &["Died"]), [] as [&str; 0]);
        assert_eq!(lines(&world, &["Failed"]), [] as [&str; 0], "nor its own workers");
        check_well(&world);
    }
}

#[test]
fn loss_duplication_and_reordering_are_no_death() {
    let mut world = quiet_world(4);
    after(&mut world, Fault::Disturb(0.05, 0.2, 0.2), 600);
    assert_eq!(lines(&world, &["Died"]), [] as [&str; 0]);
    assert_eq!(lines(&world, &["Isolated"]), [] as [&str; 0]);
    after(&mut world, Fault::Heal, 5);
    check_well(&world);
}

#[test]
fn a_blocked_thread_is_noticed_within_its_bound_and_the_right_worker_is_blamed() {
    for seed in 0..20 {
        let mut world = quiet_world(seed);
        let bound = world.config.workers.timeout + world.config.workers.interval + Duration::from_millis(10);
        let blocked = world.elapsed().as_secs_f64();
        after(&mut world, Fault::Block(1, WorkerId(2), Duration::from_secs(30)), 40);
        let failed = lines(&world, &["Failed", "Blocked"]);
        assert_eq!(failed.len(), 1);
        assert!(failed[0].contains("worker-2") && failed[0].contains("during: Message(\"Block\")"), "{}", failed[0]);
        let replaced = lines(&world, &["Replaced", "Blocked"]);
        assert!(at(replaced[0]) - blocked <= bound.as_secs_f64(), "{}", replaced[0]);
        assert_eq!(lines(&world, &["Failed"]).len(), 1, "its neighbours waited");
        assert_eq!(lines(&world, &["ThreadReturned", "zombies: 0"]).len(), 1);
        check_well(&world);
    }
}
