//! Processes that this node has only heard of.
//!
//! A member may tell of others that are not there: it may be broken, or go on from an old image of
//! itself. So a process that is new here is no member yet when it is told of. It is asked at its
//! address, and becomes a member with its first answer: any datagram of that process from that
//! address, or its first frame on a stream. Until then it owns nothing, and counts neither for the
//! brake nor for a quorum. One that does not answer this node may still be there, behind a bad
//! link: then the teller and a few others are asked, and one that has its answer is believed.
//!
//! - The node that lets this one in is trusted for what it tells until the table is whole. A
//!   newcomer that knew less than the others would run their shards.
//! - News of a process that is a member already are no matter of this file.
//!
//! At most [`PROBES_MAX`] probes an interval go unanswered, whatever is told: nodes cannot be made
//! to flood an address. It does not help against a member that lies when it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Cluster, OwnershipEffect, Payload};
use crate::ctx::Ctx;
use crate::member::{Generation, Incarnation, NodeId, Status};
use crate::time::Instant;
use crate::wire::{self, Body, Datagram, Header, Inquire, Row};

/// Probes without an answer in an interval, at most. Those that are answered give their place back,
/// so that a thousand that are there take a thousand round trips and no more.
const PROBES_MAX: u32 = 64;

/// The stage in a question about a process that is only heard of: whether the one that is asked has
/// ever had its answer.
pub(super) const EVER: u64 = 0;

/// Processes that are only heard of, at most.
const HEARD_MAX: usize = 4_096;

/// Of them, told by one member at most: one that tells of thousands leaves room for what others
/// tell.
const BY_ONE_MAX: u32 = 1_024;

/// Probes in quick succession, then one every [`RETRY_EVERY`] intervals, and so many in all; after
/// that it is forgotten until it is told again.
const QUICK: u32 = 2;
const RETRY_EVERY: u32 = 4;
const TRIES_MAX: u32 = 8;

/// Processes that this node has only heard of.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    processes: BTreeMap<NodeId, Process>,
    due: BTreeSet<(Instant, NodeId)>,
    /// Whom this node has had an answer of itself, at the address it gives: what it says when it is
    /// asked.
    met: BTreeMap<NodeId, Generation>,
    /// How many each member has told of.
    told_by: BTreeMap<NodeId, u32>,
    /// When the present interval began, and how many probes of it have no answer.
    since: Instant,
    unanswered: u32,
}

#[derive(Clone, Debug)]
struct Process {
    generation: Generation,
    address: SocketAddr,
    /// Which of two rows about it is the later.
    order: (Incarnation, Status, u32),
    /// Its row, in a datagram of its own.
    row: Vec<u8>,
    teller: NodeId,
    /// Under which number it and others are asked.
    number: u32,
    tries: u32,
    due: Instant,
}

impl Heard {
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    fn put(&mut self, id: NodeId, process: Process) {
        self.remove(id);
        self.due.insert((process.due, id));
        *self.told_by.entry(process.teller).or_default() += 1;
        self.processes.insert(id, process);
    }

    fn remove(&mut self, id: NodeId) -> Option<Process> {
        let process = self.processes.remove(&id)?;
        self.due.remove(&(process.due, id));
        if let Some(told) = self.told_by.get_mut(&process.teller) {
            *told = told.saturating_sub(1);
            if *told == 0 {
                self.told_by.remove(&process.teller);
            }
        }
        Some(process)
    }

    fn has_room_for(&self, teller: NodeId) -> bool {
        self.processes.len() < HEARD_MAX && self.told_by.get(&teller).is_none_or(|told| *told < BY_ONE_MAX)
    }

    /// Takes in that this node has had an answer of a process, at its address.
    pub(super) fn note_answer(&mut self, id: NodeId, generation: Generation) {
        self.met.insert(id, generation);
    }

    /// Whether this node has had an answer of a process itself.
    pub(super) fn has_met(&self, id: NodeId, generation: Generation) -> bool {
        self.met.get(&id) == Some(&generation)
    }

    /// Keeps only what is known of members for which this holds.
    pub(super) fn retain_met(&mut self, is_there: impl Fn(NodeId, Generation) -> bool) {
        self.met.retain(|id, generation| is_there(*id, *generation));
    }

    /// Whether one more probe may be sent now; else when.
    fn may_probe(&mut self, now: Instant, interval: Duration) -> Result<(), Instant> {
        if now - self.since >= interval {
            (self.since, self.unanswered) = (now, 0);
        }
        if self.unanswered >= PROBES_MAX {
            return Err(self.since + interval);
        }
        self.unanswered += 1;
        Ok(())
    }

    /// Whether this process was asked, or was asked about, under this number.
    fn was_asked(&self, id: NodeId, number: u32) -> bool {
        self.processes.get(&id).is_some_and(|process| process.number == number && process.tries > 0)
    }
}

