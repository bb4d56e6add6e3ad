//! `Event`: what happened, in the past tense, for subscribers and logs.
//!
//! Everything the engine concludes leaves it as one of these, with the figures that led to it, so
//! that a log line, a metric and a subscriber all see the same. Workers and nodes go by the names
//! their users gave them.

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
    /// It was not up within `workers.start_timeout`.
    StartTimedOut {
        /// The time it had.
        #[serde(serialize_with = "seconds")]
        after: Duration,
    },
    /// It waits for a future that does not end, while messages or answers wait for it. Its thread
    /// is well.
    AwaitStuck {
        /// For how long messages have waited without any being handled.
        #[serde(serialize_with = "seconds")]
        stuck_for: Duration,
        /// Messages that waited, and answers under way.
        queued: u32,
    },
    /// It held its thread for longer than the timeout, asleep in a call.
    Blocked {
        /// What it is stuck in.
        during: Activity,
        /// For how long, when it was concluded.
        #[serde(serialize_with = "seconds")]
        busy_for: Duration,
    },
    /// It held its thread for longer than the timeout, and ran all the while.
    Spinning {
        /// What it is stuck in.
        during: Activity,
        /// For how long, when it was concluded.
        #[serde(serialize_with = "seconds")]
        busy_for: Duration,
        /// How much of that it ran.
        #[serde(serialize_with = "seconds")]
        ran_for: Duration,
    },
    /// It held its thread for longer than the timeout; whether it slept, ran or waited for a CPU
    /// cannot be told on this system.
    HeldThread {
        /// What it is stuck in.
        during: Activity,
        /// For how long, when it was concluded.
        #[serde(serialize_with = "seconds")]
        busy_for: Duration,
    },
    /// It said of itself that it had failed.
    ReportedFailed,
    /// The thread it ran on has ended.
    ArbiterDead,
    /// A neighbour held the thread it shared; not its own fault, and not counted against it.
    Displaced {
        /// Name of the neighbour that was blamed.
        by: Arc<str>,
    },
    /// Its thread fell silent and no worker on it was at work, so none is to blame.
    ThreadSilent {
        /// For how long, when it was concluded.
        #[serde(serialize_with = "seconds")]
        silent_for: Duration,
    },
    /// A sibling failed, and their group starts them together; not counted against it.
    Sibling {
        /// Name of the sibling that failed.
        sibling: Arc<str>,
    },
    /// A group's child failed more often than the group allows: the group ends and its parent
    /// decides.
    Exhausted {
        /// Name of the child.
        child: Arc<str>,
        /// Why it ended the last time, in words.
        cause: Arc<str>,
    },
    /// A group ended because its significant children had.
    ShutDown,
}

impl Cause {
    /// Whether its thread is still held by what it was doing.
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

/// Why requests should go elsewhere though the worker lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotReadyReason {
    /// Its queue is long.
    Overloaded,
    /// It says so itself.
    Reported,
    /// A neighbour holds its thread, and it waits for the thread.
    ThreadHeld,
}

/// A worker that waits for its held thread.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Waiting {
    /// Its name.
    pub worker: Arc<str>,
    /// How long it waits; then it is started anew on another thread.
    #[serde(serialize_with = "seconds")]
    pub timeout: Duration,
}

/// What one member says of a silent one.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ObserverReport {
    /// Name of the one who says it.
    pub observer: Arc<str>,
    /// For how long it has heard nothing; none if it does not watch the silent one, and has only
    /// tried to reach it.
    #[serde(serialize_with = "optional_seconds")]
    pub silent_for: Option<Duration>,
    /// Whether a connection to it was refused.
    pub refused: bool,
    /// Whether it would call it dead.
    pub agrees: bool,
    /// How well it is itself: 0 is well, 8 the worst.
    pub health: u8,
}

