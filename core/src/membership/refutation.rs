//! What others hold of this node, and what it answers.
//!
//! Only a member itself can contradict what is said of it. So whatever others hold of this node
//! that it does not hold itself is answered with something higher: a suspicion with the next word,
//! a death with the next life, and a revision that this node has not said with the one after it. A
//! later life or revision than its own means that its memory is of before: a process that goes on
//! from an image of itself has forgotten what it said since. Where it has lost lives, others have
//! had its shards, and it gives them up.
//!
//! A number at its end has nothing after it. Neither has an address, a role or a weight that this
//! process never had: those never change within a generation, so no revision takes them back. Both
//! are answered as a new process would: with the next *generation*, in which nothing was said yet.
//! All shards are given up before.
//!
//! Answers are bounded in rate. What could not be said at once is said later, in its newest form.

use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, OwnershipEffect, Payload};
use crate::ctx::Ctx;
use crate::event::Event;
use crate::member::{Generation, Incarnation, NodeId, Profile, Status};
use crate::time::Instant;
use crate::wire::{Row, TIME_MAX};

/// How often in an interval this node contradicts at once. Each suspicion takes an eighth of an
/// interval of asking, so honest ones come no faster.
const REFUTATIONS_MAX: u32 = 8;

/// How often in an interval one member is told what is held of it or of its target. An honest one
/// that is held dead sends less than that.
const ANSWERS_MAX: u32 = 64;

/// How often this node may begin a new generation: once in so many intervals. Two honest causes
/// never meet.
const RENEW_EVERY: u32 = 10;

/// What this node has contradicted lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Refutations {
    /// When the present interval began, and how often in it.
    since: Instant,
    said: u32,
    /// What is still to be said, and when: whether the whole row is news.
    pending: Option<(Instant, bool)>,
    /// How often each member was answered in the present slot.
    answers: std::collections::BTreeMap<NodeId, u32>,
    renewed_at: Option<Instant>,
}

impl Refutations {
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.pending.map(|(at, _)| at)
    }

    /// A new slot: everybody may be answered anew.
    pub(super) fn begin_slot(&mut self) {
        self.answers.clear();
    }

    /// Whether it may be said now; else it is kept for later.
    fn may_say(&mut self, whole: bool, now: Instant, interval: Duration) -> bool {
        if now - self.since >= interval {
            (self.since, self.said) = (now, 0);
        }
        self.said = self.said.saturating_add(1);
        let may = self.said <= REFUTATIONS_MAX;
        if !may {
            let whole = whole || self.pending.is_some_and(|(_, whole)| whole);
            self.pending = Some((self.since + interval, whole));
        }
        may
    }

    fn may_answer(&mut self, to: NodeId) -> bool {
        let answers = self.answers.entry(to).or_default();
        *answers = answers.saturating_add(1);
        *answers <= ANSWERS_MAX
    }
}

/// How what others hold of this node's profile relates to what it says.
enum Holds {
    /// What it says, or said before.
    Ours,
    /// Something that it did not say, under this revision or an earlier one of its own.
    Else(u32),
    /// What no process of this generation can have said, or what has no number after it.
    NeverOurs,
}

impl Cluster {
    /// Takes in what others hold of this node.
    pub(super) fn hear_of_myself(&mut self, row: &Row<'_>, ctx: &mut Ctx) -> OwnershipEffect {
        if row.generation > self.peers.me.generation {
            let address = row.details.map(|details| details.address);
            return self.give_way(row.generation, address, ctx);
        }
        if row.generation < self.peers.me.generation || self.peers.me.status == Status::Left {
            return OwnershipEffect::Nothing;
        }
        let (said, mine) = (row.incarnation, self.peers.me.incarnation);
        let is_over = !row.status.is_member() && said.life >= mine.life;
        let next = match row.status {
            // Others have our shards, whatever else we said meanwhile; or had them, in a life that
            // we have forgotten.
            _ if is_over || said.life > mine.life => said.returned(),
            Status::Suspect if said >= mine => said.refuted(),
            // Another node has spoken for us; we go on from there.
            Status::Alive if said > mine => Some(said),
            Status::Alive | Status::Suspect | Status::Dead | Status::Left => Some(mine),
        };
        let revision = match self.holds(row) {
            Holds::Ours => Some(self.peers.me.revision),
            Holds::Else(revision) => Some(revision + 1),
            Holds::NeverOurs => None,
        };
        let (Some(next), Some(revision)) = (next, revision) else { return self.renew(ctx) };
        if (next, revision) == (mine, self.peers.me.revision) {
            return OwnershipEffect::Nothing;
        }
        let is_said_anew = revision != self.peers.me.revision;
        self.peers.me.incarnation = next;
        Arc::make_mut(&mut self.peers.me.profile).revision = revision;
        self.contradict(is_said_anew, ctx);
        if is_over || said.life > mine.life { self.return_from_death(ctx) } else { OwnershipEffect::Nothing }
    }

