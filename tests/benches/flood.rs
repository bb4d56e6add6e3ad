//! Five real nodes with the defaults, one of which is sent garbage at a high rate: random bytes,
//! heartbeats with forged headers, and, where the nodes have a key, datagrams that look sealed.
//!
//! ```text
//! cargo bench -p heartbeat-tests --bench flood                               # two minutes
//! cargo bench -p heartbeat-tests --bench flood -- --rate 100000 --seconds 30
//! ```
//!
//! The garbage comes from one thread of this process over loopback, paced in bursts of 32. "Lost"
//! are datagrams for which the socket of the flooded node had no room. The longest gap is between
//! two heartbeats of the flooded node, as its observers recorded them, and of its observers, as the
//! flooded node did; the interval is 1 s. CPU is of the flooded node alone. A core to spare is
//! needed: the node and the sender of the garbage take one each. With `--test` a flood takes half a
//! second.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where")]

#[path = "nodes/mod.rs"]
mod nodes;

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use heartbeat_actors::seal::{Key, Keyring, Seal};
use heartbeat_core::member::{ProcessId, name_hash};
use heartbeat_core::wire::{self, Body, Header, Heartbeat, Observers, SEALED_MAGIC};
use heartbeat_core::{Generation, Incarnation, NodeId, Random, Trace};
use nodes::{KEY, Nodes, Said};

/// The node that is flooded.
const VICTIM: usize = 1;

/// Datagrams that are sent without a pause in between.
const BURST: u32 = 32;

/// Different datagrams of a flood.
const VARIANTS: u64 = 1_024;

/// What the garbage is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Garbage {
    /// Random bytes.
    Random,
    /// Heartbeats in the names of the members and of nodes that do not exist.
    Forged,
    /// The same with the id of the right key and a tag that is wrong.
    LooksSealed,
}

impl Garbage {
    fn name(self) -> &'static str {
        match self {
            Garbage::Random => "random bytes",
            Garbage::Forged => "forged headers",
            Garbage::LooksSealed => "looks sealed",
        }
    }

    fn datagrams(self) -> Vec<Vec<u8>> {
        let mut random = Random::seeded(7);
        (0..VARIANTS)
            .map(|number| match self {
                Garbage::Random => (0..16 + random.below(64)).map(|_| random.next_u64() as u8).collect(),
                Garbage::Forged => forged(number),
                Garbage::LooksSealed => looks_sealed(number, &mut random),
            })
            .collect()
    }
}

fn process(number: u64) -> ProcessId {
    let name = if number.is_multiple_of(2) { format!("node-{}", number / 2 % 5) } else { format!("ghost-{number}") };
    ProcessId { node: NodeId::of(&name), generation: Generation(1_700_000_000_000 + number) }
}

fn forged(number: u64) -> Vec<u8> {
    let ProcessId { node, generation } = process(number);
    let header = Header { cluster: name_hash("bench") as u32, from: node, generation, clock: 0 };
    let heartbeat = Heartbeat {
        incarnation: Incarnation::default(),
        stage: 1 << 20,
        interval: Duration::from_secs(1),
        slept: 0,
        health: 0,
        asks: true,
        observers: Observers::new([NodeId::of(&format!("node-{VICTIM}"))]),
    };
    let mut bytes = Vec::new();
    wire::encode(&mut bytes, header, &Body::Heartbeat(heartbeat));
    bytes
}

fn looks_sealed(number: u64, random: &mut Random) -> Vec<u8> {
    let ring = Keyring::new([Key::from_hex(KEY).unwrap()]).unwrap();
    let mut seal = Seal::new(process(number), ring, false, 8, random.next_u64());
    let (plain, mut form) = (forged(number), Vec::new());
    seal.seal(Some(ProcessId { node: NodeId::of("node-1"), generation: Generation(1) }), &plain, |bytes| {
        form = bytes.to_vec();
    });
    assert!(form.starts_with(&SEALED_MAGIC));
    form
}

/// Sends garbage for this long. Returns how many datagrams a second it was.
fn flood(to: SocketAddr, garbage: Garbage, rate: f64, time: Duration) -> f64 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // The answers are not read: their buffer fills up, and the rest is lost.
    socket.connect(to).unwrap();
    let datagrams = garbage.datagrams();
    let (begun, mut sent) = (Instant::now(), 0_u64);
    while begun.elapsed() < time {
        for _ in 0..BURST {
            if socket.send(&datagrams[(sent % VARIANTS) as usize]).is_ok() {
                sent += 1;
            }
        }
        let due = Duration::from_secs_f64(sent as f64 / rate);
        while begun.elapsed() < due {
            std::hint::spin_loop();
        }
    }
    sent as f64 / begun.elapsed().as_secs_f64()
}

/// Datagrams for which the socket at this address had no room so far.
fn lost(at: SocketAddr) -> u64 {
    let text = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
    let port = format!(":{:04X}", at.port());
    let row = text.lines().find(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&port)));
    row.and_then(|line| line.split_whitespace().last()?.parse().ok()).unwrap_or(0)
}

/// When heartbeats arrived, by the receiver and the process they are of.
type Arrivals = BTreeMap<(usize, String), Vec<u64>>;

