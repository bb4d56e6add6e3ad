//! Streams: lifelines, looks at closed ones, and tables too large for a datagram.
//!
//! Each node keeps one connection to each of its observers and says nothing on it but who it is.
//! The operating system closes it when the process ends, however it ends; so its end is evidence.
//! It is no verdict: a restart, or a box between the two, closes connections as well. The observer
//! tries to connect; if it is refused, nobody listens there any more, and it asks the other
//! observers at once ([`super::watch`]). Few such looks are under way at a time, so that a switch
//! that drops a thousand lifelines does not make a storm.
//!
//! The system of a process that ends closes its connections before its port, and on a busy host
//! there is time between the two: a look may still be let in, with nobody behind the door. So being
//! connected says nothing. A look asks, as a probe does; if it ends without an answer, it is
//! repeated.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::join::Pages;
use super::{Cluster, Outgoing, OwnershipEffect, Payload};
use crate::ctx::Ctx;
use crate::member::{Generation, NodeId};
use crate::output::StreamId;
use crate::time::{Instant, earliest};
use crate::wire::{Body, Datagram, Header, Part};

/// Looks at closed lifelines that are under way at a time.
const LOOKS_MAX: usize = 16;

/// How often a look is repeated that was let in and had no answer: the second may still have been
/// taken by the process that ends, the third waits for its port.
const LOOKS_AGAIN: u8 = 3;

/// Accepted streams that have not said whose they are.
const UNKNOWN_MAX: usize = 64;

/// How long they may take to say it.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);

/// How long a table that is fetched may take to its next page.
const PAGE_FOR: Duration = Duration::from_secs(3);

/// What became of a stream, as its driver tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamEvent<'a> {
    /// It is connected.
    Opened,
    /// Nobody listens at that address.
    Refused,
    /// It could not be connected, for whatever else.
    Failed,
    /// A frame came in.
    Frame(&'a [u8]),
    /// It was closed, by the other side or by the system.
    Ended,
}

/// The streams of this node.
#[derive(Clone, Debug, Default)]
pub(super) struct Streams {
    next: u64,
    kinds: BTreeMap<StreamId, Kind>,
    /// Accepted ones that have said nothing, the oldest first.
    unknown: VecDeque<(Instant, StreamId)>,
    /// Lifelines of others, by whom.
    theirs: BTreeMap<NodeId, StreamId>,
    /// Whose lifeline has come to us, ended or not: with these, a refused connection says
    /// something.
    proven: BTreeSet<NodeId>,
    /// Ours, by observer.
    ours: BTreeMap<NodeId, StreamId>,
    /// Whose address is being looked at.
    looks: BTreeMap<NodeId, Look>,
    to_look_at: VecDeque<NodeId>,
    /// The table that is being fetched, and by when the next page has to come.
    pulled: Option<(Instant, StreamId)>,
    /// Where a look found nobody.
    nobody: BTreeSet<NodeId>,
}

/// A look at an address.
#[derive(Clone, Copy, Debug)]
struct Look {
    stream: StreamId,
    /// By when it has to have come to something.
    by: Instant,
    /// How often it may still be repeated.
    again: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Our own, to this observer.
    Ours(NodeId),
    Unknown,
    /// That of this node, in this start of its process.
    Theirs(NodeId, Generation),
    Look(NodeId),
    /// Rows of a table, from this node.
    Pull(NodeId, bool),
    /// Snapshots of ours, to this node.
    Delivery(NodeId),
    /// Snapshots of this node's, in this start of its process.
    Intake(NodeId, Generation),
}

impl Streams {
    pub(super) fn next_due(&self) -> Option<Instant> {
        let unknown = self.unknown.front().map(|(at, _)| *at + UNKNOWN_FOR);
        let looks = self.looks.values().map(|look| look.by).min();
        let due = earliest(Instant::NEVER, [unknown, looks, self.pulled.map(|(by, _)| by)]);
        (due != Instant::NEVER).then_some(due)
    }

