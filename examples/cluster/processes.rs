//! Processes of the example cluster: started, found again, signalled, and none left behind.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use heartbeat_examples::process::Children;
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
    /// Where each process records what it hears, in a folder of its own.
    pub(crate) record: Option<PathBuf>,
    mode: Mode,
    /// Where the first process listens, the monitor or a node; known once it runs.
    seed: Option<SocketAddr>,
    running: Vec<Found>,
    children: Children,
}

impl Processes {
    /// No processes yet; their configs go into a folder of their own.
    pub(crate) fn new(mode: Mode) -> Result<Processes, Failure> {
        Ok(Processes { record: None, mode, seed: None, running: Vec::new(), children: Children::new("cluster")? })
    }

    /// Starts a node, and waits until it is ready. Each listens at a port that the system gives it.
    /// The first one begins the cluster and says where it listens; the others ask there to be let
    /// in.
    pub(crate) fn start(&mut self, name: &str, role: &str) -> Result<(), Failure> {
        let seeds = serde_json::to_string(&self.seed.iter().collect::<Vec<_>>())?;
        let mode = if self.mode == Mode::Central { "central" } else { "random" };
        let config = format!(
            "{CONFIG}\n[cluster]\nname = \"example\"\nnode = \"{name}\"\nrole = \"{role}\"\nmode = \"{mode}\"\nlisten = \"127.0.0.1:0\"\n\
             seeds = {seeds}\n"
        );
        let path = self.children.folder().join(format!("{name}.toml"));
        std::fs::write(&path, config)?;
        let record = self.record.as_ref().map(|folder| folder.join(name));
        let mut arguments =
            vec!["node".as_ref(), "--json".as_ref(), "--leash".as_ref(), "--config".as_ref(), path.as_os_str()];
        arguments.extend(record.iter().flat_map(|folder| ["--record".as_ref(), folder.as_os_str()]));
        let ready = self.children.start(name, &arguments)?;
        let control = ready["control"].as_str().unwrap_or_default().parse()?;
        if self.seed.is_none() {
            let address = ready["address"].as_str().ok_or_else(|| format!("{name} does not say where it listens"))?;
            self.seed = Some(address.parse()?);
        }
        let found = Found { name: name.to_owned(), pid: self.children.pid(name)?, control };
        self.running.retain(|old| old.name != name);
        self.running.push(found);
        self.write_down()
    }

    /// What the processes say, in the order it arrives.
    pub(crate) fn next_line(&self, patience: Duration) -> Option<Value> {
        self.children.next_line(patience)
    }

    /// A node that was started.
    pub(crate) fn find(&self, name: &str) -> Result<Found, Failure> {
        let found = self.running.iter().find(|found| found.name == name);
        found.cloned().ok_or_else(|| format!("no process {name}").into())
    }

    /// The names of all nodes that were started.
    pub(crate) fn names(&self) -> Vec<String> {
        self.children.names()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, name: &str, which: Signal) -> Result<(), Failure> {
        self.children.signal(name, which)
    }

    /// Reaps a process that has ended, so that no zombie stays.
    pub(crate) fn reap(&mut self, name: &str) -> Result<(), Failure> {
        self.children.reap(name)?;
        self.running.retain(|found| found.name != name);
        self.write_down()
    }

    /// Ends all children: the healthy get time to leave gracefully, the others are killed.
    pub(crate) fn end(&mut self) {
        self.children.end();
        self.running.clear();
        let _ = std::fs::remove_file(state_file()); // It may never have been written.
    }

    fn write_down(&self) -> Result<(), Failure> {
        std::fs::write(state_file(), serde_json::to_string(&self.running)?)?;
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
