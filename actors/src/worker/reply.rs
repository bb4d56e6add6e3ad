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

/// The answer to a message, to be awaited. The message was handed over (or refused) when this was
/// made, awaited or not.
#[must_use = "an answer that is dropped tells the worker that nobody waits for it"]
pub struct Reply<R>(pub(super) Result<Arc<dyn ReplyReceiver<R>>, SendError>);

impl<R> Reply<R> {
    /// No answer, and why.
    pub(crate) fn refused(error: SendError) -> Reply<R> {
        Reply(Err(error))
    }

    /// Waits at most this long, from now on.
    ///
    /// # Errors
    /// [`SendError::TimedOut`] if no answer came by then, otherwise as the answer itself.
    pub async fn within(self, time: Duration) -> Result<R, SendError> {
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
                // It is settled, so there is nothing to cancel.
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
