//! The story: what is done to the processes under load, what was promised for it, and whether that
//! was kept.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use heartbeat_actors::Config;
use heartbeat_examples::Failure;
use heartbeat_examples::process::{Listen, unix_seconds};
use heartbeat_examples::report::{Closing, Row, Verdict, seconds};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::load::{Load, Manner, Miss, Span};
use crate::losses::{Lost, lost};
use crate::outcome::{Comparison, Outcome};
use crate::service::{REPORTER, Service};
use crate::store::{self, Late, Served};
use crate::{Authority, RETRY, SNAPSHOT_EVERY, Settings};

/// The processes at first; the reporter is the first of them.
const NAMES: [&str; 5] = [REPORTER, "node-2", "node-3", "node-4", "node-5"];

/// The one that comes late.
const LATE: &str = "node-6";

/// For how long the write of the process that is frozen is held up: longer than it takes to freeze
/// it, and less than it is frozen.
const HOLD: Duration = Duration::from_millis(500);

/// The number of the request for that write.
const HELD: u64 = u64::MAX;

/// What a message may take from one process to another on a busy machine.
const MOMENT: Duration = Duration::from_millis(100);

const CLOSING: Closing = Closing {
    well: "All promises were kept.",
    late: "All promises were kept, some late.",
    broken: "Not all promises were kept: see the lines marked BROKEN.",
};

/// Something that was done to the service.
struct Act {
    what: String,
    at: f64,
    /// Longest time in which a shard gives no answer.
    gap_max: Duration,
    /// Whether increments may be lost that are younger than the snapshots.
    may_lose: bool,
    /// Whether each request must be counted at its first attempt.
    is_graceful: bool,
}

impl Act {
    fn of(what: String, at: f64, gap_max: Duration) -> Act {
        Act { what, at, gap_max, may_lose: false, is_graceful: false }
    }

    fn lossy(self) -> Act {
        Act { may_lose: true, ..self }
    }

    fn graceful(self) -> Act {
        Act { is_graceful: true, ..self }
    }
}

/// What the config promises.
struct Promises {
    killed: Duration,
    frozen: Duration,
    /// For shards that are handed over.
    moved: Duration,
    /// Older increments survive the kill of any process.
    snapshot_age: Duration,
}

impl Promises {
    fn of(config: &Config, authority: Authority, manner: Manner) -> Promises {
        // The clients' own part: a client rests between two requests.
        let asking = manner.pause + RETRY + MOMENT;
        let ownership = &config.ownership;
        // A process that ends is seen to; one that is silent is waited for, and others are asked.
        let silence = config.timeout + config.interval;
        let session = match authority {
            Authority::View => Duration::ZERO,
            // The session was renewed at the last moment, and a node that finds a shard held claims
            // it again.
            Authority::File | Authority::Etcd => ownership.session_ttl + ownership.session_ttl / 3,
        };
        Promises {
            killed: config.stall + asking,
            frozen: silence.max(session) + config.stall + asking,
            moved: ownership.hand_over_timeout + config.interval + asking,
            snapshot_age: SNAPSHOT_EVERY + ownership.copy_every + MOMENT,
        }
    }
}

struct Story {
    service: Service,
    ledger: Served,
    load: Rc<Load>,
    promises: Promises,
    acts: Vec<Act>,
    /// Who was killed or frozen.
    harmed: Vec<&'static str>,
    rows: Vec<Row>,
}

/// Tells the story.
pub(crate) fn run(settings: &Settings) -> Result<(), Failure> {
    let ledger = store::serve()?;
    // From here on no process is left behind: the service ends them when it is dropped.
    let service = Service::new(settings, Some(ledger.address), "failover")?;
    let mut story = Story::begin(service, ledger, settings)?;
    story.play()?;
    story.service.end();
    let rows = std::mem::take(&mut story.rows);
    if story.service.report.table(&rows, &CLOSING) { Ok(()) } else { Err("a promise was not kept".into()) }
}

