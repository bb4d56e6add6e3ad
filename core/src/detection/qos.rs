//! `qos`: how good a detector is, on a trace.
//!
//! Two things are asked of a detector, and each can be had by giving up the other: to notice a
//! crash soon, and not to suspect the living. The measures are those of the field. A *mistake* is a
//! suspicion of a target that is alive.
//!
//! - T_D, detection time: from a crash to the suspicion that never ends.
//! - lambda_M, mistake rate: mistakes in an hour.
//! - T_M, mistake duration: from a wrong suspicion to trust again.
//! - P_A, query accuracy: the share of time at which the question "is it alive?" is answered
//!   rightly while it is.
//!
//! A trace holds no crash, so one is made up in each slot: at a random instant after the slot's
//! heartbeat was sent, and before the next. Heartbeats sent before the crash still arrive. The
//! detection is the deadline that the detector has set by then.
//!
//! Source: Chen, Toueg and Aguilera, "On the quality of service of failure detectors", IEEE
//! Transactions on Computers 51(5), 2002, section 2.
//!
//! What it does not do: it does not score detectors that ask other observers. For a crash during a
//! pause of the receiver, the pause is discounted only if the trace has a heartbeat before it.

use std::fmt;
use std::time::Duration;

use crate::config::rate::MistakeRate;
use crate::config::{Config, DetectorConfig, DetectorKind, PhiReading};
use crate::detection::trace::Trace;
use crate::detection::{AnyDetector, Arrival, Detector, Pause};
use crate::random::Random;
use crate::time::Instant;

/// A heartbeat that arrives within this share of an interval after our waking, or after another one
/// that waited, has waited too. In a trace, a drained socket shows as many arrivals at almost one
/// instant.
const DRAIN_SHARE: u32 = 100;

/// A detector with the one knob that trades detection time against mistakes; everything else is at
/// its default.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Contender {
    /// [`crate::detection::Budget`]; the knob is the budget, in mistakes per hour.
    Budget,
    /// [`crate::detection::Fixed`]; the knob is the longest silence, in intervals.
    Fixed,
    /// [`crate::detection::Chen`]; the knob is the margin, in intervals.
    Chen,
    /// [`crate::detection::Phi`] in Akka's reading at phi 8, with a floor of a tenth of an
    /// interval; the knob is the pause, in intervals.
    PhiAkka,
    /// [`crate::detection::Phi`] in Cassandra's reading; the knob is phi.
    PhiCassandra,
}

impl Contender {
    /// All of them.
    pub const ALL: [Contender; 5] =
        [Contender::Budget, Contender::Fixed, Contender::Chen, Contender::PhiAkka, Contender::PhiCassandra];

