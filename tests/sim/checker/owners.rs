//! Owners: a shard has one owner at an epoch, and goes on from what was counted.

use heartbeat_core::Shard;
use heartbeat_core::config::AuthorityKind;

use crate::checker::Checker;
use crate::network::NodeIndex;

impl Checker {
    pub(crate) fn shard_started(&mut self, now: u64, place: NodeIndex, shard: Shard) {
        let life = self.life(place);
        let (index, epoch) = (shard.index, shard.epoch.0);
        let first = *self.owners.entry((index, epoch)).or_insert((place, life));
        if first != (place, life) {
            let (other, here) = (&self.names[first.0], &self.names[place]);
            self.note(now, &format!("shard {index} has two owners at epoch {epoch}: {other} and {here}"));
        }
        let newest = self.epochs.entry((place, life, index)).or_insert(epoch);
        if epoch < *newest {
            let (newest, here) = (*newest, &self.names[place]);
            self.note(now, &format!("shard {index} starts on {here} at epoch {epoch}, after {newest}"));
        } else {
            *newest = epoch;
        }
    }

    /// Notes how far a shard has counted.
    pub(crate) fn counted(&mut self, shard: u32, count: u64) {
        let most = self.counts.entry(shard).or_default();
        *most = count.max(*most);
    }

    /// Notes the count at which a shard resumes.
    pub(crate) fn took_over(&mut self, now: u64, place: NodeIndex, shard: Shard, count: u64) {
        let (index, here) = (shard.index, self.names[place].clone());
        let most = self.counts.get(&index).copied().unwrap_or_default();
        if count > most {
            self.note(now, &format!("shard {index} goes on from {count} on {here}, and no owner counted past {most}"));
        }
        if self.config.ownership.authority == AuthorityKind::View {
            return;
        }
        let newest = self.tokens.insert(index, shard.epoch.0).unwrap_or_default();
        // A local restart keeps its epoch; that no other node has it is looked at elsewhere.
        if shard.epoch.0 < newest {
            let epoch = shard.epoch.0;
            self.note(now, &format!("shard {index} starts on {here} at epoch {epoch}, after {newest} was given out"));
        }
    }

    /// Notes which other nodes may act for a shard at its start. With a quorum there must be none.
    pub(crate) fn alone(&mut self, now: u64, place: NodeIndex, shard: Shard, others: &[NodeIndex]) {
        if let Some(&other) = others.first() {
            let (index, here, other) = (shard.index, &self.names[place], &self.names[other]);
            self.note(now, &format!("shard {index} starts on {here} while {other} has a lease of it"));
        }
    }

    /// The highest epoch under which a shard was ever started.
    pub fn newest_epoch(&self, shard: u32) -> Option<u64> {
        self.owners.range((shard, 0)..=(shard, u64::MAX)).next_back().map(|(&(_, epoch), _)| epoch)
    }
}
