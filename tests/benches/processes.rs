//! A cluster without a monitor in real processes with the defaults, ours and those of other
//! libraries in turn. It measures what each costs, how soon all know of a death, and what a pause
//! does.
//!
//! ```text
//! # Ours, 50 nodes, two minutes:
//! cargo bench -p heartbeat-tests --bench processes
//! # Ours, foca, memberlist and chitchat, a quarter of an hour:
//! cargo bench -p heartbeat-tests --features peers --bench processes
//! cargo bench -p heartbeat-tests --features peers --bench processes -- --nodes 10 --only foca
//! # Beside eight busy loops, twenty times:
//! cargo bench -p heartbeat-tests --bench processes -- --nodes 10 --busy 20
//! ```
//!
//! Each node is a process, with one thread where the library allows it (foca, memberlist,
//! chitchat); ours has the threads of its default config. foca runs with `new_lan`, memberlist with
//! `lan()`, chitchat with a gossip interval of a second. Bytes are those of the loopback device,
//! with headers, so run it where nothing else uses loopback. Times are those of this machine's
//! clock, from just before the signal to the line in which the last survivor says what it heard. A
//! process that is killed has its connections closed by its system; one that is stopped (SIGSTOP)
//! hangs, as far as others can tell.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use heartbeat_tests::process::ChildGuard;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

#[cfg(feature = "peers")]
#[path = "peers/foca_engine.rs"]
mod foca_engine;
#[cfg(feature = "peers")]
#[path = "processes/others.rs"]
mod others;

/// The libraries, and how long each is let run before it is harmed: chitchat's windows have to
/// fill.
const LIBRARIES: [(&str, u64); 4] = [("ours", 12), ("foca", 12), ("memberlist", 12), ("chitchat", 45)];

/// How long the survivors have to report a death.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a node said, and when we read it.
struct Said {
    node: usize,
    at: Instant,
    line: Value,
}

struct Cluster {
    children: BTreeMap<usize, ChildGuard>,
    _folder: TempDir,
    lines: mpsc::Receiver<Said>,
    said: Vec<Said>,
}

impl Cluster {
    fn start(library: &str, nodes: usize) -> Cluster {
        let folder = TempDir::with_prefix("heartbeat-processes-").unwrap();
        // Below the ports for outgoing connections, or a lifeline may take the port of a node that
        // starts later.
        let first = 10_000 + (std::process::id() % 15_000) as u16;
        let is_free = |port: &u16| {
            let address = (Ipv4Addr::LOCALHOST, *port);
            UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
        };
        let ports: Vec<u16> = (first..32_000).filter(is_free).take(nodes).collect();
        let (sender, lines) = mpsc::channel();
        let mut children = BTreeMap::new();
        for node in 0..nodes {
            let mut command = if library == "ours" {
                our_node(folder.path(), node, &ports)
            } else {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args(["--as", library, &node.to_string()]).args(ports.iter().map(u16::to_string));
                command
            };
            let mut child = ChildGuard::from(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
            let (sender, stdout) = (sender.clone(), child.stdout.take().unwrap());
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if let Ok(line) = serde_json::from_str(&line)
                        && sender.send(Said { node, at: Instant::now(), line }).is_err()
                    {
                        return;
                    }
                }
            });
            children.insert(node, child);
            if node == 0 {
                // The seed first: not all libraries ask again for long.
                std::thread::sleep(Duration::from_millis(300));
            }
        }
        Cluster { children, _folder: folder, lines, said: Vec::new() }
    }

    fn listen(&mut self, patience: Duration) {
        let end = Instant::now() + patience;
        while let Ok(said) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.said.push(said);
        }
    }

    fn pid(&self, node: usize) -> Pid {
        Pid::from_raw(self.children[&node].id() as i32)
    }

    /// Waits until every node has reported every other one.
    fn meet(&mut self) {
        let (begun, nodes) = (Instant::now(), self.children.len());
        let mut known = BTreeSet::new();
        let mut looked_at = 0;
        while known.len() < nodes * (nodes - 1) {
            assert!(
                begun.elapsed() < PATIENCE,
                "{} of {} have met after {PATIENCE:?}",
                known.len(),
                nodes * (nodes - 1)
            );
            self.listen(Duration::from_millis(50));
            let met = |said: &&Said| said.line["event"] == "joined" || said.line["event"] == "knew";
            for said in self.said[looked_at..].iter().filter(met) {
                // Our events hold the whole member, others' its name.
                let name = said.line["member"]["name"].as_str().or(said.line["node"].as_str()).unwrap_or_default();
                if name != format!("node-{}", said.node) {
                    known.insert((said.node, name.to_owned()));
                }
            }
            looked_at = self.said.len();
        }
        println!("  {nodes} nodes know each other after {:.1} s", begun.elapsed().as_secs_f64());
    }

    /// Waits until all `others` have said this of `node`. Returns the seconds until the first and
    /// the last did, and how many had not in the end.
    fn spread(&mut self, since: Instant, from: usize, others: &[usize], event: &str, node: usize) -> (f64, f64, usize) {
        let name = format!("node-{node}");
        let end = since + PATIENCE;
        loop {
            let mut times: BTreeMap<usize, f64> = BTreeMap::new();
            for said in &self.said[from..] {
                let is_so = said.line["event"] == event || event == "suspected" && said.line["event"] == "died";
                if is_so && said.line["node"] == name && others.contains(&said.node) {
                    times.entry(said.node).or_insert_with(|| said.at.duration_since(since).as_secs_f64());
                }
            }
            if times.len() == others.len() || Instant::now() >= end {
                let first = times.values().copied().fold(f64::INFINITY, f64::min);
                return (first, times.values().copied().fold(0.0, f64::max), others.len() - times.len());
            }
            self.listen(Duration::from_millis(20));
        }
    }
}

