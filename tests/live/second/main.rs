//! A second implementation of the wire format, in Python, written from the page of the book alone
//! (`wire.py`, `member.py`): it reads and writes the golden bytes, and is a member of a cluster of
//! real processes.
//!
//! Where `python3` is missing these tests say so and test nothing, unless
//! `HEARTBEAT_PYTHON=required`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use heartbeat_tests::process::ChildGuard;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("live/second").join(name)
}

/// A command of the interpreter, which writes nothing beside the scripts; none if it is missing.
fn python() -> Option<Command> {
    let mut command = Command::new("python3");
    command.arg("-B");
    match Command::new("python3").arg("--version").stdout(Stdio::null()).status() {
        Ok(status) if status.success() => Some(command),
        Ok(_) | Err(_) => {
            let is_required = std::env::var_os("HEARTBEAT_PYTHON").is_some_and(|value| value == "required");
            assert!(!is_required, "python3 is missing");
            eprintln!("skipped: python3 is missing");
            None
        }
    }
}

/// A free address, for datagrams and streams.
fn free() -> SocketAddr {
    loop {
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// A process that prints lines of JSON. Dropping it kills it.
struct Process {
    child: ChildGuard,
    lines: mpsc::Receiver<Value>,
    said: Vec<Value>,
}

impl Process {
    fn start(mut command: Command) -> Process {
        let mut child = ChildGuard::from(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap()); // The test may be over.
            }
        });
        Process { child, lines, said: Vec::new() }
    }

    /// The first line of this kind that matches, said already or yet to come.
    #[track_caller]
    fn wait(&mut self, kind: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        let is_it = |event: &Value| event["event"] == kind && matches(event);
        loop {
            if let Some(event) = self.said.iter().find(|event| is_it(event)) {
                return event.clone();
            }
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(event) => self.said.push(event),
                Err(_) => panic!("waited in vain for {kind}; said so far: {:#?}", self.said),
            }
        }
    }

    /// How many lines of this kind have come so far.
    fn count(&mut self, kind: &str) -> usize {
        self.said.extend(self.lines.try_iter());
        self.said.iter().filter(|event| event["event"] == kind).count()
    }

    fn command(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

/// Three nodes in processes of their own, and a member in Python.
struct Cluster {
    nodes: Vec<Process>,
    python: Process,
    /// Where the first node answers HTTP.
    http: SocketAddr,
}

/// Starts all of them, and waits until each node knows the member. Its versions are a range.
fn cluster(versions: &str, python: Command) -> Cluster {
    let folder = TempDir::with_prefix("heartbeat-second-").unwrap();
    let (seed, http) = (free(), free());
    let mut nodes = Vec::new();
    for name in ["one", "two", "three"] {
        let listen = if name == "one" { seed } else { free() };
        let door = if name == "one" { format!("[http]\nlisten = '{http}'\n") } else { String::new() };
        let text = format!(
            "interval = '200ms'\ntimeout = '4s'\nstall = '1s'\n{door}[detector]\nkind = 'fixed'\n\
             suspect_after = '2s'\n[cluster]\nname = 'second'\nnode = '{name}'\nrole = 'worker'\nmode = 'random'\n\
             listen = '{listen}'\nseeds = ['{seed}']\n"
        );
        let path = folder.path().join(format!("{name}.toml"));
        std::fs::write(&path, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
        command.arg(&path);
        nodes.push(Process::start(command));
        nodes.last_mut().unwrap().wait("knew", |event| event["node"] == name);
    }
    for node in &mut nodes {
        node.wait("connected", |_| true);
    }
    // Its table is whole once it has waited for a cluster to join.
    let end = Instant::now() + PATIENCE;
    while ask(http, "/members")["is_joined"] != true {
        assert!(Instant::now() < end, "the first node does not join");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut command = python;
    command.arg(script("member.py")).args(["python", "second", &seed.to_string(), "200", versions]);
    let mut cluster = Cluster { nodes, python: Process::start(command), http };
    cluster.python.wait("admitted", |event| event["whole"] == true);
    for node in &mut cluster.nodes {
        node.wait("joined", |event| event["member"]["name"] == "python");
    }
    cluster
}

/// What a node answers to this path.
fn ask(http: SocketAddr, path: &str) -> Value {
    let mut stream = TcpStream::connect(http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// What the first node knows of the member, once this holds.
fn until(cluster: &Cluster, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let member = ask(cluster.http, "/members/python");
        if holds(&member) {
            return member;
        }
        assert!(Instant::now() < end, "{what}: {member}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn python_reads_and_writes_the_golden_bytes() {
    let Some(mut command) = python() else { return };
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/wire");
    command.arg(script("wire.py")).args([data.join("version-3.txt"), data.join("version-4.txt")]);
    let output = command.output().unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{error}");
    assert!(said.contains("66 datagrams of 40 kinds and versions are read and written alike"), "{said}");
}

#[test]
fn a_python_member_is_watched_and_declared_dead_when_silent() {
    let Some(command) = python() else { return };
    let mut cluster = cluster("3-4", command);
    // It names all three as its observers; each watches it, acknowledges its heartbeats, and is
    // watched by it.
    let named = cluster.python.wait("observers", |event| event["names"].as_array().unwrap().len() == 3);
    for name in ["one", "two", "three"] {
        assert!(named["names"].as_array().unwrap().contains(&name.into()));
        cluster.python.wait("acked", |event| event["name"] == name && event["version"] == 4);
        cluster.python.wait("watches", |event| event["name"] == name);
    }
    let member = until(&cluster, "it is watched", |member| !member["silent_for"].is_null());
    assert_eq!((&member["status"], &member["watches_this_node"]), (&"alive".into(), &true.into()));
    assert_eq!(member["wire_versions"]["max"], 4);
    for node in &mut cluster.nodes {
        assert_eq!((node.count("suspected"), node.count("died"), node.count("wire_version_lowered")), (0, 0, 0));
    }
    cluster.python.command("silence");
    cluster.python.wait("silent", |_| true);
    for node in &mut cluster.nodes {
        node.wait("suspected", |event| event["node"] == "python");
        node.wait("died", |event| event["node"] == "python");
    }
    // It was told of both.
    cluster.python.wait("suspected", |_| true);
    cluster.python.wait("declared dead", |_| true);
}

#[test]
fn a_python_member_of_version_3_holds_back_and_leaves() {
    let Some(command) = python() else { return };
    let mut cluster = cluster("3-3", command);
    cluster.python.wait("acked", |event| event["version"] == 3);
    for node in &mut cluster.nodes {
        node.wait("wire_version_lowered", |event| event["to"] == 3 && event["held_back_by"][0] == "python");
    }
    let members = ask(cluster.http, "/members");
    assert_eq!(members["wire"]["version"], 3);
    assert_eq!(members["wire"]["held_back_by"][0], "python");
    until(&cluster, "it is watched", |member| !member["silent_for"].is_null());
    cluster.python.command("leave");
    cluster.python.wait("left", |_| true);
    for node in &mut cluster.nodes {
        node.wait("left", |event| event["node"] == "python");
        node.wait("wire_version_raised", |event| event["to"] == 4);
        assert_eq!((node.count("suspected"), node.count("died")), (0, 0));
    }
    assert_eq!(cluster.python.count("dropped"), 0, "each datagram was of a version that it knows");
}
