//! Whether anything grows over a long time: a hundred simulated nodes over weeks, and ten real
//! processes under churn.
//!
//! ```text
//! cargo bench -p heartbeat-tests --bench soak -- simulated --minutes 15
//! cargo bench -p heartbeat-tests --bench soak -- live --minutes 15
//! ```
//!
//! `simulated`: every ten virtual minutes something happens to a node: it is killed, leaves, is
//! paused, one of its workers panics or blocks, or it changes its metadata. Shards move with it,
//! and clients on all nodes send requests to them, some 360 a second in the half minute after each
//! fault. Six times a virtual day all nodes run, and the state of the engines is printed: the
//! length of their `Debug` text, in which each entry of each table and queue stands. Worker threads
//! give their sign of life every ten seconds instead of ten times a second, so that a virtual day
//! is over sooner. Minutes are those of this machine.
//!
//! `live`: five nodes stay, and five others are killed, leave and start again, one every second.
//! With `--test` both are short.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where")]

#[path = "nodes/mod.rs"]
mod nodes;

use std::cell::Cell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::{Duration, Instant};

use heartbeat_core::{Config, Event, Random, WorkerId};
use heartbeat_sim::{Fault, NodeIndex, Shape, World};
use nodes::{Nodes, Said, Usage};

const MINUTE: Duration = Duration::from_secs(60);

/// Counts the bytes that are written to it.
struct Length(usize);

impl std::fmt::Write for Length {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0 += text.len();
        Ok(())
    }
}

/// One thing that happens to a node, and its end.
fn harm(world: &mut World, random: &mut Random, place: NodeIndex, turn: u64) {
    let worker = WorkerId(random.below(4) as u32);
    match random.below(8) {
        0 | 1 => world.apply(Fault::Kill(place)),
        2 => world.apply(Fault::Unplug(place)),
        3 => world.apply(Fault::Leave(place)),
        4 => world.apply(Fault::Pause(place)),
        5 => world.apply(Fault::Panic(place, worker)),
        6 => world.apply(Fault::Block(place, worker, MINUTE * 3)),
        _ => world.apply(Fault::SetNote(place, turn)),
    }
    // Requests meet the fault and what follows from it.
    world.set_sending(true);
    world.run(MINUTE / 2);
    world.set_sending(false);
    world.run(MINUTE * 9 / 2);
    match world.engine(place) {
        Some(engine) if engine.has_left() => world.apply(Fault::Start(place)),
        Some(_) => world.apply(Fault::Resume(place)),
        None => world.apply(Fault::Start(place)),
    }
    world.run(MINUTE * 5);
}

/// What the engines of a world hold.
fn row(world: &World, turns: u64, moves: u64) {
    let engines: Vec<_> = world.running().into_iter().filter_map(|place| world.engine(place)).collect();
    let sum = |of: &dyn Fn(&heartbeat_core::Engine) -> usize| engines.iter().map(|engine| of(engine)).sum::<usize>();
    let mut lengths: Vec<usize> = engines
        .iter()
        .map(|engine| {
            let mut length = Length(0);
            write!(length, "{engine:?}").unwrap();
            length.0
        })
        .collect();
    lengths.sort_unstable();
    let requests: Vec<_> = (0..100).filter_map(|place| world.request_counters(place)).collect();
    let (held, under_way) =
        requests.iter().fold((0, 0), |(held, way), counters| (held + counters.held, way + counters.under_way));
    println!(
        "| {:.2} | {turns} | {moves} | {} | {} | {} | {} | {} | {held}, {under_way} | {:.1}, {:.1} | {:.1} |",
        world.elapsed().as_secs_f64() / 86_400.0,
        engines.len(),
        sum(&|engine| engine.members().count()),
        sum(&|engine| engine.watched().count()),
        sum(&|engine| engine.arbiters().len()),
        sum(&|engine| engine.threads(heartbeat_core::Instant::ZERO).len()),
        lengths[lengths.len() / 2] as f64 / 1_024.0,
        lengths[lengths.len() - 1] as f64 / 1_024.0,
        Usage::of(std::process::id()).resident_mib(),
    );
}

