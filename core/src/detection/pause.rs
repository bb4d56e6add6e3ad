//! `PauseDetector`: did this node sleep, rather than the others fall silent?
//!
//! A process that was paused has received nothing for as long. The silence that it sees is its own.
//! Before it judges others, it has to notice the pause and read what waits in its socket. The
//! detector knows when we were last awake, by our inputs and by a tick that it asks for. An input
//! that was due much earlier shows a pause: a stopped process, no CPU, a thread that was held. A
//! suspended machine may stop our clock too, so that nothing comes late; then the wall clock has
//! run ahead of ours.
//!
//! After a pause the socket is drained before any verdict. Verdicts are held until a drain that
//! began after the waking has found the socket empty. The detectors learn nothing from these
//! heartbeats, since their times show when we woke and not when they came. The hold is bounded by
//! the time that we are awake: neither a driver without a socket nor an endless flood delays
//! verdicts without end.
//!
//! It does not find a pause of up to `stall`. It finds every pause of over twice that while it
//! ticks. It cannot distinguish a suspended machine from a wall clock that was set forward: both
//! cost one interval of grace. A wall clock that was set back is ignored.

use std::time::Duration;

use crate::detection::Pause;
use crate::time::Instant;

/// Longest that verdicts are held after a pause, where an interval is longer: no machine needs more
/// to read what a socket's buffer holds.
const HOLD_MAX: Duration = Duration::from_secs(5);

/// Knows when this node was awake.
#[derive(Clone, Debug)]
pub(crate) struct PauseDetector {
    /// When we were last known to be awake.
    awake: Instant,
    /// Our clock and the wall clock, as they were last compared.
    clocks: Option<(Instant, Duration)>,
    hold: Option<VerdictHold>,
}

/// Verdicts wait for the socket to be drained.
#[derive(Clone, Copy, Debug)]
struct VerdictHold {
    /// When we woke.
    since: Instant,
    /// They wait no longer than this.
    until: Instant,
}

impl PauseDetector {
    /// Awake at `now`.
    pub(crate) fn new(now: Instant) -> PauseDetector {
        PauseDetector { awake: now, clocks: None, hold: None }
    }

    // ---- inputs ---------------------------------------------------------------------------------

    /// Handles an input at `now`, when we had asked to be woken at `due`. Returns the pause before
    /// it, and how late we were, if that was more than `stall`.
    pub(crate) fn wake(&mut self, now: Instant, due: Option<Instant>, stall: Duration) -> Option<(Pause, Duration)> {
        let from = self.awake;
        self.awake = from.max(now);
        let late_by = due.map_or(Duration::ZERO, |due| now - due.max(from));
        let is_pause = late_by > stall;
        // A hold counts only time that we are awake.
        if self.hold.is_some_and(|hold| hold.until <= if is_pause { from } else { now }) {
            self.hold = None;
        }
        is_pause.then_some((Pause { from, to: now }, late_by))
    }

    /// Compares the wall clock with ours at `now`. Returns by how much it ran ahead of ours since
    /// the last comparison, if that was more than `stall`.
    pub(crate) fn compare(&mut self, now: Instant, wall: Duration, stall: Duration) -> Option<Duration> {
        let (then, wall_then) = self.clocks.replace((now, wall))?;
        let ahead = wall.saturating_sub(wall_then).saturating_sub(now - then);
        (ahead > stall).then_some(ahead)
    }

    /// Holds verdicts after a pause, for an interval at most. A pause during a hold only moves its
    /// end by its own length. So pauses in quick succession hold verdicts no longer than that in
    /// all.
    pub(crate) fn hold(&mut self, pause: Pause, interval: Duration) {
        let until = match self.hold {
            Some(hold) => hold.until + (pause.to - pause.from),
            None => pause.to + interval.min(HOLD_MAX),
        };
        self.hold = Some(VerdictHold { since: pause.to, until });
    }

    /// Handles that a drain of the socket that began at `at` found it empty. A drain that began
    /// before we woke does not count.
    pub(crate) fn drained(&mut self, at: Instant) {
        if self.hold.is_some_and(|hold| hold.since <= at) {
            self.hold = None;
        }
    }

