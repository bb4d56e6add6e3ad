//! `Observers`: who watches this node now.
//!
//! A node has a number of places for observers, and each place has its turn in every interval, so
//! that the heartbeats to them are spread over it: whoever is next in turn notices a silence first.
//! Who sits in a place is drawn by rendezvous hashing over the pool, which is all members, or those
//! whose business it is. An observer keeps its place, or no detector could learn anything; one
//! place is drawn anew from time to time, so that no two nodes are bound to each other for ever,
//! and at once when its observer is gone. The former one goes on hearing for two intervals.
//!
//! Source for the hashing: Thaler and Ravishankar, "Using name-based mappings to increase hit
//! rates", IEEE/ACM Transactions on Networking 6(1), 1998.

use std::time::Duration;

use crate::member::{Member, NodeId};
use crate::random::mix;
use crate::time::Instant;
use crate::wire::{self, STAGES};

/// One that watches this node.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Who.
    pub(crate) id: NodeId,
    /// Its turn within the interval, in parts of [`STAGES`].
    pub(crate) turn: u64,
    /// Which of the places it sits in.
    index: usize,
    /// Until when it goes on hearing, if another one has taken its place.
    pub(crate) until: Option<Instant>,
    /// The stage of the heartbeat that asked it for an answer and had none yet.
    pub(crate) asked: Option<(u64, Instant)>,
    /// How often a longer interval may still be announced to it.
    pub(crate) unheard: u32,
}

/// The observers of this node, in the order of their turns.
#[derive(Clone, Debug)]
pub(crate) struct Observers {
    me: NodeId,
    most: usize,
    places: Vec<Place>,
    /// By place: how often it was drawn anew.
    draws: Vec<u64>,
    redraw_at: Instant,
    /// The place to be drawn anew next.
    next: usize,
}

impl Observers {
    /// No observer yet, of `most` (1 to 16).
    pub(crate) fn new(me: NodeId, most: usize, redraw_at: Instant) -> Observers {
        Observers { me, most, places: Vec::new(), draws: vec![0; most], redraw_at, next: 0 }
    }

    /// Those who are to hear from us, the former ones included.
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// The same, to note what is asked of them and heard.
    pub(crate) fn places_mut(&mut self) -> &mut [Place] {
        &mut self.places
    }

    /// The place of this node, if it has one.
    pub(crate) fn place_mut(&mut self, id: NodeId) -> Option<&mut Place> {
        self.places.iter_mut().find(|place| place.id == id)
    }

    /// Whether this node watches us, and is meant to.
    pub(crate) fn contains(&self, id: NodeId) -> bool {
        self.places.iter().any(|place| place.id == id)
    }

    /// Who watches us, as a heartbeat names them.
    pub(crate) fn named(&self) -> wire::Observers {
        wire::Observers::new(self.places.iter().filter(|place| place.until.is_none()).map(|place| place.id))
    }

    /// The first turn after `turn` in this interval, or at it if `turn` was not had yet.
    pub(crate) fn turn_from(&self, turn: u64) -> Option<u64> {
        // They are in the order of their turns.
        self.places.iter().map(|place| place.turn).find(|&next| next >= turn)
    }

    /// When a former observer is to be released next.
    pub(crate) fn next_release(&self) -> Option<Instant> {
        self.places.iter().filter_map(|place| place.until).min()
    }

    /// Former observers whose time is over: they are to be told so.
    pub(crate) fn release(&mut self, now: Instant) -> Vec<NodeId> {
        let over = |place: &Place| place.until.is_some_and(|until| until <= now);
        if !self.places.iter().any(over) {
            return Vec::new();
        }
        let released = self.places.iter().filter(|place| over(place)).map(|place| place.id).collect();
        self.places.retain(|place| !over(place));
        released
    }

    /// Takes out one that is gone. Returns whether it was there.
    pub(crate) fn lose(&mut self, id: NodeId) -> bool {
        let before = self.places.len();
        self.places.retain(|place| place.id != id);
        self.places.len() < before
    }

