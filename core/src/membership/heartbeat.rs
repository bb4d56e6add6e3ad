//! `Heartbeats`: when this node sends its heartbeats, and whether its observers receive them.
//!
//! Each observer has its phase within the interval. In each interval one observer is asked for an
//! acknowledgement. An acknowledgement that does not come in time is a sign that this node itself
//! is unwell. A longer interval is announced several times: an observer that missed it would expect
//! the next heartbeat too early.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::ctx::Ctx;
use crate::event::Event;
use crate::membership::heartbeat_schedule::HeartbeatSchedule;
use crate::membership::join::Joining;
use crate::membership::outbox::{Outbox, Payload};
use crate::membership::peers::Peers;
use crate::time::Instant;
use crate::wire::{Ack, Header, STAGES};

/// How often a longer interval is announced again, at most. If every other datagram is lost, all of
/// them are lost one time in sixty thousand.
const ANNOUNCEMENTS_MAX: u32 = 16;

/// The heartbeats of this node.
#[derive(Clone, Debug)]
pub(super) struct Heartbeats {
    schedule: HeartbeatSchedule,
    /// When a longer interval is announced again, and how much later each time.
    announce_again: Option<(Instant, Duration)>,
}

impl Heartbeats {
    /// The first slot begins at `now`.
    pub(super) fn new(config: &Config, now: Instant) -> Heartbeats {
        Heartbeats { schedule: HeartbeatSchedule::new(config.interval, now), announce_again: None }
    }

    /// The slot and phase that this node is in.
    pub(super) fn schedule(&self) -> &HeartbeatSchedule {
        &self.schedule
    }

    pub(super) fn next_due(&self, peers: &Peers) -> Instant {
        let phase = self.schedule.due(|phase| peers.observers.phase_from(phase));
        self.announce_again.map_or(phase, |(at, _)| phase.min(at))
    }

    /// Begins the slots that are due. Returns whether one began.
    pub(super) fn begin_slots(&mut self, peers: &mut Peers, joining: &Joining, ctx: &mut Ctx) -> bool {
        let mut has_begun = false;
        while let Some(longer_than) = self.schedule.begin(ctx.now, ctx.config.interval) {
            if let Some(former) = longer_than {
                self.announce_longer_interval(former, peers, ctx.now);
            }
            self.count_missing_acks(peers, ctx.now);
            check_isolation(peers, joining, ctx);
            has_begun = true;
        }
        has_begun
    }

    /// The interval is longer from this slot on. Each observer is sent the next heartbeats at the
    /// `former` interval.
    fn announce_longer_interval(&mut self, former: Duration, peers: &mut Peers, now: Instant) {
        let again = self.schedule.announced().as_nanos().div_ceil(former.as_nanos().max(1));
        let again = u32::try_from(again).unwrap_or(ANNOUNCEMENTS_MAX).min(ANNOUNCEMENTS_MAX);
        for slot in peers.observers.slots_mut() {
            slot.announcements = again;
        }
        self.announce_again = Some((now + former, former));
    }

    /// Degrades local health for each acknowledgement that has not come in time.
    fn count_missing_acks(&mut self, peers: &mut Peers, now: Instant) {
        let overdue = self.schedule.announced().max(peers.contact.reply_time());
        for slot in peers.observers.slots_mut() {
            if slot.asked.take_if(|(_, at)| now - *at > overdue).is_some() {
                peers.health.degrade();
            }
        }
    }

    /// Sends the heartbeats whose phase has come.
    pub(super) fn send_due(&mut self, peers: &mut Peers, out: &mut Outbox, ctx: &Ctx) {
        while let Some(phase) = self.schedule.take_phase(ctx.now, |phase| peers.observers.phase_from(phase)) {
            self.send_phase(phase, peers, out, ctx.now);
        }
        self.send_announcements(peers, out, ctx.now);
    }

    /// Sends a heartbeat to each observer of this phase. One observer in each slot is asked for an
    /// acknowledgement, each in its turn.
    fn send_phase(&mut self, phase: u64, peers: &mut Peers, out: &mut Outbox, now: Instant) {
        let slots = peers.observers.slots();
        let asked = slots.get((self.schedule.slot() % slots.len().max(1) as u64) as usize).map(|slot| slot.id);
        let stage = self.schedule.stage(phase);
        for slot in peers.observers.slots_mut().iter_mut().filter(|slot| slot.phase == phase) {
            let wants_ack = asked == Some(slot.id);
            if wants_ack {
                slot.asked.get_or_insert((stage, now));
            }
            if let Some(to) = peers.table.member(slot.id).map(|member| member.address) {
                out.send(to, Payload::Heartbeat { phase, wants_ack });
            }
        }
    }

    /// Announces a longer interval again to each observer that has not acknowledged it.
    fn send_announcements(&mut self, peers: &mut Peers, out: &mut Outbox, now: Instant) {
        let Some((at, former)) = self.announce_again.filter(|(at, _)| *at <= now) else { return };
        let mut is_sent = false;
        for slot in peers.observers.slots_mut().iter_mut().filter(|slot| slot.announcements > 0) {
            slot.announcements -= 1;
            is_sent = true;
            if let Some(to) = peers.table.member(slot.id).map(|member| member.address) {
                out.send(to, Payload::Heartbeat { phase: slot.phase, wants_ack: true });
            }
        }
        self.announce_again = is_sent.then_some((at + former, former));
    }

    /// Handles that an observer has received the heartbeat of this stage. An acknowledgement that
    /// was sent to a former process of this node, or that is older than two slots, says nothing of
    /// the present connection.
    pub(super) fn handle_ack(&mut self, header: Header, ack: Ack, peers: &mut Peers, ctx: &mut Ctx) {
        let is_recent = ack.stage.saturating_add(2 * STAGES) > self.schedule.stage(0);
        let announces = self.schedule.announces(ack.stage);
        let Some(slot) = peers.observers.slot_mut(header.from) else { return };
        if is_recent {
            peers.contact.handle_answer(ctx);
        }
        if announces {
            slot.announcements = 0;
        }
        if let Some((stage, at)) = slot.asked.take_if(|(stage, _)| *stage <= ack.stage) {
            peers.health.recover();
            if !ctx.arrivals_stale && stage == ack.stage {
                peers.contact.handle_round_trip(ctx.now - at);
            }
        }
    }
}

/// Publishes that no observer and no seed answers. A node that is a cluster by itself is not
/// isolated.
fn check_isolation(peers: &mut Peers, joining: &Joining, ctx: &mut Ctx) {
    if peers.observers.slots().is_empty() && !joining.is_waiting() {
        return peers.contact.restart(ctx.now);
    }
    if let Some(silent_for) = peers.contact.check_isolation(ctx.now, ctx.config.timeout) {
        ctx.emit(Event::Isolated { tried: tried(peers, joining), silent_for });
    }
}

/// The names of the observers, or the seeds if there is no observer.
fn tried(peers: &Peers, joining: &Joining) -> Arc<str> {
    let observers = peers.observers.slots().iter().filter_map(|slot| peers.table.member(slot.id));
    let names: Vec<String> = observers.map(|member| format!("{} at {}", member.name, member.address)).collect();
    if names.is_empty() { joining.seeds().into() } else { names.join(", ").into() }
}
