//! Large clusters without a centre in virtual time: how soon all know of a death, what it costs, and what is called dead that is not.
//!
//! ```text
//! cargo bench -p heartbeat-tests --bench swarm                    # all stories, some minutes
//! cargo bench -p heartbeat-tests --bench swarm -- crash pauses    # some of them
//! ```
//!
//! Each node is a real engine on a made-up network (0.2 ms and 0.3 ms on average more each way); all know each other at the start. "Silent" means that the
//! power is cut, so that no connection tells of it. Bytes are those sent, with 28 of IPv4 and UDP for each datagram; what streams carry is not in them, since a
//! lifeline carries nothing. The same seeds give the same figures on every machine, but for the last column, which is the time this machine took.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where")]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use heartbeat_core::{Config, Event, Random, Status};
use heartbeat_tests::{Fault, Place, Shape, World};

const SECOND: Duration = Duration::from_secs(1);

/// How old a world is when harm begins, and from when its traffic is counted.
const WARM: Duration = Duration::from_secs(20);
const STEADY: Duration = Duration::from_secs(20);

/// What was told of one node: who was told, and when.
#[derive(Default)]
struct Told {
    suspected: BTreeMap<Place, f64>,
    died: BTreeMap<Place, f64>,
}

/// A world whose events are gathered.
struct Swarm {
    world: World,
    told: Rc<RefCell<BTreeMap<String, Told>>>,
    /// Deaths concluded, by whom and of whom.
    verdicts: Rc<RefCell<Vec<(Duration, Place, String)>>>,
    begun: Instant,
}

impl Swarm {
    fn new(seed: u64, nodes: usize, config: Config) -> Swarm {
        let mut world = World::of(seed, Shape::large(nodes), config);
        let (told, verdicts) = (Rc::<RefCell<BTreeMap<String, Told>>>::default(), Rc::<RefCell<Vec<_>>>::default());
        let (gathered, authored) = (told.clone(), verdicts.clone());
        world.listener = Some(Box::new(move |at, place, event| match event {
            Event::Suspected { node, .. } => {
                let mut told = gathered.borrow_mut();
                told.entry(node.to_string()).or_default().suspected.entry(place).or_insert(at.as_secs_f64());
            }
            Event::Died { node, evidence, .. } => {
                let mut told = gathered.borrow_mut();
                told.entry(node.to_string()).or_default().died.entry(place).or_insert(at.as_secs_f64());
                if !evidence.is_empty() {
                    authored.borrow_mut().push((at, place, node.to_string()));
                }
            }
            _ => {}
        }));
        Swarm { world, told, verdicts, begun: Instant::now() }
    }

    /// Warms up, then counts what is sent for a while. Returns bytes and datagrams per node and second.
    fn warm_up(&mut self, nodes: usize) -> (f64, f64) {
        self.world.run(WARM);
        let before = self.world.sent();
        self.world.run(STEADY);
        let after = self.world.sent();
        let per = nodes as f64 * STEADY.as_secs_f64();
        ((after.1 - before.1) as f64 / per, (after.0 - before.0) as f64 / per)
    }

    /// For each of `victims`, harmed at these seconds: when the first and when the last of the others was told that it is suspect, and dead.
    fn spread(&self, victims: &[(Place, f64)], survivors: usize) -> Spread {
        let told = self.told.borrow();
        let mut spread = Spread::default();
        for (victim, since) in victims {
            let none = Told::default();
            let told = told.get(self.world.name(*victim)).unwrap_or(&none);
            let times = |times: &BTreeMap<Place, f64>| -> Option<(f64, f64)> {
                let known: Vec<f64> = times
                    .iter()
                    .filter(|(place, _)| !victims.iter().any(|(gone, _)| gone == *place))
                    .map(|(_, at)| at - since)
                    .collect();
                let last = known.iter().copied().fold(0.0, f64::max);
                (known.len() >= survivors).then(|| (known.iter().copied().fold(f64::MAX, f64::min), last))
            };
            // Whoever heard of the death first need not hear of the suspicion.
            let mut suspected = told.suspected.clone();
            for (place, at) in &told.died {
                suspected.entry(*place).or_insert(*at);
            }
            match times(&suspected) {
                Some((_, last)) => spread.suspect_all.push(last),
                None => spread.not_suspected += 1,
            }
            match times(&told.died) {
                Some((first, last)) => {
                    spread.dead_first.push(first);
                    spread.dead_all.push(last);
                }
                None => spread.not_known += 1,
            }
        }
        spread
    }