    /// Fills the places that are free from the pool; called when the pool may have grown, or an
    /// observer was lost. Returns who is new.
    pub(crate) fn fill<'m>(&mut self, pool: impl Iterator<Item = &'m Member> + Clone) -> Vec<NodeId> {
        let mut new = Vec::new();
        for index in 0..self.most {
            if self.places.iter().any(|place| place.index == index && place.until.is_none()) {
                continue;
            }
            let Some(id) = self.draw(index, pool.clone(), None) else { break };
            // One that was to be released may be drawn into another place.
            self.places.retain(|place| place.id != id);
            self.seat(index, id);
            new.push(id);
        }
        new
    }

    /// Whether a place is due to be drawn anew.
    pub(crate) fn redraw_at(&self) -> Instant {
        self.redraw_at
    }

    /// Draws one place anew; the former observer is released after `overlap`. Returns who is new.
    pub(crate) fn redraw<'m>(
        &mut self,
        pool: impl Iterator<Item = &'m Member> + Clone,
        now: Instant,
        every: Duration,
        overlap: Duration,
    ) -> Option<NodeId> {
        self.redraw_at = now + every;
        let index = self.next;
        self.next = (self.next + 1) % self.most;
        let former = self.places.iter().find(|place| place.index == index && place.until.is_none())?.id;
        self.draws[index] += 1;
        let id = self.draw(index, pool, Some(former))?;
        if let Some(place) = self.place_mut(former) {
            place.until = Some(now + overlap);
        }
        self.seat(index, id);
        Some(id)
    }

    fn seat(&mut self, index: usize, id: NodeId) {
        let turn = index as u64 * STAGES / self.most as u64;
        self.places.push(Place { id, turn, index, until: None, asked: None, unheard: 0 });
        self.places.sort_by_key(|place| (place.turn, place.until.is_some()));
    }

    /// Who of the pool ranks first for this place and sits in none; one of another zone than those
    /// who sit, if they are all of one.
    fn draw<'m>(
        &self,
        index: usize,
        pool: impl Iterator<Item = &'m Member> + Clone,
        but: Option<NodeId>,
    ) -> Option<NodeId> {
        let key = mix(self.me.0 ^ mix(self.draws[index] << 8 | index as u64));
        let sits = |id: NodeId| self.places.iter().any(|place| place.id == id && place.until.is_none());
        let free = pool.clone().filter(|member| member.id != self.me && !sits(member.id) && Some(member.id) != but);
        let mut zones = pool.filter(|member| sits(member.id) && Some(member.id) != but).map(|member| &member.zone);
        let only = zones.next().filter(|first| zones.all(|zone| zone == *first));
        let elsewhere = |member: &Member| only.is_some_and(|zone| member.zone != *zone);
        free.max_by_key(|member| (elsewhere(member), mix(key ^ member.id.0), member.id)).map(|member| member.id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::member::{Generation, Incarnation, Profile, Role, Status};

    fn pool(count: u32, zones: u32) -> Vec<Member> {
        let member = |n: u32| {
            let name = format!("node-{n}");
            let profile = Profile {
                name: name.as_str().into(),
                address: "127.0.0.1:1".parse().unwrap(),
                role: Role::Worker,
                zone: format!("z{}", n % zones).into(),
                metadata: BTreeMap::new(),
                groups: Vec::new(),
                revision: 1,
            };
            let (generation, incarnation) = (Generation(1), Incarnation::default());
            Member { id: NodeId::of(&name), profile: profile.into(), generation, incarnation, status: Status::Alive }
        };
        (1..=count).map(member).collect()
    }

    fn observers(me: u32) -> Observers {
        Observers::new(NodeId::of(&format!("node-{me}")), 5, Instant::NEVER)
    }

    fn ids(observers: &Observers) -> Vec<NodeId> {
        observers.places().iter().map(|place| place.id).collect()
    }

    #[test]
    fn each_has_as_many_as_it_may_and_each_watches_about_as_many() {
        let pool = pool(200, 1);
        let mut watches: BTreeMap<NodeId, u32> = BTreeMap::new();
        for me in 1..=200 {
            let mut observers = observers(me);
            observers.fill(pool.iter());
            assert_eq!(observers.places().len(), 5);
            assert!(!observers.contains(observers.me));
            ids(&observers).into_iter().for_each(|id| *watches.entry(id).or_default() += 1);
        }
        let most = *watches.values().max().unwrap();
        assert!(watches.len() > 190 && most < 20, "{} watch, one of them {most}", watches.len());
    }

    #[test]
    fn a_loss_is_made_good_and_moves_nobody_else() {
        let pool = pool(50, 1);
        let mut observers = observers(1);
        observers.fill(pool.iter());
        let before = ids(&observers);
        assert!(observers.lose(before[2]));
        let left: Vec<Member> = pool.iter().filter(|member| member.id != before[2]).cloned().collect();
        let new = observers.fill(left.iter());
        let after = ids(&observers);
        assert_eq!((new.len(), after[2]), (1, new[0]));
        assert!((0..5).all(|n| n == 2 || before[n] == after[n]));
    }

    #[test]
    fn a_place_drawn_anew_keeps_the_former_observer_for_a_while() {
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
        assert_eq!(observers.places().len(), 5);
        assert_eq!(observers.redraw_at(), now + Duration::from_secs(60));
    }

    #[test]
    fn they_are_not_all_of_one_zone() {
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
    fn fewer_members_than_places_are_all_observers() {
        let pool = pool(3, 1);
        let mut observers = observers(1);
        assert_eq!(observers.fill(pool.iter()).len(), 2);
        assert_eq!(observers.fill(pool.iter()).len(), 0);
        assert_eq!(observers.redraw(pool.iter(), Instant::ZERO, Duration::ZERO, Duration::ZERO), None);
    }
}
