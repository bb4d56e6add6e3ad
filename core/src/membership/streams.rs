//! `Streams`: lifelines, connection probes, and the streams that carry tables and snapshots.
//!
//! Each node keeps one connection to each of its observers, its *lifelines*, and sends nothing on
//! it but who it is. The operating system closes it when the process ends, however it ends, so its
//! end is evidence. It is no verdict: a restart, or a box between the two, closes connections as
//! well. The observer tries to connect. If the connection is refused, no process listens there any
//! more, and the observer asks the other observers at once ([`super::inquiry`]). Few such
//! connection probes are under way at a time, so that a switch that drops a thousand lifelines does
//! not cause a storm.
//!
//! The system of a process that ends closes its connections before its port, and on a busy host
//! there is time between the two. A connection may then still be accepted, with no process to
//! answer. So a connection says nothing by itself: the observer sends a probe on it, and repeats
//! the attempt if the stream ends without an answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::config::Config;
use crate::ctx::Ctx;
use crate::member::{Generation, NodeId};
use crate::membership::outbox::{Outbox, Payload};
use crate::membership::peers::Peers;
use crate::output::StreamId;
use crate::time::{Instant, earliest};

/// Connection probes that are under way at a time.
const CONNECT_PROBES_MAX: usize = 16;

/// How often a connection probe is repeated that was accepted and not answered. The second may
/// still have been accepted by the process that ends; the third waits for its port to close.
const REPEATS_MAX: u8 = 3;

/// Accepted streams whose sender is not known yet, at most; the oldest gives way.
const UNIDENTIFIED_MAX: usize = 64;

/// How long an accepted stream may take to say who its sender is.
const IDENTIFY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a table that is fetched may take to its next page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(3);

/// What a stream is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StreamKind {
    /// This node's lifeline to an observer.
    Outbound(NodeId),
    /// Accepted, and its sender is not known yet.
    Unidentified,
    /// The lifeline of a node, in this start of its process.
    Inbound(NodeId, Generation),
    /// An attempt to connect to a node that may have ended.
    ConnectProbe(NodeId),
    /// Rows of the table of a node; whether it admits this one by them.
    TablePull { from: NodeId, admits: bool },
    /// Snapshots to a node.
    OutgoingTransfer(NodeId),
    /// Snapshots from a node, in this start of its process.
    IncomingTransfer(NodeId, Generation),
}

/// An attempt to connect to a node that may have ended.
#[derive(Clone, Copy, Debug)]
struct ConnectProbe {
    stream: StreamId,
    /// When it is given up.
    by: Instant,
    /// How often it may still be repeated.
    repeats: u8,
}

/// The streams of this node.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    has_lifelines: bool,
    /// The number of the newest stream.
    newest: u64,
    kinds: BTreeMap<StreamId, StreamKind>,
    /// Accepted streams whose sender is not known, the oldest first.
    unidentified: VecDeque<(Instant, StreamId)>,
    /// Lifelines of other nodes.
    inbound: BTreeMap<NodeId, StreamId>,
    /// Nodes whose lifeline has come here, ended or not. Of these, a refused connection is
    /// evidence.
    had_lifeline: BTreeSet<NodeId>,
    /// This node's lifelines, by observer.
    outbound: BTreeMap<NodeId, StreamId>,
    connect_probes: BTreeMap<NodeId, ConnectProbe>,
    /// Nodes that wait for a connection probe.
    to_probe: VecDeque<NodeId>,
    /// The stream over which a table is fetched, and by when its next page has to come.
    pull: Option<(Instant, StreamId)>,
    /// Nodes whose address refused the last connection probe.
    refused: BTreeSet<NodeId>,
}

impl Streams {
    pub(super) fn new(config: &Config) -> Streams {
        Streams {
            has_lifelines: config.membership.lifelines,
            newest: 0,
            kinds: BTreeMap::new(),
            unidentified: VecDeque::new(),
            inbound: BTreeMap::new(),
            had_lifeline: BTreeSet::new(),
            outbound: BTreeMap::new(),
            connect_probes: BTreeMap::new(),
            to_probe: VecDeque::new(),
            pull: None,
            refused: BTreeSet::new(),
        }
    }

    // ---- questions ------------------------------------------------------------------------------

    pub(super) fn next_due(&self) -> Instant {
        let unidentified = self.unidentified.front().map(|(at, _)| *at + IDENTIFY_TIMEOUT);
        let probe = self.connect_probes.values().map(|probe| probe.by).min();
        earliest(Instant::NEVER, [unidentified, probe, self.pull.map(|(by, _)| by)])
    }

