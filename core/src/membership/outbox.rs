//! `Outbox`: what leaves this node.
//!
//! Rules queue what is to be sent. It is encoded only when the driver takes it out, from what is
//! known then, and filled up with gossip. So a rule may queue a message and change the table after
//! that, and the newest row travels.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::ctx::Ctx;
use crate::detection::LinkSummary;
use crate::member::{Member, NodeId, ProcessId, WireVersions, name_hash};
use crate::membership::clock::Clock;
use crate::membership::gossip::Extent;
use crate::membership::heartbeat_schedule::HeartbeatSchedule;
use crate::membership::peers::Peers;
use crate::membership::transfer::Parcel;
use crate::output::StreamId;
use crate::time::Instant;
use crate::wire::{self, BUCKETS, Body, Header, VERSION_MIN};

/// What a message says, encoded when it is sent.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Payload {
    /// A heartbeat of the present slot.
    Heartbeat {
        /// The phase of its observer within the slot.
        phase: u64,
        /// Whether the observer is to acknowledge it.
        wants_ack: bool,
        /// Whether the observer is a new one, which is given what others have learnt.
        to_new: bool,
    },
    /// An acknowledgement with what this node has learnt of the receiver.
    AckWithSummary {
        ack: wire::Ack,
        summary: LinkSummary,
    },
    /// This body, and gossip where there is room.
    Body(Body<'static>),
    Join {
        token: u64,
    },
    /// The digests of the table.
    Sync,
    /// Rows of these parts of the table.
    RowRange(RowRange),
    /// The rows of these members.
    Members(Vec<NodeId>),
    /// Gossip; nothing is sent if none is fresh.
    Gossip,
    /// The row of this member before any other gossip.
    About(NodeId),
    /// The part of a snapshot that begins at `offset`.
    Part {
        parcel: Parcel,
        offset: u32,
    },
    /// A message in this version of the format, also where another version is in use.
    In {
        version: u8,
        payload: Box<Payload>,
    },
}

/// Rows of some parts of the table, from one id on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RowRange {
    /// Which parts, one bit each.
    pub(super) differing: u64,
    /// The first id.
    pub(super) from: NodeId,
    /// Whether the receiver is admitted by these rows.
    pub(super) admits: bool,
}

impl RowRange {
    /// All rows, for a node that was just admitted.
    pub(super) fn admission() -> RowRange {
        RowRange { differing: u64::MAX, from: NodeId(0), admits: true }
    }

    /// All rows of these parts, for a member.
    pub(super) fn of(differing: u64) -> RowRange {
        RowRange { differing, from: NodeId(0), admits: false }
    }
}

/// A message or a stream for the driver.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Outgoing {
    Send { to: SocketAddr, receiver: Option<ProcessId>, payload: Payload },
    Open { stream: StreamId, to: SocketAddr },
    Frame { stream: StreamId, payload: Payload },
    Close { stream: StreamId },
}

/// The state of other rules that messages are encoded from.
pub(super) struct Encoding<'a> {
    pub(super) peers: &'a mut Peers,
    pub(super) schedule: &'a HeartbeatSchedule,
    /// Whether this node's table holds all members.
    pub(super) is_synced: bool,
    pub(super) now: Instant,
}

/// The queue of what leaves this node, and the numbers that it leaves under.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    /// The oldest first.
    queue: VecDeque<Outgoing>,
    pub(super) clock: Clock,
    /// Number of the newest probe, inquiry or poll.
    number: u32,
    /// Lower half of the hash of the cluster's name; in every header.
    cluster: u32,
    /// The version in which messages are written.
    version: u8,
    /// Where the newest message came from, and its version.
    newest: Option<(SocketAddr, u8)>,
}

impl Outbox {
    /// An empty queue. Numbers begin at random, so that an answer to a former process of this name
    /// answers nothing.
    pub(super) fn new(cluster: &str, clock: Clock, ctx: &mut Ctx) -> Outbox {
        let number = ctx.random.next_u64() as u32;
        let cluster = name_hash(cluster) as u32;
        Outbox { queue: VecDeque::new(), clock, number, cluster, version: VERSION_MIN, newest: None }
    }