impl Story {
    /// Starts the processes and lays load on.
    fn begin(mut service: Service, ledger: Served, settings: &Settings) -> Result<Story, Failure> {
        let (config, manner) = (service.config()?, Manner::of(settings.shards));
        let promises = Promises::of(&config, settings.authority, manner);
        service.report.promise(&config);
        let authority = match settings.authority {
            Authority::View => "nobody hands out the right to a shard: each goes by its own view",
            Authority::File => "the right to a shard is handed out by files in a folder of this host",
            Authority::Etcd => "the right to a shard is handed out by etcd",
        };
        let count = NAMES.len();
        let text = format!("starts {count} processes with {} shards; {authority}", settings.shards);
        let kind = format!("{:?}", settings.authority).to_lowercase();
        service.report.note(&text, &json!({ "event": "step", "text": text, "authority": kind }));
        service.start_all(&NAMES.map(str::to_owned))?;
        let rate = f64::from(manner.shards) / manner.pause.as_secs_f64();
        service.report.step(&format!("lays load on: a client for each shard, {rate:.0} requests a second at most"));
        let load = service.lay_on(manner)?;
        let mut story =
            Story { service, ledger, load, promises, acts: Vec::new(), harmed: Vec::new(), rows: Vec::new() };
        story.wait_for_answers(0.0, "")?;
        Ok(story)
    }

    fn play(&mut self) -> Result<(), Failure> {
        self.service.quiet(Duration::from_secs(2))?;
        self.kill("node-3")?;
        self.freeze("node-2")?;
        self.leave("node-4")?;
        self.join(LATE)?;
        self.service.report.step("takes the load off, and compares what was acknowledged with what the service knows");
        self.load.end();
        self.service.quiet(Duration::from_millis(200))?;
        self.judge()
    }

    // ---- the acts ------------------------------------------------------------------------------

    fn kill(&mut self, victim: &'static str) -> Result<(), Failure> {
        self.service.report.step(&format!("kills {victim} with SIGKILL"));
        self.harmed.push(victim);
        let from = self.service.lines.len();
        let at = self.service.kill(victim)?;
        self.act(Act::of(format!("{victim} killed"), at, self.promises.killed).lossy());
        self.service.about("died", victim, from)?;
        self.wait_for_answers(at, victim)?;
        self.service.reap(victim)?;
        self.service.quiet(Duration::from_secs(2))
    }

    /// Freezes a process that has just looked at its lease and is about to write; then lets it go
    /// on.
    fn freeze(&mut self, victim: &'static str) -> Result<(), Failure> {
        self.harmed.push(victim);
        let key = self.key_of(victim)?;
        let from = self.service.lines.len();
        let path = format!("/hold/{key}/{HELD}/{}", HOLD.as_millis());
        let held = self.service.ask(victim, "POST", &path)?["count"].as_u64().unwrap_or(0);
        let at = unix_seconds();
        self.service.children.signal(victim, Signal::SIGSTOP)?;
        let text = format!("freezes {victim} with SIGSTOP, while a write of it, of {key}, is under way");
        self.service.report.step(&text);
        self.act(Act::of(format!("{victim} frozen"), at, self.promises.frozen).lossy());
        let died = self.service.about("died", victim, from)?;
        self.wait_for_answers(died, victim)?;
        // The new owner has counted the same key further by the time the late write comes.
        let ledger = self.ledger.clone();
        let is_past = |_: &[Value]| (ledger.look().plain(&key) > held).then_some(());
        self.service.wait_until(&format!("the new owner counts {key} past {held}"), is_past)?;
        self.service.quiet(Duration::from_secs(1))?;

        self.service.report.step(&format!("lets {victim} go on"));
        let (from, at) = (self.service.lines.len(), unix_seconds());
        self.act(Act::of(format!("{victim} back"), at, self.promises.moved));
        self.service.children.signal(victim, Signal::SIGCONT)?;
        self.service.about("returned", victim, from)?;
        let late = self.wait_for_late(victim, &key)?;
        self.tell_late(late.as_ref());
        self.wait_for_share(victim)?;
        self.wait_for_answers(at, "")?;
        self.service.quiet(Duration::from_secs(2))
    }

    fn leave(&mut self, name: &'static str) -> Result<(), Failure> {
        self.service.report.step(&format!("asks {name} to leave"));
        let (from, at) = (self.service.lines.len(), unix_seconds());
        self.act(Act::of(format!("{name} leaves"), at, self.promises.moved).graceful());
        self.service.leave(name)?;
        let left = self.service.about("left", name, from)?;
        self.wait_for_answers(left, name)?;
        self.service.reap(name)?;
        self.service.quiet(Duration::from_secs(1))
    }

