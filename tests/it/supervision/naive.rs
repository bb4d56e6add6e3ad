//! T1: whatever ends in whatever tree, the engine starts and stops what a second model does, in the same order.
//!
//! The second model is as plain as can be: it recurses, it waits for nobody, it knows no time, and it was written from the description of
//! Erlang/OTP's `supervisor`, with the two differences that `order.rs` owns up to.

use std::collections::BTreeMap;

use heartbeat_core::config::RestartConfig;
use heartbeat_core::{
    AutoShutdown, Child, Config, Counting, GroupId, Random, RestartKind, Strategy, Supervise, SuperviseGroup, WorkerId,
};

use super::play::Play;

/// Restarts that the root allows each of its children.
const ROOT_LIMIT: u32 = 4;
const SETTINGS: &str = "[restart]\nintensity = 4\nperiod = '1h'\ndelay_min = '0s'\ndelay_max = '0s'";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    New,
    Up,
    /// Stopped by its group.
    Down,
    /// Ended by itself.
    Ended,
    GivenUp,
}

#[derive(Clone, Debug)]
struct Node {
    parent: GroupId,
    kind: RestartKind,
    significant: bool,
    state: State,
    /// Restarts counted for it alone, by the root.
    restarts: u32,
    /// If it is a group.
    group: Option<Group>,
}

#[derive(Clone, Debug)]
struct Group {
    strategy: Strategy,
    auto_shutdown: AutoShutdown,
    limit: u32,
    count: u32,
    children: Vec<Child>,
}

/// The second model.
struct Naive {
    nodes: BTreeMap<Child, Node>,
    log: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    Normal,
    Fault,
}

const ROOT: Child = Child::Group(GroupId::ROOT);

impl Naive {
    fn new() -> Naive {
        let group = Group {
            strategy: Strategy::OneForOne,
            auto_shutdown: AutoShutdown::Never,
            limit: 0,
            count: 0,
            children: vec![],
        };
        let root = Node {
            parent: GroupId::ROOT,
            kind: RestartKind::Permanent,
            significant: false,
            state: State::Up,
            restarts: 0,
            group: Some(group),
        };
        Naive { nodes: BTreeMap::from([(ROOT, root)]), log: Vec::new() }
    }

    fn children(&self, group: Child) -> Vec<Child> {
        self.nodes[&group].group.as_ref().map_or(vec![], |group| group.children.clone())
    }

    fn add(&mut self, child: Child, node: Node) {
        let parent = Child::Group(node.parent);
        self.nodes.insert(child, node);
        self.nodes.get_mut(&parent).unwrap().group.as_mut().unwrap().children.push(child);
        if self.nodes[&parent].state == State::Up {
            self.start(child);
        }
    }

    fn start(&mut self, child: Child) {
        self.nodes.get_mut(&child).unwrap().state = State::Up;
        match child {
            Child::Worker(id) => self.log.push(format!("+w{}", id.0)),
            Child::Group(_) => {
                self.nodes.get_mut(&child).unwrap().group.as_mut().unwrap().count = 0;
                self.start_all(self.children(child));
            }
        }
    }

    fn start_all(&mut self, children: Vec<Child>) {
        for child in children {
            let node = &self.nodes[&child];
            if node.kind != RestartKind::Temporary || node.state == State::New {
                self.start(child);
            }
        }
    }

    fn stop(&mut self, child: Child) {
        if self.nodes[&child].state != State::Up {
            return;
        }
        match child {
            Child::Worker(id) => self.log.push(format!("-w{}", id.0)),
            Child::Group(_) => self.children(child).into_iter().rev().for_each(|child| self.stop(child)),
        }
        self.nodes.get_mut(&child).unwrap().state = State::Down;
    }

