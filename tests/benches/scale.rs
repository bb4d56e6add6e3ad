//! Large clusters without a monitor in virtual time, ours beside foca: how soon all know of a
//! death, what it costs, and how many live nodes are declared dead.
//!
//! ```text
//! cargo bench -p heartbeat-tests --bench scale                    # all stories, about ten minutes
//! cargo bench -p heartbeat-tests --bench scale -- crash pauses    # some of them
//! cargo bench -p heartbeat-tests --bench scale -- curve --plot docs/src/pauses.svg
//! ```
//!
//! Each node is a real engine, ours or foca's (`new_lan`, by the size of the cluster). Both run on
//! the same simulated network with the same seeds: 0.2 ms each way, and 0.3 ms more on average. All
//! know each other at the start. "Silent" means that the power is cut, so that no connection
//! closes. To foca, which keeps no connections, a killed process is the same. Bytes are those sent,
//! with 28 of IPv4 and UDP for each datagram; what streams carry is not in them, since a lifeline
//! carries nothing. The same seeds give the same figures on every machine, but for the last column,
//! which is the time this machine took.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where")]

use std::collections::BTreeSet;
use std::time::Duration;

use heartbeat_core::{Config, Random};
use heartbeat_sim::{Fault, NodeIndex};

#[path = "scale/curve.rs"]
mod curve;
#[path = "peers/foca_engine.rs"]
mod foca_engine;
#[path = "scale/foca_nodes.rs"]
mod foca_nodes;
#[path = "scale/ours.rs"]
mod ours;
#[path = "scale/played.rs"]
mod played;

use foca_nodes::foca;
use ours::ours;
use played::{Gathered, Make};

const SECOND: Duration = Duration::from_secs(1);

/// How old a world is when its traffic is counted, and for how long that is done.
const WARM: Duration = Duration::from_secs(20);

fn config(text: &str) -> Config {
    Config::from_toml(text).unwrap()
}

fn our_defaults(seed: u64, nodes: usize) -> Gathered {
    ours(seed, nodes, Config::default())
}

fn foca_defaults(seed: u64, nodes: usize) -> Gathered {
    foca(seed, nodes, None)
}