    pub(super) fn found_nobody(&self, id: NodeId) -> bool {
        self.nobody.contains(&id)
    }

    pub(super) fn open_delivery(&mut self, to: NodeId) -> StreamId {
        self.open(Kind::Delivery(to))
    }

    fn open(&mut self, kind: Kind) -> StreamId {
        self.next += 1;
        let stream = StreamId(self.next);
        self.kinds.insert(stream, kind);
        stream
    }
}

impl Cluster {
    // ---- inputs --------------------------------------------------------------------------------------------------------------------------

    /// Takes in that a stream was accepted. It is shut again if there are too many, or if this node
    /// `has_left`.
    pub(crate) fn accepted(&mut self, has_left: bool, ctx: &Ctx) -> StreamId {
        let stream = self.streams.open(Kind::Unknown);
        let most = ctx.config.membership.members_max as usize;
        if self.streams.unknown.len() >= UNKNOWN_MAX || self.streams.theirs.len() >= most || self.superseded || has_left
        {
            self.shut(stream);
        } else {
            self.streams.unknown.push_back((ctx.now, stream));
        }
        stream
    }

    /// Takes in what became of a stream; `datagram` is the frame, if it was one.
    pub(crate) fn hear_stream(
        &mut self,
        stream: StreamId,
        event: StreamEvent<'_>,
        datagram: Option<(&Datagram<'_>, SocketAddr)>,
        ctx: &mut Ctx,
    ) -> OwnershipEffect {
        let Some(&kind) = self.streams.kinds.get(&stream) else { return OwnershipEffect::Nothing };
        match (kind, event) {
            (Kind::Ours(_), StreamEvent::Opened) => self.frame(stream, Payload::Say(Body::Hello)),
            (Kind::Pull(..), StreamEvent::Opened) => self.frame(stream, Payload::Sync),
            (Kind::Delivery(id), StreamEvent::Opened) => self.delivery_opened(id, ctx.now),
            (Kind::Delivery(_) | Kind::Intake(..), StreamEvent::Refused | StreamEvent::Failed | StreamEvent::Ended) => {
                self.forget(stream);
                self.deliveries.forget(stream, ctx.now + ctx.config.interval / 2);
            }
            (Kind::Look(_), StreamEvent::Opened) => {
                let number = self.next_number();
                self.frame(stream, Payload::Say(Body::Probe { number }));
            }
            (Kind::Look(id), StreamEvent::Ended) => return self.repeat_look(id, stream, ctx),
            (Kind::Look(id), StreamEvent::Refused | StreamEvent::Failed) => {
                self.forget(stream);
                return self.looked(id, event == StreamEvent::Refused, ctx);
            }
            (Kind::Theirs(id, generation), StreamEvent::Ended) => {
                self.forget(stream);
                self.lifeline_ended(id, generation, ctx);
            }
            (_, StreamEvent::Frame(_)) => {
                if let Some((datagram, from)) = datagram {
                    return self.hear_frame(stream, kind, from, datagram, ctx);
                }
            }
            (_, StreamEvent::Refused | StreamEvent::Failed | StreamEvent::Ended) => self.forget(stream),
            (_, StreamEvent::Opened) => {}
        }
        OwnershipEffect::Nothing
    }

    fn hear_frame(
        &mut self,
        stream: StreamId,
        kind: Kind,
        from: SocketAddr,
        datagram: &Datagram<'_>,
        ctx: &mut Ctx,
    ) -> OwnershipEffect {
        if let Kind::Look(id) = kind {
            // Somebody lives there: the old process, or a new one. That its datagrams arrive is
            // another question.
            self.shut(stream);
            return self.looked(id, false, ctx);
        }
        let met = self.meet_on_stream(from.ip(), datagram.header, ctx);
        met.max(self.hear_frame_of(stream, kind, from, datagram, ctx))
    }

    fn hear_frame_of(
        &mut self,
        stream: StreamId,
        kind: Kind,
        from: SocketAddr,
        datagram: &Datagram<'_>,
        ctx: &mut Ctx,
    ) -> OwnershipEffect {
        let id = datagram.header.from;
        let known = self.peers.table.member(id).filter(|known| known.generation == datagram.header.generation);
        // What is kept of a stream ends with the membership of the node that opened it.
        let is_lasting = matches!(datagram.body, Body::Hello | Body::Part(_));
        let may_open = known.is_some_and(|known| known.status.is_member() || !is_lasting) && id != self.peers.me.id;
        if kind == Kind::Unknown && !may_open {
            // A node that wants a stream has to be let in first.
            self.shut(stream);
            return OwnershipEffect::Nothing;
        }
        match (kind, &datagram.body) {
            (Kind::Unknown, Body::Hello) => {
                self.streams.unknown.retain(|(_, unknown)| *unknown != stream);
                self.streams.kinds.insert(stream, Kind::Theirs(id, datagram.header.generation));
                self.streams.proven.insert(id);
                if let Some(former) = self.streams.theirs.insert(id, stream) {
                    self.shut(former);
                }
                OwnershipEffect::Nothing
            }
            (Kind::Unknown, Body::Probe { number }) => {
                let echo = self.echo(*number, id);
                self.frame(stream, Payload::Say(echo));
                OwnershipEffect::Nothing
            }
            (Kind::Unknown, Body::Sync(digests)) => {
                let differing = self.peers.table.differing(digests);
                self.frame(stream, Payload::Rows(Pages { differing, from: NodeId(0), welcome: false }));
                OwnershipEffect::Nothing
            }
            (Kind::Pull(whom, welcome), Body::Rows(rows)) if whom == id => {
                self.streams.pulled = Some((ctx.now + PAGE_FOR, stream));
                let mut follow = self.hear_of_all(datagram, ctx);
                if !rows.more {
                    self.shut(stream);
                    let rows = crate::wire::Rows { welcome, differing: 0, ..*rows };
                    follow = follow.max(self.hear_rows(id, rows, datagram, ctx));
                    // What it lacks is found by comparing once more.
                    self.send_to(id, Payload::Sync);
                }
                follow
            }
            (Kind::Unknown | Kind::Intake(..), Body::Part(part)) => {
                self.take_part(stream, kind, datagram.header, part, ctx.now);
                OwnershipEffect::Nothing
            }
            (Kind::Delivery(whom), Body::Kept { parts, refused }) if whom == id => {
                self.hear_kept(id, *parts, *refused, ctx)
            }
            (Kind::Theirs(whom, _), _) if whom == id => self.receive(from, usize::MAX, datagram, ctx),
            _ => {
                self.shut(stream);
                OwnershipEffect::Nothing
            }
        }
    }

    // ---- our own -------------------------------------------------------------------------------------------------------------------------

    pub(super) fn open_lifeline(&mut self, id: NodeId) {
        if !self.lifelines || self.streams.ours.contains_key(&id) {
            return;
        }
        let Some(to) = self.peers.table.member(id).map(|member| member.address) else { return };
        let stream = self.streams.open(Kind::Ours(id));
        self.streams.ours.insert(id, stream);
        self.out.queue.push_back(Outgoing::Open { stream, to });
    }

    /// Opens those that are missing: an observer that did not know us yet has shut ours.
    pub(super) fn reopen_lifelines(&mut self) {
        if !self.lifelines {
            return;
        }
        let missing: Vec<NodeId> = self.observers().filter(|id| !self.streams.ours.contains_key(id)).collect();
        missing.into_iter().for_each(|id| self.open_lifeline(id));
    }

    pub(super) fn close_lifeline_to(&mut self, id: NodeId) {
        if let Some(stream) = self.streams.ours.remove(&id) {
            self.shut(stream);
        }
    }

    /// Closes ours in good order: what is said last on them is that we leave.
    pub(super) fn close_lifelines(&mut self) {
        for (_, stream) in std::mem::take(&mut self.streams.ours) {
            if !self.superseded {
                self.frame(stream, Payload::About(self.peers.me.id));
            }
            self.shut(stream);
        }
    }

    /// Fetches what differs over a stream.
    pub(super) fn pull(&mut self, id: NodeId, welcome: bool, now: Instant) {
        if self.streams.pulled.is_some() {
            return;
        }
        let Some(to) = self.peers.table.member(id).map(|member| member.address) else { return };
        let stream = self.streams.open(Kind::Pull(id, welcome));
        self.streams.pulled = Some((now + PAGE_FOR, stream));
        self.out.queue.push_back(Outgoing::Open { stream, to });
    }

    // ---- those of others -----------------------------------------------------------------------------------------------------------------

    fn lifeline_ended(&mut self, id: NodeId, generation: Generation, ctx: &Ctx) {
        let is_member = |member: &&crate::Member| member.generation == generation && member.status.is_member();
        if self.links.contains_key(&id) && self.peers.table.member(id).filter(is_member).is_some() {
            self.look_whether_gone(id, ctx);
        }
    }

    /// A node is silent. The end of its lifeline may have been lost on the way, or come while it
    /// could not be followed.
    pub(super) fn look_at_silent(&mut self, id: NodeId, ctx: &Ctx) {
        if self.streams.proven.contains(&id) {
            self.look_whether_gone(id, ctx);
        }
    }

    /// Tries to connect to a node of which there is doubt whether it runs.
    pub(super) fn look_whether_gone(&mut self, id: NodeId, ctx: &Ctx) {
        if self.streams.looks.contains_key(&id) || self.streams.to_look_at.contains(&id) {
            return;
        }
        self.streams.nobody.remove(&id);
        self.streams.to_look_at.push_back(id);
        self.begin_looks(ctx);
    }

    fn begin_looks(&mut self, ctx: &Ctx) {
        while self.streams.looks.len() < LOOKS_MAX
            && let Some(id) = self.streams.to_look_at.pop_front()
        {
            self.look(id, ctx.now + ctx.config.interval, LOOKS_AGAIN);
        }
    }

    fn look(&mut self, id: NodeId, by: Instant, again: u8) {
        let Some(to) = self.peers.table.member(id).map(|member| member.address) else { return };
        let stream = self.streams.open(Kind::Look(id));
        self.streams.looks.insert(id, Look { stream, by, again });
        self.out.queue.push_back(Outgoing::Open { stream, to });
    }

    /// A look was let in, and nobody answered.
    fn repeat_look(&mut self, id: NodeId, stream: StreamId, ctx: &mut Ctx) -> OwnershipEffect {
        let look = self.streams.looks.get(&id).copied().filter(|look| look.stream == stream && look.again > 0);
        self.forget(stream);
        let Some(look) = look else { return self.looked(id, false, ctx) };
        self.look(id, look.by, look.again - 1);
        OwnershipEffect::Nothing
    }

    /// A look at a node's address is over.
    fn looked(&mut self, id: NodeId, found_nobody: bool, ctx: &mut Ctx) -> OwnershipEffect {
        self.begin_looks(ctx);
        let mut follow = OwnershipEffect::Nothing;
        if found_nobody {
            self.streams.nobody.insert(id);
            follow = self.found_gone(id, ctx);
        }
        self.answer_waiting(id, false, ctx);
        follow
    }

    /// A process is over: nothing is to be learnt from its streams any more.
    pub(super) fn streams_of_the_dead(&mut self, id: NodeId) {
        self.streams.nobody.remove(&id);
        self.streams.proven.remove(&id);
        self.streams.to_look_at.retain(|waiting| *waiting != id);
        self.close_lifeline_to(id);
        if let Some(stream) = self.streams.theirs.remove(&id) {
            self.shut(stream);
        }
        if let Some(look) = self.streams.looks.remove(&id) {
            self.shut(look.stream);
        }
        let is_intake = |kind: &Kind| matches!(kind, Kind::Intake(from, _) if *from == id);
        let intakes = self.streams.kinds.iter().filter(|(_, kind)| is_intake(kind));
        for stream in intakes.map(|(stream, _)| *stream).collect::<Vec<_>>() {
            self.shut(stream);
        }
    }

    /// Closes all streams: this process has been superseded, and times none of them any more.
    pub(super) fn close_all_streams(&mut self) {
        self.close_lifelines();
        for stream in self.streams.kinds.keys().copied().collect::<Vec<_>>() {
            self.shut(stream);
        }
        self.streams.to_look_at.clear();
    }

    // ---- all ----------------------------------------------------------------------------------------------------------------------------

    /// Shuts accepted streams that never said whose they are, looks that came to nothing, and a
    /// stream that brings no more of a table.
    pub(super) fn look_at_streams(&mut self, ctx: &mut Ctx) {
        if self.streams.next_due().is_none_or(|due| due > ctx.now) {
            return self.begin_looks(ctx);
        }
        let is_over = |(_, look): &(&NodeId, &Look)| look.by <= ctx.now;
        let over: Vec<(NodeId, StreamId)> =
            self.streams.looks.iter().filter(is_over).map(|(&id, look)| (id, look.stream)).collect();
        for (id, stream) in over {
            self.shut(stream);
            self.looked(id, false, ctx);
        }
        self.begin_looks(ctx);
        if let Some((_, stream)) = self.streams.pulled.filter(|(by, _)| *by <= ctx.now) {
            self.shut(stream);
        }
        while let Some(&(at, stream)) = self.streams.unknown.front()
            && at + UNKNOWN_FOR <= ctx.now
        {
            self.streams.unknown.pop_front();
            self.shut(stream);
        }
    }

    fn take_part(&mut self, stream: StreamId, kind: Kind, header: Header, part: &Part<'_>, now: Instant) {
        let intake = Kind::Intake(header.from, header.generation);
        if kind == Kind::Unknown {
            self.streams.unknown.retain(|(_, unknown)| *unknown != stream);
            self.streams.kinds.insert(stream, intake);
        } else if kind != intake {
            return self.shut(stream);
        }
        if !self.hear_part(stream, header.from, part, now) {
            self.shut(stream);
        }
    }

    fn frame(&mut self, stream: StreamId, letter: Payload) {
        self.out.queue.push_back(Outgoing::Frame { stream, letter });
    }

    pub(super) fn shut(&mut self, stream: StreamId) {
        self.forget(stream);
        self.deliveries.forget(stream, Instant::ZERO);
        self.out.queue.push_back(Outgoing::Shut { stream });
    }

    fn forget(&mut self, stream: StreamId) {
        let streams = &mut self.streams;
        // A later one may have taken its place already.
        let take = |by: &mut BTreeMap<NodeId, StreamId>, id| {
            if by.get(&id) == Some(&stream) {
                by.remove(&id);
            }
        };
        match streams.kinds.remove(&stream) {
            Some(Kind::Ours(id)) => take(&mut streams.ours, id),
            Some(Kind::Theirs(id, _)) => take(&mut streams.theirs, id),
            Some(Kind::Look(id)) if streams.looks.get(&id).is_some_and(|look| look.stream == stream) => {
                streams.looks.remove(&id);
            }
            Some(Kind::Unknown) => streams.unknown.retain(|(_, unknown)| *unknown != stream),
            Some(Kind::Pull(..)) => streams.pulled = None,
            Some(Kind::Look(_) | Kind::Delivery(_) | Kind::Intake(..)) | None => {}
        }
    }
}
