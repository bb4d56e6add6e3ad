//! One worker, from its address to its thread.
//!
//! # Overview
//! A worker is an actix actor whose context is [`Context`](crate::Context). Its address, its queue
//! and its factory belong to its *slot*. The slot stays when a generation of the worker fails, so
//! the next one has the same address and the same queue.
//!
//! # Quick start
//! ```
//! use heartbeat_actors::prelude::*;
//!
//! struct Counter(u64);
//!
//! impl Actor for Counter {
//!     type Context = Context<Self>;
//! }
//!
//! #[derive(Message)]
//! #[rtype(result = "u64")]
//! struct Add(u64);
//!
//! impl Handler<Add> for Counter {
//!     type Result = u64;
//!
//!     fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
//!         assert!(add.0 > 0, "nothing to add");
//!         self.0 += add.0;
//!         self.0
//!     }
//! }
//!
//! # actix::System::new().block_on(async {
//! let node = Node::start(Config::default()).await.unwrap();
//! let counter = node.supervise("counter", || Counter(0)).unwrap();
//! assert_eq!(counter.send(Add(2)).await, Ok(2));
//! assert!(counter.send(Add(0)).await.is_err()); // its handler panics
//! assert_eq!(counter.send(Add(3)).await, Ok(3)); // the next generation, at the same address
//! # });
//! ```
//!
//! # Choices
//! | the sender wants | call |
//! |---|---|
//! | the answer | [`WorkerAddr::send`](crate::WorkerAddr::send) |
//! | the answer within a time | [`Reply::within`](crate::Reply::within) |
//! | to know whether it was accepted | [`WorkerAddr::try_send`](crate::WorkerAddr::try_send) |
//! | nothing back | [`WorkerAddr::do_send`](crate::WorkerAddr::do_send) |
//! | a retry after a failure | [`WorkerAddr::send_retrying`](crate::WorkerAddr::send_retrying) |
//!
//! | the worker wants | call |
//! |---|---|
//! | more time for a long handler | [`Context::progress`](crate::Context::progress) |
//! | to hand state to its next generation | [`Context::snapshot`](crate::Context::snapshot) |
//! | to hand state to another node | [`Context::replicate`](crate::Context::replicate) |
//! | to act only while it is not replaced | [`Context::lease`](crate::Context::lease) |
//! | to receive no requests for now | [`Context::report_health`](crate::Context::report_health) |
//!
//! | its owner wants | set |
//! |---|---|
//! | other restart rules, timeouts or queue bounds | [`WorkerSpec`](crate::WorkerSpec) |
//! | a thread of its own | [`Placement`] |
//! | another rule for a full queue | [`Overflow`] |
//! | another rule for the queue of a replaced worker | [`OnReplace`] |

// `slot` stays, `runner` drives one generation after the other, `mailbox` holds the queue,
// `envelope` one message, `status_cell` what other threads may read, `messages` what goes up to the
// supervisor.

pub(crate) mod addr;
pub(crate) mod context;
pub(crate) mod dead_letter;
pub(crate) mod drop_queue;
pub(crate) mod entity;
pub(crate) mod envelope;
#[cfg(feature = "testkit")]
pub(crate) mod fault;
pub(crate) mod histogram;
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
pub(crate) mod worker_door;

pub use addr::WorkerStatus;
pub use heartbeat_core::requests::Refusal;
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
