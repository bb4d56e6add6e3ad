//! `lifecycle`: one child from its start to its end: starting, up, failed, stopped or ended.
//!
//! It decides whether and when the child starts again. What its failure means for its siblings is
//! in `groups`.

use std::time::Duration;

use super::children::{AfterGroupStop, AfterStop, GroupTask, PendingCommand, Phase};
use super::{Counting, Strategy, Supervision};
use crate::ctx::Ctx;
use crate::event::{Cause, Event};
use crate::interruption::Interruption;
use crate::member::{Child, Generation, GroupId, WorkerId};
use crate::output::{Output, RestartPermit, Start};
use crate::supervision::restart::{Decision, RestartKind, Window};
use crate::time::Instant;

/// How many starts in a row may hold their thread past the timeout. The second start hangs where
/// the first one did, so a third would only lose one more thread.
const HUNG_STARTS_MAX: u8 = 2;

impl Supervision {
    /// Starts a child. A generation of it that still runs is stale from now on.
    pub(super) fn launch(&mut self, child: Child, ctx: &mut Ctx) {
        self.clear_timer(child);
        match child {
            Child::Worker(id) => self.launch_worker(id, ctx),
            Child::Group(id) => {
                let Some(group) = self.children.group_mut(id) else { return };
                group.common.phase = Phase::Starting;
                group.was_started = true;
                group.window = Window::default();
                let left = self.startable(id, ctx);
                self.set_task(id, GroupTask::Starting { left, current: None });
            }
        }
    }

    fn launch_worker(&mut self, id: WorkerId, ctx: &mut Ctx) {
        let may_restart = self.may_restart_itself(id);
        let Some(worker) = self.children.worker_mut(id) else { return };
        let (timeout, start_timeout) = (worker.timeout(&ctx.config), worker.start_timeout(&ctx.config));
        if worker.has_thread && self.threads.is_held(worker.thread_slot) {
            worker.has_thread = false;
            self.threads.release_worker(worker.thread_slot, ctx);
        }
        worker.wait = None;
        let arbiter = match worker.has_thread {
            true => self.threads.at(worker.thread_slot),
            false => {
                (worker.has_thread, worker.thread_slot) = (true, worker.home);
                self.threads.assign_worker(worker.home, timeout, ctx)
            }
        };
        let thread_slot = worker.thread_slot;
        worker.common.phase = Phase::Starting;
        worker.is_open = true;
        (worker.stuck, worker.unready, worker.has_moved) = (None, None, false);
        // The old thread may be using its restart permit right now, and its report may be lost.
        // Skip every generation that the permit covers, and one for a fence. So no two runs ever
        // share a number, and the old one stays stale.
        worker.generation = Generation(if worker.generation.0 == 0 { 1 } else { worker.permit_until.0 + 2 });
        let permit = if may_restart { worker.restart_permit(ctx) } else { RestartPermit::none(worker.generation) };
        worker.permit_until = permit.until;
        ctx.push(Output::Start(Start {
            worker: id,
            generation: worker.generation,
            arbiter,
            shard: worker.shard,
            // From here on the worker's slot keeps its snapshots.
            replica: worker.replica.take().map(|replica| *replica),
            cause: worker.common.failure.as_ref().map(|failure| failure.0.clone()),
            permit,
        }));
        // The start timeout does not run while the thread is missing.
        if !self.threads.lacks_thread(thread_slot) {
            self.set_timer(Child::Worker(id), ctx.now + start_timeout);
        }
        if self.next_scan == Instant::NEVER {
            self.next_scan = ctx.now + ctx.config.workers.scan;
        }
    }

