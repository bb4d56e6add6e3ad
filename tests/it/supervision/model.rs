//! T1: after each end in each random tree, the engine starts and stops what a second model does, in
//! the same order, and the same groups end.
//!
//! The second model is as plain as can be: it recurses and waits for no worker. It was written from
//! the description and the code of Erlang/OTP's `supervisor` (`restart/2`, `do_auto_shutdown/2`,
//! `add_restart/1`), with the differences that `order.rs` lists. A list of instants stands for each
//! window.

use std::collections::BTreeMap;
use std::time::Duration;

use heartbeat_core::config::RestartConfig;
use heartbeat_core::{
    AutoShutdown, Child, Config, Counting, Event, GroupId, Input, Instant, Random, RestartKind, Strategy, Supervise,
    SuperviseGroup, WorkerId,
};

use super::play::{Play, Seed};

/// Restarts that the root allows each of its children.
const ROOT_LIMIT: usize = 4;
const PERIOD: Duration = Duration::from_secs(60);
const SETTINGS: &str = "[restart]\nintensity = 4\nperiod = '60s'\ndelay_min = '0s'\ndelay_max = '0s'";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    New,
    Up,
    /// Stopped by its group or by a command.
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
    /// Restarts counted for it alone.
    restarts: Vec<Instant>,
    /// If it is a group.
    group: Option<Group>,
}

#[derive(Clone, Debug)]
struct Group {
    strategy: Strategy,
    counting: Counting,
    auto_shutdown: AutoShutdown,
    dynamic: bool,
    limit: usize,
    restarts: Vec<Instant>,
    children: Vec<Child>,
}

/// The second model.
struct Model {
    now: Instant,
    nodes: BTreeMap<Child, Node>,
    /// As that of `Play`.
    log: Vec<String>,
    /// `!` for a group that fails, `=` for one that ends, `x` for a child that is given up.
    ends: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reason {
    Normal,
    Fault,
}

const ROOT: Child = Child::Group(GroupId::ROOT);

fn name(child: Child) -> String {
    match child {
        Child::Worker(id) => format!("w{}", id.0),
        Child::Group(id) => format!("g{}", id.0),
    }
}

/// Whether one more restart is within the limit, and counts it.
fn may_restart(restarts: &mut Vec<Instant>, limit: usize, now: Instant) -> bool {
    restarts.retain(|&at| now - at < PERIOD);
    let has_room = restarts.len() < limit;
    if has_room {
        restarts.push(now);
    }
    has_room
}

impl Model {
    fn new(now: Instant) -> Model {
        let group = Group {
            strategy: Strategy::OneForOne,
            counting: Counting::Each,
            auto_shutdown: AutoShutdown::Never,
            dynamic: false,
            limit: 0,
            restarts: vec![],
            children: vec![],
        };
        let mut root = Node::new(GroupId::ROOT, RestartKind::Permanent, false, Some(group));
        root.state = State::Up;
        Model { now, nodes: BTreeMap::from([(ROOT, root)]), log: Vec::new(), ends: Vec::new() }
    }

    fn node(&mut self, child: Child) -> &mut Node {
        self.nodes.get_mut(&child).unwrap()
    }

    fn group(&mut self, group: Child) -> &mut Group {
        self.node(group).group.as_mut().unwrap()
    }

    fn parent(&self, child: Child) -> Child {
        Child::Group(self.nodes[&child].parent)
    }

    fn children(&self, group: Child) -> Vec<Child> {
        self.nodes[&group].group.as_ref().map_or(vec![], |group| group.children.clone())
    }

    fn add(&mut self, child: Child, node: Node) {
        let parent = Child::Group(node.parent);
        self.nodes.insert(child, node);
        self.group(parent).children.push(child);
        if self.nodes[&parent].state == State::Up {
            self.start(child);
        }
    }

    fn forget(&mut self, child: Child) {
        for below in self.children(child) {
            self.forget(below);
        }
        let parent = self.parent(child);
        self.group(parent).children.retain(|&other| other != child);
        self.nodes.remove(&child);
    }

