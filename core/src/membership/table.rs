//! `MemberTable`: the table of members, and which of two rows about one member is the later.
//!
//! A later generation (a new process) beats every row of an earlier one. Within a generation a
//! later life wins, and within a life its end does. Else the higher refutation of the member itself
//! wins, and at the same refutation the suspicion. So two tables that have merged the same rows are
//! the same: the order in which the rows came does not matter. Only the member itself can refute a
//! row about it.
//!
//! The profile of a member has a number of its own, its revision: a row with a newer status may
//! overtake a row with a newer profile. A row can so be the later one in one respect and the
//! earlier one in the other. The table keeps the later one in each.
//!
//! The table keeps a digest of each of its parts (by the upper six bits of the ids). With one
//! datagram of digests two nodes find whether and where they differ. The dead and the departed do
//! not count for the digests, since each node forgets them at its own time.
//!
//! The table sends nothing, decides no verdict, and forgets only members that have ended. It keeps
//! no time but that of the last change of each row.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::MembershipConfig;
use crate::member::{Generation, Incarnation, Member, NodeId, Profile, Status, VersionCounts, WireVersions};
use crate::random::{Random, mix};
use crate::time::Instant;
use crate::wire::{BUCKETS, Digests, Refused, Row};

/// The members as this node sees them, itself included.
#[derive(Clone, Debug)]
pub struct MemberTable {
    me: NodeId,
    rows: BTreeMap<NodeId, Entry>,
    /// Members other than this node, in no order, so that one can be drawn.
    others: Vec<NodeId>,
    /// Nodes that the table holds dead, in no order.
    dead: Vec<NodeId>,
    digests: Digests,
    /// The wire versions of its members.
    wire_versions: VersionCounts,
    /// How often a row was stored or forgotten.
    version: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    member: Member,
    /// When it last changed.
    changed: Instant,
    /// Its list_index in `others` or `dead`.
    list_index: u32,
    /// Whether it was over, for an unknown time, when its first row came: then it is not sent to
    /// others.
    suppressed: bool,
}

/// A row that changed.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// The row before, if there was one.
    pub before: Option<Member>,
    /// The row now.
    pub after: Member,
    /// Whether the member is over, and had published a profile that was never received here.
    pub missed_update: bool,
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
    /// A process that started later already uses this name; its generation.
    Superseded(Generation),
    /// Another process of this name was started in the same millisecond.
    Twin(Generation),
    /// This generation said goodbye; it must start anew.
    HasLeft,
    /// A row that gives a process another address, role or weight than it began with; its name.
    Changed(Arc<str>),
    /// The node that was asked has no quorum, and admits no new member without one.
    NoQuorum,
    /// The datagrams of the node come from another address than this one, which it says it has.
    AddressOfAnother(SocketAddr),
    /// The node cannot use the wire version that the members can use; that version.
    NoCommonVersion(u8),
}

impl Refusal {
    /// The refusal as a message carries it.
    pub(crate) fn to_wire(&self) -> Refused {
        let (reason, value) = match self {
            Refusal::IdOfAnotherName(_) => (0, 0),
            Refusal::IdTaken(_) => (1, 0),
            Refusal::Full(most) => (2, u64::from(*most)),
            Refusal::Superseded(generation) => (3, generation.0),
            Refusal::Twin(generation) => (4, generation.0),
            Refusal::HasLeft => (5, 0),
            Refusal::NoQuorum => (6, 0),
            Refusal::Changed(_) => (7, 0),
            Refusal::AddressOfAnother(_) => (8, 0),
            Refusal::NoCommonVersion(version) => (9, u64::from(*version)),
        };
        Refused { reason, value }
    }

