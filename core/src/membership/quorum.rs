//! Whether enough of the others answer us, and until when that gives us the right to own shards.
//!
//! Each node polls all others, three times in a lease. Who is a member in the other's table gets a
//! vote back. While more than half of all that count have answered a poll that was *sent* within
//! the lease, this node may own shards; when that is over, it has given them up, without having to
//! hear of anything. Two sides of a partition cannot both have more than half of the same members.
//!
//! Who takes over waits: a death that becomes known at one instant keeps its shards where they were
//! for one lease more. Nobody who knows of the death gives the dead one another vote, so the last
//! lease it can have ends before the wait does.
//!
//! Who counts is what the view says: members, suspects among them, and the dead until a lease after
//! their death, if there was a quorum all the while. Without a quorum nobody is called dead for
//! silence and nobody new is let in, so that a minority cannot become a majority by burying the
//! others or by taking in strangers.
//!
//! What this does not do: agree on the view. Where one partition follows another before the first
//! has healed, two sides may count different members. `ownership.quorum_min` over half of the nodes
//! that there are closes that door, since no two sides can be as large.
//!
//! Source: C. Gray and D. Cheriton, "Leases: An efficient fault-tolerant mechanism for distributed
//! file cache consistency", SOSP 1989; the waits follow from its section 2.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{Cluster, OwnershipEffect, Payload};
use crate::config::{Config, QuorumRule};
use crate::ctx::Ctx;
use crate::event::Event;
use crate::lease::valid_for;
use crate::member::NodeId;
use crate::membership::table::MemberTable;
use crate::time::Instant;
use crate::wire::Body;

/// Polls in a lease.
const POLLS: u32 = 3;

/// Rounds of which a late vote still counts.
const ROUNDS_MAX: usize = 2 * POLLS as usize;

/// What this node's right to own shards rests on.
#[derive(Clone, Debug)]
pub(super) struct Quorum {
    lease: Duration,
    /// Fewest that must answer, this node included.
    least: usize,
    poll_at: Instant,
    /// The newest polls: number, and when they were sent.
    rounds: VecDeque<(u32, Instant)>,
    /// By member: when the newest of our polls was sent that it answered.
    answered: BTreeMap<NodeId, Instant>,
    /// The dead that still count, and until when.
    dead: BTreeMap<NodeId, Instant>,
    /// When the right ends, if it is not renewed.
    until: Instant,
    held: bool,
    /// Nothing is started before.
    starts_at: Option<Instant>,
}

impl Quorum {
    /// None where none is asked for.
    pub(super) fn new(config: &Config, now: Instant) -> Option<Quorum> {
        let ownership = &config.ownership;
        (ownership.quorum == QuorumRule::Majority).then(|| Quorum {
            lease: ownership.lease,
            least: ownership.quorum_min as usize,
            poll_at: now,
            rounds: VecDeque::new(),
            answered: BTreeMap::new(),
            dead: BTreeMap::new(),
            until: Instant::ZERO,
            held: false,
            starts_at: None,
        })
    }

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// When the right to own shards ends; long ago if there is none.
    pub(super) fn until(&self) -> Instant {
        if self.held { self.until } else { Instant::ZERO }
    }

    /// Whether shards may be started now.
    pub(super) fn may_start(&self) -> bool {
        self.held && self.starts_at.is_none()
    }

    /// Starts nothing for one lease from now on.
    pub(super) fn wait(&mut self, now: Instant) {
        self.starts_at = self.starts_at.max(Some(now + self.lease));
    }

    /// Takes in that a member is concluded dead.
    pub(super) fn bury(&mut self, id: NodeId, now: Instant) {
        self.dead.insert(id, now + self.lease);
        self.wait(now);
    }

    /// Takes in that a node is a member again, or has said goodbye.
    pub(super) fn settle(&mut self, id: NodeId) {
        self.dead.remove(&id);
    }

    /// Whether a node may be let in: it counts already, or there is a quorum, or there has yet to
    /// be one.
    pub(super) fn may_admit(&self, id: NodeId, table: &MemberTable) -> bool {
        let is_member = table.member(id).is_some_and(|member| member.status.is_member());
        self.held || is_member || self.dead.contains_key(&id) || self.voters(table) < self.least
    }

    pub(super) fn next_due(&self) -> Instant {
        let ends = self.held.then_some(self.until);
        let forgets = self.held.then(|| self.dead.values().min().copied()).flatten();
        [Some(self.poll_at), ends, self.starts_at, forgets].into_iter().flatten().min().unwrap_or(Instant::NEVER)
    }

