//! An engine that is driven by any sequence of inputs: nothing panics, one input makes few outputs,
//! the table keeps its bound, and no member dies without a silence or the word of another member.
#![no_main]

use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::Arbitrary;
use heartbeat_core::member::name_hash;
use heartbeat_core::wire::{self, Ack, Body, Echo, Header, Heartbeat, IndirectProbe, Observers, ProbeReport, Rows};
use heartbeat_core::{
    Config, Engine, Event, Generation, Identity, Incarnation, Input, Instant, Member, NodeId, Output, Profile, Status,
    StreamEvent, StreamId,
};

/// Outputs of one input, at most.
const OUTPUTS_MAX: usize = 400;

/// No member that was silent for less is dead for its silence: the timeout is 6 s.
const SILENCE_MIN: Duration = Duration::from_secs(4);

/// Members of the table, at most.
const MEMBERS_MAX: usize = 20;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Arbitrary, Debug)]
enum Step {
    /// A datagram of one of the names, from its address or from another.
    Datagram {
        from: u8,
        is_elsewhere: bool,
        message: Message,
        rows: Vec<Row>,
    },
    /// Bytes from the address of one of the names.
    Bytes {
        from: u8,
        bytes: Vec<u8>,
    },
    /// The admission of one of the names: the token that the engine gave it is returned.
    Join {
        from: u8,
        generation: u16,
    },
    Accept,
    Frame {
        stream: u8,
        from: u8,
        message: Message,
    },
    End {
        stream: u8,
    },
    Pass {
        millis: u16,
    },
    Interval {
        millis: u16,
    },
    Leave,
}

#[derive(Arbitrary, Debug)]
struct Row {
    about: u8,
    status: u8,
    generation: u64,
    returns: u32,
    refutations: u32,
    revision: u32,
    is_whole: bool,
}

#[derive(Arbitrary, Debug)]
struct Message {
    generation: u16,
    clock: u64,
    kind: u8,
    number: u32,
    stage: u64,
    flags: u8,
}

impl Message {
    fn body(&self) -> Body<'static> {
        let Message { number, stage, flags, .. } = *self;
        let stage = stage % (wire::STAGE_MAX + 1);
        let (target, generation) = (NodeId::of(NAMES[usize::from(flags) % 4]), Generation(u64::from(self.generation)));
        let incarnation = Incarnation { returns: u32::from(flags >> 6), refutations: u32::from(flags & 7) };
        let bit = |bit: u8| flags & 1 << bit != 0;
        match self.kind % 16 {
            0..=2 => Body::Heartbeat(Heartbeat {
                incarnation,
                stage: if bit(5) { stage } else { stage % 4_096 },
                interval: Duration::from_micros(u64::from(number % 10_000_000).max(1)),
                slept: stage,
                health: flags,
                asks: bit(0),
                observers: Observers::new([NodeId::of("me"), target]),
            }),
            3 => Body::Ack(Ack { stage, health: flags }),
            4 => Body::Probe { number },
            5 => Body::Echo(Echo { number, incarnation, is_observer: bit(0) }),
            6 => Body::IndirectProbe(IndirectProbe { number, target, generation, stage, gone: bit(1), death: bit(2) }),
            7 => Body::ProbeReport(ProbeReport {
                number,
                target,
                generation,
                stage,
                silence: Duration::from_micros(u64::from(number)),
                reached: bit(3),
                gone: bit(4),
                agrees: bit(5),
                health: 0,
            }),
            8 => Body::Release,
            9 => Body::Sync(Box::new([number; 64])),
            10 => Body::Rows(Rows { differing: stage, more: bit(0), welcome: bit(1), whole: bit(2) }),
            11 => Body::Gossip,
            12 => Body::Hello,
            13 => Body::Poll { number },
            14 => Body::Vote { number },
            _ => Body::Kept { parts: number, refused: bit(0) },
        }
    }
}

struct Driver {
    engine: Engine,
    now: Instant,
    streams: Vec<StreamId>,
    /// The token that the engine sent last.
    token: Option<u64>,
    /// When each name was last sent from.
    sent_at: [Instant; 4],
    /// Whether any member has said anything of another that may be a cause.
    has_cause: bool,
}

fn address(of: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2 + of % 4], 7100))
}

fn member(of: u8, generation: u64) -> Member {
    Member::new(Profile::new(NAMES[usize::from(of) % 4], address(of)), Generation(generation))
}

fn header(of: &Member, clock: u64) -> Header {
    Header { cluster: name_hash("fuzz") as u32, from: of.id, generation: of.generation, clock: clock % (1 << 52) }
}

impl Driver {
    fn new() -> Driver {
        let text = "[cluster]\nname = 'fuzz'\nnode = 'me'\nrole = 'worker'\nmode = 'random'\n\
                    listen = '10.0.0.1:7100'\nseeds = ['10.0.0.2:7100']\n[membership]\nmembers_max = 20";
        let config = Config::from_toml(text).expect("it is a config");
        let identity = Identity { generation: Generation(1_700_000_000_000), address: ([10, 0, 0, 1], 7100).into() };
        let engine = Engine::new(config, identity, 1, Instant::ZERO).expect("it is checked");
        Driver {
            engine,
            now: Instant::ZERO,
            streams: Vec::new(),
            token: None,
            sent_at: [Instant::ZERO; 4],
            has_cause: false,
        }
    }

