//! Random actor programs: the same events at the same instants under both contexts, in any order
//! within an instant.
//!
//! A program that differs is shrunk, and prints its seed and the command that replays it.

pub(crate) mod program;

use std::collections::BTreeMap;

use self::program::Program;
use crate::cases::{ours, plain};

/// Programs that the gate plays.
const COUNT: u64 = 1_000;

/// What an actor notes when it does something that holds up, cancels or ends what else it does at
/// this instant.
pub(crate) const HOLDS: &str = "holds up others";

/// The instant from which on a program is not compared: there the order within an instant first
/// decides the result.
///
/// That is so if an actor has more than one thing to do and one of them delays the others. actix
/// promises no order between an actor's messages, timers, futures and streams. Messages keep their
/// order among themselves. It is so too if one handler both waits and cancels: actix looks at what
/// was cancelled when the wait is over, or before.
fn undecided(events: &[(u64, String)]) -> u64 {
    let mut sums: BTreeMap<(u64, &str), (bool, u32, u32)> = BTreeMap::new();
    for (at, event) in events {
        let Some((actor, what)) = event.split_once(": ") else { continue };
        let (has_mail, others, holds) = sums.entry((*at, actor)).or_default();
        match what {
            HOLDS => *holds += 1,
            what if what.starts_with("handles its own") => *others += 1,
            what if what.starts_with("handles") => *has_mail = true,
            what if what.starts_with("waited") => {}
            _ => *others += 1,
        }
    }
    let decides =
        |(has_mail, others, holds): &(bool, u32, u32)| *holds > 1 || *holds == 1 && u32::from(*has_mail) + others > 1;
    let first = sums.iter().find(|(_, sum)| decides(sum));
    first.map_or(u64::MAX, |((at, _), _)| *at)
}

/// Events, each with its instant in milliseconds.
type Events = Vec<(u64, String)>;

/// Events that only one of the contexts gives: actix's first, then ours.
fn difference(program: &Program) -> (Events, Events) {
    let (mut plain, mut ours) = (plain::interpreter::play(program), ours::interpreter::play(program));
    let until = undecided(&plain).min(undecided(&ours));
    plain.retain(|(at, _)| *at < until);
    ours.retain(|(at, _)| *at < until);
    plain.sort();
    ours.sort();
    let mut only_ours = Vec::new();
    for event in ours {
        match plain.binary_search(&event) {
            Ok(index) => drop(plain.remove(index)),
            Err(_) => only_ours.push(event),
        }
    }
    (plain, only_ours)
}

fn differs(program: &Program) -> bool {
    let (plain, ours) = difference(program);
    !plain.is_empty() || !ours.is_empty()
}

fn shrunk(mut program: Program) -> Program {
    while let Some(shorter) = program.shorter().into_iter().find(differs) {
        program = shorter;
    }
    program
}

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn programs_give_the_same_events_at_the_same_instants() {
    let (first, count) = match number("HEARTBEAT_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("HEARTBEAT_PROGRAMS").unwrap_or(COUNT)),
    };
    let mut failed = 0;
    for seed in first..first + count {
        let program = Program::of(seed);
        if !differs(&program) {
            continue;
        }
        failed += 1;
        let program = shrunk(program);
        let (plain, ours) = difference(&program);
        println!("seed {seed}, shrunk: {program:#?}\nonly under actix: {plain:?}\nonly under ours: {ours:?}");
        println!("all under actix: {:?}", plain::interpreter::play(&program));
        println!("replay: HEARTBEAT_SEED={seed} cargo test -p heartbeat-tests --test parity programs -- --nocapture\n");
        assert!(failed < 5, "enough");
    }
    assert_eq!(failed, 0, "programs differ");
}