    /// Handles that a child is up.
    pub(super) fn child_up(&mut self, child: Child, ctx: &mut Ctx) {
        self.clear_timer(child);
        let Some(common) = self.children.common_mut(child) else { return };
        common.phase = Phase::Running;
        let (name, parent) = (common.name.clone(), common.parent);
        let failure = common.failure.take().map(|failure| *failure);
        match child {
            Child::Worker(id) => {
                let Some(worker) = self.children.worker_mut(id) else { return };
                worker.hung_starts = 0;
                let (generation, shard) = (worker.generation, worker.shard);
                ctx.emit(match failure {
                    Some((cause, since)) => {
                        Event::Replaced { worker: name, generation, cause, after: ctx.now - since, shard }
                    }
                    None => Event::Started { worker: name, generation, shard },
                });
            }
            Child::Group(_) => {
                ctx.emit(Event::GroupStarted { group: name, cause: failure.map(|(cause, _)| cause) });
            }
        }
        self.pending.push_back(parent);
    }

    /// Handles that a worker's own thread has started it again under its permit. It is not up yet.
    pub(super) fn worker_restarted(&mut self, id: WorkerId, cause: Cause, failed_at: Instant, ctx: &mut Ctx) {
        let child = Child::Worker(id);
        self.emit_failed(child, &cause, Some(Duration::ZERO), ctx);
        self.note_restart(child);
        let Some(worker) = self.children.worker_mut(id) else { return };
        let policy = worker.common.policy.as_deref().unwrap_or(&ctx.config.restart);
        worker.common.restart.record(ctx.now, policy);
        worker.common.phase = Phase::Starting;
        worker.common.failure = Some(Box::new((cause, failed_at)));
        worker.generation = Generation(worker.generation.0 + 1);
        (worker.stuck, worker.unready) = (None, None);
        let permit = worker.restart_permit(ctx);
        worker.permit_until = worker.permit_until.max(permit.until);
        let start_timeout = worker.start_timeout(&ctx.config);
        ctx.push(Output::SetRestartPermit { worker: id, permit });
        self.set_timer(child, ctx.now + start_timeout);
    }

    /// Handles that a child ended by itself without a fault.
    pub(super) fn finish(&mut self, child: Child, cause: Cause, ctx: &mut Ctx) {
        let Some(common) = self.children.common(child) else { return };
        match common.kind {
            RestartKind::Permanent => self.fail(child, cause, ctx.now, ctx),
            // Its group is stopping its children: it goes the way of those that were stopped.
            RestartKind::Transient | RestartKind::Temporary if self.is_being_stopped(common.parent, child) => {
                self.child_stopped(child, self.next_with_group(child, AfterStop::Park), ctx);
            }
            RestartKind::Transient | RestartKind::Temporary => self.end(child, ctx),
        }
    }

    /// Handles that a child ended with a fault that began at `since`.
    pub(super) fn fail(&mut self, child: Child, cause: Cause, since: Instant, ctx: &mut Ctx) {
        self.clear_timer(child);
        let Some(common) = self.children.common_mut(child) else { return };
        let parent = common.parent;
        // A failed start extends the failure that it was to repair.
        let since = common.failure.as_ref().map_or(since, |failure| failure.1);
        common.failure = Some(Box::new((cause.clone(), since)));
        if self.is_being_stopped(parent, child) {
            self.emit_failed(child, &cause, None, ctx);
            match self.next_with_group(child, AfterStop::Park) {
                AfterStop::Park | AfterStop::Start => {
                    self.set_phase(child, Phase::Parked);
                    self.pending.push_back(parent);
                }
                next @ (AfterStop::Close | AfterStop::Remove) => self.child_stopped(child, next, ctx),
            }
            return;
        }
        match self.decide(child, ctx) {
            None => {
                self.emit_failed(child, &cause, None, ctx);
                self.end(child, ctx);
            }
            Some(Decision::GiveUp) => {
                self.emit_failed(child, &cause, None, ctx);
                self.give_up(child, cause, ctx);
            }
            Some(decision @ (Decision::Now | Decision::At(_))) => {
                let at = match decision {
                    Decision::At(at) => at,
                    Decision::Now | Decision::GiveUp => ctx.now,
                };
                self.emit_failed(child, &cause, Some(at - ctx.now), ctx);
                self.note_restart(child);
                match self.children.group(parent).map(|group| group.strategy) {
                    Some(Strategy::OneForAll | Strategy::RestForOne) => self.restart_from(parent, child, at, ctx),
                    Some(Strategy::OneForOne) | None if at <= ctx.now => self.launch(child, ctx),
                    Some(Strategy::OneForOne) | None => {
                        self.set_phase(child, Phase::Waiting);
                        self.set_timer(child, at);
                    }
                }
            }
        }
    }

