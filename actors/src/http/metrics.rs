//! The figures of the node in OpenMetrics text, read at each scrape.
//!
//! Nothing is counted for this: the figures are in the workers' cells and mailboxes, in the view
//! and in the engine. Only `metrics.histograms` adds to the work of a message. The exporter is
//! `prometheus-client`, whose registry is a value: the nodes of one process do not meet in a
//! global. Labels are bounded by the types of actors, the names of groups, and causes; no label
//! holds the name of a worker or of a member.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, ServiceConfig};
use heartbeat_core::config::AuthorityKind;
use heartbeat_core::detection::Verdict;
use heartbeat_core::member::CommonVersion;
use heartbeat_core::requests::Figures as RequestFigures;
use heartbeat_core::{Counters, Status, ThreadFigures, ThreadStanding};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelValue, EncodeMetric, LabelValueEncoder, MetricEncoder,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::control::input::{Question, Request};
use crate::http::json::{STATES, state_index, unavailable};
use crate::http::{Door, access};
use crate::lock::lock;
use crate::seal::{MemberSeal, SealCounts, SealShared};
use crate::thread::ThreadHandle;
use crate::view::link_status::LinkStatus;
use crate::view::peer_status::PeerStatus;
use crate::worker::histogram::{BOUNDS, HistogramCounts, KindCounts};
use crate::worker::mailbox::MessageCounts;

/// The content type of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub(super) fn routes(service: &mut ServiceConfig) {
    service.service(web::resource("/metrics").wrap(from_fn(access::check)).route(web::get().to(metrics)));
}

/// What only the control thread knows; none if it did not answer in time.
struct Asked {
    counters: Option<Counters>,
    peers: Option<PeerStatus>,
    links: Option<Vec<LinkStatus>>,
    threads: Option<Vec<(ThreadFigures, Option<ThreadHandle>)>>,
}

async fn metrics(door: Data<Door>) -> HttpResponse {
    let links = |answer| Request::Question(Question::Links { curve: None, answer });
    let threads = |answer| Request::Question(Question::Threads(answer));
    let (counters, peers, links, threads) =
        tokio::join!(door.in_time(Request::Counters), door.peer_status(), door.in_time(links), door.in_time(threads));
    let asked = Asked { counters, peers, links, threads };
    match web::block(move || encode(&door, asked)).await {
        Ok(Ok(text)) => HttpResponse::Ok().content_type(OPEN_METRICS).body(text),
        // Only a writer that fails makes encoding fail, and a string does not.
        Ok(Err(fmt::Error)) | Err(_) => unavailable(),
    }
}

fn encode(door: &Door, asked: Asked) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("heartbeat");
    registry.register_collector(Box::new(Figures(Mutex::new(Some(families(door, asked))))));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

/// One name with its help, and a value for each set of labels.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    values: Vec<(Labels, Value)>,
}

/// The value of a gauge or a counter, or a histogram of times.
#[derive(Debug)]
enum Value {
    Number(f64),
    Histogram(HistogramCounts),
}

type Labels = Vec<(&'static str, Label)>;

/// A label's value, escaped as the format wants it.
#[derive(Debug)]
struct Label(Cow<'static, str>);

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => encoder.write_str("\\\\")?,
                '"' => encoder.write_str("\\\"")?,
                '\n' => encoder.write_str("\\n")?,
                other => encoder.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// What one scrape found.
#[derive(Debug)]
struct Figures(Mutex<Option<Vec<Family>>>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in lock(&self.0).take().into_iter().flatten() {
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, family.kind)?;
            match &family.values[..] {
                [(labels, value)] if labels.is_empty() => encode_value(metric, family.kind, value)?,
                values => values
                    .iter()
                    .try_for_each(|(labels, value)| encode_value(metric.encode_family(labels)?, family.kind, value))?,
            }
        }
        Ok(())
    }
}

