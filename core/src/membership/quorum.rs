//! `Quorum`: whether enough members answer this node, and until when that lets it own shards.
//!
//! Each node polls all others, three times in a lease. A node votes for a sender that is a member
//! in its own table. This node may own shards while more than half of the members have answered a
//! poll that was *sent* within the lease. When that is over, it has given them up without having to
//! receive anything. Two sides of a partition cannot both have more than half of the same members.
//!
//! A new owner waits one lease after it learns of a death. Members that know of the death no longer
//! vote for the dead node, so its last lease has expired by then.
//!
//! The view says which members count: those alive, those suspect, and the dead until a lease after
//! their death, if there was a quorum all the while. Without a quorum a node declares no other dead
//! for silence, and it admits none. So a minority cannot become a majority by declaring the others
//! dead or by admitting new nodes.
//!
//! What this does not do: agree on the view. If a second partition follows before the first has
//! healed, the two sides may count different members. `ownership.quorum_min` over half of the nodes
//! that are deployed prevents that, since no two sides can be as large.
//!
//! Source: C. Gray and D. Cheriton, "Leases: An efficient fault-tolerant mechanism for distributed
//! file cache consistency", SOSP 1989; the waits follow from its section 2.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::config::{Config, QuorumRule};
use crate::ctx::Ctx;
use crate::event::Event;
use crate::lease::valid_for;
use crate::member::NodeId;
use crate::membership::outbox::{Outbox, Payload};
use crate::membership::peers::Peers;
use crate::membership::table::MemberTable;
use crate::time::Instant;
use crate::wire::Body;

/// Polls in a lease.
const POLLS: u32 = 3;

/// Rounds of which a late vote still counts.
const ROUNDS_MAX: usize = 2 * POLLS as usize;

/// The votes that let this node own shards.
#[derive(Clone, Debug)]
pub(super) struct Quorum {
    lease: Duration,
    /// Fewest members that must answer, this node included.
    members_min: usize,
    poll_at: Instant,
    /// The newest polls: number, and when they were sent.
    rounds: VecDeque<(u32, Instant)>,
    /// By member: when the newest poll was sent that it answered.
    answered: BTreeMap<NodeId, Instant>,
    /// The dead that still count, and until when.
    dead: BTreeMap<NodeId, Instant>,
    /// When the quorum ends if it is not renewed.
    until: Instant,
    held: bool,
    /// No shard is started before.
    starts_at: Option<Instant>,
}

impl Quorum {
    /// None where the config asks for none.
    pub(super) fn new(config: &Config, now: Instant) -> Option<Quorum> {
        let ownership = &config.ownership;
        (ownership.quorum == QuorumRule::Majority).then(|| Quorum {
            lease: ownership.lease,
            members_min: ownership.quorum_min as usize,
            poll_at: now,
            rounds: VecDeque::new(),
            answered: BTreeMap::new(),
            dead: BTreeMap::new(),
            until: Instant::ZERO,
            held: false,
            starts_at: None,
        })
    }

    // ---- inputs ---------------------------------------------------------------------------------

    /// Ends the quorum if its time is over. Returns whether it ended now. To be called before any
    /// input is handled: after a pause the quorum has ended, even if votes wait in the socket.
    pub(super) fn expire(&mut self, table: &MemberTable, ctx: &mut Ctx) -> bool {
        if !self.held || self.until > ctx.now {
            return false;
        }
        self.held = false;
        let (reached, members) = (self.reached(table, ctx.now) as u32, self.voters(table) as u32);
        ctx.emit(Event::QuorumLost { reached, members });
        true
    }

    /// Polls the others if that is due, and drops the waits that are over.
    pub(super) fn handle_timeout(&mut self, peers: &Peers, out: &mut Outbox, now: Instant) {
        self.starts_at.take_if(|at| *at <= now);
        if self.held {
            self.dead.retain(|_, until| *until > now);
        }
        if self.poll_at > now {
            return;
        }
        self.poll_at = now + self.lease / POLLS;
        self.answered.retain(|id, sent| *sent + self.lease > now && peers.table.member(*id).is_some());
        let number = out.next_number();
        self.rounds.push_back((number, now));
        if self.rounds.len() > ROUNDS_MAX {
            self.rounds.pop_front();
        }
        let others = peers.table.others().iter();
        others.for_each(|&id| out.send_to(peers, id, Payload::Body(Body::Poll { number })));
    }

