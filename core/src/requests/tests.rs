//! Random runs of a few nodes over connections that break, with shards that move and nodes that
//! die.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::frame::{self, Frame, RequestHead, Response};
use super::{
    Bytes, ConnectionId, Counters, Input, MessageType, OnSuspected, Outcome, Output, PART_BYTES_MAX, PREFACE, Refusal,
    RequestId, Requests, RequestsConfig, ServedId, Target, TraceContext,
};
use crate::member::{Epoch, Generation, NodeId, Status};
use crate::time::Instant;
use crate::{Interruption, Random};

const GROUP: u64 = 77;
/// Where all nodes are.
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MESSAGE: MessageType = MessageType { name_hash: 1, version: 1 };

fn node_id(place: usize) -> NodeId {
    NodeId::of(&format!("node-{place}"))
}

fn shard(index: u32) -> Target {
    Target::Shard { group: GROUP, index }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// An input on its way to a node.
#[derive(Clone, Debug)]
enum Event {
    Input(Input),
    /// A worker gets to the next request in the queue of this shard.
    Work(u32),
}

/// One end of a connection.
type End = (usize, ConnectionId);

struct Node {
    requests: Requests,
    is_alive: bool,
    /// The queues of the shards that run here.
    running: BTreeMap<u32, (Epoch, VecDeque<(ServedId, u64)>)>,
    /// Of the requests in these queues that have one.
    deadlines: BTreeMap<ServedId, Instant>,
    timer_at: Option<Instant>,
}

/// Nodes, their connections, and what their workers handled.
struct World {
    now: Instant,
    random: Random,
    nodes: Vec<Node>,
    events: BTreeMap<(Instant, u64), (usize, Event)>,
    next_event: u64,
    ends: BTreeMap<End, End>,
    /// When the last bytes written at an end arrive: later ones arrive later.
    last_arrival: BTreeMap<End, Instant>,
    /// When each node learns of the last move.
    last_news: BTreeMap<usize, Instant>,
    next_accepted: u64,
    next_request: u64,
    /// Of each request: its sender and shard.
    sent: BTreeMap<u64, (usize, u32)>,
    /// In the order in which workers handled them.
    handled: Vec<u64>,
    outcomes: BTreeMap<u64, Outcome>,
    owners: BTreeMap<u32, (usize, u64)>,
    /// Longest time on the way.
    delay_max: Duration,
}

impl World {
    fn new(seed: u64, nodes: usize, shards: u32, config: &RequestsConfig) -> World {
        let make = |place| Node {
            requests: Requests::new(config.clone(), 5, node_id(place), Generation(1)),
            is_alive: true,
            running: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            timer_at: None,
        };
        let mut world = World {
            now: Instant::from_millis(1),
            random: Random::seeded(seed),
            nodes: (0..nodes).map(make).collect(),
            events: BTreeMap::new(),
            next_event: 0,
            ends: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            last_news: BTreeMap::new(),
            next_accepted: 2,
            next_request: 0,
            sent: BTreeMap::new(),
            handled: Vec::new(),
            outcomes: BTreeMap::new(),
            owners: BTreeMap::new(),
            delay_max: Duration::from_millis(3),
        };
        for from in 0..nodes {
            for to in 0..nodes {
                world.input(from, member(to, Status::Alive));
            }
        }
        for index in 0..shards {
            world.start_shard(index, index as usize % nodes);
        }
        world.run_for(world.delay_max * 2);
        world
    }

    fn delay(&mut self) -> Duration {
        Duration::from_nanos(self.random.below(self.delay_max.as_nanos() as u64))
    }

    fn plan(&mut self, at: Instant, place: usize, event: Event) {
        self.next_event += 1;
        self.events.insert((at, self.next_event), (place, event));
    }

    fn later(&mut self, place: usize, event: Event) {
        let at = self.now + self.delay();
        self.plan(at, place, event);
    }

    /// The shard runs here from now on, and the nodes learn of it one after the other.
    fn start_shard(&mut self, index: u32, place: usize) {
        let epoch = self.owners.get(&index).map_or(100, |(_, epoch)| epoch + 100);
        self.owners.insert(index, (place, epoch));
        self.nodes[place].running.insert(index, (Epoch(epoch), VecDeque::new()));
        for other in 0..self.nodes.len() {
            // Only the owner knows the epoch; the others guess, and may guess too high.
            let guess = if other == place { epoch } else { epoch + self.random.below(100) };
            let owner = Some((node_id(place), Epoch(guess)));
            // News of two moves arrive in their order: no view stays wrong.
            let at = (self.now + self.delay()).max(self.last_news.get(&other).copied().unwrap_or(Instant::ZERO));
            self.last_news.insert(other, at);
            self.plan(at, other, Event::Input(Input::Owner { group: GROUP, index, owner }));
        }
    }

    /// The shard stops where it runs: its queue goes back. Then it starts there.
    fn move_shard(&mut self, index: u32, to: usize) {
        let (from, _) = self.owners[&index];
        if from == to || !self.nodes[to].is_alive {
            return;
        }
        let (_, queue) = self.nodes[from].running.remove(&index).unwrap_or_default();
        for (served, _) in queue {
            let outcome = Outcome::Refused(Refusal::NotOwner { known: Epoch(0) });
            self.input(from, Input::Served { served, outcome });
        }
        self.start_shard(index, to);
    }

    /// The node's process ends. Others see its connections close, then learn of its death, and its
    /// shards start elsewhere.
    fn kill(&mut self, victim: usize) {
        self.nodes[victim].is_alive = false;
        self.nodes[victim].running.clear();
        let ends: Vec<End> = self.ends.keys().filter(|(place, _)| *place == victim).copied().collect();
        ends.into_iter().for_each(|end| self.cut(end));
        let survivors: Vec<usize> = (0..self.nodes.len()).filter(|place| self.nodes[*place].is_alive).collect();
        for &place in &survivors {
            self.later(place, Event::Input(member(victim, Status::Dead)));
        }
        let lost: Vec<u32> =
            self.owners.iter().filter(|(_, (owner, _))| *owner == victim).map(|(index, _)| *index).collect();
        for index in lost {
            let successor = survivors[self.random.below(survivors.len() as u64) as usize];
            self.start_shard(index, successor);
        }
    }

    /// Both ends of a connection see its end, each in its own time; bytes on their way are lost.
    fn cut(&mut self, end: End) {
        let Some(other) = self.ends.remove(&end) else { return };
        self.ends.remove(&other);
        for (place, connection) in [end, other] {
            self.later(place, Event::Input(Input::Ended { connection }));
        }
    }

    fn cut_any(&mut self) {
        let ends: Vec<End> = self.ends.keys().copied().collect();
        if !ends.is_empty() {
            let which = self.random.below(ends.len() as u64) as usize;
            self.cut(ends[which]);
        }
    }

    fn send(&mut self, from: usize, index: u32, bytes: usize, within: Option<Duration>) -> u64 {
        self.next_request += 1;
        let id = self.next_request;
        let mut payload = id.to_le_bytes().to_vec();
        payload.resize(bytes.max(8), 0);
        self.sent.insert(id, (from, index));
        let deadline = within.map(|within| self.now + within);
        let (target, payload) = (shard(index), payload.into());
        self.input(from, Input::Send { id: RequestId(id), target, message: MESSAGE, payload, deadline, trace: None });
        id
    }

    fn input(&mut self, place: usize, input: Input) {
        if !self.nodes[place].is_alive {
            return;
        }
        self.nodes[place].requests.handle(self.now, input);
        while let Some(output) = self.nodes[place].requests.poll_output() {
            self.act(place, output);
        }
        let due = self.nodes[place].requests.poll_timeout();
        if due != self.nodes[place].timer_at {
            self.nodes[place].timer_at = due;
            if let Some(due) = due {
                let at = due.max(self.now + Duration::from_nanos(1));
                self.plan(at, place, Event::Input(Input::Timeout));
            }
        }
    }

    fn act(&mut self, place: usize, output: Output) {
        match output {
            Output::Connect { connection, to } => {
                let peer = usize::from(to.port());
                if !self.nodes[peer].is_alive {
                    return self.later(place, Event::Input(Input::Ended { connection }));
                }
                let accepted = ConnectionId(self.next_accepted);
                self.next_accepted += 2;
                self.ends.insert((place, connection), (peer, accepted));
                self.ends.insert((peer, accepted), (place, connection));
                self.input(peer, Input::Accepted { connection: accepted, from: HOST });
                self.later(place, Event::Input(Input::Connected { connection }));
            }
            Output::Write { connection, bytes } => self.carry((place, connection), &bytes),
            Output::Close { connection } => {
                if let Some(other) = self.ends.remove(&(place, connection)) {
                    self.ends.remove(&other);
                    let at = self.arrival((place, connection));
                    self.plan(at, other.0, Event::Input(Input::Ended { connection: other.1 }));
                }
            }
            Output::Deliver { served, target, epoch, payload, deadline, .. } => {
                self.nodes[place].deadlines.extend(deadline.map(|deadline| (served, deadline)));
                self.deliver(place, served, &target, epoch, &payload);
            }
            Output::Deadline { served, deadline } => {
                self.nodes[place].deadlines.insert(served, deadline);
            }
            Output::Withdraw { .. } => {}
            Output::Finish { id, outcome } => {
                let before = self.outcomes.insert(id.0, outcome);
                assert!(before.is_none(), "request {} ended twice, first as {before:?}", id.0);
            }
        }
    }

    fn arrival(&mut self, end: End) -> Instant {
        let at = self.now + self.delay();
        let last = self.last_arrival.get(&end).copied().unwrap_or(Instant::ZERO);
        let at = at.max(last);
        self.last_arrival.insert(end, at);
        at
    }

    /// Bytes arrive in order, in pieces of any size.
    fn carry(&mut self, end: End, bytes: &[u8]) {
        let written = Input::Written { connection: end.1, bytes: bytes.len() };
        self.later(end.0, Event::Input(written));
        let Some(other) = self.ends.get(&end).copied() else { return };
        let split = self.random.below(bytes.len() as u64 + 1) as usize;
        for piece in [&bytes[..split], &bytes[split..]] {
            if !piece.is_empty() {
                let at = self.arrival(end);
                let read = Input::Read { connection: other.1, bytes: Bytes::copy_from_slice(piece) };
                self.plan(at, other.0, Event::Input(read));
            }
        }
    }

    fn deliver(&mut self, place: usize, served: ServedId, target: &Target, epoch: Epoch, payload: &[u8]) {
        let Target::Shard { index, .. } = target else { panic!("no test asks a worker here") };
        let id = u64::from_le_bytes(payload[..8].try_into().unwrap());
        if let Some((running, queue)) = self.nodes[place].running.get_mut(index)
            && *running == epoch
        {
            queue.push_back((served, id));
            return self.later(place, Event::Work(*index));
        }
        let outcome = Outcome::Refused(Refusal::NotOwner { known: Epoch(0) });
        self.later(place, Event::Input(Input::Served { served, outcome }));
    }

    fn work(&mut self, place: usize, index: u32) {
        let Some((_, queue)) = self.nodes[place].running.get_mut(&index) else { return };
        let Some((served, id)) = queue.pop_front() else { return };
        if self.nodes[place].deadlines.get(&served).is_some_and(|deadline| *deadline <= self.now) {
            let outcome = Outcome::Refused(Refusal::Expired);
            return self.input(place, Input::Served { served, outcome });
        }
        self.handled.push(id);
        let outcome = Outcome::Handled(id.to_le_bytes().to_vec().into());
        self.input(place, Input::Served { served, outcome });
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((&(at, _), _)) = self.events.first_key_value()
            && at <= end
            && let Some((_, (place, event))) = self.events.pop_first()
        {
            self.now = at;
            if !self.nodes[place].is_alive {
                continue;
            }
            match event {
                Event::Work(index) => self.work(place, index),
                Event::Input(Input::Read { connection, bytes }) => {
                    // A connection that was cut carries nothing more.
                    if self.ends.contains_key(&(place, connection)) {
                        self.input(place, Input::Read { connection, bytes });
                    }
                }
                Event::Input(input) => self.input(place, input),
            }
        }
        self.now = end;
    }

    /// Asserts what must hold once every request has ended.
    fn check(&self, seed: u64) {
        let mut seen = BTreeSet::new();
        for id in &self.handled {
            assert!(seen.insert(id), "seed {seed}: request {id} was handled twice");
        }
        let mut latest: BTreeMap<(usize, u32), u64> = BTreeMap::new();
        // A request that ended without an answer may have its effect at any time.
        let answered = |id: &&u64| matches!(self.outcomes.get(id), Some(Outcome::Handled(_)));
        for id in self.handled.iter().filter(answered) {
            let lane = self.sent[id];
            let before = latest.insert(lane, *id);
            assert!(before.is_none_or(|before| before < *id), "seed {seed}: {id} was handled after {before:?}");
        }
        for (id, (sender, _)) in &self.sent {
            if !self.nodes[*sender].is_alive {
                continue;
            }
            let outcome = self.outcomes.get(id).unwrap_or_else(|| panic!("seed {seed}: request {id} has no end"));
            match outcome {
                Outcome::Handled(answer) => {
                    assert!(seen.contains(id), "seed {seed}: request {id}");
                    assert_eq!(**answer, id.to_le_bytes(), "seed {seed}: the answer of another one");
                }
                Outcome::Refused(why) => {
                    assert!(!seen.contains(id), "seed {seed}: {id} was refused ({why}) and handled")
                }
                Outcome::Interrupted(_) | Outcome::TimedOut => {}
            }
        }
        for node in self.nodes.iter().filter(|node| node.is_alive) {
            let Counters {
                sent, handled, refused, interrupted, timed_out, held, held_bytes, under_way, malformed, ..
            } = node.requests.counters();
            assert_eq!(sent, handled + refused + interrupted + timed_out, "seed {seed}");
            assert_eq!((held, held_bytes, under_way, malformed), (0, 0, 0, 0), "seed {seed}");
            assert!(node.requests.pending.is_empty() && node.requests.lanes.is_empty(), "seed {seed}");
        }
    }
}

fn member(place: usize, status: Status) -> Input {
    let address = ([127, 0, 0, 1], place as u16).into();
    Input::Member { node: node_id(place), generation: Generation(1), address, status }
}

fn config() -> RequestsConfig {
    RequestsConfig::default()
}

#[test]
fn random_faults_lose_no_request_silently_and_repeat_none() {
    for seed in 0..400 {
        let nodes = 3 + (seed % 3) as usize;
        let shards = 1 + (seed % 7) as u32;
        let mut world = World::new(seed, nodes, shards, &config());
        for _ in 0..60 {
            let from = world.random.below(nodes as u64) as usize;
            let index = world.random.below(shards.into()) as u32;
            match world.random.below(20) {
                0 => world.cut_any(),
                1 | 2 => world.move_shard(index, from),
                3 if world.random.below(4) == 0 && world.nodes.iter().filter(|node| node.is_alive).count() > 2 => {
                    world.kill(from);
                }
                4 if world.nodes[from].is_alive => {
                    let bytes = PART_BYTES_MAX * 3 + 1;
                    world.send(from, index, bytes, None);
                }
                5 if world.nodes[from].is_alive => {
                    world.send(from, index, 8, Some(Duration::from_millis(2)));
                }
                6 if world.nodes[from].is_alive => {
                    let id = RequestId(world.send(from, index, PART_BYTES_MAX * 2, None));
                    let pause = world.delay();
                    world.run_for(pause);
                    let deadline = world.now + Duration::from_millis(1);
                    world.input(from, Input::SetDeadline { id, deadline });
                }
                _ if world.nodes[from].is_alive => {
                    world.send(from, index, 64, None);
                }
                _ => {}
            }
            let pause = world.delay() / 2;
            world.run_for(pause);
        }
        world.run_for(secs(30));
        world.check(seed);
        // Each shard has an owner all the time, and views are late by milliseconds.
        let is_forgotten = |outcome: &&Outcome| **outcome == Outcome::Refused(Refusal::HeldTooLong);
        assert_eq!(world.outcomes.values().filter(is_forgotten).count(), 0, "seed {seed}");
    }
}

/// The request waited for its connection to the former owner, and nothing sent it on when that had
/// ended. On the new owner itself, no other request came to its rescue: it waited for `held_for`.
#[test]
fn a_request_that_was_not_carried_goes_to_the_new_owner_at_once() {
    for new_owner in [0, 2] {
        let mut requests = Requests::new(config(), 5, node_id(0), Generation(1));
        let now = Instant::from_millis(1);
        let owner = |place, epoch| Some((node_id(place), Epoch(epoch)));
        let mut play = |input| {
            requests.handle(now, input);
            std::iter::from_fn(|| requests.poll_output()).collect::<Vec<_>>()
        };
        for place in [1, 2] {
            play(member(place, Status::Alive));
        }
        play(Input::Owner { group: GROUP, index: 0, owner: owner(1, 5) });
        let (id, target, payload) = (RequestId(1), shard(0), Bytes::from(vec![0; 8]));
        let outputs = play(Input::Send { id, target, message: MESSAGE, payload, deadline: None, trace: None });
        let [Output::Connect { connection, .. }] = outputs[..] else { panic!("{outputs:?}") };
        assert_eq!(play(Input::Owner { group: GROUP, index: 0, owner: owner(new_owner, 6) }), []);
        let outputs = play(Input::Ended { connection });
        let is_sent_on = match new_owner {
            0 => matches!(outputs[..], [Output::Deliver { epoch: Epoch(6), .. }]),
            _ => matches!(outputs[..], [Output::Connect { to, .. }] if to.port() == 2),
        };
        assert!(is_sent_on, "{outputs:?}");
    }
}

#[test]
fn a_graceful_move_fails_no_request() {
    for seed in 0..100 {
        let mut world = World::new(seed, 4, 2, &config());
        for step in 0..200 {
            let from = world.random.below(4) as usize;
            world.send(from, step % 2, 32, None);
            if step % 10 == 0 {
                let to = world.random.below(4) as usize;
                world.move_shard(step % 2, to);
            }
            world.run_for(Duration::from_millis(1));
        }
        world.run_for(secs(5));
        world.check(seed);
        let failed = world.outcomes.values().find(|outcome| !matches!(outcome, Outcome::Handled(_)));
        assert_eq!(failed, None, "seed {seed}");
        assert_eq!(world.handled.len(), 200, "seed {seed}");
    }
}

#[test]
fn a_dead_nodes_requests_are_interrupted_and_later_ones_move() {
    let mut world = World::new(1, 3, 3, &config());
    let warm = world.send(0, 1, 8, None);
    world.run_for(secs(1));
    assert!(matches!(world.outcomes[&warm], Outcome::Handled(_)));
    let under_way = world.send(0, 1, 8, Some(secs(60)));
    world.run_for(Duration::from_micros(1));
    world.kill(1);
    let held = world.send(0, 1, 8, Some(secs(60)));
    world.run_for(Duration::from_millis(20));
    assert!(matches!(
        world.outcomes[&under_way],
        Outcome::Interrupted(Interruption::ConnectionLost | Interruption::NodeDied)
    ));
    assert!(matches!(world.outcomes[&held], Outcome::Handled(_) | Outcome::Interrupted(_)));
    let after = world.send(0, 1, 8, None);
    world.run_for(secs(1));
    assert!(matches!(world.outcomes[&after], Outcome::Handled(_)));
}

/// Two nodes; the second one owns shard 0. Returns the outcomes of what `play` did at the first.
fn pair(config: &RequestsConfig, play: impl FnOnce(&mut World)) -> World {
    let mut world = World::new(3, 2, 1, config);
    world.move_shard(0, 1);
    world.run_for(secs(1));
    play(&mut world);
    world
}

#[test]
fn requests_wait_for_a_suspect_are_sent_or_refused_as_set() {
    for (on_suspected, expected) in
        [(OnSuspected::Wait, None), (OnSuspected::Send, Some(true)), (OnSuspected::Refuse, Some(false))]
    {
        let world = pair(&RequestsConfig { on_suspected, ..config() }, |world| {
            world.input(0, member(1, Status::Suspect));
            world.send(0, 0, 8, None);
            world.run_for(secs(1));
        });
        let outcome = world.outcomes.get(&1).map(|outcome| matches!(outcome, Outcome::Handled(_)));
        assert_eq!(outcome, expected, "{on_suspected:?}");
    }
}

#[test]
fn a_sender_learns_the_epoch_of_the_owner_from_its_refusal() {
    for estimate in [1, 99] {
        let mut world = pair(&config(), |world| {
            let owner = Some((node_id(1), Epoch(estimate)));
            world.input(0, Input::Owner { group: GROUP, index: 0, owner });
            for _ in 0..3 {
                world.send(0, 0, 8, None);
            }
            // Before the first pause is over.
            world.run_for(world.delay_max * 5);
        });
        for id in 1..=3 {
            let outcome = world.outcomes.get(&id);
            assert!(matches!(outcome, Some(Outcome::Handled(_))), "estimate {estimate}: {outcome:?}");
        }
        world.run_for(secs(1));
        world.check(3);
    }
}

#[test]
fn the_bounds_of_waiting_requests_are_kept_exactly() {
    let config = RequestsConfig { held_max: 2, held_bytes_max: 100, ..config() };
    let world = pair(&config, |world| {
        world.input(0, Input::Owner { group: GROUP, index: 0, owner: None });
        for _ in 0..3 {
            world.send(0, 0, 8, None);
        }
    });
    assert_eq!(world.outcomes.get(&2), None);
    assert_eq!(world.outcomes[&3], Outcome::Refused(Refusal::HeldFull));
    let world = pair(&config, |world| {
        world.input(0, Input::Owner { group: GROUP, index: 0, owner: None });
        world.send(0, 0, 92, None);
        world.send(0, 0, 8, None);
        world.send(0, 0, 8, None);
    });
    assert_eq!(world.outcomes.get(&2), None, "100 bytes may wait");
    assert_eq!(world.outcomes[&3], Outcome::Refused(Refusal::HeldFull));
}

#[test]
fn a_request_waits_for_held_for_and_not_longer() {
    let config = RequestsConfig { held_for: secs(2), ..config() };
    let mut world = pair(&config, |world| {
        world.input(0, Input::Owner { group: GROUP, index: 0, owner: None });
        world.send(0, 0, 8, None);
        world.run_for(secs(2) - Duration::from_nanos(1));
    });
    assert_eq!(world.outcomes.get(&1), None);
    world.run_for(Duration::from_nanos(1));
    assert_eq!(world.outcomes[&1], Outcome::Refused(Refusal::HeldTooLong));
    world.check(3);
}

#[test]
fn a_full_window_refuses_and_a_response_opens_it() {
    let config = RequestsConfig { window: 2, ..config() };
    let mut world = pair(&config, |world| {
        world.send(0, 0, 8, None);
        world.send(0, 0, 8, None);
        world.send(0, 0, 8, None);
    });
    assert_eq!(world.outcomes.get(&2), None);
    assert_eq!(world.outcomes[&3], Outcome::Refused(Refusal::Full));
    world.run_for(secs(1));
    let fourth = world.send(0, 0, 8, None);
    world.run_for(secs(1));
    assert!(matches!(world.outcomes[&fourth], Outcome::Handled(_)));
    world.check(3);
}

#[test]
fn a_message_over_the_bound_is_refused_at_its_sender() {
    let config = RequestsConfig { message_bytes_max: 1_000, ..config() };
    let world = pair(&config, |world| {
        world.send(0, 0, 1_000, None);
        world.send(0, 0, 1_001, None);
        world.run_for(secs(1));
    });
    assert!(matches!(world.outcomes[&1], Outcome::Handled(_)));
    assert_eq!(world.outcomes[&2], Outcome::Refused(Refusal::TooLarge { bytes: 1_001, bytes_max: 1_000 }));
}

#[test]
fn a_deadline_counts_wherever_the_request_is() {
    let mut world = pair(&config(), |world| {
        world.input(0, Input::Owner { group: GROUP, index: 0, owner: None });
        world.send(0, 0, 8, Some(secs(1)));
        world.run_for(secs(1));
    });
    assert_eq!(world.outcomes[&1], Outcome::Refused(Refusal::Expired), "it never left");
    world.start_shard(0, 1);
    world.run_for(secs(1));
    world.nodes[1].running.remove(&0);
    world.delay_max = secs(10);
    let late = world.send(0, 0, 8, Some(secs(1)));
    world.run_for(secs(1));
    assert!(matches!(world.outcomes[&late], Outcome::TimedOut | Outcome::Refused(Refusal::Expired)));
}

/// A node whose only peer connects to it by the bytes that a test writes.
struct Served {
    requests: Requests,
    connection: ConnectionId,
}

impl Served {
    fn new(config: &RequestsConfig) -> Served {
        let mut requests = Requests::new(config.clone(), 5, node_id(0), Generation(1));
        requests.handle(Instant::ZERO, member(1, Status::Alive));
        let owner = Some((node_id(0), Epoch(7)));
        requests.handle(Instant::ZERO, Input::Owner { group: GROUP, index: 0, owner });
        let mut served = Served { requests, connection: ConnectionId(2) };
        served.requests.handle(Instant::ZERO, Input::Accepted { connection: served.connection, from: HOST });
        let mut bytes = PREFACE.to_vec();
        frame::encode(&mut bytes, &Frame::Hello { cluster: 5, from: node_id(1), generation: Generation(1) });
        served.read(bytes);
        served
    }

    fn read(&mut self, bytes: Vec<u8>) {
        let (connection, bytes) = (self.connection, bytes.into());
        self.requests.handle(Instant::ZERO, Input::Read { connection, bytes });
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, frame);
        self.read(bytes);
    }

    /// The other node lets the requests of this one in.
    fn open(&mut self) {
        self.requests.handle(Instant::ZERO, Input::Connected { connection: self.connection });
        self.frame(&Frame::Welcome { generation: Generation(1) });
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.requests.poll_output()).collect()
    }

    fn is_open(&self) -> bool {
        self.requests.connections.contains_key(&self.connection)
    }

    /// The responses among the bytes that were written.
    fn responses(&mut self) -> Vec<(u64, Response)> {
        let mut found = Vec::new();
        for output in self.outputs() {
            let Output::Write { bytes, .. } = output else { continue };
            let mut rest = &bytes[..];
            while let Some((one, taken)) = frame::next(rest).unwrap() {
                if let Frame::Response { number, response, .. } = frame::decode(one, node_id(1)).unwrap() {
                    found.push((number, response));
                }
                rest = &rest[taken..];
            }
        }
        found
    }
}

