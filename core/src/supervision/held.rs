//! `held`: what follows for the workers of a held thread.
//!
//! The worker that holds the thread is fenced and starts anew on a fresh thread. Its neighbours did
//! nothing wrong, but their values are on the held thread and cannot be moved. Each neighbour
//! follows its own policy ([`OnThreadHeld`]). A neighbour that waits keeps its state, as a plain
//! actor does, and is not ready meanwhile; when the thread comes back, the worker goes on. A
//! neighbour that does not wait, or has waited for its whole timeout, starts anew. Neither counts
//! against its restart limits.
//!
//! A neighbour that is stopped while it waits cannot stop gracefully. If it is to start again, it
//! is fenced at once, since its state is lost in any case. Otherwise it has its `shutdown_timeout`,
//! counted from when the thread was found held. So all that wait for one thread share one deadline.

use std::sync::Arc;
use std::time::Duration;

use super::Supervision;
use super::children::{AfterStop, Phase, Wait};
use super::threads::Returned;
use crate::config::OnThreadHeld;
use crate::ctx::Ctx;
use crate::event::{Cause, Event, NotReadyReason, Waiting};
use crate::interruption::Interruption;
use crate::member::{ArbiterId, Child, ThreadSlotId, WorkerActivity, WorkerId};
use crate::output::Output;
use crate::time::Instant;

impl Supervision {
    /// Handles that the thread in a slot is held and was silent for this long. `blamed` is the
    /// worker that holds it, if there is one, with the cause.
    pub(super) fn thread_lost(
        &mut self,
        thread_slot: ThreadSlotId,
        silence: Duration,
        blamed: Option<(WorkerActivity, Cause)>,
        ctx: &mut Ctx,
    ) {
        let culprit = blamed.as_ref().map(|(busy, _)| busy.worker);
        let by = culprit.and_then(|id| self.children.worker(id)).map(|worker| worker.common.name.clone());
        let cause = match &by {
            Some(by) => Cause::Displaced { by: by.clone() },
            None => Cause::ThreadSilent { silent_for: silence },
        };
        let (arbiter, since) = (self.threads.at(thread_slot), ctx.now - silence);
        let (mut waiting, mut anew) = (Vec::new(), Vec::new());
        for id in self.children.workers_at(thread_slot).into_iter().filter(|id| Some(*id) != culprit) {
            match self.wait_timeout(id, ctx) {
                Some(timeout) => waiting.push((id, timeout)),
                None => anew.push(id),
            }
        }
        let name = |id: WorkerId| self.children.worker(id).map(|worker| worker.common.name.clone());
        ctx.emit(Event::ThreadHeld {
            arbiter,
            by,
            cause: blamed.as_ref().map_or(cause.clone(), |(_, cause)| cause.clone()),
            waiting: waiting.iter().filter_map(|&(id, timeout)| Some(Waiting { worker: name(id)?, timeout })).collect(),
            started_anew: anew.iter().filter(|id| self.is_on_thread(**id)).filter_map(|id| name(*id)).collect(),
            zombies: self.threads.zombies() + 1,
        });
        let own = self.threads.replace(thread_slot, waiting.len() as u32, silence, ctx);
        if !waiting.is_empty() {
            ctx.push(Output::Held { arbiter, workers: waiting.iter().map(|&(id, _)| id).collect() });
        }
        for (id, timeout) in waiting {
            let wait = Wait { begun: ctx.now, timeout, cause: cause.clone(), since };
            self.begin_wait(id, own, wait, ctx);
        }
        for id in anew {
            self.worker_displaced(id, cause.clone(), since, ctx);
        }
        // Last, because its failure may stop the others.
        if let Some((busy, cause)) = blamed {
            if busy.doing.is_start()
                && let Some(worker) = self.children.worker_mut(busy.worker)
            {
                worker.hung_starts = worker.hung_starts.saturating_add(1);
            }
            self.worker_lost(busy.worker, cause, busy.since, ctx);
        }
    }

