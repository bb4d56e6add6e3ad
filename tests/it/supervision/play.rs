//! `Play`: an engine whose threads are played: whatever it says is done at once, and noted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use heartbeat_core::{
    Activity, ArbiterId, AutoShutdown, Cause, Child, Config, Counting, Engine, Event, Generation, GroupId, Identity,
    Instant, Output, Report, RestartKind, Strategy, Supervise, SuperviseGroup, WorkerId,
};

/// An engine and what its threads do.
pub(crate) struct Play {
    pub(crate) engine: Engine,
    pub(crate) now: Instant,
    /// The generation of each worker that runs.
    pub(crate) running: BTreeMap<WorkerId, Generation>,
    /// Workers that do not stop when they are told to.
    pub(crate) stubborn: BTreeSet<WorkerId>,
    /// Workers that do not come up when they are told to start.
    pub(crate) sluggish: BTreeSet<WorkerId>,
    /// `+name` for a start, `-name` for being told to stop, in order.
    pub(crate) log: Vec<String>,
    pub(crate) events: Vec<Event>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) threads: BTreeSet<ArbiterId>,
    pub(crate) names: BTreeMap<WorkerId, String>,
    /// The last generation of each worker that was started.
    newest: BTreeMap<WorkerId, Generation>,
    reports: VecDeque<(WorkerId, Generation, Report)>,
}

impl Play {
    pub(crate) fn new(settings: &str) -> Play {
        Play::with(Config::from_toml(settings).unwrap())
    }

    pub(crate) fn with(config: Config) -> Play {
        let identity = Identity { generation: Generation(1), address: "127.0.0.1:1".parse().unwrap() };
        let now = Instant::from_millis(1_000);
        let mut play = Play {
            engine: Engine::new(config, identity, 7, now).unwrap(),
            now,
            running: BTreeMap::new(),
            stubborn: BTreeSet::new(),
            sluggish: BTreeSet::new(),
            log: Vec::new(),
            events: Vec::new(),
            outputs: Vec::new(),
            threads: BTreeSet::new(),
            names: BTreeMap::new(),
            newest: BTreeMap::new(),
            reports: VecDeque::new(),
        };
        play.drain();
        play
    }

    pub(crate) fn group(&mut self, id: u32, parent: GroupId, strategy: Strategy) -> GroupId {
        self.group_with(SuperviseGroup {
            group: GroupId(id),
            name: format!("g{id}").into(),
            parent,
            strategy,
            counting: Counting::Together,
            auto_shutdown: AutoShutdown::Never,
            dynamic: false,
            kind: RestartKind::Permanent,
            significant: false,
            restart: None,
        })
    }

    pub(crate) fn group_with(&mut self, group: SuperviseGroup) -> GroupId {
        let id = group.group;
        self.engine.supervise_group(self.now, group);
        self.drain();
        id
    }

    pub(crate) fn worker(&mut self, id: u32, group: GroupId, kind: RestartKind) -> WorkerId {
        let arbiters = self.engine.config().workers.arbiters;
        let supervise = Supervise { group, kind, ..Supervise::new(WorkerId(id), format!("w{id}"), arbiters) };
        self.worker_with(supervise)
    }

    pub(crate) fn worker_with(&mut self, supervise: Supervise) -> WorkerId {
        let id = supervise.worker;
        self.names.insert(id, supervise.name.to_string());
        self.newest.remove(&id);
        self.engine.supervise(self.now, supervise);
        self.drain();
        id
    }

    /// A worker that runs panics.
    pub(crate) fn panic(&mut self, id: WorkerId) {
        self.end(id, Report::Failed(Play::panicked()));
    }

    /// A worker that runs stops itself.
    pub(crate) fn finish(&mut self, id: WorkerId) {
        self.end(id, Report::Stopped);
    }

    pub(crate) fn panicked() -> Cause {
        Cause::Panicked { payload: "told to".into(), during: Activity::Message("Panic") }
    }

    fn end(&mut self, id: WorkerId, report: Report) {
        let generation = self.running.remove(&id).unwrap();
        self.engine.handle_report(self.now, id, generation, report);
        self.drain();
    }

    pub(crate) fn report(&mut self, id: WorkerId, generation: Generation, report: Report) {
        self.engine.handle_report(self.now, id, generation, report);
        self.drain();
    }

    pub(crate) fn order(&mut self, act: impl FnOnce(&mut Engine, Instant)) {
        act(&mut self.engine, self.now);
        self.drain();
    }

    /// Lets time pass; timeouts are handled when they are due, and threads beat.
    pub(crate) fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        while let Some(due) = self.engine.poll_timeout().filter(|&due| due <= end) {
            turns = if due > self.now { 0 } else { turns + 1 };
            assert!(turns < 100, "the engine asks for the same instant again and again");
            self.now = self.now.max(due);
            self.engine.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// All threads give a sign of life.
    pub(crate) fn beat(&mut self, slot: u64) {
        for arbiter in self.threads.clone() {
            self.engine.handle_beat(self.now, arbiter, slot, None);
            self.drain();
        }
    }

    /// Does what the engine says until it says nothing more.
    pub(crate) fn drain(&mut self) {
        let mut buffer = Vec::new();
        loop {
            while let Some(output) = self.engine.poll_output(&mut buffer) {
                self.act(&output);
                self.outputs.push(output);
            }
            let Some((worker, generation, report)) = self.reports.pop_front() else { return };
            // A void generation has nothing to say.
            if self.running.get(&worker) == Some(&generation) {
                if report == Report::Stopped {
                    self.running.remove(&worker);
                }
                self.engine.handle_report(self.now, worker, generation, report);
            }
        }
    }

    fn act(&mut self, output: &Output) {
        match output {
            Output::Start(start) => {
                let newest = self.newest.insert(start.worker, start.generation);
                assert!(newest < Some(start.generation), "T4: generations rise");
                assert!(self.threads.contains(&start.arbiter), "{start:?} on a thread that is not there");
                self.running.insert(start.worker, start.generation);
                self.log.push(format!("+{}", self.names[&start.worker]));
                if !self.sluggish.contains(&start.worker) {
                    self.reports.push_back((start.worker, start.generation, Report::Started));
                }
            }
            Output::Stop { worker } => {
                self.log.push(format!("-{}", self.names[worker]));
                if let (Some(&generation), false) = (self.running.get(worker), self.stubborn.contains(worker)) {
                    self.reports.push_back((*worker, generation, Report::Stopped));
                }
            }
            Output::Fence { worker } | Output::Close { worker, .. } | Output::Forget { worker } => {
                self.running.remove(worker);
            }
            Output::Spawn { arbiter } => assert!(self.threads.insert(*arbiter)),
            Output::Abandon { arbiter } | Output::Dismiss { arbiter } => assert!(self.threads.remove(arbiter)),
            Output::Event(event) => self.events.push(event.clone()),
            Output::Permit { .. }
            | Output::Scan
            | Output::Inspect { .. }
            | Output::Exit { .. }
            | Output::ForgetGroup { .. }
            | Output::Transmit { .. } => {}
        }
    }

    /// What was started and told to stop since this was last asked.
    pub(crate) fn story(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// Whatever `wanted` picks from the events so far.
    pub(crate) fn pick<T>(&self, wanted: impl FnMut(&Event) -> Option<T>) -> Vec<T> {
        self.events.iter().filter_map(wanted).collect()
    }

    pub(crate) fn start(&mut self, child: Child) {
        self.order(|engine, now| engine.start(now, child));
    }

    pub(crate) fn stop(&mut self, child: Child) {
        self.order(|engine, now| engine.stop(now, child));
    }
}
