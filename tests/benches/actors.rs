//! What acting costs, beside plain actix where there is something to compare: round trips, panics,
//! starts, blocked threads, a million workers.
//!
//! ```text
//! cargo bench -p heartbeat-tests --bench actors
//! cargo bench -p heartbeat-tests --bench actors -- --histograms    # what metrics.histograms costs
//! ```
//!
//! It measures by its own clock rather than with a harness: what is measured crosses threads, or
//! happens once in a while, or is memory. Rows are those of a table in Markdown. With `--test`
//! everything is done once and small. B1 of the list of tests that prove a supervisor: the round
//! trip, the scan of 100,000 and the replacement of a blocked worker, each with its bar.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actix::prelude::*;
use heartbeat_actors::shard::Owner;
use heartbeat_actors::transport::{MemoryNetwork, Transport};
use heartbeat_actors::{Config, Context, Node, WorkerAddr, WorkerSpec, testkit};
use heartbeat_core::{Generation, Member, Profile, Random};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    // Cargo passes `--bench` when it is to be measured.
    let quick = has("--test") || !has("--bench");
    if let Some(sends) = arguments.iter().skip_while(|argument| *argument != "--sends").nth(1) {
        let _traced = has("--traced").then(|| tracing::subscriber::set_default(tracing_subscriber::registry()));
        return send_alone(sends.parse().unwrap(), has("--histograms"));
    }
    System::new().block_on(async {
        if has("--million") {
            million(if quick { 1_000 } else { 1_000_000 }, Duration::from_secs(if quick { 1 } else { 10 })).await;
            return;
        }
        if let Some(look_ups) = arguments.iter().skip_while(|argument| *argument != "--owner").nth(1) {
            let node = node_among(1_000).await;
            look_up(&node, look_ups.parse().unwrap());
            std::process::exit(0); // It has no peer to say goodbye to.
        }
        println!("| what | measured |\n|---|---:|");
        if has("--histograms") {
            return histograms(if quick { 100 } else { 10_000 }, if quick { 1 } else { 301 }).await;
        }
        owners(if quick { 1_000 } else { 1_000_000 }).await;
        std::panic::set_hook(Box::new(|_| {})); // Printing a panic costs more than the panic.
        round_trips(if quick { 100 } else { 10_000 }, if quick { 1 } else { 301 }).await;
        for (count, apart, how) in [(3_000, 0, "back to back"), (1_000, 2, "2 ms apart")] {
            let (count, apart) = (if quick { 3 } else { count }, Duration::from_millis(apart));
            bare_panics(count, apart, how).await;
            panics(count, apart, how).await;
        }
        starts(if quick { 100 } else { 100_000 }).await;
        blocked(if quick { 1 } else { 20 }).await;
        // In a process of its own: what the others have left behind would be taken for its memory,
        // or used up instead of it.
        let mut alone = Command::new(std::env::current_exe().unwrap());
        alone.arg("--million").arg(if quick { "--test" } else { "--bench" });
        assert!(alone.status().unwrap().success());
    });
}

