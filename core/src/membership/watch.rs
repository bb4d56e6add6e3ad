//! `Watching`: the members that this node watches, and their heartbeats.
//!
//! A node names its observers in each heartbeat. A named observer watches the node from then on,
//! until the node releases it. A node is watched unasked in two cases. It was just admitted here
//! and may end before it names an observer. Or it did not answer a random probe: its observers may
//! all have died with it.
//!
//! What a silence leads to is the matter of [`super::inquiry`].

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ctx::Ctx;
use crate::detection::monitor::{ReceivedHeartbeat, WatchId};
use crate::detection::trace::Arrived;
use crate::detection::{AnyDetector, KeptAt, LinkFigures, LinkSummary, Verdict};
use crate::event::Event;
use crate::member::{Incarnation, NodeId, Target};
use crate::membership::inquiry::Inquiries;
use crate::membership::outbox::{Outbox, Payload};
use crate::membership::peers::Peers;
use crate::membership::table::Change;
use crate::output::Output;
use crate::time::Instant;
use crate::wire::{Ack, Body, Header, Heartbeat, Observers, STAGES, VERSION_EXTENSIBLE};

/// The longest interval of another node that is believed, in timeouts of this one. Death takes two
/// intervals of silence where they are longer than the timeout, so a node that announced hours and
/// hangs is dead after four timeouts. A node with a longer interval cannot be watched with this
/// timeout.
const INTERVAL_TIMEOUTS_MAX: u32 = 2;

/// The shortest interval that is believed, as a share of this node's own. Below that, every
/// heartbeat of a node that sends less often than it says would end another suspicion.
const INTERVAL_SHARE_MIN: u32 = 100;

/// How many intervals a heartbeat may be off the one before it and the time since. A single one
/// that is farther off is made up, or very old; two that follow each other are a schedule that
/// jumped.
const STRAYED_SLOTS_MIN: u64 = 16;

/// How many other detectors one starts from, at most: enough to know what is usual here.
const STARTING_FROM_MAX: usize = 64;

/// Intervals of a node after which it is sent again what was learnt of it: that changes slowly, and
/// makes an acknowledgement half as long again.
const SUMMARY_EVERY: u64 = 16;

/// Why a node is watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WatchKind {
    /// It named this node as its only observer.
    OnlyObserver,
    /// It named this node as one of several observers.
    OneOfSeveral,
    /// It has not named this node.
    Unsolicited,
    /// It was just admitted here and has not named this node.
    Newcomer,
}

/// Where the stage of a heartbeat lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum StageOutcome {
    /// Where the schedule has it, or before that.
    Near,
    /// Far off the schedule. It does not count as the newest one.
    Strayed,
    /// Far off, and so was the one before: the schedule of the node is another one now.
    Jumped,
}

/// A node that this one watches.
#[derive(Clone, Debug)]
pub(super) struct WatchedPeer {
    pub(super) watch: WatchId,
    /// The newest stage received; zero before the first heartbeat.
    pub(super) stage: u64,
    /// When the heartbeat of that stage came.
    stage_at: Instant,
    /// The stage of the heartbeat before, if that was too far off.
    strayed: Option<u64>,
    /// The newest stage that another observer reports.
    pub(super) seen_elsewhere: u64,
    /// Its observers, as its newest heartbeat names them.
    pub(super) observers: Observers,
    /// Whether it has not named this node as an observer.
    pub(super) unsolicited: bool,
    /// From this stage on, each of its observers has received a heartbeat.
    known_from: u64,
    /// Whether a connection to its address was refused.
    pub(super) refused: bool,
    /// Whether this node published the suspicion of it.
    suspected_by_us: bool,
    /// Whether it was reported that its budget cannot be kept.
    exceeded_reported: bool,
    /// Up to when its joins are signs of life, itself included. `None` unless it is a newcomer.
    joins_until: Option<Instant>,
    /// From which stage on it is sent again what was learnt of it.
    summary_due: u64,
}

impl WatchedPeer {
    /// The stage that no known observer has received.
    pub(super) fn missing_stage(&self) -> u64 {
        self.stage.max(self.seen_elsewhere).saturating_add(STAGES)
    }

