//! What acting costs, beside plain actix where there is something to compare: round trips, panics, starts, a million workers, blocked threads.
//!
//! cargo bench -p heartbeat-tests --bench actors
//!
//! It measures by its own clock rather than with a harness: what is measured crosses threads, or happens once in a while, or is memory. With
//! `--test` everything is done once and small.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::*;
use heartbeat_actors::{Config, Context, Event, Node, Spec, Update, WorkerAddr};
use tokio::sync::mpsc;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    std::panic::set_hook(Box::new(|_| {})); // Printing a panic costs more than the panic.
    println!("{:58} {:>12}", "what", "measured");
    System::new().block_on(async {
        round_trips(if quick { 100 } else { 200_000 }, if quick { 1 } else { 9 }).await;
        panics(if quick { 3 } else { 3_000 }, Duration::ZERO, "panic to the next queued answer, back to back").await;
        panics(if quick { 3 } else { 1_000 }, Duration::from_millis(2), "panic to the next queued answer, 2 ms apart")
            .await;
        starts(if quick { 100 } else { 100_000 }).await;
        blocked(if quick { 1 } else { 20 }).await;
        million(if quick { 1_000 } else { 1_000_000 }, Duration::from_secs(if quick { 1 } else { 10 })).await;
    });
}

fn row(what: &str, value: f64, unit: &str) {
    println!("{what:58} {value:>9.2} {unit}");
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}

#[derive(Message)]
#[rtype(result = "u64")]
struct Add(u64);

/// Sends this many messages one after the other to a neighbour on the same arbiter; answers with nanoseconds for each.
#[derive(Message)]
#[rtype(result = "f64")]
struct Ping(u32);

struct Plain {
    total: u64,
    neighbour: Option<Addr<Plain>>,
}

impl Actor for Plain {
    type Context = actix::Context<Self>;
}

impl Handler<Add> for Plain {
    type Result = u64;

    fn handle(&mut self, add: Add, _: &mut Self::Context) -> u64 {
        self.total += add.0;
        self.total
    }
}

impl Handler<Ping> for Plain {
    type Result = ResponseFuture<f64>;

    fn handle(&mut self, ping: Ping, _: &mut Self::Context) -> Self::Result {
        let neighbour = self.neighbour.clone().unwrap();
        Box::pin(async move {
            let start = Instant::now();
            for _ in 0..ping.0 {
                neighbour.send(Add(1)).await.unwrap();
            }
            start.elapsed().as_nanos() as f64 / f64::from(ping.0)
        })
    }
}

struct Worker {
    total: u64,
    neighbour: Arc<Mutex<Option<WorkerAddr<Worker>>>>,
}

impl Actor for Worker {
    type Context = Context<Self>;
}

impl Handler<Add> for Worker {
    type Result = u64;

    fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
        self.total += add.0;
        self.total
    }
}

impl Handler<Ping> for Worker {
    type Result = ResponseFuture<f64>;

    fn handle(&mut self, ping: Ping, _: &mut Context<Self>) -> Self::Result {
        let neighbour = self.neighbour.lock().unwrap().clone().unwrap();
        Box::pin(async move {
            let start = Instant::now();
            for _ in 0..ping.0 {
                neighbour.send(Add(1)).await.unwrap();
            }
            start.elapsed().as_nanos() as f64 / f64::from(ping.0)
        })
    }
}

