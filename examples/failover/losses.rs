//! Which acknowledged increments the service forgot.
//!
//! A shard's history is a tree: each life began with a snapshot of another one, and what that one
//! counted afterwards is lost to it. The line from the last life back to the first is what the
//! service remembers. An increment is remembered if its life is on that line, and the next life on
//! it began with at least that count.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::counter::Life;
use crate::store::Begun;

/// An acknowledged increment.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) at: f64,
    pub(crate) life: Life,
    pub(crate) key: String,
    pub(crate) count: u64,
}

/// An acknowledged increment that the service forgot.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Lost {
    /// When it was acknowledged.
    pub(crate) at: f64,
    /// By whom it was done.
    pub(crate) life: Life,
    /// When the life began that did not know of it.
    pub(crate) forgotten_at: f64,
    /// With whose snapshot that one began.
    pub(crate) parent: Option<Life>,
}

/// Finds the increments that are lost, in the order of their acknowledgement.
pub(crate) fn lost(lives: &BTreeMap<Life, (f64, Begun)>, acknowledged: &[Acknowledged]) -> Vec<Lost> {
    let heirs = heirs(lives);
    let lost = acknowledged.iter().filter_map(|one| {
        let forgotten_by = match heirs.get(&one.life) {
            Some(Heir::Last) => return None,
            Some(Heir::Next(heir)) => {
                let known = lives.get(heir).and_then(|(_, begun)| begun.counts.get(&one.key));
                if known.is_some_and(|known| *known >= one.count) {
                    return None;
                }
                Some(*heir)
            }
            // No generation began with a snapshot of this one: its increments are lost to the next
            // one.
            None => lives.keys().copied().find(|life| life.shard == one.life.shard && *life > one.life),
        };
        let forgotten_by = forgotten_by.and_then(|life| lives.get(&life));
        let (forgotten_at, parent) = forgotten_by.map_or((f64::INFINITY, None), |(at, begun)| (*at, begun.parent));
        Some(Lost { at: one.at, life: one.life, forgotten_at, parent })
    });
    let mut lost: Vec<Lost> = lost.collect();
    lost.sort_by(|a, b| a.at.total_cmp(&b.at));
    lost
}

/// Who comes after a life on the line that is remembered.
enum Heir {
    /// No generation.
    Last,
    /// This one.
    Next(Life),
}

/// The lives that are on the line of any shard.
fn heirs(lives: &BTreeMap<Life, (f64, Begun)>) -> BTreeMap<Life, Heir> {
    let last: BTreeMap<u32, Life> = lives.keys().map(|life| (life.shard, *life)).collect();
    let mut heirs = BTreeMap::new();
    for mut life in last.into_values() {
        heirs.insert(life, Heir::Last);
        while let Some((_, begun)) = lives.get(&life)
            && let Some(parent) = begun.parent.filter(|parent| *parent < life)
        {
            heirs.insert(parent, Heir::Next(life));
            life = parent;
        }
    }
    heirs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counter::Counts;

    fn life(epoch: u64) -> Life {
        Life { shard: 1, epoch, generation: 1 }
    }

    /// Lives as (epoch, the epoch it began from, with how many of "ada"); increments of "ada" as
    /// (epoch, count); the lost ones as (when counted, when forgotten). All at the second of their
    /// epoch.
    #[track_caller]
    fn check(lives: &[(u64, Option<u64>, u64)], acknowledged: &[(u64, u64)], expected: &[(u64, u64)]) {
        let began = |&(epoch, parent, count): &(u64, Option<u64>, u64)| {
            let counts = Counts::from([("ada".to_owned(), count)]);
            let begun = Begun { node: "a".to_owned(), life: life(epoch), parent: parent.map(life), counts };
            (life(epoch), (epoch as f64, begun))
        };
        let one = |&(epoch, count): &(u64, u64)| Acknowledged {
            at: epoch as f64,
            life: life(epoch),
            key: "ada".to_owned(),
            count,
        };
        let acknowledged: Vec<Acknowledged> = acknowledged.iter().map(one).collect();
        let lost = lost(&lives.iter().map(began).collect(), &acknowledged);
        let found: Vec<(u64, u64)> = lost.iter().map(|lost| (lost.at as u64, lost.forgotten_at as u64)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn increments_after_the_last_snapshot_count_as_lost() {
        check(&[(1, None, 0)], &[(1, 1), (1, 2)], &[]);
        check(&[(1, None, 0), (2, Some(1), 2)], &[(1, 1), (1, 2), (2, 3)], &[]);
        check(&[(1, None, 0), (2, Some(1), 1)], &[(1, 1), (1, 2), (2, 2)], &[(1, 2)]);
        check(&[(1, None, 0), (2, None, 0)], &[(1, 1), (2, 1)], &[(1, 2)]);
    }

    #[test]
    fn a_snapshot_that_no_generation_used_counts_as_lost() {
        let lives = [(1, None, 0), (2, Some(1), 1), (3, Some(1), 1), (4, Some(3), 2)];
        check(&lives, &[(1, 1), (2, 2), (3, 2), (4, 3)], &[(2, 3)]);
    }
}