    /// What follows the failure of a child; `None` if its kind is not started again.
    fn decide(&mut self, child: Child, ctx: &mut Ctx) -> Option<Decision> {
        let hung = match child {
            Child::Worker(id) => self.children.worker(id).map_or(0, |worker| worker.hung_starts),
            Child::Group(_) => 0,
        };
        let common = self.children.common(child)?;
        match common.kind {
            RestartKind::Permanent | RestartKind::Transient => {}
            RestartKind::Temporary => return None,
        }
        if hung >= HUNG_STARTS_MAX {
            return Some(Decision::GiveUp);
        }
        // The limits of a group are for its children, not for the group itself.
        let own = if let Child::Worker(_) = child { common.policy.clone() } else { None };
        let parent = common.parent;
        let own = own.as_deref().unwrap_or(&ctx.config.restart);
        let group = self.children.group(parent)?;
        match group.counting {
            Counting::Each => Some(self.children.common_mut(child)?.restart.decide(ctx.now, own, &mut ctx.random)),
            Counting::Together => {
                let shared = group.common.policy.clone();
                let shared = shared.as_deref().unwrap_or(&ctx.config.restart);
                if !self.children.group_mut(parent)?.window.has_room(ctx.now, shared) {
                    return Some(Decision::GiveUp);
                }
                let pause = self.children.common_mut(child)?.restart.backoff.pause(ctx.now, own, &mut ctx.random);
                self.children.group_mut(parent)?.window.count(ctx.now + pause, shared);
                Some(Decision::after(ctx.now, pause))
            }
        }
    }

    /// Gives a child up: it failed more often than its limits allow.
    fn give_up(&mut self, child: Child, cause: Cause, ctx: &mut Ctx) {
        let Some(common) = self.children.common(child) else { return };
        let (name, parent, restarts) = (common.name.clone(), common.parent, common.restart.count());
        let Some(group) = self.children.group(parent) else { return };
        match group.counting {
            Counting::Together => {
                let (group, restarts) = (group.common.name.clone(), group.window.len());
                self.set_phase(child, Phase::Parked);
                ctx.emit(Event::Escalated { group, child: name.clone(), restarts, cause: cause.clone() });
                let cause = Cause::Exhausted { child: name, cause: cause.to_string().into() };
                self.stop_children(parent, AfterStop::Park, AfterGroupStop::Fail(cause), ctx);
            }
            Counting::Each => {
                self.set_phase(child, Phase::GivenUp);
                self.close(child, ctx);
                ctx.emit(Event::GaveUp { worker: name.clone(), restarts, cause: cause.clone() });
                if let Child::Worker(id) = child
                    && self.children.worker(id).is_some_and(|worker| worker.shard.is_some())
                {
                    self.given_up.push(id);
                }
                if parent == GroupId::ROOT {
                    self.gave_up = true;
                } else if self.children.group(parent).is_some_and(|group| {
                    group.children.values().all(|&child| self.children.phase(child) == Some(Phase::GivenUp))
                }) {
                    // Every child is given up, so nothing does the group's work.
                    let cause = Cause::Exhausted { child: name, cause: cause.to_string().into() };
                    self.stop_children(parent, AfterStop::Park, AfterGroupStop::Fail(cause), ctx);
                }
            }
        }
        self.pending.push_back(parent);
    }

