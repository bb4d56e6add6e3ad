//! `Engine`: the joint. It takes inputs, routes them to the rules, and gives outputs.
//!
//! It holds no rule of its own: leaving is in the private `leaving`, counting in
//! [`counters`](crate::Counters).
//!
//! # How to drive it
//! - **Inputs**: [`Engine::handle`] takes an [`Input`] and its instant: for an arrival the one that
//!   was stamped at the door. Instants never go back.
//! - **Outputs**: after each input, call [`Engine::poll_output`] until it returns `None` and do
//!   what it says, in order. One input, drain, next input: an engine that is not drained holds back
//!   datagrams and starts.
//! - **Time**: then read [`Engine::poll_timeout`] and handle [`Input::Timeout`] at that instant, or
//!   as soon after as you can. It may come early; nothing happens then.
//! - **Questions** (`members`, `owner`, `counters`) change nothing.
//!
//! # Replay
//! An engine has no other source of time or chance than these. So the inputs of a run with their
//! instants, handled by a new engine of the same config, identity and seed and drained at the same
//! places, give the same outputs with the same datagrams, byte for byte.
//!
//! # The guard
//! If a timeout that was asked for comes more than `stall` too late, this process was paused or
//! starved, and the silence that it sees is its own. In a cluster a timeout is asked for every
//! `stall`, so that no pause of over twice that goes unseen. Every input looks for that first,
//! takes the pause out of all silences, and emits [`Event::Paused`]. In a cluster it says
//! [`Output::Drain`] as well, and gives no verdict until [`Input::Drained`], for an interval at
//! most: datagrams that waited in the socket are handled first.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::authority::AuthorityResponse;
use crate::config::{Config, ConfigError, OnGiveUp, check_metadata};
use crate::counters::{Counters, Received};
use crate::ctx::Ctx;
use crate::detection::monitor::{Change, Monitor};
use crate::detection::pause::PauseDetector;
use crate::detection::{HeartbeatCounts, Pause, Verdict};
use crate::event::Event;
use crate::input::{Batch, Input, StreamEvent};
use crate::leaving::{HandOver, Leaving};
use crate::member::{
    ArbiterId, Child, Epoch, Generation, Member, Metadata, NodeId, ShardGroup, Target, WorkerId, canonical, name_hash,
};
use crate::membership::{Cluster, Identity, Link, Outgoing, OwnershipEffect, Source};
use crate::output::{Output, StreamId};
use crate::random::Random;
use crate::sharding::{Sharding, ShardingCtx};
use crate::supervision::{GroupFigures, Report, Standing, Supervise, Supervision, ThreadFigures};
use crate::time::{Instant, earliest};
use crate::wire;

/// One node: everything it decides.
#[derive(Clone, Debug)]
pub struct Engine {
    ctx: Ctx,
    pause_detector: PauseDetector,
    supervision: Supervision,
    ownership: Sharding,
    cluster: Option<Cluster>,
    leaving: Leaving,
    /// The number of the stream that was accepted last.
    accepted: StreamId,
    counters: Counters,
    /// When something is due next, found when the outputs of an input are drained; none in between.
    /// The driver asks for it, and the guard at the next input.
    due: Option<Instant>,
}

