//! Every message has a fate, and the sums add up.

use std::collections::BTreeMap;
use std::time::Duration;

use heartbeat_actors::event::DeadReason;
use heartbeat_actors::testkit::Fault;
use heartbeat_actors::worker::{Interruption, MessageCounts, OnReplace, Overflow};
use heartbeat_actors::{SendError, WorkerAddr, WorkerSpec};
use heartbeat_core::Random;

use crate::{Add, Counter, MEANT, STUCK, kit, kit_with, millis, panicked, seconds};

fn told() -> Fault {
    Fault::Panic(format!("{MEANT} fail"))
}

fn adds_up(counts: MessageCounts) {
    assert_eq!(
        counts.accepted,
        counts.handled + counts.interrupted + counts.answering + counts.dead + counts.moved + counts.queued,
        "{counts:?}"
    );
}

// A8
#[test]
fn accepted_is_handled_interrupted_or_dead_whatever_happens() {
    for seed in 0..40 {
        let settings = "restart.intensity = 20\nrestart.delay_max = '200ms'\nworkers.zombies_max = 1000";
        kit_with(settings, async |node| {
            let mut random = Random::seeded(seed);
            let overflow = [Overflow::Reject, Overflow::DropOldest, Overflow::DropNewest][random.below(3) as usize];
            let spec = WorkerSpec::new("counter").capacity(20).overflow(overflow);
            let counter = node.supervise_with(spec, |_| Ok(Counter::default())).unwrap();
            let mut answers = Vec::new();
            let mut sent = 0;
            for _ in 0..300 {
                match random.below(12) {
                    0 => node.inject("counter", told()),
                    1 => node.inject("counter", Fault::Block(seconds(random.below(20)))),
                    2 => node.inject("counter", Fault::AwaitStuck),
                    3 => node.inject("counter", Fault::Stop),
                    4 => counter.restart(),
                    5 => node.advance(millis(random.below(9_000))).await,
                    6 if !answers.is_empty() => drop(answers.swap_remove(random.below(answers.len() as u64) as usize)),
                    7 => {
                        sent += 1;
                        let _ = counter.try_send(Add(1)); // Refused or not, it is in the sums.
                    }
                    _ => {
                        for _ in 0..random.below(10) {
                            sent += 1;
                            answers.push(counter.send(Add(1)));
                        }
                    }
                }
                adds_up(counter.message_counts());
            }
            node.advance(seconds(100)).await;
            counter.stop();
            node.advance(seconds(100)).await;
            let counts = counter.message_counts();
            adds_up(counts);
            assert_eq!((counts.queued, counts.accepted + counts.rejected), (0, sent), "seed {seed}: {counts:?}");
            let mut heard: BTreeMap<String, u64> = BTreeMap::new();
            for answer in answers {
                // By now each has an answer or a reason; a sender that still waits would never get
                // one.
                let answer = answer.within(millis(1)).await;
                *heard.entry(format!("{:?}", answer.map(drop))).or_default() += 1;
            }
            assert!(!heard.contains_key("Err(TimedOut)"), "seed {seed}: {heard:?}");
            assert!(heard.get("Ok(())").is_none_or(|handled| *handled <= counts.handled));
            let is_interrupted = |(answer, _): &(&String, &u64)| answer.starts_with("Err(Interrupted(");
            let interrupted: u64 = heard.iter().filter(is_interrupted).map(|(_, count)| count).sum();
            assert!(interrupted <= counts.interrupted + 300);
        });
    }
}

#[test]
fn an_overflow_is_refused_or_drops_the_oldest_or_the_newest() {
    for (overflow, expected) in [
        (Overflow::Reject, [Ok(()), Ok(()), Err(SendError::Full)]),
        (Overflow::DropOldest, [Err(SendError::Dropped), Ok(()), Ok(())]),
        (Overflow::DropNewest, [Ok(()), Ok(()), Err(SendError::Dropped)]),
    ] {
        kit(async |node| {
            let mut dead = node.subscribe_dead_letters();
            let spec = WorkerSpec::new("counter").capacity(2).overflow(overflow);
            let counter = node.supervise_with(spec, |_| Ok(Counter::default())).unwrap();
            node.settle().await;
            let answers = [counter.send(Add(1)), counter.send(Add(1)), counter.send(Add(1))];
            let mut heard = Vec::new();
            for answer in answers {
                heard.push(answer.await.map(drop));
            }
            assert_eq!(heard, expected, "{overflow:?}");
            adds_up(counter.message_counts());
            if overflow != Overflow::Reject {
                let letter = dead.next().await.unwrap();
                assert_eq!((&*letter.worker, letter.reason), ("counter", DeadReason::Overflow));
                assert!(letter.message.ends_with("Add"));
            }
        });
    }
}

#[test]
fn a_refused_message_comes_back_or_is_a_dead_letter() {
    kit(async |node| {
        let mut dead = node.subscribe_dead_letters();
        let counter = node.supervise_with(WorkerSpec::new("counter").capacity(1), |_| Ok(Counter::default())).unwrap();
        node.settle().await;
        counter.try_send(Add(1)).unwrap();
        let refused = counter.try_send(Add(2)).unwrap_err();
        assert_eq!((&refused.error, refused.message.0), (&SendError::Full, 2));
        assert!(refused.error.is_unhandled() && !SendError::Interrupted(Interruption::Unanswered).is_unhandled());
        counter.do_send(Add(3));
        assert_eq!(dead.next().await.unwrap().reason, DeadReason::Refused);
        assert_eq!(counter.message_counts().rejected, 2);
    });
}

