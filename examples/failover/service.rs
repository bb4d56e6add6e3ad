//! The processes of the service, and what they say.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use heartbeat_actors::Config;
use heartbeat_examples::Failure;
use heartbeat_examples::process::{Children, Listen, unix_seconds, watch_interrupts};
use heartbeat_examples::report::Report;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::etcd::{self, Etcd};
use crate::load::{Load, Manner};
use crate::{Authority, CONFIG, RETRY, Settings, http};

/// Who is left in peace, and tells what all see.
pub(crate) const REPORTER: &str = "node-1";

/// How long a process may take to answer what is asked of it in person.
const PATIENCE: Duration = Duration::from_secs(3);

/// Processes that run, and what they have said.
pub(crate) struct Service {
    pub(crate) children: Children,
    pub(crate) report: Report,
    /// All that was said so far.
    pub(crate) lines: Vec<Value>,
    /// What all have in common, less their names and addresses.
    config: String,
    settings: Settings,
    ledger: Option<SocketAddr>,
    /// Where the first one listens, once it runs: whom the others ask to be let in.
    seed: Option<String>,
    doors: BTreeMap<String, SocketAddr>,
    interrupted: Arc<AtomicBool>,
    /// For what is asked from this thread; connections are kept, and belong to it.
    runtime: actix_rt::Runtime,
    /// The clients, who learn from the reporter which processes take requests.
    load: Option<Rc<Load>>,
    etcd: Option<Etcd>,
}

impl Listen for Service {
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Prints the line, but for the many about moving shards.
    fn listen(&mut self, patience: Duration) {
        let Some(line) = self.children.next_line(patience) else {
            self.report.flush();
            return;
        };
        if !is_shard_start(&line) && line["event"] != "answered" {
            self.report.event(&line);
        }
        self.notify_clients(&line);
        self.lines.push(line);
    }

    fn lines(&self) -> &[Value] {
        &self.lines
    }

    fn interrupted(&self) -> &AtomicBool {
        &self.interrupted
    }
}

impl Service {
    /// No process yet, but for an etcd if that is asked for.
    pub(crate) fn new(settings: &Settings, ledger: Option<SocketAddr>, purpose: &str) -> Result<Service, Failure> {
        let interrupted = watch_interrupts()?;
        let children = Children::new(purpose)?;
        let (config, etcd) = authority(settings, &children)?;
        Ok(Service {
            children,
            report: Report::new(settings.json, REPORTER),
            lines: Vec::new(),
            config,
            settings: settings.clone(),
            ledger,
            seed: None,
            doors: BTreeMap::new(),
            interrupted,
            runtime: actix_rt::Runtime::new()?,
            load: None,
            etcd,
        })
    }