fn encode_value(mut encoder: MetricEncoder<'_>, kind: MetricType, value: &Value) -> fmt::Result {
    match (value, kind) {
        (Value::Number(value), MetricType::Counter) if value.fract() == 0.0 => {
            ConstCounter::new(*value as u64).encode(encoder)
        }
        (Value::Number(value), MetricType::Counter) => ConstCounter::new(*value).encode(encoder),
        (Value::Number(value), _) => ConstGauge::new(*value).encode(encoder),
        (Value::Histogram(counts), _) => {
            // The format wants each bucket to hold what the smaller ones hold; the encoder adds up.
            let bounds = BOUNDS.iter().map(|nanos| Duration::from_nanos(*nanos).as_secs_f64()).chain([f64::MAX]);
            let buckets: Vec<(f64, u64)> = bounds.zip(counts.buckets).collect();
            let sum = Duration::from_nanos(counts.sum).as_secs_f64();
            encoder.encode_histogram::<[(&str, &str); 0]>(sum, counts.count(), &buckets, None)
        }
    }
}

/// Families that are being gathered.
#[derive(Default)]
struct Gathered(Vec<Family>);

impl Gathered {
    fn add(
        &mut self,
        kind: MetricType,
        name: &'static str,
        help: &'static str,
        values: impl Iterator<Item = (Labels, f64)>,
    ) {
        let values = values.map(|(labels, value)| (labels, Value::Number(value))).collect();
        self.0.push(Family { name, help, kind, values });
    }

    fn gauge(&mut self, name: &'static str, help: &'static str, value: impl Into<f64>) {
        self.gauges(name, help, [(Labels::new(), value.into())].into_iter());
    }

    fn gauges(&mut self, name: &'static str, help: &'static str, values: impl Iterator<Item = (Labels, f64)>) {
        self.add(MetricType::Gauge, name, help, values);
    }

    fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.counters(name, help, [(Labels::new(), value as f64)].into_iter());
    }

    fn counters(&mut self, name: &'static str, help: &'static str, values: impl Iterator<Item = (Labels, f64)>) {
        self.add(MetricType::Counter, name, help, values);
    }

    fn histograms(
        &mut self,
        name: &'static str,
        help: &'static str,
        values: impl Iterator<Item = (Labels, HistogramCounts)>,
    ) {
        let values = values.map(|(labels, counts)| (labels, Value::Histogram(counts))).collect();
        self.0.push(Family { name, help, kind: MetricType::Histogram, values });
    }
}

fn label(key: &'static str, value: impl Into<Cow<'static, str>>) -> Labels {
    vec![(key, Label(value.into()))]
}

fn labels<const N: usize>(pairs: [(&'static str, &'static str); N]) -> Labels {
    pairs.into_iter().map(|(key, value)| (key, Label(value.into()))).collect()
}

/// The workers of one kind together.
#[derive(Default)]
struct Kind {
    /// How many are in each of [`STATES`].
    states: [u64; STATES.len()],
    ready: u64,
    counts: MessageCounts,
    capacity: u64,
    /// How full the fullest queue is, 0 to 1.
    fullest: f64,
    /// For how long the one that has been at work for longest has been so, in seconds.
    busiest: f64,
}

impl Kind {
    fn add(&mut self, other: &Kind) {
        let Kind { states, ready, counts, capacity, fullest, busiest } = other;
        self.states.iter_mut().zip(states).for_each(|(state, count)| *state += count);
        self.ready += ready;
        self.counts += *counts;
        self.capacity += capacity;
        self.fullest = self.fullest.max(*fullest);
        self.busiest = self.busiest.max(*busiest);
    }
}

fn families(door: &Door, asked: Asked) -> Vec<Family> {
    let mut gathered = Gathered::default();
    add_node(&mut gathered, door);
    add_workers(&mut gathered, door);
    add_message_times(&mut gathered, door);
    add_events(&mut gathered, door);
    if let Some(threads) = asked.threads {
        add_threads(&mut gathered, &threads);
    }
    if door.config.cluster.is_some() {
        add_cluster(&mut gathered, door);
        add_hand_overs(&mut gathered, door);
        if let Some(counters) = asked.counters {
            add_datagrams(&mut gathered, counters);
        }
        if let Some(seal) = &door.seal {
            add_seal(&mut gathered, seal);
        }
        if let Some(peers) = asked.peers {
            add_peers(&mut gathered, &peers);
        }
        if let Some(links) = asked.links {
            add_links(&mut gathered, &links);
        }
    }
    if let Some(requests) = &door.requests {
        add_requests(&mut gathered, &requests.figures());
    }
    gathered.0
}

