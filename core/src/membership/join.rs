//! Coming in, and staying of one mind: seeds, admission, and the comparing of tables.
//!
//! A node asks its seeds to be let in. Whoever is asked sends a token first, which must come back:
//! so nobody is told more than he has told before he is known to receive at the address he gives.
//! Then both compare their tables, as any two members do from time to time: digests there, what
//! differs back, and what the other lacks back again. What does not fit one datagram goes over a
//! stream, or in the next comparing if there is no stream.
//!
//! The table of a node is *whole* once one with a whole table has let it in. A node whose own
//! address is among its seeds, or that has none, may be the first of all: it waits two intervals
//! for others, and then its table is whole by itself.
//!
//! Nobody stops looking for others: seeds that are not members are asked again, members drawn at
//! random are compared with, which also finds those who died with all their observers, and the dead
//! are probed for a while, so that the two sides of a partition find each other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, Outgoing, OwnershipEffect, Payload, Source, may_observe};
use crate::config::{ClusterConfig, Config};
use crate::ctx::Ctx;
use crate::detection::Pause;
use crate::event::Event;
use crate::member::{Member, NodeId, Status, canonical};
use crate::membership::table::Refusal;
use crate::output::{Output, StreamId};
use crate::random::mix;
use crate::time::Instant;
use crate::wire::{self, BUCKETS, Body, Datagram, Digests, Header, Join, Refused, Rows};

/// Seeds that are names are looked up again this often.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);

/// Seeds that are no members are asked again this often, once we are one.
const SEEDS_EVERY: Duration = Duration::from_secs(10);

/// The longest pause between two attempts to come in.
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Addresses of one seed at most.
const ADDRESSES_MAX: usize = 16;

/// How many intervals pass between two comparings of ours.
const COMPARE_EVERY: u32 = 10;

/// How many intervals pass between two looks at a member drawn at random, and at one of the dead.
const LOOK_EVERY: u32 = 4;

/// The state of coming in.
#[derive(Clone, Debug)]
pub(super) struct Joining {
    seeds: Vec<Seed>,
    /// Whether others were found who let us in.
    admitted: bool,
    /// Whether our table is whole because one with a whole table let us in.
    whole: bool,
    /// Which node let us in while we knew of nothing: it is believed until our table is whole.
    trusted: Option<NodeId>,
    /// If we may be the first: since when our table is whole by itself.
    founded: Option<Instant>,
    /// Whether we may be the first at all.
    may_found: bool,
    join_at: Instant,
    join_pause: Duration,
    resolve_at: Instant,
    compare_at: Instant,
    look_at: Instant,
    /// The one looked at, and by when it should have answered; the second time it is watched.
    looked_at: Option<(NodeId, Instant, bool)>,
    introduced_at: Instant,
    /// When it was last told that a member does not let us in.
    refused_at: Option<Instant>,
    complained_at: Option<Instant>,
    /// What tokens are made of.
    secret: u64,
}

#[derive(Clone, Debug)]
struct Seed {
    text: Arc<str>,
    addresses: Vec<SocketAddr>,
}

/// Rows of these parts of the table, from this id on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Pages {
    pub(super) differing: u64,
    pub(super) from: NodeId,
    pub(super) welcome: bool,
}

impl Joining {
    pub(super) fn new(config: &Config, cluster: &ClusterConfig, me: &Member, ctx: &mut Ctx) -> Joining {
        let now = ctx.now;
        let seeds: Vec<Seed> = cluster
            .seeds
            .iter()
            .map(|text| Seed {
                text: text.as_str().into(),
                addresses: text.parse().into_iter().map(canonical).collect(),
            })
            .collect();
        let is_own =
            |seed: &Seed| seed.addresses.contains(&me.address) || seed.addresses.contains(&canonical(cluster.listen));
        let may_found = seeds.is_empty() || seeds.iter().any(is_own);
        // Spread, so that nodes started together do not all compare together.
        let compare_at = now + ctx.random.duration_below(config.interval * COMPARE_EVERY);
        let look_at = now + ctx.random.duration_below(config.interval * LOOK_EVERY);
        Joining {
            seeds,
            admitted: false,
            whole: false,
            trusted: None,
            founded: may_found.then_some(now + config.interval * 2),
            may_found: true,
            join_at: now,
            join_pause: config.interval / 4,
            resolve_at: now,
            compare_at,
            look_at,
            looked_at: None,
            introduced_at: Instant::ZERO,
            refused_at: None,
            complained_at: None,
            secret: ctx.random.next_u64(),
        }
    }

