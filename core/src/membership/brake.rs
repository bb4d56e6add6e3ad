//! `Brake`: many at once is suspicious.
//!
//! When most of a zone falls silent together, it is more likely the network, or ourselves, than all
//! of them; to bury them would move all their work for nothing. So silence makes at most a share of
//! a zone dead in a while, and none of it while most of the zone is silent: it is frozen until the
//! doubt is over, and then everybody has a fresh timer. What was *seen* to end (a closed lifeline
//! and a refused connection) is no silence, and is not held up.
//!
//! Source: the zones of Kubernetes' node controller (`node_lifecycle_controller.go`): partial
//! disruption from 55 % and over two nodes on, and fresh timers afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::event::Event;
use crate::member::Status;
use crate::membership::table::MemberTable;
use crate::time::Instant;

/// Share of a zone that makes silence suspicious, in percent, and the number it must be over.
const SILENT_PERCENT_MIN: usize = 55;
const SILENT_OVER: usize = 2;

/// Share of a zone that silence may make dead within [`PACE`], in percent, and the number it may
/// make dead in any case.
const PACE_PERCENT: usize = 10;
const PACE_MIN: usize = 4;

/// The time for that.
const PACE: Duration = Duration::from_secs(10);

/// How long a count of the table is good for.
const GOOD_FOR: Duration = Duration::from_millis(50);

/// What the brake says to a death by silence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Brake {
    /// Go on.
    Free,
    /// Not now: too many have died just now.
    RateLimited,
    /// Not now: too many are silent.
    ZoneDisrupted,
}

/// Counts who is silent, and holds deaths up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Brakes {
    /// Zones that are frozen; the empty name stands for those without one, none for all together.
    frozen: BTreeSet<Option<Arc<str>>>,
    counted: Option<(Instant, Vec<Count>)>,
}

/// One zone, or all together.
#[derive(Clone, Debug)]
struct Count {
    zone: Option<Arc<str>>,
    /// Who is or was a member just now, ourselves included.
    members: usize,
    /// Of them, all but ourselves.
    others: usize,
    /// Of them, suspects and those who died just now.
    silent: usize,
    /// Of them, those who died just now.
    died: usize,
}

impl Brakes {
    /// Whether a member of `zone` may be called dead at `now` for its silence; `me` does not count
    /// for anybody's silence.
    pub(crate) fn ask(&mut self, zone: &Arc<str>, table: &MemberTable, now: Instant, events: &mut Vec<Event>) -> Brake {
        self.look(table, now, events);
        let Some((_, counts)) = &mut self.counted else { return Brake::Free };
        let concerned = |count: &&mut Count| count.zone.as_ref().is_none_or(|other| other == zone);
        if self.frozen.contains(&None) || self.frozen.contains(&Some(zone.clone())) {
            return Brake::ZoneDisrupted;
        }
        let is_over = |count: &Count| count.died >= PACE_MIN.max(count.members * PACE_PERCENT / 100);
        if counts.iter_mut().filter(concerned).any(|count| is_over(count)) {
            return Brake::RateLimited;
        }
        // The one that is asked for counts at once.
        counts.iter_mut().filter(concerned).for_each(|count| count.died += 1);
        Brake::Free
    }

    /// Whether anything is frozen, so that it should be looked at again.
    pub(crate) fn is_frozen(&self) -> bool {
        !self.frozen.is_empty()
    }

    /// Counts anew, if the last count is too old. Returns whether a freeze ended.
    pub(crate) fn look(&mut self, table: &MemberTable, now: Instant, events: &mut Vec<Event>) -> bool {
        if self.counted.as_ref().is_some_and(|(at, _)| now - *at < GOOD_FOR) {
            return false;
        }
        let counts = count(table, now);
        let emitted = events.len();
        for count in &counts {
            let is_suspicious = count.silent > SILENT_OVER && count.silent * 100 >= count.others * SILENT_PERCENT_MIN;
            if is_suspicious && self.frozen.insert(count.zone.clone()) {
                let zone = name(&count.zone);
                events.push(Event::ZoneDisrupted { zone, silent: count.silent as u32, of: count.members as u32 });
            } else if !is_suspicious && self.frozen.remove(&count.zone) {
                events.push(Event::ZoneRecovered { zone: name(&count.zone) });
            }
        }
        // A zone of which nobody is left.
        self.frozen.retain(|zone| {
            let is_there = counts.iter().any(|count| count.zone == *zone);
            if !is_there {
                events.push(Event::ZoneRecovered { zone: name(zone) });
            }
            is_there
        });
        self.counted = Some((now, counts));
        events[emitted..].iter().any(|event| matches!(event, Event::ZoneRecovered { .. }))
    }
}

