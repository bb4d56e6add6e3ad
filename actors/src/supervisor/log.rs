//! One line of `tracing` for each event.

use heartbeat_core::Event;
use tracing::{debug, error, info, warn};

/// One line for each event, at the level of who should look at it.
pub(super) fn log(event: &Event) {
    match event {
        Event::Joined { member } => info!(node = %member.name, address = %member.address, "joined"),
        Event::Updated { member } => debug!(node = %member.name, metadata = ?member.metadata, "updated"),
        Event::Left { node } => info!(%node, "left"),
        Event::Suspected { node, silent_for, evidence } => warn!(%node, ?silent_for, ?evidence, "suspected"),
        Event::Cleared { node } => warn!(%node, "cleared"),
        Event::Died { node, silent_for, evidence } => warn!(%node, ?silent_for, ?evidence, "died"),
        Event::Returned { node, incarnation } => warn!(%node, %incarnation, "returned"),
        Event::Buried { incarnation } => error!(%incarnation, "buried"),
        Event::Isolated { tried, silent_for } => error!(%tried, ?silent_for, "isolated"),
        Event::Connected => info!("connected"),
        Event::Unresolved { seed, reason } => warn!(%seed, %reason, "unresolved"),
        Event::Frozen { zone, silent, of } => error!(%zone, silent, of, "frozen"),
        Event::Thawed { zone } => warn!(%zone, "thawed"),
        Event::Superseded { generation, address } => error!(generation = generation.0, ?address, "superseded"),
        Event::OtherCluster { address } => warn!(%address, "other cluster"),
        Event::NoMonitor { silent } => error!(?silent, "no monitor"),
        Event::ClockSkewed { node, ahead, behind } => {
            error!(%node, ?ahead, ?behind, "clock skewed");
        }
        Event::Refused { address, reason } => warn!(%address, %reason, "refused"),
        Event::Moved { group, shard, from, to } => {
            info!(%group, shard = shard.index, epoch = shard.epoch.0, ?from, ?to, "moved");
        }
        Event::AuthorityLost { reason } => warn!(%reason, "authority lost"),
        Event::AuthorityReached => info!("authority reached"),
        Event::SessionEnded { reason } => error!(%reason, "session ended"),
        Event::TokenRefused { group, shard, highest } => {
            error!(%group, shard = shard.index, epoch = shard.epoch.0, highest = highest.0, "token refused");
        }
        Event::ReplicaRefused { group, index, by, bytes } => {
            warn!(%group, shard = index, %by, bytes, "replica refused");
        }
        Event::QuorumLost { reached, of } => error!(reached, of, "quorum lost"),
        Event::QuorumGained { reached, of } => info!(reached, of, "quorum gained"),
        Event::ShardsRefused { group, count, in_force, by } => {
            error!(%group, count, in_force, %by, "shards refused");
        }
        Event::ShardsAdmitted { group, count } => info!(%group, count, "shards admitted"),
        Event::Started { worker, generation, shard } => debug!(%worker, generation = generation.0, ?shard, "started"),
        Event::Failed { worker, generation, cause, restart_in } => {
            warn!(%worker, generation = generation.0, %cause, ?restart_in, "failed");
        }
        Event::Replaced { worker, generation, cause, after, shard } => {
            info!(%worker, generation = generation.0, %cause, ?after, ?shard, "replaced");
        }
        Event::Stopped { worker, generation } => debug!(%worker, generation = generation.0, "stopped"),
        Event::Fenced { worker, generation, after } => {
            warn!(%worker, generation = generation.0, ?after, "fenced");
        }
        Event::NotReady { worker, generation, reason } => {
            warn!(%worker, generation = generation.0, ?reason, "not ready");
        }
        Event::Ready { worker, generation } => info!(%worker, generation = generation.0, "ready"),
        Event::GroupStarted { group, cause } => debug!(%group, ?cause, "group started"),
        Event::GroupStopped { group } => debug!(%group, "group stopped"),
        Event::Escalated { group, child, restarts, cause } => {
            error!(%group, %child, restarts, %cause, "escalated");
        }
        Event::Starved { arbiter, waited_for } => warn!(arbiter = arbiter.0, ?waited_for, "starved"),
        Event::GaveUp { worker, restarts, cause } => error!(%worker, restarts, %cause, "gave up"),
        Event::Abandoned { arbiter, zombies } => error!(arbiter = arbiter.0, zombies, "abandoned"),
        Event::ZombieEnded { arbiter, zombies } => info!(arbiter = arbiter.0, zombies, "zombie ended"),
        Event::TooManyZombies { arbiter, zombies } => error!(arbiter = arbiter.0, zombies, "too many zombies"),
        Event::Paused { late_by } => warn!(?late_by, "paused"),
        // The enum may grow in a newer core; an event without a line of its own is still logged.
        other => info!(event = ?other, "event"),
    }
}
