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
