//! Nodes for the pages: one in the test's own process, and others in processes of their own.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

use actix::prelude::*;
use heartbeat_actors::{Config, Context, Node};
use heartbeat_tests::process::ChildGuard;
use tempfile::NamedTempFile;

use crate::PATIENCE;

/// A worker that does what the tests need.
pub(crate) struct Holder;

impl Actor for Holder {
    type Context = Context<Self>;
}

/// Holds the worker's thread until its other side is dropped.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Hold(pub(crate) mpsc::Receiver<()>);

impl Handler<Hold> for Holder {
    type Result = ();

    fn handle(&mut self, hold: Hold, _: &mut Context<Self>) {
        let _ = hold.0.recv_timeout(PATIENCE * 2); // It ends with the other side.
    }
}

/// Makes the worker panic.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Fail;

impl Handler<Fail> for Holder {
    type Result = ();

    fn handle(&mut self, _: Fail, _: &mut Context<Self>) {
        panic!("the printer is out of paper");
    }
}

/// A free address, below the ports that the system hands out: it stays free until a test binds it.
pub(crate) fn free() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(64).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::from(([127, 0, 0, 1], 10_000 + (number % 20_000) as u16));
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// The settings of a node in a cluster that notices a death within seconds, and takes its time with
/// a held thread.
pub(crate) fn cluster(node: &str, listen: SocketAddr, seeds: &str) -> String {
    let zone = node.split('-').next().unwrap_or_default();
    format!(
        "workers.timeout = '1m'
         interval = '100ms'
         timeout = '2s'
         [cluster]
         name = 'shop'
         node = '{node}'
         zone = '{zone}'
         role = 'worker'
         mode = 'random'
         listen = '{listen}'
         seeds = [{seeds}]"
    )
}

/// A node with a server of its own.
pub(crate) async fn start(settings: &str) -> (Node, SocketAddr) {
    let node = Node::start(Config::from_toml(&format!("http.listen = '127.0.0.1:0'\n{settings}")).unwrap()).await;
    let node = node.unwrap();
    let address = node.http_address().unwrap();
    (node, address)
}

/// A node in a process of its own, which ends with the value: killed, without a goodbye.
pub(crate) struct Process {
    _child: ChildGuard,
    _config: NamedTempFile,
}

impl Process {
    pub(crate) fn start(node: &str, seed: SocketAddr) -> Process {
        let config = NamedTempFile::with_prefix("heartbeat-pages-").unwrap();
        std::fs::write(&config, cluster(node, free(), &format!("'{seed}'"))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
        command.arg(config.path()).stdin(Stdio::piped()).stdout(Stdio::null());
        Process { _child: command.spawn().unwrap().into(), _config: config }
    }
}
