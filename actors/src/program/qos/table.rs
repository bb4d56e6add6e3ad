//! The scores, for people and for programs.

use std::fmt::Write;
use std::time::Duration;

use heartbeat_core::MistakeRate;
use heartbeat_core::detection::qos::Contender;
use serde::Serialize;

use crate::Failure;
use crate::qos::{Report, Score};

/// One line of `--json`; times in seconds.
#[derive(Serialize)]
struct Line<'a> {
    trace: &'a str,
    guard: bool,
    detector: &'a str,
    setting: f64,
    setting_unit: &'a str,
    hours: f64,
    mistakes: u64,
    mistakes_per_hour: f64,
    td_mean_s: f64,
    td_p50_s: f64,
    td_p99_s: f64,
    tm_s: f64,
    pa: f64,
    early_mistakes: u64,
}

/// Each score as one JSON object a line.
pub(crate) fn json(report: &Report, guard: bool) -> Result<String, Failure> {
    let mut lines = String::new();
    let scores = if report.swept.is_empty() { &report.asked } else { &report.swept };
    for Score { contender, setting, quality } in scores {
        let line = Line {
            trace: &report.name,
            guard,
            detector: contender.name(),
            setting: *setting,
            setting_unit: contender.unit(),
            hours: quality.scored.as_secs_f64() / 3_600.0,
            mistakes: quality.mistakes,
            mistakes_per_hour: quality.mistakes_per_hour(),
            td_mean_s: quality.detection_mean.as_secs_f64(),
            td_p50_s: quality.detection_p50.as_secs_f64(),
            td_p99_s: quality.detection_p99.as_secs_f64(),
            tm_s: quality.mistake_duration().as_secs_f64(),
            pa: quality.accuracy(),
            early_mistakes: quality.mistakes_early,
        };
        writeln!(lines, "{}", serde_json::to_string(&line)?)?;
    }
    Ok(lines)
}

/// A report as a table.
pub(crate) fn table(report: &Report, mistakes: MistakeRate, guard: bool) -> String {
    let Report { name, interval, beats, arrived, stalls, .. } = report;
    let lost = 100.0 * (beats - arrived) as f64 / *beats as f64;
    let guard = if guard { "discounted" } else { "not discounted" };
    let mut lines = vec![
        format!(
            "{name}: {beats} slots of {interval:?}, {lost:.2} % without a heartbeat, {stalls} pauses of the receiver, {guard}"
        ),
        header(),
    ];
    lines.extend(report.asked.iter().map(row));
    if !report.swept.is_empty() {
        lines.push(format!(
            "  the least setting of each that keeps {mistakes} on this trace, as do all above it; nobody knows it beforehand:"
        ));
        for contender in Contender::ALL {
            match best(&report.swept, contender, mistakes) {
                Some(score) => lines.push(row(score)),
                None if report.swept.iter().any(|score| score.contender == contender) => {
                    lines.push(format!("  {:14} none", contender.name()));
                }
                None => {}
            }
        }
    }
    lines.join("\n") + "\n\n"
}

/// The hastiest setting that keeps the budget, as all more patient ones do; settings go from hasty
/// to patient.
pub(crate) fn best(scores: &[Score], contender: Contender, mistakes: MistakeRate) -> Option<&Score> {
    let of_it = scores.iter().filter(|score| score.contender == contender);
    of_it.rev().take_while(|score| score.quality.mistakes_per_hour() <= mistakes.per_hour()).last()
}

fn header() -> String {
    format!(
        "  {:14} {:>30} {:>10} {:>9} {:>11} {:>11} {:>9} {:>10}",
        "detector", "setting", "T_D mean", "T_D 99 %", "mistakes", "per hour", "T_M", "P_A"
    )
}

fn row(Score { contender, setting, quality }: &Score) -> String {
    let seconds = |duration: Duration| format!("{:.3} s", duration.as_secs_f64());
    format!(
        "  {:14} {:>30} {:>10} {:>9} {:>11} {:>11.3} {:>9} {:>10.6}",
        contender.name(),
        format!("{setting:.3} {}", contender.unit()),
        seconds(quality.detection_mean),
        seconds(quality.detection_p99),
        quality.mistakes,
        quality.mistakes_per_hour(),
        seconds(quality.mistake_duration()),
        quality.accuracy()
    )
}
