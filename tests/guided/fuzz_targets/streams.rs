//! Two engines over connections that damage, cut and insert bytes: lifelines, tables of several
//! pages, and snapshots of shards. Nothing panics, one input makes few outputs, tables and open
//! streams keep their bounds, and what an engine sends can be read.
#![no_main]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::Arbitrary;
use heartbeat_core::member::{Epoch, name_hash};
use heartbeat_core::wire::{self, Body, Header, Part, Rows};
use heartbeat_core::{
    Config, Engine, Generation, Identity, Input, Instant, Member, NodeId, Output, Profile, StreamEvent, StreamId,
};

/// Outputs of one input, at most.
const OUTPUTS_MAX: usize = 400;

/// Members of a table, at most: more than two pages of rows.
const MEMBERS_MAX: usize = 64;

/// Open streams of one engine, at most.
const STREAMS_MAX: usize = 200;

/// Frames and datagrams of one case, at most.
const DELIVERIES_MAX: u32 = 4_000;

const NAMES: [&str; 2] = ["a", "b"];
const GENERATION: Generation = Generation(1_700_000_000_000);

#[derive(Arbitrary, Debug)]
enum Step {
    /// Of the next bytes to this side this one is another.
    Damage {
        to: bool,
        at: u16,
        by: u8,
    },
    /// The next bytes to this side have these in front of them.
    Insert {
        to: bool,
        bytes: Vec<u8>,
    },
    /// The next bytes to this side end here, and the connection with them.
    Cut {
        to: bool,
        after: u16,
    },
    /// Bytes come in pieces of this length.
    Pieces {
        length: u8,
    },
    /// A whole frame on one of the streams, as if the other side had sent it.
    Frame {
        to: bool,
        stream: u8,
        message: Message,
    },
    /// A connection of the other side, with this as its first frame.
    Connect {
        to: bool,
        message: Message,
    },
    End {
        to: bool,
        stream: u8,
    },
    /// The next datagrams to this side are lost.
    Lose {
        to: bool,
        count: u8,
    },
    Pass {
        millis: u16,
    },
    Leave {
        place: bool,
    },
}

#[derive(Arbitrary, Debug)]
struct Message {
    kind: u8,
    number: u32,
    index: u8,
    epoch: u64,
    sequence: u64,
    total: u16,
    offset: u16,
    bytes: Vec<u8>,
    flags: u8,
}

impl Message {
    fn body(&self) -> Body<'_> {
        let Message { kind, number, index, epoch, sequence, total, offset, ref bytes, flags } = *self;
        let bit = |bit: u8| flags & 1 << bit != 0;
        match kind % 8 {
            0..=2 => Body::Part(Part {
                number: if bit(0) { number } else { 0 },
                group: name_hash("orders"),
                index: u32::from(index),
                epoch: Epoch(epoch & wire::EPOCH_MAX),
                sequence: sequence & wire::SEQUENCE_MAX,
                version: 1,
                total: if bit(1) { number } else { u32::from(total) },
                offset: u32::from(offset),
                bytes: &bytes[..bytes.len().min(wire::PART_BYTES_MAX)],
            }),
            3 => Body::Kept { parts: number, refused: bit(0) },
            4 => Body::Sync(Box::new([u32::from(total); 64])),
            5 => Body::Rows(Rows { differing: sequence, more: bit(0), welcome: bit(1), whole: bit(2) }),
            6 => Body::Hello,
            _ => Body::Probe { number },
        }
    }
}

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct End {
    place: usize,
    stream: StreamId,
}

/// What is done to the next bytes to a side.
#[derive(Clone, Default)]
struct Faults {
    damage: Option<(u16, u8)>,
    insert: Vec<u8>,
    cut: Option<u16>,
    lost: u8,
}

#[derive(Clone)]
enum Delivery {
    Datagram { to: usize, bytes: Vec<u8> },
    Stream { end: End, bytes: Vec<u8> },
    Event { end: End, event: StreamEvent },
    Open { end: End, to: SocketAddr },
}

#[derive(Clone)]
struct Pair {
    engines: [Engine; 2],
    now: Instant,
    /// The other end of each open connection, if it is the other engine's.
    ends: BTreeMap<End, Option<End>>,
    /// What has come to an end and is no whole frame yet.
    unread: BTreeMap<End, Vec<u8>>,
    under_way: VecDeque<Delivery>,
    faults: [Faults; 2],
    piece: usize,
    deliveries: u32,
    /// The token that engine `a` sent last to a process that is not the other engine.
    token: Option<u64>,
}

fn address(place: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + place as u8], 7100))
}

fn header(id: NodeId) -> Header {
    Header { cluster: name_hash("fuzz") as u32, from: id, generation: GENERATION, clock: 0 }
}

