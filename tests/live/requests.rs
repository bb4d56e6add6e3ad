//! Requests between real nodes over real sockets.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::FutureExt;
use heartbeat_actors::shard::{RemoteMessage, Shards};
use heartbeat_actors::{Config, Context, Event, Node, SendError, Update};
use serde::{Deserialize, Serialize};

use crate::{PATIENCE, live, seeds};

const COUNT: u32 = 16;

/// Handled messages since its start, and the node it runs on.
pub(crate) struct Echo {
    node: &'static str,
}

impl Actor for Echo {
    type Context = Context<Self>;
}

/// Asks for the name of the node, and for the payload back.
#[derive(Message, Serialize, Deserialize, Clone)]
#[rtype(result = "(String, Vec<u8>)")]
pub(crate) struct Say(pub(crate) Vec<u8>);

impl RemoteMessage for Say {
    const NAME: &str = "live.say";
}

impl Handler<Say> for Echo {
    type Result = MessageResult<Say>;

    fn handle(&mut self, say: Say, _: &mut Context<Self>) -> Self::Result {
        MessageResult((self.node.to_owned(), say.0))
    }
}

/// A message that makes the worker panic.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Break;

impl RemoteMessage for Break {
    const NAME: &str = "live.break";
}

impl Handler<Break> for Echo {
    type Result = ();

    fn handle(&mut self, _: Break, _: &mut Context<Self>) {
        panic!("{} to break", crate::MEANT);
    }
}

/// A message that holds the worker for two milliseconds.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Slowly;

impl RemoteMessage for Slowly {
    const NAME: &str = "live.slowly";
}

impl Handler<Slowly> for Echo {
    type Result = ();

    fn handle(&mut self, _: Slowly, _: &mut Context<Self>) {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A message that no group has registered.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "()")]
struct Unknown;

impl RemoteMessage for Unknown {
    const NAME: &str = "live.unknown";
}

impl Handler<Unknown> for Echo {
    type Result = ();

    fn handle(&mut self, _: Unknown, _: &mut Context<Self>) {}
}

async fn start(name: &'static str, first: Option<&Node>) -> (Node, Shards<Echo>) {
    start_with(name, first, "").await
}

/// Starts a node with more lines at the end of its config.
pub(crate) async fn start_with(name: &'static str, first: Option<&Node>, more: &str) -> (Node, Shards<Echo>) {
    let config = format!(
        "interval = '100ms'
         timeout = '2s'
         [cluster]
         name = 'live'
         node = '{name}'
         role = 'worker'
         mode = 'random'
         listen = '127.0.0.1:0'
         seeds = {}\n{more}",
        seeds(first)
    );
    let node = Node::start(Config::from_toml(&config).unwrap()).await.unwrap();
    let shards = node.supervise_shards("echo", COUNT, move |_| Ok(Echo { node: name })).unwrap();
    (node, shards.accept::<Say>().accept::<Break>().accept::<Slowly>())
}

/// One key for each shard.
pub(crate) fn keys(shards: &Shards<Echo>) -> Vec<String> {
    let key = |index| (0..).map(|n| format!("key {n}")).find(|key| shards.shard_of(key) == index).unwrap();
    (0..COUNT).map(key).collect()
}

pub(crate) async fn all_up(groups: &[&Shards<Echo>]) {
    for shards in groups {
        tokio::time::timeout(PATIENCE, shards.until_up()).await.unwrap().unwrap();
    }
}

#[test]
fn a_request_reaches_its_shard_on_either_node() {
    live(async {
        let (one, shards_one) = start("one", None).await;
        let (two, shards_two) = start("two", Some(&one)).await;
        all_up(&[&shards_one, &shards_two]).await;
        let mut answered = std::collections::BTreeSet::new();
        for shards in [&shards_one, &shards_two] {
            for (index, key) in keys(shards).iter().enumerate() {
                let payload = vec![7; index * 20_000];
                let (node, back) = shards.send(key, Say(payload.clone())).within(PATIENCE).await.unwrap();
                assert_eq!(back, payload);
                answered.insert(node);
            }
        }
        assert_eq!(answered.len(), 2, "both nodes run shards");
        one.leave().await;
        two.leave().await;
    });
}

