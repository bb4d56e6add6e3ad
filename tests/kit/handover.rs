//! What a worker leaves to its successor, and what it may no longer do.

use std::sync::{Arc, Mutex};

use actix::prelude::*;
use heartbeat_actors::event::Cause;
use heartbeat_actors::testkit::Fault;
use heartbeat_actors::worker::Lease;
use heartbeat_actors::{Context, StartError, StartInfo};

use crate::{MEANT, kit, seconds};

/// Keeps its total outside of itself.
struct Ledger {
    total: u64,
}

impl Ledger {
    fn open(start_info: &StartInfo) -> Result<Ledger, StartError> {
        let total = start_info.snapshot::<u64>()?.map_or(0, |total| *total);
        Ok(Ledger { total })
    }
}

impl Actor for Ledger {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "u64")]
struct Book(u64);

impl Handler<Book> for Ledger {
    type Result = u64;

    fn handle(&mut self, book: Book, context: &mut Context<Self>) -> u64 {
        self.total += book.0;
        context.snapshot(self.total);
        self.total
    }
}

#[derive(Message)]
#[rtype(result = "Lease")]
struct GetLease;

impl Handler<GetLease> for Ledger {
    type Result = MessageResult<GetLease>;

    fn handle(&mut self, _: GetLease, context: &mut Context<Self>) -> MessageResult<GetLease> {
        MessageResult(context.lease())
    }
}

// A10
#[test]
fn every_replacement_gets_the_last_snapshot_and_the_cause() {
    kit(async |node| {
        let births = Arc::new(Mutex::new(Vec::<(u64, Option<Cause>)>::new()));
        let noted = births.clone();
        let ledger = node
            .supervise_with(heartbeat_actors::WorkerSpec::new("ledger"), move |start_info| {
                noted.lock().unwrap().push((start_info.generation.0, start_info.cause.clone()));
                Ledger::open(start_info)
            })
            .unwrap();
        assert_eq!(ledger.send(Book(5)).await, Ok(5));
        node.inject("ledger", Fault::Panic(format!("{MEANT} fail")));
        let _ = ledger.send(Book(1)).await;
        assert_eq!(ledger.send(Book(1)).await, Ok(6), "after a panic");
        node.inject("ledger", Fault::Block(seconds(60)));
        let stuck = ledger.send(Book(100));
        node.advance(seconds(6)).await;
        assert!(stuck.await.is_err());
        assert_eq!(ledger.send(Book(1)).await, Ok(7), "after its thread was held");
        node.inject("ledger", Fault::AwaitStuck);
        let (stuck, queued) = (ledger.send(Book(100)), ledger.send(Book(1)));
        node.advance(seconds(20)).await;
        assert!(stuck.await.is_err());
        assert_eq!(queued.await, Ok(8), "after it waited without end");
        node.advance(seconds(60)).await;
        assert_eq!(ledger.send(Book(0)).await, Ok(8), "the zombie has kept nothing");
        let births = births.lock().unwrap();
        assert!(births.windows(2).all(|pair| pair[0].0 < pair[1].0), "{births:?}");
        assert!(matches!(births[0], (1, None)));
        assert!(matches!(births[1].1, Some(Cause::Panicked { .. })));
        assert!(matches!(births[2].1, Some(Cause::Blocked { .. })));
        assert!(matches!(births[3].1, Some(Cause::AwaitStuck { .. })));
    });
}

#[test]
fn a_snapshot_asked_for_under_another_type_is_a_clear_error() {
    kit(async |node| {
        let spec = heartbeat_actors::WorkerSpec::new("ledger").intensity(0, seconds(1));
        let ledger = node
            .supervise_with(spec, |start_info| {
                let _ = start_info.snapshot::<String>()?;
                Ledger::open(start_info)
            })
            .unwrap();
        assert_eq!(ledger.send(Book(5)).await, Ok(5));
        ledger.restart();
        node.settle().await;
        let causes = node.causes("ledger");
        let [Cause::StartFailed { reason }] = &causes[..] else { panic!("{causes:?}") };
        assert_eq!(
            &**reason,
            "the snapshot of ledger is no alloc::string::String; ask for the type that its worker keeps"
        );
    });
}

