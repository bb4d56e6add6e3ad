//! Nodes in processes of their own: the running bench is started again for each of them. They have
//! the default config, a cluster without a monitor, and eight shards.
#![allow(dead_code, reason = "each bench uses a part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use actix::Actor;
use heartbeat_actors::{Config, Context, Node, Update};
use heartbeat_tests::process::ChildGuard;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long nodes have to know each other, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The word after which a process of a bench is a node.
const AS_NODE: &str = "--as-node";

/// The key of sealed nodes.
pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct Idle;

impl Actor for Idle {
    type Context = Context<Self>;
}

/// Runs a node if this process was started as one. Returns whether it was.
pub(crate) fn is_node() -> bool {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [word, config, folder] = &words[..] else { return false };
    if word != AS_NODE {
        return false;
    }
    actix::System::new().block_on(serve(Path::new(config), Path::new(folder)));
    true
}

/// A node that prints its events, records the heartbeats that it gets, says how it is for each line
/// of its input, and leaves when that ends.
async fn serve(config: &Path, folder: &Path) {
    let node = Node::start(Config::from_toml(&std::fs::read_to_string(config).unwrap()).unwrap()).await.unwrap();
    node.subscribe_fn("lines", |update| match update {
        Update::Event(event) => println!("{}", serde_json::to_string(&event).unwrap()),
        Update::View(view) => view.members.iter().for_each(|member| {
            println!("{}", json!({ "event": "knew", "node": &*member.name }));
        }),
        _ => {}
    });
    if std::env::var_os("HEARTBEAT_NODE_RECORDS").is_some() {
        node.record(folder).unwrap();
    }
    let shards = node.supervise_shards("orders", 8, |_| Ok(Idle)).unwrap();
    let (sender, mut lines) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let lines = std::io::stdin().lock().lines();
        lines.map_while(Result::ok).take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
    });
    while lines.recv().await.is_some() {
        let (counters, seals) = (node.counters().await, node.seal_counts());
        let up = shards.workers().iter().filter(|worker| worker.status().is_up).count();
        let alive = node.view().members().iter().filter(|member| member.status.is_member()).count();
        println!(
            "{}",
            json!({
                "event": "status", "received": counters.received, "malformed": counters.malformed,
                "opened": seals.opened, "rows": node.view().members().len(), "members": alive, "shards": up,
                "heartbeats": counters.heartbeats_received, "missed": counters.heartbeats_missed,
                "late": counters.heartbeats_late,
            })
        );
    }
    node.leave().await;
}

/// The table of a config that seals a node, or none.
pub(crate) fn seal_table(is_sealed: bool) -> String {
    if is_sealed { format!("[cluster.seal]\nkeys = ['{KEY}']\n") } else { String::new() }
}

/// What a node said.
pub(crate) struct Said {
    pub(crate) node: usize,
    pub(crate) line: Value,
}

/// Some nodes.
pub(crate) struct Nodes {
    pub(crate) children: BTreeMap<usize, ChildGuard>,
    folder: TempDir,
    ports: Vec<u16>,
    sender: mpsc::Sender<Said>,
    lines: mpsc::Receiver<Said>,
    is_recorded: bool,
}

impl Nodes {
    /// Starts `count` nodes, sealed or not, and waits until they know each other.
    pub(crate) fn start(count: usize, is_sealed: bool, is_recorded: bool) -> Nodes {
        Nodes::with_configs(count, is_recorded, |node, ports| {
            let seeds: Vec<String> = ports.iter().take(3).map(|port| format!("127.0.0.1:{port}")).collect();
            format!(
                "[cluster]\nname = 'bench'\nnode = 'node-{node}'\nrole = 'worker'\nmode = 'random'\n\
                 listen = '127.0.0.1:{}'\nseeds = {seeds:?}\n{}",
                ports[node],
                seal_table(is_sealed)
            )
        })
    }

