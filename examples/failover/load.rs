//! The load: clients that ask any process, and note what became of each request.
//!
//! There is a client for each shard, which has one request under way at a time. With fewer of them,
//! all would soon wait for the shards that do not answer, and the silence of the others would be
//! the clients' own. None knows where a shard runs: each request goes to a process drawn by lot
//! among those that take requests.
//!
//! Each request has a number, by which the ledger knows it again. A client sends a request again
//! only if it was told that no worker got it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use heartbeat_core::sharding::rendezvous;
use heartbeat_core::{Random, member};
use heartbeat_examples::Failure;
use heartbeat_examples::process::unix_seconds;
use tokio::sync::Notify;

use crate::counter::Counted;
use crate::losses::Acknowledged;
use crate::node::ANSWER_WITHIN;
use crate::outcome::{Outcome, Tally};
use crate::{GROUP, RETRY, http};

/// How long a client sends a request again that was refused. Then it gives it up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(20);

/// How long a process may say nothing: longer than it takes any request.
const PATIENCE: Duration = ANSWER_WITHIN.saturating_add(Duration::from_secs(2));

/// Keys of each shard.
const KEYS: usize = 4;

/// How the load is laid on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) shards: u32,
    /// How long a client rests after an answer.
    pub(crate) pause: Duration,
    /// How soon it sends a refused request again.
    pub(crate) retry: Duration,
}

impl Manner {
    /// A rate that a busy machine of two cores can bear: 1,000 requests a second at most.
    pub(crate) fn of(shards: u32) -> Manner {
        let pause = Duration::from_millis(u64::from(shards.max(50)));
        Manner { shards, pause, retry: RETRY }
    }
}

/// What the clients have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Of attempts: a request that was refused is sent again.
    pub(crate) tally: Tally,
    /// The last outcome of each request, by its number.
    pub(crate) ended: BTreeMap<u64, Outcome>,
    /// From the first attempt of each request to its last outcome.
    pub(crate) waits: Vec<Span>,
    /// Attempts that were not counted.
    pub(crate) misses: Vec<Miss>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// The last answer of each shard: when, and from which process.
    pub(crate) last: BTreeMap<u32, (f64, String)>,
    /// The times between two answers of one shard, all of them.
    pub(crate) gaps: Vec<Span>,
}

/// One attempt that was not counted.
#[derive(Clone, Debug)]
pub(crate) struct Miss {
    pub(crate) at: f64,
    pub(crate) shard: u32,
    /// The process that was asked.
    pub(crate) process: String,
    pub(crate) outcome: Outcome,
}

/// A span of time that concerns one shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) shard: u32,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Span {
    pub(crate) fn length(&self) -> f64 {
        self.to - self.from
    }
}

struct Shared {
    manner: Manner,
    is_over: AtomicBool,
    /// The processes that take requests.
    doors: Mutex<Vec<(String, SocketAddr)>>,
    /// Processes that were declared dead: no client waits for their answers.
    gone: Mutex<BTreeSet<String>>,
    has_gone: Notify,
    seen: Mutex<Seen>,
    /// Shards whose clients are not to rest before the next answer.
    hurried: Mutex<BTreeSet<u32>>,
    hurry: Notify,
}

/// Clients that run, on a thread of their own.
pub(crate) struct Load {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    keys: Vec<Vec<String>>,
}

impl Load {
    /// Starts a client for each shard.
    pub(crate) fn start(manner: Manner) -> Result<Load, Failure> {
        let keys = keys(manner.shards);
        let shared = Arc::new(Shared {
            manner,
            is_over: AtomicBool::new(false),
            doors: Mutex::default(),
            gone: Mutex::default(),
            has_gone: Notify::new(),
            seen: Mutex::default(),
            hurried: Mutex::default(),
            hurry: Notify::new(),
        });
        let (clients, all) = (shared.clone(), keys.clone());
        let thread = std::thread::Builder::new().name("load".to_owned()).spawn(move || {
            actix_rt::System::new().block_on(async move {
                let clients: Vec<_> = (0..manner.shards)
                    .zip(all)
                    .map(|(shard, keys)| actix_rt::spawn(client(clients.clone(), shard, keys)))
                    .collect();
                for client in clients {
                    if let Err(error) = client.await {
                        eprintln!("error: a client has failed: {error}");
                    }
                }
            });
        })?;
        Ok(Load { shared, thread: Mutex::new(Some(thread)), keys })
    }

