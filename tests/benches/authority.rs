//! What asking an authority costs: claims by one and by 64, with a few shards and with many;
//! renewals; and waiting for something to become free.
//!
//! ```text
//! # In a folder; FOLDER=... for one on another disk:
//! cargo bench -p heartbeat-tests --bench authority
//! # And in etcd: one server and three, on this host:
//! cargo bench -p heartbeat-tests --bench authority --features etcd
//! # And in PostgreSQL, one server on this host:
//! cargo bench -p heartbeat-tests --bench authority --features etcd,postgres
//! ```
//!
//! Rows are those of a table in Markdown: median and 99th percentile. With `--test` everything is
//! done a few times.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where")]

#[cfg(feature = "postgres")]
#[allow(dead_code, reason = "the tests do more to the servers")]
#[path = "../live/postgres/servers.rs"]
mod postgres_servers;
#[cfg(feature = "etcd")]
#[allow(dead_code, reason = "the tests do more to the servers")]
#[path = "../live/etcd/servers.rs"]
mod servers;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../live/authority/suite.rs"]
mod suite;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use heartbeat_actors::authority::{Authority, FileAuthority};
use tempfile::TempDir;

use suite::{Node, claimant, shards};

const TTL: Duration = Duration::from_secs(3600);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    // Cargo passes `--bench` when it is to be measured.
    let rounds = if has("--test") || !has("--bench") { 3 } else { 300 };
    actix::System::new().block_on(async {
        folder(rounds).await;
        #[cfg(feature = "etcd")]
        etcd(rounds).await;
        #[cfg(feature = "postgres")]
        postgres(rounds).await;
    });
}

/// Does something a number of times, and prints how long it took.
async fn measure(what: &str, rounds: u32, mut work: impl AsyncFnMut(u32)) {
    let mut times = Vec::new();
    for round in 0..rounds {
        let begun = Instant::now();
        work(round).await;
        times.push(begun.elapsed());
    }
    print(what, times);
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (median, high) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("| {what} | {median:.2?} | {high:.2?} |");
}

/// The part that is the same for all.
async fn ask(name: &str, node: &Node, rounds: u32) {
    batches(name, node, rounds, 1).await;
    batches(name, node, rounds, 64).await;
    measure(&format!("{name}: a renewal"), rounds, async |_| drop(node.renew().await)).await;
}

/// Claims of so many shards, which are claimed again and given back.
async fn batches(name: &str, node: &Node, rounds: u32, count: u32) {
    let (mut claims, mut again, mut releases) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        let group = shards(&format!("group-{round}"), 0..count);
        let begun = Instant::now();
        node.granted(&group).await;
        claims.push(begun.elapsed());
        node.granted(&group).await;
        again.push(begun.elapsed() - claims[claims.len() - 1]);
        let begun = Instant::now();
        node.release(&group).await;
        releases.push(begun.elapsed());
    }
    print(&format!("{name}: {count} claimed at once"), claims);
    print(&format!("{name}: {count} claimed again"), again);
    print(&format!("{name}: {count} given back at once"), releases);
}

