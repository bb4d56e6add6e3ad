//! What is set so that a cluster cannot work as meant, and shows only once nodes meet: another
//! cluster's name, and mode `central` without a monitor. It is told, and nothing is decided here.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Cluster, Payload};
use crate::config::Mode;
use crate::ctx::Ctx;
use crate::event::Event;
use crate::member::{Member, NodeId, Role};
use crate::time::Instant;
use crate::wire::Body;

/// Another cluster is told of this often at most.
const FOREIGN_EVERY: Duration = Duration::from_secs(60);

/// What was told of the settings.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// When another cluster was last told of.
    foreign_told_at: Option<Instant>,
    /// When one was last answered.
    foreign_answered_at: Option<Instant>,
    /// Since when there is no monitor, in mode `central`.
    no_monitor_since: Option<Instant>,
    is_told: bool,
    /// Whether it was told that a silent member is not concluded dead.
    is_silence_told: bool,
}

impl Cluster {
    /// Handles a datagram of another cluster: one of the two names is misspelt, if it is a seed or
    /// asks to be let in. A join is answered, so that its sender hears of it, too; nothing else is.
    pub(crate) fn handle_foreign(&mut self, from: SocketAddr, body: &Body<'_>, ctx: &mut Ctx) {
        let (now, interval) = (ctx.now, ctx.config.interval);
        let is_over = |at: Option<Instant>, pause: Duration| at.is_none_or(|at| now - at >= pause);
        let is_join = matches!(body, Body::Join(_));
        if is_join && is_over(self.settings.foreign_answered_at, interval) {
            self.settings.foreign_answered_at = Some(now);
            self.send(from, Payload::Say(Body::Introduce));
        }
        if (is_join || self.is_seed(from)) && is_over(self.settings.foreign_told_at, FOREIGN_EVERY) {
            self.settings.foreign_told_at = Some(now);
            ctx.emit(Event::OtherCluster { address: from });
        }
    }

    /// Looks whether there is a monitor, where the deaths of nodes are monitors' business.
    pub(super) fn look_for_monitors(&mut self, ctx: &mut Ctx) {
        if self.peers.mode != Mode::Central || !self.joining.is_whole(ctx.now) {
            return;
        }
        let is_monitor = |member: &Member| member.role == Role::Monitor && member.status.is_member();
        if self.peers.table.members().any(is_monitor) {
            self.settings.no_monitor_since = None;
            (self.settings.is_told, self.settings.is_silence_told) = (false, false);
            return;
        }
        let since = *self.settings.no_monitor_since.get_or_insert(ctx.now);
        if !self.settings.is_told && ctx.now - since >= ctx.config.timeout {
            self.settings.is_told = true;
            ctx.emit(Event::NoMonitor { silent: None });
        }
    }

    /// A member does not answer. If there is no monitor that would conclude its death, that is told
    /// once.
    pub(super) fn miss(&mut self, id: NodeId, ctx: &mut Ctx) {
        if self.settings.no_monitor_since.is_some()
            && !std::mem::replace(&mut self.settings.is_silence_told, true)
            && let Some(member) = self.peers.table.member(id)
        {
            ctx.emit(Event::NoMonitor { silent: Some(member.name.clone()) });
        }
    }
}
