//! `Inquiries`: what follows when a heartbeat does not come. Others are asked, then a verdict is
//! reached.
//!
//! ```text
//! doubt      the detector's deadline has passed   -> probe the target; wait
//! inquiry    the target did not answer            -> ask its other observers, which probe it too;
//!                                                    probe again; wait
//! suspicion  no observer received a heartbeat     -> published, to the target first; it can refute
//! inquiry    no sign of life for `timeout`        -> ask the observers again
//! death      most of the answers agree            -> published
//! ```
//! If the target has no other observer, its detector alone makes it suspect, and `timeout` dead. If
//! its observers do not answer, a few other members are asked too. Each of those agrees to the
//! death once its own table has held the target suspect for `timeout - interval`. A sign of life at
//! any step ends the inquiry; what counts is when it was sent, by its stage, and not when it came.
//! A closed lifeline and a refused connection ([`super::streams`]) lead to the last inquiry at
//! once.
//!
//! An observer that receives heartbeats of less than half of the nodes it watches is probably cut
//! off itself. It goes on asking and concludes nothing.
//!
//! Source: A. Das, I. Gupta and A. Motivala, "SWIM: scalable weakly-consistent infection-style
//! process group membership protocol", DSN 2002, section 3.1, for the indirect probe. Here the
//! target's own observers are asked before random members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::config::OnIsolated;
use crate::ctx::Ctx;
use crate::detection::Verdict;
use crate::event::{Event, ObserverReport};
use crate::member::{Generation, Member, NodeId, Status};
use crate::membership::brake::{Brake, Brakes};
use crate::membership::local_health::is_credible;
use crate::membership::outbox::{Outbox, Payload};
use crate::membership::peers::Peers;
use crate::membership::quorum::Quorum;
use crate::membership::refutation::Refutations;
use crate::membership::streams::Streams;
use crate::membership::table::Change;
use crate::membership::unconfirmed::{EVER, Unconfirmed};
use crate::membership::watch::{WatchedPeer, Watching};
use crate::time::{Instant, earliest};
use crate::wire::{Body, IndirectProbe, ProbeReport, SILENCE_MAX};

/// Indirect probes of others that wait for an answer of their target, at most.
const PENDING_MAX: usize = 1_024;

/// What an inquiry wants to know of its target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Whether it answers this node.
    Probe,
    /// Whether others have received its heartbeats.
    Suspect,
    /// Whether others agree to its death.
    Death,
}

/// Which members are asked about a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ask {
    /// Its other observers, if any is a member.
    Observers,
    /// A few random members as well.
    Random,
}

/// A question about one target.
#[derive(Clone, Debug)]
struct Inquiry {
    number: u32,
    step: Step,
    begun: Instant,
    due: Instant,
    /// Reports decide nothing before.
    not_before: Instant,
    /// The stage that did not come.
    missing: u64,
    /// How many members were asked.
    asked: usize,
    /// Whether the inquiry before this one was not answered either, though others were received.
    unanswered: bool,
    reports: Vec<(NodeId, ProbeReport)>,
}

/// An indirect probe of another member, while its target has not answered.
#[derive(Clone, Debug)]
struct PendingProbe {
    asker: NodeId,
    probe: IndirectProbe,
    until: Instant,
}

/// What follows from the reports on a target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Decision {
    /// No member answers, and this node receives little of others or is unwell: the fault is
    /// probably its own. Ask again after an interval.
    Hold,
    /// No member answers: ask random members too.
    AskRandom,
    Suspect,
    DeclareDead,
    /// Others do have a connection. Heartbeats decide from here on.
    EndRefused,
    /// Too few agree: ask again.
    AskAgain,
    /// Too few agree: make the target suspect and ask again. A random member agrees only after the
    /// target has been suspect for a time.
    SuspectAndAskAgain,
}

/// What came of a report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ReportOutcome {
    /// It answers no inquiry, does not count, or others are still to come.
    Nothing,
    /// The target was alive at this instant.
    Alive(Instant),
    /// All reports have come: decide.
    Complete,
}

/// What inquiries use of the other rules.
pub(super) struct InquiryCtx<'a> {
    pub(super) watching: &'a mut Watching,
    pub(super) streams: &'a mut Streams,
    pub(super) refutations: &'a mut Refutations,
    pub(super) unconfirmed: &'a Unconfirmed,
    pub(super) quorum: Option<&'a Quorum>,
    pub(super) peers: &'a mut Peers,
    pub(super) out: &'a mut Outbox,
    pub(super) ctx: &'a mut Ctx,
}

