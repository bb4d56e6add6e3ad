//! The settings of a node: each table of the config file as a type, and what all of them add up to.
//!
//! [`DEFAULT_TOML`] is the reference: every key with its default, its meaning and how to choose it.
//! A file of yours holds only what differs. Unknown keys and numbers that contradict each other are
//! refused, with the line or with what would be right.
//!
//! ```
//! use heartbeat_actors::config::DetectorKind;
//! use heartbeat_actors::Config;
//!
//! let config = Config::from_toml("timeout = '10s'\n[workers]\ntimeout = '2s'").unwrap();
//! assert_eq!(config.detector.kind, DetectorKind::Budget);
//!
//! let bounds = config.check().unwrap();
//! assert_eq!(bounds.intensity.0, config.restart.intensity);
//! assert!(bounds.death >= config.timeout);
//!
//! let error = Config::from_toml("timeout = '300ms'").unwrap_err();
//! assert!(error.to_string().contains("is not longer than interval 1s"));
//! ```
//!
//! | table | type | what it sets |
//! |---|---|---|
//! | top level | [`Config`](crate::Config) | heartbeat interval, timeout, own pauses |
//! | `[detector]` | [`DetectorConfig`] | when silence becomes suspicion |
//! | `[workers]` | [`WorkersConfig`] | timeouts, queues and threads of workers |
//! | `[restart]` | [`RestartConfig`] | when a failed worker is started again |
//! | `[events]` | [`EventsConfig`] | queue of a subscriber |
//! | `[membership]` | [`MembershipConfig`] | the table of members |
//! | `[ownership]` | [`OwnershipConfig`] | who may own shards |
//! | `[requests]` | [`RequestsConfig`] | requests to shards and workers of other nodes |
//! | `[stop]` | [`StopConfig`] | how the node stops |
//! | `[metrics]` | [`MetricsConfig`] | what is measured at each message |
//! | `[http]` | [`HttpConfig`] | the HTTP server for operators |
//! | `[cluster]` | [`ClusterConfig`] | name, addresses and seeds of this node |

pub use heartbeat_core::config::{
    ARBITERS_MAX, AuthorityKind, ClusterConfig, DEFAULT_TOML, DetectorConfig, DetectorKind, Drain, EtcdConfig,
    EventsConfig, HeldThread, HttpConfig, INTENSITY_MAX, LEASE_MIN, MESSAGE_BYTES_MAX, MembershipConfig, MetricsConfig,
    Mode, OnGiveUp, OnIsolated, OnSuspected, OnThreadHeld, OwnershipConfig, PhiReading, PostgresConfig, QuorumRule,
    REQUESTS_WINDOW_MAX, RequestsConfig, RestartConfig, SEEDS_MAX, SNAPSHOT_BYTES_MAX, Secret, StopConfig,
    TOKEN_BYTES_MIN, WorkersConfig,
};
pub use heartbeat_core::{Bounds, MistakeRate, MistakeRateError};
