//! Datagrams and frames that are well-formed and hold extreme numbers, from members and from
//! strangers, sent to an engine that does not expect them. Nothing panics, one input makes few
//! outputs, and the state stays within bounds. Overflow is checked in these builds, and in the
//! gate's build of release code.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use heartbeat_core::wire::{
    Ack, Body, EPOCH_MAX, Echo, Heartbeat, IndirectProbe, Observers, Part, ProbeReport, Rows, SEQUENCE_MAX, STAGE_MAX,
    TIME_MAX, encode, encode_join, push_rumour,
};
use heartbeat_core::{
    Config, Engine, Epoch, Generation, Incarnation, Input, Instant, Member, NodeId, Output, Profile, Random, Role,
    ShardGroup, Status, StreamEvent, StreamId,
};
use heartbeat_sim::{SHARDS, Shape, World};

use crate::{header, member};

/// Outputs of one input at most: what a death means for eight shards, a page of rows for each of a
/// few, and the news.
const OUTPUTS_MAX: usize = 400;

/// Members of a table at most, here.
const MEMBERS_MAX: u32 = 40;

/// The length of an engine's state in words at most, with tables of [`MEMBERS_MAX`].
const STATE_MAX: usize = 8 << 20;

struct Driver {
    random: Random,
    engine: Engine,
    now: Instant,
    /// Members as they were; their generations are known.
    members: Vec<Member>,
    streams: Vec<StreamId>,
}

impl Driver {
    fn new(seed: u64) -> Driver {
        let mut config = Config::default();
        config.membership.members_max = MEMBERS_MAX;
        if seed.is_multiple_of(3) {
            config.ownership.quorum = heartbeat_core::config::QuorumRule::Majority;
        }
        let mut world = World::of(seed, Shape::decentralised(4), config);
        world.run(Duration::from_secs(5));
        let engine = world.engine(0).unwrap().clone();
        let (now, members) = (world.clock_of(0), engine.members().cloned().collect());
        Driver { random: Random::seeded(seed ^ 0xe7), engine, now, members, streams: Vec::new() }
    }

    /// A number at or near one of the ends, or any, up to `most`.
    fn number(&mut self, most: u64) -> u64 {
        let near = self.random.below(3);
        match self.random.below(8) {
            0 => near,
            1 => most.saturating_sub(near),
            2 => (1 << 31) - 1 - near,
            3 => (1 << 32) - near.max(1),
            4 => 1 << self.random.below(64),
            5 => self.random.next_u64(),
            6 => STAGE_MAX - near,
            _ => self.random.below(100_000),
        }
        .min(most)
    }

    fn small(&mut self, most: u32) -> u32 {
        self.number(u64::from(most)) as u32
    }

    fn incarnation(&mut self) -> Incarnation {
        Incarnation { returns: self.small(Incarnation::PART_MAX), refutations: self.small(Incarnation::PART_MAX) }
    }

    fn generation(&mut self, of: &Member) -> Generation {
        let beside = self.random.below(3);
        match self.random.below(6) {
            0 => Generation(self.number(TIME_MAX)),
            1 => Generation((of.generation.0 + beside).saturating_sub(1)),
            _ => of.generation,
        }
    }

    fn one(&mut self) -> Member {
        let ghost = self.random.below(200);
        match self.random.below(3) {
            0 => member(&format!("ghost-{ghost}"), Generation(ghost), SocketAddr::from(([192, 0, 2, 1], 9))),
            _ => self.members[self.random.below(self.members.len() as u64) as usize].clone(),
        }
    }

    /// One of them as it never was.
    fn rumour(&mut self) -> Member {
        let mut told = self.one();
        let status = [Status::Alive, Status::Suspect, Status::Dead, Status::Left][self.random.below(4) as usize];
        told.generation = self.generation(&told);
        (told.incarnation, told.status) = (self.incarnation(), status);
        let mut profile = Profile { revision: self.small(Profile::REVISION_MAX), ..(*told.profile).clone() };
        match self.random.below(6) {
            0 => profile.role = Role::Monitor,
            1 => drop(profile.metadata.insert("weight".into(), self.small(1_000).to_string())),
            2 => profile.groups = vec![ShardGroup::new(self.number(u64::MAX), self.small(65_535) + 1)],
            3 => profile.address = SocketAddr::from(([10, 0, 0, 3], 7100)),
            _ => {}
        }
        Member { profile: profile.into(), ..told }
    }

    fn heartbeat(&mut self) -> Heartbeat {
        let interval = Duration::from_micros(self.number(3_600_000_000).max(1));
        let observers: Vec<NodeId> = (0..self.random.below(4)).map(|_| self.one().id).collect();
        Heartbeat {
            incarnation: self.incarnation(),
            stage: self.number(STAGE_MAX),
            interval,
            slept: self.number(STAGE_MAX),
            health: self.random.next_u64() as u8,
            asks: self.random.chance(0.5),
            observers: Observers::new(observers),
        }
    }

    fn evidence(&mut self) -> ProbeReport {
        let target = self.one();
        ProbeReport {
            number: self.small(u32::MAX),
            target: target.id,
            generation: self.generation(&target),
            stage: self.number(STAGE_MAX),
            silence: Duration::from_micros(self.number(u64::from(u32::MAX))),
            reached: self.random.chance(0.5),
            gone: self.random.chance(0.5),
            agrees: self.random.chance(0.5),
            health: self.random.next_u64() as u8,
        }
    }

