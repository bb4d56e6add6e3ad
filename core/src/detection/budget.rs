//! `Budget`: suspects as rarely as the user asked, and as early as that allows.
//!
//! A fixed timeout is a guess about how long the network and the other machine may be silent. Here
//! the user says instead how many wrong suspicions are acceptable ("one an hour"). The detector
//! learns which silence is as rare as that. It remembers silences for long, and the present loss of
//! the link for a short time.
//!
//! A heartbeat is awaited at its place in the sender's schedule plus the usual delay. With the
//! arrival A, its place S in the schedule, the interval eta, and m - 1 slots missing before it:
//!
//! ```text
//! late = A - S - base              a time: how late it is for its own slot
//! over = late + (m - 1) * eta      a time: its silence past the first awaited slot
//! p    = mistakes * eta            no unit: share of heartbeats that a mistake may follow, with
//!                                  mistakes per hour and eta in hours
//! ```
//!
//! **Jitter.** `base` and the mean absolute lateness `dev` are moving averages with gain max(1/64,
//! 1/(k + 2)) after k heartbeats. Their steps are clamped to 4 `dev` and 8 `dev`, so that pauses do
//! not move them. Lateness is assumed to be distributed exponentially: the margin is never below
//! jitter = dev * ln(1/p) + 0.5 ms.
//!
//! **Loss regime.** The detector estimates two numbers: `enter`, the share of heartbeats that come
//! after a loss (gain 1/1000), and r, the chance that a loss is followed by another one. While
//! `enter` is over 0.003 (three losses in memory), the regime is *lossy*. The detector then waits
//! for n = 1 + ln(p / enter) / ln r slots, rounded up: a geometric burst is longer with chance p.
//! Otherwise the regime is *calm*.
//!
//! **Tails.** Each regime has a [`Tail`], which counts how often `over` had which length. In the
//! calm regime the unit is the interval. In the lossy one it is n * eta, so that the memory
//! corrects the model. One silence counts once, however many heartbeats it delays. Where heartbeats
//! after a loss arrive on time, silences are whole slots: the margin covers all of a slot, or
//! nothing of it.
//!
//! ```text
//! margin   = max(jitter, long * eta)         calm; long: quantile of the calm tail, in intervals
//! margin   = max(jitter, factor * n * eta)   lossy; factor: quantile of the lossy tail, no unit
//! deadline = next slot + base + min(margin, 120 * eta)
//! ```
//!
//! **Splitting the budget.** A second of margin prevents fewer mistakes in the lossy regime than in
//! the calm one, so the budget is not spread evenly. With w the share of time that is lossy, each
//! split fulfils (1 - w) * p_calm + w * p_lossy = p. The detector tries p_lossy = p, 2 p, 4 p, ...,
//! and takes the split with the smallest mean margin. The budget holds on average over days, not in
//! every hour.
//!
//! **Cold start.** A tail that has seen fewer than 1 / (2 p) heartbeats cannot know so rare a
//! silence. It takes the longest silence it has seen, stretched by a power law. In the calm regime
//! it takes three intervals at least, or a quarter of one if other observers are asked before a
//! suspicion.
//!
//! What it does not do: it keeps the budget only for behaviour that it has seen before. A network
//! that grows worse costs mistakes until that is learnt. In the first hours, and in the first days
//! for budgets of one a day or less, the hard timeout and other observers are the protection.
//!
//! Sources: Chen, Toueg and Aguilera, "On the quality of service of failure detectors", IEEE
//! Transactions on Computers 51(5), 2002, for the schedule and the measures. Jacobson, "Congestion
//! avoidance and control", SIGCOMM 1988, for the mean absolute deviation. The rest is ours; the
//! book's chapter "Detectors" has the alternatives that were tried, and the measurements.

use std::time::Duration;

use super::schedule::{ClockDoubt, Schedule, instant, signed, span};
use super::tail::{Resolution, Tail, WHOLE_SLACK};
use super::{Arrival, Detector, Pause};
use crate::config::rate::MistakeRate;
use crate::time::{Instant, nanos};

