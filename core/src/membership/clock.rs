//! The logical clock of a node, in milliseconds since 1970, and the epochs that are made of it.
//!
//! A hybrid logical clock. It shows the wall clock at the start of the process and the time since,
//! or what a member has shown if that is ahead. It travels in each datagram. A node that acts on
//! news has therefore a later clock than the node that made them, however far their wall clocks are
//! apart.
//!
//! A wall clock can be years off. A node's own one counts only once the node's table is whole. A
//! node that is let in compares it with the clock of the member that lets it in. If the two are
//! farther apart than `membership.clock_skew_max`, the node goes on from the member's clock
//! instead, and both sides publish that. No node follows the clock of a node that is not a member.
//!
//! What this does not do: it keeps nothing over the end of all nodes. Epochs that were given out
//! while a wrong clock was believed stay higher than those of later processes;
//! `ownership.epoch_min` lifts these over them.
//!
//! Source: S. Kulkarni, M. Demirbas, D. Madappa, B. Avva and M. Leone, "Logical physical clocks and
//! consistent snapshots in globally distributed databases", OPODIS 2014.

use std::time::Duration;

use crate::member::{Epoch, NodeId};
use crate::membership::table::MemberTable;
use crate::random::mix;
use crate::time::Instant;
use crate::wire::Header;

/// A member's clock that is farther ahead of this node's own, in milliseconds, is not followed: it
/// is damaged, or made up. Members' clocks are `membership.clock_skew_max` apart at most, but for
/// epochs that were lifted over older ones. What was followed wrongly is right again in a month.
const AHEAD_MAX: u64 = 30 * 86_400_000;

/// Wall clocks before September 2020 are certainly wrong: no release of this program is as old.
const WALL_MIN: u64 = 1_600_000_000_000;

/// What this node knows of the time.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    /// What the wall clock showed at the start of the process, or what replaces it.
    wall: u64,
    started: Instant,
    /// The latest clock that a member has shown, and when it came.
    followed: (u64, Instant),
    /// The latest clock under which an epoch was given out to this node.
    given: u64,
    /// Epochs of this node are above this one.
    epoch_min: Epoch,
}

impl Clock {
    pub(super) fn new(wall: u64, epoch_min: Epoch, now: Instant) -> Clock {
        Clock { wall: wall.min(Epoch::MILLIS_MAX), started: now, followed: (0, now), given: 0, epoch_min }
    }

    /// This node's own clock.
    pub(super) fn own(&self, now: Instant) -> u64 {
        self.wall.saturating_add((now - self.started).as_millis() as u64).min(Epoch::MILLIS_MAX)
    }

    /// What it shows. The own clock counts only where the table is whole.
    pub(super) fn at(&self, now: Instant, is_whole: bool) -> u64 {
        let told = self.followed.0.max(self.given);
        if is_whole { told.max(self.own(now)) } else { told }
    }

    /// Handles the clock of a member.
    pub(super) fn follow(&mut self, theirs: u64, now: Instant) {
        if theirs > self.followed.0 && theirs <= self.own(now).saturating_add(AHEAD_MAX) {
            self.followed = (theirs, now);
        }
    }

    /// Handles an epoch that was given out: later ones are higher.
    pub(super) fn note(&mut self, epoch: Epoch) {
        self.given = self.given.max(epoch.millis());
    }

    /// Goes on from the clock of a member with a whole table, if the own one is farther from it
    /// than `skew_max`. Returns how far it is then.
    pub(super) fn synchronize(&mut self, theirs: u64, now: Instant, skew_max: Duration) -> Option<Skew> {
        let skew = Skew::between(self.own(now), theirs, skew_max)?;
        self.wall = theirs.saturating_sub((now - self.started).as_millis() as u64);
        Some(skew)
    }

    /// The next epoch of the node whose table this is: later than any clock that was received, and
    /// higher than `former`.
    pub(super) fn next_epoch(&mut self, table: &MemberTable, former: Epoch, now: Instant) -> Epoch {
        self.epoch(number_among(table, table.me()), former.max(self.epoch_min), now)
    }

    fn epoch(&mut self, number: u64, former: Epoch, now: Instant) -> Epoch {
        let (followed, at) = self.followed;
        // The member whose clock that is may have given out epochs since.
        let since = (now - at).as_millis() as u64;
        let mut millis = self.own(now).max(followed.saturating_add(1).saturating_add(since)).max(self.given);
        if Epoch::at(millis, number) <= former {
            millis = former.millis().saturating_add(1);
        }
        self.given = millis.min(Epoch::MILLIS_MAX);
        Epoch::at(self.given, number)
    }
}

/// How far two clocks are apart; one of the two is zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Skew {
    pub(super) ahead: Duration,
    pub(super) behind: Duration,
}

impl Skew {
    /// How far `ours` is from `theirs`, if that is more than `skew_max`.
    pub(super) fn between(ours: u64, theirs: u64, skew_max: Duration) -> Option<Skew> {
        let skew = Skew {
            ahead: Duration::from_millis(ours.saturating_sub(theirs)),
            behind: Duration::from_millis(theirs.saturating_sub(ours)),
        };
        (skew.ahead.max(skew.behind) > skew_max).then_some(skew)
    }
}

