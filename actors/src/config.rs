//! The settings of a node, and what they add up to.

pub use heartbeat_core::config::{
    ARBITERS_MAX, AuthorityKind, ClusterConfig, DEFAULT_TOML, DetectorConfig, DetectorKind, Drain, EtcdConfig,
    EventsConfig, HeldThread, INTENSITY_MAX, LEASE_MIN, MembershipConfig, Mode, OnGiveUp, OnIsolated, OnThreadHeld,
    OwnershipConfig, PhiReading, QuorumRule, RestartConfig, SEEDS_MAX, SNAPSHOT_BYTES_MAX, WorkersConfig,
};
pub use heartbeat_core::{Bounds, MistakeRate, MistakeRateError};
