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
    /// How many were sent.
    sent: u64,
}

impl Heartbeats {
    /// The first slot begins at `now`.
    pub(super) fn new(config: &Config, now: Instant) -> Heartbeats {
        Heartbeats { schedule: HeartbeatSchedule::new(config.interval, now), announce_again: None, sent: 0 }
    }

    /// How many were sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
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
            if let Some(member) = peers.table.member(slot.id) {
                out.send_to_member(member, Payload::Heartbeat { phase, wants_ack, to_new: slot.is_new });
                self.sent += 1;
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
            if let Some(member) = peers.table.member(slot.id) {
                let (phase, to_new) = (slot.phase, slot.is_new);
                out.send_to_member(member, Payload::Heartbeat { phase, wants_ack: true, to_new });
                self.sent += 1;
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
        slot.is_new = false;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::fixture::{Fixture, SECOND, address, header, id, just_after, ms};

    /// One observer, and the heartbeats of this node.
    fn start() -> (Fixture, Heartbeats, Joining) {
        let mut node = Fixture::new(&["a"]);
        assert_eq!(node.peers.fill_observers(), [id("a")]);
        let (heartbeats, joining) = (Heartbeats::new(&node.ctx.config, node.ctx.now), node.joining());
        (node, heartbeats, joining)
    }

    /// Lets time pass to `now`. Returns whether each heartbeat sent asks for an acknowledgement.
    fn advance(node: &mut Fixture, heartbeats: &mut Heartbeats, joining: &Joining, now: Instant) -> Vec<bool> {
        node.at(now);
        heartbeats.begin_slots(&mut node.peers, joining, &mut node.ctx);
        heartbeats.send_due(&mut node.peers, &mut node.out, &node.ctx);
        let asks = |(to, payload)| match payload {
            Payload::Heartbeat { wants_ack, .. } if to == address("a") => wants_ack,
            other => panic!("{other:?}"),
        };
        node.sent().into_iter().map(asks).collect()
    }

    #[test]
    fn an_observer_is_sent_a_heartbeat_once_an_interval() {
        let (mut node, mut heartbeats, joining) = start();
        assert_eq!(advance(&mut node, &mut heartbeats, &joining, ms(0)), [true]);
        assert_eq!(heartbeats.next_due(&node.peers), ms(1_000));
        assert_eq!(advance(&mut node, &mut heartbeats, &joining, ms(999)), []);
        assert_eq!(advance(&mut node, &mut heartbeats, &joining, ms(1_000)), [true]);
        assert_eq!(advance(&mut node, &mut heartbeats, &joining, ms(5_500)), [true], "a pause is not made up for");
    }

    #[test]
    fn without_an_observer_no_heartbeat_is_sent() {
        let mut node = Fixture::new(&[]);
        let (mut heartbeats, joining) = (Heartbeats::new(&node.ctx.config, ms(0)), node.joining());
        assert_eq!(advance(&mut node, &mut heartbeats, &joining, ms(3_000)), []);
        assert_eq!(heartbeats.next_due(&node.peers), ms(4_000));
    }

    #[test]
    fn an_acknowledgement_may_take_an_interval() {
        let (mut node, mut heartbeats, joining) = start();
        advance(&mut node, &mut heartbeats, &joining, ms(0));
        advance(&mut node, &mut heartbeats, &joining, ms(1_000));
        assert_eq!(node.peers.health.score(), 0, "it is not overdue at the end of the interval");
        advance(&mut node, &mut heartbeats, &joining, ms(2_000));
        assert_eq!(node.peers.health.score(), 1);
    }

    #[test]
    fn an_acknowledgement_restores_health_and_times_the_round_trip() {
        let (mut node, mut heartbeats, joining) = start();
        node.peers.health.degrade();
        advance(&mut node, &mut heartbeats, &joining, ms(0));
        node.at(ms(40));
        let ack = Ack { stage: STAGES, health: 0 };
        heartbeats.handle_ack(header("a"), ack, &mut node.peers, &mut node.ctx);
        assert_eq!(node.peers.health.score(), 0);
        assert_eq!(node.peers.contact.reply_time(), Duration::from_millis(120), "40 ms and four deviations of 20");
        heartbeats.handle_ack(header("a"), ack, &mut node.peers, &mut node.ctx);
        assert_eq!(node.peers.contact.reply_time(), Duration::from_millis(120), "a duplicate times nothing");
        assert_eq!(node.events(), [Event::Connected]);
    }

    #[test]
    fn an_observer_is_new_until_it_acknowledges() {
        let (mut node, mut heartbeats, joining) = start();
        let is_new = |node: &Fixture| node.peers.observers.slots()[0].is_new;
        advance(&mut node, &mut heartbeats, &joining, ms(0));
        assert!(is_new(&node));
        heartbeats.handle_ack(header("a"), Ack { stage: STAGES, health: 0 }, &mut node.peers, &mut node.ctx);
        assert!(!is_new(&node));
        node.peers.observers.renew(id("a"));
        assert!(is_new(&node), "another process has its name");
    }

    #[test]
    fn an_acknowledgement_of_two_slots_ago_is_no_contact() {
        for (stage, expected) in [(STAGES, vec![]), (STAGES + 1, vec![Event::Connected])] {
            let (mut node, mut heartbeats, joining) = start();
            advance(&mut node, &mut heartbeats, &joining, ms(2_000));
            let ack = Ack { stage, health: 0 };
            heartbeats.handle_ack(header("a"), ack, &mut node.peers, &mut node.ctx);
            assert_eq!(node.events(), expected, "stage {stage} in slot 3");
            heartbeats.handle_ack(header("stranger"), ack, &mut node.peers, &mut node.ctx);
            assert_eq!(node.events(), [], "of a node that is no observer");
        }
    }

    #[test]
    fn a_longer_interval_is_announced_until_it_is_acknowledged() {
        let (mut node, mut heartbeats, joining) = start();
        advance(&mut node, &mut heartbeats, &joining, ms(0));
        node.ctx.config.interval = SECOND * 3;
        assert_eq!(advance(&mut node, &mut heartbeats, &joining, ms(1_000)).len(), 1);
        assert_eq!(advance(&mut node, &mut heartbeats, &joining, ms(1_999)), []);
        assert_eq!(advance(&mut node, &mut heartbeats, &joining, ms(2_000)), [true], "at the former interval");
        let ack = Ack { stage: 2 * STAGES, health: 0 };
        heartbeats.handle_ack(header("a"), ack, &mut node.peers, &mut node.ctx);
        assert_eq!(advance(&mut node, &mut heartbeats, &joining, ms(3_000)), []);
        assert_eq!(heartbeats.next_due(&node.peers), ms(4_000));
    }

    #[test]
    fn a_node_is_isolated_past_the_timeout_and_says_so_once() {
        let (mut node, mut heartbeats, joining) = start();
        advance(&mut node, &mut heartbeats, &joining, ms(6_000));
        assert_eq!(node.events(), [], "at the timeout itself it is not");
        advance(&mut node, &mut heartbeats, &joining, ms(7_000));
        let tried = format!("a at {}", address("a")).into();
        assert_eq!(node.events(), [Event::Isolated { tried, silent_for: SECOND * 7 }]);
        advance(&mut node, &mut heartbeats, &joining, just_after(ms(8_000)));
        assert_eq!(node.events(), []);
    }
}
