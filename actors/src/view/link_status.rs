//! `LinkStatus`: a member that this node watches, and what its detector has learnt.

use std::sync::Arc;
use std::time::Duration;

use heartbeat_core::LinkFigures;

/// A member that this node watches.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct LinkStatus {
    pub(crate) name: Arc<str>,
    /// The names of its observers, as its newest heartbeat names them.
    pub(crate) observers: Vec<Arc<str>>,
    pub(crate) figures: LinkFigures,
    /// How improbable silences of this length are; empty unless asked for.
    pub(crate) curve: Vec<(Duration, f64)>,
}
