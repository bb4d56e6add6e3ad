//! The demonstration: it starts a cluster, breaks it in several ways, and watches it recover.
//!
//! Every figure is measured from outside: from the instant of a signal to the time in a process's
//! line. All processes of the machine share that clock.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use heartbeat_actors::Config;
use heartbeat_examples::process::{self, Listen, unix_seconds};
use heartbeat_examples::report::{Closing, Report, Row, Verdict};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::node::SHARDS;
use crate::processes::Processes;
use crate::{CONFIG, Failure, Mode, control};

/// The nodes of a cluster with a monitor, and of one without; the first seven names.
const NODES: [&str; 7] = ["node-1", "node-2", "node-3", "node-4", "node-5", "node-6", "node-7"];

/// The one that comes late to a cluster without a monitor.
const LATE: &str = "node-8";

/// How long the frozen node is frozen: past the timeout, so that it is concluded dead, and long
/// enough to see others do its work.
const FREEZE: Duration = Duration::from_millis(3_000);

/// How long the encoder blocks its thread.
const BLOCK: &str = "2500ms";

/// What comes this much after its bound is late, as on a busy machine; what comes later still is
/// broken.
const LATE_BY: Duration = Duration::from_secs(3);

const CLOSING: Closing = Closing {
    well: "All failures were noticed and made good in time, and nothing healthy was touched.",
    late: "All failures were noticed and made good, and nothing healthy was touched. What is marked late took longer than it may: run it again while this machine does less.",
    broken: "Not all is well: see the lines marked BROKEN.",
};

struct Demo {
    mode: Mode,
    /// Who is left in peace, and tells what all see.
    reporter: &'static str,
    processes: Processes,
    report: Report,
    config: Config,
    interrupted: Arc<AtomicBool>,
    /// All that was said so far.
    lines: Vec<Value>,
    rows: Vec<Row>,
    /// Who was killed or frozen.
    harmed: Vec<String>,
}

/// Runs the demonstration.
pub(crate) fn run(mode: Mode, json: bool) -> Result<(), Failure> {
    let mut demo = Demo::new(mode, json)?;
    demo.report.promise(&demo.config);
    let result = match mode {
        Mode::Central => demo.play(),
        Mode::Random => demo.play_without_centre(),
    };
    // No process is left behind, also after a failure.
    demo.processes.end();
    result?;
    let rows = std::mem::take(&mut demo.rows);
    if demo.report.table(&rows, &CLOSING) { Ok(()) } else { Err("the demonstration showed a fault".into()) }
}

/// Starts a cluster and keeps it running until it is interrupted.
pub(crate) fn up(mode: Mode, nodes: u16, record: Option<PathBuf>, json: bool) -> Result<(), Failure> {
    let mut demo = Demo::new(mode, json)?;
    demo.processes.record = record;
    demo.report.promise(&demo.config);
    if mode == Mode::Central {
        demo.processes.start("monitor", "monitor")?;
    }
    for number in 1..=nodes {
        demo.processes.start(&format!("node-{number}"), "worker")?;
    }
    demo.report.step("all run; in another terminal try `cluster -- status node-1`, `kill node-2`, `pause node-3 4s`; Ctrl-C ends all");
    while !demo.interrupted.load(Ordering::Relaxed) {
        demo.listen(Duration::from_millis(50));
    }
    demo.report.step("ends");
    demo.processes.end();
    Ok(())
}

impl Listen for Demo {
    const PATIENCE: Duration = Duration::from_secs(10);

    fn listen(&mut self, patience: Duration) {
        let Some(line) = self.processes.next_line(patience) else {
            self.report.flush();
            return;
        };
        self.report.event(&line);
        self.lines.push(line);
    }

    fn lines(&self) -> &[Value] {
        &self.lines
    }

    fn interrupted(&self) -> &AtomicBool {
        &self.interrupted
    }
}

