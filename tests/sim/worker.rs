//! The worker threads of a simulated node, and the workers that run on them.

use std::collections::BTreeMap;
use std::time::Duration;

use heartbeat_core::{
    Activity, ArbiterId, Cause, CpuTimes, Generation, Input, Instant, Report, RestartPermit, Start, ThreadSample,
    ThreadState, WorkerActivity, WorkerId,
};

use crate::event_queue::Item;
use crate::network::NodeIndex;
use crate::shape::LONG_BEAT;
use crate::world::{WORKERS, World};

#[derive(Default)]
pub(crate) struct Thread {
    pub(crate) slot: u64,
    /// The worker that blocks it, the generation, and since when by the node's clock.
    pub(crate) blocked: Option<(WorkerId, Generation, Instant)>,
    pub(crate) abandoned: bool,
}

#[derive(Clone)]
pub(crate) struct Worker {
    pub(crate) generation: Generation,
    pub(crate) arbiter: ArbiterId,
    pub(crate) running: bool,
    pub(crate) permit: RestartPermit,
    /// When its start is reported; a stop is not reported before.
    pub(crate) starts_at: u64,
    /// Under which epoch it runs, if it is a shard.
    pub(crate) epoch: Option<u64>,
    /// What it has counted, if it is a shard: it goes on from its snapshot.
    pub(crate) count: u64,
}

impl World {
    pub(crate) fn abandon(&mut self, place: NodeIndex, arbiter: ArbiterId) {
        if let Some(thread) = self.threads(place).get_mut(&arbiter) {
            thread.abandoned = true;
        }
    }

    pub(crate) fn threads(&mut self, place: NodeIndex) -> &mut BTreeMap<ArbiterId, Thread> {
        &mut self.nodes[place].process.as_mut().expect("only a running process acts").arbiters
    }

    pub(crate) fn worker(&mut self, place: NodeIndex, worker: WorkerId) -> Option<&mut Worker> {
        self.nodes[place].process.as_mut()?.workers.get_mut(&worker)
    }

    pub(crate) fn start_worker(&mut self, place: NodeIndex, start: Start) {
        let life = self.nodes[place].life;
        if let Some(shard) = start.shard {
            self.checker.shard_started(self.now, place, shard);
            let others = (0..self.nodes.len()).filter(|&other| other != place && self.may_act(other, shard.index));
            let others: Vec<NodeIndex> = others.collect();
            self.checker.alone(self.now, place, shard, &others);
        }
        self.checker.generation(self.now, place, start.worker, start.generation);
        let epoch = start.shard.map(|shard| shard.epoch.0);
        let count = start.replica.as_ref().map_or(0, |replica| count_in(&replica.bytes));
        if let Some(shard) = start.shard {
            self.checker.took_over(self.now, place, shard, count);
        }
        let Start { worker, generation, arbiter, permit, .. } = start;
        let at = self.soon(Duration::from_millis(1));
        let Some(process) = &mut self.nodes[place].process else { return };
        process
            .workers
            .insert(worker, Worker { generation, arbiter, running: false, permit, starts_at: at, epoch, count });
        let starting = process.workers.values().filter(|worker| worker.epoch.is_some() && worker.starts_at > self.now);
        process.starting_max = process.starting_max.max(starting.count());
        self.put(at, Item::Report { place, life, worker, generation, report: Report::Started });
    }

    pub(crate) fn report(&mut self, place: NodeIndex, worker: WorkerId, generation: Generation, report: Report) {
        let Some(found) = self.worker(place, worker) else { return };
        if found.generation != generation && !matches!(report, Report::Restarted { .. }) {
            return;
        }
        let arbiter = found.arbiter;
        if report == Report::Started {
            found.running = true;
        }
        // A blocked thread starts and stops no worker. Its commands wait for it, and are dropped if
        // it is replaced meanwhile.
        if self.threads(place).get(&arbiter).is_some_and(|thread| thread.blocked.is_some()) {
            if let Some(found) = self.worker(place, worker) {
                found.running = false;
            }
            let (life, at) = (self.nodes[place].life, self.now + 10_000_000);
            return self.put(at, Item::Report { place, life, worker, generation, report });
        }
        if matches!(report, Report::Failed(_) | Report::Stopped)
            && let Some(found) = self.worker(place, worker)
        {
            found.running = false;
        }
        self.handle_input(place, Input::Report { worker, generation, report });
    }

    pub(crate) fn beat(&mut self, place: NodeIndex, life: u64, arbiter: ArbiterId) {
        let Some(thread) = self.threads(place).get_mut(&arbiter) else { return };
        if thread.abandoned {
            return;
        }
        let blocked = thread.blocked.is_some();
        if !blocked {
            thread.slot += 1;
            let slot = thread.slot;
            self.handle_input(place, Input::Beat { arbiter, slot, times: Some(CpuTimes::default()) });
            self.count(place, arbiter);
        }
        let interval = if self.shape.workers { self.config.workers.interval } else { LONG_BEAT };
        let next = self.now + interval.as_nanos() as u64;
        self.put(next, Item::Beat { place, life, arbiter });
    }

