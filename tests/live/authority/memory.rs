//! The authority in memory.

use std::time::Duration;

use heartbeat_actors::authority::{AuthorityRequest, AuthorityResponse, Claimed, MemoryStore, Reach};

use crate::live;
use crate::suite::{Node, claimant, shards, suite};

const TTL: Duration = Duration::from_millis(1_500);

#[test]
fn memory_passes() {
    live(async {
        let store = MemoryStore::new();
        suite(async |node, generation| store.authority(claimant("suite", node, generation)), TTL).await;
    });
}

#[test]
fn a_store_can_be_slow_deaf_and_cut_off() {
    live(async {
        let store = MemoryStore::new();
        let a = Node::open(store.authority(claimant("c", "a", 1)), TTL).await;
        let b = Node::open(store.authority(claimant("c", "b", 1)), TTL * 100).await;
        let shard = shards("orders", [0, 1]);
        let claim = |node: &Node, of| {
            node.authority.clone().ask(AuthorityRequest::Claim {
                session: node.session,
                shards: of,
                floor: heartbeat_core::Epoch(0),
            })
        };

        store.set_reach("a", Reach::Unheard);
        let error = claim(&a, shard.clone()).await.unwrap_err().to_string();
        assert_eq!(error, "the store in memory does not answer \"a\"; a test set that");
        assert!(b.claim(&shard).await.iter().all(|claimed| matches!(claimed, Claimed::Held { by } if &**by == "a")));

        store.set_reach("a", Reach::Cut);
        assert!(claim(&a, shard.clone()).await.unwrap_err().to_string().contains("is not reached by \"a\""));
        b.freed().await; // Its time is over, whether it is reached or not.
        b.granted(&shard).await;

        store.set_reach("a", Reach::Prompt);
        assert_eq!(a.renew().await, AuthorityResponse::Gone);

        store.set_reach("b", Reach::Slow(TTL / 5));
        let begun = tokio::time::Instant::now();
        assert_eq!(b.renew().await, AuthorityResponse::Renewed);
        assert!(begun.elapsed() >= TTL / 5);
    });
}
