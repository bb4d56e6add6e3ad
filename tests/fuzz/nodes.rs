//! A node that receives damaged datagrams and frames from a member of its cluster.
//!
//! The member is real: two engines join each other first, so that what its damaged messages say is
//! not refused as a stranger's would be.

use std::net::SocketAddr;
use std::time::Duration;

use heartbeat_core::wire::DATAGRAM_BYTES_MAX;
use heartbeat_core::{Config, Engine, Generation, Identity, Input, Instant, Output, Random, StreamEvent, StreamId};

use crate::{bounded, datagrams, fuzz, mutate};

/// Members that the node may know.
const MEMBERS_MAX: u32 = 20;

/// Bytes that one input and all its outputs may add. The node's tables are bounded by
/// [`MEMBERS_MAX`]; buffers grow by doubling.
const INPUT_BYTES_MAX: usize = 1 << 20;

/// Inputs after which a node starts anew: it has become unlike any that is alive.
const INPUTS_PER_NODE: u64 = 500;

fn address(name: &str) -> SocketAddr {
    format!("10.0.0.{}:7100", if name == "a" { 1 } else { 2 }).parse().unwrap()
}

fn engine(name: &str) -> Engine {
    let text = format!(
        "membership.members_max = {MEMBERS_MAX}\n[cluster]\nname = 'c'\nnode = '{name}'\nrole = 'worker'\n\
         mode = 'random'\nlisten = '{}'\nseeds = ['10.0.0.1:7100']",
        address(name)
    );
    let identity = Identity { generation: Generation(1), address: address(name) };
    Engine::new(Config::from_toml(&text).unwrap(), identity, 1, Instant::ZERO).unwrap()
}

/// Handles all outputs; returns the datagrams.
fn sent(engine: &mut Engine) -> Vec<(SocketAddr, Vec<u8>)> {
    let (mut buffer, mut sent) = (Vec::new(), Vec::new());
    while let Some(output) = engine.poll_output(&mut buffer) {
        if let Output::Transmit { to, .. } = output {
            sent.push((to, buffer.clone()));
        }
    }
    sent
}

/// The node `a`, some seconds after `b` has joined it, and datagrams that `b` has sent to it.
struct Node {
    engine: Engine,
    now: Instant,
    stream: StreamId,
    left: u64,
}

impl Node {
    fn new(samples: &mut Vec<Vec<u8>>) -> Node {
        let (mut a, mut b) = (engine("a"), engine("b"));
        let mut now = Instant::ZERO;
        for _ in 0..50 {
            now += Duration::from_millis(100);
            a.handle(now, Input::Timeout);
            b.handle(now, Input::Timeout);
            for _ in 0..4 {
                for (_, bytes) in sent(&mut a).into_iter().filter(|(to, _)| *to == address("b")) {
                    b.handle(now, Input::datagrams([(address("a"), bytes.as_slice())]));
                }
                for (_, bytes) in sent(&mut b).into_iter().filter(|(to, _)| *to == address("a")) {
                    a.handle(now, Input::datagrams([(address("b"), bytes.as_slice())]));
                    samples.push(bytes);
                }
            }
        }
        assert_eq!(a.members().count(), 2, "b has joined");
        a.handle(now, Input::Accepted);
        let stream = a.accepted();
        Node { engine: a, now, stream, left: INPUTS_PER_NODE }
    }

    /// Hands `bytes` to the node as a datagram, or as a frame of a stream.
    fn handle(&mut self, message: &Message) {
        self.now += message.pause;
        match message.way {
            Way::Datagram => {
                let datagram = (address("b"), message.bytes.as_slice());
                self.engine.handle(self.now, Input::datagrams([datagram]));
            }
            Way::Frame => self.on_stream(StreamEvent::Frame(message.bytes.clone())),
            Way::NewStream => {
                self.on_stream(StreamEvent::Ended);
                self.engine.handle(self.now, Input::Accepted);
                self.stream = self.engine.accepted();
                self.on_stream(StreamEvent::Frame(message.bytes.clone()));
            }
        }
        sent(&mut self.engine);
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= self.now) {
            self.engine.handle(due.max(self.now), Input::Timeout);
            sent(&mut self.engine);
        }
        assert!(self.engine.members().count() <= MEMBERS_MAX as usize, "the table is bounded");
    }

    fn on_stream(&mut self, event: StreamEvent) {
        self.engine.handle(self.now, Input::Stream { stream: self.stream, from: address("b"), event });
    }
}

/// How a message comes to the node.
#[derive(Clone, Copy, Debug)]
enum Way {
    Datagram,
    Frame,
    NewStream,
}

/// Bytes that come to the node a while after those before.
#[derive(Debug)]
struct Message {
    pause: Duration,
    way: Way,
    bytes: Vec<u8>,
}

fn message(random: &mut Random, ways: &[Way], samples: &[Vec<u8>]) -> Message {
    let pause = match random.below(50) {
        0 => Duration::from_secs(random.below(10)),
        _ => Duration::from_micros(random.below(20_000)),
    };
    let way = ways[mutate::index(random, ways.len())];
    Message { pause, way, bytes: mutate::bytes(random, samples, DATAGRAM_BYTES_MAX + 10) }
}

fn check(ways: &[Way]) {
    let mut samples = datagrams::samples(datagrams::header("b", Generation(1)));
    let mut node = Node::new(&mut samples);
    fuzz(
        |random| message(random, ways, &samples),
        |message| {
            if node.left == 0 {
                node = Node::new(&mut Vec::new());
            }
            node.left -= 1;
            bounded(INPUT_BYTES_MAX, || node.handle(message));
        },
    );
}

#[test]
fn a_node_survives_the_damaged_datagrams_of_a_member() {
    check(&[Way::Datagram]);
}

#[test]
fn a_node_survives_the_damaged_frames_of_a_member() {
    check(&[Way::Frame, Way::Frame, Way::Frame, Way::NewStream]);
}
