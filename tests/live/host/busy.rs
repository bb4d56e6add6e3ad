//! A6: however busy the machine is, no healthy worker is replaced.
//!
//! Each process runs three kinds of workers with the default timeouts. One repeats a job of 10 s
//! and reports progress. One has a mailbox that is always full of short jobs. A hundred are idle.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use heartbeat_tests::process::ChildGuard;
use nix::sys::signal::Signal;

use crate::{Process, alone};

/// The events that must not come: verdicts on the healthy.
const VERDICTS: [&str; 6] = ["failed", "replaced", "abandoned", "gave_up", "too_many_zombies", "fenced"];

#[track_caller]
fn nobody_was_judged(process: &Process) {
    assert!(process.told.len() > 100, "it runs: {}", process.told.len());
    assert_eq!(process.of_kind(&VERDICTS), [] as [&serde_json::Value; 0]);
}

/// Processes that do nothing but run.
fn loops(count: u32) -> Vec<ChildGuard> {
    let mut command = Command::new("sh");
    command.args(["-c", "while :; do :; done"]).stdin(Stdio::null());
    (0..count).map(|_| command.spawn().unwrap().into()).collect()
}

// A6
#[test]
fn busy_loops_and_a_stopped_process_replace_no_worker() {
    let _turn = alone();
    let mut process = Process::start("", "steady", &[]);
    process.wait("started");
    let loops = loops(8);
    process.listen(Duration::from_secs(25));
    process.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(10));
    process.signal(Signal::SIGCONT);
    process.listen(Duration::from_secs(25));
    drop(loops);
    nobody_was_judged(&process);
    assert!(!process.of_kind(&["paused"]).is_empty(), "it knows that it was stopped");
}

/// A control group that allows a tenth of one CPU; removed when it is dropped.
struct Quota(PathBuf);

impl Quota {
    /// `None`, with the reason printed, where this machine does not let us.
    fn new() -> Option<Quota> {
        let name = format!("heartbeat-test-{}", std::process::id());
        let (first, second) = (Path::new("/sys/fs/cgroup/cpu"), Path::new("/sys/fs/cgroup"));
        // Version 1 has a tree for each controller; version 2 has one for all.
        let (path, file, value) = if first.join("cpu.cfs_quota_us").exists() {
            (first.join(name), "cpu.cfs_quota_us", "10000")
        } else {
            (second.join(name), "cpu.max", "10000 100000")
        };
        if let Err(error) = std::fs::create_dir(&path) {
            println!("skipped: no control group can be made at {} ({error})", path.display());
            return None;
        }
        let quota = Quota(path);
        if let Err(error) = std::fs::write(quota.0.join(file), value) {
            println!("skipped: {file} cannot be set in {} ({error})", quota.0.display());
            return None;
        }
        Some(quota)
    }

    fn admit(&self, process: &Process) -> std::io::Result<()> {
        std::fs::write(self.0.join("cgroup.procs"), process.child.id().to_string())
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0); // Its process is gone by then.
    }
}

// A6
#[test]
fn a_tenth_of_a_cpu_is_too_little_and_replaces_nobody() {
    let _turn = alone();
    let Some(quota) = Quota::new() else { return };
    let mut process = Process::start("", "steady", &[]);
    process.wait("started");
    process.listen(Duration::from_secs(2));
    if let Err(error) = quota.admit(&process) {
        println!("skipped: a process cannot be put into a control group ({error})");
        return;
    }
    process.listen(Duration::from_secs(40));
    nobody_was_judged(&process);
    drop(process);
}
