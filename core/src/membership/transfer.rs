//! Snapshots of shards on their way from one node to another, over streams of their own.
//!
//! One stream for each node that is sent any, opened when there is something to send and closed
//! when there was nothing for a while. A snapshot goes in parts that fit a frame. What is under way
//! and not acknowledged is bounded, so that a slow receiver holds up its sender and fills nobody's
//! memory. Of a shard's snapshots that wait, only the newest does.
//!
//! A delivery under a number answers who asked for the shard ([`Body::Ask`]): it says that the
//! shard does not run there any more, with the newest snapshot, if there is one.
//!
//! What is lost with a stream is sent again over the next one, for as long as the receiver is a
//! member.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, Outgoing, OwnershipEffect, Payload};
use crate::ctx::Ctx;
use crate::member::{NodeId, ShardKey};
use crate::output::StreamId;
use crate::snapshot::ShardSnapshot;
use crate::time::Instant;
use crate::wire::{Body, PART_BYTES_MAX, Part};

/// Parts under way that are not acknowledged, at most: a quarter of a megabyte.
const WINDOW: u32 = 256;

/// An acknowledgement comes after so many parts, and at the end of a snapshot.
const ACK_EVERY: u32 = 64;

/// A stream on which nothing was sent for so long is closed.
const IDLE: Duration = Duration::from_secs(10);

/// A stream on which nothing was acknowledged for so long is given up for another one: the system
/// may wait for minutes before it tries again to get through.
const STUCK: Duration = Duration::from_secs(2);

/// How long a snapshot that has begun to come may take to its next part.
const PART_FOR: Duration = Duration::from_secs(10);

/// A stream on which no snapshot has come for so long is closed; its sender closes it after
/// [`IDLE`].
const SILENT_FOR: Duration = Duration::from_secs(30);

/// Nodes that may send us snapshots at a time.
const SENDERS_MAX: usize = 1_024;

/// What others send about shards.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Mail {
    /// These shards are another's by its view; it waits to hear that they do not run here any more.
    Asked { from: NodeId, number: u32, group: u64, indexes: Vec<u32> },
    /// A snapshot, or under a number the answer to our asking.
    Came { from: NodeId, number: u32, key: ShardKey, replica: Option<ShardSnapshot> },
    /// A snapshot of ours was not taken.
    Refused { by: Arc<str>, key: ShardKey, bytes: u64 },
}

/// One snapshot, or word that there is none.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Parcel {
    number: u32,
    key: ShardKey,
    replica: Option<ShardSnapshot>,
}

impl Parcel {
    fn bytes(&self) -> usize {
        self.replica.as_ref().map_or(0, |replica| replica.bytes.len())
    }

    /// The part that begins at `offset`.
    pub(super) fn part(&self, offset: u32) -> Part<'_> {
        let bytes = self.replica.as_ref().map_or(&[][..], |replica| &replica.bytes[..]);
        let from = (offset as usize).min(bytes.len());
        let to = (from + PART_BYTES_MAX).min(bytes.len());
        let (epoch, sequence, version) = match &self.replica {
            Some(replica) => (replica.epoch, replica.sequence, replica.version),
            None => (crate::Epoch(0), 0, 0),
        };
        let (number, ShardKey { group, index }) = (self.number, self.key);
        Part {
            number,
            group,
            index,
            epoch,
            sequence,
            version,
            total: bytes.len() as u32,
            offset,
            bytes: &bytes[from..to],
        }
    }
}

/// What we send, and what we are sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Deliveries {
    to: BTreeMap<NodeId, Courier>,
    from: BTreeMap<StreamId, Intake>,
    mail: VecDeque<Mail>,
    /// Bytes of snapshots that there is room for, and of one.
    room: u64,
    most: u32,
}

