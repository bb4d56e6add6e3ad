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
        assert_line(&["DEBUG worker started", "event=\"started\"", "worker=\"counter\"", "generation=1"]);
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
        assert_line(&["event=\"started\"", "worker=\"orders/1\"", "shard=1", "epoch="]);
        LINES.with_borrow(|lines| {
            for line in lines {
                for nothing in ["None", "Some(", "restart_in=0", "silent_for=0"] {
                    assert!(!line.contains(nothing), "{nothing} in {line}");
                }
            }
        });
    });
}

/// The lines of an event.
fn lines_of(name: &str) -> Vec<String> {
    let part = format!(" event=\"{name}\"");
    LINES.with_borrow(|lines| lines.iter().filter(|line| line.contains(&part)).cloned().collect())
}

/// How many lines say that they were left out, of one event.
fn left_out(of: &str) -> u64 {
    let part = format!(" of=\"{of}\"");
    let lines = lines_of("lines_left_out").into_iter().filter(|line| line.contains(&part));
    let count = |line: String| line.split("left_out=").nth(1)?.split(' ').next()?.parse::<u64>().ok();
    lines.map(|line| count(line).unwrap()).sum()
}

#[test]
fn a_storm_prints_few_lines_and_says_how_many_it_left_out() {
    const WORKERS: usize = 300;
    listen();
    kit(async |node| {
        let names: Vec<String> = (0..WORKERS).map(|number| format!("worker-{number}")).collect();
        for name in &names {
            node.supervise(name, Counter::default).unwrap();
        }
        node.settle().await;
        node.advance(seconds(11)).await;
        assert_eq!(lines_of("started").len() as u64 + left_out("started"), WORKERS as u64);
        LINES.take();
        // Each worker fails three times within a period, and one of them is stuck.
        for round in 0..3 {
            for name in &names {
                node.inject_now(name, Fault::Panic(format!("{MEANT} fail")));
            }
            node.advance(seconds(1 + round)).await;
        }
        node.inject_now("worker-7", Fault::Block(seconds(6)));
        node.advance(seconds(7)).await;
        assert_line(&["WARN", "event=\"failed\"", "worker=\"worker-7\"", "blocked"]);
        node.advance(seconds(11)).await;
        let is = |name: &str| node.pick(|event| (event.name() == name).then_some(())).len() as u64;
        for name in ["failed", "replaced"] {
            assert_eq!(lines_of(name).len() as u64 + left_out(name), is(name), "{name}");
            assert!(is(name) > 2 * WORKERS as u64 && lines_of(name).len() < 80, "{}", lines_of(name).len());
        }
        assert_line(&["WARN more such events", "of=\"failed\"", "cause=\"panicked\"", "within=10s"]);
        assert_line(&["INFO more such events", "of=\"replaced\""]);
    });
}

#[test]
fn a_node_that_leaves_says_what_its_log_left_out() {
    listen();
    kit(async |node| {
        for number in 0..100 {
            node.supervise(&format!("worker-{number}"), Counter::default).unwrap();
        }
        node.settle().await;
        node.leave().await;
        node.settle().await;
        for name in ["started", "stopped"] {
            assert_eq!((lines_of(name).len(), left_out(name)), (20, 80), "{name}");
        }
    });
}

#[test]
fn a_name_cannot_make_a_line_or_command_a_terminal() {
    listen();
    kit(async |node| {
        let name = "mail\"\nERROR forged \u{1b}[2J\u{9b}31m\u{202e}<b>".to_owned() + &"ü".repeat(8);
        let counter = node.supervise(&name, Counter::default).unwrap();
        node.inject(&name, Fault::Panic(format!("{MEANT} fail\n\u{1b}[31m")));
        let _ = counter.send(Add(1)).await;
        node.supervise("held", Counter::default).unwrap().do_send(Add(1));
        node.inject_now("held", Fault::Block(seconds(20)));
        node.advance(seconds(30)).await;
        assert_line(&["WARN worker failed", "mail\\\"\\nERROR forged \\u{1b}[2J\\u{9b}31m\\u{202e}<b>ü"]);
        LINES.with_borrow(|lines| {
            for line in lines {
                let is_command = |letter: char| letter.is_control() || letter == '\u{202e}';
                assert!(!line.contains(is_command), "{line:?}");
            }
        });
    });
}
