//! Deaths: every death has a cause, and every crash is noticed within its bound.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heartbeat_core::{Generation, Member};

use crate::checker::{Checker, nanos};
use crate::network::NodeIndex;
use crate::node::generation_at;

/// Deaths by silence that the brake lets pass within [`PACE`], of a zone of up to forty: as
/// `heartbeat_core`'s brake has it.
pub(crate) const PACE_LEAST: usize = 4;

pub(crate) const PACE: Duration = Duration::from_secs(10);

/// The facts about nodes by which deaths are judged.
#[derive(Default)]
pub(crate) struct Nodes {
    pub(crate) killed: BTreeSet<NodeIndex>,
    pub(crate) left: BTreeSet<NodeIndex>,
    pub(crate) paused: BTreeSet<NodeIndex>,
    /// Links that carry nothing, each in one direction.
    pub(crate) cut: BTreeSet<(NodeIndex, NodeIndex)>,
    /// Nodes to which some link was ever cut.
    pub(crate) cut_to: BTreeSet<NodeIndex>,
    /// Nodes that lose most of what they send and receive.
    pub(crate) garbled: BTreeSet<NodeIndex>,
    /// From when to when a node was paused or cut off. Until it has had the time to be heard in
    /// between, it counts as one span.
    pub(crate) hampered: BTreeMap<NodeIndex, (u64, Option<u64>)>,
    /// Who was started and has not joined since: the death of the process before it may still be
    /// noticed.
    pub(crate) unknown: BTreeSet<NodeIndex>,
    /// When each was last started: for a while, some may still conclude the death of the process
    /// before it.
    pub(crate) started: BTreeMap<NodeIndex, u64>,
    /// The generation under which each was last started.
    pub(crate) generations: BTreeMap<NodeIndex, Generation>,
    /// How far the clock of each has jumped ahead.
    pub(crate) ahead: BTreeMap<NodeIndex, u64>,
    /// Whether the network ever lost or delayed datagrams.
    pub(crate) disturbed: bool,
    /// Nodes that some node has as a member.
    pub(crate) members: BTreeSet<NodeIndex>,
    /// Promise 2: by when some observer must have declared this node dead, and its observers.
    pub(crate) owed: BTreeMap<NodeIndex, (u64, Vec<NodeIndex>)>,
    /// When an observer first concluded each death.
    pub(crate) died: Vec<u64>,
    pub(crate) deaths: u32,
}

impl Checker {
    pub(crate) fn killed(&mut self, now: u64, place: NodeIndex, watched_by: &[NodeIndex]) {
        /// A datagram that is held back arrives at most this long after its sender died; see
        /// `Network::reordering`.
        const HELD_BACK: Duration = Duration::from_millis(1_100);
        const SLACK: Duration = Duration::from_millis(50);
        self.nodes.killed.insert(place);
        self.owe_nothing(place);
        let spare = self.spare();
        let is_new = |observer: &NodeIndex| self.nodes.started.get(observer).is_some_and(|&at| now - at <= spare);
        let was_well = |place: &NodeIndex| {
            self.nodes.hampered.get(place).is_none_or(|(_, until)| until.is_some_and(|end| now - end > spare))
        };
        let is_well = |observer: &NodeIndex| {
            !is_new(observer)
                && was_well(observer)
                && !self.nodes.killed.contains(observer)
                && !self.nodes.paused.contains(observer)
                && !self.nodes.left.contains(observer)
        };
        // Who was hampered lately may not have been heard by those who are to watch it.
        let is_quiet = self.nodes.cut.is_empty() && self.nodes.garbled.is_empty() && was_well(&place);
        if !watched_by.is_empty() && watched_by.iter().all(is_well) && is_quiet && self.nodes.members.contains(&place) {
            let slack = if self.nodes.disturbed { HELD_BACK + self.config.interval } else { SLACK };
            // Where several watch, most of them have to have missed it, and are asked.
            let asking = if watched_by.len() > 1 { self.config.interval * 2 } else { Duration::ZERO };
            // While its observers change, one that is new may be all there is to ask; that one's
            // word waits for the suspicion to be old.
            let wanted =
                (self.config.membership.observers as usize).min(self.pool() - usize::from(self.may_observe(place)));
            let changing = if watched_by.len() < wanted { self.config.timeout } else { Duration::ZERO };
            let due = now + nanos(self.config.timeout + changing + asking + slack);
            self.nodes.owed.insert(place, (due, watched_by.to_vec()));
        }
    }

    pub(crate) fn started(&mut self, now: u64, place: NodeIndex) {
        self.nodes.unknown.insert(place);
        self.nodes.started.insert(place, now);
        let ahead = self.nodes.ahead.get(&place).copied().unwrap_or_default();
        self.nodes.generations.insert(place, generation_at(now + ahead));
        *self.lives.entry(place).or_default() += 1;
        self.nodes.killed.remove(&place);
        self.nodes.paused.remove(&place);
        self.hampered(now);
        self.nodes.left.remove(&place);
        self.owe_nothing(place);
        self.threads.blocked.retain(|(here, _), _| *here != place);
    }