    fn join(&mut self, name: &'static str) -> Result<(), Failure> {
        self.service.report.step(&format!("starts {name}"));
        let (from, at) = (self.service.lines.len(), unix_seconds());
        self.act(Act::of(format!("{name} joins"), at, self.promises.moved).graceful());
        self.service.start(name)?;
        self.service.about("joined", name, from)?;
        self.service.open(name)?;
        self.wait_for_share(name)?;
        self.wait_for_answers(unix_seconds(), "")?;
        self.service.quiet(Duration::from_secs(2))
    }

    fn act(&mut self, act: Act) {
        self.acts.push(act);
    }

    /// Waits until every shard has answered after `since`, and not from `gone`.
    fn wait_for_answers(&mut self, since: f64, gone: &str) -> Result<(), Failure> {
        let all: BTreeSet<u32> = (0..self.load.keys().len() as u32).collect();
        let load = self.load.clone();
        self.service.wait_until("every shard answers", |_| load.all_answered(&all, since, gone)).map(drop)
    }

    /// Waits until a process answers for shards.
    fn wait_for_share(&mut self, name: &str) -> Result<(), Failure> {
        let load = self.load.clone();
        let shards = self.service.wait_until(&format!("{name} answers for some shards"), |_| {
            Some(load.answered_by(name)).filter(|shards| !shards.is_empty())
        })?;
        // The others follow within moments.
        self.service.quiet(Duration::from_millis(500))?;
        let shards = shards.len().max(self.load.answered_by(name).len());
        self.service.report.step(&format!("{name} answers for {shards} shards"));
        Ok(())
    }

    /// A key of a shard that this process runs.
    fn key_of(&self, name: &str) -> Result<String, Failure> {
        let shards = self.load.answered_by(name);
        let shard = shards.first().ok_or_else(|| format!("{name} runs no shard; use more of them"))?;
        Ok(self.load.keys()[*shard as usize][0].clone())
    }

    /// Waits for the delayed write; `None` if it does not reach the store in time.
    fn wait_for_late(&mut self, node: &str, key: &str) -> Result<Option<Late>, Failure> {
        for _ in 0..20 {
            let is_it = |late: &&Late| late.written.node == node && late.written.key == key;
            let late = self.ledger.look().late.iter().find(is_it).cloned();
            if late.is_some() {
                return Ok(late);
            }
            self.service.quiet(Duration::from_millis(100))?;
        }
        Ok(None)
    }

    /// What became of the write that was held up.
    fn tell_late(&mut self, late: Option<&Late>) {
        let Some(Late { at, written, plain_before }) = late else {
            let what = "the write that was held up was refused: no, the ledger did not see it come late";
            return self.fact(what.to_owned(), false);
        };
        let (node, key, count) = (&written.node, &written.key, written.count);
        let text = format!(
            "the ledger refuses the late write of {node}: {key} is {count}; the plain copy takes it, and goes from {plain_before} back to {count}"
        );
        let value = json!({ "event": "late_write", "refused_at": at, "key": key, "count": count, "plain_before": plain_before });
        self.service.report.note(&text, &value);
        self.fact(format!("late write of {node} refused by its epoch"), true);
        let what = format!("control: the same write, without a fence, overwrote {plain_before} with {count}");
        self.fact(what, *plain_before > count);
    }

    // ---- what became of it ---------------------------------------------------------------------

    fn judge(&mut self) -> Result<(), Failure> {
        self.judge_requests();
        self.judge_graceful();
        self.judge_gaps();
        self.judge_losses();
        let ledger = self.ledger.look();
        let (admitted, late, shared) = (ledger.admitted, ledger.late.len(), ledger.shared_epochs);
        drop(ledger);
        self.fact(format!("writes admitted by the ledger: {admitted}, refused by fencing: {late}"), true);
        self.fact(format!("writes of two processes under one epoch: {shared}"), shared == 0);
        self.compare()?;
        let died = |line: &&Value| line["event"] == "died" && !self.harmed.iter().any(|name| line["node"] == *name);
        let died = self.service.lines.iter().filter(died).count();
        self.fact(format!("healthy processes concluded dead: {died}"), died == 0);
        Ok(())
    }

