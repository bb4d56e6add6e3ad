//! The simulated world: real engines, played everything else, one virtual clock, one seed.
//!
//! - [`world`]: the nodes and the run. [`shape`]: how many there are. [`fault`]: what is done to
//!   them.
//! - [`network`]: what becomes of a datagram; [`outcomes`]: the same from made-up traces.
//! - [`checker`]: what must hold after every step.
//! - [`requests`]: requests between the nodes, beside their engines.
//! - [`schedule`]: harm from a seed, then healing, then recovery within a bound.

mod authority;
pub mod checker;
pub mod data;
mod driver;
pub mod event_queue;
pub mod fault;
pub mod link_kinds;
pub mod links;
pub mod network;
mod node;
pub mod outcomes;
pub mod record;
mod recovery;
pub mod requests;
pub mod schedule;
pub mod shape;
pub mod shrink;
mod streams;
mod worker;
pub mod world;

pub use fault::Fault;
pub use network::{Network, NodeIndex};
pub use node::seal_of;
pub use shape::{Releases, Shape};
pub use world::{GROUP, SHARDS, World};
