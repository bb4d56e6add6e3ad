//! `Transfers`: snapshots of shards on their way from one node to another, over streams of their
//! own.
//!
//! There is one stream for each receiver. It is opened when there is something to send and closed
//! when it was idle for a while. A snapshot is sent in parts that fit a frame. The parts that are
//! not acknowledged are bounded, so that a slow receiver holds up its sender and fills no memory.
//! Of the snapshots of one shard that wait, only the newest is kept.
//!
//! A snapshot with a number answers a request for the shard ([`Body::Ask`]): the shard does not run
//! at the sender any more. If there is no snapshot, the answer comes without one.
//!
//! Parts that are lost with a stream are sent again over the next one, for as long as the receiver
//! is a member.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::member::{NodeId, ShardKey};
use crate::membership::outbox::{Outbox, Payload};
use crate::membership::peers::Peers;
use crate::membership::streams::{StreamKind, Streams};
use crate::output::StreamId;
use crate::snapshot::ShardSnapshot;
use crate::time::{Instant, earliest};
use crate::wire::{Body, Header, PART_BYTES_MAX, Part};

/// Parts under way that are not acknowledged, at most: a quarter of a megabyte.
const WINDOW: u32 = 256;

/// The receiver acknowledges after this many parts, and at the end of a snapshot.
const ACK_EVERY: u32 = 64;

/// An outgoing stream on which nothing was sent for this long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// An outgoing stream on which nothing was acknowledged for this long is replaced by another: the
/// system may wait for minutes before it tries again to get through.
const STUCK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a snapshot that has begun to come may take to its next part.
const PART_TIMEOUT: Duration = Duration::from_secs(10);

/// An incoming stream on which no snapshot has come for this long is closed. Its sender closes it
/// after [`IDLE_TIMEOUT`].
const SILENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Nodes that may send snapshots at a time.
const SENDERS_MAX: usize = 1_024;

/// What another node sent about shards.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum ShardMessage {
    /// The sender owns these shards by its view. It waits until they do not run here any more.
    Requested { from: NodeId, number: u32, group: u64, indexes: Vec<u32> },
    /// A snapshot, or under a number the answer to a request of this node.
    Received { from: NodeId, number: u32, key: ShardKey, snapshot: Option<ShardSnapshot> },
    /// A snapshot of this node was refused for its size.
    Refused { by: Arc<str>, key: ShardKey, bytes: u64 },
}

/// One snapshot, or the answer that there is none.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Parcel {
    number: u32,
    key: ShardKey,
    snapshot: Option<ShardSnapshot>,
}

impl Parcel {
    fn bytes(&self) -> usize {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.bytes.len())
    }

    /// The part that begins at `offset`.
    pub(super) fn part(&self, offset: u32) -> Part<'_> {
        let bytes = self.snapshot.as_ref().map_or(&[][..], |snapshot| &snapshot.bytes[..]);
        let from = (offset as usize).min(bytes.len());
        let to = (from + PART_BYTES_MAX).min(bytes.len());
        let (epoch, sequence, version) = match &self.snapshot {
            Some(snapshot) => (snapshot.epoch, snapshot.sequence, snapshot.version),
            None => (crate::Epoch(0), 0, 0),
        };
        let (number, ShardKey { group, index }) = (self.number, self.key);
        let total = bytes.len() as u32;
        Part { number, group, index, epoch, sequence, version, total, offset, bytes: &bytes[from..to] }
    }
}

/// The snapshots that this node sends and receives.
#[derive(Clone, Debug, Default)]
pub(super) struct Transfers {
    outgoing: BTreeMap<NodeId, OutgoingTransfer>,
    incoming: BTreeMap<StreamId, IncomingTransfer>,
    messages: VecDeque<ShardMessage>,
    /// Bytes of snapshots that there is room for.
    room: u64,
    /// Bytes of one snapshot, at most.
    snapshot_bytes_max: u32,
}

/// Snapshots to one node.
#[derive(Clone, Debug)]
struct OutgoingTransfer {
    stream: Option<StreamId>,
    is_open: bool,
    /// Not sent, or not wholly.
    waiting: VecDeque<Parcel>,
    /// How much of the first that waits was sent.
    offset: u32,
    /// Sent and not acknowledged, each with the number of parts up to its end.
    sent: VecDeque<(u32, Parcel)>,
    parts: u32,
    acknowledged: u32,
    /// When it is tried again, replaced, or closed if there is nothing to send.
    due: Instant,
}

