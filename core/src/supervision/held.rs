//! `held`: what becomes of the workers whose thread is held.
//!
//! The worker that holds it is void and starts anew on a fresh thread. Its neighbours have done
//! nothing: their values lie on the held thread and cannot be moved from there. So each goes by its
//! own policy ([`OnThreadHeld`]). One that waits keeps all that it has, as a plain actor does, and
//! is not ready meanwhile; if its thread comes back it goes on. One that does not wait, or has
//! waited for as long as it may, starts anew. Nothing of that is counted against it.
//!
//! A neighbour that is told to stop while it waits cannot. If it is to start again it is void at
//! once, since its state ends either way; else it has its time to stop from the verdict on, once
//! for all that wait for the same thread.

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
    /// The thread at `place` is held and was silent for this long; `blamed` is the worker that
    /// holds it, if one does, and why.
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
        // Last, since its failure may stop the others again.
        if let Some((busy, cause)) = blamed {
            if busy.doing.is_start()
                && let Some(worker) = self.children.worker_mut(busy.worker)
            {
                worker.hung_starts = worker.hung_starts.saturating_add(1);
            }
            self.worker_lost(busy.worker, cause, busy.since, ctx);
        }
    }

    /// How long a worker waits for its thread that was just found held; `None` if it does not.
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

    /// Whether a worker has a life on its thread.
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
            // It has its time to stop, and no more.
            Phase::Stopping(_) | Phase::Idle | Phase::Parked | Phase::Waiting | Phase::Ended | Phase::GivenUp => {}
        }
    }

    /// Ends the wait of a worker if it has lasted as long as it may. Returns whether the worker
    /// waits, or has until now.
    pub(super) fn end_overdue_wait(&mut self, id: WorkerId, ctx: &mut Ctx) -> bool {
        let Some(worker) = self.children.worker(id) else { return false };
        let Some(wait) = &worker.wait else { return false };
        if !matches!(worker.common.phase, Phase::Starting | Phase::Running) {
            return false;
        }
        // What was missed before the last excuse was our own fault, and its thread may be back by
        // now.
        let until = wait.begun.max(self.deadlines_from) + wait.timeout;
        if until > ctx.now {
            self.set_timer(Child::Worker(id), until);
        } else {
            let (cause, since) = (wait.cause.clone(), wait.since);
            self.worker_displaced(id, cause, since, ctx);
        }
        true
    }

    /// Until when a worker may stop that waits for its thread and is told to, if it does; at once
    /// if it is to start again.
    pub(super) fn stop_deadline(&self, id: WorkerId, next: AfterStop, ctx: &Ctx) -> Option<Instant> {
        let worker = self.children.worker(id)?;
        let wait = worker.wait.as_ref()?;
        Some(match next {
            AfterStop::Park | AfterStop::Start => ctx.now,
            AfterStop::Close | AfterStop::Remove => (wait.begun + worker.shutdown_timeout(&ctx.config)).max(ctx.now),
        })
    }

    /// A held thread has come back: the workers that waited for it go on.
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

    /// A worker whose thread is gone through its own fault, or with no other worker to blame.
    pub(super) fn worker_lost(&mut self, id: WorkerId, cause: Cause, since: Instant, ctx: &mut Ctx) {
        let child = Child::Worker(id);
        match self.children.phase(child) {
            Some(Phase::Stopping(next)) => {
                ctx.push(Output::Fence { worker: id, why: Interruption::from(&cause) });
                self.child_stopped(child, next, ctx);
            }
            Some(Phase::Starting | Phase::Running) => {
                // Its thread may come back before it is started anew, if that is to be after a
                // pause, or not at all.
                ctx.push(Output::Fence { worker: id, why: Interruption::from(&cause) });
                self.fail(child, cause, since, ctx);
            }
            _ => {}
        }
    }

    /// A worker whose thread is gone through no fault of its own: it is moved, and nothing is
    /// counted.
    fn worker_displaced(&mut self, id: WorkerId, cause: Cause, since: Instant, ctx: &mut Ctx) {
        let child = Child::Worker(id);
        match self.children.phase(child) {
            Some(Phase::Stopping(next)) => {
                ctx.push(Output::Fence { worker: id, why: Interruption::from(&cause) });
                self.child_stopped(child, next, ctx);
            }
            Some(Phase::Starting | Phase::Running) => {
                ctx.push(Output::Fence { worker: id, why: Interruption::from(&cause) });
                self.emit_failed(child, &cause, Some(Duration::ZERO), ctx);
                if let Some(worker) = self.children.worker_mut(id) {
                    worker.common.failure = Some(Box::new((cause, since)));
                }
                self.launch(child, ctx);
            }
            _ => {}
        }
    }
}
