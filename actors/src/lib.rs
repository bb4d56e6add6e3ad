//! Built-in liveness for actix applications.
//!
//! You write plain actix actors with one word changed: their context is [`Context`]. The node
//! starts them and watches them. It tells a panic from a blocked thread. It replaces a failed actor
//! by a new one, with the same address and the same queue.
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
//!     let counter = node.supervise("counter", || Counter { total: 0 })?;
//!     assert_eq!(counter.send(Add(2)).await?, 2);
//!     node.leave().await;
//!     Ok(())
//! }
//! ```
//!
//! With a `[cluster]` table in its config the same program is a member of a cluster: see
//! [`Node::supervise_shards`] and [`Node::view`].
//!
//! # Where to look
//! | for | look at |
//! |---|---|
//! | one worker: how it is supervised, where it runs, what its address can do | [`worker`] |
//! | workers that fail and stop together, or of which any number can be started | [`group`] |
//! | several workers behind one address | [`pool`] |
//! | workers spread over the nodes of a cluster | [`shard`] |
//! | a worker per key, started by its first message | [`entity`] |
//! | the other nodes | [`cluster`] |
//! | what happens, and what was lost | [`event`] |
//! | which message led to which, within a node and between nodes | [`spans`] |
//! | what a node knows now | [`view`] |
//! | settings | [`config`] |
//! | who may run a shard, from files, etcd or PostgreSQL | [`authority`] |
//! | health, metrics and the node's view over HTTP | [`http`][http], feature `http` |
//! | tests of your own supervision | [`testkit`][kit], feature `testkit` |
//!
//! [http]: https://docs.rs/heartbeat-actors/latest/heartbeat_actors/http/
//! [kit]: https://docs.rs/heartbeat-actors/latest/heartbeat_actors/testkit/
//!
//! # What it needs
//! Panics must unwind: with `panic = "abort"` nothing can be supervised, and the build is refused.

#[cfg(panic = "abort")]
compile_error!("heartbeat-actors catches panics; build with panic = \"unwind\"");

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme; // Compiles the README's example.

pub mod authority;
mod clock;
pub mod cluster;
pub mod config;
mod control;
pub mod event;
#[cfg(feature = "http")]
pub mod http;
mod lock;
mod node;
pub mod prelude;
mod requests;
pub mod seal;
pub mod spans;
#[cfg(feature = "testkit")]
pub mod testkit;
mod thread;
pub mod transport;
pub mod view;
#[cfg(feature = "actix-web")]
mod web;
pub mod worker;

pub use heartbeat_core::{Config, ConfigError, Event, Instant};
pub use node::start::NodeError;
pub use node::stop::StopReason;
pub use node::supervise_error::SuperviseError;
pub use node::{Node, entity, group, pool, shard};
pub use view::node_view::View;
pub use view::subscribe::Update;
pub use worker::addr::WorkerAddr;
pub use worker::context::Context;
pub use worker::reply::Reply;
pub use worker::send_error::SendError;
pub use worker::slot::{StartError, StartInfo};
pub use worker::spec::WorkerSpec;
