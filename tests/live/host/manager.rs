//! What a process manager sees: the exit code on giving up, and the messages to systemd.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::NamedTempFile;

use crate::{PATIENCE, Process, alone};

// P1
#[test]
fn a_node_that_gives_up_exits_with_its_code() {
    let _turn = alone();
    let settings = "[workers]\narbiters = 1\ninterval = '50ms'\ntimeout = '600ms'\nzombies_max = 0\non_give_up = 'exit'\nexit_code = 71\n";
    let mut process = Process::start(settings, "stuck", &[]);
    process.wait("too_many_zombies");
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = process.child.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(71));
    process.listen(Duration::from_millis(100));
    assert_eq!(process.told.last().unwrap()["event"], "too_many_zombies", "the last word");
}

/// Plays systemd: a socket, and what came through it, with the time since the first word.
struct Manager(NamedTempFile<UnixDatagram>);

impl Manager {
    fn new() -> Manager {
        Manager(tempfile::Builder::new().prefix("heartbeat-notify-").make(|path| UnixDatagram::bind(path)).unwrap())
    }

    /// The next word that comes within this time.
    fn next(&self, within: Duration) -> Option<String> {
        let socket = self.0.as_file();
        socket.set_read_timeout(Some(within)).unwrap();
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).trim().to_owned())
    }
}

const ALLOWED: Duration = Duration::from_secs(1);

fn start(manager: &Manager, mode: &str) -> Process {
    let settings = if mode == "sticky" {
        "timeout = '30s'\nstall = '10s'\n[cluster]\nname = 'x'\nnode = 'x'\nrole = 'worker'\nmode = 'central'\nlisten = '127.0.0.1:9'\nseeds = ['127.0.0.1:10']\n"
    } else {
        ""
    };
    let environment = [("NOTIFY_SOCKET", manager.0.path().to_str().unwrap()), ("WATCHDOG_USEC", "1000000")];
    Process::start(settings, mode, &environment)
}

// P2
#[test]
fn systemd_hears_that_it_is_up_that_it_lives_and_that_it_leaves() {
    let _turn = alone();
    let manager = Manager::new();
    let mut process = start(&manager, "");
    assert_eq!(manager.next(PATIENCE).unwrap(), "READY=1");
    let begun = Instant::now();
    for _ in 0..6 {
        assert_eq!(manager.next(PATIENCE).unwrap(), "WATCHDOG=1");
    }
    // At half the time it is allowed: 3 s, but for what this test was late to look at its clock.
    assert!(begun.elapsed() > ALLOWED * 2, "{:?}", begun.elapsed());
    process.signal(Signal::SIGINT);
    while let word = manager.next(PATIENCE).unwrap()
        && word != "STOPPING=1"
    {
        assert_eq!(word, "WATCHDOG=1");
    }
    assert!(process.child.wait().unwrap().success());
}

// P2
#[test]
fn systemd_gets_no_ping_while_the_control_thread_is_stuck() {
    let _turn = alone();
    let manager = Manager::new();
    let mut process = start(&manager, "sticky");
    assert_eq!(manager.next(PATIENCE).unwrap(), "READY=1");
    assert_eq!(manager.next(PATIENCE).unwrap(), "WATCHDOG=1");
    process.wait("stuck");
    // Messages under way may still come; then there is silence for as long as the thread is held, 4
    // s.
    let held = Instant::now();
    while manager.next(ALLOWED).is_some() {
        assert!(held.elapsed() < ALLOWED * 2, "it is fed although no process is there");
    }
    assert!(manager.next(Duration::from_millis(500)).is_none());
    process.wait("free");
    assert_eq!(manager.next(PATIENCE).unwrap(), "WATCHDOG=1", "and then it goes on");
}
