//! `Shards`: which shards are this node's, as the view of the members changes, and how far each is
//! on its way.
//!
//! All nodes with the same view name the same owners (`ring`), so nobody has to be told what to
//! run: each looks at the view and takes on what has become its own, gives up what has not. Between
//! the two lies a way: what is given up is stopped first; what is taken on waits for the one who
//! had it, for the authority if there is one, and for its turn.
//!
//! It acts on whole views only. Two nodes that each know another half of the news would each find
//! themselves the owner; while news travel, they do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::event::Event;
use crate::member::{Epoch, NodeId, Shard, Weight, WorkerId, name_hash};
use crate::membership::table::MemberTable;
use crate::sharding::rendezvous;
use crate::sharding::routes::ShardGroupLayout;
use crate::snapshot::Key;
use crate::time::Instant;

/// The sharded groups of this node.
#[derive(Clone, Debug, Default)]
pub(super) struct Shards {
    groups: Vec<Group>,
    /// Those on their way, in either direction: group and index.
    pub(super) moving: BTreeSet<(usize, u32)>,
}

#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) name: Arc<str>,
    pub(super) hash: u64,
    /// The worker of shard 0; those of the others follow.
    first: WorkerId,
    /// By shard.
    places: Vec<Place>,
    /// Another number of shards is in force.
    refused: Option<u32>,
}

/// One shard, as this node knows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// Who owns it by the view, and the logical clock at which that began.
    pub(super) owner: Option<(NodeId, Epoch)>,
    pub(super) here: Here,
    /// Who wants to hear when it does not run here any more, and under which number.
    pub(super) asked: Option<(NodeId, u32)>,
    /// It was given up to another node, which has not asked for what there is of it.
    pub(super) owes: bool,
    /// The highest epoch that it has had here.
    pub(super) highest: Epoch,
    /// It ran here when it was last given up for want of a lease, and has not been started here
    /// since.
    pub(super) was_ours: bool,
}

/// How far a shard is on its way.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Here {
    /// It is not ours.
    #[default]
    No,
    /// It is ours by the view, and does not run yet.
    Due(Due),
    /// It was told to start, under this epoch.
    Runs(Epoch),
    /// It was told to stop. If it is ours by the view all the same, it is due again once it has, as
    /// `again` says.
    Stops { epoch: Epoch, again: Option<Due> },
}

/// What a shard that is ours still waits for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Due {
    /// Those who may run it still.
    pub(super) from: Option<Former>,
    pub(super) claim: Claim,
}

/// Those who may run a shard still.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Former {
    /// Who has not said yet that he does not. Never empty.
    pub(super) nodes: Vec<NodeId>,
    /// Under which number they are asked.
    pub(super) number: u32,
    /// When they are asked again.
    pub(super) ask_at: Instant,
    /// Until when they are waited for.
    pub(super) until: Instant,
}

/// Where the authority's leave stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is to be asked at this instant.
    At(Instant),
    Asked,
    Granted(Epoch),
}

impl Due {
    /// From now on, without anybody to wait for.
    fn new(from: Option<Former>) -> Due {
        Due { from, claim: Claim::At(Instant::ZERO) }
    }
}

impl Group {
    /// Those who may own its shards; nobody if another number of shards is in force, which is said
    /// when it begins and when it ends.
    fn share(&mut self, membership: &MemberTable, steps: &mut Vec<Step>) -> ShardGroupLayout {
        let count = self.places.len() as u32;
        let sharing = ShardGroupLayout::among(membership.members(), self.hash);
        let other = sharing.as_ref().filter(|sharing| sharing.count != count);
        if other.map(|sharing| sharing.count) != self.refused {
            self.refused = other.map(|sharing| sharing.count);
            let group = self.name.clone();
            let by = other.and_then(|sharing| membership.member(sharing.by)).map(|member| member.name.clone());
            steps.push(Step::Tell(match (self.refused, by) {
                (Some(in_force), Some(by)) => Event::ShardsRefused { group, count, in_force, by },
                _ => Event::ShardsAdmitted { group, count },
            }));
        }
        let nobody = ShardGroupLayout { count, by: NodeId(0), owners: Vec::new(), declined: BTreeMap::new() };
        sharing.filter(|sharing| sharing.count == count).unwrap_or(nobody)
    }

