//! A PostgreSQL server of this test, and a standby of it.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use heartbeat_tests::process::ChildGuard;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::{NamedTempFile, TempDir};
use tokio_postgres::{Client, NoTls};

use crate::suite::PATIENCE;

/// The user of the tests, who owns the database of the same name, and the administrator.
pub(crate) const USER: &str = "orders";
pub(crate) const ADMIN: &str = "postgres";
pub(crate) const PASSWORD: &str = "sesame";

/// A server on a free port of loopback, with its data in a folder of its own; both go with it.
pub(crate) struct Server {
    pub(crate) host: String,
    arguments: Vec<String>,
    child: Child,
    folder: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // What it shares with its processes outlives a kill, and not an immediate shutdown.
        if !self.has_ended() {
            self.signal(Signal::SIGCONT);
            let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGQUIT); // It is killed otherwise.
        }
        let begun = Instant::now();
        while !self.has_ended() && begun.elapsed() < PATIENCE / 4 {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
        self.remove_shared();
    }
}

impl Server {
    /// Starts a server with a user and a database, and waits until it answers.
    pub(crate) fn start(settings: &[&str]) -> Server {
        let folder = new_folder();
        copy(template(), folder.path());
        let server = Server::run_on(folder, settings);
        server.wait();
        server
    }

    /// Starts a standby of this one, and waits until it answers.
    pub(crate) fn standby(&self) -> Server {
        let (host, port) = self.host.split_once(':').unwrap();
        let (folder, mut backup) = (new_folder(), command("pg_basebackup"));
        backup.args(["-h", host, "-p", port, "-U", ADMIN, "-c", "fast", "-X", "stream", "-R", "-D"]);
        run(backup.arg(folder.path()).env("PGPASSWORD", PASSWORD));
        let standby = Server::run_on(folder, &[]);
        standby.wait();
        standby
    }

    fn run_on(folder: TempDir, settings: &[&str]) -> Server {
        let address = free();
        let mut arguments = vec!["-D".to_owned(), folder.path().display().to_string()];
        let port = format!("port={}", address.port());
        // A test kills no host, so nothing has to be on the disk.
        let fixed = [
            &*port,
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "log_min_messages=fatal",
            "dynamic_shared_memory_type=mmap",
        ];
        for setting in fixed.iter().chain(settings) {
            arguments.extend(["-c".to_owned(), (*setting).to_owned()]);
        }
        Server { host: address.to_string(), child: spawn(&arguments), arguments, folder }
    }

