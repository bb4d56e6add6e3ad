//! Which node runs a shard, and how the shard gets from one node to another.
//!
//! The view of the members names the owner of each shard (`assignment`). The owner that loses a
//! shard stops it, then sends its last snapshot to the new owner (`snapshots`). The new owner waits
//! for that, for a bounded time. Where there is an authority, it also waits until the authority
//! grants the shard (`claims`).
//!
//! - **Given up**: this node stops the shard and releases it at the authority. Once the authority
//!   has answered, the node that requested the shard receives its last snapshot.
//! - **Taken over**: the new owner asks the previous owner, if that may be alive, and waits for it
//!   for `ownership.hand_over_timeout`. With a quorum it waits until each member has answered or is
//!   gone. Then it claims the shard, and starts it under the authority's epoch, or without an
//!   authority under that of the logical clock, from the newest snapshot that this node knows.
//!   `ownership.starts` shards start at once. The next ones follow when these are up, or after
//!   50 ms.
//! - **While it runs**, its snapshots are replicated to its successor.
//!
//! A node without a session at the authority publishes that it supervises no sharded group. So the
//! other members own its shards, and it takes none from them.
//!
//! A shard whose worker supervision gave up is *declined*: another member owns it for a while. A
//! shard that all members decline has no owner, and holds up no other shard.
//!
//! A change of the view only marks the owners as stale. `advance` recomputes them in one loop, then
//! moves the shards on; nothing here recurses.
//!
//! This module does not restart workers that fail: supervision does, and neither owner nor epoch
//! changes then.

mod assignment;
mod claims;
pub mod rendezvous;
pub(crate) mod routes;
mod snapshots;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::assignment::{
    Action, Assignment, Changes, ClaimState, LocalGroup, LocalState, Pending, PlacementInput, PreviousOwners, ShardRef,
    successor,
};
use self::claims::{Claims, Outcome, is_current_token};
use self::snapshots::Snapshots;
use crate::authority::{AuthorityResponse, Claimed, ShardName};
use crate::config::Config;
use crate::ctx::Ctx;
use crate::event::Event;
use crate::member::{Child, Epoch, Generation, LOCAL_NAME, NodeId, Shard, ShardKey, WorkerId};
use crate::membership::{Cluster, ShardMessage};
use crate::sharding::routes::ShardGroupLayout;
use crate::supervision::Supervision;
use crate::time::{Instant, earliest};

/// How long a shard that starts counts against `ownership.starts`, unless it is up before.
const START_INTERVAL: Duration = Duration::from_millis(50);

/// How long a node declines a shard whose worker supervision has given up.
const DECLINE_FOR: Duration = Duration::from_secs(300);

/// Requests to a previous owner in one interval between heartbeats.
const REQUESTS_PER_INTERVAL: u32 = 4;

/// Up to this many shards in transition are scanned after each input. A look at one takes some
/// hundred nanoseconds.
const SCAN_ALWAYS_MAX: usize = 256;

/// How often more than that are scanned: little beside the time that a hand-over takes.
const SCAN_INTERVAL: Duration = Duration::from_millis(20);

/// The shards that this node owns or is about to own.
#[derive(Clone, Debug)]
pub(crate) struct Sharding {
    assignment: Assignment,
    claims: Option<Claims>,
    snapshots: Snapshots,
    recompute: Recompute,
    /// Shards that were started and may not be up yet, with when that was, in this order.
    starting: VecDeque<(Instant, WorkerId)>,
    /// Shards whose release the authority has not answered yet. Their new owners are answered then:
    /// a claim that comes before the release is of no use.
    releasing: BTreeSet<ShardRef>,
    /// Shards whose release was answered since the last scan.
    released: Vec<ShardRef>,
    /// The number of the next request to previous owners.
    request_number: u32,
    /// This node leaves, and hands its shards over.
    is_leaving: bool,
    /// When `advance` has something to do next.
    due: Instant,
    /// When all shards in transition were last scanned.
    scanned_at: Instant,
    /// A session is over, and workers of shards that ran under it have not stopped yet. Until they
    /// have, a new session gives no right: it would make their leases valid again.
    is_revoked: bool,
    /// Until when this node may act, where neither an authority nor a quorum says so.
    own_lease_until: Instant,
    /// The shards that this node declines, in the order in which that ends.
    declined_until: VecDeque<(Instant, ShardKey)>,
    /// The same, by group.
    declined: BTreeMap<u64, BTreeSet<u32>>,
    /// The epoch of all shards without a cluster, where no other node can own them.
    sole_epoch: Epoch,
}

/// Whether the owners are to be recomputed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Recompute {
    No,
    Now,
    /// The view changed while it was incomplete: once it is complete.
    OnceSynced,
}

/// What one scan of the shards in transition sends.
#[derive(Default)]
struct Batch {
    /// Indexes that are requested from previous owners, by node, group and number of the request.
    requests: BTreeMap<(NodeId, u64, u32), Vec<u32>>,
    /// Shards that are claimed at the authority.
    claims: Vec<ShardName>,
}

/// What the rest of the node lends while shards move.
pub(crate) struct ShardingCtx<'a> {
    pub(crate) cluster: Option<&'a mut Cluster>,
    pub(crate) supervision: &'a mut Supervision,
    pub(crate) ctx: &'a mut Ctx,
}

