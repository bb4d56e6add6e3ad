//! `Declined`: the shards of a group that a member cannot run, in bounded space.

use std::collections::BTreeSet;

use serde::Serialize;

/// Size of the declined shards of one member in a datagram, in bytes, at most; all its groups
/// together.
pub const DECLINED_BYTES_MAX: usize = 384;

/// Most ranges in which a member lists its declined shards of one group.
pub const DECLINED_RANGES_MAX: usize = 127;

/// Shards of one group that a member declines, in bounded space.
///
/// The list is exact if it fits: any 2,900 shards, or more of them in up to [`DECLINED_RANGES_MAX`]
/// ranges. Otherwise whole blocks of shards are declined. Blocks include shards that the member
/// could run, and never leave out a declined one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Declined {
    /// From the first up to and with the last of each pair, in their order, none of them empty.
    Ranges(Vec<(u32, u32)>),
    /// A bit for each block of `1 << shift` shards, the lowest bit of a byte first.
    Blocks {
        /// At most 16.
        shift: u8,
        /// At least one byte.
        bits: Vec<u8>,
    },
}

impl Default for Declined {
    fn default() -> Declined {
        Declined::Ranges(Vec::new())
    }
}

impl Declined {
    /// These shards of `count`, in at most `bytes_max` bytes, which are at least 4.
    pub fn of(shards: &BTreeSet<u32>, count: u32, bytes_max: usize) -> Declined {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for &index in shards {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == index => *last = index,
                _ => ranges.push((index, index)),
            }
        }
        let exact = Declined::Ranges(ranges);
        if exact.bytes() <= bytes_max && exact.ranges() <= DECLINED_RANGES_MAX {
            return exact;
        }
        let bytes_of = |shift: u8| (count.max(1).div_ceil(1 << shift) as usize).div_ceil(8);
        let shift = (0..16).find(|&shift| BLOCKS_HEAD_BYTES + bytes_of(shift) <= bytes_max).unwrap_or(16);
        let mut bits = vec![0; bytes_of(shift)];
        for &index in shards.range(..count) {
            let block = (index >> shift) as usize;
            bits[block / 8] |= 1 << (block % 8);
        }
        Declined::Blocks { shift, bits }
    }

    /// Whether this shard is declined.
    pub fn contains(&self, index: u32) -> bool {
        match self {
            Declined::Ranges(ranges) => {
                let after = ranges.partition_point(|(first, _)| *first <= index);
                after > 0 && ranges[after - 1].1 >= index
            }
            Declined::Blocks { shift, bits } => {
                let block = (index >> shift) as usize;
                bits.get(block / 8).is_some_and(|byte| byte & (1 << (block % 8)) != 0)
            }
        }
    }

    /// Whether no shard is declined.
    pub fn is_empty(&self) -> bool {
        match self {
            Declined::Ranges(ranges) => ranges.is_empty(),
            Declined::Blocks { bits, .. } => bits.iter().all(|byte| *byte == 0),
        }
    }

    /// How many of `count` shards are declined.
    pub fn len(&self, count: u32) -> u32 {
        (0..count).filter(|&index| self.contains(index)).count() as u32
    }

    /// How many bytes it has in a datagram.
    pub fn bytes(&self) -> usize {
        let varint_bytes = |value: u32| (38 - (value | 1).leading_zeros() as usize) / 7;
        match self {
            Declined::Ranges(ranges) => {
                let starts = std::iter::once(0).chain(ranges.iter().map(|(_, last)| *last));
                let pairs = ranges.iter().zip(starts);
                1 + pairs
                    .map(|((first, last), from)| varint_bytes(first - from) + varint_bytes(last - first))
                    .sum::<usize>()
            }
            Declined::Blocks { bits, .. } => BLOCKS_HEAD_BYTES + bits.len(),
        }
    }

    fn ranges(&self) -> usize {
        match self {
            Declined::Ranges(ranges) => ranges.len(),
            Declined::Blocks { .. } => 0,
        }
    }
}

/// Bytes before the bits of blocks in a datagram: a tag and a length.
const BLOCKS_HEAD_BYTES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::SHARDS_MAX;

    #[test]
    fn the_list_is_exact_if_it_fits_and_never_too_short() {
        let mut random = crate::Random::seeded(7);
        for round in 0..200 {
            let count = 1 + random.below(if round % 2 == 0 { 3_000 } else { u64::from(SHARDS_MAX) }) as u32;
            let share = random.unit();
            let shards: BTreeSet<u32> = (0..count.min(4_000)).filter(|_| random.chance(share)).collect();
            let bytes_max = if round % 3 == 0 { 24 } else { DECLINED_BYTES_MAX };
            let declined = Declined::of(&shards, count, bytes_max);
            assert!(declined.bytes() <= bytes_max && declined.ranges() <= DECLINED_RANGES_MAX, "round {round}");
            assert!(shards.iter().all(|&index| declined.contains(index)), "round {round}");
            assert_eq!(declined.is_empty(), shards.is_empty());
            if count <= 3_000 && bytes_max == DECLINED_BYTES_MAX {
                assert_eq!(declined.len(count) as usize, shards.len(), "round {round}");
            }
        }
        let all = Declined::of(&(0..SHARDS_MAX).collect(), SHARDS_MAX, 8);
        assert_eq!(all, Declined::Ranges(vec![(0, SHARDS_MAX - 1)]));
    }
}
