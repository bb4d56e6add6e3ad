//! Each kind of failure has its own cause and its own consequence; slowness has none.

use actix::prelude::*;
use heartbeat_actors::event::{Cause, NotReadyReason};
use heartbeat_actors::testkit::Fault;
use heartbeat_actors::worker::{Activity, Health};
use heartbeat_actors::{Context, Event, SendError, WorkerSpec};

use crate::{Add, Counter, MEANT, STUCK, kit, kit_with, millis, panicked, seconds};

fn told() -> Fault {
    Fault::Panic(format!("{MEANT} fail"))
}

// A1
#[test]
fn a_panic_in_a_message_loses_that_message_only() {
    kit(async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        assert_eq!(counter.send(Add(5)).await, Ok(5));
        node.inject("counter", told());
        let (failing, queued) = (counter.send(Add(1)), counter.send(Add(1)));
        assert_eq!(failing.await, Err(panicked()));
        assert_eq!(queued.await, Ok(1), "from a fresh state");
        node.settle().await;
        let causes = node.causes("counter");
        let [Cause::Panicked { during: Activity::Message(name), payload }] = &causes[..] else { panic!("{causes:?}") };
        assert!(name.ends_with("Add") && &**payload == "told to fail");
        let counts = counter.message_counts();
        assert_eq!((counts.accepted, counts.handled, counts.interrupted), (3, 2, 1));
    });
}

// A3
#[test]
fn an_endless_await_is_replaced_once_messages_wait_too_long() {
    kit(async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        node.inject("counter", Fault::AwaitStuck);
        let (stuck, queued) = (counter.send(Add(1)), counter.send(Add(2)));
        node.advance(millis(14_900)).await;
        assert_eq!(node.causes("counter"), [], "await_timeout is 15 s");
        // One scan sees that messages wait, another one that they still do.
        node.advance(millis(2_200)).await;
        assert!(matches!(node.causes("counter")[..], [Cause::AwaitStuck { queued: 1, .. }]));
        assert_eq!(stuck.await, Err(STUCK));
        assert_eq!(queued.await, Ok(2));
    });
}

// A3, the other side
#[test]
fn an_endless_await_without_messages_is_left_alone() {
    kit(async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        node.settle().await;
        node.inject_now("counter", Fault::AwaitStuck);
        node.advance(seconds(3600)).await;
        assert_eq!(node.causes("counter"), []);
        let late = counter.send(Add(1));
        node.advance(seconds(20)).await;
        assert_eq!(late.await, Ok(1), "it is noticed as soon as it matters");
        assert_eq!(node.replacements("counter"), 1);
    });
}

/// Says its plain address.
#[derive(Message)]
#[rtype(result = "Addr<Counter>")]
struct PlainAddr;

impl Handler<PlainAddr> for Counter {
    type Result = Addr<Counter>;

    fn handle(&mut self, _: PlainAddr, context: &mut Context<Self>) -> Addr<Counter> {
        context.address()
    }
}

// A3
#[test]
fn messages_through_a_plain_address_are_seen_to_wait() {
    kit(async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        let plain = counter.send(PlainAddr).await.unwrap();
        assert_eq!(plain.send(Add(1)).await.unwrap(), 1);
        node.inject_now("counter", Fault::AwaitStuck);
        node.settle().await;
        let queued = plain.send(Add(2));
        let queued = actix_rt::spawn(queued);
        node.advance(seconds(18)).await;
        assert!(
            matches!(node.causes("counter")[..], [Cause::AwaitStuck { queued: 1, .. }]),
            "{:?}",
            node.causes("counter")
        );
        assert_eq!(queued.await.unwrap().unwrap(), 2);
        node.inject("counter", Fault::Block(seconds(60)));
        let stuck = actix_rt::spawn(plain.send(Add(1)));
        node.advance(seconds(6)).await;
        assert!(stuck.is_finished(), "it learns of its replacement, too");
        let counts = counter.message_counts();
        assert_eq!((counts.accepted, counts.handled, counts.interrupted), (4, 3, 1));
    });
}

