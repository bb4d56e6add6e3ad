//! Chen, Toueg and Aguilera's NFD-E: a constant margin past the expected arrival.
//!
//! The network delays every heartbeat by something; its mean over the last n tells where the next one should come in. Wait for a constant
//! margin longer, then suspect. With arrivals `A_i` of slots `s_i` of a schedule with interval `eta`:
//!
//! ```text
//! EA       = (1/n) * sum(A_i - eta * s_i) + eta * (l + 1)         times; l: the newest slot, n: heartbeats in the window
//! deadline = EA + alpha                                           alpha: the margin, a time
//! ```
//!
//! The estimate follows the slots, so a lost heartbeat costs one interval of the margin and does not move the estimate. A margin of k intervals
//! rides out the loss of k heartbeats in a row. Nothing else is learnt: the margin has to be chosen by somebody who knows the worst pause.
//!
//! Phi assumes what the paper's analysis does when nothing is known of the delay but its mean: none. It is measured in margins: 0 up to the
//! expected arrival, 1 at the deadline.
//!
//! Source: Chen, Toueg and Aguilera, "On the quality of service of failure detectors", IEEE Transactions on Computers 51(5), 2002, section 6
//! (NFD-E). We differ in that eta is what each heartbeat announces, so it may change; and in that a schedule that has moved (a sender whose
//! clock stood still) empties the window, where NFD-E would suspect every heartbeat until the window has run through.

use std::time::Duration;

use super::schedule::{Schedule, instant};
use super::window::Window;
use super::{Arrival, Detector, Pause};
use crate::time::{Instant, nanos};

/// Suspects a target that is later than expected by more than a constant.
#[derive(Clone, Debug)]
pub struct Chen {
    /// Alpha: forgiven past the expected arrival.
    margin: Duration,
    schedule: Schedule,
    /// How late the last heartbeats were in the time-table.
    lateness: Window,
    expected: Instant,
    deadline: Instant,
}

impl Chen {
    /// A detector for a target that sends every `interval`, watched since `now`. It forgives `margin` past the expected arrival, which it learns
    /// from the last `window` heartbeats, 8 bytes each. Before the first heartbeat it expects one after `interval`.
    ///
    /// # Panics
    /// If `window` is zero: no heartbeat, no mean.
    pub fn new(margin: Duration, window: u32, interval: Duration, now: Instant) -> Chen {
        let mut chen = Chen {
            margin,
            schedule: Schedule::new(interval, now),
            lateness: Window::new(window),
            expected: now,
            deadline: now,
        };
        chen.update();
        chen
    }

    fn update(&mut self) {
        let mean = self.lateness.mean().unwrap_or(0.0);
        self.expected = instant(self.schedule.next_due().saturating_add(mean as i64));
        self.deadline = self.expected + self.margin;
    }
}

impl Detector for Chen {
    fn heartbeat(&mut self, arrival: Arrival) {
        let usual = self.lateness.mean().unwrap_or(0.0) as i64;
        let place = self.schedule.heartbeat(arrival, usual);
        if place.anew {
            self.lateness.clear();
        }
        if !arrival.waited {
            self.lateness.push(place.late);
        }
        self.update();
        if arrival.waited {
            self.deadline = self.deadline.max(arrival.at + arrival.interval);
        }
    }

    fn deadline(&self) -> Instant {
        self.deadline
    }

    fn expected(&self) -> Instant {
        self.expected
    }

    fn phi(&self, now: Instant) -> f64 {
        nanos(now - self.expected) as f64 / nanos(self.deadline - self.expected).max(1) as f64
    }

    fn excuse(&mut self, pause: Pause) {
        let interval = Duration::from_nanos(self.schedule.interval() as u64);
        self.deadline = pause.excuse(self.deadline, interval);
    }

    fn renew(&mut self, now: Instant) {
        let interval = Duration::from_nanos(self.schedule.interval() as u64);
        self.deadline = self.deadline.max(now + interval + self.margin);
    }
}
