//! `Runner`: the future that runs one generation of a worker on an arbiter, and the next one in its
//! place if it may.
//!
//! The mailbox does not belong to the driver; it lies in the slot, and the driver takes one letter
//! at a time from it. A driver that is replaced, because its thread is blocked, finds itself void
//! when it wakes: its successor reads the same mailbox, and nothing was lost but the one message it
//! was stuck in.
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
use crate::worker::fault::Strike;
use crate::worker::mailbox::{Item, Taken};
use crate::worker::node_lease::LOOK_AGAIN;
use crate::worker::panic_storm;
use crate::worker::pieces::{Pieces, SLICE};
use crate::worker::slot::{StartInfo, WorkerSlot};
use crate::worker::status_cell::{Kind, LifeNumber};

/// Runs one generation of a worker, and the next one if its panic may be answered at once.
pub(crate) struct Runner<A: Actor<Context = Context<A>>> {
    slot: Arc<WorkerSlot<A>>,
    /// In which term it has the slot.
    term: u32,
    /// The inner number of the present life; see [`LifeNumber`].
    generation: Generation,
    birth: StartInfo,
    /// The failure that the generation to be born makes good by leave of the cell.
    failure: Option<(Cause, Instant)>,
    /// What is to be reported when the turn is over: telling another thread costs as much as the
    /// restart, and queued mail is waiting.
    untold: Option<(Generation, Report)>,
    /// Whether the present generation is up, and that has been told.
    is_up: bool,
    /// How long a test wants the present start to take.
    #[cfg(feature = "testkit")]
    slow_start: Option<Duration>,
    life: Option<Life<A>>,
    /// Whether it has given way to the others of its thread, and this is its turn.
    gave_way: bool,
    /// The context of the worker that the factory is making. It lies here, and not on the stack
    /// that a panic of the factory unwinds, since what the factory has spawned may panic when it is
    /// dropped, too.
    unborn: Option<Box<Context<A>>>,
    /// When it looks again whether its node may act.
    look_again: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// A worker that runs.
struct Life<A: Actor<Context = Context<A>>> {
    actor: A,
    context: Context<A>,
    /// In the order of their turns; what is done or cancelled is `None` until the round is over.
    spawned: Vec<(SpawnHandle, Option<Task<A>>)>,
    /// The newest one, at the end, is waited for first.
    waits: Vec<Task<A>>,
    /// Whether it was told to stop and knows.
    is_told: bool,
    /// Whether it has answered that it would rather stay for a while.
    stays: bool,
}

/// Whether a turn may take letters from the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mail {
    Taken,
    /// They are for the next life, or for nobody.
    Left,
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
        self.left = if since - begun < SLICE { self.left - 1 } else { 0 };
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
    Barred,
    /// Replaced: nothing more may be handled.
    Void,
    /// It stopped.
    Stopped,
    /// The factory refused.
    NotBorn(String),
}

impl<A: Actor<Context = Context<A>>> Unpin for Runner<A> {}

impl<A: Actor<Context = Context<A>>> Runner<A> {
    /// A driver for the generation of `birth`.
    pub(crate) fn new(slot: Arc<WorkerSlot<A>>, term: u32, generation: Generation, birth: StartInfo) -> Runner<A> {
        Runner {
            slot,
            term,
            generation,
            birth,
            failure: None,
            untold: None,
            is_up: false,
            #[cfg(feature = "testkit")]
            slow_start: None,
            life: None,
            gave_way: false,
            unborn: None,
            look_again: None,
        }
    }

