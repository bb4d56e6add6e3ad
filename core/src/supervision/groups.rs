//! `groups`: what a child's failure or end means for its siblings, and in which order they stop and
//! start.
//!
//! The semantics are those of Erlang/OTP's `supervisor` (lib/stdlib, module documentation):
//! one_for_one, one_for_all and rest_for_one. Children stop in reverse order. Each has its own
//! deadline, and the next one stops only when this one is down. Children start in order, each when
//! the one before it is up; a group is up when all its children are. Where OTP waits, we note what
//! the group is doing (`GroupTask`) and go on when a child has come up or gone down. The root and
//! dynamic groups start each child when it is added. A dynamic group stops all its children at
//! once.
//!
//! A command to a child whose group is restarting holds for that restart. After a stop command it
//! stays down; after a start command it starts even if it is temporary. OTP has the same result in
//! another way: it accepts no command before the restart is over.
//!
//! Four things differ from OTP:
//!
//! A group that failed too often is restarted by its parent even if it is transient. In OTP it ends
//! with the reason `shutdown`, which counts as a normal end for a transient child, so it silently
//! stays away.
//!
//! A child whose *first* start fails has failed like any other. In OTP its whole group ends.
//!
//! Restarts may count for each child alone, which OTP does not have. A child that was given up then
//! stays so when a sibling's failure restarts the others. It starts again with its whole group, or
//! by command.
//!
//! A temporary child does not start again with its group. In OTP a restarted group makes all
//! children of its list anew, and has forgotten those that were added later.

use std::collections::VecDeque;

use super::children::{AfterGroupStop, AfterStop, Group, GroupTask, PendingCommand, Phase};
use super::{AutoShutdown, Strategy, Supervision};
use crate::ctx::Ctx;
use crate::event::Cause;
use crate::member::{Child, Generation, GroupId};
use crate::supervision::restart::RestartKind;
use crate::time::Instant;

/// How many children are stopped one after the other. Each takes two changes of thread, about 30
/// us. With more children the order takes too long, and they stop all at once.
const ORDERED_MAX: usize = 10_000;

impl Supervision {
    /// Starts a child that was just added, or that a command starts: at once, or in its turn.
    pub(super) fn begin(&mut self, child: Child, ctx: &mut Ctx) {
        let Some(common) = self.children.common(child) else { return };
        let (parent, order, phase) = (common.parent, common.order, common.phase);
        let Some(group) = self.children.group_mut(parent) else { return };
        // A child that waits after a failure has had its turn.
        let at_once = parent == GroupId::ROOT || group.dynamic || phase == Phase::Waiting;
        match (&mut group.task, group.common.phase) {
            (GroupTask::Steady | GroupTask::Starting { .. }, Phase::Running | Phase::Starting) if at_once => {
                self.launch(child, ctx);
            }
            (GroupTask::Starting { left, .. }, Phase::Running | Phase::Starting) => left.push_back(order),
            (GroupTask::Steady, Phase::Running) => {
                self.set_task(parent, GroupTask::Starting { left: VecDeque::from([order]), current: None });
            }
            // It precedes the children that restart, so it starts now. A child among them starts
            // with the others.
            (
                GroupTask::Stopping { then: AfterGroupStop::Restart { from, .. }, .. }
                | GroupTask::Pausing { from, .. },
                Phase::Running | Phase::Starting,
            ) if order < *from => self.launch(child, ctx),
            (
                GroupTask::Stopping { then: AfterGroupStop::Restart { .. }, .. } | GroupTask::Pausing { .. },
                Phase::Running | Phase::Starting,
            ) => {}
            // Its group is down or going down. It starts with the group, if that starts again;
            // until then nothing reads its queue.
            (
                GroupTask::Steady | GroupTask::Starting { .. } | GroupTask::Stopping { .. } | GroupTask::Pausing { .. },
                _,
            ) => {
                if phase == Phase::Idle {
                    self.close(child, ctx);
                }
            }
        }
    }

