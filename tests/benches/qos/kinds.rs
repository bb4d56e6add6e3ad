//! The budget on links of many kinds: is it kept, and what would a constant have done that an
//! oracle tuned on that very trace?
//!
//! A fixed timeout, Chen's detector and Akka's phi have a constant added to their deadline. So one
//! replay with the constant at zero gives all of their settings at once: by how much each arrival
//! missed the deadline. The constant is then chosen for as many mistakes as the budget made.

use std::ops::Range;
use std::time::Duration;

use heartbeat_core::detection::qos::{Contender, Mistake};
use heartbeat_core::detection::{Arrival, Chen, Detector, Fixed, Phi};
use heartbeat_core::{Config, Instant, Random, Trace};
use heartbeat_sim::link_kinds::KINDS;
use heartbeat_sim::links::{OTHERS, STATED};

use crate::{ENDLESS, Following};

/// Budgets, in mistakes an hour, and how tables call them.
const BUDGETS: [(f64, &str); 4] = [(60.0, "1/min"), (6.0, "6/h"), (1.0, "1/h"), (1.0 / 24.0, "1/day")];

/// Phi at which calibration is looked at.
const PHIS: [f64; 4] = [1.0, 2.0, 3.0, 4.0];

/// What is asked for.
pub(crate) struct Options {
    pub(crate) hours: f64,
    pub(crate) seed: u64,
    /// Part of the names of the kinds; all if it is empty.
    pub(crate) only: String,
}

/// Detection time in milliseconds: the mean, and what 99 in 100 crashes stay within.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detection {
    pub(crate) mean: f64,
    pub(crate) late: f64,
}

impl Detection {
    /// The crash in a slot is at a random instant of it; `deadlines` are those that it leads to.
    pub(crate) fn of(trace: &Trace, deadlines: &[Instant], range: Range<usize>) -> Detection {
        let mut random = Random::seeded(1);
        let mut times = Vec::with_capacity(range.len());
        let mut latest = Instant::ZERO;
        for index in range {
            let beat = trace.beats[index];
            let crash = beat.sent + trace.interval(beat.slot).mul_f64(random.unit());
            if deadlines[index] != Instant::NEVER {
                latest = latest.max(deadlines[index]);
            }
            times.push((latest - crash).as_secs_f64() * 1e3);
        }
        let mean = times.iter().sum::<f64>() / times.len().max(1) as f64;
        let place = (times.len() as f64 * 0.99) as usize;
        let late = if times.is_empty() { 0.0 } else { *times.select_nth_unstable_by(place, f64::total_cmp).1 };
        Detection { mean, late }
    }
}

/// A detector on a trace.
pub(crate) struct Played {
    pub(crate) mistakes: Vec<Mistake>,
    /// For each slot whose heartbeat counted, the deadline it set; `NEVER` for the others.
    pub(crate) deadlines: Vec<Instant>,
    /// For each arrival later than its deadline: that of the heartbeat before it, and its own, past
    /// the deadline, in milliseconds.
    late: Vec<(f64, f64)>,
    /// How many heartbeats there were, and before how many phi was above each of [`PHIS`].
    beats: f64,
    above: [f64; 4],
}

/// The order in which the heartbeats of a trace arrive.
pub(crate) fn order(trace: &Trace) -> Vec<u32> {
    let mut order: Vec<u32> =
        (0..trace.beats.len() as u32).filter(|index| trace.beats[*index as usize].arrived.is_some()).collect();
    order.sort_by_key(|index| (trace.beats[*index as usize].arrived, *index));
    order
}

pub(crate) fn play(trace: &Trace, order: &[u32], detector: &mut impl Detector) -> Played {
    let never = vec![Instant::NEVER; trace.beats.len()];
    let mut played = Played { mistakes: Vec::new(), deadlines: never, late: Vec::new(), beats: 0.0, above: [0.0; 4] };
    let mut newest: Option<(usize, Instant)> = None;
    let mut suspected: Option<Instant> = None;
    for &index in order {
        let index = index as usize;
        let beat = trace.beats[index];
        let at = beat.arrived.expect("only arrivals are listed");
        let slots = match newest {
            Some((last, _)) if index < last => {
                detector.overtaken(trace.beats[last].slot - beat.slot);
                continue;
            }
            Some((last, _)) => beat.slot - trace.beats[last].slot,
            None => 1,
        };
        if let Some((_, before)) = newest {
            let (deadline, phi) = (detector.deadline(), detector.phi(at));
            played.beats += 1.0;
            (0..PHIS.len()).for_each(|place| played.above[place] += f64::from(u8::from(phi > PHIS[place])));
            if at > deadline {
                suspected.get_or_insert(deadline);
                let past = |at: Instant| (at.as_nanos() as f64 - deadline.as_nanos() as f64) / 1e6;
                played.late.push((past(before), past(at)));
            }
        }
        detector.heartbeat(Arrival { at, interval: trace.interval(beat.slot), slots, slept: 0, waited: false });
        newest = Some((index, at));
        played.deadlines[index] = detector.deadline();
        if detector.deadline() > at
            && let Some(from) = suspected.take()
            && at > from
        {
            played.mistakes.push(Mistake { from, to: at });
        }
    }
    played
}

