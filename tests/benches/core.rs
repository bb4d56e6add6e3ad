//! What deciding costs: beats through the monitor, datagrams through the engine, the wire format beside a serde codec.
//!
//! cargo bench -p heartbeat-tests --bench core
#![allow(missing_docs, reason = "a benchmark has no users")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where")]

use std::net::SocketAddr;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use heartbeat_core::config::{DetectorConfig, DetectorKind};
use heartbeat_core::detector::AnyDetector;
use heartbeat_core::member::{Target, WorkerId, name_hash};
use heartbeat_core::monitor::{Monitor, Sign, WatchId};
use heartbeat_core::wire::{self, Header, Heartbeat, Join, Observers};
use heartbeat_core::{Config, Engine, Generation, Identity, Incarnation, Instant, NodeId, Random, Role};
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);

fn main() {
    divan::main();
}

/// Targets that beat once a virtual second, in the order of a sender's batch or in a random one.
struct Beats {
    monitor: Monitor,
    order: Vec<WatchId>,
    second: u64,
}

impl Beats {
    fn new(targets: u32, kind: DetectorKind, random_order: bool) -> Beats {
        let start = Instant::ZERO + SECOND;
        let config = DetectorConfig { kind, ..Config::default().detector };
        let mut monitor = Monitor::new(start);
        let mut order: Vec<WatchId> = (0..targets)
            .map(|id| {
                let detector = AnyDetector::new(&config, SECOND, start);
                monitor.watch(Target::Worker(WorkerId(id)), detector, SECOND * 6, start)
            })
            .collect();
        if random_order {
            let mut random = Random::seeded(1);
            for last in (1..order.len()).rev() {
                order.swap(last, random.below(last as u64 + 1) as usize);
            }
        }
        let mut beats = Beats { monitor, order, second: 1 };
        (0..12).for_each(|_| beats.one_second()); // Past two turns of all deadlines.
        beats
    }

    /// A thousand slices of a millisecond: in each its share of the targets beats, then the monitor is asked what has changed.
    fn one_second(&mut self) {
        let share = self.order.len().div_ceil(1_000);
        self.second += 1;
        for (slice, watches) in self.order.chunks(share).enumerate() {
            let at = Instant::from_millis(self.second * 1_000 + slice as u64);
            for &watch in watches {
                let sign = Sign { at, slot: self.second, interval: SECOND };
                assert!(self.monitor.heartbeat(watch, sign).is_none());
            }
            assert!(self.monitor.poll_change(at).is_none());
        }
    }
}

fn bench_beats(bencher: Bencher<'_, '_>, targets: u32, kind: DetectorKind, random_order: bool) {
    let mut beats = Beats::new(targets, kind, random_order);
    bencher.counter(ItemsCount::new(targets)).bench_local(|| beats.one_second());
}

#[divan::bench(args = [1_000, 100_000, 1_000_000], sample_count = 20, sample_size = 1)]
fn monitor_fixed_batch_order(bencher: Bencher<'_, '_>, targets: u32) {
    bench_beats(bencher, targets, DetectorKind::Fixed, false);
}

#[divan::bench(args = [1_000, 100_000, 1_000_000], sample_count = 20, sample_size = 1)]
fn monitor_fixed_random_order(bencher: Bencher<'_, '_>, targets: u32) {
    bench_beats(bencher, targets, DetectorKind::Fixed, true);
}

/// Phi keeps 8 KB for each target, so a million would take 8 GB and are left out.
#[divan::bench(args = [1_000, 100_000], sample_count = 20, sample_size = 1)]
fn monitor_phi_batch_order(bencher: Bencher<'_, '_>, targets: u32) {
    bench_beats(bencher, targets, DetectorKind::Phi, false);
}

fn header(from: u64) -> Header {
    Header { cluster: name_hash("c") as u32, from: NodeId(from), generation: Generation(1_795_000_000_000) }
}

fn heartbeat(slot: u64) -> Heartbeat {
    Heartbeat {
        incarnation: Incarnation(0),
        slot,
        interval: SECOND,
        slept: 0,
        view: u64::MAX >> 1,
        observers: Observers::new([NodeId(9)]),
    }
}

