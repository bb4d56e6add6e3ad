//! `Unconfirmed`: processes that this node knows only from the rows of others.
//!
//! A member may send rows of processes that do not exist: it may be broken, or go on from an old
//! image of itself. So a process that is new here is not a member yet when its row arrives. This
//! node probes its address, and admits it with its first answer: any datagram of that process from
//! that address, or its first frame on a stream. Until then it owns nothing, and counts neither for
//! the brake nor for a quorum. A process that does not answer may still exist, behind a bad link.
//! Then this node asks the sender of the row and a few others, and believes a member that has an
//! answer.
//!
//! - The node that admits this one is trusted until the table is synced. A newcomer that knew fewer
//!   members than the others would run their shards.
//! - Rows of a process that is a member already are merged at once.
//!
//! At most [`PROBES_MAX`] probes an interval go unanswered, and an address that does not answer is
//! probed once in [`ADDRESS_EVERY`], under any names, so that no rows can make nodes flood an
//! address. This does not help against a member that lies when it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::ctx::Ctx;
use crate::member::{Generation, Incarnation, NodeId, Status, WireVersions};
use crate::membership::join::Joining;
use crate::membership::outbox::{Outbox, Payload};
use crate::membership::peers::Peers;
use crate::time::Instant;
use crate::wire::{self, Body, Header, IndirectProbe, Row};

/// Probes without an answer in an interval, at most. An answered probe gives its place back, so
/// that a thousand processes that exist take a thousand round trips and no more.
const PROBES_MAX: u32 = 64;

/// The shortest time between two probes of an address that has not answered the first.
const ADDRESS_EVERY: Duration = Duration::from_secs(10);

/// The stage in a question about an unconfirmed process: whether the member that is asked has ever
/// had its answer.
pub(super) const EVER: u64 = 0;

/// Unconfirmed processes, at most.
const PROCESSES_MAX: usize = 4_096;

/// Of them, those from the rows of one sender, at most: a sender of thousands leaves room for the
/// rows of others.
const BY_SENDER_MAX: u32 = 1_024;

/// Tries in quick succession, then one every [`RETRY_EVERY`] intervals, and so many in all. After
/// that the process is forgotten until its row arrives again. Each probes it, if its address may be
/// probed; all but the first ask others, too.
const QUICK_TRIES: u32 = 2;
const RETRY_EVERY: u32 = 4;
const TRIES_MAX: u32 = 8;

/// Processes that this node knows only from the rows of others.
#[derive(Clone, Debug, Default)]
pub(super) struct Unconfirmed {
    processes: BTreeMap<NodeId, Process>,
    due: BTreeSet<(Instant, NodeId)>,
    /// Processes that have answered this node themselves, at the address in their row. This is what
    /// it reports when it is asked.
    answered: BTreeMap<NodeId, Generation>,
    /// How many processes are from the rows of each sender.
    by_sender: BTreeMap<NodeId, u32>,
    /// When the present interval began, and how many of its probes have no answer.
    since: Instant,
    unanswered: u32,
    /// The addresses that were probed lately and have not answered, and when that was.
    probed: BTreeMap<SocketAddr, Instant>,
}

#[derive(Clone, Debug)]
struct Process {
    generation: Generation,
    address: SocketAddr,
    wire_versions: WireVersions,
    /// Which of two rows about it is the later.
    order: (Incarnation, Status, u32),
    /// Its row, in a datagram of its own.
    row: Vec<u8>,
    /// The member that sent the row.
    sender: NodeId,
    /// The number under which it and others are asked.
    number: u32,
    tries: u32,
    due: Instant,
}

impl Unconfirmed {
    // ---- inputs ---------------------------------------------------------------------------------

    /// Handles the row of a process that is to be confirmed: it is probed at once. A row that there
    /// is no room for comes again when tables are compared.
    pub(super) fn handle_row(&mut self, row: &Row<'_>, header: Header, sender: NodeId, out: &mut Outbox, now: Instant) {
        let Some(details) = row.details else { return };
        let order = (row.incarnation, row.status, row.revision);
        let known = self.processes.get(&row.id);
        if known.is_some_and(|known| (known.generation, known.order) >= (row.generation, order)) {
            return;
        }
        let (generation, address) = (row.generation, details.address);
        let mut process = match known.filter(|known| known.generation == generation && known.address == address) {
            Some(known) => known.clone(),
            None if known.is_none() && !self.has_room_for(sender) => return,
            None => {
                let number = out.next_number();
                let wire_versions = details.wire_versions();
                let row = Vec::new();
                Process { generation, address, wire_versions, order, row, sender, number, tries: 0, due: now }
            }
        };
        process.order = order;
        wire::encode_row(&mut process.row, header, row);
        self.put(row.id, process);
    }

