//! `Joining`: how a node becomes a member, and how this one admits others.
//!
//! A node asks its seeds to admit it. The seed replies with a token and admits only a join that
//! echoes it. This proves the address and prevents amplification. Then the seed sends its rows, and
//! the two compare their tables ([`super::sync`]).
//!
//! The table of a node is *synced* once a node with a synced table has admitted it. A node may be
//! the first of its cluster if its own address is among its seeds, or if it has no seeds. It waits
//! two intervals for others, and then its own table is the synced one.
//!
//! Seeds that are not members are asked again from time to time, so that the parts of a cluster
//! that was divided find each other.
//!
//! A node may leave while a join is under way: a seed has its token back, and this node does not
//! know yet that it is admitted. So it withdraws the join: it sends the join again, with a row that
//! says that it has left.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{ClusterConfig, Config};
use crate::ctx::Ctx;
use crate::detection::Pause;
use crate::event::Event;
use crate::member::{Generation, Member, NodeId, ProcessId, Status, canonical};
use crate::membership::clock::{Skew, clock_in, is_more_plausible};
use crate::membership::outbox::{Outbox, Payload, RowRange};
use crate::membership::peers::Peers;
use crate::membership::quorum::Quorum;
use crate::membership::table::{Change, Refusal};
use crate::output::Output;
use crate::random::mix;
use crate::time::Instant;
use crate::wire::{self, Body, Header, Join, Refused, Rows};

/// Seeds that are names are looked up again this often.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);

/// Seeds that are not members are asked again this often, once this node is synced.
const SEEDS_EVERY: Duration = Duration::from_secs(10);

/// The longest pause between two attempts to join, and the shortest between two events about a
/// refusal.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Addresses of one seed, at most.
const ADDRESSES_MAX: usize = 16;

/// Joins under way, at most; the oldest is forgotten.
const UNDER_WAY_MAX: usize = 32;

/// The shortest time between two introductions that are followed.
const INTRODUCTION_EVERY: Duration = Duration::from_millis(20);

/// How far this node has come in joining.
#[derive(Clone, Debug)]
pub(super) struct Joining {
    seeds: Vec<Seed>,
    /// Whether another node has admitted this one.
    admitted: bool,
    /// Whether a node with a synced table has admitted this one.
    synced: bool,
    /// The node that admitted this one while it knew no other: its rows are believed until the
    /// table is synced.
    trusted: Option<NodeId>,
    /// From when on the own table is the synced one, if this node may be the first.
    bootstraps_at: Option<Instant>,
    /// Whether this node may be the first at all.
    may_bootstrap: bool,
    join_at: Instant,
    join_pause: Duration,
    resolve_at: Instant,
    introduced_at: Instant,
    /// The addresses that were sent their token and have sent no admission since, each with the
    /// token; the oldest first.
    under_way: VecDeque<(SocketAddr, u64)>,
    /// When an event last said that a member refuses to admit this node.
    refused_at: Option<Instant>,
    /// When an event last said that this node refused a row or a join.
    refusal_reported_at: Option<Instant>,
    /// What tokens are made of.
    secret: u64,
}

#[derive(Clone, Debug)]
struct Seed {
    text: Arc<str>,
    addresses: Vec<SocketAddr>,
}

/// What follows from a refusal of another member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RefusalOutcome {
    Nothing,
    /// A later process uses this name.
    Superseded(Generation),
    /// This node had bootstrapped and is not synced any more.
    Revoked,
}

impl Joining {
    /// A node that has asked no seed yet.
    pub(super) fn new(config: &Config, cluster: &ClusterConfig, me: &Member, ctx: &mut Ctx) -> Joining {
        let now = ctx.now;
        let addresses = |text: &String| text.parse().into_iter().map(canonical).collect();
        let seeds = cluster.seeds.iter().map(|text| Seed { text: text.as_str().into(), addresses: addresses(text) });
        let seeds: Vec<Seed> = seeds.collect();
        let is_own =
            |seed: &Seed| seed.addresses.contains(&me.address) || seed.addresses.contains(&canonical(cluster.listen));
        let may_bootstrap = seeds.is_empty() || seeds.iter().any(is_own);
        Joining {
            seeds,
            admitted: false,
            synced: false,
            trusted: None,
            bootstraps_at: may_bootstrap.then_some(now + config.interval * 2),
            may_bootstrap: true,
            join_at: now,
            join_pause: config.interval / 4,
            resolve_at: now,
            introduced_at: Instant::ZERO,
            under_way: VecDeque::new(),
            refused_at: None,
            refusal_reported_at: None,
            secret: ctx.random.next_u64(),
        }
    }