    // ---- inputs ---------------------------------------------------------------------------------

    /// Writes messages in this version from now on.
    pub(super) fn set_version(&mut self, version: u8) {
        self.version = version;
    }

    /// Handles that a message of this version came from this address. Answers go back in this
    /// version: the sender may be no member, and then it is not known which ones it can use.
    pub(super) fn note_version(&mut self, from: SocketAddr, version: u8) {
        self.newest = Some((from, version));
    }

    /// Sends to the process that has this address, which this node need not know. Only a join or a
    /// probe goes there: under a seal, all other messages have to be for a certain process.
    pub(super) fn send(&mut self, to: SocketAddr, payload: Payload) {
        self.push(to, None, payload);
    }

    /// Answers this process, at the address that its message came from.
    pub(super) fn answer(&mut self, to: SocketAddr, receiver: ProcessId, payload: Payload) {
        self.push(to, Some(receiver), payload);
    }

    /// A probe is for any process at the address. A new process may have taken the place of the one
    /// in the table, and could not open a message that is sealed for its predecessor.
    fn push(&mut self, to: SocketAddr, receiver: Option<ProcessId>, payload: Payload) {
        let receiver = receiver.filter(|_| !matches!(payload, Payload::Body(Body::Probe { .. })));
        let version = self.newest.filter(|(from, _)| *from == to).map(|(_, version)| version);
        let payload = answer_in(version, payload);
        self.queue.push_back(Outgoing::Send { to, receiver, payload });
    }

    /// Sends to the process that the table has.
    pub(super) fn send_to_member(&mut self, member: &Member, payload: Payload) {
        let receiver = ProcessId { node: member.id, generation: member.generation };
        self.answer(member.address, receiver, payload);
    }

    /// Probes a process that is no member, in the lowest version that it and this node can use.
    pub(super) fn probe_non_member(&mut self, to: SocketAddr, number: u32, its: WireVersions, me: &Member) {
        let (version, payload) = (me.wire_versions.nearest(its.min), Box::new(Payload::Body(Body::Probe { number })));
        self.send(to, Payload::In { version, payload });
    }

    /// Sends to a node if it is in the table.
    pub(super) fn send_to(&mut self, peers: &Peers, id: NodeId, payload: Payload) {
        if let Some(member) = peers.table.member(id) {
            self.send_to_member(member, payload);
        }
    }

    pub(super) fn open(&mut self, stream: StreamId, to: SocketAddr) {
        self.queue.push_back(Outgoing::Open { stream, to });
    }

    pub(super) fn frame(&mut self, stream: StreamId, payload: Payload) {
        // A frame that is an answer goes back on the stream of the newest one.
        let payload = answer_in(self.newest.map(|(_, version)| version), payload);
        self.queue.push_back(Outgoing::Frame { stream, payload });
    }

    pub(super) fn close(&mut self, stream: StreamId) {
        self.queue.push_back(Outgoing::Close { stream });
    }

    /// The number of the next probe, inquiry or poll.
    pub(super) fn next_number(&mut self) -> u32 {
        self.number = self.number.wrapping_add(1);
        self.number
    }

    // ---- outputs --------------------------------------------------------------------------------

    /// Takes the oldest out of the queue.
    pub(crate) fn poll(&mut self) -> Option<Outgoing> {
        self.queue.pop_front()
    }

    /// Writes a message into `buffer`. Returns whether there is anything to be sent; `stream` is
    /// where a frame goes.
    pub(super) fn write(
        &mut self,
        payload: Payload,
        stream: Option<StreamId>,
        encoding: &mut Encoding<'_>,
        buffer: &mut Vec<u8>,
    ) -> bool {
        self.write_in(self.version, payload, stream, encoding, buffer)
    }

