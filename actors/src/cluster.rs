//! The other nodes: which are members, in which state, and what they publish.
//!
//! A config with a `[cluster]` table makes a node a member. Each member watches some others, and
//! all agree on one table of members: [`Alive`](Status::Alive), [`Suspect`](Status::Suspect),
//! [`Dead`](Status::Dead) or [`Left`](Status::Left). A suspicion moves no work; a death does.
//!
//! # Quick start
//! ```
//! use heartbeat_actors::cluster::{Metadata, Status};
//! use heartbeat_actors::prelude::*;
//!
//! # actix::System::new().block_on(async {
//! let config = Config::from_toml(
//!     "[cluster]
//!     name = 'orders'
//!     node = 'node-1'
//!     role = 'worker'
//!     mode = 'random'
//!     listen = '127.0.0.1:0'
//!     seeds = []",
//! )
//! .unwrap();
//! let node = Node::start(config).await.unwrap();
//! node.until_joined().await.unwrap(); // without a seed it begins a cluster
//! assert_eq!(node.view().member("node-1").unwrap().status, Status::Alive);
//! node.set_metadata(Metadata::from([("http".into(), "10.0.0.1:80".into())])).await.unwrap();
//! node.leave().await;
//! # });
//! ```
//!
//! # What to ask
//! | question | answer |
//! |---|---|
//! | which members are there | [`View::members`], [`View::member`] |
//! | when did a member come, fail or leave | [`event`](crate::event) |
//! | which member is responsible for a key | [`Node::owner`], [`shard`](crate::shard) |
//! | which nodes watch this node, and how well is it | [`Node::neighbourhood`] |
//! | how much traffic is there | [`Node::counters`] |
//! | in which version of the wire format, and which member holds it back | [`View::wire_version`] |
//! | how regular are the links | [`Node::record`], [`trace`] |
//!
//! [`View::members`]: crate::View::members
//! [`View::member`]: crate::View::member
//! [`View::wire_version`]: crate::View::wire_version
//! [`Node::owner`]: crate::Node::owner
//! [`Node::neighbourhood`]: crate::Node::neighbourhood
//! [`Node::counters`]: crate::Node::counters
//! [`Node::record`]: crate::Node::record

pub use heartbeat_core::detection::trace;
pub use heartbeat_core::member::{
    CommonVersion, Declined, LOCAL_NAME, METADATA_BYTES_MAX, NAME_BYTES_MAX, ShardGroup, WEIGHT_KEY, WireVersions,
};
pub use heartbeat_core::{Counters, Incarnation, Member, Metadata, NodeId, Profile, Role, Status, Weight};

pub use crate::view::peer_status::PeerStatus;
