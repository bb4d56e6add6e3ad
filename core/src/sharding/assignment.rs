//! `Assignment`: the owner of each shard by this node's view, and how far this node's own shards
//! are on their way.
//!
//! All nodes with the same view compute the same owners (`rendezvous`), so no node has to be told
//! what to run. When its view changes, each node recomputes the owners, gives up the shards that it
//! lost and takes over the shards that it gained:
//!
//! - A shard that is given up stops first.
//! - A shard that is taken over waits for its previous owners, for the authority if there is one,
//!   and for a start slot.
//!
//! `decide` says what a view means for one shard; it changes nothing. The rest carries that out.
//!
//! This module does not detect that a view is incomplete: its caller passes complete views only.
//! Two nodes that each know another half of the members would both name themselves the owner. While
//! news of a change travel, that still happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::event::Event;
use crate::member::{Epoch, NodeId, Shard, ShardKey, Weight, WorkerId, name_hash};
use crate::membership::table::MemberTable;
use crate::sharding::rendezvous;
use crate::sharding::routes::ShardGroupLayout;
use crate::time::Instant;

/// A shard of this process: the position of its group in [`Assignment`], and its index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct ShardRef {
    pub(super) group: usize,
    pub(super) index: u32,
}

/// The sharded groups of this node.
#[derive(Clone, Debug, Default)]
pub(super) struct Assignment {
    groups: Vec<LocalGroup>,
    /// Shards that are being given up or taken over.
    pub(super) in_transition: BTreeSet<ShardRef>,
}

/// A sharded group that this node supervises.
#[derive(Clone, Debug)]
pub(super) struct LocalGroup {
    pub(super) name: Arc<str>,
    pub(super) hash: u64,
    /// The worker of shard 0; those of the others follow.
    first: WorkerId,
    /// By index.
    shards: Vec<ShardState>,
    /// The number of shards in force, while it is another one than this node's.
    other_count: Option<u32>,
}

/// One shard, as this node knows it.
#[derive(Clone, Debug, Default)]
pub(super) struct ShardState {
    /// Its owner by the view, and the logical clock at which that began.
    pub(super) owner: Option<(NodeId, Epoch)>,
    /// Its owner before that one.
    former_owner: Option<NodeId>,
    pub(super) local: LocalState,
    /// The node that waits until the shard does not run here, and the number of its request.
    pub(super) requested_by: Option<(NodeId, u32)>,
    /// It was given up to another node, which has not yet requested its snapshot: until when that
    /// request is expected. It may never come. Two nodes that supervise a group in the same instant
    /// each start all its shards; when they learn of each other, each gives up shards that the
    /// other runs already.
    pub(super) handover_until: Option<Instant>,
    /// The highest epoch that it has had here.
    pub(super) epoch_max: Epoch,
    /// It ran here when it was last given up for want of a lease, and has not been started here
    /// since.
    pub(super) was_ours: bool,
}

impl ShardState {
    /// Whether a node is one that may have a snapshot of this shard: its owner, the one before it,
    /// or one that this node has asked under this number.
    pub(super) fn may_have_snapshot(&self, node: NodeId, number: u32) -> bool {
        let was_asked = match &self.local {
            LocalState::Pending(Pending { previous: Some(previous), .. }) => {
                previous.number == number && previous.nodes.contains(&node)
            }
            LocalState::Pending(_) | LocalState::NotOwned | LocalState::Running(_) | LocalState::Stopping { .. } => {
                false
            }
        };
        was_asked || self.former_owner == Some(node) || self.owner.is_some_and(|(owner, _)| owner == node)
    }
}

/// How far a shard is on its way.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum LocalState {
    /// This node does not own it.
    #[default]
    NotOwned,
    /// This node owns it by its view, and has not started it yet.
    Pending(Pending),
    /// This node has started it, under this epoch.
    Running(Epoch),
    /// This node is stopping it. If the node owns it all the same by then, it goes on as `resume`
    /// says.
    Stopping { epoch: Epoch, resume: Option<Pending> },
}

