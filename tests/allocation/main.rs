//! Nothing is allocated for a heartbeat: counted, not believed. A binary of its own, since it
//! counts all allocations of its thread.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use heartbeat_core::config::{DetectorConfig, DetectorKind};
use heartbeat_core::detection::AnyDetector;
use heartbeat_core::detection::monitor::{Monitor, ReceivedHeartbeat};
use heartbeat_core::member::{Target, WorkerId, name_hash};
use heartbeat_core::wire::{Body, Header, Heartbeat, Observers, STAGES, decode, encode, encode_join};
use heartbeat_core::{
    ArbiterId, Batch, Config, Engine, Generation, Identity, Input, Instant, Member, NodeId, Output, Profile,
};

const SECOND: Duration = Duration::from_secs(1);

#[track_caller]
fn check_none(what: &str, work: impl FnOnce()) {
    let allocations = measure(work).count_total;
    assert_eq!(allocations, 0, "{what}");
}

#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(black_box(Box::new(1)))).count_total, 1);
}

#[test]
fn a_beat_through_the_monitor_allocates_nothing() {
    for kind in [DetectorKind::Fixed, DetectorKind::Chen, DetectorKind::Phi, DetectorKind::Budget] {
        let config = DetectorConfig { kind, ..Config::default().detector };
        let mut monitor = Monitor::new(Instant::ZERO);
        let watches: Vec<_> = (0..1_000)
            .map(|id| {
                let detector = AnyDetector::new(&config, SECOND, Instant::ZERO);
                monitor.watch(Target::Worker(WorkerId(id)), detector, SECOND * 6, Instant::ZERO)
            })
            .collect();
        check_none("100 seconds of 1,000 targets", || {
            for slot in 1..=100 {
                let at = Instant::ZERO + SECOND * slot;
                for &watch in &watches {
                    let heartbeat =
                        ReceivedHeartbeat { at, slot: u64::from(slot), interval: SECOND, slept: 0, waited: false };
                    assert!(monitor.heartbeat(watch, heartbeat).is_none());
                }
                assert!(monitor.poll_change(at).is_none());
            }
        });
    }
}

fn monitor_config() -> Config {
    Config::from_toml(
        "[cluster]\nname = 'c'\nnode = 'monitor'\nrole = 'monitor'\nmode = 'central'\nlisten = '10.0.0.1:1'\nseeds = ['10.0.0.1:1']",
    )
    .unwrap()
}

#[test]
fn a_heartbeat_through_the_engine_allocates_nothing() {
    let address: SocketAddr = "10.0.0.1:1".parse().unwrap();
    let mut engine =
        Engine::new(monitor_config(), Identity { generation: Generation(1), address }, 1, Instant::ZERO).unwrap();
    let mut buffer = Vec::with_capacity(2_000);
    let header = Header { cluster: name_hash("c") as u32, from: NodeId::of("a"), generation: Generation(5), clock: 0 };
    let (from, mut bytes) = ("10.0.0.2:1".parse().unwrap(), Vec::with_capacity(2_000));
    let me = Member::new(Profile::new("a", from), header.generation);
    let mut token = 0;
    for _ in 0..2 {
        encode_join(&mut bytes, header, token, &me);
        engine.handle(Instant::ZERO, Input::datagrams([(from, &bytes[..])]));
        while let Some(output) = engine.poll_output(&mut buffer) {
            if let (Output::Transmit { .. }, Ok(Body::Challenge { token: said })) =
                (output, decode(&buffer).map(|said| said.body))
            {
                token = said;
            }
        }
    }
    let mut batch = Arc::new(Batch::default());
    let mut beat = |engine: &mut Engine, slot: u64| {
        let now = Instant::ZERO + SECOND * u32::try_from(slot).unwrap();
        let observers = Observers::new([NodeId::of("monitor")]);
        let (stage, interval) = (slot * STAGES, SECOND);
        let heartbeat =
            Heartbeat { incarnation: me.incarnation, stage, interval, slept: 0, health: 0, asks: true, observers };
        encode(&mut bytes, header, &Body::Heartbeat(heartbeat));
        while let Some(due) = engine.poll_timeout().filter(|&due| due < now) {
            engine.handle(due, Input::Timeout);
            while let Some(output) = engine.poll_output(&mut buffer) {
                // A pause would mean that something else is measured than is said.
                assert!(!matches!(output, Output::Event(_) | Output::Drain), "{output:?}");
            }
        }
        // As a driver does: the buffer of the last batch is used again.
        let room = Arc::get_mut(&mut batch).unwrap();
        room.clear();
        room.push(from, &bytes);
        engine.handle(now, Input::from(batch.clone()));
        let mut sent = 0;
        while engine.poll_output(&mut buffer).is_some() {
            sent += 1;
        }
        assert!(sent >= 1, "it is answered");
        engine.handle(now, Input::Beat { arbiter: ArbiterId(0), slot, times: None });
        engine.handle(now, Input::Beat { arbiter: ArbiterId(1), slot, times: None });
        engine.handle(now, Input::Timeout);
        while engine.poll_output(&mut buffer).is_some() {}
    };
    (1..40).for_each(|slot| beat(&mut engine, slot));
    check_none("100 heartbeats with their answers", || (40..140).for_each(|slot| beat(&mut engine, slot)));
    assert_eq!(engine.counters().received, 141);
}
