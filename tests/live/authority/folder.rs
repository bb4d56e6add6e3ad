//! The authority in a folder: one suite with the others, then processes that are killed and
//! stopped, and files that are spoilt.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use heartbeat_actors::authority::{Authority, AuthorityRequest, Claimed, FileAuthority};
use heartbeat_actors::shard::Epoch;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::live;
use crate::process::Process;
use crate::suite::{Node, PATIENCE, claimant, shards, suite};

const TTL: Duration = Duration::from_millis(1_500);

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

/// A folder that goes with its test.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(TempDir::with_prefix("heartbeat-authority-").unwrap())
    }

    fn authority(&self, node: &str, generation: u64) -> Rc<dyn Authority> {
        Rc::new(FileAuthority::open(self.0.path(), claimant("c", node, generation)).unwrap())
    }

    /// The error of a process that opens it.
    fn error(&self) -> String {
        FileAuthority::open(self.0.path(), claimant("c", "late", 1)).unwrap_err().to_string()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join("c").join(name)
    }

    /// Starts a process that holds the shards of its commands.
    fn process(&self, node: &str, ttl: &str) -> Process {
        let config = self.0.path().join(format!("{node}.toml"));
        let text = format!(
            "[ownership]\nauthority = 'file'\nfolder = {:?}\nsession_ttl = '{ttl}'\n[cluster]\nname = 'c'\nnode = '{node}'\nrole = 'worker'\nmode = 'random'\nlisten = '127.0.0.1:0'\nseeds = []\n",
            self.0.path()
        );
        std::fs::write(&config, text).unwrap();
        Process::start(&config, 1)
    }
}

#[test]
fn a_folder_passes() {
    let folder = Folder::new();
    live(suite(async |node, generation| folder.authority(node, generation), TTL));
}

#[test]
fn clusters_in_one_folder_have_nothing_to_do_with_each_other() {
    let folder = Folder::new();
    live(async {
        for cluster in ["c", "d", "../c"] {
            let authority = FileAuthority::open(folder.0.path(), claimant(cluster, "a", 1)).unwrap();
            Node::open(Rc::new(authority), LONG).await.granted(&shards("orders", 0..3)).await;
        }
    });
    assert_eq!(folder.0.path().read_dir().unwrap().count(), 3, "one folder each, and all within ours");
}

#[test]
fn after_its_end_no_thread_works_in_the_folder() {
    live(async {
        for round in 0..20 {
            let folder = Folder::new();
            let a = Node::open(folder.authority("a", 1), LONG).await;
            let mut freed = a.authority.clone().freed();
            let claim =
                AuthorityRequest::Claim { session: a.session, shards: shards("orders", 0..64), floor: Epoch(0) };
            // Both are begun, and the waiter gives up.
            let _ = (&mut freed).now_or_never();
            let _ = a.authority.clone().ask(claim).now_or_never();
            a.authority.clone().end().await;
            std::fs::remove_dir_all(&folder.0).unwrap();
            let is_freed = tokio::time::timeout(Duration::from_millis(60), freed).await.is_ok();
            assert!(!is_freed && !folder.0.path().exists(), "round {round}: it is not looked at any more");
        }
    });
}

#[test]
fn what_a_killed_process_has_is_free_at_once() {
    let folder = Folder::new();
    let mut killed = folder.process("killed", "1h");
    let epochs = killed.ask("claim orders 0 64");
    live(async {
        let a = Node::open(folder.authority("a", 1), LONG).await;
        let all = shards("orders", 0..64);
        assert!(a.claim(&all).await.iter().all(|claimed| matches!(claimed, Claimed::Held { by } if &**by == "killed")));
        let begun = Instant::now();
        killed.signal(Signal::SIGKILL);
        while matches!(a.claim(&all[..1]).await[..], [Claimed::Held { .. }]) {
            a.freed().await;
        }
        let granted = a.granted(&all).await;
        println!("64 shards of a killed process taken over after {:?}", begun.elapsed());
        assert!(begun.elapsed() < PATIENCE, "it had an hour");
        for (index, epoch) in granted.iter().enumerate() {
            assert!(epoch.0 > epochs[index].as_u64().unwrap());
        }
    });
}