    pub(super) fn is_whole(&self, now: Instant) -> bool {
        self.whole || self.founded.is_some_and(|at| now >= at)
    }

    /// Whether what this node tells of third parties is believed without asking them.
    pub(super) fn trusts(&self, teller: NodeId) -> bool {
        !self.whole && self.trusted == Some(teller)
    }

    /// A node lets us in: until our table is whole it knows better than we do.
    fn trust(&mut self, teller: NodeId, now: Instant) {
        if !self.admitted && !self.is_whole(now) {
            self.trusted = Some(teller);
        }
    }

    /// Whether we wait for others to let us in.
    pub(super) fn is_waiting(&self) -> bool {
        !self.admitted && self.founded.is_none()
    }

    pub(super) fn next_due(&self) -> Instant {
        let looked_at = self.looked_at.map_or(Instant::NEVER, |(_, by, _)| by);
        [self.join_at, self.resolve_at, self.compare_at, self.look_at, looked_at]
            .into_iter()
            .min()
            .unwrap_or(Instant::NEVER)
    }

    pub(super) fn excuse(&mut self, pause: Pause) {
        if let Some(at) = &mut self.founded {
            *at = pause.excuse(*at, Duration::ZERO);
        }
        self.looked_at = None;
    }

    /// Does not found a cluster, but waits to be let in. Returns whether that is new.
    pub(super) fn found_nothing(&mut self) -> bool {
        self.may_found = false;
        self.founded.take().is_some()
    }

    /// Compares our table with another one's by `at`.
    pub(super) fn compare_by(&mut self, at: Instant) {
        self.compare_at = self.compare_at.min(at);
    }

    /// The seeds in words.
    pub(super) fn seeds(&self) -> String {
        self.seeds.iter().map(|seed| &*seed.text).collect::<Vec<_>>().join(", ")
    }

    /// Takes in that a member answered.
    pub(super) fn reached(&mut self, id: NodeId) {
        self.looked_at.take_if(|(who, _, _)| *who == id);
    }

    /// Whether a refusal may be told: one an interval is enough.
    pub(super) fn may_complain(&mut self, ctx: &Ctx) -> bool {
        let may = self.complained_at.is_none_or(|at| ctx.now - at >= ctx.config.interval);
        if may {
            self.complained_at = Some(ctx.now);
        }
        may
    }

    fn token(&self, address: SocketAddr, header: Header) -> u64 {
        let octets: u64 = match address.ip() {
            std::net::IpAddr::V4(ip) => u64::from(u32::from(ip)),
            std::net::IpAddr::V6(ip) => mix((u128::from(ip) >> 64) as u64) ^ u128::from(ip) as u64,
        };
        let key = mix(self.secret ^ mix(octets << 16 | u64::from(address.port())));
        mix(key ^ mix(header.from.0 ^ header.generation.0)).max(1)
    }
}

impl Cluster {
    /// Takes in members known from elsewhere. They are no news: nobody is told.
    pub(crate) fn recall(&mut self, members: &[Member], ctx: &Ctx) {
        let most = ctx.config.membership.members_max as usize;
        for member in members.iter().filter(|member| member.id != self.peers.me.id).take(most) {
            self.peers.table.recall(ctx.now, member);
        }
        self.joining.admitted = true;
        self.joining.whole = true;
        self.fill_places();
    }

    // ---- looking for others --------------------------------------------------------------------------------------------------------------

