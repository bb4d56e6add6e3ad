//! The live suites: real actors, threads, sockets on loopback, processes and clocks.
//!
//! Only here may a test wait for real time. They assert order and facts, and bounds so generous
//! that a busy machine keeps them. They end each process they start, also when they fail.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod blocked;
mod calls;
mod cluster;
mod ends;
mod entities;
mod histories;
mod http;
mod http_hostile;
mod ipv6;
mod leave;
mod moves;
mod netns;
mod node;
mod note;
mod pieces;
mod requests;
mod seal;
mod seal_steps;
mod shards;
mod streams;
mod subscribe;
mod transport;
mod upgrade;
mod worker;

use std::future::Future;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::panic::PanicHookInfo;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix::{Actor, Handler};
use heartbeat_actors::worker::Interruption;
use heartbeat_actors::{Config, Event, Node, SendError, Update};
use tokio::sync::mpsc;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the text of a panic begins that a test has asked for.
const MEANT: &str = "told to";

/// The error for a sender whose message makes the worker panic.
fn panicked() -> SendError {
    SendError::Interrupted(Interruption::Panicked(format!("{MEANT} fail").into()))
}

/// The error for a sender whose worker was stuck.
const STUCK: SendError = SendError::Interrupted(Interruption::Blocked);

/// Runs a test within an actix system of its own.
fn live<F: Future<Output = ()>>(test: F) {
    quiet();
    actix::System::new().block_on(async {
        tokio::time::timeout(PATIENCE * 3, Box::pin(test)).await.expect("the test hangs");
    });
}

/// Keeps panics that a test has asked for out of the output.
fn quiet() {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        // The first back trace of a debug build took 130 ms on a busy machine, and all threads
        // share one lock for printing. So a printed panic would hold the thread of its worker.
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !text(info).starts_with(MEANT) {
                usual(info);
            }
        }));
    });
}

/// The seeds of a node that joins this one; without it, of a node that begins a cluster.
fn seeds(first: Option<&Node>) -> String {
    first.and_then(Node::address).map_or("[]".to_owned(), |address| format!("['{address}']"))
}

/// A free address, below the ports that the system hands out: it stays free until a test binds it.
fn free() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(64).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::from(([127, 0, 0, 1], 10_000 + (number % 20_000) as u16));
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

fn text<'a>(info: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = info.payload();
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("")
}

/// The config of most tests: one worker thread, quick to notice, slow enough for a busy machine.
/// `stall` is shorter than the silence that condemns a thread, so that a pause of the whole process
/// condemns none.
fn config() -> Config {
    Config::from_toml(
        "stall = '300ms'
         [workers]
         arbiters = 1
         interval = '50ms'
         timeout = '600ms'
         [restart]
         intensity = 1000
         delay_min = '10ms'
         delay_max = '20ms'",
    )
    .unwrap()
}

/// Passes all updates on.
struct Ear(mpsc::UnboundedSender<Update>);

impl Actor for Ear {
    type Context = actix::Context<Self>;
}

impl Handler<Update> for Ear {
    type Result = ();

    fn handle(&mut self, update: Update, _: &mut Self::Context) {
        let _ = self.0.send(update); // The test may be over.
    }
}

/// What a node has told so far, and what it will.
struct Events(mpsc::UnboundedReceiver<Update>);

impl Events {
    fn of(node: &Node) -> Events {
        let (sender, receiver) = mpsc::unbounded_channel();
        node.subscribe(Ear(sender).start().recipient());
        Events(receiver)
    }

    /// The next update.
    async fn next(&mut self) -> Update {
        tokio::time::timeout(PATIENCE, self.0.recv()).await.expect("no update comes").expect("the node is gone")
    }

    /// Takes the events that have come so far.
    fn take(&mut self) -> Vec<Event> {
        let updates = std::iter::from_fn(|| self.0.try_recv().ok());
        let event = |update| if let Update::Event(event) = update { Some(event) } else { None };
        updates.filter_map(event).collect()
    }

    /// Waits for an event that `wanted` picks something from.
    async fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        let found = async {
            loop {
                if let Update::Event(event) = self.next().await
                    && let Some(found) = wanted(&event)
                {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
    }
}
