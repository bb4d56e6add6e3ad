//! `Ownership`: how a shard gets from one node to another: given up, handed over, claimed, started.
//!
//! A relay race. The view says whose turn it is (`shards`). The runner who has the baton stops,
//! then hands over what he carried (`replicas`); who takes it waits for that, though not for ever;
//! and where there is a referee (`claims`), nobody runs before he has nodded. Those who start
//! together do so a few at a time.
//!
//! A node without a session at the authority tells others that it supervises no sharded group. So
//! others own its shards, and it takes none from them.
//!
//! - **Given up**: told to stop; when it has, whoever asked for it is sent its last snapshot, and
//!   the authority gets it back.
//! - **Taken on**: the former owner, if it may live, is asked and waited for, for
//!   `ownership.hand_over_timeout`; the authority is asked; then it starts, under the authority's epoch or,
//!   without one, that of the logical clock, with the newest snapshot that is known here.
//! - **While it runs** its snapshots are passed on to its heir.
//!
//! A local restart of its worker changes none of this: it is supervision's business. A worker that
//! supervision gives up is declined: the shard is another node's then, for a while. If none is
//! left, nobody's; so a shard that no node can run stops no other one.

mod assignment;
mod claims;
pub mod rendezvous;
pub(crate) mod routes;
mod snapshots;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::assignment::{Claim, Due, Finding, Former, Group, Here, Shards, Step};
use self::claims::{Claims, Outcome, follows};
use self::snapshots::Replicas;
use crate::authority::{AuthorityResponse, Claimed, ShardName};
use crate::config::Config;
use crate::ctx::Ctx;
use crate::event::Event;
use crate::member::{Child, Epoch, Generation, LOCAL_NAME, NodeId, Shard, WorkerId};
use crate::membership::{Cluster, Mail};
use crate::sharding::routes::ShardGroupLayout;
use crate::snapshot::Key;
use crate::supervision::Supervision;
use crate::time::{Instant, earliest};

/// How long those wait that were too many to start at once.
const PACE: Duration = Duration::from_millis(50);

/// For how long a node declines a shard whose worker it has given up.
const DECLINE_FOR: Duration = Duration::from_secs(300);

/// How often a former owner is asked, as a share of the interval between heartbeats.
const ASKS: u32 = 4;

/// What this node owns, and what it is about to.
#[derive(Clone, Debug)]
pub(crate) struct Sharding {
    shards: Shards,
    claims: Option<Claims>,
    replicas: Replicas,
    /// The view changed while it was not whole: find the owners once it is.
    unsettled: bool,
    /// When the first of the present handful started, and how many there were.
    started: (Instant, u32),
    /// The number under which former owners are asked next.
    number: u32,
    /// When `advance` has something to do next.
    due: Instant,
    /// When all shards on their way were last looked at.
    looked_at: Instant,
    /// A session is over, and workers of shards that ran under it have not stopped yet. Until they
    /// have, a new session gives no right to anything: it would make their leases valid again.
    is_revoked: bool,
    /// Until when this node's own word is good where nobody else is asked.
    own_until: Instant,
    /// What this node declines, and until when.
    declined: VecDeque<(Instant, Key)>,
    /// The epoch of all shards where there is no cluster, so that no other node can own them.
    sole_epoch: Epoch,
    /// The same, by group.
    declines: BTreeMap<u64, BTreeSet<u32>>,
}

/// As many shards on their way are looked at after each input: a look at one takes some hundred
/// nanoseconds.
const LOOK_AT_ONCE: usize = 256;

/// How often more than that are looked at: nothing beside the time that a hand-over takes.
const LOOK_PACE: Duration = Duration::from_millis(20);

/// What the rest of the node lends while shards move.
pub(crate) struct ShardingCtx<'a> {
    pub(crate) cluster: Option<&'a mut Cluster>,
    pub(crate) supervision: &'a mut Supervision,
    pub(crate) ctx: &'a mut Ctx,
}