fn our_node(folder: &std::path::Path, node: usize, ports: &[u16]) -> Command {
    let (listen, seed) = (ports[node], ports[0]);
    let config = format!(
        "[cluster]\nname = 'bench'\nnode = 'node-{node}'\nrole = 'worker'\nmode = 'random'\nlisten = '127.0.0.1:{listen}'\n\
         seeds = ['127.0.0.1:{seed}']\n"
    );
    let path = folder.join(format!("{node}.toml"));
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
    command.arg(path).arg("idle");
    command
}

/// Bytes that the loopback device has carried.
fn loopback_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
}

/// CPU seconds that a process has used, by the scheduler's account, and its resident bytes.
fn usage(pid: Pid) -> (f64, f64) {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanos = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident: Option<f64> =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    (nanos.sum::<f64>() / 1e9, resident.unwrap_or(f64::NAN) * 1_024.0)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn steady(cluster: &mut Cluster) {
    const WINDOW: Duration = Duration::from_secs(20);
    let pids: Vec<Pid> = cluster.children.keys().map(|&node| cluster.pid(node)).collect();
    let before: Vec<f64> = pids.iter().map(|&pid| usage(pid).0).collect();
    let bytes = loopback_bytes();
    cluster.listen(WINDOW);
    let bytes = (loopback_bytes() - bytes) / pids.len() as f64 / WINDOW.as_secs_f64();
    let mut cpu: Vec<f64> =
        pids.iter().zip(&before).map(|(&pid, before)| (usage(pid).0 - before) / WINDOW.as_secs_f64() * 100.0).collect();
    let mut resident: Vec<f64> = pids.iter().map(|&pid| usage(pid).1 / 1_048_576.0).collect();
    println!(
        "  steady: {bytes:.0} bytes a second and node; {:.3} % of a core, {:.1} MiB resident (medians)",
        median(&mut cpu),
        median(&mut resident)
    );
}

fn ends(cluster: &mut Cluster, signal: Signal, victims: &[usize], tells_suspicions: bool) {
    for &victim in victims {
        let others: Vec<usize> = cluster.children.keys().copied().filter(|node| *node != victim).collect();
        let (from, since) = (cluster.said.len(), Instant::now());
        kill(cluster.pid(victim), signal).unwrap();
        let (_, suspect_all, _) = cluster.spread(since, from, &others, "suspected", victim);
        let (dead_first, dead_all, missing) = cluster.spread(since, from, &others, "died", victim);
        let suspect = if tells_suspicions { format!("all suspect {suspect_all:.3} s, ") } else { String::new() };
        let missing =
            if missing > 0 { format!(", {missing} without the news within {PATIENCE:?}") } else { String::new() };
        println!("  {signal}: {suspect}first dead {dead_first:.3} s, all dead {dead_all:.3} s{missing}");
        cluster.children.remove(&victim);
        cluster.listen(Duration::from_secs(2));
    }
}

fn pause(cluster: &mut Cluster, victim: usize, length: Duration) {
    let from = cluster.said.len();
    kill(cluster.pid(victim), Signal::SIGSTOP).unwrap();
    cluster.listen(length);
    kill(cluster.pid(victim), Signal::SIGCONT).unwrap();
    cluster.listen(Duration::from_secs(10));
    let said = |event: &'static str, by_victim: bool| {
        let said = cluster.said[from..].iter().filter(move |said| said.line["event"] == event);
        said.filter(move |said| (said.node == victim) == by_victim).map(|said| said.line["node"].to_string())
    };
    let blamed: BTreeSet<String> = said("suspected", true).chain(said("died", true)).collect();
    println!(
        "  a pause of {length:?}: {} others declared a node dead; the woken node declared {} others dead",
        said("died", false).count(),
        blamed.len()
    );
}

