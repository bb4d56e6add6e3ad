//! `Authority`: who hands out the right to run a shard, one owner at a time.
//!
//! The rules of when to ask what are in `heartbeat-core` (`claims`); here are those who answer. All answer the same way, which the same suite checks. They live on the control arbiter and hold
//! it up for nothing: what takes time is awaited, or done on another thread.
//!
//! - `ledger`: the rules of those who keep their own book. `memory`: one process.

#[cfg(feature = "testkit")]
mod ledger;
#[cfg(feature = "testkit")]
mod memory;

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use heartbeat_core::Generation;

pub use heartbeat_core::authority::{Answer, Ask, CLAIMS_MAX, Claimed, SessionId, ShardName};
#[cfg(feature = "testkit")]
pub use memory::{MemoryStore, Reach};

/// Whoever hands out the right to run a shard.
pub trait Authority {
    /// Answers one question. Several may be under way at a time.
    ///
    /// An error means that it is not known whether it was done; whatever is asked may be asked again. It takes a bounded time.
    fn ask(self: Rc<Self>, ask: Ask) -> LocalBoxFuture<'static, Result<Answer, AuthorityError>>;

    /// Waits until a shard may have become free that was not when this was last waited for; it may say so when none has.
    fn freed(self: Rc<Self>) -> LocalBoxFuture<'static, ()>;
}

/// Who asks an authority.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claimant {
    /// Name of its cluster. Shards of different clusters have nothing to do with each other.
    pub cluster: Arc<str>,
    /// Name of the node.
    pub node: Arc<str>,
    /// Of this start of its process.
    pub generation: Generation,
}

/// The authority did not answer, or said something that makes no sense. The text says what was asked of whom, and what came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthorityError(pub String);

impl fmt::Display for AuthorityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AuthorityError {}

/// Refuses more than may be asked at once.
#[cfg(feature = "testkit")]
fn check(ask: &Ask) -> Result<(), AuthorityError> {
    match ask {
        Ask::Claim { shards, .. } | Ask::Release { shards, .. } if shards.len() > CLAIMS_MAX => {
            Err(AuthorityError(format!("{} shards are asked for at once; ask for at most {CLAIMS_MAX}", shards.len())))
        }
        Ask::Open { .. } | Ask::Renew { .. } | Ask::Claim { .. } | Ask::Release { .. } | Ask::Evict { .. } => Ok(()),
    }
}