    /// Handles that a child ended by itself and is not started again.
    fn end(&mut self, child: Child, ctx: &mut Ctx) {
        self.clear_timer(child);
        self.set_phase(child, Phase::Ended);
        self.close(child, ctx);
        self.emit_stopped(child, ctx);
        let Some(common) = self.children.common(child) else { return };
        let (parent, significant) = (common.parent, common.significant);
        if significant {
            self.significant_ended(parent, ctx);
        }
        self.pending.push_back(parent);
        // As in OTP, a template keeps nothing of a child that has ended: there may be any number of
        // them.
        if self.children.group(parent).is_some_and(|group| group.dynamic) {
            self.forget(child, ctx);
        }
    }

    /// Handles that a child that was to stop has stopped, or did not run.
    pub(super) fn child_stopped(&mut self, child: Child, next: AfterStop, ctx: &mut Ctx) {
        self.clear_timer(child);
        let Some(parent) = self.children.common(child).map(|common| common.parent) else { return };
        self.pending.push_back(parent);
        match next {
            AfterStop::Park => {
                self.set_phase(child, Phase::Parked);
                self.release(child, ctx);
                self.emit_stopped(child, ctx);
            }
            AfterStop::Start if self.is_being_stopped(parent, child) => {
                self.child_stopped(child, self.next_of_startable(parent, child), ctx);
            }
            AfterStop::Start => {
                self.set_phase(child, Phase::Parked);
                self.emit_stopped(child, ctx);
                self.launch(child, ctx);
            }
            AfterStop::Close | AfterStop::Remove => {
                self.set_phase(child, Phase::Idle);
                self.close(child, ctx);
                self.emit_stopped(child, ctx);
                if next == AfterStop::Remove {
                    self.forget(child, ctx);
                }
            }
        }
    }

    /// Stops a child; `next` is what follows. A child that does not run counts as stopped at once.
    pub(super) fn request_stop(&mut self, child: Child, next: AfterStop, ctx: &mut Ctx) {
        let Some(phase) = self.children.phase(child) else { return };
        match (child, phase) {
            (_, Phase::Stopping(already)) => {
                self.set_phase(child, Phase::Stopping(already.max(next)));
                if let Child::Worker(id) = child {
                    self.update_stop_reason(id, already, ctx);
                }
            }
            // It waits for a thread, so nothing of it runs.
            (Child::Worker(id), Phase::Starting) if self.waits_for_thread(id) => {
                ctx.push(Output::Fence { worker: id, why: Interruption::Stopped });
                self.child_stopped(child, next, ctx);
            }
            (Child::Worker(id), Phase::Starting | Phase::Running) => {
                self.set_phase(child, Phase::Stopping(next));
                let stop_deadline = self.stop_deadline(id, next, ctx);
                let why = self.why_stopped(id, next);
                if stop_deadline == Some(ctx.now) {
                    ctx.push(Output::Fence { worker: id, why });
                    return self.child_stopped(child, next, ctx);
                }
                ctx.push(Output::Stop { worker: id, why });
                let Some(worker) = self.children.worker(id) else { return };
                let at = stop_deadline.unwrap_or(ctx.now + worker.shutdown_timeout(&ctx.config));
                self.set_timer(child, at);
            }
            (Child::Group(id), Phase::Starting | Phase::Running) => {
                self.set_phase(child, Phase::Stopping(next));
                let below = if next == AfterStop::Park || next == AfterStop::Start {
                    AfterStop::Park
                } else {
                    AfterStop::Close
                };
                self.stop_children(id, below, AfterGroupStop::Down, ctx);
            }
            // Its children are parked with open queues. If they will not start again, the queues
            // must be closed.
            (Child::Group(id), Phase::Waiting | Phase::Parked) if next >= AfterStop::Close => {
                self.clear_timer(child);
                self.set_phase(child, Phase::Stopping(next));
                self.stop_children(id, AfterStop::Close, AfterGroupStop::Down, ctx);
            }
            (_, Phase::Waiting) => self.child_stopped(child, next, ctx),
            (_, Phase::Parked) if next >= AfterStop::Close => self.child_stopped(child, next, ctx),
            (_, Phase::Parked) => {}
            (_, Phase::Idle | Phase::Ended | Phase::GivenUp) if next == AfterStop::Remove => self.forget(child, ctx),
            // It was never started, so its queue is still open.
            (Child::Worker(id), Phase::Idle)
                if next == AfterStop::Close && self.children.worker(id).is_some_and(|worker| worker.is_open) =>
            {
                self.close(child, ctx);
            }
            (_, Phase::Idle | Phase::Ended | Phase::GivenUp) => {}
        }
    }