    /// Handles that a datagram came from this address. Returns the row of its sender if that
    /// confirms it, in a datagram of its own.
    pub(super) fn handle_datagram(&mut self, from: SocketAddr, header: Header) -> Option<Vec<u8>> {
        let is_it = |process: &Process| process.generation == header.generation && process.address == from;
        self.confirm_if(header, is_it)
    }

    /// Handles that a frame came from this host: its port is that of the connection.
    pub(super) fn handle_frame(&mut self, from: IpAddr, header: Header) -> Option<Vec<u8>> {
        let is_it = |process: &Process| process.generation == header.generation && process.address.ip() == from;
        self.confirm_if(header, is_it)
    }

    fn confirm_if(&mut self, header: Header, is_it: impl FnOnce(&Process) -> bool) -> Option<Vec<u8>> {
        if !self.processes.get(&header.from).is_some_and(is_it) {
            return None;
        }
        self.note_answer(header.from, header.generation);
        self.confirm(header.from)
    }

    /// Handles that another member has an answer of a process, to the question of this number.
    pub(super) fn handle_report(&mut self, id: NodeId, number: u32) -> Option<Vec<u8>> {
        let was_asked = self.processes.get(&id).is_some_and(|process| process.number == number && process.tries > 0);
        if was_asked { self.confirm(id) } else { None }
    }

    fn confirm(&mut self, id: NodeId) -> Option<Vec<u8>> {
        let process = self.remove(id)?;
        if process.tries > 0 {
            self.unanswered = self.unanswered.saturating_sub(1);
            self.probed.remove(&process.address);
        }
        Some(process.row)
    }

    /// Handles that a process has answered this node, at its address.
    pub(super) fn note_answer(&mut self, id: NodeId, generation: Generation) {
        self.answered.insert(id, generation);
    }

    /// Forgets the answers of processes that are not in the table any more.
    pub(super) fn forget_answers(&mut self, peers: &Peers) {
        let is_known = |id: NodeId, generation: Generation| {
            peers.table.member(id).is_some_and(|member| member.generation == generation)
        };
        self.answered.retain(|id, generation| is_known(*id, *generation));
    }

    /// Probes the processes that are due, as far as the rate allows.
    pub(super) fn handle_timeout(&mut self, peers: &Peers, out: &mut Outbox, ctx: &mut Ctx) {
        while let Some(&(due, id)) = self.due.first()
            && due <= ctx.now
        {
            let Some(mut process) = self.remove(id) else { continue };
            let is_known = peers.table.member(id).is_some_and(|known| known.generation >= process.generation);
            if is_known || process.tries >= TRIES_MAX {
                continue;
            }
            process.due = match self.take_probe(ctx.now, ctx.config.interval) {
                Err(later) => later,
                Ok(()) => {
                    process.tries += 1;
                    self.probe(&process, peers, out, ctx.now);
                    ask_others(id, &process, peers, out, ctx);
                    let is_quick = process.tries < QUICK_TRIES;
                    ctx.now + if is_quick { peers.reply_timeout(ctx) * 2 } else { ctx.config.interval * RETRY_EVERY }
                }
            };
            self.put(id, process);
        }
    }

    /// Takes one probe of this interval. If none is left, the error is when the next one is.
    fn take_probe(&mut self, now: Instant, interval: Duration) -> Result<(), Instant> {
        if now - self.since >= interval {
            (self.since, self.unanswered) = (now, 0);
            self.probed.retain(|_, at| now - *at < ADDRESS_EVERY);
        }
        if self.unanswered >= PROBES_MAX {
            return Err(self.since + interval);
        }
        self.unanswered += 1;
        Ok(())
    }

    /// Probes a process, unless its address was probed lately and has not answered.
    fn probe(&mut self, process: &Process, peers: &Peers, out: &mut Outbox, now: Instant) {
        if self.probed.get(&process.address).is_some_and(|at| now - *at < ADDRESS_EVERY) {
            return;
        }
        self.probed.insert(process.address, now);
        out.probe_non_member(process.address, process.number, process.wire_versions, &peers.me);
    }

    // ---- questions ------------------------------------------------------------------------------

    pub(super) fn next_due(&self) -> Instant {
        self.due.first().map_or(Instant::NEVER, |(due, _)| *due)
    }

    /// Whether a process has answered this node itself.
    pub(super) fn has_answered(&self, id: NodeId, generation: Generation) -> bool {
        self.answered.get(&id) == Some(&generation)
    }

    fn has_room_for(&self, sender: NodeId) -> bool {
        self.processes.len() < PROCESSES_MAX && self.by_sender.get(&sender).is_none_or(|count| *count < BY_SENDER_MAX)
    }