    /// Whether a heartbeat of this stage may be its next one, or one that was overtaken.
    fn is_near(&self, stage: u64, interval: Duration, now: Instant) -> bool {
        let margin = STRAYED_SLOTS_MIN * STAGES;
        if self.stage == 0 || stage.abs_diff(self.stage) <= margin {
            return true;
        }
        // Only after a long silence is the time since needed, and the division.
        let slots = ((now - self.stage_at).as_nanos() / interval.as_nanos().max(1)) as u64;
        stage > self.stage && stage - self.stage <= slots.saturating_mul(STAGES).saturating_add(margin)
    }

    /// Handles a stage that is not near. Returns whether it follows another one, so that the
    /// schedule of the node has jumped.
    fn has_jumped(&mut self, stage: u64) -> bool {
        let before = self.strayed.replace(stage);
        before.is_some_and(|before| stage > before && stage - before <= STRAYED_SLOTS_MIN * STAGES)
    }

    /// Whether it may have ended before its other observers received a heartbeat.
    pub(super) fn is_newcomer(&self) -> bool {
        self.stage < self.known_from
    }
}

/// A node that this one watches, for people who ask.
#[derive(Clone, PartialEq, Debug)]
pub struct Link {
    /// The node.
    pub node: NodeId,
    /// Short ids ([`NodeId::short`]) of its observers, as its newest heartbeat names them.
    pub observers: Vec<u32>,
    /// What its detector has learnt.
    pub figures: LinkFigures,
}

/// The members that this node watches.
#[derive(Clone, Debug, Default)]
pub(super) struct Watching {
    watched: BTreeMap<NodeId, WatchedPeer>,
    /// Whether each heartbeat is put out as [`Output::Arrived`].
    is_recorded: bool,
}

impl Watching {
    // ---- inputs ---------------------------------------------------------------------------------

    /// Puts out each heartbeat from now on.
    pub(super) fn record(&mut self) {
        self.is_recorded = true;
    }

    /// Handles a heartbeat of a member. Returns whether it is the newest of a node that is watched.
    pub(super) fn handle_heartbeat(
        &mut self,
        header: Header,
        heartbeat: &Heartbeat,
        inquiries: &mut Inquiries,
        peers: &Peers,
        out: &mut Outbox,
        ctx: &mut Ctx,
    ) -> bool {
        let Heartbeat { stage, slept, asks, observers, .. } = *heartbeat;
        let (from, config) = (header.from, &ctx.config);
        let believed = config.interval / INTERVAL_SHARE_MIN..=config.timeout * INTERVAL_TIMEOUTS_MAX;
        let interval = heartbeat.interval.clamp(*believed.start(), *believed.end());
        if asks {
            let ack = Ack { stage, health: peers.health.score() };
            let summary = self.take_summary(from, stage, out.version(), ctx);
            let payload =
                summary.map_or(Payload::Body(Body::Ack(ack)), |summary| Payload::AckWithSummary { ack, summary });
            out.send_to(peers, from, payload);
        }
        let names_us = observers.contains(peers.me.id);
        match self.handle_stage(from, stage, interval, ctx) {
            StageOutcome::Near => {}
            StageOutcome::Strayed => return false,
            StageOutcome::Jumped => {
                self.stop(from, inquiries, ctx);
                if !names_us {
                    self.start(from, interval, WatchKind::Unsolicited, ctx);
                }
            }
        }
        if names_us {
            self.start_named(from, interval, heartbeat, inquiries, ctx);
        }
        let Some(peer) = self.watched.get_mut(&from) else { return false };
        peer.strayed = None;
        if stage <= peer.stage {
            ctx.monitor.overtaken(peer.watch, stage / STAGES);
            return false;
        }
        (peer.stage, peer.stage_at) = (stage, ctx.now);
        peer.refused = false;
        if names_us {
            (peer.observers, peer.unsolicited) = (observers, false);
        }
        let slot = stage / STAGES;
        if slot > ctx.monitor.slot(peer.watch) {
            let received = ReceivedHeartbeat { at: ctx.now, slot, interval, slept, waited: ctx.arrivals_stale };
            ctx.monitor.heartbeat(peer.watch, received);
            if !peer.exceeded_reported
                && let Some(KeptAt { allowed_per_hour, kept_per_hour }) = ctx.monitor.kept_at(peer.watch)
                && let Some(member) = peers.table.member(from)
            {
                peer.exceeded_reported = true;
                let node = member.name.clone();
                ctx.emit(Event::BudgetExceeded { node, allowed_per_hour, kept_per_hour });
            }
            if self.is_recorded
                && let Some(member) = peers.table.member(from)
            {
                let (node, generation, at) = (member.name.clone(), header.generation, ctx.now);
                ctx.push(Output::Arrived(Arrived { node, generation, at, slot, interval }));
            }
        } else {
            ctx.monitor.note_alive(peer.watch, ctx.now);
        }
        inquiries.end(from);
        true
    }

