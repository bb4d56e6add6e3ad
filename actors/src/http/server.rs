//! The server that a node starts by itself, on a thread of its own.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::{App, HttpServer};
use heartbeat_core::config::HttpConfig;
use tokio::sync::oneshot;
use tracing::{error, info};

use crate::http::{Door, page};

/// Connections at once. More wait in the system's queue.
const CONNECTIONS_MAX: usize = 256;

/// How long a client may take to send the head of its request.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

/// How long requests under way may take when the node has left.
const STOPS_WITHIN: u64 = 1;

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    end: oneshot::Sender<()>,
    /// Answers when the port is free again.
    over: oneshot::Receiver<()>,
}

/// Takes the address of the config.
///
/// # Errors
/// The address is in use, is not this host's, or needs rights that this process does not have.
pub(crate) fn bind(config: &HttpConfig) -> io::Result<TcpListener> {
    TcpListener::bind(config.listen)
}

impl Server {
    /// Serves the door's paths on this listener.
    ///
    /// # Errors
    /// The system makes no thread.
    pub(crate) fn start(door: &Arc<Door>, listener: TcpListener) -> io::Result<Server> {
        let address = listener.local_addr()?;
        door.open(); // Now, and not when the server's thread comes to it: no event is to be missed.
        let (end, ended) = oneshot::channel();
        let (is_over, over) = oneshot::channel::<()>();
        let door = door.clone();
        std::thread::Builder::new().name("heartbeat-http".into()).spawn(move || {
            if let Err(error) = serve(&door, listener, ended) {
                error!(event = "no_http", %address, %error, "the HTTP server of this node has ended");
            }
            drop(is_over);
        })?;
        info!(event = "http_listens", %address, "health, metrics and the node's view are served over HTTP");
        Ok(Server { address, end, over })
    }

    /// Lets requests under way end, and gives the port back.
    pub(crate) async fn end(self) {
        drop(self.end);
        let _ = self.over.await; // An error: the thread has ended.
    }
}

fn serve(door: &Arc<Door>, listener: TcpListener, ended: oneshot::Receiver<()>) -> io::Result<()> {
    let door = door.clone();
    actix_rt::System::new().block_on(async move {
        let server = HttpServer::new(move || App::new().configure(door.routes()).configure(page::root))
            .workers(1)
            .max_connections(CONNECTIONS_MAX)
            .client_request_timeout(REQUEST_WITHIN)
            .shutdown_timeout(STOPS_WITHIN)
            .disable_signals()
            .listen(listener)?
            .run();
        let handle = server.handle();
        actix_rt::spawn(async move {
            let _ = ended.await; // An error: its sender was dropped.
            handle.stop(true).await;
        });
        server.await
    })
}