    /// The refusal that another node sent to `me`; `None` for a reason that this release does not
    /// know.
    pub(crate) fn from_wire(refused: Refused, me: &Member) -> Option<Refusal> {
        let generation = Generation(refused.value);
        Some(match refused.reason {
            0 => Refusal::IdOfAnotherName(me.name.to_string()),
            1 => Refusal::IdTaken("another node".into()),
            2 => Refusal::Full(u32::try_from(refused.value).unwrap_or(u32::MAX)),
            3 => Refusal::Superseded(generation),
            4 => Refusal::Twin(generation),
            5 => Refusal::HasLeft,
            6 => Refusal::NoQuorum,
            7 => Refusal::Changed(me.name.clone()),
            8 => Refusal::AddressOfAnother(me.address),
            9 => Refusal::NoCommonVersion(u8::try_from(refused.value).unwrap_or(u8::MAX)),
            _ => return None,
        })
    }
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
            Refusal::Twin(generation) => {
                let generation = generation.0;
                write!(
                    f,
                    "a process started in the same instant (generation {generation}) uses this name; end one of the two"
                )
            }
            Refusal::Changed(name) => {
                write!(
                    f,
                    "{name:?} has another address, role or weight than its process began with; start it anew to change them"
                )
            }
            Refusal::NoQuorum => {
                f.write_str("this node has no quorum and admits no new member; restore its connection to the others")
            }
            Refusal::HasLeft => f.write_str("this process has left; start a new one"),
            Refusal::AddressOfAnother(says) => write!(
                f,
                "the node says that its address is {says}, and its datagrams come from another one; \
                 set cluster.advertise to the address that the others see"
            ),
            Refusal::NoCommonVersion(version) => write!(
                f,
                "the members use version {version} of the wire format, which the node cannot; \
                 upgrade all nodes one release at a time"
            ),
        }
    }
}

impl std::error::Error for Refusal {}

/// What two entries of one member are compared by: the larger is the later one.
fn rank(generation: Generation, incarnation: Incarnation, status: Status) -> impl Ord {
    let end = match status {
        Status::Alive | Status::Suspect => 0,
        Status::Dead => 1,
        Status::Left => 2,
    };
    (generation, incarnation.returns, end, incarnation.refutations, status == Status::Suspect)
}

impl MemberTable {
    /// A table that holds `me` alone.
    pub fn new(me: Member, now: Instant) -> MemberTable {
        let mut membership = MemberTable {
            me: me.id,
            rows: BTreeMap::new(),
            others: Vec::new(),
            dead: Vec::new(),
            digests: [0; BUCKETS],
            wire_versions: VersionCounts::default(),
            version: 0,
        };
        membership.put(me, now);
        membership
    }

    // ---- inputs ---------------------------------------------------------------------------------

    /// Merges a row. Returns the change if the row was news.
    ///
    /// A note about an unknown member is no news: its row comes when the tables are compared.
    ///
    /// # Errors
    /// [`Refusal`]; the table is then as before. That a row is older than what is held is no error.
    pub fn merge(&mut self, now: Instant, row: &Row<'_>, config: &MembershipConfig) -> Result<Option<Change>, Refusal> {
        let Some(Entry { member: known, .. }) = self.rows.get(&row.id) else { return self.add(now, row, config) };
        if let Some(details) = row.details
            && *details.name != *known.name
        {
            return Err(Refusal::IdTaken(known.name.clone()));
        }
        let (old, new) = (
            rank(known.generation, known.incarnation, known.status),
            rank(row.generation, row.incarnation, row.status),
        );
        let is_same_process = row.generation == known.generation;
        let is_news = new > old;
        let says_else = is_same_process && row.revision > known.revision && (is_news || known.status.is_member());
        if says_else && known.revision > 0 && row.details.is_some_and(|details| !details.begins_like(known)) {
            return Err(Refusal::Changed(known.name.clone()));
        }
        let profile = match &row.details {
            Some(details) if row.generation > known.generation || says_else => Arc::new(details.profile(row.revision)),
            _ if !is_news => return Ok(None),
            _ if is_same_process => known.profile.clone(),
            // Of another process it has to be known what it says, unless it is over.
            _ if row.status.is_member() => return Ok(None),
            _ => Arc::new(Profile { revision: 0, ..(*known.profile).clone() }),
        };
        let before = known.clone();
        let mut after = Member { profile, ..before.clone() };
        if is_news {
            (after.generation, after.incarnation, after.status) = (row.generation, row.incarnation, row.status);
        }
        let missed_update = is_same_process && !after.status.is_member() && row.revision > after.revision;
        self.put(after.clone(), now);
        Ok(Some(Change { before: Some(before), after, missed_update }))
    }

