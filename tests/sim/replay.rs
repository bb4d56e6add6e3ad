//! Shows the run of a seed: its timeline, and what the checker found. Of a range of seeds only
//! those that are broken.
//!
//! cargo run --release -p heartbeat-sim --bin replay -- SEED|FROM..TO [--nodes N] [--monitors M]
//! [--requests]

use std::ops::Range;
use std::process::ExitCode;

use heartbeat_sim::{Shape, schedule};

const USAGE: &str = "usage: replay SEED|FROM..TO [--nodes N] [--monitors M] [--requests]\n  SEED, FROM and TO are whole numbers, TO not among those played; N is 1 to 200, 5 if not given; M is 0 to 9, 1 if not given, and 0 is a cluster without a centre; with --requests, clients send requests to the shards";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mut seed, mut nodes, mut monitors, mut requests) = (None, "5", "1", false);
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--nodes" => nodes = words.next().unwrap_or_default(),
            "--requests" => requests = true,
            "--monitors" => monitors = words.next().unwrap_or_default(),
            _ if seed.is_none() => seed = Some(word),
            _ => return refuse(&format!("{word:?} does not fit")),
        }
    }
    let Some(seed) = seed else { return refuse("no seed was given") };
    let seeds = match seed.split_once("..") {
        Some((from, to)) => (from.parse::<u64>(), to.parse::<u64>()),
        None => (seed.parse(), seed.parse().map(|seed: u64| seed.saturating_add(1))),
    };
    let (Ok(from), Ok(to)) = seeds else {
        return refuse(&format!("{seed:?} is neither a whole number nor a range like 100..200"));
    };
    let nodes = match nodes.parse::<usize>() {
        Ok(nodes) if (1..=200).contains(&nodes) => nodes,
        _ => return refuse(&format!("--nodes {nodes:?} is out of range")),
    };
    let monitors = match monitors.parse::<usize>() {
        Ok(monitors) if monitors < 10 => monitors,
        _ => return refuse(&format!("--monitors {monitors:?} is out of range")),
    };
    let shape = Shape { monitors, requests, ..Shape::decentralised(nodes) };
    if seed.contains("..") { play_all(from..to, shape) } else { play(from, shape) }
}

/// Plays many seeds and shows those that are broken.
fn play_all(seeds: Range<u64>, shape: Shape) -> ExitCode {
    let (mut played, mut broken) = (0, 0);
    for seed in seeds {
        played += 1;
        if let (_, Err(found)) = schedule::run_in(seed, shape) {
            broken += 1;
            println!("seed {seed} is broken:\n{found}");
        }
    }
    println!("{played} seeds, {broken} of them broken");
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays one seed and shows all that happens.
fn play(seed: u64, shape: Shape) -> ExitCode {
    let (world, result) = schedule::run_in(seed, shape);
    println!("{:>12}  {:8}  what", "time in s", "process");
    for line in world.log() {
        println!("{line}");
    }
    match result {
        Ok(()) => {
            println!("\nseed {seed}: {} deaths concluded, each with a cause; all recovered", world.checker.deaths());
            ExitCode::SUCCESS
        }
        Err(broken) => {
            println!("\nseed {seed} is broken:\n{broken}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("error: {why}\n{USAGE}");
    ExitCode::from(2)
}
