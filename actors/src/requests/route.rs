//! Routes: from a sender on this node to one shard, or to one worker of another member.

use std::any::type_name;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{self, Poll};
use std::time::Duration;

use heartbeat_core::Interruption;
use heartbeat_core::entities::prefix_key;
use heartbeat_core::requests::{Bytes, Input, MessageType, Outcome, Refusal, RequestId, Target, TraceContext};

use crate::requests::driver::Own;
use crate::requests::{RemoteMessage, RequestsLink, ToRequests, decode, encode, message_type};
use crate::worker::dead_letter::DeadReason;
use crate::worker::envelope::{Envelope, Onward, PendingReply, ReplyReceiver};
use crate::worker::reply::Reply;
use crate::worker::send_error::{SendError, TrySendError};
use crate::worker::slot::Control;

/// Where the requests of one lane go.
pub(crate) struct Route {
    link: Arc<RequestsLink>,
    control: Arc<Control>,
    target: Target,
    /// The member; none for a shard.
    member: Option<Arc<str>>,
    /// The name of the worker.
    worker: Arc<str>,
    /// Requests that wait or are under way. While there is one, a request goes the same way, also
    /// if the shard runs here, so that it overtakes none.
    busy: AtomicU32,
}

/// A message that goes on to the new owner of its shard.
pub(crate) struct Encoded {
    message: MessageType,
    payload: Bytes,
    trace: Option<TraceContext>,
}

/// The sender's side of a request.
pub(crate) trait Pending: Send + Sync {
    /// Ends it.
    fn settle(&self, outcome: Outcome, route: &Route);

    /// Takes out the message of an envelope that was in a worker's queue. None if it needs not be
    /// sent: its sender waits no more, or has its error.
    fn take_encoded(&self, route: &Route) -> Option<Encoded>;
}

impl<M: RemoteMessage> Pending for Envelope<M> {
    fn settle(&self, outcome: Outcome, route: &Route) {
        if self.is_unwanted() && matches!(outcome, Outcome::Refused(_)) {
            route.control.dead_letters.count(type_name::<M>(), &route.worker, DeadReason::Refused);
        }
        self.set_reply(match outcome {
            Outcome::Handled(bytes) => decode(&bytes).ok_or(SendError::Interrupted(Interruption::AnswerUndecodable)),
            Outcome::Refused(refusal) => Err(route.send_error(refusal, M::NAME)),
            Outcome::Interrupted(why) => Err(SendError::Interrupted(why)),
            Outcome::TimedOut => Err(SendError::TimedOut),
        });
    }

    fn take_encoded(&self, route: &Route) -> Option<Encoded> {
        if self.is_cancelled() {
            self.dead_letter(DeadReason::Cancelled);
            return None;
        }
        let message = self.take()?;
        // Encoding runs code of the application.
        let sender = self.take_sender();
        let trace = || sender.and_then(|sender| route.control.propagator.inject(&sender));
        match catch_unwind(AssertUnwindSafe(|| Some((encode(&message)?, trace())))) {
            Ok(Some((payload, trace))) => Some(Encoded { message: message_type::<M>(), payload, trace }),
            Ok(None) | Err(_) => {
                self.set_reply(Err(SendError::Unencodable(M::NAME)));
                None
            }
        }
    }
}

impl<M: RemoteMessage> Onward<M> for Route {
    fn send_on(self: Arc<Self>, envelope: Arc<Envelope<M>>, key: Option<Arc<[u8]>>) -> u64 {
        let id = self.link.next_moved_id();
        self.begin();
        self.post(ToRequests::SendOn { id, pending: envelope, route: self.clone(), key });
        id.0
    }

    fn is_busy(&self) -> bool {
        Route::is_busy(self)
    }

    fn forsake(&self, number: u64) {
        self.post(ToRequests::Input(Input::Forsake { id: RequestId(number) }));
    }
}

impl Route {
    /// To a shard. `worker` is its name.
    pub(crate) fn to_shard(
        link: Arc<RequestsLink>,
        control: Arc<Control>,
        (group, index): (u64, u32),
        worker: Arc<str>,
    ) -> Route {
        let target = Target::Shard { group, index };
        Route { link, control, target, member: None, worker, busy: AtomicU32::new(0) }
    }

    /// To a worker of another member.
    pub(crate) fn to_worker(
        link: Arc<RequestsLink>,
        control: Arc<Control>,
        member: Arc<str>,
        worker: Arc<str>,
    ) -> Route {
        let target = Target::Worker { member: heartbeat_core::NodeId::of(&member), name: worker.clone() };
        Route { link, control, target, member: Some(member), worker, busy: AtomicU32::new(0) }
    }