    // ---- asking ---------------------------------------------------------------------------------

    /// Looks up seeds and asks them, if that is due.
    pub(super) fn handle_timeout(&mut self, peers: &Peers, out: &mut Outbox, ctx: &mut Ctx) {
        if self.resolve_at <= ctx.now {
            self.resolve_at = ctx.now + RESOLVE_EVERY;
            let names = self.seeds.iter().filter(|seed| seed.text.parse::<SocketAddr>().is_err());
            names.for_each(|seed| ctx.push(Output::Resolve { seed: seed.text.clone() }));
        }
        if self.join_at <= ctx.now {
            self.ask_seeds(peers, out, ctx);
        }
    }

    /// Asks seeds that are not members to admit this node; more often until one has.
    fn ask_seeds(&mut self, peers: &Peers, out: &mut Outbox, ctx: &mut Ctx) {
        let is_in = self.synced || self.admitted && self.is_synced(ctx.now);
        let pause = match (is_in, self.admitted) {
            (true, _) => SEEDS_EVERY,
            // The node that admitted this one was not synced itself.
            (false, true) => ctx.config.interval / 2,
            (false, false) => self.join_pause,
        };
        self.join_at = ctx.now + pause.max(ctx.config.interval / 4);
        self.join_pause = (self.join_pause * 2).min(RETRY_MAX).min(ctx.config.interval * 4);
        let is_member = |address: &SocketAddr| is_in && peers.addresses().any(|member| member == *address);
        let addresses = self.seeds.iter().flat_map(|seed| &seed.addresses);
        let mut to_ask: Vec<SocketAddr> =
            addresses.filter(|address| **address != peers.me.address && !is_member(address)).copied().collect();
        if !is_in && self.admitted {
            // All seeds may have ended since they admitted this node.
            to_ask.extend(peers.table.draw(&mut ctx.random).map(|member| member.address));
        }
        to_ask.into_iter().for_each(|to| out.send(to, Payload::Join { token: 0 }));
    }

    /// Handles the addresses of a seed that is a name.
    pub(super) fn handle_resolved(
        &mut self,
        seed: &str,
        addresses: &[SocketAddr],
        me: &Member,
        interval: Duration,
        now: Instant,
    ) {
        let mut is_new = false;
        for known in self.seeds.iter_mut().filter(|known| *known.text == *seed && !addresses.is_empty()) {
            let first: Vec<SocketAddr> = addresses.iter().take(ADDRESSES_MAX).copied().map(canonical).collect();
            is_new |= known.addresses != first;
            known.addresses = first;
        }
        if !is_new || self.admitted {
            return;
        }
        self.join_at = now;
        let may_bootstrap = self.may_bootstrap && self.bootstraps_at.is_none() && self.refused_at.is_none();
        if may_bootstrap && self.is_seed(me.address) {
            self.bootstraps_at = Some(now + interval * 2);
        }
    }

    /// Publishes that a seed cannot be looked up, while this node needs it.
    pub(super) fn handle_unresolved(&mut self, seed: &str, reason: &str, ctx: &mut Ctx) {
        if !self.admitted {
            ctx.emit(Event::Unresolved { seed: seed.into(), reason: reason.into() });
        }
    }

    /// Handles the token of a node that was asked.
    pub(super) fn handle_challenge(&mut self, from: SocketAddr, token: u64, peers: &Peers, out: &mut Outbox) {
        if !self.may_have_asked(from, peers) {
            return;
        }
        if token != 0 {
            self.under_way.retain(|(address, _)| *address != from);
            if self.under_way.len() == UNDER_WAY_MAX {
                self.under_way.pop_front();
            }
            self.under_way.push_back((from, token));
        }
        out.send(from, Payload::Join { token });
    }

    /// Withdraws the joins that are under way, now that this node's own row says that it has left.
    /// Each is sent three times, since no answer comes that this node could wait for. A member
    /// receives the goodbye instead.
    pub(super) fn withdraw(&mut self, peers: &Peers, out: &mut Outbox) {
        for (to, token) in self.under_way.drain(..) {
            if !peers.addresses().any(|member| member == to) {
                (0..3).for_each(|_| out.send(to, Payload::Join { token }));
            }
        }
    }

