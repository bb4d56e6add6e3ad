//! What a node of the heartbeat framework decides, and nothing else.
//!
//! This crate is deterministic: it has no socket, clock, thread, async, log or chance of its own.
//! Time comes in as [`Instant`], chance as a seed, datagrams as bytes. Everything that is to be
//! done comes out as [`Output`]. The crate `heartbeat-actors` connects it to actix, and
//! applications depend on that one. This crate is for tests, simulations and other runtimes.
//!
//! # Reading order
//! 1. [`engine`]: how it is driven. Each heartbeat enters and leaves there.
//! 2. [`detection`], then [`detection::monitor`] over the private `timer_wheel`: how silence
//!    becomes a verdict. The private `detection::pause`: whether the silence was our own.
//! 3. [`membership`]: how verdicts on nodes become a table that all agree on. [`wire`]: the
//!    messages for that.
//! 4. [`supervision`]: how failures of workers lead to restarts.
//! 5. [`sharding`]: which node runs which shard. [`authority`]: what may decide that.
//! 6. [`config`], [`bounds`], [`event`], [`input`], [`output`], [`member`], [`time`] and
//!    [`random`]: the types that all of them use.
//!
//! ```
//! use heartbeat_core::{Config, Engine, Generation, Identity, Input, Instant, Output};
//! use heartbeat_core::{Supervise, WorkerId};
//!
//! let identity = Identity { generation: Generation(1), address: "127.0.0.1:0".parse().unwrap() };
//! let mut engine = Engine::new(Config::default(), identity, 42, Instant::ZERO).unwrap();
//! let counter = Supervise::new(WorkerId(0), "counter", 2);
//! engine.handle(Instant::ZERO, Input::Supervise(counter.into()));
//!
//! let mut buffer = Vec::new();
//! let outputs: Vec<Output> = std::iter::from_fn(|| engine.poll_output(&mut buffer)).collect();
//! let Some(Output::Start(start)) = outputs.last() else { panic!("{outputs:?}") };
//! assert_eq!(start.generation, Generation(1));
//! ```

pub mod authority;
pub mod bounds;
pub mod config;
mod counters;
mod ctx;
pub mod detection;
pub mod engine;
pub mod event;
pub mod input;
mod interruption;
mod lease;
mod leaving;
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
pub use bounds::Bounds;
pub use config::rate::{MistakeRate, MistakeRateError};
pub use config::{Config, ConfigError};
pub use counters::Counters;
pub use detection::trace::{Trace, TraceError};
pub use engine::Engine;
pub use event::{Cause, Event, NotReadyReason, ObserverReport, Waiting};
pub use input::{Batch, Input, StreamEvent};
pub use interruption::Interruption;
pub use member::{
    Activity, ArbiterId, Child, CpuTimes, Epoch, Generation, GroupId, Health, Incarnation, Member, Metadata, NodeId,
    Profile, Role, Shard, ShardGroup, Status, StatusSample, Target, ThreadSample, ThreadSlotId, ThreadState, Weight,
    WorkerActivity, WorkerId,
};
pub use membership::Identity;
pub use output::{Output, RestartPermit, Start, StreamId};
pub use random::Random;
pub use sharding::routes::Routes;
pub use snapshot::{NewerSnapshot, ShardSnapshot};
pub use supervision::restart::{RestartKind, UNLIMITED};
pub use supervision::{AutoShutdown, Counting, Report, Standing, Strategy, Supervise, SuperviseGroup, Times};
pub use time::Instant;
