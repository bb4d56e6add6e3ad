//! A door: where requests for the workers of a group come in.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, RwLock};

use actix::{Actor, Handler};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use heartbeat_core::Epoch;
use heartbeat_core::requests::{MessageType, Outcome, Refusal, Target};

use crate::lock::{read, write};
use crate::requests::{RemoteMessage, decode, encode, message_type};
use crate::worker::addr::WorkerAddr;
use crate::worker::context::Context;
use crate::worker::send_error::{SendError, TrySendError};

/// What becomes of a request that a worker has.
pub(crate) type Serving = LocalBoxFuture<'static, Outcome>;

/// A group that takes requests.
pub(crate) trait Door: Send + Sync {
    /// Hands a request to its worker.
    fn deliver(&self, target: &Target, epoch: Epoch, message: MessageType, payload: &[u8]) -> Result<Serving, Refusal>;
}

type Deliver<A> = fn(&WorkerAddr<A>, &[u8]) -> Result<Serving, Refusal>;

/// The door of a sharded group.
pub(crate) struct ShardDoor<A: Actor<Context = Context<A>>> {
    workers: Arc<[WorkerAddr<A>]>,
    messages: RwLock<BTreeMap<MessageType, Deliver<A>>>,
}

impl<A: Actor<Context = Context<A>>> ShardDoor<A> {
    pub(crate) fn new(workers: Arc<[WorkerAddr<A>]>) -> ShardDoor<A> {
        ShardDoor { workers, messages: RwLock::default() }
    }

    /// Lets messages of this type in.
    pub(crate) fn accept<M>(&self)
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        write(&self.messages).insert(message_type::<M>(), deliver::<A, M>);
    }
}

impl<A: Actor<Context = Context<A>>> Door for ShardDoor<A> {
    fn deliver(&self, target: &Target, epoch: Epoch, message: MessageType, payload: &[u8]) -> Result<Serving, Refusal> {
        let Target::Shard { index, .. } = target else { return Err(Refusal::NoWorker) };
        let not_owner = Refusal::NotOwner { known: Epoch(0) };
        let worker = self.workers.get(*index as usize).ok_or(not_owner)?;
        if worker.slot.running_epoch() != epoch {
            return Err(not_owner);
        }
        let deliver = read(&self.messages).get(&message).copied().ok_or(Refusal::UnknownMessage)?;
        deliver(worker, payload)
    }
}

fn deliver<A, M>(worker: &WorkerAddr<A>, payload: &[u8]) -> Result<Serving, Refusal>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: RemoteMessage,
{
    // Decoding runs code of the application, which must not end the thread.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode::<M>(payload)));
    let Ok(Some(message)) = decoded else { return Err(Refusal::Undecodable) };
    match worker.send_through(None, message) {
        Ok(reply) => {
            let outcome = async move {
                match reply.await {
                    Ok(value) => match encode(&value) {
                        Some(bytes) => Outcome::Handled(bytes),
                        None => Outcome::Interrupted(heartbeat_core::Interruption::AnswerUndecodable),
                    },
                    Err(error) => outcome(error),
                }
            };
            let interrupted = || Outcome::Interrupted(heartbeat_core::Interruption::AnswerUndecodable);
            let caught = AssertUnwindSafe(outcome).catch_unwind();
            Ok(Box::pin(async move { caught.await.unwrap_or_else(|_| interrupted()) }))
        }
        Err(TrySendError { error, .. }) => match outcome(error) {
            Outcome::Refused(refusal) => Err(refusal),
            other @ (Outcome::Handled(_) | Outcome::Interrupted(_) | Outcome::TimedOut) => {
                Ok(Box::pin(std::future::ready(other)))
            }
        },
    }
}

/// The outcome that the sender's node gets.
fn outcome(error: SendError) -> Outcome {
    match error {
        SendError::Full => Outcome::Refused(Refusal::Full),
        // A shard's queue is closed where the shard does not run.
        SendError::Closed => Outcome::Refused(Refusal::NotOwner { known: Epoch(0) }),
        SendError::GaveUp => Outcome::Refused(Refusal::GaveUp),
        SendError::NotReady => Outcome::Refused(Refusal::NotReady),
        SendError::Dropped => Outcome::Refused(Refusal::Dropped),
        SendError::Refused(refusal) => Outcome::Refused(refusal),
        SendError::UnknownMessage(_) | SendError::Unencodable(_) => Outcome::Refused(Refusal::UnknownMessage),
        SendError::Interrupted(why) => Outcome::Interrupted(why),
        SendError::TimedOut => Outcome::TimedOut,
    }
}
