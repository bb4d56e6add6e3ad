//! `World`: a monitor and some nodes, one virtual clock, one seed.
//!
//! Each node is a real engine; its actors, threads and sockets are played. Time jumps from one wake-up to the next, ties are broken by the
//! order of their making, and all chance comes from the seed; so a run is the same to the byte wherever it is run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use heartbeat_core::{
    Activity, ArbiterId, Busy, Cause, Config, CpuTimes, Engine, Event, Generation, Identity, Instant, Leave, NodeId,
    Output, Random, Report, Start, Supervise, ThreadLook, ThreadState, WorkerId,
};

use crate::checker::Checker;
use crate::network::{Network, Place};

/// The sharded group that every node supervises, and its shards.
pub const GROUP: &str = "orders";
/// How many shards it has.
pub const SHARDS: u32 = 8;
/// Ordinary workers on each node; the shards' numbers follow.
pub const WORKERS: u32 = 4;
/// What a stopped process keeps of what it is sent: about what a socket's buffer holds.
const BACKLOG_MAX: usize = 2_000;
/// The wall clock at the start, in milliseconds, from which generations are taken.
const WALL_START_MS: u64 = 1_700_000_000_000;

/// Something that is done to the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// End a node's process without a word.
    Kill(Place),
    /// Start a node's process, with a generation of its own.
    Start(Place),
    /// Stop a node's process as SIGSTOP does.
    Pause(Place),
    /// Let it go on.
    Resume(Place),
    /// Let a worker panic.
    Panic(Place, WorkerId),
    /// Let a worker stop itself in good order.
    Finish(Place, WorkerId),
    /// Let a worker block its thread for this long.
    Block(Place, WorkerId, Duration),
    /// Let a node send its heartbeats this often.
    SetInterval(Place, Duration),
    /// Ask a node to leave.
    Leave(Place),
    /// Cut a link in one direction.
    Cut(Place, Place),
    /// Restore a link in one direction.
    Mend(Place, Place),
    /// Cut these nodes off from all others, in both directions; among themselves they go on.
    Partition(Vec<Place>),
    /// Set the chance of loss, duplication and reordering.
    Disturb(f64, f64, f64),
    /// Make the network quiet and whole.
    Heal,
}

/// A monitor (place 0) and some nodes.
pub struct World {
    /// What all nodes run by, their cluster tables apart.
    pub config: Config,
    /// What must hold.
    pub checker: Checker,
    /// How links behave.
    pub network: Network,
    /// Whether a process that goes on after a pause sees that its timers are over before it looks at what waits for it. Real ones do now this,
    /// now that.
    pub timers_first: bool,
    random: Random,
    now: u64,
    sequence: u64,
    agenda: BTreeMap<(u64, u64), Item>,
    nodes: Vec<Node>,
    log: Vec<String>,
    events: Vec<(Duration, Place, Event)>,
}

struct Node {
    name: String,
    address: SocketAddr,
    /// How far its clock is ahead of the world's.
    offset: u64,
    process: Option<Process>,
    /// Counts processes; what was meant for an earlier one is void.
    life: u64,
}

struct Process {
    engine: Engine,
    paused: bool,
    backlog: Vec<Item>,
    /// Number of the newest timer; older ones are void.
    timer: u64,
    arbiters: BTreeMap<ArbiterId, Thread>,
    workers: BTreeMap<WorkerId, Worker>,
}

#[derive(Default)]
struct Thread {
    slot: u64,
    /// The worker that blocks it, the generation, and since when by the node's clock.
    blocked: Option<(WorkerId, Generation, Instant)>,
    abandoned: bool,
}

#[derive(Clone)]
struct Worker {
    generation: Generation,
    arbiter: ArbiterId,
    running: bool,
    leave: Leave,
    /// When its start is reported; a stop is not reported before.
    starts_at: u64,
    /// Under which epoch it runs, if it is a shard.
    epoch: Option<u64>,
}

