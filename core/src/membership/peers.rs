//! `Peers`: this node, the members it knows, and how well it can reach them.
//!
//! Every rule of membership works on these, so they are lent to each. The table says who the
//! members are, the gossip which of its rows are news, and the observers who watches this node.
//! Contact and local health say how far this node may trust what it sees of the others.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::{ClusterConfig, Config, Mode};
use crate::ctx::Ctx;
use crate::member::{Member, NodeId, Role, Status};
use crate::membership::contact::Contact;
use crate::membership::gossip::{Extent, Gossip};
use crate::membership::local_health::LocalHealth;
use crate::membership::observers::Observers;
use crate::membership::table::MemberTable;
use crate::random::Random;
use crate::time::Instant;

/// Members that are asked about a target whose observers are not known.
const RANDOM_MEMBERS: usize = 3;

/// Rows that are looked at to find them.
const ROWS_EXAMINED_MAX: usize = 64;

/// This node and the members it knows.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    /// This node's own row.
    pub(super) me: Member,
    /// Which members may be observers.
    pub(super) mode: Mode,
    pub(super) table: MemberTable,
    pub(super) gossip: Gossip,
    /// The members that watch this node.
    pub(super) observers: Observers,
    /// Whether other nodes answer this one, and how fast.
    pub(super) contact: Contact,
    pub(super) health: LocalHealth,
}

impl Peers {
    /// A table that holds `me` alone. Draws when the first observer is replaced.
    pub(super) fn new(config: &Config, cluster: &ClusterConfig, me: Member, ctx: &mut Ctx) -> Peers {
        let redraw = config.membership.redraw;
        // Spread, so that nodes started together do not all redraw together.
        let redraw_at = ctx.now + redraw / 2 + ctx.random.duration_below(redraw);
        Peers {
            mode: cluster.mode,
            table: MemberTable::new(me.clone(), ctx.now),
            gossip: Gossip::default(),
            observers: Observers::new(me.id, config.membership.observers as usize, redraw_at),
            contact: Contact::new(ctx.now),
            health: LocalHealth::default(),
            me,
        }
    }

    // ---- inputs ---------------------------------------------------------------------------------

    /// Puts this node's own row into the table and gossips it.
    pub(super) fn publish_self(&mut self, extent: Extent, now: Instant) {
        self.table.set_local(now, self.me.clone());
        self.gossip.add(self.me.id, extent, now);
    }

    /// Fills the observer slots that are free. Returns the new observers.
    pub(super) fn fill_observers(&mut self) -> Vec<NodeId> {
        let (mode, me) = (self.mode, self.me.id);
        self.observers.fill(self.table.members().filter(move |member| may_observe(member, mode, me)))
    }

    /// Replaces one observer, if that is due. Returns the new one.
    pub(super) fn redraw_observer(&mut self, ctx: &Ctx) -> Option<NodeId> {
        if self.observers.redraw_at() > ctx.now {
            return None;
        }
        let (mode, me, every) = (self.mode, self.me.id, ctx.config.membership.redraw);
        let pool = self.table.members().filter(move |member| may_observe(member, mode, me));
        self.observers.redraw(pool, ctx.now, every, ctx.config.interval * 2)
    }

    // ---- questions ------------------------------------------------------------------------------

    /// The address of a node in the table.
    pub(super) fn address(&self, id: NodeId) -> Option<SocketAddr> {
        self.table.member(id).map(|member| member.address)
    }

    /// The addresses of all other members.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.table.others().iter().filter_map(|&id| self.address(id))
    }

    /// Whether the table holds this node suspect.
    pub(super) fn is_suspect(&self, id: NodeId) -> bool {
        self.table.member(id).is_some_and(|member| member.status == Status::Suspect)
    }

    /// Whether the table has held this node suspect for `timeout - interval`. Where only
    /// non-observers answer, that leaves the observers time to receive the suspicion and a
    /// heartbeat, and to clear the suspicion.
    pub(super) fn is_long_suspect(&self, id: NodeId, ctx: &Ctx) -> bool {
        let required = ctx.config.timeout.saturating_sub(ctx.config.interval);
        self.is_suspect(id) && self.table.changed(id).is_some_and(|at| ctx.now - at >= required)
    }

    /// How long this node waits for an answer. That is an eighth of an interval, or what answers
    /// take here if that is longer, and more if this node is unwell. It is an interval at most:
    /// with more, the first answers would be old when the last one comes.
    pub(super) fn reply_timeout(&self, ctx: &Ctx) -> Duration {
        let interval = ctx.config.interval;
        self.health.stretch((interval / 8).max(self.contact.reply_time())).min(interval)
    }

    /// A few members that are alive, other than `but`: those that follow a random row.
    pub(super) fn random_members(&self, but: NodeId, random: &mut Random) -> Vec<NodeId> {
        let others = self.table.others();
        let first = random.below(others.len().max(1) as u64) as usize;
        let is_alive = |id: &NodeId| self.table.member(*id).is_some_and(|member| member.status == Status::Alive);
        let examined = others.iter().cycle().skip(first).take(others.len().min(ROWS_EXAMINED_MAX));
        examined.copied().filter(|id| *id != but).filter(is_alive).take(RANDOM_MEMBERS).collect()
    }

    /// Whether this node may watch `id` unasked: it may if it is in the pool of observers, or if
    /// that pool is empty.
    pub(super) fn may_watch_unasked(&self, id: NodeId) -> bool {
        let is_in_pool = |member: &Member| may_observe(member, self.mode, id);
        is_in_pool(&self.me) || !self.table.members().any(is_in_pool)
    }
}