    /// Handles that a node does not know this one: joins through it. One at a time is enough.
    pub(super) fn handle_introduction(&mut self, from: SocketAddr, peers: &Peers, out: &mut Outbox, now: Instant) {
        if now - self.introduced_at < INTRODUCTION_EVERY {
            return;
        }
        self.introduced_at = now;
        self.handle_challenge(from, 0, peers, out);
    }

    /// Handles that a member does not admit this node. Other nodes exist, so this one is not the
    /// first of its cluster.
    ///
    /// A node that has bootstrapped stays synced if others have joined it. A refusal for want of a
    /// quorum is temporary: nodes that begin a cluster together have none yet. A node that
    /// bootstrapped alone has none and runs nothing.
    pub(super) fn handle_refused(
        &mut self,
        from: SocketAddr,
        refused: Refused,
        peers: &mut Peers,
        ctx: &mut Ctx,
    ) -> RefusalOutcome {
        if !self.is_under_way(from) {
            return RefusalOutcome::Nothing;
        }
        self.under_way.retain(|(address, _)| *address != from);
        let refusal = Refusal::from_wire(refused, &peers.me);
        if self.refused_at.is_none_or(|at| ctx.now - at >= RETRY_MAX) {
            self.refused_at = Some(ctx.now);
            let unknown = || format!("for a reason that this release does not know ({})", refused.reason);
            let reason = refusal.as_ref().map_or_else(unknown, Refusal::to_string);
            ctx.emit(Event::RefusedBy { address: from, reason: reason.into() });
        }
        peers.contact.handle_refusal(ctx.now);
        if let Some(Refusal::Superseded(generation)) = refusal
            && generation > peers.me.generation
        {
            return RefusalOutcome::Superseded(generation);
        }
        let was_synced = self.is_synced(ctx.now);
        let is_temporary = refusal == Some(Refusal::NoQuorum);
        if !is_temporary && (!was_synced || peers.table.others().is_empty()) {
            self.bootstraps_at = None;
        }
        if was_synced && !self.is_synced(ctx.now) { RefusalOutcome::Revoked } else { RefusalOutcome::Nothing }
    }

    /// Handles that a node has admitted this one, with rows of its table.
    pub(super) fn handle_admission(
        &mut self,
        rows: Rows,
        header: Header,
        peers: &mut Peers,
        out: &mut Outbox,
        ctx: &mut Ctx,
    ) -> bool {
        let was_synced = self.is_synced(ctx.now);
        if rows.whole && !was_synced {
            let skew_max = ctx.config.membership.clock_skew_max;
            if let Some(Skew { ahead, behind }) = out.clock.synchronize(clock_in(header), ctx.now, skew_max) {
                ctx.emit(Event::ClockSkewed { node: peers.me.name.clone(), ahead, behind });
            }
        }
        out.clock.follow(clock_in(header), ctx.now);
        self.admitted = true;
        self.synced |= rows.whole && !rows.more;
        let admitted_by = peers.address(header.from);
        self.under_way.retain(|(address, _)| Some(*address) != admitted_by);
        if peers.observers.slots().is_empty() {
            peers.contact.handle_answer(ctx);
        }
        self.is_synced(ctx.now) && !was_synced
    }

    /// Believes the rows of a node that admits this one, until this node's table is synced.
    pub(super) fn trust(&mut self, teller: NodeId, now: Instant) {
        if !self.admitted && !self.is_synced(now) {
            self.trusted = Some(teller);
        }
    }

    /// Calls the table synced: its rows are known from elsewhere.
    pub(super) fn preload(&mut self) {
        self.admitted = true;
        self.synced = true;
    }

    /// Takes a pause of this node out of the time for which it waits before it is the first.
    pub(super) fn discount_pause(&mut self, pause: Pause) {
        if let Some(at) = &mut self.bootstraps_at {
            *at = pause.discount(*at, Duration::ZERO);
        }
    }

    // ---- admitting ------------------------------------------------------------------------------