impl Sharding {
    pub(crate) fn new(config: &Config, generation: Generation, now: Instant) -> Sharding {
        Sharding {
            shards: Shards::default(),
            // Without a cluster there is nobody to share with.
            claims: config.cluster.as_ref().and_then(|_| Claims::new(&config.ownership, now)),
            replicas: Replicas::default(),
            unsettled: false,
            started: (Instant::ZERO, 0),
            number: 0,
            due: Instant::NEVER,
            looked_at: Instant::ZERO,
            is_revoked: false,
            own_until: now + config.timeout,
            declined: VecDeque::new(),
            sole_epoch: Epoch::at(generation.0, 0).max(Epoch(config.ownership.epoch_min.saturating_add(1))),
            declines: BTreeMap::new(),
        }
    }

    // ---- questions -----------------------------------------------------------------------------------------------------------------------

    /// Who owns a shard by the view, at which epoch.
    pub(crate) fn owner(&self, group: &str, index: u32) -> Option<(NodeId, Epoch)> {
        self.shards.owner(group, index)
    }

    /// Under which epoch a shard runs here, if it does, until it has stopped.
    pub(crate) fn held(&self, group: &str, index: u32) -> Option<Epoch> {
        match self.shards.place(self.shards.named(group, index)?).here {
            Here::Runs(epoch) | Here::Stops { epoch, .. } => Some(epoch),
            Here::No | Here::Due(_) => None,
        }
    }

    /// Until when this node may act for the shards that run here, unless that is renewed; long ago
    /// if it may not. `None` without a cluster: for ever.
    pub(crate) fn lease_until(&self, cluster: Option<&Cluster>) -> Option<Instant> {
        let cluster = cluster?;
        let authority = self.claims.as_ref().map(|claims| if self.is_revoked { Instant::ZERO } else { claims.until() });
        Some(authority.or_else(|| cluster.lease_until()).unwrap_or(self.own_until))
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        let claims = self.claims.as_ref().map(Claims::next_due);
        let declined = self.declined.front().map(|(until, _)| *until);
        let due = earliest(self.due, [claims, declined, self.replicas.next_due()]);
        (due != Instant::NEVER).then_some(due)
    }

    /// Whether nothing runs here or is on its way any more, and whoever took something over has
    /// been sent what there is of it.
    pub(crate) fn is_empty(&self, cluster: &Cluster) -> bool {
        let is_member = |id| cluster.membership().member(id).is_some_and(|member| member.status.is_member());
        let is_done = |group: &Group| !group.runs_any() && !group.owes_any(is_member);
        cluster.has_delivered() && self.shards.moving.is_empty() && self.shards.groups().iter().all(is_done)
    }

    /// How many shards run here or are on their way, or have yet to be sent to their new owner.
    pub(crate) fn unfinished(&self, cluster: &Cluster) -> u32 {
        let is_member = |id| cluster.membership().member(id).is_some_and(|member| member.status.is_member());
        let here: usize = self.shards.groups().iter().map(|group| group.unfinished(is_member)).sum();
        u32::try_from(here.saturating_add(cluster.undelivered())).unwrap_or(u32::MAX)
    }

    // ---- inputs --------------------------------------------------------------------------------------------------------------------------

    /// Takes on a group whose shard `i` is worker `first + i`.
    pub(crate) fn add(&mut self, name: Arc<str>, first: WorkerId, count: u32) {
        self.shards.add(name, first, count);
    }

    /// What we say ourselves is good for a `timeout` from now on: nobody calls us dead for silence
    /// before that.
    pub(crate) fn speak(&mut self, ctx: &Ctx) {
        self.own_until = ctx.now + ctx.config.timeout;
    }

    /// Looks whether the right to own anything has ended. It is asked before anything is taken in.
    /// Returns whether it has.
    pub(crate) fn look(&mut self, ctx: &mut Ctx) -> bool {
        let is_over = self.claims.as_mut().is_some_and(|claims| claims.look(ctx) == Outcome::Over);
        self.is_revoked |= is_over;
        is_over
    }

