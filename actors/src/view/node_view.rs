//! `View`: the tables behind the answers, written by the supervisor only.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, RwLock, Weak};

use dashmap::DashMap;
use heartbeat_core::member::{CommonVersion, name_hash};
use heartbeat_core::sharding::rendezvous;
use heartbeat_core::{Event, Generation, Instant, Member, NodeId, Routes, Shard, Status, WorkerId};
use tracing::debug;

use crate::lock::{read, write};
#[cfg(feature = "http")]
use crate::view::event_log::EventLog;
use crate::view::owner::{NoOwner, Owner};
use crate::view::subscribe::{ShardOwner, ViewSnapshot};
#[cfg(feature = "http")]
use crate::view::times::Times;
use crate::view::{GroupView, WorkerState, WorkerView};
use crate::worker::mailbox::MessageCounts;
use crate::worker::slot::DynSlot;

/// Workers that are looked at together: their touches are more than a processor keeps under way.
#[cfg(feature = "http")]
const LOOK_AHEAD: usize = 32;

/// What a node knows, for many readers at once.
#[derive(Debug, Default)]
pub struct View {
    /// This node, if it is in a cluster.
    me: Option<NodeId>,
    /// Whether it was let in, or there is nothing to be let in to.
    joined: AtomicBool,
    members: DashMap<NodeId, Member>,
    /// How often the members have changed.
    changes: AtomicU64,
    /// Who is responsible for keys, after how many changes of the members.
    routes: RwLock<(u64, Routes)>,
    shards: DashMap<Arc<str>, Arc<ShardOwners>>,
    workers: DashMap<Arc<str>, WorkerEntry>,
    groups: DashMap<Arc<str>, GroupView>,
    /// Threads that a worker holds past its timeout.
    zombies: AtomicU32,
    /// Whether the process is about to stop: it serves still, and wants no new requests.
    draining: AtomicBool,
    /// The slots by the names of their workers, those of removed workers included, for tests that
    /// inject faults. It keeps no slot alive.
    #[cfg(feature = "testkit")]
    slots: DashMap<Arc<str>, Weak<dyn DynSlot>>,
    #[cfg(feature = "http")]
    events: EventLog,
    #[cfg(feature = "http")]
    times: Times,
    /// What became of the messages to workers that were removed, by the type of their actors.
    #[cfg(feature = "http")]
    removed: DashMap<&'static str, MessageCounts>,
}

/// A worker of this node.
#[derive(Debug)]
struct WorkerEntry {
    view: WorkerView,
    /// Where its figures are read. It keeps no slot alive.
    slot: Option<Weak<dyn DynSlot>>,
}

/// A shard under its present epoch and its owner's name, if it has one.
type Owning = Option<(Shard, Arc<str>)>;

/// The owners of a sharded group, by index.
#[derive(Debug)]
pub(crate) struct ShardOwners {
    name_hash: u64,
    /// The number of shards in force, if it is another one; else 0.
    in_force: AtomicU32,
    owners: Box<[RwLock<Owning>]>,
}

impl ShardOwners {
    fn get(&self, index: u32) -> Owning {
        let entry = self.owners.get(index as usize)?;
        read(entry).clone()
    }

    fn set(&self, index: u32, owner: Owning) {
        if let Some(entry) = self.owners.get(index as usize) {
            *write(entry) = owner;
        }
    }

    /// The shard that a key belongs to.
    pub(crate) fn shard_of(&self, key: &[u8]) -> u32 {
        rendezvous::shard_of(rendezvous::key_hash(self.name_hash, key), self.owners.len() as u32)
    }
}

impl View {
    pub(crate) fn new(me: Option<NodeId>) -> View {
        View { me, ..View::default() }
    }

    /// A member by its name.
    pub fn member(&self, name: &str) -> Option<Member> {
        self.members.get(&NodeId::of(name)).map(|entry| entry.value().clone())
    }

    /// Whether a node of this name is a member now: alive, or only suspected.
    pub fn is_member(&self, name: &str) -> bool {
        self.members.get(&NodeId::of(name)).is_some_and(|entry| entry.status.is_member())
    }

