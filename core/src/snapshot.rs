//! `ShardSnapshot`: what the worker of a shard leaves for the next one that runs the shard.
//!
//! It holds bytes of the application, the version of their format, and the epoch and sequence that
//! tell which of two snapshots is newer. The owner keeps the newest one, and its successor has a
//! *replica* of it. The framework does not read the bytes.

use std::fmt;
use std::sync::Arc;

use crate::member::Epoch;

/// The last snapshot of a shard that this node knows.
#[derive(Clone, PartialEq, Eq)]
pub struct ShardSnapshot {
    /// The epoch of the owner that made it.
    pub epoch: Epoch,
    /// The number of this snapshot among those of that epoch, from 1.
    pub sequence: u64,
    /// The version of the format, as the application counts it.
    pub version: u32,
    /// The bytes that the application saved.
    pub bytes: Arc<[u8]>,
}

impl ShardSnapshot {
    /// The bytes, if their format is of this version or an earlier one.
    ///
    /// # Errors
    /// [`NewerSnapshot`] if a newer version of the program wrote them. The snapshot is kept for a
    /// node that can read it.
    pub fn up_to(&self, version: u32) -> Result<&[u8], NewerSnapshot> {
        if self.version <= version {
            Ok(&self.bytes)
        } else {
            Err(NewerSnapshot { found: self.version, known: version })
        }
    }

    /// The key by which snapshots of one shard are compared: the greater is the newer.
    pub(crate) fn order(&self) -> (Epoch, u64) {
        (self.epoch, self.sequence)
    }
}

impl fmt::Debug for ShardSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ShardSnapshot { epoch, sequence, version, bytes } = self;
        write!(f, "ShardSnapshot({} #{sequence}, version {version}, {} bytes)", epoch.0, bytes.len())
    }
}

/// A snapshot was written by a newer version of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NewerSnapshot {
    /// The version of the snapshot.
    pub found: u32,
    /// The newest version that this program knows.
    pub known: u32,
}

impl fmt::Display for NewerSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NewerSnapshot { found, known } = self;
        write!(
            f,
            "the snapshot has version {found}, and this program knows versions up to {known}; run the newer program"
        )
    }
}

impl std::error::Error for NewerSnapshot {}