    /// Whether a session at the authority gives this node the right to own shards.
    fn has_right(&self, now: Instant) -> bool {
        !self.is_revoked && self.claims.as_ref().is_none_or(|claims| claims.until() > now)
    }

    /// Whether a worker of a shard has yet to stop.
    fn is_any_stopping(&self, supervision: &Supervision) -> bool {
        self.shards.moving.iter().any(|&at| {
            let is_stopping = matches!(self.shards.place(at).here, Here::Stops { .. });
            is_stopping && !supervision.is_over(self.shards.group(at.0).worker(at.1))
        })
    }

    /// Takes in an answer of the authority. Returns whether everything has to be given up.
    pub(crate) fn answer(&mut self, number: u64, answer: Result<AuthorityResponse, &str>, ctx: &mut Ctx) -> bool {
        let Some(claims) = &mut self.claims else { return false };
        let again_at = ctx.now + claims.again_after();
        match claims.answer(number, answer, ctx) {
            Outcome::Nothing | Outcome::Began => false,
            Outcome::Over => {
                self.is_revoked = true;
                true
            }
            Outcome::Claimed { results, is_stale } => {
                let again_at = if is_stale { ctx.now } else { again_at };
                for (name, result) in results {
                    self.claimed(&name, result, again_at, ctx);
                }
                false
            }
            Outcome::Unknown(names) => {
                for name in names {
                    match self.shards.named(&name.group, name.index) {
                        Some(at) if self.set_claim(at, Claim::At(again_at)) => {}
                        _ => self.give_back(name),
                    }
                }
                false
            }
        }
    }

    /// Somebody has given shards back: what was found held may be free.
    pub(crate) fn freed(&mut self, now: Instant) {
        if let Some(claims) = &mut self.claims {
            claims.doubt(now);
        }
        for &at in &self.shards.moving.clone() {
            if let Here::Due(Due { claim: claim @ Claim::At(_), .. }) = &mut self.shards.place_mut(at).here {
                *claim = Claim::At(Instant::ZERO);
            }
        }
        self.due = Instant::ZERO;
    }

    /// A process was seen to have ended.
    fn ended(&mut self, node: Arc<str>, generation: Generation) {
        if let Some(claims) = &mut self.claims {
            claims.evict(node, generation);
        }
    }

    /// Takes in a new snapshot of a worker that is a shard; of any other, or of one that does not
    /// run, it is dropped.
    pub(crate) fn snapshot(&mut self, worker: WorkerId, version: u32, bytes: Arc<[u8]>, ctx: &Ctx) {
        let Some((at, index)) = self.shards.of_worker(worker) else { return };
        let (Here::Runs(epoch) | Here::Stops { epoch, .. }) = self.shards.place((at, index)).here else { return };
        let (key, every) = (self.shards.group(at).key(index), ctx.config.ownership.copy_every);
        self.replicas.made(key, epoch, version, bytes, ctx.now, every);
    }

    /// The view may have changed: finds the owners anew if it is whole.
    pub(crate) fn settle(&mut self, lent: &mut ShardingCtx<'_>) {
        let Some(cluster) = &mut lent.cluster else {
            self.shards.settle_alone(self.sole_epoch);
            return self.advance(lent);
        };
        let (me, now) = (cluster.me(), lent.ctx.now);
        let (steps, withdrawn) = if cluster.is_whole(now) {
            self.unsettled = false;
            self.number = self.number.wrapping_add(1).max(1);
            // Where there is an authority, its word is proof that nobody else had it meanwhile.
            let passed = cluster.take_passed();
            let passed = if self.claims.is_some() { &[][..] } else { &passed[..] };
            let epoch = cluster.next_epoch(Epoch::default(), now);
            // Where it is to run in one place only, and no authority says who has stopped, only he
            // himself can, or his end.
            let is_exclusive = cluster.lease_until().is_some();
            let hand_over = now + lent.ctx.config.ownership.hand_over_timeout;
            let until = if is_exclusive { Instant::NEVER } else { hand_over };
            let (table, number) = (cluster.membership(), self.number);
            self.shards.settle(&Finding { me, table, passed, epoch, now, until, number, is_exclusive })
        } else {
            self.unsettled = true;
            if !cluster.holds_starts() {
                return;
            }
            // What is not ours any more need not wait.
            self.shards.yield_up(me, cluster.membership())
        };
        self.follow(steps, withdrawn, lent);
    }

