//! One line of `tracing` for each event: a clause for a stranger, the event's name, and the figures
//! as fields.
//!
//! A field without a value is left out: a line has no `shard=None`, and no silence of zero where
//! another member reported a death.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use heartbeat_core::{Event, NotReadyReason, ObserverReport, Shard};
use tracing::field::{DebugValue, DisplayValue, debug as debug_value, display};
use tracing::{debug, error, info, warn};

/// Names in one line of the log; an event has them all.
const NAMES_MAX: usize = 32;

/// These names in one line, or how many there are.
fn named(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMES_MAX);
    let line = names.take(NAMES_MAX).collect::<Vec<_>>().join(", ");
    match (line.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => line,
        (false, more) => format!("{line} and {more} more"),
    }
}

/// Logs an event in one line. The level says how urgently a person should look at it.
pub(super) fn log(event: &Event) {
    match event {
        Event::Suspected { .. } | Event::Died { .. } => log_verdict(event),
        Event::Joined { .. }
        | Event::Updated { .. }
        | Event::Left { .. }
        | Event::Cleared { .. }
        | Event::Forgotten { .. }
        | Event::Returned { .. }
        | Event::DeclaredDead { .. }
        | Event::Isolated { .. }
        | Event::Connected
        | Event::Unresolved { .. }
        | Event::ZoneDisrupted { .. }
        | Event::ZoneRecovered { .. }
        | Event::Superseded { .. }
        | Event::OtherCluster { .. }
        | Event::BudgetExceeded { .. }
        | Event::NoMonitor { .. }
        | Event::ClockSkewed { .. }
        | Event::RefusedBy { .. }
        | Event::JoinRefused { .. }
        | Event::Renewed { .. } => log_member(event),
        Event::QuorumLost { .. }
        | Event::QuorumGained { .. }
        | Event::AuthorityLost { .. }
        | Event::AuthorityReached
        | Event::SessionEnded { .. }
        | Event::TokenRefused { .. }
        | Event::ReplicaRefused { .. }
        | Event::HandOverCut { .. }
        | Event::Declined { .. }
        | Event::ShardMoved { .. }
        | Event::ShardsRefused { .. }
        | Event::ShardsAdmitted { .. } => log_shard(event),
        Event::Started { .. }
        | Event::Failed { .. }
        | Event::Replaced { .. }
        | Event::Stopped { .. }
        | Event::Fenced { .. }
        | Event::NotReady { .. }
        | Event::Ready { .. }
        | Event::GroupStarted { .. }
        | Event::GroupStopped { .. }
        | Event::Escalated { .. }
        | Event::GaveUp { .. } => log_worker(event),
        Event::ThreadHeld { .. }
        | Event::ThreadReturned { .. }
        | Event::Abandoned { .. }
        | Event::ZombieEnded { .. }
        | Event::TooManyZombies { .. }
        | Event::NoThread { .. }
        | Event::Starved { .. }
        | Event::Paused { .. } => log_thread(event),
        // A newer core may have more events.
        other => debug!(event = other.name(), "{other:?}"),
    }
}

fn log_verdict(verdict: &Event) {
    let event = verdict.name();
    match verdict {
        Event::Suspected { node, reported_by: Some(reported_by), .. } => {
            warn!(event, %node, %reported_by, "another member suspects the node");
        }
        Event::Suspected { node, silent_for, evidence, reported_by: None } => {
            warn!(event, %node, silent_for = since(*silent_for), evidence = reports(evidence), "node suspected: no heartbeat");
        }
        Event::Died { node, reported_by: Some(reported_by), .. } => {
            warn!(event, %node, %reported_by, "another member has declared the node dead");
        }
        Event::Died { node, silent_for, evidence, reported_by: None } => {
            warn!(event, %node, silent_for = since(*silent_for), evidence = reports(evidence), "node declared dead");
        }
        other => debug!(event, "{other:?}"),
    }
}

