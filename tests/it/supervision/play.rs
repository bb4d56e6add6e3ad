//! `Play`: an engine whose threads are simulated. Each output is carried out at once, and noted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use heartbeat_core::{
    Activity, ArbiterId, AutoShutdown, Cause, Child, Config, Counting, Engine, Event, Generation, GroupId, Identity,
    Input, Instant, Output, Report, RestartKind, RestartPermit, Strategy, Supervise, SuperviseGroup, WorkerActivity,
    WorkerId,
};

/// An engine and what its threads do.
pub(crate) struct Play {
    pub(crate) engine: Engine,
    pub(crate) now: Instant,
    /// The generation of each worker that runs.
    pub(crate) running: BTreeMap<WorkerId, Generation>,
    /// Workers that do not stop when they are asked to.
    pub(crate) stubborn: BTreeSet<WorkerId>,
    /// Workers that do not come up when they are started.
    pub(crate) sluggish: BTreeSet<WorkerId>,
    /// `+name` for a start, `-name` for being told to stop, in order.
    pub(crate) log: Vec<String>,
    pub(crate) events: Vec<Event>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) threads: BTreeSet<ArbiterId>,
    pub(crate) names: BTreeMap<WorkerId, String>,
    /// Workers whose queue takes messages.
    pub(crate) open: BTreeSet<WorkerId>,
    /// The thread of each worker's newest generation.
    pub(crate) at: BTreeMap<WorkerId, ArbiterId>,
    /// Threads that are held, and the activity that holds each: no command to their workers is
    /// carried out.
    pub(crate) held: BTreeMap<ArbiterId, WorkerActivity>,
    /// Threads that were abandoned and have not come back.
    pub(crate) zombies: BTreeSet<ArbiterId>,
    /// What each worker's thread may do without asking.
    pub(crate) permits: BTreeMap<WorkerId, RestartPermit>,
    /// Whether questions about silent threads are answered.
    pub(crate) answers: bool,
    silent: VecDeque<ArbiterId>,
    /// Whether a thread was lost since that was last looked into.
    has_lost: bool,
    /// The last generation of each worker that was started.
    newest: BTreeMap<WorkerId, Generation>,
    reports: VecDeque<(WorkerId, Generation, Report)>,
    /// Workers that were asked to stop since their last start. The engine asks again if the reason
    /// changes.
    told: BTreeSet<WorkerId>,
}

