//! `Supervision`: the workers of this process, the groups they are in, the threads they run on, and
//! what follows when one fails.
//!
//! A foreman with a list: who works where, in which life, and what was decided when they last fell.
//! He hears of panics and stops at once, since the worker's own thread reports them; a thread that
//! is held can report nothing, so its silence is the report (`threads`), and a look at what its
//! workers were doing finds the one to blame. Whoever only waits for ever holds no thread; a look
//! at the status cells finds those (`health`). What a failure means for the others in its group,
//! and in which order they stop and start, is `order`'s business; one worker's way from start to
//! end is `life`'s.
//!
//! Nothing here recurses: a child that is up or down puts its group on the agenda, and the agenda
//! is worked off once the input is taken in. So a failure that ends a group, which ends its parent,
//! is as many short steps as the tree is deep.
//!
//! It starts nothing: it says what to start. Whether a failure is followed by a restart is
//! `restart`'s rule, not this folder's.

mod children;
mod groups;
mod held;
mod lifecycle;
pub mod restart;
mod threads;
mod worker_health;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{OnThreadHeld, RestartConfig};
use crate::ctx::Ctx;
use crate::event::{Cause, Event};
use crate::interruption::Interruption;
use crate::member::{
    ArbiterId, Child, CpuTimes, Generation, GroupId, Shard, StatusSample, ThreadSample, ThreadSlotId, WorkerActivity,
    WorkerId,
};
use crate::output::Output;
use crate::snapshot::ShardSnapshot;
use crate::supervision::restart::RestartKind;
use crate::time::{Instant, earliest};
use crate::timer_wheel::TimerWheel;

use children::{AfterStop, Children, GroupTask, PendingCommand, Phase};
use threads::{ThreadVerdict, Threads};

/// A worker to supervise.
#[derive(Clone, PartialEq, Debug)]
pub struct Supervise {
    /// Its number, not in use.
    pub worker: WorkerId,
    /// What people call it.
    pub name: Arc<str>,
    /// The group it is in.
    pub group: GroupId,
    /// Which of its ends are followed by a new start.
    pub kind: RestartKind,
    /// Whether its end matters to its group; see [`AutoShutdown`].
    pub significant: bool,
    /// Restart limits of its own; otherwise those of the config.
    pub restart: Option<Arc<RestartConfig>>,
    /// Times of its own; otherwise those of the config.
    pub times: Option<Arc<Times>>,
    /// What it does when a neighbour holds its thread, if not as the config says.
    pub on_thread_held: Option<OnThreadHeld>,
    /// Where it runs.
    pub thread_slot: ThreadSlotId,
}

impl Supervise {
    /// A permanent worker in the root group, on the shared places in turn, with the limits of the
    /// config.
    pub fn new(worker: WorkerId, name: impl Into<Arc<str>>, arbiters: u32) -> Supervise {
        Supervise {
            worker,
            name: name.into(),
            group: GroupId::ROOT,
            kind: RestartKind::Permanent,
            significant: false,
            restart: None,
            times: None,
            on_thread_held: None,
            thread_slot: ThreadSlotId(worker.0 % arbiters.max(1)),
        }
    }
}

/// How long a worker may take for what; each as the field of the same name in `[workers]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// To hold its thread.
    pub timeout: Duration,
    /// To be up.
    pub start_timeout: Duration,
    /// To wait for a future while messages wait.
    pub await_timeout: Duration,
    /// To stop.
    pub shutdown_timeout: Duration,
}

/// A group to supervise.
#[derive(Clone, PartialEq, Debug)]
pub struct SuperviseGroup {
    /// Its number, not used before.
    pub group: GroupId,
    /// What people call it.
    pub name: Arc<str>,
    /// The group it is in.
    pub parent: GroupId,
    /// Whom one child's failure concerns.
    pub strategy: Strategy,
    /// Whose failures count against the limits.
    pub counting: Counting,
    /// Whether the group ends when significant children have.
    pub auto_shutdown: AutoShutdown,
    /// Whether its children may be started and stopped all at once rather than in order.
    pub dynamic: bool,
    /// Which of its own ends are followed by a new start.
    pub kind: RestartKind,
    /// Whether its end matters to its parent.
    pub significant: bool,
    /// Restart limits of its own; otherwise those of the config.
    pub restart: Option<Arc<RestartConfig>>,
}

/// Whom one child's failure concerns (the words of OTP).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The child alone.
    #[default]
    OneForOne,
    /// All children: they are stopped in reverse order and started in order.
    OneForAll,
    /// The child and those taken on after it.
    RestForOne,
}