#[test]
fn a_lease_is_over_with_the_generation_that_holds_it() {
    kit(async |node| {
        let ledger = node.supervise_with(heartbeat_actors::WorkerSpec::new("ledger"), Ledger::open).unwrap();
        let first = ledger.send(GetLease).await.unwrap();
        assert!(first.is_valid() && first.check().is_ok());
        node.inject("ledger", Fault::Panic(format!("{MEANT} fail")));
        let _ = ledger.send(Book(1)).await;
        assert!(!first.is_valid(), "at once");
        let second = ledger.send(GetLease).await.unwrap();
        assert!(second.is_valid() && second.generation() > first.generation());
        node.inject("ledger", Fault::Block(seconds(60)));
        let _stuck = ledger.send(Book(1));
        node.advance(seconds(4)).await;
        assert!(second.is_valid());
        node.advance(seconds(2)).await;
        assert!(second.check().unwrap_err().to_string().contains("its successor is responsible"));
        let third = ledger.send(GetLease).await.unwrap();
        node.inject("ledger", Fault::Panic(format!("{MEANT} fail")));
        let _ = ledger.send(Book(1)).await;
        assert!(!ledger.status().is_live && !third.is_valid(), "while it has not been replaced yet");
        node.advance(seconds(1)).await;
        let fourth = ledger.send(GetLease).await.unwrap();
        ledger.stop();
        node.settle().await;
        assert!(!fourth.is_valid());
    });
}

#[test]
fn liveness_startup_and_readiness_are_three_verdicts() {
    kit(async |node| {
        let ledger = node.supervise_with(heartbeat_actors::WorkerSpec::new("ledger"), Ledger::open).unwrap();
        let verdicts = || {
            let status = ledger.status();
            (status.is_live, status.is_up, status.is_ready)
        };
        assert_eq!(verdicts(), (false, false, false), "it has not been started yet");
        node.settle().await;
        assert_eq!(verdicts(), (true, true, true));
        node.inject("ledger", Fault::SlowStart(seconds(3)));
        ledger.restart();
        node.settle().await;
        assert_eq!(verdicts(), (true, false, false), "it starts");
        node.advance(seconds(4)).await;
        assert_eq!(verdicts(), (true, true, true));
        for _ in 0..2 {
            node.inject("ledger", Fault::Panic(format!("{MEANT} fail")));
            let _ = ledger.send(Book(1)).await;
        }
        assert_eq!(verdicts(), (false, false, false), "it waits for its second restart");
        node.advance(seconds(1)).await;
        node.inject("ledger", Fault::Block(seconds(2)));
        let answer = ledger.send(Book(1));
        node.settle().await;
        let status = ledger.status();
        assert!(status.is_live && status.doing.is_some(), "{status:?}");
        node.advance(seconds(3)).await;
        assert!(answer.await.is_ok());
        node.leave().await;
        assert_eq!(verdicts(), (false, false, false));
    });
}

#[test]
fn a_node_that_has_left_takes_nothing_on_and_says_so() {
    kit(async |node| {
        let before = node.supervise_with(heartbeat_actors::WorkerSpec::new("ledger"), Ledger::open).unwrap();
        node.leave().await;
        let refused = node.supervise_with(heartbeat_actors::WorkerSpec::new("late"), Ledger::open).unwrap_err();
        assert!(refused.to_string().contains("this node has left"), "{refused}");
        assert!(node.root().group(heartbeat_actors::group::GroupSpec::new("group")).is_err());
        assert_eq!(before.send(Book(1)).await, Err(heartbeat_actors::SendError::Closed));
        before.start();
        before.restart();
        node.settle().await;
        assert_eq!(before.send(Book(1)).await, Err(heartbeat_actors::SendError::Closed), "nothing starts any more");
        node.leave().await;
        node.advance(seconds(3600)).await;
    });
}
