//! Workers that fail by themselves, and what becomes of their address, their queue and their
//! neighbours.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

use actix::prelude::*;
use heartbeat_actors::event::{Cause, dead_letters};
use heartbeat_actors::worker::{Activity, Interruption, RestartKind};
use heartbeat_actors::{Context, Event, Node, SendError, WorkerAddr, WorkerSpec};

use crate::{Events, MEANT, PATIENCE, config, live};

/// Counts, and fails when told to.
#[derive(Default)]
pub(crate) struct Subject {
    total: u64,
    bitter: bool,
}

impl Actor for Subject {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Context<Self>) {
        assert!(!self.bitter, "told to be bitter to the end");
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        assert!(!self.bitter || std::thread::panicking(), "told to be bitter to the last");
    }
}

#[derive(Message)]
#[rtype(result = "u64")]
pub(crate) struct Add(pub(crate) u64);

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Fail {
    Now,
    InTimer,
    InFuture,
    InDrop,
    InStopped,
    Stop,
    /// Blocks the thread until the other side is gone.
    Hold(mpsc::Receiver<()>),
}

/// A message that blocks the thread, and what lets it go: dropping it, which a test that fails does
/// as well.
pub(crate) fn hold() -> (mpsc::Sender<()>, Fail) {
    let (release, held) = mpsc::channel();
    (release, Fail::Hold(held))
}

/// Waits until a worker of this node is in a message of type `Fail`.
pub(crate) async fn until_held(node: &Node) {
    while !node.busy().iter().any(|busy| busy.doing.to_string().ends_with("Fail")) {
        tokio::task::yield_now().await;
    }
}

#[derive(Message)]
#[rtype(result = "Addr<Subject>")]
struct OwnAddr;

impl Handler<Add> for Subject {
    type Result = u64;

    fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
        self.total += add.0;
        self.total
    }
}

impl Handler<Fail> for Subject {
    type Result = ();

    fn handle(&mut self, fail: Fail, context: &mut Context<Self>) {
        match fail {
            Fail::Now => panic!("told to fail"),
            Fail::InTimer => {
                context.run_later(Duration::from_millis(1), |_, _| panic!("told to fail later"));
            }
            Fail::InFuture => {
                context.spawn(async { panic!("told to fail in a future") }.into_actor(self));
            }
            Fail::InDrop => {
                self.bitter = true;
                panic!("told to fail twice");
            }
            Fail::InStopped => {
                self.bitter = true;
                context.stop();
            }
            Fail::Stop => context.stop(),
            Fail::Hold(held) => drop(held.recv_timeout(PATIENCE)),
        }
    }
}

impl Handler<OwnAddr> for Subject {
    type Result = Addr<Subject>;

    fn handle(&mut self, _: OwnAddr, context: &mut Context<Self>) -> Addr<Subject> {
        context.address()
    }
}

async fn subject() -> (Node, WorkerAddr<Subject>, Events) {
    let node = Node::start(config()).await.unwrap();
    let events = Events::of(&node);
    let subject = node.supervise("subject", Subject::default).unwrap();
    (node, subject, events)
}

fn panicked(event: &Event) -> Option<(String, Activity)> {
    match event {
        Event::Failed { cause: Cause::Panicked { payload, during }, .. } => Some((payload.to_string(), *during)),
        _ => None,
    }
}

#[test]
fn a_panic_loses_one_message_and_nothing_else() {
    live(async {
        let (node, subject, mut events) = subject().await;
        assert_eq!(subject.send(Add(5)).await, Ok(5));
        let own = subject.send(OwnAddr).await.unwrap();
        let failing = subject.send(Fail::Now);
        let queued: Vec<_> = (0..100).map(|_| subject.send(Add(1))).collect();
        assert_eq!(failing.await, Err(crate::panicked()));
        for (expected, queued) in (1..).zip(queued) {
            assert_eq!(queued.await, Ok(expected), "in order, from a fresh state");
        }
        let (payload, during) = events.wait("the failure", panicked).await;
        assert_eq!(payload, "told to fail");
        assert!(matches!(during, Activity::Message(name) if name.ends_with("Fail")), "{during:?}");
        assert_eq!(own.send(Add(1)).await.unwrap(), 101, "a plain address survives, too");
        node.leave().await;
    });
}