    /// Handles the stage of a heartbeat, which may be far off the schedule of its sender.
    fn handle_stage(&mut self, from: NodeId, stage: u64, interval: Duration, ctx: &mut Ctx) -> StageOutcome {
        let Some(peer) = self.watched.get_mut(&from).filter(|peer| !peer.is_near(stage, interval, ctx.now)) else {
            return StageOutcome::Near;
        };
        if peer.has_jumped(stage) {
            return StageOutcome::Jumped;
        }
        match stage > peer.stage {
            true => ctx.monitor.extend(peer.watch, ctx.now),
            false => ctx.monitor.overtaken(peer.watch, stage / STAGES),
        }
        StageOutcome::Strayed
    }

    /// What was learnt of a node, if it is time to send it that again.
    fn take_summary(&mut self, id: NodeId, stage: u64, version: u8, ctx: &Ctx) -> Option<LinkSummary> {
        let peer = self.watched.get_mut(&id)?;
        let is_due = stage >= peer.summary_due || peer.summary_due - stage > SUMMARY_EVERY * STAGES;
        if version < VERSION_EXTENSIBLE || !is_due {
            return None;
        }
        let summary = ctx.monitor.summary(peer.watch)?;
        peer.summary_due = stage.saturating_add(SUMMARY_EVERY * STAGES);
        Some(summary)
    }

    /// Handles what former observers of a node have learnt of it, as the node gives that to a new
    /// one.
    pub(super) fn start_from(&mut self, id: NodeId, summary: LinkSummary, ctx: &mut Ctx) {
        if let Some(peer) = self.watched.get(&id) {
            ctx.monitor.start_from(peer.watch, summary);
        }
    }

    /// Watches a node that names this one as an observer. A newcomer is watched anew from its first
    /// heartbeat on, as any other node.
    fn start_named(
        &mut self,
        from: NodeId,
        interval: Duration,
        heartbeat: &Heartbeat,
        inquiries: &mut Inquiries,
        ctx: &mut Ctx,
    ) {
        if self.watched.get(&from).is_some_and(|peer| peer.stage == 0 && peer.is_newcomer()) {
            self.stop(from, inquiries, ctx);
        }
        if self.watched.contains_key(&from) {
            return;
        }
        let has_others = heartbeat.observers.iter().nth(1).is_some();
        let kind = if has_others { WatchKind::OneOfSeveral } else { WatchKind::OnlyObserver };
        self.start(from, interval, kind, ctx);
        if let Some(peer) = self.watched.get_mut(&from) {
            peer.known_from = heartbeat.stage.saturating_add(STAGES);
        }
    }

