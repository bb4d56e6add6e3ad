//! Where each message goes: the one place that takes a decoded message to its rule.
//!
//! A message comes as a datagram or as a frame of a stream, and what it may do depends on who sent
//! it. A process that is not in the table may ask to join. Anything else it sends is answered with
//! an introduction, so that it learns that it is unknown. A dead or departed member may be probed,
//! so that it can come back. A stream has one purpose, and a frame that does not serve it closes
//! the stream.

use std::cmp::Ordering;
use std::net::SocketAddr;

use super::change::Origin;
use super::{Cluster, OwnershipEffect};
use crate::ctx::Ctx;
use crate::detection::LinkSummary;
use crate::event::Event;
use crate::input::StreamEvent;
use crate::member::{Generation, Incarnation, Member, NodeId, ProcessId, Status};
use crate::membership::clock::clock_in;
use crate::membership::inquiry::ReportOutcome;
use crate::membership::join::RefusalOutcome;
use crate::membership::outbox::{Payload, RowRange};
use crate::membership::streams::StreamKind;
use crate::membership::sync;
use crate::membership::watch::{WatchKind, clear_suspicion};
use crate::output::StreamId;
use crate::time::Instant;
use crate::wire::{self, Body, Datagram, Echo, Header, Heartbeat, Join, ProbeReport, Refused, Row, Rows};

/// The way a message came, and who sent it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Route {
    /// A datagram about joining, from any address.
    Admission,
    /// A datagram of a process that is not in the table.
    Stranger,
    /// A datagram of a member of this status.
    Member(Status),
    /// A datagram of a process that is dead or has left.
    Former,
    /// A frame of a stream of this kind.
    Stream(StreamId, StreamKind),
}

/// Where a message came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// A datagram from this address, this many bytes long.
    Datagram(SocketAddr, usize),
    /// A frame of a stream from this address. Its port is that of the connection.
    Frame(SocketAddr),
}

impl Source {
    fn address(self) -> SocketAddr {
        match self {
            Source::Datagram(address, _) | Source::Frame(address) => address,
        }
    }

    /// Whether a message from here speaks for this member: others may use its name, too.
    fn is_of(self, member: &Member) -> bool {
        match self {
            Source::Datagram(address, _) => member.address == address,
            Source::Frame(address) => member.address.ip() == address.ip(),
        }
    }

    /// Whether an answer of this many bytes is no longer than what came. A proven address is not
    /// asked for that: a stream has one.
    fn pays_for(self, bytes: usize) -> bool {
        match self {
            Source::Datagram(_, length) => length >= bytes,
            Source::Frame(_) => true,
        }
    }
}

/// A message, where it came from, and its length.
struct Received<'d, 'a> {
    source: Source,
    datagram: &'d Datagram<'a>,
    route: Route,
}

impl Cluster {
    /// Handles a message that is already found to be of this cluster: a datagram, or a frame of a
    /// lifeline.
    pub(crate) fn handle_datagram(
        &mut self,
        source: Source,
        datagram: &Datagram<'_>,
        ctx: &mut Ctx,
    ) -> OwnershipEffect {
        let header = datagram.header;
        if header.from == self.peers.me.id {
            return self.handle_duplicate_name(source, datagram, ctx);
        }
        let row = self.unconfirmed.handle_datagram(source.address(), header);
        let mut effect = self.merge_confirmed(row, ctx);
        let route = if is_admission(&datagram.body) {
            Route::Admission
        } else {
            let is_it = |known: &&Member| known.generation == header.generation && source.is_of(known);
            match self.peers.table.member(header.from).filter(is_it) {
                Some(known) => {
                    let (status, incarnation) = (known.status, known.incarnation);
                    self.out.clock.follow(clock_in(header), ctx.now);
                    self.end_silence(source, datagram, ctx);
                    effect = effect.max(self.merge_own_incarnation(datagram, incarnation, ctx));
                    if datagram.rumours.count > 0 {
                        effect = effect.max(self.merge_rows(datagram, ctx));
                    }
                    let status = self.peers.table.member(header.from).map_or(status, |member| member.status);
                    self.send_status_if_doubted(header.from, status, &datagram.body);
                    if status.is_member() { Route::Member(status) } else { Route::Former }
                }
                None => Route::Stranger,
            }
        };
        effect.max(self.dispatch(&Received { source, datagram, route }, ctx))
    }