    /// Handles a node that asks to become a member, or that withdraws its join. Returns its row if
    /// it has proven its address and the row is its own; else it is sent a token. The status in the
    /// row is `Left` if it withdraws, else `Alive`.
    pub(super) fn handle_join<'a>(
        &mut self,
        from: SocketAddr,
        header: Header,
        join: &Join<'a>,
        peers: &Peers,
        out: &mut Outbox,
        ctx: &mut Ctx,
    ) -> Option<wire::Row<'a>> {
        let token = self.token(from, header.sender());
        if join.token != token {
            out.answer(from, header.sender(), Payload::Body(Body::Challenge { token }));
            return None;
        }
        if let Some(details) = join.row.details
            && details.address != from
        {
            self.refuse(from, header.sender(), &Refusal::AddressOfAnother(details.address), out, ctx);
            return None;
        }
        self.compare_clocks(header, peers, out, ctx);
        let status = match join.row.status {
            Status::Alive | Status::Suspect | Status::Dead => Status::Alive,
            Status::Left => Status::Left,
        };
        let row = wire::Row { status, generation: header.generation, ..join.row };
        (row.id == header.from).then_some(row)
    }

    /// Puts the row of a node into the table. Returns the change, if it was one; none at all if the
    /// node was refused, and told why.
    pub(super) fn admit(
        &mut self,
        from: SocketAddr,
        row: &wire::Row<'_>,
        quorum: Option<&Quorum>,
        peers: &mut Peers,
        out: &mut Outbox,
        ctx: &mut Ctx,
    ) -> Option<Option<Change>> {
        let may_admit = quorum.is_none_or(|quorum| quorum.may_admit(row.id, &peers.table));
        let admitted = match may_admit {
            true => peers.table.admit(ctx.now, row, &ctx.config.membership),
            false => Err(Refusal::NoQuorum),
        };
        match admitted {
            Ok(change) => Some(change),
            Err(refusal) => {
                let sender = ProcessId { node: row.id, generation: row.generation };
                if matches!(refusal, Refusal::Superseded(_)) {
                    out.answer(from, sender, Payload::About(row.id));
                }
                self.refuse(from, sender, &refusal, out, ctx);
                None
            }
        }
    }

    /// Tells a node why it is not admitted, and publishes that.
    fn refuse(&mut self, from: SocketAddr, sender: ProcessId, refusal: &Refusal, out: &mut Outbox, ctx: &mut Ctx) {
        out.answer(from, sender, Payload::Body(Body::Refused(refusal.to_wire())));
        self.report_refusal(refusal, from, ctx);
    }

    /// Answers a node that was admitted: with its own row if it has yet to learn of its death, and
    /// with all rows.
    pub(super) fn welcome(&self, from: SocketAddr, sender: ProcessId, peers: &Peers, out: &mut Outbox) {
        if peers.table.member(sender.node).is_some_and(|member| !member.status.is_member()) {
            out.answer(from, sender, Payload::About(sender.node));
        }
        out.answer(from, sender, Payload::RowRange(RowRange::admission()));
    }

    /// Publishes that a row was refused, once an interval.
    pub(super) fn report_refusal(&mut self, refusal: &Refusal, address: SocketAddr, ctx: &mut Ctx) {
        if self.refusal_reported_at.is_none_or(|at| ctx.now - at >= ctx.config.interval) {
            self.refusal_reported_at = Some(ctx.now);
            ctx.emit(Event::JoinRefused { address, reason: refusal.to_string().into() });
        }
    }

    /// Compares the wall clock of a node that asks to be admitted with this node's. If this node
    /// may be the first and its clock is the less plausible one, it does not bootstrap.
    fn compare_clocks(&mut self, header: Header, peers: &Peers, out: &Outbox, ctx: &mut Ctx) {
        if self.is_synced(ctx.now) {
            return;
        }
        let (ours, theirs) = (out.clock.own(ctx.now), clock_in(header));
        let skew = Skew::between(ours, theirs, ctx.config.membership.clock_skew_max);
        if let Some(Skew { ahead, behind }) = skew.filter(|_| is_more_plausible(theirs, ours))
            && self.stop_bootstrap()
        {
            ctx.emit(Event::ClockSkewed { node: peers.me.name.clone(), ahead, behind });
        }
    }

    /// Does not bootstrap, but waits to be admitted. Returns whether that is new.
    fn stop_bootstrap(&mut self) -> bool {
        self.may_bootstrap = false;
        self.bootstraps_at.take().is_some()
    }

    /// Publishes that the clock of a node that was just admitted is far from this node's. The
    /// newcomer goes on from this node's clock.
    pub(super) fn report_skew(&self, name: &str, header: Header, out: &Outbox, ctx: &mut Ctx) {
        if !self.is_synced(ctx.now) {
            return;
        }
        let ours = out.clock.at(ctx.now, true);
        let skew = Skew::between(clock_in(header), ours, ctx.config.membership.clock_skew_max);
        if let Some(Skew { ahead, behind }) = skew {
            ctx.emit(Event::ClockSkewed { node: name.into(), ahead, behind });
        }
    }

    // ---- questions ------------------------------------------------------------------------------

    pub(super) fn next_due(&self) -> Instant {
        self.join_at.min(self.resolve_at)
    }

    /// Whether this node's table holds all members.
    pub(super) fn is_synced(&self, now: Instant) -> bool {
        self.synced || self.bootstraps_at.is_some_and(|at| now >= at)
    }

    /// Whether this node waits for another to admit it.
    pub(super) fn is_waiting(&self) -> bool {
        !self.admitted && self.bootstraps_at.is_none()
    }

    /// Whether rows of this node about others are believed unproven.
    pub(super) fn trusts(&self, teller: NodeId, now: Instant) -> bool {
        !self.is_synced(now) && self.trusted == Some(teller)
    }

    /// The seeds in words.
    pub(super) fn seeds(&self) -> String {
        self.seeds.iter().map(|seed| &*seed.text).collect::<Vec<_>>().join(", ")
    }

    /// Whether a seed has this address.
    pub(super) fn is_seed(&self, address: SocketAddr) -> bool {
        self.seeds.iter().any(|seed| seed.addresses.contains(&address))
    }

    /// Whether an address is a seed's or a member's. An answer from another address could make this
    /// node send to any address, or keep it from bootstrapping.
    pub(super) fn may_have_asked(&self, address: SocketAddr, peers: &Peers) -> bool {
        self.is_seed(address) || peers.addresses().any(|member| member == address)
    }

    /// Whether a join went to this address, with its token, and was not answered yet.
    pub(super) fn is_under_way(&self, address: SocketAddr) -> bool {
        self.under_way.iter().any(|(to, _)| *to == address)
    }

    /// What a process has to return from this address, so that it is known to receive there.
    pub(super) fn token(&self, address: SocketAddr, process: ProcessId) -> u64 {
        let octets: u64 = match address.ip() {
            IpAddr::V4(ip) => u64::from(u32::from(ip)),
            IpAddr::V6(ip) => mix((u128::from(ip) >> 64) as u64) ^ u128::from(ip) as u64,
        };
        let key = mix(self.secret ^ mix(octets << 16 | u64::from(address.port())));
        mix(key ^ mix(process.node.0 ^ process.generation.0)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::fixture::{Fixture, address, header, id, just_after, ms};

    /// A node whose own address is among its seeds.
    fn founder(others: &[&str]) -> (Fixture, Joining) {
        let mut node = Fixture::with(others, &["me", "seed"], "");
        let joining = node.joining();
        (node, joining)
    }

    #[test]
    fn a_join_under_way_is_withdrawn_unless_a_member_has_it() {
        let mut node = Fixture::with(&["a"], &["seed"], "");
        let mut joining = node.joining();
        joining.handle_challenge(address("seed"), 5, &node.peers, &mut node.out);
        joining.handle_challenge(address("a"), 6, &node.peers, &mut node.out);
        joining.handle_challenge(address("seed"), 7, &node.peers, &mut node.out);
        joining.handle_challenge(address("stranger"), 8, &node.peers, &mut node.out);
        node.sent();
        joining.withdraw(&node.peers, &mut node.out);
        assert_eq!(node.sent(), vec![(address("seed"), Payload::Join { token: 7 }); 3]);
        joining.withdraw(&node.peers, &mut node.out);
        assert_eq!(node.sent(), [], "once");
    }

    #[test]
    fn an_admission_ends_the_join_though_its_sender_dies_later() {
        let mut node = Fixture::with(&["a"], &["seed"], "");
        let mut joining = node.joining();
        joining.handle_challenge(address("a"), 5, &node.peers, &mut node.out);
        node.sent();
        let rows = Rows { differing: 0, more: false, welcome: true, whole: true };
        joining.handle_admission(rows, header("a"), &mut node.peers, &mut node.out, &mut node.ctx);
        node.peers.table.set_status(ms(0), id("a"), Status::Dead);
        joining.withdraw(&node.peers, &mut node.out);
        assert_eq!(node.sent(), []);
    }

    #[test]
    fn a_join_is_under_way_from_its_token_on() {
        let mut node = Fixture::with(&[], &["seed"], "");
        let mut joining = node.joining();
        joining.handle_timeout(&node.peers, &mut node.out, &mut node.ctx);
        joining.handle_introduction(address("seed"), &node.peers, &mut node.out, ms(100));
        assert_eq!(node.sent().len(), 2);
        joining.withdraw(&node.peers, &mut node.out);
        assert_eq!(node.sent(), [], "without a token no seed has admitted it");
    }

    #[test]
    fn of_many_joins_under_way_the_oldest_is_forgotten() {
        let seeds: Vec<String> = (0..=UNDER_WAY_MAX).map(|index| format!("{index:02}")).collect();
        let mut node = Fixture::with(&[], &seeds.iter().map(String::as_str).collect::<Vec<_>>(), "");
        let mut joining = node.joining();
        for seed in &seeds {
            joining.handle_challenge(address(seed), 1, &node.peers, &mut node.out);
        }
        node.sent();
        joining.withdraw(&node.peers, &mut node.out);
        let mut asked: Vec<SocketAddr> = node.sent().into_iter().map(|(to, _)| to).collect();
        asked.dedup();
        assert_eq!(asked, seeds[1..].iter().map(|seed| address(seed)).collect::<Vec<_>>());
    }

    fn row_of(member: &Member) -> Vec<u8> {
        let mut buffer = Vec::new();
        wire::encode_join(&mut buffer, Header { from: member.id, ..header("new") }, 0, member);
        buffer
    }

    /// Sends a join with this token. Returns whether the row was accepted, and the challenges.
    fn join(node: &mut Fixture, joining: &mut Joining, from: SocketAddr, token: u64) -> (bool, Vec<u64>) {
        let bytes = row_of(&crate::membership::fixture::member("new"));
        let datagram = wire::decode(&bytes).unwrap();
        let Body::Join(join) = &datagram.body else { panic!("{datagram:?}") };
        let join = Join { token, ..*join };
        let accepted = joining.handle_join(from, datagram.header, &join, &node.peers, &mut node.out, &mut node.ctx);
        let challenge = |(_, body)| match body {
            Body::Challenge { token } => token,
            other => panic!("{other:?}"),
        };
        (accepted.is_some(), node.bodies().into_iter().map(challenge).collect())
    }

    #[test]
    fn only_a_join_that_echoes_its_token_is_accepted() {
        let (mut node, mut joining) = founder(&[]);
        let (accepted, tokens) = join(&mut node, &mut joining, address("new"), 0);
        assert!(!accepted && tokens.len() == 1 && tokens[0] != 0);
        assert_eq!(join(&mut node, &mut joining, address("new"), tokens[0]), (true, vec![]));
        let (accepted, others) = join(&mut node, &mut joining, address("x"), tokens[0]);
        assert!(!accepted && others != tokens, "the token of another address");
    }

    #[test]
    fn a_founder_is_synced_after_two_intervals() {
        let (_, joining) = founder(&[]);
        assert!(!joining.is_waiting());
        assert!(!joining.is_synced(Instant::from_nanos(ms(2_000).as_nanos() - 1)));
        assert!(joining.is_synced(ms(2_000)));
    }

    #[test]
    fn a_node_with_other_seeds_waits_to_be_admitted() {
        let mut node = Fixture::with(&[], &["seed"], "");
        let joining = node.joining();
        assert!(joining.is_waiting() && !joining.is_synced(ms(3_600_000)));
        let mut alone = Fixture::with(&[], &[], "");
        assert!(!alone.joining().is_waiting(), "without seeds it may be the first");
    }

    #[test]
    fn a_pause_does_not_count_towards_the_wait_of_a_founder() {
        let (_, mut joining) = founder(&[]);
        joining.discount_pause(Pause { from: ms(1_000), to: ms(9_000) });
        assert!(!joining.is_synced(Instant::from_nanos(ms(10_000).as_nanos() - 1)));
        assert!(joining.is_synced(ms(10_000)));
    }

    #[test]
    fn seeds_are_asked_less_and_less_often() {
        let mut node = Fixture::with(&[], &["seed"], "");
        let mut joining = node.joining();
        let mut asked = Vec::new();
        for millis in 0..10_000 {
            node.at(ms(millis));
            joining.handle_timeout(&node.peers, &mut node.out, &mut node.ctx);
            asked.extend(node.sent().into_iter().map(|(to, _)| (to, millis)));
        }
        let at = |millis| (address("seed"), millis);
        assert_eq!(asked, [0, 250, 750, 1_750, 3_750, 7_750].map(at));
    }

    #[test]
    fn one_introduction_in_20_ms_is_followed() {
        let mut node = Fixture::with(&["a"], &["seed"], "");
        let mut joining = node.joining();
        for (at, expected) in [(ms(100), 1), (ms(119), 0), (ms(120), 1)] {
            joining.handle_introduction(address("a"), &node.peers, &mut node.out, at);
            assert_eq!(node.sent().len(), expected, "at {at:?}");
        }
        joining.handle_introduction(address("stranger"), &node.peers, &mut node.out, ms(500));
        assert_eq!(node.sent(), [], "from no seed and no member");
    }

    /// Checks what a refusal makes of a founder that is synced.
    #[track_caller]
    fn check_refusal(others: &[&str], refusal: &Refusal, expected: RefusalOutcome) {
        let (mut node, mut joining) = founder(others);
        node.at(ms(2_000));
        let refused = refusal.to_wire();
        assert_eq!(
            joining.handle_refused(address("x"), refused, &mut node.peers, &mut node.ctx),
            RefusalOutcome::Nothing
        );
        assert_eq!(node.events(), [], "no join is under way to it");
        joining.handle_challenge(address("seed"), 5, &node.peers, &mut node.out);
        assert_eq!(joining.handle_refused(address("seed"), refused, &mut node.peers, &mut node.ctx), expected);
        assert!(matches!(node.events()[..], [Event::RefusedBy { .. }]));
        joining.handle_challenge(address("seed"), 5, &node.peers, &mut node.out);
        joining.handle_refused(address("seed"), refused, &mut node.peers, &mut node.ctx);
        assert_eq!(node.events(), [], "it is published once in ten seconds");
    }

    #[test]
    fn a_refused_founder_goes_on_only_with_others() {
        check_refusal(&[], &Refusal::Full(4), RefusalOutcome::Revoked);
        check_refusal(&["a"], &Refusal::Full(4), RefusalOutcome::Nothing);
        check_refusal(&[], &Refusal::NoQuorum, RefusalOutcome::Nothing);
        let later = Generation(8);
        check_refusal(&["a"], &Refusal::Superseded(later), RefusalOutcome::Superseded(later));
        check_refusal(&["a"], &Refusal::Superseded(Generation(7)), RefusalOutcome::Nothing);
    }

    #[test]
    fn the_first_admission_by_a_synced_node_syncs() {
        let mut node = Fixture::with(&[], &["seed"], "");
        let mut joining = node.joining();
        let mut admit = |node: &mut Fixture, whole, more| {
            let rows = Rows { differing: 0, more, welcome: true, whole };
            joining.handle_admission(rows, header("seed"), &mut node.peers, &mut node.out, &mut node.ctx)
        };
        assert!(!admit(&mut node, false, false), "by a node that is not synced");
        assert!(!admit(&mut node, true, true), "before all rows have come");
        assert!(admit(&mut node, true, false));
        assert!(!admit(&mut node, true, false), "again");
    }

    #[test]
    fn rows_of_the_admitting_node_are_trusted_until_synced() {
        let mut node = Fixture::with(&[], &["seed"], "");
        let mut joining = node.joining();
        joining.trust(id("seed"), ms(0));
        assert!(joining.trusts(id("seed"), ms(0)) && !joining.trusts(id("a"), ms(0)));
        joining.preload();
        assert!(!joining.trusts(id("seed"), ms(0)));
    }

    #[test]
    fn refusals_are_reported_once_an_interval() {
        let (mut node, mut joining) = founder(&[]);
        for (at, expected) in [(ms(0), 1), (ms(999), 0), (ms(1_000), 1), (just_after(ms(1_000)), 0)] {
            node.at(at);
            joining.report_refusal(&Refusal::HasLeft, address("x"), &mut node.ctx);
            assert_eq!(node.events().len(), expected, "at {at:?}");
        }
    }
}
