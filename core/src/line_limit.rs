//! `LineLimit`: how many events of a kind become lines of a log.
//!
//! A storm is the same event many thousand times: each worker of a node fails, each member of a
//! zone is suspected. The first lines say what happens, and the others only fill the disk. So the
//! first event of a kind opens a period of [`LINES_EVERY`]. [`LINES_MAX`] events in it become
//! lines. The others are counted, and their number is reported once the period is over.
//!
//! Each kind has its own period: no storm keeps an event of another kind out of the log. It does
//! not sample by chance, because a count adds up and a sample does not.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::time::Instant;

/// Lines of one kind in a period. The names of 20 workers show what a storm is about.
pub const LINES_MAX: u32 = 20;

/// How long a period lasts. A reader waits this long for the number of events that were left out.
pub const LINES_EVERY: Duration = Duration::from_secs(10);

/// Says which events become lines, and counts the others.
///
/// It holds an entry for each kind that it was asked for in the last period, so the number of kinds
/// is to be bounded.
#[derive(Clone, Debug)]
pub struct LineLimit<K> {
    periods: BTreeMap<K, Period>,
}

#[derive(Clone, Copy, Debug)]
struct Period {
    ends: Instant,
    lines: u32,
    left_out: u64,
}

impl<K> Default for LineLimit<K> {
    fn default() -> LineLimit<K> {
        LineLimit { periods: BTreeMap::new() }
    }
}

impl<K: Ord + Copy> LineLimit<K> {
    /// Whether an event of this kind becomes a line; otherwise it is counted.
    ///
    /// At the end of a period itself the next one begins. A period whose count was not yet taken
    /// goes on, so that no count is lost.
    pub fn allows(&mut self, now: Instant, kind: K) -> bool {
        let new = Period { ends: now + LINES_EVERY, lines: 0, left_out: 0 };
        let period = self.periods.entry(kind).or_insert(new);
        if now >= period.ends && period.left_out == 0 {
            *period = new;
        }
        let is_line = period.lines < LINES_MAX;
        if is_line {
            period.lines += 1;
        } else {
            period.left_out += 1;
        }
        is_line
    }

    /// A kind whose period is over at `now`, with the number of its events that were left out.
    /// Call it until it returns `None`.
    pub fn take_left_out(&mut self, now: Instant) -> Option<(K, u64)> {
        self.periods.retain(|_, period| now < period.ends || period.left_out > 0);
        self.take(|period| now >= period.ends)
    }

    /// As [`LineLimit::take_left_out`], for periods that are not over, too: the log ends.
    pub fn take_rest(&mut self) -> Option<(K, u64)> {
        self.take(|_| true)
    }

    /// When the next number can be taken.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.periods.values().filter(|period| period.left_out > 0).map(|period| period.ends).min()
    }

    fn take(&mut self, is_due: impl Fn(&Period) -> bool) -> Option<(K, u64)> {
        let (&kind, &Period { left_out, .. }) =
            self.periods.iter().find(|(_, period)| period.left_out > 0 && is_due(period))?;
        self.periods.remove(&kind);
        Some((kind, left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    const PERIOD_MS: u64 = LINES_EVERY.as_millis() as u64;

    #[test]
    fn a_period_ends_at_its_end_and_not_before() {
        let mut limit = LineLimit::default();
        let lines = (0..100).filter(|_| limit.allows(at(0), "failed")).count();
        assert_eq!(lines, LINES_MAX as usize);
        assert_eq!(limit.poll_timeout(), Some(at(PERIOD_MS)));
        assert_eq!(limit.take_left_out(at(PERIOD_MS - 1)), None);
        assert!(!limit.allows(at(PERIOD_MS - 1), "failed"));
        assert_eq!(limit.take_left_out(at(PERIOD_MS)), Some(("failed", 81)));
        assert_eq!((limit.take_left_out(at(PERIOD_MS)), limit.poll_timeout()), (None, None));
        assert!(limit.allows(at(PERIOD_MS), "failed"));
    }

    #[test]
    fn a_storm_keeps_no_other_kind_out() {
        let mut limit = LineLimit::default();
        assert_eq!((0..1_000).filter(|_| limit.allows(at(0), "failed")).count(), LINES_MAX as usize);
        assert!(limit.allows(at(0), "died"));
    }

    #[test]
    fn a_count_that_was_not_taken_goes_on() {
        let mut limit = LineLimit::default();
        let lines = (0..21).filter(|_| limit.allows(at(0), "failed")).count();
        assert_eq!((lines, limit.allows(at(2 * PERIOD_MS), "failed")), (20, false));
        assert_eq!(limit.take_left_out(at(2 * PERIOD_MS)), Some(("failed", 2)));
    }

    #[test]
    fn what_is_over_and_complete_is_forgotten() {
        let mut limit = LineLimit::default();
        assert!((0..50).all(|kind| limit.allows(at(0), kind)));
        assert_eq!((limit.take_left_out(at(PERIOD_MS)), limit.periods.len()), (None, 0));
    }

    #[test]
    fn lines_and_counts_add_up_at_any_times() {
        for seed in 0..50 {
            let mut random = Random::seeded(seed);
            let mut limit = LineLimit::default();
            let (mut now, mut lines, mut left_out) = (0, 0, 0);
            for _ in 0..20_000 {
                now += random.below(8);
                if random.below(4) == 0 {
                    while let Some((_, count)) = limit.take_left_out(at(now)) {
                        left_out += count;
                    }
                }
                lines += u64::from(limit.allows(at(now), random.below(3)));
            }
            while let Some((_, count)) = limit.take_rest() {
                left_out += count;
            }
            assert_eq!(lines + left_out, 20_000, "seed {seed}");
            let periods = now / PERIOD_MS + 1;
            assert!(lines <= periods * 3 * u64::from(LINES_MAX), "seed {seed}: {lines} lines in {now} ms");
        }
    }
}
