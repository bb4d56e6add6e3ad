//! A seeded generator whose output never changes between releases.
//!
//! A seed in a bug report must still replay the run next year. General purpose generators reserve
//! the right to change their stream, so this one is written out. It is xoshiro256** (Blackman and
//! Vigna, "Scrambled linear pseudorandom number generators", ACM TOMS 47(4), 2021). SplitMix64
//! fills its state, as its authors advise. Golden values in the tests guard the stream.
//!
//! It is not for secrets: from some outputs the rest can be computed.

use std::time::Duration;

use crate::time::nanos;

/// A stream of pseudo-random numbers that depends on nothing but its seed.
///
/// ```
/// let mut random = heartbeat_core::Random::seeded(7);
/// let again = heartbeat_core::Random::seeded(7).next_u64();
/// assert_eq!(random.next_u64(), again);
/// ```
#[derive(Clone, Debug)]
pub struct Random {
    /// Never all zero; SplitMix64 cannot produce that from any seed.
    state: [u64; 4],
}

impl Random {
    /// The stream of this seed; every seed is good, zero too.
    pub fn seeded(seed: u64) -> Random {
        let mut word = seed;
        let mut next = || {
            word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(word)
        };
        Random { state: [next(), next(), next(), next()] }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let [s0, s1, s2, s3] = self.state;
        let result = s1.wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let (s2, s3) = (s2 ^ s0, s3 ^ s1);
        self.state = [s0 ^ s3, s1 ^ s2, s2 ^ (s1 << 17), s3.rotate_left(45)];
        result
    }

    /// A number from 0 up to and without `bound`; 0 if `bound` is 0 or 1. The bias is below 2^-32
    /// for bounds under 2^32.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from 0 up to and without 1, in steps of 2^-53.
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with this probability: never at 0 or below, always at 1 or above.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A duration from zero up to and without `bound`, in whole nanoseconds.
    pub fn duration_below(&mut self, bound: Duration) -> Duration {
        Duration::from_nanos(self.below(nanos(bound)))
    }

    /// A generator of its own for a part of the program, so that what one part draws does not shift
    /// what another sees.
    pub fn fork(&mut self) -> Random {
        Random::seeded(self.next_u64())
    }
}

/// Spreads the bits of `word` over all 64: the finaliser of SplitMix64 (Steele, Lea and Flood,
/// OOPSLA 2014).
pub(crate) fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference implementation's first outputs for the state that SplitMix64 makes of seed 0;
    /// they may never change.
    #[test]
    fn the_stream_of_a_seed_never_changes() {
        let mut random = Random::seeded(0);
        let first: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        assert_eq!(first, [0x99ec_5f36_cb75_f2b4, 0xbf6e_1f78_4956_452a, 0x1a5f_849d_4933_e6e0]);
    }

    #[test]
    fn a_bound_is_never_reached() {
        let mut random = Random::seeded(1);
        assert!((0..1_000).all(|_| random.below(3) < 3));
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
        assert_eq!(random.duration_below(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn chance_keeps_its_edges_and_its_mean() {
        let mut random = Random::seeded(2);
        assert!(!(0..1_000).any(|_| random.chance(0.0)));
        assert!((0..1_000).all(|_| random.chance(1.0)));
        let hits = (0..100_000).filter(|_| random.chance(0.25)).count();
        assert!((24_000..26_000).contains(&hits), "{hits} of 100,000 at 0.25");
    }

    #[test]
    fn a_fork_is_a_stream_of_its_own() {
        let mut random = Random::seeded(3);
        let mut fork = random.fork();
        assert_ne!(fork.next_u64(), random.next_u64());
    }
}