#[test]
fn a_panic_anywhere_is_survived_and_its_place_is_named() {
    live(async {
        let (node, subject, mut events) = subject().await;
        let cases = [
            (Fail::InTimer, "a timer"),
            (Fail::InFuture, "a future"),
            (Fail::InDrop, "Fail"),
            (Fail::InStopped, "stopping"),
            (Fail::Now, "Fail"),
        ];
        for (fail, place) in cases {
            let before = subject.generation();
            let _ = subject.send(fail).await; // Some of them answer before they fail.
            let (payload, during) = events.wait("the failure", panicked).await;
            assert!(payload.starts_with(MEANT) && during.to_string().contains(place), "{payload} in {during:?}");
            events.wait("the replacement", |event| matches!(event, Event::Replaced { .. }).then_some(())).await;
            assert!(subject.generation() > before);
            assert_eq!(subject.send(Add(1)).await, Ok(1));
        }
        node.leave().await;
    });
}

#[test]
fn a_panic_in_started_is_survived_at_start_and_restart() {
    /// Counts its starts; the first one and the third one fail.
    struct Hesitant(Arc<AtomicU32>);

    impl Actor for Hesitant {
        type Context = Context<Self>;

        fn started(&mut self, _: &mut Context<Self>) {
            assert_ne!(self.0.fetch_add(1, Ordering::SeqCst) % 2, 0, "told to fail at the start");
        }
    }

    impl Handler<Add> for Hesitant {
        type Result = u64;

        fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
            assert_ne!(add.0, 0, "told to fail later");
            add.0
        }
    }

    live(async {
        let node = Node::start(config()).await.unwrap();
        let mut events = Events::of(&node);
        let starts = Arc::new(AtomicU32::new(0));
        let counted = starts.clone();
        let hesitant = node.supervise("hesitant", move || Hesitant(counted.clone())).unwrap();
        assert_eq!(hesitant.send(Add(1)).await, Ok(1), "the message waited for a worker");
        let failed = hesitant.send(Add(0)).await;
        assert!(matches!(failed, Err(SendError::Interrupted(Interruption::Panicked(_)))), "{failed:?}");
        assert_eq!(hesitant.send(Add(2)).await, Ok(2));
        assert_eq!(starts.load(Ordering::SeqCst), 4);
        let mut places = Vec::new();
        for _ in 0..3 {
            places.push(events.wait("the failures", panicked).await.1.to_string());
        }
        assert!(places[0] == "started" && places[1].ends_with("Add") && places[2] == "started", "{places:?}");
        node.leave().await;
    });
}

#[test]
fn plain_actix_loses_the_address_and_the_queue() {
    struct Plain;

    impl Actor for Plain {
        type Context = actix::Context<Self>;
    }

    impl Handler<Add> for Plain {
        type Result = u64;

        fn handle(&mut self, add: Add, _: &mut Self::Context) -> u64 {
            assert_ne!(add.0, 0, "told to fail");
            add.0
        }
    }

    // What all this is for: the same actor without us. Should actix learn to do it, this test
    // tells.
    live(async {
        let plain = Plain.start();
        let (failing, queued) = (plain.send(Add(0)), plain.send(Add(1)));
        assert!(failing.await.is_err() && queued.await.is_err() && plain.send(Add(1)).await.is_err());
        assert!(!plain.connected());
    });
}

