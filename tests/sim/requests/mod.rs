//! Requests in the simulated world: each node drives [`Requests`] beside its engine, clients send
//! to random shards all the time, and workers handle what arrives.
//!
//! The engine knows nothing of it. Requests have a queue of events and a stream of chance of their
//! own, so that a seed's nodes do the same with and without them.
//!
//! A worker takes a request in turn, and answers a moment later. It takes none while its thread is
//! blocked, its process stopped, or its lease over, and none whose deadline is over. When its shard
//! stops, its queue is refused.
//!
//! In some worlds old nodes know version 1 of the messages only, and new ones send version 2, too.

mod connections;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use heartbeat_core::member::{Epoch, name_hash};
use heartbeat_core::requests::{
    Counters, Input, MessageType, Outcome, Output, Refusal, RequestId, Requests, ServedId, Target,
};
use heartbeat_core::{Engine, Event, Generation, Instant, Interruption, NodeId, Random, WorkerId};

use crate::event_queue::EventQueue;
use crate::network::NodeIndex;
use crate::requests::connections::Connections;
use crate::worker::Worker;
use crate::world::{GROUP, SHARDS, WORKERS, World};

/// The type of all messages here, in the version that all nodes know.
const MESSAGE: MessageType = MessageType { name_hash: 1, version: 1 };

/// The version that old nodes do not know.
const NEW_MESSAGE: MessageType = MessageType { name_hash: 1, version: 2 };

/// Mean time between two requests of a client.
const PACE: Duration = Duration::from_millis(400);

/// Requests of a burst.
const BURST: u64 = 24;

/// Longest time that a worker takes for most requests.
const WORK_MAX: Duration = Duration::from_millis(4);

/// Longest time for the others.
const LONG_WORK_MAX: Duration = Duration::from_millis(400);

/// How long a worker waits for its thread before it looks again.
const LOOK_AGAIN: u64 = 20_000_000;

/// The requests of a world.
pub(crate) struct Traffic {
    /// Whether there are any.
    is_on: bool,
    /// Whether clients send.
    pub(crate) is_sending: bool,
    pub(crate) random: Random,
    pub(crate) queue: EventQueue<Step>,
    pub(crate) connections: Connections,
    stations: BTreeMap<NodeIndex, Station>,
    next_request: u64,
    /// The nodes that know version 1 only.
    old: BTreeSet<NodeIndex>,
}

/// What one process has beside its engine.
struct Station {
    life: u64,
    requests: Requests,
    /// When the timer that is set goes off; others are void.
    timer_at: u64,
    /// Whether its outputs are being executed: those that come meanwhile are executed after them.
    is_draining: bool,
    /// What came while the process was stopped.
    backlog: Vec<Action>,
    /// The queues of the shards that it holds.
    queues: BTreeMap<u32, Queue>,
    /// The deadlines of the requests in these queues.
    deadlines: BTreeMap<ServedId, Instant>,
}

/// The requests that a shard has under one epoch.
struct Queue {
    epoch: Epoch,
    waiting: VecDeque<(ServedId, u64)>,
    /// The request in hand, and the generation of the worker that has it.
    in_hand: Option<(ServedId, u64, Generation)>,
    /// The generation that is stopping: it takes no further request.
    stopping: Option<Generation>,
    /// Whether its next turn is planned.
    has_turn: bool,
}

/// Something that happens to a process of a node.
pub(crate) struct Step {
    pub(crate) place: NodeIndex,
    pub(crate) life: u64,
    pub(crate) action: Action,
}

pub(crate) enum Action {
    Input(Input),
    Timer(u64),
    /// The client sends.
    Client,
    /// The worker of a shard takes its next request.
    Take(u32),
    /// It answers.
    Answer(u32, ServedId, u64),
    /// A connection tries again to carry what one end wrote.
    Carry(u64, usize),
}

impl Traffic {
    /// With requests, from this seed, or without.
    pub(crate) fn new(seed: u64, is_on: bool) -> Traffic {
        let mut random = Random::seeded(seed ^ 0x4e9_5eed);
        let is_mixed = random.chance(0.3);
        let old = (0..64).filter(|_| is_mixed && random.chance(0.5)).collect();
        Traffic {
            is_on,
            is_sending: is_on,
            old,
            random,
            queue: EventQueue::default(),
            connections: Connections::default(),
            stations: BTreeMap::new(),
            next_request: 0,
        }
    }
}

