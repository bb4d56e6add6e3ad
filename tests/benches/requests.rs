//! A request to another process beside a bare TCP echo and an HTTP service: how long one takes, how
//! many fit into a second, and how fast large ones are. And what a send to a shard of this node
//! costs.
//!
//! ```text
//! cargo bench -p heartbeat-tests --bench requests
//! cargo bench -p heartbeat-tests --bench requests -- --rounds 5 --measure 0
//! ```
//!
//! The server of each contender is a process of its own, this binary again, on loopback; the
//! clients share one thread of this process. All answer with the first 64 bytes of the payload.
//! They take turns in rounds. Each figure is the median over the rounds, and each ratio is the
//! median of the ratios within a round, with the least and the greatest. So what disturbs the
//! machine for a while disturbs all of them.
//!
//! The bare echo is what no library can undercut: one thread in each process, a length before each
//! payload, one connection for each request in flight. Ours hands the message to a worker on an
//! arbiter of its own, since a worker that blocks must not hold up the connection.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where")]

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix_rt::System;
use futures_util::future::LocalBoxFuture;
use heartbeat_tests::process::ChildGuard;

#[path = "requests/bare.rs"]
mod bare;
#[path = "requests/connections.rs"]
mod connections;
#[path = "requests/ours.rs"]
mod ours;
#[path = "requests/web.rs"]
mod web;

/// Bytes of the small payloads, and of all answers.
const SMALL: usize = 64;

/// Bytes of the large ones.
const LARGE: usize = 1 << 20;

/// A client of one contender.
trait Client {
    /// Sends a payload and waits for the answer.
    fn ask(&self, payload: Payload) -> LocalBoxFuture<'static, usize>;
}

/// The payload of a request: shared, so that no contender pays for making it.
type Payload = std::sync::Arc<[u8]>;

/// What a server answers.
fn answer(payload: &[u8]) -> &[u8] {
    &payload[..payload.len().min(SMALL)]
}

/// A contender, the process of its server included.
struct Contender {
    /// Ends before the client, which need not say goodbye.
    _server: ChildGuard,
    name: &'static str,
    client: Rc<dyn Client>,
    ours: Option<Rc<ours::Client>>,
}

/// Starts the server of a contender. It prints a line once it can be asked.
fn start_server(name: &str, arguments: &[String]) -> (ChildGuard, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--as", name]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = ChildGuard::from(command.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().to_owned())
}

/// Runs the server of a contender until its input ends, as it does when this process's parent ends.
fn serve(name: &str, arguments: &[String]) {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new()); // Whether it ends or fails, it is over.
        std::process::exit(0);
    });
    match name {
        "bare" => bare::serve(),
        "actix-web" => web::serve(),
        "ours" => ours::serve(arguments),
        other => panic!("no contender is called {other:?} here"),
    }
}

async fn start(name: &'static str) -> Contender {
    let mut own = None;
    let (server, client): (ChildGuard, Rc<dyn Client>) = match name {
        "bare" => {
            let (server, line) = start_server(name, &[]);
            (server, Rc::new(bare::client(line.parse().unwrap())))
        }
        "actix-web" => {
            let (server, line) = start_server(name, &[]);
            (server, Rc::new(web::client(line.parse().unwrap())))
        }
        "ours" => {
            let [address, other] = [ours::free(), ours::free()].map(|address| address.to_string());
            let (server, _) = start_server(name, std::slice::from_ref(&address));
            let client = Rc::new(ours::client(&other, &address).await);
            own = Some(client.clone());
            (server, client)
        }
        other => panic!("no contender is called {other:?} here"),
    };
    Contender { _server: server, name, client, ours: own }
}

const NAMES: [&str; 3] = ["bare", "actix-web", "ours"];

/// Asks one at a time; the median time of one in microseconds.
async fn one_at_a_time(client: &Rc<dyn Client>, payload: &Payload, count: u32) -> f64 {
    let mut times = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let begun = Instant::now();
        assert_eq!(client.ask(payload.clone()).await, answer(payload).len());
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    median(&mut times)
}