    fn turn(&mut self, task: &mut task::Context<'_>) -> Turn {
        if self.life.is_none() {
            self.slot.begin(Kind::FACTORY);
            #[cfg(feature = "testkit")]
            if let Some(turn) = self.strike_start() {
                return turn;
            }
            self.birth.snapshot = self.slot.kept();
            self.birth.replica = self.slot.replica();
            let life = LifeNumber { inner: self.generation, shown: self.birth.generation };
            let context = Context::new(self.slot.clone(), self.term, life, self.birth.shard);
            let context = self.unborn.insert(Box::new(context));
            let actor = match (self.slot.factory)(&self.birth, context) {
                Ok(actor) => actor,
                Err(error) => return Turn::NotBorn(error.to_string()),
            };
            let Some(context) = self.unborn.take() else { unreachable!("the context was just put there") };
            let life = self.life.insert(Life {
                actor,
                context: *context,
                spawned: Vec::new(),
                waits: Vec::new(),
                is_told: false,
                stays: false,
            });
            if self.slot.is_over(self.term) {
                return Turn::Void; // The factory took longer than it may, and another one was asked.
            }
            life.context.begin(Kind::STARTED);
            life.actor.started(&mut life.context);
            #[cfg(feature = "testkit")]
            if let Some(time) = self.slow_start.take() {
                life.context.wait(actix::fut::wrap_future(tokio::time::sleep(time)));
            }
            if life.context.is_void() {
                return Turn::Void;
            }
            life.context.end();
            if life.context.state() == ActorState::Started {
                life.context.set_state(ActorState::Running);
            }
            life.take_over();
            self.tell_born();
        }
        let Some(life) = &mut self.life else { return Turn::Void };
        let is_told = self.slot.cell.is_asked_to_stop();
        if !self.slot.may_act() && !is_told {
            return Turn::Barred;
        }
        #[cfg(feature = "testkit")]
        if let Some(turn) = life.strike(&self.slot) {
            return turn;
        }
        if is_told {
            return life.wind_down(&self.slot, self.term, task);
        }
        // With something left to tell, one message is all that may come before it.
        let burst = if self.untold.is_some() { 1 } else { self.slot.control.burst };
        let turn = life.run(&self.slot, self.term, burst, Mail::Taken, task);
        if !self.is_up && !matches!(turn, Turn::Void) {
            self.tell_up();
        }
        turn
    }

    /// Does to a start what a test has put down for it. Returns how the turn ends, if that is all
    /// of it.
    #[cfg(feature = "testkit")]
    fn strike_start(&mut self) -> Option<Turn> {
        match self.slot.faults.play(self.slot.faults.take_start()?) {
            Strike::Held => Some(Turn::Idle),
            Strike::Refuse(text) => Some(Turn::NotBorn(text)),
            Strike::WaitFor(time) => {
                self.slow_start = Some(time);
                None
            }
            Strike::Done | Strike::Panic(_) | Strike::Wait | Strike::Stop => None,
        }
    }

    /// Says that a generation was born, and whether it is up already.
    fn tell_born(&mut self) {
        let is_up = self.life.as_ref().is_some_and(Life::is_up);
        if let Some(restarted) = self.restarted(is_up) {
            self.untold = Some(restarted);
            if is_up {
                self.is_up = true;
                self.slot.cell.set_up();
            }
        } else if is_up {
            self.tell_up();
        }
    }

    /// The report that the former generation failed and that the present one was started in its
    /// place, if that has not been reported yet.
    fn restarted(&mut self, is_up: bool) -> Option<(Generation, Report)> {
        let (cause, failed_at) = self.failure.take()?;
        Some((Generation(self.generation.0 - 1), Report::Restarted { cause, failed_at, is_up }))
    }