impl Engine {
    /// A node at `now` that has begun nothing; drain its outputs, which make its threads.
    ///
    /// `identity` says which life of which address this is; without a `[cluster]` table only its
    /// generation is used. `seed` is all the chance the engine will have.
    ///
    /// # Errors The errors of [`Config::check`].
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
            pause_detector: PauseDetector::new(now),
            ownership: Sharding::new(&config, generation, now),
            cluster,
            leaving: Leaving::default(),
            accepted: StreamId(0),
            counters: Counters::default(),
            due: None,
        })
    }

    // ---- inputs --------------------------------------------------------------------------------

    /// Handles one input of this instant; then drain the outputs.
    ///
    /// # Panics
    /// If a number is in use that a new worker or group is given; see [`Input`].
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Datagrams { batch, wall, empty_at } => {
                if let Some(wall) = wall {
                    self.handle_wall_clock(now, wall);
                }
                self.handle_datagrams(now, &batch);
                if let Some(empty_at) = empty_at {
                    self.handle_drained(empty_at);
                }
            }
            Input::Timeout => self.handle_timeout(now),
            Input::WallClock(wall) => self.handle_wall_clock(now, wall),
            Input::Drained => self.handle_drained(now),
            Input::Beat { arbiter, slot, times } => {
                self.advance(now);
                self.supervision.handle_beat(arbiter, slot, times, &mut self.ctx);
            }
            Input::Report { worker, generation, report } => self.handle_report(now, worker, generation, report),
            Input::Accepted => self.handle_accepted(now),
            Input::Stream { stream, from, event } => self.handle_stream(now, stream, canonical(from), &event),
            Input::Resolved { seed, found } => self.handle_resolved(now, &seed, &found),
            Input::Answer { number, answer } => self.handle_answer(now, number, answer),
            Input::Freed => {
                self.advance(now);
                self.ownership.handle_freed(self.ctx.now);
                self.follow_up();
            }
            Input::Snapshot { worker, version, bytes } => self.handle_snapshot(now, worker, version, bytes),
            Input::Looks(looks) => {
                self.supervise(now, |supervision, ctx| supervision.handle_status_samples(&looks, ctx))
            }
            Input::Inspection { arbiter, busy, seen } => {
                self.supervise(now, |supervision, ctx| supervision.handle_inspection(arbiter, &busy, seen, ctx));
            }
            Input::ArbiterNotMade { arbiter, reason } => {
                self.supervise(now, |supervision, ctx| supervision.handle_arbiter_not_made(arbiter, &reason, ctx));
            }
            Input::ArbiterDead(arbiter) => {
                self.supervise(now, |supervision, ctx| supervision.handle_arbiter_dead(arbiter, ctx));
            }
            Input::ArbiterEnded(arbiter) => {
                self.advance(now);
                self.supervision.handle_arbiter_ended(arbiter, &mut self.ctx);
            }
            Input::Supervise(worker) => self.supervise(now, |supervision, ctx| supervision.supervise(*worker, ctx)),
            Input::SuperviseGroup(group) => {
                self.supervise(now, |supervision, ctx| supervision.supervise_group(*group, ctx));
            }
            Input::SuperviseShards { group, workers } => self.supervise_shards(now, group, workers),
            Input::Start(child) => self.start(now, child),
            Input::Restart(child) => self.restart(now, child),
            Input::Stop(child) => self.supervise(now, |supervision, ctx| supervision.stop(child, ctx)),
            Input::Remove(child) => self.remove(now, child),
            Input::Leave => {
                self.advance(now);
                self.begin_leaving();
                self.follow_up();
            }
            Input::SetMetadata(metadata) => self.set_metadata(now, metadata),
            Input::SetInterval(interval) => self.set_interval(now, interval),
            Input::Recall(members) => self.recall(now, &members),
            Input::Record => {
                if let Some(cluster) = &mut self.cluster {
                    cluster.record();
                }
            }
        }
    }

    // ---- outputs -------------------------------------------------------------------------------

    /// The next thing to do; `None` when the input is worked off. For [`Output::Transmit`] the
    /// datagram is in `buffer`, which is otherwise left alone.
    pub fn poll_output(&mut self, buffer: &mut Vec<u8>) -> Option<Output> {
        // Datagrams first: a verdict travels before its events are published here.
        while let Some(cluster) = &mut self.cluster
            && let Some(outgoing) = cluster.poll_outgoing()
        {
            match outgoing {
                Outgoing::Send { to, receiver, payload } => {
                    if cluster.write(payload, None, self.ctx.now, buffer) {
                        self.counters.sent += 1;
                        return Some(Output::Transmit { to, receiver });
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
            self.ctx.monitor.refile_stale(due);
            self.due = Some(self.due_with(due));
        }
        output
    }

    /// When to handle [`Input::Timeout`]; `None` if nothing will ever be due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.due.unwrap_or_else(|| self.next_due());
        (due != Instant::NEVER).then_some(due)
    }

    // ---- questions -----------------------------------------------------------------------------

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

    /// The version of the wire format in which this node sends to members; `None` without a
    /// cluster.
    pub fn wire_version(&self) -> Option<u8> {
        self.cluster.as_ref().map(Cluster::wire_version)
    }

    /// Ids of those who watch this node, former observers included; none without a cluster.
    pub fn observers(&self) -> impl Iterator<Item = NodeId> {
        self.cluster.iter().flat_map(Cluster::observers)
    }

    /// The nodes that this node watches, each with its silence.
    pub fn watched(&self) -> impl Iterator<Item = (NodeId, Duration)> {
        self.cluster.iter().flat_map(|cluster| cluster.watched(&self.ctx))
    }

    /// The nodes that this node watches, each with what its detector has learnt, at `now`.
    pub fn links(&self, now: Instant) -> impl Iterator<Item = Link> {
        self.cluster.iter().flat_map(move |cluster| cluster.links(now, &self.ctx))
    }

    /// How improbable silences of a watched node are, at `points` steps up to a tenth past the
    /// silence that is its death; `None` if this node does not watch it.
    pub fn link_curve(&self, id: NodeId, points: u32) -> Option<Vec<(Duration, f64)>> {
        self.cluster.as_ref()?.curve(id, points, &self.ctx)
    }

    /// The groups of this node with their restarts against their limits, at `now`.
    pub fn groups(&self, now: Instant) -> Vec<GroupFigures> {
        self.supervision.group_figures(now, &self.ctx)
    }

    /// The threads that run workers, and those that are held, at `now`.
    pub fn threads(&self, now: Instant) -> Vec<ThreadFigures> {
        self.supervision.thread_figures(now, &self.ctx)
    }

    /// This node's local health: 0 is well, 8 the worst.
    pub fn health(&self) -> u8 {
        self.cluster.as_ref().map_or(0, Cluster::health)
    }

    /// In how many zones no member is declared dead for its silence now, since most of them are
    /// silent; all zones together count as one. See `membership.brake`.
    pub fn zones_disrupted(&self) -> usize {
        self.cluster.as_ref().map_or(0, Cluster::zones_disrupted)
    }

    /// Who owns a shard of this group, at which epoch; `None` if no member does, or there is no
    /// such shard, or there is no cluster.
    pub fn owner(&self, group: &str, index: u32) -> Option<(NodeId, Epoch)> {
        self.ownership.owner(group, index)
    }

    /// Under which epoch a shard runs on this node, from its start until it has stopped.
    pub fn held(&self, group: &str, index: u32) -> Option<Epoch> {
        self.ownership.running_epoch(group, index)
    }

    /// Until when this node may act for the shards that run on it, unless that is renewed; long ago
    /// if it may not. `None` without a cluster: without end.
    pub fn lease_until(&self) -> Option<Instant> {
        self.ownership.lease_until(self.cluster.as_ref())
    }

    /// The threads that should run workers now.
    pub fn arbiters(&self) -> Vec<ArbiterId> {
        self.supervision.arbiters()
    }

    /// The counters so far.
    pub fn counters(&self) -> Counters {
        let HeartbeatCounts { received, missed, late } = self.ctx.monitor.counts();
        Counters {
            heartbeats_sent: self.cluster.as_ref().map_or(0, Cluster::heartbeats_sent),
            heartbeats_received: received,
            heartbeats_missed: missed,
            heartbeats_late: late,
            ..self.counters
        }
    }

    /// Where a worker or a group stands. It looks at all that is in a group.
    pub fn standing(&self, child: Child) -> Standing {
        self.supervision.standing(child)
    }

    /// Whether the cluster has admitted this node, or the node has begun one, and it knows all
    /// members of the table it was sent. Always so without a cluster, and never once it has left.
    pub fn is_joined(&self) -> bool {
        !self.has_left() && self.cluster.as_ref().is_none_or(|cluster| cluster.is_joined(self.ctx.now))
    }

    /// The number of the stream that the last [`Input::Accepted`] was about.
    pub fn accepted(&self) -> StreamId {
        self.accepted
    }

    /// What this node publishes of itself; none without a cluster.
    pub fn metadata(&self) -> Option<&Metadata> {
        self.cluster.as_ref().map(Cluster::metadata)
    }

    /// Whether [`Input::SetMetadata`] would be followed.
    ///
    /// # Errors
    /// [`ConfigError::Contradiction`] if it is more than travels, or would change this node's
    /// weight.
    pub fn check_metadata(&self, metadata: &Metadata) -> Result<(), ConfigError> {
        check_metadata("the metadata", metadata)?;
        self.cluster.as_ref().map_or(Ok(()), |cluster| cluster.check_metadata(metadata))
    }

    /// Whether [`Input::SetInterval`] would be followed.
    ///
    /// # Errors
    /// [`ConfigError::Contradiction`] if the config would not be accepted with this interval.
    pub fn check_interval(&self, interval: Duration) -> Result<(), ConfigError> {
        Config { interval, ..self.ctx.config.clone() }.check().map(drop)
    }

    /// Whether it leaves, or has left.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_begun()
    }

    /// Whether `leave` is done.
    pub fn has_left(&self) -> bool {
        self.leaving.is_over()
    }

    /// The settings it runs by.
    pub fn config(&self) -> &Config {
        &self.ctx.config
    }

    // ---- inputs, one by one --------------------------------------------------------------------

    /// An input that is for supervision alone.
    fn supervise(&mut self, now: Instant, input: impl FnOnce(&mut Supervision, &mut Ctx)) {
        self.advance(now);
        input(&mut self.supervision, &mut self.ctx);
        self.follow_up();
    }

    fn supervise_shards(&mut self, now: Instant, group: Arc<str>, workers: Vec<Supervise>) {
        self.advance(now);
        let Some(first) = workers.first().map(|supervise| supervise.worker) else { return };
        let count = workers.len() as u32;
        if let Some(cluster) = &mut self.cluster {
            cluster.announce(ShardGroup::new(name_hash(&group), count), &mut self.ctx);
        }
        self.ownership.add_group(group, first, count);
        for supervise in workers {
            self.supervision.add_worker(supervise);
        }
        self.settle();
    }

    fn start(&mut self, now: Instant, child: Child) {
        self.advance(now);
        if self.ownership.is_shard(child) {
            self.ownership.restart_worker(child, &mut lend(&mut self.cluster, &mut self.supervision, &mut self.ctx));
        } else {
            self.supervision.start(child, &mut self.ctx);
        }
        self.follow_up();
    }

    fn restart(&mut self, now: Instant, child: Child) {
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

    fn remove(&mut self, now: Instant, child: Child) {
        self.advance(now);
        if self.ownership.is_shard(child) {
            self.supervision.stop(child, &mut self.ctx);
        } else {
            self.supervision.remove(child, &mut self.ctx);
        }
        self.follow_up();
    }

    fn handle_datagrams(&mut self, now: Instant, batch: &Batch) {
        self.advance(now);
        for (from, bytes) in batch.iter() {
            self.handle_datagram(canonical(from), bytes);
        }
        self.route_shard_messages();
    }

    fn handle_accepted(&mut self, now: Instant) {
        self.advance(now);
        if let Some(cluster) = &mut self.cluster {
            self.accepted = match self.leaving.is_over() {
                true => cluster.reject_accepted(),
                false => cluster.handle_accepted(&self.ctx),
            };
        }
    }

    fn handle_stream(&mut self, now: Instant, stream: StreamId, from: SocketAddr, event: &StreamEvent) {
        self.advance(now);
        let datagram = match event {
            StreamEvent::Frame(bytes) => match self.decode(from, bytes) {
                Some(datagram) => Some((datagram, from)),
                None => return,
            },
            StreamEvent::Opened | StreamEvent::Refused | StreamEvent::Failed | StreamEvent::Ended => None,
        };
        let Some(cluster) = &mut self.cluster else { return };
        if self.leaving.is_over() {
            return;
        }
        let frame = datagram.as_ref().map(|(datagram, from)| (datagram, *from));
        let follow = cluster.handle_stream(stream, event, frame, &mut self.ctx);
        self.follow(follow);
        self.route_shard_messages();
        self.follow_up();
    }

    fn handle_resolved(&mut self, now: Instant, seed: &str, found: &Result<Vec<SocketAddr>, Arc<str>>) {
        self.advance(now);
        let Some(cluster) = &mut self.cluster else { return };
        match found {
            Ok(addresses) => cluster.handle_resolved(seed, addresses, self.ctx.now),
            Err(reason) => cluster.handle_unresolved(seed, reason, &mut self.ctx),
        }
    }

    fn recall(&mut self, now: Instant, members: &[Member]) {
        self.advance(now);
        if let Some(cluster) = &mut self.cluster {
            cluster.preload(members, &self.ctx);
        }
        self.settle();
    }

    fn set_metadata(&mut self, now: Instant, metadata: Metadata) {
        self.advance(now);
        if self.check_metadata(&metadata).is_ok()
            && let Some(cluster) = &mut self.cluster
        {
            cluster.set_metadata(metadata, &mut self.ctx);
        }
    }

    fn set_interval(&mut self, now: Instant, interval: Duration) {
        self.advance(now);
        if self.check_interval(interval).is_ok() {
            self.ctx.config.interval = interval;
        }
    }

    fn handle_drained(&mut self, at: Instant) {
        self.advance(at);
        self.pause_detector.drained(at);
    }

    fn handle_wall_clock(&mut self, now: Instant, wall: Duration) {
        self.advance(now);
        if let Some(late_by) = self.pause_detector.compare(now, wall, self.ctx.config.stall) {
            // Our own clock stood still, so it shows no silence; but this node received nothing
            // meanwhile.
            let now = self.ctx.now;
            self.discount_pause(Pause { from: now, to: now }, late_by);
        }
    }

    fn handle_report(&mut self, at: Instant, worker: WorkerId, generation: Generation, report: Report) {
        // The worker's thread was awake then; it does not follow that the control thread was.
        self.ctx.now = self.ctx.now.max(at);
        self.due = None;
        self.supervision.handle_report(worker, generation, report, &mut self.ctx);
        self.follow_up();
    }

    fn handle_snapshot(&mut self, now: Instant, worker: WorkerId, version: u32, bytes: Arc<[u8]>) {
        self.advance(now);
        if bytes.len() <= self.ctx.config.ownership.snapshot_bytes_max as usize {
            self.ownership.handle_snapshot(worker, version, bytes, &self.ctx);
        }
        self.follow_up();
    }

    fn handle_answer(&mut self, now: Instant, number: u64, answer: Result<AuthorityResponse, Arc<str>>) {
        self.advance(now);
        let answer = match &answer {
            Ok(answer) => Ok(answer.clone()),
            Err(reason) => Err(&**reason),
        };
        if self.ownership.handle_answer(number, answer, &mut self.ctx) {
            self.follow(OwnershipEffect::Revoke);
        }
        self.follow_up();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        self.supervision.handle_timeout(&mut self.ctx);
        if let Some(cluster) = &mut self.cluster
            && !self.leaving.is_over()
        {
            let follow = cluster.handle_timeout(self.pause_detector.held_until(), &mut self.ctx);
            self.follow(follow);
        }
        while self.pause_detector.held_until().is_none()
            && let Some(change) = self.ctx.monitor.poll_change(self.ctx.now)
        {
            self.route(change);
        }
        self.follow_up();
    }

    // ---- private -------------------------------------------------------------------------------

    /// Advances the clock. If it jumped, discounts the pause from all silences.
    fn advance(&mut self, now: Instant) {
        let pause = self.pause_detector.wake(now, self.poll_timeout(), self.ctx.config.stall);
        self.due = None;
        self.ctx.now = self.ctx.now.max(now);
        if let Some((pause, late_by)) = pause {
            self.discount_pause(pause, late_by);
        }
        self.ctx.arrivals_stale = self.pause_detector.held_until().is_some();
        if let Some(cluster) = &mut self.cluster
            && !self.leaving.is_over()
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

    /// Discounts a pause of this process from every silence. Datagrams that waited in the socket
    /// come before any verdict.
    fn discount_pause(&mut self, pause: Pause, late_by: Duration) {
        self.ctx.monitor.discount_pause(pause);
        self.supervision.discount_pause(&self.ctx);
        if let Some(cluster) = &mut self.cluster {
            cluster.discount_pause(pause, &mut self.ctx);
            self.pause_detector.hold(pause, self.ctx.config.interval);
            self.ctx.push(Output::Drain);
        }
        self.ctx.emit(Event::Paused { late_by });
    }

    /// When something is due next, found anew.
    fn next_due(&self) -> Instant {
        self.due_with(self.due_apart())
    }

    /// The next instant at which a verdict, or something in `apart`, is due.
    fn due_with(&self, apart: Instant) -> Instant {
        let held_until = self.pause_detector.held_until().unwrap_or(Instant::ZERO);
        earliest(apart, [self.ctx.monitor.next_change().map(|at| at.max(held_until))])
    }

    /// When something is due next, verdicts apart.
    fn due_apart(&self) -> Instant {
        let held_until = self.pause_detector.held_until().unwrap_or(Instant::ZERO);
        let is_over = self.leaving.is_over();
        let slot = match &self.cluster {
            Some(cluster) if !is_over => {
                cluster.next_due(held_until).min(self.pause_detector.tick(self.ctx.config.stall))
            }
            Some(_) | None => Instant::NEVER,
        };
        let moves = self.ownership.next_due().filter(|_| !is_over);
        earliest(slot.min(self.leaving.next_due()).min(self.supervision.next_due()), [moves])
    }

    fn handle_datagram(&mut self, from: SocketAddr, bytes: &[u8]) {
        let Some(datagram) = self.decode(from, bytes) else { return };
        let Some(cluster) = &mut self.cluster else { return };
        if self.leaving.is_over() {
            return;
        }
        let follow = cluster.handle_datagram(Source::Datagram(from, bytes.len()), &datagram, &mut self.ctx);
        self.follow(follow);
    }

    /// Decodes and counts a datagram; none if it is not of our cluster.
    fn decode<'b>(&mut self, from: SocketAddr, bytes: &'b [u8]) -> Option<wire::Datagram<'b>> {
        let cluster = self.cluster.as_mut()?;
        match self.counters.decode(bytes, cluster.wire_versions(), |header| cluster.is_own_cluster(header)) {
            Received::Ours(datagram) => {
                cluster.note_version(from, datagram.version());
                return Some(datagram);
            }
            Received::Foreign(datagram) if !self.leaving.is_begun() => {
                cluster.note_version(from, datagram.version());
                cluster.handle_foreign(from, &datagram, &mut self.ctx);
            }
            Received::Foreign(_) | Received::Unreadable => {}
        }
        None
    }

    fn route(&mut self, change: Change) {
        match change.target {
            Target::Node(id) => {
                // A node that has left judges no member.
                if let Some(cluster) = &mut self.cluster
                    && !self.leaving.is_over()
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
        if self.leaving.has_shards() {
            self.ownership.recompute_owners(&mut lend(&mut self.cluster, &mut self.supervision, &mut self.ctx));
        }
    }

    /// Passes messages about shards on to the sharding.
    fn route_shard_messages(&mut self) {
        while let Some(message) = self.cluster.as_mut().and_then(Cluster::poll_shard_message) {
            self.ownership
                .handle_shard_message(message, &mut lend(&mut self.cluster, &mut self.supervision, &mut self.ctx));
        }
    }

    fn begin_leaving(&mut self) {
        // While this node is still a member, others take its shards over one by one.
        if !self.leaving.begin(self.ctx.now, self.ctx.config.ownership.hand_over_timeout) {
            return;
        }
        self.ownership.begin_leaving();
        if let Some(cluster) = &mut self.cluster {
            cluster.withdraw(&mut self.ctx);
            self.settle();
        }
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
        if !self.leaving.is_over() {
            self.ownership.advance(&mut lend(&mut self.cluster, &mut self.supervision, &mut self.ctx));
        }
        if self.leaving.is_begun() {
            self.go_on_leaving();
        }
    }

    /// Takes the steps of leaving whose time has come.
    fn go_on_leaving(&mut self) {
        let (now, timeout) = (self.ctx.now, self.ctx.config.workers.leave_timeout);
        if self.leaving.is_handing_over() {
            let is_handed_over = self.is_handed_over();
            match self.leaving.end_hand_over(now, is_handed_over, timeout) {
                HandOver::GoesOn => {}
                HandOver::Done => self.supervision.stop_all(&mut self.ctx),
                HandOver::Cut => {
                    let shards = self.cluster.as_ref().map_or(0, |cluster| self.ownership.unfinished(cluster, now));
                    self.ctx.emit(Event::HandOverCut { shards });
                    self.supervision.stop_all(&mut self.ctx);
                }
            }
        }
        if self.leaving.end_stopping(now, !self.supervision.is_stopping()) {
            self.supervision.fence_all(&mut self.ctx);
            if let Some(cluster) = &mut self.cluster {
                cluster.leave(&mut self.ctx);
            }
        }
    }

    /// Whether all work for the cluster has stopped here, and other nodes have its snapshots.
    fn is_handed_over(&self) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| self.ownership.is_handed_over(cluster, self.ctx.now))
    }
}

/// What the rules of ownership may use of the node.
fn lend<'a>(cluster: &'a mut Option<Cluster>, supervision: &'a mut Supervision, ctx: &'a mut Ctx) -> ShardingCtx<'a> {
    ShardingCtx { cluster: cluster.as_mut(), supervision, ctx }
}