fn head(number: u64) -> RequestHead {
    let target = shard(0);
    RequestHead { number, target, round: 0, epoch: Epoch(0), message: MESSAGE, left_ms: None, trace: None }
}

#[test]
fn a_deadline_set_later_reaches_the_owner() {
    let mut served = Served::new(&config());
    served.frame(&Frame::Request { head: head(1), total: 3, part: b"abc" });
    served.frame(&Frame::Deadline { number: 1, left_ms: 20 });
    let deadline = Instant::from_millis(20);
    assert!(served.outputs().contains(&Output::Deadline { served: ServedId(0), deadline }));
    // One that arrives between two parts, and one that is over before the last part.
    for (left_ms, is_delivered) in [(20, true), (0, false)] {
        let mut served = Served::new(&config());
        served.frame(&Frame::Request { head: head(1), total: 3, part: b"ab" });
        served.frame(&Frame::Deadline { number: 1, left_ms });
        served.frame(&Frame::RequestPart { number: 1, part: b"c" });
        let found = served.outputs().into_iter().find_map(|output| {
            let Output::Deliver { deadline, .. } = output else { return None };
            Some(deadline)
        });
        assert_eq!(found, is_delivered.then_some(Some(deadline)));
    }
}

#[test]
fn a_trace_reaches_the_worker_and_one_without_ids_is_none() {
    let trace = TraceContext::new([9; 16], [2; 8], 1);
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, &Frame::Request { head: RequestHead { trace, ..head(1) }, total: 3, part: b"abc" });
    let at = bytes.windows(16).position(|window| window == [9; 16]).unwrap();
    for (ids, expected) in [([9; 16], trace), ([0; 16], None)] {
        bytes[at..at + 16].copy_from_slice(&ids);
        let mut served = Served::new(&config());
        served.read(bytes.clone());
        let found = served.outputs().into_iter().find_map(|output| {
            let Output::Deliver { trace, .. } = output else { return None };
            Some(trace)
        });
        assert_eq!(found, Some(expected), "{ids:?}");
    }
}