/// Something that happened.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A node became a member, for the first time or after a restart of its process.
    Joined {
        /// As it is known now.
        member: Member,
    },
    /// A member, this node perhaps, says something else of itself: other metadata.
    Updated {
        /// As it is known now.
        member: Member,
    },
    /// A node left on purpose.
    Left {
        /// Its name.
        node: Arc<str>,
    },
    /// A node is silent for longer than its detector expects, and nobody who was asked has heard
    /// it. It is still a member.
    Suspected {
        /// Its name.
        node: Arc<str>,
        /// The silence so far, as the one who judged it saw it; zero where the news came from
        /// elsewhere.
        #[serde(serialize_with = "seconds")]
        silent_for: Duration,
        /// Who says so; empty where the news came from another member.
        evidence: Arc<[ObserverReport]>,
        /// Name of the member that brought the news, where this is no verdict of this node's.
        reported_by: Option<Arc<str>>,
    },
    /// A suspicion was wrong: the number to watch.
    Cleared {
        /// Its name.
        node: Arc<str>,
    },
    /// A node was silent past the timeout, or seen to have ended, and is concluded dead: its shards
    /// move.
    Died {
        /// Its name.
        node: Arc<str>,
        /// The silence that led to it; zero where the news came from elsewhere.
        #[serde(serialize_with = "seconds")]
        silent_for: Duration,
        /// Who says so; empty where the news came from another member.
        evidence: Arc<[ObserverReport]>,
        /// Name of the member that brought the news, where this is no verdict of this node's.
        reported_by: Option<Arc<str>>,
    },
    /// A node that was dead or had left for `membership.forget_after` is no longer in the table.
    Forgotten {
        /// Its name.
        node: Arc<str>,
    },
    /// A node that had been concluded dead is back, under a higher incarnation.
    Returned {
        /// Its name.
        node: Arc<str>,
        /// Its new incarnation.
        incarnation: Incarnation,
    },
    /// Others held of this process what no number of its own could contradict. It has given up its
    /// shards and goes on as a new process would.
    Renewed {
        /// Its new generation.
        generation: Generation,
    },
    /// This node was itself concluded dead and has given up its shards; it comes back under a
    /// higher incarnation.
    DeclaredDead {
        /// The incarnation under which it comes back.
        incarnation: Incarnation,
    },
    /// None of this node's observers answers, or none of its seeds; it goes on with the view it has
    /// and keeps trying.
    Isolated {
        /// Who was tried, with addresses.
        tried: Arc<str>,
        /// How long none has answered.
        #[serde(serialize_with = "seconds")]
        silent_for: Duration,
    },
    /// An observer, or a seed, answers, for the first time or again.
    Connected,
    /// A seed cannot be looked up; it is tried again.
    Unresolved {
        /// As the config has it.
        seed: Arc<str>,
        /// What the system said.
        reason: Arc<str>,
    },
    /// Most of a zone is silent at once: nobody in it is called dead for silence until the doubt is
    /// over.
    ZoneDisrupted {
        /// Its name; `all` for all together.
        zone: Arc<str>,
        /// How many are silent.
        silent: u32,
        /// Of how many.
        members: u32,
    },
    /// A freeze is over; everybody has a fresh timer.
    ZoneRecovered {
        /// Name of the zone; `all` for all together.
        zone: Arc<str>,
    },
    /// The wall clock of a node is farther from that of the members than
    /// `membership.clock_skew_max`. The node goes on from theirs. If it might have founded a
    /// cluster, it founds none and waits to be let in.
    ClockSkewed {
        /// Its name; this node's own, or that of a node that was let in.
        node: Arc<str>,
        /// How far it is ahead of the members.
        ahead: Duration,
        /// How far it is behind.
        behind: Duration,
    },
    /// Another process speaks under this node's name with a higher generation: this one was
    /// superseded and must end.
    Superseded {
        /// The other's generation.
        generation: Generation,
        /// Where it is, if this node heard of that.
        address: Option<SocketAddr>,
    },
    /// A seed, or a node that asks to be let in, is of a cluster with another name: one of the two
    /// names is misspelt, or the address is another cluster's. Told once a minute at most, on both
    /// sides.
    OtherCluster {
        /// Where it is.
        address: SocketAddr,
    },
    /// There is no monitor among the members, in mode `central`: no death is concluded, and no
    /// shard of a dead node is started elsewhere. Told a timeout after this node has found none,
    /// and again at the first silence that follows.
    NoMonitor {
        /// The member that does not answer.
        silent: Option<Arc<str>>,
    },
    /// This node was not let in by a member that it asked. It founds no cluster of its own, runs no
    /// shards, and asks on.
    RefusedBy {
        /// Who was asked.
        address: SocketAddr,
        /// Why, with the offending value.
        reason: Arc<str>,
    },
    /// A node was not admitted.
    JoinRefused {
        /// Where it called from.
        address: SocketAddr,
        /// Why, with the offending value.
        reason: Arc<str>,
    },
    /// Too few of those that count answer this node (`ownership.quorum`): it has given up its
    /// shards, calls nobody dead for silence, and lets nobody new in.
    QuorumLost {
        /// Who answers, this node included.
        reached: u32,
        /// How many count.
        members: u32,
    },
    /// Enough of those that count answer this node. Its shards start one lease later.
    QuorumGained {
        /// Who answers, this node included.
        reached: u32,
        /// How many count.
        members: u32,
    },
    /// The authority did not answer. What runs goes on for as long as the session lasts; nothing
    /// new is taken on.
    AuthorityLost {
        /// What was asked of whom, and what came of it.
        reason: Arc<str>,
    },
    /// The authority answers again.
    AuthorityReached,
    /// This node's session at the authority is over, and it has given up its shards. It begins
    /// another one.
    SessionEnded {
        /// Why.
        reason: Arc<str>,
    },
    /// The authority gave out a lower epoch for a shard than one that was seen before: it has
    /// forgotten. The shard does not start here.
    TokenRefused {
        /// Name of the sharded group.
        group: Arc<str>,
        /// The shard, with the epoch that was given out.
        shard: Shard,
        /// The highest epoch that was seen.
        highest: Epoch,
    },
    /// Another node did not take a snapshot of a shard of ours: it is too large for it, or there is
    /// no room for it.
    ReplicaRefused {
        /// Name of the sharded group.
        group: Arc<str>,
        /// Which of its shards.
        index: u32,
        /// Who refused it.
        by: Arc<str>,
        /// How long it is.
        bytes: u64,
    },
    /// This node leaves, and `ownership.hand_over_timeout` is over before all its shards are handed over.
    /// Their new owners go on from the last snapshot that was copied.
    HandOverCut {
        /// How many shards were not handed over to the end.
        shards: u32,
    },
    /// What this node declines of a sharded group has changed: shards whose worker was given up
    /// here are run by other members for five minutes.
    Declined {
        /// Name of the sharded group.
        group: Arc<str>,
        /// How many shards it declines now.
        declined: u32,
        /// How many others are left to other members as well, for want of space to say it exactly.
        withheld: u32,
    },
    /// A shard has a new owner, or its owner a new epoch.
    ShardMoved {
        /// Name of the sharded group.
        group: Arc<str>,
        /// Index and new epoch.
        shard: Shard,
        /// Name of the former owner, if there was one.
        from: Option<Arc<str>>,
        /// Name of the new owner, if there is one.
        to: Option<Arc<str>>,
    },
    /// A sharded group of this node has another number of shards than on the process that
    /// supervises it for longest: none of its shards runs here until that one, and all that agree
    /// with it, are gone.
    ShardsRefused {
        /// Its name.
        group: Arc<str>,
        /// The number of shards here.
        count: u32,
        /// The number of shards in force.
        in_force: u32,
        /// Name of the member that says so.
        by: Arc<str>,
    },
    /// The number of shards of a group that was refused is in force now: it is shared out.
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
    /// A worker failed. What follows is `Replaced`, `GaveUp`, or nothing if its restart kind says
    /// so.
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
        /// Why the former one ended.
        cause: Cause,
        /// From the failure to the new start: from the panic, or from when the thread was blocked.
        #[serde(serialize_with = "seconds")]
        after: Duration,
        /// Which shard it is, if it is one.
        shard: Option<Shard>,
    },
    /// A worker ended without fault, or because it was told to.
    Stopped {
        /// Its name.
        worker: Arc<str>,
        /// The generation that ended.
        generation: Generation,
    },
    /// A worker was told to stop and had not stopped at its deadline: it is void and handles
    /// nothing more.
    Fenced {
        /// Its name.
        worker: Arc<str>,
        /// The generation that is void.
        generation: Generation,
        /// The time it had.
        #[serde(serialize_with = "seconds")]
        after: Duration,
        /// Messages that it had begun and never answered: the one in hand, and answers under way.
        /// The mailbox counts them.
        interrupted: u32,
        /// Messages that were left in its queue, if the queue is closed. The mailbox counts them.
        dropped: u32,
    },
    /// A worker or a group failed too often: it is not started again and its queues are dead
    /// letters. The application must act.
    GaveUp {
        /// Its name.
        worker: Arc<str>,
        /// Restarts within the period.
        restarts: u32,
        /// Why it ended the last time.
        cause: Cause,
    },
    /// A worker lives but requests should go elsewhere.
    NotReady {
        /// Its name.
        worker: Arc<str>,
        /// Its generation.
        generation: Generation,
        /// Why.
        reason: NotReadyReason,
    },
    /// A worker takes requests again.
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
    /// A child of a group failed more often than the group allows: the group ends, and its parent
    /// decides what follows.
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
    /// A thread is held. The worker that holds it is started anew on a fresh thread, if it may be;
    /// what becomes of its neighbours is said here.
    ThreadHeld {
        /// Which thread.
        arbiter: ArbiterId,
        /// Name of the worker that holds it, if one does.
        by: Option<Arc<str>>,
        /// In what it is held, and for how long.
        cause: Cause,
        /// The neighbours that wait for it and keep all that they have.
        waiting: Arc<[Waiting]>,
        /// Names of the neighbours that are started anew at once: address, queue and snapshot stay,
        /// state does not.
        started_anew: Arc<[Arc<str>]>,
        /// Held threads now.
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
        /// Held threads left.
        zombies: u32,
    },
    /// A held thread for which no worker waits was abandoned; it cannot be killed, only fenced.
    Abandoned {
        /// Which thread.
        arbiter: ArbiterId,
        /// Blocked threads now.
        zombies: u32,
    },
    /// A blocked thread came back, handled nothing more, and ended.
    ZombieEnded {
        /// Which thread.
        arbiter: ArbiterId,
        /// Blocked threads left.
        zombies: u32,
    },
    /// One more thread is blocked than may be; its workers are not replaced. The process should be
    /// restarted.
    TooManyZombies {
        /// Which thread.
        arbiter: ArbiterId,
        /// Blocked threads that were abandoned already.
        zombies: u32,
    },
    /// The system has no thread for workers: a limit of processes, or no memory. Those that were to
    /// run on it wait, none has failed, and it is tried again after `retry_in`.
    NoThread {
        /// Which thread.
        arbiter: ArbiterId,
        /// What the system said.
        reason: Arc<str>,
        /// How long until it is tried again.
        #[serde(serialize_with = "seconds")]
        retry_in: Duration,
    },
    /// A worker thread is silent because it got no CPU; no verdict follows from that.
    Starved {
        /// Which thread.
        arbiter: ArbiterId,
        /// How long it has waited for a CPU since it last spoke.
        #[serde(serialize_with = "seconds")]
        waited_for: Duration,
    },
    /// Our own timer came late: we were paused or starved. Or the wall clock ran ahead of ours: the
    /// machine was suspended. The pause counts as nobody's silence.
    Paused {
        /// How late the timer came, which is up to `stall` less than the pause was long; or by how
        /// much the wall clock ran ahead.
        #[serde(serialize_with = "seconds")]
        late_by: Duration,
    },
}

impl Event {
    /// Its name, in lower case and with underscores: `shards_refused`. JSON has the same one.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Joined { .. } => "joined",
            Event::Updated { .. } => "updated",
            Event::Left { .. } => "left",
            Event::Suspected { .. } => "suspected",
            Event::Cleared { .. } => "cleared",
            Event::Died { .. } => "died",
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

/// Durations in events are seconds, as a number.
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