    /// Every shard on this thread counts one on, and says so.
    pub(crate) fn count(&mut self, place: NodeIndex, arbiter: ArbiterId) {
        let Some(process) = &mut self.nodes[place].process else { return };
        let mut counted = Vec::new();
        for (&id, worker) in &mut process.workers {
            if worker.running && worker.arbiter == arbiter && worker.epoch.is_some() {
                worker.count += 1;
                counted.push((id, worker.count));
            }
        }
        for (id, count) in counted {
            self.checker.counted(id.0 - WORKERS, count);
            self.handle_input(place, Input::Snapshot { worker: id, version: 1, bytes: bytes_of(id, count) });
        }
    }

    /// What a shard on a node has counted to, if it runs there.
    pub fn count_on(&self, place: NodeIndex, shard: u32) -> Option<u64> {
        let worker = self.nodes[place].process.as_ref()?.workers.get(&WorkerId(WORKERS + shard))?;
        worker.running.then_some(worker.count)
    }

    pub(crate) fn panic(&mut self, place: NodeIndex, id: WorkerId) {
        let now = self.clock(place);
        let life = self.nodes[place].life;
        let Some(worker) = self.at_work(place, id) else { return };
        let cause = Cause::Panicked { payload: "told to".into(), during: Activity::Message("Panic") };
        let generation = worker.generation;
        // The thread uses its permit if it has it, as the driver does, and reports afterwards.
        let RestartPermit { from, until } = worker.permit;
        let report = if now >= from && from != Instant::NEVER && generation < until {
            worker.generation = Generation(generation.0 + 1);
            let next = worker.generation;
            self.checker.generation(self.now, place, id, next);
            Report::Restarted { cause, failed_at: now, is_up: true }
        } else {
            Report::Failed(cause)
        };
        let at = self.soon(Duration::from_micros(100));
        self.put(at, Item::Report { place, life, worker: id, generation, report });
    }

    pub(crate) fn finish(&mut self, place: NodeIndex, id: WorkerId) {
        let life = self.nodes[place].life;
        let Some(generation) = self.at_work(place, id).map(|worker| worker.generation) else { return };
        let at = self.soon(Duration::from_micros(100));
        self.put(at, Item::Report { place, life, worker: id, generation, report: Report::Stopped });
    }

    /// A worker that runs on a thread that is not blocked, in a process that is not stopped: one
    /// that can do something by itself.
    pub(crate) fn at_work(&mut self, place: NodeIndex, id: WorkerId) -> Option<&mut Worker> {
        let process = self.nodes[place].process.as_mut().filter(|process| !process.paused)?;
        let worker = process.workers.get_mut(&id)?;
        let blocked = process.arbiters.get(&worker.arbiter).is_none_or(|thread| thread.blocked.is_some());
        (worker.running && !blocked).then_some(worker)
    }

    pub(crate) fn block(&mut self, place: NodeIndex, id: WorkerId, duration: Duration) {
        let (now, life) = (self.clock(place), self.nodes[place].life);
        let Some(Worker { generation, arbiter, .. }) = self.at_work(place, id).cloned() else { return };
        if let Some(thread) = self.threads(place).get_mut(&arbiter) {
            thread.blocked = Some((id, generation, now));
        }
        self.checker.thread_blocked(self.now, place, arbiter, duration);
        self.put(self.now + duration.as_nanos() as u64, Item::Wake { place, life, arbiter });
    }

    pub(crate) fn inspect(&mut self, place: NodeIndex, arbiter: ArbiterId) {
        let blocked = self.threads(place).get(&arbiter).and_then(|thread| thread.blocked);
        let busy: Vec<WorkerActivity> = blocked
            .into_iter()
            .map(|(worker, _, since)| WorkerActivity { worker, doing: Activity::Message("Block"), since })
            .collect();
        let asleep = ThreadSample { state: ThreadState::Sleeping, times: CpuTimes::default() };
        if let Some(process) = &mut self.nodes[place].process {
            process.inspections.push_back(Input::Inspection { arbiter, busy, seen: Some(asleep) });
        }
    }

    pub(crate) fn wake(&mut self, place: NodeIndex, arbiter: ArbiterId) {
        let Some(thread) = self.threads(place).get_mut(&arbiter) else { return };
        thread.blocked = None;
        if thread.abandoned {
            self.handle_input(place, Input::ArbiterEnded(arbiter));
        }
    }
}

/// A snapshot of a shard that has counted so far: some take many frames.
pub(crate) fn bytes_of(id: WorkerId, count: u64) -> std::sync::Arc<[u8]> {
    let mut bytes = count.to_le_bytes().to_vec();
    bytes.resize(8 + id.0 as usize % 4 * 1_500, 0);
    bytes.into()
}

pub(crate) fn count_in(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |count| u64::from_le_bytes(*count))
}
