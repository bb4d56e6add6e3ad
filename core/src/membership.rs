//! `Membership`: the table of nodes, and whose word about them counts.
//!
//! Like a parish register: births, doubts, deaths and departures, each entry with a number that says which of two entries about the same
//! person is the later. A newer generation (a new process) beats everything said of the older one; within a generation a higher
//! incarnation wins; within an incarnation the worse status does. Only the member itself raises its incarnation, so it can always contradict
//! what is said of it, and nobody else can.
//!
//! Every change gets the next version, and the versions are an index: what is new since version v is a range, however large the table. The
//! node that keeps the table (the monitor) hands those ranges out; the others take them in with [`Membership::apply`].
//!
//! It keeps no time of its own beyond when an entry last changed, asks nobody, and forgets only what is over.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::MembershipConfig;
use crate::member::{Generation, Incarnation, Member, NodeId, Role, Status};
use crate::time::Instant;
use crate::wire::{Entry, Join};

/// The table of nodes as this one sees it, itself included.
#[derive(Clone, Debug)]
pub struct Membership {
    rows: BTreeMap<NodeId, Row>,
    /// Which member changed at which version; one entry a member, its latest.
    changes: BTreeMap<u64, NodeId>,
    /// Version of the newest change.
    version: u64,
}

#[derive(Clone, Debug)]
struct Row {
    member: Member,
    /// Version of the latest change.
    version: u64,
    /// When that was.
    changed: Instant,
}

/// Why a node was not admitted; the table is as before.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Refusal {
    /// The id is not the hash of the name.
    IdOfAnotherName(String),
    /// Two names with one hash; the name that came first.
    IdTaken(Arc<str>),
    /// The table is full; its bound.
    Full(u32),
    /// A process that started later already speaks under this name; its generation.
    Superseded(Generation),
    /// This generation said goodbye; it must start anew.
    HasLeft,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::IdOfAnotherName(name) => write!(f, "the id is not that of the name {name:?}"),
            Refusal::IdTaken(name) => write!(f, "the id is taken by {name:?}; rename one of the two"),
            Refusal::Full(most) => write!(f, "{most} members are known already; raise membership.members_max"),
            Refusal::Superseded(generation) => {
                write!(f, "a process started later (generation {}) uses this name; end one of the two", generation.0)
            }
            Refusal::HasLeft => f.write_str("this process has left; start a new one"),
        }
    }
}

impl std::error::Error for Refusal {}

/// What a sign of life from a node means for the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// A member, as expected.
    Alive,
    /// A suspect: the sign clears it.
    Cleared,
    /// It was dead or unknown under this incarnation and now speaks under a higher one: alive again.
    Returned,
    /// It was concluded dead and does not know yet; tell it.
    Dead,
    /// An older process of this name, or one that has left.
    Old,
    /// Not in the table: ask for its name.
    Unknown,
}

impl Membership {
    /// A table that holds `me` alone, its first change numbered `version`.
    pub fn new(me: Member, version: u64, now: Instant) -> Membership {
        let mut membership = Membership { rows: BTreeMap::new(), changes: BTreeMap::new(), version };
        membership.put(me, now);
        membership
    }

    /// Takes in a node that asks to be a member. Returns whether that changed anything.
    ///
    /// # Errors
    /// [`Refusal`]; the table is then as before.
    pub fn admit(
        &mut self,
        now: Instant,
        id: NodeId,
        generation: Generation,
        join: &Join<'_>,
        config: &MembershipConfig,
    ) -> Result<bool, Refusal> {
        if NodeId::of(join.name) != id {
            return Err(Refusal::IdOfAnotherName(join.name.to_owned()));
        }
        if let Some(known) = self.rows.get(&id).map(|row| &row.member) {
            if *known.name != *join.name {
                return Err(Refusal::IdTaken(known.name.clone()));
            }
            if known.generation > generation {
                return Err(Refusal::Superseded(known.generation));
            }
            if known.generation == generation && known.status == Status::Left {
                return Err(Refusal::HasLeft);
            }
            let same_life = known.generation == generation && known.incarnation >= join.incarnation;
            // A repeated join, or a dead one that does not know yet: what it says of itself is not newer than what we hold.
            if same_life && (known.address == join.address || !known.status.is_member()) {
                return Ok(false);
            }
        } else if self.rows.len() >= config.members_max as usize {
            return Err(Refusal::Full(config.members_max));
        }
        let incarnation = match self.rows.get(&id) {
            Some(row) if row.member.generation == generation => row.member.incarnation.max(join.incarnation),
            _ => join.incarnation,
        };
        self.put(
            Member {
                id,
                name: join.name.into(),
                address: join.address,
                role: join.role,
                generation,
                incarnation,
                status: Status::Alive,
            },
            now,
        );
        Ok(true)
    }