impl World {
    /// Whether clients send from now on.
    pub fn set_sending(&mut self, is_sending: bool) {
        self.traffic.is_sending = is_sending;
    }

    /// These nodes know version 1 of the messages only, all others both versions.
    pub fn set_old(&mut self, old: impl IntoIterator<Item = NodeIndex>) {
        self.traffic.old = old.into_iter().collect();
    }

    /// The figures of a node whose process runs.
    pub fn request_counters(&self, place: NodeIndex) -> Option<Counters> {
        Some(self.traffic.stations.get(&place)?.requests.counters())
    }

    /// Lets clients send for a while, then stops them and waits for all outcomes. Says what is
    /// wrong afterwards: requests that were sent now are all handled, but for those to shards that
    /// may be down.
    pub fn settle_requests(&mut self) -> Vec<String> {
        /// The longest pause before a restart, and the time that a blocked thread may take.
        const WITHIN_S: u32 = 60;
        let well_since = self.now;
        self.run(Duration::from_secs(5));
        self.set_sending(false);
        for _ in 0..WITHIN_S {
            self.run(Duration::from_secs(1));
            if self.checker.are_requests_over() {
                break;
            }
        }
        let present = self.running();
        let runs = |shard: &u32| present.iter().filter(|&&place| self.shards_on(place).contains(shard)).count() == 1;
        let down: Vec<u32> = (0..SHARDS).filter(|shard| !runs(shard) || self.may_be_down(*shard, &present)).collect();
        self.checker.unsettled_requests(well_since, |shard| down.contains(&shard))
    }

    /// Sends a request from a node to a shard. Returns its number.
    ///
    /// # Panics
    /// If the node has no process, or the world no requests.
    pub fn send_request(&mut self, from: NodeIndex, index: u32, bytes: usize, within: Option<Duration>) -> u64 {
        self.send_message(from, index, bytes, within, MESSAGE)
    }

    /// As [`World::send_request`], in the version of the message that old nodes do not know.
    pub fn send_new_request(&mut self, from: NodeIndex, index: u32, bytes: usize, within: Option<Duration>) -> u64 {
        let id = self.send_message(from, index, bytes, within, NEW_MESSAGE);
        self.checker.request_is_new(id);
        id
    }

    fn send_message(
        &mut self,
        from: NodeIndex,
        index: u32,
        bytes: usize,
        within: Option<Duration>,
        message: MessageType,
    ) -> u64 {
        self.traffic.next_request += 1;
        let (id, life, deadline) = (self.traffic.next_request, self.life(from), within.map(|w| self.clock(from) + w));
        assert!(self.traffic.stations.contains_key(&from), "{} has no requests", self.name(from));
        self.checker.request_sent(self.now, id, (from, life, index), within.is_some());
        let mut payload = id.to_le_bytes().to_vec();
        payload.resize(bytes.max(8), 0);
        let target = Target::Shard { group: name_hash(GROUP), index };
        let payload = payload.into();
        self.requests_input(from, Input::Send { id: RequestId(id), target, message, payload, deadline, trace: None });
        id
    }

    /// One step of the requests at or before `end`, if it comes before all that the nodes do.
    pub(crate) fn step_requests(&mut self, end: u64) -> bool {
        let Some(at) = self.traffic.queue.next_at().filter(|at| *at <= end) else { return false };
        if self.queue.next_at().is_some_and(|other| other <= at) {
            return false;
        }
        let Some((at, step)) = self.traffic.queue.pop(end) else { return false };
        self.now = at;
        let Step { place, life, action } = step;
        if let Action::Carry(connection, way) = action {
            self.carry(connection, way);
            return true;
        }
        let is_paused = self.is_paused(place);
        let Some(station) = self.traffic.stations.get_mut(&place).filter(|station| station.life == life) else {
            return true;
        };
        match action {
            Action::Timer(_) if is_paused => {}
            Action::Client if is_paused => self.plan_client(place),
            action if is_paused => station.backlog.push(action),
            action => self.take_action(place, action),
        }
        true
    }