/// The way to one node.
#[derive(Clone, Debug)]
struct Courier {
    stream: Option<StreamId>,
    is_open: bool,
    /// Not sent, or not wholly.
    waiting: VecDeque<Parcel>,
    /// How much of the first that waits is sent.
    offset: u32,
    /// Sent and not acknowledged, each with the number of parts up to its end.
    sent: VecDeque<(u32, Parcel)>,
    parts: u32,
    acknowledged: u32,
    /// When it is tried again, given up for another one, or closed if there is nothing to send.
    due: Instant,
}

/// What comes from one node over one stream.
#[derive(Clone, Debug)]
struct Intake {
    from: NodeId,
    parts: u32,
    /// What has come of the present snapshot; none if it is refused.
    bytes: Option<Vec<u8>>,
    /// How long the present snapshot will be. It counts towards `ownership.copies_bytes_max` until
    /// it has come.
    total: u32,
    /// When the stream is closed if nothing more comes on it.
    due: Instant,
}

impl Deliveries {
    pub(super) fn next_due(&self) -> Option<Instant> {
        let intakes = self.from.values().map(|intake| intake.due);
        self.to.values().map(|courier| courier.due).chain(intakes).min()
    }

    /// Bytes of snapshots that have begun to come over other streams than this one.
    fn unfinished(&self, but: StreamId) -> u64 {
        let others = self.from.iter().filter(|(stream, _)| **stream != but);
        others.map(|(_, intake)| u64::from(intake.total)).sum()
    }

    /// The stream over which this node sends us snapshots, if there is another one than this.
    fn other_from(&self, from: NodeId, but: StreamId) -> Option<StreamId> {
        self.from.iter().find(|(stream, intake)| intake.from == from && **stream != but).map(|(stream, _)| *stream)
    }

    /// Lets go of whatever concerns this stream.
    pub(super) fn forget(&mut self, stream: StreamId, again_at: Instant) {
        self.from.remove(&stream);
        for courier in self.to.values_mut().filter(|courier| courier.stream == Some(stream)) {
            courier.stream = None;
            courier.is_open = false;
            let unsure = std::mem::take(&mut courier.sent);
            for (_, parcel) in unsure.into_iter().rev() {
                courier.waiting.push_front(parcel);
            }
            (courier.offset, courier.parts, courier.acknowledged) = (0, 0, 0);
            courier.due = again_at;
        }
    }
}

impl Cluster {
    // ---- what the owner of shards wants -------------------------------------------------------------------------------------------------

    /// Asks a node for shards that it may run still.
    pub(crate) fn ask_for(&mut self, node: NodeId, number: u32, group: u64, indexes: &[u32]) {
        for some in indexes.chunks(crate::wire::ASKED_MAX) {
            let body = Body::Ask { number, group, indexes: some.to_vec().into() };
            self.send_to(node, Payload::Say(body));
        }
    }

    /// Sends a node what there is of a shard.
    pub(crate) fn deliver(
        &mut self,
        to: NodeId,
        number: u32,
        key: ShardKey,
        replica: Option<ShardSnapshot>,
        now: Instant,
    ) {
        if !self.peers.table.member(to).is_some_and(|member| member.status.is_member()) {
            return;
        }
        let courier = self.deliveries.to.entry(to).or_insert_with(|| Courier {
            stream: None,
            is_open: false,
            waiting: VecDeque::new(),
            offset: 0,
            sent: VecDeque::new(),
            parts: 0,
            acknowledged: 0,
            due: now,
        });
        let parcel = Parcel { number, key, replica };
        // One that is half sent is sent to its end.
        let begun = usize::from(courier.offset > 0);
        let same = |waiting: &&mut Parcel| waiting.key == key && (waiting.number == 0) == (number == 0);
        match courier.waiting.iter_mut().skip(begun).find(same) {
            Some(waiting) => *waiting = parcel,
            None => courier.waiting.push_back(parcel),
        }
        if courier.sent.is_empty() && courier.offset == 0 {
            courier.due = now + STUCK;
        }
        self.pump(to, now);
    }

