//! What deciding costs: beats through the monitor, datagrams through the engine, the wire format
//! beside a serde codec.
//!
//! ```text
//! cargo bench -p heartbeat-tests --bench core
//! ```
//!
//! Time is virtual throughout, so a sample of five seconds takes as long as the work in it. With
//! `--test` everything is done once and small.
#![allow(missing_docs, reason = "a benchmark has no users")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use heartbeat_actors::seal::Seal;
use heartbeat_core::config::DetectorConfig;
use heartbeat_core::detection::monitor::{Monitor, ReceivedHeartbeat, WatchId};
use heartbeat_core::detection::qos::Contender;
use heartbeat_core::detection::{AnyDetector, Arrival, Budget, Detector, Fixed, Phi};
use heartbeat_core::input::BATCH_MAX;
use heartbeat_core::member::{ProcessId, Target, WorkerId, name_hash};
use heartbeat_core::sharding::rendezvous;
use heartbeat_core::wire::{self, Body, Header, Heartbeat, Observers};
use heartbeat_core::{
    Batch, Config, Engine, Event, Generation, Identity, Incarnation, Input, Instant, Member, NodeId, Output, Profile,
    Random, Weight,
};

use heartbeat_sim::links::Link;
use heartbeat_sim::seal_of;
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);
/// Targets beat each second and are dead after this many; the wheel looks at each once in that
/// time.
const TIMEOUT_SECONDS: u64 = 5;

fn main() {
    if !is_quick() {
        sizes();
        shares();
    }
    divan::main();
}

/// How evenly 64 shards for each of so many equal members are spread: what the one with most has,
/// over the mean.
fn shares() {
    for count in [5, 20, 100, 1_000] {
        let nodes: Vec<NodeId> = (0..count).map(|number| NodeId::of(&format!("node-{number}"))).collect();
        let mut over_mean: Vec<f64> = (0..21)
            .map(|group| {
                let group = name_hash(&format!("group-{group}"));
                let mut shards = BTreeMap::new();
                for index in 0..64 * count {
                    let among = nodes.iter().map(|&node| (node, Weight::default()));
                    *shards.entry(rendezvous::owner(group, index, among).unwrap()).or_insert(0_u32) += 1;
                }
                f64::from(*shards.values().max().unwrap()) / 64.0
            })
            .collect();
        over_mean.sort_by(f64::total_cmp);
        let (median, greatest) = (over_mean[10], over_mean[20]);
        println!(
            "{count} members, 64 shards each: most over mean {median:.2}, in the worst of 21 groups {greatest:.2}"
        );
    }
}

/// Whether this is only to show that it runs: cargo passes `--bench` when it is to be measured.
fn is_quick() -> bool {
    let mut measured = false;
    for argument in std::env::args() {
        if argument == "--test" {
            return true;
        }
        measured |= argument == "--bench";
    }
    !measured
}

/// These numbers of targets, or one small one.
fn targets(all: &'static [u32]) -> impl Iterator<Item = u32> {
    all.iter().copied().take(if is_quick() { 1 } else { all.len() })
}

// ---- detectors ---------------------------------------------------------------------------------

/// The detectors, with the heartbeats of an hour of a quiet link and of one that loses one in
/// eight.
fn contenders() -> impl Iterator<Item = String> {
    Contender::ALL.into_iter().flat_map(|contender| ["lan", "mobile"].map(|link| format!("{contender} {link}")))
}

#[divan::bench(args = contenders(), sample_count = 20, sample_size = 1)]
fn detector_heartbeat(bencher: Bencher<'_, '_>, name: &str) {
    let contender = Contender::ALL.into_iter().find(|contender| name.starts_with(contender.name())).unwrap();
    let link = if name.ends_with("lan") { Link::Lan } else { Link::Mobile };
    let trace = link.trace(1, if is_quick() { 0.01 } else { 1.0 });
    let arrived = trace.beats.iter().filter_map(|beat| Some((beat.slot, beat.arrived?)));
    let mut newest = None;
    let arrivals: Vec<Arrival> = arrived
        .map(|(slot, at)| {
            let slots = slot - newest.replace(slot).unwrap_or(slot - slot.min(1));
            Arrival { at, interval: trace.interval(slot), slots: slots.max(1), slept: 0, waited: false }
        })
        .collect();
    let interval = trace.intervals[0].1;
    bencher
        .counter(ItemsCount::new(arrivals.len()))
        .with_inputs(|| contender.detector(contender.default_setting(), interval, Instant::ZERO).unwrap())
        .bench_local_values(|mut detector| {
            for &arrival in &arrivals {
                detector.heartbeat(arrival);
                black_box(detector.deadline());
            }
            detector
        });
}

