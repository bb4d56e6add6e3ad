//! `Engine`: the joint. It takes inputs in, routes them to the rules, and hands outputs out. It
//! holds no rule of its own.
//!
//! # How to drive it
//! - **Inputs** are the methods that take `now` (or `at`, the instant an arrival was stamped at the
//!   door): `handle_*`, `supervise*`, `leave`. Times passed in never go back.
//! - **Outputs**: after each input, call [`Engine::poll_output`] until it returns `None` and do
//!   what it says, in order. One input, drain, next input: an engine that is not drained holds back
//!   datagrams and starts.
//! - **Time**: then read [`Engine::poll_timeout`] and call [`Engine::handle_timeout`] at that
//!   instant, or as soon after as you can. It may be called early; nothing happens then.
//! - **Questions** (`members`, `owner`, `counters`) change nothing.
//!
//! # The guard
//! If a timeout that was asked for comes more than `stall` too late, this process was paused or
//! starved, and whatever silence it sees is its own. In a cluster one is asked for every `stall`,
//! so that no pause of over twice that goes unseen. Every input looks for that first, takes the
//! pause out of all silences, and says [`Event::Paused`]. In a cluster it says [`Output::Drain`] as
//! well, and judges nobody until [`Engine::handle_drained`], for an interval at most: what waited
//! in the socket speaks first.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::authority::AuthorityResponse;
use crate::config::{Config, ConfigError, OnGiveUp, check_metadata};
use crate::ctx::Ctx;
use crate::detection::monitor::{Change, Monitor};
use crate::detection::pause::PauseDetector;
use crate::detection::{Pause, Verdict};
use crate::event::Event;
use crate::member::{
    ArbiterId, Child, CpuTimes, Epoch, Generation, Member, Metadata, NodeId, ShardGroup, StatusSample, Target,
    ThreadSample, WorkerActivity, WorkerId, canonical, name_hash,
};
use crate::membership::{Cluster, Identity, Outgoing, OwnershipEffect, StreamEvent};
use crate::output::{Output, StreamId};
use crate::random::Random;
use crate::sharding::{Sharding, ShardingCtx};
use crate::supervision::{Report, Standing, Supervise, SuperviseGroup, Supervision};
use crate::time::{Instant, earliest};
use crate::wire;

/// What was counted and dropped, or sent; for `/metrics` and for users who wonder where datagrams
/// go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Datagrams handed out to be sent.
    pub sent: u64,
    /// Datagrams taken in that were well-formed and of our cluster.
    pub received: u64,
    /// Datagrams that were not ours or not well-formed.
    pub malformed: u64,
    /// Datagrams of another version of the wire format.
    pub wrong_version: u64,
    /// Datagrams of another cluster.
    pub wrong_cluster: u64,
}

/// One node: everything it decides.
#[derive(Clone, Debug)]
pub struct Engine {
    ctx: Ctx,
    guard: PauseDetector,
    supervision: Supervision,
    ownership: Sharding,
    cluster: Option<Cluster>,
    leaving: Leaving,
    counters: Counters,
    /// When something is due next, found when the outputs of an input are drained; none in between.
    /// The driver asks for it, and the guard at the next input.
    due: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leaving {
    No,
    /// Until all shards are handed over, or this instant.
    HandingOver(Instant),
    /// Until all workers have stopped, or this instant.
    Until(Instant),
    Done,
}

impl Engine {
    /// A node at `now` that has begun nothing; drain its outputs, which make its threads.
    ///
    /// `identity` says which life of which address this is; without a `[cluster]` table only its
    /// generation is used. `seed` is all the chance the engine will have.
    ///
    /// # Errors
    /// Whatever [`Config::check`] refuses.
    pub fn new(config: Config, identity: Identity, seed: u64, now: Instant) -> Result<Engine, ConfigError> {
        config.check()?;
        let generation = identity.generation;
        let (random, monitor) = (Random::seeded(seed), Monitor::new(now));
        let mut ctx = Ctx { now, arrivals_stale: false, config, random, monitor, outputs: VecDeque::new() };
        let config = ctx.config.clone();
        let cluster = config.cluster.as_ref().map(|cluster| Cluster::new(&config, cluster, identity, &mut ctx));
        Ok(Engine {
            supervision: Supervision::new(&mut ctx),
            ctx,
            guard: PauseDetector::new(now),
            ownership: Sharding::new(&config, generation, now),
            cluster,
            leaving: Leaving::No,
            counters: Counters::default(),
            due: None,
        })
    }

