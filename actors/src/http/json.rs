//! Members, groups, shards and settings as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, Path, ServiceConfig};
use heartbeat_core::member::LOCAL_NAME;
use heartbeat_core::{Counting, Epoch, GroupFigures, Member, Strategy};
use serde::Serialize;
use serde_json::{Value, json};

use crate::control::input::{Question, Request, ask};
use crate::http::events::Shown;
use crate::http::{Door, access};
use crate::seal::{KeyId, MemberSeal};
use crate::view::peer_status::PeerStatus;
use crate::view::{GroupView, WorkerState};

/// How long the control thread may take to answer. Without its answer, what only it knows is
/// left out.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

pub(super) fn routes(service: &mut ServiceConfig) {
    service
        .service(web::resource("/members").wrap(from_fn(access::check)).route(web::get().to(members)))
        .service(web::resource("/members/{name}").wrap(from_fn(access::check)).route(web::get().to(member)))
        .service(web::resource("/groups").wrap(from_fn(access::check)).route(web::get().to(groups)))
        .service(web::resource("/shards").wrap(from_fn(access::check)).route(web::get().to(shards)))
        .service(web::resource("/config").wrap(from_fn(access::check)).route(web::get().to(config)));
}

/// A member, and how this node stands to it.
#[derive(Serialize)]
struct MemberShown {
    #[serde(flatten)]
    member: Member,
    /// Whether it watches this node; null if the control thread did not answer.
    watches_this_node: Option<bool>,
    /// If this node watches it: for how long it has been silent, in seconds.
    silent_for: Option<f64>,
    /// If it is suspected or dead: the event, with its evidence.
    verdict: Option<Shown<'static>>,
}

impl Door {
    /// Who watches whom; `None` if the control thread does not answer.
    pub(super) async fn peer_status(&self) -> Option<PeerStatus> {
        self.in_time(Request::PeerStatus).await
    }

    /// Asks the control thread, and waits for a moment.
    pub(super) async fn in_time<T>(
        &self,
        request: impl FnOnce(tokio::sync::oneshot::Sender<T>) -> Request,
    ) -> Option<T> {
        tokio::time::timeout(ANSWER_WITHIN, ask(&self.supervisor, request)).await.ok().flatten()
    }

    pub(super) fn node_name(&self) -> &str {
        self.config.cluster.as_ref().map_or(LOCAL_NAME, |cluster| &cluster.node)
    }
}

impl MemberShown {
    fn new(member: Member, peers: Option<&PeerStatus>, verdict: Option<Shown<'static>>) -> MemberShown {
        let watches_this_node = peers.map(|peers| peers.observers.contains(&member.name));
        let silence = peers.and_then(|peers| peers.watched.iter().find(|(name, _)| *name == member.name));
        let silent_for = silence.map(|(_, silence)| silence.as_secs_f64());
        MemberShown { watches_this_node, silent_for, verdict, member }
    }
}

async fn members(door: Data<Door>) -> HttpResponse {
    let peers = door.peer_status().await;
    let mut verdicts = door.verdicts();
    let members = door.view.members().into_iter().map(|member| {
        let verdict = verdicts.remove(&member.name);
        MemberShown::new(member, peers.as_ref(), verdict)
    });
    let members: Vec<MemberShown> = members.collect();
    HttpResponse::Ok().json(json!({
        "node": door.node_name(),
        "cluster": door.config.cluster.as_ref().map(|cluster| &cluster.name),
        "is_joined": door.view.is_joined(),
        "health": peers.map(|peers| peers.health),
        "seals": door.seals(),
        "wire": door.view.wire_version(),
        "members": members,
    }))
}

async fn member(door: Data<Door>, name: Path<String>) -> HttpResponse {
    match door.view.member(&name) {
        Some(member) => {
            let verdict = door.verdicts().remove(&member.name);
            HttpResponse::Ok().json(MemberShown::new(member, door.peer_status().await.as_ref(), verdict))
        }
        None => {
            let error = format!("no member is called {:?}; /members lists them all", *name);
            HttpResponse::NotFound().json(json!({ "error": error }))
        }
    }
}

impl Door {
    /// How each member that is alive and this node can understand each other; null without a seal.
    fn seals(&self) -> Value {
        let Some(seal) = &self.seal else { return Value::Null };
        let shown = seal.members().into_iter().map(|MemberSeal { name, keys, used, can_open }| {
            let keys: Vec<String> = keys.iter().map(KeyId::to_string).collect();
            json!({ "name": name, "keys": keys, "used": used.map(|key| key.to_string()), "can_open": can_open })
        });
        json!({ "keys": seal.published(), "accept_plain": seal.accepts_plain(), "members": shown.collect::<Vec<_>>() })
    }
}

/// A group with the groups in it.
#[derive(Serialize)]
struct GroupShown {
    /// Its name; null for the node's root.
    name: Option<Arc<str>>,
    is_running: bool,
    escalations: u64,
    /// How many workers of this group and of all in it are in each state.
    all_workers: BTreeMap<&'static str, u64>,
    #[serde(flatten)]
    restarts: RestartsShown,
    /// How many of its own workers are in each state.
    workers: BTreeMap<&'static str, u64>,
    groups: Vec<GroupShown>,
}