    pub(super) fn kind(&self, stream: StreamId) -> Option<StreamKind> {
        self.kinds.get(&stream).copied()
    }

    /// Whether the last connection probe of this node was refused.
    pub(super) fn was_refused(&self, id: NodeId) -> bool {
        self.refused.contains(&id)
    }

    // ---- any stream -----------------------------------------------------------------------------

    /// The number of a new stream.
    pub(super) fn add(&mut self, kind: StreamKind) -> StreamId {
        self.newest += 1;
        let stream = StreamId(self.newest);
        self.kinds.insert(stream, kind);
        stream
    }

    /// Handles that a stream was accepted. If there are too many, the oldest that has not said who
    /// its sender is gives way: idle connections keep no lifeline out.
    pub(super) fn handle_accepted(&mut self, out: &mut Outbox, ctx: &Ctx) -> StreamId {
        let stream = self.add(StreamKind::Unidentified);
        let members_max = ctx.config.membership.members_max as usize;
        if self.inbound.len() >= members_max {
            self.close(stream, out);
            return stream;
        }
        if self.unidentified.len() >= UNIDENTIFIED_MAX
            && let Some((_, oldest)) = self.unidentified.pop_front()
        {
            self.close(oldest, out);
        }
        self.unidentified.push_back((ctx.now, stream));
        stream
    }

    /// Handles that a stream was accepted while this node accepts none.
    pub(super) fn reject_accepted(&mut self, out: &mut Outbox) -> StreamId {
        let stream = self.add(StreamKind::Unidentified);
        self.close(stream, out);
        stream
    }

    /// Gives an accepted stream its purpose.
    pub(super) fn identify(&mut self, stream: StreamId, kind: StreamKind) {
        self.unidentified.retain(|(_, unidentified)| *unidentified != stream);
        self.kinds.insert(stream, kind);
    }

    pub(super) fn close(&mut self, stream: StreamId, out: &mut Outbox) {
        self.forget(stream);
        out.close(stream);
    }

    /// Forgets a stream that is closed. A later one may have taken its place already.
    pub(super) fn forget(&mut self, stream: StreamId) {
        let is_it = |now: &StreamId| *now == stream;
        match self.kinds.remove(&stream) {
            Some(StreamKind::Outbound(id)) => remove_if(&mut self.outbound, id, is_it),
            Some(StreamKind::Inbound(id, _)) => remove_if(&mut self.inbound, id, is_it),
            Some(StreamKind::ConnectProbe(id)) => {
                remove_if(&mut self.connect_probes, id, |probe| probe.stream == stream);
            }
            Some(StreamKind::Unidentified) => self.unidentified.retain(|(_, unidentified)| *unidentified != stream),
            Some(StreamKind::TablePull { .. }) => self.pull = None,
            Some(StreamKind::OutgoingTransfer(_) | StreamKind::IncomingTransfer(..)) | None => {}
        }
    }

    /// Closes what is open to and from a process that has ended, or was replaced by a later one.
    pub(super) fn close_all_of(&mut self, id: NodeId, out: &mut Outbox) {
        self.refused.remove(&id);
        self.had_lifeline.remove(&id);
        self.to_probe.retain(|waiting| *waiting != id);
        self.close_lifeline_to(id, out);
        if let Some(stream) = self.inbound.remove(&id) {
            self.close(stream, out);
        }
        if let Some(probe) = self.connect_probes.remove(&id) {
            self.close(probe.stream, out);
        }
        let is_transfer = |kind: &StreamKind| matches!(kind, StreamKind::IncomingTransfer(from, _) if *from == id);
        let transfers = self.kinds.iter().filter(|(_, kind)| is_transfer(kind)).map(|(stream, _)| *stream);
        transfers.collect::<Vec<_>>().into_iter().for_each(|stream| self.close(stream, out));
    }

    /// Closes all streams at once: a later process uses the name of this one.
    pub(super) fn close_all(&mut self, out: &mut Outbox) {
        self.abort_lifelines(out);
        let rest: Vec<StreamId> = self.kinds.keys().copied().collect();
        rest.into_iter().for_each(|stream| self.close(stream, out));
        self.to_probe.clear();
    }

    /// Closes accepted streams that did not say who their sender is, and a stream that brings no
    /// more of a table. Begins the connection probes that wait.
    pub(super) fn handle_timeout(&mut self, peers: &Peers, out: &mut Outbox, ctx: &Ctx) {
        self.begin_connect_probes(peers, out, ctx);
        if let Some((_, stream)) = self.pull.filter(|(by, _)| *by <= ctx.now) {
            self.close(stream, out);
        }
        while let Some(&(at, stream)) = self.unidentified.front()
            && at + IDENTIFY_TIMEOUT <= ctx.now
        {
            self.unidentified.pop_front();
            self.close(stream, out);
        }
    }

