//! Within one node, in virtual time.

use actix::prelude::*;
use heartbeat_actors::entity::EntityStart;
use heartbeat_actors::shard::RemoteMessage;
use heartbeat_actors::spans::{PropagatorIsSet, TARGET, TraceContext, TracePropagator};
use heartbeat_actors::testkit::{self, Fault, TestNode};
use heartbeat_actors::{Config, Context, WorkerAddr};
use serde::{Deserialize, Serialize};
use tracing::{Id, Instrument, Span, trace_span};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;

use crate::Seen;

/// Answers with the number of the span in which it handles.
#[derive(Default)]
struct Echo;

impl Actor for Echo {
    type Context = Context<Self>;
}

/// The number of a span; none if there is none.
type Number = Option<u64>;

fn current() -> Number {
    Span::current().id().map(|id| id.into_u64())
}

#[derive(Message, Serialize, Deserialize, Clone)]
#[rtype(result = "Number")]
struct Ask;

impl RemoteMessage for Ask {
    const NAME: &str = "spans.ask";
}

impl Handler<Ask> for Echo {
    type Result = Number;

    fn handle(&mut self, _: Ask, _: &mut Context<Self>) -> Number {
        current()
    }
}

/// Sends an `Ask` on. Answers with both numbers.
#[derive(Message)]
#[rtype(result = "(Number, Number)")]
struct SendOn(WorkerAddr<Echo>);

impl Handler<SendOn> for Echo {
    type Result = ResponseFuture<(Number, Number)>;

    fn handle(&mut self, on: SendOn, _: &mut Context<Self>) -> Self::Result {
        // The future runs after the handler, in its span.
        let answer = async move { (current(), on.0.send(Ask).await.unwrap()) };
        Box::pin(answer.in_current_span())
    }
}

/// Runs a test on a node, with a subscriber that wants spans as low as this level.
fn traced<F: Future<Output = ()>>(level: LevelFilter, test: impl FnOnce(TestNode, Seen) -> F) {
    let seen = Seen::default();
    let _until_the_end = tracing::subscriber::set_default(Registry::default().with(level).with(seen.clone()));
    testkit::run(Config::from_toml("workers.arbiters = 1").unwrap(), |node| test(node, seen));
}

/// Checks the span in which a message was handled: it is a root span with these fields, and follows
/// from the sender's.
#[track_caller]
fn check(seen: &Seen, handled: Number, sender: Option<&Span>, worker: &str, kind: &str) {
    let made = seen.find(&Id::from_u64(handled.expect("the handler runs in a span")));
    assert_eq!((made.target, made.name, made.is_root), (TARGET, "message", true));
    let follows: Vec<Id> = sender.and_then(Span::id).into_iter().collect();
    assert_eq!(made.follows, follows);
    let fields: Vec<(&str, &str)> = made.fields.iter().map(|(name, value)| (*name, &**value)).collect();
    let message = std::any::type_name::<Ask>();
    assert_eq!(fields, [("kind", kind), ("message", message), ("worker", worker)]);
    assert!(made.is_closed, "nothing keeps the span of a message that was handled");
}

#[test]
fn each_kind_of_worker_handles_in_a_span_after_its_senders() {
    traced(LevelFilter::TRACE, async |node, seen| {
        let sender = trace_span!("sender");
        let worker = node.supervise("echo", || Echo).unwrap().accept::<Ask>();
        let pool = node.root().pool("pool", 1, || Echo).unwrap();
        let shards = node.supervise_shards("shards", 1, |_| Ok(Echo)).unwrap();
        let entities = node.supervise_entities("entities", 1, |_: &EntityStart| Ok(Echo)).unwrap();
        node.settle().await;
        let plain = worker.clone();
        for (reply, name, kind) in [
            (sender.in_scope(|| worker.send(Ask)), "echo", "worker"),
            (sender.in_scope(|| pool.send(Ask)), "pool/0", "worker"),
            (sender.in_scope(|| shards.send("key", Ask)), "shards/0", "shard"),
            (sender.in_scope(|| entities.send("key", Ask)), "entities/0/key", "entity"),
        ] {
            check(&seen, reply.await.unwrap(), Some(&sender), name, kind);
        }
        check(&seen, plain.send(Ask).await.unwrap(), None, "echo", "worker");
        assert_eq!(current(), None, "no span outlives its handler");
    });
}

#[test]
fn a_message_without_an_answer_has_a_span_too() {
    traced(LevelFilter::TRACE, async |node, seen| {
        let sender = trace_span!("sender");
        let worker = node.supervise("echo", || Echo).unwrap();
        sender.in_scope(|| worker.do_send(Ask));
        sender.in_scope(|| worker.try_send(Ask).unwrap());
        node.settle().await;
        let follows: Vec<_> = seen.messages().into_iter().map(|made| made.follows).collect();
        assert_eq!(follows, [vec![sender.id().unwrap()], vec![sender.id().unwrap()]]);
    });
}

