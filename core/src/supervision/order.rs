//! `order`: what one child's failure or end means for the others of its group, and in which order they stop and start.
//!
//! The semantics are those of Erlang/OTP's `supervisor` (lib/stdlib, module documentation): one_for_one, one_for_all and rest_for_one; stop
//! in reverse order, each child with a deadline of its own, and the next one only when it is down; start in order, each when the one
//! before is up. Where OTP waits, we note what the group is doing (`Work`) and go on when a child has come up or gone down. The root and
//! dynamic groups start their children as they are taken on; a dynamic group stops them all at once.
//!
//! Two things differ. A group that has failed too often is restarted by its parent also if it is transient: in OTP it ends with the reason
//! `shutdown`, which a transient child may do, so it silently stays away. And a child whose *first* start fails is a failure like any other,
//! rather than the end of its whole group.

use std::collections::VecDeque;

use super::children::{Next, Phase, Then, Work};
use super::{AutoShutdown, Strategy, Supervision};
use crate::desk::Desk;
use crate::event::Cause;
use crate::member::{Child, Generation, GroupId};
use crate::restart::RestartKind;
use crate::time::Instant;

/// Children that are stopped one after the other; each takes two changes of thread, about 30 us. Of more than this nobody means an order, and
/// it would take longer than anybody waits.
const ORDERED_MAX: usize = 10_000;

impl Supervision {
    /// Starts a child that was just taken on, or that somebody wants to run again: at once, or in its turn.
    pub(super) fn begin(&mut self, child: Child, desk: &mut Desk) {
        let Some(parent) = self.children.common(child).map(|common| common.parent) else { return };
        let Some(group) = self.children.group_mut(parent) else { return };
        let at_once = parent == GroupId::ROOT || group.dynamic;
        match (&mut group.work, group.common.phase) {
            (Work::Steady | Work::Starting { .. }, Phase::Running | Phase::Starting) if at_once => {
                self.launch(child, desk);
            }
            (Work::Starting { left, .. }, Phase::Running | Phase::Starting) => left.push_back(child),
            (Work::Steady, Phase::Running) => {
                self.set_work(parent, Work::Starting { left: VecDeque::from([child]), current: None });
            }
            // It starts with the others that are to be started again.
            (
                Work::Stopping { then: Then::Restart { .. }, .. } | Work::Pausing { .. },
                Phase::Running | Phase::Starting,
            ) => {}
            // Its group is down or on its way there: it starts with the group, if that starts again, and nobody reads its queue before.
            _ => self.close(child, desk),
        }
    }

    /// Goes on with whatever waits for a child that has come up or gone down meanwhile.
    pub(super) fn work_off(&mut self, desk: &mut Desk) {
        while let Some(id) = self.agenda.pop_front() {
            while self.advance(id, desk) {}
        }
    }

    /// One step of a group's work. Returns whether there may be another.
    fn advance(&mut self, id: GroupId, desk: &mut Desk) -> bool {
        let Some(group) = self.children.group_mut(id) else { return false };
        match &mut group.work {
            Work::Steady | Work::Pausing { .. } => false,
            Work::Starting { left, current } => match *current {
                Some(child) => match self.children.phase(child) {
                    Some(Phase::Starting | Phase::Waiting | Phase::Stopping(_)) => false,
                    // It is up, or nothing is to be waited for any more.
                    Some(Phase::Running | Phase::Idle | Phase::Parked | Phase::Ended | Phase::GivenUp) | None => {
                        let Some(group) = self.children.group_mut(id) else { return false };
                        if let Work::Starting { current, .. } = &mut group.work {
                            *current = None;
                        }
                        true
                    }
                },
                None => match left.pop_front() {
                    Some(child) => {
                        *current = Some(child);
                        self.launch(child, desk);
                        true
                    }
                    None => {
                        group.work = Work::Steady;
                        if group.common.phase == Phase::Starting {
                            self.up(Child::Group(id), desk);
                        }
                        false
                    }
                },
            },
            Work::Stopping { left, next, .. } => {
                let (last, next) = (left.last().copied(), *next);
                let Some(child) = last else {
                    self.wound_down(id, desk);
                    return true;
                };
                let waits = match self.children.phase(child) {
                    Some(Phase::Stopping(_) | Phase::Starting | Phase::Running | Phase::Waiting) => true,
                    Some(Phase::Parked) => next != Next::Park,
                    Some(Phase::Idle | Phase::Ended | Phase::GivenUp) | None => false,
                };
                if waits {
                    // A temporary child is not started again with the others, so nobody will read its queue.
                    let temporary =
                        self.children.common(child).is_some_and(|common| common.kind == RestartKind::Temporary);
                    self.tell_to_stop(child, if temporary { next.max(Next::Close) } else { next }, desk);
                    if self.children.phase(child).is_some_and(|phase| !phase.is_down()) {
                        return false;
                    }
                }
                if let Some(group) = self.children.group_mut(id)
                    && let Work::Stopping { left, .. } = &mut group.work
                {
                    left.pop();
                }
                true
            }
        }
    }