    /// What a row has of what this node says of itself.
    fn holds(&self, row: &Row<'_>) -> Holds {
        let me = &self.peers.me;
        if row.revision > me.revision && row.revision >= Profile::REVISION_MAX {
            return Holds::NeverOurs;
        }
        // Revision 0 is what a former process said.
        let Some(details) = row.details.filter(|_| row.revision > 0) else {
            return if row.revision > me.revision { Holds::Else(row.revision) } else { Holds::Ours };
        };
        if !details.begins_like(me) {
            return Holds::NeverOurs;
        }
        let is_else = row.revision == me.revision && details.profile(row.revision) != *me.profile;
        if is_else || row.revision > me.revision { Holds::Else(row.revision) } else { Holds::Ours }
    }

    /// Others were told that this node was dead: it has said by now that it lives.
    fn return_from_death(&mut self, ctx: &mut Ctx) -> OwnershipEffect {
        ctx.emit(Event::DeclaredDead { incarnation: self.peers.me.incarnation });
        self.begin_anew(ctx)
    }

    /// Goes on in the next generation. Nothing happens if that was done just now; the others ask
    /// again.
    fn renew(&mut self, ctx: &mut Ctx) -> OwnershipEffect {
        let every = ctx.config.interval * RENEW_EVERY;
        let is_too_soon = self.refutations.renewed_at.is_some_and(|at| ctx.now - at < every);
        if is_too_soon || self.peers.me.generation.0 >= TIME_MAX {
            return OwnershipEffect::Nothing;
        }
        self.refutations.renewed_at = Some(ctx.now);
        self.peers.me.generation = Generation(self.peers.me.generation.0 + 1);
        self.peers.me.incarnation = Incarnation::default();
        Arc::make_mut(&mut self.peers.me.profile).revision = 1;
        self.contradict(true, ctx);
        ctx.emit(Event::Renewed { generation: self.peers.me.generation });
        // Lifelines are those of a generation.
        self.close_lifelines();
        self.begin_anew(ctx)
    }

    /// No other member names this node any more, and what it thinks of others is from before.
    fn begin_anew(&mut self, ctx: &mut Ctx) -> OwnershipEffect {
        self.wait_for_a_lease(ctx.now);
        let watched: Vec<NodeId> = self.links.keys().copied().collect();
        watched.into_iter().for_each(|id| self.unwatch(id, ctx));
        // Peers ignored our messages while they held us dead. Sync tables once they know that we
        // are alive.
        self.joining.compare_by(ctx.now + ctx.config.interval);
        OwnershipEffect::Revoke
    }

    /// Puts down what this node says of itself, and spreads it as fast as it may.
    fn contradict(&mut self, whole: bool, ctx: &Ctx) {
        self.peers.table.speak(ctx.now, self.peers.me.clone());
        if self.refutations.may_say(whole, ctx.now, ctx.config.interval) {
            self.peers.gossip.add(self.peers.me.id, whole, ctx.now);
        }
    }

    /// Spreads what could not be said at once.
    pub(super) fn say_what_waits(&mut self, now: Instant) {
        if let Some((_, whole)) = self.refutations.pending.take_if(|(at, _)| *at <= now) {
            self.peers.gossip.add(self.peers.me.id, whole, now);
        }
    }

    /// Tells a member what is held of another one, or of itself, unless it was told that very often
    /// just now.
    pub(super) fn tell_about(&mut self, to: NodeId, about: NodeId) {
        if self.refutations.may_answer(to) {
            self.send_to(to, Payload::About(about));
        }
    }
}