    fn start(&mut self, child: Child) {
        self.node(child).state = State::Up;
        match child {
            Child::Worker(_) => self.log.push(format!("+{}", name(child))),
            Child::Group(_) => {
                self.group(child).restarts.clear();
                for below in self.children(child) {
                    self.node(below).restarts.clear();
                }
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

    /// Stops a child because its group stops, and all that is in it.
    fn stop(&mut self, child: Child) {
        if self.nodes[&child].state == State::Up {
            match child {
                Child::Worker(_) => self.log.push(format!("-{}", name(child))),
                Child::Group(_) => self.stop_children(child),
            }
            self.node(child).state = State::Down;
            if child != ROOT && matches!(child, Child::Group(_)) {
                self.ends.push(format!("={}", name(child)));
            }
        }
    }

    fn stop_children(&mut self, group: Child) {
        let dynamic = self.group(group).dynamic;
        for child in self.children(group).into_iter().rev() {
            self.stop(child);
            // As the children of simple_one_for_one, whose specifications are nowhere.
            if dynamic && self.nodes[&child].kind == RestartKind::Temporary {
                self.forget(child);
            }
        }
    }

    fn exit(&mut self, child: Child, reason: Reason) {
        let (parent, kind) = (self.parent(child), self.nodes[&child].kind);
        let restarts = match kind {
            RestartKind::Permanent => true,
            RestartKind::Transient => reason == Reason::Fault,
            RestartKind::Temporary => false,
        };
        if !restarts {
            self.node(child).state = State::Ended;
            if matches!(child, Child::Group(_)) {
                self.ends.push(format!("={}", name(child)));
            }
            return self.ended(parent, child);
        }
        self.node(child).state = State::Down;
        let now = self.now;
        let Group { strategy, counting, limit, .. } = *self.group(parent);
        match counting {
            Counting::Each => {
                if !may_restart(&mut self.node(child).restarts, ROOT_LIMIT, now) {
                    return self.give_up(parent, child);
                }
            }
            Counting::Together => {
                if !may_restart(&mut self.group(parent).restarts, limit, now) {
                    return self.fail(parent);
                }
            }
        }
        let children = self.children(parent);
        let index = children.iter().position(|&other| other == child).unwrap();
        let concerned = match strategy {
            Strategy::OneForOne => return self.start(child),
            Strategy::OneForAll => children,
            Strategy::RestForOne => children[index..].to_vec(),
        };
        concerned.iter().rev().for_each(|&other| self.stop(other));
        self.start_all(concerned.into_iter().filter(|other| self.nodes[other].state != State::GivenUp).collect());
    }

    /// A group has failed: its children stop and its own parent decides.
    fn fail(&mut self, group: Child) {
        self.ends.push(format!("!{}", name(group)));
        self.stop_children(group);
        self.exit(group, Reason::Fault);
    }

    fn give_up(&mut self, parent: Child, child: Child) {
        self.node(child).state = State::GivenUp;
        self.ends.push(format!("x{}", name(child)));
        if parent != ROOT && self.children(parent).iter().all(|child| self.nodes[child].state == State::GivenUp) {
            self.exit(parent, Reason::Fault);
        }
    }

    fn ended(&mut self, parent: Child, child: Child) {
        let significant = self.nodes[&child].significant;
        if self.group(parent).dynamic {
            self.forget(child);
        }
        let auto_shutdown = self.group(parent).auto_shutdown;
        let is_active = |child: &Child| self.nodes[child].significant && self.nodes[child].state == State::Up;
        let shuts_down = match auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => !self.children(parent).iter().any(is_active),
        };
        if significant && shuts_down {
            self.stop_children(parent);
            self.exit(parent, Reason::Normal);
        }
    }

    /// The command to stop a child: OTP's `terminate_child`.
    fn command_stop(&mut self, child: Child) {
        self.stop(child);
    }

    /// OTP's `restart_child`, and a new beginning for what is counted.
    fn command_start(&mut self, child: Child) {
        if self.nodes[&child].state != State::Up {
            self.node(child).restarts.clear();
            if self.nodes[&self.parent(child)].state == State::Up {
                self.start(child);
            }
        }
    }

    /// OTP's `terminate_child` and `delete_child`.
    fn command_remove(&mut self, child: Child) {
        self.stop(child);
        self.forget(child);
    }

    fn running(&self) -> Vec<WorkerId> {
        let up = |(child, node): (&Child, &Node)| match child {
            Child::Worker(id) if node.state == State::Up => Some(*id),
            _ => None,
        };
        self.nodes.iter().filter_map(up).collect()
    }
}

impl Node {
    fn new(parent: GroupId, kind: RestartKind, significant: bool, group: Option<Group>) -> Node {
        Node { parent, kind, significant, state: State::New, restarts: vec![], group }
    }
}

fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.below(from.len() as u64) as usize]
}

/// A group in which there may be more, and what its children may be.
#[derive(Clone, Copy)]
struct Room {
    group: GroupId,
    has_significant: bool,
    dynamic: bool,
}

/// Builds the same random tree in both.
fn build(random: &mut Random, play: &mut Play, model: &mut Model) {
    use RestartKind::{Permanent, Temporary, Transient};
    let mut rooms = vec![Room { group: GroupId::ROOT, has_significant: false, dynamic: false }];
    for id in 1..=1 + random.below(11) as u32 {
        let room = pick(random, &rooms);
        let kind = pick(random, &[Permanent, Permanent, Transient, Temporary]);
        let significant = room.has_significant && kind != Permanent && random.below(2) == 0;
        if random.below(3) == 0 && !room.dynamic {
            rooms.push(build_group(random, play, model, id, Node::new(room.group, kind, significant, None)));
        } else {
            model.add(Child::Worker(WorkerId(id)), Node::new(room.group, kind, significant, None));
            let worker = Supervise::new(WorkerId(id), format!("w{id}"), 2);
            play.worker_with(Supervise { group: room.group, kind, significant, ..worker });
        }
    }
}

fn build_group(random: &mut Random, play: &mut Play, model: &mut Model, id: u32, node: Node) -> Room {
    let strategy = pick(random, &[Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne]);
    let dynamic = strategy == Strategy::OneForOne && random.below(3) == 0;
    let counting = pick(random, &[Counting::Together, Counting::Together, Counting::Each]);
    let auto_shutdown =
        pick(random, &[AutoShutdown::Never, AutoShutdown::AnySignificant, AutoShutdown::AllSignificant]);
    let limit = random.below(4) as usize;
    let restart = RestartConfig { intensity: limit as u32, ..play.engine.config().restart.clone() };
    let group = Group { strategy, counting, auto_shutdown, dynamic, limit, restarts: vec![], children: vec![] };
    let Node { parent, kind, significant, .. } = node;
    model.add(Child::Group(GroupId(id)), Node { group: Some(group), ..node });
    play.group_with(SuperviseGroup {
        group: GroupId(id),
        name: format!("g{id}").into(),
        parent,
        strategy,
        counting,
        auto_shutdown,
        dynamic,
        kind,
        significant,
        restart: Some(restart.into()),
    });
    Room { group: GroupId(id), has_significant: auto_shutdown != AutoShutdown::Never, dynamic }
}

/// What the engine published of groups that failed or ended, and of children that were given up.
fn ends(play: &mut Play) -> Vec<String> {
    let ends = play.pick(|event| match event {
        Event::Escalated { group, .. } => Some(format!("!{group}")),
        Event::GroupStopped { group } => Some(format!("={group}")),
        Event::GaveUp { worker, .. } => Some(format!("x{worker}")),
        _ => None,
    });
    play.events.clear();
    play.outputs.clear();
    ends
}

/// Lets something random happen in both; false if nothing can.
fn happen(random: &mut Random, play: &mut Play, model: &mut Model) -> Option<String> {
    let time = Duration::from_millis(random.below(20_000));
    play.advance(time);
    let slot = play.now.as_nanos();
    play.beat(slot);
    model.now = play.now;
    let children: Vec<Child> = model.nodes.keys().copied().filter(|&child| child != ROOT).collect();
    let running: Vec<WorkerId> = play.running.keys().copied().collect();
    if children.is_empty() {
        return None;
    }
    let child = pick(random, &children);
    match random.below(16) {
        0 if model.nodes[&child].state == State::Up => {
            play.stop(child);
            model.command_stop(child);
        }
        1 | 2 => {
            play.start(child);
            model.command_start(child);
        }
        3 if model.nodes[&child].state == State::Up && random.below(4) == 0 => {
            play.order(|engine, now| engine.handle(now, Input::Remove(child)));
            model.command_remove(child);
        }
        _ if running.is_empty() => {}
        _ => {
            let (victim, reason) = (pick(random, &running), pick(random, &[Reason::Normal, Reason::Fault]));
            match reason {
                Reason::Normal => play.finish(victim),
                Reason::Fault => play.panic(victim),
            }
            model.exit(Child::Worker(victim), reason);
            return Some(format!("{victim:?} {reason:?}"));
        }
    }
    Some(format!("{child:?} is asked for something"))
}

#[test]
fn t1_a_second_model_gives_the_same_starts_and_stops() {
    let config = Config::from_toml(SETTINGS).unwrap();
    for seed in 0..8_000 {
        let _seed = Seed(seed);
        let mut random = Random::seeded(seed);
        let mut play = Play::with(config.clone());
        let mut model = Model::new(play.now);
        build(&mut random, &mut play, &mut model);
        assert_eq!(play.story(), std::mem::take(&mut model.log), "seed {seed}, at the start");
        play.events.clear();
        for step in 0..25 {
            let Some(what) = happen(&mut random, &mut play, &mut model) else { break };
            let at = format!("seed {seed}, step {step}: {what}");
            assert_eq!(play.story(), std::mem::take(&mut model.log), "{at}");
            assert_eq!(ends(&mut play), std::mem::take(&mut model.ends), "{at}");
            let running: Vec<WorkerId> = play.running.keys().copied().collect();
            assert_eq!(running, model.running(), "{at}");
            // Nothing waits here, so what does not run takes no message.
            assert_eq!(play.open.iter().copied().collect::<Vec<_>>(), running, "{at}");
        }
    }
}