    /// Whether a worker is a shard. Its life is sharding's business then.
    pub(crate) fn is_shard(&self, child: Child) -> bool {
        match child {
            Child::Worker(worker) => self.shards.of_worker(worker).is_some(),
            Child::Group(_) => false,
        }
    }

    /// Starts the worker of a shard again, as that shard and under its epoch, if this node runs the
    /// shard and the worker is down. On any other node nothing happens.
    pub(crate) fn start_again(&mut self, child: Child, lent: &mut ShardingCtx<'_>) {
        let Child::Worker(worker) = child else { return };
        let Some(at) = self.shards.of_worker(worker) else { return };
        if let Here::Runs(epoch) = self.shards.place(at).here
            && !lent.supervision.is_up_or_starting(worker)
        {
            let replica = self.replicas.newest(self.shards.group(at.0).key(at.1)).cloned();
            lent.supervision.start_shard(worker, Shard { index: at.1, epoch }, replica, lent.ctx);
        }
    }

    /// Gives up whatever runs here.
    pub(crate) fn void(&mut self, lent: &mut ShardingCtx<'_>) {
        let Some(cluster) = &lent.cluster else { return };
        let (steps, withdrawn) = self.shards.void(cluster.me(), cluster.membership());
        self.follow(steps, withdrawn, lent);
    }

    /// Takes in what others sent about shards.
    pub(crate) fn hear(&mut self, mail: Mail, lent: &mut ShardingCtx<'_>) {
        match mail {
            Mail::Asked { from, number, group, indexes } => {
                for index in indexes {
                    self.hear_ask(from, number, (group, index), lent);
                }
            }
            Mail::Came { from, number, key, replica } => {
                let Some(at) = self.shards.at(key) else { return };
                // Under the epoch at which a shard runs here, snapshots are made here and nowhere
                // else.
                if let Some(replica) = replica.filter(|replica| self.held_at(at) != Some(replica.epoch)) {
                    self.replicas.keep(key, replica);
                }
                self.hear_former(at, from, number);
            }
            Mail::Refused { by, key, bytes } => {
                let Some((at, index)) = self.shards.at(key) else { return };
                let group = self.shards.group(at).name.clone();
                lent.ctx.emit(Event::ReplicaRefused { group, index, by, bytes });
            }
        }
        self.advance(lent);
    }

    /// Does whatever can be done for those that are on their way, and what is due.
    pub(crate) fn advance(&mut self, lent: &mut ShardingCtx<'_>) {
        let now = lent.ctx.now;
        if let Some(claims) = &mut self.claims {
            claims.tick(lent.ctx);
        }
        self.is_revoked = self.is_revoked && self.is_any_stopping(lent.supervision);
        let has_right = self.has_right(now);
        if let Some(cluster) = &mut lent.cluster
            && self.claims.is_some()
            && cluster.set_right(has_right, lent.ctx)
        {
            return self.settle(lent);
        }
        if self.decline(lent) {
            return self.settle(lent);
        }
        if self.unsettled && lent.cluster.as_ref().is_some_and(|cluster| cluster.is_whole(now)) {
            return self.settle(lent);
        }
        // It is asked after nearly every input, and hardly ever is anything on its way. Where much
        // is, all of it is looked at a few times in a second only: one look for each worker that
        // stops would make the time of a leave grow with the square of the shards.
        let next_look = self.looked_at + LOOK_PACE;
        let claims = if self.shards.moving.len() > LOOK_AT_ONCE && now < next_look {
            self.due = self.due.min(next_look);
            Vec::new()
        } else {
            self.due = Instant::NEVER;
            self.looked_at = now;
            if self.shards.moving.is_empty() { Vec::new() } else { self.advance_all(lent) }
        };
        if let Some(cluster) = &mut lent.cluster {
            for (node, generation) in cluster.take_ended() {
                self.ended(node, generation);
            }
            let limits = &lent.ctx.config.ownership;
            cluster.set_room(limits.copies_bytes_max.saturating_sub(self.replicas.bytes()), limits.snapshot_bytes_max);
            for (heir, key, replica) in self.replicas.pop_due(now) {
                cluster.deliver(heir, 0, key, Some(replica), now);
            }
        }
        if !claims.is_empty() {
            self.claim(claims, lent);
        }
    }