    fn write_in(
        &mut self,
        version: u8,
        payload: Payload,
        stream: Option<StreamId>,
        encoding: &mut Encoding<'_>,
        buffer: &mut Vec<u8>,
    ) -> bool {
        let Encoding { ref mut peers, schedule, is_synced, now } = *encoding;
        let header = self.header(&peers.me, is_synced, now);
        match payload {
            Payload::Join { token } => wire::encode_join(buffer, self.join_header(&peers.me, now), token, &peers.me),
            Payload::Body(body @ (Body::Challenge { .. } | Body::Introduce | Body::Refused(_))) => {
                // These go to addresses that are not proven, so they carry no gossip.
                wire::encode_in(version, buffer, header, &body);
            }
            Payload::RowRange(rows) => {
                if let Some(rest) = write_rows(version, rows, header, encoding, buffer)
                    && let Some(stream) = stream
                {
                    self.queue.push_front(Outgoing::Frame { stream, payload: Payload::RowRange(rest) });
                }
            }
            Payload::Part { parcel, offset } => {
                wire::encode_in(version, buffer, header, &Body::Part(parcel.part(offset)));
            }
            Payload::Members(ids) => {
                let rows = wire::Rows { differing: 0, more: false, welcome: false, whole: is_synced };
                wire::encode_in(version, buffer, header, &Body::Rows(rows));
                let count_at = buffer.len() - 1;
                let members = ids.iter().filter_map(|&id| peers.table.member(id));
                members.take_while(|member| wire::push_rumour(buffer, count_at, member, true)).for_each(drop);
            }
            Payload::Heartbeat { phase, wants_ack, to_new } => {
                let heartbeat = heartbeat(peers, schedule, phase, wants_ack);
                wire::encode_in(version, buffer, header, &Body::Heartbeat(heartbeat));
                push_gossip(peers, None, buffer);
                if to_new && let Some(summary) = peers.observers.summary() {
                    // Without room for it, the next heartbeat brings it.
                    wire::push_summary(buffer, summary.bytes());
                }
            }
            Payload::AckWithSummary { ack, summary } => {
                wire::encode_in(version, buffer, header, &Body::Ack(ack));
                push_gossip(peers, None, buffer);
                wire::push_summary(buffer, summary.bytes());
            }
            Payload::Sync => {
                wire::encode_sync(version, buffer, header, peers.table.digests());
                push_gossip(peers, None, buffer);
            }
            Payload::Body(body) => {
                wire::encode_in(version, buffer, header, &body);
                push_gossip(peers, None, buffer);
            }
            Payload::Gossip => {
                wire::encode_in(version, buffer, header, &Body::Gossip);
                return push_gossip(peers, None, buffer);
            }
            Payload::About(id) => {
                wire::encode_in(version, buffer, header, &Body::Gossip);
                push_gossip(peers, Some(id), buffer);
            }
            Payload::In { version, payload } => return self.write_in(version, *payload, stream, encoding, buffer),
        }
        true
    }

    // ---- questions ------------------------------------------------------------------------------

    /// The version in which messages are written.
    pub(super) fn version(&self) -> u8 {
        self.version
    }

    /// Whether a datagram is of this node's cluster.
    pub(super) fn is_own_cluster(&self, header: Header) -> bool {
        header.cluster == self.cluster
    }

    /// The header of a message. A node whose table is not synced and that has received no clock yet
    /// shows 1970, which no node follows.
    pub(super) fn header(&self, me: &Member, is_synced: bool, now: Instant) -> Header {
        let clock = self.clock.at(now, is_synced).wrapping_sub(me.generation.0);
        Header { cluster: self.cluster, from: me.id, generation: me.generation, clock }
    }

    /// The header of a join: it shows the wall clock, which no node follows.
    fn join_header(&self, me: &Member, now: Instant) -> Header {
        let clock = self.clock.own(now).wrapping_sub(me.generation.0);
        Header { cluster: self.cluster, from: me.id, generation: me.generation, clock }
    }
}

