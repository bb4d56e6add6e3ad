//! `Contact`: whether other nodes answer this one, and how long their answers take.
//!
//! An observer acknowledges one heartbeat in each interval, and a seed answers a join. While none
//! of them answers for `timeout`, this node is cut off and says so. Of the answers, a round-trip
//! time is estimated as TCP does.
//!
//! Source: V. Paxson, M. Allman, J. Chu and M. Sargent, "Computing TCP's Retransmission Timer", RFC
//! 6298, 2011, section 2.

use std::time::Duration;

use crate::ctx::Ctx;
use crate::detection::Pause;
use crate::event::Event;
use crate::time::{Instant, nanos};

/// When other nodes last answered, and how long that took.
#[derive(Clone, Debug)]
pub(super) struct Contact {
    /// When an observer or a seed last answered; before the first answer, the start.
    answered_at: Instant,
    /// Whether other nodes answer, once that is known.
    is_connected: Option<bool>,
    /// Smoothed round trip and its mean deviation, in nanoseconds.
    round_trip: Option<(f64, f64)>,
}

impl Contact {
    pub(super) fn new(now: Instant) -> Contact {
        Contact { answered_at: now, is_connected: None, round_trip: None }
    }

    // ---- inputs ---------------------------------------------------------------------------------

    /// Takes a pause of this node out of the silence. An answer to what was sent before the pause
    /// is late through no fault of the network.
    pub(super) fn discount_pause(&mut self, pause: Pause) {
        self.answered_at = (self.answered_at + (pause.to - pause.from)).min(pause.to);
    }

    /// Handles an answer of an observer or a seed.
    pub(super) fn handle_answer(&mut self, ctx: &mut Ctx) {
        self.answered_at = ctx.now;
        if self.is_connected != Some(true) {
            self.is_connected = Some(true);
            ctx.emit(Event::Connected);
        }
    }

    /// Handles an answer of a node that is not an observer: it ends the silence, and does not make
    /// this node connected.
    pub(super) fn handle_refusal(&mut self, now: Instant) {
        self.answered_at = self.answered_at.max(now);
    }

    /// Begins the silence anew: there is no node that should answer.
    pub(super) fn restart(&mut self, now: Instant) {
        self.answered_at = now;
    }

    /// Handles that an answer took this long.
    pub(super) fn handle_round_trip(&mut self, round_trip: Duration) {
        let sample = nanos(round_trip) as f64;
        self.round_trip = Some(match self.round_trip {
            None => (sample, sample / 2.0),
            Some((mean, spread)) => (mean + (sample - mean) / 8.0, spread + ((sample - mean).abs() - spread) / 4.0),
        });
    }

    /// Marks this node as cut off if no node has answered for longer than `timeout`. Returns for
    /// how long, when the mark is new.
    pub(super) fn check_isolation(&mut self, now: Instant, timeout: Duration) -> Option<Duration> {
        let silent_for = self.silence(now);
        if silent_for <= timeout || self.is_connected == Some(false) {
            return None;
        }
        self.is_connected = Some(false);
        Some(silent_for)
    }

    // ---- questions ------------------------------------------------------------------------------

    /// For how long no node has answered.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        now - self.answered_at
    }

    /// How long an answer takes here: the smoothed round trip and four deviations. Zero before the
    /// first answer.
    pub(super) fn reply_time(&self) -> Duration {
        let (mean, spread) = self.round_trip.unwrap_or_default();
        Duration::from_nanos((mean + 4.0 * spread) as u64)
    }
}
