//! What a node of the heartbeat framework decides, and nothing else.
//!
//! This crate is deterministic: it has no socket, clock, thread, async, log or chance of its own. Time comes in as [`Instant`], chance as a
//! seed, datagrams as bytes; what is to be done comes out as [`Output`]. The crate `heartbeat-actors` gives it all of those on actix, and is
//! what applications depend on; this one is for tests, simulations and other shells.
//!
//! # Reading order
//! 1. [`engine`]: how it is driven. One heartbeat's way begins and ends there.
//! 2. [`detector`], then [`monitor`] over the private `wheel`: silence into verdicts; the private `guard`: whether it was ours.
//! 3. [`membership`] and the private `cluster`: verdicts on nodes into a table that all agree on; [`wire`]: how they tell each other.
//! 4. [`restart`] and [`supervision`]: failures of workers into restarts.
//! 5. [`ring`] and the private `ownership`: who runs what; [`authority`]: who may say so.
//! 6. [`config`] and [`sums`], [`event`], [`output`], [`member`], [`time`], [`random`]: what all of them speak in.
//!
//! ```
//! use heartbeat_core::{Config, Engine, Generation, Identity, Instant, Output, Supervise, WorkerId};
//!
//! let identity = Identity { generation: Generation(1), address: "127.0.0.1:0".parse().unwrap() };
//! let mut engine = Engine::new(Config::default(), identity, 42, Instant::ZERO).unwrap();
//! engine.supervise(Instant::ZERO, Supervise::new(WorkerId(0), "counter", 2));
//!
//! let mut buffer = Vec::new();
//! let outputs: Vec<Output> = std::iter::from_fn(|| engine.poll_output(&mut buffer)).collect();
//! assert!(matches!(outputs.last(), Some(Output::Start(start)) if start.generation == Generation(1)));
//! ```

pub mod authority;
mod brake;
mod cluster;
pub mod config;
mod desk;
pub mod detector;
pub mod engine;
pub mod event;
mod gossip;
mod guard;
mod health;
mod interruption;
pub mod member;
pub mod membership;
pub mod mistakes;
pub mod monitor;
mod observers;
pub mod output;
mod ownership;
pub mod qos;
pub mod random;
mod replica;
pub mod restart;
pub mod ring;
mod routes;
mod slots;
pub mod sums;
pub mod supervision;
pub mod time;
pub mod trace;
mod wheel;
pub mod wire;

pub use authority::{Answer, Ask, Claimed, SessionId, ShardName};
pub use cluster::{Identity, StreamEvent};
pub use config::{Config, ConfigError};
pub use engine::{Counters, Engine};
pub use event::{Cause, Event, Testimony, Unready, Waiting};
pub use interruption::Interruption;
pub use member::{
    Activity, ArbiterId, Busy, Child, CpuTimes, Epoch, Generation, GroupId, Health, Incarnation, Look, Member,
    Metadata, NodeId, PlaceId, Profile, Role, Shard, Sharded, Status, Target, ThreadLook, ThreadState, Weight,
    WorkerId,
};
pub use mistakes::{Mistakes, MistakesError};
pub use output::{Leave, Output, Start, StreamId};
pub use random::Random;
pub use replica::{NewerReplica, Replica};
pub use restart::{RestartKind, UNLIMITED};
pub use routes::Routes;
pub use sums::Sums;
pub use supervision::{AutoShutdown, Counting, Report, Standing, Strategy, Supervise, SuperviseGroup, Times};
pub use time::Instant;
pub use trace::{Trace, TraceError};
