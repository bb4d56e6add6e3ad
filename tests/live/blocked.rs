//! Workers that block their thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use actix::prelude::*;
use heartbeat_actors::config::OnThreadHeld;
use heartbeat_actors::event::{Cause, NotReadyReason};
use heartbeat_actors::testkit::{self, Fault};
use heartbeat_actors::worker::Activity;
use heartbeat_actors::{Config, Context, Event, Node, SendError, WorkerAddr, WorkerSpec};

use crate::worker::{Add, Subject, hold, until_held};
use crate::{Events, PATIENCE, STUCK, config, live};

/// Notes in which life each message was handled.
struct Scribe {
    handled: Arc<AtomicU64>,
}

impl Actor for Scribe {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "u64")]
struct Note;

#[derive(Message)]
#[rtype(result = "u64")]
struct Block(mpsc::Receiver<()>);

impl Handler<Note> for Scribe {
    type Result = u64;

    fn handle(&mut self, _: Note, context: &mut Context<Self>) -> u64 {
        if context.generation().0 == 1 {
            self.handled.fetch_add(1, Ordering::SeqCst);
        }
        context.generation().0
    }
}

impl Handler<Block> for Scribe {
    type Result = u64;

    fn handle(&mut self, block: Block, context: &mut Context<Self>) -> u64 {
        let _ = block.0.recv_timeout(PATIENCE); // It ends with the other side.
        assert!(context.is_fenced(), "it slept through its replacement");
        context.generation().0
    }
}

#[test]
fn a_blocked_worker_is_named_fenced_and_replaced_with_its_queue() {
    live(async {
        let node = Node::start(config()).await.unwrap();
        let mut events = Events::of(&node);
        let handled = Arc::new(AtomicU64::new(0));
        let counted = handled.clone();
        let scribe: WorkerAddr<Scribe> = node.supervise("scribe", move || Scribe { handled: counted.clone() }).unwrap();
        let neighbour: WorkerAddr<Subject> = node.supervise("neighbour", Subject::default).unwrap();
        assert_eq!(neighbour.send(Add(1)).await, Ok(1));

        let (release, block) = mpsc::channel();
        let blocked = scribe.send(Block(block));
        let queued: Vec<_> = (0..1_000).map(|_| scribe.send(Note)).collect();
        let (name, during) = events
            .wait("the blame", |event| match event {
                Event::Failed { worker, cause: Cause::Blocked { during, .. }, .. } => Some((worker.clone(), *during)),
                _ => None,
            })
            .await;
        assert_eq!(&*name, "scribe");
        assert!(matches!(during, Activity::Message(name) if name.ends_with("Block")), "{during:?}");
        for queued in queued {
            assert!(queued.await.unwrap() > 1, "answered by a later life");
        }
        let waiting = neighbour.send(Add(1));
        assert_eq!((neighbour.is_ready(), neighbour.status().not_ready), (false, Some(NotReadyReason::ThreadHeld)));

        drop(release);
        // The zombie wakes: its answer is not delivered, and it handles nothing more. Its neighbour
        // has waited, and goes on.
        assert_eq!(blocked.await, Err(STUCK));
        assert_eq!(waiting.await, Ok(2), "it has its state still");
        let returned = |event: &Event| match event {
            Event::ThreadReturned { workers, zombies, .. } => Some((workers.len(), *zombies)),
            _ => None,
        };
        assert_eq!(events.wait("the thread's return", returned).await, (1, 0));
        assert!(neighbour.is_ready());
        assert!(scribe.send(Note).await.unwrap() > 1);
        assert_eq!(handled.load(Ordering::SeqCst), 0, "the zombie handled none of them");
        node.leave().await;
    });
}

#[test]
fn over_the_cap_of_zombies_nothing_more_is_replaced() {
    live(async {
        let config = Config::from_toml(
            "stall = '300ms'
             [workers]
             arbiters = 2
             interval = '50ms'
             timeout = '500ms'
             zombies_max = 1",
        )
        .unwrap();
        let node = Node::start(config).await.unwrap();
        let mut events = Events::of(&node);
        let (first, second) =
            (node.supervise("a", Subject::default).unwrap(), node.supervise("b", Subject::default).unwrap());
        assert_eq!((first.send(Add(1)).await, second.send(Add(1)).await), (Ok(1), Ok(1)));
        let ((release_first, hold_first), (release_second, hold_second)) = (hold(), hold());
        let blocked = (first.send(hold_first), second.send(hold_second));
        events.wait("the first one's replacement", |event| matches!(event, Event::Replaced { .. }).then_some(())).await;
        events
            .wait("the refusal", |event| matches!(event, Event::TooManyZombies { zombies: 1, .. }).then_some(()))
            .await;
        drop((release_first, release_second));
        let answers = (blocked.0.await, blocked.1.await);
        assert!(answers.0.is_err() != answers.1.is_err(), "one was replaced, the other one finished: {answers:?}");
        assert!(first.send(Add(1)).await.is_ok() && second.send(Add(1)).await.is_ok());
        node.leave().await;
    });
}

