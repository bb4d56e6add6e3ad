//! The ends of a life: failures on the way to the next one, faults that pass, mail for a worker
//! that is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use actix::prelude::*;
use heartbeat_actors::event::Cause;
use heartbeat_actors::group::GroupSpec;
use heartbeat_actors::testkit::{Fault, TestNode};
use heartbeat_actors::worker::{Generation, RestartKind};
use heartbeat_actors::{Context, Event, SendError, WorkerAddr, WorkerSpec};

use crate::{Add, Counter, kit, kit_with, millis, seconds};

/// Fails in `started` from the second life on, `fails` times.
struct Unlucky {
    starts: Arc<AtomicU32>,
    fails: u32,
}

impl Actor for Unlucky {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        let starts = self.starts.fetch_add(1, Ordering::SeqCst);
        assert!(!(1..=self.fails).contains(&starts), "told to find the lock file");
    }
}

/// The generations that failed, with the text of each failure.
fn failures(node: &TestNode) -> Vec<(Generation, String)> {
    node.pick(|event| match event {
        Event::Failed { generation, cause: Cause::Panicked { payload, .. }, .. } => {
            Some((*generation, payload.to_string()))
        }
        _ => None,
    })
}

#[test]
fn a_failure_in_the_immediate_restart_hides_none() {
    kit(async |node| {
        let starts = Arc::new(AtomicU32::new(0));
        let counted = starts.clone();
        node.supervise("unlucky", move || Unlucky { starts: counted.clone(), fails: 1 }).unwrap();
        node.settle().await;
        node.inject_now("unlucky", Fault::Panic("told to divide by zero".into()));
        node.advance(seconds(5)).await;
        let failures = failures(&node);
        let [(first, by_zero), (second, locked)] = &failures[..] else { panic!("{failures:?}") };
        assert_eq!((&**by_zero, &**locked), ("told to divide by zero", "told to find the lock file"));
        assert!(first < second, "each receives its own generation");
        assert_eq!(starts.load(Ordering::SeqCst), 3);
        assert_eq!(node.replacements("unlucky"), 1);
    });
}

#[test]
fn restarts_that_fail_at_once_count_each() {
    for (delays, intensity) in [("10ms", 0), ("10ms", 1), ("10ms", 2), ("10ms", 5), ("0s", 1), ("0s", 2), ("0s", 5)] {
        let settings =
            format!("restart.intensity = {intensity}\nrestart.delay_min = '{delays}'\nrestart.delay_max = '{delays}'");
        kit_with(&settings, async |node| {
            let starts = Arc::new(AtomicU32::new(0));
            let counted = starts.clone();
            node.supervise("unlucky", move || Unlucky { starts: counted.clone(), fails: 1_000 }).unwrap();
            node.settle().await;
            node.inject_now("unlucky", Fault::Panic("told to fail".into()));
            node.advance(seconds(5)).await;
            assert_eq!(starts.load(Ordering::SeqCst), 1 + intensity, "{settings}");
            let failures = failures(&node);
            assert_eq!(failures.len(), 1 + intensity as usize, "{settings}: {failures:?}");
            assert!(failures.windows(2).all(|pair| pair[0].0 < pair[1].0), "{settings}: {failures:?}");
            let given_up = node.pick(|event| match event {
                Event::GaveUp { restarts, .. } => Some(*restarts),
                _ => None,
            });
            assert_eq!(given_up, [intensity], "{settings}");
        });
    }
}

#[test]
fn a_worker_answers_again_after_a_short_hold() {
    kit(async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        node.settle().await;
        for fault in [Fault::Block(seconds(1)), Fault::Spin(seconds(1)), Fault::Starve(seconds(1))] {
            node.inject_now("counter", fault.clone());
            node.advance(seconds(3)).await;
            assert!(counter.send(Add(1)).within(millis(1)).await.is_ok(), "{fault:?}");
            assert_eq!(counter.status().doing, None, "{fault:?}");
        }
        assert_eq!(node.causes("counter"), []);
    });
}