#[test]
fn the_owner_keeps_nothing_of_a_request_forsaken_half_way() {
    let mut served = Served::new(&config());
    served.frame(&Frame::Request { head: head(1), total: 3, part: b"ab" });
    served.frame(&Frame::Forsake { number: 1 });
    let connection = &served.requests.connections[&served.connection];
    assert!(connection.requests.is_empty());
    assert_eq!(connection.assembling_bytes, 0);
}

#[test]
fn a_deadline_travels_with_the_request_or_behind_it() {
    for is_written in [false, true] {
        let mut sender = sender();
        let mut left = Vec::new();
        if is_written {
            sender.open();
            left.extend(deadlines(&sender.outputs()));
        }
        let (now, deadline) = (Instant::from_millis(50), Instant::from_millis(70));
        sender.requests.handle(Instant::ZERO, Input::SetDeadline { id: RequestId(1), deadline });
        left.extend(deadlines(&sender.outputs()));
        sender.requests.handle(now, Input::Timeout);
        if !is_written {
            sender.open();
            left.extend(deadlines(&sender.outputs()));
        }
        assert_eq!(left, if is_written { vec![None, Some(70)] } else { vec![Some(20)] });
    }
}

#[test]
fn a_node_that_has_left_ends_all_its_requests() {
    let mut sender = sender();
    sender.open();
    let send = |id| Input::Send {
        id: RequestId(id),
        target: shard(1),
        message: MESSAGE,
        payload: Bytes::new(),
        deadline: None,
        trace: None,
    };
    sender.requests.handle(Instant::ZERO, send(2));
    sender.requests.handle(Instant::ZERO, Input::Leave);
    sender.requests.handle(Instant::ZERO, send(3));
    let mut ends = BTreeMap::new();
    for output in sender.outputs() {
        if let Output::Finish { id, outcome } = output {
            ends.insert(id.0, outcome);
        }
    }
    let refused = Outcome::Refused(Refusal::Leaving);
    let interrupted = Outcome::Interrupted(Interruption::NodeLeft);
    assert_eq!(ends, BTreeMap::from([(1, interrupted), (2, refused.clone()), (3, refused)]));
    assert!(sender.requests.pending.is_empty() && sender.requests.lanes.is_empty());
}