fn add_node(gathered: &mut Gathered, door: &Door) {
    let cluster = door.config.cluster.as_ref();
    let name = |name: Option<&String>| Label(name.cloned().unwrap_or_default().into());
    let info = vec![
        ("version", Label(env!("CARGO_PKG_VERSION").into())),
        ("cluster", name(cluster.map(|cluster| &cluster.name))),
        ("node", name(cluster.map(|cluster| &cluster.node))),
    ];
    gathered.gauges("node", "Always 1; the labels say which node this is", [(info, 1.0)].into_iter());
    gathered.gauge("live", "Whether the node's receiver and supervisor work: as /livez", u8::from(door.is_live()));
    gathered.gauge("ready", "Whether requests should come here: as /readyz", u8::from(door.is_ready()));
    gathered.gauge("threads_held", "Threads that a worker holds past its timeout", door.view.zombies());
    gathered.gauge(
        "threads_held_max",
        "The setting workers.zombies_max: with more threads held, no held worker is replaced",
        door.config.workers.zombies_max,
    );
}

/// The workers of the node by kind, those that were removed included where something is counted.
fn kinds(door: &Door) -> BTreeMap<&'static str, Kind> {
    // By the place of the name, since comparing a hundred thousand names takes milliseconds. One
    // name may be in several places.
    let mut by_place: BTreeMap<usize, (&'static str, Kind)> = BTreeMap::new();
    let now = door.clock.now();
    door.view.visit_slots(|state, slot| {
        let name = slot.kind();
        let (_, kind) = by_place.entry(name.as_ptr() as usize).or_insert_with(|| (name, Kind::default()));
        let counts = slot.message_counts();
        kind.states[state_index(state)] += 1;
        kind.ready += u64::from(slot.cell().is_ready());
        kind.counts += counts;
        kind.capacity += u64::from(slot.capacity());
        kind.fullest = kind.fullest.max(counts.queued as f64 / f64::from(slot.capacity().max(1)));
        if let Some((_, since)) = slot.cell().busy() {
            kind.busiest = kind.busiest.max((now.max(since) - since).as_secs_f64());
        }
        door.give_back(Some(slot));
    });
    let mut kinds: BTreeMap<&'static str, Kind> = BTreeMap::new();
    for (name, kind) in by_place.into_values() {
        kinds.entry(name).or_default().add(&kind);
    }
    for (kind, counts) in door.view.removed() {
        // Nothing waits in the queue of a worker that was removed.
        kinds.entry(kind).or_default().counts += MessageCounts { queued: 0, answering: 0, ..counts };
    }
    kinds
}

fn add_workers(gathered: &mut Gathered, door: &Door) {
    let kinds = kinds(door);
    let each = |value: fn(&Kind) -> f64| kinds.iter().map(move |(kind, it)| (label("kind", *kind), value(it)));
    let states = kinds.iter().flat_map(|(kind, it)| {
        let states = STATES.iter().zip(it.states).filter(|(_, count)| *count > 0);
        states.map(|(state, count)| (labels([("kind", kind), ("state", state)]), count as f64))
    });
    gathered.gauges("workers", "Workers of this node by type of actor and state", states);
    gathered.gauges("workers_ready", "Workers that take requests", each(|it| it.ready as f64));
    gathered.gauges("mailbox_messages", "Messages in queues, or in hand", each(|it| it.counts.queued as f64));
    gathered.gauges("mailbox_capacity_messages", "Messages that the queues take", each(|it| it.capacity as f64));
    gathered.gauges("mailbox_fullest_ratio", "How full the fullest queue is, 0 to 1", each(|it| it.fullest));
    gathered.gauges("answers_pending", "Answers under way", each(|it| it.counts.answering as f64));
    gathered.gauges(
        "worker_busy_seconds_max",
        "For how long the worker that is at work for longest has been so",
        each(|it| it.busiest),
    );
    let outcomes = kinds.iter().flat_map(|(kind, it)| {
        let counts = it.counts;
        [
            ("handled", counts.handled),
            ("interrupted", counts.interrupted),
            ("dead", counts.dead),
            ("rejected", counts.rejected),
        ]
        .map(|(outcome, count)| (labels([("kind", kind), ("outcome", outcome)]), count as f64))
    });
    gathered.counters("messages", "Messages to workers, by what became of them", outcomes);
}

