//! `Routes`: the owner of a key, which any number of threads may look up at once.
//!
//! A key of a sharded group belongs to one of its shards, any other key to one of 65,536 *slots*.
//! Rendezvous hashing names the owner of each shard and slot (`rendezvous`).
//!
//! The shards of a group belong to the members that supervise it with the same number of shards. If
//! members differ, the number of the oldest process is *in force*. Members with another number own
//! nothing until all members with that one are gone.
//!
//! Owners are computed on the first look-up and kept as long as the members do not change. Then a
//! look-up costs a hash of the key and a read, for any number of members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::member::{Declined, Member, NodeId, Role, Status, Weight, name_hash};
use crate::sharding::rendezvous;

/// The number of shards of a group that is in force, and the members that may own them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ShardGroupLayout {
    /// The number of shards.
    pub(crate) count: u32,
    /// The member whose number this is: of all that supervise the group, the process that was
    /// started first. Of two with one generation it is the one with the lower id.
    pub(crate) decided_by: NodeId,
    /// The members that may own shards, each with its weight.
    pub(crate) owners: Vec<(NodeId, Weight)>,
    /// The shards that each of them declines.
    pub(crate) declined: BTreeMap<NodeId, Declined>,
}

impl ShardGroupLayout {
    /// The layout of the group with this name hash among `members`; `None` if none of them
    /// supervises it.
    pub(crate) fn among<'a>(members: impl Iterator<Item = &'a Member> + Clone, group: u64) -> Option<ShardGroupLayout> {
        let supervise = members
            .filter(|member| member.role == Role::Worker && member.status.is_member())
            .filter_map(move |member| Some((member, member.shards_of(group)?)));
        let (decider, count) = supervise.clone().min_by_key(|(member, _)| (member.generation, member.id))?;
        let agree = supervise.filter(|(_, theirs)| *theirs == count);
        let owners = agree.clone().map(|(member, _)| (member.id, member.weight())).collect();
        let declines = |(member, _): (&'a Member, u32)| {
            let declined = &member.sharded(group)?.declined;
            (!declined.is_empty()).then(|| (member.id, declined.clone()))
        };
        Some(ShardGroupLayout { count, decided_by: decider.id, owners, declined: agree.filter_map(declines).collect() })
    }

    /// The members that may own this shard, each with its weight.
    pub(crate) fn owners_of(&self, index: u32) -> impl Iterator<Item = (NodeId, Weight)> + Clone {
        let may = move |(node, _): &(NodeId, Weight)| !declines(&self.declined, *node, index);
        self.owners.iter().copied().filter(may)
    }
}

/// Whether a node declines this shard.
fn declines(declined: &BTreeMap<NodeId, Declined>, node: NodeId, index: u32) -> bool {
    !declined.is_empty() && declined.get(&node).is_some_and(|declined| declined.contains(index))
}

/// The number of slots for keys of no sharded group: 64 for each of a thousand members.
const SLOTS: u32 = 1 << 16;

/// Takes the place of the hash of a group's name for slots.
const NO_GROUP: u64 = 0;

/// The owner has not been computed yet.
const NOT_COMPUTED: u32 = 0;

/// The owners of all keys, for one state of the members.
#[derive(Debug, Default)]
pub struct Routes {
    /// By id, ascending.
    members: Vec<Member>,
    /// Keys of no sharded group; ready members own them.
    slots: Table,
    /// The shards of each group, by the hash of its name. A suspect member keeps its shards.
    groups: BTreeMap<u64, Table>,
}

impl Routes {
    /// The routes among `members`. Owners that were computed `before` are reused where they still
    /// hold.
    pub fn after(before: &Routes, members: impl Iterator<Item = Member>) -> Routes {
        let mut members: Vec<Member> = members.filter(|member| member.status.is_member()).collect();
        members.sort_unstable_by_key(|member| member.id);
        let is_ready = |member: &&Member| member.role == Role::Worker && member.status == Status::Alive;
        let ready = members.iter().filter(is_ready).map(|member| (member.id, member.weight())).collect();
        let slots = Table::after(Some(&before.slots), NO_GROUP, SLOTS, ready, BTreeMap::new());
        let hashes: BTreeSet<u64> = members.iter().flat_map(|member| &member.groups).map(|group| group.group).collect();
        let table = |hash: u64| {
            let ShardGroupLayout { count, owners, declined, .. } = ShardGroupLayout::among(members.iter(), hash)?;
            Some((hash, Table::after(before.groups.get(&hash), hash, count, owners, declined)))
        };
        let groups = hashes.into_iter().filter_map(table).collect();
        Routes { members, slots, groups }
    }

