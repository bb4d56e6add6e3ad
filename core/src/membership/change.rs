//! What follows when a row of the table changes.
//!
//! Rows change by verdicts of this node and by what it receives. Either way the change is gossiped,
//! and each rule that keeps something about the member follows it: the observers, the watching, the
//! quorum, the streams and the transfers.

use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, OwnershipEffect};
use crate::ctx::Ctx;
use crate::event::Event;
use crate::member::{Member, NodeId, Role, ShardGroup, Status};
use crate::membership::gossip::Extent;
use crate::membership::refutation::SelfOutcome;
use crate::membership::table::Change;
use crate::membership::unconfirmed::is_unconfirmed;
use crate::time::Instant;
use crate::wire::{self, Body, Datagram, Row};

/// Where a change of a row comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// A verdict of this node, whose event is emitted already.
    Own,
    /// News, from this member if it came from one.
    Received(Option<NodeId>),
}

impl Cluster {
    /// Merges all rows that a datagram carries. A row that arrives in a table sync, is over, and
    /// was unknown here may be arbitrarily old: it is stored, and not gossiped.
    pub(super) fn merge_rows(&mut self, datagram: &Datagram<'_>, ctx: &mut Ctx) -> OwnershipEffect {
        let (header, is_table) = (datagram.header, matches!(datagram.body, Body::Rows(_)));
        let mut effect = OwnershipEffect::Nothing;
        for row in datagram.rumours.iter() {
            if is_unconfirmed(&row, header, &self.joining, &self.peers, ctx) {
                let own = self.header(ctx.now);
                self.unconfirmed.handle_row(&row, own, header.from, &mut self.out, ctx.now);
                continue;
            }
            let is_unknown = self.peers.table.member(row.id).is_none();
            effect = effect.max(self.merge_row(header.from, &row, ctx));
            if is_table && is_unknown && !row.status.is_member() {
                self.peers.table.suppress_gossip(row.id);
                self.peers.gossip.remove(row.id);
            }
        }
        effect
    }

    /// Merges the row that `from` sent of another member, or of this node.
    pub(super) fn merge_row(&mut self, from: NodeId, row: &Row<'_>, ctx: &mut Ctx) -> OwnershipEffect {
        if row.id == self.peers.me.id {
            return self.handle_row_of_self(row, ctx);
        }
        let Some(row) = &self.believable(from, row, ctx) else { return OwnershipEffect::Nothing };
        match self.peers.table.merge(ctx.now, row, &ctx.config.membership) {
            Ok(None) => OwnershipEffect::Nothing,
            Ok(Some(change)) => self.apply(&change, Origin::Received(Some(from)), ctx),
            Err(refusal) => {
                let address = row.details.map_or(self.peers.me.address, |details| details.address);
                self.joining.report_refusal(&refusal, address, ctx);
                OwnershipEffect::Nothing
            }
        }
    }

