//! The measurements: how soon the shards of a killed process answer on their new owners, and how
//! long requests wait while processes are killed, join and leave.
//!
//! *Death known to shard answering* comes from the processes' own lines: each prints when it learns
//! of a death, and when a shard that it took over first answered. They share one clock. *Kill to
//! all shards answering* comes from the clients: from the signal to the last answer. From the kill
//! on, the clients of these shards ask without a rest.
//!
//! *Longest wait* is the time from a client's first attempt to the last outcome of its request,
//! over all requests that were under way between the blow and two seconds after the last shard has
//! moved. It includes the way to the process that was asked, and that process's queue.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heartbeat_examples::Failure;
use heartbeat_examples::process::{Listen, unix_seconds};
use heartbeat_examples::report::{Closing, Row, Verdict, seconds};
use serde_json::{Value, json};

use crate::load::{Load, Manner, Miss, Span};
use crate::outcome::{Comparison, Tally};
use crate::service::Service;
use crate::store::{self, Served};
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

/// No request waits for longer when a process is killed.
const KILL_BAR: Duration = Duration::from_millis(250);

/// No request waits for longer when a process joins or leaves.
const GRACEFUL_BAR: Duration = Duration::from_millis(100);

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
    /// Longest wait of any request.
    longest: f64,
    /// Attempts for other shards, at processes that live, that were not counted.
    others: usize,
}

/// What a join or a leave came to.
struct Move {
    is_leave: bool,
    /// Shards that answer from another process afterwards.
    shards: usize,
    /// Longest wait of any request.
    longest: f64,
    /// Attempts that were not counted.
    errors: usize,
}

/// The second part.
struct Moves {
    service: Service,
    deaths: Vec<Death>,
    moves: Vec<Move>,
    tally: Tally,
    comparison: Comparison,
}

/// Measures both parts.
pub(crate) fn run(settings: &Settings, kills: u32, rounds: u32) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let bar = match settings.authority {
        Authority::View | Authority::File => ANSWER_BAR,
        Authority::Etcd => ANSWER_BAR_ETCD,
    };
    if kills > 0 {
        judge_answers(&measure_kills(settings, kills)?, bar, &mut rows);
    }
    let mut moves = measure_moves(&Settings { shards: MANY, ..settings.clone() }, rounds)?;
    judge_moves(&moves, &mut rows);
    if moves.service.report.table(&rows, &CLOSING) { Ok(()) } else { Err("a bar was not held".into()) }
}

/// Starts a service and lays load on it.
fn begin(settings: &Settings, retry: Duration, ledger: Option<&Served>) -> Result<Service, Failure> {
    let ledger = ledger.map(|ledger| ledger.address);
    let mut service = Service::new(settings, ledger, &format!("failover-{}", settings.shards))?;
    let text = format!("{PROCESSES} processes, {} shards, authority {:?}", settings.shards, settings.authority);
    service.report.note(&text, &json!({ "event": "step", "text": text, "shards": settings.shards }));
    let names: Vec<String> = (1..=PROCESSES).map(|number| format!("node-{number}")).collect();
    service.start_all(&names)?;
    let load = service.lay_on(Manner { retry, ..Manner::of(settings.shards) })?;
    let all: BTreeSet<u32> = (0..settings.shards).collect();
    service.wait_until("every shard answers", |_| load.all_answered(&all, 0.0, ""))?;
    Ok(service)
}

/// Kills one process of a service after the other, and starts another one each time.
fn measure_kills(settings: &Settings, kills: u32) -> Result<Vec<Death>, Failure> {
    let mut service = begin(settings, Duration::from_millis(5), None)?;
    let mut deaths = Vec::new();
    for number in 1..=kills {
        // The eldest of all, but for the reporter.
        let (victim, next) = (format!("node-{}", 1 + number), format!("node-{}", PROCESSES as u32 + number));
        deaths.push(kill(&mut service, &victim)?);
        if number < kills {
            join(&mut service, &next)?;
        }
    }
    service.load()?.end();
    service.end();
    Ok(deaths)
}

/// In each round, a process is killed, one joins, one leaves, and one joins.
fn measure_moves(settings: &Settings, rounds: u32) -> Result<Moves, Failure> {
    let ledger = store::serve()?;
    let mut service = begin(settings, Duration::from_millis(20), Some(&ledger))?;
    service.quiet(Duration::from_secs(1))?;
    let (mut deaths, mut moves) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let victim = format!("node-{}", 2 + 2 * round);
        let leaver = format!("node-{}", 3 + 2 * round);
        let [first, second] = [1, 2].map(|number| format!("node-{}", PROCESSES as u32 + 2 * round + number));
        deaths.push(kill(&mut service, &victim)?);
        moves.push(join(&mut service, &first)?);
        moves.push(leave(&mut service, &leaver)?);
        moves.push(join(&mut service, &second)?);
    }
    let load = service.load()?;
    load.end();
    service.end();
    let seen = load.seen();
    let comparison = Comparison::of(&seen.ended, &ledger.look().handled);
    let tally = seen.tally;
    let mut reasons: BTreeMap<String, u32> = BTreeMap::new();
    for miss in &seen.misses {
        *reasons.entry(miss.outcome.to_string()).or_default() += 1;
    }
    drop(seen);
    for (reason, count) in reasons {
        let text = format!("{count} attempts: {reason}");
        service.report.note(&text, &json!({ "event": "not_counted", "reason": reason, "count": count }));
    }
    Ok(Moves { service, deaths, moves, tally, comparison })
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
    let is_others = |miss: &&Miss| !shards.contains(&miss.shard) && miss.process != victim;
    let others = seen.misses.iter().filter(is_others).filter(|miss| (at..at + AFTERMATH).contains(&miss.at)).count();
    drop(seen);
    let longest = longest_wait(&load, at);
    let death = Death { shards: shards.len(), answered, all: all - at, longest, others };
    tell_death(service, victim, &death);
    Ok(death)
}

