//! `Monitor`: watches any number of targets and reports which fall silent.
//!
//! Each target has a detector, which gives the deadline of suspicion, and a hard timeout, which
//! gives the deadline of death. The next of the two is filed in the timer wheel. A heartbeat
//! updates the detector and touches nothing else, unless it makes the deadline earlier or ends a
//! suspicion. Nothing is allocated for a heartbeat.
//!
//! A later deadline is refiled only when the entry is due. Before its owner reads
//! [`Monitor::next_change`], [`Monitor::refile_stale`] refiles the entries that are due next and
//! have a later deadline by now, so that the timer does not fire for them.
//!
//! The monitor knows neither what a target is (a node, a thread, a worker) nor what follows from a
//! verdict. It asks no other node: agreement is the matter of the membership.

use std::time::Duration;

use crate::detection::{
    AnyDetector, Arrival, Detector, HeartbeatCounts, KeptAt, LinkFigures, LinkSummary, Pause, Verdict,
};
use crate::member::Target;
use crate::time::Instant;
use crate::timer_wheel::TimerWheel;

/// A watched target's place in the table, valid until it is unwatched; places are used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct WatchId(u32);

/// A heartbeat of a watched target, as it was received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReceivedHeartbeat {
    /// When it arrived.
    pub at: Instant,
    /// Number of its schedule slot. A heartbeat whose slot is not above the newest one is old or a
    /// duplicate, and is no news; see [`Monitor::overtaken`].
    pub slot: u64,
    /// Time to the next one, by the sender's announcement.
    pub interval: Duration,
    /// Slots that the sender has slept through since its start, as the sender counts them.
    pub slept: u64,
    /// Whether it may have waited in the socket while we were paused.
    pub waited: bool,
}

/// A verdict that changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// Whose.
    pub target: Target,
    /// What it was.
    pub from: Verdict,
    /// What it is now.
    pub to: Verdict,
    /// The silence that led to it, or that ended.
    pub silence: Duration,
}

/// Watches any number of targets.
#[derive(Clone, Debug)]
pub struct Monitor {
    watches: Vec<Watch>,
    /// Places in `watches` that are free.
    free: Vec<u32>,
    wheel: TimerWheel,
    counts: HeartbeatCounts,
}

#[derive(Clone, Debug)]
struct Watch {
    detector: AnyDetector,
    /// The hard timeout.
    timeout: Duration,
    /// Silence past which it is dead: the hard timeout, or two of its intervals if it announced one
    /// as long as that.
    patience: Duration,
    /// Arrival of the newest heartbeat; before the first one, the start of watching. Pauses of our
    /// own move it forward.
    newest: Instant,
    /// Slot of the newest heartbeat.
    slot: u64,
    /// Which of the 64 slots before it came in: the lowest bit for the one just before.
    received: u64,
    /// Slots that the sender had slept through by then.
    slept: u64,
    /// Whether its death was delayed since the newest heartbeat, so that an interval remained for a
    /// heartbeat after a pause of ours.
    graced: bool,
    /// When its entry in the wheel is due; `NEVER` if the target is dead or the place is free.
    filed: Instant,
    target: Target,
    verdict: Verdict,
}

impl Watch {
    /// The last instant at which the present verdict holds if nothing arrives.
    fn deadline(&self) -> Instant {
        match self.verdict {
            Verdict::Alive => self.detector.deadline().min(self.newest + self.patience),
            Verdict::Suspect => self.newest + self.patience,
            Verdict::Dead => Instant::NEVER,
        }
    }

    /// What the silence up to `now` means; at a deadline itself the better verdict still holds.
    fn verdict(&self, now: Instant) -> Verdict {
        if now > self.newest + self.patience { Verdict::Dead } else { self.detector.verdict(now) }
    }
}

impl Monitor {
    /// A monitor without targets, at `now`.
    pub fn new(now: Instant) -> Monitor {
        Monitor {
            watches: Vec::new(),
            free: Vec::new(),
            wheel: TimerWheel::new(now),
            counts: HeartbeatCounts::default(),
        }
    }