    pub(super) fn look_for_others(&mut self, ctx: &mut Ctx) {
        if self.joining.resolve_at <= ctx.now {
            self.joining.resolve_at = ctx.now + RESOLVE_EVERY;
            let names = self.joining.seeds.iter().filter(|seed| seed.text.parse::<SocketAddr>().is_err());
            names.for_each(|seed| ctx.push(Output::Resolve { seed: seed.text.clone() }));
        }
        if self.joining.join_at <= ctx.now {
            self.ask_seeds(ctx);
        }
        if self.joining.compare_at <= ctx.now {
            self.joining.compare_at = ctx.now + ctx.config.interval * COMPARE_EVERY;
            for node in self.peers.table.reap(ctx.now, ctx.config.membership.forget_after) {
                ctx.emit(Event::Forgotten { node });
            }
            let table = &self.peers.table;
            self.heard.retain_met(|id, met| table.member(id).is_some_and(|member| member.generation == met));
            if let Some(to) = self.peers.table.draw(&mut ctx.random).map(|member| member.address) {
                self.send(to, Payload::Sync);
            }
        }
        if self.joining.look_at <= ctx.now {
            self.joining.look_at = ctx.now + ctx.config.interval * LOOK_EVERY;
            self.look_at_somebody(ctx);
        }
        self.look_again(ctx);
        self.look_for_monitors(ctx);
    }

    /// Asks seeds that are no members to let us in, sooner while nobody has.
    fn ask_seeds(&mut self, ctx: &mut Ctx) {
        let is_in = self.joining.whole || self.joining.admitted && self.joining.is_whole(ctx.now);
        let pause = match (is_in, self.joining.admitted) {
            (true, _) => SEEDS_EVERY,
            // Whoever let us in was not whole itself yet.
            (false, true) => ctx.config.interval / 2,
            (false, false) => self.joining.join_pause,
        };
        self.joining.join_at = ctx.now + pause.max(ctx.config.interval / 4);
        self.joining.join_pause = (self.joining.join_pause * 2).min(RETRY_MAX).min(ctx.config.interval * 4);
        let is_member = |address: &SocketAddr| is_in && self.addresses().any(|member| member == *address);
        let addresses = self.joining.seeds.iter().flat_map(|seed| &seed.addresses);
        let mut to_ask: Vec<SocketAddr> =
            addresses.filter(|address| **address != self.peers.me.address && !is_member(address)).copied().collect();
        if !is_in && self.joining.admitted {
            // The seeds may all have ended since they let us in.
            to_ask.extend(self.peers.table.draw(&mut ctx.random).map(|member| member.address));
        }
        for to in to_ask {
            self.send(to, Payload::Join { token: 0 });
        }
    }

    /// Probes one member drawn at random, so that one whose observers all died with it is missed by
    /// somebody, and one of the dead, which may be behind a partition.
    fn look_at_somebody(&mut self, ctx: &mut Ctx) {
        let (number, patience) = (self.next_number(), self.patience(ctx));
        if let Some((id, to)) = self.peers.table.draw(&mut ctx.random).map(|member| (member.id, member.address))
            && self.joining.looked_at.is_none()
        {
            self.joining.looked_at = Some((id, ctx.now + patience * 2, false));
            self.send(to, Payload::Say(Body::Probe { number }));
        }
        let retry_for = ctx.config.membership.retry_for;
        let dead =
            self.peers.table.draw_dead(&mut ctx.random).filter(|member| {
                self.peers.table.changed(member.id).is_some_and(|changed| ctx.now - changed <= retry_for)
            });
        if let Some(to) = dead.map(|member| member.address) {
            self.send(to, Payload::Say(Body::Probe { number }));
        }
    }

    /// One that did not answer is probed again, and watched if it does not answer then.
    fn look_again(&mut self, ctx: &mut Ctx) {
        let Some((id, by, again)) = self.joining.looked_at.filter(|(_, by, _)| *by <= ctx.now) else { return };
        self.joining.looked_at = None;
        let is_member = |member: &&Member| member.status.is_member();
        let Some(to) = self.peers.table.member(id).filter(is_member).map(|member| member.address) else { return };
        if again {
            self.miss(id, ctx);
        }
        // With one other member no node answers us if that one is gone.
        let is_heard =
            self.peers.table.others().len() < 2 || self.peers.answers.silence(ctx.now) < ctx.config.interval * 3;
        if again && self.may_adopt(id) && is_heard {
            self.watch(id, ctx.config.interval, true, true, ctx);
        } else if !again {
            let (number, patience) = (self.next_number(), self.patience(ctx));
            self.joining.looked_at = Some((id, by.max(ctx.now) + patience * 4, true));
            self.send(to, Payload::Say(Body::Probe { number }));
        }
    }

