//! Groups of real actors. The rules themselves are tested in core; here, that actors follow them.

use std::time::Duration;

use actix::prelude::*;
use heartbeat_actors::event::Cause;
use heartbeat_actors::group::{AutoShutdown, GroupSpec, Strategy};
use heartbeat_actors::testkit::{Fault, TestNode};
use heartbeat_actors::worker::{Interruption, RestartKind};
use heartbeat_actors::{Context, Event, SendError, SuperviseError, WorkerSpec};

use crate::{Add, Counter, MEANT, kit, kit_with, millis, panicked, seconds};

fn told() -> Fault {
    Fault::Panic(format!("{MEANT} fail"))
}

/// The names of the workers that were started, replaced or stopped, in order, each with what
/// happened.
fn story(node: &TestNode) -> Vec<String> {
    node.pick(|event| match event {
        Event::Started { worker, .. } => Some(format!("+{worker}")),
        Event::Replaced { worker, .. } => Some(format!("^{worker}")),
        Event::Stopped { worker, .. } => Some(format!("-{worker}")),
        _ => None,
    })
}

#[test]
fn children_start_in_order_and_stop_in_reverse() {
    kit(async |node| {
        let group = node.root().group(GroupSpec::new("shop")).unwrap();
        for name in ["db", "cache", "web"] {
            group.supervise(name, Slow::default).unwrap();
        }
        node.advance(millis(1_500)).await;
        assert_eq!(story(&node), ["+db"], "each takes a second to be up");
        node.advance(seconds(2)).await;
        assert_eq!(story(&node), ["+db", "+cache", "+web"]);
        group.stop();
        node.settle().await;
        assert_eq!(story(&node)[3..], ["-web", "-cache", "-db"]);
        assert!(!node.view().group("shop").unwrap().running);
        group.start();
        node.advance(seconds(4)).await;
        assert_eq!(story(&node)[6..], ["+db", "+cache", "+web"]);
    });
}

#[test]
fn one_for_all_and_rest_for_one_keep_the_queues() {
    for (strategy, expected) in [
        (Strategy::OneForAll, ["-c", "-a", "^a", "^b", "^c"].as_slice()),
        (Strategy::RestForOne, ["-c", "^b", "^c"].as_slice()),
        (Strategy::OneForOne, ["^b"].as_slice()),
    ] {
        kit(async |node| {
            let group = node.root().group(GroupSpec::new("three").strategy(strategy)).unwrap();
            let [a, b, c] = ["a", "b", "c"].map(|name| group.supervise(name, Counter::default).unwrap());
            node.settle().await;
            a.send(Add(10)).await.unwrap();
            node.inject("b", told());
            let (failing, kept) = (b.send(Add(1)), (a.send(Add(1)), b.send(Add(1)), c.send(Add(1))));
            assert_eq!(failing.await, Err(panicked()));
            node.settle().await;
            assert_eq!(story(&node)[3..], *expected, "{strategy:?}");
            let answers = (kept.0.await.unwrap(), kept.1.await.unwrap(), kept.2.await.unwrap());
            assert_eq!((answers.1, answers.2), (1, 1));
            if strategy == Strategy::OneForAll {
                assert_eq!(node.pick(sibling), ["b", "b"]);
            }
        });
    }
}

fn sibling(event: &Event) -> Option<String> {
    match event {
        Event::Replaced { cause: Cause::Sibling { sibling }, .. } => Some(sibling.to_string()),
        _ => None,
    }
}

// A12
#[test]
fn a_parent_restarts_an_exhausted_group_until_it_gives_up() {
    kit_with("restart.delay_min = '0s'\nrestart.delay_max = '0s'", async |node| {
        let outer = node.root().group(GroupSpec::new("outer").intensity(1, seconds(60))).unwrap();
        let inner = outer.group(GroupSpec::new("inner").intensity(2, seconds(60))).unwrap();
        let worker = inner.supervise("worker", Counter::default).unwrap();
        node.settle().await;
        let mut panics = 0;
        loop {
            node.inject("worker", told());
            match worker.send(Add(1)).await {
                Err(SendError::Interrupted(Interruption::Panicked(_))) => panics += 1,
                Err(SendError::GaveUp) => break,
                other => panic!("{other:?}"),
            }
            node.settle().await;
        }
        // Two restarts and an escalation make three panics for a life of inner, twice that for one
        // of outer; the root restarts that five times.
        assert_eq!(panics, 3 * 2 * 6);
        let escalations = |name: &str| node.view().group(name).unwrap().escalations;
        assert_eq!((escalations("inner"), escalations("outer")), (12, 6));
        let gave_up = node.pick(|event| match event {
            Event::GaveUp { worker, .. } => Some(worker.to_string()),
            _ => None,
        });
        assert_eq!(gave_up, ["outer"]);
    });
}

