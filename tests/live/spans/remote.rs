//! Between two nodes over real sockets. Their threads have a subscriber each, so that neither knows
//! a span of the other, as if they were two processes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use heartbeat_actors::entity::EntityStart;
use heartbeat_actors::shard::RemoteMessage;
use heartbeat_actors::spans::{TraceContext, TracePropagator};
use heartbeat_actors::{Config, Context, Node};
use serde::{Deserialize, Serialize};
use tracing::dispatcher::{DefaultGuard, Dispatch};
use tracing::{Id, Instrument, Span, trace_span};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use crate::{Made, Seen};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

const COUNT: u32 = 8;

/// A tracing system: it keeps a context for each span, by its number.
#[derive(Clone, Default)]
struct Contexts(Arc<Mutex<HashMap<Id, TraceContext>>>);

impl Contexts {
    fn of(&self, span: &Span) -> Option<TraceContext> {
        self.0.lock().unwrap().get(&span.id()?).copied()
    }

    fn set(&self, span: &Span, context: TraceContext) {
        self.0.lock().unwrap().insert(span.id().unwrap(), context);
    }
}

impl TracePropagator for Contexts {
    fn inject(&self, sender: &Span) -> Option<TraceContext> {
        self.of(sender)
    }

    /// The handler's span is a child of the remote one: of the same trace, with a number of its
    /// own.
    fn extract(&self, context: &TraceContext, handler: &Span) {
        let number = handler.id().unwrap().into_u64().to_be_bytes();
        self.set(handler, TraceContext::new(context.trace_id(), number, context.flags()).unwrap());
    }
}

/// What the workers of a node have.
#[derive(Clone)]
struct Part {
    name: &'static str,
    contexts: Contexts,
    seen: Seen,
    subscriber: Dispatch,
}

impl Part {
    fn new(name: &'static str) -> Part {
        let seen = Seen::default();
        Part { name, contexts: Contexts::default(), subscriber: Registry::default().with(seen.clone()).into(), seen }
    }

    fn echo(&self) -> Echo {
        Echo { part: self.clone(), node: None, subscribed: None }
    }
}

struct Echo {
    part: Part,
    /// Where it sends on from.
    node: Option<Node>,
    subscribed: Option<DefaultGuard>,
}

impl Actor for Echo {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        // For its thread.
        self.subscribed = Some(tracing::dispatcher::set_default(&self.part.subscriber));
    }
}

/// Asks for the node, and for the trace of the span in which it is handled, as a `traceparent`.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "(String, Option<String>)")]
struct Ask;

impl RemoteMessage for Ask {
    const NAME: &str = "spans.ask";
}

impl Handler<Ask> for Echo {
    type Result = MessageResult<Ask>;

    fn handle(&mut self, _: Ask, _: &mut Context<Self>) -> Self::Result {
        let context = self.part.contexts.of(&Span::current()).map(|context| context.to_string());
        MessageResult((self.part.name.to_owned(), context))
    }
}

/// Asks the worker `echo` of this member.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "(String, Option<String>)")]
struct AskAt(String);

impl RemoteMessage for AskAt {
    const NAME: &str = "spans.ask_at";
}

impl Handler<AskAt> for Echo {
    type Result = ResponseFuture<(String, Option<String>)>;

    fn handle(&mut self, at: AskAt, _: &mut Context<Self>) -> Self::Result {
        let node = self.node.clone().unwrap();
        let answer = async move { node.remote::<Echo>(&at.0, "echo").send(Ask).await.unwrap() };
        Box::pin(answer.in_current_span())
    }
}

async fn start(part: &Part, seeds: &[String]) -> Node {
    let config = format!(
        "interval = '100ms'
         timeout = '5s'
         [workers]
         arbiters = 1
         [cluster]
         name = 'spans'
         node = '{}'
         role = 'worker'
         mode = 'random'
         listen = '127.0.0.1:0'
         seeds = {seeds:?}",
        part.name
    );
    let node = Node::start(Config::from_toml(&config).unwrap()).await.unwrap();
    let (of_worker, sends_from) = (part.clone(), node.clone());
    let echo = move || Echo { node: Some(sends_from.clone()), ..of_worker.echo() };
    drop(node.supervise("echo", echo).unwrap().accept::<Ask>().accept::<AskAt>());
    node
}

