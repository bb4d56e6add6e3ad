//! `ShardSnapshot`: what a shard's worker leaves behind for whoever runs the shard next.
//!
//! Bytes of the application's own, with what is needed to tell which of two is newer and who can
//! read it. What is in them nobody here knows.

use std::fmt;
use std::sync::Arc;

use crate::member::Epoch;

/// What a shard's worker left behind, last.
#[derive(Clone, PartialEq, Eq)]
pub struct ShardSnapshot {
    /// Under which epoch it was made.
    pub epoch: Epoch,
    /// How many were made under that epoch before it, from 1.
    pub sequence: u64,
    /// The version of its format, by the application's own count.
    pub version: u32,
    /// The application's own.
    pub bytes: Arc<[u8]>,
}

impl ShardSnapshot {
    /// The bytes, if they are of a format that this program knows.
    ///
    /// # Errors
    /// [`NewerSnapshot`] if they were written by a newer version of the program; it is kept, for
    /// whoever can read it.
    pub fn up_to(&self, version: u32) -> Result<&[u8], NewerSnapshot> {
        if self.version <= version {
            Ok(&self.bytes)
        } else {
            Err(NewerSnapshot { found: self.version, known: version })
        }
    }

    /// The later is the newer.
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
