//! Shards on real nodes, over real sockets: handed over with their state, by each authority that
//! needs no server.

use std::net::UdpSocket;
use std::time::Duration;

use actix::prelude::*;
use heartbeat_actors::shard::{Fence, NoOwner, Owner, Shards};
use heartbeat_actors::{Config, Context, Node, StartError, StartInfo, WorkerAddr};
use tempfile::TempDir;

use crate::{PATIENCE, live, seeds};

const COUNT: u32 = 16;

/// Counts, and leaves what it has counted behind.
struct Tally {
    total: u64,
}

impl Tally {
    fn open(start_info: &StartInfo) -> Result<Tally, StartError> {
        let total = start_info.replica().map(|replica| replica.up_to(1)?.try_into().map_err(StartError::from));
        Ok(Tally { total: total.transpose()?.map_or(0, u64::from_le_bytes) })
    }
}

impl Actor for Tally {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "u64")]
struct Count(u64);

impl Handler<Count> for Tally {
    type Result = u64;

    fn handle(&mut self, count: Count, context: &mut Context<Self>) -> u64 {
        self.total += count.0;
        context.replicate(1, self.total.to_le_bytes().to_vec()).unwrap();
        self.total
    }
}

fn config(node: &str, first: Option<&Node>, ownership: &str) -> Config {
    Config::from_toml(&format!(
        "interval = '100ms'
         timeout = '2s'
         [ownership]
         copy_every = '20ms'
         {ownership}
         [cluster]
         name = 'live'
         node = '{node}'
         role = 'worker'
         mode = 'random'
         listen = '127.0.0.1:0'
         seeds = {}",
        seeds(first)
    ))
    .unwrap()
}

async fn start(node: &str, first: Option<&Node>, ownership: &str) -> (Node, Shards<Tally>) {
    let node = Node::start(config(node, first, ownership)).await.unwrap();
    let shards = node.supervise_shards("tallies", COUNT, Tally::open).unwrap();
    (node, shards)
}

/// Waits until all of these shards run on one of these nodes, and says on which.
async fn all_run(nodes: &[&Shards<Tally>]) -> Vec<usize> {
    let found = async {
        loop {
            let on = |index: u32| nodes.iter().position(|shards| shards.worker(index).is_ready());
            if let Some(all) = (0..COUNT).map(on).collect::<Option<Vec<usize>>>() {
                return all;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("not all shards run")
}

/// What shard `index` has counted, wherever it runs.
async fn counted(worker: &WorkerAddr<Tally>) -> u64 {
    worker.send(Count(0)).await.unwrap()
}

async fn hand_over(ownership: &str) {
    let (one, at_one) = start("one", None, ownership).await;
    all_run(&[&at_one]).await;
    for index in 0..COUNT {
        at_one.worker(index).send(Count(u64::from(index) + 1)).await.unwrap();
    }
    let (two, at_two) = start("two", Some(&one), ownership).await;
    // Its share comes to it, with all that was counted.
    let mut waited = 0;
    let on = loop {
        let on = all_run(&[&at_one, &at_two]).await;
        if on.contains(&1) || waited > 400 {
            break on;
        }
        waited += 1;
        tokio::time::sleep(Duration::from_millis(25)).await;
    };
    assert!(on.contains(&0) && on.contains(&1), "{on:?}");
    for (index, &on) in (0..COUNT).zip(&on) {
        let worker = [&at_one, &at_two][on].worker(index);
        assert_eq!(counted(worker).await, u64::from(index) + 1, "shard {index}");
    }
    let key = (0..1_000).map(|key| key.to_string()).find(|key| on[at_one.shard_of(key) as usize] == 1).unwrap();
    assert!(matches!(at_two.owner(&key), Ok(Owner::Here(_))));
    assert!(matches!(at_one.owner(&key), Ok(Owner::There(member)) if &*member.name == "two"));
    one.leave().await;
    all_run(&[&at_two]).await;
    for index in 0..COUNT {
        assert_eq!(counted(at_two.worker(index)).await, u64::from(index) + 1, "shard {index}");
    }
    two.leave().await;
}

#[test]
fn shards_are_handed_over_with_all_that_they_counted() {
    live(hand_over(""));
}

#[test]
fn shards_are_handed_over_by_an_authority_on_this_host() {
    let folder = TempDir::with_prefix("heartbeat-shards-").unwrap();
    live(hand_over(&format!("authority = 'file'\nfolder = {:?}", folder.path())));
}

/// A node alone, by this config beside its times.
async fn alone(text: &str) -> Node {
    let times = "interval = '100ms'\ntimeout = '1s'\n[detector]\nkind = 'fixed'\nsuspect_after = '500ms'\n";
    Node::start(Config::from_toml(&format!("{times}{text}")).unwrap()).await.unwrap()
}

#[test]
fn a_node_that_was_not_let_in_owns_no_key() {
    live(async {
        // The seed has the port and never answers.
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let seed = silent.local_addr().unwrap();
        let table = "[cluster]\nname = 'keys'\nnode = 'a'\nrole = 'worker'\nmode = 'random'\nlisten = '127.0.0.1:0'";
        let node = alone(&format!("{table}\nseeds = ['{seed}']")).await;
        for _ in 0..20 {
            assert_eq!(node.owner("users", "ada"), Err(NoOwner::Unknown));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        node.leave().await;
        let node = alone(&format!("{table}\nseeds = []")).await;
        while node.owner("users", "ada") != Ok(Owner::Here(())) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        node.leave().await;
    });
}

#[test]
fn epochs_rise_when_the_mode_changes_between_two_runs() {
    live(async {
        let folder = TempDir::with_prefix("heartbeat-epochs-").unwrap();
        let cluster = "[cluster]\nname = 'modes'\nnode = 'a'\nrole = 'worker'\nmode = 'random'\nlisten = '127.0.0.1:0'\nseeds = []\n";
        let file = format!("{cluster}[ownership]\nauthority = 'file'\nfolder = {:?}\n", folder.path().join("made"));
        let mut fence = Fence::new();
        for text in [cluster, &file, "", cluster, "", &file] {
            let node = alone(text).await;
            let shards = node.supervise_shards("tallies", 2, Tally::open).unwrap();
            // The life before has given its shards back: this one need not wait until that one's
            // session is over.
            let up = async {
                while !shards.worker(0).status().is_up {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(node.config().ownership.session_ttl / 2, up).await.expect("the shards are free");
            let (shard, _) = node.view().owner("tallies", 0).unwrap();
            let before = fence.newest(&0);
            assert!(before.is_none_or(|before| before < shard.epoch), "{:?} after {before:?}", shard.epoch);
            assert!(fence.admit(0, shard.epoch).is_ok());
            node.leave().await;
        }
        // No thread works in the folder any more once the node has left.
        folder.close().unwrap();
    });
}
