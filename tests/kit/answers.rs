//! Answers that come after the handler has returned: how they are counted, bounded and waited for,
//! and what becomes of them.

use std::time::Duration;

use actix::dev::{MessageResponse, OneshotSender};
use actix::fut::wrap_future;
use actix::prelude::*;
use heartbeat_actors::event::Cause;
use heartbeat_actors::pool::Routing;
use heartbeat_actors::testkit::Fault;
use heartbeat_actors::worker::{Interruption, MessageCounts};
use heartbeat_actors::{Context, SendError, WorkerAddr, WorkerSpec};
use tokio::time::sleep;

use crate::{MEANT, STUCK, kit, kit_with, millis, panicked, seconds};

/// Answers later, in every way in which actix can.
#[derive(Default)]
pub(crate) struct Slow {
    kept: Vec<OneshotSender<u64>>,
    ticks: u64,
}

impl Actor for Slow {
    type Context = Context<Self>;
}

/// Answered by a future within the worker.
#[derive(Message, Clone)]
#[rtype(result = "u64")]
pub(crate) struct Within(pub(crate) Duration);

/// Answered by a future of its own, which actix leaves on the thread.
#[derive(Message, Clone)]
#[rtype(result = "u64")]
struct Apart(Duration);

/// Answered by a future that the worker waits for.
#[derive(Message, Clone)]
#[rtype(result = "u64")]
pub(crate) struct Alone(pub(crate) Duration);

/// The answer comes when the test asks the worker for it.
#[derive(Message, Clone)]
#[rtype(result = "u64")]
struct Keep;

/// Answers what was kept, or drops it.
#[derive(Message)]
#[rtype(result = "()")]
struct Release(Option<u64>);

/// Panics.
#[derive(Message)]
#[rtype(result = "()")]
struct Fail;

/// Asks how often the timer went.
#[derive(Message)]
#[rtype(result = "u64")]
struct Ticks;

impl Handler<Within> for Slow {
    type Result = ResponseActFuture<Self, u64>;

    fn handle(&mut self, Within(time): Within, _: &mut Context<Self>) -> Self::Result {
        Box::pin(wrap_future(sleep(time)).map(|(), _, _| 1))
    }
}

impl Handler<Apart> for Slow {
    type Result = ResponseFuture<u64>;

    fn handle(&mut self, Apart(time): Apart, _: &mut Context<Self>) -> Self::Result {
        Box::pin(async move {
            sleep(time).await;
            2
        })
    }
}

impl Handler<Alone> for Slow {
    type Result = AtomicResponse<Self, u64>;

    fn handle(&mut self, Alone(time): Alone, _: &mut Context<Self>) -> Self::Result {
        AtomicResponse::new(Box::pin(wrap_future(sleep(time)).map(|(), _, _| 3)))
    }
}

struct Kept;

impl MessageResponse<Slow, Keep> for Kept {
    fn handle(self, context: &mut Context<Slow>, sender: Option<OneshotSender<u64>>) {
        let keep = |sender, slow: &mut Slow| slow.kept.extend(sender);
        context.spawn(wrap_future(async { sender }).map(move |sender, slow, _| keep(sender, slow)));
    }
}

impl Handler<Keep> for Slow {
    type Result = Kept;

    fn handle(&mut self, _: Keep, _: &mut Context<Self>) -> Kept {
        Kept
    }
}

impl Handler<Release> for Slow {
    type Result = ();

    fn handle(&mut self, Release(answer): Release, _: &mut Context<Self>) {
        for sender in self.kept.drain(..) {
            if let Some(answer) = answer {
                sender.send(answer).unwrap();
            }
        }
    }
}

impl Handler<Fail> for Slow {
    type Result = ();

    fn handle(&mut self, _: Fail, _: &mut Context<Self>) {
        panic!("{MEANT} fail");
    }
}

impl Handler<Ticks> for Slow {
    type Result = u64;

    fn handle(&mut self, _: Ticks, _: &mut Context<Self>) -> u64 {
        self.ticks
    }
}

/// Asks for the address that plain actix gives.
#[derive(Message)]
#[rtype(result = "Addr<Slow>")]
struct PlainAddr;

impl Handler<PlainAddr> for Slow {
    type Result = Addr<Slow>;

    fn handle(&mut self, _: PlainAddr, context: &mut Context<Self>) -> Addr<Slow> {
        context.address()
    }
}

fn sums(worker: &WorkerAddr<Slow>) -> [u64; 4] {
    let MessageCounts { handled, interrupted, answering, queued, accepted, dead, .. } = worker.message_counts();
    assert_eq!(accepted, handled + interrupted + answering + queued + dead);
    [handled, interrupted, answering, queued]
}

