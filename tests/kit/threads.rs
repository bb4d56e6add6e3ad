//! Threads: of one's own, in a pool, dead.

use actix::prelude::*;
use heartbeat_actors::config::OnThreadHeld;
use heartbeat_actors::event::{Cause, NotReadyReason};
use heartbeat_actors::testkit::Fault;
use heartbeat_actors::worker::Placement;
use heartbeat_actors::{Context, Event, SendError, SuperviseError, WorkerSpec};

use crate::{Add, Counter, kit, millis, seconds};

// A13
#[test]
fn a_thread_that_ends_is_replaced_with_all_its_workers() {
    kit(async |node| {
        let first = node.supervise("first", Counter::default).unwrap();
        let second = node.supervise("second", Counter::default).unwrap();
        node.settle().await;
        node.inject_now("first", Fault::EndThread);
        node.settle().await;
        let waiting = (first.send(Add(1)), second.send(Add(2)));
        node.advance(seconds(2)).await;
        assert_eq!((waiting.0.await, waiting.1.await), (Ok(1), Ok(2)));
        for name in ["first", "second"] {
            assert_eq!(node.causes(name), [Cause::ArbiterDead]);
        }
    });
}

#[test]
fn a_worker_on_a_thread_of_its_own_stops_nobody_else() {
    kit(async |node| {
        let spec = WorkerSpec::new("alone").placement(Placement::Dedicated);
        let alone = node.supervise_with(spec, |_| Ok(Counter::default())).unwrap();
        let other = node.supervise("other", Counter::default).unwrap();
        node.settle().await;
        node.inject("alone", Fault::Block(seconds(60)));
        let stuck = alone.send(Add(1));
        node.settle().await;
        assert_eq!(other.send(Add(1)).await, Ok(1), "while the other one is blocked");
        node.advance(seconds(6)).await;
        assert!(stuck.await.is_err());
        assert_eq!(alone.send(Add(1)).await, Ok(1));
        assert_eq!(node.causes("other"), []);
    });
}

#[test]
fn workers_on_a_pool_of_threads_share_those_in_turn() {
    kit(async |node| {
        let arbiters = node.arbiters(2).unwrap();
        let workers: Vec<_> = (0..4)
            .map(|index| {
                let spec = WorkerSpec::new(format!("w{index}")).placement(Placement::Pool(arbiters.clone()));
                node.supervise_with(spec, |_| Ok(Counter::default())).unwrap()
            })
            .collect();
        node.settle().await;
        node.inject("w0", Fault::Block(seconds(60)));
        let _stuck = workers[0].send(Add(1));
        node.advance(seconds(6)).await;
        assert!(matches!(node.causes("w0")[..], [Cause::Blocked { .. }]));
        let unready = |name: &str| node.view().worker(name).unwrap().unready;
        assert_eq!((unready("w1"), unready("w3")), (None, None));
        assert_eq!(unready("w2"), Some(NotReadyReason::ThreadHeld), "it waits for the thread that it shares with w0");
        for name in ["w1", "w2", "w3"] {
            assert_eq!(node.causes(name), []);
        }
        assert!(matches!(node.arbiters(0), Err(SuperviseError::Arbiters(0))));
    });
}

#[test]
fn a_worker_may_hold_its_thread_as_long_as_its_spec_says() {
    kit(async |node| {
        let patient = WorkerSpec::new("patient").timeout(seconds(20)).placement(Placement::Dedicated);
        let patient = node.supervise_with(patient, |_| Ok(Counter::default())).unwrap();
        let hasty = WorkerSpec::new("hasty").timeout(seconds(2)).placement(Placement::Dedicated);
        let hasty = node.supervise_with(hasty, |_| Ok(Counter::default())).unwrap();
        node.settle().await;
        node.inject("patient", Fault::Block(seconds(19)));
        node.inject("hasty", Fault::Block(seconds(19)));
        let (long, short) = (patient.send(Add(1)), hasty.send(Add(1)));
        node.advance(seconds(3)).await;
        assert!(matches!(node.causes("hasty")[..], [Cause::Blocked { .. }]));
        assert!(short.await.is_err());
        node.advance(seconds(17)).await;
        assert_eq!(long.await, Ok(1));
        assert_eq!(node.causes("patient"), []);
        assert_eq!(node.pick(|event| matches!(event, Event::Abandoned { .. }).then_some(())).len(), 1);
    });
}

