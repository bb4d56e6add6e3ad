//! `state`: a [`LeaseTable`] as text, so that an operator can read which node has which shard. It
//! begins with a version and ends with a checksum.
//!
//! ```text
//! heartbeat authority 1
//! number 00000001764373448213 freed 00000000000000000007
//! session 1764373448210 1764373447000 node-1
//! shard 1764373448211 1764373448210 17 orders
//! sum 8f1d0c35a2b4e677
//! ```
//! A session is its number, its generation and its node; a shard its epoch, its session, its index
//! and its group. The second line has a fixed length: a reader that only checks for a change reads
//! no further.

use std::fmt;
use std::fmt::Write as _;

use heartbeat_core::Generation;
use heartbeat_core::authority::{SessionId, ShardName};
use heartbeat_core::member::Epoch;

use super::super::lease_table::{Grant, LeaseTable, NUMBER_MAX, Session};
use super::super::name::{escaped, unescaped};

/// The first words of every version.
const MAGIC: &str = "heartbeat authority ";

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// Bytes of the first two lines.
pub(super) const HEAD_BYTES: usize = 77;

/// Why a text is not a lease table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum StateError {
    /// It is of a version that was written by a later release.
    Newer(u32),
    /// It does not begin as a lease table does.
    NotATable,
    /// Its checksum is wrong, or missing.
    Sum,
    /// Its checksum is correct, but this line makes no sense.
    Line(usize),
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Newer(version) => write!(f, "it has version {version}; this release reads {VERSION}"),
            StateError::NotATable => write!(f, "it does not begin with {MAGIC:?}"),
            StateError::Sum => f.write_str("its checksum is wrong"),
            StateError::Line(line) => write!(f, "line {line} makes no sense"),
        }
    }
}

/// The whole text of a lease table.
pub(super) fn encode(table: &LeaseTable) -> String {
    let mut text = format!("{MAGIC}{VERSION}\nnumber {:020} freed {:020}\n", table.number, table.freed);
    for (id, Session { node, generation }) in &table.sessions {
        line(&mut text, format_args!("session {} {} {}", id.0, generation.0, escaped(node)));
    }
    for (shard, Grant { session, epoch }) in &table.shards {
        line(&mut text, format_args!("shard {} {} {} {}", epoch.0, session.0, shard.index, escaped(&shard.group)));
    }
    let sum = checksum(text.as_bytes());
    line(&mut text, format_args!("sum {sum:016x}"));
    text
}

/// The lease table that a whole text holds.
pub(super) fn decode(text: &str) -> Result<LeaseTable, StateError> {
    check_version(text)?;
    let body = text.trim_end_matches('\n').rfind('\n').map_or(0, |end| end + 1);
    let (lines, sum) = text.split_at(body);
    let written = sum.trim_end_matches('\n').strip_prefix("sum ").and_then(|sum| u64::from_str_radix(sum, 16).ok());
    if written != Some(checksum(lines.as_bytes())) {
        return Err(StateError::Sum);
    }
    let mut table = LeaseTable::default();
    (table.number, table.freed) = decode_head(text).ok_or(StateError::Line(2))?;
    for (number, line) in lines.lines().enumerate().skip(2) {
        read(&mut table, line).ok_or(StateError::Line(number + 1))?;
    }
    Ok(table)
}

/// The numbers in the first two lines, which tell any two states apart; `None` if they are no such
/// lines.
pub(super) fn decode_head(text: &str) -> Option<(u64, u64)> {
    check_version(text).ok()?;
    let mut words = text.lines().nth(1)?.split_ascii_whitespace();
    let mut after = |name| (words.next()? == name).then(|| words.next()?.parse::<u64>().ok())?;
    let is_possible = |number: &u64| *number <= NUMBER_MAX;
    Some((after("number").filter(is_possible)?, after("freed").filter(is_possible)?))
}