#[test]
fn a_message_over_the_receivers_bound_is_refused_alone() {
    let mut served = Served::new(&RequestsConfig { message_bytes_max: 1_000, ..config() });
    let part = [7; 600];
    served.frame(&Frame::Request { head: head(1), total: 1_800, part: &part });
    served.frame(&Frame::Request { head: head(2), total: 3, part: b"abc" });
    let refusal = Refusal::TooLarge { bytes: 1_800, bytes_max: 1_000 };
    let outputs = served.outputs();
    assert!(outputs.iter().any(|output| matches!(output, Output::Deliver { payload, .. } if **payload == *b"abc")));
    let text = refusal.to_string();
    assert!(text.contains("1800") && text.contains("1000"), "{text}");
    // Its parts are skipped to the end, and no further one is allowed.
    for _ in 0..2 {
        served.frame(&Frame::RequestPart { number: 1, part: &part });
        assert!(served.is_open());
    }
    served.frame(&Frame::RequestPart { number: 1, part: &part });
    assert!(!served.is_open());
    // The largest length that a frame can announce takes no memory.
    let mut served = Served::new(&config());
    served.frame(&Frame::Request { head: head(1), total: u32::MAX, part: &part });
    assert_eq!(
        served.responses().last().unwrap().1,
        Response::Refused(Refusal::TooLarge { bytes: u32::MAX, bytes_max: config().message_bytes_max as u32 })
    );
    served.frame(&Frame::Forsake { number: 1 });
    assert!(served.is_open());
    assert!(served.requests.connections[&served.connection].skipped.is_empty());
}