    /// Whether requests wait or are under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire) > 0
    }

    /// Sends a request, and returns the reply.
    pub(crate) fn send<M: RemoteMessage>(self: &Arc<Self>, message: M) -> Result<Reply<M::Result>, TrySendError<M>> {
        self.send_to(None, message)
    }

    /// As [`Route::send`], to the entity with this key if there is one.
    pub(crate) fn send_to<M: RemoteMessage>(
        self: &Arc<Self>,
        key: Option<&[u8]>,
        message: M,
    ) -> Result<Reply<M::Result>, TrySendError<M>> {
        let envelope = Arc::new(Envelope::<M>::sent_away());
        let id = self.send_with(envelope.clone(), key, message)?;
        Ok(Reply::of(Arc::new(RemoteReply { envelope, id, route: self.clone() })))
    }

    /// Sends a request whose sender wants no answer.
    pub(crate) fn send_off<M: RemoteMessage>(self: &Arc<Self>, message: M) -> Result<(), TrySendError<M>> {
        self.send_off_to(None, message)
    }

    /// As [`Route::send_off`], to the entity with this key if there is one.
    pub(crate) fn send_off_to<M: RemoteMessage>(
        self: &Arc<Self>,
        key: Option<&[u8]>,
        message: M,
    ) -> Result<(), TrySendError<M>> {
        self.send_with(Arc::new(Envelope::<M>::sent_off()), key, message).map(drop)
    }

    fn send_with<M: RemoteMessage>(
        self: &Arc<Self>,
        envelope: Arc<Envelope<M>>,
        key: Option<&[u8]>,
        message: M,
    ) -> Result<RequestId, TrySendError<M>> {
        if !self.link.is_open() {
            return Err(TrySendError { error: SendError::Closed, message });
        }
        let Some(payload) = encode(&message) else {
            return Err(TrySendError { error: SendError::Unencodable(M::NAME), message });
        };
        let (target, message) = (self.target.clone(), message_type::<M>());
        let (payload, trace) = (keyed(key, payload), self.control.propagator.inject_current());
        self.begin();
        let own = Own { pending: envelope, route: self.clone() };
        let input = |id| Input::Send { id, target, message, payload, deadline: None, trace };
        Ok(self.link.send(own, input))
    }

    /// What the requests thread is to do with a message that goes on.
    pub(crate) fn send_on_input(&self, id: RequestId, key: Option<&[u8]>, encoded: Encoded) -> Input {
        let Encoded { message, payload, trace } = encoded;
        let payload = keyed(key, payload);
        Input::Send { id, target: self.target.clone(), message, payload, deadline: None, trace }
    }

    fn post(&self, message: ToRequests) {
        // The node has left meanwhile.
        match self.link.post(message) {
            Some(ToRequests::SendOn { pending, route, .. }) => {
                route.end();
                pending.settle(Outcome::Refused(Refusal::Leaving), &route);
            }
            Some(ToRequests::Input(_) | ToRequests::Accepted(..) | ToRequests::Members(_) | ToRequests::End) | None => {
            }
        }
    }

    fn begin(&self) {
        self.busy.fetch_add(1, Ordering::AcqRel);
    }

    /// A request has ended.
    pub(crate) fn end(&self) {
        self.busy.fetch_sub(1, Ordering::AcqRel);
    }

    /// The sender's error for a refusal.
    pub(crate) fn send_error(&self, refusal: Refusal, message: &'static str) -> SendError {
        match (refusal, &self.member) {
            (Refusal::NoMember, Some(member)) => SendError::UnknownMember(member.clone()),
            (Refusal::NoWorker, Some(member)) => {
                SendError::UnknownWorker { member: member.clone(), worker: self.worker.clone() }
            }
            (refusal, _) => send_error(refusal, message),
        }
    }
}

/// The payload with the key of its entity in front, if there is one.
fn keyed(key: Option<&[u8]>, payload: Bytes) -> Bytes {
    let Some(key) = key else { return payload };
    let mut bytes = Vec::with_capacity(2 + key.len() + payload.len());
    prefix_key(key, &mut bytes);
    bytes.extend_from_slice(&payload);
    bytes.into()
}

/// The sender's error for a refusal that names no member.
fn send_error(refusal: Refusal, message: &'static str) -> SendError {
    match refusal {
        Refusal::Full | Refusal::HeldFull => SendError::Full,
        Refusal::Stopped => SendError::Closed,
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
        | Refusal::TooLarge { .. }
        | Refusal::Leaving
        | Refusal::HopLimit
        | Refusal::NoMember => SendError::Refused(refusal),
    }
}

/// The sender's end of a request: if it waits no more, the request is forsaken.
struct RemoteReply<M: RemoteMessage> {
    envelope: Arc<Envelope<M>>,
    id: RequestId,
    route: Arc<Route>,
}

impl<M: RemoteMessage> ReplyReceiver<M::Result> for RemoteReply<M> {
    fn poll_reply(&self, task: &mut task::Context<'_>) -> Poll<Result<M::Result, SendError>> {
        self.envelope.poll_reply(task)
    }

    fn cancel(&self) {
        self.envelope.cancel();
        self.route.post(ToRequests::Input(Input::Forsake { id: self.id }));
    }

    fn wait_at_most(&self, time: Duration) -> bool {
        self.route.link.wait_at_most(self.id, time);
        true
    }
}