    // ---- inputs --------------------------------------------------------------------------------------------------------------------------

    /// Takes a worker on and starts it; in a group that starts its children in order, in its turn.
    ///
    /// # Panics
    /// If its number is in use.
    pub fn supervise(&mut self, now: Instant, supervise: Supervise) {
        self.advance(now);
        self.supervision.supervise(supervise, &mut self.ctx);
        self.follow_up();
    }

    /// Takes a group on and starts it. It is empty; its children name it when they are taken on.
    ///
    /// # Panics
    /// If its number was used before.
    pub fn supervise_group(&mut self, now: Instant, supervise: SuperviseGroup) {
        self.advance(now);
        self.supervision.supervise_group(supervise, &mut self.ctx);
        self.follow_up();
    }

    /// Takes a sharded group on: worker `first + i` is shard `i`, of which this node runs those it
    /// owns. Without a cluster it owns all.
    ///
    /// # Panics
    /// If one of the workers' numbers is in use, or in a cluster with the group after
    /// [`GROUPS_MAX`](crate::member::GROUPS_MAX).
    pub fn supervise_shards(&mut self, now: Instant, group: Arc<str>, workers: Vec<Supervise>) {
        self.advance(now);
        let Some(first) = workers.first().map(|supervise| supervise.worker) else { return };
        let count = workers.len() as u32;
        if let Some(cluster) = &mut self.cluster {
            cluster.announce(ShardGroup::new(name_hash(&group), count), &mut self.ctx);
        }
        self.ownership.add_group(group, first, count);
        for supervise in workers {
            self.supervision.take_on(supervise);
        }
        self.settle();
    }

    /// Starts a child that has ended, was stopped or was given up; nothing happens to one that
    /// runs. A worker that is a shard is started as that shard, and only on the node that runs the
    /// shard.
    pub fn start(&mut self, now: Instant, child: Child) {
        self.advance(now);
        if self.ownership.is_shard(child) {
            self.ownership.restart_worker(child, &mut lend(&mut self.cluster, &mut self.supervision, &mut self.ctx));
        } else {
            self.supervision.start(child, &mut self.ctx);
        }
        self.follow_up();
    }

    /// Stops a child in good order and starts it again with its queue; nothing is counted. One that
    /// does not run is only started, as by [`Engine::start`].
    pub fn restart(&mut self, now: Instant, child: Child) {
        self.advance(now);
        match child {
            Child::Worker(worker) if self.ownership.is_shard(child) && !self.supervision.is_up_or_starting(worker) => {
                self.ownership
                    .restart_worker(child, &mut lend(&mut self.cluster, &mut self.supervision, &mut self.ctx));
            }
            Child::Worker(_) | Child::Group(_) => self.supervision.restart(child, &mut self.ctx),
        }
        self.follow_up();
    }

    /// Stops a child in good order and closes its queue, until it is started again. A shard whose
    /// worker is stopped stays this node's: it runs nowhere until the worker is started, or the
    /// shard has another owner.
    pub fn stop(&mut self, now: Instant, child: Child) {
        self.advance(now);
        self.supervision.stop(child, &mut self.ctx);
        self.follow_up();
    }

    /// Stops a child in good order and forgets it. [`Output::Forget`] says of each worker when its
    /// number may be used again. A worker that is a shard is only stopped: it belongs to its group.
    pub fn remove(&mut self, now: Instant, child: Child) {
        self.advance(now);
        if self.ownership.is_shard(child) {
            self.supervision.stop(child, &mut self.ctx);
        } else {
            self.supervision.remove(child, &mut self.ctx);
        }
        self.follow_up();
    }

