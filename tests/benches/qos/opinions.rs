//! What second opinions are worth: wrong suspicions that reach a cluster where each node has five
//! observers, and where it has one.
//!
//! Real engines in the simulated world, with the budget at its default of one an hour on each link,
//! an interval of 1 s and a timeout of 6 s. What is sent between two nodes has the outcome that a
//! made-up trace gives it. No node ever stops, so each suspicion and each death is wrong.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use heartbeat_core::{Config, Event};
use heartbeat_sim::link_kinds::KINDS;
use heartbeat_sim::links::Link;
use heartbeat_sim::outcomes::{Cause, Outcomes};
use heartbeat_sim::{Shape, World};

/// Nodes of the cluster.
const NODES: usize = 12;

/// What is not counted at the start: until then a detector knows nothing of its link.
const LEARNING: Duration = Duration::from_secs(2 * 3_600);

/// Observers that conclude the same within so long of each other have seen one silence.
const ONE_SILENCE: Duration = Duration::from_secs(6);

/// Kinds, and what causes their silences.
const CASES: [(&str, Cause); 11] = [
    ("handover", Cause::Path),
    ("bursts", Cause::Path),
    ("satellite", Cause::Path),
    ("power-line", Cause::Path),
    ("storms", Cause::Path),
    ("bufferbloat", Cause::Path),
    ("wan", Cause::Path),
    ("mobile", Cause::Path),
    ("collector", Cause::Sender),
    ("brownout", Cause::Sender),
    ("starved", Cause::Receiver),
];

/// Of a whole cluster: suspicions and deaths that reached it, and budgets that cannot be kept.
#[derive(Clone, Default, Debug)]
struct Counts {
    suspected: u32,
    died: u32,
    exceeded: u32,
    /// When a node was last suspected, and declared dead.
    newest: BTreeMap<(Arc<str>, bool), Duration>,
}

impl Counts {
    /// Counts a conclusion about a node, unless it is that of another observer.
    fn conclude(&mut self, at: Duration, node: &Arc<str>, is_death: bool) {
        let before = self.newest.insert((node.clone(), is_death), at);
        if at > LEARNING && before.is_none_or(|before| at > before + ONE_SILENCE) {
            *(if is_death { &mut self.died } else { &mut self.suspected }) += 1;
        }
    }
}

/// Plays each case and prints its row.
pub(crate) fn run(hours: f64, seed: u64) {
    println!("{hours} h, {NODES} nodes, seed {seed}; wrong conclusions a node and day after the first two hours");
    println!(
        "| kind | caused by | k = 1: suspected | died | k = 5: suspected | died | fewer suspicions | not to be kept |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for (name, cause) in CASES {
        let [one, five] = [1, 5].map(|observers| play(name, cause, observers, hours, seed));
        let days = NODES as f64 * (hours - LEARNING.as_secs_f64() / 3_600.0).max(0.01) / 24.0;
        let a_day = |count: u32| f64::from(count) / days;
        let fewer = if five.suspected == 0 { ">".to_owned() } else { String::new() };
        println!(
            "| {name} | {cause:?} | {:.2} | {:.2} | {:.3} | {:.3} | {fewer}{:.1} | {} |",
            a_day(one.suspected),
            a_day(one.died),
            a_day(five.suspected),
            a_day(five.died),
            f64::from(one.suspected) / f64::from(five.suspected.max(1)),
            five.exceeded,
        );
    }
}

fn play(name: &str, cause: Cause, observers: u32, hours: f64, seed: u64) -> Counts {
    let mut config = Config::default();
    config.membership.observers = observers;
    let mut world = World::of(seed, Shape::large(NODES), config);
    let trace = |seed| match KINDS.iter().find(|kind| kind.name == name) {
        Some(kind) => kind.trace(seed, hours),
        None => {
            let links = [Link::Wan, Link::Mobile];
            links.iter().find(|link| link.name() == name).expect("a kind has a name").trace(seed, hours)
        }
    };
    world.network.outcomes = Some(Outcomes::new(cause, NODES, seed * 1_000, trace));
    let counts = Rc::new(RefCell::new(Counts::default()));
    let seen = counts.clone();
    world.listener = Some(Box::new(move |at, _, event| {
        let mut counts = seen.borrow_mut();
        match event {
            Event::Suspected { node, reported_by: None, .. } => counts.conclude(at, node, false),
            Event::Died { node, reported_by: None, .. } => counts.conclude(at, node, true),
            Event::BudgetExceeded { .. } => counts.exceeded += 1,
            _ => {}
        }
    }));
    world.run(Duration::from_secs_f64(hours * 3_600.0));
    counts.take()
}