    /// The highest version of the wire format that all live members have in common, and which of
    /// them can use no higher one; `None` without a cluster. A node sends in this version once its
    /// table of members is whole.
    pub fn wire_version(&self) -> Option<CommonVersion> {
        CommonVersion::of(self.members().iter())
    }

    /// All members, the dead and departed included as long as they are remembered, in the order of
    /// their names.
    pub fn members(&self) -> Vec<Member> {
        let mut members: Vec<Member> = self.members.iter().map(|entry| entry.value().clone()).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members
    }

    /// The owner of a shard: under which epoch, and the name of the node,
    /// [`LOCAL_NAME`](heartbeat_core::member::LOCAL_NAME) without a cluster; `None` if it has no
    /// owner or this node does not know the group.
    pub fn owner(&self, group: &str, index: u32) -> Option<(Shard, Arc<str>)> {
        self.shards.get(group)?.get(index)
    }

    /// A worker of this node by its name.
    pub fn worker(&self, name: &str) -> Option<WorkerView> {
        self.workers.get(name).map(|entry| self.seen(name, &entry.view))
    }

    /// What became of the messages to a worker of this node, in all its generations.
    pub fn message_counts(&self, name: &str) -> Option<MessageCounts> {
        self.slot(name).map(|slot| slot.message_counts())
    }

    /// A worker as it stands, with where it is if it is a shard.
    fn seen(&self, name: &str, worker: &WorkerView) -> WorkerView {
        WorkerView { state: self.state_seen(name, worker), ..worker.clone() }
    }

    /// Where a worker stands, with where it is if it is a shard.
    fn state_seen(&self, name: &str, worker: &WorkerView) -> WorkerState {
        let is_elsewhere = |me: NodeId| {
            let (group, index) = name.rsplit_once('/')?;
            let shards = self.shards.get(group)?;
            let owner = shards.get(index.parse().ok()?).map(|(_, owner)| NodeId::of(&owner));
            Some(owner != Some(me))
        };
        let is_stopped = worker.state == WorkerState::Stopped;
        if is_stopped && self.me.and_then(is_elsewhere) == Some(true) { WorkerState::Elsewhere } else { worker.state }
    }

    /// The number of a worker of this name.
    pub(crate) fn worker_id(&self, name: &str) -> Option<WorkerId> {
        self.workers.get(name).map(|entry| entry.view.id)
    }

    /// Notes that this generation of a worker is being started.
    pub(crate) fn begin(&self, name: &str, generation: Generation) {
        if let Some(mut entry) = self.workers.get_mut(name) {
            let view = &mut entry.view;
            (view.generation, view.state, view.unready) = (generation, WorkerState::Starting, None);
        }
    }

    /// All workers of this node with their names, in the order of the names.
    pub fn workers(&self) -> Vec<(Arc<str>, WorkerView)> {
        let mut workers: Vec<_> =
            self.workers.iter().map(|entry| (entry.key().clone(), self.seen(entry.key(), &entry.view))).collect();
        workers.sort_by(|a, b| a.0.cmp(&b.0));
        workers
    }

    /// All groups of this node with their names, in the order of the names.
    pub fn groups(&self) -> Vec<(Arc<str>, GroupView)> {
        let mut groups: Vec<_> = self.groups.iter().map(|entry| (entry.key().clone(), entry.value().clone())).collect();
        groups.sort_by(|a, b| a.0.cmp(&b.0));
        groups
    }

    /// A group of this node by its name.
    pub fn group(&self, name: &str) -> Option<GroupView> {
        self.groups.get(name).map(|entry| entry.value().clone())
    }

    /// Everything but the workers, in order.
    pub fn snapshot(&self) -> ViewSnapshot {
        let mut shards: Vec<ShardOwner> = Vec::new();
        for entry in &self.shards {
            let owners = (0..entry.owners.len() as u32).filter_map(|index| entry.get(index));
            shards.extend(owners.map(|(shard, owner)| ShardOwner { group: entry.key().clone(), shard, owner }));
        }
        shards.sort_by(|a, b| (&a.group, a.shard.index).cmp(&(&b.group, b.shard.index)));
        ViewSnapshot { members: self.members(), shards }
    }

