//! `World`: some nodes, with or without monitors, one virtual clock, one seed.
//!
//! Each node is a real engine; its actors, threads and sockets are played. Time jumps from one
//! wake-up to the next, ties are broken by the order of their making, and all chance comes from the
//! seed; so a run is the same to the byte wherever it is run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use heartbeat_core::authority::{AuthorityRequest, AuthorityResponse};
use heartbeat_core::config::{AuthorityKind, ClusterConfig, Mode, QuorumRule};
use heartbeat_core::member::{Role, WEIGHT_KEY};
use heartbeat_core::wire::HEADERS_BYTES;
use heartbeat_core::{
    Activity, ArbiterId, Cause, Config, CpuTimes, Engine, Event, Generation, Identity, Instant, Member, Metadata,
    NodeId, Output, Random, Report, RestartPermit, Start, StreamId, Supervise, ThreadSample, ThreadState,
    WorkerActivity, WorkerId,
};

use crate::agenda::Agenda;
use crate::authority::Authority;
use crate::checker::Checker;
use crate::network::{Network, Place};
use crate::streams::Streams;

/// The sharded group that every node supervises, and its shards.
pub const GROUP: &str = "orders";
/// How many shards it has.
pub const SHARDS: u32 = 8;
/// Ordinary workers on each node; the shards' numbers follow.
pub const WORKERS: u32 = 4;
/// How long after its start a node may take its shards on.
const LATE_MAX: Duration = Duration::from_secs(4);
/// How often the thread of a node without workers gives a sign of life.
const LONG_BEAT: Duration = Duration::from_secs(60);
/// What a stopped process keeps of what it is sent: about what a socket's buffer holds.
const BACKLOG_MAX: usize = 2_000;
/// Buffers of datagrams that arrived, kept for those to come; the others are given back.
const SPARE_MAX: usize = 4_096;
/// The wall clock at the start, in milliseconds, from which generations are taken.
const WALL_START_MS: u64 = 1_700_000_000_000;

/// The key of the metadata under which nodes say something now and then.
const NOTE: &str = "note";

/// Something that is done to the world.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// End a node's process without a word. Its system closes its connections.
    Kill(Place),
    /// Cut a node's power: its process ends, and nobody answers for it.
    Unplug(Place),
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
    /// Let a node say this of itself from now on, beside its weight.
    Say(Place, u64),
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
    /// Let a node lose this share of all it sends and receives.
    Garble(Place, f64),
    /// Let all that a node sends and receives take up to this much longer.
    Slow(Place, Duration),
    /// Let a node's clock run ahead by this much at once.
    Jump(Place, Duration),
    /// End all connections of a node, as a box on the way may; the processes go on.
    Sever(Place),
    /// Let the authority be away: it answers nothing, and what it is asked may be done or not.
    Absent,
    /// Let it be back.
    Present,
    /// Let the authority forget everything. Its epochs begin anew, as it knows nothing of floors.
    Forget,
    /// Let the authority forget everything, as an emptied store does.
    Empty,
    /// Set the wall clock of a node, in milliseconds from the right time, from its next start on.
    SetClock(Place, i64),
    /// Let one node not reach the authority: what it asks is not done, and it hears of nothing.
    CutOff(Place),
    /// Let it reach the authority again.
    Reach(Place),
    /// Let the authority's answers take up to this much longer.
    Delay(Duration),
    /// Make the network quiet and whole.
    Heal,
}

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
}

impl Shape {
    /// `monitors` monitors and `nodes` other nodes, with workers and a log, that have yet to join.
    pub fn new(monitors: usize, nodes: usize) -> Shape {
        Shape { monitors, nodes, workers: true, acquainted: false, log: true, weighted: false, late: false }
    }

    /// `nodes` nodes that know each other and have no workers, without a log: what large worlds are
    /// made of.
    pub fn large(nodes: usize) -> Shape {
        Shape { monitors: 0, nodes, workers: false, acquainted: true, log: false, weighted: false, late: false }
    }
}