fn simulated(nodes: usize, time: Duration, turns_between: u64) {
    let config = Config::from_toml("workers.interval = '10s'\nworkers.timeout = '60s'").unwrap();
    let shape = Shape { workers: true, requests: true, ..Shape::large(nodes) };
    let mut world = World::of(1, shape, config);
    let moves = Rc::new(Cell::new(0));
    let counted = moves.clone();
    world.listener = Some(Box::new(move |_, _, event| {
        if let Event::Started { .. } = event {
            counted.set(counted.get() + 1);
        }
    }));
    let (begun, mut random, mut turns) = (Instant::now(), Random::seeded(9), 0);
    println!(
        "| virtual days | faults | starts of workers | nodes | rows | watched | threads wanted | threads | requests held, under way | \
         KiB of an engine: median, greatest | resident MiB |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
    world.set_sending(false);
    world.run(MINUTE * 10);
    row(&world, turns, moves.get());
    while begun.elapsed() < time {
        for _ in 0..turns_between {
            turns += 1;
            let place = random.below(nodes as u64) as usize;
            harm(&mut world, &mut random, place, turns);
        }
        row(&world, turns, moves.get());
        let now = world.elapsed();
        world.checker.forget_past(now);
    }
}

/// How the nodes that stay are, one line each.
fn rows(nodes: &mut Nodes, stay: usize, begun: Instant, churned: u64) {
    let mut said: Vec<Said> = Vec::new();
    for node in 0..stay {
        let status = nodes.status(node, &mut said);
        let usage = nodes.usage(node);
        println!(
            "| {:.1} | {churned} | node-{node} | {:.1} | {} | {} | {} | {} | {} |",
            begun.elapsed().as_secs_f64() / 60.0,
            usage.resident_mib(),
            usage.descriptors,
            usage.threads,
            status["rows"],
            status["members"],
            status["shards"],
        );
    }
}

fn live(count: usize, stay: usize, time: Duration, is_sealed: bool) {
    println!("{} nodes, {}", count, if is_sealed { "sealed" } else { "plain" });
    let mut nodes = Nodes::start(count, is_sealed, false);
    let (begun, mut random, mut churned) = (Instant::now(), Random::seeded(4), 0);
    println!("| minutes | ends | node | resident MiB | descriptors | threads | rows | members | shards |");
    println!("|---:|---:|---|---:|---:|---:|---:|---:|---:|");
    nodes.listen(Duration::from_secs(2));
    rows(&mut nodes, stay, begun, churned);
    for part in 1..=4 {
        while begun.elapsed() < time * part / 4 {
            let node = stay + random.below((count - stay) as u64) as usize;
            match nodes.children.contains_key(&node) {
                false => nodes.begin(node),
                true => {
                    churned += 1;
                    if random.chance(0.5) { nodes.kill(node) } else { nodes.leave(node) }
                }
            }
            nodes.listen(Duration::from_secs(1));
        }
        // All of them, at rest.
        for node in stay..count {
            if !nodes.children.contains_key(&node) {
                nodes.begin(node);
            }
        }
        nodes.listen(time.min(Duration::from_secs(15)));
        rows(&mut nodes, stay, begun, churned);
    }
}

fn main() {
    if nodes::is_node() {
        return;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| words.iter().any(|word| word == name);
    let minutes = words.iter().position(|word| word == "--minutes").map_or(15, |at| {
        words.get(at + 1).and_then(|word| word.parse::<u32>().ok()).expect("--minutes takes a number of minutes")
    });
    let is_quick = has("--test") || !has("--bench");
    let (wants_simulated, wants_live) = (has("simulated") || !has("live"), has("live") || !has("simulated"));
    if is_quick {
        simulated(10, Duration::from_secs(1), 1);
        return live(4, 2, Duration::from_secs(2), false);
    }
    if wants_simulated {
        simulated(100, MINUTE * minutes, 24);
    }
    if wants_live {
        live(10, 5, MINUTE * minutes, has("sealed"));
    }
}