/// Says which seed it was if the test fails while this lives, wherever it fails.
pub(crate) struct Seed(pub(crate) u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with seed {}", self.0);
        }
    }
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
            open: BTreeSet::new(),
            at: BTreeMap::new(),
            held: BTreeMap::new(),
            zombies: BTreeSet::new(),
            permits: BTreeMap::new(),
            answers: false,
            silent: VecDeque::new(),
            has_lost: false,
            newest: BTreeMap::new(),
            told: BTreeSet::new(),
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
        self.engine.handle(self.now, Input::SuperviseGroup(group.into()));
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
        self.open.insert(id);
        self.engine.handle(self.now, Input::Supervise(supervise.into()));
        self.drain();
        id
    }

    /// A worker that runs panics.
    pub(crate) fn panic(&mut self, id: WorkerId) {
        self.end(id, Report::Failed(Play::panicked()));
    }

    /// A worker that runs panics, and its thread starts it again if it has leave to.
    pub(crate) fn panic_with_leave(&mut self, id: WorkerId, is_up: bool) {
        let (generation, leave) = (self.running[&id], self.permits[&id]);
        if leave.from > self.now || generation >= leave.until {
            return self.panic(id);
        }
        let next = Generation(generation.0 + 1);
        self.running.insert(id, next);
        self.newest.insert(id, next);
        let report = Report::Restarted { cause: Play::panicked(), failed_at: self.now, is_up };
        if !is_up {
            self.reports.push_back((id, next, Report::Started));
        }
        self.engine.handle(self.now, Input::Report { worker: id, generation, report });
        self.drain();
    }

    /// A worker holds its thread from now on.
    pub(crate) fn hold(&mut self, id: WorkerId) {
        let busy = WorkerActivity { worker: id, doing: Activity::Message("Block"), since: self.now };
        self.held.entry(self.at[&id]).or_insert(busy);
    }

    /// A thread that ends by itself takes its workers with it.
    pub(crate) fn kill(&mut self, arbiter: ArbiterId) {
        self.threads.remove(&arbiter);
        self.held.remove(&arbiter);
        self.running.retain(|id, _| self.at[id] != arbiter);
        self.order(|engine, now| engine.handle(now, Input::ArbiterDead(arbiter)));
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
        self.engine.handle(self.now, Input::Report { worker: id, generation, report });
        self.drain();
    }

    pub(crate) fn report(&mut self, id: WorkerId, generation: Generation, report: Report) {
        self.engine.handle(self.now, Input::Report { worker: id, generation, report });
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
            assert!(turns < 3, "the engine asks for the same instant again and again");
            self.now = self.now.max(due);
            self.engine.handle(self.now, Input::Timeout);
            assert!(self.engine.poll_timeout().is_none_or(|next| next > self.now), "what was due was done");
            self.drain();
        }
        self.now = end;
    }

    /// All threads give a sign of life.
    pub(crate) fn beat(&mut self, slot: u64) {
        for arbiter in
            self.threads.clone().into_iter().filter(|arbiter| !self.held.contains_key(arbiter)).collect::<Vec<_>>()
        {
            self.engine.handle(self.now, Input::Beat { arbiter, slot, times: None });
            self.drain();
        }
    }

    /// All faults are over and nothing more is asked, until nothing is left that goes on by itself.
    pub(crate) fn come_to_rest(&mut self) {
        self.stubborn.clear();
        self.held.clear();
        for zombie in std::mem::take(&mut self.zombies) {
            self.order(|engine, now| engine.handle(now, Input::ArbiterEnded(zombie)));
        }
        let sluggish = std::mem::take(&mut self.sluggish);
        let coming: Vec<_> = sluggish.iter().filter_map(|id| Some((*id, *self.running.get(id)?))).collect();
        for (worker, generation) in coming {
            self.report(worker, generation, Report::Started);
        }
        // Ten workers that were stubborn a moment ago are fenced one after the other, each after 5
        // s.
        for _ in 0..120 {
            self.advance(Duration::from_secs(1));
            let slot = self.now.as_nanos();
            self.beat(slot);
        }
    }

    /// Workers that take messages that nothing reads and nothing will.
    pub(crate) fn unread(&self) -> Vec<WorkerId> {
        self.open.iter().copied().filter(|id| !self.running.contains_key(id)).collect()
    }

    /// Does what the engine says until it says nothing more.
    pub(crate) fn drain(&mut self) {
        let mut buffer = Vec::new();
        loop {
            while let Some(output) = self.engine.poll_output(&mut buffer) {
                self.act(&output);
                self.outputs.push(output);
            }
            if let Some(arbiter) = self.silent.pop_front() {
                let busy = self.held.get(&arbiter).copied();
                self.engine
                    .handle(self.now, Input::Inspection { arbiter, busy: busy.into_iter().collect(), seen: None });
                continue;
            }
            if std::mem::take(&mut self.has_lost) {
                self.assert_that_no_worker_runs_on_a_lost_thread();
            }
            let held = |worker: &WorkerId| self.at.get(worker).is_some_and(|at| self.held.contains_key(at));
            let Some(place) = self.reports.iter().position(|(worker, ..)| !held(worker)) else { return };
            let Some((worker, generation, report)) = self.reports.remove(place) else { return };
            // A void generation has nothing to say.
            if self.running.get(&worker) == Some(&generation) {
                if report == Report::Stopped {
                    self.running.remove(&worker);
                }
                self.engine.handle(self.now, Input::Report { worker, generation, report });
            }
        }
    }

    /// Each worker on a lost thread must be fenced, or a zombie would go on handling messages.
    fn assert_that_no_worker_runs_on_a_lost_thread(&self) {
        let ghost = self.running.iter().find(|(id, _)| !self.threads.contains(&self.at[id]));
        assert_eq!(ghost, None, "it runs on a thread that was lost, and was not fenced");
    }

    fn act(&mut self, output: &Output) {
        match output {
            Output::Start(start) => {
                self.told.remove(&start.worker);
                let runs = self.running.contains_key(&start.worker);
                let former = self.at.insert(start.worker, start.arbiter);
                assert!(!runs || former.is_some_and(|at| !self.threads.contains(&at)), "{start:?} over one that runs");
                self.permits.insert(start.worker, start.permit);
                let newest = self.newest.insert(start.worker, start.generation);
                assert!(newest < Some(start.generation), "T4: generations rise");
                assert!(self.threads.contains(&start.arbiter), "{start:?} on a thread that is not there");
                self.running.insert(start.worker, start.generation);
                self.open.insert(start.worker);
                self.log.push(format!("+{}", self.names[&start.worker]));
                if !self.sluggish.contains(&start.worker) {
                    self.reports.push_back((start.worker, start.generation, Report::Started));
                }
            }
            Output::Stop { worker, .. } if !self.told.insert(*worker) => {}
            Output::Stop { worker, .. } => {
                self.log.push(format!("-{}", self.names[worker]));
                if let (Some(&generation), false) = (self.running.get(worker), self.stubborn.contains(worker)) {
                    self.reports.push_back((*worker, generation, Report::Stopped));
                }
            }
            Output::Fence { worker, .. } => {
                self.running.remove(worker);
            }
            Output::Close { worker, .. } | Output::Forget { worker } => {
                self.running.remove(worker);
                self.open.remove(worker);
            }
            Output::Spawn { arbiter } => assert!(self.threads.insert(*arbiter)),
            Output::Dismiss { arbiter } => {
                self.held.remove(arbiter);
                assert!(self.threads.remove(arbiter));
            }
            Output::Abandon { arbiter } => {
                assert!(self.threads.remove(arbiter) && self.zombies.insert(*arbiter));
                let lost: Vec<WorkerId> =
                    self.at.iter().filter(|&(_, at)| at == arbiter).map(|(&worker, _)| worker).collect();
                self.reports.retain(|(worker, ..)| !lost.contains(worker));
                self.has_lost = true;
                self.held.remove(arbiter);
            }
            Output::Inspect { arbiter } if self.answers => self.silent.push_back(*arbiter),
            Output::SetRestartPermit { worker, permit } => {
                self.permits.insert(*worker, *permit);
            }
            Output::Event(event) => self.events.push(event.clone()),
            Output::Scan
            | Output::Held { .. }
            | Output::Returned { .. }
            | Output::AskAuthority { .. }
            | Output::Arrived(_)
            | Output::Inspect { .. }
            | Output::Exit { .. }
            | Output::ForgetGroup { .. }
            | Output::Drain
            | Output::Transmit { .. }
            | Output::Open { .. }
            | Output::Frame { .. }
            | Output::Shut { .. }
            | Output::Resolve { .. } => {}
        }
    }

    /// The starts, and the requests to stop, since the last call.
    pub(crate) fn story(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// All that `wanted` picks from the events so far.
    pub(crate) fn pick<T>(&self, wanted: impl FnMut(&Event) -> Option<T>) -> Vec<T> {
        self.events.iter().filter_map(wanted).collect()
    }

    pub(crate) fn start(&mut self, child: Child) {
        self.order(|engine, now| engine.handle(now, Input::Start(child)));
    }

    pub(crate) fn stop(&mut self, child: Child) {
        self.order(|engine, now| engine.handle(now, Input::Stop(child)));
    }
}
