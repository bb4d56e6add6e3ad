//! Whom we watch, what we hear of them, and what a silence begins; [`super::inquiry`] goes on from
//! there.

use std::time::Duration;

use super::inquiry::{Step, Whom};
use super::{Cluster, OwnershipEffect, Payload, Source};
use crate::ctx::Ctx;
use crate::detection::monitor::{self, Sign, WatchId};
use crate::detection::trace::Arrived;
use crate::detection::{AnyDetector, Verdict};
use crate::member::{Generation, NodeId, Status, Target};
use crate::output::Output;
use crate::time::Instant;
use crate::wire::{Body, Datagram, Echo, Heartbeat, Observers, STAGES};

/// The longest interval of another node that is believed, in timeouts of this one. Death takes two
/// intervals of silence where they are longer than the timeout, so a node that announced hours and
/// hangs is dead after four timeouts. One whose interval is longer than this cannot be watched with
/// this timeout.
const INTERVAL_TIMEOUTS: u32 = 2;

/// The shortest one, as a share of this node's own interval: with less, every heartbeat of a node
/// that does not send as often as it says would end another suspicion.
const INTERVAL_SHARE: u32 = 100;

/// A node that we watch.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) watch: WatchId,
    /// The newest stage that was heard.
    pub(super) stage: u64,
    /// The newest stage that another one says it has heard.
    pub(super) told: u64,
    /// Who else watches it, by its own word.
    pub(super) others: Observers,
    /// Whether we watch it because nobody else seems to: it has not named us.
    pub(super) adopted: bool,
    /// From this stage on all its observers have had a heartbeat of it.
    pub(super) known_from: u64,
    /// Whether its lifeline ended and nobody was found at its address.
    pub(super) gone: bool,
    /// Whether we made its suspicion known.
    pub(super) accused: bool,
}

impl Link {
    /// The stage that has not come, to anybody that we know of.
    pub(super) fn missing(&self) -> u64 {
        self.stage.max(self.told).saturating_add(STAGES)
    }

    /// Whether it may have ended before its other observers had a heartbeat of it.
    pub(super) fn is_newcomer(&self) -> bool {
        self.stage < self.known_from
    }
}

impl Cluster {
    // ---- what comes in -------------------------------------------------------------------------------------------------------------------

    /// Takes in a datagram of a process that is in the table with this status.
    pub(super) fn hear_member(
        &mut self,
        from: NodeId,
        status: Status,
        datagram: &Datagram<'_>,
        ctx: &mut Ctx,
    ) -> OwnershipEffect {
        if status != Status::Alive && !matches!(datagram.body, Body::Gossip | Body::Rows(_)) {
            // It may not know what is said of it; until it contradicts, nothing ends. That we live
            // it may know in any case.
            self.tell_about(from, from);
        }
        if !status.is_member() && !matches!(datagram.body, Body::Probe { .. }) {
            return OwnershipEffect::Nothing;
        }
        match &datagram.body {
            Body::Heartbeat(heartbeat) => {
                let is_newest = self.hear_heartbeat(from, datagram.header.generation, heartbeat, ctx);
                if is_newest && status == Status::Suspect {
                    return self.vouch(from, heartbeat, ctx);
                }
            }
            Body::Ack(ack) => self.hear_ack(from, *ack, ctx),
            Body::Probe { number } => {
                let echo = self.echo(*number, from);
                self.send_to(from, Payload::Say(echo));
            }
            Body::Echo(echo) => self.hear_echo(from, echo, ctx),
            Body::Poll { number } => self.send_to(from, Payload::Say(Body::Vote { number: *number })),
            Body::Ask { number, group, indexes } => self.hear_ask(from, *number, *group, indexes),
            Body::Vote { number } => return self.hear_vote(from, *number, ctx),
            Body::Inquire(inquire) => self.hear_inquire(from, inquire, ctx),
            Body::Evidence(evidence) => return self.hear_evidence(from, evidence, ctx),
            Body::Release => self.unwatch(from, ctx),
            Body::Sync(digests) => self.hear_sync(from, digests, ctx),
            Body::Rows(rows) => return self.hear_rows(from, *rows, datagram, ctx),
            Body::Gossip | Body::Hello => {}
            // Snapshots come over streams of their own.
            Body::Part(_) | Body::Kept { .. } => {}
            Body::Join(_) | Body::Challenge { .. } | Body::Introduce | Body::Refused(_) => {}
        }
        OwnershipEffect::Nothing
    }

