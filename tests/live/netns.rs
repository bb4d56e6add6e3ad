//! Processes in network namespaces of their own: links that are really cut, in both directions or
//! in one.
//!
//! Needs root and `ip`; where they are missing it says so and tests nothing, unless
//! `HEARTBEAT_NETNS=required`. A link is cut by a route that leads nowhere, in the namespace that
//! sends. Namespaces and processes are removed by name and id, also when a test fails.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use heartbeat_tests::process::ChildGuard;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

const SETTINGS: &str = "interval = '200ms'
timeout = '2s'
";

/// Runs `ip` with these words.
fn ip(words: &str) -> Result<(), String> {
    let output = Command::new("ip").args(words.split_whitespace()).output().map_err(|error| format!("ip: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("ip {words}: {said}")) }
}

/// Nodes, each in a namespace, joined by a bridge in one more. Dropping it removes all.
struct Spaces {
    /// What the names of the namespaces begin with.
    prefix: String,
    children: BTreeMap<u8, ChildGuard>,
    folder: TempDir,
    lines: mpsc::Receiver<(u8, Value)>,
    sender: mpsc::Sender<(u8, Value)>,
    said: Vec<(u8, Value)>,
}

impl Drop for Spaces {
    fn drop(&mut self) {
        self.children.clear();
        self.remove();
    }
}

const NODES: u8 = 5;

impl Spaces {
    /// The namespaces and their links; an error in words if they cannot be made here.
    fn new() -> Result<Spaces, String> {
        let prefix = format!("hb{}-", std::process::id());
        let folder = TempDir::with_prefix("heartbeat-netns-").map_err(|error| error.to_string())?;
        let (sender, lines) = mpsc::channel();
        let spaces = Spaces { prefix, children: BTreeMap::new(), folder, lines, sender, said: Vec::new() };
        // Namespaces of a killed process that had our number before.
        spaces.remove();
        let middle = spaces.name(0);
        ip(&format!("netns add {middle}"))?;
        ip(&format!("-n {middle} link add bridge type bridge"))?;
        ip(&format!("-n {middle} link set bridge up"))?;
        for node in 1..=NODES {
            let name = spaces.name(node);
            ip(&format!("netns add {name}"))?;
            ip(&format!("-n {name} link set lo up"))?;
            ip(&format!("-n {name} link add eth0 type veth peer name port{node} netns {middle}"))?;
            ip(&format!("-n {middle} link set port{node} master bridge up"))?;
            ip(&format!("-n {name} addr add {}/24 dev eth0", address(node)))?;
            ip(&format!("-n {name} link set eth0 up"))?;
        }
        Ok(spaces)
    }

    fn remove(&self) {
        for node in 0..=NODES {
            let _ = ip(&format!("netns del {}", self.name(node))); // It may not have been made.
        }
    }

    fn name(&self, node: u8) -> String {
        format!("{}{node}", self.prefix)
    }

    /// Starts a node's process in its namespace, always at the same address.
    fn start(&mut self, node: u8) {
        let (listen, first) = (address(node), address(1));
        let config = format!(
            "{SETTINGS}[cluster]\nname = 'live'\nnode = 'node-{node}'\nrole = 'worker'\nmode = 'random'\nlisten = '{listen}:7100'\nseeds = ['{first}:7100', '{}:7100']\n",
            address(2)
        );
        let path = self.folder.path().join(format!("{node}.toml"));
        std::fs::write(&path, config).unwrap();
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.name(node), env!("CARGO_BIN_EXE_node")])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map(ChildGuard::from)
            .unwrap();
        let (sender, stdout) = (self.sender.clone(), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(value) = serde_json::from_str(&line)
                    && sender.send((node, value)).is_err()
                {
                    return;
                }
            }
        });
        self.children.insert(node, child);
    }

    fn signal(&self, node: u8, signal: Signal) {
        // `ip netns exec` becomes the process that it runs, so the id is that of the node.
        kill(Pid::from_raw(self.children[&node].id() as i32), signal).unwrap();
    }

    /// Lets nothing go from one node to another any more, or again.
    fn cut(&self, from: u8, to: u8, cut: bool) {
        let order = if cut { "add" } else { "del" };
        ip(&format!("-n {} route {order} blackhole {}/32", self.name(from), address(to))).unwrap();
    }

    /// Cuts or mends everything between two groups.
    fn part(&self, these: &[u8], those: &[u8], cut: bool) {
        for &one in these {
            for &other in those {
                self.cut(one, other, cut);
                self.cut(other, one, cut);
            }
        }
    }

    /// Waits until each of `tellers` has said this of `node` after line `since`.
    fn wait(&mut self, since: usize, tellers: &[u8], event: &str, node: u8) {
        let name = format!("node-{node}");
        let end = Instant::now() + PATIENCE;
        loop {
            let told =
                |teller: &u8| self.said[since..].iter().any(|(who, line)| who == teller && is(line, event, &name));
            if tellers.iter().all(told) {
                return;
            }
            let missing: Vec<&u8> = tellers.iter().filter(|teller| !told(teller)).collect();
            assert!(Instant::now() < end, "{missing:?} did not say {event} of {name}: {:#?}", self.verdicts(since));
            self.listen(Duration::from_millis(50));
        }
    }

    fn listen(&mut self, patience: Duration) {
        let end = Instant::now() + patience;
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.said.push(line);
        }
    }

    /// The verdicts on members since a line.
    fn verdicts(&self, since: usize) -> Vec<String> {
        let kinds =
            ["suspected", "cleared", "died", "returned", "declared_dead", "joined", "isolated", "zone_disrupted"];
        let line =
            |(who, line): &(u8, Value)| format!("{who}: {} {}{}", line["event"], line["node"], line["member"]["name"]);
        let told = self.said[since..].iter().filter(|(_, line)| kinds.iter().any(|kind| line["event"] == *kind));
        told.map(line).collect()
    }

    fn deaths(&self, since: usize) -> Vec<String> {
        self.verdicts(since).into_iter().filter(|line| line.contains("died")).collect()
    }
}

