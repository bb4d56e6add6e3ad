//! The program `heartbeat` as its users run it: arguments, files, and nodes on loopback.
//!
//! They assert facts, and bounds so generous that a busy machine keeps them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use actix::prelude::*;
use heartbeat_actors::group::GroupSpec;
use heartbeat_actors::{Config, Context, Node, WorkerSpec};
use serde_json::Value;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

const TOKEN: &str = "0123456789abcdef";

/// A run of the program, without what this process's environment says of it.
fn heartbeat(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heartbeat"));
    command.args(arguments).stdin(Stdio::null()).env_remove("HEARTBEAT_TOKEN");
    for name in ["HEARTBEAT_NODE", "HEARTBEAT_LISTEN", "HEARTBEAT_ADVERTISE", "HEARTBEAT_SEEDS"] {
        command.env_remove(name);
    }
    command
}

/// What a run printed, and its exit code.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    error: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes| String::from_utf8(bytes).expect("the program prints UTF-8");
        Ran { code: output.status.code(), out: text(output.stdout), error: text(output.stderr) }
    }
}

fn run(arguments: &[&str]) -> Ran {
    heartbeat(arguments).output().unwrap().into()
}

/// Runs the program while this thread goes on serving a node.
async fn asked(mut command: Command) -> Ran {
    let ran = tokio::task::spawn_blocking(move || command.output().unwrap().into());
    tokio::time::timeout(PATIENCE, ran).await.expect("the program ends").unwrap()
}

/// A file for a test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, text: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("heartbeat-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Scratch(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

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

/// Runs a test within an actix system of its own.
fn live<F: Future<Output = ()>>(test: F) {
    actix::System::new().block_on(async {
        tokio::time::timeout(PATIENCE * 2, test).await.expect("the test hangs");
    });
}

async fn start(more: &str) -> (Node, String) {
    let config = Config::from_toml(&format!("[http]\nlisten = '127.0.0.1:0'\n{more}")).unwrap();
    let node = Node::start(config).await.unwrap();
    let url = format!("http://{}", node.http_address().unwrap());
    (node, url)
}