    /// Its name, as tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Contender::Budget => "budget",
            Contender::Fixed => "fixed",
            Contender::Chen => "chen",
            Contender::PhiAkka => "phi-akka",
            Contender::PhiCassandra => "phi-cassandra",
        }
    }

    /// What its knob is counted in.
    pub fn unit(self) -> &'static str {
        match self {
            Contender::Budget => "mistakes an hour",
            Contender::Fixed => "intervals of silence",
            Contender::Chen => "intervals of margin",
            Contender::PhiAkka => "intervals of pause",
            Contender::PhiCassandra => "phi",
        }
    }

    /// Where its knob stands by default.
    pub fn default_setting(self) -> f64 {
        let config = Config::default();
        let intervals = |duration: Duration| duration.as_secs_f64() / config.interval.as_secs_f64();
        match self {
            Contender::Budget => config.detector.mistakes.per_hour(),
            Contender::Fixed => intervals(config.detector.suspect_after),
            Contender::Chen => intervals(config.detector.margin),
            Contender::PhiAkka => intervals(config.detector.pause),
            Contender::PhiCassandra => config.detector.threshold,
        }
    }

    /// Settings from hasty to patient that show the whole curve; `count` of them, at least two.
    pub fn settings(self, count: u32) -> Vec<f64> {
        let (first, last): (f64, f64) = match self {
            Contender::Budget => (600.0, 0.02),
            Contender::Fixed => (1.05, 140.0),
            Contender::Chen | Contender::PhiAkka => (0.02, 140.0),
            Contender::PhiCassandra => (0.5, 60.0),
        };
        let step = (last / first).powf(1.0 / f64::from(count.max(2) - 1));
        (0..count).map(|index| first * step.powi(index as i32)).collect()
    }

    /// The detector with its knob at `setting`, for a sender with this interval.
    ///
    /// # Errors
    /// What makes no sense as a setting, with what would.
    pub fn detector(self, setting: f64, interval: Duration, now: Instant) -> Result<AnyDetector, String> {
        let (least, most) = if self == Contender::Budget { (0.001, 3_600.0) } else { (0.0, 100_000.0) };
        if !(least..=most).contains(&setting)
            || (setting == 0.0 && matches!(self, Contender::Fixed | Contender::PhiCassandra))
        {
            let (name, unit) = (self.name(), self.unit());
            return Err(format!("{name} cannot be set to {setting}; use over {least} to {most} {unit}"));
        }
        let intervals = interval.mul_f64(if self == Contender::Budget { 1.0 } else { setting });
        let mut config = DetectorConfig { deviation_min: interval / 10, ..Config::default().detector };
        match self {
            Contender::Budget => {
                config.kind = DetectorKind::Budget;
                config.mistakes = MistakeRate::new(setting).map_err(|error| error.to_string())?;
            }
            Contender::Fixed => (config.kind, config.suspect_after) = (DetectorKind::Fixed, intervals),
            Contender::Chen => (config.kind, config.margin) = (DetectorKind::Chen, intervals),
            Contender::PhiAkka => {
                (config.kind, config.reading, config.pause) = (DetectorKind::Phi, PhiReading::Akka, intervals);
            }
            Contender::PhiCassandra => {
                (config.kind, config.reading) = (DetectorKind::Phi, PhiReading::Cassandra);
                config.threshold = setting;
            }
        }
        Ok(AnyDetector::new(&config, interval, now))
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How to replay a trace.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    /// Whether pauses of the receiver are discounted, and nothing is learnt from heartbeats that
    /// waited meanwhile.
    pub discount_pauses: bool,
    /// Time from the start of the trace that is replayed but not scored.
    pub warm_up: Duration,
    /// Seed of the instants of the crashes.
    pub seed: u64,
}

impl Default for Replay {
    /// Discounts pauses; two minutes of warm-up, as usual for this kind of comparison, and seed 1.
    fn default() -> Replay {
        Replay { discount_pauses: true, warm_up: Duration::from_secs(120), seed: 1 }
    }
}

/// The quality of service of a detector on a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Quality {
    /// Time that was scored.
    pub scored: Duration,
    /// Mistakes in that time.
    pub mistakes: u64,
    /// Mistakes before it, in the warm-up.
    pub mistakes_early: u64,
    /// Time within `scored` in which the target was wrongly suspected.
    pub mistaken: Duration,
    /// Mean of T_D, over a crash in each slot that was scored.
    pub detection_mean: Duration,
    /// The T_D that half of the crashes stay within.
    pub detection_p50: Duration,
    /// The T_D that 99 in 100 crashes stay within.
    pub detection_p99: Duration,
}

impl Quality {
    /// lambda_M: mistakes in an hour.
    pub fn mistakes_per_hour(&self) -> f64 {
        self.mistakes as f64 / (self.scored.as_secs_f64() / 3_600.0)
    }

    /// Mean of T_M; zero without mistakes.
    pub fn mistake_duration(&self) -> Duration {
        self.mistaken.div_f64(self.mistakes.max(1) as f64)
    }

    /// P_A: share of time without a mistake.
    pub fn accuracy(&self) -> f64 {
        1.0 - self.mistaken.as_secs_f64() / self.scored.as_secs_f64()
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mean, late) = (self.detection_mean.as_secs_f64(), self.detection_p99.as_secs_f64());
        write!(
            f,
            "{} mistakes in {:.2} h, detection {mean:.3} s, 99 % {late:.3} s",
            self.mistakes,
            self.scored.as_secs_f64() / 3_600.0
        )
    }
}

/// A time for which a living target was suspected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mistake {
    /// From the deadline that was missed.
    pub from: Instant,
    /// To the heartbeat that proved it wrong.
    pub to: Instant,
}

/// The verdicts of a detector on a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// All mistakes, in their order, those of the warm-up included.
    pub mistakes: Vec<Mistake>,
    /// For each slot of the trace: when its sender would have been suspected for good if it had
    /// crashed before the next one. `NEVER` while nothing has arrived.
    pub detections: Vec<Instant>,
}

