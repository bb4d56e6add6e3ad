//! What a seal reports, and what it is asked for.

use std::sync::Arc;

use super::key_id::KeyId;

/// How many datagrams were sealed, opened and refused, each since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SealCounts {
    /// Sealed.
    pub sealed: u64,
    /// Opened.
    pub opened: u64,
    /// Plain ones that were taken, because `accept_plain` is set.
    pub plain_taken: u64,
    /// Plain ones that were refused.
    pub plain_refused: u64,
    /// Sealed with a key that this node does not have.
    pub unknown_key: u64,
    /// Not sealed by a process with the key, changed on the way, or sealed for another process.
    pub forged: u64,
    /// Received before, or too long ago.
    pub replayed: u64,
    /// Of an earlier process of the sender.
    pub stale: u64,
    /// For any process, though of a kind that has to be for a certain one.
    pub unaddressed: u64,
    /// No datagram at all.
    pub malformed: u64,
    /// Not sent, because the counter of this process is at its end.
    pub exhausted: u64,
}

/// Why a datagram is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenError {
    /// It is plain.
    Plain,
    /// It is sealed with this key, which this node does not have.
    UnknownKey(KeyId),
    /// Its tag is not right under this key.
    Forged(KeyId),
    /// It was received before, or is too old to tell.
    Replayed,
    /// It is of an earlier process of its sender.
    Stale,
    /// It is for any process, and its kind is not for any.
    Unaddressed,
    /// It is no datagram.
    Malformed,
}

/// What becomes of a key that was taken out of the config.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    /// The node opens with it as long as a member that is alive needs it.
    WhenUnused,
    /// It is forgotten now. Members that have no other key are cut off.
    Force,
}

/// How a member and this node can understand each other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberSeal {
    /// Its name.
    pub name: Arc<str>,
    /// The keys that it publishes, the preferred one first; none if it has no seal.
    pub keys: Vec<KeyId>,
    /// The key of its newest datagram to this node; `None` if that was plain, or none came.
    pub used: Option<KeyId>,
    /// Whether it has a key that this node has, too.
    pub can_open: bool,
}

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StreamPurpose {
    /// A lifeline, a table or a snapshot.
    Engine,
    /// Requests.
    Requests,
}

/// Which changes of the keys and of the members a seal of datagrams has taken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SealVersions {
    /// Of the keys; zero for those that the node has started with.
    pub(crate) keys: u64,
    /// Of the members; zero for none.
    pub(crate) members: u64,
}
