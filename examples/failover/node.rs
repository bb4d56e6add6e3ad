//! One process of the service: shards, and a door by which requests for any key come in.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use actix_rt::signal::unix::{SignalKind, signal};
use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use heartbeat_actors::shard::{Owner, Shards};
use heartbeat_actors::{Config, Event, Node, SendError, Update, WorkerAddr};
use heartbeat_examples::process::{unix_seconds, watch_leash};
use heartbeat_examples::{Failure, settings};
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;

use crate::counter::{Add, Common, Count, Counter, Hold, say};
use crate::{GROUP, RETRY, http};

/// The key of the metadata under which each process says where its door is.
const DOOR: &str = "http";

/// How often a request is forwarded at most. Once brings it to the owner; twice, if the shard has
/// moved meanwhile.
const HOPS_MAX: u8 = 2;

/// How long a worker of this process may take to answer, and another process.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long a process that has left goes on forwarding requests of clients that do not know it yet.
const LINGER: Duration = Duration::from_millis(300);

/// What a node says of itself on standard output, one JSON object a line.
#[derive(Serialize)]
struct Line<'a> {
    at: f64,
    process: &'a str,
    #[serde(flatten)]
    event: &'a Event,
}

/// Prints what happens.
struct Printer {
    node: String,
}

impl Actor for Printer {
    type Context = actix::Context<Self>;
}

impl Handler<Update> for Printer {
    type Result = ();

    fn handle(&mut self, update: Update, _: &mut actix::Context<Self>) {
        let (at, process) = (unix_seconds(), self.node.as_str());
        match update {
            // Each process sees all of them, and a thousand shards would have thousands of lines.
            Update::Event(Event::ShardMoved { .. } | Event::Stopped { .. }) => {}
            Update::Event(event) => match serde_json::to_string(&Line { at, process, event: &event }) {
                Ok(line) => say(&line),
                Err(error) => eprintln!("error: an event has no JSON: {error}"),
            },
            Update::Lagged { missed } => {
                say(&json!({ "at": at, "process": process, "event": "lagged", "missed": missed }).to_string());
            }
            Update::View(_) => {}
            other => eprintln!("error: an update this example does not know: {other:?}"),
        }
    }
}

/// What the handlers of requests share.
struct Door {
    shards: Shards<Counter>,
    leave: mpsc::Sender<()>,
}

/// Runs one process until a signal, a request to leave, or the end of standard input.
pub(crate) fn run(path: &Path, ledger: Option<SocketAddr>, shards: u32) -> Result<(), Failure> {
    let mut config = settings::read(path)?;
    // Before the node starts, so that its first profile says where requests go.
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let door = listener.local_addr()?;
    let Some(cluster) = &mut config.cluster else {
        return Err(format!("{} has no [cluster] table; use one as `failover demo` writes it", path.display()).into());
    };
    cluster.metadata.insert(DOOR.to_owned(), door.to_string());
    let common = Common { node: cluster.node.clone(), ledger };
    System::new().block_on(serve(config, common, listener, shards))
}

async fn serve(config: Config, common: Common, listener: std::net::TcpListener, count: u32) -> Result<(), Failure> {
    // Before anything else, so that a signal during the start is a way to end, too.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut released = watch_leash();
    let door = listener.local_addr()?;
    let name = common.node.clone();
    let node = Node::start(config).await?;
    node.subscribe(Printer { node: name.clone() }.start().recipient());
    let common = Arc::new(common);
    let shards = node.supervise_shards(GROUP, count, move |birth| Counter::new(&common, birth))?;

    let (leave, mut asked_to_leave) = mpsc::channel(1);
    let data = web::Data::new(Door { shards, leave });
    let app = move || {
        App::new()
            .app_data(data.clone())
            .route("/add/{key}", web::post().to(add))
            .route("/count/{key}", web::get().to(count_of))
            .route("/hold/{key}/{milliseconds}", web::post().to(hold))
            .route("/leave", web::post().to(leave_cluster))
    };
    let server = HttpServer::new(app).workers(1).disable_signals().shutdown_timeout(1).listen(listener)?.run();
    let handle = server.handle();
    actix_rt::spawn(server);
    let (at, address) = (unix_seconds(), node.address());
    let line = json!({ "event": "ready", "at": at, "process": name, "http": door, "address": address });
    say(&line.to_string());
    let why = tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = released.recv() => "nobody holds its leash",
        _ = asked_to_leave.recv() => "asked to",
    };
    say(&json!({ "event": "leaving", "at": unix_seconds(), "process": name, "why": why }).to_string());
    node.leave().await;
    // Others may not know of it yet.
    actix_rt::time::sleep(LINGER).await;
    handle.stop(true).await;
    Ok(())
}

