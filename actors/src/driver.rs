//! `Driver`: the future that runs one generation of a worker on an arbiter, and the next one in its place if it may.
//!
//! The mailbox does not belong to the driver; it lies in the seat, and the driver takes one letter at a time from it. A driver that is
//! replaced, because its thread is blocked, finds itself void when it wakes: its successor reads the same mailbox, and nothing was lost but
//! the one message it was stuck in.
//!
//! Panics are caught around a whole turn. What panicked is dropped, under a second catch, since a `Drop` may panic too; if the cell holds
//! leave for an immediate restart, the factory makes a new worker within the same poll, else the supervisor is told and the driver ends.
//!
//! It is a loop of our own over the receiver, not actix's `ContextFut`: that one keeps the old value of the actor, asks for a trait on the
//! user's type, and drains its mailbox to the end before anything else has a turn.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use actix::dev::EnvelopeProxy;
use actix::{Actor, ActorContext, ActorState, AsyncContext, Running, SpawnHandle};
use heartbeat_core::{Cause, Generation, Instant, Report};

use crate::cell::Kind;
use crate::context::{Context, Task};
use crate::seat::{Birth, Seat};

/// Runs one generation of a worker, and the next one if its panic may be answered at once.
pub(crate) struct Driver<A: Actor<Context = Context<A>>> {
    seat: Arc<Seat<A>>,
    /// In which term it has the seat.
    term: u32,
    birth: Birth,
    /// The failure that the generation to be born makes good by leave of the cell.
    failure: Option<(Cause, Instant)>,
    /// What is to be reported when the turn is over: telling another thread costs as much as the restart, and queued mail is waiting.
    untold: Option<(Generation, Report)>,
    life: Option<Life<A>>,
}

/// A worker that runs.
struct Life<A: Actor<Context = Context<A>>> {
    actor: A,
    context: Context<A>,
    spawned: Vec<(SpawnHandle, Task<A>)>,
    /// The newest one, at the end, is waited for first.
    waits: Vec<Task<A>>,
}

/// How a turn ended.
enum Turn {
    /// Nothing more to do until something wakes us.
    Idle,
    /// The burst is used up; others have their turn.
    Yield,
    /// Replaced: nothing more may be handled.
    Void,
    /// It stopped.
    Stopped,
    /// The factory refused.
    NotBorn(String),
}

impl<A: Actor<Context = Context<A>>> Unpin for Driver<A> {}

impl<A: Actor<Context = Context<A>>> Driver<A> {
    /// A driver for the generation of `birth`.
    pub(crate) fn new(seat: Arc<Seat<A>>, term: u32, birth: Birth) -> Driver<A> {
        Driver { seat, term, birth, failure: None, untold: None, life: None }
    }

    fn turn(&mut self, task: &mut task::Context<'_>) -> Turn {
        let life = match &mut self.life {
            Some(life) => life,
            empty => {
                self.seat.begin(Kind::FACTORY);
                let actor = match (self.seat.factory)(&self.birth) {
                    Ok(actor) => actor,
                    Err(error) => return Turn::NotBorn(error.to_string()),
                };
                let context = Context::new(self.seat.clone(), self.term, self.birth.generation, self.birth.shard);
                let life = empty.insert(Life { actor, context, spawned: Vec::new(), waits: Vec::new() });
                life.context.begin(Kind::STARTED);
                life.actor.started(&mut life.context);
                life.context.end();
                if life.context.state() == ActorState::Started {
                    life.context.set_state(ActorState::Running);
                }
                life.take_over();
                match self.failure.take() {
                    Some((cause, failed_at)) => {
                        let former = Generation(self.birth.generation.0 - 1);
                        self.untold = Some((former, Report::Restarted { cause, failed_at }));
                    }
                    None => self.seat.report((self.birth.generation, Report::Started)),
                }
                life
            }
        };
        if self.seat.cell.is_asked_to_stop() {
            life.context.begin(Kind::STOPPING);
            // It is told to go; whether it would rather stay is not asked any more.
            life.actor.stopping(&mut life.context);
            return life.stop();
        }
        // With something left to tell, one message is all that may come before it.
        let burst = if self.untold.is_some() { 1 } else { self.seat.control.burst };
        life.run(&self.seat, self.term, burst, task)
    }

    /// Drops the worker and its futures; a panic in their `Drop` stays here.
    fn bury(&mut self) {
        let life = self.life.take();
        // The result says only whether a `Drop` panicked; the panic hook has said so already, and there is nothing more to save.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(life)));
    }

