//! How long a graceful leave takes, by the number of shards that the leaving node runs. Each worker
//! takes a millisecond to stop, on two threads, so half a millisecond a shard is the lower bound.
//!
//! ```text
//! cargo bench -p heartbeat-tests --bench leave
//! ```
//!
//! Two nodes in one process, over UDP and TCP on loopback. Rows are those of a table in Markdown.
//! With `--test` there are few shards.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where")]

use std::time::{Duration, Instant};

use actix::Actor;
use heartbeat_actors::shard::Shards;
use heartbeat_actors::{Config, Context, Node};

/// How long one worker takes to stop.
const STOP: Duration = Duration::from_millis(1);

struct Slow;

impl Actor for Slow {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Context<Self>) {
        std::thread::sleep(STOP);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    // Cargo passes `--bench` when it is to be measured.
    let counts: &[u32] = if has("--test") || !has("--bench") { &[100] } else { &[1_000, 4_000, 16_000] };
    println!("| shards of the node | leave | for each shard |");
    println!("|---|---|---|");
    for &count in counts {
        actix::System::new().block_on(leave(count));
    }
}

async fn node(name: &str, seed: Option<String>) -> Node {
    let seeds: Vec<String> = seed.into_iter().collect();
    let text = format!(
        "ownership.hand_over_timeout = '10m'\nworkers.leave_timeout = '10m'\nownership.starts = 65536\n\
         [cluster]\nname = 'leave'\nnode = '{name}'\nrole = 'worker'\nmode = 'random'\nlisten = '127.0.0.1:0'\nseeds = {seeds:?}"
    );
    Node::start(Config::from_toml(&text).unwrap()).await.unwrap()
}

fn up(shards: &Shards<Slow>) -> usize {
    shards.workers().iter().filter(|worker| worker.status().is_up).count()
}

/// A node with about `count` shards of twice as many leaves.
async fn leave(count: u32) {
    let leaver = node("leaver", None).await;
    let successor = node("successor", Some(leaver.address().unwrap().to_string())).await;
    successor.until_joined().await.unwrap();
    let ours = leaver.supervise_shards("shards", 2 * count, |_| Ok(Slow)).unwrap();
    // So the successor knows the owners of the shards, and requests its own.
    ours.until_up().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let theirs = successor.supervise_shards("shards", 2 * count, |_| Ok(Slow)).unwrap();
    let all = 2 * count as usize;
    let mut steady = 0;
    while steady < 20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        steady = if up(&ours) + up(&theirs) == all && up(&theirs) > 0 { steady + 1 } else { 0 };
    }
    let had = up(&ours);
    let begun = Instant::now();
    leaver.leave().await;
    let took = begun.elapsed();
    println!("| {had} | {took:.2?} | {:.2?} |", took / had.max(1) as u32);
    successor.leave().await;
}