#[test]
fn a_message_past_its_deadline_is_not_handled() {
    kit(async |node| {
        let mut dead = node.subscribe_dead_letters();
        let counter: WorkerAddr<Counter> = node.supervise("counter", Counter::default).unwrap();
        node.settle().await;
        node.inject("counter", Fault::Block(seconds(3)));
        let (first, second) = (counter.send(Add(1)), counter.send(Add(10)));
        assert_eq!(second.within(seconds(1)).await, Err(SendError::TimedOut));
        assert_eq!(node.elapsed(), seconds(1));
        assert_eq!(first.within(seconds(10)).await, Ok(1));
        assert_eq!(dead.next().await.unwrap().reason, DeadReason::Cancelled);
        assert_eq!(counter.send(Add(1)).await, Ok(2), "the ten were never added");
    });
}

// A14
#[test]
fn a_message_outlives_attempts_max_replacements_and_no_more() {
    kit_with("workers.zombies_max = 100\nrestart.delay_max = '200ms'", async |node| {
        let mut dead = node.subscribe_dead_letters();
        let spec = WorkerSpec::new("counter").on_replace(OnReplace::Redeliver { attempts_max: 2 });
        let counter = node.supervise_with(spec, |_| Ok(Counter::default())).unwrap();
        node.settle().await;
        node.inject("counter", Fault::Block(seconds(600)));
        let answers: Vec<_> = (0..5).map(|_| counter.send(Add(1))).collect();
        node.settle().await;
        for _ in 0..4 {
            // The next message to be handled is poison, too.
            node.inject("counter", Fault::Block(seconds(600)));
            node.advance(seconds(6)).await;
        }
        let mut heard = Vec::new();
        for answer in answers {
            heard.push(answer.within(millis(1)).await);
        }
        // Three replacements: the third is one more than those who still wait then may wait
        // through.
        let (stuck, dropped) = (|| Err(STUCK), || Err(SendError::Dropped));
        assert_eq!(heard, [stuck(), stuck(), stuck(), dropped(), dropped()]);
        assert_eq!(dead.next().await.unwrap().reason, DeadReason::Attempts);
        adds_up(counter.message_counts());
    });
}

// A14
#[test]
fn a_poison_message_is_resent_only_as_often_as_asked() {
    kit_with("restart.delay_min = '0s'\nrestart.delay_max = '0s'\nrestart.intensity = 100", async |node| {
        let mut dead = node.subscribe_dead_letters();
        let poisoned = node.supervise("poisoned", || Poisoned).unwrap();
        let poison = || Err(SendError::Interrupted(Interruption::Panicked(format!("{MEANT} be poisoned").into())));
        assert_eq!(poisoned.send(Add(1)).await, poison(), "once, by itself");
        let handled = |node: &heartbeat_actors::testkit::TestNode| node.causes("poisoned").len();
        node.settle().await;
        assert_eq!(handled(&node), 1);
        assert_eq!(poisoned.send_retrying(Add(1), 4).await, poison());
        node.settle().await;
        assert_eq!(handled(&node), 5);
        assert_eq!(dead.next().await.unwrap().reason, DeadReason::Attempts);
    });
}

#[test]
fn a_spec_can_drop_the_queue_when_its_thread_is_held() {
    kit(async |node| {
        let spec = WorkerSpec::new("counter").on_replace(OnReplace::DeadLetter);
        let counter = node.supervise_with(spec, |_| Ok(Counter::default())).unwrap();
        node.settle().await;
        node.inject("counter", Fault::Block(seconds(60)));
        let (stuck, queued) = (counter.send(Add(1)), counter.send(Add(1)));
        node.advance(seconds(6)).await;
        assert_eq!((stuck.await, queued.await), (Err(STUCK), Err(SendError::Dropped)));
        node.inject("counter", told());
        let (failing, queued) = (counter.send(Add(1)), counter.send(Add(1)));
        assert_eq!((failing.await, queued.await), (Err(panicked()), Ok(1)), "a panic keeps it");
    });
}

#[test]
fn limits_that_make_no_sense_are_refused() {
    kit(async |node| {
        let refuse = |spec: WorkerSpec| node.supervise_with(spec, |_| Ok(Counter::default())).unwrap_err().to_string();
        let zero = Duration::ZERO;
        assert!(refuse(WorkerSpec::new("x").capacity(0)).contains("workers.capacity is 0; use at least 1"));
        assert!(refuse(WorkerSpec::new("x").timeout(zero)).contains("workers.timeout"));
        assert!(refuse(WorkerSpec::new("x").start_timeout(zero)).contains("workers.start_timeout"));
        assert!(refuse(WorkerSpec::new("x").await_timeout(zero)).contains("workers.await_timeout"));
        assert!(refuse(WorkerSpec::new("x").shutdown_timeout(Duration::MAX)).contains("workers.shutdown_timeout"));
        assert!(refuse(WorkerSpec::new("x").intensity(2_000_000, seconds(1))).contains("restart.intensity 2000000"));
        assert!(refuse(WorkerSpec::new("x").intensity(1, zero)).contains("restart.period"));
        assert!(refuse(WorkerSpec::new("x").delay(seconds(2), seconds(1))).contains("restart.delay_max 1s"));
        assert!(refuse(WorkerSpec::new("")).contains("0 bytes"));
        assert!(
            node.supervise_with(WorkerSpec::new("x"), |_| Ok(Counter::default())).is_ok(),
            "the name was not taken"
        );
    });
}

/// Cannot bear a message.
struct Poisoned;

impl actix::Actor for Poisoned {
    type Context = heartbeat_actors::Context<Self>;
}

impl actix::Handler<Add> for Poisoned {
    type Result = u64;

    fn handle(&mut self, _: Add, _: &mut Self::Context) -> u64 {
        panic!("{MEANT} be poisoned");
    }
}