impl Sharding {
    pub(crate) fn new(config: &Config, generation: Generation, now: Instant) -> Sharding {
        Sharding {
            assignment: Assignment::default(),
            // Without a cluster no other node can own a shard, so no authority is asked.
            claims: config.cluster.as_ref().and_then(|_| Claims::new(&config.ownership, now)),
            snapshots: Snapshots::default(),
            recompute: Recompute::No,
            starting: VecDeque::new(),
            releasing: BTreeSet::new(),
            released: Vec::new(),
            request_number: 0,
            is_leaving: false,
            due: Instant::NEVER,
            scanned_at: Instant::ZERO,
            is_revoked: false,
            own_lease_until: now + config.timeout,
            declined_until: VecDeque::new(),
            declined: BTreeMap::new(),
            sole_epoch: Epoch::at(generation.0, 0).max(Epoch(config.ownership.epoch_min.saturating_add(1))),
        }
    }

    // ---- inputs ---------------------------------------------------------------------------------

    /// Adds a group whose shard `i` is worker `first + i`.
    pub(crate) fn add_group(&mut self, name: Arc<str>, first: WorkerId, count: u32) {
        self.assignment.add(name, first, count);
    }

    /// This node leaves: from now on each shard that it gives up waits for the request of its new
    /// owner until the leave itself is over.
    pub(crate) fn begin_leaving(&mut self) {
        self.is_leaving = true;
    }

    /// Recomputes the owners, since the view may have changed.
    pub(crate) fn recompute_owners(&mut self, node: &mut ShardingCtx<'_>) {
        self.recompute = Recompute::Now;
        self.advance(node);
    }

    /// Gives up all shards of this node: it has no right to run them any more.
    pub(crate) fn revoke_all(&mut self, node: &mut ShardingCtx<'_>) {
        let Some(cluster) = &node.cluster else { return };
        let changes = self.assignment.revoke_all(cluster.me(), cluster.table());
        self.execute(changes, node);
        self.advance(node);
    }

    /// Does what is due: renews the session, recomputes stale owners, and moves the shards on that
    /// can move. Called after each input.
    pub(crate) fn advance(&mut self, node: &mut ShardingCtx<'_>) {
        loop {
            if self.recompute == Recompute::Now && !self.apply_view(node) {
                return;
            }
            self.update_right(node);
            match self.recompute {
                Recompute::Now => {}
                Recompute::No | Recompute::OnceSynced => break,
            }
        }
        self.move_shards(node);
    }

    /// Extends this node's own lease by one `timeout`: no member declares it dead for its silence
    /// before that.
    pub(crate) fn renew_own_lease(&mut self, ctx: &Ctx) {
        self.own_lease_until = ctx.now + ctx.config.timeout;
    }

    /// Ends the session at the authority if its time is over. Called before any other input, since
    /// a pause of this process may have outlasted it. Returns whether it has ended.
    pub(crate) fn expire_session(&mut self, ctx: &mut Ctx) -> bool {
        let is_over = self.claims.as_mut().is_some_and(|claims| claims.expire(ctx) == Outcome::SessionLost);
        if is_over {
            self.lose_session();
        }
        is_over
    }

    /// Handles an answer of the authority. Returns whether this node has to give up all its shards.
    pub(crate) fn handle_answer(
        &mut self,
        number: u64,
        answer: Result<AuthorityResponse, &str>,
        ctx: &mut Ctx,
    ) -> bool {
        let Some(claims) = &mut self.claims else { return false };
        let reclaim_at = ctx.now + claims.reclaim_delay();
        match claims.handle_answer(number, answer, ctx) {
            Outcome::Nothing | Outcome::SessionBegan => false,
            Outcome::SessionLost => {
                self.lose_session();
                true
            }
            Outcome::Released(names) => {
                for at in names.iter().filter_map(|name| self.assignment.find_named(&name.group, name.index)) {
                    self.released.extend(self.releasing.take(&at));
                }
                false
            }
            Outcome::Claimed { results, is_stale } => {
                let reclaim_at = if is_stale { ctx.now } else { reclaim_at };
                for (name, result) in results {
                    self.handle_claim_result(&name, result, reclaim_at, ctx);
                }
                false
            }
            Outcome::Unknown(names) => {
                for name in names {
                    match self.assignment.find_named(&name.group, name.index) {
                        Some(at) if self.set_claim(at, ClaimState::DueAt(reclaim_at)) => {}
                        Some(_) | None => self.release(name),
                    }
                }
                false
            }
        }
    }

    /// The session is over, and what was released under it with it.
    fn lose_session(&mut self) {
        self.is_revoked = true;
        self.released.extend(std::mem::take(&mut self.releasing));
    }

    /// Another node has released shards: a shard that was found held may be free.
    pub(crate) fn handle_freed(&mut self, now: Instant) {
        if let Some(claims) = &mut self.claims {
            claims.recheck_session(now);
        }
        for &at in &self.assignment.in_transition.clone() {
            let local = &mut self.assignment.shard_mut(at).local;
            if let LocalState::Pending(Pending { claim: claim @ ClaimState::DueAt(_), .. }) = local {
                *claim = ClaimState::DueAt(Instant::ZERO);
            }
        }
        self.due = Instant::ZERO;
    }

