//! `Refutations`: how this node answers what others hold of it.
//!
//! Only a member itself can refute what is said of it. If others hold something of this node that
//! it does not hold itself, it answers with a higher number. It answers a suspicion with the next
//! refutation, a death with the next life, and a revision that it has not published with the one
//! after it. A process that goes on from an image of itself has forgotten what it published since.
//! Others then hold a later life or revision of it than it knows. If it has lost lives, others have
//! had its shards, and it gives them up.
//!
//! The largest number has no next one. Neither has an address, a role or a weight that this process
//! never had: those never change within a generation, so no revision takes them back. Both are
//! answered as a new process would: with the next *generation*, in which nothing was published yet.
//! All shards are given up before.
//!
//! Answers are bounded in rate. What could not be published at once is published later, in its
//! newest form.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::ctx::Ctx;
use crate::event::Event;
use crate::member::{Generation, Incarnation, Member, NodeId, Profile, Status};
use crate::membership::gossip::Extent;
use crate::membership::outbox::{Outbox, Payload};
use crate::membership::peers::Peers;
use crate::time::Instant;
use crate::wire::{Row, TIME_MAX};

/// How often in an interval this node refutes at once. Each suspicion takes an eighth of an
/// interval of asking, so honest ones come no faster.
const REFUTATIONS_MAX: u32 = 8;

/// How often in an interval one member is sent the status of itself or of its target. An honest
/// member that is held dead sends less than that.
const ANSWERS_MAX: u32 = 64;

/// How often this node may begin a new generation: once in so many intervals. Two honest causes
/// never meet.
const RENEW_EVERY: u32 = 10;

/// What this node has refuted lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Refutations {
    /// When the present interval began, and how often it refuted in it.
    since: Instant,
    refuted: u32,
    /// When what is still to be published is due, and how much of the row is news.
    pending: Option<(Instant, Extent)>,
    /// How often each member was answered in the present slot.
    answers: BTreeMap<NodeId, u32>,
    renewed_at: Option<Instant>,
    /// When a process that is said to use this name was last asked.
    namesake_asked_at: Option<Instant>,
}

/// What follows from a row about this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SelfOutcome {
    Nothing,
    /// A later process is said to use this name, at this address: it has to say so itself.
    Namesake(Generation, SocketAddr),
    /// Others held this node dead, and others have its shards.
    WasDead,
    /// This node goes on in the next generation.
    Renewed,
}

/// How the profile in a row relates to the one that this node publishes.
enum ProfileMatch {
    /// It is the present one or an earlier one.
    Ours,
    /// This node did not publish it, under this revision.
    Unknown(u32),
    /// No process of this generation can have published it, or no revision comes after it.
    NeverOurs,
}

impl Refutations {
    // ---- inputs ---------------------------------------------------------------------------------

    /// Begins a slot: each member may be answered anew.
    pub(super) fn begin_slot(&mut self) {
        self.answers.clear();
    }

    /// Handles what others hold of this node.
    pub(super) fn handle_row_of_self(&mut self, row: &Row<'_>, peers: &mut Peers, ctx: &mut Ctx) -> SelfOutcome {
        let me = &peers.me;
        if row.generation > me.generation {
            return self.handle_namesake(row, ctx);
        }
        if row.generation < me.generation || me.status == Status::Left {
            return SelfOutcome::Nothing;
        }
        let (said, mine) = (row.incarnation, me.incarnation);
        let is_over = !row.status.is_member() && said.returns >= mine.returns;
        // Others have this node's shards, or had them in a life that it has forgotten.
        let was_dead = is_over || said.returns > mine.returns;
        let next = match row.status {
            Status::Alive | Status::Suspect | Status::Dead | Status::Left if was_dead => said.returned(),
            Status::Suspect if said >= mine => said.refuted(),
            // Another node refuted for this one.
            Status::Alive if said > mine => Some(said),
            Status::Alive | Status::Suspect | Status::Dead | Status::Left => Some(mine),
        };
        let revision = match match_profile(me, row) {
            ProfileMatch::Ours => Some(me.revision),
            ProfileMatch::Unknown(revision) => Some(revision + 1),
            ProfileMatch::NeverOurs => None,
        };
        let (Some(next), Some(revision)) = (next, revision) else { return self.renew(peers, ctx) };
        if (next, revision) == (mine, me.revision) {
            return SelfOutcome::Nothing;
        }
        let extent = if revision == me.revision { Extent::Note } else { Extent::Row };
        peers.me.incarnation = next;
        Arc::make_mut(&mut peers.me.profile).revision = revision;
        self.publish(extent, peers, ctx);
        if !was_dead {
            return SelfOutcome::Nothing;
        }
        ctx.emit(Event::DeclaredDead { incarnation: peers.me.incarnation });
        SelfOutcome::WasDead
    }

