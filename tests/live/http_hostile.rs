//! Clients of the HTTP door that read slowly, say nothing, or come in crowds, and names that would
//! command a terminal or end a line.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use actix::prelude::*;
use heartbeat_actors::group::GroupSpec;
use heartbeat_actors::{Config, Context, Event, Node, Update, WorkerSpec};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::http::{Process, config, get, start, until, until_json};
use crate::{Events, PATIENCE, free, live};

/// Readers of the events at once; more are refused.
const READERS_MAX: usize = 64;

struct Idle;

impl Actor for Idle {
    type Context = Context<Self>;
}

/// Asks for the events on a connection with small buffers, and reads nothing.
async fn slow_reader(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: node\r\n\r\n").await.unwrap();
    stream
}

/// Reads until the text holds one of these parts, or the server closes; returns all of it.
async fn read_until(stream: &mut TcpStream, parts: &[&str]) -> String {
    let whole = async {
        let (mut text, mut buffer) = (String::new(), vec![0; 1 << 16]);
        while !parts.iter().any(|part| text.contains(part)) {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(read) => text.push_str(&String::from_utf8_lossy(&buffer[..read])),
            }
        }
        text
    };
    tokio::time::timeout(PATIENCE, whole).await.unwrap_or_else(|_| panic!("none of {parts:?} comes"))
}