    /// Handles a new snapshot of a worker. It is dropped if the worker is no shard, or one that
    /// does not run.
    pub(crate) fn handle_snapshot(&mut self, worker: WorkerId, version: u32, bytes: Arc<[u8]>, ctx: &Ctx) {
        let Some(at) = self.assignment.find_worker(worker) else { return };
        let Some(epoch) = self.assignment.shard(at).epoch() else { return };
        let (key, every) = (self.assignment.key(at), ctx.config.ownership.copy_every);
        self.snapshots.record(key, epoch, version, bytes, ctx.now, every);
    }

    /// Handles what another node sent about shards.
    pub(crate) fn handle_shard_message(&mut self, message: ShardMessage, node: &mut ShardingCtx<'_>) {
        match message {
            ShardMessage::Requested { from, number, group, indexes } => {
                for index in indexes {
                    self.handle_request(from, number, ShardKey { group, index }, node);
                }
            }
            ShardMessage::Received { from, number, key, snapshot } => {
                let Some(at) = self.assignment.find(key) else { return };
                // Under the epoch at which a shard runs here, only this node makes snapshots.
                let epoch = self.assignment.shard(at).epoch();
                if let Some(snapshot) = snapshot.filter(|snapshot| epoch != Some(snapshot.epoch)) {
                    if self.assignment.shard(at).may_have_snapshot(from, number) {
                        self.snapshots.keep(key, snapshot);
                    } else {
                        self.snapshots.withhold(key, from, snapshot, node.ctx.now);
                    }
                }
                self.handle_stopped_elsewhere(at, from, number);
            }
            ShardMessage::Refused { by, key, bytes } => {
                let Some(at) = self.assignment.find(key) else { return };
                let group = self.assignment.group(at.group).name.clone();
                node.ctx.emit(Event::ReplicaRefused { group, index: at.index, by, bytes });
            }
        }
        self.advance(node);
    }

    /// Starts the worker of a shard again, as that shard and under its epoch, if this node runs the
    /// shard and the worker is down. On any other node nothing happens.
    pub(crate) fn restart_worker(&mut self, child: Child, node: &mut ShardingCtx<'_>) {
        let Child::Worker(worker) = child else { return };
        let Some(at) = self.assignment.find_worker(worker) else { return };
        if let LocalState::Running(epoch) = self.assignment.shard(at).local
            && !node.supervision.is_up_or_starting(worker)
        {
            let snapshot = self.snapshots.newest(self.assignment.key(at)).cloned();
            node.supervision.start_shard(worker, Shard { index: at.index, epoch }, snapshot, node.ctx);
        }
    }

    // ---- questions ------------------------------------------------------------------------------

    /// The owner of a shard by the view, and its epoch.
    pub(crate) fn owner(&self, group: &str, index: u32) -> Option<(NodeId, Epoch)> {
        self.assignment.owner(group, index)
    }

    /// The epoch under which a shard runs here, until it has stopped; `None` if it does not.
    pub(crate) fn running_epoch(&self, group: &str, index: u32) -> Option<Epoch> {
        self.assignment.shard(self.assignment.find_named(group, index)?).epoch()
    }

    /// Whether a worker is a shard. Then this module starts and stops it.
    pub(crate) fn is_shard(&self, child: Child) -> bool {
        match child {
            Child::Worker(worker) => self.assignment.find_worker(worker).is_some(),
            Child::Group(_) => false,
        }
    }

    /// Until when this node may act for the shards that run here, unless that is renewed; long ago
    /// if it may not. `None` without a cluster, where the right has no end.
    pub(crate) fn lease_until(&self, cluster: Option<&Cluster>) -> Option<Instant> {
        let cluster = cluster?;
        let authority = self.claims.as_ref().map(|claims| if self.is_revoked { Instant::ZERO } else { claims.until() });
        Some(authority.or_else(|| cluster.lease_until()).unwrap_or(self.own_lease_until))
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        let claims = self.claims.as_ref().map(Claims::next_due);
        let declined = self.declined_until.front().map(|(until, _)| *until);
        let due = earliest(self.due, [claims, declined, self.snapshots.next_due()]);
        (due != Instant::NEVER).then_some(due)
    }

    /// Whether no shard runs here or is on its way any more, the authority has all of them back,
    /// and the new owners have received their snapshots.
    pub(crate) fn is_handed_over(&self, cluster: &Cluster, now: Instant) -> bool {
        let is_member = |id| cluster.table().member(id).is_some_and(|member| member.status.is_member());
        let is_done = |group: &LocalGroup| !group.is_any_running() && !group.is_handover_pending(now, is_member);
        cluster.has_delivered()
            && self.releasing.is_empty()
            && self.assignment.in_transition.is_empty()
            && self.assignment.groups().iter().all(is_done)
    }

    /// How many shards run here or are on their way, or have yet to be sent to their new owner.
    pub(crate) fn unfinished(&self, cluster: &Cluster, now: Instant) -> u32 {
        let is_member = |id| cluster.table().member(id).is_some_and(|member| member.status.is_member());
        let here: usize = self.assignment.groups().iter().map(|group| group.unfinished(now, is_member)).sum();
        u32::try_from(here.saturating_add(cluster.undelivered())).unwrap_or(u32::MAX)
    }