#[derive(Clone)]
enum Item {
    Datagram {
        to: Place,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    Timer {
        place: Place,
        life: u64,
        timer: u64,
    },
    Beat {
        place: Place,
        life: u64,
        arbiter: ArbiterId,
    },
    Report {
        place: Place,
        life: u64,
        worker: WorkerId,
        generation: Generation,
        report: Report,
    },
    Wake {
        place: Place,
        life: u64,
        arbiter: ArbiterId,
    },
    /// The socket is found empty.
    Drained {
        place: Place,
        life: u64,
    },
    Fault(Fault),
}

impl World {
    /// A monitor and `nodes` nodes, all started, on a quiet network.
    pub fn new(seed: u64, nodes: usize, config: Config) -> World {
        let mut random = Random::seeded(seed);
        let address = |place: usize| SocketAddr::from(([10, 0, (place / 250) as u8, (place % 250) as u8 + 1], 7100));
        let names = std::iter::once("monitor".to_owned()).chain((1..=nodes).map(|n| format!("node-{n}")));
        let nodes: Vec<Node> = names
            .enumerate()
            .map(|(place, name)| Node {
                name,
                address: address(place),
                offset: random.below(1 << 45),
                process: None,
                life: 0,
            })
            .collect();
        let mut world = World {
            checker: Checker::new(seed, nodes.iter().map(|node| node.name.clone()).collect(), &config),
            config,
            network: Network::default(),
            timers_first: false,
            random,
            now: 1_000_000_000,
            sequence: 0,
            agenda: BTreeMap::new(),
            nodes,
            log: Vec::new(),
            events: Vec::new(),
        };
        for place in 0..world.nodes.len() {
            world.apply(Fault::Start(place));
        }
        world
    }

    /// Plans a fault for this long after the start.
    pub fn plan(&mut self, after: Duration, fault: Fault) {
        let at = 1_000_000_000 + after.as_nanos() as u64;
        self.put(at.max(self.now), Item::Fault(fault));
    }

    /// Does a fault now.
    pub fn apply(&mut self, fault: Fault) {
        self.note(0, &format!("-- {fault:?}"));
        self.checker.fault(self.now, &fault);
        match fault {
            Fault::Kill(place) => self.nodes[place].process = None,
            Fault::Start(place) => self.start(place),
            Fault::Pause(place) => {
                if let Some(process) = &mut self.nodes[place].process {
                    process.paused = true;
                }
            }
            Fault::Resume(place) => self.resume(place),
            Fault::Panic(place, worker) => self.panic(place, worker),
            Fault::Finish(place, worker) => self.finish(place, worker),
            Fault::Block(place, worker, duration) => self.block(place, worker, duration),
            Fault::SetInterval(place, interval) => self.with_engine(place, |engine, now| {
                engine.set_interval(now, interval).expect("an interval that the config allows");
            }),
            Fault::Leave(place) => self.with_engine(place, |engine, now| engine.leave(now)),
            Fault::Cut(from, to) => self.network.cut(from, to),
            Fault::Mend(from, to) => self.network.mend(from, to),
            Fault::Partition(places) => self.network.partition(&places, self.nodes.len()),
            Fault::Disturb(loss, duplication, reordering) => {
                (self.network.loss, self.network.duplication, self.network.reordering) =
                    (loss, duplication, reordering);
            }
            Fault::Heal => self.network.heal(),
        }
    }

