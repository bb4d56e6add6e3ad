//! `Brake`: holds back deaths when a large share of a zone falls silent at once.
//!
//! If most of a zone falls silent together, the likely cause is the network or this node, and not
//! all of the zone's nodes. To declare them dead would move all their work for nothing. So silence
//! makes at most a share of a zone dead within [`PACE`], and no member of it while most of the zone
//! is silent. The zone is then *disrupted*. When it has recovered, all its members get a fresh
//! timer. A process that certainly ended (its lifeline closed and its port refuses) is not silent,
//! and its death is not held back.
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

/// Whether silence may make a member dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Brake {
    /// It may.
    Free,
    /// Not now: too many have died just now.
    RateLimited,
    /// Not now: too many are silent.
    ZoneDisrupted,
}

/// Counts the silent members of each zone, and holds back deaths.
#[derive(Clone, Debug, Default)]
pub(crate) struct Brakes {
    /// The disrupted zones. The empty name stands for members without a zone, none for all zones
    /// together.
    disrupted: BTreeSet<Option<Arc<str>>>,
    counted: Option<(Instant, Vec<Count>)>,
}

/// The count of one zone, or of all together.
#[derive(Clone, Debug)]
struct Count {
    zone: Option<Arc<str>>,
    /// Members now or within [`PACE`], this node included.
    members: usize,
    /// Of them, all but this node.
    others: usize,
    /// Of them, those that are suspect or died within [`PACE`].
    silent: usize,
    /// Of them, those that died within [`PACE`].
    died: usize,
}

impl Brakes {
    /// Whether a member of `zone` may be declared dead at `now` for its silence. If so, it counts
    /// as dead from now on.
    pub(crate) fn ask(&mut self, zone: &Arc<str>, table: &MemberTable, now: Instant, events: &mut Vec<Event>) -> Brake {
        self.recount(table, now, events);
        let Some((_, counts)) = &mut self.counted else { return Brake::Free };
        let concerned = |count: &&mut Count| count.zone.as_ref().is_none_or(|other| other == zone);
        if self.disrupted.contains(&None) || self.disrupted.contains(&Some(zone.clone())) {
            return Brake::ZoneDisrupted;
        }
        let is_over = |count: &Count| count.died >= PACE_MIN.max(count.members * PACE_PERCENT / 100);
        if counts.iter_mut().filter(concerned).any(|count| is_over(count)) {
            return Brake::RateLimited;
        }
        // This death counts at once.
        counts.iter_mut().filter(concerned).for_each(|count| count.died += 1);
        Brake::Free
    }

    /// How many zones are disrupted; all zones together count as one.
    pub(crate) fn zones_disrupted(&self) -> usize {
        self.disrupted.len()
    }

    /// Whether a zone is disrupted, so that it has to be checked again.
    pub(crate) fn is_disrupted(&self) -> bool {
        !self.disrupted.is_empty()
    }