    /// Takes a message to its rule.
    fn dispatch(&mut self, received: &Received<'_, '_>, ctx: &mut Ctx) -> OwnershipEffect {
        let &Received { source, datagram, route } = received;
        let from = source.address();
        let (header, id) = (datagram.header, datagram.header.from);
        match (&datagram.body, route) {
            (Body::Join(join), Route::Admission) => return self.handle_join(from, header, join, ctx),
            (Body::Challenge { token }, Route::Admission) => {
                self.joining.handle_challenge(from, *token, &self.peers, &mut self.out);
            }
            (Body::Introduce, Route::Admission) => {
                self.joining.handle_introduction(from, &self.peers, &mut self.out, ctx.now);
            }
            (Body::Refused(refused), Route::Admission) => return self.handle_refused(from, *refused, ctx),
            (Body::Heartbeat(heartbeat), Route::Member(status)) => {
                let effect = self.handle_heartbeat(header, heartbeat, status, ctx);
                if let Some(summary) = datagram.summary.and_then(LinkSummary::from_bytes) {
                    self.watching.start_from(id, summary, ctx);
                }
                return effect;
            }
            (Body::Ack(ack), Route::Member(_)) => {
                self.heartbeats.handle_ack(header, *ack, &mut self.peers, ctx);
                if let Some(summary) = datagram.summary.and_then(LinkSummary::from_bytes) {
                    self.peers.observers.note_summary(id, summary);
                }
            }
            (Body::Probe { number }, Route::Member(_) | Route::Former) => {
                let echo = self.echo(*number, id);
                self.out.send_to(&self.peers, id, Payload::Body(echo));
            }
            (Body::Probe { number }, Route::Stream(stream, StreamKind::Unidentified)) => {
                let echo = self.echo(*number, id);
                self.out.frame(stream, Payload::Body(echo));
            }
            (Body::Echo(echo), Route::Member(_)) => self.handle_echo(id, *echo, ctx),
            (Body::IndirectProbe(probe), Route::Member(_)) => {
                let (inquiries, mut cx) = self.lend(ctx);
                inquiries.handle_indirect_probe(id, probe, &mut cx);
            }
            (Body::ProbeReport(report), Route::Member(_)) => return self.handle_report(id, report, ctx),
            (Body::Release, Route::Member(_)) => self.watching.stop(id, &mut self.inquiries, ctx),
            (Body::Sync(digests), Route::Member(_)) => sync::handle_sync(id, digests, &self.peers, &mut self.out),
            (Body::Sync(digests), Route::Stream(stream, StreamKind::Unidentified)) => {
                let differing = self.peers.table.differing(digests);
                self.out.frame(stream, Payload::RowRange(RowRange::of(differing)));
            }
            (Body::Rows(rows), Route::Member(_)) => return self.handle_rows(*rows, datagram, ctx),
            (Body::Rows(rows), Route::Stranger) => return self.handle_rows_of_stranger(from, *rows, datagram, ctx),
            (Body::Rows(rows), Route::Stream(stream, StreamKind::TablePull { from, admits })) if from == id => {
                return self.handle_page(stream, admits, *rows, datagram, ctx);
            }
            // All that it carries are rows, and they are merged.
            (Body::Gossip, Route::Member(_)) => {}
            (Body::Hello, Route::Stream(stream, StreamKind::Unidentified)) => {
                self.streams.handle_hello(stream, id, header.generation, &mut self.out);
            }
            (Body::Poll { number }, Route::Member(_)) => {
                self.out.send_to(&self.peers, id, Payload::Body(Body::Vote { number: *number }));
            }
            (Body::Vote { number }, Route::Member(_)) => return self.handle_vote(id, *number, ctx),
            (Body::Ask { number, group, indexes }, Route::Member(_)) => {
                self.transfers.handle_request(id, *number, *group, indexes);
            }
            (Body::Part(part), Route::Stream(stream, StreamKind::Unidentified | StreamKind::IncomingTransfer(..))) => {
                self.transfers.handle_part(stream, header, part, &mut self.streams, &mut self.out, ctx.now);
            }
            (Body::Kept { parts, refused }, Route::Stream(_, StreamKind::OutgoingTransfer(to))) if to == id => {
                let (kept, streams) = ((*parts, *refused), &mut self.streams);
                self.transfers.handle_kept(id, kept, streams, &self.peers, &mut self.out, ctx.now);
            }
            // Answers to a question of before: the sender knows this node.
            (Body::Ack(_) | Body::Echo(_) | Body::ProbeReport(_), Route::Stranger) => {}
            (
                Body::Heartbeat(_)
                | Body::Ack(_)
                | Body::Probe { .. }
                | Body::Echo(_)
                | Body::IndirectProbe(_)
                | Body::ProbeReport(_)
                | Body::Release
                | Body::Join(_)
                | Body::Challenge { .. }
                | Body::Introduce
                | Body::Sync(_)
                | Body::Rows(_)
                | Body::Gossip
                | Body::Hello
                | Body::Poll { .. }
                | Body::Vote { .. }
                | Body::Ask { .. }
                | Body::Part(_)
                | Body::Kept { .. }
                | Body::Refused(_),
                route,
            ) => self.reject(source, header.sender(), route, ctx),
        }
        OwnershipEffect::Nothing
    }

    /// Handles a message that has no meaning on its route. A stranger learns that it is unknown
    /// here. It is sent no more than it sent, so that this node amplifies nothing; what members
    /// send is never as short.
    fn reject(&mut self, source: Source, sender: ProcessId, route: Route, ctx: &Ctx) {
        match route {
            Route::Stranger => self.introduce(source, sender, ctx),
            Route::Stream(stream, _) => {
                self.transfers.forget(stream, Instant::ZERO);
                self.streams.close(stream, &mut self.out);
            }
            Route::Admission | Route::Member(_) | Route::Former => {}
        }
    }

    fn introduce(&mut self, source: Source, sender: ProcessId, ctx: &Ctx) {
        if source.pays_for(wire::introduction_bytes(self.header(ctx.now))) {
            self.out.answer(source.address(), sender, Payload::Body(Body::Introduce));
        }
    }