    /// Asks the authority for shards, under epochs above all that are known of them.
    fn claim(&mut self, shards: Vec<ShardName>, lent: &mut ShardingCtx<'_>) {
        let known = shards.iter().filter_map(|shard| self.shards.named(&shard.group, shard.index));
        let former = known.map(|at| self.former(at)).max().unwrap_or_default();
        if let (Some(authority), Some(cluster)) = (&mut self.claims, &mut lent.cluster) {
            let floor = cluster.next_epoch(former, lent.ctx.now);
            authority.claim(shards, floor, lent.ctx);
        }
    }

    // ---- what cannot be run here ----------------------------------------------------------------------------------------------------------

    /// Declines shards whose workers were given up, so that others try, and takes back what was
    /// declined for long enough. Returns whether the owners are to be found anew.
    fn decline(&mut self, lent: &mut ShardingCtx<'_>) -> bool {
        let given_up = lent.supervision.take_given_up();
        let Some(cluster) = &mut lent.cluster else { return false };
        let mut changed = BTreeSet::new();
        for worker in given_up {
            let Some((at, index)) = self.shards.of_worker(worker) else { continue };
            let (group, index) = self.shards.group(at).key(index);
            if cluster.said_of(group).is_some() && self.declines.entry(group).or_default().insert(index) {
                self.declined.push_back((lent.ctx.now + DECLINE_FOR, (group, index)));
                changed.insert(group);
            }
        }
        while self.declined.front().is_some_and(|(until, _)| *until <= lent.ctx.now)
            && let Some((_, (group, index))) = self.declined.pop_front()
        {
            self.declines.entry(group).or_default().remove(&index);
            changed.insert(group);
        }
        if changed.is_empty() {
            return false;
        }
        cluster.set_declined(&self.declines, lent.ctx);
        for hash in changed {
            let Some(group) = self.shards.groups().iter().find(|group| group.hash == hash) else { continue };
            let declined = self.declines.get(&hash).map_or(0, BTreeSet::len) as u32;
            let said = cluster.said_of(hash).map_or(0, |sharded| sharded.declined.len(sharded.count));
            let withheld = said.saturating_sub(declined);
            lent.ctx.emit(Event::Declined { group: group.name.clone(), declined, withheld });
        }
        true
    }

    // ---- private -------------------------------------------------------------------------------------------------------------------------

    fn follow(&mut self, steps: Vec<Step>, withdrawn: Vec<(usize, u32)>, lent: &mut ShardingCtx<'_>) {
        for at in withdrawn {
            let name = self.name_of(at);
            self.give_back(name);
        }
        for step in steps {
            match step {
                Step::Stop { worker } => lent.supervision.stop_shard(worker, lent.ctx),
                Step::Tell(event) => lent.ctx.emit(event),
            }
        }
        self.name_heirs(lent);
        self.advance(lent);
    }