    // ---- private --------------------------------------------------------------------------------

    fn put(&mut self, id: NodeId, process: Process) {
        self.remove(id);
        self.due.insert((process.due, id));
        *self.by_sender.entry(process.sender).or_default() += 1;
        self.processes.insert(id, process);
    }

    fn remove(&mut self, id: NodeId) -> Option<Process> {
        let process = self.processes.remove(&id)?;
        self.due.remove(&(process.due, id));
        if let Some(count) = self.by_sender.get_mut(&process.sender) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_sender.remove(&process.sender);
            }
        }
        Some(process)
    }
}

/// Whether a row is of a process that is new here, and only its sender knows of it.
pub(super) fn is_unconfirmed(row: &Row<'_>, sender: Header, joining: &Joining, peers: &Peers, ctx: &Ctx) -> bool {
    let is_known = || peers.table.member(row.id).is_some_and(|known| known.generation >= row.generation);
    let is_of_sender = (row.id, row.generation) == (sender.from, sender.generation);
    row.id != peers.me.id
        && row.status.is_member()
        && row.details.is_some()
        && !is_of_sender
        && !joining.trusts(sender.from, ctx.now)
        && !is_known()
        && !peers.table.is_full(&ctx.config.membership)
}

/// Asks the sender of the row of a process that did not answer the first probe, and a few others.
fn ask_others(id: NodeId, process: &Process, peers: &Peers, out: &mut Outbox, ctx: &mut Ctx) {
    let (number, generation) = (process.number, process.generation);
    if process.tries < QUICK_TRIES {
        return;
    }
    let mut asked = peers.random_members(id, &mut ctx.random);
    asked.push(process.sender);
    asked.sort();
    asked.dedup();
    for other in asked {
        let probe = IndirectProbe { number, target: id, generation, stage: EVER, gone: false, death: false };
        out.send_to(peers, other, Payload::Body(Body::IndirectProbe(probe)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::{Member, Profile};
    use crate::membership::fixture::{self, Fixture, address, header, id, ms};
    use crate::wire::Datagram;

    /// Hands the row of `name` over, as `sender` sent it.
    fn handle_row(node: &mut Fixture, unconfirmed: &mut Unconfirmed, name: &str, sender: &str) {
        handle_row_of(node, unconfirmed, &fixture::member(name), sender);
    }

    fn handle_row_of(node: &mut Fixture, unconfirmed: &mut Unconfirmed, member: &Member, sender: &str) {
        let mut buffer = Vec::new();
        wire::encode(&mut buffer, header(sender), &Body::Gossip);
        let count_at = buffer.len() - 1;
        assert!(wire::push_rumour(&mut buffer, count_at, member, true));
        let Ok(Datagram { rumours, .. }) = wire::decode(&buffer) else { panic!("{buffer:?}") };
        let row = rumours.iter().next().unwrap();
        unconfirmed.handle_row(&row, header("me"), id(sender), &mut node.out, node.ctx.now);
    }

    /// Does what is due at `now`. Returns where messages went.
    fn advance(node: &mut Fixture, unconfirmed: &mut Unconfirmed, now: Instant) -> Vec<SocketAddr> {
        node.at(now);
        unconfirmed.handle_timeout(&node.peers, &mut node.out, &mut node.ctx);
        node.sent().into_iter().map(|(to, _)| to).collect()
    }

    #[test]
    fn a_process_is_probed_at_once_and_confirmed_by_its_answer() {
        let (mut node, mut unconfirmed) = (Fixture::new(&["a"]), Unconfirmed::default());
        handle_row(&mut node, &mut unconfirmed, "x", "a");
        handle_row(&mut node, &mut unconfirmed, "x", "a");
        assert_eq!(advance(&mut node, &mut unconfirmed, ms(0)), [address("x")]);
        assert_eq!(unconfirmed.handle_datagram(address("y"), header("x")), None, "from another address");
        let later = Header { generation: Generation(8), ..header("x") };
        assert_eq!(unconfirmed.handle_datagram(address("x"), later), None, "of another process");
        assert!(!unconfirmed.has_answered(id("x"), fixture::GENERATION));
        assert!(unconfirmed.handle_datagram(address("x"), header("x")).is_some());
        assert!(unconfirmed.has_answered(id("x"), fixture::GENERATION));
        assert_eq!(unconfirmed.handle_datagram(address("x"), header("x")), None, "it is confirmed once");
    }

    #[test]
    fn a_frame_confirms_from_any_port_of_the_host() {
        let (mut node, mut unconfirmed) = (Fixture::new(&["a"]), Unconfirmed::default());
        handle_row(&mut node, &mut unconfirmed, "x", "a");
        assert_eq!(unconfirmed.handle_frame([10, 0, 0, 2].into(), header("x")), None);
        assert!(unconfirmed.handle_frame(address("y").ip(), header("x")).is_some());
    }

    #[test]
    fn a_silent_process_is_asked_about_and_then_forgotten() {
        let (mut node, mut unconfirmed) = (Fixture::new(&["a"]), Unconfirmed::default());
        handle_row(&mut node, &mut unconfirmed, "x", "a");
        assert_eq!(advance(&mut node, &mut unconfirmed, ms(0)), [address("x")]);
        assert_eq!(advance(&mut node, &mut unconfirmed, ms(249)), []);
        assert_eq!(advance(&mut node, &mut unconfirmed, ms(250)), [address("a")]);
        let (mut probes, mut questions) = (vec![0], 1);
        for second in 1..100 {
            let sent = advance(&mut node, &mut unconfirmed, ms(second * 1_000));
            probes.extend(sent.contains(&address("x")).then_some(second));
            questions += usize::from(sent.contains(&address("a")));
        }
        assert_eq!((probes, questions), (vec![0, 13, 25], TRIES_MAX as usize - 1));
        assert_eq!(unconfirmed.next_due(), Instant::NEVER);
    }

    #[test]
    fn an_address_under_many_names_is_probed_once_in_ten_seconds() {
        let (mut node, mut unconfirmed) = (Fixture::new(&["a"]), Unconfirmed::default());
        let mut probes = Vec::new();
        for second in 0..30 {
            for index in 0..20 {
                let name = format!("x-{second}-{index}");
                let profile = Profile { name: name.as_str().into(), ..(*fixture::member("x").profile).clone() };
                let named = Member { id: NodeId::of(&name), profile: profile.into(), ..fixture::member("x") };
                handle_row_of(&mut node, &mut unconfirmed, &named, "a");
            }
            let sent = advance(&mut node, &mut unconfirmed, ms(second * 1_000));
            probes.extend(sent.into_iter().filter(|to| *to == address("x")).map(|_| second));
        }
        assert_eq!(probes, [0, 10, 20]);
    }

    #[test]
    fn a_report_is_believed_only_as_an_answer() {
        let (mut node, mut unconfirmed) = (Fixture::new(&["a"]), Unconfirmed::default());
        handle_row(&mut node, &mut unconfirmed, "x", "a");
        let number = unconfirmed.processes[&id("x")].number;
        assert_eq!(unconfirmed.handle_report(id("x"), number), None, "before it was asked");
        advance(&mut node, &mut unconfirmed, ms(0));
        assert_eq!(unconfirmed.handle_report(id("x"), number.wrapping_add(1)), None);
        assert!(unconfirmed.handle_report(id("x"), number).is_some());
    }

    #[test]
    fn unanswered_probes_are_bounded_and_answered_ones_are_not() {
        let (mut node, mut unconfirmed) = (Fixture::new(&["a"]), Unconfirmed::default());
        node.at(ms(10_000));
        for port in 1..=200 {
            let name = format!("x-{port}");
            let address = SocketAddr::new(address("x").ip(), port);
            let profile = Profile { name: name.as_str().into(), address, ..(*fixture::member("x").profile).clone() };
            let member = Member { id: NodeId::of(&name), profile: profile.into(), ..fixture::member("x") };
            handle_row_of(&mut node, &mut unconfirmed, &member, "a");
        }
        assert_eq!(advance(&mut node, &mut unconfirmed, ms(10_000)).len(), PROBES_MAX as usize);
        let probed: Vec<NodeId> =
            unconfirmed.processes.iter().filter(|(_, process)| process.tries > 0).map(|(id, _)| *id).collect();
        probed.iter().for_each(|id| drop(unconfirmed.confirm(*id)));
        assert_eq!(unconfirmed.unanswered, 0);
        assert_eq!(advance(&mut node, &mut unconfirmed, ms(10_999)).len(), 0);
        assert_eq!(advance(&mut node, &mut unconfirmed, ms(11_000)).len(), PROBES_MAX as usize);
    }

    #[test]
    fn one_sender_leaves_room_for_others() {
        let (mut node, mut unconfirmed) = (Fixture::new(&["a", "b"]), Unconfirmed::default());
        for index in 0..=BY_SENDER_MAX {
            handle_row(&mut node, &mut unconfirmed, &format!("x{index}"), "a");
        }
        assert_eq!(unconfirmed.processes.len(), BY_SENDER_MAX as usize);
        handle_row(&mut node, &mut unconfirmed, "other", "b");
        assert_eq!(unconfirmed.processes.len(), BY_SENDER_MAX as usize + 1);
    }
}