/// Answers after a while, from a future.
#[derive(Message)]
#[rtype(result = "u64")]
struct Later;

impl Handler<Later> for Counter {
    type Result = ResponseActFuture<Self, u64>;

    fn handle(&mut self, _: Later, _: &mut Context<Self>) -> Self::Result {
        let soon = actix::fut::wrap_future::<_, Self>(tokio::time::sleep(seconds(20)));
        Box::pin(soon.map(|(), counter, _| counter.total))
    }
}

#[test]
fn a_blocked_neighbour_keeps_its_state_and_its_answers() {
    kit(async |node| {
        let blocker = node.supervise("blocker", Counter::default).unwrap();
        let neighbour = node.supervise("neighbour", Counter::default).unwrap();
        assert_eq!(neighbour.send(Add(41)).await, Ok(41));
        let later = neighbour.send(Later);
        node.settle().await;
        node.inject("blocker", Fault::Block(seconds(60)));
        let stuck = blocker.send(Add(1));
        node.advance(seconds(6)).await;
        assert!(matches!(stuck.await, Err(SendError::Interrupted(_))));
        assert_eq!(blocker.send(Add(1)).await, Ok(1), "on a fresh thread");
        let queued = neighbour.send(Add(1));
        node.advance(seconds(10)).await;
        let status = neighbour.status();
        assert!(status.is_live && !status.is_ready, "{status:?}");
        assert_eq!(status.not_ready, Some(NotReadyReason::ThreadHeld));
        node.advance(seconds(60)).await;
        assert_eq!((queued.await, later.await), (Ok(42), Ok(42)), "as with plain actix");
        assert!(neighbour.is_ready());
        assert_eq!((node.causes("neighbour"), neighbour.generation().0), (vec![], 1));
        assert_eq!(node.pick(|event| matches!(event, Event::ThreadReturned { zombies: 0, .. }).then_some(())).len(), 1);
        node.inject_now("neighbour", Fault::Panic(crate::MEANT.into()));
        node.settle().await;
        assert_eq!(neighbour.send(Add(1)).await, Ok(1), "the thread is one like any other now");
    });
}

#[test]
fn a_neighbour_that_waited_in_vain_keeps_its_queue() {
    kit(async |node| {
        let blocker = node.supervise("blocker", Counter::default).unwrap();
        let spec = |name: &str, policy| WorkerSpec::new(name).on_thread_held(policy);
        let patient = spec("patient", OnThreadHeld::Wait { timeout: seconds(20) });
        let patient = node.supervise_with(patient, |_| Ok(Counter::default())).unwrap();
        let hasty = node.supervise_with(spec("hasty", OnThreadHeld::StartAnew), |_| Ok(Counter::default())).unwrap();
        assert_eq!((patient.send(Add(5)).await, hasty.send(Add(5)).await), (Ok(5), Ok(5)));
        node.inject("blocker", Fault::Block(seconds(600)));
        let _stuck = blocker.send(Add(1));
        node.settle().await;
        let queued = (patient.send(Add(1)), hasty.send(Add(1)));
        node.advance(seconds(6)).await;
        assert_eq!(queued.1.await, Ok(1), "started anew at once, with its queue");
        assert!(!patient.is_ready() && node.causes("patient").is_empty());
        node.advance(seconds(21)).await;
        assert_eq!(queued.0.await, Ok(1), "started anew after its wait, with its queue");
        for name in ["patient", "hasty"] {
            assert_eq!(node.causes(name), [Cause::Displaced { by: "blocker".into() }]);
        }
        node.advance(seconds(600)).await;
        assert_eq!(node.pick(|event| matches!(event, Event::ZombieEnded { zombies: 0, .. }).then_some(())).len(), 1);
        assert_eq!((patient.generation() > hasty.generation(), patient.send(Add(1)).await), (false, Ok(2)));
    });
}

