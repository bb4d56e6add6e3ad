//! Subscribers: the view first, then every update; a slow subscriber delays no node.

use std::time::Duration;

use actix::prelude::*;
use heartbeat_actors::{Event, Node, Update};
use tokio::sync::mpsc;

use crate::worker::{Add, Fail, Subject};
use crate::{Events, PATIENCE, config, live};

#[test]
fn the_view_comes_first_and_then_each_event_in_order() {
    live(async {
        let node = Node::start(config()).await.unwrap();
        let mut events = Events::of(&node);
        let subject = node.supervise("subject", Subject::default).unwrap();
        let _ = subject.send(Fail::Now).await;
        assert!(matches!(events.next().await, Update::View(_)));
        let mut kinds = Vec::new();
        while kinds.len() < 3 {
            if let Update::Event(event) = events.next().await {
                kinds.push(format!("{event:?}").split(' ').next().unwrap().to_owned());
            }
        }
        assert_eq!(kinds, ["Started", "Failed", "Replaced"]);
        node.leave().await;
    });
}

/// Takes a while for each update.
struct Slow(mpsc::UnboundedSender<Update>);

impl Actor for Slow {
    type Context = actix::Context<Self>;
}

impl Handler<Update> for Slow {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, update: Update, _: &mut Self::Context) -> Self::Result {
        let _ = self.0.send(update); // The test may be over.
        AtomicResponse::new(Box::pin(tokio::time::sleep(Duration::from_millis(200)).into_actor(self)))
    }
}

#[test]
fn a_slow_subscriber_learns_how_much_it_missed() {
    live(async {
        let mut config = config();
        config.events.queue = 4;
        let node = Node::start(config).await.unwrap();
        let (sender, mut slow) = mpsc::unbounded_channel();
        node.subscribe(Slow(sender).start().recipient());
        assert!(matches!(slow.recv().await, Some(Update::View(_))));
        let mut fast = Events::of(&node);
        assert!(matches!(fast.next().await, Update::View(_)));
        for index in 0..50 {
            let name = format!("worker-{index}");
            node.supervise(&name, Subject::default).unwrap().send(Add(1)).await.unwrap();
            match fast.next().await {
                Update::Event(Event::Started { worker, .. }) => {
                    assert_eq!(*worker, *name, "each at once, none left out")
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(slow.len() < 50, "the slow one has not seen all of it yet");
        let (mut seen, mut missed) = (0, 0);
        while seen + missed < 50 {
            match tokio::time::timeout(PATIENCE, slow.recv()).await.unwrap().unwrap() {
                Update::Event(Event::Started { .. }) => seen += 1,
                Update::Lagged { missed: count } => missed += count,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen + missed, 50, "what was not seen was counted");
        assert!(missed > 0);
        node.leave().await;
    });
}

/// Ends in its own way at the first update.
enum Gone {
    Stops,
    Panics,
}

impl Actor for Gone {
    type Context = actix::Context<Self>;
}

impl Handler<Update> for Gone {
    type Result = ();

    fn handle(&mut self, _: Update, context: &mut Self::Context) {
        match self {
            Gone::Stops => context.stop(),
            Gone::Panics => panic!("told to leave like this"),
        }
    }
}

#[test]
fn subscribers_that_go_take_nobody_along() {
    live(async {
        let node = Node::start(config()).await.unwrap();
        let (stops, panics) = (Gone::Stops.start(), Gone::Panics.start());
        node.subscribe(stops.clone().recipient());
        node.subscribe(panics.clone().recipient());
        let mut events = Events::of(&node);
        while stops.connected() || panics.connected() {
            tokio::task::yield_now().await;
        }
        assert!(matches!(events.next().await, Update::View(_)));
        for index in 0..20 {
            let name = format!("worker-{index}");
            node.supervise(&name, Subject::default).unwrap();
            match events.next().await {
                Update::Event(Event::Started { worker, .. }) => assert_eq!(*worker, *name),
                other => panic!("{other:?}"),
            }
        }
        node.leave().await;
    });
}