    fn exit(&mut self, child: Child, reason: Reason) {
        let (parent, kind) = (Child::Group(self.nodes[&child].parent), self.nodes[&child].kind);
        let restarts = match kind {
            RestartKind::Permanent => true,
            RestartKind::Transient => reason == Reason::Fault,
            RestartKind::Temporary => false,
        };
        if !restarts {
            self.nodes.get_mut(&child).unwrap().state = State::Ended;
            return self.ended(parent, child);
        }
        self.nodes.get_mut(&child).unwrap().state = State::Down;
        if parent == ROOT {
            let node = self.nodes.get_mut(&child).unwrap();
            if node.restarts == ROOT_LIMIT {
                node.state = State::GivenUp;
            } else {
                node.restarts += 1;
                self.start(child);
            }
            return;
        }
        let group = self.nodes.get_mut(&parent).unwrap().group.as_mut().unwrap();
        if group.count == group.limit {
            self.stop(parent);
            return self.exit(parent, Reason::Fault);
        }
        group.count += 1;
        let (strategy, children) = (group.strategy, group.children.clone());
        let index = children.iter().position(|&other| other == child).unwrap();
        let concerned = match strategy {
            Strategy::OneForOne => return self.start(child),
            Strategy::OneForAll => children,
            Strategy::RestForOne => children[index..].to_vec(),
        };
        concerned.iter().rev().for_each(|&other| self.stop(other));
        self.start_all(concerned);
    }

    fn ended(&mut self, parent: Child, child: Child) {
        if !self.nodes[&child].significant {
            return;
        }
        let shuts_down = match self.nodes[&parent].group.as_ref().unwrap().auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => self.children(parent).iter().all(|child| {
                let node = &self.nodes[child];
                !node.significant || node.state == State::Ended
            }),
        };
        if shuts_down {
            self.stop(parent);
            self.exit(parent, Reason::Normal);
        }
    }

    fn running(&self) -> Vec<WorkerId> {
        let up = |(child, node): (&Child, &Node)| match child {
            Child::Worker(id) if node.state == State::Up => Some(*id),
            _ => None,
        };
        self.nodes.iter().filter_map(up).collect()
    }
}

fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.below(from.len() as u64) as usize]
}

/// Builds the same random tree in both.
fn build(random: &mut Random, play: &mut Play, naive: &mut Naive) {
    use RestartKind::{Permanent, Temporary, Transient};
    let mut groups = vec![(GroupId::ROOT, AutoShutdown::Never)];
    for id in 1..=1 + random.below(9) as u32 {
        let (parent, auto) = pick(random, &groups);
        let kind = pick(random, &[Permanent, Permanent, Transient, Temporary]);
        let significant = auto != AutoShutdown::Never && kind != Permanent && random.below(2) == 0;
        if random.below(3) == 0 {
            let strategy = pick(random, &[Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne]);
            let auto_shutdown =
                pick(random, &[AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant]);
            let limit = random.below(4) as u32;
            let restart = RestartConfig { intensity: limit, ..Config::from_toml(SETTINGS).unwrap().restart };
            let group = Some(Group { strategy, auto_shutdown, limit, count: 0, children: vec![] });
            naive.add(
                Child::Group(GroupId(id)),
                Node { parent, kind, significant, state: State::New, restarts: 0, group },
            );
            play.group_with(SuperviseGroup {
                group: GroupId(id),
                name: format!("g{id}").into(),
                parent,
                strategy,
                counting: Counting::Together,
                auto_shutdown,
                dynamic: false,
                kind,
                significant,
                restart: Some(restart.into()),
            });
            groups.push((GroupId(id), auto_shutdown));
        } else {
            let node = Node { parent, kind, significant, state: State::New, restarts: 0, group: None };
            naive.add(Child::Worker(WorkerId(id)), node);
            let worker = Supervise::new(WorkerId(id), format!("w{id}"), 2);
            play.worker_with(Supervise { group: parent, kind, significant, ..worker });
        }
    }
}

#[test]
fn t1_a_second_model_starts_and_stops_the_same_in_the_same_order() {
    for seed in 0..8_000 {
        let mut random = Random::seeded(seed);
        let (mut play, mut naive) = (Play::new(SETTINGS), Naive::new());
        build(&mut random, &mut play, &mut naive);
        assert_eq!(play.story(), std::mem::take(&mut naive.log), "seed {seed}, at the start");
        for step in 0..20 {
            let running: Vec<WorkerId> = play.running.keys().copied().collect();
            assert_eq!(running, naive.running(), "seed {seed}, step {step}");
            let Some(&victim) = running.get(random.below(running.len().max(1) as u64) as usize) else { break };
            let reason = pick(&mut random, &[Reason::Normal, Reason::Fault]);
            match reason {
                Reason::Normal => play.finish(victim),
                Reason::Fault => play.panic(victim),
            }
            naive.exit(Child::Worker(victim), reason);
            assert_eq!(play.story(), std::mem::take(&mut naive.log), "seed {seed}, step {step}, {victim:?}");
        }
    }
}
