//! The timers of [`Cluster`]: when each rule is due, and in which order.
//!
//! Each rule knows when it is due next. One timeout takes them all in a fixed order, so that two
//! runs with the same inputs send the same messages.

use super::gossip::FANOUT;
use super::outbox::Payload;
use super::quorum::Quorum;
use super::watch::WatchKind;
use super::{Cluster, OwnershipEffect, sync};
use crate::ctx::Ctx;
use crate::event::Event;
use crate::input::StreamEvent;
use crate::time::{Instant, earliest};
use crate::wire::Body;

impl Cluster {
    /// Does what is due. While verdicts are held, this node concludes nothing.
    pub(crate) fn handle_timeout(&mut self, held_until: Option<Instant>, ctx: &mut Ctx) -> OwnershipEffect {
        if self.superseded {
            return OwnershipEffect::Nothing;
        }
        self.update_wire_version(ctx);
        if self.heartbeats.begin_slots(&mut self.peers, &self.joining, ctx) {
            self.refutations.begin_slot();
            self.streams.open_missing_lifelines(&self.peers, &mut self.out);
        }
        self.heartbeats.send_due(&mut self.peers, &mut self.out, ctx);
        if let Some(quorum) = &mut self.quorum {
            quorum.handle_timeout(&self.peers, &mut self.out, ctx.now);
        }
        self.rotate_observers(ctx);
        let effect = if held_until.is_none() { self.advance_inquiries(ctx) } else { OwnershipEffect::Nothing };
        let (inquiries, mut cx) = self.lend(ctx);
        inquiries.expire_pending(&mut cx);
        self.look_for_others(ctx);
        self.unconfirmed.handle_timeout(&self.peers, &mut self.out, ctx);
        for (id, stream) in self.streams.overdue_connect_probes(ctx.now) {
            self.streams.close(stream, &mut self.out);
            self.finish_connect_probe(id, &StreamEvent::Failed, ctx);
        }
        self.streams.handle_timeout(&self.peers, &mut self.out, ctx);
        if self.transfers.next_due() <= ctx.now {
            self.transfers.handle_timeout(&mut self.streams, &self.peers, &mut self.out, ctx.now);
        }
        self.refutations.publish_pending(&mut self.peers, ctx.now);
        self.push_gossip(ctx);
        effect
    }

    /// When [`Cluster::handle_timeout`] is due, while verdicts are held until `held_until`.
    pub(crate) fn next_due(&self, held_until: Instant) -> Instant {
        if self.superseded {
            return Instant::NEVER;
        }
        let gossip = self.peers.gossip.due().filter(|_| !self.peers.table.others().is_empty());
        let quorum = self.quorum.as_ref().map(Quorum::next_due);
        let rules = [
            self.heartbeats.next_due(&self.peers),
            self.peers.observers.redraw_at(),
            self.inquiries.next_due(held_until),
            self.joining.next_due(),
            self.sync.next_due(),
            self.random_probe.next_due(),
            self.unconfirmed.next_due(),
            self.streams.next_due(),
            self.transfers.next_due(),
            self.refutations.next_due(),
        ];
        let rules = rules.into_iter().fold(Instant::NEVER, Instant::min);
        earliest(rules, [gossip, quorum, self.peers.observers.next_release()])
    }

    // ---- private --------------------------------------------------------------------------------

    /// Releases former observers whose time is over, and replaces one if that is due.
    fn rotate_observers(&mut self, ctx: &Ctx) {
        for id in self.peers.observers.release(ctx.now) {
            self.out.send_to(&self.peers, id, Payload::Body(Body::Release));
            self.streams.close_lifeline_to(id, &mut self.out);
        }
        if let Some(id) = self.peers.redraw_observer(ctx) {
            self.streams.open_lifeline(id, &self.peers, &mut self.out);
        }
    }

    /// Goes on with the inquiries that are due, and checks the brakes. If a zone has recovered, all
    /// watched nodes get a fresh timer.
    fn advance_inquiries(&mut self, ctx: &mut Ctx) -> OwnershipEffect {
        let mut effect = OwnershipEffect::Nothing;
        while let Some(id) = self.inquiries.poll_due(ctx.now) {
            let (inquiries, mut cx) = self.lend(ctx);
            let change = inquiries.advance(id, &mut cx);
            effect = effect.max(self.apply_own(change, ctx));
        }
        if self.inquiries.check_brakes(&self.peers, ctx) {
            self.watching.ids().into_iter().for_each(|id| self.handle_sign_of_life(id, ctx.now, ctx));
        }
        effect
    }

    /// Asks seeds, compares tables and probes random members.
    fn look_for_others(&mut self, ctx: &mut Ctx) {
        self.joining.handle_timeout(&self.peers, &mut self.out, ctx);
        if self.sync.take_due(ctx) {
            for node in self.peers.table.expire(ctx.now, ctx.config.membership.forget_after) {
                ctx.emit(Event::Forgotten { node });
            }
            self.unconfirmed.forget_answers(&self.peers);
            sync::compare_with_random_member(&self.peers, &mut self.out, ctx);
        }
        self.random_probe.send_due(&self.peers, &mut self.out, ctx);
        if let Some(id) = self.random_probe.expire(&self.peers, &mut self.out, ctx) {
            self.settings.handle_silent_member(id, &self.peers, ctx);
            // With one other member no node answers this one if that member is gone.
            let is_alone = self.peers.table.others().len() < 2;
            let is_answered = is_alone || self.peers.contact.silence(ctx.now) < ctx.config.interval * 3;
            if is_answered && self.peers.may_watch_unasked(id) {
                self.watching.start(id, ctx.config.interval, WatchKind::Unsolicited, ctx);
            }
        }
        self.settings.check_monitors(&self.peers, &self.joining, ctx);
    }

    /// Pushes fresh gossip to random members.
    fn push_gossip(&mut self, ctx: &mut Ctx) {
        let others = self.peers.table.others().len();
        if self.peers.gossip.due().is_none_or(|due| due > ctx.now) || others == 0 {
            return;
        }
        if !self.peers.gossip.begin_round(ctx.now) {
            return;
        }
        for _ in 0..FANOUT.min(others) {
            if let Some(member) = self.peers.table.draw(&mut ctx.random) {
                self.out.send_to_member(member, Payload::Gossip);
            }
        }
    }
}
