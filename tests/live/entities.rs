//! Entities of real nodes over real sockets: they are reached from both, and their state moves.

use std::collections::BTreeSet;
use std::time::Duration;

use actix::prelude::*;
use heartbeat_actors::entity::{Entities, EntitySpec, EntityStart};
use heartbeat_actors::shard::RemoteMessage;
use heartbeat_actors::{Config, Context, Node, StartError};
use serde::{Deserialize, Serialize};

use crate::{PATIENCE, live, seeds};

const SHARDS: u32 = 16;

/// Counts, and leaves the count behind.
struct Cart {
    node: &'static str,
    total: u64,
}

impl Cart {
    fn open(node: &'static str, start: &EntityStart) -> Result<Cart, StartError> {
        let Some(left) = start.replica() else { return Ok(Cart { node, total: 0 }) };
        Ok(Cart { node, total: u64::from_le_bytes(left.up_to(1)?.try_into()?) })
    }
}

impl Actor for Cart {
    type Context = Context<Self>;
}

/// Adds one. The answer is the node and the total.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "(String, u64)")]
struct Add;

impl RemoteMessage for Add {
    const NAME: &str = "cart.add";
}

impl Handler<Add> for Cart {
    type Result = MessageResult<Add>;

    fn handle(&mut self, _: Add, context: &mut Context<Self>) -> Self::Result {
        self.total += 1;
        context.replicate(1, self.total.to_le_bytes().to_vec()).unwrap();
        MessageResult((self.node.to_owned(), self.total))
    }
}

async fn start(name: &'static str, first: Option<&Node>) -> (Node, Entities<Cart>) {
    let config = format!(
        "interval = '100ms'
         timeout = '2s'
         [cluster]
         name = 'live'
         node = '{name}'
         role = 'worker'
         mode = 'random'
         listen = '127.0.0.1:0'
         seeds = {}",
        seeds(first)
    );
    let node = Node::start(Config::from_toml(&config).unwrap()).await.unwrap();
    let spec = EntitySpec::new("cart").idle_after(Duration::from_secs(1));
    let carts = node.supervise_entities_with(spec, SHARDS, move |start| Cart::open(name, start)).unwrap();
    let carts = carts.accept::<Add>();
    tokio::time::timeout(PATIENCE, carts.until_up()).await.unwrap().unwrap();
    (node, carts)
}

fn keys() -> Vec<String> {
    (0..64).map(|number| format!("customer {number}")).collect()
}

/// Sends one message to each entity. All have this total then. Returns the nodes that answered.
async fn add_to_each(carts: &Entities<Cart>, total: u64) -> BTreeSet<String> {
    let mut nodes = BTreeSet::new();
    for key in keys() {
        let (node, after) = carts.send(&key, Add).within(PATIENCE).await.unwrap();
        assert_eq!(after, total, "{key} at {node}");
        nodes.insert(node);
    }
    nodes
}

/// Waits until this node owns all shards, or not all.
async fn until_owned(carts: &Entities<Cart>, all: bool) {
    let is_here = |key: &String| matches!(carts.owner(key), Ok(heartbeat_actors::shard::Owner::Here(())));
    let owned = async {
        while keys().iter().all(is_here) != all {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, owned).await.unwrap();
}

#[test]
fn entities_with_state_move_when_a_node_joins_and_leaves() {
    live(async {
        let (one, carts_one) = start("one", None).await;
        assert_eq!(add_to_each(&carts_one, 1).await, BTreeSet::from(["one".to_owned()]));
        let (two, carts_two) = start("two", Some(&one)).await;
        until_owned(&carts_one, false).await;
        let both = BTreeSet::from(["one".to_owned(), "two".to_owned()]);
        assert_eq!(add_to_each(&carts_one, 2).await, both, "each from where it was, on its new node");
        assert_eq!(add_to_each(&carts_two, 3).await, both, "the same ones, from the other side");

        // Messages that are sent while a node leaves wait for the new owners.
        let leaving = one.leave();
        let asking = add_to_each(&carts_two, 4);
        tokio::join!(leaving, asking);
        until_owned(&carts_two, true).await;
        assert_eq!(add_to_each(&carts_two, 5).await, BTreeSet::from(["two".to_owned()]));
        two.leave().await;
    });
}

#[test]
fn an_idle_entity_is_known_where_its_shard_goes() {
    live(async {
        let (one, carts_one) = start("one", None).await;
        let (two, carts_two) = start("two", Some(&one)).await;
        until_owned(&carts_one, false).await;
        add_to_each(&carts_two, 1).await;
        let idle = async {
            let at_work = |carts: &Entities<Cart>| carts.counts().active + carts.counts().stopping;
            while at_work(&carts_one) + at_work(&carts_two) > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, idle).await.unwrap();
        let known = carts_one.counts().idle + carts_two.counts().idle;
        assert_eq!(known, keys().len() as u64);
        one.leave().await;
        until_owned(&carts_two, true).await;
        assert_eq!(add_to_each(&carts_two, 2).await, BTreeSet::from(["two".to_owned()]));
        two.leave().await;
    });
}
