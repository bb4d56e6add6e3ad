//! The control port: one line asks, one line of JSON answers.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::PoisonError;
use std::time::Duration;

use heartbeat_actors::Node;
use heartbeat_examples::process::unix_seconds;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::node::Verdicts;
use crate::{Failure, processes};

/// Longest request, in bytes.
const REQUEST_BYTES_MAX: u64 = 256;

/// The pause after a connection could not be taken: where no descriptor is left, the next attempt
/// would fail at once, and the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a node can be asked.
pub(crate) enum Request {
    Status,
    /// Let the worker "counter" panic.
    Panic,
    /// Let the worker "encoder" block its thread.
    Block(Duration),
    /// Drop what comes from this address.
    Deafen(SocketAddr),
    /// Drop nothing any more.
    Hear,
    Leave,
}

impl Request {
    fn parse(line: &str) -> Result<Request, String> {
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("status"), None, None) => Ok(Request::Status),
            (Some("panic"), None, None) => Ok(Request::Panic),
            (Some("leave"), None, None) => Ok(Request::Leave),
            (Some("hear"), None, None) => Ok(Request::Hear),
            (Some("deafen"), Some(address), None) => {
                address.parse().map(Request::Deafen).map_err(|error| format!("{address:?}: {error}"))
            }
            (Some("block"), Some(duration), None) => humantime::parse_duration(duration)
                .map(Request::Block)
                .map_err(|error| format!("{duration:?}: {error}")),
            _ => {
                Err(format!("{line:?} is no request; use status, panic, block DURATION, deafen ADDRESS, hear or leave"))
            }
        }
    }
}

/// A request and where its answer goes.
pub(crate) type Asked = (Request, oneshot::Sender<Value>);

/// Takes connections and passes their requests on, one connection at a time.
pub(crate) async fn serve(listener: TcpListener, requests: mpsc::Sender<Asked>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // A connection without a request must not keep the others out.
        let _ = tokio::time::timeout(PATIENCE, answer(stream, &requests)).await;
    }
}

async fn answer(stream: tokio::net::TcpStream, requests: &mpsc::Sender<Asked>) -> std::io::Result<()> {
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(stream);
    (&mut reader).take(REQUEST_BYTES_MAX).read_line(&mut line).await?;
    let reply = match Request::parse(line.trim()) {
        Err(error) => json!({ "ok": false, "error": error }),
        Ok(request) => {
            let (sender, receiver) = oneshot::channel();
            match requests.send((request, sender)).await {
                Ok(()) => receiver.await.unwrap_or_else(|_| json!({ "ok": false, "error": "the node is leaving" })),
                Err(_) => json!({ "ok": false, "error": "the node is leaving" }),
            }
        }
    };
    let stream = reader.get_mut();
    stream.write_all(reply.to_string().as_bytes()).await?;
    stream.write_all(b"\n").await
}

/// What a node knows, as JSON.
pub(crate) async fn describe(node: &Node, verdicts: &Verdicts) -> Value {
    let verdicts: Vec<Value> = verdicts.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
    let view = node.view();
    let snapshot = view.snapshot();
    let counters = node.counters().await;
    let neighbourhood = node.neighbourhood().await;
    let watched: Vec<Value> = neighbourhood
        .watched
        .iter()
        .map(|(name, silent_for)| json!({ "node": &**name, "silent_for": silent_for.as_secs_f64() }))
        .collect();
    let workers: Vec<Value> = view
        .workers()
        .into_iter()
        .map(|(name, worker)| {
            json!({
                "name": &*name, "generation": worker.generation.0, "state": worker.state.to_string(),
                "failures": worker.failures, "last_cause": worker.last_cause.map(|cause| cause.to_string()),
            })
        })
        .collect();
    let shards: Vec<Value> = snapshot
        .shards
        .iter()
        .map(|owned| json!({ "shard": format!("{}/{}", owned.group, owned.shard.index), "epoch": owned.shard.epoch, "owner": &*owned.owner }))
        .collect();
    json!({
        "node": node.config().cluster.as_ref().map(|cluster| cluster.node.clone()),
        "members": snapshot.members,
        "observers": neighbourhood.observers.iter().map(|name| &**name).collect::<Vec<_>>(),
        "watched": watched,
        "health": neighbourhood.health,
        "verdicts": verdicts,
        "address": node.address(),
        "shards": shards,
        "workers": workers,
        "datagrams": {
            "sent": counters.sent, "received": counters.received, "malformed": counters.malformed,
            "wrong_version": counters.wrong_version, "wrong_cluster": counters.wrong_cluster,
        },
    })
}