    /// Whether this node may own shards as far as the authority is concerned.
    fn has_right(&self, now: Instant) -> bool {
        !self.is_revoked && self.claims.as_ref().is_none_or(|claims| claims.until() > now)
    }

    /// Whether a worker of a shard has yet to stop.
    fn is_any_stopping(&self, supervision: &Supervision) -> bool {
        self.assignment.in_transition.iter().any(|&at| {
            let is_stopping = matches!(self.assignment.shard(at).local, LocalState::Stopping { .. });
            is_stopping && !supervision.is_down(self.assignment.worker(at))
        })
    }

    /// The highest epoch of a shard that this node knows.
    fn epoch_max(&self, at: ShardRef) -> Epoch {
        let seen = self.snapshots.newest(self.assignment.key(at)).map(|snapshot| snapshot.epoch);
        self.assignment.shard(at).epoch_max.max(seen.unwrap_or_default())
    }

    fn shard_name(&self, at: ShardRef) -> ShardName {
        ShardName { group: self.assignment.group(at.group).name.clone(), index: at.index }
    }

    // ---- owners ---------------------------------------------------------------------------------

    /// Recomputes the owners from the present view and carries out what follows. Returns `false` if
    /// the view is incomplete and shards may stay where they are meanwhile.
    fn apply_view(&mut self, node: &mut ShardingCtx<'_>) -> bool {
        self.recompute = Recompute::No;
        let Some(cluster) = &mut node.cluster else {
            self.assignment.own_all(self.sole_epoch);
            return true;
        };
        let (me, now) = (cluster.me(), node.ctx.now);
        let changes = if cluster.may_find_owners(now) {
            self.request_number = self.request_number.wrapping_add(1).max(1);
            // With an authority its grant proves that no other node had the shard meanwhile.
            let transient_owners = cluster.take_transient_owners();
            let transient_owners = if self.claims.is_some() { &[][..] } else { &transient_owners[..] };
            let epoch = cluster.next_epoch(Epoch::default(), now);
            // With a quorum a shard may run in one place only, and no authority says which node has
            // stopped it: only that node can, or its death.
            let is_exclusive = cluster.lease_until().is_some();
            let hand_over_until = now + node.ctx.config.ownership.hand_over_timeout;
            let until = if is_exclusive { Instant::NEVER } else { hand_over_until };
            let handover_until = if self.is_leaving { Instant::NEVER } else { hand_over_until };
            let (table, number) = (cluster.table(), self.request_number);
            let input =
                PlacementInput { me, table, transient_owners, epoch, now, until, number, handover_until, is_exclusive };
            self.assignment.recompute_owners(&input)
        } else {
            self.recompute = Recompute::OnceSynced;
            if !cluster.delays_starts() {
                return false;
            }
            // What this node has lost need not wait.
            self.assignment.release_lost(me, cluster.table())
        };
        let assignment = &self.assignment;
        self.snapshots.admit_withheld(|key, sender| {
            assignment.find(key).is_some_and(|at| assignment.shard(at).may_have_snapshot(sender, 0))
        });
        self.execute(changes, node);
        true
    }

    /// Carries out what follows from a view.
    fn execute(&mut self, changes: Changes, node: &mut ShardingCtx<'_>) {
        for at in changes.withdrawn {
            let name = self.shard_name(at);
            self.release(name);
        }
        for action in changes.actions {
            match action {
                Action::Stop { worker } => node.supervision.stop_shard(worker, node.ctx),
                Action::Emit(event) => node.ctx.emit(event),
            }
        }
        self.update_successors(node);
    }

    /// Renews the session and publishes what this node may own. Marks the owners as stale if that
    /// has changed, or if the view has become complete.
    fn update_right(&mut self, node: &mut ShardingCtx<'_>) {
        let now = node.ctx.now;
        if let Some(claims) = &mut self.claims {
            claims.handle_timeout(node.ctx);
        }
        self.is_revoked = self.is_revoked && self.is_any_stopping(node.supervision);
        let has_right = self.has_right(now);
        let is_right_new = match &mut node.cluster {
            Some(cluster) if self.claims.is_some() => match has_right {
                true => cluster.publish_groups(node.ctx),
                false => cluster.withhold_groups(node.ctx),
            },
            Some(_) | None => false,
        };
        let is_synced = |cluster: &&mut Cluster| cluster.may_find_owners(now);
        if is_right_new
            || self.update_declined(node)
            || self.recompute == Recompute::OnceSynced && node.cluster.as_ref().is_some_and(is_synced)
        {
            self.recompute = Recompute::Now;
        }
    }

