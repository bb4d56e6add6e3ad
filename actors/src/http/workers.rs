//! The workers of the node, page by page.

use std::cell::OnceCell;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Query, ServiceConfig};
use heartbeat_core::{Cause, Instant, NotReadyReason};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::http::json::{state_key, unavailable};
use crate::http::{Door, access};
use crate::view::{WorkerState, WorkerView};
use crate::worker::mailbox::MessageCounts;
use crate::worker::slot::DynSlot;

/// Workers on a page, unless the request says otherwise.
const LIMIT: usize = 1_000;

/// Workers on a page at most.
const LIMIT_MAX: usize = 10_000;

/// The states that `?state=` takes.
const STATES: [&str; 6] = ["starting", "up", "stopped", "waiting", "given_up", "elsewhere"];

pub(super) fn routes(service: &mut ServiceConfig) {
    service.service(web::resource("/workers").wrap(from_fn(access::check)).route(web::get().to(workers)));
}

/// Which workers come first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// The order of the names.
    Name,
    /// Those with most messages in the queue or in hand.
    Queued,
    /// Those whose queue is fullest.
    Fullness,
    /// Those that have been at work for longest.
    BusyFor,
    /// Those that have failed most often.
    Failures,
    /// Those that do not serve: given up, then waiting for a restart, then not ready.
    Trouble,
}

/// What `?sort=` takes.
const SORTS: [(&str, Sort); 6] = [
    ("name", Sort::Name),
    ("queued", Sort::Queued),
    ("fullness", Sort::Fullness),
    ("busy_for", Sort::BusyFor),
    ("failures", Sort::Failures),
    ("trouble", Sort::Trouble),
];

/// A worker that is looked at.
pub(super) struct Seen<'a> {
    name: &'a Arc<str>,
    worker: &'a WorkerView,
    slot: Option<&'a Arc<dyn DynSlot>>,
    /// Read once, and only if it is needed.
    counts: OnceCell<MessageCounts>,
}

impl<'a> Seen<'a> {
    pub(super) fn new(name: &'a Arc<str>, worker: &'a WorkerView, slot: Option<&'a Arc<dyn DynSlot>>) -> Seen<'a> {
        Seen { name, worker, slot, counts: OnceCell::new() }
    }

    /// Its messages; all zero if it was removed meanwhile.
    pub(super) fn counts(&self) -> &MessageCounts {
        self.counts.get_or_init(|| self.slot.map(|slot| slot.message_counts()).unwrap_or_default())
    }

    /// How many messages its queue takes.
    pub(super) fn capacity(&self) -> u32 {
        self.slot.map_or(0, |slot| slot.capacity())
    }
}

impl Sort {
    /// Workers of a higher rank come first; of one rank, those with the lower name.
    fn rank(self, now: Instant, seen: &Seen<'_>) -> f64 {
        match self {
            Sort::Name => 0.0,
            Sort::Queued => seen.counts().queued as f64,
            Sort::Fullness => seen.counts().queued as f64 / f64::from(seen.capacity().max(1)),
            // One that is at work at all comes before those that are not.
            Sort::BusyFor => seen
                .slot
                .and_then(|slot| slot.cell().busy())
                .map_or(0.0, |(_, since)| (now.max(since) - since).as_secs_f64() + f64::MIN_POSITIVE),
            Sort::Failures => seen.worker.failures as f64,
            Sort::Trouble => match seen.worker.state {
                WorkerState::GivenUp => 3.0,
                WorkerState::Waiting(_) => 2.0,
                WorkerState::Starting | WorkerState::Up => f64::from(u8::from(seen.worker.unready.is_some())),
                WorkerState::Stopped | WorkerState::Elsewhere => 0.0,
            },
        }
    }
}

/// The first workers in an order; however many are offered, only these are kept.
pub(super) struct Top {
    sort: Sort,
    /// One instant for all, so that their times can be compared.
    now: Instant,
    limit: usize,
    kept: BinaryHeap<Ranked>,
    /// Whether there was one more than are kept.
    is_more: bool,
}

impl Top {
    pub(super) fn new(sort: Sort, limit: usize, now: Instant) -> Top {
        Top { sort, now, limit, kept: BinaryHeap::new(), is_more: false }
    }

