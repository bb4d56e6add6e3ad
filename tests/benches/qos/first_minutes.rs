//! The first half hour of a link, also of a new observer of a known node, and pauses of its sender.

use std::time::Duration;

use heartbeat_core::detection::qos::Contender;
use heartbeat_core::detection::trace::Beat;
use heartbeat_core::detection::{AnyDetector, LinkSummary};
use heartbeat_core::{Instant, Random, Trace};

use crate::kinds::{Detection, Options, each_kind, geometric, order, play, rivals};

/// Other links that the node knows, and for how long it has.
const KNOWN: u64 = 4;
const KNOWN_HOURS: f64 = 12.0;

/// New links of each kind.
const NEW: u64 = 6;

/// What a new observer knows, in the order of the columns.
const CASES: [&str; 4] =
    ["knows four more links of the kind", "knows four more, and a summary", "knows none", "knows none but a summary"];

/// The last half hour of a trace, and what an observer has learnt of what was before.
fn halves(mut trace: Trace) -> (Option<LinkSummary>, Trace) {
    let end = trace.beats.last().map_or(Instant::ZERO, |beat| beat.sent);
    let from = Instant::from_nanos(end.as_nanos().saturating_sub(1_800_000_000_000));
    let split = trace.beats.partition_point(|beat| beat.sent < from);
    let interval = trace.interval(trace.beats.get(split).map_or(0, |beat| beat.slot));
    let rest = trace.beats.split_off(split);
    let mut former = new(trace.intervals[0].1);
    play(&trace, &order(&trace), &mut former);
    let first = rest.first().map_or(0, |beat| beat.slot);
    let later = trace.intervals.iter().filter(|(slot, _)| *slot > first).copied();
    let intervals = std::iter::once((first, interval)).chain(later).collect();
    (former.summary(), Trace { beats: rest, intervals, ..trace })
}

/// Prints how fast a new link is in its first half hour at one mistake an hour, beside a fixed
/// timeout that was chosen afterwards on those half hours, for as many mistakes.
pub(crate) fn run(options: &Options) {
    println!(
        "first half hour of {NEW} links of each kind at 1/h, seeds from {}; detection time over that of a fixed timeout tuned on the same half hours",
        options.seed
    );
    println!(
        "a former observer knows the node for {KNOWN_HOURS} h before, on the same link; mistakes of all {NEW} half hours in brackets"
    );
    println!(
        "{:14} {:>9} {:>9} {:>14} {:>14} {:>14} {:>14}",
        "kind", "ours ms", "fixed ms", "knows 4 more", "and a summary", "knows none", "but a summary"
    );
    let mut all = Vec::new();
    each_kind(|name, trace| {
        if !name.contains(&options.only) {
            return;
        }
        let known: Vec<AnyDetector> = (0..KNOWN)
            .map(|place| {
                let trace = trace(options.seed + 1_000 + place, KNOWN_HOURS);
                let mut detector = new(trace.intervals[0].1);
                play(&trace, &order(&trace), &mut detector);
                detector
            })
            .collect();
        let mut sums = [[0.0; 3]; 4];
        for seed in options.seed..options.seed + NEW {
            let (former, trace) = halves(trace(seed, KNOWN_HOURS + 0.5));
            let (order, interval) = (order(&trace), trace.intervals[0].1);
            let range = 0..trace.beats.len();
            let fixed = &rivals(&trace, &order, interval, range.clone())[0];
            let cases = [(&known[..], None), (&known, former), (&[], None), (&[], former)];
            for (sums, (known, summary)) in sums.iter_mut().zip(cases) {
                let mut detector = new(interval).starting_from(known.iter());
                summary.into_iter().for_each(|summary| detector.start_from(summary));
                let played = play(&trace, &order, &mut detector);
                sums[0] += Detection::of(&trace, &played.deadlines, range.clone()).mean;
                sums[1] += fixed.tuned(played.mistakes.len()).mean;
                sums[2] += played.mistakes.len() as f64;
            }
        }
        let ratios = sums.map(|[ours, fixed, _]| ours / fixed);
        let [ours, fixed, _] = sums[0].map(|sum| sum / NEW as f64);
        print!("{name:14} {ours:9.0} {fixed:9.0}");
        for (ratio, [_, _, mistakes]) in ratios.iter().zip(sums) {
            print!(" {:>14}", format!("{ratio:.2} ({mistakes})"));
        }
        println!();
        all.push((name, ratios, sums.map(|[_, _, mistakes]| mistakes)));
    });
    for (place, case) in CASES.iter().enumerate() {
        let mean = geometric(all.iter().map(|(_, ratios, _)| ratios[place]));
        let mistakes: f64 = all.iter().map(|(_, _, mistakes)| mistakes[place]).sum();
        println!("{case}: geometric mean {mean:.2}, {mistakes} mistakes");
    }
    let slow: Vec<String> = all
        .iter()
        .filter(|(_, with, _)| with[0] > 1.5)
        .map(|(name, with, _)| format!("{name} {:.2}", with[0]))
        .collect();
    println!(
        "over 1.5 (the bar) where the node knows four more, on {} of {}: {}",
        slow.len(),
        all.len(),
        slow.join(", ")
    );
}