#[test]
fn a_group_ends_with_its_significant_child() {
    kit(async |node| {
        let spec = GroupSpec::new("job").auto_shutdown(AutoShutdown::AnySignificant).restart(RestartKind::Transient);
        let group = node.root().group(spec).unwrap();
        let helper = group.supervise("helper", Counter::default).unwrap();
        let main = WorkerSpec::new("main").restart(RestartKind::Transient).significant();
        let main = group.supervise_with(main, |_| Ok(Counter::default())).unwrap();
        node.settle().await;
        node.inject("main", Fault::Stop);
        assert_eq!(main.send(Add(1)).await, Ok(1));
        node.settle().await;
        assert_eq!(helper.send(Add(1)).await, Err(SendError::Closed));
        let refused = group.supervise_with(WorkerSpec::new("x").significant(), |_| Ok(Counter::default())).unwrap_err();
        assert!(matches!(refused, SuperviseError::Significant(_)), "{refused}");
        let temporary = WorkerSpec::new("y").restart(RestartKind::Temporary).significant();
        let refused = node.supervise_with(temporary, |_| Ok(Counter::default())).unwrap_err();
        assert!(refused.to_string().contains("auto_shutdown"), "{refused}");
    });
}

#[test]
fn a_template_starts_any_number_and_forgets_those_that_end() {
    kit(async |node| {
        let spec = WorkerSpec::new("session").restart(RestartKind::Temporary);
        let sessions = node.root().template(spec, |start: &u64, _| Ok(Counter { total: *start })).unwrap();
        for round in 0..3_000 {
            let session = sessions.start(round).unwrap();
            node.inject(session.name(), Fault::Stop);
            assert_eq!(session.send(Add(1)).await, Ok(round + 1));
            node.settle().await;
            assert_eq!(session.send(Add(1)).await, Err(SendError::Closed));
        }
        assert_eq!(node.view().workers().len(), 0);
        let last = sessions.start(0).unwrap();
        assert_eq!(last.send(Add(1)).await, Ok(1));
        assert!(node.view().worker(last.name()).unwrap().id.0 < 10, "numbers are used again");
        sessions.group().remove();
        node.settle().await;
        assert_eq!(node.view().group("session"), None);
        assert!(node.root().group(GroupSpec::new("session")).is_ok(), "the name is free");
    });
}

#[test]
fn a_pool_and_a_template_restart_with_the_group_they_are_in() {
    kit(async |node| {
        let shop = node.root().group(GroupSpec::new("shop").strategy(Strategy::OneForAll)).unwrap();
        let till = shop.supervise("till", Counter::default).unwrap();
        let pool = shop.pool("packers", 2, Counter::default).unwrap();
        let carts = shop.template(WorkerSpec::new("cart"), |total: &u64, _| Ok(Counter { total: *total })).unwrap();
        let cart = carts.start(7).unwrap();
        shop.until_up().await.unwrap();
        let generations = || {
            let members: Vec<u64> = pool.members().iter().map(|member| member.generation().0).collect();
            (till.generation().0, members, cart.generation().0)
        };
        assert_eq!(generations(), (1, vec![1, 1], 1));
        assert_eq!(pool.send_by("key", Add(2)).await, Ok(2));
        assert_eq!(cart.send(Add(2)).await, Ok(9));

        shop.restart();
        shop.until_up().await.unwrap();
        assert_eq!(generations(), (2, vec![2, 2], 2), "its own restart");
        assert_eq!(pool.send_by("key", Add(2)).await, Ok(2), "a new generation counts from zero");
        assert_eq!(cart.send(Add(2)).await, Ok(9), "from its argument again");

        node.inject("till", told());
        assert_eq!(till.send(Add(1)).await, Err(panicked()));
        node.settle().await;
        shop.until_up().await.unwrap();
        assert_eq!(generations(), (3, vec![3, 3], 3), "a sibling's failure");
        assert!(node.view().group("packers").unwrap().running);

        shop.remove();
        node.settle().await;
        assert_eq!(node.view().workers().len(), 0);
        assert_eq!((node.view().group("packers"), node.view().group("cart")), (None, None));
    });
}

