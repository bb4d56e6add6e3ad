//! One line of `tracing` for each event: a clause for a stranger, the event's name, and the figures
//! as fields.
//!
//! A field without a value is left out: a line has no `shard=None`, and no silence of zero where
//! another member reported a death. Names and reasons are fields of text: a subscriber quotes and
//! escapes them, so that a name with a line break makes no second line.
//!
//! A storm does not fill the disk: see [`LineLimit`]. Only the log is thinned, neither the events
//! of the door nor those of subscribers.

use std::fmt;
use std::time::Duration;

use heartbeat_core::line_limit::LINES_EVERY;
use heartbeat_core::{Event, Instant, LineLimit, NotReadyReason, ObserverReport, Shard};
use tracing::field::{DebugValue, debug as debug_value};
use tracing::{Level, debug, error, info, trace, warn};

/// Names in one line of the log; an event has them all.
const NAMES_MAX: usize = 32;

/// The log of a node's events.
#[derive(Default)]
pub(super) struct Log {
    limit: LineLimit<Kind>,
}

/// Events that are alike. A storm of panics leaves room for the line of a hang.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Kind {
    name: &'static str,
    cause: Option<&'static str>,
    level: Level,
}

impl Log {
    /// Logs an event in one line, unless there were many like it lately.
    pub(super) fn event(&mut self, event: &Event, now: Instant) {
        let kind = Kind { name: event.name(), cause: cause(event), level: level(event) };
        if self.limit.allows(now, kind) {
            log(event);
        }
    }

    /// Logs how many events were left out, once their period is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some((kind, count)) = self.limit.take_left_out(now) {
            log_left_out(kind, count);
        }
    }

    /// Logs how many events were left out, as no more will come.
    pub(super) fn end(&mut self) {
        while let Some((kind, count)) = self.limit.take_rest() {
            log_left_out(kind, count);
        }
    }

    /// When [`Log::handle_timeout`] is due; `None` if nothing is left out.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.limit.poll_timeout()
    }
}

/// A failure of the control thread that comes again and again while its cause lasts.
pub(super) struct Repeated {
    kind: Kind,
    limit: LineLimit<Kind>,
}

impl Repeated {
    /// A failure whose lines have this name and the level `warn`.
    pub(super) fn new(name: &'static str) -> Repeated {
        Repeated { kind: Kind { name, cause: None, level: Level::WARN }, limit: LineLimit::default() }
    }

    /// Whether this failure becomes a line.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        self.limit.allows(now, self.kind)
    }

    /// Logs how many failures were left out, if that is due. `now` is only asked for if there are
    /// any.
    pub(super) fn handle_timeout(&mut self, now: impl Fn() -> Instant) {
        if self.limit.poll_timeout().is_some()
            && let Some((kind, count)) = self.limit.take_left_out(now())
        {
            log_left_out(kind, count);
        }
    }
}

/// Logs how many events of a kind are not in the log, at the level that their lines would have.
fn log_left_out(Kind { name: of, cause, level }: Kind, left_out: u64) {
    let (event, within) = ("lines_left_out", debug_value(LINES_EVERY));
    let text = "more such events came than lines are printed; subscribers get each of them";
    match level {
        Level::ERROR => error!(event, of, cause, left_out, within, "{text}"),
        Level::WARN => warn!(event, of, cause, left_out, within, "{text}"),
        Level::INFO => info!(event, of, cause, left_out, within, "{text}"),
        Level::DEBUG => debug!(event, of, cause, left_out, within, "{text}"),
        Level::TRACE => trace!(event, of, cause, left_out, within, "{text}"),
    }
}

/// Why a worker failed, as a word.
fn cause(event: &Event) -> Option<&'static str> {
    if let Event::Failed { cause, .. } | Event::Replaced { cause, .. } | Event::GaveUp { cause, .. } = event {
        Some(cause.name())
    } else {
        None
    }
}

