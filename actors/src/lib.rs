//! Built-in liveness for actix applications.
//!
//! You write plain actix actors with one word changed: their context is [`Context`]. The node
//! starts them, knows whether they live, tells a panic from a blocked thread, and puts a new one in
//! the place of a failed one, with the same address and the same queue.
//!
//! ```
//! use actix::{Actor, Handler, Message};
//! use heartbeat_actors::{Config, Context, Node};
//!
//! struct Counter {
//!     total: u64,
//! }
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
//!         self.total += add.0;
//!         self.total
//!     }
//! }
//!
//! #[actix::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let node = Node::start(Config::default()).await?;
//!     let counter = node.supervise("counter", || Counter { total: 0 })?; // makes each replacement, too
//!     assert_eq!(counter.send(Add(2)).await?, 2);
//!     node.leave().await;
//!     Ok(())
//! }
//! ```
//!
//! With a `[cluster]` table in its config the same program is a member of a cluster: see
//! [`Node::supervise_shards`] and [`Node::view`].
//!
//! # Layout
//! - `node`: what applications call. `worker`: addresses and how a worker is to be supervised.
//! - `slot`, `mailbox`, `letter`, `driver`, `context`, `lease`, `cell`: one worker, from what stays
//!   to what goes.
//! - `spec`, `group`, `pool`: how workers are supervised, together or each for itself.
//! - `supervisor`: owns the engine of `heartbeat-core` and carries out what it says; `receiver` and
//!   `sender` bring it signs of life and take its own away; `thread` asks the operating system what
//!   a silent thread is doing; `transport` carries datagrams, `stream` the frames of connections;
//!   `clock` is the only reader of the time.
//! - `event`, `view`, `owner`: what others are told, as it happens and as it stands; who is
//!   responsible for what.
//!
//! # What it needs
//! Panics must unwind: with `panic = "abort"` nothing can be supervised, and the build is refused.

#[cfg(panic = "abort")]
compile_error!("heartbeat-actors catches panics; build with panic = \"unwind\"");

pub mod authority;
mod clock;
mod control;
mod lock;
mod node;
pub mod prelude;
#[cfg(feature = "testkit")]
pub mod testkit;
mod thread;
pub mod transport;
mod view;
#[cfg(feature = "actix-web")]
mod web;
mod worker;

pub use authority::fence::{Fence, StaleEpoch};
pub use heartbeat_core::config::OnThreadHeld;
pub use heartbeat_core::member::{GROUPS_MAX, SHARDS_MAX};
pub use heartbeat_core::{
    Activity, AutoShutdown, Cause, Config, ConfigError, Counters, Epoch, Event, Generation, Health, Incarnation,
    Instant, Interruption, Member, Metadata, NewerSnapshot, NodeId, NotReadyReason, ObserverReport, RestartKind, Role,
    Shard, ShardSnapshot, Status, Strategy, Waiting, WorkerActivity, WorkerId, config, member,
};
pub use node::group::{Group, GroupSpec, Template};
pub use node::pool::{POOL_SIZE_MAX, Pool, Routing};
pub use node::shards::Shards;
pub use node::spec::{Arbiters, Placement, WorkerSpec};
pub use node::start::NodeError;
pub use node::{Node, SuperviseError};
pub use view::owner::{NoOwner, Owner};
pub use view::subscribe::{DeadLetters, ShardOwner, Update, Updates, ViewSnapshot};
pub use view::{PeerStatus, View, WorkerState, WorkerView};
pub use worker::addr::{Reply, SendError, TrySendError, WorkerAddr, WorkerStatus};
pub use worker::context::{Context, SnapshotTooLarge};
pub use worker::envelope::{DeadLetter, DeadReason, dead_letters};
pub use worker::lease::{Fenced, Lease, Progress};
pub use worker::mailbox::{MessageCounts, OnReplace, Overflow};
pub use worker::messages::NotUp;
pub use worker::slot::{SnapshotError, StartError, StartInfo};
pub use worker::weak_addr::WeakWorkerAddr;