    /// Gives up those of our shards of which `is_others` holds.
    fn give_up(
        &mut self,
        at: usize,
        me: NodeId,
        table: &MemberTable,
        is_others: impl Fn(u32) -> bool,
        changes: &mut Changes,
    ) {
        let from = table.member(me).map(|member| member.name.clone());
        for (index, place) in (0..).zip(&mut self.places) {
            if let Some((_, epoch)) = place.owner.take_if(|(node, _)| *node == me && is_others(index)) {
                let (group, shard) = (self.name.clone(), Shard { index, epoch });
                changes.steps.push(Step::Tell(Event::ShardMoved { group, shard, from: from.clone(), to: None }));
            }
            if is_others(index) {
                place.was_ours |= matches!(place.here, Here::Runs(_));
                place.give_up(WorkerId(self.first.0 + index), (at, index), changes);
            }
        }
    }

    /// Whether any of its shards runs here.
    pub(super) fn runs_any(&self) -> bool {
        self.running().next().is_some()
    }

    /// Whether any of its shards is still to be handed to its new owner, as far as that is a
    /// member.
    pub(super) fn owes_any(&self, is_member: impl Fn(NodeId) -> bool) -> bool {
        self.places.iter().any(|place| place.owes && place.owner.is_some_and(|(owner, _)| is_member(owner)))
    }

    /// How many of its shards run here, are on their way, or are still to be handed to a member.
    pub(super) fn unfinished(&self, is_member: impl Fn(NodeId) -> bool) -> usize {
        let is_owed = |place: &Place| place.owes && place.owner.is_some_and(|(owner, _)| is_member(owner));
        self.places.iter().filter(|place| place.here != Here::No || is_owed(place)).count()
    }

    /// Those of its shards that run here.
    pub(super) fn running(&self) -> impl Iterator<Item = u32> {
        let runs = |(index, place): (u32, &Place)| matches!(place.here, Here::Runs(_)).then_some(index);
        (0..).zip(&self.places).filter_map(runs)
    }

    pub(super) fn place(&self, index: u32) -> Option<&Place> {
        self.places.get(index as usize)
    }

    pub(super) fn worker(&self, index: u32) -> WorkerId {
        WorkerId(self.first.0 + index)
    }

    pub(super) fn key(&self, index: u32) -> Key {
        (self.hash, index)
    }
}

impl Place {
    /// It is not ours any more.
    fn give_up(&mut self, worker: WorkerId, at: (usize, u32), changes: &mut Changes) {
        match self.here {
            Here::No => {}
            Here::Due(_) => {
                self.here = Here::No;
                changes.moving.push(at);
                changes.withdrawn.push(at);
            }
            Here::Runs(epoch) => {
                self.here = Here::Stops { epoch, again: None };
                self.owes = self.owner.is_some();
                changes.moving.push(at);
                changes.steps.push(Step::Stop { worker });
            }
            Here::Stops { epoch, .. } => self.here = Here::Stops { epoch, again: None },
        }
    }
}

/// What a change of owners asks of this node.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Step {
    Stop { worker: WorkerId },
    Tell(Event),
}

/// What came of a look at the view.
#[derive(Default)]
struct Changes {
    steps: Vec<Step>,
    moving: Vec<(usize, u32)>,
    /// Those that were waited for and are not ours any more; the authority may have granted them.
    withdrawn: Vec<(usize, u32)>,
}

/// What there is to know when owners are found anew.
pub(super) struct Finding<'a> {
    pub(super) me: NodeId,
    pub(super) table: &'a MemberTable,
    /// Nodes that came and went between the last view and this one, unseen. A shard that one of
    /// them would have owned has had another owner meanwhile, under an epoch between ours and now;
    /// if it is ours still, it is ours anew.
    pub(super) passed: &'a [(NodeId, Weight)],
    /// The logical clock, as an epoch.
    pub(super) epoch: Epoch,
    pub(super) now: Instant,
    /// Until when former owners are waited for.
    pub(super) until: Instant,
    /// Under which number they are asked.
    pub(super) number: u32,
    /// Whether nobody may start a shard before all others have said that they do not run it.
    pub(super) is_exclusive: bool,
}

