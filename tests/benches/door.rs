//! What the HTTP door of a node with many workers costs: how long an answer takes, how much CPU
//! time the process spends on it, and what an open door costs between requests.
//!
//! ```text
//! cargo bench -p heartbeat-tests --bench door                      # 100,000 workers of 50 kinds
//! cargo bench -p heartbeat-tests --bench door -- --workers 10000 --rounds 30
//! cargo bench -p heartbeat-tests --bench door -- --idle-for 60
//! ```
//!
//! The node and the client are in one process, the workers are real and idle. A tenth of them has
//! had a message. The process is measured whole, so the CPU time has the client's share, which is
//! small beside the rest.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use actix::prelude::*;
use heartbeat_actors::{Config, Context, Node};

/// A kind of worker for each number.
struct Idle<const KIND: usize>;

impl<const KIND: usize> Actor for Idle<KIND> {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Note;

impl<const KIND: usize> Handler<Note> for Idle<KIND> {
    type Result = ();

    fn handle(&mut self, _: Note, _: &mut Context<Self>) {}
}

/// Workers of one kind.
async fn supervise<const KIND: usize>(node: &Node, count: usize) {
    let workers: Vec<_> = (0..count)
        .map(|index| node.supervise(&format!("kind-{KIND}/worker-{index}"), || Idle::<KIND>).unwrap())
        .collect();
    for worker in &workers {
        worker.until_up().await.unwrap();
    }
    for worker in workers.iter().step_by(10) {
        worker.send(Note).await.unwrap();
    }
}

/// Calls `supervise` for each of these kinds.
macro_rules! supervise_kinds {
    ($node:expr, $count:expr, $($kind:literal)*) => {
        $(supervise::<$kind>($node, $count).await;)*
    };
}

const KINDS: usize = 50;

async fn start(workers: usize, config: &str) -> (Node, Option<SocketAddr>) {
    let config = Config::from_toml(config).unwrap();
    let node = Node::start(config).await.unwrap();
    let each = workers.div_ceil(KINDS);
    supervise_kinds!(&node, each,
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24
        25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49);
    let address = node.http_address();
    (node, address)
}

/// Asks for a path; the bytes of the answer.
fn get(address: SocketAddr, path: &str) -> usize {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..answer.len().min(400)]));
    answer.len()
}

/// The CPU time of this process, to the nanosecond: a clock that ticks a hundred times a second may
/// miss most of what an idle node takes.
fn cpu_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let used = |thread: std::io::Result<std::fs::DirEntry>| {
        // A thread may have ended meanwhile.
        let stat = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.filter_map(used).sum())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

const PATHS: [&str; 8] = [
    "/livez",
    "/metrics",
    "/summary",
    "/groups",
    "/workers",
    "/workers?sort=busy_for&limit=50",
    "/workers?sort=fullness&limit=50",
    "/threads",
];

fn measure(address: SocketAddr, rounds: usize) {
    println!("| path | median | longest | CPU time each | bytes |\n|---|---:|---:|---:|---:|");
    for path in PATHS {
        let bytes = get(address, path);
        let (mut times, before) = (Vec::new(), cpu_time());
        for _ in 0..rounds {
            let begun = Instant::now();
            get(address, path);
            times.push(begun.elapsed());
        }
        let cpu = (cpu_time() - before) / rounds as u32;
        let (median, longest) = (median(&mut times), times[times.len() - 1]);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!("| `{path}` | {:.1} ms | {:.1} ms | {:.1} ms | {bytes} |", ms(median), ms(longest), ms(cpu));
    }
}

/// The share of a core that the process takes while the door gets no request.
fn idle(during: Duration) -> f64 {
    let before = cpu_time();
    std::thread::sleep(during);
    (cpu_time() - before).as_secs_f64() / during.as_secs_f64()
}

const DOOR: &str = "[http]\nlisten = '127.0.0.1:0'";

/// A node on a thread of its own, and its door.
fn start_apart(workers: usize, config: &'static str) -> Option<SocketAddr> {
    let (ready, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix::System::new().block_on(async {
            let (_node, address) = start(workers, config).await;
            ready.send(address).unwrap();
            std::future::pending::<()>().await;
        });
    });
    address.recv().unwrap()
}

/// What a process takes that runs an idle node with or without a door, in percent of a core.
fn idle_alone(workers: usize, config: &'static str, during: Duration) {
    start_apart(workers, config);
    std::thread::sleep(Duration::from_secs(1)); // The supervisor still handles the reports that they started.
    println!("{}", idle(during) * 100.0);
}

/// Runs this program again with these words, and returns what it prints.
fn run_alone(words: &[&str]) -> f64 {
    let output = std::process::Command::new(std::env::current_exe().unwrap()).args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// The same node with and without a door, by turns, each time in a process of its own.
fn compare_idle(workers: usize, during: usize) {
    let (workers, during) = (workers.to_string(), during.to_string());
    let run = |mode| run_alone(&[mode, "--workers", &workers, "--idle-for", &during]);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        without.push(run("--without"));
        with.push(run("--with"));
    }
    let median = |shares: &mut Vec<f64>| {
        shares.sort_by(f64::total_cmp);
        shares[shares.len() / 2]
    };
    let (with, without) = (median(&mut with), median(&mut without));
    println!("\n| {workers} idle workers, no request | share of a core, median of 5 |\n|---|---:|");
    println!("| without a door | {without:.3} % |\n| with a door | {with:.3} % |");
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| words.iter().any(|word| word == name);
    let value = |name: &str, otherwise: usize| {
        let word = words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
        word.map_or(otherwise, |word| word.parse().unwrap_or_else(|_| panic!("{name} takes a number, not {word:?}")))
    };
    let (workers, rounds, idle_for) =
        if has("--test") { (200, 2, 0) } else { (value("--workers", 100_000), value("--rounds", 20), 10) };
    let idle_for = value("--idle-for", idle_for);
    if has("--with") || has("--without") {
        let config = if has("--with") { DOOR } else { "" };
        idle_alone(workers, config, Duration::from_secs(idle_for as u64));
        std::process::exit(0);
    }
    let address = start_apart(workers, DOOR).expect("it has a door");
    measure(address, rounds);
    if idle_for > 0 {
        compare_idle(1_000, idle_for);
    }
}
