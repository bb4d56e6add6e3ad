//! `start`: starts the actors of a node, on a thread of their own or, in a test, on the calling
//! thread.

use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use actix::{Actor, Addr, Context};
use actix_rt::Arbiter;
use futures_util::FutureExt;
use heartbeat_core::config::ClusterConfig;
use heartbeat_core::member::{ProcessId, name_hash};
use heartbeat_core::{Config, ConfigError, Engine, Generation, Identity, NodeId};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::error;

use crate::authority::AuthorityError;
use crate::clock::Clock;
use crate::control::input::Request;
use crate::control::receiver::Receiver;
use crate::control::sealing::Sealing;
use crate::control::sender::NodeSender;
use crate::control::stream::accept;
use crate::control::supervisor::{Links, Supervisor};
use crate::requests::driver::Me;
use crate::requests::{self, RequestsLink};
use crate::seal::{SealError, SealShared};
use crate::spans::Propagator;
use crate::thread::ThreadSource;
use crate::transport::Transport;
use crate::view::node_view::View;
use crate::worker::dead_letter::DeadLetterSink;
use crate::worker::drop_queue::DropQueue;
use crate::worker::histogram::Histograms;
use crate::worker::node_lease::NodeLease;
use crate::worker::runner::panic_text;
use crate::worker::slot::Control;
use crate::worker::status_cell::Cells;
use crate::worker::worker_door::WorkerDoors;

/// Why a node did not start. Nothing of it is left running.
#[derive(Debug)]
#[non_exhaustive]
pub enum NodeError {
    /// There is no actix system: call this within `#[actix::main]` or `System::block_on`.
    NoSystem,
    /// The config contradicts itself.
    Config(ConfigError),
    /// The address cannot be bound; the address and the system's error.
    Bind(SocketAddr, io::Error),
    /// The control thread cannot be made.
    Thread(io::Error),
    /// The authority over shards cannot be opened.
    Authority(AuthorityError),
    /// The keys of `[cluster.seal]` cannot be used.
    Seal(SealError),
    /// The HTTP server of `[http]` cannot be started; its address and the error.
    Http(SocketAddr, io::Error),
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NodeError::NoSystem => f.write_str("no actix system runs here; use #[actix::main] or System::block_on"),
            NodeError::Config(error) => error.fmt(f),
            NodeError::Bind(address, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "cluster.listen {address} is in use by another process; choose another port, or 0 for a free one"
                )
            }
            NodeError::Bind(address, error) => {
                write!(f, "cluster.listen {address} cannot be bound ({error}); use an address of this host")
            }
            NodeError::Authority(error) => error.fmt(f),
            NodeError::Seal(error) => error.fmt(f),
            NodeError::Http(address, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "http.listen {address} is in use by another process; choose another port, or 0 for a free one"
                )
            }
            NodeError::Http(address, error) => write!(f, "http.listen {address} cannot be served ({error})"),
            NodeError::Thread(error) => write!(f, "the control thread cannot be made ({error})"),
        }
    }
}

impl std::error::Error for NodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            NodeError::NoSystem => None,
            NodeError::Config(error) => Some(error),
            NodeError::Authority(error) => Some(error),
            NodeError::Seal(error) => Some(error),
            NodeError::Bind(_, error) | NodeError::Http(_, error) | NodeError::Thread(error) => Some(error),
        }
    }
}

impl From<AuthorityError> for NodeError {
    fn from(error: AuthorityError) -> NodeError {
        NodeError::Authority(error)
    }
}

impl From<SealError> for NodeError {
    fn from(error: SealError) -> NodeError {
        NodeError::Seal(error)
    }
}

impl From<ConfigError> for NodeError {
    fn from(error: ConfigError) -> NodeError {
        NodeError::Config(error)
    }
}

/// What a node consists of once its actors run.
pub(crate) struct Started {
    pub(crate) config: Config,
    pub(crate) control: Arc<Control>,
    pub(crate) supervisor: Addr<Supervisor>,
    pub(crate) view: Arc<View>,
    pub(crate) cells: Arc<Cells>,
    /// The requests to and from other nodes, if there is a cluster.
    pub(crate) requests: Option<Arc<RequestsLink>>,
    /// What seals the traffic between nodes; `None` if it is plain.
    pub(crate) seal: Option<Arc<SealShared>>,
    /// The address that the node publishes, if there is a cluster.
    pub(crate) address: Option<SocketAddr>,
    #[cfg(feature = "http")]
    pub(crate) receiver: Addr<Receiver>,
}

/// The parts that have started on the control thread.
struct Actors {
    supervisor: Addr<Supervisor>,
    #[cfg(feature = "http")]
    receiver: Addr<Receiver>,
    address: Option<SocketAddr>,
    requests: Option<Arc<RequestsLink>>,
    seal: Option<Arc<SealShared>>,
}

