//! One page about recordings: what each detector would have done, which setting to choose, and what
//! it costs. HTML with the drawing in it, so that it is one file to pass on.

use std::fmt::Write;
use std::time::Duration;

use heartbeat_core::MistakeRate;
use heartbeat_core::detection::qos::Contender;

use crate::Failure;
use crate::qos::table::best;
use crate::qos::{Report, Score, plot};

const SHEET: &str = "body{font:16px/1.5 sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;width:100%;font-size:14px}th,td{text-align:right;padding:.25rem .6rem;border-bottom:1px solid #ddd}\
th:first-child,td:first-child,th:nth-child(2),td:nth-child(2){text-align:left}tr.ours{background:#fdf1e7}\
pre{background:#f4f4f4;padding:.6rem 1rem}.note{background:#fff6d6;padding:.5rem 1rem}svg{max-width:100%;height:auto}";

const INTRO: &str = "A node sends a sign of life, a heartbeat, once an interval. Another node watches: \
if no heartbeat comes for long enough, it suspects that the first one has crashed. \
Waiting longer finds a crash later. Waiting less suspects nodes that are alive. \
This page replays recorded heartbeats and shows what each way to wait would have given.";

const WORDS: &str = "<ul><li><b>Crash noticed after</b>: time from a crash to the suspicion, if the node had crashed; \
on average over all moments of the recording, and the time that 99 of 100 crashes stay within.</li>\
<li><b>Wrong suspicions</b>: the node was alive, and would have been suspected. The next heartbeat ends one.</li>\
<li><b>lasting</b>: how long a wrong suspicion lasts on average.</li>\
<li><b>tuned</b>: the smallest setting that keeps to the accepted rate on this very recording. \
Only afterwards is it known, so take it as a yardstick. For another network, or another day, it is another one.</li></ul>";

/// The page about all recordings.
pub(crate) fn page(reports: &[Report], mistakes: MistakeRate) -> Result<String, Failure> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Which failure detector?</title>\
<style>{SHEET}</style></head><body>\n<h1>Which failure detector?</h1>\n<p>{INTRO}</p>\n<p>Accepted here: \
<b>{mistakes}</b> wrong suspicions on each link.</p>\n{WORDS}\n"
    );
    for report in reports {
        section(&mut page, report, mistakes)?;
    }
    page += "<h2>The picture</h2>\n<p>Left is faster, down is fewer wrong suspicions. A line is one detector with its \
setting turned from hasty to patient; a dot is its default.</p>\n";
    page += &plot::svg(reports, mistakes)?;
    page += "\n</body></html>\n";
    Ok(page)
}

fn section(page: &mut String, report: &Report, mistakes: MistakeRate) -> Result<(), Failure> {
    let Report { name, interval, beats, arrived, stalls, longest_silence, .. } = report;
    let hours = report.asked.first().map_or(0.0, |score| score.quality.scored.as_secs_f64() / 3_600.0);
    let lost = 100.0 * (beats - arrived) as f64 / *beats as f64;
    writeln!(page, "<h2>{}</h2>", escaped(name))?;
    writeln!(
        page,
        "<p>{hours:.1} hours were scored: {beats} heartbeats, one every {interval:?}. {lost:.2} % of them did not come. \
The longest silence was {}. The watching process itself paused {stalls} times.</p>",
        seconds(*longest_silence)
    )?;
    if hours * mistakes.per_hour() < 10.0 {
        let right = 10.0 / mistakes.per_hour();
        writeln!(
            page,
            "<p class=\"note\">At {mistakes} this is short: only {:.1} wrong suspicions are allowed in all, so counts are \
chance. Record for {right:.0} hours.</p>",
            hours * mistakes.per_hour()
        )?;
    }
    advice(page, report, mistakes)?;
    page.push_str("<table><tr><th>detector</th><th>setting</th><th>crash noticed after</th><th>99 of 100 within</th><th>wrong suspicions</th><th>an hour</th><th>lasting</th></tr>\n");
    for score in &report.asked {
        row(page, score, "", *interval)?;
    }
    for contender in Contender::ALL {
        if let Some(score) = best(&report.swept, contender, mistakes).filter(|_| contender != Contender::Budget) {
            row(page, score, " (tuned)", *interval)?;
        }
    }
    page.push_str("</table>\n");
    Ok(())
}

