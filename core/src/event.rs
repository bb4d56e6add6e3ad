//! `Event`: what happened, in the past tense, for subscribers and logs.
//!
//! Every conclusion of the engine leaves it as an event, with the figures that led to it. A log
//! line, a metric and a subscriber all see the same. Workers and nodes are named as the config and
//! the application name them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::member::{Activity, ArbiterId, Epoch, Generation, Incarnation, Member, Shard};

/// Why a worker or a group ended.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// It panicked.
    Panicked {
        /// The payload, if it was text.
        payload: Arc<str>,
        /// What it was doing.
        during: Activity,
    },
    /// It stopped itself.
    Stopped,
    /// The factory returned an error or panicked, or there was no thread to start on.
    StartFailed {
        /// What the factory said.
        reason: Arc<str>,
    },
    /// It was not up within its start timeout (`workers.start_timeout`).
    StartTimedOut {
        /// The time that it had.
        #[serde(serialize_with = "seconds")]
        after: Duration,
    },
    /// It waits for a future that does not end, while messages or answers wait for it. Its thread
    /// is fine.
    AwaitStuck {
        /// For how long messages have waited and none was handled.
        #[serde(serialize_with = "seconds")]
        stuck_for: Duration,
        /// Messages that waited, and answers under way.
        queued: u32,
    },
    /// It held its thread for longer than the timeout, and slept in a call.
    Blocked {
        /// What it was doing.
        during: Activity,
        /// How long, at the verdict.
        #[serde(serialize_with = "seconds")]
        busy_for: Duration,
    },
    /// It held its thread for longer than the timeout, and ran the whole time.
    Spinning {
        /// What it was doing.
        during: Activity,
        /// How long, at the verdict.
        #[serde(serialize_with = "seconds")]
        busy_for: Duration,
        /// How much of that time it ran.
        #[serde(serialize_with = "seconds")]
        ran_for: Duration,
    },
    /// It held its thread for longer than the timeout. This system does not say whether it slept,
    /// ran or waited for a CPU.
    HeldThread {
        /// What it was doing.
        during: Activity,
        /// How long, at the verdict.
        #[serde(serialize_with = "seconds")]
        busy_for: Duration,
    },
    /// It reported itself as failed.
    ReportedFailed,
    /// The thread it ran on has ended.
    ArbiterDead,
    /// A neighbour held the thread that they share. It did nothing wrong, and this does not count
    /// against its restart limits.
    Displaced {
        /// Name of the neighbour that held the thread.
        by: Arc<str>,
    },
    /// Its thread was silent while no worker on it was busy, so the cause is not a worker.
    ThreadSilent {
        /// How long, at the verdict.
        #[serde(serialize_with = "seconds")]
        silent_for: Duration,
    },
    /// A sibling failed, and their group restarts them together. This does not count against its
    /// restart limits.
    Sibling {
        /// Name of the sibling that failed.
        sibling: Arc<str>,
    },
    /// A child of the group failed more often than the group's limits allow. The group ends, and
    /// its parent decides what follows.
    Exhausted {
        /// Name of the child.
        child: Arc<str>,
        /// Why it ended the last time.
        cause: Arc<str>,
    },
    /// A group ended because its significant children have ended.
    ShutDown,
}

