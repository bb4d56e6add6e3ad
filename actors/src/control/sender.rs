//! The senders: one on every worker thread, whose beats show that the thread lives, and one that
//! sends the node's datagrams.
//!
//! Neither decides anything. The beat sender shares its thread with the workers, so if a worker
//! holds the thread, the beats stop. An idle worker sends nothing: the beat of its thread covers
//! it.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message};
use heartbeat_core::member::ProcessId;
use heartbeat_core::{ArbiterId, CpuTimes};
use tracing::trace;

use crate::control::receiver::Receiver;
use crate::control::sealing::Sealing;
use crate::thread::ThreadHandle;
use crate::transport::Transport;

/// The sign of life of a thread that runs workers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beat {
    pub(crate) arbiter: ArbiterId,
    /// Number of the beat, from 1.
    pub(crate) slot: u64,
    /// The CPU time of the thread so far, if the operating system reports it.
    pub(crate) times: Option<CpuTimes>,
}

impl Message for Beat {
    type Result = ();
}

/// Sends the beats of the thread it runs on.
pub(crate) struct BeatSender {
    pub(crate) arbiter: ArbiterId,
    pub(crate) interval: Duration,
    pub(crate) receiver: Addr<Receiver>,
    pub(crate) slot: u64,
    pub(crate) thread: ThreadHandle,
}

impl BeatSender {
    fn beat(&mut self, context: &mut Context<Self>) {
        if !self.thread.is_alive() {
            return context.stop();
        }
        if !self.thread.may_run() {
            return;
        }
        self.slot += 1;
        self.receiver.do_send(Beat { arbiter: self.arbiter, slot: self.slot, times: self.thread.times() });
    }
}

impl Actor for BeatSender {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.beat(context);
        context.run_interval(self.interval, BeatSender::beat);
    }
}

/// Datagrams to be sent, one after the other in one buffer.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) bytes: Vec<u8>,
    /// Where each goes, which process it is for, and how long it is.
    pub(crate) datagrams: Vec<(SocketAddr, Option<ProcessId>, usize)>,
}

impl Message for Outgoing {
    type Result = ();
}

/// This node has left: release the transport, after the datagrams sent before.
pub(crate) struct End;

impl Message for End {
    type Result = ();
}

/// Sends the node's datagrams.
pub(crate) struct NodeSender {
    pub(crate) transport: Rc<dyn Transport>,
    pub(crate) sealing: Sealing,
}

impl Actor for NodeSender {
    type Context = Context<Self>;
}

impl Handler<Outgoing> for NodeSender {
    type Result = ();

    fn handle(&mut self, outgoing: Outgoing, _: &mut Context<Self>) {
        let mut rest = &outgoing.bytes[..];
        for (to, receiver, length) in outgoing.datagrams {
            let (datagram, after) = rest.split_at(length);
            rest = after;
            self.sealing.seal(receiver, datagram, |datagram| {
                if let Err(error) = self.transport.send(to, datagram) {
                    // Lost, as any datagram may be; the next one comes in an interval.
                    trace!(event = "datagram_not_sent", %to, %error, "datagram not sent");
                }
            });
        }
    }
}

impl Handler<End> for NodeSender {
    type Result = ();

    fn handle(&mut self, _: End, context: &mut Context<Self>) {
        context.stop();
    }
}