/// What an owned shard waits for before it may start.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pending {
    /// The nodes that may still run it.
    pub(super) previous: Option<PreviousOwners>,
    pub(super) claim: ClaimState,
}

/// The nodes that may still run a shard.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PreviousOwners {
    /// The nodes that have not yet answered that they do not run it. Never empty.
    pub(super) nodes: Vec<NodeId>,
    /// The number of the request to them.
    pub(super) number: u32,
    /// When they are asked again.
    pub(super) ask_at: Instant,
    /// When the new owner stops waiting for them.
    pub(super) until: Instant,
}

/// How far the claim of a shard at the authority is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClaimState {
    /// It is to be sent at this instant.
    DueAt(Instant),
    Sent,
    Granted(Epoch),
}

/// What a change of owners asks of this node.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Action {
    Stop { worker: WorkerId },
    Emit(Event),
}

/// What follows from a new view, for all shards.
#[derive(Default)]
pub(super) struct Changes {
    /// In the order in which they are to be carried out.
    pub(super) actions: Vec<Action>,
    /// Shards that were waiting to start and are not this node's any more. The authority may have
    /// granted them.
    pub(super) withdrawn: Vec<ShardRef>,
    in_transition: Vec<ShardRef>,
}

/// The facts from which owners are recomputed.
pub(super) struct PlacementInput<'a> {
    pub(super) me: NodeId,
    pub(super) table: &'a MemberTable,
    /// Nodes that became members and ceased to be members between the last view and this one. A
    /// shard that one of them would have owned has had another owner meanwhile, under an epoch
    /// between the last one here and `epoch`. If this node still owns it, it starts it anew.
    pub(super) transient_owners: &'a [(NodeId, Weight)],
    /// The logical clock, as an epoch.
    pub(super) epoch: Epoch,
    pub(super) now: Instant,
    /// How long previous owners are waited for.
    pub(super) until: Instant,
    /// The number of the requests to them.
    pub(super) number: u32,
    /// Until when the new owner of a shard that is given up is expected to request it.
    pub(super) handover_until: Instant,
    /// Whether a shard may start only after all other members have answered that they do not run
    /// it.
    pub(super) is_exclusive: bool,
}

/// What a view means for one shard.
#[derive(Clone, PartialEq, Debug)]
enum OwnerChange {
    None,
    /// Another node owns it, or none does.
    Elsewhere(Option<NodeId>),
    /// This node owns it anew, and waits for this before the start.
    Here(Pending),
}

/// Decides what a view means for one shard. Changes nothing.
fn decide(state: &ShardState, key: ShardKey, layout: &ShardGroupLayout, input: &PlacementInput<'_>) -> OwnerChange {
    let members = || layout.owners_of(key.index);
    let owner = rendezvous::owner(key.group, key.index, members());
    let transient = input.transient_owners.iter().copied();
    let owner_among_all = rendezvous::owner(key.group, key.index, members().chain(transient));
    let before = state.owner.map(|(node, _)| node);
    if owner == before && owner == owner_among_all {
        return OwnerChange::None;
    }
    if owner != Some(input.me) {
        return OwnerChange::Elsewhere(owner);
    }
    let previous = match before {
        // A node that stopped late may have owned it before those that this node saw.
        _ if input.is_exclusive => input.table.others().to_vec(),
        Some(node) if node == input.me => Vec::new(),
        Some(node) => vec![node],
        // This node has seen no owner: the owner would be the one without this node.
        None => successor(layout, key, input.me).into_iter().collect(),
    };
    OwnerChange::Here(Pending::after(input.waiting_for(previous)))
}

/// The member that would own a shard without its owner.
pub(super) fn successor(layout: &ShardGroupLayout, key: ShardKey, owner: NodeId) -> Option<NodeId> {
    rendezvous::owner(key.group, key.index, layout.owners_of(key.index).filter(|(node, _)| *node != owner))
}

impl Pending {
    /// Waits for these nodes, and claims the shard at once.
    fn after(previous: Option<PreviousOwners>) -> Pending {
        Pending { previous, claim: ClaimState::DueAt(Instant::ZERO) }
    }
}

