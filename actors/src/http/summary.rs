//! What needs attention, in one answer: the dashboard asks for nothing else while nothing else is
//! looked at.

use std::collections::BTreeMap;

use actix_web::HttpResponse;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, ServiceConfig};
use heartbeat_core::Status;
use serde::Serialize;
use serde_json::{Value, json};

use crate::http::events::Shown;
use crate::http::json::{state_key, unavailable};
use crate::http::workers::{Seen, Sort, Top, WorkerShown};
use crate::http::{Door, access};

/// Workers and members of each kind that are named.
const NAMES_MAX: usize = 20;

pub(super) fn routes(service: &mut ServiceConfig) {
    service.service(web::resource("/summary").wrap(from_fn(access::check)).route(web::get().to(summary)));
}

async fn summary(door: Data<Door>) -> HttpResponse {
    match web::block(move || shown(&door)).await {
        Ok(summary) => HttpResponse::Ok().json(summary),
        Err(_) => unavailable(),
    }
}

fn shown(door: &Door) -> Value {
    let statuses = [Status::Alive, Status::Suspect, Status::Dead, Status::Left];
    let members: BTreeMap<String, usize> =
        statuses.into_iter().map(|status| (status.to_string(), door.view.count(status))).collect();
    let mut verdicts: Vec<Shown<'static>> = door.verdicts().into_values().collect();
    verdicts.sort_by(|a, b| b.at().total_cmp(&a.at()));
    verdicts.truncate(NAMES_MAX);
    let (mut down, groups) = (Vec::new(), door.view.groups());
    for (name, _) in groups.iter().filter(|(_, group)| !group.running).take(NAMES_MAX) {
        down.push(name);
    }
    json!({
        "node": door.node_name(),
        "cluster": door.config.cluster.as_ref().map(|cluster| &cluster.name),
        "version": env!("CARGO_PKG_VERSION"),
        "up_for": door.clock.now().since_origin().as_secs_f64(),
        "live": door.live_checks(),
        "ready": door.ready_checks(),
        "members": members,
        "verdicts": verdicts,
        "groups": { "count": groups.len(), "down": down },
        "workers": WorkersShown::new(door),
        "threads_held": door.view.zombies(),
        "threads_held_max": door.config.workers.zombies_max,
        "requests": door.request_counts(),
        "limits": {
            "interval": door.config.interval.as_secs_f64(),
            "timeout": door.config.timeout.as_secs_f64(),
            "workers_timeout": door.config.workers.timeout.as_secs_f64(),
        },
    })
}

/// All workers of the node together, and those to look at.
#[derive(Serialize)]
struct WorkersShown {
    count: u64,
    states: BTreeMap<&'static str, u64>,
    queued: u64,
    capacity: u64,
    busiest: Vec<WorkerShown>,
    fullest: Vec<WorkerShown>,
    troubled: Vec<WorkerShown>,
}

impl WorkersShown {
    fn new(door: &Door) -> WorkersShown {
        let now = door.clock.now();
        let mut tops = [Sort::BusyFor, Sort::Fullness, Sort::Trouble].map(|sort| Top::new(sort, NAMES_MAX, now));
        let (mut count, mut queued, mut capacity) = (0, 0, 0);
        let mut states: BTreeMap<&'static str, u64> = BTreeMap::new();
        door.view.visit_workers(|name, worker, slot| {
            count += 1;
            *states.entry(state_key(worker.state)).or_default() += 1;
            let seen = Seen::new(name, &worker, slot.as_ref());
            queued += seen.counts().queued;
            capacity += u64::from(seen.capacity());
            for top in &mut tops {
                top.offer(&seen, |_| true);
            }
            door.give_back(slot);
        });
        let [busiest, fullest, troubled] = tops.map(Top::into_workers);
        WorkersShown { count, states, queued, capacity, busiest, fullest, troubled }
    }
}