/// How urgently a person should look at an event. Its line has this level.
fn level(event: &Event) -> Level {
    match event {
        Event::DeclaredDead { .. }
        | Event::Renewed { .. }
        | Event::Isolated { .. }
        | Event::ZoneDisrupted { .. }
        | Event::NoMonitor { .. }
        | Event::ClockSkewed { .. }
        | Event::Superseded { .. }
        | Event::RefusedBy { .. }
        | Event::SessionEnded { .. }
        | Event::TokenRefused { .. }
        | Event::HandOverCut { .. }
        | Event::QuorumLost { .. }
        | Event::ShardsRefused { .. }
        | Event::Escalated { .. }
        | Event::GaveUp { .. }
        | Event::NoThread { .. }
        | Event::Abandoned { .. }
        | Event::TooManyZombies { .. } => Level::ERROR,
        Event::Suspected { .. }
        | Event::Died { .. }
        | Event::Cleared { .. }
        | Event::Returned { .. }
        | Event::Unresolved { .. }
        | Event::ZoneRecovered { .. }
        | Event::OtherCluster { .. }
        | Event::JoinRefused { .. }
        | Event::WireVersionLowered { .. }
        | Event::AuthorityLost { .. }
        | Event::ReplicaRefused { .. }
        | Event::Declined { .. }
        | Event::Failed { .. }
        | Event::Fenced { .. }
        | Event::Starved { .. }
        | Event::ThreadHeld { .. }
        | Event::ThreadReturned { .. }
        | Event::BudgetExceeded { .. }
        | Event::Paused { .. } => Level::WARN,
        // The line of the held thread has named the workers that wait for it.
        Event::NotReady { reason: NotReadyReason::ThreadHeld, .. } => Level::DEBUG,
        Event::NotReady { .. } => Level::WARN,
        Event::Joined { .. }
        | Event::Left { .. }
        | Event::Connected
        | Event::WireVersionRaised { .. }
        | Event::ShardMoved { .. }
        | Event::AuthorityReached
        | Event::QuorumGained { .. }
        | Event::ShardsAdmitted { .. }
        | Event::Replaced { .. }
        | Event::Ready { .. }
        | Event::ZombieEnded { .. } => Level::INFO,
        Event::Updated { .. }
        | Event::Forgotten { .. }
        | Event::Started { .. }
        | Event::Stopped { .. }
        | Event::GroupStarted { .. }
        | Event::GroupStopped { .. } => Level::DEBUG,
        // A newer core may have more events.
        other => level_of_unknown(other),
    }
}

/// The level of an event that this version does not know, as in [`log`].
fn level_of_unknown(_: &Event) -> Level {
    Level::DEBUG
}

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

