//! Ours: two nodes of a cluster; the client's asks for a key whose shard the server runs.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use actix::prelude::*;
use futures_util::future::LocalBoxFuture;
use heartbeat_actors::shard::{Owner, RemoteMessage, Shards};
use heartbeat_actors::{Config, Context, Node};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::{Payload, answer};

/// Bytes, encoded as bytes and not as a sequence of numbers.
struct Bytes(Payload);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        struct BytesVisitor;
        impl Visitor<'_> for BytesVisitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.into()))
            }
        }
        deserializer.deserialize_bytes(BytesVisitor)
    }
}

#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Bytes")]
struct Ask(Bytes);

impl RemoteMessage for Ask {
    const NAME: &str = "bench.ask";
}

struct Worker;

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Ask> for Worker {
    type Result = MessageResult<Ask>;

    fn handle(&mut self, ask: Ask, _: &mut Context<Self>) -> Self::Result {
        MessageResult(Bytes(answer(&ask.0.0).into()))
    }
}

/// An address that is free for both UDP and TCP.
pub(crate) fn free() -> SocketAddr {
    loop {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

async fn node(name: &str, listen: &str, seed: &str) -> (Node, Shards<Worker>) {
    let config = format!(
        "[cluster]\nname = 'bench'\nnode = '{name}'\nrole = 'worker'\nmode = 'random'\nlisten = '{listen}'\n\
         seeds = ['{seed}']\n"
    );
    let node = Node::start(Config::from_toml(&config).unwrap()).await.unwrap();
    let shards = node.supervise_shards("bench", 16, |_| Ok(Worker)).unwrap();
    (node, shards.accept::<Ask>())
}

/// `arguments`: the address of this node.
pub(crate) fn serve(arguments: &[String]) {
    System::new().block_on(async {
        let (_node, _shards) = node("server", &arguments[0], &arguments[0]).await;
        println!("started");
        std::future::pending::<()>().await;
    });
}

pub(crate) struct Client {
    _node: Node,
    shards: Shards<Worker>,
    key: String,
}

/// Waits until the server owns a shard.
pub(crate) async fn client(listen: &str, seed: &str) -> Client {
    let (node, shards) = node("client", listen, seed).await;
    for attempt in 0_u32.. {
        shards.until_up().await.unwrap();
        let key = format!("key {attempt}");
        if matches!(shards.owner(&key), Ok(Owner::There(_))) {
            return Client { _node: node, shards, key };
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    unreachable!("the attempts do not end")
}

impl Client {
    /// What a send to a shard of this node costs more than one to its worker: the medians of both,
    /// in nanoseconds, over batches that take turns.
    pub(crate) async fn local(&self, batches: u32) -> (f64, f64) {
        const BATCH: u32 = 128;
        let key =
            (0_u32..).map(|n| format!("key {n}")).find(|key| matches!(self.shards.owner(key), Ok(Owner::Here(_))));
        let key = key.unwrap();
        let worker = self.shards.worker(self.shards.shard_of(&key));
        let payload: Payload = vec![7; 64].into();
        let ask = || Ask(Bytes(payload.clone()));
        let (mut to_shard, mut to_worker) = (Vec::new(), Vec::new());
        for _ in 0..batches {
            let begun = std::time::Instant::now();
            let replies: Vec<_> = (0..BATCH).map(|_| self.shards.send(&key, ask())).collect();
            to_shard.push(begun.elapsed().as_nanos() as f64 / f64::from(BATCH));
            futures_util::future::join_all(replies).await;
            let begun = std::time::Instant::now();
            let replies: Vec<_> = (0..BATCH).map(|_| worker.send(ask())).collect();
            to_worker.push(begun.elapsed().as_nanos() as f64 / f64::from(BATCH));
            futures_util::future::join_all(replies).await;
        }
        (crate::median(&mut to_shard), crate::median(&mut to_worker))
    }
}

impl crate::Client for Client {
    fn ask(&self, payload: Payload) -> LocalBoxFuture<'static, usize> {
        let reply = self.shards.send(&self.key, Ask(Bytes(payload)));
        Box::pin(async move { reply.await.unwrap().0.len() })
    }
}
