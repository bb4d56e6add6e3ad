//! `Counter`: the worker of one shard. It counts, writes each increment through to the store, and
//! leaves snapshots for the next owner of the shard.
//!
//! What it does before a write is what a lease is for: it looks, and an epoch goes with the write.
//! Between the check and the write it may be stopped for any time. The lease cannot help then; the
//! ledger, which compares epochs, can.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use heartbeat_actors::shard::RemoteMessage;
use heartbeat_actors::{Context, StartError, StartInfo};
use heartbeat_examples::process::unix_seconds;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::store::{Begun, Refusal, Written, client};
use crate::{RETRY, SNAPSHOT_EVERY};

/// The version of our snapshots.
const VERSION: u32 = 1;

/// One life of a shard's worker. The later is the higher, by epoch and then by generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Life {
    pub(crate) shard: u32,
    pub(crate) epoch: u64,
    pub(crate) generation: u64,
}

/// How often each key was counted.
pub(crate) type Counts = BTreeMap<String, u64>;

/// What one life leaves behind.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    life: Life,
    counts: Counts,
}

/// What the workers of one process have in common.
#[derive(Debug)]
pub(crate) struct Common {
    /// The name of their node.
    pub(crate) node: String,
    /// Where increments are written to, if they are.
    pub(crate) ledger: Option<SocketAddr>,
}

/// An increment was counted, and written if there is a ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Counted {
    pub(crate) node: String,
    pub(crate) life: Life,
    pub(crate) key: String,
    pub(crate) count: u64,
}

/// Why an increment was not acknowledged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum NotCounted {
    /// The lease is over: nothing was done.
    Fenced(String),
    /// It was counted here, and the ledger did not take it.
    Refused(Refusal),
}

impl std::fmt::Display for NotCounted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NotCounted::Fenced(fenced) => f.write_str(fenced),
            NotCounted::Refused(refusal) => refusal.fmt(f),
        }
    }
}

/// The worker of one shard.
pub(crate) struct Counter {
    common: Arc<Common>,
    counts: Counts,
    /// The life whose snapshot it began with.
    parent: Option<Life>,
    /// Why it must not count, if the ledger said so at its start.
    refusal: Option<Refusal>,
    /// Whether a snapshot is due.
    is_changed: bool,
    has_counted: bool,
}

impl Counter {
    /// A counter that continues from the last snapshot.
    pub(crate) fn new(common: &Arc<Common>, birth: &StartInfo) -> Result<Counter, StartError> {
        let found = match birth.replica() {
            Some(replica) => Some(serde_json::from_slice::<Snapshot>(replica.up_to(VERSION)?)?),
            None => None,
        };
        let (parent, counts) = found.map(|found| (found.life, found.counts)).unzip();
        let (common, counts) = (common.clone(), counts.unwrap_or_default());
        Ok(Counter { common, counts, parent, refusal: None, is_changed: false, has_counted: false })
    }

    fn replicate(&mut self, ctx: &Context<Counter>) {
        self.is_changed = false;
        let Some(life) = life(ctx) else { return };
        let result = serde_json::to_vec(&Snapshot { life, counts: self.counts.clone() })
            .map_err(|error| error.to_string())
            .and_then(|bytes| ctx.replicate(VERSION, bytes).map_err(|error| error.to_string()));
        if let Err(error) = result {
            eprintln!("error: shard {} has no snapshot: {error}", life.shard);
        }
    }

    /// Counts, if this life may. What it returns is to be written to the ledger; the worker does
    /// not wait for it, and goes on.
    fn count(&mut self, key: String, request: u64, ctx: &mut Context<Counter>) -> Result<Written, NotCounted> {
        ctx.lease().check().map_err(|fenced| NotCounted::Fenced(fenced.to_string()))?;
        if let Some(refusal) = &self.refusal {
            return Err(NotCounted::Refused(refusal.clone()));
        }
        let life = life(ctx).ok_or_else(|| NotCounted::Fenced("this worker is no shard".to_owned()))?;
        let count = self.counts.entry(key.clone()).or_default();
        *count += 1;
        let count = *count;
        if !std::mem::replace(&mut self.is_changed, true) {
            ctx.run_later(SNAPSHOT_EVERY, |counter, ctx| counter.replicate(ctx));
        }
        if !std::mem::replace(&mut self.has_counted, true) {
            let (at, process) = (unix_seconds(), &self.common.node);
            let line =
                json!({ "event": "answered", "at": at, "process": process, "shard": life.shard, "epoch": life.epoch });
            say(&line.to_string());
        }
        Ok(Written { node: self.common.node.clone(), life, key, count, request })
    }
}

