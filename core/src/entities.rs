//! Entities: which active one is stopped and when, and what a shard's entities leave behind.
//!
//! An entity is a worker for one key. It is started by its first message and stopped when it has
//! been idle for a while, or when another one needs its place ([`Activity`]). What the entities of
//! a shard leave behind travels as one snapshot of the shard ([`encode`], [`decode`]).
//!
//! This module does not know what an entity is doing. The driver asks for a candidate, looks at it,
//! and says what it found. So a message costs nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::time::Instant;

/// Longest key of an entity, in bytes.
pub const KEY_BYTES_MAX: usize = 512;

/// The version of the format of [`encode`].
pub const FORMAT_VERSION: u32 = 1;

/// Bytes in front of each entity's key: the lengths of key and snapshot, and the version.
const HEAD_BYTES: usize = 10;

/// Entities of one group that may be on their way out at once, beside those that are active. With
/// more, new ones are refused until some have stopped.
pub const STOPPING_MAX: u32 = 1_024;

/// One life of an entity, from its start to its end. Numbers are never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LifeId(pub u64);

/// Whether one more entity may start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// It may start.
    Free,
    /// It may start once another one is stopped.
    Stop,
    /// It may not: as many as may be are on their way out.
    Full,
}

/// The active entities of one group on one node, by the time since which each is known to be idle.
///
/// ```
/// use std::time::Duration;
/// use heartbeat_core::Instant;
/// use heartbeat_core::entities::{Activity, LifeId, Room};
///
/// let mut activity = Activity::new(Duration::from_secs(60), 2);
/// activity.start(LifeId(1), Instant::from_millis(0));
/// activity.start(LifeId(2), Instant::from_millis(10));
/// assert_eq!(activity.room(), Room::Stop);
/// activity.touch(LifeId(1), Instant::from_millis(20)); // it was used since
/// assert_eq!(activity.idlest(), Some(LifeId(2)));
/// ```
#[derive(Clone, Debug)]
pub struct Activity {
    idle_after: Duration,
    active_max: u32,
    /// When each was used last, as far as is known.
    used: BTreeMap<LifeId, Instant>,
    order: BTreeSet<(Instant, LifeId)>,
    stopping: BTreeSet<LifeId>,
}

impl Activity {
    /// No entities. One is stopped when it has been idle for `idle_after`; `active_max` may be
    /// active at once.
    pub fn new(idle_after: Duration, active_max: u32) -> Activity {
        Activity { idle_after, active_max, used: BTreeMap::new(), order: BTreeSet::new(), stopping: BTreeSet::new() }
    }

    /// Adds an entity that starts now, whether there is room or not.
    pub fn start(&mut self, life: LifeId, now: Instant) {
        assert!(!self.stopping.contains(&life), "a number of a life is never used twice");
        self.touch(life, now);
    }

    /// Records that an entity was used at `at`. An earlier time than the one known changes nothing.
    pub fn touch(&mut self, life: LifeId, at: Instant) {
        if self.stopping.contains(&life) {
            return;
        }
        match self.used.get_mut(&life) {
            Some(used) if *used >= at => return,
            Some(used) => {
                self.order.remove(&(*used, life));
                *used = at;
            }
            None => drop(self.used.insert(life, at)),
        }
        self.order.insert((at, life));
    }

    /// Records that an active entity was asked to stop. Its place is free from now on.
    pub fn stop(&mut self, life: LifeId) {
        if let Some(used) = self.used.remove(&life) {
            self.order.remove(&(used, life));
            self.stopping.insert(life);
        }
    }

    /// Records that an entity has ended, by itself or as it was asked to.
    pub fn end(&mut self, life: LifeId) {
        self.stop(life);
        self.stopping.remove(&life);
    }

    /// Whether one more may start.
    pub fn room(&self) -> Room {
        if self.active() < self.active_max {
            Room::Free
        } else if self.stopping() < STOPPING_MAX {
            Room::Stop
        } else {
            Room::Full
        }
    }

    /// Whether more are active than may be: next lives start in any case.
    pub fn is_over(&self) -> bool {
        self.active() > self.active_max
    }

    /// The active one that was used longest ago, as far as is known.
    pub fn idlest(&self) -> Option<LifeId> {
        self.order.first().map(|(_, life)| *life)
    }

    /// The same, if it has been idle for long enough to be stopped: at `idle_after` itself it is.
    pub fn due(&self, now: Instant) -> Option<LifeId> {
        if self.poll_timeout()? <= now { self.idlest() } else { None }
    }

    /// When [`Activity::due`] may next return one.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.order.first().map(|(used, _)| *used + self.idle_after)
    }

    /// How long one may be idle.
    pub fn idle_after(&self) -> Duration {
        self.idle_after
    }

    /// Those that are active: started, and not asked to stop.
    pub fn active(&self) -> u32 {
        self.used.len() as u32
    }

    /// Those that were asked to stop and have not ended.
    pub fn stopping(&self) -> u32 {
        self.stopping.len() as u32
    }
}

