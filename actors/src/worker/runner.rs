//! `Runner`: the future that runs one generation of a worker on an arbiter, and the next one in its
//! place after a panic.
//!
//! The mailbox belongs to the slot, and the runner takes one envelope at a time from it. A runner
//! whose thread is blocked is replaced. When it wakes, it finds itself fenced: its successor reads
//! the same mailbox, and only the message that it was stuck in is lost.
//!
//! A panic is caught around a whole turn. The worker is then dropped, under a second catch, since a
//! `Drop` may panic too. If the status cell holds a permit for an immediate restart, the factory
//! makes a new worker within the same poll. Otherwise the runner reports to the supervisor and
//! ends.
//!
//! This is a loop of our own and not actix's `ContextFut`. That one keeps the old value of the
//! actor, asks for a trait on the user's type, and empties its mailbox before timers and streams
//! get a turn.

use std::any::{Any, TypeId};
use std::future::Future;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Poll};
#[cfg(feature = "testkit")]
use std::time::Duration;

use actix::dev::EnvelopeProxy;
use actix::{Actor, ActorContext, ActorState, AsyncContext, Running, SpawnHandle};
use heartbeat_core::{Activity, Cause, Generation, Instant, Interruption, Report};

use crate::worker::context::{Context, Task};
#[cfg(feature = "testkit")]
use crate::worker::fault::FaultAction;
use crate::worker::mailbox::{Item, Taken};
use crate::worker::node_lease::RECHECK_EVERY;
use crate::worker::panic_throttle;
use crate::worker::poll_budget::{PollBudget, TIME_SLICE};
use crate::worker::slot::{StartInfo, WorkerSlot};
use crate::worker::status_cell::{ActivityKind, WorkerGeneration};

/// Runs one generation of a worker, and the next one after a panic that may be answered at once.
pub(crate) struct Runner<A: Actor<Context = Context<A>>> {
    slot: Arc<WorkerSlot<A>>,
    /// The reader epoch in which it owns the slot.
    reader_epoch: u32,
    /// The internal number of the current generation; see [`WorkerGeneration`].
    generation: Generation,
    start_info: StartInfo,
    /// The failure after which the next generation starts by the permit of the status cell.
    failure: Option<(Cause, Instant)>,
    /// The report to send at the end of the turn: a message to another thread costs as much as the
    /// restart, and messages are waiting.
    pending_report: Option<(Generation, Report)>,
    /// Whether the current generation is up and was reported to be.
    is_up: bool,
    /// How long a test makes the current start take.
    #[cfg(feature = "testkit")]
    slow_start: Option<Duration>,
    worker: Option<RunningWorker<A>>,
    /// Whether it has yielded to other workers of its thread, so that this turn is its own.
    has_yielded: bool,
    /// The context of the worker that the factory is making. It lies here and not on the stack that
    /// a panic of the factory unwinds, since futures that the factory has spawned may panic when
    /// they are dropped, too.
    new_context: Option<Box<Context<A>>>,
    /// When it checks again whether the node's lease is valid.
    recheck: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// A worker that runs.
struct RunningWorker<A: Actor<Context = Context<A>>> {
    actor: A,
    context: Context<A>,
    /// In the order of their turns. A future that is done or cancelled is `None` until the round is
    /// over.
    spawned: Vec<(SpawnHandle, Option<Task<A>>)>,
    /// The newest one, at the end, is waited for first.
    waits: Vec<Task<A>>,
    /// Whether the worker has seen the request to stop.
    knows_of_stop: bool,
    /// Whether `stopping` has returned `Running::Continue` since.
    declined_stop: bool,
}

/// Whether a turn may take envelopes from the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum QueueAccess {
    Take,
    /// They stay for the next generation, or become dead letters.
    Leave,
}

/// How much may still be done before other tasks get their turn.
struct Burst {
    left: u32,
    begun: Option<Instant>,
}

impl Burst {
    fn new(burst: u32) -> Burst {
        Burst { left: burst, begun: None }
    }

