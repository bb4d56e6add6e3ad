//! Subscribers: the view first, then everything, and nobody waits for a slow one.

use std::time::Duration;

use actix::prelude::*;
use heartbeat_actors::{Config, Event, Node, Update};
use tokio::sync::mpsc;

use crate::worker::{Add, Fail, Subject};
use crate::{Ear, Events, PATIENCE, config, live};

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
fn a_slow_subscriber_is_told_how_much_it_missed_and_delays_nobody() {
    live(async {
        let mut config = config();
        config.events.queue = 4;
        let node = Node::start(config).await.unwrap();
        let (sender, mut slow) = mpsc::unbounded_channel();
        node.subscribe(Slow(sender).start().recipient());
        assert!(matches!(slow.recv().await, Some(Update::View(_))));
        for index in 0..50 {
            node.supervise(&format!("worker-{index}"), Subject::default).unwrap().send(Add(1)).await.unwrap();
        }
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

#[test]
fn a_subscriber_that_is_gone_is_forgotten() {
    live(async {
        let node = Node::start(Config::default()).await.unwrap();
        let (sender, mut gone) = mpsc::unbounded_channel();
        let ear = Ear(sender).start();
        node.subscribe(ear.clone().recipient());
        assert!(matches!(gone.recv().await, Some(Update::View(_))));
        drop((ear, gone));
        let mut events = Events::of(&node);
        node.supervise("subject", Subject::default).unwrap();
        events.wait("the start", |event| matches!(event, Event::Started { .. }).then_some(())).await;
        node.leave().await;
    });
}