/// A server that answers each connection with these bytes, until the test ends.
fn server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        }
    });
    address
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for (arguments, expected) in [
        (&[][..], "Usage"),
        (&["status"], "<URL>"),
        (&["wacth"], "wacth"),
        (&["status", "https://127.0.0.1:1"], "plain HTTP"),
        (&["status", "ftp://127.0.0.1"], "\"ftp\""),
        (&["top", "http://127.0.0.1:1"], "needs a terminal"),
        (&["check", "/does/not/exist.toml"], "cannot read"),
        (&["qos", "/does/not/exist.csv"], "/does/not/exist.csv"),
    ] {
        let ran = run(arguments);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.error.contains(expected) && ran.out.is_empty(), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn the_help_and_the_completions_are_printed() {
    let help = run(&["--help"]);
    assert_eq!(help.code, Some(0));
    assert!(help.out.contains("heartbeat top --demo"), "{help:?}");
    let script = run(&["completions", "bash"]);
    assert!(script.out.contains("_heartbeat()") && script.out.contains("--token-file"), "{}", script.out);
}

#[test]
fn a_right_config_is_added_up() {
    let file = Scratch::new("right.toml", "timeout = '10s'");
    let ran = run(&["check", file.path()]);
    assert_eq!((ran.code, &*ran.error), (Some(0), ""));
    for part in ["a right config", "concluded dead within 10s", "What it does not promise", "handled at most once"] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    assert!(!ran.out.contains('\u{1b}'), "no colours outside a terminal");
}

#[test]
fn a_wrong_config_is_refused_with_its_value() {
    for (text, expected) in [
        ("timeout = '300ms'", "timeout 300ms is not longer than interval 1s; use at least 2s"),
        ("\nintervall = '1s'", "line 2"),
        ("[workers]\nleave = '1s'", "workers.leave_timeout"),
        ("interval = '\u{1b}[2J'", "interval"),
    ] {
        let file = Scratch::new("wrong.toml", text);
        let ran = run(&["check", file.path()]);
        assert_eq!((ran.code, &*ran.out), (Some(1), ""), "{ran:?}");
        assert!(ran.error.contains(expected) && ran.error.contains(file.path()), "{text}: {ran:?}");
        assert!(!ran.error.contains('\u{1b}'), "{ran:?}");
        drop(file);
    }
    let ran = run(&["check", "/dev/zero"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.error.contains("longer than 1048576 bytes"), "{ran:?}");
}

#[test]
fn a_config_is_checked_with_the_environment_on_request() {
    let file = Scratch::new("shared.toml", "[cluster]\nname = 'c'\nrole = 'worker'\nmode = 'random'\nseeds = []");
    let run = |arguments: &[&str], listen: &str| -> Ran {
        let mut command = heartbeat(arguments);
        command.env("HEARTBEAT_NODE", "n-0").env("HEARTBEAT_LISTEN", listen);
        command.output().unwrap().into()
    };
    let ran = run(&["check", "--env", file.path()], "127.0.0.1:7101");
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("within 6s if their host falls silent"), "{ran:?}");
    let ran = run(&["check", "--env", file.path()], "7101");
    assert_eq!(ran.code, Some(1));
    assert!(ran.error.contains("HEARTBEAT_LISTEN \"7101\" is no address"), "{ran:?}");
    let ran = run(&["check", file.path()], "127.0.0.1:7101");
    assert!(ran.code == Some(1) && ran.error.contains("missing field"), "{ran:?}");
}

#[test]
fn a_config_is_read_from_standard_input() {
    let mut command = heartbeat(&["check", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"timeout = '9s'").unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert!(ran.code == Some(0) && ran.out.contains("dead within 9s"), "{ran:?}");
}

#[test]
fn a_healthy_node_is_told_by_text_and_code() {
    live(async {
        let (node, url) = start("").await;
        node.supervise("holder", || Holder).unwrap().until_up().await.unwrap();
        let ran = asked(heartbeat(&["status", &url])).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        for part in ["local: healthy", "live     yes", "ready    yes", "no cluster", "workers  1: 1 up"] {
            assert!(ran.out.contains(part), "{part}: {}", ran.out);
        }
        let ran = asked(heartbeat(&["status", "--json", &url])).await;
        let json: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!((&json["healthy"], &json["node"]), (&Value::from(true), &Value::from("local")));
        node.leave().await;
        let ran = asked(heartbeat(&["status", &url])).await;
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.error.contains(&url), "{ran:?}");
    });
}

#[test]
fn a_node_that_is_not_ready_is_told_with_the_reason() {
    live(async {
        let (node, url) = start("").await;
        let group = node.root().group(GroupSpec::new("mail\u{1b}[31m\n\u{9b}room")).unwrap();
        group.supervise_with(WorkerSpec::new("holder"), |_| Ok(Holder)).unwrap().until_up().await.unwrap();
        group.stop();
        let ran = async {
            loop {
                let ran = asked(heartbeat(&["status", &url])).await;
                if ran.code != Some(0) {
                    return ran;
                }
            }
        };
        let ran = tokio::time::timeout(PATIENCE, ran).await.unwrap();
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.out.contains("not healthy") && ran.out.contains("these groups do not run"), "{ran:?}");
        let is_command = |letter: char| letter.is_control() && letter != '\n';
        assert!(!ran.out.contains(is_command), "{ran:?}");
        let json = asked(heartbeat(&["top", "--json", &url])).await;
        assert!(!json.out.contains(is_command), "{json:?}");
        let json: Value = serde_json::from_str(&json.out).unwrap();
        assert_eq!(json["groups"]["groups"][0]["name"], "mail\u{1b}[31m\n\u{9b}room", "JSON means the same");
        assert_eq!(json["ready"]["holds"], false);
        node.leave().await;
    });
}

#[test]
fn a_snapshot_names_the_stuck_worker_its_message_and_events() {
    live(async {
        let (node, url) = start("").await;
        let holder = node.supervise("holder", || Holder).unwrap();
        node.supervise("idle", || Holder).unwrap().until_up().await.unwrap();
        holder.until_up().await.unwrap();
        let (end, held) = mpsc::channel();
        holder.try_send(Hold(held)).unwrap();
        holder.try_send(Hold(mpsc::channel().1)).unwrap();
        let json = async {
            loop {
                let ran = asked(heartbeat(&["top", "--json", &url])).await;
                assert_eq!(ran.code, Some(0), "{ran:?}");
                let json: Value = serde_json::from_str(&ran.out).unwrap();
                if json["busy"].as_array().is_some_and(|busy| !busy.is_empty()) {
                    return json;
                }
            }
        };
        let json = tokio::time::timeout(PATIENCE, json).await.expect("the worker is at work for a second");
        assert_eq!(json["busy"][0]["name"], "holder");
        assert!(json["busy"][0]["doing"].as_str().unwrap().ends_with("Hold"), "{json}");
        assert!(json["busy"][0]["busy_for"].as_f64().unwrap() >= 1.0);
        assert_eq!((&json["fullest"][0]["name"], &json["fullest"][0]["queued"]), (&"holder".into(), &2.into()));
        let threads = json["threads"]["threads"].as_array().unwrap();
        assert!(threads.iter().any(|thread| thread["silent_for"].as_f64().is_some_and(|time| time >= 1.0)), "{json}");
        assert_eq!((&json["threads"]["held"], &json["links"]["links"]), (&0.into(), &serde_json::json!([])));
        assert_eq!(json["requests"]["requests"], Value::Null, "there is no cluster");
        let events = json["events"].as_array().unwrap();
        let started = events.iter().filter(|event| event["event"] == "started");
        assert_eq!(started.count(), 2, "{events:?}");
        drop(end);
        node.leave().await;
    });
}