    /// All shards that are on their way. Returns those that are to be claimed.
    fn advance_all(&mut self, lent: &mut ShardingCtx<'_>) -> Vec<ShardName> {
        let moving: Vec<(usize, u32)> = self.shards.moving.iter().copied().collect();
        let mut asks: BTreeMap<(NodeId, u64, u32), Vec<u32>> = BTreeMap::new();
        let mut claims = Vec::new();
        for at in moving {
            self.advance_one(at, &mut asks, &mut claims, lent);
        }
        if let Some(cluster) = &mut lent.cluster {
            for ((former, group, number), indexes) in asks {
                cluster.ask_for(former, number, group, &indexes);
            }
        }
        claims
    }

    /// One shard that is on its way.
    fn advance_one(
        &mut self,
        at: (usize, u32),
        asks: &mut BTreeMap<(NodeId, u64, u32), Vec<u32>>,
        claims: &mut Vec<ShardName>,
        lent: &mut ShardingCtx<'_>,
    ) {
        let group = self.shards.group(at.0);
        let (worker, key) = (group.worker(at.1), group.key(at.1));
        match self.shards.place(at).here.clone() {
            Here::No | Here::Runs(_) => drop(self.shards.moving.remove(&at)),
            Here::Stops { again, .. } if lent.supervision.is_over(worker) => {
                self.replicas.disown(key);
                let is_ours = again.is_some();
                self.shards.place_mut(at).here = again.map_or(Here::No, Here::Due);
                self.tell_who_asked(at, lent);
                if is_ours {
                    return self.advance_one(at, asks, claims, lent);
                }
                let name = self.name_of(at);
                self.give_back(name);
                self.shards.moving.remove(&at);
            }
            Here::Stops { .. } => {}
            Here::Due(due) => self.advance_due(at, due, asks, claims, lent),
        }
    }

    /// One shard that is ours and does not run yet.
    fn advance_due(
        &mut self,
        at: (usize, u32),
        mut due: Due,
        asks: &mut BTreeMap<(NodeId, u64, u32), Vec<u32>>,
        claims: &mut Vec<ShardName>,
        lent: &mut ShardingCtx<'_>,
    ) {
        let (now, key) = (lent.ctx.now, self.shards.group(at.0).key(at.1));
        due.from = due.from.and_then(|former| self.wait_for(former, key, asks, lent));
        let may_claim =
            self.shards.place(at).was_ours || self.claims.as_ref().is_none_or(|claims| claims.may_take_over(now));
        if let (Some(authority), Claim::At(again_at)) = (&self.claims, due.claim)
            && self.has_right(now)
            && may_claim
        {
            if authority.is_claiming() || authority.is_released(&self.name_of(at)) {
                // It is looked at again when that is answered.
            } else if again_at <= now {
                due.claim = Claim::Asked;
                claims.push(self.name_of(at));
            } else {
                self.due = self.due.min(again_at);
            }
        }
        let (is_free, claim) = (due.from.is_none(), due.claim);
        self.shards.place_mut(at).here = Here::Due(due);
        let granted = match (&self.claims, claim) {
            _ if !is_free => return,
            (None, _) => None,
            (Some(_), Claim::Granted(epoch)) => Some(epoch),
            (Some(_), Claim::At(_) | Claim::Asked) => return,
        };
        if self.may_start(lent.ctx) {
            self.start(at, granted, lent);
        }
    }

    /// Asks those who may run a shard still, in their turn. Returns those who are to be waited for,
    /// if any are.
    fn wait_for(
        &mut self,
        mut former: Former,
        key: Key,
        asks: &mut BTreeMap<(NodeId, u64, u32), Vec<u32>>,
        lent: &ShardingCtx<'_>,
    ) -> Option<Former> {
        let now = lent.ctx.now;
        let table = lent.cluster.as_ref().map(|cluster| cluster.membership())?;
        former.nodes.retain(|node| table.member(*node).is_some_and(|member| member.status.is_member()));
        if former.nodes.is_empty() || former.until <= now {
            return None;
        }
        if former.ask_at <= now {
            former.ask_at = now + lent.ctx.config.interval / ASKS;
            for &node in &former.nodes {
                asks.entry((node, key.0, former.number)).or_default().push(key.1);
            }
        }
        self.due = self.due.min(former.ask_at).min(former.until);
        Some(former)
    }

