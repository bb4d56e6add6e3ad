//! Rendezvous hashing: the owner of a shard or key among a set of members.
//!
//! Each member draws a lot for each key: a hash of both, so it is always the same. The member with
//! the highest lot owns the key. When a member goes, only its keys move, each to the member with
//! the second highest lot. When a member comes, it takes only the keys for which its lot is the
//! highest. No state is kept, and all nodes that see the same members name the same owner.
//!
//! # Weights
//! A lot `h` is uniform on 0 to 2^64, so `u = h / 2^64` is uniform on 0 to 1. Then `-ln(u)` is the
//! waiting time for an event with rate 1, and `-ln(u) / w` that for an event with rate `w`. The
//! event of one member comes first with probability `w` over the sum of all weights, so the member
//! with the shortest wait owns the key. With equal weights that is the member with the highest lot,
//! and no logarithm is taken. All arithmetic is in whole numbers, so every machine and every
//! release names the same owner.
//!
//! This module does not know which members are alive: the caller passes the members that may own.
//!
//! Sources: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM
//! Transactions on Networking 6(1), 1998. Weights by logarithms: Schindelhauer and Schomaker,
//! "Weighted distributed hash tables", SPAA 2005.

use std::cmp::Ordering;

use crate::member::{NodeId, Weight, bytes_hash};
use crate::random::mix;

/// The owner of shard `index` of the group with this name hash, among `nodes`; `None` if none of
/// them has a weight.
///
/// The order of `nodes` does not matter. The mapping never changes between releases.
pub fn owner(group: u64, index: u32, nodes: impl Iterator<Item = (NodeId, Weight)>) -> Option<NodeId> {
    owner_of(mix(group ^ mix(u64::from(index))), nodes)
}

/// The owner of a key with this uniform hash, among `nodes`; `None` if none of them has a weight.
///
/// The order of `nodes` does not matter. The mapping never changes between releases.
pub fn owner_of(key: u64, nodes: impl Iterator<Item = (NodeId, Weight)>) -> Option<NodeId> {
    let lots =
        nodes.filter(|(_, weight)| weight.get() > 0).map(|(node, weight)| Lot { node, weight, lot: mix(key ^ node.0) });
    lots.max_by(Lot::compare).map(|lot| lot.node)
}

/// The hash of a key within the namespace with this name hash. The mapping never changes between
/// releases.
pub fn key_hash(namespace: u64, key: &[u8]) -> u64 {
    mix(namespace ^ bytes_hash(key))
}

/// The shard of `count` to which a key with this hash belongs; 0 if `count` is 0. The mapping never
/// changes between releases.
pub fn shard_of(key: u64, count: u32) -> u32 {
    ((u128::from(key) * u128::from(count)) >> 64) as u32
}

/// The lot of one member for a key.
struct Lot {
    node: NodeId,
    weight: Weight,
    lot: u64,
}

impl Lot {
    /// Orders lots: the member with the greatest one owns the key.
    fn compare(&self, other: &Lot) -> Ordering {
        let by_lot = || (self.lot, self.node).cmp(&(other.lot, other.node));
        if self.weight == other.weight {
            return by_lot();
        }
        // wait / weight, compared without dividing.
        let ours = wait(self.lot) * u128::from(other.weight.get());
        let theirs = wait(other.lot) * u128::from(self.weight.get());
        theirs.cmp(&ours).then_with(by_lot)
    }
}

/// Fractional bits of a wait.
const WAIT_BITS: u32 = 48;

/// Steps from one power of two to the next at which the table holds the logarithm, as a power of
/// two. Between two steps it is interpolated linearly.
const STEP_BITS: u32 = 8;

/// log2(1 + i / 256), with `WAIT_BITS` fractional bits.
const LOG2: [u64; (1 << STEP_BITS) + 1] = {
    let mut table = [0; (1 << STEP_BITS) + 1];
    let mut step = 0;
    while step < table.len() - 1 {
        // Squaring a number doubles its logarithm, so the next bit is set if the square reaches 2.
        let mut square = (1_u128 << 63) + ((step as u128) << (63 - STEP_BITS));
        let mut bit = WAIT_BITS;
        while bit > 0 {
            bit -= 1;
            square = (square * square) >> 63;
            if square >= 1 << 64 {
                square >>= 1;
                table[step] |= 1 << bit;
            }
        }
        step += 1;
    }
    table[1 << STEP_BITS] = 1 << WAIT_BITS;
    table
};

