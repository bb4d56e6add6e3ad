//! A million entities known to one node, a hundred thousand of them active: their memory, how fast
//! they start and stop, and how long another worker's answers take meanwhile.
//!
//! ```text
//! cargo bench -p heartbeat-tests --bench entities
//! ```
//!
//! Each entity leaves 64 bytes behind. The other worker is asked every millisecond, from a thread
//! of its own; its longest answer time in each phase is the stall. Rows are those of a table in
//! Markdown. With `--test` everything is done once and small.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where")]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::*;
use heartbeat_actors::entity::{Entities, EntitySpec, EntityStart};
use heartbeat_actors::shard::RemoteMessage;
use heartbeat_actors::{Config, Context, Node, Reply, SendError, StartError, WorkerAddr};
use serde::{Deserialize, Serialize};

/// Bytes that an entity leaves behind.
const STATE_BYTES: usize = 64;

/// Messages whose answers are awaited at once.
const UNDER_WAY: usize = 1_000;

/// How many there are of what.
struct Size {
    known: u64,
    active: u32,
    shards: u32,
    idle_after: Duration,
}

const FULL: Size = Size { known: 1_000_000, active: 100_000, shards: 1_024, idle_after: Duration::from_secs(20) };
const QUICK: Size = Size { known: 2_000, active: 200, shards: 16, idle_after: Duration::from_secs(1) };

struct Cart {
    state: Vec<u8>,
}

impl Cart {
    fn open(start: &EntityStart) -> Result<Cart, StartError> {
        let state = start.replica().map_or_else(|| vec![0; STATE_BYTES], |left| left.bytes.to_vec());
        Ok(Cart { state })
    }
}

impl Actor for Cart {
    type Context = Context<Self>;
}

/// Counts, and leaves the count behind.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u8")]
struct Add(u8);

impl RemoteMessage for Add {
    const NAME: &str = "cart.add";
}

impl Handler<Add> for Cart {
    type Result = u8;

    fn handle(&mut self, add: Add, context: &mut Context<Self>) -> u8 {
        self.state[0] = self.state[0].wrapping_add(add.0);
        context.replicate(1, self.state.clone()).unwrap();
        self.state[0]
    }
}

/// The worker whose answers are timed.
struct Other;

impl Actor for Other {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Ask;

impl Handler<Ask> for Other {
    type Result = ();

