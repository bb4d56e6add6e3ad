//! The measurements: how soon the shards of a killed process answer on their new owners.
//!
//! Two figures, by two clocks. *Death known to shard answering* comes from the processes' own
//! lines: each prints when it learns of a death, and when a shard that it took over first answered.
//! They share one clock. *Kill to all shards answering* comes from the clients: from the signal to
//! the last answer. From the kill on, the clients of these shards ask without a rest, so an answer
//! is late by at most one retry.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heartbeat_examples::Failure;
use heartbeat_examples::process::Listen;
use heartbeat_examples::report::{Closing, Row, Verdict, seconds};
use serde_json::{Value, json};

use crate::load::{Gap, Manner, Miss};
use crate::service::Service;
use crate::{Authority, Settings};

/// Processes of a service.
const PROCESSES: usize = 5;

/// Shards of the service in the second part.
const MANY: u32 = 1_000;

/// A shard answers this long after its new owner knows of the death, in 99 of 100 cases.
const ANSWER_BAR: Duration = Duration::from_millis(20);

/// The same with etcd, which is asked over a network, when a process was seen to end and all writes
/// are fenced.
const ANSWER_BAR_ETCD: Duration = Duration::from_millis(50);

/// All shards of a killed process answer within this, and no request is under way for longer.
const ALL_BAR: Duration = Duration::from_millis(250);

/// For how long after a kill other shards are watched for requests that fail.
const AFTERMATH: f64 = 2.0;

const CLOSING: Closing = Closing {
    well: "All bars were held.",
    late: "All bars were held, some late.",
    broken: "Not all bars were held: see the lines marked BROKEN.",
};

/// What one kill came to.
struct Death {
    /// Shards that were the victim's.
    shards: usize,
    /// Of each of them, from the news of the death at the new owner to its first answer there.
    answered: Vec<f64>,
    /// From the kill to the last of them answering.
    all: f64,
    /// Longest request to them that was not served at once.
    longest: f64,
    /// Attempts for other shards, at processes that live, that were not served.
    others: usize,
}

/// Measures both parts.
pub(crate) fn run(settings: &Settings, kills: u32, rounds: u32) -> Result<(), Failure> {
    let few = part(settings, Duration::from_millis(5), kills)?;
    let many = part(&Settings { shards: MANY, ..settings.clone() }, Duration::from_millis(20), rounds)?;
    let mut rows = Vec::new();
    let bar = match settings.authority {
        Authority::View | Authority::File => ANSWER_BAR,
        Authority::Etcd => ANSWER_BAR_ETCD,
    };
    judge_answers(&few.1, bar, &mut rows);
    judge_all(&many.1, &mut rows);
    let mut service = many.0;
    if service.report.table(&rows, &CLOSING) { Ok(()) } else { Err("a bar was not held".into()) }
}

/// Starts a service, kills one of its processes after the other, and starts another one each time.
/// Returns the service, whose processes have ended.
fn part(settings: &Settings, retry: Duration, kills: u32) -> Result<(Service, Vec<Death>), Failure> {
    let mut service = Service::new(settings, None, &format!("failover-{}", settings.shards))?;
    let text = format!("{PROCESSES} processes, {} shards, authority {:?}", settings.shards, settings.authority);
    service.report.note(&text, &json!({ "event": "step", "text": text, "shards": settings.shards }));
    let names: Vec<String> = (1..=PROCESSES).map(|number| format!("node-{number}")).collect();
    service.start_all(&names)?;
    let load = service.lay_on(Manner { retry, ..Manner::of(settings.shards) })?;
    let all: BTreeSet<u32> = (0..settings.shards).collect();
    service.wait_until("every shard answers", |_| load.all_answered(&all, 0.0, ""))?;
    let mut deaths = Vec::new();
    for number in 1..=kills {
        // The eldest of all, but for the reporter.
        let (victim, next) = (format!("node-{}", 1 + number), format!("node-{}", PROCESSES as u32 + number));
        let death = kill(&mut service, &victim)?;
        tell(&mut service, &victim, &death);
        deaths.push(death);
        if number < kills {
            let from = service.lines.len();
            service.start(&next)?;
            service.about("joined", &next, from)?;
            service.open(&next)?;
            service.settle()?;
        }
    }
    load.end();
    service.end();
    Ok((service, deaths))
}

/// Kills a process and waits until all its shards answer elsewhere.
fn kill(service: &mut Service, victim: &str) -> Result<Death, Failure> {
    let load = service.load()?;
    let shards = load.answered_by(victim);
    let from = service.lines.len();
    let at = service.kill(victim)?;
    load.hurry(shards.clone());
    let all = service.wait_until("every shard of the dead one answers", |_| load.all_answered(&shards, at, victim))?;
    service.reap(victim)?;
    service.quiet(Duration::from_secs_f64(AFTERMATH))?;
    let answered = answered(&service.lines[from..], victim, &shards);
    let seen = load.seen();
    let is_ours = |gap: &&Gap| shards.contains(&gap.shard) && gap.to >= at;
    let longest = seen.delayed.iter().filter(is_ours).map(Gap::length).fold(0.0, f64::max);
    let is_others = |miss: &&Miss| !shards.contains(&miss.shard) && miss.process != victim;
    let others = seen.misses.iter().filter(is_others).filter(|miss| (at..at + AFTERMATH).contains(&miss.at)).count();
    Ok(Death { shards: shards.len(), answered, all: all - at, longest, others })
}

