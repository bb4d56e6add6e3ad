//! What the unit tests of the rules share: a node named `me`, the members that it knows, and an
//! outbox whose content they assert.

use std::net::SocketAddr;
use std::time::Duration;

use super::clock::Clock;
use super::join::Joining;
use super::outbox::{Outbox, Outgoing, Payload};
use super::peers::Peers;
use super::{Cluster, Identity};
use crate::config::{ClusterConfig, Config};
use crate::ctx::Ctx;
use crate::detection::monitor::Monitor;
use crate::event::Event;
use crate::member::{Epoch, Generation, Incarnation, Member, NodeId, Profile, Status};
use crate::output::Output;
use crate::random::Random;
use crate::time::Instant;
use crate::wire::{Body, Header, Row};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const GENERATION: Generation = Generation(7);

/// This many milliseconds after the origin of time.
pub(super) fn ms(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// A nanosecond after `at`.
pub(super) fn just_after(at: Instant) -> Instant {
    at + Duration::from_nanos(1)
}

pub(super) fn id(name: &str) -> NodeId {
    NodeId::of(name)
}

/// The address of a node: its port is made of the first and the last letter of its name.
pub(super) fn address(name: &str) -> SocketAddr {
    let (first, last) = (name.as_bytes()[0], name.as_bytes()[name.len() - 1]);
    SocketAddr::from(([10, 0, 0, 1], u16::from_be_bytes([first, last])))
}

pub(super) fn member(name: &str) -> Member {
    Member::new(Profile::new(name, address(name)), GENERATION)
}

/// The header of a message of this node.
pub(super) fn header(name: &str) -> Header {
    Header { cluster: 0, from: id(name), generation: GENERATION, clock: 0 }
}

/// A note about a member of the fixture.
pub(super) fn note(name: &str, status: Status, incarnation: Incarnation) -> Row<'static> {
    Row { id: id(name), status, generation: GENERATION, incarnation, revision: 1, details: None }
}

/// The settings of `me`: an interval of 1 s, a timeout of 6 s, these seeds, and more `settings`.
pub(super) fn config(seeds: &[&str], settings: &str) -> Config {
    let seeds: Vec<String> = seeds.iter().map(|seed| format!("'{}'", address(seed))).collect();
    let text = format!(
        "interval = '1s'\ntimeout = '6s'\n{settings}\n[cluster]\nname = 'test'\nnode = 'me'\nrole = 'worker'\n\
         mode = 'random'\nlisten = '{}'\nseeds = [{}]",
        address("me"),
        seeds.join(", ")
    );
    Config::from_toml(&text).unwrap()
}

/// A node named `me` at the origin of time.
pub(super) struct Fixture {
    pub(super) peers: Peers,
    pub(super) out: Outbox,
    pub(super) ctx: Ctx,
    pub(super) cluster: ClusterConfig,
}

impl Fixture {
    /// With these other members in its table.
    pub(super) fn new(others: &[&str]) -> Fixture {
        Fixture::with(others, &["seed"], "")
    }

    pub(super) fn with(others: &[&str], seeds: &[&str], settings: &str) -> Fixture {
        let mut ctx = ctx(config(seeds, settings));
        let (config, cluster) = (ctx.config.clone(), ctx.config.cluster.clone().unwrap());
        let mut peers = Peers::new(&config, &cluster, member("me"), &mut ctx);
        others.iter().for_each(|name| peers.table.preload(ctx.now, &member(name)));
        let out = Outbox::new("test", Clock::new(0, Epoch(0), ctx.now), &mut ctx);
        Fixture { peers, out, ctx, cluster }
    }

    pub(super) fn at(&mut self, now: Instant) {
        self.ctx.now = now;
    }

    pub(super) fn joining(&mut self) -> Joining {
        let config = self.ctx.config.clone();
        Joining::new(&config, &self.cluster, &self.peers.me, &mut self.ctx)
    }

    /// Messages sent since the last call, each with the address that it goes to.
    pub(super) fn sent(&mut self) -> Vec<(SocketAddr, Payload)> {
        let mut sent = Vec::new();
        while let Some(outgoing) = self.out.poll() {
            match outgoing {
                Outgoing::Send { to, payload, .. } => sent.push((to, payload)),
                Outgoing::Open { .. } | Outgoing::Frame { .. } | Outgoing::Close { .. } => {}
            }
        }
        sent
    }

    /// The messages among them, gossip and heartbeats apart.
    pub(super) fn bodies(&mut self) -> Vec<(SocketAddr, Body<'static>)> {
        fn body(payload: Payload) -> Option<Body<'static>> {
            match payload {
                Payload::Body(body) => Some(body),
                Payload::In { payload, .. } => body(*payload),
                Payload::AckWithSummary { ack, .. } => Some(Body::Ack(ack)),
                Payload::Heartbeat { .. }
                | Payload::Join { .. }
                | Payload::Sync
                | Payload::RowRange(_)
                | Payload::Members(_)
                | Payload::Gossip
                | Payload::About(_)
                | Payload::Part { .. } => None,
            }
        }
        self.sent().into_iter().filter_map(|(to, payload)| Some((to, body(payload)?))).collect()
    }

    /// The events since this was last asked.
    pub(super) fn events(&mut self) -> Vec<Event> {
        events(&mut self.ctx)
    }
}

pub(super) fn ctx(config: Config) -> Ctx {
    let (random, monitor) = (Random::seeded(1), Monitor::new(Instant::ZERO));
    Ctx { now: Instant::ZERO, arrivals_stale: false, config, random, monitor, outputs: Default::default() }
}

pub(super) fn events(ctx: &mut Ctx) -> Vec<Event> {
    let event = |output| if let Output::Event(event) = output { Some(event) } else { None };
    ctx.outputs.drain(..).filter_map(event).collect()
}

/// A whole cluster of `me` and these members, at the origin of time, with all its rules.
pub(super) fn cluster(others: &[&str]) -> (Cluster, Ctx) {
    let config = config(&["seed"], "");
    let mut ctx = ctx(config.clone());
    let identity = Identity { generation: GENERATION, address: address("me") };
    let mut cluster = Cluster::new(&config, config.cluster.as_ref().unwrap(), identity, &mut ctx);
    let others: Vec<Member> = others.iter().map(|name| member(name)).collect();
    if !others.is_empty() {
        cluster.preload(&others, &ctx);
    }
    while cluster.poll_outgoing().is_some() {}
    (cluster, ctx)
}
