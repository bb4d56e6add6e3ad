//! `Until`: waiting until something of a node holds, woken by its supervisor and not by a clock.
//!
//! The supervisor is told of every start, failure and change of members. So it looks at what is
//! waited for after each input, and answers when that holds or never will. What was ordered before,
//! through the same thread, has been taken in by then: a worker that was told to restart is up
//! again when `until_up` returns.

use std::task::Poll;

use actix::Addr;
use heartbeat_core::Engine;
use tokio::sync::oneshot;

use crate::control::input::{Request, ask};
use crate::control::supervisor::Supervisor;
use crate::view::node_view::View;
use crate::worker::messages::{NotUp, WaitUntilUp};

/// What is looked at after each input: whether it holds, never will, or is to be looked at again.
type Check = Box<dyn FnMut(&Engine, &View) -> Poll<Result<(), NotUp>> + Send>;

/// Answer when this holds.
pub(crate) struct Until {
    check: Check,
    done: oneshot::Sender<Result<(), NotUp>>,
}

impl From<WaitUntilUp> for Until {
    fn from(WaitUntilUp { mut check, done }: WaitUntilUp) -> Until {
        Until { check: Box::new(move |engine, _| check(engine)), done }
    }
}

/// Those who wait for something of this node.
#[derive(Default)]
pub(crate) struct Waiters {
    waiters: Vec<Until>,
}

impl Waiters {
    pub(crate) fn add(&mut self, until: Until) {
        self.waiters.push(until);
    }

    /// Answers those whose wait is over, and forgets those who have stopped waiting.
    pub(crate) fn look(&mut self, engine: &Engine, view: &View) {
        for mut until in std::mem::take(&mut self.waiters) {
            if until.done.is_closed() {
                continue;
            }
            // Nothing holds on a node that has left, whatever it knew before.
            let found = if engine.has_left() { Poll::Ready(Err(NotUp::Stopped)) } else { (until.check)(engine, view) };
            match found {
                // An error means that it stopped waiting this instant.
                Poll::Ready(found) => drop(until.done.send(found)),
                Poll::Pending => self.waiters.push(until),
            }
        }
    }
}

/// Waits until `check` has an answer.
pub(crate) async fn until(
    supervisor: &Addr<Supervisor>,
    check: impl FnMut(&Engine, &View) -> Poll<Result<(), NotUp>> + Send + 'static,
) -> Result<(), NotUp> {
    let found = ask(supervisor, |done| Request::Until(Until { check: Box::new(check), done })).await;
    // The supervisor ends with its system, and with it all workers that it started.
    found.unwrap_or(Err(NotUp::Stopped))
}
