//! The HTTP door over real sockets, and bytes that are no HTTP.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use heartbeat_actors::group::GroupSpec;
use heartbeat_actors::{Config, Context, Node, NodeError, StopReason, WorkerSpec};
use heartbeat_tests::process::ChildGuard;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{MEANT, PATIENCE, free, live};

const TOKEN: &str = "0123456789abcdef";

struct Holder;

impl Actor for Holder {
    type Context = Context<Self>;
}

/// Holds the worker's thread until its other side is dropped.
#[derive(Message)]
#[rtype(result = "()")]
struct Hold(mpsc::Receiver<()>);

impl Handler<Hold> for Holder {
    type Result = ();

    fn handle(&mut self, hold: Hold, _: &mut Context<Self>) {
        let _ = hold.0.recv_timeout(PATIENCE); // It ends with the other side.
    }
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends these bytes and reads until the server closes.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> Answer {
    let whole = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await; // A reset ends it, too.
        String::from_utf8_lossy(&answer).into_owned()
    };
    let text = tokio::time::timeout(PATIENCE, whole).await.expect("the server answers");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Asks for a path, with more lines of the head.
pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str, more: &str) -> Answer {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n{more}\r\n");
    let mut answer = exchange(address, head.as_bytes()).await;
    if answer.head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        answer.body = unchunked(&answer.body);
    }
    answer
}

/// The content of a chunked body.
fn unchunked(mut body: &str) -> String {
    let mut content = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        content.push_str(&rest[..length]);
        body = rest[length..].strip_prefix("\r\n").unwrap_or_default();
    }
    content
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, "").await
}

pub(crate) fn config(more: &str) -> Config {
    Config::from_toml(&format!("{more}\n[http]\nlisten = '127.0.0.1:0'")).unwrap()
}

pub(crate) async fn start(config: Config) -> (Node, SocketAddr) {
    let node = Node::start(config).await.unwrap();
    let address = node.http_address().unwrap();
    (node, address)
}

