//! `Replicas`: the newest snapshot of each shard that is of any use here: of those that run here,
//! and of those that would if their owner went.
//!
//! A shard's owner passes its snapshots on to its *heir*, whom rendezvous hashing would name
//! without the owner. So a successor has what the dead one had said last but one moment: a snapshot
//! is on its way at most `ownership.copy_every` after the one before it. A newer one takes the
//! place of one that waits.
//!
//! Newer is what has the higher epoch, then the higher sequence. It does not know what is in the
//! bytes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::member::{Epoch, NodeId};
use crate::snapshot::{Key, Replica};
use crate::time::Instant;

/// Snapshots, by shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Replicas {
    kept: BTreeMap<Key, Replica>,
    /// Bytes of all that are kept.
    bytes: u64,
    own: BTreeMap<Key, Own>,
    /// Shards of our own that are to be passed on, by when.
    due: BTreeMap<Instant, Vec<Key>>,
}

/// How far a shard that runs here is passed on.
#[derive(Clone, Copy, Debug)]
struct Own {
    heir: Option<NodeId>,
    /// When the last one was passed on.
    passed_at: Option<Instant>,
    /// Whether it is in `due`.
    is_due: bool,
}

impl Replicas {
    pub(super) fn newest(&self, key: Key) -> Option<&Replica> {
        self.kept.get(&key)
    }

    /// Bytes that are kept.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.keys().next().copied()
    }

    /// Keeps one, unless what is kept is as new. Returns whether it was.
    pub(super) fn keep(&mut self, key: Key, replica: Replica) -> bool {
        if self.kept.get(&key).is_some_and(|kept| kept.order() >= replica.order()) {
            return false;
        }
        self.bytes += replica.bytes.len() as u64;
        if let Some(former) = self.kept.insert(key, replica) {
            self.bytes -= former.bytes.len() as u64;
        }
        true
    }

    /// Takes in a new snapshot of a shard that runs here.
    pub(super) fn made(
        &mut self,
        key: Key,
        epoch: Epoch,
        version: u32,
        bytes: Arc<[u8]>,
        now: Instant,
        every: Duration,
    ) {
        let before = self.kept.get(&key).filter(|kept| kept.epoch == epoch).map_or(0, |kept| kept.sequence);
        if self.keep(key, Replica { epoch, sequence: before.saturating_add(1), version, bytes }) {
            self.file(key, now, every);
        }
    }

    /// Names the heir of a shard that runs here. A new one is passed what there is.
    pub(super) fn inherits(&mut self, key: Key, heir: Option<NodeId>, now: Instant) {
        let own = self.own.entry(key).or_insert(Own { heir: None, passed_at: None, is_due: false });
        if own.heir != heir {
            (own.heir, own.passed_at) = (heir, None);
            if self.kept.contains_key(&key) {
                self.file(key, now, Duration::ZERO);
            }
        }
    }

    /// A shard does not run here any more.
    pub(super) fn disown(&mut self, key: Key) {
        self.own.remove(&key);
    }

    /// Forgets those for which `is_of_use` does not hold.
    pub(super) fn retain(&mut self, is_of_use: impl Fn(Key) -> bool) {
        let bytes = &mut self.bytes;
        self.kept.retain(|&key, replica| {
            let keep = is_of_use(key);
            if !keep {
                *bytes -= replica.bytes.len() as u64;
            }
            keep
        });
    }

    /// What is to be passed on now, and to whom.
    pub(super) fn pop_due(&mut self, now: Instant) -> Vec<(NodeId, Key, Replica)> {
        let mut found = Vec::new();
        while let Some(entry) = self.due.first_entry().filter(|entry| *entry.key() <= now) {
            for key in entry.remove() {
                let Some(own) = self.own.get_mut(&key) else { continue };
                (own.is_due, own.passed_at) = (false, Some(now));
                if let (Some(heir), Some(replica)) = (own.heir, self.kept.get(&key)) {
                    found.push((heir, key, replica.clone()));
                }
            }
        }
        found
    }

    fn file(&mut self, key: Key, now: Instant, every: Duration) {
        let Some(own) = self.own.get_mut(&key).filter(|own| !own.is_due) else { return };
        own.is_due = true;
        let at = own.passed_at.map_or(now, |passed_at| (passed_at + every).max(now));
        self.due.entry(at).or_default().push(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = (1, 2);
    const EVERY: Duration = Duration::from_millis(100);

    fn made(replicas: &mut Replicas, at_ms: u64) {
        replicas.made(KEY, Epoch(3), 1, Arc::from(at_ms.to_le_bytes()), Instant::from_millis(at_ms), EVERY);
    }

    fn passed_on(replicas: &mut Replicas, at_ms: u64) -> Vec<(NodeId, u64)> {
        let due = replicas.pop_due(Instant::from_millis(at_ms));
        due.into_iter().map(|(heir, _, replica)| (heir, replica.sequence)).collect()
    }

    #[test]
    fn an_heir_is_passed_the_newest_at_most_so_often_and_a_new_heir_at_once() {
        let mut replicas = Replicas::default();
        replicas.inherits(KEY, Some(NodeId(7)), Instant::ZERO);
        assert_eq!(passed_on(&mut replicas, 0), [], "there is nothing yet");
        made(&mut replicas, 10);
        assert_eq!(passed_on(&mut replicas, 10), [(NodeId(7), 1)]);
        made(&mut replicas, 20);
        made(&mut replicas, 30);
        assert_eq!(passed_on(&mut replicas, 109), []);
        assert_eq!(replicas.next_due(), Some(Instant::from_millis(110)));
        assert_eq!(passed_on(&mut replicas, 110), [(NodeId(7), 3)], "the second was never sent");
        replicas.inherits(KEY, Some(NodeId(8)), Instant::from_millis(111));
        assert_eq!(passed_on(&mut replicas, 111), [(NodeId(8), 3)]);
        replicas.disown(KEY);
        made(&mut replicas, 300);
        assert_eq!(passed_on(&mut replicas, 400), [], "it does not run here any more");
    }

    #[test]
    fn a_sequence_at_its_end_stays_there() {
        let mut replicas = Replicas::default();
        let last = Replica { epoch: Epoch(3), sequence: u64::MAX, version: 1, bytes: Arc::from([0; 4]) };
        assert!(replicas.keep(KEY, last.clone()));
        made(&mut replicas, 10);
        assert_eq!(replicas.newest(KEY), Some(&last));
    }

    #[test]
    fn the_newer_is_kept_by_epoch_then_sequence_and_the_bytes_are_counted() {
        let mut replicas = Replicas::default();
        let replica = |epoch, sequence, length| Replica {
            epoch: Epoch(epoch),
            sequence,
            version: 1,
            bytes: vec![0; length].into(),
        };
        for (epoch, sequence, length, is_kept, bytes) in
            [(2, 5, 10, true, 10), (2, 5, 99, false, 10), (1, 9, 99, false, 10), (2, 6, 3, true, 3), (3, 1, 0, true, 0)]
        {
            assert_eq!(replicas.keep(KEY, replica(epoch, sequence, length)), is_kept, "{epoch} {sequence}");
            assert_eq!(replicas.bytes(), bytes);
        }
        replicas.retain(|_| false);
        assert!(replicas.newest(KEY).is_none());
    }
}