    /// Merges the row of a node that asks to be a member, as [`MemberTable::merge`] does. It says
    /// what stands against the admission.
    ///
    /// # Errors
    /// [`Refusal`]; the table is then as before.
    pub fn admit(&mut self, now: Instant, row: &Row<'_>, config: &MembershipConfig) -> Result<Option<Change>, Refusal> {
        if let Some(Entry { member: known, .. }) = self.rows.get(&row.id)
            && let Some(details) = &row.details
            && *details.name == *known.name
        {
            if known.generation > row.generation {
                return Err(Refusal::Superseded(known.generation));
            }
            if known.generation == row.generation && known.status == Status::Left {
                return Err(Refusal::HasLeft);
            }
            if known.generation == row.generation && known.address != details.address {
                return Err(Refusal::Twin(known.generation));
            }
        }
        if let Some(details) = &row.details
            && let Some(version) = self.version_without(row.id, details.wire_versions())
        {
            return Err(Refusal::NoCommonVersion(version));
        }
        self.merge(now, row, config)
    }

    /// Sets the status of a node, at its known incarnation. Returns the change, if the status is a
    /// later one.
    pub fn set_status(&mut self, now: Instant, id: NodeId, status: Status) -> Option<Change> {
        let before = self.member(id)?.clone();
        if status <= before.status {
            return None;
        }
        let after = Member { status, ..before.clone() };
        self.put(after.clone(), now);
        Some(Change { before: Some(before), after, missed_update: false })
    }

    /// Clears the suspicion of a node that does not receive it, with the next refutation after the
    /// one in its heartbeat. Returns the change, if it was one.
    pub fn clear_suspicion(&mut self, now: Instant, id: NodeId, received: Incarnation) -> Option<Change> {
        let before = self.member(id)?.clone();
        if before.status != Status::Suspect || received.returns != before.incarnation.returns {
            return None;
        }
        let incarnation = before.incarnation.max(received).refuted().filter(|next| next.returns == received.returns)?;
        let after = Member { status: Status::Alive, incarnation, ..before.clone() };
        self.put(after.clone(), now);
        Some(Change { before: Some(before), after, missed_update: false })
    }

    /// Stores a member that is known from elsewhere, if it is not known here.
    pub(crate) fn preload(&mut self, now: Instant, member: &Member) {
        if !self.rows.contains_key(&member.id) {
            self.put(member.clone(), now);
        }
    }

    /// Stores this node's own row.
    pub fn set_local(&mut self, now: Instant, me: Member) {
        self.put(me, now);
    }

    /// Stops gossiping this row until it changes. It was learnt from a table sync; nodes that saw
    /// the death gossip it and expire it. If every late learner gossiped it again, the row would
    /// never expire.
    pub(crate) fn suppress_gossip(&mut self, id: NodeId) {
        if let Some(entry) = self.rows.get_mut(&id) {
            entry.suppressed = true;
        }
    }

    /// Forgets members that have been dead or gone for `forget_after`. Returns their names.
    pub fn expire(&mut self, now: Instant, forget_after: Duration) -> Vec<Arc<str>> {
        if self.rows.len() == self.others.len() + 1 {
            return Vec::new(); // All are members.
        }
        let over = |entry: &Entry| !entry.member.status.is_member() && now - entry.changed > forget_after;
        let gone: Vec<NodeId> = self.rows.iter().filter(|(_, entry)| over(entry)).map(|(&id, _)| id).collect();
        let mut forgotten = Vec::with_capacity(gone.len());
        for id in gone {
            self.unlist(id);
            forgotten.extend(self.rows.remove(&id).map(|entry| entry.member.name.clone()));
            self.version += 1;
        }
        forgotten
    }

    // ---- questions ------------------------------------------------------------------------------

    /// The node whose table it is.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// How often the table has changed. A copy of the rows made at this version is the same as the
    /// table.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// One row.
    pub fn member(&self, id: NodeId) -> Option<&Member> {
        self.rows.get(&id).map(|entry| &entry.member)
    }

    /// All rows, in the order of their ids.
    pub fn members(&self) -> impl Iterator<Item = &Member> + Clone {
        self.rows.values().map(|entry| &entry.member)
    }

    /// Rows of one part of the table, without those whose gossip is suppressed.
    pub fn bucket(&self, bucket: usize) -> impl Iterator<Item = &Member> {
        let first = NodeId((bucket as u64) << 58);
        let last = NodeId(first.0 | ((1 << 58) - 1));
        self.rows.range(first..=last).filter(|(_, entry)| !entry.suppressed).map(|(_, entry)| &entry.member)
    }

    /// Rows whose id has this upper half: none, one, or by a rare chance more.
    pub fn with_short_id(&self, short: u32) -> impl Iterator<Item = &Member> {
        let first = NodeId(u64::from(short) << 32);
        self.rows.range(first..=NodeId(first.0 | u64::from(u32::MAX))).map(|(_, entry)| &entry.member)
    }