fn add_message_times(gathered: &mut Gathered, door: &Door) {
    let Some(histograms) = &door.control.histograms else { return };
    let counts = histograms.counts();
    let each = |which: fn(&KindCounts) -> HistogramCounts| {
        counts.iter().map(move |(kind, counts)| (label("kind", *kind), which(counts)))
    };
    gathered.histograms(
        "mailbox_wait_seconds",
        "From when a message was accepted to when its handler was called",
        each(|counts| counts.wait),
    );
    gathered.histograms(
        "handling_seconds",
        "From when the handler of a message was called to when it returned",
        each(|counts| counts.handling),
    );
}

fn add_events(gathered: &mut Gathered, door: &Door) {
    let events = door.view.events();
    let failures = events.failures();
    let failures = failures.iter().map(|(cause, count)| (label("cause", *cause), *count as f64));
    gathered.counters("worker_failures", "Generations of workers that failed, by cause", failures);
    let by_name = events.by_name();
    let by_name = by_name.iter().map(|(name, count)| (label("event", *name), *count as f64));
    gathered.counters("events", "Events of this node, by name", by_name);
}

fn add_cluster(gathered: &mut Gathered, door: &Door) {
    let statuses = [Status::Alive, Status::Suspect, Status::Dead, Status::Left];
    let members = statuses.map(|status| (label("status", status.to_string()), door.view.count(status) as f64));
    gathered.gauges("members", "Members as this node sees them", members.into_iter());
    gathered.gauge("joined", "Whether the node has joined its cluster", u8::from(door.view.is_joined()));
    if let Some(CommonVersion { version, held_back_by }) = door.view.wire_version() {
        gathered.gauge("wire_version", "Highest version of the wire format that all members can use", version);
        gathered.gauge(
            "wire_version_held_back_by",
            "Members that can use no higher version of the wire format, where others can",
            held_back_by.len() as u32,
        );
    }
    let mut shards = Vec::new();
    for (group, here, elsewhere, count) in door.view.shard_counts() {
        let owned = [("here", here), ("elsewhere", elsewhere), ("none", count - here - elsewhere)];
        shards.extend(owned.map(|(owner, count)| {
            (vec![("group", Label(group.to_string().into())), ("owner", Label(owner.into()))], count as f64)
        }));
    }
    gathered.gauges("shards", "Shards of each group, by where their owner is", shards.into_iter());
    let outcomes = ["cleared", "died", "left", "restarted"];
    let outcomes = outcomes.map(|outcome| (label("outcome", outcome), door.view.events().suspicions(outcome) as f64));
    gathered.counters("suspicions", "Suspicions of members that ended, by how", outcomes.into_iter());
}

/// The label of a group.
fn group_label(group: &Arc<str>) -> Labels {
    label("group", group.to_string())
}

fn add_hand_overs(gathered: &mut Gathered, door: &Door) {
    let hand_overs = door.view.times().hand_overs();
    gathered.histograms(
        "shard_hand_over_seconds",
        "From when this node got a shard of another one to when the shard was up here",
        hand_overs.iter().map(|(group, counts)| (group_label(group), *counts)),
    );
    if door.config.ownership.authority == AuthorityKind::View {
        return;
    }
    let authority = door.view.times().authority();
    gathered.gauge(
        "authority_reachable",
        "Whether the authority answered the last time",
        u8::from(authority.is_reachable),
    );
    gathered.histograms(
        "authority_request_seconds",
        "How long the authority took for an answer, by request",
        authority.answers.iter().map(|(request, counts)| (label("request", *request), *counts)),
    );
    gathered.counters(
        "authority_failures",
        "Requests that the authority did not answer, by request",
        authority.failures.iter().map(|(request, count)| (label("request", *request), *count as f64)),
    );
    let lease = door.control.node_lease.remaining(door.clock.now()).as_secs_f64();
    gathered.gauge("shard_lease_seconds", "For how long the shards here may act unless that is renewed", lease);
}