    /// Lets this much time pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration.as_nanos() as u64;
        while let Some((&(at, sequence), _)) = self.agenda.first_key_value() {
            if at > end {
                break;
            }
            let item = self.agenda.remove(&(at, sequence)).expect("it was just seen");
            self.now = at;
            self.handle(item);
            self.checker.step(at);
        }
        self.now = end;
        self.checker.step(end);
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.now - 1_000_000_000)
    }

    /// Everything that happened, one line each.
    pub fn log(&self) -> &[String] {
        &self.log
    }

    /// Every event that a node told, with its place and the time since the start, in the order of their telling.
    pub fn events(&self) -> impl Iterator<Item = (Duration, Place, &Event)> {
        self.events.iter().map(|(at, place, event)| (*at, *place, event))
    }

    /// The engine of a node whose process runs.
    pub fn engine(&self, place: Place) -> Option<&Engine> {
        self.nodes[place].process.as_ref().map(|process| &process.engine)
    }

    /// Places of the nodes whose process runs and is not stopped.
    pub fn running(&self) -> Vec<Place> {
        let runs = |place: &Place| self.nodes[*place].process.as_ref().is_some_and(|process| !process.paused);
        (0..self.nodes.len()).filter(runs).collect()
    }

    /// The shards that run on a node, with their epochs.
    pub fn shards_on(&self, place: Place) -> BTreeSet<u32> {
        let Some(process) = &self.nodes[place].process else { return BTreeSet::new() };
        let runs = |index: &u32| process.workers.get(&WorkerId(WORKERS + index)).is_some_and(|worker| worker.running);
        (0..SHARDS).filter(runs).collect()
    }

    /// The epoch under which a shard runs on a node.
    pub fn epoch_on(&self, place: Place, shard: u32) -> Option<u64> {
        let worker = self.nodes[place].process.as_ref()?.workers.get(&WorkerId(WORKERS + shard))?;
        worker.epoch.filter(|_| worker.running)
    }

    /// Hands a node a datagram as if it had come from `from`.
    pub fn inject(&mut self, to: Place, from: SocketAddr, bytes: Vec<u8>) {
        self.handle(Item::Datagram { to, from, bytes });
    }

    /// The address of a node.
    pub fn address(&self, place: Place) -> SocketAddr {
        self.nodes[place].address
    }

    /// Where and what is wrong now that all faults are over; empty if nothing is.
    pub fn unsettled(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let running = self.running();
        let view = |place: Place| -> Vec<String> {
            let members = self.engine(place).into_iter().flat_map(Engine::members);
            members.map(|member| format!("{} {} {:?}", member.name, member.status, member.generation)).collect()
        };
        if !running.contains(&0) {
            return wrong;
        }
        let truth = view(0);
        for &place in &running {
            if self.engine(place).is_some_and(Engine::has_left) {
                continue;
            }
            if view(place) != truth {
                wrong.push(format!("{} sees {:?}, the monitor {truth:?}", self.nodes[place].name, view(place)));
            }
        }
        for shard in 0..SHARDS {
            let owners: Vec<Place> =
                running.iter().copied().filter(|&place| self.shards_on(place).contains(&shard)).collect();
            let members = running.iter().any(|&place| place > 0 && !self.engine(place).is_some_and(Engine::has_left));
            if owners.len() != 1 && members && !(owners.is_empty() && self.may_be_down(shard)) {
                wrong.push(format!("shard {shard} runs on {owners:?}"));
            }
            // Its owner may be the one it was before, but not under an epoch that another owner has had a higher one than.
            for place in owners {
                let epoch = self.epoch_on(place, shard);
                if epoch != self.checker.newest_epoch(shard) {
                    let (name, newest) = (&self.nodes[place].name, self.checker.newest_epoch(shard));
                    wrong.push(format!("shard {shard} runs on {name} under {epoch:?}, but {newest:?} was given out"));
                }
            }
        }
        wrong
    }

    /// Whether the node that owns a shard now cannot run it.
    fn may_be_down(&self, shard: u32) -> bool {
        let owner = self.engine(0).and_then(|monitor| monitor.owner(GROUP, shard)).map(|(owner, _)| owner);
        let place = self.nodes.iter().position(|node| Some(NodeId::of(&node.name)) == owner);
        place.is_some_and(|place| self.checker.may_be_down(self.now, place, shard))
    }

    // ---- the agenda ----------------------------------------------------------------------------------------------------------------------

    fn put(&mut self, at: u64, item: Item) {
        self.sequence += 1;
        self.agenda.insert((at, self.sequence), item);
    }

    fn soon(&mut self, within: Duration) -> u64 {
        self.now + 1_000 + self.random.duration_below(within).as_nanos() as u64
    }

    fn note(&mut self, place: Place, text: &str) {
        let at = Duration::from_nanos(self.now.saturating_sub(1_000_000_000));
        self.log.push(format!("{:12.6}  {:8}  {text}", at.as_secs_f64(), self.nodes[place].name));
    }

    fn handle(&mut self, item: Item) {
        let (place, life) = match &item {
            Item::Fault(fault) => return self.apply(fault.clone()),
            Item::Datagram { to, .. } => (*to, self.nodes[*to].life),
            Item::Timer { place, life, .. }
            | Item::Beat { place, life, .. }
            | Item::Report { place, life, .. }
            | Item::Wake { place, life, .. }
            | Item::Drained { place, life } => (*place, *life),
        };
        if life != self.nodes[place].life {
            return;
        }
        let Some(process) = &mut self.nodes[place].process else { return };
        if process.paused {
            if process.backlog.len() < BACKLOG_MAX {
                process.backlog.push(item);
            }
            return;
        }
        match item {
            Item::Datagram { from, bytes, .. } => {
                self.with_engine(place, |engine, now| engine.handle_datagrams(now, [(from, &bytes[..])]));
            }
            Item::Timer { timer, .. } if timer == process.timer => {
                self.with_engine(place, |engine, now| engine.handle_timeout(now));
            }
            Item::Timer { .. } | Item::Fault(_) => {}
            Item::Beat { arbiter, .. } => self.beat(place, life, arbiter),
            Item::Report { worker, generation, report, .. } => self.report(place, worker, generation, report),
            Item::Wake { arbiter, .. } => self.wake(place, arbiter),
            Item::Drained { .. } => self.with_engine(place, |engine, now| engine.handle_drained(now)),
        }
    }

    /// One input to a node's engine, then whatever it says is done.
    fn with_engine(&mut self, place: Place, input: impl FnOnce(&mut Engine, Instant)) {
        let now = self.clock(place);
        let Some(process) = &mut self.nodes[place].process else { return };
        input(&mut process.engine, now);
        self.drain(place);
    }

    fn clock(&self, place: Place) -> Instant {
        Instant::from_nanos(self.now + self.nodes[place].offset)
    }

    fn drain(&mut self, place: Place) {
        let mut buffer = Vec::new();
        loop {
            let Some(process) = &mut self.nodes[place].process else { return };
            let Some(output) = process.engine.poll_output(&mut buffer) else { break };
            self.act(place, output, &buffer);
        }
        let (life, offset) = (self.nodes[place].life, self.nodes[place].offset);
        let Some(process) = &mut self.nodes[place].process else { return };
        process.timer += 1;
        let timer = process.timer;
        if let Some(due) = process.engine.poll_timeout() {
            let at = due.as_nanos().saturating_sub(offset).max(self.now);
            self.put(at, Item::Timer { place, life, timer });
        }
    }

    fn act(&mut self, place: Place, output: Output, buffer: &[u8]) {
        let life = self.nodes[place].life;
        match output {
            Output::Transmit { to } => self.transmit(place, to, buffer),
            Output::Start(start) => self.start_worker(place, start),
            Output::Permit { worker, leave } => {
                if let Some(worker) = self.worker(place, worker) {
                    worker.leave = leave;
                }
            }
            Output::Stop { worker } => {
                if let Some(found) = self.worker(place, worker).cloned() {
                    let at = self.soon(Duration::from_millis(1)).max(found.starts_at + 1);
                    let (generation, report) = (found.generation, Report::Stopped);
                    self.put(at, Item::Report { place, life, worker, generation, report });
                }
            }
            // Whoever sat there is void: what it was still to report is not heard.
            Output::Close { worker, .. } | Output::Fence { worker } | Output::Forget { worker } => {
                if let Some(process) = &mut self.nodes[place].process {
                    process.workers.remove(&worker);
                }
            }
            Output::Spawn { arbiter } => {
                self.threads(place).insert(arbiter, Thread::default());
                let at = self.soon(Duration::from_millis(1));
                self.put(at, Item::Beat { place, life, arbiter });
            }
            Output::Inspect { arbiter } => self.inspect(place, arbiter),
            Output::Abandon { arbiter } => {
                if let Some(thread) = self.threads(place).get_mut(&arbiter) {
                    thread.abandoned = true;
                }
            }
            Output::Drain => {
                // Later than whatever waits for a process that goes on: that is handed over in one go.
                let at = self.soon(Duration::from_millis(1));
                self.put(at, Item::Drained { place, life });
            }
            // Nothing that is played here waits for ever, is overloaded, has a thread of its own, is in a group or ends its process.
            Output::Arrived(_)
            | Output::Scan
            | Output::Dismiss { .. }
            | Output::Exit { .. }
            | Output::ForgetGroup { .. } => {}
            Output::Event(event) => {
                self.note(place, &format!("{event:?}"));
                self.checker.event(self.now, place, &event);
                self.events.push((self.elapsed(), place, event));
            }
        }
    }

    // ---- what actors, threads and sockets would do -----------------------------------------------------------------------------------------

    fn transmit(&mut self, from: Place, to: SocketAddr, bytes: &[u8]) {
        let Some(place) = self.nodes.iter().position(|node| node.address == to) else { return };
        for delay in self.network.deliveries(from, place, &mut self.random) {
            let item = Item::Datagram { to: place, from: self.nodes[from].address, bytes: bytes.to_vec() };
            self.put(self.now + delay.as_nanos() as u64, item);
        }
    }

    fn start(&mut self, place: Place) {
        let node = &mut self.nodes[place];
        node.life += 1;
        let role = if place == 0 { "monitor" } else { "worker" };
        let (name, address) = (node.name.clone(), node.address);
        let monitor = self.nodes[0].address;
        let cluster = format!(
            "[cluster]\nname = 'sim'\nnode = '{name}'\nrole = '{role}'\nmode = 'central'\nlisten = '{address}'\nmonitors = ['{monitor}']"
        );
        let mut config = self.config.clone();
        config.cluster = Config::from_toml(&cluster).expect("the cluster table of the simulation is valid").cluster;
        let generation = Generation(WALL_START_MS + self.now / 1_000_000);
        let (seed, now) = (self.random.next_u64(), self.clock(place));
        let mut engine = Engine::new(config, Identity { generation, address }, seed, now).expect("the config is valid");
        let arbiters = self.config.workers.arbiters;
        let supervise = |index: u32, name: String| Supervise::new(WorkerId(index), name, arbiters);
        for index in 0..WORKERS {
            engine.supervise(now, supervise(index, format!("worker-{index}")));
        }
        let shards = (0..SHARDS).map(|index| supervise(WORKERS + index, format!("{GROUP}/{index}"))).collect();
        engine.supervise_shards(now, GROUP.into(), shards);
        self.nodes[place].process = Some(Process {
            engine,
            paused: false,
            backlog: Vec::new(),
            timer: 0,
            arbiters: BTreeMap::new(),
            workers: BTreeMap::new(),
        });
        self.drain(place);
    }

    /// What waited in the socket and in queues comes in, in its order, and then the one timer that is late, or that first.
    fn resume(&mut self, place: Place) {
        let Some(process) = &mut self.nodes[place].process else { return };
        if !process.paused {
            return;
        }
        process.paused = false;
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

    fn threads(&mut self, place: Place) -> &mut BTreeMap<ArbiterId, Thread> {
        &mut self.nodes[place].process.as_mut().expect("only a running process acts").arbiters
    }

    fn worker(&mut self, place: Place, worker: WorkerId) -> Option<&mut Worker> {
        self.nodes[place].process.as_mut()?.workers.get_mut(&worker)
    }

    fn start_worker(&mut self, place: Place, start: Start) {
        let life = self.nodes[place].life;
        if let Some(shard) = start.shard {
            self.checker.shard_started(self.now, place, shard);
        }
        self.checker.generation(self.now, place, start.worker, start.generation);
        let epoch = start.shard.map(|shard| shard.epoch.0);
        let Start { worker, generation, arbiter, leave, .. } = start;
        let at = self.soon(Duration::from_millis(1));
        let Some(process) = &mut self.nodes[place].process else { return };
        process.workers.insert(worker, Worker { generation, arbiter, running: false, leave, starts_at: at, epoch });
        self.put(at, Item::Report { place, life, worker, generation, report: Report::Started });
    }

    fn report(&mut self, place: Place, worker: WorkerId, generation: Generation, report: Report) {
        let Some(found) = self.worker(place, worker) else { return };
        if found.generation != generation && !matches!(report, Report::Restarted { .. }) {
            return;
        }
        let arbiter = found.arbiter;
        if report == Report::Started {
            found.running = true;
        }
        // A blocked thread starts and stops nobody; what it was to do waits for it, and is void if it was replaced meanwhile.
        if self.threads(place).get(&arbiter).is_some_and(|thread| thread.blocked.is_some()) {
            if let Some(found) = self.worker(place, worker) {
                found.running = false;
            }
            let (life, at) = (self.nodes[place].life, self.now + 10_000_000);
            return self.put(at, Item::Report { place, life, worker, generation, report });
        }
        if matches!(report, Report::Failed(_) | Report::Stopped)
            && let Some(found) = self.worker(place, worker)
        {
            found.running = false;
        }
        self.with_engine(place, |engine, now| engine.handle_report(now, worker, generation, report));
    }

    fn beat(&mut self, place: Place, life: u64, arbiter: ArbiterId) {
        let Some(thread) = self.threads(place).get_mut(&arbiter) else { return };
        if thread.abandoned {
            return;
        }
        let blocked = thread.blocked.is_some();
        if !blocked {
            thread.slot += 1;
            let slot = thread.slot;
            self.with_engine(place, |engine, now| engine.handle_beat(now, arbiter, slot, Some(CpuTimes::default())));
        }
        let next = self.now + self.config.workers.interval.as_nanos() as u64;
        self.put(next, Item::Beat { place, life, arbiter });
    }

    fn panic(&mut self, place: Place, id: WorkerId) {
        let now = self.clock(place);
        let life = self.nodes[place].life;
        let Some(worker) = self.at_work(place, id) else { return };
        let cause = Cause::Panicked { payload: "told to".into(), during: Activity::Message("Panic") };
        let generation = worker.generation;
        // The thread uses its leave if it has it, as the driver does, and reports afterwards.
        let Leave { from, until } = worker.leave;
        let report = if now >= from && from != Instant::NEVER && generation < until {
            worker.generation = Generation(generation.0 + 1);
            let next = worker.generation;
            self.checker.generation(self.now, place, id, next);
            Report::Restarted { cause, failed_at: now, is_up: true }
        } else {
            Report::Failed(cause)
        };
        let at = self.soon(Duration::from_micros(100));
        self.put(at, Item::Report { place, life, worker: id, generation, report });
    }

    fn finish(&mut self, place: Place, id: WorkerId) {
        let life = self.nodes[place].life;
        let Some(generation) = self.at_work(place, id).map(|worker| worker.generation) else { return };
        let at = self.soon(Duration::from_micros(100));
        self.put(at, Item::Report { place, life, worker: id, generation, report: Report::Stopped });
    }

    /// A worker that runs on a thread that is not blocked, in a process that is not stopped: one that can do something by itself.
    fn at_work(&mut self, place: Place, id: WorkerId) -> Option<&mut Worker> {
        let process = self.nodes[place].process.as_mut().filter(|process| !process.paused)?;
        let worker = process.workers.get_mut(&id)?;
        let blocked = process.arbiters.get(&worker.arbiter).is_none_or(|thread| thread.blocked.is_some());
        (worker.running && !blocked).then_some(worker)
    }

    fn block(&mut self, place: Place, id: WorkerId, duration: Duration) {
        let (now, life) = (self.clock(place), self.nodes[place].life);
        let Some(Worker { generation, arbiter, .. }) = self.at_work(place, id).cloned() else { return };
        if let Some(thread) = self.threads(place).get_mut(&arbiter) {
            thread.blocked = Some((id, generation, now));
        }
        self.checker.thread_blocked(self.now, place, arbiter, duration);
        self.put(self.now + duration.as_nanos() as u64, Item::Wake { place, life, arbiter });
    }

    fn inspect(&mut self, place: Place, arbiter: ArbiterId) {
        let blocked = self.threads(place).get(&arbiter).and_then(|thread| thread.blocked);
        let busy: Vec<Busy> = blocked
            .into_iter()
            .map(|(worker, _, since)| Busy { worker, doing: Activity::Message("Block"), since })
            .collect();
        let asleep = ThreadLook { state: ThreadState::Sleeping, times: CpuTimes::default() };
        let now = self.clock(place);
        if let Some(process) = &mut self.nodes[place].process {
            process.engine.handle_inspection(now, arbiter, &busy, Some(asleep));
        }
    }

    fn wake(&mut self, place: Place, arbiter: ArbiterId) {
        let Some(thread) = self.threads(place).get_mut(&arbiter) else { return };
        thread.blocked = None;
        if thread.abandoned {
            self.with_engine(place, |engine, now| engine.handle_arbiter_ended(now, arbiter));
        }
    }
}