    /// Counts a message or a future that was begun at `since` and is done.
    fn count(&mut self, since: Instant) {
        let begun = *self.begun.get_or_insert(since);
        self.left = if since - begun < TIME_SLICE { self.left - 1 } else { 0 };
    }

    fn is_over(&self) -> bool {
        self.left == 0
    }
}

/// How a turn ended.
enum Turn {
    /// Nothing is left to do until something wakes the runner.
    Idle,
    /// The burst is used up; other tasks get their turn.
    Yield,
    /// The worker is a shard, and the node's lease is not valid now.
    LeaseLost,
    /// The worker was replaced and must handle nothing more.
    Fenced,
    /// It stopped.
    Stopped,
    /// The factory returned this error.
    FactoryFailed(String),
}

impl<A: Actor<Context = Context<A>>> Unpin for Runner<A> {}

impl<A: Actor<Context = Context<A>>> Runner<A> {
    /// A runner for the generation of `start_info`.
    pub(crate) fn new(
        slot: Arc<WorkerSlot<A>>,
        reader_epoch: u32,
        generation: Generation,
        start_info: StartInfo,
    ) -> Runner<A> {
        Runner {
            slot,
            reader_epoch,
            generation,
            start_info,
            failure: None,
            pending_report: None,
            is_up: false,
            #[cfg(feature = "testkit")]
            slow_start: None,
            worker: None,
            has_yielded: false,
            new_context: None,
            recheck: None,
        }
    }

    fn turn(&mut self, task: &mut task::Context<'_>) -> Turn {
        if self.worker.is_none() {
            self.slot.begin(ActivityKind::FACTORY);
            #[cfg(feature = "testkit")]
            if let Some(turn) = self.apply_start_fault() {
                return turn;
            }
            self.start_info.snapshot = self.slot.kept();
            self.start_info.replica = self.slot.replica();
            let generation = WorkerGeneration { internal: self.generation, shown: self.start_info.generation };
            let context = Context::new(self.slot.clone(), self.reader_epoch, generation, self.start_info.shard);
            let context = self.new_context.insert(Box::new(context));
            let actor = match (self.slot.factory)(&self.start_info, context) {
                Ok(actor) => actor,
                Err(error) => return Turn::FactoryFailed(error.to_string()),
            };
            let Some(context) = self.new_context.take() else { unreachable!("the context was just put there") };
            let worker = self.worker.insert(RunningWorker {
                actor,
                context: *context,
                spawned: Vec::new(),
                waits: Vec::new(),
                knows_of_stop: false,
                declined_stop: false,
            });
            if self.slot.is_stale(self.reader_epoch) {
                return Turn::Fenced; // The factory took longer than it may, and another one was asked.
            }
            worker.context.begin(ActivityKind::STARTED);
            worker.actor.started(&mut worker.context);
            #[cfg(feature = "testkit")]
            if let Some(time) = self.slow_start.take() {
                worker.context.wait(actix::fut::wrap_future(tokio::time::sleep(time)));
            }
            if worker.context.is_fenced() {
                return Turn::Fenced;
            }
            worker.context.end();
            if worker.context.state() == ActorState::Started {
                worker.context.set_state(ActorState::Running);
            }
            worker.take_over();
            self.report_started();
        }
        let Some(worker) = &mut self.worker else { return Turn::Fenced };
        let knows_of_stop = self.slot.cell.is_asked_to_stop();
        if !self.slot.may_act() && !knows_of_stop {
            return Turn::LeaseLost;
        }
        #[cfg(feature = "testkit")]
        if let Some(turn) = worker.apply_fault(&self.slot) {
            return turn;
        }
        if knows_of_stop {
            return worker.shut_down(&self.slot, self.reader_epoch, task);
        }
        // With a report pending, at most one message comes before it.
        let burst = if self.pending_report.is_some() { 1 } else { self.slot.control.burst };
        let turn = worker.run(&self.slot, self.reader_epoch, burst, QueueAccess::Take, task);
        if !self.is_up && !matches!(turn, Turn::Fenced) {
            self.report_up();
        }
        turn
    }