    /// How long a worker waits for its thread that was just found held; `None` if it does not wait.
    fn wait_timeout(&self, id: WorkerId, ctx: &Ctx) -> Option<Duration> {
        let worker = self.children.worker(id)?;
        match worker.common.phase {
            Phase::Starting | Phase::Running | Phase::Stopping(AfterStop::Close | AfterStop::Remove) => {}
            // It has no state to lose.
            Phase::Stopping(AfterStop::Park | AfterStop::Start)
            | Phase::Idle
            | Phase::Parked
            | Phase::Waiting
            | Phase::Ended
            | Phase::GivenUp => return None,
        }
        match worker.on_thread_held.unwrap_or(ctx.config.workers.on_thread_held()) {
            OnThreadHeld::Wait { timeout } if !timeout.is_zero() => Some(timeout),
            OnThreadHeld::Wait { .. } | OnThreadHeld::StartAnew => None,
        }
    }

    /// Whether a generation of a worker is on a thread.
    fn is_on_thread(&self, id: WorkerId) -> bool {
        matches!(self.children.phase(Child::Worker(id)), Some(Phase::Starting | Phase::Running | Phase::Stopping(_)))
    }

    fn begin_wait(&mut self, id: WorkerId, own: ThreadSlotId, wait: Wait, ctx: &mut Ctx) {
        let Some(worker) = self.children.worker_mut(id) else { return };
        let until = wait.begun + wait.timeout;
        worker.thread_slot = own;
        worker.wait = Some(Box::new(wait));
        let (name, generation, phase) = (worker.common.name.clone(), worker.generation, worker.common.phase);
        match phase {
            Phase::Running => {
                worker.unready = Some(NotReadyReason::ThreadHeld);
                self.set_timer(Child::Worker(id), until);
                ctx.emit(Event::NotReady { worker: name, generation, reason: NotReadyReason::ThreadHeld });
            }
            Phase::Starting => self.set_timer(Child::Worker(id), until),
            // Its deadline to stop is set already, and stays.
            Phase::Stopping(_) | Phase::Idle | Phase::Parked | Phase::Waiting | Phase::Ended | Phase::GivenUp => {}
        }
    }

    /// Displaces a worker whose wait is over. Returns whether the worker waited until now.
    pub(super) fn end_overdue_wait(&mut self, id: WorkerId, ctx: &mut Ctx) -> bool {
        let Some(worker) = self.children.worker(id) else { return false };
        let Some(wait) = &worker.wait else { return false };
        if !matches!(worker.common.phase, Phase::Starting | Phase::Running) {
            return false;
        }
        // After a pause of this process the timeout counts from the end of the pause: the thread
        // may be back by now.
        let until = wait.begun.max(self.deadlines_from) + wait.timeout;
        if until > ctx.now {
            self.set_timer(Child::Worker(id), until);
        } else {
            let (cause, since) = (wait.cause.clone(), wait.since);
            self.worker_displaced(id, cause, since, ctx);
        }
        true
    }

    /// The deadline to stop of a worker that waits for its thread, or `None` if it does not wait.
    /// If it is to start again, the deadline is now.
    pub(super) fn stop_deadline(&self, id: WorkerId, next: AfterStop, ctx: &Ctx) -> Option<Instant> {
        let worker = self.children.worker(id)?;
        let wait = worker.wait.as_ref()?;
        Some(match next {
            AfterStop::Park | AfterStop::Start => ctx.now,
            AfterStop::Close | AfterStop::Remove => (wait.begun + worker.shutdown_timeout(&ctx.config)).max(ctx.now),
        })
    }

