//! `NodeLease`: until when this node may act for the shards that run on it. Any thread can check
//! it.
//!
//! The supervisor writes the engine's lease here after each input, and the reader compares it with
//! the clock. So the lease ends on time even if the control thread is held or the whole process was
//! stopped.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use heartbeat_core::Instant;

/// How soon a shard checks again after it found the node's lease not valid.
pub(crate) const RECHECK_EVERY: Duration = Duration::from_millis(10);

/// Until when this node may act for its shards.
#[derive(Debug)]
pub(crate) struct NodeLease(AtomicU64);

impl NodeLease {
    /// A lease without an end, until another one is set.
    pub(crate) fn new() -> NodeLease {
        NodeLease(AtomicU64::new(Instant::NEVER.as_nanos()))
    }

    /// Sets the instant at which the lease ends; `None` means that it does not end.
    pub(crate) fn set(&self, until: Option<Instant>) {
        self.0.store(until.unwrap_or(Instant::NEVER).as_nanos(), Ordering::Release);
    }

    /// For how long it is valid from `now` on; zero if it is over.
    #[cfg(feature = "http")]
    pub(crate) fn remaining(&self, now: Instant) -> Duration {
        Instant::from_nanos(self.0.load(Ordering::Acquire)).max(now) - now
    }

    /// Whether it is valid at `now`. At the instant of its end it is over.
    pub(crate) fn is_valid(&self, now: Instant) -> bool {
        now < Instant::from_nanos(self.0.load(Ordering::Acquire))
    }
}