fn row(what: &str, value: f64, unit: &str) {
    println!("| {what} | {value:.3} {unit} |");
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

// ---- round trips -------------------------------------------------------------------------------

#[derive(Message)]
#[rtype(result = "u64")]
struct Add(u64);

/// Sends this many messages one after the other to a neighbour on the same arbiter; answers with
/// nanoseconds for each.
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

/// Round trips on one arbiter: plain actix and ours in turn, so that other load on the machine hits
/// both. Rounds take a few milliseconds, so that most are not interrupted.
async fn round_trips(messages: u32, rounds: usize) {
    let arbiter = Arbiter::new();
    let callee = Plain::start_in_arbiter(&arbiter.handle(), |_| Plain { total: 0, neighbour: None });
    let plain = Plain::start_in_arbiter(&arbiter.handle(), move |_| Plain { total: 0, neighbour: Some(callee) });
    let node = Node::start(Config::from_toml("[workers]\narbiters = 1\ntimeout = '4m'").unwrap()).await.unwrap();
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
    row("message round trip on one arbiter, plain actix", quantile(&mut plain_ns, 0.5), "ns");
    row("message round trip on one arbiter, our context", quantile(&mut our_ns, 0.5), "ns");
    row("our context over plain actix, median of the differences", quantile(&mut more_ns, 0.5), "ns");
    arbiter.stop();
    node.leave().await;
}

/// Sends this many messages to a neighbour on the same arbiter without waiting for an answer;
/// answers with nanoseconds for each once all are handled.
#[derive(Message)]
#[rtype(result = "f64")]
struct Flood(u32);

impl Handler<Flood> for Worker {
    type Result = ResponseFuture<f64>;

    fn handle(&mut self, flood: Flood, _: &mut Context<Self>) -> Self::Result {
        let neighbour = self.neighbour.lock().unwrap().clone().unwrap();
        Box::pin(async move {
            let start = Instant::now();
            for _ in 1..flood.0 {
                neighbour.try_send(Add(1)).unwrap();
            }
            neighbour.send(Add(1)).await.unwrap();
            start.elapsed().as_nanos() as f64 / f64::from(flood.0)
        })
    }
}

/// Two workers of a node of their own on one arbiter; the address of the one that sends.
async fn pair(settings: &str) -> (Node, WorkerAddr<Worker>) {
    let config = format!("{settings}\n[workers]\narbiters = 1\ntimeout = '4m'\ncapacity = 100000");
    let node = Node::start(Config::from_toml(&config).unwrap()).await.unwrap();
    let neighbour = Arc::new(Mutex::new(None));
    let make = || {
        let neighbour = neighbour.clone();
        move || Worker { total: 0, neighbour: neighbour.clone() }
    };
    *neighbour.lock().unwrap() = Some(node.supervise("callee", make()).unwrap());
    let caller = node.supervise("caller", make()).unwrap();
    (node, caller)
}

/// What `metrics.histograms` adds to a message: two nodes in turn, so that other load on the
/// machine hits both. Once with messages each of which is alone, once with a queue that is never
/// empty.
async fn histograms(messages: u32, rounds: usize) {
    let (off_node, off) = pair("").await;
    let (on_node, on) = pair("metrics.histograms = true").await;
    let (mut alone, mut queued) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
    for _ in 0..rounds {
        let (a, b) = (off.send(Ping(messages)).await.unwrap(), on.send(Ping(messages)).await.unwrap());
        [a, b, b - a].into_iter().zip(&mut alone).for_each(|(value, values)| values.push(value));
        let (a, b) = (off.send(Flood(messages)).await.unwrap(), on.send(Flood(messages)).await.unwrap());
        [a, b, b - a].into_iter().zip(&mut queued).for_each(|(value, values)| values.push(value));
    }
    for (what, [mut off, mut on, mut more]) in [("round trip", alone), ("message of a full queue", queued)] {
        row(&format!("{what}, histograms off"), quantile(&mut off, 0.5), "ns");
        row(&format!("{what}, histograms on"), quantile(&mut on, 0.5), "ns");
        row("the difference (its bar: 40 ns), median", quantile(&mut more, 0.5), "ns");
    }
    off_node.leave().await;
    on_node.leave().await;
}

// ---- panics ------------------------------------------------------------------------------------

/// What of a panic is Rust's own: thrown, caught, dropped.
async fn bare_panics(count: u32, apart: Duration, how: &str) {
    let mut taken = Vec::new();
    for _ in 0..count {
        if !apart.is_zero() {
            actix_rt::time::sleep(apart).await;
        }
        let start = Instant::now();
        let _ = catch_unwind(AssertUnwindSafe(|| panic!("as told"))); // It always panics.
        taken.push(micros(start.elapsed()));
    }
    row(&format!("a panic thrown and caught, {how}, p50"), quantile(&mut taken, 0.5), "us");
}

/// When the former life panicked, and which one it was.
type Panicked = Arc<Mutex<Option<(Instant, u64)>>>;

struct Fragile {
    panicked: Panicked,
    /// Told how long the next message waited, and whether the worker's own thread made the
    /// replacement.
    answers: UnboundedSender<(Duration, bool)>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Panic;

#[derive(Message)]
#[rtype(result = "()")]
struct Next;

impl Actor for Fragile {
    type Context = Context<Self>;
}

impl Handler<Panic> for Fragile {
    type Result = ();

    fn handle(&mut self, _: Panic, context: &mut Context<Self>) {
        *self.panicked.lock().unwrap() = Some((Instant::now(), context.generation().0));
        panic!("as told");
    }
}

impl Handler<Next> for Fragile {
    type Result = ();

    fn handle(&mut self, _: Next, context: &mut Context<Self>) {
        let now = Instant::now();
        let (at, generation) = self.panicked.lock().unwrap().take().unwrap();
        // The supervisor leaves a number out when it starts a worker anew.
        let by_itself = context.generation().0 == generation + 1;
        self.answers.send((now - at, by_itself)).unwrap();
    }
}

/// Puts both messages into the queue of a neighbour that cannot run meanwhile.
struct Sender(WorkerAddr<Fragile>);

impl Actor for Sender {
    type Context = Context<Self>;
}

impl Handler<Panic> for Sender {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        self.0.try_send(Panic).unwrap();
        self.0.try_send(Next).unwrap();
    }
}

/// From the panicking handler to the handler of the message that lay behind. Back to back, the
/// leave for the next immediate restart may not have come when it is needed, and the supervisor
/// starts the worker.
async fn panics(count: u32, apart: Duration, how: &str) {
    let node = Node::start(Config::from_toml("[workers]\narbiters = 1").unwrap()).await.unwrap();
    let (panicked, (sender, mut answers)) = (Panicked::default(), unbounded_channel());
    let spec =
        WorkerSpec::new("fragile").intensity(u32::MAX, Duration::from_millis(1)).delay(Duration::ZERO, Duration::ZERO);
    let fragile =
        node.supervise_with(spec, move |_| Ok(Fragile { panicked: panicked.clone(), answers: sender.clone() }));
    let fragile = fragile.unwrap();
    let sender: WorkerAddr<Sender> = node.supervise("sender", move || Sender(fragile.clone())).unwrap();
    let (mut all, mut by_itself) = (Vec::new(), 0u32);
    for _ in 0..count {
        if !apart.is_zero() {
            actix_rt::time::sleep(apart).await;
        }
        sender.try_send(Panic).unwrap();
        let (taken, alone) = answers.recv().await.unwrap();
        all.push(micros(taken));
        by_itself += u32::from(alone);
    }
    row(&format!("panic to the next queued answer, {how}, p50"), quantile(&mut all, 0.5), "us");
    row(&format!("panic to the next queued answer, {how}, p99"), quantile(&mut all, 0.99), "us");
    row(&format!("replaced by their own thread, {how}"), f64::from(by_itself) / f64::from(count) * 100.0, "%");
    node.leave().await;
}

// ---- starts ------------------------------------------------------------------------------------

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

/// Starts workers without waiting for any, then waits for the last one on each arbiter.
async fn start_many(node: &Node, count: u32) -> Vec<WorkerAddr<Idle>> {
    let workers: Vec<WorkerAddr<Idle>> =
        (0..count).map(|index| node.supervise(&format!("many-{index}"), || Idle).unwrap()).collect();
    for last in workers.iter().rev().take(node.config().workers.arbiters as usize) {
        last.send(Add(1)).await.unwrap();
    }
    workers
}

async fn starts(count: u32) {
    let node = Node::start(Config::default()).await.unwrap();
    let mut taken: Vec<f64> = Vec::new();
    for index in 0..count.min(1_000) {
        let start = Instant::now();
        let worker: WorkerAddr<Idle> = node.supervise(&format!("one-{index}"), || Idle).unwrap();
        worker.send(Add(1)).await.unwrap();
        taken.push(micros(start.elapsed()));
    }
    row("start of a worker to its first answer, p50", quantile(&mut taken, 0.5), "us");
    row("start of a worker to its first answer, p99", quantile(&mut taken, 0.99), "us");
    let start = Instant::now();
    let workers = start_many(&node, count).await;
    row(&format!("{count} workers started in a row, each"), micros(start.elapsed()) / f64::from(count), "us");
    actix_rt::time::sleep(Duration::from_millis(500)).await; // The supervisor still handles the reports that they started.
    row(&format!("scan of the status cells of {count} (its bar for 100,000: 2 ms), p50"), scan(&node), "ms");
    drop(workers);
    let start = Instant::now();
    node.leave().await;
    row("all of them stopped, each", micros(start.elapsed()) / f64::from(count), "us");
}

// ---- blocked workers ---------------------------------------------------------------------------

/// Tells when it began to sleep, and when it was made.
struct Sleeper(UnboundedSender<Moment>);

enum Moment {
    Asleep(Instant),
    Made(Instant),
}

#[derive(Message)]
#[rtype(result = "()")]
struct Sleep(Duration);

impl Actor for Sleeper {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        self.0.send(Moment::Made(Instant::now())).unwrap();
    }
}

