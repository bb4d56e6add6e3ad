//! The ledger: the world outside the service, to which every increment is written. It stands for a
//! database.
//!
//! It does four things. It refuses writes under an epoch that is over, with a [`Fence`]: each
//! shard's owner writes its epoch there before it counts anything. It also keeps a plain copy that
//! accepts every write, to show what a fence is worth. It notes which requests were handled, and
//! how often. And it remembers from which snapshot each owner began, so that what was forgotten can
//! be told increment by increment.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::{App, HttpResponse, HttpServer, web};
use heartbeat_actors::shard::{Epoch, Fence, StaleEpoch};
use heartbeat_examples::Failure;
use heartbeat_examples::process::unix_seconds;
use serde::{Deserialize, Serialize};

use crate::counter::{Counts, Life};

/// A shard's worker is about to count.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Begun {
    pub(crate) node: String,
    pub(crate) life: Life,
    /// The life whose snapshot it began with, and what that says.
    pub(crate) parent: Option<Life>,
    pub(crate) counts: Counts,
}

/// An increment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Written {
    pub(crate) node: String,
    pub(crate) life: Life,
    pub(crate) key: String,
    pub(crate) count: u64,
    /// The number of the request that it was counted for.
    pub(crate) request: u64,
}

/// Why the ledger did not take something.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// The epoch is over.
    StaleEpoch(String),
    /// The ledger was not reached, or did not answer. It may have taken it.
    Unreached(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::StaleEpoch(text) => write!(f, "the ledger refused it: {text}"),
            Refusal::Unreached(text) => write!(f, "no word from the ledger: {text}"),
        }
    }
}

/// A write that came too late.
#[derive(Clone, Debug)]
pub(crate) struct Late {
    pub(crate) at: f64,
    pub(crate) written: Written,
    /// What the plain copy, which took it, had before.
    pub(crate) plain_before: u64,
}

/// What the ledger knows of one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Handled {
    /// How often a worker has counted for it, by the writes that arrived.
    pub(crate) times: u32,
    /// Whether a write of it was admitted.
    pub(crate) is_admitted: bool,
}

/// Accepted writes, and refused ones.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    fence: Fence<u32>,
    /// Each life, with when it began.
    pub(crate) lives: BTreeMap<Life, (f64, Begun)>,
    /// How often each key was counted, with the fence.
    pub(crate) cells: BTreeMap<(u32, String), u64>,
    /// The same without a fence: the last write wins.
    plain: BTreeMap<String, u64>,
    pub(crate) admitted: u64,
    /// By the number of the request.
    pub(crate) handled: BTreeMap<u64, Handled>,
    pub(crate) late: Vec<Late>,
    /// Who wrote first under each epoch of each shard.
    owners: BTreeMap<(u32, u64), String>,
    /// Writes of two nodes under one epoch.
    pub(crate) shared_epochs: u64,
}

impl Ledger {
    /// Records the start of a generation.
    ///
    /// # Errors
    /// [`StaleEpoch`] if a later owner has begun already.
    pub(crate) fn begin(&mut self, at: f64, begun: Begun) -> Result<(), StaleEpoch> {
        self.admit(&begun.node, begun.life)?;
        let shard = begun.life.shard;
        self.cells.retain(|(found, _), _| *found != shard);
        self.cells.extend(begun.counts.iter().map(|(key, count)| ((shard, key.clone()), *count)));
        self.lives.insert(begun.life, (at, begun));
        Ok(())
    }

    /// Records an increment; the plain copy accepts it in any case.
    ///
    /// # Errors
    /// [`StaleEpoch`] if it comes under an epoch that is over.
    pub(crate) fn write(&mut self, at: f64, written: Written) -> Result<(), StaleEpoch> {
        let plain_before = self.plain.insert(written.key.clone(), written.count).unwrap_or(0);
        let admitted = self.admit(&written.node, written.life);
        let handled = self.handled.entry(written.request).or_default();
        handled.times += 1;
        handled.is_admitted |= admitted.is_ok();
        if let Err(outdated) = admitted {
            self.late.push(Late { at, written, plain_before });
            return Err(outdated);
        }
        self.admitted += 1;
        // Two writes of one owner may overtake each other.
        let cell = self.cells.entry((written.life.shard, written.key)).or_default();
        *cell = written.count.max(*cell);
        Ok(())
    }

    /// What the plain copy has of a key.
    pub(crate) fn plain(&self, key: &str) -> u64 {
        self.plain.get(key).copied().unwrap_or(0)
    }

    fn admit(&mut self, node: &str, life: Life) -> Result<(), StaleEpoch> {
        self.fence.admit(life.shard, Epoch(life.epoch))?;
        let owner = self.owners.entry((life.shard, life.epoch)).or_insert_with(|| node.to_owned());
        self.shared_epochs += u64::from(owner != node);
        Ok(())
    }
}

/// A ledger that is served.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    ledger: Arc<Mutex<Ledger>>,
}