/// What one entity leaves behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left<'a> {
    /// Its key, 1 to [`KEY_BYTES_MAX`] bytes.
    pub key: &'a [u8],
    /// The version of its snapshot, as the application counts it.
    pub version: u32,
    /// Its snapshot.
    pub bytes: &'a [u8],
}

/// Bytes that an entity takes in the snapshot of its shard.
pub fn encoded_bytes(key: &[u8], bytes: &[u8]) -> usize {
    HEAD_BYTES + key.len() + bytes.len()
}

/// The snapshot of a shard: what its entities leave behind, by rising keys.
///
/// Each entity is the length of its key (2 bytes), the version (4) and the length of its snapshot
/// (4), all little-endian; then the key and the snapshot.
pub fn encode<'a>(entities: impl Iterator<Item = Left<'a>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for left in entities {
        bytes.extend_from_slice(&(left.key.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&left.version.to_le_bytes());
        bytes.extend_from_slice(&(left.bytes.len() as u32).to_le_bytes());
        bytes.extend_from_slice(left.key);
        bytes.extend_from_slice(left.bytes);
    }
    bytes
}

/// What the entities of a shard have left behind, from the shard's snapshot.
///
/// # Errors
/// [`MalformedEntities`] if the bytes are not what [`encode`] makes of rising keys.
pub fn decode(mut bytes: &[u8]) -> Result<Vec<Left<'_>>, MalformedEntities> {
    let mut entities: Vec<Left<'_>> = Vec::new();
    let length = bytes.len();
    while !bytes.is_empty() {
        let malformed = MalformedEntities { at: length - bytes.len(), entities: entities.len() };
        let (left, rest) = decode_one(bytes).ok_or(malformed)?;
        if entities.last().is_some_and(|before| before.key >= left.key) {
            return Err(malformed);
        }
        entities.push(left);
        bytes = rest;
    }
    Ok(entities)
}

fn decode_one(bytes: &[u8]) -> Option<(Left<'_>, &[u8])> {
    let (key_length, rest) = bytes.split_first_chunk::<2>()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let key_length = usize::from(u16::from_le_bytes(*key_length));
    if !(1..=KEY_BYTES_MAX).contains(&key_length) {
        return None;
    }
    let (key, rest) = rest.split_at_checked(key_length)?;
    let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((Left { key, version: u32::from_le_bytes(*version), bytes }, rest))
}

/// The snapshot of a shard does not hold entities.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MalformedEntities {
    /// At which byte.
    pub at: usize,
    /// How many entities came before it.
    pub entities: usize,
}

impl fmt::Display for MalformedEntities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MalformedEntities { at, entities } = self;
        write!(
            f,
            "the shard's snapshot has no entity at byte {at}, after {entities} entities; it was made by another kind of group"
        )
    }
}

impl std::error::Error for MalformedEntities {}

/// A key in front of a message: its length in two bytes, little-endian, and the key.
///
/// ```
/// use heartbeat_core::entities::{prefix_key, split_key};
///
/// let mut payload = Vec::new();
/// prefix_key(b"ada", &mut payload);
/// payload.push(7);
/// assert_eq!(split_key(&payload), Some((&b"ada"[..], &[7][..])));
/// ```
pub fn prefix_key(key: &[u8], payload: &mut Vec<u8>) {
    payload.extend_from_slice(&(key.len() as u16).to_le_bytes());
    payload.extend_from_slice(key);
}

