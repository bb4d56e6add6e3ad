//! Liveness, readiness and startup, each a list of checks with their reasons.

use std::sync::atomic::Ordering;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, Data, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;

use crate::http::Door;
use crate::view::WorkerState;

/// Groups and workers that one check names.
const NAMES_MAX: usize = 10;

/// Something that must hold.
#[derive(Serialize)]
pub(super) struct Check {
    name: &'static str,
    holds: bool,
    /// Why it holds or not, for a person.
    reason: String,
}

impl Check {
    fn new(name: &'static str, holds: bool, reason: impl Into<String>) -> Check {
        Check { name, holds, reason: reason.into() }
    }
}

type Checks = fn(&Door) -> Vec<Check>;

/// `/livez`, `/readyz` and `/startupz`. They ask for no token: an orchestrator has none.
pub(super) fn routes(service: &mut ServiceConfig) {
    let paths: [(&str, Checks); 3] =
        [("/livez", Door::live_checks), ("/readyz", Door::ready_checks), ("/startupz", Door::start_checks)];
    for (path, checks) in paths {
        let answer = move |request: HttpRequest, door: Data<Door>| {
            let answered = answer(&request, checks(&door));
            async move { answered }
        };
        service.service(web::resource(path).route(web::get().to(answer)).route(web::head().to(answer)));
    }
}

/// 200 if all hold, 503 otherwise. The text is for people; `?verbose` explains each check.
fn answer(request: &HttpRequest, checks: Vec<Check>) -> HttpResponse {
    let failed: Vec<&Check> = checks.iter().filter(|check| !check.holds).collect();
    let is_verbose = request.query_string().split('&').any(|part| part == "verbose" || part.starts_with("verbose="));
    let shown = if is_verbose { checks.iter().collect() } else { failed.clone() };
    let mut text: String = shown
        .iter()
        .map(|Check { name, holds, reason }| format!("{} {name}: {reason}\n", if *holds { "ok    " } else { "failed" }))
        .collect();
    if text.is_empty() {
        text.push_str("ok\n");
    }
    let mut response = if failed.is_empty() { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.insert_header((CACHE_CONTROL, "no-store")).content_type("text/plain; charset=utf-8").body(text)
}

impl Door {
    /// Whether this process should go on: its own threads only, never other nodes.
    pub(super) fn live_checks(&self) -> Vec<Check> {
        let silence = self.pulse.silence();
        let reason = if self.control.is_leaving.load(Ordering::Acquire) && !self.pulse.is_alive() {
            "the node has left".to_owned()
        } else if silence.is_zero() {
            "receiver and supervisor answer".to_owned()
        } else {
            format!("receiver or supervisor has not answered for {silence:.1?}")
        };
        let (zombies, most) = (self.view.zombies(), self.config.workers.zombies_max);
        vec![
            Check::new("supervisor", self.pulse.is_alive(), reason),
            Check::new(
                "threads",
                zombies <= most,
                format!("{zombies} threads are held past their timeout, and workers.zombies_max allows {most}"),
            ),
        ]
    }

    /// Whether requests should come here.
    pub(super) fn is_ready(&self) -> bool {
        self.ready_checks().iter().all(|check| check.holds)
    }

    /// Whether this process should go on.
    pub(super) fn is_live(&self) -> bool {
        self.live_checks().iter().all(|check| check.holds)
    }

    pub(super) fn ready_checks(&self) -> Vec<Check> {
        let is_stopping = self.view.is_draining() || self.control.is_leaving.load(Ordering::Acquire);
        let stops = if is_stopping { "the node is about to stop, or has left" } else { "the node does not stop" };
        let mut down: Vec<_> = self.view.groups();
        down.retain(|(_, group)| !group.running);
        let groups = match down.len() {
            0 => "all groups run".to_owned(),
            _ => named("these groups do not run", down.iter().map(|(name, _)| &**name)),
        };
        vec![self.join_check(), Check::new("stop", !is_stopping, stops), Check::new("groups", down.is_empty(), groups)]
    }

    /// Whether the node's start is over. Once it is, it stays so.
    fn start_checks(&self) -> Vec<Check> {
        if self.has_started.load(Ordering::Acquire) {
            return vec![
                Check::new("join", true, "the start is over"),
                Check::new("workers", true, "each worker has been up"),
            ];
        }
        let is_first = |state, generation: u64| matches!(state, WorkerState::Starting) && generation <= 1;
        let mut waiting = Vec::new();
        let mut count = 0;
        self.view.visit_workers(|name, worker, _| {
            if is_first(worker.state, worker.generation.0) {
                count += 1;
                if waiting.len() < NAMES_MAX {
                    waiting.push(name.clone());
                }
            }
        });
        let reason = match count {
            0 => "each worker has been up".to_owned(),
            _ => named(&format!("{count} workers have not been up"), waiting.iter().map(|name| &**name)),
        };
        let checks = vec![self.join_check(), Check::new("workers", count == 0, reason)];
        if checks.iter().all(|check| check.holds) {
            self.has_started.store(true, Ordering::Release);
        }
        checks
    }

    fn join_check(&self) -> Check {
        let reason = match (&self.config.cluster, self.view.is_joined()) {
            (None, _) => "there is no cluster to join",
            (Some(_), true) => "the node has joined its cluster",
            (Some(_), false) => "the node has not joined its cluster",
        };
        Check::new("join", self.view.is_joined(), reason)
    }
}

/// A sentence and the first of the names it is about.
fn named<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.take(NAMES_MAX).map(|name| format!("{name:?}")).collect();
    format!("{what}: {}", names.join(", "))
}