    /// Waits until it answers.
    pub(crate) fn wait(&self) {
        let begun = Instant::now();
        while !self.answers() {
            assert!(begun.elapsed() < PATIENCE, "the server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        block_on(async { connect(&self.host, ADMIN, "postgres").await.is_some() })
    }

    /// Ends all its processes at once.
    pub(crate) fn kill(&mut self) {
        if !self.has_ended() {
            self.signal(Signal::SIGKILL);
            self.child.wait().unwrap();
        }
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Removes the memory that a killed server has left behind: the last number of the seventh
    /// line.
    fn remove_shared(&self) {
        let Ok(text) = std::fs::read_to_string(self.folder.path().join("postmaster.pid")) else { return };
        if let Some(id) = text.lines().nth(6).and_then(|line| line.split_ascii_whitespace().last()) {
            // The server may have removed it.
            let _ = Command::new("ipcrm").args(["-m", id]).stderr(Stdio::null()).status();
        }
    }

    /// Starts it again on what it had. While a process of the killed server still ends, the new one
    /// refuses to use its memory and ends, too; then it is started once more.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.arguments);
        let begun = Instant::now();
        while !self.answers() {
            assert!(begun.elapsed() < PATIENCE, "the server does not answer");
            std::thread::sleep(Duration::from_millis(20));
            if self.has_ended() {
                self.child = spawn(&self.arguments);
            }
        }
    }

    /// Sends a signal to all its processes.
    pub(crate) fn signal(&self, signal: Signal) {
        let parent = self.child.id();
        // First the one that would start others.
        for process in std::iter::once(parent).chain(children(parent)) {
            let _ = kill(Pid::from_raw(process as i32), signal); // It may have ended.
        }
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        self.admin("SELECT pg_promote(true, 20)");
    }

    /// Runs statements as the administrator.
    pub(crate) fn admin(&self, statements: &str) {
        self.admin_in("postgres", statements);
    }

    pub(crate) fn admin_in(&self, database: &str, statements: &str) {
        block_on(async {
            let client = connect(&self.host, ADMIN, database).await.unwrap();
            // One by one, since some may not be in a transaction.
            for statement in statements.split(';') {
                // A semicolon within a statement.
                let statement = &statement.replace('$', ";");
                client.batch_execute(statement).await.unwrap();
            }
        });
    }

    /// The server's processes for the connections of nodes.
    pub(crate) fn connections(&self) -> Vec<i32> {
        block_on(async {
            let client = connect(&self.host, ADMIN, USER).await.unwrap();
            let query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'heartbeat'";
            client.query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
        })
    }

    /// The one number that a query of the administrator finds in the database of the tests.
    pub(crate) fn number(&self, query: &str) -> i64 {
        block_on(async { connect(&self.host, ADMIN, USER).await.unwrap().query_one(query, &[]).await.unwrap().get(0) })
    }
}

/// Runs something on a thread and a runtime of its own, since a test may be within another.
fn block_on<T: Send>(work: impl Future<Output = T> + Send) -> T {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    std::thread::scope(|scope| scope.spawn(run).join().unwrap())
}

pub(crate) async fn connect(host: &str, user: &str, database: &str) -> Option<Client> {
    let text = format!("postgres://{user}:{PASSWORD}@{host}/{database}?connect_timeout=2");
    let (client, connection) = tokio_postgres::connect(&text, NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

/// The data of a new server, made once for this build: to make them takes longer than most tests.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let version = Command::new(program("postgres")).arg("--version").output().unwrap().stdout;
        let version: String = String::from_utf8(version).unwrap().chars().filter(char::is_ascii_alphanumeric).collect();
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(version);
        if kept.exists() {
            return kept;
        }
        let (folder, password) = (new_folder(), NamedTempFile::with_prefix("heartbeat-postgres-").unwrap());
        std::fs::write(&password, PASSWORD).unwrap();
        std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut init = command("initdb");
        init.args(["-U", ADMIN, "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale=C", "--pwfile"]);
        run(init.arg(password.path()).arg("-D").arg(folder.path()));
        let server = Server::run_on(folder, &[]);
        server.wait();
        server.admin(&format!("CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'; CREATE DATABASE {USER} OWNER {USER}"));
        kill(Pid::from_raw(server.child.id() as i32), Signal::SIGINT).unwrap();
        let begun = Instant::now();
        while server.folder.path().join("postmaster.pid").exists() {
            assert!(begun.elapsed() < PATIENCE, "the server does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
        // Another process may be making it, too.
        let copied = kept.with_extension(std::process::id().to_string());
        copy(server.folder.path(), &copied);
        if std::fs::rename(&copied, &kept).is_err() {
            std::fs::remove_dir_all(&copied).unwrap();
        }
        kept
    })
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-aT").arg(from).arg(to));
}

/// An empty folder that only the user of the servers may read, as PostgreSQL asks of its data.
fn new_folder() -> TempDir {
    let folder = TempDir::with_prefix("heartbeat-postgres-").unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    if let Some((user, group)) = other_user() {
        chown(&folder, Some(user), Some(group)).unwrap();
    }
    folder
}

/// The newest that is installed.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> = versions.map(|version| version.path().join("bin").join(name)).collect();
    found.retain(|path| path.exists());
    found.sort();
    found.pop().unwrap_or_else(|| name.into())
}

/// One that does not run as root, which PostgreSQL refuses.
fn command(name: &str) -> Command {
    let mut command = Command::new(program(name));
    if let Some((user, group)) = other_user() {
        command.uid(user).gid(group);
    }
    command.current_dir(std::env::temp_dir()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// User and group of the servers, if this is root.
pub(crate) fn other_user() -> Option<(u32, u32)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find_map(|line| line.strip_prefix("postgres:"));
    let mut fields = line.expect("there is no user postgres").split(':').skip(1).map(|field| field.parse().unwrap());
    Some((fields.next().unwrap(), fields.next().unwrap()))
}

fn run(command: &mut Command) {
    let status = command.status().expect("PostgreSQL is not installed; Debian has it as postgresql");
    assert!(status.success(), "{command:?}: {status}");
}

/// A pooler of connections in front of a server.
pub(crate) struct Pooler {
    pub(crate) host: String,
    _child: ChildGuard,
    _settings: TempDir,
}

impl Pooler {
    /// Starts one in this mode, with so many connections of the server, and waits until it answers.
    pub(crate) fn start(server: &Server, mode: &str, connections: u32) -> Pooler {
        let settings = new_folder();
        let (address, (host, port)) = (free(), server.host.split_once(':').unwrap());
        let (users, file) = (settings.path().join("users"), settings.path().join("pooler.ini"));
        std::fs::write(&users, format!("\"{USER}\" \"{PASSWORD}\"\n")).unwrap();
        let text = format!(
            "[databases]\n{USER} = host={host} port={port} dbname={USER}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = {mode}\n\
             default_pool_size = {connections}\n",
            address.port(),
            users.display()
        );
        std::fs::write(&file, text).unwrap();
        let mut command = command("/usr/sbin/pgbouncer");
        let child =
            command.arg("-q").arg(&file).spawn().expect("pgbouncer is not installed; Debian has it as pgbouncer");
        let pooler = Pooler { host: address.to_string(), _child: child.into(), _settings: settings };
        let begun = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert!(begun.elapsed() < PATIENCE, "the pooler does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        pooler
    }
}

fn spawn(arguments: &[String]) -> Child {
    command("postgres").args(arguments).spawn().expect("PostgreSQL is not installed; Debian has it as postgresql")
}

/// Sends a signal to one process of a server.
pub(crate) fn signal_process(process: i32, signal: Signal) {
    kill(Pid::from_raw(process), signal).unwrap();
}

/// The processes that a process has started.
fn children(parent: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |process: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse::<u32>().ok()
    };
    all.filter(|process| is_child(process) == Some(parent)).collect()
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