// ---- monitor -----------------------------------------------------------------------------------

/// Targets that beat once a virtual second, always in the same order.
struct Beats {
    monitor: Monitor,
    order: Vec<WatchId>,
    second: u64,
}

impl Beats {
    /// Targets that have beaten through two looks of the wheel.
    fn new(targets: u32, detector: fn(Instant) -> AnyDetector) -> Beats {
        let start = Instant::ZERO;
        let mut monitor = Monitor::new(start);
        let timeout = SECOND * TIMEOUT_SECONDS as u32;
        let order = (0..targets)
            .map(|id| monitor.watch(Target::Worker(WorkerId(id)), detector(start), timeout, start))
            .collect();
        let mut beats = Beats { monitor, order, second: 0 };
        beats.one_timeout();
        beats.one_timeout();
        beats
    }

    fn shuffled(mut self) -> Beats {
        let mut random = Random::seeded(1);
        for last in (1..self.order.len()).rev() {
            self.order.swap(last, random.below(last as u64 + 1) as usize);
        }
        self.one_timeout();
        self
    }

    /// Seconds of a thousand slices: in each its share of the targets beats, then the monitor is
    /// asked what has changed. As many seconds as the timeout, since fewer could leave out, or hold
    /// alone, the one in which the wheel looks.
    fn one_timeout(&mut self) {
        let share = self.order.len().div_ceil(1_000);
        for _ in 0..TIMEOUT_SECONDS {
            self.second += 1;
            for (slice, watches) in self.order.chunks(share).enumerate() {
                let at = Instant::from_millis(self.second * 1_000 + slice as u64);
                for &watch in watches {
                    let heartbeat =
                        ReceivedHeartbeat { at, slot: self.second, interval: SECOND, slept: 0, waited: false };
                    assert!(self.monitor.heartbeat(watch, heartbeat).is_none());
                }
                assert!(self.monitor.poll_change(at).is_none());
            }
        }
    }

    /// The same beats in one go, without a question between them.
    fn beats_alone(&mut self) {
        for _ in 0..TIMEOUT_SECONDS {
            self.second += 1;
            let at = Instant::ZERO + SECOND * self.second as u32;
            for &watch in &self.order {
                let heartbeat = ReceivedHeartbeat { at, slot: self.second, interval: SECOND, slept: 0, waited: false };
                assert!(self.monitor.heartbeat(watch, heartbeat).is_none());
            }
        }
    }
}

fn fixed(start: Instant) -> AnyDetector {
    AnyDetector::Fixed(Fixed::new(SECOND * TIMEOUT_SECONDS as u32, SECOND, start))
}

fn phi(start: Instant) -> AnyDetector {
    let config: DetectorConfig = Config::default().detector;
    AnyDetector::Phi(Phi::new(&config, SECOND, start))
}

fn budget(start: Instant) -> AnyDetector {
    AnyDetector::Budget(Budget::new(Config::default().detector.mistakes, SECOND, start))
}

fn bench_beats(bencher: Bencher<'_, '_>, mut beats: Beats) {
    let count = beats.order.len() as u64 * TIMEOUT_SECONDS;
    bencher.counter(ItemsCount::new(count)).bench_local(|| beats.one_timeout());
}

#[divan::bench(args = targets(&[1_000, 100_000, 1_000_000]), sample_count = 20, sample_size = 1)]
fn monitor_fixed_batch_order(bencher: Bencher<'_, '_>, targets: u32) {
    bench_beats(bencher, Beats::new(targets, fixed));
}

