//! What a slot reports to the table of entities that it belongs to.
//!
//! The tables stand in a room above this one. A slot calls them on the control thread when its
//! worker ends, and on the worker's thread when it leaves a snapshot.

use std::sync::Arc;

use actix::Actor;
use heartbeat_core::{Shard, ShardSnapshot};

use crate::worker::context::{Context, SnapshotTooLarge};
use crate::worker::mailbox::Item;

/// The table of entities of a shard, as the slot of the shard's worker sees it.
pub(crate) trait ShardHost: Send + Sync {
    /// This node runs the shard from now on. `brought` is the snapshot of its previous owner, and
    /// `own` the last one that was made here.
    fn opened(&self, shard: Shard, brought: Option<ShardSnapshot>, own: Option<ShardSnapshot>);

    /// This node does not run the shard any more.
    fn closed(&self);
}

/// The table of entities, as the slot of one life of an entity sees it.
pub(crate) trait EntityHost<A: Actor<Context = Context<A>>>: Send + Sync {
    /// The shard in which the entity lives.
    fn shard(&self) -> Shard;

    /// The worker has ended, and has left these messages in its queue. It may be called again, with
    /// messages that came later.
    fn ended(&self, left: Vec<Item<A>>);

    /// The supervisor has forgotten the worker: its name is free.
    fn forgotten(&self);

    /// The entity leaves this behind; no bytes take back what it left before.
    ///
    /// # Errors
    /// It does not fit beside what the other entities of the shard leave.
    fn left_behind(&self, version: u32, bytes: &Arc<[u8]>) -> Result<(), SnapshotTooLarge>;
}