/// Replays `trace` to `detector`, from the first arrival on.
pub fn replay(trace: &Trace, detector: &mut impl Detector, replay_as: Replay) -> Replayed {
    let mut run = Run {
        trace,
        detector,
        suspected_since: None,
        mistakes: Vec::new(),
        detections: vec![Instant::NEVER; trace.beats.len()],
        newest: None,
    };
    let stalls: &[Pause] = if replay_as.discount_pauses { &trace.stalls } else { &[] };
    let mut stalls = stalls.iter().copied().peekable();
    let mut woken = None;
    for index in arrivals(trace) {
        let at = trace.beats[index].arrived.expect("only arrivals are listed");
        while let Some(stall) = stalls.next_if(|stall| stall.from < at) {
            run.discount_pause(stall);
            woken = Some(stall.to);
        }
        let together = trace.interval(trace.beats[index].slot) / DRAIN_SHARE;
        let waited = woken.is_some_and(|woken| at <= woken + together);
        woken = waited.then_some(at);
        run.heartbeat(index, at, waited);
    }
    run.finish()
}

/// How good `detector` is on `trace`.
pub fn quality(trace: &Trace, detector: &mut impl Detector, replay_as: Replay) -> Quality {
    let replayed = replay(trace, detector, replay_as);
    score(trace, &replayed, replay_as)
}

/// The quality of the verdicts on a trace.
pub fn score(trace: &Trace, replayed: &Replayed, replay_as: Replay) -> Quality {
    let start = trace.beats.first().map_or(Instant::ZERO, |beat| beat.sent);
    let scored_from = start + replay_as.warm_up;
    let end = trace.beats.last().map_or(start, |beat| beat.sent);
    let (late, early): (Vec<Mistake>, Vec<Mistake>) =
        replayed.mistakes.iter().partition(|mistake| mistake.from >= scored_from);
    let mut random = Random::seeded(replay_as.seed);
    let mut detection: Vec<Duration> = Vec::with_capacity(trace.beats.len());
    for (beat, detected) in trace.beats.iter().zip(&replayed.detections) {
        let crash = beat.sent + trace.interval(beat.slot).mul_f64(random.unit());
        if beat.sent >= scored_from && *detected != Instant::NEVER {
            detection.push(*detected - crash);
        }
    }
    let sum: u128 = detection.iter().map(Duration::as_nanos).sum();
    let mean = Duration::from_nanos((sum / detection.len().max(1) as u128) as u64);
    Quality {
        scored: end - scored_from,
        mistakes: late.len() as u64,
        mistakes_early: early.len() as u64,
        mistaken: late.iter().map(|mistake| mistake.to - mistake.from).sum(),
        detection_mean: mean,
        detection_p50: quantile(&mut detection, 0.5),
        detection_p99: quantile(&mut detection, 0.99),
    }
}

/// The value that this share of the values does not exceed; zero if there are none.
fn quantile(values: &mut [Duration], share: f64) -> Duration {
    let index = (values.len() as f64 * share) as usize;
    if values.is_empty() { Duration::ZERO } else { *values.select_nth_unstable(index.min(values.len() - 1)).1 }
}

/// Indexes in `trace.beats` of the heartbeats that arrived, in the order of arrival; the lower slot
/// first if two arrived together.
fn arrivals(trace: &Trace) -> Vec<usize> {
    let mut order: Vec<usize> = (0..trace.beats.len()).filter(|index| trace.beats[*index].arrived.is_some()).collect();
    order.sort_by_key(|index| (trace.beats[*index].arrived, *index));
    order
}

struct Run<'a, D> {
    trace: &'a Trace,
    detector: &'a mut D,
    suspected_since: Option<Instant>,
    mistakes: Vec<Mistake>,
    detections: Vec<Instant>,
    /// Index in `trace.beats` of the newest heartbeat so far.
    newest: Option<usize>,
}