#[divan::bench(args = targets(&[1_000, 100_000, 1_000_000]), sample_count = 10, sample_size = 1)]
fn monitor_fixed_random_order(bencher: Bencher<'_, '_>, targets: u32) {
    bench_beats(bencher, Beats::new(targets, fixed).shuffled());
}

/// Without the question after each millisecond, which a thousand targets pay for alone and a
/// million share.
#[divan::bench(args = targets(&[1_000, 100_000, 1_000_000]), sample_count = 20, sample_size = 1)]
fn monitor_fixed_without_polls(bencher: Bencher<'_, '_>, targets: u32) {
    let mut beats = Beats::new(targets, fixed);
    let count = u64::from(targets) * TIMEOUT_SECONDS;
    bencher.counter(ItemsCount::new(count)).bench_local(|| beats.beats_alone());
}

/// Phi remembers a thousand intervals, 8 KB for each target: a million would take 8 GB and are left
/// out.
#[divan::bench(args = targets(&[1_000, 100_000]), sample_count = 20, sample_size = 1)]
fn monitor_phi_batch_order(bencher: Bencher<'_, '_>, targets: u32) {
    bench_beats(bencher, Beats::new(targets, phi));
}

#[divan::bench(args = targets(&[1_000, 100_000]), sample_count = 20, sample_size = 1)]
fn monitor_budget_batch_order(bencher: Bencher<'_, '_>, targets: u32) {
    bench_beats(bencher, Beats::new(targets, budget));
}

// ---- engine ------------------------------------------------------------------------------------

/// A monitor's engine with members that have joined.
struct Cluster {
    engine: Engine,
    members: Vec<(SocketAddr, Header)>,
    /// The seal of the monitor, and those of the members, where traffic is sealed.
    seals: Option<(Seal, Vec<Seal>)>,
    /// Whether answers are sealed, too.
    seals_answers: bool,
    buffer: Vec<u8>,
}

impl Cluster {
    fn new(count: u32) -> Cluster {
        let address = SocketAddr::from(([10, 0, 0, 1], 7100));
        let text = "[cluster]\nname = 'c'\nnode = 'm'\nrole = 'monitor'\nmode = 'central'\nlisten = '10.0.0.1:7100'\n\
                    seeds = ['10.0.0.1:7100']";
        let identity = Identity { generation: Generation(1), address };
        let engine = Engine::new(Config::from_toml(text).unwrap(), identity, 1, Instant::ZERO).unwrap();
        let mut cluster =
            Cluster { engine, members: Vec::new(), seals: None, seals_answers: false, buffer: Vec::new() };
        // It begins a cluster of its own, which the others join.
        let mut at = Instant::ZERO;
        while !cluster.engine.is_joined() {
            at = cluster.engine.poll_timeout().expect("the monitor waits for its seeds");
            cluster.engine.handle(at, Input::Timeout);
            cluster.drain();
        }
        let mut bytes = Vec::new();
        for index in 0..count {
            let name = format!("node-{index}");
            let address = SocketAddr::from(([10, 1, (index / 250) as u8, (index % 250) as u8], 7100));
            let header = header(NodeId::of(&name));
            cluster.members.push((address, header));
            let mut token = 0;
            for _ in 0..2 {
                wire::encode_join(&mut bytes, header, token, &member(&name, address));
                cluster.engine.handle(at, Input::datagrams([(address, &bytes[..])]));
                while let Some(output) = cluster.engine.poll_output(&mut cluster.buffer) {
                    if let (Output::Transmit { .. }, Ok(Body::Challenge { token: said })) =
                        (output, wire::decode(&cluster.buffer).map(|said| said.body))
                    {
                        token = said;
                    }
                }
            }
        }
        assert_eq!(cluster.engine.members().count(), count as usize + 1, "all have joined");
        cluster
    }

