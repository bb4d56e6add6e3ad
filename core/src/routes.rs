//! `Routes`: who is responsible for a key that is no shard's, asked by any number of threads at once.
//!
//! Each key belongs to one of a fixed number of *slots*, and each slot to the ready member that rendezvous hashing finds for it (`ring`). What was found for a slot
//! is remembered for as long as the members stay as they are, so a look-up costs a hash of the key and a read, however many members there are.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::member::{Member, Role, Status, Weight, name_hash};
use crate::ring;

/// Slots of all keys that are no shard's, together: 64 for each of a thousand members.
const SLOTS: u32 = 1 << 16;

/// The slot has not been asked for yet.
const NOT_ASKED: u32 = 0;

/// By slot: the place of its owner, from 1.
type Owners = Arc<[AtomicU32]>;

/// Those who are responsible for keys, as long as nothing changes.
#[derive(Debug, Default)]
pub struct Routes {
    /// In the order of their ids.
    ready: Vec<(Member, Weight)>,
    /// Places in `ready`. Made when somebody asks.
    owners: OnceLock<Owners>,
    before: Option<Before>,
}

/// What was found among other members. Whoever owned a slot then and is still ready owns it still, but for those who have come since.
#[derive(Debug)]
struct Before {
    owners: Owners,
    /// By place then: the place now, from 1, or 0 if it is not ready any more.
    places: Vec<u32>,
    /// The places of those who have come.
    new: Vec<usize>,
}

impl Routes {
    /// Those of `members` to whom requests may go: workers that are alive, not suspected, and have a weight. What was found before is made use of.
    pub fn after(before: &Routes, members: impl Iterator<Item = Member>) -> Routes {
        let mut ready: Vec<(Member, Weight)> = members
            .filter(|member| member.role == Role::Worker && member.status == Status::Alive)
            .map(|member| (member.weight(), member))
            .filter_map(|(weight, member)| (weight.get() > 0).then_some((member, weight)))
            .collect();
        ready.sort_unstable_by_key(|(member, _)| member.id);
        let before = before.owners.get().map(|owners| {
            let mut is_new = vec![true; ready.len()];
            let place = |(member, weight): &(Member, Weight)| {
                let Ok(place) = ready.binary_search_by_key(&member.id, |(member, _)| member.id) else { return 0 };
                if ready[place].1 != *weight {
                    return 0;
                }
                is_new[place] = false;
                place as u32 + 1
            };
            let places = before.ready.iter().map(place).collect();
            let new = (0..ready.len()).filter(|&place| is_new[place]).collect();
            Before { owners: owners.clone(), places, new }
        });
        Routes { ready, owners: OnceLock::new(), before }
    }

    /// Who is responsible for a key of this namespace; `None` if nobody is ready. All nodes with the same view say the same, in every release.
    pub fn owner(&self, namespace: &str, key: &[u8]) -> Option<&Member> {
        let slot = ring::shard_of(ring::key_hash(name_hash(namespace), key), SLOTS);
        let owners = self.owners.get_or_init(|| (0..SLOTS).map(|_| AtomicU32::new(NOT_ASKED)).collect());
        let owner = owners.get(slot as usize)?;
        let place = match owner.load(Ordering::Relaxed) {
            NOT_ASKED => {
                let place = self.find(slot)?;
                // Whoever else looks now finds the same.
                owner.store(place as u32 + 1, Ordering::Relaxed);
                place
            }
            place => place as usize - 1,
        };
        self.ready.get(place).map(|(member, _)| member)
    }

    /// The place of the owner of a slot in `ready`.
    fn find(&self, slot: u32) -> Option<usize> {
        if let Some(before) = &self.before {
            let then = before.owners[slot as usize].load(Ordering::Relaxed);
            let now = then.checked_sub(1).map_or(0, |then| before.places[then as usize]);
            if now > 0 {
                return self.best(slot, before.new.iter().copied().chain([now as usize - 1]));
            }
        }
        self.best(slot, 0..self.ready.len())
    }

