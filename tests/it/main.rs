//! The deterministic suites: no sleep, no socket, no clock. One binary, since each would link
//! everything again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod believed;
mod book;
mod clocks;
mod config;
mod decentralised;
mod detection;
mod determinism;
mod edges;
mod events;
mod extremes;
mod forged;
mod golden;
mod guard;
mod handover;
mod hostile;
mod inquiry;
mod interval;
mod language;
mod membership;
mod partition;
mod placement;

mod reference;
mod reflection;
mod replay;
mod requests;
mod restart;
mod scenarios;
mod sealed;
mod settings;
mod summaries;
mod supervision;
mod sweep;
mod tidy;
mod versions;
mod wire;

use std::time::Duration;

use std::net::SocketAddr;

use heartbeat_core::member::name_hash;
use heartbeat_core::wire::Header;
use heartbeat_core::{Config, Generation, Member, Profile};
use heartbeat_sim::{Fault, World};

/// A quiet world of a monitor and four nodes, five seconds old, with a fixed detector: suspect
/// after 3 s, dead after 6 s.
fn quiet_world(seed: u64) -> World {
    let mut config = heartbeat_core::Config::default();
    config.detector.kind = heartbeat_core::config::DetectorKind::Fixed;
    config.membership.lifelines = false;
    let mut world = World::new(seed, 4, config);
    world.run(Duration::from_secs(5));
    world
}

/// A config with each of the detectors: suspicion after a few seconds, death after six.
fn every_detector() -> Vec<Config> {
    let texts = [
        "[detector]\nkind = 'budget'",
        "[detector]\nkind = 'fixed'",
        "[detector]\nkind = 'chen'",
        "[detector]\nkind = 'phi'",
        "[detector]\nkind = 'phi'\nreading = 'cassandra'\nthreshold = 1.5",
    ];
    texts.iter().map(|text| Config::from_toml(text).unwrap()).collect()
}

/// A member as it would introduce itself.
fn member(name: &str, generation: Generation, address: SocketAddr) -> Member {
    Member::new(Profile::new(name, address), generation)
}

/// The header of a message from this member.
fn header(me: &Member) -> Header {
    Header { cluster: name_hash("sim") as u32, from: me.id, generation: me.generation, clock: 0 }
}

/// Asserts that nothing is broken and that the world has recovered.
#[track_caller]
fn check_well(world: &World) {
    assert_eq!(world.checker.broken(), [] as [String; 0]);
    assert_eq!(world.unsettled(), [] as [String; 0]);
}

/// Does a fault and lets time pass.
fn after(world: &mut World, fault: Fault, seconds: u64) {
    world.apply(fault);
    world.run(Duration::from_secs(seconds));
}