    /// Says that the present generation is up, once it is.
    fn tell_up(&mut self) {
        if self.life.as_ref().is_some_and(Life::is_up) {
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
    fn bury(&mut self, why: Option<&Interruption>) -> Result<(), Box<dyn Any + Send>> {
        let (life, unborn) = (self.life.take(), self.unborn.take());
        self.is_up = false;
        self.slot.mailbox.end_life(self.term, why);
        let dropped = catch_unwind(AssertUnwindSafe(|| drop((life, unborn))));
        self.slot.mailbox.outlive(self.term);
        dropped
    }

    /// Sleeps until it is to look again whether its node may act for its shard. False if there is
    /// something to do at once.
    fn waits_for_right(&mut self, task: &mut task::Context<'_>) -> bool {
        // To be told to stop, or that it is void, it is woken in any case.
        let is_void = !self.slot.mailbox.register(self.term, task.waker());
        if is_void || self.slot.is_over(self.term) || self.slot.cell.is_asked_to_stop() {
            return false;
        }
        let mut look_again = Box::pin(tokio::time::sleep(LOOK_AGAIN));
        if look_again.as_mut().poll(task).is_ready() {
            return false;
        }
        self.look_again = Some(look_again);
        true
    }

    /// Whether it waits for its turn, since workers of its type panic in great numbers on this
    /// thread.
    fn gives_way(&mut self, task: &task::Context<'_>) -> bool {
        let clock = self.slot.control.clock;
        if std::mem::take(&mut self.gave_way) || !panic_storm::gives_way(TypeId::of::<A>(), clock.now()) {
            return false;
        }
        self.gave_way = true;
        if panic_storm::stand_in_line(task.waker()) {
            drop(actix_rt::spawn(panic_storm::lead(move || clock.now())));
        }
        true
    }

    /// Takes in that the worker panicked. `Pending` if the next generation may be made at once.
    fn fail(&mut self, payload: &(dyn Any + Send)) -> Poll<()> {
        if self.slot.is_over(self.term) {
            // A zombie's panic is nobody's business any more, and the status cell is its
            // successor's.
            let _ = self.bury(None);
            return Poll::Ready(());
        }
        let (now, generation) = (self.slot.control.clock.now(), self.generation);
        panic_storm::count(TypeId::of::<A>(), self.slot.worker, now);
        let during = self.slot.cell.busy().map_or(Activity::Drop, |(kind, _)| (kind.activity)());
        let text: Arc<str> = panic_text(payload).into();
        let why = Interruption::Panicked(text.clone());
        let cause = match during {
            Activity::Factory => Cause::StartFailed { reason: format!("its factory panicked: {text}").into() },
            during => Cause::Panicked { payload: text, during },
        };
        self.slot.mailbox.interrupt(self.term, &why);
        // One panic is reported, the first; the panic hook has told of both.
        let _ = self.bury(Some(&why));
        self.slot.cell.end();
        self.slot.cell.set_down();
        match self.slot.cell.restart(generation, now) {
            Some(next) => {
                // A start that failed at once makes good a failure of its own: each is reported.
                if let Some(restarted) = self.restarted(false) {
                    self.slot.report(restarted);
                }
                self.generation = next.inner;
                self.birth.generation = next.shown;
                self.birth.cause = Some(cause.clone());
                self.failure = Some((cause, now));
                Poll::Pending
            }
            None => self.end(Report::Failed(cause)),
        }
    }

    /// Whether it was told to stop since its last turn.
    fn has_news(&self) -> bool {
        self.slot.cell.is_asked_to_stop() && self.life.as_ref().is_none_or(|life| !life.is_told)
    }

    /// Whether a test holds it, or it has not been born yet because a test holds that.
    #[cfg(feature = "testkit")]
    fn is_held(&self) -> bool {
        self.life.as_ref().is_none_or(|life| life.context.held.is_some() || self.slot.cell.busy().is_some())
    }

    #[cfg(not(feature = "testkit"))]
    fn is_held(&self) -> bool {
        false
    }

    /// Tells the supervisor and ends. If an immediate restart failed, both failures are reported,
    /// each of its own generation: the restart counts, and the cause that began it is not lost.
    fn end(&mut self, report: Report) -> Poll<()> {
        if self.slot.is_over(self.term) {
            return Poll::Ready(());
        }
        self.slot.cell.end();
        self.slot.cell.set_down();
        if let Some(restarted) = self.restarted(false) {
            self.slot.report(restarted);
        }
        self.slot.report((self.generation, report));
        Poll::Ready(())
    }
}

impl<A: Actor<Context = Context<A>>> Drop for Runner<A> {
    /// The thread ends under a worker that was not told to stop, with its system or by itself. As
    /// in actix, `stopping` and `stopped` run; what they begin is not done any more.
    fn drop(&mut self) {
        if self.slot.is_over(self.term) {
            return;
        }
        if let Some(life) = &mut self.life {
            self.slot.cell.set_down();
            let _ = catch_unwind(AssertUnwindSafe(|| {
                life.context.begin(Kind::STOPPING);
                life.context.stop();
                if life.actor.stopping(&mut life.context) == Running::Stop {
                    life.stop();
                }
            }));
            self.slot.cell.end();
        }
        let _ = self.bury(Some(&Interruption::Stopped)); // The panic hook has told of a panic in it.
        // A message that a test holds was begun, and its handler does not return any more.
        self.slot.mailbox.interrupt(self.term, &Interruption::Stopped);
    }
}

impl<A: Actor<Context = Context<A>>> Future for Runner<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if panic_storm::is_on() && this.gives_way(task) {
            return Poll::Pending;
        }
        loop {
            if this.slot.is_over(this.term) {
                let _ = this.bury(None); // Nobody is interested any more in what becomes of it.
                return Poll::Ready(());
            }
            let turn = catch_unwind(AssertUnwindSafe(|| this.turn(task)));
            if let Some(untold) = this.untold.take() {
                this.slot.report(untold);
            }
            match turn {
                Ok(Turn::Idle) => {
                    // Whoever waits for a future, or has nothing to do, is woken for mail only in
                    // the second case; but for being told to stop, or that it is void, always. What
                    // was said before we could be woken is looked at now.
                    let is_waiting = this.slot.cell.is_waiting() || this.is_held();
                    let is_void = is_waiting && !this.slot.mailbox.register(this.term, task.waker());
                    if is_void || this.slot.is_over(this.term) || this.has_news() {
                        continue;
                    }
                    return Poll::Pending;
                }
                Ok(Turn::Barred) if this.waits_for_right(task) => return Poll::Pending,
                Ok(Turn::Barred) => {}
                Ok(Turn::Yield) => {
                    // Not a plain wake-up: after that, tokio comes back to us up to 60 times before
                    // it looks at its timers, and the thread gives no sign of life meanwhile. Woken
                    // in this way, we come after the timers.
                    let next_turn = pin!(tokio::task::yield_now());
                    assert!(next_turn.poll(task).is_pending(), "yielding takes a turn");
                    return Poll::Pending;
                }
                Ok(Turn::Void) => {}
                Ok(Turn::Stopped) if this.slot.is_over(this.term) => {}
                Ok(Turn::Stopped) => {
                    this.slot.begin(Kind::DROP);
                    match this.bury(None) {
                        Ok(()) => return this.end(Report::Stopped),
                        Err(payload) if this.fail(&*payload).is_ready() => return Poll::Ready(()),
                        Err(_) => {}
                    }
                }
                Ok(Turn::NotBorn(reason)) => {
                    // What the factory has spawned goes; its refusal is the failure that is told.
                    let unborn = this.unborn.take();
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(unborn)));
                    return this.end(Report::Failed(Cause::StartFailed { reason: reason.into() }));
                }
                Err(payload) => {
                    if this.fail(&*payload).is_ready() {
                        return Poll::Ready(());
                    }
                }
            }
        }
    }
}