    /// A process takes requests from now on.
    pub(crate) fn open(&self, name: &str, door: SocketAddr) {
        lock(&self.shared.gone).remove(name);
        let mut doors = lock(&self.shared.doors);
        doors.retain(|(old, _)| old != name);
        doors.push((name.to_owned(), door));
    }

    /// No new requests go to a process; it still answers those that it has.
    pub(crate) fn shut(&self, name: &str) {
        lock(&self.shared.doors).retain(|(old, _)| old != name);
    }

    /// A process was declared dead: no client waits for it any more.
    pub(crate) fn abandon(&self, name: &str) {
        self.shut(name);
        lock(&self.shared.gone).insert(name.to_owned());
        self.shared.has_gone.notify_waiters();
    }

    /// Has those shards asked at once, and as soon as may be again until they answer.
    pub(crate) fn hurry(&self, shards: BTreeSet<u32>) {
        *lock(&self.shared.hurried) = shards;
        self.shared.hurry.notify_waiters();
    }

    /// The results so far.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.shared.seen)
    }

    /// The shards whose last answer came from this process.
    pub(crate) fn answered_by(&self, name: &str) -> BTreeSet<u32> {
        self.seen().last.iter().filter(|(_, (_, from))| from == name).map(|(shard, _)| *shard).collect()
    }

    /// When the last of these shards had an answer that came after `since`, if all had one, and not
    /// from `gone`.
    pub(crate) fn all_answered(&self, shards: &BTreeSet<u32>, since: f64, gone: &str) -> Option<f64> {
        let seen = self.seen();
        let answer = |shard| seen.last.get(shard).filter(|(at, from)| *at > since && from != gone).map(|(at, _)| *at);
        let times = shards.iter().map(answer);
        times.collect::<Option<Vec<f64>>>().map(|times| times.into_iter().fold(since, f64::max))
    }

    /// The keys of each shard.
    pub(crate) fn keys(&self) -> &[Vec<String>] {
        &self.keys
    }

    /// Sends nothing new, and waits for what is under way.
    pub(crate) fn end(&self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        self.hurry((0..self.shared.manner.shards).collect());
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            eprintln!("error: the load has failed");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // The clients are not joined: a process they asked may be gone.
        self.shared.is_over.store(true, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keys of each shard, as the service divides them.
fn keys(shards: u32) -> Vec<Vec<String>> {
    let group = member::name_hash(GROUP);
    let mut keys = vec![Vec::new(); shards as usize];
    let mut missing = keys.len();
    for key in (0_u64..).map(|number| format!("key-{number}")) {
        let keys = &mut keys[rendezvous::shard_of(rendezvous::key_hash(group, key.as_bytes()), shards) as usize];
        if keys.len() < KEYS {
            keys.push(key);
            missing -= usize::from(keys.len() == KEYS);
        }
        if missing == 0 {
            break;
        }
    }
    keys
}

async fn client(shared: Arc<Shared>, shard: u32, keys: Vec<String>) {
    let mut lots = Random::seeded(u64::from(shard));
    // Not all at the same instant, now or later.
    actix_rt::time::sleep(lots.duration_below(shared.manner.pause)).await;
    for (number, key) in (0..).zip(keys.iter().cycle()) {
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        ask(&shared, shard, (u64::from(shard) << 32) + number, key, &mut lots).await;
        rest(&shared, shard).await;
    }
}

/// Asks for one increment, again as long as it is refused.
async fn ask(shared: &Shared, shard: u32, request: u64, key: &str, lots: &mut Random) {
    let from = unix_seconds();
    loop {
        let door = {
            let doors = lock(&shared.doors);
            (!doors.is_empty()).then(|| doors[lots.below(doors.len() as u64) as usize].clone())
        };
        let Some((process, door)) = door else {
            actix_rt::time::sleep(shared.manner.retry).await;
            continue;
        };
        lock(&shared.seen).tally.sent += 1;
        let (outcome, counted) = tokio::select! {
            answer = attempt(door, key, request) => answer,
            () = gone(shared, &process) => {
                (Outcome::Interrupted("the process that was asked was declared dead".to_owned()), None)
            }
        };
        let to = unix_seconds();
        if counted.is_some() {
            lock(&shared.hurried).remove(&shard);
        }
        let is_over = to - from > GIVE_UP_AFTER.as_secs_f64();
        let is_last = is_over || !matches!(outcome, Outcome::Refused(_));
        {
            let mut seen = lock(&shared.seen);
            seen.end(Miss { at: to, shard, process, outcome: outcome.clone() }, counted);
            if is_last {
                seen.ended.insert(request, outcome);
                seen.waits.push(Span { shard, from, to });
            }
        }
        if is_last {
            return;
        }
        actix_rt::time::sleep(shared.manner.retry).await;
    }
}

/// Asks once. The status says what came of it: see the processes' side in `node`.
async fn attempt(door: SocketAddr, key: &str, request: u64) -> (Outcome, Option<Counted>) {
    let path = format!("/add/{key}/{request}");
    let answer = match tokio::time::timeout(PATIENCE, http::ask(door, "POST", &path, &[])).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
            return (Outcome::Refused("no process takes connections there".to_owned()), None);
        }
        Ok(Err(error)) => return (Outcome::Interrupted(error.to_string()), None),
        Err(_) => return (Outcome::Unanswered, None),
    };
    let text = || String::from_utf8_lossy(&answer.body).into_owned();
    match (answer.status, serde_json::from_slice(&answer.body)) {
        (200, Ok(counted)) => (Outcome::Counted, Some(counted)),
        (409, _) => (Outcome::Declined(text()), None),
        (503, _) => (Outcome::Refused(text()), None),
        (504, _) => (Outcome::TimedOut(text()), None),
        _ => (Outcome::Interrupted(text()), None),
    }
}