    /// Who is responsible for a key.
    pub(crate) fn responsible(&self, namespace: &str, key: &[u8]) -> Result<Owner, NoOwner> {
        let Some(me) = self.me else { return Ok(Owner::Here(())) };
        if let Some(shards) = self.shards.get(namespace) {
            return self.owner_of_shard(&shards, shards.shard_of(key));
        }
        if !self.joined.load(Ordering::Acquire) {
            // It knows itself only, and would take every key for its own.
            return Err(NoOwner::Unknown);
        }
        let answer = |routes: &Routes| match routes.owner(namespace, key) {
            Some(owner) if owner.id == me => Ok(Owner::Here(())),
            Some(owner) if owner.status == Status::Alive => Ok(Owner::There(owner.clone())),
            // Its shard's owner. Other keys are routed away.
            Some(owner) => Err(NoOwner::Suspected(owner.clone())),
            None => Err(NoOwner::Unknown),
        };
        // The writer counts a change after it has made it, so routes computed from half a change
        // are not used again.
        let changes = self.changes.load(Ordering::Acquire);
        let kept = read(&self.routes);
        if kept.0 == changes {
            return answer(&kept.1);
        }
        let routes = Routes::after(&kept.1, self.members.iter().map(|entry| entry.value().clone()));
        drop(kept);
        let found = answer(&routes);
        *write(&self.routes) = (changes, routes);
        found
    }

    /// Who runs this shard of a sharded group.
    pub(crate) fn owner_of_shard(&self, shards: &ShardOwners, index: u32) -> Result<Owner, NoOwner> {
        let Some(me) = self.me else { return Ok(Owner::Here(())) };
        let (_, owner) = shards.get(index).ok_or_else(|| match shards.in_force.load(Ordering::Relaxed) {
            0 => NoOwner::Unknown,
            in_force => NoOwner::ShardsRefused { here: shards.owners.len() as u32, in_force },
        })?;
        let id = NodeId::of(&owner);
        if id == me {
            return Ok(Owner::Here(()));
        }
        let member = self.members.get(&id).map(|entry| entry.value().clone()).ok_or(NoOwner::Unknown)?;
        match member.status {
            Status::Alive => Ok(Owner::There(member)),
            Status::Suspect => Err(NoOwner::Suspected(member)),
            Status::Dead | Status::Left => Err(NoOwner::Unknown),
        }
    }

    /// Whether another node owns this shard, as far as this one knows.
    pub(crate) fn is_elsewhere(&self, shards: &ShardOwners, index: u32) -> bool {
        shards.get(index).is_some_and(|(_, owner)| self.me.is_some_and(|me| NodeId::of(&owner) != me))
    }

    /// Whether this node was let in; see [`Node::is_joined`](crate::Node::is_joined).
    pub(crate) fn is_joined(&self) -> bool {
        self.joined.load(Ordering::Acquire)
    }

    /// Notes whether this node was let in.
    pub(crate) fn set_joined(&self, is_joined: bool) {
        self.joined.store(is_joined, Ordering::Release);
    }

    /// How many sharded groups this node supervises.
    pub(crate) fn sharded_groups(&self) -> usize {
        self.shards.len()
    }

    /// Makes room for the owners of a sharded group.
    pub(crate) fn open_shards(&self, group: &Arc<str>, count: u32) -> Arc<ShardOwners> {
        let owners = (0..count).map(|_| RwLock::default()).collect();
        let shards = Arc::new(ShardOwners { name_hash: name_hash(group), in_force: AtomicU32::new(0), owners });
        self.shards.insert(group.clone(), shards.clone());
        shards
    }

    /// Keeps a name for a group; `false` if it is taken.
    pub(crate) fn take_group_name(&self, name: &Arc<str>, parent: Option<Arc<str>>) -> bool {
        if self.workers.contains_key(name) {
            return false;
        }
        let mut fresh = false;
        self.groups.entry(name.clone()).or_insert_with(|| {
            fresh = true;
            GroupView { parent, ..GroupView::default() }
        });
        fresh
    }