    /// The reason that the senders of unanswered messages get if a worker is stopped and `next`
    /// follows.
    pub(super) fn why_stopped(&self, id: WorkerId, next: AfterStop) -> Interruption {
        match next {
            AfterStop::Park | AfterStop::Start => Interruption::Restarted,
            AfterStop::Close | AfterStop::Remove if self.is_leaving => Interruption::NodeLeft,
            AfterStop::Close | AfterStop::Remove if self.children.worker(id).is_some_and(|worker| worker.has_moved) => {
                Interruption::ShardMoved
            }
            AfterStop::Close | AfterStop::Remove => Interruption::Stopped,
        }
    }

    /// Sends a stop again to a worker that is stopping, if the reason has changed since `before`.
    pub(super) fn update_stop_reason(&mut self, id: WorkerId, before: AfterStop, ctx: &mut Ctx) {
        let Some(Phase::Stopping(next)) = self.children.phase(Child::Worker(id)) else { return };
        let why = self.why_stopped(id, next);
        if why != self.why_stopped(id, before) {
            ctx.push(Output::Stop { worker: id, why });
        }
    }

    /// Emits that a worker failed, and how long until it is started again.
    pub(super) fn emit_failed(&self, child: Child, cause: &Cause, restart_in: Option<Duration>, ctx: &mut Ctx) {
        // A group's failure has its own event: `Escalated`, with the child that led to it.
        if let Child::Worker(id) = child
            && let Some(worker) = self.children.worker(id)
        {
            let (worker, generation) = (worker.common.name.clone(), worker.generation);
            ctx.emit(Event::Failed { worker, generation, cause: cause.clone(), restart_in });
        }
    }

    pub(super) fn set_phase(&mut self, child: Child, phase: Phase) {
        if let Some(common) = self.children.common_mut(child) {
            common.phase = phase;
        }
    }

    /// Whether a worker's own thread may restart it at once: only if its failure concerns no
    /// sibling and its restarts count for itself alone.
    fn may_restart_itself(&self, id: WorkerId) -> bool {
        let Some(worker) = self.children.worker(id) else { return false };
        let Some(group) = self.children.group(worker.common.parent) else { return false };
        worker.common.kind != RestartKind::Temporary
            && group.strategy == Strategy::OneForOne
            && group.counting == Counting::Each
    }

    /// Whether the thread of a worker's slot could not be made yet.
    fn waits_for_thread(&self, id: WorkerId) -> bool {
        self.children.worker(id).is_some_and(|worker| self.threads.lacks_thread(worker.thread_slot))
    }

    fn emit_stopped(&self, child: Child, ctx: &mut Ctx) {
        match child {
            Child::Worker(id) => {
                let Some(worker) = self.children.worker(id) else { return };
                ctx.emit(Event::Stopped { worker: worker.common.name.clone(), generation: worker.generation });
            }
            Child::Group(id) => {
                let Some(group) = self.children.group(id) else { return };
                ctx.emit(Event::GroupStopped { group: group.common.name.clone() });
            }
        }
    }

