//! `host`: the clock that all processes of this host share, and which start of the host it counts
//! from.
//!
//! The clock goes on while the host sleeps (`CLOCK_BOOTTIME`, clock_gettime(2)), so a lease ends
//! also while the host or its holder sleeps. The node's own clock has an origin of its own and
//! means nothing to other processes; so this one is read here, beside `clock`. A *time namespace*
//! shifts it (time_namespaces(7)); processes that share a folder have to be in the same one.

use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Bytes of a boot's name, a UUID.
pub(super) const BOOT_BYTES: usize = 36;

/// One start of the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Boot(pub(super) [u8; BOOT_BYTES]);

impl Boot {
    /// The present one.
    pub(super) fn current() -> io::Result<Boot> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        text.trim_end().as_bytes().try_into().map(Boot).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

/// Nanoseconds since the host started.
pub(super) fn now() -> io::Result<u64> {
    let since_boot = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
    Ok(nanoseconds(since_boot))
}

/// The time `now` and this much later.
pub(super) fn later(now: u64, by: Duration) -> u64 {
    now.saturating_add(nanoseconds(by))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