#[test]
fn a_peer_that_announces_too_large_messages_only_is_cut_off() {
    let mut served = Served::new(&RequestsConfig { message_bytes_max: 10, ..config() });
    for number in 1..=1_024 {
        served.frame(&Frame::Request { head: head(number), total: 11, part: b"a" });
    }
    assert!(served.is_open());
    served.frame(&Frame::Request { head: head(2_000), total: 11, part: b"a" });
    assert!(!served.is_open());
    assert_eq!(served.requests.counters().malformed, 1);
}

#[test]
fn a_sender_with_a_larger_bound_stops_and_goes_on() {
    let mut world = pair(&config(), |world| {
        world.nodes[1].requests.config.message_bytes_max = 100_000;
        let bytes = PART_BYTES_MAX * 20;
        world.send(0, 0, bytes, None);
        world.send(0, 0, 8, None);
        world.run_for(secs(1));
    });
    let bytes = (PART_BYTES_MAX * 20) as u32;
    assert_eq!(world.outcomes[&1], Outcome::Refused(Refusal::TooLarge { bytes, bytes_max: 100_000 }));
    assert!(matches!(world.outcomes[&2], Outcome::Handled(_)));
    assert!(world.nodes[1].requests.connections.values().all(|connection| connection.skipped.is_empty()));
    world.run_for(secs(30));
    world.check(3);
}