impl<D: Detector> Run<'_, D> {
    fn heartbeat(&mut self, index: usize, at: Instant, waited: bool) {
        if let Some(newest) = self.newest.filter(|newest| index < *newest) {
            let behind = self.trace.beats[newest].slot - self.trace.beats[index].slot;
            return self.detector.overtaken(behind);
        }
        self.look(at);
        let slot = self.trace.beats[index].slot;
        let slots = self.newest.map_or(1, |newest| slot - self.trace.beats[newest].slot);
        let interval = self.trace.interval(slot);
        self.detector.heartbeat(Arrival { at, interval, slots, slept: 0, waited });
        self.newest = Some(index);
        // A heartbeat that arrives after the deadline it sets ends no suspicion.
        if self.detector.deadline() > at {
            self.trust(at);
        } else if self.suspected_since.is_none() {
            self.suspected_since = Some(at);
        }
        self.detections[index] = self.detector.deadline();
    }

    fn discount_pause(&mut self, stall: Pause) {
        let Some(newest) = self.newest else { return };
        self.look(stall.from);
        if self.suspected_since.is_none() {
            self.detector.discount_pause(stall);
            self.detections[newest] = self.detector.deadline();
        }
    }

    /// Notices a deadline that has passed before `now`.
    fn look(&mut self, now: Instant) {
        if self.suspected_since.is_none() && self.newest.is_some() && self.detector.deadline() < now {
            self.suspected_since = Some(self.detector.deadline());
        }
    }

    fn trust(&mut self, at: Instant) {
        if let Some(from) = self.suspected_since.take()
            && at > from
        {
            self.mistakes.push(Mistake { from, to: at });
        }
    }

    /// Slots whose heartbeat never came are detected by what came before; nothing is detected
    /// earlier than a crash before it.
    fn finish(self) -> Replayed {
        let mut detections = self.detections;
        let mut latest = Instant::NEVER;
        for detected in &mut detections {
            if *detected != Instant::NEVER {
                latest = if latest == Instant::NEVER { *detected } else { latest.max(*detected) };
            }
            *detected = latest;
        }
        Replayed { mistakes: self.mistakes, detections }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::Fixed;
    use crate::detection::trace::Beat;

    const MS: Duration = Duration::from_millis(1);

    /// Heartbeats every 100 ms that arrive after 10 ms, but for slots that are lost, and those that
    /// a pause of the receiver holds up.
    fn trace(slots: u64, lost: &[u64], stall: Option<(u64, u64)>) -> Trace {
        let mut text = String::from("# interval_from 0 100000000\n");
        if let Some((from, to)) = stall {
            text += &format!("# stall {}000000 {}000000\n", from, to);
        }
        for slot in 0..slots {
            let (sent, mut arrived) = (slot * 100, slot * 100 + 10);
            if let Some((from, to)) = stall {
                arrived = if (from..to).contains(&arrived) { to } else { arrived };
            }
            let arrived = if lost.contains(&slot) { "lost".to_owned() } else { format!("{arrived}000000") };
            text += &format!("{slot},{sent}000000,{arrived}\n");
        }
        Trace::from_text(&text).unwrap()
    }

    /// What a constant of 250 ms scores, without a warm-up.
    fn fixed(trace: &Trace, discount_pauses: bool) -> Quality {
        let mut fixed = Fixed::new(MS * 250, MS * 100, Instant::ZERO);
        quality(trace, &mut fixed, Replay { discount_pauses, warm_up: Duration::ZERO, seed: 1 })
    }

    #[test]
    fn a_crash_is_detected_a_constant_after_the_last_arrival() {
        let quality = fixed(&trace(10_000, &[], None), false);
        assert_eq!((quality.mistakes, quality.accuracy()), (0, 1.0));
        // From a random instant in the interval after a heartbeat was sent: 10 ms on the way, 250
        // ms, less 50 ms on average.
        assert!(quality.detection_mean.abs_diff(MS * 210) < MS * 2, "{quality}");
        assert!(quality.detection_p50.abs_diff(MS * 210) < MS * 3 && quality.detection_p99.abs_diff(MS * 259) < MS * 2);
    }

    #[test]
    fn a_mistake_lasts_from_the_deadline_to_the_next_arrival() {
        let quality = fixed(&trace(1_000, &[500, 501, 502, 700], None), false);
        // Three lost in a row: silent for 400 ms. One lost is no mistake.
        assert_eq!((quality.mistakes, quality.mistaken), (1, MS * 150));
        assert_eq!(quality.mistake_duration(), MS * 150);
        assert!((quality.accuracy() - (1.0 - 0.150 / 99.9)).abs() < 1e-9);
    }

    #[test]
    fn a_pause_of_the_receiver_is_no_mistake_if_it_is_discounted() {
        let trace = trace(1_000, &[], Some((50_000, 53_000)));
        let (off, on) = (fixed(&trace, false), fixed(&trace, true));
        assert_eq!((off.mistakes, off.mistaken), (1, MS * (53_000 - 49_910 - 250)));
        assert_eq!((on.mistakes, on.accuracy()), (0, 1.0));
    }

    #[test]
    fn a_heartbeat_that_was_overtaken_is_ignored() {
        let text = "# interval_from 0 100000000\n0,0,10000000\n1,100000000,390000000\n2,200000000,210000000\n";
        let trace = Trace::from_text(text).unwrap();
        let replayed = replay(
            &trace,
            &mut Fixed::new(MS * 250, MS * 100, Instant::ZERO),
            Replay { discount_pauses: false, ..Replay::default() },
        );
        assert_eq!(replayed.mistakes, []);
        assert_eq!(replayed.detections, [260, 260, 460].map(Instant::from_millis));
    }

    /// A recording of two times 20,000 heartbeats of this interval, with 10 ms on the way. Before
    /// the second half the receiver's clock jumps by `step` seconds, and `missing` slots are left
    /// out.
    fn broken(interval: Duration, step: i64, missing: u64) -> Trace {
        const HALF: u64 = 20_000;
        let mut trace = Trace { intervals: vec![(0, interval)], ..Trace::default() };
        for index in 0..2 * HALF {
            let (jump, skipped) = if index < HALF { (0, 0) } else { (step, missing) };
            let begun = 4_000_000_000_000 + index * interval.as_nanos() as u64;
            let sent = Instant::from_nanos(begun.saturating_add_signed(jump * 1_000_000_000));
            trace.beats.push(Beat { slot: index + skipped, sent, arrived: Some(sent + MS * 10) });
        }
        trace
    }

    /// Asserts that every detector makes one mistake of the break at most, and waits afterwards no
    /// longer than so many intervals.
    #[track_caller]
    fn check_broken(trace: &Trace, intervals: u32) {
        let interval = trace.intervals[0].1;
        for contender in Contender::ALL {
            let setting = if contender == Contender::Budget { 60.0 } else { contender.default_setting() };
            let mut detector = contender.detector(setting, interval, Instant::ZERO).unwrap();
            let quality = quality(trace, &mut detector, Replay::default());
            assert!(quality.mistakes <= 1, "{contender}: {quality}");
            let arrived = trace.beats[trace.beats.len() - 1].arrived.unwrap();
            let silence = detector.deadline() - arrived;
            assert!(silence <= interval * intervals, "{contender}: {silence:?}");
            assert!(quality.accuracy().is_finite(), "{contender}: {quality}");
        }
    }

    #[test]
    fn a_gap_of_a_week_in_a_recording_is_one_mistake_at_most() {
        const WEEK: i64 = 7 * 86_400;
        // The sender was off, or its heartbeats of a week are missing.
        check_broken(&broken(MS * 100, WEEK, 0), 19);
        check_broken(&broken(MS * 100, WEEK, 7 * 864_000), 19);
    }

    #[test]
    fn a_clock_step_of_an_hour_in_a_recording_is_one_mistake() {
        check_broken(&broken(MS * 100, 3_600, 0), 19);
        // Back by an hour, what follows the step comes in before what was before it: older slots
        // are no news.
        let trace = broken(MS * 100, -3_600, 0);
        for contender in Contender::ALL {
            let mut detector = contender.detector(contender.default_setting(), MS * 100, Instant::ZERO).unwrap();
            let replayed = replay(&trace, &mut detector, Replay::default());
            assert!(replayed.mistakes.len() <= 1, "{contender}: {:?}", replayed.mistakes);
        }
    }

    #[test]
    fn intervals_of_a_day_are_watched_like_any_other() {
        let day = Duration::from_secs(86_400);
        let trace = broken(day, 0, 0);
        for contender in Contender::ALL {
            let setting = if contender == Contender::Budget { 1.0 / 24.0 } else { contender.default_setting() };
            let mut detector = contender.detector(setting, day, Instant::ZERO).unwrap();
            let quality = quality(&trace, &mut detector, Replay::default());
            let silence = detector.deadline() - trace.beats[trace.beats.len() - 1].arrived.unwrap();
            assert!(quality.mistakes == 0 && silence < day * 19, "{contender}: {quality}, {silence:?}");
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for (contender, setting) in
            [(Contender::Fixed, 0.0), (Contender::Budget, 0.0), (Contender::Chen, -1.0), (Contender::PhiAkka, f64::NAN)]
        {
            let refused = contender.detector(setting, MS, Instant::ZERO).expect_err("nonsense");
            assert!(refused.contains(contender.name()) && refused.contains("use"), "{refused}");
        }
        for contender in Contender::ALL {
            assert!(contender.detector(contender.default_setting(), MS * 100, Instant::ZERO).is_ok(), "{contender}");
            assert!(
                contender.settings(9).iter().all(|setting| contender.detector(*setting, MS, Instant::ZERO).is_ok())
            );
        }
    }
}
