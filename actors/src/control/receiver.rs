//! `Receiver`: where signs of life come in, from the threads of this process and from other nodes.
//!
//! It stamps what arrives, at the door, before it waits in any queue, and passes it on in batches:
//! a hop between actors costs more than taking a datagram in, so it is paid once for all that lay
//! in the socket.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use futures_util::task::AtomicWaker;
use heartbeat_core::Instant;
use tracing::warn;

use crate::clock::Clock;
use crate::control::sender::{Beat, End};
#[cfg(feature = "systemd")]
use crate::control::supervisor::Pulse;
use crate::control::supervisor::Supervisor;
use crate::transport::{Batch, Transport};

/// How long a socket that gives errors is left alone.
const PAUSE: Duration = Duration::from_millis(100);

/// A thread's sign of life, with the instant it came in at.
pub(crate) struct StampedBeat {
    pub(crate) at: Instant,
    pub(crate) beat: Beat,
}

impl Message for StampedBeat {
    type Result = ();
}

/// Datagrams of other nodes, with the instant they came in at; the answer gives the batch back to
/// be filled again. One that is not full was the last: the transport was found empty.
pub(crate) struct Datagrams {
    pub(crate) at: Instant,
    /// What the wall clock showed then.
    pub(crate) wall: Duration,
    pub(crate) batch: Box<Batch>,
    /// When the look was begun after which nothing was left, if nothing was.
    pub(crate) empty_at: Option<Instant>,
}

impl Message for Datagrams {
    type Result = Box<Batch>;
}

/// StatusSample whether anything is left in the socket, and say so when nothing is.
pub(crate) struct Drain;

impl Message for Drain {
    type Result = ();
}

/// Nothing was in the socket, by a look that was begun at this instant.
pub(crate) struct Drained(pub(crate) Instant);

impl Message for Drained {
    type Result = ();
}

/// Takes signs of life in.
pub(crate) struct Receiver {
    clock: Clock,
    supervisor: Addr<Supervisor>,
    transport: Option<Rc<dyn Transport>>,
    question: Rc<Question>,
}

/// Whether the supervisor waits to hear that the socket is empty.
#[derive(Debug, Default)]
struct Question {
    is_asked: Cell<bool>,
    waker: AtomicWaker,
}

impl Receiver {
    pub(crate) fn new(clock: Clock, supervisor: Addr<Supervisor>, transport: Option<Rc<dyn Transport>>) -> Receiver {
        Receiver { clock, supervisor, transport, question: Rc::default() }
    }
}

impl Actor for Receiver {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        if let Some(transport) = self.transport.clone() {
            let (supervisor, question) = (self.supervisor.clone(), self.question.clone());
            context.spawn(receive(self.clock, supervisor, transport, question).into_actor(self));
        }
    }
}

impl Handler<Drain> for Receiver {
    type Result = ();

    fn handle(&mut self, _: Drain, context: &mut Context<Self>) {
        if self.transport.is_none() {
            return self.supervisor.do_send(Drained(self.clock.now()));
        }
        // The runtime knows of the socket what it saw when it last looked, which may have been
        // before we were paused. After a yield it has looked again.
        let ask = |_, receiver: &mut Receiver, _: &mut Context<Receiver>| {
            receiver.question.is_asked.set(true);
            receiver.question.waker.wake();
        };
        context.spawn(tokio::task::yield_now().into_actor(self).map(ask));
    }
}

impl Handler<End> for Receiver {
    type Result = ();

    fn handle(&mut self, _: End, context: &mut Context<Self>) {
        context.stop();
    }
}

impl Handler<Beat> for Receiver {
    type Result = ();

    fn handle(&mut self, beat: Beat, _: &mut Context<Self>) {
        self.supervisor.do_send(StampedBeat { at: self.clock.now(), beat });
    }
}

#[cfg(feature = "systemd")]
impl Handler<Pulse> for Receiver {
    type Result = ();

    fn handle(&mut self, pulse: Pulse, _: &mut Context<Self>) {
        self.supervisor.do_send(pulse);
    }
}

/// Takes datagrams from the transport and passes them on in batches, for ever. When it is asked to,
/// it says that there are none.
async fn receive(clock: Clock, supervisor: Addr<Supervisor>, transport: Rc<dyn Transport>, question: Rc<Question>) {
    let mut batch = Box::new(Batch::default());
    loop {
        let looked = std::future::poll_fn(|task| {
            question.waker.register(task.waker());
            let begun = clock.now();
            match transport.poll_receive(task, &mut batch) {
                Poll::Ready(received) => Poll::Ready(received.map(|()| begun)),
                Poll::Pending if question.is_asked.take() => {
                    supervisor.do_send(Drained(begun));
                    Poll::Pending
                }
                Poll::Pending => Poll::Pending,
            }
        });
        match looked.await {
            Ok(begun) => {
                let (at, wall) = clock.with_wall();
                let empty_at = (!batch.is_full()).then_some(begun);
                // One batch is under way at a time; what comes meanwhile waits in the socket, whose
                // buffer is bounded.
                batch = match supervisor.send(Datagrams { at, wall, batch, empty_at }).await {
                    Ok(mut batch) => {
                        batch.clear();
                        batch
                    }
                    Err(_) => return, // The supervisor is gone, and so is this node.
                };
            }
            Err(error) => {
                warn!(%error, "cannot receive datagrams; trying again");
                actix_rt::time::sleep(PAUSE).await;
            }
        }
    }
}