async fn folder(rounds: u32) {
    let parent = std::env::var_os("FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = TempDir::with_prefix_in("heartbeat-bench-", parent).unwrap();
    let authority = |node: &str| FileAuthority::open(folder.path(), claimant("c", node, 1)).unwrap();
    let open = |node: &str| Rc::new(authority(node)) as Rc<dyn Authority>;
    let node = Node::open(open("a"), TTL).await;
    ask("folder", &node, rounds).await;
    for round in 0..157 {
        node.granted(&shards("many", round * 64..(round + 1) * 64)).await;
    }
    batches("folder with 10,000 shards", &node, rounds.min(50), 64).await;
    // Another node makes both read what the other one wrote.
    let other = Node::open(open("b"), TTL).await;
    let by_turns = async |round: u32| {
        let node = if round.is_multiple_of(2) { &node } else { &other };
        node.granted(&shards("by turns", round * 64..(round + 1) * 64)).await;
    };
    measure("folder with 10,000 shards: 64 claimed by two nodes in turn", rounds.min(50), by_turns).await;
    wait(&open, &node, rounds).await;
}

/// What waiting costs in CPU time, with ten nodes of which one waits.
async fn wait(open: &impl Fn(&str) -> Rc<dyn Authority>, node: &Node, rounds: u32) {
    let mut others = Vec::new();
    for name in 0..9 {
        others.push(Node::open(open(&format!("node-{name}")), TTL).await);
    }
    let time = if rounds > 10 { Duration::from_secs(10) } else { Duration::from_millis(200) };
    let freed = node.authority.clone().freed();
    // Shards freed before are reported at once.
    freed.await;
    let before = used();
    let _ = tokio::time::timeout(time, node.authority.clone().freed()).await; // Nothing is freed.
    let share = (used() - before).as_secs_f64() / time.as_secs_f64();
    println!("| folder: waiting, with ten nodes | {:.2} % of one core | |", share * 100.0);
}

/// The CPU time of this process: user and system, in ticks of 10 ms (proc(5)).
fn used() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().unwrap();
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

#[cfg(feature = "etcd")]
async fn etcd(rounds: u32) {
    use etcd_client::{Client, Compare, CompareOp, PutOptions, Txn, TxnOp};
    use heartbeat_actors::authority::{EtcdAuthority, Recorded};
    use heartbeat_actors::config::EtcdConfig;

    for members in [1, 3] {
        let started = tokio::task::spawn_blocking(move || servers::Servers::start(members)).await.unwrap();
        let config = EtcdConfig { endpoints: started.endpoints.clone(), ..EtcdConfig::default() };
        let authority = Rc::new(EtcdAuthority::new(&config, TTL, claimant("c", "a", 1)).unwrap());
        let node = Node::open(authority.clone(), TTL).await;
        let name = format!("etcd, {members} server{}", if members == 1 { "" } else { "s" });
        ask(&name, &node, rounds).await;
        let shard = shards("record", [0]).remove(0);
        let epoch = node.granted(std::slice::from_ref(&shard)).await[0];
        let record = async |_| {
            let recorded = authority.record(&shard, epoch, "value", "x").await.unwrap();
            assert_eq!(recorded, Recorded::Written);
        };
        measure(&format!("{name}: a record"), rounds, record).await;
        // The other way to claim 64: a transaction for each, all at once.
        let client = Client::connect(&started.endpoints[..1], None).await.unwrap();
        let lease = client.clone().lease_grant(3600, None).await.unwrap().id();
        let each = async |round: u32| {
            let claim = async |index: u32| {
                let key = format!("/each/{round}/{index}");
                let put = TxnOp::put(&*key, "x", Some(PutOptions::new().with_lease(lease)));
                let free = Compare::create_revision(&*key, CompareOp::Equal, 0);
                client.clone().txn(Txn::new().when([free]).and_then([put])).await.unwrap();
            };
            futures_util::future::join_all((0..64).map(claim)).await;
        };
        measure(&format!("{name}: 64 transactions at once"), rounds, each).await;
        tokio::task::spawn_blocking(move || drop(started)).await.unwrap();
    }
}

#[cfg(feature = "postgres")]
async fn postgres(rounds: u32) {
    use heartbeat_actors::authority::PostgresAuthority;
    use heartbeat_actors::config::PostgresConfig;
    use postgres_servers::{PASSWORD, Server, USER};

    // Every commit waits for the disk, as it would in use.
    let server = tokio::task::spawn_blocking(|| Server::start(&["fsync=on"])).await.unwrap();
    let config = PostgresConfig {
        hosts: vec![server.host.clone()],
        user: USER.to_owned(),
        password: PASSWORD.into(),
        database: USER.to_owned(),
        schema: "heartbeat".to_owned(),
        ..PostgresConfig::default()
    };
    let open = |name: &str| Rc::new(PostgresAuthority::new(&config, TTL, claimant("c", name, 1)).unwrap());
    let node = Node::open(open("a"), TTL).await;
    ask("PostgreSQL", &node, rounds).await;
    // From the release of one node to the grant of another that waits for it.
    let other = Node::open(open("b"), TTL).await;
    let shard = shards("handed over", [0]);
    let hand_over = async |_| {
        node.granted(&shard).await;
        let (freed, ()) = tokio::join!(other.authority.clone().freed(), node.release(&shard));
        let () = freed;
        while matches!(other.claim(&shard).await[..], [heartbeat_actors::authority::Claimed::Held { .. }]) {
            other.authority.clone().freed().await;
        }
        other.release(&shard).await;
    };
    measure("PostgreSQL: a shard handed over, and given back", rounds, hand_over).await;
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}
