//! `Runner`: the future that runs one generation of a worker on an arbiter, and the next one in its
//! place if it may.
//!
//! The mailbox does not belong to the driver; it lies in the slot, and the driver takes one
//! envelope at a time from it. A driver that is replaced, because its thread is blocked, finds
//! itself void when it wakes: its successor reads the same mailbox, and nothing was lost but the
//! one message it was stuck in.
//!
//! Panics are caught around a whole turn. What panicked is dropped, under a second catch, since a
//! `Drop` may panic too; if the cell holds leave for an immediate restart, the factory makes a new
//! worker within the same poll, else the supervisor is told and the driver ends.
//!
//! It is a loop of our own over the receiver, not actix's `ContextFut`: that one keeps the old
//! value of the actor, asks for a trait on the user's type, and drains its mailbox to the end
//! before anything else has a turn.

use std::any::{Any, TypeId};
use std::future::Future;
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

/// Runs one generation of a worker, and the next one if its panic may be answered at once.
pub(crate) struct Runner<A: Actor<Context = Context<A>>> {
    slot: Arc<WorkerSlot<A>>,
    /// The reader epoch in which it has the slot.
    reader_epoch: u32,
    /// The inner number of the present worker; see [`WorkerGeneration`].
    generation: Generation,
    start_info: StartInfo,
    /// The failure that the generation to be born makes good by leave of the cell.
    failure: Option<(Cause, Instant)>,
    /// What is to be reported when the turn is over: telling another thread costs as much as the
    /// restart, and queued mail is waiting.
    pending_report: Option<(Generation, Report)>,
    /// Whether the present generation is up, and that has been told.
    is_up: bool,
    /// How long a test wants the present start to take.
    #[cfg(feature = "testkit")]
    slow_start: Option<Duration>,
    worker: Option<RunningWorker<A>>,
    /// Whether it has given way to the others of its thread, and this is its turn.
    has_yielded: bool,
    /// The context of the worker that the factory is making. It lies here, and not on the stack
    /// that a panic of the factory unwinds, since what the factory has spawned may panic when it is
    /// dropped, too.
    new_context: Option<Box<Context<A>>>,
    /// When it looks again whether its node may act.
    recheck: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// A worker that runs.
struct RunningWorker<A: Actor<Context = Context<A>>> {
    actor: A,
    context: Context<A>,
    /// In the order of their turns; what is done or cancelled is `None` until the round is over.
    spawned: Vec<(SpawnHandle, Option<Task<A>>)>,
    /// The newest one, at the end, is waited for first.
    waits: Vec<Task<A>>,
    /// Whether it was told to stop and knows.
    knows_of_stop: bool,
    /// Whether it has answered that it would rather stay for a while.
    declined_stop: bool,
}

/// Whether a turn may take envelopes from the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum QueueAccess {
    Take,
    /// They are for the next worker, or for nobody.
    Leave,
}

/// What may still be done before others have their turn.
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
    /// Nothing more to do until something wakes us.
    Idle,
    /// The burst is used up; others have their turn.
    Yield,
    /// Its node may not act for its shards now, and it is one.
    LeaseLost,
    /// Replaced: nothing more may be handled.
    Fenced,
    /// It stopped.
    Stopped,
    /// The factory refused.
    FactoryFailed(String),
}

impl<A: Actor<Context = Context<A>>> Unpin for Runner<A> {}