    /// Notes a command to a child whose group is starting its children, or is about to do so again.
    pub(super) fn note_command(&mut self, child: Child, asked: PendingCommand) {
        let Some(common) = self.children.common(child) else { return };
        let (parent, order) = (common.parent, common.order);
        let Some(group) = self.children.group_mut(parent) else { return };
        if let GroupTask::Starting { left, .. } = &mut group.task
            && asked == PendingCommand::Stop
        {
            left.retain(|&other| other != order);
        }
        if self.is_to_start_again(parent)
            && let Some(common) = self.children.common_mut(child)
        {
            common.pending_command = asked;
        }
    }

    /// Whether a group that does not run, or stops its children, will start them again without a
    /// command.
    fn is_to_start_again(&self, id: GroupId) -> bool {
        let Some(group) = self.children.group(id) else { return false };
        let (parent, child) = (group.common.parent, Child::Group(id));
        match (&group.task, group.common.phase) {
            (GroupTask::Stopping { then: AfterGroupStop::Restart { .. }, .. } | GroupTask::Pausing { .. }, _) => true,
            // If the group fails too often, its queues are closed then.
            (GroupTask::Stopping { then: AfterGroupStop::Fail(_), .. }, _) => {
                group.common.kind != RestartKind::Temporary
            }
            (GroupTask::Stopping { then: AfterGroupStop::ShutDown, .. }, _) => {
                group.common.kind == RestartKind::Permanent
            }
            (GroupTask::Stopping { then: AfterGroupStop::Down, .. }, Phase::Stopping(AfterStop::Start))
                if !self.is_being_stopped(parent, child) =>
            {
                true
            }
            (
                GroupTask::Stopping { then: AfterGroupStop::Down, .. },
                Phase::Stopping(AfterStop::Start | AfterStop::Park),
            )
            | (GroupTask::Steady | GroupTask::Starting { .. }, Phase::Parked) => {
                self.next_of_startable(parent, child) == AfterStop::Park
            }
            (GroupTask::Steady | GroupTask::Starting { .. }, Phase::Waiting) => true,
            (
                GroupTask::Stopping { then: AfterGroupStop::Down, .. } | GroupTask::Steady | GroupTask::Starting { .. },
                _,
            ) => false,
        }
    }

    /// What follows for a child that would start now but for its group, which stops its children.
    /// If the group will start it, it waits for that. Otherwise nothing will read its queue, and
    /// the queue is closed.
    pub(super) fn next_of_startable(&self, parent: GroupId, child: Child) -> AfterStop {
        let is_asked =
            self.children.common(child).is_some_and(|common| common.pending_command == PendingCommand::Start);
        if self.is_to_start_again(parent) && (is_asked || self.is_startable(child)) {
            AfterStop::Park
        } else {
            AfterStop::Close
        }
    }

    /// Advances each group of which a child has come up or gone down, until none can go on.
    pub(super) fn run_pending(&mut self, ctx: &mut Ctx) {
        while let Some(id) = self.pending.pop_front() {
            while self.advance(id, ctx) {}
        }
    }

    /// Does one step of a group's task. Returns whether another one may follow.
    fn advance(&mut self, id: GroupId, ctx: &mut Ctx) -> bool {
        let Some(group) = self.children.group_mut(id) else { return false };
        match &mut group.task {
            GroupTask::Steady | GroupTask::Pausing { .. } => false,
            GroupTask::Starting { left, current } => match *current {
                Some(order) => match self.children.at(id, order).and_then(|child| self.children.phase(child)) {
                    Some(Phase::Starting | Phase::Waiting | Phase::Stopping(_)) => false,
                    // It is up, or will not come up.
                    Some(Phase::Running | Phase::Idle | Phase::Parked | Phase::Ended | Phase::GivenUp) | None => {
                        let Some(group) = self.children.group_mut(id) else { return false };
                        if let GroupTask::Starting { current, .. } = &mut group.task {
                            *current = None;
                        }
                        true
                    }
                },
                None => match left.front().copied() {
                    Some(order) if self.is_filling_before(id, order) => false,
                    Some(order) => {
                        let Some(group) = self.children.group_mut(id) else { return false };
                        if let GroupTask::Starting { left, current } = &mut group.task {
                            left.pop_front();
                            *current = Some(order);
                        }
                        if let Some(child) = self.children.at(id, order)
                            && self
                                .children
                                .phase(child)
                                .is_some_and(|phase| phase.is_down() || phase == Phase::Waiting)
                        {
                            self.launch(child, ctx);
                        }
                        true
                    }
                    None => {
                        self.set_task(id, GroupTask::Steady);
                        if self.children.phase(Child::Group(id)) == Some(Phase::Starting) {
                            self.child_up(Child::Group(id), ctx);
                        }
                        false
                    }
                },
            },
            GroupTask::Stopping { left, next, .. } => {
                let (last, next) = (left.last().copied(), *next);
                let Some(order) = last else {
                    self.children_stopped(id, ctx);
                    return true;
                };
                // A child that was removed meanwhile has stopped.
                if let Some(child) = self.children.at(id, order)
                    && self.is_to_stop(child, next)
                {
                    self.request_stop(child, self.next_with_group(child, next), ctx);
                    if self.children.phase(child).is_some_and(|phase| !phase.is_down()) {
                        return false;
                    }
                }
                if let Some(group) = self.children.group_mut(id)
                    && let GroupTask::Stopping { left, .. } = &mut group.task
                {
                    left.pop();
                }
                true
            }
        }
    }

