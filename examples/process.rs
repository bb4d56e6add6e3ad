//! Processes that an example starts: it reads their lines, sends them signals, and leaves none
//! behind.
//!
//! A child is a copy of the example's own program that prints one JSON object a line. It is on a
//! leash: its standard input stays open as long as its parent lives, and it ends when that closes.
//! So a killed parent leaves no child behind, though it had no time to clean up. The exception is a
//! child that is stopped by SIGSTOP just then: it notices once it is continued.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

use actix_rt::signal::unix::{SignalKind, signal};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::Failure;

/// How long a child may take to say that it is ready.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// How long children may take to end gracefully before they are killed.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// How often an example that waits looks whether it was interrupted.
const LISTEN_EVERY: Duration = Duration::from_millis(20);

/// The processes that one example has started. Dropping it ends them all.
pub struct Children {
    folder: PathBuf,
    running: Vec<(String, Child)>,
    lines: mpsc::Receiver<Value>,
    sender: mpsc::Sender<Value>,
}

impl Children {
    /// None yet. They may use a folder of their own, which goes with them; `purpose` is part of its
    /// name.
    ///
    /// # Errors
    /// What the system says of the folder.
    pub fn new(purpose: &str) -> Result<Children, Failure> {
        let folder = std::env::temp_dir().join(format!("heartbeat-{purpose}-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let (sender, lines) = mpsc::channel();
        Ok(Children { folder, running: Vec::new(), lines, sender })
    }

    /// Starts this program once more, with `arguments`, and waits until it says that it is ready,
    /// with a line whose `event` is `"ready"`. Returns that line.
    ///
    /// # Errors
    /// The child could not be started, or ended or was silent before it was ready; it does not run
    /// then.
    pub fn start<A: AsRef<std::ffi::OsStr>>(&mut self, name: &str, arguments: &[A]) -> Result<Value, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
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
                    let _ = ready.send(value.clone()); // The waiter is gone if the start was given up.
                }
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        let Ok(line) = is_ready.recv_timeout(START_PATIENCE) else {
            let _ = child.kill(); // It may have ended by itself.
            let _ = child.wait();
            return Err(format!("{name} did not start; see what it says above").into());
        };
        self.running.retain(|(old, _)| old != name);
        self.running.push((name.to_owned(), child));
        Ok(line)
    }

    /// A folder for what the children need; it is removed when they end.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What they say, in the order it arrives.
    pub fn next_line(&self, patience: Duration) -> Option<Value> {
        self.lines.recv_timeout(patience).ok()
    }

    /// The number of a child's process.
    ///
    /// # Errors
    /// No child has this name.
    pub fn pid(&self, name: &str) -> Result<i32, Failure> {
        let found = self.running.iter().find(|(found, _)| found == name);
        found.map(|(_, child)| child.id() as i32).ok_or_else(|| format!("no process {name}").into())
    }

    /// The names of all that run, in the order of their start.
    pub fn names(&self) -> Vec<String> {
        self.running.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// No child has this name, or what the system says.
    pub fn signal(&self, name: &str, which: Signal) -> Result<(), Failure> {
        Ok(kill(Pid::from_raw(self.pid(name)?), which)?)
    }

    /// Waits until a child that got its signal has ended, and reaps it, so that no zombie stays.
    ///
    /// # Errors
    /// What the system says.
    pub fn reap(&mut self, name: &str) -> Result<(), Failure> {
        for (_, child) in self.running.iter_mut().filter(|(found, _)| found == name) {
            child.wait()?;
        }
        self.running.retain(|(found, _)| found != name);
        Ok(())
    }

    /// Ends all children: the healthy get time to leave gracefully, the others are killed.
    pub fn end(&mut self) {
        for (_, child) in &mut self.running {
            drop(child.stdin.take()); // Lets go of the leash.
        }
        let patience = Instant::now() + END_PATIENCE;
        for (_, child) in &mut self.running {
            while Instant::now() < patience && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
            // Errors mean that it is gone already, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.running.clear();
        let _ = std::fs::remove_dir_all(&self.folder); // Left-over files do no harm.
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.end();
    }
}

/// What an example that reads its children's lines needs to wait for something in them.
pub trait Listen {
    /// How long [`Listen::wait_until`] waits before it gives up.
    const PATIENCE: Duration;

    /// Reads at most one line, within `patience`.
    fn listen(&mut self, patience: Duration);

    /// All lines so far.
    fn lines(&self) -> &[Value];

    /// The flag of [`watch_interrupts`].
    fn interrupted(&self) -> &AtomicBool;

    /// Reads all lines for this long.
    ///
    /// # Errors
    /// The example was interrupted.
    fn quiet(&mut self, duration: Duration) -> Result<(), Failure> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            self.listen(end.saturating_duration_since(Instant::now()).min(LISTEN_EVERY));
            self.check_interrupted()?;
        }
        Ok(())
    }

    /// Waits until `found` finds something in the lines.
    ///
    /// # Errors
    /// It found nothing within [`Listen::PATIENCE`], or the example was interrupted.
    fn wait_until<T>(&mut self, what: &str, found: impl Fn(&[Value]) -> Option<T>) -> Result<T, Failure> {
        let end = Instant::now() + Self::PATIENCE;
        loop {
            if let Some(found) = found(self.lines()) {
                return Ok(found);
            }
            if Instant::now() > end {
                return Err(format!("waited {} s in vain: {what}", Self::PATIENCE.as_secs()).into());
            }
            self.listen(LISTEN_EVERY);
            self.check_interrupted()?;
        }
    }

    /// Waits until `count` lines from number `from` on match. Returns the time of the last of them.
    ///
    /// # Errors
    /// As for [`Listen::wait_until`].
    fn wait(
        &mut self,
        what: &str,
        from: usize,
        matches: impl Fn(&Value) -> bool,
        count: usize,
    ) -> Result<f64, Failure> {
        self.wait_until(what, |lines| {
            let matching = lines[from..].iter().filter(|line| matches(line));
            let times: Vec<f64> = matching.filter_map(|line| line["at"].as_f64()).collect();
            (times.len() >= count).then(|| times.get(count.wrapping_sub(1)).copied().unwrap_or_else(unix_seconds))
        })
    }

    /// Whether the example goes on.
    ///
    /// # Errors
    /// It was interrupted.
    fn check_interrupted(&self) -> Result<(), Failure> {
        if self.interrupted().load(Ordering::Relaxed) {
            Err("interrupted; all processes were ended".into())
        } else {
            Ok(())
        }
    }
}

/// In a child: a receiver that receives once, when the leash is let go.
pub fn watch_leash() -> tokio::sync::mpsc::Receiver<()> {
    let (release, released) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        let mut rest = Vec::new();
        // An error is an end as well: the process at the other side is gone.
        let _ = std::io::stdin().read_to_end(&mut rest);
        let _ = release.blocking_send(());
    });
    released
}

/// A flag that Ctrl-C and SIGTERM set. It is not ended by them any more.
///
/// # Errors
/// What the system says of one more thread.
pub fn watch_interrupts() -> Result<Arc<AtomicBool>, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    let (ready, is_ready) = mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        actix_rt::System::new().block_on(async move {
            let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
            let _ = ready.send(()); // The one who waits is right below.
            if let (Ok(mut interrupt), Ok(mut terminate)) = signals {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
                flag.store(true, Ordering::Relaxed);
            }
        });
    })?;
    is_ready.recv()?;
    Ok(interrupted)
}

/// Seconds since 1970, so that lines of several processes can be put in order.
pub fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