/// Whose restarts count against the intensity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Counting {
    /// Those of all children together, against the group's limits; over them the group ends and its
    /// parent decides. As in OTP.
    #[default]
    Together,
    /// Each child's for itself, against its own; over them that child is given up and the others go
    /// on.
    Each,
}

/// Whether a group ends when significant children have ended by themselves (the words of OTP).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoShutdown {
    /// Never.
    #[default]
    Never,
    /// When the first of them has.
    AnySignificant,
    /// When the last of them has.
    AllSignificant,
}

/// Where a worker or a group stands, for those who wait until it is up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is up. A group is up when each of its children is up that is to run.
    Up,
    /// It is not up now. It will be started without a command.
    Coming,
    /// It is down, or was removed. Only a command starts it again.
    Down,
    /// It failed too often. Only a command starts it again.
    GivenUp,
}

/// What a worker's own thread says of it.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
    /// This generation is up.
    Started,
    /// This generation ended with a fault; nothing runs.
    Failed(Cause),
    /// This generation ended with a fault at `failed_at`, and by leave of
    /// `Output::SetRestartPermit` the next one was started already.
    Restarted {
        /// Why it ended.
        cause: Cause,
        /// When.
        failed_at: Instant,
        /// Whether the next one is up; otherwise it will say so with `Started`.
        is_up: bool,
    },
    /// This generation ended in good order, by itself or because it was told to.
    Stopped,
}

/// The workers, groups and threads of this process.
#[derive(Clone, Debug)]
pub(crate) struct Supervision {
    children: Children,
    threads: Threads,
    /// When each child's phase is over at the latest; see `Children::entry` for the numbers.
    timers: TimerWheel,
    /// Groups of which a child has come up or gone down.
    pending: VecDeque<GroupId>,
    /// When the status cells are to be looked at next; `NEVER` while no worker runs.
    next_scan: Instant,
    /// Whatever was not done before this instant was our own fault: all who had a deadline have it
    /// anew from here.
    deadlines_from: Instant,
    /// Whether everything was told to stop, since the node leaves.
    is_leaving: bool,
    /// Shards that were given up since this was last asked.
    given_up: Vec<WorkerId>,
    /// Whether somebody in the root group was given up, or too many threads are held, since this
    /// was last asked.
    gave_up: bool,
}

