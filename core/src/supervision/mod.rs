//! `Supervision`: the workers of this process, their groups and threads, and what follows when a
//! worker fails.
//!
//! A worker's own thread reports panics and stops at once. A held thread can report nothing, so its
//! silence is the evidence (`threads`): an inspection finds the worker that holds it (`held`). A
//! worker that waits without end holds no thread; a scan of the status cells finds it
//! (`worker_health`). `lifecycle` leads one worker or group from start to end, and `groups` decides
//! what its failure means for its siblings.
//!
//! Nothing here recurses. A child that comes up or goes down puts its group on a list of pending
//! groups, and `run_pending` works through the list once the input is handled. A failure that ends
//! a group, which ends its parent, is as many short steps as the tree is deep.
//!
//! This module starts nothing: it says what to start. Whether a restart follows a failure is
//! decided in `restart`.

mod children;
mod figures;
#[cfg(test)]
mod fixture;
mod groups;
mod held;
mod lifecycle;
pub mod restart;
mod spec;
mod threads;
mod worker_health;

use std::collections::VecDeque;
use std::time::Duration;

use crate::ctx::Ctx;
use crate::event::{Cause, Event};
use crate::interruption::Interruption;
use crate::member::{
    ArbiterId, Child, CpuTimes, Generation, GroupId, Shard, StatusSample, ThreadSample, ThreadSlotId, WorkerActivity,
    WorkerId,
};
use crate::output::Output;
use crate::snapshot::ShardSnapshot;
use crate::time::{Instant, earliest};
use crate::timer_wheel::TimerWheel;

use children::{AfterStop, Children, GroupTask, PendingCommand, Phase};
use threads::{ThreadVerdict, Threads};

pub use figures::{GroupFigures, ThreadFigures, ThreadStanding};
pub use spec::{AutoShutdown, Counting, Report, Standing, Strategy, Supervise, SuperviseGroup, Times};

/// Restarts that are remembered to answer which child is nearest to its limits.
const RECENT_MAX: usize = 1_024;

/// The workers, groups and threads of this process.
#[derive(Clone, Debug)]
pub(crate) struct Supervision {
    children: Children,
    threads: Threads,
    /// The end of each child's phase at the latest; see `Children::entry` for the numbers.
    timers: TimerWheel,
    /// Groups of which a child has come up or gone down, to be advanced.
    pending: VecDeque<GroupId>,
    /// When the status cells are scanned next; `NEVER` while no worker runs.
    next_scan: Instant,
    /// The end of the newest pause of this process. Each deadline counts from here at the earliest,
    /// since nothing could be done during the pause.
    deadlines_from: Instant,
    /// Whether everything was stopped because the node leaves.
    is_leaving: bool,
    /// The workers of shards that were given up since they were taken last.
    given_up: Vec<WorkerId>,
    /// Whether a child of the root group was given up, or too many threads are held, since this was
    /// taken last.
    gave_up: bool,
    /// The children that were restarted after a failure, the newest last; at most [`RECENT_MAX`].
    recent: VecDeque<Child>,
}

impl Supervision {
    /// No workers, and as many threads as the config says, to be made now.
    pub(crate) fn new(ctx: &mut Ctx) -> Supervision {
        let mut threads = Threads::default();
        for thread_slot in 0..ctx.config.workers.arbiters {
            threads.open(ThreadSlotId(thread_slot), ctx.config.workers.timeout, ctx);
        }
        Supervision {
            children: Children::new(),
            threads,
            timers: TimerWheel::new(ctx.now),
            pending: VecDeque::new(),
            next_scan: Instant::NEVER,
            deadlines_from: Instant::ZERO,
            is_leaving: false,
            given_up: Vec::new(),
            gave_up: false,
            recent: VecDeque::new(),
        }
    }

    // ---- inputs ---------------------------------------------------------------------------------