    /// Applies a fault that a test has injected into the start. Returns how the turn ends, if the
    /// fault ends it.
    #[cfg(feature = "testkit")]
    fn apply_start_fault(&mut self) -> Option<Turn> {
        match self.slot.faults.apply(self.slot.faults.take_start()?) {
            FaultAction::Held => Some(Turn::Idle),
            FaultAction::Refuse(text) => Some(Turn::FactoryFailed(text)),
            FaultAction::WaitFor(time) => {
                self.slow_start = Some(time);
                None
            }
            FaultAction::Done | FaultAction::Panic(_) | FaultAction::Wait | FaultAction::Stop => None,
        }
    }

    /// Reports that a generation was started, and whether it is up already.
    fn report_started(&mut self) {
        let is_up = self.worker.as_ref().is_some_and(RunningWorker::is_up);
        if let Some(restart_report) = self.take_restart_report(is_up) {
            self.pending_report = Some(restart_report);
            if is_up {
                self.is_up = true;
                self.slot.cell.set_up();
            }
        } else if is_up {
            self.report_up();
        }
    }

    /// The report that the previous generation failed and the current one was started in its place,
    /// unless it was sent already.
    fn take_restart_report(&mut self, is_up: bool) -> Option<(Generation, Report)> {
        let (cause, failed_at) = self.failure.take()?;
        Some((Generation(self.generation.0 - 1), Report::Restarted { cause, failed_at, is_up }))
    }

    /// Reports that the current generation is up, once it is.
    fn report_up(&mut self) {
        if self.worker.as_ref().is_some_and(RunningWorker::is_up) {
            self.is_up = true;
            self.slot.cell.set_up();
            self.slot.report((self.generation, Report::Started));
        }
    }

    /// Drops the worker and its futures and catches a panic in their `Drop`. Answers that end with
    /// them are interrupted for the reason `why`; without it, for the reason of the last stop.
    ///
    /// # Errors
    /// The payload of that panic.
    fn drop_worker(&mut self, why: Option<&Interruption>) -> Result<(), Box<dyn Any + Send>> {
        let (worker, new_context) = (self.worker.take(), self.new_context.take());
        self.is_up = false;
        self.slot.mailbox.end_generation(self.reader_epoch, why);
        let dropped = catch_unwind(AssertUnwindSafe(|| drop((worker, new_context))));
        self.slot.mailbox.detach_answers(self.reader_epoch);
        dropped
    }

    /// Sleeps until the next check of the node's lease. Returns false if there is something to do
    /// at once.
    fn wait_for_lease(&mut self, task: &mut task::Context<'_>) -> bool {
        // A request to stop and a fence wake it in any case.
        let is_fenced = !self.slot.mailbox.register(self.reader_epoch, task.waker());
        if is_fenced || self.slot.is_stale(self.reader_epoch) || self.slot.cell.is_asked_to_stop() {
            return false;
        }
        let mut recheck = Box::pin(tokio::time::sleep(RECHECK_EVERY));
        if recheck.as_mut().poll(task).is_ready() {
            return false;
        }
        self.recheck = Some(recheck);
        true
    }

    /// Whether it must wait for its turn, since many workers of its type panic on this thread.
    fn yield_to_others(&mut self, task: &task::Context<'_>) -> bool {
        let clock = self.slot.control.clock;
        if std::mem::take(&mut self.has_yielded) || !panic_throttle::is_throttled(TypeId::of::<A>(), clock.now()) {
            return false;
        }
        self.has_yielded = true;
        if panic_throttle::enqueue(task.waker()) {
            drop(actix_rt::spawn(panic_throttle::run_queue(move || clock.now())));
        }
        true
    }

