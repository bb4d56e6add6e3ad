//! `Snapshots`: the newest snapshot of each shard that runs here, and of each shard whose successor
//! this node is.
//!
//! Each owner replicates the snapshots of a shard to its *successor*: the member that rendezvous
//! hashing names when the owner is left out. After a crash of the owner, the successor is at most
//! `ownership.copy_every` plus the transit behind. A newer snapshot takes the place of one that
//! still waits.
//!
//! A snapshot of a node that is not the owner of its shard by this node's view is *withheld*: the
//! view may lag behind. It is kept once the view names its sender, and dropped if that takes more
//! than [`WITHHELD_FOR`].
//!
//! Of two snapshots, the one with the higher epoch is newer, then the one with the higher sequence.
//! This module does not read the bytes, and does not bound them: its caller refuses what has no
//! room.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::member::{Epoch, NodeId, ShardKey};
use crate::snapshot::ShardSnapshot;
use crate::time::Instant;

/// How long a snapshot is withheld, at most.
const WITHHELD_FOR: Duration = Duration::from_secs(10);

/// Snapshots, by shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshots {
    kept: BTreeMap<ShardKey, ShardSnapshot>,
    /// At most one for each shard, the newest.
    withheld: BTreeMap<ShardKey, Withheld>,
    /// The sum of the bytes of both.
    bytes: u64,
    replicated: BTreeMap<ShardKey, Replication>,
    /// Shards that run here and have a snapshot to be sent, by when.
    due: BTreeMap<Instant, Vec<ShardKey>>,
}

/// A snapshot whose sender is not the owner of its shard by this node's view.
#[derive(Clone, Debug)]
struct Withheld {
    sender: NodeId,
    until: Instant,
    snapshot: ShardSnapshot,
}

/// How far the snapshots of a shard that runs here have been replicated.
#[derive(Clone, Copy, Debug)]
struct Replication {
    successor: Option<NodeId>,
    /// When the last one was sent to this successor.
    sent_at: Option<Instant>,
    /// Whether it is in `due`.
    is_due: bool,
}

impl Snapshots {
    pub(super) fn newest(&self, key: ShardKey) -> Option<&ShardSnapshot> {
        self.kept.get(&key)
    }