impl Handler<Sleep> for Sleeper {
    type Result = ();

    fn handle(&mut self, sleep: Sleep, _: &mut Context<Self>) {
        self.0.send(Moment::Asleep(Instant::now())).unwrap();
        std::thread::sleep(sleep.0);
    }
}

/// Blocks a worker at a random point of its thread's interval, again and again; each time it is
/// replaced.
async fn blocked(count: u32) {
    let config = Config::from_toml(
        "[workers]\narbiters = 1\ninterval = '50ms'\ntimeout = '300ms'\nzombies_max = 1000\n\
         [restart]\nintensity = 1000000\ndelay_min = '0s'\ndelay_max = '0s'",
    )
    .unwrap();
    let (interval, timeout) = (config.workers.interval, config.workers.timeout);
    let node = Node::start(config).await.unwrap();
    let (sender, mut moments) = unbounded_channel();
    let sleeper: WorkerAddr<Sleeper> = node.supervise("sleeper", move || Sleeper(sender.clone())).unwrap();
    let (mut random, mut taken) = (Random::seeded(1), Vec::new());
    let mut asleep = None;
    while taken.len() < count as usize {
        match moments.recv().await.unwrap() {
            Moment::Asleep(at) => asleep = Some(at),
            Moment::Made(at) => {
                taken.extend(asleep.map(|asleep| micros(at - asleep) / 1_000.0));
                actix_rt::time::sleep(interval + random.duration_below(interval)).await;
                sleeper.try_send(Sleep(timeout * 2)).unwrap();
            }
        }
    }
    let bound = timeout + interval + Duration::from_millis(10);
    row("blocked worker (timeout 300 ms, interval 50 ms) replaced, p50", quantile(&mut taken, 0.5), "ms");
    row("blocked worker replaced, slowest", quantile(&mut taken, 1.0), "ms");
    row("  its bar: timeout + interval + 10 ms", micros(bound) / 1_000.0, "ms");
    // The verdict falls when the timeout is over, and not before.
    let after = quantile(&mut taken, 1.0) - micros(timeout) / 1_000.0;
    row("  from the verdict to the replacement, slowest (its bar: 5 ms)", after, "ms");
    actix_rt::time::sleep(timeout * 3).await; // The last zombies wake.
    node.leave().await;
}

