//! The HTTP door: health for orchestrators, metrics for Prometheus, and what the node knows as
//! JSON (feature `http`).
//!
//! Everything here is read-only, and read at each request: an unused door costs one pulse a second.
//! With `[http] listen = "127.0.0.1:7180"` in its config a node starts a server of its own, on a
//! thread of its own. [`routes`] puts the same paths into a server of the application.
//!
//! # Quick start
//! ```
//! use actix_web::{App, test};
//! use heartbeat_actors::prelude::*;
//! # #[actix::main]
//! # async fn main() {
//! let node = Node::start(Config::default()).await.unwrap();
//! let app = App::new().configure(heartbeat_actors::http::routes(&node));
//! let app = test::init_service(app).await;
//! let request = test::TestRequest::get().uri("/livez").to_request();
//! assert!(test::call_service(&app, request).await.status().is_success());
//! # }
//! ```
//!
//! # Paths
//! | path | answers |
//! |---|---|
//! | `/livez` | 503 if the process should be restarted: see below |
//! | `/readyz` | 503 while requests should go elsewhere |
//! | `/startupz` | 503 until the node has joined its cluster and each worker has been up |
//! | `/members`, `/members/{name}` | the members as this node sees them, and who watches whom |
//! | `/dashboard` | a page for the browser; a server of the node has it at `/`, too |
//! | `/summary` | what needs attention, in one answer |
//! | `/links`, `/links/{name}` | the members that this node watches, and their detectors |
//! | `/workers` | the workers of this node with queue, messages and activity |
//! | `/groups` | the supervision tree, with restarts against their limits |
//! | `/threads` | the threads that run workers |
//! | `/shards` | the shards of each group with owner and epoch |
//! | `/requests` | requests to other nodes |
//! | `/config` | the settings in force, without passwords and tokens |
//! | `/events` | each event as it happens; `Last-Event-ID` goes on after an interruption |
//! | `/metrics` | the figures of the node in OpenMetrics text |
//!
//! Liveness fails while receiver or supervisor are stuck, or more threads are held than
//! `workers.zombies_max`. Readiness fails while the node has not joined its cluster, a group does
//! not run, or the node stops. `/workers` takes `state`, `kind`, `group`, `prefix`, `busy_for`,
//! `after`, `limit` and `sort`.
//!
//! Neither liveness nor readiness looks at other nodes or at shards: a probe that does can stop a
//! whole cluster from starting. `?verbose` explains each check.
//!
//! # Who may read
//! With `http.token` set, each path but the three for health wants `Authorization: Bearer TOKEN`.
//! The page itself, which holds no figures, asks for the token.
//! A server of the node listens on an address that is not loopback only with a token, or with
//! `http.insecure = true`.

mod access;
mod events;
mod figures;
mod health;
mod json;
mod metrics;
mod page;
mod pulse;
mod server;
mod summary;
mod workers;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use actix::Addr;
use actix_web::web::{Data, ServiceConfig};
use heartbeat_core::{Config, Generation};

use crate::clock::Clock;
use crate::control::receiver::Receiver;
use crate::control::supervisor::Supervisor;
use crate::http::events::Readers;
use crate::http::pulse::Pulse;
use crate::requests::RequestsLink;
use crate::seal::SealShared;
use crate::view::node_view::View;
use crate::worker::slot::Control;

pub(crate) use self::server::{Server, bind};

/// Puts the paths of the module's table into a server of the application, for this node.
///
/// The application's own middleware applies to them; `http.token` of the node's config is asked
/// for, too. Two nodes of one process go into different scopes.
///
/// ```no_run
/// use actix_web::{App, HttpServer};
/// use heartbeat_actors::prelude::*;
///
/// #[actix::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let node = Node::start(Config::default()).await?;
///     let app = move || App::new().configure(heartbeat_actors::http::routes(&node));
///     HttpServer::new(app).bind("127.0.0.1:8080")?.run().await?;
///     Ok(())
/// }
/// ```
pub fn routes(node: &crate::Node) -> impl FnOnce(&mut ServiceConfig) + use<> {
    node.door().routes()
}

/// What the paths read.
pub(crate) struct Door {
    config: Config,
    clock: Clock,
    /// Of this process; it makes the ids of events unlike those of another process.
    generation: Generation,
    view: Arc<View>,
    control: Arc<Control>,
    supervisor: Addr<Supervisor>,
    requests: Option<Arc<RequestsLink>>,
    /// What seals the traffic between nodes; `None` if it is plain.
    seal: Option<Arc<SealShared>>,
    pulse: Pulse,
    readers: Readers,
    /// Whether each worker was up once.
    has_started: AtomicBool,
}

impl Door {
    /// What a node serves whose control thread runs these actors.
    pub(crate) fn new(
        config: Config,
        view: Arc<View>,
        control: Arc<Control>,
        supervisor: Addr<Supervisor>,
        receiver: Addr<Receiver>,
        requests: Option<Arc<RequestsLink>>,
        seal: Option<Arc<SealShared>>,
    ) -> Door {
        let (clock, pulse) = (control.clock, Pulse::new(receiver, config.timeout));
        Door {
            config,
            clock,
            generation: clock.generation(),
            view,
            control,
            supervisor,
            requests,
            seal,
            pulse,
            readers: Readers::default(),
            has_started: AtomicBool::new(false),
        }
    }

    /// Starts what only a door in use needs.
    pub(crate) fn open(&self) {
        self.view.events().keep();
        self.pulse.start();
    }

    /// Opens the door, and returns its paths.
    pub(crate) fn routes(self: &Arc<Self>) -> impl FnOnce(&mut ServiceConfig) + use<> {
        self.open();
        let door = Data::from(self.clone());
        move |service: &mut ServiceConfig| {
            service.app_data(door);
            health::routes(service);
            json::routes(service);
            figures::routes(service);
            summary::routes(service);
            page::routes(service);
            workers::routes(service);
            events::routes(service);
            metrics::routes(service);
        }
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}