    // ---- questions ------------------------------------------------------------------------------

    /// Until when verdicts are held, if they are.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        self.hold.map(|hold| hold.until)
    }

    /// When it wants to be woken at the latest, so that a pause shows.
    pub(crate) fn tick(&self, stall: Duration) -> Instant {
        self.awake + stall
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_millis(250);
    const INTERVAL: Duration = Duration::from_secs(1);

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// Awake at 1 s, to be woken by its tick, woken at `now_ns`: whether a pause is found.
    #[track_caller]
    fn check(now_ns: u64, expected: bool) {
        let mut detector = PauseDetector::new(ms(1_000));
        let due = detector.tick(STALL);
        let found = detector.wake(Instant::from_nanos(now_ns), Some(due), STALL);
        assert_eq!(found.is_some(), expected);
        if let Some((pause, late_by)) = found {
            assert_eq!((pause.from, pause.to), (ms(1_000), Instant::from_nanos(now_ns)));
            assert_eq!(late_by, pause.to - due);
        }
    }

    #[test]
    fn a_pause_over_twice_the_stall_is_found() {
        check(1_250_000_000, false);
        check(1_500_000_000, false);
        check(1_500_000_001, true);
        check(999_000_000, false); // A clock that goes back.
    }

    #[test]
    fn a_pause_up_to_the_stall_is_never_found() {
        // The earliest that anything is due is now.
        let mut detector = PauseDetector::new(ms(1_000));
        assert_eq!(detector.wake(ms(1_250), Some(ms(1_000)), STALL), None);
        assert!(detector.wake(Instant::from_nanos(1_500_000_001), Some(ms(900)), STALL).is_some());
    }

    #[test]
    fn a_wall_clock_that_runs_ahead_tells_of_a_suspended_machine() {
        let mut detector = PauseDetector::new(ms(1_000));
        let wall = |millis: u64| Duration::from_millis(1_700_000_000_000 + millis);
        assert_eq!(detector.compare(ms(1_000), wall(0), STALL), None);
        assert_eq!(detector.compare(ms(1_100), wall(350), STALL), None);
        assert_eq!(detector.compare(ms(1_200), wall(701), STALL), Some(Duration::from_millis(251)));
        assert_eq!(detector.compare(ms(1_300), wall(801), STALL), None, "told once");
        assert_eq!(detector.compare(ms(9_000), wall(8_501), STALL), None, "both ran: no news");
        assert_eq!(detector.compare(ms(9_100), Duration::ZERO, STALL), None, "set back");
        assert_eq!(detector.compare(ms(9_000), Duration::from_millis(100), STALL), None, "ours set back");
    }

    #[test]
    fn verdicts_are_held_until_the_socket_was_drained_after_waking() {
        let mut detector = PauseDetector::new(ms(1_000));
        detector.hold(Pause { from: ms(1_000), to: ms(5_000) }, INTERVAL);
        detector.drained(ms(4_999));
        assert_eq!(detector.held_until(), Some(ms(6_000)));
        detector.drained(ms(5_000));
        assert_eq!(detector.held_until(), None);
    }

    #[test]
    fn a_hold_has_an_end_however_many_pauses_fall_into_it() {
        let mut detector = PauseDetector::new(ms(1_000));
        detector.hold(Pause { from: ms(1_000), to: ms(5_000) }, INTERVAL);
        detector.wake(ms(5_600), None, STALL);
        let (pause, _) = detector.wake(ms(6_600), Some(ms(5_850)), STALL).unwrap();
        detector.hold(pause, INTERVAL);
        detector.wake(ms(6_999), None, STALL);
        assert_eq!(detector.held_until(), Some(ms(7_000)));
        detector.wake(ms(7_000), None, STALL);
        assert_eq!(detector.held_until(), None);
        detector.hold(Pause { from: ms(8_000), to: ms(9_000) }, Duration::from_secs(3_600));
        assert_eq!(detector.held_until(), Some(ms(14_000)));
    }
}
