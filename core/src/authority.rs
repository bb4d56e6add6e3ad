//! Requests to an authority and its responses.
//!
//! An authority grants each shard to one node at a time, each time under a higher *epoch*. A node
//! holds its shards under a *session*, which ends unless the node renews it. When a session ends,
//! the authority may grant its shards to other nodes.
//!
//! The engine sends requests and handles responses. Its driver knows where the authority is: files
//! on this host, etcd, or PostgreSQL. The private `sharding::claims` decides what to request and
//! when.
//!
//! Source: C. Gray and D. Cheriton, "Leases: An efficient fault-tolerant mechanism for distributed
//! file cache consistency", SOSP 1989.

use std::sync::Arc;
use std::time::Duration;

use crate::member::{Epoch, Generation};

/// A session at the authority, by the number that the authority gave it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

/// A shard as the authority knows it. All nodes use the same names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardName {
    /// Name of the sharded group.
    pub group: Arc<str>,
    /// From 0 up to and without the group's number of shards.
    pub index: u32,
}

/// A request to the authority. The driver answers each once, with an [`AuthorityResponse`] or an
/// error text, in any order.
#[derive(Clone, PartialEq, Debug)]
pub enum AuthorityRequest {
    /// Begin a session of this node that ends `ttl` after its last renewal. Answered by
    /// [`AuthorityResponse::Opened`].
    Open {
        /// How long the session lasts without a renewal.
        ttl: Duration,
        /// An earlier session of this process that the process counts as over. The authority ends
        /// it at once if it still exists.
        previous: Option<SessionId>,
    },
    /// Let the session last for its whole `ttl` from now on. Answered by
    /// [`AuthorityResponse::Renewed`] or [`AuthorityResponse::Gone`].
    Renew {
        /// The session to renew.
        session: SessionId,
    },
    /// Grant these shards to the session, as far as no other session has them. Answered by
    /// [`AuthorityResponse::Claimed`] or [`AuthorityResponse::Gone`].
    Claim {
        /// The session that is to have them.
        session: SessionId,
        /// At most [`CLAIMS_MAX`].
        shards: Vec<ShardName>,
        /// The lowest epoch to grant: the time, or more if the node knows a higher epoch of one of
        /// the shards. So epochs rise even if an authority has lost its state, or takes the place
        /// of another mode.
        floor: Epoch,
    },
    /// Release these shards, as far as the session has them. Answered by
    /// [`AuthorityResponse::Done`].
    Release {
        /// The session that has them.
        session: SessionId,
        /// At most [`CLAIMS_MAX`].
        shards: Vec<ShardName>,
    },
    /// End the session of a process that has ended, before its `ttl` is over. A later process of
    /// the same name keeps its session. Answered by [`AuthorityResponse::Done`].
    Evict {
        /// Name of the node.
        node: Arc<str>,
        /// The start of its process; sessions of earlier starts end, too.
        generation: Generation,
    },
}

impl AuthorityRequest {
    /// What is asked for, in one word.
    pub fn name(&self) -> &'static str {
        match self {
            AuthorityRequest::Open { .. } => "open",
            AuthorityRequest::Renew { .. } => "renew",
            AuthorityRequest::Claim { .. } => "claim",
            AuthorityRequest::Release { .. } => "release",
            AuthorityRequest::Evict { .. } => "evict",
        }
    }
}

/// The largest number of shards in one claim or release.
pub const CLAIMS_MAX: usize = 64;

/// The authority's answer to a request.
#[derive(Clone, PartialEq, Debug)]
pub enum AuthorityResponse {
    /// The session has begun.
    Opened {
        /// Its number, which no other session has at any time.
        session: SessionId,
        /// How long it lasts without a renewal; it may be longer than requested.
        ttl: Duration,
    },
    /// The session lasts for its whole `ttl` from the receipt of the request.
    Renewed,
    /// The session does not exist any more, and other sessions may have its shards.
    Gone,
    /// The result for each shard, in the order of the claim.
    Claimed(Vec<Claimed>),
    /// The request is carried out, or there was nothing to do.
    Done,
}

/// The result of a claim for one shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// The session has the shard from now on, under this epoch. The epoch is higher than any that
    /// the authority granted for this shard before, and not below the floor of the claim. A shard
    /// that the session had already is granted again under the epoch that it had.
    Granted(Epoch),
    /// Another session has the shard.
    Held {
        /// Name of that node.
        by: Arc<str>,
    },
}