/// The parts of a node that exist before its actors run.
#[derive(Clone)]
struct Parts {
    config: Config,
    clock: Clock,
    thread_source: ThreadSource,
    view: Arc<View>,
    cells: Arc<Cells>,
    is_leaving: Arc<AtomicBool>,
    node_lease: Arc<NodeLease>,
    doors: Arc<WorkerDoors>,
}

impl Parts {
    fn new(config: Config, clock: Clock, thread_source: ThreadSource) -> Parts {
        let me = config.cluster.as_ref().map(|cluster| NodeId::of(&cluster.node));
        let (view, cells) = (Arc::new(View::new(me)), Arc::default());
        Parts {
            config,
            clock,
            thread_source,
            view,
            cells,
            is_leaving: Arc::default(),
            node_lease: Arc::new(NodeLease::new()),
            doors: Arc::default(),
        }
    }

    fn started(self, actors: Actors) -> Started {
        let Parts { config, clock, thread_source, view, cells, is_leaving, node_lease, doors } = self;
        let control = Arc::new(Control {
            clock,
            burst: config.workers.burst,
            node_lease,
            snapshot_bytes_max: config.ownership.snapshot_bytes_max,
            is_leaving,
            dead_letters: DeadLetterSink::new(config.events.queue),
            drop_queue: DropQueue::new(thread_source),
            doors,
            propagator: Propagator::default(),
            supervisor: actors.supervisor.clone().recipient(),
            // Only the door shows them.
            histograms: (cfg!(feature = "http") && config.metrics.histograms).then(Histograms::default),
        });
        Started {
            config,
            control,
            supervisor: actors.supervisor,
            view,
            cells,
            requests: actors.requests,
            seal: actors.seal,
            address: actors.address,
            #[cfg(feature = "http")]
            receiver: actors.receiver,
        }
    }
}

/// Starts a node's actors on an arbiter of their own.
pub(crate) async fn on_own_thread<F>(config: Config, bind: F) -> Result<Started, NodeError>
where
    F: FnOnce() -> io::Result<Option<Rc<dyn Transport>>> + Send + 'static,
{
    for warning in config.check()?.warnings {
        tracing::warn!(event = "setting_unwise", warning, "a setting is unwise");
    }
    if actix_rt::System::try_current().is_none() {
        return Err(NodeError::NoSystem);
    }
    let control_arbiter = Arbiter::try_new().map_err(NodeError::Thread)?;
    let parts = Parts::new(config, Clock::start(), ThreadSource::System);
    let (started, start) = oneshot::channel();
    let there = parts.clone();
    control_arbiter.spawn_fn(move || {
        // The receiver is below, and waits.
        let _ = started.send(start_actors(there, bind));
    });
    let control_died = || NodeError::Thread(io::ErrorKind::BrokenPipe.into());
    match start.await.unwrap_or_else(|_| Err(control_died())) {
        Ok(actors) => Ok(parts.started(actors)),
        Err(error) => {
            control_arbiter.stop();
            Err(error)
        }
    }
}

/// Starts a node's actors here, in virtual time, with simulated threads.
#[cfg(feature = "testkit")]
pub(crate) fn here(config: Config) -> Result<Started, NodeError> {
    config.check()?;
    let parts = Parts::new(config, Clock::start_virtual(), ThreadSource::SimulatedThread);
    let actors = start_actors(parts.clone(), || Ok(None))?;
    Ok(parts.started(actors))
}

