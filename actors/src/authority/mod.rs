//! `Authority`: who hands out the right to run a shard, one owner at a time.
//!
//! The rules of when to ask what are in `heartbeat-core` (`claims`); here are those who answer. All answer the same way, which the same suite checks. They live on the control arbiter and hold
//! it up for nothing: what takes time is awaited, or done on another thread.

use std::fmt;
use std::rc::Rc;

use futures_util::future::LocalBoxFuture;
pub use heartbeat_core::authority::{Answer, Ask, CLAIMS_MAX, Claimed, SessionId, ShardName};
use heartbeat_core::{Config, Generation};

/// Whoever hands out the right to run a shard.
pub trait Authority {
    /// Answers one question. Several may be under way at a time.
    ///
    /// An error means that it is not known whether it was done; whatever is asked may be asked again. It takes a bounded time.
    fn ask(self: Rc<Self>, ask: Ask) -> LocalBoxFuture<'static, Result<Answer, AuthorityError>>;

    /// Waits until a shard may have become free that was not when this was last waited for; it may say so when none has.
    fn freed(self: Rc<Self>) -> LocalBoxFuture<'static, ()>;
}

/// The authority that the config names, for this start of this node; `None` if it names none, or there is no cluster to share with.
///
/// # Errors
/// [`AuthorityError`] if it is not built in, or cannot be had here at all.
pub(crate) fn open(config: &Config, generation: Generation) -> Result<Option<Rc<dyn Authority>>, AuthorityError> {
    let _ = (config, generation);
    Ok(None)
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
