//! What a node of the heartbeat framework decides, and nothing else.
//!
//! This crate is deterministic: it has no socket, clock, thread, async, log or chance of its own.
//! Time comes in as [`Instant`], chance as a seed, datagrams as bytes; what is to be done comes out
//! as [`Output`]. The crate `heartbeat-actors` gives it all of those on actix, and is what
//! applications depend on; this one is for tests, simulations and other shells.
//!
//! # Reading order
//! 1. [`engine`]: how it is driven. One heartbeat's way begins and ends there.
//! 2. [`detection`], then [`detection::monitor`] over the private `timer_wheel`: silence into
//!    verdicts; the private `pause`: whether it was ours.
//! 3. [`membership`]: verdicts on nodes into a table that all agree on; [`wire`]: how they tell
//!    each other.
//! 4. [`supervision`]: failures of workers into restarts.
//! 5. [`sharding`]: who runs what; [`authority`]: who may say so.
//! 6. [`config`] and [`bounds`], [`event`], [`output`], [`member`], [`time`], [`random`]: what all
//!    of them speak in.
//!
//! ```
//! use heartbeat_core::{Config, Engine, Generation, Identity, Input, Instant, Output, Supervise, WorkerId};
//!
//! let identity = Identity { generation: Generation(1), address: "127.0.0.1:0".parse().unwrap() };
//! let mut engine = Engine::new(Config::default(), identity, 42, Instant::ZERO).unwrap();
//! let counter = Supervise::new(WorkerId(0), "counter", 2);
//! engine.handle(Instant::ZERO, Input::Supervise(counter.into()));
//!
//! let mut buffer = Vec::new();
//! let outputs: Vec<Output> = std::iter::from_fn(|| engine.poll_output(&mut buffer)).collect();
//! assert!(matches!(outputs.last(), Some(Output::Start(start)) if start.generation == Generation(1)));
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
