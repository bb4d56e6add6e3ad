//! `Interval`: the timer of a worker that calls a function at every tick.

use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;

use actix::Actor;
use actix::fut::ActorFuture;
use tokio::time::Sleep;

use crate::worker::context::Context;

/// The beginning of the type name of each interval.
pub(crate) const TYPE_NAME: &str = concat!(module_path!(), "::Interval<");

/// The function that is called at every tick.
type Call<A> = Box<dyn FnMut(&mut A, &mut Context<A>)>;

/// Calls a function of an actor at every tick. Missed ticks are made up for, as in actix.
pub(crate) struct Interval<A: Actor<Context = Context<A>>> {
    call: Call<A>,
    interval: Duration,
    timer: Pin<Box<Sleep>>,
}

impl<A: Actor<Context = Context<A>>> Interval<A> {
    /// The first tick comes when `timer` ends.
    pub(crate) fn new(
        timer: Sleep,
        interval: Duration,
        call: impl FnMut(&mut A, &mut Context<A>) + 'static,
    ) -> Interval<A> {
        Interval { call: Box::new(call), interval, timer: Box::pin(timer) }
    }
}

impl<A: Actor<Context = Context<A>>> ActorFuture<A> for Interval<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, actor: &mut A, context: &mut Context<A>, task: &mut task::Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        while this.timer.as_mut().poll(task).is_ready() {
            let next = this.timer.deadline() + this.interval;
            // A timer that is reset to a tick in the past wakes this task at once, and tokio polls
            // a task that wakes itself again before other tasks. A fresh timer wakes only later.
            this.timer.set(tokio::time::sleep_until(next));
            (this.call)(actor, context);
            if context.end_item() || context.is_fenced() {
                break;
            }
        }
        Poll::Pending
    }
}
