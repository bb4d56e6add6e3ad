//! What the seal costs live: heartbeats that one node takes in over a UDP socket, and what a
//! cluster of 50 processes uses, plain and sealed in turn.
//!
//! ```text
//! cargo bench -p heartbeat-tests --bench sealed                  # both, about six minutes
//! cargo bench -p heartbeat-tests --bench sealed -- door          # one of them
//! cargo bench -p heartbeat-tests --bench sealed -- processes
//! ```
//!
//! `door`: a hundred members, which this process stands for, send heartbeats to one node in a
//! process of its own over loopback, as fast as it takes them: the sender has at most as many under
//! way as fit into the socket's buffer. The datagrams are sealed beforehand. One round is plain and
//! sealed, in turn first; a ratio is of one round. `processes`: both clusters run at the same time,
//! and CPU is of the same seconds.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where")]

#[path = "nodes/mod.rs"]
mod nodes;

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use heartbeat_actors::seal::{Key, Keyring, Seal};
use heartbeat_core::member::{ProcessId, name_hash};
use heartbeat_core::wire::{self, Body, Header, Heartbeat, Observers};
use heartbeat_core::{Generation, Incarnation, Member, Profile};
use nodes::{KEY, Nodes, seal_table};

/// Heartbeats of one member without a pause. It asks for an answer to the last one; two such bursts
/// fit into the buffer of a socket.
const BURST: u64 = 64;

/// The kind of an answer to a heartbeat, which can be read under a seal, too.
const ACK_KIND: u8 = 1;

/// How long an answer is waited for; after that it counts as lost.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(200);

/// A member of the cluster, without a process of its own.
struct Peer {
    me: Member,
    socket: UdpSocket,
    seal: Option<Seal>,
    /// The number of its next heartbeat.
    slot: u64,
}

/// The node that takes the heartbeats in.
#[derive(Clone, Copy)]
struct Door {
    address: SocketAddr,
    process: ProcessId,
}

impl Peer {
    /// A member that the node has admitted.
    fn admitted(number: usize, to: SocketAddr, is_sealed: bool) -> (Peer, Door) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(ANSWER_TIMEOUT)).unwrap();
        let profile = Profile::new(format!("peer-{number}"), socket.local_addr().unwrap());
        let me = Member::new(profile, Generation(1_800_000_000_000));
        let process = ProcessId { node: me.id, generation: me.generation };
        let ring = || Keyring::new([Key::from_hex(KEY).unwrap()]).unwrap();
        let seal = is_sealed.then(|| Seal::new(process, ring(), false, 8, number as u64));
        let mut peer = Peer { me, socket, seal, slot: 1 };
        let (mut token, begun) = (0, Instant::now());
        loop {
            assert!(begun.elapsed() < Duration::from_secs(20), "the node admits no member");
            let mut join = Vec::new();
            wire::encode_join(&mut join, peer.header(), token, &peer.me);
            let join = peer.sealed(None, &join);
            // The node may not listen yet.
            let _ = peer.socket.send_to(&join, to);
            let Some((header, answer)) = peer.answer() else { continue };
            match answer {
                Answer::Challenge(number) => token = number,
                Answer::Welcome => return (peer, Door { address: to, process: header.sender() }),
                Answer::Other => {}
            }
        }
    }

    fn header(&self) -> Header {
        Header { cluster: name_hash("bench") as u32, from: self.me.id, generation: self.me.generation, clock: 0 }
    }

    fn sealed(&mut self, receiver: Option<ProcessId>, plain: &[u8]) -> Vec<u8> {
        let mut form = plain.to_vec();
        if let Some(seal) = &mut self.seal {
            seal.seal(receiver, plain, |bytes| form = bytes.to_vec());
        }
        form
    }

    /// The next datagram that comes, if one does in time.
    fn answer(&mut self) -> Option<(Header, Answer)> {
        let mut bytes = [0; 2_048];
        let length = self.socket.recv(&mut bytes).ok()?;
        let plain = match &mut self.seal {
            Some(seal) => seal.open(&mut bytes[..length]).ok()?,
            None => 0..length,
        };
        let datagram = wire::decode(&bytes[plain]).ok()?;
        let answer = match datagram.body {
            Body::Challenge { token } => Answer::Challenge(token),
            Body::Rows(rows) if rows.welcome => Answer::Welcome,
            _ => Answer::Other,
        };
        Some((datagram.header, answer))
    }

    /// Its next heartbeats, of which the last one asks for an answer.
    fn burst(&mut self, door: Door) -> Vec<Vec<u8>> {
        (1..=BURST)
            .map(|number| {
                let heartbeat = Heartbeat {
                    incarnation: Incarnation::default(),
                    stage: self.slot * wire::STAGES,
                    interval: Duration::from_secs(1),
                    slept: 0,
                    health: 0,
                    asks: number == BURST,
                    observers: Observers::new([door.process.node]),
                };
                self.slot += 1;
                let mut plain = Vec::new();
                wire::encode(&mut plain, self.header(), &Body::Heartbeat(heartbeat));
                self.sealed(Some(door.process), &plain)
            })
            .collect()
    }

    /// Waits for the answer to a burst, among other datagrams.
    fn wait(&self) -> bool {
        let mut bytes = [0; 2_048];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            if wire::decode_start(&bytes[..length]).is_ok_and(|start| start.kind == ACK_KIND) {
                return true;
            }
        }
        false
    }
}

/// What an answer to a join is.
enum Answer {
    Challenge(u64),
    Welcome,
    Other,
}

/// One monitor in a process of its own, and its members.
struct Lane {
    nodes: Nodes,
    peers: Vec<Peer>,
    door: Door,
}