/// Takes this many milliseconds for a message, and takes no other meanwhile.
#[derive(Message)]
#[rtype(result = "()")]
struct Rest(u64);

impl Handler<Rest> for Counter {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, rest: Rest, _: &mut Context<Self>) -> AtomicResponse<Self, ()> {
        let resting = actix::fut::wrap_future::<_, Self>(tokio::time::sleep(millis(rest.0)));
        AtomicResponse::new(Box::pin(resting))
    }
}

/// Asks a worker for the plain address of its context.
#[derive(Message)]
#[rtype(result = "Addr<Counter>")]
struct Address;

impl Handler<Address> for Counter {
    type Result = Addr<Counter>;

    fn handle(&mut self, _: Address, context: &mut Context<Self>) -> Addr<Counter> {
        context.address()
    }
}

/// The sums of a worker's messages add up, and none waits.
#[track_caller]
fn check_fates(counter: &WorkerAddr<Counter>) {
    let counts = counter.message_counts();
    assert_eq!(counts.queued, 0, "{counts:?}");
    assert_eq!(counts.accepted, counts.handled + counts.interrupted + counts.dead, "{counts:?}");
}

#[test]
fn mail_of_a_removed_worker_is_answered() {
    kit_with("workers.shutdown_timeout = '1s'", async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        let address = counter.send(Address).await.unwrap();
        let (first, plain) = (counter.send(Rest(100_000)), address.send(Rest(100)));
        let queued: Vec<_> = (0..3).map(|_| counter.send(Rest(100))).collect();
        node.settle().await;
        counter.remove();
        node.advance(seconds(2)).await;
        assert!(first.within(millis(1)).await.is_err());
        for queued in queued {
            assert_eq!(queued.within(millis(1)).await, Err(SendError::Closed));
        }
        assert_eq!(plain.timeout(millis(1)).await, Err(MailboxError::Closed));
        check_fates(&counter);
    });
}

#[test]
fn mail_of_a_template_child_that_ends_is_answered() {
    kit(async |node| {
        let spec = WorkerSpec::new("child").restart(RestartKind::Temporary);
        let template = node.root().template(spec, |_: &(), _| Ok(Counter::default())).unwrap();
        let counter = template.start(()).unwrap();
        node.settle().await;
        node.inject("child/0", Fault::Panic("told to fail".into()));
        let failing = counter.send(Add(1));
        let queued: Vec<_> = (0..3).map(|_| counter.send(Add(1))).collect();
        assert!(failing.within(seconds(1)).await.is_err());
        for queued in queued {
            assert_eq!(queued.within(seconds(1)).await, Err(SendError::Closed));
        }
        check_fates(&counter);
    });
}

#[test]
fn mail_of_a_worker_that_never_ran_is_answered() {
    kit(async |node| {
        let group = node.root().group(GroupSpec::new("group")).unwrap();
        node.settle().await;
        group.stop();
        node.settle().await;
        let late = group.supervise("late", Counter::default).unwrap();
        let before = late.send(Add(1));
        late.remove();
        assert_eq!(before.within(seconds(1)).await, Err(SendError::Closed));
        assert_eq!(late.send(Add(1)).within(seconds(1)).await, Err(SendError::Closed));
        check_fates(&late);
        node.leave().await;
        assert!(node.supervise("after", Counter::default).is_err());
    });
}

#[test]
fn mail_is_answered_when_the_thread_ends_under_a_failure() {
    kit(async |node| {
        let spec = WorkerSpec::new("brief").restart(RestartKind::Temporary);
        let brief = node.supervise_with(spec, |_| Ok(Counter::default())).unwrap();
        let ending = node.supervise("ending", Counter::default).unwrap();
        let address = brief.send(Address).await.unwrap();
        node.settle().await;
        node.inject_now("brief", Fault::Panic("told to fail".into()));
        let (queued, plain) = (brief.send(Add(1)), address.send(Add(1)));
        node.inject("ending", Fault::EndThread);
        ending.do_send(Add(1));
        node.advance(seconds(3)).await;
        assert!(queued.within(millis(1)).await.is_err());
        assert_eq!(plain.timeout(millis(1)).await, Err(MailboxError::Closed));
        assert_eq!(address.send(Add(1)).timeout(millis(1)).await, Err(MailboxError::Closed));
        check_fates(&brief);
    });
}