    /// Deaths concluded of nodes that were not ended: all, and those by nodes that are not in `ill`.
    fn false_deaths(&self, ended: &[Place], ill: &BTreeSet<Place>) -> (usize, usize) {
        let names: Vec<&str> = ended.iter().map(|&place| self.world.name(place)).collect();
        let verdicts = self.verdicts.borrow();
        let wrong = || verdicts.iter().filter(|(_, _, node)| !names.contains(&&**node));
        (wrong().count(), wrong().filter(|(_, by, _)| !ill.contains(by)).count())
    }
}

#[derive(Default)]
struct Spread {
    suspect_all: Vec<f64>,
    dead_first: Vec<f64>,
    dead_all: Vec<f64>,
    not_suspected: usize,
    not_known: usize,
}

/// Median and greatest.
fn figures(times: &[f64]) -> String {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    match times.last() {
        Some(last) => format!("{:6.2} {:6.2}", times[times.len() / 2], last),
        None => format!("{:>6} {:>6}", "-", "-"),
    }
}

fn config(text: &str) -> Config {
    Config::from_toml(text).unwrap()
}

/// Victims drawn from `nodes`, each once.
fn draw(random: &mut Random, nodes: usize, count: usize) -> Vec<Place> {
    let mut drawn = BTreeSet::new();
    while drawn.len() < count {
        drawn.insert(random.below(nodes as u64) as Place);
    }
    drawn.into_iter().collect()
}

const HEAD: &str = "                                          all suspect s   first dead s    all dead s     not known  false   B/s/node  node-s/s";

fn line(name: &str, spread: &Spread, wrong: usize, bytes: f64, speed: f64) {
    println!(
        "{name:40}  {}   {}   {}   {:>6}   {wrong:>6}   {bytes:>7.0}   {speed:>8.0}",
        figures(&spread.suspect_all),
        figures(&spread.dead_first),
        figures(&spread.dead_all),
        spread.not_known,
    );
}

/// Some nodes end at once, silently or with their connections closed; then 30 s are watched.
fn crash(name: &str, seed: u64, nodes: usize, count: usize, silent: bool, watched: u64, text: &str) {
    let mut swarm = Swarm::new(seed, nodes, config(text));
    let (bytes, _) = swarm.warm_up(nodes);
    let mut random = Random::seeded(seed ^ 0xc0a5);
    let since = swarm.world.elapsed().as_secs_f64();
    let victims: Vec<(Place, f64)> = draw(&mut random, nodes, count).into_iter().map(|place| (place, since)).collect();
    for &(place, _) in &victims {
        swarm.world.apply(if silent { Fault::Unplug(place) } else { Fault::Kill(place) });
    }
    swarm.world.run(SECOND * watched as u32);
    let ended: Vec<Place> = victims.iter().map(|(place, _)| *place).collect();
    let (wrong, _) = swarm.false_deaths(&ended, &BTreeSet::new());
    let speed = nodes as f64 * swarm.world.elapsed().as_secs_f64() / swarm.begun.elapsed().as_secs_f64();
    line(name, &swarm.spread(&victims, nodes - count), wrong, bytes, speed);
}

/// A few members pause for long, again and again: Lifeguard's grid, C members, D of pause, I between.
fn pauses(seed: u64, nodes: usize, paused: usize, pause: Duration, between: Duration) {
    let mut swarm = Swarm::new(seed, nodes, Config::default());
    let (bytes, _) = swarm.warm_up(nodes);
    let ill: BTreeSet<Place> = draw(&mut Random::seeded(seed), nodes, paused).into_iter().collect();
    let end = swarm.world.elapsed() + SECOND * 90;
    while swarm.world.elapsed() < end {
        ill.iter().for_each(|&place| swarm.world.apply(Fault::Pause(place)));
        swarm.world.run(pause);
        ill.iter().for_each(|&place| swarm.world.apply(Fault::Resume(place)));
        swarm.world.run(between);
    }
    swarm.world.run(SECOND * 10);
    let paused_too_long: Vec<Place> = ill.iter().copied().collect();
    let (at_healthy, _) = swarm.false_deaths(&paused_too_long, &ill);
    let (all, _) = swarm.false_deaths(&[], &ill);
    println!(
        "N = {nodes}, {paused} members pause for {pause:?}, {between:?} between, 90 s: {at_healthy} healthy nodes called dead, by anyone; {} times a \
         paused one (foca: 2,975 views of healthy ones); {bytes:.0} B/s/node",
        all - at_healthy
    );
}