    /// Adds a worker. If it is no shard, it starts: at once in the root or a dynamic group, in its
    /// turn in any other. If its group was removed, it is closed and removed.
    pub(crate) fn supervise(&mut self, supervise: Supervise, ctx: &mut Ctx) {
        if self.children.group(supervise.group).is_none() {
            // The group was removed while this input was on its way, and its members go with it.
            ctx.push(Output::Close { worker: supervise.worker, gave_up: false });
            ctx.push(Output::Forget { worker: supervise.worker });
            return;
        }
        let id = self.add_worker(supervise);
        self.begin(id, ctx);
        self.run_pending(ctx);
    }

    /// Adds a worker without starting it.
    pub(crate) fn add_worker(&mut self, supervise: Supervise) -> Child {
        self.children.add_worker(supervise)
    }

    /// Adds a group and starts it, still empty. If its parent was removed, the group is removed
    /// too.
    pub(crate) fn supervise_group(&mut self, supervise: SuperviseGroup, ctx: &mut Ctx) {
        if self.children.group(supervise.parent).is_none() {
            ctx.push(Output::ForgetGroup { group: supervise.name });
            return;
        }
        let id = self.children.add_group(supervise);
        self.begin(id, ctx);
        self.run_pending(ctx);
    }

    /// Starts a shard's worker under `shard`. A generation of it that still runs is stale from now
    /// on.
    pub(crate) fn start_shard(&mut self, id: WorkerId, shard: Shard, replica: Option<ShardSnapshot>, ctx: &mut Ctx) {
        let child = Child::Worker(id);
        let Some(worker) = self.children.worker_mut(id) else { return };
        worker.shard = Some(shard);
        worker.replica = replica.map(Box::new);
        match worker.common.phase {
            // It is stopping. It starts again when it has stopped, since it is a shard again.
            Phase::Stopping(before) => {
                worker.common.phase = Phase::Stopping(AfterStop::Start);
                self.update_stop_reason(id, before, ctx);
            }
            // This node owns the shard again, and tries again.
            Phase::GivenUp => {
                worker.hung_starts = 0;
                worker.common.restart = Default::default();
                worker.common.failure = None;
                self.launch(child, ctx);
            }
            // It has not begun, has ended, or runs under the previous epoch: a new generation
            // replaces it.
            Phase::Idle | Phase::Parked | Phase::Starting | Phase::Running | Phase::Waiting | Phase::Ended => {
                self.launch(child, ctx);
            }
        }
        self.run_pending(ctx);
    }

    /// Starts a child that has ended, was stopped or was given up. A child that runs is left alone.
    pub(crate) fn start(&mut self, child: Child, ctx: &mut Ctx) {
        let Some(common) = self.children.common_mut(child) else { return };
        match common.phase {
            Phase::Stopping(AfterStop::Remove) | Phase::Starting | Phase::Running => {}
            Phase::Stopping(before) => {
                common.phase = Phase::Stopping(AfterStop::Start);
                self.note_command(child, PendingCommand::Start);
                if let Child::Worker(id) = child {
                    self.update_stop_reason(id, before, ctx);
                }
            }
            Phase::Idle | Phase::Parked | Phase::Waiting | Phase::Ended | Phase::GivenUp => {
                self.note_command(child, PendingCommand::Start);
                let Some(common) = self.children.common_mut(child) else { return };
                common.restart = Default::default();
                common.failure = None;
                if let Child::Worker(id) = child
                    && let Some(worker) = self.children.worker_mut(id)
                {
                    worker.hung_starts = 0;
                }
                self.begin(child, ctx);
            }
        }
        self.run_pending(ctx);
    }

    /// Stops a child gracefully and starts it again with its queue. A child that does not run only
    /// starts. No limit counts this.
    pub(crate) fn restart(&mut self, child: Child, ctx: &mut Ctx) {
        match self.children.phase(child) {
            Some(Phase::Starting | Phase::Running) => {
                self.note_command(child, PendingCommand::Start);
                self.request_stop(child, AfterStop::Start, ctx);
            }
            Some(_) => self.start(child, ctx),
            None => {}
        }
        self.run_pending(ctx);
    }