    /// Offers a worker. It is put together only if it may be among the first, and kept if `takes`
    /// it. In another order than that of names, those of rank zero are left out.
    pub(super) fn offer(&mut self, seen: &Seen<'_>, takes: impl FnOnce(&WorkerShown) -> bool) {
        let rank = self.sort.rank(self.now, seen);
        if rank <= 0.0 && self.sort != Sort::Name {
            return;
        }
        let last = self.kept.peek().filter(|_| self.kept.len() == self.limit);
        let is_behind = last.is_some_and(|last| last.cmp_to(rank, seen.name) == Ordering::Less);
        if is_behind && (self.is_more || self.sort != Sort::Name) {
            return;
        }
        let shown = WorkerShown::new(self.now, seen);
        if takes(&shown) {
            self.kept.push(Ranked { rank, worker: shown });
            if self.kept.len() > self.limit {
                self.kept.pop();
                self.is_more = true;
            }
        }
    }

    /// The workers in their order.
    pub(super) fn into_workers(self) -> Vec<WorkerShown> {
        self.kept.into_sorted_vec().into_iter().map(|ranked| ranked.worker).collect()
    }
}

/// Which workers are asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    state: Option<String>,
    kind: Option<String>,
    group: Option<String>,
    prefix: Option<String>,
    /// Only names behind this one: the `next` of the page before.
    after: Option<String>,
    limit: Option<String>,
    /// Only workers that are at work for at least this many seconds.
    busy_for: Option<String>,
    /// Which ones come first.
    sort: Option<String>,
}

/// A filter whose values were checked.
struct Wanted {
    filter: Filter,
    sort: Sort,
    limit: usize,
    busy_for: Option<f64>,
}

impl Filter {
    /// Checks the values. The error names the wrong one, and what would be right.
    fn check(self) -> Result<Wanted, String> {
        if let Some(state) = self.state.as_deref().filter(|state| !STATES.contains(state)) {
            return Err(format!("state {state:?} is none; use one of {}", STATES.join(", ")));
        }
        let limit = match self.limit.as_deref().map(str::parse) {
            None => LIMIT,
            Some(Ok(limit)) if (1..=LIMIT_MAX).contains(&limit) => limit,
            Some(_) => {
                let limit = self.limit.unwrap_or_default();
                return Err(format!("limit {limit} is out of range; use 1 to {LIMIT_MAX}"));
            }
        };
        let busy_for = match self.busy_for.as_deref().map(str::parse) {
            None => None,
            Some(Ok(seconds)) if (0.0..=1e9).contains(&seconds) => Some(seconds),
            Some(_) => {
                let seconds = self.busy_for.unwrap_or_default();
                return Err(format!("busy_for {seconds} is out of range; use seconds, 0 or more"));
            }
        };
        let sort = match self.sort.as_deref() {
            None => Sort::Name,
            Some(word) => match SORTS.iter().find(|(key, _)| *key == word) {
                Some((_, sort)) => *sort,
                None => {
                    let words: Vec<&str> = SORTS.iter().map(|(key, _)| *key).collect();
                    return Err(format!("sort {word:?} is none; use one of {}", words.join(", ")));
                }
            },
        };
        if sort != Sort::Name && self.after.is_some() {
            return Err("after goes on in the order of names; leave it or sort out".to_owned());
        }
        Ok(Wanted { filter: self, sort, limit, busy_for })
    }
}

impl Wanted {
    fn takes(&self, worker: &WorkerShown) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        let Filter { state, kind, group, .. } = &self.filter;
        is(state, worker.state)
            && is(kind, worker.kind)
            && is(group, worker.group.as_deref().unwrap_or_default())
            && self.busy_for.is_none_or(|seconds| worker.busy_for.is_some_and(|busy| busy >= seconds))
    }

    /// Whether a name may be on the page.
    fn takes_name(&self, name: &str) -> bool {
        self.filter.after.as_deref().is_none_or(|after| name > after)
            && self.filter.prefix.as_deref().is_none_or(|prefix| name.starts_with(prefix))
    }
}