    fn take_action(&mut self, place: NodeIndex, action: Action) {
        match action {
            Action::Input(input) => {
                if self.may_arrive(place, &input) {
                    self.requests_input(place, input);
                }
            }
            Action::Timer(at) => {
                let Some(station) = self.traffic.stations.get_mut(&place) else { return };
                if station.timer_at == at {
                    station.timer_at = u64::MAX;
                    self.requests_input(place, Input::Timeout);
                }
            }
            Action::Client => self.client(place),
            Action::Take(index) => self.take(place, index),
            Action::Answer(index, served, id) => self.answer(place, index, served, id),
            Action::Carry(connection, way) => self.carry(connection, way),
        }
    }

    // ---- processes -----------------------------------------------------------------------------

    pub(crate) fn start_requests(&mut self, place: NodeIndex, generation: Generation) {
        if !self.traffic.is_on || !self.shape.workers {
            return;
        }
        let (config, me) = (self.config.requests.clone(), NodeId::of(self.name(place)));
        let requests = Requests::new(config, name_hash("sim") as u32, me, generation);
        let life = self.life(place);
        let station = Station {
            life,
            requests,
            timer_at: u64::MAX,
            is_draining: false,
            backlog: Vec::new(),
            queues: BTreeMap::new(),
            deadlines: BTreeMap::new(),
        };
        self.traffic.stations.insert(place, station);
        self.checker.requests_started(place, life);
        self.plan_client(place);
    }

    /// The requests of a process end with it.
    pub(crate) fn end_requests(&mut self, place: NodeIndex) {
        if self.traffic.stations.remove(&place).is_some() {
            self.checker.requests_ended(place);
        }
    }

    pub(crate) fn resume_requests(&mut self, place: NodeIndex) {
        let Some(station) = self.traffic.stations.get_mut(&place) else { return };
        station.timer_at = u64::MAX;
        for action in std::mem::take(&mut station.backlog) {
            self.take_action(place, action);
        }
        self.requests_input(place, Input::Timeout);
    }

    /// What a node's engine says that its requests must know.
    pub(crate) fn feed_requests(&mut self, place: NodeIndex, event: &Event) {
        if !self.traffic.stations.contains_key(&place) {
            return;
        }
        match event {
            Event::ShardMoved { group, shard, to, .. } => {
                let owner = to.as_ref().map(|name| (NodeId::of(name), shard.epoch));
                let (group, index) = (name_hash(group), shard.index);
                self.requests_input(place, Input::Owner { group, index, owner });
            }
            Event::Joined { member } | Event::Updated { member, .. } => self.feed_member(place, member.id),
            Event::Suspected { node, .. }
            | Event::Cleared { node, .. }
            | Event::Died { node, .. }
            | Event::Left { node }
            | Event::Returned { node, .. } => self.feed_member(place, NodeId::of(node)),
            _ => {}
        }
    }

    pub(crate) fn feed_member(&mut self, place: NodeIndex, node: NodeId) {
        let found = self.engine(place).and_then(|engine| engine.members().find(|member| member.id == node));
        if let Some(member) = found {
            let (generation, address, status) = (member.generation, member.profile.address, member.status);
            self.requests_input(place, Input::Member { node, generation, address, status });
        }
    }

    /// After each input of a node's engine: shards that stopped give their queues back.
    pub(crate) fn follow_engine(&mut self, place: NodeIndex) {
        let Some(engine) = self.engine(place) else { return };
        if engine.has_left() {
            if self.traffic.stations.contains_key(&place) {
                self.close_connections(place);
                self.end_requests(place);
            }
            return;
        }
        let Some(station) = self.traffic.stations.get(&place) else { return };
        let is_due = station.requests.poll_timeout().is_some_and(|due| due <= self.clock(place));
        let mut over = Vec::new();
        for (&index, queue) in &station.queues {
            let is_held = engine.held(GROUP, index) == Some(queue.epoch);
            let worker = self.generation_at_work(place, index);
            if let Some((served, _, generation)) = queue.in_hand
                && (!is_held || worker != Some(generation))
            {
                let why = if is_held { Interruption::Restarted } else { Interruption::ShardMoved };
                over.push((index, served, Outcome::Interrupted(why)));
            }
            if !is_held {
                let refused = Outcome::Refused(Refusal::NotOwner { known: known(engine, index) });
                over.extend(queue.waiting.iter().map(|(served, _)| (index, *served, refused.clone())));
            }
        }
        for (index, served, outcome) in over {
            let Some(station) = self.traffic.stations.get_mut(&place) else { return };
            if let Some(queue) = station.queues.get_mut(&index) {
                queue.waiting.retain(|(waiting, _)| *waiting != served);
                queue.in_hand.take_if(|(in_hand, ..)| *in_hand == served);
            }
            self.requests_input(place, Input::Served { served, outcome });
        }
        if is_due && !self.is_paused(place) {
            self.requests_input(place, Input::Timeout);
        }
    }