    /// What all processes have in common.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        Ok(Config::from_toml(&self.config)?)
    }

    /// Starts a process, and waits until it is ready.
    pub(crate) fn start(&mut self, name: &str) -> Result<(), Failure> {
        let seeds = serde_json::to_string(&self.seed.iter().collect::<Vec<_>>())?;
        let config = format!(
            "{}\n[cluster]\nname = \"failover\"\nnode = \"{name}\"\nrole = \"worker\"\nmode = \"random\"\nlisten = \"127.0.0.1:0\"\nseeds = {seeds}\n",
            self.config
        );
        let path = self.children.folder().join(format!("{name}.toml"));
        std::fs::write(&path, config)?;
        let mut arguments = vec!["node".to_owned(), "--config".to_owned(), path.display().to_string()];
        arguments.extend(["--shards".to_owned(), self.settings.shards.to_string()]);
        arguments.extend(self.ledger.iter().flat_map(|ledger| ["--ledger".to_owned(), ledger.to_string()]));
        let ready = self.children.start(name, &arguments)?;
        let door = ready["http"].as_str().unwrap_or_default().parse()?;
        self.doors.insert(name.to_owned(), door);
        if self.seed.is_none() {
            let address = ready["address"].as_str().ok_or_else(|| format!("{name} does not say where it listens"))?;
            self.seed = Some(address.to_owned());
        }
        Ok(())
    }

    /// Starts processes under these names, and waits until all are members and no shard has moved
    /// for a while.
    pub(crate) fn start_all(&mut self, names: &[String]) -> Result<(), Failure> {
        for name in names {
            self.start(name)?;
        }
        let joined = |line: &Value| line["event"] == "joined" && line["process"] == REPORTER;
        self.wait("all processes join", 0, joined, names.len() - 1)?;
        self.settle()
    }

    /// Waits until no shard has moved for a while.
    pub(crate) fn settle(&mut self) -> Result<(), Failure> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let from = self.lines.len();
            self.quiet(Duration::from_millis(700))?;
            if !self.lines[from..].iter().any(is_shard_start) {
                return Ok(());
            }
            if Instant::now() > end {
                return Err("shards still move after 10 s".into());
            }
        }
    }

    /// Where a process's door is.
    fn door(&self, name: &str) -> Result<SocketAddr, Failure> {
        self.doors.get(name).copied().ok_or_else(|| format!("no process {name}").into())
    }

    /// Lays load on, at all doors.
    pub(crate) fn lay_on(&mut self, manner: Manner) -> Result<Rc<Load>, Failure> {
        let load = Rc::new(Load::start(manner)?);
        for (name, door) in &self.doors {
            load.open(name, *door);
        }
        self.load = Some(load.clone());
        Ok(load)
    }

    /// The clients.
    pub(crate) fn load(&self) -> Result<Rc<Load>, Failure> {
        self.load.clone().ok_or_else(|| "no load is laid on".into())
    }

    /// Lets the clients know of a process that has joined.
    pub(crate) fn open(&self, name: &str) -> Result<(), Failure> {
        let door = self.door(name)?;
        if let Some(load) = &self.load {
            load.open(name, door);
        }
        Ok(())
    }

    /// Kills a process. Returns when. It is not waited for, which may take as long as a whole
    /// failover does: [`Service::reap`].
    pub(crate) fn kill(&mut self, name: &str) -> Result<f64, Failure> {
        let at = unix_seconds();
        self.children.signal(name, Signal::SIGKILL)?;
        self.doors.remove(name);
        Ok(at)
    }

    /// Asks a process to leave. Clients that choose a process choose another one from now on, as
    /// they would behind a load balancer.
    pub(crate) fn leave(&mut self, name: &str) -> Result<(), Failure> {
        if let Some(load) = &self.load {
            load.shut(name);
        }
        self.ask(name, "POST", "/leave").map(drop)
    }

    /// Reaps a process that has ended.
    pub(crate) fn reap(&mut self, name: &str) -> Result<(), Failure> {
        self.doors.remove(name);
        self.children.reap(name)
    }

    /// Asks one process in person.
    pub(crate) fn ask(&self, name: &str, method: &str, path: &str) -> Result<Value, Failure> {
        let door = self.door(name)?;
        let asking = async { tokio::time::timeout(PATIENCE, http::ask(door, method, path, &[])).await };
        let answer = self.runtime.block_on(asking).map_err(|_| format!("{name} does not answer"))??;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status >= 300 {
            return Err(format!("{name} answers {method} {path} with {}: {body}", answer.status).into());
        }
        Ok(serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// Asks one process in person until it has an answer, for 10 s at most.
    pub(crate) fn insist(&mut self, name: &str, method: &str, path: &str) -> Result<Value, Failure> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            match self.ask(name, method, path) {
                Err(_) if Instant::now() < end => self.quiet(RETRY)?,
                answer => return answer,
            }
        }
    }

    // ---- listening -----------------------------------------------------------------------------

    /// Clients send nothing to a process marked as away.
    fn notify_clients(&self, line: &Value) {
        let Some(load) = self.load.as_ref().filter(|_| line["process"] == REPORTER) else { return };
        let name = line["node"].as_str().or_else(|| line["member"]["name"].as_str()).unwrap_or_default();
        match line["event"].as_str() {
            Some("suspected" | "left") => load.shut(name),
            Some("died") => load.abandon(name),
            Some("cleared" | "returned" | "joined") => {
                if let Some(door) = self.doors.get(name) {
                    load.open(name, *door);
                }
            }
            _ => {}
        }
    }

    /// Waits for what the reporter says about a process.
    pub(crate) fn about(&mut self, event: &str, name: &str, from: usize) -> Result<f64, Failure> {
        let matches = |line: &Value| {
            let named = line["node"] == name || line["member"]["name"] == name;
            line["event"] == event && line["process"] == REPORTER && named
        };
        self.wait(&format!("{REPORTER} says that {name} {event}"), from, matches, 1)
    }

    /// Ends all that runs.
    pub(crate) fn end(&mut self) {
        self.children.end();
        self.etcd = None;
    }
}

/// Whether a line says that a shard runs now.
fn is_shard_start(line: &Value) -> bool {
    line["event"] == "started" && line["shard"].is_object()
}

/// The config that all processes have in common, and the etcd that was started for them.
fn authority(settings: &Settings, children: &Children) -> Result<(String, Option<Etcd>), Failure> {
    if settings.authority != Authority::Etcd && !settings.endpoints.is_empty() {
        return Err("--endpoints without --authority etcd; name both".into());
    }
    match settings.authority {
        Authority::View => Ok((format!("{CONFIG}authority = \"view\"\n"), None)),
        Authority::File => {
            let folder = children.folder().join("authority");
            std::fs::create_dir_all(&folder)?;
            // A string of JSON is one of TOML.
            let folder = serde_json::to_string(&folder.display().to_string())?;
            Ok((format!("{CONFIG}authority = \"file\"\nsession_ttl = \"2s\"\nfolder = {folder}\n"), None))
        }
        Authority::Etcd if !cfg!(feature = "etcd") => {
            Err("this program was built without etcd; build it with --features etcd".into())
        }
        Authority::Etcd => {
            let own = if settings.endpoints.is_empty() {
                Some(Etcd::start(children.folder())?)
            } else {
                etcd::check(&settings.endpoints)?;
                None
            };
            let endpoints: Vec<&String> = own.iter().map(|etcd| &etcd.endpoint).chain(&settings.endpoints).collect();
            let endpoints = serde_json::to_string(&endpoints)?;
            // One prefix for each run, so that what another one has left behind is not in the way.
            let prefix = format!("/heartbeat-failover-{}", std::process::id());
            let table = format!("[ownership.etcd]\nendpoints = {endpoints}\nprefix = \"{prefix}\"\n");
            Ok((format!("{CONFIG}authority = \"etcd\"\nsession_ttl = \"5s\"\n{table}"), own))
        }
    }
}