    fn drain(&mut self) -> u64 {
        let mut sent = 0;
        while let Some(output) = self.engine.poll_output(&mut self.buffer) {
            match output {
                Output::Transmit { receiver, .. } => {
                    sent += 1;
                    if let Some((seal, _)) = self.seals.as_mut().filter(|_| self.seals_answers) {
                        seal.seal(receiver, &self.buffer, |sealed| assert!(sealed.len() > self.buffer.len()));
                    }
                }
                // A pause or a verdict would mean that something else is measured than is said.
                Output::Event(event) => assert!(matches!(event, Event::Joined { .. }), "{event:?}"),
                _ => {}
            }
        }
        sent
    }

    /// The encoded heartbeats of all nodes in one slot, in the batches in which a driver finds
    /// them.
    fn heartbeats(&mut self, slot: u64) -> Vec<Arc<Batch>> {
        let heartbeat = heartbeat(slot);
        let monitor = monitor();
        let mut bytes = Vec::new();
        let mut batches = Vec::new();
        for (index, &(address, header)) in self.members.iter().enumerate() {
            if index % BATCH_MAX == 0 {
                batches.push(Batch::default());
            }
            let batch = batches.last_mut().unwrap();
            wire::encode(&mut bytes, header, &Body::Heartbeat(heartbeat));
            match &mut self.seals {
                Some((_, seals)) => seals[index].seal(Some(monitor), &bytes, |sealed| batch.push(address, sealed)),
                None => batch.push(address, &bytes),
            }
        }
        batches.into_iter().map(Arc::new).collect()
    }

    /// Seals the traffic from now on.
    fn sealed(mut self, seals_answers: bool) -> Cluster {
        let seals = self.members.iter().map(|(_, header)| seal_of(header.sender())).collect();
        self.seals = Some((seal_of(monitor()), seals));
        self.seals_answers = seals_answers;
        self
    }

    /// One second: batches spread over it, each drained, and the engine's timeouts in between.
    fn one_second(&mut self, slot: u64, batches: &mut [Arc<Batch>]) {
        let pause = SECOND / (self.members.len() / BATCH_MAX + 1) as u32;
        let mut now = Instant::ZERO + SECOND * slot as u32;
        let mut sent = 0;
        for batch in batches {
            while let Some(due) = self.engine.poll_timeout().filter(|&due| due <= now) {
                self.engine.handle(due, Input::Timeout);
                sent += self.drain();
            }
            if let Some((seal, _)) = &mut self.seals {
                Arc::make_mut(batch).open_each(|_, bytes| seal.open(bytes).ok());
            }
            self.engine.handle(now, Input::from(batch.clone()));
            sent += self.drain();
            now += pause;
        }
        assert!(sent >= self.members.len() as u64, "each heartbeat is answered");
    }
}

fn bench_cluster(bencher: Bencher<'_, '_>, cluster: Cluster) {
    let (count, cluster, mut slot) = (cluster.members.len(), RefCell::new(cluster), 10);
    bencher
        .counter(ItemsCount::new(count))
        .with_inputs(|| {
            slot += 1;
            (slot, cluster.borrow_mut().heartbeats(slot))
        })
        .bench_local_refs(|(slot, batches)| cluster.borrow_mut().one_second(*slot, batches));
}

/// Heartbeats into a monitor's engine in batches, each of which asks for an answer.
#[divan::bench(args = targets(&[100, 1_000]), sample_count = 100, sample_size = 1)]
fn engine_heartbeats(bencher: Bencher<'_, '_>, members: u32) {
    bench_cluster(bencher, Cluster::new(members));
}

/// The same, each of them sealed.
#[divan::bench(args = targets(&[100, 1_000]), sample_count = 100, sample_size = 1)]
fn engine_heartbeats_sealed(bencher: Bencher<'_, '_>, members: u32) {
    bench_cluster(bencher, Cluster::new(members).sealed(false));
}

/// The same, with sealed answers, too.
#[divan::bench(args = targets(&[100, 1_000]), sample_count = 100, sample_size = 1)]
fn engine_heartbeats_and_answers_sealed(bencher: Bencher<'_, '_>, members: u32) {
    bench_cluster(bencher, Cluster::new(members).sealed(true));
}

/// The process of the monitor.
fn monitor() -> ProcessId {
    ProcessId { node: NodeId::of("m"), generation: Generation(1) }
}

