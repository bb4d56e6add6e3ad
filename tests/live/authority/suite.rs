//! One suite that every authority passes.

use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use heartbeat_actors::authority::{
    Authority, AuthorityRequest, AuthorityResponse, CLAIMS_MAX, Claimant, Claimed, SessionId, ShardName,
};
use heartbeat_actors::shard::Epoch;
use heartbeat_actors::worker::Generation;

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Names a node of the cluster that a test is about.
pub(crate) fn claimant(cluster: &str, node: &str, generation: u64) -> Claimant {
    Claimant { cluster: cluster.into(), node: node.into(), generation: Generation(generation) }
}

/// The shards of a group.
pub(crate) fn shards(group: &str, indices: impl IntoIterator<Item = u32>) -> Vec<ShardName> {
    indices.into_iter().map(|index| ShardName { group: group.into(), index }).collect()
}

/// A node with a session.
pub(crate) struct Node {
    pub(crate) authority: Rc<dyn Authority>,
    pub(crate) session: SessionId,
    pub(crate) ttl: Duration,
    /// When the session was asked for.
    pub(crate) begun: Instant,
}

impl Node {
    /// Begins a session; repeats the request until the authority answers, as a node does.
    pub(crate) async fn open(authority: Rc<dyn Authority>, ttl: Duration) -> Node {
        let begun = Instant::now();
        match authority.clone().ask(AuthorityRequest::Open { ttl, previous: None }).await {
            Ok(AuthorityResponse::Opened { session, ttl }) => Node { authority, session, ttl, begun },
            other => panic!("no session: {other:?}"),
        }
    }

    pub(crate) async fn ask(&self, ask: AuthorityRequest) -> AuthorityResponse {
        self.authority.clone().ask(ask).await.unwrap()
    }

    pub(crate) async fn renew(&self) -> AuthorityResponse {
        self.ask(AuthorityRequest::Renew { session: self.session }).await
    }

    pub(crate) async fn claim(&self, shards: &[ShardName]) -> Vec<Claimed> {
        match self
            .ask(AuthorityRequest::Claim { session: self.session, shards: shards.to_vec(), floor: Epoch(0) })
            .await
        {
            AuthorityResponse::Claimed(claimed) => claimed,
            other => panic!("a claim was answered by {other:?}"),
        }
    }

    /// Claims free shards.
    pub(crate) async fn granted(&self, shards: &[ShardName]) -> Vec<Epoch> {
        let granted = |claimed| match claimed {
            Claimed::Granted(epoch) => epoch,
            Claimed::Held { by } => panic!("{by} has it"),
        };
        self.claim(shards).await.into_iter().map(granted).collect()
    }

    pub(crate) async fn release(&self, shards: &[ShardName]) {
        let shards = shards.to_vec();
        assert_eq!(
            self.ask(AuthorityRequest::Release { session: self.session, shards }).await,
            AuthorityResponse::Done
        );
    }

    pub(crate) async fn evict(&self, node: &str, generation: u64) {
        let evict = AuthorityRequest::Evict { node: node.into(), generation: Generation(generation) };
        assert_eq!(self.ask(evict).await, AuthorityResponse::Done);
    }

    /// Waits until something was freed, and renews meanwhile.
    pub(crate) async fn freed(&self) {
        let freed = self.authority.clone().freed();
        tokio::time::timeout(PATIENCE, self.meanwhile(freed)).await.expect("no change announces what was freed");
    }

    /// Renews while something else goes on.
    pub(crate) async fn meanwhile<T>(&self, other: impl Future<Output = T>) -> T {
        let renewals = async {
            loop {
                tokio::time::sleep(self.ttl / 5).await;
                assert_eq!(self.renew().await, AuthorityResponse::Renewed);
            }
        };
        tokio::select! { done = other => done, never = renewals => never }
    }
}

fn held(by: &str) -> Claimed {
    Claimed::Held { by: by.into() }
}

/// What every authority does. `open` makes one for a node, by name and generation; all of them have
/// one store, in which the groups "a" to "i" are free.
pub(crate) async fn suite(open: impl AsyncFn(&str, u64) -> Rc<dyn Authority>, ttl: Duration) {
    let a = Node::open(open("a", 1).await, ttl).await;
    let b = Node::open(open("b", 1).await, ttl).await;
    assert!(a.session != b.session && a.ttl >= ttl);
    a.meanwhile(b.meanwhile(grants(&a, &b))).await;
    a.meanwhile(b.meanwhile(batches(&a, &b))).await;
    a.meanwhile(b.meanwhile(wakes(&a, &b))).await;
    a.meanwhile(contests(&open, ttl)).await;
    a.meanwhile(expiry(&a, &open, ttl)).await;
    a.meanwhile(evictions(&a, &open, ttl)).await;
    a.meanwhile(successions(&a, &open, ttl)).await;
}

