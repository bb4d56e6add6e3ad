//! Supervision as it looks from outside the process: exit codes, systemd, machines that are too
//! busy, and Erlang's own supervisor beside ours.
//!
//! A binary of its own, since some of its tests take all the CPU there is for a minute; they run
//! one after the other. They end each process they start, by its id, also when they fail.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod busy;
mod manager;
mod otp;
#[path = "../../it/supervision/play.rs"]
#[allow(dead_code, reason = "some of it only the other suite needs")]
mod play;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use heartbeat_tests::process::ChildGuard;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::NamedTempFile;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lets one test run at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A node in a process of its own, with what it tells.
struct Process {
    child: ChildGuard,
    lines: mpsc::Receiver<Value>,
    told: Vec<Value>,
    _config: NamedTempFile,
}

impl Process {
    fn start(settings: &str, mode: &str, environment: &[(&str, &str)]) -> Process {
        let config = NamedTempFile::with_prefix("heartbeat-outside-").unwrap();
        std::fs::write(&config, settings).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_node"))
            .arg(config.path())
            .arg(mode)
            .env_remove("NOTIFY_SOCKET")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map(ChildGuard::from)
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        Process { child, lines, told: Vec::new(), _config: config }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for the next event of this kind.
    fn wait(&mut self, kind: &str) -> Value {
        loop {
            let value = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("waited in vain for {kind}"));
            self.told.push(value.clone());
            if value["event"] == kind {
                return value;
            }
        }
    }

    /// Listens for this long.
    fn listen(&mut self, time: Duration) {
        let begun = std::time::Instant::now();
        while let Ok(value) = self.lines.recv_timeout(time.saturating_sub(begun.elapsed())) {
            self.told.push(value);
        }
    }

    /// The events of these kinds so far.
    fn of_kind(&self, kinds: &[&str]) -> Vec<&Value> {
        self.told.iter().filter(|value| value["event"].as_str().is_some_and(|kind| kinds.contains(&kind))).collect()
    }
}