    /// Handles a panic of the worker. Returns `Pending` if the next generation may be made at once.
    fn handle_panic(&mut self, payload: &(dyn Any + Send)) -> Poll<()> {
        if let Some(worker) = &mut self.worker {
            worker.context.end_times(); // Before the worker is dropped, which may take long.
        }
        if self.slot.is_stale(self.reader_epoch) {
            // The panic of a replaced worker is not reported, and the status cell belongs to its
            // successor.
            let _ = self.drop_worker(None);
            return Poll::Ready(());
        }
        let (now, generation) = (self.slot.control.clock.now(), self.generation);
        panic_throttle::record_panic(TypeId::of::<A>(), self.slot.worker, now);
        let during = self.slot.cell.busy().map_or(Activity::Drop, |(kind, _)| (kind.activity)());
        let text: Arc<str> = panic_text(payload).into();
        let why = Interruption::Panicked(text.clone());
        let cause = match during {
            Activity::Factory => Cause::StartFailed { reason: format!("its factory panicked: {text}").into() },
            during => Cause::Panicked { payload: text, during },
        };
        self.slot.mailbox.interrupt(self.reader_epoch, &why);
        // Only the first panic is reported; the panic hook has logged both.
        let _ = self.drop_worker(Some(&why));
        self.slot.cell.end();
        self.slot.cell.set_down();
        match self.slot.cell.restart(generation, now) {
            Some(next) => {
                // The restart may itself have followed a failure; each failure is reported.
                if let Some(restart_report) = self.take_restart_report(false) {
                    self.slot.report(restart_report);
                }
                self.generation = next.internal;
                self.start_info.generation = next.shown;
                self.start_info.cause = Some(cause.clone());
                self.failure = Some((cause, now));
                Poll::Pending
            }
            None => self.end(Report::Failed(cause)),
        }
    }

    /// Whether the worker was asked to stop since its last turn.
    fn has_stop_request(&self) -> bool {
        self.slot.cell.is_asked_to_stop() && self.worker.as_ref().is_none_or(|worker| !worker.knows_of_stop)
    }

    /// Whether a test holds the worker or its start.
    #[cfg(feature = "testkit")]
    fn is_held(&self) -> bool {
        self.worker
            .as_ref()
            .is_none_or(|worker| worker.context.held_handler.is_some() || self.slot.cell.busy().is_some())
    }

    #[cfg(not(feature = "testkit"))]
    fn is_held(&self) -> bool {
        false
    }

    /// Reports to the supervisor and ends. If an immediate restart failed, both failures are
    /// reported, each of its own generation: so the restart is counted, and its cause is not lost.
    fn end(&mut self, report: Report) -> Poll<()> {
        if self.slot.is_stale(self.reader_epoch) {
            return Poll::Ready(());
        }
        self.slot.cell.end();
        self.slot.cell.set_down();
        if let Some(restart_report) = self.take_restart_report(false) {
            self.slot.report(restart_report);
        }
        self.slot.report((self.generation, report));
        Poll::Ready(())
    }
}

impl<A: Actor<Context = Context<A>>> Drop for Runner<A> {
    /// The thread ends under a worker that was not asked to stop, with its system or by itself. As
    /// in actix, `stopping` and `stopped` run, but nothing that they start.
    fn drop(&mut self) {
        if self.slot.is_stale(self.reader_epoch) {
            return;
        }
        if let Some(worker) = &mut self.worker {
            self.slot.cell.set_down();
            let _ = catch_unwind(AssertUnwindSafe(|| {
                worker.context.begin(ActivityKind::STOPPING);
                worker.context.stop();
                if worker.actor.stopping(&mut worker.context) == Running::Stop {
                    worker.stop();
                }
            }));
            self.slot.cell.end();
        }
        let _ = self.drop_worker(Some(&Interruption::Stopped)); // The panic hook has told of a panic in it.
        // A message that a test holds was begun, and its handler will not return.
        self.slot.mailbox.interrupt(self.reader_epoch, &Interruption::Stopped);
    }
}

