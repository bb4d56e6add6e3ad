//! `Children`: the table of workers and groups, with the phase of each. It holds no rule.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, OnThreadHeld, RestartConfig};
use crate::ctx::Ctx;
use crate::event::{Cause, NotReadyReason};
use crate::member::{Child, Generation, GroupId, Shard, ThreadSlotId, WorkerId};
use crate::output::RestartPermit;
use crate::snapshot::ShardSnapshot;
use crate::supervision::restart::{Restart, RestartKind, Window};
use crate::supervision::{AutoShutdown, Counting, Strategy, Supervise, SuperviseGroup, Times};
use crate::time::Instant;

/// What workers and groups have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) name: Arc<str>,
    pub(super) parent: GroupId,
    /// Its position in its group. It rises with each child that is added, and is never used again.
    pub(super) order: u64,
    pub(super) kind: RestartKind,
    pub(super) significant: bool,
    pub(super) policy: Option<Arc<RestartConfig>>,
    pub(super) phase: Phase,
    pub(super) restart: Restart,
    /// The failure that the next start repairs, and when it began.
    pub(super) failure: Option<Box<(Cause, Instant)>>,
    /// When the present phase ends at the latest, if a timer is set for it.
    pub(super) timer: Instant,
    /// The command that came while its group was about to start its children again.
    pub(super) pending_command: PendingCommand,
}

/// A command to a child whose group is about to start its children again. It holds for that start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum PendingCommand {
    /// No command: its restart kind decides.
    #[default]
    None,
    /// To start, even if it is temporary.
    Start,
    /// To stop: that start skips it.
    Stop,
}

/// How far a child is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// Not started yet, or stopped by a command. Its queue is closed, unless it was never started.
    Idle,
    /// Stopped or failed, to be started again with its group; its queue is open.
    Parked,
    /// Its start was sent; it is not up yet.
    Starting,
    /// Up.
    Running,
    /// Failed. It is started again when its timer is over.
    Waiting,
    /// Its stop was sent; it has not stopped yet.
    Stopping(AfterStop),
    /// Ended by itself, and is not started again.
    Ended,
    /// Failed too often.
    GivenUp,
}

impl Phase {
    /// Whether nothing of it runs and no start of its own is due.
    pub(super) fn is_down(self) -> bool {
        match self {
            Phase::Idle | Phase::Parked | Phase::Ended | Phase::GivenUp => true,
            Phase::Starting | Phase::Running | Phase::Waiting | Phase::Stopping(_) => false,
        }
    }
}

/// What follows when a child has stopped. Of two, the later one in this list wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum AfterStop {
    /// It waits for its group to start it again.
    Park,
    /// It is started again at once.
    Start,
    /// Its queue is closed.
    Close,
    /// It is forgotten.
    Remove,
}

/// A worker's wait for a thread that is held.
#[derive(Clone, Debug)]
pub(super) struct Wait {
    /// When it was found held.
    pub(super) begun: Instant,
    pub(super) timeout: Duration,
    /// Why the generation ends if the thread does not return in time, and since when.
    pub(super) cause: Cause,
    pub(super) since: Instant,
}

#[derive(Clone, Debug)]
pub(super) struct Worker {
    pub(super) common: Common,
    pub(super) generation: Generation,
    /// The highest generation that its own thread may start, or may have started without its report
    /// being here yet.
    pub(super) permit_until: Generation,
    pub(super) thread_slot: ThreadSlotId,
    /// The slot that it was given. During a wait for a held thread, and after it, the worker has
    /// another slot.
    pub(super) home: ThreadSlotId,
    /// What it does when a neighbour holds its thread, if not as the config says.
    pub(super) on_thread_held: Option<OnThreadHeld>,
    /// Its wait, while its thread is held.
    pub(super) wait: Option<Box<Wait>>,
    /// Whether it counts as a user of the thread in its slot.
    pub(super) has_thread: bool,
    /// Whether its queue takes messages.
    pub(super) is_open: bool,
    pub(super) shard: Option<Shard>,
    /// Whether it stops because another node is to run its shard.
    pub(super) has_moved: bool,
    /// The snapshot of the shard's previous owner, until the worker is started.
    pub(super) replica: Option<Box<ShardSnapshot>>,
    pub(super) times: Option<Arc<Times>>,
    /// Starts in a row that held their thread past the timeout.
    pub(super) hung_starts: u8,
    /// The progress at which messages began to wait behind a future, and since when they do.
    pub(super) stuck: Option<(u64, Instant)>,
    /// Why it is not ready, if it is not.
    pub(super) unready: Option<NotReadyReason>,
}