    /// Keeps a name for a worker; `false` if it is taken.
    pub(crate) fn take_name(&self, name: &Arc<str>, id: WorkerId, group: Option<Arc<str>>) -> bool {
        if self.groups.contains_key(name) {
            return false;
        }
        let mut fresh = false;
        self.workers.entry(name.clone()).or_insert_with(|| {
            fresh = true;
            let view = WorkerView {
                id,
                group,
                generation: Generation(0),
                state: WorkerState::Stopped,
                unready: None,
                failures: 0,
                last_cause: None,
            };
            WorkerEntry { view, slot: None }
        });
        fresh
    }

    /// Notes where the figures of a worker are read.
    pub(crate) fn set_slot(&self, slot: &Arc<dyn DynSlot>) {
        #[cfg(feature = "testkit")]
        self.slots.insert(slot.name().clone(), Arc::downgrade(slot));
        if let Some(mut entry) = self.workers.get_mut(slot.name()) {
            entry.slot = Some(Arc::downgrade(slot));
        }
    }

    /// The slot of a worker that may have been removed, as long as an address of it is left.
    #[cfg(feature = "testkit")]
    pub(crate) fn slot_of_any(&self, name: &str) -> Option<Arc<dyn DynSlot>> {
        self.slots.get(name)?.upgrade()
    }

    /// The slot of a worker that was not removed.
    pub(crate) fn slot(&self, name: &str) -> Option<Arc<dyn DynSlot>> {
        self.workers.get(name)?.slot.as_ref()?.upgrade()
    }

    /// Forgets a worker that was removed; its name is free again.
    pub(crate) fn forget_worker(&self, name: &Arc<str>) {
        let _removed = self.workers.remove(name);
        #[cfg(feature = "http")]
        if let Some(slot) = _removed.and_then(|(_, entry)| entry.slot?.upgrade()) {
            *self.removed.entry(slot.kind()).or_default() += slot.message_counts();
        }
    }

    /// The sharded groups of this node with the number of their shards, in the order of the names.
    #[cfg(feature = "http")]
    pub(crate) fn shard_groups(&self) -> Vec<(Arc<str>, usize)> {
        let mut groups: Vec<_> = self.shards.iter().map(|entry| (entry.key().clone(), entry.owners.len())).collect();
        groups.sort();
        groups
    }

    /// Each sharded group with the number of its shards that run here, that run elsewhere, and in
    /// all.
    #[cfg(feature = "http")]
    pub(crate) fn shard_counts(&self) -> Vec<(Arc<str>, usize, usize, usize)> {
        let mut counts = Vec::new();
        for entry in &self.shards {
            let owners = (0..entry.owners.len() as u32).filter_map(|index| entry.get(index));
            let (mut here, mut elsewhere) = (0, 0);
            for (_, owner) in owners {
                let is_here = self.me.is_none_or(|me| NodeId::of(&owner) == me);
                *if is_here { &mut here } else { &mut elsewhere } += 1;
            }
            counts.push((entry.key().clone(), here, elsewhere, entry.owners.len()));
        }
        counts.sort();
        counts
    }

    /// How many threads are held past the timeout.
    #[cfg(feature = "http")]
    pub(crate) fn zombies(&self) -> u32 {
        self.zombies.load(Ordering::Relaxed)
    }

    /// Whether the process is about to stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Notes that the process is about to stop.
    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// How long hand-overs of shards and answers of the authority took.
    #[cfg(feature = "http")]
    pub(crate) fn times(&self) -> &Times {
        &self.times
    }

    /// The events, by number and by name.
    #[cfg(feature = "http")]
    pub(crate) fn events(&self) -> &EventLog {
        &self.events
    }

    /// What became of the messages to workers that were removed, by the type of their actors.
    #[cfg(feature = "http")]
    pub(crate) fn removed(&self) -> Vec<(&'static str, MessageCounts)> {
        self.removed.iter().map(|entry| (*entry.key(), *entry.value())).collect()
    }

