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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::fixture::{Fixture, just_after, ms};

    #[test]
    fn the_first_answer_connects_and_the_next_is_no_news() {
        let mut node = Fixture::new(&[]);
        let mut contact = Contact::new(ms(0));
        contact.handle_refusal(ms(1));
        assert_eq!(contact.is_connected, None, "a refusal does not connect");
        contact.handle_answer(&mut node.ctx);
        contact.handle_answer(&mut node.ctx);
        assert_eq!(node.events(), [Event::Connected]);
    }

    #[test]
    fn silence_longer_than_the_timeout_isolates_once() {
        let (mut contact, timeout) = (Contact::new(ms(1_000)), Duration::from_secs(6));
        assert_eq!(contact.check_isolation(ms(7_000), timeout), None, "at the timeout itself");
        let silent_for = Some(timeout + Duration::from_nanos(1));
        assert_eq!(contact.check_isolation(just_after(ms(7_000)), timeout), silent_for);
        assert_eq!(contact.check_isolation(ms(9_000), timeout), None);
        contact.restart(ms(9_000));
        assert_eq!(contact.silence(ms(9_000)), Duration::ZERO);
    }

    /// Checks the silence at 5 s of a node that was answered at `answered` and then paused.
    #[track_caller]
    fn check_pause(answered: u64, pause: (u64, u64), expected: u64) {
        let mut contact = Contact::new(ms(answered));
        contact.discount_pause(Pause { from: ms(pause.0), to: ms(pause.1) });
        assert_eq!(contact.silence(ms(5_000)), Duration::from_millis(expected));
    }

    #[test]
    fn a_pause_of_this_node_is_no_silence() {
        check_pause(0, (1_000, 3_000), 3_000);
        check_pause(2_900, (1_000, 3_000), 2_000);
        check_pause(0, (2_000, 2_000), 5_000);
    }

    #[test]
    fn an_earlier_refusal_does_not_lengthen_the_silence() {
        let mut contact = Contact::new(ms(3_000));
        contact.handle_refusal(ms(2_000));
        assert_eq!(contact.silence(ms(5_000)), Duration::from_secs(2));
        contact.handle_refusal(ms(4_000));
        assert_eq!(contact.silence(ms(5_000)), Duration::from_secs(1));
    }

    #[test]
    fn the_reply_time_is_that_of_rfc_6298() {
        let (mut contact, round_trip) = (Contact::new(ms(0)), Duration::from_millis(80));
        assert_eq!(contact.reply_time(), Duration::ZERO, "before the first answer");
        contact.handle_round_trip(round_trip);
        assert_eq!(contact.reply_time(), Duration::from_millis(80 + 4 * 40));
        contact.handle_round_trip(round_trip);
        assert_eq!(contact.reply_time(), Duration::from_millis(80 + 4 * 30));
    }
}
