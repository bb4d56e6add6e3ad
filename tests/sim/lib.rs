//! The simulated world: real engines, played everything else, one virtual clock, one seed.
//!
//! - [`world`]: the nodes and the agenda. - [`network`]: what becomes of a datagram. - [`checker`]:
//!   what must hold after every step.
//! - [`schedule`]: harm from a seed, then healing, then recovery within a bound.

pub mod agenda;
mod authority;
pub mod checker;
pub mod data;
pub mod histories;
pub mod links;
pub mod network;
pub mod schedule;
pub mod shrink;
mod streams;
pub mod world;

pub use network::{Network, Place};
pub use world::{Fault, GROUP, SHARDS, Shape, World};

/// The chapter of the book on tests, whose Rust code `cargo test` compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../docs/src/testing.md")]
struct Testing;