/// Of each shard, from the news of the death at its new owner to its first answer there.
fn answered(lines: &[Value], victim: &str, shards: &BTreeSet<u32>) -> Vec<f64> {
    let mut died: BTreeMap<&str, f64> = BTreeMap::new();
    for line in lines.iter().filter(|line| line["event"] == "died" && line["node"] == victim) {
        if let (Some(process), Some(at)) = (line["process"].as_str(), line["at"].as_f64()) {
            died.entry(process).or_insert(at);
        }
    }
    let answers = lines.iter().filter(|line| line["event"] == "answered").filter_map(|line| {
        let shard = line["shard"].as_u64().filter(|shard| shards.contains(&(*shard as u32)))?;
        let known = died.get(line["process"].as_str()?)?;
        // The news may reach the one who prints it a little later than the shard's worker has
        // begun.
        Some((shard, (line["at"].as_f64()? - known).max(0.0)))
    });
    let mut first = BTreeMap::new();
    for (shard, after) in answers {
        first.entry(shard).or_insert(after);
    }
    first.into_values().collect()
}

fn tell(service: &mut Service, victim: &str, death: &Death) {
    let Death { shards, answered, all, longest, others } = death;
    let worst = answered.iter().copied().fold(0.0, f64::max);
    let text = format!(
        "{victim} had {shards} shards: the last answers {} after its new owner knew, all within {} of the kill; longest request {}; {others} failed for other shards",
        seconds(Some(worst)),
        seconds(Some(*all)),
        seconds(Some(*longest))
    );
    let value = json!({ "event": "death", "shards": shards, "answered_s": answered, "all_s": all, "longest_s": longest, "others": others });
    service.report.note(&text, &value);
}

fn judge_answers(deaths: &[Death], bar: Duration, rows: &mut Vec<Row>) {
    let mut answered: Vec<f64> = deaths.iter().flat_map(|death| death.answered.iter().copied()).collect();
    answered.sort_by(f64::total_cmp);
    let count = format!("{} shards of {} processes killed", answered.len(), deaths.len());
    rows.push(figure(format!("death known to shard answering, p50 ({count})"), quantile(&answered, 50), None));
    rows.push(figure("  p99".to_owned(), quantile(&answered, 99), Some(bar)));
    rows.push(figure("  worst".to_owned(), quantile(&answered, 100), None));
    let mut all: Vec<f64> = deaths.iter().map(|death| death.all).collect();
    all.sort_by(f64::total_cmp);
    rows.push(figure("kill to all of its shards answering, p50".to_owned(), quantile(&all, 50), None));
    rows.push(figure("  worst".to_owned(), quantile(&all, 100), None));
    let shards: usize = deaths.iter().map(|death| death.shards).sum();
    let missing = shards.saturating_sub(answered.len());
    rows.push(fact(format!("shards that were not seen to answer on a new owner: {missing} of {shards}"), missing == 0));
}

fn judge_all(deaths: &[Death], rows: &mut Vec<Row>) {
    let sorted = |of: fn(&Death) -> f64| {
        let mut all: Vec<f64> = deaths.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all
    };
    let (all, longest) = (sorted(|death| death.all), sorted(|death| death.longest));
    let shards = sorted(|death| death.shards as f64);
    let count = quantile(&shards, 50).unwrap_or(0.0);
    rows.push(figure(
        format!("of {MANY} shards, kill to all of about {count} answering, p50"),
        quantile(&all, 50),
        None,
    ));
    rows.push(figure(format!("  worst of {}", deaths.len()), quantile(&all, 100), Some(ALL_BAR)));
    rows.push(figure("  longest request, p50".to_owned(), quantile(&longest, 50), None));
    rows.push(figure(format!("  worst of {}", deaths.len()), quantile(&longest, 100), Some(ALL_BAR)));
    let others: usize = deaths.iter().map(|death| death.others).sum();
    rows.push(fact(format!("  failed requests to other shards: {others}"), others == 0));
}

fn figure(what: String, measured: Option<f64>, bar: Option<Duration>) -> Row {
    let bound = bar.map(|bar| bar.as_secs_f64());
    let holds = bound.is_none_or(|bound| measured.is_some_and(|measured| measured <= bound));
    Row { what, measured, bound, verdict: if holds { Verdict::Ok } else { Verdict::Broken } }
}

fn fact(what: String, holds: bool) -> Row {
    Row { what, measured: None, bound: None, verdict: if holds { Verdict::Ok } else { Verdict::Broken } }
}

/// The smallest of the sorted values that `percent` of them do not exceed.
fn quantile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        for (percent, expected) in [(50, 100.0), (99, 198.0), (100, 200.0)] {
            assert_eq!(quantile(&values, percent), Some(expected));
        }
        assert_eq!((quantile(&[3.0], 50), quantile(&[3.0], 99), quantile(&[], 50)), (Some(3.0), Some(3.0), None));
    }

    #[test]
    fn an_answer_is_timed_from_the_news_at_its_own_process() {
        let died = |process: &str, at: f64| json!({ "event": "died", "node": "c", "process": process, "at": at });
        let first = |process: &str, shard: u32, at: f64| json!({ "event": "answered", "process": process, "shard": shard, "at": at });
        let lines = [
            died("a", 1.0),
            first("b", 7, 1.5),
            died("b", 2.0),
            first("a", 3, 1.25),
            first("a", 9, 1.5),
            first("a", 3, 4.0),
        ];
        assert_eq!(answered(&lines, "c", &BTreeSet::from([3, 7])), [0.25, 0.0]);
    }
}