    /// Watches a node from now on; nothing changes if it is watched already.
    pub(super) fn start(&mut self, id: NodeId, interval: Duration, kind: WatchKind, ctx: &mut Ctx) {
        if self.watched.contains_key(&id) {
            return;
        }
        let detector = AnyDetector::new(&ctx.config.detector, interval, ctx.now).with_timeout(ctx.config.timeout);
        let (detector, unsolicited, known_from) = match kind {
            WatchKind::OnlyObserver => (detector, false, 0),
            WatchKind::OneOfSeveral => (detector.with_second_opinion(), false, 0),
            WatchKind::Unsolicited => (detector.with_second_opinion(), true, 0),
            WatchKind::Newcomer => (detector.with_second_opinion(), true, u64::MAX),
        };
        let joins_until = match kind {
            WatchKind::OnlyObserver | WatchKind::OneOfSeveral | WatchKind::Unsolicited => None,
            WatchKind::Newcomer => Some(ctx.now + ctx.config.timeout),
        };
        let detector = detector.starting_from(ctx.monitor.node_detectors().take(STARTING_FROM_MAX));
        let watch = ctx.monitor.watch(Target::Node(id), detector, ctx.config.timeout, ctx.now);
        let peer = WatchedPeer {
            watch,
            stage: 0,
            stage_at: ctx.now,
            strayed: None,
            seen_elsewhere: 0,
            observers: Observers::default(),
            unsolicited,
            known_from,
            refused: false,
            suspected_by_us: false,
            exceeded_reported: false,
            joins_until,
            summary_due: 0,
        };
        self.watched.insert(id, peer);
    }

    /// Stops watching a node, and ends the inquiry about it.
    pub(super) fn stop(&mut self, id: NodeId, inquiries: &mut Inquiries, ctx: &mut Ctx) {
        inquiries.end(id);
        if let Some(peer) = self.watched.remove(&id) {
            ctx.monitor.unwatch(peer.watch);
        }
    }

    /// Handles that a node was alive at `at`, by a sign outside its schedule: its own answer, or
    /// the report of another observer.
    pub(super) fn handle_sign_of_life(&mut self, id: NodeId, at: Instant, ctx: &mut Ctx) {
        if let Some(peer) = self.watched.get_mut(&id) {
            peer.refused = false;
            ctx.monitor.extend(peer.watch, at);
        }
    }

    /// Whether a node is silent, though its process is not known to have ended.
    pub(super) fn is_silent(&self, id: NodeId, ctx: &Ctx) -> bool {
        let is_silent = |peer: &WatchedPeer| !peer.refused && ctx.monitor.verdict(peer.watch) != Verdict::Alive;
        self.watched.get(&id).is_some_and(is_silent)
    }

    /// Handles that a newcomer joins again, with its token: it lives, and has not received that it
    /// is admitted. At the end of its time a join still counts.
    ///
    /// Joins count for a timeout after the admission, and until the first heartbeat. A node whose
    /// own table is full joins for ever, and so does one whose path loses long datagrams. If all
    /// their joins counted, they would stay members, own shards, and run none of them. A connection
    /// that was refused stays refused: a late copy of a join looks like a new one.
    pub(super) fn handle_repeated_join(&mut self, id: NodeId, ctx: &mut Ctx) {
        if let Some(peer) = self.watched.get(&id).filter(|peer| peer.stage == 0)
            && peer.joins_until.is_some_and(|until| ctx.now <= until)
        {
            ctx.monitor.extend(peer.watch, ctx.now);
        }
    }

    /// Handles that this node publishes its suspicion of another.
    pub(super) fn note_suspected(&mut self, id: NodeId) {
        if let Some(peer) = self.watched.get_mut(&id) {
            peer.suspected_by_us = true;
        }
    }

    /// Whether this node published the suspicion that was just refuted. Says so once.
    pub(super) fn take_suspected_by_us(&mut self, id: NodeId) -> bool {
        self.watched.get_mut(&id).is_some_and(|peer| std::mem::take(&mut peer.suspected_by_us))
    }

    pub(super) fn peer_mut(&mut self, id: NodeId) -> Option<&mut WatchedPeer> {
        self.watched.get_mut(&id)
    }

    // ---- questions ------------------------------------------------------------------------------

    pub(super) fn peer(&self, id: NodeId) -> Option<&WatchedPeer> {
        self.watched.get(&id)
    }

