//! `Checker`: what must hold after every step, whatever is done to the world (DESIGN section 5, as far as it applies).
//!
//! It hears of every fault and every event, and keeps what it would need to call one a lie: a death without a cause, a worker replaced through
//! no fault of its own or of its neighbour, an epoch with two owners, a generation given twice, more restarts than are allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heartbeat_core::{Cause, Config, Event, Generation, Shard, WorkerId};

use crate::network::Place;
use crate::world::{Fault, GROUP, WORKERS};

/// Watches a world and notes what is broken.
pub struct Checker {
    seed: u64,
    names: Vec<String>,
    timeout: u64,
    interval: u64,
    intensity: usize,
    period: u64,
    broken: Vec<String>,
    /// Who owned a shard at an epoch: place and life of the process.
    owners: BTreeMap<(u32, u64), (Place, u64)>,
    lives: BTreeMap<Place, u64>,
    generations: BTreeMap<(Place, u64, WorkerId), Generation>,
    killed: BTreeSet<Place>,
    paused: BTreeMap<Place, u64>,
    /// When a pause that was long enough to die of ended.
    slept: BTreeMap<Place, u64>,
    /// When a process was last started: the death of the one before it may still be noticed until it has joined.
    started: BTreeMap<Place, u64>,
    cut: BTreeSet<Place>,
    left: BTreeSet<Place>,
    /// Workers that were told to fail.
    harmed: BTreeSet<(Place, String)>,
    /// Nodes on which a thread was blocked.
    blocked: BTreeSet<Place>,
    /// Restarts of a worker within one life of its process.
    restarts: BTreeMap<(Place, u64, String), Vec<u64>>,
    deaths: u32,
}

impl Checker {
    pub(crate) fn new(seed: u64, names: Vec<String>, config: &Config) -> Checker {
        Checker {
            seed,
            names,
            timeout: config.timeout.as_nanos() as u64,
            interval: config.interval.as_nanos() as u64,
            intensity: config.restart.intensity as usize,
            period: config.restart.period.as_nanos() as u64,
            broken: Vec::new(),
            owners: BTreeMap::new(),
            lives: BTreeMap::new(),
            generations: BTreeMap::new(),
            killed: BTreeSet::new(),
            paused: BTreeMap::new(),
            slept: BTreeMap::new(),
            started: BTreeMap::new(),
            cut: BTreeSet::new(),
            left: BTreeSet::new(),
            harmed: BTreeSet::new(),
            blocked: BTreeSet::new(),
            restarts: BTreeMap::new(),
            deaths: 0,
        }
    }

    /// Whatever was found broken, each with the command that shows it.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    /// Deaths that the monitor concluded.
    pub fn deaths(&self) -> u32 {
        self.deaths
    }

    /// The highest epoch under which a shard was ever started.
    pub fn newest_epoch(&self, shard: u32) -> Option<u64> {
        self.owners.range((shard, 0)..=(shard, u64::MAX)).next_back().map(|(&(_, epoch), _)| epoch)
    }

    pub(crate) fn fault(&mut self, now: u64, fault: &Fault) {
        match fault {
            Fault::Kill(place) => drop(self.killed.insert(*place)),
            Fault::Start(place) => {
                self.started.insert(*place, now);
                *self.lives.entry(*place).or_default() += 1;
                self.killed.remove(place);
                self.paused.remove(place);
                self.left.remove(place);
            }
            Fault::Pause(place) => drop(self.paused.entry(*place).or_insert(now)),
            Fault::Resume(place) => {
                if let Some(since) = self.paused.remove(place)
                    && now - since + 2 * self.interval > self.timeout
                {
                    self.slept.insert(*place, now);
                }
            }
            Fault::Panic(place, worker) => drop(self.harmed.insert((*place, worker_name(*worker)))),
            Fault::Block(place, worker, _) => {
                self.harmed.insert((*place, worker_name(*worker)));
                self.blocked.insert(*place);
            }
            Fault::Leave(place) => drop(self.left.insert(*place)),
            Fault::Cut(from, to) => self.cut.extend([*from, *to]),
            // A cut may be followed by a death a timeout later, so it is remembered for good.
            Fault::Heal | Fault::Disturb(..) => {}
        }
    }

