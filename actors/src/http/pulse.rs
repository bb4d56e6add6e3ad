//! `Pulse`: whether the node's receiver and supervisor do their work, known without asking them.
//!
//! A thread of its own sends a pulse the way of every sign of life: to the receiver, and from there
//! to the supervisor. A probe compares the pulses sent with those that came through. So it answers
//! at once, whatever the node's threads do. A pause of the whole process does not count: in it no
//! pulse is sent.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::Addr;
use tracing::error;

use crate::control::input::Pulse as Sign;
use crate::control::receiver::Receiver;

/// Longest time between two pulses.
const EVERY_MAX: Duration = Duration::from_secs(1);

/// Shortest time between two pulses.
const EVERY_MIN: Duration = Duration::from_millis(10);

/// Pulses through receiver and supervisor.
pub(crate) struct Pulse {
    receiver: Addr<Receiver>,
    every: Duration,
    /// So many pulses may be under way.
    under_way_max: u64,
    is_started: AtomicBool,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    /// The newest that came through.
    back: Arc<AtomicU64>,
}

impl Pulse {
    /// Pulses that find a stuck supervisor within `timeout`.
    pub(crate) fn new(receiver: Addr<Receiver>, timeout: Duration) -> Pulse {
        let every = (timeout / 8).clamp(EVERY_MIN, EVERY_MAX);
        let under_way_max = (timeout.as_nanos() * 3 / 4 / every.as_nanos()).max(1) as u64;
        Pulse { receiver, every, under_way_max, is_started: AtomicBool::new(false), counts: Arc::default() }
    }

    /// Begins to send them, once.
    pub(crate) fn start(&self) {
        if self.is_started.swap(true, Ordering::AcqRel) {
            return;
        }
        let (receiver, every, counts) = (self.receiver.clone(), self.every, Arc::downgrade(&self.counts));
        let thread = std::thread::Builder::new().name("heartbeat-pulse".into());
        if let Err(error) = thread.spawn(move || send(&receiver, every, &counts)) {
            error!(event = "no_pulse", %error, "no thread for the health check of the supervisor");
        }
    }

    /// For how long no pulse has come through, to the length of a pulse; zero if that is normal.
    pub(crate) fn silence(&self) -> Duration {
        let (sent, back) = (self.counts.sent.load(Ordering::Acquire), self.counts.back.load(Ordering::Acquire));
        self.every * sent.saturating_sub(back).saturating_sub(1).min(u64::from(u32::MAX)) as u32
    }

    /// Whether the receiver is there: the node has not left.
    pub(crate) fn is_connected(&self) -> bool {
        self.receiver.connected()
    }

    /// Whether receiver and supervisor do their work.
    pub(crate) fn is_alive(&self) -> bool {
        let (sent, back) = (self.counts.sent.load(Ordering::Acquire), self.counts.back.load(Ordering::Acquire));
        self.is_connected() && sent.saturating_sub(back) <= self.under_way_max
    }
}

/// Sends pulses until the node has left, or its door is dropped.
fn send(receiver: &Addr<Receiver>, every: Duration, counts: &Weak<Counts>) {
    for number in 1.. {
        let Some(counts) = counts.upgrade().filter(|_| receiver.connected()) else { return };
        counts.sent.store(number, Ordering::Release);
        receiver.do_send(Sign { number, back: counts.back.clone() });
        drop(counts);
        std::thread::sleep(every);
    }
}