/// Which life it is; none for a worker that is no shard.
fn life(ctx: &Context<Counter>) -> Option<Life> {
    let epoch = ctx.lease().epoch()?.0;
    ctx.shard().map(|shard| Life { shard: shard.index, epoch, generation: ctx.generation().0 })
}

/// Prints a line as a whole, also when others print. When the reader has gone, the leash ends as
/// well, so an error needs no handling.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Writes an increment to the ledger, if there is one.
async fn write(ledger: Option<SocketAddr>, written: Written) -> Result<Counted, NotCounted> {
    if let Some(ledger) = ledger {
        client::write(ledger, &written).await.map_err(NotCounted::Refused)?;
    }
    let Written { node, life, key, count, .. } = written;
    Ok(Counted { node, life, key, count })
}

impl Actor for Counter {
    type Context = Context<Self>;

    /// Tells the ledger that a new epoch has begun before anything is counted under it. Without
    /// that, a late write of the former owner would be let in until the first one of this owner.
    fn started(&mut self, ctx: &mut Context<Self>) {
        let (Some(ledger), Some(life)) = (self.common.ledger, life(ctx)) else { return };
        let begun = Begun { node: self.common.node.clone(), life, parent: self.parent, counts: self.counts.clone() };
        let telling = async move {
            loop {
                match client::begin(ledger, &begun).await {
                    Err(Refusal::Unreached(_)) => actix_rt::time::sleep(RETRY).await,
                    Err(refusal @ Refusal::StaleEpoch(_)) => return Some(refusal),
                    Ok(()) => return None,
                }
            }
        };
        ctx.wait(telling.into_actor(self).map(|refusal, counter, _| counter.refusal = refusal));
    }

    /// The last snapshot holds every increment counted here, so the next owner loses nothing.
    fn stopped(&mut self, ctx: &mut Context<Self>) {
        if self.refusal.is_none() {
            self.replicate(ctx);
        }
    }
}

/// Count a key.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Result<Counted, NotCounted>")]
pub(crate) struct Add {
    pub(crate) key: String,
    /// The number of the request, by which the ledger knows it again.
    pub(crate) request: u64,
}

impl RemoteMessage for Add {
    const NAME: &str = "failover.add";
}

impl Handler<Add> for Counter {
    type Result = ResponseFuture<Result<Counted, NotCounted>>;

    fn handle(&mut self, Add { key, request }: Add, ctx: &mut Context<Self>) -> Self::Result {
        let (ledger, counted) = (self.common.ledger, self.count(key, request, ctx));
        Box::pin(async move { write(ledger, counted?).await })
    }
}

/// Count a key, and let its write lie for a while before it goes out: what happens to any write now
/// and then, at a moment that can be chosen.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "Result<Counted, NotCounted>")]
pub(crate) struct Hold {
    pub(crate) key: String,
    pub(crate) request: u64,
    pub(crate) time: Duration,
}

impl RemoteMessage for Hold {
    const NAME: &str = "failover.hold";
}

impl Handler<Hold> for Counter {
    type Result = Result<Counted, NotCounted>;

    fn handle(&mut self, Hold { key, request, time }: Hold, ctx: &mut Context<Self>) -> Self::Result {
        let (ledger, written) = (self.common.ledger, self.count(key, request, ctx)?);
        let Written { node, life, key, count, .. } = written.clone();
        // In a task of its own, as in the driver of a database: the write goes out even if the
        // worker ends.
        actix_rt::spawn(async move {
            actix_rt::time::sleep(time).await;
            let _ = write(ledger, written).await; // The store reports it.
        });
        Ok(Counted { node, life, key, count })
    }
}

/// How often a key was counted.
#[derive(Message, Serialize, Deserialize)]
#[rtype(result = "u64")]
pub(crate) struct Count {
    pub(crate) key: String,
}

impl RemoteMessage for Count {
    const NAME: &str = "failover.count";
}

impl Handler<Count> for Counter {
    type Result = u64;

    fn handle(&mut self, Count { key }: Count, _: &mut Context<Self>) -> u64 {
        self.counts.get(&key).copied().unwrap_or(0)
    }
}
