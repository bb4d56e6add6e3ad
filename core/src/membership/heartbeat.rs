//! Our own heartbeats: to whom, when, and whether anybody hears them.

use std::time::Duration;

use super::{Cluster, Payload, may_observe};
use crate::ctx::Ctx;
use crate::detection::Pause;
use crate::event::Event;
use crate::member::NodeId;
use crate::time::{Instant, nanos};
use crate::wire::{Ack, Body, STAGES};

/// How often a longer interval is announced again: all of them are lost one time in sixty thousand
/// where every other datagram is.
const ANNOUNCEMENTS_MAX: u32 = 16;

/// What is known of those who should answer us.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    /// When one of our observers, or of our seeds, was heard last; before that, since when we try.
    heard: Instant,
    /// Whether anybody answers, once we know.
    connected: Option<bool>,
    /// Smoothed round trip and its mean deviation, in nanoseconds: RFC 6298.
    round_trip: Option<(f64, f64)>,
    /// A longer interval is announced again then, this much later each time.
    again: Option<(Instant, Duration)>,
}

impl Answers {
    pub(super) fn new(now: Instant) -> Answers {
        Answers { heard: now, connected: None, round_trip: None, again: None }
    }

    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again.map(|(at, _)| at)
    }

    pub(super) fn excuse(&mut self, pause: Pause) {
        self.heard += pause.to - pause.from;
        // Whatever was asked then comes late through no fault of the network.
        self.heard = self.heard.min(pause.to);
    }

    /// Takes in that one of our observers, or of our seeds, has answered us.
    pub(super) fn hear(&mut self, ctx: &mut Ctx) {
        self.heard = ctx.now;
        if self.connected != Some(true) {
            self.connected = Some(true);
            ctx.emit(Event::Connected);
        }
    }

    /// Takes in that a node answered us that is no observer of ours.
    pub(super) fn heard_at(&mut self, now: Instant) {
        self.heard = self.heard.max(now);
    }

    /// How long none of our observers was heard.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        now - self.heard
    }

    /// Takes in that an answer took this long.
    fn took(&mut self, round_trip: Duration) {
        let sample = nanos(round_trip) as f64;
        self.round_trip = Some(match self.round_trip {
            None => (sample, sample / 2.0),
            Some((mean, spread)) => (mean + (sample - mean) / 8.0, spread + ((sample - mean).abs() - spread) / 4.0),
        });
    }

    /// How long an answer may take, by what was seen.
    fn usual(&self) -> Duration {
        let (mean, spread) = self.round_trip.unwrap_or_default();
        Duration::from_nanos((mean + 4.0 * spread) as u64)
    }
}

impl Cluster {
    /// How long we wait for an answer: an eighth of an interval, or what answers take here if that
    /// is more, and longer if we are not well; an interval at most, or the first answers would be
    /// old when the last one comes.
    pub(super) fn patience(&self, ctx: &Ctx) -> Duration {
        let interval = ctx.config.interval;
        self.peers.health.stretch((interval / 8).max(self.peers.answers.usual())).min(interval)
    }

    /// Sends the heartbeats whose turn has come, if any has.
    pub(super) fn beat(&mut self, ctx: &mut Ctx) {
        while let Some(longer_than) = self.slots.begin(ctx.now, ctx.config.interval) {
            self.begin_slot(longer_than, ctx);
        }
        while let Some(turn) = self.slots.take_turn(ctx.now, |turn| self.peers.observers.turn_from(turn)) {
            self.send_turn(turn, ctx.now);
        }
        self.announce_again(ctx.now);
    }

    fn begin_slot(&mut self, longer_than: Option<Duration>, ctx: &mut Ctx) {
        if let Some(former) = longer_than {
            let again = self.slots.announced().as_nanos().div_ceil(former.as_nanos().max(1));
            let again = u32::try_from(again).unwrap_or(ANNOUNCEMENTS_MAX).min(ANNOUNCEMENTS_MAX);
            self.each_place(|place| place.unheard = again);
            self.peers.answers.again = Some((ctx.now + former, former));
        }
        let overdue = self.slots.announced().max(self.peers.answers.usual());
        let mut missed = 0;
        let now = ctx.now;
        self.each_place(|place| {
            if place.asked.take_if(|(_, at)| now - *at > overdue).is_some() {
                missed += 1;
            }
        });
        (0..missed).for_each(|_| self.peers.health.worsen());
        self.refutations.begin_slot();
        let silent_for = ctx.now - self.peers.answers.heard;
        let is_alone = self.peers.observers.places().is_empty() && !self.joining.is_waiting();
        if !is_alone && silent_for > ctx.config.timeout && self.peers.answers.connected != Some(false) {
            self.peers.answers.connected = Some(false);
            ctx.emit(Event::Isolated { tried: self.whom_we_try(), silent_for });
        }
        if is_alone {
            self.peers.answers.heard = ctx.now;
        }
        self.reopen_lifelines();
    }