/// The regime is lossy above this share of heartbeats that come after a loss: three losses in a
/// memory of a thousand heartbeats.
const LOSSY: f32 = 0.003;

/// Gain of the moving averages of losses.
const LOSS_GAIN: f32 = 1.0 / 1_000.0;

/// How many losses the estimate of burst lengths remembers, and the most that one counts: one
/// outage must not make every loss look like an outage.
const BURSTS: f32 = 50.0;
const BURST_MAX: u64 = 6;

/// Smallest gain of the moving averages of lateness.
const JITTER_GAIN: f64 = 1.0 / 64.0;

/// Lateness below this, in nanoseconds, comes from our own timer.
const JITTER_MIN: f64 = 500_000.0;

/// The longest margin, in intervals.
const MARGIN_MAX: f32 = 120.0;

/// Margin in the calm regime while nothing is known of it, in intervals: for an observer that
/// decides alone, and for one that asks others first.
const GUESS: f32 = 3.0;
const GUESS_WITH_SECOND_OPINION: f32 = 0.25;

/// The largest share of heartbeats after which a wrong suspicion may follow; `Config::check`
/// refuses more.
const SHARE_MAX: f64 = 0.1;

/// Heartbeats between two splits of the budget if no silence surprises.
const SPLIT_EVERY: u16 = 256;

/// Heartbeats between two updates of the loss regime if nothing is lost.
const REGIME_EVERY: u16 = 16;

/// The largest share of the budget that the lossy regime may get.
const LOSSY_SPEND_MAX: f64 = 0.5;

/// Suspects a target as rarely as the user asked.
#[derive(Clone, Debug)]
pub struct Budget {
    /// On its own, so that a table of detectors of many kinds stays small.
    state: Box<State>,
}

/// The state of one link: at most 512 bytes, all of it here.
#[derive(Clone, Debug)]
struct State {
    mistakes: MistakeRate,
    /// Wrong suspicions allowed for each heartbeat at the present interval, and the negative
    /// natural logarithm of it.
    p: f32,
    rarity: f32,
    schedule: Schedule,
    /// Usual lateness, in nanoseconds.
    base: f64,
    /// Mean absolute lateness past it, in nanoseconds.
    dev: f64,
    /// Chance that a heartbeat comes after a loss.
    enter: f32,
    /// Slots by which remembered losses were longer than one slot, and how many losses that were.
    more: f32,
    bursts: f32,
    /// Share of remembered losses after which the next heartbeat came in on time, so that the
    /// silence was a whole number of slots.
    whole: f32,
    /// Share of heartbeats in the lossy regime.
    lossy: f32,
    /// Slots that the margin covers in the present regime; zero if it is calm.
    slots: f32,
    /// Slots that the margin covers in the lossy regime, on average.
    sat_out: f32,
    /// Heartbeats learnt from.
    count: u32,
    /// Quantile of the calm tail, in intervals.
    long: f32,
    /// Margin while nothing is known, in intervals.
    guess: f32,
    /// Quantile of the lossy tail, in units of `slots` intervals.
    factor: f32,
    /// Heartbeats since the budget was last split.
    stale: u16,
    /// Whether a pause of ours lies in the silence now running.
    discounted: bool,
    clock_doubt: ClockDoubt,
    /// When the next heartbeat should come in.
    expected: Instant,
    deadline: Instant,
    calm_tail: Tail,
    lossy_tail: Tail,
}

const _: () = assert!(size_of::<State>() <= 512);

impl Budget {
    /// A detector that makes about so many `mistakes`, for a target that sends every `interval`,
    /// watched since `now`.
    pub fn new(mistakes: MistakeRate, interval: Duration, now: Instant) -> Budget {
        let mut state = Box::new(State {
            mistakes,
            p: 0.0,
            rarity: 0.0,
            schedule: Schedule::new(interval, now),
            base: 0.0,
            dev: 0.0,
            enter: 0.0,
            more: 0.0,
            bursts: 0.0,
            whole: 1.0,
            lossy: 0.0,
            slots: 0.0,
            sat_out: 0.0,
            count: 0,
            long: GUESS,
            guess: GUESS,
            factor: 1.0,
            stale: 0,
            discounted: true, // The time before the first heartbeat is no silence.
            clock_doubt: ClockDoubt::default(),
            expected: now,
            deadline: now,
            calm_tail: Tail::new(),
            lossy_tail: Tail::new(),
        });
        state.set_interval();
        state.set_deadline();
        Budget { state }
    }