impl InquiryCtx<'_> {
    fn send_to(&mut self, id: NodeId, payload: Payload) {
        self.out.send_to(self.peers, id, payload);
    }

    fn is_refused(&self, id: NodeId) -> bool {
        self.watching.peer(id).is_some_and(|peer| peer.refused)
    }

    /// Whether this node receives enough from others to conclude anything.
    fn is_well_connected(&self, but: NodeId) -> bool {
        !holds_when_isolated(self.ctx) || self.watching.is_well_connected(but, self.peers, self.ctx)
    }

    /// Sends what this node knows of a target to the member that asked.
    fn send_report(&mut self, asker: NodeId, probe: &IndirectProbe, reached: bool) {
        let report = self.report(probe, reached);
        self.send_to(asker, Payload::Body(Body::ProbeReport(report)));
    }

    /// What this node knows of a target.
    fn report(&self, probe: &IndirectProbe, reached: bool) -> ProbeReport {
        let IndirectProbe { number, target, generation, .. } = *probe;
        let peer = self.watching.peer(target);
        let silence = self.watching.silence(target, self.ctx);
        let is_dead = match peer.filter(|peer| peer.stage > 0) {
            Some(peer) => self.ctx.monitor.verdict(peer.watch) == Verdict::Dead,
            None => self.peers.is_long_suspect(target, self.ctx),
        };
        let refused = self.is_refused(target) || self.streams.was_refused(target);
        ProbeReport {
            number,
            target,
            generation,
            stage: peer.map_or(0, |peer| peer.stage),
            silence: Duration::from_micros(silence.min(SILENCE_MAX).as_micros() as u64),
            reached,
            gone: refused,
            agrees: !reached && (refused || is_dead),
            health: self.peers.health.score(),
        }
    }
}

/// The questions that are asked about silent nodes, by this node and by others.
#[derive(Clone, Debug, Default)]
pub(super) struct Inquiries {
    inquiries: BTreeMap<NodeId, Inquiry>,
    /// When each of them is due.
    due: BTreeSet<(Instant, NodeId)>,
    /// The earliest first.
    pending: Vec<PendingProbe>,
    brakes: Brakes,
    brakes_due: Option<Instant>,
    /// Processes that have certainly ended: name and generation.
    exited: Vec<(Arc<str>, Generation)>,
}

impl Inquiries {
    /// In how many zones silence makes no member dead now.
    pub(super) fn zones_disrupted(&self) -> usize {
        self.brakes.zones_disrupted()
    }

    /// When [`Inquiries::poll_due`], the brakes or a pending probe are due; verdicts are held until
    /// `held_until`.
    pub(super) fn next_due(&self, held_until: Instant) -> Instant {
        let held = [self.due.first().map(|(due, _)| *due), self.brakes_due].into_iter().flatten();
        let pending = self.pending.first().map(|pending| pending.until);
        earliest(Instant::NEVER, [held.map(|due| due.max(held_until)).min(), pending])
    }

    // ---- asked by others ------------------------------------------------------------------------

    /// Handles the question of another member about a target.
    pub(super) fn handle_indirect_probe(&mut self, from: NodeId, probe: &IndirectProbe, cx: &mut InquiryCtx<'_>) {
        let IndirectProbe { target, generation, .. } = *probe;
        if target == cx.peers.me.id && generation == cx.peers.me.generation {
            return cx.send_report(from, probe, true);
        }
        match cx.peers.table.member(target) {
            Some(member) if member.generation == generation && member.status.is_member() => {}
            // The asker does not know of its end, or of its later process.
            Some(_) => return cx.refutations.send_status(from, target, cx.peers, cx.out),
            None => return,
        }
        // An observer that has not yet received a heartbeat has no evidence.
        let peer = cx.watching.peer(target).filter(|peer| peer.stage > 0 || peer.refused);
        let has_received = match peer {
            Some(peer) if probe.death => cx.ctx.monitor.verdict(peer.watch) == Verdict::Alive && !peer.refused,
            Some(peer) => peer.stage >= probe.stage,
            None if probe.stage == EVER && !probe.death => cx.unconfirmed.has_answered(target, generation),
            None => false,
        };
        let is_decided = probe.death && !probe.gone && peer.is_some() || peer.is_some_and(|peer| peer.refused);
        if has_received && !probe.gone || is_decided {
            return cx.send_report(from, probe, has_received);
        }
        if self.pending.len() >= PENDING_MAX {
            return;
        }
        if probe.gone {
            cx.streams.probe_connection(target, cx.peers, cx.out, cx.ctx);
        } else {
            let number = cx.out.next_number();
            cx.send_to(target, Payload::Body(Body::Probe { number }));
        }
        // The system connects at both ends and may be busy. An answer is passed on at once.
        let reply = cx.peers.reply_timeout(cx.ctx);
        let until = cx.ctx.now + if probe.gone { reply.max(cx.ctx.config.interval) } else { reply };
        self.pending.push(PendingProbe { asker: from, probe: *probe, until });
        self.pending.sort_by_key(|pending| pending.until);
    }

    /// Reports to the members that asked about a target: it has answered.
    pub(super) fn handle_target_reached(&mut self, target: NodeId, cx: &mut InquiryCtx<'_>) {
        self.report_pending(target, true, cx);
    }