    /// The owner of a key of this namespace; `None` if no member may own it. If a sharded group has
    /// that name, this is the owner of the key's shard, which may be suspect; else it is a ready
    /// member. All nodes with the same view return the same member, in every release.
    pub fn owner(&self, namespace: &str, key: &[u8]) -> Option<&Member> {
        let hash = name_hash(namespace);
        let table = self.groups.get(&hash).unwrap_or(&self.slots);
        let owner = table.owner(rendezvous::shard_of(rendezvous::key_hash(hash, key), table.count))?;
        let position = self.members.binary_search_by_key(&owner, |member| member.id).ok()?;
        self.members.get(position)
    }
}

/// The owners of a number of shards or slots, computed at the first look-up of each.
#[derive(Debug, Default)]
struct Table {
    group: u64,
    count: u32,
    /// The members that may own them, with a weight over 0, by id, ascending.
    nodes: Vec<(NodeId, Weight)>,
    /// The shards that each of them declines.
    declined: BTreeMap<NodeId, Declined>,
    /// By shard or slot: the position of its owner in `nodes`, from 1, or [`NOT_COMPUTED`].
    /// Allocated at the first look-up.
    owners: OnceLock<Arc<[AtomicU32]>>,
    before: Option<Previous>,
}

/// Owners among the previous members. If the previous owner of a shard may still own it, only a
/// member that has come since can have taken its place.
#[derive(Debug)]
struct Previous {
    /// As [`Table::owners`].
    owners: Arc<[AtomicU32]>,
    /// By previous position: the present position, from 1, or 0 if the member may not own any more.
    positions: Vec<u32>,
    /// The positions of the members that have come since.
    new: Vec<usize>,
}

impl Table {
    fn after(
        before: Option<&Table>,
        group: u64,
        count: u32,
        mut nodes: Vec<(NodeId, Weight)>,
        declined: BTreeMap<NodeId, Declined>,
    ) -> Table {
        nodes.retain(|(_, weight)| weight.get() > 0);
        nodes.sort_unstable();
        let before = before.filter(|before| before.count == count && before.declined == declined);
        let found = before.and_then(|before| Some((before.owners.get()?, &before.nodes)));
        let before = found.map(|(owners, nodes_before)| {
            let mut is_new = vec![true; nodes.len()];
            let position = |node: &(NodeId, Weight)| {
                let Ok(position) = nodes.binary_search(node) else { return 0 };
                is_new[position] = false;
                position as u32 + 1
            };
            let positions = nodes_before.iter().map(position).collect();
            let new = (0..nodes.len()).filter(|&position| is_new[position]).collect();
            Previous { owners: owners.clone(), positions, new }
        });
        Table { group, count, nodes, declined, owners: OnceLock::new(), before }
    }

    fn owner(&self, index: u32) -> Option<NodeId> {
        let owners = self.owners.get_or_init(|| (0..self.count).map(|_| AtomicU32::new(NOT_COMPUTED)).collect());
        let owner = owners.get(index as usize)?;
        let position = match owner.load(Ordering::Relaxed) {
            NOT_COMPUTED => {
                let position = self.find(index)?;
                // Another thread that looks it up now computes the same.
                owner.store(position as u32 + 1, Ordering::Relaxed);
                position
            }
            position => position as usize - 1,
        };
        self.nodes.get(position).map(|(node, _)| *node)
    }

    /// The position of an owner in `nodes`.
    fn find(&self, index: u32) -> Option<usize> {
        if let Some(before) = &self.before {
            let then = before.owners[index as usize].load(Ordering::Relaxed);
            let now = then.checked_sub(1).map_or(0, |then| before.positions[then as usize]);
            if now > 0 {
                return self.best(index, before.new.iter().copied().chain([now as usize - 1]));
            }
        }
        self.best(index, 0..self.nodes.len())
    }