impl Worker {
    /// What its own thread may do without asking the supervisor, by the restarts so far.
    pub(super) fn restart_permit(&self, ctx: &Ctx) -> RestartPermit {
        let policy = self.common.policy.as_deref().unwrap_or(&ctx.config.restart);
        let from = self.common.restart.permitted_from(ctx.now, policy);
        RestartPermit {
            from,
            until: Generation(self.generation.0 + u64::from(self.common.restart.permitted_restarts(policy))),
        }
    }

    pub(super) fn timeout(&self, config: &Config) -> Duration {
        self.times.as_ref().map_or(config.workers.timeout, |times| times.timeout)
    }

    pub(super) fn start_timeout(&self, config: &Config) -> Duration {
        self.times.as_ref().map_or(config.workers.start_timeout, |times| times.start_timeout)
    }

    pub(super) fn await_timeout(&self, config: &Config) -> Duration {
        self.times.as_ref().map_or(config.workers.await_timeout, |times| times.await_timeout)
    }

    pub(super) fn shutdown_timeout(&self, config: &Config) -> Duration {
        self.times.as_ref().map_or(config.workers.shutdown_timeout, |times| times.shutdown_timeout)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) common: Common,
    pub(super) strategy: Strategy,
    pub(super) counting: Counting,
    pub(super) auto_shutdown: AutoShutdown,
    pub(super) dynamic: bool,
    /// Whether it was ever started.
    pub(super) was_started: bool,
    /// Restarts of all children, if they are counted together.
    pub(super) window: Window,
    /// By their position in the group.
    pub(super) children: BTreeMap<u64, Child>,
    /// The groups among its children, by their position.
    pub(super) groups: BTreeMap<u64, GroupId>,
    pub(super) task: GroupTask,
}

/// What a group is doing with its children.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum GroupTask {
    /// Nothing.
    Steady,
    /// Starting `left` from the front. The start of `current` was sent, and it is not up yet.
    /// Children are listed by their position, which is never used again; a worker's number may by
    /// then belong to another worker.
    Starting { left: VecDeque<u64>, current: Option<u64> },
    /// Stopping `left` from the back, one after the other. The positions rise.
    Stopping { left: Vec<u64>, next: AfterStop, then: AfterGroupStop },
    /// All children from position `from` on are down. They are started at `at`.
    Pausing { from: u64, at: Instant },
}

/// What a group does when it has stopped its children.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum AfterGroupStop {
    /// It is down as well, as it was asked to be.
    Down,
    /// It starts the children from position `from` on again, at `at`.
    Restart { from: u64, at: Instant },
    /// It fails as well.
    Fail(Cause),
    /// It ends by itself, because its significant children have ended.
    ShutDown,
}

/// All workers and groups.
#[derive(Clone, Debug)]
pub(super) struct Children {
    /// By worker number. Numbers may be added in any order.
    workers: Vec<Option<Worker>>,
    groups: BTreeMap<GroupId, Group>,
    next_order: u64,
}

impl Children {
    /// The root group, empty and running.
    pub(super) fn new() -> Children {
        let root = SuperviseGroup {
            group: GroupId::ROOT,
            name: "root".into(),
            parent: GroupId::ROOT,
            strategy: Strategy::OneForOne,
            counting: Counting::Each,
            auto_shutdown: AutoShutdown::Never,
            dynamic: false,
            kind: RestartKind::Temporary,
            significant: false,
            restart: None,
        };
        let mut group = Group::new(root, 0);
        group.common.phase = Phase::Running;
        Children { workers: Vec::new(), groups: BTreeMap::from([(GroupId::ROOT, group)]), next_order: 1 }
    }