    /// What is believed of a row. The end of a later process than the one that is known here ends
    /// that one: if it lives and the row was made up, it can refute that. Where none is known, the
    /// end of a process that would have begun in the future is nothing: it would keep processes of
    /// this name out.
    fn believable<'a>(&self, from: NodeId, row: &Row<'a>, ctx: &Ctx) -> Option<Row<'a>> {
        if row.status.is_member() || self.joining.trusts(from, ctx.now) {
            return Some(*row);
        }
        let Some(known) = self.peers.table.member(row.id) else {
            let skew_max = ctx.config.membership.clock_skew_max.as_millis() as u64 * 2;
            let latest = self.out.clock.own(ctx.now).saturating_add(skew_max);
            return (row.generation.0 <= latest).then_some(*row);
        };
        if known.generation >= row.generation {
            return Some(*row);
        }
        // That process may have owned shards of groups that are unknown here.
        let revision = known.revision.saturating_add(1);
        Some(Row { generation: known.generation, incarnation: known.incarnation, revision, details: None, ..*row })
    }

    /// Merges the row of a process that has just been confirmed.
    pub(super) fn merge_confirmed(&mut self, row: Option<Vec<u8>>, ctx: &mut Ctx) -> OwnershipEffect {
        let Some(row) = row else { return OwnershipEffect::Nothing };
        let Ok(Datagram { header, rumours, .. }) = wire::decode(&row) else { return OwnershipEffect::Nothing };
        rumours.iter().map(|row| self.merge_row(header.from, &row, ctx)).max().unwrap_or(OwnershipEffect::Nothing)
    }

    /// Handles what others hold of this node.
    fn handle_row_of_self(&mut self, row: &Row<'_>, ctx: &mut Ctx) -> OwnershipEffect {
        match self.refutations.handle_row_of_self(row, &mut self.peers, ctx) {
            SelfOutcome::Nothing => return OwnershipEffect::Nothing,
            SelfOutcome::Namesake(generation, address) => {
                self.ask_namesake(generation, address);
                return OwnershipEffect::Nothing;
            }
            SelfOutcome::WasDead => {}
            // Lifelines are those of a generation.
            SelfOutcome::Renewed => self.close_lifelines(),
        }
        // No other member names this node any more, and its verdicts are of before.
        if let Some(quorum) = &mut self.quorum {
            quorum.delay_starts(ctx.now);
        }
        for id in self.watching.ids() {
            self.watching.stop(id, &mut self.inquiries, ctx);
        }
        // Peers ignored our messages while they held us dead. Sync tables once they know that we
        // are alive.
        self.sync.compare_by(ctx.now + ctx.config.interval);
        OwnershipEffect::Revoke
    }

    /// Applies a verdict of this node, if there was one.
    pub(super) fn apply_own(&mut self, change: Option<Change>, ctx: &mut Ctx) -> OwnershipEffect {
        change.map_or(OwnershipEffect::Nothing, |change| self.apply(&change, Origin::Own, ctx))
    }

    /// Does what follows from a row that changed.
    pub(super) fn apply(&mut self, change: &Change, origin: Origin, ctx: &mut Ctx) -> OwnershipEffect {
        let Change { before, after, missed_update } = change;
        let id = after.id;
        let same_process = before.as_ref().filter(|before| before.generation == after.generation);
        let is_known = same_process.is_some_and(|before| before.profile == after.profile);
        self.peers.gossip.add(id, if is_known { Extent::Note } else { Extent::Row }, ctx.now);
        if let Origin::Received(from) = origin {
            let reported_by = from.and_then(|from| self.peers.table.member(from)).map(|member| member.name.clone());
            emit_status_change(before.as_ref(), after, reported_by, ctx);
        }
        let (was, is) = (before.as_ref().is_some_and(|before| before.status.is_member()), after.status.is_member());
        if same_process.is_none() || !is {
            self.watching.stop(id, &mut self.inquiries, ctx);
        }
        self.update_quorum(after, was, ctx.now);
        let was_suspect = before.as_ref().is_some_and(|before| before.status == Status::Suspect);
        if after.status == Status::Alive && was_suspect {
            self.handle_refutation(id, ctx);
        }
        if !is || same_process.is_none() && before.is_some() {
            // The streams of an ended process say nothing. A later process has streams of its own.
            self.streams.close_all_of(id, &mut self.out);
            self.transfers.cancel(id, &mut self.streams, &mut self.out);
        }
        if !is {
            self.peers.observers.remove(id);
        } else if same_process.is_none() {
            self.peers.observers.renew(id);
        }
        if is != was || same_process.is_none() {
            self.fill_observers();
            self.update_wire_version(ctx);
        }
        let is_new_life = is_later_life(before.as_ref(), after) && same_process.is_none_or(|b| !b.status.is_member());
        // The member is over, and may have owned shards of groups that were unknown here.
        let has_other_groups = *missed_update || same_process.is_some_and(|before| before.groups != after.groups);
        let is_transient = !is && after.role == Role::Worker && (has_other_groups || is_new_life);
        if is_transient {
            self.transient_owners.push((id, after.weight()));
        }
        if ownable_groups(before.as_ref()) != ownable_groups(Some(after)) || is_new_life || is_transient {
            OwnershipEffect::Recompute
        } else {
            OwnershipEffect::Nothing
        }
    }

    fn update_quorum(&mut self, after: &Member, was_member: bool, now: Instant) {
        let Some(quorum) = &mut self.quorum else { return };
        match after.status {
            Status::Dead if was_member => quorum.handle_death(after.id, now),
            Status::Dead => {}
            Status::Alive | Status::Suspect | Status::Left => quorum.handle_return(after.id),
        }
    }

    /// Handles that a suspect is alive: each node that suspected it was wrong.
    fn handle_refutation(&mut self, id: NodeId, ctx: &mut Ctx) {
        self.handle_sign_of_life(id, ctx.now, ctx);
        if self.watching.take_suspected_by_us(id) {
            self.peers.health.degrade();
        }
    }

    /// Handles that a node was alive at `at`, by a sign outside its schedule.
    pub(super) fn handle_sign_of_life(&mut self, id: NodeId, at: Instant, ctx: &mut Ctx) {
        self.inquiries.end(id);
        self.random_probe.handle_answer(id);
        self.watching.handle_sign_of_life(id, at, ctx);
    }

    /// Fills the free observer slots, and opens a lifeline to each new observer.
    pub(super) fn fill_observers(&mut self) {
        for id in self.peers.fill_observers() {
            self.streams.open_lifeline(id, &self.peers, &mut self.out);
        }
    }
}

