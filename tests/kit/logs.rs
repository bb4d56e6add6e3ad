//! What a program with `env_logger`, or any other logger of the crate `log`, reads of a node.

use std::cell::RefCell;
use std::sync::Once;

use heartbeat_actors::group::GroupSpec;
use heartbeat_actors::prelude::*;
use heartbeat_actors::testkit::Fault;
use heartbeat_actors::worker::Placement;

use crate::{Add, Counter, MEANT, kit, millis, seconds};

thread_local! {
    /// The lines of this test's node, which runs on this thread.
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target().starts_with("heartbeat") {
            LINES.with_borrow_mut(|lines| lines.push(format!("{} {}", record.level(), record.args())));
        }
    }

    fn flush(&self) {}
}

/// The lines from now on.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Lines).unwrap();
        log::set_max_level(log::LevelFilter::Debug);
    });
    LINES.take();
}

#[track_caller]
fn assert_line(parts: &[&str]) {
    LINES.with_borrow(|lines| {
        let is_there = lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
        assert!(is_there, "{parts:?} in {lines:#?}");
    });
}

#[test]
fn a_logger_of_the_crate_log_sees_each_event() {
    listen();
    kit(async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        node.inject("counter", Fault::Panic(format!("{MEANT} fail")));
        let _ = counter.send(Add(1)).await;
        node.advance(seconds(1)).await;
        assert_line(&["DEBUG worker started", "event=\"started\"", "worker=counter", "generation=1"]);
        assert_line(&["WARN worker failed; it is started again at once", "event=\"failed\"", "told to fail"]);
        assert_line(&["INFO worker replaced", "event=\"replaced\"", "generation=2"]);
    });
}

#[test]
fn no_line_holds_what_is_not_there() {
    listen();
    kit(async |node| {
        let group = node.root().group(GroupSpec::new("group").intensity(1, seconds(30))).unwrap();
        group.supervise("child", Counter::default).unwrap();
        let shards = node.supervise_shards("orders", 2, |_| Ok(Counter::default())).unwrap();
        shards.until_up().await.unwrap();
        let alone = WorkerSpec::new("alone").placement(Placement::Dedicated).intensity(2, seconds(30));
        node.supervise_with(alone, |_| Ok(Counter::default())).unwrap();
        for name in ["alone", "child", "orders/1"] {
            for _ in 0..3 {
                node.inject_now(name, Fault::Panic(format!("{MEANT} fail")));
                node.advance(millis(500)).await;
            }
        }
        node.supervise("held", Counter::default).unwrap().do_send(Add(1));
        node.inject_now("held", Fault::Block(seconds(20)));
        node.advance(seconds(60)).await;
        node.leave().await;
        node.settle().await;
        for part in ["gave_up", "escalated", "thread_held", "group_stopped"] {
            assert_line(&[&format!("event=\"{part}\"")]);
        }
        assert_line(&["event=\"started\"", "worker=orders/1", "shard=1", "epoch="]);
        LINES.with_borrow(|lines| {
            for line in lines {
                for nothing in ["None", "Some(", "restart_in=0", "silent_for=0"] {
                    assert!(!line.contains(nothing), "{nothing} in {line}");
                }
            }
        });
    });
}