    /// Stops a child gracefully and closes its queue. It may be started again later.
    pub(crate) fn stop(&mut self, child: Child, ctx: &mut Ctx) {
        if let Child::Worker(id) = child
            && let Some(worker) = self.children.worker_mut(id)
        {
            worker.shard = None;
        }
        self.note_command(child, PendingCommand::Stop);
        self.request_stop(child, AfterStop::Close, ctx);
        self.run_pending(ctx);
    }

    /// Stops a shard's worker gracefully and closes its queue: another node will run the shard.
    pub(crate) fn stop_shard(&mut self, id: WorkerId, ctx: &mut Ctx) {
        if let Some(worker) = self.children.worker_mut(id) {
            worker.has_moved = true;
        }
        self.stop(Child::Worker(id), ctx);
    }

    /// Stops a child gracefully and removes it. The root cannot be removed.
    pub(crate) fn remove(&mut self, child: Child, ctx: &mut Ctx) {
        self.request_stop(child, AfterStop::Remove, ctx);
        self.run_pending(ctx);
    }

    /// Stops all children in turn, from the last to the first.
    pub(crate) fn stop_all(&mut self, ctx: &mut Ctx) {
        self.is_leaving = true;
        self.request_stop(Child::Group(GroupId::ROOT), AfterStop::Close, ctx);
        self.run_pending(ctx);
    }

    /// Handles the report of a worker's thread on `generation`. Reports of a stale generation
    /// change nothing.
    pub(crate) fn handle_report(&mut self, id: WorkerId, generation: Generation, report: Report, ctx: &mut Ctx) {
        let Some(worker) = self.children.worker_mut(id) else { return };
        if generation != worker.generation {
            return;
        }
        let child = Child::Worker(id);
        match (report, worker.common.phase) {
            (Report::Started, Phase::Starting) => self.child_up(child, ctx),
            (Report::Started, Phase::Running | Phase::Stopping(_)) => {}
            (Report::Failed(cause), Phase::Starting | Phase::Running) => self.fail(child, cause, ctx.now, ctx),
            (Report::Restarted { cause, failed_at, is_up }, Phase::Starting | Phase::Running) => {
                self.worker_restarted(id, cause, failed_at, ctx);
                if is_up {
                    self.child_up(child, ctx);
                }
            }
            (Report::Stopped, Phase::Starting | Phase::Running) => self.finish(child, Cause::Stopped, ctx),
            // It stopped, or failed while it was stopping: it is gone in both cases.
            (Report::Failed(cause), Phase::Stopping(next)) => {
                self.emit_failed(child, &cause, None, ctx);
                self.child_stopped(child, next, ctx);
            }
            // The thread started the next generation under its permit, and will stop it. But that
            // one may still run when its siblings go on, so it is fenced.
            (Report::Restarted { cause, .. }, Phase::Stopping(next)) => {
                ctx.push(Output::Fence { worker: id, why: self.why_stopped(id, next) });
                self.emit_failed(child, &cause, None, ctx);
                self.child_stopped(child, next, ctx);
            }
            (Report::Stopped, Phase::Stopping(next)) => self.child_stopped(child, next, ctx),
            (_, Phase::Idle | Phase::Parked | Phase::Waiting | Phase::Ended | Phase::GivenUp) => {}
        }
        self.run_pending(ctx);
    }

    /// Handles samples of status cells. Workers with nothing to report may be left out.
    pub(crate) fn handle_status_samples(&mut self, samples: &[StatusSample], ctx: &mut Ctx) {
        for sample in samples {
            self.handle_status_sample(sample, ctx);
        }
        self.run_pending(ctx);
    }