/// Asks for a path until its status is this one.
pub(crate) async fn until(address: SocketAddr, path: &str, status: u16) -> Answer {
    let whole = async {
        loop {
            let answer = get(address, path).await;
            if answer.status == status {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, whole).await.unwrap_or_else(|_| panic!("{path} is not {status}"))
}

#[test]
fn a_node_in_order_is_live_ready_and_started() {
    live(async {
        let (node, address) = start(config("")).await;
        node.supervise("holder", || Holder).unwrap().until_up().await.unwrap();
        for path in ["/livez", "/readyz", "/startupz"] {
            let answer = until(address, path, 200).await;
            assert_eq!(answer.body, "ok\n");
            let verbose = get(address, &format!("{path}?verbose")).await;
            assert!(verbose.body.lines().count() >= 2 && verbose.body.starts_with("ok "), "{verbose:?}");
            let head = ask(address, "HEAD", path, "").await;
            assert_eq!((head.status, &*head.body), (200, ""));
            assert_eq!(ask(address, "POST", path, "").await.status, 405);
        }
        node.leave().await;
        assert!(TcpStream::connect(address).await.is_err(), "the port is free once the node has left");
    });
}

#[test]
fn a_held_worker_is_named_with_its_message() {
    live(async {
        let (node, address) = start(config("")).await;
        let holder = node.supervise("holder", || Holder).unwrap();
        holder.until_up().await.unwrap();
        let (end, held) = mpsc::channel();
        holder.try_send(Hold(held)).unwrap();
        let whole = async {
            loop {
                let workers = get(address, "/workers?busy_for=0.1").await.json();
                if let Some(worker) = workers["workers"].get(0) {
                    return worker.clone();
                }
            }
        };
        let worker = tokio::time::timeout(PATIENCE, whole).await.unwrap();
        assert_eq!(worker["name"], "holder");
        assert!(worker["doing"].as_str().unwrap().contains("Hold"), "{worker}");
        assert!(worker["busy_for"].as_f64().unwrap() >= 0.1);
        assert_eq!((&worker["state"], &worker["queued"]), (&Value::from("up"), &Value::from(1)));
        // Every worker thread may be held: the door answers all the same.
        assert_eq!(get(address, "/livez").await.status, 200);
        drop(end);
        node.leave().await;
    });
}

#[test]
fn a_group_that_does_not_run_makes_the_node_unready() {
    live(async {
        let (node, address) = start(config("")).await;
        let group = node.root().group(GroupSpec::new("mail \"room\"")).unwrap();
        let spec = WorkerSpec::new("holder");
        group.supervise_with(spec, |_| Ok(Holder)).unwrap().until_up().await.unwrap();
        until(address, "/readyz", 200).await;
        group.stop();
        let answer = until(address, "/readyz", 503).await;
        assert!(answer.body.contains("mail \\\"room\\\""), "{answer:?}");
        assert_eq!(get(address, "/livez").await.status, 200, "restarting the process would not help");
        let tree = get(address, "/groups").await.json();
        assert_eq!(tree["groups"][0]["name"], "mail \"room\"");
        assert_eq!(tree["groups"][0]["is_running"], false);
        node.leave().await;
    });
}

#[test]
fn events_come_in_order_and_go_on_behind_the_last_id() {
    live(async {
        let (node, address) = start(config("")).await;
        for name in ["first", "second", "third"] {
            node.supervise(name, || Holder).unwrap().until_up().await.unwrap();
        }
        let (names, ids) = read_starts(address, "", 3).await;
        assert_eq!(names, ["first", "second", "third"]);
        node.supervise("fourth", || Holder).unwrap().until_up().await.unwrap();
        let (names, _) = read_starts(address, &format!("Last-Event-ID: {}\r\n", ids[1]), 2).await;
        assert_eq!(names, ["third", "fourth"]);
        // An id of an earlier process: from the oldest on.
        let (names, _) = read_starts(address, "Last-Event-ID: 7.3\r\n", 4).await;
        assert_eq!(names.len(), 4);
        let nonsense = ask(address, "GET", "/events", "Last-Event-ID: yesterday\r\n").await;
        assert_eq!(nonsense.status, 400);
        assert!(nonsense.body.contains("yesterday"), "{nonsense:?}");
        node.leave().await;
    });
}

/// The names of the first `count` workers that started, and the ids of these events. A busy machine
/// adds events of its own.
async fn read_starts(address: SocketAddr, more: &str, count: usize) -> (Vec<String>, Vec<String>) {
    let whole = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET /events HTTP/1.1\r\nHost: node\r\n{more}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut text, mut buffer) = (String::new(), vec![0; 4096]);
        loop {
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "the stream goes on: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
            let mut id = "";
            let mut starts = Vec::new();
            for line in text.lines() {
                if let Some(found) = line.strip_prefix("id: ") {
                    id = found;
                } else if let Some(data) = line.strip_prefix("data: ")
                    && let Ok(event) = serde_json::from_str::<Value>(data)
                    && event["event"] == "started"
                {
                    starts.push((event["worker"].as_str().unwrap().to_owned(), id.to_owned()));
                }
            }
            if starts.len() >= count {
                return starts.into_iter().take(count).unzip();
            }
        }
    };
    tokio::time::timeout(PATIENCE, whole).await.expect("the events come")
}

#[test]
fn metrics_name_kinds_and_never_workers() {
    live(async {
        let (node, address) = start(config("metrics.histograms = true")).await;
        let worker = node.supervise("only \"one\"\n\\", || Holder).unwrap();
        worker.until_up().await.unwrap();
        let (end, held) = mpsc::channel();
        drop(end);
        worker.send(Hold(held)).await.unwrap();
        let metrics = get(address, "/metrics").await;
        assert_eq!(metrics.status, 200);
        assert!(metrics.head.contains("application/openmetrics-text"), "{metrics:?}");
        let kind = std::any::type_name::<Holder>();
        for line in [
            format!("heartbeat_workers{{kind=\"{kind}\",state=\"up\"}} 1"),
            format!("heartbeat_messages_total{{kind=\"{kind}\",outcome=\"handled\"}} 1"),
            format!("heartbeat_mailbox_wait_seconds_count{{kind=\"{kind}\"}} 1"),
            format!("heartbeat_handling_seconds_bucket{{le=\"+Inf\",kind=\"{kind}\"}} 1"),
            "heartbeat_live 1".to_owned(),
            "heartbeat_events_total{event=\"started\"} 1".to_owned(),
            "heartbeat_threads{state=\"abandoned\"} 0".to_owned(),
            "heartbeat_thread_run_seconds_total ".to_owned(),
            "# EOF".to_owned(),
        ] {
            assert!(metrics.body.lines().any(|found| found.starts_with(&line)), "{line} in {}", metrics.body);
        }
        assert!(!metrics.body.contains("only"), "{}", metrics.body);
        worker.remove();
        let whole = async {
            while !get(address, "/metrics").await.body.contains("outcome=\"handled\"} 1") || worker.status().is_up {}
        };
        tokio::time::timeout(PATIENCE, whole).await.expect("what was handled stays counted");
        node.leave().await;
    });
}