    /// Starts `count` nodes, each with the config that `config` makes of its number and the ports
    /// of all, and waits until they know each other.
    pub(crate) fn with_configs(count: usize, is_recorded: bool, config: impl Fn(usize, &[u16]) -> String) -> Nodes {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = TempDir::with_prefix("heartbeat-nodes-").unwrap();
        // Below the ports for outgoing connections, or a lifeline may take the port of a node that
        // starts later. Those of clusters side by side are apart.
        let first = 10_000 + (std::process::id() % 15_000) as u16 + 500 * (number % 8) as u16;
        let is_free = |port: &u16| {
            let address = (Ipv4Addr::LOCALHOST, *port);
            UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok()
        };
        let ports: Vec<u16> = (first..32_000).filter(is_free).take(count).collect();
        let (sender, lines) = mpsc::channel();
        let mut nodes = Nodes { children: BTreeMap::new(), folder, ports, sender, lines, is_recorded };
        for node in 0..count {
            std::fs::write(nodes.config(node), config(node, &nodes.ports)).unwrap();
            nodes.begin(node);
            if node == 0 {
                // The seed first, so that the others need not ask twice.
                std::thread::sleep(Duration::from_millis(300));
            }
        }
        nodes.meet();
        nodes
    }

    /// Starts the process of a node.
    pub(crate) fn begin(&mut self, node: usize) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(AS_NODE).arg(self.config(node)).arg(self.recordings(node));
        if self.is_recorded {
            command.env("HEARTBEAT_NODE_RECORDS", "1");
        }
        let mut child = ChildGuard::from(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
        let (sender, stdout) = (self.sender.clone(), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(line) = serde_json::from_str(&line)
                    && sender.send(Said { node, line }).is_err()
                {
                    return;
                }
            }
        });
        self.children.insert(node, child);
    }

    fn config(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("{node}.toml"))
    }

    /// Where a node records the heartbeats of others.
    pub(crate) fn recordings(&self, node: usize) -> PathBuf {
        self.folder.path().join(format!("recorded-by-{node}"))
    }

    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[node]))
    }

    /// What the nodes say within this time.
    pub(crate) fn listen(&self, time: Duration) -> Vec<Said> {
        let (end, mut said) = (Instant::now() + time, Vec::new());
        while let Ok(next) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            said.push(next);
        }
        said
    }

    /// Waits until each node knows each other one.
    fn meet(&self) {
        let (begun, count) = (Instant::now(), self.children.len());
        let mut known = std::collections::BTreeSet::new();
        while known.len() < count * (count - 1) {
            assert!(begun.elapsed() < PATIENCE, "{} of {} have met", known.len(), count * (count - 1));
            for said in self.listen(Duration::from_millis(50)) {
                let is_met = said.line["event"] == "joined" || said.line["event"] == "knew";
                // Events hold the whole member.
                let name = said.line["member"]["name"].as_str().or(said.line["node"].as_str()).unwrap_or_default();
                if is_met && name != format!("node-{}", said.node) {
                    known.insert((said.node, name.to_owned()));
                }
            }
        }
    }

    /// How a node is, as it says itself. Events that come meanwhile are added to `said`.
    pub(crate) fn status(&mut self, node: usize, said: &mut Vec<Said>) -> Value {
        let stdin = self.children.get_mut(&node).and_then(|child| child.stdin.as_mut()).unwrap();
        writeln!(stdin, "status").unwrap();
        let end = Instant::now() + PATIENCE;
        while let Ok(next) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if next.node == node && next.line["event"] == "status" {
                return next.line;
            }
            said.push(next);
        }
        panic!("node-{node} says nothing for {PATIENCE:?}");
    }

    /// Ends the process of a node at once.
    pub(crate) fn kill(&mut self, node: usize) {
        self.children.remove(&node);
    }

    /// Lets a node leave, and waits until its process has ended.
    pub(crate) fn leave(&mut self, node: usize) {
        let Some(mut child) = self.children.remove(&node) else { return };
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    pub(crate) fn usage(&self, node: usize) -> Usage {
        Usage::of(self.children[&node].id())
    }
}

/// What a process uses.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    /// CPU seconds so far, by the scheduler's account.
    pub(crate) cpu: f64,
    pub(crate) resident_bytes: f64,
    pub(crate) descriptors: usize,
    pub(crate) threads: usize,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Usage {
        let tasks: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().collect();
        let nanos = tasks.iter().filter_map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<f64>().ok()
        });
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let resident: Option<f64> =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok());
        Usage {
            cpu: nanos.sum::<f64>() / 1e9,
            resident_bytes: resident.unwrap_or(f64::NAN) * 1_024.0,
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().count(),
            threads: tasks.len(),
        }
    }

    pub(crate) fn resident_mib(&self) -> f64 {
        self.resident_bytes / 1_048_576.0
    }
}
