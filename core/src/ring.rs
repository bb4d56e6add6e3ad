//! Who is responsible for a key: rendezvous hashing.
//!
//! Imagine every member holding up a number for each key, drawn by lot but always the same; the highest number owns the key. When a member
//! goes, only its keys pass to whoever held the second highest; when one comes, it takes only the keys for which its number is the
//! highest. Nobody has to remember anything, and all who see the same members name the same owner.
//!
//! It does not weigh members, and it does not know who is alive: the caller passes those that may own.
//!
//! Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM Transactions on Networking 6(1), 1998.

use crate::member::NodeId;
use crate::random::mix;

/// The owner of shard `index` of the group with this name hash, among `nodes`; `None` if there are none.
///
/// The order of `nodes` does not matter. The mapping never changes between releases.
pub fn owner(group: u64, index: u32, nodes: impl Iterator<Item = NodeId>) -> Option<NodeId> {
    let key = mix(group ^ mix(u64::from(index)));
    nodes.max_by_key(|node| (mix(key ^ node.0), *node))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::name_hash;

    fn nodes(count: u32) -> Vec<NodeId> {
        (1..=count).map(|n| NodeId::of(&format!("node-{n}"))).collect()
    }

    fn owners(nodes: &[NodeId]) -> Vec<NodeId> {
        (0..1_000).map(|index| owner(name_hash("orders"), index, nodes.iter().copied()).unwrap()).collect()
    }

    #[test]
    fn without_members_there_is_no_owner() {
        assert_eq!(owner(1, 1, std::iter::empty()), None);
    }

    #[test]
    fn the_order_of_the_members_does_not_matter() {
        let mut nodes = nodes(5);
        let before = owners(&nodes);
        nodes.reverse();
        assert_eq!(owners(&nodes), before);
    }

    #[test]
    fn a_death_moves_only_the_shards_of_the_dead() {
        let nodes = nodes(5);
        for (before, after) in owners(&nodes).iter().zip(owners(&nodes[1..])) {
            assert!(*before == after || *before == nodes[0]);
        }
    }

    #[test]
    fn the_shards_are_spread_evenly() {
        let nodes = nodes(5);
        for node in &nodes {
            let share = owners(&nodes).iter().filter(|owner| *owner == node).count();
            assert!((150..250).contains(&share), "{share} of 1,000 on one of 5");
        }
    }

    /// Another release must find the same owners, so these never change.
    #[test]
    fn the_mapping_never_changes() {
        let nodes = nodes(4);
        let first: Vec<usize> =
            owners(&nodes)[..12].iter().map(|owner| nodes.iter().position(|node| node == owner).unwrap()).collect();
        assert_eq!(first, [1, 3, 0, 3, 1, 1, 0, 2, 0, 0, 2, 3]);
    }
}