#[test]
fn errors_of_the_other_node_reach_the_sender() {
    live(async {
        let (one, shards_one) = start("one", None).await;
        let (two, shards_two) = start("two", Some(&one)).await;
        all_up(&[&shards_one, &shards_two]).await;
        let away = (0..COUNT).find(|index| !shards_one.worker(*index).is_ready()).unwrap();
        let key = &keys(&shards_one)[away as usize];
        let broken = shards_one.send(key, Break).within(PATIENCE).await.unwrap_err();
        assert!(matches!(&broken, SendError::Interrupted(why) if why.to_string().contains("to break")), "{broken}");
        assert!(!broken.is_unhandled());
        let unknown = shards_one.send(key, Unknown).within(PATIENCE).await.unwrap_err();
        assert_eq!(unknown, SendError::UnknownMessage("live.unknown"));
        let large = shards_one.send(key, Say(vec![0; 5 << 20])).within(PATIENCE).await.unwrap_err();
        assert!(matches!(large, SendError::Refused(_)), "{large}");
        let (node, _) = shards_one.send(key, Say(Vec::new())).within(PATIENCE).await.unwrap();
        assert_eq!(node, "two", "the worker was replaced and answers");
        one.leave().await;
        two.leave().await;
    });
}

#[test]
fn a_leave_under_load_fails_no_request_of_others() {
    live(async {
        let (one, shards_one) = start("one", None).await;
        let (two, shards_two) = start("two", Some(&one)).await;
        all_up(&[&shards_one, &shards_two]).await;
        let keys = keys(&shards_one);
        let load = {
            let shards = shards_one.clone();
            async move {
                for round in 0..300_u32 {
                    for key in &keys {
                        let sent = shards.send(key, Say(round.to_le_bytes().to_vec())).within(PATIENCE).await;
                        assert!(sent.is_ok(), "round {round}, {key}: {sent:?}");
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        };
        let leave = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            two.leave().await;
        };
        futures_util::future::join(load, leave).await;
        one.leave().await;
    });
}

#[test]
fn a_slow_owner_makes_its_senders_full_and_delays_no_beat() {
    live(async {
        let (one, shards_one) = start("one", None).await;
        let (two, shards_two) = start("two", Some(&one)).await;
        all_up(&[&shards_one, &shards_two]).await;
        let suspected = Rc::new(Cell::new(0));
        for (name, node) in [("one", &one), ("two", &two)] {
            let suspected = suspected.clone();
            node.subscribe_fn(name, move |update| {
                if let Update::Event(Event::Suspected { .. } | Event::Died { .. }) = update {
                    suspected.set(suspected.get() + 1);
                }
            });
        }
        let away = (0..COUNT).find(|index| !shards_one.worker(*index).is_ready()).unwrap();
        let key = &keys(&shards_one)[away as usize];
        let (mut replies, mut full, mut handled) = (Vec::new(), 0, 0);
        let end = tokio::time::Instant::now() + Duration::from_secs(3);
        while tokio::time::Instant::now() < end {
            for _ in 0..500 {
                let mut reply = shards_one.send(key, Slowly);
                match (&mut reply).now_or_never() {
                    Some(Err(SendError::Full)) => full += 1,
                    Some(other) => panic!("{other:?}"),
                    None => replies.push(reply),
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The window is 1,024 requests; what was taken is handled, and nothing is lost.
        for reply in replies {
            match reply.within(PATIENCE).await {
                Ok(()) => handled += 1,
                Err(SendError::Full) => full += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(handled > 1_000, "{handled} were handled");
        assert!(full > 1_000, "{full} were refused");
        one.leave().await;
        two.leave().await;
        assert_eq!(suspected.get(), 0);
    });
}