impl PlacementInput<'_> {
    /// How to wait for nodes that may still run a shard. Nodes that are no members any more are not
    /// waited for.
    fn waiting_for(&self, mut nodes: Vec<NodeId>) -> Option<PreviousOwners> {
        nodes.retain(|node| self.table.member(*node).is_some_and(|member| member.status.is_member()));
        let waits = !nodes.is_empty() && self.until > self.now;
        waits.then_some(PreviousOwners { nodes, number: self.number, ask_at: self.now, until: self.until })
    }
}

impl Assignment {
    /// Adds a group whose shard `i` is worker `first + i`.
    pub(super) fn add(&mut self, name: Arc<str>, first: WorkerId, count: u32) {
        let (hash, shards) = (name_hash(&name), vec![ShardState::default(); count as usize]);
        self.groups.push(LocalGroup { name, hash, first, shards, other_count: None });
    }

    /// Recomputes the owners from a complete view.
    pub(super) fn recompute_owners(&mut self, input: &PlacementInput<'_>) -> Changes {
        let mut changes = Changes::default();
        for (at, group) in self.groups.iter_mut().enumerate() {
            let layout = group.update_layout(input.table, &mut changes);
            for index in 0..group.count() {
                let change = decide(&group.shards[index as usize], group.key(index), &layout, input);
                group.change_owner(ShardRef { group: at, index }, change, input, &mut changes);
            }
        }
        self.note(changes)
    }

    /// Gives up the shards that another member owns by now, or none, and takes over none.
    pub(super) fn release_lost(&mut self, me: NodeId, table: &MemberTable) -> Changes {
        let mut changes = Changes::default();
        for (at, group) in self.groups.iter_mut().enumerate() {
            let layout = group.update_layout(table, &mut changes);
            let hash = group.hash;
            let is_lost = |index| rendezvous::owner(hash, index, layout.owners_of(index)) != Some(me);
            group.give_up(at, me, table, is_lost, &mut changes);
        }
        self.note(changes)
    }

    /// Gives up all shards of `me`: this node was declared dead or its lease is over, so another
    /// node may own them by now.
    pub(super) fn revoke_all(&mut self, me: NodeId, table: &MemberTable) -> Changes {
        let mut changes = Changes::default();
        for (at, group) in self.groups.iter_mut().enumerate() {
            group.give_up(at, me, table, |_| true, &mut changes);
        }
        self.note(changes)
    }

    /// Takes over all shards that have no owner yet: without a cluster, each of them runs here.
    pub(super) fn own_all(&mut self, epoch: Epoch) {
        const HERE: NodeId = NodeId(0);
        for (group, local) in self.groups.iter_mut().enumerate() {
            for (index, state) in (0..).zip(&mut local.shards) {
                if state.owner.is_none() {
                    (state.owner, state.local) = (Some((HERE, epoch)), LocalState::Pending(Pending::after(None)));
                    self.in_transition.insert(ShardRef { group, index });
                }
            }
        }
    }

    /// The owner of a shard of the group with this name, and the epoch at which that began; `None`
    /// if no member owns it or this node has no such shard.
    pub(super) fn owner(&self, group: &str, index: u32) -> Option<(NodeId, Epoch)> {
        self.groups.iter().find(|candidate| *candidate.name == *group)?.shard(index)?.owner
    }

    pub(super) fn group(&self, at: usize) -> &LocalGroup {
        &self.groups[at]
    }

    pub(super) fn groups(&self) -> &[LocalGroup] {
        &self.groups
    }

    /// The shard with this key, if it is of this node's groups.
    pub(super) fn find(&self, key: ShardKey) -> Option<ShardRef> {
        let group = self.groups.iter().position(|group| group.hash == key.group)?;
        self.groups[group].shard(key.index).map(|_| ShardRef { group, index: key.index })
    }

    /// The shard of the group with this name.
    pub(super) fn find_named(&self, group: &str, index: u32) -> Option<ShardRef> {
        self.find(ShardKey { group: name_hash(group), index })
    }

