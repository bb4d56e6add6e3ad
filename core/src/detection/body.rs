//! `Body`: how jitter is distributed, in units of its own mean deviation.
//!
//! The tail of a link holds the silences that surprise. Most heartbeats do not: they come a little
//! before or after they were expected. How far that little reaches differs from link to link. On
//! one it is exponential, on another it ends sharply. So the body is counted too, in 24 buckets
//! from a quarter of the mean deviation to 16 of them, four to an octave. In these units it hardly
//! changes when a link grows slower.

/// Buckets to an octave: equal steps of the mantissa, so that no logarithm is needed.
const PER_OCTAVE: u32 = 4;

/// Buckets: six octaves.
const BUCKETS: usize = 24;

/// The lower edge of the first bucket, in mean deviations.
const LEAST: f32 = 0.25;

/// Heartbeats after which old counts are halved.
const HALVED_AT: f32 = 100_000.0;

/// So many heartbeats beyond a place make it known.
const KNOWN: f32 = 8.0;

/// Counts of lateness, in mean deviations.
#[derive(Clone, Debug)]
pub(super) struct Body {
    total: f32,
    counts: [f32; BUCKETS],
    /// Later than the last bucket.
    beyond: f32,
}

impl Body {
    /// A body of nothing.
    pub(super) fn new() -> Body {
        Body { total: 0.0, counts: [0.0; BUCKETS], beyond: 0.0 }
    }

    /// Counts a heartbeat that was late by so many mean deviations; less than zero if it was early.
    pub(super) fn count(&mut self, late: f32) {
        self.total += 1.0;
        if late >= LEAST {
            match self.counts.get_mut(Self::bucket(late)) {
                Some(count) => *count += 1.0,
                None => self.beyond += 1.0,
            }
        }
        if self.total >= HALVED_AT {
            self.total *= 0.5;
            self.beyond *= 0.5;
            self.counts.iter_mut().for_each(|count| *count *= 0.5);
        }
    }

    /// The share of heartbeats that were late by more than `late` and no more than `most`.
    pub(super) fn share_above(&self, late: f32, most: f32) -> f64 {
        let mut above = 0.0;
        for (bucket, count) in self.counts.iter().enumerate() {
            let (lower, upper) = (Self::lower_edge(bucket), Self::lower_edge(bucket + 1));
            let inside = (upper.min(most) - lower.max(late)).max(0.0) / (upper - lower);
            above += count * inside;
        }
        if late < LEAST {
            // Half of all are late at all.
            let near = self.total * 0.5 - self.counts.iter().sum::<f32>();
            above += near.max(0.0) * (1.0 - late / LEAST);
        }
        f64::from(above) / f64::from(self.total.max(1.0))
    }

    /// How late a share `p` of heartbeats is: as far as that is known, and from there on
    /// exponentially. `None` while too little is known.
    pub(super) fn reach(&self, p: f32) -> Option<f32> {
        let near = self.late((p * self.total).max(KNOWN))?;
        let nearer = self.late((p * self.total).max(KNOWN) * 10.0)?;
        let share = KNOWN / self.total.max(1.0);
        let decades = (share / p).log10().max(0.0);
        Some(near + 1.5 * (near - nearer) * decades)
    }

    /// By how much so many heartbeats were late; `None` if more were late than there are buckets
    /// for.
    fn late(&self, allowed: f32) -> Option<f32> {
        if self.total < 100.0 * allowed || self.beyond > allowed {
            return None;
        }
        let mut above = self.beyond;
        for bucket in (0..BUCKETS).rev() {
            above += self.counts[bucket];
            if above > allowed {
                return Some(Self::lower_edge(bucket + 1));
            }
        }
        Some(LEAST)
    }

    fn bucket(late: f32) -> usize {
        // Exponent and the first two bits of the mantissa, as one number.
        ((late.to_bits() >> 21) - (LEAST.to_bits() >> 21)) as usize
    }

    fn lower_edge(bucket: usize) -> f32 {
        let (octave, part) = (bucket as u32 / PER_OCTAVE, bucket as u32 % PER_OCTAVE);
        LEAST * (1 << octave) as f32 * (1.0 + part as f32 / PER_OCTAVE as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// A body of a hundred thousand heartbeats that are late by what `late` makes of a number
    /// between 0 and 1.
    fn body(late: impl Fn(f64) -> f64) -> Body {
        let (mut body, mut random) = (Body::new(), Random::seeded(1));
        (0..90_000).for_each(|_| body.count(late(random.unit()) as f32));
        body
    }

    #[test]
    fn edges_and_buckets_agree() {
        for bucket in 0..BUCKETS {
            assert_eq!(Body::bucket(Body::lower_edge(bucket)), bucket);
            assert_eq!(Body::bucket(Body::lower_edge(bucket + 1) * 0.999), bucket);
        }
    }

    #[test]
    fn the_share_above_is_what_was_counted() {
        let body = body(|unit| -(1.0 - unit).ln() * 2.0 - 1.0);
        for late in [0.5f32, 1.0, 3.0, 6.0] {
            let (share, truth) = (body.share_above(late, 16.0), (-(f64::from(late) + 1.0) / 2.0).exp());
            assert!((share / truth).log10().abs() < 0.1, "{late}: {share}, not {truth}");
        }
        assert!((0.5..0.7).contains(&body.share_above(0.0, 16.0)), "{}", body.share_above(0.0, 16.0));
    }

    #[test]
    fn what_ends_sharply_reaches_no_further() {
        let reach = body(|unit| unit * 4.0 - 2.0).reach(1e-6).unwrap();
        assert!((2.0..3.5).contains(&reach), "{reach}");
        let reach = body(|unit| -(1.0 - unit).ln()).reach(1e-6).unwrap();
        assert!(reach > 12.0, "{reach}");
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        assert_eq!(Body::new().reach(1e-3), None);
        assert_eq!(body(|_| 100.0).reach(1e-3), None);
    }
}