    /// Takes in a heartbeat. Returns whether it is the newest of one that we watch.
    fn hear_heartbeat(&mut self, from: NodeId, generation: Generation, heartbeat: &Heartbeat, ctx: &mut Ctx) -> bool {
        let Heartbeat { stage, slept, asks, observers, .. } = *heartbeat;
        let config = &ctx.config;
        let interval = heartbeat.interval.clamp(config.interval / INTERVAL_SHARE, config.timeout * INTERVAL_TIMEOUTS);
        if asks {
            let ack = crate::wire::Ack { stage, health: self.peers.health.score() };
            self.send_to(from, Payload::Say(Body::Ack(ack)));
        }
        let names_us = observers.contains(self.peers.me.id);
        if names_us && self.links.get(&from).is_some_and(|link| link.stage == 0 && link.is_newcomer()) {
            // From its first heartbeat on it is watched as any other node.
            self.unwatch(from, ctx);
        }
        if names_us && !self.links.contains_key(&from) {
            self.watch(from, interval, observers.iter().nth(1).is_some(), false, ctx);
            if let Some(link) = self.links.get_mut(&from) {
                link.known_from = stage.saturating_add(STAGES);
            }
        }
        let Some(link) = self.links.get_mut(&from).filter(|link| link.stage < stage) else { return false };
        link.stage = stage;
        link.gone = false;
        if names_us {
            (link.others, link.adopted) = (observers, false);
        }
        let (slot, is_news) = (stage / STAGES, stage / STAGES > ctx.monitor.slot(link.watch));
        if is_news {
            ctx.monitor.heartbeat(link.watch, Sign { at: ctx.now, slot, interval, slept, waited: ctx.arrivals_stale });
        } else {
            ctx.monitor.life(link.watch, ctx.now);
        }
        if is_news
            && self.is_recorded
            && let Some(member) = self.peers.table.member(from)
        {
            let (node, at) = (member.name.clone(), ctx.now);
            ctx.push(Output::Arrived(Arrived { node, generation, at, slot, interval }));
        }
        self.end_inquiry(from);
        self.answer_waiting(from, true, ctx);
        true
    }

    /// A suspect that goes on sending and does not contradict hears nothing: whoever hears it
    /// speaks for it.
    fn vouch(&mut self, id: NodeId, heartbeat: &Heartbeat, ctx: &mut Ctx) -> OwnershipEffect {
        let is_deaf = self.peers.table.changed(id).is_some_and(|at| ctx.now - at > ctx.config.interval);
        if !is_deaf || ctx.arrivals_stale {
            return OwnershipEffect::Nothing;
        }
        match self.peers.table.vouch(ctx.now, id, heartbeat.incarnation) {
            Some(change) => self.changed(&change, Source::News(None), ctx),
            None => OwnershipEffect::Nothing,
        }
    }

