//! `Gossip`: which news ride along, and which are passed on at once.
//!
//! News are about members, and only the newest of each is worth telling; so a rumour is the id of a
//! member, and what is told is what the table holds when it is told. Each rumour is told a number
//! of times that grows with the logarithm of the members, the least told first. The first
//! [`PUSHES`] of them are not left to wait for a heartbeat: they go to members drawn at random,
//! [`FANOUT`] at once and as many again each [`ROUND`]. Whoever is still missed hears it from a
//! heartbeat, or when tables are compared.
//!
//! Source: the rounds are those of rumour mongering in Demers et al., "Epidemic algorithms for
//! replicated database maintenance", PODC 1987; that a rumour rides on what is sent anyway is
//! SWIM's: Das, Gupta and Motivala, "SWIM: scalable weakly-consistent infection-style process group
//! membership protocol", DSN 2002.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::member::NodeId;
use crate::time::Instant;

/// Members that news are passed to at once in each round.
pub(crate) const FANOUT: usize = 3;

/// How often each rumour is passed on at once: after that, a given one of many members was missed
/// with chance e^-12.
const PUSHES: u32 = 12;

/// Time between two rounds.
const ROUND: Duration = Duration::from_millis(20);

/// News that are still to be told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gossip {
    told: BTreeMap<NodeId, Rumour>,
    /// The least told first.
    queue: BTreeSet<(u32, NodeId)>,
    /// When the next round is due, if there is one.
    round: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Rumour {
    /// How often it was told.
    told: u32,
    /// Whether all of the row is news.
    whole: bool,
}

impl Gossip {
    /// Takes in that there is news of a member, and whether it is news what the member says of
    /// itself.
    pub(crate) fn add(&mut self, id: NodeId, whole: bool, now: Instant) {
        let before = self.told.insert(id, Rumour { told: 0, whole });
        if let Some(Rumour { told, whole }) = before {
            self.queue.remove(&(told, id));
            // Whoever has not heard the former news of it lacks all of it still.
            if whole && let Some(rumour) = self.told.get_mut(&id) {
                rumour.whole = true;
            }
        }
        self.queue.insert((0, id));
        self.round.get_or_insert(now);
    }

    /// Tells no more of a member, until there is news of it.
    pub(crate) fn drop(&mut self, id: NodeId) {
        if let Some(Rumour { told, .. }) = self.told.remove(&id) {
            self.queue.remove(&(told, id));
        }
    }

    /// Picks rumours for one datagram among `members`: `tell` says whether there was room for this
    /// one, whole or as a note.
    pub(crate) fn pick(&mut self, members: usize, mut tell: impl FnMut(NodeId, bool) -> bool) {
        let most = limit(members);
        let mut moved = Vec::new();
        for &(told, id) in &self.queue {
            let Some(rumour) = self.told.get(&id) else { continue };
            if !tell(id, rumour.whole) {
                break;
            }
            moved.push((told, id));
        }
        for (told, id) in moved {
            self.queue.remove(&(told, id));
            if told + 1 >= most {
                self.told.remove(&id);
            } else {
                self.queue.insert((told + 1, id));
                if let Some(rumour) = self.told.get_mut(&id) {
                    rumour.told = told + 1;
                }
            }
        }
    }

    /// When news are to be passed on at once, if there are any.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.round
    }

    /// Begins a round at `now`. Returns whether there is anything to be passed on.
    pub(crate) fn begin_round(&mut self, now: Instant) -> bool {
        let is_fresh = self.queue.first().is_some_and(|&(told, _)| told < PUSHES);
        self.round = is_fresh.then_some(now + ROUND);
        is_fresh
    }

    /// Whether nothing is left to be told.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// How often a rumour is told by each node.
fn limit(members: usize) -> u32 {
    PUSHES + 3 * (usize::BITS - members.leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(gossip: &mut Gossip, room: usize) -> Vec<(u64, bool)> {
        let mut picked = Vec::new();
        gossip.pick(50, |id, whole| {
            if picked.len() == room {
                return false;
            }
            picked.push((id.0, whole));
            true
        });
        picked
    }

    #[test]
    fn the_least_told_comes_first_and_each_is_told_so_often() {
        let mut gossip = Gossip::default();
        for id in 0..5 {
            gossip.add(NodeId(id), true, Instant::ZERO);
        }
        let mut counts = [0; 5];
        while !gossip.is_empty() {
            for (id, _) in pick(&mut gossip, 2) {
                counts[id as usize] += 1;
            }
        }
        assert_eq!(counts, [limit(50); 5]);
        assert_eq!(limit(50), 30);
        assert_eq!(limit(10_000), 54);
    }

    #[test]
    fn newer_news_start_over_and_keep_what_was_not_told() {
        let mut gossip = Gossip::default();
        gossip.add(NodeId(1), true, Instant::ZERO);
        pick(&mut gossip, 1);
        gossip.add(NodeId(2), false, Instant::ZERO);
        gossip.add(NodeId(1), false, Instant::ZERO);
        assert_eq!(pick(&mut gossip, 5), [(1, true), (2, false)]);
    }

    #[test]
    fn rounds_end_when_all_was_passed_on() {
        let mut gossip = Gossip::default();
        assert_eq!(gossip.due(), None);
        gossip.add(NodeId(1), false, Instant::ZERO);
        let mut rounds = 0;
        while let Some(due) = gossip.due() {
            if gossip.begin_round(due) {
                rounds += 1;
                (0..FANOUT).for_each(|_| drop(pick(&mut gossip, 5)));
            }
        }
        assert_eq!(rounds, 4);
        assert!(!gossip.is_empty(), "the rest rides along");
    }
}