/// Waits until a process is declared dead.
async fn gone(shared: &Shared, process: &str) {
    loop {
        let changed = shared.has_gone.notified();
        if lock(&shared.gone).contains(process) {
            return;
        }
        changed.await;
    }
}

/// Rests, unless the shard is in a hurry.
async fn rest(shared: &Shared, shard: u32) {
    let mut rested = std::pin::pin!(actix_rt::time::sleep(shared.manner.pause));
    loop {
        // Before the look: a shard may get into a hurry between the two.
        let hurry = shared.hurry.notified();
        if lock(&shared.hurried).contains(&shard) {
            return;
        }
        tokio::select! {
            () = &mut rested => return,
            () = hurry => {}
        }
    }
}

impl Seen {
    /// Notes how an attempt ended.
    fn end(&mut self, attempt: Miss, counted: Option<Counted>) {
        self.tally.end(&attempt.outcome);
        match counted {
            Some(counted) => self.answer(attempt.shard, counted, attempt.at),
            None => self.misses.push(attempt),
        }
    }

    fn answer(&mut self, shard: u32, counted: Counted, at: f64) {
        let Counted { node, life, key, count } = counted;
        self.acknowledged.push(Acknowledged { at, life, key, count });
        if let Some((before, _)) = self.last.insert(shard, (at, node)) {
            self.gaps.push(Span { shard, from: before, to: at });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_has_its_keys_and_no_two_share_one() {
        let all = keys(64);
        assert!(all.iter().all(|keys| keys.len() == KEYS));
        assert_eq!(all.iter().flatten().collect::<BTreeSet<_>>().len(), 64 * KEYS);
    }

    #[test]
    fn a_gap_lies_between_two_answers_of_one_shard() {
        let life = crate::counter::Life { shard: 1, epoch: 1, generation: 1 };
        let counted = || Counted { node: "a".to_owned(), life, key: "ada".to_owned(), count: 1 };
        let mut seen = Seen::default();
        for (shard, at) in [(1, 5.0), (2, 5.25), (1, 5.5), (2, 6.0)] {
            seen.answer(shard, counted(), at);
        }
        let gaps: Vec<(u32, f64)> = seen.gaps.iter().map(|gap| (gap.shard, gap.length())).collect();
        assert_eq!(gaps, [(1, 0.5), (2, 0.75)]);
    }
}