/// A worker of this node.
#[derive(Serialize)]
pub(super) struct WorkerShown {
    name: Arc<str>,
    /// The type of its actor; empty if it was removed meanwhile.
    kind: &'static str,
    group: Option<Arc<str>>,
    state: &'static str,
    generation: u64,
    is_ready: bool,
    not_ready: Option<NotReadyReason>,
    failures: u64,
    last_cause: Option<Box<Cause>>,
    /// Messages in its queue, or in hand.
    queued: u64,
    capacity: u32,
    handled: u64,
    interrupted: u64,
    dead: u64,
    rejected: u64,
    /// Messages whose handler has returned, and whose answer is under way.
    answering: u64,
    /// Whether it waits for a future before it takes the next message.
    is_waiting: bool,
    /// What it does now, and for how many seconds.
    doing: Option<String>,
    busy_for: Option<f64>,
}

impl WorkerShown {
    fn new(now: Instant, seen: &Seen<'_>) -> WorkerShown {
        let (Seen { name, worker, slot, .. }, counts) = (seen, seen.counts());
        let doing = slot.and_then(|slot| slot.cell().busy());
        WorkerShown {
            name: Arc::clone(name),
            kind: slot.map_or("", |slot| slot.kind()),
            group: worker.group.clone(),
            state: state_key(worker.state),
            generation: worker.generation.0,
            is_ready: slot.is_some_and(|slot| slot.cell().is_ready()),
            not_ready: worker.unready,
            failures: worker.failures,
            last_cause: worker.last_cause.clone(),
            queued: counts.queued,
            capacity: seen.capacity(),
            handled: counts.handled,
            interrupted: counts.interrupted,
            dead: counts.dead,
            rejected: counts.rejected,
            answering: counts.answering,
            is_waiting: slot.is_some_and(|slot| slot.cell().is_waiting()),
            doing: doing.map(|(kind, _)| (kind.activity)().to_string()),
            busy_for: doing.map(|(_, since)| (now.max(since) - since).as_secs_f64()),
        }
    }
}

/// A worker with its rank, for the heap whose top is the last of those that are kept.
struct Ranked {
    rank: f64,
    worker: WorkerShown,
}

impl Ranked {
    /// Less if this one comes before a worker of this rank and name.
    fn cmp_to(&self, rank: f64, name: &Arc<str>) -> Ordering {
        rank.total_cmp(&self.rank).then_with(|| self.worker.name.cmp(name))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Ranked) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> Ordering {
        self.cmp_to(other.rank, &other.worker.name)
    }
}

async fn workers(door: Data<Door>, filter: Result<Query<Filter>, actix_web::Error>) -> HttpResponse {
    let filter = match filter {
        Ok(filter) => filter.into_inner(),
        Err(error) => return bad_request(&error.to_string()),
    };
    let wanted = match filter.check() {
        Ok(wanted) => wanted,
        Err(error) => return bad_request(&error),
    };
    match web::block(move || page(&door, &wanted)).await {
        Ok((workers, next)) => HttpResponse::Ok().json(json!({ "workers": workers, "next": next })),
        Err(_) => unavailable(),
    }
}

fn bad_request(error: &str) -> HttpResponse {
    HttpResponse::BadRequest().json(json!({ "error": error }))
}

/// The first workers that the filter takes, and the name to go on behind if there are more in the
/// order of names. However many workers there are, only a page of them is kept.
fn page(door: &Door, wanted: &Wanted) -> (Vec<WorkerShown>, Option<Arc<str>>) {
    let mut top = Top::new(wanted.sort, wanted.limit, door.clock.now());
    door.view.visit_workers(|name, worker, slot| {
        if wanted.takes_name(name) {
            top.offer(&Seen::new(name, &worker, slot.as_ref()), |shown| wanted.takes(shown));
        }
        door.give_back(slot);
    });
    let is_more = top.is_more && wanted.sort == Sort::Name;
    let workers = top.into_workers();
    let next = workers.last().filter(|_| is_more).map(|worker| worker.name.clone());
    (workers, next)
}

impl Door {
    /// Drops a slot that was looked at. The last reference runs code of the application when it is
    /// dropped, so that happens on a thread of its own.
    pub(super) fn give_back(&self, slot: Option<Arc<dyn DynSlot>>) {
        if let Some(slot) = slot.filter(|slot| Arc::strong_count(slot) == 1) {
            self.control.drop_queue.clone().run(move || drop(slot));
        }
    }
}
