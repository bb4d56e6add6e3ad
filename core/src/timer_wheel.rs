//! `TimerWheel`: which of a million deadlines is next, at no cost to the heartbeat that moves one.
//!
//! A kitchen has one timer and a row of pots. The timer is not reset each time a pot is stirred.
//! When it rings, the cook looks at the pot that was due, sees that it was stirred since, and puts
//! it back for later. Here, an entry lies in the bucket of the deadline that it once had. A
//! heartbeat that moves the deadline *later* touches nothing; when the bucket comes up the entry is
//! looked at and filed anew. Each entry is looked at about once per silence it is allowed, however
//! many heartbeats came in between: O(1) amortised.
//!
//! One turn of the wheel is 8,192 ticks of one millisecond. Deadlines further out lie in the last
//! bucket and are looked at once a turn. The buckets are lists threaded through one table, so
//! filing allocates nothing.
//!
//! An entry comes up at the first tick after its deadline, never at it and never before: up to one
//! millisecond late. Finer would cost a sorted structure (measured: a B-tree costs 35 times as much
//! a beat) to gain less than what a timer of the operating system is late by.

use crate::time::Instant;

/// Granularity: how late an entry may come up.
const TICK_NANOS: u64 = 1_000_000;
const BUCKETS: usize = 8_192;
const WORDS: usize = BUCKETS / 64;
const _: () = assert!(WORDS == u128::BITS as usize);
const NONE: u32 = u32::MAX;
const EMPTY: u64 = u64::MAX;

/// Deadlines of entries that are numbered from 0, in buckets.
#[derive(Clone, Debug)]
pub(crate) struct TimerWheel {
    /// First entry of each bucket, or `NONE`.
    heads: Box<[u32]>,
    /// One bit a bucket: whether it holds anything.
    occupied: [u64; WORDS],
    /// One bit a word of `occupied`: whether any of its buckets does. With it the next bucket is
    /// found in two steps, where a walk over the words took up to a hundred.
    words: u128,
    links: Vec<Link>,
    /// All ticks before this one have been looked at.
    cursor: u64,
    /// The tick of the first bucket that holds anything; `EMPTY` if none does. It is asked for
    /// after each input, and seldom changes.
    first: u64,
}

#[derive(Clone, Debug)]
struct Link {
    previous: u32,
    next: u32,
    /// `NONE` if the entry lies nowhere.
    bucket: u32,
}

impl TimerWheel {
    /// An empty wheel that has seen all time up to `now`.
    pub(crate) fn new(now: Instant) -> TimerWheel {
        TimerWheel {
            heads: vec![NONE; BUCKETS].into_boxed_slice(),
            occupied: [0; WORDS],
            words: 0,
            links: Vec::new(),
            cursor: now.as_nanos() / TICK_NANOS,
            first: EMPTY,
        }
    }

    /// Files `entry` under `deadline`, wherever it lay before. Returns the instant at which it will
    /// be looked at.
    pub(crate) fn file(&mut self, entry: u32, deadline: Instant) -> Instant {
        self.remove(entry);
        if self.links.len() <= entry as usize {
            self.links.resize(entry as usize + 1, Link { previous: NONE, next: NONE, bucket: NONE });
        }
        let tick = (deadline.as_nanos() / TICK_NANOS + 1).clamp(self.cursor, self.cursor + BUCKETS as u64 - 1);
        let bucket = tick as usize % BUCKETS;
        let next = self.heads[bucket];
        self.links[entry as usize] = Link { previous: NONE, next, bucket: bucket as u32 };
        if next != NONE {
            self.links[next as usize].previous = entry;
        }
        self.heads[bucket] = entry;
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
        self.words |= 1 << (bucket / 64);
        self.first = self.first.min(tick);
        Instant::from_nanos(tick.saturating_mul(TICK_NANOS))
    }

    /// Takes `entry` out; nothing happens if it lies nowhere.
    pub(crate) fn remove(&mut self, entry: u32) {
        let Some(&Link { previous, next, bucket }) = self.links.get(entry as usize) else { return };
        if bucket == NONE {
            return;
        }
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
        if previous != NONE {
            self.links[previous as usize].next = next;
        } else {
            self.heads[bucket as usize] = next;
            if next == NONE {
                let word = &mut self.occupied[bucket as usize / 64];
                *word &= !(1 << (bucket % 64));
                if *word == 0 {
                    self.words &= !(1 << (bucket / 64));
                }
                if self.first % BUCKETS as u64 == u64::from(bucket) {
                    self.first = self.first_tick();
                }
            }
        }
        self.links[entry as usize].bucket = NONE;
    }

