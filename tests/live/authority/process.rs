//! A process that holds shards, as its tests see it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc;

use heartbeat_tests::process::ChildGuard;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::suite::PATIENCE;

/// A `holder`; it is killed at the end of its test.
pub(crate) struct Process {
    child: ChildGuard,
    input: ChildStdin,
    lines: mpsc::Receiver<Value>,
}

impl Process {
    /// Starts one with the config in this file, and waits until it has a session.
    pub(crate) fn start(config: &Path, generation: u64) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_holder"))
            .arg(config)
            .arg(generation.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map(ChildGuard::from)
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let values = output.lines().map_while(Result::ok).map(|line| serde_json::from_str(&line).unwrap());
            // Its test may be over.
            let _ = values.map(|value: Value| sender.send(value)).take_while(Result::is_ok).count();
        });
        let mut process = Process { child, input, lines };
        process.wait("open");
        process
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Has it do this, without waiting for what comes of it.
    pub(crate) fn tell(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    /// Has it do this, and says what came of it.
    pub(crate) fn ask(&mut self, command: &str) -> Value {
        self.tell(command);
        self.wait(command.split(' ').next().unwrap())["answer"].take()
    }

    /// Waits until it has done something.
    pub(crate) fn wait(&mut self, did: &str) -> Value {
        loop {
            let value = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("waited in vain for {did}"));
            if value["did"] == did {
                return value;
            }
        }
    }
}