#[test]
fn a_worker_that_is_busy_for_long_but_gets_on_is_left_alone() {
    /// Takes 20 ms each.
    #[derive(Message)]
    #[rtype(result = "u64")]
    struct Short;

    impl Handler<Short> for Scribe {
        type Result = u64;

        fn handle(&mut self, _: Short, context: &mut Context<Self>) -> u64 {
            std::thread::sleep(Duration::from_millis(20));
            context.generation().0
        }
    }

    live(async {
        let node = Node::start(config()).await.unwrap();
        let mut events = Events::of(&node);
        let scribe: WorkerAddr<Scribe> = node.supervise("scribe", || Scribe { handled: Arc::default() }).unwrap();
        let begun = std::time::Instant::now();
        let answers: Vec<_> = (0..100).map(|_| scribe.send(Short)).collect();
        for answer in answers {
            assert_eq!(answer.await, Ok(1));
        }
        assert!(begun.elapsed() > node.config().workers.timeout * 2, "it was at work for long enough to be blamed");
        node.leave().await;
        while let Ok(update) = events.0.try_recv() {
            assert!(!format!("{update:?}").contains("Failed"), "{update:?}");
        }
    });
}

#[test]
fn a_blocked_worker_given_up_leaves_dead_letters() {
    live(async {
        let node = Node::start(config()).await.unwrap();
        let mut events = Events::of(&node);
        let spec = WorkerSpec::new("once").intensity(0, Duration::from_secs(60));
        let once: WorkerAddr<Subject> = node.supervise_with(spec, |_| Ok(Subject::default())).unwrap();
        let (release, held) = hold();
        let held = once.send(held);
        let queued: Vec<_> = (0..10).map(|_| once.send(Add(1))).collect();
        events.wait("the giving up", |event| matches!(event, Event::GaveUp { .. }).then_some(())).await;
        // Its thread is still held: waiting senders get their error all the same.
        assert_eq!(held.await, Err(STUCK), "its handler has not returned");
        for queued in queued {
            assert_eq!(queued.await, Err(SendError::GaveUp));
        }
        assert_eq!(once.send(Add(1)).await, Err(SendError::GaveUp));
        drop(release);
        node.leave().await;
    });
}

#[test]
fn a_thread_that_a_worker_ends_is_replaced_and_is_no_zombie() {
    #[derive(Message)]
    #[rtype(result = "()")]
    struct EndThread;

    impl Handler<EndThread> for Scribe {
        type Result = ();

        fn handle(&mut self, _: EndThread, _: &mut Context<Self>) {
            Arbiter::current().stop();
        }
    }

    live(async {
        let mut config = config();
        config.workers.scan = Duration::from_millis(50);
        let node = Node::start(config).await.unwrap();
        let mut events = Events::of(&node);
        let scribe: WorkerAddr<Scribe> = node.supervise("scribe", || Scribe { handled: Arc::default() }).unwrap();
        assert_eq!(scribe.send(Note).await, Ok(1));
        scribe.send(EndThread).await.unwrap();
        let cause = |event: &Event| match event {
            Event::Failed { cause, .. } => Some(cause.clone()),
            Event::Abandoned { .. } => panic!("a thread that has ended is no zombie"),
            _ => None,
        };
        assert_eq!(events.wait("the failure", cause).await, Cause::ArbiterDead);
        assert!(scribe.send(Note).await.unwrap() > 1, "answered on a fresh thread");
        node.leave().await;
    });
}

#[test]
fn a_node_leaves_in_time_although_a_worker_is_blocked() {
    live(async {
        let node = Node::start(config()).await.unwrap();
        let subject = node.supervise("subject", Subject::default).unwrap();
        assert_eq!(subject.send(Add(1)).await, Ok(1));
        let (release, held) = hold();
        let held = subject.send(held);
        until_held(&node).await;
        let begun = std::time::Instant::now();
        node.leave().await;
        assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
        drop((release, held));
    });
}

// A5
#[test]
fn a_real_thread_that_spins_is_told_from_one_that_sleeps() {
    live(async {
        let node = Node::start(config()).await.unwrap();
        let mut events = Events::of(&node);
        let subject: WorkerAddr<Subject> = node.supervise("subject", Subject::default).unwrap();
        let mut cause_of = async |fault: Fault| {
            testkit::inject(&node, "subject", fault);
            assert_eq!(subject.send(Add(1)).await, Err(STUCK));
            let cause = |event: &Event| match event {
                Event::Failed { cause, .. } => Some(cause.clone()),
                _ => None,
            };
            events.wait("the verdict", cause).await
        };
        let spinning = cause_of(Fault::Spin(Duration::from_secs(10))).await;
        assert!(matches!(spinning, Cause::Spinning { .. }), "{spinning:?}");
        let blocked = cause_of(Fault::Block(Duration::from_secs(3))).await;
        assert!(matches!(blocked, Cause::Blocked { .. }), "{blocked:?}");
        assert_eq!(subject.send(Add(1)).await, Ok(1));
        node.leave().await;
    });
}

