//! Nodes whose traffic is sealed, over real sockets.

use std::time::Duration;

use heartbeat_actors::seal::{KeyId, Removal, SealError};
use heartbeat_actors::{Event, Node};
use tempfile::TempDir;

use crate::requests::{Say, all_up, keys, start_with};
use crate::{Events, PATIENCE, live};

/// The digits of a key.
pub(crate) fn key(digit: char) -> String {
    String::from(digit).repeat(64)
}

/// The table of a seal with these keys.
fn sealed(keys: &[&str]) -> String {
    format!("[cluster.seal]\nkeys = {keys:?}\n")
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            actix_rt::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited for {what}"));
}

fn members(node: &Node) -> usize {
    node.view().members().iter().filter(|member| member.status.is_member()).count()
}

#[test]
fn sealed_nodes_answer_each_other_and_no_other_node() {
    live(async {
        let seal = sealed(&[&key('a')]);
        let (a, on_a) = start_with("a", None, &seal).await;
        let (b, on_b) = start_with("b", Some(&a), &seal).await;
        all_up(&[&on_a, &on_b]).await;
        // Large and small ones, at both nodes, from both.
        for (index, key) in keys(&on_a).into_iter().enumerate() {
            let payload = vec![index as u8; if index % 4 == 0 { 1 << 20 } else { 10 }];
            let (_, by_a) = on_a.send(&key, Say(payload.clone())).await.unwrap();
            let (_, by_b) = on_b.send(&key, Say(payload.clone())).await.unwrap();
            assert!(by_a == payload && by_b == payload);
        }
        let (plain, _) = start_with("plain", Some(&a), "").await;
        let (other, _) = start_with("other", Some(&a), &sealed(&[&key('c')])).await;
        until("both to be refused", || a.seal_counts().plain_refused > 0 && a.seal_counts().unknown_key > 0).await;
        assert_eq!([members(&a), members(&b)], [2, 2]);
        let seen = a.seals();
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert!(&*seen[0].name == "b" && seen[0].can_open && seen[0].used == Some(seen[0].keys[0]), "{seen:?}");
        for node in [plain, other, b, a] {
            node.leave().await;
        }
    });
}

/// Files with keys, in a folder of their own.
pub(crate) struct KeyFiles(TempDir);

impl KeyFiles {
    pub(crate) fn new() -> KeyFiles {
        KeyFiles(TempDir::with_prefix("heartbeat-keys-").unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> String {
        format!("file:{}", self.0.path().join(name).display())
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }
}

/// The keys that a node has, as the other one sees it.
fn keys_of(seen_by: &Node) -> Vec<KeyId> {
    seen_by.seals().first().map_or_else(Vec::new, |seal| seal.keys.clone())
}

#[test]
fn keys_are_replaced_under_requests_without_a_loss() {
    live(async {
        let files = KeyFiles::new();
        let (old, new) = (key('a'), key('b'));
        files.write("first", &old);
        files.write("second", &old.replace('a', "0"));
        let seal = sealed(&[&files.path("first"), &files.path("second")]);
        let (a, on_a) = start_with("a", None, &seal).await;
        let (b, on_b) = start_with("b", Some(&a), &seal).await;
        let mut events = [Events::of(&a), Events::of(&b)];
        all_up(&[&on_a, &on_b]).await;
        let former = keys_of(&a);
        let keys = keys(&on_a);
        let ask = async || {
            for key in &keys {
                on_a.send(key, Say(vec![1])).await.unwrap();
                on_b.send(key, Say(vec![1])).await.unwrap();
            }
        };
        ask().await;
        // The new key is second at first, so that both nodes have it before one seals with it.
        files.write("second", &new);
        until("both to have the new key", || [&a, &b].iter().all(|node| keys_of(node).get(1) != former.get(1))).await;
        ask().await;
        // A damaged file changes nothing.
        files.write("first", "not a key");
        let error = a.reload_keys(Removal::WhenUnused).unwrap_err();
        assert!(error.to_string().contains("has 9 characters; use 64"), "{error}");
        ask().await;
        files.write("first", &new);
        files.write("second", &old);
        let first = keys_of(&a)[1];
        until("both to seal with it", || [&a, &b].iter().all(|node| keys_of(node)[0] == first)).await;
        until("a datagram under it", || [&a, &b].iter().all(|node| node.seals()[0].used == Some(first))).await;
        ask().await;
        files.write("second", &key('c'));
        until("both to forget the old key", || [&a, &b].iter().all(|node| !keys_of(node).contains(&former[0]))).await;
        ask().await;
        for events in &mut events {
            let bad = |event: &Event| matches!(event, Event::Suspected { .. } | Event::DeclaredDead { .. });
            let seen = events.take();
            assert!(!seen.iter().any(bad), "{seen:?}");
        }
        b.leave().await;
        a.leave().await;
    });
}

#[test]
fn a_key_that_a_member_needs_is_kept_until_it_is_forced() {
    live(async {
        let files = KeyFiles::new();
        files.write("key", &key('a'));
        let (a, _) = start_with("a", None, &sealed(&[&files.path("key")])).await;
        let (b, _) = start_with("b", Some(&a), &sealed(&[&key('a')])).await;
        until("both to be members", || members(&a) == 2 && keys_of(&a).len() == 1).await;
        files.write("key", &key('b'));
        let error = a.reload_keys(Removal::WhenUnused).unwrap_err();
        assert!(matches!(&error, SealError::InUse(_, members) if *members[0] == *"b"), "{error}");
        until("the other node to learn of it", || keys_of(&b).len() == 2).await;
        assert_eq!(members(&a), 2);
        assert!(a.reload_keys(Removal::Force).unwrap());
        until("the node that was cut off to be refused", || a.seal_counts().unknown_key > 0).await;
        b.leave().await;
        a.leave().await;
    });
}

#[test]
fn keys_that_cannot_be_used_are_named() {
    live(async {
        let files = KeyFiles::new();
        files.write("empty", "");
        files.write("short", "abc");
        let missing = files.path("missing");
        for (keys, expected) in [
            (vec![missing.as_str()], "cannot be read (No such file"),
            (vec![files.path("empty").as_str()], "has 0 characters; use 64 hexadecimal digits"),
            (vec![files.path("short").as_str()], "has 3 characters; use 64 hexadecimal digits"),
            (vec!["env:HEARTBEAT_NO_SUCH_KEY"], "the variable HEARTBEAT_NO_SUCH_KEY of cluster.seal.keys is not set"),
            (vec![key('a').as_str(), key('A').as_str()], "is twice in cluster.seal.keys"),
        ] {
            let config = format!(
                "[cluster]\nname = 'live'\nnode = 'a'\nrole = 'worker'\nmode = 'random'\nlisten = '127.0.0.1:0'\nseeds = []\n{}",
                sealed(&keys)
            );
            let error =
                Node::start(heartbeat_actors::Config::from_toml(&config).unwrap()).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    });
}
