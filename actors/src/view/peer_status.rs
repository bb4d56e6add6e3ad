//! `PeerStatus`: who watches this node, and whom it watches.

use std::sync::Arc;

/// Who watches a node, and whom it watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStatus {
    /// Names of those who watch it.
    pub observers: Vec<Arc<str>>,
    /// Names of those whom it watches, each with the time for which nothing was heard of it.
    pub watched: Vec<(Arc<str>, std::time::Duration)>,
    /// Its local health: 0 is well, 8 the worst.
    pub health: u8,
}