/// Hears of each event: when, where, what.
pub type Listener = Box<dyn FnMut(Duration, Place, &Event)>;

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
    /// What a node's clock does in a second of the world's, as parts of one: 0 keeps time.
    pub drift: f64,
    /// The cluster table of all nodes, but for what is each one's own. Read once: a thousand nodes
    /// would otherwise take longer to read their configs than to run for ten seconds.
    table: ClusterConfig,
    shape: Shape,
    random: Random,
    now: u64,
    agenda: Agenda<Item>,
    pub(crate) streams: Streams,
    authority: Authority,
    /// How much longer the authority's answers take at most.
    hesitation: Duration,
    nodes: Vec<Node>,
    /// Datagrams sent, and their bytes with headers.
    sent: (u64, u64),
    buffer: Vec<u8>,
    /// Buffers of datagrams that arrived.
    spare: Vec<Vec<u8>>,
    /// Datagrams to addresses where nobody is.
    lost: Vec<(SocketAddr, Vec<u8>)>,
    log: Vec<String>,
    events: Vec<(Duration, Place, Event)>,
    /// Who hears of each event as it is told, in worlds without a log.
    pub listener: Option<Listener>,
}

struct Node {
    name: String,
    address: SocketAddr,
    /// How far its clock is ahead of the world's.
    offset: u64,
    /// How much of that its wall clock has jumped ahead, too.
    ahead: u64,
    /// How far its wall clock is off beside that, in milliseconds.
    off: i64,
    process: Option<Process>,
    /// Counts processes; what was meant for an earlier one is void.
    life: u64,
    /// Whether it has no power.
    unplugged: bool,
    /// Whether it does not reach the authority.
    is_cut_off: bool,
}

struct Process {
    engine: Engine,
    paused: bool,
    backlog: Vec<Item>,
    /// When the timer that is set will go off; others are void.
    timer_at: u64,
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
    leave: RestartPermit,
    /// When its start is reported; a stop is not reported before.
    starts_at: u64,
    /// Under which epoch it runs, if it is a shard.
    epoch: Option<u64>,
    /// What it has counted, if it is a shard: it goes on from its snapshot.
    count: u64,
}

