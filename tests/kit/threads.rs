//! Threads: of one's own, in a pool, dead.

use heartbeat_actors::testkit::Fault;
use heartbeat_actors::{Cause, Event, Placement, Spec, SuperviseError};

use crate::{Add, Counter, kit, seconds};

// A13
#[test]
fn a_thread_that_ends_is_replaced_with_all_its_workers() {
    kit(async |node| {
        let first = node.supervise("first", Counter::default).unwrap();
        let second = node.supervise("second", Counter::default).unwrap();
        node.settle().await;
        node.strike("first", Fault::EndThread);
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
        let spec = Spec::new("alone").placement(Placement::Dedicated);
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
                let spec = Spec::new(format!("w{index}")).placement(Placement::Pool(arbiters.clone()));
                node.supervise_with(spec, |_| Ok(Counter::default())).unwrap()
            })
            .collect();
        node.settle().await;
        node.inject("w0", Fault::Block(seconds(60)));
        let _stuck = workers[0].send(Add(1));
        node.advance(seconds(6)).await;
        assert!(matches!(node.causes("w0")[..], [Cause::Blocked { .. }]));
        assert!(matches!(node.causes("w2")[..], [Cause::Displaced { .. }]));
        assert_eq!((node.causes("w1"), node.causes("w3")), (vec![], vec![]));
        assert!(matches!(node.arbiters(0), Err(SuperviseError::Arbiters(0))));
    });
}

#[test]
fn a_worker_may_hold_its_thread_for_as_long_as_its_own_spec_says() {
    kit(async |node| {
        let patient = Spec::new("patient").timeout(seconds(20)).placement(Placement::Dedicated);
        let patient = node.supervise_with(patient, |_| Ok(Counter::default())).unwrap();
        let hasty = Spec::new("hasty").timeout(seconds(2)).placement(Placement::Dedicated);
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
