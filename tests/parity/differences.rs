//! Tests of actix's that do not hold for us, with what holds instead.
//!
//! All have one cause: a plain actor ends with its last address, a supervised worker ends on
//! command. Its node holds it.

use actix::prelude::*;
use heartbeat_actors::Context;

use crate::cases::ours::world::{plain, run};
use crate::tally::{Tally, millis};

/// Notes when it stops, and looks every 100 ms whether it can still be reached.
#[derive(Default)]
struct Worker {
    stopping: Tally,
    unreachable: Tally,
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(millis(100), |worker, ctx| worker.unreachable.add(usize::from(!ctx.connected())));
    }

    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        self.stopping.add(1);
        Running::Stop
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Ping;

impl Handler<Ping> for Worker {
    type Result = ();

    fn handle(&mut self, _: Ping, _: &mut Context<Self>) {}
}

// test_stop_after_drop_address, test_stop_after_drop_sync_actor, test_connected
#[test]
fn a_worker_runs_on_without_an_address() {
    run(async |world| {
        let (stopping, unreachable) = (Tally::default(), Tally::default());
        let worker = world.start(Worker { stopping: stopping.clone(), unreachable: unreachable.clone() });
        world.pass(millis(1_000)).await;
        drop(worker);
        world.pass(millis(10_000)).await;
        assert_eq!((stopping.count(), unreachable.count()), (0, 0));
    });
}

// test_weak_address, test_weak_recipient
#[test]
fn a_weak_address_leads_to_a_worker_that_runs() {
    run(async |world| {
        let worker = world.start(Worker::default());
        let (weak, recipient) = (worker.downgrade(), plain(&worker).downgrade().recipient::<Ping>());
        world.pass(millis(10)).await;
        drop(worker);
        world.pass(millis(10)).await;
        assert!(recipient.upgrade().is_some());
        let worker = weak.upgrade().unwrap();
        worker.remove();
        drop(worker);
        world.pass(millis(1_000)).await;
        assert!(weak.upgrade().is_none() && recipient.upgrade().is_none());
    });
}
