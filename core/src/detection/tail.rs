//! `Tail`: how often silences of each length have come, remembered for long and in little space.
//!
//! Wrong suspicions depend on the one silence in ten thousand. A few of those are seen only in
//! days. To remember days in two hundred bytes, only counts are kept, in buckets that grow with the
//! silence. Old counts fade: each new count weighs a little more than the one before. That has the
//! same effect as a decay of all the others, and costs one multiplication a heartbeat.
//!
//! The tail answers in both directions: the silence that a given share of heartbeats exceeds, and
//! the share that exceeds a given silence. Beyond the longest silence that it remembers, it assumes
//! a power law with exponent [`BEYOND`]. The exponent is a guess: heavier than the pauses of
//! machines, lighter than the worst loss bursts published.

/// Buckets to an octave. Within a bucket, silences are assumed to be spread evenly in the
/// logarithm, so its width hardly matters.
const PER_OCTAVE: f32 = 3.0;

/// Buckets: fourteen octaves.
const BUCKETS: usize = 42;

/// By how much jitter lengthens a whole number of units, in units.
pub(super) const WHOLE_SLACK: f32 = 1.0 / 16.0;

/// Upper edge of the last bucket, in units of silence; longer ones count as this. Seven octaves
/// above 17/16, so that one, two, four, ... units and a little jitter lie at the end of their
/// bucket.
const MOST: f32 = 136.0;

/// Up to this silence, each whole number of units has a bucket of its own.
const WHOLE_MAX: f32 = 9.0;

/// Exponent of the power law: the share of silences longer than x falls as x to the power of minus
/// this.
const BEYOND: f32 = 4.0;

/// How far beyond the longest silence a quantile may lie, as a multiple of it.
const BEYOND_MAX: f32 = 2.0;

/// Weights are divided by the newest when it has grown to this; far from where an `f32` ends.
const WEIGHT_MAX: f64 = 1e6;

/// Counts of silences, in a unit of the caller's, with exponential forgetting.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    /// The weight of one more heartbeat.
    weight: f64,
    /// The weight of all heartbeats together, those without a silence included.
    total: f64,
    /// The longest silence ever.
    longest: f32,
    /// The weight of the silences of each bucket.
    counts: [f32; BUCKETS],
}

/// Which lengths silences have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Resolution {
    /// Any length.
    Fine,
    /// A whole number of units: nearly all of them are lost heartbeats.
    Whole,
}

impl Tail {
    /// A tail that remembers nothing.
    pub(super) fn new() -> Tail {
        Tail { weight: 1.0, total: 0.0, longest: 0.0, counts: [0.0; BUCKETS] }
    }

    /// Counts one more heartbeat. All before it count for less from then on, by the share
    /// `forgetting`.
    pub(super) fn count(&mut self, forgetting: f64) {
        self.weight *= 1.0 + forgetting;
        self.total += self.weight;
        if self.weight > WEIGHT_MAX {
            self.total /= self.weight;
            for count in &mut self.counts {
                *count /= self.weight as f32;
            }
            self.weight = 1.0;
        }
    }

    /// Adds what another tail has counted, as if it had been counted here just now.
    pub(super) fn add(&mut self, other: &Tail) {
        let factor = self.weight / other.weight;
        self.total += other.total * factor;
        self.longest = self.longest.max(other.longest());
        for (count, counted) in self.counts.iter_mut().zip(&other.counts) {
            *count += counted * factor as f32;
        }
    }

    /// Lets all that was counted weigh no more than so many heartbeats.
    pub(super) fn weigh_at_most(&mut self, heartbeats: f64) {
        let factor = (heartbeats * self.weight / self.total.max(1e-9)).min(1.0);
        self.total *= factor;
        self.counts.iter_mut().for_each(|count| *count *= factor as f32);
    }

    /// Enters the silence before the heartbeat just counted: how long it lasted past the expected
    /// arrival. The caller expects a heartbeat no sooner than an interval after a late one. So
    /// heartbeats that arrive together after a stall are one silence.
    pub(super) fn enter(&mut self, silence: f32) {
        if let Some(bucket) = Self::bucket(silence) {
            self.longest = self.longest.max(silence);
            self.counts[bucket] += self.weight as f32;
        }
    }