    // ---- the sender -----------------------------------------------------------------------------

    /// Handles a datagram under this node's own name: its own, or one of another process.
    ///
    /// A later process is sent a token, and believed once it has returned it: so it receives at
    /// this address.
    fn handle_duplicate_name(&mut self, source: Source, datagram: &Datagram<'_>, ctx: &mut Ctx) -> OwnershipEffect {
        let (header, from) = (datagram.header, source.address());
        let returned = if let Body::Challenge { token } = datagram.body { Some(token) } else { None };
        let asks = |token| Payload::Body(Body::Challenge { token });
        let pays = source.pays_for(wire::challenge_bytes(self.header(ctx.now)));
        match header.generation.cmp(&self.peers.me.generation) {
            Ordering::Equal => {}
            Ordering::Less => match returned {
                Some(token) if pays => self.out.answer(from, header.sender(), asks(token)),
                Some(_) => {}
                None => self.introduce(source, header.sender(), ctx),
            },
            Ordering::Greater => {
                let token = self.joining.token(from, header.sender());
                if returned == Some(token) {
                    return self.give_way(header.generation, Some(from), ctx);
                }
                if pays && !self.superseded {
                    self.out.answer(from, header.sender(), asks(token));
                }
            }
        }
        OwnershipEffect::Nothing
    }

    /// Handles that a silent node has sent something else than a heartbeat: it is alive, as if it
    /// had answered a probe. Heartbeats say more, and have a rule of their own. A frame does not
    /// count: it may have lain in its connection for long.
    fn end_silence(&mut self, source: Source, datagram: &Datagram<'_>, ctx: &mut Ctx) {
        let (id, is_heartbeat) = (datagram.header.from, matches!(datagram.body, Body::Heartbeat(_)));
        if matches!(source, Source::Datagram(..)) && !is_heartbeat && self.watching.is_silent(id, ctx) {
            self.handle_sign_of_life(id, ctx.now, ctx);
        }
    }

    /// Merges the incarnation that a member's own heartbeat or echo carries. Nearly always it is
    /// the known one.
    fn merge_own_incarnation(&mut self, datagram: &Datagram<'_>, known: Incarnation, ctx: &mut Ctx) -> OwnershipEffect {
        let (Body::Heartbeat(Heartbeat { incarnation, .. }) | Body::Echo(Echo { incarnation, .. })) = datagram.body
        else {
            return OwnershipEffect::Nothing;
        };
        if incarnation == known {
            return OwnershipEffect::Nothing;
        }
        let (id, generation) = (datagram.header.from, datagram.header.generation);
        let note = Row { id, status: Status::Alive, generation, incarnation, revision: 0, details: None };
        self.merge_row(id, &note, ctx)
    }

    /// Sends a member that is not held alive its own status, since it may not know of it. Nothing
    /// changes until it refutes. Gossip and rows are not answered: two nodes that hold each other
    /// dead would never stop.
    fn send_status_if_doubted(&mut self, id: NodeId, status: Status, body: &Body<'_>) {
        if status != Status::Alive && !matches!(body, Body::Gossip | Body::Rows(_)) {
            self.refutations.send_status(id, id, &self.peers, &mut self.out);
        }
    }

    // ---- admission ------------------------------------------------------------------------------

    fn handle_join(&mut self, from: SocketAddr, header: Header, join: &Join<'_>, ctx: &mut Ctx) -> OwnershipEffect {
        let (peers, out) = (&mut self.peers, &mut self.out);
        let Some(row) = self.joining.handle_join(from, header, join, peers, out, ctx) else {
            return OwnershipEffect::Nothing;
        };
        if row.status == Status::Left {
            return self.handle_withdrawn_join(&row, ctx);
        }
        let Some(change) = self.joining.admit(from, &row, self.quorum.as_ref(), peers, out, ctx) else {
            return OwnershipEffect::Nothing;
        };
        if let Some(change) = &change {
            self.joining.report_skew(&change.after.name, header, &self.out, ctx);
        }
        self.unconfirmed.note_answer(row.id, row.generation);
        let is_new = change.as_ref().is_some_and(|change| change.after.status.is_member());
        let effect = change.map_or(OwnershipEffect::Nothing, |change| self.apply(&change, Origin::Received(None), ctx));
        if is_new && self.watching.peer(header.from).is_none() {
            // It may end before it names an observer.
            self.watching.start(header.from, ctx.config.interval, WatchKind::Newcomer, ctx);
        } else {
            self.watching.handle_repeated_join(header.from, ctx);
        }
        self.joining.welcome(from, header.sender(), &self.peers, &mut self.out);
        effect
    }

    /// Handles that a node leaves before it knows that it is admitted. If this node has admitted
    /// it, this is its goodbye. Else its row is kept, so that a join which arrives later is
    /// refused. Such a row is not gossiped: no other member needs it, and the process has owned
    /// nothing.
    fn handle_withdrawn_join(&mut self, row: &Row<'_>, ctx: &mut Ctx) -> OwnershipEffect {
        let is_known = self.peers.table.member(row.id).is_some();
        match self.peers.table.admit(ctx.now, row, &ctx.config.membership) {
            Ok(Some(change)) if is_known => self.apply(&change, Origin::Received(None), ctx),
            Ok(Some(_)) => {
                self.peers.table.suppress_gossip(row.id);
                OwnershipEffect::Nothing
            }
            // It is known to have left, or the row is of an earlier process or of another address.
            Ok(None) | Err(_) => OwnershipEffect::Nothing,
        }
    }