/// Runs a test with two nodes that know each other.
fn two_nodes<F: Future<Output = ()>>(test: impl FnOnce([(Part, Node); 2]) -> F) {
    let body = async {
        let (one, two) = (Part::new("one"), Part::new("two"));
        let first = start(&one, &[]).await;
        let second = start(&two, &[first.address().unwrap().to_string()]).await;
        while first.view().member("two").is_none() || second.view().member("one").is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let nodes = [first.clone(), second.clone()];
        test([(one, first), (two, second)]).await;
        for node in nodes {
            node.leave().await;
        }
    };
    actix::System::new().block_on(async { tokio::time::timeout(PATIENCE * 3, body).await.expect("the test hangs") });
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A span of this node that belongs to a trace.
fn sender(part: &Part) -> Span {
    tracing::dispatcher::with_default(&part.subscriber, || {
        let sender = trace_span!("sender");
        part.contexts.set(&sender, PARENT.parse().unwrap());
        sender
    })
}

/// Sends within a span, with the subscriber that it belongs to.
fn within<T>(part: &Part, span: &Span, send: impl FnOnce() -> T) -> T {
    tracing::dispatcher::with_default(&part.subscriber, || span.in_scope(send))
}

/// Checks that a handler of node two ran in a span of the trace, with a number of its own.
#[track_caller]
fn check(part: &Part, answer: (String, Option<String>)) {
    let (node, context) = answer;
    assert_eq!(node, "two");
    let context: TraceContext = context.expect("the trace has arrived").parse().unwrap();
    let sent: TraceContext = PARENT.parse().unwrap();
    assert_eq!((context.trace_id(), context.flags()), (sent.trace_id(), sent.flags()));
    let made = part.seen.find(&Id::from_u64(u64::from_be_bytes(context.parent_id())));
    assert!(made.is_root && made.follows.is_empty(), "the sender's span is in another process: {made:?}");
}

#[test]
fn a_trace_arrives_at_the_handler_of_another_node() {
    two_nodes(async |[(one, first), (two, second)]| {
        first.set_trace_propagator(one.contexts.clone()).unwrap();
        second.set_trace_propagator(two.contexts.clone()).unwrap();
        let sender = sender(&one);
        let remote = first.remote::<Echo>("two", "echo");
        check(&two, within(&one, &sender, || remote.send(Ask)).within(PATIENCE).await.unwrap());
        // Untraced: no span, or one of no trace.
        assert_eq!(remote.send(Ask).within(PATIENCE).await, Ok(("two".to_owned(), None)));
        // Over two hops and back: what the handler sends is of the same trace.
        let (node, back) =
            within(&one, &sender, || remote.send(AskAt("one".to_owned()))).within(PATIENCE).await.unwrap();
        let back: TraceContext = back.expect("the trace has come back").parse().unwrap();
        assert_eq!((&*node, back.trace_id()), ("one", PARENT.parse::<TraceContext>().unwrap().trace_id()));
    });
}

#[test]
fn shards_and_entities_pass_the_trace_on() {
    two_nodes(async |[(one, first), (two, second)]| {
        first.set_trace_propagator(one.contexts.clone()).unwrap();
        second.set_trace_propagator(two.contexts.clone()).unwrap();
        let groups = [(&one, &first), (&two, &second)].map(|(part, node)| {
            let (of_shard, of_entity) = (part.clone(), part.clone());
            let shards = node.supervise_shards("shards", COUNT, move |_| Ok(of_shard.echo())).unwrap();
            let entity = move |_: &EntityStart| Ok(of_entity.echo());
            (shards.accept::<Ask>(), node.supervise_entities("entities", COUNT, entity).unwrap().accept::<Ask>())
        });
        for (shards, entities) in &groups {
            tokio::time::timeout(PATIENCE, shards.until_up()).await.unwrap().unwrap();
            tokio::time::timeout(PATIENCE, entities.until_up()).await.unwrap().unwrap();
        }
        let ([(shards, entities), _], sender) = (groups, sender(&one));
        let mut arrived = [0, 0];
        for key in (0..100).map(|key| format!("key {key}")) {
            let replies = within(&one, &sender, || [shards.send(&key, Ask), entities.send(&key, Ask)]);
            for (count, reply) in arrived.iter_mut().zip(replies) {
                let answer = reply.within(PATIENCE).await.unwrap();
                if answer.0 == "two" {
                    check(&two, answer);
                    *count += 1;
                } else {
                    assert_eq!(answer.1, None, "within a node a span follows from a span");
                }
            }
        }
        assert!(arrived.iter().all(|count| *count > 0), "node two owns shards of each group");
        // Each handler on this node runs in a span that follows from the sender's.
        let follows = |made: &Made| made.follows == [sender.id().unwrap()];
        let here: Vec<Made> = one.seen.messages();
        let asked: Vec<&Made> = here.iter().filter(|made| made.fields["message"].ends_with("::Ask")).collect();
        assert_eq!(asked.len() + arrived.iter().sum::<usize>(), 200);
        assert!(asked.iter().all(|made| follows(made)), "{asked:?}");
    });
}

#[test]
fn without_a_propagator_no_trace_leaves_a_node() {
    two_nodes(async |[(one, first), (two, second)]| {
        second.set_trace_propagator(two.contexts.clone()).unwrap();
        let remote = first.remote::<Echo>("two", "echo");
        let reply = within(&one, &sender(&one), || remote.send(Ask));
        assert_eq!(reply.within(PATIENCE).await, Ok(("two".to_owned(), None)));
        assert_eq!(two.seen.messages().len(), 1, "it is handled in a span all the same");
    });
}