    /// Ids of all watched nodes.
    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.watched.keys().copied().collect()
    }

    /// All watched nodes with what their detectors have learnt.
    pub(super) fn links(&self, now: Instant, ctx: &Ctx) -> impl Iterator<Item = Link> {
        self.watched.iter().map(move |(&node, peer)| Link {
            node,
            observers: peer.observers.iter().collect(),
            figures: ctx.monitor.figures(peer.watch, now),
        })
    }

    /// How improbable silences of a watched node are.
    pub(super) fn curve(&self, id: NodeId, points: u32, ctx: &Ctx) -> Option<Vec<(Duration, f64)>> {
        self.peer(id).map(|peer| ctx.monitor.curve(peer.watch, points))
    }

    /// All watched nodes, each with the time since its last sign of life.
    pub(super) fn silences(&self, ctx: &Ctx) -> impl Iterator<Item = (NodeId, Duration)> {
        self.watched.iter().map(|(&id, peer)| (id, ctx.monitor.silence(peer.watch, ctx.now)))
    }

    /// For how long a node has been silent; zero if it is not watched.
    pub(super) fn silence(&self, id: NodeId, ctx: &Ctx) -> Duration {
        self.watched.get(&id).map_or(Duration::ZERO, |peer| ctx.monitor.silence(peer.watch, ctx.now))
    }

    /// Watched nodes other than `but` of which a heartbeat was received. A node that never sent one
    /// says nothing of this node's connection.
    fn received_from(&self, but: NodeId) -> impl Iterator<Item = &WatchedPeer> {
        self.watched.iter().filter(move |(id, peer)| **id != but && peer.stage > 0).map(|(_, peer)| peer)
    }

    /// Whether this node receives enough from others to conclude anything of one. It needs
    /// heartbeats of half of the nodes that it watches, or of any of them if its own observers
    /// answer too. With fewer than two other members there is no such evidence, and it concludes.
    pub(super) fn is_well_connected(&self, but: NodeId, peers: &Peers, ctx: &Ctx) -> bool {
        if peers.table.others().len() < 2 {
            return true;
        }
        let is_alive = |peer: &&WatchedPeer| ctx.monitor.verdict(peer.watch) == Verdict::Alive;
        let (alive, watched) = (self.received_from(but).filter(is_alive).count(), self.received_from(but).count());
        let observers_answer =
            !peers.observers.slots().is_empty() && peers.contact.silence(ctx.now) < ctx.config.interval * 3;
        if watched == 0 { observers_answer } else { alive * 2 >= watched || alive > 0 && observers_answer }
    }

    /// Whether this node received anything of other nodes than `but` after `begun`.
    pub(super) fn has_received_since(&self, begun: Instant, but: NodeId, peers: &Peers, ctx: &Ctx) -> bool {
        let since = ctx.now - begun;
        let is_recent = |peer: &WatchedPeer| ctx.monitor.silence(peer.watch, ctx.now) < since;
        peers.table.others().len() < 2
            || peers.contact.silence(ctx.now) < since
            || self.received_from(but).any(is_recent)
    }
}

