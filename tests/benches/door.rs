//! What the HTTP door of a node with many workers costs: how long an answer takes, how much CPU
//! time the process spends on it, and what an open door costs between requests.
//!
//! ```text
//! cargo bench -p heartbeat-tests --bench door                      # 100,000 workers of 50 kinds
//! cargo bench -p heartbeat-tests --bench door -- --workers 10000 --rounds 30
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

async fn start(workers: usize) -> (Node, SocketAddr) {
    let config = Config::from_toml("[http]\nlisten = '127.0.0.1:0'").unwrap();
    let node = Node::start(config).await.unwrap();
    let each = workers.div_ceil(KINDS);
    supervise_kinds!(&node, each,
        0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24
        25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49);
    let address = node.http_address().unwrap();
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

/// The CPU time of this process.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name of the program, which stands in parentheses, may hold spaces.
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // Linux tells it in hundredths of a second to all programs.
    Duration::from_millis(ticks * 10)
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

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let is_quick = words.iter().any(|word| word == "--test");
    let value = |name: &str, otherwise: usize| {
        let word = words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
        word.map_or(otherwise, |word| word.parse().unwrap_or_else(|_| panic!("{name} takes a number, not {word:?}")))
    };
    let (workers, rounds, idle_for) =
        if is_quick { (200, 2, 0) } else { (value("--workers", 100_000), value("--rounds", 20), 10) };
    let (ready, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix::System::new().block_on(async {
            let (_node, address) = start(workers).await;
            ready.send(address).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let address = address.recv().unwrap();
    measure(address, rounds);
    if idle_for > 0 {
        let share = idle(Duration::from_secs(idle_for as u64));
        println!("\n{workers} idle workers, and no request to the door: {:.2} % of a core", share * 100.0);
    }
}
