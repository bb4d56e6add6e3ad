//! Nodes together: in one process over a network in memory, and as processes that are killed,
//! frozen and left to return.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context as Task, Poll};
use std::time::{Duration, Instant};

use heartbeat_actors::shard::{GROUPS_MAX, NoOwner, Owner};
use heartbeat_actors::transport::{Batch, MemoryNetwork, Transport};
use heartbeat_actors::{Config, Event, Node, StartInfo, Update};
use heartbeat_core::Trace;
use heartbeat_tests::process::ChildGuard;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

use crate::worker::{Add, Subject};
use crate::{Events, PATIENCE, free, live};

const SETTINGS: &str = "interval = '200ms'
timeout = '2s'
stall = '500ms'
[detector]
kind = 'fixed'
suspect_after = '1s'
[membership]
lifelines = false
";

fn config(node: &str, role: &str, listen: SocketAddr, monitor: SocketAddr) -> String {
    format!(
        "{SETTINGS}[cluster]\nname = 'live'\nnode = '{node}'\nrole = '{role}'\nmode = 'central'\nlisten = '{listen}'\nseeds = ['{monitor}']\n"
    )
}

#[test]
fn nodes_of_one_process_share_the_shards_and_hand_them_on() {
    live(async {
        let network = MemoryNetwork::new();
        let monitor = start_in(&network, "monitor", "monitor", 1).await;
        let (a, b) = (start_in(&network, "a", "worker", 2).await, start_in(&network, "b", "worker", 3).await);
        let groups: Vec<_> =
            [&a, &b].map(|node| node.supervise_shards("orders", 16, |_| Ok(Subject::default())).unwrap()).into();
        // Each shard answers on the node that both name as its owner, and is refused by the other
        // one.
        for index in 0..16 {
            let owner = loop {
                match (a.view().owner("orders", index), b.view().owner("orders", index)) {
                    (Some((_, by_a)), Some((_, by_b))) if by_a == by_b => break by_a,
                    _ => tokio::task::yield_now().await,
                }
            };
            let (here, there) = if &*owner == "a" { (0, 1) } else { (1, 0) };
            while groups[here].worker(index).send(Add(1)).await.is_err() {
                tokio::task::yield_now().await;
            }
            assert!(groups[there].worker(index).send(Add(1)).await.is_err());
        }
        until_equal(&[&monitor, &a, &b]).await;
        while owners(&a) != owners(&b) {
            tokio::task::yield_now().await;
        }
        let epochs: Vec<_> = (0..16).map(|index| b.view().owner("orders", index).unwrap()).collect();
        a.leave().await;
        for (index, (before, owner)) in (0..).zip(epochs) {
            while groups[1].worker(index).send(Add(1)).await.is_err() {
                tokio::task::yield_now().await;
            }
            let (after, _) = b.view().owner("orders", index).unwrap();
            assert!(after.epoch > before.epoch || &*owner == "b", "a shard that moved has a higher epoch");
        }
        until_equal(&[&monitor, &b]).await;
        assert!(!monitor.view().is_member("a") && monitor.view().is_member("b"));
        b.leave().await;
        monitor.leave().await;
    });
}

