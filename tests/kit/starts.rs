//! Starts that fail, take long, hang, or are never over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use actix::prelude::*;
use heartbeat_actors::event::Cause;
use heartbeat_actors::testkit::Fault;
use heartbeat_actors::view::WorkerState;
use heartbeat_actors::{Context, Event, WorkerSpec};

use crate::{Add, Counter, MEANT, kit, kit_with, seconds};

#[test]
fn a_start_that_fails_is_tried_again_and_its_messages_wait() {
    kit(async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        node.settle().await;
        node.inject("counter", Fault::FailStart("told to be closed".into()));
        node.inject("counter", Fault::Stop);
        assert_eq!(counter.send(Add(1)).await, Ok(1));
        let waiting = counter.send(Add(7));
        node.advance(seconds(1)).await;
        assert_eq!(waiting.await, Ok(7));
        let causes = node.causes("counter");
        let [Cause::Stopped, Cause::StartFailed { reason }] = &causes[..] else { panic!("{causes:?}") };
        assert_eq!(&**reason, "told to be closed");
    });
}

#[test]
fn a_slow_start_is_waited_for_and_one_that_is_never_over_is_not() {
    kit(async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        node.settle().await;
        node.inject("counter", Fault::SlowStart(seconds(29)));
        counter.restart();
        node.advance(seconds(28)).await;
        assert!(!counter.is_ready());
        node.advance(seconds(2)).await;
        assert!(counter.is_ready());
        assert_eq!(node.causes("counter"), []);

        node.inject("counter", Fault::SlowStart(seconds(31)));
        counter.restart();
        node.advance(seconds(31)).await;
        assert_eq!(node.causes("counter"), [Cause::StartTimedOut { after: seconds(30) }]);
        assert!(counter.is_ready());
    });
}

// A11
#[test]
fn a_start_that_holds_its_thread_twice_is_given_up() {
    kit_with("workers.zombies_max = 100", async |node| {
        let spec = WorkerSpec::new("counter").start_timeout(seconds(8));
        let counter = node.supervise_with(spec, |_| Ok(Counter::default())).unwrap();
        node.settle().await;
        node.inject("counter", Fault::HangStart(seconds(600)));
        counter.restart();
        node.settle().await;
        for round in 0..2 {
            // For its replacement.
            node.inject("counter", Fault::HangStart(seconds(600)));
            node.advance(seconds(6)).await;
            assert_eq!(node.causes("counter").len(), round, "a start has its own time, not workers.timeout");
            node.advance(seconds(3)).await;
            assert_eq!(node.causes("counter").len(), round + 1);
        }
        let causes = node.causes("counter");
        assert!(causes.iter().all(|cause| matches!(cause, Cause::Blocked { .. })), "{causes:?}");
        assert_eq!(node.pick(|event| matches!(event, Event::GaveUp { .. }).then_some(())).len(), 1);
        assert_eq!(node.pick(|event| matches!(event, Event::Abandoned { .. }).then_some(())).len(), 2, "bounded");
    });
}

// A11
#[test]
fn over_the_cap_of_blocked_threads_a_node_can_leave() {
    kit_with("workers.zombies_max = 2\nworkers.on_give_up = 'leave'", async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        for _ in 0..3 {
            node.inject("counter", Fault::Block(seconds(600)));
            let _ = counter.try_send(Add(1));
            node.advance(seconds(7)).await;
        }
        assert_eq!(node.pick(|event| matches!(event, Event::Abandoned { .. }).then_some(())).len(), 2);
        assert_eq!(node.pick(|event| matches!(event, Event::TooManyZombies { .. }).then_some(())).len(), 1);
        node.advance(seconds(30)).await;
        assert!(counter.try_send(Add(1)).is_err(), "it has left");
    });
}

/// Connects to something before it serves, and may never come to it.
struct Client {
    connects_in: Option<u64>,
}

impl Actor for Client {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        context.starting();
        if let Some(time) = self.connects_in {
            context.run_later(seconds(time), |_, context| context.up());
        }
    }
}

impl Handler<Add> for Client {
    type Result = u64;

    fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
        add.0
    }
}

