//! `Supervision`: the workers of this process, the threads they run on, and what follows when one fails.
//!
//! A foreman with a list: who works where, in which life, and what was decided when they last fell. He hears of panics and stops at once,
//! since the worker's own thread reports them; a thread that is blocked can report nothing, so its silence is the report, and a look at what
//! its workers were doing finds the one to blame. That one's failure counts against it. Its neighbours lost their thread through no fault
//! of their own and are moved without a mark.
//!
//! A blocked thread cannot be killed. It is abandoned and counted; over `zombies_max` nothing more is replaced, since every replacement
//! would be one more thread that may block.
//!
//! It starts nothing: it says what to start. Whether a failure is followed by a restart is `restart`'s rule, not this file's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::config::RestartConfig;
use crate::desk::Desk;
use crate::event::{Cause, Event};
use crate::member::{ArbiterId, Busy, Epoch, Generation, Shard, WorkerId};
use crate::output::{Output, Start};
use crate::restart::{Decision, Restart, RestartKind};
use crate::time::Instant;

/// A worker to supervise.
#[derive(Clone, Debug)]
pub struct Supervise {
    /// Its number, not used before.
    pub worker: WorkerId,
    /// What people call it.
    pub name: Arc<str>,
    /// Which of its ends are followed by a new start.
    pub kind: RestartKind,
    /// Restart limits of its own; otherwise those of the config.
    pub restart: Option<Arc<RestartConfig>>,
}

/// What a worker's own thread says of it.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
    /// This generation runs.
    Started,
    /// This generation ended with a fault; nothing runs.
    Failed(Cause),
    /// This generation ended with a fault at `failed_at`, and by leave of `Output::Permit` the next one runs already.
    Restarted {
        /// Why it ended.
        cause: Cause,
        /// When.
        failed_at: Instant,
    },
    /// This generation ended in good order, by itself or because it was told to.
    Stopped,
}

/// The workers and threads of this process.
#[derive(Clone, Debug)]
pub(crate) struct Supervision {
    /// By number; a number may be known before its worker is.
    workers: Vec<Option<Worker>>,
    arbiters: Vec<Arbiter>,
    /// The thread in each of `workers.arbiters` places; a fresh one takes the place of an abandoned one.
    places: Vec<ArbiterId>,
    /// Workers that wait for their restart.
    waiting: BTreeSet<(Instant, WorkerId)>,
    zombies: u32,
}

#[derive(Clone, Debug)]
struct Worker {
    name: Arc<str>,
    kind: RestartKind,
    policy: Option<Arc<RestartConfig>>,
    place: u32,
    phase: Phase,
    generation: Generation,
    shard: Option<Shard>,
    restart: Restart,
    /// The failure that the coming start makes good, and when it began.
    failure: Option<Box<(Cause, Instant)>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// A shard that runs elsewhere, or a worker not yet started.
    Idle,
    /// Told to start.
    Starting,
    /// Said that it runs.
    Running,
    /// To be started at this instant.
    Waiting(Instant),
    /// Told to stop.
    Stopping,
    /// Ended in good order, or its kind is not restarted.
    Ended,
    /// Failed too often.
    GivenUp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Arbiter {
    Running,
    /// Abandoned, its thread not yet back.
    Zombie,
    Ended,
}

impl Supervision {
    /// No workers yet, and as many threads as the config says, told to be made.
    pub(crate) fn new(desk: &mut Desk) -> Supervision {
        let places: Vec<ArbiterId> = (0..desk.config.workers.arbiters).map(ArbiterId).collect();
        desk.outputs.extend(places.iter().map(|&arbiter| Output::Spawn { arbiter }));
        Supervision {
            workers: Vec::new(),
            arbiters: vec![Arbiter::Running; places.len()],
            places,
            waiting: BTreeSet::new(),
            zombies: 0,
        }
    }

    /// Takes a worker on without starting it.
    ///
    /// # Panics
    /// If the number was used before.
    pub(crate) fn supervise(&mut self, supervise: Supervise) {
        let index = supervise.worker.0 as usize;
        if self.workers.len() <= index {
            self.workers.resize_with(index + 1, || None);
        }
        assert!(self.workers[index].is_none(), "worker number {index} is used twice");
        self.workers[index] = Some(Worker {
            name: supervise.name,
            kind: supervise.kind,
            policy: supervise.restart,
            place: supervise.worker.0 % self.places.len() as u32,
            phase: Phase::Idle,
            generation: Generation(0),
            shard: None,
            restart: Restart::default(),
            failure: None,
        });
    }