    // ---- lifelines ------------------------------------------------------------------------------

    /// Opens this node's lifeline to an observer, if it is not open.
    pub(super) fn open_lifeline(&mut self, id: NodeId, peers: &Peers, out: &mut Outbox) {
        if !self.has_lifelines || self.outbound.contains_key(&id) {
            return;
        }
        let Some(to) = peers.address(id) else { return };
        let stream = self.add(StreamKind::Outbound(id));
        self.outbound.insert(id, stream);
        out.open(stream, to);
    }

    /// Opens the lifelines that are missing: an observer that did not know this node yet has closed
    /// its lifeline.
    pub(super) fn open_missing_lifelines(&mut self, peers: &Peers, out: &mut Outbox) {
        peers.observers.slots().iter().for_each(|slot| self.open_lifeline(slot.id, peers, out));
    }

    pub(super) fn close_lifeline_to(&mut self, id: NodeId, out: &mut Outbox) {
        if let Some(stream) = self.outbound.remove(&id) {
            self.close(stream, out);
        }
    }

    /// Closes this node's lifelines gracefully: the last frame on each is the node's own row.
    pub(super) fn close_lifelines(&mut self, me: NodeId, out: &mut Outbox) {
        for stream in std::mem::take(&mut self.outbound).into_values() {
            out.frame(stream, Payload::About(me));
            self.close(stream, out);
        }
    }

    /// Closes this node's lifelines without a last frame.
    pub(super) fn abort_lifelines(&mut self, out: &mut Outbox) {
        for stream in std::mem::take(&mut self.outbound).into_values() {
            self.close(stream, out);
        }
    }

    /// Handles the first frame on the lifeline of another node. It replaces a former one.
    pub(super) fn handle_hello(&mut self, stream: StreamId, id: NodeId, generation: Generation, out: &mut Outbox) {
        self.identify(stream, StreamKind::Inbound(id, generation));
        self.had_lifeline.insert(id);
        if let Some(former) = self.inbound.insert(id, stream) {
            self.close(former, out);
        }
    }

    // ---- connection probes ----------------------------------------------------------------------

    /// Handles that a node is silent. The end of its lifeline may have been lost, or may have come
    /// while it could not be followed.
    pub(super) fn handle_silence(&mut self, id: NodeId, peers: &Peers, out: &mut Outbox, ctx: &Ctx) {
        if self.had_lifeline.contains(&id) {
            self.probe_connection(id, peers, out, ctx);
        }
    }

    /// Tries to connect to a node that may have ended.
    pub(super) fn probe_connection(&mut self, id: NodeId, peers: &Peers, out: &mut Outbox, ctx: &Ctx) {
        if self.connect_probes.contains_key(&id) || self.to_probe.contains(&id) {
            return;
        }
        self.refused.remove(&id);
        self.to_probe.push_back(id);
        self.begin_connect_probes(peers, out, ctx);
    }

    /// Begins the connection probes that wait, as many as may be under way.
    pub(super) fn begin_connect_probes(&mut self, peers: &Peers, out: &mut Outbox, ctx: &Ctx) {
        while self.connect_probes.len() < CONNECT_PROBES_MAX
            && let Some(id) = self.to_probe.pop_front()
        {
            self.connect(id, ctx.now + ctx.config.interval, REPEATS_MAX, peers, out);
        }
    }

    fn connect(&mut self, id: NodeId, by: Instant, repeats: u8, peers: &Peers, out: &mut Outbox) {
        let Some(to) = peers.address(id) else { return };
        let stream = self.add(StreamKind::ConnectProbe(id));
        self.connect_probes.insert(id, ConnectProbe { stream, by, repeats });
        out.open(stream, to);
    }

    /// Handles that a connection probe was accepted and ended without an answer. Returns whether it
    /// is repeated.
    pub(super) fn repeat_connect_probe(
        &mut self,
        id: NodeId,
        stream: StreamId,
        peers: &Peers,
        out: &mut Outbox,
    ) -> bool {
        let probe = self.connect_probes.get(&id).copied().filter(|probe| probe.stream == stream && probe.repeats > 0);
        self.forget(stream);
        if let Some(probe) = probe {
            self.connect(id, probe.by, probe.repeats - 1, peers, out);
        }
        probe.is_some()
    }