/// Whether a member is in the pool of observers of the node `of`.
fn may_observe(member: &Member, mode: Mode, of: NodeId) -> bool {
    let is_fit = match mode {
        Mode::Random => true,
        Mode::Central => member.role == Role::Monitor,
    };
    is_fit && member.id != of && member.status.is_member()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::membership::fixture::{Fixture, id, just_after, member, ms};

    #[test]
    fn a_few_other_members_that_are_alive_are_drawn() {
        let mut node = Fixture::new(&["a", "b", "c", "d", "e"]);
        node.peers.table.set_status(ms(0), id("b"), Status::Suspect);
        for _ in 0..20 {
            let mut drawn = node.peers.random_members(id("a"), &mut node.ctx.random);
            drawn.sort();
            let mut expected = vec![id("c"), id("d"), id("e")];
            expected.sort();
            assert_eq!(drawn, expected);
        }
        let mut alone = Fixture::new(&[]);
        assert_eq!(alone.peers.random_members(id("a"), &mut alone.ctx.random), []);
    }

    #[test]
    fn a_suspicion_is_long_after_timeout_less_interval() {
        let mut node = Fixture::new(&["a"]);
        node.at(ms(60_000));
        assert!(!node.peers.is_long_suspect(id("a"), &node.ctx), "it is not suspect");
        node.peers.table.set_status(ms(60_000), id("a"), Status::Suspect);
        for (at, expected) in [(ms(64_999), false), (ms(65_000), true)] {
            node.at(at);
            assert_eq!(node.peers.is_long_suspect(id("a"), &node.ctx), expected, "at {at:?}");
        }
    }

    #[test]
    fn the_reply_timeout_grows_up_to_an_interval() {
        let mut node = Fixture::new(&[]);
        let reply_timeout = |node: &Fixture| node.peers.reply_timeout(&node.ctx).as_millis();
        assert_eq!(reply_timeout(&node), 125);
        node.peers.contact.handle_round_trip(Duration::from_millis(100));
        assert_eq!(reply_timeout(&node), 300);
        node.peers.health.degrade();
        assert_eq!(reply_timeout(&node), 600);
        node.peers.health.degrade();
        assert_eq!(reply_timeout(&node), 900);
        node.peers.health.degrade();
        assert_eq!(reply_timeout(&node), 1_000);
    }

    #[test]
    fn in_central_mode_only_monitors_watch_unasked() {
        let mut node = Fixture::new(&["a"]);
        assert!(node.peers.may_watch_unasked(id("a")));
        node.peers.mode = Mode::Central;
        assert!(node.peers.may_watch_unasked(id("a")), "there is no monitor");
        let mut monitor = member("monitor");
        Arc::make_mut(&mut monitor.profile).role = Role::Monitor;
        node.peers.table.preload(ms(0), &monitor);
        assert!(!node.peers.may_watch_unasked(id("a")));
        assert_eq!(node.peers.fill_observers(), [monitor.id]);
    }

    #[test]
    fn an_observer_is_replaced_when_it_is_due() {
        let names: Vec<String> = (0..20).map(|index| format!("node-{index}")).collect();
        let mut node = Fixture::new(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let observers = node.peers.fill_observers();
        assert_eq!(observers.len(), node.ctx.config.membership.observers as usize);
        assert_eq!(node.peers.fill_observers(), [], "all slots are taken");
        let due = node.peers.observers.redraw_at();
        node.at(Instant::from_nanos(due.as_nanos() - 1));
        assert_eq!(node.peers.redraw_observer(&node.ctx), None);
        node.at(due);
        node.peers.redraw_observer(&node.ctx);
        assert_eq!(node.peers.observers.redraw_at(), due + node.ctx.config.membership.redraw);
        node.at(just_after(due));
        assert_eq!(node.peers.redraw_observer(&node.ctx), None);
    }

    #[test]
    fn the_own_row_is_published_as_it_is() {
        let mut node = Fixture::new(&[]);
        node.peers.me.status = Status::Left;
        node.peers.publish_self(Extent::Note, ms(1));
        assert_eq!(node.peers.table.member(id("me")), Some(&node.peers.me));
        assert_eq!(node.peers.gossip.due(), Some(ms(1)));
    }
}