    /// Whether a group before this position, or one inside such a group, still has children to
    /// start. A group is up when all children in it are up, also those that were added after its
    /// start.
    fn is_filling_before(&self, id: GroupId, order: u64) -> bool {
        let groups = |id: GroupId| self.children.group(id).into_iter().flat_map(|group| group.groups.iter());
        let mut open: Vec<GroupId> = groups(id).take_while(|(place, _)| **place < order).map(|(_, &id)| id).collect();
        while let Some(id) = open.pop() {
            if self.children.group(id).is_some_and(|group| matches!(group.task, GroupTask::Starting { .. })) {
                return true;
            }
            open.extend(groups(id).map(|(_, &id)| id));
        }
        false
    }

    /// Marks the groups above this one as pending: they may be able to go on.
    fn wake_above(&mut self, mut id: GroupId) {
        while id != GroupId::ROOT
            && let Some(group) = self.children.group(id)
        {
            id = group.common.parent;
            self.pending.push_back(id);
        }
    }

    /// Whether a child must still stop before its group goes on with the one before it.
    fn is_to_stop(&self, child: Child, next: AfterStop) -> bool {
        match self.children.phase(child) {
            Some(Phase::Stopping(_) | Phase::Starting | Phase::Running | Phase::Waiting) => true,
            Some(Phase::Parked) => self.next_with_group(child, next) != AfterStop::Park,
            Some(Phase::Idle | Phase::Ended | Phase::GivenUp) | None => false,
        }
    }

    /// What follows when a child stops with its group, for which `next` follows. A temporary child
    /// is not started again with the others, so nothing will read its queue. A child of a template
    /// is removed.
    pub(super) fn next_with_group(&self, child: Child, next: AfterStop) -> AfterStop {
        let Some(common) = self.children.common(child) else { return next };
        let is_dynamic = self.children.group(common.parent).is_some_and(|group| group.dynamic);
        match common.kind {
            RestartKind::Temporary if common.pending_command == PendingCommand::Start => next,
            RestartKind::Temporary if is_dynamic => AfterStop::Remove,
            RestartKind::Temporary => next.max(AfterStop::Close),
            RestartKind::Permanent | RestartKind::Transient => next,
        }
    }

    /// Begins to stop all children of a group; `then` is what follows. They stop from the last to
    /// the first, or all at once if the group is dynamic or has more than `ORDERED_MAX`.
    pub(super) fn stop_children(&mut self, id: GroupId, next: AfterStop, then: AfterGroupStop, ctx: &mut Ctx) {
        let Some(group) = self.children.group(id) else { return };
        let left: Vec<u64> = group.children.keys().copied().collect();
        let at_once = group.dynamic || left.len() > ORDERED_MAX;
        let told: Vec<Child> = group.children.values().copied().filter(|_| at_once).collect();
        self.set_task(id, GroupTask::Stopping { left, next, then });
        for child in told.into_iter().rev() {
            self.request_stop(child, self.next_with_group(child, next), ctx);
        }
    }

