//! Streams between the nodes of a world: what the operating systems at both ends would do.
//!
//! A connection that is cut neither delivers nor ends. An attempt to connect over a cut link, or to
//! a node without power, ends after [`GIVE_UP`]. A process that ends, for any reason, has its
//! connections closed, the newest first: its port still takes connections for a little while after
//! the older ones have ended. A port without a listener refuses. A stopped process accepts, because
//! its system does that.

use std::collections::BTreeMap;
use std::time::Duration;

use heartbeat_core::{Input, Random, StreamEvent, StreamId};

use crate::event_queue::Item;
use crate::network::NodeIndex;
use crate::world::World;

/// How long an attempt to connect waits for an answer.
const GIVE_UP: Duration = Duration::from_secs(3);

/// The port of a process that ends is closed last, at most this long after its connections.
const LISTENS_FOR: Duration = Duration::from_millis(20);

/// One end: a process at a place, and its number for the stream.
type End = (NodeIndex, u64, StreamId);

/// All connections of a world.
#[derive(Default)]
pub(crate) struct Streams {
    next: u64,
    open: BTreeMap<u64, Connection>,
    by_end: BTreeMap<End, u64>,
    /// Until when the port of a process that has ended is open.
    closing: BTreeMap<NodeIndex, u64>,
}

struct Connection {
    opener: End,
    acceptor: Option<End>,
    to: NodeIndex,
    /// When the newest frame arrives at the acceptor, and at the opener: later ones do not overtake
    /// it.
    arrived: [u64; 2],
    /// Whether the opener has learnt that it is connected.
    opened: bool,
}

/// Something that happens at one end.
#[derive(Clone)]
pub(crate) struct Move {
    connection: u64,
    at: NodeIndex,
    life: u64,
    what: What,
}

#[derive(Clone)]
enum What {
    /// A connection arrives.
    Connect,
    Opened,
    Refused,
    Failed,
    Frame(Vec<u8>),
    Ended,
}

impl Move {
    pub(crate) fn at(&self) -> NodeIndex {
        self.at
    }
}

impl World {
    pub(crate) fn open(&mut self, from: NodeIndex, stream: StreamId, to: Option<NodeIndex>) {
        let life = self.life(from);
        let opener = (from, life, stream);
        self.streams.next += 1;
        let connection = self.streams.next;
        self.streams.by_end.insert(opener, connection);
        let place = to.unwrap_or(from);
        self.streams
            .open
            .insert(connection, Connection { opener, acceptor: None, to: place, arrived: [0; 2], opened: false });
        let answers = to.is_some_and(|to| !self.is_unplugged(to) && !self.is_apart(from, to));
        let (after, at, what) = if answers {
            (self.delay(), place, What::Connect)
        } else {
            (GIVE_UP.as_nanos() as u64, from, What::Failed)
        };
        self.move_at(after, Move { connection, at, life: if answers { u64::MAX } else { life }, what });
    }

    pub(crate) fn frame(&mut self, from: NodeIndex, stream: StreamId, bytes: &[u8]) {
        let (what, life) = (What::Frame(bytes.to_vec()), self.life(from));
        self.send_over((from, life, stream), what);
    }

    pub(crate) fn shut(&mut self, from: NodeIndex, stream: StreamId) {
        let end = (from, self.life(from), stream);
        self.send_over(end, What::Ended);
        self.streams.by_end.remove(&end);
    }

    /// Closes all streams of the process at a place, as its system does when it ends.
    pub(crate) fn break_streams(&mut self, place: NodeIndex) {
        for end in self.ends_of(place) {
            if !self.is_unplugged(place) {
                self.send_over(end, What::Ended);
            }
            self.streams.by_end.remove(&end);
        }
        if self.is_unplugged(place) {
            return;
        }
        self.break_backlog(place);
        let now = self.elapsed_nanos();
        let closes = now + Random::seeded(now ^ place as u64).duration_below(LISTENS_FOR).as_nanos() as u64;
        self.streams.closing.insert(place, closes);
    }

    /// Ends all streams of a process without its doing.
    pub(crate) fn sever(&mut self, place: NodeIndex) {
        for end in self.ends_of(place) {
            self.send_over(end, What::Ended);
            if let Some(&connection) = self.streams.by_end.get(&end) {
                self.move_at(0, Move { connection, at: place, life: end.1, what: What::Ended });
            }
        }
    }

    fn ends_of(&self, place: NodeIndex) -> Vec<End> {
        let life = self.life(place);
        let range = (place, life, StreamId(0))..=(place, life, StreamId(u64::MAX));
        self.streams.by_end.range(range).map(|(end, _)| *end).collect()
    }

