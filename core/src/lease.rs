//! How long a lease gives its holder a right: its term, less a margin.
//!
//! The holder counts from the instant at which it *sent* the request. The grantor counts from the
//! receipt, so it ends the lease later than the holder stops to act on it. The margin covers clocks
//! that run at different rates, and news that are on their way when the term ends.
//!
//! This module grants and renews nothing. `membership::quorum` and `sharding::claims` do, each for
//! its own kind of lease.
//!
//! Source: C. Gray and D. Cheriton, "Leases: An efficient fault-tolerant mechanism for distributed
//! file cache consistency", SOSP 1989, which takes the clock uncertainty off a term, too.

use std::time::Duration;

/// The margin as a share of the term: a tenth.
const MARGIN_SHARE: u32 = 10;

/// The smallest margin. A tenth of a term below 2 s would be less than the delays of a busy host.
const MARGIN_MIN: Duration = Duration::from_millis(200);

/// How long a lease of this term gives a right, counted from when it was requested. That is nine
/// tenths of the term, and at least 200 ms less than the term; zero for a term of 200 ms or less.
pub(crate) fn valid_for(term: Duration) -> Duration {
    term.saturating_sub((term / MARGIN_SHARE).max(MARGIN_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(term_ms: u64, expected_ms: u64) {
        assert_eq!(valid_for(Duration::from_millis(term_ms)), Duration::from_millis(expected_ms));
    }

    #[test]
    fn a_tenth_of_the_term_is_taken_off_and_200_ms_at_least() {
        check(10_000, 9_000);
        check(2_010, 1_809);
        check(2_000, 1_800);
        check(1_990, 1_790);
        check(201, 1);
    }

    #[test]
    fn a_term_as_short_as_the_margin_gives_no_right() {
        check(200, 0);
        check(199, 0);
        check(0, 0);
    }
}