fn add_datagrams(gathered: &mut Gathered, counters: Counters) {
    let Counters {
        sent,
        received,
        malformed,
        wrong_version,
        unknown_kind,
        wrong_cluster,
        heartbeats_sent,
        heartbeats_received,
        heartbeats_missed,
        heartbeats_late,
    } = counters;
    gathered.counter("heartbeats_sent", "Heartbeats sent to observers", heartbeats_sent);
    gathered.counter("heartbeats_received", "Heartbeats of the members that this node watches", heartbeats_received);
    gathered.counter("heartbeats_missed", "Heartbeats that had not come when a later one did", heartbeats_missed);
    gathered.counter("heartbeats_late", "Missed heartbeats that came after all", heartbeats_late);
    gathered.counter("datagrams_sent", "Datagrams sent", sent);
    let results = [
        ("accepted", received),
        ("malformed", malformed),
        ("wrong_version", wrong_version),
        ("unknown_kind", unknown_kind),
        ("wrong_cluster", wrong_cluster),
    ];
    let results = results.map(|(result, count)| (label("result", result), count as f64));
    gathered.counters("datagrams_received", "Datagrams and frames received, by result", results.into_iter());
}

fn add_seal(gathered: &mut Gathered, seal: &SealShared) {
    let SealCounts {
        sealed,
        opened,
        plain_taken,
        plain_refused,
        unknown_key,
        forged,
        replayed,
        stale,
        unaddressed,
        malformed,
        exhausted,
    } = seal.counts();
    gathered.counter("seal_sealed", "Datagrams sealed", sealed);
    gathered.counter("seal_opened", "Datagrams that opened, plain ones that are accepted included", opened);
    gathered.counter("seal_plain_taken", "Plain datagrams taken, because accept_plain is set", plain_taken);
    let reasons = [
        ("plain", plain_refused),
        ("unknown_key", unknown_key),
        ("forged", forged),
        ("replayed", replayed),
        ("stale", stale),
        ("unaddressed", unaddressed),
        ("malformed", malformed),
    ];
    let reasons = reasons.map(|(reason, count)| (label("reason", reason), count as f64));
    gathered.counters("seal_refused", "Datagrams that are not believed, by reason", reasons.into_iter());
    gathered.counter("seal_exhausted", "Datagrams not sent, because the counter of this process is used up", exhausted);
    let (mut by_key, mut without) = (BTreeMap::<String, u32>::new(), 0_u32);
    for MemberSeal { used, can_open, .. } in seal.members() {
        *by_key.entry(used.map_or("none".to_owned(), |key| key.to_string())).or_default() += 1;
        without += u32::from(!can_open);
    }
    // A member has one key at a time, and a node takes four: the labels are few.
    let by_key = by_key.into_iter().map(|(key, count)| (vec![("key", Label(key.into()))], f64::from(count)));
    gathered.gauges("seal_members", "Live members by the key of their newest datagram", by_key);
    gathered.gauge("seal_members_without_key", "Live members that have none of this node's keys", without);
}

fn add_peers(gathered: &mut Gathered, peers: &PeerStatus) {
    gathered.gauge("local_health", "Local health: 0 is well, 8 the worst", peers.health);
    gathered.gauge(
        "zones_disrupted",
        "Zones in which no member is declared dead for its silence, since most are silent",
        peers.zones_disrupted,
    );
    gathered.gauge("observers", "Members that watch this node", peers.observers.len() as u32);
    gathered.gauge("watched", "Members that this node watches", peers.watched.len() as u32);
    let longest = peers.watched.iter().map(|(_, silence)| silence.as_secs_f64()).fold(0.0, f64::max);
    gathered.gauge("silence_seconds_max", "Longest silence among the members that this node watches", longest);
}