#[derive(Clone)]
pub(crate) enum Item {
    Datagram {
        to: Place,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    Timer {
        place: Place,
        life: u64,
        at: u64,
    },
    /// Something happens on a stream, at one end of it.
    Stream(crate::streams::Move),
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
    /// A node takes its shards on.
    TakeOn {
        place: Place,
        life: u64,
    },
    /// The socket is found empty.
    Drained {
        place: Place,
        life: u64,
    },
    /// The authority is asked.
    Ask {
        place: Place,
        life: u64,
        number: u64,
        ask: AuthorityRequest,
    },
    /// The authority answers, or does not.
    Answer {
        place: Place,
        life: u64,
        number: u64,
        answer: Option<AuthorityResponse>,
    },
    /// Shards may be free at the authority.
    Freed {
        place: Place,
        life: u64,
    },
    Fault(Fault),
}

impl World {
    /// A monitor and `nodes` nodes, all started, on a quiet network.
    pub fn new(seed: u64, nodes: usize, config: Config) -> World {
        World::of(seed, Shape::new(1, nodes), config)
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
        let mut world = World {
            checker: Checker::new(seed, shape, nodes.iter().map(|node| node.name.clone()).collect(), &config),
            config,
            network: Network::default(),
            timers_first: false,
            random,
            drift: 0.0,
            table: cluster_table(),
            shape,
            now: 1_000_000_000,
            agenda: Agenda::default(),
            streams: Streams::default(),
            authority: Authority::default(),
            hesitation: Duration::ZERO,
            nodes,
            sent: (0, 0),
            buffer: Vec::new(),
            spare: Vec::new(),
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

    /// Plans a fault for this long after the start.
    pub fn plan(&mut self, after: Duration, fault: Fault) {
        let at = 1_000_000_000 + after.as_nanos() as u64;
        self.agenda.put(at.max(self.now), Item::Fault(fault));
    }

    /// Does a fault now.
    pub fn apply(&mut self, fault: Fault) {
        self.note(0, || format!("-- {fault:?}"));
        if self.shape.log {
            let watched_by = match fault {
                Fault::Kill(place) | Fault::Unplug(place) => self.observers_of(place),
                _ => Vec::new(),
            };
            self.checker.fault(self.now, &fault, &watched_by);
        }
        match fault {
            Fault::Kill(place) => {
                self.nodes[place].process = None;
                self.break_streams(place);
            }
            Fault::Unplug(place) => {
                self.nodes[place].process = None;
                self.nodes[place].unplugged = true;
            }
            Fault::Sever(place) => self.sever(place),
            Fault::Garble(place, loss) => drop(self.network.lossy.insert(place, loss)),
            Fault::Slow(place, by) => drop(self.network.slow.insert(place, by)),
            Fault::Jump(place, by) => {
                self.nodes[place].offset += by.as_nanos() as u64;
                self.nodes[place].ahead += by.as_nanos() as u64;
                self.with_engine(place, |engine, now| engine.handle_timeout(now));
            }
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
            Fault::Say(place, note) => {
                let mut metadata = self.metadata_of(place);
                metadata.insert(NOTE.into(), note.to_string());
                if self.nodes[place].process.as_ref().is_some_and(|process| !process.paused) {
                    self.with_engine(place, |engine, now| {
                        engine.set_metadata(now, metadata).expect("metadata that travels");
                    });
                }
            }
            Fault::Leave(place) => self.with_engine(place, |engine, now| engine.leave(now)),
            Fault::Cut(from, to) => self.network.cut(from, to),
            Fault::Mend(from, to) => self.network.mend(from, to),
            Fault::Partition(places) => self.network.partition(&places, self.nodes.len()),
            Fault::Disturb(loss, duplication, reordering) => {
                (self.network.loss, self.network.duplication, self.network.reordering) =
                    (loss, duplication, reordering);
            }
            Fault::Absent => self.authority.is_down = true,
            Fault::Present => self.authority.return_at(self.now),
            Fault::Forget => self.authority = Authority::without_floors(),
            Fault::Empty => self.authority = Authority::default(),
            Fault::SetClock(place, off) => self.nodes[place].off = off,
            Fault::CutOff(place) => self.nodes[place].is_cut_off = true,
            Fault::Reach(place) => self.nodes[place].is_cut_off = false,
            Fault::Delay(by) => self.hesitation = by,
            Fault::Heal => self.network.heal(),
        }
    }

    /// Lets this much time pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration.as_nanos() as u64;
        while let Some((at, item)) = self.agenda.pop(end) {
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

    /// What was sent to an address where nobody is.
    pub fn take_lost(&mut self, to: SocketAddr) -> Vec<Vec<u8>> {
        let (found, rest) = std::mem::take(&mut self.lost).into_iter().partition(|(address, _)| *address == to);
        self.lost = rest;
        found.into_iter().map(|(_, bytes)| bytes).collect()
    }

    /// The name of a node.
    pub fn name(&self, place: Place) -> &str {
        &self.nodes[place].name
    }

    /// The place of the node with this name.
    pub fn place_of(&self, name: &str) -> Option<Place> {
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
        let running: Vec<Place> = self.running();
        let present: Vec<Place> =
            running.iter().copied().filter(|&place| !self.engine(place).is_some_and(Engine::has_left)).collect();
        if self.shape.monitors > 0 && !(0..self.shape.monitors).any(|place| present.contains(&place)) {
            return wrong;
        }
        let text = |member: &Member| {
            let note = member.metadata.get(NOTE).map(|note| format!(" saying {note}")).unwrap_or_default();
            (member.id, format!("{} {}{note}", member.name, member.status))
        };
        let own = |place: &Place| {
            let id = NodeId::of(&self.nodes[*place].name);
            self.engine(*place)?.members().find(|member| member.id == id).map(text)
        };
        let mut truth: Vec<(NodeId, String)> = present.iter().filter_map(own).collect();
        truth.sort();
        for &place in &present {
            let members = self.engine(place).into_iter().flat_map(Engine::members);
            let members = members.filter(|member| member.status.is_member());
            let view: Vec<(NodeId, String)> = members.map(text).collect();
            if view != truth {
                let name = &self.nodes[place].name;
                let texts = |rows: &[(NodeId, String)]| rows.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>();
                wrong.push(format!("{name} sees {:?}, and there are {:?}", texts(&view), texts(&truth)));
            }
        }
        if self.shape.workers {
            self.look_for_shards(&present, &mut wrong);
        }
        wrong
    }

    fn look_for_shards(&self, present: &[Place], wrong: &mut Vec<String>) {
        for shard in 0..SHARDS {
            let owners: Vec<Place> =
                present.iter().copied().filter(|&place| self.shards_on(place).contains(&shard)).collect();
            let enough = match self.config.ownership.quorum {
                QuorumRule::None => 1,
                QuorumRule::Majority => self.config.ownership.quorum_min as usize,
            };
            let may_own = present.iter().any(|&place| place >= self.shape.monitors) && present.len() >= enough;
            if owners.len() != 1 && may_own && !(owners.is_empty() && self.may_be_down(shard, present)) {
                wrong.push(format!("shard {shard} runs on {owners:?}"));
            }
        }
    }

    /// Whether the node that owns a shard now cannot run it.
    fn may_be_down(&self, shard: u32, present: &[Place]) -> bool {
        let one = present.first().and_then(|&place| self.engine(place));
        let owner = one.and_then(|engine| engine.owner(GROUP, shard)).map(|(owner, _)| owner);
        let place = self.nodes.iter().position(|node| Some(NodeId::of(&node.name)) == owner);
        place.is_some_and(|place| self.checker.may_be_down(self.now, place, shard))
    }

    /// Places of those who watch a node, by its own word.
    fn observers_of(&self, place: Place) -> Vec<Place> {
        let observers: Vec<NodeId> = self.engine(place).into_iter().flat_map(Engine::observers).collect();
        (0..self.nodes.len()).filter(|&other| observers.contains(&NodeId::of(&self.nodes[other].name))).collect()
    }

    // ---- the agenda ----------------------------------------------------------------------------------------------------------------------

    pub(crate) fn put(&mut self, at: u64, item: Item) {
        self.agenda.put(at, item);
    }

    fn soon(&mut self, within: Duration) -> u64 {
        self.now + 1_000 + self.random.duration_below(within).as_nanos() as u64
    }

    fn note(&mut self, place: Place, text: impl FnOnce() -> String) {
        if !self.shape.log {
            return;
        }
        let text = text();
        let at = Duration::from_nanos(self.now.saturating_sub(1_000_000_000));
        self.log.push(format!("{:12.6}  {:8}  {text}", at.as_secs_f64(), self.nodes[place].name));
    }

    fn handle(&mut self, item: Item) {
        let (place, life) = match &item {
            Item::Fault(fault) => return self.apply(fault.clone()),
            // What was sent is heard even if its sender is gone.
            Item::Ask { place, life, number, ask } => return self.ask(*place, *life, *number, ask),
            Item::Datagram { to, .. } => (*to, self.nodes[*to].life),
            Item::Stream(action) => (action.at(), self.nodes[action.at()].life),
            Item::Timer { place, life, .. }
            | Item::Beat { place, life, .. }
            | Item::Report { place, life, .. }
            | Item::Wake { place, life, .. }
            | Item::TakeOn { place, life }
            | Item::Answer { place, life, .. }
            | Item::Freed { place, life }
            | Item::Drained { place, life } => (*place, *life),
        };
        if life != self.nodes[place].life {
            return;
        }
        if let Item::Stream(action) = &item
            && self.pass(action)
        {
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
                if self.spare.len() < SPARE_MAX {
                    self.spare.push(bytes);
                }
            }
            Item::Timer { at, .. } if at == process.timer_at => {
                process.timer_at = u64::MAX;
                self.with_engine(place, |engine, now| engine.handle_timeout(now));
            }
            Item::Timer { .. } | Item::Fault(_) | Item::Ask { .. } => {}
            Item::Answer { number, answer, .. } => self.with_engine(place, |engine, now| {
                engine.handle_answer(now, number, answer.ok_or("no answer within 1s"));
            }),
            Item::Freed { .. } => self.with_engine(place, |engine, now| engine.handle_freed(now)),
            Item::Stream(action) => self.stream(action),
            Item::Beat { arbiter, .. } => self.beat(place, life, arbiter),
            Item::Report { worker, generation, report, .. } => self.report(place, worker, generation, report),
            Item::Wake { arbiter, .. } => self.wake(place, arbiter),
            Item::TakeOn { .. } => {
                let arbiters = self.config.workers.arbiters;
                self.with_engine(place, |engine, now| take_on_shards(engine, now, arbiters));
            }
            Item::Drained { .. } => self.with_engine(place, |engine, now| engine.handle_drained(now)),
        }
    }

    /// One input to a node's engine, then whatever it says is done.
    pub(crate) fn with_engine(&mut self, place: Place, input: impl FnOnce(&mut Engine, Instant)) {
        let now = self.clock(place);
        let Some(process) = &mut self.nodes[place].process else { return };
        input(&mut process.engine, now);
        self.drain(place);
    }

    /// What a node's own clock shows now.
    pub fn clock_of(&self, place: Place) -> Instant {
        self.clock(place)
    }

    pub(crate) fn clock(&self, place: Place) -> Instant {
        Instant::from_nanos(self.local(place, self.now))
    }

    /// What a node's clock shows at this time of the world. Every second one runs fast, the others
    /// slow.
    fn local(&self, place: Place, at: u64) -> u64 {
        if self.drift == 0.0 {
            return at + self.nodes[place].offset;
        }
        let drift = if place.is_multiple_of(2) { self.drift } else { -self.drift };
        (at as i64 + (at as f64 * drift) as i64) as u64 + self.nodes[place].offset
    }

    pub(crate) fn drain(&mut self, place: Place) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(process) = &mut self.nodes[place].process {
            let Some(output) = process.engine.poll_output(&mut buffer) else { break };
            self.act(place, output, &buffer);
        }
        self.buffer = buffer;
        let life = self.nodes[place].life;
        let Some(process) = &self.nodes[place].process else { return };
        let Some(due) = process.engine.poll_timeout() else { return };
        let ahead = due.as_nanos().saturating_sub(self.local(place, self.now));
        // A clock that runs slow needs longer for it.
        let longer = if self.drift == 0.0 { 0 } else { (ahead as f64 * self.drift.abs() * 1.01) as u64 };
        let at = self.now.saturating_add(ahead).saturating_add(longer);
        let process = self.nodes[place].process.as_mut().expect("it was just seen");
        // A timer that is set too early is let run.
        if at < process.timer_at {
            process.timer_at = at;
            self.put(at, Item::Timer { place, life, at });
        }
    }

    fn act(&mut self, place: Place, output: Output, buffer: &[u8]) {
        let life = self.nodes[place].life;
        match output {
            Output::Transmit { to } => self.transmit(place, to, buffer),
            Output::Open { stream, to } => self.open(place, stream, self.at_address(to)),
            Output::Frame { stream } => self.frame(place, stream, buffer),
            Output::Shut { stream } => self.shut(place, stream),
            // Seeds are addresses here.
            Output::Resolve { .. } => {}
            Output::AskAuthority { number, ask } => {
                let at = self.soon(Duration::from_millis(2));
                self.put(at, Item::Ask { place, life, number, ask });
            }
            Output::Start(start) => self.start_worker(place, start),
            Output::SetRestartPermit { worker, leave } => {
                if let Some(worker) = self.worker(place, worker) {
                    worker.leave = leave;
                }
            }
            Output::Stop { worker, .. } => {
                if let Some(found) = self.worker(place, worker).cloned() {
                    let at = self.soon(Duration::from_millis(1)).max(found.starts_at + 1);
                    let (generation, report) = (found.generation, Report::Stopped);
                    self.put(at, Item::Report { place, life, worker, generation, report });
                }
            }
            // Whoever sat there is void: what it was still to report is not heard.
            Output::Close { worker, .. } | Output::Fence { worker, .. } | Output::Forget { worker } => {
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
            Output::Abandon { arbiter } => self.abandon(place, arbiter),
            Output::Drain => {
                // Later than whatever waits for a process that goes on: that is handed over in one
                // go.
                let at = self.soon(Duration::from_millis(1));
                self.put(at, Item::Drained { place, life });
            }
            Output::Dismiss { arbiter } => drop(self.threads(place).remove(&arbiter)),
            // Nothing that is played here waits for ever, is overloaded, is in a group or ends its
            // process. A held thread tells by its silence.
            Output::Arrived(_)
            | Output::Scan
            | Output::Held { .. }
            | Output::Returned { .. }
            | Output::Exit { .. }
            | Output::ForgetGroup { .. } => {}
            Output::Event(event) => {
                self.note(place, || format!("{event:?}"));
                let at = self.elapsed();
                if let Some(listener) = &mut self.listener {
                    listener(at, place, &event);
                }
                if self.shape.log {
                    let members = self.engine(place).into_iter().flat_map(Engine::members);
                    let is_alone = members.filter(|member| member.status.is_member()).count() < 2;
                    self.checker.event(self.now, place, is_alone, &event);
                    self.events.push((at, place, event));
                }
            }
        }
    }

    // ---- what actors, threads and sockets would do -----------------------------------------------------------------------------------------

    fn transmit(&mut self, from: Place, to: SocketAddr, bytes: &[u8]) {
        self.sent = (self.sent.0 + 1, self.sent.1 + (bytes.len() + HEADERS_BYTES) as u64);
        let Some(place) = self.at_address(to) else {
            if self.lost.len() < BACKLOG_MAX {
                self.lost.push((to, bytes.to_vec()));
            }
            return;
        };
        for delay in self.network.deliveries(from, place, &mut self.random).into_iter().flatten() {
            let mut copy = self.spare.pop().unwrap_or_default();
            copy.clear();
            copy.extend_from_slice(bytes);
            let item = Item::Datagram { to: place, from: self.nodes[from].address, bytes: copy };
            self.put(self.now + delay.as_nanos() as u64, item);
        }
    }

    // ---- what streams ask of it ------------------------------------------------------------------------------------------------------------

    pub(crate) fn life(&self, place: Place) -> u64 {
        self.nodes[place].life
    }

    pub(crate) fn is_unplugged(&self, place: Place) -> bool {
        self.nodes[place].unplugged
    }

    pub(crate) fn has_process(&self, place: Place) -> bool {
        self.nodes[place].process.is_some()
    }

    pub(crate) fn is_paused(&self, place: Place) -> bool {
        self.nodes[place].process.as_ref().is_some_and(|process| process.paused)
    }

    /// Whether nothing gets through between two places, in either direction.
    pub(crate) fn is_apart(&self, one: Place, other: Place) -> bool {
        self.network.is_cut(one, other) || self.network.is_cut(other, one)
    }

    pub(crate) fn elapsed_nanos(&self) -> u64 {
        self.now
    }

    /// How long something takes on the way.
    pub(crate) fn delay(&mut self) -> u64 {
        self.network.delay(&mut self.random).as_nanos() as u64
    }

    /// A connection comes in; its outputs are still to be drained.
    pub(crate) fn take_connection(&mut self, place: Place) -> Option<StreamId> {
        let now = self.clock(place);
        self.nodes[place].process.as_mut().map(|process| process.engine.handle_accepted(now))
    }

    /// Who has this address.
    fn at_address(&self, address: SocketAddr) -> Option<Place> {
        let SocketAddr::V4(address) = address else { return None };
        let [ten, _, high, low] = address.ip().octets();
        let place = (usize::from(high) * 250 + usize::from(low)).checked_sub(1)?;
        (ten == 10 && place < self.nodes.len()).then_some(place)
    }

    /// The config of a node: the seeds are the monitors, or the first three nodes.
    fn config_of(&self, place: Place) -> Config {
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
            ..self.table.clone()
        });
        config
    }