#[test]
fn requests_that_come_back_keep_the_bound_too() {
    let config = RequestsConfig { held_max: 3, ..config() };
    let mut world = pair(&config, |world| {
        for _ in 0..5 {
            world.send(0, 0, 8, None);
        }
        // The shard stops before they arrive.
        world.nodes[1].running.remove(&0);
        world.run_for(world.delay_max * 8);
    });
    let counters = world.nodes[0].requests.counters();
    assert_eq!(counters.held + counters.under_way, 3);
    for id in [4, 5] {
        assert_eq!(world.outcomes[&id], Outcome::Refused(Refusal::HeldFull), "the youngest is refused");
    }
    world.start_shard(0, 1);
    world.run_for(secs(2));
    world.check(3);
    assert!((1..=3).all(|id| matches!(world.outcomes[&id], Outcome::Handled(_))));
}

/// A node that has sent request 1 to its only peer. The test writes what the peer answers.
fn sender() -> Served {
    let mut requests = Requests::new(config(), 5, node_id(0), Generation(1));
    requests.handle(Instant::ZERO, member(1, Status::Alive));
    let owner = Some((node_id(1), Epoch(7)));
    requests.handle(Instant::ZERO, Input::Owner { group: GROUP, index: 0, owner });
    let payload: Bytes = vec![0; PART_BYTES_MAX * 2].into();
    let send =
        Input::Send { id: RequestId(1), target: shard(0), message: MESSAGE, payload, deadline: None, trace: None };
    requests.handle(Instant::ZERO, send);
    Served { requests, connection: ConnectionId(1) }
}