#[test]
fn what_a_handler_sends_follows_from_its_message() {
    traced(LevelFilter::TRACE, async |node, seen| {
        let first = node.supervise("first", || Echo).unwrap();
        let second = node.supervise("second", || Echo).unwrap();
        let (of_first, of_second) = first.send(SendOn(second)).await.unwrap();
        let made = seen.find(&Id::from_u64(of_second.unwrap()));
        assert_eq!((made.follows, made.is_root), (vec![Id::from_u64(of_first.unwrap())], true));
    });
}

#[test]
fn the_senders_span_is_kept_until_its_message_is_handled() {
    traced(LevelFilter::TRACE, async |node, seen| {
        let worker = node.supervise("echo", || Echo).unwrap();
        node.settle().await;
        let (handled, dropped) = (trace_span!("handled"), trace_span!("dropped"));
        let ids = [&handled, &dropped].map(|span| span.id().unwrap());
        let replies = [(handled, true), (dropped, false)].map(|(span, is_kept)| {
            let reply = span.in_scope(|| worker.send(Ask));
            is_kept.then_some(reply)
        });
        assert!(ids.iter().all(|id| !seen.find(id).is_closed), "they wait in the queue");
        node.settle().await;
        assert!(ids.iter().all(|id| seen.find(id).is_closed), "{:?}", seen.all());
        assert_eq!(seen.messages().len(), 1, "the other message was cancelled");
        drop(replies);
    });
}

#[test]
fn a_span_ends_with_a_handler_that_panics() {
    traced(LevelFilter::TRACE, async |node, seen| {
        let worker = node.supervise("echo", || Echo).unwrap();
        node.inject("echo", Fault::Panic("told to fail".to_owned()));
        assert!(worker.send(Ask).await.is_err());
        let sender = trace_span!("sender");
        let reply = sender.in_scope(|| worker.send(Ask));
        check(&seen, reply.await.unwrap(), Some(&sender), "echo", "worker");
        assert!(seen.messages().iter().all(|made| made.is_closed));
    });
}

#[test]
fn no_span_is_made_that_no_subscriber_wants() {
    traced(LevelFilter::DEBUG, async |node, seen| {
        let worker = node.supervise("echo", || Echo).unwrap();
        let sender = tracing::debug_span!("sender");
        let reply = sender.in_scope(|| worker.send(Ask));
        assert_eq!(reply.await, Ok(None));
        assert_eq!(seen.messages(), []);
        assert_eq!(seen.all().len(), 1, "the sender's own is there");
    });
    testkit::run(Config::default(), async |node| {
        let worker = node.supervise("echo", || Echo).unwrap();
        assert_eq!(worker.send(Ask).await, Ok(None), "without a subscriber");
    });
}

/// A thread may have a subscriber of its own. The numbers of its spans mean nothing to another one.
#[test]
fn the_senders_subscriber_gets_the_span() {
    traced(LevelFilter::TRACE, async |node, of_worker| {
        let worker = node.supervise("echo", || Echo).unwrap();
        node.settle().await;
        let of_sender = Seen::default();
        let (sender, reply) = tracing::subscriber::with_default(Registry::default().with(of_sender.clone()), || {
            let sender = trace_span!("sender");
            let reply = sender.in_scope(|| worker.send(Ask));
            (sender, reply)
        });
        reply.await.unwrap();
        assert_eq!(of_worker.messages(), []);
        let [made] = &of_sender.messages()[..] else { panic!("{:?}", of_sender.all()) };
        assert_eq!(made.follows, [sender.id().unwrap()]);
    });
}

struct Never;

impl TracePropagator for Never {
    fn inject(&self, _: &Span) -> Option<TraceContext> {
        panic!("nothing leaves this node")
    }

    fn extract(&self, _: &TraceContext, _: &Span) {
        panic!("nothing comes to this node")
    }
}

#[test]
fn a_propagator_is_set_once_and_not_asked_within_a_node() {
    traced(LevelFilter::TRACE, async |node, seen| {
        assert_eq!(node.set_trace_propagator(Never), Ok(()));
        assert_eq!(node.set_trace_propagator(Never), Err(PropagatorIsSet));
        let worker = node.supervise("echo", || Echo).unwrap().accept::<Ask>();
        let sender = trace_span!("sender");
        let reply = sender.in_scope(|| worker.send(Ask));
        check(&seen, reply.await.unwrap(), Some(&sender), "echo", "worker");
    });
}