    /// Reports to the members that asked about a target: no connection to it came about.
    pub(super) fn handle_target_unreached(&mut self, target: NodeId, cx: &mut InquiryCtx<'_>) {
        self.report_pending(target, false, cx);
    }

    fn report_pending(&mut self, target: NodeId, reached: bool, cx: &mut InquiryCtx<'_>) {
        if self.pending.is_empty() {
            return;
        }
        let (over, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().partition(|pending| pending.probe.target == target);
        self.pending = rest;
        over.into_iter().for_each(|pending| cx.send_report(pending.asker, &pending.probe, reached));
    }

    /// Reports on the targets that have not answered in time.
    pub(super) fn expire_pending(&mut self, cx: &mut InquiryCtx<'_>) {
        while let Some(pending) = self.pending.first().filter(|pending| pending.until <= cx.ctx.now) {
            let PendingProbe { asker, probe, .. } = pending.clone();
            self.pending.remove(0);
            cx.send_report(asker, &probe, false);
        }
    }

    // ---- asked by this node ---------------------------------------------------------------------

    /// Handles the verdict of a detector. Returns the change if this node suspects the target or
    /// declares it dead at once.
    pub(super) fn handle_verdict(&mut self, id: NodeId, verdict: Verdict, cx: &mut InquiryCtx<'_>) -> Option<Change> {
        let peer = cx.watching.peer(id)?;
        let (missing, unsolicited, is_suspect) = (peer.missing_stage(), peer.unsolicited, cx.peers.is_suspect(id));
        if verdict == Verdict::Suspect && !is_suspect {
            cx.streams.handle_silence(id, cx.peers, cx.out, cx.ctx);
        }
        match verdict {
            Verdict::Alive => None,
            Verdict::Suspect if is_suspect => None,
            Verdict::Suspect if !unsolicited && members_to_ask(id, Ask::Observers, cx).is_empty() => {
                self.suspect(id, &[], cx)
            }
            Verdict::Suspect => {
                self.begin(id, Step::Probe, missing, Ask::Observers, cx);
                None
            }
            Verdict::Dead => {
                self.begin(id, Step::Death, missing, Ask::Observers, cx);
                // A node that never named this one may still answer the probe.
                if unsolicited { None } else { self.decide_if_none_asked(id, cx) }
            }
        }
    }

    /// Handles that a connection to a watched node was refused: its process has ended, or its port
    /// is closed. The other observers are asked at once.
    pub(super) fn handle_refused_connection(&mut self, id: NodeId, cx: &mut InquiryCtx<'_>) -> Option<Change> {
        let peer = cx.watching.peer_mut(id)?;
        peer.refused = true;
        let missing = peer.missing_stage();
        self.begin(id, Step::Death, missing, Ask::Observers, cx);
        self.decide_if_none_asked(id, cx)
    }

    fn decide_if_none_asked(&mut self, id: NodeId, cx: &mut InquiryCtx<'_>) -> Option<Change> {
        if self.inquiries.get(&id).is_some_and(|inquiry| inquiry.asked == 0) { self.decide(id, cx) } else { None }
    }

    /// Handles what another member reports of a target.
    pub(super) fn handle_report(
        &mut self,
        from: NodeId,
        report: &ProbeReport,
        watching: &mut Watching,
        ctx: &Ctx,
    ) -> ReportOutcome {
        let id = report.target;
        let Some(inquiry) = self.inquiries.get_mut(&id).filter(|inquiry| inquiry.number == report.number) else {
            return ReportOutcome::Nothing;
        };
        if report.reached {
            // Its heartbeats do not come here, but another member received one: a bad link is no
            // death. What counts is when that was. Otherwise reports of reports would keep a dead
            // node alive.
            if let Some(peer) = watching.peer_mut(id) {
                peer.seen_elsewhere = peer.seen_elsewhere.max(report.stage);
            }
            return ReportOutcome::Alive(ctx.now - report.silence);
        }
        let is_repeated = inquiry.reports.iter().any(|(who, _)| *who == from);
        if !is_credible(report.health) && !report.gone || is_repeated {
            return ReportOutcome::Nothing;
        }
        inquiry.reports.push((from, *report));
        if inquiry.reports.len() < inquiry.asked || ctx.now < inquiry.not_before || ctx.arrivals_stale {
            return ReportOutcome::Nothing;
        }
        ReportOutcome::Complete
    }

    /// Begins to ask about a target, or goes on to another question.
    fn begin(&mut self, id: NodeId, step: Step, missing: u64, ask: Ask, cx: &mut InquiryCtx<'_>) {
        self.end(id);
        let Some(generation) = cx.peers.table.member(id).map(|member| member.generation) else { return };
        let number = cx.out.next_number();
        let refused = cx.is_refused(id);
        if !refused {
            cx.send_to(id, Payload::Body(Body::Probe { number }));
        }
        let asked = if step == Step::Probe { Vec::new() } else { members_to_ask(id, ask, cx) };
        let death = step == Step::Death;
        let probe = IndirectProbe { number, target: id, generation, stage: missing, gone: refused, death };
        for &other in &asked {
            if death && cx.peers.is_suspect(id) {
                // It may have been cut off when the suspicion was gossiped.
                cx.send_to(other, Payload::About(id));
            }
            cx.send_to(other, Payload::Body(Body::IndirectProbe(probe)));
        }
        let (now, reply) = (cx.ctx.now, cx.peers.reply_timeout(cx.ctx));
        let wait = match (step, refused) {
            (Step::Probe, _) => reply,
            // The members that are asked probe the target first.
            (Step::Suspect | Step::Death, false) => reply * 2,
            (Step::Suspect | Step::Death, true) => reply + cx.ctx.config.interval,
        };
        let inquiry = Inquiry {
            number,
            step,
            begun: now,
            due: now + wait,
            not_before: now,
            missing,
            asked: asked.len(),
            unanswered: false,
            reports: Vec::new(),
        };
        self.due.insert((inquiry.due, id));
        self.inquiries.insert(id, inquiry);
    }

    /// Ends the inquiry about a target, if there is one.
    pub(super) fn end(&mut self, id: NodeId) {
        if let Some(inquiry) = self.inquiries.remove(&id) {
            self.due.remove(&(inquiry.due, id));
        }
    }

    fn postpone(&mut self, id: NodeId, due: Instant) {
        if let Some(inquiry) = self.inquiries.get_mut(&id) {
            self.due.remove(&(inquiry.due, id));
            inquiry.due = due;
            self.due.insert((due, id));
        }
    }

    /// Asks anew, and decides nothing before `after`: the reports that came until now are old by
    /// then.
    fn ask_again(
        &mut self,
        id: NodeId,
        (step, missing): (Step, u64),
        after: Duration,
        ask: Ask,
        cx: &mut InquiryCtx<'_>,
    ) {
        self.begin(id, step, missing, ask, cx);
        let due = cx.ctx.now + after.max(cx.peers.reply_timeout(cx.ctx) * 2);
        self.postpone(id, due);
        if let Some(inquiry) = self.inquiries.get_mut(&id) {
            inquiry.not_before = due;
        }
    }

    /// Asks all questions anew after a pause of this node: reports from before it are old.
    pub(super) fn discount_pause(&mut self, cx: &mut InquiryCtx<'_>) {
        let asked: Vec<(NodeId, Step, u64)> =
            self.inquiries.iter().map(|(id, inquiry)| (*id, inquiry.step, inquiry.missing)).collect();
        let reply = cx.peers.reply_timeout(cx.ctx);
        for (id, step, missing) in asked {
            self.ask_again(id, (step, missing), Duration::ZERO, Ask::Observers, cx);
        }
        for pending in &mut self.pending {
            pending.until = pending.until.max(cx.ctx.now + reply);
        }
    }

    /// A target whose inquiry is due.
    pub(super) fn poll_due(&mut self, now: Instant) -> Option<NodeId> {
        while let Some(&(due, id)) = self.due.first()
            && due <= now
        {
            if self.inquiries.contains_key(&id) {
                return Some(id);
            }
            self.due.pop_first();
        }
        None
    }

    /// Goes on with the inquiry about a target: it asks others, or decides.
    pub(super) fn advance(&mut self, id: NodeId, cx: &mut InquiryCtx<'_>) -> Option<Change> {
        let (step, missing) = self.inquiries.get(&id).map(|inquiry| (inquiry.step, inquiry.missing))?;
        match step {
            Step::Probe => {
                self.begin(id, Step::Suspect, missing, Ask::Observers, cx);
                None
            }
            Step::Suspect | Step::Death => self.decide(id, cx),
        }
    }

    // ---- verdicts -------------------------------------------------------------------------------

    /// Decides by the reports that have come. Returns the change if the target is suspected or
    /// declared dead.
    pub(super) fn decide(&mut self, id: NodeId, cx: &mut InquiryCtx<'_>) -> Option<Change> {
        let inquiry = self.inquiries.get(&id)?;
        let (question, reports) = ((inquiry.step, inquiry.missing), inquiry.reports.clone());
        let interval = cx.ctx.config.interval;
        match decision(id, inquiry, cx) {
            Decision::Hold => {
                cx.peers.health.degrade();
                self.begin(id, question.0, question.1, Ask::Random, cx);
                self.postpone(id, cx.ctx.now + interval);
                None
            }
            Decision::AskRandom => {
                // The members that were asked may have paused, or their reports were lost.
                self.ask_again(id, question, Duration::ZERO, Ask::Random, cx);
                if let Some(inquiry) = self.inquiries.get_mut(&id) {
                    inquiry.unanswered = true;
                }
                None
            }
            Decision::Suspect => self.suspect(id, &reports, cx),
            Decision::DeclareDead => self.declare_dead(id, &reports, cx),
            Decision::EndRefused => {
                if let Some(peer) = cx.watching.peer_mut(id) {
                    peer.refused = false;
                }
                self.end(id);
                None
            }
            Decision::AskAgain => {
                self.ask_again(id, question, interval / 4, Ask::Observers, cx);
                None
            }
            Decision::SuspectAndAskAgain => {
                let change = self.suspect(id, &reports, cx);
                self.ask_again(id, question, interval / 4, Ask::Observers, cx);
                change
            }
        }
    }

    /// Suspects a target. The suspicion goes to the target first: it alone can refute it.
    fn suspect(&mut self, id: NodeId, reports: &[(NodeId, ProbeReport)], cx: &mut InquiryCtx<'_>) -> Option<Change> {
        self.end(id);
        let change = cx.peers.table.set_status(cx.ctx.now, id, Status::Suspect)?;
        cx.watching.note_suspected(id);
        let (silent_for, evidence) = evidence(id, reports, cx);
        cx.ctx.emit(Event::Suspected { node: change.after.name.clone(), silent_for, evidence, reported_by: None });
        cx.send_to(id, Payload::About(id));
        Some(change)
    }

    /// Declares a target dead, unless there is a reason to wait.
    fn declare_dead(
        &mut self,
        id: NodeId,
        reports: &[(NodeId, ProbeReport)],
        cx: &mut InquiryCtx<'_>,
    ) -> Option<Change> {
        let refused = cx.is_refused(id);
        if !refused && self.must_wait(id, cx) {
            let missing = self.inquiries.get(&id).map_or(0, |inquiry| inquiry.missing);
            let after = cx.ctx.config.interval / 2;
            self.ask_again(id, (Step::Death, missing), after, Ask::Observers, cx);
            return None;
        }
        if let Some(member) = cx.peers.table.member(id).filter(|_| refused) {
            self.exited.push((member.name.clone(), member.generation));
        }
        let (silent_for, evidence) = evidence(id, reports, cx);
        let Some(change) = cx.peers.table.set_status(cx.ctx.now, id, Status::Dead) else {
            self.end(id);
            return None;
        };
        cx.ctx.emit(Event::Died { node: change.after.name.clone(), silent_for, evidence, reported_by: None });
        cx.send_to(id, Payload::About(id));
        Some(change)
    }

    /// Whether silence may not make this target dead now: this node has no quorum, is badly
    /// connected, or the brake holds.
    fn must_wait(&mut self, id: NodeId, cx: &mut InquiryCtx<'_>) -> bool {
        if cx.quorum.is_some_and(|quorum| !quorum.is_held()) || !cx.is_well_connected(id) {
            return true;
        }
        let Some(zone) = cx.peers.table.member(id).map(|member| member.zone.clone()) else { return true };
        if !cx.ctx.config.membership.brake {
            return false;
        }
        let mut events = Vec::new();
        let brake = self.brakes.ask(&zone, &cx.peers.table, cx.ctx.now, &mut events);
        events.into_iter().for_each(|event| cx.ctx.emit(event));
        if brake == Brake::Free {
            return false;
        }
        self.brakes_due = self.brakes.is_disrupted().then_some(cx.ctx.now + cx.ctx.config.interval / 2);
        true
    }

    /// Checks whether a disrupted zone has recovered. Returns whether one has: then all watched
    /// nodes get a fresh timer.
    pub(super) fn check_brakes(&mut self, peers: &Peers, ctx: &mut Ctx) -> bool {
        if self.brakes_due.is_none_or(|due| due > ctx.now) {
            return false;
        }
        let mut events = Vec::new();
        let has_recovered = self.brakes.recount(&peers.table, ctx.now, &mut events);
        events.into_iter().for_each(|event| ctx.emit(event));
        self.brakes_due = self.brakes.is_disrupted().then_some(ctx.now + ctx.config.interval / 2);
        has_recovered
    }

    /// Processes that have certainly ended, since this was last asked.
    pub(super) fn take_exited(&mut self) -> Vec<(Arc<str>, Generation)> {
        std::mem::take(&mut self.exited)
    }
}

/// What follows from the reports of an inquiry.
fn decision(id: NodeId, inquiry: &Inquiry, cx: &InquiryCtx<'_>) -> Decision {
    let peer = cx.watching.peer(id);
    let refused = peer.is_some_and(|peer| peer.refused);
    let is_answered = !inquiry.reports.is_empty() || inquiry.asked == 0;
    if !is_answered {
        let is_cut_off =
            || !cx.is_well_connected(id) || !cx.watching.has_received_since(inquiry.begun, id, cx.peers, cx.ctx);
        if holds_when_isolated(cx.ctx) && (is_cut_off() || !is_credible(cx.peers.health.score())) {
            return Decision::Hold;
        }
        let unsolicited = peer.is_some_and(|peer| peer.unsolicited);
        if !inquiry.unanswered || unsolicited && cx.peers.table.others().len() > 1 {
            return Decision::AskRandom;
        }
    }
    if inquiry.step != Step::Death {
        return Decision::Suspect;
    }
    // The reports of observers outweigh those of members that only tried to reach the target.
    let is_observer = |report: &ProbeReport| report.stage > 0 || report.gone;
    let by_observers = inquiry.reports.iter().any(|(_, report)| is_observer(report));
    let counted: Vec<&ProbeReport> = inquiry
        .reports
        .iter()
        .map(|(_, report)| report)
        .filter(|report| !by_observers || is_observer(report))
        .collect();
    // Members that never received a heartbeat of a newcomer know only that it does not answer.
    let is_newcomer = peer.is_some_and(WatchedPeer::is_newcomer);
    let agrees = |report: &&&ProbeReport| match refused {
        true => report.gone,
        false => report.agrees || is_newcomer && report.stage == 0,
    };
    // This node agrees.
    let agreeing = 1 + counted.iter().filter(agrees).count();
    if agreeing * 2 > 1 + counted.len() {
        Decision::DeclareDead
    } else if refused && is_answered {
        Decision::EndRefused
    } else if !by_observers && !refused {
        Decision::SuspectAndAskAgain
    } else {
        Decision::AskAgain
    }
}

/// The members that may know of a target: its other observers. Random members are asked instead if
/// it has not named this node, or if none of its observers is a member.
fn members_to_ask(id: NodeId, ask: Ask, cx: &mut InquiryCtx<'_>) -> Vec<NodeId> {
    let Some(peer) = cx.watching.peer(id) else { return Vec::new() };
    let (table, me) = (&cx.peers.table, cx.peers.me.id);
    let may_know = |member: &&Member| member.id != me && member.id != id && member.status.is_member();
    let observers = peer.observers.iter().flat_map(|short| table.with_short_id(short)).filter(may_know);
    let mut known: Vec<NodeId> = observers.map(|member| member.id).collect();
    let has_others = peer.observers.iter().nth(1).is_some();
    if peer.unsolicited || known.is_empty() && has_others {
        return cx.peers.random_members(id, &mut cx.ctx.random);
    }
    match ask {
        Ask::Observers => {}
        Ask::Random => {
            known.extend(cx.peers.random_members(id, &mut cx.ctx.random));
            known.sort();
            known.dedup();
        }
    }
    known
}

/// For how long a target has been silent here, and what each observer reports.
fn evidence(id: NodeId, reports: &[(NodeId, ProbeReport)], cx: &InquiryCtx<'_>) -> (Duration, Arc<[ObserverReport]>) {
    let silent_for = cx.watching.silence(id, cx.ctx);
    let own = ObserverReport {
        observer: cx.peers.me.name.clone(),
        silent_for: Some(silent_for),
        refused: cx.is_refused(id),
        agrees: true,
        health: cx.peers.health.score(),
    };
    let theirs = reports.iter().filter_map(|(who, report)| {
        let observer = cx.peers.table.member(*who)?.name.clone();
        let silent_for = (report.stage > 0).then_some(report.silence);
        let (refused, agrees, health) = (report.gone, report.agrees, report.health);
        Some(ObserverReport { observer, silent_for, refused, agrees, health })
    });
    (silent_for, std::iter::once(own).chain(theirs).collect())
}

/// Whether an isolated node holds its verdicts.
fn holds_when_isolated(ctx: &Ctx) -> bool {
    match ctx.config.membership.on_isolated {
        OnIsolated::Hold => true,
        OnIsolated::Proceed => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Incarnation;
    use crate::membership::fixture::{Fixture, GENERATION, SECOND, address, header, id, just_after, ms};
    use crate::wire::{Heartbeat, Observers};

    /// The rules that an inquiry uses, and the node `silent`, whose observers are `me` and others.
    struct Case {
        node: Fixture,
        inquiries: Inquiries,
        watching: Watching,
        streams: Streams,
        refutations: Refutations,
        unconfirmed: Unconfirmed,
    }

    impl Case {
        fn new(observers: &[&str]) -> Case {
            let node = Fixture::new(&["silent", "a", "b", "c"]);
            let streams = Streams::new(&node.ctx.config);
            let (inquiries, watching) = (Inquiries::default(), Watching::default());
            let (refutations, unconfirmed) = (Refutations::default(), Unconfirmed::default());
            let mut case = Case { node, inquiries, watching, streams, refutations, unconfirmed };
            case.receive_heartbeat("silent", 16, observers);
            case.receive_heartbeat("c", 16, &["me"]);
            case.node.sent();
            case
        }

        fn receive_heartbeat(&mut self, from: &str, stage: u64, observers: &[&str]) {
            let observers = Observers::new(observers.iter().map(|name| id(name)));
            let incarnation = Incarnation::default();
            let heartbeat =
                Heartbeat { incarnation, stage, interval: SECOND, slept: 0, health: 0, asks: false, observers };
            let (peers, out) = (&self.node.peers, &mut self.node.out);
            self.watching.handle_heartbeat(
                header(from),
                &heartbeat,
                &mut self.inquiries,
                peers,
                out,
                &mut self.node.ctx,
            );
        }

        fn with<R>(&mut self, act: impl FnOnce(&mut Inquiries, &mut InquiryCtx<'_>) -> R) -> R {
            let mut cx = InquiryCtx {
                watching: &mut self.watching,
                streams: &mut self.streams,
                refutations: &mut self.refutations,
                unconfirmed: &self.unconfirmed,
                quorum: None,
                peers: &mut self.node.peers,
                out: &mut self.node.out,
                ctx: &mut self.node.ctx,
            };
            act(&mut self.inquiries, &mut cx)
        }

        fn verdict(&mut self, verdict: Verdict) -> Option<Status> {
            let change = self.with(|inquiries, cx| inquiries.handle_verdict(id("silent"), verdict, cx));
            change.map(|change| change.after.status)
        }

        /// Goes on with what is due at `now`.
        fn advance(&mut self, now: Instant) -> Option<Status> {
            self.node.at(now);
            let due = self.inquiries.poll_due(now)?;
            let change = self.with(|inquiries, cx| inquiries.advance(due, cx));
            change.map(|change| change.after.status)
        }

        /// The members that were asked about `silent`, each with the number of the question.
        fn asked(&mut self) -> Vec<(std::net::SocketAddr, u32)> {
            let number = |(to, body)| match body {
                Body::IndirectProbe(probe) => Some((to, probe.number)),
                _ => None,
            };
            self.node.bodies().into_iter().filter_map(number).collect()
        }

        fn report(&mut self, from: &str, report: ProbeReport) -> ReportOutcome {
            self.inquiries.handle_report(id(from), &report, &mut self.watching, &self.node.ctx)
        }
    }

    /// A report on `silent` by an observer of good health that has missed it for 6 s.
    fn report(number: u32) -> ProbeReport {
        let (target, generation, silence) = (id("silent"), GENERATION, SECOND * 6);
        ProbeReport {
            number,
            target,
            generation,
            stage: 16,
            silence,
            reached: false,
            gone: false,
            agrees: true,
            health: 0,
        }
    }

    #[test]
    fn the_only_observer_suspects_by_its_own_detector() {
        let mut case = Case::new(&["me"]);
        assert_eq!(case.verdict(Verdict::Alive), None);
        assert_eq!(case.verdict(Verdict::Suspect), Some(Status::Suspect));
        assert_eq!(case.verdict(Verdict::Suspect), None, "it is suspect already");
        assert!(matches!(case.node.events()[..], [Event::Suspected { .. }]));
        assert_eq!(case.node.sent(), [(address("silent"), Payload::About(id("silent")))]);
    }

    #[test]
    fn one_of_several_observers_probes_first_and_asks_then() {
        let mut case = Case::new(&["me", "a", "b"]);
        assert_eq!(case.verdict(Verdict::Suspect), None);
        let probed = case.node.bodies();
        assert!(matches!(probed[..], [(to, Body::Probe { .. })] if to == address("silent")), "{probed:?}");
        let due = ms(125);
        assert_eq!(case.inquiries.next_due(ms(0)), due, "an eighth of an interval");
        assert_eq!(case.inquiries.next_due(ms(500)), ms(500), "verdicts are held");
        assert_eq!(case.advance(Instant::from_nanos(due.as_nanos() - 1)), None);
        assert_eq!(case.asked(), []);
        assert_eq!(case.advance(due), None);
        let asked: Vec<_> = case.asked().into_iter().map(|(to, _)| to).collect();
        assert!(asked.len() == 2 && asked.contains(&address("a")) && asked.contains(&address("b")));
    }

    #[test]
    fn a_report_counts_once_and_only_if_it_is_credible() {
        let mut case = Case::new(&["me", "a", "b"]);
        case.verdict(Verdict::Dead);
        let number = case.asked()[0].1;
        assert_eq!(case.report("a", report(number.wrapping_add(1))), ReportOutcome::Nothing, "of another question");
        assert_eq!(case.report("a", ProbeReport { health: 4, ..report(number) }), ReportOutcome::Nothing, "unwell");
        assert_eq!(case.report("a", report(number)), ReportOutcome::Nothing, "b is still to come");
        assert_eq!(case.report("a", report(number)), ReportOutcome::Nothing, "a duplicate");
        assert_eq!(case.report("b", report(number)), ReportOutcome::Complete);
        let change = case.with(|inquiries, cx| inquiries.decide(id("silent"), cx));
        assert_eq!(change.map(|change| change.after.status), Some(Status::Dead));
        assert!(matches!(&case.node.events()[..], [Event::Died { evidence, .. }] if evidence.len() == 3));
    }

    #[test]
    fn a_sign_of_life_elsewhere_is_as_old_as_it_was_there() {
        let mut case = Case::new(&["me", "a"]);
        case.node.at(ms(7_000));
        case.verdict(Verdict::Dead);
        let number = case.asked()[0].1;
        let reached = ProbeReport { reached: true, stage: 48, silence: SECOND * 2, health: 8, ..report(number) };
        assert_eq!(case.report("a", reached), ReportOutcome::Alive(ms(5_000)), "even of an unwell observer");
        assert_eq!(case.watching.peer(id("silent")).unwrap().missing_stage(), 64);
    }

    /// Checks whether `silent` is declared dead after the reports of `a` and `b`.
    #[track_caller]
    fn check_death(agree: [bool; 2], expected: Option<Status>) {
        let mut case = Case::new(&["me", "a", "b"]);
        case.verdict(Verdict::Dead);
        let number = case.asked()[0].1;
        for (from, agrees) in ["a", "b"].into_iter().zip(agree) {
            case.report(from, ProbeReport { agrees, ..report(number) });
        }
        let change = case.with(|inquiries, cx| inquiries.decide(id("silent"), cx));
        assert_eq!(change.map(|change| change.after.status), expected);
    }

    #[test]
    fn a_death_takes_more_than_half_of_the_observers() {
        check_death([true, true], Some(Status::Dead));
        check_death([true, false], Some(Status::Dead));
        check_death([false, false], None);
    }

    #[test]
    fn a_refused_connection_leads_to_a_death_at_once() {
        let mut case = Case::new(&["me"]);
        let change = case.with(|inquiries, cx| inquiries.handle_refused_connection(id("silent"), cx));
        assert_eq!(change.map(|change| change.after.status), Some(Status::Dead));
        assert_eq!(case.inquiries.take_exited(), [("silent".into(), GENERATION)]);
        assert_eq!(case.inquiries.take_exited(), []);
        let of_unwatched = case.with(|inquiries, cx| inquiries.handle_refused_connection(id("b"), cx));
        assert_eq!(of_unwatched, None);
    }

    #[test]
    fn a_question_about_this_node_is_answered_at_once() {
        let mut case = Case::new(&["me"]);
        let probe =
            IndirectProbe { number: 3, target: id("me"), generation: GENERATION, stage: 16, gone: false, death: true };
        case.with(|inquiries, cx| inquiries.handle_indirect_probe(id("a"), &probe, cx));
        let bodies = case.node.bodies();
        assert!(
            matches!(bodies[..], [(_, Body::ProbeReport(ProbeReport { number: 3, reached: true, .. }))]),
            "{bodies:?}"
        );
    }

    #[test]
    fn a_pending_probe_is_answered_at_its_deadline() {
        let mut case = Case::new(&["me"]);
        let probe =
            IndirectProbe { number: 3, target: id("b"), generation: GENERATION, stage: 16, gone: false, death: false };
        case.with(|inquiries, cx| inquiries.handle_indirect_probe(id("a"), &probe, cx));
        assert!(matches!(case.node.bodies()[..], [(to, Body::Probe { .. })] if to == address("b")));
        assert_eq!(case.inquiries.next_due(Instant::ZERO), ms(125));
        case.node.at(Instant::from_nanos(ms(125).as_nanos() - 1));
        case.with(Inquiries::expire_pending);
        assert_eq!(case.node.bodies(), []);
        case.node.at(ms(125));
        case.with(Inquiries::expire_pending);
        let bodies = case.node.bodies();
        assert!(matches!(bodies[..], [(_, Body::ProbeReport(ProbeReport { reached: false, .. }))]), "{bodies:?}");
        assert_eq!(case.inquiries.next_due(Instant::ZERO), Instant::NEVER);
    }

    #[test]
    fn pending_probes_are_bounded() {
        let mut case = Case::new(&["me"]);
        for number in 0..=PENDING_MAX as u32 {
            let (target, generation) = (id("b"), GENERATION);
            let probe = IndirectProbe { number, target, generation, stage: 16, gone: false, death: false };
            case.with(|inquiries, cx| inquiries.handle_indirect_probe(id("a"), &probe, cx));
        }
        assert_eq!(case.node.bodies().len(), PENDING_MAX);
        case.with(|inquiries, cx| inquiries.handle_target_reached(id("b"), cx));
        assert_eq!(case.node.bodies().len(), PENDING_MAX, "each asker has its report");
    }

    #[test]
    fn reports_from_before_a_pause_decide_nothing() {
        let mut case = Case::new(&["me", "a"]);
        case.verdict(Verdict::Dead);
        let former = case.asked()[0].1;
        case.with(Inquiries::discount_pause);
        let number = case.asked()[0].1;
        assert_eq!(case.report("a", report(former)), ReportOutcome::Nothing);
        assert_eq!(case.report("a", report(number)), ReportOutcome::Nothing, "before its answers can be new");
        case.node.at(just_after(ms(250)));
        assert!(case.inquiries.poll_due(case.node.ctx.now).is_some());
    }
}