/// A message, in this version if it is an answer to a node that may be no member.
fn answer_in(version: Option<u8>, payload: Payload) -> Payload {
    let is_answer = match &payload {
        Payload::Body(body) => {
            matches!(body, Body::Challenge { .. } | Body::Introduce | Body::Refused(_) | Body::Echo(_))
        }
        Payload::RowRange(range) => range.admits,
        Payload::About(_) => true,
        Payload::Heartbeat { .. }
        | Payload::AckWithSummary { .. }
        | Payload::Join { .. }
        | Payload::Sync
        | Payload::Members(_)
        | Payload::Gossip
        | Payload::Part { .. }
        | Payload::In { .. } => false,
    };
    match version.filter(|_| is_answer) {
        Some(version) => Payload::In { version, payload: Box::new(payload) },
        None => payload,
    }
}

/// The heartbeat of the present slot to the observer of this phase.
fn heartbeat(peers: &Peers, schedule: &HeartbeatSchedule, phase: u64, wants_ack: bool) -> wire::Heartbeat {
    wire::Heartbeat {
        incarnation: peers.me.incarnation,
        stage: schedule.stage(phase),
        interval: schedule.announced(),
        slept: schedule.slept(),
        health: peers.health.score(),
        asks: wants_ack,
        observers: peers.observers.named(),
    }
}

/// Adds the row of `first`, if any, and then as much gossip as there is room for. Returns whether
/// anything was added.
fn push_gossip(peers: &mut Peers, first: Option<NodeId>, buffer: &mut Vec<u8>) -> bool {
    let count_at = buffer.len() - 1;
    if let Some(id) = first
        && let Some(member) = peers.table.member(id)
    {
        wire::push_rumour(buffer, count_at, member, id == peers.me.id);
    }
    let (table, members) = (&peers.table, peers.table.others().len() + 1);
    peers.gossip.pick(members, |id, extent| match table.member(id) {
        Some(member) => wire::push_rumour(buffer, count_at, member, extent == Extent::Row),
        None => true,
    });
    buffer[count_at] > 0
}