    /// Whether it is our business to watch somebody who has not named us: not while there is one
    /// whose business it is.
    fn may_adopt(&self, id: NodeId) -> bool {
        let is_observer = |member: &Member| may_observe(member, self.peers.mode, id);
        is_observer(&self.peers.me) || !self.peers.table.members().any(is_observer)
    }

    /// Takes in the addresses of a seed that is a name.
    pub(crate) fn resolved(&mut self, seed: &str, addresses: &[SocketAddr], now: Instant) {
        let mut is_new = false;
        for known in &mut self.joining.seeds {
            if *known.text == *seed && !addresses.is_empty() {
                let first: Vec<SocketAddr> = addresses.iter().take(ADDRESSES_MAX).copied().map(canonical).collect();
                is_new |= known.addresses != first;
                known.addresses = first;
            }
        }
        let is_own = |seed: &Seed| seed.addresses.contains(&self.peers.me.address);
        if is_new && !self.joining.admitted {
            self.joining.join_at = now;
            let may_found =
                self.joining.may_found && self.joining.founded.is_none() && self.joining.refused_at.is_none();
            if may_found && self.joining.seeds.iter().any(is_own) {
                self.joining.founded = Some(now + self.slots.announced() * 2);
            }
        }
    }

    // ---- being let in, and letting in ----------------------------------------------------------------------------------------------------

    pub(super) fn hear_join(
        &mut self,
        from: SocketAddr,
        header: Header,
        join: &Join<'_>,
        ctx: &mut Ctx,
    ) -> OwnershipEffect {
        let token = self.joining.token(from, header);
        if join.token != token {
            self.send(from, Payload::Say(Body::Challenge { token }));
            return OwnershipEffect::Nothing;
        }
        self.compare_clocks(header, ctx);
        let row = wire::Row { status: Status::Alive, generation: header.generation, ..join.row };
        if row.id != header.from {
            return OwnershipEffect::Nothing;
        }
        let may_admit = self.quorum.as_ref().is_none_or(|quorum| quorum.may_admit(row.id, &self.peers.table));
        let admitted = match may_admit {
            true => self.peers.table.admit(ctx.now, &row, &ctx.config.membership),
            false => Err(Refusal::NoQuorum),
        };
        match admitted {
            Ok(change) => {
                if let Some(change) = &change {
                    self.tell_skew(&change.after.name, header, ctx);
                }
                self.heard.note_answer(row.id, row.generation);
                let is_new = change.as_ref().is_some_and(|change| change.after.status.is_member());
                let follow =
                    change.map_or(OwnershipEffect::Nothing, |change| self.changed(&change, Source::News(None), ctx));
                if is_new {
                    self.watch_newcomer(header.from, ctx);
                }
                if self.peers.table.member(header.from).is_some_and(|member| !member.status.is_member()) {
                    // It has yet to learn of its death.
                    self.send(from, Payload::About(header.from));
                }
                self.send(from, Payload::Rows(Pages { differing: u64::MAX, from: NodeId(0), welcome: true }));
                follow
            }
            Err(refusal) => {
                if matches!(refusal, Refusal::Superseded(_)) {
                    self.send(from, Payload::About(header.from));
                }
                self.send(from, Payload::Say(Body::Refused(refusal.said())));
                self.refuse(refusal, Some(from), ctx);
                OwnershipEffect::Nothing
            }
        }
    }

    /// Watches a node that this one has let in, until the newcomer is known to be well: it may end
    /// before it names an observer.
    fn watch_newcomer(&mut self, id: NodeId, ctx: &mut Ctx) {
        if self.links.contains_key(&id) {
            return;
        }
        self.watch(id, ctx.config.interval, true, true, ctx);
        if let Some(link) = self.links.get_mut(&id) {
            link.known_from = u64::MAX;
        }
    }

