//! Connections for requests between the nodes of a world.
//!
//! Bytes arrive in order, in pieces of any size. A cut link carries nothing: what was written waits
//! for the link, and after a while both systems give the connection up. A loss delays it. The
//! system of a process that ends closes its connections; a node without power does not.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use heartbeat_core::requests::{Bytes, ConnectionId, Input};

use crate::network::NodeIndex;
use crate::requests::{Action, Step};
use crate::world::World;

/// How long a system tries to connect, or to get written bytes to the other side.
const GIVE_UP: u64 = 4_000_000_000;

/// How often it sends them again.
const SEND_AGAIN: u64 = 200_000_000;

/// A process of a node, and its number for a connection.
type End = (NodeIndex, u64, ConnectionId);

/// All connections of a world.
#[derive(Default)]
pub(crate) struct Connections {
    next: u64,
    open: BTreeMap<u64, Open>,
    by_end: BTreeMap<End, u64>,
}

/// The two ends of a connection: first the node that opened it.
struct Open {
    ends: [End; 2],
    /// Which ends are there still.
    is_there: [bool; 2],
    /// What each end wrote that is not on its way yet.
    unsent: [Vec<u8>; 2],
    /// Since when the other side does not answer.
    silent_since: [Option<u64>; 2],
    /// When the newest bytes of each end arrive: later ones do not overtake them.
    arrives: [u64; 2],
}

impl World {
    pub(crate) fn connect(&mut self, from: NodeIndex, connection: ConnectionId, to: SocketAddr) {
        let ended = Action::Input(Input::Ended { connection });
        let after = self.requests_delay();
        let answers = |to: &NodeIndex| !self.is_unplugged(*to) && !self.is_apart(from, *to);
        let Some(to) = self.at_address(to).filter(answers) else {
            return self.plan_action(self.now + GIVE_UP, from, ended);
        };
        if !self.has_process(to) || self.request_counters(to).is_none() {
            return self.plan_action(self.now + after, from, ended);
        }
        let all = &mut self.traffic.connections;
        all.next += 1;
        let (number, accepted) = (all.next, ConnectionId(all.next * 2));
        let ends = [(from, self.life(from), connection), (to, self.life(to), accepted)];
        let (arrives, host) = (self.now + after, self.address(from).ip());
        let open = Open {
            ends,
            is_there: [true; 2],
            unsent: Default::default(),
            silent_since: [None; 2],
            arrives: [arrives; 2],
        };
        let all = &mut self.traffic.connections;
        all.open.insert(number, open);
        all.by_end.extend(ends.map(|end| (end, number)));
        self.plan_action(arrives, to, Action::Input(Input::Accepted { connection: accepted, from: host }));
        self.plan_action(arrives + after, from, Action::Input(Input::Connected { connection }));
    }

    /// Whether what a connection brings is still for it: its end may have been closed meanwhile.
    pub(crate) fn may_arrive(&mut self, place: NodeIndex, input: &Input) -> bool {
        let (Input::Accepted { connection, .. } | Input::Connected { connection } | Input::Read { connection, .. }) =
            input
        else {
            return true;
        };
        let end = (place, self.life(place), *connection);
        self.traffic.connections.by_end.contains_key(&end)
    }

    pub(crate) fn write(&mut self, from: NodeIndex, connection: ConnectionId, bytes: &[u8]) {
        let end = (from, self.life(from), connection);
        let all = &mut self.traffic.connections;
        let Some(&number) = all.by_end.get(&end) else { return };
        let Some(open) = all.open.get_mut(&number) else { return };
        let way = usize::from(open.ends[0] != end);
        let is_first = open.unsent[way].is_empty();
        open.unsent[way].extend_from_slice(bytes);
        if is_first {
            self.carry(number, way);
        }
    }