#[test]
fn messages_wait_for_what_the_worker_waits_for() {
    /// Notes what happens in which order.
    struct Patient(Vec<&'static str>);

    #[derive(Message)]
    #[rtype(result = "()")]
    struct WaitFor(tokio::sync::oneshot::Receiver<()>);

    #[derive(Message)]
    #[rtype(result = "Vec<&'static str>")]
    struct Read;

    impl Actor for Patient {
        type Context = Context<Self>;
    }

    impl Handler<WaitFor> for Patient {
        type Result = ();

        fn handle(&mut self, wait: WaitFor, context: &mut Context<Self>) {
            self.0.push("asked");
            context.spawn(async {}.into_actor(self).map(|(), patient, _| patient.0.push("spawned")));
            context.wait(wait.0.into_actor(self).map(|_, patient, _| patient.0.push("waited")));
        }
    }

    impl Handler<Read> for Patient {
        type Result = MessageResult<Read>;

        fn handle(&mut self, _: Read, _: &mut Context<Self>) -> MessageResult<Read> {
            self.0.push("read");
            MessageResult(self.0.clone())
        }
    }

    live(async {
        let node = Node::start(config()).await.unwrap();
        let patient = node.supervise("patient", || Patient(Vec::new())).unwrap();
        let neighbour = node.supervise("neighbour", Subject::default).unwrap();
        let (go, wait) = tokio::sync::oneshot::channel();
        patient.send(WaitFor(wait)).await.unwrap();
        let mut reading = std::pin::pin!(patient.send(Read));
        // The neighbour on the same thread has had a hundred turns, and the message still waits.
        for _ in 0..100 {
            assert!(neighbour.send(Add(1)).await.is_ok());
            assert!(poll_once(reading.as_mut()).await.is_none(), "it was answered too early");
        }
        go.send(()).unwrap();
        let order = reading.await.unwrap();
        assert_eq!((order[0], *order.last().unwrap()), ("asked", "read"));
        assert!(order.contains(&"waited"), "{order:?}");
        node.leave().await;
    });
}

/// Polls once.
async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|task| match future.as_mut().poll(task) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

#[test]
fn a_clean_stop_is_followed_by_what_the_restart_kind_says() {
    live(async {
        let (node, permanent, mut events) = subject().await;
        permanent.send(Fail::Stop).await.unwrap();
        assert_eq!(permanent.send(Add(1)).await, Ok(1));
        events.wait("the replacement", |event| matches!(event, Event::Replaced { .. }).then_some(())).await;

        let spec = WorkerSpec::new("transient").restart(RestartKind::Transient);
        let transient: WorkerAddr<Subject> = node.supervise_with(spec, |_| Ok(Subject::default())).unwrap();
        let _ = transient.send(Fail::Now).await;
        assert_eq!(transient.send(Add(2)).await, Ok(2), "a panic is no clean stop");
        transient.send(Fail::Stop).await.unwrap();
        events
            .wait("the end", |event| {
                matches!(event, Event::Stopped { worker, .. } if &**worker == "transient").then_some(())
            })
            .await;
        while transient.send(Add(1)).await != Err(SendError::Closed) {
            tokio::task::yield_now().await;
        }
        node.leave().await;
    });
}

#[test]
fn a_worker_given_up_leaves_its_queue_as_dead_letters() {
    #[derive(Message)]
    #[rtype(result = "()")]
    struct NeverHandled;

    impl Handler<NeverHandled> for Subject {
        type Result = ();

        fn handle(&mut self, _: NeverHandled, _: &mut Context<Self>) {
            panic!("and yet it was");
        }
    }

    live(async {
        let node = Node::start(config()).await.unwrap();
        let mut events = Events::of(&node);
        let spec = WorkerSpec::new("hopeless").intensity(2, Duration::from_secs(60));
        let hopeless: WorkerAddr<Subject> = node.supervise_with(spec, |_| Ok(Subject::default())).unwrap();
        let failing: Vec<_> = (0..3).map(|_| hopeless.send(Fail::Now)).collect();
        let queued: Vec<_> = (0..10).map(|_| hopeless.send(NeverHandled)).collect();
        for failing in failing {
            assert_eq!(failing.await, Err(crate::panicked()));
        }
        let restarts = events
            .wait("the giving up", |event| match event {
                Event::GaveUp { restarts, .. } => Some(*restarts),
                _ => None,
            })
            .await;
        assert_eq!(restarts, 2);
        for queued in queued {
            assert_eq!(queued.await, Err(SendError::GaveUp));
        }
        assert_eq!(hopeless.try_send(Add(1)).unwrap_err().error, SendError::GaveUp);
        let dead = dead_letters().into_iter().find(|(name, _)| name.ends_with("NeverHandled"));
        assert_eq!(dead.unwrap().1, 10);
        node.leave().await;
    });
}

#[test]
fn a_dead_letter_that_panics_when_dropped_takes_no_other_along() {
    /// Cannot be dropped in peace.
    #[derive(Message)]
    #[rtype(result = "()")]
    struct Bitter;

    impl Drop for Bitter {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "told to be a bitter letter");
        }
    }

    impl Handler<Bitter> for Subject {
        type Result = ();

        fn handle(&mut self, bitter: Bitter, _: &mut Context<Self>) {
            drop(bitter);
        }
    }

    live(async {
        let node = Node::start(config()).await.unwrap();
        let spec = WorkerSpec::new("hopeless").intensity(0, Duration::from_secs(60));
        let hopeless: WorkerAddr<Subject> = node.supervise_with(spec, |_| Ok(Subject::default())).unwrap();
        let failing = hopeless.send(Fail::Now);
        let queued = (hopeless.send(Bitter), hopeless.send(Add(1)));
        assert_eq!(failing.await, Err(crate::panicked()));
        assert_eq!(queued.0.await, Err(SendError::GaveUp));
        assert_eq!(queued.1.await, Err(SendError::GaveUp));
        node.leave().await;
    });
}