/// Which of these nodes are named as responsible for each of the keys, once all say the same.
async fn responsible(nodes: &[&Node], namespace: &str) -> Vec<String> {
    let ask = |node: &Node, key: u32| match node.owner(namespace, key.to_be_bytes()) {
        Ok(Owner::Here(())) => Some(node.config().cluster.as_ref().unwrap().node.clone()),
        Ok(Owner::There(member)) => Some(member.name.to_string()),
        Err(_) => None,
    };
    let all = |node: &Node| (0..100).map(|key| ask(node, key)).collect::<Option<Vec<_>>>();
    loop {
        if let Some(named) = all(nodes[0])
            && nodes.iter().all(|node| all(node).as_ref() == Some(&named))
        {
            return named;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn all_nodes_name_the_same_one_as_responsible_for_a_key() {
    live(async {
        let network = MemoryNetwork::new();
        let monitor = start_in(&network, "monitor", "monitor", 1).await;
        assert_eq!(monitor.owner("users", "ada"), Err(NoOwner::Unknown), "monitors run nothing");
        let (a, b) = (start_in(&network, "a", "worker", 2).await, start_in(&network, "b", "worker", 3).await);
        until_equal(&[&monitor, &a, &b]).await;
        let by_all = responsible(&[&monitor, &a, &b], "users").await;
        let of_a = by_all.iter().filter(|owner| *owner == "a").count();
        assert!((20..80).contains(&of_a) && by_all.iter().all(|owner| owner == "a" || owner == "b"), "{by_all:?}");
        // What a member says of itself comes with it, also what it says later.
        a.set_metadata([("http".to_owned(), "8080".to_owned())].into()).await.unwrap();
        let key = by_all.iter().position(|owner| owner == "a").unwrap() as u32;
        loop {
            let Ok(Owner::There(member)) = b.owner("users", key.to_be_bytes()) else { panic!("it is a's") };
            assert_eq!(Some(member.address), a.address());
            if member.metadata.get("http").is_some_and(|port| port == "8080") {
                break;
            }
            tokio::task::yield_now().await;
        }
        a.leave().await;
        let after = responsible(&[&monitor, &b], "users").await;
        assert!(after.iter().all(|owner| owner == "b"));
        b.leave().await;
        monitor.leave().await;
    });
}

#[test]
fn a_key_of_a_sharded_group_leads_to_the_worker_of_its_shard() {
    live(async {
        let network = MemoryNetwork::new();
        let monitor = start_in(&network, "monitor", "monitor", 1).await;
        let (a, b) = (start_in(&network, "a", "worker", 2).await, start_in(&network, "b", "worker", 3).await);
        let group = |node: &Node| node.supervise_shards("orders", 16, |_| Ok(Subject::default())).unwrap();
        let (at_a, at_b) = (group(&a), group(&b));
        until_equal(&[&a, &b]).await;
        let named = responsible(&[&a, &b], "orders").await;
        for (key, owner) in (0_u32..).zip(named) {
            let key = key.to_be_bytes();
            let index = at_a.shard_of(key);
            assert_eq!(at_b.shard_of(key), index);
            let (here, there) = if owner == "a" { (&at_a, &at_b) } else { (&at_b, &at_a) };
            assert!(matches!(there.owner(key), Ok(Owner::There(member)) if *member.name == *owner));
            let Ok(Owner::Here(worker)) = here.owner(key) else { panic!("{owner} owns it") };
            while worker.send(Add(1)).await.is_err() {
                tokio::task::yield_now().await; // The news are there before the worker.
            }
            assert_eq!(worker.name(), here.worker(index).name());
        }
        for node in [a, b, monitor] {
            node.leave().await;
        }
    });
}

#[test]
fn only_nodes_that_supervise_a_group_own_its_shards() {
    live(async {
        let network = MemoryNetwork::new();
        let monitor = start_in(&network, "monitor", "monitor", 1).await;
        let (a, b) = (start_in(&network, "a", "worker", 2).await, start_in(&network, "b", "worker", 3).await);
        let door = start_in(&network, "door", "worker", 4).await;
        let at_a = a.supervise_shards("orders", 16, |_| Ok(Subject::default())).unwrap();
        for named in responsible(&[&a, &b, &door, &monitor], "orders").await {
            assert_eq!(named, "a", "only a supervises it");
        }
        // Another number of shards is refused as long as a node with the first number is there.
        let mut events = Events::of(&b);
        let at_b = b.supervise_shards("orders", 32, |_| Ok(Subject::default())).unwrap();
        let refused = events.wait("a refusal", |event| match event {
            Event::ShardsRefused { group, count, in_force, by } => Some((group.clone(), *count, *in_force, by.clone())),
            _ => None,
        });
        assert_eq!(refused.await, ("orders".into(), 32, 16, "a".into()));
        until_equal(&[&a, &b, &door, &monitor]).await;
        assert_eq!(at_b.owner("ada").unwrap_err(), NoOwner::ShardsRefused { here: 32, in_force: 16 });
        for key in 0..100_u32 {
            assert!(matches!(at_a.owner(key.to_le_bytes()), Ok(Owner::Here(_))));
            assert!(
                matches!(door.owner("orders", key.to_le_bytes()), Ok(Owner::There(member)) if &*member.name == "a")
            );
        }
        a.leave().await;
        events.wait("leave", |event| matches!(event, Event::ShardsAdmitted { count: 32, .. }).then_some(())).await;
        for named in responsible(&[&b, &door, &monitor], "orders").await {
            assert_eq!(named, "b");
        }
        for number in 1..GROUPS_MAX {
            door.supervise_shards(&format!("group-{number}"), 1, |_| Ok(Subject::default())).unwrap();
        }
        door.supervise_shards("the last", 1, |_| Ok(Subject::default())).unwrap();
        let error = door.supervise_shards("one more", 1, |_| Ok(Subject::default())).unwrap_err().to_string();
        assert_eq!(error, "\"one more\" is one sharded group too many; use at most 16 in a cluster");
        for node in [b, door, monitor] {
            node.leave().await;
        }
    });
}

/// Starts a node of a cluster in memory; the monitor has port 1.
async fn start_in(network: &MemoryNetwork, name: &str, role: &str, port: u16) -> Node {
    let address = |port| SocketAddr::from(([10, 0, 0, 1], port));
    let config = Config::from_toml(&config(name, role, address(port), address(1))).unwrap();
    let network = network.clone();
    let bind = move || Ok(Some(Rc::new(network.bind(address(port))?) as Rc<dyn Transport>));
    Node::start_on(config, bind).await.unwrap()
}

#[test]
fn a_node_is_joined_once_it_has_been_let_in() {
    live(async {
        let network = MemoryNetwork::new();
        let a = start_in(&network, "a", "worker", 2).await;
        assert!(!a.is_joined(), "its seed is not there yet");
        let shards = a.supervise_shards("orders", 4, |_| Ok(Subject::default())).unwrap();
        let monitor = start_in(&network, "monitor", "monitor", 1).await;
        monitor.until_joined().await.unwrap();
        a.until_joined().await.unwrap();
        assert!(a.is_joined() && a.view().is_member("monitor"));
        shards.until_up().await.unwrap();
        assert!(shards.workers().iter().all(|worker| worker.status().is_up));
        a.leave().await;
        assert!(a.until_joined().await.is_err() && shards.until_up().await.is_err());
        monitor.leave().await;
    });
}

/// A node whose cluster has room for two, with all three as its seeds.
async fn start_of_two(network: &MemoryNetwork, name: &str, port: u16) -> Node {
    let listen = SocketAddr::from(([10, 0, 0, 1], port));
    let config = format!(
        "interval = '100ms'\ntimeout = '1s'\nstall = '500ms'\nmembership.members_max = 2
         [cluster]\nname = 'live'\nnode = '{name}'\nrole = 'worker'\nmode = 'random'\nlisten = '{listen}'
         seeds = ['10.0.0.1:1', '10.0.0.1:2', '10.0.0.1:3']"
    );
    let (config, network) = (Config::from_toml(&config).unwrap(), network.clone());
    let open = move || Ok(Some(Rc::new(network.bind(listen)?) as Rc<dyn Transport>));
    Node::start_on(config, open).await.unwrap()
}

#[test]
fn a_node_that_is_refused_founds_no_cluster_of_its_own() {
    live(async {
        let network = MemoryNetwork::new();
        let (a, b) = (start_of_two(&network, "a", 1).await, start_of_two(&network, "b", 2).await);
        while a.view().members().len() < 2 || b.view().members().len() < 2 {
            tokio::task::yield_now().await;
        }
        let mut events = Events::of(&a);
        let c = start_of_two(&network, "c", 3).await;
        let mut told = Events::of(&c);
        let group = c.supervise_shards("orders", 16, |_| Ok(Subject::default())).unwrap();
        told.wait("c learns of it", |event| matches!(event, Event::RefusedBy { .. }).then_some(())).await;
        events.wait("a publishes it", |event| matches!(event, Event::JoinRefused { .. }).then_some(())).await;
        // It would have founded after two intervals.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!((0..16).all(|index| !group.worker(index).status().is_up));
        assert!(!a.view().is_member("c") && !b.view().is_member("c"));
    });
}

/// A node that gives a worker up after two failures in a row.
async fn start_impatient(network: &MemoryNetwork, name: &str, port: u16) -> Node {
    let listen = SocketAddr::from(([10, 0, 0, 1], port));
    let config = format!(
        "interval = '100ms'\ntimeout = '1s'\nstall = '500ms'
         restart = {{ intensity = 1, period = '30s', delay_min = '1ms', delay_max = '1ms' }}
         [cluster]\nname = 'live'\nnode = '{name}'\nrole = 'worker'\nmode = 'random'\nlisten = '{listen}'\nseeds = ['10.0.0.1:1']"
    );
    let (config, network) = (Config::from_toml(&config).unwrap(), network.clone());
    let open = move || Ok(Some(Rc::new(network.bind(listen)?) as Rc<dyn Transport>));
    Node::start_on(config, open).await.unwrap()
}

/// One node runs the even shards only, the other one the odd ones.
#[test]
fn all_shards_run_where_each_node_can_run_half_of_them() {
    live(async {
        let network = MemoryNetwork::new();
        let nodes = [start_impatient(&network, "even", 1).await, start_impatient(&network, "odd", 2).await];
        let mut events = Events::of(&nodes[0]);
        let groups: Vec<_> = [0, 1]
            .map(|rest| {
                let open = move |start_info: &StartInfo| match start_info.shard {
                    Some(shard) if shard.index % 2 == rest => Ok(Subject::default()),
                    _ => Err("it cannot be read here".into()),
                };
                nodes[rest as usize].supervise_shards("orders", 64, open).unwrap()
            })
            .into();
        events
            .wait("it publishes it", |event| matches!(event, Event::Declined { declined: 1.., .. }).then_some(()))
            .await;
        let begun = Instant::now();
        let runs = |index: u32| groups[index as usize % 2].worker(index).status().is_up;
        while let Some(index) = (0..64).find(|&index| !runs(index)) {
            assert!(begun.elapsed() < Duration::from_secs(30), "shard {index} runs nowhere");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

/// Nodes that think each other gone soon forget them.
async fn start_forgetful(network: &MemoryNetwork, name: &str, port: u16) -> Node {
    let listen = SocketAddr::from(([10, 0, 0, 1], port));
    let config = format!(
        "interval = '100ms'\ntimeout = '1s'\nstall = '500ms'\nmembership.forget_after = '2s'\nmembership.retry_for = '1s'
         [cluster]\nname = 'live'\nnode = '{name}'\nrole = 'worker'\nmode = 'random'\nlisten = '{listen}'\nseeds = ['10.0.0.1:1']"
    );
    let (config, network) = (Config::from_toml(&config).unwrap(), network.clone());
    let open = move || Ok(Some(Rc::new(network.bind(listen)?) as Rc<dyn Transport>));
    Node::start_on(config, open).await.unwrap()
}

#[test]
fn the_view_forgets_what_the_table_has_forgotten() {
    live(async {
        let network = MemoryNetwork::new();
        let (a, _b) = (start_forgetful(&network, "a", 1).await, start_forgetful(&network, "b", 2).await);
        let mut events = Events::of(&a);
        let c = start_forgetful(&network, "c", 3).await;
        let joined = |event: &Event| matches!(event, Event::Joined { member } if &*member.name == "c").then_some(());
        events.wait("c joins", joined).await;
        c.leave().await;
        let forgotten = |event: &Event| matches!(event, Event::Forgotten { node } if &**node == "c").then_some(());
        events.wait("c is forgotten", forgotten).await;
        assert_eq!(a.view().member("c"), None);
        assert_eq!(a.view().members().len(), 2);
    });
}

/// The traces in a folder; one that is still being written has none yet.
fn traces(folder: &Path) -> Vec<Trace> {
    let files = std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    files.filter_map(|file| Trace::from_text(&std::fs::read_to_string(file).unwrap()).ok()).collect()
}

#[test]
fn a_node_records_what_it_hears_and_others_follow_its_interval() {
    let parent = TempDir::with_prefix("heartbeat-record-").unwrap();
    let folder = parent.path().join("made");
    live(async {
        let network = MemoryNetwork::new();
        let monitor = start_in(&network, "monitor", "monitor", 1).await;
        monitor.record(&folder).unwrap();
        let a = start_in(&network, "a", "worker", 2).await;
        until_equal(&[&monitor, &a]).await;
        let heard = |trace: &Trace| trace.beats.iter().filter(|beat| beat.arrived.is_some()).count();
        while !traces(&folder).iter().any(|trace| heard(trace) > 1) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let refused = a.set_interval(Duration::from_secs(60)).await.unwrap_err().to_string();
        assert!(refused.contains("timeout 2s is not longer than interval 1m"), "{refused}");
        a.set_interval(Duration::from_millis(50)).await.unwrap();
        let interval = Duration::from_millis(50);
        while !traces(&folder).iter().any(|trace| trace.intervals.last().unwrap().1 == interval && heard(trace) > 20) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(monitor.view().is_member("a"));
        a.leave().await;
        monitor.leave().await;
    });
    let traces = traces(&folder);
    assert_eq!(traces.len(), 1, "one process was received");
    assert_eq!(traces[0].intervals[0].1, Duration::from_millis(200));
}

#[test]
fn a_folder_that_cannot_be_recorded_into_is_an_error() {
    live(async {
        let network = MemoryNetwork::new();
        let monitor = start_in(&network, "monitor", "monitor", 1).await;
        let file = NamedTempFile::with_prefix("heartbeat-no-folder-").unwrap();
        assert!(monitor.record(&file).is_err());
        monitor.leave().await;
    });
}

/// Waits until these nodes see the same members.
async fn until_equal(nodes: &[&Node]) {
    let differ = || nodes.windows(2).any(|pair| pair[0].view().members() != pair[1].view().members());
    let equal = async {
        while differ() {
            tokio::task::yield_now().await;
        }
    };
    if tokio::time::timeout(PATIENCE, equal).await.is_err() {
        panic!("views stay different: {:#?}", nodes.iter().map(|node| node.view().members()).collect::<Vec<_>>());
    }
}

/// Who owns which shard, as this node sees it.
fn owners(node: &Node) -> Vec<Option<Arc<str>>> {
    (0..16).map(|index| node.view().owner("orders", index).map(|(_, owner)| owner)).collect()
}

/// Processes of one test, with what they say. Dropping it ends them, the stopped ones too.
struct Processes {
    children: BTreeMap<String, ChildGuard>,
    folder: TempDir,
    monitor: SocketAddr,
    lines: mpsc::Receiver<(String, Value)>,
    sender: mpsc::Sender<(String, Value)>,
    said: Vec<(String, Value)>,
}

impl Processes {
    /// A monitor and three nodes that know each other.
    fn start() -> Processes {
        let folder = TempDir::with_prefix("heartbeat-live-").unwrap();
        let monitor = free();
        let (sender, lines) = mpsc::channel();
        let mut processes = Processes { children: BTreeMap::new(), folder, monitor, lines, sender, said: Vec::new() };
        processes.start_one("monitor", "monitor", monitor);
        // A subscription shows later events only, so no node joins before it.
        processes.wait("monitor", "started", |_| true);
        for name in ["a", "b", "c"] {
            processes.start_one(name, "worker", "127.0.0.1:0".parse().unwrap());
        }
        for name in ["a", "b", "c"] {
            processes.wait("monitor", "joined", |event| event["member"]["name"] == name);
        }
        processes.wait_for_shards(8);
        processes
    }

    fn start_one(&mut self, name: &str, role: &str, listen: SocketAddr) {
        let path = self.folder.path().join(format!("{name}.toml"));
        std::fs::write(&path, config(name, role, listen, self.monitor)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_node"))
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map(ChildGuard::from)
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        self.children.insert(name.to_owned(), child);
        let (sender, name) = (self.sender.clone(), name.to_owned());
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send((name.clone(), serde_json::from_str(&line).unwrap())); // The test may be over.
            }
        });
    }

    fn signal(&self, name: &str, signal: Signal) {
        kill(Pid::from_raw(self.children[name].id() as i32), signal).unwrap();
    }

    /// Waits until `process` has said an event of this kind that matches, from its first line on.
    fn wait(&mut self, process: &str, kind: &str, matches: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let found =
                self.said.iter().find(|(name, event)| name == process && event["event"] == kind && matches(event));
            if let Some((_, event)) = found {
                return event.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.said.push(line),
                Err(_) => panic!("waited in vain for {process} to say {kind}; said so far: {:#?}", self.said),
            }
        }
    }

    /// Waits until this many shards have started in all.
    fn wait_for_shards(&mut self, count: usize) {
        let end = Instant::now() + PATIENCE;
        while self.starts().count() < count {
            let left = end.saturating_duration_since(Instant::now());
            self.said.push(self.lines.recv_timeout(left).expect("shards do not start"));
        }
    }

    /// Starts of shards: process, index, epoch.
    fn starts(&self) -> impl Iterator<Item = (&str, u64, u64)> {
        let start = |(process, event): &'_ (String, Value)| {
            let shard = event["shard"].as_object().filter(|_| event["event"] == "started")?;
            Some((process.clone(), shard["index"].as_u64()?, shard["epoch"].as_u64()?))
        };
        self.said.iter().filter_map(move |line| {
            let (_, index, epoch) = start(line)?;
            Some((line.0.as_str(), index, epoch))
        })
    }

    /// Collects the updates of a while.
    fn listen(&mut self, duration: Duration) {
        let end = Instant::now() + duration;
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.said.push(line);
        }
    }

    /// Names of the nodes that any process has concluded dead.
    fn dead(&self) -> Vec<&str> {
        let mut dead: Vec<&str> = self
            .said
            .iter()
            .filter(|(_, event)| event["event"] == "died")
            .filter_map(|(_, event)| event["node"].as_str())
            .collect();
        dead.sort_unstable();
        dead.dedup();
        dead
    }

    fn has_failed_workers(&self) -> bool {
        self.said.iter().any(|(_, event)| event["event"] == "failed")
    }
}

#[test]
fn a_killed_process_is_suspected_then_dead_and_its_shards_move() {
    let mut processes = Processes::start();
    let held: Vec<(u64, u64)> =
        processes.starts().filter(|start| start.0 == "a").map(|start| (start.1, start.2)).collect();
    let before = processes.starts().count();
    let killed = Instant::now();
    processes.signal("a", Signal::SIGKILL);
    processes.wait("monitor", "suspected", |event| event["node"] == "a");
    processes.wait("monitor", "died", |event| event["node"] == "a");
    assert!(killed.elapsed() > Duration::from_secs(1), "no verdict before its time");
    for name in ["b", "c"] {
        processes.wait(name, "died", |event| event["node"] == "a");
    }
    processes.wait_for_shards(before + held.len());
    for (index, epoch) in held {
        let moved = processes.starts().filter(|start| start.1 == index).max_by_key(|start| start.2).unwrap();
        assert!(moved.0 != "a" && moved.2 > epoch, "shard {index} under a higher epoch elsewhere");
    }
    assert_eq!(processes.dead(), ["a"]);
    assert!(!processes.has_failed_workers());
}

#[test]
fn a_frozen_process_dies_returns_and_blames_nobody() {
    let mut processes = Processes::start();
    processes.signal("a", Signal::SIGSTOP);
    processes.wait("monitor", "died", |event| event["node"] == "a");
    processes.signal("a", Signal::SIGCONT);
    let returned = processes.wait("monitor", "returned", |event| event["node"] == "a");
    assert!(returned["incarnation"]["returns"].as_u64().unwrap() >= 1);
    processes.wait("a", "declared_dead", |_| true);
    processes.wait("a", "paused", |_| true);
    processes.listen(Duration::from_secs(3));
    assert_eq!(processes.dead(), ["a"], "no other node was declared dead by any node");
    assert!(!processes.has_failed_workers(), "no worker was blamed for the pause");
}

#[test]
fn a_frozen_monitor_blames_nobody() {
    let mut processes = Processes::start();
    processes.signal("monitor", Signal::SIGSTOP);
    processes.wait("a", "isolated", |_| true);
    processes.listen(Duration::from_secs(2));
    processes.signal("monitor", Signal::SIGCONT);
    let paused = processes.wait("monitor", "paused", |event| event["late_by"].as_f64() > Some(2.0));
    processes.listen(Duration::from_secs(3));
    // That it is silent itself may well be seen: each node probes another one now and then.
    let is_false = |event: &Value| event["event"] == "suspected" && event["node"] != "monitor";
    let suspected = processes.said.iter().find(|(_, event)| is_false(event));
    assert_eq!(suspected, None, "{paused} says whose silence it was");
    assert_eq!(processes.dead(), [] as [&str; 0]);
    assert!(!processes.has_failed_workers());
}

/// Collects the updates of a while and asserts that none is a verdict on a node.
async fn receives_no_verdict(events: &mut Events, time: Duration) {
    let end = tokio::time::Instant::now() + time;
    while let Ok(update) = tokio::time::timeout_at(end, events.next()).await {
        let is_verdict = matches!(&update, Update::Event(Event::Suspected { .. } | Event::Died { .. }));
        assert!(!is_verdict, "{update:?}");
    }
}

/// Holds the control thread of a node on demand: its transport takes long to look.
struct Heavy {
    transport: Rc<dyn Transport>,
    is_heavy: Arc<AtomicBool>,
}

impl Transport for Heavy {
    fn address(&self) -> SocketAddr {
        self.transport.address()
    }

    fn send(&self, to: SocketAddr, datagram: &[u8]) -> std::io::Result<()> {
        self.transport.send(to, datagram)
    }

    fn poll_receive(&self, task: &mut Task<'_>, batch: &mut Batch) -> Poll<std::io::Result<()>> {
        if self.is_heavy.swap(false, Ordering::Relaxed) {
            std::thread::sleep(Duration::from_secs(3));
        }
        self.transport.poll_receive(task, batch)
    }
}

#[test]
fn a_monitor_whose_control_thread_was_held_blames_nobody() {
    live(async {
        let is_heavy = Arc::new(AtomicBool::new(false));
        let told = is_heavy.clone();
        let network = MemoryNetwork::new();
        let address = SocketAddr::from(([10, 0, 0, 1], 1));
        let settings = Config::from_toml(&config("monitor", "monitor", address, address)).unwrap();
        let net = network.clone();
        let bind = move || {
            let transport: Rc<dyn Transport> = Rc::new(net.bind(address)?);
            Ok(Some(Rc::new(Heavy { transport, is_heavy }) as Rc<dyn Transport>))
        };
        let monitor = Node::start_on(settings, bind).await.unwrap();
        let mut events = Events::of(&monitor);
        let others = [start_in(&network, "a", "worker", 2).await, start_in(&network, "b", "worker", 3).await];
        for _ in &others {
            events.wait("a member", |event| matches!(event, Event::Joined { .. }).then_some(())).await;
        }
        for _ in 0..2 {
            receives_no_verdict(&mut events, Duration::from_secs(1)).await;
            told.store(true, Ordering::Relaxed);
            let is_pause =
                |event: &Event| matches!(event, Event::Paused { late_by } if *late_by > Duration::from_secs(2));
            let mut verdicts = 0;
            let paused = events.wait("a pause", |event| {
                verdicts += usize::from(matches!(event, Event::Suspected { .. } | Event::Died { .. }));
                is_pause(event).then_some(())
            });
            paused.await;
            assert_eq!(verdicts, 0);
            receives_no_verdict(&mut events, Duration::from_secs(2)).await;
        }
        for node in others {
            node.leave().await;
        }
        monitor.leave().await;
    });
}

#[test]
fn a_process_that_is_told_to_end_says_goodbye() {
    let mut processes = Processes::start();
    drop(processes.children.get_mut("a").unwrap().stdin.take());
    processes.wait("monitor", "left", |event| event["node"] == "a");
    assert_eq!(processes.dead(), [] as [&str; 0]);
}

#[test]
fn a_signal_during_the_start_leaves_no_member_behind() {
    let mut processes = Processes::start();
    for (number, delay) in (0..).zip([0, 2, 5, 10, 20, 40]) {
        let name = format!("late-{number}");
        processes.start_one(&name, "worker", "127.0.0.1:0".parse().unwrap());
        std::thread::sleep(Duration::from_millis(delay));
        // Not SIGINT: a process in the background of a shell inherits to ignore it.
        processes.signal(&name, Signal::SIGTERM);
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = processes.children.get_mut(&name).unwrap().try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < end, "{name} does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        // The first ones are interrupted before they can do anything about it.
        assert!(status.success() || status.signal() == Some(Signal::SIGTERM as i32), "{status}");
    }
    // Longer than a verdict of death takes: a node that had joined has said goodbye.
    processes.listen(Duration::from_secs(3));
    assert_eq!(processes.dead(), [] as [&str; 0]);
}

#[test]
fn a_node_by_itself_has_all_shards_and_no_members() {
    live(async {
        let node = Node::start(Config::default()).await.unwrap();
        let mut events = Events::of(&node);
        let shards = node.supervise_shards("orders", 4, |start_info| {
            assert!(start_info.shard.is_some());
            Ok(Subject::default())
        });
        let shards = shards.unwrap();
        events
            .wait("a shard", |event| {
                matches!(event, heartbeat_actors::Event::Started { shard: Some(_), .. }).then_some(())
            })
            .await;
        for worker in shards.workers() {
            while worker.send(Add(1)).await.is_err() {
                tokio::task::yield_now().await;
            }
        }
        assert!(node.view().members().is_empty());
        node.leave().await;
    });
}
