//! `LinkSummary`: what an observer has learnt of a node, in at most fourteen bytes.
//!
//! A new observer of a node knows nothing of it, while its former observers have known it for
//! hours. So each observer sends the node a summary of what it has learnt, and the node gives the
//! median of them to an observer that it has newly named. What most observers have seen is a
//! property of the node; what one has seen is a property of its path, or a lie.
//!
//! A summary holds the jitter of the link, the share of its silences that are lost heartbeats, and
//! a curve. The curve gives the silence past the expected arrival that one heartbeat in 4, in 16,
//! in 64 and so on exceeds. It ends where its observer has seen too few heartbeats for the next
//! point, so its length says how much its observer knows.
//!
//! A detector that starts from a summary waits at least as long as the summary asks, and never
//! shorter than it would without one. So no summary makes a wrong suspicion more likely. Any bytes
//! are a summary: the worst that they can do is a margin as long as the timeout allows.

/// Bytes before the curve: jitter, and the share of silences that are lost heartbeats.
const HEAD_BYTES: usize = 2;

/// Points of the curve, at most: the last is one heartbeat in 4^12, which is 19 days of ten
/// heartbeats a second.
const POINTS_MAX: usize = 12;

/// From one point of the curve to the next, heartbeats are rarer by this factor.
const RARER: f64 = 4.0;

/// Steps of a byte to an octave of silence: 4.4 % each.
const PER_OCTAVE: f32 = 16.0;

/// The byte of a silence of one interval.
const ONE: f32 = 128.0;

/// By how many steps a silence grows from one point to the next beyond the last one: a power law
/// with exponent 4, as [`super::tail`] has it.
const BEYOND: f32 = 8.0;

/// How far beyond the last point the curve goes on, in steps: an octave.
const BEYOND_MAX: f32 = 16.0;

/// What one observer, or the median of several, has learnt of a node. Silences are in intervals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkSummary {
    /// Jitter, the share of lost heartbeats in 255ths, and the points of the curve. A silence of
    /// 2^((byte - 128) / 16) intervals; zero for none.
    bytes: [u8; LinkSummary::BYTES_MAX],
    /// How many of them are meant, at least [`HEAD_BYTES`].
    length: u8,
}

impl LinkSummary {
    /// Most bytes of a summary.
    pub const BYTES_MAX: usize = HEAD_BYTES + POINTS_MAX;

    /// A summary of a link with this jitter, in intervals, and this share of silences that are
    /// lost heartbeats. `silence` gives the silence that a share of heartbeats exceeds, for as many
    /// points as `heartbeats` know: half a heartbeat in each.
    pub(super) fn new(jitter: f32, whole: f32, heartbeats: u32, silence: impl Fn(f64) -> f32) -> LinkSummary {
        let mut summary = LinkSummary { bytes: [0; LinkSummary::BYTES_MAX], length: HEAD_BYTES as u8 };
        (summary.bytes[0], summary.bytes[1]) = (byte(jitter), (whole.clamp(0.0, 1.0) * 255.0) as u8);
        for point in 1..=POINTS_MAX {
            let share = RARER.powi(-(point as i32));
            if f64::from(heartbeats) * share < 0.5 {
                break;
            }
            summary.push(byte(silence(share)));
        }
        summary
    }

    /// The summary that these bytes are; `None` if they are fewer than two. Bytes past the last one
    /// that a summary can have mean nothing. A point below the one before it counts as that one.
    pub fn from_bytes(bytes: &[u8]) -> Option<LinkSummary> {
        let (head, points) = bytes.split_at_checked(HEAD_BYTES)?;
        let mut summary = LinkSummary { bytes: [0; LinkSummary::BYTES_MAX], length: HEAD_BYTES as u8 };
        summary.bytes[..HEAD_BYTES].copy_from_slice(head);
        points.iter().take(POINTS_MAX).for_each(|&point| summary.push(point));
        Some(summary)
    }

    /// The median of these summaries, byte by byte, each of those that have the byte; of two values
    /// in the middle the larger one. `None` if there is no summary. At most `N` of them count.
    pub(crate) fn median<const N: usize>(of: impl Iterator<Item = LinkSummary> + Clone) -> Option<LinkSummary> {
        let mut median = LinkSummary { bytes: [0; LinkSummary::BYTES_MAX], length: 0 };
        for place in 0..LinkSummary::BYTES_MAX {
            let (mut values, mut count) = ([0; N], 0);
            for value in of.clone().filter_map(|summary| summary.bytes().get(place).copied()).take(N) {
                values[count] = value;
                count += 1;
            }
            if count == 0 {
                break;
            }
            values[..count].sort_unstable();
            let value = values[count / 2];
            if place < HEAD_BYTES {
                median.bytes[place] = value;
                median.length += 1;
            } else {
                median.push(value);
            }
        }
        (median.length > 0).then_some(median)
    }

    /// Adds a point to the curve.
    fn push(&mut self, point: u8) {
        let place = usize::from(self.length);
        let before = if place > HEAD_BYTES { self.bytes[place - 1] } else { 0 };
        self.bytes[place] = point.max(before);
        self.length += 1;
    }

    /// The bytes that it is written as.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// Lateness that is no silence, in intervals.
    pub(super) fn jitter(&self) -> f32 {
        silence(f32::from(self.bytes[0]))
    }

    /// Whether most silences are lost heartbeats, and so whole numbers of intervals.
    pub(super) fn is_whole(&self) -> bool {
        self.bytes[1] > 127
    }