    /// The answer to a probe.
    pub(super) fn echo(&self, number: u32, to: NodeId) -> Body<'static> {
        let is_observer = self.peers.observers.contains(to);
        Body::Echo(Echo { number, incarnation: self.peers.me.incarnation, is_observer })
    }

    fn hear_echo(&mut self, from: NodeId, echo: &Echo, ctx: &mut Ctx) {
        self.reached(from, ctx.now, ctx);
        self.answer_waiting(from, true, ctx);
        if !echo.is_observer {
            // It has let us go, and the word of it was lost; or it is well and somebody else
            // watches it.
            self.unwatch(from, ctx);
        }
    }

    /// The target lived at `at`, by a sign outside its schedule: its own answer, or what another
    /// one heard.
    pub(super) fn reached(&mut self, id: NodeId, at: Instant, ctx: &mut Ctx) {
        self.end_inquiry(id);
        self.joining.reached(id);
        if let Some(link) = self.links.get_mut(&id) {
            link.gone = false;
            ctx.monitor.renew(link.watch, at);
        }
    }

    // ---- watching ------------------------------------------------------------------------------------------------------------------------

    /// Watches a node from now on, if it does not yet.
    pub(super) fn watch(&mut self, id: NodeId, interval: Duration, among_others: bool, adopted: bool, ctx: &mut Ctx) {
        if self.links.contains_key(&id) {
            return;
        }
        let mut detector = AnyDetector::new(&ctx.config.detector, interval, ctx.now);
        if among_others {
            detector = detector.among_others();
        }
        let watch = ctx.monitor.watch(Target::Node(id), detector, ctx.config.timeout, ctx.now);
        let (others, gone, accused) = (Observers::default(), false, false);
        let link = Link { watch, stage: 0, told: 0, others, adopted, known_from: 0, gone, accused };
        self.links.insert(id, link);
    }

    /// Stops watching a node.
    pub(super) fn unwatch(&mut self, id: NodeId, ctx: &mut Ctx) {
        self.end_inquiry(id);
        if let Some(link) = self.links.remove(&id) {
            ctx.monitor.unwatch(link.watch);
        }
    }

    /// A suspect has contradicted: whoever suspected it was wrong.
    pub(super) fn refuted(&mut self, id: NodeId, ctx: &mut Ctx) {
        self.reached(id, ctx.now, ctx);
        if let Some(link) = self.links.get_mut(&id)
            && std::mem::take(&mut link.accused)
        {
            self.peers.health.worsen();
        }
    }

    /// Takes in that a node that we watch is silent.
    pub(crate) fn judge(&mut self, id: NodeId, change: monitor::Change, ctx: &mut Ctx) -> OwnershipEffect {
        let Some(link) = self.links.get(&id) else { return OwnershipEffect::Nothing };
        let (missing, adopted) = (link.missing(), link.adopted);
        if change.to == Verdict::Suspect && !self.is_suspect(id) {
            self.look_at_silent(id, ctx);
        }
        match change.to {
            Verdict::Alive => OwnershipEffect::Nothing,
            Verdict::Suspect if self.is_suspect(id) => OwnershipEffect::Nothing,
            Verdict::Suspect if !adopted && self.whom_to_ask(id, Whom::Watchers, ctx).is_empty() => {
                self.suspect(id, &[], ctx)
            }
            Verdict::Suspect => {
                self.inquire(id, Step::Probe, missing, Whom::Watchers, ctx);
                OwnershipEffect::Nothing
            }
            Verdict::Dead => {
                self.inquire(id, Step::Death, missing, Whom::Watchers, ctx);
                // One that never named us may answer us all the same.
                let nobody = self.inquiries.get(&id).is_some_and(|inquiry| inquiry.asked == 0) && !adopted;
                if nobody { self.conclude(id, ctx) } else { OwnershipEffect::Nothing }
            }
        }
    }

    /// Nobody was found at the address of a node.
    pub(super) fn found_gone(&mut self, id: NodeId, ctx: &mut Ctx) -> OwnershipEffect {
        let Some(link) = self.links.get_mut(&id) else { return OwnershipEffect::Nothing };
        link.gone = true;
        let missing = link.missing();
        self.inquire(id, Step::Death, missing, Whom::Watchers, ctx);
        if self.inquiries.get(&id).is_some_and(|inquiry| inquiry.asked == 0) {
            self.conclude(id, ctx)
        } else {
            OwnershipEffect::Nothing
        }
    }

    pub(super) fn is_suspect(&self, id: NodeId) -> bool {
        self.peers.table.member(id).is_some_and(|member| member.status == Status::Suspect)
    }
}