    /// Closes what a process at a place was connected to without having seen it.
    fn break_backlog(&mut self, place: NodeIndex) {
        let waits = |(_, open): &(&u64, &Connection)| open.to == place && open.acceptor.is_none() && open.opened;
        let waiting: Vec<(u64, End)> =
            self.streams.open.iter().filter(waits).map(|(&connection, open)| (connection, open.opener)).collect();
        for (connection, (at, life, _)) in waiting {
            if !self.is_apart(place, at) {
                let after = self.delay();
                self.move_at(after, Move { connection, at, life, what: What::Ended });
            }
        }
    }

    /// What the systems at the ends do without their processes. Returns whether that was all.
    pub(crate) fn pass(&mut self, action: &Move) -> bool {
        let Some(connection) = self.streams.open.get(&action.connection) else { return true };
        let (from, opener_life) = (connection.opener.0, connection.opener.1);
        if !matches!(action.what, What::Connect) {
            return action.life != self.life(action.at);
        }
        let (connection, now) = (action.connection, self.elapsed_nanos());
        let to_opener = |what| Move { connection, at: from, life: opener_life, what };
        if !self.has_process(action.at) {
            if let Some(&closes) = self.streams.closing.get(&action.at).filter(|&&closes| closes > now) {
                let after = self.delay();
                self.move_at(after, to_opener(What::Opened));
                self.move_at(after + (closes - now), to_opener(What::Ended));
                return true;
            }
            let what = if self.is_unplugged(action.at) { What::Failed } else { What::Refused };
            let after = if self.is_unplugged(action.at) { GIVE_UP.as_nanos() as u64 } else { self.delay() };
            self.move_at(after, to_opener(what));
            return true;
        }
        if !self.is_paused(action.at) {
            return false;
        }
        // The system of a stopped process accepts for it; it finds the connection when it goes on.
        let after = self.delay();
        self.move_at(after, to_opener(What::Opened));
        if let Some(open) = self.streams.open.get_mut(&action.connection) {
            open.opened = true;
        }
        false
    }

    /// Delivers an action to the process at one end.
    pub(crate) fn stream(&mut self, action: Move) {
        let Move { connection, at, what, .. } = action;
        let Some(open) = self.streams.open.get(&connection) else { return };
        let (opener, acceptor) = (open.opener, open.acceptor);
        let end = if opener.0 == at && opener.1 == self.life(at) && !matches!(what, What::Connect) {
            Some(opener)
        } else {
            acceptor
        };
        let other = self.address(if end == Some(opener) { open.to } else { opener.0 });
        let event = match &what {
            What::Connect => return self.accept(connection, at),
            What::Opened => StreamEvent::Opened,
            What::Refused => StreamEvent::Refused,
            What::Failed => StreamEvent::Failed,
            What::Frame(bytes) => StreamEvent::Frame(bytes.clone()),
            What::Ended => StreamEvent::Ended,
        };
        let Some(end) = end.filter(|end| self.streams.by_end.contains_key(end)) else { return };
        if matches!(what, What::Refused | What::Failed | What::Ended) {
            self.streams.by_end.remove(&end);
        }
        self.handle_input(at, Input::Stream { stream: end.2, from: other, event });
    }

    fn accept(&mut self, connection: u64, at: NodeIndex) {
        let Some(stream) = self.take_connection(at) else { return };
        let end = (at, self.life(at), stream);
        self.streams.by_end.insert(end, connection);
        if let Some(open) = self.streams.open.get_mut(&connection) {
            open.acceptor = Some(end);
            if !std::mem::replace(&mut open.opened, true) {
                self.send_over(end, What::Opened);
            }
        }
        self.drain(at);
    }

    /// Sends something from one end to the other, behind what was sent before.
    fn send_over(&mut self, end: End, what: What) {
        let delay = self.delay();
        let Some(&connection) = self.streams.by_end.get(&end) else { return };
        let Some(open) = self.streams.open.get(&connection) else { return };
        let (to, way) = if open.opener == end {
            (open.acceptor.map(|end| (end.0, end.1)), 0)
        } else {
            (Some((open.opener.0, open.opener.1)), 1)
        };
        let Some((to, life)) = to else { return };
        if self.is_apart(end.0, to) {
            return;
        }
        let now = self.elapsed_nanos();
        let Some(open) = self.streams.open.get_mut(&connection) else { return };
        let at = (now + delay).max(open.arrived[way] + 1);
        open.arrived[way] = at;
        self.put(at, Item::Stream(Move { connection, at: to, life, what }));
    }

    fn move_at(&mut self, after: u64, action: Move) {
        let at = self.elapsed_nanos() + after;
        self.put(at, Item::Stream(action));
    }
}