    pub(super) fn add_worker(&mut self, supervise: Supervise) -> Child {
        let (id, parent) = (supervise.worker, supervise.group);
        let index = id.0 as usize;
        if self.workers.len() <= index {
            self.workers.resize_with(index + 1, || None);
        }
        assert!(self.workers[index].is_none(), "worker number {index} is in use");
        let order = self.join(parent, Child::Worker(id));
        self.workers[index] = Some(Worker {
            common: Common {
                name: supervise.name,
                parent,
                order,
                kind: supervise.kind,
                significant: supervise.significant,
                policy: supervise.restart,
                phase: Phase::Idle,
                restart: Restart::default(),
                failure: None,
                timer: Instant::NEVER,
                pending_command: PendingCommand::None,
            },
            generation: Generation(0),
            permit_until: Generation(0),
            thread_slot: supervise.thread_slot,
            home: supervise.thread_slot,
            on_thread_held: supervise.on_thread_held,
            wait: None,
            has_thread: false,
            is_open: true,
            shard: None,
            has_moved: false,
            replica: None,
            times: supervise.times,
            hung_starts: 0,
            stuck: None,
            unready: None,
        });
        Child::Worker(id)
    }

    pub(super) fn add_group(&mut self, supervise: SuperviseGroup) -> Child {
        let (id, parent) = (supervise.group, supervise.parent);
        assert!(!self.groups.contains_key(&id), "group number {} is used twice", id.0);
        let order = self.join(parent, Child::Group(id));
        self.groups.insert(id, Group::new(supervise, order));
        Child::Group(id)
    }

    /// Adds a child behind the others of its group. Returns its position.
    fn join(&mut self, parent: GroupId, child: Child) -> u64 {
        let order = self.next_order;
        self.next_order += 1;
        let group = self.groups.get_mut(&parent).expect("a child is taken on by a group that there is");
        group.children.insert(order, child);
        if let Child::Group(id) = child {
            group.groups.insert(order, id);
        }
        order
    }

    /// Removes a child, and all children below it.
    pub(super) fn remove(&mut self, child: Child, removed: &mut Vec<(Child, Arc<str>)>) {
        let Some(common) = self.common(child) else { return };
        let (parent, order) = (common.parent, common.order);
        removed.push((child, common.name.clone()));
        if let Some(parent) = self.groups.get_mut(&parent) {
            parent.children.remove(&order);
            parent.groups.remove(&order);
        }
        match child {
            Child::Worker(id) => self.workers[id.0 as usize] = None,
            Child::Group(id) => {
                let below = self.groups.get(&id).map(|group| group.children.values().copied().collect::<Vec<_>>());
                for child in below.into_iter().flatten() {
                    self.remove(child, removed);
                }
                self.groups.remove(&id);
            }
        }
    }

    pub(super) fn worker(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn worker_mut(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.workers.get_mut(id.0 as usize)?.as_mut()
    }

    pub(super) fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)
    }

    pub(super) fn group_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.get_mut(&id)
    }

    /// All groups, the root first.
    pub(super) fn groups(&self) -> impl Iterator<Item = (GroupId, &Group)> {
        self.groups.iter().map(|(id, group)| (*id, group))
    }

    pub(super) fn common(&self, child: Child) -> Option<&Common> {
        match child {
            Child::Worker(id) => self.worker(id).map(|worker| &worker.common),
            Child::Group(id) => self.group(id).map(|group| &group.common),
        }
    }

    /// The child at this position of a group, if it is still there.
    pub(super) fn at(&self, group: GroupId, order: u64) -> Option<Child> {
        self.group(group)?.children.get(&order).copied()
    }

    pub(super) fn common_mut(&mut self, child: Child) -> Option<&mut Common> {
        match child {
            Child::Worker(id) => self.worker_mut(id).map(|worker| &mut worker.common),
            Child::Group(id) => self.group_mut(id).map(|group| &mut group.common),
        }
    }

    pub(super) fn phase(&self, child: Child) -> Option<Phase> {
        self.common(child).map(|common| common.phase)
    }

    pub(super) fn worker_ids(&self) -> Vec<WorkerId> {
        (0..).zip(&self.workers).filter(|(_, worker)| worker.is_some()).map(|(index, _)| WorkerId(index)).collect()
    }

    /// The workers that use the thread in a slot, by rising number.
    pub(super) fn workers_at(&self, thread_slot: ThreadSlotId) -> Vec<WorkerId> {
        let here = |worker: &Worker| worker.thread_slot == thread_slot && worker.has_thread;
        (0..)
            .zip(&self.workers)
            .filter(|(_, worker)| worker.as_ref().is_some_and(here))
            .map(|(index, _)| WorkerId(index))
            .collect()
    }

    /// The number of a child's timer. Workers have even numbers, groups odd ones.
    pub(super) fn entry(child: Child) -> u32 {
        match child {
            Child::Worker(id) => id.0 * 2,
            Child::Group(id) => id.0 * 2 + 1,
        }
    }

    /// The child with this timer number.
    pub(super) fn child(entry: u32) -> Child {
        if entry.is_multiple_of(2) { Child::Worker(WorkerId(entry / 2)) } else { Child::Group(GroupId(entry / 2)) }
    }
}