impl Cause {
    /// Its name in lower case with underscores, as in JSON: `start_failed`.
    pub fn name(&self) -> &'static str {
        match self {
            Cause::Panicked { .. } => "panicked",
            Cause::Stopped => "stopped",
            Cause::StartFailed { .. } => "start_failed",
            Cause::StartTimedOut { .. } => "start_timed_out",
            Cause::AwaitStuck { .. } => "await_stuck",
            Cause::Blocked { .. } => "blocked",
            Cause::Spinning { .. } => "spinning",
            Cause::HeldThread { .. } => "held_thread",
            Cause::ReportedFailed => "reported_failed",
            Cause::ArbiterDead => "arbiter_dead",
            Cause::Displaced { .. } => "displaced",
            Cause::ThreadSilent { .. } => "thread_silent",
            Cause::Sibling { .. } => "sibling",
            Cause::Exhausted { .. } => "exhausted",
            Cause::ShutDown => "shut_down",
        }
    }

    /// Whether the worker still holds its thread.
    pub fn holds_thread(&self) -> bool {
        match self {
            Cause::Blocked { .. } | Cause::Spinning { .. } | Cause::HeldThread { .. } => true,
            Cause::Panicked { .. }
            | Cause::Stopped
            | Cause::StartFailed { .. }
            | Cause::StartTimedOut { .. }
            | Cause::AwaitStuck { .. }
            | Cause::ReportedFailed
            | Cause::ArbiterDead
            | Cause::Displaced { .. }
            | Cause::ThreadSilent { .. }
            | Cause::Sibling { .. }
            | Cause::Exhausted { .. }
            | Cause::ShutDown => false,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Panicked { payload, during } => write!(f, "panicked in {during}: {payload}"),
            Cause::Stopped => f.write_str("stopped itself"),
            Cause::StartFailed { reason } => write!(f, "did not start: {reason}"),
            Cause::StartTimedOut { after } => write!(f, "was not up within {after:.3?}"),
            Cause::AwaitStuck { stuck_for, queued } => {
                write!(f, "waited for a future for {stuck_for:.3?} with {queued} in its queue")
            }
            Cause::Blocked { during, busy_for } => write!(f, "blocked its thread in {during} for {busy_for:.3?}"),
            Cause::Spinning { during, busy_for, ran_for } => {
                write!(f, "spun in {during} for {busy_for:.3?}, running {ran_for:.3?} of it")
            }
            Cause::HeldThread { during, busy_for } => write!(f, "held its thread in {during} for {busy_for:.3?}"),
            Cause::ReportedFailed => f.write_str("said that it had failed"),
            Cause::ArbiterDead => f.write_str("its thread has ended"),
            Cause::Displaced { by } => write!(f, "its thread was held by {by}"),
            Cause::ThreadSilent { silent_for } => write!(f, "its thread was silent for {silent_for:.3?}"),
            Cause::Sibling { sibling } => write!(f, "its sibling {sibling} failed"),
            Cause::Exhausted { child, cause } => write!(f, "{child} failed too often, the last time it {cause}"),
            Cause::ShutDown => f.write_str("its significant children had ended"),
        }
    }
}

/// Why requests should go elsewhere although the worker runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotReadyReason {
    /// Its queue is long.
    Overloaded,
    /// It reports itself as not ready.
    Reported,
    /// A neighbour holds its thread, and the worker waits for the thread.
    ThreadHeld,
}

/// A worker that waits for its held thread.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Waiting {
    /// Its name.
    pub worker: Arc<str>,
    /// How long it waits at most; then it starts anew on another thread.
    #[serde(serialize_with = "seconds")]
    pub timeout: Duration,
}

/// What one member reports of a silent node.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ObserverReport {
    /// Name of the member that reports it.
    pub observer: Arc<str>,
    /// For how long it has received nothing. `None` if it does not observe the silent node, and has
    /// only probed it.
    #[serde(serialize_with = "optional_seconds")]
    pub silent_for: Option<Duration>,
    /// Whether the silent node refused a connection.
    pub refused: bool,
    /// Whether it agrees that the node is dead.
    pub agrees: bool,
    /// Its local health: 0 is well, 8 the worst.
    pub health: u8,
}

