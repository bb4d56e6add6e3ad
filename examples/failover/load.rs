//! The load: clients that ask any process, and note what became of it.
//!
//! There is a client for each shard, which has one request under way at a time and asks until it is
//! answered. With fewer of them, all would soon wait for the shards that do not answer, and the
//! silence of the others would be the clients' own. None knows where a shard runs: each request
//! goes to a process drawn by lot among those that take requests.

use std::collections::{BTreeMap, BTreeSet};
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
use crate::{GROUP, RETRY, http};

/// How long a client asks for one increment before it gives it up.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a process may take to answer before another one is asked.
pub(crate) const PATIENCE: Duration = Duration::from_millis(300);

/// Keys of each shard.
const KEYS: usize = 4;

/// How the load is laid on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) shards: u32,
    /// How long a client rests after an answer.
    pub(crate) pause: Duration,
    /// How soon it asks again for what was not served.
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
    /// Requests for an increment; each is asked for until it is answered or given up.
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    /// How often a request was not served, and was sent again.
    pub(crate) misses: Vec<Miss>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    /// The last answer of each shard: when, and from whom.
    pub(crate) last: BTreeMap<u32, (f64, String)>,
    /// The times between two answers of one shard, all of them.
    pub(crate) gaps: Vec<Gap>,
    /// Requests that were not served at once, from the first attempt to the answer.
    pub(crate) delayed: Vec<Gap>,
}

/// One attempt that was not served.
#[derive(Clone, Debug)]
pub(crate) struct Miss {
    pub(crate) at: f64,
    pub(crate) shard: u32,
    /// Who was asked.
    pub(crate) process: String,
    pub(crate) why: Why,
}

/// Why an attempt was not served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Why {
    /// The connection was refused or broken.
    Unreached,
    /// No answer in time.
    Silent,
    /// It said that it could not serve it now, and why.
    Declined(String),
}

/// A time in which a shard gave no answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap {
    pub(crate) shard: u32,
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Gap {
    pub(crate) fn length(&self) -> f64 {
        self.to - self.from
    }
}

struct Shared {
    manner: Manner,
    is_over: AtomicBool,
    /// The processes that take requests.
    doors: Mutex<Vec<(String, SocketAddr)>>,
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
        let mut doors = lock(&self.shared.doors);
        doors.retain(|(old, _)| old != name);
        doors.push((name.to_owned(), door));
    }

    /// A process takes none any more.
    pub(crate) fn shut(&self, name: &str) {
        lock(&self.shared.doors).retain(|(old, _)| old != name);
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
    for key in keys.iter().cycle() {
        if shared.is_over.load(Ordering::Relaxed) {
            return;
        }
        ask(&shared, shard, key, &mut lots).await;
        rest(&shared, shard).await;
    }
}

/// Asks for one increment until it is answered or given up.
async fn ask(shared: &Shared, shard: u32, key: &str, lots: &mut Random) {
    let from = unix_seconds();
    lock(&shared.seen).sent += 1;
    let mut is_first = true;
    while unix_seconds() - from < DEADLINE.as_secs_f64() {
        let door = {
            let doors = lock(&shared.doors);
            (!doors.is_empty()).then(|| doors[lots.below(doors.len() as u64) as usize].clone())
        };
        let Some((process, door)) = door else {
            actix_rt::time::sleep(shared.manner.retry).await;
            continue;
        };
        match attempt(door, key).await {
            Ok(counted) => {
                let to = unix_seconds();
                lock(&shared.hurried).remove(&shard);
                let mut seen = lock(&shared.seen);
                seen.answer(shard, counted, to);
                if !is_first {
                    seen.delayed.push(Gap { shard, from, to });
                }
                return;
            }
            Err(why) => lock(&shared.seen).misses.push(Miss { at: unix_seconds(), shard, process, why }),
        }
        is_first = false;
        actix_rt::time::sleep(shared.manner.retry).await;
    }
    lock(&shared.seen).failed += 1;
}

async fn attempt(door: SocketAddr, key: &str) -> Result<Counted, Why> {
    let answer = tokio::time::timeout(PATIENCE, http::ask(door, "POST", &format!("/add/{key}"), 0, &[])).await;
    let answer = answer.map_err(|_| Why::Silent)?.map_err(|_| Why::Unreached)?;
    let declined = || Why::Declined(String::from_utf8_lossy(&answer.body).into_owned());
    if answer.status != 200 {
        return Err(declined());
    }
    serde_json::from_slice(&answer.body).map_err(|_| declined())
}

/// Rests, unless the shard is in a hurry.
async fn rest(shared: &Shared, shard: u32) {
    let mut rested = std::pin::pin!(actix_rt::time::sleep(shared.manner.pause));
    while !lock(&shared.hurried).contains(&shard) {
        tokio::select! {
            () = &mut rested => return,
            () = shared.hurry.notified() => {}
        }
    }
}

impl Seen {
    fn answer(&mut self, shard: u32, counted: Counted, at: f64) {
        self.answered += 1;
        let Counted { node, life, key, count } = counted;
        self.acknowledged.push(Acknowledged { at, life, key, count });
        if let Some((before, _)) = self.last.insert(shard, (at, node)) {
            self.gaps.push(Gap { shard, from: before, to: at });
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
        assert_eq!((seen.answered, gaps), (4, vec![(1, 0.5), (2, 0.75)]));
    }
}
