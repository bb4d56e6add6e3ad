//! Messages by key: to the worker on this node, or on their way to the owner of the key's shard.

use std::sync::Arc;

use actix::{Actor, Handler};
use heartbeat_core::member::name_hash;

use crate::requests::{RemoteMessage, RequestsLink, Route, ShardDoor, ShardHere};
use crate::worker::context::Context;
use crate::worker::dead_letter::DeadReason;
use crate::worker::envelope::Envelope;
use crate::worker::reply::Reply;
use crate::worker::send_error::{SendError, TrySendError};

/// How the messages of a group reach other nodes, and come from there.
pub(crate) struct Ways<A: Actor<Context = Context<A>>, W> {
    door: Arc<ShardDoor<A, W>>,
    /// By shard.
    pub(crate) routes: Arc<[Arc<Route>]>,
}

impl<A: Actor<Context = Context<A>>, W: ShardHere<A>> Ways<A, W> {
    /// Opens the door of a group: what handles each of its shards here.
    pub(crate) fn open(link: &RequestsLink, group: &str, shards: Arc<[W]>, routes: Arc<[Arc<Route>]>) -> Ways<A, W> {
        let door = Arc::new(ShardDoor::new(shards));
        link.open_door(name_hash(group), door.clone());
        Ways { door, routes }
    }

    /// Lets messages of this type in.
    pub(crate) fn accept<M>(&self)
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        self.door.accept::<M>();
    }
}

impl<A: Actor<Context = Context<A>>, W> Clone for Ways<A, W> {
    fn clone(&self) -> Ways<A, W> {
        Ways { door: self.door.clone(), routes: self.routes.clone() }
    }
}

/// A group whose messages go by key.
pub(crate) trait ByKey<A: Actor<Context = Context<A>>> {
    /// The shard of a key.
    fn index_of(&self, key: &[u8]) -> u32;

    /// The way to the owner of a shard, if this node is in a cluster.
    fn route(&self, index: u32) -> Option<&Arc<Route>>;

    /// What the owner needs of the key to find the worker in the shard.
    fn travelling_key<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]>;

    /// Hands a message over on this node. The error is [`SendError::Closed`] if the shard does not
    /// run here, or earlier messages are on their way to its owner.
    fn try_here<M>(
        &self,
        index: u32,
        key: &[u8],
        message: M,
        envelope: fn(M) -> Envelope<M>,
    ) -> Result<Arc<Envelope<M>>, TrySendError<M>>
    where
        A: Handler<M>,
        M: RemoteMessage;

    /// Counts and publishes a message as a dead letter.
    fn discard<M>(&self, key: &[u8], message: M, reason: DeadReason)
    where
        A: Handler<M>,
        M: RemoteMessage;

    /// Sends a message that is answered.
    fn send_by_key<M>(&self, key: &[u8], message: M) -> Reply<M::Result>
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        let index = self.index_of(key);
        let sent = match self.try_here(index, key, message, Envelope::with_reply) {
            Ok(envelope) => return Reply::of(envelope),
            Err(refused) => match self.route(index) {
                Some(route) if refused.error == SendError::Closed => {
                    route.send_to(self.travelling_key(key), refused.message)
                }
                Some(_) | None => Err(refused),
            },
        };
        sent.unwrap_or_else(|refused| Reply::refused(refused.error))
    }

    /// Sends a message that is not answered.
    fn try_send_by_key<M>(&self, key: &[u8], message: M) -> Result<(), TrySendError<M>>
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        let index = self.index_of(key);
        match self.try_here(index, key, message, Envelope::new) {
            Ok(_) => Ok(()),
            Err(refused) => match self.route(index) {
                Some(route) if refused.error == SendError::Closed => {
                    route.send_off_to(self.travelling_key(key), refused.message)
                }
                Some(_) | None => Err(refused),
            },
        }
    }

    /// Sends a message that is not answered, and makes a dead letter of one that is refused.
    fn do_send_by_key<M>(&self, key: &[u8], message: M)
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        if let Err(TrySendError { message, .. }) = self.try_send_by_key(key, message) {
            self.discard(key, message, DeadReason::Refused);
        }
    }

    /// Sends a message again each time that it is interrupted.
    async fn retry_by_key<M>(&self, key: &[u8], message: M, attempts_max: u32) -> Result<M::Result, SendError>
    where
        A: Handler<M>,
        M: RemoteMessage + Clone,
    {
        for _ in 1..attempts_max {
            match self.send_by_key(key, message.clone()).await {
                Err(SendError::Interrupted(_)) => {}
                answer => return answer,
            }
        }
        let answer = self.send_by_key(key, message.clone()).await;
        if answer.is_err() {
            self.discard(key, message, DeadReason::Attempts);
        }
        answer
    }
}