    /// The silence that a share `share` of heartbeats exceeds, in intervals: between two points
    /// evenly in both logarithms, and beyond the last one by a power law, up to twice as long. Zero
    /// if the curve has no point.
    pub(super) fn silence(&self, share: f64) -> f32 {
        let points = self.points();
        let place = (-share.ln() / RARER.ln() - 1.0).clamp(0.0, 100.0) as f32;
        let (before, part) = (place as usize, place.fract());
        let at = |index: usize| points.get(index).map(|point| f32::from(*point));
        let steps = match (at(before), at(before + 1), points.last().map(|point| f32::from(*point))) {
            (Some(point), Some(next), _) => point + (next - point) * part,
            (_, _, Some(last)) if last > 0.0 => {
                last + (BEYOND * (place - (points.len() - 1) as f32)).clamp(0.0, BEYOND_MAX)
            }
            (_, _, _) => 0.0,
        };
        silence(steps)
    }

    /// The share of heartbeats whose silence exceeds this: at most that of the first point, at
    /// least that of the last.
    pub(super) fn share_above(&self, silence: f32) -> f64 {
        let (points, steps) = (self.points(), silence.max(1e-6).log2() * PER_OCTAVE + ONE);
        let reached = points.iter().position(|point| f32::from(*point) >= steps);
        let place = match reached {
            Some(0) => 0.0,
            Some(after) => {
                let [lower, upper] = [points[after - 1], points[after]].map(f32::from);
                (after - 1) as f32 + (steps - lower) / (upper - lower)
            }
            None => points.len().saturating_sub(1) as f32,
        };
        RARER.powf(-1.0 - f64::from(place))
    }

    fn points(&self) -> &[u8] {
        &self.bytes[HEAD_BYTES..usize::from(self.length).max(HEAD_BYTES)]
    }
}

/// A silence of so many intervals in steps of a byte, rounded up; zero for none.
fn byte(silence: f32) -> u8 {
    if silence > 0.0 { (silence.log2() * PER_OCTAVE + ONE).ceil().clamp(1.0, 255.0) as u8 } else { 0 }
}

/// The silence of so many steps, in intervals.
fn silence(steps: f32) -> f32 {
    if steps > 0.0 { ((steps - ONE) / PER_OCTAVE).exp2() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// One heartbeat in n comes after a silence of more than the square root of n intervals.
    fn summary(heartbeats: u32) -> LinkSummary {
        LinkSummary::new(0.1, 0.9, heartbeats, |share| share.powf(-0.5) as f32)
    }

    #[test]
    fn what_is_written_is_read() {
        for heartbeats in [0, 1, 2, 100, 36_000, u32::MAX] {
            let written = summary(heartbeats);
            assert_eq!(LinkSummary::from_bytes(written.bytes()), Some(written), "{heartbeats} heartbeats");
        }
        assert_eq!(summary(1).bytes().len(), HEAD_BYTES, "it knows no point");
        assert_eq!(summary(2).bytes().len(), HEAD_BYTES + 1);
        assert_eq!(summary(u32::MAX).bytes().len(), LinkSummary::BYTES_MAX);
    }

    #[test]
    fn a_silence_is_that_of_the_curve_within_a_step() {
        let summary = summary(u32::MAX);
        for decade in [1.0, 1.5, 2.0, 3.3, 4.0, 4.2] {
            let (share, expected) = (10f64.powf(-decade), 10f32.powf(decade as f32 / 2.0));
            let silence = summary.silence(share);
            assert!(
                (expected * 0.999..expected * 1.05).contains(&silence),
                "1 in 10^{decade}: {silence}, not {expected}"
            );
            let found = summary.share_above(silence);
            assert!((found / share - 1.0).abs() < 0.01, "{found}, not {share}");
        }
        assert!((0.1..0.105).contains(&summary.jitter()) && summary.is_whole());
    }

    #[test]
    fn beyond_the_last_point_a_silence_at_most_doubles() {
        let summary = summary(100);
        let last = summary.silence(RARER.powi(-3));
        assert!(summary.silence(RARER.powi(-4)) > last * 1.4 && summary.silence(1e-30) <= last * 2.001);
        let silent = LinkSummary::new(0.0, 1.0, 100, |_| 0.0);
        assert_eq!((silent.silence(1e-9), silent.jitter()), (0.0, 0.0), "where none was seen, none is made up");
    }

    #[test]
    fn any_bytes_are_a_summary_with_bounds() {
        let mut random = Random::seeded(3);
        for length in 0..40 {
            let bytes: Vec<u8> = (0..length).map(|_| random.next_u64() as u8).collect();
            let Some(summary) = LinkSummary::from_bytes(&bytes) else {
                assert!(length < HEAD_BYTES);
                continue;
            };
            assert!(summary.bytes().len() <= LinkSummary::BYTES_MAX);
            let silences = [0.9, 0.1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-9, 0.0].map(|share| summary.silence(share));
            assert!(silences.is_sorted() && silences[7] < 500.0, "{silences:?} of {bytes:?}");
            let share = summary.share_above(random.unit() as f32 * 200.0);
            assert!((0.0..=0.25).contains(&share), "{share}");
        }
    }

    #[test]
    fn one_of_three_changes_the_median_nowhere() {
        let (honest, lies) = (summary(36_000), LinkSummary::from_bytes(&[255; 14]).unwrap());
        let median = |of: &[LinkSummary]| LinkSummary::median::<4>(of.iter().copied());
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[honest]), Some(honest));
        let of_three = median(&[honest, lies, honest]).unwrap();
        assert_eq!(of_three.bytes()[..honest.bytes().len()], *honest.bytes());
        let silent = LinkSummary::from_bytes(&[0; 14]).unwrap();
        let of_three = median(&[silent, honest, honest]).unwrap();
        assert_eq!(of_three.bytes()[..honest.bytes().len()], *honest.bytes());
        assert_eq!(median(&[silent, lies]), Some(lies), "of two the more careful one");
    }
}