    /// Declines the shards whose workers supervision has given up, so that other members try them,
    /// and no longer declines those whose time is over. Returns whether that changes owners.
    fn update_declined(&mut self, node: &mut ShardingCtx<'_>) -> bool {
        let given_up = node.supervision.take_given_up();
        let Some(cluster) = &mut node.cluster else { return false };
        let mut changed = BTreeSet::new();
        for worker in given_up {
            let Some(at) = self.assignment.find_worker(worker) else { continue };
            let key = self.assignment.key(at);
            if cluster.own_group(key.group).is_some() && self.declined.entry(key.group).or_default().insert(key.index) {
                self.declined_until.push_back((node.ctx.now + DECLINE_FOR, key));
                changed.insert(key.group);
            }
        }
        while self.declined_until.front().is_some_and(|(until, _)| *until <= node.ctx.now)
            && let Some((_, key)) = self.declined_until.pop_front()
        {
            self.declined.entry(key.group).or_default().remove(&key.index);
            changed.insert(key.group);
        }
        if changed.is_empty() {
            return false;
        }
        cluster.set_declined(&self.declined, node.ctx);
        for hash in changed {
            let Some(group) = self.assignment.groups().iter().find(|group| group.hash == hash) else { continue };
            let declined = self.declined.get(&hash).map_or(0, BTreeSet::len) as u32;
            let published = cluster.own_group(hash).map_or(0, |group| group.declined.len(group.count));
            let withheld = published.saturating_sub(declined);
            node.ctx.emit(Event::Declined { group: group.name.clone(), declined, withheld });
        }
        true
    }

    // ---- on the way -----------------------------------------------------------------------------

    /// Moves on the shards in transition, and sends the snapshots and claims that are due.
    fn move_shards(&mut self, node: &mut ShardingCtx<'_>) {
        let now = node.ctx.now;
        for at in std::mem::take(&mut self.released) {
            self.reply_if_stopped(at, node);
        }
        // This runs after nearly every input, and hardly ever is a shard in transition. Many are
        // scanned a few times a second only: one scan for each worker that stops would make the
        // time of a leave grow with the square of the shards.
        let next_scan = self.scanned_at + SCAN_INTERVAL;
        let claims = if self.assignment.in_transition.len() > SCAN_ALWAYS_MAX && now < next_scan {
            self.due = self.due.min(next_scan);
            Vec::new()
        } else {
            self.due = Instant::NEVER;
            self.scanned_at = now;
            if self.assignment.in_transition.is_empty() { Vec::new() } else { self.scan(node) }
        };
        if let Some(cluster) = &mut node.cluster {
            for (name, generation) in cluster.take_exited_processes() {
                if let Some(claims) = &mut self.claims {
                    claims.evict(name, generation);
                }
            }
            let limits = &node.ctx.config.ownership;
            cluster.set_room(limits.copies_bytes_max.saturating_sub(self.snapshots.bytes()), limits.snapshot_bytes_max);
            for (successor, key, snapshot) in self.snapshots.pop_due(now) {
                cluster.send_snapshot(successor, 0, key, Some(snapshot), now);
            }
        }
        if !claims.is_empty() {
            self.claim(claims, node);
        }
    }

    /// Moves on all shards in transition. Returns those that are to be claimed.
    fn scan(&mut self, node: &mut ShardingCtx<'_>) -> Vec<ShardName> {
        let (now, supervision) = (node.ctx.now, &*node.supervision);
        self.starting.retain(|(since, worker)| *since + START_INTERVAL > now && supervision.is_starting(*worker));
        let in_transition: Vec<ShardRef> = self.assignment.in_transition.iter().copied().collect();
        let mut batch = Batch::default();
        for at in in_transition {
            self.move_shard(at, &mut batch, node);
        }
        if let Some(cluster) = &mut node.cluster {
            for ((previous, group, number), indexes) in batch.requests {
                cluster.request_shards(previous, number, group, &indexes);
            }
        }
        batch.claims
    }

    /// Moves on one shard in transition.
    fn move_shard(&mut self, at: ShardRef, batch: &mut Batch, node: &mut ShardingCtx<'_>) {
        match self.assignment.shard(at).local.clone() {
            LocalState::NotOwned | LocalState::Running(_) => drop(self.assignment.in_transition.remove(&at)),
            LocalState::Stopping { resume, .. } => {
                if !node.supervision.is_down(self.assignment.worker(at)) {
                    return;
                }
                self.snapshots.stop_replicating(self.assignment.key(at));
                self.assignment.shard_mut(at).local = LocalState::NotOwned;
                if resume.is_none() {
                    let name = self.shard_name(at);
                    self.release(name);
                }
                self.reply_if_stopped(at, node);
                match resume {
                    Some(pending) => self.move_pending(at, pending, batch, node),
                    None => drop(self.assignment.in_transition.remove(&at)),
                }
            }
            LocalState::Pending(pending) => self.move_pending(at, pending, batch, node),
        }
    }

