//! Calls that are carried out long after they were given up: what a server that was paused does
//! when it wakes.
//!
//! One server, and two ways to it; on the first one what is sent can be held back.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use heartbeat_actors::authority::{Claimed, Recorded};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::servers::Servers;
use crate::suite::{Node, shards};
use crate::{alone, authority, live};

const TTL: Duration = Duration::from_secs(6);

/// How often a way looks at what it is to do.
const LOOK: Duration = Duration::from_millis(5);

/// What a way does with what is sent to the server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    /// It is open until an answer comes back, then it holds.
    HoldsAfterAnswer,
    /// It keeps it, until it is open.
    Holds,
    /// It takes no more, so the server does not learn that a call was given up.
    Shut,
}

/// A way to a server.
struct Way {
    endpoint: String,
    gate: Rc<Cell<Gate>>,
}

impl Way {
    async fn to(server: &str) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let gate = Rc::new(Cell::new(Gate::Open));
        let (server, of_all) = (server.trim_start_matches("http://").to_owned(), gate.clone());
        actix_rt::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { return };
                let ((from, to_client), (from_server, to)) = (client.into_split(), server.into_split());
                actix_rt::spawn(there(from, to, of_all.clone()));
                actix_rt::spawn(back(from_server, to_client, of_all.clone()));
            }
        });
        Way { endpoint, gate }
    }
}

async fn there(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, gate: Rc<Cell<Gate>>) {
    let (mut kept, mut bytes) = (Vec::new(), vec![0; 65_536]);
    loop {
        if matches!(gate.get(), Gate::Open | Gate::HoldsAfterAnswer) && !kept.is_empty() {
            if to.write_all(&std::mem::take(&mut kept)).await.is_err() {
                return;
            }
            // The word that it was given up comes too late.
            tokio::time::sleep(LOOK).await;
        }
        let read = if gate.get() == Gate::Shut {
            tokio::time::sleep(LOOK).await;
            continue;
        } else {
            tokio::time::timeout(LOOK, from.read(&mut bytes)).await
        };
        match read {
            Ok(Ok(0) | Err(_)) if kept.is_empty() => return,
            Ok(Ok(0) | Err(_)) => tokio::time::sleep(LOOK).await,
            Ok(Ok(count)) => kept.extend_from_slice(&bytes[..count]),
            Err(_) => {}
        }
    }
}

async fn back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, gate: Rc<Cell<Gate>>) {
    let mut bytes = vec![0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if gate.get() == Gate::HoldsAfterAnswer {
            gate.set(Gate::Holds);
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// Has a node do something whose first attempt is carried out when something else has been done
/// since.
async fn late<T>(way: &Way, gate: Gate, first: impl Future<Output = T>, since: impl Future<Output = ()>) -> T {
    way.gate.set(gate);
    let shut = async {
        tokio::time::sleep(TTL / 12).await;
        way.gate.set(Gate::Shut);
    };
    let (done, ()) = tokio::join!(first, shut);
    since.await;
    way.gate.set(Gate::Open);
    tokio::time::sleep(TTL / 12).await;
    done
}

#[test]
fn a_late_release_takes_no_shard_claimed_since() {
    let _alone = alone();
    let servers = Servers::start(1);
    live(async {
        let way = Way::to(&servers.endpoints[0]).await;
        let asks = authority(&[way.endpoint.clone(), servers.endpoints[0].clone()], TTL, "a", 1);
        let a = Node::open(asks.clone(), TTL).await;
        let b = Node::open(authority(&servers.endpoints, TTL, "b", 1), TTL).await;
        let shard = shards("orders", [0]);
        let first = a.granted(&shard).await[0];
        let second = Cell::new(first);
        late(&way, Gate::Holds, a.release(&shard), async { second.set(a.granted(&shard).await[0]) }).await;
        assert!(second.get() > first, "it was released by the second attempt");
        assert!(matches!(&b.claim(&shard).await[..], [Claimed::Held { by }] if &**by == "a"));
        assert_eq!(asks.record(&shard[0], second.get(), "value", "1").await.unwrap(), Recorded::Written);
    });
}

#[test]
fn a_late_claim_takes_no_shard_released_since() {
    let _alone = alone();
    let servers = Servers::start(1);
    live(async {
        let way = Way::to(&servers.endpoints[0]).await;
        let a = Node::open(authority(&[way.endpoint.clone(), servers.endpoints[0].clone()], TTL, "a", 1), TTL).await;
        let b = Node::open(authority(&servers.endpoints, TTL, "b", 1), TTL).await;
        let shard = shards("orders", [0, 1]);
        a.granted(&shard[1..]).await;
        late(&way, Gate::Holds, a.granted(&shard[..1]), a.release(&shard[..1])).await;
        b.granted(&shard[..1]).await;
    });
}

#[test]
fn a_record_that_comes_late_is_not_written_over_a_later_one() {
    let _alone = alone();
    let servers = Servers::start(1);
    live(async {
        let way = Way::to(&servers.endpoints[0]).await;
        let asks = authority(&[way.endpoint.clone(), servers.endpoints[0].clone()], TTL, "a", 1);
        let a = Node::open(asks.clone(), TTL).await;
        let shard = shards("orders", [0]).remove(0);
        let epoch = a.granted(std::slice::from_ref(&shard)).await[0];
        let record = async |value: &'static str| asks.record(&shard, epoch, "value", value).await.unwrap();
        assert_eq!(record("zeroth").await, Recorded::Written);
        // It looks, is answered, and what it then writes is held back.
        let since = async { assert_eq!(record("second").await, Recorded::Written) };
        assert_eq!(late(&way, Gate::HoldsAfterAnswer, record("first"), since).await, Recorded::Written);
        let mut client = etcd_client::Client::connect(&servers.endpoints, None).await.unwrap();
        let found = client.get("/heartbeat/c/records/orders/0/value", None).await.unwrap();
        assert_eq!(found.kvs()[0].value_str().unwrap(), "second");
    });
}
