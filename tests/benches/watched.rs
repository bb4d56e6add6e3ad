//! What an operator's look costs a node, and how soon `/livez` answers when the node is in trouble.
//!
//! ```text
//! cargo run --release -p heartbeat-tests --bin watched -- livez  # busy loops, held threads
//! cargo run --release -p heartbeat-tests --bin watched -- top    # 100,000 workers
//! cargo run --release -p heartbeat-tests --bin watched -- page   # 100 members
//! ```
//!
//! The node is in this process. The client is in another one, so that its CPU time is not counted.
#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on says where")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use actix::prelude::*;
use heartbeat_actors::{Config, Context, Node, testkit};
use heartbeat_core::{Generation, Member, Profile};
use heartbeat_tests::process::ChildGuard;

/// How long each part is measured.
const MEASURED_FOR: Duration = Duration::from_secs(10);

/// Pause between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(50);

const WORKERS: usize = 100_000;
const MEMBERS: usize = 100;

struct Idle;

impl Actor for Idle {
    type Context = Context<Self>;
}

/// Holds the worker's thread until its other side is dropped.
#[derive(Message)]
#[rtype(result = "()")]
struct Hold(mpsc::Receiver<()>);

impl Handler<Hold> for Idle {
    type Result = ();

    fn handle(&mut self, hold: Hold, _: &mut Context<Self>) {
        let _ = hold.0.recv(); // An error: the other side was dropped.
    }
}

/// Asks for a path.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The CPU time of this process. The kernel counts it in hundredths of a second.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|&field| fields[field].parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Probes `/livez` and prints how long its answers took.
fn probe(what: &str, address: SocketAddr) {
    let begun = Instant::now();
    let mut took = Vec::new();
    while begun.elapsed() < MEASURED_FOR {
        let asked = Instant::now();
        assert!(get(address, "/livez").starts_with("HTTP/1.1 200"));
        took.push(asked.elapsed());
        std::thread::sleep(PROBE_EVERY);
    }
    took.sort();
    let at = |share: usize| took[(took.len() - 1) * share / 1_000];
    println!("{what}: {} probes, p50 {:.1?}, p99 {:.1?}, longest {:.1?}", took.len(), at(500), at(990), at(1_000));
}

async fn livez() {
    let config = Config::from_toml("workers.arbiters = 2\nworkers.timeout = '1h'\n[http]\nlisten = '127.0.0.1:0'");
    let node = Node::start(config.unwrap()).await.unwrap();
    let address = node.http_address().unwrap();
    let in_thread = move |what: &'static str| actix_rt::task::spawn_blocking(move || probe(what, address));
    in_thread("nothing else runs").await.unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    for _ in 0..8 {
        let is_over = is_over.clone();
        std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
    }
    in_thread("8 busy loops").await.unwrap();
    let mut ends = Vec::new();
    for number in 0..2 {
        let worker = node.supervise(&format!("holder-{number}"), || Idle).unwrap();
        worker.until_up().await.unwrap();
        let (end, held) = mpsc::channel();
        worker.do_send(Hold(held));
        ends.push(end);
    }
    in_thread("8 busy loops, and each worker thread is blocked").await.unwrap();
    is_over.store(true, Ordering::Relaxed);
    in_thread("each worker thread is blocked").await.unwrap();
    drop(ends);
}

/// Prints the share of a core that this process takes while a client asks it.
async fn watched(what: &str, address: SocketAddr, words: &[&str]) {
    for (who, is_asked) in [("no client", false), (what, true)] {
        let client = is_asked.then(|| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            ChildGuard::from(command.arg("ask").arg(address.to_string()).args(words).spawn().unwrap())
        });
        actix_rt::time::sleep(Duration::from_secs(2)).await;
        let (before, begun) = (cpu(), Instant::now());
        actix_rt::time::sleep(MEASURED_FOR).await;
        let share = (cpu() - before).as_secs_f64() / begun.elapsed().as_secs_f64();
        println!("{who}: {:.2} % of a core", share * 100.0);
        drop(client);
    }
}

/// Asks for paths again and again, each with its own pause, over one connection after another. With
/// `paced` the pause is at least 19 times what the answer took, as in `heartbeat top`.
fn ask(address: SocketAddr, is_paced: bool, paths: &[(String, Duration)]) {
    let mut due: Vec<Instant> = vec![Instant::now(); paths.len()];
    loop {
        for ((path, every), due) in paths.iter().zip(&mut due) {
            let now = Instant::now();
            if now < *due {
                continue;
            }
            get(address, path);
            let pause = if is_paced { (now.elapsed() * 19).min(Duration::from_secs(5)) } else { Duration::ZERO };
            *due = Instant::now() + pause.max(*every);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn top() {
    let node = Node::start(Config::from_toml("[http]\nlisten = '127.0.0.1:0'").unwrap()).await.unwrap();
    let workers: Vec<_> =
        (0..WORKERS).map(|number| node.supervise(&format!("worker-{number}"), || Idle).unwrap()).collect();
    for worker in &workers {
        worker.until_up().await.unwrap();
    }
    let address = node.http_address().unwrap();
    watched("top, overview, --every 1s", address, &["paced", "/summary=1000", "/groups=10000"]).await;
    watched("top, overview, --every 100ms", address, &["paced", "/summary=100", "/groups=10000"]).await;
    let queues = "/workers?sort=fullness&limit=200=100";
    watched("top, queues, --every 100ms", address, &["paced", "/livez?verbose=100", "/readyz?verbose=100", queues])
        .await;
}

async fn page() {
    let config = Config::from_toml(
        "timeout = '4m'
         [http]
         listen = '127.0.0.1:0'
         [cluster]
         name = 'bench'
         node = 'node-0'
         role = 'worker'
         mode = 'random'
         listen = '127.0.0.1:0'
         seeds = []",
    );
    let node = Node::start(config.unwrap()).await.unwrap();
    node.until_joined().await.unwrap();
    let member = |number: usize| {
        let address = SocketAddr::from(([127, 0, 1, number as u8], 9));
        Member::new(Profile::new(&*format!("node-{number}"), address), Generation(1))
    };
    testkit::add_members(&node, (1..MEMBERS).map(member).collect()).await;
    let address = node.http_address().unwrap();
    println!("{} members", get(address, "/members").matches("\"zone\"").count());
    watched("the page, first section", address, &["free", "/summary=2000"]).await;
    let all = ["free", "/summary=2000", "/members=5000", "/links=5000", "/links?=1000"];
    watched("the page, members and links", address, &all).await;
}

#[actix::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("livez") => livez().await,
        Some("top") => top().await,
        Some("page") => page().await,
        Some("ask") => {
            let path = |argument: &String| {
                let (path, every) = argument.rsplit_once('=').unwrap();
                (path.to_owned(), Duration::from_millis(every.parse().unwrap()))
            };
            let paths: Vec<(String, Duration)> = arguments[3..].iter().map(path).collect();
            ask(arguments[1].parse().unwrap(), arguments[2] == "paced", &paths);
        }
        _ => println!("usage: watched livez|top|page"),
    }
}
