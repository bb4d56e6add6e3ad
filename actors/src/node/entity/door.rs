//! `EntityDoor`: where messages of other nodes for the entities of a group come in.

use std::sync::Arc;

use actix::{Actor, Handler};
use heartbeat_core::Epoch;
use heartbeat_core::entities::split_key;
use heartbeat_core::requests::{MessageType, Refusal, Target};

use super::table::Table;
use crate::requests::{Door, Messages, RemoteMessage, of_shard};
use crate::worker::context::Context;
use crate::worker::envelope::Carried;
use crate::worker::worker_door::Serving;

/// The door of a group of entities. The key stands in front of each message.
pub(super) struct EntityDoor<A: Actor<Context = Context<A>>> {
    tables: Arc<[Arc<Table<A>>]>,
    messages: Messages<A>,
}

impl<A: Actor<Context = Context<A>>> EntityDoor<A> {
    pub(super) fn new(tables: Arc<[Arc<Table<A>>]>) -> EntityDoor<A> {
        EntityDoor { tables, messages: Messages::new() }
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

impl<A: Actor<Context = Context<A>>> Door for EntityDoor<A> {
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
        let table = self.tables.get(*index as usize).ok_or(not_owner)?;
        if table.epoch() != Some(epoch) {
            return Err(not_owner);
        }
        let (key, payload) = split_key(payload).ok_or(Refusal::Undecodable)?;
        of_shard(self.messages.deliver(message, payload, carried, &|envelope| table.send(key, &envelope)))
    }
}