    /// Another node says that a shard does not run there, in answer to the question of this number.
    fn hear_former(&mut self, at: (usize, u32), from: NodeId, number: u32) {
        if let Here::Due(Due { from: waited_for @ Some(_), .. }) = &mut self.shards.place_mut(at).here
            && let Some(former) = waited_for.as_mut().filter(|former| former.number == number)
        {
            former.nodes.retain(|node| *node != from);
            if former.nodes.is_empty() {
                *waited_for = None;
            }
        }
    }

    /// Whether one more may start now.
    fn may_start(&mut self, ctx: &Ctx) -> bool {
        let (since, count) = &mut self.started;
        if *since + PACE <= ctx.now {
            (*since, *count) = (ctx.now, 0);
        }
        if *count >= ctx.config.ownership.starts {
            self.due = self.due.min(*since + PACE);
            return false;
        }
        *count += 1;
        true
    }

    fn start(&mut self, at: (usize, u32), granted: Option<Epoch>, lent: &mut ShardingCtx<'_>) {
        let group = self.shards.group(at.0);
        let (name, worker, key) = (group.name.clone(), group.worker(at.1), group.key(at.1));
        let former = self.former(at);
        let epoch = match (granted, &mut lent.cluster) {
            (Some(epoch), cluster) => {
                if let Some(cluster) = cluster {
                    cluster.note_epoch(epoch);
                }
                epoch
            }
            // Later than all that its former owner said.
            (None, Some(cluster)) => cluster.next_epoch(former, lent.ctx.now),
            (None, None) => self.sole_epoch,
        };
        let shard = Shard { index: at.1, epoch };
        let place = self.shards.place_mut(at);
        let announced = place.owner.map(|(_, epoch)| epoch);
        place.here = Here::Runs(epoch);
        place.highest = epoch.max(place.highest);
        place.was_ours = false;
        if let Some((_, known)) = &mut place.owner {
            *known = epoch;
        }
        self.shards.moving.remove(&at);
        match &lent.cluster {
            Some(_) if announced == Some(epoch) => {}
            Some(cluster) => {
                let me = cluster.membership().member(cluster.me()).map(|member| member.name.clone());
                lent.ctx.emit(Event::ShardMoved { group: name, shard, from: me.clone(), to: me });
            }
            None => lent.ctx.emit(Event::ShardMoved { group: name, shard, from: None, to: Some(LOCAL_NAME.into()) }),
        }
        let replica = self.replicas.newest(key).cloned();
        lent.supervision.start_shard(worker, shard, replica, lent.ctx);
        self.name_heir(at, lent);
    }

    fn claimed(&mut self, name: &ShardName, result: Claimed, again_at: Instant, ctx: &mut Ctx) {
        let at = self.shards.named(&name.group, name.index);
        match (at, result) {
            (Some(at), Claimed::Granted(epoch)) => {
                let highest = self.former(at);
                if !follows(epoch, highest) {
                    let (group, shard) = (name.group.clone(), Shard { index: name.index, epoch });
                    ctx.emit(Event::TokenRefused { group, shard, highest });
                    self.give_back(name.clone());
                    self.set_claim(at, Claim::At(again_at + ctx.config.ownership.session_ttl));
                } else if !self.set_claim(at, Claim::Granted(epoch)) && self.held_at(at).is_none() {
                    // It is not ours any more.
                    self.give_back(name.clone());
                }
            }
            (Some(at), Claimed::Held { .. }) => drop(self.set_claim(at, Claim::At(again_at))),
            (None, _) => {}
        }
    }

    /// The highest epoch of a shard that is known here.
    fn former(&self, at: (usize, u32)) -> Epoch {
        let seen = self.replicas.newest(self.shards.group(at.0).key(at.1)).map(|replica| replica.epoch);
        self.shards.place(at).highest.max(seen.unwrap_or_default())
    }