    /// Which of these positions owns a shard.
    fn best(&self, index: u32, positions: impl Iterator<Item = usize>) -> Option<usize> {
        let nodes = positions.filter_map(|position| self.nodes.get(position)).copied();
        let may = |(node, _): &(NodeId, Weight)| !declines(&self.declined, *node, index);
        let owner = rendezvous::owner(self.group, index, nodes.filter(may))?;
        self.nodes.binary_search_by_key(&owner, |(node, _)| *node).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;
    use crate::member::{Generation, Profile, ShardGroup};

    fn members(count: usize) -> Vec<Member> {
        let member = |n: usize| {
            let profile = Profile::new(format!("node-{n}"), "127.0.0.1:1".parse().unwrap());
            Member::new(profile, Generation(1))
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

    /// However the members come, go, are suspected and cleared, and however much was asked in
    /// between.
    #[test]
    fn owners_computed_before_change_no_answer() {
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
    fn a_group_belongs_to_members_with_the_count_in_force() {
        let mut members = members(4);
        let group = name_hash("orders");
        for (place, (generation, count)) in [(3, 8), (1, 16), (4, 16), (2, 8)].into_iter().enumerate() {
            let groups = vec![ShardGroup::new(group, count)];
            members[place].profile = Arc::new(Profile { groups, ..(*members[place].profile).clone() });
            members[place].generation = Generation(generation);
        }
        let among = |members: &[Member]| {
            let routes = fresh(members);
            let name = |key: u32| routes.owner("orders", &key.to_be_bytes()).unwrap().name.to_string();
            (0..200).map(name).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(among(&members), "node-2 node-3", "node-2 was started first");
        // A suspect keeps its shards, and a dead one hands them on.
        members[1].status = Status::Suspect;
        assert_eq!(among(&members), "node-2 node-3");
        members[1].status = Status::Dead;
        assert_eq!(among(&members), "node-1 node-4", "of those who live, node-4 was started first");
        members[1].profile = Arc::new(Profile { role: Role::Monitor, ..(*members[1].profile).clone() });
        members[1].status = Status::Alive;
        assert_eq!(among(&members), "node-1 node-4", "a monitor owns nothing");
    }

    #[test]
    fn without_a_ready_member_a_key_has_no_owner() {
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

    #[test]
    fn of_two_processes_of_one_generation_the_lower_id_decides() {
        let mut members = members(2);
        let group = name_hash("orders");
        for (place, count) in [8, 16].into_iter().enumerate() {
            let groups = vec![ShardGroup::new(group, count)];
            members[place].profile = Arc::new(Profile { groups, ..(*members[place].profile).clone() });
        }
        let layout = ShardGroupLayout::among(members.iter(), group).unwrap();
        assert_eq!(layout.decided_by, members[0].id.min(members[1].id));
        members.reverse();
        assert_eq!(ShardGroupLayout::among(members.iter(), group), Some(layout));
        assert_eq!(ShardGroupLayout::among(members.iter(), name_hash("users")), None);
    }

    #[test]
    fn a_declined_shard_is_routed_to_another_member() {
        let mut members = members(2);
        let group = name_hash("orders");
        for member in &mut members {
            let groups = vec![ShardGroup::new(group, 8)];
            member.profile = Arc::new(Profile { groups, ..(*member.profile).clone() });
        }
        let owner = |layout: &ShardGroupLayout, index| rendezvous::owner(group, index, layout.owners_of(index));
        let mut layout = ShardGroupLayout::among(members.iter(), group).unwrap();
        let mine = (0..8).find(|&index| owner(&layout, index) == Some(members[0].id)).unwrap();
        let before: Vec<_> = (0..8).map(|index| owner(&layout, index)).collect();
        layout.declined.insert(members[0].id, Declined::of(&[mine].into(), 8, 64));
        let after: Vec<_> = (0..8).map(|index| owner(&layout, index)).collect();
        assert_eq!(after[mine as usize], Some(members[1].id));
        assert_eq!((0..8).filter(|&index| before[index] != after[index]).count(), 1);
    }
}
