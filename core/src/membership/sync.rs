//! `TableSync`: how two nodes compare their tables.
//!
//! One node sends the digests of its table. The other replies with the rows of the parts that
//! differ, and the first one sends the rows that the other lacks. Rows that do not fit one datagram
//! are fetched over a stream; without streams they follow in the next comparison.
//!
//! Each node compares with a random member every ten intervals. At the same time it forgets members
//! that ended long ago.

use std::time::Duration;

use crate::ctx::Ctx;
use crate::member::NodeId;
use crate::membership::outbox::{Outbox, Payload, RowRange};
use crate::membership::peers::Peers;
use crate::time::Instant;
use crate::wire::{BUCKETS, Datagram, Digests, Rows};

/// How many intervals pass between two comparisons that this node begins.
const COMPARE_EVERY: u32 = 10;

/// When this node compares its table with another.
#[derive(Clone, Debug)]
pub(super) struct TableSync {
    due: Instant,
}

impl TableSync {
    /// The first comparison is drawn, so that nodes started together do not all compare together.
    pub(super) fn new(interval: Duration, ctx: &mut Ctx) -> TableSync {
        TableSync { due: ctx.now + ctx.random.duration_below(interval * COMPARE_EVERY) }
    }

    pub(super) fn next_due(&self) -> Instant {
        self.due
    }

    /// Compares by `at`.
    pub(super) fn compare_by(&mut self, at: Instant) {
        self.due = self.due.min(at);
    }

    /// Whether a comparison is due; the next one is ten intervals later.
    pub(super) fn take_due(&mut self, ctx: &Ctx) -> bool {
        let is_due = self.due <= ctx.now;
        if is_due {
            self.due = ctx.now + ctx.config.interval * COMPARE_EVERY;
        }
        is_due
    }
}

/// Sends the digests of the table to a random member.
pub(super) fn compare_with_random_member(peers: &Peers, out: &mut Outbox, ctx: &mut Ctx) {
    if let Some(member) = peers.table.draw(&mut ctx.random) {
        out.send_to_member(member, Payload::Sync);
    }
}

/// Handles the digests of another table: replies with the rows that may differ.
pub(super) fn handle_sync(from: NodeId, digests: &Digests, peers: &Peers, out: &mut Outbox) {
    let differing = peers.table.differing(digests);
    if differing != 0 {
        out.send_to(peers, from, Payload::RowRange(RowRange::of(differing)));
    }
}

/// Sends the rows that another node lacks: of the parts that differ, those that it did not send,
/// and those that are newer here.
pub(super) fn send_missing_rows(from: NodeId, rows: Rows, datagram: &Datagram<'_>, peers: &Peers, out: &mut Outbox) {
    let received: Vec<NodeId> = datagram.rumours.iter().map(|row| row.id).collect();
    let last = received.last().copied().unwrap_or(NodeId(u64::MAX));
    let mut missing = Vec::new();
    for bucket in (0..BUCKETS).filter(|bucket| rows.differing & 1 << bucket != 0) {
        // If rows were left out for lack of room, those after the last one are not known to be
        // missing.
        let compared = peers.table.bucket(bucket).filter(|member| !rows.more || member.id <= last);
        missing.extend(compared.filter(|member| !received.contains(&member.id)).map(|member| member.id));
    }
    let newer = datagram.rumours.iter().filter_map(|row| {
        let member = peers.table.member(row.id)?;
        let ours = (member.generation, member.incarnation, member.status, member.revision);
        (ours != (row.generation, row.incarnation, row.status, row.revision)).then_some(row.id)
    });
    missing.extend(newer);
    if !missing.is_empty() {
        out.send_to(peers, from, Payload::Members(missing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::{Member, Status};
    use crate::membership::fixture::{Fixture, address, header, id, member, ms};
    use crate::wire::{self, Body};

    #[test]
    fn a_comparison_is_due_every_ten_intervals_or_earlier() {
        let mut node = Fixture::new(&[]);
        let mut sync = TableSync::new(node.ctx.config.interval, &mut node.ctx);
        assert!(sync.next_due() < ms(10_000));
        sync.due = ms(10_000);
        for (at, expected) in [(ms(9_999), false), (ms(10_000), true), (ms(10_000), false)] {
            node.at(at);
            assert_eq!(sync.take_due(&node.ctx), expected, "at {at:?}");
        }
        sync.compare_by(ms(21_000));
        assert_eq!(sync.next_due(), ms(20_000), "no later than it was due");
        sync.compare_by(ms(11_000));
        assert_eq!(sync.next_due(), ms(11_000));
    }

    #[test]
    fn the_digests_go_to_a_member_if_there_is_one() {
        for (others, expected) in [(&["a"][..], vec![(address("a"), Payload::Sync)]), (&[], vec![])] {
            let mut node = Fixture::new(others);
            compare_with_random_member(&node.peers, &mut node.out, &mut node.ctx);
            assert_eq!(node.sent(), expected);
        }
    }

    #[test]
    fn equal_tables_are_not_answered_and_others_are() {
        let mut node = Fixture::new(&["a"]);
        let mut digests = *node.peers.table.digests();
        handle_sync(id("a"), &digests, &node.peers, &mut node.out);
        assert_eq!(node.sent(), []);
        digests[3] ^= 1;
        digests[63] ^= 1;
        handle_sync(id("a"), &digests, &node.peers, &mut node.out);
        let differing = Payload::RowRange(RowRange::of(1 << 3 | 1 << 63));
        assert_eq!(node.sent(), [(address("a"), differing)]);
    }

    /// Checks which rows `a` is sent after these rows of it.
    #[track_caller]
    fn check_missing(node: &mut Fixture, rows: Rows, received: &[Member], mut expected: Vec<NodeId>) {
        let mut buffer = Vec::new();
        wire::encode(&mut buffer, header("a"), &Body::Rows(rows));
        let count_at = buffer.len() - 1;
        for row in received {
            assert!(wire::push_rumour(&mut buffer, count_at, row, true));
        }
        send_missing_rows(id("a"), rows, &wire::decode(&buffer).unwrap(), &node.peers, &mut node.out);
        let mut sent = Vec::new();
        for (to, payload) in node.sent() {
            let Payload::Members(ids) = payload else { panic!("{payload:?}") };
            assert_eq!(to, address("a"));
            sent.extend(ids);
        }
        sent.sort();
        expected.sort();
        assert_eq!(sent, expected);
    }

    #[test]
    fn rows_that_are_missing_or_older_are_sent() {
        let mut node = Fixture::new(&["a", "b", "c"]);
        node.peers.table.set_status(ms(0), id("b"), Status::Suspect);
        let all = Rows { differing: u64::MAX, more: false, welcome: false, whole: true };
        check_missing(&mut node, all, &[member("a"), member("b")], vec![id("b"), id("c"), id("me")]);
        let equal = Rows { differing: 0, ..all };
        check_missing(&mut node, equal, &[member("a"), member("c"), member("x")], vec![]);
    }

    #[test]
    fn after_the_last_row_of_a_full_datagram_none_is_missing() {
        let mut node = Fixture::new(&["a", "b", "c"]);
        let mut ids = [id("a"), id("b"), id("c"), id("me")];
        ids.sort();
        let cut = Rows { differing: u64::MAX, more: true, welcome: false, whole: true };
        let second = node.peers.table.member(ids[1]).unwrap().clone();
        check_missing(&mut node, cut, &[second], vec![ids[0]]);
    }
}