/// What to choose here, and why.
fn advice(page: &mut String, report: &Report, mistakes: MistakeRate) -> Result<(), Failure> {
    let Some(ours) = report.asked.iter().find(|score| score.contender == Contender::Budget) else { return Ok(()) };
    let is_kept = ours.quality.mistakes_per_hour() <= mistakes.per_hour() * 1.2
        || ours.quality.mistakes as f64 <= mistakes.per_hour() * ours.quality.scored.as_secs_f64() / 3_600.0 + 1.0;
    let tuned = (Contender::ALL.iter())
        .filter(|contender| **contender != Contender::Budget)
        .filter_map(|contender| best(&report.swept, *contender, mistakes))
        .min_by_key(|score| score.quality.detection_mean);
    let (mean, late) = (seconds(ours.quality.detection_mean), seconds(ours.quality.detection_p99));
    page.push_str("<p><b>What to choose.</b> ");
    if is_kept {
        writeln!(
            page,
            "The budget detector, which needs no number from this network, kept to the rate: a crash is noticed after {mean} \
on average, and after {late} in the slowest hundredth."
        )?;
    } else {
        writeln!(
            page,
            "The budget detector made {:.2} wrong suspicions an hour where {:.2} were accepted, and noticed a crash after \
{mean}. Accept more, or give nodes a longer timeout.",
            ours.quality.mistakes_per_hour(),
            mistakes.per_hour()
        )?;
    }
    if let Some(tuned) = tuned {
        let ratio = tuned.quality.detection_mean.as_secs_f64() / ours.quality.detection_mean.as_secs_f64().max(1e-9);
        let verdict = match ratio {
            ratio if ratio > 1.05 => format!("{ratio:.2} times as slow as the budget"),
            ratio if ratio < 0.95 => format!("{:.2} times as fast as the budget", 1.0 / ratio),
            _ => "as fast as the budget".to_owned(),
        };
        writeln!(
            page,
            "The best constant, chosen with hindsight, is {} at {}: it notices a crash after {} and is {verdict}.",
            tuned.contender,
            setting(tuned, report.interval),
            seconds(tuned.quality.detection_mean)
        )?;
    }
    writeln!(
        page,
        "It costs up to 768 bytes for each node watched, and a share of a microsecond for each heartbeat. In the config:</p>\n\
<pre>[detector]\nkind = \"budget\"\nmistakes = \"{mistakes}\"</pre>"
    )?;
    Ok(())
}

fn row(page: &mut String, score: &Score, note: &str, interval: Duration) -> Result<(), Failure> {
    let class = if score.contender == Contender::Budget { " class=\"ours\"" } else { "" };
    writeln!(
        page,
        "<tr{class}><td>{}{note}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.2}</td><td>{}</td></tr>",
        score.contender,
        setting(score, interval),
        seconds(score.quality.detection_mean),
        seconds(score.quality.detection_p99),
        score.quality.mistakes,
        score.quality.mistakes_per_hour(),
        seconds(score.quality.mistake_duration())
    )?;
    Ok(())
}

/// A setting as the config has it.
fn setting(score: &Score, interval: Duration) -> String {
    let time = || seconds(interval.mul_f64(score.setting));
    match score.contender {
        Contender::Budget => format!("mistakes {:.3}/h", score.setting),
        Contender::Fixed => format!("suspect_after {}", time()),
        Contender::Chen => format!("margin {}", time()),
        Contender::PhiAkka => format!("threshold 8, pause {}", time()),
        Contender::PhiCassandra => format!("reading cassandra, threshold {:.1}", score.setting),
    }
}

fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