impl OutgoingTransfer {
    fn new(now: Instant) -> OutgoingTransfer {
        let (waiting, sent) = (VecDeque::new(), VecDeque::new());
        OutgoingTransfer { stream: None, is_open: false, waiting, offset: 0, sent, parts: 0, acknowledged: 0, due: now }
    }

    /// Handles that the stream is lost: what is not acknowledged is sent again from `again_at` on.
    fn lose_stream(&mut self, again_at: Instant) {
        self.stream = None;
        self.is_open = false;
        let unsure = std::mem::take(&mut self.sent);
        for (_, parcel) in unsure.into_iter().rev() {
            self.waiting.push_front(parcel);
        }
        (self.offset, self.parts, self.acknowledged) = (0, 0, 0);
        self.due = again_at;
    }
}

/// Snapshots from one node over one stream.
#[derive(Clone, Debug)]
struct IncomingTransfer {
    from: NodeId,
    parts: u32,
    /// The bytes of the present snapshot that have come; none if it is refused.
    bytes: Option<Vec<u8>>,
    /// The length of the present snapshot. It counts towards `ownership.copies_bytes_max` until the
    /// snapshot has come.
    total: u32,
    /// When the stream is closed if nothing more comes on it.
    due: Instant,
}

impl Transfers {
    // ---- requests of this node ------------------------------------------------------------------

    /// Sends a snapshot to a member, or the answer that there is none.
    pub(super) fn send(
        &mut self,
        to: NodeId,
        parcel: (u32, ShardKey, Option<ShardSnapshot>),
        streams: &mut Streams,
        peers: &Peers,
        out: &mut Outbox,
        now: Instant,
    ) {
        if !peers.table.member(to).is_some_and(|member| member.status.is_member()) {
            return;
        }
        let (number, key, snapshot) = parcel;
        let parcel = Parcel { number, key, snapshot };
        let transfer = self.outgoing.entry(to).or_insert_with(|| OutgoingTransfer::new(now));
        // A parcel that is half sent is sent to its end.
        let begun = usize::from(transfer.offset > 0);
        let is_same = |waiting: &&mut Parcel| waiting.key == key && (waiting.number == 0) == (number == 0);
        match transfer.waiting.iter_mut().skip(begun).find(is_same) {
            Some(waiting) => *waiting = parcel,
            None => transfer.waiting.push_back(parcel),
        }
        if transfer.sent.is_empty() && transfer.offset == 0 {
            transfer.due = now + STUCK_TIMEOUT;
        }
        self.send_window(to, streams, peers, out, now);
    }

    /// Sets how many bytes of snapshots there is room for, and how long one may be.
    pub(super) fn set_room(&mut self, room: u64, snapshot_bytes_max: u32) {
        (self.room, self.snapshot_bytes_max) = (room, snapshot_bytes_max);
    }

    /// The oldest message of another node about shards.
    pub(super) fn poll_message(&mut self) -> Option<ShardMessage> {
        self.messages.pop_front()
    }

    /// Whether all snapshots have arrived.
    pub(super) fn is_idle(&self) -> bool {
        self.outgoing.values().all(|transfer| transfer.waiting.is_empty() && transfer.sent.is_empty())
    }

    /// How many snapshots have yet to arrive.
    pub(super) fn undelivered(&self) -> usize {
        self.outgoing.values().map(|transfer| transfer.waiting.len() + transfer.sent.len()).sum()
    }

    pub(super) fn next_due(&self) -> Instant {
        let incoming = self.incoming.values().map(|transfer| transfer.due);
        earliest(Instant::NEVER, [self.outgoing.values().map(|transfer| transfer.due).chain(incoming).min()])
    }

    // ---- sending --------------------------------------------------------------------------------

    /// Sends what the window allows.
    fn send_window(&mut self, to: NodeId, streams: &mut Streams, peers: &Peers, out: &mut Outbox, now: Instant) {
        let Some(transfer) = self.outgoing.get_mut(&to) else { return };
        let Some(stream) = transfer.stream else {
            let Some(address) = peers.address(to) else { return };
            let stream = streams.add(StreamKind::OutgoingTransfer(to));
            (transfer.stream, transfer.due) = (Some(stream), now + STUCK_TIMEOUT);
            return out.open(stream, address);
        };
        while transfer.is_open && transfer.parts.wrapping_sub(transfer.acknowledged) < WINDOW {
            let Some(parcel) = transfer.waiting.front() else { break };
            out.frame(stream, Payload::Part { parcel: parcel.clone(), offset: transfer.offset });
            transfer.parts = transfer.parts.wrapping_add(1);
            transfer.offset += PART_BYTES_MAX as u32;
            if transfer.offset as usize >= parcel.bytes() {
                transfer.offset = 0;
                let sent = transfer.waiting.pop_front();
                transfer.sent.extend(sent.map(|parcel| (transfer.parts, parcel)));
            }
        }
    }