// ---- wire --------------------------------------------------------------------------------------

fn header(from: NodeId) -> Header {
    Header { cluster: name_hash("c") as u32, from, generation: Generation(1_795_000_000_000), clock: 3_600_000 }
}

fn heartbeat(slot: u64) -> Heartbeat {
    Heartbeat {
        incarnation: Incarnation::default(),
        stage: slot * wire::STAGES,
        interval: SECOND,
        slept: 0,
        health: 0,
        asks: true,
        observers: Observers::new([NodeId::of("monitor")]),
    }
}

/// Members in one datagram of rows.
const ENTRIES: usize = 25;

fn members() -> Vec<Member> {
    (0..ENTRIES)
        .map(|index| member(&format!("node-{index}"), SocketAddr::from(([10, 1, 0, index as u8], 7100))))
        .collect()
}

fn member(name: &str, address: SocketAddr) -> Member {
    Member::new(Profile::new(name, address), Generation(1_795_000_000_000))
}

/// The fields of every datagram, as a serde codec carries them.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct SerdeHeader {
    magic: [u8; 2],
    version: u8,
    kind: u8,
    #[serde(with = "postcard::fixint::le")]
    cluster: u32,
    #[serde(with = "postcard::fixint::le")]
    from: u64,
    generation: u64,
    clock: u64,
}

#[derive(Serialize, Deserialize)]
struct SerdeHeartbeat {
    header: SerdeHeader,
    incarnation: (u32, u32),
    stage: u64,
    interval_us: u64,
    slept: u64,
    health: u8,
    asks: bool,
    observers: Vec<u32>,
    rumours: u8,
}

#[derive(Serialize, Deserialize)]
struct SerdeAnswer<'a> {
    header: SerdeHeader,
    differing: u64,
    flags: u8,
    #[serde(borrow)]
    entries: Vec<SerdeEntry<'a>>,
}

#[derive(Serialize, Deserialize)]
struct SerdeEntry<'a> {
    id: u64,
    flags: u8,
    generation: u64,
    incarnation: (u32, u32),
    address: SocketAddr,
    name: &'a str,
    zone: &'a str,
    pairs: u8,
}

fn serde_header(kind: u8) -> SerdeHeader {
    let Header { cluster, from, generation, clock } = header(NodeId::of("node-1"));
    SerdeHeader {
        magic: *b"HB",
        version: wire::VERSION_MIN,
        kind,
        cluster,
        from: from.0,
        generation: generation.0,
        clock,
    }
}

fn serde_heartbeat() -> SerdeHeartbeat {
    let Heartbeat { incarnation, stage, interval, slept, health, asks, observers } = heartbeat(3_600);
    SerdeHeartbeat {
        header: serde_header(0),
        incarnation: (incarnation.returns, incarnation.refutations),
        stage,
        interval_us: interval.as_micros() as u64,
        slept,
        health,
        asks,
        observers: observers.iter().collect(),
        rumours: 0,
    }
}

fn serde_answer(members: &[Member]) -> SerdeAnswer<'_> {
    let entries = members.iter().map(serde_entry).collect();
    SerdeAnswer { header: serde_header(11), differing: u64::MAX, flags: 2, entries }
}

fn serde_entry(member: &Member) -> SerdeEntry<'_> {
    SerdeEntry {
        id: member.id.0,
        flags: 4,
        generation: member.generation.0,
        incarnation: (member.incarnation.returns, member.incarnation.refutations),
        address: member.address,
        name: &member.name,
        zone: &member.zone,
        pairs: 0,
    }
}

fn encode_rows(buffer: &mut Vec<u8>, header: Header, members: &[Member]) {
    let rows = wire::Rows { differing: u64::MAX, more: false, welcome: false, whole: true };
    wire::encode(buffer, header, &Body::Rows(rows));
    let count_at = buffer.len() - 1;
    members.iter().for_each(|member| assert!(wire::push_rumour(buffer, count_at, member, true)));
}

