//! An etcd cluster of this test.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use etcd_client::Client;
use heartbeat_tests::process::ChildGuard;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::suite::PATIENCE;

/// Servers on free ports of loopback, with their data in a folder of their own; all of it goes with
/// them.
pub(crate) struct Servers {
    pub(crate) endpoints: Vec<String>,
    members: Vec<Member>,
    folder: TempDir,
}

struct Member {
    arguments: Vec<String>,
    child: ChildGuard,
}

impl Servers {
    /// Starts a cluster, and waits until it has a leader.
    pub(crate) fn start(members: usize) -> Servers {
        let servers = Servers::start_some(members, members);
        servers.leader();
        servers
    }

    /// Starts some members of a cluster, without waiting.
    pub(crate) fn start_some(some: usize, members: usize) -> Servers {
        let folder = TempDir::with_prefix("heartbeat-etcd-").unwrap();
        let url = |_| format!("http://{}", free());
        let (clients, peers): (Vec<_>, Vec<_>) = ((0..members).map(url).collect(), (0..members).map(url).collect());
        let all: Vec<_> = peers.iter().enumerate().map(|(index, peer)| format!("m{index}={peer}")).collect();
        let start = |index: usize| {
            let arguments = [
                ("name", format!("m{index}")),
                ("data-dir", folder.path().join(format!("m{index}")).display().to_string()),
                ("listen-client-urls", clients[index].clone()),
                ("advertise-client-urls", clients[index].clone()),
                ("listen-peer-urls", peers[index].clone()),
                ("initial-advertise-peer-urls", peers[index].clone()),
                ("initial-cluster", all.join(",")),
                ("initial-cluster-token", folder.path().display().to_string()),
                ("log-level", "error".to_owned()),
                ("logger", "zap".to_owned()),
            ];
            let arguments: Vec<_> = arguments.map(|(key, value)| format!("--{key}={value}")).into();
            Member { child: run(&arguments), arguments }
        };
        let members = (0..some).map(start).collect();
        Servers { endpoints: clients.clone(), members, folder }
    }

    /// Starts one server with TLS, which asks for a client's certificate, without waiting.
    pub(crate) fn start_tls(certificate: &Path, key: &Path, ca: &Path) -> Servers {
        let mut servers = Servers::start_some(0, 1);
        servers.endpoints[0] = servers.endpoints[0].replace("http", "https");
        let (folder, endpoint) = (servers.folder.path(), &servers.endpoints[0]);
        let arguments = [
            ("data-dir", folder.join("m0").display().to_string()),
            ("listen-client-urls", endpoint.clone()),
            ("advertise-client-urls", endpoint.clone()),
            ("listen-peer-urls", format!("http://{}", free())),
            ("cert-file", certificate.display().to_string()),
            ("key-file", key.display().to_string()),
            ("trusted-ca-file", ca.display().to_string()),
            ("client-cert-auth", "true".to_owned()),
            ("log-level", "fatal".to_owned()),
            ("logger", "zap".to_owned()),
        ];
        let arguments: Vec<_> = arguments.map(|(key, value)| format!("--{key}={value}")).into();
        servers.members.push(Member { child: run(&arguments), arguments });
        servers
    }

    /// Which of them leads. Waits until one does, and all say so.
    pub(crate) fn leader(&self) -> usize {
        let (begun, runtime) = (Instant::now(), runtime());
        loop {
            if let Some(leader) = runtime.block_on(leader_among(&self.endpoints)) {
                return leader;
            }
            assert!(begun.elapsed() < PATIENCE, "the servers elect no leader");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until one of the others leads, and says how long that took.
    pub(crate) fn leads_another(&self, former: usize) -> Duration {
        let others: Vec<_> = self.endpoints.iter().enumerate().filter(|(index, _)| *index != former).collect();
        let others: Vec<_> = others.into_iter().map(|(_, endpoint)| endpoint.clone()).collect();
        let (begun, runtime) = (Instant::now(), runtime());
        while runtime.block_on(leader_among(&others)).is_none() {
            assert!(begun.elapsed() < PATIENCE, "the servers elect no leader");
            std::thread::sleep(Duration::from_millis(20));
        }
        begun.elapsed()
    }

    pub(crate) fn signal(&self, member: usize, signal: Signal) {
        kill(Pid::from_raw(self.members[member].child.id() as i32), signal).unwrap();
    }

    pub(crate) fn signal_all(&self, signal: Signal) {
        (0..self.members.len()).for_each(|member| self.signal(member, signal));
    }

    pub(crate) fn kill(&mut self, member: usize) {
        self.members[member].child.kill().unwrap();
        self.members[member].child.wait().unwrap();
    }

    /// Starts one again that was killed, on what it had.
    pub(crate) fn restart(&mut self, member: usize) {
        self.members[member].child = run(&self.members[member].arguments);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Which of these leads, if all of them answer and agree on one of them.
async fn leader_among(endpoints: &[String]) -> Option<usize> {
    let (mut ids, mut leaders) = (Vec::new(), Vec::new());
    for endpoint in endpoints {
        let mut client = Client::connect([endpoint], None).await.ok()?;
        let status = tokio::time::timeout(Duration::from_secs(1), client.status()).await.ok()?.ok()?;
        ids.push(status.header()?.member_id());
        leaders.push(status.leader());
    }
    let leader = ids.iter().position(|id| *id == leaders[0])?;
    leaders.iter().all(|of_one| *of_one == leaders[0]).then_some(leader)
}

fn run(arguments: &[String]) -> ChildGuard {
    let etcd =
        Command::new("etcd").args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    etcd.expect("etcd is not installed; Debian has it as etcd-server").into()
}

/// A free address, below the ports that the system hands out.
pub(crate) fn free() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(64).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::from(([127, 0, 0, 1], 10_000 + (number % 20_000) as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
