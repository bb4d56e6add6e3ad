//! Deaths are noticed in time, and nothing else is taken for one.

use std::time::Duration;

use heartbeat_core::{Activity, Cause, Event, WorkerId};
use heartbeat_sim::Fault;

use crate::events::{
    is_death, is_death_of, is_failure, is_isolated, is_paused, is_suspicion, is_suspicion_of, seen, seen_by,
};
use crate::{after, check_well, quiet_world};

#[test]
fn a_crash_is_suspected_then_concluded_within_the_timeout() {
    for seed in 0..20 {
        let mut world = quiet_world(seed);
        let node_2 = world.node("node-2");
        let killed = world.elapsed();
        after(&mut world, Fault::Kill(node_2), 10);
        let (suspected, died) =
            (seen_by(&world, "monitor", is_suspicion_of("node-2")), seen_by(&world, "monitor", is_death_of("node-2")));
        assert_eq!((suspected.len(), died.len()), (1, 1));
        // At most one interval passed since its last heartbeat, so both come up to that much before
        // their bound, and never after it.
        let [suspected, died] = [suspected, died].map(|seen| (seen[0].at - killed).as_secs_f64());
        assert!(suspected > 2.0 && suspected < 3.01, "suspected after {suspected} s");
        assert!(died > 5.0 && died < 6.01, "dead after {died} s");
        check_well(&world);
    }
}

#[test]
fn every_node_learns_of_a_death() {
    let mut world = quiet_world(1);
    let node_2 = world.node("node-2");
    after(&mut world, Fault::Kill(node_2), 10);
    for node in ["monitor", "node-1", "node-3", "node-4"] {
        assert_eq!(seen_by(&world, node, is_death_of("node-2")).len(), 1, "{node}");
    }
}

#[test]
fn second_hand_news_says_which_member_brought_it() {
    let mut world = quiet_world(4);
    let node_2 = world.node("node-2");
    after(&mut world, Fault::Kill(node_2), 10);
    let (mut own, mut brought) = (0, 0);
    for (_, _, event) in world.events() {
        let (Event::Suspected { evidence, reported_by, silent_for, .. }
        | Event::Died { evidence, reported_by, silent_for, .. }) = event
        else {
            continue;
        };
        match reported_by {
            Some(reported_by) => {
                brought += 1;
                assert!(evidence.is_empty() && silent_for.is_zero());
                assert!(["monitor", "node-1", "node-3", "node-4"].contains(&&**reported_by), "{reported_by}");
            }
            None => {
                own += 1;
                assert!(!evidence.is_empty(), "a verdict of its own: {event:?}");
            }
        }
    }
    assert_eq!((own, brought), (2, 6), "the monitor's suspicion and verdict, and what three others learnt of them");
}

#[test]
fn a_pause_shorter_than_the_timeout_is_no_death() {
    let mut world = quiet_world(2);
    let node_2 = world.node("node-2");
    after(&mut world, Fault::Pause(node_2), 4);
    after(&mut world, Fault::Resume(node_2), 10);
    assert_eq!(seen(&world, is_suspicion_of("node-2")).len(), 4, "the monitor and the three others");
    assert_eq!(seen(&world, is_death), []);
    assert_eq!(seen(&world, is_failure), [], "its own workers were not blamed for its pause");
    check_well(&world);
}

#[test]
fn a_monitor_that_was_paused_suspects_no_node() {
    for timers_first in [false, true] {
        let mut world = quiet_world(3);
        let monitor = world.node("monitor");
        world.timers_first = timers_first;
        after(&mut world, Fault::Pause(monitor), 20);
        after(&mut world, Fault::Resume(monitor), 20);
        assert_eq!(seen_by(&world, "monitor", is_paused).len(), 1, "published once, however much waited");
        assert_eq!(seen_by(&world, "monitor", is_suspicion), []);
        assert_eq!(seen(&world, is_death), []);
        assert_eq!(seen(&world, is_failure), [], "nor its own workers");
        check_well(&world);
    }
}

#[test]
fn loss_duplication_and_reordering_are_no_death() {
    let mut world = quiet_world(4);
    after(&mut world, Fault::Disturb(0.05, 0.2, 0.2), 600);
    assert_eq!(seen(&world, is_death), []);
    assert_eq!(seen(&world, is_isolated), []);
    after(&mut world, Fault::Heal, 5);
    check_well(&world);
}

#[test]
fn a_blocked_thread_is_noticed_in_time_at_the_right_worker() {
    for seed in 0..20 {
        let mut world = quiet_world(seed);
        let node_1 = world.node("node-1");
        let bound = world.config.workers.timeout + world.config.workers.interval + Duration::from_millis(10);
        let blocked = world.elapsed();
        after(&mut world, Fault::Block(node_1, WorkerId(2), Duration::from_secs(30)), 40);
        let is_blocked = |event: &Event| {
            let block = Activity::Message("Block");
            matches!(event, Event::Failed { worker, cause: Cause::Blocked { during, .. }, .. }
                if &**worker == "worker-2" && *during == block)
        };
        assert_eq!(seen(&world, is_blocked).len(), 1);
        let is_replaced = |event: &Event| matches!(event, Event::Replaced { cause: Cause::Blocked { .. }, .. });
        let replaced = seen(&world, is_replaced);
        assert!(replaced[0].at - blocked <= bound, "{:?}", replaced[0]);
        assert_eq!(seen(&world, is_failure).len(), 1, "its neighbours waited");
        assert_eq!(seen(&world, |event| matches!(event, Event::ThreadReturned { zombies: 0, .. })).len(), 1);
        check_well(&world);
    }
}
