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
    if let Some(to) = peers.table.draw(&mut ctx.random).map(|member| member.address) {
        out.send(to, Payload::Sync);
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
