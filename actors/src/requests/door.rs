//! Doors: where requests for the workers of a group, or for one worker, come in.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, RwLock, Weak};

use actix::{Actor, Handler};
use futures_util::FutureExt;
use heartbeat_core::requests::{MessageType, Outcome, Refusal, Target};
use heartbeat_core::{Epoch, Interruption};

use crate::lock::{read, write};
use crate::requests::{RemoteMessage, decode, encode, message_type};
use crate::worker::addr::WorkerAddr;
use crate::worker::context::Context;
use crate::worker::envelope::{Carried, DynEnvelope, Envelope};
use crate::worker::reply::Reply;
use crate::worker::send_error::SendError;
use crate::worker::slot::WorkerSlot;
use crate::worker::worker_door::{Serving, WorkerDoor};

/// A group that takes requests.
pub(crate) trait Door: Send + Sync {
    /// Hands a request to its worker.
    fn deliver(
        &self,
        target: &Target,
        epoch: Epoch,
        message: MessageType,
        payload: &[u8],
        carried: Carried,
    ) -> Result<Serving, Refusal>;
}

/// Puts a message into the queue of its worker.
type Put<'a, A> = dyn Fn(Arc<dyn DynEnvelope<A>>) -> Result<(), SendError> + 'a;

type Deliver<A> = fn(&Put<A>, &[u8], Carried) -> Result<Serving, Refusal>;

/// The types of messages that come in, and how each is handed over.
struct Messages<A: Actor<Context = Context<A>>>(RwLock<BTreeMap<MessageType, Deliver<A>>>);

impl<A: Actor<Context = Context<A>>> Messages<A> {
    fn new() -> Messages<A> {
        Messages(RwLock::default())
    }

    fn accept<M>(&self)
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        write(&self.0).insert(message_type::<M>(), deliver::<A, M>);
    }

    fn accepts<M: RemoteMessage>(&self) -> bool {
        read(&self.0).contains_key(&message_type::<M>())
    }

    /// Decodes a message of this type and puts it into a queue.
    fn deliver(
        &self,
        message: MessageType,
        payload: &[u8],
        carried: Carried,
        put: &Put<A>,
    ) -> Result<Serving, Refusal> {
        let deliver = read(&self.0).get(&message).copied().ok_or(Refusal::UnknownMessage)?;
        deliver(put, payload, carried)
    }
}

/// What handles the messages of a shard on this node.
pub(crate) trait ShardHere<A: Actor<Context = Context<A>>>: Send + Sync + 'static {
    /// The epoch under which the shard runs here, if it does.
    fn epoch(&self) -> Option<Epoch>;

    /// What names the worker in a payload, and the message.
    fn split<'p>(&self, payload: &'p [u8]) -> Option<(&'p [u8], &'p [u8])>;

    /// Puts a message into the queue of that worker.
    fn put(&self, key: &[u8], envelope: Arc<dyn DynEnvelope<A>>) -> Result<(), SendError>;
}

impl<A: Actor<Context = Context<A>>> ShardHere<A> for WorkerAddr<A> {
    fn epoch(&self) -> Option<Epoch> {
        Some(self.slot.running_epoch())
    }

    fn split<'p>(&self, payload: &'p [u8]) -> Option<(&'p [u8], &'p [u8])> {
        Some((&[], payload))
    }

    fn put(&self, _key: &[u8], envelope: Arc<dyn DynEnvelope<A>>) -> Result<(), SendError> {
        WorkerAddr::put(self, envelope)
    }
}

/// The door of a sharded group.
pub(crate) struct ShardDoor<A: Actor<Context = Context<A>>, W> {
    shards: Arc<[W]>,
    messages: Messages<A>,
}

impl<A: Actor<Context = Context<A>>, W> ShardDoor<A, W> {
    pub(super) fn new(shards: Arc<[W]>) -> ShardDoor<A, W> {
        ShardDoor { shards, messages: Messages::new() }
    }

    /// Lets messages of this type in.
    pub(super) fn accept<M>(&self)
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        self.messages.accept::<M>();
    }
}

impl<A: Actor<Context = Context<A>>, W: ShardHere<A>> Door for ShardDoor<A, W> {
    fn deliver(
        &self,
        target: &Target,
        epoch: Epoch,
        message: MessageType,
        payload: &[u8],
        carried: Carried,
    ) -> Result<Serving, Refusal> {
        let Target::Shard { index, .. } = target else { return Err(Refusal::NoWorker) };
        let not_owner = Refusal::NotOwner { known: Epoch(0) };
        let shard = self.shards.get(*index as usize).ok_or(not_owner)?;
        if shard.epoch() != Some(epoch) {
            return Err(not_owner);
        }
        let (key, payload) = shard.split(payload).ok_or(Refusal::Undecodable)?;
        of_shard(self.messages.deliver(message, payload, carried, &|envelope| shard.put(key, envelope)))
    }
}