    /// Handles that the stream to a node is connected.
    pub(super) fn handle_opened(
        &mut self,
        to: NodeId,
        streams: &mut Streams,
        peers: &Peers,
        out: &mut Outbox,
        now: Instant,
    ) {
        if let Some(transfer) = self.outgoing.get_mut(&to) {
            transfer.is_open = true;
            transfer.due = now + STUCK_TIMEOUT;
        }
        self.send_window(to, streams, peers, out, now);
    }

    /// Handles how many parts the receiver has taken, and whether it `refused` the snapshot that
    /// ended with the last of them.
    pub(super) fn handle_kept(
        &mut self,
        from: NodeId,
        (parts, refused): (u32, bool),
        streams: &mut Streams,
        peers: &Peers,
        out: &mut Outbox,
        now: Instant,
    ) {
        let by = peers.table.member(from).map(|member| member.name.clone());
        let Some(transfer) = self.outgoing.get_mut(&from) else { return };
        if transfer.parts.wrapping_sub(parts) > transfer.parts.wrapping_sub(transfer.acknowledged) {
            return;
        }
        transfer.acknowledged = parts;
        while transfer.sent.front().is_some_and(|(end, _)| parts.wrapping_sub(*end) <= WINDOW)
            && let Some((end, parcel)) = transfer.sent.pop_front()
        {
            if let (true, true, Some(by)) = (refused, end == parts, by.clone()) {
                let (key, bytes) = (parcel.key, parcel.bytes() as u64);
                self.messages.push_back(ShardMessage::Refused { by, key, bytes });
            }
        }
        let is_done = transfer.sent.is_empty() && transfer.waiting.is_empty();
        transfer.due = now + if is_done { IDLE_TIMEOUT } else { STUCK_TIMEOUT };
        self.send_window(from, streams, peers, out, now);
    }

    // ---- receiving ------------------------------------------------------------------------------

    /// Handles a request for shards.
    pub(super) fn handle_request(&mut self, from: NodeId, number: u32, group: u64, indexes: &[u32]) {
        self.messages.push_back(ShardMessage::Requested { from, number, group, indexes: indexes.to_vec() });
    }

    /// Handles a part of a snapshot. The stream is closed if the part does not fit the ones before.
    pub(super) fn handle_part(
        &mut self,
        stream: StreamId,
        header: Header,
        part: &Part<'_>,
        streams: &mut Streams,
        out: &mut Outbox,
        now: Instant,
    ) {
        let kind = StreamKind::IncomingTransfer(header.from, header.generation);
        match streams.kind(stream) {
            Some(StreamKind::Unidentified) => streams.identify(stream, kind),
            known if known == Some(kind) => {}
            Some(_) | None => return self.close(stream, streams, out),
        }
        // A node has one stream for its snapshots: a new one replaces the former one.
        if !self.incoming.contains_key(&stream)
            && let Some(former) = self.other_stream_from(header.from, stream)
        {
            self.close(former, streams, out);
        }
        match self.add_part(stream, header.from, part, now) {
            Ok(Some(kept)) => out.frame(stream, Payload::Body(kept)),
            Ok(None) => {}
            Err(()) => self.close(stream, streams, out),
        }
    }

