//! `Observers`: the members that watch this node now.
//!
//! A node has a number of slots for observers. Each slot has its phase in every interval, so that
//! the heartbeats are spread over the interval, and the observer that is next in phase notices a
//! silence first. The observer of a slot is drawn by rendezvous hashing over the pool: all members,
//! or only monitors. An observer keeps its slot, since a detector has to learn. From time to time
//! one slot is drawn anew, so that no node keeps the same observers without end. A slot is drawn at
//! once when its observer is gone. The former observer of a redrawn slot receives heartbeats for
//! two more intervals.
//!
//! Observers send this node what they have learnt of it. It keeps the newest summary of each slot's
//! observer, and of the one before it. A new observer is given the median of them with each
//! heartbeat until it acknowledges one.
//!
//! Source for the hashing: Thaler and Ravishankar, "Using name-based mappings to increase hit
//! rates", IEEE/ACM Transactions on Networking 6(1), 1998.

use std::time::Duration;

use crate::detection::LinkSummary;
use crate::member::{Member, NodeId};
use crate::random::mix;
use crate::time::Instant;
use crate::wire::{self, OBSERVERS_MAX, STAGES};

/// A slot, and the member that watches this node in it.
#[derive(Clone, Debug)]
pub(crate) struct ObserverSlot {
    /// The observer.
    pub(crate) id: NodeId,
    /// Its phase within the interval, in parts of [`STAGES`].
    pub(crate) phase: u64,
    /// The number of the slot.
    index: usize,
    /// Until when it is sent heartbeats, if its slot has another observer.
    pub(crate) until: Option<Instant>,
    /// The stage of the heartbeat that it has yet to acknowledge, and when that was sent.
    pub(crate) asked: Option<(u64, Instant)>,
    /// How often a longer interval is still to be announced to it.
    pub(crate) announcements: u32,
    /// Whether it has acknowledged no heartbeat yet.
    pub(crate) is_new: bool,
}

/// What the observers of one slot have learnt of this node.
#[derive(Clone, Copy, Debug, Default)]
struct SlotSummaries {
    /// The newest of the present observer.
    present: Option<LinkSummary>,
    /// The last one of an observer before it.
    former: Option<LinkSummary>,
}

impl SlotSummaries {
    /// The slot has a new observer.
    fn hand_over(&mut self) {
        self.former = self.present.take().or(self.former);
    }
}

/// The observers of this node, in the order of their phases.
#[derive(Clone, Debug)]
pub(crate) struct Observers {
    me: NodeId,
    slots_max: usize,
    slots: Vec<ObserverSlot>,
    /// How often each slot was drawn anew.
    draws: Vec<u64>,
    /// By the number of the slot.
    summaries: Vec<SlotSummaries>,
    redraw_at: Instant,
    /// The slot to be drawn anew next.
    next: usize,
}

impl Observers {
    /// No observer yet, of `slots_max` (1 to 16).
    pub(crate) fn new(me: NodeId, slots_max: usize, redraw_at: Instant) -> Observers {
        let (draws, summaries) = (vec![0; slots_max], vec![SlotSummaries::default(); slots_max]);
        Observers { me, slots_max, slots: Vec::new(), draws, summaries, redraw_at, next: 0 }
    }

    /// The members that are sent heartbeats, former observers included.
    pub(crate) fn slots(&self) -> &[ObserverSlot] {
        &self.slots
    }

    /// The same, to note what they were sent and have acknowledged.
    pub(crate) fn slots_mut(&mut self) -> &mut [ObserverSlot] {
        &mut self.slots
    }

    /// The slot of this node, if it has one.
    pub(crate) fn slot_mut(&mut self, id: NodeId) -> Option<&mut ObserverSlot> {
        self.slots.iter_mut().find(|slot| slot.id == id)
    }

    /// Notes what an observer has learnt of this node. A former observer says nothing more.
    pub(crate) fn note_summary(&mut self, id: NodeId, summary: LinkSummary) {
        if let Some(slot) = self.slots.iter().find(|slot| slot.id == id && slot.until.is_none()) {
            self.summaries[slot.index].present = Some(summary);
        }
    }