#[test]
fn a_child_that_stops_too_late_is_fenced_and_the_others_stop() {
    kit(async |node| {
        let group = node.root().group(GroupSpec::new("pair")).unwrap();
        let first = group.supervise("first", Counter::default).unwrap();
        let second = group.supervise("second", Counter::default).unwrap();
        node.settle().await;
        node.inject("second", Fault::Block(seconds(4)));
        let stuck = second.send(Add(1));
        node.settle().await;
        group.stop();
        node.advance(millis(3_900)).await;
        assert!(first.try_send(Add(1)).is_ok(), "its turn comes when the second one is down");
        node.advance(millis(200)).await;
        assert_eq!(stuck.await, Ok(1), "it had 5 s, and needed 4");
        group.start();
        node.settle().await;
        node.inject("second", Fault::AwaitStuck);
        let stuck = second.send(Add(1));
        node.settle().await;
        group.stop();
        node.advance(millis(5_100)).await;
        let stopped = || Err(SendError::Interrupted(Interruption::Stopped));
        assert_eq!(stuck.await, stopped(), "an answer that does not come is waited for as long as a stop may take");
        assert_eq!(node.pick(|event| matches!(event, Event::Fenced { .. }).then_some(())).len(), 1);
        let limit = WorkerSpec::new("third").shutdown_timeout(Duration::from_millis(500));
        let third = node.supervise_with(limit, |_| Ok(Counter::default())).unwrap();
        node.settle().await;
        node.inject("third", Fault::Block(seconds(4)));
        let stuck = third.send(Add(1));
        node.settle().await;
        third.stop();
        node.advance(millis(600)).await;
        assert_eq!(stuck.await, stopped());
        assert_eq!(node.pick(|event| matches!(event, Event::Fenced { .. }).then_some(())).len(), 2);
    });
}

/// Takes a second to be up.
#[derive(Default)]
struct Slow;

impl Actor for Slow {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.wait(tokio::time::sleep(seconds(1)).into_actor(self));
    }
}

/// Commands to a group and to its child, one right after the other.
const COMMANDS: [&str; 6] = ["g.start", "g.restart", "g.stop", "w.start", "w.restart", "w.stop"];

/// Does three of them in a row, and asks. Returns whether the child runs in the end.
fn check_commands(kind: RestartKind, commands: [&'static str; 3]) -> bool {
    let answered = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = answered.clone();
    kit(async move |node| {
        let group = node.root().group(GroupSpec::new("g")).unwrap();
        let worker = group.supervise_with(WorkerSpec::new("w").restart(kind), |_| Ok(Counter::default())).unwrap();
        node.settle().await;
        for command in commands {
            match command {
                "g.start" => group.start(),
                "g.restart" => group.restart(),
                "g.stop" => group.stop(),
                "w.start" => worker.start(),
                "w.restart" => worker.restart(),
                _ => worker.stop(),
            }
        }
        node.advance(seconds(1)).await;
        let answer = worker.send(Add(1)).within(seconds(60)).await;
        let is_live = worker.status().is_live;
        assert_eq!(is_live, answer.is_ok(), "{kind:?} {commands:?}: {answer:?}");
        assert!(is_live || answer == Err(SendError::Closed), "{kind:?} {commands:?}: {answer:?}");
        told.store(is_live, std::sync::atomic::Ordering::Relaxed);
    });
    answered.load(std::sync::atomic::Ordering::Relaxed)
}

#[test]
fn no_commands_in_a_row_leave_a_queue_that_nothing_reads() {
    for kind in [RestartKind::Permanent, RestartKind::Temporary] {
        for first in COMMANDS {
            for second in COMMANDS {
                for third in COMMANDS {
                    check_commands(kind, [first, second, third]);
                }
            }
        }
    }
    use RestartKind::{Permanent, Temporary};
    assert!(!check_commands(Permanent, ["w.start", "g.stop", "w.start"]), "its group is down");
    assert!(check_commands(Permanent, ["g.stop", "w.start", "g.start"]));
    for kind in [Permanent, Temporary] {
        assert!(check_commands(kind, ["w.stop", "g.restart", "w.start"]), "{kind:?}: asked for last");
        assert!(!check_commands(kind, ["w.start", "g.restart", "w.stop"]), "{kind:?}: told to stop last");
    }
}

#[test]
fn what_is_taken_on_by_a_removed_group_goes_with_it() {
    kit(async |node| {
        let group = node.root().group(GroupSpec::new("group")).unwrap();
        node.settle().await;
        group.remove();
        let late = group.supervise("late", Counter::default).unwrap();
        let inner = group.group(GroupSpec::new("inner")).unwrap();
        let later = inner.supervise("later", Counter::default).unwrap();
        node.settle().await;
        for worker in [late, later] {
            assert_eq!(worker.send(Add(1)).within(seconds(1)).await, Err(SendError::Closed));
        }
        assert_eq!(node.supervise("late", Counter::default).unwrap().send(Add(1)).await, Ok(1), "the name is free");
    });
}