// ---- a million ---------------------------------------------------------------------------------

/// Resident bytes of this process; zero where there is no /proc.
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or_default() * 1_024.0
}

/// CPU seconds that the threads of this process have used; zero where there is no /proc. To the
/// nanosecond, since a clock that ticks a hundred times a second may miss all of it.
fn cpu_seconds() -> f64 {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return 0.0 };
    let used = |thread: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<f64>().ok()
    };
    threads.filter_map(used).sum::<f64>() / 1e9
}

/// A node that sees this many members, itself among them.
async fn node_among(count: u32) -> Node {
    let settings = "timeout = '4m'\n[cluster]\nname = 'bench'\nnode = 'node-0'\nrole = 'worker'\nmode = 'random'\nseeds = ['10.0.0.1:1']\nlisten = '127.0.0.1:0'\n";
    let address: SocketAddr = "10.0.0.1:1".parse().unwrap();
    let network = MemoryNetwork::new();
    let bind = move || Ok(Some(Rc::new(network.bind(address)?) as Rc<dyn Transport>));
    let node = Node::start_on(Config::from_toml(settings).unwrap(), bind).await.unwrap();
    testkit::add_members(&node, (1..count).map(member).collect()).await;
    assert_eq!(node.view().members().len(), count as usize);
    node
}

