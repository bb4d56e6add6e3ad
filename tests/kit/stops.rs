//! Stopping is draining: what a stopping worker still finishes, in which time, and what becomes of
//! the rest.

use actix::fut::wrap_future;
use actix::prelude::*;
use heartbeat_actors::config::Drain;
use heartbeat_actors::testkit::TestNode;
use heartbeat_actors::worker::Interruption;
use heartbeat_actors::{Context, Event, SendError, WorkerSpec};

use crate::answers::{Alone, Slow, Within};
use crate::{Add, Counter, kit, millis, seconds};

fn interrupted(why: Interruption) -> Result<u64, SendError> {
    Err(SendError::Interrupted(why))
}

/// How much was cut off of each worker that was fenced, in order.
fn cut(node: &TestNode) -> Vec<(u32, u32)> {
    node.pick(|event| match event {
        Event::Fenced { interrupted, dropped, .. } => Some((*interrupted, *dropped)),
        _ => None,
    })
}

#[test]
fn a_worker_that_stops_answers_what_it_has_and_takes_no_more() {
    kit(async |node| {
        let slow = node.supervise("slow", Slow::default).unwrap();
        node.settle().await;
        let within = slow.send(Within(seconds(2)));
        let queued = [slow.send(Alone(seconds(1))), slow.send(Alone(seconds(1)))];
        node.settle().await;
        slow.stop();
        node.settle().await;
        assert!(!slow.is_ready(), "from the first moment");
        assert_eq!(slow.send(Within(seconds(0))).await, Err(SendError::Closed));
        for queued in queued {
            assert_eq!(queued.await, Ok(3));
        }
        assert_eq!(within.await, Ok(1));
        node.settle().await;
        assert_eq!(node.pick(|event| matches!(event, Event::Stopped { .. }).then_some(())).len(), 1);
        assert_eq!((cut(&node), node.elapsed() < seconds(3)), (vec![], true));
    });
}

#[test]
fn what_is_not_finished_in_time_is_cut_and_told() {
    kit(async |node| {
        for (number, (drain, told)) in [(Drain::Queue, (2, 3)), (Drain::Answers, (2, 3))].into_iter().enumerate() {
            let spec = WorkerSpec::new(format!("slow{number}")).shutdown_timeout(seconds(2)).drain(drain);
            let slow = node.supervise_with(spec, |_| Ok(Slow::default())).unwrap();
            node.settle().await;
            let begun = [slow.send(Within(seconds(9))), slow.send(Alone(seconds(9)))];
            let queued: Vec<_> = (0..3).map(|_| slow.send(Within(seconds(0)))).collect();
            node.settle().await;
            slow.stop();
            node.advance(millis(2_100)).await;
            for begun in begun {
                assert_eq!(begun.await, interrupted(Interruption::Stopped));
            }
            for queued in queued {
                assert_eq!(queued.await, Err(SendError::Closed));
            }
            assert_eq!(cut(&node)[number..], [told]);
        }
        let slow = node.supervise_with(WorkerSpec::new("none").drain(Drain::None), |_| Ok(Slow::default())).unwrap();
        node.settle().await;
        let (begun, queued) = (slow.send(Alone(seconds(9))), slow.send(Alone(seconds(9))));
        node.settle().await;
        slow.stop();
        node.settle().await;
        assert_eq!((begun.await, queued.await), (interrupted(Interruption::Stopped), Err(SendError::Closed)));
        assert_eq!(cut(&node).len(), 2, "nothing was waited for");
    });
}

#[test]
fn with_answers_only_the_queue_is_left_alone() {
    kit(async |node| {
        let slow = node.supervise_with(WorkerSpec::new("slow").drain(Drain::Answers), |_| Ok(Slow::default())).unwrap();
        node.settle().await;
        let (begun, queued) = (slow.send(Alone(seconds(1))), slow.send(Alone(seconds(1))));
        node.settle().await;
        slow.stop();
        assert_eq!((begun.await, queued.await), (Ok(3), Err(SendError::Closed)));
        node.settle().await;
        assert_eq!(cut(&node), []);
    });
}

#[test]
fn a_restart_finishes_answers_and_keeps_the_queue() {
    kit(async |node| {
        let slow = node.supervise("slow", Slow::default).unwrap();
        node.settle().await;
        let begun = slow.send(Alone(seconds(2)));
        let queued = slow.send(Within(seconds(1)));
        node.settle().await;
        slow.restart();
        node.settle().await;
        assert_eq!((slow.is_ready(), slow.generation().0), (false, 1));
        let later = slow.send(Within(seconds(1)));
        assert_eq!(begun.await, Ok(3));
        assert_eq!((queued.await, later.await), (Ok(1), Ok(1)));
        assert!(slow.generation().0 > 1);
        assert_eq!(cut(&node), []);
        let begun = slow.send(Within(seconds(9)));
        node.settle().await;
        slow.restart();
        assert_eq!(begun.await, interrupted(Interruption::Restarted));
        node.settle().await;
        assert_eq!(cut(&node), [(1, 0)]);
    });
}

