//! A cluster without a centre in real processes, with the defaults: what each costs, and how soon all know of a death.
//!
//! ```text
//! cargo bench -p heartbeat-tests --bench processes                 # 50 nodes, about two minutes
//! cargo bench -p heartbeat-tests --bench processes -- --nodes 10
//! ```
//!
//! Bytes are those that the nodes' own counters and sizes give no better than the system's: the loopback device's counter, so run it where nothing else uses loopback. Times are
//! those of this machine's clock, from just before the signal to the line in which the last survivor says what it heard.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says where")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// What a node said, and when we read it.
struct Said {
    node: usize,
    at: Instant,
    line: Value,
}

struct Cluster {
    folder: PathBuf,
    children: BTreeMap<usize, Child>,
    lines: mpsc::Receiver<Said>,
    said: Vec<Said>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            let _ = child.kill(); // It may have ended already.
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder); // Left-over configs harm nobody.
    }
}

impl Cluster {
    fn start(nodes: usize) -> Cluster {
        let folder = std::env::temp_dir().join(format!("heartbeat-processes-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let seed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (sender, lines) = mpsc::channel();
        let mut children = BTreeMap::new();
        for node in 0..nodes {
            let listen = if node == 0 { seed } else { "127.0.0.1:0".parse().unwrap() };
            let config = format!(
                "[cluster]\nname = 'bench'\nnode = 'node-{node}'\nrole = 'worker'\nmode = 'random'\nlisten = '{listen}'\nseeds = ['{seed}']\n"
            );
            let path = folder.join(format!("{node}.toml"));
            std::fs::write(&path, config).unwrap();
            let mut child = Command::new(env!("CARGO_BIN_EXE_node"))
                .arg(&path)
                .arg("idle")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
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
        }
        Cluster { folder, children, lines, said: Vec::new() }
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

    /// Waits until all `others` have said this of `node`. Returns the seconds until the first and the last did.
    fn spread(&mut self, since: Instant, from: usize, others: &[usize], event: &str, node: usize) -> (f64, f64) {
        let name = format!("node-{node}");
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let mut times: BTreeMap<usize, f64> = BTreeMap::new();
            for said in &self.said[from..] {
                let is_so = said.line["event"] == event || event == "suspected" && said.line["event"] == "died";
                if is_so && said.line["node"] == name && others.contains(&said.node) {
                    times.entry(said.node).or_insert_with(|| said.at.duration_since(since).as_secs_f64());
                }
            }
            if times.len() == others.len() {
                let first = times.values().copied().fold(f64::MAX, f64::min);
                return (first, times.values().copied().fold(0.0, f64::max));
            }
            assert!(Instant::now() < end, "{} of {} said {event} of {name}", times.len(), others.len());
            self.listen(Duration::from_millis(20));
        }
    }
}

/// Bytes that the loopback device has carried.
fn loopback_bytes() -> f64 {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("lo:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
}

/// CPU seconds that a process has used, and its resident bytes.
fn usage(pid: Pid) -> (f64, f64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<f64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|word| word.parse().unwrap_or(0.0))
        .collect();
    // Fields 14 and 15 of proc(5), in hundredths of a second; the first two stand before the bracket.
    let ticks = fields.get(11).unwrap_or(&f64::NAN) + fields.get(12).unwrap_or(&f64::NAN);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    (ticks / 100.0, resident.unwrap_or(f64::NAN) * 1_024.0)
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
        "steady: {bytes:.0} bytes a second and node; {:.2} % of a core, {:.1} MiB resident (medians)",
        median(&mut cpu),
        median(&mut resident)
    );
}

fn ends(cluster: &mut Cluster, signal: Signal, victims: &[usize]) {
    for &victim in victims {
        let others: Vec<usize> = cluster.children.keys().copied().filter(|node| *node != victim).collect();
        let (from, since) = (cluster.said.len(), Instant::now());
        kill(cluster.pid(victim), signal).unwrap();
        let (suspect_first, suspect_all) = cluster.spread(since, from, &others, "suspected", victim);
        let (dead_first, dead_all) = cluster.spread(since, from, &others, "died", victim);
        println!("{signal}: suspect {suspect_first:.3} to {suspect_all:.3} s, dead {dead_first:.3} to {dead_all:.3} s");
        if let Some(mut child) = cluster.children.remove(&victim) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        cluster.listen(Duration::from_secs(2));
    }
}

fn pause(cluster: &mut Cluster, victim: usize, length: Duration) {
    let from = cluster.said.len();
    kill(cluster.pid(victim), Signal::SIGSTOP).unwrap();
    cluster.listen(length);
    kill(cluster.pid(victim), Signal::SIGCONT).unwrap();
    cluster.listen(Duration::from_secs(8));
    let died = cluster.said[from..].iter().filter(|said| said.line["event"] == "died").count();
    let blamed =
        cluster.said[from..].iter().filter(|said| said.node == victim && said.line["event"] == "suspected").count();
    println!("a pause of {length:?}: {died} deaths called by anyone, {blamed} others suspected by the woken node");
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let is_quick = words.iter().any(|word| word == "--test");
    let asked = words.iter().position(|word| word == "--nodes").and_then(|at| words.get(at + 1)?.parse().ok());
    let nodes: usize = if is_quick { 5 } else { asked.unwrap_or(50).clamp(5, 200) };
    let mut cluster = Cluster::start(nodes);
    let begun = Instant::now();
    while cluster.said.iter().filter(|said| said.line["event"] == "joined").count() < nodes * (nodes - 1) {
        assert!(begun.elapsed() < Duration::from_secs(60), "not all know each other after a minute");
        cluster.listen(Duration::from_millis(50));
    }
    println!("{nodes} nodes know each other after {:.1} s", begun.elapsed().as_secs_f64());
    cluster.listen(Duration::from_secs(if is_quick { 2 } else { 12 }));
    if is_quick {
        return ends(&mut cluster, Signal::SIGKILL, &[nodes - 1]);
    }
    steady(&mut cluster);
    pause(&mut cluster, 1, Duration::from_secs(5));
    ends(&mut cluster, Signal::SIGKILL, &[nodes - 1, nodes - 2, nodes - 3, nodes - 4, nodes / 2]);
    ends(&mut cluster, Signal::SIGSTOP, &[2, 3, nodes / 3]);
}