    /// Takes in a sign of life from a node that holds version `view` of this table.
    ///
    /// A node that refutes a suspicion may not know that it has been concluded dead since, and that others have its shards. So a dead one is
    /// back only when it holds the version that says so.
    pub fn hear(
        &mut self,
        now: Instant,
        id: NodeId,
        generation: Generation,
        incarnation: Incarnation,
        view: u64,
    ) -> Heard {
        let Some(Row { member: known, version, .. }) = self.rows.get(&id) else { return Heard::Unknown };
        if generation > known.generation {
            return Heard::Unknown;
        }
        if generation < known.generation || incarnation < known.incarnation {
            return Heard::Old;
        }
        let newer = incarnation > known.incarnation;
        let heard = match known.status {
            Status::Left => return Heard::Old,
            Status::Dead if !newer || view < *version => return Heard::Dead,
            Status::Dead => Heard::Returned,
            Status::Suspect => Heard::Cleared,
            Status::Alive if newer => Heard::Alive,
            Status::Alive => return Heard::Alive,
        };
        let member = Member { incarnation, status: Status::Alive, ..known.clone() };
        self.put(member, now);
        heard
    }

    /// Puts down a verdict on a node, at the incarnation known. Returns whether that changed anything.
    pub fn judge(&mut self, now: Instant, id: NodeId, status: Status) -> bool {
        let Some(known) = self.rows.get(&id).map(|row| &row.member) else { return false };
        if status <= known.status {
            return false;
        }
        let member = Member { status, ..known.clone() };
        self.put(member, now);
        true
    }

    /// Takes in what the keeper of the table says of a node. Returns the row as it was and as it is, if that changed anything.
    pub fn apply(
        &mut self,
        now: Instant,
        entry: &Entry<'_>,
        config: &MembershipConfig,
    ) -> Option<(Option<Member>, Member)> {
        let before = self.rows.get(&entry.id).map(|row| row.member.clone());
        let newer = match &before {
            None => self.rows.len() < config.members_max as usize,
            Some(known) => {
                (entry.generation, entry.incarnation, entry.status)
                    > (known.generation, known.incarnation, known.status)
                    // The keeper's word counts at the same incarnation too: it alone hears the heartbeats that clear a suspicion.
                    || ((entry.generation, entry.incarnation) == (known.generation, known.incarnation)
                        && entry.status != known.status)
            }
        };
        if !newer {
            return None;
        }
        let name = match &before {
            Some(known) if *known.name == *entry.name => known.name.clone(),
            _ => entry.name.into(),
        };
        let member = Member {
            id: entry.id,
            name,
            address: entry.address,
            role: entry.role,
            generation: entry.generation,
            incarnation: entry.incarnation,
            status: entry.status,
        };
        self.put(member.clone(), now);
        Some((before, member))
    }

    /// Raises the incarnation of a member of our own making: ourselves.
    pub fn raise(&mut self, now: Instant, id: NodeId, incarnation: Incarnation) {
        if let Some(known) = self.rows.get(&id).map(|row| row.member.clone()) {
            self.put(Member { incarnation, status: Status::Alive, ..known }, now);
        }
    }

    /// Drops all rows but `id`'s: another keeper starts another table.
    pub fn clear_but(&mut self, id: NodeId) {
        self.rows.retain(|row, _| *row == id);
        self.changes.retain(|_, row| *row == id);
    }

    /// Forgets who has been dead or gone for `forget_after`.
    pub fn reap(&mut self, now: Instant, config: &MembershipConfig) {
        let over = |row: &Row| !row.member.status.is_member() && now - row.changed > config.forget_after;
        let gone: Vec<(NodeId, u64)> =
            self.rows.iter().filter(|(_, row)| over(row)).map(|(&id, row)| (id, row.version)).collect();
        for (id, version) in gone {
            self.rows.remove(&id);
            self.changes.remove(&version);
        }
    }