/// Keeps this many in flight; requests in a second.
async fn in_flight(client: &Rc<dyn Client>, payload: &Payload, at_once: u32, count: u32) -> f64 {
    let left = Rc::new(Cell::new(count));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..at_once)
        .map(|_| {
            let (client, payload, left) = (client.clone(), payload.clone(), left.clone());
            actix_rt::spawn(async move {
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    assert_eq!(client.ask(payload.clone()).await, answer(&payload).len());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    f64::from(count) / begun.elapsed().as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// What is measured: its name, the unit, whether more is better, and one round of it.
struct Measure {
    what: &'static str,
    unit: &'static str,
    /// Requests in flight; none for one at a time.
    at_once: Option<u32>,
    payload: usize,
    count: u32,
}

impl Measure {
    async fn once(&self, client: &Rc<dyn Client>, count: u32) -> f64 {
        let payload: Payload = vec![7; self.payload].into();
        match self.at_once {
            None => one_at_a_time(client, &payload, count).await,
            Some(at_once) => in_flight(client, &payload, at_once, count).await,
        }
    }
}

const MEASURES: [Measure; 4] = [
    Measure { what: "64 bytes, one at a time, p50", unit: "us", at_once: None, payload: SMALL, count: 1_500 },
    Measure { what: "64 bytes, 64 in flight", unit: "a second", at_once: Some(64), payload: SMALL, count: 15_000 },
    Measure { what: "1 MiB, one at a time", unit: "a second", at_once: Some(1), payload: LARGE, count: 80 },
    Measure { what: "1 MiB, 4 in flight", unit: "a second", at_once: Some(4), payload: LARGE, count: 160 },
];

async fn measure(measure: &Measure, contenders: &[Contender], rounds: usize, is_quick: bool) {
    let count = if is_quick { 10 } else { measure.count };
    let mut figures: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    for contender in contenders {
        measure.once(&contender.client, count.div_ceil(4)).await;
    }
    for round in 0..rounds {
        for step in 0..contenders.len() {
            // Each round begins with another one.
            let place = (round + step) % contenders.len();
            figures[place].push(measure.once(&contenders[place].client, count).await);
        }
    }
    for (contender, own) in contenders.iter().zip(&figures) {
        let mut ratios: Vec<f64> = own.iter().zip(&figures[0]).map(|(own, first)| own / first).collect();
        let (ratio, figure) = (median(&mut ratios), median(&mut own.clone()));
        println!(
            "| {} | {} | {figure:.1} {} | {ratio:.2} ({:.2} to {:.2}) |",
            measure.what,
            contender.name,
            measure.unit,
            ratios[0],
            ratios[ratios.len() - 1]
        );
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [as_word, name, arguments @ ..] = &words[..]
        && as_word == "--as"
    {
        return serve(name, arguments);
    }
    let is_quick = words.iter().any(|word| word == "--test");
    let value = |name: &str| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
    let rounds = value("--rounds").map_or(11, |rounds| rounds.parse().expect("--rounds takes a number"));
    let rounds = if is_quick { 1 } else { rounds };
    System::new().block_on(async {
        let mut contenders = Vec::new();
        for name in NAMES {
            contenders.push(start(name).await);
        }
        println!("| what | who | measured | beside bare TCP |\n|---|---|---:|---:|");
        let picked = value("--measure").map(|place| place.parse::<usize>().expect("--measure takes a number"));
        for (place, one) in MEASURES.iter().enumerate() {
            if picked.is_none_or(|picked| picked == place) {
                measure(one, &contenders, rounds, is_quick).await;
            }
        }
        if let Some(ours) = contenders.iter().find_map(|contender| contender.ours.as_ref()).filter(|_| picked.is_none())
        {
            let (to_shard, to_worker) = ours.local(if is_quick { 2 } else { 4_000 }).await;
            println!("\nsend to a shard of this node: {to_shard:.0} ns; to its worker: {to_worker:.0} ns");
        }
        contenders.clear();
        tokio::time::sleep(Duration::from_millis(10)).await;
        std::process::exit(0); // The server is gone, and there is no peer to say goodbye to.
    });
}