/// Clears the suspicion of a member that goes on sending and does not refute it for an interval: it
/// does not receive that it is suspected. An observer that receives its heartbeats refutes for it.
pub(super) fn clear_suspicion(id: NodeId, received: Incarnation, peers: &mut Peers, ctx: &Ctx) -> Option<Change> {
    let is_deaf = peers.table.changed(id).is_some_and(|at| ctx.now - at > ctx.config.interval);
    if !is_deaf || ctx.arrivals_stale {
        return None;
    }
    peers.table.clear_suspicion(ctx.now, id, received)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Status;
    use crate::membership::fixture::{Fixture, SECOND, header, id, just_after, ms};

    fn heartbeat(stage: u64, observers: &[&str]) -> Heartbeat {
        Heartbeat {
            incarnation: Incarnation::default(),
            stage,
            interval: SECOND,
            slept: 0,
            health: 0,
            asks: false,
            observers: Observers::new(observers.iter().map(|name| id(name))),
        }
    }

    fn handle(node: &mut Fixture, watching: &mut Watching, from: &str, heartbeat: Heartbeat) -> bool {
        let (peers, out, mut inquiries) = (&node.peers, &mut node.out, Inquiries::default());
        watching.handle_heartbeat(header(from), &heartbeat, &mut inquiries, peers, out, &mut node.ctx)
    }

    #[test]
    fn a_node_that_names_this_one_is_watched() {
        let (mut node, mut watching) = (Fixture::new(&["a", "b"]), Watching::default());
        assert!(!handle(&mut node, &mut watching, "a", heartbeat(16, &["b"])), "it names another");
        assert!(watching.ids().is_empty());
        assert!(handle(&mut node, &mut watching, "a", heartbeat(16, &["me"])));
        assert_eq!(watching.ids(), [id("a")]);
        let peer = watching.peer(id("a")).unwrap();
        assert!(!peer.unsolicited && peer.is_newcomer(), "its other observers may not know it yet");
    }

    /// A node that is silent for 5 s each minute, where the timeout is 6 s: no margin covers that.
    #[test]
    fn a_budget_that_cannot_be_kept_is_reported_once_for_a_link() {
        let (mut node, mut watching) = (Fixture::new(&["a", "b"]), Watching::default());
        let mut reported = Vec::new();
        for second in 1..6 * 3_600 {
            node.at(ms(second * 1_000));
            while node.ctx.monitor.poll_change(node.ctx.now).is_some() {}
            handle(&mut node, &mut watching, "b", heartbeat(second * 16, &["me"]));
            if second % 60 >= 5 {
                handle(&mut node, &mut watching, "a", heartbeat(second * 16, &["me"]));
            }
            reported.extend(node.events().into_iter().map(|event| (second, event)));
        }
        let [(second, Event::BudgetExceeded { node: name, allowed_per_hour, kept_per_hour })] = &reported[..] else {
            panic!("{reported:?}")
        };
        assert_eq!((&**name, *allowed_per_hour), ("a", 1.0));
        assert!((45.0..70.0).contains(kept_per_hour), "{kept_per_hour} an hour, and 60 are made");
        assert!((3_600..7_200).contains(second), "after a budget was seen: {second}");
    }

    /// One such silence is chance.
    #[test]
    fn one_long_silence_is_no_broken_budget() {
        let (mut node, mut watching) = (Fixture::new(&["a"]), Watching::default());
        for second in 1..3 * 3_600 {
            node.at(ms(second * 1_000));
            while node.ctx.monitor.poll_change(node.ctx.now).is_some() {}
            if !(2_000..2_005).contains(&second) {
                handle(&mut node, &mut watching, "a", heartbeat(second * 16, &["me"]));
            }
        }
        assert_eq!(node.events(), []);
    }

    #[test]
    fn duplicates_and_heartbeats_of_the_past_change_nothing() {
        let (mut node, mut watching) = (Fixture::new(&["a"]), Watching::default());
        assert!(handle(&mut node, &mut watching, "a", heartbeat(32, &["me"])));
        node.at(ms(900));
        for stage in [0, 1, 31, 32] {
            assert!(!handle(&mut node, &mut watching, "a", heartbeat(stage, &["me"])), "stage {stage}");
        }
        assert_eq!(watching.silence(id("a"), &node.ctx), Duration::from_millis(900));
        assert!(handle(&mut node, &mut watching, "a", heartbeat(33, &["me"])));
    }

    #[test]
    fn one_heartbeat_far_off_changes_nothing_and_two_are_a_jump() {
        for far in [33 + 16 * 20, 33 + 16 * 65, 1 << 40, u64::MAX - 64] {
            let (mut node, mut watching) = (Fixture::new(&["a"]), Watching::default());
            let stage_of = |watching: &Watching| watching.peer(id("a")).unwrap().stage;
            assert!(handle(&mut node, &mut watching, "a", heartbeat(33, &["me"])), "the first may be any");
            assert!(!handle(&mut node, &mut watching, "a", heartbeat(far, &["me"])));
            assert_eq!(stage_of(&watching), 33);
            node.at(ms(1_000));
            assert!(handle(&mut node, &mut watching, "a", heartbeat(49, &["me"])), "its own goes on");
            assert!(!handle(&mut node, &mut watching, "a", heartbeat(far + 16, &["me"])), "its own came between");

            assert!(handle(&mut node, &mut watching, "a", heartbeat(far + 32, &["me"])), "two that follow each other");
            assert_eq!(stage_of(&watching), far + 32);
            assert!(!handle(&mut node, &mut watching, "a", heartbeat(65, &["me"])));
            assert!(handle(&mut node, &mut watching, "a", heartbeat(81, &["me"])), "back in two intervals");
            assert_eq!(stage_of(&watching), 81);
        }
    }

    #[test]
    fn after_a_long_silence_a_heartbeat_is_not_far_off() {
        let (mut node, mut watching) = (Fixture::new(&["a"]), Watching::default());
        assert!(handle(&mut node, &mut watching, "a", heartbeat(16, &["me"])));
        node.at(ms(3_600_000));
        assert!(handle(&mut node, &mut watching, "a", heartbeat(16 * 3_601, &["me"])));
    }

    #[test]
    fn a_heartbeat_that_asks_is_acknowledged_by_any_member() {
        let (mut node, mut watching) = (Fixture::new(&["a"]), Watching::default());
        node.peers.health.degrade();
        handle(&mut node, &mut watching, "a", Heartbeat { asks: true, ..heartbeat(16, &[]) });
        let bodies: Vec<Body<'_>> = node.bodies().into_iter().map(|(_, body)| body).collect();
        assert_eq!(bodies, [Body::Ack(Ack { stage: 16, health: 1 })]);
    }

    /// Stages of the heartbeats that were answered with a summary, of this many in a row.
    fn summarised(node: &mut Fixture, watching: &mut Watching, slots: u64) -> Vec<u64> {
        let mut stages = Vec::new();
        for slot in 1..=slots {
            node.at(ms(slot * 1_000));
            handle(node, watching, "a", Heartbeat { asks: true, ..heartbeat(slot * STAGES, &["me"]) });
            for (_, payload) in node.sent() {
                if let Payload::AckWithSummary { ack, .. } = payload {
                    stages.push(ack.stage);
                }
            }
        }
        stages
    }

    #[test]
    fn a_node_is_sent_what_was_learnt_now_and_then() {
        let (mut node, mut watching) = (Fixture::new(&["a"]), Watching::default());
        node.out.set_version(VERSION_EXTENSIBLE);
        let stages = summarised(&mut node, &mut watching, 60);
        assert_eq!(stages, [18, 34, 50].map(|slot| slot * STAGES), "from the sixteenth that has a lateness on");
        let (mut node, mut watching) = (Fixture::new(&["a"]), Watching::default());
        assert_eq!(summarised(&mut node, &mut watching, 60), [], "version 3 has no summaries");
    }

    #[test]
    fn a_watched_node_is_waited_for_as_its_summary_asks() {
        let (mut node, mut watching) = (Fixture::new(&["a", "b"]), Watching::default());
        // Three intervals, for each share of heartbeats.
        let summary = LinkSummary::from_bytes(&[100, 0, 153, 153, 153, 153, 153, 153, 153, 153]).unwrap();
        watching.start_from(id("a"), summary, &mut node.ctx);
        handle(&mut node, &mut watching, "a", heartbeat(16, &["me", "b"]));
        let after = |watching: &Watching, node: &Fixture| {
            watching.links(node.ctx.now, &node.ctx).next().unwrap().figures.suspected_after.as_secs_f64()
        };
        assert!((1.2..1.3).contains(&after(&watching, &node)), "it was not watched yet: {}", after(&watching, &node));
        watching.start_from(id("a"), summary, &mut node.ctx);
        assert!((3.9..4.2).contains(&after(&watching, &node)), "{}", after(&watching, &node));
    }

    #[test]
    fn a_newcomer_is_watched_anew_from_its_first_heartbeat_on() {
        let (mut node, mut watching) = (Fixture::new(&["a"]), Watching::default());
        watching.start(id("a"), SECOND, WatchKind::Newcomer, &mut node.ctx);
        assert!(watching.peer(id("a")).unwrap().unsolicited);
        assert!(handle(&mut node, &mut watching, "a", heartbeat(16, &["me"])));
        let peer = watching.peer(id("a")).unwrap();
        assert!(!peer.unsolicited && peer.is_newcomer());
        assert!(handle(&mut node, &mut watching, "a", heartbeat(32, &["me"])));
        assert!(!watching.peer(id("a")).unwrap().is_newcomer(), "an interval later all observers have had one");
    }

    #[test]
    fn joins_of_a_newcomer_count_for_a_timeout() {
        let (mut node, mut watching) = (Fixture::new(&["a"]), Watching::default());
        watching.start(id("a"), SECOND, WatchKind::Newcomer, &mut node.ctx);
        let end = ms(6_000);
        for (now, alive_at) in [(ms(3_000), ms(3_000)), (end, end), (just_after(end), end), (ms(8_000), end)] {
            node.at(now);
            watching.handle_repeated_join(id("a"), &mut node.ctx);
            assert_eq!(watching.silence(id("a"), &node.ctx), now - alive_at, "at {now:?}");
        }
    }

    #[test]
    fn a_join_after_a_heartbeat_is_no_sign_of_life() {
        for kind in [WatchKind::OnlyObserver, WatchKind::OneOfSeveral, WatchKind::Unsolicited, WatchKind::Newcomer] {
            let (mut node, mut watching) = (Fixture::new(&["a", "b"]), Watching::default());
            watching.start(id("a"), SECOND, kind, &mut node.ctx);
            // It names another observer, so it stays watched for the reason that it was.
            handle(&mut node, &mut watching, "a", heartbeat(16, &["b"]));
            node.at(ms(3_000));
            watching.handle_repeated_join(id("a"), &mut node.ctx);
            assert_eq!(watching.silence(id("a"), &node.ctx), SECOND * 3, "{kind:?}");
        }
    }

    #[test]
    fn a_join_does_not_undo_a_refused_connection() {
        let (mut node, mut watching) = (Fixture::new(&["a"]), Watching::default());
        watching.start(id("a"), SECOND, WatchKind::Newcomer, &mut node.ctx);
        watching.peer_mut(id("a")).unwrap().refused = true;
        watching.handle_repeated_join(id("a"), &mut node.ctx);
        assert!(watching.peer(id("a")).unwrap().refused);
    }

    #[test]
    fn starting_twice_and_stopping_twice_is_harmless() {
        let (mut node, mut watching) = (Fixture::new(&["a"]), Watching::default());
        watching.start(id("a"), SECOND, WatchKind::Unsolicited, &mut node.ctx);
        watching.start(id("a"), SECOND, WatchKind::OnlyObserver, &mut node.ctx);
        assert!(watching.peer(id("a")).unwrap().unsolicited, "the first reason stands");
        for _ in 0..2 {
            watching.stop(id("a"), &mut Inquiries::default(), &mut node.ctx);
            assert!(watching.ids().is_empty());
        }
    }

    /// Checks whether a node is well connected that received heartbeats of `alive` nodes just now,
    /// and of `silent` nodes an hour ago.
    #[track_caller]
    fn check_connection(alive: usize, silent: usize, expected: bool) {
        const NAMES: [&str; 6] = ["a1", "b2", "c3", "d4", "e5", "f6"];
        let (mut node, mut watching) = (Fixture::new(&NAMES), Watching::default());
        for name in &NAMES[..alive + silent] {
            handle(&mut node, &mut watching, name, heartbeat(16, &["me"]));
        }
        node.at(ms(3_600_000));
        for name in &NAMES[..alive] {
            handle(&mut node, &mut watching, name, heartbeat(16 * 3_600, &["me"]));
        }
        while node.ctx.monitor.poll_change(node.ctx.now).is_some() {}
        assert_eq!(watching.is_well_connected(id("other"), &node.peers, &node.ctx), expected);
    }

    #[test]
    fn half_of_the_watched_nodes_are_enough_of_a_connection() {
        check_connection(0, 0, false);
        check_connection(0, 1, false);
        check_connection(1, 1, true);
        check_connection(1, 2, false);
        check_connection(3, 3, true);
    }

    #[test]
    fn a_deaf_suspect_is_cleared_after_an_interval() {
        for (now, expected) in [(ms(1_000), false), (just_after(ms(1_000)), true)] {
            let mut node = Fixture::new(&["a"]);
            node.peers.table.set_status(ms(0), id("a"), Status::Suspect).unwrap();
            node.at(now);
            let change = clear_suspicion(id("a"), Incarnation::default(), &mut node.peers, &node.ctx);
            assert_eq!(change.is_some(), expected);
            assert_eq!(node.peers.is_suspect(id("a")), !expected);
        }
    }
}
