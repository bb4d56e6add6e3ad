//! How good are the detectors on this trace? Replays heartbeat traces and prints what each detector
//! would have said.
//!
//! heartbeat qos tests/data/traces/wan-seed1-3h.csv.gz

mod page;
mod plot;
mod table;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use flate2::read::GzDecoder;
use heartbeat_core::detection::qos::{Contender, Quality, Replay, quality};
use heartbeat_core::{Instant, MistakeRate, Trace};

use crate::Failure;
use crate::text;

pub(crate) const EXAMPLES: &str = "Examples:
  heartbeat qos traces/*.csv --mistakes 1/h
  heartbeat qos traces/*.csv --mistakes 1/h --report page.html
  heartbeat qos trace.csv.gz --detector fixed --setting 2 --setting 3
  heartbeat qos traces/*.gz --sweep --plot qos.svg

A node records the heartbeats that it receives: Node::record in a program.";

/// Points of a curve.
const SWEEP: u32 = 40;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Traces: text as described in the book, chapter "Detectors", or the same compressed with gzip
    #[arg(required = true)]
    traces: Vec<PathBuf>,
    /// Which detectors; all by default
    #[arg(long = "detector", value_name = "NAME")]
    detectors: Vec<Detector>,
    /// The budget: mistakes that you can bear on a link, like 1/h, 6/day or 2/min
    #[arg(long, default_value = "1/h", value_name = "RATE")]
    mistakes: MistakeRate,
    /// Settings of the other detectors' knob instead of their defaults: intervals for fixed
    /// (silence), chen (margin) and phi-akka (pause), a phi for phi-cassandra, mistakes an hour for
    /// budget
    #[arg(long = "setting", value_name = "NUMBER", requires = "detectors", conflicts_with = "sweep")]
    settings: Vec<f64>,
    /// Whether pauses of the receiver are discounted
    #[arg(long, value_enum, default_value_t = Guard::On)]
    guard: Guard,
    /// Turn each knob through its whole range, and say which setting keeps the budget best
    #[arg(long)]
    sweep: bool,
    /// Draw detection time against mistakes into this file; turns the knobs as --sweep does
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Write one page about all of it into this file: what each detector would have done, which
    /// setting to choose, and what it costs; turns the knobs as --sweep does
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Silence after which a node is dead in any case: the budget waits no longer
    #[arg(long, value_parser = text::duration)]
    timeout: Option<Duration>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// Time at the start of a trace that is not scored
    #[arg(long, default_value = "2m", value_parser = text::duration)]
    warm_up: Duration,
    /// Seed of the instants of the crashes
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Guard {
    On,
    Off,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Detector {
    #[value(alias = "tail")]
    Budget,
    Fixed,
    Chen,
    #[value(aliases = ["phi", "akka"])]
    PhiAkka,
    #[value(aliases = ["cassandra", "phiexp"])]
    PhiCassandra,
}

impl From<Detector> for Contender {
    fn from(detector: Detector) -> Contender {
        match detector {
            Detector::Budget => Contender::Budget,
            Detector::Fixed => Contender::Fixed,
            Detector::Chen => Contender::Chen,
            Detector::PhiAkka => Contender::PhiAkka,
            Detector::PhiCassandra => Contender::PhiCassandra,
        }
    }
}

/// What one detector scored on one trace.
pub(crate) struct Score {
    contender: Contender,
    setting: f64,
    quality: Quality,
}

/// All that was scored on one trace.
pub(crate) struct Report {
    /// The file's name without `.csv` and `.gz`.
    name: String,
    interval: Duration,
    beats: usize,
    arrived: usize,
    stalls: usize,
    longest_silence: Duration,
    /// With the settings that were asked for.
    asked: Vec<Score>,
    /// With all settings, if they were swept.
    swept: Vec<Score>,
}

/// Replays each trace, and prints or writes what was asked for.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut reports = Vec::new();
    for path in &arguments.traces {
        let trace = read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let report = report(path, &trace, arguments).map_err(|error| format!("{}: {error}", path.display()))?;
        if arguments.json {
            text::print(&table::json(&report, arguments.guard == Guard::On)?)?;
        } else {
            text::print(&table::table(&report, arguments.mistakes, arguments.guard == Guard::On))?;
        }
        reports.push(report);
    }
    if let Some(path) = &arguments.plot {
        plot::draw(path, &reports, arguments.mistakes).map_err(|error| format!("{}: {error}", path.display()))?;
        if !arguments.json {
            text::print(&format!("drawn: {}\n", path.display()))?;
        }
    }
    if let Some(path) = &arguments.report {
        let page = page::page(&reports, arguments.mistakes)?;
        std::fs::write(path, page).map_err(|error| format!("{}: {error}", path.display()))?;
        if !arguments.json {
            text::print(&format!("written: {}\n", path.display()))?;
        }
    }
    Ok(())
}

/// The largest share of heartbeats after which a wrong suspicion may follow.
const SHARE_MAX: f64 = 0.1;

/// Refuses a budget of more than a mistake in ten heartbeats: the detector would hold to that
/// instead.
fn check_budget(mistakes: MistakeRate, interval: Duration) -> Result<(), Failure> {
    let share = mistakes.per_heartbeat(interval);
    if share > SHARE_MAX {
        let right = (mistakes.per_hour() * SHARE_MAX / share * 1e3).floor() / 1e3;
        return Err(format!(
            "--mistakes {mistakes} is more than one in ten heartbeats at interval {interval:?}; use at most {right}/h"
        )
        .into());
    }
    Ok(())
}

/// The longest time without an arrival.
fn longest_silence(trace: &Trace) -> Duration {
    let mut arrivals: Vec<Instant> = trace.beats.iter().filter_map(|beat| beat.arrived).collect();
    arrivals.sort_unstable();
    arrivals.windows(2).map(|two| two[1] - two[0]).max().unwrap_or_default()
}

/// Reads a trace; one that begins as gzip does is unpacked.
fn read(path: &Path) -> Result<Trace, Failure> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    let mut text = String::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(&bytes[..]).read_to_string(&mut text)?;
    } else {
        text = String::from_utf8(bytes).map_err(|_| "is neither text nor gzip")?;
    }
    Ok(Trace::from_text(&text)?)
}

fn report(path: &Path, trace: &Trace, arguments: &Arguments) -> Result<Report, Failure> {
    let mut contenders: Vec<Contender> = arguments.detectors.iter().copied().map(Contender::from).collect();
    if contenders.is_empty() {
        contenders = Contender::ALL.to_vec();
    }
    let replay =
        Replay { discount_pauses: arguments.guard == Guard::On, warm_up: arguments.warm_up, seed: arguments.seed };
    let length = trace.beats[trace.beats.len() - 1].sent - trace.beats[0].sent;
    if length <= arguments.warm_up {
        let (length, warm_up) = (humantime::format_duration(length), humantime::format_duration(arguments.warm_up));
        return Err(format!("it lasts {length}, which is not longer than the warm-up of {warm_up}; record for longer, or use a shorter --warm-up").into());
    }
    let interval = trace.intervals[0].1;
    if contenders.contains(&Contender::Budget) {
        check_budget(arguments.mistakes, interval)?;
    }
    let score = |contender: Contender, setting: f64| -> Result<Score, Failure> {
        let mut detector = contender.detector(setting, interval, Instant::ZERO)?;
        if let Some(timeout) = arguments.timeout {
            detector = detector.with_timeout(timeout);
        }
        Ok(Score { contender, setting, quality: quality(trace, &mut detector, replay) })
    };
    let (mut asked, mut swept) = (Vec::new(), Vec::new());
    for contender in contenders {
        let default = match contender {
            Contender::Budget => arguments.mistakes.per_hour(),
            Contender::Fixed | Contender::Chen | Contender::PhiAkka | Contender::PhiCassandra => {
                contender.default_setting()
            }
        };
        let settings = if arguments.settings.is_empty() { vec![default] } else { arguments.settings.clone() };
        for setting in settings {
            asked.push(score(contender, setting)?);
        }
        if arguments.sweep || arguments.plot.is_some() || arguments.report.is_some() {
            for setting in contender.settings(SWEEP) {
                swept.push(score(contender, setting)?);
            }
        }
    }
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(Report {
        name: file.trim_end_matches(".gz").trim_end_matches(".csv").to_owned(),
        interval,
        beats: trace.beats.len(),
        arrived: trace.beats.iter().filter(|beat| beat.arrived.is_some()).count(),
        stalls: trace.stalls.len(),
        longest_silence: longest_silence(trace),
        asked,
        swept,
    })
}
