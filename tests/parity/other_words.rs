//! Tests of actix's that hold for us in other words: where actix has an arbiter, a supervisor or a
//! `SyncArbiter`.

use std::sync::Mutex;

use actix::prelude::*;
use heartbeat_actors::pool::Routing;
use heartbeat_actors::testkit;
use heartbeat_actors::worker::Placement;
use heartbeat_actors::{Config, Context, WorkerSpec};

use crate::cases::ours::world::run;
use crate::tally::{Tally, millis};

/// Notes what becomes of it, and may stop itself.
#[derive(Clone, Default)]
struct Seen {
    made: Tally,
    started: Tally,
    stopping: Tally,
    stopped: Tally,
    sum: Tally,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    Plain,
    /// Its first life stops with its first message.
    StopsOnce,
    /// Each of its lives stops with its first message.
    Stops,
    /// It goes on when it is asked whether it stops.
    Stays,
}

struct Worker {
    seen: Seen,
    habit: Habit,
    life: usize,
}

impl Worker {
    fn new(seen: &Seen, habit: Habit) -> Worker {
        seen.made.add(1);
        Worker { seen: seen.clone(), habit, life: seen.made.count() }
    }
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        self.seen.started.add(1);
    }

    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        self.seen.stopping.add(1);
        if self.habit == Habit::Stays { Running::Continue } else { Running::Stop }
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.seen.stopped.add(1);
    }
}

#[derive(Message)]
#[rtype(result = "usize")]
struct Add(usize);

impl Handler<Add> for Worker {
    type Result = usize;

    fn handle(&mut self, add: Add, ctx: &mut Context<Self>) -> usize {
        self.seen.sum.add(add.0);
        match self.habit {
            Habit::Stops => ctx.stop(),
            Habit::StopsOnce if self.life == 1 => ctx.stop(),
            Habit::StopsOnce | Habit::Plain | Habit::Stays => {}
        }
        self.life
    }
}

// test_start_actor_message
#[test]
fn a_worker_on_a_thread_of_its_own_is_sent_messages() {
    run(async |world| {
        let seen = Seen::default();
        let own = seen.clone();
        let spec = WorkerSpec::new("own").placement(Placement::Dedicated);
        let worker = world.node.supervise_with(spec, move |_| Ok(Worker::new(&own, Habit::Plain))).unwrap();
        assert_eq!(worker.send(Add(1)).await, Ok(1));
        assert_eq!(seen.sum.count(), 1);
    });
}

// test_supervisor_restart
#[test]
fn a_worker_that_stops_itself_starts_again_and_keeps_its_mail() {
    run(async |world| {
        let seen = Seen::default();
        let own = seen.clone();
        let worker = world.node.supervise("worker", move || Worker::new(&own, Habit::Stops)).unwrap();
        worker.do_send(Add(1));
        worker.do_send(Add(1));
        world.pass(millis(5_000)).await;
        assert_eq!((seen.started.count(), seen.stopped.count(), seen.sum.count()), (3, 2, 2));
    });
}

// test_sync
#[test]
fn a_pool_on_threads_of_its_own_handles_all_messages() {
    run(async |world| {
        let seen = Seen::default();
        let own = seen.clone();
        let spec = WorkerSpec::new("pool").placement(Placement::Dedicated);
        let pool =
            world.node.root().pool_with(spec, 2, Routing::RoundRobin, move |_| Ok(Worker::new(&own, Habit::Plain)));
        let pool = pool.unwrap();
        pool.until_ready().await;
        for _ in 0..5 {
            pool.try_send(Add(1)).unwrap();
        }
        world.pass(millis(1)).await;
        assert_eq!((seen.started.count(), seen.sum.count()), (2, 5));
        assert!(pool.members().iter().all(|member| member.message_counts().handled > 0));
    });
}

// test_restart_sync_actor
#[test]
fn the_next_life_handles_the_message_behind_the_stop() {
    run(async |world| {
        let seen = Seen::default();
        let own = seen.clone();
        let worker = world.node.supervise("worker", move || Worker::new(&own, Habit::StopsOnce)).unwrap();
        worker.do_send(Add(2));
        assert_eq!(worker.send(Add(4)).await, Ok(2));
        worker.stop();
        world.pass(millis(1_000)).await;
        let ends = (seen.started.count(), seen.stopping.count(), seen.stopped.count());
        assert_eq!((ends, seen.sum.count()), ((2, 2, 2), 6));
    });
}

/// In its first life it begins a future that never ends, and stops.
struct Endless {
    waits: bool,
    life: usize,
    held: Tally,
}

/// Counts while it is there.
struct Held(Tally);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

impl Actor for Endless {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if self.life > 1 {
            return;
        }
        self.held.set(1);
        let held = Held(self.held.clone());
        let future = actix::fut::wrap_future(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        if self.waits {
            ctx.wait(future);
        } else {
            ctx.spawn(future);
        }
        ctx.stop();
    }
}

impl Handler<Add> for Endless {
    type Result = usize;

    fn handle(&mut self, _: Add, ctx: &mut Context<Self>) -> usize {
        assert!(!ctx.waiting());
        self.life
    }
}

fn next_life(waits: bool) {
    run(async move |world| {
        let (lives, held) = (Tally::default(), Tally::default());
        let (own, count) = (held.clone(), lives.clone());
        let worker = world.node.supervise("endless", move || {
            count.add(1);
            Endless { waits, life: count.count(), held: own.clone() }
        });
        assert_eq!(worker.unwrap().send(Add(1)).within(millis(5_000)).await, Ok(2));
        assert_eq!(held.count(), 0);
    });
}

// restart::cancels_spawned_futures
#[test]
fn the_next_life_has_no_futures_of_the_one_before() {
    next_life(false);
}

// restart::clears_await_queue
#[test]
fn the_next_life_does_not_wait_for_what_the_one_before_did() {
    next_life(true);
}

/// What a worker has seen once its System has ended.
fn after_the_system(habit: Habit, drops_address: bool) -> (usize, usize, usize) {
    let seen = Seen::default();
    let (own, kept) = (seen.clone(), Mutex::new(None));
    testkit::run(Config::default(), async |node| {
        let worker = node.supervise("worker", move || Worker::new(&own, habit)).unwrap();
        node.settle().await;
        if !drops_address {
            *kept.lock().unwrap() = Some(worker);
        }
    });
    (seen.started.count(), seen.stopping.count(), seen.stopped.count())
}

// test_stop
#[test]
fn a_worker_stops_when_its_system_ends() {
    assert_eq!(after_the_system(Habit::Plain, false), (1, 1, 1));
}

// test_stop_after_drop_sync_address
#[test]
fn a_worker_without_address_stops_when_its_system_ends() {
    assert_eq!(after_the_system(Habit::Plain, true), (1, 1, 1));
}

// test_stop_restore_after_stopping
#[test]
fn the_end_of_a_system_does_not_stop_a_worker_that_goes_on() {
    assert_eq!(after_the_system(Habit::Stays, false), (1, 1, 0));
}