    /// Closes the queues of a child and of all children below it: nothing will read them.
    pub(super) fn close(&mut self, child: Child, ctx: &mut Ctx) {
        let gave_up = self.children.phase(child) == Some(Phase::GivenUp);
        let mut open = vec![child];
        while let Some(child) = open.pop() {
            match child {
                Child::Worker(id) => {
                    if let Some(worker) = self.children.worker_mut(id) {
                        worker.is_open = false;
                    }
                    ctx.push(Output::Close { worker: id, gave_up });
                    self.release(child, ctx);
                }
                Child::Group(id) => {
                    for (_, child) in self.children_from(id, 0) {
                        // The command was for a start that does not come.
                        if let Some(common) = self.children.common_mut(child) {
                            common.pending_command = PendingCommand::None;
                        }
                        open.push(child);
                    }
                }
            }
        }
    }

    /// Releases the thread of a worker that is down, if it still counts as a user of it.
    fn release(&mut self, child: Child, ctx: &mut Ctx) {
        if let Child::Worker(id) = child
            && let Some(worker) = self.children.worker_mut(id)
            && std::mem::take(&mut worker.has_thread)
        {
            let thread_slot = worker.thread_slot;
            self.threads.release_worker(thread_slot, ctx);
        }
    }

    /// Removes a child that is down, and all children below it.
    fn forget(&mut self, child: Child, ctx: &mut Ctx) {
        let mut removed = Vec::new();
        self.close(child, ctx);
        self.children.remove(child, &mut removed);
        self.forget_restarts(child);
        for (child, name) in removed {
            self.clear_timer(child);
            ctx.push(match child {
                Child::Worker(worker) => Output::Forget { worker },
                Child::Group(_) => Output::ForgetGroup { group: name },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, TICK, worker};
    use super::super::{Report, Supervise};
    use super::*;

    const ID: WorkerId = WorkerId(0);
    const CHILD: Child = Child::Worker(ID);

    fn start(fixture: &mut Fixture) -> Start {
        let starts = fixture.outputs().into_iter().filter_map(|output| match output {
            Output::Start(start) => Some(start),
            _ => None,
        });
        starts.last().unwrap()
    }

    #[test]
    fn a_new_generation_skips_all_that_the_permit_covers() {
        let mut fixture = Fixture::new();
        fixture.ctx.config.restart.delay_min = Duration::ZERO;
        fixture.add(worker(0, GroupId::ROOT));
        let first = start(&mut fixture);
        assert_eq!((first.generation, first.permit.until), (Generation(1), Generation(6)));
        fixture.fail(0);
        assert_eq!(start(&mut fixture).generation, Generation(8), "6 is permitted, 7 is for a fence");
    }

    #[test]
    fn a_temporary_worker_gets_no_permit() {
        let mut fixture = Fixture::new();
        fixture.add(Supervise { kind: RestartKind::Temporary, ..worker(0, GroupId::ROOT) });
        assert_eq!(start(&mut fixture).permit, RestartPermit::none(Generation(1)));
    }

    #[test]
    fn a_report_of_a_stale_generation_changes_nothing() {
        let mut fixture = Fixture::with_workers(1);
        fixture.supervision.handle_report(ID, Generation(2), Report::Stopped, &mut fixture.ctx);
        fixture.supervision.handle_report(ID, Generation(0), Report::Stopped, &mut fixture.ctx);
        assert_eq!(fixture.outputs(), []);
        assert_eq!(fixture.supervision.children.phase(CHILD), Some(Phase::Running));
    }

    /// How a worker of this kind ends by itself, without a fault and with one.
    #[track_caller]
    fn check_end(kind: RestartKind, stopped: Phase, failed: Phase) {
        for (report, expected) in [(Report::Stopped, stopped), (Report::Failed(Cause::ReportedFailed), failed)] {
            let mut fixture = Fixture::new();
            fixture.add(Supervise { kind, ..worker(0, GroupId::ROOT) });
            fixture.report(0, Report::Started);
            fixture.report(0, report);
            assert_eq!(fixture.supervision.children.phase(CHILD), Some(expected));
        }
    }

    #[test]
    fn the_kind_decides_which_ends_are_followed_by_a_restart() {
        check_end(RestartKind::Permanent, Phase::Starting, Phase::Starting);
        check_end(RestartKind::Transient, Phase::Ended, Phase::Starting);
        check_end(RestartKind::Temporary, Phase::Ended, Phase::Ended);
    }

    #[test]
    fn the_second_start_that_hangs_is_the_last_one() {
        for (hung_starts, expected) in [(1, Phase::Starting), (HUNG_STARTS_MAX, Phase::GivenUp)] {
            let mut fixture = Fixture::with_workers(1);
            fixture.supervision.children.worker_mut(ID).unwrap().hung_starts = hung_starts;
            fixture.fail(0);
            assert_eq!(fixture.supervision.children.phase(CHILD), Some(expected));
            assert_eq!(fixture.supervision.take_gave_up(), expected == Phase::GivenUp);
        }
    }

    #[test]
    fn of_two_stops_the_later_purpose_wins() {
        for (first, second, expected) in [
            (AfterStop::Park, AfterStop::Close, AfterStop::Close),
            (AfterStop::Close, AfterStop::Start, AfterStop::Close),
            (AfterStop::Close, AfterStop::Remove, AfterStop::Remove),
        ] {
            let mut fixture = Fixture::with_workers(1);
            fixture.supervision.request_stop(CHILD, first, &mut fixture.ctx);
            fixture.supervision.request_stop(CHILD, second, &mut fixture.ctx);
            assert_eq!(fixture.supervision.children.phase(CHILD), Some(Phase::Stopping(expected)));
        }
    }

    #[test]
    fn a_stop_is_sent_again_only_if_its_reason_changes() {
        let mut fixture = Fixture::with_workers(1);
        fixture.supervision.request_stop(CHILD, AfterStop::Start, &mut fixture.ctx);
        fixture.supervision.request_stop(CHILD, AfterStop::Start, &mut fixture.ctx);
        fixture.supervision.request_stop(CHILD, AfterStop::Close, &mut fixture.ctx);
        fixture.supervision.request_stop(CHILD, AfterStop::Remove, &mut fixture.ctx);
        let stop = |why| Output::Stop { worker: ID, why };
        assert_eq!(fixture.outputs(), [stop(Interruption::Restarted), stop(Interruption::Stopped)]);
    }

    #[test]
    fn a_worker_that_does_not_stop_is_fenced_after_its_deadline() {
        let mut fixture = Fixture::with_workers(1);
        fixture.stop(CHILD);
        fixture.pass(fixture.ctx.config.workers.shutdown_timeout);
        fixture.expire();
        assert_eq!(fixture.supervision.children.phase(CHILD), Some(Phase::Stopping(AfterStop::Close)));
        fixture.pass(TICK);
        fixture.expire();
        assert!(fixture.events().iter().any(|event| matches!(event, Event::Fenced { .. })));
        assert_eq!(fixture.supervision.children.phase(CHILD), Some(Phase::Idle));
    }

    #[test]
    fn after_a_pause_a_deadline_counts_from_its_end() {
        let mut fixture = Fixture::with_workers(1);
        fixture.stop(CHILD);
        let timeout = fixture.ctx.config.workers.shutdown_timeout;
        fixture.pass(timeout + TICK);
        fixture.supervision.discount_pause(&fixture.ctx);
        fixture.expire();
        assert_eq!(fixture.supervision.children.phase(CHILD), Some(Phase::Stopping(AfterStop::Close)));
        fixture.pass(timeout + TICK);
        fixture.expire();
        assert_eq!(fixture.supervision.children.phase(CHILD), Some(Phase::Idle));
    }
}