    /// Asks a process that is said to use this node's name for a token: where one receives at that
    /// address, this node gives way.
    pub(super) fn ask_namesake(&mut self, generation: Generation, address: SocketAddr) {
        if self.superseded {
            return;
        }
        let namesake = ProcessId { node: self.peers.me.id, generation };
        let token = self.joining.token(address, namesake);
        self.out.answer(address, namesake, Payload::Body(Body::Challenge { token }));
    }

    fn handle_refused(&mut self, from: SocketAddr, refused: Refused, ctx: &mut Ctx) -> OwnershipEffect {
        match self.joining.handle_refused(from, refused, &mut self.peers, ctx) {
            RefusalOutcome::Nothing => OwnershipEffect::Nothing,
            RefusalOutcome::Superseded(generation) => self.give_way(generation, None, ctx),
            RefusalOutcome::Revoked => OwnershipEffect::Revoke,
        }
    }

    /// Gives up everything: a later process uses this node's name.
    pub(super) fn give_way(
        &mut self,
        generation: Generation,
        address: Option<SocketAddr>,
        ctx: &mut Ctx,
    ) -> OwnershipEffect {
        if std::mem::replace(&mut self.superseded, true) {
            return OwnershipEffect::Nothing;
        }
        ctx.emit(Event::Superseded { generation, address });
        self.streams.close_all(&mut self.out);
        self.transfers.forget_all();
        OwnershipEffect::Revoke
    }

    // ---- signs of life --------------------------------------------------------------------------

    fn handle_heartbeat(
        &mut self,
        header: Header,
        heartbeat: &Heartbeat,
        status: Status,
        ctx: &mut Ctx,
    ) -> OwnershipEffect {
        let (inquiries, peers, out) = (&mut self.inquiries, &self.peers, &mut self.out);
        if !self.watching.handle_heartbeat(header, heartbeat, inquiries, peers, out, ctx) {
            return OwnershipEffect::Nothing;
        }
        let (inquiries, mut cx) = self.lend(ctx);
        inquiries.handle_target_reached(header.from, &mut cx);
        if status != Status::Suspect {
            return OwnershipEffect::Nothing;
        }
        match clear_suspicion(header.from, heartbeat.incarnation, &mut self.peers, ctx) {
            Some(change) => self.apply(&change, Origin::Received(None), ctx),
            None => OwnershipEffect::Nothing,
        }
    }

