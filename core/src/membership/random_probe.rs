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
        if let Some(dead) = dead {
            out.probe_non_member(dead.address, number, dead.wire_versions, &peers.me);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Status;
    use crate::membership::fixture::{Fixture, address, id, just_after, ms};

    /// A node that knows `others`, and whose random probe is due at 4 s.
    fn probing(others: &[&str]) -> (Fixture, RandomProbe) {
        (Fixture::new(others), RandomProbe { due: ms(4_000), probed: None })
    }

    /// Sends what is due at `now`. Returns the number of probes, each to `a`.
    #[track_caller]
    fn send_due(node: &mut Fixture, probe: &mut RandomProbe, now: Instant) -> usize {
        node.at(now);
        probe.send_due(&node.peers, &mut node.out, &mut node.ctx);
        let bodies = node.bodies();
        assert!(bodies.iter().all(|(to, body)| *to == address("a") && matches!(body, Body::Probe { .. })));
        bodies.len()
    }

    /// Ends what is over at `now`. Returns the silent member, and the number of probes sent.
    fn expire(node: &mut Fixture, probe: &mut RandomProbe, now: Instant) -> (Option<NodeId>, usize) {
        node.at(now);
        let silent = probe.expire(&node.peers, &mut node.out, &node.ctx);
        (silent, node.bodies().len())
    }

    #[test]
    fn the_first_probe_is_due_within_four_intervals() {
        let mut node = Fixture::new(&[]);
        let due: Vec<Instant> = (0..8).map(|_| RandomProbe::new(node.ctx.config.interval, &mut node.ctx).due).collect();
        assert!(due.iter().all(|due| *due < ms(4_000)));
        assert!(due.iter().any(|other| *other != due[0]), "nodes do not probe together");
    }

    #[test]
    fn a_member_is_silent_after_two_probes() {
        let (mut node, mut probe) = probing(&["a"]);
        assert_eq!(send_due(&mut node, &mut probe, ms(3_999)), 0);
        assert_eq!(send_due(&mut node, &mut probe, ms(4_000)), 1);
        assert_eq!(expire(&mut node, &mut probe, ms(4_249)), (None, 0));
        assert_eq!(expire(&mut node, &mut probe, ms(4_250)), (None, 1));
        assert_eq!(expire(&mut node, &mut probe, ms(4_749)), (None, 0));
        assert_eq!(expire(&mut node, &mut probe, ms(4_750)), (Some(id("a")), 0));
        assert_eq!(probe.next_due(), ms(8_000));
    }

    #[test]
    fn an_answer_or_a_pause_ends_the_probe() {
        let (mut node, mut probe) = probing(&["a"]);
        send_due(&mut node, &mut probe, ms(4_000));
        probe.handle_answer(id("b"));
        assert_eq!(probe.next_due(), ms(4_250), "of another member");
        probe.handle_answer(id("a"));
        assert_eq!(expire(&mut node, &mut probe, ms(4_250)), (None, 0));
        send_due(&mut node, &mut probe, ms(8_000));
        probe.discount_pause();
        assert_eq!(expire(&mut node, &mut probe, ms(8_250)), (None, 0));
    }

    #[test]
    fn a_member_that_ended_meanwhile_is_not_silent() {
        let (mut node, mut probe) = probing(&["a"]);
        send_due(&mut node, &mut probe, ms(4_000));
        node.peers.table.set_status(ms(4_100), id("a"), Status::Left);
        assert_eq!(expire(&mut node, &mut probe, ms(4_250)), (None, 0));
    }

    #[test]
    fn a_dead_member_is_probed_for_retry_for() {
        let (mut node, mut probe) = probing(&["a"]);
        node.peers.table.set_status(ms(0), id("a"), Status::Dead);
        let last = ms(0) + node.ctx.config.membership.retry_for;
        assert_eq!(send_due(&mut node, &mut probe, last), 1);
        probe.due = last;
        assert_eq!(send_due(&mut node, &mut probe, just_after(last)), 0);
    }
}