    /// Handles the answer of a member to a poll. Returns whether the quorum begins with it.
    pub(super) fn handle_vote(&mut self, from: NodeId, number: u32, table: &MemberTable, ctx: &mut Ctx) -> bool {
        let Some(&(_, sent)) = self.rounds.iter().find(|(round, _)| *round == number) else { return false };
        let newest = self.answered.entry(from).or_insert(sent);
        *newest = sent.max(*newest);
        let begins = self.renew(table, ctx.now);
        if begins {
            let (reached, members) = (self.reached(table, ctx.now) as u32, self.voters(table) as u32);
            ctx.emit(Event::QuorumGained { reached, members });
        }
        begins
    }

    /// Starts no shard for one lease from now on.
    pub(super) fn delay_starts(&mut self, now: Instant) {
        self.starts_at = self.starts_at.max(Some(now + self.lease));
    }

    /// Handles that a member was declared dead.
    pub(super) fn handle_death(&mut self, id: NodeId, now: Instant) {
        self.dead.insert(id, now + self.lease);
        self.delay_starts(now);
    }

    /// Handles that a node is a member again, or has left.
    pub(super) fn handle_return(&mut self, id: NodeId) {
        self.dead.remove(&id);
    }

    /// Extends the quorum by what has been answered. Returns whether it begins.
    fn renew(&mut self, table: &MemberTable, now: Instant) -> bool {
        let needed = (self.voters(table) / 2 + 1).max(self.members_min);
        let mut answered: Vec<Instant> = self.polls_answered(table).collect();
        answered.sort_unstable_by(|a, b| b.cmp(a));
        let Some(&oldest) = answered.get(needed - 1) else { return false };
        self.until = self.until.max(oldest + valid_for(self.lease));
        let begins = !self.held && self.until > now;
        if begins {
            self.held = true;
            self.delay_starts(now);
            for until in self.dead.values_mut() {
                *until = now + self.lease;
            }
        }
        begins
    }

    // ---- questions ------------------------------------------------------------------------------

    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Until when this node may own shards; the origin of time if it may not.
    pub(super) fn until(&self) -> Instant {
        if self.held { self.until } else { Instant::ZERO }
    }

    /// Whether shards may be started now.
    pub(super) fn may_start(&self) -> bool {
        self.held && self.starts_at.is_none()
    }

    /// Whether a node may be admitted: it counts already, or there is a quorum, or the members are
    /// too few for one.
    pub(super) fn may_admit(&self, id: NodeId, table: &MemberTable) -> bool {
        let is_member = table.member(id).is_some_and(|member| member.status.is_member());
        self.held || is_member || self.dead.contains_key(&id) || self.voters(table) < self.members_min
    }

    pub(super) fn next_due(&self) -> Instant {
        let ends = self.held.then_some(self.until);
        let forgets = self.held.then(|| self.dead.values().min().copied()).flatten();
        [Some(self.poll_at), ends, self.starts_at, forgets].into_iter().flatten().min().unwrap_or(Instant::NEVER)
    }

    /// How many members count.
    fn voters(&self, table: &MemberTable) -> usize {
        table.others().len() + 1 + self.dead.len()
    }

    /// How many of them, this node included, answered a poll that is still valid.
    fn reached(&self, table: &MemberTable, now: Instant) -> usize {
        self.polls_answered(table).filter(|sent| *sent + valid_for(self.lease) > now).count()
    }