/// Round trips on one arbiter: plain actix and ours in turn, so that whatever else the machine does hits both.
async fn round_trips(messages: u32, rounds: usize) {
    let arbiter = Arbiter::new();
    let callee = Plain::start_in_arbiter(&arbiter.handle(), |_| Plain { total: 0, neighbour: None });
    let plain = Plain::start_in_arbiter(&arbiter.handle(), move |_| Plain { total: 0, neighbour: Some(callee) });
    let node = Node::start(Config::from_toml("[workers]\narbiters = 1\ntimeout = '1h'").unwrap()).await.unwrap();
    let neighbour = Arc::new(Mutex::new(None));
    let make = || {
        let neighbour = neighbour.clone();
        move || Worker { total: 0, neighbour: neighbour.clone() }
    };
    *neighbour.lock().unwrap() = Some(node.supervise("callee", make()).unwrap());
    let ours = node.supervise("caller", make()).unwrap();
    let (mut plain_ns, mut our_ns, mut more_ns) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (a, b) = (plain.send(Ping(messages)).await.unwrap(), ours.send(Ping(messages)).await.unwrap());
        plain_ns.push(a);
        our_ns.push(b);
        more_ns.push(b - a);
    }
    row("message round trip, plain actix, same arbiter", quantile(&mut plain_ns, 0.5), "ns");
    row("message round trip, our context, same arbiter", quantile(&mut our_ns, 0.5), "ns");
    row("  ours over plain actix (median of the differences)", quantile(&mut more_ns, 0.5), "ns");
    arbiter.stop();
    node.leave().await;
}

/// Notes when it panicked, and when its successor handled the next message.
struct Fragile {
    clock: Instant,
    panicked: Arc<AtomicU64>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Panic;

#[derive(Message)]
#[rtype(result = "u64")]
struct SincePanic;

impl Actor for Fragile {
    type Context = Context<Self>;
}

impl Handler<Panic> for Fragile {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        self.panicked.store(self.clock.elapsed().as_nanos() as u64, Ordering::Relaxed);
        panic!("as told");
    }
}

impl Handler<SincePanic> for Fragile {
    type Result = u64;

    fn handle(&mut self, _: SincePanic, _: &mut Context<Self>) -> u64 {
        self.clock.elapsed().as_nanos() as u64 - self.panicked.load(Ordering::Relaxed)
    }
}

async fn panics(count: u32, apart: Duration, what: &str) {
    let node = Node::start(Config::from_toml("[workers]\narbiters = 1").unwrap()).await.unwrap();
    let (clock, panicked) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let spec = Spec::new("fragile").intensity(u32::MAX, Duration::from_millis(1)).delay(Duration::ZERO, Duration::ZERO);
    let fragile: WorkerAddr<Fragile> =
        node.supervise_with(spec, move |_| Ok(Fragile { clock, panicked: panicked.clone() })).unwrap();
    let mut micros = Vec::new();
    for _ in 0..count {
        if !apart.is_zero() {
            actix_rt::time::sleep(apart).await;
        }
        let (failed, next) = (fragile.send(Panic), fragile.send(SincePanic));
        let _ = failed.await;
        micros.push(next.await.unwrap() as f64 / 1_000.0);
    }
    row(&format!("{what}, p50"), quantile(&mut micros, 0.5), "us");
    row(&format!("{what}, p99"), quantile(&mut micros, 0.99), "us");
    node.leave().await;
}

struct Idle;

impl Actor for Idle {
    type Context = Context<Self>;
}

impl Handler<Add> for Idle {
    type Result = u64;

    fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
        add.0
    }
}

async fn starts(count: u32) {
    let node = Node::start(Config::default()).await.unwrap();
    let mut micros: Vec<f64> = Vec::new();
    for index in 0..count.min(1_000) {
        let start = Instant::now();
        let worker: WorkerAddr<Idle> = node.supervise(&format!("one-{index}"), || Idle).unwrap();
        worker.send(Add(1)).await.unwrap();
        micros.push(start.elapsed().as_nanos() as f64 / 1_000.0);
    }
    row("start of a worker to its first answer, p50", quantile(&mut micros, 0.5), "us");
    let start = Instant::now();
    let workers: Vec<WorkerAddr<Idle>> =
        (0..count).map(|index| node.supervise(&format!("many-{index}"), || Idle).unwrap()).collect();
    workers.last().unwrap().send(Add(1)).await.unwrap();
    row("start of workers in a row, each", start.elapsed().as_nanos() as f64 / 1_000.0 / f64::from(count), "us");
    node.leave().await;
}

struct Sleeper;