#[test]
fn a_token_is_wanted_and_taken_from_file_or_environment() {
    live(async {
        let (node, url) = start(&format!("token = '{TOKEN}'")).await;
        let ran = asked(heartbeat(&["status", &url])).await;
        assert_eq!(ran.code, Some(2));
        assert!(ran.error.contains("HEARTBEAT_TOKEN") && ran.error.contains("--token-file"), "{ran:?}");
        let mut wrong = heartbeat(&["status", &url]);
        wrong.env("HEARTBEAT_TOKEN", "another-token-of-16");
        let ran = asked(wrong).await;
        assert!(ran.code == Some(2) && ran.error.contains("refuses this token"), "{ran:?}");
        assert!(!ran.error.contains("another-token"), "no secret is shown: {ran:?}");
        let mut right = heartbeat(&["status", &url]);
        right.env("HEARTBEAT_TOKEN", TOKEN);
        assert_eq!(asked(right).await.code, Some(0));
        let file = Scratch::new("token", &format!("{TOKEN}\n"));
        assert_eq!(asked(heartbeat(&["status", &url, "--token-file", file.path()])).await.code, Some(0));
        let ran = asked(heartbeat(&["top", "--json", &url, "--token-file", file.path()])).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let ran = asked(heartbeat(&["status", &url, "--token-file", "/does/not/exist"])).await;
        assert!(ran.code == Some(2) && ran.error.contains("/does/not/exist"), "{ran:?}");
        node.leave().await;
    });
}

