//! Shows the run of a seed: its timeline, and what the checker found.
//!
//! cargo run -p heartbeat-tests --bin replay -- SEED [--nodes N] [--monitors M]

use std::process::ExitCode;

use heartbeat_tests::{Shape, schedule};

const USAGE: &str = "usage: replay SEED [--nodes N] [--monitors M]\n  SEED is a whole number; N is 1 to 200, 5 if not given; M is 0 to 9, 1 if not given, and 0 is a cluster without a centre";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mut seed, mut nodes, mut monitors) = (None, "5", "1");
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--nodes" => nodes = words.next().unwrap_or_default(),
            "--monitors" => monitors = words.next().unwrap_or_default(),
            _ if seed.is_none() => seed = Some(word),
            _ => return refuse(&format!("{word:?} does not fit")),
        }
    }
    let Some(seed) = seed else { return refuse("no seed was given") };
    let Ok(seed) = seed.parse::<u64>() else { return refuse(&format!("seed {seed:?} is not a whole number")) };
    let nodes = match nodes.parse::<usize>() {
        Ok(nodes) if (1..=200).contains(&nodes) => nodes,
        _ => return refuse(&format!("--nodes {nodes:?} is out of range")),
    };
    let monitors = match monitors.parse::<usize>() {
        Ok(monitors) if monitors < 10 => monitors,
        _ => return refuse(&format!("--monitors {monitors:?} is out of range")),
    };
    let (world, result) = schedule::run_in(seed, Shape::new(monitors, nodes));
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