#[test]
fn a_token_is_asked_for_except_by_health() {
    live(async {
        let more = format!("listen = '127.0.0.1:0'\ntoken = '{TOKEN}'");
        let (node, address) = start(Config::from_toml(&format!("[http]\n{more}")).unwrap()).await;
        for path in ["/livez", "/readyz", "/startupz"] {
            until(address, path, 200).await;
        }
        let paths = [
            "/summary",
            "/members",
            "/members/local",
            "/links",
            "/links/local",
            "/workers",
            "/groups",
            "/threads",
            "/shards",
            "/requests",
            "/config",
            "/events",
            "/metrics",
        ];
        for path in paths {
            let refused = get(address, path).await;
            assert_eq!(refused.status, 401, "{path}: {refused:?}");
            for wrong in ["Bearer ", "Bearer 0123456789abcdeX", "Basic MDEy", "bearer", TOKEN] {
                let refused = ask(address, "GET", path, &format!("Authorization: {wrong}\r\n")).await;
                assert_eq!(refused.status, 401, "{path} with {wrong:?}");
            }
        }
        let allowed = format!("Authorization: Bearer {TOKEN}\r\n");
        let shown = ask(address, "GET", "/config", &allowed).await;
        assert_eq!(shown.json()["http"]["token"], "hidden");
        assert!(!format!("{:?}", node.config()).contains(TOKEN));
        assert_eq!(ask(address, "GET", "/members/local", &allowed).await.status, 404);
        node.leave().await;
    });
}

#[test]
fn the_page_runs_one_script_and_holds_no_figures() {
    live(async {
        let more = format!("listen = '127.0.0.1:0'\ntoken = '{TOKEN}'");
        let (node, address) = start(Config::from_toml(&format!("[http]\n{more}")).unwrap()).await;
        node.supervise("only here", || Holder).unwrap().until_up().await.unwrap();
        let mut nonces = std::collections::BTreeSet::new();
        for path in ["/", "/dashboard"] {
            let page = get(address, path).await;
            assert_eq!(page.status, 200, "it asks for the token by itself");
            let head = page.head.to_ascii_lowercase();
            let policy = head.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap();
            assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
            let nonce = policy.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned();
            assert_eq!(page.body.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "a style and a script");
            assert!(!page.body.contains("only here"), "{}", page.body);
            nonces.insert(nonce);
            assert_eq!(ask(address, "HEAD", path, "").await.body, "");
            assert_eq!(ask(address, "POST", path, "").await.status, 405);
        }
        assert_eq!(nonces.len(), 2, "each response has its own");
        node.leave().await;
    });
}

