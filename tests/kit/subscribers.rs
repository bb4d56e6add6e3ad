//! Subscribers that are workers, streams and closures.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use heartbeat_actors::prelude::*;
use heartbeat_actors::testkit::Fault;
use heartbeat_actors::{Event, Update};

use crate::{Add, Counter, MEANT, kit};

/// Subscribes in each of its lives.
struct Auditor {
    node: Node,
    told: Arc<Mutex<Vec<Update>>>,
}

impl Actor for Auditor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.node.subscribe(context.address().recipient());
    }
}

impl Handler<Update> for Auditor {
    type Result = ();

    fn handle(&mut self, update: Update, _: &mut Context<Self>) {
        self.told.lock().unwrap().push(update);
    }
}

fn starts(told: &[Update], name: &str) -> usize {
    let is_start =
        |update: &&Update| matches!(update, Update::Event(Event::Started { worker, .. }) if **worker == *name);
    told.iter().filter(is_start).count()
}

#[test]
fn a_worker_that_subscribes_in_each_life_is_told_once() {
    kit(async |node| {
        let told = Arc::new(Mutex::new(Vec::new()));
        let factory = {
            let (node, told) = (Node::clone(&node), told.clone());
            move || Auditor { node: node.clone(), told: told.clone() }
        };
        let auditor = node.supervise("auditor", factory).unwrap();
        auditor.until_up().await.unwrap();
        for _ in 0..3 {
            node.inject_now("auditor", Fault::Panic(format!("{MEANT} fail")));
            node.advance(crate::seconds(31)).await;
        }
        node.supervise("counter", Counter::default).unwrap();
        node.settle().await;
        let told = told.lock().unwrap();
        assert_eq!(starts(&told, "counter"), 1, "not once a life");
        let views = told.iter().filter(|update| matches!(update, Update::View(_))).count();
        assert_eq!(views, 4, "each life begins with the view");
    });
}

#[test]
fn a_stream_of_events_begins_with_the_view() {
    kit(async |node| {
        let mut updates = node.updates();
        let counter = node.supervise("counter", Counter::default).unwrap();
        counter.send(Add(1)).await.unwrap();
        assert!(matches!(updates.next().await, Some(Update::View(_))));
        let Some(Update::Event(event)) = updates.next().await else { panic!("no event") };
        assert_eq!(event.name(), "started");
    });
}

#[test]
fn a_closure_of_a_name_takes_the_place_of_the_one_before() {
    kit(async |node| {
        let told: [Rc<RefCell<Vec<Update>>>; 2] = Default::default();
        for told in &told {
            let told = told.clone();
            node.subscribe_fn("audit", move |update| told.borrow_mut().push(update));
            node.settle().await;
        }
        node.supervise("counter", Counter::default).unwrap();
        node.settle().await;
        assert_eq!(starts(&told[0].borrow(), "counter"), 0, "another one has its place");
        assert_eq!(starts(&told[1].borrow(), "counter"), 1);
    });
}
