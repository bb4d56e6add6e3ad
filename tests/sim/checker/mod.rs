//! `Checker`: what must hold after every step, under every fault (the promises of
//! `docs/src/promises.md`, as far as they apply).
//!
//! It receives every fault and every event, and keeps what it needs to find a broken promise. That
//! is a death without a cause, or a worker replaced through no fault of its own or of its
//! neighbour. It is an epoch with two owners, a generation given twice, or more restarts than are
//! allowed. It also keeps what is owed: the death of a node that was killed, the end of a thread
//! that is blocked, each by its stated bound.
//!
//! It does not judge recovery: whether all is well again can only be said once all harm is over
//! (`World::unsettled`).

mod deaths;
mod owners;
mod replacements;
mod requests;
mod restarts;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heartbeat_core::config::{AuthorityKind, QuorumRule};
use heartbeat_core::{Cause, Config, Event, Generation, WorkerId};

use crate::checker::deaths::{Nodes, PACE, PACE_LEAST};
use crate::checker::replacements::Threads;
use crate::checker::requests::Sent;
use crate::fault::Fault;
use crate::network::NodeIndex;
use crate::shape::Shape;
use crate::world::{GROUP, WORKERS};

/// Watches a world and notes what is broken.
pub struct Checker {
    pub(crate) seed: u64,
    pub(crate) shape: Shape,
    pub(crate) names: Vec<String>,
    pub(crate) config: Config,
    pub(crate) broken: Vec<String>,
    /// Which start of its process each place is at; notes of an earlier one no longer count.
    pub(crate) lives: BTreeMap<NodeIndex, u64>,
    /// Promise 3: who owned a shard at an epoch, by place and life.
    pub(crate) owners: BTreeMap<(u32, u64), (NodeIndex, u64)>,
    /// Promise 3: the epoch of the newest start of a shard on a node in one life.
    pub(crate) epochs: BTreeMap<(NodeIndex, u64, u32), u64>,
    pub(crate) generations: BTreeMap<(NodeIndex, u64, WorkerId), Generation>,
    pub(crate) nodes: Nodes,
    pub(crate) threads: Threads,
    /// Promise 8: every request, and what became of it.
    pub(crate) sent: Sent,
    /// Workers that a fault made fail.
    pub(crate) harmed: BTreeSet<(NodeIndex, String)>,
    /// Promise 5: restarts of a worker within one life of its process.
    pub(crate) restarts: BTreeMap<(NodeIndex, u64, String), Vec<u64>>,
    /// How far each shard has counted anywhere.
    pub(crate) counts: BTreeMap<u32, u64>,
    /// The newest epoch of each shard that an authority gave out.
    pub(crate) tokens: BTreeMap<u32, u64>,
    /// Workers that failed too often, by place and life.
    pub(crate) given_up: BTreeSet<(NodeIndex, u64, String)>,
}

impl Checker {
    pub(crate) fn new(seed: u64, shape: Shape, names: Vec<String>, config: &Config) -> Checker {
        Checker {
            seed,
            shape,
            names,
            config: config.clone(),
            broken: Vec::new(),
            lives: BTreeMap::new(),
            owners: BTreeMap::new(),
            epochs: BTreeMap::new(),
            generations: BTreeMap::new(),
            nodes: Nodes::default(),
            threads: Threads::default(),
            sent: Sent::default(),
            harmed: BTreeSet::new(),
            restarts: BTreeMap::new(),
            given_up: BTreeSet::new(),
            counts: BTreeMap::new(),
            tokens: BTreeMap::new(),
        }
    }

    /// Forgets what was an hour ago or longer, and processes that have ended, so that a world can
    /// run for months in bounded memory. What is noted as broken stays.
    pub fn forget_past(&mut self, now: Duration) {
        let newest: BTreeMap<u32, u64> = self.owners.keys().copied().collect();
        self.owners.retain(|(shard, epoch), _| newest.get(shard) == Some(epoch));
        let lives = self.lives.clone();
        let is_running = |place: &NodeIndex, life: &u64| lives.get(place).is_none_or(|now| now == life);
        self.epochs.retain(|(place, life, _), _| is_running(place, life));
        self.generations.retain(|(place, life, _), _| is_running(place, life));
        self.restarts.retain(|(place, life, _), _| is_running(place, life));
        self.given_up.retain(|(place, life, _)| is_running(place, life));
        self.sent.forget_before((now.as_nanos() as u64).saturating_sub(3_600_000_000_000));
    }

