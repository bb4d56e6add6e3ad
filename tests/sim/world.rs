//! `World`: some nodes, with or without monitors, one virtual clock, one seed.
//!
//! Each node is a real engine; its actors, threads and sockets are simulated. Time jumps from one
//! wake-up to the next, ties are broken in the order of their creation, and all chance comes from
//! the seed. So a run is the same to the byte on every machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use heartbeat_core::config::ClusterConfig;
use heartbeat_core::wire::VERSION_MIN;
use heartbeat_core::{Batch, Config, Engine, Event, NodeId, Random, WorkerId};

use crate::authority::Authority;
use crate::checker::Checker;
use crate::event_queue::{EventQueue, Item};
use crate::fault::Fault;
use crate::network::{Network, NodeIndex};
use crate::node::Node;
use crate::record::Record;
use crate::requests::Traffic;
use crate::shape::{Releases, Shape, cluster_table};
use crate::streams::Streams;

/// The sharded group that every node supervises, and its shards.
pub const GROUP: &str = "orders";

/// How many shards it has.
pub const SHARDS: u32 = 8;

/// Ordinary workers on each node; the shards' numbers follow.
pub const WORKERS: u32 = 4;

/// Receives each event: when, where, what.
pub type Listener = Box<dyn FnMut(Duration, NodeIndex, &Event)>;

/// Some nodes and their network.
pub struct World {
    /// What all nodes run by, their cluster tables apart.
    pub config: Config,
    /// What must hold.
    pub checker: Checker,
    /// How links behave.
    pub network: Network,
    /// Whether a process that goes on after a pause sees that its timers are over before it looks
    /// at what waits for it. Real ones do now this, now that.
    pub timers_first: bool,
    /// Nodes of an older release: the highest wire version that each can use, from its next start
    /// on.
    pub wire_version_max: BTreeMap<NodeIndex, u8>,
    /// What a node's clock does in a second of the world's, as parts of one: 0 keeps time.
    pub drift: f64,
    /// The cluster table of all nodes, but for what is each one's own. Read once: a thousand nodes
    /// would otherwise take longer to read their configs than to run for ten seconds.
    pub(crate) table: ClusterConfig,
    pub(crate) shape: Shape,
    pub(crate) random: Random,
    pub(crate) now: u64,
    pub(crate) queue: EventQueue<Item>,
    pub(crate) streams: Streams,
    pub(crate) authority: Authority,
    pub(crate) traffic: Traffic,
    /// How much longer the authority's answers take at most.
    pub(crate) hesitation: Duration,
    pub(crate) nodes: Vec<Node>,
    /// Datagrams sent, and their bytes with headers.
    pub(crate) sent: (u64, u64),
    pub(crate) buffer: Vec<u8>,
    /// Buffers of datagrams that arrived.
    pub(crate) spare: Vec<Vec<u8>>,
    /// The datagram that is handed to an engine.
    pub(crate) batch: Arc<Batch>,
    /// The records of processes that have ended.
    pub(crate) records: Vec<Record>,
    /// Sealed datagrams as they left, each with where it went to and came from.
    pub(crate) recordings: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    /// Datagrams to addresses without a node.
    pub(crate) lost: Vec<(SocketAddr, Vec<u8>)>,
    pub(crate) log: Vec<String>,
    pub(crate) events: Vec<(Duration, NodeIndex, Event)>,
    /// Receives each event as it is published, in worlds without a log.
    pub listener: Option<Listener>,
}

impl World {
    /// A monitor and `nodes` nodes, all started, on a quiet network.
    pub fn new(seed: u64, nodes: usize, config: Config) -> World {
        World::of(seed, Shape::central(1, nodes), config)
    }

    /// A world of this shape, all nodes started, on a quiet network.
    pub fn of(seed: u64, shape: Shape, config: Config) -> World {
        let mut random = Random::seeded(seed);
        let address = |place: usize| SocketAddr::from(([10, 0, (place / 250) as u8, (place % 250) as u8 + 1], 7100));
        let monitor = |n| if shape.monitors == 1 { "monitor".to_owned() } else { format!("monitor-{n}") };
        let names = (1..=shape.monitors).map(monitor).chain((1..=shape.nodes).map(|n| format!("node-{n}")));
        let nodes: Vec<Node> = names
            .enumerate()
            .map(|(place, name)| Node {
                name,
                address: address(place),
                offset: random.below(1 << 45),
                ahead: 0,
                off: 0,
                process: None,
                life: 0,
                unplugged: false,
                is_cut_off: false,
            })
            .collect();
        let former = (0..nodes.len()).filter(|place| match shape.releases {
            Releases::This => false,
            Releases::Former => true,
            Releases::Mixed => place % 2 == 1,
        });
        let mut world = World {
            checker: Checker::new(seed, shape, nodes.iter().map(|node| node.name.clone()).collect(), &config),
            config,
            network: Network::default(),
            timers_first: false,
            wire_version_max: former.map(|place| (place, VERSION_MIN)).collect(),
            random,
            drift: 0.0,
            table: cluster_table(),
            shape,
            now: 1_000_000_000,
            queue: EventQueue::default(),
            streams: Streams::default(),
            authority: Authority::default(),
            traffic: Traffic::new(seed, shape.requests),
            hesitation: Duration::ZERO,
            nodes,
            sent: (0, 0),
            buffer: Vec::new(),
            spare: Vec::new(),
            batch: Arc::default(),
            records: Vec::new(),
            recordings: Vec::new(),
            lost: Vec::new(),
            log: Vec::new(),
            events: Vec::new(),
            listener: None,
        };
        if shape.acquainted {
            world.start_acquainted();
        } else {
            (0..world.nodes.len()).for_each(|place| world.apply(Fault::Start(place)));
        }
        world
    }

