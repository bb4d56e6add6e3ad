//! One worker, from its address to its thread.

pub(crate) mod addr;
pub(crate) mod context;
pub(crate) mod dead_letter;
pub(crate) mod drop_queue;
pub(crate) mod envelope;
#[cfg(feature = "testkit")]
pub(crate) mod fault;
pub(crate) mod interval;
pub(crate) mod lease;
pub(crate) mod mailbox;
pub(crate) mod messages;
pub(crate) mod node_lease;
pub(crate) mod panic_throttle;
pub(crate) mod poll_budget;
pub(crate) mod reply;
pub(crate) mod runner;
pub(crate) mod send_error;
pub(crate) mod shared_queue;
pub(crate) mod slot;
pub(crate) mod spec;
pub(crate) mod status_cell;
pub(crate) mod weak_addr;

pub use addr::WorkerStatus;
pub use heartbeat_core::{
    Activity, ArbiterId, Generation, Health, Interruption, RestartKind, WorkerActivity, WorkerId,
};
pub use lease::{Fenced, Lease, Progress};
pub use mailbox::{MessageCounts, OnReplace, Overflow};
pub use messages::NotUp;
pub use send_error::TrySendError;
pub use slot::SnapshotError;
pub use spec::{Arbiters, Placement};
pub use weak_addr::WeakWorkerAddr;
