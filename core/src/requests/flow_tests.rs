//! Flow: what a node that is slow, or does not read, can make another one hold.

use std::net::Ipv4Addr;

use super::connection::WRITE_AHEAD;
use super::frame::{self, Frame, PART_BYTES_MAX, PREFACE, RequestHead, Response};
use super::*;

/// Where the peer is.
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

const GROUP: u64 = 7;

const MESSAGE: MessageType = MessageType { name_hash: 1, version: 1 };

fn shard(index: u32) -> Target {
    Target::Shard { group: GROUP, index }
}

/// A node that owns shard 0 or whose peer does, with one connection that is open.
struct Station {
    requests: Requests,
    connection: ConnectionId,
}

impl Station {
    fn new(config: RequestsConfig, owner: &str) -> Station {
        let requests = Requests::new(config, 5, NodeId::of("me"), Generation(1));
        let mut station = Station { requests, connection: ConnectionId(2) };
        let address = ([127, 0, 0, 1], 1).into();
        let (node, generation, status) = (NodeId::of("peer"), Generation(1), Status::Alive);
        station.input(Input::Member { node, generation, address, status });
        for index in 0..2 {
            let owner = Some((NodeId::of(owner), Epoch(1)));
            station.input(Input::Owner { group: GROUP, index, owner });
        }
        station
    }

    /// The peer has connected, to send requests.
    fn inbound(config: RequestsConfig) -> Station {
        let mut station = Station::new(config, "me");
        station.input(Input::Accepted { connection: station.connection, from: HOST });
        let mut bytes = PREFACE.to_vec();
        frame::encode(&mut bytes, &Frame::Hello { cluster: 5, from: NodeId::of("peer"), generation: Generation(1) });
        station.read(bytes);
        station
    }

    fn input(&mut self, input: Input) -> Vec<Output> {
        self.requests.handle(Instant::ZERO, input);
        std::iter::from_fn(|| self.requests.poll_output()).collect()
    }

    fn read(&mut self, bytes: Vec<u8>) -> Vec<Output> {
        self.input(Input::Read { connection: self.connection, bytes: bytes.into() })
    }

    /// The peer's request of this number.
    fn request(&mut self, number: u64) -> Vec<Output> {
        let epoch = Epoch(0);
        let head =
            RequestHead { number, target: shard(0), round: 0, epoch, message: MESSAGE, left_ms: None, trace: None };
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, &Frame::Request { head, total: 1, part: &[0] });
        self.read(bytes)
    }

    fn send(&mut self, id: u64, index: u32, bytes: usize) -> Vec<Output> {
        let (id, target, payload) = (RequestId(id), shard(index), vec![0; bytes].into());
        self.input(Input::Send { id, target, message: MESSAGE, payload, deadline: None, trace: None })
    }
}

fn served(outputs: &[Output]) -> Option<ServedId> {
    outputs.iter().find_map(|output| if let Output::Deliver { served, .. } = output { Some(*served) } else { None })
}

#[test]
fn a_peer_that_does_not_read_gets_no_more_answers() {
    const ANSWER: usize = 1 << 20;
    let config = RequestsConfig::default();
    let answers = config.window_bytes / ANSWER + WRITE_AHEAD / ANSWER;
    let mut station = Station::inbound(config.clone());
    let mut delivered = 0;
    for number in 0..100 {
        if let Some(served) = served(&station.request(number)) {
            delivered += 1;
            station.input(Input::Served { served, outcome: Outcome::Handled(vec![0; ANSWER].into()) });
        }
    }
    assert!((answers..=answers + 1).contains(&delivered), "{delivered} of {answers}");
    let (_, waiting) = station.requests.connections[&station.connection].waiting();
    assert!(waiting <= config.window_bytes + ANSWER, "{waiting} bytes wait");
}

#[test]
fn a_peer_that_only_sends_is_cut_off() {
    let mut station = Station::inbound(RequestsConfig { window: 1, ..RequestsConfig::default() });
    let mut numbers = 0..;
    // Two are served, and all others refused, until the responses that wait are too many.
    while let Some(number) = numbers.next().filter(|number| *number < 200_000) {
        if station.request(number).iter().any(|output| matches!(output, Output::Close { .. })) {
            break;
        }
    }
    assert!(station.requests.connections.is_empty());
    assert!(numbers.next().is_some_and(|next| next < 100_000), "responses within the write-ahead are few");
    assert_eq!(station.requests.counters().malformed, 1);
}

#[test]
fn a_large_message_takes_turns_with_small_ones() {
    let mut station = Station::new(RequestsConfig::default(), "peer");
    let connected = station.send(1, 0, 16 * PART_BYTES_MAX);
    let Some(Output::Connect { connection, .. }) = connected.first() else { panic!("{connected:?}") };
    station.connection = *connection;
    station.input(Input::Connected { connection: station.connection });
    let mut welcome = Vec::new();
    frame::encode(&mut welcome, &Frame::Welcome { generation: Generation(1) });
    let mut written = writes(station.read(welcome));
    // It goes to another shard, so it need not wait for the large one.
    written.extend(writes(station.send(2, 1, 8)));
    let mut frames = Vec::new();
    loop {
        let (mut rest, bytes) = (&written[..], written.len());
        while let Ok(Some((one, taken))) = frame::next(rest) {
            frames.push(match frame::decode(one, NodeId::of("me")) {
                Ok(Frame::Request { head, .. }) => head.number,
                Ok(Frame::RequestPart { number, .. }) => number,
                other => panic!("{other:?}"),
            });
            rest = &rest[taken..];
        }
        if bytes == 0 {
            break;
        }
        written = writes(station.input(Input::Written { connection: station.connection, bytes }));
    }
    assert_eq!(frames.len(), 17);
    let place = frames.iter().position(|number| *number == 2);
    assert!(place.is_some_and(|place| place <= 1 + WRITE_AHEAD / PART_BYTES_MAX), "{frames:?}");
}

fn writes(outputs: Vec<Output>) -> Vec<u8> {
    let bytes = outputs.into_iter().filter_map(|output| match output {
        Output::Write { bytes, .. } => Some(bytes),
        Output::Connect { .. }
        | Output::Close { .. }
        | Output::Deliver { .. }
        | Output::Deadline { .. }
        | Output::Withdraw { .. }
        | Output::Finish { .. } => None,
    });
    bytes.collect::<Vec<_>>().concat()
}

#[test]
fn a_response_without_a_request_is_counted_and_dropped() {
    let mut station = Station::new(RequestsConfig::default(), "peer");
    let connected = station.send(1, 0, 8);
    let Some(Output::Connect { connection, .. }) = connected.first() else { panic!("{connected:?}") };
    station.connection = *connection;
    station.input(Input::Connected { connection: station.connection });
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, &Frame::Welcome { generation: Generation(1) });
    station.read(std::mem::take(&mut bytes));
    for number in [1, 1, 99] {
        let response = Response::Handled { epoch: Epoch(1) };
        frame::encode(&mut bytes, &Frame::Response { number, response, total: 1, part: &[0] });
    }
    station.read(bytes);
    let counters = station.requests.counters();
    assert_eq!((counters.sent, counters.handled, counters.late, counters.malformed), (1, 1, 2, 0));
}