impl<A: Actor<Context = Context<A>>> Runner<A> {
    /// A driver for the generation of `start_info`.
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
        // With something left to tell, one message is all that may come before it.
        let burst = if self.pending_report.is_some() { 1 } else { self.slot.control.burst };
        let turn = worker.run(&self.slot, self.reader_epoch, burst, QueueAccess::Take, task);
        if !self.is_up && !matches!(turn, Turn::Fenced) {
            self.report_up();
        }
        turn
    }

    /// Does to a start what a test has put down for it. Returns how the turn ends, if that is all
    /// of it.
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

    /// Says that a generation was born, and whether it is up already.
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

    /// The report that the former generation failed and that the present one was started in its
    /// place, if that has not been reported yet.
    fn take_restart_report(&mut self, is_up: bool) -> Option<(Generation, Report)> {
        let (cause, failed_at) = self.failure.take()?;
        Some((Generation(self.generation.0 - 1), Report::Restarted { cause, failed_at, is_up }))
    }

    /// Says that the present generation is up, once it is.
    fn report_up(&mut self) {
        if self.worker.as_ref().is_some_and(RunningWorker::is_up) {
            self.is_up = true;
            self.slot.cell.set_up();
            self.slot.report((self.generation, Report::Started));
        }
    }

    /// Drops the worker and its futures; a panic in their `Drop` stays here. The senders of answers
    /// that end with it are told `why`, or why it was told to stop.
    ///
    /// # Errors
    /// What that panic said.
    fn drop_worker(&mut self, why: Option<&Interruption>) -> Result<(), Box<dyn Any + Send>> {
        let (worker, new_context) = (self.worker.take(), self.new_context.take());
        self.is_up = false;
        self.slot.mailbox.end_generation(self.reader_epoch, why);
        let dropped = catch_unwind(AssertUnwindSafe(|| drop((worker, new_context))));
        self.slot.mailbox.detach_answers(self.reader_epoch);
        dropped
    }

    /// Sleeps until it is to look again whether its node may act for its shard. False if there is
    /// something to do at once.
    fn wait_for_lease(&mut self, task: &mut task::Context<'_>) -> bool {
        // To be told to stop, or that it is void, it is woken in any case.
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

    /// Whether it waits for its turn, since workers of its type panic in great numbers on this
    /// thread.
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

    /// Takes in that the worker panicked. `Pending` if the next generation may be made at once.
    fn handle_panic(&mut self, payload: &(dyn Any + Send)) -> Poll<()> {
        if self.slot.is_stale(self.reader_epoch) {
            // A zombie's panic is nobody's business any more, and the status cell is its
            // successor's.
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
        // One panic is reported, the first; the panic hook has told of both.
        let _ = self.drop_worker(Some(&why));
        self.slot.cell.end();
        self.slot.cell.set_down();
        match self.slot.cell.restart(generation, now) {
            Some(next) => {
                // A start that failed at once makes good a failure of its own: each is reported.
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

    /// Whether it was told to stop since its last turn.
    fn has_stop_request(&self) -> bool {
        self.slot.cell.is_asked_to_stop() && self.worker.as_ref().is_none_or(|worker| !worker.knows_of_stop)
    }

    /// Whether a test holds it, or it has not been born yet because a test holds that.
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

    /// Tells the supervisor and ends. If an immediate restart failed, both failures are reported,
    /// each of its own generation: the restart counts, and the cause that began it is not lost.
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
    /// The thread ends under a worker that was not told to stop, with its system or by itself. As
    /// in actix, `stopping` and `stopped` run; what they begin is not done any more.
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
        // A message that a test holds was begun, and its handler does not return any more.
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
                let _ = this.drop_worker(None); // Nobody is interested any more in what becomes of it.
                return Poll::Ready(());
            }
            let turn = catch_unwind(AssertUnwindSafe(|| this.turn(task)));
            if let Some(pending_report) = this.pending_report.take() {
                this.slot.report(pending_report);
            }
            match turn {
                Ok(Turn::Idle) => {
                    // Whoever waits for a future, or has nothing to do, is woken for mail only in
                    // the second case; but for being told to stop, or that it is void, always. What
                    // was said before we could be woken is looked at now.
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
                    // Not a plain wake-up: after that, tokio comes back to us up to 60 times before
                    // it looks at its timers, and the thread gives no sign of worker meanwhile.
                    // Woken in this way, we come after the timers.
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
                    // What the factory has spawned goes; its refusal is the failure that is told.
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
    /// is left or a burst is used up. Messages and futures have one each: a mailbox that is never
    /// empty would else keep the timers from their turn for ever.
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
                // Between two messages that are waited for, the others have a turn: timers,
                // streams, answers.
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
            let mut is_full = false;
            while access == QueueAccess::Take && !envelopes.is_over() && !self.context.waiting() {
                if !slot.may_act() {
                    return Turn::Yield;
                }
                match slot.mailbox.take(reader_epoch, task) {
                    Taken::Item(Item::Envelope(envelope)) => envelope.handle(&mut self.actor, &mut self.context),
                    Taken::Item(Item::Actix(mut envelope)) => envelope.handle(&mut self.actor, &mut self.context),
                    Taken::Stale => return Turn::Fenced,
                    Taken::Nothing => break,
                    Taken::Full => {
                        is_full = true;
                        break;
                    }
                }
                envelopes.count(slot.cell.since());
                self.take_over();
                #[cfg(feature = "testkit")]
                if self.context.held_handler.is_some() && self.waits.is_empty() {
                    return Turn::Idle;
                }
            }
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

    /// A turn of a worker that was told to stop: it finishes what it may, then it is asked whether
    /// it stops. One that would rather stay goes on until it stops itself, or its time is over.
    fn shut_down(&mut self, slot: &WorkerSlot<A>, reader_epoch: u32, task: &mut task::Context<'_>) -> Turn {
        self.knows_of_stop = true;
        let burst = slot.control.burst;
        loop {
            let draining = slot.mailbox.draining(reader_epoch, task);
            // A shard that may not act any more can finish nothing.
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

    /// Goes on after `stopping` has said so; one that has terminated meanwhile stays so.
    fn keep_running(&mut self) {
        if self.context.state() != ActorState::Stopped {
            self.context.set_state(ActorState::Running);
        }
        self.take_over();
    }

    /// Does to a worker what a test has put down for this very moment, and goes on with a message
    /// that was held_handler. Returns how the turn ends, if that is all of it.
    #[cfg(feature = "testkit")]
    fn apply_fault(&mut self, slot: &WorkerSlot<A>) -> Option<Turn> {
        if self.context.held_handler.is_none() {
            // A thread that was held_handler without a message was released, or this would not run.
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

    /// Whether it is up: it waits for nothing that it began in `started`, and has not said that it
    /// will say so itself.
    fn is_up(&self) -> bool {
        self.waits.is_empty() && !self.context.is_starting()
    }

    fn stop(&mut self) -> Turn {
        self.context.begin(ActivityKind::STOPPING);
        self.context.set_state(ActorState::Stopped);
        self.actor.stopped(&mut self.context);
        Turn::Stopped
    }

    /// Takes over what the worker has spawned, waited for or cancelled since. Returns whether there
    /// was anything.
    fn take_over(&mut self) -> bool {
        let context = &mut self.context;
        let any = !(context.spawned.is_empty() && context.waits.is_empty() && context.cancelled.is_empty());
        if any {
            self.spawned.extend(context.spawned.drain(..).map(|(handle, future)| (handle, Some(future))));
            self.waits.append(&mut context.waits);
            for handle in context.cancelled.drain(..) {
                // It is dropped in its place, so that the others stay in theirs.
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
                // What was spawned by the very future that waits must not wait for a wake-up that
                // nobody gives.
                return false;
            }
        }
        self.waits.is_empty()
    }

    /// Polls each spawned future once, in turn, those that are spawned meanwhile too, until the
    /// burst is used up; whoever was not reached then comes first the next time. Returns whether
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
                // It has more to do and was cut off: the others have their turn before it goes on.
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

/// What a panic said, if it said it in words.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a payload that is not text")
}