/// Rapid's faults: some drop all that comes in, 20 s on and 20 s off; some lose most of all.
fn rapid(seed: u64, nodes: usize) {
    for (name, loss) in [("drop all ingress, 20 s on, 20 s off", None), ("lose 80 % of all", Some(0.8))] {
        let mut swarm = Swarm::new(seed, nodes, Config::default());
        swarm.warm_up(nodes);
        let ill: BTreeSet<Place> = draw(&mut Random::seeded(seed), nodes, nodes / 100).into_iter().collect();
        let cut = |world: &mut World, on: bool| {
            for &to in &ill {
                for from in (0..nodes).filter(|from| *from != to) {
                    world.apply(if on { Fault::Cut(from, to) } else { Fault::Mend(from, to) });
                }
            }
        };
        for _ in 0..3 {
            match loss {
                Some(loss) => ill.iter().for_each(|&place| swarm.world.apply(Fault::Garble(place, loss))),
                None => cut(&mut swarm.world, true),
            }
            swarm.world.run(SECOND * 20);
            if loss.is_none() {
                cut(&mut swarm.world, false);
            }
            swarm.world.run(SECOND * 20);
        }
        let faulty: Vec<Place> = ill.iter().copied().collect();
        let (healthy, _) = swarm.false_deaths(&faulty, &ill);
        let (all, _) = swarm.false_deaths(&[], &ill);
        let observer = (0..nodes).find(|place| !ill.contains(place)).unwrap();
        let members = swarm.world.engine(observer).unwrap().members();
        let gone = members.filter(|member| matches!(member.status, Status::Dead | Status::Left)).count();
        println!(
            "N = {nodes}, {} {name}, 120 s: {healthy} healthy nodes called dead; the faulty ones {} times, {gone} of them at the end",
            ill.len(),
            all - healthy
        );
    }
}

/// An hour at 5 % loss.
fn hour(seed: u64, nodes: usize) {
    let mut swarm = Swarm::new(seed, nodes, Config::default());
    swarm.world.apply(Fault::Disturb(0.05, 0.0, 0.0));
    swarm.world.run(SECOND * 3_600);
    let (wrong, _) = swarm.false_deaths(&[], &BTreeSet::new());
    let suspected: usize = swarm.told.borrow().values().map(|told| told.suspected.len()).sum();
    let (_, bytes) = swarm.world.sent();
    println!(
        "N = {nodes}, 5 % loss, one hour: {wrong} deaths, {suspected} nodes were told of a suspicion; {:.0} B/s/node",
        bytes as f64 / 3_600.0 / nodes as f64
    );
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let is_quick = words.iter().any(|word| word == "--test");
    let wants = |story: &str| !is_quick && (words.is_empty() || words.iter().any(|word| word == story));
    if is_quick {
        println!("{HEAD}");
        return crash("N = 30, 1 silent", 1, 30, 1, true, 15, "");
    }
    if wants("crash") {
        println!("{HEAD}");
        for seed in 1..=3 {
            crash("N = 50, 1 killed, its system answers", seed, 50, 1, false, 15, "");
            crash("N = 50, 1 silent", seed, 50, 1, true, 15, "");
            crash("N = 1,000, 10 silent", seed, 1_000, 10, true, 30, "");
        }
        crash("N = 1,000, 10 killed, systems answer", 1, 1_000, 10, false, 30, "");
        crash("N = 1,000, 300 silent", 1, 1_000, 300, true, 90, "");
        crash("N = 1,000, 300 killed, systems answer", 1, 1_000, 300, false, 90, "");
        let frugal = "interval = '1500ms'\n[membership]\nobservers = 2";
        crash("N = 1,000, 10 silent, 2 observers, 1.5 s", 1, 1_000, 10, true, 40, frugal);
    }
    if wants("scale") {
        println!("{HEAD}");
        for nodes in [100, 1_000, 5_000] {
            crash(&format!("N = {nodes}, 5 silent"), 1, nodes, 5, true, 15, "");
        }
    }
    if wants("pauses") {
        for seed in 1..=3 {
            pauses(seed, 128, 4, Duration::from_millis(16_400), Duration::from_millis(16));
        }
    }
    if wants("rapid") {
        rapid(1, 1_000);
    }
    if wants("hour") {
        hour(1, 100);
        hour(2, 1_000);
    }
}