impl Shards {
    /// Takes on a group whose shard `i` is worker `first + i`.
    pub(super) fn add(&mut self, name: Arc<str>, first: WorkerId, count: u32) {
        let hash = name_hash(&name);
        self.groups.push(Group { name, hash, first, places: vec![Place::default(); count as usize], refused: None });
    }

    /// Finds the owners anew in a whole view, and says what that asks of this node. Returns those
    /// of which the claim is withdrawn, too.
    pub(super) fn settle(&mut self, finding: &Finding<'_>) -> (Vec<Step>, Vec<(usize, u32)>) {
        let Finding { me, table, passed, epoch, .. } = *finding;
        let mut changes = Changes::default();
        let name_of = |id: NodeId| table.member(id).map(|member| member.name.clone());
        for (at, group) in self.groups.iter_mut().enumerate() {
            let sharing = group.share(table, &mut changes.steps);
            let (hash, first) = (group.hash, group.first);
            for (index, place) in (0..).zip(&mut group.places) {
                let now = rendezvous::owner(hash, index, sharing.owners_of(index));
                let among_all = rendezvous::owner(hash, index, sharing.owners_of(index).chain(passed.iter().copied()));
                let before = place.owner.map(|(node, _)| node);
                if now == before && now == among_all {
                    continue;
                }
                place.owner = now.map(|node| (node, epoch));
                changes.steps.push(Step::Tell(Event::ShardMoved {
                    group: group.name.clone(),
                    shard: Shard { index, epoch },
                    from: before.and_then(name_of),
                    to: now.and_then(name_of),
                }));
                let worker = WorkerId(first.0 + index);
                if now != Some(me) {
                    place.give_up(worker, (at, index), &mut changes);
                    continue;
                }
                changes.moving.push((at, index));
                let formers = match before {
                    // Whoever stopped late may have had it before those that we saw.
                    _ if finding.is_exclusive => table.others().to_vec(),
                    Some(node) if node == me => Vec::new(),
                    Some(node) => vec![node],
                    // We have seen nobody: whoever owns it without us.
                    None => {
                        let others = sharing.owners_of(index).filter(|(node, _)| *node != me);
                        rendezvous::owner(hash, index, others).into_iter().collect()
                    }
                };
                let due = Due::new(finding.former(formers));
                place.here = match place.here {
                    Here::No | Here::Due(_) => Here::Due(due),
                    Here::Stops { epoch, .. } => Here::Stops { epoch, again: Some(due) },
                    Here::Runs(epoch) => {
                        changes.steps.push(Step::Stop { worker });
                        Here::Stops { epoch, again: Some(due) }
                    }
                };
            }
        }
        self.take_over(changes)
    }

    /// Gives up what is another's by now, or nobody's, and takes nothing on.
    pub(super) fn yield_up(&mut self, me: NodeId, table: &MemberTable) -> (Vec<Step>, Vec<(usize, u32)>) {
        let mut changes = Changes::default();
        for (at, group) in self.groups.iter_mut().enumerate() {
            let sharing = group.share(table, &mut changes.steps);
            let hash = group.hash;
            let is_others = |index| rendezvous::owner(hash, index, sharing.owners_of(index)) != Some(me);
            group.give_up(at, me, table, is_others, &mut changes);
        }
        self.take_over(changes)
    }

    /// Gives up everything `me` owns: this node was concluded dead, or its lease is over, and
    /// another may own it by now.
    pub(super) fn void(&mut self, me: NodeId, table: &MemberTable) -> (Vec<Step>, Vec<(usize, u32)>) {
        let mut changes = Changes::default();
        for (at, group) in self.groups.iter_mut().enumerate() {
            group.give_up(at, me, table, |_| true, &mut changes);
        }
        self.take_over(changes)
    }

    /// Without a cluster every shard runs here: takes on those that do not run yet.
    pub(super) fn settle_alone(&mut self, epoch: Epoch) {
        const HERE: NodeId = NodeId(0);
        for (at, group) in self.groups.iter_mut().enumerate() {
            for (index, place) in (0..).zip(&mut group.places) {
                if place.owner.is_none() {
                    (place.owner, place.here) = (Some((HERE, epoch)), Here::Due(Due::new(None)));
                    self.moving.insert((at, index));
                }
            }
        }
    }

