//! Messages that travel: a request reaches the owner of its shard, on whichever node it runs.
//!
//! [`heartbeat_core::requests`] decides where a request goes, when it waits and how it ends. This
//! room encodes and decodes, carries bytes over connections of their own, and hands requests to
//! workers. It has a thread of its own, so that no load of requests delays a heartbeat.

mod answering;
mod by_key;
mod door;
pub(crate) mod driver;
pub(crate) mod remote;
mod route;
mod socket;
mod thread;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use actix::Message;
use heartbeat_core::Member;
use heartbeat_core::requests::{Bytes, Input, MessageType, RequestId};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use self::by_key::{ByKey, Ways};
pub(crate) use self::door::{Door, OneDoor, ShardDoor, ShardHere};
use self::driver::{Driver, Own};
pub(crate) use self::route::{Pending, Route};
pub(crate) use self::thread::start;
use crate::transport::Halves;

/// A message that may travel between nodes.
///
/// The name and the version stand for the encoding of the message and of its answer: a change of
/// either needs a new version. A node that has not registered this version
/// ([`Shards::accept`](crate::shard::Shards::accept)) refuses it.
///
/// ```
/// use actix::Message;
/// use heartbeat_actors::shard::RemoteMessage;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Message, Serialize, Deserialize)]
/// #[rtype(result = "u64")]
/// struct Add(u64);
///
/// impl RemoteMessage for Add {
///     const NAME: &str = "counter.add";
/// }
///
/// assert_eq!(Add::VERSION, 1);
/// ```
pub trait RemoteMessage:
    Message<Result: Serialize + DeserializeOwned + Send> + Serialize + DeserializeOwned + Send + 'static
{
    /// Its name in the cluster. It stays the same in every release.
    const NAME: &'static str;

    /// The version of its encoding and of its answer's.
    const VERSION: u16 = 1;
}

/// The type of a message, as it stands on the wire.
pub(crate) fn message_type<M: RemoteMessage>() -> MessageType {
    MessageType { name_hash: heartbeat_core::member::name_hash(M::NAME), version: M::VERSION }
}

/// Encodes a value: [postcard](https://postcard.jamesmunns.com/wire-format)'s format, which is
/// stable and carries no names.
pub(crate) fn encode<T: Serialize>(value: &T) -> Option<Bytes> {
    postcard::to_allocvec(value).ok().map(Into::into)
}

/// Decodes a whole value.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
}

/// What other threads put in without waiting.
pub(crate) enum ToRequests {
    /// An input that has nothing else with it.
    Input(Input),
    /// A message that a worker of this node had in its queue when its shard moved away.
    SendOn { id: RequestId, pending: Arc<dyn Pending>, route: Arc<Route>, key: Option<Arc<[u8]>> },
    /// Another node has connected for requests.
    Accepted(std::net::TcpStream, Halves),
    /// The members as the view has them now.
    Members(Vec<Member>),
    /// The node has left.
    End,
}

/// Requests that were sent to another node get numbers from here on. Those that waited in a queue
/// of this node before go before them: their numbers are lower.
const FIRST_SENT: u64 = 1 << 62;

/// What the node's other threads have of its requests.
pub(crate) struct RequestsLink {
    driver: Arc<Driver>,
    /// The number of the next message that goes on.
    next_moved: AtomicU64,
    /// Whether the node has left. Messages that its workers had still go on to the new owners.
    has_left: AtomicBool,
}

impl RequestsLink {
    fn new(driver: Arc<Driver>) -> RequestsLink {
        RequestsLink { driver, next_moved: AtomicU64::new(1), has_left: AtomicBool::new(false) }
    }

    /// Puts something in, and waits for nothing. Returns it if the requests thread has ended, with
    /// its node.
    pub(crate) fn post(&self, message: ToRequests) -> Option<ToRequests> {
        self.driver.post(message)
    }

    /// The node has left: it sends no further requests, and its thread ends once those under way
    /// have.
    pub(crate) fn end(&self) {
        self.has_left.store(true, Ordering::Release);
        let _ = self.post(ToRequests::End); // It may have ended already.
    }

    /// Whether the node may send requests.
    pub(crate) fn is_open(&self) -> bool {
        !self.has_left.load(Ordering::Acquire)
    }

    pub(crate) fn open_door(&self, group: u64, door: Arc<dyn Door>) {
        self.driver.open_door(group, door);
    }

    /// Sends a request on the caller's thread.
    fn send(&self, own: Own, input: impl FnOnce(RequestId) -> Input) -> RequestId {
        self.driver.send(own, input)
    }

    /// How the requests stand. It takes the lock of the requests, and looks at each that waits.
    #[cfg(feature = "http")]
    pub(crate) fn figures(&self) -> heartbeat_core::requests::Figures {
        self.driver.figures()
    }

    /// The sender of a request waits at most this long, from now on.
    fn wait_at_most(&self, id: RequestId, time: Duration) {
        self.driver.set_deadline(id, self.driver.now() + time);
    }

    fn next_moved_id(&self) -> RequestId {
        RequestId(self.next_moved.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for RequestsLink {
    fn drop(&mut self) {
        self.end();
    }
}