/// Asks a node one thing.
pub(crate) fn ask(address: SocketAddr, request: &str) -> Result<Value, Failure> {
    let failed = |error: std::io::Error| format!("no answer at {address}: {error}; is the node running?");
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    writeln!(stream, "{request}").map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(failed)?;
    let value: Value = serde_json::from_str(&line).map_err(|error| format!("{address} gave no JSON: {error}"))?;
    match value.get("error").and_then(Value::as_str) {
        Some(error) => Err(format!("{address} refused: {error}").into()),
        None => Ok(value),
    }
}

/// Prints what a node knows.
pub(crate) fn status(node: &str, json: bool) -> Result<(), Failure> {
    let address = match node.parse() {
        Ok(address) => address,
        Err(_) => processes::find(node)?.control,
    };
    let value = ask(address, "status")?;
    if json {
        println!("{value}");
        return Ok(());
    }
    let text = |value: &Value, key: &str| match &value[key] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let rows = |key: &str| value[key].as_array().cloned().unwrap_or_default();
    println!("{} knows", text(&value, "node"));
    println!("\n  {:12} {:8} {:8} {:22} incarnation", "member", "role", "status", "address");
    for member in rows("members") {
        let [name, role, status, address] = ["name", "role", "status", "address"].map(|key| text(&member, key));
        let incarnation = &member["incarnation"];
        println!(
            "  {name:12} {role:8} {status:8} {address:22} {}.{}",
            incarnation["returns"], incarnation["refutations"]
        );
    }
    let names = |values: Vec<Value>| values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    println!("\n  local health {} (0 is well, 8 the worst)", value["health"]);
    println!("  observed by  {}", names(rows("observers")));
    println!("\n  {:12} silent for", "watches");
    for link in rows("watched") {
        println!("  {:12} {:.3} s", text(&link, "node"), link["silent_for"].as_f64().unwrap_or_default());
    }
    let verdicts = rows("verdicts");
    if !verdicts.is_empty() {
        println!("\n  latest verdicts of its own, and what they rest on");
    }
    for verdict in &verdicts {
        println!("  {}", in_words(verdict));
    }
    println!("\n  {:12} {:12} epoch", "shard", "owner");
    for shard in rows("shards") {
        println!("  {:12} {:12} {}", text(&shard, "shard"), text(&shard, "owner"), text(&shard, "epoch"));
    }
    println!("\n  {:12} {:20} {:6} {:9} last cause", "worker", "state", "life", "failures");
    for worker in rows("workers").iter().filter(|worker| worker["generation"] != 0) {
        let [name, state, life, failures] = ["name", "state", "generation", "failures"].map(|key| text(worker, key));
        println!("  {name:12} {state:20} {life:6} {failures:9} {}", text(worker, "last_cause"));
    }
    println!("\n  datagrams: {}", value["datagrams"]);
    Ok(())
}

/// A verdict with its evidence, in words.
fn in_words(verdict: &Value) -> String {
    let ago = unix_seconds() - verdict["at"].as_f64().unwrap_or_default();
    let what = if verdict["event"] == "died" { "dead" } else { "suspect" };
    let evidence = verdict["evidence"].as_array().map_or(&[][..], Vec::as_slice);
    let said = evidence.iter().map(|one| {
        let name = one["observer"].as_str().unwrap_or("?");
        let heard = match one["silent_for"].as_f64() {
            _ if one["refused"] == true => "found nobody at its address".to_owned(),
            Some(seconds) => format!("has not heard it for {seconds:.3} s"),
            None => "could not reach it".to_owned(),
        };
        let health =
            one["health"].as_u64().filter(|health| *health > 0).map(|health| format!(" (local health {health})"));
        format!("{name} {heard}{}", health.unwrap_or_default())
    });
    format!(
        "{} {what} {ago:.1} s ago: {}",
        verdict["node"].as_str().unwrap_or("?"),
        said.collect::<Vec<_>>().join("; ")
    )
}