    /// Calls `visit` with the name of each worker, how it stands, and its slot.
    #[cfg(feature = "http")]
    pub(crate) fn visit_workers(&self, mut visit: impl FnMut(&Arc<str>, WorkerView, Option<Arc<dyn DynSlot>>)) {
        for entry in &self.workers {
            let slot = entry.slot.as_ref().and_then(Weak::upgrade);
            visit(entry.key(), self.seen(entry.key(), &entry.view), slot);
        }
    }

    /// Calls `visit` with the state and the slot of each worker.
    ///
    /// It looks at [`LOOK_AHEAD`] workers at a time. What is read of a worker lies in several
    /// places of memory, each of which follows from the one before. Where there are many workers,
    /// none of them is in a cache. The first touches of a batch do not wait for each other, as the
    /// visits would.
    #[cfg(feature = "http")]
    pub(crate) fn visit_slots(&self, mut visit: impl FnMut(WorkerState, Arc<dyn DynSlot>)) {
        let mut entries = self.workers.iter();
        let (mut batch, mut slots) = (Vec::with_capacity(LOOK_AHEAD), Vec::with_capacity(LOOK_AHEAD));
        loop {
            batch.extend(entries.by_ref().take(LOOK_AHEAD));
            if batch.is_empty() {
                return;
            }
            let known = batch.iter().filter_map(|entry| entry.slot.as_ref());
            let _ = std::hint::black_box(known.map(Weak::strong_count).sum::<usize>());
            slots.extend(batch.drain(..).filter_map(|entry| {
                let slot = entry.slot.as_ref().and_then(Weak::upgrade)?;
                Some((self.state_seen(entry.key(), &entry.view), slot))
            }));
            let _ = std::hint::black_box(slots.iter().map(|(_, slot)| slot.touch()).fold(0, u64::wrapping_add));
            slots.drain(..).for_each(|(state, slot)| visit(state, slot));
        }
    }

    /// Forgets a group that was removed; its name is free again.
    pub(crate) fn forget_group(&self, name: &Arc<str>) {
        self.groups.remove(name);
    }