#[derive(Message)]
#[rtype(result = "()")]
struct Sleep(Duration);

impl Actor for Sleeper {
    type Context = Context<Self>;
}

impl Handler<Sleep> for Sleeper {
    type Result = ();

    fn handle(&mut self, sleep: Sleep, _: &mut Context<Self>) {
        std::thread::sleep(sleep.0);
    }
}

struct Ear(mpsc::UnboundedSender<Update>);

impl Actor for Ear {
    type Context = actix::Context<Self>;
}

impl Handler<Update> for Ear {
    type Result = ();

    fn handle(&mut self, update: Update, _: &mut Self::Context) {
        let _ = self.0.send(update); // The measurement may be over.
    }
}

/// Blocks a worker again and again; each time it is replaced. Measured against timeout and interval, which are most of it.
async fn blocked(count: u32) {
    let config = Config::from_toml(
        "[workers]\narbiters = 1\ninterval = '50ms'\ntimeout = '300ms'\nzombies_max = 1000\n[restart]\nintensity = 1000000\ndelay_min = '0s'\ndelay_max = '0s'",
    )
    .unwrap();
    let bound = config.workers.timeout + config.workers.interval + Duration::from_millis(10);
    let node = Node::start(config).await.unwrap();
    let (sender, mut updates) = mpsc::unbounded_channel();
    node.subscribe(Ear(sender).start().recipient());
    let sleeper: WorkerAddr<Sleeper> = node.supervise("sleeper", || Sleeper).unwrap();
    let mut over = Vec::new();
    for _ in 0..count {
        let asleep = sleeper.send(Sleep(Duration::from_millis(600)));
        loop {
            if let Some(Update::Event(Event::Replaced { after, .. })) = updates.recv().await {
                over.push(after.as_secs_f64() * 1_000.0);
                break;
            }
        }
        drop(asleep);
    }
    row("blocked worker replaced (timeout 300 ms, interval 50 ms), p50", quantile(&mut over, 0.5), "ms");
    row("blocked worker replaced, slowest", quantile(&mut over, 1.0), "ms");
    row("  timeout + interval + 10 ms", bound.as_secs_f64() * 1_000.0, "ms");
    actix_rt::time::sleep(Duration::from_millis(700)).await; // The last zombies wake.
    node.leave().await;
}

/// Resident bytes of this process; zero where there is no /proc.
fn resident_bytes() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok()).unwrap_or_default() * 4_096.0
}

/// CPU seconds that this process has used, at a hundred ticks a second; zero where there is no /proc.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}

async fn million(count: u32, window: Duration) {
    let config = Config::from_toml("[workers]\ninterval = '1s'\ntimeout = '30s'").unwrap();
    let node = Node::start(config).await.unwrap();
    let before = resident_bytes();
    let start = Instant::now();
    let mut workers: Vec<WorkerAddr<Idle>> = Vec::new();
    for index in 0..count {
        workers.push(node.supervise(&format!("worker-{index}"), || Idle).unwrap());
    }
    for worker in workers.iter().rev().take(4) {
        worker.send(Add(1)).await.unwrap();
    }
    row(&format!("{count} workers started in"), start.elapsed().as_secs_f64(), "s");
    actix_rt::time::sleep(Duration::from_secs(1)).await;
    row("  memory of each (resident)", (resident_bytes() - before) / f64::from(count), "B");
    let (cpu, begun) = (cpu_seconds(), Instant::now());
    actix_rt::time::sleep(window).await;
    let share = (cpu_seconds() - cpu) / begun.elapsed().as_secs_f64() * 100.0;
    row("  CPU of one core while they idle, interval 1 s", share, "%");
    let mut scans: Vec<f64> = (0..20)
        .map(|_| {
            let start = Instant::now();
            assert!(node.busy().is_empty());
            start.elapsed().as_secs_f64() * 1_000.0
        })
        .collect();
    row("  scan of all their status cells, p50", quantile(&mut scans, 0.5), "ms");
    // Leaving would stop each of them in turn; the process is about to end anyhow.
}