/// Something that happened.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A node became a member, for the first time or after a restart of its process.
    Joined {
        /// The member as it is known now.
        member: Member,
    },
    /// A member, possibly this node, has published new metadata.
    Updated {
        /// The member as it is known now.
        member: Member,
    },
    /// A node left the cluster gracefully.
    Left {
        /// Its name.
        node: Arc<str>,
    },
    /// A node is silent for longer than its detector expects, and no member that was asked has
    /// heard from it. It is still a member, and keeps its shards. Nothing is to be done: `Cleared`
    /// or `Died` follows.
    Suspected {
        /// Its name.
        node: Arc<str>,
        /// The silence so far, as the observer measured it. Zero if the news came from another
        /// member.
        #[serde(serialize_with = "seconds")]
        silent_for: Duration,
        /// The reports of the members that were asked; empty if the news came from another member.
        evidence: Arc<[ObserverReport]>,
        /// The member that brought the news, if this is no verdict of this node.
        reported_by: Option<Arc<str>>,
    },
    /// A suspicion was wrong: the node is alive. Compare how often this happens with
    /// `detector.mistakes`.
    Cleared {
        /// Its name.
        node: Arc<str>,
    },
    /// A node was declared dead: it was silent past the timeout, or its process was seen to have
    /// ended. Its shards move to other nodes. Start it again if it is still needed.
    Died {
        /// Its name.
        node: Arc<str>,
        /// The silence that led to it. Zero if the news came from another member.
        #[serde(serialize_with = "seconds")]
        silent_for: Duration,
        /// The reports of the members that were asked; empty if the news came from another member.
        evidence: Arc<[ObserverReport]>,
        /// The member that brought the news, if this is no verdict of this node.
        reported_by: Option<Arc<str>>,
    },
    /// A node is silent past any useful patience below `timeout` more often than
    /// `detector.mistakes` allows. So wrong suspicions of it come as often as given here. Emitted
    /// once for each node that is watched. Raise `timeout` or `detector.mistakes`, or mend the
    /// link.
    BudgetExceeded {
        /// Its name.
        node: Arc<str>,
        /// Wrong suspicions allowed in an hour.
        allowed_per_hour: f64,
        /// Wrong suspicions to expect in an hour.
        kept_per_hour: f64,
    },
    /// A node that was dead or had left for `membership.forget_after` is no longer in the table of
    /// members.
    Forgotten {
        /// Its name.
        node: Arc<str>,
    },
    /// A node that was declared dead is back, under a higher incarnation.
    Returned {
        /// Its name.
        node: Arc<str>,
        /// Its new incarnation.
        incarnation: Incarnation,
    },
    /// Other members had news of this process that none of its incarnations could refute. It has
    /// given up its shards and goes on like a new process.
    Renewed {
        /// Its new generation.
        generation: Generation,
    },
    /// This node was declared dead by the others and has given up its shards. It comes back under a
    /// higher incarnation. Look for long pauses of this process, or for a faulty network.
    DeclaredDead {
        /// The incarnation under which it comes back.
        incarnation: Incarnation,
    },
    /// None of this node's observers answers, or none of its seeds. It goes on with the members
    /// that it knows and keeps trying. Check its network.
    Isolated {
        /// The nodes that were tried, with their addresses.
        tried: Arc<str>,
        /// For how long none of them has answered.
        #[serde(serialize_with = "seconds")]
        silent_for: Duration,
    },
    /// An observer or a seed answers, for the first time or again.
    Connected,
    /// A seed's name cannot be resolved. It is tried again.
    Unresolved {
        /// The seed as in the config.
        seed: Arc<str>,
        /// The error of the operating system.
        reason: Arc<str>,
    },
    /// Most members of a zone are silent at once. No member in it is declared dead for its silence
    /// until `ZoneRecovered`. Check the zone's network and power. If the members are gone for good,
    /// see `membership.brake`.
    ZoneDisrupted {
        /// Name of the zone; `all` for all zones together.
        zone: Arc<str>,
        /// How many of its members are silent.
        silent: u32,
        /// How many members the zone has.
        members: u32,
    },
    /// Deaths by silence are possible again in a zone. Each silence is counted anew.
    ZoneRecovered {
        /// Name of the zone; `all` for all zones together.
        zone: Arc<str>,
    },
    /// The wall clock of a node differs from that of the members by more than
    /// `membership.clock_skew_max`. The node follows the members' clock. If it was about to found a
    /// cluster, it founds none and waits to be admitted. Correct the clock.
    ClockSkewed {
        /// Name of the node: this one, or one that was admitted.
        node: Arc<str>,
        /// How far its clock is ahead of the members.
        ahead: Duration,
        /// How far its clock is behind.
        behind: Duration,
    },
    /// Another process uses this node's name with a higher generation. It supersedes this process,
    /// which must end.
    Superseded {
        /// The generation of the other process.
        generation: Generation,
        /// The address of the other process, if it is known.
        address: Option<SocketAddr>,
    },
    /// A seed, or a node that asks to join, belongs to a cluster of another name. Either one of the
    /// two names is misspelt, or the address is of another cluster. Emitted once a minute at most,
    /// on both sides.
    OtherCluster {
        /// Its address.
        address: SocketAddr,
    },
    /// In mode `central` there is no monitor among the members. No member is declared dead, and no
    /// shard of a dead node moves. Start a monitor. Emitted one timeout after the last monitor was
    /// found, and again at the first silence that follows.
    NoMonitor {
        /// The member that is silent, if there is one.
        silent: Option<Arc<str>>,
    },
    /// A member refused to admit this node. The node founds no cluster of its own, runs no shards,
    /// and keeps asking. Remove the cause that `reason` gives.
    RefusedBy {
        /// The address of that member.
        address: SocketAddr,
        /// Why, with the offending value.
        reason: Arc<str>,
    },
    /// This node refused to admit another one.
    JoinRefused {
        /// The address of the other node.
        address: SocketAddr,
        /// Why, with the offending value.
        reason: Arc<str>,
    },
    /// All members can use a higher version of the wire format than before, and this node sends in
    /// it. The last member that could not has ended.
    WireVersionRaised {
        /// The version before.
        from: u8,
        /// The version now.
        to: u8,
    },
    /// A member cannot use the version of the wire format that the others used. This node sends in
    /// a lower one, which all can use. Nothing else changes. Upgrade the members that hold the
    /// version back.
    WireVersionLowered {
        /// The version before.
        from: u8,
        /// The version now.
        to: u8,
        /// The names of the members that can use no higher one.
        held_back_by: Arc<[Arc<str>]>,
    },
    /// Too few of the members that count answer this node (`ownership.quorum`). It has given up its
    /// shards, declares no member dead for silence, and admits no new member. Check the network,
    /// and whether half of the nodes are gone.
    QuorumLost {
        /// How many members answer, this node included.
        reached: u32,
        /// How many members count, this node included.
        members: u32,
    },
    /// Enough of the members that count answer this node. Its shards start one lease later.
    QuorumGained {
        /// How many members answer, this node included.
        reached: u32,
        /// How many members count, this node included.
        members: u32,
    },
    /// The authority did not answer. Running shards go on until the session ends, and no shard is
    /// added. Check the authority and the way to it.
    AuthorityLost {
        /// The request, and the error.
        reason: Arc<str>,
    },
    /// The authority answers again.
    AuthorityReached,
    /// This node's session at the authority has ended, and the node has given up its shards. It
    /// begins a new session.
    SessionEnded {
        /// Why.
        reason: Arc<str>,
    },
    /// The authority gave out a lower epoch for a shard than the highest that this node has seen:
    /// it lost its state. The shard does not start here. Restore the state of the authority.
    TokenRefused {
        /// Name of the sharded group.
        group: Arc<str>,
        /// The shard, with the epoch that was given out.
        shard: Shard,
        /// The highest epoch that was seen.
        highest: Epoch,
    },
    /// Another node refused a snapshot of a shard of this node: it is too large, or there is no
    /// room for it. Raise `ownership.snapshot_bytes_max` there, or make the snapshot smaller.
    ReplicaRefused {
        /// Name of the sharded group.
        group: Arc<str>,
        /// The index of the shard.
        index: u32,
        /// Name of the node that refused it.
        by: Arc<str>,
        /// The size of the snapshot.
        bytes: u64,
    },
    /// This node leaves, and `ownership.hand_over_timeout` ended before all its shards were handed
    /// over. Their new owners go on from the last snapshot that was copied.
    HandOverCut {
        /// How many shards were not handed over.
        shards: u32,
    },
    /// This node declines other shards of a group than before. If a shard's worker is given up
    /// here, other members run the shard for five minutes. Look for the `GaveUp` of the worker.
    Declined {
        /// Name of the sharded group.
        group: Arc<str>,
        /// How many shards it declines now.
        declined: u32,
        /// How many more shards are left to other members because a datagram has no room to name
        /// each declined shard.
        withheld: u32,
    },
    /// A shard has a new owner, or its owner a new epoch.
    ShardMoved {
        /// Name of the sharded group.
        group: Arc<str>,
        /// Index and new epoch.
        shard: Shard,
        /// Name of the previous owner, if there was one.
        from: Option<Arc<str>>,
        /// Name of the new owner, if there is one.
        to: Option<Arc<str>>,
    },
    /// This node declares another number of shards for a group than the process that has supervised
    /// the group for longest. It runs no shard of the group until every process with the other
    /// number is gone. Use the same number on all nodes.
    ShardsRefused {
        /// Its name.
        group: Arc<str>,
        /// The number of shards here.
        count: u32,
        /// The number of shards in force.
        in_force: u32,
        /// A member that declares the number in force.
        by: Arc<str>,
    },
    /// The number of shards that this node declares for a group was refused before, and is in force
    /// now. Its shards are distributed.
    ShardsAdmitted {
        /// Its name.
        group: Arc<str>,
        /// The number of shards.
        count: u32,
    },
    /// A worker runs for the first time.
    Started {
        /// Its name.
        worker: Arc<str>,
        /// Its generation.
        generation: Generation,
        /// Which shard it is, if it is one.
        shard: Option<Shard>,
    },
    /// A worker failed. `Replaced` or `GaveUp` follows, or nothing if its restart kind says so.
    Failed {
        /// Its name.
        worker: Arc<str>,
        /// The generation that failed.
        generation: Generation,
        /// Why.
        cause: Cause,
        /// How long until it is started again; `None` if it is not.
        #[serde(serialize_with = "optional_seconds")]
        restart_in: Option<Duration>,
    },
    /// A new generation of a worker runs in the place of a failed one.
    Replaced {
        /// Its name.
        worker: Arc<str>,
        /// The new generation.
        generation: Generation,
        /// Why the previous one ended.
        cause: Cause,
        /// The time from the failure to the new start: from the panic, or from when the thread was
        /// held.
        #[serde(serialize_with = "seconds")]
        after: Duration,
        /// Which shard it is, if it is one.
        shard: Option<Shard>,
    },
    /// A worker ended without a fault, by itself or because it was stopped.
    Stopped {
        /// Its name.
        worker: Arc<str>,
        /// The generation that ended.
        generation: Generation,
    },
    /// A worker had not stopped at its deadline and was fenced: it handles no further message.
    Fenced {
        /// Its name.
        worker: Arc<str>,
        /// The generation that was fenced.
        generation: Generation,
        /// The time that it had.
        #[serde(serialize_with = "seconds")]
        after: Duration,
        /// How many messages it had begun and never answered: the one in hand, and answers under
        /// way. The mailbox counts them.
        interrupted: u32,
        /// How many messages were left in its queue, if the queue is closed. The mailbox counts
        /// them.
        dropped: u32,
    },
    /// A worker or a group failed more often than its limits allow. It is not started again, and
    /// its queued messages are dead letters. Fix the cause and start it by command.
    GaveUp {
        /// Its name.
        worker: Arc<str>,
        /// Restarts within the period.
        restarts: u32,
        /// Why it ended the last time.
        cause: Cause,
    },
    /// A worker runs, but requests should go elsewhere.
    NotReady {
        /// Its name.
        worker: Arc<str>,
        /// Its generation.
        generation: Generation,
        /// Why.
        reason: NotReadyReason,
    },
    /// A worker is ready again.
    Ready {
        /// Its name.
        worker: Arc<str>,
        /// Its generation.
        generation: Generation,
    },
    /// All children of a group are up, for the first time or again.
    GroupStarted {
        /// Its name.
        group: Arc<str>,
        /// Why it had ended before, if it had.
        cause: Option<Cause>,
    },
    /// A child of a group failed more often than the group's limits allow. The group ends, and its
    /// parent decides what follows.
    Escalated {
        /// Name of the group.
        group: Arc<str>,
        /// Name of the child.
        child: Arc<str>,
        /// Restarts within the group's period.
        restarts: u32,
        /// Why the child ended the last time.
        cause: Cause,
    },
    /// All children of a group have ended, and it is not started again.
    GroupStopped {
        /// Its name.
        group: Arc<str>,
    },
    /// A thread is held past the timeout. The worker that holds it, if one does, starts anew on a
    /// fresh thread, if its restart limits allow that. Find the call that `cause` names, and give
    /// it a timeout or move it to a thread pool.
    ThreadHeld {
        /// Which thread.
        arbiter: ArbiterId,
        /// Name of the worker that holds it, if one does.
        by: Option<Arc<str>>,
        /// What holds it, and for how long.
        cause: Cause,
        /// The neighbours that wait for the thread and keep their state.
        waiting: Arc<[Waiting]>,
        /// Names of the neighbours that start anew at once. They keep address, queue and snapshot,
        /// and lose their state.
        started_anew: Arc<[Arc<str>]>,
        /// How many threads are held now.
        zombies: u32,
    },
    /// A held thread has come back to the workers that waited for it, and they go on.
    ThreadReturned {
        /// Which thread.
        arbiter: ArbiterId,
        /// How long it was held.
        #[serde(serialize_with = "seconds")]
        held_for: Duration,
        /// Names of the workers.
        workers: Arc<[Arc<str>]>,
        /// How many threads are still held.
        zombies: u32,
    },
    /// A held thread for which no worker waits was abandoned. A thread cannot be killed; its
    /// workers are fenced.
    Abandoned {
        /// Which thread.
        arbiter: ArbiterId,
        /// How many threads are held now.
        zombies: u32,
    },
    /// A held thread came back, handled nothing more, and ended.
    ZombieEnded {
        /// Which thread.
        arbiter: ArbiterId,
        /// How many threads are still held.
        zombies: u32,
    },
    /// A thread is held, and `workers.zombies_max` threads are held already. Its workers are not
    /// replaced. Restart the process.
    TooManyZombies {
        /// Which thread.
        arbiter: ArbiterId,
        /// How many other threads are held.
        zombies: u32,
    },
    /// The operating system gave no thread for workers, for lack of memory or because of a limit.
    /// Its workers wait, and none has failed. The next attempt is after `retry_in`. Raise the
    /// limit.
    NoThread {
        /// Which thread.
        arbiter: ArbiterId,
        /// The error of the operating system.
        reason: Arc<str>,
        /// How long until the next attempt.
        #[serde(serialize_with = "seconds")]
        retry_in: Duration,
    },
    /// A worker thread is silent because it got no CPU. No verdict follows. Give the process more
    /// CPU.
    Starved {
        /// Which thread.
        arbiter: ArbiterId,
        /// How long it has waited for a CPU since its last beat.
        #[serde(serialize_with = "seconds")]
        waited_for: Duration,
    },
    /// This process was paused: its timer came late, or the wall clock ran ahead because the
    /// machine was suspended. The pause is subtracted from all silences. Frequent pauses need more
    /// CPU, or fewer blocking calls.
    Paused {
        /// How late the timer came, which is up to `stall` less than the pause; or by how much the
        /// wall clock ran ahead.
        #[serde(serialize_with = "seconds")]
        late_by: Duration,
    },
}

