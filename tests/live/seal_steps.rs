//! The steps of the chapter "Sealed traffic", each with real processes: sealing is turned on, the
//! key is replaced, a node comes back with the old key, and sealing is turned off.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::http::{Process, get};
use crate::seal::{KeyFiles, key};
use crate::{PATIENCE, free, live};

/// Three nodes, each a process with an HTTP door.
struct Cluster {
    ports: BTreeMap<&'static str, SocketAddr>,
    running: BTreeMap<&'static str, Process>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl Cluster {
    fn new() -> Cluster {
        Cluster { ports: NAMES.map(|name| (name, free())).into(), running: BTreeMap::new() }
    }

    /// Starts a node with this table of a seal, after an orderly end of its former process.
    async fn restart(&mut self, name: &'static str, seal: &str) {
        if let Some(mut process) = self.running.remove(name) {
            process.signal(Signal::SIGTERM);
            assert_eq!(process.code().await, 0, "{name} leaves");
        }
        let seeds: Vec<String> = self.ports.values().map(SocketAddr::to_string).collect();
        let settings = format!(
            "interval = '200ms'
             timeout = '4s'
             [detector]
             kind = 'fixed'
             suspect_after = '2s'
             [cluster]
             name = 'live'
             node = '{name}'
             role = 'worker'
             mode = 'random'
             listen = '{}'
             seeds = {seeds:?}
             {seal}",
            self.ports[name]
        );
        let process = Process::start("plain", &settings).await;
        self.running.insert(name, process);
    }

    /// Restarts all nodes with this table, one after the other, each once all are members again.
    async fn roll(&mut self, step: &str, seal: &str) {
        for name in NAMES {
            self.restart(name, seal).await;
            self.until(&format!("{step}: {name} is back"), |members| alive(members) == NAMES.len()).await;
        }
    }

    /// Waits until what every node says of the members holds.
    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let wait = async {
            loop {
                let mut all = true;
                for process in self.running.values() {
                    all &= holds(&get(process.address, "/members").await.json());
                }
                if all {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            for process in self.running.values() {
                eprintln!("{}", get(process.address, "/members").await.body);
            }
            panic!("waited in vain for: {what}");
        }
    }

    /// Waits until all members use the key that this node prefers.
    async fn until_sealed(&self, step: &str) {
        self.until(&format!("{step}: one key everywhere"), |members| {
            let keys = members["seals"]["keys"].as_str().unwrap_or_default();
            let others = members["seals"]["members"].as_array().cloned().unwrap_or_default();
            let first = keys.split(',').next().unwrap_or_default();
            others.len() == NAMES.len() - 1 && others.iter().all(|member| member["used"] == first)
        })
        .await;
    }

    /// How often this node has refused datagrams for this reason.
    async fn refused(&self, name: &str, reason: &str) -> u64 {
        let text = get(self.running[name].address, "/metrics").await.body;
        let line = format!("heartbeat_seal_refused_total{{reason=\"{reason}\"}} ");
        text.lines().find_map(|found| found.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
    }
}

fn alive(members: &Value) -> usize {
    let members = members["members"].as_array().cloned().unwrap_or_default();
    members.iter().filter(|member| member["status"] == "alive").count()
}

#[test]
fn sealing_is_turned_on_and_off_in_a_running_cluster() {
    live(async {
        let mut cluster = Cluster::new();
        let sealed = format!("[cluster.seal]\nkeys = ['{}']", key('a'));
        let both = format!("{sealed}\naccept_plain = true");
        for name in NAMES {
            cluster.restart(name, "").await;
        }
        cluster.until("all are plain members", |members| alive(members) == 3).await;
        cluster.roll("accept both", &both).await;
        cluster.until_sealed("accept both").await;
        cluster.roll("sealed alone", &sealed).await;
        cluster.until_sealed("sealed alone").await;
        assert_eq!(cluster.refused("c", "plain").await, 0, "no member sent plain traffic any more");
        cluster.roll("accept both again", &both).await;
        cluster.roll("plain again", "").await;
    });
}

#[test]
fn a_key_is_replaced_and_a_node_that_was_away_is_refused() {
    live(async {
        let files = KeyFiles::new();
        let (old, new, spare) = (key('a'), key('b'), key('c'));
        let seal = format!("[cluster.seal]\nkeys = ['{}', '{}']", files.path("first"), files.path("second"));
        files.write("first", &old);
        files.write("second", &spare);
        let mut cluster = Cluster::new();
        for name in NAMES {
            cluster.restart(name, &seal).await;
        }
        cluster.until_sealed("the old key").await;
        let ids = |members: &Value| members["seals"]["keys"].as_str().unwrap_or_default().to_owned();
        let former = ids(&get(cluster.running["a"].address, "/members").await.json());
        // One node is away while the others replace the key.
        let mut away = cluster.running.remove("c").unwrap();
        away.signal(Signal::SIGTERM);
        assert_eq!(away.code().await, 0);
        files.write("second", &new);
        cluster.until("both have the new key", |members| ids(members) != former).await;
        files.write("first", &new);
        files.write("second", &spare);
        let spare_id = former.split(',').nth(1).unwrap();
        let is_over = |members: &Value| ids(members).ends_with(spare_id) && ids(members).matches(',').count() == 1;
        cluster.until("the old key is forgotten", is_over).await;
        cluster.restart("c", &format!("[cluster.seal]\nkeys = ['{old}']")).await;
        let refused = async {
            while cluster.refused("a", "unknown_key").await + cluster.refused("b", "unknown_key").await == 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, refused).await.expect("the old key is refused");
        let seen = get(cluster.running["a"].address, "/members").await.json();
        assert_eq!(alive(&seen), 2, "{seen}");
        cluster.restart("c", &seal).await;
        cluster.until("the node is back with the new key", |members| alive(members) == 3).await;
        cluster.until_sealed("the new key").await;
    });
}
