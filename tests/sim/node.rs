//! `Node`: the machine, process and clock of one node: start, pause and resumption.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use heartbeat_core::{ArbiterId, Engine, Generation, Identity, Instant, Member, Output, Random, Supervise, WorkerId};

use crate::event_queue::Item;
use crate::fault::Fault;
use crate::network::NodeIndex;
use crate::worker::{Thread, Worker};
use crate::world::{GROUP, SHARDS, WORKERS, World};

/// How long after its start a node may take its shards on.
pub(crate) const LATE_MAX: Duration = Duration::from_secs(4);

/// The wall clock at the start, in milliseconds, from which generations are taken.
pub(crate) const WALL_START_MS: u64 = 1_700_000_000_000;

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    /// How far its clock is ahead of the world's.
    pub(crate) offset: u64,
    /// How much of that its wall clock has jumped ahead, too.
    pub(crate) ahead: u64,
    /// How far its wall clock is off beside that, in milliseconds.
    pub(crate) off: i64,
    pub(crate) process: Option<Process>,
    /// Counts processes; what was meant for an earlier one is void.
    pub(crate) life: u64,
    /// Whether it has no power.
    pub(crate) unplugged: bool,
    /// Whether it does not reach the authority.
    pub(crate) is_cut_off: bool,
}

pub(crate) struct Process {
    pub(crate) engine: Engine,
    pub(crate) paused: bool,
    pub(crate) backlog: Vec<Item>,
    /// When the timer that is set will go off; others are void.
    pub(crate) timer_at: u64,
    pub(crate) arbiters: BTreeMap<ArbiterId, Thread>,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
}

impl World {
    /// What a node's own clock shows now.
    pub fn clock_of(&self, place: NodeIndex) -> Instant {
        self.clock(place)
    }

    pub(crate) fn clock(&self, place: NodeIndex) -> Instant {
        Instant::from_nanos(self.local(place, self.now))
    }

    /// What a node's clock shows at this time of the world. Every second one runs fast, the others
    /// slow.
    pub(crate) fn local(&self, place: NodeIndex, at: u64) -> u64 {
        if self.drift == 0.0 {
            return at + self.nodes[place].offset;
        }
        let drift = if place.is_multiple_of(2) { self.drift } else { -self.drift };
        (at as i64 + (at as f64 * drift) as i64) as u64 + self.nodes[place].offset
    }

    pub(crate) fn life(&self, place: NodeIndex) -> u64 {
        self.nodes[place].life
    }

    pub(crate) fn is_unplugged(&self, place: NodeIndex) -> bool {
        self.nodes[place].unplugged
    }

    pub(crate) fn has_process(&self, place: NodeIndex) -> bool {
        self.nodes[place].process.is_some()
    }

    pub(crate) fn is_paused(&self, place: NodeIndex) -> bool {
        self.nodes[place].process.as_ref().is_some_and(|process| process.paused)
    }

    /// Starts all nodes, each within the first interval, with the same table.
    pub(crate) fn start_acquainted(&mut self) {
        (0..self.nodes.len()).for_each(|place| self.apply(Fault::Start(place)));
        let tables: Vec<Member> =
            (0..self.nodes.len()).filter_map(|place| self.engine(place)?.members().next().cloned()).collect();
        for place in 0..self.nodes.len() {
            let within = self.soon(self.config.interval) - self.now;
            // Its clock began that much earlier, so that not all of them send at once.
            self.nodes[place].offset += within;
            self.with_engine(place, |engine, now| engine.recall(now, &tables));
        }
    }

    pub(crate) fn start(&mut self, place: NodeIndex) {
        let address = self.nodes[place].address;
        self.break_streams(place);
        self.nodes[place].life += 1;
        self.nodes[place].unplugged = false;
        let config = self.config_of(place);
        let generation = generation_at(self.now + self.nodes[place].ahead);
        let generation = Generation(generation.0.saturating_add_signed(self.nodes[place].off));
        let (seed, now) = (self.random.next_u64(), self.clock(place));
        let mut engine = Engine::new(config, Identity { generation, address }, seed, now).expect("the config is valid");
        if self.shape.workers {
            take_on(&mut engine, now, self.config.workers.arbiters);
            if self.shape.late {
                let life = self.nodes[place].life;
                // Without a draw of the world's own, so that its other seeds stay what they are.
                let after = Random::seeded(seed ^ life).duration_below(LATE_MAX);
                self.put(self.now + after.as_nanos() as u64, Item::TakeOn { place, life });
            } else {
                take_on_shards(&mut engine, now, self.config.workers.arbiters);
            }
        }
        self.nodes[place].process = Some(Process {
            engine,
            paused: false,
            backlog: Vec::new(),
            timer_at: u64::MAX,
            arbiters: BTreeMap::new(),
            workers: BTreeMap::new(),
        });
        self.drain(place);
    }

    /// What waited in the socket and in queues comes in, in its order, and then the one timer that
    /// is late, or that first.
    pub(crate) fn resume(&mut self, place: NodeIndex) {
        let Some(process) = &mut self.nodes[place].process else { return };
        if !process.paused {
            return;
        }
        process.paused = false;
        // Its timer went off meanwhile, or is let run.
        process.timer_at = u64::MAX;
        let mut backlog = std::mem::take(&mut process.backlog);
        // A look at the socket that was not taken before the pause is taken after it.
        if backlog.iter().any(|item| matches!(item, Item::Drained { .. })) {
            self.act(place, Output::Drain, &[]);
        }
        backlog.retain(|item| !matches!(item, Item::Timer { .. } | Item::Drained { .. }));
        if self.timers_first {
            self.with_engine(place, |engine, now| engine.handle_timeout(now));
        }
        for item in backlog {
            self.handle(item);
        }
        self.with_engine(place, |engine, now| engine.handle_timeout(now));
    }
}

/// Takes on the workers that every node has.
pub(crate) fn take_on(engine: &mut Engine, now: Instant, arbiters: u32) {
    let supervise = |index: u32, name: String| Supervise::new(WorkerId(index), name, arbiters);
    for index in 0..WORKERS {
        engine.supervise(now, supervise(index, format!("worker-{index}")));
    }
}

/// Takes on the shards that every node may own.
pub(crate) fn take_on_shards(engine: &mut Engine, now: Instant, arbiters: u32) {
    let supervise = |index: u32, name: String| Supervise::new(WorkerId(index), name, arbiters);
    let shards = (0..SHARDS).map(|index| supervise(WORKERS + index, format!("{GROUP}/{index}"))).collect();
    engine.supervise_shards(now, GROUP.into(), shards);
}

/// The generation of a process that is started at this time of the world.
pub(crate) fn generation_at(at: u64) -> Generation {
    Generation(WALL_START_MS + at / 1_000_000)
}
