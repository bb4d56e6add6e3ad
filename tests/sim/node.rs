//! `Node`: the machine, process and clock of one node: start, pause and resumption.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use heartbeat_actors::seal::{Key, Keyring, Seal};
use heartbeat_core::member::{NodeId, ProcessId};
use heartbeat_core::{
    ArbiterId, Engine, Generation, Identity, Input, Instant, Member, Output, Random, Supervise, WorkerId,
};

use crate::event_queue::Item;
use crate::fault::Fault;
use crate::network::NodeIndex;
use crate::record::Record;
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
    /// Counts processes; inputs for an earlier one are dropped.
    pub(crate) life: u64,
    /// Whether it has no power.
    pub(crate) unplugged: bool,
    /// Whether it does not reach the authority.
    pub(crate) is_cut_off: bool,
}

pub(crate) struct Process {
    pub(crate) engine: Engine,
    /// What seals its datagrams, in a world that has a key.
    pub(crate) seal: Option<Seal>,
    /// What passes its engine, where it is recorded.
    pub(crate) record: Option<Record>,
    /// The answers to what the engine asked of its threads, for when it is drained.
    pub(crate) inspections: VecDeque<Input>,
    pub(crate) paused: bool,
    pub(crate) backlog: Vec<Item>,
    /// When the timer that is set will go off; others are void.
    pub(crate) timer_at: u64,
    pub(crate) arbiters: BTreeMap<ArbiterId, Thread>,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    /// The most shards that were starting at one instant.
    pub(crate) starting_max: usize,
}

impl Process {
    pub(crate) fn handle(&mut self, now: Instant, input: Input) {
        if let Some(record) = &mut self.record {
            record.input(now, &input);
        }
        self.engine.handle(now, input);
    }

    pub(crate) fn poll_output(&mut self, buffer: &mut Vec<u8>) -> Option<Output> {
        let output = self.engine.poll_output(buffer);
        if let (Some(output), Some(record)) = (&output, &mut self.record) {
            record.output(output, buffer);
        }
        output
    }
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
            self.handle_input(place, Input::Recall(tables.clone()));
            // No event tells of members that are recalled.
            tables.iter().for_each(|member| self.feed_member(place, member.id));
        }
    }

    pub(crate) fn start(&mut self, place: NodeIndex) {
        let address = self.nodes[place].address;
        self.end_process(place);
        self.break_streams(place);
        self.nodes[place].life += 1;
        self.nodes[place].unplugged = false;
        let config = self.config_of(place);
        let generation = generation_at(self.now + self.nodes[place].ahead);
        let generation = Generation(generation.0.saturating_add_signed(self.nodes[place].off));
        let (seed, now) = (self.random.next_u64(), self.clock(place));
        let identity = Identity { generation, address };
        let record = (self.shape.recorded == Some(place)).then(|| Record::new(&config, &identity, seed, now));
        let me = ProcessId { node: NodeId::of(&self.nodes[place].name), generation };
        let engine = Engine::new(config, identity, seed, now).expect("the config is valid");
        self.nodes[place].process = Some(Process {
            engine,
            seal: self.shape.sealed.then(|| seal_of(me)),
            record,
            inspections: VecDeque::new(),
            paused: false,
            backlog: Vec::new(),
            timer_at: u64::MAX,
            arbiters: BTreeMap::new(),
            workers: BTreeMap::new(),
            starting_max: 0,
        });
        self.start_requests(place, generation);
        if self.shape.workers && self.shape.late {
            let life = self.nodes[place].life;
            // Without a draw of the world's own, so that its other seeds stay what they are.
            let after = Random::seeded(seed ^ life).duration_below(LATE_MAX);
            self.put(self.now + after.as_nanos() as u64, Item::TakeOn { place, life });
        }
        self.drain(place);
        if self.shape.workers {
            let arbiters = self.config.workers.arbiters;
            for index in 0..WORKERS {
                let worker = Supervise::new(WorkerId(index), format!("worker-{index}"), arbiters);
                self.handle_input(place, Input::Supervise(worker.into()));
            }
            if !self.shape.late {
                self.handle_input(place, shards(arbiters));
            }
        }
    }

    /// Ends a node's process, if one runs.
    pub(crate) fn end_process(&mut self, place: NodeIndex) {
        self.end_requests(place);
        let ended = self.nodes[place].process.take();
        self.records.extend(ended.and_then(|process| process.record));
    }

    /// What passed the engines of the recorded node, one record for each of its processes.
    pub fn take_records(&mut self) -> Vec<Record> {
        let mut records = std::mem::take(&mut self.records);
        records.extend(self.nodes.iter_mut().filter_map(|node| node.process.as_mut()?.record.take()));
        records
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
        // The thread of the requests may be awake before that of the engine, or after it.
        let are_requests_first = self.traffic.random.chance(0.5);
        if are_requests_first {
            self.resume_requests(place);
        }
        if self.timers_first {
            self.handle_input(place, Input::Timeout);
        }
        for item in backlog {
            self.handle(item);
        }
        self.handle_input(place, Input::Timeout);
        if !are_requests_first {
            self.resume_requests(place);
        }
    }
}

/// Adds the shards that every node may own.
pub(crate) fn shards(arbiters: u32) -> Input {
    let shard = |index| Supervise::new(WorkerId(WORKERS + index), format!("{GROUP}/{index}"), arbiters);
    Input::SuperviseShards { group: GROUP.into(), workers: (0..SHARDS).map(shard).collect() }
}

/// The generation of a process that is started at this time of the world.
pub(crate) fn generation_at(at: u64) -> Generation {
    Generation(WALL_START_MS + at / 1_000_000)
}

/// The seal of a process that has the key of all simulated worlds.
pub fn seal_of(process: ProcessId) -> Seal {
    let key = Key::from_hex(&"0123456789abcdef".repeat(4)).expect("these are 64 hexadecimal digits");
    let ring = Keyring::new([key]).expect("one key is not there twice");
    Seal::new(process, ring, false, 1_024, process.generation.0)
}