impl<A: Actor<Context = Context<A>>> Future for Runner<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if panic_throttle::is_active() && this.yield_to_others(task) {
            return Poll::Pending;
        }
        loop {
            if this.slot.is_stale(this.reader_epoch) {
                let _ = this.drop_worker(None); // Its panic is not reported.
                return Poll::Ready(());
            }
            let turn = catch_unwind(AssertUnwindSafe(|| this.turn(task)));
            if let Some(pending_report) = this.pending_report.take() {
                this.slot.report(pending_report);
            }
            match turn {
                Ok(Turn::Idle) => {
                    // An idle runner is woken for mail, one that waits for a future is not. A
                    // request to stop and a fence wake both. What happened before the waker was
                    // registered is checked here.
                    let is_waiting = this.slot.cell.is_waiting() || this.is_held();
                    let is_fenced = is_waiting && !this.slot.mailbox.register(this.reader_epoch, task.waker());
                    if is_fenced || this.slot.is_stale(this.reader_epoch) || this.has_stop_request() {
                        continue;
                    }
                    return Poll::Pending;
                }
                Ok(Turn::LeaseLost) if this.wait_for_lease(task) => return Poll::Pending,
                Ok(Turn::LeaseLost) => {}
                Ok(Turn::Yield) => {
                    // Not a plain wake-up: after one, tokio polls this task up to 60 times before
                    // it looks at its timers, and the thread sends no beat meanwhile. Woken in this
                    // way, the task comes after the timers.
                    let next_turn = pin!(tokio::task::yield_now());
                    assert!(next_turn.poll(task).is_pending(), "yielding takes a turn");
                    return Poll::Pending;
                }
                Ok(Turn::Fenced) => {}
                Ok(Turn::Stopped) if this.slot.is_stale(this.reader_epoch) => {}
                Ok(Turn::Stopped) => {
                    this.slot.begin(ActivityKind::DROP);
                    match this.drop_worker(None) {
                        Ok(()) => return this.end(Report::Stopped),
                        Err(payload) if this.handle_panic(&*payload).is_ready() => return Poll::Ready(()),
                        Err(_) => {}
                    }
                }
                Ok(Turn::FactoryFailed(reason)) => {
                    // Futures that the factory has spawned are dropped. The error it returned is
                    // what is reported.
                    let new_context = this.new_context.take();
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(new_context)));
                    return this.end(Report::Failed(Cause::StartFailed { reason: reason.into() }));
                }
                Err(payload) => {
                    if this.handle_panic(&*payload).is_ready() {
                        return Poll::Ready(());
                    }
                }
            }
        }
    }
}

impl<A: Actor<Context = Context<A>>> RunningWorker<A> {
    /// One burst: futures that are waited for, then messages, then spawned futures, until nothing
    /// is left or a burst is used up. Messages and futures have a burst each: otherwise a mailbox
    /// that is never empty would starve the timers.
    fn run(
        &mut self,
        slot: &WorkerSlot<A>,
        reader_epoch: u32,
        burst: u32,
        access: QueueAccess,
        task: &mut task::Context<'_>,
    ) -> Turn {
        let (mut envelopes, mut futures) = (Burst::new(burst), Burst::new(burst));
        loop {
            let waited = self.context.waiting;
            let may_go_on = self.poll_waits(task);
            if waited && may_go_on && !self.context.is_fenced() {
                // Between two messages that are waited for, timers, streams and answers get a turn.
                self.poll_spawned(slot, &mut futures, task);
                if !self.waits.is_empty() && !self.context.is_fenced() {
                    continue;
                }
            }
            if self.context.is_fenced() {
                return Turn::Fenced;
            }
            if !may_go_on && !self.context.state().stopping() {
                slot.cell.set_waiting(true);
                return Turn::Idle;
            }
            let is_full = match access {
                QueueAccess::Take => {
                    let handled = self.handle_messages(slot, reader_epoch, &mut envelopes, task);
                    self.context.end_times();
                    match handled {
                        ControlFlow::Continue(is_full) => is_full,
                        ControlFlow::Break(turn) => return turn,
                    }
                }
                QueueAccess::Leave => false,
            };
            slot.cell.set_waiting(is_full);
            let worked = self.poll_spawned(slot, &mut futures, task);
            if self.context.is_fenced() {
                return Turn::Fenced;
            }
            match self.context.state() {
                ActorState::Stopped => return self.stop(),
                ActorState::Stopping => {
                    self.context.begin(ActivityKind::STOPPING);
                    if self.actor.stopping(&mut self.context) == Running::Stop {
                        return self.stop();
                    }
                    if self.context.is_fenced() {
                        return Turn::Fenced;
                    }
                    self.context.end();
                    self.keep_running();
                    continue;
                }
                ActorState::Started | ActorState::Running => {}
            }
            if envelopes.is_over() || futures.is_over() {
                return Turn::Yield;
            }
            if !worked && self.waits.is_empty() {
                return Turn::Idle;
            }
        }
    }