fn arrivals(nodes: &Nodes) -> Arrivals {
    let mut found = BTreeMap::new();
    for &receiver in nodes.children.keys() {
        for file in std::fs::read_dir(nodes.recordings(receiver)).into_iter().flatten().flatten() {
            let text = std::fs::read_to_string(file.path()).unwrap();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let Ok(trace) = Trace::from_text(whole) else { continue };
            let mut times: Vec<u64> =
                trace.beats.iter().filter_map(|beat| beat.arrived).map(heartbeat_core::Instant::as_nanos).collect();
            times.sort_unstable();
            found.insert((receiver, file.file_name().to_string_lossy().into_owned()), times);
        }
    }
    found
}

/// The longest gaps since `before` was taken: of the flooded node at its observers, and of others
/// at the flooded node. In seconds.
fn gaps(before: &Arrivals, after: &Arrivals) -> (f64, f64) {
    let (mut out, mut into) = (0.0_f64, 0.0_f64);
    for ((receiver, of), times) in after {
        let from = before.get(&(*receiver, of.clone())).map_or(0, |before| before.len().saturating_sub(1));
        let longest = times[from..].windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0) as f64 / 1e9;
        if of.starts_with(&format!("node-{VICTIM}-")) {
            out = out.max(longest);
        } else if *receiver == VICTIM {
            into = into.max(longest);
        }
    }
    (out, into)
}

/// How many suspicions and deaths were published: of the flooded node, by it, and others.
fn verdicts(said: &[Said]) -> String {
    let victim = format!("node-{VICTIM}");
    let count = |kind: &str| {
        let (mut of, mut by, mut others) = (0, 0, 0);
        for said in said.iter().filter(|said| said.line["event"] == kind) {
            match (said.line["node"] == *victim, said.node == VICTIM) {
                (true, _) => of += 1,
                (false, true) => by += 1,
                (false, false) => others += 1,
            }
        }
        format!("{of} {by} {others}")
    };
    format!("{} | {}", count("suspected"), count("died"))
}

fn run(is_sealed: bool, garbage: Option<Garbage>, rate: f64, time: Duration) {
    let mut nodes = Nodes::start(5, is_sealed, true);
    nodes.listen(time.min(Duration::from_secs(5)));
    let mut said = Vec::new();
    let status = nodes.status(VICTIM, &mut said);
    said.clear();
    let (before, usage, lost_before) = (arrivals(&nodes), nodes.usage(VICTIM), lost(nodes.address(VICTIM)));
    let reached = match garbage {
        Some(garbage) => flood(nodes.address(VICTIM), garbage, rate, time),
        None => {
            std::thread::sleep(time);
            0.0
        }
    };
    let (usage_after, lost) = (nodes.usage(VICTIM), lost(nodes.address(VICTIM)) - lost_before);
    // What was concluded from it comes later; and recordings reach the disk within a second.
    said.extend(nodes.listen(Duration::from_secs(if time > Duration::from_secs(1) { 8 } else { 2 })));
    let status_after = nodes.status(VICTIM, &mut said);
    let (out, into) = gaps(&before, &arrivals(&nodes));
    let missed = status_after["missed"].as_u64().unwrap_or(0) - status["missed"].as_u64().unwrap_or(0);
    println!(
        "| {} | {} | {reached:.0} | {:.0} | {} | {out:.2} s | {into:.2} s | {missed} | {:.1}, {:.1} MiB | {:.0} % |",
        if is_sealed { "sealed" } else { "plain" },
        garbage.map_or("nothing", Garbage::name),
        lost as f64 / time.as_secs_f64(),
        verdicts(&said),
        usage.resident_mib(),
        nodes.usage(VICTIM).resident_mib(),
        (usage_after.cpu - usage.cpu) / time.as_secs_f64() * 100.0,
    );
}

fn main() {
    if nodes::is_node() {
        return;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let is_quick = words.iter().any(|word| word == "--test") || !words.iter().any(|word| word == "--bench");
    let value = |name: &str, default: f64| {
        let at = words.iter().position(|word| word == name);
        at.map_or(default, |at| words.get(at + 1).and_then(|word| word.parse().ok()).expect("a number follows"))
    };
    let rate = value("--rate", 200_000.0);
    let time = Duration::from_secs_f64(value("--seconds", if is_quick { 0.5 } else { 10.0 }));
    println!(
        "| nodes | garbage | reached a second | lost a second | suspected: it, by it, others | died: it, by it, others | \
         longest gap of its heartbeats | of others' at it | missed by it | resident before, after | CPU |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    let both = [Some(Garbage::Random), Some(Garbage::Forged)];
    let plain: &[Option<Garbage>] = if is_quick { &both[1..] } else { &[None, both[0], both[1]] };
    for &garbage in plain {
        run(false, garbage, rate, time);
    }
    let looks_sealed = [None, both[0], both[1], Some(Garbage::LooksSealed)];
    for &garbage in if is_quick { &looks_sealed[3..] } else { &looks_sealed[..] } {
        run(true, garbage, rate, time);
    }
}
