//! `Event`: what happened, in the past tense, for subscribers and logs.
//!
//! Everything the engine concludes leaves it as one of these, with the figures that led to it, so that a log line, a metric and a
//! subscriber all see the same. Workers and nodes go by the names their users gave them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::member::{ArbiterId, Generation, Incarnation, Member, Shard};

/// Why a worker ended.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// It panicked.
    Panicked {
        /// The payload, if it was text.
        payload: Arc<str>,
        /// Type name of the message it was handling, if it was handling one.
        handling: Option<&'static str>,
    },
    /// It stopped itself.
    Stopped,
    /// The factory returned an error or panicked.
    StartFailed {
        /// What the factory said.
        reason: Arc<str>,
    },
    /// It held its thread for longer than the timeout.
    Blocked {
        /// Type name of the message it is stuck in.
        handling: &'static str,
        /// For how long, when it was concluded.
        #[serde(serialize_with = "seconds")]
        busy_for: Duration,
    },
    /// A neighbour blocked the thread it shared; not its own fault, and not counted against it.
    Displaced {
        /// Name of the neighbour that was blamed.
        by: Arc<str>,
    },
    /// Its thread fell silent and no worker on it was at work, so none is to blame.
    ThreadSilent {
        /// For how long, when it was concluded.
        #[serde(serialize_with = "seconds")]
        silent_for: Duration,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Panicked { payload, handling: Some(message) } => write!(f, "panicked in {message}: {payload}"),
            Cause::Panicked { payload, handling: None } => write!(f, "panicked: {payload}"),
            Cause::Stopped => f.write_str("stopped itself"),
            Cause::StartFailed { reason } => write!(f, "did not start: {reason}"),
            Cause::Blocked { handling, busy_for } => write!(f, "blocked its thread in {handling} for {busy_for:.3?}"),
            Cause::Displaced { by } => write!(f, "its thread was blocked by {by}"),
            Cause::ThreadSilent { silent_for } => write!(f, "its thread was silent for {silent_for:.3?}"),
        }
    }
}

/// Something that happened.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A node became a member, for the first time or after a restart of its process.
    Joined {
        /// As it is known now.
        member: Member,
    },
    /// A node left on purpose.
    Left {
        /// Its name.
        node: Arc<str>,
    },
    /// A node is silent for longer than its detector expects. It is still a member.
    Suspected {
        /// Its name.
        node: Arc<str>,
        /// The silence so far, as the one who judged it saw it; zero where the news came from elsewhere.
        #[serde(serialize_with = "seconds")]
        silent_for: Duration,
    },
    /// A suspicion was wrong: the number to watch.
    Cleared {
        /// Its name.
        node: Arc<str>,
        /// The silence that ended; zero where the news came from elsewhere.
        #[serde(serialize_with = "seconds")]
        silent_for: Duration,
    },
    /// A node was silent past the timeout and is concluded dead: its shards move.
    Died {
        /// Its name.
        node: Arc<str>,
        /// The silence that led to it; zero where the news came from elsewhere.
        #[serde(serialize_with = "seconds")]
        silent_for: Duration,
    },
    /// A node that had been concluded dead is back, under a higher incarnation.
    Returned {
        /// Its name.
        node: Arc<str>,
        /// Its new incarnation.
        incarnation: Incarnation,
    },
    /// This node was itself concluded dead and has given up its shards; it comes back under a higher incarnation.
    Buried {
        /// The incarnation under which it comes back.
        incarnation: Incarnation,
    },
    /// The monitor does not answer; we go on with the view we have and keep trying.
    Isolated {
        /// Where the monitor should be.
        monitor: SocketAddr,
        /// How long it has not answered.
        #[serde(serialize_with = "seconds")]
        silent_for: Duration,
    },
    /// The monitor answers, for the first time or again.
    Connected {
        /// Where it is.
        monitor: SocketAddr,
    },
    /// Another process speaks under this node's name with a higher generation: this one was superseded and must end.
    Superseded {
        /// The other's generation.
        generation: Generation,
    },
    /// A node was not admitted.
    Refused {
        /// Where it called from.
        address: SocketAddr,
        /// Why, with the offending value.
        reason: Arc<str>,
    },
    /// A shard has a new owner.
    Moved {
        /// Name of the sharded group.
        group: Arc<str>,
        /// Index and new epoch.
        shard: Shard,
        /// Name of the former owner, if there was one.
        from: Option<Arc<str>>,
        /// Name of the new owner, if there is one.
        to: Option<Arc<str>>,
    },
    /// A worker runs for the first time.
    Started {
        /// Its name.
        worker: Arc<str>,
        /// Its generation.
        generation: Generation,
        /// Which shard it is, if it is one.
        shard: Option<Shard>,
    },
    /// A worker failed. What follows is `Replaced`, `GaveUp`, or nothing if its restart kind says so.
    Failed {
        /// Its name.
        worker: Arc<str>,
        /// The generation that failed.
        generation: Generation,
        /// Why.
        cause: Cause,
        /// How long until it is started again; `None` if it is not.
        #[serde(serialize_with = "optional_seconds")]
        restart_in: Option<Duration>,
    },
    /// A new generation of a worker runs in the place of a failed one.
    Replaced {
        /// Its name.
        worker: Arc<str>,
        /// The new generation.
        generation: Generation,
        /// Why the former one ended.
        cause: Cause,
        /// From the failure to the new start: from the panic, or from when the thread was blocked.
        #[serde(serialize_with = "seconds")]
        after: Duration,
        /// Which shard it is, if it is one.
        shard: Option<Shard>,
    },
    /// A worker ended for good, without fault.
    Stopped {
        /// Its name.
        worker: Arc<str>,
        /// The generation that ended.
        generation: Generation,
    },
    /// A worker failed too often: it is not started again and its queue is dead letters. The application must act.
    GaveUp {
        /// Its name.
        worker: Arc<str>,
        /// Restarts within the period.
        restarts: u32,
        /// Why it ended the last time.
        cause: Cause,
    },
    /// A thread is blocked and was abandoned; it cannot be killed, only fenced.
    Abandoned {
        /// Which thread.
        arbiter: ArbiterId,
        /// Blocked threads now.
        zombies: u32,
    },
    /// A blocked thread came back, handled nothing more, and ended.
    ZombieEnded {
        /// Which thread.
        arbiter: ArbiterId,
        /// Blocked threads left.
        zombies: u32,
    },
    /// One more thread is blocked than may be; its workers are not replaced. The process should be restarted.
    TooManyZombies {
        /// Which thread.
        arbiter: ArbiterId,
        /// Blocked threads that were abandoned already.
        zombies: u32,
    },
    /// Our own timer came late: we were paused or starved. Every target has a fresh timer.
    Paused {
        /// How late.
        #[serde(serialize_with = "seconds")]
        late_by: Duration,
    },
}

/// Durations in events are seconds, as a number.
fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn optional_seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_some(&duration.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}
