//! The workers of the node, page by page.

use std::collections::BinaryHeap;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Query, ServiceConfig};
use heartbeat_core::{Cause, NotReadyReason};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::http::json::{state_key, unavailable};
use crate::http::{Door, access};
use crate::view::WorkerView;
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
}

/// A filter whose values were checked.
struct Wanted {
    filter: Filter,
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
        Ok(Wanted { filter: self, limit, busy_for })
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
struct WorkerShown {
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
    /// What it does now, and for how many seconds.
    doing: Option<String>,
    busy_for: Option<f64>,
}

impl WorkerShown {
    fn new(door: &Door, name: &Arc<str>, worker: WorkerView, slot: Option<&Arc<dyn DynSlot>>) -> WorkerShown {
        let counts = slot.map(|slot| slot.message_counts()).unwrap_or_default();
        let doing = slot.and_then(|slot| slot.cell().busy());
        let now = door.clock.now();
        WorkerShown {
            name: name.clone(),
            kind: slot.map_or("", |slot| slot.kind()),
            group: worker.group,
            state: state_key(worker.state),
            generation: worker.generation.0,
            is_ready: slot.is_some_and(|slot| slot.cell().is_ready()),
            not_ready: worker.unready,
            failures: worker.failures,
            last_cause: worker.last_cause,
            queued: counts.queued,
            capacity: slot.map_or(0, |slot| slot.capacity()),
            handled: counts.handled,
            interrupted: counts.interrupted,
            dead: counts.dead,
            rejected: counts.rejected,
            doing: doing.map(|(kind, _)| (kind.activity)().to_string()),
            busy_for: doing.map(|(_, since)| (now.max(since) - since).as_secs_f64()),
        }
    }
}

/// Orders workers by their names, for the heap that keeps the first ones.
struct ByName(WorkerShown);

impl PartialEq for ByName {
    fn eq(&self, other: &ByName) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &ByName) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByName {
    fn cmp(&self, other: &ByName) -> std::cmp::Ordering {
        self.0.name.cmp(&other.0.name)
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

/// The first workers that the filter takes, in the order of their names, and the name to go on
/// behind if there are more. However many workers there are, only a page of them is kept.
fn page(door: &Door, wanted: &Wanted) -> (Vec<WorkerShown>, Option<Arc<str>>) {
    let limit = wanted.limit;
    let mut first: BinaryHeap<ByName> = BinaryHeap::new();
    let mut is_more = false;
    door.view.visit_workers(|name, worker, slot| {
        let is_behind = first.len() == limit && first.peek().is_some_and(|last| *name >= last.0.name);
        if wanted.takes_name(name) && !(is_behind && is_more) {
            let shown = WorkerShown::new(door, name, worker, slot.as_ref());
            if wanted.takes(&shown) {
                first.push(ByName(shown));
                if first.len() > limit {
                    first.pop();
                    is_more = true;
                }
            }
        }
        door.give_back(slot);
    });
    let workers: Vec<WorkerShown> = first.into_sorted_vec().into_iter().map(|ByName(worker)| worker).collect();
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
