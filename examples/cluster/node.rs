//! One node of the example cluster: a process with a few workers that can be told to fail.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use actix_rt::signal::unix::{SignalKind, signal};
use heartbeat_actors::transport::Transport;
use heartbeat_actors::{Config, Context, Event, Node, Update, WorkerAddr};
use heartbeat_examples::process::{unix_seconds, watch_leash};
use heartbeat_examples::settings;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::Failure;
use crate::control::{self, Request};
use crate::one_way_link::{Deaf, Unheard};

/// The sharded group of the example, and into how many shards it is divided.
pub(crate) const GROUP: &str = "orders";
pub(crate) const SHARDS: u32 = 12;

/// A worker that does nothing by itself and fails when told to.
pub(crate) struct Clerk;

impl Actor for Clerk {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Panic;

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Block(pub(crate) Duration);

impl Handler<Panic> for Clerk {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Context<Self>) {
        panic!("told to panic");
    }
}

impl Handler<Block> for Clerk {
    type Result = ();

    fn handle(&mut self, block: Block, _: &mut Context<Self>) {
        std::thread::sleep(block.0);
    }
}

/// What a node says of itself on standard output, one JSON object a line.
#[derive(Serialize)]
struct Line<'a> {
    /// Seconds since 1970, so that lines of several processes can be put in order.
    at: f64,
    process: &'a str,
    #[serde(flatten)]
    what: What<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum What<'a> {
    Ready { event: &'static str, control: SocketAddr, address: Option<SocketAddr>, pid: u32 },
    Event(&'a Event),
    Lagged { event: &'static str, missed: u64 },
}

/// The latest verdicts that a node reached itself, each with its evidence, the newest last.
pub(crate) type Verdicts = Arc<Mutex<VecDeque<serde_json::Value>>>;

/// How many of them are kept.
const VERDICTS_MAX: usize = 8;

struct Printer {
    node: Arc<str>,
    json: bool,
    verdicts: Verdicts,
}

impl Printer {
    /// Keeps a verdict for later status requests; a verdict that arrived by gossip has no evidence.
    fn keep(&self, event: &Event) {
        let (Event::Suspected { evidence, .. } | Event::Died { evidence, .. }) = event else { return };
        if evidence.is_empty() {
            return;
        }
        let line = Line { at: unix_seconds(), process: &self.node, what: What::Event(event) };
        let Ok(verdict) = serde_json::to_value(&line) else { return };
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        if verdicts.len() == VERDICTS_MAX {
            verdicts.pop_front();
        }
        verdicts.push_back(verdict);
    }

    fn print(&self, what: What<'_>) {
        let at = unix_seconds();
        if self.json {
            match serde_json::to_string(&Line { at, process: &self.node, what }) {
                Ok(line) => println!("{line}"),
                Err(error) => eprintln!("error: an event has no JSON: {error}"),
            }
        } else if let What::Event(event) = what {
            println!("{at:.3}  {}  {event:?}", self.node);
        }
    }
}

impl Actor for Printer {
    type Context = actix::Context<Self>;
}

impl Handler<Update> for Printer {
    type Result = ();

    fn handle(&mut self, update: Update, _: &mut actix::Context<Self>) {
        match update {
            Update::Event(event) => {
                self.keep(&event);
                self.print(What::Event(&event));
            }
            Update::Lagged { missed } => self.print(What::Lagged { event: "lagged", missed }),
            Update::View(_) => {}
            other => eprintln!("error: an update this example does not know: {other:?}"),
        }
    }
}

/// How a node behaves as a process.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    /// Whether it prints JSON.
    pub(crate) json: bool,
    /// Whether it ends when standard input does.
    pub(crate) leash: bool,
}

/// Runs one node until a signal, its control port, or (on a leash) the end of standard input ends
/// it.
pub(crate) fn run(path: &Path, control: SocketAddr, record: Option<PathBuf>, manner: Manner) -> Result<(), Failure> {
    let config = settings::read(path)?;
    let Some(cluster) = &config.cluster else {
        return Err(
            format!("{} has no [cluster] table; see `heartbeat-core`'s default.toml for one", path.display()).into()
        );
    };
    settings::tell_panics_but_those_of_workers();
    let name: Arc<str> = cluster.node.as_str().into();
    System::new().block_on(serve(config, name, control, record, manner))
}

async fn serve(
    config: Config,
    name: Arc<str>,
    control: SocketAddr,
    record: Option<PathBuf>,
    manner: Manner,
) -> Result<(), Failure> {
    // Before anything else, so that a signal during the start is a way to end, too.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = tokio::net::TcpListener::bind(control)
        .await
        .map_err(|error| format!("cannot answer at {control}: {error}; choose another --control address"))?;
    let control = listener.local_addr()?;
    let unheard = Unheard::default();
    let (listen, muffled) = (config.cluster.as_ref().map(|cluster| cluster.listen), unheard.clone());
    let bind = move || listen.map(|listen| Ok(Rc::new(Deaf::bind(listen, muffled)?) as Rc<dyn Transport>)).transpose();
    let node = Node::start_on(config, bind).await?;
    if let Some(folder) = record {
        node.record(&folder).map_err(|error| format!("cannot record into {}: {error}", folder.display()))?;
    }
    let verdicts = Verdicts::default();
    let printer = Printer { node: name, json: manner.json, verdicts: verdicts.clone() };
    printer.print(What::Ready { event: "ready", control, address: node.address(), pid: std::process::id() });
    node.subscribe(printer.start().recipient());

    let counter: WorkerAddr<Clerk> = node.supervise("counter", || Clerk)?;
    let encoder: WorkerAddr<Clerk> = node.supervise("encoder", || Clerk)?;
    node.supervise_shards(GROUP, SHARDS, |_| Ok(Clerk))?;

    let (requests, mut requested) = mpsc::channel(16);
    actix_rt::spawn(control::serve(listener, requests));
    let mut released = if manner.leash { watch_leash() } else { never() };
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = released.recv() => break,
            Some((request, reply)) = requested.recv() => {
                let answer = match request {
                    Request::Status => control::describe(&node, &verdicts).await,
                    Request::Panic => told(counter.try_send(Panic).map_err(|refused| refused.error)),
                    Request::Block(duration) => told(encoder.try_send(Block(duration)).map_err(|refused| refused.error)),
                    Request::Deafen(address) => {
                        unheard.lock().unwrap_or_else(PoisonError::into_inner).insert(address);
                        told(Ok(()))
                    }
                    Request::Hear => {
                        unheard.lock().unwrap_or_else(PoisonError::into_inner).clear();
                        told(Ok(()))
                    }
                    Request::Leave => {
                        node.leave().await;
                        let _ = reply.send(told(Ok(()))); // The client may be gone already.
                        // Time for the answer to get from its task to the client.
                        actix_rt::time::sleep(Duration::from_millis(50)).await;
                        return Ok(());
                    }
                };
                let _ = reply.send(answer); // The client may be gone already.
            }
        }
    }
    node.leave().await;
    Ok(())
}

fn told(result: Result<(), heartbeat_actors::SendError>) -> serde_json::Value {
    match result {
        Ok(()) => serde_json::json!({ "ok": true }),
        Err(error) => serde_json::json!({ "ok": false, "error": error.to_string() }),
    }
}

/// Receives nothing, ever.
fn never() -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel(1);
    std::mem::forget(sender);
    receiver
}