/// What becomes of a request to a shard: its queue is closed where the shard does not run.
fn of_shard(serving: Result<Serving, Refusal>) -> Result<Serving, Refusal> {
    let to_shard = |refusal| match refusal {
        Refusal::Stopped => Refusal::NotOwner { known: Epoch(0) },
        other => other,
    };
    let serving = serving.map_err(to_shard)?;
    let outcome = serving.outcome.map(move |outcome| match outcome {
        Outcome::Refused(refusal) => Outcome::Refused(to_shard(refusal)),
        Outcome::Handled(_) | Outcome::Interrupted(_) | Outcome::TimedOut => outcome,
    });
    Ok(Serving { outcome: outcome.boxed(), ..serving })
}

/// The door of one worker.
pub(crate) struct OneDoor<A: Actor<Context = Context<A>>> {
    /// The door must not keep a worker that was removed.
    slot: Weak<WorkerSlot<A>>,
    messages: Messages<A>,
}

impl<A: Actor<Context = Context<A>>> OneDoor<A> {
    /// The worker, for a sender on this node; none if it was removed.
    pub(crate) fn worker(&self) -> Option<WorkerAddr<A>> {
        Some(WorkerAddr { slot: self.slot.upgrade()? })
    }

    /// Whether messages of this type come in.
    pub(crate) fn accepts<M: RemoteMessage>(&self) -> bool {
        self.messages.accepts::<M>()
    }
}

impl<A: Actor<Context = Context<A>>> WorkerDoor for OneDoor<A> {
    fn deliver(&self, message: MessageType, payload: &[u8], carried: Carried) -> Result<Serving, Refusal> {
        let worker = self.worker().ok_or(Refusal::NoWorker)?;
        self.messages.deliver(message, payload, carried, &|envelope| worker.put(envelope))
    }

    fn is_unused(&self) -> bool {
        self.slot.strong_count() == 0
    }

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl<A: Actor<Context = Context<A>>> WorkerAddr<A> {
    /// Lets messages of this type come from other nodes, which send them to this worker by its name
    /// ([`Node::remote`](crate::Node::remote)). Messages of other types are refused there, with
    /// their name.
    ///
    /// During a rolling upgrade a worker can accept two versions of a message: one type for each,
    /// with the same [`RemoteMessage::NAME`] and another [`RemoteMessage::VERSION`].
    #[must_use]
    pub fn accept<M>(self) -> WorkerAddr<A>
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        let doors = &self.slot.control.doors;
        let own = Arc::downgrade(&self.slot);
        let open = doors.of(&self.slot.name).and_then(|door| door.as_any().downcast::<OneDoor<A>>().ok());
        match open.filter(|door| door.slot.ptr_eq(&own)) {
            Some(door) => door.messages.accept::<M>(),
            None => {
                let door = OneDoor { slot: own, messages: Messages::new() };
                door.messages.accept::<M>();
                doors.open(self.slot.name.clone(), Arc::new(door));
            }
        }
        self
    }
}

fn deliver<A, M>(put: &Put<A>, payload: &[u8], carried: Carried) -> Result<Serving, Refusal>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: RemoteMessage,
{
    // Decoding runs code of the application, which must not end the thread.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode::<M>(payload)));
    let Ok(Some(message)) = decoded else { return Err(Refusal::Undecodable) };
    let envelope = Arc::new(Envelope::with_reply(message).with_carried(carried));
    match put(envelope.clone()) {
        Ok(()) => {
            let reply = Reply::of(envelope.clone());
            let outcome = async move {
                match reply.await {
                    Ok(value) => match encode(&value) {
                        Some(bytes) => Outcome::Handled(bytes),
                        None => Outcome::Interrupted(Interruption::AnswerUndecodable),
                    },
                    Err(error) => outcome(error),
                }
            };
            let interrupted = || Outcome::Interrupted(Interruption::AnswerUndecodable);
            let caught = AssertUnwindSafe(outcome).catch_unwind();
            let outcome = Box::pin(async move { caught.await.unwrap_or_else(|_| interrupted()) });
            Ok(Serving { outcome, envelope: Some(envelope) })
        }
        Err(error) => {
            // It goes back unopened, so it is no dead letter.
            drop(envelope.take());
            match outcome(error) {
                Outcome::Refused(refusal) => Err(refusal),
                other @ (Outcome::Handled(_) | Outcome::Interrupted(_) | Outcome::TimedOut) => {
                    Ok(Serving { outcome: Box::pin(std::future::ready(other)), envelope: None })
                }
            }
        }
    }
}

/// The outcome that the sender's node gets.
fn outcome(error: SendError) -> Outcome {
    match error {
        SendError::Full => Outcome::Refused(Refusal::Full),
        SendError::Closed => Outcome::Refused(Refusal::Stopped),
        SendError::GaveUp => Outcome::Refused(Refusal::GaveUp),
        SendError::NotReady => Outcome::Refused(Refusal::NotReady),
        SendError::Dropped => Outcome::Refused(Refusal::Dropped),
        SendError::Refused(refusal) => Outcome::Refused(refusal),
        SendError::UnknownMember(_) | SendError::UnknownWorker { .. } => Outcome::Refused(Refusal::NoWorker),
        SendError::UnknownMessage(_) | SendError::Unencodable(_) | SendError::Key(_) => {
            Outcome::Refused(Refusal::UnknownMessage)
        }
        SendError::Interrupted(why) => Outcome::Interrupted(why),
        SendError::TimedOut => Outcome::TimedOut,
    }
}