impl Demo {
    fn new(mode: Mode, json: bool) -> Result<Demo, Failure> {
        let interrupted = process::watch_interrupts()?;
        let reporter = if mode == Mode::Central { "monitor" } else { NODES[0] };
        Ok(Demo {
            mode,
            reporter,
            processes: Processes::new(mode)?,
            report: Report::new(json, reporter),
            config: Config::from_toml(CONFIG)?,
            interrupted,
            lines: Vec::new(),
            rows: Vec::new(),
            harmed: Vec::new(),
        })
    }

    fn play(&mut self) -> Result<(), Failure> {
        self.start_all()?;
        self.kill("node-3")?;
        self.panic("node-1")?;
        self.block("node-4")?;
        self.freeze("node-2")?;
        self.restart("node-3")?;
        self.compare_views()?;
        self.leave("node-4")?;
        self.look_for_harm();
        Ok(())
    }

    fn play_without_centre(&mut self) -> Result<(), Failure> {
        self.start_all()?;
        self.kill("node-7")?;
        self.freeze("node-2")?;
        self.deafen("node-4", "node-5")?;
        self.leave("node-6")?;
        self.restart(LATE)?;
        self.compare_views()?;
        self.look_for_harm();
        Ok(())
    }

    /// The nodes that are started at first.
    fn nodes(&self) -> &'static [&'static str] {
        if self.mode == Mode::Central { &NODES[..4] } else { &NODES }
    }

    // ---- the acts ------------------------------------------------------------------------------

    fn start_all(&mut self) -> Result<(), Failure> {
        let (nodes, reporter) = (self.nodes(), self.reporter);
        self.report.step(match self.mode {
            Mode::Central => "starts a monitor and four nodes, each a process of its own",
            Mode::Random => "starts seven nodes that watch each other, each a process of its own",
        });
        let start = unix_seconds();
        if self.mode == Mode::Central {
            self.processes.start("monitor", "monitor")?;
        }
        for name in nodes {
            self.processes.start(name, "worker")?;
        }
        let from = 0;
        let joined = |line: &Value| line["event"] == "joined" && line["process"] == reporter;
        let others = nodes.iter().filter(|name| **name != reporter).count();
        self.wait("all nodes join", from, joined, others)?;
        let settled = self.wait_for_owners(from, &[])?;
        self.timed("cluster complete, every shard running", settled - start, None);
        self.quiet(Duration::from_millis(1_500))
    }

    fn kill(&mut self, victim: &str) -> Result<(), Failure> {
        self.report.step(&format!("kills {victim} with SIGKILL"));
        let from = self.lines.len();
        let owned = self.owned_by(victim);
        let at = unix_seconds();
        self.processes.signal(victim, Signal::SIGKILL)?;
        self.processes.reap(victim)?;
        self.expect_death(victim, "killed", from, at, owned)
    }

    fn freeze(&mut self, victim: &str) -> Result<(), Failure> {
        self.report.step(&format!("freezes {victim} with SIGSTOP for {} s", FREEZE.as_secs_f64()));
        let from = self.lines.len();
        let owned = self.owned_by(victim);
        let at = unix_seconds();
        self.processes.signal(victim, Signal::SIGSTOP)?;
        self.expect_death(victim, "frozen", from, at, owned)?;
        self.quiet(FREEZE.saturating_sub(Duration::from_secs_f64(unix_seconds() - at)))?;
        self.report.step(&format!("lets {victim} go on"));
        let from = self.lines.len();
        let at = unix_seconds();
        self.processes.signal(victim, Signal::SIGCONT)?;
        let returned = self.about("returned", victim, from)?;
        let bound = self.config.interval * 4 + self.config.stall;
        self.timed("frozen node back as a member", returned - at, Some(bound));
        let back = self.wait_for_count("its shards return to it", from, victim, owned)?;
        let bound = self.config.interval * 5 + self.config.stall;
        self.timed("its shards running on it again", back - at, Some(bound));
        self.quiet(Duration::from_millis(1_000))
    }

    fn panic(&mut self, node: &str) -> Result<(), Failure> {
        self.report.step(&format!("makes the worker \"counter\" on {node} panic"));
        let after = self.replaced(node, "counter", "panic")?;
        // At once means within one turn of its own thread: no bound in the config, so the one a
        // person would notice.
        let bound = self.config.stall;
        self.timed("panicked worker replaced", after, Some(bound));
        self.quiet(Duration::from_millis(500))
    }

    fn block(&mut self, node: &str) -> Result<(), Failure> {
        self.report.step(&format!("makes the worker \"encoder\" on {node} block its thread for {BLOCK}"));
        let from = self.lines.len();
        let after = self.replaced(node, "encoder", &format!("block {BLOCK}"))?;
        let workers = &self.config.workers;
        let bound = workers.timeout + workers.interval + Duration::from_millis(10);
        self.timed("blocked worker replaced on a fresh thread", after, Some(bound));
        // It ends if the encoder was alone on it; else its neighbours have waited for it and go on.
        let back = |line: &Value| line["event"] == "zombie_ended" || line["event"] == "thread_returned";
        self.wait("the blocked thread comes back", from, |line| back(line) && line["process"] == node, 1)?;
        self.quiet(Duration::from_millis(500))
    }

    fn restart(&mut self, name: &str) -> Result<(), Failure> {
        self.report.step(&if name == LATE { format!("starts {name}") } else { format!("starts {name} anew") });
        let from = self.lines.len();
        let at = unix_seconds();
        self.processes.start(name, "worker")?;
        let reporter = self.reporter;
        let joined = self.wait_at(&format!("{name} joins"), from, |line| {
            line["event"] == "joined" && line["process"] == reporter && line["member"]["name"] == name
        })?;
        let what = if name == LATE { "late node joined" } else { "new process under the old name joined" };
        self.timed(what, joined - at, None);
        self.wait_for_owners(from, &[name])?;
        self.quiet(Duration::from_millis(1_000))
    }

    /// A link that fails in one direction: one node hears nothing more of another, which several
    /// others hear well.
    fn deafen(&mut self, deaf: &str, unheard: &str) -> Result<(), Failure> {
        let seconds = self.config.timeout * 3;
        self.report.step(&format!("lets {deaf} hear nothing of {unheard} for {} s", seconds.as_secs_f64()));
        let from = self.lines.len();
        let status = control::ask(self.processes.find(unheard)?.control, "status")?;
        let address = status["address"].as_str().unwrap_or_default().to_owned();
        control::ask(self.processes.find(deaf)?.control, &format!("deafen {address}"))?;
        self.quiet(seconds)?;
        control::ask(self.processes.find(deaf)?.control, "hear")?;
        let died = self.lines[from..].iter().filter(|line| line["event"] == "died").count();
        self.fact(&format!("deaths for a link that fails one way: {died}"), died == 0);
        self.quiet(Duration::from_millis(500))
    }

    fn leave(&mut self, name: &str) -> Result<(), Failure> {
        self.report.step(&format!("asks {name} to leave"));
        let from = self.lines.len();
        let owned = self.owned_by(name);
        let at = unix_seconds();
        control::ask(self.processes.find(name)?.control, "leave")?;
        let left = self.about("left", name, from)?;
        let bound = self.config.workers.timeout;
        self.timed("node left in good order", left - at, Some(bound));
        let running = self.wait_for_moved(from, name, owned)?;
        let bound = bound + self.config.interval;
        self.timed("its shards running elsewhere", running - at, Some(bound));
        self.processes.reap(name)
    }

    // ---- what is expected ----------------------------------------------------------------------

    /// The monitor suspects, then concludes; then all `owned` shards run on other nodes.
    fn expect_death(&mut self, victim: &str, how: &str, from: usize, at: f64, owned: usize) -> Result<(), Failure> {
        self.harmed.push(victim.to_owned());
        let sums = self.config.check()?;
        // Where several watch, most of them have to have missed it, and are asked.
        let slack = self.config.stall + if self.mode == Mode::Random { self.config.interval } else { Duration::ZERO };
        // One whose process ends is not waited for: its connections are closed.
        if how == "frozen" {
            let suspected = self.about("suspected", victim, from)? - at;
            let bound = sums.suspicion + slack;
            self.timed(&format!("{how} node suspected"), suspected, Some(bound));
        }
        let died = self.about("died", victim, from)? - at;
        let bound = if how == "frozen" { sums.death + slack } else { self.config.stall };
        self.timed(&format!("{how} node concluded dead"), died, Some(bound));
        let others = self.processes.names().iter().filter(|name| *name != victim).count();
        let says = |line: &Value| line["event"] == "died" && line["node"] == victim;
        let known = self.wait(&format!("all know that {victim} is dead"), from, says, others)? - at;
        self.timed(&format!("  and all {others} others know"), known, Some(bound + slack));
        let running = self.wait_for_moved(from, victim, owned)? - at;
        let bound = sums.death + self.config.interval + slack;
        let what = format!("its {owned} shards running elsewhere");
        self.timed(&what, running, Some(bound));
        self.quiet(Duration::from_millis(500))
    }

    /// Sends `request` to a node and waits until it has replaced the worker. Returns how long that
    /// took by the node's own account.
    fn replaced(&mut self, node: &str, worker: &str, request: &str) -> Result<f64, Failure> {
        let from = self.lines.len();
        control::ask(self.processes.find(node)?.control, request)?;
        let matches = |line: &Value| line["event"] == "replaced" && line["process"] == node && line["worker"] == worker;
        self.wait_at(&format!("{worker} on {node} is replaced"), from, matches)?;
        let line = self.lines[from..].iter().find(|line| matches(line));
        Ok(line.and_then(|line| line["after"].as_f64()).unwrap_or(f64::INFINITY))
    }

    /// Asks every node for its view: all must be the same, at last when what is under way has come
    /// to its end.
    fn compare_views(&mut self) -> Result<(), Failure> {
        self.report.step("asks every process who is a member and who owns what");
        let end = Instant::now() + LATE_BY;
        let mut views = self.views()?;
        while views.len() > 1 && Instant::now() < end {
            self.quiet(self.config.interval)?;
            views = self.views()?;
        }
        if views.len() > 1 {
            self.report.step(&format!("views differ: {views:?}"));
        }
        self.fact("all processes hold the same view", views.len() == 1);
        Ok(())
    }

    /// The views of all processes, and who holds which.
    fn views(&self) -> Result<BTreeMap<String, Vec<String>>, Failure> {
        let mut views = BTreeMap::new();
        for name in self.processes.names() {
            let status = control::ask(self.processes.find(&name)?.control, "status")?;
            let rows = |key: &str| status[key].as_array().map_or(&[][..], Vec::as_slice).iter();
            let members: Vec<String> = rows("members")
                .filter(|member| member["status"] == "alive" || member["status"] == "suspect")
                .map(|member| format!("{} {} {}", member["name"], member["status"], member["generation"]))
                .collect();
            let owners: Vec<String> =
                rows("shards").map(|shard| format!("{} {}", shard["shard"], shard["owner"])).collect();
            views.entry(format!("{members:?} {owners:?}")).or_insert_with(Vec::new).push(name);
        }
        Ok(views)
    }

    /// Looks through all that was said for what should not have been.
    fn look_for_harm(&mut self) {
        let harmed = |name: &str| self.harmed.iter().any(|harmed| harmed == name);
        let (mut false_deaths, mut false_replacements, mut false_suspicions) = (0, 0, 0);
        for line in &self.lines {
            let text = |key: &str| line[key].as_str().unwrap_or_default();
            match text("event") {
                "died" if !harmed(text("node")) => false_deaths += 1,
                "suspected" if line["process"] == self.reporter && !harmed(text("node")) => false_suspicions += 1,
                "failed" => {
                    let expected =
                        matches!((text("process"), text("worker")), ("node-1", "counter") | ("node-4", "encoder"));
                    false_replacements += u32::from(!expected);
                }
                _ => {}
            }
        }
        self.fact(&format!("healthy nodes concluded dead: {false_deaths}"), false_deaths == 0);
        self.fact(&format!("healthy workers replaced: {false_replacements}"), false_replacements == 0);
        self.fact(&format!("healthy nodes suspected for a while (allowed): {false_suspicions}"), true);
    }

    /// Seconds that something took, and how long it may take.
    fn timed(&mut self, what: &str, measured: f64, bound: Option<Duration>) {
        let bound = bound.map(|bound| bound.as_secs_f64());
        let verdict = match bound {
            Some(bound) if measured > bound + LATE_BY.as_secs_f64() => Verdict::Broken,
            Some(bound) if measured > bound => Verdict::Late,
            _ => Verdict::Ok,
        };
        self.rows.push(Row { what: what.to_owned(), measured: Some(measured), bound, verdict });
    }

    fn fact(&mut self, what: &str, holds: bool) {
        let verdict = if holds { Verdict::Ok } else { Verdict::Broken };
        self.rows.push(Row { what: what.to_owned(), measured: None, bound: None, verdict });
    }

    // ---- listening -----------------------------------------------------------------------------

    fn wait_at(&mut self, what: &str, from: usize, matches: impl Fn(&Value) -> bool) -> Result<f64, Failure> {
        self.wait(what, from, matches, 1)
    }

    /// Waits for what the reporter says about a node.
    fn about(&mut self, event: &str, name: &str, from: usize) -> Result<f64, Failure> {
        let reporter = self.reporter;
        let matches = |line: &Value| line["event"] == event && line["process"] == reporter && line["node"] == name;
        self.wait(&format!("{reporter} says that {name} {event}"), from, matches, 1)
    }

    /// Waits until `count` shards have started on this node.
    fn wait_for_count(&mut self, what: &str, from: usize, name: &str, count: usize) -> Result<f64, Failure> {
        self.wait(what, from, |line| is_shard_start(line) && line["process"] == name, count)
    }

    /// Waits until `count` shards have started on other nodes than this one.
    fn wait_for_moved(&mut self, from: usize, name: &str, count: usize) -> Result<f64, Failure> {
        self.wait(
            &format!("the shards of {name} run elsewhere"),
            from,
            |line| is_shard_start(line) && line["process"] != name,
            count,
        )
    }

    /// Waits until every shard's latest start is on the node that the reporter says owns it, and
    /// each of `names` owns one.
    fn wait_for_owners(&mut self, from: usize, names: &[&str]) -> Result<f64, Failure> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let reporter = self.reporter;
        self.wait_until("every shard runs on its owner", |lines| {
            let (mut owners, mut runs) = (BTreeMap::new(), BTreeMap::new());
            for line in lines {
                let index = line["shard"]["index"].as_u64();
                if line["event"] == "shard_moved" && line["process"] == reporter {
                    owners.insert(index, line["to"].as_str().unwrap_or_default().to_owned());
                } else if is_shard_start(line) {
                    runs.insert(index, line["process"].as_str().unwrap_or_default().to_owned());
                }
            }
            let complete = owners.len() == SHARDS as usize
                && owners.iter().all(|(index, owner)| runs.get(index) == Some(owner))
                && names.iter().all(|name| owners.values().any(|owner| owner == name));
            let starts = lines[from..].iter().filter(|line| is_shard_start(line));
            let last = starts.filter_map(|line| line["at"].as_f64()).fold(0.0, f64::max);
            complete.then_some(last)
        })
    }

    /// How many shards this node owns, as the reporter sees it.
    fn owned_by(&self, name: &str) -> usize {
        let mut owners = BTreeMap::new();
        for line in self.lines.iter().filter(|line| line["event"] == "shard_moved" && line["process"] == self.reporter)
        {
            owners.insert(line["shard"]["index"].as_u64(), line["to"].as_str().unwrap_or_default());
        }
        owners.values().filter(|owner| **owner == name).count()
    }
}

/// Whether a line says that a shard runs now.
fn is_shard_start(line: &Value) -> bool {
    line["event"] == "started" && line["shard"].is_object()
}
