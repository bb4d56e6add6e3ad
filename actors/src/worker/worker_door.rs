//! Workers that accept messages of other nodes, by the names of the workers.

use std::any::Any;
use std::sync::Arc;

use dashmap::DashMap;
use futures_util::future::BoxFuture;
use heartbeat_core::requests::{MessageType, Outcome, Refusal};

use crate::worker::envelope::{Carried, Expiring};

/// A request that a worker has.
pub(crate) struct Serving {
    /// What becomes of it.
    pub(crate) outcome: BoxFuture<'static, Outcome>,
    /// Its place in the queue; none if its outcome is there already.
    pub(crate) envelope: Option<Arc<dyn Expiring>>,
}

/// A worker that accepts messages of other nodes.
pub(crate) trait WorkerDoor: Send + Sync {
    /// Hands a request to it.
    fn deliver(&self, message: MessageType, payload: &[u8], carried: Carried) -> Result<Serving, Refusal>;

    /// Whether the worker was removed.
    fn is_unused(&self) -> bool;

    /// This door with its type.
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// All such workers of a node.
#[derive(Default)]
pub(crate) struct WorkerDoors {
    doors: DashMap<Arc<str>, Arc<dyn WorkerDoor>>,
}

impl WorkerDoors {
    /// Opens a door for the worker of this name. Another one under this name is replaced.
    pub(crate) fn open(&self, worker: Arc<str>, door: Arc<dyn WorkerDoor>) {
        self.doors.insert(worker, door);
    }

    /// The door of a worker.
    pub(crate) fn of(&self, worker: &str) -> Option<Arc<dyn WorkerDoor>> {
        self.doors.get(worker).map(|door| door.value().clone())
    }

    /// Closes the door of a worker that was removed.
    pub(crate) fn close_unused(&self, worker: &str) {
        self.doors.remove_if(worker, |_, door| door.is_unused());
    }
}
