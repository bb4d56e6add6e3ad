//! Requests while a process joins, one leaves and one is killed: none is lost silently, and none is
//! handled twice.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use heartbeat_actors::shard::Shards;
use heartbeat_actors::{Config, Node, SendError};
use heartbeat_tests::process::ChildGuard;
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::note::{Note, SHARDS, Tally};
use crate::{PATIENCE, live, seeds};

/// Senders, each with one request under way at a time.
pub(crate) const SENDERS: u64 = 8;

fn config(node: &str, first: Option<&Node>) -> String {
    // A death by silence takes long, so that a busy machine causes none; the end of a process is
    // noticed by its connections.
    format!(
        "interval = '200ms'
         timeout = '10s'
         stall = '1s'
         [cluster]
         name = 'live'
         node = '{node}'
         role = 'worker'
         mode = 'random'
         listen = '127.0.0.1:0'
         seeds = {}",
        seeds(first)
    )
}

/// The numbers of the requests that were handled, by the process that did.
pub(crate) type Noted = Arc<Mutex<BTreeMap<String, Vec<u64>>>>;

/// A node in a process of its own. Dropping it kills it.
pub(crate) struct Process {
    child: ChildGuard,
    /// The events that it has printed.
    pub(crate) said: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
    _config: NamedTempFile,
}

impl Process {
    fn start(name: &'static str, first: &Node, noted: &Noted) -> Process {
        Process::start_with(Path::new(env!("CARGO_BIN_EXE_node")), &config(name, Some(first)), name, noted)
    }

    /// Starts this program with this config.
    pub(crate) fn start_with(program: &Path, config: &str, name: &'static str, noted: &Noted) -> Process {
        let file = NamedTempFile::with_prefix("heartbeat-moves-").unwrap();
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(program);
        command.arg(file.path()).arg("tally").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = ChildGuard::from(command.spawn().unwrap());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (noted, said) = (noted.clone(), Arc::<Mutex<Vec<Value>>>::default());
        let events = said.clone();
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
                if let Some(number) = value["noted"].as_u64() {
                    noted.lock().unwrap().entry(name.to_owned()).or_default().push(number);
                } else {
                    events.lock().unwrap().push(value);
                }
            }
        });
        Process { child, said, reader: Some(reader), _config: file }
    }

    /// Asks it to leave, by the end of its input. It is not waited for.
    pub(crate) fn leave(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Ends it with SIGKILL.
    fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Waits until it has ended and all its lines are read.
    pub(crate) fn finish(&mut self) {
        self.leave();
        self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
    }
}

/// What is done to the processes meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Phase {
    Graceful,
    Killed,
    Over,
}

/// What became of each request, with the phase in which it ended.
pub(crate) type Ended = Rc<RefCell<Vec<(u64, Phase, Result<u64, SendError>)>>>;

/// Sends requests one after the other until the phases are over.
pub(crate) async fn send(sender: u64, shards: Shards<Tally>, phase: Rc<Cell<Phase>>, ended: Ended) {
    let mut number = sender;
    while phase.get() < Phase::Over {
        let answer = shards.send(format!("key {}", number % 997), Note(number)).within(PATIENCE).await;
        ended.borrow_mut().push((number, phase.get(), answer));
        number += SENDERS;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until these members, and no other ones, own shards by this node's view, and each of the
/// shards answers.
pub(crate) async fn settled(node: &Node, shards: &Shards<Tally>, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|name| (*name).to_owned()).collect();
    let owners = || -> Option<BTreeSet<String>> {
        (0..SHARDS).map(|index| node.view().owner("tally", index).map(|(_, owner)| owner.to_string())).collect()
    };
    let settled = async {
        while owners().as_ref() != Some(&expected) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        shards.until_up().await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    tokio::time::timeout(PATIENCE, settled).await.unwrap_or_else(|_| panic!("owners are {:?}", owners()));
}

/// No number twice; all that were acknowledged, and none that was refused.
pub(crate) fn check(ended: &[(u64, Phase, Result<u64, SendError>)], noted: &BTreeMap<String, Vec<u64>>) {
    let mut handled = BTreeSet::new();
    for (process, numbers) in noted {
        for number in numbers {
            assert!(handled.insert(*number), "request {number} was handled twice, the second time by {process}");
        }
    }
    let mut numbers = BTreeSet::new();
    for (number, phase, answer) in ended {
        assert!(numbers.insert(*number), "request {number} ended twice");
        match answer {
            Ok(answer) => {
                assert_eq!(answer, number);
                assert!(handled.contains(number), "request {number} was acknowledged and not handled");
            }
            Err(error) => {
                assert!(*phase > Phase::Graceful, "request {number} failed while a process joined or left: {error}");
                assert!(!error.is_unhandled() || !handled.contains(number), "request {number}: {error}, and handled");
            }
        }
    }
    let unknown: Vec<&u64> = handled.difference(&numbers).collect();
    assert!(unknown.is_empty(), "handled, and never ended: {unknown:?}");
}

#[test]
fn a_join_a_leave_and_a_kill_lose_no_request_silently() {
    live(async {
        let noted = Noted::default();
        let node = Node::start(Config::from_toml(&config("sender", None)).unwrap()).await.unwrap();
        let here = noted.clone();
        let note = Arc::new(move |number| here.lock().unwrap().entry("sender".to_owned()).or_default().push(number));
        let shards = node.supervise_shards("tally", SHARDS, move |_| Ok(Tally { note: note.clone() })).unwrap();
        let shards = shards.accept::<Note>();
        let [mut a, mut b] = ["a", "b"].map(|name| Process::start(name, &node, &noted));
        settled(&node, &shards, &["a", "b", "sender"]).await;

        let (phase, ended) = (Rc::new(Cell::new(Phase::Graceful)), Ended::default());
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| actix_rt::spawn(send(sender, shards.clone(), phase.clone(), ended.clone())))
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut c = Process::start("c", &node, &noted);
        settled(&node, &shards, &["a", "b", "c", "sender"]).await;
        a.leave();
        settled(&node, &shards, &["b", "c", "sender"]).await;
        phase.set(Phase::Killed);
        b.kill();
        settled(&node, &shards, &["c", "sender"]).await;
        phase.set(Phase::Over);
        for sender in senders {
            tokio::time::timeout(PATIENCE, sender).await.expect("a request never ends").unwrap();
        }
        for process in [&mut a, &mut b, &mut c] {
            process.finish();
        }
        node.leave().await;

        let noted = noted.lock().unwrap();
        check(&ended.borrow(), &noted);
        for process in ["sender", "a", "b", "c"] {
            assert!(noted.get(process).is_some_and(|numbers| !numbers.is_empty()), "{process} handled no request");
        }
    });
}