impl Cluster {
    /// Whether a row tells of a process that is new here, on the word of another one alone.
    pub(super) fn is_only_heard_of(&self, row: &Row<'_>, teller: Header, ctx: &Ctx) -> bool {
        let is_known = || self.peers.table.member(row.id).is_some_and(|known| known.generation >= row.generation);
        let tells_of_itself = (row.id, row.generation) == (teller.from, teller.generation);
        row.id != self.peers.me.id
            && row.status.is_member()
            && row.details.is_some()
            && !tells_of_itself
            && !self.joining.trusts(teller.from)
            && !is_known()
            && !self.peers.table.is_full(&ctx.config.membership)
    }

    /// Notes a process that a member tells of, to be asked at once.
    pub(super) fn hear_of_process(&mut self, row: &Row<'_>, teller: NodeId, now: Instant) {
        let Some(details) = row.details else { return };
        let order = (row.incarnation, row.status, row.revision);
        let known = self.heard.processes.get(&row.id);
        if known.is_some_and(|known| (known.generation, known.order) >= (row.generation, order)) {
            return;
        }
        let is_same = |known: &&Process| known.generation == row.generation && known.address == details.address;
        let (generation, address) = (row.generation, details.address);
        let mut process = match known.filter(is_same) {
            Some(known) => known.clone(),
            // It is told again when tables are compared.
            None if known.is_none() && !self.heard.has_room_for(teller) => return,
            None => {
                let number = self.next_number();
                Process { generation, address, order, row: Vec::new(), teller, number, tries: 0, due: now }
            }
        };
        process.order = order;
        wire::encode_row(&mut process.row, self.header(now), row);
        self.heard.put(row.id, process);
    }

    /// Takes in that a datagram came from this address.
    pub(super) fn meet(&mut self, from: SocketAddr, header: Header, ctx: &mut Ctx) -> OwnershipEffect {
        match self.heard.processes.get(&header.from) {
            Some(heard) if heard.generation == header.generation && heard.address == from => {
                self.heard.note_answer(header.from, header.generation);
                self.make_member(header.from, ctx)
            }
            _ => OwnershipEffect::Nothing,
        }
    }

    /// Takes in that a frame came on a stream from this host: its port is that of the connection.
    pub(super) fn meet_on_stream(&mut self, from: IpAddr, header: Header, ctx: &mut Ctx) -> OwnershipEffect {
        match self.heard.processes.get(&header.from) {
            Some(heard) if heard.generation == header.generation && heard.address.ip() == from => {
                self.heard.note_answer(header.from, header.generation);
                self.make_member(header.from, ctx)
            }
            _ => OwnershipEffect::Nothing,
        }
    }

    /// Takes in that another member has an answer of a process.
    pub(super) fn hear_that_it_is_there(&mut self, id: NodeId, number: u32, ctx: &mut Ctx) -> OwnershipEffect {
        if self.heard.was_asked(id, number) { self.make_member(id, ctx) } else { OwnershipEffect::Nothing }
    }

    fn make_member(&mut self, id: NodeId, ctx: &mut Ctx) -> OwnershipEffect {
        let Some(process) = self.heard.remove(id) else { return OwnershipEffect::Nothing };
        if process.tries > 0 {
            self.heard.unanswered = self.heard.unanswered.saturating_sub(1);
        }
        let Ok(Datagram { header, rumours, .. }) = wire::decode(&process.row) else { return OwnershipEffect::Nothing };
        rumours.iter().map(|row| self.hear_of(header.from, &row, ctx)).max().unwrap_or(OwnershipEffect::Nothing)
    }

    /// Asks those whose turn has come, as far as that is allowed.
    pub(super) fn look_at_heard(&mut self, ctx: &mut Ctx) {
        while let Some(&(due, id)) = self.heard.due.first()
            && due <= ctx.now
        {
            let Some(mut process) = self.heard.remove(id) else { continue };
            let is_known = self.peers.table.member(id).is_some_and(|known| known.generation >= process.generation);
            if is_known || process.tries >= TRIES_MAX {
                continue;
            }
            let allowed = self.heard.may_probe(ctx.now, ctx.config.interval);
            process.due = match allowed {
                Err(later) => later,
                Ok(()) => {
                    process.tries += 1;
                    self.ask_heard(id, &process, ctx);
                    let quick = self.patience(ctx) * 2;
                    let is_quick = process.tries < QUICK;
                    ctx.now + if is_quick { quick } else { ctx.config.interval * RETRY_EVERY }
                }
            };
            self.heard.put(id, process);
        }
    }

    /// Probes a process, and if it did not answer the first time, asks others about it.
    fn ask_heard(&mut self, id: NodeId, process: &Process, ctx: &mut Ctx) {
        let (number, generation) = (process.number, process.generation);
        self.send(process.address, Payload::Say(Body::Probe { number }));
        if process.tries < QUICK {
            return;
        }
        let mut asked = self.strangers(id, ctx);
        asked.push(process.teller);
        asked.sort();
        asked.dedup();
        for other in asked {
            let inquire = Inquire { number, target: id, generation, stage: EVER, gone: false, death: false };
            self.send_to(other, Payload::Say(Body::Inquire(inquire)));
        }
    }
}