/// The key in front of a message, and the message; none if there is no such key.
pub fn split_key(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = payload.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_le_bytes(*length));
    if !(1..=KEY_BYTES_MAX).contains(&length) {
        return None;
    }
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    fn activity(active_max: u32) -> Activity {
        Activity::new(Duration::from_millis(100), active_max)
    }

    /// Whether one started at 1,000 ms and used at these instants is due at `now`.
    #[track_caller]
    fn check_due(used: &[u64], now: u64, expected: bool) {
        let mut activity = activity(10);
        activity.start(LifeId(1), at(1_000));
        used.iter().for_each(|&used| activity.touch(LifeId(1), at(used)));
        assert_eq!(activity.due(at(now)), expected.then_some(LifeId(1)), "used at {used:?}, looked at at {now}");
    }

    #[test]
    fn an_entity_is_due_at_idle_after_and_not_before() {
        check_due(&[], 1_099, false);
        check_due(&[], 1_100, true);
        check_due(&[1_050], 1_149, false);
        check_due(&[1_050], 1_150, true);
        check_due(&[1_050, 1_020], 1_149, false);
    }

    #[test]
    fn the_idlest_gives_its_place_and_stopping_ones_are_bounded() {
        let mut activity = activity(2);
        assert_eq!((activity.room(), activity.idlest()), (Room::Free, None));
        (1..=2).for_each(|life| activity.start(LifeId(life), at(life)));
        activity.touch(LifeId(1), at(5));
        assert_eq!((activity.room(), activity.idlest()), (Room::Stop, Some(LifeId(2))));
        activity.stop(LifeId(2));
        assert_eq!((activity.room(), activity.active(), activity.stopping()), (Room::Free, 1, 1));
        activity.touch(LifeId(2), at(9));
        assert_eq!(activity.active(), 1, "one that stops is not active again");
        for life in 3..3 + u64::from(STOPPING_MAX) - 1 {
            activity.start(LifeId(life), at(life));
            activity.stop(LifeId(life));
        }
        activity.start(LifeId(9_999), at(0));
        assert_eq!((activity.room(), activity.is_over()), (Room::Full, false));
        activity.start(LifeId(9_998), at(1));
        assert!(activity.is_over());
        activity.end(LifeId(9_998));
        activity.end(LifeId(2));
        assert_eq!(activity.room(), Room::Stop);
        activity.end(LifeId(2));
        activity.end(LifeId(1));
        assert_eq!((activity.room(), activity.active()), (Room::Free, 1));
    }

    #[test]
    fn counts_add_up_in_random_histories() {
        for seed in 0..200 {
            let mut random = Random::seeded(seed);
            let mut activity = activity(8);
            let (mut active, mut stopping) = (BTreeMap::new(), BTreeSet::new());
            for step in 0..300 {
                let life = LifeId(random.below(40));
                match random.below(4) {
                    0 if !active.contains_key(&life) && !stopping.contains(&life) => {
                        activity.start(life, at(step));
                        active.insert(life, step);
                    }
                    1 if active.contains_key(&life) => {
                        activity.touch(life, at(step));
                        active.insert(life, step);
                    }
                    2 => {
                        activity.stop(life);
                        if active.remove(&life).is_some() {
                            stopping.insert(life);
                        }
                    }
                    _ => {
                        activity.end(life);
                        active.remove(&life);
                        stopping.remove(&life);
                    }
                }
                let idlest = active.iter().map(|(life, used)| (*used, *life)).min();
                assert_eq!(activity.idlest(), idlest.map(|(_, life)| life), "seed {seed}, step {step}");
                assert_eq!(activity.active() as usize, active.len(), "seed {seed}, step {step}");
                assert_eq!(activity.stopping() as usize, stopping.len(), "seed {seed}, step {step}");
            }
        }
    }

    fn left<'a>(key: &'a [u8], bytes: &'a [u8]) -> Left<'a> {
        Left { key, version: 3, bytes }
    }

    #[test]
    fn what_entities_leave_is_read_as_it_was_written() {
        let entities = [left(b"a", b""), left(b"ada", b"12"), left(b"b", &[7; 3_000])];
        let bytes = encode(entities.iter().copied());
        assert_eq!(bytes.len(), entities.iter().map(|left| encoded_bytes(left.key, left.bytes)).sum::<usize>());
        assert_eq!(decode(&bytes), Ok(entities.to_vec()));
        assert_eq!(decode(&[]), Ok(Vec::new()));
    }

    #[test]
    fn bytes_that_hold_no_entities_are_refused_with_their_place() {
        let bytes = encode([left(b"a", b"1"), left(b"b", b"2")].into_iter());
        for cut in (1..bytes.len()).filter(|&cut| cut != bytes.len() / 2) {
            assert!(decode(&bytes[..cut]).is_err(), "{cut}");
        }
        let twice = encode([left(b"a", b"1"), left(b"a", b"2")].into_iter());
        assert_eq!(decode(&twice), Err(MalformedEntities { at: 12, entities: 1 }));
        let long = vec![7; KEY_BYTES_MAX + 1];
        assert!(decode(&encode([left(&long, b"")].into_iter())).is_err());
        assert!(decode(&encode([left(b"", b"1")].into_iter())).is_err());
        assert!(decode(&encode([left(&long[..KEY_BYTES_MAX], b"")].into_iter())).is_ok());
    }

    #[test]
    fn random_bytes_never_panic_and_never_read_past_the_end() {
        let mut random = Random::seeded(11);
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..random.below(60)).map(|_| (random.below(4) * random.below(70)) as u8).collect();
            if let Ok(entities) = decode(&bytes) {
                assert_eq!(encode(entities.into_iter()), bytes);
            }
            if let Some((key, rest)) = split_key(&bytes) {
                assert_eq!(2 + key.len() + rest.len(), bytes.len());
            }
        }
    }
}