    fn drain(&mut self) {
        let (mut buffer, mut outputs) = (Vec::new(), 0);
        while let Some(output) = self.engine.poll_output(&mut buffer) {
            outputs += 1;
            match output {
                Output::Transmit { .. } => {
                    assert!(buffer.len() <= wire::DATAGRAM_BYTES_MAX);
                    let sent = wire::decode(&buffer).expect("what is sent can be read");
                    if let Body::Challenge { token } = sent.body {
                        self.token = Some(token);
                    }
                }
                Output::Open { stream, .. } => self.streams.push(stream),
                Output::Shut { stream } => self.streams.retain(|open| *open != stream),
                Output::Event(Event::Died { node, .. }) => {
                    let sent_at = NAMES.iter().position(|name| **name == *node).map_or(self.now, |at| self.sent_at[at]);
                    let is_silent = self.now - sent_at >= SILENCE_MIN;
                    assert!(self.has_cause || is_silent, "{node} died at {:?} without a cause", self.now);
                }
                _ => {}
            }
        }
        assert!(outputs <= OUTPUTS_MAX, "{outputs} outputs of one input");
        assert!(self.engine.members().count() <= MEMBERS_MAX);
    }

    fn handle(&mut self, input: Input) {
        self.engine.handle(self.now, input);
        self.drain();
    }

    fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        for _ in 0..500 {
            let Some(due) = self.engine.poll_timeout().filter(|due| *due <= until) else { break };
            self.now = self.now.max(due);
            self.handle(Input::Timeout);
        }
        self.now = self.now.max(until);
    }

    /// A process that the engine does not know as a member shows no life of a member.
    fn note_sent(&mut self, of: &Member) {
        let is_it = |known: &Member| (known.id, known.generation) == (of.id, of.generation);
        if let Some(at) = NAMES.iter().position(|name| **name == *of.name)
            && self.engine.members().any(is_it)
        {
            self.sent_at[at] = self.now;
        }
    }

    fn join(&mut self, from: u8, generation: u64) {
        let me = member(from, 1_700_000_000_000 + generation);
        self.note_sent(&me);
        self.token = None;
        for token in [0, 1] {
            let token = if token == 0 { 0 } else { self.token.unwrap_or(0) };
            let mut bytes = Vec::new();
            wire::encode_join(&mut bytes, header(&me, 0), token, &me);
            self.handle(Input::datagrams([(address(from), &bytes[..])]));
        }
    }

    fn datagram(&mut self, from: u8, message: &Message, rows: &[Row]) -> Vec<u8> {
        let me = member(from, 1_700_000_000_000 + u64::from(message.generation));
        let mut bytes = Vec::new();
        wire::encode(&mut bytes, header(&me, message.clock), &message.body());
        let count_at = bytes.len() - 1;
        for row in rows.iter().take(8) {
            let status = [Status::Alive, Status::Suspect, Status::Dead, Status::Left][usize::from(row.status % 4)];
            let generation = if row.status & 16 == 0 { 1_700_000_000_000 + row.generation % 4 } else { row.generation };
            let mut about = member(row.about, generation % (wire::TIME_MAX + 1));
            if row.about & 64 != 0 {
                about = Member { id: NodeId::of("me"), ..about };
            }
            let part = |part: u32| part & Incarnation::PART_MAX;
            about.incarnation = Incarnation { returns: part(row.returns), refutations: part(row.refutations) };
            about.status = status;
            let profile = Profile { revision: row.revision & Profile::REVISION_MAX, ..(*about.profile).clone() };
            about.profile = profile.into();
            wire::push_rumour(&mut bytes, count_at, &about, row.is_whole);
        }
        self.note_sent(&me);
        self.has_cause |= !rows.is_empty() || matches!(message.kind % 16, 7 | 10);
        bytes
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Datagram { from, is_elsewhere, message, rows } => {
                let bytes = self.datagram(from, &message, &rows);
                let at = if is_elsewhere { SocketAddr::from(([192, 0, 2, 1], 9)) } else { address(from) };
                self.handle(Input::datagrams([(at, &bytes[..])]));
            }
            Step::Bytes { from, bytes } => {
                self.has_cause = true;
                self.handle(Input::datagrams([(address(from), &bytes[..bytes.len().min(1_500)])]));
            }
            Step::Join { from, generation } => self.join(from, u64::from(generation % 4)),
            Step::Accept => {
                self.handle(Input::Accepted);
                self.streams.push(self.engine.accepted());
            }
            Step::Frame { stream, from, message } => {
                let bytes = self.datagram(from, &message, &[]);
                self.stream(stream, from, StreamEvent::Frame(bytes));
            }
            Step::End { stream } => {
                self.has_cause = true;
                self.stream(stream, 0, StreamEvent::Refused);
            }
            Step::Pass { millis } => self.pass(Duration::from_millis(u64::from(millis))),
            Step::Interval { millis } => {
                self.handle(Input::SetInterval(Duration::from_millis(u64::from(millis))));
            }
            Step::Leave => self.handle(Input::Leave),
        }
    }

    fn stream(&mut self, stream: u8, from: u8, event: StreamEvent) {
        if let Some(&stream) = self.streams.get(usize::from(stream) % self.streams.len().max(1)) {
            self.handle(Input::Stream { stream, from: address(from), event });
        }
    }
}

libfuzzer_sys::fuzz_target!(|steps: Vec<Step>| {
    let mut driver = Driver::new();
    driver.drain();
    driver.pass(Duration::from_millis(2_500));
    driver.has_cause = false;
    for step in steps.into_iter().take(200) {
        driver.step(step);
    }
});