/// A message by a plain address is answered at once.
async fn check_plain(address: &Addr<Counter>, expected: Result<u64, MailboxError>, when: &str) {
    assert_eq!(address.send(Add(0)).timeout(millis(1)).await, expected, "{when}");
    let recipient: Recipient<Add> = address.clone().recipient();
    assert_eq!(recipient.send(Add(0)).timeout(millis(1)).await, expected, "{when}, as recipient");
}

#[test]
fn a_plain_address_is_answered_at_every_end_and_works_again() {
    kit(async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        let address = counter.send(Address).await.unwrap();
        let closed = Err(MailboxError::Closed);
        for round in 0..3 {
            check_plain(&address, Ok(0), "it runs").await;
            counter.stop();
            node.settle().await;
            for _ in 0..3 {
                check_plain(&address, closed, "stopped").await;
            }
            node.advance(seconds(60 * round)).await;
            check_plain(&address, closed, "stopped for a while").await;
            counter.start();
            node.settle().await;
        }
        counter.remove();
        node.settle().await;
        check_plain(&address, closed, "removed").await;
        check_fates(&counter);
        drop(counter);
        node.settle().await;
        check_plain(&address, closed, "removed, and no other address").await;

        let spec = WorkerSpec::new("given up").intensity(0, seconds(1));
        let counter = node.supervise_with(spec, |_| Ok(Counter::default())).unwrap();
        let address = counter.send(Address).await.unwrap();
        node.inject_now("given up", Fault::Panic("told to fail".into()));
        node.settle().await;
        check_plain(&address, closed, "given up").await;
        drop(counter);
        check_plain(&address, closed, "given up, and no other address").await;

        let counter = node.supervise("last", Counter::default).unwrap();
        let address = counter.send(Address).await.unwrap();
        node.leave().await;
        check_plain(&address, closed, "left").await;
        node.advance(seconds(2)).await;
        check_plain(&address, closed, "left for a while").await;
        drop(counter);
        check_plain(&address, closed, "left, and no other address").await;
    });
}

#[test]
fn a_dead_thread_takes_no_answer_of_a_stopped_worker_along() {
    kit(async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        let neighbour = node.supervise("neighbour", Counter::default).unwrap();
        let address = counter.send(Address).await.unwrap();
        counter.stop();
        node.settle().await;
        for fault in [Fault::Block(seconds(3_600)), Fault::EndThread] {
            node.inject("neighbour", fault.clone());
            neighbour.do_send(Add(1));
            check_plain(&address, Err(MailboxError::Closed), "its thread is gone").await;
            node.advance(seconds(20)).await;
            check_plain(&address, Err(MailboxError::Closed), "its thread was replaced").await;
        }
        counter.start();
        node.settle().await;
        check_plain(&address, Ok(0), "started on another thread").await;
    });
}

/// Notes how it ends.
struct Witness(Arc<AtomicU32>);

impl Actor for Witness {
    type Context = Context<Self>;

    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        self.0.fetch_add(1, Ordering::SeqCst);
        Running::Stop
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.0.fetch_add(10, Ordering::SeqCst);
    }
}

#[test]
fn a_thread_that_ends_lets_its_workers_say_goodbye() {
    let ends = Arc::new(AtomicU32::new(0));
    let counted = ends.clone();
    kit(async |node| {
        let (one, other) = (counted.clone(), counted.clone());
        node.supervise("one", move || Witness(one.clone())).unwrap();
        node.supervise("other", move || Witness(other.clone())).unwrap();
        node.settle().await;
        node.inject_now("one", Fault::EndThread);
        node.advance(seconds(3)).await;
        assert_eq!(counted.load(Ordering::SeqCst), 22, "as actix does it when a thread ends");
    });
    assert_eq!(ends.load(Ordering::SeqCst), 44, "and when the system does");
}