fn address(node: u8) -> String {
    format!("10.77.0.{node}")
}

/// Whether a line reports this of a node. A member known before the subscription began has joined,
/// too.
fn is(line: &Value, event: &str, name: &str) -> bool {
    (line["event"] == event || event == "joined" && line["event"] == "knew")
        && (line["node"] == name || line["member"]["name"] == name)
}

#[test]
fn links_that_are_really_cut_and_processes_that_really_end() {
    let mut spaces = match Spaces::new() {
        Ok(spaces) => spaces,
        Err(why) => {
            assert!(std::env::var("HEARTBEAT_NETNS").as_deref() != Ok("required"), "no network namespaces here: {why}");
            return println!("skipped: no network namespaces here ({why}); they need root and ip");
        }
    };
    let all = [1, 2, 3, 4, 5];
    all.into_iter().for_each(|node| spaces.start(node));
    for node in all {
        spaces.wait(0, &all.into_iter().filter(|other| *other != node).collect::<Vec<_>>(), "joined", node);
    }
    spaces.listen(Duration::from_secs(2));

    // A partition: the greater side goes on, the lesser one does not declare it dead; healed, all
    // are back.
    let since = spaces.said.len();
    spaces.part(&[1, 2], &[3, 4, 5], true);
    spaces.wait(since, &[3, 4, 5], "died", 1);
    spaces.wait(since, &[3, 4, 5], "died", 2);
    let by_the_lesser = spaces.deaths(since).into_iter().filter(|line| line.starts_with(['1', '2'])).count();
    assert_eq!(by_the_lesser, 0, "most of what it knows is silent");
    spaces.part(&[1, 2], &[3, 4, 5], false);
    spaces.wait(since, &[3, 4, 5], "returned", 1);
    spaces.wait(since, &[3, 4, 5], "returned", 2);
    spaces.listen(Duration::from_secs(3));

    // One direction of one link.
    let since = spaces.said.len();
    spaces.cut(4, 5, true);
    spaces.listen(Duration::from_secs(6));
    spaces.cut(4, 5, false);
    assert_eq!(spaces.deaths(since), [] as [String; 0]);
    spaces.listen(Duration::from_secs(2));

    // A process that is frozen past the timeout, and goes on.
    let since = spaces.said.len();
    spaces.signal(4, Signal::SIGSTOP);
    spaces.wait(since, &[1, 2, 3, 5], "died", 4);
    spaces.signal(4, Signal::SIGCONT);
    spaces.wait(since, &[1, 2, 3, 5], "returned", 4);
    spaces.listen(Duration::from_secs(2));
    assert!(spaces.deaths(since).iter().all(|line| line.contains("node-4")), "{:?}", spaces.deaths(since));

    // A process that is killed, and another one at its address.
    let since = spaces.said.len();
    spaces.signal(5, Signal::SIGKILL);
    spaces.wait(since, &[1, 2, 3, 4], "died", 5);
    let refused =
        spaces.said[since..].iter().any(|(_, line)| line["evidence"].to_string().contains("\"refused\":true"));
    assert!(refused, "its connections were closed: {:#?}", spaces.verdicts(since));
    spaces.children.get_mut(&5).unwrap().wait().unwrap();
    let since = spaces.said.len();
    spaces.start(5);
    spaces.wait(since, &[1, 2, 3, 4], "joined", 5);
    spaces.listen(Duration::from_secs(2));
    assert_eq!(spaces.deaths(since), [] as [String; 0]);
}
