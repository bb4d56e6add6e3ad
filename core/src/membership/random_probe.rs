//! `RandomProbe`: probes of members that this node does not watch.
//!
//! If all observers of a node end with it, no member notices its silence. So each node probes a
//! random member every four intervals, and watches it if it does not answer twice. It also probes a
//! random dead member, which may be alive behind a partition: so the two sides of a partition find
//! each other.

use std::time::Duration;

use crate::ctx::Ctx;
use crate::member::NodeId;
use crate::membership::outbox::{Outbox, Payload};
use crate::membership::peers::Peers;
use crate::time::Instant;
use crate::wire::Body;

/// How many intervals pass between two probes.
const PROBE_EVERY: u32 = 4;

/// The member that was probed.
#[derive(Clone, Copy, Debug)]
struct Probed {
    id: NodeId,
    /// When it should have answered.
    by: Instant,
    /// Whether this is the second probe.
    is_second: bool,
}

/// When this node probes a random member.
#[derive(Clone, Debug)]
pub(super) struct RandomProbe {
    due: Instant,
    probed: Option<Probed>,
}

impl RandomProbe {
    /// The first probe is drawn, so that nodes started together do not all probe together.
    pub(super) fn new(interval: Duration, ctx: &mut Ctx) -> RandomProbe {
        RandomProbe { due: ctx.now + ctx.random.duration_below(interval * PROBE_EVERY), probed: None }
    }

    pub(super) fn next_due(&self) -> Instant {
        self.probed.map_or(self.due, |probed| self.due.min(probed.by))
    }

    /// Handles an answer of a member.
    pub(super) fn handle_answer(&mut self, id: NodeId) {
        self.probed.take_if(|probed| probed.id == id);
    }

    /// Forgets the probe that is under way: its answer may be late because this node paused.
    pub(super) fn discount_pause(&mut self) {
        self.probed = None;
    }

    /// Probes a random member and a random dead one, if that is due.
    pub(super) fn send_due(&mut self, peers: &Peers, out: &mut Outbox, ctx: &mut Ctx) {
        if self.due > ctx.now {
            return;
        }
        self.due = ctx.now + ctx.config.interval * PROBE_EVERY;
        let (number, reply) = (out.next_number(), peers.reply_timeout(ctx));
        if let Some((id, to)) = peers.table.draw(&mut ctx.random).map(|member| (member.id, member.address))
            && self.probed.is_none()
        {
            self.probed = Some(Probed { id, by: ctx.now + reply * 2, is_second: false });
            out.send(to, Payload::Body(Body::Probe { number }));
        }
        let retry_for = ctx.config.membership.retry_for;
        let is_recent = |id: NodeId| peers.table.changed(id).is_some_and(|changed| ctx.now - changed <= retry_for);
        let dead = peers.table.draw_dead(&mut ctx.random).filter(|member| is_recent(member.id));
        if let Some(to) = dead.map(|member| member.address) {
            out.send(to, Payload::Body(Body::Probe { number }));
        }
    }

    /// Probes a member again that did not answer. Returns it if it did not answer the second probe
    /// either.
    pub(super) fn expire(&mut self, peers: &Peers, out: &mut Outbox, ctx: &Ctx) -> Option<NodeId> {
        let Probed { id, by, is_second } = self.probed.take_if(|probed| probed.by <= ctx.now)?;
        let member = peers.table.member(id).filter(|member| member.status.is_member())?;
        if is_second {
            return Some(id);
        }
        let (number, reply) = (out.next_number(), peers.reply_timeout(ctx));
        self.probed = Some(Probed { id, by: by.max(ctx.now) + reply * 4, is_second: true });
        out.send(member.address, Payload::Body(Body::Probe { number }));
        None
    }
}