    /// Starts a worker that is idle or has ended; `shard` says which shard it is to be, if it is one.
    pub(crate) fn start(&mut self, id: WorkerId, shard: Option<Shard>, desk: &mut Desk) {
        let Some(worker) = self.worker(id) else { return };
        worker.shard = shard;
        match worker.phase {
            Phase::Idle | Phase::Ended => {}
            // It is on its way out; the report of its stop will start it anew, as it is now a shard again.
            Phase::Stopping => return,
            // It has not begun, or runs under the former epoch: a new generation takes over.
            Phase::Starting | Phase::Running | Phase::Waiting(_) => {}
            Phase::GivenUp => return,
        }
        self.unwait(id);
        self.launch(id, desk);
    }

    /// Stops a worker in good order; a shard may be started again later.
    pub(crate) fn stop(&mut self, id: WorkerId, desk: &mut Desk) {
        self.unwait(id);
        let Some(worker) = self.worker(id) else { return };
        worker.shard = None;
        match worker.phase {
            Phase::Starting | Phase::Running => {
                worker.phase = Phase::Stopping;
                desk.put(Output::Stop { worker: id });
            }
            // Nothing runs that could say that it stopped; its address and its queue are closed all the same.
            Phase::Waiting(_) => self.ended(id, Phase::Idle, desk),
            Phase::Idle | Phase::Stopping | Phase::Ended | Phase::GivenUp => {}
        }
    }

    /// Stops all workers, the last one taken on first.
    pub(crate) fn stop_all(&mut self, desk: &mut Desk) {
        for index in (0..self.workers.len() as u32).rev() {
            self.stop(WorkerId(index), desk);
        }
    }

    /// Takes in what a worker's thread says of `generation`. Reports of a void generation change nothing.
    pub(crate) fn report(&mut self, id: WorkerId, generation: Generation, report: Report, desk: &mut Desk) {
        let Some(worker) = self.worker(id) else { return };
        if generation != worker.generation {
            return;
        }
        match (report, worker.phase) {
            (Report::Started, Phase::Starting) => self.started(id, desk),
            (Report::Started, _) => {}
            (Report::Failed(cause), Phase::Starting | Phase::Running) => self.failed(id, cause, desk.now, desk),
            (Report::Restarted { cause, failed_at }, Phase::Starting | Phase::Running) => {
                self.restarted(id, cause, failed_at, desk);
            }
            (Report::Stopped, Phase::Starting | Phase::Running) => {
                if worker.kind == RestartKind::Permanent {
                    self.failed(id, Cause::Stopped, desk.now, desk);
                } else {
                    self.ended(id, Phase::Ended, desk);
                }
            }
            // Told to stop, it stopped or fell over on the way: gone either way, unless it became a shard again meanwhile.
            (Report::Failed(_) | Report::Restarted { .. } | Report::Stopped, Phase::Stopping) => {
                if worker.shard.is_some() {
                    worker.phase = Phase::Idle;
                    self.launch(id, desk);
                } else {
                    self.ended(id, Phase::Idle, desk);
                }
            }
            (_, Phase::Idle | Phase::Waiting(_) | Phase::Ended | Phase::GivenUp) => {}
        }
    }

    /// Starts whoever has waited long enough.
    pub(crate) fn expire(&mut self, desk: &mut Desk) {
        while let Some(&(at, id)) = self.waiting.first() {
            if at > desk.now {
                return;
            }
            self.waiting.pop_first();
            self.launch(id, desk);
        }
    }

    /// When `expire` has something to do next.
    pub(crate) fn next_start(&self) -> Option<Instant> {
        self.waiting.first().map(|&(at, _)| at)
    }

