//! An etcd of the example's own, if no other one is named: one server, on loopback, which ends with
//! the example.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use heartbeat_examples::Failure;

/// How long it may take to take connections.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long an etcd that is said to run may take to take a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// A server that runs. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Etcd {
    child: Child,
    pub(crate) endpoint: String,
}

impl Etcd {
    /// Starts one that keeps its data in this folder.
    pub(crate) fn start(folder: &Path) -> Result<Etcd, Failure> {
        let [client, peer] = [free_address()?, free_address()?];
        let (endpoint, peers) = (format!("http://{client}"), format!("http://{peer}"));
        let log = File::create(folder.join("etcd.log"))?;
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(folder.join("etcd"))
            .args(["--name", "failover", "--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("failover={peers}"), "--log-level", "warn"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| {
                format!("cannot start the program etcd: {error}; install it (Debian: etcd-server), or name one that runs with --endpoints")
            })?;
        let mut etcd = Etcd { child, endpoint };
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect_timeout(&client, Duration::from_millis(100)).is_err() {
            if let Some(status) = etcd.child.try_wait()? {
                let said = std::fs::read_to_string(folder.join("etcd.log")).unwrap_or_default();
                return Err(
                    format!("etcd has ended ({status}): {}", said.lines().last().unwrap_or("it said nothing")).into()
                );
            }
            if Instant::now() > end {
                return Err(format!("etcd takes no connection at {client} within {PATIENCE:?}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(etcd)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // Errors mean that it is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Refuses servers of which none takes a connection: a service without its authority would only
/// wait.
pub(crate) fn check(endpoints: &[String]) -> Result<(), Failure> {
    let mut reasons = Vec::new();
    for endpoint in endpoints {
        let address = endpoint.split_once("://").map_or(endpoint.as_str(), |(_, rest)| rest).trim_end_matches('/');
        match address.to_socket_addrs().map(|mut found| found.next()) {
            Ok(Some(found)) => match TcpStream::connect_timeout(&found, CONNECT_PATIENCE) {
                Ok(_) => return Ok(()),
                Err(error) => reasons.push(format!("{endpoint}: {error}")),
            },
            Ok(None) => reasons.push(format!("{endpoint}: no such host")),
            Err(error) => reasons.push(format!("{endpoint}: {error}")),
        }
    }
    let reasons = reasons.join("; ");
    Err(format!("no etcd at any of the --endpoints ({reasons}); name one that runs, or none to have one started")
        .into())
}

/// A port that is free now: found by taking it and giving it back.
fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