impl Group {
    fn new(supervise: SuperviseGroup, order: u64) -> Group {
        Group {
            common: Common {
                name: supervise.name,
                parent: supervise.parent,
                order,
                kind: supervise.kind,
                significant: supervise.significant,
                policy: supervise.restart,
                phase: Phase::Idle,
                restart: Restart::default(),
                failure: None,
                timer: Instant::NEVER,
                pending_command: PendingCommand::None,
            },
            strategy: supervise.strategy,
            counting: supervise.counting,
            auto_shutdown: supervise.auto_shutdown,
            dynamic: supervise.dynamic,
            was_started: false,
            window: Window::default(),
            children: BTreeMap::new(),
            groups: BTreeMap::new(),
            task: GroupTask::Steady,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{GROUP, group, worker};
    use super::*;

    /// The root with a group that has workers 0 and 1, and worker 2 in the root.
    fn children() -> Children {
        let mut children = Children::new();
        children.add_group(group(Strategy::OneForOne));
        for (id, group) in [(0, GROUP), (1, GROUP), (2, GroupId::ROOT)] {
            children.add_worker(worker(id, group));
        }
        children
    }

    #[track_caller]
    fn check_removed(child: Child, expected: &[Child], left: &[u32]) {
        let (mut children, mut removed) = (children(), Vec::new());
        children.remove(child, &mut removed);
        assert_eq!(removed.into_iter().map(|(child, _)| child).collect::<Vec<_>>(), expected);
        assert_eq!(children.worker_ids(), left.iter().map(|&id| WorkerId(id)).collect::<Vec<_>>());
    }

    #[test]
    fn removing_a_group_removes_all_children_below_it() {
        let workers = [0, 1, 2].map(|id| Child::Worker(WorkerId(id)));
        check_removed(workers[1], &[workers[1]], &[0, 2]);
        check_removed(Child::Group(GROUP), &[Child::Group(GROUP), workers[0], workers[1]], &[2]);
        check_removed(Child::Worker(WorkerId(9)), &[], &[0, 1, 2]);
    }

    #[test]
    fn a_position_is_never_used_again() {
        let mut children = children();
        let before = children.common(Child::Worker(WorkerId(1))).unwrap().order;
        children.remove(Child::Worker(WorkerId(1)), &mut Vec::new());
        assert_eq!(children.at(GROUP, before), None);
        children.add_worker(worker(1, GROUP));
        let after = children.common(Child::Worker(WorkerId(1))).unwrap().order;
        assert!(after > before && children.at(GROUP, after) == Some(Child::Worker(WorkerId(1))));
    }

    #[test]
    fn each_child_has_a_timer_number_of_its_own() {
        for id in [0, 1, 7, u32::MAX / 2] {
            for child in [Child::Worker(WorkerId(id)), Child::Group(GroupId(id))] {
                assert_eq!(Children::child(Children::entry(child)), child);
            }
        }
    }

    #[test]
    fn only_workers_with_a_thread_are_in_its_slot() {
        let mut children = children();
        assert_eq!(children.workers_at(ThreadSlotId(0)), []);
        for id in [0, 1, 2] {
            children.worker_mut(WorkerId(id)).unwrap().has_thread = true;
        }
        assert_eq!(children.workers_at(ThreadSlotId(0)), [WorkerId(0), WorkerId(2)]);
        assert_eq!(children.workers_at(ThreadSlotId(1)), [WorkerId(1)]);
    }

    #[test]
    #[should_panic(expected = "worker number 2 is in use")]
    fn a_worker_number_in_use_is_refused() {
        children().add_worker(worker(2, GROUP));
    }

    #[test]
    #[should_panic(expected = "group number 1 is used twice")]
    fn a_group_number_in_use_is_refused() {
        children().add_group(group(Strategy::OneForAll));
    }
}