/// What a zone is called in events.
fn name(zone: &Option<Arc<str>>) -> Arc<str> {
    zone.clone().unwrap_or_else(|| "all".into())
}

/// Counts each zone and all together.
fn count(table: &MemberTable, now: Instant) -> Vec<Count> {
    let mut counts = vec![Count { zone: None, members: 0, others: 0, silent: 0, died: 0 }];
    for member in table.members() {
        let lately = table.changed(member.id).is_some_and(|at| now - at < PACE);
        let (is_silent, has_died) = match member.status {
            Status::Alive => (false, false),
            Status::Suspect => (true, false),
            Status::Dead if lately => (true, true),
            Status::Dead | Status::Left => continue,
        };
        let at = counts.iter().position(|count| count.zone.as_ref() == Some(&member.zone)).unwrap_or_else(|| {
            counts.push(Count { zone: Some(member.zone.clone()), members: 0, others: 0, silent: 0, died: 0 });
            counts.len() - 1
        });
        for index in [0, at] {
            let count = &mut counts[index];
            count.members += 1;
            count.others += usize::from(member.id != table.me());
            count.silent += usize::from(is_silent);
            count.died += usize::from(has_died);
        }
    }
    // Where there is one zone only, it is all there is.
    if counts.len() == 2 {
        counts.pop();
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::{Generation, Incarnation, Member, Metadata, NodeId, Profile, Role};

    /// A name of the first zone in these tests, and one of the second.
    const ZONES: [&str; 2] = ["east", "west"];

    fn member(name: &str, zone: &str) -> Member {
        let profile = Profile {
            name: name.into(),
            address: "127.0.0.1:1".parse().unwrap(),
            role: Role::Worker,
            zone: zone.into(),
            metadata: Metadata::new(),
            groups: Vec::new(),
            revision: 1,
        };
        let (generation, incarnation) = (Generation(1), Incarnation::default());
        Member { id: NodeId::of(name), profile: profile.into(), generation, incarnation, status: Status::Alive }
    }

    fn name(zone: &str, number: usize) -> String {
        format!("{zone}-{number}")
    }

    /// A table of so many members in each zone; we are the first of the first one.
    fn table(counts: [usize; 2]) -> MemberTable {
        let mut all = ZONES
            .iter()
            .zip(counts)
            .flat_map(|(zone, count)| (0..count).map(|number| member(&name(zone, number), zone)));
        let mut table = MemberTable::new(all.next().unwrap(), at(0));
        all.for_each(|member| table.preload(at(0), &member));
        table
    }

    fn at(millis: u64) -> Instant {
        Instant::from_millis(100_000 + millis)
    }

    /// The last `count` of a zone are this from now on.
    fn judge(table: &mut MemberTable, now: Instant, zone: &str, of: usize, count: usize, status: Status) {
        (of - count..of).for_each(|number| drop(table.set_status(now, NodeId::of(&name(zone, number)), status)));
    }

    /// What is said to a death in each zone, where this many of `counts` are suspect.
    #[track_caller]
    fn check(counts: [usize; 2], silent: [usize; 2], expected: [Brake; 2]) {
        let mut table = table(counts);
        for (zone, (of, count)) in ZONES.iter().zip(counts.into_iter().zip(silent)) {
            judge(&mut table, at(0), zone, of, count, Status::Suspect);
        }
        let (mut brakes, mut emitted) = (Brakes::default(), Vec::new());
        let said = ZONES.map(|zone| brakes.ask(&zone.into(), &table, at(0), &mut emitted));
        assert_eq!(said, expected, "{emitted:?}");
        assert_eq!(emitted.is_empty(), expected == [Brake::Free; 2], "{emitted:?}");
    }

    #[test]
    fn a_zone_is_frozen_by_itself_and_all_together_freeze_everything() {
        use Brake::{Free, ZoneDisrupted};
        check([10, 10], [0, 5], [Free, Free]);
        check([10, 10], [0, 6], [Free, ZoneDisrupted]);
        // In our own zone there are nine others.
        check([10, 10], [4, 0], [Free, Free]);
        check([10, 10], [5, 0], [ZoneDisrupted, Free]);
        // Ten of nineteen are less than the share, and eleven more; of the second zone it would be
        // too few.
        check([10, 10], [6, 4], [ZoneDisrupted, Free]);
        check([10, 10], [7, 4], [ZoneDisrupted, ZoneDisrupted]);
    }

    #[test]
    fn two_that_are_silent_freeze_nothing_however_few_there_are() {
        use Brake::{Free, ZoneDisrupted};
        check([3, 0], [2, 0], [Free, Free]);
        check([4, 0], [3, 0], [ZoneDisrupted, ZoneDisrupted]);
        check([20, 3], [0, 2], [Free, Free]);
        check([20, 3], [0, 3], [Free, ZoneDisrupted]);
    }

    #[test]
    fn silence_makes_a_tenth_dead_in_ten_seconds_and_four_in_any_case() {
        for (members, most) in [(20, 4), (100, 10)] {
            let mut table = table([members, 0]);
            let zone: Arc<str> = ZONES[0].into();
            let (mut brakes, mut emitted) = (Brakes::default(), Vec::new());
            // All at the same instant, of which the table does not know yet.
            let freed = (0..members).filter(|_| brakes.ask(&zone, &table, at(0), &mut emitted) == Brake::Free).count();
            assert_eq!(freed, most);
            judge(&mut table, at(0), &zone, members, most, Status::Dead);
            for (millis, expected) in [(60, Brake::RateLimited), (9_999, Brake::RateLimited), (10_050, Brake::Free)] {
                assert_eq!(brakes.ask(&zone, &table, at(millis), &mut emitted), expected, "after {millis} ms");
            }
            assert_eq!(emitted, []);
        }
    }

    #[test]
    fn a_freeze_is_told_once_and_ends_with_the_doubt() {
        let mut table = table([10, 10]);
        judge(&mut table, at(0), "west", 10, 6, Status::Suspect);
        let (mut brakes, mut emitted) = (Brakes::default(), Vec::new());
        for millis in [0, 500, 1_000] {
            assert_eq!(brakes.ask(&"west".into(), &table, at(millis), &mut emitted), Brake::ZoneDisrupted);
            assert!(!brakes.look(&table, at(millis), &mut emitted));
        }
        assert_eq!(emitted, [Event::ZoneDisrupted { zone: "west".into(), silent: 6, of: 10 }]);
        // Half of it is back.
        for number in 4..7 {
            let id = NodeId::of(&name("west", number));
            table.clear_suspicion(at(1_100), id, Incarnation::default()).unwrap();
        }
        assert!(brakes.look(&table, at(1_200), &mut emitted), "who leaves it is emitted so, and gives fresh timers");
        assert_eq!(emitted[1..], [Event::ZoneRecovered { zone: "west".into() }]);
        assert!(!brakes.is_frozen());
        assert_eq!(brakes.ask(&"west".into(), &table, at(1_200), &mut emitted), Brake::Free);
    }

    #[test]
    fn a_frozen_zone_of_which_nobody_is_left_is_forgotten() {
        let mut table = table([10, 4]);
        judge(&mut table, at(0), "west", 4, 3, Status::Suspect);
        let (mut brakes, mut emitted) = (Brakes::default(), Vec::new());
        assert_eq!(brakes.ask(&"west".into(), &table, at(0), &mut emitted), Brake::ZoneDisrupted);
        judge(&mut table, at(100), "west", 4, 4, Status::Left);
        assert!(brakes.look(&table, at(200), &mut emitted));
        assert_eq!(
            emitted[1..],
            [Event::ZoneRecovered { zone: "west".into() }],
            "or people would wait for it for ever"
        );
        assert!(!brakes.is_frozen());
    }
}