fn log_member(member: &Event) {
    let event = member.name();
    match member {
        Event::Joined { member } => info!(event, node = %member.name, address = %member.address, "node joined"),
        Event::Updated { member } => {
            debug!(event, node = %member.name, metadata = ?member.metadata, "node has changed what it tells of itself");
        }
        Event::Left { node } => info!(event, %node, "node left on purpose"),
        Event::Cleared { node } => warn!(event, %node, "the suspicion was wrong: the node is alive"),
        Event::Forgotten { node } => debug!(event, %node, "a node that was dead or had left is forgotten"),
        Event::Returned { node, incarnation } => {
            warn!(event, %node, %incarnation, "a node that was declared dead is back");
        }
        Event::DeclaredDead { incarnation } => {
            error!(event, %incarnation, "this node was declared dead; it has given up its shards and comes back");
        }
        Event::Renewed { generation } => {
            let generation = generation.0;
            error!(event, generation, "other nodes hold this one ended: it has given up its shards and begins anew");
        }
        Event::Isolated { tried, silent_for } => {
            error!(event, %tried, silent_for = since(*silent_for), "no observer and no seed answers this node");
        }
        Event::Connected => info!(event, "an observer or a seed answers this node"),
        Event::Unresolved { seed, reason } => {
            warn!(event, %seed, %reason, "the seed cannot be looked up; trying again")
        }
        Event::ZoneDisrupted { zone, silent, members } => {
            error!(event, %zone, silent, members, "most of the zone is silent: no node in it is declared dead for silence");
        }
        Event::ZoneRecovered { zone } => warn!(event, %zone, "the zone answers again: verdicts go on"),
        Event::OtherCluster { address } => warn!(event, %address, "a cluster with another name is there"),
        Event::BudgetExceeded { node, allowed_per_hour, kept_per_hour } => {
            warn!(
                event,
                %node,
                allowed_per_hour,
                kept_per_hour,
                "the node is silent too often for detector.mistakes to be kept below the timeout"
            );
        }
        Event::NoMonitor { silent } => {
            let silent = silent.as_ref().map(display);
            error!(event, silent, "no monitor is a member: no death is concluded");
        }
        Event::ClockSkewed { node, ahead, behind } => {
            error!(event, %node, ?ahead, ?behind, "the clock of the node is far from that of the members");
        }
        Event::Superseded { generation, address } => {
            let address = address.as_ref().map(display);
            error!(
                event,
                generation = generation.0,
                address,
                "a later process has this node's name: this one must end"
            );
        }
        Event::RefusedBy { address, reason } => error!(event, %address, %reason, "a member did not let this node in"),
        Event::JoinRefused { address, reason } => warn!(event, %address, %reason, "a node was not let in"),
        other => debug!(event, "{other:?}"),
    }
}

fn log_shard(change: &Event) {
    let event = change.name();
    match change {
        Event::ShardMoved { group, shard: Shard { index, epoch }, from, to } => {
            let (from, to) = (from.as_ref().map(display), to.as_ref().map(display));
            let moved = if to.is_some() { "the shard has an owner" } else { "the shard has no owner" };
            info!(event, %group, shard = index, epoch = epoch.0, from, to, "{moved}");
        }
        Event::AuthorityLost { reason } => warn!(event, %reason, "the authority did not answer"),
        Event::AuthorityReached => info!(event, "the authority answers again"),
        Event::SessionEnded { reason } => {
            error!(event, %reason, "the session at the authority is over: shards given up");
        }
        Event::TokenRefused { group, shard: Shard { index, epoch }, highest } => {
            let (epoch, highest) = (epoch.0, highest.0);
            error!(event, %group, shard = index, epoch, highest, "the authority gave out an epoch that is too low");
        }
        Event::ReplicaRefused { group, index, by, bytes } => {
            warn!(event, %group, shard = index, %by, bytes, "another node did not take a snapshot of the shard");
        }
        Event::HandOverCut { shards } => {
            error!(event, shards, "this node leaves before all shards are handed over: the last copies are used");
        }
        Event::Declined { group, declined, withheld } => {
            warn!(event, %group, declined, withheld, "this node cannot run some of its shards: others run them");
        }
        Event::QuorumLost { reached, members } => {
            error!(event, reached, members, "too few nodes answer: shards given up")
        }
        Event::QuorumGained { reached, members } => {
            info!(event, reached, members, "enough nodes answer: shards start again")
        }
        Event::ShardsRefused { group, count, in_force, by } => {
            error!(event, %group, count, in_force, %by, "another number of shards is in force: none runs here");
        }
        Event::ShardsAdmitted { group, count } => info!(event, %group, count, "this number of shards is in force now"),
        other => debug!(event, "{other:?}"),
    }
}

fn log_worker(change: &Event) {
    let event = change.name();
    match change {
        Event::Started { worker, generation, shard } => {
            let (shard, epoch) = numbers(*shard);
            debug!(event, %worker, generation = generation.0, shard, epoch, "worker started");
        }
        Event::Failed { worker, generation, cause, restart_in } => {
            let pause = restart_in.filter(|pause| !pause.is_zero()).map(since);
            let what = match restart_in {
                None => "worker failed; it is not started again",
                Some(Duration::ZERO) => "worker failed; it is started again at once",
                Some(_) => "worker failed; it is started again after a pause",
            };
            warn!(event, %worker, generation = generation.0, %cause, restart_in = pause, "{what}");
        }
        Event::Replaced { worker, generation, cause, after, shard } => {
            let (shard, epoch) = numbers(*shard);
            let after = since(*after);
            info!(event, %worker, generation = generation.0, %cause, after, shard, epoch, "worker replaced");
        }
        Event::Stopped { worker, generation } => debug!(event, %worker, generation = generation.0, "worker stopped"),
        Event::Fenced { worker, generation, after, interrupted, dropped } => {
            let after = since(*after);
            warn!(event, %worker, generation = generation.0, after, interrupted, dropped, "worker did not stop in time: fenced");
        }
        // The line of the held thread has named it.
        Event::NotReady { worker, generation, reason: reason @ NotReadyReason::ThreadHeld } => {
            let reason = debug_value(reason);
            debug!(event, %worker, generation = generation.0, reason, "worker waits for its thread");
        }
        Event::NotReady { worker, generation, reason } => {
            let reason = debug_value(reason);
            warn!(event, %worker, generation = generation.0, reason, "worker takes no requests");
        }
        Event::Ready { worker, generation } => {
            info!(event, %worker, generation = generation.0, "worker takes requests again");
        }
        Event::GroupStarted { group, cause } => {
            debug!(event, %group, cause = cause.as_ref().map(display), "group is up");
        }
        Event::GroupStopped { group } => debug!(event, %group, "group has ended"),
        Event::Escalated { group, child, restarts, cause } => {
            error!(event, %group, %child, restarts, %cause, "child failed too often: its group ends");
        }
        Event::GaveUp { worker, restarts, cause } => {
            error!(event, %worker, restarts, %cause, "worker failed too often: given up");
        }
        other => debug!(event, "{other:?}"),
    }
}