    /// When a row last changed.
    pub fn changed(&self, id: NodeId) -> Option<Instant> {
        self.rows.get(&id).map(|entry| entry.changed)
    }

    /// Members other than this node, in no order.
    pub fn others(&self) -> &[NodeId] {
        &self.others
    }

    /// A member other than this node, drawn with equal chance.
    pub fn draw(&self, random: &mut Random) -> Option<&Member> {
        self.others.get(random.below(self.others.len() as u64) as usize).and_then(|&id| self.member(id))
    }

    /// A dead node, drawn with equal chance.
    pub fn draw_dead(&self, random: &mut Random) -> Option<&Member> {
        self.dead.get(random.below(self.dead.len() as u64) as usize).and_then(|&id| self.member(id))
    }

    /// Whether no row of another name is stored any more.
    pub(crate) fn is_full(&self, config: &MembershipConfig) -> bool {
        self.rows.len() >= config.members_max as usize
    }

    /// The highest wire version that all members have in common; `None` if there is none.
    pub fn common_wire_version(&self) -> Option<u8> {
        self.wire_versions.common()
    }

    /// Digests of its parts.
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// Parts whose digests differ from `theirs`, one bit each.
    pub fn differing(&self, theirs: &Digests) -> u64 {
        let differs = |&bucket: &usize| self.digests[bucket] != theirs[bucket];
        (0..BUCKETS).filter(differs).fold(0, |bits, bucket| bits | 1 << bucket)
    }

    // ---- private --------------------------------------------------------------------------------

    /// The version that the other members have in common, if they have none in common with the
    /// range of this one.
    fn version_without(&self, id: NodeId, range: WireVersions) -> Option<u8> {
        let mut counts = self.wire_versions.clone();
        // A new process takes the place of the former one.
        if let Some(former) = self.member(id).filter(|former| former.status.is_member()) {
            counts.remove(former.wire_versions);
        }
        let version = counts.common()?;
        counts.add(range);
        counts.common().is_none().then_some(version)
    }

    fn add(&mut self, now: Instant, row: &Row<'_>, config: &MembershipConfig) -> Result<Option<Change>, Refusal> {
        let Some(details) = &row.details else { return Ok(None) };
        if NodeId::of(details.name) != row.id {
            return Err(Refusal::IdOfAnotherName(details.name.to_owned()));
        }
        if self.is_full(config) {
            return Err(Refusal::Full(config.members_max));
        }
        let after = Member {
            id: row.id,
            profile: Arc::new(details.profile(row.revision)),
            generation: row.generation,
            incarnation: row.incarnation,
            status: row.status,
        };
        self.put(after.clone(), now);
        Ok(Some(Change { before: None, after, missed_update: false }))
    }

    fn put(&mut self, member: Member, now: Instant) {
        self.version += 1;
        let id = member.id;
        self.unlist(id);
        let list = self.list(&member);
        let list_index = list.as_ref().map_or(0, |list| list.len() as u32);
        if let Some(list) = list {
            list.push(id);
        }
        self.digests[bucket_of(id)] ^= digest(&member);
        if member.status.is_member() {
            self.wire_versions.add(member.wire_versions);
        }
        self.rows.insert(id, Entry { member, changed: now, list_index, suppressed: false });
    }

    /// Takes a row out of the digest and of its list.
    fn unlist(&mut self, id: NodeId) {
        let Some(entry) = self.rows.get(&id) else { return };
        let (member, list_index) = (entry.member.clone(), entry.list_index as usize);
        self.digests[bucket_of(id)] ^= digest(&member);
        if member.status.is_member() {
            self.wire_versions.remove(member.wire_versions);
        }
        let Some(list) = self.list(&member) else { return };
        list.swap_remove(list_index);
        if let Some(&moved) = list.get(list_index)
            && let Some(entry) = self.rows.get_mut(&moved)
        {
            entry.list_index = list_index as u32;
        }
    }

    /// The list a row belongs in, if in any.
    fn list(&mut self, member: &Member) -> Option<&mut Vec<NodeId>> {
        match member.status {
            _ if member.id == self.me => None,
            Status::Alive | Status::Suspect => Some(&mut self.others),
            Status::Dead => Some(&mut self.dead),
            Status::Left => None,
        }
    }
}

/// The part of the table that an id belongs to.
fn bucket_of(id: NodeId) -> usize {
    (id.0 >> 58) as usize
}