    /// The sum of the bytes of all snapshots that are kept or withheld.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let withheld = self.withheld.values().map(|withheld| withheld.until).min();
        self.due.keys().next().copied().into_iter().chain(withheld).min()
    }

    /// Keeps a snapshot unless the kept one is as new. Returns whether it was kept.
    pub(super) fn keep(&mut self, key: ShardKey, snapshot: ShardSnapshot) -> bool {
        if self.kept.get(&key).is_some_and(|kept| kept.order() >= snapshot.order()) {
            return false;
        }
        self.bytes += snapshot.bytes.len() as u64;
        if let Some(former) = self.kept.insert(key, snapshot) {
            self.bytes -= former.bytes.len() as u64;
        }
        true
    }

    /// Withholds a snapshot of a node that may become the owner of its shard.
    pub(super) fn withhold(&mut self, key: ShardKey, sender: NodeId, snapshot: ShardSnapshot, now: Instant) {
        let is_newer = |known: &Withheld| known.snapshot.order() < snapshot.order() || known.sender != sender;
        if self.withheld.get(&key).is_none_or(is_newer) {
            self.bytes += snapshot.bytes.len() as u64;
            let former = self.withheld.insert(key, Withheld { sender, until: now + WITHHELD_FOR, snapshot });
            self.bytes -= former.map_or(0, |former| former.snapshot.bytes.len() as u64);
        }
    }

    /// Keeps the withheld snapshots whose senders are owners by now.
    pub(super) fn admit_withheld(&mut self, may_have: impl Fn(ShardKey, NodeId) -> bool) {
        let admitted: Vec<ShardKey> = self
            .withheld
            .iter()
            .filter(|(key, withheld)| may_have(**key, withheld.sender))
            .map(|(key, _)| *key)
            .collect();
        for key in admitted {
            if let Some(withheld) = self.drop_withheld(key) {
                self.keep(key, withheld.snapshot);
            }
        }
    }

    fn drop_withheld(&mut self, key: ShardKey) -> Option<Withheld> {
        let withheld = self.withheld.remove(&key)?;
        self.bytes -= withheld.snapshot.bytes.len() as u64;
        Some(withheld)
    }

    /// Keeps a new snapshot of a shard that runs here, and schedules its replication.
    pub(super) fn record(
        &mut self,
        key: ShardKey,
        epoch: Epoch,
        version: u32,
        bytes: Arc<[u8]>,
        now: Instant,
        every: Duration,
    ) {
        let before = self.kept.get(&key).filter(|kept| kept.epoch == epoch).map_or(0, |kept| kept.sequence);
        if self.keep(key, ShardSnapshot { epoch, sequence: before.saturating_add(1), version, bytes }) {
            self.schedule(key, now, every);
        }
    }

    /// Sets the successor of a shard that runs here. A new successor is sent the kept snapshot at
    /// once.
    pub(super) fn set_successor(&mut self, key: ShardKey, successor: Option<NodeId>, now: Instant) {
        let replication =
            self.replicated.entry(key).or_insert(Replication { successor: None, sent_at: None, is_due: false });
        if replication.successor != successor {
            (replication.successor, replication.sent_at) = (successor, None);
            if self.kept.contains_key(&key) {
                self.schedule(key, now, Duration::ZERO);
            }
        }
    }

    /// Stops replicating a shard, since it does not run here any more.
    pub(super) fn stop_replicating(&mut self, key: ShardKey) {
        self.replicated.remove(&key);
    }

    /// Drops the snapshots for which `is_of_use` does not hold.
    pub(super) fn retain(&mut self, is_of_use: impl Fn(ShardKey) -> bool) {
        let bytes = &mut self.bytes;
        self.kept.retain(|&key, snapshot| {
            let keep = is_of_use(key);
            if !keep {
                *bytes -= snapshot.bytes.len() as u64;
            }
            keep
        });
    }

    /// The snapshots that are to be sent now, with their successors. Those that were withheld for
    /// too long are dropped.
    pub(super) fn pop_due(&mut self, now: Instant) -> Vec<(NodeId, ShardKey, ShardSnapshot)> {
        while let Some(key) = self.withheld.iter().find(|(_, withheld)| withheld.until <= now).map(|(key, _)| *key) {
            self.drop_withheld(key);
        }
        let mut found = Vec::new();
        while let Some(entry) = self.due.first_entry().filter(|entry| *entry.key() <= now) {
            for key in entry.remove() {
                let Some(replication) = self.replicated.get_mut(&key) else { continue };
                (replication.is_due, replication.sent_at) = (false, Some(now));
                if let (Some(successor), Some(snapshot)) = (replication.successor, self.kept.get(&key)) {
                    found.push((successor, key, snapshot.clone()));
                }
            }
        }
        found
    }

    fn schedule(&mut self, key: ShardKey, now: Instant, every: Duration) {
        let Some(replication) = self.replicated.get_mut(&key).filter(|replication| !replication.is_due) else { return };
        replication.is_due = true;
        let at = replication.sent_at.map_or(now, |sent_at| (sent_at + every).max(now));
        self.due.entry(at).or_default().push(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: ShardKey = ShardKey { group: 1, index: 2 };
    const EVERY: Duration = Duration::from_millis(100);

    fn made(snapshots: &mut Snapshots, at_ms: u64) {
        snapshots.record(KEY, Epoch(3), 1, Arc::from(at_ms.to_le_bytes()), Instant::from_millis(at_ms), EVERY);
    }

    fn passed_on(snapshots: &mut Snapshots, at_ms: u64) -> Vec<(NodeId, u64)> {
        let due = snapshots.pop_due(Instant::from_millis(at_ms));
        due.into_iter().map(|(successor, _, snapshot)| (successor, snapshot.sequence)).collect()
    }

    #[test]
    fn a_successor_is_sent_the_newest_and_a_new_one_at_once() {
        let mut snapshots = Snapshots::default();
        snapshots.set_successor(KEY, Some(NodeId(7)), Instant::ZERO);
        assert_eq!(passed_on(&mut snapshots, 0), [], "there is nothing yet");
        made(&mut snapshots, 10);
        assert_eq!(passed_on(&mut snapshots, 10), [(NodeId(7), 1)]);
        made(&mut snapshots, 20);
        made(&mut snapshots, 30);
        assert_eq!(passed_on(&mut snapshots, 109), []);
        assert_eq!(snapshots.next_due(), Some(Instant::from_millis(110)));
        assert_eq!(passed_on(&mut snapshots, 110), [(NodeId(7), 3)], "the second was never sent");
        snapshots.set_successor(KEY, Some(NodeId(8)), Instant::from_millis(111));
        assert_eq!(passed_on(&mut snapshots, 111), [(NodeId(8), 3)]);
        snapshots.stop_replicating(KEY);
        made(&mut snapshots, 300);
        assert_eq!(passed_on(&mut snapshots, 400), [], "it does not run here any more");
    }

    #[test]
    fn a_sequence_at_its_end_stays_there() {
        let mut snapshots = Snapshots::default();
        let last = ShardSnapshot { epoch: Epoch(3), sequence: u64::MAX, version: 1, bytes: Arc::from([0; 4]) };
        assert!(snapshots.keep(KEY, last.clone()));
        made(&mut snapshots, 10);
        assert_eq!(snapshots.newest(KEY), Some(&last));
    }

    #[test]
    fn the_newer_is_kept_and_its_bytes_are_counted() {
        let mut snapshots = Snapshots::default();
        let snapshot = |epoch, sequence, length| ShardSnapshot {
            epoch: Epoch(epoch),
            sequence,
            version: 1,
            bytes: vec![0; length].into(),
        };
        for (epoch, sequence, length, is_kept, bytes) in
            [(2, 5, 10, true, 10), (2, 5, 99, false, 10), (1, 9, 99, false, 10), (2, 6, 3, true, 3), (3, 1, 0, true, 0)]
        {
            assert_eq!(snapshots.keep(KEY, snapshot(epoch, sequence, length)), is_kept, "{epoch} {sequence}");
            assert_eq!(snapshots.bytes(), bytes);
        }
        snapshots.retain(|_| false);
        assert!(snapshots.newest(KEY).is_none());
    }

    #[test]
    fn a_snapshot_of_no_owner_is_withheld_until_it_is_the_owner() {
        let snapshot = |sequence| ShardSnapshot { epoch: Epoch(2), sequence, version: 1, bytes: vec![0; 10].into() };
        let mut snapshots = Snapshots::default();
        snapshots.withhold(KEY, NodeId(7), snapshot(5), Instant::ZERO);
        snapshots.withhold(KEY, NodeId(7), snapshot(4), Instant::ZERO);
        assert_eq!((snapshots.newest(KEY), snapshots.bytes()), (None, 10));
        snapshots.admit_withheld(|_, sender| sender == NodeId(8));
        assert_eq!(snapshots.newest(KEY), None);
        snapshots.admit_withheld(|_, sender| sender == NodeId(7));
        assert_eq!((snapshots.newest(KEY), snapshots.bytes()), (Some(&snapshot(5)), 10));
        snapshots.withhold(KEY, NodeId(8), snapshot(6), Instant::ZERO);
        assert_eq!((snapshots.next_due(), snapshots.bytes()), (Some(Instant::ZERO + WITHHELD_FOR), 20));
        snapshots.pop_due(Instant::ZERO + WITHHELD_FOR);
        snapshots.admit_withheld(|_, _| true);
        assert_eq!((snapshots.newest(KEY), snapshots.bytes()), (Some(&snapshot(5)), 10), "it took too long");
    }

    #[test]
    fn a_snapshot_waits_for_the_rest_of_the_interval_only() {
        let mut snapshots = Snapshots::default();
        snapshots.set_successor(KEY, Some(NodeId(7)), Instant::ZERO);
        made(&mut snapshots, 10);
        assert_eq!(passed_on(&mut snapshots, 10), [(NodeId(7), 1)]);
        made(&mut snapshots, 500);
        assert_eq!(snapshots.next_due(), Some(Instant::from_millis(500)), "the interval was over long before");
        assert_eq!(passed_on(&mut snapshots, 500), [(NodeId(7), 2)]);
    }

    #[test]
    fn without_a_successor_nothing_is_sent() {
        let mut snapshots = Snapshots::default();
        snapshots.set_successor(KEY, None, Instant::ZERO);
        made(&mut snapshots, 10);
        assert_eq!(passed_on(&mut snapshots, 10), []);
        assert!(snapshots.newest(KEY).is_some());
    }
}