impl Event {
    /// Its name in lower case with underscores, as in JSON: `shards_refused`.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Joined { .. } => "joined",
            Event::Updated { .. } => "updated",
            Event::Left { .. } => "left",
            Event::Suspected { .. } => "suspected",
            Event::Cleared { .. } => "cleared",
            Event::Died { .. } => "died",
            Event::BudgetExceeded { .. } => "budget_exceeded",
            Event::Forgotten { .. } => "forgotten",
            Event::Returned { .. } => "returned",
            Event::Renewed { .. } => "renewed",
            Event::DeclaredDead { .. } => "declared_dead",
            Event::Isolated { .. } => "isolated",
            Event::Connected => "connected",
            Event::Unresolved { .. } => "unresolved",
            Event::ZoneDisrupted { .. } => "zone_disrupted",
            Event::ZoneRecovered { .. } => "zone_recovered",
            Event::Superseded { .. } => "superseded",
            Event::OtherCluster { .. } => "other_cluster",
            Event::NoMonitor { .. } => "no_monitor",
            Event::ClockSkewed { .. } => "clock_skewed",
            Event::RefusedBy { .. } => "refused_by",
            Event::JoinRefused { .. } => "join_refused",
            Event::WireVersionRaised { .. } => "wire_version_raised",
            Event::WireVersionLowered { .. } => "wire_version_lowered",
            Event::QuorumLost { .. } => "quorum_lost",
            Event::QuorumGained { .. } => "quorum_gained",
            Event::AuthorityLost { .. } => "authority_lost",
            Event::AuthorityReached => "authority_reached",
            Event::SessionEnded { .. } => "session_ended",
            Event::TokenRefused { .. } => "token_refused",
            Event::HandOverCut { .. } => "hand_over_cut",
            Event::Declined { .. } => "declined",
            Event::ReplicaRefused { .. } => "replica_refused",
            Event::ShardMoved { .. } => "shard_moved",
            Event::ShardsRefused { .. } => "shards_refused",
            Event::ShardsAdmitted { .. } => "shards_admitted",
            Event::Started { .. } => "started",
            Event::Failed { .. } => "failed",
            Event::Replaced { .. } => "replaced",
            Event::Stopped { .. } => "stopped",
            Event::Fenced { .. } => "fenced",
            Event::GaveUp { .. } => "gave_up",
            Event::NotReady { .. } => "not_ready",
            Event::Ready { .. } => "ready",
            Event::GroupStarted { .. } => "group_started",
            Event::Escalated { .. } => "escalated",
            Event::GroupStopped { .. } => "group_stopped",
            Event::ThreadHeld { .. } => "thread_held",
            Event::ThreadReturned { .. } => "thread_returned",
            Event::Abandoned { .. } => "abandoned",
            Event::ZombieEnded { .. } => "zombie_ended",
            Event::TooManyZombies { .. } => "too_many_zombies",
            Event::NoThread { .. } => "no_thread",
            Event::Starved { .. } => "starved",
            Event::Paused { .. } => "paused",
        }
    }
}

