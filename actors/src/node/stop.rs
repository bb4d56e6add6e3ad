//! `until_stopped`: an orderly end, on a signal or on request.

use std::io;
use std::process::{ExitCode, Termination};
use std::task::Poll;

use tracing::{info, warn};

use crate::clock::sleep;
use crate::node::Node;

/// Why [`Node::until_stopped`] has returned. The node has left by then.
///
/// `main` may return it: the process then ends with success.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StopReason {
    /// The process got SIGTERM, as from systemd or Kubernetes.
    Terminated,
    /// The process got SIGINT (Ctrl-C).
    Interrupted,
    /// The application called [`Node::stop`].
    Requested,
    /// The node left by itself or by [`Node::leave`].
    Left,
}

impl Termination for StopReason {
    fn report(self) -> ExitCode {
        ExitCode::SUCCESS
    }
}

impl StopReason {
    /// The exit code of a process that such a signal ends at once.
    fn code_at_once(self) -> i32 {
        match self {
            StopReason::Interrupted => 130,
            StopReason::Terminated | StopReason::Requested | StopReason::Left => 143,
        }
    }
}

impl Node {
    /// Waits for SIGTERM, SIGINT, [`Node::stop`], or until the node has left, and stops the node in
    /// order.
    ///
    /// 1. The node is not ready any more: `/readyz` and [`Node::is_stopping`] say so. It serves on
    ///    for `stop.drain`, in which load balancers find other nodes.
    /// 2. It leaves ([`Node::leave`]): shards are handed over, workers finish what they have, and
    ///    the other nodes are told.
    ///
    /// A second signal ends the process at once, with exit code 130 or 143.
    ///
    /// ```no_run
    /// use heartbeat_actors::prelude::*;
    /// use heartbeat_actors::StopReason;
    ///
    /// #[actix::main]
    /// async fn main() -> Result<StopReason, Box<dyn std::error::Error>> {
    ///     let node = Node::start(Config::default()).await?;
    ///     Ok(node.until_stopped().await?)
    /// }
    /// ```
    ///
    /// # Errors
    /// The system lets this process wait for no signal.
    pub async fn until_stopped(&self) -> io::Result<StopReason> {
        let mut signals = Signals::new()?;
        let reason = tokio::select! {
            reason = signals.next() => reason,
            () = self.inner.stop.notified() => StopReason::Requested,
            _ = self.until(|_, _| Poll::Pending) => return Ok(StopReason::Left),
        };
        self.inner.view.set_draining();
        let drain = self.inner.config.stop.drain;
        info!(event = "stopping", ?reason, ?drain, "the node stops, and is not ready any more");
        let at_once = actix_rt::spawn(async move {
            let reason = signals.next().await;
            warn!(event = "stopped_at_once", "a second signal came; the process ends at once");
            std::process::exit(reason.code_at_once());
        });
        sleep(drain).await;
        self.leave().await;
        at_once.abort();
        Ok(reason)
    }

    /// Asks for an orderly end: [`Node::until_stopped`] stops the node as after SIGTERM.
    pub fn stop(&self) {
        self.inner.stop.notify_one();
    }

    /// Whether the node is about to stop, leaves, or has left. New requests should go elsewhere.
    pub fn is_stopping(&self) -> bool {
        self.inner.view.is_draining() || self.check_here().is_err()
    }
}

/// The signals that ask a process to end.
#[cfg(unix)]
struct Signals {
    terminate: actix_rt::signal::unix::Signal,
    interrupt: actix_rt::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Signals> {
        use actix_rt::signal::unix::{SignalKind, signal};
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> StopReason {
        tokio::select! {
            _ = self.terminate.recv() => StopReason::Terminated,
            _ = self.interrupt.recv() => StopReason::Interrupted,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals)
    }

    async fn next(&mut self) -> StopReason {
        match actix_rt::signal::ctrl_c().await {
            Ok(()) => StopReason::Interrupted,
            // Without signals only a request or the node's own end stops it.
            Err(_) => std::future::pending().await,
        }
    }
}