    /// Who owns a shard of the group with this name, at which epoch; `None` if nobody does or there
    /// is no such group or shard.
    pub(super) fn owner(&self, group: &str, index: u32) -> Option<(NodeId, Epoch)> {
        self.groups.iter().find(|candidate| *candidate.name == *group)?.place(index)?.owner
    }

    pub(super) fn group(&self, at: usize) -> &Group {
        &self.groups[at]
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Where a shard of the group with this hash is.
    pub(super) fn at(&self, (hash, index): Key) -> Option<(usize, u32)> {
        let at = self.groups.iter().position(|group| group.hash == hash)?;
        self.groups[at].place(index).map(|_| (at, index))
    }

    /// Where the shard of this name is.
    pub(super) fn named(&self, group: &str, index: u32) -> Option<(usize, u32)> {
        self.at((name_hash(group), index))
    }

    /// Which shard this worker is.
    pub(super) fn of_worker(&self, worker: WorkerId) -> Option<(usize, u32)> {
        let within =
            |group: &Group| worker.0.checked_sub(group.first.0).filter(|index| (*index as usize) < group.places.len());
        self.groups.iter().enumerate().find_map(|(at, group)| within(group).map(|index| (at, index)))
    }

    pub(super) fn place(&self, (at, index): (usize, u32)) -> &Place {
        &self.groups[at].places[index as usize]
    }

    pub(super) fn place_mut(&mut self, (at, index): (usize, u32)) -> &mut Place {
        &mut self.groups[at].places[index as usize]
    }

    fn take_over(&mut self, changes: Changes) -> (Vec<Step>, Vec<(usize, u32)>) {
        self.moving.extend(changes.moving);
        (changes.steps, changes.withdrawn)
    }
}

impl Finding<'_> {
    /// How to wait for those who may run a shard still: not at all for those that are no members
    /// any more.
    fn former(&self, mut nodes: Vec<NodeId>) -> Option<Former> {
        nodes.retain(|node| self.table.member(*node).is_some_and(|member| member.status.is_member()));
        let waits = !nodes.is_empty() && self.until > self.now;
        waits.then_some(Former { nodes, number: self.number, ask_at: self.now, until: self.until })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instant;
    use crate::member::{Generation, Incarnation, Member, Metadata, Profile, Role, ShardGroup, Status};

    fn member(name: &str, count: u32) -> Member {
        let profile = Profile {
            name: name.into(),
            address: "127.0.0.1:1".parse().unwrap(),
            role: Role::Worker,
            zone: "".into(),
            metadata: Metadata::new(),
            groups: vec![ShardGroup::new(name_hash("orders"), count)],
            revision: 1,
        };
        let (generation, incarnation) = (Generation(1), Incarnation::default());
        Member { id: NodeId::of(name), profile: profile.into(), generation, incarnation, status: Status::Alive }
    }

    /// Finds the owners anew, with those who `passed`, and plays that whatever is due starts and
    /// whatever stops has stopped. Returns what is told, and which shards start.
    fn settle(
        shards: &mut Shards,
        table: &MemberTable,
        passed: &[(NodeId, Weight)],
        epoch: Epoch,
    ) -> (Vec<Event>, Vec<u32>) {
        let (me, now, until) = (NodeId::of("me"), Instant::ZERO, Instant::ZERO);
        let finding = Finding { me, table, passed, epoch, now, until, number: 1, is_exclusive: false };
        let (steps, _) = shards.settle(&finding);
        let mut started = Vec::new();
        for at in std::mem::take(&mut shards.moving) {
            let place = shards.place_mut(at);
            let is_ours = matches!(place.here, Here::Due(_) | Here::Stops { again: Some(_), .. });
            place.here = if is_ours { Here::Runs(epoch) } else { Here::No };
            started.extend(is_ours.then_some(at.1));
        }
        let told = |step| match step {
            Step::Tell(event) => Some(event),
            Step::Stop { .. } => None,
        };
        (steps.into_iter().filter_map(told).collect(), started)
    }

    #[test]
    fn an_owner_nobody_saw_come_and_go_makes_its_shards_ours_anew() {
        let (me, other) = (NodeId::of("me"), NodeId::of("other"));
        let table = MemberTable::new(member("me", 20), Instant::ZERO);
        let mut shards = Shards::default();
        shards.add("orders".into(), WorkerId(0), 20);
        assert_eq!(settle(&mut shards, &table, &[], Epoch(5)).1.len(), 20);
        assert_eq!(settle(&mut shards, &table, &[], Epoch(6)), (vec![], vec![]));
        let (_, anew) = settle(&mut shards, &table, &[(other, Weight::default())], Epoch(7));
        let expected: Vec<u32> = (0..20)
            .filter(|&index| {
                let both = [me, other].map(|node| (node, Weight::default()));
                rendezvous::owner(name_hash("orders"), index, both.into_iter()) == Some(other)
            })
            .collect();
        assert_eq!(anew, expected);
        assert!(anew.iter().all(|&index| shards.owner("orders", index) == Some((me, Epoch(7)))));
        assert!((1..20).contains(&anew.len()));
    }

    #[test]
    fn another_number_of_shards_than_that_in_force_owns_nothing_until_it_is_in_force() {
        let told = |events: &[Event]| {
            let concerns_number =
                |event: &&Event| matches!(event, Event::ShardsRefused { .. } | Event::ShardsAdmitted { .. });
            events.iter().filter(concerns_number).cloned().collect::<Vec<_>>()
        };
        let mut table = MemberTable::new(Member { generation: Generation(2), ..member("me", 20) }, Instant::ZERO);
        let mut shards = Shards::default();
        shards.add("orders".into(), WorkerId(0), 20);
        assert_eq!(settle(&mut shards, &table, &[], Epoch(5)).1.len(), 20);
        table.recall(Instant::ZERO, &member("other", 30));
        let (events, started) = settle(&mut shards, &table, &[], Epoch(6));
        let (group, by) = (Arc::from("orders"), Arc::from("other"));
        assert_eq!(told(&events), [Event::ShardsRefused { group, count: 20, in_force: 30, by }]);
        assert!(started.is_empty() && !shards.groups()[0].runs_any());
        assert_eq!(settle(&mut shards, &table, &[], Epoch(7)), (vec![], vec![]), "it is said once");
        assert!(table.judge(Instant::ZERO, NodeId::of("other"), Status::Dead).is_some());
        let (events, started) = settle(&mut shards, &table, &[], Epoch(8));
        assert_eq!(told(&events), [Event::ShardsAdmitted { group: "orders".into(), count: 20 }]);
        assert_eq!(started.len(), 20);
    }

    #[test]
    fn what_is_taken_from_a_member_waits_for_it_and_what_is_taken_from_the_dead_does_not() {
        let other = NodeId::of("other");
        let mut table = MemberTable::new(member("me", 20), Instant::ZERO);
        table.recall(Instant::ZERO, &member("other", 20));
        let mut shards = Shards::default();
        shards.add("orders".into(), WorkerId(0), 20);
        let (me, until) = (NodeId::of("me"), Instant::from_millis(2_000));
        let find = |shards: &mut Shards, table: &MemberTable| {
            let (now, epoch) = (Instant::ZERO, Epoch(5));
            let finding = Finding { me, table, passed: &[], epoch, now, until, number: 7, is_exclusive: false };
            shards.settle(&finding);
            let formers = |at: &(usize, u32)| match &shards.place(*at).here {
                Here::Due(due) => Some(due.from.clone()),
                Here::No | Here::Runs(_) | Here::Stops { .. } => None,
            };
            shards.moving.iter().filter_map(formers).collect::<Vec<_>>()
        };
        let formers = find(&mut shards, &table);
        let expected = Former { nodes: vec![other], number: 7, ask_at: Instant::ZERO, until };
        assert!(!formers.is_empty() && formers.len() < 20);
        assert!(formers.iter().all(|former| former.as_ref() == Some(&expected)));
        assert!(table.judge(Instant::ZERO, other, Status::Dead).is_some());
        let formers = find(&mut shards, &table);
        assert_eq!(formers.len(), 20);
        assert!(formers.iter().filter(|former| former.is_none()).count() > 0);
    }
}