    /// Lets this much time pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration.as_nanos() as u64;
        loop {
            if self.step_requests(end) {
                continue;
            }
            let Some((at, item)) = self.queue.pop(end) else { break };
            self.now = at;
            self.handle(item);
            if self.shape.log {
                self.checker.step(at);
            }
        }
        self.now = end;
        self.checker.step(end);
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.now - 1_000_000_000)
    }

    /// Datagrams sent so far, and their bytes with the headers of IPv4 and UDP.
    pub fn sent(&self) -> (u64, u64) {
        self.sent
    }

    /// The datagrams that were sent to an address without a node.
    pub fn take_lost(&mut self, to: SocketAddr) -> Vec<Vec<u8>> {
        let (found, rest) = std::mem::take(&mut self.lost).into_iter().partition(|(address, _)| *address == to);
        self.lost = rest;
        found.into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// The name of a node.
    pub fn name(&self, place: NodeIndex) -> &str {
        &self.nodes[place].name
    }

    /// The node with this name.
    ///
    /// # Panics
    /// If the world has no such node.
    pub fn node(&self, name: &str) -> NodeIndex {
        let found = self.nodes.iter().position(|node| node.name == name);
        found.unwrap_or_else(|| panic!("the world has no node {name:?}"))
    }

    /// The index that the node with this name has or would have.
    pub fn place_of(&self, name: &str) -> Option<NodeIndex> {
        let (kind, number) = name.rsplit_once('-').unwrap_or((name, "1"));
        let number: usize = number.parse().ok()?;
        Some(if kind == "node" { self.shape.monitors + number - 1 } else { number - 1 })
    }

    /// Everything that happened, one line each.
    pub fn log(&self) -> &[String] {
        &self.log
    }

    /// Every event that a node told, with its place and the time since the start, in the order of
    /// their telling.
    pub fn events(&self) -> impl Iterator<Item = (Duration, NodeIndex, &Event)> {
        self.events.iter().map(|(at, place, event)| (*at, *place, event))
    }

    /// The events of one node, with the time since the start, in their order.
    pub fn events_of(&self, node: NodeIndex) -> impl Iterator<Item = (Duration, &Event)> {
        self.events().filter(move |(_, by, _)| *by == node).map(|(at, _, event)| (at, event))
    }

    /// The engine of a node whose process runs.
    pub fn engine(&self, place: NodeIndex) -> Option<&Engine> {
        self.nodes[place].process.as_ref().map(|process| &process.engine)
    }

    /// Places of the nodes whose process runs and is not stopped.
    pub fn running(&self) -> Vec<NodeIndex> {
        let runs = |place: &NodeIndex| self.nodes[*place].process.as_ref().is_some_and(|process| !process.paused);
        (0..self.nodes.len()).filter(runs).collect()
    }

    /// The shards that run on a node, with their epochs.
    pub fn shards_on(&self, place: NodeIndex) -> BTreeSet<u32> {
        let Some(process) = &self.nodes[place].process else { return BTreeSet::new() };
        let runs = |index: &u32| process.workers.get(&WorkerId(WORKERS + index)).is_some_and(|worker| worker.running);
        (0..SHARDS).filter(runs).collect()
    }

    /// The most shards that were starting on a node at one instant, since its process began. They
    /// were ordered to start, and not up yet.
    pub fn starting_max(&self, place: NodeIndex) -> usize {
        self.nodes[place].process.as_ref().map_or(0, |process| process.starting_max)
    }

    /// The epoch under which a shard runs on a node.
    pub fn epoch_on(&self, place: NodeIndex, shard: u32) -> Option<u64> {
        let worker = self.nodes[place].process.as_ref()?.workers.get(&WorkerId(WORKERS + shard))?;
        worker.epoch.filter(|_| worker.running)
    }

    /// Hands a node a datagram as if it had come from `from`.
    pub fn inject(&mut self, to: NodeIndex, from: SocketAddr, bytes: Vec<u8>) {
        self.handle(Item::Datagram { to, from, bytes });
    }

    /// Sealed datagrams as they left, each with where it went to and came from.
    pub fn recordings(&self) -> &[(SocketAddr, SocketAddr, Vec<u8>)] {
        &self.recordings
    }

    /// The address of a node.
    pub fn address(&self, place: NodeIndex) -> SocketAddr {
        self.nodes[place].address
    }

    /// Places of those who watch a node, by its own word.
    pub(crate) fn observers_of(&self, place: NodeIndex) -> Vec<NodeIndex> {
        let observers: Vec<NodeId> = self.engine(place).into_iter().flat_map(Engine::observers).collect();
        (0..self.nodes.len()).filter(|&other| observers.contains(&NodeId::of(&self.nodes[other].name))).collect()
    }

    pub(crate) fn note(&mut self, place: NodeIndex, text: impl FnOnce() -> String) {
        if !self.shape.log {
            return;
        }
        let text = text();
        let at = Duration::from_nanos(self.now.saturating_sub(1_000_000_000));
        self.log.push(format!("{:12.6}  {:8}  {text}", at.as_secs_f64(), self.nodes[place].name));
    }

    /// Whether nothing gets through between two places, in either direction.
    pub(crate) fn is_apart(&self, one: NodeIndex, other: NodeIndex) -> bool {
        self.network.is_cut(one, other) || self.network.is_cut(other, one)
    }

    pub(crate) fn elapsed_nanos(&self) -> u64 {
        self.now
    }

    /// The delay of one datagram.
    pub(crate) fn delay(&mut self) -> u64 {
        self.network.delay(&mut self.random).as_nanos() as u64
    }
}
