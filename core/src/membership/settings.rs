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
use crate::member::{Member, NodeId, Role};
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
            out.send(from, Payload::Body(Body::Introduce));
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
