//! Mutated input for everything that reads bytes or text from outside: datagrams, frames of
//! streams, configs and traces.
//!
//! Each target starts from valid inputs and damages them in ways that keep most of their structure.
//! It asserts three things. Nothing panics. The memory that one input takes is bounded. A value
//! that was read can be written and read again without a difference. The run needs stable Rust only
//! and is deterministic: a seed and a number name an input. There is no coverage guidance;
//! `tests/guided` has it.
//!
//! `HEARTBEAT_FUZZ_INPUTS` is the number of inputs for each target (default 20,000), and
//! `HEARTBEAT_FUZZ_SEED` the seed (default 1). A failure prints both, and the input itself. Such an
//! input then becomes a case with a name in the tests of the module that it broke.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod configs;
mod datagrams;
mod mutate;
mod nodes;
mod traces;

use allocation_counter::measure;
use heartbeat_core::Random;

/// Inputs for each target, unless the environment says otherwise.
const INPUTS_DEFAULT: u64 = 20_000;

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, no number")))
}

/// Runs `case` for each input, which `input` makes from the chance it is given.
fn fuzz<I: std::fmt::Debug>(mut input: impl FnMut(&mut Random) -> I, mut case: impl FnMut(&I)) {
    let (inputs, seed) = (setting("HEARTBEAT_FUZZ_INPUTS", INPUTS_DEFAULT), setting("HEARTBEAT_FUZZ_SEED", 1));
    let mut random = Random::seeded(seed);
    for number in 0..inputs {
        let input = input(&mut random.fork());
        let shown = Shown { seed, number, input: &input };
        case(&input);
        drop(shown);
    }
}

/// Prints the input while a panic unwinds past it.
struct Shown<'a, I: std::fmt::Debug> {
    seed: u64,
    number: u64,
    input: &'a I,
}

impl<I: std::fmt::Debug> Drop for Shown<'_, I> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("HEARTBEAT_FUZZ_SEED={} input {}: {:?}", self.seed, self.number, self.input);
        }
    }
}

/// Does `work`, and asserts that at no time it holds more than `bytes_max` bytes.
#[track_caller]
fn bounded<T>(bytes_max: usize, work: impl FnOnce() -> T) -> T {
    let mut result = None;
    let most = measure(|| result = Some(work())).bytes_max;
    assert!(most <= bytes_max as u64, "{most} bytes at a time; expected at most {bytes_max}");
    result.expect("the work was done")
}
