//! One worker, from its address to its thread.

pub(crate) mod addr;
pub(crate) mod context;
pub(crate) mod disposal;
pub(crate) mod envelope;
#[cfg(feature = "testkit")]
pub(crate) mod fault;
pub(crate) mod lease;
pub(crate) mod mailbox;
pub(crate) mod messages;
pub(crate) mod node_lease;
pub(crate) mod panic_storm;
pub(crate) mod pieces;
pub(crate) mod runner;
pub(crate) mod shared_queue;
pub(crate) mod slot;
pub(crate) mod spec;
pub(crate) mod status_cell;
pub(crate) mod weak_addr;

pub use addr::{TrySendError, WorkerStatus};
pub use heartbeat_core::{
    Activity, ArbiterId, Generation, Health, Interruption, RestartKind, WorkerActivity, WorkerId,
};
pub use lease::{Fenced, Lease, Progress};
pub use mailbox::{MessageCounts, OnReplace, Overflow};
pub use messages::NotUp;
pub use slot::SnapshotError;
pub use spec::{Arbiters, Placement};
pub use weak_addr::WeakWorkerAddr;