    /// Adds a part to its snapshot. Returns the acknowledgement, if one is due.
    fn add_part(
        &mut self,
        stream: StreamId,
        from: NodeId,
        part: &Part<'_>,
        now: Instant,
    ) -> Result<Option<Body<'static>>, ()> {
        if self.incoming.len() >= SENDERS_MAX && !self.incoming.contains_key(&stream) {
            return Err(());
        }
        let unfinished = self.unfinished(stream);
        let new = IncomingTransfer { from, parts: 0, bytes: None, total: 0, due: now };
        let transfer = self.incoming.entry(stream).or_insert(new);
        transfer.parts = transfer.parts.wrapping_add(1);
        if part.offset == 0 {
            let fits = part.total <= self.snapshot_bytes_max && unfinished + u64::from(part.total) <= self.room;
            transfer.bytes = fits.then(Vec::new);
            transfer.total = if fits { part.total } else { 0 };
        }
        // A stream keeps the order of its parts.
        if transfer.bytes.as_ref().is_some_and(|bytes| bytes.len() != part.offset as usize) {
            return Err(());
        }
        if let Some(bytes) = &mut transfer.bytes {
            bytes.extend_from_slice(part.bytes);
        }
        let is_end = part.offset as usize + part.bytes.len() >= part.total as usize;
        let (parts, refused) = (transfer.parts, is_end && transfer.bytes.is_none());
        transfer.due = now + if is_end { SILENT_TIMEOUT } else { PART_TIMEOUT };
        if is_end {
            let bytes = transfer.bytes.take();
            transfer.total = 0;
            let Part { number, group, index, epoch, sequence, version, .. } = *part;
            let snapshot = bytes.filter(|_| sequence > 0);
            let snapshot = snapshot.map(|bytes| ShardSnapshot { epoch, sequence, version, bytes: bytes.into() });
            // That the shard does not run there any more counts even if its snapshot does not fit.
            if number != 0 || snapshot.is_some() {
                let (from, key) = (transfer.from, ShardKey { group, index });
                self.messages.push_back(ShardMessage::Received { from, number, key, snapshot });
            }
        }
        let is_acknowledged = is_end || parts.is_multiple_of(ACK_EVERY);
        Ok(is_acknowledged.then_some(Body::Kept { parts, refused }))
    }

    /// Bytes of snapshots that have begun to come over other streams than this one.
    fn unfinished(&self, but: StreamId) -> u64 {
        let others = self.incoming.iter().filter(|(stream, _)| **stream != but);
        others.map(|(_, transfer)| u64::from(transfer.total)).sum()
    }

    /// Another stream than this one over which a node sends snapshots.
    fn other_stream_from(&self, from: NodeId, but: StreamId) -> Option<StreamId> {
        let is_other = |(stream, transfer): &(&StreamId, &IncomingTransfer)| transfer.from == from && **stream != but;
        self.incoming.iter().find(is_other).map(|(stream, _)| *stream)
    }

    // ---- streams --------------------------------------------------------------------------------

    fn close(&mut self, stream: StreamId, streams: &mut Streams, out: &mut Outbox) {
        self.forget(stream, Instant::ZERO);
        streams.close(stream, out);
    }

    /// Forgets a stream that is closed. Parts that were not acknowledged on it are sent again from
    /// `again_at` on.
    pub(super) fn forget(&mut self, stream: StreamId, again_at: Instant) {
        self.incoming.remove(&stream);
        for transfer in self.outgoing.values_mut().filter(|transfer| transfer.stream == Some(stream)) {
            transfer.lose_stream(again_at);
        }
    }

    /// Forgets all streams.
    pub(super) fn forget_all(&mut self) {
        self.incoming.clear();
        let connected = self.outgoing.values_mut().filter(|transfer| transfer.stream.is_some());
        connected.for_each(|transfer| transfer.lose_stream(Instant::ZERO));
    }

    /// Handles that a process is no member any more: nothing is sent to it or received from it. Its
    /// incoming streams are closed already.
    pub(super) fn cancel(&mut self, id: NodeId, streams: &mut Streams, out: &mut Outbox) {
        self.incoming.retain(|_, transfer| transfer.from != id);
        if let Some(transfer) = self.outgoing.remove(&id)
            && let Some(stream) = transfer.stream
        {
            streams.close(stream, out);
        }
    }

    /// Opens streams again that were lost, and closes those on which nothing is sent.
    pub(super) fn handle_timeout(&mut self, streams: &mut Streams, peers: &Peers, out: &mut Outbox, now: Instant) {
        let silent = self.incoming.iter().filter(|(_, transfer)| transfer.due <= now).map(|(stream, _)| *stream);
        for stream in silent.collect::<Vec<_>>() {
            self.close(stream, streams, out);
        }
        let due = self.outgoing.iter().filter(|(_, transfer)| transfer.due <= now).map(|(id, _)| *id);
        for id in due.collect::<Vec<_>>() {
            let Some(transfer) = self.outgoing.get_mut(&id) else { continue };
            let stream = transfer.stream;
            if transfer.waiting.is_empty() && transfer.sent.is_empty() {
                self.outgoing.remove(&id);
            }
            if let Some(stream) = stream {
                self.close(stream, streams, out);
            }
            self.send_window(id, streams, peers, out, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Epoch;
    use crate::membership::fixture::{Fixture, header, id, ms};
    use crate::membership::outbox::Outgoing;

    const KEY: ShardKey = ShardKey { group: 1, index: 2 };
    const STREAM: StreamId = StreamId(1);

    fn snapshot(bytes: usize) -> ShardSnapshot {
        ShardSnapshot { epoch: Epoch(5), sequence: 1, version: 3, bytes: vec![7; bytes].into() }
    }

    /// A node that knows `a`, its streams and its transfers.
    fn start() -> (Fixture, Streams, Transfers) {
        let node = Fixture::new(&["a"]);
        let streams = Streams::new(&node.ctx.config);
        let mut transfers = Transfers::default();
        transfers.set_room(1_000_000, 100_000);
        (node, streams, transfers)
    }

    /// Sends a snapshot of this many bytes to `a`, over a stream that is open.
    fn send(node: &mut Fixture, streams: &mut Streams, transfers: &mut Transfers, bytes: usize) {
        let parcel = (0, KEY, Some(snapshot(bytes)));
        transfers.send(id("a"), parcel, streams, &node.peers, &mut node.out, ms(0));
        transfers.handle_opened(id("a"), streams, &node.peers, &mut node.out, ms(0));
    }

    /// The frames, and whether a stream was closed.
    fn frames(node: &mut Fixture) -> (Vec<Payload>, bool) {
        let (mut frames, mut is_closed) = (Vec::new(), false);
        while let Some(outgoing) = node.out.poll() {
            match outgoing {
                Outgoing::Frame { payload, .. } => frames.push(payload),
                Outgoing::Close { .. } => is_closed = true,
                Outgoing::Open { .. } | Outgoing::Send { .. } => {}
            }
        }
        (frames, is_closed)
    }

    fn kept(node: &mut Fixture, streams: &mut Streams, transfers: &mut Transfers, parts: u32, refused: bool) {
        transfers.handle_kept(id("a"), (parts, refused), streams, &node.peers, &mut node.out, ms(0));
    }

    #[track_caller]
    fn check_parts(bytes: usize, expected: usize) {
        let (mut node, mut streams, mut transfers) = start();
        send(&mut node, &mut streams, &mut transfers, bytes);
        assert_eq!(frames(&mut node).0.len(), expected, "{bytes} bytes");
        assert!(!transfers.is_idle());
        kept(&mut node, &mut streams, &mut transfers, expected as u32, false);
        assert!(transfers.is_idle() && transfers.undelivered() == 0);
    }

    #[test]
    fn a_snapshot_goes_in_parts_that_fit_a_frame() {
        check_parts(0, 1);
        check_parts(1, 1);
        check_parts(PART_BYTES_MAX, 1);
        check_parts(PART_BYTES_MAX + 1, 2);
    }

    #[test]
    fn parts_that_are_not_acknowledged_are_bounded() {
        let (mut node, mut streams, mut transfers) = start();
        send(&mut node, &mut streams, &mut transfers, PART_BYTES_MAX * (WINDOW as usize + 2));
        assert_eq!(frames(&mut node).0.len(), WINDOW as usize);
        kept(&mut node, &mut streams, &mut transfers, 1, false);
        assert_eq!(frames(&mut node).0.len(), 1);
        kept(&mut node, &mut streams, &mut transfers, 1, false);
        kept(&mut node, &mut streams, &mut transfers, WINDOW * 2, false);
        assert_eq!(frames(&mut node).0.len(), 0, "a duplicate, and more than was sent");
    }

    #[test]
    fn of_the_snapshots_that_wait_the_newest_is_sent() {
        let (mut node, mut streams, mut transfers) = start();
        for bytes in [10, 20, 30] {
            let parcel = (0, KEY, Some(snapshot(bytes)));
            transfers.send(id("a"), parcel, &mut streams, &node.peers, &mut node.out, ms(0));
        }
        assert_eq!(transfers.undelivered(), 1);
        transfers.send(id("a"), (9, KEY, None), &mut streams, &node.peers, &mut node.out, ms(0));
        assert_eq!(transfers.undelivered(), 2, "an answer is a thing of its own");
        transfers.send(id("stranger"), (0, KEY, None), &mut streams, &node.peers, &mut node.out, ms(0));
        assert_eq!(transfers.undelivered(), 2);
    }

    #[test]
    fn what_a_lost_stream_carried_is_sent_again() {
        let (mut node, mut streams, mut transfers) = start();
        send(&mut node, &mut streams, &mut transfers, 10);
        streams.forget(STREAM);
        transfers.forget(STREAM, ms(500));
        assert_eq!((transfers.undelivered(), transfers.next_due()), (1, ms(500)));
        frames(&mut node);
        transfers.handle_timeout(&mut streams, &node.peers, &mut node.out, ms(500));
        transfers.handle_opened(id("a"), &mut streams, &node.peers, &mut node.out, ms(500));
        assert_eq!(frames(&mut node).0.len(), 1);
        transfers.cancel(id("a"), &mut streams, &mut node.out);
        assert!(transfers.is_idle() && frames(&mut node).1);
    }

    #[test]
    fn an_idle_stream_is_closed_after_10_s_and_a_stuck_one_after_2() {
        for (acknowledged, due) in [(true, ms(10_000)), (false, ms(2_000))] {
            let (mut node, mut streams, mut transfers) = start();
            send(&mut node, &mut streams, &mut transfers, 10);
            if acknowledged {
                kept(&mut node, &mut streams, &mut transfers, 1, false);
            }
            frames(&mut node);
            assert_eq!(transfers.next_due(), due);
            let just_before = Instant::from_nanos(due.as_nanos() - 1);
            transfers.handle_timeout(&mut streams, &node.peers, &mut node.out, just_before);
            assert!(!frames(&mut node).1);
            transfers.handle_timeout(&mut streams, &node.peers, &mut node.out, due);
            assert!(frames(&mut node).1);
            assert_eq!(transfers.undelivered(), usize::from(!acknowledged));
        }
    }

    /// A part of a snapshot of `total` bytes, from `offset` on.
    fn part(total: u32, offset: u32, bytes: &[u8]) -> Part<'_> {
        Part { number: 0, group: 1, index: 2, epoch: Epoch(5), sequence: 1, version: 3, total, offset, bytes }
    }

    /// Handles these parts on an accepted stream. Returns the frames, and whether it was closed.
    fn receive(transfers: &mut Transfers, parts: &[Part<'_>]) -> (Vec<Payload>, bool) {
        let (mut node, mut streams, _) = start();
        let stream = streams.handle_accepted(&mut node.out, &node.ctx);
        for part in parts {
            transfers.handle_part(stream, header("a"), part, &mut streams, &mut node.out, ms(0));
        }
        frames(&mut node)
    }

    fn acknowledged(parts: u32, refused: bool) -> (Vec<Payload>, bool) {
        (vec![Payload::Body(Body::Kept { parts, refused })], false)
    }

    #[test]
    fn a_snapshot_is_put_together_and_acknowledged() {
        let (_, _, mut transfers) = start();
        let frames = receive(&mut transfers, &[part(4, 0, b"ab"), part(4, 2, b"cd")]);
        assert_eq!(frames, acknowledged(2, false));
        let snapshot = Some(ShardSnapshot { bytes: (*b"abcd").into(), ..snapshot(0) });
        let expected = ShardMessage::Received { from: id("a"), number: 0, key: KEY, snapshot };
        assert_eq!((transfers.poll_message(), transfers.poll_message()), (Some(expected), None));
    }

    #[test]
    fn a_part_out_of_order_closes_the_stream() {
        let (_, _, mut transfers) = start();
        assert_eq!(receive(&mut transfers, &[part(4, 0, b"ab"), part(4, 3, b"d")]), (vec![], true));
        assert_eq!(transfers.poll_message(), None);
        let duplicate = receive(&mut transfers, &[part(6, 0, b"ab"), part(6, 2, b"cd"), part(6, 2, b"cd")]);
        assert_eq!(duplicate, (vec![], true));
    }

    #[test]
    fn a_snapshot_over_its_bound_is_refused() {
        for (room, bytes_max, refused) in [(4, 4, false), (3, 4, true), (4, 3, true)] {
            let (_, _, mut transfers) = start();
            transfers.set_room(room, bytes_max);
            assert_eq!(receive(&mut transfers, &[part(4, 0, b"abcd")]), acknowledged(1, refused));
            assert_eq!(transfers.poll_message().is_none(), refused);
        }
    }

    #[test]
    fn a_refused_snapshot_is_reported_with_its_size() {
        let (mut node, mut streams, mut transfers) = start();
        send(&mut node, &mut streams, &mut transfers, 10);
        kept(&mut node, &mut streams, &mut transfers, 1, true);
        let refused = ShardMessage::Refused { by: "a".into(), key: KEY, bytes: 10 };
        assert_eq!(transfers.poll_message(), Some(refused));
    }
}
