//! `WorkerAddr`: a supervised worker as its users see it.
//!
//! The address belongs to the worker's seat, not to one of its lives: it is good for as long as the node runs. What it cannot promise is that
//! a message was handled. A message that was refused was never handed over and may be sent again; one whose worker failed while it was
//! being handled may have had its effect, so it is never repeated for you.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

use actix::dev::channel::AddressSender;
use actix::{Actor, Handler, Message};
use heartbeat_core::{Child, Generation};
use tokio::sync::oneshot;

use crate::context::Context;
use crate::seat::Seat;
use crate::supervisor::{Command, Order};

/// The address of a supervised worker; it follows every replacement. Cloning it is cheap.
pub struct WorkerAddr<A: Actor<Context = Context<A>>> {
    pub(crate) seat: Arc<Seat<A>>,
}

/// Why a message was not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The queue holds `workers.capacity` messages already. The message was not handed over: it is safe to send it again.
    Full,
    /// No worker runs here: it was given up or stopped, or its shard lives on another node. The message was not handed over.
    Closed,
    /// The message was handed over and no answer came: the worker failed or was replaced. It may have been handled, in part or in full.
    Interrupted,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full => "the worker's queue is full; the message was not handed over",
            SendError::Closed => "no worker runs under this address; the message was not handed over",
            SendError::Interrupted => "the worker ended before it answered; the message may have been handled",
        })
    }
}

impl std::error::Error for SendError {}

/// The answer to a message, to be awaited. The message was handed over (or refused) when this was made, awaited or not.
#[must_use = "an answer that is dropped tells the worker that nobody waits for it"]
pub struct Answer<R>(Result<oneshot::Receiver<R>, SendError>);

impl<R> Future for Answer<R> {
    type Output = Result<R, SendError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(receiver) => Pin::new(receiver).poll(task).map_err(|_| SendError::Interrupted),
            Err(error) => Poll::Ready(Err(*error)),
        }
    }
}

impl<R> fmt::Debug for Answer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer").field("refused", &self.0.as_ref().err()).finish()
    }
}

impl<A: Actor<Context = Context<A>>> WorkerAddr<A> {
    /// Hands a message over and returns its answer to be awaited.
    ///
    /// # Errors
    /// The awaited result is a [`SendError`]; each says whether the message was handed over.
    pub fn send<M>(&self, message: M) -> Answer<M::Result>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        Answer(self.open().and_then(|sender| sender.send(message).map_err(refused)))
    }

    /// Hands a message over without wanting an answer.
    ///
    /// # Errors
    /// [`SendError::Full`] or [`SendError::Closed`]; the message was then not handed over.
    pub fn try_send<M>(&self, message: M) -> Result<(), SendError>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.open()?.try_send(message, true).map_err(refused)
    }

    /// Starts it again, if it has ended, was stopped or was given up.
    pub fn start(&self) {
        self.order(Order::Start);
    }

    /// Stops it in good order and starts it again; its queue is kept and nothing is counted.
    pub fn restart(&self) {
        self.order(Order::Restart);
    }

    /// Stops it in good order; messages are refused until it is started again. One that does not stop in time is fenced.
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    /// Stops it in good order and forgets it; its name is free again.
    pub fn remove(&self) {
        self.order(Order::Remove);
    }

    /// Whether requests may come here: it is up, its queue is not long, and it has not said otherwise.
    pub fn is_ready(&self) -> bool {
        self.seat.cell.is_ready()
    }

    /// The life that runs now, or that ran last.
    pub fn generation(&self) -> Generation {
        self.seat.cell.generation()
    }

    /// Messages handled to their end, in all lives.
    pub fn handled(&self) -> u64 {
        self.seat.cell.handled()
    }

    /// The worker's name.
    pub fn name(&self) -> &str {
        &self.seat.name
    }

    fn order(&self, order: Order) {
        self.seat.order(Command { child: Child::Worker(self.seat.worker), order });
    }

    fn open(&self) -> Result<&AddressSender<A>, SendError> {
        if self.seat.cell.is_closed() { Err(SendError::Closed) } else { Ok(&self.seat.sender) }
    }
}

/// actix's refusal in our words; the message it gives back is dropped.
fn refused<M>(error: actix::dev::SendError<M>) -> SendError {
    match error {
        actix::dev::SendError::Full(_) => SendError::Full,
        actix::dev::SendError::Closed(_) => SendError::Closed,
    }
}

impl<A: Actor<Context = Context<A>>> Clone for WorkerAddr<A> {
    fn clone(&self) -> WorkerAddr<A> {
        WorkerAddr { seat: self.seat.clone() }
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for WorkerAddr<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerAddr").field("name", &self.seat.name).field("generation", &self.generation()).finish()
    }
}

/// The workers of a sharded group that may run on this node, one for each shard.
pub struct Shards<A: Actor<Context = Context<A>>> {
    pub(crate) name: Arc<str>,
    pub(crate) workers: Vec<WorkerAddr<A>>,
}

impl<A: Actor<Context = Context<A>>> Shards<A> {
    /// The address of shard `index` on this node; it answers [`SendError::Closed`] while another node owns the shard.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn worker(&self, index: u32) -> &WorkerAddr<A> {
        &self.workers[index as usize]
    }

    /// The addresses of all shards, in their order.
    pub fn workers(&self) -> &[WorkerAddr<A>] {
        &self.workers
    }

    /// The group's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<A: Actor<Context = Context<A>>> Clone for Shards<A> {
    fn clone(&self) -> Shards<A> {
        Shards { name: self.name.clone(), workers: self.workers.clone() }
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for Shards<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards").field("name", &self.name).field("count", &self.workers.len()).finish()
    }
}
