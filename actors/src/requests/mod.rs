//! Messages that travel: a request reaches the owner of its shard, on whichever node it runs.
//!
//! [`heartbeat_core::requests`] decides where a request goes, when it waits and how it ends. This
//! room encodes and decodes, carries bytes over connections of their own, and hands requests to
//! workers. It has a thread of its own, so that no load of requests delays a heartbeat.

mod door;
pub(crate) mod driver;
mod socket;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{self, Poll};

use actix::Message;
use dashmap::DashMap;
use heartbeat_core::requests::{Input, MessageType, Outcome, Refusal, RequestId, Target};
use heartbeat_core::{Interruption, Member};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

pub(crate) use self::door::{Door, ShardDoor};
pub(crate) use self::driver::start;
use crate::worker::envelope::{Envelope, ReplyReceiver};
use crate::worker::reply::Reply;
use crate::worker::send_error::SendError;

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
pub(crate) fn encode<T: Serialize>(value: &T) -> Option<Arc<[u8]>> {
    postcard::to_allocvec(value).ok().map(Into::into)
}

/// Decodes a whole value.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
}

/// The sender's side of a request: what is done with its outcome.
pub(crate) trait Pending: Send + Sync {
    fn settle(&self, outcome: Outcome);
}

impl<M: RemoteMessage> Pending for Envelope<M> {
    fn settle(&self, outcome: Outcome) {
        self.set_reply(match outcome {
            Outcome::Handled(bytes) => decode(&bytes).ok_or(SendError::Interrupted(Interruption::AnswerUndecodable)),
            Outcome::Refused(refusal) => Err(send_error(refusal, M::NAME)),
            Outcome::Interrupted(why) => Err(SendError::Interrupted(why)),
            Outcome::TimedOut => Err(SendError::TimedOut),
        });
    }
}

/// The sender's end of a request: if it waits no more, the request is forsaken.
struct RemoteReply<M: RemoteMessage> {
    envelope: Arc<Envelope<M>>,
    id: RequestId,
    link: mpsc::UnboundedSender<ToRequests>,
}

impl<M: RemoteMessage> ReplyReceiver<M::Result> for RemoteReply<M> {
    fn poll_reply(&self, task: &mut task::Context<'_>) -> Poll<Result<M::Result, SendError>> {
        self.envelope.poll_reply(task)
    }

    fn cancel(&self) {
        self.envelope.cancel();
        let _ = self.link.send(ToRequests::Input(Input::Forsake { id: self.id })); // As in `post`.
    }
}

/// The sender's error for a refusal.
fn send_error(refusal: Refusal, message: &'static str) -> SendError {
    match refusal {
        Refusal::Full | Refusal::HeldFull => SendError::Full,
        Refusal::GaveUp => SendError::GaveUp,
        Refusal::NotReady => SendError::NotReady,
        Refusal::Dropped => SendError::Dropped,
        Refusal::UnknownMessage => SendError::UnknownMessage(message),
        Refusal::NotOwner { .. }
        | Refusal::HeldTooLong
        | Refusal::Suspected
        | Refusal::Expired
        | Refusal::NoWorker
        | Refusal::Undecodable
        | Refusal::TooLarge
        | Refusal::Leaving
        | Refusal::HopLimit => SendError::Refused(refusal),
    }
}

/// What the requests thread is given.
pub(crate) enum ToRequests {
    /// An input that has nothing else with it.
    Input(Input),
    /// A request of this node, and where its outcome goes.
    Send { input: Input, pending: Arc<dyn Pending>, busy: Arc<[AtomicU32]>, index: u32 },
    /// Another node has connected for requests.
    Accepted(std::net::TcpStream),
    /// The members as the view has them now.
    Members(Vec<Member>),
    /// The node has left.
    End,
}

/// What the node's other threads have of the requests thread.
pub(crate) struct RequestsLink {
    sender: mpsc::UnboundedSender<ToRequests>,
    next: AtomicU64,
    /// The groups of this node that take requests, by the hash of their name.
    doors: Arc<DashMap<u64, Arc<dyn Door>>>,
}

impl RequestsLink {
    /// Sends something to the requests thread. After its end nothing happens any more, and what was
    /// under way was ended then.
    pub(crate) fn post(&self, message: ToRequests) {
        let _ = self.sender.send(message); // The thread ends with its node.
    }

    /// Whether the thread still runs.
    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    pub(crate) fn open_door(&self, group: u64, door: Arc<dyn Door>) {
        self.doors.insert(group, door);
    }

    /// Sends a request of this node to a shard of a group.
    pub(crate) fn send<M: RemoteMessage>(
        &self,
        group: u64,
        index: u32,
        busy: &Arc<[AtomicU32]>,
        message: M,
    ) -> Result<Reply<M::Result>, (SendError, M)> {
        if !self.is_open() {
            return Err((SendError::Closed, message));
        }
        let Some(payload) = encode(&message) else { return Err((SendError::Unencodable(M::NAME), message)) };
        let id = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        let envelope = Arc::new(Envelope::<M>::sent_away());
        let input = Input::Send {
            id,
            target: Target::Shard { group, index },
            message: message_type::<M>(),
            payload,
            deadline: None,
        };
        busy[index as usize].fetch_add(1, Ordering::AcqRel);
        let (pending, busy) = (envelope.clone(), busy.clone());
        self.post(ToRequests::Send { input, pending, busy, index });
        Ok(Reply::of(Arc::new(RemoteReply { envelope, id, link: self.sender.clone() })))
    }
}
