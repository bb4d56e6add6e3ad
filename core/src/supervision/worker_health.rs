//! `worker_health`: what a sample of a worker's status cell means: stuck in an await, not ready, or
//! only busy.
//!
//! A worker that waits for a future holds no thread, so no silence shows it. But it leaves a trace:
//! messages wait, and none is handled. If that lasts for `await_timeout`, the worker is replaced. A
//! worker that handles messages, however slowly, or that has nothing to do, is never replaced here.
//! A long queue only makes it not ready, so that requests can go elsewhere.
//!
//! The instant at which the first message began to wait is not known. The first sample that shows
//! it waiting stands for it. So a verdict is at most one scan late, and never early.

use super::Supervision;
use super::children::Phase;
use crate::ctx::Ctx;
use crate::event::{Cause, Event, NotReadyReason};
use crate::interruption::Interruption;
use crate::member::{Child, Health, StatusSample};
use crate::output::Output;

impl Supervision {
    pub(super) fn handle_status_sample(&mut self, look: &StatusSample, ctx: &mut Ctx) {
        let (deadlines_from, now) = (self.deadlines_from, ctx.now);
        let child = Child::Worker(look.worker);
        let Some(worker) = self.children.worker(look.worker) else { return };
        // Until it is up, only the start timeout counts.
        if worker.common.phase != Phase::Running || worker.generation != look.generation {
            return;
        }
        // It waits for its held thread.
        if worker.wait.is_some() {
            return;
        }
        // A silent thread is judged as a thread, and a worker on it can do nothing.
        let thread_speaks = self.threads.silent(worker.thread_slot, ctx).is_none();
        let await_timeout = worker.await_timeout(&ctx.config);
        let Some(worker) = self.children.worker_mut(look.worker) else { return };
        let is_stuck = look.is_waiting && look.queued > 0 && thread_speaks;
        worker.stuck = match worker.stuck {
            Some((progress, since)) if is_stuck && progress == look.progress => {
                Some((progress, since.max(deadlines_from)))
            }
            _ if is_stuck => Some((look.progress, now)),
            _ => None,
        };
        let unready = match (look.health, look.is_overloaded) {
            (Health::NotReady, _) => Some(NotReadyReason::Reported),
            (Health::Ok | Health::Failed, true) => Some(NotReadyReason::Overloaded),
            (Health::Ok | Health::Failed, false) => None,
        };
        if worker.unready != unready {
            worker.unready = unready;
            let (name, generation) = (worker.common.name.clone(), worker.generation);
            ctx.emit(match unready {
                Some(reason) => Event::NotReady { worker: name, generation, reason },
                None => Event::Ready { worker: name, generation },
            });
        }
        let failure = match (look.health, worker.stuck) {
            (Health::Failed, _) => Some((Cause::ReportedFailed, now)),
            (_, Some((_, since))) if now - since >= await_timeout => {
                Some((Cause::AwaitStuck { stuck_for: now - since, queued: look.queued }, since))
            }
            (Health::Ok | Health::NotReady, _) => None,
        };
        if let Some((cause, since)) = failure {
            // It still runs. It must not handle messages while its restart is pending.
            ctx.push(Output::Fence { worker: look.worker, why: Interruption::from(&cause) });
            self.fail(child, cause, since, ctx);
        }
    }
}