    /// Connection probes whose time is over, each with the node that it tried to reach.
    pub(super) fn overdue_connect_probes(&self, now: Instant) -> Vec<(NodeId, StreamId)> {
        let is_over = |(_, probe): &(&NodeId, &ConnectProbe)| probe.by <= now;
        self.connect_probes.iter().filter(is_over).map(|(&id, probe)| (id, probe.stream)).collect()
    }

    /// Handles that the address of a node refused a connection.
    pub(super) fn note_refused(&mut self, id: NodeId) {
        self.refused.insert(id);
    }

    // ---- tables ---------------------------------------------------------------------------------

    /// Fetches the rows that differ over a stream, unless a table is being fetched already.
    pub(super) fn pull_table(&mut self, from: NodeId, admits: bool, peers: &Peers, out: &mut Outbox, now: Instant) {
        if self.pull.is_some() {
            return;
        }
        let Some(to) = peers.address(from) else { return };
        let stream = self.add(StreamKind::TablePull { from, admits });
        self.pull = Some((now + PAGE_TIMEOUT, stream));
        out.open(stream, to);
    }

    /// Handles a page of a table.
    pub(super) fn handle_page(&mut self, stream: StreamId, now: Instant) {
        self.pull = Some((now + PAGE_TIMEOUT, stream));
    }
}

