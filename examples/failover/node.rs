//! One process of the service: shards, and a door by which clients send requests for any key.
//!
//! The door knows nothing of shards, owners or other processes. It sends each request by its key,
//! and answers with what came of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use actix_rt::signal::unix::{SignalKind, signal};
use actix_web::{App, HttpResponse, HttpServer, web};
use heartbeat_actors::shard::Shards;
use heartbeat_actors::{Config, Event, Node, SendError, Update};
use heartbeat_examples::process::{unix_seconds, watch_leash};
use heartbeat_examples::{Failure, settings};
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;

use crate::GROUP;
use crate::counter::{Add, Common, Count, Counted, Counter, Hold, NotCounted, say};
use crate::store::Refusal;

/// How long a client waits at this door: longer than it takes to declare a frozen process dead, to
/// wait for its session to end, and to start its shards elsewhere.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(8);

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
    let config = settings::read(path)?;
    let Some(cluster) = &config.cluster else {
        return Err(format!("{} has no [cluster] table; use one as `failover demo` writes it", path.display()).into());
    };
    let common = Common { node: cluster.node.clone(), ledger };
    System::new().block_on(serve(config, common, shards))
}

async fn serve(config: Config, common: Common, count: u32) -> Result<(), Failure> {
    // Before anything else, so that a signal during the start is a way to end, too.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut released = watch_leash();
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let door = listener.local_addr()?;
    let name = common.node.clone();
    let node = Node::start(config).await?;
    node.subscribe(Printer { node: name.clone() }.start().recipient());
    let common = Arc::new(common);
    let shards = node.supervise_shards(GROUP, count, move |start| Counter::new(&common, start))?;
    let shards = shards.accept::<Add>().accept::<Count>().accept::<Hold>();

    let (leave, mut asked_to_leave) = mpsc::channel(1);
    let data = web::Data::new(Door { shards, leave });
    let app = move || {
        App::new()
            .app_data(data.clone())
            .route("/add/{key}/{request}", web::post().to(add))
            .route("/count/{key}", web::get().to(count_of))
            .route("/hold/{key}/{request}/{milliseconds}", web::post().to(hold))
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
        _ = released.recv() => "its parent process has ended",
        _ = asked_to_leave.recv() => "asked to",
    };
    say(&json!({ "event": "leaving", "at": unix_seconds(), "process": name, "why": why }).to_string());
    node.leave().await;
    handle.stop(true).await;
    Ok(())
}

async fn add(path: web::Path<(String, u64)>, door: web::Data<Door>) -> HttpResponse {
    let (key, request) = path.into_inner();
    counted(door.shards.send(&key, Add { key: key.clone(), request }).within(ANSWER_WITHIN).await)
}

async fn hold(path: web::Path<(String, u64, u64)>, door: web::Data<Door>) -> HttpResponse {
    let (key, request, milliseconds) = path.into_inner();
    let time = Duration::from_millis(milliseconds);
    counted(door.shards.send(&key, Hold { key: key.clone(), request, time }).within(ANSWER_WITHIN).await)
}

async fn count_of(key: web::Path<String>, door: web::Data<Door>) -> HttpResponse {
    let key = key.into_inner();
    match door.shards.send(&key, Count { key: key.clone() }).within(ANSWER_WITHIN).await {
        Ok(count) => HttpResponse::Ok().json(count),
        Err(error) => unanswered(&error),
    }
}

async fn leave_cluster(door: web::Data<Door>) -> HttpResponse {
    let _ = door.leave.try_send(()); // Full: it was asked already.
    HttpResponse::Accepted().finish()
}

/// What a worker said, in terms of HTTP.
fn counted(answer: Result<Result<Counted, NotCounted>, SendError>) -> HttpResponse {
    match answer {
        Ok(Ok(counted)) => HttpResponse::Ok().json(counted),
        Ok(Err(declined @ (NotCounted::Fenced(_) | NotCounted::Refused(Refusal::StaleEpoch(_))))) => {
            HttpResponse::Conflict().body(declined.to_string())
        }
        Ok(Err(in_doubt @ NotCounted::Refused(Refusal::Unreached(_)))) => {
            HttpResponse::BadGateway().body(in_doubt.to_string())
        }
        Err(error) => unanswered(&error),
    }
}

/// The status says what the client may do: after 503 it is safe to send the request again, after
/// 502 and 504 the request may have been handled.
fn unanswered(error: &SendError) -> HttpResponse {
    let mut response = match error {
        SendError::TimedOut => HttpResponse::GatewayTimeout(),
        error if error.is_unhandled() => HttpResponse::ServiceUnavailable(),
        _ => HttpResponse::BadGateway(),
    };
    response.body(error.to_string())
}