/// A detector as nodes have it, with a timeout that takes no part.
fn new(interval: Duration) -> AnyDetector {
    Contender::Budget.detector(1.0, interval, Instant::ZERO).unwrap().with_timeout(interval * 120)
}

/// How a sender may pause.
#[derive(Clone, Copy, Debug)]
enum Pausing {
    /// What was due meanwhile is sent at the end.
    Held,
    /// What was due meanwhile is never sent.
    SleptThrough,
    /// Its clock stands still, and the schedule goes on later.
    ClockStands,
}

/// Pauses of the traces below, and the time between two of them.
const PAUSES: u64 = 100;
const BETWEEN: u64 = 600_000;

/// Hours before the first pause.
const LEARNING: u64 = 3 * 3_600_000;

/// A sender that pauses for 1.4 to 8 s every ten minutes, after three hours without a pause; times
/// in milliseconds. Also when the pauses began.
fn pausing(how: Pausing, interval: u64) -> (Trace, Vec<Instant>) {
    let mut random = Random::seeded(5);
    let mut trace = Trace { intervals: vec![(0, Duration::from_millis(interval))], ..Trace::default() };
    let (mut pauses, mut slips, mut slot) = (Vec::new(), 0, 0);
    let mut pause = (LEARNING, LEARNING + 1_400);
    loop {
        let mut due = 1_000 + slot * interval + slips;
        if due >= pause.1 {
            pause.0 += BETWEEN;
            pause.1 = pause.0 + 1_400 + random.below(6_600);
        }
        if pauses.len() as u64 == PAUSES && due >= pause.0 {
            return (trace, pauses);
        }
        let mut arrives = true;
        if due >= pause.0 {
            if pauses.last() != Some(&Instant::from_millis(pause.0)) {
                pauses.push(Instant::from_millis(pause.0));
            }
            match how {
                Pausing::Held => due = pause.1,
                Pausing::SleptThrough => arrives = false,
                Pausing::ClockStands => {
                    slips += pause.1 - due;
                    due = pause.1;
                }
            }
        }
        let sent = Instant::from_millis(due);
        let delay = Duration::from_micros(500 + random.below(1_000));
        trace.beats.push(Beat { slot, sent, arrived: arrives.then(|| sent + delay) });
        slot += 1;
    }
}

/// Prints how many suspicions one pause of a sender makes, at most.
pub(crate) fn pauses() {
    println!("suspicions for one pause of the sender (1.4 to 8 s, {PAUSES} pauses): the most, and the mean");
    let settings: [(Contender, &[f64]); 5] = [
        (Contender::Budget, &[60.0, 6.0, 1.0, 1.0 / 24.0]),
        (Contender::Fixed, &[3.0, 8.0]),
        (Contender::Chen, &[0.5, 2.0]),
        (Contender::PhiAkka, &[0.5, 1.5]),
        (Contender::PhiCassandra, &[2.0, 8.0]),
    ];
    let mut most = 0;
    for how in [Pausing::Held, Pausing::SleptThrough, Pausing::ClockStands] {
        for interval in [100, 1_000] {
            let (trace, pauses) = pausing(how, interval);
            let order = order(&trace);
            for (contender, settings) in settings {
                for setting in settings {
                    let step = Duration::from_millis(interval);
                    let mut detector = contender.detector(*setting, step, Instant::ZERO).unwrap();
                    let mistakes = play(&trace, &order, &mut detector).mistakes;
                    let counts: Vec<usize> = pauses
                        .iter()
                        .map(|pause| {
                            let of = *pause..*pause + Duration::from_millis(BETWEEN / 2);
                            mistakes.iter().filter(|mistake| of.contains(&mistake.from)).count()
                        })
                        .collect();
                    let (worst, sum) = (counts.iter().max().unwrap_or(&0), counts.iter().sum::<usize>());
                    most = most.max(*worst);
                    let mean = sum as f64 / counts.len() as f64;
                    let (how, name) = (format!("{how:?}"), contender.name());
                    println!("{how:13} {interval:5} ms  {name:14} {setting:6.3} {worst:3} {mean:6.2}");
                }
            }
        }
    }
    println!("at most {most} (the bar is 1)");
}