    /// Handles that another process of this member has begun: as an observer it is a new one.
    pub(crate) fn renew(&mut self, id: NodeId) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.id == id) {
            slot.is_new = true;
            if slot.until.is_none() {
                self.summaries[slot.index].hand_over();
            }
        }
    }

    /// What the observers have learnt of this node, for a new one: the median of their summaries.
    pub(crate) fn summary(&self) -> Option<LinkSummary> {
        let summaries = self.summaries.iter().flat_map(|slot| [slot.present, slot.former]).flatten();
        LinkSummary::median::<{ 2 * OBSERVERS_MAX }>(summaries)
    }

    /// Whether this member is an observer, or a former one that is not released yet.
    pub(crate) fn contains(&self, id: NodeId) -> bool {
        self.slots.iter().any(|slot| slot.id == id)
    }

    /// The observers, as a heartbeat names them: without the former ones.
    pub(crate) fn named(&self) -> wire::Observers {
        wire::Observers::new(self.slots.iter().filter(|slot| slot.until.is_none()).map(|slot| slot.id))
    }

    /// The first phase of a slot at or after `phase`.
    pub(crate) fn phase_from(&self, phase: u64) -> Option<u64> {
        // They are in the order of their phases.
        self.slots.iter().map(|slot| slot.phase).find(|&next| next >= phase)
    }

    /// When a former observer is to be released next.
    pub(crate) fn next_release(&self) -> Option<Instant> {
        self.slots.iter().filter_map(|slot| slot.until).min()
    }

    /// Removes the former observers whose time is over. Returns them: they have to be notified.
    pub(crate) fn release(&mut self, now: Instant) -> Vec<NodeId> {
        let over = |slot: &ObserverSlot| slot.until.is_some_and(|until| until <= now);
        if !self.slots.iter().any(over) {
            return Vec::new();
        }
        let released = self.slots.iter().filter(|slot| over(slot)).map(|slot| slot.id).collect();
        self.slots.retain(|slot| !over(slot));
        released
    }

    /// Removes an observer that is gone. Returns whether it was there.
    pub(crate) fn remove(&mut self, id: NodeId) -> bool {
        let before = self.slots.len();
        self.slots.retain(|slot| slot.id != id);
        self.slots.len() < before
    }

    /// Fills the slots that are free from the pool. To be called when the pool may have grown, or
    /// an observer was removed. Returns the new observers.
    pub(crate) fn fill<'m>(&mut self, pool: impl Iterator<Item = &'m Member> + Clone) -> Vec<NodeId> {
        let mut new = Vec::new();
        for index in 0..self.slots_max {
            if self.slots.iter().any(|slot| slot.index == index && slot.until.is_none()) {
                continue;
            }
            let Some(id) = self.draw(index, pool.clone(), None) else { break };
            // A former observer may be drawn into another slot.
            self.slots.retain(|slot| slot.id != id);
            self.assign(index, id);
            new.push(id);
        }
        new
    }

    /// When the next slot is drawn anew.
    pub(crate) fn redraw_at(&self) -> Instant {
        self.redraw_at
    }

    /// Draws one slot anew. Its former observer is released after `overlap`. Returns the new one.
    pub(crate) fn redraw<'m>(
        &mut self,
        pool: impl Iterator<Item = &'m Member> + Clone,
        now: Instant,
        every: Duration,
        overlap: Duration,
    ) -> Option<NodeId> {
        self.redraw_at = now + every;
        let index = self.next;
        self.next = (self.next + 1) % self.slots_max;
        let former = self.slots.iter().find(|slot| slot.index == index && slot.until.is_none())?.id;
        self.draws[index] += 1;
        let id = self.draw(index, pool, Some(former))?;
        if let Some(slot) = self.slot_mut(former) {
            slot.until = Some(now + overlap);
        }
        self.assign(index, id);
        Some(id)
    }

    fn assign(&mut self, index: usize, id: NodeId) {
        let phase = index as u64 * STAGES / self.slots_max as u64;
        self.summaries[index].hand_over();
        self.slots.push(ObserverSlot { id, phase, index, until: None, asked: None, announcements: 0, is_new: true });
        self.slots.sort_by_key(|slot| (slot.phase, slot.until.is_some()));
    }

    /// The member of the pool that ranks first for this slot and has none. If all observers are of
    /// one zone, a member of another zone comes first.
    fn draw<'m>(
        &self,
        index: usize,
        pool: impl Iterator<Item = &'m Member> + Clone,
        but: Option<NodeId>,
    ) -> Option<NodeId> {
        let key = mix(self.me.0 ^ mix(self.draws[index] << 8 | index as u64));
        let has_slot = |id: NodeId| self.slots.iter().any(|slot| slot.id == id && slot.until.is_none());
        let free = pool.clone().filter(|member| member.id != self.me && !has_slot(member.id) && Some(member.id) != but);
        let mut zones = pool.filter(|member| has_slot(member.id) && Some(member.id) != but).map(|member| &member.zone);
        let only = zones.next().filter(|first| zones.all(|zone| zone == *first));
        let elsewhere = |member: &Member| only.is_some_and(|zone| member.zone != *zone);
        free.max_by_key(|member| (elsewhere(member), mix(key ^ member.id.0), member.id)).map(|member| member.id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::member::{Generation, Profile};

    fn pool(count: u32, zones: u32) -> Vec<Member> {
        let member = |n: u32| {
            let name = format!("node-{n}");
            let zone = format!("z{}", n % zones).into();
            let profile = Profile { zone, ..Profile::new(name, "127.0.0.1:1".parse().unwrap()) };
            Member::new(profile, Generation(1))
        };
        (1..=count).map(member).collect()
    }

    fn observers(me: u32) -> Observers {
        Observers::new(NodeId::of(&format!("node-{me}")), 5, Instant::NEVER)
    }

    fn ids(observers: &Observers) -> Vec<NodeId> {
        observers.slots().iter().map(|slot| slot.id).collect()
    }

    #[test]
    fn the_load_of_observing_is_spread() {
        let pool = pool(200, 1);
        let mut watches: BTreeMap<NodeId, u32> = BTreeMap::new();
        for me in 1..=200 {
            let mut observers = observers(me);
            observers.fill(pool.iter());
            assert_eq!(observers.slots().len(), 5);
            assert!(!observers.contains(observers.me));
            ids(&observers).into_iter().for_each(|id| *watches.entry(id).or_default() += 1);
        }
        let slots_max = *watches.values().max().unwrap();
        assert!(watches.len() > 190 && slots_max < 20, "{} watch, one of them {slots_max}", watches.len());
    }

    #[test]
    fn a_removed_observer_is_replaced_and_no_other_moves() {
        let pool = pool(50, 1);
        let mut observers = observers(1);
        observers.fill(pool.iter());
        let before = ids(&observers);
        assert!(observers.remove(before[2]));
        let left: Vec<Member> = pool.iter().filter(|member| member.id != before[2]).cloned().collect();
        let new = observers.fill(left.iter());
        let after = ids(&observers);
        assert_eq!((new.len(), after[2]), (1, new[0]));
        assert!((0..5).all(|n| n == 2 || before[n] == after[n]));
    }

    #[test]
    fn a_redrawn_slot_keeps_its_former_observer_for_a_while() {
        let pool = pool(50, 1);
        let mut observers = observers(1);
        observers.fill(pool.iter());
        let former = ids(&observers)[0];
        let now = Instant::from_millis(1_000);
        let new = observers.redraw(pool.iter(), now, Duration::from_secs(60), Duration::from_secs(2)).unwrap();
        assert!(observers.contains(former) && observers.contains(new));
        assert!(!observers.named().contains(former) && observers.named().contains(new));
        assert_eq!(observers.release(now + Duration::from_millis(1_999)), []);
        assert_eq!(observers.release(now + Duration::from_secs(2)), [former]);
        assert_eq!(observers.slots().len(), 5);
        assert_eq!(observers.redraw_at(), now + Duration::from_secs(60));
    }

    #[test]
    fn a_new_observer_is_given_what_the_former_ones_learnt() {
        let pool = pool(50, 1);
        let mut observers = observers(1);
        observers.fill(pool.iter());
        assert_eq!(observers.summary(), None);
        let summary = |byte| LinkSummary::from_bytes(&[byte; 5]).unwrap();
        let first = ids(&observers);
        observers.note_summary(NodeId(1), summary(9));
        assert_eq!(observers.summary(), None, "of a stranger");
        (0..4).for_each(|slot| observers.note_summary(first[slot], summary(slot as u8)));
        assert_eq!(observers.summary(), Some(summary(2)), "of two in the middle the more careful one");
        // Its slot remembers it while the next two have nothing to say.
        for _ in 0..2 {
            let gone = ids(&observers)[3];
            assert!(observers.remove(gone));
            observers.fill(pool.iter());
            assert_eq!(observers.summary(), Some(summary(2)));
        }
        observers.note_summary(ids(&observers)[3], summary(9));
        assert_eq!(observers.summary(), Some(summary(2)), "five summaries: 0, 1, 2, 3 and 9");
        observers.note_summary(first[0], summary(9));
        assert_eq!(observers.summary(), Some(summary(3)));
        observers.slots_mut()[0].is_new = false;
        observers.renew(first[0]);
        assert!(observers.slots()[0].is_new);
        assert_eq!(observers.summary(), Some(summary(3)), "it counts as a former one");
    }

    #[test]
    fn observers_are_not_all_of_one_zone() {
        for me in 1..=50 {
            let pool = pool(50, 2);
            let mut observers = observers(me);
            observers.fill(pool.iter());
            let zone = |id: &NodeId| pool.iter().find(|member| member.id == *id).unwrap().zone.clone();
            let zones: std::collections::BTreeSet<_> = ids(&observers).iter().map(zone).collect();
            assert_eq!(zones.len(), 2);
        }
    }

    #[test]
    fn with_few_members_all_are_observers() {
        let pool = pool(3, 1);
        let mut observers = observers(1);
        assert_eq!(observers.fill(pool.iter()).len(), 2);
        assert_eq!(observers.fill(pool.iter()).len(), 0);
        assert_eq!(observers.redraw(pool.iter(), Instant::ZERO, Duration::ZERO, Duration::ZERO), None);
    }
}