// A4
#[test]
fn a_blocked_worker_is_blamed_and_its_neighbour_waits() {
    kit(async |node| {
        let blocked = node.supervise("blocked", Counter::default).unwrap();
        let neighbour = node.supervise("neighbour", Counter::default).unwrap();
        node.settle().await;
        node.inject("blocked", Fault::Block(seconds(60)));
        let stuck = blocked.send(Add(1));
        let queued: Vec<_> = (0..10).map(|_| blocked.send(Add(1))).collect();
        node.settle().await;
        let beside = neighbour.send(Add(1));
        node.advance(millis(4_900)).await;
        assert_eq!(node.causes("blocked"), [], "workers.timeout is 5 s");
        node.advance(millis(610)).await;
        let causes = node.causes("blocked");
        assert!(matches!(causes[..], [Cause::Blocked { during: Activity::Message(_), .. }]), "{causes:?}");
        assert_eq!(stuck.await, Err(STUCK), "though its handler has not returned");
        for (expected, queued) in (1..).zip(queued) {
            assert_eq!(queued.await, Ok(expected), "in order, from a fresh state");
        }
        let returned = |event: &Event| matches!(event, Event::ThreadReturned { zombies: 0, .. }).then_some(());
        assert_eq!(node.pick(returned), []);
        node.advance(seconds(60)).await;
        assert_eq!(node.pick(returned).len(), 1);
        assert_eq!((beside.await, node.causes("neighbour")), (Ok(1), vec![]));
        assert_eq!(blocked.message_counts().handled, 10, "the zombie has handled nothing");
    });
}

// A5
#[test]
fn a_spinning_worker_is_told_from_a_blocked_one() {
    kit(async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        node.inject("counter", Fault::Spin(seconds(60)));
        let (stuck, queued) = (counter.send(Add(1)), counter.send(Add(2)));
        node.advance(seconds(6)).await;
        let causes = node.causes("counter");
        let [Cause::Spinning { busy_for, ran_for, .. }] = &causes[..] else { panic!("{causes:?}") };
        assert!(*busy_for >= seconds(5) && *ran_for > *busy_for / 2);
        assert_eq!((stuck.await, queued.await), (Err(STUCK), Ok(2)));
    });
}

// A6
#[test]
fn starvation_pauses_and_progress_replace_no_worker() {
    kit(async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        node.inject("counter", Fault::Starve(seconds(60)));
        let starved = counter.send(Add(1));
        node.advance(seconds(30)).await;
        assert_eq!(node.pick(|event| matches!(event, Event::Starved { .. }).then_some(())).len(), 1, "said once");
        node.advance(seconds(40)).await;
        assert_eq!(starved.await, Ok(1));

        node.inject("counter", Fault::Block(seconds(14)));
        let paused = counter.send(Add(1));
        node.settle().await;
        node.pause(seconds(10)).await;
        node.advance(seconds(4)).await;
        assert_eq!(paused.await, Ok(2), "4 s of it were its own");
        assert_eq!(node.pick(|event| matches!(event, Event::Paused { .. }).then_some(())).len(), 1);

        assert_eq!(node.causes("counter"), []);
    });
}

/// Works for as long as the message says, and reports progress.
struct Diligent;

impl Actor for Diligent {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Work;

impl Handler<Work> for Diligent {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: Work, context: &mut Context<Self>) -> Self::Result {
        let progress = context.progress();
        AtomicResponse::new(Box::pin(
            async move {
                for _ in 0..100 {
                    tokio::time::sleep(seconds(1)).await;
                    progress.report();
                }
            }
            .into_actor(self),
        ))
    }
}

// A6
#[test]
fn a_long_job_that_reports_progress_is_let_be() {
    kit(async |node| {
        let diligent = node.supervise("diligent", || Diligent).unwrap();
        let (first, second) = (diligent.send(Work), diligent.send(Work));
        node.advance(seconds(250)).await;
        assert_eq!((first.await, second.await), (Ok(()), Ok(())));
        assert_eq!(node.causes("diligent"), []);
    });
}

