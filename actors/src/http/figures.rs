//! Requests between nodes, watched links, and threads, as JSON.

use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Path, ServiceConfig};
use heartbeat_core::detection::Verdict;
use heartbeat_core::requests::{Counters, Figures};
use heartbeat_core::{BudgetFigures, NodeId, ThreadFigures, ThreadStanding, ThreadState};
use serde::Serialize;
use serde_json::{Value, json};

use crate::control::input::{Question, Request};
use crate::http::json::unavailable;
use crate::http::{Door, access};
use crate::view::link_status::LinkStatus;

/// Steps of a link's curve: more than a picture of it has room for.
const CURVE_POINTS: u32 = 120;

pub(super) fn routes(service: &mut ServiceConfig) {
    service
        .service(web::resource("/requests").wrap(from_fn(access::check)).route(web::get().to(requests)))
        .service(web::resource("/links").wrap(from_fn(access::check)).route(web::get().to(links)))
        .service(web::resource("/links/{name}").wrap(from_fn(access::check)).route(web::get().to(link)))
        .service(web::resource("/threads").wrap(from_fn(access::check)).route(web::get().to(threads)));
}

impl Door {
    /// The requests of this node in short; null without a cluster.
    pub(super) fn request_counts(&self) -> Value {
        self.requests.as_ref().map_or(Value::Null, |requests| counts_shown(&requests.figures().counters))
    }
}

fn counts_shown(counters: &Counters) -> Value {
    let Counters { sent, handled, refused, interrupted, timed_out, held, held_bytes, under_way, late, malformed } =
        *counters;
    json!({
        "sent": sent,
        "handled": handled,
        "refused": refused,
        "interrupted": interrupted,
        "timed_out": timed_out,
        "held": held,
        "held_bytes": held_bytes,
        "under_way": under_way,
        "late": late,
        "malformed": malformed,
    })
}

async fn requests(door: Data<Door>) -> HttpResponse {
    let Some(link) = door.requests.clone() else {
        return HttpResponse::Ok().json(json!({ "node": door.node_name(), "requests": null, "peers": [] }));
    };
    // It may wait for the lock of the requests, and a server's thread must not.
    let Ok(Figures { counters, refused_by, served, without_owner, oldest_held_for, peers }) =
        web::block(move || link.figures()).await
    else {
        return unavailable();
    };
    let config = &door.config.requests;
    let members = door.view.members();
    let peers: Vec<Value> = peers
        .iter()
        .filter_map(|peer| {
            let member = members.iter().find(|member| member.id == peer.node)?;
            Some(json!({
                "name": &member.name,
                "status": member.status,
                "is_connected": peer.is_connected,
                "under_way": peer.under_way,
                "under_way_bytes": peer.under_way_bytes,
                "held": peer.held,
                "connect_failures": peer.failures,
            }))
        })
        .collect();
    let refused_by: serde_json::Map<String, Value> =
        refused_by.into_iter().map(|(reason, count)| (reason.to_owned(), count.into())).collect();
    let mut shown = counts_shown(&counters);
    shown["refused_by"] = refused_by.into();
    shown["served"] = served.into();
    shown["without_owner"] = without_owner.into();
    shown["oldest_held_for"] = oldest_held_for.map(|held_for| held_for.as_secs_f64()).into();
    HttpResponse::Ok().json(json!({
        "node": door.node_name(),
        "requests": shown,
        "held_max": config.held_max,
        "held_bytes_max": config.held_bytes_max,
        "window": config.window,
        "window_bytes": config.window_bytes,
        "peers": peers,
    }))
}

/// A member that this node watches; times are seconds.
#[derive(Serialize)]
struct LinkShown {
    name: Arc<str>,
    /// `alive`, `suspect` or `dead`: what this node alone concludes.
    verdict: &'static str,
    silent_for: f64,
    /// After which silence the next heartbeat is expected, and each verdict comes.
    expected_after: f64,
    suspected_after: f64,
    dead_after: f64,
    /// How improbable the silence is: the negative decimal logarithm.
    phi: f64,
    /// The number of the newest heartbeat.
    heartbeat: u64,
    /// The members that watch it, as it names them.
    observers: Vec<Arc<str>>,
    budget: Option<BudgetShown>,
}

/// What the detector `budget` has learnt; times are seconds.
#[derive(Serialize)]
struct BudgetShown {
    heartbeats: u32,
    interval: f64,
    allowed_per_hour: f64,
    /// Wrong suspicions lately, and how many were allowed: both fade.
    made: f64,
    allowed: f64,
    /// Wrong suspicions an hour where the budget cannot be kept below the timeout.
    kept_at: Option<f64>,
    is_lossy: bool,
    loss: f64,
    jitter: f64,
    margin: f64,
    longest: f64,
}

