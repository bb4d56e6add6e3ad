//! `fixture`: a supervision with its `Ctx`, for the unit tests of this room.

use std::time::Duration;

use super::restart::RestartKind;
use super::{AutoShutdown, Counting, Report, Strategy, Supervise, SuperviseGroup, Supervision};
use crate::config::Config;
use crate::ctx::Ctx;
use crate::detection::monitor::Monitor;
use crate::event::{Cause, Event};
use crate::member::{Child, GroupId, WorkerId};
use crate::output::Output;
use crate::random::Random;
use crate::time::Instant;

/// The group that most tests add.
pub(super) const GROUP: GroupId = GroupId(1);

/// A timer comes up at the first tick after its deadline: at most this much later, never at it.
pub(super) const TICK: Duration = Duration::from_millis(1);

/// A supervision with two shared threads and the default config, at 0.
pub(super) struct Fixture {
    pub(super) supervision: Supervision,
    pub(super) ctx: Ctx,
}

/// What a rule may use, at 0.
pub(super) fn ctx() -> Ctx {
    let (now, config) = (Instant::ZERO, Config::default());
    let (random, monitor) = (Random::seeded(1), Monitor::new(now));
    Ctx { now, arrivals_stale: false, config, random, monitor, outputs: Default::default() }
}

/// A group in the root group, whose children are counted each for itself.
pub(super) fn group(strategy: Strategy) -> SuperviseGroup {
    SuperviseGroup {
        group: GROUP,
        name: "group".into(),
        parent: GroupId::ROOT,
        strategy,
        counting: Counting::Each,
        auto_shutdown: AutoShutdown::Never,
        dynamic: false,
        kind: RestartKind::Permanent,
        significant: false,
        restart: None,
    }
}

/// A permanent worker `w<id>` in a group.
pub(super) fn worker(id: u32, group: GroupId) -> Supervise {
    Supervise { group, ..Supervise::new(WorkerId(id), format!("w{id}"), 2) }
}

impl Fixture {
    pub(super) fn new() -> Fixture {
        let mut ctx = ctx();
        Fixture { supervision: Supervision::new(&mut ctx), ctx }
    }

    /// Workers `0..count` in the root group, all up.
    pub(super) fn with_workers(count: u32) -> Fixture {
        let mut fixture = Fixture::new();
        for id in 0..count {
            fixture.add(worker(id, GroupId::ROOT));
            fixture.report(id, Report::Started);
        }
        fixture.outputs();
        fixture
    }

    /// Workers `0..count` in a group of this strategy, all up.
    pub(super) fn with_group(strategy: Strategy, count: u32) -> Fixture {
        let mut fixture = Fixture::new();
        fixture.supervision.supervise_group(group(strategy), &mut fixture.ctx);
        for id in 0..count {
            fixture.add(worker(id, GROUP));
            fixture.report(id, Report::Started);
        }
        fixture.outputs();
        fixture
    }

    pub(super) fn add(&mut self, supervise: Supervise) {
        self.supervision.supervise(supervise, &mut self.ctx);
    }

    /// A report on the present generation of a worker.
    pub(super) fn report(&mut self, id: u32, report: Report) {
        let generation = self.supervision.children.worker(WorkerId(id)).unwrap().generation;
        self.supervision.handle_report(WorkerId(id), generation, report, &mut self.ctx);
    }

    /// A worker stops itself with a fault.
    pub(super) fn fail(&mut self, id: u32) {
        self.report(id, Report::Failed(Cause::ReportedFailed));
    }

    pub(super) fn stop(&mut self, child: Child) {
        self.supervision.stop(child, &mut self.ctx);
    }

    /// Lets time pass, without a timeout.
    pub(super) fn pass(&mut self, duration: Duration) {
        self.ctx.now += duration;
    }

    /// Handles all timeouts up to the one at `now`.
    pub(super) fn expire(&mut self) {
        self.supervision.handle_timeout(&mut self.ctx);
    }

    /// The outputs since the last call.
    pub(super) fn outputs(&mut self) -> Vec<Output> {
        self.ctx.outputs.drain(..).collect()
    }

    /// The events since the last call; other outputs are dropped.
    pub(super) fn events(&mut self) -> Vec<Event> {
        let event = |output| if let Output::Event(event) = output { Some(event) } else { None };
        self.outputs().into_iter().filter_map(event).collect()
    }

    /// Starts, stops and fences since the last call, in order: `+0`, `-0`, `x0`.
    pub(super) fn steps(&mut self) -> String {
        let mut steps = Vec::new();
        for output in self.outputs() {
            if let Output::Start(start) = output {
                steps.push(format!("+{}", start.worker.0));
            } else if let Output::Stop { worker, .. } = output {
                steps.push(format!("-{}", worker.0));
            } else if let Output::Fence { worker, .. } = output {
                steps.push(format!("x{}", worker.0));
            }
        }
        steps.join(" ")
    }
}