/// The wait of a lot in units of ln 2: 64 - log2 of the lot, with `WAIT_BITS` fractional bits. It
/// falls as the lot rises. A lot of 0 counts as 1.
fn wait(lot: u64) -> u128 {
    let lot = lot.max(1);
    let whole = 63 - lot.leading_zeros();
    // The bits below the highest one, as a fraction of 2^64.
    let fraction = u128::from((lot << (63 - whole)) << 1);
    let step = (fraction >> (64 - STEP_BITS)) as usize;
    let along = fraction & ((1 << (64 - STEP_BITS)) - 1);
    let (low, high) = (u128::from(LOG2[step]), u128::from(LOG2[step + 1]));
    let log2 = (u128::from(whole) << WAIT_BITS) + low + (((high - low) * along) >> (64 - STEP_BITS));
    (64 << WAIT_BITS) - log2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::name_hash;

    fn nodes(count: u32) -> Vec<(NodeId, Weight)> {
        (1..=count).map(|n| (NodeId::of(&format!("node-{n}")), Weight::default())).collect()
    }

    fn weighted(weights: &[u16]) -> Vec<(NodeId, Weight)> {
        let weigh = |((node, _), weight): ((NodeId, Weight), &u16)| (node, Weight::new(*weight).unwrap());
        nodes(weights.len() as u32).into_iter().zip(weights).map(weigh).collect()
    }

    fn owners(nodes: &[(NodeId, Weight)]) -> Vec<NodeId> {
        (0..1_000).map(|index| owner(name_hash("orders"), index, nodes.iter().copied()).unwrap()).collect()
    }

    fn places(nodes: &[(NodeId, Weight)]) -> Vec<usize> {
        let place = |owner: &NodeId| nodes.iter().position(|(node, _)| node == owner).unwrap();
        owners(nodes)[..12].iter().map(place).collect()
    }

    #[test]
    fn without_members_there_is_no_owner() {
        assert_eq!(owner(1, 1, std::iter::empty()), None);
        assert_eq!(owner(1, 1, weighted(&[0, 0]).into_iter()), None);
    }

    #[test]
    fn the_order_of_the_members_does_not_matter() {
        for mut nodes in [nodes(5), weighted(&[1, 2, 3, 2, 1])] {
            let before = owners(&nodes);
            nodes.reverse();
            assert_eq!(owners(&nodes), before);
        }
    }

    #[test]
    fn a_death_moves_only_the_shards_of_the_dead() {
        for nodes in [nodes(5), weighted(&[3, 2, 3, 7, 1])] {
            for (before, after) in owners(&nodes).iter().zip(owners(&nodes[1..])) {
                assert!(*before == after || *before == nodes[0].0);
            }
        }
    }

    #[test]
    fn more_weight_takes_shards_from_others_and_gives_none_away() {
        let (before, after) = (weighted(&[3, 2, 3, 7, 1]), weighted(&[3, 4, 3, 7, 1]));
        let mut moved = 0;
        for (before, after) in owners(&before).into_iter().zip(owners(&after)) {
            assert!(before == after || after == NodeId::of("node-2"));
            moved += u32::from(before != after);
        }
        assert!((50..150).contains(&moved), "{moved} of 1,000, where 4/18 - 2/16 is 97");
    }

    #[test]
    fn the_shards_are_spread_by_weight() {
        for weights in [[1, 1, 1, 1, 1], [1, 2, 3, 4, 0], [1000, 500, 250, 125, 125], [7, 7, 7, 7, 2]] {
            let nodes = weighted(&weights);
            let sum: u16 = weights.iter().sum();
            for ((node, _), weight) in nodes.iter().zip(weights) {
                let share = (0..20_000)
                    .filter(|&index| owner(name_hash("orders"), index, nodes.iter().copied()) == Some(*node))
                    .count() as f64;
                let expected = 20_000.0 * f64::from(weight) / f64::from(sum);
                assert!((share - expected).abs() <= 4.0 * expected.sqrt(), "{weights:?}: {share}, not {expected}");
            }
        }
    }

    #[test]
    fn a_wait_is_the_logarithm_and_falls_as_the_lot_rises() {
        let mut lots: Vec<u64> = (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]).collect();
        lots.extend((0..10_000).map(mix));
        lots.extend([u64::MAX, u64::MAX - 1]);
        lots.sort_unstable();
        assert!(lots.windows(2).all(|pair| wait(pair[0]) >= wait(pair[1])));
        for lot in lots.into_iter().filter(|&lot| lot > 0) {
            let (ours, exact) = (wait(lot) as f64 / (1_u64 << WAIT_BITS) as f64, 64.0 - (lot as f64).log2());
            assert!((ours - exact).abs() < 3e-6, "{lot}: {ours}, not {exact}");
        }
    }

    #[test]
    fn the_keys_are_spread_over_the_shards() {
        let mut shards = [0; 64];
        for key in 0..64_000_u32 {
            shards[shard_of(key_hash(name_hash("orders"), &key.to_be_bytes()), 64) as usize] += 1;
        }
        assert!(shards.iter().all(|count| (870..1_130).contains(count)), "{shards:?}");
        assert_eq!((shard_of(u64::MAX, 7), shard_of(0, 7), shard_of(u64::MAX, 0)), (6, 0, 0));
    }

    /// Another release must name the same owners, so these never change. They were computed by a
    /// program of a few lines in another language, with its own logarithms.
    #[test]
    fn the_mapping_never_changes() {
        assert_eq!(places(&nodes(4)), [1, 3, 0, 3, 1, 1, 0, 2, 0, 0, 2, 3]);
        assert_eq!(places(&weighted(&[1, 2, 3, 4])), [1, 3, 0, 3, 2, 1, 3, 3, 2, 2, 2, 3]);
        let keys = ["", "a", "alice", "bob", "order-1", "order-2"];
        let shards = keys.map(|key| shard_of(key_hash(name_hash("orders"), key.as_bytes()), 64));
        assert_eq!(shards, [34, 34, 21, 22, 36, 26]);
    }
}
