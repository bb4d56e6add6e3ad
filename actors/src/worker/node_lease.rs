//! `NodeLease`: until when this node may act for the shards that run on it, to be asked by any
//! thread.
//!
//! The supervisor writes what the engine says after each input. Whoever asks compares with the
//! clock himself; so when the supervisor's thread is held, or the whole process was stopped and
//! goes on, the right is over all the same, with nobody having to say so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use heartbeat_core::Instant;

/// How soon a shard looks again that found its node without the right to act.
pub(crate) const RECHECK_EVERY: Duration = Duration::from_millis(10);

/// Until when this node may act for its shards.
#[derive(Debug)]
pub(crate) struct NodeLease(AtomicU64);

impl NodeLease {
    /// For ever, until something else is said.
    pub(crate) fn new() -> NodeLease {
        NodeLease(AtomicU64::new(Instant::NEVER.as_nanos()))
    }

    /// Until this instant; `None` means for ever.
    pub(crate) fn set(&self, until: Option<Instant>) {
        self.0.store(until.unwrap_or(Instant::NEVER).as_nanos(), Ordering::Release);
    }

    /// Whether it holds at `now`. At the instant itself it is over.
    pub(crate) fn is_valid(&self, now: Instant) -> bool {
        now < Instant::from_nanos(self.0.load(Ordering::Acquire))
    }
}
