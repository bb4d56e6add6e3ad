//! Every message is answered, whichever way its worker ends: random histories on real threads.
//!
//! All times of a history are a twentieth of what they are in the kit. Several histories run side
//! by side, since most of the time they wait. `HEARTBEAT_SECONDS` says for how long they run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix::System;
use heartbeat_actors::{Config, Node};
use heartbeat_tests::histories::History;
use heartbeat_tests::histories::player::play;

use crate::quiet;

/// By how much times are divided.
const SCALE: u32 = 20;
/// Histories side by side.
const THREADS: usize = 4;
/// How long the gate plays.
const SECONDS: u64 = 10;
/// A history that takes longer hangs: it takes a second or two.
const PATIENCE: Duration = Duration::from_secs(120);

fn config(history: &History) -> Config {
    let mut config = Config::from_toml(&history.shape.settings).unwrap();
    let workers = &mut config.workers;
    for time in [
        &mut workers.interval,
        &mut workers.timeout,
        &mut workers.start_timeout,
        &mut workers.await_timeout,
        &mut workers.shutdown_timeout,
        &mut workers.leave_timeout,
        &mut workers.scan,
        &mut config.restart.delay_max,
        &mut config.restart.delay_min,
    ] {
        *time /= SCALE;
    }
    config
}

/// Plays a history in a System of its own.
fn played(history: History) -> Result<(), String> {
    let system = System::new();
    let end = async {
        let node = Node::start(config(&history)).await.map_err(|error| error.to_string())?;
        let played = tokio::time::timeout(PATIENCE, play(node, history, SCALE)).await;
        System::current().stop();
        played.unwrap_or_else(|_| Err("it does not come to its end".to_owned()))
    };
    let remains = system.block_on(end);
    system.run().map_err(|error| error.to_string())?;
    let mut remains = remains?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.unwrap().block_on(remains.check_after_system())
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn every_send_is_answered_on_real_threads() {
    quiet();
    let until = Instant::now() + Duration::from_secs(number("HEARTBEAT_SECONDS").unwrap_or(SECONDS));
    let (only, next) = (number("HEARTBEAT_SEED"), AtomicU64::new(number("HEARTBEAT_FIRST").unwrap_or(0)));
    let (count, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let player = || {
        while Instant::now() < until && failed.load(Ordering::Relaxed) < 10 {
            let seed = only.unwrap_or_else(|| next.fetch_add(1, Ordering::Relaxed));
            let history = History::of(seed);
            count.fetch_add(1, Ordering::Relaxed);
            let Err(wrong) = played(history.clone()) else { continue };
            failed.fetch_add(1, Ordering::Relaxed);
            println!("{wrong}\n{}", history.told());
            println!(
                "replay: HEARTBEAT_SEED={seed} cargo test -p heartbeat-tests --test live every_send_is_answered -- \
                 --nocapture\n"
            );
        }
    };
    std::thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(player))));
    println!("{} histories", count.load(Ordering::Relaxed));
    assert_eq!(failed.load(Ordering::Relaxed), 0, "histories failed");
}