fn sizes() {
    let (mut heartbeat_bytes, mut answer_bytes, members) = (Vec::new(), Vec::new(), members());
    wire::encode(&mut heartbeat_bytes, header(NodeId::of("node-1")), &Body::Heartbeat(heartbeat(3_600)));
    encode_rows(&mut answer_bytes, header(NodeId::of("node-1")), &members);
    println!("heartbeat: {} bytes by hand, {} by postcard", heartbeat_bytes.len(), {
        postcard::to_stdvec(&serde_heartbeat()).unwrap().len()
    });
    println!("rows of {ENTRIES} members: {} bytes by hand, {} by postcard", answer_bytes.len(), {
        postcard::to_stdvec(&serde_answer(&members)).unwrap().len()
    });
}

#[divan::bench]
fn wire_heartbeat_encode_by_hand(bencher: Bencher<'_, '_>) {
    let (header, heartbeat) = (header(NodeId::of("node-1")), Body::Heartbeat(heartbeat(3_600)));
    let mut buffer = Vec::with_capacity(wire::DATAGRAM_BYTES_MAX);
    bencher.bench_local(|| {
        wire::encode(&mut buffer, black_box(header), black_box(&heartbeat));
        buffer.len()
    });
}

#[divan::bench]
fn wire_heartbeat_encode_postcard(bencher: Bencher<'_, '_>) {
    let (heartbeat, mut buffer) = (serde_heartbeat(), [0; wire::DATAGRAM_BYTES_MAX]);
    bencher.bench_local(|| postcard::to_slice(black_box(&heartbeat), &mut buffer).unwrap().len());
}

#[divan::bench]
fn wire_heartbeat_decode_by_hand(bencher: Bencher<'_, '_>) {
    let mut buffer = Vec::new();
    wire::encode(&mut buffer, header(NodeId::of("node-1")), &Body::Heartbeat(heartbeat(3_600)));
    bencher.bench_local(|| black_box(wire::decode(black_box(&buffer))).is_ok());
}

#[divan::bench]
fn wire_heartbeat_decode_postcard(bencher: Bencher<'_, '_>) {
    let bytes = postcard::to_stdvec(&serde_heartbeat()).unwrap();
    bencher.bench_local(|| black_box(postcard::from_bytes::<SerdeHeartbeat>(black_box(&bytes))).is_ok());
}

#[divan::bench]
fn wire_rows_encode_by_hand(bencher: Bencher<'_, '_>) {
    let (header, members) = (header(NodeId::of("node-1")), members());
    let mut buffer = Vec::with_capacity(wire::DATAGRAM_BYTES_MAX);
    bencher.bench_local(|| {
        encode_rows(&mut buffer, black_box(header), black_box(&members));
        buffer.len()
    });
}

/// With the making of the entries, since ours are written from the members too.
#[divan::bench]
fn wire_rows_encode_postcard(bencher: Bencher<'_, '_>) {
    let (members, mut buffer) = (members(), [0; 2 * wire::DATAGRAM_BYTES_MAX]);
    bencher.bench_local(|| postcard::to_slice(&serde_answer(black_box(&members)), &mut buffer).unwrap().len());
}

/// With a walk through the entries, which are found well-formed on decoding and read on the walk.
#[divan::bench]
fn wire_rows_decode_by_hand(bencher: Bencher<'_, '_>) {
    let mut buffer = Vec::new();
    encode_rows(&mut buffer, header(NodeId::of("node-1")), &members());
    bencher.bench_local(|| {
        let rows = wire::decode(black_box(&buffer)).unwrap().rumours;
        assert_eq!(rows.len(), ENTRIES);
        for entry in rows.iter() {
            black_box(entry);
        }
    });
}

#[divan::bench]
fn wire_rows_decode_postcard(bencher: Bencher<'_, '_>) {
    let members = members();
    let bytes = postcard::to_stdvec(&serde_answer(&members)).unwrap();
    bencher.bench_local(|| {
        let answer: SerdeAnswer<'_> = postcard::from_bytes(black_box(&bytes)).unwrap();
        assert_eq!(answer.entries.len(), ENTRIES);
        for entry in answer.entries.iter() {
            black_box(entry);
        }
    });
}