    /// The next entry whose bucket has come up by `now`, taken out of the wheel; the caller files
    /// it anew or lets it go.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let last = now.as_nanos() / TICK_NANOS;
        let tick = self.first;
        if tick == EMPTY {
            return None;
        }
        if tick > last {
            self.cursor = self.cursor.max(last);
            return None;
        }
        self.cursor = self.cursor.max(tick);
        let entry = self.heads[tick as usize % BUCKETS];
        self.remove(entry);
        Some(entry)
    }

    /// One entry of the next bucket, and when that comes up.
    pub(crate) fn first(&self) -> Option<(u32, Instant)> {
        let at = self.next()?;
        Some((self.heads[self.first as usize % BUCKETS], at))
    }

    /// When the next bucket comes up; `None` if nothing is filed. The true deadlines in it may be
    /// later, never earlier.
    pub(crate) fn next(&self) -> Option<Instant> {
        (self.first != EMPTY).then(|| Instant::from_nanos(self.first.saturating_mul(TICK_NANOS)))
    }

    /// The tick of the first bucket that holds anything, from the cursor on around; `EMPTY` if none
    /// does.
    fn first_tick(&self) -> u64 {
        let start = self.cursor as usize % BUCKETS;
        let ahead = self.occupied[start / 64] >> (start % 64);
        if ahead != 0 {
            return self.cursor + u64::from(ahead.trailing_zeros());
        }
        if self.words == 0 {
            return EMPTY;
        }
        // From the word after the cursor's on around; the cursor's own comes last, of which only
        // the lower bits can be set.
        let turn = self.words.rotate_right(start as u32 / 64 + 1).trailing_zeros() as usize;
        let word = (start / 64 + 1 + turn) % WORDS;
        let bucket = word * 64 + self.occupied[word].trailing_zeros() as usize;
        self.cursor + ((bucket + BUCKETS - start) % BUCKETS) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Random;

    const TICK: Duration = Duration::from_nanos(TICK_NANOS);

    #[test]
    fn an_entry_comes_up_at_the_first_tick_after_its_deadline() {
        let mut wheel = TimerWheel::new(Instant::ZERO);
        wheel.file(0, Instant::from_millis(5));
        assert_eq!(wheel.next(), Some(Instant::from_millis(6)));
        assert_eq!(wheel.pop_due(Instant::from_nanos(5_999_999)), None);
        assert_eq!(wheel.pop_due(Instant::from_millis(6)), Some(0));
        assert_eq!(wheel.pop_due(Instant::from_millis(6)), None);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_deadline_in_the_past_comes_up_at_once() {
        let mut wheel = TimerWheel::new(Instant::from_millis(100_000));
        wheel.file(0, Instant::ZERO);
        assert_eq!(wheel.pop_due(Instant::from_millis(100_000)), Some(0));
    }

    #[test]
    fn a_deadline_beyond_a_turn_is_looked_at_once_a_turn() {
        let mut wheel = TimerWheel::new(Instant::ZERO);
        let deadline = Instant::from_millis(3 * BUCKETS as u64);
        let (mut looks, mut at) = (0, wheel.file(0, deadline));
        while at <= deadline {
            looks += 1;
            assert_eq!(wheel.pop_due(at), Some(0));
            at = wheel.file(0, deadline);
        }
        assert!((3..=4).contains(&looks), "{looks} looks");
    }

    #[test]
    fn an_entry_taken_out_or_filed_twice_comes_up_at_most_once() {
        let mut wheel = TimerWheel::new(Instant::ZERO);
        wheel.file(3, Instant::from_millis(1));
        wheel.file(3, Instant::from_millis(9));
        wheel.file(4, Instant::from_millis(1));
        wheel.remove(4);
        wheel.remove(4);
        wheel.remove(77);
        assert_eq!(wheel.next(), Some(Instant::from_millis(10)));
        assert_eq!(wheel.pop_due(Instant::from_millis(1_000)), Some(3));
        assert_eq!(wheel.pop_due(Instant::from_millis(1_000)), None);
    }

    /// Against a plain list: every entry comes up once, none before its deadline, none a tick too
    /// late.
    #[test]
    fn random_deadlines_come_up_in_time() {
        let mut random = Random::seeded(1);
        for _ in 0..200 {
            let start = random.below(1 << 40);
            let mut wheel = TimerWheel::new(Instant::from_nanos(start));
            let mut open: Vec<(u32, u64)> = (0..50).map(|entry| (entry, start + random.below(8_000_000_000))).collect();
            for &(entry, deadline) in &open {
                wheel.file(entry, Instant::from_nanos(deadline));
            }
            while let Some(at) = wheel.next() {
                let now = at + random.duration_below(Duration::from_millis(50));
                while let Some(entry) = wheel.pop_due(now) {
                    let place = open.iter().position(|&(id, _)| id == entry).expect("comes up once");
                    assert!(Instant::from_nanos(open.swap_remove(place).1) < now);
                }
                assert!(open.iter().all(|&(_, deadline)| Instant::from_nanos(deadline) + TICK > now - TICK));
            }
            assert!(open.is_empty());
        }
    }
}