    /// An island is cut off from all other nodes, in both directions.
    pub(super) fn partitioned(&mut self, now: u64, island: &[NodeIndex]) {
        for outside in (0..self.names.len()).filter(|node| !island.contains(node)) {
            for &inside in island {
                self.nodes.cut.extend([(inside, outside), (outside, inside)]);
            }
        }
        self.nodes.owed.clear();
        self.hampered(now);
    }

    /// Notes which nodes are paused or cut off, after that has changed.
    pub(crate) fn hampered(&mut self, now: u64) {
        let spare = self.spare();
        for place in 0..self.names.len() {
            let is_hampered = self.is_hampered(place);
            if !is_hampered && !self.nodes.hampered.contains_key(&place) {
                continue;
            }
            let (since, until) = self.nodes.hampered.entry(place).or_insert((now, None));
            match (*until, is_hampered) {
                (Some(end), true) if now - end > spare => (*since, *until) = (now, None),
                (_, true) => *until = None,
                (None, false) => *until = Some(now),
                (Some(_), false) => {}
            }
        }
    }

    /// Whether a node is paused, or more than a third of those who may observe it cannot hear it.
    pub(crate) fn is_hampered(&self, place: NodeIndex) -> bool {
        let pool = self.pool();
        let unheard = (0..pool).filter(|&other| self.nodes.cut.contains(&(place, other))).count();
        self.nodes.paused.contains(&place)
            || self.nodes.garbled.contains(&place)
            || unheard * 3 > pool.saturating_sub(1)
    }

    pub(crate) fn may_observe(&self, place: NodeIndex) -> bool {
        self.shape.monitors == 0 || place < self.shape.monitors
    }

    /// How many may observe.
    pub(crate) fn pool(&self) -> usize {
        if self.shape.monitors > 0 { self.shape.monitors } else { self.names.len() }
    }

    /// What this place was to show is not owed any more; nor what it was to notice.
    pub(crate) fn owe_nothing(&mut self, place: NodeIndex) {
        self.nodes.owed.retain(|dead, (_, watched_by)| *dead != place && !watched_by.contains(&place));
        self.threads.owed.retain(|(here, _), _| *here != place);
    }

    pub(crate) fn joined(&mut self, member: &Member) {
        self.member(&member.name);
        // A node that has just started may still learn of the process that was there before.
        if let Some(place) = self.place(&member.name)
            && self.nodes.generations.get(&place).is_none_or(|generation| *generation == member.generation)
        {
            self.nodes.unknown.remove(&place);
        }
    }

    pub(crate) fn member(&mut self, name: &str) {
        if let Some(place) = self.place(name) {
            self.nodes.members.insert(place);
        }
    }

    pub(crate) fn no_member(&mut self, name: &str) -> Option<NodeIndex> {
        let place = self.place(name)?;
        self.nodes.members.remove(&place);
        self.nodes.owed.remove(&place);
        Some(place)
    }

    pub(crate) fn check_death(&mut self, now: u64, judge: NodeIndex, place: NodeIndex) {
        let spare = self.spare();
        let was_long = |place: &NodeIndex, at_least: u64| {
            self.nodes.hampered.get(place).is_some_and(|&(since, until)| {
                let end = until.unwrap_or(now);
                now - end <= spare && end - since + spare > at_least
            })
        };
        let timeout = nanos(self.config.timeout);
        // On the smaller side of a partition all others are silent, which explains a wrong verdict.
        // A pause of the judge's own does not.
        let is_apart = was_long(&judge, timeout) && !self.nodes.paused.contains(&judge);
        let nodes = &self.nodes;
        let is_gone = [&nodes.killed, &nodes.left, &nodes.unknown].iter().any(|gone| gone.contains(&place));
        // A node whose own table is full may be admitted by a node that it has no room for, which
        // receives its joins and no heartbeat. Joins are signs of life for one timeout.
        let has_room = self.config.membership.members_max as usize >= self.names.len();
        let joins_for = if has_room { 0 } else { timeout };
        let is_new = nodes.started.get(&place).is_some_and(|&at| now - at <= joins_for + timeout + spare);
        // A node that the judge cannot receive now remains silent to it.
        let was_silent = nodes.cut.contains(&(place, judge))
            && nodes.hampered.get(&place).is_some_and(|&(since, _)| now - since + spare > timeout);
        if !was_long(&place, timeout) && !was_silent && !is_apart && !is_gone && !is_new {
            self.note(
                now,
                &format!("{} concluded without cause that {} is dead", self.names[judge], self.names[place]),
            );
        }
    }

    /// How much longer than its cause a silence may be: an interval before it and one after it, and
    /// a heartbeat or two that got lost there.
    pub(crate) fn spare(&self) -> u64 {
        nanos(self.config.interval) * if self.nodes.disturbed { 4 } else { 2 }
    }
}