    /// Handles messages until none is left, the burst is used up, or a future is to be waited for.
    /// Breaks with the end of the turn; otherwise returns whether as many answers are under way as
    /// may be.
    #[inline]
    fn handle_messages(
        &mut self,
        slot: &WorkerSlot<A>,
        reader_epoch: u32,
        burst: &mut Burst,
        task: &mut task::Context<'_>,
    ) -> ControlFlow<Turn, bool> {
        while !burst.is_over() && !self.context.waiting() {
            if !slot.may_act() {
                return ControlFlow::Break(Turn::Yield);
            }
            match slot.mailbox.take(reader_epoch, task, self.context.timer.as_mut()) {
                Taken::Item(Item::Envelope(envelope)) => envelope.handle(&mut self.actor, &mut self.context),
                Taken::Item(Item::Actix(mut envelope)) => envelope.handle(&mut self.actor, &mut self.context),
                Taken::Stale => return ControlFlow::Break(Turn::Fenced),
                Taken::Nothing => return ControlFlow::Continue(false),
                Taken::Full => return ControlFlow::Continue(true),
            }
            burst.count(slot.cell.since());
            self.take_over();
            #[cfg(feature = "testkit")]
            if self.context.held_handler.is_some() && self.waits.is_empty() {
                return ControlFlow::Break(Turn::Idle);
            }
        }
        ControlFlow::Continue(false)
    }

    /// A turn of a worker that was asked to stop. It finishes what it may, then `stopping` is
    /// called. If that returns `Running::Continue`, the worker goes on until it stops itself or its
    /// time is over.
    fn shut_down(&mut self, slot: &WorkerSlot<A>, reader_epoch: u32, task: &mut task::Context<'_>) -> Turn {
        self.knows_of_stop = true;
        let burst = slot.control.burst;
        loop {
            let draining = slot.mailbox.draining(reader_epoch, task);
            // A shard without a valid lease can finish nothing.
            let may_act = slot.may_act();
            if !may_act || draining.is_done && !self.declined_stop {
                self.context.begin(ActivityKind::STOPPING);
                self.context.stop();
                let running = self.actor.stopping(&mut self.context);
                if self.context.is_fenced() {
                    return Turn::Fenced;
                }
                if running == Running::Stop || !may_act || self.context.state() == ActorState::Stopped {
                    return self.stop();
                }
                self.context.end();
                self.keep_running();
                self.declined_stop = true;
            }
            let access = if draining.with_queue { QueueAccess::Take } else { QueueAccess::Leave };
            match self.run(slot, reader_epoch, burst, access, task) {
                Turn::Idle => {}
                turn => return turn,
            }
            let after = slot.mailbox.draining(reader_epoch, task);
            if self.declined_stop || !after.is_done && after.with_queue == draining.with_queue {
                return Turn::Idle;
            }
        }
    }

    /// Goes on after `stopping` has returned `Running::Continue`. A worker that has terminated
    /// meanwhile stays stopped.
    fn keep_running(&mut self) {
        if self.context.state() != ActorState::Stopped {
            self.context.set_state(ActorState::Running);
        }
        self.take_over();
    }