    /// Stops all children that the failure of `child` concerns, and starts them again at `at`.
    pub(super) fn restart_from(&mut self, id: GroupId, child: Child, at: Instant, ctx: &mut Ctx) {
        self.set_phase(child, Phase::Parked);
        let Some(common) = self.children.common(child) else { return };
        let (name, order) = (common.name.clone(), common.order);
        let Some(group) = self.children.group(id) else { return };
        let from = match group.strategy {
            Strategy::OneForAll => 0,
            Strategy::RestForOne | Strategy::OneForOne => order,
        };
        // This restart includes one that is under way.
        let (from, at) = match &group.task {
            GroupTask::Stopping { then: AfterGroupStop::Restart { from: other, at: later }, .. }
            | GroupTask::Pausing { from: other, at: later } => (from.min(*other), at.max(*later)),
            GroupTask::Steady | GroupTask::Starting { .. } | GroupTask::Stopping { .. } => (from, at),
        };
        // A child before all those that waits for its turn to start need not wait any longer.
        let turns = if let GroupTask::Starting { left, .. } = &group.task { Some(left) } else { None };
        let before =
            turns.into_iter().flatten().filter(|&&order| order < from).filter_map(|order| group.children.get(order));
        let before: Vec<Child> = before.copied().collect();
        let concerned = self.children_from(id, from);
        for &(_, sibling) in &concerned {
            if let Some(common) = self.children.common_mut(sibling)
                && matches!(common.phase, Phase::Starting | Phase::Running)
                && common.failure.is_none()
            {
                common.failure = Some(Box::new((Cause::Sibling { sibling: name.clone() }, ctx.now)));
            }
        }
        let left = concerned.into_iter().map(|(order, _)| order).collect();
        self.set_task(
            id,
            GroupTask::Stopping { left, next: AfterStop::Park, then: AfterGroupStop::Restart { from, at } },
        );
        for child in before {
            // A command may have started it meanwhile.
            if self.children.phase(child).is_some_and(Phase::is_down) {
                self.begin(child, ctx);
            }
        }
    }

    /// Handles that all children that were to stop are down.
    fn children_stopped(&mut self, id: GroupId, ctx: &mut Ctx) {
        let child = Child::Group(id);
        let Some(group) = self.children.group_mut(id) else { return };
        let GroupTask::Stopping { then, .. } = std::mem::replace(&mut group.task, GroupTask::Steady) else { return };
        match then {
            AfterGroupStop::Down => {
                if id == GroupId::ROOT {
                    group.common.phase = Phase::Idle;
                } else if let Phase::Stopping(next) = group.common.phase {
                    self.child_stopped(child, next, ctx);
                }
            }
            AfterGroupStop::Restart { from, at } if at <= ctx.now => {
                let left = self.startable_again(id, from, ctx);
                self.set_task(id, GroupTask::Starting { left, current: None });
            }
            AfterGroupStop::Restart { from, at } => {
                group.task = GroupTask::Pausing { from, at };
                self.set_timer(child, at);
            }
            AfterGroupStop::Fail(cause) => self.fail(child, cause, ctx.now, ctx),
            AfterGroupStop::ShutDown => self.finish(child, Cause::ShutDown, ctx),
        }
    }

    /// Handles that the pause of a group is over: its waiting children start.
    pub(super) fn resume(&mut self, id: GroupId, ctx: &mut Ctx) {
        let Some(group) = self.children.group(id) else { return };
        if let GroupTask::Pausing { from, .. } = group.task {
            let left = self.startable_again(id, from, ctx);
            self.set_task(id, GroupTask::Starting { left, current: None });
        }
    }