    /// The generation of the worker that a shard has on a node now, up or not.
    fn generation_at_work(&self, place: NodeIndex, index: u32) -> Option<Generation> {
        let process = self.nodes[place].process.as_ref()?;
        process.workers.get(&WorkerId(WORKERS + index)).map(|worker| worker.generation)
    }

    // ---- the machine ---------------------------------------------------------------------------

    pub(crate) fn requests_input(&mut self, place: NodeIndex, input: Input) {
        let now = self.clock(place);
        let Some(station) = self.traffic.stations.get_mut(&place) else { return };
        station.requests.handle(now, input);
        if std::mem::replace(&mut station.is_draining, true) {
            return;
        }
        while let Some(output) =
            self.traffic.stations.get_mut(&place).and_then(|station| station.requests.poll_output())
        {
            self.requests_act(place, output);
        }
        let Some(station) = self.traffic.stations.get_mut(&place) else { return };
        station.is_draining = false;
        self.checker.request_bounds(self.now, place, station.requests.counters());
        let Some(due) = station.requests.poll_timeout() else { return };
        let ahead = due.as_nanos().saturating_sub(self.local(place, self.now));
        let longer = if self.drift == 0.0 { 0 } else { (ahead as f64 * self.drift.abs() * 1.01) as u64 };
        let at = self.now.saturating_add(ahead).saturating_add(longer).max(self.now + 1);
        let Some(station) = self.traffic.stations.get_mut(&place) else { return };
        if at < station.timer_at {
            station.timer_at = at;
            self.plan_action(at, place, Action::Timer(at));
        }
    }

    fn requests_act(&mut self, place: NodeIndex, output: Output) {
        match output {
            Output::Connect { connection, to } => self.connect(place, connection, to),
            Output::Write { connection, bytes } => self.write(place, connection, &bytes),
            Output::Close { connection } => self.close(place, connection),
            Output::Deliver { served, target, epoch, message, payload, deadline, .. } => {
                if let Some(deadline) = deadline {
                    self.expire_at(place, served, deadline);
                }
                self.receive(place, served, &target, (epoch, message), &payload);
            }
            Output::Deadline { served, deadline } => self.expire_at(place, served, deadline),
            Output::Withdraw { served } => self.withdraw(place, served),
            Output::Finish { id, outcome } => self.checker.request_ended(self.now, place, id.0, outcome),
        }
    }

    pub(crate) fn plan_action(&mut self, at: u64, place: NodeIndex, action: Action) {
        let life = self.life(place);
        self.traffic.queue.put(at, Step { place, life, action });
    }

    // ---- workers -------------------------------------------------------------------------------

