//! `Instant`: a point on one node's monotonic clock, as a plain number.
//!
//! The standard library's instant can only be made by asking the operating system, so a rule that
//! uses it can only be tested by waiting. Ours is a count of nanoseconds since an origin that the
//! caller chose: the start of the process, or of a simulation. So a test writes it as a literal,
//! and a recorded run replays exactly.
//!
//! It does not say what time of day it is, and instants of two nodes have nothing to do with each
//! other.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A point on one node's monotonic clock: nanoseconds since an origin that the caller chose.
///
/// Arithmetic saturates: the largest instant plus anything stays the largest, which reads as
/// "never" (584 years).
///
/// ```
/// use heartbeat_core::Instant;
/// use std::time::Duration;
///
/// let start = Instant::from_nanos(1_000);
/// assert_eq!(start + Duration::from_nanos(5), Instant::from_nanos(1_005));
/// assert_eq!(start - Instant::from_nanos(2_000), Duration::ZERO); // not yet: zero, never negative
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The origin of the clock.
    pub const ZERO: Instant = Instant(0);

    /// An instant no clock reaches; as a deadline it means "never".
    pub const NEVER: Instant = Instant(u64::MAX);

    /// The instant `nanos` nanoseconds after the origin.
    pub const fn from_nanos(nanos: u64) -> Instant {
        Instant(nanos)
    }

    /// The instant `millis` milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Instant {
        Instant(millis.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time since the origin.
    pub const fn since_origin(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

/// The earliest of `one` and those of `others` that there are. After each input a dozen of them are
/// asked for; a chain of iterators would cost several times as much.
pub(crate) fn earliest<const N: usize>(one: Instant, others: [Option<Instant>; N]) -> Instant {
    others.into_iter().fold(one, |earliest, other| earliest.min(other.unwrap_or(Instant::NEVER)))
}

/// A duration in whole nanoseconds; more than 584 years count as 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_add(nanos(duration)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    fn sub(self, duration: Duration) -> Instant {
        Instant(self.0.saturating_sub(nanos(duration)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    /// The time from `earlier` to `self`; zero if `earlier` is the later one.
    fn sub(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Instant::NEVER { f.write_str("never") } else { write!(f, "{:?}", self.since_origin()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Instant::NEVER + Duration::from_secs(1), Instant::NEVER);
        assert_eq!(Instant::ZERO - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(Instant::ZERO + Duration::MAX, Instant::NEVER);
        assert_eq!(Instant::from_millis(u64::MAX), Instant::NEVER);
    }

    #[test]
    fn an_earlier_instant_minus_a_later_one_is_zero() {
        assert_eq!(Instant::from_nanos(1) - Instant::from_nanos(3), Duration::ZERO);
        assert_eq!(Instant::from_nanos(3) - Instant::from_nanos(1), Duration::from_nanos(2));
    }
}
