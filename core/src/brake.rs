//! `Brake`: many at once is suspicious.
//!
//! When most of a zone falls silent together, it is more likely the network, or ourselves, than all of them; to bury them would move all their work for nothing.
//! So silence makes at most a share of a zone dead in a while, and none of it while most of the zone is silent: it is frozen until the doubt is over, and then everybody
//! has a fresh timer. What was *seen* to end (a closed lifeline and a refused connection) is no silence, and is not held up.
//!
//! Source: the zones of Kubernetes' node controller (`node_lifecycle_controller.go`): partial disruption from 55 % and over two nodes on, and fresh timers afterwards.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::event::Event;
use crate::member::Status;
use crate::membership::Membership;
use crate::time::Instant;

/// Share of a zone that makes silence suspicious, in percent, and the number it must be over.
const MOST_PERCENT: usize = 55;
const MOST_OVER: usize = 2;

/// Share of a zone that silence may make dead within [`PACE`], in percent, and the number it may make dead in any case.
const PACE_PERCENT: usize = 10;
const PACE_LEAST: usize = 4;

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
    Paced,
    /// Not now: too many are silent.
    Frozen,
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
    /// Who is or was a member just now.
    members: usize,
    /// Of them, suspects and those who died just now.
    silent: usize,
    /// Of them, those who died just now.
    died: usize,
}

impl Brakes {
    /// Whether a member of `zone` may be called dead at `now` for its silence; `me` does not count for anybody's silence.
    pub(crate) fn ask(&mut self, zone: &Arc<str>, table: &Membership, now: Instant, tell: &mut Vec<Event>) -> Brake {
        self.look(table, now, tell);
        let Some((_, counts)) = &mut self.counted else { return Brake::Free };
        let concerned = |count: &&mut Count| count.zone.as_ref().is_none_or(|other| other == zone);
        if self.frozen.contains(&None) || self.frozen.contains(&Some(zone.clone())) {
            return Brake::Frozen;
        }
        let is_over = |count: &Count| count.died >= PACE_LEAST.max(count.members * PACE_PERCENT / 100);
        if counts.iter_mut().filter(concerned).any(|count| is_over(count)) {
            return Brake::Paced;
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
    pub(crate) fn look(&mut self, table: &Membership, now: Instant, tell: &mut Vec<Event>) -> bool {
        if self.counted.as_ref().is_some_and(|(at, _)| now - *at < GOOD_FOR) {
            return false;
        }
        let counts = count(table, now);
        let before = self.frozen.len();
        let mut thawed = false;
        for count in &counts {
            let is_suspicious =
                count.silent > MOST_OVER && count.silent * 100 >= count.members.saturating_sub(1) * MOST_PERCENT;
            let name = || count.zone.clone().unwrap_or_else(|| "all".into());
            if is_suspicious && self.frozen.insert(count.zone.clone()) {
                tell.push(Event::Frozen { zone: name(), silent: count.silent as u32, of: count.members as u32 });
            } else if !is_suspicious && self.frozen.remove(&count.zone) {
                thawed = true;
                tell.push(Event::Thawed { zone: name() });
            }
        }
        // A zone of which nobody is left.
        self.frozen.retain(|zone| counts.iter().any(|count| count.zone == *zone));
        self.counted = Some((now, counts));
        thawed || self.frozen.len() < before
    }
}

/// Counts each zone and all together.
fn count(table: &Membership, now: Instant) -> Vec<Count> {
    let mut counts = vec![Count { zone: None, members: 0, silent: 0, died: 0 }];
    for member in table.members() {
        let lately = table.changed(member.id).is_some_and(|at| now - at < PACE);
        let (is_silent, has_died) = match member.status {
            Status::Alive => (false, false),
            Status::Suspect => (true, false),
            Status::Dead if lately => (true, true),
            Status::Dead | Status::Left => continue,
        };
        let at = counts.iter().position(|count| count.zone.as_ref() == Some(&member.zone)).unwrap_or_else(|| {
            counts.push(Count { zone: Some(member.zone.clone()), members: 0, silent: 0, died: 0 });
            counts.len() - 1
        });
        for index in [0, at] {
            let count = &mut counts[index];
            count.members += 1;
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
