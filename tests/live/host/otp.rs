//! Our supervision beside the one it takes its words from: random scripts, played by Erlang/OTP's
//! `supervisor` and by the engine, start and stop the same children in the same order.
//!
//! Needs `escript` (Debian: erlang-base); without it the test is skipped and says so. Scripts keep
//! clear of the differences that `core/src/supervision/order.rs` names: no transient group fails
//! too often, and no group that may be started again has a temporary child.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use heartbeat_core::config::RestartConfig;
use heartbeat_core::{
    AutoShutdown, Child, Config, Counting, GroupId, Random, RestartKind, Strategy, Supervise, SuperviseGroup, WorkerId,
};
use heartbeat_tests::process::ChildGuard;
use tempfile::TempDir;

use super::play::Play;

/// Erlang's own program runs in as many processes at once; it mostly waits.
const PROCESSES: usize = 8;
const FLAT: u64 = 3_000;
const TREES: u64 = 2_500;
const SETTINGS: &str = "[restart]\nintensity = 1000\nperiod = '1h'\ndelay_min = '0s'\ndelay_max = '0s'";

/// A child of a script.
#[derive(Clone, Debug)]
struct Kid {
    id: u32,
    kind: RestartKind,
    significant: bool,
    /// If it is a group.
    group: Option<Family>,
}

/// A group's own settings, and its children.
#[derive(Clone, Debug)]
struct Family {
    strategy: Strategy,
    intensity: u32,
    auto_shutdown: AutoShutdown,
    kids: Vec<Kid>,
}

/// The next step.
#[derive(Clone, Copy, Debug)]
enum Step {
    Crash(u32),
    Normal(u32),
    Stop(u32, Child),
    Start(u32, Child),
}

/// A tree of children below a group that never gives up, and what is done to them.
struct Script {
    kids: Vec<Kid>,
    steps: Vec<Step>,
}

fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.below(from.len() as u64) as usize]
}

/// Makes the children of a group; `parent` is its number, and temporary ones may be among them if
/// `may_end`.
struct Maker<'a> {
    random: &'a mut Random,
    next: u32,
    /// Each child with its group's number.
    all: Vec<(u32, Child, RestartKind)>,
}

impl Maker<'_> {
    fn kid(&mut self, parent: u32, may_end: bool, auto_shutdown: AutoShutdown, depth: u32) -> Kid {
        use RestartKind::{Permanent, Temporary, Transient};
        let id = self.next;
        self.next += 1;
        let is_group = depth > 0 && self.random.below(3) == 0;
        let kinds: &[RestartKind] = match may_end {
            true => &[Permanent, Transient, Temporary],
            false => &[Permanent, Transient],
        };
        let kind = pick(self.random, kinds);
        let may_be = auto_shutdown != AutoShutdown::Never && kind != Permanent;
        let significant = may_be && self.random.below(2) == 0;
        let child = if is_group { Child::Group(GroupId(id)) } else { Child::Worker(WorkerId(id)) };
        self.all.push((parent, child, kind));
        let group = is_group.then(|| self.family(id, kind, depth - 1));
        Kid { id, kind, significant, group }
    }

    fn family(&mut self, id: u32, kind: RestartKind, depth: u32) -> Family {
        use AutoShutdown::{AllSignificant, AnySignificant, Never};
        let auto_shutdown = pick(self.random, &[Never, AnySignificant, AllSignificant]);
        let strategy = pick(self.random, &[Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne]);
        let intensity = if kind == RestartKind::Transient { 1_000 } else { self.random.below(4) as u32 };
        let count = 1 + self.random.below(4);
        let may_end = kind == RestartKind::Temporary;
        let kids = (0..count).map(|_| self.kid(id, may_end, auto_shutdown, depth)).collect();
        Family { strategy, intensity, auto_shutdown, kids }
    }

    fn step(&mut self) -> Step {
        let workers: Vec<u32> = self.all.iter().filter_map(|(_, child, _)| worker(*child)).collect();
        let (parent, child, kind) = pick(self.random, &self.all);
        match self.random.below(12) {
            0..=4 => Step::Crash(pick(self.random, &workers)),
            5 | 6 => Step::Normal(pick(self.random, &workers)),
            // OTP has forgotten a temporary one that has ended, and we start it.
            7..=9 if kind != RestartKind::Temporary => Step::Start(parent, child),
            _ => Step::Stop(parent, child),
        }
    }
}

