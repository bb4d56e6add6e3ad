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
    /// In how many zones no member is declared dead for its silence now, since most of them are
    /// silent; all zones together count as one.
    pub zones_disrupted: u32,
}