fn engine(place: usize) -> Engine {
    let text = format!(
        "[cluster]\nname = 'fuzz'\nnode = '{}'\nrole = 'worker'\nmode = 'random'\nlisten = '{}'\n\
         seeds = ['10.0.0.1:7100']\n[membership]\nmembers_max = {MEMBERS_MAX}",
        NAMES[place],
        address(place)
    );
    let config = Config::from_toml(&text).expect("it is a config");
    let identity = Identity { generation: GENERATION, address: address(place) };
    Engine::new(config, identity, 1 + place as u64, Instant::ZERO).expect("it is checked")
}

impl Pair {
    /// Engine `a` knows forty others when `b` joins, so that its table takes several pages.
    fn new() -> Pair {
        let mut pair = Pair {
            engines: [engine(0), engine(1)],
            now: Instant::ZERO,
            ends: BTreeMap::new(),
            unread: BTreeMap::new(),
            under_way: VecDeque::new(),
            faults: Default::default(),
            piece: 0,
            deliveries: 0,
            token: None,
        };
        pair.faults[1].lost = u8::MAX;
        pair.pass(Duration::from_millis(2_500));
        for number in 0..40 {
            let from = SocketAddr::from(([10, 0, 1, number], 7100));
            let ghost = Member::new(Profile::new(format!("ghost-{number}"), from), GENERATION);
            for _ in 0..2 {
                let mut bytes = Vec::new();
                wire::encode_join(&mut bytes, header(ghost.id), pair.token.take().unwrap_or(0), &ghost);
                pair.handle(0, Input::datagrams([(from, &bytes[..])]));
            }
        }
        pair.faults[1].lost = 0;
        pair.settle();
        pair
    }

    fn handle(&mut self, place: usize, input: Input) {
        self.engines[place].handle(self.now, input);
        let (mut buffer, mut outputs) = (Vec::new(), 0);
        while let Some(output) = self.engines[place].poll_output(&mut buffer) {
            outputs += 1;
            self.execute(place, output, &buffer);
        }
        assert!(outputs <= OUTPUTS_MAX, "{outputs} outputs of one input");
        assert!(self.engines[place].members().count() <= MEMBERS_MAX);
        let open = self.ends.keys().filter(|end| end.place == place).count();
        assert!(open <= STREAMS_MAX, "{open} streams are open");
    }

    fn execute(&mut self, place: usize, output: Output, buffer: &[u8]) {
        match output {
            Output::Transmit { to, .. } => {
                assert!(buffer.len() <= wire::DATAGRAM_BYTES_MAX);
                let sent = wire::decode(buffer).expect("what is sent can be read");
                let other = 1 - place;
                if to == address(other) {
                    if self.faults[other].lost > 0 {
                        self.faults[other].lost -= 1;
                    } else {
                        self.under_way.push_back(Delivery::Datagram { to: other, bytes: buffer.to_vec() });
                    }
                } else if let Body::Challenge { token } = sent.body {
                    self.token = Some(token);
                }
            }
            Output::Open { stream, to } => {
                self.ends.insert(End { place, stream }, None);
                self.under_way.push_back(Delivery::Open { end: End { place, stream }, to });
            }
            Output::Frame { stream } => {
                wire::decode(buffer).expect("what is sent can be read");
                if let Some(Some(end)) = self.ends.get(&End { place, stream }).copied() {
                    let length = u16::try_from(buffer.len()).expect("a frame is short").to_be_bytes();
                    self.send(end, &[&length, buffer].concat());
                }
            }
            Output::Shut { stream } => {
                if let Some(Some(end)) = self.ends.remove(&End { place, stream }) {
                    self.under_way.push_back(Delivery::Event { end, event: StreamEvent::Ended });
                }
            }
            _ => {}
        }
    }

    /// Sends bytes to an end, with the faults that are due.
    fn send(&mut self, end: End, bytes: &[u8]) {
        let faults = &mut self.faults[end.place];
        let mut bytes = [&std::mem::take(&mut faults.insert), bytes].concat();
        if let Some((at, by)) = faults.damage.take() {
            let at = usize::from(at) % bytes.len();
            bytes[at] ^= by;
        }
        let cut = faults.cut.take();
        bytes.truncate(cut.map_or(usize::MAX, usize::from));
        let piece = if self.piece == 0 { bytes.len().max(1) } else { self.piece };
        for piece in bytes.chunks(piece) {
            self.under_way.push_back(Delivery::Stream { end, bytes: piece.to_vec() });
        }
        if cut.is_some() {
            self.end(end);
        }
    }

    /// Ends a connection at both ends.
    fn end(&mut self, end: End) {
        let other = self.ends.get(&end).copied().flatten();
        for end in [Some(end), other].into_iter().flatten() {
            self.under_way.push_back(Delivery::Event { end, event: StreamEvent::Ended });
        }
    }