impl Supervision {
    /// No workers yet, and as many threads as the config says, told to be made.
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
        }
    }

    // ---- inputs --------------------------------------------------------------------------------------------------------------------------

    /// Takes a worker on. One that is no shard is started: at once in the root or a dynamic group,
    /// in its turn in any other. A worker of a group that was removed is closed and forgotten.
    ///
    /// # Panics
    /// If the number is in use.
    pub(crate) fn supervise(&mut self, supervise: Supervise, ctx: &mut Ctx) {
        if self.children.group(supervise.group).is_none() {
            // Its group was removed before the news of it came, and what is in a group goes with
            // it.
            ctx.push(Output::Close { worker: supervise.worker, gave_up: false });
            ctx.push(Output::Forget { worker: supervise.worker });
            return;
        }
        let id = self.add_worker(supervise);
        self.begin(id, ctx);
        self.run_pending(ctx);
    }

    /// Takes a worker on without starting it.
    ///
    /// # Panics
    /// If the number is in use or there is no such group.
    pub(crate) fn add_worker(&mut self, supervise: Supervise) -> Child {
        self.children.add_worker(supervise)
    }

    /// Takes a group on and starts it, empty as it is. A group of a parent that was removed is
    /// forgotten.
    ///
    /// # Panics
    /// If the number was used before.
    pub(crate) fn supervise_group(&mut self, supervise: SuperviseGroup, ctx: &mut Ctx) {
        if self.children.group(supervise.parent).is_none() {
            ctx.push(Output::ForgetGroup { group: supervise.name });
            return;
        }
        let id = self.children.add_group(supervise);
        self.begin(id, ctx);
        self.run_pending(ctx);
    }

    /// Starts a shard's worker under `shard`, voiding any generation of it that runs.
    pub(crate) fn start_shard(&mut self, id: WorkerId, shard: Shard, replica: Option<ShardSnapshot>, ctx: &mut Ctx) {
        let child = Child::Worker(id);
        let Some(worker) = self.children.worker_mut(id) else { return };
        worker.shard = Some(shard);
        worker.replica = replica.map(Box::new);
        match worker.common.phase {
            // On its way out; it is started anew when it has stopped, as it is a shard again.
            Phase::Stopping(before) => {
                worker.common.phase = Phase::Stopping(AfterStop::Start);
                self.update_stop_reason(id, before, ctx);
            }
            // Its owner tries anew.
            Phase::GivenUp => {
                worker.hung_starts = 0;
                worker.common.restart = Default::default();
                worker.common.failure = None;
                self.launch(child, ctx);
            }
            // It has not begun, has ended, or runs under the former epoch: a new generation takes
            // over.
            Phase::Idle | Phase::Parked | Phase::Starting | Phase::Running | Phase::Waiting | Phase::Ended => {
                self.launch(child, ctx);
            }
        }
        self.run_pending(ctx);
    }

    /// Starts a child that has ended, stopped or was given up; nothing happens to one that runs.
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

    /// Stops a child in good order and starts it again, its queue kept; one that does not run is
    /// only started. Nothing is counted.
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

    /// Stops a child in good order and closes its queue. It may be started again later.
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

    /// Stops a shard's worker in good order and closes its queue: another node is to run the shard.
    pub(crate) fn stop_shard(&mut self, id: WorkerId, ctx: &mut Ctx) {
        if let Some(worker) = self.children.worker_mut(id) {
            worker.has_moved = true;
        }
        self.stop(Child::Worker(id), ctx);
    }

    /// Stops a child in good order and forgets it. The root cannot be removed.
    pub(crate) fn remove(&mut self, child: Child, ctx: &mut Ctx) {
        self.request_stop(child, AfterStop::Remove, ctx);
        self.run_pending(ctx);
    }

    /// Stops everything, the last one taken on first, one after the other.
    pub(crate) fn stop_all(&mut self, ctx: &mut Ctx) {
        self.is_leaving = true;
        self.request_stop(Child::Group(GroupId::ROOT), AfterStop::Close, ctx);
        self.run_pending(ctx);
    }

    /// Takes in what a worker's thread says of `generation`. Reports of a void generation change
    /// nothing.
    pub(crate) fn handle_report(&mut self, id: WorkerId, generation: Generation, report: Report, ctx: &mut Ctx) {
        let Some(worker) = self.children.worker_mut(id) else { return };
        if generation != worker.generation {
            return;
        }
        let child = Child::Worker(id);
        match (report, worker.common.phase) {
            (Report::Started, Phase::Starting) => self.child_up(child, ctx),
            (Report::Started, _) => {}
            (Report::Failed(cause), Phase::Starting | Phase::Running) => self.fail(child, cause, ctx.now, ctx),
            (Report::Restarted { cause, failed_at, is_up }, Phase::Starting | Phase::Running) => {
                self.worker_restarted(id, cause, failed_at, ctx);
                if is_up {
                    self.child_up(child, ctx);
                }
            }
            (Report::Stopped, Phase::Starting | Phase::Running) => self.finish(child, Cause::Stopped, ctx),
            // Told to stop, it stopped or fell over on the way: gone either way.
            (Report::Failed(cause), Phase::Stopping(next)) => {
                self.emit_failed(child, &cause, None, ctx);
                self.child_stopped(child, next, ctx);
            }
            // The one that was started by leave does not run for long, but it may run still when
            // the others go on.
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

    /// Takes in a look at the status cells: those workers of which there is something to say.
    pub(crate) fn handle_status_samples(&mut self, looks: &[StatusSample], ctx: &mut Ctx) {
        for look in looks {
            self.handle_status_sample(look, ctx);
        }
        self.run_pending(ctx);
    }

    /// Takes in a sign of life of a thread, with what it has used of its CPU so far if the system
    /// says.
    pub(crate) fn handle_beat(&mut self, arbiter: ArbiterId, slot: u64, times: Option<CpuTimes>, ctx: &mut Ctx) {
        if let Some(returned) = self.threads.beat(arbiter, slot, times, ctx) {
            self.thread_returned(arbiter, returned, ctx);
            self.run_pending(ctx);
        }
    }

    /// Takes in what the workers of a silent thread are doing, and what the system says of the
    /// thread, if it says anything.
    pub(crate) fn handle_inspection(
        &mut self,
        arbiter: ArbiterId,
        busy: &[WorkerActivity],
        seen: Option<ThreadSample>,
        ctx: &mut Ctx,
    ) {
        // A thread does one thing at a time: what was taken up last is what it is in.
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

    /// Takes in that a thread that should run workers has ended.
    pub(crate) fn handle_arbiter_dead(&mut self, arbiter: ArbiterId, ctx: &mut Ctx) {
        if let Some(thread_slot) = self.threads.replace_dead(arbiter, ctx) {
            for id in self.children.workers_at(thread_slot) {
                self.worker_lost(id, Cause::ArbiterDead, ctx.now, ctx);
            }
        }
        self.run_pending(ctx);
    }

    /// Handles that a thread could not be made. Its workers wait for the next attempt: what the
    /// host lacks counts against none of them.
    pub(crate) fn handle_arbiter_not_made(&mut self, arbiter: ArbiterId, reason: &str, ctx: &mut Ctx) {
        let Some(thread_slot) = self.threads.not_made(arbiter, reason, ctx) else { return };
        for id in self.children.workers_at(thread_slot) {
            if self.children.phase(Child::Worker(id)) == Some(Phase::Starting) {
                self.clear_timer(Child::Worker(id));
            }
        }
    }

    /// Starts the workers at places whose threads are tried again.
    fn retry_threads(&mut self, ctx: &mut Ctx) {
        for thread_slot in self.threads.retry(ctx) {
            for id in self.children.workers_at(thread_slot) {
                if self.children.phase(Child::Worker(id)) == Some(Phase::Starting) {
                    self.launch(Child::Worker(id), ctx);
                }
            }
        }
    }

    /// Takes in that an abandoned thread came back and ended.
    pub(crate) fn handle_arbiter_ended(&mut self, arbiter: ArbiterId, ctx: &mut Ctx) {
        self.threads.ended(arbiter, ctx);
    }

    /// Does what is due.
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

    /// Gives everybody who has a deadline a fresh one: whatever was missed before now was our own
    /// fault.
    pub(crate) fn discount_pause(&mut self, ctx: &Ctx) {
        self.deadlines_from = ctx.now;
    }

    /// Fences whoever has not stopped although everything was told to: the time for it is over.
    pub(crate) fn fence_all(&mut self, ctx: &mut Ctx) {
        for id in self.children.worker_ids() {
            let phase = self.children.phase(Child::Worker(id));
            let is_on_thread = matches!(phase, Some(Phase::Stopping(_) | Phase::Starting | Phase::Running));
            if is_on_thread {
                self.fence(id, Interruption::NodeLeft, ctx.config.workers.leave_timeout, ctx);
            }
            let Some(worker) = self.children.worker_mut(id) else { continue };
            // One that was parked, or waits to be started again, is not any more.
            if std::mem::take(&mut worker.is_open) || is_on_thread {
                ctx.push(Output::Close { worker: id, gave_up: false });
            }
        }
    }

    /// Shards that were given up since this was last asked.
    pub(crate) fn take_given_up(&mut self) -> Vec<WorkerId> {
        std::mem::take(&mut self.given_up)
    }

    /// Whether supervision has come to its end somewhere since this was last asked.
    pub(crate) fn take_gave_up(&mut self) -> bool {
        std::mem::take(&mut self.gave_up)
    }

    // ---- questions -----------------------------------------------------------------------------------------------------------------------

    /// When `expire` has something to do next; `NEVER` if nothing is due.
    pub(crate) fn next_due(&self) -> Instant {
        earliest(self.next_scan, [self.timers.next(), self.threads.next_due()])
    }

    /// Where a child stands. It looks at all that is in a group.
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

    /// Where a child stands, whatever is in it.
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

    /// Whether a worker that was told to stop has, or never ran.
    pub(crate) fn is_down(&self, id: WorkerId) -> bool {
        match self.children.phase(Child::Worker(id)) {
            Some(Phase::Starting | Phase::Running | Phase::Stopping(_) | Phase::Waiting) => false,
            Some(Phase::Idle | Phase::Parked | Phase::Ended | Phase::GivenUp) | None => true,
        }
    }

    /// Whether a worker runs, or was told to start and is not up yet.
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

    /// Whether any child has yet to stop, once everything was told to.
    pub(crate) fn is_stopping(&self) -> bool {
        self.children.phase(Child::Group(GroupId::ROOT)) != Some(Phase::Idle)
    }

    // ---- private -------------------------------------------------------------------------------------------------------------------------

    /// A child's phase has lasted as long as it may.
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
        // What has a deadline, as opposed to a pause, has it anew from the last excuse on.
        let late = |allowed: Duration| self.deadlines_from + allowed;
        match (child, phase) {
            (Child::Worker(id), Phase::Starting) => {
                let Some(worker) = self.children.worker(id) else { return };
                let (allowed, thread_slot) = (worker.start_timeout(&ctx.config), worker.thread_slot);
                if late(allowed) > ctx.now {
                    return self.set_timer(child, late(allowed));
                }
                match self.threads.silent(thread_slot, ctx) {
                    // Its thread is held: who holds it is to be found first, and the thread
                    // replaced with it.
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

    /// Voids a worker that did not stop in time.
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