    /// The answer to a probe of this node.
    fn echo(&self, number: u32, to: NodeId) -> Body<'static> {
        let is_observer = self.peers.observers.contains(to);
        Body::Echo(Echo { number, incarnation: self.peers.me.incarnation, is_observer })
    }

    fn handle_echo(&mut self, from: NodeId, echo: Echo, ctx: &mut Ctx) {
        self.handle_sign_of_life(from, ctx.now, ctx);
        let (inquiries, mut cx) = self.lend(ctx);
        inquiries.handle_target_reached(from, &mut cx);
        if !echo.is_observer {
            // It has released this node and the release was lost, or it was watched unasked and is
            // well.
            self.watching.stop(from, &mut self.inquiries, ctx);
        }
    }

    fn handle_report(&mut self, from: NodeId, report: &ProbeReport, ctx: &mut Ctx) -> OwnershipEffect {
        let mut effect = OwnershipEffect::Nothing;
        if report.reached {
            let row = self.unconfirmed.handle_report(report.target, report.number);
            effect = self.merge_confirmed(row, ctx);
        }
        match self.inquiries.handle_report(from, report, &mut self.watching, ctx) {
            ReportOutcome::Nothing => {}
            ReportOutcome::Alive(at) => self.handle_sign_of_life(report.target, at, ctx),
            ReportOutcome::Complete => {
                let (inquiries, mut cx) = self.lend(ctx);
                let change = inquiries.decide(report.target, &mut cx);
                effect = effect.max(self.apply_own(change, ctx));
            }
        }
        effect
    }

    fn handle_vote(&mut self, from: NodeId, number: u32, ctx: &mut Ctx) -> OwnershipEffect {
        let Some(quorum) = &mut self.quorum else { return OwnershipEffect::Nothing };
        let begins = quorum.handle_vote(from, number, &self.peers.table, ctx);
        if begins { OwnershipEffect::Recompute } else { OwnershipEffect::Nothing }
    }

    // ---- tables ---------------------------------------------------------------------------------

    /// Handles what differs between the table of the sender and this node's. The rows are merged
    /// already.
    fn handle_rows(&mut self, rows: Rows, datagram: &Datagram<'_>, ctx: &mut Ctx) -> OwnershipEffect {
        let (header, mut effect) = (datagram.header, OwnershipEffect::Nothing);
        if rows.welcome && self.joining.handle_admission(rows, header, &mut self.peers, &mut self.out, ctx) {
            effect = OwnershipEffect::Recompute;
        }
        if rows.differing == 0 {
            return effect;
        }
        sync::send_missing_rows(header.from, rows, datagram, &self.peers, &mut self.out);
        if rows.more {
            self.streams.pull_table(header.from, rows.welcome, &self.peers, &mut self.out, ctx.now);
        }
        effect
    }

    /// Handles the rows of a node that is unknown here: it has admitted this one, and its own row
    /// is among them.
    fn handle_rows_of_stranger(
        &mut self,
        from: SocketAddr,
        rows: Rows,
        datagram: &Datagram<'_>,
        ctx: &mut Ctx,
    ) -> OwnershipEffect {
        let header = datagram.header;
        let is_former = self.peers.table.member(header.from).is_some_and(|known| known.generation >= header.generation);
        if is_former || !rows.welcome || !self.joining.is_under_way(from) {
            return OwnershipEffect::Nothing;
        }
        self.joining.trust(header.from, ctx.now);
        let effect = self.merge_rows(datagram, ctx);
        effect.max(self.handle_rows(rows, datagram, ctx))
    }

    /// Handles a page of a table that is fetched over a stream. After the last one, the tables are
    /// compared once more, which shows what the other node lacks.
    fn handle_page(
        &mut self,
        stream: StreamId,
        admits: bool,
        rows: Rows,
        datagram: &Datagram<'_>,
        ctx: &mut Ctx,
    ) -> OwnershipEffect {
        self.streams.handle_page(stream, ctx.now);
        let effect = self.merge_rows(datagram, ctx);
        if rows.more {
            return effect;
        }
        self.streams.close(stream, &mut self.out);
        let rows = Rows { welcome: admits, differing: 0, ..rows };
        let effect = effect.max(self.handle_rows(rows, datagram, ctx));
        self.out.send_to(&self.peers, datagram.header.from, Payload::Sync);
        effect
    }

    // ---- streams --------------------------------------------------------------------------------

    /// Handles what became of a stream; `frame` is the frame, if it was one, and the address of its
    /// sender.
    pub(crate) fn handle_stream(
        &mut self,
        stream: StreamId,
        event: &StreamEvent,
        frame: Option<(&Datagram<'_>, SocketAddr)>,
        ctx: &mut Ctx,
    ) -> OwnershipEffect {
        let Some(kind) = self.streams.kind(stream) else { return OwnershipEffect::Nothing };
        match event {
            StreamEvent::Opened => self.handle_opened(stream, kind, ctx),
            StreamEvent::Frame(_) => {
                if let Some((datagram, from)) = frame {
                    return self.handle_frame(stream, kind, from, datagram, ctx);
                }
            }
            StreamEvent::Refused | StreamEvent::Failed | StreamEvent::Ended => {
                return self.handle_stream_end(stream, kind, event, ctx);
            }
        }
        OwnershipEffect::Nothing
    }

    fn handle_opened(&mut self, stream: StreamId, kind: StreamKind, ctx: &Ctx) {
        match kind {
            StreamKind::Outbound(_) => self.out.frame(stream, Payload::Body(Body::Hello)),
            StreamKind::TablePull { .. } => self.out.frame(stream, Payload::Sync),
            StreamKind::OutgoingTransfer(to) => {
                self.transfers.handle_opened(to, &mut self.streams, &self.peers, &mut self.out, ctx.now);
            }
            StreamKind::ConnectProbe(_) => {
                let number = self.out.next_number();
                self.out.frame(stream, Payload::Body(Body::Probe { number }));
            }
            StreamKind::Unidentified | StreamKind::Inbound(..) | StreamKind::IncomingTransfer(..) => {}
        }
    }

    fn handle_stream_end(
        &mut self,
        stream: StreamId,
        kind: StreamKind,
        event: &StreamEvent,
        ctx: &mut Ctx,
    ) -> OwnershipEffect {
        match kind {
            StreamKind::ConnectProbe(id) if *event == StreamEvent::Ended => {
                if !self.streams.repeat_connect_probe(id, stream, &self.peers, &mut self.out) {
                    return self.finish_connect_probe(id, event, ctx);
                }
            }
            StreamKind::ConnectProbe(id) => {
                self.streams.forget(stream);
                return self.finish_connect_probe(id, event, ctx);
            }
            StreamKind::Inbound(id, generation) => {
                self.streams.forget(stream);
                let is_same = |member: &&Member| member.generation == generation && member.status.is_member();
                let is_member = self.peers.table.member(id).filter(is_same).is_some();
                if *event == StreamEvent::Ended && is_member && self.watching.peer(id).is_some() {
                    self.streams.probe_connection(id, &self.peers, &mut self.out, ctx);
                }
            }
            StreamKind::OutgoingTransfer(_) | StreamKind::IncomingTransfer(..) => {
                self.streams.forget(stream);
                self.transfers.forget(stream, ctx.now + ctx.config.interval / 2);
            }
            StreamKind::Outbound(_) | StreamKind::Unidentified | StreamKind::TablePull { .. } => {
                self.streams.forget(stream);
            }
        }
        OwnershipEffect::Nothing
    }

    /// Handles how an attempt to connect to a node ended.
    pub(super) fn finish_connect_probe(&mut self, id: NodeId, event: &StreamEvent, ctx: &mut Ctx) -> OwnershipEffect {
        self.streams.begin_connect_probes(&self.peers, &mut self.out, ctx);
        let mut effect = OwnershipEffect::Nothing;
        if *event == StreamEvent::Refused {
            self.streams.note_refused(id);
            let (inquiries, mut cx) = self.lend(ctx);
            let change = inquiries.handle_refused_connection(id, &mut cx);
            effect = self.apply_own(change, ctx);
        }
        let (inquiries, mut cx) = self.lend(ctx);
        inquiries.handle_target_unreached(id, &mut cx);
        effect
    }

    fn handle_frame(
        &mut self,
        stream: StreamId,
        kind: StreamKind,
        from: SocketAddr,
        datagram: &Datagram<'_>,
        ctx: &mut Ctx,
    ) -> OwnershipEffect {
        if let StreamKind::ConnectProbe(id) = kind {
            // A process answers there, the known one or a later one. Whether its datagrams arrive
            // is another question.
            self.streams.close(stream, &mut self.out);
            return self.finish_connect_probe(id, &StreamEvent::Ended, ctx);
        }
        let row = self.unconfirmed.handle_frame(from.ip(), datagram.header);
        let effect = self.merge_confirmed(row, ctx);
        let is_own = |node: NodeId| node == datagram.header.from;
        match kind {
            StreamKind::Inbound(id, _) if is_own(id) => {
                return effect.max(self.handle_datagram(Source::Frame(from), datagram, ctx));
            }
            StreamKind::Unidentified if !self.may_open_stream(from, datagram) => {
                self.streams.close(stream, &mut self.out);
                return effect;
            }
            StreamKind::Inbound(..)
            | StreamKind::Unidentified
            | StreamKind::Outbound(_)
            | StreamKind::ConnectProbe(_)
            | StreamKind::TablePull { .. }
            | StreamKind::OutgoingTransfer(_)
            | StreamKind::IncomingTransfer(..) => {}
        }
        let route = Route::Stream(stream, kind);
        effect.max(self.dispatch(&Received { source: Source::Frame(from), datagram, route }, ctx))
    }

    /// Whether the sender of the first frame may open a stream: it has to be in the table, and on
    /// its own host. The state of lifelines and transfers ends with the membership of their sender,
    /// so those take a member.
    fn may_open_stream(&self, from: SocketAddr, datagram: &Datagram<'_>) -> bool {
        let header = datagram.header;
        let is_it = |known: &&Member| known.generation == header.generation && Source::Frame(from).is_of(known);
        let known = self.peers.table.member(header.from).filter(is_it);
        let is_lasting = matches!(datagram.body, Body::Hello | Body::Part(_));
        known.is_some_and(|known| known.status.is_member() || !is_lasting) && header.from != self.peers.me.id
    }
}