    /// Moves on one shard that this node owns and has not started.
    fn move_pending(&mut self, at: ShardRef, mut pending: Pending, batch: &mut Batch, node: &mut ShardingCtx<'_>) {
        let now = node.ctx.now;
        pending.previous = pending.previous.and_then(|previous| self.ask_previous_owners(previous, at, batch, node));
        let is_claimable = self.assignment.shard(at).was_ours
            || self.claims.as_ref().is_none_or(|claims| claims.is_takeover_allowed(now));
        if let (Some(authority), ClaimState::DueAt(claim_at)) = (&self.claims, pending.claim)
            && self.has_right(now)
            && is_claimable
            // The previous owner has it until it says otherwise, and a claim would find it held.
            && pending.previous.is_none()
        {
            if authority.is_claiming() || authority.is_release_in_flight(&self.shard_name(at)) {
                // The answer leads to another scan.
            } else if claim_at <= now {
                pending.claim = ClaimState::Sent;
                batch.claims.push(self.shard_name(at));
            } else {
                self.due = self.due.min(claim_at);
            }
        }
        let (is_free, claim) = (pending.previous.is_none(), pending.claim);
        self.assignment.shard_mut(at).local = LocalState::Pending(pending);
        let granted = match (&self.claims, claim) {
            _ if !is_free => return,
            (None, _) => None,
            (Some(_), ClaimState::Granted(epoch)) => Some(epoch),
            (Some(_), ClaimState::DueAt(_) | ClaimState::Sent) => return,
        };
        if self.take_start_slot(self.assignment.worker(at), node.ctx) {
            self.start(at, granted, node);
        }
    }

    /// Asks the nodes that may still run a shard, when that is due. Returns those that are still to
    /// be waited for.
    fn ask_previous_owners(
        &mut self,
        mut previous: PreviousOwners,
        at: ShardRef,
        batch: &mut Batch,
        node: &ShardingCtx<'_>,
    ) -> Option<PreviousOwners> {
        let (now, key) = (node.ctx.now, self.assignment.key(at));
        let table = node.cluster.as_ref().map(|cluster| cluster.table())?;
        previous.nodes.retain(|id| table.member(*id).is_some_and(|member| member.status.is_member()));
        if previous.nodes.is_empty() || previous.until <= now {
            return None;
        }
        if previous.ask_at <= now {
            previous.ask_at = now + node.ctx.config.interval / REQUESTS_PER_INTERVAL;
            for &id in &previous.nodes {
                batch.requests.entry((id, key.group, previous.number)).or_default().push(key.index);
            }
        }
        self.due = self.due.min(previous.ask_at).min(previous.until);
        Some(previous)
    }

    /// Another node answers the request of this number: a shard does not run there.
    fn handle_stopped_elsewhere(&mut self, at: ShardRef, from: NodeId, number: u32) {
        if let LocalState::Pending(Pending { previous: waited_for @ Some(_), .. }) =
            &mut self.assignment.shard_mut(at).local
            && let Some(previous) = waited_for.as_mut().filter(|previous| previous.number == number)
        {
            previous.nodes.retain(|node| *node != from);
            if previous.nodes.is_empty() {
                *waited_for = None;
            }
        }
    }

    /// Whether one more shard may start now. If not, another look is due when the first of those
    /// that start no longer counts; one that is up is noticed before.
    fn take_start_slot(&mut self, worker: WorkerId, ctx: &Ctx) -> bool {
        match self.starting.front() {
            Some((since, _)) if self.starting.len() >= ctx.config.ownership.starts as usize => {
                self.due = self.due.min(*since + START_INTERVAL);
                false
            }
            Some(_) | None => {
                self.starting.push_back((ctx.now, worker));
                true
            }
        }
    }

    /// Starts a shard, under the epoch that the authority granted or the logical clock gives.
    fn start(&mut self, at: ShardRef, granted: Option<Epoch>, node: &mut ShardingCtx<'_>) {
        let (worker, key) = (self.assignment.worker(at), self.assignment.key(at));
        let group = self.assignment.group(at.group).name.clone();
        let epoch_max = self.epoch_max(at);
        let epoch = match (granted, &mut node.cluster) {
            (Some(epoch), cluster) => {
                if let Some(cluster) = cluster {
                    cluster.note_epoch(epoch);
                }
                epoch
            }
            // Above every epoch of a previous owner that this node knows.
            (None, Some(cluster)) => cluster.next_epoch(epoch_max, node.ctx.now),
            (None, None) => self.sole_epoch,
        };
        let shard = Shard { index: at.index, epoch };
        let state = self.assignment.shard_mut(at);
        let announced = state.owner.map(|(_, epoch)| epoch);
        state.local = LocalState::Running(epoch);
        state.epoch_max = epoch.max(state.epoch_max);
        state.was_ours = false;
        if let Some((_, known)) = &mut state.owner {
            *known = epoch;
        }
        self.assignment.in_transition.remove(&at);
        match &node.cluster {
            Some(_) if announced == Some(epoch) => {}
            Some(cluster) => {
                let me = cluster.table().member(cluster.me()).map(|member| member.name.clone());
                node.ctx.emit(Event::ShardMoved { group, shard, from: me.clone(), to: me });
            }
            None => node.ctx.emit(Event::ShardMoved { group, shard, from: None, to: Some(LOCAL_NAME.into()) }),
        }
        let snapshot = self.snapshots.newest(key).cloned();
        node.supervision.start_shard(worker, shard, snapshot, node.ctx);
        self.update_successor(at, node);
    }

    // ---- the authority --------------------------------------------------------------------------