#[test]
fn leaving_during_a_restart_pause_answers_the_senders() {
    live(async {
        let node = Node::start(config()).await.unwrap();
        let mut events = Events::of(&node);
        let long = Duration::from_secs(1_000_000);
        let spec = WorkerSpec::new("waiting").intensity(1_000, long).delay(long, long);
        let waiting: WorkerAddr<Subject> = node.supervise_with(spec, |_| Ok(Subject::default())).unwrap();
        // The first restart is immediate, the second one is not.
        for _ in 0..2 {
            assert_eq!(waiting.send(Fail::Now).await, Err(crate::panicked()));
        }
        let paused = |event: &Event| match event {
            Event::Failed { restart_in: Some(pause), .. } if !pause.is_zero() => Some(()),
            _ => None,
        };
        events.wait("the pause", paused).await;
        let queued = waiting.send(Add(1));
        node.leave().await;
        assert_eq!(queued.await, Err(SendError::Closed));
        assert_eq!(waiting.send(Add(1)).await, Err(SendError::Closed));
    });
}

#[test]
fn failing_factories_and_bad_names_get_clear_errors() {
    live(async {
        let node = Node::start(config()).await.unwrap();
        let mut events = Events::of(&node);
        let tries = Arc::new(AtomicU32::new(0));
        let counted = tries.clone();
        let late: WorkerAddr<Subject> = node
            .supervise_with(WorkerSpec::new("late"), move |start_info| match counted.fetch_add(1, Ordering::SeqCst) {
                0 => Err("no database yet".into()),
                1 => panic!("told to break the factory"),
                _ => {
                    assert!(start_info.cause.is_some(), "it receives the reason for the call");
                    Ok(Subject::default())
                }
            })
            .unwrap();
        assert_eq!(late.send(Add(1)).await, Ok(1), "the message waited for a worker");
        let mut reasons = Vec::new();
        while reasons.len() < 2 {
            let reason = |event: &Event| match event {
                Event::Failed { cause: Cause::StartFailed { reason }, .. } => Some(reason.to_string()),
                _ => None,
            };
            reasons.push(events.wait("the failed starts", reason).await);
        }
        assert_eq!(reasons, ["no database yet", "its factory panicked: told to break the factory"]);

        let error = |name: &str| node.supervise(name, Subject::default).unwrap_err().to_string();
        assert_eq!(error("late"), "worker name \"late\" is taken on this node; use another one");
        assert_eq!(error(""), "worker name \"\" has 0 bytes; use 1 to 64");
        assert!(error(&"x".repeat(65)).contains("has 65 bytes; use 1 to 64"));
        let shards = node.supervise_shards("none", 0, |_| Ok(Subject::default())).unwrap_err().to_string();
        assert_eq!(shards, "0 shards are out of range; use 1 to 65536");
        node.leave().await;
    });
}