#[test]
fn nonsense_gets_an_error_and_the_door_stays_open() {
    live(async {
        let (node, address) = start(config("")).await;
        let name = |length: usize| "x".repeat(length);
        for (path, status, told) in [
            ("/workers?state=asleep", 400, "\\\"asleep\\\""),
            ("/workers?limit=0", 400, "limit 0 is out of range"),
            ("/workers?limit=many", 400, "limit"),
            ("/workers?busy_for=-1", 400, "busy_for -1"),
            ("/workers?colour=red", 400, "colour"),
            ("/workers?sort=colour", 400, "\\\"colour\\\" is none; use one of name, queued"),
            ("/workers?sort=queued&after=x", 400, "order of names"),
            ("/links/none", 404, "\\\"none\\\""),
            ("/members/%FF%FE", 404, ""),
            ("/members/none", 404, "\\\"none\\\""),
            ("/nothing", 404, ""),
            (&format!("/members/{}", name(3_000)), 404, ""),
        ] {
            let answer = get(address, path).await;
            assert_eq!(answer.status, status, "{path}: {answer:?}");
            assert!(answer.body.contains(told), "{path}: {answer:?}");
        }
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            assert!([404, 405].contains(&ask(address, method, "/workers", "").await.status), "{method}");
        }
        for bytes in [&b"\x16\x03\x01\x02\x00"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", &[b'\n'; 1 << 16]] {
            assert!([0, 400, 404, 408].contains(&exchange(address, bytes).await.status));
        }
        // One huge header, a thousand of them, and a path that is one.
        let many: String = (0..1_000).map(|number| format!("X-{number}: {}\r\n", name(100))).collect();
        for more in [format!("X: {}\r\n", name(1 << 20)), many] {
            let huge = ask(address, "GET", "/livez", &more).await;
            assert_ne!(huge.status, 200);
        }
        assert_ne!(get(address, &format!("/livez?{}", name(1 << 20))).await.status, 200);
        assert_eq!(get(address, "/livez").await.status, 200);
        node.leave().await;
    });
}

