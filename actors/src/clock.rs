//! `Clock`: the only reader of the system's clocks.
//!
//! Everything else is handed an [`Instant`]; so what time means for a whole node can be seen, and changed, in one place.

use std::time::{Duration, SystemTime};

use heartbeat_core::{Generation, Instant};

/// A monotonic clock whose origin is its own making.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// A clock that shows nearly zero: one second, so that "a while before the start" can still be named.
    pub(crate) fn start() -> Clock {
        let now = std::time::Instant::now();
        Clock { origin: now.checked_sub(Duration::from_secs(1)).unwrap_or(now) }
    }

    /// What it shows.
    pub(crate) fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// A process start's generation: the wall clock in milliseconds, so that a later start has a higher one.
    pub(crate) fn generation() -> Generation {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Generation(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }
}