/// Eight loops keep all cores busy; one node is stopped for 5 s among them.
fn busy(cluster: &mut Cluster, victim: usize) {
    let over = AtomicBool::new(false);
    let from = cluster.said.len();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        cluster.listen(Duration::from_secs(3));
        kill(cluster.pid(victim), Signal::SIGSTOP).unwrap();
        cluster.listen(Duration::from_secs(5));
        kill(cluster.pid(victim), Signal::SIGCONT).unwrap();
        cluster.listen(Duration::from_secs(7));
        over.store(true, Ordering::Relaxed);
    });
    let said = &cluster.said[from..];
    let died = said.iter().filter(|said| said.line["event"] == "died").count();
    let suspected: BTreeSet<String> = said
        .iter()
        .filter(|said| said.line["event"] == "suspected")
        .map(|said| said.line["node"].to_string())
        .collect();
    println!("  8 busy loops, a pause of 5 s: {died} deaths were declared; suspected: {suspected:?}");
}

fn play(library: &str, warm: Duration, nodes: usize, is_quick: bool, busy_runs: usize) {
    println!("{library}, N = {nodes}");
    let mut cluster = Cluster::start(library, nodes);
    cluster.meet();
    let tells_suspicions = matches!(library, "ours" | "foca");
    if is_quick {
        cluster.listen(Duration::from_secs(2));
        return ends(&mut cluster, Signal::SIGKILL, &[nodes - 1], tells_suspicions);
    }
    cluster.listen(warm);
    if busy_runs > 0 {
        return (0..busy_runs).for_each(|run| busy(&mut cluster, run % nodes));
    }
    steady(&mut cluster);
    pause(&mut cluster, 1, Duration::from_secs(5));
    ends(&mut cluster, Signal::SIGKILL, &[nodes - 1, nodes - 2, nodes - 3, nodes / 2], tells_suspicions);
    ends(&mut cluster, Signal::SIGSTOP, &[2, 3, nodes / 3 + 1], tells_suspicions);
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    #[cfg(feature = "peers")]
    if let [as_word, library, index, ports @ ..] = &words[..]
        && as_word == "--as"
    {
        let ports = ports.iter().map(|port| port.parse().unwrap()).collect();
        return others::run(library, others::Place { index: index.parse().unwrap(), ports });
    }
    let is_quick = words.iter().any(|word| word == "--test");
    let value = |name: &str| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
    let nodes = match value("--nodes").map(|nodes| nodes.parse()) {
        None if is_quick => 5,
        None => 50,
        Some(Ok(nodes)) if (8..=200).contains(&nodes) => nodes,
        Some(_) => panic!("--nodes takes a number from 8 to 200"),
    };
    let busy_runs = value("--busy").map_or(0, |runs| runs.parse().expect("--busy takes the number of runs"));
    let only = value("--only");
    if let Some(only) = only.filter(|only| !LIBRARIES.iter().any(|(library, _)| library == only)) {
        panic!("no library is called {only:?}; there are {:?}", LIBRARIES.map(|(library, _)| library));
    }
    let is_wanted =
        |library: &str| only.is_none_or(|only| only == library) && (library == "ours" || cfg!(feature = "peers"));
    for (library, warm) in LIBRARIES.into_iter().filter(|(library, _)| is_wanted(library)) {
        play(library, Duration::from_secs(warm), nodes, is_quick, busy_runs);
    }
}