/// A rival with a constant: what it would score with as many mistakes as ours, over all slots.
pub(crate) struct Rival {
    late: Vec<(f64, f64)>,
    at_zero: Detection,
}

impl Rival {
    /// `detector` has `less` added to its deadline.
    fn new(trace: &Trace, order: &[u32], detector: impl Detector, less: Duration, range: Range<usize>) -> Rival {
        let mut detector = Following::new(detector, less, 0.0, Duration::ZERO);
        let played = play(trace, order, &mut detector);
        Rival { late: played.late, at_zero: Detection::of(trace, &played.deadlines, range) }
    }

    fn mistakes(&self, margin: f64) -> usize {
        self.late.iter().filter(|(from, until)| *from <= margin && *until > margin).count()
    }

    /// Its detection times at the smallest constant that makes no more than so many mistakes.
    pub(crate) fn tuned(&self, mistakes: usize) -> Detection {
        let (mut least, mut most) = (0.0, self.late.iter().fold(0.0f64, |most, late| most.max(late.1)) + 0.001);
        for _ in 0..30 {
            let middle = (least + most) / 2.0;
            if self.mistakes(middle) > mistakes { least = middle } else { most = middle }
        }
        Detection { mean: self.at_zero.mean + most, late: self.at_zero.late + most }
    }
}

/// The three rivals on a trace.
pub(crate) fn rivals(trace: &Trace, order: &[u32], interval: Duration, range: Range<usize>) -> [Rival; 3] {
    let mut config = Config::default().detector;
    (config.deviation_min, config.pause) = (interval / 10, Duration::ZERO);
    [
        Rival::new(trace, order, Fixed::new(interval, interval, Instant::ZERO), Duration::ZERO, range.clone()),
        Rival::new(trace, order, Chen::new(ENDLESS, 1_000, interval, Instant::ZERO), ENDLESS, range.clone()),
        Rival::new(trace, order, Phi::new(&config, interval, Instant::ZERO), Duration::ZERO, range),
    ]
}

/// What one budget scored on one kind.
struct Score {
    kind: &'static str,
    budget: usize,
    /// Mistakes, and how many there may be.
    mistakes: usize,
    allowed: f64,
    first_hour: usize,
    ours: Detection,
    rivals: [Detection; 3],
    /// For each of [`PHIS`]: by how many decades silences were rarer than phi says.
    off: [f64; 4],
}

impl Score {
    fn worst_ratio(&self) -> f64 {
        self.rivals.iter().fold(f64::INFINITY, |least, rival| least.min(rival.mean / self.ours.mean))
    }

    fn print(&self) {
        let Score { kind, budget, mistakes, allowed, first_hour, ours, rivals, off } = self;
        let ratios: String = rivals.iter().map(|rival| format!(" {:5.2}", rival.mean / ours.mean)).collect();
        let late: String = rivals.iter().map(|rival| format!(" {:5.2}", rival.late / ours.late)).collect();
        let off: String = off.iter().map(|off| format!(" {off:5.2}")).collect();
        let over = *mistakes as f64 / allowed;
        println!(
            "{kind:14} {:6} {mistakes:7} {over:6.2} {first_hour:5} {:9.0} {:9.0} |{ratios} |{late} |{off}",
            BUDGETS[*budget].1, ours.mean, ours.late
        );
    }
}

fn score(name: &'static str, trace: &Trace, scores: &mut Vec<Score>) {
    let order = order(trace);
    let interval = trace.intervals[0].1;
    let start = trace.beats[0].sent;
    let hours = (trace.beats[trace.beats.len() - 1].sent - start).as_secs_f64() / 3_600.0;
    let scored_from = trace.beats.partition_point(|beat| beat.sent < start + Duration::from_secs(120));
    let range = scored_from..trace.beats.len();
    let rivals = rivals(trace, &order, interval, range.clone());
    for (budget, (per_hour, _)) in BUDGETS.iter().enumerate() {
        let mut detector = Contender::Budget.detector(*per_hour, interval, Instant::ZERO).unwrap();
        let played = play(trace, &order, &mut detector);
        let early = |mistake: &&Mistake| mistake.from < start + Duration::from_secs(3_600);
        let off = std::array::from_fn(|place| {
            let above = played.above[place];
            if above < 20.0 { f64::NAN } else { -(above / played.beats).log10() - PHIS[place] }
        });
        let score = Score {
            kind: name,
            budget,
            mistakes: played.mistakes.len(),
            allowed: per_hour * hours,
            first_hour: played.mistakes.iter().filter(early).count(),
            ours: Detection::of(trace, &played.deadlines, range.clone()),
            rivals: std::array::from_fn(|rival| rivals[rival].tuned(played.mistakes.len())),
            off,
        };
        score.print();
        scores.push(score);
    }
}