#[test]
fn a_flood_starves_neither_timers_nor_neighbours() {
    /// Sends itself a message for each one, without end, in each of the two ways.
    struct Flood {
        ticks: Arc<AtomicU32>,
    }

    #[derive(Message)]
    #[rtype(result = "()")]
    enum Way {
        Notify,
        Address,
    }

    impl Actor for Flood {
        type Context = Context<Self>;

        fn started(&mut self, context: &mut Context<Self>) {
            context.run_interval(Duration::from_millis(5), |flood, _| {
                flood.ticks.fetch_add(1, Ordering::SeqCst);
            });
            context.notify(Way::Notify);
            context.address().do_send(Way::Address);
        }
    }

    impl Handler<Way> for Flood {
        type Result = ();

        fn handle(&mut self, way: Way, context: &mut Context<Self>) {
            match way {
                Way::Notify => context.notify(Way::Notify),
                Way::Address => context.address().do_send(Way::Address),
            }
        }
    }

    live(async {
        let node = Node::start(config()).await.unwrap();
        let mut events = Events::of(&node);
        let ticks = Arc::new(AtomicU32::new(0));
        let counted = ticks.clone();
        let _flood: WorkerAddr<Flood> = node.supervise("flood", move || Flood { ticks: counted.clone() }).unwrap();
        let neighbour = node.supervise("neighbour", Subject::default).unwrap();
        while ticks.load(Ordering::SeqCst) < 20 {
            assert!(neighbour.send(Add(1)).await.is_ok());
        }
        // It was busy for longer than the timeout, and made progress all the while: no worker was
        // replaced.
        tokio::time::sleep(Duration::from_millis(900)).await;
        assert!(neighbour.send(Add(1)).await.is_ok());
        node.leave().await;
        while let Ok(update) = events.0.try_recv() {
            assert!(!format!("{update:?}").contains("Failed"), "{update:?}");
        }
    });
}

// A2
#[test]
fn a_neighbour_is_answered_during_a_storm_of_panics() {
    live(async {
        let mut config = config();
        // Room for all there is to tell: this test is too busy to listen meanwhile, and must not
        // miss the last of it.
        config.events.queue = 10_000;
        let node = Node::start(config).await.unwrap();
        let spec = WorkerSpec::new("stormy").intensity(1_000, PATIENCE * 10).delay(Duration::ZERO, Duration::ZERO);
        let stormy = node.supervise_with(spec, |_| Ok(Subject::default())).unwrap();
        let neighbour: WorkerAddr<Subject> = node.supervise("neighbour", Subject::default).unwrap();
        let mut events = Events::of(&node);
        let storm = async {
            for _ in 0..1_001 {
                assert_eq!(stormy.send(Fail::Now).await, Err(crate::panicked()));
            }
        };
        let mut answered = 0_u64;
        let beside = async {
            loop {
                answered = neighbour.send(Add(1)).await.unwrap();
            }
        };
        tokio::select! {
            () = storm => {}
            () = beside => {}
        }
        assert!(answered > 500, "about one answer for each panic: {answered}");
        let restarts = events
            .wait("the giving up", |event| match event {
                Event::GaveUp { restarts, .. } => Some(*restarts),
                _ => None,
            })
            .await;
        assert_eq!(restarts, 1_000, "and not one more");
        node.leave().await;
    });
}

