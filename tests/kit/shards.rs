//! Shards without a cluster: the same program as on many hosts, all shards here.

use std::time::Duration;

use actix::prelude::*;
use heartbeat_actors::shard::{NewerSnapshot, Owner, SnapshotTooLarge};
use heartbeat_actors::testkit::{Fault, inject};
use heartbeat_actors::{Context, SendError, StartError, StartInfo, WorkerAddr};

use crate::{MEANT, kit, kit_with};

/// Counts, and leaves its total behind.
struct Tally {
    total: u64,
}

impl Tally {
    /// The version of its snapshots.
    const VERSION: u32 = 2;

    fn open(start_info: &StartInfo) -> Result<Tally, StartError> {
        let Some(replica) = start_info.replica() else { return Ok(Tally { total: 0 }) };
        Ok(Tally { total: u64::from_le_bytes(replica.up_to(Tally::VERSION)?.try_into()?) })
    }
}

impl Actor for Tally {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "Result<u64, SnapshotTooLarge>")]
struct Count;

impl Handler<Count> for Tally {
    type Result = Result<u64, SnapshotTooLarge>;

    fn handle(&mut self, _: Count, context: &mut Context<Self>) -> Result<u64, SnapshotTooLarge> {
        self.total += 1;
        context.replicate(Tally::VERSION, self.total.to_le_bytes().to_vec())?;
        assert!(context.lease().is_valid() && context.lease().epoch().is_some());
        Ok(self.total)
    }
}

#[test]
fn a_restarted_shard_keeps_its_snapshot_and_its_epoch() {
    kit(async |node| {
        let shards = node.supervise_shards("tallies", 4, Tally::open).unwrap();
        node.settle().await;
        let Ok(Owner::Here(worker)) = shards.owner("ada") else { panic!("without a cluster it is here") };
        let worker = worker.clone();
        assert_eq!(worker.send(Count).await, Ok(Ok(1)));
        let index = shards.shard_of("ada");
        let epoch = node.view().owner("tallies", index).map(|(shard, _)| shard.epoch);
        inject(&node, &format!("tallies/{index}"), Fault::Panic(format!("{MEANT} panic")));
        assert!(worker.send(Count).await.is_err());
        assert_eq!(worker.send(Count).await, Ok(Ok(2)), "the one that panicked was not counted");
        assert_eq!(node.view().owner("tallies", index).map(|(shard, _)| shard.epoch), epoch);
    });
}

#[test]
fn a_refused_group_keeps_no_names() {
    kit(async |node| {
        let other = node.supervise("tallies/3", || Tally { total: 0 }).unwrap();
        assert!(node.supervise_shards("tallies", 8, Tally::open).is_err());
        assert!(node.view().worker("tallies/0").is_none() && node.view().worker("tallies/3").is_some());
        other.remove();
        node.settle().await;
        let shards = node.supervise_shards("tallies", 8, Tally::open).unwrap();
        node.settle().await;
        assert_eq!(shards.worker(7).send(Count).await, Ok(Ok(1)));
    });
}

#[test]
fn a_snapshot_that_is_too_large_is_refused_with_both_numbers() {
    kit_with("ownership.snapshot_bytes_max = 7", async |node| {
        let shards = node.supervise_shards("tallies", 1, Tally::open).unwrap();
        node.settle().await;
        assert_eq!(shards.worker(0).send(Count).await, Ok(Err(SnapshotTooLarge { bytes: 8, others: 0, bytes_max: 7 })));
        let text = SnapshotTooLarge { bytes: 8, others: 0, bytes_max: 7 }.to_string();
        assert_eq!(text, "a snapshot of 8 bytes is too large; use at most 7, or raise ownership.snapshot_bytes_max");
    });
}

#[test]
fn a_snapshot_of_a_newer_program_is_refused_with_both_versions() {
    let text = NewerSnapshot { found: 3, known: 2 }.to_string();
    assert_eq!(text, "the snapshot has version 3, and this program knows versions up to 2; run the newer program");
}

#[test]
fn a_shard_whose_worker_is_stopped_and_started_is_that_shard() {
    kit(async |node| {
        let shards = node.supervise_shards("tallies", 4, Tally::open).unwrap();
        node.settle().await;
        let worker = shards.worker(2);
        let mut total = 0;
        for stop in [WorkerAddr::stop, WorkerAddr::remove] {
            for start in [WorkerAddr::start, WorkerAddr::restart] {
                total += 1;
                assert_eq!(worker.send(Count).await, Ok(Ok(total)), "with a lease and an epoch, from its snapshot");
                stop(worker);
                node.advance(Duration::from_secs(1)).await;
                assert_eq!(worker.send(Count).await, Err(SendError::Closed));
                start(worker);
                start(worker);
                node.advance(Duration::from_secs(1)).await;
            }
        }
    });
}

#[test]
fn without_a_cluster_the_view_names_the_owner_and_the_epoch() {
    kit(async |node| {
        let _shards = node.supervise_shards("tallies", 2, Tally::open).unwrap();
        node.settle().await;
        for index in 0..2 {
            let (shard, owner) = node.view().owner("tallies", index).unwrap();
            assert_eq!((&*owner, shard.index), ("local", index));
            assert!(shard.epoch <= heartbeat_actors::shard::Epoch::MAX);
        }
        assert_eq!(node.view().owner("tallies", 2), None);
    });
}