    /// Takes in that a member does not let us in. That is not silence: others are there, so this
    /// node is not the first of its cluster.
    pub(super) fn hear_refused(&mut self, from: SocketAddr, refused: Refused, ctx: &mut Ctx) -> OwnershipEffect {
        if !self.may_have_asked(from) {
            return OwnershipEffect::Nothing;
        }
        let refusal = Refusal::heard(refused, &self.peers.me);
        if self.joining.refused_at.is_none_or(|at| ctx.now - at >= RETRY_MAX) {
            self.joining.refused_at = Some(ctx.now);
            let unknown = || format!("for a reason that this release does not know ({})", refused.reason);
            let reason = refusal.as_ref().map_or_else(unknown, Refusal::to_string);
            ctx.emit(Event::RefusedBy { address: from, reason: reason.into() });
        }
        self.peers.answers.heard_at(ctx.now);
        if let Some(Refusal::Superseded(generation)) = refusal
            && generation > self.peers.me.generation
        {
            return self.give_way(generation, None, ctx);
        }
        let was_whole = self.joining.is_whole(ctx.now);
        // A cluster that was founded goes on if others have joined it. A node without a quorum says
        // no for a while only, and those that begin a cluster together all have none yet. One that
        // founded alone has none, and runs nothing.
        let is_for_now = refusal == Some(Refusal::NoQuorum);
        if !is_for_now && (!was_whole || self.peers.table.others().is_empty()) {
            self.joining.founded = None;
        }
        if was_whole && !self.joining.is_whole(ctx.now) { OwnershipEffect::Revoke } else { OwnershipEffect::Nothing }
    }

    /// Whether an address is a seed's or a member's. What another one says could have this node
    /// send to any address, or found nothing.
    fn may_have_asked(&self, address: SocketAddr) -> bool {
        let is_seed = self.joining.seeds.iter().any(|seed| seed.addresses.contains(&address));
        is_seed || self.addresses().any(|member| member == address)
    }

    pub(super) fn hear_challenge(&mut self, from: SocketAddr, token: u64) {
        if self.may_have_asked(from) {
            self.send(from, Payload::Join { token });
        }
    }

    /// Whether a seed has this address.
    pub(super) fn is_seed(&self, address: SocketAddr) -> bool {
        self.joining.seeds.iter().any(|seed| seed.addresses.contains(&address))
    }

    pub(super) fn hear_introduce(&mut self, from: SocketAddr, now: Instant) {
        // One at a time is enough, whoever asks.
        if now - self.joining.introduced_at < Duration::from_millis(20) {
            return;
        }
        self.joining.introduced_at = now;
        self.hear_challenge(from, 0);
    }

    /// Takes in a datagram of somebody who is not in the table, or of another process than the one
    /// that is.
    pub(super) fn hear_stranger(
        &mut self,
        from: SocketAddr,
        length: usize,
        datagram: &Datagram<'_>,
        ctx: &mut Ctx,
    ) -> OwnershipEffect {
        let id = datagram.header.from;
        let known = self.peers.table.member(id);
        if let (Body::Rows(rows), true) =
            (&datagram.body, known.is_none_or(|known| known.generation < datagram.header.generation))
        {
            // It has let us in and tells of itself among the others.
            if rows.welcome && self.may_have_asked(from) {
                self.joining.trust(id, ctx.now);
                let follow = self.hear_of_all(datagram, ctx);
                return follow.max(self.hear_rows(id, *rows, datagram, ctx));
            }
            return OwnershipEffect::Nothing;
        }
        if matches!(datagram.body, Body::Rows(_) | Body::Ack(_) | Body::Echo(_) | Body::Evidence(_)) {
            return OwnershipEffect::Nothing;
        }
        // Nobody is sent more than came from him; what members send is never that short.
        if length >= wire::introduction_bytes(self.header(ctx.now)) {
            self.send(from, Payload::Say(Body::Introduce));
        }
        OwnershipEffect::Nothing
    }

    // ---- comparing -----------------------------------------------------------------------------------------------------------------------

    pub(super) fn hear_sync(&mut self, from: NodeId, digests: &Digests, _: &Ctx) {
        let differing = self.peers.table.differing(digests);
        if differing != 0 {
            self.send_to(from, Payload::Rows(Pages { differing, from: NodeId(0), welcome: false }));
        }
    }