    /// The same, for an observer that asks other observers before it suspects: a doubt is then
    /// cheap, and comes a quarter of an interval late while nothing is known.
    #[must_use]
    pub fn with_second_opinion(mut self) -> Budget {
        (self.state.guess, self.state.long) = (GUESS_WITH_SECOND_OPINION, GUESS_WITH_SECOND_OPINION);
        self
    }

    /// The silence after which a target with perfectly regular heartbeats is suspected as long as
    /// nothing is known of it.
    pub fn first_silence(interval: Duration) -> Duration {
        interval + interval.mul_f32(GUESS)
    }
}

impl State {
    fn interval(&self) -> f64 {
        self.schedule.interval() as f64
    }

    /// Derives the allowed rate from the interval that was just announced.
    fn set_interval(&mut self) {
        let interval = Duration::from_nanos(self.schedule.interval() as u64);
        let p = self.mistakes.per_heartbeat(interval).min(SHARE_MAX);
        (self.p, self.rarity) = (p as f32, -p.ln() as f32);
    }

    /// Lateness that the margin always covers, in nanoseconds.
    fn jitter(&self) -> f64 {
        self.dev * f64::from(self.rarity) + JITTER_MIN
    }

    /// The unit of the tail of the present regime, in nanoseconds.
    fn unit(&self) -> f64 {
        f64::from(if self.slots > 0.0 { self.slots } else { 1.0 }) * self.interval()
    }

    /// Determines the loss regime, and how long a burst of losses as rare as the budget would be.
    fn update_regime(&mut self) {
        self.slots = if self.enter <= LOSSY {
            0.0
        } else {
            let goes_on = (self.more + 0.5) / (self.more + self.bursts + 1.5);
            (1.0 + (self.p / self.enter).ln() / goes_on.ln()).ceil().max(1.0)
        };
    }

    fn resolution(&self) -> Resolution {
        if self.whole > 0.5 { Resolution::Whole } else { Resolution::Fine }
    }

    fn set_deadline(&mut self) {
        let bad = self.factor * self.slots;
        let intervals = match self.resolution() {
            Resolution::Fine | Resolution::Whole if self.slots == 0.0 => self.long,
            Resolution::Fine => bad,
            Resolution::Whole => (bad - WHOLE_SLACK).ceil() + WHOLE_SLACK,
        };
        let interval = self.interval();
        let margin = self.jitter().max(f64::from(intervals) * interval).min(f64::from(MARGIN_MAX) * interval);
        self.expected = instant(self.schedule.next_due().saturating_add(self.base as i64));
        self.deadline = self.expected + Duration::from_nanos(margin as u64);
    }

    /// Moves the deadline, and with it what is expected, to no earlier than this.
    fn extend_to(&mut self, deadline: Instant) {
        if deadline > self.deadline {
            self.expected += deadline - self.deadline;
            self.deadline = deadline;
            self.discounted = true;
        }
    }

    fn heartbeat(&mut self, arrival: Arrival) {
        let (interval, newest) = (self.interval(), self.schedule.newest());
        let place = self.schedule.heartbeat(arrival, self.base as i64, &mut self.clock_doubt);
        if place.anew {
            self.base = place.late as f64;
        } else if !arrival.waited && !place.moved {
            let late = place.late as f64 - self.base;
            self.learn_silence(newest, self.unit());
            self.learn_jitter(late, interval);
            let lost = arrival.slots.saturating_sub(arrival.slept.saturating_add(1));
            if !self.discounted {
                self.learn_loss(lost, late.abs() <= f64::from(WHOLE_SLACK) * interval);
            }
        }
        self.discounted = false;
        if span(arrival.interval) != interval as i64 {
            self.set_interval();
            self.stale = SPLIT_EVERY;
        }
        if arrival.slots > 1 || self.stale.is_multiple_of(REGIME_EVERY) {
            self.update_regime();
        }
        if self.stale >= SPLIT_EVERY {
            self.stale = 0;
            self.split_budget();
        }
        self.set_deadline();
        if arrival.waited {
            self.extend_to(arrival.at + arrival.interval);
        }
    }