// A3 and A13
#[test]
fn an_endless_await_and_an_ended_thread_are_replaced() {
    live(async {
        let mut config = config();
        (config.workers.await_timeout, config.workers.scan) = (Duration::from_millis(500), Duration::from_millis(50));
        let node = Node::start(config).await.unwrap();
        let mut events = Events::of(&node);
        let subject: WorkerAddr<Subject> = node.supervise("subject", Subject::default).unwrap();
        testkit::inject(&node, "subject", Fault::AwaitStuck);
        let (stuck, queued) = (subject.send(Add(1)), subject.send(Add(2)));
        assert_eq!((stuck.await, queued.await), (Err(STUCK), Ok(2)));
        let told = |wanted: fn(&Cause) -> bool| {
            move |event: &Event| match event {
                Event::Failed { cause, .. } if wanted(cause) => Some(()),
                _ => None,
            }
        };
        events.wait("the wait", told(|cause| matches!(cause, Cause::AwaitStuck { .. }))).await;
        testkit::inject(&node, "subject", Fault::EndThread);
        let _ = subject.send(Add(1)).await; // Its thread may end before or after the answer.
        events.wait("the thread's end", told(|cause| matches!(cause, Cause::ArbiterDead))).await;
        assert!(subject.send(Add(1)).await.is_ok());
        node.leave().await;
    });
}

/// Blocks its thread in a timer or in a message, and fails or goes on when it wakes.
struct Sleeper {
    timers: Arc<AtomicU64>,
}

impl Actor for Sleeper {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
enum Sleep {
    /// Sleeps in a timer; another one is due at the same time.
    InTimer(mpsc::Receiver<()>),
    /// Sleeps in the message, and panics when it wakes.
    ThenPanic(mpsc::Receiver<()>),
}

impl Handler<Sleep> for Sleeper {
    type Result = ();

    fn handle(&mut self, sleep: Sleep, context: &mut Context<Self>) {
        match sleep {
            Sleep::InTimer(held) => {
                let soon = Duration::from_millis(5);
                context.run_later(soon, move |_, _| {
                    let _ = held.recv_timeout(PATIENCE); // It ends with the other side.
                });
                context.run_later(soon, |sleeper, _| {
                    sleeper.timers.fetch_add(1, Ordering::SeqCst);
                });
            }
            Sleep::ThenPanic(held) => {
                let _ = held.recv_timeout(PATIENCE); // It ends with the other side.
                panic!("told to panic in its sleep");
            }
        }
    }
}

#[test]
fn a_zombie_that_wakes_does_its_successor_no_harm() {
    live(async {
        let node = Node::start(config()).await.unwrap();
        let mut events = Events::of(&node);
        let timers = Arc::new(AtomicU64::new(0));
        let counted = timers.clone();
        let sleeper: WorkerAddr<Sleeper> =
            node.supervise("sleeper", move || Sleeper { timers: counted.clone() }).unwrap();
        for in_timer in [true, false] {
            let (release, held) = mpsc::channel();
            let sleep = if in_timer { Sleep::InTimer(held) } else { Sleep::ThenPanic(held) };
            sleeper.try_send(sleep).unwrap();
            events.wait("the replacement", |event| matches!(event, Event::Replaced { .. }).then_some(())).await;
            drop(release);
            events.wait("the zombie's end", |event| matches!(event, Event::ZombieEnded { .. }).then_some(())).await;
            let status = sleeper.status();
            assert!(status.is_live && status.is_up && status.is_ready, "{status:?}");
        }
        assert_eq!(timers.load(Ordering::SeqCst), 0, "the other timer of the zombie has not run");
        assert_eq!(node.view().worker("sleeper").unwrap().failures, 2, "its panic counted against no worker");
        node.leave().await;
    });
}

/// The neighbour may be told to start anew, and then no worker waits for its thread: it ends when
/// it comes back.
#[test]
fn a_neighbour_that_was_told_to_starts_anew_at_once() {
    live(async {
        let node = Node::start(config()).await.unwrap();
        let mut events = Events::of(&node);
        let scribe: WorkerAddr<Scribe> = node.supervise("scribe", || Scribe { handled: Arc::default() }).unwrap();
        let spec = WorkerSpec::new("neighbour").on_thread_held(OnThreadHeld::StartAnew);
        let neighbour: WorkerAddr<Subject> = node.supervise_with(spec, |_| Ok(Subject::default())).unwrap();
        assert_eq!(neighbour.send(Add(1)).await, Ok(1));
        let (release, block) = mpsc::channel();
        let blocked = scribe.send(Block(block));
        let displaced = |event: &Event| match event {
            Event::Replaced { worker, cause: Cause::Displaced { by }, .. } => Some((worker.clone(), by.clone())),
            _ => None,
        };
        let (moved, by) = events.wait("the neighbour's start", displaced).await;
        assert_eq!((&*moved, &*by), ("neighbour", "scribe"));
        assert_eq!(neighbour.send(Add(1)).await, Ok(1), "a fresh one");
        drop(release);
        assert_eq!(blocked.await, Err(STUCK));
        events
            .wait("the zombie's end", |event| matches!(event, Event::ZombieEnded { zombies: 0, .. }).then_some(()))
            .await;
        node.leave().await;
    });
}