#[test]
fn a_stopped_process_keeps_what_it_has_until_its_time_is_over() {
    let folder = Folder::new();
    let mut stopped = folder.process("stopped", "1s");
    stopped.ask("claim orders 0 1");
    live(async {
        let a = Node::open(folder.authority("a", 1), LONG).await;
        let shard = shards("orders", [0]);
        // For longer than a second it is renewed.
        for _ in 0..15 {
            assert!(matches!(a.claim(&shard).await[..], [Claimed::Held { .. }]));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // A renewal a moment ago, and the next one in a third of a second: it is stopped between
        // the two.
        stopped.wait("renew");
        let begun = Instant::now();
        stopped.signal(Signal::SIGSTOP);
        while matches!(a.claim(&shard).await[..], [Claimed::Held { .. }]) {
            a.freed().await;
        }
        let waited = begun.elapsed();
        println!("the shard of a stopped process with a ttl of 1s taken over after {waited:?}");
        assert!(waited > Duration::from_millis(500), "{waited:?}: it had been renewed a moment before");
        a.granted(&shard).await;
        stopped.signal(Signal::SIGCONT);
        while stopped.wait("renew")["answer"] != "Gone" {}
        assert!(matches!(a.claim(&shard).await[..], [Claimed::Granted(_)]));
    });
}

#[test]
fn of_many_processes_one_has_each_shard() {
    let folder = Folder::new();
    let mut processes: Vec<_> = (0..4).map(|node| folder.process(&format!("node-{node}"), "1h")).collect();
    for round in 0..8 {
        let command = format!("claim orders {} 64", round * 64);
        processes.iter_mut().for_each(|process| process.tell(&command));
        let answers: Vec<_> = processes.iter_mut().map(|process| process.wait("claim")["answer"].take()).collect();
        for index in 0..64 {
            let owners = answers.iter().filter(|answer| answer[index].is_u64());
            assert_eq!(owners.count(), 1, "owners of shard {index}: {answers:?}");
        }
    }
}

#[test]
fn numbers_go_on_over_a_restart_of_everything() {
    let folder = Folder::new();
    let mut highest = 0;
    for _ in 0..3 {
        let mut process = folder.process("a", "1h");
        let epoch = process.ask("claim orders 0 1")[0].as_u64().unwrap();
        assert!(epoch > highest, "{epoch} after {highest}");
        highest = epoch;
    }
    // Nothing is left of the sessions before.
    drop(folder.process("a", "1h"));
    assert_eq!(folder.file("sessions").read_dir().unwrap().count(), 1);
}

#[test]
fn a_process_stopped_while_it_holds_the_lock_is_named() {
    let folder = Folder::new();
    live(async {
        let a = Node::open(folder.authority("a", 1), LONG).await;
        a.granted(&shards("orders", [0])).await;
        let lock = File::open(folder.file("lock")).unwrap();
        lock.lock().unwrap();
        let begun = Instant::now();
        let refused = a.meanwhile(a.authority.clone().ask(heartbeat_actors::authority::AuthorityRequest::Claim {
            session: a.session,
            shards: shards("orders", [1]),
            floor: heartbeat_core::Epoch(0),
        }));
        let error = refused.await.unwrap_err().to_string();
        assert!(error.contains("has been locked for 2s") && error.contains(&std::process::id().to_string()), "{error}");
        assert!(begun.elapsed() < PATIENCE);
        let begun = Instant::now();
        a.renew().await;
        assert!(begun.elapsed() < Duration::from_secs(1), "a renewal waits for no other request");
        drop(lock);
        a.granted(&shards("orders", [1])).await;
    });
}

/// The error about a state that was changed by hand.
#[track_caller]
fn check(change: impl FnOnce(&Path), expected: &str) {
    let folder = Folder::new();
    drop(folder.authority("a", 1));
    let state = folder.file("state");
    change(&state);
    let spoilt = std::fs::read(&state).ok();
    let error = folder.error();
    assert!(error.contains(expected) && error.contains(folder.0.path().to_str().unwrap()), "{error}");
    assert_eq!(std::fs::read(&state).ok(), spoilt, "it is left as it was");
}

#[test]
fn a_damaged_missing_or_later_state_is_refused() {
    let write = |text: &'static str| move |state: &Path| std::fs::write(state, text).unwrap();
    check(|state| File::options().write(true).open(state).unwrap().set_len(60).unwrap(), "its checksum is wrong");
    check(write(""), "it does not begin with \"heartbeat authority \"");
    check(|state| std::fs::write(state, [0xff; 99]).unwrap(), "state cannot be read");
    check(write("heartbeat authority 2\n"), "it has version 2; this release reads 1");
    check(|state| std::fs::remove_file(state).unwrap(), "no file \"state\" any more");
}

#[test]
fn a_folder_that_is_none_is_named() {
    let folder = Folder::new();
    std::fs::write(folder.0.path().join("c"), "").unwrap();
    let error = folder.error();
    assert!(error.contains("c/sessions cannot be made"), "{error}");
}