// A8
#[test]
fn the_senders_answers_add_up_to_the_workers_counts() {
    live(async {
        let node = Node::start(config()).await.unwrap();
        let spec = WorkerSpec::new("subject")
            .capacity(50)
            .intensity(1_000_000, PATIENCE)
            .delay(Duration::ZERO, Duration::ZERO);
        let subject = node.supervise_with(spec, |_| Ok(Subject::default())).unwrap();
        let mut senders = Vec::new();
        for thread in 0..4_u64 {
            let subject = subject.clone();
            senders.push(std::thread::spawn(move || {
                let mut random = heartbeat_core::Random::seeded(thread);
                let (mut adds, mut fails, mut refused) = (Vec::new(), Vec::new(), 0_u64);
                for _ in 0..5_000 {
                    match random.below(50) {
                        0 => fails.push(subject.send(Fail::Now)),
                        1 => fails.push(subject.send(Fail::Stop)),
                        2 => refused += u64::from(subject.try_send(Fail::InTimer).is_err()),
                        3 => subject.restart(),
                        _ => adds.push(subject.send(Add(1))),
                    }
                }
                (adds, fails, refused)
            }));
        }
        while !senders.iter().all(std::thread::JoinHandle::is_finished) {
            actix_rt::time::sleep(Duration::from_millis(1)).await;
        }
        let (mut sent, mut rejected, mut heard) = (0, 0, [0_u64; 3]);
        for sender in senders {
            let (adds, fails, refused) = sender.join().unwrap();
            rejected += refused;
            sent += (adds.len() + fails.len()) as u64;
            let mut hear = |answer: Result<(), SendError>| match answer {
                Ok(()) => heard[0] += 1,
                Err(SendError::Interrupted(_)) => heard[1] += 1,
                Err(SendError::Full) => heard[2] += 1,
                Err(other) => panic!("{other:?}"),
            };
            for add in adds {
                hear(add.await.map(drop));
            }
            for fail in fails {
                hear(fail.await);
            }
        }
        let fates = subject.message_counts();
        assert_eq!(fates.accepted, fates.handled + fates.interrupted + fates.dead + fates.queued, "{fates:?}");
        assert_eq!(heard.iter().sum::<u64>(), sent, "no sender was forgotten");
        assert_eq!((fates.interrupted, fates.rejected), (heard[1], heard[2] + rejected), "{fates:?}");
        // Messages without a waiting sender were handled as well.
        assert!(fates.handled >= heard[0] && fates.dead == 0, "{fates:?}, {heard:?}");
        node.leave().await;
    });
}

// A9
#[test]
fn a_thousand_clones_on_four_threads_keep_the_queues_bound() {
    live(async {
        let mut config = config();
        config.workers.timeout = PATIENCE;
        let node = Node::start(config).await.unwrap();
        let subject =
            node.supervise_with(WorkerSpec::new("subject").capacity(100), |_| Ok(Subject::default())).unwrap();
        let (release, held) = hold();
        let held = subject.send(held);
        until_held(&node).await;
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let clones: Vec<_> = (0..250).map(|_| subject.clone()).collect();
                std::thread::spawn(move || {
                    (0..4).flat_map(|_| &clones).filter(|clone| clone.try_send(Add(1)).is_ok()).count()
                })
            })
            .collect();
        let taken: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!((taken, subject.depth()), (100, 100));
        drop(release);
        held.await.unwrap();
        node.leave().await;
    });
}