/// Where a request is to be answered.
enum Place<'a> {
    Here(&'a WorkerAddr<Counter>),
    There(SocketAddr),
}

impl Door {
    fn place(&self, key: &str) -> Result<Place<'_>, String> {
        match self.shards.owner(key) {
            Ok(Owner::Here(worker)) => Ok(Place::Here(worker)),
            Ok(Owner::There(member)) => {
                let door = member.metadata.get(DOOR).and_then(|door| door.parse().ok());
                door.map(Place::There).ok_or_else(|| format!("{} does not say where its door is", member.name))
            }
            // A suspected owner of a shard is declared dead or cleared soon; until then no process
            // answers for it.
            Err(no_owner) => Err(no_owner.to_string()),
        }
    }
}

async fn add(key: web::Path<String>, request: HttpRequest, door: web::Data<Door>) -> HttpResponse {
    match door.place(&key) {
        Ok(Place::Here(worker)) => {
            let answer = worker.send(Add { key: key.into_inner() }).within(PATIENCE).await;
            match answer {
                Ok(Ok(counted)) => HttpResponse::Ok().json(counted),
                Ok(Err(refused)) => unavailable(&refused.to_string()),
                Err(error) => unserved(error),
            }
        }
        Ok(Place::There(other)) => forward(other, "POST", &request).await,
        Err(reason) => unavailable(&reason),
    }
}

async fn count_of(key: web::Path<String>, request: HttpRequest, door: web::Data<Door>) -> HttpResponse {
    match door.place(&key) {
        Ok(Place::Here(worker)) => match worker.send(Count { key: key.into_inner() }).within(PATIENCE).await {
            Ok(count) => HttpResponse::Ok().json(count),
            Err(error) => unserved(error),
        },
        Ok(Place::There(other)) => forward(other, "GET", &request).await,
        Err(reason) => unavailable(&reason),
    }
}

/// Only of a shard that runs here: the client wants this process.
async fn hold(path: web::Path<(String, u64)>, door: web::Data<Door>) -> HttpResponse {
    let (key, milliseconds) = path.into_inner();
    let time = Duration::from_millis(milliseconds);
    match door.place(&key) {
        Ok(Place::Here(worker)) => match worker.send(Hold { key, time }).within(PATIENCE).await {
            Ok(Ok(counted)) => HttpResponse::Accepted().json(counted),
            Ok(Err(refused)) => unavailable(&refused.to_string()),
            Err(error) => unserved(error),
        },
        Ok(Place::There(other)) => unavailable(&format!("the shard of {key:?} runs at {other}")),
        Err(reason) => unavailable(&reason),
    }
}

async fn leave_cluster(door: web::Data<Door>) -> HttpResponse {
    let _ = door.leave.try_send(()); // Full: it was asked already.
    HttpResponse::Accepted().finish()
}

async fn forward(to: SocketAddr, method: &str, request: &HttpRequest) -> HttpResponse {
    let hops = request.headers().get(http::HOPS).and_then(|hops| hops.to_str().ok()?.parse::<u8>().ok()).unwrap_or(0);
    if hops >= HOPS_MAX {
        return unavailable(&format!("forwarded {hops} times without finding the owner"));
    }
    match tokio::time::timeout(PATIENCE, http::ask(to, method, request.path(), hops + 1, &[])).await {
        Ok(Ok(answer)) => {
            let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
            HttpResponse::build(status).content_type("application/json").body(answer.body)
        }
        Ok(Err(error)) => unavailable(&format!("{to} does not answer: {error}")),
        Err(_) => unavailable(&format!("{to} has not answered within {PATIENCE:?}")),
    }
}

fn unserved(error: SendError) -> HttpResponse {
    unavailable(&error.to_string())
}

/// Not now; the body says when it is worth asking again.
fn unavailable(reason: &str) -> HttpResponse {
    HttpResponse::ServiceUnavailable().json(json!({ "error": reason, "retry_after_ms": RETRY.as_millis() as u64 }))
}
