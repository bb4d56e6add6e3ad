//! The other nodes: members, their status, and what this node and they exchange.

pub use heartbeat_core::detection::trace;
pub use heartbeat_core::member::{Declined, LOCAL_NAME, METADATA_BYTES_MAX, NAME_BYTES_MAX, ShardGroup, WEIGHT_KEY};
pub use heartbeat_core::{Counters, Incarnation, Member, Metadata, NodeId, Profile, Role, Status, Weight};

pub use crate::view::peer_status::PeerStatus;