const BOTH: [Make<'static>; 2] = [&our_defaults, &foca_defaults];

/// Median and greatest.
fn figures(times: &[f64]) -> String {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    match times.last() {
        Some(last) => format!("{:6.2} {:6.2}", times[times.len() / 2], last),
        None => format!("{:>6} {:>6}", "-", "-"),
    }
}

/// Victims drawn from `nodes`, each once.
fn draw(random: &mut Random, nodes: usize, count: usize) -> Vec<NodeIndex> {
    let mut drawn = BTreeSet::new();
    while drawn.len() < count {
        drawn.insert(random.below(nodes as u64) as NodeIndex);
    }
    drawn.into_iter().collect()
}

fn head() {
    println!(
        "{:46}  {:^13}   {:^13}   {:^13}   {:>9}   {:>11}   {:>8}   {:>8}",
        "median, greatest",
        "all suspect s",
        "first dead s",
        "all dead s",
        "not known",
        "wrong deaths",
        "B/s/node",
        "node-s/s"
    );
}

/// Some nodes end at once, silently or with their connections closed; then `watched` seconds.
fn crash(name: &str, make: Make<'_>, seed: u64, nodes: usize, count: usize, silent: bool, watched: u32) {
    let mut cluster = make(seed, nodes);
    let bytes = cluster.warm_up(WARM);
    let since = cluster.played.elapsed();
    let victims = draw(&mut Random::seeded(seed ^ 0xc0a5), nodes, count);
    for &place in &victims {
        cluster.played.apply(if silent { Fault::Unplug(place) } else { Fault::Kill(place) });
    }
    cluster.played.look_for(&victims);
    cluster.played.run(SECOND * watched);
    let spread = cluster.spread(&victims, since);
    let (wrong, _, _) = cluster.false_deaths(&victims);
    println!(
        "{:46}  {:>13}   {:>13}   {:>13}   {:>9}   {wrong:>12}   {bytes:>8.0}   {:>8.0}",
        format!("{}: {name}", cluster.played.name()),
        figures(&spread.suspect_all),
        figures(&spread.dead_first),
        figures(&spread.dead_all),
        spread.not_known,
        cluster.speed(),
    );
}

/// A few members pause for long, again and again: Lifeguard's grid, C members, D of pause, I
/// between.
fn pauses(make: Make<'_>, seed: u64, nodes: usize, paused: usize, pause: Duration, between: Duration) {
    let mut cluster = make(seed, nodes);
    let bytes = cluster.warm_up(WARM);
    let ill = draw(&mut Random::seeded(seed), nodes, paused);
    let end = cluster.played.elapsed() + SECOND * 90;
    while cluster.played.elapsed() < end {
        ill.iter().for_each(|&place| cluster.played.apply(Fault::Pause(place)));
        cluster.played.run(pause);
        ill.iter().for_each(|&place| cluster.played.apply(Fault::Resume(place)));
        cluster.played.run(between);
    }
    cluster.played.run(SECOND * 10);
    let (healthy, _, views) = cluster.false_deaths(&ill);
    let (_, _, all) = cluster.false_deaths(&[]);
    println!(
        "{}: N = {nodes}, {paused} pause for {pause:?}, {between:?} between, 90 s: {healthy} healthy nodes called dead, in {views} views; the pausing ones \
         in {} views; {bytes:.0} B/s/node",
        cluster.played.name(),
        all - views
    );
}

/// Rapid's faults: some drop all that comes in, 20 s on and 20 s off; some lose most of all.
fn rapid(make: Make<'_>, seed: u64, nodes: usize) {
    for (name, loss) in [("drop all ingress, 20 s on, 20 s off", None), ("lose 80 % of all", Some(0.8))] {
        let mut cluster = make(seed, nodes);
        cluster.played.run(WARM * 2);
        let ill = draw(&mut Random::seeded(seed), nodes, nodes / 100);
        let links =
            || ill.iter().flat_map(|&to| (0..nodes).filter(move |from| *from != to).map(move |from| (from, to)));
        for _ in 0..3 {
            match loss {
                Some(loss) => ill.iter().for_each(|&place| cluster.played.apply(Fault::LossyNode(place, loss))),
                None => links().for_each(|(from, to)| cluster.played.apply(Fault::Cut(from, to))),
            }
            cluster.played.run(SECOND * 20);
            if loss.is_none() {
                links().for_each(|(from, to)| cluster.played.apply(Fault::Mend(from, to)));
            }
            cluster.played.run(SECOND * 20);
        }
        let (healthy, _, views) = cluster.false_deaths(&ill);
        let (_, concluded, all) = cluster.false_deaths(&[]);
        let observer = (0..nodes).find(|place| !ill.contains(place)).unwrap();
        let authors = if concluded > 0 { format!(", {concluded} times by the node itself") } else { String::new() };
        println!(
            "{}: N = {nodes}, {} {name}, 120 s: {healthy} healthy nodes called dead, in {views} views; the faulty ones in {} views{authors}, {} of them \
             at the end",
            cluster.played.name(),
            ill.len(),
            all - views,
            cluster.played.missing(observer),
        );
    }
}

/// An hour at 5 % loss.
fn hour(make: Make<'_>, seed: u64, nodes: usize) {
    let mut cluster = make(seed, nodes);
    cluster.played.apply(Fault::Disturb(0.05, 0.0, 0.0));
    cluster.played.run(SECOND * 3_600);
    let (wrong, _, views) = cluster.false_deaths(&[]);
    let (_, bytes) = cluster.played.sent();
    let name = cluster.played.name();
    let suspected = match name {
        "ours" => format!(", {} nodes received a suspicion", cluster.told.borrow().suspicions()),
        _ => String::new(),
    };
    println!(
        "{name}: N = {nodes}, 5 % loss, one hour: {wrong} nodes called dead, in {views} views{suspected}; {:.0} B/s/node; {:.0} node-seconds a second",
        bytes as f64 / 3_600.0 / nodes as f64,
        cluster.speed()
    );
}

fn crashes() {
    head();
    for seed in 1..=3 {
        for make in BOTH {
            crash("N = 50, 1 killed, its system answers", make, seed, 50, 1, false, 60);
            crash("N = 50, 1 silent", make, seed, 50, 1, true, 60);
        }
    }
    for seed in 1..=3 {
        for make in BOTH {
            crash("N = 1,000, 10 silent", make, seed, 1_000, 10, true, 30);
        }
    }
    for make in BOTH {
        crash("N = 1,000, 10 killed, systems answer", make, 1, 1_000, 10, false, 30);
        crash("N = 1,000, 300 silent", make, 1, 1_000, 300, true, 90);
        crash("N = 1,000, 300 killed, systems answer", make, 1, 1_000, 300, false, 90);
    }
    let frugal = |seed, nodes| ours(seed, nodes, config("interval = '1600ms'\n[membership]\nobservers = 2"));
    for seed in 1..=3 {
        crash("N = 1,000, 10 silent, 2 observers, 1.6 s", &frugal, seed, 1_000, 10, true, 40);
    }
}

fn scale() {
    head();
    // The last takes 12 GiB: each of the nodes has a table of all.
    for nodes in [100, 1_000, 10_000] {
        crash(&format!("N = {nodes}, 5 silent"), &our_defaults, 1, nodes, 5, true, 15);
    }
    for nodes in [100, 1_000] {
        crash(&format!("N = {nodes}, 5 silent"), &foca_defaults, 1, nodes, 5, true, 40);
    }
}

/// How quick the simulation itself is: node-seconds in a second, from the start on.
fn speed(make: Make<'_>, nodes: usize, time: Duration, faults: bool) {
    let mut cluster = make(1, nodes);
    if faults {
        cluster.played.apply(Fault::Disturb(0.02, 0.05, 0.05));
    }
    cluster.played.run(time);
    let name = cluster.played.name();
    let faults = if faults { ", 2 % lost, 5 % doubled, 5 % held back" } else { "" };
    println!("{name}: N = {nodes}{faults}: {:.0} node-seconds a second", cluster.speed());
}

fn main() {
    let mut words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let plot = words.iter().position(|word| word == "--plot").map(|at| {
        words.remove(at);
        if at < words.len() { words.remove(at) } else { panic!("--plot needs the name of a file") }
    });
    if words.iter().any(|word| word == "--test") {
        head();
        return BOTH.iter().for_each(|make| crash("N = 30, 1 silent", make, 1, 30, 1, true, 15));
    }
    const STORIES: [&str; 7] = ["crash", "scale", "curve", "pauses", "rapid", "hour", "speed"];
    if let Some(unknown) = words.iter().find(|word| !STORIES.contains(&word.as_str())) {
        panic!("no story is called {unknown:?}; there are {STORIES:?}");
    }
    let wants = |story: &str| words.is_empty() || words.iter().any(|word| word == story);
    if wants("crash") {
        crashes();
    }
    if wants("scale") {
        scale();
    }
    if wants("curve") {
        curve::curve(plot.as_deref());
    }
    if wants("pauses") {
        for seed in 1..=3 {
            // The same pauses, spared.
            let patient = |seed, nodes| ours(seed, nodes, config("timeout = '18s'"));
            for make in [BOTH[0], &patient, BOTH[1]] {
                pauses(make, seed, 128, 4, Duration::from_millis(16_400), Duration::from_millis(16));
            }
        }
    }
    if wants("rapid") {
        BOTH.iter().for_each(|make| rapid(make, 1, 1_000));
    }
    if wants("speed") {
        for make in BOTH {
            speed(make, 100, SECOND * 600, false);
            speed(make, 100, SECOND * 600, true);
            speed(make, 1_000, SECOND * 30, false);
            speed(make, 1_000, SECOND * 30, true);
        }
    }
    if wants("hour") {
        BOTH.iter().for_each(|make| hour(make, 1, 100));
        hour(&our_defaults, 2, 1_000);
    }
}