/// Starts a process and waits until it has its share of the shards.
fn join(service: &mut Service, name: &str) -> Result<Move, Failure> {
    let (from, at) = (service.lines.len(), unix_seconds());
    service.start(name)?;
    service.about("joined", name, from)?;
    service.open(name)?;
    let load = service.load()?;
    service.wait_until(&format!("{name} answers for some shards"), |_| {
        Some(()).filter(|()| !load.answered_by(name).is_empty())
    })?;
    service.settle()?;
    after_move(service, name, false, at)
}

/// Asks a process to leave and waits until its shards answer elsewhere.
fn leave(service: &mut Service, name: &str) -> Result<Move, Failure> {
    let load = service.load()?;
    let shards = load.answered_by(name);
    let (from, at) = (service.lines.len(), unix_seconds());
    service.leave(name)?;
    service.about("left", name, from)?;
    service.wait_until("every shard of the leaver answers", |_| load.all_answered(&shards, at, name))?;
    service.reap(name)?;
    service.settle()?;
    let moved = after_move(service, name, true, at)?;
    Ok(Move { shards: shards.len(), ..moved })
}

/// What a graceful move came to, once requests have been asked for two more seconds.
fn after_move(service: &mut Service, name: &str, is_leave: bool, at: f64) -> Result<Move, Failure> {
    service.quiet(Duration::from_secs_f64(AFTERMATH))?;
    let load = service.load()?;
    let errors = load.seen().misses.iter().filter(|miss| miss.at >= at).count();
    let (shards, longest) = (load.answered_by(name).len(), longest_wait(&load, at));
    let what = if is_leave { "leaves" } else { "joins" };
    let text = format!("{name} {what}: longest wait {}, {errors} errors", seconds(Some(longest)));
    let value = json!({ "event": "move", "node": name, "is_leave": is_leave, "longest_s": longest, "errors": errors });
    service.report.note(&text, &value);
    Ok(Move { is_leave, shards, longest, errors })
}

/// The longest wait of a request that was under way at `at` or later.
fn longest_wait(load: &Load, at: f64) -> f64 {
    let seen = load.seen();
    seen.waits.iter().filter(|wait| wait.to >= at).map(Span::length).fold(0.0, f64::max)
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

fn tell_death(service: &mut Service, victim: &str, death: &Death) {
    let Death { shards, answered, all, longest, others } = death;
    let worst = answered.iter().copied().fold(0.0, f64::max);
    let text = format!(
        "{victim} had {shards} shards: the last answers {} after its new owner knew, all within {} of the kill; longest wait {}; {others} failed for other shards",
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

fn judge_moves(moves: &Moves, rows: &mut Vec<Row>) {
    let Moves { service: _, deaths, moves, tally, comparison } = moves;
    let median_shards = |counts: Vec<usize>| {
        let mut counts: Vec<f64> = counts.into_iter().map(|count| count as f64).collect();
        counts.sort_by(f64::total_cmp);
        quantile(&counts, 50).unwrap_or(0.0)
    };
    let count = median_shards(deaths.iter().map(|death| death.shards).collect());
    let mut all: Vec<f64> = deaths.iter().map(|death| death.all).collect();
    all.sort_by(f64::total_cmp);
    rows.push(figure(format!("{MANY} shards, kill to all of about {count} answering, p50"), quantile(&all, 50), None));
    rows.push(figure(format!("  worst of {}", deaths.len()), quantile(&all, 100), Some(KILL_BAR)));
    waits("a process is killed", deaths.iter().map(|death| death.longest).collect(), KILL_BAR, rows);
    let others: usize = deaths.iter().map(|death| death.others).sum();
    rows.push(fact(format!("  failed requests to other shards: {others}"), others == 0));
    for is_leave in [false, true] {
        let these: Vec<&Move> = moves.iter().filter(|one| one.is_leave == is_leave).collect();
        let count = median_shards(these.iter().map(|one| one.shards).collect());
        let what = if is_leave { "leaves" } else { "joins" };
        let what = format!("a process {what}, about {count} shards move");
        waits(&what, these.iter().map(|one| one.longest).collect(), GRACEFUL_BAR, rows);
        let errors: usize = these.iter().map(|one| one.errors).sum();
        rows.push(fact(format!("  errors: {errors}"), errors == 0));
    }
    rows.push(fact(format!("attempts: {tally}"), tally.adds_up()));
    rows.extend(comparison.facts().into_iter().map(|(what, holds)| fact(what, holds)));
}

/// The longest waits of several blows of one kind.
fn waits(what: &str, mut longest: Vec<f64>, bar: Duration, rows: &mut Vec<Row>) {
    longest.sort_by(f64::total_cmp);
    rows.push(figure(format!("{what}: longest wait of a request, p50"), quantile(&longest, 50), None));
    rows.push(figure(format!("  worst of {}", longest.len()), quantile(&longest, 100), Some(bar)));
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
