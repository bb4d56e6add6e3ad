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
//! not move them. The margin is never below jitter = dev * reach + 0.5 ms. A [`Body`] counts how
//! lateness is distributed; reach is the quantile of it, and ln(1/p) at most and at first, as if
//! the distribution were exponential.
//!
//! **Which heartbeat to expect from.** Most senders keep to a schedule. A sender that sleeps an
//! interval after each heartbeat does not: its next heartbeat depends on when the last one came.
//! So the detector also learns by how much a heartbeat comes later than an interval after the one
//! before it, and how far it is off from that. Where that is off by less than 0.7 of `dev`, and
//! `dev` is over interval / 32, the next heartbeat is expected from the last arrival.
//!
//! **Slipped schedules.** After a heartbeat that was late by more than jitter, the next one is
//! expected no sooner than an interval later. If the schedule has slipped (the sender's clock stood
//! still), all heartbeats after it are as late, and none of them is news: one pause is one
//! suspicion. Silences are counted past the same expectation, also those that end with a new
//! time-table.
//!
//! **Loss regime.** The detector estimates two numbers: `enter`, the share of heartbeats that come
//! after a loss (gain 1/1000), and r, the chance that a loss is followed by another one. While
//! `enter` is over 0.003 (three losses in memory), the regime is *lossy*. The detector then waits
//! for n = 1 + ln(p / enter) / ln r slots, rounded up: a geometric burst is longer with chance p.
//! Otherwise the regime is *calm*. A heartbeat that comes in after a later one was not lost, and is
//! taken back.
//!
//! **Tails.** Each regime has a [`Tail`], which counts how often `over` had which length. In the
//! calm regime the unit is the interval. In the lossy one it is n * eta, so that the memory
//! corrects the model. Where most silences are losses after which heartbeats arrive on time, they
//! are whole slots: the margin covers all of a slot, or nothing of it.
//!
//! ```text
//! margin   = max(jitter, long * eta)         calm; long: quantile of the calm tail, in intervals
//! margin   = max(jitter, factor * n * eta)   lossy; factor: quantile of the lossy tail, no unit
//! deadline = expected + min(margin, most)
//! most     = 0.9 * (timeout - eta)           120 * eta where no timeout is known
//! ```
//!
//! **The timeout.** Past `timeout` the target is dead in any case. Where the quantile is longer
//! than `most`, the budget cannot be kept. Then the detector waits up to the knee of the curve: as
//! long as more patience would prevent a fifth of the mistakes. [`Budget::kept_at`] says what it
//! keeps.
//!
//! **Bursts.** Mistakes come in clusters. After one, the margin is at least 1.5 times the silence
//! that led to it, for 0.4 % of the heartbeats between two mistakes; no longer than 512 of them,
//! and not at all if that is under 8. Silences that this covers are not entered in the tail.
//!
//! **Overspending.** Mistakes made and mistakes allowed are counted, over eight budgets or more. If
//! more than two too many were made, the detector plans for a smaller p, down to a fifth.
//!
//! **Splitting the budget.** A second of margin prevents fewer mistakes in the lossy regime than in
//! the calm one, so the budget is not spread evenly. With w the share of time that is lossy, each
//! split fulfils (1 - w) * p_calm + w * p_lossy = p. The detector tries p_lossy = p, 2 p, 4 p, ...,
//! and takes the split with the smallest mean margin. The budget holds on average over days, not in
//! every hour.
//!
//! **Cold start.** A tail that has seen fewer than 1 / (2 p) heartbeats cannot know so rare a
//! silence. It takes the longest silence it has seen, stretched by a power law, or a guess if that
//! is longer: three intervals at first, less the more was seen, and a quarter of one if other
//! observers are asked before a suspicion. A node that watches others already starts from their
//! tails ([`Budget::starting_from`]).
//!
//! **Change of observers.** What former observers have learnt of the target is a floor of the
//! margin ([`Budget::start_from`]), until heartbeats for one mistake were seen here. It is of this
//! target, and the tails of other links are not, so the longer margin counts. As a floor, a summary
//! that is wrong costs time, and no mistakes.
//!
//! What it does not do: it keeps the budget only for behaviour that it has seen before. A network
//! that grows worse costs mistakes until that is learnt. In the first hours, and in the first days
//! for budgets of one a day or less, the hard timeout and other observers are the protection.
//!
//! Sources: Chen, Toueg and Aguilera, "On the quality of service of failure detectors", IEEE
//! Transactions on Computers 51(5), 2002, for the schedule and the measures. Jacobson, "Congestion
//! avoidance and control", SIGCOMM 1988, for the mean absolute deviation. The rest is ours; the
//! book's chapter "Detectors" has the alternatives that were tried, and the measurements.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::body::Body;
use super::figures::BudgetFigures;
use super::schedule::{ClockDoubt, Schedule, instant, signed, span};
use super::summary::LinkSummary;
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