    /// Whether everything that was sent has arrived, or is of no use to anybody any more.
    pub(crate) fn has_delivered(&self) -> bool {
        self.deliveries.to.values().all(|courier| courier.waiting.is_empty() && courier.sent.is_empty())
    }

    /// How many snapshots have yet to arrive at members.
    pub(crate) fn undelivered(&self) -> usize {
        self.deliveries.to.values().map(|courier| courier.waiting.len() + courier.sent.len()).sum()
    }

    /// What others sent about shards since this was last asked.
    pub(crate) fn take_mail(&mut self) -> Option<Mail> {
        self.deliveries.mail.pop_front()
    }

    /// Says for how many bytes of snapshots there is room, and how long one may be.
    pub(crate) fn set_room(&mut self, room: u64, most: u32) {
        (self.deliveries.room, self.deliveries.most) = (room, most);
    }

    // ---- streams -------------------------------------------------------------------------------------------------------------------------

    /// Sends what the window allows.
    fn pump(&mut self, to: NodeId, now: Instant) {
        let Some(courier) = self.deliveries.to.get_mut(&to) else { return };
        let Some(stream) = courier.stream else { return self.open_delivery(to, now) };
        while courier.is_open && courier.parts.wrapping_sub(courier.acknowledged) < WINDOW {
            let Some(parcel) = courier.waiting.front() else { break };
            let letter = Payload::Part { parcel: parcel.clone(), offset: courier.offset };
            self.out.queue.push_back(Outgoing::Frame { stream, letter });
            courier.parts = courier.parts.wrapping_add(1);
            courier.offset += PART_BYTES_MAX as u32;
            if courier.offset as usize >= parcel.bytes() {
                courier.offset = 0;
                let sent = courier.waiting.pop_front();
                courier.sent.extend(sent.map(|parcel| (courier.parts, parcel)));
            }
        }
    }

    fn open_delivery(&mut self, to: NodeId, now: Instant) {
        let Some(address) = self.peers.table.member(to).map(|member| member.address) else { return };
        let stream = self.streams.open_delivery(to);
        if let Some(courier) = self.deliveries.to.get_mut(&to) {
            courier.stream = Some(stream);
            courier.due = now + STUCK;
        }
        self.out.queue.push_back(Outgoing::Open { stream, to: address });
    }

    pub(super) fn delivery_opened(&mut self, to: NodeId, now: Instant) {
        if let Some(courier) = self.deliveries.to.get_mut(&to) {
            courier.is_open = true;
            courier.due = now + STUCK;
        }
        self.pump(to, now);
    }

    /// Takes in how much of what we sent has come.
    pub(super) fn hear_kept(&mut self, from: NodeId, parts: u32, refused: bool, ctx: &Ctx) -> OwnershipEffect {
        let by = self.peers.table.member(from).map(|member| member.name.clone());
        let Some(courier) = self.deliveries.to.get_mut(&from) else { return OwnershipEffect::Nothing };
        if courier.parts.wrapping_sub(parts) > courier.parts.wrapping_sub(courier.acknowledged) {
            return OwnershipEffect::Nothing;
        }
        courier.acknowledged = parts;
        while courier.sent.front().is_some_and(|(end, _)| parts.wrapping_sub(*end) <= WINDOW)
            && let Some((end, parcel)) = courier.sent.pop_front()
        {
            if let (true, true, Some(by)) = (refused, end == parts, by.clone()) {
                self.deliveries.mail.push_back(Mail::Refused { by, key: parcel.key, bytes: parcel.bytes() as u64 });
            }
        }
        let is_done = courier.sent.is_empty() && courier.waiting.is_empty();
        courier.due = ctx.now + if is_done { IDLE } else { STUCK };
        self.pump(from, ctx.now);
        OwnershipEffect::Nothing
    }

