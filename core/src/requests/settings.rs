//! `RequestsConfig`: how many requests may wait or be under way, and for how long.

use std::time::Duration;

/// What becomes of a request whose shard's owner is suspected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnSuspected {
    /// It waits until the suspicion is refuted or the shard has another owner.
    #[default]
    Wait,
    /// It is sent all the same.
    Send,
    /// It is refused.
    Refuse,
}

/// The bounds of requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestsConfig {
    /// Requests that wait at this node, all shards together.
    pub held_max: u32,
    /// Their bytes.
    pub held_bytes_max: usize,
    /// How long a request waits for an owner that can take it.
    pub held_for: Duration,
    /// What becomes of a request whose shard's owner is suspected.
    pub on_suspected: OnSuspected,
    /// Requests under way to one node.
    pub window: u32,
    /// Their bytes; one request may always be under way.
    pub window_bytes: usize,
    /// Largest message and largest answer.
    pub message_bytes_max: usize,
    /// How often a request is sent on by nodes that are not the owner.
    pub hops_max: u32,
    /// How long a connection may lie unused before it is closed.
    pub idle_after: Duration,
}

impl Default for RequestsConfig {
    fn default() -> RequestsConfig {
        RequestsConfig {
            held_max: 10_000,
            held_bytes_max: 16 << 20,
            held_for: Duration::from_secs(10),
            on_suspected: OnSuspected::Wait,
            window: 1_024,
            window_bytes: 8 << 20,
            message_bytes_max: 4 << 20,
            hops_max: 16,
            idle_after: Duration::from_secs(60),
        }
    }
}