    /// A request reaches the node that runs its shard, or should.
    fn receive(
        &mut self,
        place: NodeIndex,
        served: ServedId,
        target: &Target,
        (epoch, message): (Epoch, MessageType),
        payload: &[u8],
    ) {
        let Target::Shard { index, .. } = *target else { return };
        let id = payload.first_chunk().map_or(0, |id| u64::from_le_bytes(*id));
        let Some(engine) = self.engine(place) else { return };
        let (held, known) = (engine.held(GROUP, index), known(engine, index));
        if held != Some(epoch) {
            let outcome = Outcome::Refused(Refusal::NotOwner { known });
            return self.plan_action(self.now + 1, place, Action::Input(Input::Served { served, outcome }));
        }
        if message == NEW_MESSAGE && self.traffic.old.contains(&place) {
            let outcome = Outcome::Refused(Refusal::UnknownMessage);
            return self.plan_action(self.now + 1, place, Action::Input(Input::Served { served, outcome }));
        }
        if self.queue_of(place, index).is_some_and(|queue| queue.epoch != epoch) {
            self.follow_engine(place); // What the shard had under its former epoch goes back first.
        }
        let Some(station) = self.traffic.stations.get_mut(&place) else { return };
        let new = || Queue { epoch, waiting: VecDeque::new(), in_hand: None, stopping: None, has_turn: false };
        let queue = station.queues.entry(index).or_insert_with(new);
        queue.epoch = epoch;
        queue.waiting.push_back((served, id));
        self.plan_turn(place, index, 1_000);
    }

    fn plan_turn(&mut self, place: NodeIndex, index: u32, after: u64) {
        let Some(station) = self.traffic.stations.get_mut(&place) else { return };
        let Some(queue) = station.queues.get_mut(&index) else { return };
        if !queue.has_turn && queue.in_hand.is_none() && !queue.waiting.is_empty() {
            queue.has_turn = true;
            self.plan_action(self.now + after, place, Action::Take(index));
        }
    }

    /// The worker of a shard takes its next request, if it can and may.
    fn take(&mut self, place: NodeIndex, index: u32) {
        let worker = self.at_work(place, WorkerId(WORKERS + index)).cloned();
        let Some(queue) = self.queue_of(place, index) else { return };
        queue.has_turn = false;
        let epoch = queue.epoch;
        let stopping = queue.stopping;
        let may_take = |worker: &Worker| worker.epoch == Some(epoch.0) && stopping != Some(worker.generation);
        let Some(worker) = worker.filter(may_take) else {
            return self.plan_turn(place, index, LOOK_AGAIN);
        };
        let Some(queue) = self.queue_of(place, index).filter(|queue| queue.in_hand.is_none()) else { return };
        let Some((served, id)) = queue.waiting.pop_front() else { return };
        if self.is_expired(place, served) {
            let outcome = Outcome::Refused(Refusal::Expired);
            self.requests_input(place, Input::Served { served, outcome });
            return self.plan_turn(place, index, 1_000);
        }
        if self.is_exclusive() && !self.may_act(place, index) {
            let known = self.engine(place).map_or(Epoch(0), |engine| known(engine, index));
            self.requests_input(
                place,
                Input::Served { served, outcome: Outcome::Refused(Refusal::NotOwner { known }) },
            );
            return self.plan_turn(place, index, 1_000);
        }
        let others: Vec<NodeIndex> =
            (0..self.nodes.len()).filter(|&other| other != place && self.may_act(other, index)).collect();
        self.checker.request_handled(self.now, place, id, (index, epoch.0), &others);
        if let Some(queue) = self.queue_of(place, index) {
            queue.in_hand = Some((served, id, worker.generation));
        }
        let longest = if self.traffic.random.chance(0.03) { LONG_WORK_MAX } else { WORK_MAX };
        let at = self.now + 1 + self.traffic.random.duration_below(longest).as_nanos() as u64;
        self.plan_action(at, place, Action::Answer(index, served, id));
    }

    fn answer(&mut self, place: NodeIndex, index: u32, served: ServedId, id: u64) {
        let is_blocked = self.at_work(place, WorkerId(WORKERS + index)).is_none();
        let Some(queue) = self.queue_of(place, index) else { return };
        if queue.in_hand.is_none_or(|(in_hand, ..)| in_hand != served) {
            return self.plan_turn(place, index, 1_000);
        }
        if is_blocked {
            return self.plan_action(self.now + LOOK_AGAIN, place, Action::Answer(index, served, id));
        }
        queue.in_hand = None;
        let outcome = Outcome::Handled(id.to_le_bytes().to_vec().into());
        self.requests_input(place, Input::Served { served, outcome });
        self.plan_turn(place, index, 1_000);
    }