// A7
#[test]
fn an_overloaded_worker_is_not_ready_and_never_replaced() {
    kit(async |node| {
        let spec = WorkerSpec::new("counter").capacity(100);
        let counter = node.supervise_with(spec, |_| Ok(Counter::default())).unwrap();
        node.settle().await;
        node.inject("counter", Fault::Block(millis(3_500)));
        let answers: Vec<_> = (0..80).map(|_| counter.send(Add(1))).collect();
        assert!(!counter.is_ready(), "at once");
        node.advance(millis(3_000)).await;
        let told = node.pick(|event| match event {
            Event::NotReady { reason, .. } => Some(*reason),
            _ => None,
        });
        assert_eq!(told, [NotReadyReason::Overloaded]);
        assert_eq!(node.view().worker("counter").unwrap().unready, Some(NotReadyReason::Overloaded));
        node.advance(seconds(3)).await;
        assert!(counter.is_ready());
        assert_eq!(node.view().worker("counter").unwrap().unready, None);
        assert_eq!(node.pick(|event| matches!(event, Event::Ready { .. }).then_some(())).len(), 1);
        for answer in answers {
            assert!(answer.await.is_ok());
        }
        assert_eq!(node.causes("counter"), []);
    });
}

/// Says of itself how it is.
struct Frank;

impl Actor for Frank {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Say(Health);

impl Handler<Say> for Frank {
    type Result = ();

    fn handle(&mut self, say: Say, context: &mut Context<Self>) {
        context.report_health(say.0);
    }
}

#[test]
fn health_failed_replaces_a_worker_and_not_ready_does_not() {
    kit(async |node| {
        let frank = node.supervise("frank", || Frank).unwrap();
        frank.send(Say(Health::NotReady)).await.unwrap();
        assert!(!frank.is_ready());
        node.advance(seconds(3600)).await;
        assert_eq!(node.causes("frank"), []);
        frank.send(Say(Health::Ok)).await.unwrap();
        assert!(frank.is_ready());
        frank.send(Say(Health::Failed)).await.unwrap();
        node.advance(seconds(2)).await;
        assert_eq!(node.causes("frank"), [Cause::ReportedFailed]);
        assert!(frank.is_ready());
    });
}

#[test]
fn only_a_permanent_worker_starts_again_after_a_clean_stop() {
    kit(async |node| {
        use heartbeat_actors::worker::RestartKind::{Permanent, Temporary, Transient};
        for (name, kind, starts_again) in
            [("permanent", Permanent, true), ("transient", Transient, false), ("temporary", Temporary, false)]
        {
            let spec = WorkerSpec::new(name).restart(kind);
            let worker = node.supervise_with(spec, |_| Ok(Counter::default())).unwrap();
            node.inject(name, Fault::Stop);
            assert_eq!(worker.send(Add(1)).await, Ok(1));
            node.settle().await;
            let answer = worker.send(Add(1)).await;
            assert_eq!(answer, if starts_again { Ok(1) } else { Err(SendError::Closed) }, "{name}");
        }
    });
}

#[test]
fn only_failures_over_the_intensity_are_given_up() {
    kit_with("restart.delay_max = '1s'", async |node| {
        let counter = node.supervise("counter", Counter::default).unwrap();
        for _ in 0..50 {
            node.inject("counter", told());
            assert_eq!(counter.send(Add(1)).await, Err(panicked()));
            node.advance(seconds(31)).await;
        }
        for _ in 0..6 {
            node.inject("counter", told());
            let _ = counter.send(Add(1)).await;
        }
        let waiting = counter.send(Add(1)).await;
        assert_eq!(waiting, Err(SendError::GaveUp));
        assert_eq!(node.pick(|event| matches!(event, Event::GaveUp { restarts: 5, .. }).then_some(())).len(), 1);
        // A person has mended it.
        counter.start();
        node.settle().await;
        assert_eq!(counter.send(Add(1)).await, Ok(1));
    });
}