    /// The silence that a share `p` of heartbeats exceeds; `None` while too few are remembered for
    /// half a silence of that rarity.
    pub(super) fn quantile(&self, p: f64, resolution: Resolution) -> Option<f32> {
        let allowed = (p * self.total / self.weight) as f32;
        if allowed < 0.5 {
            return None;
        }
        let mut above = 0.0;
        for bucket in (0..BUCKETS).rev() {
            let inside = self.counts[bucket] / self.weight as f32;
            if above + inside > allowed {
                let (lower, upper) = (Self::lower_edge(bucket), Self::lower_edge(bucket + 1));
                // Silences of one length are not spread over their bucket: all of them are
                // exceeded, or none.
                let whole = upper.floor();
                if resolution == Resolution::Whole && whole > lower && upper < WHOLE_MAX {
                    return Some((whole + WHOLE_SLACK).min(upper));
                }
                let share = (allowed - above) / inside;
                return Some(lower * (upper / lower).powf(1.0 - share));
            }
            above += inside;
        }
        Some(0.0)
    }

    /// The shortest silence such that waiting longer, up to `most`, prevents less than `worth` of
    /// the remaining: a share. For a budget that no silence up to `most` keeps.
    pub(super) fn knee(&self, most: f32, worth: f64) -> f32 {
        let above = |bucket: usize| self.counts[bucket..].iter().sum::<f32>();
        let last = Self::bucket(most).unwrap_or(0);
        let remain = f64::from(above(last)).max(f64::from(self.weight as f32));
        let first = (0..last).find(|bucket| f64::from(above(*bucket)) * worth <= remain);
        first.map_or(most, |bucket| Self::lower_edge(bucket).min(most))
    }

    /// How much of what it takes to know the silence of a share `p` was seen; at least 1 if it is
    /// known.
    pub(super) fn seen(&self, p: f64) -> f32 {
        (2.0 * p * self.total / self.weight) as f32
    }

    /// By how much the longest silence has to be stretched so that a share `p` exceeds it; from 1
    /// to [`BEYOND_MAX`].
    pub(super) fn stretch(&self, p: f64) -> f32 {
        (0.5 / (p * self.total / self.weight) as f32).powf(1.0 / BEYOND).clamp(1.0, BEYOND_MAX)
    }

    /// The share of heartbeats before which the silence was longer than this; of a silence shorter
    /// than the first bucket, that of the first.
    pub(super) fn share_above(&self, silence: f32) -> f64 {
        let least = Self::lower_edge(0);
        // Half a silence beyond the longest, since none was seen.
        let beyond = f64::from((silence / self.longest().max(least)).max(1.0)).powf(-f64::from(BEYOND));
        let place = (silence.max(least) / least).log2() * PER_OCTAVE;
        let mut above = 0.0;
        for (bucket, count) in self.counts.iter().enumerate() {
            above += count * (bucket as f32 + 1.0 - place).clamp(0.0, 1.0);
        }
        f64::from(above).max(0.5 * self.weight * beyond) / self.total.max(self.weight)
    }

    /// By how much the share of heartbeats before which the silence was longer than this is over
    /// `p`; zero unless so many more such silences than `p` allows are remembered.
    pub(super) fn excess(&self, silence: f32, p: f64, chance: f32) -> f64 {
        let excess = self.share_above(silence) - p;
        if excess * self.total / self.weight > f64::from(chance) { excess } else { 0.0 }
    }

    /// The longest silence that is not forgotten: the longest ever, or the end of the last bucket
    /// that still has weight.
    pub(super) fn longest(&self) -> f32 {
        let least = 0.2 * self.weight as f32;
        let end =
            self.counts.iter().rposition(|count| *count > least).map_or(0.0, |bucket| Self::lower_edge(bucket + 1));
        self.longest.min(end)
    }

    fn bucket(silence: f32) -> Option<usize> {
        let place = (silence / MOST).log2() * PER_OCTAVE + BUCKETS as f32;
        (place >= 0.0).then_some((place as usize).min(BUCKETS - 1))
    }

