//! `PeerStatus`: who watches this node, and whom it watches.

use std::sync::Arc;

/// Who watches a node, and whom it watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStatus {
    /// Names of those who watch it.
    pub observers: Vec<Arc<str>>,
    /// Names of the nodes that it watches, each with the time since its last heartbeat.
    pub watched: Vec<(Arc<str>, std::time::Duration)>,
    /// Its local health: 0 is well, 8 the worst.
    pub health: u8,
}
