//! Supervision of real actors in virtual time: what an application would test of its own with the
//! test kit.
//!
//! The names A1 to A14 are those of the list of tests that prove a supervisor; each stands in a
//! comment above its tests.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod addresses;
mod answers;
mod ends;
mod entities;
mod failures;
mod groups;
mod handover;
mod histories;
mod logs;
mod messages;
mod metrics;
mod pools;
mod services;
mod shards;
mod starts;
mod stops;
mod subscribers;
mod threads;
mod until;

use std::future::Future;
use std::sync::Once;
use std::time::Duration;

use actix::prelude::*;
use heartbeat_actors::testkit::{self, TestNode};
use heartbeat_actors::worker::Interruption;
use heartbeat_actors::{Config, Context, SendError};

/// How the text of a panic begins that a test has asked for.
const MEANT: &str = "told to";

/// The error for a sender whose message makes the worker panic.
fn panicked() -> SendError {
    SendError::Interrupted(Interruption::Panicked(format!("{MEANT} fail").into()))
}

/// The error for a sender whose worker was stuck.
const STUCK: SendError = SendError::Interrupted(Interruption::Blocked);

/// Runs a test with one worker thread and restarts without pauses.
fn kit<F, Fut>(test: F)
where
    F: FnOnce(TestNode) -> Fut,
    Fut: Future<Output = ()>,
{
    kit_with("", test);
}

/// As [`kit`], with settings laid over.
fn kit_with<F, Fut>(settings: &str, test: F)
where
    F: FnOnce(TestNode) -> Fut,
    Fut: Future<Output = ()>,
{
    kit_on(Config::from_toml(&format!("workers.arbiters = 1\n{settings}")).unwrap(), test);
}

/// As [`kit`], with this config.
fn kit_on<F, Fut>(config: Config, test: F)
where
    F: FnOnce(TestNode) -> Fut,
    Fut: Future<Output = ()>,
{
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| info.payload().downcast_ref::<&str>().copied());
            if !text.is_some_and(|text| text.starts_with(MEANT)) {
                usual(info);
            }
        }));
    });
    testkit::run(config, test);
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Counts.
#[derive(Default)]
struct Counter {
    total: u64,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

#[derive(Message, Clone)]
#[rtype(result = "u64")]
struct Add(u64);

impl Handler<Add> for Counter {
    type Result = u64;

    fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
        self.total += add.0;
        self.total
    }
}