/// Heartbeats that are remembered for each mistake that the budget allows: a memory of eight moves
/// the quantile by chance, and each move costs time or mistakes.
const MEMORY: f32 = 24.0;

/// The shares that one heartbeat more forgets of all before it. For strict budgets, twenty days at
/// ten a second are remembered, for loose ones six hours.
const FORGETTING: RangeInclusive<f32> = 5e-8..=5e-6;

/// Smallest gain of the moving averages of lateness.
const JITTER_GAIN: f64 = 1.0 / 64.0;

/// Lateness below this, in nanoseconds, comes from our own timer.
const JITTER_MIN: f64 = 500_000.0;

/// Up to this share of the time from the next heartbeat to the timeout, waiting is worth something.
/// Other observers still have to be asked before the target is dead.
const USEFUL: f32 = 0.9;

/// The longest margin where no timeout is known, in intervals.
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

/// The last arrival may predict the next one better than the schedule only where lateness is more
/// than this share of an interval; below that the difference is not worth a change.
const LAGGING_MIN: f64 = 1.0 / 32.0;

/// And only if its error is smaller than that of the schedule by this factor: for independent
/// delays it is larger by the square root of two.
const LAGGING_SHARE: f64 = 0.7;

/// After a mistake the margin is so many times the silence that led to it, for this share of the
/// heartbeats from one mistake to the next. A loose budget leaves too few of them for it to be
/// worth anything.
const BURST_STRETCH: f64 = 1.5;
const BURST_SHARE: f32 = 0.004;
const BURST_BEATS_MIN: f32 = 8.0;
const BURST_BEATS_MAX: f32 = 512.0;

/// Where the budget cannot be kept, a longer margin is worth it only if it prevents this share of
/// the mistakes.
const KNEE: f64 = 0.8;

/// Mistakes, beyond those allowed, that are taken to be chance.
const CHANCE: f32 = 2.0;

/// The least share of the budget that is planned for after it was overspent.
const PLAN_MIN: f32 = 0.2;

/// Heartbeats below which a detector has no summary to give: its jitter is not known.
const SUMMARY_MIN: u32 = 16;

/// A silence that was rounded up to a step of a summary is at most so many units longer than a
/// whole number of them, as far as it is sat out whole.
const ROUNDED_SLACK: f32 = 2.0 * WHOLE_SLACK;

/// Suspects a target as rarely as the user asked.
#[derive(Clone, Debug)]
pub struct Budget {
    /// On its own, so that a table of detectors of many kinds stays small.
    state: Box<State>,
}

/// The state of one link: at most 768 bytes, all of it here.
#[derive(Clone, Debug)]
struct State {
    mistakes: MistakeRate,
    /// Wrong suspicions allowed for each heartbeat at the present interval, and the negative
    /// natural logarithm of it.
    p: f32,
    rarity: f32,
    /// The share of `p` that is planned for, since more mistakes than allowed were made.
    plan: f32,
    /// Mistakes that were made, and that were allowed. Both fade.
    made: f32,
    allowed: f64,
    /// Silence past which the target is dead in any case; zero if there is no such bound.
    /// Nanoseconds.
    timeout: f64,
    /// The longest margin that is worth anything, in intervals.
    most: f32,
    schedule: Schedule,
    /// Usual lateness, in nanoseconds.
    base: f64,
    /// Mean absolute lateness past it, in nanoseconds.
    dev: f64,
    /// By how much a heartbeat usually comes later than an interval after the one before it, and
    /// the mean absolute difference from that. Nanoseconds.
    lag: f64,
    lag_dev: f64,
    /// Whether the last arrival predicts the next one better than the schedule does.
    lagging: bool,
    /// Lateness past which heartbeats are late, and not just jitter, in units of the deviation.
    reach: f32,
    /// Chance that a heartbeat comes after a loss.
    enter: f32,
    /// Slots by which remembered losses were longer than one slot, and how many losses that were.
    more: f32,
    bursts: f32,
    /// Share of remembered silences that were a whole number of slots: losses after which the next
    /// heartbeat came in on time.
    whole: f32,
    /// How many silences were remembered; it stops at the largest number.
    surprises: u8,
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
    /// Share of heartbeats after which a mistake follows, where the budget cannot be kept below the
    /// timeout; zero where it can, or where too little was seen to say so.
    unkept: f32,
    /// Quantile of the lossy tail, in units of `slots` intervals.
    factor: f32,
    /// What the tail of the present regime asks for, in intervals: it changes with what is above.
    patience: f32,
    /// Least margin after a mistake, in nanoseconds, and for how many more heartbeats.
    burst: f64,
    burst_left: u16,
    /// What former observers have learnt of the target, and the least margin that follows from it,
    /// in intervals; zero if nothing does.
    summary: Option<LinkSummary>,
    inherited: f32,
    /// Heartbeats since the budget was last split.
    stale: u16,
    /// Whether a pause of ours lies in the silence now running.
    discounted: bool,
    clock_doubt: ClockDoubt,
    /// When the next heartbeat should come in.
    expected: Instant,
    deadline: Instant,
    body: Body,
    calm_tail: Tail,
    lossy_tail: Tail,
}