/// The memory of a process that is resident, in bytes.
fn resident(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/statm")).unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// The number of the newest event, which `/metrics` counts.
async fn events(address: SocketAddr) -> u64 {
    let metrics = get(address, "/metrics").await.body;
    let counts = metrics.lines().filter_map(|line| line.strip_prefix("heartbeat_events_total{"));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// The settings of a node in a cluster of the tests. A new link is suspected after four intervals:
/// 2 s, more than a busy machine alone holds up a heartbeat.
fn member(node: &str, listen: SocketAddr, seeds: &str) -> String {
    format!(
        "interval = '500ms'
         timeout = '5s'
         [cluster]
         name = 'live'
         node = '{node}'
         role = 'worker'
         mode = 'random'
         listen = '{listen}'
         seeds = [{seeds}]"
    )
}

#[test]
fn a_thousand_slow_readers_are_bounded_dropped_and_told() {
    live(async {
        let seed = free();
        // This node watches the one with the readers.
        let watcher = Node::start(Config::from_toml(&member("watcher", seed, "")).unwrap()).await;
        let watcher = watcher.unwrap();
        let mut seen = Events::of(&watcher);
        let settings = member("read", free(), &format!("'{seed}'"));
        let process = Process::start("restless", &settings).await;
        let address = process.address;
        seen.wait("it joins", |event| {
            matches!(event, Event::Joined { member } if &*member.name == "read").then_some(())
        })
        .await;
        until(address, "/livez", 200).await;
        let before = resident(process.id());
        let mut readers = Vec::new();
        for _ in 0..1_000 {
            readers.push(slow_reader(address).await);
        }
        // More events than the backlog and the buffers of a reader hold: a socket of loopback
        // buffers up to 3 MB for it.
        let first = events(address).await;
        while events(address).await < first + 20_000 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(get(address, "/livez").await.status, 200);
        let more = resident(process.id()).saturating_sub(before);
        assert!(more < 64 << 20, "{more} bytes for readers that read nothing");
        let (mut reading, mut refused) = (0, 0);
        for reader in &mut readers {
            let head = read_until(reader, &["\r\n\r\n"]).await;
            let status: u16 = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
            match status {
                200 => {
                    reading += 1;
                    if reading == 1 {
                        let told = read_until(reader, &["event: missed\n"]).await;
                        assert!(told.contains("event: missed\n"), "the place of a reader is not another's yet");
                    }
                }
                503 => {
                    refused += 1;
                    assert!(head.to_ascii_lowercase().contains("retry-after: 10"), "{head}");
                }
                other => panic!("{other}: {head}"),
            }
        }
        assert_eq!((reading, refused), (READERS_MAX, 1_000 - READERS_MAX));
        drop(readers);
        while let Ok(update) = seen.0.try_recv() {
            let text = format!("{update:?}");
            let is_doubt =
                matches!(update, Update::Event(Event::Suspected { .. } | Event::Died { .. } | Event::Cleared { .. }));
            assert!(!is_doubt, "its heartbeats came all the time: {text}");
        }
        watcher.leave().await;
    });
}

#[test]
fn clients_that_say_nothing_or_little_are_ended() {
    live(async {
        let (node, address) = start(config("")).await;
        until(address, "/livez", 200).await;
        let mut slow = Vec::new();
        for number in 0..100_usize {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // Half of them say nothing at all, the others begin a head.
            let begun = if number % 2 == 0 { "" } else { "GET /livez HTTP/1.1\r\nHost: " };
            stream.write_all(begun.as_bytes()).await.unwrap();
            slow.push(stream);
        }
        assert_eq!(get(address, "/livez").await.status, 200, "they take no place from others");
        // One byte at a time does not make the time longer.
        let whole = async {
            while !slow.is_empty() {
                let mut left = Vec::new();
                for (number, mut stream) in slow.drain(..).enumerate() {
                    let is_open = number % 2 == 0 || stream.write_all(b"x").await.is_ok();
                    let mut buffer = [0; 256];
                    match stream.try_read(&mut buffer) {
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && is_open => left.push(stream),
                        // The last words of the server: 408, if it has any.
                        Ok(read) if read > 0 => left.push(stream),
                        Ok(_) | Err(_) => {}
                    }
                }
                slow = left;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE, whole).await.expect("the server ends each of them");
        assert_eq!(get(address, "/livez").await.status, 200);
        node.leave().await;
    });
}

/// A crowd that takes all places of the door is gone after the time for a head.
#[test]
fn a_crowd_that_takes_all_places_loses_them() {
    live(async {
        let (node, address) = start(config("")).await;
        let mut crowd = Vec::new();
        for _ in 0..400 {
            crowd.push(TcpStream::connect(address).await.unwrap());
        }
        assert_eq!(get(address, "/livez").await.status, 200);
        drop(crowd);
        node.leave().await;
    });
}

/// A name of 64 bytes, the most: quotes, a line break, markup, a terminal's commands, and letters
/// of several bytes.
fn name(first: char) -> String {
    name_of(first, 64)
}

fn name_of(first: char, bytes: usize) -> String {
    let mut name = format!("{first}\"'\\\n}} <b>\u{1b}[2J\u{9b}31m\u{7}\u{202e}&amp;");
    while name.len() + 'ü'.len_utf8() <= bytes {
        name.push('ü');
    }
    name
}

#[test]
fn names_of_any_characters_are_told_exactly_and_escaped() {
    live(async {
        let quoted =
            |text: &str| serde_json::to_string(text).unwrap().replace('\u{9b}', "\\u009b").replace('\u{7f}', "\\u007f");
        let cluster = |node: &str, listen: SocketAddr, seeds: &str| {
            config(&format!(
                "interval = '100ms'
                 timeout = '5s'
                 [cluster]
                 name = {}
                 node = {}
                 zone = {}
                 role = 'worker'
                 mode = 'random'
                 listen = '{listen}'
                 seeds = [{seeds}]
                 [cluster.metadata]
                 {} = {}",
                quoted(&name('c')),
                quoted(node),
                quoted(&name('z')),
                quoted("key \n\u{1b}"),
                quoted(&name('m')),
            ))
        };
        let seed = free();
        let (one, address) = start(cluster(&name('1'), seed, "")).await;
        let two = Node::start(cluster(&name('2'), free(), &format!("'{seed}'"))).await.unwrap();
        let group = one.root().group(GroupSpec::new(name('g'))).unwrap();
        group.supervise_with(WorkerSpec::new(name('w')), |_| Ok(Idle)).unwrap().until_up().await.unwrap();
        one.supervise_shards(&name_of('s', 60), 2, |_| Ok(Idle)).unwrap();
        let count = |members: &Value| members["members"].as_array().is_some_and(|members| members.len() == 2);
        let members = until_json(address, "/members", count).await;
        let other = members["members"].as_array().unwrap().iter().find(|member| member["name"] == name('2')).unwrap();
        assert_eq!((&other["zone"], &members["cluster"]), (&Value::from(name('z')), &Value::from(name('c'))));
        let metadata: BTreeMap<String, String> = serde_json::from_value(other["metadata"].clone()).unwrap();
        assert_eq!(metadata["key \n\u{1b}"], name('m'));
        let encoded: String = name('2').bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert_eq!(get(address, &format!("/members/{encoded}")).await.json()["name"], name('2'));
        let workers = get(address, "/workers").await.json();
        let worker = workers["workers"].as_array().unwrap().iter().find(|worker| worker["name"] == name('w')).unwrap();
        assert_eq!(worker["group"], name('g'));
        assert_eq!(get(address, "/groups").await.json()["groups"][0]["name"], name('g'));
        for path in ["/summary", "/links", "/requests", "/threads", "/shards", "/config"] {
            get(address, path).await.json();
        }
        // No line of the metrics begins with a part of a name. OpenMetrics escapes line breaks,
        // quotes and backslashes, and no other character.
        let metrics = get(address, "/metrics").await.body;
        for line in metrics.lines() {
            assert!(line.starts_with("# ") || line.starts_with("heartbeat_"), "{line:?}");
        }
        // A name with a line break makes no second line of its event.
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: node\r\n\r\n").await.unwrap();
        let text = read_until(&mut stream, &["\"event\":\"joined\""]).await;
        let joined = text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .find_map(|data| serde_json::from_str::<Value>(data).ok().filter(|event| event["event"] == "joined"));
        assert!(joined.is_some(), "{text}");
        two.leave().await;
        one.leave().await;
    });
}