    /// Handles that a later process is said to use this name. A note has no address to ask at; a
    /// node that is superseded learns it from its next join, too.
    fn handle_namesake(&mut self, row: &Row<'_>, ctx: &Ctx) -> SelfOutcome {
        let is_too_soon = self.namesake_asked_at.is_some_and(|at| ctx.now - at < ctx.config.interval / 4);
        match row.details {
            Some(details) if !is_too_soon => {
                self.namesake_asked_at = Some(ctx.now);
                SelfOutcome::Namesake(row.generation, details.address)
            }
            Some(_) | None => SelfOutcome::Nothing,
        }
    }

    /// Goes on in the next generation, once in ten intervals. The others repeat what they hold.
    fn renew(&mut self, peers: &mut Peers, ctx: &mut Ctx) -> SelfOutcome {
        let every = ctx.config.interval * RENEW_EVERY;
        let is_too_soon = self.renewed_at.is_some_and(|at| ctx.now - at < every);
        if is_too_soon || peers.me.generation.0 >= TIME_MAX {
            return SelfOutcome::Nothing;
        }
        self.renewed_at = Some(ctx.now);
        peers.me.generation = Generation(peers.me.generation.0 + 1);
        peers.me.incarnation = Incarnation::default();
        Arc::make_mut(&mut peers.me.profile).revision = 1;
        self.publish(Extent::Row, peers, ctx);
        ctx.emit(Event::Renewed { generation: peers.me.generation });
        SelfOutcome::Renewed
    }

    /// Puts this node's row into the table, and gossips it as soon as the rate allows.
    fn publish(&mut self, extent: Extent, peers: &mut Peers, ctx: &Ctx) {
        peers.table.set_local(ctx.now, peers.me.clone());
        if self.take_refutation(extent, ctx.now, ctx.config.interval) {
            peers.gossip.add(peers.me.id, extent, ctx.now);
        }
    }

    /// Whether this node may refute now; else the refutation is kept for the next interval.
    fn take_refutation(&mut self, extent: Extent, now: Instant, interval: Duration) -> bool {
        if now - self.since >= interval {
            (self.since, self.refuted) = (now, 0);
        }
        self.refuted = self.refuted.saturating_add(1);
        let is_allowed = self.refuted <= REFUTATIONS_MAX;
        if !is_allowed {
            let extent = self.pending.map_or(extent, |(_, pending)| pending.max(extent));
            self.pending = Some((self.since + interval, extent));
        }
        is_allowed
    }

    /// Gossips what could not be gossiped at once.
    pub(super) fn publish_pending(&mut self, peers: &mut Peers, now: Instant) {
        if let Some((_, extent)) = self.pending.take_if(|(at, _)| *at <= now) {
            peers.gossip.add(peers.me.id, extent, now);
        }
    }

    /// Sends a member the row of another one, or its own, unless it was sent that very often just
    /// now.
    pub(super) fn send_status(&mut self, to: NodeId, about: NodeId, peers: &Peers, out: &mut Outbox) {
        let answers = self.answers.entry(to).or_default();
        *answers = answers.saturating_add(1);
        if *answers <= ANSWERS_MAX {
            out.send_to(peers, to, Payload::About(about));
        }
    }

