//! `EntityShard`: the worker of a shard whose entities are workers of their own.
//!
//! It handles no message of the application. It makes the snapshot of the shard from what its
//! entities leave behind, and stops the entities before the shard moves away.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Handler, Message, Running, WrapFuture};
use heartbeat_core::entities::FORMAT_VERSION;
use heartbeat_core::{Instant, Interruption};
use tracing::error;

use super::table::Table;
use crate::worker::context::Context;

/// The worker of a shard of entities.
pub(super) struct EntityShard<A: Actor<Context = Context<A>>> {
    pub(super) table: Arc<Table<A>>,
    /// Least time between two snapshots.
    pub(super) copy_every: Duration,
    /// When the next snapshot may be made.
    pub(super) copy_from: Instant,
    /// Whether a timer for the next snapshot is set.
    pub(super) is_copy_timed: bool,
    /// Whether it stops its entities.
    pub(super) is_stopping: bool,
}

/// What entities leave behind has changed.
pub(super) struct Copy;

impl Message for Copy {
    type Result = ();
}

impl<A: Actor<Context = Context<A>>> EntityShard<A> {
    /// Makes the snapshot of the shard, if it has changed.
    fn copy(&mut self, context: &mut Context<Self>) {
        self.is_copy_timed = false;
        let Some(bytes) = self.table.encode_changes() else { return };
        self.copy_from = context.now() + self.copy_every;
        if let Err(refused) = context.replicate(FORMAT_VERSION, bytes) {
            // Each change was checked against the same bound.
            error!(event = "entities_not_copied", %refused, "the snapshot of a shard's entities is too large");
        }
    }
}

impl<A: Actor<Context = Context<A>>> Actor for EntityShard<A> {
    type Context = Context<Self>;

    /// The request of its previous generation for a snapshot may be lost.
    fn started(&mut self, context: &mut Context<Self>) {
        self.copy(context);
    }

    /// Stops its entities first, unless only this worker starts again.
    fn stopping(&mut self, context: &mut Context<Self>) -> Running {
        if context.ending() == Interruption::Restarted {
            return Running::Stop;
        }
        if !std::mem::replace(&mut self.is_stopping, true) {
            // If the stop is cut short, this is what the next owner gets.
            self.copy(context);
            self.table.close();
        }
        if self.table.has_ended() {
            self.copy(context);
            return Running::Stop;
        }
        let table = self.table.clone();
        let ended = async move { table.until_ended().await };
        context.spawn(ended.into_actor(self).map(|(), _, context| context.stop()));
        Running::Continue
    }
}

impl<A: Actor<Context = Context<A>>> Handler<Copy> for EntityShard<A> {
    type Result = ();

    fn handle(&mut self, _: Copy, context: &mut Context<Self>) {
        let now = context.now();
        if self.is_copy_timed {
            return;
        }
        if self.copy_from <= now {
            return self.copy(context);
        }
        self.is_copy_timed = true;
        context.run_later(self.copy_from - now, EntityShard::copy);
    }
}