    fn lower_edge(bucket: usize) -> f32 {
        MOST * ((bucket as f32 - BUCKETS as f32) / PER_OCTAVE).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tail of ten thousand heartbeats, every hundredth of them after a silence of 1 to 10.
    fn tail() -> Tail {
        let mut tail = Tail::new();
        for beat in 0..10_000 {
            tail.count(1e-9);
            if beat % 100 == 0 {
                tail.enter((1 + beat / 100 % 10) as f32);
            }
        }
        tail
    }

    #[test]
    fn a_quantile_is_what_that_share_exceeds() {
        let tail = tail();
        for (p, silence) in [(0.009, 1.0), (0.005, 5.0), (0.002, 8.0), (0.001, 9.0)] {
            let quantile = tail.quantile(p, Resolution::Fine).unwrap();
            assert!((silence * 0.8..silence * 1.25).contains(&quantile), "p {p}: {quantile}, about {silence}");
            let share = tail.share_above(quantile);
            assert!((p * 0.9..p * 1.1).contains(&share), "p {p}: {share}");
        }
    }

    #[test]
    fn whole_silences_are_sat_out_whole() {
        for (p, silence) in [(0.0095, 1.0), (0.0055, 5.0), (0.0045, 6.0)] {
            let quantile = tail().quantile(p, Resolution::Whole).unwrap();
            assert!((silence..silence + 0.1).contains(&quantile), "p {p}: {quantile}, just over {silence}");
        }
    }

    #[test]
    fn beyond_the_longest_it_goes_on_as_a_power_law() {
        let tail = tail();
        assert_eq!(tail.quantile(1e-5, Resolution::Fine), None);
        let silence = tail.longest() * tail.stretch(1e-5);
        assert!((tail.share_above(silence).log10() + 5.0).abs() < 0.1, "{}", tail.share_above(silence));
        assert!(tail.share_above(1e6) > 0.0);
    }

    #[test]
    fn the_knee_is_where_waiting_no_longer_helps() {
        let mut tail = Tail::new();
        for beat in 0..10_000 {
            tail.count(1e-9);
            if beat % 100 == 0 {
                // Half of the silences are short, the others are longer than any margin.
                tail.enter(if beat % 200 == 0 { 1.0 } else { 100.0 });
            }
        }
        let knee = tail.knee(50.0, 0.8);
        assert!((1.0..1.3).contains(&knee), "{knee}");
        assert_eq!(Tail::new().knee(50.0, 0.8), Tail::lower_edge(0), "nothing is prevented where nothing is known");
    }

    #[test]
    fn an_excess_is_more_than_chance() {
        let tail = tail();
        // Twenty silences are longer than eight.
        assert!((0.0007..0.0013).contains(&tail.excess(8.5, 0.001, 2.0)), "{}", tail.excess(8.5, 0.001, 2.0));
        assert_eq!(tail.excess(8.5, 0.001, 30.0), 0.0);
        assert_eq!(tail.excess(8.5, 0.003, 2.0), 0.0);
        assert_eq!(Tail::new().excess(1.0, 0.0, 2.0), 0.0);
    }

    #[test]
    fn the_old_fades() {
        let mut tail = tail();
        let before = tail.quantile(0.005, Resolution::Fine).unwrap();
        for _ in 0..5_000 {
            tail.count(1e-3);
        }
        assert!(before > 4.0 && tail.quantile(0.005, Resolution::Fine) == Some(0.0), "{before}");
        assert!(tail.total / tail.weight < 1_100.0);
    }

    #[test]
    fn weights_stay_within_their_range() {
        let mut tail = Tail::new();
        for _ in 0..100_000 {
            tail.count(1e-3);
            tail.enter(1.0);
        }
        assert!(tail.weight <= WEIGHT_MAX && (tail.total / tail.weight - 1_000.0).abs() < 5.0, "{tail:?}");
    }

    #[test]
    fn what_remembers_nothing_says_nothing() {
        let tail = Tail::new();
        assert_eq!(
            (tail.quantile(1e-4, Resolution::Fine), tail.longest(), tail.stretch(1e-4)),
            (None, 0.0, BEYOND_MAX)
        );
        assert!(tail.share_above(3.0) > 0.0);
    }
}
