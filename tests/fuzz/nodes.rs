//! A node that receives damaged datagrams and frames from a member of its cluster.
//!
//! The member is real: two engines join each other first, so that what its damaged messages say is
//! not refused as a stranger's would be.

use std::net::SocketAddr;
use std::time::Duration;

use heartbeat_core::membership::StreamEvent;
use heartbeat_core::wire::DATAGRAM_BYTES_MAX;
use heartbeat_core::{Config, Engine, Generation, Identity, Instant, Output, Random, StreamId};

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
        if let Output::Transmit { to } = output {
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
            a.handle_timeout(now);
            b.handle_timeout(now);
            for _ in 0..4 {
                for (_, bytes) in sent(&mut a).into_iter().filter(|(to, _)| *to == address("b")) {
                    b.handle_datagrams(now, [(address("a"), bytes.as_slice())]);
                }
                for (_, bytes) in sent(&mut b).into_iter().filter(|(to, _)| *to == address("a")) {
                    a.handle_datagrams(now, [(address("b"), bytes.as_slice())]);
                    samples.push(bytes);
                }
            }
        }
        assert_eq!(a.members().count(), 2, "b has joined");
        let stream = a.handle_accepted(now);
        Node { engine: a, now, stream, left: INPUTS_PER_NODE }
    }

    /// Hands `bytes` to the node as a datagram, or as a frame of a stream.
    fn handle(&mut self, input: &Input) {
        self.now += input.pause;
        let from = address("b");
        match input.way {
            Way::Datagram => self.engine.handle_datagrams(self.now, [(from, input.bytes.as_slice())]),
            Way::Frame => {
                self.engine.handle_stream(self.now, self.stream, from, StreamEvent::Frame(&input.bytes));
            }
            Way::NewStream => {
                self.engine.handle_stream(self.now, self.stream, from, StreamEvent::Ended);
                self.stream = self.engine.handle_accepted(self.now);
                self.engine.handle_stream(self.now, self.stream, from, StreamEvent::Frame(&input.bytes));
            }
        }
        sent(&mut self.engine);
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= self.now) {
            self.engine.handle_timeout(due.max(self.now));
            sent(&mut self.engine);
        }
        assert!(self.engine.members().count() <= MEMBERS_MAX as usize, "the table is bounded");
    }
}

/// How an input comes to the node.
#[derive(Clone, Copy, Debug)]
enum Way {
    Datagram,
    Frame,
    NewStream,
}

/// Bytes that come to the node a while after those before.
#[derive(Debug)]
struct Input {
    pause: Duration,
    way: Way,
    bytes: Vec<u8>,
}

fn input(random: &mut Random, ways: &[Way], samples: &[Vec<u8>]) -> Input {
    let pause = match random.below(50) {
        0 => Duration::from_secs(random.below(10)),
        _ => Duration::from_micros(random.below(20_000)),
    };
    let way = ways[mutate::index(random, ways.len())];
    Input { pause, way, bytes: mutate::bytes(random, samples, DATAGRAM_BYTES_MAX + 10) }
}

fn check(ways: &[Way]) {
    let mut samples = datagrams::samples(datagrams::header("b", Generation(1)));
    let mut node = Node::new(&mut samples);
    fuzz(
        |random| input(random, ways, &samples),
        |input| {
            if node.left == 0 {
                node = Node::new(&mut Vec::new());
            }
            node.left -= 1;
            bounded(INPUT_BYTES_MAX, || node.handle(input));
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
