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
    /// Handles a sample of one status cell.
    pub(super) fn handle_status_sample(&mut self, sample: &StatusSample, ctx: &mut Ctx) {
        let (deadlines_from, now) = (self.deadlines_from, ctx.now);
        let child = Child::Worker(sample.worker);
        let Some(worker) = self.children.worker(sample.worker) else { return };
        // Until it is up, only the start timeout counts.
        if worker.common.phase != Phase::Running || worker.generation != sample.generation {
            return;
        }
        // It waits for its held thread.
        if worker.wait.is_some() {
            return;
        }
        // A silent thread is judged as a thread, and a worker on it can do nothing.
        let is_thread_alive = self.threads.silent(worker.thread_slot, ctx).is_none();
        let await_timeout = worker.await_timeout(&ctx.config);
        let Some(worker) = self.children.worker_mut(sample.worker) else { return };
        let is_stuck = sample.is_waiting && sample.queued > 0 && is_thread_alive;
        worker.stuck = is_stuck.then_some(match worker.stuck {
            Some((progress, since)) if progress == sample.progress => (progress, since.max(deadlines_from)),
            Some(_) | None => (sample.progress, now),
        });
        let unready = match (sample.health, sample.is_overloaded) {
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
        let failure = match (sample.health, worker.stuck) {
            (Health::Failed, _) => Some((Cause::ReportedFailed, now)),
            (Health::Ok | Health::NotReady, Some((_, since))) if now - since >= await_timeout => {
                Some((Cause::AwaitStuck { stuck_for: now - since, queued: sample.queued }, since))
            }
            (Health::Ok | Health::NotReady, Some(_) | None) => None,
        };
        if let Some((cause, since)) = failure {
            // It still runs. It must not handle messages while its restart is pending.
            ctx.push(Output::Fence { worker: sample.worker, why: Interruption::from(&cause) });
            self.fail(child, cause, since, ctx);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fixture::{Fixture, worker};
    use super::*;
    use crate::member::{Generation, GroupId, WorkerId};

    /// A worker that waits for a future while one message waits.
    const WAITING: StatusSample = StatusSample {
        worker: WorkerId(0),
        generation: Generation(1),
        is_waiting: true,
        queued: 1,
        is_overloaded: false,
        progress: 7,
        health: Health::Ok,
    };

    fn sample(fixture: &mut Fixture, sample: StatusSample) -> Vec<Event> {
        // The threads stay alive.
        for arbiter in fixture.supervision.arbiters() {
            let slot = fixture.ctx.now.as_nanos() / 500_000_000 + 1;
            fixture.supervision.handle_beat(arbiter, slot, None, &mut fixture.ctx);
        }
        fixture.supervision.handle_status_samples(&[sample], &mut fixture.ctx);
        fixture.events()
    }

    /// Whether a worker that was seen waiting is replaced at the second sample, `after` later.
    #[track_caller]
    fn check(after: Duration, second: StatusSample, expected: bool) {
        let mut fixture = Fixture::with_workers(1);
        assert_eq!(sample(&mut fixture, WAITING), []);
        fixture.pass(after);
        let events = sample(&mut fixture, second);
        let cause = Cause::AwaitStuck { stuck_for: after, queued: 1 };
        let is_stuck = events.iter().any(|event| matches!(event, Event::Failed { cause: is, .. } if *is == cause));
        assert_eq!((is_stuck, events.is_empty()), (expected, !expected), "{events:?}");
    }

    #[test]
    fn a_wait_is_judged_exactly_at_the_await_timeout() {
        let timeout = Duration::from_secs(15);
        check(timeout - Duration::from_nanos(1), WAITING, false);
        check(timeout, WAITING, true);
    }

    #[test]
    fn progress_or_an_empty_queue_ends_a_wait() {
        let timeout = Duration::from_secs(15);
        check(timeout, StatusSample { progress: 8, ..WAITING }, false);
        check(timeout, StatusSample { queued: 0, ..WAITING }, false);
        check(timeout, StatusSample { is_waiting: false, ..WAITING }, false);
        check(timeout, StatusSample { generation: Generation(2), ..WAITING }, false);
    }

    #[test]
    fn a_change_of_readiness_is_an_event_once() {
        let mut fixture = Fixture::with_workers(1);
        let calm = StatusSample { is_waiting: false, ..WAITING };
        let reported = StatusSample { health: Health::NotReady, is_overloaded: true, ..calm };
        let overloaded = StatusSample { is_overloaded: true, ..calm };
        let not_ready = |reason| Event::NotReady { worker: "w0".into(), generation: Generation(1), reason };
        assert_eq!(sample(&mut fixture, overloaded), [not_ready(NotReadyReason::Overloaded)]);
        assert_eq!(sample(&mut fixture, overloaded), []);
        assert_eq!(sample(&mut fixture, reported), [not_ready(NotReadyReason::Reported)]);
        let ready = Event::Ready { worker: "w0".into(), generation: Generation(1) };
        assert_eq!(sample(&mut fixture, calm), [ready]);
    }

    #[test]
    fn a_worker_that_reports_a_failure_is_fenced_and_restarted() {
        let mut fixture = Fixture::with_workers(1);
        let failed = StatusSample { health: Health::Failed, ..WAITING };
        fixture.supervision.handle_status_samples(&[failed], &mut fixture.ctx);
        assert_eq!(fixture.steps(), "x0 +0");
    }

    #[test]
    fn a_worker_that_is_not_up_is_not_judged() {
        let mut fixture = Fixture::new();
        fixture.add(worker(0, GroupId::ROOT));
        fixture.outputs();
        assert_eq!(sample(&mut fixture, StatusSample { health: Health::Failed, ..WAITING }), []);
    }
}
