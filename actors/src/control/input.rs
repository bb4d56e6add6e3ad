//! Requests to the supervisor that are not inputs of the engine: they carry a slot, a socket or a
//! channel, or have an answer of their own.
//!
//! Inputs of the engine come as [`ToSupervisor`](crate::worker::messages::ToSupervisor). These two
//! are all that the supervisor handles.

use std::sync::Arc;
use std::time::Duration;

use actix::{Addr, Message};
use heartbeat_core::{ConfigError, Counters, Instant, Metadata, Supervise};
use tokio::sync::oneshot;

use crate::control::orders::TakeOrders;
#[cfg(feature = "http")]
pub(crate) use crate::control::question::Question;
#[cfg(feature = "systemd")]
use crate::control::receiver::Receiver;
use crate::control::record::Recorder;
use crate::control::supervisor::Supervisor;
use crate::control::until::Until;
use crate::transport::Connection;
use crate::view::peer_status::PeerStatus;
use crate::view::subscribe::Subscriber;
use crate::worker::slot::DynSlot;

/// A request to the supervisor. A sender in it takes the answer; its receiver may be gone.
pub(crate) enum Request {
    /// Supervise these workers.
    Supervise(NewWorkers),
    /// Carry out orders for entities.
    Orders(TakeOrders),
    /// Take a connection that another node has opened.
    Accepted { at: Instant, from: std::net::SocketAddr, socket: Connection },
    /// Look at the status cells from this chunk on.
    Scan { from: usize },
    /// Record the heartbeats of other nodes.
    Record(Recorder),
    /// Publish this metadata of the node.
    SetMetadata(Metadata, oneshot::Sender<Result<(), ConfigError>>),
    /// The keys of the seal have changed: publish their ids.
    PublishKeys,
    /// Send heartbeats this often.
    SetInterval(Duration, oneshot::Sender<Result<(), ConfigError>>),
    /// Leave the cluster, and answer when that is done.
    Leave(oneshot::Sender<()>),
    /// Send this subscriber the view and then each event.
    Subscribe(Subscriber),
    /// Answer when something holds.
    Until(Until),
    /// How many datagrams were sent and received?
    Counters(oneshot::Sender<Counters>),
    /// Which nodes watch this one, and which does it watch?
    PeerStatus(oneshot::Sender<PeerStatus>),
    /// What the door shows and only the supervisor knows.
    #[cfg(feature = "http")]
    Question(Question),
    /// Do this as soon as the node leaves, by itself or on request.
    #[cfg(feature = "systemd")]
    OnLeave(Box<dyn FnOnce() + Send>),
    /// Where is the receiver?
    #[cfg(feature = "systemd")]
    Receiver(oneshot::Sender<Addr<Receiver>>),
    /// Show that receiver and supervisor do their work.
    #[cfg(any(feature = "systemd", feature = "http"))]
    Pulse(Pulse),
}

impl Message for Request {
    type Result = ();
}

/// Asks the supervisor and waits for its answer; `None` if it has ended.
pub(crate) async fn ask<T>(
    supervisor: &Addr<Supervisor>,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Option<T> {
    let (sender, answer) = oneshot::channel();
    supervisor.do_send(request(sender));
    answer.await.ok()
}

/// Workers to supervise: one, or the shards of a group.
pub(crate) struct NewWorkers {
    pub(crate) workers: Vec<(Supervise, Arc<dyn DynSlot>)>,
    /// The name of the group, if they are its shards.
    pub(crate) group: Option<Arc<str>>,
}

impl Drop for NewWorkers {
    /// A supervisor that has ended supervises no further worker; the senders of its messages are
    /// notified all the same.
    fn drop(&mut self) {
        for (_, slot) in self.workers.drain(..) {
            slot.end();
        }
    }
}

/// A sign of life that passes the receiver and the supervisor.
#[cfg(any(feature = "systemd", feature = "http"))]
pub(crate) struct Pulse {
    pub(crate) number: u64,
    /// The highest number that has passed both.
    pub(crate) back: Arc<std::sync::atomic::AtomicU64>,
}

#[cfg(any(feature = "systemd", feature = "http"))]
impl Message for Pulse {
    type Result = ();
}