    /// How many count.
    fn voters(&self, table: &MemberTable) -> usize {
        table.others().len() + 1 + self.dead.len()
    }

    /// How many of them answered a poll that was sent so lately that the right it gives has not
    /// ended by `now`, this node included.
    fn reached(&self, table: &MemberTable, now: Instant) -> usize {
        self.polls_answered(table).filter(|sent| *sent + valid_for(self.lease) > now).count()
    }

    /// For this node and each member: when the newest poll was sent that it answered.
    fn polls_answered(&self, table: &MemberTable) -> impl Iterator<Item = Instant> {
        let others = table.others().iter().filter_map(|id| self.answered.get(id)).copied();
        others.chain(self.rounds.back().map(|(_, sent)| *sent))
    }

    /// Renews the right by what has been answered. Returns whether it begins.
    fn renew(&mut self, table: &MemberTable, now: Instant) -> bool {
        let needed = (self.voters(table) / 2 + 1).max(self.least);
        let mut answered: Vec<Instant> = self.polls_answered(table).collect();
        answered.sort_unstable_by(|a, b| b.cmp(a));
        let Some(&oldest) = answered.get(needed - 1) else { return false };
        self.until = self.until.max(oldest + valid_for(self.lease));
        let begins = !self.held && self.until > now;
        if begins {
            self.held = true;
            self.wait(now);
            for until in self.dead.values_mut() {
                *until = now + self.lease;
            }
        }
        begins
    }
}

impl Cluster {
    /// Looks whether our right has ended. It is asked before anything is taken in: after a pause it
    /// has ended whatever comes in then.
    pub(crate) fn look_at_quorum(&mut self, ctx: &mut Ctx) -> OwnershipEffect {
        let Some(quorum) = &mut self.quorum else { return OwnershipEffect::Nothing };
        if !quorum.held || quorum.until > ctx.now {
            return OwnershipEffect::Nothing;
        }
        quorum.held = false;
        let (reached, of) = (quorum.reached(&self.peers.table, ctx.now), quorum.voters(&self.peers.table));
        ctx.emit(Event::QuorumLost { reached: reached as u32, of: of as u32 });
        OwnershipEffect::Revoke
    }

    /// Until when this node has the right to own shards; `None` where it needs nobody for that.
    pub(crate) fn lease_until(&self) -> Option<Instant> {
        self.quorum.as_ref().map(Quorum::until)
    }

    /// Whether shards that are ours by the view have to wait before they may start.
    pub(crate) fn holds_starts(&self) -> bool {
        self.quorum.as_ref().is_some_and(|quorum| !quorum.may_start())
    }

    /// Polls the others, and lets go of what has waited long enough.
    pub(super) fn poll(&mut self, ctx: &mut Ctx) {
        let now = ctx.now;
        let Some(quorum) = &mut self.quorum else { return };
        quorum.starts_at.take_if(|at| *at <= now);
        if quorum.held {
            quorum.dead.retain(|_, until| *until > now);
        }
        if quorum.poll_at > now {
            return;
        }
        quorum.poll_at = now + quorum.lease / POLLS;
        let table = &self.peers.table;
        quorum.answered.retain(|id, sent| *sent + quorum.lease > now && table.member(*id).is_some());
        let number = self.next_number();
        if let Some(quorum) = &mut self.quorum {
            quorum.rounds.push_back((number, now));
            if quorum.rounds.len() > ROUNDS_MAX {
                quorum.rounds.pop_front();
            }
        }
        let others: Vec<std::net::SocketAddr> = self.addresses().collect();
        for to in others {
            self.send(to, Payload::Say(Body::Poll { number }));
        }
    }

    /// Takes in a member's answer to a poll.
    pub(super) fn hear_vote(&mut self, from: NodeId, number: u32, ctx: &mut Ctx) -> OwnershipEffect {
        let Some(quorum) = &mut self.quorum else { return OwnershipEffect::Nothing };
        let round = quorum.rounds.iter().find(|(of, _)| *of == number);
        let Some(&(_, sent)) = round else { return OwnershipEffect::Nothing };
        let newest = quorum.answered.entry(from).or_insert(sent);
        *newest = sent.max(*newest);
        if !quorum.renew(&self.peers.table, ctx.now) {
            return OwnershipEffect::Nothing;
        }
        let (reached, of) = (quorum.reached(&self.peers.table, ctx.now), quorum.voters(&self.peers.table));
        ctx.emit(Event::QuorumGained { reached: reached as u32, of: of as u32 });
        OwnershipEffect::Recompute
    }
}