/// Writes one page of rows. Returns the rest, if there was no room for all.
fn write_rows(
    version: u8,
    range: RowRange,
    header: Header,
    encoding: &Encoding<'_>,
    buffer: &mut Vec<u8>,
) -> Option<RowRange> {
    let RowRange { differing, from, admits } = range;
    let Encoding { peers, is_synced, .. } = encoding;
    let rows = wire::Rows { differing, more: false, welcome: admits, whole: *is_synced };
    wire::encode_in(version, buffer, header, &Body::Rows(rows));
    let (flags_at, count_at) = (buffer.len() - 2, buffer.len() - 1);
    if from == NodeId(0) {
        // A node that is admitted has to know the node that admits it.
        wire::push_rumour(buffer, count_at, &peers.me, true);
    }
    for bucket in (0..BUCKETS).filter(|bucket| differing & 1 << bucket != 0) {
        for member in peers.table.bucket(bucket).filter(|member| member.id >= from && member.id != peers.me.id) {
            if !wire::push_rumour(buffer, count_at, member, true) {
                buffer[flags_at] |= 1;
                return Some(RowRange { from: member.id, ..range });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Status;
    use crate::membership::fixture::{Fixture, address, id, ms};
    use crate::wire::Datagram;

    /// Writes a message, and hands what was written to `assert`.
    fn write(
        node: &mut Fixture,
        payload: Payload,
        stream: Option<StreamId>,
        assert: impl FnOnce(&Datagram<'_>),
    ) -> bool {
        let schedule = HeartbeatSchedule::new(node.ctx.config.interval, ms(0));
        let mut encoding = Encoding { peers: &mut node.peers, schedule: &schedule, is_synced: true, now: node.ctx.now };
        let mut buffer = Vec::new();
        let is_sent = node.out.write(payload, stream, &mut encoding, &mut buffer);
        assert(&wire::decode(&buffer).unwrap());
        is_sent
    }

    fn ids(datagram: &Datagram<'_>) -> Vec<NodeId> {
        datagram.rumours.iter().map(|row| row.id).collect()
    }

    #[test]
    fn the_oldest_goes_first_and_only_to_known_members() {
        let mut node = Fixture::new(&["a"]);
        node.out.send_to(&node.peers, id("a"), Payload::Sync);
        node.out.send_to(&node.peers, id("stranger"), Payload::Sync);
        node.out.send(address("x"), Payload::Gossip);
        assert_eq!(node.sent(), [(address("a"), Payload::Sync), (address("x"), Payload::Gossip)]);
    }

    #[test]
    fn numbers_follow_each_other_past_the_largest() {
        let mut node = Fixture::new(&[]);
        node.out.number = u32::MAX - 1;
        assert_eq!([node.out.next_number(), node.out.next_number(), node.out.next_number()], [u32::MAX, 0, 1]);
    }

    #[test]
    fn a_message_carries_what_is_known_when_it_is_written() {
        let mut node = Fixture::new(&["a"]);
        node.peers.table.set_status(ms(0), id("a"), Status::Suspect);
        let is_sent = write(&mut node, Payload::About(id("a")), None, |datagram| {
            assert_eq!(datagram.rumours.iter().map(|row| row.status).collect::<Vec<_>>(), [Status::Suspect]);
        });
        assert!(is_sent);
    }

    #[test]
    fn gossip_is_sent_only_if_there_is_any() {
        let mut node = Fixture::new(&["a"]);
        assert!(!write(&mut node, Payload::Gossip, None, |datagram| assert_eq!(ids(datagram), [])));
        node.peers.gossip.add(id("a"), Extent::Note, ms(0));
        assert!(write(&mut node, Payload::Gossip, None, |datagram| assert_eq!(ids(datagram), [id("a")])));
    }

    #[test]
    fn addresses_that_are_not_proven_get_no_gossip() {
        let mut node = Fixture::new(&["a"]);
        node.peers.gossip.add(id("a"), Extent::Row, ms(0));
        let refused = crate::membership::table::Refusal::HasLeft.to_wire();
        for body in [Body::Challenge { token: 1 }, Body::Introduce, Body::Refused(refused)] {
            assert!(write(&mut node, Payload::Body(body), None, |datagram| assert_eq!(ids(datagram), [])));
        }
        assert!(write(&mut node, Payload::Body(Body::Hello), None, |datagram| assert_eq!(ids(datagram), [id("a")])));
    }

    #[test]
    fn over_a_stream_rows_follow_page_after_page() {
        let names: Vec<String> = (0..100).map(|index| format!("node-{index}")).collect();
        let mut node = Fixture::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let (mut next, mut received) = (Some(Payload::RowRange(RowRange::admission())), Vec::new());
        while let Some(payload) = next.take() {
            write(&mut node, payload, Some(StreamId(1)), |datagram| {
                let Body::Rows(rows) = datagram.body else { panic!("{datagram:?}") };
                assert!(rows.welcome && rows.whole);
                received.extend(ids(datagram));
            });
            if let Some(Outgoing::Frame { payload, .. }) = node.out.poll() {
                next = Some(payload);
            }
        }
        assert_eq!((received.len(), received[0]), (101, id("me")), "the own row first, and each once");
    }

    #[test]
    fn in_a_datagram_rows_that_do_not_fit_are_marked_as_left_out() {
        let names: Vec<String> = (0..100).map(|index| format!("node-{index}")).collect();
        let mut node = Fixture::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
        write(&mut node, Payload::RowRange(RowRange::of(u64::MAX)), None, |datagram| {
            assert!(matches!(datagram.body, Body::Rows(wire::Rows { more: true, welcome: false, .. })));
        });
        assert!(node.out.poll().is_none());
    }
}