/// Removes the value of a key if it is the expected one.
fn remove_if<V>(map: &mut BTreeMap<NodeId, V>, id: NodeId, is_it: impl FnOnce(&V) -> bool) {
    if map.get(&id).is_some_and(is_it) {
        map.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::fixture::{Fixture, GENERATION, address, id, ms};
    use crate::membership::outbox::Outgoing;

    fn start(others: &[&str]) -> (Fixture, Streams) {
        let node = Fixture::new(others);
        let streams = Streams::new(&node.ctx.config);
        (node, streams)
    }

    /// All that is to be done with streams since this was last asked.
    fn outgoing(node: &mut Fixture) -> Vec<Outgoing> {
        std::iter::from_fn(|| node.out.poll()).collect()
    }

    #[test]
    fn an_observer_has_one_lifeline() {
        let (mut node, mut streams) = start(&["a"]);
        for _ in 0..2 {
            streams.open_lifeline(id("a"), &node.peers, &mut node.out);
        }
        streams.open_lifeline(id("stranger"), &node.peers, &mut node.out);
        assert_eq!(outgoing(&mut node), [Outgoing::Open { stream: StreamId(1), to: address("a") }]);
        streams.forget(StreamId(1));
        streams.open_lifeline(id("a"), &node.peers, &mut node.out);
        assert_eq!(outgoing(&mut node), [Outgoing::Open { stream: StreamId(2), to: address("a") }]);
        streams.forget(StreamId(1));
        streams.close_lifeline_to(id("a"), &mut node.out);
        assert_eq!(outgoing(&mut node), [Outgoing::Close { stream: StreamId(2) }]);
    }

    #[test]
    fn lifelines_end_with_the_row_of_this_node() {
        let (mut node, mut streams) = start(&["a"]);
        streams.open_lifeline(id("a"), &node.peers, &mut node.out);
        outgoing(&mut node);
        streams.close_lifelines(id("me"), &mut node.out);
        let payload = Payload::About(id("me"));
        let stream = StreamId(1);
        assert_eq!(outgoing(&mut node), [Outgoing::Frame { stream, payload }, Outgoing::Close { stream }]);
    }

    #[test]
    fn streams_without_a_sender_are_bounded_in_number_and_time() {
        let (mut node, mut streams) = start(&[]);
        for _ in 0..UNIDENTIFIED_MAX {
            streams.handle_accepted(&mut node.out, &node.ctx);
        }
        assert_eq!(outgoing(&mut node), []);
        streams.handle_accepted(&mut node.out, &node.ctx);
        assert_eq!(outgoing(&mut node), [Outgoing::Close { stream: StreamId(1) }], "the oldest gives way");
        assert_eq!(streams.next_due(), ms(5_000));
        streams.identify(StreamId(2), StreamKind::Inbound(id("a"), GENERATION));
        node.at(Instant::from_nanos(ms(5_000).as_nanos() - 1));
        streams.handle_timeout(&node.peers, &mut node.out, &node.ctx);
        assert_eq!(outgoing(&mut node), []);
        node.at(ms(5_000));
        streams.handle_timeout(&node.peers, &mut node.out, &node.ctx);
        assert_eq!(outgoing(&mut node).len(), UNIDENTIFIED_MAX - 1, "the identified one stays");
        assert_eq!(streams.kind(StreamId(2)), Some(StreamKind::Inbound(id("a"), GENERATION)));
    }

    #[test]
    fn a_second_lifeline_of_a_node_replaces_the_first() {
        let (mut node, mut streams) = start(&["a"]);
        let accepted = [(); 2].map(|()| streams.handle_accepted(&mut node.out, &node.ctx));
        for stream in accepted {
            streams.handle_hello(stream, id("a"), GENERATION, &mut node.out);
        }
        assert_eq!(outgoing(&mut node), [Outgoing::Close { stream: accepted[0] }]);
        assert_eq!(streams.kind(accepted[0]), None);
    }

    #[test]
    fn silence_is_followed_only_of_nodes_that_had_a_lifeline() {
        let (mut node, mut streams) = start(&["a"]);
        streams.handle_silence(id("a"), &node.peers, &mut node.out, &node.ctx);
        assert_eq!(outgoing(&mut node), []);
        let stream = streams.handle_accepted(&mut node.out, &node.ctx);
        streams.handle_hello(stream, id("a"), GENERATION, &mut node.out);
        streams.handle_silence(id("a"), &node.peers, &mut node.out, &node.ctx);
        streams.handle_silence(id("a"), &node.peers, &mut node.out, &node.ctx);
        assert_eq!(outgoing(&mut node), [Outgoing::Open { stream: StreamId(2), to: address("a") }]);
    }

    #[test]
    fn few_connection_probes_are_under_way_at_a_time() {
        let names: Vec<String> = (0..=CONNECT_PROBES_MAX).map(|index| format!("node-{index}")).collect();
        let (mut node, mut streams) = start(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for name in &names {
            streams.probe_connection(id(name), &node.peers, &mut node.out, &node.ctx);
        }
        assert_eq!(outgoing(&mut node).len(), CONNECT_PROBES_MAX);
        streams.forget(StreamId(1));
        streams.begin_connect_probes(&node.peers, &mut node.out, &node.ctx);
        assert_eq!(outgoing(&mut node).len(), 1, "the last one had to wait");
    }

    #[test]
    fn a_connection_probe_that_ends_is_repeated_three_times() {
        let (mut node, mut streams) = start(&["a"]);
        streams.probe_connection(id("a"), &node.peers, &mut node.out, &node.ctx);
        for stream in 1..=3 {
            assert!(streams.repeat_connect_probe(id("a"), StreamId(stream), &node.peers, &mut node.out));
        }
        assert!(!streams.repeat_connect_probe(id("a"), StreamId(4), &node.peers, &mut node.out));
        assert_eq!(streams.next_due(), Instant::NEVER);
    }

    #[test]
    fn a_connection_probe_is_given_up_after_an_interval() {
        let (mut node, mut streams) = start(&["a"]);
        streams.probe_connection(id("a"), &node.peers, &mut node.out, &node.ctx);
        assert_eq!(streams.overdue_connect_probes(Instant::from_nanos(ms(1_000).as_nanos() - 1)), []);
        assert_eq!(streams.overdue_connect_probes(ms(1_000)), [(id("a"), StreamId(1))]);
    }

    #[test]
    fn one_table_is_fetched_at_a_time_and_given_up_after_3_s() {
        let (mut node, mut streams) = start(&["a", "b"]);
        streams.pull_table(id("a"), true, &node.peers, &mut node.out, ms(0));
        streams.pull_table(id("b"), true, &node.peers, &mut node.out, ms(0));
        assert_eq!(outgoing(&mut node), [Outgoing::Open { stream: StreamId(1), to: address("a") }]);
        streams.handle_page(StreamId(1), ms(2_000));
        assert_eq!(streams.next_due(), ms(5_000));
        node.at(ms(5_000));
        streams.handle_timeout(&node.peers, &mut node.out, &node.ctx);
        assert_eq!(outgoing(&mut node), [Outgoing::Close { stream: StreamId(1) }]);
    }

    #[test]
    fn the_streams_of_an_ended_process_are_closed() {
        let (mut node, mut streams) = start(&["a"]);
        streams.open_lifeline(id("a"), &node.peers, &mut node.out);
        let stream = streams.handle_accepted(&mut node.out, &node.ctx);
        streams.handle_hello(stream, id("a"), GENERATION, &mut node.out);
        streams.probe_connection(id("a"), &node.peers, &mut node.out, &node.ctx);
        streams.note_refused(id("a"));
        outgoing(&mut node);
        streams.close_all_of(id("a"), &mut node.out);
        assert_eq!(outgoing(&mut node).len(), 3);
        assert!(!streams.was_refused(id("a")) && streams.next_due() == Instant::NEVER);
        streams.handle_silence(id("a"), &node.peers, &mut node.out, &node.ctx);
        assert_eq!(outgoing(&mut node), [], "a later process has yet to open a lifeline");
    }
}