// A13
#[test]
fn a_system_that_stops_in_the_middle_of_a_storm_ends() {
    let system = actix::System::new();
    system.block_on(async {
        let node = Node::start(config()).await.unwrap();
        let spec = WorkerSpec::new("stormy").intensity(1_000_000, PATIENCE).delay(Duration::ZERO, Duration::ZERO);
        let stormy: WorkerAddr<Subject> = node.supervise_with(spec, |_| Ok(Subject::default())).unwrap();
        let (release, held) = hold();
        let blocked: WorkerAddr<Subject> = node.supervise("blocked", Subject::default).unwrap();
        for _ in 0..500 {
            let _ = stormy.try_send(Fail::Now); // Refused or not, there are many.
        }
        blocked.try_send(held).unwrap();
        stormy.restart();
        actix::System::current().stop();
        drop(release);
    });
    system.run().unwrap();
}

#[test]
fn the_bound_of_the_queue_holds_for_any_number_of_clones() {
    live(async {
        let config =
            heartbeat_actors::Config::from_toml("[workers]\narbiters = 1\ncapacity = 100\ntimeout = '30s'").unwrap();
        let node = Node::start(config).await.unwrap();
        let subject = node.supervise("subject", Subject::default).unwrap();
        assert_eq!(subject.send(Add(0)).await, Ok(0));
        let (release, held) = hold();
        let held = subject.send(held);
        until_held(&node).await;
        let answers: Vec<_> = (0..1_000).map(|_| subject.clone().send(Add(1))).collect();
        drop(release);
        let mut counts = (0, 0);
        for answer in answers {
            match answer.await {
                Ok(_) => counts.0 += 1,
                Err(SendError::Full) => counts.1 += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(counts, (100, 900), "taken and refused");
        held.await.unwrap();
        node.leave().await;
    });
}

/// Panics on demand.
struct Fragile;

impl Actor for Fragile {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct Break;

impl Handler<Break> for Fragile {
    type Result = ();

    fn handle(&mut self, _: Break, _: &mut Context<Self>) {
        panic!("{MEANT} break with all the others");
    }
}

// A2
#[test]
fn in_a_storm_of_many_a_neighbour_is_answered_first() {
    live(async {
        let mut config = config();
        config.events.queue = 50_000;
        config.workers.timeout = PATIENCE;
        let node = Node::start(config).await.unwrap();
        let start = |index| {
            let spec = WorkerSpec::new(format!("fragile-{index}")).intensity(u32::MAX, PATIENCE);
            let spec = spec.delay(Duration::ZERO, Duration::ZERO);
            node.supervise_with(spec, |_| Ok(Fragile)).unwrap()
        };
        let fragile: Vec<WorkerAddr<Fragile>> = (0..4_000).map(start).collect();
        let neighbour: WorkerAddr<Subject> = node.supervise("neighbour", Subject::default).unwrap();
        assert_eq!(neighbour.send(Add(0)).await, Ok(0), "all are up before it");
        let begun = std::time::Instant::now();
        let broken: Vec<_> = fragile.iter().map(|fragile| fragile.send(Break)).collect();
        let mut waited = Vec::new();
        let beside = async {
            loop {
                let asked = std::time::Instant::now();
                neighbour.send(Add(1)).await.unwrap();
                waited.push(asked.elapsed());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let storm = async {
            for broken in broken {
                assert!(matches!(broken.await, Err(SendError::Interrupted(_))));
            }
        };
        tokio::select! {
            () = storm => {}
            () = beside => {}
        }
        let storm = begun.elapsed();
        waited.sort();
        let p99 = waited.get(waited.len() * 99 / 100).copied().unwrap_or(storm);
        println!(
            "a storm of {storm:?}, in which a neighbour was answered {} times, within {p99:?} at p99",
            waited.len()
        );
        assert!(p99 < storm * 2 / 3, "{p99:?} of {storm:?}");
        node.leave().await;
    });
}