    /// Brings what one end wrote to the other one, if it can be reached.
    pub(crate) fn carry(&mut self, number: u64, way: usize) {
        let now = self.now;
        let Some(open) = self.traffic.connections.open.get(&number) else { return };
        let (from, to) = (open.ends[way], open.ends[1 - way]);
        if self.is_unplugged(to.0) || self.is_apart(from.0, to.0) {
            let Some(open) = self.traffic.connections.open.get_mut(&number) else { return };
            let since = *open.silent_since[way].get_or_insert(now);
            if now - since >= GIVE_UP {
                return self.give_up(number);
            }
            let again = Step { place: from.0, life: from.1, action: Action::Carry(number, way) };
            return self.traffic.queue.put(now + SEND_AGAIN, again);
        }
        if !open.is_there[1 - way] || !self.has_process(to.0) || self.life(to.0) != to.1 {
            return self.give_up(number);
        }
        let (mut delay, loss) = (self.requests_delay(), self.network.loss);
        if self.traffic.random.chance(loss) {
            delay += SEND_AGAIN;
        }
        let Some(open) = self.traffic.connections.open.get_mut(&number) else { return };
        open.silent_since[way] = None;
        let bytes = std::mem::take(&mut open.unsent[way]);
        let at = (now + delay).max(open.arrives[way] + 1);
        open.arrives[way] = at + 1;
        let split = self.traffic.random.below(bytes.len() as u64 + 1) as usize;
        for (after, piece) in [&bytes[..split], &bytes[split..]].into_iter().enumerate() {
            if !piece.is_empty() {
                let read = Input::Read { connection: to.2, bytes: Bytes::copy_from_slice(piece) };
                self.plan_action(at + after as u64, to.0, Action::Input(read));
            }
        }
        let written = Input::Written { connection: from.2, bytes: bytes.len() };
        self.plan_action(now + delay / 2, from.0, Action::Input(written));
    }

    /// A process closes its end; the other one sees that behind all that was written.
    pub(crate) fn close(&mut self, place: NodeIndex, connection: ConnectionId) {
        let end = (place, self.life(place), connection);
        let Some(number) = self.traffic.connections.by_end.remove(&end) else { return };
        let Some(open) = self.traffic.connections.open.get_mut(&number) else { return };
        let way = usize::from(open.ends[0] != end);
        open.is_there[way] = false;
        let (other, at) = (open.ends[1 - way], open.arrives[way] + 1);
        if self.is_apart(place, other.0) || self.is_unplugged(other.0) {
            return; // The other one learns of it when it writes.
        }
        self.traffic.connections.open.remove(&number);
        let delay = self.requests_delay();
        self.end_at(at.max(self.now + delay), other);
    }

    /// Closes all connections of a node's process, as its system does when it ends.
    pub(crate) fn close_connections(&mut self, place: NodeIndex) {
        for (_, _, connection) in self.ends_at(place) {
            self.close(place, connection);
        }
    }

    /// Ends all connections of a node without the processes' doing.
    pub(crate) fn sever_connections(&mut self, place: NodeIndex) {
        for end in self.ends_at(place) {
            if let Some(&number) = self.traffic.connections.by_end.get(&end) {
                self.give_up(number);
            }
        }
    }

    fn ends_at(&self, place: NodeIndex) -> Vec<End> {
        let life = self.life(place);
        let range = (place, life, ConnectionId(0))..=(place, life, ConnectionId(u64::MAX));
        self.traffic.connections.by_end.range(range).map(|(end, _)| *end).collect()
    }

    /// Both ends see that a connection is over.
    fn give_up(&mut self, number: u64) {
        let Some(open) = self.traffic.connections.open.remove(&number) else { return };
        for end in open.ends {
            let at = self.now + self.requests_delay();
            self.end_at(at, end);
        }
    }

    fn end_at(&mut self, at: u64, end: End) {
        let (place, life, connection) = end;
        if self.traffic.connections.by_end.contains_key(&end) {
            let action = Action::Input(Input::Ended { connection });
            self.traffic.queue.put(at, Step { place, life, action });
        }
    }

    fn requests_delay(&mut self) -> u64 {
        let network = &self.network;
        let spread = network.delay_mean * 2;
        let delay = network.delay_min + self.traffic.random.duration_below(spread.max(Duration::from_nanos(1)));
        delay.as_nanos() as u64
    }
}