/// Who has a shard keeps it, under one epoch, until it is given back; the next one has a higher
/// epoch.
async fn grants(a: &Node, b: &Node) {
    let shard = shards("a", [7]);
    let first = a.granted(&shard).await;
    assert_eq!(a.granted(&shard).await, first, "granted again under the epoch it had");
    assert_eq!(b.claim(&shard).await, [held("a")]);
    b.release(&shard).await;
    assert_eq!(b.claim(&shard).await, [held("a")], "no session gives back what another has");
    a.release(&shard).await;
    a.release(&shard).await;
    let second = b.granted(&shard).await;
    assert!(second > first, "{second:?} after {first:?}");
    assert_eq!(a.claim(&shard).await, [held("b")]);
    b.release(&shard).await;
    let third = b.granted(&shard).await;
    assert!(third > second, "a grant after a release is a new one");
    // Names of all kinds are names.
    let odd = ["a/b", "%2f", "ü \n", "..", ""].map(|group| shards(group, [u32::MAX])).concat();
    a.granted(&odd).await;
    assert_eq!(b.claim(&odd).await, vec![held("a"); odd.len()]);
    a.release(&odd).await;
}

/// Each shard of a batch is a claim of its own, and the answers are in the order of the claims.
async fn batches(a: &Node, b: &Node) {
    let all = shards("b", 0..CLAIMS_MAX as u32);
    let some: Vec<_> = all.iter().step_by(3).cloned().collect();
    let of_b = b.granted(&some).await;
    let mut of_b = of_b.into_iter();
    for (index, claimed) in a.claim(&all).await.into_iter().enumerate() {
        assert_eq!(matches!(claimed, Claimed::Held { .. }), index % 3 == 0, "shard {index}: {claimed:?}");
    }
    for (index, claimed) in b.claim(&all).await.into_iter().enumerate() {
        let expected = if index % 3 == 0 { Claimed::Granted(of_b.next().unwrap()) } else { held("a") };
        assert_eq!(claimed, expected, "shard {index}");
    }
    a.release(&all).await;
    let rest: Vec<_> =
        all.iter().enumerate().filter(|(index, _)| index % 3 != 0).map(|(_, shard)| shard.clone()).collect();
    b.granted(&rest).await;
    b.release(&all).await;
    a.granted(&all).await;
    a.release(&all).await;
    assert_eq!(a.claim(&[]).await, []);
    // More than may be asked at once is refused as a whole.
    let many = shards("b", 0..=CLAIMS_MAX as u32);
    let refused = a
        .authority
        .clone()
        .ask(AuthorityRequest::Claim { session: a.session, shards: many.clone(), floor: Epoch(0) })
        .await;
    assert!(refused.unwrap_err().to_string().contains("65 shards"));
    assert!(b.claim(&many[1..]).await.iter().all(|claimed| matches!(claimed, Claimed::Granted(_))));
    b.release(&many[1..]).await;
}

/// A waiting node is notified, also of shards that became free while no node waited.
async fn wakes(a: &Node, b: &Node) {
    let shard = shards("c", [0]);
    for is_waiting in [true, false] {
        a.granted(&shard).await;
        assert_eq!(b.claim(&shard).await, [held("a")]);
        if is_waiting {
            let release = async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                a.release(&shard).await;
            };
            tokio::join!(b.freed(), release);
        } else {
            a.release(&shard).await;
            b.freed().await;
        }
        // It may have been woken by what was freed before; then it is woken again.
        while matches!(b.claim(&shard).await[..], [Claimed::Held { .. }]) {
            b.freed().await;
        }
        b.release(&shard).await;
    }
}