    /// Which of these places owns a slot.
    fn best(&self, slot: u32, places: impl Iterator<Item = usize>) -> Option<usize> {
        let nodes = places.filter_map(|place| self.ready.get(place)).map(|(member, weight)| (member.id, *weight));
        let owner = ring::owner(0, slot, nodes)?;
        self.ready.binary_search_by_key(&owner, |(member, _)| member.id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;
    use crate::member::{Generation, Incarnation, Metadata, NodeId, Profile};

    fn members(count: usize) -> Vec<Member> {
        let member = |n: usize| {
            let name = format!("node-{n}");
            let (address, role) = ("127.0.0.1:1".parse().unwrap(), Role::Worker);
            let profile = Profile {
                name: (&*name).into(),
                address,
                role,
                zone: "".into(),
                metadata: Metadata::new(),
                revision: 1,
            };
            Member {
                id: NodeId::of(&name),
                profile: Arc::new(profile),
                generation: Generation(1),
                incarnation: Incarnation::default(),
                status: Status::Alive,
            }
        };
        (1..=count).map(member).collect()
    }

    fn fresh(members: &[Member]) -> Routes {
        Routes::after(&Routes::default(), members.iter().cloned())
    }

    fn owners(members: &[Member]) -> Vec<String> {
        owners_by(&fresh(members))
    }

    fn owners_by(routes: &Routes) -> Vec<String> {
        let name = |key: u32| routes.owner("sessions", &key.to_be_bytes()).unwrap().name.to_string();
        (0..2_000).map(name).collect()
    }

    #[test]
    fn a_suspicion_routes_away_and_back_and_moves_no_other_key() {
        let mut members = members(5);
        let before = owners(&members);
        assert_eq!(owners(&members), before);
        members[1].status = Status::Suspect;
        let meanwhile = owners(&members);
        for (before, meanwhile) in before.iter().zip(&meanwhile) {
            assert!(meanwhile != "node-2" && (before == meanwhile || before == "node-2"));
        }
        members[1].status = Status::Alive;
        assert_eq!(owners(&members), before);
    }

    /// However the members come, go, are suspected and cleared, and however much was asked in between.
    #[test]
    fn what_was_found_before_changes_no_answer() {
        let mut random = Random::seeded(7);
        let mut members = members(12);
        let mut routes = Routes::default();
        for _ in 0..200 {
            for _ in 0..1 + random.below(2) {
                let member = &mut members[random.below(12) as usize];
                if random.chance(0.2) {
                    let metadata = [("weight".to_owned(), random.below(4).to_string())].into();
                    member.profile = Arc::new(Profile { metadata, ..(*member.profile).clone() });
                }
                let is_alive = member.status == Status::Alive;
                member.status = if is_alive { Status::Suspect } else { Status::Alive };
            }
            routes = Routes::after(&routes, members.iter().cloned());
            let fresh = fresh(&members);
            for key in 0..random.below(3_000) as u32 {
                let key = key.to_be_bytes();
                assert_eq!(routes.owner("sessions", &key), fresh.owner("sessions", &key));
            }
        }
    }

    #[test]
    fn nobody_is_responsible_where_nobody_is_ready() {
        let mut members = members(1);
        assert!(fresh(&[]).owner("a", b"b").is_none());
        let profile = |metadata: &str| {
            let metadata = [("weight".to_owned(), metadata.to_owned())].into();
            Profile { metadata, ..(*members[0].profile).clone() }
        };
        let (none, some) = (profile("0"), profile("7"));
        members[0].profile = none.into();
        assert!(fresh(&members).owner("a", b"b").is_none());
        members[0].profile = some.into();
        assert!(fresh(&members).owner("a", b"b").is_some());
    }

    /// Another release must find the same owners, so these never change.
    #[test]
    fn the_mapping_never_changes() {
        let expected = "node-2 node-4 node-3 node-1 node-4 node-3 node-4 node-3 node-4 node-1 node-4 node-1";
        assert_eq!(owners(&members(4))[..12].join(" "), expected);
    }
}