/// Writes a duration as seconds, as in all events.
fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn optional_seconds<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_some(&duration.as_secs_f64()),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_name_that_serde_writes() {
        let node: Arc<str> = "node-1".into();
        let worker = node.clone();
        let shard = Shard { index: 1, epoch: Epoch(2) };
        let events = [
            Event::Left { node: node.clone() },
            Event::Cleared { node },
            Event::DeclaredDead { incarnation: Incarnation::default() },
            Event::ZoneDisrupted { zone: worker.clone(), silent: 3, members: 4 },
            Event::ZoneRecovered { zone: worker.clone() },
            Event::JoinRefused { address: ([127, 0, 0, 1], 1).into(), reason: worker.clone() },
            Event::ShardMoved { group: worker.clone(), shard, from: None, to: Some(worker.clone()) },
            Event::AuthorityReached,
            Event::GroupStopped { group: worker.clone() },
            Event::ZombieEnded { arbiter: ArbiterId(1), zombies: 2 },
            Event::ShardsAdmitted { group: worker.clone(), count: 4 },
            Event::Started { worker, generation: Generation(1), shard: Some(shard) },
        ];
        for event in events {
            let written = toml::Table::try_from(&event).expect("an event can be written");
            assert_eq!(written["event"].as_str(), Some(event.name()));
        }
    }
}