fn member(number: u32) -> Member {
    let profile = Profile::new(format!("node-{number}"), "10.0.0.1:1".parse().unwrap());
    Member::new(profile, Generation(1))
}

/// Sends this many messages one after the other to one worker, all on this thread and in virtual
/// time. So a program that counts instructions counts nothing else.
fn send_alone(sends: u32, with_histograms: bool) {
    let mut config = Config::default();
    config.metrics.histograms = with_histograms;
    testkit::run(config, |node| async move {
        let worker = node.supervise("worker", || Worker { total: 0, neighbour: Arc::default() }).unwrap();
        let span = tracing::trace_span!("sender");
        for _ in 0..sends {
            let reply = span.in_scope(|| worker.send(Add(1)));
            reply.await.unwrap();
        }
    });
}

/// Asks who is responsible for each of these keys; how many are this node's.
fn look_up(node: &Node, look_ups: u64) -> u64 {
    let is_here = |key: u64| matches!(black_box(node.owner("orders", key.to_le_bytes())), Ok(Owner::Here(())));
    (0..look_ups).map(|key| u64::from(is_here(key))).sum()
}

/// Who is responsible for a key: the first look-ups, in which each slot's owner is found, those
/// after, and the first ones after a change.
async fn owners(look_ups: u64) {
    for count in [5, 1_000] {
        let node = node_among(count).await;
        let time = || {
            let start = Instant::now();
            look_up(&node, look_ups);
            start.elapsed().as_secs_f64() * 1e9 / look_ups as f64
        };
        row(&format!("owner of a key among {count} members, the first {look_ups} look-ups"), time(), "ns");
        let mut times: Vec<f64> = (0..10).map(|_| time()).collect();
        row("the next ones, p50 of ten rounds", quantile(&mut times, 0.5), "ns");
        testkit::add_members(&node, vec![member(count)]).await;
        row("the first ones after a member has come", time(), "ns");
        node.leave().await;
    }
}

/// How long a look at all status cells of a node takes, in ms.
fn scan(node: &Node) -> f64 {
    let mut scans: Vec<f64> = (0..20)
        .map(|_| {
            let start = Instant::now();
            assert!(node.busy().is_empty());
            micros(start.elapsed()) / 1_000.0
        })
        .collect();
    quantile(&mut scans, 0.5)
}

/// Idle workers: their memory and time, and one scan of all their status cells. The names and the
/// addresses that the caller keeps are counted in.
async fn million(count: u32, window: Duration) {
    let config = Config::from_toml("[workers]\ninterval = '1s'\ntimeout = '30s'").unwrap();
    let node = Node::start(config).await.unwrap();
    let (before, start) = (resident_bytes(), Instant::now());
    let workers = start_many(&node, count).await;
    row(&format!("{count} workers in one process, started in"), start.elapsed().as_secs_f64(), "s");
    actix_rt::time::sleep(Duration::from_secs(1)).await; // The supervisor still handles the reports that they started.
    row("resident memory of each", (resident_bytes() - before) / f64::from(count), "B");
    let (cpu, begun) = (cpu_seconds(), Instant::now());
    actix_rt::time::sleep(window).await;
    let share = (cpu_seconds() - cpu) / begun.elapsed().as_secs_f64() * 100.0;
    row("CPU of one core while all idle, interval 1 s", share, "%");
    row("scan of all their status cells, p50", scan(&node), "ms");
    // Leaving would stop each of them in turn; the process is about to end anyhow.
    drop(workers);
}
