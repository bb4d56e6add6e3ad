//! `Reply`: the answer to a message, to be awaited.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Poll, ready};
use std::time::Duration;

use futures_util::future::{Either, select};

use crate::clock::sleep;
use crate::worker::envelope::ReplyReceiver;
use crate::worker::send_error::SendError;

/// How long the requests thread may be late to end a request whose deadline is over. It alone knows
/// whether the message was handed over.
const VERDICT_FOR: Duration = Duration::from_secs(1);

/// The answer to a message: a future. The message was put into the queue, or refused, when this
/// value was made, whether it is awaited or not. A reply that is dropped cancels the message if the
/// worker has not begun it.
///
/// ```
/// # use std::time::Duration;
/// # use heartbeat_actors::prelude::*;
/// use heartbeat_actors::SendError;
/// # struct Silent;
/// # impl Actor for Silent { type Context = Context<Self>; }
/// # #[derive(Message)]
/// # #[rtype(result = "u32")]
/// # struct Ask;
/// # impl Handler<Ask> for Silent {
/// #     type Result = ResponseFuture<u32>;
/// #     fn handle(&mut self, _: Ask, _: &mut Context<Self>) -> ResponseFuture<u32> {
/// #         Box::pin(std::future::pending())
/// #     }
/// # }
/// # actix::System::new().block_on(async {
/// # let node = Node::start(Config::default()).await.unwrap();
///
/// let silent = node.supervise("silent", || Silent).unwrap();
/// let reply = silent.send(Ask);
/// assert_eq!(reply.within(Duration::from_millis(10)).await, Err(SendError::TimedOut));
/// # });
/// ```
#[must_use = "a reply that is dropped cancels the message"]
pub struct Reply<R>(pub(super) Result<Arc<dyn ReplyReceiver<R>>, SendError>);

impl<R> Reply<R> {
    /// A reply without an answer.
    pub(crate) fn refused(error: SendError) -> Reply<R> {
        Reply(Err(error))
    }

    /// The reply to an envelope.
    pub(crate) fn of(envelope: Arc<dyn ReplyReceiver<R>>) -> Reply<R> {
        Reply(Ok(envelope))
    }

    /// Waits at most this long, from now on. The deadline travels with a message to another node,
    /// whose worker does not begin it later.
    ///
    /// # Errors
    /// [`SendError::TimedOut`] if no answer came by then, or
    /// [`Refusal::Expired`](crate::worker::Refusal::Expired) if the message was not
    /// handed over to its node by then. Otherwise those of the reply itself.
    pub async fn within(self, time: Duration) -> Result<R, SendError> {
        let is_ended = self.0.as_ref().is_ok_and(|envelope| envelope.wait_at_most(time));
        let time = if is_ended { time.saturating_add(VERDICT_FOR) } else { time };
        match select(self, pin!(sleep(time))).await {
            Either::Left((answer, _)) => answer,
            Either::Right(((), _)) => Err(SendError::TimedOut),
        }
    }
}

impl<R> Future for Reply<R> {
    type Output = Result<R, SendError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<Self::Output> {
        match &self.0 {
            Ok(envelope) => {
                let answer = ready!(envelope.poll_reply(task));
                // The answer is taken, so there is nothing to cancel.
                self.0 = Err(SendError::Closed);
                Poll::Ready(answer)
            }
            Err(error) => Poll::Ready(Err(error.clone())),
        }
    }
}

impl<R> Drop for Reply<R> {
    fn drop(&mut self) {
        if let Ok(envelope) = &self.0 {
            envelope.cancel();
        }
    }
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("refused", &self.0.as_ref().err()).finish()
    }
}