/// The milliseconds left that are written: of each request, and of each deadline.
fn deadlines(outputs: &[Output]) -> Vec<Option<u32>> {
    // A large payload is a piece of its own, behind the head of its frame.
    let pieces = outputs.iter().filter_map(|output| match output {
        Output::Write { bytes, .. } => Some(&bytes[..]),
        Output::Connect { .. }
        | Output::Close { .. }
        | Output::Deliver { .. }
        | Output::Deadline { .. }
        | Output::Withdraw { .. }
        | Output::Finish { .. } => None,
    });
    let bytes = pieces.collect::<Vec<_>>().concat();
    let (mut found, mut rest) = (Vec::new(), bytes.strip_prefix(&PREFACE).unwrap_or(&bytes));
    while let Some((one, taken)) = frame::next(rest).unwrap() {
        let frame = frame::decode(one, node_id(1)).unwrap();
        if let Frame::Request { head, .. } = &frame {
            found.push(head.left_ms);
        }
        if let Frame::Deadline { left_ms, .. } = frame {
            found.push(Some(left_ms));
        }
        rest = &rest[taken..];
    }
    found
}

#[test]
fn answers_to_no_request_and_second_answers_are_dropped() {
    let mut sender = sender();
    sender.open();
    let handled = Response::Handled { epoch: Epoch(7) };
    let unasked = Frame::Response { number: 99, response: handled.clone(), total: 2, part: b"no" };
    sender.frame(&unasked);
    sender.frame(&Frame::Response { number: 99, response: handled.clone(), total: 9, part: b"no" });
    sender.frame(&Frame::ResponsePart { number: 99, part: b"no" });
    for answer in [b"one", b"two"] {
        sender.frame(&Frame::Response { number: 1, response: handled.clone(), total: 3, part: answer });
    }
    let finished: Vec<Output> =
        sender.outputs().into_iter().filter(|output| matches!(output, Output::Finish { .. })).collect();
    let outcome = Outcome::Handled(b"one".to_vec().into());
    assert_eq!(finished, [Output::Finish { id: RequestId(1), outcome }]);
    assert!(sender.is_open());
    assert_eq!(sender.requests.counters().late, 2, "a response in parts is dropped without being counted");
}

#[test]
fn an_answer_over_the_bound_interrupts_its_request_alone() {
    let mut sender = sender();
    sender.open();
    let handled = Response::Handled { epoch: Epoch(7) };
    sender.frame(&Frame::Response { number: 1, response: handled, total: u32::MAX, part: b"x" });
    let outcome = Outcome::Interrupted(Interruption::AnswerTooLarge);
    assert!(sender.outputs().contains(&Output::Finish { id: RequestId(1), outcome }));
    sender.frame(&Frame::ResponsePart { number: 1, part: b"x" });
    assert!(sender.is_open());
}

