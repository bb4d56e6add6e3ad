//! Shows the run of a seed: its timeline, and what the checker found.
//!
//! cargo run -p heartbeat-tests --bin replay -- SEED [--nodes N]

use std::process::ExitCode;

use heartbeat_tests::schedule;

const USAGE: &str = "usage: replay SEED [--nodes N]   (SEED is a whole number, N is 1 to 200, 5 if not given)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (seed, nodes) = match words[..] {
        [seed] => (seed, "5"),
        [seed, "--nodes", nodes] | ["--nodes", nodes, seed] => (seed, nodes),
        _ => return refuse(&format!("{} arguments do not fit", words.len())),
    };
    let Ok(seed) = seed.parse::<u64>() else { return refuse(&format!("seed {seed:?} is not a whole number")) };
    let nodes = match nodes.parse::<usize>() {
        Ok(nodes) if (1..=200).contains(&nodes) => nodes,
        _ => return refuse(&format!("--nodes {nodes:?} is out of range")),
    };
    let (world, result) = schedule::run(seed, nodes);
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