impl From<BudgetFigures> for BudgetShown {
    fn from(figures: BudgetFigures) -> BudgetShown {
        BudgetShown {
            heartbeats: figures.heartbeats,
            interval: figures.interval.as_secs_f64(),
            allowed_per_hour: figures.allowed_per_hour,
            made: figures.made,
            allowed: figures.allowed,
            kept_at: figures.kept_at,
            is_lossy: figures.is_lossy,
            loss: figures.loss,
            jitter: figures.jitter.as_secs_f64(),
            margin: figures.margin.as_secs_f64(),
            longest: figures.longest.as_secs_f64(),
        }
    }
}

impl From<LinkStatus> for LinkShown {
    fn from(LinkStatus { name, observers, figures, .. }: LinkStatus) -> LinkShown {
        LinkShown {
            name,
            verdict: match figures.verdict {
                Verdict::Alive => "alive",
                Verdict::Suspect => "suspect",
                Verdict::Dead => "dead",
            },
            silent_for: figures.silence.as_secs_f64(),
            expected_after: figures.expected_after.as_secs_f64(),
            suspected_after: figures.suspected_after.as_secs_f64(),
            dead_after: figures.dead_after.as_secs_f64(),
            phi: figures.phi,
            heartbeat: figures.slot,
            observers,
            budget: figures.budget.map(BudgetShown::from),
        }
    }
}

impl Door {
    async fn link_status(&self, curve: Option<(NodeId, u32)>) -> Option<Vec<LinkStatus>> {
        self.in_time(|answer| Request::Question(Question::Links { curve, answer })).await
    }
}

async fn links(door: Data<Door>) -> HttpResponse {
    let Some(links) = door.link_status(None).await else { return silent() };
    let links: Vec<LinkShown> = links.into_iter().map(LinkShown::from).collect();
    let detector = door.config.detector.kind;
    HttpResponse::Ok().json(json!({ "node": door.node_name(), "detector": detector, "links": links }))
}

async fn link(door: Data<Door>, name: Path<String>) -> HttpResponse {
    let Some(links) = door.link_status(Some((NodeId::of(&name), CURVE_POINTS))).await else { return silent() };
    let Some(mut link) = links.into_iter().find(|link| *link.name == **name) else {
        let error = format!("this node does not watch {:?}; /links lists the members that it watches", *name);
        return HttpResponse::NotFound().json(json!({ "error": error }));
    };
    let curve: Vec<[f64; 2]> =
        std::mem::take(&mut link.curve).into_iter().map(|(silence, phi)| [silence.as_secs_f64(), phi]).collect();
    HttpResponse::Ok().json(json!({ "link": LinkShown::from(link), "curve": curve }))
}

/// The answer if the control thread gives none in time.
fn silent() -> HttpResponse {
    let error = "the control thread does not answer; see /livez";
    HttpResponse::ServiceUnavailable().json(json!({ "error": error }))
}

/// A thread that runs workers; times are seconds.
#[derive(Serialize)]
struct ThreadShown {
    number: u32,
    /// `running`; `held`: workers wait for it; `abandoned`: it was replaced, and is held still.
    state: &'static str,
    silent_for: Option<f64>,
    timeout: Option<f64>,
    workers: u32,
    /// What the operating system sees: `runnable`, `sleeping` or `stopped`; null where it cannot
    /// be asked.
    seen: Option<&'static str>,
    /// How long it ran, and how long it waited for a CPU.
    ran: Option<f64>,
    waited: Option<f64>,
}

async fn threads(door: Data<Door>) -> HttpResponse {
    let Some(threads) = door.in_time(|answer| Request::Question(Question::Threads(answer))).await else {
        return silent();
    };
    let shown = web::block(move || {
        let shown = |(figures, handle): (ThreadFigures, Option<crate::thread::ThreadHandle>)| {
            let sample = handle.and_then(|handle| handle.sample());
            ThreadShown {
                number: figures.arbiter.0,
                state: match figures.standing {
                    ThreadStanding::Running => "running",
                    ThreadStanding::Held => "held",
                    ThreadStanding::Abandoned => "abandoned",
                },
                silent_for: figures.silent_for.map(|silence| silence.as_secs_f64()),
                timeout: figures.timeout.map(|timeout| timeout.as_secs_f64()),
                workers: figures.workers,
                seen: sample.map(|sample| match sample.state {
                    ThreadState::Runnable => "runnable",
                    ThreadState::Sleeping => "sleeping",
                    ThreadState::Stopped => "stopped",
                }),
                ran: sample.map(|sample| sample.times.ran.as_secs_f64()),
                waited: sample.map(|sample| sample.times.waited.as_secs_f64()),
            }
        };
        threads.into_iter().map(shown).collect::<Vec<ThreadShown>>()
    });
    let Ok(threads) = shown.await else { return unavailable() };
    HttpResponse::Ok().json(json!({
        "held": door.view.zombies(),
        "held_max": door.config.workers.zombies_max,
        "threads": threads,
    }))
}
