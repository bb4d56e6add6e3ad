//! Processes of the example cluster: started, found again, signalled, and none left behind.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill as signal};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{CONFIG, Failure, Mode};

/// A node that runs, as others can find it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) pid: i32,
    pub(crate) control: SocketAddr,
}

/// The processes of one cluster. Dropping it ends them all.
pub(crate) struct Processes {
    folder: PathBuf,
    /// Where each process records what it hears, in a folder of its own.
    pub(crate) record: Option<PathBuf>,
    mode: Mode,
    /// Where the monitor listens, or the first node.
    seed: SocketAddr,
    /// Whoever is started first listens there.
    is_seeded: bool,
    running: Vec<(Found, Child)>,
    lines: mpsc::Receiver<Value>,
    sender: mpsc::Sender<Value>,
}

impl Processes {
    /// No processes yet; their configs go into a folder of their own.
    pub(crate) fn new(mode: Mode) -> Result<Processes, Failure> {
        let folder = std::env::temp_dir().join(format!("heartbeat-cluster-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        // The nodes must know where the first one will be before it runs, so a free port is found by taking one and giving it back.
        let seed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let (sender, lines) = mpsc::channel();
        Ok(Processes { folder, record: None, mode, seed, is_seeded: false, running: Vec::new(), lines, sender })
    }

    /// Starts a node, the first one where the others ask to be let in, and waits until it is ready.
    pub(crate) fn start(&mut self, name: &str, role: &str) -> Result<(), Failure> {
        let is_first = !std::mem::replace(&mut self.is_seeded, true);
        let listen = if is_first { self.seed } else { (Ipv4Addr::LOCALHOST, 0).into() };
        let mode = if self.mode == Mode::Central { "central" } else { "random" };
        let config = format!(
            "{CONFIG}\n[cluster]\nname = \"example\"\nnode = \"{name}\"\nrole = \"{role}\"\nmode = \"{mode}\"\nlisten = \"{listen}\"\n\
             seeds = [\"{}\"]\n",
            self.seed
        );
        let path = self.folder.join(format!("{name}.toml"));
        std::fs::write(&path, config)?;
        let record = self.record.as_ref().map(|folder| folder.join(name));
        let mut child = Command::new(std::env::current_exe()?)
            .args(["node", "--json", "--leash", "--config"])
            .arg(&path)
            .args(record.iter().flat_map(|folder| ["--record".as_ref(), folder.as_os_str()]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("a child without standard output")?;
        let (ready, is_ready) = mpsc::channel();
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
                if value["event"] == "ready" {
                    let _ = ready.send(value["control"].clone()); // Nobody waits any more if the start was given up.
                }
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        let control = is_ready.recv_timeout(Duration::from_secs(10)).map_err(|_| {
            let _ = child.kill(); // It may have ended by itself.
            let _ = child.wait();
            format!("{name} did not start; run it by hand: cluster node --config {}", path.display())
        })?;
        let control = control.as_str().unwrap_or_default().parse()?;
        let found = Found { name: name.to_owned(), pid: child.id() as i32, control };
        self.running.retain(|(old, _)| old.name != name);
        self.running.push((found, child));
        self.write_down()
    }

    /// What the processes say, in the order it arrives.
    pub(crate) fn next_line(&self, patience: Duration) -> Option<Value> {
        self.lines.recv_timeout(patience).ok()
    }

    /// A node that was started.
    pub(crate) fn find(&self, name: &str) -> Result<Found, Failure> {
        let found = self.running.iter().find(|(found, _)| found.name == name);
        found.map(|(found, _)| found.clone()).ok_or_else(|| format!("no process {name}").into())
    }

    /// The names of all nodes that were started.
    pub(crate) fn names(&self) -> Vec<String> {
        self.running.iter().map(|(found, _)| found.name.clone()).collect()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str, which: Signal) -> Result<(), Failure> {
        Ok(signal(Pid::from_raw(self.find(name)?.pid), which)?)
    }

    /// Takes in that a process has ended, so that it is not left a zombie.
    pub(crate) fn reap(&mut self, name: &str) -> Result<(), Failure> {
        for (found, child) in &mut self.running {
            if found.name == name {
                child.wait()?;
            }
        }
        self.running.retain(|(found, _)| found.name != name);
        self.write_down()
    }

    /// Ends all: those that are well are given time to leave in good order, the others are killed.
    pub(crate) fn end(&mut self) {
        for (_, child) in &mut self.running {
            drop(child.stdin.take()); // Lets go of the leash.
        }
        let patience = std::time::Instant::now() + Duration::from_secs(3);
        for (_, child) in &mut self.running {
            while std::time::Instant::now() < patience && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
            // Errors mean that it is gone already, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.running.clear();
        let _ = std::fs::remove_dir_all(&self.folder); // Left-over configs harm nobody.
        let _ = std::fs::remove_file(state_file());
    }

    fn write_down(&self) -> Result<(), Failure> {
        let found: Vec<&Found> = self.running.iter().map(|(found, _)| found).collect();
        std::fs::write(state_file(), serde_json::to_string(&found)?)?;
        Ok(())
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.end();
    }
}

/// Where a running cluster is written down for `kill`, `pause` and `status`.
fn state_file() -> PathBuf {
    std::env::temp_dir().join("heartbeat-cluster.json")
}

/// A node of the cluster that `up` or `demo` runs now.
pub(crate) fn find(name: &str) -> Result<Found, Failure> {
    let text = std::fs::read_to_string(state_file())
        .map_err(|_| "no cluster runs on this machine; start one with `cluster up`, or name a control address")?;
    let all: Vec<Found> = serde_json::from_str(&text)?;
    let names: Vec<&str> = all.iter().map(|found| found.name.as_str()).collect();
    let found = all.iter().find(|found| found.name == name).cloned();
    found.ok_or_else(|| format!("no node {name:?} in the running cluster; it has {}", names.join(", ")).into())
}

/// Kills a node of the running cluster.
pub(crate) fn kill(name: &str) -> Result<(), Failure> {
    let found = find(name)?;
    signal(Pid::from_raw(found.pid), Signal::SIGKILL)
        .map_err(|error| format!("{name} (process {}): {error}", found.pid))?;
    println!("killed {name} (process {})", found.pid);
    Ok(())
}

/// Stops a node of the running cluster for a while.
pub(crate) fn pause(name: &str, duration: Duration) -> Result<(), Failure> {
    let found = find(name)?;
    let pid = Pid::from_raw(found.pid);
    signal(pid, Signal::SIGSTOP).map_err(|error| format!("{name} (process {}): {error}", found.pid))?;
    println!("stopped {name} (process {}) for {}", found.pid, humantime::format_duration(duration));
    std::thread::sleep(duration);
    signal(pid, Signal::SIGCONT).map_err(|error| format!("{name} (process {}): {error}", found.pid))?;
    println!("{name} goes on");
    Ok(())
}