    /// Replaces all members by these.
    pub(crate) fn set_members<'a>(&self, members: impl Iterator<Item = &'a Member>) {
        let mut known = std::collections::BTreeSet::new();
        for member in members {
            known.insert(member.id);
            // Most are unchanged; a write would make readers wait in vain.
            if self.members.get(&member.id).is_none_or(|entry| entry.value() != member) {
                self.members.insert(member.id, member.clone());
            }
        }
        self.members.retain(|id, _| known.contains(id));
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    /// Brings workers, groups and owners up to an event.
    pub(crate) fn apply(&self, event: &Event, now: Instant) {
        #[cfg(feature = "http")]
        {
            self.events.push(event, now);
            self.times.apply(event, self.me, now);
        }
        match event {
            Event::ThreadHeld { zombies, .. }
            | Event::ThreadReturned { zombies, .. }
            | Event::Abandoned { zombies, .. }
            | Event::ZombieEnded { zombies, .. } => self.zombies.store(*zombies, Ordering::Relaxed),
            // The thread that this is about is one more.
            Event::TooManyZombies { zombies, .. } => self.zombies.store(zombies + 1, Ordering::Relaxed),
            Event::Started { .. }
            | Event::Failed { .. }
            | Event::Replaced { .. }
            | Event::Stopped { .. }
            | Event::GaveUp { .. }
            | Event::NotReady { .. }
            | Event::Ready { .. } => self.apply_to_worker(event, now),
            Event::GroupStarted { .. } | Event::GroupStopped { .. } | Event::Escalated { .. } => {
                self.apply_to_group(event)
            }
            Event::ShardMoved { .. } | Event::ShardsRefused { .. } | Event::ShardsAdmitted { .. } => {
                self.apply_to_shards(event);
            }
            // All members come with `set_members`.
            Event::Joined { .. }
            | Event::Updated { .. }
            | Event::Left { .. }
            | Event::Suspected { .. }
            | Event::Cleared { .. }
            | Event::Died { .. }
            | Event::Forgotten { .. }
            | Event::Returned { .. }
            | Event::Renewed { .. }
            | Event::DeclaredDead { .. } => {}
            // The view does not show the links, clocks and sessions of this node.
            Event::Isolated { .. }
            | Event::Connected
            | Event::Unresolved { .. }
            | Event::ZoneDisrupted { .. }
            | Event::ZoneRecovered { .. }
            | Event::BudgetExceeded { .. }
            | Event::ClockSkewed { .. }
            | Event::Superseded { .. }
            | Event::OtherCluster { .. }
            | Event::NoMonitor { .. }
            | Event::RefusedBy { .. }
            | Event::JoinRefused { .. }
            | Event::WireVersionRaised { .. }
            | Event::WireVersionLowered { .. }
            | Event::QuorumLost { .. }
            | Event::QuorumGained { .. }
            | Event::AuthorityLost { .. }
            | Event::AuthorityReached
            | Event::SessionEnded { .. }
            | Event::TokenRefused { .. }
            | Event::ReplicaRefused { .. }
            | Event::HandOverCut { .. }
            | Event::Declined { .. }
            | Event::Fenced { .. }
            | Event::NoThread { .. }
            | Event::Starved { .. }
            | Event::Paused { .. } => {}
            other => not_shown(other),
        }
    }

    fn apply_to_worker(&self, event: &Event, now: Instant) {
        let change = |worker: &Arc<str>, change: &dyn Fn(&mut WorkerView)| {
            if let Some(mut entry) = self.workers.get_mut(worker) {
                change(&mut entry.view);
            }
        };
        match event {
            Event::Started { worker, generation, .. } | Event::Replaced { worker, generation, .. } => {
                change(worker, &|view| {
                    (view.generation, view.state, view.unready) = (*generation, WorkerState::Up, None);
                });
            }
            Event::Failed { worker, generation, cause, restart_in } => {
                change(worker, &|view| view.fail(*generation, cause, restart_in.map(|pause| now + pause), now));
            }
            Event::Stopped { worker, .. } => {
                change(worker, &|view| (view.state, view.unready) = (WorkerState::Stopped, None));
            }
            Event::GaveUp { worker, .. } => {
                change(worker, &|view| (view.state, view.unready) = (WorkerState::GivenUp, None));
            }
            Event::NotReady { worker, reason, .. } => change(worker, &|view| view.unready = Some(*reason)),
            Event::Ready { worker, .. } => change(worker, &|view| view.unready = None),
            other => not_shown(other),
        }
    }

    fn apply_to_group(&self, event: &Event) {
        let (group, is_running, escalations) = match event {
            Event::GroupStarted { group, .. } => (group, true, 0),
            Event::GroupStopped { group } => (group, false, 0),
            Event::Escalated { group, .. } => (group, false, 1),
            other => return not_shown(other),
        };
        if let Some(mut entry) = self.groups.get_mut(group) {
            entry.running = is_running;
            entry.escalations += escalations;
        }
    }

    fn apply_to_shards(&self, event: &Event) {
        match event {
            Event::ShardMoved { group, shard, to, .. } => {
                if let Some(shards) = self.shards.get(group) {
                    shards.set(shard.index, to.as_ref().map(|owner| (*shard, owner.clone())));
                }
            }
            Event::ShardsRefused { group, in_force, .. } => {
                if let Some(shards) = self.shards.get(group) {
                    shards.in_force.store(*in_force, Ordering::Relaxed);
                }
            }
            Event::ShardsAdmitted { group, .. } => {
                if let Some(shards) = self.shards.get(group) {
                    shards.in_force.store(0, Ordering::Relaxed);
                }
            }
            other => not_shown(other),
        }
    }

    /// How many members have this status.
    pub fn count(&self, status: Status) -> usize {
        self.members.iter().filter(|entry| entry.status == status).count()
    }
}

/// Notes an event that the view does not know, as a newer core may have it.
fn not_shown(event: &Event) {
    debug!(event = event.name(), "the view does not show this event");
}