#[test]
fn a_waiting_worker_that_is_removed_answers_its_queue() {
    kit(async |node| {
        let blocker = node.supervise("blocker", Counter::default).unwrap();
        let neighbour = node.supervise("neighbour", Counter::default).unwrap();
        node.settle().await;
        node.inject("blocker", Fault::Block(seconds(600)));
        let _stuck = blocker.send(Add(1));
        node.settle().await;
        let queued = neighbour.send(Add(1));
        node.advance(seconds(6)).await;
        neighbour.stop();
        node.advance(seconds(6)).await;
        assert!(queued.await.is_err(), "its thread is held still, and its sender learns of it");
        assert_eq!(neighbour.send(Add(1)).await, Err(SendError::Closed));
    });
}

/// The reported pauses before each new try to make a thread.
fn pauses(node: &heartbeat_actors::testkit::TestNode) -> Vec<u64> {
    node.pick(|event| match event {
        Event::NoThread { retry_in, .. } => Some(retry_in.as_secs()),
        _ => None,
    })
}

#[test]
fn a_worker_waits_for_a_thread_that_cannot_be_had() {
    kit(async |node| {
        node.refuse_threads(6);
        let spec = WorkerSpec::new("alone").placement(Placement::Dedicated).intensity(0, seconds(1));
        let alone = node.supervise_with(spec, |_| Ok(Counter::default())).unwrap();
        let waiting = alone.send(Add(1));
        node.advance(seconds(60)).await;
        assert!(!alone.is_ready());
        assert_eq!(alone.send(Add(1)).within(millis(1)).await, Err(SendError::TimedOut));
        // Start timeouts would have given it up twice.
        node.advance(seconds(2)).await;
        assert_eq!(waiting.await, Ok(1));
        assert_eq!(pauses(&node), [1, 2, 4, 8, 16, 30]);
        assert_eq!(node.causes("alone"), []);

        // A worker that waits for a thread can be stopped at once, and started when there is one.
        node.refuse_threads(1);
        alone.stop();
        node.settle().await;
        alone.start();
        node.settle().await;
        let (begun, late) = (node.elapsed(), alone.send(Add(1)));
        alone.stop();
        assert_eq!(late.await, Err(SendError::Closed));
        assert_eq!(node.elapsed(), begun);
        alone.start();
        node.settle().await;
        assert_eq!(alone.send(Add(1)).within(seconds(5)).await, Ok(1));
        node.refuse_threads(1);
        alone.restart();
        assert!(alone.send(Add(1)).within(seconds(5)).await.is_ok());
    });
}

#[test]
fn neighbours_of_a_blocked_worker_wait_for_a_thread() {
    kit(async |node| {
        let first = node.supervise("first", Counter::default).unwrap();
        let spec = WorkerSpec::new("second").intensity(0, seconds(1));
        let second = node.supervise_with(spec, |_| Ok(Counter::default())).unwrap();
        node.settle().await;
        node.refuse_threads(4);
        node.inject("first", Fault::Block(seconds(3_600)));
        let (stuck, waiting) = (first.send(Add(1)), second.send(Add(7)));
        node.advance(seconds(3_700)).await;
        assert!(stuck.await.is_err());
        assert_eq!(waiting.await, Ok(7));
        assert_eq!(first.send(Add(1)).await, Ok(1));
        assert_eq!(pauses(&node), [1, 2, 4, 8]);
        assert!(matches!(node.causes("first")[..], [Cause::Blocked { .. }]), "{:?}", node.causes("first"));
        let causes = node.causes("second");
        assert!(causes.iter().all(|cause| matches!(cause, Cause::Displaced { .. })), "{causes:?}");
        assert_eq!(node.pick(|event| matches!(event, Event::GaveUp { .. }).then_some(())), []);
    });
}
