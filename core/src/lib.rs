//! What a node of the heartbeat framework decides, and nothing else.
//!
//! This crate is deterministic: it has no socket, clock, thread, async, log or randomness of its
//! own. Time comes in as [`Instant`], randomness as a seed, and everything else as [`Input`]. Work
//! goes out as [`Output`]. Applications depend on the crate `heartbeat-actors`, which drives this
//! one on actix. This crate is for tests, simulations and other drivers.
//!
//! # Reading order
//! 1. [`engine`]: how it is driven. Each input enters here, and each output leaves here.
//! 2. [`detection`]: how long a silence is expected. [`detection::monitor`] turns silence into
//!    verdicts, over the private `timer_wheel`; the private `pause` detects pauses of this process.
//! 3. [`membership`]: turns verdicts on nodes into a table that all members agree on. [`wire`] is
//!    how they exchange it.
//! 4. [`supervision`]: turns failures of workers into restarts.
//! 5. [`sharding`]: which node runs which shard. [`authority`]: what may decide that instead.
//! 6. [`entities`]: which workers of single keys are active.
//! 7. [`line_limit`]: which events become lines of a log.
//! 8. [`config`] and [`bounds`], [`event`], [`input`] and [`output`], [`member`], [`time`] and
//!    [`random`]: the types that all of them share.
//!
//! ```
//! use heartbeat_core::{Config, Engine, Generation, Identity, Input, Instant};
//! use heartbeat_core::{Output, Supervise, WorkerId};
//!
//! let identity = Identity { generation: Generation(1), address: "127.0.0.1:0".parse().unwrap() };
//! let mut engine = Engine::new(Config::default(), identity, 42, Instant::ZERO).unwrap();
//! let counter = Supervise::new(WorkerId(0), "counter", 2);
//! engine.handle(Instant::ZERO, Input::Supervise(counter.into()));
//!
//! let mut buffer = Vec::new();
//! let outputs: Vec<Output> = std::iter::from_fn(|| engine.poll_output(&mut buffer)).collect();
//! let Some(Output::Start(start)) = outputs.last() else { panic!("the worker does not start") };
//! assert_eq!(start.generation, Generation(1));
//! ```

pub mod authority;
pub mod bounds;
pub mod config;
mod counters;
mod ctx;
pub mod detection;
pub mod engine;
pub mod entities;
pub mod event;
pub mod input;
mod interruption;
mod lease;
mod leaving;
pub mod line_limit;
pub mod member;
pub mod membership;
pub mod output;
pub mod random;
pub mod requests;
pub mod sharding;
mod snapshot;
pub mod supervision;
pub mod time;
mod timer_wheel;
pub mod wire;

pub use authority::{AuthorityRequest, AuthorityResponse, Claimed, SessionId, ShardName};
pub use bounds::{Bounds, BudgetBounds};
pub use config::rate::{MistakeRate, MistakeRateError};
pub use config::{Config, ConfigError};
pub use counters::Counters;
pub use detection::trace::{Trace, TraceError};
pub use detection::{BudgetFigures, KeptAt, LinkFigures, Verdict};
pub use engine::Engine;
pub use event::{Cause, Event, NotReadyReason, ObserverReport, Waiting};
pub use input::{Batch, Input, StreamEvent};
pub use interruption::Interruption;
pub use line_limit::LineLimit;
pub use member::{
    Activity, ArbiterId, Child, CpuTimes, Epoch, Generation, GroupId, Health, Incarnation, Member, Metadata, NodeId,
    Profile, Role, Shard, ShardGroup, Status, StatusSample, Target, ThreadSample, ThreadSlotId, ThreadState, Weight,
    WorkerActivity, WorkerId,
};
pub use membership::{Identity, Link};
pub use output::{Output, RestartPermit, Start, StreamId};
pub use random::Random;
pub use sharding::routes::Routes;
pub use snapshot::{NewerSnapshot, ShardSnapshot};
pub use supervision::restart::{RestartKind, UNLIMITED};
pub use supervision::{
    AutoShutdown, Counting, GroupFigures, Report, Standing, Strategy, Supervise, SuperviseGroup, ThreadFigures,
    ThreadStanding, Times,
};
pub use time::Instant;