    /// Takes in a part of a snapshot; `false` if the stream is to be shut.
    pub(super) fn hear_part(&mut self, stream: StreamId, from: NodeId, part: &Part<'_>, now: Instant) -> bool {
        // A node has one stream for its snapshots: a new one takes the place of the former.
        if !self.deliveries.from.contains_key(&stream)
            && let Some(former) = self.deliveries.other_from(from, stream)
        {
            self.shut(former);
        }
        let deliveries = &mut self.deliveries;
        if deliveries.from.len() >= SENDERS_MAX && !deliveries.from.contains_key(&stream) {
            return false;
        }
        let unfinished: u64 = deliveries.unfinished(stream);
        let intake =
            deliveries.from.entry(stream).or_insert(Intake { from, parts: 0, bytes: None, total: 0, due: now });
        intake.parts = intake.parts.wrapping_add(1);
        if part.offset == 0 {
            let fits = part.total <= deliveries.most && unfinished + u64::from(part.total) <= deliveries.room;
            intake.bytes = fits.then(Vec::new);
            intake.total = if fits { part.total } else { 0 };
        }
        // Parts come in their order, since the stream does.
        if intake.bytes.as_ref().is_some_and(|bytes| bytes.len() != part.offset as usize) {
            return false;
        }
        if let Some(bytes) = &mut intake.bytes {
            bytes.extend_from_slice(part.bytes);
        }
        let is_end = part.offset as usize + part.bytes.len() >= part.total as usize;
        let (parts, refused) = (intake.parts, is_end && intake.bytes.is_none());
        intake.due = now + if is_end { SILENT_FOR } else { PART_FOR };
        if is_end {
            let bytes = intake.bytes.take();
            intake.total = 0;
            let Part { number, group, index, epoch, sequence, version, .. } = *part;
            let replica = bytes.filter(|_| sequence > 0);
            let replica = replica.map(|bytes| ShardSnapshot { epoch, sequence, version, bytes: bytes.into() });
            // That it does not run there any more is said even if the snapshot has no room here.
            if number != 0 || replica.is_some() {
                let from = intake.from;
                deliveries.mail.push_back(Mail::Came { from, number, key: ShardKey { group, index }, replica });
            }
        }
        if is_end || parts.is_multiple_of(ACK_EVERY) {
            let letter = Payload::Say(Body::Kept { parts, refused });
            self.out.queue.push_back(Outgoing::Frame { stream, letter });
        }
        true
    }

    /// Opens streams anew that were lost, and closes those on which nothing is sent.
    pub(super) fn look_at_deliveries(&mut self, now: Instant) {
        let silent = self.deliveries.from.iter().filter(|(_, intake)| intake.due <= now);
        for stream in silent.map(|(stream, _)| *stream).collect::<Vec<_>>() {
            self.shut(stream);
        }
        let is_due = |(_, courier): &(&NodeId, &Courier)| courier.due <= now;
        let due: Vec<NodeId> = self.deliveries.to.iter().filter(is_due).map(|(id, _)| *id).collect();
        for id in due {
            let Some(courier) = self.deliveries.to.get_mut(&id) else { continue };
            let stream = courier.stream;
            if courier.waiting.is_empty() && courier.sent.is_empty() {
                self.deliveries.to.remove(&id);
            }
            if let Some(stream) = stream {
                self.shut(stream);
            }
            self.pump(id, now);
        }
    }

    /// A node is no member any more: nothing is sent to it.
    pub(super) fn cancel_deliveries(&mut self, to: NodeId) {
        if let Some(courier) = self.deliveries.to.remove(&to)
            && let Some(stream) = courier.stream
        {
            self.shut(stream);
        }
    }

    pub(super) fn hear_ask(&mut self, from: NodeId, number: u32, group: u64, indexes: &[u32]) {
        let indexes = indexes.to_vec();
        self.deliveries.mail.push_back(Mail::Asked { from, number, group, indexes });
    }
}