    /// Draws a place anew if it is time, and releases former observers whose time is over.
    pub(super) fn change_observers(&mut self, ctx: &mut Ctx) {
        for id in self.peers.observers.release(ctx.now) {
            self.send_to(id, Payload::Say(Body::Release));
            self.close_lifeline_to(id);
        }
        if self.peers.observers.redraw_at() > ctx.now {
            return;
        }
        let (mode, me) = (self.peers.mode, self.peers.me.id);
        let every = ctx.config.membership.redraw;
        let pool = self.peers.table.members().filter(move |member| may_observe(member, mode, me));
        if let Some(id) = self.peers.observers.redraw(pool, ctx.now, every, ctx.config.interval * 2) {
            self.open_lifeline(id);
        }
    }

    /// The names of our observers, or the addresses of our seeds if we have none.
    fn whom_we_try(&self) -> std::sync::Arc<str> {
        let observers = self.peers.observers.places().iter().filter_map(|place| self.peers.table.member(place.id));
        let names: Vec<String> = observers.map(|member| format!("{} at {}", member.name, member.address)).collect();
        if names.is_empty() { self.joining.seeds().into() } else { names.join(", ").into() }
    }

    /// One observer in each slot is asked for an answer, each in its turn.
    fn send_turn(&mut self, turn: u64, now: Instant) {
        let places = self.peers.observers.places();
        let asked = (self.slots.slot() % places.len().max(1) as u64) as usize;
        let asked = places.get(asked).map(|place| place.id);
        let stage = self.slots.stage(turn);
        for place in 0..places.len() {
            let place = &mut self.peers.observers.places_mut()[place];
            if place.turn != turn {
                continue;
            }
            let (id, asks) = (place.id, asked == Some(place.id));
            if asks {
                place.asked.get_or_insert((stage, now));
            }
            self.send_to(id, Payload::Heartbeat { turn, asks });
        }
    }

    /// Says once more that the next heartbeat will take longer, as often as heartbeats came until
    /// now: whoever missed it would wait in vain.
    fn announce_again(&mut self, now: Instant) {
        let Some((at, former)) = self.peers.answers.again.filter(|(at, _)| *at <= now) else { return };
        let mut unheard = Vec::new();
        self.each_place(|place| {
            if place.unheard > 0 {
                place.unheard -= 1;
                unheard.push((place.id, place.turn));
            }
        });
        self.peers.answers.again = (!unheard.is_empty()).then_some((at + former, former));
        for (id, turn) in unheard {
            self.send_to(id, Payload::Heartbeat { turn, asks: true });
        }
    }

    /// Takes in that an observer has had our heartbeat of this stage.
    pub(super) fn hear_ack(&mut self, from: NodeId, ack: Ack, ctx: &mut Ctx) {
        // One that was sent to our former life, or is older than what it should answer, says
        // nothing of how things are now.
        let (announces, is_recent) =
            (self.slots.announces(ack.stage), ack.stage.saturating_add(2 * STAGES) > self.slots.stage(0));
        let Some(place) = self.peers.observers.place_mut(from) else { return };
        if is_recent {
            self.peers.answers.hear(ctx);
        }
        if announces {
            place.unheard = 0;
        }
        if let Some((stage, at)) = place.asked.take_if(|(stage, _)| *stage <= ack.stage) {
            self.peers.health.improve();
            if !ctx.arrivals_stale && stage == ack.stage {
                self.peers.answers.took(ctx.now - at);
            }
        }
    }

    fn each_place(&mut self, mut act: impl FnMut(&mut crate::membership::observers::Place)) {
        self.peers.observers.places_mut().iter_mut().for_each(&mut act);
    }
}