/// Of two clocks far apart, whether `theirs` is rather the right one: the earlier, unless it is
/// certainly wrong.
pub(super) fn is_more_plausible(theirs: u64, ours: u64) -> bool {
    theirs >= WALL_MIN && (theirs < ours || ours < WALL_MIN)
}

/// The clock that a header shows.
pub(super) fn clock_in(header: Header) -> u64 {
    header.generation.0.wrapping_add(header.clock)
}

/// The number of a node in the epochs that it gives out: its hash, or the next number that no other
/// member has. Two nodes with the same table have different ones, up to as many as there are.
fn number_among(table: &MemberTable, me: NodeId) -> u64 {
    const NUMBERS: usize = 1 << Epoch::NUMBER_BITS;
    let number_of = |id: NodeId| (mix(id.0) >> (64 - Epoch::NUMBER_BITS)) as usize;
    let mut taken = [false; NUMBERS];
    for id in table.members().map(|member| member.id).take(NUMBERS) {
        let mut number = number_of(id);
        while taken[number] {
            number = (number + 1) % NUMBERS;
        }
        if id == me {
            return number as u64;
        }
        taken[number] = true;
    }
    number_of(me) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TODAY: u64 = 1_795_000_000_000;
    const YEAR: u64 = 31_557_600_000;
    const SKEW_MAX: Duration = Duration::from_secs(60);

    pub(super) fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1_000)
    }

    fn clock(wall: u64) -> Clock {
        Clock::new(wall, Epoch(0), at(0))
    }

    #[test]
    fn an_epoch_is_the_time_and_a_number_below_it() {
        assert_eq!(clock(TODAY).epoch(7, Epoch(0), at(1)), Epoch::at(TODAY + 1_000, 7));
        assert!(Epoch::at(TODAY + 100 * YEAR, 1_023).0 < 1 << 53, "exact in JSON for a century");
        assert!(Epoch::at(u64::MAX, u64::MAX).0 <= i64::MAX as u64, "a BIGINT for ever");
    }

    #[test]
    fn an_epoch_is_higher_than_all_that_are_known() {
        let mut clock = clock(TODAY);
        let far = Epoch::at(TODAY + 20 * YEAR, 1_000);
        assert_eq!(clock.epoch(7, far, at(1)), Epoch::at(far.millis() + 1, 7));
        assert_eq!(clock.epoch(7, Epoch(0), at(1)), Epoch::at(far.millis() + 1, 7), "never lower than its last one");
        let mut clock = self::clock(TODAY);
        clock.follow(TODAY + 30_000, at(1));
        assert_eq!(clock.epoch(7, Epoch(0), at(3)), Epoch::at(TODAY + 32_001, 7), "the other one went on for 2 s");
    }

    #[test]
    fn a_damaged_clock_is_not_followed() {
        let mut clock = clock(TODAY);
        for theirs in [TODAY + 1_000 + AHEAD_MAX + 1, Epoch::MILLIS_MAX, u64::MAX] {
            clock.follow(theirs, at(1));
            assert_eq!(clock.at(at(1), true), TODAY + 1_000);
        }
        clock.follow(TODAY + 1_000 + AHEAD_MAX, at(1));
        clock.follow(TODAY + 1_000 + AHEAD_MAX * 2, at(1));
        assert_eq!(clock.at(at(1), true), TODAY + 1_000 + AHEAD_MAX, "one clock does not open the way for the next");
        assert!(clock.epoch(7, Epoch(u64::MAX), at(1)) <= Epoch::MAX);
        assert!(self::clock(u64::MAX).epoch(7, Epoch(0), at(1)) <= Epoch::MAX);
    }

    #[test]
    fn a_clock_far_from_that_of_the_members_goes_on_from_theirs() {
        for (ours, ahead, behind) in [(TODAY + 20 * YEAR, 20 * YEAR, 0), (0, 0, TODAY), (TODAY + 60_001, 60_001, 0)] {
            let mut clock = clock(ours);
            let (ahead, behind) = (Duration::from_millis(ahead), Duration::from_millis(behind));
            assert_eq!(clock.synchronize(TODAY, at(0), SKEW_MAX), Some(Skew { ahead, behind }));
            assert_eq!(clock.own(at(5)), TODAY + 5_000);
        }
        let mut near = clock(TODAY + 60_000);
        assert_eq!(near.synchronize(TODAY, at(0), SKEW_MAX), None);
        assert_eq!(near.own(at(0)), TODAY + 60_000);
    }

    #[test]
    fn the_earlier_clock_is_more_plausible_unless_it_is_too_old() {
        assert!(is_more_plausible(TODAY, TODAY + YEAR) && !is_more_plausible(TODAY + YEAR, TODAY));
        assert!(is_more_plausible(TODAY, 0) && !is_more_plausible(0, TODAY));
    }

    #[test]
    fn the_wall_clock_counts_once_the_table_is_synced() {
        let mut clock = clock(TODAY);
        assert_eq!((clock.at(at(1), false), clock.at(at(1), true)), (0, TODAY + 1_000));
        clock.follow(TODAY - YEAR, at(1));
        assert_eq!(clock.at(at(1), false), TODAY - YEAR);
    }
}