/// The groups that a node of this row may own shards of.
fn ownable_groups(row: Option<&Member>) -> Option<&[ShardGroup]> {
    row.filter(|member| member.role == Role::Worker && member.status.is_member()).map(|member| &*member.groups)
}

/// Whether a row is of a later life than the row before it.
fn is_later_life(before: Option<&Member>, after: &Member) -> bool {
    let start = |member: &Member| (member.generation, member.incarnation.returns);
    before.is_none_or(|before| start(before) < start(after))
}

/// Emits the event for a change that this node did not make itself.
fn emit_status_change(before: Option<&Member>, after: &Member, reported_by: Option<Arc<str>>, ctx: &mut Ctx) {
    let same_process = before.filter(|before| before.generation == after.generation);
    if let Some(before) = same_process {
        if before.profile != after.profile && after.status.is_member() {
            ctx.emit(Event::Updated { member: after.clone() });
        }
        if (before.incarnation, before.status) == (after.incarnation, after.status) {
            return;
        }
    }
    let (node, silent_for, evidence) = (after.name.clone(), Duration::ZERO, Arc::from([]));
    // If a later process is over when its first row comes, the former one is over with it.
    let was_member = before.is_some_and(|before| before.status.is_member());
    ctx.emit(match (same_process.map(|before| before.status), after.status) {
        (None, Status::Alive | Status::Suspect) => Event::Joined { member: after.clone() },
        (None, Status::Dead) if was_member => Event::Died { node, silent_for, evidence, reported_by },
        (None, Status::Left) if was_member => Event::Left { node },
        // It was over before it was known here: no news.
        (None, Status::Dead | Status::Left) => return,
        (Some(Status::Suspect), Status::Alive) => Event::Cleared { node },
        (Some(Status::Dead | Status::Left), Status::Alive | Status::Suspect) => {
            Event::Returned { node, incarnation: after.incarnation }
        }
        (Some(Status::Alive), Status::Alive) => return,
        (Some(_), Status::Suspect) => Event::Suspected { node, silent_for, evidence, reported_by },
        (Some(_), Status::Dead) => Event::Died { node, silent_for, evidence, reported_by },
        (Some(_), Status::Left) => Event::Left { node },
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::{Generation, Incarnation, Profile};
    use crate::membership::fixture::{self, address, cluster, ctx, events, id, member, note};
    use crate::membership::outbox::{Outgoing, Payload};
    use crate::membership::watch::WatchKind;
    use crate::wire::{Header, Rows};

    fn with(status: Status) -> Member {
        Member { status, ..member("a") }
    }

    /// Checks which event follows from a row that was received.
    #[track_caller]
    fn check_event(before: Option<&Member>, after: &Member, is_expected: impl Fn(&Event) -> bool) {
        let mut ctx = ctx(fixture::config(&[], ""));
        emit_status_change(before, after, Some("b".into()), &mut ctx);
        let events = events(&mut ctx);
        assert!(events.len() == 1 && is_expected(&events[0]), "{events:?}");
    }

    #[track_caller]
    fn check_no_event(before: Option<&Member>, after: &Member) {
        let mut ctx = ctx(fixture::config(&[], ""));
        emit_status_change(before, after, None, &mut ctx);
        assert_eq!(events(&mut ctx), []);
    }

    #[test]
    fn each_change_of_status_has_its_event() {
        let [alive, suspect, dead, left] = [Status::Alive, Status::Suspect, Status::Dead, Status::Left].map(with);
        check_event(None, &alive, |event| matches!(event, Event::Joined { .. }));
        check_event(Some(&alive), &suspect, |event| matches!(event, Event::Suspected { .. }));
        check_event(Some(&suspect), &alive, |event| matches!(event, Event::Cleared { .. }));
        check_event(Some(&suspect), &dead, |event| matches!(event, Event::Died { .. }));
        check_event(Some(&alive), &left, |event| matches!(event, Event::Left { .. }));
        check_event(Some(&dead), &alive, |event| matches!(event, Event::Returned { .. }));
        check_no_event(Some(&alive), &alive);
        check_no_event(None, &dead);
        check_no_event(None, &left);
    }

    #[test]
    fn a_changed_profile_has_an_event_of_its_own() {
        let mut later = with(Status::Alive);
        Arc::make_mut(&mut later.profile).revision = 2;
        check_event(Some(&with(Status::Alive)), &later, |event| matches!(event, Event::Updated { .. }));
    }

    #[test]
    fn a_later_process_joins_or_ends_the_former_one() {
        let former = with(Status::Alive);
        let later = |status| Member { generation: Generation(8), ..with(status) };
        check_event(Some(&former), &later(Status::Alive), |event| matches!(event, Event::Joined { .. }));
        check_event(Some(&former), &later(Status::Left), |event| matches!(event, Event::Left { .. }));
        check_no_event(Some(&with(Status::Dead)), &later(Status::Dead));
    }

    #[test]
    fn a_member_that_ends_is_not_watched_and_observes_no_more() {
        for status in [Status::Dead, Status::Left] {
            let (mut cluster, mut ctx) = cluster(&["a", "b"]);
            cluster.watching.start(id("a"), fixture::SECOND, WatchKind::OneOfSeveral, &mut ctx);
            assert!(cluster.observers().any(|observer| observer == id("a")));
            let row = note("a", status, Incarnation::default());
            assert_eq!(cluster.merge_row(id("b"), &row, &mut ctx), OwnershipEffect::Recompute);
            assert!(cluster.watching.ids().is_empty());
            assert!(cluster.observers().all(|observer| observer != id("a")));
            assert_eq!(events(&mut ctx).len(), 1);
            assert_eq!(cluster.merge_row(id("b"), &row, &mut ctx), OwnershipEffect::Nothing, "again");
        }
    }

    #[test]
    fn the_end_of_a_later_process_ends_the_known_one() {
        let future = Generation(wire::TIME_MAX);
        for status in [Status::Dead, Status::Left] {
            let (mut cluster, mut ctx) = cluster(&["a", "b"]);
            let row = |name| Row { generation: future, ..note(name, status, Incarnation::default()) };
            cluster.merge_row(id("b"), &row("a"), &mut ctx);
            let known = cluster.table().member(id("a")).unwrap();
            assert_eq!((known.generation, known.status), (fixture::GENERATION, status));
            cluster.merge_row(id("b"), &row("x"), &mut ctx);
            assert!(cluster.table().member(id("x")).is_none());
        }
    }

    #[test]
    fn a_row_of_a_later_process_of_this_node_is_no_proof() {
        let (mut cluster, mut ctx) = cluster(&["a"]);
        let me = cluster.table().member(cluster.me()).unwrap().clone();
        let generation = Generation(me.generation.0 + 1);
        let later =
            Member { generation, profile: Profile { address: address("x"), ..(*me.profile).clone() }.into(), ..me };
        let header = Header { cluster: 0, from: id("a"), generation: fixture::GENERATION, clock: 0 };
        let mut buffer = Vec::new();
        wire::encode(&mut buffer, header, &Body::Gossip);
        let count_at = buffer.len() - 1;
        assert!(wire::push_rumour(&mut buffer, count_at, &later, true));
        assert_eq!(cluster.merge_rows(&wire::decode(&buffer).unwrap(), &mut ctx), OwnershipEffect::Nothing);
        assert_eq!(events(&mut ctx), []);
        let Some(Outgoing::Send { to, payload: Payload::Body(Body::Challenge { .. }), .. }) = cluster.poll_outgoing()
        else {
            panic!("it is not asked")
        };
        assert_eq!(to, address("x"));
    }

    #[test]
    fn an_ended_member_of_a_table_sync_is_not_gossiped() {
        let rows = Rows { differing: 0, more: false, welcome: false, whole: true };
        for (body, is_gossiped) in [(Body::Rows(rows), false), (Body::Gossip, true)] {
            let (mut cluster, mut ctx) = cluster(&["b"]);
            let header = Header { cluster: 0, from: id("b"), generation: fixture::GENERATION, clock: 0 };
            let mut buffer = Vec::new();
            wire::encode(&mut buffer, header, &body);
            let count_at = buffer.len() - 1;
            assert!(wire::push_rumour(&mut buffer, count_at, &with(Status::Dead), true));
            cluster.merge_rows(&wire::decode(&buffer).unwrap(), &mut ctx);
            assert_eq!(cluster.table().member(id("a")), Some(&with(Status::Dead)));
            assert_eq!(!cluster.peers.gossip.is_empty(), is_gossiped);
            assert_eq!(events(&mut ctx), []);
        }
    }
}