    fn handle(&mut self, _: Ask, _: &mut Context<Self>) {}
}

/// Asks a worker every millisecond, on a thread of its own, and keeps the answer times.
#[derive(Clone, Default)]
struct Probe {
    micros: Arc<Mutex<Vec<f64>>>,
    is_over: Arc<AtomicBool>,
}

impl Probe {
    fn start(&self, other: WorkerAddr<Other>) {
        let probe = self.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        std::thread::spawn(move || {
            runtime.block_on(async {
                while !probe.is_over.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    other.send(Ask).await.unwrap();
                    probe.micros.lock().unwrap().push(asked.elapsed().as_secs_f64() * 1e6);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
        });
    }

    /// Prints the answer times since the last call.
    fn rows(&self, phase: &str) {
        let mut micros = std::mem::take(&mut *self.micros.lock().unwrap());
        if micros.is_empty() {
            return;
        }
        micros.sort_by(f64::total_cmp);
        let at = |share: f64| micros[((micros.len() - 1) as f64 * share) as usize] / 1_000.0;
        println!(
            "| answers of another worker {phase}: p50, p99.9, longest | {:.3}, {:.3}, {:.3} ms |",
            at(0.5),
            at(0.999),
            at(1.0)
        );
    }
}

fn row(what: &str, value: f64, unit: &str) {
    println!("| {what} | {value:.2} {unit} |");
}

/// Resident bytes of this process; zero where there is no /proc.
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or_default() * 1_024.0
}

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"customer--------";
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Sends one message to each of these entities, and waits for the answers.
async fn ask_each(carts: &Entities<Cart>, numbers: std::ops::Range<u64>) {
    let mut under_way = VecDeque::new();
    for number in numbers {
        if under_way.len() == UNDER_WAY {
            let (number, answer) = under_way.pop_front().unwrap();
            answered(carts, number, answer).await;
        }
        under_way.push_back((number, carts.send(key(number), Add(1))));
    }
    for (number, answer) in under_way {
        answered(carts, number, answer).await;
    }
}

/// Waits for an answer. A message that found no room, since others were still on their way out, is
/// sent again.
async fn answered(carts: &Entities<Cart>, number: u64, mut answer: Reply<u8>) {
    while let Err(refused) = answer.await {
        assert_eq!(refused, SendError::Full);
        actix_rt::time::sleep(Duration::from_millis(1)).await;
        answer = carts.send(key(number), Add(1));
    }
}

/// Waits until no entity is active. Returns how long the stops took, from the first one on.
async fn until_idle(carts: &Entities<Cart>) -> Duration {
    let all = carts.counts().active;
    while carts.counts().active == all && all > 0 {
        actix_rt::time::sleep(Duration::from_millis(5)).await;
    }
    let begun = Instant::now();
    loop {
        let counts = carts.counts();
        if (counts.active, counts.stopping) == (0, 0) {
            return begun.elapsed();
        }
        actix_rt::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn measure(size: &Size) {
    let node = Node::start(Config::from_toml("[workers]\ninterval = '1s'\ntimeout = '30s'").unwrap()).await.unwrap();
    let other = node.supervise("other", || Other).unwrap();
    let spec = EntitySpec::new("cart").idle_after(size.idle_after).active_max(size.active);
    let carts = node.supervise_entities_with(spec, size.shards, Cart::open).unwrap();
    carts.until_up().await.unwrap();
    let probe = Probe::default();
    probe.start(other);
    actix_rt::time::sleep(size.idle_after / 10).await;
    probe.rows("before");

    let (before, begun) = (resident_bytes(), Instant::now());
    let active = u64::from(size.active);
    ask_each(&carts, 0..active).await;
    row(
        &format!("{active} entities started, each by its first message"),
        active as f64 / begun.elapsed().as_secs_f64(),
        "a second",
    );
    row("resident memory of each active one, with its state", (resident_bytes() - before) / active as f64, "B");
    probe.rows("while they start");
    let begun = Instant::now();
    ask_each(&carts, 0..active).await;
    row("a message to an active one, 1,000 under way", begun.elapsed().as_secs_f64() * 1e9 / active as f64, "ns");
    probe.rows("while they are asked");
    let stopped_in = until_idle(&carts).await;
    row("stopped, each after it was idle", active as f64 / stopped_in.as_secs_f64(), "a second");
    probe.rows("while they stop");
    let begun = Instant::now();
    ask_each(&carts, 0..active).await;
    row("started again from what they had left", active as f64 / begun.elapsed().as_secs_f64(), "a second");
    probe.rows("while they start again");

    let begun = Instant::now();
    ask_each(&carts, active..size.known).await;
    let rest = (size.known - active) as f64;
    row(
        &format!("{rest} more started, each in the place of the idlest"),
        rest / begun.elapsed().as_secs_f64(),
        "a second",
    );
    probe.rows("while they take the places of others");
    until_idle(&carts).await;
    actix_rt::time::sleep(Duration::from_secs(3)).await; // The shards' snapshots are made.
    assert_eq!(carts.counts().idle, size.known);
    probe.rows("while the last stop");
    row(
        &format!("resident memory of each of {} idle ones, with its state", size.known),
        (resident_bytes() - before) / size.known as f64,
        "B",
    );
    probe.is_over.store(true, Ordering::Relaxed);
    node.leave().await;
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    println!("| what | measured |\n|---|---:|");
    System::new().block_on(measure(if has("--test") || !has("--bench") { &QUICK } else { &FULL }));
}