    /// Takes in what the workers of a silent thread were doing, and replaces the thread. Returns the fresh one.
    pub(crate) fn inspected(
        &mut self,
        arbiter: ArbiterId,
        busy: &[Busy],
        silence: Duration,
        desk: &mut Desk,
    ) -> Option<ArbiterId> {
        let place = self.places.iter().position(|&here| here == arbiter)?;
        if self.zombies >= desk.config.workers.zombies_max {
            desk.tell(Event::TooManyZombies { arbiter, zombies: self.zombies });
            return None;
        }
        let fresh = ArbiterId(self.arbiters.len() as u32);
        self.arbiters.push(Arbiter::Running);
        self.arbiters[arbiter.0 as usize] = Arbiter::Zombie;
        self.places[place] = fresh;
        self.zombies += 1;
        desk.put(Output::Abandon { arbiter });
        desk.tell(Event::Abandoned { arbiter, zombies: self.zombies });
        desk.put(Output::Spawn { arbiter: fresh });
        // A thread handles one message at a time: the one it took up last is the one it is in.
        let blamed = busy.iter().max_by_key(|busy| (busy.since, busy.worker)).copied();
        let blamed_name = blamed.and_then(|busy| self.worker(busy.worker)).map(|worker| worker.name.clone());
        for index in 0..self.workers.len() {
            let id = WorkerId(index as u32);
            let Some(worker) = &mut self.workers[index] else { continue };
            if worker.place as usize != place
                || !matches!(worker.phase, Phase::Starting | Phase::Running | Phase::Stopping)
            {
                continue;
            }
            match (blamed, &blamed_name) {
                (Some(busy), _) if busy.worker == id => {
                    let cause = Cause::Blocked { handling: busy.message, busy_for: desk.now - busy.since };
                    self.lost(id, cause, busy.since, true, desk);
                }
                (Some(_), Some(name)) => {
                    let cause = Cause::Displaced { by: name.clone() };
                    self.lost(id, cause, desk.now - silence, false, desk);
                }
                _ => {
                    let cause = Cause::ThreadSilent { silent_for: silence };
                    self.lost(id, cause, desk.now - silence, false, desk);
                }
            }
        }
        Some(fresh)
    }

    /// Takes in that an abandoned thread came back and ended.
    pub(crate) fn arbiter_ended(&mut self, arbiter: ArbiterId, desk: &mut Desk) {
        let Some(state) = self.arbiters.get_mut(arbiter.0 as usize) else { return };
        if *state == Arbiter::Zombie {
            *state = Arbiter::Ended;
            self.zombies -= 1;
            desk.tell(Event::ZombieEnded { arbiter, zombies: self.zombies });
        }
    }

    /// The threads that run workers now.
    pub(crate) fn arbiters(&self) -> impl Iterator<Item = ArbiterId> {
        self.places.iter().copied()
    }

    /// Whether any worker has yet to say that it stopped.
    pub(crate) fn is_stopping(&self) -> bool {
        self.workers.iter().flatten().any(|worker| worker.phase == Phase::Stopping)
    }

    fn worker(&mut self, id: WorkerId) -> Option<&mut Worker> {
        self.workers.get_mut(id.0 as usize)?.as_mut()
    }

    /// A worker whose thread is gone: told to stop, it has stopped; otherwise it failed.
    fn lost(&mut self, id: WorkerId, cause: Cause, since: Instant, counts: bool, desk: &mut Desk) {
        let Some(worker) = self.worker(id) else { return };
        if worker.phase == Phase::Stopping && worker.shard.is_none() {
            self.ended(id, Phase::Idle, desk);
        } else if counts {
            self.failed(id, cause, since, desk);
        } else {
            self.announce(id, &cause, Some(Duration::ZERO), desk);
            if let Some(worker) = self.worker(id) {
                worker.failure = Some(Box::new((cause, since)));
            }
            self.launch(id, desk);
        }
    }

    fn started(&mut self, id: WorkerId, desk: &mut Desk) {
        let Some(worker) = self.worker(id) else { return };
        worker.phase = Phase::Running;
        let (name, generation, shard) = (worker.name.clone(), worker.generation, worker.shard);
        desk.tell(match worker.failure.take().map(|failure| *failure) {
            Some((cause, since)) => Event::Replaced { worker: name, generation, cause, after: desk.now - since, shard },
            None => Event::Started { worker: name, generation, shard },
        });
    }