    /// What a node says of itself when it starts.
    fn metadata_of(&self, place: Place) -> Metadata {
        let weight = self.shape.weighted.then(|| (WEIGHT_KEY.to_owned(), (place % 4 + 1).to_string()));
        weight.into_iter().collect()
    }

    /// Starts all nodes, each within the first interval, with the same table.
    fn start_acquainted(&mut self) {
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

    fn start(&mut self, place: Place) {
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
    fn resume(&mut self, place: Place) {
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

    fn abandon(&mut self, place: Place, arbiter: ArbiterId) {
        if let Some(thread) = self.threads(place).get_mut(&arbiter) {
            thread.abandoned = true;
        }
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
            let others = (0..self.nodes.len()).filter(|&other| other != place && self.may_act(other, shard.index));
            let others: Vec<Place> = others.collect();
            self.checker.alone(self.now, place, shard, &others);
        }
        self.checker.generation(self.now, place, start.worker, start.generation);
        let epoch = start.shard.map(|shard| shard.epoch.0);
        let count = start.replica.as_ref().map_or(0, |replica| count_in(&replica.bytes));
        if let Some(shard) = start.shard {
            self.checker.took_over(self.now, place, shard, count);
        }
        let Start { worker, generation, arbiter, leave, .. } = start;
        let at = self.soon(Duration::from_millis(1));
        let Some(process) = &mut self.nodes[place].process else { return };
        process
            .workers
            .insert(worker, Worker { generation, arbiter, running: false, leave, starts_at: at, epoch, count });
        self.put(at, Item::Report { place, life, worker, generation, report: Report::Started });
    }

    /// Whether a shard may run in one place only, whatever the network does.
    fn is_exclusive(&self) -> bool {
        self.config.ownership.quorum == QuorumRule::Majority || self.config.ownership.authority != AuthorityKind::View
    }

    /// Whether a node has the right to act for a shard, by its own word and by its own clock; it
    /// may be stopped just now.
    fn may_act(&self, place: Place, shard: u32) -> bool {
        let Some(engine) = self.engine(place).filter(|engine| !engine.has_left()) else { return false };
        self.is_exclusive()
            && engine.held(GROUP, shard).is_some()
            && engine.lease_until().is_some_and(|until| until > self.clock(place))
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
        // A blocked thread starts and stops nobody; what it was to do waits for it, and is void if
        // it was replaced meanwhile.
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
            self.count(place, arbiter);
        }
        let interval = if self.shape.workers { self.config.workers.interval } else { LONG_BEAT };
        let next = self.now + interval.as_nanos() as u64;
        self.put(next, Item::Beat { place, life, arbiter });
    }

    /// Every shard on this thread counts one on, and says so.
    fn count(&mut self, place: Place, arbiter: ArbiterId) {
        let Some(process) = &mut self.nodes[place].process else { return };
        let mut counted = Vec::new();
        for (&id, worker) in &mut process.workers {
            if worker.running && worker.arbiter == arbiter && worker.epoch.is_some() {
                worker.count += 1;
                counted.push((id, worker.count));
            }
        }
        for (id, count) in counted {
            self.checker.counted(id.0 - WORKERS, count);
            self.with_engine(place, |engine, now| engine.handle_snapshot(now, id, 1, bytes_of(id, count)));
        }
    }

    /// What a shard on a node has counted to, if it runs there.
    pub fn count_on(&self, place: Place, shard: u32) -> Option<u64> {
        let worker = self.nodes[place].process.as_ref()?.workers.get(&WorkerId(WORKERS + shard))?;
        worker.running.then_some(worker.count)
    }

    fn ask(&mut self, place: Place, life: u64, number: u64, ask: &AuthorityRequest) {
        let is_cut_off = self.nodes[place].is_cut_off;
        let is_down = self.authority.is_down || is_cut_off;
        // Nobody can tell a request that was lost from an answer that was.
        let is_done = !is_cut_off && (!is_down || self.random.chance(0.3));
        let mut answer = None;
        if is_done {
            let generation = self.nodes[place].process.as_ref().filter(|_| self.nodes[place].life == life);
            let generation = generation.map_or(Generation(0), |_| self.generations_of(place));
            let name = self.nodes[place].name.clone();
            let (said, freed) = self.authority.ask(self.now, &name, generation, ask);
            answer = (!is_down).then_some(said);
            if freed {
                self.tell_freed();
            }
        }
        let late = if is_down { Duration::from_secs(1) } else { Duration::ZERO };
        let at = self.soon(Duration::from_millis(2) + self.hesitation) + late.as_nanos() as u64;
        // Whoever asks waits for a second at most.
        let (at, answer) = match at - self.now > 1_000_000_000 {
            true => (self.now + 1_000_000_000, None),
            false => (at, answer),
        };
        self.put(at, Item::Answer { place, life, number, answer });
    }

    fn tell_freed(&mut self) {
        for place in (0..self.nodes.len()).filter(|&place| !self.nodes[place].is_cut_off).collect::<Vec<_>>() {
            let (life, at) = (self.nodes[place].life, self.soon(Duration::from_millis(5)));
            self.put(at, Item::Freed { place, life });
        }
    }

    fn generations_of(&self, place: Place) -> Generation {
        let id = NodeId::of(&self.nodes[place].name);
        let own = self.engine(place).and_then(|engine| engine.members().find(|member| member.id == id));
        own.map_or(Generation(0), |member| member.generation)
    }

    fn panic(&mut self, place: Place, id: WorkerId) {
        let now = self.clock(place);
        let life = self.nodes[place].life;
        let Some(worker) = self.at_work(place, id) else { return };
        let cause = Cause::Panicked { payload: "told to".into(), during: Activity::Message("Panic") };
        let generation = worker.generation;
        // The thread uses its leave if it has it, as the driver does, and reports afterwards.
        let RestartPermit { from, until } = worker.leave;
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

    /// A worker that runs on a thread that is not blocked, in a process that is not stopped: one
    /// that can do something by itself.
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
        let busy: Vec<WorkerActivity> = blocked
            .into_iter()
            .map(|(worker, _, since)| WorkerActivity { worker, doing: Activity::Message("Block"), since })
            .collect();
        let asleep = ThreadSample { state: ThreadState::Sleeping, times: CpuTimes::default() };
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

/// The cluster table of the simulation.
fn cluster_table() -> ClusterConfig {
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

/// A snapshot of a shard that has counted so far: some take many frames.
fn bytes_of(id: WorkerId, count: u64) -> std::sync::Arc<[u8]> {
    let mut bytes = count.to_le_bytes().to_vec();
    bytes.resize(8 + id.0 as usize % 4 * 1_500, 0);
    bytes.into()
}

fn count_in(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |count| u64::from_le_bytes(*count))
}

/// Takes on the workers that every node has.
fn take_on(engine: &mut Engine, now: Instant, arbiters: u32) {
    let supervise = |index: u32, name: String| Supervise::new(WorkerId(index), name, arbiters);
    for index in 0..WORKERS {
        engine.supervise(now, supervise(index, format!("worker-{index}")));
    }
}

/// Takes on the shards that every node may own.
fn take_on_shards(engine: &mut Engine, now: Instant, arbiters: u32) {
    let supervise = |index: u32, name: String| Supervise::new(WorkerId(index), name, arbiters);
    let shards = (0..SHARDS).map(|index| supervise(WORKERS + index, format!("{GROUP}/{index}"))).collect();
    engine.supervise_shards(now, GROUP.into(), shards);
}

/// The generation of a process that is started at this time of the world.
pub(crate) fn generation_at(at: u64) -> Generation {
    Generation(WALL_START_MS + at / 1_000_000)
}