impl<A: Actor<Context = Context<A>>> Life<A> {
    /// One burst: futures that are waited for, then messages, then spawned futures, until nothing
    /// is left or a burst is used up. Messages and futures have one each: a mailbox that is never
    /// empty would else keep the timers from their turn for ever.
    fn run(&mut self, slot: &WorkerSlot<A>, term: u32, burst: u32, mail: Mail, task: &mut task::Context<'_>) -> Turn {
        let (mut letters, mut futures) = (Burst::new(burst), Burst::new(burst));
        loop {
            let waited = self.context.waiting;
            let may_go_on = self.poll_waits(task);
            if waited && may_go_on && !self.context.is_void() {
                // Between two messages that are waited for, the others have a turn: timers,
                // streams, answers.
                self.poll_spawned(slot, &mut futures, task);
                if !self.waits.is_empty() && !self.context.is_void() {
                    continue;
                }
            }
            if self.context.is_void() {
                return Turn::Void;
            }
            if !may_go_on && !self.context.state().stopping() {
                slot.cell.set_waiting(true);
                return Turn::Idle;
            }
            let mut is_full = false;
            while mail == Mail::Taken && !letters.is_over() && !self.context.waiting() {
                if !slot.may_act() {
                    return Turn::Yield;
                }
                match slot.mailbox.take(term, task) {
                    Taken::Item(Item::Envelope(letter)) => letter.handle(&mut self.actor, &mut self.context),
                    Taken::Item(Item::Actix(mut letter)) => letter.handle(&mut self.actor, &mut self.context),
                    Taken::Over => return Turn::Void,
                    Taken::Nothing => break,
                    Taken::Full => {
                        is_full = true;
                        break;
                    }
                }
                letters.count(slot.cell.since());
                self.take_over();
                #[cfg(feature = "testkit")]
                if self.context.held.is_some() && self.waits.is_empty() {
                    return Turn::Idle;
                }
            }
            slot.cell.set_waiting(is_full);
            let worked = self.poll_spawned(slot, &mut futures, task);
            if self.context.is_void() {
                return Turn::Void;
            }
            match self.context.state() {
                ActorState::Stopped => return self.stop(),
                ActorState::Stopping => {
                    self.context.begin(Kind::STOPPING);
                    if self.actor.stopping(&mut self.context) == Running::Stop {
                        return self.stop();
                    }
                    if self.context.is_void() {
                        return Turn::Void;
                    }
                    self.context.end();
                    self.stay();
                    continue;
                }
                ActorState::Started | ActorState::Running => {}
            }
            if letters.is_over() || futures.is_over() {
                return Turn::Yield;
            }
            if !worked && self.waits.is_empty() {
                return Turn::Idle;
            }
        }
    }

