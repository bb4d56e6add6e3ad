//! Timers, notifications and handles: each at its time, and none after its end.

use actix::prelude::*;

use super::world::{Context, run};
use crate::tally::{Tally, millis};

/// What an actor does when it starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plan {
    Notify,
    NotifyAndCancel,
    NotifyAndStop,
    Run,
    RunAndStop,
    Interval,
    IntervalAt,
}

struct Timed {
    plan: Plan,
    rang: Tally,
    stopped: Tally,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Ring;

impl Actor for Timed {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        match self.plan {
            Plan::Notify => drop(ctx.notify_later(Ring, millis(5))),
            Plan::NotifyAndCancel => {
                let (first, second) = (ctx.notify_later(Ring, millis(5)), ctx.notify_later(Ring, millis(5)));
                assert!(ctx.cancel_future(second) && ctx.cancel_future(first));
            }
            Plan::NotifyAndStop => {
                ctx.notify_later(Ring, millis(5));
                ctx.stop();
            }
            Plan::Run => drop(ctx.run_later(millis(5), |timed, _| timed.rang.add(1))),
            Plan::RunAndStop => {
                ctx.run_later(millis(5), |timed, _| timed.rang.add(1));
                ctx.stop();
            }
            Plan::Interval => drop(ctx.run_interval(millis(110), Timed::tick)),
            Plan::IntervalAt => {
                let first = tokio::time::Instant::now() + millis(1_000);
                ctx.run_interval_at(first, millis(110), Timed::tick);
            }
        }
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.stopped.add(1);
    }
}

impl Timed {
    /// Stops at the tenth tick.
    fn tick(&mut self, ctx: &mut Context<Self>) {
        self.rang.add(1);
        if self.rang.count() == 10 {
            ctx.stop();
        }
    }
}

impl Handler<Ring> for Timed {
    type Result = ();

    fn handle(&mut self, _: Ring, _: &mut Context<Self>) {
        self.rang.add(1);
    }
}

/// How often it has rung and whether it has stopped, before and after the time named.
fn check(plan: Plan, (time, before, after): (u64, usize, usize), stops: bool) {
    run(async move |world| {
        let (rang, stopped) = (Tally::default(), Tally::default());
        let _addr = world.start(Timed { plan, rang: rang.clone(), stopped: stopped.clone() });
        world.pass(millis(time - 1)).await;
        assert_eq!(rang.count(), before);
        world.pass(millis(3)).await;
        assert_eq!(rang.count(), after);
        world.pass(millis(10_000)).await;
        assert_eq!((rang.count(), stopped.count() == 1), (after, stops));
    });
}

// test_add_timeout
#[test]
fn a_notification_comes_at_its_time() {
    check(Plan::Notify, (5, 0, 1), false);
}

// test_add_timeout_cancel
#[test]
fn a_notification_that_was_cancelled_does_not_come() {
    check(Plan::NotifyAndCancel, (5, 0, 0), false);
}

// test_add_timeout_stop
#[test]
fn a_notification_does_not_come_after_the_stop() {
    check(Plan::NotifyAndStop, (5, 0, 0), true);
}

// test_run_after
#[test]
fn a_timer_runs_at_its_time() {
    check(Plan::Run, (5, 0, 1), false);
}

// test_run_after_stop
#[test]
fn a_timer_does_not_run_after_the_stop() {
    check(Plan::RunAndStop, (5, 0, 0), true);
}

// test_run_interval
#[test]
fn an_interval_runs_until_the_actor_stops() {
    check(Plan::Interval, (1_100, 9, 10), true);
}

// test_run_interval_at
#[test]
fn an_interval_begins_when_it_is_told() {
    check(Plan::IntervalAt, (1_990, 9, 10), true);
}

/// Has one future and may be told to cancel it when it is long done.
struct Forgetful {
    handle: Option<SpawnHandle>,
}

impl Actor for Forgetful {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.handle = Some(ctx.spawn(std::future::ready(()).into_actor(self)));
    }
}

impl Handler<Ring> for Forgetful {
    type Result = ();

    fn handle(&mut self, _: Ring, ctx: &mut Context<Self>) {
        assert!(ctx.cancel_future(self.handle.take().unwrap()));
    }
}

// test_cancel_completed_with_no_context_item
#[test]
fn what_is_done_may_be_cancelled() {
    run(async |world| {
        let forgetful = world.start(Forgetful { handle: None });
        world.pass(millis(100)).await;
        forgetful.send(Ring).await.unwrap();
        world.pass(millis(100)).await;
    });
}

/// Cancels a timer that is due at once.
struct Hasty;

/// Says that it was dropped.
#[derive(Message)]
#[rtype(result = "()")]
struct Dropped(Tally);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.add(1);
    }
}

impl Actor for Hasty {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.spawn(tokio::task::yield_now().into_actor(self));
    }
}

impl Handler<Dropped> for Hasty {
    type Result = ();

    fn handle(&mut self, dropped: Dropped, ctx: &mut Context<Self>) {
        let handle = ctx.run_later(millis(0), move |_, _| {
            drop(dropped);
            panic!("a timer ran that was cancelled");
        });
        ctx.cancel_future(handle);
    }
}

// scheduled_task_is_cancelled_properly::cancels
#[test]
fn what_is_cancelled_is_dropped_at_once_and_does_not_run() {
    run(async |world| {
        let dropped = Tally::default();
        let hasty = world.start(Hasty);
        hasty.do_send(Dropped(dropped.clone()));
        world.pass(millis(0)).await;
        assert_eq!(dropped.count(), 1);
    });
}