    /// What the clients were told of their requests, and whether it is true.
    fn judge_requests(&mut self) {
        let handled = self.ledger.look().handled.clone();
        let seen = self.load.seen();
        let (tally, comparison) = (seen.tally, Comparison::of(&seen.ended, &handled));
        let longest = seen.waits.iter().map(Span::length).fold(0.0, f64::max);
        let given_up = seen.ended.values().filter(|outcome| matches!(outcome, Outcome::Refused(_))).count();
        let declined = seen.misses.iter().filter(|miss| matches!(miss.outcome, Outcome::Declined(_))).count();
        let is_harmed = |name: &str| self.harmed.contains(&name);
        let is_silent = |miss: &&Miss| miss.outcome == Outcome::Unanswered && !is_harmed(&miss.process);
        let silent = seen.misses.iter().filter(is_silent).count();
        let mut reasons: BTreeMap<String, u32> = BTreeMap::new();
        for miss in &seen.misses {
            *reasons.entry(miss.outcome.to_string()).or_default() += 1;
        }
        drop(seen);
        let text = format!(
            "{} requests in {} attempts, the slowest answered after {}; {declined} were declined by a worker whose time was over",
            comparison.requests,
            tally.sent,
            seconds(Some(longest))
        );
        let value = json!({ "event": "requests", "sent": tally.sent, "handled": tally.handled, "refused": tally.refused,
            "interrupted": tally.interrupted, "timed_out": tally.timed_out, "longest_s": longest, "declined": declined });
        self.service.report.note(&text, &value);
        for (reason, count) in reasons {
            let text = format!("{count} attempts: {reason}");
            self.service.report.note(&text, &json!({ "event": "not_counted", "reason": reason, "count": count }));
        }
        self.fact(format!("attempts: {tally}"), tally.adds_up());
        for (what, holds) in comparison.facts() {
            self.fact(what, holds);
        }
        self.fact(format!("  given up after being refused again and again: {given_up}"), given_up == 0);
        self.fact(format!("  without any word from a healthy process: {silent}"), silent == 0);
    }

    /// While a process joins or leaves, each request is counted at its first attempt.
    fn judge_graceful(&mut self) {
        let ends = self.acts.iter().skip(1).map(|next| next.at).chain([f64::INFINITY]);
        let graceful: Vec<_> = self.acts.iter().zip(ends).filter(|(act, _)| act.is_graceful).collect();
        let facts: Vec<(String, bool)> = graceful
            .into_iter()
            .map(|(act, end)| {
                let seen = self.load.seen();
                let errors = seen.misses.iter().filter(|miss| act.at <= miss.at && miss.at < end).count();
                (format!("{}: attempts that were not counted: {errors}", act.what), errors == 0)
            })
            .collect();
        for (what, is_kept) in facts {
            self.fact(what, is_kept);
        }
    }

    /// The longest gaps between two answers of one shard, by what had been done last when they
    /// ended.
    fn judge_gaps(&mut self) {
        let gaps = self.load.seen().gaps.clone();
        let mut longest: Vec<BTreeMap<u32, f64>> = vec![BTreeMap::new(); self.acts.len()];
        for gap in &gaps {
            if let Some(cause) = self.acts.iter().rposition(|act| act.at <= gap.to) {
                let longest = longest[cause].entry(gap.shard).or_default();
                *longest = longest.max(gap.length());
            }
        }
        let starved = self.starved();
        for (act, longest) in self.acts.iter().zip(longest) {
            let mut longest: Vec<(u32, f64)> = longest.into_iter().collect();
            longest.sort_by(|a, b| b.1.total_cmp(&a.1));
            let first: Vec<String> =
                longest.iter().take(3).map(|(shard, gap)| format!("shard {shard} {}", seconds(Some(*gap)))).collect();
            let text = format!(
                "{}: longest gaps {}",
                act.what,
                if first.is_empty() { "none".to_owned() } else { first.join(", ") }
            );
            let value =
                json!({ "event": "gaps", "cause": act.what, "bound_s": act.gap_max.as_secs_f64(), "longest": longest });
            self.service.report.note(&text, &value);
            let worst = longest.first().map(|(_, gap)| *gap);
            self.rows.push(row(format!("{}: longest gap of a shard", act.what), worst, act.gap_max, starved));
        }
    }