    /// Handles that a held thread has come back: the workers that waited for it go on.
    pub(super) fn thread_returned(&mut self, arbiter: ArbiterId, returned: Returned, ctx: &mut Ctx) {
        let Returned { thread_slot, held_for, zombies } = returned;
        let mut workers = Vec::new();
        let mut names: Vec<Arc<str>> = Vec::new();
        for id in self.children.workers_at(thread_slot) {
            let Some(worker) = self.children.worker_mut(id) else { continue };
            if worker.wait.take().is_none() {
                continue;
            }
            workers.push(id);
            names.push(worker.common.name.clone());
        }
        ctx.push(Output::Returned { arbiter, workers: workers.clone() });
        ctx.emit(Event::ThreadReturned { arbiter, held_for, workers: names.into(), zombies });
        for id in workers {
            let child = Child::Worker(id);
            let Some(worker) = self.children.worker_mut(id) else { continue };
            match worker.common.phase {
                Phase::Running => {
                    worker.unready = None;
                    let (name, generation) = (worker.common.name.clone(), worker.generation);
                    self.clear_timer(child);
                    ctx.emit(Event::Ready { worker: name, generation });
                }
                Phase::Starting => {
                    let start_timeout = worker.start_timeout(&ctx.config);
                    self.set_timer(child, ctx.now + start_timeout);
                }
                Phase::Stopping(_) | Phase::Idle | Phase::Parked | Phase::Waiting | Phase::Ended | Phase::GivenUp => {}
            }
        }
    }

    /// Handles that the thread of a worker is gone, by the worker's own fault or by no worker's.
    pub(super) fn worker_lost(&mut self, id: WorkerId, cause: Cause, since: Instant, ctx: &mut Ctx) {
        if self.fence_lost(id, &cause, ctx) {
            self.fail(Child::Worker(id), cause, since, ctx);
        }
    }

    /// Handles that the thread of a worker is gone by the fault of another worker. It starts on a
    /// fresh thread, and no limit counts this.
    fn worker_displaced(&mut self, id: WorkerId, cause: Cause, since: Instant, ctx: &mut Ctx) {
        let child = Child::Worker(id);
        if self.fence_lost(id, &cause, ctx) {
            self.emit_failed(child, &cause, Some(Duration::ZERO), ctx);
            if let Some(worker) = self.children.worker_mut(id) {
                worker.common.failure = Some(Box::new((cause, since)));
            }
            self.launch(child, ctx);
        }
    }

