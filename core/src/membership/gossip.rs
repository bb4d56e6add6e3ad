//! `Gossip`: which rows travel with other messages, and which are pushed at once.
//!
//! Only the newest row of a member is worth sending. So a rumour is the id of a member, and its row
//! is read from the table when it is sent. Each rumour is sent a number of times that grows with
//! the logarithm of the members. The rumour that was sent least often goes first. The first
//! [`PUSHES`] of them do not wait for a heartbeat: they go to random members, [`FANOUT`] at once
//! and as many again each [`ROUND`]. A member that is still missed receives the rumour with a
//! heartbeat, or when tables are compared.
//!
//! Source: the rounds are those of rumour mongering in Demers et al., "Epidemic algorithms for
//! replicated database maintenance", PODC 1987. That a rumour travels with other messages is
//! SWIM's: Das, Gupta and Motivala, "SWIM: scalable weakly-consistent infection-style process group
//! membership protocol", DSN 2002.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::member::NodeId;
use crate::time::Instant;

/// Members that a round pushes rumours to.
pub(crate) const FANOUT: usize = 3;

/// How often each rumour is pushed. After that, a given one of many members was missed with chance
/// e^-12.
const PUSHES: u32 = 12;

/// Time between two rounds.
const ROUND: Duration = Duration::from_millis(20);

/// How much of a row is news.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Extent {
    /// Its status and numbers.
    Note,
    /// Its profile as well.
    Row,
}

/// The rumours that are still to be sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gossip {
    rumours: BTreeMap<NodeId, Rumour>,
    /// How often each was sent; the rumour that was sent least often is first.
    queue: BTreeSet<(u32, NodeId)>,
    /// When the next round is due, if there is one.
    round: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Rumour {
    /// How often it was sent.
    sent: u32,
    extent: Extent,
}

impl Gossip {
    /// Adds a rumour: this much of the member's row is news.
    pub(crate) fn add(&mut self, id: NodeId, extent: Extent, now: Instant) {
        let mut rumour = Rumour { sent: 0, extent };
        if let Some(former) = self.rumours.get(&id) {
            self.queue.remove(&(former.sent, id));
            // A node that has not received the former news still lacks what it carried.
            rumour.extent = extent.max(former.extent);
        }
        self.rumours.insert(id, rumour);
        self.queue.insert((0, id));
        self.round.get_or_insert(now);
    }

    /// Drops the rumour of a member.
    pub(crate) fn remove(&mut self, id: NodeId) {
        if let Some(rumour) = self.rumours.remove(&id) {
            self.queue.remove(&(rumour.sent, id));
        }
    }

    /// Picks rumours for one datagram among `members`; the rumour that was sent least often is
    /// first. `push` adds one and returns whether there was room for it.
    pub(crate) fn pick(&mut self, members: usize, mut push: impl FnMut(NodeId, Extent) -> bool) {
        let sent_max = sent_max(members);
        let mut moved = Vec::new();
        for &(sent, id) in &self.queue {
            let Some(rumour) = self.rumours.get(&id) else { continue };
            if !push(id, rumour.extent) {
                break;
            }
            moved.push((sent, id));
        }
        for (sent, id) in moved {
            self.queue.remove(&(sent, id));
            if sent + 1 >= sent_max {
                self.rumours.remove(&id);
            } else {
                self.queue.insert((sent + 1, id));
                if let Some(rumour) = self.rumours.get_mut(&id) {
                    rumour.sent = sent + 1;
                }
            }
        }
    }

    /// When the next round is due, if there is one.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.round
    }

    /// Begins a round at `now`. Returns whether a rumour is fresh enough to be pushed.
    pub(crate) fn begin_round(&mut self, now: Instant) -> bool {
        let is_fresh = self.queue.first().is_some_and(|&(sent, _)| sent < PUSHES);
        self.round = is_fresh.then_some(now + ROUND);
        is_fresh
    }

    /// Whether no rumour is left.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// How often each node sends a rumour.
fn sent_max(members: usize) -> u32 {
    PUSHES + 3 * (usize::BITS - members.leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(gossip: &mut Gossip, room: usize) -> Vec<(u64, Extent)> {
        let mut picked = Vec::new();
        gossip.pick(50, |id, extent| {
            if picked.len() == room {
                return false;
            }
            picked.push((id.0, extent));
            true
        });
        picked
    }

    #[test]
    fn the_least_sent_comes_first_and_each_is_sent_so_often() {
        let mut gossip = Gossip::default();
        for id in 0..5 {
            gossip.add(NodeId(id), Extent::Row, Instant::ZERO);
        }
        let mut counts = [0; 5];
        while !gossip.is_empty() {
            for (id, _) in pick(&mut gossip, 2) {
                counts[id as usize] += 1;
            }
        }
        assert_eq!(counts, [sent_max(50); 5]);
        assert_eq!(sent_max(50), 30);
        assert_eq!(sent_max(10_000), 54);
    }

    #[test]
    fn a_newer_rumour_starts_over_and_keeps_its_extent() {
        let mut gossip = Gossip::default();
        gossip.add(NodeId(1), Extent::Row, Instant::ZERO);
        pick(&mut gossip, 1);
        gossip.add(NodeId(2), Extent::Note, Instant::ZERO);
        gossip.add(NodeId(1), Extent::Note, Instant::ZERO);
        assert_eq!(pick(&mut gossip, 5), [(1, Extent::Row), (2, Extent::Note)]);
    }

    #[test]
    fn rounds_end_once_all_was_pushed() {
        let mut gossip = Gossip::default();
        assert_eq!(gossip.due(), None);
        gossip.add(NodeId(1), Extent::Note, Instant::ZERO);
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