fn log_thread(change: &Event) {
    let event = change.name();
    match change {
        Event::NoThread { arbiter, reason, retry_in } => {
            error!(event, arbiter = arbiter.0, %reason, ?retry_in, "the system has no thread for workers; they wait");
        }
        Event::Starved { arbiter, waited_for } => {
            warn!(event, arbiter = arbiter.0, waited_for = since(*waited_for), "thread waits for a CPU");
        }
        Event::ThreadHeld { arbiter, by, cause, waiting, started_anew, zombies } => {
            let by = by.as_deref().unwrap_or("none of its workers");
            let waiting = named(waiting.iter().map(|waiting| format!("{} for {:?}", waiting.worker, waiting.timeout)));
            let started_anew = named(started_anew.iter().map(|name| name.to_string()));
            warn!(event, arbiter = arbiter.0, %by, %cause, %waiting, %started_anew, zombies, "thread is held by a worker");
        }
        Event::ThreadReturned { arbiter, held_for, workers, zombies } => {
            let workers = named(workers.iter().map(|name| name.to_string()));
            let held_for = since(*held_for);
            warn!(event, arbiter = arbiter.0, held_for, %workers, zombies, "held thread came back: its workers go on");
        }
        Event::Abandoned { arbiter, zombies } => {
            error!(event, arbiter = arbiter.0, zombies, "thread is held: abandoned");
        }
        Event::ZombieEnded { arbiter, zombies } => {
            info!(event, arbiter = arbiter.0, zombies, "abandoned thread came back and has ended");
        }
        Event::TooManyZombies { arbiter, zombies } => {
            error!(event, arbiter = arbiter.0, zombies, "too many threads are held: restart the process");
        }
        Event::Paused { late_by } => warn!(event, late_by = since(*late_by), "this process was paused"),
        other => debug!(event, "{other:?}"),
    }
}

/// A time as a field.
fn since(time: Duration) -> DebugValue<Duration> {
    debug_value(time)
}

/// A shard and its epoch as fields, if there is one.
fn numbers(shard: Option<Shard>) -> (Option<u32>, Option<u64>) {
    (shard.map(|shard| shard.index), shard.map(|shard| shard.epoch.0))
}

/// What members report of a silent node, as a field.
fn reports(evidence: &Arc<[ObserverReport]>) -> DisplayValue<Reports<'_>> {
    display(Reports(evidence))
}

struct Reports<'a>(&'a [ObserverReport]);

impl fmt::Display for Reports<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, ObserverReport { observer, silent_for, refused, agrees, health }) in self.0.iter().enumerate() {
            f.write_str(if index > 0 { "; " } else { "" })?;
            write!(f, "{observer}: ")?;
            match (silent_for, refused) {
                (Some(silent_for), false) => write!(f, "silent for {silent_for:.3?}")?,
                (Some(silent_for), true) => write!(f, "silent for {silent_for:.3?}, refused")?,
                (None, true) => f.write_str("refused")?,
                (None, false) => f.write_str("not reached")?,
            }
            f.write_str(if *agrees { "" } else { ", not dead" })?;
            if *health > 0 {
                write!(f, " (itself unwell: {health} of 8)")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_reads_as_a_sentence() {
        let report = |observer: &str, silent_for: Option<u64>, refused, agrees, health| ObserverReport {
            observer: observer.into(),
            silent_for: silent_for.map(Duration::from_millis),
            refused,
            agrees,
            health,
        };
        let evidence: Arc<[ObserverReport]> = Arc::new([
            report("node-1", Some(1_500), false, true, 0),
            report("node-2", None, true, true, 0),
            report("node-3", None, false, false, 2),
        ]);
        let expected =
            "node-1: silent for 1.500s; node-2: refused; node-3: not reached, not dead (itself unwell: 2 of 8)";
        assert_eq!(Reports(&evidence).to_string(), expected);
    }
}