    /// Watches `target` from `now` on. `detector` decides when its silence is suspect; past
    /// `timeout` it is dead in any case.
    ///
    /// # Panics
    /// At 2^32 - 1 targets.
    pub fn watch(&mut self, target: Target, detector: AnyDetector, timeout: Duration, now: Instant) -> WatchId {
        let watch = Watch {
            detector,
            timeout,
            patience: timeout,
            newest: now,
            slot: 0,
            received: 0,
            slept: 0,
            graced: false,
            filed: Instant::NEVER,
            target,
            verdict: Verdict::Alive,
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.watches[place as usize] = watch;
                place
            }
            None => {
                assert!(self.watches.len() < u32::MAX as usize, "more targets than there are places");
                self.watches.push(watch);
                self.watches.len() as u32 - 1
            }
        };
        self.file(place);
        WatchId(place)
    }

    /// Stops watching; `watch` may stand for another target from then on.
    pub fn unwatch(&mut self, watch: WatchId) {
        self.wheel.remove(watch.0);
        self.watches[watch.0 as usize].filed = Instant::NEVER;
        self.free.push(watch.0);
    }

    /// Handles a heartbeat. Returns the change if it ends a suspicion or contradicts a death.
    pub fn heartbeat(&mut self, watch: WatchId, heartbeat: ReceivedHeartbeat) -> Option<Change> {
        let place = watch.0;
        let watch = &mut self.watches[place as usize];
        if heartbeat.slot <= watch.slot {
            self.overtaken(WatchId(place), heartbeat.slot);
            return None;
        }
        let slots = heartbeat.slot - watch.slot;
        watch.received = watch.received.checked_shl(u32::try_from(slots).unwrap_or(u32::MAX)).unwrap_or(0);
        if watch.slot > 0 && slots <= 64 {
            watch.received |= 1 << (slots - 1);
        }
        let slept = heartbeat.slept.saturating_sub(watch.slept).min(slots - 1);
        if matches!(watch.target, Target::Node(_)) {
            self.counts.received += 1;
            // Before its first heartbeat it was not expected.
            self.counts.missed += if watch.slot > 0 { slots - 1 - slept } else { 0 };
        }
        (watch.slot, watch.slept) = (heartbeat.slot, heartbeat.slept);
        let silence = heartbeat.at - watch.newest;
        watch.newest = watch.newest.max(heartbeat.at);
        watch.patience = if heartbeat.interval < watch.timeout { watch.timeout } else { heartbeat.interval * 2 };
        watch.graced = false;
        let ReceivedHeartbeat { at, interval, waited, .. } = heartbeat;
        watch.detector.heartbeat(Arrival { at, interval, slots, slept, waited });
        let from = std::mem::replace(&mut watch.verdict, Verdict::Alive);
        // A later deadline waits until the entry is due; only an earlier one must be filed now.
        if from != Verdict::Alive || watch.deadline() < watch.filed {
            let target = watch.target;
            self.file(place);
            return (from != Verdict::Alive).then_some(Change { target, from, to: Verdict::Alive, silence });
        }
        None
    }

    /// Takes what former observers have learnt of a target. Its deadline may be later for it, and
    /// never earlier.
    pub fn start_from(&mut self, watch: WatchId, summary: LinkSummary) {
        self.watches[watch.0 as usize].detector.start_from(summary);
    }

    /// Handles a heartbeat of a slot before the newest one. If that one overtook it, its detector
    /// learns that it was not lost. A duplicate, or one over 64 slots old, changes nothing.
    pub fn overtaken(&mut self, watch: WatchId, slot: u64) {
        let watch = &mut self.watches[watch.0 as usize];
        let behind = watch.slot.saturating_sub(slot);
        if (1..=64).contains(&behind) && watch.received >> (behind - 1) & 1 == 0 {
            watch.received |= 1 << (behind - 1);
            watch.detector.overtaken(behind);
            self.counts.late += u64::from(matches!(watch.target, Target::Node(_)));
        }
    }

    /// The heartbeats of nodes so far.
    pub fn counts(&self) -> HeartbeatCounts {
        self.counts
    }

    /// The next verdict that the silence up to `now` has changed; call until there is none.
    pub fn poll_change(&mut self, now: Instant) -> Option<Change> {
        while let Some(place) = self.wheel.pop_due(now) {
            let watch = &mut self.watches[place as usize];
            let (from, to) = (watch.verdict, watch.verdict(now).max(watch.verdict));
            watch.verdict = to;
            let change = Change { target: watch.target, from, to, silence: now - watch.newest };
            self.file(place);
            if from != to {
                return Some(change);
            }
        }
        None
    }

    /// Refiles entries that are due before `horizon` and whose target was heard from since they
    /// were filed, so that the timer does not fire for a deadline that has moved. Later entries
    /// stay where they are: the longer they stay, the more arrivals one refiling covers.
    pub fn refile_stale(&mut self, horizon: Instant) {
        while let Some((place, at)) = self.wheel.first()
            && at < horizon
            && self.watches[place as usize].deadline() >= at
        {
            self.file(place);
            if self.watches[place as usize].filed <= at {
                return; // Its deadline is further ahead than one turn of the wheel.
            }
        }
    }

    /// Discounts a pause of our own from the silence of every target that is not dead. The silence
    /// is shorter by the length of the pause, and no target is declared dead before it has had an
    /// interval to send a heartbeat. Each silence gets that interval once, so that pauses in quick
    /// succession do not delay a death without end. Nothing is learnt. A suspicion stands until a
    /// heartbeat ends it.
    pub fn discount_pause(&mut self, pause: Pause) {
        for place in 0..self.watches.len() as u32 {
            let watch = &mut self.watches[place as usize];
            if watch.filed != Instant::NEVER {
                let death = watch.newest + watch.patience;
                let grace = (watch.detector.expected() - watch.newest).min(watch.patience);
                let discounted = pause.discount(death, if watch.graced { Duration::ZERO } else { grace });
                watch.newest += discounted - death;
                watch.graced |= discounted > death + (pause.to - pause.from);
                watch.detector.discount_pause(pause);
                self.file(place);
            }
        }
    }

    /// Notes that a target was alive at `at`, by a sign that has no place in the schedule. It
    /// delays death and leaves the detector as it is. A dead target is suspect again.
    pub fn note_alive(&mut self, watch: WatchId, at: Instant) {
        let place = watch.0;
        let watch = &mut self.watches[place as usize];
        watch.newest = watch.newest.max(at);
        if watch.verdict == Verdict::Dead {
            watch.verdict = Verdict::Suspect;
            self.file(place);
        }
    }

    /// Counts the silence of one target from `now` on, for its detector and for its timeout. It is
    /// alive again.
    pub fn extend(&mut self, watch: WatchId, now: Instant) {
        let place = watch.0;
        let watch = &mut self.watches[place as usize];
        watch.newest = watch.newest.max(now);
        watch.graced = false;
        watch.detector.extend(now);
        watch.verdict = Verdict::Alive;
        self.file(place);
    }

    /// When to call `poll_change` next; `None` if nothing can change.
    pub fn next_change(&self) -> Option<Instant> {
        self.wheel.next()
    }

    /// What a target's detector has learnt, for other observers of it.
    pub fn summary(&self, watch: WatchId) -> Option<LinkSummary> {
        self.watches[watch.0 as usize].detector.summary()
    }

    /// The detectors of the nodes that are watched.
    pub fn node_detectors(&self) -> impl Iterator<Item = &AnyDetector> {
        let is_node = |watch: &&Watch| watch.filed != Instant::NEVER && matches!(watch.target, Target::Node(_));
        self.watches.iter().filter(is_node).map(|watch| &watch.detector)
    }

    /// The verdict on a target, as of the last call.
    pub fn verdict(&self, watch: WatchId) -> Verdict {
        self.watches[watch.0 as usize].verdict
    }

    /// How a target stands at `now`. Its verdict may be one that [`Monitor::poll_change`] has yet
    /// to report.
    pub fn figures(&self, watch: WatchId, now: Instant) -> LinkFigures {
        let Watch { detector, newest, patience, verdict, slot, .. } = &self.watches[watch.0 as usize];
        LinkFigures {
            verdict: self.watches[watch.0 as usize].verdict(now).max(*verdict),
            silence: now - *newest,
            expected_after: detector.expected() - *newest,
            suspected_after: detector.deadline() - *newest,
            dead_after: *patience,
            phi: detector.phi(now),
            slot: *slot,
            budget: detector.budget_figures(),
        }
    }

    /// Mistakes in an hour of which a target's detector says that it cannot keep them fewer below
    /// the timeout, and how many it may make; `None` if it keeps its budget, or has none.
    pub fn kept_at(&self, watch: WatchId) -> Option<KeptAt> {
        self.watches[watch.0 as usize].detector.kept_at()
    }

    /// How improbable silences of a target are, up to a tenth past the one that is death; see
    /// [`AnyDetector::curve`].
    pub fn curve(&self, watch: WatchId, points: u32) -> Vec<(Duration, f64)> {
        let Watch { detector, newest, patience, .. } = &self.watches[watch.0 as usize];
        detector.curve(*newest, patience.mul_f64(1.1), points)
    }

    /// Slot of the newest heartbeat; zero before the first one.
    pub fn slot(&self, watch: WatchId) -> u64 {
        self.watches[watch.0 as usize].slot
    }

    /// How long a target has been silent at `now`.
    pub fn silence(&self, watch: WatchId, now: Instant) -> Duration {
        now - self.watches[watch.0 as usize].newest
    }

    fn file(&mut self, place: u32) {
        let watch = &mut self.watches[place as usize];
        let deadline = watch.deadline();
        if deadline == Instant::NEVER {
            self.wheel.remove(place);
            watch.filed = Instant::NEVER;
        } else {
            watch.filed = self.wheel.file(place, deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::Fixed;
    use crate::member::WorkerId;

    fn ms(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// One target that is suspected after 300 ms and dead after 1 s, with signs at these
    /// milliseconds, in slots 1, 2, ...
    fn monitor(signs: &[u64]) -> (Monitor, WatchId) {
        let mut monitor = Monitor::new(Instant::ZERO);
        let detector =
            AnyDetector::Fixed(Fixed::new(Duration::from_millis(300), Duration::from_millis(100), Instant::ZERO));
        let watch = monitor.watch(Target::Worker(WorkerId(7)), detector, Duration::from_secs(1), Instant::ZERO);
        for (slot, &at) in (1..).zip(signs) {
            monitor.heartbeat(watch, heartbeat(at, slot));
        }
        (monitor, watch)
    }

    #[test]
    fn figures_say_when_each_verdict_comes() {
        let (monitor, watch) = monitor(&[100, 200]);
        let figures = monitor.figures(watch, ms(500));
        assert_eq!((figures.verdict, figures.silence, figures.slot), (Verdict::Alive, Duration::from_millis(300), 2));
        let after = (figures.expected_after, figures.suspected_after, figures.dead_after);
        assert_eq!(after, (Duration::from_millis(100), Duration::from_millis(300), Duration::from_secs(1)));
        assert_eq!((figures.phi, figures.budget), (1.0, None));
        assert_eq!(monitor.figures(watch, ms(501)).verdict, Verdict::Suspect);
        assert_eq!(monitor.figures(watch, ms(1_201)).verdict, Verdict::Dead);
        let curve = monitor.curve(watch, 11);
        assert_eq!((curve.len(), curve[0].0, curve[3]), (12, Duration::ZERO, (Duration::from_millis(300), 1.0)));
    }

    fn heartbeat(at: u64, slot: u64) -> ReceivedHeartbeat {
        ReceivedHeartbeat { at: ms(at), slot, interval: Duration::from_millis(100), slept: 0, waited: false }
    }

    fn verdicts(monitor: &mut Monitor, now: Instant) -> Vec<(Verdict, u128)> {
        std::iter::from_fn(|| monitor.poll_change(now)).map(|change| (change.to, change.silence.as_millis())).collect()
    }

    #[test]
    fn silence_is_suspicion_and_then_death_each_after_its_deadline() {
        let (mut monitor, _) = monitor(&[100]);
        assert_eq!(verdicts(&mut monitor, ms(400)), []);
        assert_eq!(verdicts(&mut monitor, ms(401)), [(Verdict::Suspect, 301)]);
        assert_eq!(verdicts(&mut monitor, ms(1_100)), []);
        assert_eq!(verdicts(&mut monitor, ms(1_101)), [(Verdict::Dead, 1_001)]);
        assert_eq!(verdicts(&mut monitor, ms(9_999)), []);
        assert_eq!(monitor.next_change(), None);
    }

    #[test]
    fn the_wake_up_it_asks_for_is_enough() {
        let (mut monitor, _) = monitor(&[100, 200, 300]);
        let mut seen = Vec::new();
        while let Some(at) = monitor.next_change() {
            seen.extend(verdicts(&mut monitor, at));
        }
        assert_eq!(seen, [(Verdict::Suspect, 301), (Verdict::Dead, 1_001)]);
    }

    #[test]
    fn no_timer_fires_for_a_target_that_was_heard_in_time() {
        let (mut monitor, _) = monitor(&[100]);
        assert_eq!(monitor.next_change(), Some(ms(301)), "as before the sign");
        monitor.refile_stale(ms(301));
        assert_eq!(monitor.next_change(), Some(ms(301)));
        monitor.refile_stale(ms(302));
        assert_eq!(monitor.next_change(), Some(ms(401)));
        monitor.refile_stale(Instant::NEVER);
        assert_eq!(monitor.next_change(), Some(ms(401)), "he was not heard since");
        assert_eq!(verdicts(&mut monitor, ms(401)), [(Verdict::Suspect, 301)]);
    }

    #[test]
    fn a_deadline_past_one_turn_of_the_wheel_is_refiled_once() {
        let mut monitor = Monitor::new(Instant::ZERO);
        let (long, second) = (Duration::from_secs(20), Duration::from_secs(1));
        let detector = AnyDetector::Fixed(Fixed::new(long, second, Instant::ZERO));
        monitor.watch(Target::Worker(WorkerId(7)), detector, long, Instant::ZERO);
        monitor.refile_stale(Instant::NEVER);
        let looked_at = monitor.next_change().unwrap();
        assert!(looked_at < Instant::ZERO + long);
        assert_eq!(verdicts(&mut monitor, looked_at), []);
    }

    #[test]
    fn one_poll_after_a_long_silence_says_dead_at_once() {
        let (mut monitor, _) = monitor(&[100]);
        assert_eq!(verdicts(&mut monitor, ms(5_000)), [(Verdict::Dead, 4_900)]);
    }

    #[test]
    fn a_heartbeat_ends_a_suspicion_and_contradicts_a_death() {
        let (mut monitor, watch) = monitor(&[100]);
        verdicts(&mut monitor, ms(500));
        let cleared = monitor.heartbeat(watch, heartbeat(600, 2)).unwrap();
        assert_eq!((cleared.from, cleared.to), (Verdict::Suspect, Verdict::Alive));
        assert_eq!(cleared.silence, Duration::from_millis(500));
        verdicts(&mut monitor, ms(5_000));
        assert_eq!(monitor.heartbeat(watch, heartbeat(5_000, 3)).unwrap().from, Verdict::Dead);
        assert_eq!(verdicts(&mut monitor, ms(5_301)), [(Verdict::Suspect, 301)]);
    }

    #[test]
    fn an_old_or_repeated_heartbeat_is_ignored() {
        let (mut monitor, watch) = monitor(&[100, 200]);
        assert_eq!(monitor.heartbeat(watch, heartbeat(450, 2)), None);
        assert_eq!(monitor.heartbeat(watch, heartbeat(450, 1)), None);
        assert_eq!(verdicts(&mut monitor, ms(501)), [(Verdict::Suspect, 301)]);
    }

    #[test]
    fn a_slot_may_jump_by_any_number() {
        let (mut monitor, watch) = monitor(&[100]);
        assert_eq!(monitor.heartbeat(watch, heartbeat(200, 1 << 40)), None);
        assert_eq!(monitor.heartbeat(watch, heartbeat(300, u64::MAX)), None);
        assert_eq!(verdicts(&mut monitor, ms(600)), []);
        assert_eq!(verdicts(&mut monitor, ms(601)), [(Verdict::Suspect, 301)]);
    }

    #[test]
    fn a_pause_of_ours_is_discounted_from_every_silence() {
        let (mut monitor, watch) = monitor(&[100]);
        monitor.discount_pause(Pause { from: ms(200), to: ms(4_200) });
        assert_eq!(verdicts(&mut monitor, ms(4_400)), []);
        assert_eq!(verdicts(&mut monitor, ms(4_401)), [(Verdict::Suspect, 301)]);
        monitor.discount_pause(Pause { from: ms(5_050), to: ms(6_000) });
        // 50 ms were left to its death; it has an interval to be heard in.
        assert_eq!(verdicts(&mut monitor, ms(6_100)), []);
        assert_eq!(verdicts(&mut monitor, ms(6_101)), [(Verdict::Dead, 1_001)]);
        monitor.discount_pause(Pause { from: ms(7_000), to: ms(9_000) });
        assert_eq!(monitor.verdict(watch), Verdict::Dead);
    }

    #[test]
    fn an_interval_as_long_as_the_timeout_is_waited_for_twice() {
        let (mut monitor, watch) = monitor(&[100]);
        monitor.heartbeat(watch, ReceivedHeartbeat { interval: Duration::from_secs(3), ..heartbeat(200, 2) });
        assert_eq!(verdicts(&mut monitor, ms(6_200)), [(Verdict::Suspect, 6_000)]);
        assert_eq!(verdicts(&mut monitor, ms(6_201)), [(Verdict::Dead, 6_001)]);
        monitor.heartbeat(watch, heartbeat(7_000, 3));
        assert_eq!(verdicts(&mut monitor, ms(8_001)), [(Verdict::Dead, 1_001)]);
    }

    #[test]
    fn a_sign_outside_the_schedule_delays_death_alone() {
        let (mut monitor, watch) = monitor(&[100]);
        monitor.note_alive(watch, ms(350));
        assert_eq!(verdicts(&mut monitor, ms(401)), [(Verdict::Suspect, 51)]);
        assert_eq!(verdicts(&mut monitor, ms(1_350)), []);
        assert_eq!(verdicts(&mut monitor, ms(1_351)), [(Verdict::Dead, 1_001)]);
        monitor.note_alive(watch, ms(2_000));
        assert_eq!(verdicts(&mut monitor, ms(3_001)), [(Verdict::Dead, 1_001)]);
    }

    #[test]
    fn pauses_in_quick_succession_do_not_delay_death_without_end() {
        let (mut monitor, _) = monitor(&[100]);
        // This node runs for 60 ms and pauses for 40 ms, again and again. The target sent a
        // heartbeat every 100 ms until it ended.
        let died = (0..100).map(|round| 160 + round * 100).find(|&pause| {
            monitor.discount_pause(Pause { from: ms(pause), to: ms(pause + 40) });
            verdicts(&mut monitor, ms(pause + 100)).iter().any(|(verdict, _)| *verdict == Verdict::Dead)
        });
        // A second of being awake is over in the round that begins at 1,660; the grace puts it off
        // by less than an interval.
        assert_eq!(died, Some(1_760));
    }

    #[test]
    fn a_place_is_used_again_and_remembers_nothing() {
        let (mut monitor, watch) = monitor(&[100]);
        monitor.unwatch(watch);
        assert_eq!(monitor.next_change(), None);
        let detector = AnyDetector::Fixed(Fixed::new(Duration::from_millis(50), Duration::from_millis(10), ms(10)));
        let again = monitor.watch(Target::Worker(WorkerId(8)), detector, Duration::from_secs(1), ms(10));
        assert_eq!(again, watch);
        let change = monitor.poll_change(ms(61)).unwrap();
        assert_eq!(change.target, Target::Worker(WorkerId(8)));
    }

    #[test]
    fn what_was_overtaken_is_noted_once() {
        let (mut monitor, watch) = monitor(&[100, 200]);
        assert_eq!(monitor.heartbeat(watch, heartbeat(400, 4)), None);
        assert_eq!(monitor.watches[0].received, 0b110, "slot 3 is missing, slots 2 and 1 came in");
        for _ in 0..2 {
            monitor.heartbeat(watch, heartbeat(410, 3));
            assert_eq!(monitor.watches[0].received, 0b111);
        }
        monitor.heartbeat(watch, heartbeat(500, u64::MAX));
        assert_eq!((monitor.watches[0].received, monitor.slot(watch)), (0, u64::MAX));
        monitor.overtaken(watch, 1);
        assert_eq!(monitor.watches[0].received, 0);
    }
}