    /// Handles that a significant child of a group has ended by itself.
    pub(super) fn significant_ended(&mut self, id: GroupId, ctx: &mut Ctx) {
        let Some(group) = self.children.group(id) else { return };
        let shuts_down = match group.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => {
                !group.children.iter().any(|(&order, &child)| self.is_active(group, order, child))
            }
        };
        let is_ending =
            matches!(&group.task, GroupTask::Stopping { then, .. } if !matches!(then, AfterGroupStop::Restart { .. }));
        if shuts_down && !is_ending {
            self.stop_children(id, AfterStop::Park, AfterGroupStop::ShutDown, ctx);
        }
    }

    /// Whether a significant child of a group runs, or will start without a command.
    fn is_active(&self, group: &Group, order: u64, child: Child) -> bool {
        let Some(common) = self.children.common(child).filter(|common| common.significant) else { return false };
        match common.phase {
            Phase::Parked | Phase::Starting | Phase::Running | Phase::Waiting => true,
            Phase::Stopping(next) => next < AfterStop::Close,
            Phase::Idle | Phase::Ended | Phase::GivenUp => match &group.task {
                GroupTask::Starting { left, .. } => left.contains(&order),
                GroupTask::Stopping { then: AfterGroupStop::Restart { from, .. }, .. }
                | GroupTask::Pausing { from, .. } => order >= *from && self.is_startable(child),
                GroupTask::Steady | GroupTask::Stopping { .. } => false,
            },
        }
    }

    /// Whether a child goes down because its group stops it. Its end is then no failure.
    pub(super) fn is_being_stopped(&self, id: GroupId, child: Child) -> bool {
        match self.children.group(id).map(|group| (&group.task, group.common.phase)) {
            Some((GroupTask::Stopping { left, then: AfterGroupStop::Restart { .. }, .. }, _)) => {
                self.children.common(child).is_none_or(|common| left.binary_search(&common.order).is_ok())
            }
            Some((GroupTask::Stopping { .. }, _)) => true,
            Some((_, phase)) => phase.is_down(),
            None => true,
        }
    }

    /// The children that start with their group, in order. A temporary one starts only for the
    /// first time, or by a command that came while the group was stopping. Their restart counts
    /// begin at zero.
    pub(super) fn startable(&mut self, id: GroupId, ctx: &mut Ctx) -> VecDeque<u64> {
        for (_, child) in self.children_from(id, 0) {
            if let Some(common) = self.children.common_mut(child) {
                common.restart.clear_window();
            }
        }
        self.startable_from(id, 0, true, ctx)
    }

    /// The children from `from` on that start again after a sibling failed: as with their group,
    /// except those that were given up.
    fn startable_again(&mut self, id: GroupId, from: u64, ctx: &mut Ctx) -> VecDeque<u64> {
        self.startable_from(id, from, false, ctx)
    }

    /// The children from `from` on that start now, in order, by their kind and by pending commands.
    /// Children that were given up are among them only with `is_anew`. A parked child that does not
    /// start is closed.
    fn startable_from(&mut self, id: GroupId, from: u64, is_anew: bool, ctx: &mut Ctx) -> VecDeque<u64> {
        let mut startable = VecDeque::new();
        for (order, child) in self.children_from(id, from) {
            let Some(common) = self.children.common_mut(child) else { continue };
            let (asked, phase) = (std::mem::take(&mut common.pending_command), common.phase);
            let starts = match asked {
                PendingCommand::None => (is_anew || phase != Phase::GivenUp) && self.is_startable(child),
                PendingCommand::Stop => false,
                PendingCommand::Start => true,
            };
            if starts {
                startable.push_back(order);
            } else if phase == Phase::Parked {
                self.set_phase(child, Phase::Idle);
                self.close(child, ctx);
            }
        }
        startable
    }

    fn is_startable(&self, child: Child) -> bool {
        let was_started = match child {
            Child::Worker(id) => self.children.worker(id).is_some_and(|worker| worker.generation > Generation(0)),
            Child::Group(id) => self.children.group(id).is_some_and(|group| group.was_started),
        };
        let kind = self.children.common(child).map(|common| common.kind);
        !was_started || kind != Some(RestartKind::Temporary)
    }

    pub(super) fn children_from(&self, id: GroupId, from: u64) -> Vec<(u64, Child)> {
        let group = self.children.group(id).into_iter();
        group.flat_map(|group| group.children.range(from..)).map(|(&order, &child)| (order, child)).collect()
    }

    /// Sets a group's task, and marks the group as pending.
    pub(super) fn set_task(&mut self, id: GroupId, task: GroupTask) {
        if let Some(group) = self.children.group_mut(id) {
            let was_starting = matches!(group.task, GroupTask::Starting { .. });
            group.task = task;
            self.pending.push_back(id);
            if was_starting {
                self.wake_above(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, GROUP, group, worker};
    use super::super::{Report, Supervise, SuperviseGroup};
    use super::*;
    use crate::member::WorkerId;

    const SELF: Child = Child::Group(GROUP);

    #[track_caller]
    fn check(strategy: Strategy, failed: u32, expected: &[(Option<u32>, &str)]) {
        let mut fixture = Fixture::with_group(strategy, 3);
        fixture.fail(failed);
        for &(stopped, steps) in expected {
            if let Some(id) = stopped {
                fixture.report(id, Report::Stopped);
            }
            assert_eq!(fixture.steps(), steps);
        }
    }

    #[test]
    fn a_strategy_decides_which_siblings_restart_and_in_which_order() {
        check(Strategy::OneForOne, 1, &[(None, "+1")]);
        check(Strategy::OneForAll, 1, &[(None, "-2"), (Some(2), "-0"), (Some(0), "+0")]);
        check(Strategy::RestForOne, 1, &[(None, "-2"), (Some(2), "+1")]);
        check(Strategy::RestForOne, 2, &[(None, "+2")]);
    }

    #[test]
    fn children_start_each_when_the_one_before_is_up() {
        let mut fixture = Fixture::new();
        fixture.supervision.supervise_group(group(Strategy::OneForOne), &mut fixture.ctx);
        (0..3).for_each(|id| fixture.add(worker(id, GROUP)));
        for (up, steps) in [(0, "+0"), (1, "+1"), (2, "+2")] {
            assert_eq!(fixture.steps(), steps);
            fixture.report(up, Report::Started);
        }
        assert_eq!(fixture.steps(), "");
    }

    #[test]
    fn a_dynamic_group_starts_and_stops_its_children_at_once() {
        let mut fixture = Fixture::new();
        let dynamic = SuperviseGroup { dynamic: true, ..group(Strategy::OneForOne) };
        fixture.supervision.supervise_group(dynamic, &mut fixture.ctx);
        (0..3).for_each(|id| fixture.add(worker(id, GROUP)));
        assert_eq!(fixture.steps(), "+0 +1 +2");
        fixture.stop(SELF);
        assert_eq!(fixture.steps(), "-2 -1 -0");
    }

    #[test]
    fn a_group_stops_its_children_one_after_the_other() {
        let mut fixture = Fixture::with_group(Strategy::OneForOne, 2);
        fixture.stop(SELF);
        assert_eq!(fixture.steps(), "-1");
        fixture.report(1, Report::Stopped);
        assert_eq!(fixture.steps(), "-0");
        fixture.report(0, Report::Stopped);
        assert_eq!(fixture.supervision.children.phase(SELF), Some(Phase::Idle));
    }

    #[test]
    fn a_stop_during_a_restart_of_the_group_holds_for_that_restart() {
        let mut fixture = Fixture::with_group(Strategy::OneForAll, 3);
        fixture.fail(2);
        fixture.stop(Child::Worker(WorkerId(2)));
        fixture.report(1, Report::Stopped);
        fixture.report(0, Report::Stopped);
        fixture.report(0, Report::Started);
        fixture.report(1, Report::Started);
        assert_eq!(fixture.steps(), "-1 -0 +0 +1");
        assert_eq!(fixture.supervision.children.phase(Child::Worker(WorkerId(2))), Some(Phase::Idle));
    }

    /// Whether a group of two significant workers ends when the first one has, and the second.
    #[track_caller]
    fn check_shutdown(auto_shutdown: AutoShutdown, first: bool, second: bool) {
        let mut fixture = Fixture::new();
        let ends = SuperviseGroup { auto_shutdown, kind: RestartKind::Transient, ..group(Strategy::OneForOne) };
        fixture.supervision.supervise_group(ends, &mut fixture.ctx);
        for id in [0, 1] {
            fixture.add(Supervise { kind: RestartKind::Transient, significant: true, ..worker(id, GROUP) });
            fixture.report(id, Report::Started);
        }
        for (id, expected) in [(0, first), (1, second)] {
            fixture.report(id, Report::Stopped);
            let is_ending = fixture.supervision.children.phase(SELF) == Some(Phase::Ended)
                || matches!(fixture.supervision.children.group(GROUP).unwrap().task, GroupTask::Stopping { .. });
            assert_eq!(is_ending, expected, "{auto_shutdown:?} after {id}");
        }
    }

    #[test]
    fn significant_children_end_their_group_as_it_says() {
        check_shutdown(AutoShutdown::Never, false, false);
        check_shutdown(AutoShutdown::AnySignificant, true, true);
        check_shutdown(AutoShutdown::AllSignificant, false, true);
    }
}
