//! The ends of workers, nodes and systems on real threads: each sender gets an error, and nothing
//! stays.

use std::io;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use actix::prelude::*;
use heartbeat_actors::transport::{Batch, Transport};
use heartbeat_actors::worker::RestartKind;
use heartbeat_actors::{Config, Context, Node, SendError, WorkerAddr, WorkerSpec};

use crate::{MEANT, PATIENCE, config, free, live};

/// Adds one to a counter in `stopping`, and ten in `stopped`.
struct Plain(Arc<AtomicU32>);

impl Actor for Plain {
    type Context = Context<Self>;

    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        self.0.fetch_add(1, Ordering::SeqCst);
        Running::Stop
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.0.fetch_add(10, Ordering::SeqCst);
    }
}

#[derive(Message)]
#[rtype(result = "u32")]
struct Ping;

impl Handler<Ping> for Plain {
    type Result = u32;

    fn handle(&mut self, _: Ping, _: &mut Context<Self>) -> u32 {
        7
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Fail;

impl Handler<Fail> for Plain {
    type Result = ();

    fn handle(&mut self, _: Fail, _: &mut Context<Self>) {
        panic!("{MEANT} fail");
    }
}

/// Holds the thread.
#[derive(Message)]
#[rtype(result = "()")]
struct Hold(Duration);

impl Handler<Hold> for Plain {
    type Result = ();

    fn handle(&mut self, hold: Hold, _: &mut Context<Self>) {
        std::thread::sleep(hold.0);
    }
}

#[derive(Message)]
#[rtype(result = "Addr<Plain>")]
struct Address;

impl Handler<Address> for Plain {
    type Result = Addr<Plain>;

    fn handle(&mut self, _: Address, context: &mut Context<Self>) -> Addr<Plain> {
        context.address()
    }
}

fn plain() -> Plain {
    Plain(Arc::default())
}

#[test]
fn mail_of_workers_that_end_is_answered_on_real_threads() {
    live(async {
        let node = Node::start(config()).await.unwrap();
        let spec = WorkerSpec::new("child").restart(RestartKind::Temporary);
        let template = node.root().template(spec, |_: &(), _| Ok(plain())).unwrap();
        for _ in 0..100 {
            let child = template.start(()).unwrap();
            let address = child.send(Address).await.unwrap();
            let failing = child.send(Fail);
            let (queued, by_plain) = (child.send(Ping).within(PATIENCE), address.send(Ping).timeout(PATIENCE));
            assert!(failing.await.is_err());
            assert_ne!(queued.await, Err(SendError::TimedOut));
            assert_ne!(by_plain.await, Err(MailboxError::Timeout));
            assert_ne!(address.send(Ping).timeout(PATIENCE).await, Err(MailboxError::Timeout));
        }
        node.leave().await;
    });
}

#[test]
fn a_held_thread_keeps_no_answer_of_a_stopped_worker() {
    live(async {
        let node = Node::start(config()).await.unwrap();
        let holder = node.supervise("holder", plain).unwrap();
        let stopped = node.supervise("stopped", plain).unwrap();
        let address = stopped.send(Address).await.unwrap();
        stopped.stop();
        while stopped.is_ready() {
            actix_rt::time::sleep(Duration::from_millis(1)).await;
        }
        holder.do_send(Hold(Duration::from_secs(3)));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(5) {
            assert_eq!(address.send(Ping).timeout(Duration::from_secs(2)).await, Err(MailboxError::Closed));
            assert_eq!(stopped.send(Ping).within(Duration::from_secs(2)).await, Err(SendError::Closed));
            actix_rt::time::sleep(Duration::from_millis(20)).await;
        }
        node.leave().await;
    });
}

#[test]
fn a_system_that_ends_closes_its_workers() {
    let ends = Arc::new(AtomicU32::new(0));
    let counted = ends.clone();
    let system = System::new();
    let (node, worker): (Node, WorkerAddr<Plain>) = system.block_on(async {
        let node = Node::start(config()).await.unwrap();
        let worker = node.supervise("worker", move || Plain(counted.clone())).unwrap();
        assert_eq!(worker.send(Ping).await, Ok(7));
        System::current().stop();
        (node, worker)
    });
    system.run().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let begun = Instant::now();
        while worker.is_ready() || ends.load(Ordering::SeqCst) < 11 {
            assert!(begun.elapsed() < PATIENCE, "{:?}", worker.status());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(worker.send(Ping).within(PATIENCE).await, Err(SendError::Closed));
        assert_eq!(ends.load(Ordering::SeqCst), 11, "stopping and stopped, once each");
        if let Ok(late) = node.supervise("late", plain) {
            assert_eq!(late.send(Ping).within(PATIENCE).await, Err(SendError::Closed));
        }
    });
}

/// Starts and leaves a node so many times: takes the port again each time, if there is one.
async fn start_and_leave(rounds: u32, config: impl Fn() -> Config) {
    for round in 0..rounds {
        let node = Node::start(config()).await.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let worker = node.supervise("worker", plain).unwrap();
        assert_eq!(worker.send(Ping).await, Ok(7));
        node.leave().await;
        node.leave().await;
        assert_eq!(worker.send(Ping).within(PATIENCE).await, Err(SendError::Closed));
    }
}

fn clustered(listen: SocketAddr) -> Config {
    let text = format!(
        "[cluster]\nname = 'c'\nnode = 'n'\nrole = 'worker'\nmode = 'random'\nlisten = '{listen}'\nseeds = ['{listen}']\n"
    );
    Config::from_toml(&text).unwrap()
}

/// Set in a process that is to do its part of a test, and be watched meanwhile.
const CHILD: &str = "HEARTBEAT_TEST_CHILD";

/// Runs a test of this file in a process of its own.
fn child(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, "1").stdin(Stdio::null());
    command
}

