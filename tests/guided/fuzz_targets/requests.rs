//! Two nodes exchange requests over a connection that damages bytes. Nothing panics, each request
//! ends once, and the node that receives damaged bytes closes the connection or goes on.
#![no_main]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use arbitrary::Arbitrary;
use heartbeat_core::requests::{
    Bytes, ConnectionId, Input, MessageType, Outcome, Output, Refusal, RequestId, Requests, RequestsConfig, Target,
};
use heartbeat_core::{Epoch, Generation, Instant, NodeId, Status};

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const MESSAGE: MessageType = MessageType { name_hash: 1, version: 1 };
const GROUP: u64 = 77;

/// Connections of one case, at most.
const CONNECTIONS_MAX: u64 = 8;

#[derive(Arbitrary, Debug)]
enum Step {
    Send {
        length: u16,
        deadline_ms: Option<u16>,
    },
    Forsake {
        request: u8,
    },
    Pass {
        millis: u16,
    },
    /// The next bytes of the client have these in front of them.
    Insert {
        bytes: Vec<u8>,
    },
    /// Of the next bytes of this side this one is another.
    Damage {
        is_client: bool,
        at: u16,
        by: u8,
    },
    /// The next bytes come in pieces of this length.
    Cut {
        length: u8,
    },
}

/// What is done to the next bytes.
#[derive(Default)]
struct Line {
    insert: Vec<u8>,
    damage: [Option<(u16, u8)>; 2],
    piece: usize,
}

struct Pair {
    now: Instant,
    /// The client, which connects, and the server.
    nodes: [Requests; 2],
    /// The connection, as each of them numbers it.
    open: Option<[ConnectionId; 2]>,
    accepted: u64,
    line: Line,
    waiting: BTreeSet<RequestId>,
    sent: u64,
}

fn id(place: usize) -> NodeId {
    NodeId::of(["client", "server"][place])
}

impl Pair {
    fn new() -> Pair {
        let node = |place| Requests::new(RequestsConfig::default(), 7, id(place), Generation(1));
        let mut pair = Pair {
            now: Instant::from_millis(1),
            nodes: [node(0), node(1)],
            open: None,
            accepted: 0,
            line: Line::default(),
            waiting: BTreeSet::new(),
            sent: 0,
        };
        let (generation, status) = (Generation(1), Status::Alive);
        for place in [0, 1] {
            let address = SocketAddr::new(HOST, 7_100 + place as u16);
            for node in &mut pair.nodes {
                node.handle(pair.now, Input::Member { node: id(place), generation, address, status });
            }
        }
        let owner = Some((id(1), Epoch(5)));
        pair.nodes
            .iter_mut()
            .for_each(|node| node.handle(Instant::ZERO, Input::Owner { group: GROUP, index: 1, owner }));
        pair
    }

    fn handle(&mut self, place: usize, input: Input) {
        self.nodes[place].handle(self.now, input);
    }

    /// Does what both ask for, until neither asks for more.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "it never ends");
            let polled = [0, 1].into_iter().find_map(|place| Some((place, self.nodes[place].poll_output()?)));
            let Some((place, output)) = polled else { return };
            self.execute(place, output);
        }
    }

    fn execute(&mut self, place: usize, output: Output) {
        match output {
            Output::Connect { connection, .. } => {
                self.accepted += 1;
                if place == 1 || self.accepted > CONNECTIONS_MAX {
                    return self.handle(place, Input::Ended { connection });
                }
                let accepted = ConnectionId(2 * self.accepted);
                self.open = Some([connection, accepted]);
                self.handle(1, Input::Accepted { connection: accepted, from: HOST });
                self.handle(0, Input::Connected { connection });
            }
            Output::Write { connection, bytes } => {
                self.handle(place, Input::Written { connection, bytes: bytes.len() });
                self.transmit(place, connection, &bytes);
            }
            Output::Close { connection } => {
                if let Some(ends) = self.open.take_if(|ends| ends[place] == connection) {
                    self.handle(1 - place, Input::Ended { connection: ends[1 - place] });
                }
            }
            Output::Deliver { served, payload, .. } => {
                let outcome = if payload.len() % 2 == 0 {
                    Outcome::Handled(payload)
                } else {
                    Outcome::Refused(Refusal::NotOwner { known: Epoch(0) })
                };
                self.handle(place, Input::Served { served, outcome });
            }
            Output::Finish { id, .. } => assert!(self.waiting.remove(&id), "{id:?} ended twice"),
            Output::Deadline { .. } | Output::Withdraw { .. } => {}
        }
    }

    fn transmit(&mut self, place: usize, connection: ConnectionId, bytes: &[u8]) {
        let Some(ends) = self.open.filter(|ends| ends[place] == connection) else { return };
        let mut bytes = bytes.to_vec();
        if let Some((at, by)) = self.line.damage[place].take()
            && let Some(byte) = bytes.get_mut(usize::from(at))
        {
            *byte ^= by;
        }
        if place == 0 {
            bytes.splice(0..0, std::mem::take(&mut self.line.insert));
        }
        let piece = if self.line.piece == 0 { bytes.len().max(1) } else { self.line.piece };
        for part in bytes.chunks(piece) {
            let bytes = Bytes::copy_from_slice(part);
            self.handle(1 - place, Input::Read { connection: ends[1 - place], bytes });
        }
    }

    fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        for _ in 0..1_000 {
            let due = self.nodes.iter().filter_map(Requests::poll_timeout).min();
            let Some(due) = due.filter(|due| *due <= until) else { break };
            self.now = self.now.max(due);
            (0..2).for_each(|place| self.handle(place, Input::Timeout));
            self.settle();
        }
        self.now = until;
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send { length, deadline_ms } => {
                self.sent += 1;
                let id = RequestId(self.sent);
                self.waiting.insert(id);
                let deadline = deadline_ms.map(|ms| self.now + Duration::from_millis(u64::from(ms)));
                let (payload, target) = (vec![7; usize::from(length)].into(), Target::Shard { group: GROUP, index: 1 });
                self.handle(0, Input::Send { id, target, message: MESSAGE, payload, deadline, trace: None });
            }
            Step::Forsake { request } => {
                let id = RequestId(u64::from(request));
                if self.waiting.contains(&id) {
                    self.handle(0, Input::Forsake { id });
                }
            }
            Step::Pass { millis } => self.pass(Duration::from_millis(u64::from(millis))),
            Step::Insert { bytes } => self.line.insert = bytes,
            Step::Damage { is_client, at, by } => self.line.damage[usize::from(!is_client)] = Some((at, by)),
            Step::Cut { length } => self.line.piece = usize::from(length),
        }
        self.settle();
    }
}

libfuzzer_sys::fuzz_target!(|steps: Vec<Step>| {
    let mut pair = Pair::new();
    for step in steps.into_iter().take(100) {
        pair.step(step);
    }
    (0..2).for_each(|place| pair.handle(place, Input::Leave));
    pair.settle();
    assert!(pair.waiting.is_empty(), "{:?} never ended", pair.waiting);
});