fn worker(child: Child) -> Option<u32> {
    match child {
        Child::Worker(id) => Some(id.0),
        Child::Group(_) => None,
    }
}

fn number(child: Child) -> u32 {
    match child {
        Child::Worker(id) => id.0,
        Child::Group(id) => id.0,
    }
}

impl Script {
    /// One group with workers, or a tree.
    fn of(seed: u64, is_tree: bool) -> Script {
        let mut random = Random::seeded(seed);
        let mut maker = Maker { random: &mut random, next: 1, all: Vec::new() };
        let mut kids = Vec::new();
        if is_tree {
            let count = 1 + maker.random.below(3);
            kids.extend((0..count).map(|_| maker.kid(0, true, AutoShutdown::Never, 3)));
        }
        // A script without any worker has nothing to tell.
        if maker.all.iter().all(|(_, child, _)| worker(*child).is_none()) {
            use RestartKind::{Permanent, Temporary, Transient};
            let id = maker.next;
            maker.next += 1;
            let kind = pick(maker.random, &[Permanent, Transient, Temporary]);
            maker.all.push((0, Child::Group(GroupId(id)), kind));
            let group = Some(maker.family(id, kind, 0));
            kids.push(Kid { id, kind, significant: false, group });
        }
        let count = 2 + maker.random.below(8);
        let steps = (0..count).map(|_| maker.step()).collect();
        Script { kids, steps }
    }

    /// As Erlang reads it.
    fn text(&self, number_: u64) -> String {
        let kids: Vec<String> = self.kids.iter().map(kid_text).collect();
        let steps = self.steps.iter().map(|step| match *step {
            Step::Crash(id) => format!("{{crash,{id}}}"),
            Step::Normal(id) => format!("{{normal,{id}}}"),
            Step::Stop(parent, child) => format!("{{stop,{parent},{}}}", number(child)),
            Step::Start(parent, child) => format!("{{start,{parent},{}}}", number(child)),
        });
        let steps: Vec<String> = steps.collect();
        format!("{{{number_},[{}],[{}]}}.\n", kids.join(","), steps.join(","))
    }
}

fn kid_text(kid: &Kid) -> String {
    let kind = match kid.kind {
        RestartKind::Permanent => "permanent",
        RestartKind::Transient => "transient",
        RestartKind::Temporary => "temporary",
    };
    let (id, significant) = (kid.id, kid.significant);
    let Some(family) = &kid.group else { return format!("{{worker,{id},{kind},{significant}}}") };
    let strategy = match family.strategy {
        Strategy::OneForOne => "one_for_one",
        Strategy::OneForAll => "one_for_all",
        Strategy::RestForOne => "rest_for_one",
    };
    let auto_shutdown = match family.auto_shutdown {
        AutoShutdown::Never => "never",
        AutoShutdown::AnySignificant => "any_significant",
        AutoShutdown::AllSignificant => "all_significant",
    };
    let kids: Vec<String> = family.kids.iter().map(kid_text).collect();
    let intensity = family.intensity;
    format!("{{group,{id},{kind},{significant},{strategy},{intensity},{auto_shutdown},[{}]}}", kids.join(","))
}

// ---- our side ----------------------------------------------------------------------------------

/// The group below which a script's children are; its number here is one that no script uses.
const TOP: GroupId = GroupId(1_000);