    /// Claims shards at the authority, under epochs above all that this node knows of them.
    fn claim(&mut self, shards: Vec<ShardName>, node: &mut ShardingCtx<'_>) {
        let named = shards.iter().filter_map(|shard| self.assignment.find_named(&shard.group, shard.index));
        let known: Vec<ShardRef> = named.collect();
        let epoch_max = known.iter().map(|at| self.epoch_max(*at)).max().unwrap_or_default();
        // A release that was not sent yet is not sent any more.
        self.releasing.retain(|at| !known.contains(at));
        if let (Some(authority), Some(cluster)) = (&mut self.claims, &mut node.cluster) {
            let floor = cluster.next_epoch(epoch_max, node.ctx.now);
            authority.claim(shards, floor, node.ctx);
        }
    }

    fn handle_claim_result(&mut self, name: &ShardName, result: Claimed, reclaim_at: Instant, ctx: &mut Ctx) {
        let Some(at) = self.assignment.find_named(&name.group, name.index) else { return };
        match result {
            Claimed::Granted(epoch) => {
                let highest = self.epoch_max(at);
                if !is_current_token(epoch, highest) {
                    let (group, shard) = (name.group.clone(), Shard { index: name.index, epoch });
                    ctx.emit(Event::TokenRefused { group, shard, highest });
                    self.release(name.clone());
                    self.set_claim(at, ClaimState::DueAt(reclaim_at + ctx.config.ownership.session_ttl));
                } else if !self.set_claim(at, ClaimState::Granted(epoch)) && self.assignment.shard(at).epoch().is_none()
                {
                    // This node does not own it any more.
                    self.release(name.clone());
                }
            }
            Claimed::Held { .. } => drop(self.set_claim(at, ClaimState::DueAt(reclaim_at))),
        }
    }

    /// Sets how far the claim of a shard is; returns `false` if no claim of it was under way.
    fn set_claim(&mut self, at: ShardRef, to: ClaimState) -> bool {
        self.due = Instant::ZERO;
        match &mut self.assignment.shard_mut(at).local {
            LocalState::Pending(Pending { claim, .. }) if *claim == ClaimState::Sent => {
                *claim = to;
                true
            }
            LocalState::Pending(_) | LocalState::NotOwned | LocalState::Running(_) | LocalState::Stopping { .. } => {
                false
            }
        }
    }

    fn release(&mut self, name: ShardName) {
        let Some(claims) = &mut self.claims else { return };
        if claims.is_answering() {
            self.releasing.extend(self.assignment.find_named(&name.group, name.index));
        }
        claims.release(name);
    }

    // ---- snapshots ------------------------------------------------------------------------------

    /// Handles the request of a new owner: it is answered once the shard does not run here, and is
    /// free at the authority.
    fn handle_request(&mut self, from: NodeId, number: u32, key: ShardKey, node: &mut ShardingCtx<'_>) {
        let Some(at) = self.assignment.find(key) else {
            // A node without the group has nothing to hand over.
            if let Some(cluster) = &mut node.cluster {
                cluster.send_snapshot(from, number, key, None, node.ctx.now);
            }
            return;
        };
        self.assignment.shard_mut(at).requested_by = Some((from, number));
        self.reply_if_stopped(at, node);
    }

    fn reply_if_stopped(&mut self, at: ShardRef, node: &mut ShardingCtx<'_>) {
        if self.assignment.shard(at).epoch().is_none() && !self.releasing.contains(&at) {
            self.reply_to_requester(at, node);
        }
    }

    /// Answers the node that requested a shard, now that the shard does not run here: with the
    /// newest snapshot that this node knows.
    fn reply_to_requester(&mut self, at: ShardRef, node: &mut ShardingCtx<'_>) {
        let key = self.assignment.key(at);
        let state = self.assignment.shard_mut(at);
        if state.requested_by.is_some() {
            state.handover_until = None;
        }
        if let (Some((requester, number)), Some(cluster)) = (state.requested_by.take(), &mut node.cluster) {
            cluster.send_snapshot(requester, number, key, self.snapshots.newest(key).cloned(), node.ctx.now);
        }
    }

    /// Finds the successors of the shards that run here, and drops the snapshots that are of no use
    /// here any more.
    fn update_successors(&mut self, node: &mut ShardingCtx<'_>) {
        let Some(cluster) = &node.cluster else { return };
        let (me, now) = (cluster.me(), node.ctx.now);
        let mut layouts: BTreeMap<u64, ShardGroupLayout> = BTreeMap::new();
        for group in self.assignment.groups() {
            let Some(layout) = ShardGroupLayout::among(cluster.table().members(), group.hash) else { continue };
            for index in group.running() {
                self.snapshots.set_successor(group.key(index), successor(&layout, group.key(index), me), now);
            }
            layouts.insert(group.hash, layout);
        }
        let assignment = &self.assignment;
        self.snapshots.retain(|key| {
            let Some(at) = assignment.find(key) else { return false };
            let state = assignment.shard(at);
            let owner = state.owner.map(|(node, _)| node);
            let is_successor =
                |layout: &ShardGroupLayout| owner.is_none_or(|owner| successor(layout, key, owner) == Some(me));
            state.local != LocalState::NotOwned
                || state.requested_by.is_some()
                || layouts.get(&key.group).is_none_or(is_successor)
        });
    }