#[test]
fn a_worker_that_reports_its_own_start_serves_before_ready() {
    kit(async |node| {
        let client = node.supervise("client", || Client { connects_in: Some(10) }).unwrap();
        assert_eq!(client.send(Add(3)).await, Ok(3));
        node.advance(seconds(9)).await;
        assert!(!client.is_ready());
        node.advance(seconds(2)).await;
        assert!(client.is_ready());

        let never = node.supervise("never", || Client { connects_in: None }).unwrap();
        node.advance(seconds(31)).await;
        assert_eq!(node.causes("never"), [Cause::StartTimedOut { after: seconds(30) }]);
        assert!(!never.is_ready());
    });
}

#[test]
fn a_factory_that_panics_is_a_failed_start() {
    kit(async |node| {
        let tries = std::sync::atomic::AtomicU32::new(0);
        let counter = node
            .supervise("counter", move || {
                assert!(tries.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0, "told to be out of stock");
                Counter::default()
            })
            .unwrap();
        assert_eq!(counter.send(Add(1)).await, Ok(1));
        node.settle().await;
        assert!(
            matches!(&node.causes("counter")[..], [Cause::StartFailed { reason }] if reason.contains("out of stock"))
        );
    });
}

// The view tells where a worker stands, and which life it has or had.
#[test]
fn the_view_says_where_a_worker_stands_and_in_which_life() {
    let settings = "[restart]\nintensity = 4\nperiod = '1h'\ndelay_min = '10s'\ndelay_max = '10s'\nreset_after = '10h'";
    kit_with(settings, async |node| {
        let attempts = Arc::new(AtomicU64::new(0));
        let counted = attempts.clone();
        let births = Arc::new(Mutex::new(Vec::new()));
        let born = births.clone();
        let worker = node
            .supervise_with(WorkerSpec::new("w"), move |start_info| {
                born.lock().unwrap().push(start_info.generation.0);
                match counted.fetch_add(1, Ordering::SeqCst) {
                    0 => Ok(Counter::default()),
                    _ => Err("no more".into()),
                }
            })
            .unwrap();
        let seen = || node.view().worker("w").map(|seen| (seen.state, seen.generation.0)).unwrap();
        node.settle().await;
        assert_eq!(seen(), (WorkerState::Up, 1));
        node.inject_now("w", Fault::Stop);
        node.settle().await;
        let (state, generation) = seen();
        assert!(matches!(state, WorkerState::Waiting(_)), "{state:?}");
        assert_eq!(generation, 2, "the life that did not start");
        node.advance(seconds(60)).await;
        assert_eq!(seen(), (WorkerState::GivenUp, 5));
        let expected: Vec<u64> = (1..=5).collect();
        assert_eq!(*births.lock().unwrap(), expected);
        let told = node.pick(|event| match event {
            Event::Failed { generation, .. } => Some(generation.0),
            _ => None,
        });
        assert_eq!((told, worker.generation().0), (expected, 5));
        worker.stop();
        worker.start();
        node.settle().await;
        assert_eq!(worker.generation().0, 7, "two more that did not start");
    });
}

#[test]
fn a_worker_replaced_from_outside_has_the_next_number_too() {
    kit(async |node| {
        let worker = node.supervise("w", Counter::default).unwrap();
        node.settle().await;
        let seen = || node.view().worker("w").map(|seen| (seen.state, seen.generation.0)).unwrap();
        for life in 2..6 {
            match life % 2 {
                0 => {
                    node.inject("w", Fault::Block(seconds(60)));
                    let _stuck = worker.send(Add(1));
                    node.advance(seconds(6)).await;
                }
                _ => {
                    node.inject_now("w", Fault::Panic(MEANT.into()));
                    node.settle().await;
                }
            }
            assert_eq!((seen(), worker.generation().0), ((WorkerState::Up, life), life));
            node.advance(seconds(600)).await;
        }
        worker.restart();
        node.settle().await;
        assert_eq!((seen(), worker.status().generation.0), ((WorkerState::Up, 6), 6));
        worker.stop();
        node.settle().await;
        assert_eq!(seen(), (WorkerState::Stopped, 6));
    });
}
