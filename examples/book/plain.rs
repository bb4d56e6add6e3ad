//! "Coming from plain actix": each line of the chapter that is code.

use std::time::Duration;

use heartbeat_actors::pool::Routing;
use heartbeat_actors::prelude::*;
use heartbeat_actors::worker::NotUp;
use heartbeat_actors::{SendError, Update};

use crate::{Add, Counter};

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[actix_rt::test]
async fn a_worker_is_started_and_asked() -> Outcome {
    // ANCHOR: start
    let node = Node::start(Config::default()).await?;
    // let counter = Counter { total: 0 }.start();
    let counter = node.supervise("counter", || Counter { total: 0 })?;
    // let counter = Counter::create(|ctx| { ..; Counter { total: 0 } });
    let with_context =
        node.root().supervise_with_context(WorkerSpec::new("timed"), |_, ctx: &mut Context<Counter>| {
            ctx.run_later(Duration::from_secs(1), |counter, _| counter.total += 1);
            Ok(Counter { total: 0 })
        })?;
    // ANCHOR_END: start
    with_context.until_up().await?;
    // ANCHOR: send
    let total: Result<u64, SendError> = counter.send(Add(2)).await; // actix: Result<u64, MailboxError>
    let soon = counter.send(Add(2)).within(Duration::from_secs(1)).await; // actix: .timeout(..)
    counter.do_send(Add(1));
    let refused = counter.try_send(Add(1)).map_err(|error| error.message); // the message comes back
    // ANCHOR_END: send
    assert_eq!((total, soon, refused.is_ok()), (Ok(2), Ok(4), true));
    // ANCHOR: address
    let plain: Addr<Counter> = counter.address();
    let recipient: Recipient<Add> = counter.recipient();
    let weak = counter.downgrade();
    assert_eq!(weak.upgrade().as_ref(), Some(&counter));
    assert!(counter.connected());
    // ANCHOR_END: address
    assert_eq!(plain.send(Add(1)).await?, 7);
    assert_eq!(recipient.send(Add(1)).await?, 8);
    node.leave().await;
    Ok(())
}

#[actix_rt::test]
async fn a_panic_costs_one_message() -> Outcome {
    let node = Node::start(Config::default()).await?;
    let counter = node.supervise("counter", || Counter { total: 0 })?;
    // ANCHOR: panic
    let lost = counter.send(Add(5_000)).await; // its handler panics
    assert!(lost.is_err_and(|error| !error.is_unhandled())); // it may have had an effect
    assert_eq!(counter.send(Add(3)).await, Ok(3)); // a new value, the same address
    // ANCHOR_END: panic
    node.leave().await;
    Ok(())
}

#[actix_rt::test]
async fn a_pool_does_what_a_sync_arbiter_does() -> Outcome {
    let node = Node::start(Config::default()).await?;
    // ANCHOR: pool
    // let pool = SyncArbiter::start(4, || Counter { total: 0 });
    let spec = WorkerSpec::new("counters").placement(heartbeat_actors::worker::Placement::Dedicated);
    let pool = node.root().pool_with(spec, 4, Routing::SharedQueue, |_| Ok(Counter { total: 0 }))?;
    // ANCHOR_END: pool
    assert_eq!(pool.send(Add(3)).await?, 3);
    pool.resize(2)?;
    node.leave().await;
    Ok(())
}

// ANCHOR: service
#[derive(Default)]
struct Mailer;

impl Actor for Mailer {
    type Context = Context<Self>;
}
// ANCHOR_END: service

#[actix_rt::test]
async fn a_service_is_found_by_its_type() -> Outcome {
    let node = Node::start(Config::default()).await?;
    // ANCHOR: service_use
    // let mailer = Mailer::from_registry();
    let mailer: WorkerAddr<Mailer> = node.service()?;
    // SystemRegistry::set(mailer);
    node.set_service(&mailer);
    // ANCHOR_END: service_use
    assert_eq!(node.service::<Mailer>()?, mailer);
    node.leave().await;
    Ok(())
}

#[actix_rt::test]
async fn what_happens_is_told_and_waited_for() -> Outcome {
    let node = Node::start(Config::default()).await?;
    // ANCHOR: events
    node.subscribe_fn("printer", |update| {
        if let Update::Event(event) = update {
            println!("{}", event.name()); // started, failed, replaced, ..
        }
    });
    let counter = node.supervise("counter", || Counter { total: 0 })?;
    counter.until_up().await?;
    counter.stop();
    assert_eq!(counter.until_up().await, Err(NotUp::Stopped));
    // ANCHOR_END: events
    node.leave().await;
    Ok(())
}

// ANCHOR: snapshot
struct Orders {
    taken: u64,
}

impl Actor for Orders {
    type Context = Context<Self>;
}

impl Handler<Add> for Orders {
    type Result = u64;

    fn handle(&mut self, add: Add, ctx: &mut Context<Self>) -> u64 {
        assert!(add.0 < 1_000, "too much for one day");
        self.taken += add.0;
        ctx.snapshot(self.taken); // lies outside this worker's thread
        self.taken
    }
}
// ANCHOR_END: snapshot

#[actix_rt::test]
async fn state_outlives_a_failure_where_it_is_kept() -> Outcome {
    let node = Node::start(Config::default()).await?;
    // ANCHOR: snapshot_use
    let orders = node.supervise_with(WorkerSpec::new("orders"), |birth| {
        let taken = birth.snapshot::<u64>()?.map_or(0, |taken| *taken);
        Ok(Orders { taken })
    })?;
    // ANCHOR_END: snapshot_use
    assert_eq!(orders.send(Add(40)).await?, 40);
    assert!(orders.send(Add(5_000)).await.is_err());
    assert_eq!(orders.send(Add(2)).await?, 42);
    node.leave().await;
    Ok(())
}