    /// Counts anew, if the last count is too old. Returns whether a zone has recovered.
    pub(crate) fn recount(&mut self, table: &MemberTable, now: Instant, events: &mut Vec<Event>) -> bool {
        if self.counted.as_ref().is_some_and(|(at, _)| now - *at < GOOD_FOR) {
            return false;
        }
        let counts = count(table, now);
        let emitted = events.len();
        for count in &counts {
            let is_over_limit = count.silent > SILENT_OVER && count.silent * 100 >= count.others * SILENT_PERCENT_MIN;
            if is_over_limit && self.disrupted.insert(count.zone.clone()) {
                let zone = name(&count.zone);
                events.push(Event::ZoneDisrupted { zone, silent: count.silent as u32, members: count.members as u32 });
            } else if !is_over_limit && self.disrupted.remove(&count.zone) {
                events.push(Event::ZoneRecovered { zone: name(&count.zone) });
            }
        }
        // A zone without members has recovered.
        self.disrupted.retain(|zone| {
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

/// The name of a zone in events.
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
    // A single zone is the same as all together.
    if counts.len() == 2 {
        counts.pop();
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::{Generation, Incarnation, Member, NodeId, Profile};

    /// A name of the first zone in these tests, and one of the second.
    const ZONES: [&str; 2] = ["east", "west"];

    fn member(name: &str, zone: &str) -> Member {
        let profile = Profile { zone: zone.into(), ..Profile::new(name, "127.0.0.1:1".parse().unwrap()) };
        Member::new(profile, Generation(1))
    }

    fn name(zone: &str, number: usize) -> String {
        format!("{zone}-{number}")
    }

    /// A table of so many members in each zone. This node is the first of the first zone.
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

    /// The last `count` members of a zone have this status from now on.
    fn set_all(table: &mut MemberTable, now: Instant, zone: &str, of: usize, count: usize, status: Status) {
        (of - count..of).for_each(|number| drop(table.set_status(now, NodeId::of(&name(zone, number)), status)));
    }

    /// Checks the answer to a death in each zone, where this many of `counts` are suspect.
    #[track_caller]
    fn check(counts: [usize; 2], silent: [usize; 2], expected: [Brake; 2]) {
        let mut table = table(counts);
        for (zone, (of, count)) in ZONES.iter().zip(counts.into_iter().zip(silent)) {
            set_all(&mut table, at(0), zone, of, count, Status::Suspect);
        }
        let (mut brakes, mut emitted) = (Brakes::default(), Vec::new());
        let said = ZONES.map(|zone| brakes.ask(&zone.into(), &table, at(0), &mut emitted));
        assert_eq!(said, expected, "{emitted:?}");
        assert_eq!(emitted.is_empty(), expected == [Brake::Free; 2], "{emitted:?}");
    }

    #[test]
    fn one_zone_is_disrupted_by_itself_or_all_together() {
        use Brake::{Free, ZoneDisrupted};
        check([10, 10], [0, 5], [Free, Free]);
        check([10, 10], [0, 6], [Free, ZoneDisrupted]);
        // In the zone of this node there are nine others.
        check([10, 10], [4, 0], [Free, Free]);
        check([10, 10], [5, 0], [ZoneDisrupted, Free]);
        // Ten of nineteen are less than the share, and eleven are more. Four of the second zone
        // would be too few.
        check([10, 10], [6, 4], [ZoneDisrupted, Free]);
        check([10, 10], [7, 4], [ZoneDisrupted, ZoneDisrupted]);
    }

    #[test]
    fn two_silent_members_disrupt_no_zone() {
        use Brake::{Free, ZoneDisrupted};
        check([3, 0], [2, 0], [Free, Free]);
        check([4, 0], [3, 0], [ZoneDisrupted, ZoneDisrupted]);
        check([20, 3], [0, 2], [Free, Free]);
        check([20, 3], [0, 3], [Free, ZoneDisrupted]);
    }

    #[test]
    fn silence_makes_a_tenth_dead_in_ten_seconds_or_four() {
        for (members, most) in [(20, 4), (100, 10)] {
            let mut table = table([members, 0]);
            let zone: Arc<str> = ZONES[0].into();
            let (mut brakes, mut emitted) = (Brakes::default(), Vec::new());
            // All at the same instant, before the table holds any of them dead.
            let freed = (0..members).filter(|_| brakes.ask(&zone, &table, at(0), &mut emitted) == Brake::Free).count();
            assert_eq!(freed, most);
            set_all(&mut table, at(0), &zone, members, most, Status::Dead);
            for (millis, expected) in [(60, Brake::RateLimited), (9_999, Brake::RateLimited), (10_050, Brake::Free)] {
                assert_eq!(brakes.ask(&zone, &table, at(millis), &mut emitted), expected, "after {millis} ms");
            }
            assert_eq!(emitted, []);
        }
    }

    #[test]
    fn a_disruption_is_published_once_and_ends_with_the_silence() {
        let mut table = table([10, 10]);
        set_all(&mut table, at(0), "west", 10, 6, Status::Suspect);
        let (mut brakes, mut emitted) = (Brakes::default(), Vec::new());
        for millis in [0, 500, 1_000] {
            assert_eq!(brakes.ask(&"west".into(), &table, at(millis), &mut emitted), Brake::ZoneDisrupted);
            assert!(!brakes.recount(&table, at(millis), &mut emitted));
        }
        assert_eq!(emitted, [Event::ZoneDisrupted { zone: "west".into(), silent: 6, members: 10 }]);
        // Half of it is back.
        for number in 4..7 {
            let id = NodeId::of(&name("west", number));
            table.clear_suspicion(at(1_100), id, Incarnation::default()).unwrap();
        }
        assert!(brakes.recount(&table, at(1_200), &mut emitted), "who leaves it is emitted so, and gives fresh timers");
        assert_eq!(emitted[1..], [Event::ZoneRecovered { zone: "west".into() }]);
        assert!(!brakes.is_disrupted());
        assert_eq!(brakes.ask(&"west".into(), &table, at(1_200), &mut emitted), Brake::Free);
    }

    #[test]
    fn a_disrupted_zone_without_members_is_forgotten() {
        let mut table = table([10, 4]);
        set_all(&mut table, at(0), "west", 4, 3, Status::Suspect);
        let (mut brakes, mut emitted) = (Brakes::default(), Vec::new());
        assert_eq!(brakes.ask(&"west".into(), &table, at(0), &mut emitted), Brake::ZoneDisrupted);
        set_all(&mut table, at(100), "west", 4, 4, Status::Left);
        assert!(brakes.recount(&table, at(200), &mut emitted));
        assert_eq!(emitted[1..], [Event::ZoneRecovered { zone: "west".into() }], "its recovery is published");
        assert!(!brakes.is_disrupted());
    }
}