fn add_threads(gathered: &mut Gathered, threads: &[(ThreadFigures, Option<ThreadHandle>)]) {
    let standings = [
        ("running", ThreadStanding::Running),
        ("held", ThreadStanding::Held),
        ("abandoned", ThreadStanding::Abandoned),
    ];
    let standings = standings.map(|(name, standing)| {
        let count = threads.iter().filter(|(figures, _)| figures.standing == standing).count();
        (label("state", name), count as f64)
    });
    gathered.gauges("threads", "Threads that run workers", standings.into_iter());
    let times: Vec<_> = threads
        .iter()
        .filter_map(|(_, handle)| Some(handle.as_ref()?.sample()?.times))
        .map(|times| (times.ran.as_secs_f64(), times.waited.as_secs_f64()))
        .collect();
    let sum = |time: fn(&(f64, f64)) -> f64| [(Labels::new(), times.iter().map(time).sum())].into_iter();
    gathered.counters("thread_run_seconds", "How long the threads that there are now ran", sum(|(ran, _)| *ran));
    gathered.counters(
        "thread_wait_seconds",
        "How long the threads that there are now waited for a CPU",
        sum(|(_, waited)| *waited),
    );
}

fn add_links(gathered: &mut Gathered, links: &[LinkStatus]) {
    let verdicts = [("alive", Verdict::Alive), ("suspect", Verdict::Suspect), ("dead", Verdict::Dead)];
    let verdicts = verdicts.map(|(name, verdict)| {
        let count = links.iter().filter(|link| link.figures.verdict == verdict).count();
        (label("verdict", name), count as f64)
    });
    gathered.gauges("links", "Members that this node watches, by what it alone concludes", verdicts.into_iter());
    let phi = links.iter().map(|link| link.figures.phi).fold(0.0, f64::max);
    gathered.gauge("link_phi_max", "How improbable the most improbable silence is: see the book on detectors", phi);
    let after = links.iter().map(|link| link.figures.suspected_after.as_secs_f64()).fold(0.0, f64::max);
    gathered.gauge("link_suspected_after_seconds_max", "The longest silence that is not suspected yet", after);
    let budgets = || links.iter().filter_map(|link| link.figures.budget);
    let overspent = budgets().filter(|budget| budget.made > budget.allowed).count();
    gathered.gauge("links_overspent", "Links with more wrong suspicions than their budget allows", overspent as u32);
    let unkept = budgets().filter(|budget| budget.kept_at.is_some()).count();
    gathered.gauge("links_unkeepable", "Links whose budget cannot be kept below the timeout", unkept as u32);
}

fn add_requests(gathered: &mut Gathered, figures: &RequestFigures) {
    let counters = &figures.counters;
    let outcomes = [
        ("handled", counters.handled),
        ("refused", counters.refused),
        ("interrupted", counters.interrupted),
        ("timed_out", counters.timed_out),
    ];
    let outcomes = outcomes.map(|(outcome, count)| (label("outcome", outcome), count as f64));
    gathered.counters("requests", "Requests of this node to others that ended, by outcome", outcomes.into_iter());
    let reasons = figures.refused_by.iter().map(|(reason, count)| (label("reason", *reason), *count as f64));
    gathered.counters("requests_refused", "Requests that ended as refused, by reason", reasons);
    gathered.gauge("requests_held", "Requests that wait here", counters.held);
    gathered.gauge("requests_held_bytes", "Bytes of the requests that wait here", counters.held_bytes as f64);
    let oldest = figures.oldest_held_for.unwrap_or_default().as_secs_f64();
    gathered.gauge("requests_held_seconds_max", "For how long the oldest of those that wait has done so", oldest);
    gathered.gauge(
        "requests_without_owner",
        "Those that wait for a shard without a known owner",
        figures.without_owner,
    );
    gathered.gauge("requests_under_way", "Requests that are on their way or with a worker", counters.under_way);
    gathered.gauge("requests_served", "Requests that workers of this node have from other nodes", figures.served);
    gathered.counter(
        "requests_malformed",
        "Connections closed because of bytes that no node of this release sends",
        counters.malformed,
    );
}