    fn fail(&mut self, payload: &(dyn Any + Send)) -> Poll<()> {
        let (now, generation) = (self.seat.control.clock.now(), self.birth.generation);
        let handling = self.seat.cell.busy().map(|(kind, _)| (kind.name)());
        let text: Arc<str> = text(payload).into();
        let cause = match handling {
            Some(name) if name == (Kind::FACTORY.name)() => {
                Cause::StartFailed { reason: format!("its factory panicked: {text}").into() }
            }
            handling => Cause::Panicked { payload: text, handling },
        };
        self.bury();
        self.seat.cell.end();
        match self.seat.cell.restart(generation, now) {
            Some(next) => {
                self.birth.generation = next;
                self.birth.cause = Some(cause.clone());
                self.failure = Some((cause, now));
                Poll::Pending
            }
            None => self.end(Report::Failed(cause)),
        }
    }

    /// Tells the supervisor and ends. A failure on the way to an immediate restart is the former generation's: the next one was never born,
    /// as far as the supervisor knows.
    fn end(&mut self, report: Report) -> Poll<()> {
        self.seat.cell.end();
        let unborn = u64::from(self.failure.is_some());
        self.seat.report((Generation(self.birth.generation.0 - unborn), report));
        Poll::Ready(())
    }
}

impl<A: Actor<Context = Context<A>>> Future for Driver<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.seat.register(this.term, task.waker());
        loop {
            if this.seat.is_over(this.term) {
                this.bury();
                return Poll::Ready(());
            }
            let turn = catch_unwind(AssertUnwindSafe(|| this.turn(task)));
            if let Some(untold) = this.untold.take() {
                this.seat.report(untold);
            }
            match turn {
                Ok(Turn::Idle) => return Poll::Pending,
                Ok(Turn::Yield) => {
                    task.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Ok(Turn::Void) => {}
                Ok(Turn::Stopped) => {
                    this.bury();
                    return this.end(Report::Stopped);
                }
                Ok(Turn::NotBorn(reason)) => {
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
    /// One burst: futures that are waited for, then messages, then spawned futures, until nothing is left or the burst is used up.
    fn run(&mut self, seat: &Seat<A>, term: u32, burst: u32, task: &mut task::Context<'_>) -> Turn {
        let mut left = burst;
        loop {
            if !self.poll_waits(task) && !self.context.state().stopping() {
                return Turn::Idle;
            }
            while left > 0 && !self.context.waiting() {
                match seat.take_letter(term, task) {
                    Poll::Ready(Some(mut letter)) => letter.handle(&mut self.actor, &mut self.context),
                    Poll::Ready(None) => return Turn::Void,
                    Poll::Pending => break,
                }
                left -= 1;
                self.take_over();
            }
            let worked = self.poll_spawned(&mut left, task);
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
                    self.context.end();
                    self.context.set_state(ActorState::Running);
                    self.take_over();
                    continue;
                }
                ActorState::Started | ActorState::Running => {}
            }
            if left == 0 {
                return Turn::Yield;
            }
            if !worked && self.waits.is_empty() {
                return Turn::Idle;
            }
        }
    }

    fn stop(&mut self) -> Turn {
        self.context.begin(Kind::STOPPING);
        self.context.set_state(ActorState::Stopped);
        self.actor.stopped(&mut self.context);
        Turn::Stopped
    }

    /// Takes over what the worker has spawned, waited for or cancelled since. Returns whether there was anything.
    fn take_over(&mut self) -> bool {
        let context = &mut self.context;
        let any = !(context.spawned.is_empty() && context.waits.is_empty() && context.cancelled.is_empty());
        if any {
            self.spawned.append(&mut context.spawned);
            self.waits.append(&mut context.waits);
            for handle in context.cancelled.drain(..) {
                self.spawned.retain(|(candidate, _)| *candidate != handle);
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
            self.context.begin(Kind::FUTURE);
            let done = wait.as_mut().poll(&mut self.actor, &mut self.context, task).is_ready();
            self.context.end();
            if done {
                self.waits.pop();
            }
            self.take_over();
            self.context.waiting = !self.waits.is_empty();
            if !done {
                // What was spawned by the very future that waits must not wait for a wake-up that nobody gives.
                return false;
            }
        }
        self.waits.is_empty()
    }

    /// Polls each spawned future once, `left` at most being allowed to finish. Returns whether there is more to do at once.
    fn poll_spawned(&mut self, left: &mut u32, task: &mut task::Context<'_>) -> bool {
        let mut index = 0;
        while index < self.spawned.len() && !self.context.state().stopping() && *left > 0 {
            let handle = self.spawned[index].0;
            self.context.begin(Kind::FUTURE);
            let done = self.spawned[index].1.as_mut().poll(&mut self.actor, &mut self.context, task).is_ready();
            self.context.end();
            if done {
                *left -= 1;
                self.spawned.swap_remove(index);
            }
            let before = self.spawned.len();
            self.take_over();
            if self.spawned.len() < before {
                // A cancellation shifted the others: find where we were.
                index =
                    self.spawned.iter().position(|(candidate, _)| *candidate == handle).map_or(0, |place| place + 1);
            } else if !done {
                index += 1;
            }
            if !self.waits.is_empty() {
                return true;
            }
        }
        self.take_over()
    }
}

/// What a panic said, if it said it in words.
fn text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a payload that is not text")
}