/// Heartbeats of 1,000 members into a monitor's engine in batches of 64, each with its answer encoded.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn engine_datagrams(bencher: Bencher<'_, '_>) {
    const MEMBERS: u64 = 1_000;
    let cluster = "[cluster]\nname = 'c'\nnode = 'm'\nrole = 'monitor'\nmode = 'central'\nlisten = '10.0.0.1:1'\nmonitors = ['10.0.0.1:1']";
    let address: SocketAddr = "10.0.0.1:1".parse().unwrap();
    let config = Config::from_toml(cluster).unwrap();
    let mut engine = Engine::new(config, Identity { generation: Generation(1), address }, 1, Instant::ZERO).unwrap();
    let mut buffer = Vec::new();
    let mut bytes = Vec::new();
    let member = |index: u64| {
        (format!("node-{index}"), SocketAddr::from(([10, 1, (index / 250) as u8, (index % 250) as u8], 7)))
    };
    for index in 0..MEMBERS {
        let (name, address) = member(index);
        let join = Join { incarnation: Incarnation(0), role: Role::Worker, address, name: &name };
        wire::encode_join(&mut bytes, header(NodeId::of(&name).0), &join);
        engine.handle_datagrams(Instant::ZERO, [(address, &bytes[..])]);
        while engine.poll_output(&mut buffer).is_some() {}
    }
    let mut slot = 0;
    bencher
        .counter(ItemsCount::new(MEMBERS))
        .with_inputs(|| {
            slot += 1;
            let datagrams: Vec<(SocketAddr, Vec<u8>)> = (0..MEMBERS)
                .map(|index| {
                    let (name, address) = member(index);
                    let mut bytes = Vec::new();
                    wire::encode_heartbeat(&mut bytes, header(NodeId::of(&name).0), &heartbeat(slot));
                    (address, bytes)
                })
                .collect();
            (slot, datagrams)
        })
        .bench_local_refs(|(slot, datagrams)| {
            let now = Instant::ZERO + SECOND * *slot as u32;
            for batch in datagrams.chunks(64) {
                engine.handle_datagrams(now, batch.iter().map(|(from, bytes)| (*from, &bytes[..])));
                while engine.poll_output(&mut buffer).is_some() {}
            }
            engine.handle_timeout(now);
            while engine.poll_output(&mut buffer).is_some() {}
        });
}

/// The fields of a heartbeat with its header, as a serde codec would carry them.
#[derive(Serialize, Deserialize)]
struct SerdeHeartbeat {
    magic: [u8; 2],
    version: u8,
    kind: u8,
    cluster: u32,
    from: u64,
    generation: u64,
    incarnation: u32,
    slot: u64,
    interval_us: u64,
    slept: u64,
    view: u64,
    observers: Vec<u64>,
}

fn serde_heartbeat(slot: u64) -> SerdeHeartbeat {
    let header = header(8);
    SerdeHeartbeat {
        magic: *b"HB",
        version: 1,
        kind: 0,
        cluster: header.cluster,
        from: name_hash("node-1"),
        generation: header.generation.0,
        incarnation: 0,
        slot,
        interval_us: 1_000_000,
        slept: 0,
        view: u64::MAX >> 1,
        observers: vec![name_hash("monitor")],
    }
}

#[divan::bench]
fn wire_encode_by_hand(bencher: Bencher<'_, '_>) {
    let mut buffer = Vec::with_capacity(2_000);
    bencher.bench_local(|| {
        wire::encode_heartbeat(&mut buffer, divan::black_box(header(name_hash("node-1"))), &heartbeat(3_600));
        buffer.len()
    });
}

#[divan::bench]
fn wire_encode_postcard(bencher: Bencher<'_, '_>) {
    let (heartbeat, mut buffer) = (serde_heartbeat(3_600), [0; 2_000]);
    bencher.bench_local(|| postcard::to_slice(divan::black_box(&heartbeat), &mut buffer).unwrap().len());
}

#[divan::bench]
fn wire_decode_by_hand(bencher: Bencher<'_, '_>) {
    let mut buffer = Vec::new();
    wire::encode_heartbeat(&mut buffer, header(name_hash("node-1")), &heartbeat(3_600));
    bencher.bench_local(|| wire::decode(divan::black_box(&buffer)).is_ok());
}

#[divan::bench]
fn wire_decode_postcard(bencher: Bencher<'_, '_>) {
    let bytes = postcard::to_stdvec(&serde_heartbeat(3_600)).unwrap();
    bencher.bench_local(|| postcard::from_bytes::<SerdeHeartbeat>(divan::black_box(&bytes)).is_ok());
}