impl Served {
    pub(crate) fn look(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves a ledger from a thread of its own, for as long as this process runs.
pub(crate) fn serve() -> Result<Served, Failure> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let served = Served { address: listener.local_addr()?, ledger: Arc::default() };
    let shared = served.clone();
    std::thread::Builder::new().name("ledger".to_owned()).spawn(move || {
        let data = web::Data::new(shared);
        let app = move || {
            App::new()
                .app_data(data.clone())
                .route("/begin", web::post().to(begin))
                .route("/write", web::post().to(write))
        };
        let serving = async move { HttpServer::new(app).workers(1).disable_signals().listen(listener)?.run().await };
        if let Err(error) = actix_rt::System::new().block_on(serving) {
            eprintln!("error: the ledger has ended: {error}");
        }
    })?;
    Ok(served)
}

async fn begin(served: web::Data<Served>, begun: web::Json<Begun>) -> HttpResponse {
    respond(served.look().begin(unix_seconds(), begun.into_inner()))
}

async fn write(served: web::Data<Served>, written: web::Json<Written>) -> HttpResponse {
    respond(served.look().write(unix_seconds(), written.into_inner()))
}

fn respond(result: Result<(), StaleEpoch>) -> HttpResponse {
    match result {
        Ok(()) => HttpResponse::Ok().finish(),
        Err(outdated) => HttpResponse::Conflict().body(outdated.to_string()),
    }
}

/// The side of those who write.
pub(crate) mod client {
    use std::net::SocketAddr;
    use std::time::Duration;

    use serde::Serialize;

    use super::{Begun, Refusal, Written};
    use crate::http;

    /// How long the ledger may take to answer.
    const PATIENCE: Duration = Duration::from_secs(1);

    pub(crate) async fn begin(ledger: SocketAddr, begun: &Begun) -> Result<(), Refusal> {
        tell(ledger, "/begin", begun).await
    }

    pub(crate) async fn write(ledger: SocketAddr, written: &Written) -> Result<(), Refusal> {
        tell(ledger, "/write", written).await
    }

    async fn tell<T: Serialize>(ledger: SocketAddr, path: &str, what: &T) -> Result<(), Refusal> {
        let body = serde_json::to_vec(what).map_err(|error| Refusal::Unreached(error.to_string()))?;
        match tokio::time::timeout(PATIENCE, http::ask(ledger, "POST", path, &body)).await {
            Ok(Ok(answer)) if answer.status == 200 => Ok(()),
            Ok(Ok(answer)) if answer.status == 409 => {
                Err(Refusal::StaleEpoch(String::from_utf8_lossy(&answer.body).into_owned()))
            }
            Ok(Ok(answer)) => Err(Refusal::Unreached(format!("it answered with status {}", answer.status))),
            Ok(Err(error)) => Err(Refusal::Unreached(error.to_string())),
            Err(_) => Err(Refusal::Unreached(format!("it did not answer within {PATIENCE:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(epoch: u64) -> Life {
        Life { shard: 3, epoch, generation: 1 }
    }

    fn begun(node: &str, epoch: u64, count: u64) -> Begun {
        let counts = Counts::from([("ada".to_owned(), count)]);
        Begun { node: node.to_owned(), life: life(epoch), parent: None, counts }
    }

    fn written(node: &str, epoch: u64, count: u64) -> Written {
        Written { node: node.to_owned(), life: life(epoch), key: "ada".to_owned(), count, request: count }
    }

    #[test]
    fn the_fence_refuses_a_late_write_that_the_plain_copy_takes() {
        let mut ledger = Ledger::default();
        ledger.begin(0.0, begun("a", 7, 0)).unwrap();
        ledger.write(0.1, written("a", 7, 1)).unwrap();
        ledger.begin(0.2, begun("b", 9, 1)).unwrap();
        ledger.write(0.3, written("b", 9, 2)).unwrap();
        ledger.write(0.4, written("b", 9, 3)).unwrap();
        assert_eq!(ledger.write(0.5, written("a", 7, 2)).unwrap_err().newest, Epoch(9));
        assert_eq!((ledger.cells[&(3, "ada".to_owned())], ledger.plain("ada"), ledger.admitted), (3, 2, 3));
        assert_eq!((ledger.late.len(), ledger.late[0].plain_before, ledger.shared_epochs), (1, 3, 0));
        let handled = |times, is_admitted| Handled { times, is_admitted };
        assert_eq!(
            ledger.handled,
            BTreeMap::from([(1, handled(1, true)), (2, handled(2, true)), (3, handled(1, true))])
        );
        assert!(ledger.begin(0.6, begun("a", 7, 0)).is_err(), "an owner that comes too late begins nothing");
    }

    #[test]
    fn two_nodes_under_one_epoch_are_noticed() {
        let mut ledger = Ledger::default();
        ledger.begin(0.0, begun("a", 7, 0)).unwrap();
        ledger.write(0.1, written("b", 7, 1)).unwrap();
        assert_eq!(ledger.shared_epochs, 1);
    }
}