    fn held_at(&self, at: (usize, u32)) -> Option<Epoch> {
        match self.shards.place(at).here {
            Here::Runs(epoch) | Here::Stops { epoch, .. } => Some(epoch),
            Here::No | Here::Due(_) => None,
        }
    }

    /// Notes where a claim stands; `false` if it was not waited for.
    fn set_claim(&mut self, at: (usize, u32), to: Claim) -> bool {
        self.due = Instant::ZERO;
        match &mut self.shards.place_mut(at).here {
            Here::Due(Due { claim, .. }) if *claim == Claim::Asked => {
                *claim = to;
                true
            }
            Here::Due(_) | Here::No | Here::Runs(_) | Here::Stops { .. } => false,
        }
    }

    fn give_back(&mut self, name: ShardName) {
        if let Some(claims) = &mut self.claims {
            claims.release(name);
        }
    }

    fn name_of(&self, (at, index): (usize, u32)) -> ShardName {
        ShardName { group: self.shards.group(at).name.clone(), index }
    }

    fn hear_ask(&mut self, from: NodeId, number: u32, key: Key, lent: &mut ShardingCtx<'_>) {
        let Some(at) = self.shards.at(key) else {
            // Whoever does not know the group has nothing to hand over.
            if let Some(cluster) = &mut lent.cluster {
                cluster.deliver(from, number, key, None, lent.ctx.now);
            }
            return;
        };
        self.shards.place_mut(at).asked = Some((from, number));
        if self.held_at(at).is_none() {
            self.tell_who_asked(at, lent);
        }
    }

    /// A shard does not run here: whoever asked for it is told so, with the newest snapshot that is
    /// known.
    fn tell_who_asked(&mut self, at: (usize, u32), lent: &mut ShardingCtx<'_>) {
        let key = self.shards.group(at.0).key(at.1);
        let place = self.shards.place_mut(at);
        place.owes &= place.asked.is_none();
        if let (Some((who, number)), Some(cluster)) = (place.asked.take(), &mut lent.cluster) {
            cluster.deliver(who, number, key, self.replicas.newest(key).cloned(), lent.ctx.now);
        }
    }

    /// Names the heirs of what runs here anew, and forgets snapshots that are of no use here any
    /// more.
    fn name_heirs(&mut self, lent: &mut ShardingCtx<'_>) {
        let Some(cluster) = &lent.cluster else { return };
        let (me, now) = (cluster.me(), lent.ctx.now);
        let mut sharings: BTreeMap<u64, ShardGroupLayout> = BTreeMap::new();
        for group in self.shards.groups() {
            let Some(sharing) = ShardGroupLayout::among(cluster.membership().members(), group.hash) else { continue };
            for index in group.running() {
                self.replicas.inherits(group.key(index), heir(&sharing, group.key(index), me), now);
            }
            sharings.insert(group.hash, sharing);
        }
        let shards = &self.shards;
        self.replicas.retain(|key| {
            let Some(at) = shards.at(key) else { return false };
            let place = shards.place(at);
            let owner = place.owner.map(|(node, _)| node);
            let inherits = |sharing: &ShardGroupLayout| owner.is_none_or(|owner| heir(sharing, key, owner) == Some(me));
            place.here != Here::No || place.asked.is_some() || sharings.get(&key.0).is_none_or(inherits)
        });
    }

    fn name_heir(&mut self, at: (usize, u32), lent: &ShardingCtx<'_>) {
        let Some(cluster) = &lent.cluster else { return };
        let key = self.shards.group(at.0).key(at.1);
        let sharing = ShardGroupLayout::among(cluster.membership().members(), key.0);
        let heir = sharing.and_then(|sharing| heir(&sharing, key, cluster.me()));
        self.replicas.inherits(key, heir, lent.ctx.now);
    }
}

/// Who would own a shard without its owner.
fn heir(sharing: &ShardGroupLayout, (group, index): Key, owner: NodeId) -> Option<NodeId> {
    rendezvous::owner(group, index, sharing.owners_of(index).filter(|(node, _)| *node != owner))
}