fn take_on(play: &mut Play, parent: GroupId, kid: &Kid) {
    let (kind, significant) = (kid.kind, kid.significant);
    let Some(family) = &kid.group else {
        let worker = Supervise::new(WorkerId(kid.id), kid.id.to_string(), 2);
        play.worker_with(Supervise { group: parent, kind, significant, ..worker });
        return;
    };
    let restart = RestartConfig { intensity: family.intensity, ..play.engine.config().restart.clone() };
    let group = play.group_with(SuperviseGroup {
        group: GroupId(kid.id),
        name: kid.id.to_string().into(),
        parent,
        strategy: family.strategy,
        counting: Counting::Together,
        auto_shutdown: family.auto_shutdown,
        dynamic: false,
        kind,
        significant,
        restart: Some(restart.into()),
    });
    family.kids.iter().for_each(|kid| take_on(play, group, kid));
}

/// What our engine does, written as Erlang writes it.
fn play(script: &Script, config: &Config) -> String {
    let mut play = Play::with(config.clone());
    let top = play.group(TOP.0, GroupId::ROOT, Strategy::OneForOne);
    script.kids.iter().for_each(|kid| take_on(&mut play, top, kid));
    let mut lines = vec![line(&mut play)];
    for step in &script.steps {
        match *step {
            Step::Crash(id) if play.running.contains_key(&WorkerId(id)) => play.panic(WorkerId(id)),
            Step::Normal(id) if play.running.contains_key(&WorkerId(id)) => play.finish(WorkerId(id)),
            Step::Crash(_) | Step::Normal(_) => {}
            Step::Stop(_, child) => play.stop(child),
            Step::Start(_, child) => play.start(child),
        }
        lines.push(line(&mut play));
    }
    play.stop(Child::Group(top));
    lines.push(line(&mut play));
    lines.join("|")
}

fn line(play: &mut Play) -> String {
    play.story().iter().fold(String::new(), |mut line, told| {
        let _ = write!(line, "{told} "); // Writing into a string does not fail.
        line
    })
}

// ---- theirs ------------------------------------------------------------------------------------

/// A part of the scripts, played by Erlang.
struct Part {
    process: ChildGuard,
    folder: TempDir,
}

impl Part {
    fn start(scripts: &str) -> Part {
        let folder = TempDir::with_prefix("heartbeat-otp-").unwrap();
        let files = ["in", "out"].map(|name| folder.path().join(name));
        std::fs::write(&files[0], scripts).unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("live/host/otp.erl");
        let process = Command::new("escript").arg("-c").arg(program).args(&files).spawn().unwrap().into();
        Part { process, folder }
    }

    /// Its answers, once it has played them all.
    fn answers(mut self) -> String {
        assert!(self.process.wait().unwrap().success(), "escript failed");
        std::fs::read_to_string(self.folder.path().join("out")).unwrap()
    }
}

#[track_caller]
fn check(what: &str, is_tree: bool, count: u64) {
    let config = Config::from_toml(SETTINGS).unwrap();
    let scripts: Vec<Script> = (0..count).map(|seed| Script::of(seed, is_tree)).collect();
    let numbered: Vec<(u64, &Script)> = (0..).zip(&scripts).collect();
    let parts: Vec<Part> = numbered
        .chunks(scripts.len().div_ceil(PROCESSES))
        .map(|chunk| Part::start(&chunk.iter().map(|(number, script)| script.text(*number)).collect::<String>()))
        .collect();
    let mut compared = 0;
    for answer in parts.into_iter().map(Part::answers) {
        for line in answer.lines() {
            let (number, theirs) = line.split_once(' ').unwrap();
            let number: u64 = number.parse().unwrap();
            let script = &scripts[number as usize];
            let ours = play(script, &config);
            assert_eq!(ours.trim_end(), theirs.trim_end(), "{what} {number}, ours and theirs: {}", script.text(number));
            compared += 1;
        }
    }
    assert_eq!(compared, count);
}

#[test]
fn scripts_start_and_stop_the_same_as_the_supervisor_of_otp() {
    if Command::new("escript").arg("-h").output().is_err() {
        println!("skipped: no escript here; install Erlang (Debian: erlang-base)");
        return;
    }
    check("flat", false, FLAT);
    check("tree", true, TREES);
}