    /// Notes a fault; `watched_by` are the observers of the node that ends by it.
    pub(crate) fn fault(&mut self, now: u64, fault: &Fault, watched_by: &[NodeIndex]) {
        match fault {
            Fault::Kill(place) | Fault::Unplug(place) => self.killed(now, *place, watched_by),
            Fault::Start(place) => self.started(now, *place),
            Fault::Pause(place) => {
                self.nodes.paused.insert(*place);
                self.hampered(now);
                self.owe_nothing(*place);
            }
            Fault::Resume(place) => {
                self.nodes.paused.remove(place);
                self.hampered(now);
            }
            Fault::Panic(place, worker) | Fault::Finish(place, worker) | Fault::Block(place, worker, _) => {
                self.harmed.insert((*place, worker_name(*worker)));
            }
            Fault::Leave(place) => {
                self.nodes.left.insert(*place);
                self.owe_nothing(*place);
            }
            Fault::Cut(from, to) => {
                self.nodes.cut.insert((*from, *to));
                self.nodes.cut_to.insert(*to);
                // What an observer says, or is asked, may be what is lost.
                self.nodes.owed.retain(|_, (_, watched_by)| !watched_by.contains(from) && !watched_by.contains(to));
                self.hampered(now);
            }
            Fault::Mend(from, to) => {
                self.nodes.cut.remove(&(*from, *to));
                self.hampered(now);
            }
            // None of these justifies a suspicion.
            Fault::SetInterval(..) | Fault::SetNote(..) | Fault::CloseConnections(_) | Fault::SetClock(..) => {}
            // Its epochs begin anew, so nothing is to be said of their order.
            Fault::ResetAuthority => self.tokens.clear(),
            Fault::StopAuthority
            | Fault::StartAuthority
            | Fault::DelayAuthority(_)
            | Fault::EmptyAuthority
            | Fault::CutFromAuthority(_)
            | Fault::ReconnectToAuthority(_) => {}
            // It is a pause to the one concerned, and its threads have all their time anew.
            Fault::JumpClock(place, by) => {
                self.threads.owed.retain(|(here, _), _| here != place);
                // It counts restarts by its own clock.
                self.restarts.retain(|(here, ..), _| here != place);
                *self.nodes.ahead.entry(*place).or_default() += nanos(*by);
            }
            Fault::Slow(..) => self.nodes.owed.clear(),
            Fault::LossyNode(place, loss) => {
                if *loss > 0.0 {
                    self.nodes.garbled.insert(*place);
                } else {
                    self.nodes.garbled.remove(place);
                }
                self.nodes.owed.clear();
                self.hampered(now);
            }
            Fault::Partition(island) => self.partitioned(now, island),
            Fault::Disturb(loss, _, reordering) => self.nodes.disturbed |= *loss > 0.0 || *reordering > 0.0,
            Fault::Heal => {
                self.nodes.cut.clear();
                self.nodes.garbled.clear();
                self.hampered(now);
            }
        }
    }

    /// Notes an event of a node; `is_alone` is whether the node knows of no other member now.
    pub(crate) fn event(&mut self, now: u64, place: NodeIndex, is_alone: bool, event: &Event) {
        match event {
            Event::Joined { member } => self.joined(member),
            Event::Returned { node, .. } => self.member(node),
            Event::Left { node } => drop(self.no_member(node)),
            Event::Died { node, evidence, .. } => {
                let is_own = !evidence.is_empty();
                self.nodes.deaths += u32::from(is_own);
                if self.place(node).is_some_and(|place| self.nodes.members.contains(&place)) {
                    self.nodes.died.push(now);
                }
                if let Some(dead) = self.no_member(node)
                    && is_own
                    // With two members, neither can tell whether the other one has failed or the
                    // link from it.
                    && !(is_alone && self.nodes.cut_to.contains(&place))
                {
                    self.check_death(now, place, dead);
                }
            }
            // Who is held up owes nothing.
            Event::ZoneDisrupted { .. } | Event::QuorumLost { .. } => self.nodes.owed.clear(),
            Event::Failed { worker, cause, restart_in, .. } => {
                self.check_failure(now, place, worker, cause);
                if let (Some(pause), false) = (restart_in, matches!(cause, Cause::Displaced { .. })) {
                    self.check_intensity(now + pause.as_nanos() as u64, place, worker);
                }
            }
            Event::GaveUp { worker, restarts, .. } => {
                self.given_up.insert((place, self.life(place), worker.to_string()));
                let intensity = self.config.restart.intensity;
                if *restarts != intensity {
                    let text = format!("{worker} on {} was given up after {restarts} restarts", self.names[place]);
                    self.note(now, &format!("{text}, not {intensity}"));
                }
            }
            Event::ThreadHeld { arbiter, zombies, .. } => {
                self.check_abandonment(now, place, *arbiter);
                if *zombies > self.config.workers.zombies_max {
                    self.note(now, &format!("{zombies} threads of {} are blocked and abandoned", self.names[place]));
                }
            }
            Event::TooManyZombies { arbiter, .. } => {
                self.threads.owed.remove(&(place, *arbiter));
                self.threads.refused.insert(place, now);
            }
            Event::Superseded { .. } => {
                self.note(now, &format!("{} finds itself superseded, by no other process", self.names[place]));
            }
            _ => {}
        }
    }