    /// Acknowledged increments that the service forgot, by what had been done last when they were
    /// forgotten.
    fn judge_losses(&mut self) {
        let lost = lost(&self.ledger.look().lives, &self.load.seen().acknowledged);
        let starved = self.starved();
        let promised = self.promises.snapshot_age.as_secs_f64() + starved;
        let mut beyond = 0;
        for (at, act) in self.acts.iter().enumerate() {
            let end = self.acts.get(at + 1).map_or(f64::INFINITY, |next| next.at);
            let lost: Vec<&Lost> = lost.iter().filter(|one| (act.at..end).contains(&one.forgotten_at)).collect();
            // An increment that was acknowledged after the blow was done before it.
            let ages: Vec<f64> = lost.iter().map(|one| (act.at - one.at).max(0.0)).collect();
            let oldest = ages.iter().copied().reduce(f64::max);
            beyond += if act.may_lose { ages.iter().filter(|age| **age > promised).count() } else { ages.len() };
            let text = format!(
                "{}: {} acknowledged increments lost{}",
                act.what,
                ages.len(),
                oldest.map_or(String::new(), |age| format!(", the oldest {} before", seconds(Some(age))))
            );
            let value = json!({ "event": "losses", "cause": act.what, "lost": ages.len(), "oldest_s": oldest, "promised_s": if act.may_lose { promised } else { 0.0 }, "first": lost.iter().take(20).collect::<Vec<_>>() });
            self.service.report.note(&text, &value);
            if act.may_lose {
                let what = format!("{}: {} acknowledged increments lost, the oldest", act.what, ages.len());
                self.rows.push(row(what, oldest, self.promises.snapshot_age, starved));
            } else {
                self.rows
                    .push(fact(format!("{}: {} acknowledged increments lost", act.what, ages.len()), ages.is_empty()));
            }
        }
        let before = lost.iter().filter(|one| self.acts.first().is_none_or(|act| one.forgotten_at < act.at)).count();
        self.fact(
            format!("acknowledged increments lost beyond what was promised: {}", beyond + before),
            beyond + before == 0,
        );
    }

    /// Every key must be as often counted in the service as the ledger says.
    fn compare(&mut self) -> Result<(), Failure> {
        let cells = self.ledger.look().cells.clone();
        let mut different = 0_u32;
        for ((_, key), count) in &cells {
            let answer = self.service.insist(REPORTER, "GET", &format!("/count/{key}"))?;
            different += u32::from(answer.as_u64() != Some(*count));
        }
        self.fact(
            format!("keys of which service and ledger differ at the end: {different} of {}", cells.len()),
            different == 0,
        );
        Ok(())
    }

    /// How long the host kept unstopped processes from running, in seconds: the maximum over the
    /// processes, by their own report. A figure that is late by no more than that is the host's
    /// fault.
    fn starved(&self) -> f64 {
        let mut paused: BTreeMap<&str, f64> = BTreeMap::new();
        for line in self.service.lines.iter().filter(|line| line["event"] == "paused") {
            let process = line["process"].as_str().unwrap_or_default();
            *paused.entry(process).or_default() += line["late_by"].as_f64().unwrap_or_default();
        }
        let unharmed = paused.iter().filter(|(process, _)| !self.harmed.iter().any(|name| name == *process));
        unharmed.map(|(_, paused)| *paused).fold(0.0, f64::max)
    }

    fn fact(&mut self, what: String, holds: bool) {
        self.rows.push(fact(what, holds));
    }
}

/// Something that holds or does not.
fn fact(what: String, holds: bool) -> Row {
    Row { what, measured: None, bound: None, verdict: if holds { Verdict::Ok } else { Verdict::Broken } }
}

/// Something that takes time, and how long it may take. What does not come is as good as at once.
fn row(what: String, measured: Option<f64>, bound: Duration, starved: f64) -> Row {
    let bound = bound.as_secs_f64();
    let verdict = match measured {
        Some(measured) if measured > bound + starved => Verdict::Broken,
        Some(measured) if measured > bound => Verdict::Late,
        Some(_) | None => Verdict::Ok,
    };
    Row { what, measured, bound: Some(bound), verdict }
}