    /// A turn of a worker that was told to stop: it finishes what it may, then it is asked whether
    /// it stops. One that would rather stay goes on until it stops itself, or its time is over.
    fn wind_down(&mut self, slot: &WorkerSlot<A>, term: u32, task: &mut task::Context<'_>) -> Turn {
        self.is_told = true;
        let burst = slot.control.burst;
        loop {
            let draining = slot.mailbox.draining(term, task);
            // A shard that may not act any more can finish nothing.
            let may_act = slot.may_act();
            if !may_act || draining.is_done && !self.stays {
                self.context.begin(Kind::STOPPING);
                self.context.stop();
                let running = self.actor.stopping(&mut self.context);
                if self.context.is_void() {
                    return Turn::Void;
                }
                if running == Running::Stop || !may_act || self.context.state() == ActorState::Stopped {
                    return self.stop();
                }
                self.context.end();
                self.stay();
                self.stays = true;
            }
            let mail = if draining.with_queue { Mail::Taken } else { Mail::Left };
            match self.run(slot, term, burst, mail, task) {
                Turn::Idle => {}
                turn => return turn,
            }
            let after = slot.mailbox.draining(term, task);
            if self.stays || !after.is_done && after.with_queue == draining.with_queue {
                return Turn::Idle;
            }
        }
    }

    /// Goes on after `stopping` has said so; one that has terminated meanwhile stays so.
    fn stay(&mut self) {
        if self.context.state() != ActorState::Stopped {
            self.context.set_state(ActorState::Running);
        }
        self.take_over();
    }

    /// Does to a worker what a test has put down for this very moment, and goes on with a message
    /// that was held. Returns how the turn ends, if that is all of it.
    #[cfg(feature = "testkit")]
    fn strike(&mut self, slot: &WorkerSlot<A>) -> Option<Turn> {
        if self.context.held.is_none() {
            // A thread that was held without a message was released, or this would not run.
            self.context.end();
        }
        if let Some(fault) = slot.faults.take_now() {
            self.context.begin(Kind::future::<crate::worker::fault::Fault>());
            match slot.faults.play(fault) {
                Strike::Held => return Some(Turn::Idle),
                Strike::Panic(text) => panic!("{text}"),
                Strike::Wait => self.context.wait(actix::fut::wrap_future(std::future::pending())),
                Strike::Stop => self.context.stop(),
                Strike::Done | Strike::WaitFor(_) | Strike::Refuse(_) => {}
            }
            self.context.end();
            self.take_over();
        }
        if self.waits.is_empty()
            && let Some(handling) = self.context.held.take()
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
        self.context.begin(Kind::STOPPING);
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
            if self.context.is_void() {
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
                self.context.begin_pieces(future.is_in_pieces.then(|| Pieces::new(slot.cell.since(), burst.left)));
                self.context.set_handle(*handle);
                let done = future.future.as_mut().poll(&mut self.actor, &mut self.context, task).is_ready();
                if self.context.is_void() {
                    return false;
                }
                self.context.end();
                if done {
                    self.spawned[index].1 = None;
                    burst.count(slot.cell.since());
                }
                // It has more to do and was cut off: the others have their turn before it goes on.
                if self.context.end_pieces() {
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