    fn update_successor(&mut self, at: ShardRef, node: &ShardingCtx<'_>) {
        let Some(cluster) = &node.cluster else { return };
        let key = self.assignment.key(at);
        let layout = ShardGroupLayout::among(cluster.table().members(), key.group);
        let successor = layout.and_then(|layout| successor(&layout, key, cluster.me()));
        self.snapshots.set_successor(key, successor, node.ctx.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::monitor::Monitor;
    use crate::random::Random;
    use crate::supervision::{Report, Supervise};

    /// A node without a cluster, with one group of `count` shards, `starts` of which may start at
    /// once. None is up before a test says so.
    struct Node {
        sharding: Sharding,
        supervision: Supervision,
        ctx: Ctx,
        count: u32,
    }

    impl Node {
        fn new(count: u32, starts: u32) -> Node {
            let mut config = Config::default();
            config.ownership.starts = starts;
            let (now, random) = (Instant::ZERO, Random::seeded(1));
            let monitor = Monitor::new(now);
            let mut ctx = Ctx { now, arrivals_stale: false, config, random, monitor, outputs: VecDeque::new() };
            let mut sharding = Sharding::new(&ctx.config, Generation(7), now);
            sharding.add_group("orders".into(), WorkerId(0), count);
            let mut supervision = Supervision::new(&mut ctx);
            for index in 0..count {
                supervision.add_worker(Supervise::new(WorkerId(index), format!("orders/{index}"), 1));
            }
            Node { sharding, supervision, ctx, count }
        }

        fn recompute_owners(&mut self) {
            let (supervision, ctx) = (&mut self.supervision, &mut self.ctx);
            self.sharding.recompute_owners(&mut ShardingCtx { cluster: None, supervision, ctx });
        }

        /// How many shards run at this instant.
        #[track_caller]
        fn check(&mut self, at_ms: u64, running: usize) {
            self.ctx.now = Instant::from_millis(at_ms);
            let (supervision, ctx) = (&mut self.supervision, &mut self.ctx);
            self.sharding.advance(&mut ShardingCtx { cluster: None, supervision, ctx });
            let is_running = |index: &u32| self.sharding.running_epoch("orders", *index).is_some();
            assert_eq!((0..self.count).filter(is_running).count(), running, "at {at_ms} ms");
        }
    }

    #[test]
    fn a_shard_that_does_not_come_up_holds_others_up_for_50_ms() {
        let mut node = Node::new(5, 2);
        node.check(0, 0);
        node.recompute_owners();
        node.check(0, 2);
        assert_eq!(node.sharding.next_due(), Some(Instant::from_millis(50)));
        node.check(49, 2);
        node.check(50, 4);
        node.check(100, 5);
        assert_eq!(node.sharding.next_due(), None);
    }

    #[test]
    fn a_shard_that_is_up_makes_room_for_the_next_one() {
        let mut node = Node::new(5, 2);
        node.recompute_owners();
        node.check(0, 2);
        node.check(1, 2);
        for (index, running) in [(1, 3), (0, 4), (2, 5)] {
            node.supervision.handle_report(WorkerId(index), Generation(1), Report::Started, &mut node.ctx);
            node.check(2, running);
        }
    }

    #[test]
    fn up_to_256_shards_on_their_way_are_scanned_each_time() {
        for (count, running, scanned_at_ms) in [(256, 1, 10), (257, 0, 0)] {
            let mut node = Node::new(count, 1);
            node.recompute_owners();
            node.check(10, running);
            assert_eq!(node.sharding.scanned_at, Instant::from_millis(scanned_at_ms), "{count}");
            node.check(20, 1);
            assert_eq!(node.sharding.scanned_at, Instant::from_millis(20));
        }
    }

    #[test]
    fn owners_that_are_recomputed_again_start_no_shard_again() {
        let mut node = Node::new(3, 64);
        node.recompute_owners();
        node.check(0, 3);
        node.ctx.outputs.clear();
        node.recompute_owners();
        assert!(node.ctx.outputs.is_empty());
        assert_eq!(node.sharding.recompute, Recompute::No);
    }

    #[test]
    fn only_the_snapshot_of_a_running_shard_is_kept() {
        let mut node = Node::new(1, 1);
        for (worker, bytes) in [(0, 0), (1, 0)] {
            node.sharding.handle_snapshot(WorkerId(worker), 1, Arc::from([0; 4]), &node.ctx);
            assert_eq!(node.sharding.snapshots.bytes(), bytes);
        }
        node.recompute_owners();
        for (worker, bytes) in [(1, 0), (0, 4), (0, 4)] {
            node.sharding.handle_snapshot(WorkerId(worker), 1, Arc::from([0; 4]), &node.ctx);
            assert_eq!(node.sharding.snapshots.bytes(), bytes);
        }
    }

    #[test]
    fn without_a_cluster_the_right_has_no_end() {
        let mut node = Node::new(1, 1);
        assert_eq!(node.sharding.lease_until(None), None);
        node.recompute_owners();
        assert_eq!(node.sharding.running_epoch("orders", 0), Some(Epoch::at(7, 0)));
        assert_eq!(node.sharding.running_epoch("orders", 1), None);
        assert!(node.sharding.is_shard(Child::Worker(WorkerId(0))));
        assert!(!node.sharding.is_shard(Child::Worker(WorkerId(1))));
    }
}
