//! `SettingsCheck`: settings with which a cluster cannot work as meant, where that shows only once
//! nodes meet.
//!
//! There are two: another cluster's name, and mode `central` without a monitor. Both are published
//! as events, and nothing is decided here.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::Mode;
use crate::ctx::Ctx;
use crate::event::Event;
use crate::member::{Member, NodeId, ProcessId, Role};
use crate::membership::join::Joining;
use crate::membership::outbox::{Outbox, Payload};
use crate::membership::peers::Peers;
use crate::time::Instant;
use crate::wire::Body;

/// The shortest time between two events about another cluster.
const FOREIGN_EVERY: Duration = Duration::from_secs(60);

/// The settings that do not fit, as far as they were published.
#[derive(Clone, Debug, Default)]
pub(super) struct SettingsCheck {
    /// When another cluster was last published.
    foreign_reported_at: Option<Instant>,
    /// When a join of another cluster was last answered.
    foreign_answered_at: Option<Instant>,
    /// Since when there is no monitor, in mode `central`.
    no_monitor_since: Option<Instant>,
    /// Whether it was published that there is no monitor.
    is_reported: bool,
    /// Whether it was published that a silent member is not declared dead.
    is_silence_reported: bool,
}

impl SettingsCheck {
    /// Handles a datagram of another cluster. If it comes from a seed or asks to join, one of the
    /// two names is misspelt. A join is answered once an interval, so that its sender notices too;
    /// nothing else is answered.
    pub(super) fn handle_foreign(
        &mut self,
        from: SocketAddr,
        sender: ProcessId,
        body: &Body<'_>,
        joining: &Joining,
        out: &mut Outbox,
        ctx: &mut Ctx,
    ) {
        let (now, interval) = (ctx.now, ctx.config.interval);
        let is_over = |at: Option<Instant>, pause: Duration| at.is_none_or(|at| now - at >= pause);
        let is_join = matches!(body, Body::Join(_));
        if is_join && is_over(self.foreign_answered_at, interval) {
            self.foreign_answered_at = Some(now);
            out.answer(from, sender, Payload::Body(Body::Introduce));
        }
        if (is_join || joining.is_seed(from)) && is_over(self.foreign_reported_at, FOREIGN_EVERY) {
            self.foreign_reported_at = Some(now);
            ctx.emit(Event::OtherCluster { address: from });
        }
    }

    /// Publishes that there has been no monitor for `timeout`, where only monitors watch.
    pub(super) fn check_monitors(&mut self, peers: &Peers, joining: &Joining, ctx: &mut Ctx) {
        if peers.mode != Mode::Central || !joining.is_synced(ctx.now) {
            return;
        }
        let is_monitor = |member: &Member| member.role == Role::Monitor && member.status.is_member();
        if peers.table.members().any(is_monitor) {
            self.no_monitor_since = None;
            (self.is_reported, self.is_silence_reported) = (false, false);
            return;
        }
        let since = *self.no_monitor_since.get_or_insert(ctx.now);
        if !self.is_reported && ctx.now - since >= ctx.config.timeout {
            self.is_reported = true;
            ctx.emit(Event::NoMonitor { silent: None });
        }
    }

    /// Handles that a member does not answer. If there is no monitor that would declare it dead,
    /// that is published once.
    pub(super) fn handle_silent_member(&mut self, id: NodeId, peers: &Peers, ctx: &mut Ctx) {
        if self.no_monitor_since.is_some()
            && !std::mem::replace(&mut self.is_silence_reported, true)
            && let Some(member) = peers.table.member(id)
        {
            ctx.emit(Event::NoMonitor { silent: Some(member.name.clone()) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::fixture::{Fixture, address, header, id, ms};
    use crate::wire::Join;

    #[test]
    fn a_foreign_join_is_answered_once_an_interval() {
        let mut node = Fixture::new(&[]);
        let (joining, mut settings) = (node.joining(), SettingsCheck::default());
        let row = crate::membership::fixture::note("x", crate::Status::Alive, crate::Incarnation::default());
        let body = Body::Join(Join { token: 0, row });
        let mut told = Vec::new();
        for (at, answers) in [(ms(0), 1), (ms(999), 0), (ms(1_000), 1)] {
            node.at(at);
            settings.handle_foreign(address("x"), header("x").sender(), &body, &joining, &mut node.out, &mut node.ctx);
            assert_eq!(node.bodies().len(), answers, "at {at:?}");
            told.extend(node.events());
        }
        assert_eq!(told, [Event::OtherCluster { address: address("x") }], "it is published once a minute");
    }

    #[test]
    fn of_other_foreign_datagrams_only_those_of_seeds_matter() {
        let mut node = Fixture::new(&[]);
        let (joining, mut settings) = (node.joining(), SettingsCheck::default());
        for (from, at, events) in
            [("x", ms(0), 0), ("seed", ms(0), 1), ("seed", ms(59_999), 0), ("seed", ms(60_000), 1)]
        {
            node.at(at);
            settings.handle_foreign(
                address(from),
                header(from).sender(),
                &Body::Gossip,
                &joining,
                &mut node.out,
                &mut node.ctx,
            );
            assert_eq!((node.bodies().len(), node.events().len()), (0, events), "{from} at {at:?}");
        }
    }

    #[test]
    fn a_missing_monitor_is_published_after_the_timeout() {
        let mut node = Fixture::new(&["a"]);
        let (mut joining, mut settings) = (node.joining(), SettingsCheck::default());
        joining.preload();
        settings.check_monitors(&node.peers, &joining, &mut node.ctx);
        node.at(ms(60_000));
        settings.check_monitors(&node.peers, &joining, &mut node.ctx);
        settings.handle_silent_member(id("a"), &node.peers, &mut node.ctx);
        assert_eq!(node.events(), [], "in mode random there is none");
        node.peers.mode = Mode::Central;
        for (at, expected) in [(ms(60_000), 0), (ms(65_999), 0), (ms(66_000), 1), (ms(90_000), 0)] {
            node.at(at);
            settings.check_monitors(&node.peers, &joining, &mut node.ctx);
            assert_eq!(node.events().len(), expected, "at {at:?}");
        }
        for expected in [1, 0] {
            settings.handle_silent_member(id("a"), &node.peers, &mut node.ctx);
            assert_eq!(node.events().len(), expected);
        }
    }
}
