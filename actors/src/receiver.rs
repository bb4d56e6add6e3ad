//! `Receiver`: where signs of life come in, from the threads of this process and from other nodes.
//!
//! It stamps what arrives, at the door, before it waits in any queue, and passes it on in batches: a hop between actors costs more than taking
//! a datagram in, so it is paid once for all that lay in the socket.

use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, WrapFuture};
use heartbeat_core::Instant;
use tracing::warn;

use crate::clock::Clock;
use crate::sender::Beat;
#[cfg(feature = "systemd")]
use crate::supervisor::Pulse;
use crate::supervisor::Supervisor;
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

/// Datagrams of other nodes, with the instant they came in at; the answer gives the batch back to be filled again.
pub(crate) struct Datagrams {
    pub(crate) at: Instant,
    pub(crate) batch: Box<Batch>,
}

impl Message for Datagrams {
    type Result = Box<Batch>;
}

/// Takes signs of life in.
pub(crate) struct Receiver {
    pub(crate) clock: Clock,
    pub(crate) supervisor: Addr<Supervisor>,
    pub(crate) transport: Option<Rc<dyn Transport>>,
}

impl Actor for Receiver {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        if let Some(transport) = self.transport.clone() {
            context.spawn(receive(self.clock, self.supervisor.clone(), transport).into_actor(self));
        }
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

/// Takes datagrams from the transport and passes them on in batches, for ever.
async fn receive(clock: Clock, supervisor: Addr<Supervisor>, transport: Rc<dyn Transport>) {
    let mut batch = Box::new(Batch::default());
    loop {
        match std::future::poll_fn(|task| transport.poll_receive(task, &mut batch)).await {
            Ok(()) => {
                // One batch is under way at a time; what comes meanwhile waits in the socket, whose buffer is bounded.
                batch = match supervisor.send(Datagrams { at: clock.now(), batch }).await {
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