    pub(crate) fn event(&mut self, now: u64, place: Place, event: &Event) {
        match event {
            Event::Died { node, .. } if place == 0 => {
                self.deaths += 1;
                self.check_death(now, node);
            }
            Event::Failed { worker, cause, restart_in, .. } => {
                self.check_failure(place, worker, cause);
                if let (Some(pause), false) = (restart_in, matches!(cause, Cause::Displaced { .. })) {
                    self.check_intensity(now + pause.as_nanos() as u64, place, worker);
                }
            }
            Event::Superseded { .. } => self.note(now, format!("{} finds itself superseded", self.names[place])),
            _ => {}
        }
    }

    pub(crate) fn shard_started(&mut self, now: u64, place: Place, shard: Shard) {
        let life = self.lives.get(&place).copied().unwrap_or_default();
        let first = *self.owners.entry((shard.index, shard.epoch.0)).or_insert((place, life));
        if first != (place, life) {
            let (other, here) = (&self.names[first.0], &self.names[place]);
            self.note(
                now,
                format!("shard {} has two owners at epoch {}: {other} and {here}", shard.index, shard.epoch.0),
            );
        }
    }

    pub(crate) fn generation(&mut self, place: Place, life: u64, worker: WorkerId, generation: Generation) {
        let newest = self.generations.entry((place, life, worker)).or_insert(Generation(0));
        if generation <= *newest {
            let newest = *newest;
            let text = format!("{} gives {worker:?} {generation:?} after {newest:?}", self.names[place]);
            self.note(0, text);
        } else {
            *newest = generation;
        }
    }

    fn check_death(&mut self, now: u64, name: &str) {
        let Some(place) = self.names.iter().position(|known| known == name) else { return };
        let long_pause = |since: &u64| now - since + 2 * self.interval > self.timeout;
        let has_cause = self.killed.contains(&place)
            || self.left.contains(&place)
            || self.cut.contains(&place)
            || self.paused.get(&place).is_some_and(long_pause)
            || self.started.get(&place).is_some_and(|start| now - start < 4 * self.interval)
            || self.slept.get(&place).is_some_and(|end| now - end < 2 * self.interval);
        if !has_cause {
            self.note(now, format!("{name} was concluded dead without cause"));
        }
    }

    fn check_failure(&mut self, place: Place, worker: &str, cause: &Cause) {
        let has_cause = match cause {
            Cause::Panicked { .. } | Cause::Blocked { .. } => self.harmed.contains(&(place, worker.to_owned())),
            Cause::Displaced { .. } => self.blocked.contains(&place),
            _ => false,
        };
        if !has_cause {
            self.note(0, format!("{worker} on {} failed without cause: {cause}", self.names[place]));
        }
    }

    /// A restart that takes place at `at`: with the `intensity`-th before it, it must not lie in one period.
    fn check_intensity(&mut self, at: u64, place: Place, worker: &str) {
        const SKEW: u64 = Duration::from_millis(2).as_nanos() as u64;
        let life = self.lives.get(&place).copied().unwrap_or_default();
        let restarts = self.restarts.entry((place, life, worker.to_owned())).or_default();
        restarts.push(at);
        let first = restarts.len().checked_sub(self.intensity + 1).map(|index| restarts[index]);
        if first.is_some_and(|first| at + SKEW < first + self.period) {
            self.note(at, format!("{worker} on {} was restarted too often", self.names[place]));
        }
    }

    fn note(&mut self, now: u64, text: String) {
        let at = Duration::from_nanos(now.saturating_sub(1_000_000_000));
        let seed = self.seed;
        self.broken.push(format!("at {at:.3?}: {text}; cargo run -p heartbeat-tests --bin replay -- {seed}"));
    }
}

/// The name of a worker in the simulated world.
fn worker_name(worker: WorkerId) -> String {
    match worker.0.checked_sub(WORKERS) {
        Some(index) => format!("{GROUP}/{index}"),
        None => format!("worker-{}", worker.0),
    }
}
