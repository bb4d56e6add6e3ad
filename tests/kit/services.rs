//! Services: one worker of a type, found by the type.

use heartbeat_actors::prelude::*;
use heartbeat_actors::testkit::Fault;

use crate::{Add, Counter, MEANT, kit, seconds};

#[test]
fn a_service_is_started_once_and_found_by_its_type() {
    kit(async |node| {
        assert!(node.find_service::<Counter>().is_none(), "a look starts nothing");
        let counter = node.service::<Counter>().unwrap();
        assert_eq!(node.service::<Counter>().unwrap(), counter);
        assert!(counter.name().ends_with("Counter"), "{}", counter.name());
        assert_eq!(counter.send(Add(2)).await, Ok(2));
        node.inject(counter.name(), Fault::Panic(format!("{MEANT} fail")));
        assert!(counter.send(Add(2)).await.is_err());
        assert_eq!(node.service::<Counter>().unwrap().send(Add(3)).await, Ok(3), "a replacement is the same service");
    });
}

#[test]
fn a_service_that_was_removed_is_started_anew() {
    kit(async |node| {
        let first = node.service::<Counter>().unwrap();
        first.remove();
        node.advance(seconds(10)).await;
        assert!(node.find_service::<Counter>().is_none());
        let second = node.service::<Counter>().unwrap();
        assert_ne!(first, second);
        assert_eq!(second.send(Add(1)).await, Ok(1));
    });
}

#[test]
fn a_worker_of_ones_own_can_be_the_service() {
    kit(async |node| {
        let spec = WorkerSpec::new("counter").capacity(4);
        let mine = node.supervise_with(spec, |_| Ok(Counter { total: 40 })).unwrap();
        node.set_service(&mine);
        assert_eq!(node.service::<Counter>().unwrap(), mine);
        assert_eq!(node.service::<Counter>().unwrap().send(Add(2)).await, Ok(42));
    });
}