    /// The shard that this worker is.
    pub(super) fn find_worker(&self, worker: WorkerId) -> Option<ShardRef> {
        let index_in = |group: &LocalGroup| worker.0.checked_sub(group.first.0).filter(|index| *index < group.count());
        self.groups.iter().enumerate().find_map(|(at, group)| Some(ShardRef { group: at, index: index_in(group)? }))
    }

    pub(super) fn key(&self, at: ShardRef) -> ShardKey {
        self.groups[at.group].key(at.index)
    }

    pub(super) fn worker(&self, at: ShardRef) -> WorkerId {
        self.groups[at.group].worker(at.index)
    }

    pub(super) fn shard(&self, at: ShardRef) -> &ShardState {
        &self.groups[at.group].shards[at.index as usize]
    }

    pub(super) fn shard_mut(&mut self, at: ShardRef) -> &mut ShardState {
        &mut self.groups[at.group].shards[at.index as usize]
    }

    /// Notes which shards are on their way now.
    fn note(&mut self, mut changes: Changes) -> Changes {
        self.in_transition.extend(changes.in_transition.drain(..));
        changes
    }
}

impl LocalGroup {
    /// The members that may own its shards: none while another number of shards is in force. Adds
    /// an event when that begins and when it ends.
    fn update_layout(&mut self, table: &MemberTable, changes: &mut Changes) -> ShardGroupLayout {
        let count = self.count();
        let layout = ShardGroupLayout::among(table.members(), self.hash);
        let other = layout.as_ref().filter(|layout| layout.count != count);
        if other.map(|layout| layout.count) != self.other_count {
            self.other_count = other.map(|layout| layout.count);
            let group = self.name.clone();
            let by = other.and_then(|layout| table.member(layout.decided_by)).map(|member| member.name.clone());
            changes.actions.push(Action::Emit(match (self.other_count, by) {
                (Some(in_force), Some(by)) => Event::ShardsRefused { group, count, in_force, by },
                (Some(_), None) | (None, _) => Event::ShardsAdmitted { group, count },
            }));
        }
        let none = ShardGroupLayout { count, decided_by: NodeId(0), owners: Vec::new(), declined: BTreeMap::new() };
        layout.filter(|layout| layout.count == count).unwrap_or(none)
    }

    /// Carries out what was decided for one shard.
    fn change_owner(&mut self, at: ShardRef, change: OwnerChange, input: &PlacementInput<'_>, changes: &mut Changes) {
        let (to, pending) = match change {
            OwnerChange::None => return,
            OwnerChange::Elsewhere(to) => (to, None),
            OwnerChange::Here(pending) => (Some(input.me), Some(pending)),
        };
        let (worker, index) = (self.worker(at.index), at.index);
        let state = &mut self.shards[index as usize];
        let from = state.owner.map(|(node, _)| node);
        state.former_owner = from.or(state.former_owner);
        state.owner = to.map(|node| (node, input.epoch));
        let name_of = |id: NodeId| input.table.member(id).map(|member| member.name.clone());
        changes.actions.push(Action::Emit(Event::ShardMoved {
            group: self.name.clone(),
            shard: Shard { index, epoch: input.epoch },
            from: from.and_then(name_of),
            to: to.and_then(name_of),
        }));
        match pending {
            Some(pending) => state.take_over(worker, at, pending, changes),
            None => {
                let handover_until = to.map(|_| input.handover_until);
                state.give_up(worker, at, handover_until, changes);
            }
        }
    }

    /// Gives up this node's shards of which `is_lost` holds.
    fn give_up(
        &mut self,
        group: usize,
        me: NodeId,
        table: &MemberTable,
        is_lost: impl Fn(u32) -> bool,
        changes: &mut Changes,
    ) {
        let from = table.member(me).map(|member| member.name.clone());
        for (index, state) in (0..).zip(&mut self.shards) {
            if let Some((_, epoch)) = state.owner.take_if(|(node, _)| *node == me && is_lost(index)) {
                let (group, shard) = (self.name.clone(), Shard { index, epoch });
                changes.actions.push(Action::Emit(Event::ShardMoved { group, shard, from: from.clone(), to: None }));
            }
            if is_lost(index) {
                state.was_ours |= matches!(state.local, LocalState::Running(_));
                state.give_up(WorkerId(self.first.0 + index), ShardRef { group, index }, None, changes);
            }
        }
    }

