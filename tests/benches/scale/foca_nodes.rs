//! foca, a SWIM library without input and output of its own, in the same network: its nodes on our
//! event queue.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::num::NonZeroU32;
use std::time::Duration;

use foca::{Config, Foca, Member, PostcardCodec, State, Timer};
use heartbeat_core::Random;
use heartbeat_core::wire::HEADERS_BYTES;
use heartbeat_sim::event_queue::EventQueue;
use heartbeat_sim::{Fault, Network, NodeIndex};
use rand::SeedableRng;
use rand::rngs::Xoshiro128PlusPlus;

use crate::foca_engine::{Asked, Engine, Id};
use crate::played::{Gathered, Played, Shared};

/// How often we look who is suspect: foca does not tell.
const LOOK: Duration = Duration::from_millis(50);

fn id_of(place: NodeIndex) -> Id {
    Id { address: SocketAddrV4::new(Ipv4Addr::from(0x0a00_0001 + place as u32), 7_100), life: 0 }
}

fn place_of(id: Id) -> NodeIndex {
    (u32::from(*id.address.ip()) - 0x0a00_0001) as NodeIndex
}

struct Node {
    engine: Option<Engine>,
    paused: bool,
    backlog: Vec<Item>,
}

enum Item {
    /// The node knows all others.
    Begin(NodeIndex),
    Datagram(NodeIndex, Vec<u8>),
    Timer(NodeIndex, Timer<Id>),
}

impl Item {
    fn place(&self) -> NodeIndex {
        match self {
            Item::Begin(place) | Item::Datagram(place, _) | Item::Timer(place, _) => *place,
        }
    }
}

struct Nodes {
    network: Network,
    random: Random,
    queue: EventQueue<Item>,
    now: u64,
    nodes: Vec<Node>,
    told: Shared,
    sent: (u64, u64),
    looked_for: Vec<NodeIndex>,
}

/// A cluster of `nodes`, all of which know each other within the first second. `suspect_for`
/// replaces the time from suspicion to death of `new_lan`.
pub(crate) fn foca(seed: u64, nodes: usize, suspect_for: Option<Duration>) -> Gathered {
    let size = NonZeroU32::new(nodes as u32).unwrap();
    let mut config = Config::new_lan(size);
    if let Some(suspect_for) = suspect_for {
        config.suspect_to_down_after = suspect_for;
    }
    let mut random = Random::seeded(seed);
    let mut queue = EventQueue::default();
    let list = (0..nodes)
        .map(|place| {
            queue.put(random.duration_below(Duration::from_secs(1)).as_nanos() as u64, Item::Begin(place));
            let rng = Xoshiro128PlusPlus::seed_from_u64(random.next_u64());
            let engine = Foca::new(id_of(place), config.clone(), rng, PostcardCodec);
            Node { engine: Some(engine), paused: false, backlog: Vec::new() }
        })
        .collect();
    let told = Shared::default();
    let network = Network::default();
    let (now, sent, looked_for) = (0, (0, 0), Vec::new());
    let played = Nodes { network, random, queue, now, nodes: list, told: told.clone(), sent, looked_for };
    Gathered::new(Box::new(played), told, nodes)
}

impl Nodes {
    fn handle(&mut self, item: Item) {
        let place = item.place();
        let count = self.nodes.len();
        let node = &mut self.nodes[place];
        let Some(engine) = &mut node.engine else { return };
        if node.paused {
            node.backlog.push(item);
            return;
        }
        let mut asked = Asked::default();
        // What it does not take is its own affair, as with datagrams that are malformed.
        let _ = match item {
            Item::Begin(_) => {
                let others = (0..count).filter(|other| *other != place).map(|other| Member::alive(id_of(other)));
                engine.apply_many(others, false, &mut asked)
            }
            Item::Datagram(_, bytes) => engine.handle_data(&bytes, &mut asked),
            Item::Timer(_, timer) => engine.handle_timer(timer, &mut asked),
        };
        self.act(place, asked);
    }

    fn act(&mut self, from: NodeIndex, asked: Asked) {
        for (after, timer) in asked.timers {
            self.queue.put(self.now + after.as_nanos() as u64, Item::Timer(from, timer));
        }
        for (to, bytes) in asked.sent {
            let to = place_of(to);
            self.sent = (self.sent.0 + 1, self.sent.1 + (bytes.len() + HEADERS_BYTES) as u64);
            for delay in self.network.deliveries(from, to, self.now, &mut self.random).into_iter().flatten() {
                self.queue.put(self.now + delay.as_nanos() as u64, Item::Datagram(to, bytes.clone()));
            }
        }
        for whom in asked.down {
            // foca does not say which node concluded a death and which one learnt of it.
            self.told.borrow_mut().died(Duration::from_nanos(self.now), from, place_of(whom), false);
        }
    }

    fn look(&mut self) {
        let at = Duration::from_nanos(self.now);
        let mut told = self.told.borrow_mut();
        for (place, node) in self.nodes.iter().enumerate() {
            let Some(engine) = &node.engine else { continue };
            if self.looked_for.iter().all(|whom| told.has_suspected(place, *whom)) {
                continue;
            }
            for member in engine.iter_members().filter(|member| member.state() == State::Suspect) {
                told.suspected(at, place, place_of(*member.id()));
            }
        }
    }

    fn run_until(&mut self, end: u64) {
        while let Some((at, item)) = self.queue.pop(end) {
            self.now = at;
            self.handle(item);
        }
        self.now = end;
    }
}

impl Played for Nodes {
    fn name(&self) -> &'static str {
        "foca"
    }

    fn apply(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(place) | Fault::Unplug(place) => self.nodes[place].engine = None,
            Fault::Pause(place) => self.nodes[place].paused = true,
            Fault::Resume(place) => {
                self.nodes[place].paused = false;
                let backlog = std::mem::take(&mut self.nodes[place].backlog);
                backlog.into_iter().for_each(|item| self.handle(item));
            }
            Fault::Cut(from, to) => self.network.cut(from, to),
            Fault::Mend(from, to) => self.network.mend(from, to),
            Fault::LossyNode(place, loss) => drop(self.network.lossy.insert(place, loss)),
            Fault::Disturb(loss, duplication, reordering) => {
                (self.network.loss, self.network.duplication, self.network.reordering) =
                    (loss, duplication, reordering);
            }
            other => unreachable!("no story does {other:?}"),
        }
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration.as_nanos() as u64;
        while self.now < end {
            let step = if self.looked_for.is_empty() { end } else { end.min(self.now + LOOK.as_nanos() as u64) };
            self.run_until(step);
            if !self.looked_for.is_empty() {
                self.look();
            }
        }
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.now)
    }

    fn sent(&self) -> (u64, u64) {
        self.sent
    }

    fn missing(&self, observer: NodeIndex) -> usize {
        let members = self.nodes[observer].engine.iter().flat_map(|engine| engine.iter_membership_state());
        members.filter(|member| member.state() == State::Down).count()
    }

    fn look_for(&mut self, victims: &[NodeIndex]) {
        self.looked_for = victims.to_vec();
    }
}