    /// Begins to stop all children of a group, the last one first, or all at once if it is dynamic or too many; `then` says what follows.
    pub(super) fn wind_down(&mut self, id: GroupId, next: Next, then: Then, desk: &mut Desk) {
        let Some(group) = self.children.group(id) else { return };
        let left: Vec<Child> = group.children.values().copied().collect();
        let told = if group.dynamic || left.len() > ORDERED_MAX { left.clone() } else { Vec::new() };
        self.set_work(id, Work::Stopping { left, next, then });
        for child in told.into_iter().rev() {
            self.tell_to_stop(child, next, desk);
        }
    }

    /// Stops whomever the failure of `child` concerns, to start them all again at `at`.
    pub(super) fn rewind(&mut self, id: GroupId, child: Child, at: Instant, desk: &mut Desk) {
        self.set_phase(child, Phase::Parked);
        let Some(common) = self.children.common(child) else { return };
        let (name, order) = (common.name.clone(), common.order);
        let Some(group) = self.children.group(id) else { return };
        let from = match group.strategy {
            Strategy::OneForAll => 0,
            Strategy::RestForOne | Strategy::OneForOne => order,
        };
        // A restart that is under way is taken into this one.
        let (from, at) = match &group.work {
            Work::Stopping { then: Then::Restart { from: other, at: later }, .. }
            | Work::Pausing { from: other, at: later } => (from.min(*other), at.max(*later)),
            Work::Steady | Work::Starting { .. } | Work::Stopping { .. } => (from, at),
        };
        let left: Vec<Child> = group.children.range(from..).map(|(_, &child)| child).collect();
        for &sibling in &left {
            if let Some(common) = self.children.common_mut(sibling)
                && matches!(common.phase, Phase::Starting | Phase::Running)
                && common.failure.is_none()
            {
                common.failure = Some(Box::new((Cause::Sibling { of: name.clone() }, desk.now)));
            }
        }
        self.set_work(id, Work::Stopping { left, next: Next::Park, then: Then::Restart { from, at } });
    }

    /// All that were to stop are down.
    fn wound_down(&mut self, id: GroupId, desk: &mut Desk) {
        let child = Child::Group(id);
        let Some(group) = self.children.group_mut(id) else { return };
        let Work::Stopping { then, .. } = std::mem::replace(&mut group.work, Work::Steady) else { return };
        match then {
            Then::Down => {
                if id == GroupId::ROOT {
                    group.common.phase = Phase::Idle;
                } else if let Phase::Stopping(next) = group.common.phase {
                    self.stopped(child, next, desk);
                }
            }
            Then::Restart { from, at } if at <= desk.now => {
                let left = self.startable(id, from);
                self.set_work(id, Work::Starting { left, current: None });
            }
            Then::Restart { from, at } => {
                group.work = Work::Pausing { from, at };
                self.set_timer(child, at);
            }
            Then::Fail(cause) => self.fail(child, cause, desk.now, desk),
            Then::ShutDown => self.finish(child, Cause::ShutDown, desk),
        }
    }

    /// The pause of a group is over: those that wait are started.
    pub(super) fn resume(&mut self, id: GroupId) {
        let Some(group) = self.children.group(id) else { return };
        if let Work::Pausing { from, .. } = group.work {
            let left = self.startable(id, from);
            self.set_work(id, Work::Starting { left, current: None });
        }
    }

    /// A significant child of a group has ended by itself.
    pub(super) fn significant_ended(&mut self, id: GroupId, desk: &mut Desk) {
        let Some(group) = self.children.group(id) else { return };
        let ended = |child: &Child| {
            self.children.common(*child).is_none_or(|common| !common.significant || common.phase == Phase::Ended)
        };
        let shuts_down = match group.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => group.children.values().all(ended),
        };
        let is_ending = matches!(&group.work, Work::Stopping { then, .. } if !matches!(then, Then::Restart { .. }));
        if shuts_down && !is_ending {
            self.wind_down(id, Next::Park, Then::ShutDown, desk);
        }
    }

    /// Whether a child goes down because its group stops it, so that its end is no failure.
    pub(super) fn is_being_stopped(&self, id: GroupId, child: Child) -> bool {
        match self.children.group(id).map(|group| (&group.work, group.common.phase)) {
            Some((Work::Stopping { left, then: Then::Restart { .. }, .. }, _)) => left.contains(&child),
            Some((Work::Stopping { .. }, _)) => true,
            Some((_, phase)) => phase.is_down(),
            None => true,
        }
    }

    /// The children from `from` on that start with their group, in order: a temporary one only for the first time.
    pub(super) fn startable(&self, id: GroupId, from: u64) -> VecDeque<Child> {
        let starts = |child: &Child| {
            let was_started = match child {
                Child::Worker(id) => self.children.worker(*id).is_some_and(|worker| worker.generation > Generation(0)),
                Child::Group(id) => self.children.group(*id).is_some_and(|group| group.was_started),
            };
            let kind = self.children.common(*child).map(|common| common.kind);
            !was_started || kind != Some(RestartKind::Temporary)
        };
        let Some(group) = self.children.group(id) else { return VecDeque::new() };
        group.children.range(from..).map(|(_, &child)| child).filter(starts).collect()
    }

    /// Sets what a group is doing, and puts it on the agenda.
    pub(super) fn set_work(&mut self, id: GroupId, work: Work) {
        if let Some(group) = self.children.group_mut(id) {
            group.work = work;
            self.agenda.push_back(id);
        }
    }
}