    /// Enters the silence that ends with the heartbeat just placed, in this unit; the one before it
    /// arrived at `before`.
    fn learn_silence(&mut self, before: i64, unit: f64) {
        let awaited = signed(self.expected);
        let over = (self.schedule.newest() - awaited) as f64;
        let (is_lossy, is_surprising) = (self.slots > 0.0, over > self.jitter());
        let tail = if is_lossy { &mut self.lossy_tail } else { &mut self.calm_tail };
        // Eight times what it takes to see one such silence; for strict budgets as many as ten days
        // at ten a second, for loose ones three hours.
        let memory = (8.0 / f64::from(self.p)).clamp(1e5, 1e7);
        tail.count(memory);
        self.stale = self.stale.saturating_add(1);
        if is_surprising {
            tail.enter(((before - awaited) as f64 / unit) as f32, (over / unit) as f32);
            if over > 0.5 * unit {
                self.stale = SPLIT_EVERY;
            }
        }
        let gain = (1.0 / memory).max(1.0 / (f64::from(self.count) + 2.0)) as f32;
        self.lossy += (f32::from(u8::from(is_lossy)) - self.lossy) * gain;
        if is_lossy {
            self.sat_out += (self.slots - self.sat_out) * LOSS_GAIN;
        }
    }

    fn learn_jitter(&mut self, late: f64, interval: f64) {
        let gain = JITTER_GAIN.max(1.0 / (f64::from(self.count) + 2.0));
        // The first few have no spread to be measured against yet.
        let dev = if self.count < 10 { interval } else { self.dev };
        self.base += gain * late.clamp(-4.0 * dev, 4.0 * dev);
        // Lateness of more than an interval is no jitter.
        self.dev = (self.dev + gain * (late.abs().min(8.0 * dev) - self.dev)).min(interval);
        self.count = self.count.saturating_add(1);
    }

    /// Learns that so many heartbeats were lost before one that came in `on_time`.
    fn learn_loss(&mut self, lost: u64, on_time: bool) {
        self.enter += (f32::from(u8::from(lost > 0)) - self.enter) * LOSS_GAIN;
        if lost > 0 {
            let keep = 1.0 - 1.0 / BURSTS;
            self.more = self.more * keep + (lost - 1).min(BURST_MAX - 1) as f32;
            self.bursts = self.bursts * keep + 1.0;
            self.whole += (f32::from(u8::from(on_time)) - self.whole) / BURSTS;
        }
    }

    /// Splits the budget between the calm and the lossy regime so that the mean margin is smallest.
    fn split_budget(&mut self) {
        let p = f64::from(self.p);
        let lossy = f64::from(self.lossy);
        let mut least = f32::INFINITY;
        let mut times = 1.0;
        while times == 1.0 || lossy * times <= LOSSY_SPEND_MAX && p * times <= SHARE_MAX {
            let p_calm = p * (1.0 - lossy * times) / (1.0 - lossy).max(0.01);
            let (calm, bad) = (&self.calm_tail, &self.lossy_tail);
            let beyond = || (calm.longest() * calm.stretch(p_calm)).max(self.guess);
            let long = calm.quantile(p_calm, self.resolution()).unwrap_or_else(beyond);
            let p_bad = p * times;
            let factor = bad.quantile(p_bad, Resolution::Fine).unwrap_or_else(|| bad.longest().max(1.0));
            let mean = (1.0 - self.lossy) * long + self.lossy * (factor * self.sat_out).min(MARGIN_MAX);
            if mean < least {
                (least, self.long, self.factor) = (mean, long, factor);
            }
            times *= 2.0;
        }
    }
}

impl Detector for Budget {
    fn heartbeat(&mut self, arrival: Arrival) {
        self.state.heartbeat(arrival);
    }

    fn deadline(&self) -> Instant {
        self.state.deadline
    }

    fn expected(&self) -> Instant {
        self.state.expected
    }