/// What a row adds to the digest of its part; nothing if it is over.
fn digest(member: &Member) -> u32 {
    if !member.status.is_member() {
        return 0;
    }
    let Incarnation { returns, refutations } = member.incarnation;
    let said = u64::from(returns) << 33 | u64::from(refutations) << 1 | u64::from(member.status == Status::Suspect);
    let process = mix(member.id.0 ^ member.generation.0.rotate_left(20));
    mix(mix(process ^ said) ^ u64::from(member.revision)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::member::Role;
    use crate::wire::{Body, Header, VERSION_MAX, decode, encode, encode_in, push_rumour};

    const NOW: Instant = Instant::ZERO;

    fn config() -> MembershipConfig {
        MembershipConfig { members_max: 4, ..Config::default().membership }
    }

    fn member(name: &str, generation: u64, (returns, refutations): (u32, u32), status: Status) -> Member {
        let metadata = [("port".to_owned(), format!("{generation}"))].into();
        let profile = Profile { metadata, ..Profile::new(name, "127.0.0.1:1".parse().unwrap()) };
        let incarnation = Incarnation { returns, refutations };
        Member { incarnation, status, ..Member::new(profile, Generation(generation)) }
    }

    fn table() -> MemberTable {
        MemberTable::new(member("me", 5, (0, 0), Status::Alive), NOW)
    }

    /// Merges `member` as it comes over the wire, as a row or as a note.
    fn merge_as(table: &mut MemberTable, member: &Member, whole: bool) -> Result<Option<Change>, Refusal> {
        let header = Header { cluster: 0, from: NodeId(0), generation: Generation(0), clock: 0 };
        let mut buffer = Vec::new();
        encode(&mut buffer, header, &Body::Gossip);
        let count_at = buffer.len() - 1;
        assert!(push_rumour(&mut buffer, count_at, member, whole));
        let datagram = decode(&buffer).unwrap();
        table.merge(NOW, &datagram.rumours.iter().next().unwrap(), &config())
    }

    fn merge(table: &mut MemberTable, member: &Member) -> bool {
        merge_as(table, member, true).unwrap().is_some()
    }

    fn status(table: &MemberTable, name: &str) -> Status {
        table.member(NodeId::of(name)).unwrap().status
    }

    #[test]
    fn a_node_without_a_common_wire_version_is_not_admitted() {
        let with = |name: &str, generation: u64, min: u8, max: u8| {
            let mut member = member(name, generation, (0, 0), Status::Alive);
            Arc::make_mut(&mut member.profile).wire_versions = WireVersions { min, max };
            member
        };
        let mut table = MemberTable::new(with("me", 5, 3, 4), NOW);
        let mut admit = |joining: &Member| {
            let header = Header { cluster: 0, from: NodeId(0), generation: Generation(0), clock: 0 };
            let mut buffer = Vec::new();
            encode_in(VERSION_MAX, &mut buffer, header, &Body::Gossip);
            let count_at = buffer.len() - 1;
            assert!(push_rumour(&mut buffer, count_at, joining, true));
            let datagram = decode(&buffer).unwrap();
            table.admit(NOW, &datagram.rumours.iter().next().unwrap(), &config()).map(|change| change.is_some())
        };
        assert_eq!(admit(&with("old", 1, 3, 3)), Ok(true));
        assert_eq!(admit(&with("new", 1, 4, 5)), Err(Refusal::NoCommonVersion(3)));
        // A later process takes the place of the one that held the version back.
        assert_eq!(admit(&with("old", 2, 4, 5)), Ok(true));
        assert_eq!(admit(&with("new", 1, 4, 5)), Ok(true));
        assert_eq!(admit(&with("past", 1, 3, 3)), Err(Refusal::NoCommonVersion(4)));
        assert_eq!(table.common_wire_version(), Some(4));
    }

    #[test]
    fn the_order_in_which_rows_come_does_not_matter() {
        let alive = |generation, returns, refutations| member("a", generation, (returns, refutations), Status::Alive);
        let doubted =
            |generation, returns, refutations| member("a", generation, (returns, refutations), Status::Suspect);
        // Each later than all before it.
        let story = [
            alive(1, 0, 0),
            doubted(1, 0, 0),
            alive(1, 0, 1),
            doubted(1, 0, 1),
            member("a", 1, (0, 0), Status::Dead),
            alive(1, 1, 0),
            alive(1, 1, 1),
            member("a", 1, (1, 0), Status::Left),
            alive(2, 0, 0),
        ];
        for seed in 0..200 {
            let (mut table, mut random) = (table(), Random::seeded(seed));
            let mut newest = None;
            for _ in 0..30 {
                let next = random.below(story.len() as u64) as usize;
                assert_eq!(merge(&mut table, &story[next]), Some(next) > newest, "seed {seed}");
                newest = newest.max(Some(next));
                assert_eq!(table.member(NodeId::of("a")), newest.map(|newest| &story[newest]), "seed {seed}");
            }
        }
    }

    /// Profile and status travel apart, and either may overtake the other.
    #[test]
    fn profiles_are_the_same_in_whatever_order_rows_come() {
        let say = |generation, refutations, revision: u32, status| {
            let mut said = member("a", generation, (0, refutations), status);
            let metadata = [("note".to_owned(), format!("{generation} {revision}"))].into();
            said.profile = Arc::new(Profile { metadata, revision, ..(*said.profile).clone() });
            said
        };
        let story = [
            say(1, 0, 1, Status::Alive),
            say(1, 0, 2, Status::Alive),
            say(1, 0, 2, Status::Suspect),
            say(1, 1, 2, Status::Alive),
            say(1, 1, 3, Status::Alive),
            say(1, 2, 3, Status::Suspect),
            say(2, 0, 1, Status::Alive),
            say(2, 0, 2, Status::Alive),
            say(2, 1, 2, Status::Suspect),
        ];
        for seed in 0..500 {
            let mut random = Random::seeded(seed);
            let newest = story.len() - random.below(story.len() as u64) as usize;
            let [mut one, mut other] = [table(), table()];
            for table in [&mut one, &mut other] {
                for _ in 0..40 {
                    let next = random.below(newest as u64) as usize;
                    let _ = merge_as(table, &story[next], random.chance(0.5)).unwrap();
                }
                // A table that lacks anything differs in its digest, and gets the whole row, as
                // when tables are compared.
                let lacks = table.differing(&with(&story[newest - 1])) != 0;
                assert_eq!(merge(table, &story[newest - 1]), lacks, "seed {seed}");
                assert_eq!(table.member(NodeId::of("a")), Some(&story[newest - 1]), "seed {seed}");
            }
            assert_eq!(one.digests(), other.digests());
        }
    }

    /// The digests of a table that holds this member, too.
    fn with(member: &Member) -> Digests {
        let mut table = table();
        merge(&mut table, member);
        *table.digests()
    }

    #[test]
    fn a_process_known_by_its_end_alone_has_no_profile() {
        let mut table = table();
        merge(&mut table, &member("a", 1, (0, 0), Status::Alive));
        assert!(merge_as(&mut table, &member("a", 2, (0, 0), Status::Dead), false).unwrap().is_some());
        assert!(merge_as(&mut table, &member("a", 2, (1, 0), Status::Alive), false).unwrap().is_some());
        let now = table.member(NodeId::of("a")).unwrap();
        assert_eq!((now.generation, now.revision, &*now.metadata["port"]), (Generation(2), 0, "1"));
        assert!(merge(&mut table, &member("a", 2, (1, 0), Status::Alive)), "the row comes when tables are compared");
        let now = table.member(NodeId::of("a")).unwrap();
        assert_eq!((now.revision, &*now.metadata["port"]), (1, "2"));
    }

    #[test]
    fn a_note_changes_a_known_row_and_adds_none() {
        let mut table = table();
        assert_eq!(merge_as(&mut table, &member("a", 1, (0, 0), Status::Alive), false), Ok(None));
        assert!(merge(&mut table, &member("a", 1, (0, 0), Status::Alive)));
        assert!(merge_as(&mut table, &member("a", 1, (0, 0), Status::Suspect), false).unwrap().is_some());
        assert_eq!(merge_as(&mut table, &member("a", 2, (0, 0), Status::Alive), false), Ok(None), "another process");
        assert_eq!(status(&table, "a"), Status::Suspect);
    }

    #[test]
    fn a_refutation_does_not_undo_a_death() {
        let mut table = table();
        merge(&mut table, &member("a", 1, (0, 0), Status::Alive));
        assert!(table.set_status(NOW, NodeId::of("a"), Status::Dead).is_some());
        assert!(!merge(&mut table, &member("a", 1, (0, 7), Status::Alive)));
        assert!(table.set_status(NOW, NodeId::of("a"), Status::Suspect).is_none(), "the dead are not suspected");
        assert!(merge(&mut table, &member("a", 1, (1, 0), Status::Alive)));
    }

    #[test]
    fn refusals_say_why_and_change_nothing() {
        let mut table = table();
        let a = member("a", 5, (0, 0), Status::Alive);
        merge(&mut table, &a);
        let digests = *table.digests();
        let stolen = Member { id: NodeId::of("a"), ..member("b", 9, (0, 0), Status::Alive) };
        assert_eq!(merge_as(&mut table, &stolen, true), Err(Refusal::IdTaken("a".into())));
        let stolen = Member { id: NodeId::of("c"), ..member("b", 9, (0, 0), Status::Alive) };
        assert_eq!(merge_as(&mut table, &stolen, true), Err(Refusal::IdOfAnotherName("b".into())));
        assert_eq!(table.digests(), &digests);
        merge(&mut table, &member("b", 1, (0, 0), Status::Alive));
        merge(&mut table, &member("c", 1, (0, 0), Status::Alive));
        assert_eq!(merge_as(&mut table, &member("d", 1, (0, 0), Status::Alive), true), Err(Refusal::Full(4)));
    }

    #[test]
    fn address_role_and_weight_stay_for_a_generation() {
        let mut table = table();
        let began = member("a", 5, (0, 0), Status::Alive);
        merge(&mut table, &began);
        let says = |generation, change: &dyn Fn(&mut Profile)| {
            let mut profile = Profile { revision: 2, ..(*began.profile).clone() };
            change(&mut profile);
            Member { profile: Arc::new(profile), generation: Generation(generation), ..began.clone() }
        };
        let refused: [&dyn Fn(&mut Profile); 3] = [
            &|profile| profile.role = Role::Monitor,
            &|profile| drop(profile.metadata.insert("weight".into(), "7".into())),
            &|profile| profile.address = "127.0.0.1:2".parse().unwrap(),
        ];
        for change in refused {
            assert_eq!(merge_as(&mut table, &says(5, change), true), Err(Refusal::Changed("a".into())));
            assert_eq!(table.member(NodeId::of("a")), Some(&began));
        }
        assert!(merge(&mut table, &says(5, &|profile| drop(profile.metadata.insert("note".into(), "7".into())))));
        for (generation, change) in (6..).zip(refused) {
            assert!(merge(&mut table, &says(generation, change)), "another process may begin with another");
        }
    }

    #[test]
    fn equal_tables_have_equal_digests() {
        let (mut one, mut other) = (table(), table());
        let names = ["a", "b", "c"];
        for name in names {
            merge(&mut one, &member(name, 1, (0, 0), Status::Alive));
        }
        assert_ne!(one.differing(other.digests()), 0);
        for name in names.iter().rev() {
            merge(&mut other, &member(name, 1, (0, 0), Status::Alive));
        }
        assert_eq!(one.differing(other.digests()), 0);
        one.set_status(NOW, NodeId::of("a"), Status::Suspect);
        assert_eq!(one.differing(other.digests()).count_ones(), 1);
        one.set_status(NOW, NodeId::of("a"), Status::Dead);
        let only = MemberTable::new(member("me", 5, (0, 0), Status::Alive), NOW);
        one.expire(NOW + Duration::from_secs(61), Duration::from_secs(60));
        assert_eq!(one.differing(only.digests()).count_ones(), other.differing(only.digests()).count_ones() - 1);
    }

    #[test]
    fn members_are_drawn_and_the_dead_among_the_dead() {
        let (mut table, mut random) = (table(), Random::seeded(1));
        assert!(table.draw(&mut random).is_none());
        for name in ["a", "b", "c"] {
            merge(&mut table, &member(name, 1, (0, 0), Status::Alive));
        }
        table.set_status(NOW, NodeId::of("a"), Status::Dead);
        let drawn: std::collections::BTreeSet<String> =
            (0..100).map(|_| table.draw(&mut random).unwrap().name.to_string()).collect();
        assert_eq!(drawn, ["b".to_owned(), "c".to_owned()].into());
        assert_eq!(&*table.draw_dead(&mut random).unwrap().name, "a");
        table.expire(NOW + Duration::from_secs(61), Duration::from_secs(60));
        assert!(table.draw_dead(&mut random).is_none());
        assert_eq!(table.members().count(), 3);
    }
}