#[test]
fn a_server_that_is_no_node_is_told_from_one() {
    // Its listener is dropped at once.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, expected) in [
        (server(b"HTTP/1.1 404 Not Found\r\ncontent-length: 9\r\nconnection: close\r\n\r\nnot found"), "status 404"),
        (server(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>"), "no node's HTTP door"),
        (server(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"), "status 302"),
        (server(b"SSH-2.0-OpenSSH_9.2\r\n"), "127.0.0.1"),
        (server(b""), "127.0.0.1"),
    ] {
        let url = format!("http://{address}");
        let ran = run(&["status", &url, "--within", "5s"]);
        assert_eq!((ran.code, &*ran.out), (Some(2), ""), "{ran:?}");
        assert!(ran.error.contains(expected) && ran.error.contains(&url), "{expected}: {ran:?}");
    }
    let ran = run(&["status", &format!("http://{gone}")]);
    assert!(ran.code == Some(2) && ran.error.contains("refuses connections"), "{ran:?}");
}

#[test]
fn a_server_that_never_answers_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let ran = run(&["status", &url, "--within", "200ms"]);
    assert!(ran.code == Some(2) && ran.error.contains("did not answer within 200ms"), "{ran:?}");
}

#[test]
fn the_demonstration_is_a_running_cluster() {
    let ran = run(&["top", "--demo", "--json"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&json["cluster"], &json["live"]["holds"]), (&"demo".into(), &true.into()));
    let names: Vec<&str> =
        json["groups"]["groups"].as_array().unwrap().iter().map(|group| group["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["import", "mail", "orders"]);
    let watched: Vec<&str> =
        json["links"]["links"].as_array().unwrap().iter().map(|link| link["verdict"].as_str().unwrap()).collect();
    assert_eq!(watched, ["alive", "alive"]);
    assert_eq!(json["requests"]["peers"].as_array().unwrap().len(), 2, "{json}");
    assert!(!json["threads"]["threads"].as_array().unwrap().is_empty(), "{json}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let file = Scratch::new("pipe.toml", "");
    let mut child = heartbeat(&["check", file.path()]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!((ran.code, &*ran.error), (Some(0), ""), "{ran:?}");
}

/// `heartbeat top` on a terminal of its own.
#[cfg(unix)]
struct OnTerminal {
    child: std::process::Child,
    terminal: std::fs::File,
    /// What the terminal has shown so far.
    shown: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

#[cfg(unix)]
impl OnTerminal {
    fn start(url: &str) -> OnTerminal {
        let size = nix::pty::Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = nix::pty::openpty(Some(&size), None).unwrap();
        let program_side = || Stdio::from(pair.slave.try_clone().unwrap());
        let mut command = heartbeat(&["top", url]);
        command.stdin(program_side()).stdout(program_side()).stderr(program_side());
        let child = command.env("TERM", "xterm").spawn().unwrap();
        let terminal = std::fs::File::from(pair.master);
        let shown = std::sync::Arc::<std::sync::Mutex<Vec<u8>>>::default();
        let (mut reader, sink) = (terminal.try_clone().unwrap(), shown.clone());
        // It ends with an error once the program's side is closed.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read) = reader.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
        OnTerminal { child, terminal, shown }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    async fn until(&self, part: &str) {
        let whole = async {
            while !self.shown().contains(part) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, whole).await;
        found.unwrap_or_else(|_| panic!("no {part:?} in {:?}", self.shown()));
    }

    fn press(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end, and returns the exit code.
    async fn code(&mut self) -> Option<i32> {
        let whole = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, whole).await.expect("the program ends")
    }
}

#[cfg(unix)]
impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill(); // It may have ended already.
        let _ = self.child.wait();
    }
}

#[cfg(unix)]
const SCREEN_TAKEN: &str = "\u{1b}[?1049h";
#[cfg(unix)]
const SCREEN_GIVEN_BACK: &str = "\u{1b}[?1049l";

#[cfg(unix)]
#[test]
fn a_signal_gives_the_terminal_back() {
    use nix::sys::signal::{Signal, kill};
    live(async {
        let (node, url) = start("").await;
        for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGINT, 130)] {
            let mut top = OnTerminal::start(&url);
            top.until("Overview").await;
            let modes = nix::sys::termios::tcgetattr(&top.terminal).unwrap().local_flags;
            assert!(!modes.contains(nix::sys::termios::LocalFlags::ECHO), "the screen is the program's");
            kill(nix::unistd::Pid::from_raw(top.child.id() as i32), signal).unwrap();
            assert_eq!(top.code().await, Some(code), "{signal}");
            top.until(SCREEN_GIVEN_BACK).await;
            let modes = nix::sys::termios::tcgetattr(&top.terminal).unwrap().local_flags;
            assert!(modes.contains(nix::sys::termios::LocalFlags::ECHO), "a shell echoes again");
        }
        node.leave().await;
    });
}

#[cfg(unix)]
#[test]
fn each_view_is_shown_and_no_name_commands_the_terminal() {
    live(async {
        let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let evil = "\u{1b}]0;taken\u{7}\u{9b}2J<b>\u{202e}";
        let toml = "evil \\u001b]0;taken\\u0007\\u009b2J\\u202e";
        let settings = format!(
            "[cluster]\nname = \"{toml}\"\nnode = \"{toml}\"\nzone = \"{toml}\"\nrole = 'worker'\nmode = 'random'\nlisten = '{listen}'\nseeds = []"
        );
        let (node, url) = start(&settings).await;
        let group = node.root().group(GroupSpec::new(format!("group {evil}"))).unwrap();
        let worker = group.supervise_with(WorkerSpec::new(evil), |_| Ok(Holder)).unwrap();
        worker.until_up().await.unwrap();
        let (end, held) = mpsc::channel();
        worker.try_send(Hold(held)).unwrap();
        let mut top = OnTerminal::start(&url);
        top.until(SCREEN_TAKEN).await;
        // The terminal gets only what changes, so what is waited for is one word, or a title that
        // is drawn anew.
        for (key, part) in [
            ("8", "m 8 Links "),
            ("9", "m 9 Requests "),
            ("0", "m 0 Threads "),
            ("2", "m 2 Members "),
            ("3", "m 3 Groups "),
            ("6", "m 6 Workers "),
            ("7", "m 7 Events "),
            ("4", "Hold"),
            ("\r", "closes"),
            ("x", "Busy"),
        ] {
            top.press(key);
            top.until(part).await;
        }
        top.press("q");
        assert_eq!(top.code().await, Some(0));
        top.until(SCREEN_GIVEN_BACK).await;
        let shown = top.shown();
        assert!(shown.contains("\\u{1b}]0;taken"), "{shown:?}");
        for command in ["\u{1b}]0;", "\u{7}", "\u{9b}", "\u{202e}"] {
            assert!(!shown.contains(command), "{command:?} in {shown:?}");
        }
        let ran = asked(heartbeat(&["status", &url])).await;
        assert!(!ran.out.contains(|letter: char| letter.is_control() && letter != '\n'), "{ran:?}");
        drop(end);
        node.leave().await;
    });
}
