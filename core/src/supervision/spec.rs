//! `spec`: what callers say of a worker or a group, what they are answered, and what a worker's
//! thread reports.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{OnThreadHeld, RestartConfig};
use crate::event::Cause;
use crate::member::{GroupId, ThreadSlotId, WorkerId};
use crate::supervision::restart::RestartKind;
use crate::time::Instant;

/// A worker to supervise.
#[derive(Clone, PartialEq, Debug)]
pub struct Supervise {
    /// Its number. It must not be in use.
    pub worker: WorkerId,
    /// Its name, for people.
    pub name: Arc<str>,
    /// The group it is in.
    pub group: GroupId,
    /// Which of its ends are followed by a restart.
    pub kind: RestartKind,
    /// Whether its end may end its group; see [`AutoShutdown`].
    pub significant: bool,
    /// Its own restart limits; `None` means those of the config.
    pub restart: Option<Arc<RestartConfig>>,
    /// Its own times; `None` means those of the config.
    pub times: Option<Arc<Times>>,
    /// What it does when a neighbour holds its thread; `None` means as the config says.
    pub on_thread_held: Option<OnThreadHeld>,
    /// The slot whose thread it uses.
    pub thread_slot: ThreadSlotId,
}

impl Supervise {
    /// A permanent worker in the root group with the limits of the config. It uses the shared
    /// threads in turn.
    pub fn new(worker: WorkerId, name: impl Into<Arc<str>>, arbiters: u32) -> Supervise {
        Supervise {
            worker,
            name: name.into(),
            group: GroupId::ROOT,
            kind: RestartKind::Permanent,
            significant: false,
            restart: None,
            times: None,
            on_thread_held: None,
            thread_slot: ThreadSlotId(worker.0 % arbiters.max(1)),
        }
    }
}

/// How long a worker may take; each as the field of the same name in `[workers]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Times {
    /// Longest time in which it may hold its thread.
    pub timeout: Duration,
    /// Longest time until it is up.
    pub start_timeout: Duration,
    /// Longest wait for a future while messages wait.
    pub await_timeout: Duration,
    /// Longest time until it has stopped.
    pub shutdown_timeout: Duration,
}

/// A group to supervise.
#[derive(Clone, PartialEq, Debug)]
pub struct SuperviseGroup {
    /// Its number. It must never have been used.
    pub group: GroupId,
    /// Its name, for people.
    pub name: Arc<str>,
    /// The group it is in.
    pub parent: GroupId,
    /// Which children one child's failure concerns.
    pub strategy: Strategy,
    /// Whose restarts count against the limits.
    pub counting: Counting,
    /// Whether the group ends when its significant children have ended.
    pub auto_shutdown: AutoShutdown,
    /// Whether its children start and stop all at once instead of in order.
    pub dynamic: bool,
    /// Which of its own ends are followed by a restart.
    pub kind: RestartKind,
    /// Whether its end may end its parent group.
    pub significant: bool,
    /// Its own restart limits; `None` means those of the config.
    pub restart: Option<Arc<RestartConfig>>,
}

/// Which children one child's failure concerns (OTP's words).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The child alone.
    #[default]
    OneForOne,
    /// All children. They stop in reverse order and start in order.
    OneForAll,
    /// The child and those added after it.
    RestForOne,
}

/// Whose restarts count against the intensity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Counting {
    /// All children's restarts count together against the group's limits. Above them the group
    /// ends, and its parent decides. As in OTP.
    #[default]
    Together,
    /// Each child's restarts count against its own limits. Above them that child is given up, and
    /// the others go on.
    Each,
}

/// Whether a group ends when significant children have ended by themselves (OTP's words).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoShutdown {
    /// Never.
    #[default]
    Never,
    /// When the first significant child has ended.
    AnySignificant,
    /// When the last significant child has ended.
    AllSignificant,
}

/// How far a worker or a group is, for callers that wait until it is up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It is up. A group is up when all its children that are to run are up.
    Up,
    /// It is not up now, and starts without a command.
    Coming,
    /// It is down, or was removed. It starts only by command.
    Down,
    /// It failed too often. It starts only by command.
    GivenUp,
}

/// What a worker's own thread reports of one generation.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
    /// This generation is up.
    Started,
    /// This generation ended with a fault; nothing runs.
    Failed(Cause),
    /// This generation ended with a fault at `failed_at`, and the next one was already started
    /// under the permit of `Output::SetRestartPermit`.
    Restarted {
        /// Why it ended.
        cause: Cause,
        /// When.
        failed_at: Instant,
        /// Whether the next one is up. Otherwise `Started` follows.
        is_up: bool,
    },
    /// This generation ended without a fault, by itself or after `Output::Stop`.
    Stopped,
}
