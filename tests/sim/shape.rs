//! `Shape`: what a world consists of, and the config that each node gets from it.

use std::time::Duration;

use heartbeat_core::config::{ClusterConfig, Mode};
use heartbeat_core::member::{Role, WEIGHT_KEY};
use heartbeat_core::{Config, Metadata};

use crate::network::NodeIndex;
use crate::world::World;

/// How often the thread of a node without workers gives a sign of life.
pub(crate) const LONG_BEAT: Duration = Duration::from_secs(60);

/// The key of the metadata under which nodes say something now and then.
pub(crate) const NOTE: &str = "note";

/// What a world consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Monitors, at the first places; none in a cluster without a centre.
    pub monitors: usize,
    /// The other nodes.
    pub nodes: usize,
    /// Whether each node has workers and shards.
    pub workers: bool,
    /// Whether all know each other from the start, instead of joining.
    pub acquainted: bool,
    /// Whether a log is kept, and the checker looks on.
    pub log: bool,
    /// Whether nodes have weights of their own: 1, 2, 3, 4 and so on in turn.
    pub weighted: bool,
    /// Whether nodes take their shards on only some time after their start, each at another one.
    pub late: bool,
    /// Whether clients on all nodes send requests to the shards.
    pub requests: bool,
    /// Whether the traffic between nodes is sealed, and kept as an attacker would record it.
    pub sealed: bool,
    /// The node whose inputs and outputs are recorded, if one is.
    pub recorded: Option<NodeIndex>,
    /// Which releases the nodes run at first.
    pub releases: Releases,
}

/// Which releases the nodes of a world run. The former one knows the lowest wire version alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Releases {
    /// All run this one.
    This,
    /// All run the former one.
    Former,
    /// Every second node runs the former one.
    Mixed,
}

impl Shape {
    /// `nodes` nodes without a monitor, with workers and a log, that have yet to join.
    pub fn decentralised(nodes: usize) -> Shape {
        Shape {
            monitors: 0,
            nodes,
            workers: true,
            acquainted: false,
            log: true,
            weighted: false,
            late: false,
            requests: false,
            sealed: false,
            recorded: None,
            releases: Releases::This,
        }
    }

    /// `monitors` monitors and `nodes` other nodes, with workers and a log, that have yet to join.
    pub fn central(monitors: usize, nodes: usize) -> Shape {
        Shape { monitors, ..Shape::decentralised(nodes) }
    }

    /// `nodes` nodes that know each other and have no workers, without a log: what large worlds are
    /// made of.
    pub fn large(nodes: usize) -> Shape {
        Shape {
            monitors: 0,
            nodes,
            workers: false,
            acquainted: true,
            log: false,
            weighted: false,
            late: false,
            requests: false,
            sealed: false,
            recorded: None,
            releases: Releases::This,
        }
    }
}

impl World {
    /// The config of a node: the seeds are the monitors, or the first three nodes.
    pub(crate) fn config_of(&self, place: NodeIndex) -> Config {
        let (name, address) = (&self.nodes[place].name, self.nodes[place].address);
        let seeds = if self.shape.monitors > 0 { self.shape.monitors } else { self.nodes.len().min(3) };
        let mut config = self.config.clone();
        if !self.shape.workers {
            // Its threads have nothing to do, and few words.
            (config.workers.arbiters, config.workers.interval) = (1, LONG_BEAT);
            config.workers.timeout = Duration::from_secs(600);
        }
        config.cluster = Some(ClusterConfig {
            node: name.clone(),
            role: if place < self.shape.monitors { Role::Monitor } else { Role::Worker },
            mode: if self.shape.monitors > 0 { Mode::Central } else { Mode::Random },
            listen: address,
            seeds: (0..seeds).map(|seed| self.nodes[seed].address.to_string()).collect(),
            metadata: self.metadata_of(place),
            wire_version_max: self.wire_version_max.get(&place).copied().unwrap_or(self.table.wire_version_max),
            ..self.table.clone()
        });
        config
    }

    /// What a node says of itself when it starts.
    pub(crate) fn metadata_of(&self, place: NodeIndex) -> Metadata {
        let weight = self.shape.weighted.then(|| (WEIGHT_KEY.to_owned(), (place % 4 + 1).to_string()));
        weight.into_iter().collect()
    }
}

/// The cluster table of the simulation.
pub(crate) fn cluster_table() -> ClusterConfig {
    let text = [
        "[cluster]",
        "name = 'sim'",
        "node = 'node'",
        "role = 'worker'",
        "mode = 'random'",
        "listen = '10.0.0.1:7100'",
    ];
    let config = Config::from_toml(&format!("{}\nseeds = ['10.0.0.1:7100']", text.join("\n")))
        .expect("the cluster table of the simulation is valid");
    config.cluster.expect("it has one")
}