fn check_version(text: &str) -> Result<(), StateError> {
    let version = text.strip_prefix(MAGIC).and_then(|rest| rest.lines().next()?.parse::<u32>().ok());
    match version.ok_or(StateError::NotATable)? {
        VERSION => Ok(()),
        newer => Err(StateError::Newer(newer)),
    }
}

/// Reads one line into the table. A number above the highest that was given out is refused, and so
/// is a shard of an unknown session: both would be given out again.
fn read(table: &mut LeaseTable, line: &str) -> Option<()> {
    let mut words = line.split(' ');
    let kind = words.next()?;
    let id = words.next()?.parse().ok().filter(|id| *id <= table.number)?;
    let second = words.next()?.parse().ok()?;
    match kind {
        "session" => {
            let session = Session { node: unescaped(words.next()?)?.into(), generation: Generation(second) };
            table.sessions.insert(SessionId(id), session);
        }
        "shard" => {
            let index = words.next()?.parse().ok()?;
            let shard = ShardName { group: unescaped(words.next()?)?.into(), index };
            table.sessions.get(&SessionId(second))?;
            table.shards.insert(shard, Grant { session: SessionId(second), epoch: Epoch(id) });
        }
        _ => return None,
    }
    words.next().is_none().then_some(())
}

fn line(text: &mut String, line: fmt::Arguments<'_>) {
    let _ = writeln!(text, "{line}"); // A write to a string does not fail.
}

/// FNV-1a, 64 bits (Fowler, Noll and Vo; draft-eastlake-fnv). It finds damage by a crash or a disk;
/// it is no protection against forgery.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> LeaseTable {
        let mut table = LeaseTable { number: 1_764_373_448_209, freed: 7, ..LeaseTable::default() };
        let session = Session { node: "node 1\n".into(), generation: Generation(u64::MAX) };
        let session = table.open(session).unwrap();
        let shards = [("orders", 0), ("a/b", u32::MAX)].map(|(group, index)| ShardName { group: group.into(), index });
        table.claim(session, &shards, Epoch(0)).unwrap();
        table
    }

    #[test]
    fn a_lease_table_comes_back_as_it_was() {
        for table in [table(), LeaseTable::default()] {
            let text = encode(&table);
            assert_eq!(decode(&text).as_ref(), Ok(&table));
            assert_eq!(decode_head(&text[..HEAD_BYTES]), Some((table.number, table.freed)));
            assert_eq!(text.as_bytes()[HEAD_BYTES - 1], b'\n');
        }
    }

    #[test]
    fn every_changed_or_missing_byte_is_found() {
        let text = encode(&table());
        for end in 0..text.len() - 1 {
            assert!(decode(&text[..end]).is_err(), "cut at {end}");
        }
        for at in 0..text.len() - 1 {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(decode(&String::from_utf8(bytes).unwrap()).is_err(), "changed at {at}");
        }
    }

    /// Checks the error for a text whose checksum is correct.
    #[track_caller]
    fn check(body: &str, expected: StateError) {
        let error = decode(&format!("{body}sum {:016x}\n", checksum(body.as_bytes()))).unwrap_err();
        assert_eq!(error, expected);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let head = "heartbeat authority 1\nnumber 9 freed 0\n";
        check("heartbeat authority 2\nwhatever\n", StateError::Newer(2));
        check("heartbeat\n", StateError::NotATable);
        let above = NUMBER_MAX + 1;
        check(&format!("heartbeat authority 1\nnumber {above} freed 0\n"), StateError::Line(2));
        check(&format!("heartbeat authority 1\nnumber 0 freed {above}\n"), StateError::Line(2));
        check(&format!("{head}session 10 1 a\n"), StateError::Line(3));
        check(&format!("{head}session 9 1 a b\n"), StateError::Line(3));
        check(&format!("{head}session 9 1 a\nshard 8 7 0 orders\n"), StateError::Line(4));
        check(&format!("{head}owner 9 1 a\n"), StateError::Line(3));
    }
}
