//! `Until`: waits until a condition of a node holds, woken by its supervisor and not by a clock.
//!
//! Every start, failure and change of members is an input of the supervisor. So it checks each
//! condition after each input, and answers when the condition holds or never will. An order given
//! before, on the same thread, is an earlier input. So after `restart` a worker is up again when
//! `until_up` returns.

use std::task::Poll;

use actix::Addr;
use heartbeat_core::Engine;
use tokio::sync::oneshot;

use crate::control::input::{Request, ask};
use crate::control::supervisor::Supervisor;
use crate::view::node_view::View;
use crate::worker::messages::{NotUp, WaitUntilUp};

/// The check after each input: the condition holds, never will, or is to be checked again.
type Check = Box<dyn FnMut(&Engine, &View) -> Poll<Result<(), NotUp>> + Send>;

/// A condition, and the sender that takes the answer.
pub(crate) struct Until {
    check: Check,
    done: oneshot::Sender<Result<(), NotUp>>,
}

impl From<WaitUntilUp> for Until {
    fn from(WaitUntilUp { mut check, done }: WaitUntilUp) -> Until {
        Until { check: Box::new(move |engine, _| check(engine)), done }
    }
}

/// The callers that wait for a condition of this node.
#[derive(Default)]
pub(crate) struct Waiters {
    waiters: Vec<Until>,
}

impl Waiters {
    pub(crate) fn add(&mut self, until: Until) {
        self.waiters.push(until);
    }

    /// Answers the callers whose wait is over, and forgets those that have stopped waiting.
    pub(crate) fn look(&mut self, engine: &Engine, view: &View) {
        for mut until in std::mem::take(&mut self.waiters) {
            if until.done.is_closed() {
                continue;
            }
            // No condition holds on a node that has left.
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