/// Logs an event in one line.
fn log(event: &Event) {
    match event {
        Event::Suspected { .. } | Event::Died { .. } | Event::BudgetExceeded { .. } => log_verdict(event),
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
        | Event::NoMonitor { .. }
        | Event::ClockSkewed { .. }
        | Event::RefusedBy { .. }
        | Event::JoinRefused { .. }
        | Event::Renewed { .. } => log_member(event),
        Event::WireVersionRaised { .. } | Event::WireVersionLowered { .. } => log_wire_version(event),
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
        | Event::Fenced { .. } => log_worker(event),
        Event::NotReady { .. }
        | Event::Ready { .. }
        | Event::GroupStarted { .. }
        | Event::GroupStopped { .. }
        | Event::Escalated { .. }
        | Event::GaveUp { .. } => log_standing(event),
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

fn log_wire_version(change: &Event) {
    let event = change.name();
    match change {
        Event::WireVersionRaised { from, to } => info!(event, from, to, "all members use a higher wire version"),
        Event::WireVersionLowered { from, to, held_back_by } => {
            let held_back_by = named(held_back_by.iter().map(|name| name.to_string()));
            warn!(event, from, to, held_back_by, "a member cannot use the wire version of the others");
        }
        other => debug!(event, "{other:?}"),
    }
}

fn log_verdict(verdict: &Event) {
    let event = verdict.name();
    match verdict {
        Event::Suspected { node, reported_by: Some(reported_by), .. } => {
            warn!(event, node = &**node, reported_by = &**reported_by, "another member suspects the node");
        }
        Event::Suspected { node, silent_for, evidence, reported_by: None } => {
            warn!(
                event,
                node = &**node,
                silent_for = since(*silent_for),
                evidence = reports(evidence),
                "node suspected: its heartbeats stay away"
            );
        }
        Event::Died { node, reported_by: Some(reported_by), .. } => {
            warn!(event, node = &**node, reported_by = &**reported_by, "another member has declared the node dead");
        }
        Event::Died { node, silent_for, evidence, reported_by: None } => {
            warn!(
                event,
                node = &**node,
                silent_for = since(*silent_for),
                evidence = reports(evidence),
                "node declared dead"
            );
        }
        Event::BudgetExceeded { node, allowed_per_hour, kept_per_hour } => {
            warn!(
                event,
                node = &**node,
                allowed_per_hour,
                kept_per_hour,
                "the node is silent too often for detector.mistakes to be kept below the timeout"
            );
        }
        other => debug!(event, "{other:?}"),
    }
}

fn log_member(member: &Event) {
    let event = member.name();
    match member {
        Event::Joined { member } => info!(event, node = &*member.name, address = %member.address, "node joined"),
        Event::Updated { member } => {
            debug!(event, node = &*member.name, metadata = ?member.metadata, "node published other metadata");
        }
        Event::Left { node } => info!(event, node = &**node, "node left on purpose"),
        Event::Cleared { node } => warn!(event, node = &**node, "the suspicion was wrong: the node is alive"),
        Event::Forgotten { node } => debug!(event, node = &**node, "a node that was dead or had left is forgotten"),
        Event::Returned { node, incarnation } => {
            warn!(event, node = &**node, %incarnation, "a node that was declared dead is back");
        }
        Event::DeclaredDead { incarnation } => {
            error!(event, %incarnation, "other members declared this node dead: it gave up its shards and comes back");
        }
        Event::Renewed { generation } => {
            let generation = generation.0;
            error!(
                event,
                generation,
                "other members hold data of this process that it cannot refute: it gave up its shards and begins a new generation"
            );
        }
        Event::Isolated { tried, silent_for } => {
            let silent_for = since(*silent_for);
            error!(event, tried = &**tried, silent_for, "no observer and no seed answers this node");
        }
        Event::Connected => info!(event, "an observer or a seed answers this node"),
        Event::Unresolved { seed, reason } => {
            warn!(event, seed = &**seed, reason = text(reason), "the seed cannot be looked up; trying again")
        }
        Event::ZoneDisrupted { zone, silent, members } => {
            let zone = &**zone;
            error!(event, zone, silent, members, "most of the zone is silent: no node in it is declared dead for it");
        }
        Event::ZoneRecovered { zone } => warn!(event, zone = &**zone, "the zone answers again: verdicts go on"),
        Event::OtherCluster { address } => warn!(event, %address, "a cluster with another name is there"),
        Event::NoMonitor { silent } => {
            let silent = silent.as_deref();
            error!(event, silent, "no monitor is a member: no death is concluded");
        }
        Event::ClockSkewed { node, ahead, behind } => {
            let (node, ahead, behind) = (&**node, above_zero(*ahead), above_zero(*behind));
            error!(event, node, ahead, behind, "the clock of the node is far from that of the members");
        }
        Event::Superseded { generation, address } => {
            let (generation, address) = (generation.0, address.map(text));
            error!(event, generation, address, "a later process has this node's name: this one must end");
        }
        Event::RefusedBy { address, reason } => {
            error!(event, %address, reason = text(reason), "a member did not let this node in")
        }
        Event::JoinRefused { address, reason } => {
            warn!(event, %address, reason = text(reason), "a node was not let in")
        }
        other => debug!(event, "{other:?}"),
    }
}

fn log_shard(change: &Event) {
    let event = change.name();
    match change {
        Event::ShardMoved { group, shard: Shard { index, epoch }, from, to } => {
            let (from, to) = (from.as_deref(), to.as_deref());
            let moved = if to.is_some() { "the shard has an owner" } else { "the shard has no owner" };
            info!(event, group = &**group, shard = index, epoch = epoch.0, from, to, "{moved}");
        }
        Event::AuthorityLost { reason } => warn!(event, reason = text(reason), "the authority did not answer"),
        Event::AuthorityReached => info!(event, "the authority answers again"),
        Event::SessionEnded { reason } => {
            error!(event, reason = text(reason), "the session at the authority is over: shards given up");
        }
        Event::TokenRefused { group, shard: Shard { index, epoch }, highest } => {
            let (epoch, highest) = (epoch.0, highest.0);
            error!(
                event,
                group = &**group,
                shard = index,
                epoch,
                highest,
                "the authority gave out an epoch that is too low"
            );
        }
        Event::ReplicaRefused { group, index, by, bytes } => {
            warn!(
                event,
                group = &**group,
                shard = index,
                by = &**by,
                bytes,
                "another node did not take a snapshot of the shard"
            );
        }
        Event::HandOverCut { shards } => {
            error!(event, shards, "this node leaves before all shards are handed over: the last copies are used");
        }
        Event::Declined { group, declined, withheld } => {
            warn!(
                event,
                group = &**group,
                declined,
                withheld,
                "this node cannot run some of its shards: others run them"
            );
        }
        Event::QuorumLost { reached, members } => {
            error!(event, reached, members, "too few nodes answer: shards given up")
        }
        Event::QuorumGained { reached, members } => {
            info!(event, reached, members, "enough nodes answer: shards start again")
        }
        Event::ShardsRefused { group, count, in_force, by } => {
            error!(
                event,
                group = &**group,
                count,
                in_force,
                by = &**by,
                "another number of shards is in force: none runs here"
            );
        }
        Event::ShardsAdmitted { group, count } => {
            info!(event, group = &**group, count, "this number of shards is in force now")
        }
        other => debug!(event, "{other:?}"),
    }
}

fn log_worker(change: &Event) {
    let event = change.name();
    match change {
        Event::Started { worker, generation, shard } => {
            let (shard, epoch) = numbers(*shard);
            debug!(event, worker = &**worker, generation = generation.0, shard, epoch, "worker started");
        }
        Event::Failed { worker, generation, cause, restart_in } => {
            let pause = restart_in.filter(|pause| !pause.is_zero()).map(since);
            let what = match restart_in {
                None => "worker failed; it is not started again",
                Some(Duration::ZERO) => "worker failed; it is started again at once",
                Some(_) => "worker failed; it is started again after a pause",
            };
            warn!(
                event,
                worker = &**worker,
                generation = generation.0,
                cause = text(cause),
                restart_in = pause,
                "{what}"
            );
        }
        Event::Replaced { worker, generation, cause, after, shard } => {
            let (shard, epoch) = numbers(*shard);
            let after = since(*after);
            info!(
                event,
                worker = &**worker,
                generation = generation.0,
                cause = text(cause),
                after,
                shard,
                epoch,
                "worker replaced"
            );
        }
        Event::Stopped { worker, generation } => {
            debug!(event, worker = &**worker, generation = generation.0, "worker stopped")
        }
        Event::Fenced { worker, generation, after, interrupted, dropped } => {
            let after = since(*after);
            warn!(
                event,
                worker = &**worker,
                generation = generation.0,
                after,
                interrupted,
                dropped,
                "worker did not stop in time: it is cut off, and what it still does is discarded"
            );
        }
        other => debug!(event, "{other:?}"),
    }
}

/// Whether workers are ready, and how groups and limits stand.
fn log_standing(change: &Event) {
    let event = change.name();
    match change {
        // The line of the held thread has named it.
        Event::NotReady { worker, generation, reason: reason @ NotReadyReason::ThreadHeld } => {
            let reason = debug_value(reason);
            debug!(
                event,
                worker = &**worker,
                generation = generation.0,
                reason,
                "worker is not ready: another worker holds its thread"
            );
        }
        Event::NotReady { worker, generation, reason } => {
            let reason = debug_value(reason);
            warn!(
                event,
                worker = &**worker,
                generation = generation.0,
                reason,
                "worker is not ready: requests should go elsewhere"
            );
        }
        Event::Ready { worker, generation } => {
            info!(event, worker = &**worker, generation = generation.0, "worker is ready again");
        }
        Event::GroupStarted { group, cause } => {
            debug!(event, group = &**group, cause = cause.as_ref().map(text), "group is up");
        }
        Event::GroupStopped { group } => debug!(event, group = &**group, "group has ended"),
        Event::Escalated { group, child, restarts, cause } => {
            error!(
                event,
                group = &**group,
                child = &**child,
                restarts,
                cause = text(cause),
                "child failed too often: its group ends"
            );
        }
        Event::GaveUp { worker, restarts, cause } => {
            error!(event, worker = &**worker, restarts, cause = text(cause), "worker failed too often: given up");
        }
        other => debug!(event, "{other:?}"),
    }
}

fn log_thread(change: &Event) {
    let event = change.name();
    match change {
        Event::NoThread { arbiter, reason, retry_in } => {
            error!(
                event,
                arbiter = arbiter.0,
                reason = text(reason),
                retry_in = since(*retry_in),
                "the system has no thread for workers; they wait"
            );
        }
        Event::Starved { arbiter, waited_for } => {
            warn!(
                event,
                arbiter = arbiter.0,
                waited_for = since(*waited_for),
                "a thread of workers waits for a CPU: the host is overloaded"
            );
        }
        Event::ThreadHeld { arbiter, by, cause, waiting, started_anew, zombies } => {
            let by = by.as_deref().unwrap_or("none of its workers");
            let waiting = named(waiting.iter().map(|waiting| format!("{} for {:?}", waiting.worker, waiting.timeout)));
            let started_anew = named(started_anew.iter().map(|name| name.to_string()));
            warn!(
                event,
                arbiter = arbiter.0,
                by,
                cause = text(cause),
                waiting,
                started_anew,
                zombies,
                "a worker does not give its thread back: the other workers of the thread wait"
            );
        }
        Event::ThreadReturned { arbiter, held_for, workers, zombies } => {
            let workers = named(workers.iter().map(|name| name.to_string()));
            let held_for = since(*held_for);
            warn!(
                event,
                arbiter = arbiter.0,
                held_for,
                workers,
                zombies,
                "the held thread came back: its workers go on"
            );
        }
        Event::Abandoned { arbiter, zombies } => {
            error!(
                event,
                arbiter = arbiter.0,
                zombies,
                "a thread is held and no worker waits for it: it is abandoned, as it cannot be killed"
            );
        }
        Event::ZombieEnded { arbiter, zombies } => {
            info!(event, arbiter = arbiter.0, zombies, "the abandoned thread came back and has ended");
        }
        Event::TooManyZombies { arbiter, zombies } => {
            error!(event, arbiter = arbiter.0, zombies, "too many threads are held: restart the process");
        }
        Event::Paused { late_by } => warn!(
            event,
            late_by = since(*late_by),
            "this process was paused: silence in that time counts against no node"
        ),
        other => debug!(event, "{other:?}"),
    }
}

/// A time as a field: whole milliseconds, or microseconds where it is shorter than one.
fn since(time: Duration) -> DebugValue<Duration> {
    let millis = time.as_millis().try_into().map(Duration::from_millis).unwrap_or(Duration::MAX);
    debug_value(if millis.is_zero() { Duration::from_micros(time.as_micros() as u64) } else { millis })
}

/// A time as a field, unless it is zero.
fn above_zero(time: Duration) -> Option<DebugValue<Duration>> {
    (!time.is_zero()).then(|| since(time))
}

/// Something as a field of text, which subscribers quote and escape.
fn text(of: impl fmt::Display) -> String {
    of.to_string()
}

/// A shard and its epoch as fields, if there is one.
fn numbers(shard: Option<Shard>) -> (Option<u32>, Option<u64>) {
    (shard.map(|shard| shard.index), shard.map(|shard| shard.epoch.0))
}

/// What members report of a silent node, as a field.
fn reports(evidence: &[ObserverReport]) -> String {
    text(Reports(evidence))
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

    /// Notes the level of each line.
    struct Levels(std::sync::Arc<std::sync::Mutex<Vec<Level>>>);

    impl tracing::Subscriber for Levels {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }

        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            self.0.lock().unwrap().push(*event.metadata().level());
        }

        fn enter(&self, _: &tracing::span::Id) {}

        fn exit(&self, _: &tracing::span::Id) {}
    }

    #[test]
    fn a_line_has_the_level_that_its_count_has() {
        use heartbeat_core::{ArbiterId, Cause, Generation};

        let (name, generation, seconds): (std::sync::Arc<str>, _, _) =
            ("x".into(), Generation(1), Duration::from_secs(1));
        let not_ready = |reason| Event::NotReady { worker: name.clone(), generation, reason };
        let events = [
            Event::Left { node: name.clone() },
            Event::Cleared { node: name.clone() },
            Event::Forgotten { node: name.clone() },
            Event::Connected,
            Event::ZoneRecovered { zone: name.clone() },
            Event::NoMonitor { silent: None },
            Event::Superseded { generation, address: None },
            Event::AuthorityReached,
            Event::QuorumLost { reached: 1, members: 3 },
            Event::Started { worker: name.clone(), generation, shard: None },
            Event::Failed { worker: name.clone(), generation, cause: Cause::Stopped, restart_in: None },
            Event::Replaced { worker: name.clone(), generation, cause: Cause::Stopped, after: seconds, shard: None },
            Event::Stopped { worker: name.clone(), generation },
            Event::Fenced { worker: name.clone(), generation, after: seconds, interrupted: 0, dropped: 0 },
            not_ready(NotReadyReason::ThreadHeld),
            not_ready(NotReadyReason::Overloaded),
            Event::Ready { worker: name.clone(), generation },
            Event::GroupStarted { group: name.clone(), cause: None },
            Event::GroupStopped { group: name.clone() },
            Event::GaveUp { worker: name.clone(), restarts: 3, cause: Cause::Stopped },
            Event::Abandoned { arbiter: ArbiterId(0), zombies: 1 },
            Event::ZombieEnded { arbiter: ArbiterId(0), zombies: 0 },
            Event::TooManyZombies { arbiter: ArbiterId(0), zombies: 9 },
            Event::Starved { arbiter: ArbiterId(0), waited_for: seconds },
            Event::Paused { late_by: seconds },
        ];
        let levels = std::sync::Arc::<std::sync::Mutex<Vec<Level>>>::default();
        tracing::subscriber::with_default(Levels(levels.clone()), || events.iter().for_each(log));
        let expected: Vec<Level> = events.iter().map(level).collect();
        assert_eq!(*levels.lock().unwrap(), expected);
    }

    #[test]
    fn evidence_reads_as_a_sentence() {
        let report = |observer: &str, silent_for: Option<u64>, refused, agrees, health| ObserverReport {
            observer: observer.into(),
            silent_for: silent_for.map(Duration::from_millis),
            refused,
            agrees,
            health,
        };
        let evidence = [
            report("node-1", Some(1_500), false, true, 0),
            report("node-2", None, true, true, 0),
            report("node-3", None, false, false, 2),
        ];
        let expected =
            "node-1: silent for 1.500s; node-2: refused; node-3: not reached, not dead (itself unwell: 2 of 8)";
        assert_eq!(reports(&evidence), expected);
    }
}