/// Whether a message is about joining. Such messages come from any process, known or not.
fn is_admission(body: &Body<'_>) -> bool {
    matches!(body, Body::Join(_) | Body::Challenge { .. } | Body::Introduce | Body::Refused(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::fixture::{self, GENERATION, address, cluster, events, id, ms};
    use crate::membership::outbox::Outgoing;
    use crate::wire::Rumours;

    /// Hands a message of `from` to the cluster, `length` bytes long. Returns what leaves it.
    fn handle(cluster: &mut Cluster, ctx: &mut Ctx, from: &str, length: usize, body: Body<'_>) -> Vec<Outgoing> {
        let header = Header { cluster: 0, from: id(from), generation: GENERATION, clock: 0 };
        let datagram = Datagram { header, body, rumours: Rumours::default(), summary: None };
        cluster.handle_datagram(Source::Datagram(address(from), length), &datagram, ctx);
        std::iter::from_fn(|| cluster.poll_outgoing()).collect()
    }

    fn send(to: &str, body: Body<'static>) -> Vec<Outgoing> {
        vec![sent(to, ProcessId { node: id(to), generation: GENERATION }, Payload::Body(body))]
    }

    fn sent(to: &str, receiver: ProcessId, payload: Payload) -> Outgoing {
        Outgoing::Send { to: address(to), receiver: Some(receiver), payload }
    }

    #[test]
    fn a_stranger_is_introduced_if_it_sent_enough() {
        let (mut cluster, mut ctx) = cluster(&["a"]);
        let enough = wire::introduction_bytes(cluster.header(ctx.now));
        let probe = || Body::Probe { number: 1 };
        assert_eq!(handle(&mut cluster, &mut ctx, "x", enough - 1, probe()), []);
        assert_eq!(handle(&mut cluster, &mut ctx, "x", enough, probe()), send("x", Body::Introduce));
        let ack = Body::Ack(wire::Ack { stage: 16, health: 0 });
        assert_eq!(handle(&mut cluster, &mut ctx, "x", 1_000, ack), [], "an answer to a question of before");
    }

    /// Hands a join of `from` to the cluster, with its token, and this status in its row. Returns
    /// what leaves the cluster.
    fn join(cluster: &mut Cluster, ctx: &mut Ctx, from: &str, status: Status) -> Vec<Outgoing> {
        let member = Member { status, ..fixture::member(from) };
        let mut bytes = Vec::new();
        wire::encode_join(&mut bytes, fixture::header(from), 0, &member);
        let datagram = wire::decode(&bytes).unwrap();
        let Body::Join(join) = datagram.body else { panic!("{datagram:?}") };
        let challenge = handle(cluster, ctx, from, 100, Body::Join(join));
        let [Outgoing::Send { payload: Payload::Body(Body::Challenge { token }), .. }] = challenge[..] else {
            panic!("{challenge:?}")
        };
        handle(cluster, ctx, from, 100, Body::Join(Join { token, ..join }))
    }

    #[test]
    fn a_join_that_arrives_after_its_withdrawal_is_refused() {
        let (mut cluster, mut ctx) = cluster(&["a"]);
        assert_eq!(join(&mut cluster, &mut ctx, "x", Status::Left), []);
        assert_eq!(join(&mut cluster, &mut ctx, "x", Status::Left), [], "again");
        assert_eq!(events(&mut ctx), [], "it was no member");
        assert!(cluster.peers.gossip.due().is_none(), "and no other member has to know");
        let refused = crate::membership::table::Refusal::HasLeft.to_wire();
        assert_eq!(join(&mut cluster, &mut ctx, "x", Status::Alive), send("x", Body::Refused(refused)));
        assert!(cluster.watching.ids().is_empty());
    }

    #[test]
    fn the_withdrawal_of_a_join_that_was_admitted_is_a_goodbye() {
        let (mut cluster, mut ctx) = cluster(&["a"]);
        join(&mut cluster, &mut ctx, "x", Status::Alive);
        assert_eq!(cluster.watching.ids(), [id("x")]);
        events(&mut ctx);
        join(&mut cluster, &mut ctx, "x", Status::Left);
        assert_eq!(events(&mut ctx), [Event::Left { node: "x".into() }]);
        assert!(cluster.watching.ids().is_empty());
    }

    #[test]
    fn any_datagram_of_a_silent_node_ends_its_silence() {
        let (mut cluster, mut ctx) = cluster(&["a", "b"]);
        let gossip =
            Datagram { header: fixture::header("a"), body: Body::Gossip, rumours: Rumours::default(), summary: None };
        let silence = |cluster: &mut Cluster, ctx: &mut Ctx, second: u64| {
            cluster.watching.start(id("a"), fixture::SECOND, WatchKind::Unsolicited, ctx);
            ctx.now = ms(second * 1_000);
            while ctx.monitor.poll_change(ctx.now).is_some() {}
            assert!(cluster.watching.is_silent(id("a"), ctx));
        };
        silence(&mut cluster, &mut ctx, 10);
        handle(&mut cluster, &mut ctx, "b", 100, Body::Gossip);
        assert!(cluster.watching.is_silent(id("a"), &ctx), "of another node");
        cluster.handle_datagram(Source::Frame(address("a")), &gossip, &mut ctx);
        assert!(cluster.watching.is_silent(id("a"), &ctx), "it may have lain in the connection");
        handle(&mut cluster, &mut ctx, "a", 100, Body::Gossip);
        assert!(!cluster.watching.is_silent(id("a"), &ctx));

        silence(&mut cluster, &mut ctx, 30);
        cluster.watching.peer_mut(id("a")).unwrap().refused = true;
        assert!(!cluster.watching.is_silent(id("a"), &ctx), "it has ended");
        handle(&mut cluster, &mut ctx, "a", 100, Body::Gossip);
        assert!(cluster.watching.peer(id("a")).unwrap().refused, "a late copy proves nothing");
    }

    #[test]
    fn only_the_poll_of_a_member_is_answered() {
        let (mut cluster, mut ctx) = cluster(&["a"]);
        let poll = || Body::Poll { number: 5 };
        assert_eq!(handle(&mut cluster, &mut ctx, "a", 100, poll()), send("a", Body::Vote { number: 5 }));
        assert_eq!(handle(&mut cluster, &mut ctx, "x", 100, poll()), send("x", Body::Introduce));
    }

    #[test]
    fn a_dead_member_may_be_probed_and_learns_of_its_death() {
        let (mut cluster, mut ctx) = cluster(&["a"]);
        cluster.peers.table.set_status(ms(0), id("a"), Status::Dead).unwrap();
        let receiver = ProcessId { node: id("a"), generation: GENERATION };
        let about = sent("a", receiver, Payload::About(id("a")));
        let answers = handle(&mut cluster, &mut ctx, "a", 100, Body::Probe { number: 3 });
        assert_eq!((answers.len(), &answers[0]), (2, &about));
        assert_eq!(handle(&mut cluster, &mut ctx, "a", 100, Body::Poll { number: 5 }), [about]);
        assert_eq!(handle(&mut cluster, &mut ctx, "a", 100, Body::Gossip), []);
    }

    #[test]
    fn a_later_process_of_this_name_supersedes_this_one() {
        let (mut cluster, mut ctx) = cluster(&["a"]);
        let mut namesake = |ctx: &mut Ctx, from: &str, length, generation, body: Body<'_>| {
            let header = Header { cluster: 0, from: id("me"), generation: Generation(generation), clock: 0 };
            let datagram = Datagram { header, body, rumours: Rumours::default(), summary: None };
            let effect = cluster.handle_datagram(Source::Datagram(address(from), length), &datagram, ctx);
            (effect, std::iter::from_fn(|| cluster.poll_outgoing()).collect::<Vec<_>>())
        };
        let nothing = OwnershipEffect::Nothing;
        assert_eq!(namesake(&mut ctx, "x", 100, 7, Body::Gossip), (nothing, vec![]), "its own");
        let earlier = ProcessId { node: id("me"), generation: Generation(6) };
        let introduced = (nothing, vec![sent("x", earlier, Payload::Body(Body::Introduce))]);
        assert_eq!(namesake(&mut ctx, "x", 100, 6, Body::Gossip), introduced, "an earlier one");
        let challenge = Body::Challenge { token: 5 };
        let returned = (nothing, vec![sent("x", earlier, Payload::Body(challenge.clone()))]);
        assert_eq!(namesake(&mut ctx, "x", 100, 6, challenge.clone()), returned, "an earlier one asks");

        assert_eq!(namesake(&mut ctx, "x", 20, 8, Body::Gossip), (nothing, vec![]), "it sent too little");
        let (effect, sent) = namesake(&mut ctx, "x", 100, 8, challenge);
        let [Outgoing::Send { payload: Payload::Body(Body::Challenge { token }), .. }] = sent[..] else {
            panic!("{sent:?}")
        };
        assert_eq!(effect, nothing, "another token");
        let answer = || Body::Challenge { token };
        assert_eq!(namesake(&mut ctx, "y", 100, 8, answer()).0, nothing, "from another address");
        assert_eq!(namesake(&mut ctx, "x", 100, 9, answer()).0, nothing, "of another generation");
        assert_eq!(events(&mut ctx), []);
        assert_eq!(namesake(&mut ctx, "x", 100, 8, answer()).0, OwnershipEffect::Revoke);
        assert_eq!(namesake(&mut ctx, "x", 100, 8, answer()), (nothing, vec![]), "once");
        let generation = Generation(8);
        assert_eq!(events(&mut ctx), [Event::Superseded { generation, address: Some(address("x")) }]);
        assert_eq!(cluster.next_due(ms(0)), Instant::NEVER);
    }

    #[test]
    fn a_datagram_is_a_members_from_its_address_alone() {
        let (mut cluster, mut ctx) = cluster(&["a"]);
        let clock = cluster.header(ctx.now).clock;
        let header = Header { cluster: 0, from: id("a"), generation: GENERATION, clock: clock + 86_400_000 };
        let mut spoof = |cluster: &mut Cluster, source, body| {
            let datagram = Datagram { header, body, rumours: Rumours::default(), summary: None };
            cluster.handle_datagram(source, &datagram, &mut ctx);
            let sent = std::iter::from_fn(|| cluster.poll_outgoing()).collect::<Vec<_>>();
            (sent, cluster.header(ctx.now).clock)
        };
        let poll = || Body::Poll { number: 5 };
        let elsewhere = Source::Datagram(address("x"), 100);
        let introduced = vec![sent("x", header.sender(), Payload::Body(Body::Introduce))];
        assert_eq!(spoof(&mut cluster, elsewhere, poll()), (introduced, clock));
        let port = SocketAddr::new(address("a").ip(), 9);
        assert_eq!(spoof(&mut cluster, Source::Datagram(port, 1), poll()), (vec![], clock), "its host is not enough");
        let (sent, followed) = spoof(&mut cluster, Source::Datagram(address("a"), 100), poll());
        assert_eq!(sent, send("a", Body::Vote { number: 5 }));
        assert!(followed > clock);
    }

    #[test]
    fn a_frame_that_does_not_serve_its_stream_closes_it() {
        let (mut cluster, mut ctx) = cluster(&["a"]);
        let mut frame = |from: &str, body: Body<'_>| {
            let stream = cluster.handle_accepted(&ctx);
            let header = Header { cluster: 0, from: id(from), generation: GENERATION, clock: 0 };
            let datagram = Datagram { header, body, rumours: Rumours::default(), summary: None };
            cluster.handle_stream(stream, &StreamEvent::Frame(Vec::new()), Some((&datagram, address(from))), &mut ctx);
            let left: Vec<Outgoing> = std::iter::from_fn(|| cluster.poll_outgoing()).collect();
            left.contains(&Outgoing::Close { stream })
        };
        assert!(!frame("a", Body::Hello));
        assert!(!frame("a", Body::Probe { number: 1 }));
        assert!(frame("a", Body::Gossip));
        assert!(frame("a", Body::Kept { parts: 1, refused: false }));
        assert!(frame("x", Body::Hello), "of no member");
        assert!(frame("me", Body::Probe { number: 1 }), "under this node's own name");
    }

    #[test]
    fn messages_of_the_past_and_duplicates_change_nothing() {
        let (mut cluster, mut ctx) = cluster(&["a"]);
        for body in [
            Body::Vote { number: 1 },
            Body::Release,
            Body::Echo(Echo { number: 1, incarnation: Incarnation::default(), is_observer: true }),
        ] {
            for _ in 0..2 {
                assert_eq!(handle(&mut cluster, &mut ctx, "a", 100, body.clone()), []);
            }
        }
        assert_eq!(events(&mut ctx), []);
        assert_eq!(cluster.table().member(id("a")), Some(&fixture::member("a")));
    }
}