/// Prints the scores of each kind, and what they come to.
pub(crate) fn run(options: &Options) {
    println!(
        "{} h of each kind, seed {}; rivals tuned on the same trace to as many mistakes as the budget made",
        options.hours, options.seed
    );
    println!(
        "{:14} {:6} {:>7} {:>6} {:>5} {:>9} {:>9} | mean T_D, fixed, Chen, phi over ours | 99 % | phi 1, 2, 3, 4: decades rarer",
        "kind", "budget", "wrong", "over", "1st h", "mean ms", "99 % ms"
    );
    let mut scores = Vec::new();
    each_kind(|name, trace| {
        if name.contains(&options.only) {
            score(name, &trace(options.seed, options.hours), &mut scores);
        }
    });
    summary(&scores);
}

/// Calls `handle` with the name of each kind, and with what makes its traces of a seed and hours.
pub(crate) fn each_kind(mut handle: impl FnMut(&'static str, &dyn Fn(u64, f64) -> Trace)) {
    for kind in &KINDS {
        handle(kind.name, &|seed, hours| kind.trace(seed, hours));
    }
    for link in STATED.iter().chain(&OTHERS) {
        handle(link.name(), &|seed, hours| link.trace(seed, hours));
    }
}

pub(crate) fn geometric(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value.ln(), count + 1.0));
    f64::exp(sum / f64::max(count, 1.0))
}

/// The kinds for which there is a number, with it.
fn names(scores: &[&Score], number: impl Fn(&Score) -> Option<f64>) -> String {
    let of = |score: &&Score| number(score).map(|number| format!("{} {number:.1}", score.kind));
    let names: Vec<String> = scores.iter().filter_map(of).collect();
    if names.is_empty() { "none".to_owned() } else { format!("{}: {}", names.len(), names.join(", ")) }
}

fn summary(scores: &[Score]) {
    println!();
    for (budget, (_, name)) in BUDGETS.iter().enumerate() {
        let of: Vec<&Score> = scores.iter().filter(|score| score.budget == budget).collect();
        if of.is_empty() {
            continue;
        }
        // Three more than allowed are chance where few are allowed.
        let bound = if budget == 3 { 2.0 } else { 1.2 };
        let over: Vec<String> = (of.iter())
            .filter(|score| score.mistakes as f64 > bound * score.allowed + 1.0)
            .map(|score| format!("{} {:.1}", score.kind, score.mistakes as f64 / score.allowed))
            .collect();
        let slow: Vec<String> = (of.iter())
            .filter(|score| score.worst_ratio() < 0.85)
            .map(|score| format!("{} {:.2}", score.kind, score.worst_ratio()))
            .collect();
        let won = of.iter().filter(|score| score.worst_ratio() >= 1.0).count();
        let ratio = |rival: usize| geometric(of.iter().map(|score| score.rivals[rival].mean / score.ours.mean));
        let late = |rival: usize| geometric(of.iter().map(|score| score.rivals[rival].late / score.ours.late));
        let ours = geometric(of.iter().map(|score| score.ours.mean));
        println!(
            "{name:6} mean {ours:.0} ms; fixed {:.2}, chen {:.2}, phi {:.2} of it; 99 % {:.2}, {:.2}, {:.2}; at least as fast as all on {won} of {}",
            ratio(0),
            ratio(1),
            ratio(2),
            late(0),
            late(1),
            late(2),
            of.len()
        );
        println!("       over {bound}: {}", if over.is_empty() { "none".to_owned() } else { over.join(", ") });
        let (per_hour, allowed) = (BUDGETS[budget].0, (2.0 * BUDGETS[budget].0).max(1.0));
        let hasty = names(&of, |score| (score.first_hour as f64 > allowed).then(|| score.first_hour as f64 / per_hour));
        println!("       first hour over 2: {hasty}");
        let worst = |score: &Score| score.off.iter().fold(0.0f64, |worst, off| worst.max(off.abs()));
        let off = names(&of, |score| (worst(score) > 0.3).then(|| worst(score)));
        println!("       phi over 0.3 decades off between 1 and 4: {off}");
        println!("       below 0.85: {}", if slow.is_empty() { "none".to_owned() } else { slow.join(", ") });
    }
}