    /// Whether any of its shards runs here.
    pub(super) fn is_any_running(&self) -> bool {
        self.running().next().is_some()
    }

    /// Whether a shard of it has yet to be handed to its new owner, where that is a member.
    pub(super) fn is_handover_pending(&self, now: Instant, is_member: impl Fn(NodeId) -> bool) -> bool {
        self.shards.iter().any(|state| state.is_handover_pending(now, &is_member))
    }

    /// How many of its shards run here, are on their way, or have yet to be handed to a member.
    pub(super) fn unfinished(&self, now: Instant, is_member: impl Fn(NodeId) -> bool) -> usize {
        let is_unfinished =
            |state: &&ShardState| state.local != LocalState::NotOwned || state.is_handover_pending(now, &is_member);
        self.shards.iter().filter(is_unfinished).count()
    }

    /// The shards of it that run here.
    pub(super) fn running(&self) -> impl Iterator<Item = u32> {
        let is_running = |state: &ShardState| matches!(state.local, LocalState::Running(_));
        (0..).zip(&self.shards).filter_map(move |(index, state)| is_running(state).then_some(index))
    }

    pub(super) fn shard(&self, index: u32) -> Option<&ShardState> {
        self.shards.get(index as usize)
    }

    pub(super) fn worker(&self, index: u32) -> WorkerId {
        WorkerId(self.first.0 + index)
    }

    pub(super) fn key(&self, index: u32) -> ShardKey {
        ShardKey { group: self.hash, index }
    }

    fn count(&self) -> u32 {
        self.shards.len() as u32
    }
}