    fn part(&mut self) -> Part<'static> {
        let total = self.small(2_000);
        let (offset, length) = if total <= 1_024 { (0, total) } else { (1_024, total - 1_024) };
        Part {
            number: self.small(u32::MAX),
            group: heartbeat_core::member::name_hash(heartbeat_sim::GROUP),
            index: self.small(SHARDS - 1),
            epoch: Epoch(self.number(EPOCH_MAX)),
            sequence: self.number(SEQUENCE_MAX),
            version: self.small(u32::MAX),
            total,
            offset,
            bytes: &[7; 1_024][..length as usize],
        }
    }

    fn body(&mut self) -> Body<'static> {
        let number = self.small(u32::MAX);
        match self.random.below(18) {
            0..=2 => Body::Heartbeat(self.heartbeat()),
            3 => Body::Ack(Ack { stage: self.number(STAGE_MAX), health: 255 }),
            4 => Body::Probe { number },
            5 => Body::Echo(Echo { number, incarnation: self.incarnation(), is_observer: self.random.chance(0.5) }),
            6 => {
                let target = self.one();
                let (gone, death) = (self.random.chance(0.5), self.random.chance(0.5));
                let (generation, stage) = (self.generation(&target), self.number(STAGE_MAX));
                Body::IndirectProbe(IndirectProbe { number, target: target.id, generation, stage, gone, death })
            }
            7 => Body::ProbeReport(self.evidence()),
            8 => Body::Release,
            9 => Body::Challenge { token: self.number(u64::MAX) },
            10 => Body::Introduce,
            11 => Body::Sync(Box::new(std::array::from_fn(|_| number))),
            12 => {
                let differing = self.number(u64::MAX);
                let (more, welcome, whole) =
                    (self.random.chance(0.5), self.random.chance(0.5), self.random.chance(0.5));
                Body::Rows(Rows { differing, more, welcome, whole })
            }
            13 => Body::Poll { number },
            14 => Body::Vote { number },
            15 => {
                let indexes: Vec<u32> = (0..self.random.below(128)).map(|_| self.small(65_535)).collect();
                let group = heartbeat_core::member::name_hash(heartbeat_sim::GROUP);
                Body::Ask { number: number.max(1), group, indexes: Cow::Owned(indexes) }
            }
            16 => Body::Part(self.part()),
            _ => Body::Kept { parts: number, refused: self.random.chance(0.5) },
        }
    }

    fn datagram(&mut self) -> (SocketAddr, Vec<u8>) {
        let mut sender = self.one();
        sender.generation = self.generation(&sender);
        let mut header = header(&sender);
        header.clock = self.number(TIME_MAX);
        let mut bytes = Vec::new();
        if self.random.chance(0.05) {
            encode_join(&mut bytes, header, self.number(u64::MAX), &sender);
            return (sender.address, bytes);
        }
        let body = self.body();
        encode(&mut bytes, header, &body);
        let count_at = bytes.len() - 1;
        for _ in 0..self.random.below(6) {
            let (told, whole) = (self.rumour(), self.random.chance(0.6));
            push_rumour(&mut bytes, count_at, &told, whole);
        }
        (sender.address, bytes)
    }

    /// Works off what one input asks for.
    fn drain(&mut self) {
        let (mut buffer, mut outputs) = (Vec::new(), 0);
        while let Some(output) = self.engine.poll_output(&mut buffer) {
            outputs += 1;
            match output {
                Output::Open { stream, .. } => self.streams.push(stream),
                Output::Shut { stream } => self.streams.retain(|open| *open != stream),
                _ => {}
            }
        }
        assert!(outputs <= OUTPUTS_MAX, "{outputs} outputs of one input");
    }

    fn step(&mut self) {
        let (from, bytes) = self.datagram();
        match self.random.below(10) {
            0 => {
                self.engine.handle(self.now, Input::Accepted);
                self.streams.push(self.engine.accepted());
            }
            1 | 2 if !self.streams.is_empty() => {
                let stream = self.streams[self.random.below(self.streams.len() as u64) as usize];
                let event = match self.random.below(4) {
                    0 => StreamEvent::Opened,
                    1 | 2 => StreamEvent::Frame(bytes),
                    _ => StreamEvent::Ended,
                };
                self.engine.handle(self.now, Input::Stream { stream, from, event });
            }
            _ => self.engine.handle(self.now, Input::datagrams([(from, &bytes[..])])),
        }
        self.drain();
        self.now += self.random.duration_below(Duration::from_millis(60));
        for _ in 0..64 {
            let Some(due) = self.engine.poll_timeout().filter(|due| *due <= self.now) else { break };
            self.engine.handle(due, Input::Timeout);
            self.drain();
        }
    }
}

#[test]
fn no_number_panics_and_what_it_costs_is_bounded() {
    for seed in 0..60 {
        let mut driver = Driver::new(seed);
        for step in 0..1_500 {
            driver.step();
            // A superseded engine stays silent for good: a new one takes its place.
            if step % 500 == 499 {
                let state = format!("{:?}", driver.engine).len();
                assert!(state < STATE_MAX, "seed {seed}: {state} bytes of state");
                assert!(driver.engine.members().count() <= MEMBERS_MAX as usize, "seed {seed}");
                let random = driver.random;
                driver = Driver { random, ..Driver::new(seed) };
            }
        }
    }
}