#[test]
fn workers_come_page_by_page_in_the_order_of_names() {
    live(async {
        let (node, address) = start(config("")).await;
        for number in 0..25 {
            node.supervise(&format!("worker {number:02}"), || Holder).unwrap();
        }
        let (mut names, mut after) = (Vec::new(), String::new());
        loop {
            let page = get(address, &format!("/workers?limit=10{after}")).await.json();
            let workers = page["workers"].as_array().unwrap();
            names.extend(workers.iter().map(|worker| worker["name"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={}", next.replace(' ', "%20")),
                None => break,
            }
        }
        let expected: Vec<String> = (0..25).map(|number| format!("worker {number:02}")).collect();
        assert_eq!(names, expected);
        let prefixed = get(address, "/workers?prefix=worker%200").await.json();
        assert_eq!(prefixed["workers"].as_array().unwrap().len(), 10);
        node.leave().await;
    });
}

/// Asks for a path until its answer is as wanted.
pub(crate) async fn until_json(address: SocketAddr, path: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let whole = async {
        loop {
            let answer = get(address, path).await.json();
            if is_wanted(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, whole).await.unwrap_or_else(|_| panic!("{path} is never as wanted"))
}

#[derive(Message)]
#[rtype(result = "()")]
struct Fail;

impl Handler<Fail> for Holder {
    type Result = ();

    fn handle(&mut self, _: Fail, _: &mut Context<Self>) {
        panic!("{MEANT} fail");
    }
}

#[test]
fn the_summary_names_what_is_stuck_full_and_in_trouble() {
    live(async {
        let (node, address) = start(config("restart.intensity = 0\nworkers.timeout = '1m'")).await;
        let spec = WorkerSpec::new("holder").capacity(4);
        let holder = node.supervise_with(spec, |_| Ok(Holder)).unwrap();
        node.supervise("idle", || Holder).unwrap().until_up().await.unwrap();
        holder.until_up().await.unwrap();
        // Before a worker holds the thread that they may share.
        let failing = node.supervise("failing", || Holder).unwrap();
        assert!(failing.send(Fail).await.is_err());
        let (ends, helds): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::channel::<()>()).unzip();
        helds.into_iter().for_each(|held| holder.try_send(Hold(held)).unwrap());
        let wanted = |summary: &Value| {
            let workers = &summary["workers"];
            workers["busiest"][0]["name"] == "holder" && workers["troubled"][0]["state"] == "given_up"
        };
        let summary = until_json(address, "/summary", wanted).await;
        let workers = &summary["workers"];
        assert!(workers["busiest"][0]["doing"].as_str().unwrap().contains("Hold"), "{workers}");
        assert_eq!((&workers["fullest"][0]["name"], &workers["fullest"][0]["queued"]), (&"holder".into(), &3.into()));
        assert_eq!(workers["fullest"].as_array().unwrap().len(), 1, "empty queues are left out");
        assert_eq!(workers["troubled"][0]["name"], "failing");
        assert_eq!((&workers["count"], &workers["states"]["up"]), (&3.into(), &2.into()));
        assert!(summary["live"].as_array().unwrap().iter().all(|check| check["holds"] == true), "{summary}");
        let sorted = get(address, "/workers?sort=fullness").await.json();
        assert_eq!((&sorted["workers"][0]["name"], &sorted["next"]), (&"holder".into(), &Value::Null));
        let threads = get(address, "/threads").await.json();
        let users = threads["threads"].as_array().unwrap().iter().map(|thread| thread["workers"].as_u64().unwrap());
        assert_eq!(users.sum::<u64>(), 2, "{threads}");
        drop(ends);
        node.leave().await;
    });
}

#[test]
fn a_group_shows_its_restarts_against_its_limits() {
    live(async {
        let (node, address) = start(config("")).await;
        let group = node.root().group(GroupSpec::new("mail")).unwrap();
        let worker = group.supervise_with(WorkerSpec::new("holder"), |_| Ok(Holder)).unwrap();
        worker.until_up().await.unwrap();
        assert!(worker.send(Fail).await.is_err());
        let tree = until_json(address, "/groups", |tree| tree["groups"][0]["restarts"] == 1).await;
        let mail = &tree["groups"][0];
        let restart = &node.config().restart;
        assert_eq!(mail["intensity"], restart.intensity);
        assert_eq!(mail["period"], restart.period.as_secs_f64());
        assert_eq!((&mail["strategy"], &mail["counting"]), (&"one_for_one".into(), &"together".into()));
        assert_eq!((&tree["counting"], &tree["restarts"]), (&"each".into(), &0.into()));
        assert_eq!(tree["all_workers"]["up"], 1);
        node.leave().await;
    });
}

#[test]
fn a_link_shows_when_each_verdict_comes_and_why() {
    live(async {
        let settings = |node: &str, listen: SocketAddr, seeds: &str| {
            config(&format!(
                "interval = '100ms'
                 timeout = '2s'
                 [cluster]
                 name = 'live'
                 node = '{node}'
                 role = 'worker'
                 mode = 'random'
                 listen = '{listen}'
                 seeds = [{seeds}]"
            ))
        };
        let seed = free();
        let (one, address) = start(settings("one", seed, "")).await;
        let two = Node::start(settings("two", free(), &format!("'{seed}'"))).await.unwrap();
        let learnt = |links: &Value| links["links"][0]["budget"]["heartbeats"].as_u64().is_some_and(|count| count > 5);
        let links = until_json(address, "/links", learnt).await;
        let link = &links["links"][0];
        assert_eq!((&link["name"], &link["verdict"]), (&"two".into(), &"alive".into()));
        let after = |key: &str| link[key].as_f64().unwrap();
        assert!(after("expected_after") < after("suspected_after"), "{link}");
        assert!((2.0 - after("dead_after")).abs() < 1e-9, "{link}");
        assert_eq!(link["observers"], serde_json::json!(["one"]));
        let curve = get(address, "/links/two").await.json();
        let phi: Vec<f64> = curve["curve"].as_array().unwrap().iter().map(|point| point[1].as_f64().unwrap()).collect();
        assert!(phi.len() > 100 && phi.is_sorted() && phi[phi.len() - 1] > 0.0, "{phi:?}");
        let metrics = get(address, "/metrics").await.body;
        for line in [
            "heartbeat_links{verdict=\"alive\"} 1",
            "heartbeat_links_overspent 0",
            "heartbeat_requests_total{outcome=\"handled\"} 0",
            "heartbeat_requests_held 0",
        ] {
            assert!(metrics.lines().any(|found| found.starts_with(line)), "{line} in {metrics}");
        }
        let requests = until_json(address, "/requests", |requests| requests["peers"][0]["name"] == "two").await;
        assert_eq!((&requests["requests"]["sent"], &requests["peers"][0]["under_way"]), (&0.into(), &0.into()));
        two.leave().await;
        one.leave().await;
    });
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_left_running() {
    live(async {
        let taken = free();
        let holder = std::net::TcpListener::bind(taken).unwrap();
        let config = || Config::from_toml(&format!("[http]\nlisten = '{taken}'")).unwrap();
        let error = Node::start(config()).await.unwrap_err();
        assert!(matches!(error, NodeError::Http(address, _) if address == taken), "{error}");
        assert!(error.to_string().contains("is in use by another process"), "{error}");
        drop(holder);
        let node = Node::start(config()).await.unwrap();
        node.leave().await;
    });
}

#[test]
fn two_nodes_of_one_process_have_doors_of_their_own() {
    live(async {
        let (one, first) = start(config("metrics.histograms = true")).await;
        let (two, second) = start(config("metrics.histograms = true")).await;
        one.supervise("only here", || Holder).unwrap().until_up().await.unwrap();
        let count = |answer: Answer| answer.json()["workers"].as_array().unwrap().len();
        assert_eq!(count(get(first, "/workers").await), 1);
        assert_eq!(count(get(second, "/workers").await), 0);
        let of_kind = format!("kind=\"{}\"", std::any::type_name::<Holder>());
        assert!(get(first, "/metrics").await.body.contains(&of_kind));
        assert!(!get(second, "/metrics").await.body.contains(&of_kind), "its own kinds only");
        one.leave().await;
        assert_eq!(get(second, "/livez").await.status, 200);
        two.leave().await;
    });
}

/// A node in a process of its own, which ends with the test.
pub(crate) struct Process {
    child: ChildGuard,
    pub(crate) address: SocketAddr,
}

impl Process {
    pub(crate) async fn start(mode: &str, settings: &str) -> Process {
        let config = NamedTempFile::with_prefix("heartbeat-http-").unwrap();
        let address = free();
        std::fs::write(&config, format!("{settings}\n[http]\nlisten = '{address}'")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
        command.arg(config.path()).arg(mode).stdin(Stdio::piped()).stdout(Stdio::null());
        let process = Process { child: command.spawn().unwrap().into(), address };
        let listens = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // By then it has read its config.
        tokio::time::timeout(PATIENCE, listens).await.expect("the process listens");
        process
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for its end; the code is that of a shell if a signal ended it.
    pub(crate) async fn code(&mut self) -> i32 {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            }
            assert!(begun.elapsed() < PATIENCE, "the process does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[test]
fn a_held_control_thread_is_found_and_told() {
    live(async {
        let settings = "interval = '100ms'
             timeout = '1s'
             [cluster]
             name = 'live'
             node = 'held'
             role = 'worker'
             mode = 'random'
             listen = '127.0.0.1:0'
             seeds = []";
        let process = Process::start("sticky", settings).await;
        until(process.address, "/livez", 200).await;
        // The thread is held for four times the timeout, so this comes while it is.
        let answer = until(process.address, "/livez", 503).await;
        assert!(answer.body.contains("supervisor"), "{answer:?}");
        // What only the control thread knows is left out; the rest is there.
        let members = get(process.address, "/members").await;
        assert_eq!((members.status, &members.json()["health"]), (200, &Value::Null));
        assert!(get(process.address, "/metrics").await.body.contains("heartbeat_live 0"));
        until(process.address, "/livez", 200).await;
    });
}

#[test]
fn a_signal_ends_a_node_in_order_and_a_second_at_once() {
    live(async {
        let mut process = Process::start("stopped", "[stop]\ndrain = '1s'").await;
        until(process.address, "/readyz", 200).await;
        process.signal(Signal::SIGTERM);
        let answer = until(process.address, "/readyz", 503).await;
        assert!(answer.body.contains("about to stop"), "{answer:?}");
        assert_eq!(get(process.address, "/livez").await.status, 200, "it serves on while it drains");
        assert_eq!(process.code().await, 0);
        let mut process = Process::start("stopped", "[stop]\ndrain = '10m'").await;
        until(process.address, "/readyz", 200).await;
        process.signal(Signal::SIGTERM);
        until(process.address, "/readyz", 503).await;
        process.signal(Signal::SIGINT);
        assert_eq!(process.code().await, 130);
    });
}

#[test]
fn a_node_that_is_asked_to_stop_says_why_it_ended() {
    live(async {
        let node = Node::start(config("")).await.unwrap();
        assert!(!node.is_stopping());
        node.stop();
        assert_eq!(node.until_stopped().await.unwrap(), StopReason::Requested);
        assert!(node.is_stopping());
        let other = Node::start(config("")).await.unwrap();
        let (stopped, ()) = tokio::join!(other.until_stopped(), other.leave());
        assert_eq!(stopped.unwrap(), StopReason::Left);
    });
}
