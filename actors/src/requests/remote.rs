//! `RemoteAddr`: the address of a worker of a given member, by name.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use actix::{Actor, Handler};

use crate::requests::{OneDoor, RemoteMessage, Route};
use crate::worker::addr::WorkerAddr;
use crate::worker::context::Context;
use crate::worker::dead_letter::DeadReason;
use crate::worker::reply::Reply;
use crate::worker::send_error::{SendError, TrySendError};
use crate::worker::slot::Control;

/// The address of a worker of a given member, by its name. It needs neither of them to be there
/// yet. Cloning it is cheap.
///
/// It follows each replacement of the worker, and each start of a process under the member's name.
/// A message that was under way to the former process is interrupted. A message is refused while no
/// member of the name is alive ([`SendError::UnknownMember`]), or if the member has no worker of
/// the name that [accepts](WorkerAddr::accept) messages ([`SendError::UnknownWorker`]).
///
/// Messages of one node to one worker arrive in their order, or the later one ends with an error.
/// If the member is this node itself, a message is handed over as it is.
pub struct RemoteAddr<A: Actor<Context = Context<A>>> {
    control: Arc<Control>,
    member: Arc<str>,
    worker: Arc<str>,
    to: To,
    actor: PhantomData<fn(A)>,
}

/// Where the member is.
#[derive(Clone)]
pub(crate) enum To {
    /// It is this node.
    Here,
    /// It is another one.
    There(Arc<Route>),
    /// It cannot be a member: this node is in no cluster.
    Nowhere,
}

impl<A: Actor<Context = Context<A>>> RemoteAddr<A> {
    pub(crate) fn new(control: Arc<Control>, member: Arc<str>, worker: Arc<str>, to: To) -> RemoteAddr<A> {
        RemoteAddr { control, member, worker, to, actor: PhantomData }
    }

    /// Sends a message to the worker. It is handled at most once, and this node never repeats one
    /// that may have been handled.
    ///
    /// # Errors
    /// The future's error is a [`SendError`]; [`SendError::is_unhandled`] says whether it is safe
    /// to send the message again.
    pub fn send<M>(&self, message: M) -> Reply<M::Result>
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        let sent = match &self.to {
            To::Here => self.here::<M>().map(|worker| worker.send(message)),
            To::There(route) => route.send(message).map_err(|refused| refused.error),
            To::Nowhere => Err(SendError::UnknownMember(self.member.clone())),
        };
        sent.unwrap_or_else(Reply::refused)
    }

    /// As [`RemoteAddr::send`], but asks for no answer.
    ///
    /// # Errors
    /// [`TrySendError`] with the message if it is refused here and now. A message that is refused
    /// later becomes a dead letter.
    pub fn try_send<M>(&self, message: M) -> Result<(), TrySendError<M>>
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        match &self.to {
            To::Here => match self.here::<M>() {
                Ok(worker) => worker.try_send(message),
                Err(error) => Err(TrySendError { error, message }),
            },
            To::There(route) => route.send_off(message),
            To::Nowhere => Err(TrySendError { error: SendError::UnknownMember(self.member.clone()), message }),
        }
    }

    /// Sends a message and reports nothing back. A message that is refused, at once or later,
    /// becomes a [dead letter](crate::Node::subscribe_dead_letters).
    pub fn do_send<M>(&self, message: M)
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        if self.try_send(message).is_err() {
            self.count_dead_letter::<M>(DeadReason::Refused);
        }
    }

    /// Sends a message, and again each time that it is interrupted, at most `attempts_max` times in
    /// all. Use it only for messages that do no harm when they are handled twice.
    ///
    /// # Errors
    /// The error of the last attempt. If the attempt number `attempts_max` fails, the message
    /// becomes a dead letter.
    pub async fn send_retrying<M>(&self, message: M, attempts_max: u32) -> Result<M::Result, SendError>
    where
        A: Handler<M>,
        M: RemoteMessage + Clone,
    {
        for _ in 1..attempts_max {
            match self.send(message.clone()).await {
                Err(SendError::Interrupted(_)) => {}
                answer => return answer,
            }
        }
        let answer = self.send(message).await;
        if answer.is_err() {
            self.count_dead_letter::<M>(DeadReason::Attempts);
        }
        answer
    }

    /// The name of the member.
    pub fn member(&self) -> &str {
        &self.member
    }

    /// The name of the worker.
    pub fn worker(&self) -> &str {
        &self.worker
    }

    fn count_dead_letter<M>(&self, reason: DeadReason) {
        self.control.dead_letters.count(std::any::type_name::<M>(), &self.worker, reason);
    }

    /// The worker, which is on this node.
    fn here<M>(&self) -> Result<WorkerAddr<A>, SendError>
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        let unknown = || SendError::UnknownWorker { member: self.member.clone(), worker: self.worker.clone() };
        let door = self.control.doors.of(&self.worker).ok_or_else(unknown)?;
        let door = door.as_any().downcast::<OneDoor<A>>().map_err(|_| unknown())?;
        let worker = door.worker().ok_or_else(unknown)?;
        if door.accepts::<M>() { Ok(worker) } else { Err(SendError::UnknownMessage(M::NAME)) }
    }
}

impl<A: Actor<Context = Context<A>>> Clone for RemoteAddr<A> {
    fn clone(&self) -> RemoteAddr<A> {
        RemoteAddr::new(self.control.clone(), self.member.clone(), self.worker.clone(), self.to.clone())
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for RemoteAddr<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteAddr").field("member", &self.member).field("worker", &self.worker).finish()
    }
}