const _: () = assert!(size_of::<State>() <= Budget::LINK_BYTES_MAX);

impl Budget {
    /// What it keeps of one link, in bytes at most.
    pub(crate) const LINK_BYTES_MAX: usize = 768;

    /// A detector that makes about so many `mistakes`, for a target that sends every `interval`,
    /// watched since `now`.
    pub fn new(mistakes: MistakeRate, interval: Duration, now: Instant) -> Budget {
        let mut state = Box::new(State {
            mistakes,
            p: 0.0,
            rarity: 0.0,
            plan: 1.0,
            made: 0.0,
            allowed: 0.0,
            timeout: 0.0,
            most: MARGIN_MAX,
            schedule: Schedule::new(interval, now),
            base: 0.0,
            dev: 0.0,
            lag: 0.0,
            lag_dev: 0.0,
            lagging: false,
            reach: 0.0,
            enter: 0.0,
            more: 0.0,
            bursts: 0.0,
            whole: 1.0,
            surprises: 0,
            lossy: 0.0,
            slots: 0.0,
            sat_out: 0.0,
            count: 0,
            long: GUESS,
            guess: GUESS,
            unkept: 0.0,
            factor: 1.0,
            patience: 0.0,
            burst: 0.0,
            burst_left: 0,
            summary: None,
            inherited: 0.0,
            stale: 0,
            discounted: true, // The time before the first heartbeat is no silence.
            clock_doubt: ClockDoubt::default(),
            expected: now,
            deadline: now,
            body: Body::new(),
            calm_tail: Tail::new(),
            lossy_tail: Tail::new(),
        });
        state.set_interval();
        state.set_patience();
        state.set_deadline(0.0);
        Budget { state }
    }

    /// The same, for an observer that asks other observers before it suspects: a doubt is then
    /// cheap, and comes a quarter of an interval late while nothing is known.
    #[must_use]
    pub fn with_second_opinion(mut self) -> Budget {
        (self.state.guess, self.state.long) = (GUESS_WITH_SECOND_OPINION, GUESS_WITH_SECOND_OPINION);
        self.state.set_patience();
        self
    }

    /// The same, for a target that is dead after a silence of `timeout` in any case: it waits no
    /// longer than that, and where the budget cannot be kept within it, only as long as waiting
    /// prevents mistakes.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Budget {
        self.state.timeout = nanos(timeout) as f64;
        self.state.set_most();
        self
    }

    /// The same, for a target of which nothing is known yet: it starts from the silences of the
    /// other targets of this node. They weigh together as much as the heartbeats between two
    /// mistakes, at most. So the target's own silences count for more after as many heartbeats.
    #[must_use]
    pub fn starting_from<'a>(mut self, others: impl Iterator<Item = &'a Budget>) -> Budget {
        let state = &mut *self.state;
        for other in others {
            state.calm_tail.add(&other.state.calm_tail);
            state.lossy_tail.add(&other.state.lossy_tail);
        }
        for tail in [&mut state.calm_tail, &mut state.lossy_tail] {
            tail.weigh_at_most(1.0 / f64::from(state.p));
        }
        // Used from the first heartbeat on. Until then no more is known of it than of any target.
        state.split_budget();
        self
    }

    /// Takes what former observers have learnt of the target; only the first summary counts. It is
    /// a floor: no margin is shorter than without it, and none is longer than the timeout makes
    /// worth it. It counts until heartbeats for one mistake were seen.
    pub fn start_from(&mut self, summary: LinkSummary) {
        let state = &mut *self.state;
        if state.summary.is_some() {
            return;
        }
        state.summary = Some(summary);
        state.inherited = state.inherited_margin();
        state.long = state.long.max(state.inherited);
        state.set_patience();
        let margin = state.margin().min(f64::from(state.most) * state.interval());
        state.deadline = state.deadline.max(state.expected + Duration::from_nanos(margin as u64));
    }

    /// What it has learnt, for other observers of the target; `None` while that is too little. It
    /// does not hold what the detector itself took from a summary.
    pub fn summary(&self) -> Option<LinkSummary> {
        let state = &*self.state;
        let jitter = (state.jitter() / state.interval()) as f32;
        (state.count >= SUMMARY_MIN)
            .then(|| LinkSummary::new(jitter, state.whole, state.count, |share| state.silence(share)))
    }

    /// Mistakes in an hour, where the budget cannot be kept below the timeout: so many silences are
    /// longer than any margin that is worth anything. `None` where it is kept, and until heartbeats
    /// for one mistake were seen, with more such silences than chance explains.
    pub fn kept_at(&self) -> Option<f64> {
        let state = &*self.state;
        let share = f64::from(state.unkept);
        (share > f64::from(state.p)).then(|| share / (state.interval() / 3.6e12))
    }

    /// Mistakes that it may make.
    pub fn mistakes(&self) -> MistakeRate {
        self.state.mistakes
    }

    /// What it has learnt, for people.
    pub fn figures(&self) -> BudgetFigures {
        let state = &*self.state;
        let span = |nanos: f64| Duration::from_nanos(nanos as u64);
        let tail = if state.slots > 0.0 { &state.lossy_tail } else { &state.calm_tail };
        BudgetFigures {
            heartbeats: state.count,
            interval: span(state.interval()),
            allowed_per_hour: state.mistakes.per_hour(),
            made: f64::from(state.made),
            allowed: state.allowed,
            kept_at: self.kept_at(),
            is_lossy: state.slots > 0.0,
            loss: f64::from(state.enter),
            jitter: span(state.jitter()),
            margin: state.deadline - state.expected,
            longest: span(f64::from(tail.longest()) * state.unit()),
        }
    }

    /// How many lost heartbeats in a row it can wait for below `timeout`.
    pub(crate) fn losses_max(interval: Duration, timeout: Duration) -> u32 {
        margin_max(nanos(interval) as f64, nanos(timeout) as f64) as u32
    }

    /// The shortest timeout below which it can wait for so many lost heartbeats in a row.
    pub(crate) fn timeout_for(losses: u32, interval: Duration) -> Duration {
        interval + interval.mul_f64(f64::from(losses) / f64::from(USEFUL))
    }

    /// The silence after which a target with perfectly regular heartbeats is suspected as long as
    /// nothing is known of it.
    pub fn first_silence(interval: Duration) -> Duration {
        interval + interval.mul_f32(GUESS)
    }
}