#[cfg(target_os = "linux")]
#[test]
fn a_node_that_has_left_leaves_no_thread_file_or_port() {
    // Other tests of this process have threads of their own.
    if std::env::var_os(CHILD).is_none() {
        let child = child("ends::a_node_that_has_left_leaves_no_thread_file_or_port").output().unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        return;
    }
    let count = |folder: &str| std::fs::read_dir(folder).unwrap().count();
    let footprint = || (count("/proc/self/task"), count("/proc/self/fd"));
    live(async {
        let listen = free();
        start_and_leave(2, || clustered(listen)).await;
        start_and_leave(2, config).await;
        actix_rt::time::sleep(Duration::from_secs(2)).await;
        let before = footprint();
        start_and_leave(20, || clustered(listen)).await;
        start_and_leave(60, config).await;
        let begun = Instant::now();
        while footprint().0 > before.0 || footprint().1 > before.1 {
            assert!(begun.elapsed() < PATIENCE, "threads and files: {before:?} before, {:?} after", footprint());
            actix_rt::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

/// Panics as soon as it is asked for datagrams.
struct Broken;

impl Transport for Broken {
    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9))
    }

    fn send(&self, _: SocketAddr, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn poll_receive(&self, _: &mut task::Context<'_>, _: &mut Batch) -> Poll<io::Result<()>> {
        panic!("{MEANT} break");
    }
}

#[test]
fn a_control_thread_that_panics_ends_its_process() {
    if std::env::var_os(CHILD).is_none() {
        let child = child("ends::a_control_thread_that_panics_ends_its_process").output().unwrap();
        assert_eq!(child.status.code(), Some(70), "{}", String::from_utf8_lossy(&child.stderr));
        return;
    }
    live(async {
        let start = Node::start_on(clustered(free()), || Ok(Some(Rc::new(Broken) as Rc<dyn Transport>)));
        let _node = start.await;
        actix_rt::time::sleep(PATIENCE).await;
    });
}
