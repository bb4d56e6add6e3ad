//! Every message is answered, whichever way its worker ends: random histories in virtual time.
//!
//! A failing history is shrunk, and prints its seed and the command that replays it.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use heartbeat_actors::Config;
use heartbeat_sim::shrink::shrink;
use heartbeat_tests::histories::History;
use heartbeat_tests::histories::player::{Remains, play};

use crate::kit_on;

/// Histories that the gate plays.
const COUNT: u64 = 2_000;

/// Plays a history in virtual time.
fn played(history: &History) -> Result<(), String> {
    let outcome = Rc::new(RefCell::new(Err("it did not come to its end".to_owned())));
    let result = outcome.clone();
    let own = history.clone();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        kit_on(Config::from_toml(&history.shape.settings).unwrap(), async move |node| {
            let played = play((*node).clone(), own, 1).await;
            *result.borrow_mut() = played;
        });
    }));
    if panicked.is_err() {
        return Err("it panicked".to_owned());
    }
    let mut remains: Remains = outcome.replace(Err(String::new()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(remains.check_after_system())
}

/// The failure without its figures: a shorter history must fail in the same way.
fn kind(wrong: &str) -> String {
    wrong.chars().take_while(|letter| *letter != ';').filter(|letter| letter.is_alphabetic()).take(24).collect()
}

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn every_send_is_answered_and_the_sums_are_right() {
    let (first, count) = match number("HEARTBEAT_SEED", u64::MAX) {
        u64::MAX => (number("HEARTBEAT_FIRST", 0), number("HEARTBEAT_HISTORIES", COUNT)),
        seed => (seed, 1),
    };
    let mut failed = 0;
    for seed in first..first + count {
        let history = History::of(seed);
        let Err(wrong) = played(&history) else { continue };
        failed += 1;
        let again = |steps: &[_]| played(&History { steps: steps.to_vec(), ..history.clone() });
        let steps = shrink(&history.steps, |steps| again(steps).is_err_and(|other| kind(&other) == kind(&wrong)));
        let short = History { steps, ..history };
        println!("{wrong}\nshrunk: {:?}\n{}", played(&short), short.told());
        println!(
            "replay: HEARTBEAT_SEED={seed} cargo test -p heartbeat-tests --test kit every_send_is_answered -- --nocapture\n"
        );
        assert!(failed < 5, "enough");
    }
    assert_eq!(failed, 0, "histories failed");
}