    fn failed(&mut self, id: WorkerId, cause: Cause, since: Instant, desk: &mut Desk) {
        let Some(worker) = self.worker(id) else { return };
        let policy = worker.policy.as_deref().unwrap_or(&desk.config.restart);
        let decision = match worker.kind {
            RestartKind::Permanent | RestartKind::Transient => {
                worker.restart.decide(desk.now, policy, &mut desk.random)
            }
            RestartKind::Temporary => Decision::GiveUp,
        };
        // A start that fails makes good the same failure as before it, if there is one.
        let since = worker.failure.as_ref().map_or(since, |failure| failure.1);
        worker.failure = Some(Box::new((cause.clone(), since)));
        match decision {
            Decision::Now => {
                self.announce(id, &cause, Some(Duration::ZERO), desk);
                self.launch(id, desk);
            }
            Decision::At(at) => {
                worker.phase = Phase::Waiting(at);
                self.waiting.insert((at, id));
                self.announce(id, &cause, Some(at - desk.now), desk);
            }
            Decision::GiveUp => {
                let (kind, restarts) = (worker.kind, worker.restart.count());
                self.announce(id, &cause, None, desk);
                self.ended(id, Phase::GivenUp, desk);
                if kind != RestartKind::Temporary
                    && let Some(worker) = self.worker(id)
                {
                    let worker = worker.name.clone();
                    desk.tell(Event::GaveUp { worker, restarts, cause });
                }
            }
        }
    }

    fn restarted(&mut self, id: WorkerId, cause: Cause, failed_at: Instant, desk: &mut Desk) {
        self.announce(id, &cause, Some(Duration::ZERO), desk);
        let Some(worker) = self.worker(id) else { return };
        let policy = worker.policy.as_deref().unwrap_or(&desk.config.restart);
        worker.restart.record(desk.now, policy);
        worker.phase = Phase::Running;
        worker.generation = Generation(worker.generation.0 + 1);
        let immediate_from = worker.restart.immediate_from(desk.now, policy);
        let (name, generation, shard) = (worker.name.clone(), worker.generation, worker.shard);
        desk.put(Output::Permit { worker: id, generation, immediate_from });
        desk.tell(Event::Replaced { worker: name, generation, cause, after: desk.now - failed_at, shard });
    }

    fn announce(&mut self, id: WorkerId, cause: &Cause, restart_in: Option<Duration>, desk: &mut Desk) {
        let Some(worker) = self.worker(id) else { return };
        let (worker, generation) = (worker.name.clone(), worker.generation);
        desk.tell(Event::Failed { worker, generation, cause: cause.clone(), restart_in });
    }

    fn ended(&mut self, id: WorkerId, phase: Phase, desk: &mut Desk) {
        let Some(worker) = self.worker(id) else { return };
        worker.phase = phase;
        desk.put(Output::Close { worker: id });
        if phase != Phase::GivenUp {
            let (worker, generation) = (worker.name.clone(), worker.generation);
            desk.tell(Event::Stopped { worker, generation });
        }
    }

    fn unwait(&mut self, id: WorkerId) {
        if let Some(Phase::Waiting(at)) = self.worker(id).map(|worker| worker.phase) {
            self.waiting.remove(&(at, id));
        }
    }

    fn launch(&mut self, id: WorkerId, desk: &mut Desk) {
        let places = &self.places;
        let Some(worker) = self.workers.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        worker.phase = Phase::Starting;
        // The former generation's thread may this instant be using its leave to start the next one by itself, and its report may never come: if
        // that one were given the same number, it would not be void. So one number is left out for it.
        worker.generation = Generation(if worker.generation.0 == 0 { 1 } else { worker.generation.0 + 2 });
        let policy = worker.policy.as_deref().unwrap_or(&desk.config.restart);
        let immediate_from = match worker.kind {
            RestartKind::Permanent | RestartKind::Transient => worker.restart.immediate_from(desk.now, policy),
            RestartKind::Temporary => Instant::NEVER,
        };
        desk.put(Output::Start(Start {
            worker: id,
            generation: worker.generation,
            arbiter: places[worker.place as usize],
            shard: worker.shard,
            cause: worker.failure.as_ref().map(|failure| failure.0.clone()),
            immediate_from,
        }));
    }
}

/// A shard's token when nobody else can own it: there is no cluster.
pub(crate) fn sole_epoch(generation: Generation) -> Epoch {
    Epoch(generation.0 << EPOCH_BITS)
}

/// Changes of the view that one millisecond of a node's generation has room for; see `cluster`.
pub(crate) const EPOCH_BITS: u32 = 20;