    /// Takes in what differs between the table of another and ours; its rows were taken in already.
    pub(super) fn hear_rows(
        &mut self,
        from: NodeId,
        rows: Rows,
        datagram: &Datagram<'_>,
        ctx: &mut Ctx,
    ) -> OwnershipEffect {
        let mut follow = OwnershipEffect::Nothing;
        if rows.welcome {
            follow = self.welcomed(rows, datagram.header, ctx);
        }
        if rows.differing == 0 {
            return follow;
        }
        self.tell_what_it_lacks(from, rows, datagram);
        if rows.more {
            self.pull(from, rows.welcome, ctx.now);
        }
        follow
    }

    fn welcomed(&mut self, rows: Rows, header: Header, ctx: &mut Ctx) -> OwnershipEffect {
        let was_whole = self.joining.is_whole(ctx.now);
        if rows.whole && !was_whole {
            self.meet_clock(header, ctx);
        } else {
            self.hear_clock(header, ctx.now);
        }
        self.joining.admitted = true;
        self.joining.whole |= rows.whole && !rows.more;
        if self.peers.observers.places().is_empty() {
            self.peers.answers.hear(ctx);
        }
        if self.joining.is_whole(ctx.now) && !was_whole { OwnershipEffect::Recompute } else { OwnershipEffect::Nothing }
    }

    /// What another has not told us of the parts that differ, it may not know.
    fn tell_what_it_lacks(&mut self, from: NodeId, rows: Rows, datagram: &Datagram<'_>) {
        let told: Vec<NodeId> = datagram.rumours.iter().map(|row| row.id).collect();
        let last = told.last().copied().unwrap_or(NodeId(u64::MAX));
        let mut lacks = Vec::new();
        for bucket in (0..BUCKETS).filter(|bucket| rows.differing & 1 << bucket != 0) {
            // Where rows were left out, what lies behind the last one may only have had no room.
            let compared = self.peers.table.part(bucket).filter(|member| !rows.more || member.id <= last);
            lacks.extend(compared.filter(|member| !told.contains(&member.id)).map(|member| member.id));
        }
        let newer = datagram.rumours.iter().filter_map(|row| {
            let member = self.peers.table.member(row.id)?;
            let ours = (member.generation, member.incarnation, member.status, member.revision);
            (ours != (row.generation, row.incarnation, row.status, row.revision)).then_some(row.id)
        });
        lacks.extend(newer);
        if !lacks.is_empty() {
            self.send_to(from, Payload::Some(lacks));
        }
    }

    /// Writes one page of rows; over a stream, the next one follows.
    pub(super) fn write_rows(
        &mut self,
        pages: Pages,
        stream: Option<StreamId>,
        header: Header,
        now: Instant,
        buffer: &mut Vec<u8>,
    ) {
        let Pages { differing, from, welcome } = pages;
        let rows = Rows { differing, more: false, welcome, whole: self.joining.is_whole(now) };
        wire::encode(buffer, header, &Body::Rows(rows));
        let (flags_at, count_at) = (buffer.len() - 2, buffer.len() - 1);
        let mut next = None;
        if from == NodeId(0) {
            // Whoever is let in must know who lets it in.
            wire::push_rumour(buffer, count_at, &self.peers.me, true);
        }
        'parts: for bucket in (0..BUCKETS).filter(|bucket| differing & 1 << bucket != 0) {
            for member in
                self.peers.table.part(bucket).filter(|member| member.id >= from && member.id != self.peers.me.id)
            {
                if !wire::push_rumour(buffer, count_at, member, true) {
                    next = Some(member.id);
                    break 'parts;
                }
            }
        }
        if let Some(from) = next {
            buffer[flags_at] |= 1;
            if let Some(stream) = stream {
                let letter = Payload::Rows(Pages { differing, from, welcome });
                self.out.queue.push_front(Outgoing::Frame { stream, letter });
            }
        }
    }

    /// Tells that a seed cannot be looked up.
    pub(crate) fn unresolved(&mut self, seed: &str, reason: &str, ctx: &mut Ctx) {
        if !self.joining.admitted {
            ctx.emit(Event::Unresolved { seed: seed.into(), reason: reason.into() });
        }
    }
}
