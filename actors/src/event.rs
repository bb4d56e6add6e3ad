//! What happens on a node, as it happens: events, and dead letters.

pub use heartbeat_core::{Cause, NotReadyReason, ObserverReport, Waiting};

pub use crate::view::subscribe::{DeadLetters, Updates, ViewSnapshot};
pub use crate::worker::dead_letter::{DeadLetter, DeadReason, dead_letters};