    /// Calibrated: the share of heartbeats in this regime before which the silence past the
    /// expected arrival was longer than the present one. Beyond the longest silence remembered it
    /// is extrapolated. "Phi 6" is one in a million *as measured*.
    fn phi(&self, now: Instant) -> f64 {
        let state = &*self.state;
        let over = nanos(now - state.expected) as f64;
        if over == 0.0 {
            return 0.0;
        }
        let tail = if state.slots > 0.0 { &state.lossy_tail } else { &state.calm_tail };
        let jitter = (-(over - JITTER_MIN).max(0.0) / state.dev.max(1.0)).exp();
        -tail.share_above((over / state.unit()) as f32).max(jitter).min(1.0).log10()
    }

    fn discount_pause(&mut self, pause: Pause) {
        let interval = Duration::from_nanos(self.state.schedule.interval() as u64);
        self.state.clock_doubt = ClockDoubt::BEGUN;
        let deadline = pause.discount(self.state.deadline, interval);
        self.state.extend_to(deadline);
    }

    fn extend(&mut self, now: Instant) {
        let state = &mut *self.state;
        let margin = state.deadline - state.expected;
        let interval = Duration::from_nanos(state.schedule.interval() as u64);
        state.extend_to(now + interval + margin);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{Alive, Suspect};
    use super::super::tests::{beat, pause};
    use super::*;
    use crate::random::Random;

    const INTERVAL_MS: u64 = 100;

    fn budget(per_hour: f64) -> Budget {
        Budget::new(MistakeRate::new(per_hour).unwrap(), Duration::from_millis(INTERVAL_MS), Instant::ZERO)
    }

    /// A sender with a millisecond of jitter whose heartbeats are lost with this chance: slots from
    /// 1, and the detector's mistakes.
    struct Link {
        budget: Budget,
        random: Random,
        slot: u64,
        newest: u64,
        mistakes: u64,
    }

    impl Link {
        fn new(per_hour: f64) -> Link {
            Link { budget: budget(per_hour), random: Random::seeded(7), slot: 0, newest: 0, mistakes: 0 }
        }

        fn due(&self) -> Instant {
            Instant::from_millis(self.slot * INTERVAL_MS)
        }

        fn beats(&mut self, count: u64, loss: f64) {
            for _ in 0..count {
                self.slot += 1;
                let at = self.due() + Duration::from_micros(self.random.below(1_000));
                if !self.random.chance(loss) {
                    self.mistakes += u64::from(self.budget.verdict(at) == Suspect);
                    let slots = self.slot - self.newest;
                    self.newest = self.slot;
                    self.budget.heartbeat(Arrival { at, slots, ..beat(0, INTERVAL_MS) });
                }
            }
        }

        /// From the slot awaited now to the deadline.
        fn margin(&self) -> Duration {
            self.budget.deadline() - (self.due() + Duration::from_millis(INTERVAL_MS))
        }
    }

    #[test]
    fn a_regular_link_once_learnt_is_suspected_within_milliseconds() {
        let mut link = Link::new(1.0);
        link.beats(10_000, 0.0);
        assert!(link.margin() > Duration::from_millis(250), "{:?}", link.margin());
        link.beats(40_000, 0.0);
        assert!(link.margin() < Duration::from_millis(10), "{:?}", link.margin());
        assert_eq!((link.mistakes, link.budget.verdict(link.budget.deadline())), (0, Alive));
    }

    #[test]
    fn the_budget_is_kept_where_much_is_lost() {
        for (per_hour, loss) in [(10.0, 0.01), (10.0, 0.3), (60.0, 0.1), (60.0, 0.5)] {
            let mut link = Link::new(per_hour);
            link.beats(36_000, loss);
            link.mistakes = 0;
            link.beats(720_000, loss);
            let rate = link.mistakes as f64 / 20.0;
            assert!(rate <= per_hour * 1.2, "{rate} an hour at {per_hour} an hour and loss {loss}");
        }
    }

    #[test]
    fn a_stricter_budget_waits_longer() {
        let margins = [60.0, 10.0, 1.0, 1.0 / 24.0].map(|per_hour| {
            let mut link = Link::new(per_hour);
            link.beats(100_000, 0.1);
            link.margin()
        });
        assert!(margins.is_sorted() && margins[0] < margins[3], "{margins:?}");
    }

    #[test]
    fn a_lossy_regime_passes() {
        let mut link = Link::new(1.0);
        link.beats(100_000, 0.0);
        link.beats(2_000, 0.3);
        let bad = link.margin();
        link.beats(10_000, 0.0);
        assert!(
            bad > Duration::from_millis(500) && link.margin() < Duration::from_millis(200),
            "{bad:?}, {:?}",
            link.margin()
        );
    }

    #[test]
    fn phi_is_calibrated() {
        let mut link = Link::new(10.0);
        link.beats(360_000, 0.01);
        // One in a hundred heartbeats is lost, one in ten thousand two in a row.
        let phi = |millis: u64| link.budget.phi(link.budget.expected() + Duration::from_millis(millis));
        assert_eq!(phi(0), 0.0);
        assert!((phi(60) - 2.0).abs() < 0.3 && (phi(150) - 4.0).abs() < 0.6, "{} {}", phi(60), phi(150));
        let values: Vec<f64> = (0..2_000).map(phi).collect();
        assert!(values.is_sorted() && values.iter().all(|phi| phi.is_finite()), "{values:?}");
        let asked = -MistakeRate::new(10.0).unwrap().per_heartbeat(Duration::from_millis(INTERVAL_MS)).log10();
        let answered = link.budget.phi(link.budget.deadline());
        assert!((answered - asked).abs() < 1.0, "phi {answered} at the deadline, {asked} asked for");
    }

    #[test]
    fn slots_that_were_slept_through_are_no_loss() {
        let mut link = Link::new(1.0);
        link.beats(50_000, 0.0);
        for _ in 0..20 {
            link.slot += 10;
            link.newest = link.slot;
            link.budget.heartbeat(Arrival { at: link.due(), slots: 10, slept: 9, ..beat(0, INTERVAL_MS) });
            link.beats(30, 0.0);
        }
        assert_eq!(link.budget.state.enter, 0.0);
        assert!(link.margin() > Duration::from_millis(900), "{:?}", link.margin());
    }

    #[test]
    fn a_pause_of_ours_is_no_silence_and_teaches_nothing() {
        let mut link = Link::new(1.0);
        link.beats(50_000, 0.0);
        let (before, due) = (link.margin(), link.slot * INTERVAL_MS);
        link.budget.discount_pause(pause(due + 50, due + 5_050));
        assert_eq!(link.budget.verdict(Instant::from_millis(due + 5_150)), Alive);
        for _ in 0..50 {
            link.budget.heartbeat(Arrival { waited: true, ..beat(due + 5_050, INTERVAL_MS) });
        }
        assert_eq!(link.budget.verdict(Instant::from_millis(due + 5_150)), Alive);
        link.slot += 50;
        link.newest = link.slot;
        link.beats(10, 0.0);
        assert!(link.margin().abs_diff(before) < Duration::from_millis(1), "{before:?} {:?}", link.margin());
    }

    #[test]
    fn another_interval_is_followed_without_a_suspicion() {
        let mut budget = budget(1.0);
        let mut now = 0;
        for interval in [100, 1_000, 100, 4_000, 50] {
            budget.heartbeat(beat(now, interval));
            for _ in 0..2_000 {
                now += interval;
                assert_eq!(budget.verdict(Instant::from_millis(now)), Alive, "interval {interval} ms");
                budget.heartbeat(beat(now, interval));
            }
            now += interval;
        }
    }

    #[test]
    fn a_sign_of_life_outside_the_schedule_extends_the_deadline() {
        let mut link = Link::new(1.0);
        link.beats(50_000, 0.0);
        let late = link.budget.deadline() + Duration::from_secs(1);
        link.budget.extend(late);
        assert!(link.budget.deadline() >= late + Duration::from_millis(INTERVAL_MS));
        let deadline = link.budget.deadline();
        link.budget.extend(Instant::ZERO);
        assert_eq!(link.budget.deadline(), deadline);
    }
}
