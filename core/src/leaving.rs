//! `Leaving`: how far a node has come with leaving its cluster.
//!
//! First its shards are handed over, while it is still a member; then its workers stop; then the
//! others are notified, and it has left. Each of the first two steps ends when its work is done, or
//! at its deadline: at the deadline itself it is over. There is no way back.
//!
//! It does none of the work: the engine does, and says here how far it has come.

use std::time::Duration;

use crate::time::Instant;

/// How far a node has come with leaving.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Leaving {
    /// It does not leave.
    #[default]
    No,
    /// Until all shards are handed over, or this instant.
    HandingOver(Instant),
    /// Until all workers have stopped, or this instant.
    Stopping(Instant),
    /// It has left.
    Over,
}

/// How far a hand-over has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HandOver {
    /// It goes on, or was over before.
    GoesOn,
    /// All shards were handed over; workers are to stop.
    Done,
    /// Its time is over and shards are left; workers are to stop all the same.
    Cut,
}

impl Leaving {
    /// Begins to hand shards over, for this long at most. Returns whether it has begun now: a node
    /// that leaves already goes on as it was.
    pub(crate) fn begin(&mut self, now: Instant, hand_over: Duration) -> bool {
        let begins = !self.is_begun();
        if begins {
            *self = Leaving::HandingOver(now + hand_over);
        }
        begins
    }

    /// Goes on to stopping, for this long at most, if all is handed over or the time for that has
    /// passed.
    pub(crate) fn end_hand_over(&mut self, now: Instant, is_done: bool, stopping: Duration) -> HandOver {
        let Leaving::HandingOver(deadline) = *self else { return HandOver::GoesOn };
        if !is_done && now < deadline {
            return HandOver::GoesOn;
        }
        *self = Leaving::Stopping(now + stopping);
        if is_done { HandOver::Done } else { HandOver::Cut }
    }

    /// Ends, if all workers have stopped or the time for that has passed. Returns whether it has
    /// ended now.
    pub(crate) fn end_stopping(&mut self, now: Instant, is_done: bool) -> bool {
        let Leaving::Stopping(deadline) = *self else { return false };
        let ends = is_done || now >= deadline;
        if ends {
            *self = Leaving::Over;
        }
        ends
    }

    /// The deadline of the present step; `NEVER` if there is none.
    pub(crate) fn next_due(self) -> Instant {
        match self {
            Leaving::HandingOver(deadline) | Leaving::Stopping(deadline) => deadline,
            Leaving::No | Leaving::Over => Instant::NEVER,
        }
    }

    /// Whether the node leaves, or has left.
    pub(crate) fn is_begun(self) -> bool {
        self != Leaving::No
    }

    /// Whether the node is handing its shards over.
    pub(crate) fn is_handing_over(self) -> bool {
        matches!(self, Leaving::HandingOver(_))
    }

    /// Whether shards may still run on the node, if only to be handed over.
    pub(crate) fn has_shards(self) -> bool {
        match self {
            Leaving::No | Leaving::HandingOver(_) => true,
            Leaving::Stopping(_) | Leaving::Over => false,
        }
    }

    /// Whether the node has left.
    pub(crate) fn is_over(self) -> bool {
        self == Leaving::Over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HAND_OVER: Duration = Duration::from_secs(10);
    const STOPPING: Duration = Duration::from_secs(5);

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    /// Checks how far a hand-over that began at 0 has come at this instant.
    #[track_caller]
    fn check_hand_over(now: u64, is_done: bool, expected: HandOver) {
        let mut leaving = Leaving::default();
        assert!(leaving.begin(Instant::ZERO, HAND_OVER));
        assert_eq!(leaving.end_hand_over(at(now), is_done, STOPPING), expected);
        let goes_on = expected == HandOver::GoesOn;
        assert_eq!((leaving.is_handing_over(), leaving.has_shards()), (goes_on, goes_on));
        assert_eq!(leaving.next_due(), if goes_on { Instant::ZERO + HAND_OVER } else { at(now) + STOPPING });
    }

    #[test]
    fn a_hand_over_ends_when_done_or_at_its_deadline() {
        check_hand_over(0, false, HandOver::GoesOn);
        check_hand_over(0, true, HandOver::Done);
        check_hand_over(9_999_999_999, false, HandOver::GoesOn);
        check_hand_over(9_999_999_999, true, HandOver::Done);
        check_hand_over(10_000_000_000, false, HandOver::Cut);
        check_hand_over(10_000_000_000, true, HandOver::Done);
    }

    /// Whether stopping, which began at 0, is over at this instant.
    #[track_caller]
    fn check_stopping(now: u64, is_done: bool, expected: bool) {
        let mut leaving = Leaving::Stopping(Instant::ZERO + STOPPING);
        assert_eq!(leaving.end_stopping(at(now), is_done), expected);
        assert_eq!(leaving.is_over(), expected);
        assert_eq!(leaving.next_due() == Instant::NEVER, expected);
    }

    #[test]
    fn stopping_ends_when_done_or_at_its_deadline() {
        check_stopping(0, false, false);
        check_stopping(0, true, true);
        check_stopping(4_999_999_999, false, false);
        check_stopping(5_000_000_000, false, true);
    }

    #[test]
    fn a_node_leaves_once_and_no_step_is_taken_twice() {
        let mut leaving = Leaving::default();
        assert_eq!((leaving.is_begun(), leaving.is_over(), leaving.has_shards()), (false, false, true));
        assert_eq!(leaving.next_due(), Instant::NEVER);
        assert_eq!(leaving.end_hand_over(at(1), true, STOPPING), HandOver::GoesOn);
        assert!(!leaving.end_stopping(at(1), true));
        assert!(leaving.begin(at(1), Duration::ZERO));
        assert!(!leaving.begin(at(2), HAND_OVER), "the first deadline stays");
        assert_eq!(leaving.end_hand_over(at(2), false, STOPPING), HandOver::Cut);
        assert_eq!(leaving.end_hand_over(at(2), false, STOPPING), HandOver::GoesOn);
        assert!(leaving.end_stopping(at(2), true));
        assert!(!leaving.end_stopping(at(2), true));
        assert!(!leaving.begin(at(3), HAND_OVER) && leaving.is_over() && leaving.is_begun());
    }
}