#[test]
fn a_start_during_the_stop_accepts_messages_at_once() {
    kit(async |node| {
        let slow = node.supervise("slow", Slow::default).unwrap();
        node.settle().await;
        let begun = slow.send(Alone(seconds(2)));
        node.settle().await;
        slow.stop();
        node.settle().await;
        slow.start();
        node.settle().await;
        let kept = slow.send(Within(seconds(0)));
        assert_eq!((begun.await, kept.await), (Ok(3), Ok(1)));
    });
}

#[test]
fn rolling_through_a_pool_costs_no_answer() {
    kit(async |node| {
        let pool = node.root().pool("pool", 2, Slow::default).unwrap();
        pool.until_ready().await;
        let mut answers: Vec<_> = (0..4).map(|_| pool.send(Within(millis(300)))).collect();
        answers.extend((0..4).map(|_| pool.send(Alone(millis(300)))));
        node.settle().await;
        pool.rolling_restart().await;
        for answer in answers {
            assert!(answer.await.is_ok());
        }
        assert_eq!(cut(&node), []);
    });
}

/// Stays in `stopping` until its work is done, or without end.
struct Busy {
    left: u32,
    terminates: bool,
}

impl Actor for Busy {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        // Work that no message waits for.
        let work = tokio::time::sleep(seconds(u64::from(self.left)));
        context.spawn(wrap_future(work).map(|(), busy: &mut Busy, context: &mut Context<Busy>| {
            busy.left = 0;
            context.stop();
        }));
    }

    fn stopping(&mut self, context: &mut Context<Self>) -> Running {
        assert_eq!(context.state(), ActorState::Stopping);
        if self.terminates {
            context.terminate();
        }
        if self.left > 0 { Running::Continue } else { Running::Stop }
    }
}

impl Handler<Add> for Busy {
    type Result = u64;

    fn handle(&mut self, _: Add, context: &mut Context<Self>) -> u64 {
        context.stop();
        1
    }
}

#[test]
fn a_worker_that_would_rather_stay_is_heard_within_its_time() {
    kit(async |node| {
        for (left, fenced) in [(3, 0), (30, 1)] {
            let busy = node.supervise(&format!("busy{left}"), move || Busy { left, terminates: false }).unwrap();
            node.advance(seconds(1)).await;
            busy.stop();
            node.advance(millis(1_900)).await;
            assert_eq!(node.pick(|event| matches!(event, Event::Stopped { .. }).then_some(())).len(), fenced);
            node.advance(seconds(4)).await;
            assert_eq!(node.pick(|event| matches!(event, Event::Stopped { .. }).then_some(())).len(), fenced + 1);
            assert_eq!(cut(&node).len(), fenced);
        }
    });
}

#[test]
fn termination_within_stopping_holds_whatever_stopping_says() {
    kit(async |node| {
        let busy = node
            .supervise_with(WorkerSpec::new("busy").restart(heartbeat_actors::worker::RestartKind::Temporary), |_| {
                Ok(Busy { left: 30, terminates: true })
            });
        let busy = busy.unwrap();
        assert_eq!(busy.send(Add(1)).await, Ok(1));
        node.settle().await;
        assert_eq!(busy.send(Add(1)).await, Err(SendError::Closed));
        let busy = node.supervise("told", || Busy { left: 30, terminates: true }).unwrap();
        node.settle().await;
        busy.stop();
        node.settle().await;
        assert_eq!(node.pick(|event| matches!(event, Event::Stopped { .. }).then_some(())).len(), 2);
    });
}

#[test]
fn a_graceful_leave_under_load_costs_no_request() {
    kit(async |node| {
        let workers: Vec<_> = (0..3).map(|n| node.supervise(&format!("w{n}"), Slow::default).unwrap()).collect();
        let counter = node.supervise("counter", Counter::default).unwrap();
        node.settle().await;
        let mut answers = Vec::new();
        for worker in &workers {
            answers.extend((0..4).map(|_| worker.send(Alone(millis(100)))));
            answers.extend((0..4).map(|_| worker.send(Within(millis(700)))));
        }
        answers.extend((0..100).map(|_| counter.send(Add(1))));
        node.settle().await;
        node.leave().await;
        for answer in answers {
            let answer = answer.await;
            assert!(answer.is_ok(), "{answer:?}");
        }
        assert_eq!(counter.send(Add(1)).await, Err(SendError::Closed));
    });
}