    /// Handles a beat of a thread, with the CPU times of the thread if the system gives them.
    pub(crate) fn handle_beat(&mut self, arbiter: ArbiterId, slot: u64, times: Option<CpuTimes>, ctx: &mut Ctx) {
        if let Some(returned) = self.threads.beat(arbiter, slot, times, ctx) {
            self.thread_returned(arbiter, returned, ctx);
            self.run_pending(ctx);
        }
    }

    /// Handles what the workers of a silent thread are doing, and the state of the thread if the
    /// system gives it.
    pub(crate) fn handle_inspection(
        &mut self,
        arbiter: ArbiterId,
        busy: &[WorkerActivity],
        seen: Option<ThreadSample>,
        ctx: &mut Ctx,
    ) {
        // A thread does one thing at a time: it is in the activity that began last.
        let blamed = busy.iter().max_by_key(|busy| (busy.since, busy.worker)).copied();
        let limit = match blamed.and_then(|busy| self.children.worker(busy.worker).map(|worker| (busy, worker))) {
            Some((busy, worker)) if busy.doing.is_start() => worker.start_timeout(&ctx.config),
            Some((_, worker)) => worker.timeout(&ctx.config),
            None => ctx.config.workers.timeout,
        };
        match self.threads.judge(arbiter, blamed, limit, seen, self.deadlines_from, ctx) {
            ThreadVerdict::Alive => {}
            ThreadVerdict::Later(at) => self.threads.inspect_again(arbiter, at),
            ThreadVerdict::TooMany => {
                self.gave_up = true;
                self.threads.inspect_again(arbiter, ctx.now + ctx.config.workers.timeout);
            }
            ThreadVerdict::Lost { thread_slot, silence, cause } => {
                self.thread_lost(thread_slot, silence, blamed.zip(cause), ctx)
            }
        }
        self.run_pending(ctx);
    }

    /// Handles that a thread which should run workers has ended.
    pub(crate) fn handle_arbiter_dead(&mut self, arbiter: ArbiterId, ctx: &mut Ctx) {
        if let Some(thread_slot) = self.threads.replace_dead(arbiter, ctx) {
            for id in self.children.workers_at(thread_slot) {
                self.worker_lost(id, Cause::ArbiterDead, ctx.now, ctx);
            }
        }
        self.run_pending(ctx);
    }

    /// Handles that a thread could not be made. Its workers wait for the next attempt. A missing
    /// resource of the host counts against no worker.
    pub(crate) fn handle_arbiter_not_made(&mut self, arbiter: ArbiterId, reason: &str, ctx: &mut Ctx) {
        let Some(thread_slot) = self.threads.not_made(arbiter, reason, ctx) else { return };
        for id in self.children.workers_at(thread_slot) {
            if self.children.phase(Child::Worker(id)) == Some(Phase::Starting) {
                self.clear_timer(Child::Worker(id));
            }
        }
    }

    /// Starts the workers whose threads are tried again.
    fn retry_threads(&mut self, ctx: &mut Ctx) {
        for thread_slot in self.threads.retry(ctx) {
            for id in self.children.workers_at(thread_slot) {
                if self.children.phase(Child::Worker(id)) == Some(Phase::Starting) {
                    self.launch(Child::Worker(id), ctx);
                }
            }
        }
    }

    /// Handles that an abandoned thread came back and ended.
    pub(crate) fn handle_arbiter_ended(&mut self, arbiter: ArbiterId, ctx: &mut Ctx) {
        self.threads.ended(arbiter, ctx);
    }

    /// Does what is due now.
    pub(crate) fn handle_timeout(&mut self, ctx: &mut Ctx) {
        for arbiter in self.threads.due(ctx.now) {
            ctx.push(Output::Inspect { arbiter });
        }
        self.retry_threads(ctx);
        while let Some(entry) = self.timers.pop_due(ctx.now) {
            self.expired(Children::child(entry), ctx);
        }
        if self.next_scan <= ctx.now {
            self.next_scan = ctx.now + ctx.config.workers.scan;
            ctx.push(Output::Scan);
        }
        self.run_pending(ctx);
    }