    // ---- questions ------------------------------------------------------------------------------

    pub(super) fn next_due(&self) -> Instant {
        self.pending.map_or(Instant::NEVER, |(at, _)| at)
    }
}

/// How the profile in a row about this node relates to the one that it publishes.
fn match_profile(me: &Member, row: &Row<'_>) -> ProfileMatch {
    if row.revision > me.revision && row.revision >= Profile::REVISION_MAX {
        return ProfileMatch::NeverOurs;
    }
    let is_later = row.revision > me.revision;
    // Revision 0 is the profile of a former process.
    let Some(details) = row.details.filter(|_| row.revision > 0) else {
        return if is_later { ProfileMatch::Unknown(row.revision) } else { ProfileMatch::Ours };
    };
    if !details.begins_like(me) {
        return ProfileMatch::NeverOurs;
    }
    let is_other = row.revision == me.revision && details.profile(row.revision) != *me.profile;
    if is_other || is_later { ProfileMatch::Unknown(row.revision) } else { ProfileMatch::Ours }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::fixture::{Fixture, header, id, just_after, ms, note};
    use crate::wire::{self, Body};

    fn incarnation(returns: u32, refutations: u32) -> Incarnation {
        let mut incarnation = Incarnation::default();
        (0..returns).for_each(|_| incarnation = incarnation.returned().unwrap());
        (0..refutations).for_each(|_| incarnation = incarnation.refuted().unwrap());
        incarnation
    }

    /// Checks how a node at life 1, refutation 1, answers a row about it.
    #[track_caller]
    fn check(status: Status, said: Incarnation, outcome: SelfOutcome, answer: Incarnation) {
        let mut node = Fixture::new(&["a"]);
        node.peers.me.incarnation = incarnation(1, 1);
        let row = note("me", status, said);
        let mut refutations = Refutations::default();
        assert_eq!(refutations.handle_row_of_self(&row, &mut node.peers, &mut node.ctx), outcome);
        assert_eq!(node.peers.me.incarnation, answer);
        assert_eq!(refutations.handle_row_of_self(&row, &mut node.peers, &mut node.ctx), SelfOutcome::Nothing, "again");
    }

    #[test]
    fn what_others_hold_is_answered_with_a_higher_number() {
        use SelfOutcome::{Nothing, WasDead};
        use Status::{Alive, Dead, Left, Suspect};
        let mine = incarnation(1, 1);
        check(Alive, mine, Nothing, mine);
        check(Alive, incarnation(1, 5), Nothing, incarnation(1, 5));
        check(Suspect, incarnation(1, 0), Nothing, mine);
        check(Suspect, mine, Nothing, incarnation(1, 2));
        check(Suspect, incarnation(1, 7), Nothing, incarnation(1, 8));
        check(Dead, incarnation(0, 9), Nothing, mine);
        check(Dead, incarnation(1, 0), WasDead, incarnation(2, 0));
        check(Left, mine, WasDead, incarnation(2, 0));
        check(Alive, incarnation(3, 0), WasDead, incarnation(4, 0));
    }

    #[test]
    fn a_later_process_of_this_name_is_asked() {
        let mut node = Fixture::new(&["a"]);
        let mut refutations = Refutations::default();
        let own = note("me", Status::Suspect, Incarnation::default());
        let me = node.peers.me.clone();
        let mut buffer = Vec::new();
        wire::encode(&mut buffer, header("a"), &Body::Gossip);
        let count_at = buffer.len() - 1;
        wire::push_rumour(&mut buffer, count_at, &me, true);
        let details = wire::decode(&buffer).unwrap().rumours.iter().next().unwrap().details;
        let mut handle = |node: &mut Fixture, generation, details| {
            let row = Row { generation: Generation(generation), details, ..own };
            refutations.handle_row_of_self(&row, &mut node.peers, &mut node.ctx)
        };
        assert_eq!(handle(&mut node, 6, details), SelfOutcome::Nothing);
        assert_eq!(handle(&mut node, 8, None), SelfOutcome::Nothing, "there is no address to ask at");
        let namesake = SelfOutcome::Namesake(Generation(8), me.address);
        assert_eq!(handle(&mut node, 8, details), namesake);
        node.at(ms(249));
        assert_eq!(handle(&mut node, 9, details), SelfOutcome::Nothing, "too soon");
        node.at(ms(250));
        assert_eq!(handle(&mut node, 8, details), namesake);
    }

    #[test]
    fn an_unknown_revision_is_answered_with_the_next_one() {
        let mut node = Fixture::new(&["a"]);
        let mut refutations = Refutations::default();
        let row = Row { revision: 5, ..note("me", Status::Alive, Incarnation::default()) };
        refutations.handle_row_of_self(&row, &mut node.peers, &mut node.ctx);
        assert_eq!(node.peers.me.revision, 6);
        let past = Row { revision: 5, ..row };
        assert_eq!(refutations.handle_row_of_self(&past, &mut node.peers, &mut node.ctx), SelfOutcome::Nothing);
        assert_eq!(node.peers.me.revision, 6);
    }

    #[test]
    fn after_the_last_revision_comes_the_next_generation() {
        let mut node = Fixture::new(&["a"]);
        let mut refutations = Refutations::default();
        let row = Row { revision: Profile::REVISION_MAX, ..note("me", Status::Alive, Incarnation::default()) };
        let generation = node.peers.me.generation;
        let outcome = refutations.handle_row_of_self(&row, &mut node.peers, &mut node.ctx);
        assert_eq!((outcome, node.peers.me.generation.0), (SelfOutcome::Renewed, generation.0 + 1));
        let again = Row { generation: node.peers.me.generation, ..row };
        node.at(Instant::from_nanos(ms(10_000).as_nanos() - 1));
        assert_eq!(refutations.handle_row_of_self(&again, &mut node.peers, &mut node.ctx), SelfOutcome::Nothing);
        node.at(ms(10_000));
        assert_eq!(refutations.handle_row_of_self(&again, &mut node.peers, &mut node.ctx), SelfOutcome::Renewed);
    }

    #[test]
    fn refutations_over_the_rate_come_an_interval_later() {
        let mut node = Fixture::new(&["a"]);
        let mut refutations = Refutations::default();
        node.at(ms(5_000));
        for _ in 0..REFUTATIONS_MAX {
            assert!(refutations.take_refutation(Extent::Note, ms(5_000), ms(1_000).since_origin()));
        }
        assert_eq!(refutations.next_due(), Instant::NEVER);
        assert!(!refutations.take_refutation(Extent::Row, ms(5_000), ms(1_000).since_origin()));
        assert!(!refutations.take_refutation(Extent::Note, ms(5_999), ms(1_000).since_origin()));
        assert_eq!(refutations.next_due(), ms(6_000));
        refutations.publish_pending(&mut node.peers, Instant::from_nanos(ms(6_000).as_nanos() - 1));
        assert!(node.peers.gossip.is_empty());
        refutations.publish_pending(&mut node.peers, ms(6_000));
        let mut picked = Vec::new();
        node.peers.gossip.pick(2, |id, extent| {
            picked.push((id, extent));
            true
        });
        assert_eq!(picked, [(id("me"), Extent::Row)], "the whole row, as the first one asked");
        assert!(refutations.take_refutation(Extent::Note, just_after(ms(6_000)), ms(1_000).since_origin()));
    }

    #[test]
    fn a_member_is_sent_a_status_so_often_in_a_slot() {
        let mut node = Fixture::new(&["a", "b"]);
        let mut refutations = Refutations::default();
        let mut send = |node: &mut Fixture| refutations.send_status(id("a"), id("b"), &node.peers, &mut node.out);
        (0..=ANSWERS_MAX).for_each(|_| send(&mut node));
        assert_eq!(node.sent().len(), ANSWERS_MAX as usize);
        refutations.begin_slot();
        refutations.send_status(id("a"), id("b"), &node.peers, &mut node.out);
        assert_eq!(node.sent().len(), 1);
    }
}