    /// Fences the generation that was on a lost thread: the thread may come back before the worker
    /// starts again. Returns whether the worker ran; one that was stopping has stopped with this.
    fn fence_lost(&mut self, id: WorkerId, cause: &Cause, ctx: &mut Ctx) -> bool {
        let child = Child::Worker(id);
        let why = Interruption::from(cause);
        match self.children.phase(child) {
            Some(Phase::Stopping(next)) => {
                ctx.push(Output::Fence { worker: id, why });
                self.child_stopped(child, next, ctx);
                false
            }
            Some(Phase::Starting | Phase::Running) => {
                ctx.push(Output::Fence { worker: id, why });
                true
            }
            Some(Phase::Idle | Phase::Parked | Phase::Waiting | Phase::Ended | Phase::GivenUp) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, TICK, worker};
    use super::super::{Report, Supervise};
    use super::*;
    use crate::member::{Activity, GroupId};

    const SLOT: ThreadSlotId = ThreadSlotId(0);
    const NEIGHBOUR: Child = Child::Worker(WorkerId(2));
    const WAIT: Duration = Duration::from_secs(60);

    /// Workers 0 and 2 on one thread, up; 2 has this policy.
    fn shared(on_thread_held: OnThreadHeld) -> Fixture {
        let mut fixture = Fixture::new();
        for id in [0, 2] {
            fixture.add(Supervise { on_thread_held: Some(on_thread_held), ..worker(id, GroupId::ROOT) });
            fixture.report(id, Report::Started);
        }
        fixture.outputs();
        fixture
    }

    /// Worker 0 holds the thread that it shares with 2.
    fn hold(fixture: &mut Fixture) -> ArbiterId {
        let arbiter = fixture.supervision.threads.at(SLOT);
        let during = Activity::Message("M");
        let busy = WorkerActivity { worker: WorkerId(0), doing: during, since: fixture.ctx.now };
        let cause = Cause::HeldThread { during, busy_for: Duration::from_secs(5) };
        let silence = Duration::from_secs(5);
        fixture.supervision.thread_lost(SLOT, silence, Some((busy, cause)), &mut fixture.ctx);
        arbiter
    }

    /// The phase of the neighbour, and whether it waits for its thread.
    #[track_caller]
    fn check(fixture: &Fixture, phase: Phase, waits: bool) {
        let neighbour = fixture.supervision.children.worker(WorkerId(2)).unwrap();
        assert_eq!((neighbour.common.phase, neighbour.wait.is_some()), (phase, waits));
    }

    #[test]
    fn a_neighbour_follows_its_own_policy() {
        let wait = |timeout| OnThreadHeld::Wait { timeout };
        for (policy, steps) in
            [(wait(WAIT), "x0 +0"), (wait(Duration::ZERO), "x2 +2 x0 +0"), (OnThreadHeld::StartAnew, "x2 +2 x0 +0")]
        {
            let mut fixture = shared(policy);
            hold(&mut fixture);
            assert_eq!(fixture.steps(), steps, "{policy:?}");
        }
    }

    #[test]
    fn a_neighbour_starts_anew_when_its_wait_is_over() {
        let mut fixture = shared(OnThreadHeld::Wait { timeout: WAIT });
        hold(&mut fixture);
        fixture.report(0, Report::Started);
        fixture.pass(WAIT - Duration::from_nanos(1));
        fixture.expire();
        check(&fixture, Phase::Running, true);
        fixture.pass(TICK + Duration::from_nanos(1));
        fixture.expire();
        check(&fixture, Phase::Starting, false);
        assert_eq!(fixture.supervision.children.worker(WorkerId(2)).unwrap().common.restart.count(), 0);
    }

    #[test]
    fn a_neighbour_goes_on_when_its_thread_comes_back() {
        let mut fixture = shared(OnThreadHeld::Wait { timeout: WAIT });
        let arbiter = hold(&mut fixture);
        fixture.outputs();
        fixture.supervision.handle_beat(arbiter, 1, None, &mut fixture.ctx);
        check(&fixture, Phase::Running, false);
        let events = fixture.events();
        assert!(matches!(events[..], [Event::ThreadReturned { zombies: 0, .. }, Event::Ready { .. }]), "{events:?}");
    }

    #[test]
    fn a_waiting_neighbour_that_is_stopped_has_one_shutdown_timeout() {
        let mut fixture = shared(OnThreadHeld::Wait { timeout: WAIT });
        hold(&mut fixture);
        fixture.report(0, Report::Started);
        let timeout = fixture.ctx.config.workers.shutdown_timeout;
        fixture.pass(timeout - Duration::from_nanos(1));
        fixture.stop(NEIGHBOUR);
        fixture.expire();
        check(&fixture, Phase::Stopping(AfterStop::Close), true);
        fixture.pass(TICK + Duration::from_nanos(1));
        fixture.expire();
        assert_eq!(fixture.supervision.children.phase(NEIGHBOUR), Some(Phase::Idle));
    }

    #[test]
    fn a_waiting_neighbour_that_is_to_start_again_is_fenced_at_once() {
        let mut fixture = shared(OnThreadHeld::Wait { timeout: WAIT });
        hold(&mut fixture);
        fixture.outputs();
        fixture.supervision.restart(NEIGHBOUR, &mut fixture.ctx);
        assert_eq!(fixture.steps(), "x2 +2");
    }

    #[test]
    fn a_stopping_worker_on_a_lost_thread_has_stopped() {
        for child in [Child::Worker(WorkerId(0)), NEIGHBOUR] {
            let mut fixture = shared(OnThreadHeld::StartAnew);
            fixture.supervision.request_stop(child, AfterStop::Close, &mut fixture.ctx);
            hold(&mut fixture);
            assert_eq!(fixture.supervision.children.phase(child), Some(Phase::Idle));
        }
    }
}
