//! A node publishes each contradiction between its settings and those of the cluster that keeps the
//! cluster from working as meant.

use std::net::SocketAddr;
use std::time::Duration;

use heartbeat_core::member::name_hash;
use heartbeat_core::wire::{self, Body, Header};
use heartbeat_core::{Config, Engine, Event, Generation, Identity, Input, Instant, NodeId, Output, StreamEvent};
use heartbeat_sim::{Shape, World};

use crate::{header, member};

/// Some engines on a network without delay, and what they told.
struct Nodes {
    engines: Vec<(SocketAddr, Option<Engine>)>,
    told: Vec<(usize, Event)>,
}

impl Nodes {
    /// Nodes with this cluster table each, their names apart; the first one is the seed.
    fn start(tables: &[&str]) -> Nodes {
        let mut nodes = Nodes { engines: Vec::new(), told: Vec::new() };
        for (place, table) in tables.iter().enumerate() {
            let address: SocketAddr = format!("10.0.0.{}:1", place + 1).parse().unwrap();
            let text = format!("[cluster]\nnode = 'n{place}'\nlisten = '{address}'\nseeds = ['10.0.0.1:1']\n{table}");
            let identity = Identity { generation: Generation(1_700_000_000_000), address };
            let config = Config::from_toml(&text).unwrap();
            let engine = Engine::new(config, identity, place as u64, Instant::from_millis(1_000)).unwrap();
            nodes.engines.push((address, Some(engine)));
        }
        nodes
    }

    fn run(&mut self, from: u64, to: u64) {
        let mut sent = Vec::new();
        for now in (from..to).step_by(10).map(Instant::from_millis) {
            for place in 0..self.engines.len() {
                let arrived: Vec<(SocketAddr, Vec<u8>)> = sent
                    .extract_if(.., |(to, _, _)| *to == self.engines[place].0)
                    .map(|(_, from, bytes)| (from, bytes))
                    .collect();
                let (address, Some(engine)) = &mut self.engines[place] else { continue };
                engine.handle(now, Input::datagrams(arrived.iter().map(|(from, bytes)| (*from, &bytes[..]))));
                engine.handle(now, Input::Timeout);
                let mut buffer = Vec::new();
                while let Some(output) = engine.poll_output(&mut buffer) {
                    match output {
                        Output::Transmit { to, .. } => sent.push((to, *address, buffer.clone())),
                        Output::Open { stream, to } => {
                            engine.handle(now, Input::Stream { stream, from: to, event: StreamEvent::Failed })
                        }
                        Output::Drain => engine.handle(now, Input::Drained),
                        Output::Event(event) => self.told.push((place, event)),
                        _ => {}
                    }
                }
            }
        }
    }

    /// How often a node told what is wanted.
    fn count(&self, place: usize, is_wanted: impl Fn(&Event) -> bool) -> usize {
        self.told.iter().filter(|(at, event)| *at == place && is_wanted(event)).count()
    }
}

#[test]
fn central_mode_without_a_monitor_is_reported() {
    const TABLE: &str = "name = 'c'\nrole = 'worker'\nmode = 'central'";
    let mut nodes = Nodes::start(&[TABLE, TABLE]);
    nodes.run(1_000, 20_000);
    let at_start = |event: &Event| matches!(event, Event::NoMonitor { silent: None });
    assert_eq!((nodes.count(0, at_start), nodes.count(1, at_start)), (1, 1));
    let at_silence = |event: &Event| matches!(event, Event::NoMonitor { silent: Some(node) } if &**node == "n1");
    assert_eq!(nodes.count(0, at_silence), 0);
    nodes.engines[1].1 = None;
    nodes.run(20_000, 60_000);
    assert_eq!(nodes.count(0, at_silence), 1);
}

#[test]
fn a_misspelt_cluster_name_is_reported_on_both_sides() {
    let table = |name: &str| format!("name = '{name}'\nrole = 'worker'\nmode = 'random'");
    let mut nodes = Nodes::start(&[&table("orders"), &table("order")]);
    nodes.run(1_000, 60_000);
    for (place, other) in [(0, "10.0.0.2:1"), (1, "10.0.0.1:1")] {
        let is_other = |event: &Event| matches!(event, Event::OtherCluster { address } if address.to_string() == other);
        assert_eq!(nodes.count(place, is_other), 1, "node {place} publishes it once a minute");
    }
}

#[test]
fn only_a_join_of_another_cluster_is_answered() {
    let mut world = World::of(1, Shape::decentralised(3), Config::default());
    world.run(Duration::from_secs(3));
    let from: SocketAddr = "10.9.9.9:9".parse().unwrap();
    let stranger = member("stranger", Generation(1_700_000_000_000), from);
    let foreign = Header { cluster: name_hash("other") as u32, ..header(&stranger) };
    let mut bytes = Vec::new();
    for body in [Body::Gossip, Body::Introduce, Body::Probe { number: 1 }] {
        wire::encode(&mut bytes, foreign, &body);
        world.inject(0, from, bytes.clone());
    }
    assert!(world.take_lost(from).is_empty());
    wire::encode_join(&mut bytes, foreign, 0, &stranger);
    for _ in 0..10 {
        world.inject(0, from, bytes.clone());
    }
    let answers = world.take_lost(from);
    assert_eq!(answers.len(), 1, "once an interval at most");
    assert!(answers[0].len() <= bytes.len());
    assert_eq!(NodeId::of("stranger"), stranger.id);
}