/// Starts the three actors of the control arbiter, on it.
fn start_actors(
    parts: Parts,
    bind: impl FnOnce() -> io::Result<Option<Rc<dyn Transport>>>,
) -> Result<Actors, NodeError> {
    let Parts { config, clock, thread_source, view, cells, is_leaving, node_lease, doors } = parts;
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let listen = config.cluster.as_ref().map_or(nowhere, |cluster| cluster.listen);
    let transport = bind().map_err(|error| NodeError::Bind(listen, error))?;
    let listener = transport.as_ref().and_then(|transport| transport.listener());
    let listener = listener.map(tokio::net::TcpListener::from_std).transpose();
    let listener = listener.map_err(|error| NodeError::Bind(listen, error))?;
    let bound = transport.as_ref().map(|transport| transport.address());
    let address =
        bound.zip(config.cluster.as_ref()).map(|(bound, cluster): (_, &ClusterConfig)| cluster.advertised(bound));
    let generation = clock.generation();
    let identity = Identity { generation, address: address.unwrap_or(nowhere) };
    let host = identity.address.ip();
    let seed = seed(thread_source, generation, identity.address);
    let (seal, sealing) = open_seal(&config, generation)?;
    // Without a cluster every shard runs here, and no authority is asked.
    let authority = match &config.cluster {
        Some(_) => crate::authority::open(&config, generation)?,
        None => None,
    };
    let requests = match (&config.cluster, &listener) {
        (Some(cluster), Some(_)) => {
            let (node, name) = (NodeId::of(&cluster.node), name_hash(&cluster.name) as u32);
            let me = Me { node, generation, cluster: name, host, seal: seal.clone(), clock, doors };
            Some(requests::start(config.requests.clone(), me).map_err(NodeError::Thread)?)
        }
        (Some(_), None) | (None, _) => None,
    };
    let engine = Engine::new(config, identity, seed, clock.now())?;
    let context = Context::new();
    let supervisor = actix::AsyncContext::address(&context);
    let sender = transport
        .clone()
        .map(|transport| start_vital(thread_source, NodeSender { transport, sealing: sealing.clone() }));
    let accepting = listener.map(|listener| {
        let accept = accept(clock, listener, supervisor.clone(), requests.clone(), seal.clone());
        spawn_vital(thread_source, "accept", accept)
    });
    let receiver = start_vital(thread_source, Receiver::new(clock, supervisor.clone(), transport, sealing));
    #[cfg(feature = "http")]
    let probed = receiver.clone();
    let links = Links {
        receiver,
        sender,
        accepting,
        host,
        seal: seal.clone(),
        is_leaving,
        node_lease,
        requests: requests.clone(),
        authority,
    };
    let actor = Supervisor::new(clock, thread_source, engine, view, cells, links);
    spawn_vital(thread_source, type_name::<Supervisor>(), context.into_future(actor));
    if let Some(seal) = &seal {
        publish_keys(seal, &supervisor).map_err(NodeError::Thread)?;
    }
    Ok(Actors {
        supervisor,
        #[cfg(feature = "http")]
        receiver: probed,
        address,
        requests,
        seal,
    })
}

/// The seed of an engine. Randomness is for jitter only, so that restarts do not coincide. Any seed
/// that differs between nodes will do. In virtual time every run is to be the same.
fn seed(thread_source: ThreadSource, generation: Generation, address: SocketAddr) -> u64 {
    match thread_source {
        ThreadSource::System => generation.0 ^ u64::from(std::process::id()) << 48 ^ u64::from(address.port()) << 32,
        #[cfg(feature = "testkit")]
        ThreadSource::SimulatedThread => generation.0,
    }
}

/// Publishes the ids of the keys, now and whenever they change.
fn publish_keys(seal: &Arc<SealShared>, supervisor: &Addr<Supervisor>) -> io::Result<()> {
    supervisor.do_send(Request::PublishKeys);
    let publisher = supervisor.clone();
    seal.follow_files(move || publisher.do_send(Request::PublishKeys))
}

/// Reads the keys that the traffic between nodes is sealed with, if the config has any.
fn open_seal(config: &Config, generation: Generation) -> Result<(Option<Arc<SealShared>>, Sealing), SealError> {
    let configured = config.cluster.as_ref().and_then(|cluster| Some((cluster, cluster.seal.as_ref()?)));
    let Some((cluster, seal)) = configured else { return Ok((None, Sealing::default())) };
    let me = ProcessId { node: NodeId::of(&cluster.node), generation };
    let shared = Arc::new(SealShared::open(seal, me)?);
    let sealing = Sealing::new(&shared, config.membership.members_max)?;
    Ok((Some(shared), sealing))
}

/// The code with which a process ends whose control thread has panicked: `EX_SOFTWARE` of
/// sysexits(3).
const EXIT_SOFTWARE: i32 = 70;

/// Starts an actor that the node cannot go on without.
fn start_vital<A: Actor<Context = Context<A>>>(thread_source: ThreadSource, actor: A) -> Addr<A> {
    let context = Context::new();
    let address = actix::AsyncContext::address(&context);
    spawn_vital(thread_source, type_name::<A>(), context.into_future(actor));
    address
}

/// Spawns a part of the control thread that the node cannot go on without. A panic in it is a fault
/// of this library. Without it workers would still run, but no failure would be noticed any more.
/// So a panic ends the process, with the reason in the log, and a manager (systemd, Kubernetes)
/// starts it again.
fn spawn_vital(
    thread_source: ThreadSource,
    part: &'static str,
    future: impl Future<Output = ()> + 'static,
) -> JoinHandle<()> {
    match thread_source {
        ThreadSource::System => actix_rt::spawn(async move {
            let Err(payload) = AssertUnwindSafe(future).catch_unwind().await else { return };
            let reason = panic_text(&*payload);
            // The panic may have come from the subscriber that takes the log.
            let _ = catch_unwind(|| {
                error!(event = "control_panicked", part, reason, "the control thread panicked; ending the process")
            });
            std::process::exit(EXIT_SOFTWARE);
        }),
        // In a test the panic hook reports it, and the test goes on.
        #[cfg(feature = "testkit")]
        ThreadSource::SimulatedThread => actix_rt::spawn(future),
    }
}