    /// Handles the end of a pause of this process: each deadline counts from now at the earliest.
    pub(crate) fn discount_pause(&mut self, ctx: &Ctx) {
        self.deadlines_from = ctx.now;
    }

    /// Fences each worker that has not stopped by the end of `workers.leave_timeout`, and closes
    /// all queues that are open.
    pub(crate) fn fence_all(&mut self, ctx: &mut Ctx) {
        for id in self.children.worker_ids() {
            let phase = self.children.phase(Child::Worker(id));
            let is_on_thread = matches!(phase, Some(Phase::Stopping(_) | Phase::Starting | Phase::Running));
            if is_on_thread {
                self.fence(id, Interruption::NodeLeft, ctx.config.workers.leave_timeout, ctx);
            }
            let Some(worker) = self.children.worker_mut(id) else { continue };
            // A parked worker, or one that waits for its restart, will not start again.
            if std::mem::take(&mut worker.is_open) || is_on_thread {
                ctx.push(Output::Close { worker: id, gave_up: false });
            }
        }
    }

    /// The workers of shards that were given up since they were taken last.
    pub(crate) fn take_given_up(&mut self) -> Vec<WorkerId> {
        std::mem::take(&mut self.given_up)
    }

    /// Whether a child of the root group was given up, or too many threads are held, since the last
    /// call.
    pub(crate) fn take_gave_up(&mut self) -> bool {
        std::mem::take(&mut self.gave_up)
    }

    // ---- questions ------------------------------------------------------------------------------

    /// When [`Supervision::handle_timeout`] has something to do next; `NEVER` if nothing is due.
    pub(crate) fn next_due(&self) -> Instant {
        earliest(self.next_scan, [self.timers.next(), self.threads.next_due()])
    }

    /// How far a child is. Reads all children of a group.
    pub(crate) fn standing(&self, child: Child) -> Standing {
        let standing = self.own_standing(child);
        let mut groups = vec![child];
        while let (Standing::Up, Some(Child::Group(id))) = (standing, groups.pop()) {
            for &child in self.children.group(id).iter().flat_map(|group| group.children.values()) {
                match self.own_standing(child) {
                    Standing::Up => groups.extend(matches!(child, Child::Group(_)).then_some(child)),
                    Standing::Coming => return Standing::Coming,
                    Standing::Down | Standing::GivenUp => {}
                }
            }
        }
        standing
    }

    /// How far a child is, its own children apart.
    fn own_standing(&self, child: Child) -> Standing {
        let Some(common) = self.children.common(child) else { return Standing::Down };
        let is_in_turn = |group: &children::Group| match &group.task {
            GroupTask::Starting { left, .. } => left.contains(&common.order),
            GroupTask::Steady | GroupTask::Stopping { .. } | GroupTask::Pausing { .. } => false,
        };
        match common.phase {
            Phase::Running => Standing::Up,
            Phase::Starting | Phase::Waiting | Phase::Parked | Phase::Stopping(AfterStop::Start | AfterStop::Park) => {
                Standing::Coming
            }
            Phase::Idle if self.children.group(common.parent).is_some_and(is_in_turn) => Standing::Coming,
            Phase::Idle | Phase::Ended | Phase::Stopping(AfterStop::Close | AfterStop::Remove) => Standing::Down,
            Phase::GivenUp => Standing::GivenUp,
        }
    }

    /// Whether nothing of a worker runs: it has stopped, or never ran.
    pub(crate) fn is_down(&self, id: WorkerId) -> bool {
        match self.children.phase(Child::Worker(id)) {
            Some(Phase::Starting | Phase::Running | Phase::Stopping(_) | Phase::Waiting) => false,
            Some(Phase::Idle | Phase::Parked | Phase::Ended | Phase::GivenUp) | None => true,
        }
    }

    /// Whether a worker's start was sent, and it is not up yet.
    pub(crate) fn is_starting(&self, id: WorkerId) -> bool {
        self.children.phase(Child::Worker(id)) == Some(Phase::Starting)
    }