#[test]
fn an_answer_under_way_is_counted_as_such_until_it_comes() {
    kit(async |node| {
        let slow = node.supervise("slow", Slow::default).unwrap();
        node.settle().await;
        let (within, apart, kept) = (slow.send(Within(seconds(1))), slow.send(Apart(seconds(2))), slow.send(Keep));
        node.settle().await;
        assert_eq!(sums(&slow), [0, 0, 3, 0]);
        assert_eq!((within.await, sums(&slow)), (Ok(1), [1, 0, 2, 0]));
        assert_eq!((apart.await, sums(&slow)), (Ok(2), [2, 0, 1, 0]));
        slow.send(Release(Some(4))).await.unwrap();
        assert_eq!((kept.await, sums(&slow)), (Ok(4), [4, 0, 0, 0]));
        let (alone, behind) = (slow.send(Alone(seconds(1))), slow.send(Ticks));
        node.settle().await;
        assert_eq!(sums(&slow), [4, 0, 1, 1]);
        assert_eq!((alone.await, behind.await, sums(&slow)), (Ok(3), Ok(0), [6, 0, 0, 0]));
        slow.try_send(Within(seconds(1))).unwrap();
        node.settle().await;
        assert_eq!(sums(&slow), [6, 0, 1, 0], "wanted or not");
        node.advance(seconds(2)).await;
        assert_eq!((sums(&slow), slow.handled()), ([7, 0, 0, 0], 7));
    });
}

#[test]
fn an_answer_through_a_plain_address_is_counted_in_the_same_way() {
    kit(async |node| {
        let slow = node.supervise("slow", Slow::default).unwrap();
        node.settle().await;
        let plain = slow.send(PlainAddr).await.unwrap();
        let (within, now) = (plain.send(Within(seconds(1))), plain.send(Ticks));
        assert_eq!(now.await.unwrap(), 0);
        assert_eq!(sums(&slow), [2, 0, 1, 0]);
        assert_eq!(within.await.unwrap(), 1);
        assert_eq!(sums(&slow), [3, 0, 0, 0]);
    });
}

#[test]
fn a_lost_answer_is_interrupted_and_says_why() {
    kit_with("restart.delay_min = '0s'\nrestart.delay_max = '0s'", async |node| {
        let slow = node.supervise("slow", Slow::default).unwrap();
        node.settle().await;
        let (within, kept, apart) = (slow.send(Within(seconds(9))), slow.send(Keep), slow.send(Apart(seconds(9))));
        node.settle().await;
        assert_eq!(slow.send(Fail).await, Err(panicked()));
        assert_eq!((within.await, kept.await), (Err(panicked()), Err(panicked())));
        assert_eq!(sums(&slow), [0, 3, 1, 0]);
        assert_eq!(apart.await, Ok(2), "a future of its own outlives its worker's life, as with plain actix");
        let kept = slow.send(Keep);
        node.settle().await;
        slow.send(Release(None)).await.unwrap();
        assert_eq!(kept.await, Err(SendError::Interrupted(Interruption::Unanswered)));
        assert_eq!(sums(&slow), [2, 4, 0, 0]);
        let within = slow.send(Within(seconds(60)));
        node.settle().await;
        node.inject("slow", Fault::Block(seconds(60)));
        let held = slow.send(Ticks);
        node.advance(seconds(6)).await;
        assert_eq!((within.await, held.await), (Err(STUCK), Err(STUCK)), "before the thread comes back");
        assert_eq!(sums(&slow), [2, 6, 0, 0]);
    });
}

#[test]
fn messages_wait_at_the_bound_of_answers_under_way() {
    kit(async |node| {
        for (max, room) in [(0, 4), (2, 2)] {
            let spec = WorkerSpec::new(format!("slow{max}")).capacity(4).answers_max(max);
            let slow = node.supervise_with(spec, |_| Ok(Slow::default())).unwrap();
            node.settle().await;
            let first: Vec<_> = (0..room).map(|_| slow.send(Within(seconds(1)))).collect();
            node.settle().await;
            assert!(!slow.is_ready(), "no further answer may be under way");
            let then: Vec<_> = (0..4).map(|_| slow.send(Within(seconds(1)))).collect();
            node.settle().await;
            assert_eq!(sums(&slow), [0, 0, room, 4]);
            assert_eq!(slow.send(Ticks).await, Err(SendError::Full));
            assert_eq!(u64::from(slow.load()), room + 4);
            for answer in first.into_iter().chain(then) {
                assert_eq!(answer.await, Ok(1));
            }
            assert!(slow.is_ready());
        }
        let spec = WorkerSpec::new("unbounded").capacity(4).answers_max(u32::MAX);
        let slow = node.supervise_with(spec, |_| Ok(Slow::default())).unwrap();
        node.settle().await;
        for _ in 0..100 {
            slow.try_send(Within(seconds(1))).unwrap();
            node.settle().await;
        }
        assert_eq!((slow.is_ready(), sums(&slow)), (true, [0, 0, 100, 0]));
    });
}