    /// Looks whether anything that was owed by now has not come.
    pub(crate) fn step(&mut self, now: u64) {
        let late = |due: &u64| *due < now;
        while let Some((&place, _)) = self.nodes.owed.iter().find(|(_, (due, _))| late(due)) {
            let Some((due, watched_by)) = self.nodes.owed.remove(&place) else { continue };
            // The brake has paced it: so many have died lately that it has to wait its turn.
            if self.nodes.died.iter().filter(|&&at| at + nanos(PACE) > due).count() >= PACE_LEAST {
                self.nodes.owed.insert(place, (due + nanos(PACE), watched_by));
                continue;
            }
            // A node that receives less than half of the others holds its verdicts.
            let silent = self.nodes.paused.union(&self.nodes.killed).count();
            if (silent + self.nodes.left.len()) * 2 >= self.names.len() - 1 {
                continue;
            }
            self.note(now, &format!("the crash of {} was not noticed in time", self.names[place]));
        }
        while let Some((&(place, arbiter), _)) = self.threads.owed.iter().find(|(_, due)| late(due)) {
            self.threads.owed.remove(&(place, arbiter));
            self.note(now, &format!("{arbiter:?} of {} is blocked and was not replaced in time", self.names[place]));
        }
    }

    /// The broken promises, each with the command that shows it.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    /// Deaths that the monitor concluded.
    pub fn deaths(&self) -> u32 {
        self.nodes.deaths
    }

    /// Whether a shard that is a node's need not run there at `now`: it failed too often, or it may
    /// sit on a blocked thread that was one too many.
    pub(crate) fn may_be_down(&self, now: u64, place: NodeIndex, shard: u32) -> bool {
        let workers = &self.config.workers;
        let refused = self.threads.refused.get(&place);
        self.given_up.contains(&(place, self.life(place), format!("{GROUP}/{shard}")))
            || refused.is_some_and(|since| now - since <= nanos(workers.timeout + workers.interval))
    }

    /// Whether a shard may run in one place only, in every state of the network.
    pub(crate) fn is_exclusive(&self) -> bool {
        let ownership = &self.config.ownership;
        ownership.quorum == QuorumRule::Majority || ownership.authority != AuthorityKind::View
    }

    pub(crate) fn life(&self, place: NodeIndex) -> u64 {
        self.lives.get(&place).copied().unwrap_or_default()
    }

    pub(crate) fn place(&self, name: &str) -> Option<NodeIndex> {
        self.names.iter().position(|known| known == name)
    }

    pub(crate) fn note(&mut self, now: u64, text: &str) {
        let at = Duration::from_nanos(now.saturating_sub(1_000_000_000));
        self.broken.push(format!("at {at:.3?}: {text}; {}", replay(self.seed, self.shape)));
    }
}

/// The name of a worker in the simulated world.
pub(crate) fn worker_name(worker: WorkerId) -> String {
    match worker.0.checked_sub(WORKERS) {
        Some(index) => format!("{GROUP}/{index}"),
        None => format!("worker-{}", worker.0),
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// The command that shows a run again.
pub(crate) fn replay(seed: u64, shape: Shape) -> String {
    let Shape { monitors, nodes, requests, .. } = shape;
    let requests = if requests { " --requests" } else { "" };
    format!("cargo run -p heartbeat-sim --bin replay -- {seed} --nodes {nodes} --monitors {monitors}{requests}")
}