    /// Whether a worker runs, is starting, or starts again once it has stopped.
    pub(crate) fn is_up_or_starting(&self, id: WorkerId) -> bool {
        match self.children.phase(Child::Worker(id)) {
            Some(Phase::Starting | Phase::Running | Phase::Stopping(AfterStop::Start)) => true,
            Some(Phase::Stopping(_) | Phase::Waiting | Phase::Idle | Phase::Parked | Phase::Ended) => false,
            Some(Phase::GivenUp) | None => false,
        }
    }

    /// The threads that should run workers now.
    pub(crate) fn arbiters(&self) -> Vec<ArbiterId> {
        self.threads.running()
    }

    /// Whether any child must still stop, after [`Supervision::stop_all`].
    pub(crate) fn is_stopping(&self) -> bool {
        self.children.phase(Child::Group(GroupId::ROOT)) != Some(Phase::Idle)
    }

    // ---- private --------------------------------------------------------------------------------

    /// Handles that a child's timer is over.
    fn expired(&mut self, child: Child, ctx: &mut Ctx) {
        let Some(common) = self.children.common(child) else { return };
        if common.timer > ctx.now {
            self.set_timer(child, common.timer);
            return;
        }
        let phase = common.phase;
        if let Child::Worker(id) = child
            && self.end_overdue_wait(id, ctx)
        {
            return;
        }
        // A deadline counts from the end of the newest pause at the earliest. A pause before a
        // restart does not.
        let late = |allowed: Duration| self.deadlines_from + allowed;
        match (child, phase) {
            (Child::Worker(id), Phase::Starting) => {
                let Some(worker) = self.children.worker(id) else { return };
                let (allowed, thread_slot) = (worker.start_timeout(&ctx.config), worker.thread_slot);
                if late(allowed) > ctx.now {
                    return self.set_timer(child, late(allowed));
                }
                match self.threads.silent(thread_slot, ctx) {
                    // Its thread is silent. First the inspection finds the worker that holds it,
                    // and the thread is replaced with that worker.
                    Some(arbiter) => {
                        self.set_timer(child, ctx.now + ctx.config.workers.interval);
                        ctx.push(Output::Inspect { arbiter });
                    }
                    None => {
                        ctx.push(Output::Fence { worker: id, why: Interruption::Restarted });
                        self.fail(child, Cause::StartTimedOut { after: allowed }, ctx.now - allowed, ctx);
                    }
                }
            }
            (Child::Worker(id), Phase::Stopping(next)) => {
                let Some(worker) = self.children.worker(id) else { return };
                let allowed = worker.shutdown_timeout(&ctx.config);
                if late(allowed) > ctx.now {
                    return self.set_timer(child, late(allowed));
                }
                self.fence(id, self.why_stopped(id, next), allowed, ctx);
                self.child_stopped(child, next, ctx);
            }
            (_, Phase::Waiting) => self.launch(child, ctx),
            (Child::Group(id), _) => self.resume(id, ctx),
            (Child::Worker(_), Phase::Idle | Phase::Parked | Phase::Running | Phase::Ended | Phase::GivenUp) => {}
        }
    }

    /// Fences a worker that did not stop in time.
    fn fence(&mut self, id: WorkerId, why: Interruption, after: Duration, ctx: &mut Ctx) {
        let Some(worker) = self.children.worker(id) else { return };
        let (name, generation) = (worker.common.name.clone(), worker.generation);
        ctx.push(Output::Fence { worker: id, why });
        ctx.emit(Event::Fenced { worker: name, generation, after, interrupted: 0, dropped: 0 });
    }

    fn set_timer(&mut self, child: Child, at: Instant) {
        if let Some(common) = self.children.common_mut(child) {
            common.timer = at;
            self.timers.file(Children::entry(child), at);
        }
    }

    fn clear_timer(&mut self, child: Child) {
        self.timers.remove(Children::entry(child));
    }
}