#[test]
fn a_stuck_answer_with_nothing_queued_behind_it_is_noticed() {
    kit(async |node| {
        let slow = node.supervise("slow", Slow::default).unwrap();
        node.settle().await;
        let stuck = slow.send(Alone(Duration::MAX));
        node.advance(millis(14_900)).await;
        assert_eq!(node.causes("slow"), [], "await_timeout is 15 s");
        node.advance(millis(2_200)).await;
        assert!(matches!(node.causes("slow")[..], [Cause::AwaitStuck { queued: 1, .. }]), "{:?}", node.causes("slow"));
        assert_eq!(stuck.await, Err(STUCK));
    });
}

#[test]
fn a_worker_whose_answers_hang_is_replaced_and_serves_its_queue() {
    kit(async |node| {
        let slow = node.supervise_with(WorkerSpec::new("slow").answers_max(2), |_| Ok(Slow::default())).unwrap();
        node.settle().await;
        let stuck = [slow.send(Keep), slow.send(Keep)];
        let behind = slow.send(Ticks);
        node.advance(seconds(18)).await;
        for stuck in stuck {
            assert_eq!(stuck.await, Err(STUCK));
        }
        assert_eq!(behind.await, Ok(0));
    });
}

#[test]
fn the_least_loaded_member_is_one_that_has_nothing_in_hand() {
    kit(async |node| {
        let pool =
            node.root().pool_with(WorkerSpec::new("pool"), 2, Routing::LeastLoaded, |_| Ok(Slow::default())).unwrap();
        pool.until_ready().await;
        let busy = pool.send(Alone(seconds(5)));
        node.settle().await;
        let begun = node.elapsed();
        for _ in 0..10 {
            assert_eq!(pool.send(Alone(millis(10))).await, Ok(3));
        }
        assert!(node.elapsed() - begun < seconds(1), "{:?}", node.elapsed() - begun);
        assert_eq!(busy.await, Ok(3));
    });
}

#[test]
fn timers_and_answers_have_a_turn_between_messages_that_wait() {
    kit(async |node| {
        let slow = node.supervise("slow", || Slow { ticks: 0, ..Slow::default() }).unwrap();
        node.settle().await;
        slow.send(Tick).await.unwrap();
        let within = slow.send(Within(millis(20)));
        let waiting: Vec<_> = (0..40).map(|_| slow.send(Alone(millis(25)))).collect();
        let begun = node.elapsed();
        within.await.unwrap();
        assert!(node.elapsed() - begun <= millis(50), "{:?}", node.elapsed() - begun);
        for answer in waiting {
            answer.await.unwrap();
        }
        let ticks = slow.send(Ticks).await.unwrap();
        assert!(ticks >= 97, "{ticks} in a second at one per 10 ms, as with plain actix");
    });
}

/// Has a timer go every 10 ms.
#[derive(Message)]
#[rtype(result = "()")]
struct Tick;

impl Handler<Tick> for Slow {
    type Result = ();

    fn handle(&mut self, _: Tick, context: &mut Context<Self>) {
        context.run_interval(millis(10), |slow, _| slow.ticks += 1);
    }
}

/// A message whose handler drops the means to answer it.
#[derive(Message)]
#[rtype(result = "u64")]
struct Ignore;

/// No answer.
struct Nothing;

impl MessageResponse<Slow, Ignore> for Nothing {
    fn handle(self, _: &mut Context<Slow>, answer: Option<OneshotSender<u64>>) {
        drop(answer);
    }
}

impl Handler<Ignore> for Slow {
    type Result = Nothing;

    fn handle(&mut self, _: Ignore, _: &mut Context<Self>) -> Nothing {
        Nothing
    }
}

#[test]
fn the_sender_is_told_if_the_handler_drops_the_answer() {
    kit(async |node| {
        let slow = node.supervise("slow", Slow::default).unwrap();
        assert_eq!(slow.send(Ignore).await, Err(SendError::Interrupted(Interruption::Unanswered)));
        assert_eq!(sums(&slow), [0, 1, 0, 0]);
        assert_eq!(node.causes("slow"), [], "the worker did nothing wrong");
    });
}