/// The restarts of a group against its limits; null if the control thread did not answer.
#[derive(Default, Serialize)]
struct RestartsShown {
    strategy: Option<Strategy>,
    /// `together`, or `each` where every child counts alone.
    counting: Option<&'static str>,
    /// Restarts in the period that ends now.
    restarts: Option<u32>,
    /// Restarts allowed in a period; null also if there is no limit.
    intensity: Option<u32>,
    /// In seconds.
    period: Option<f64>,
    /// Where each counts alone: the child that `restarts` is about.
    nearest: Option<Arc<str>>,
}

impl From<GroupFigures> for RestartsShown {
    fn from(figures: GroupFigures) -> RestartsShown {
        RestartsShown {
            strategy: Some(figures.strategy),
            counting: Some(match figures.counting {
                Counting::Together => "together",
                Counting::Each => "each",
            }),
            restarts: Some(figures.restarts),
            intensity: figures.intensity,
            period: Some(figures.period.as_secs_f64()),
            nearest: figures.nearest,
        }
    }
}

/// What is known of the groups, to be put together.
struct Tree {
    children: Children,
    workers: States,
    figures: BTreeMap<Option<Arc<str>>, GroupFigures>,
}

/// The groups in each group; `None` is the root.
type Children = BTreeMap<Option<Arc<str>>, Vec<(Arc<str>, GroupView)>>;

/// How many workers of each group are in each state.
type States = BTreeMap<Option<Arc<str>>, BTreeMap<&'static str, u64>>;

/// The keys of the states in JSON and metrics, each at the index that [`state_index`] gives it.
pub(super) const STATES: [&str; 6] = ["starting", "up", "stopped", "waiting", "given_up", "elsewhere"];

pub(super) fn state_index(state: WorkerState) -> usize {
    match state {
        WorkerState::Starting => 0,
        WorkerState::Up => 1,
        WorkerState::Stopped => 2,
        WorkerState::Waiting(_) => 3,
        WorkerState::GivenUp => 4,
        WorkerState::Elsewhere => 5,
    }
}

/// The key of a state.
pub(super) fn state_key(state: WorkerState) -> &'static str {
    STATES[state_index(state)]
}

async fn groups(door: Data<Door>) -> HttpResponse {
    let figures = door.in_time(|answer| Request::Question(Question::Groups(answer))).await.unwrap_or_default();
    let figures = figures.into_iter().map(|figures| (figures.name.clone(), figures)).collect();
    let tree = web::block(move || {
        let mut workers = States::new();
        door.view.visit_workers(|_, worker, _| {
            *workers.entry(worker.group).or_default().entry(state_key(worker.state)).or_default() += 1;
        });
        let mut children = Children::new();
        for (name, group) in door.view.groups() {
            children.entry(group.parent.clone()).or_default().push((name, group));
        }
        let root = GroupView { running: true, ..GroupView::default() };
        Tree { children, workers, figures }.shown(None, root)
    });
    match tree.await {
        Ok(tree) => HttpResponse::Ok().json(tree),
        Err(_) => unavailable(),
    }
}

impl Tree {
    /// A group with all that is in it.
    fn shown(&mut self, name: Option<Arc<str>>, group: GroupView) -> GroupShown {
        let workers = self.workers.remove(&name).unwrap_or_default();
        let groups = self.children.remove(&name).unwrap_or_default();
        let groups: Vec<_> = groups.into_iter().map(|(name, group)| self.shown(Some(name), group)).collect();
        let mut all_workers = workers.clone();
        for (state, count) in groups.iter().flat_map(|group| &group.all_workers) {
            *all_workers.entry(state).or_default() += count;
        }
        let restarts = self.figures.remove(&name).map(RestartsShown::from).unwrap_or_default();
        let GroupView { running: is_running, escalations, .. } = group;
        GroupShown { name, is_running, escalations, all_workers, restarts, workers, groups }
    }
}

#[derive(Serialize)]
struct ShardShown {
    index: u32,
    epoch: Epoch,
    owner: Arc<str>,
}

async fn shards(door: Data<Door>) -> HttpResponse {
    let mut groups: BTreeMap<Arc<str>, Vec<ShardShown>> = BTreeMap::new();
    for owned in door.view.snapshot().shards {
        let shown = ShardShown { index: owned.shard.index, epoch: owned.shard.epoch, owner: owned.owner };
        groups.entry(owned.group).or_default().push(shown);
    }
    let groups: Vec<_> = door
        .view
        .shard_groups()
        .into_iter()
        .map(
            |(name, count)| json!({ "count": count, "shards": groups.remove(&name).unwrap_or_default(), "name": name }),
        )
        .collect();
    HttpResponse::Ok().json(json!({ "node": door.node_name(), "groups": groups }))
}

async fn config(door: Data<Door>) -> HttpResponse {
    HttpResponse::Ok().json(door.config.without_secrets())
}

/// The answer if the process is ending.
pub(super) fn unavailable() -> HttpResponse {
    HttpResponse::ServiceUnavailable().json(json!({ "error": "this process is ending" }))
}