#[test]
fn a_stream_that_stops_in_the_middle_ends_what_it_carried() {
    // At the owner: the request is not served, and nothing of it is kept.
    let mut served = Served::new(&config());
    served.frame(&Frame::Request { head: head(1), total: 9, part: b"abc" });
    let connection = served.connection;
    served.requests.handle(Instant::ZERO, Input::Ended { connection });
    assert!(served.outputs().iter().all(|output| !matches!(output, Output::Deliver { .. })));
    assert!(!served.is_open());
    // At the sender: its answer was half there.
    let mut sender = sender();
    sender.open();
    let handled = Response::Handled { epoch: Epoch(7) };
    sender.frame(&Frame::Response { number: 1, response: handled, total: 9, part: b"abc" });
    let connection = sender.connection;
    sender.requests.handle(Instant::ZERO, Input::Ended { connection });
    let outcome = Outcome::Interrupted(Interruption::ConnectionLost);
    assert!(sender.outputs().contains(&Output::Finish { id: RequestId(1), outcome }));
}

#[test]
fn nodes_that_never_agree_end_a_request_at_its_hop_limit() {
    let mut world = pair(&config(), |world| {
        world.nodes[1].running.remove(&0); // It owns the shard, and never runs it.
        world.send(0, 0, 8, None);
        world.run_for(secs(60));
    });
    assert_eq!(world.outcomes[&1], Outcome::Refused(Refusal::HopLimit));
    world.run_for(secs(1));
    world.check(3);
}

#[test]
fn what_waits_for_a_worker_of_a_member_that_dies_is_refused() {
    let mut requests = Requests::new(config(), 5, node_id(0), Generation(1));
    let target = Target::Worker { member: node_id(1), name: "counter".into() };
    let send = |id| Input::Send {
        id: RequestId(id),
        target: target.clone(),
        message: MESSAGE,
        payload: Bytes::new(),
        deadline: None,
        trace: None,
    };
    let refused = |id| Output::Finish { id: RequestId(id), outcome: Outcome::Refused(Refusal::NoMember) };
    requests.handle(Instant::ZERO, send(1));
    assert_eq!(requests.poll_output(), Some(refused(1)), "no such member");
    requests.handle(Instant::ZERO, member(1, Status::Suspect));
    requests.handle(Instant::ZERO, send(2));
    assert_eq!(requests.poll_output(), None, "it waits for the suspect");
    requests.handle(Instant::ZERO, member(1, Status::Dead));
    assert_eq!(requests.poll_output(), Some(refused(2)));
    assert!(requests.pending.is_empty() && requests.lanes.is_empty());
}

#[test]
fn an_unused_connection_is_closed_and_opened_again() {
    let config = RequestsConfig { idle_after: secs(5), ..config() };
    let mut world = pair(&config, |world| {
        world.send(0, 0, 8, None);
        world.run_for(secs(4));
    });
    assert_eq!(world.ends.len(), 2);
    world.run_for(secs(2));
    assert_eq!(world.ends.len(), 0);
    let again = world.send(0, 0, 8, None);
    world.run_for(secs(1));
    assert!(matches!(world.outcomes[&again], Outcome::Handled(_)));
    world.check(3);
}

#[test]
fn a_connection_is_a_members_from_its_own_host_alone() {
    for (from, is_taken) in [([127, 0, 0, 1], true), ([127, 0, 0, 2], false)] {
        let mut requests = Requests::new(config(), 5, node_id(0), Generation(1));
        requests.handle(Instant::ZERO, member(1, Status::Alive));
        let connection = ConnectionId(2);
        requests.handle(Instant::ZERO, Input::Accepted { connection, from: from.into() });
        let mut bytes = PREFACE.to_vec();
        frame::encode(&mut bytes, &Frame::Hello { cluster: 5, from: node_id(1), generation: Generation(1) });
        requests.handle(Instant::ZERO, Input::Read { connection, bytes: bytes.into() });
        let phase = requests.connections.get(&connection).map(|connection| connection.phase);
        assert_eq!(phase == Some(super::connection::Phase::Open), is_taken, "{from:?}: {phase:?}");
    }
}

#[test]
fn strangers_and_nonsense_end_their_connection_alone() {
    let mut requests = Requests::new(config(), 5, node_id(0), Generation(1));
    requests.handle(Instant::ZERO, member(1, Status::Alive));
    let mut random = Random::seeded(9);
    for number in 0..2_000_u64 {
        let connection = ConnectionId(number * 2);
        requests.handle(Instant::ZERO, Input::Accepted { connection, from: HOST });
        let bytes: Vec<u8> = match number % 4 {
            0 => [&PREFACE[..], &[255; 4]].concat(),
            1 => [&PREFACE[..], &[1, 0, 0, 0, 9]].concat(),
            // A greeting of no member, in another cluster.
            2 => [&PREFACE[..], &[22, 0, 0, 0, 0, 1, 6, 0, 0, 0], &[0; 16]].concat(),
            _ => (0..random.below(200)).map(|_| random.below(256) as u8).collect(),
        };
        requests.handle(Instant::ZERO, Input::Read { connection, bytes: bytes.into() });
    }
    requests.handle(Instant::from_millis(60_000), Input::Timeout);
    assert!(requests.connections.is_empty());
    assert_eq!(requests.serving.served_len(), 0);
    while let Some(output) = requests.poll_output() {
        assert!(!matches!(output, Output::Deliver { .. }), "{output:?}");
    }
}