/// Of those who claim at the same time exactly one has it.
async fn contests(open: impl AsyncFn(&str, u64) -> Rc<dyn Authority>, ttl: Duration) {
    let mut nodes = Vec::new();
    for name in ["x", "y", "z"] {
        nodes.push(Node::open(open(name, 1).await, ttl).await);
    }
    for round in 0..4 {
        let all = shards("d", round * 64..(round + 1) * 64);
        // Half of them begins at the end.
        let reversed: Vec<_> = all.iter().rev().cloned().collect();
        let claims = nodes.iter().map(|node| {
            node.meanwhile(async {
                let (forwards, mut backwards) = tokio::join!(node.claim(&all[..32]), node.claim(&reversed[..32]));
                backwards.reverse();
                [forwards, backwards].concat()
            })
        });
        let claimed = join_all(claims).await;
        for index in 0..all.len() {
            let owners = claimed.iter().filter(|of_one| matches!(of_one[index], Claimed::Granted(_)));
            assert_eq!(owners.count(), 1, "owners of shard {index}");
        }
    }
    for node in nodes {
        for round in 0..4 {
            node.release(&shards("d", round * 64..(round + 1) * 64)).await;
        }
    }
}

/// A session that is not renewed ends, and not before its time. It never comes back. Another node
/// may take its shards and is notified.
async fn expiry(a: &Node, open: impl AsyncFn(&str, u64) -> Rc<dyn Authority>, ttl: Duration) {
    let silent = Node::open(open("silent", 1).await, ttl).await;
    let shard = shards("e", [0]);
    let before = silent.granted(&shard).await[0];
    assert_eq!(a.claim(&shard).await, [held("silent")]);
    let told = async {
        while a.claim(&shard).await == [held("silent")] {
            a.freed().await;
        }
    };
    told.await;
    let (epoch, granted) = (a.granted(&shard).await[0], Instant::now());
    let silence = granted - silent.begun;
    assert!(silence >= silent.ttl, "granted after {silence:?} of {:?}", silent.ttl);
    assert!(epoch > before);
    assert_eq!(silent.renew().await, AuthorityResponse::Gone);
    let claim = AuthorityRequest::Claim { session: silent.session, shards: shards("e", [1]), floor: Epoch(0) };
    assert_eq!(silent.ask(claim).await, AuthorityResponse::Gone);
    silent.release(&shard).await;
    assert_eq!(a.granted(&shard).await, [epoch], "who has lost it cannot give it back");
    // A renewed session outlives its time.
    let lively = Node::open(open("lively", 1).await, ttl).await;
    let shard = shards("e", [2]);
    lively.granted(&shard).await;
    let claims = async {
        while lively.begun.elapsed() < lively.ttl * 2 {
            assert_eq!(a.claim(&shard).await, [held("lively")]);
            tokio::time::sleep(ttl / 10).await;
        }
    };
    lively.meanwhile(claims).await;
    lively.release(&shard).await;
}

/// Who is known to have ended is put out at once, and a later process of the same name is not.
async fn evictions(a: &Node, open: impl AsyncFn(&str, u64) -> Rc<dyn Authority>, ttl: Duration) {
    let shard = shards("f", [0, 1]);
    let previous = Node::open(open("f", 1).await, ttl).await;
    let later = Node::open(open("f", 2).await, ttl).await;
    let epoch = previous.granted(&shard[..1]).await[0];
    later.granted(&shard[1..]).await;
    a.evict("f", 0).await;
    a.evict("nobody", 9).await;
    assert_eq!(later.claim(&shard[..1]).await, [held("f")], "the previous process of the name has it");
    a.evict("f", 1).await;
    assert!(a.granted(&shard[..1]).await[0] > epoch);
    assert_eq!((previous.renew().await, later.renew().await), (AuthorityResponse::Gone, AuthorityResponse::Renewed));
    assert_eq!(a.claim(&shard[1..]).await, [held("f")]);
    a.evict("f", 2).await;
    a.freed().await;
    a.granted(&shard[1..]).await;
    assert_eq!(later.renew().await, AuthorityResponse::Gone);
    a.release(&shard).await;
}

/// A session that replaces another one ends that one alone.
async fn successions(a: &Node, open: impl AsyncFn(&str, u64) -> Rc<dyn Authority>, ttl: Duration) {
    let shard = shards("g", [0]);
    let first = Node::open(open("g", 1).await, ttl).await;
    let epoch = first.granted(&shard).await[0];
    let AuthorityResponse::Opened { session, .. } =
        first.ask(AuthorityRequest::Open { ttl, previous: Some(first.session) }).await
    else {
        panic!("no session");
    };
    assert!(session != first.session);
    assert_eq!(first.renew().await, AuthorityResponse::Gone);
    let second = Node { session, ..first };
    assert!(second.granted(&shard).await[0] > epoch);
    assert_eq!(a.claim(&shard).await, [held("g")]);
    second.release(&shard).await;
    assert_eq!(a.renew().await, AuthorityResponse::Renewed);
}