    /// A stopping worker finishes the request in hand first, if it can.
    pub(crate) fn stop_requests(&mut self, place: NodeIndex, worker: WorkerId) {
        let Some(index) = worker.0.checked_sub(WORKERS) else { return };
        let Some(generation) = self.at_work(place, worker).map(|worker| worker.generation) else { return };
        let Some(queue) = self.queue_of(place, index) else { return };
        queue.stopping = Some(generation);
        if let Some((served, id, _)) = queue.in_hand.take_if(|(_, _, has_it)| *has_it == generation) {
            let outcome = Outcome::Handled(id.to_le_bytes().to_vec().into());
            self.requests_input(place, Input::Served { served, outcome });
        }
    }

    /// The sender of a request waits no more: it is taken out of the queue, if it is there still.
    fn withdraw(&mut self, place: NodeIndex, served: ServedId) {
        let Some(station) = self.traffic.stations.get_mut(&place) else { return };
        let before = |queue: &Queue| queue.waiting.len();
        let is_found = station.queues.values_mut().any(|queue| {
            let length = before(queue);
            queue.waiting.retain(|(waiting, _)| *waiting != served);
            before(queue) < length
        });
        if is_found {
            let outcome = Outcome::Refused(Refusal::Expired);
            self.plan_action(self.now + 1, place, Action::Input(Input::Served { served, outcome }));
        }
    }

    fn expire_at(&mut self, place: NodeIndex, served: ServedId, deadline: Instant) {
        if let Some(station) = self.traffic.stations.get_mut(&place) {
            station.deadlines.insert(served, deadline);
        }
    }

    /// Whether the deadline of a request is over that its worker would begin now.
    fn is_expired(&mut self, place: NodeIndex, served: ServedId) -> bool {
        let now = self.clock(place);
        let deadline = self.traffic.stations.get_mut(&place).and_then(|station| station.deadlines.remove(&served));
        deadline.is_some_and(|deadline| deadline <= now)
    }

    fn queue_of(&mut self, place: NodeIndex, index: u32) -> Option<&mut Queue> {
        self.traffic.stations.get_mut(&place)?.queues.get_mut(&index)
    }

    // ---- clients -------------------------------------------------------------------------------

    fn plan_client(&mut self, place: NodeIndex) {
        let at = self.now + 1 + self.traffic.random.duration_below(PACE * 2).as_nanos() as u64;
        self.plan_action(at, place, Action::Client);
    }

    fn client(&mut self, place: NodeIndex) {
        self.plan_client(place);
        let is_going = self.engine(place).is_none_or(|engine| engine.is_leaving() || engine.has_left());
        if !self.traffic.is_sending || is_going {
            return;
        }
        let random = &mut self.traffic.random;
        let index = random.below(u64::from(SHARDS)) as u32;
        let count = if random.chance(0.02) { BURST } else { 1 };
        for _ in 0..count {
            let random = &mut self.traffic.random;
            let is_large = random.chance(0.05);
            let bytes = if is_large { 60_000 + random.below(200_000) } else { random.below(300) } as usize;
            let within = random.chance(0.25).then(|| Duration::from_millis(20) + random.duration_below(PACE * 10));
            let forsaken = random.chance(0.03).then(|| random.duration_below(PACE).as_nanos() as u64);
            // A sender may decide how long it waits when the request is on its way already.
            let is_later = random.chance(0.5);
            let is_new = !self.traffic.old.is_empty() && !self.traffic.old.contains(&place) && random.chance(0.5);
            let at_once = within.filter(|_| !is_later);
            let id = RequestId(match is_new {
                true => self.send_new_request(place, index, bytes, at_once),
                false => self.send_request(place, index, bytes, at_once),
            });
            if let Some(within) = within.filter(|_| is_later) {
                self.checker.request_forsaken(id.0);
                let deadline = self.clock(place) + within;
                self.requests_input(place, Input::SetDeadline { id, deadline });
            }
            if let Some(after) = forsaken {
                self.checker.request_forsaken(id.0);
                self.plan_action(self.now + after, place, Action::Input(Input::Forsake { id }));
            }
        }
    }
}

/// The epoch under which a node knows an owner of a shard.
fn known(engine: &Engine, index: u32) -> Epoch {
    engine.owner(GROUP, index).map_or(Epoch(0), |(_, epoch)| epoch)
}