impl ShardState {
    /// The epoch under which it runs here, until it has stopped.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        match self.local {
            LocalState::Running(epoch) | LocalState::Stopping { epoch, .. } => Some(epoch),
            LocalState::NotOwned | LocalState::Pending(_) => None,
        }
    }

    /// At `handover_until` itself the request is still expected.
    fn is_handover_pending(&self, now: Instant, is_member: impl Fn(NodeId) -> bool) -> bool {
        self.handover_until.is_some_and(|until| now <= until) && self.owner.is_some_and(|(owner, _)| is_member(owner))
    }

    /// This node owns it from now on, or owns it anew.
    fn take_over(&mut self, worker: WorkerId, at: ShardRef, pending: Pending, changes: &mut Changes) {
        changes.in_transition.push(at);
        self.local = match self.local {
            LocalState::NotOwned | LocalState::Pending(_) => LocalState::Pending(pending),
            LocalState::Stopping { epoch, .. } => LocalState::Stopping { epoch, resume: Some(pending) },
            LocalState::Running(epoch) => {
                changes.actions.push(Action::Stop { worker });
                LocalState::Stopping { epoch, resume: Some(pending) }
            }
        };
    }

    /// This node does not own it any more.
    fn give_up(&mut self, worker: WorkerId, at: ShardRef, handover_until: Option<Instant>, changes: &mut Changes) {
        match self.local {
            LocalState::NotOwned => {}
            LocalState::Pending(_) => {
                self.local = LocalState::NotOwned;
                changes.in_transition.push(at);
                changes.withdrawn.push(at);
            }
            LocalState::Running(epoch) => {
                self.local = LocalState::Stopping { epoch, resume: None };
                self.handover_until = handover_until;
                changes.in_transition.push(at);
                changes.actions.push(Action::Stop { worker });
            }
            LocalState::Stopping { epoch, .. } => self.local = LocalState::Stopping { epoch, resume: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instant;
    use crate::member::Status;
    use crate::member::{Generation, Member, Profile, ShardGroup};

    fn member(name: &str, count: u32) -> Member {
        let groups = vec![ShardGroup::new(name_hash("orders"), count)];
        let profile = Profile { groups, ..Profile::new(name, "127.0.0.1:1".parse().unwrap()) };
        Member::new(profile, Generation(1))
    }

    /// Recomputes the owners, then starts the pending shards and stops the stopping ones. Returns
    /// the events, and the shards that start.
    fn settle(
        assignment: &mut Assignment,
        table: &MemberTable,
        transient_owners: &[(NodeId, Weight)],
        epoch: Epoch,
    ) -> (Vec<Event>, Vec<u32>) {
        let (me, now, until) = (NodeId::of("me"), Instant::ZERO, Instant::ZERO);
        let input = PlacementInput {
            me,
            table,
            transient_owners,
            epoch,
            now,
            until,
            number: 1,
            handover_until: until,
            is_exclusive: false,
        };
        let actions = assignment.recompute_owners(&input).actions;
        let mut started = Vec::new();
        for at in std::mem::take(&mut assignment.in_transition) {
            let shard = assignment.shard_mut(at);
            let is_ours = matches!(shard.local, LocalState::Pending(_) | LocalState::Stopping { resume: Some(_), .. });
            shard.local = if is_ours { LocalState::Running(epoch) } else { LocalState::NotOwned };
            started.extend(is_ours.then_some(at.index));
        }
        let told = |action| match action {
            Action::Emit(event) => Some(event),
            Action::Stop { .. } => None,
        };
        (actions.into_iter().filter_map(told).collect(), started)
    }

    #[test]
    fn shards_of_an_unseen_owner_start_anew_under_a_higher_epoch() {
        let (me, other) = (NodeId::of("me"), NodeId::of("other"));
        let table = MemberTable::new(member("me", 20), Instant::ZERO);
        let mut assignment = Assignment::default();
        assignment.add("orders".into(), WorkerId(0), 20);
        assert_eq!(settle(&mut assignment, &table, &[], Epoch(5)).1.len(), 20);
        assert_eq!(settle(&mut assignment, &table, &[], Epoch(6)), (vec![], vec![]));
        let (_, anew) = settle(&mut assignment, &table, &[(other, Weight::default())], Epoch(7));
        let expected: Vec<u32> = (0..20)
            .filter(|&index| {
                let both = [me, other].map(|node| (node, Weight::default()));
                rendezvous::owner(name_hash("orders"), index, both.into_iter()) == Some(other)
            })
            .collect();
        assert_eq!(anew, expected);
        assert!(anew.iter().all(|&index| assignment.owner("orders", index) == Some((me, Epoch(7)))));
        assert!((1..20).contains(&anew.len()));
    }

    #[test]
    fn a_node_with_a_count_that_is_not_in_force_owns_nothing() {
        let told = |events: &[Event]| {
            let concerns_number =
                |event: &&Event| matches!(event, Event::ShardsRefused { .. } | Event::ShardsAdmitted { .. });
            events.iter().filter(concerns_number).cloned().collect::<Vec<_>>()
        };
        let mut table = MemberTable::new(Member { generation: Generation(2), ..member("me", 20) }, Instant::ZERO);
        let mut assignment = Assignment::default();
        assignment.add("orders".into(), WorkerId(0), 20);
        assert_eq!(settle(&mut assignment, &table, &[], Epoch(5)).1.len(), 20);
        table.preload(Instant::ZERO, &member("other", 30));
        let (events, started) = settle(&mut assignment, &table, &[], Epoch(6));
        let (group, by) = (Arc::from("orders"), Arc::from("other"));
        assert_eq!(told(&events), [Event::ShardsRefused { group, count: 20, in_force: 30, by }]);
        assert!(started.is_empty() && !assignment.groups()[0].is_any_running());
        assert_eq!(settle(&mut assignment, &table, &[], Epoch(7)), (vec![], vec![]), "the event is emitted once");
        assert!(table.set_status(Instant::ZERO, NodeId::of("other"), Status::Dead).is_some());
        let (events, started) = settle(&mut assignment, &table, &[], Epoch(8));
        assert_eq!(told(&events), [Event::ShardsAdmitted { group: "orders".into(), count: 20 }]);
        assert_eq!(started.len(), 20);
    }

    #[test]
    fn a_shard_of_a_member_waits_for_it_one_of_the_dead_does_not() {
        let other = NodeId::of("other");
        let mut table = MemberTable::new(member("me", 20), Instant::ZERO);
        table.preload(Instant::ZERO, &member("other", 20));
        let mut assignment = Assignment::default();
        assignment.add("orders".into(), WorkerId(0), 20);
        let (me, until) = (NodeId::of("me"), Instant::from_millis(2_000));
        let find = |assignment: &mut Assignment, table: &MemberTable| {
            let (now, epoch) = (Instant::ZERO, Epoch(5));
            let input = PlacementInput {
                me,
                table,
                transient_owners: &[],
                epoch,
                now,
                until,
                number: 7,
                handover_until: until,
                is_exclusive: false,
            };
            assignment.recompute_owners(&input);
            let previous = |at: &ShardRef| match &assignment.shard(*at).local {
                LocalState::Pending(pending) => Some(pending.previous.clone()),
                LocalState::NotOwned | LocalState::Running(_) | LocalState::Stopping { .. } => None,
            };
            assignment.in_transition.iter().filter_map(previous).collect::<Vec<_>>()
        };
        let previous = find(&mut assignment, &table);
        let expected = PreviousOwners { nodes: vec![other], number: 7, ask_at: Instant::ZERO, until };
        assert!(!previous.is_empty() && previous.len() < 20);
        assert!(previous.iter().all(|previous| previous.as_ref() == Some(&expected)));
        assert!(table.set_status(Instant::ZERO, other, Status::Dead).is_some());
        let previous = find(&mut assignment, &table);
        assert_eq!(previous.len(), 20);
        assert!(previous.iter().filter(|previous| previous.is_none()).count() > 0);
    }

    const ME: &str = "me";

    fn both() -> MemberTable {
        let mut table = MemberTable::new(member(ME, 20), Instant::ZERO);
        table.preload(Instant::ZERO, &member("other", 20));
        table
    }

    fn input(table: &MemberTable, now_ms: u64) -> PlacementInput<'_> {
        let now = Instant::from_millis(now_ms);
        let until = Instant::from_millis(now_ms + 2_000);
        let (me, transient_owners) = (NodeId::of(ME), &[][..]);
        let (epoch, number, handover_until) = (Epoch(5), 7, until);
        PlacementInput { me, table, transient_owners, epoch, now, until, number, handover_until, is_exclusive: false }
    }

    /// Checks the decision for shard 0 of two members, when `before` owned it by the last view.
    #[track_caller]
    fn check(before: Option<&str>, owner: &str, is_exclusive: bool, waits_for: Option<&[&str]>) {
        let table = both();
        let layout = ShardGroupLayout::among(table.members(), name_hash("orders")).unwrap();
        let group = name_hash("orders");
        let owns = |index: &u32| rendezvous::owner(group, *index, layout.owners_of(*index)) == Some(NodeId::of(owner));
        let key = ShardKey { group, index: (0..20).find(owns).unwrap() };
        let state = ShardState { owner: before.map(|name| (NodeId::of(name), Epoch(1))), ..ShardState::default() };
        let change = decide(&state, key, &layout, &PlacementInput { is_exclusive, ..input(&table, 0) });
        let nodes = |pending: Pending| pending.previous.map_or(Vec::new(), |previous| previous.nodes);
        let actual = match change {
            OwnerChange::Here(pending) => Some(nodes(pending)),
            OwnerChange::Elsewhere(to) => {
                assert_eq!(to, Some(NodeId::of(owner)));
                None
            }
            OwnerChange::None => {
                assert_eq!(before, Some(owner));
                None
            }
        };
        assert_eq!(actual, waits_for.map(|names| names.iter().map(|name| NodeId::of(name)).collect::<Vec<_>>()));
    }

    #[test]
    fn a_new_owner_waits_for_the_last_one_that_it_saw() {
        check(Some(ME), ME, false, None);
        check(Some("other"), ME, false, Some(&["other"]));
        check(Some("gone"), ME, false, Some(&[]));
        check(None, ME, false, Some(&["other"]));
        check(Some(ME), "other", false, None);
        check(None, "other", false, None);
    }

    #[test]
    fn with_a_quorum_a_new_owner_waits_for_all_other_members() {
        check(Some("gone"), ME, true, Some(&["other"]));
        check(None, ME, true, Some(&["other"]));
        check(Some(ME), ME, true, None);
    }

    /// Two nodes that supervise a group in the same instant each run all its shards, so neither
    /// requests a shard from the other. Before there was a time, this stayed pending, and a later
    /// leave waited for the whole of `ownership.hand_over_timeout`.
    #[test]
    fn a_handover_that_is_never_requested_ends() {
        let alone = MemberTable::new(member(ME, 20), Instant::ZERO);
        let mut assignment = Assignment::default();
        assignment.add("orders".into(), WorkerId(0), 20);
        settle(&mut assignment, &alone, &[], Epoch(5));
        assignment.recompute_owners(&input(&both(), 1_000));
        let stopping = std::mem::take(&mut assignment.in_transition);
        assert!((1..20).contains(&stopping.len()));
        for &at in &stopping {
            assignment.shard_mut(at).local = LocalState::NotOwned;
        }
        let is_pending = |now_ns| assignment.groups()[0].is_handover_pending(Instant::from_nanos(now_ns), |_| true);
        assert!(is_pending(1_000_000_000) && is_pending(3_000_000_000), "at its end it is pending");
        assert!(!is_pending(3_000_000_001));
        let count = |now_ms| assignment.groups()[0].unfinished(Instant::from_millis(now_ms), |_| true);
        assert_eq!(count(3_000) - count(3_001), stopping.len());
        assert!(!assignment.groups()[0].is_handover_pending(Instant::from_millis(1_000), |_| false), "no member");
    }

    #[test]
    fn a_node_that_is_revoked_stops_all_and_owes_nothing() {
        let mut assignment = Assignment::default();
        assignment.add("orders".into(), WorkerId(3), 20);
        let alone = MemberTable::new(member(ME, 20), Instant::ZERO);
        settle(&mut assignment, &alone, &[], Epoch(5));
        let changes = assignment.revoke_all(NodeId::of(ME), &alone);
        let stops = |action: &&Action| matches!(action, Action::Stop { .. });
        assert_eq!(changes.actions.iter().filter(stops).count(), 20);
        assert!(changes.withdrawn.is_empty());
        assert!((0..20).all(|index| assignment.shard(ShardRef { group: 0, index }).was_ours));
        assert!(!assignment.groups()[0].is_handover_pending(Instant::ZERO, |_| true));
    }

    #[test]
    fn a_pending_shard_that_is_lost_is_withdrawn_and_not_stopped() {
        let mut assignment = Assignment::default();
        assignment.add("orders".into(), WorkerId(0), 20);
        let alone = MemberTable::new(member(ME, 20), Instant::ZERO);
        assignment.recompute_owners(&input(&alone, 0));
        let table = both();
        let changes = assignment.release_lost(NodeId::of(ME), &table);
        assert!((1..20).contains(&changes.withdrawn.len()));
        assert!(
            changes.actions.iter().all(|action| matches!(action, Action::Emit(Event::ShardMoved { to: None, .. })))
        );
        assert_eq!(changes.actions.len(), changes.withdrawn.len());
    }

    #[test]
    fn a_shard_is_found_by_key_name_and_worker_and_not_past_its_end() {
        let mut assignment = Assignment::default();
        assignment.add("orders".into(), WorkerId(0), 2);
        assignment.add("users".into(), WorkerId(2), 3);
        let last = ShardRef { group: 1, index: 2 };
        assert_eq!(assignment.find_worker(WorkerId(4)), Some(last));
        assert_eq!(assignment.find_worker(WorkerId(5)), None);
        assert_eq!(assignment.find_named("users", 2), Some(last));
        assert_eq!(assignment.find_named("users", 3), None);
        assert_eq!(assignment.find(assignment.key(last)), Some(last));
        assert_eq!(assignment.worker(last), WorkerId(4));
    }
}