    /// Applies a fault that a test has injected for this moment, and goes on with a message that
    /// was held. Returns how the turn ends, if the fault ends it.
    #[cfg(feature = "testkit")]
    fn apply_fault(&mut self, slot: &WorkerSlot<A>) -> Option<Turn> {
        if self.context.held_handler.is_none() {
            // A thread that was held without a message was released, or this would not run.
            self.context.end();
        }
        if let Some(fault) = slot.faults.take_now() {
            self.context.begin(ActivityKind::future::<crate::worker::fault::Fault>());
            match slot.faults.apply(fault) {
                FaultAction::Held => return Some(Turn::Idle),
                FaultAction::Panic(text) => panic!("{text}"),
                FaultAction::Wait => self.context.wait(actix::fut::wrap_future(std::future::pending())),
                FaultAction::Stop => self.context.stop(),
                FaultAction::Done | FaultAction::WaitFor(_) | FaultAction::Refuse(_) => {}
            }
            self.context.end();
            self.take_over();
        }
        if self.waits.is_empty()
            && let Some(handling) = self.context.held_handler.take()
        {
            handling(&mut self.actor, &mut self.context);
            self.take_over();
        }
        None
    }

    /// Whether the worker is up: it waits for nothing that it began in `started`, and has not
    /// announced that it will say so itself.
    fn is_up(&self) -> bool {
        self.waits.is_empty() && !self.context.is_starting()
    }

    fn stop(&mut self) -> Turn {
        self.context.begin(ActivityKind::STOPPING);
        self.context.set_state(ActorState::Stopped);
        self.actor.stopped(&mut self.context);
        Turn::Stopped
    }

    /// Takes over the futures that the worker has spawned, waited for or cancelled since. Returns
    /// whether there were any.
    fn take_over(&mut self) -> bool {
        let context = &mut self.context;
        let any = !(context.spawned.is_empty() && context.waits.is_empty() && context.cancelled.is_empty());
        if any {
            self.spawned.extend(context.spawned.drain(..).map(|(handle, future)| (handle, Some(future))));
            self.waits.append(&mut context.waits);
            for handle in context.cancelled.drain(..) {
                // It is dropped in its place, so that the others keep theirs.
                if let Some((_, future)) = self.spawned.iter_mut().find(|(candidate, _)| *candidate == handle) {
                    *future = None;
                }
            }
            context.waiting = !self.waits.is_empty();
        }
        any
    }

    /// Polls the futures that are waited for. Returns whether all are done.
    fn poll_waits(&mut self, task: &mut task::Context<'_>) -> bool {
        while !self.context.state().stopping()
            && let Some(wait) = self.waits.last_mut()
        {
            self.context.begin(wait.kind);
            let done = wait.future.as_mut().poll(&mut self.actor, &mut self.context, task).is_ready();
            if self.context.is_fenced() {
                return false;
            }
            self.context.end();
            if done {
                self.waits.pop();
            }
            self.take_over();
            self.context.waiting = !self.waits.is_empty();
            if !done {
                // The future that waits may have spawned others, which must not wait for its
                // wake-up.
                return false;
            }
        }
        self.waits.is_empty()
    }

    /// Polls each spawned future once, in turn, those that are spawned meanwhile too, until the
    /// burst is used up. Futures that were not reached come first the next time. Returns whether
    /// there is more to do at once.
    fn poll_spawned(&mut self, slot: &WorkerSlot<A>, burst: &mut Burst, task: &mut task::Context<'_>) -> bool {
        let mut index = 0;
        while index < self.spawned.len()
            && self.waits.is_empty()
            && !self.context.state().stopping()
            && !burst.is_over()
        {
            if let (handle, Some(future)) = &mut self.spawned[index] {
                self.context.begin(future.kind);
                self.context.begin_poll(future.is_batched.then(|| PollBudget::new(slot.cell.since(), burst.left)));
                self.context.set_handle(*handle);
                let done = future.future.as_mut().poll(&mut self.actor, &mut self.context, task).is_ready();
                if self.context.is_fenced() {
                    return false;
                }
                self.context.end();
                if done {
                    self.spawned[index].1 = None;
                    burst.count(slot.cell.since());
                }
                // The future has more to do and was cut off: the others get their turn before it
                // goes on.
                if self.context.end_poll() {
                    burst.left = 0;
                }
                self.take_over();
            }
            index += 1;
        }
        self.spawned.rotate_left(index);
        self.spawned.retain(|(_, future)| future.is_some());
        self.take_over() || !self.waits.is_empty()
    }
}

/// The text of a panic, if its payload is text.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a payload that is not text")
}