impl Lane {
    fn new(members: usize, is_sealed: bool) -> Lane {
        let nodes = Nodes::with_configs(1, false, |_, ports| {
            let listen = format!("127.0.0.1:{}", ports[0]);
            format!(
                "timeout = '60s'\n[cluster]\nname = 'bench'\nnode = 'monitor'\nrole = 'monitor'\nmode = 'central'\n\
                 listen = '{listen}'\nseeds = ['{listen}']\n{}",
                seal_table(is_sealed)
            )
        });
        let admitted: Vec<_> = (0..members).map(|number| Peer::admitted(number, nodes.address(0), is_sealed)).collect();
        let door = admitted[0].1;
        Lane { nodes, peers: admitted.into_iter().map(|(peer, _)| peer).collect(), door }
    }

    /// Sends so many bursts of each member. Returns the heartbeats a second that the node took in,
    /// the CPU time of its process for each in microseconds, and how many it did not get.
    fn run(&mut self, bursts: u64) -> (f64, f64, u64) {
        let door = self.door;
        // While one member's burst waits, the next one's is sent.
        let mut sendings = Vec::new();
        for _ in 0..bursts {
            for (place, peer) in self.peers.iter_mut().enumerate() {
                sendings.push((place, peer.burst(door)));
            }
        }
        let received = |lane: &mut Lane| lane.nodes.status(0, &mut Vec::new())["heartbeats"].as_u64().unwrap();
        let (before, cpu) = (received(self), self.nodes.usage(0).cpu);
        let begun = Instant::now();
        let mut waiting = None;
        for (place, burst) in &sendings {
            for datagram in burst {
                self.peers[*place].socket.send_to(datagram, door.address).unwrap();
            }
            if let Some(earlier) = waiting.replace(*place) {
                let peer: &Peer = &self.peers[earlier];
                peer.wait();
            }
        }
        waiting.map(|place: usize| self.peers[place].wait());
        let took = begun.elapsed().as_secs_f64();
        let cpu = self.nodes.usage(0).cpu - cpu;
        let count = received(self) - before;
        let sent = sendings.len() as u64 * BURST;
        (count as f64 / took, cpu * 1e6 / count as f64, sent - count)
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn range(values: &[f64], digits: usize) -> String {
    let (low, high) = (values.iter().copied().fold(f64::MAX, f64::min), values.iter().copied().fold(0.0, f64::max));
    format!("{:.digits$} ({low:.digits$} to {high:.digits$})", median(values))
}

fn door(members: usize, rounds: usize, bursts: u64) {
    let mut lanes = [false, true].map(|is_sealed| Lane::new(members, is_sealed));
    let (mut rates, mut costs, mut lost) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()], [0, 0]);
    for round in 0..=rounds {
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let (rate, cost, missing) = lanes[which].run(bursts);
            // The first round fills caches and windows.
            if round > 0 {
                rates[which].push(rate);
                costs[which].push(cost);
                lost[which] += missing;
            }
        }
    }
    println!("| {members} members | heartbeats a second | CPU of the node for each | not received |");
    println!("|---|---:|---:|---:|");
    for (which, name) in ["plain", "sealed"].into_iter().enumerate() {
        println!("| {name} | {} | {} us | {} |", range(&rates[which], 0), range(&costs[which], 2), lost[which]);
    }
    let of_rounds = |of: &[Vec<f64>; 2], plain_over_sealed: bool| -> Vec<f64> {
        of[0]
            .iter()
            .zip(&of[1])
            .map(|(plain, sealed)| if plain_over_sealed { plain / sealed } else { sealed / plain })
            .collect()
    };
    println!(
        "sealed to plain, within a round: heartbeats a second {}, heartbeats for the same CPU {}",
        range(&of_rounds(&rates, false), 2),
        range(&of_rounds(&costs, true), 2)
    );
}

fn processes(count: usize, windows: usize, window: Duration) {
    let clusters = [false, true].map(|is_sealed| Nodes::start(count, is_sealed, false));
    std::thread::sleep(window.min(Duration::from_secs(15)));
    let cpu = || clusters.each_ref().map(|nodes| (0..count).map(|node| nodes.usage(node).cpu).collect::<Vec<f64>>());
    let mut shares = [Vec::new(), Vec::new()];
    for _ in 0..windows {
        let before = cpu();
        std::thread::sleep(window);
        let after = cpu();
        for which in 0..2 {
            let used: Vec<f64> =
                after[which].iter().zip(&before[which]).map(|(after, before)| after - before).collect();
            shares[which].push(used.iter().sum::<f64>() / count as f64 / window.as_secs_f64() * 100.0);
        }
    }
    println!("| {count} processes each | % of a core for a node, the mean of a window | resident, median |");
    println!("|---|---:|---:|");
    for (which, name) in ["plain", "sealed"].into_iter().enumerate() {
        let resident: Vec<f64> = (0..count).map(|node| clusters[which].usage(node).resident_mib()).collect();
        println!("| {name} | {} | {:.1} MiB |", range(&shares[which], 3), median(&resident));
    }
    let more: Vec<f64> = shares[1].iter().zip(&shares[0]).map(|(sealed, plain)| sealed - plain).collect();
    println!("sealed takes {:.3} points of a core more for each node, the median of the windows", median(&more));
}

fn main() {
    if nodes::is_node() {
        return;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| words.iter().any(|word| word == name);
    let is_quick = has("--test") || !has("--bench");
    let wants = |name: &str| has(name) || !has("door") && !has("processes");
    if wants("door") {
        if is_quick {
            door(3, 1, 2)
        } else {
            [10, 100].into_iter().for_each(|members| door(members, 15, 20_000 / members as u64 / 8))
        }
    }
    if wants("processes") {
        if is_quick { processes(3, 1, Duration::from_secs(1)) } else { processes(50, 9, Duration::from_secs(20)) }
    }
}
