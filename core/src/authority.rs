//! Words with an authority: whoever hands out the right to run a shard, one owner at a time, each
//! under a higher epoch.
//!
//! Think of a key board at the porter's lodge. Each guest (a node) shows up now and then, or else
//! the porter takes all his keys back after a while (a *session* that ends); a key that hangs there
//! can be taken, one that is out cannot; and each time one is handed out the porter writes a higher
//! number on it (the *epoch*).
//!
//! The engine asks and is answered; which porter it is (a file on this host, etcd) is its driver's
//! business. The rules of when to ask what are in the private `claims`.
//!
//! Source: C. Gray and D. Cheriton, "Leases: An efficient fault-tolerant mechanism for distributed
//! file cache consistency", SOSP 1989.

use std::sync::Arc;
use std::time::Duration;

use crate::member::{Epoch, Generation};

/// A session at the authority, by the authority's own number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u64);

/// A shard as the authority knows it. Names are the same on all nodes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardName {
    /// Name of the sharded group.
    pub group: Arc<str>,
    /// Which of its shards.
    pub index: u32,
}

/// What is asked of the authority. Each is answered once, with an [`AuthorityResponse`] or an error
/// in words; in which order does not matter.
#[derive(Clone, PartialEq, Debug)]
pub enum AuthorityRequest {
    /// Begin a session of this node that ends `ttl` after it was last renewed. Answered by
    /// [`AuthorityResponse::Opened`].
    Open {
        /// How long it lasts without being renewed.
        ttl: Duration,
        /// A session of this process that is over for it, to be ended at once if it can be.
        previous: Option<SessionId>,
    },
    /// Let the session last for its whole time from now on. Answered by
    /// [`AuthorityResponse::Renewed`] or [`AuthorityResponse::Gone`].
    Renew {
        /// Which.
        session: SessionId,
    },
    /// Take these shards, those of them that nobody has. Answered by [`AuthorityResponse::Claimed`]
    /// or [`AuthorityResponse::Gone`].
    Claim {
        /// For which session.
        session: SessionId,
        /// At most [`CLAIMS_MAX`].
        shards: Vec<ShardName>,
        /// The lowest epoch to be given out: the time, or more where a later epoch of one of the
        /// shards is known. So epochs go on rising where an authority has forgotten, or takes the
        /// place of another mode.
        floor: Epoch,
    },
    /// Give these shards back. Those that the session does not have are left alone. Answered by
    /// [`AuthorityResponse::Done`].
    Release {
        /// Of which session.
        session: SessionId,
        /// At most [`CLAIMS_MAX`].
        shards: Vec<ShardName>,
    },
    /// End the session of a process that is known to have ended, without waiting for its time. A
    /// later process of the same name keeps its own. Answered by [`AuthorityResponse::Done`].
    Evict {
        /// Name of the node.
        node: Arc<str>,
        /// Of this start of its process, or an earlier one.
        generation: Generation,
    },
}

/// Shards in one claim or release.
pub const CLAIMS_MAX: usize = 64;

/// What the authority answers.
#[derive(Clone, PartialEq, Debug)]
pub enum AuthorityResponse {
    /// The session has begun.
    Opened {
        /// Its number, which no other session had or will have.
        session: SessionId,
        /// How long it lasts, which may be longer than asked for.
        ttl: Duration,
    },
    /// It lasts for its whole time again.
    Renewed,
    /// There is no such session any more, and whatever it had may be another's.
    Gone,
    /// What became of each shard, in the order of the claim.
    Claimed(Vec<Claimed>),
    /// It is done, or there was nothing to be done.
    Done,
}

/// What became of a claim to one shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Claimed {
    /// It is the session's from now on, under this epoch: higher than any that was given out for
    /// this shard before, and not below the floor of the claim. A shard that the session had
    /// already is granted again under the epoch that it had.
    Granted(Epoch),
    /// Somebody has it.
    Held {
        /// Name of the node.
        by: Arc<str>,
    },
}
