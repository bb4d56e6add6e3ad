//! `Receiver`: takes the beats of this process's threads and the datagrams of other nodes.
//!
//! It stamps each arrival with the time before it waits in any queue, and passes datagrams on in
//! batches. A hop between actors costs more than receiving a datagram, so it is paid once for all
//! datagrams that waited in the socket.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use futures_util::task::AtomicWaker;
use heartbeat_core::Input;
use tracing::warn;

use crate::clock::Clock;
#[cfg(any(feature = "systemd", feature = "http"))]
use crate::control::input::{Pulse, Request};
use crate::control::log::Repeated;
use crate::control::sealing::Sealing;
use crate::control::sender::{Beat, End};
use crate::control::supervisor::Supervisor;
use crate::transport::{Batch, Transport};
use crate::worker::messages::ToSupervisor;

/// How long a socket that gives errors is left alone.
const PAUSE: Duration = Duration::from_millis(100);

/// Report when no datagram is left in the socket.
pub(crate) struct Drain;

impl Message for Drain {
    type Result = ();
}

/// Receives beats and datagrams, and passes them to the supervisor.
pub(crate) struct Receiver {
    clock: Clock,
    supervisor: Addr<Supervisor>,
    transport: Option<Rc<dyn Transport>>,
    sealing: Sealing,
    question: Rc<Question>,
}

/// Whether the supervisor waits for the report that the socket is empty.
#[derive(Debug, Default)]
struct Question {
    is_asked: Cell<bool>,
    waker: AtomicWaker,
}

impl Receiver {
    pub(crate) fn new(
        clock: Clock,
        supervisor: Addr<Supervisor>,
        transport: Option<Rc<dyn Transport>>,
        sealing: Sealing,
    ) -> Receiver {
        Receiver { clock, supervisor, transport, sealing, question: Rc::default() }
    }
}

impl Actor for Receiver {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        if let Some(transport) = self.transport.clone() {
            let link = (self.supervisor.clone(), self.sealing.clone());
            context.spawn(receive(self.clock, link, transport, self.question.clone()).into_actor(self));
        }
    }
}

impl Handler<Drain> for Receiver {
    type Result = ();

    fn handle(&mut self, _: Drain, context: &mut Context<Self>) {
        if self.transport.is_none() {
            return self.supervisor.do_send(ToSupervisor::at(self.clock.now(), Input::Drained));
        }
        // The runtime's knowledge of the socket may date from before a pause of this process. After
        // a yield it has looked again.
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
        let Beat { arbiter, slot, times } = beat;
        self.supervisor.do_send(ToSupervisor::at(self.clock.now(), Input::Beat { arbiter, slot, times }));
    }
}

#[cfg(any(feature = "systemd", feature = "http"))]
impl Handler<Pulse> for Receiver {
    type Result = ();

    fn handle(&mut self, pulse: Pulse, _: &mut Context<Self>) {
        self.supervisor.do_send(Request::Pulse(pulse));
    }
}

/// Passes datagrams from the transport on in batches, until the supervisor is gone. On request it
/// reports that none is left.
async fn receive(
    clock: Clock,
    (supervisor, sealing): (Addr<Supervisor>, Sealing),
    transport: Rc<dyn Transport>,
    question: Rc<Question>,
) {
    let mut batch = Arc::new(Batch::default());
    let mut failures = Repeated::new("receive_failed");
    loop {
        failures.handle_timeout(|| clock.now());
        // Nothing else holds the batch between two of them.
        let room = Arc::make_mut(&mut batch);
        room.clear();
        let looked = std::future::poll_fn(|task| {
            question.waker.register(task.waker());
            let begun = clock.now();
            match transport.poll_receive(task, room) {
                Poll::Ready(received) => Poll::Ready(received.map(|()| begun)),
                Poll::Pending if question.is_asked.take() => {
                    supervisor.do_send(ToSupervisor::at(begun, Input::Drained));
                    Poll::Pending
                }
                Poll::Pending => Poll::Pending,
            }
        });
        match looked.await {
            Ok(begun) => {
                let (at, wall) = clock.with_wall();
                let empty_at = (!batch.is_full()).then_some(begun);
                sealing.open(Arc::make_mut(&mut batch), || at);
                let input = Input::Datagrams { batch: batch.clone(), wall: Some(wall), empty_at };
                // One batch is under way at a time. Later datagrams wait in the socket, whose
                // buffer is bounded.
                if supervisor.send(ToSupervisor::at(at, input)).await.is_err() {
                    return; // The supervisor is gone, and so is this node.
                }
            }
            Err(error) => {
                if failures.allows(clock.now()) {
                    warn!(event = "receive_failed", %error, "cannot receive datagrams; trying again");
                }
                actix_rt::time::sleep(PAUSE).await;
            }
        }
    }
}