    /// One row.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.rows.get(&id).map(|row| &row.member)
    }

    /// All rows, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.rows.values().map(|row| &row.member)
    }

    /// Version of the latest change of a row; zero if there is none.
    pub fn changed(&self, id: NodeId) -> u64 {
        self.rows.get(&id).map_or(0, |row| row.version)
    }

    /// Ids of the members that may own shards, in their order.
    pub fn owners(&self) -> impl Iterator<Item = NodeId> {
        self.members().filter(|member| member.role == Role::Worker && member.status.is_member()).map(|member| member.id)
    }

    /// Where members of this role are, without those who are gone.
    pub fn addresses(&self) -> impl Iterator<Item = (NodeId, SocketAddr)> {
        self.members().filter(|member| member.status.is_member()).map(|member| (member.id, member.address))
    }

    /// Version of the newest change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Members that changed after `version`, in the order of their changes, each with the version of it.
    pub fn changes_since(&self, version: u64) -> impl Iterator<Item = (&Member, u64)> {
        let after = (std::ops::Bound::Excluded(version), std::ops::Bound::Unbounded);
        self.changes.range(after).map(|(&version, id)| (&self.rows[id].member, version))
    }

    fn put(&mut self, member: Member, now: Instant) {
        self.version += 1;
        if let Some(row) = self.rows.get(&member.id) {
            self.changes.remove(&row.version);
        }
        self.changes.insert(self.version, member.id);
        self.rows.insert(member.id, Row { member, version: self.version, changed: now });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Config;

    const NOW: Instant = Instant::ZERO;

    fn config() -> MembershipConfig {
        MembershipConfig { members_max: 3, forget_after: Duration::from_secs(60) }
    }

    fn member(name: &str) -> Member {
        Member {
            id: NodeId::of(name),
            name: name.into(),
            address: "127.0.0.1:1".parse().unwrap(),
            role: Role::Worker,
            generation: Generation(5),
            incarnation: Incarnation(0),
            status: Status::Alive,
        }
    }

    fn table() -> Membership {
        Membership::new(member("me"), 0, NOW)
    }

    fn join(table: &mut Membership, name: &str, generation: u64, incarnation: u32) -> Result<bool, Refusal> {
        let join = Join {
            incarnation: Incarnation(incarnation),
            role: Role::Worker,
            address: "127.0.0.1:2".parse().unwrap(),
            name,
        };
        table.admit(NOW, NodeId::of(name), Generation(generation), &join, &config())
    }

    fn hear(table: &mut Membership, name: &str, generation: u64, incarnation: u32) -> Heard {
        let view = table.version();
        table.hear(NOW, NodeId::of(name), Generation(generation), Incarnation(incarnation), view)
    }

    fn status(table: &Membership, name: &str) -> Status {
        table.member(NodeId::of(name)).unwrap().status
    }

    #[test]
    fn a_stranger_must_give_its_name_first() {
        let mut table = table();
        assert_eq!(hear(&mut table, "a", 1, 0), Heard::Unknown);
        assert_eq!(join(&mut table, "a", 1, 0), Ok(true));
        assert_eq!(hear(&mut table, "a", 1, 0), Heard::Alive);
        assert_eq!(join(&mut table, "a", 1, 0), Ok(false));
    }

    #[test]
    fn refusals_say_why_and_change_nothing() {
        let mut table = table();
        join(&mut table, "a", 5, 0).unwrap();
        let version = table.version();
        assert_eq!(join(&mut table, "a", 4, 9), Err(Refusal::Superseded(Generation(5))));
        let stolen = Join {
            incarnation: Incarnation(0),
            role: Role::Worker,
            address: "127.0.0.1:3".parse().unwrap(),
            name: "b",
        };
        let refused = table.admit(NOW, NodeId::of("a"), Generation(9), &stolen, &config());
        assert_eq!(refused, Err(Refusal::IdOfAnotherName("b".to_owned())));
        assert_eq!(table.version(), version);
        join(&mut table, "b", 1, 0).unwrap();
        assert_eq!(join(&mut table, "c", 1, 0), Err(Refusal::Full(3)));
        table.judge(NOW, NodeId::of("b"), Status::Left);
        assert_eq!(join(&mut table, "b", 1, 1), Err(Refusal::HasLeft));
    }

    #[test]
    fn a_sign_clears_a_suspicion_but_not_a_death() {
        let mut table = table();
        join(&mut table, "a", 1, 0).unwrap();
        let a = NodeId::of("a");
        assert!(table.judge(NOW, a, Status::Suspect));
        assert_eq!(hear(&mut table, "a", 1, 0), Heard::Cleared);
        assert!(table.judge(NOW, a, Status::Dead));
        assert!(!table.judge(NOW, a, Status::Suspect), "the dead are not suspected");
        assert_eq!(hear(&mut table, "a", 1, 0), Heard::Dead);
        assert_eq!(join(&mut table, "a", 1, 0), Ok(false));
        assert_eq!(status(&table, "a"), Status::Dead);
        assert_eq!(hear(&mut table, "a", 1, 1), Heard::Returned);
        assert_eq!(status(&table, "a"), Status::Alive);
    }

    #[test]
    fn a_refutation_by_a_node_that_does_not_know_of_its_death_does_not_bring_it_back() {
        let mut table = table();
        join(&mut table, "a", 1, 0).unwrap();
        let a = NodeId::of("a");
        table.judge(NOW, a, Status::Suspect);
        let suspected = table.version();
        table.judge(NOW, a, Status::Dead);
        assert_eq!(table.hear(NOW, a, Generation(1), Incarnation(1), suspected), Heard::Dead);
        assert_eq!(table.hear(NOW, a, Generation(1), Incarnation(1), table.version()), Heard::Returned);
    }

    #[test]
    fn news_from_an_older_life_is_old() {
        let mut table = table();
        join(&mut table, "a", 2, 3).unwrap();
        assert_eq!(hear(&mut table, "a", 1, 9), Heard::Old);
        assert_eq!(hear(&mut table, "a", 2, 2), Heard::Old);
        assert_eq!(hear(&mut table, "a", 3, 0), Heard::Unknown);
        assert_eq!(join(&mut table, "a", 3, 0), Ok(true));
        assert_eq!(hear(&mut table, "a", 3, 0), Heard::Alive);
    }

    #[test]
    fn whoever_has_left_stays_away_until_it_starts_anew() {
        let mut table = table();
        join(&mut table, "a", 1, 0).unwrap();
        table.judge(NOW, NodeId::of("a"), Status::Left);
        assert_eq!(hear(&mut table, "a", 1, 1), Heard::Old);
        assert_eq!(join(&mut table, "a", 2, 0), Ok(true));
    }

    #[test]
    fn what_is_new_since_a_version_is_handed_out_once_and_in_order() {
        let mut table = table();
        join(&mut table, "a", 1, 0).unwrap();
        let version = table.version();
        join(&mut table, "b", 1, 0).unwrap();
        table.judge(NOW, NodeId::of("b"), Status::Suspect);
        table.judge(NOW, NodeId::of("a"), Status::Suspect);
        let names: Vec<&str> = table.changes_since(version).map(|(member, _)| &*member.name).collect();
        assert_eq!(names, ["b", "a"]);
        assert_eq!(table.changes_since(table.version()).count(), 0);
    }

    #[test]
    fn the_keepers_word_counts_but_an_old_one_does_not() {
        let mut table = table();
        let a = member("a");
        let entry = |status, incarnation| Entry {
            id: a.id,
            status,
            role: a.role,
            generation: a.generation,
            incarnation: Incarnation(incarnation),
            address: a.address,
            name: &a.name,
        };
        assert!(table.apply(NOW, &entry(Status::Suspect, 1), &config()).is_some());
        assert!(table.apply(NOW, &entry(Status::Suspect, 1), &config()).is_none());
        assert!(table.apply(NOW, &entry(Status::Dead, 0), &config()).is_none());
        assert!(table.apply(NOW, &entry(Status::Alive, 1), &config()).is_some());
        assert_eq!(status(&table, "a"), Status::Alive);
    }

    #[test]
    fn the_dead_are_forgotten_after_their_time_and_the_living_never() {
        let mut table = table();
        join(&mut table, "a", 1, 0).unwrap();
        table.judge(NOW, NodeId::of("a"), Status::Dead);
        let config = MembershipConfig { forget_after: Duration::from_secs(60), ..Config::default().membership };
        table.reap(NOW + Duration::from_secs(60), &config);
        assert_eq!(table.members().count(), 2);
        table.reap(NOW + Duration::from_secs(61), &config);
        assert_eq!(table.members().map(|member| &*member.name).collect::<Vec<_>>(), ["me"]);
        assert_eq!(table.changes_since(0).count(), 1);
    }
}