    /// Takes in datagrams that came in at `at`, each with its sender. Bad ones are counted and
    /// dropped.
    pub fn handle_datagrams<'a>(&mut self, at: Instant, batch: impl IntoIterator<Item = (SocketAddr, &'a [u8])>) {
        self.advance(at);
        for (from, bytes) in batch {
            self.handle_datagram(canonical(from), bytes);
        }
        self.route_shard_messages();
    }

    /// Takes in that somebody has connected a stream to us. Returns its number; it may be shut
    /// again by the next outputs.
    pub fn handle_accepted(&mut self, at: Instant) -> StreamId {
        self.advance(at);
        match &mut self.cluster {
            Some(cluster) if self.leaving == Leaving::Done => cluster.reject_accepted(),
            Some(cluster) => cluster.handle_accepted(&self.ctx),
            None => StreamId(0),
        }
    }

    /// Takes in what became of a stream, with the address of its other end. A frame is a datagram;
    /// a bad one is counted and dropped.
    pub fn handle_stream(&mut self, at: Instant, stream: StreamId, from: SocketAddr, event: StreamEvent<'_>) {
        self.advance(at);
        let from = canonical(from);
        let datagram = match event {
            StreamEvent::Frame(bytes) => match self.decode(from, bytes) {
                Some(datagram) => Some((datagram, from)),
                None => return,
            },
            StreamEvent::Opened | StreamEvent::Refused | StreamEvent::Failed | StreamEvent::Ended => None,
        };
        let Some(cluster) = &mut self.cluster else { return };
        if self.leaving == Leaving::Done {
            return;
        }
        let frame = datagram.as_ref().map(|(datagram, from)| (datagram, *from));
        let follow = cluster.handle_stream(stream, event, frame, &mut self.ctx);
        self.follow(follow);
        self.route_shard_messages();
        self.follow_up();
    }

    /// Takes in the addresses of a seed: the answer to [`Output::Resolve`]. An error in words is
    /// told as an event while nobody has let us in.
    pub fn handle_resolved(&mut self, now: Instant, seed: &str, found: Result<&[SocketAddr], &str>) {
        self.advance(now);
        let Some(cluster) = &mut self.cluster else { return };
        match found {
            Ok(addresses) => cluster.handle_resolved(seed, addresses, self.ctx.now),
            Err(reason) => cluster.handle_unresolved(seed, reason, &mut self.ctx),
        }
    }

    /// Takes in members known from elsewhere, as if they had just been heard of, and calls the view
    /// whole: what a node was told before it was restarted, say. Whoever is not there any more is
    /// found out.
    pub fn recall(&mut self, now: Instant, members: &[Member]) {
        self.advance(now);
        if let Some(cluster) = &mut self.cluster {
            cluster.preload(members, &self.ctx);
        }
        self.settle();
    }

    /// Tells other nodes something else of this one from now on.
    ///
    /// # Errors
    /// [`ConfigError::Contradiction`] if it is more than travels, or would change this node's
    /// weight; nothing changes then.
    pub fn set_metadata(&mut self, now: Instant, metadata: Metadata) -> Result<(), ConfigError> {
        self.advance(now);
        check_metadata("the metadata", &metadata)?;
        match &mut self.cluster {
            Some(cluster) => cluster.set_metadata(metadata, &mut self.ctx),
            None => Ok(()),
        }
    }

    /// Sends heartbeats every `interval` from the next one on, which announces it. Observers
    /// follow; a longer interval is announced again to each until it has answered.
    ///
    /// # Errors
    /// [`ConfigError::Contradiction`] if the config would not be accepted with this interval;
    /// nothing changes then.
    pub fn set_interval(&mut self, now: Instant, interval: Duration) -> Result<(), ConfigError> {
        self.advance(now);
        let config = Config { interval, ..self.ctx.config.clone() };
        config.check()?;
        self.ctx.config = config;
        Ok(())
    }

    /// Says of each heartbeat from now on that it came in ([`Output::Arrived`]), so that a
    /// [`crate::detection::trace::Recording`] can be made.
    pub fn record(&mut self) {
        if let Some(cluster) = &mut self.cluster {
            cluster.record();
        }
    }

    /// Takes in a sign of life from a thread that runs workers, sent in this `slot` of its
    /// schedule, counted from 1, with what the thread had used of its CPU by then, if the system
    /// says.
    pub fn handle_beat(&mut self, at: Instant, arbiter: ArbiterId, slot: u64, times: Option<CpuTimes>) {
        self.advance(at);
        self.supervision.beat(arbiter, slot, times, &mut self.ctx);
    }

    /// Takes in that a look at the socket that was begun at `at` found nothing in it: the answer to
    /// [`Output::Drain`]. It may be said at any time; said of a look before we woke, it means
    /// nothing.
    pub fn handle_drained(&mut self, at: Instant) {
        self.advance(at);
        self.guard.drained(at);
    }

    /// Takes in what the wall clock shows, as the time since any instant that stays the same, at
    /// `now`. If it ran ahead of our own clock by more than `stall` since the last time, the
    /// machine was suspended, or the wall clock was set forward: a pause that ends now.
    pub fn handle_wall_clock(&mut self, now: Instant, wall: Duration) {
        self.advance(now);
        if let Some(late_by) = self.guard.compare(now, wall, self.ctx.config.stall) {
            // Our own clock stood still, so that it shows no silence; but whoever spoke meanwhile
            // was not heard.
            let now = self.ctx.now;
            self.excuse(Pause { from: now, to: now }, late_by);
        }
    }

    /// Takes in what a worker's thread says of one of its generations, at `at` by its own look at
    /// our clock.
    pub fn handle_report(&mut self, at: Instant, worker: WorkerId, generation: Generation, report: Report) {
        // That thread was awake then; it does not mean that we were.
        self.ctx.now = self.ctx.now.max(at);
        self.due = None;
        self.supervision.report(worker, generation, report, &mut self.ctx);
        self.follow_up();
    }

    /// Takes in a new snapshot of a shard that runs here, to be passed on to whoever would run it
    /// next. `version` is that of its format, by the application's own count. One that is longer
    /// than `ownership.snapshot_bytes_max` is not taken.
    pub fn handle_snapshot(&mut self, now: Instant, worker: WorkerId, version: u32, bytes: Arc<[u8]>) {
        self.advance(now);
        if bytes.len() <= self.ctx.config.ownership.snapshot_bytes_max as usize {
            self.ownership.handle_snapshot(worker, version, bytes, &self.ctx);
        }
        self.follow_up();
    }

    /// Takes in what the authority answered to [`Output::AskAuthority`] of this number, or in words
    /// why it did not.
    pub fn handle_answer(&mut self, now: Instant, number: u64, answer: Result<AuthorityResponse, &str>) {
        self.advance(now);
        if self.ownership.handle_answer(number, answer, &mut self.ctx) {
            self.follow(OwnershipEffect::Revoke);
        }
        self.follow_up();
    }

    /// Takes in that shards which somebody had at the authority may be free now.
    pub fn handle_freed(&mut self, now: Instant) {
        self.advance(now);
        self.ownership.handle_freed(self.ctx.now);
        self.follow_up();
    }

    /// Takes in what the workers of a silent thread are doing, and what the system says of the
    /// thread: the answer to [`Output::Inspect`].
    pub fn handle_inspection(
        &mut self,
        now: Instant,
        arbiter: ArbiterId,
        busy: &[WorkerActivity],
        seen: Option<ThreadSample>,
    ) {
        self.advance(now);
        self.supervision.inspected(arbiter, busy, seen, &mut self.ctx);
        self.follow_up();
    }

    /// Takes in a look at the status cells: the answer to [`Output::Scan`], in as many parts as the
    /// caller likes. A worker of which there is nothing to say, and of which there was nothing to
    /// say the last time, may be left out.
    pub fn handle_looks(&mut self, now: Instant, looks: &[StatusSample]) {
        self.advance(now);
        self.supervision.look(looks, &mut self.ctx);
        self.follow_up();
    }

    /// Handles that a thread, which [`Output::Spawn`] asked for, could not be made.
    pub fn handle_arbiter_not_made(&mut self, now: Instant, arbiter: ArbiterId, reason: &str) {
        self.advance(now);
        self.supervision.arbiter_not_made(arbiter, reason, &mut self.ctx);
        self.follow_up();
    }

    /// Takes in that a thread that should run workers has ended.
    pub fn handle_arbiter_dead(&mut self, now: Instant, arbiter: ArbiterId) {
        self.advance(now);
        self.supervision.arbiter_dead(arbiter, &mut self.ctx);
        self.follow_up();
    }

    /// Takes in that a thread which was abandoned came back and ended.
    pub fn handle_arbiter_ended(&mut self, now: Instant, arbiter: ArbiterId) {
        self.advance(now);
        self.supervision.arbiter_ended(arbiter, &mut self.ctx);
    }

    /// Does whatever is due by `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        self.supervision.expire(&mut self.ctx);
        if let Some(cluster) = &mut self.cluster
            && self.leaving != Leaving::Done
        {
            let follow = cluster.handle_timeout(self.guard.held_until(), &mut self.ctx);
            self.follow(follow);
        }
        while self.guard.held_until().is_none()
            && let Some(change) = self.ctx.monitor.poll_change(self.ctx.now)
        {
            self.route(change);
        }
        self.follow_up();
    }

    /// Begins to leave: workers stop, the last one taken on first, then the others are told. Done
    /// when [`Engine::has_left`] says so, after `workers.leave_timeout` at the latest.
    pub fn leave(&mut self, now: Instant) {
        self.advance(now);
        self.begin_leaving();
        self.follow_up();
    }

    // ---- outputs -------------------------------------------------------------------------------------------------------------------------

    /// The next thing to do; `None` when the input is worked off. For [`Output::Transmit`] the
    /// datagram is in `buffer`, which is otherwise left alone.
    pub fn poll_output(&mut self, buffer: &mut Vec<u8>) -> Option<Output> {
        // Datagrams first: a verdict travels before its events are told here.
        while let Some(cluster) = &mut self.cluster
            && let Some(outgoing) = cluster.poll_outgoing()
        {
            match outgoing {
                Outgoing::Send { to, payload } => {
                    if cluster.write(payload, None, self.ctx.now, buffer) {
                        self.counters.sent += 1;
                        return Some(Output::Transmit { to });
                    }
                }
                Outgoing::Frame { stream, payload } => {
                    if cluster.write(payload, Some(stream), self.ctx.now, buffer) {
                        return Some(Output::Frame { stream });
                    }
                }
                Outgoing::Open { stream, to } => return Some(Output::Open { stream, to }),
                Outgoing::Close { stream } => return Some(Output::Shut { stream }),
            }
        }
        let output = self.ctx.outputs.pop_front();
        if output.is_none() && self.due.is_none() {
            let due = self.due_apart();
            self.ctx.monitor.put_off(due);
            self.due = Some(self.due_with(due));
        }
        output
    }

    /// When to call [`Engine::handle_timeout`]; `None` if nothing will ever be due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.due.unwrap_or_else(|| self.next_due());
        (due != Instant::NEVER).then_some(due)
    }

    // ---- questions -----------------------------------------------------------------------------------------------------------------------

    /// The members as this node sees them, itself included, in the order of their ids; none without
    /// a cluster.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.cluster.iter().flat_map(|cluster| cluster.table().members())
    }

    /// How often the table of members has changed: a copy made at this version is up to date.
    /// Always 0 without a cluster.
    pub fn members_version(&self) -> u64 {
        self.cluster.as_ref().map_or(0, |cluster| cluster.table().version())
    }

    /// Ids of those who watch this node, former observers included; none without a cluster.
    pub fn observers(&self) -> impl Iterator<Item = NodeId> {
        self.cluster.iter().flat_map(Cluster::observers)
    }

    /// Those whom this node watches, each with the time for which nothing was heard of it.
    pub fn watched(&self) -> impl Iterator<Item = (NodeId, Duration)> {
        self.cluster.iter().flat_map(|cluster| cluster.watched(&self.ctx))
    }

    /// This node's local health: 0 is well, 8 the worst.
    pub fn health(&self) -> u8 {
        self.cluster.as_ref().map_or(0, Cluster::health)
    }

    /// Who owns a shard of this group, at which epoch; `None` if nobody does, or there is no such
    /// shard, or there is no cluster.
    pub fn owner(&self, group: &str, index: u32) -> Option<(NodeId, Epoch)> {
        self.ownership.owner(group, index)
    }

    /// Under which epoch a shard runs on this node, from its start until it has stopped.
    pub fn held(&self, group: &str, index: u32) -> Option<Epoch> {
        self.ownership.running_epoch(group, index)
    }

    /// Until when this node may act for the shards that run on it, unless that is renewed; long ago
    /// if it may not. `None` without a cluster: for ever.
    pub fn lease_until(&self) -> Option<Instant> {
        self.ownership.lease_until(self.cluster.as_ref())
    }

    /// The threads that should run workers now.
    pub fn arbiters(&self) -> Vec<ArbiterId> {
        self.supervision.arbiters()
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Where a worker or a group stands. It looks at all that is in a group.
    pub fn standing(&self, child: Child) -> Standing {
        self.supervision.standing(child)
    }

    /// Whether the cluster has let this node in, or it has begun one, and it knows all the members
    /// it was told of. Always so without a cluster, and never once it has left.
    pub fn is_joined(&self) -> bool {
        !self.has_left() && self.cluster.as_ref().is_none_or(|cluster| cluster.is_joined(self.ctx.now))
    }

    /// Whether it leaves, or has left.
    pub fn is_leaving(&self) -> bool {
        self.leaving != Leaving::No
    }

    /// Whether `leave` is done.
    pub fn has_left(&self) -> bool {
        self.leaving == Leaving::Done
    }

    /// The settings it runs by.
    pub fn config(&self) -> &Config {
        &self.ctx.config
    }

    // ---- private -------------------------------------------------------------------------------------------------------------------------

    /// Moves the clock on, and excuses everybody if it jumped.
    fn advance(&mut self, now: Instant) {
        let pause = self.guard.wake(now, self.poll_timeout(), self.ctx.config.stall);
        self.due = None;
        self.ctx.now = self.ctx.now.max(now);
        if let Some((pause, late_by)) = pause {
            self.excuse(pause, late_by);
        }
        self.ctx.arrivals_stale = self.guard.held_until().is_some();
        if let Some(cluster) = &mut self.cluster
            && self.leaving != Leaving::Done
        {
            let mut follow = cluster.expire_quorum(&mut self.ctx);
            if self.ownership.expire_session(&mut self.ctx) {
                follow = OwnershipEffect::Revoke;
            }
            if !self.ctx.arrivals_stale {
                self.ownership.renew_own_lease(&self.ctx);
            }
            self.follow(follow);
        }
    }

    /// Takes a pause of our own out of every silence, and lets whatever waited speak first.
    fn excuse(&mut self, pause: Pause, late_by: Duration) {
        self.ctx.monitor.excuse(pause);
        self.supervision.excuse(&self.ctx);
        if let Some(cluster) = &mut self.cluster {
            cluster.discount_pause(pause, &mut self.ctx);
            self.guard.hold(pause, self.ctx.config.interval);
            self.ctx.push(Output::Drain);
        }
        self.ctx.emit(Event::Paused { late_by });
    }

    /// When something is due next, found anew.
    fn next_due(&self) -> Instant {
        self.due_with(self.due_apart())
    }

    /// What is due next of verdicts and what is `apart` from them.
    fn due_with(&self, apart: Instant) -> Instant {
        let held_until = self.guard.held_until().unwrap_or(Instant::ZERO);
        earliest(apart, [self.ctx.monitor.next_change().map(|at| at.max(held_until))])
    }

    /// When something is due next, verdicts apart.
    fn due_apart(&self) -> Instant {
        let held_until = self.guard.held_until().unwrap_or(Instant::ZERO);
        let slot = match (self.leaving, &self.cluster) {
            (Leaving::Done, _) | (_, None) => Instant::NEVER,
            (Leaving::No | Leaving::HandingOver(_) | Leaving::Until(_), Some(cluster)) => {
                cluster.next_due(held_until).min(self.guard.tick(self.ctx.config.stall))
            }
        };
        let leave = match self.leaving {
            Leaving::HandingOver(at) | Leaving::Until(at) => Some(at),
            Leaving::No | Leaving::Done => None,
        };
        let moves = self.ownership.next_due().filter(|_| self.leaving != Leaving::Done);
        earliest(slot, [leave, self.supervision.next_due(), moves])
    }

    fn handle_datagram(&mut self, from: SocketAddr, bytes: &[u8]) {
        let Some(datagram) = self.decode(from, bytes) else { return };
        let Some(cluster) = &mut self.cluster else { return };
        if self.leaving == Leaving::Done {
            return;
        }
        let follow = cluster.handle_datagram(from, bytes.len(), &datagram, &mut self.ctx);
        self.follow(follow);
    }

    /// Reads and counts a datagram; none if it is not one of our cluster's.
    fn decode<'b>(&mut self, from: SocketAddr, bytes: &'b [u8]) -> Option<wire::Datagram<'b>> {
        let cluster = self.cluster.as_mut()?;
        let counter = match wire::decode(bytes) {
            Ok(datagram) if cluster.is_own_cluster(datagram.header) => {
                self.counters.received += 1;
                return Some(datagram);
            }
            Ok(datagram) => {
                if self.leaving == Leaving::No {
                    cluster.handle_foreign(from, &datagram.body, &mut self.ctx);
                }
                &mut self.counters.wrong_cluster
            }
            Err(wire::DecodeError::Version(_)) => &mut self.counters.wrong_version,
            Err(_) => &mut self.counters.malformed,
        };
        *counter += 1;
        None
    }

    fn route(&mut self, change: Change) {
        match change.target {
            Target::Node(id) => {
                // Whoever has left judges nobody.
                if let Some(cluster) = &mut self.cluster
                    && self.leaving != Leaving::Done
                {
                    let follow = cluster.handle_verdict(id, change, &mut self.ctx);
                    self.follow(follow);
                }
            }
            Target::Arbiter(arbiter) if change.to == Verdict::Dead => {
                self.ctx.push(Output::Inspect { arbiter });
            }
            Target::Arbiter(_) | Target::Worker(_) => {}
        }
    }

    fn follow(&mut self, follow: OwnershipEffect) {
        match follow {
            OwnershipEffect::Nothing => {}
            OwnershipEffect::Recompute => self.settle(),
            OwnershipEffect::Revoke => {
                self.ownership.revoke_all(&mut lend(&mut self.cluster, &mut self.supervision, &mut self.ctx));
                self.settle();
            }
        }
    }

    fn settle(&mut self) {
        match self.leaving {
            Leaving::No | Leaving::HandingOver(_) => {
                self.ownership.recompute_owners(&mut lend(&mut self.cluster, &mut self.supervision, &mut self.ctx));
            }
            Leaving::Until(_) | Leaving::Done => {}
        }
    }

    /// What others sent about shards, to whoever owns them.
    fn route_shard_messages(&mut self) {
        while let Some(message) = self.cluster.as_mut().and_then(Cluster::poll_shard_message) {
            self.ownership
                .handle_shard_message(message, &mut lend(&mut self.cluster, &mut self.supervision, &mut self.ctx));
        }
    }

    fn begin_leaving(&mut self) {
        if self.leaving != Leaving::No {
            return;
        }
        // While we are a member still, others take our shards over one by one.
        self.leaving = Leaving::HandingOver(self.ctx.now + self.ctx.config.ownership.hand_over_timeout);
        self.ownership.begin_leaving();
        if let Some(cluster) = &mut self.cluster {
            cluster.withdraw(&mut self.ctx);
            self.settle();
        }
    }

    fn begin_stopping(&mut self) {
        self.leaving = Leaving::Until(self.ctx.now + self.ctx.config.workers.leave_timeout);
        self.supervision.stop_all(&mut self.ctx);
    }

    /// What the end of supervision, or of a worker, means for the node.
    fn follow_up(&mut self) {
        if self.supervision.take_gave_up() {
            match self.ctx.config.workers.on_give_up {
                OnGiveUp::Report => {}
                OnGiveUp::Leave => self.begin_leaving(),
                OnGiveUp::Exit => {
                    let code = self.ctx.config.workers.exit_code;
                    self.ctx.push(Output::Exit { code });
                }
            }
        }
        if self.leaving != Leaving::Done {
            self.ownership.advance(&mut lend(&mut self.cluster, &mut self.supervision, &mut self.ctx));
        }
        if let Leaving::HandingOver(latest) = self.leaving {
            let is_done = self.is_handed_over();
            if !is_done && self.ctx.now >= latest {
                let cut = self.cluster.as_ref().map_or(0, |cluster| self.ownership.unfinished(cluster, self.ctx.now));
                self.ctx.emit(Event::HandOverCut { shards: cut });
            }
            if is_done || self.ctx.now >= latest {
                self.begin_stopping();
            }
        }
        if let Leaving::Until(latest) = self.leaving
            && (self.ctx.now >= latest || !self.supervision.is_stopping())
        {
            self.leaving = Leaving::Done;
            self.supervision.fence_all(&mut self.ctx);
            if let Some(cluster) = &mut self.cluster {
                cluster.leave(&mut self.ctx);
            }
        }
    }

    /// Whether whatever ran here for the cluster has stopped, and others have what it left behind.
    fn is_handed_over(&self) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| self.ownership.is_handed_over(cluster, self.ctx.now))
    }
}

/// What the rules of ownership may use of the node.
fn lend<'a>(cluster: &'a mut Option<Cluster>, supervision: &'a mut Supervision, ctx: &'a mut Ctx) -> ShardingCtx<'a> {
    ShardingCtx { cluster: cluster.as_mut(), supervision, ctx }
}
