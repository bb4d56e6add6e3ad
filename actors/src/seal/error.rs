//! Why keys cannot be used.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::key_id::KeyId;

/// Why the keys of a seal cannot be used, or a change of them was not taken.
#[derive(Debug)]
#[non_exhaustive]
pub enum SealError {
    /// The file of a key cannot be read; its path, and the system's error.
    Unreadable(String, io::Error),
    /// A variable that should hold a key is not set.
    NotSet(String),
    /// What a source holds is no key: the source, what is wrong and what would be right.
    Malformed(String, String),
    /// Two entries hold the same key, or two keys with one id.
    Twice(KeyId),
    /// The wall clock shows an earlier time than the file of a key has. Restarted with such a
    /// clock, a node might seal with numbers that it has used before.
    ClockBehind(String),
    /// Members that are alive seal with a key that was taken away, or have no other one; the key
    /// and their names. The node still opens with it.
    InUse(KeyId, Vec<Arc<str>>),
    /// The system gives no random numbers.
    NoRandomness,
    /// This program was built without the feature `seal`.
    NotBuilt,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SealError::Unreadable(path, error) => {
                write!(f, "the key file {path:?} of cluster.seal.keys cannot be read ({error}); make it readable")
            }
            SealError::NotSet(name) => {
                write!(f, "the variable {name} of cluster.seal.keys is not set; set it to a key")
            }
            SealError::Malformed(source, fault) => write!(f, "{source} of cluster.seal.keys {fault}"),
            SealError::Twice(id) => {
                write!(f, "the key {id} is twice in cluster.seal.keys, or two keys share that id; leave one out")
            }
            SealError::ClockBehind(path) => write!(
                f,
                "the wall clock is behind the time of the key file {path:?}, so a seal might repeat itself; set the clock"
            ),
            SealError::InUse(id, members) => write!(
                f,
                "key {id} was taken away, but {} still seal with it; give them another key first, or force it",
                members.join(", ")
            ),
            SealError::NoRandomness => f.write_str("the system gives no random numbers"),
            SealError::NotBuilt => f.write_str(
                "[cluster.seal] needs the feature `seal` of heartbeat-actors, which this program was built without",
            ),
        }
    }
}

impl std::error::Error for SealError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SealError::Unreadable(_, error) => Some(error),
            SealError::NotSet(_)
            | SealError::Malformed(..)
            | SealError::Twice(_)
            | SealError::ClockBehind(_)
            | SealError::InUse(..)
            | SealError::NoRandomness
            | SealError::NotBuilt => None,
        }
    }
}