/// The longest margin that is worth anything below a timeout, in intervals. Both in nanoseconds.
fn margin_max(interval: f64, timeout: f64) -> f32 {
    // As the monitor has it: two intervals where the timeout is shorter than one.
    let patience = if interval < timeout { timeout } else { 2.0 * interval };
    USEFUL * (patience / interval - 1.0) as f32
}

impl State {
    fn interval(&self) -> f64 {
        self.schedule.interval() as f64
    }

    /// Derives the allowed rate and the longest margin from the interval that was just announced.
    fn set_interval(&mut self) {
        let interval = Duration::from_nanos(self.schedule.interval() as u64);
        let p = self.mistakes.per_heartbeat(interval).min(SHARE_MAX);
        (self.p, self.rarity) = (p as f32, -p.ln() as f32);
        self.reach = self.rarity;
        self.set_most();
    }

    fn set_most(&mut self) {
        self.most = if self.timeout == 0.0 { MARGIN_MAX } else { margin_max(self.interval(), self.timeout) };
    }

    /// Mean absolute difference of an arrival from what was expected, in nanoseconds.
    fn spread(&self) -> f64 {
        if self.lagging { self.lag_dev } else { self.dev }
    }

    /// Lateness that the margin always covers, in nanoseconds.
    fn jitter(&self) -> f64 {
        self.spread() * f64::from(self.reach) + JITTER_MIN
    }

    /// The unit of the tail of the present regime, in nanoseconds.
    fn unit(&self) -> f64 {
        f64::from(if self.slots > 0.0 { self.slots } else { 1.0 }) * self.interval()
    }

    /// Determines the loss regime, and how long a burst of losses as rare as the budget would be.
    /// Also which of the two ways to expect a heartbeat is better.
    fn update_regime(&mut self) {
        self.slots = if self.enter <= LOSSY {
            0.0
        } else {
            let goes_on = (self.more + 0.5) / (self.more + self.bursts + 1.5);
            (1.0 + (self.p / self.enter).ln() / goes_on.ln()).ceil().max(1.0)
        };
        self.lagging = self.dev > self.interval() * LAGGING_MIN && self.lag_dev < self.dev * LAGGING_SHARE;
        self.set_patience();
    }

    fn resolution(&self) -> Resolution {
        if self.whole > 0.5 { Resolution::Whole } else { Resolution::Fine }
    }

    /// Derives the patience from the tail of the present regime.
    fn set_patience(&mut self) {
        let bad = (self.factor * self.slots).max(self.inherited);
        self.patience = match self.resolution() {
            Resolution::Fine | Resolution::Whole if self.slots == 0.0 => self.long,
            Resolution::Fine => bad,
            Resolution::Whole => (bad - WHOLE_SLACK).ceil() + WHOLE_SLACK,
        };
    }

    /// The margin without what a burst of mistakes adds to it, in nanoseconds.
    fn margin(&self) -> f64 {
        self.jitter().max(f64::from(self.patience) * self.interval())
    }

