//! What the supervisor is told and asked.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "systemd")]
use actix::Addr;
use actix::Message;
use heartbeat_core::{ArbiterId, ConfigError, Counters, Supervise, SuperviseGroup};
use tokio::sync::oneshot;

#[cfg(feature = "systemd")]
use crate::control::receiver::Receiver;
use crate::control::record::Recorder;
use crate::view::subscribe::Subscriber;
use crate::worker::slot::DynSlot;

/// Heartbeats are to be sent this often.
pub(crate) struct SetInterval(pub(crate) Duration);

impl Message for SetInterval {
    type Result = Result<(), ConfigError>;
}

/// What is heard of others is to be written down.
pub(crate) struct Record(pub(crate) Recorder);

impl Message for Record {
    type Result = ();
}

/// Workers to take on: one, or the shards of a group.
pub(crate) struct TakeOn {
    pub(crate) workers: Vec<(Supervise, Arc<dyn DynSlot>)>,
    /// The group's name, if they are its shards.
    pub(crate) group: Option<Arc<str>>,
}

impl Message for TakeOn {
    type Result = ();
}

impl Drop for TakeOn {
    /// A supervisor that has ended takes no worker on; their senders must hear of it all the same.
    fn drop(&mut self) {
        for (_, slot) in self.workers.drain(..) {
            slot.end();
        }
    }
}

/// An abandoned thread came back.
pub(super) struct ArbiterEnded(pub(super) ArbiterId);

impl Message for ArbiterEnded {
    type Result = ();
}

/// The status cells from this chunk on are to be looked at.
pub(super) struct Scan {
    pub(super) from: usize,
}

impl Message for Scan {
    type Result = ();
}

/// A group to take on.
pub(crate) struct TakeOnGroup(pub(crate) SuperviseGroup);

impl Message for TakeOnGroup {
    type Result = ();
}

/// Somebody wants to be told what happens.
pub(crate) struct Subscribe(pub(crate) Subscriber);

impl Message for Subscribe {
    type Result = ();
}

/// Leave in good order; `done` is told when that is over.
pub(crate) struct Leave {
    pub(crate) done: oneshot::Sender<()>,
}

impl Message for Leave {
    type Result = ();
}

/// Something is to be done as soon as the node leaves, by itself or because it was told to.
#[cfg(feature = "systemd")]
pub(crate) struct OnLeave(pub(crate) Box<dyn FnOnce() + Send>);

#[cfg(feature = "systemd")]
impl Message for OnLeave {
    type Result = ();
}

/// Where is the receiver?
#[cfg(feature = "systemd")]
pub(crate) struct AddrOf;

#[cfg(feature = "systemd")]
impl Message for AddrOf {
    type Result = Addr<Receiver>;
}

/// Goes through the receiver and the supervisor, and shows that both do their work.
#[cfg(feature = "systemd")]
pub(crate) struct Pulse {
    pub(crate) number: u64,
    /// Where the highest number is noted that has come through.
    pub(crate) back: Arc<std::sync::atomic::AtomicU64>,
}

#[cfg(feature = "systemd")]
impl Message for Pulse {
    type Result = ();
}

/// What was counted so far?
pub(crate) struct Count;

impl Message for Count {
    type Result = Counters;
}

/// Others are to be told something else of this node.
pub(crate) struct SetMetadata(pub(crate) heartbeat_core::Metadata);

impl Message for SetMetadata {
    type Result = Result<(), heartbeat_core::ConfigError>;
}

/// These are members, as if they had just been heard of.
#[cfg(feature = "testkit")]
pub(crate) struct Introduce(pub(crate) Vec<heartbeat_core::Member>);

#[cfg(feature = "testkit")]
impl Message for Introduce {
    type Result = ();
}

/// Who watches this node, and whom does it watch?
pub(crate) struct Neighbours;

impl Message for Neighbours {
    type Result = crate::view::peer_status::PeerStatus;
}
