//! `SuperviseError`: why a node does not supervise a worker, group or pool.

use std::fmt;

use heartbeat_core::ConfigError;
use heartbeat_core::config::ARBITERS_MAX;
use heartbeat_core::member::{GROUPS_MAX, NAME_BYTES_MAX, SHARDS_MAX};

use crate::node::pool::POOL_SIZE_MAX;

/// Why a worker, group or pool is not supervised. Nothing was started.
#[derive(Debug)]
#[non_exhaustive]
pub enum SuperviseError {
    /// A worker or group of this node has this name already.
    NameTaken(String),
    /// The name is empty or too long.
    Name(String),
    /// The settings of the worker or group contradict each other.
    Config(ConfigError),
    /// The node leaves, or has left.
    Left,
    /// The number of shards is zero or too large.
    Shards(u32),
    /// This node has as many sharded groups already as it can publish; the name of the one too
    /// many.
    Groups(String),
    /// The number of threads is zero or too large.
    Arbiters(u32),
    /// The number of members of a pool is zero or too large.
    Members(u32),
    /// A significant child could never have an effect; the text says why, and what would be right.
    Significant(String),
}

impl fmt::Display for SuperviseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SuperviseError::NameTaken(name) => write!(f, "worker name {name:?} is taken on this node; use another one"),
            SuperviseError::Name(name) => {
                write!(f, "worker name {name:?} has {} bytes; use 1 to {NAME_BYTES_MAX}", name.len())
            }
            SuperviseError::Config(error) => error.fmt(f),
            SuperviseError::Left => f.write_str("this node has left and starts nothing more; start another node"),
            SuperviseError::Arbiters(count) => write!(f, "{count} threads are out of range; use 1 to {ARBITERS_MAX}"),
            SuperviseError::Members(count) => write!(f, "{count} members are out of range; use 1 to {POOL_SIZE_MAX}"),
            SuperviseError::Significant(text) => f.write_str(text),
            SuperviseError::Groups(name) => {
                write!(f, "{name:?} is one sharded group too many; use at most {GROUPS_MAX} in a cluster")
            }
            SuperviseError::Shards(count) => write!(f, "{count} shards are out of range; use 1 to {SHARDS_MAX}"),
        }
    }
}

impl std::error::Error for SuperviseError {}