    /// Sets what is expected after a heartbeat that came so much later than the schedule says.
    #[inline]
    fn set_deadline(&mut self, late: f64) {
        let from_arrival = self.schedule.newest() as f64 + self.interval();
        let expected = if self.lagging {
            from_arrival + self.lag
        } else {
            let scheduled = self.schedule.next_due() as f64 + self.base;
            // If it is late by more than jitter, the schedule may have slipped. Then all after it
            // are as late, and none of them is news.
            if late > self.jitter() { from_arrival.max(scheduled) } else { scheduled }
        };
        let mut margin = self.margin();
        if self.burst_left > 0 {
            margin = margin.max(self.burst);
        }
        let margin = margin.min(f64::from(self.most) * self.interval());
        self.expected = instant(expected as i64);
        self.deadline = Instant::from_nanos(self.expected.as_nanos().saturating_add(margin as u64));
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
        let (interval, before) = (self.interval(), self.schedule.newest());
        let place = self.schedule.heartbeat(arrival, self.base as i64, &mut self.clock_doubt);
        let late = if place.anew { 0.0 } else { place.late as f64 - self.base };
        // The share of one heartbeat in all that were seen.
        let newness = 1.0 / (f64::from(self.count) + 2.0);
        let lost = arrival.slots.saturating_sub(arrival.slept.saturating_add(1));
        let on_time = late.abs() <= f64::from(WHOLE_SLACK) * interval;
        if !(arrival.waited || place.moved || place.anew && self.discounted) {
            self.learn_silence(arrival.at, lost > 0 && on_time && !place.anew, newness);
        }
        if place.anew {
            self.base = place.late as f64;
        } else if !arrival.waited && !place.moved {
            let gap = (self.schedule.newest() - before) as f64 - interval;
            let gap = (arrival.slots == 1 && !self.discounted).then_some(gap);
            self.learn_jitter(late, gap, interval, newness);
            if !self.discounted {
                self.learn_loss(lost);
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
        self.set_deadline(late);
        if arrival.waited {
            self.extend_to(arrival.at + arrival.interval);
        }
    }

    /// Enters the silence that ends with the heartbeat that arrived `at`. `is_loss`: it was a whole
    /// number of slots.
    fn learn_silence(&mut self, at: Instant, is_loss: bool, newness: f64) {
        let over = (signed(at) - signed(self.expected)) as f64;
        let (is_lossy, is_surprising) = (self.slots > 0.0, over > self.jitter());
        let forgetting = (self.p * (1.0 / MEMORY)).clamp(*FORGETTING.start(), *FORGETTING.end());
        let unit = self.unit();
        let is_covered = self.burst_left > 0 && over <= self.burst && over > self.margin();
        let tail = if is_lossy { &mut self.lossy_tail } else { &mut self.calm_tail };
        tail.count(f64::from(forgetting));
        self.stale = self.stale.saturating_add(1);
        self.allowed += f64::from(self.p);
        self.burst_left = self.burst_left.saturating_sub(1);
        if is_surprising {
            // What the margin after a mistake covers needs no longer one at other times.
            if !is_covered {
                tail.enter((over / unit) as f32);
            }
            self.surprises = self.surprises.saturating_add(1);
            let gain = 1.0 / f32::from(self.surprises).min(BURSTS);
            self.whole += (f32::from(u8::from(is_loss)) - self.whole) * gain;
            self.set_patience();
            if over > 0.5 * unit {
                self.stale = SPLIT_EVERY;
            }
        }
        if at > self.deadline {
            self.note_mistake(over);
        }
        let gain = forgetting.max(newness as f32);
        self.lossy += (f32::from(u8::from(is_lossy)) - self.lossy) * gain;
        if is_lossy {
            self.sat_out += (self.slots - self.sat_out) * LOSS_GAIN;
        }
    }

    /// A silence of this much past the expected arrival was suspected, and the target was alive.
    fn note_mistake(&mut self, over: f64) {
        self.made += 1.0;
        let beats = (BURST_SHARE / self.p).min(BURST_BEATS_MAX);
        if beats < BURST_BEATS_MIN {
            return;
        }
        let former = if self.burst_left > 0 { self.burst } else { 0.0 };
        self.burst = former.max(over * BURST_STRETCH);
        self.burst_left = beats as u16;
    }

    fn learn_jitter(&mut self, late: f64, gap: Option<f64>, interval: f64, newness: f64) {
        let gain = JITTER_GAIN.max(newness);
        // The first few have no spread to be measured against yet.
        let is_new = self.count < 10;
        let dev = if is_new { interval } else { self.dev };
        self.base += gain * late.clamp(-4.0 * dev, 4.0 * dev);
        // Lateness of more than an interval is no jitter.
        self.dev = (self.dev + gain * (late.abs().min(8.0 * dev) - self.dev)).min(interval);
        if let Some(gap) = gap {
            let dev = if is_new { interval } else { self.lag_dev };
            let off = gap - self.lag;
            self.lag += gain * off.clamp(-4.0 * dev, 4.0 * dev);
            self.lag_dev = (self.lag_dev + gain * (off.abs().min(8.0 * dev) - self.lag_dev)).min(interval);
            if !self.lagging {
                self.body.count((late / self.dev.max(1.0)) as f32);
            } else {
                self.body.count((off / self.lag_dev.max(1.0)) as f32);
            }
        }
        self.count = self.count.saturating_add(1);
    }

    /// Learns that so many heartbeats were lost.
    fn learn_loss(&mut self, lost: u64) {
        self.enter += (f32::from(u8::from(lost > 0)) - self.enter) * LOSS_GAIN;
        if lost > 0 {
            let keep = 1.0 - 1.0 / BURSTS;
            self.more = self.more * keep + (lost - 1).min(BURST_MAX - 1) as f32;
            self.bursts = self.bursts * keep + 1.0;
        }
    }

    /// A heartbeat that had counted as lost has come in. As if it had not: of a loss of one slot,
    /// nothing remains.
    fn unlearn_loss(&mut self) {
        self.enter = (self.enter - LOSS_GAIN).max(0.0);
        (self.more, self.bursts) =
            if self.more >= 1.0 { (self.more - 1.0, self.bursts) } else { (self.more, (self.bursts - 1.0).max(0.0)) };
    }

    /// Splits the budget between the calm and the lossy regime so that the mean margin is smallest.
    fn split_budget(&mut self) {
        // Fades over eight budgets' worth of heartbeats, or ten days at ten a second.
        if self.allowed > 8.0 {
            (self.made, self.allowed) = (self.made / 2.0, self.allowed / 2.0);
        }
        // Before that many were allowed at all, a surplus says nothing.
        let is_known = self.allowed >= f64::from(CHANCE);
        let share = (self.allowed as f32 + CHANCE) / (self.made + CHANCE);
        self.plan = if is_known { share.clamp(PLAN_MIN, 1.0) } else { 1.0 };
        self.reach = self.body.reach(self.p).map_or(self.rarity, |reach| reach.min(self.rarity));
        let p = f64::from(self.p * self.plan);
        let lossy = f64::from(self.lossy);
        let most = self.most;
        let mut least = f32::INFINITY;
        let mut times = 1.0;
        while times == 1.0 || lossy * times <= LOSSY_SPEND_MAX && p * times <= SHARE_MAX {
            let p_calm = p * (1.0 - lossy * times) / (1.0 - lossy).max(0.01);
            let (calm, bad) = (&self.calm_tail, &self.lossy_tail);
            let guess = self.guess * (1.0 - calm.seen(p_calm)).max(0.0);
            let beyond = || (calm.longest() * calm.stretch(p_calm)).max(guess);
            let mut long = calm.quantile(p_calm, self.resolution()).unwrap_or_else(beyond);
            // Mistakes beyond those planned for, as a share of heartbeats.
            let mut excess = 0.0;
            if long > most {
                long = calm.knee(most, KNEE);
                excess += calm.excess(long, p_calm, CHANCE) * (1.0 - lossy);
            }
            let p_bad = p * times;
            let mut factor = bad.quantile(p_bad, Resolution::Fine).unwrap_or_else(|| bad.longest().max(1.0));
            if self.sat_out > 0.0 && factor * self.sat_out > most {
                factor = bad.knee(most / self.sat_out, KNEE);
                excess += bad.excess(factor, p_bad, CHANCE) * lossy;
            }
            // What another link has seen is no reason to say that of this one.
            let unkept = if excess > 0.0 && self.allowed >= 1.0 { (p + excess) as f32 } else { 0.0 };
            let mean = (1.0 - self.lossy) * long + self.lossy * (factor * self.sat_out).min(most);
            if mean < least {
                (least, self.long, self.factor, self.unkept) = (mean, long, factor, unkept);
            }
            times *= 2.0;
        }
        self.inherited = self.inherited_margin();
        self.long = self.long.max(self.inherited);
        self.set_patience();
    }

    /// The least margin by what former observers have learnt, in intervals. A summary counts as
    /// many heartbeats as lie between two mistakes, and those seen here since are added to them.
    /// For the first few heartbeats it also tells the jitter.
    fn inherited_margin(&self) -> f32 {
        let Some(summary) = self.summary else { return 0.0 };
        let budgets_seen = self.p * self.count as f32;
        if budgets_seen >= 1.0 {
            return 0.0;
        }
        let most = self.most;
        let mut silence = summary.silence(f64::from(self.p * (1.0 + budgets_seen)));
        if silence > most {
            // As for a tail of its own: only as long as waiting prevents mistakes.
            silence = summary.silence(summary.share_above(most) / KNEE);
        }
        if summary.is_whole() && silence > 0.5 {
            silence = (silence - ROUNDED_SLACK).ceil() + WHOLE_SLACK;
        }
        if self.count < u32::from(SPLIT_EVERY) {
            silence = silence.max(summary.jitter());
        }
        silence.min(most)
    }

    /// The silence past the expected arrival that this share of all heartbeats exceeds, in
    /// intervals: of both regimes together.
    fn silence(&self, share: f64) -> f32 {
        let (lossy, slots) = (f64::from(self.lossy), self.sat_out.max(1.0));
        let (calm, bad) = (&self.calm_tail, &self.lossy_tail);
        let above = |silence: f32| (1.0 - lossy) * calm.share_above(silence) + lossy * bad.share_above(silence / slots);
        // Fourteen octaves, of which nine steps leave less than half a step of a summary.
        let (mut lower, mut upper) = (MARGIN_MAX / 16_384.0, MARGIN_MAX);
        if above(lower) <= share {
            return 0.0;
        }
        for _ in 0..9 {
            let middle = f32::sqrt(lower * upper);
            if above(middle) > share { lower = middle } else { upper = middle }
        }
        upper
    }
}

impl Detector for Budget {
    fn heartbeat(&mut self, arrival: Arrival) {
        self.state.heartbeat(arrival);
    }

    fn overtaken(&mut self, _slots_behind: u64) {
        self.state.unlearn_loss();
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
        let jitter = state.jitter();
        let mut share = tail.share_above((over.max(jitter) / state.unit()) as f32);
        if over < jitter {
            share += state.body.share_above((over / state.spread().max(1.0)) as f32, state.reach);
        }
        -share.min(1.0).log10()
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
        assert!(link.margin() > Duration::from_millis(100), "{:?}", link.margin());
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

    /// Heartbeats of one slot each at these milliseconds; how many were suspected before they came.
    fn suspicions(budget: &mut Budget, arrivals: impl Iterator<Item = u64>) -> u32 {
        let mut count = 0;
        for at in arrivals {
            count += u32::from(budget.verdict(Instant::from_millis(at)) == Suspect);
            budget.heartbeat(beat(at, INTERVAL_MS));
        }
        count
    }

    #[test]
    fn a_slipped_schedule_is_one_suspicion() {
        for slip_ms in [1_400, 2_500, 4_000, 60_000] {
            let mut link = Link::new(6.0);
            link.beats(50_000, 0.0);
            let start = link.slot * INTERVAL_MS + slip_ms;
            let count = suspicions(&mut link.budget, (1..=40).map(|slot| start + slot * INTERVAL_MS));
            assert_eq!(count, 1, "slip of {slip_ms} ms");
        }
    }

    #[test]
    fn a_silence_that_ends_with_a_new_time_table_is_learnt() {
        let mut link = Link::new(1.0);
        link.beats(50_000, 0.0);
        for _ in 0..20 {
            link.slot += 30;
            // Slots far ahead of the time that has passed: the time-table starts anew.
            link.budget.heartbeat(Arrival { at: link.due(), slots: 90, ..beat(0, INTERVAL_MS) });
            link.newest = link.slot;
            link.beats(30, 0.0);
        }
        assert!(link.margin() > Duration::from_millis(2_800), "{:?}", link.margin());
    }

    #[test]
    fn a_sender_that_sleeps_between_heartbeats_is_no_jitter() {
        let (mut link, mut at) = (Link::new(1.0), 0);
        for _ in 0..50_000 {
            at += INTERVAL_MS + 5 + link.random.below(5);
            link.budget.heartbeat(beat(at, INTERVAL_MS));
        }
        let silence = link.budget.deadline() - Instant::from_millis(at);
        assert!(silence < Duration::from_millis(140), "{silence:?}");
    }

    #[test]
    fn past_the_timeout_no_margin_is_worth_anything() {
        let mut link = Link::new(1.0);
        link.budget = link.budget.with_timeout(Duration::from_secs(2));
        for _ in 0..200 {
            link.beats(500, 0.0);
            link.slot += 49;
        }
        // Each silence ends past the timeout: waiting for it prevents no mistake.
        assert!(link.margin() < Duration::from_millis(50), "{:?}", link.margin());
        // One in 549 slots, of which 36,000 are an hour.
        let kept_at = link.budget.kept_at().unwrap();
        assert!((50.0..80.0).contains(&kept_at), "{kept_at}");
    }

    #[test]
    fn a_new_link_starts_from_the_tails_of_the_others() {
        let others = [0, 1, 2].map(|_| {
            let mut link = Link::new(1.0);
            link.beats(50_000, 0.0);
            link.budget
        });
        let mut link = Link::new(1.0);
        link.budget = link.budget.starting_from(others.iter());
        link.beats(100, 0.0);
        assert!(link.margin() < Duration::from_millis(20), "{:?}", link.margin());
        assert_eq!(link.budget.kept_at(), None);
    }

    /// What an observer has learnt of a link that has lost this share of its heartbeats for hours.
    fn former(loss: f64) -> Link {
        let mut former = Link::new(1.0);
        former.beats(100_000, loss);
        former
    }

    /// A new observer of a link, which asks others before it suspects.
    fn newly_named(seed: u64) -> Link {
        let mut new = Link { random: Random::seeded(seed), ..Link::new(1.0) };
        new.budget = new.budget.with_second_opinion().with_timeout(Duration::from_secs(3));
        new
    }

    #[test]
    fn a_new_observer_starts_near_the_former_one() {
        for loss in [0.0, 0.01, 0.1, 0.3] {
            let (former, mut new) = (former(loss), newly_named(8));
            new.beats(1, 0.0);
            new.budget.start_from(former.budget.summary().unwrap());
            let (asked, first) = (former.margin().as_secs_f64(), new.margin().as_secs_f64());
            // No shorter than without a summary: a quarter of an interval.
            let range = asked * 0.75 - 0.005..(asked * 1.4).max(0.030);
            assert!(range.contains(&first), "loss {loss}: {first} s, and {asked} s of the former one");
        }
    }

    #[test]
    fn a_new_observer_of_a_bad_link_makes_no_mistakes() {
        let good = [0, 1].map(|_| {
            let mut link = Link::new(1.0);
            link.beats(50_000, 0.0);
            link.budget
        });
        let summary = former(0.1).budget.summary().unwrap();
        let mistakes = |seed, is_given: bool| {
            let mut new = newly_named(seed);
            new.budget = new.budget.starting_from(good.iter());
            new.beats(1, 0.0);
            if is_given {
                new.budget.start_from(summary);
            }
            new.beats(600, 0.1);
            new.mistakes
        };
        let [with, without] = [true, false].map(|is_given| (0..10).map(|seed| mistakes(seed, is_given)).sum::<u64>());
        assert!(with == 0 && without >= 8, "{with} with a summary, {without} without");
    }

    /// Two detectors of one link, the second one without a summary. Any bytes may be a summary.
    #[test]
    fn no_summary_makes_a_margin_shorter_or_endless() {
        for seed in 0..60 {
            let mut random = Random::seeded(seed);
            let length = 2 + random.below(13);
            let bytes: Vec<u8> = match seed % 3 {
                0 => vec![255; 14],
                1 => vec![0; length as usize],
                _ => (0..length).map(|_| random.next_u64() as u8).collect(),
            };
            let loss = [0.0, 0.01, 0.2][random.below(3) as usize];
            let [mut with, mut without] = [0, 0].map(|_| {
                let mut link = Link::new(60.0);
                link.random = Random::seeded(seed);
                link.budget = link.budget.with_timeout(Duration::from_secs(4));
                link.beats(1, 0.0);
                link
            });
            with.budget.start_from(LinkSummary::from_bytes(&bytes).unwrap());
            for _ in 0..900 {
                let is_like = with.mistakes == without.mistakes;
                assert!(!is_like || with.margin() >= without.margin(), "seed {seed}: {bytes:?}");
                // Nine tenths of the time from an expected heartbeat to the timeout, and jitter.
                assert!(with.margin() <= Duration::from_millis(3_520), "seed {seed}: {:?}", with.margin());
                with.beats(1, loss);
                without.beats(1, loss);
                assert!(with.mistakes <= without.mistakes, "seed {seed}: {bytes:?}");
            }
            with.beats(3_000, loss);
            assert_eq!(with.budget.state.inherited, 0.0, "its own observations overrule it");
        }
    }

    #[test]
    fn a_detector_that_knows_nothing_has_no_summary() {
        let mut link = Link::new(1.0);
        link.beats(u64::from(SUMMARY_MIN) - 1, 0.0);
        assert_eq!(link.budget.summary(), None);
        link.beats(10, 0.0);
        let given = LinkSummary::from_bytes(&[255; 14]).unwrap();
        link.budget.start_from(given);
        let learnt = link.budget.summary().unwrap();
        assert!(learnt.bytes().len() == 4 && learnt.jitter() < 0.2, "what it was given is not in it: {learnt:?}");
        let deadline = link.budget.deadline();
        link.budget.start_from(LinkSummary::from_bytes(&[0; 14]).unwrap());
        assert_eq!((link.budget.deadline(), link.budget.state.summary), (deadline, Some(given)), "the first counts");
    }

    #[test]
    fn a_mistake_makes_patient_for_a_while() {
        let mut link = Link::new(1.0);
        link.beats(50_000, 0.0);
        let before = link.margin();
        link.slot += 20;
        link.beats(10, 0.0);
        assert!(link.margin() > Duration::from_millis(2_500), "{:?}", link.margin());
        link.beats(600, 0.0);
        assert!(link.margin() < before + Duration::from_millis(2_200), "{:?}", link.margin());
    }

    #[test]
    fn a_heartbeat_that_was_overtaken_is_no_loss() {
        let mut link = Link::new(1.0);
        link.beats(50_000, 0.0);
        for _ in 0..500 {
            link.slot += 1;
            link.beats(5, 0.0);
            link.budget.overtaken(5);
        }
        assert!(link.budget.state.enter < LOSSY, "{}", link.budget.state.enter);
    }

    #[test]
    fn a_budget_that_was_overspent_is_planned_smaller() {
        let mut link = Link::new(10.0);
        link.beats(50_000, 0.0);
        assert_eq!(link.budget.state.plan, 1.0);
        for round in 0..40 {
            link.slot += 3 + round;
            link.beats(300, 0.0);
        }
        assert!(link.budget.state.plan < 0.9, "{}", link.budget.state.plan);
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
