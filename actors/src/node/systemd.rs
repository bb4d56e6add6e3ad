//! `systemd`: the watchdog outside the process, for when the receiver or the supervisor is itself
//! stuck.
//!
//! A pulse takes the way of every sign of life: to the receiver, and from there to the supervisor.
//! A thread of its own sends the pulses, and sends `WATCHDOG=1` only after one has come through. If
//! receiver or supervisor is stuck, systemd gets no `WATCHDOG=1` and starts the process anew.
//!
//! The workers have no part in it. The supervisor replaces them, and one of them must not end the
//! process for all.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::Addr;
use sd_notify::NotifyState;
use tracing::{debug, warn};

use crate::control::input::{Pulse, Request, ask};
use crate::control::receiver::Receiver;
use crate::node::Node;

/// Pulses sent in the time systemd allows: two for each `WATCHDOG=1`, of which two are sent in that
/// time, as sd_watchdog_enabled(3) advises.
const PULSES: u32 = 4;

impl Node {
    /// Notifies systemd that this service is up (`READY=1`), and later that the node leaves
    /// (`STOPPING=1`). If the unit sets `WatchdogSec=`, it also sends `WATCHDOG=1` as long as
    /// receiver and supervisor do their work. Call it once, when your workers are up.
    ///
    /// If the process was not started by systemd (`NOTIFY_SOCKET` is not set), nothing happens.
    ///
    /// # Errors
    /// If the socket that systemd named cannot be written to, or the watchdog's thread cannot be
    /// made.
    pub async fn notify_systemd(&self) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::Ready])?;
        let supervisor = self.supervisor();
        supervisor.do_send(Request::OnLeave(Box::new(|| notify(NotifyState::Stopping))));
        let Some(allowed) = sd_notify::watchdog_enabled() else { return Ok(()) };
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the node has ended");
        let receiver = ask(supervisor, Request::Receiver).await.ok_or_else(gone)?;
        debug!(event = "watchdog_started", ?allowed, "systemd's watchdog is fed");
        std::thread::Builder::new().name("heartbeat-watchdog".into()).spawn(move || feed(&receiver, allowed))?;
        Ok(())
    }
}

/// Feeds the watchdog as long as receiver and supervisor answer.
fn feed(receiver: &Addr<Receiver>, allowed: Duration) {
    let back = Arc::new(AtomicU64::new(0));
    let mut fed = 0;
    for number in 1.. {
        if !receiver.connected() {
            return;
        }
        receiver.do_send(Pulse { number, back: back.clone() });
        std::thread::sleep(allowed / PULSES);
        if number % 2 == 1 {
            continue;
        }
        let newest = back.load(Ordering::Acquire);
        if newest > fed {
            fed = newest;
            notify(NotifyState::Watchdog);
        } else {
            warn!(
                event = "watchdog_not_fed",
                pulse = number,
                "receiver or supervisor is stuck; the watchdog is not fed"
            );
        }
    }
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(event = "systemd_unreachable", %error, "systemd did not receive a notification");
    }
}
