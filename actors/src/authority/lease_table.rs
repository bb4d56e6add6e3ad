//! `LeaseTable`: which session has which shard, and the highest number given out. The authorities
//! in memory and on a disk share these rules.
//!
//! There is no time in it: the authority that keeps it says which sessions are over. One counter
//! numbers sessions and epochs alike. So an epoch is higher than all before it, of every shard, and
//! a shard without an owner needs no entry.

use std::collections::BTreeMap;
use std::sync::Arc;

use heartbeat_core::Generation;
use heartbeat_core::authority::{Claimed, SessionId, ShardName};
use heartbeat_core::member::Epoch;

/// Most sessions at a time: those of more nodes than one host or one test has, and those that ended
/// processes have left behind.
pub(super) const SESSIONS_MAX: usize = 4_096;

/// Highest number of a table between two changes; a table with a higher one is damaged. It is below
/// [`Epoch::MAX`] by more than one change gives out. A million epochs a second take 290,000 years
/// to get there.
pub(super) const NUMBER_MAX: u64 = Epoch::MAX.0 - (1 << 20);

/// Highest floor that a claim is granted: above it there is room for four billion numbers, so that
/// no claim uses up all of them.
const FLOOR_MAX: u64 = NUMBER_MAX - (1 << 32);

/// The sessions and shards that were given out.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct LeaseTable {
    /// The highest number given out, to a session or with a shard. It only rises.
    pub(super) number: u64,
    /// How often a shard or a session was given back or taken back. It only rises; with `number` it
    /// tells any two states apart.
    pub(super) freed: u64,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) shards: BTreeMap<ShardName, Grant>,
}

/// The node of a session.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Session {
    pub(super) node: Arc<str>,
    pub(super) generation: Generation,
}

/// The session that has a shard, and under which epoch.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Grant {
    pub(super) session: SessionId,
    pub(super) epoch: Epoch,
}

impl LeaseTable {
    /// Begins a session; `None` if there are too many.
    pub(super) fn open(&mut self, session: Session) -> Option<SessionId> {
        if self.sessions.len() >= SESSIONS_MAX {
            return None;
        }
        let id = SessionId(self.next());
        self.sessions.insert(id, session);
        Some(id)
    }

    /// Gives the session each of these shards that no other session has, under epochs of `floor` or
    /// more, or of [`FLOOR_MAX`]; `None` if there is no such session.
    pub(super) fn claim(&mut self, session: SessionId, shards: &[ShardName], floor: Epoch) -> Option<Vec<Claimed>> {
        self.sessions.get(&session)?;
        Some(shards.iter().map(|shard| self.claim_one(session, shard, floor)).collect())
    }

    fn claim_one(&mut self, session: SessionId, shard: &ShardName, floor: Epoch) -> Claimed {
        if let Some(grant) = self.shards.get(shard) {
            if grant.session == session {
                return Claimed::Granted(grant.epoch);
            }
            if let Some(holder) = self.sessions.get(&grant.session) {
                return Claimed::Held { by: holder.node.clone() };
            }
        }
        self.number = self.number.max(floor.0.min(FLOOR_MAX).saturating_sub(1));
        let epoch = Epoch(self.next());
        self.shards.insert(shard.clone(), Grant { session, epoch });
        Claimed::Granted(epoch)
    }

    /// Takes those of these shards back that the session has.
    pub(super) fn release(&mut self, session: SessionId, shards: &[ShardName]) {
        for shard in shards {
            if self.shards.get(shard).is_some_and(|grant| grant.session == session) {
                self.shards.remove(shard);
                self.freed += 1;
            }
        }
    }

    /// Ends a session and takes back what it has.
    pub(super) fn end(&mut self, session: SessionId) {
        if self.sessions.remove(&session).is_some() {
            self.shards.retain(|_, grant| grant.session != session);
            self.freed += 1;
        }
    }

    /// The two numbers that tell any two states apart.
    #[cfg(target_os = "linux")]
    pub(super) fn head(&self) -> (u64, u64) {
        (self.number, self.freed)
    }

    /// The sessions that a node began in this start of its process, or in an earlier one.
    pub(super) fn sessions_until(&self, node: &str, generation: Generation) -> Vec<SessionId> {
        let until = |session: &Session| *session.node == *node && session.generation <= generation;
        self.sessions.iter().filter(|(_, session)| until(session)).map(|(id, _)| *id).collect()
    }

    fn next(&mut self) -> u64 {
        self.number += 1;
        assert!(self.number <= Epoch::MAX.0, "more numbers were given out than there are");
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(index: u32) -> ShardName {
        ShardName { group: "orders".into(), index }
    }

    fn session(node: &str, generation: u64) -> Session {
        Session { node: node.into(), generation: Generation(generation) }
    }

    /// Checks the outcome of a claim to shard 0.
    #[track_caller]
    fn check(table: &mut LeaseTable, session: SessionId, expected: Claimed) {
        assert_eq!(table.claim(session, &[shard(0)], Epoch(0)), Some(vec![expected]));
    }

    #[test]
    fn a_shard_belongs_to_one_session_until_release_or_end() {
        let mut table = LeaseTable::default();
        let (a, b) = (table.open(session("a", 1)).unwrap(), table.open(session("b", 1)).unwrap());
        let held = |by: &str| Claimed::Held { by: by.into() };
        check(&mut table, a, Claimed::Granted(Epoch(3)));
        check(&mut table, a, Claimed::Granted(Epoch(3)));
        check(&mut table, b, held("a"));
        table.release(b, &[shard(0)]);
        check(&mut table, b, held("a"));
        table.release(a, &[shard(0)]);
        check(&mut table, b, Claimed::Granted(Epoch(4)));
        table.end(b);
        check(&mut table, a, Claimed::Granted(Epoch(5)));
        assert_eq!((table.claim(b, &[], Epoch(0)), table.freed), (None, 2));
    }

    #[test]
    fn epochs_are_not_below_the_floor_and_never_go_back() {
        let mut table = LeaseTable::default();
        let a = table.open(session("a", 1)).unwrap();
        let mut claim = |index, floor| table.claim(a, &[shard(index)], Epoch(floor)).unwrap().remove(0);
        assert_eq!(claim(0, 1_000), Claimed::Granted(Epoch(1_000)));
        assert_eq!(claim(1, 500), Claimed::Granted(Epoch(1_001)));
        assert_eq!(claim(0, 5_000), Claimed::Granted(Epoch(1_000)), "it has that one already");
        assert_eq!(claim(2, u64::MAX), Claimed::Granted(Epoch(FLOOR_MAX)));
        assert_eq!(claim(3, u64::MAX), Claimed::Granted(Epoch(FLOOR_MAX + 1)), "there is room above it");
    }

    #[test]
    fn a_later_process_of_the_name_keeps_its_sessions() {
        let mut table = LeaseTable::default();
        let all = [("a", 1), ("a", 2), ("b", 1), ("a", 3)].map(|(node, of)| table.open(session(node, of)).unwrap());
        assert_eq!(table.sessions_until("a", Generation(2)), [all[0], all[1]]);
        assert_eq!(table.sessions_until("a", Generation(0)), []);
    }

    #[test]
    fn sessions_are_bounded() {
        let mut table = LeaseTable::default();
        for _ in 0..SESSIONS_MAX {
            table.open(session("a", 1)).unwrap();
        }
        assert_eq!(table.open(session("a", 1)), None);
    }
}