    /// For this node and each member: when the newest poll was sent that it answered.
    fn polls_answered(&self, table: &MemberTable) -> impl Iterator<Item = Instant> {
        let others = table.others().iter().filter_map(|id| self.answered.get(id)).copied();
        others.chain(self.rounds.back().map(|(_, sent)| *sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::fixture::{Fixture, id, ms};

    /// The quorum of `me` among these, with a lease of 2 s, which is valid for 1.8 s.
    fn start(others: &[&str]) -> (Fixture, Quorum) {
        let node = Fixture::with(others, &["seed"], "[ownership]\nquorum = 'majority'\nquorum_min = 2\nlease = '2s'");
        let quorum = Quorum::new(&node.ctx.config, ms(0)).unwrap();
        (node, quorum)
    }

    /// Polls at `now`. Returns the number of the poll.
    fn poll(node: &mut Fixture, quorum: &mut Quorum, now: Instant) -> u32 {
        node.at(now);
        quorum.handle_timeout(&node.peers, &mut node.out, now);
        match node.bodies()[..] {
            [(_, Body::Poll { number }), ..] => number,
            ref other => panic!("{other:?}"),
        }
    }

    fn vote(node: &mut Fixture, quorum: &mut Quorum, from: &str, number: u32) -> bool {
        quorum.handle_vote(id(from), number, &node.peers.table, &mut node.ctx)
    }

    #[test]
    fn more_than_half_have_to_answer() {
        let (mut node, mut quorum) = start(&["a", "b", "c"]);
        let number = poll(&mut node, &mut quorum, ms(0));
        assert!(!vote(&mut node, &mut quorum, "a", number), "two of four");
        assert!(!vote(&mut node, &mut quorum, "a", number), "a duplicate");
        assert!(!vote(&mut node, &mut quorum, "b", number.wrapping_add(1)), "of no poll");
        assert!(!vote(&mut node, &mut quorum, "stranger", number), "of no member");
        assert!(vote(&mut node, &mut quorum, "b", number));
        assert_eq!(node.events(), [Event::QuorumGained { reached: 3, members: 4 }]);
        assert!(!vote(&mut node, &mut quorum, "c", number), "it is held already");
    }

    #[test]
    fn a_quorum_ends_with_the_poll_that_it_rests_on() {
        let (mut node, mut quorum) = start(&["a", "b"]);
        let number = poll(&mut node, &mut quorum, ms(0));
        node.at(ms(500));
        assert!(vote(&mut node, &mut quorum, "a", number));
        assert_eq!(quorum.until(), ms(1_800), "counted from the poll, not from the vote");
        node.at(Instant::from_nanos(ms(1_800).as_nanos() - 1));
        assert!(!quorum.expire(&node.peers.table, &mut node.ctx));
        node.at(ms(1_800));
        assert!(quorum.expire(&node.peers.table, &mut node.ctx));
        assert!(!quorum.is_held() && !quorum.may_start());
        assert_eq!(quorum.until(), Instant::ZERO);
        assert!(!quorum.expire(&node.peers.table, &mut node.ctx), "it ends once");
    }

    #[test]
    fn no_shard_is_started_for_a_lease_after_a_death() {
        let (mut node, mut quorum) = start(&["a", "b"]);
        let number = poll(&mut node, &mut quorum, ms(0));
        vote(&mut node, &mut quorum, "a", number);
        assert!(!quorum.may_start(), "nor after the quorum begins");
        for second in 1..=3 {
            let number = poll(&mut node, &mut quorum, ms(second * 700));
            vote(&mut node, &mut quorum, "a", number);
        }
        assert!(quorum.may_start());
        quorum.handle_death(id("b"), ms(2_100));
        assert!(!quorum.may_start());
        quorum.handle_timeout(&node.peers, &mut node.out, Instant::from_nanos(ms(4_100).as_nanos() - 1));
        assert!(!quorum.may_start());
        quorum.handle_timeout(&node.peers, &mut node.out, ms(4_100));
        assert!(quorum.may_start());
    }

    #[test]
    fn the_dead_count_for_a_lease() {
        let (mut node, mut quorum) = start(&["a", "b"]);
        quorum.handle_death(id("c"), ms(0));
        quorum.handle_death(id("d"), ms(0));
        let number = poll(&mut node, &mut quorum, ms(0));
        assert!(!vote(&mut node, &mut quorum, "a", number), "two of five");
        quorum.handle_return(id("d"));
        quorum.handle_return(id("d"));
        assert!(!vote(&mut node, &mut quorum, "a", number), "two of four");
        assert!(vote(&mut node, &mut quorum, "b", number));
    }

    #[test]
    fn without_a_quorum_no_new_node_is_admitted() {
        let (node, mut quorum) = start(&["a"]);
        assert!(!quorum.may_admit(id("new"), &node.peers.table));
        assert!(quorum.may_admit(id("a"), &node.peers.table), "it is a member");
        quorum.handle_death(id("new"), ms(0));
        assert!(quorum.may_admit(id("new"), &node.peers.table), "it counts already");
        let (alone, quorum) = start(&[]);
        assert!(quorum.may_admit(id("new"), &alone.peers.table), "one member is too few for a quorum");
    }

    #[test]
    fn late_votes_count_for_six_rounds() {
        let (mut node, mut quorum) = start(&["a", "b"]);
        let first = poll(&mut node, &mut quorum, ms(0));
        for round in 1..6 {
            poll(&mut node, &mut quorum, ms(round * 667));
        }
        assert!(quorum.rounds.iter().any(|(number, _)| *number == first));
        poll(&mut node, &mut quorum, ms(6 * 667));
        assert!(!quorum.rounds.iter().any(|(number, _)| *number == first));
    }
}