    /// Delivers all that is under way.
    fn settle(&mut self) {
        while let Some(delivery) = self.under_way.pop_front() {
            self.deliveries += 1;
            if self.deliveries > DELIVERIES_MAX {
                self.under_way.clear();
                return;
            }
            match delivery {
                Delivery::Datagram { to, bytes } => {
                    self.handle(to, Input::datagrams([(address(1 - to), &bytes[..])]));
                }
                Delivery::Stream { end, bytes } => self.read(end, &bytes),
                Delivery::Event { end, event } => {
                    if self.ends.remove(&end).is_some() {
                        self.report(end, event);
                    }
                }
                Delivery::Open { end, to } if to == address(1 - end.place) => {
                    if self.ends.contains_key(&end) {
                        self.connect(end);
                    }
                }
                Delivery::Open { end, .. } => {
                    self.under_way.push_back(Delivery::Event { end, event: StreamEvent::Refused });
                }
            }
        }
    }

    fn connect(&mut self, end: End) {
        let other = self.accept(1 - end.place);
        self.ends.insert(other, Some(end));
        self.ends.insert(end, Some(other));
        self.report(end, StreamEvent::Opened);
    }

    /// Lets an engine accept a connection.
    fn accept(&mut self, place: usize) -> End {
        self.engines[place].handle(self.now, Input::Accepted);
        let end = End { place, stream: self.engines[place].accepted() };
        self.ends.insert(end, None);
        self.handle(place, Input::Timeout);
        end
    }

    fn report(&mut self, end: End, event: StreamEvent) {
        self.handle(end.place, Input::Stream { stream: end.stream, from: address(1 - end.place), event });
    }

    /// Takes bytes from a connection, and hands on the frames that are whole. As the driver of
    /// streams does, it ends a connection with a frame that is too long.
    fn read(&mut self, end: End, bytes: &[u8]) {
        let mut unread = self.unread.remove(&end).unwrap_or_default();
        unread.extend_from_slice(bytes);
        while let Some((length, rest)) = unread.split_first_chunk::<2>() {
            let length = usize::from(u16::from_be_bytes(*length));
            if length > wire::DATAGRAM_BYTES_MAX {
                return self.end(end);
            }
            if rest.len() < length {
                break;
            }
            let frame = rest[..length].to_vec();
            unread.drain(..2 + length);
            if self.ends.contains_key(&end) {
                self.report(end, StreamEvent::Frame(frame));
            }
        }
        self.unread.insert(end, unread);
    }

    fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        for _ in 0..500 {
            self.settle();
            let due = self.engines.iter().filter_map(Engine::poll_timeout).min();
            let Some(due) = due.filter(|due| *due <= until) else { break };
            self.now = self.now.max(due);
            (0..2).for_each(|place| self.handle(place, Input::Timeout));
        }
        self.now = self.now.max(until);
        self.settle();
    }

    fn stream(&self, place: usize, stream: u8) -> Option<End> {
        let ends: Vec<End> = self.ends.keys().filter(|end| end.place == place).copied().collect();
        ends.get(usize::from(stream) % ends.len().max(1)).copied()
    }

    /// Hands a frame to one end, as if the other engine had sent it.
    fn frame(&mut self, end: End, message: &Message) {
        let mut bytes = Vec::new();
        wire::encode(&mut bytes, header(NodeId::of(NAMES[1 - end.place])), &message.body());
        let length = u16::try_from(bytes.len()).expect("a frame is short").to_be_bytes();
        self.read(end, &[&length, &bytes[..]].concat());
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Damage { to, at, by } => self.faults[usize::from(to)].damage = Some((at, by)),
            Step::Insert { to, bytes } => self.faults[usize::from(to)].insert = bytes,
            Step::Cut { to, after } => self.faults[usize::from(to)].cut = Some(after),
            Step::Pieces { length } => self.piece = usize::from(length),
            Step::Frame { to, stream, message } => {
                if let Some(end) = self.stream(usize::from(to), stream) {
                    self.frame(end, &message);
                }
            }
            Step::Connect { to, message } => {
                let end = self.accept(usize::from(to));
                if self.ends.contains_key(&end) {
                    self.frame(end, &message);
                }
            }
            Step::End { to, stream } => {
                if let Some(end) = self.stream(usize::from(to), stream) {
                    self.end(end);
                }
            }
            Step::Lose { to, count } => self.faults[usize::from(to)].lost = count,
            Step::Pass { millis } => self.pass(Duration::from_millis(u64::from(millis))),
            Step::Leave { place } => self.handle(usize::from(place), Input::Leave),
        }
        self.settle();
    }
}

/// The pair with which each case begins: making it takes longer than most cases.
static PAIR: LazyLock<Pair> = LazyLock::new(Pair::new);

libfuzzer_sys::fuzz_target!(|steps: Vec<Step>| {
    let mut pair = PAIR.clone();
    for step in steps.into_iter().take(100) {
        pair.step(step);
    }
});
