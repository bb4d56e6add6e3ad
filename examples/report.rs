//! The timeline: what the processes say, in words, one line an event, time first; and the table at
//! the end.

use heartbeat_actors::Config;
use serde_json::{Value, json};

use crate::process::unix_seconds;

/// Prints what happens, for people or for programs.
pub struct Report {
    start: f64,
    json: bool,
    /// Of events that all processes see, the line of this process is printed.
    reporter: &'static str,
    /// Lines that differ in one name only, gathered to be printed as one.
    gathered: Option<Gathered>,
}

struct Gathered {
    at: f64,
    process: String,
    /// The text about all of them, after their names.
    what: String,
    names: Vec<String>,
}

/// An event in words.
enum Line {
    /// By itself.
    Line(String),
    /// Of this one, and the same may be said of others.
    Of(String, String),
}

/// What a check came to.
pub struct Row {
    /// The checks, in words.
    pub what: String,
    /// How long it took, in seconds, if it is something that takes time.
    pub measured: Option<f64>,
    /// How long it may take, in seconds, if that is promised.
    pub bound: Option<f64>,
    /// How it went.
    pub verdict: Verdict,
}

/// The last sentence, by the worst of all verdicts.
pub struct Closing {
    /// All is well.
    pub well: &'static str,
    /// Something came late.
    pub late: &'static str,
    /// Something is broken.
    pub broken: &'static str,
}

/// How a check went, the worst last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As promised.
    Ok,
    /// It came, and later than promised.
    Late,
    /// It did not come, or what should not have.
    Broken,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Late => "late",
            Verdict::Broken => "BROKEN",
        }
    }
}

impl Report {
    /// A timeline that starts now.
    pub fn new(json: bool, reporter: &'static str) -> Report {
        Report { start: unix_seconds(), json, reporter, gathered: None }
    }

    /// Says what the config promises.
    pub fn promise(&self, config: &Config) {
        if !self.json
            && let Ok(sums) = config.check()
        {
            println!("What the config of this cluster adds up to:");
            for line in sums.to_string().lines() {
                println!("  {line}");
            }
            println!();
        }
    }

    /// A step of the demonstration.
    pub fn step(&mut self, text: &str) {
        self.note(text, &json!({ "event": "step", "text": text }));
    }

    /// Something the demonstration found out: a text for people, a value for programs.
    pub fn note(&mut self, text: &str, value: &Value) {
        self.flush();
        self.say("demo", text, value);
    }

    /// Something a process said.
    pub fn event(&mut self, line: &Value) {
        if self.json {
            println!("{line}");
            return;
        }
        let (at, process) = (line["at"].as_f64().unwrap_or_default(), line["process"].as_str().unwrap_or_default());
        match words(line, self.reporter) {
            None => {}
            Some(Line::Line(text)) => {
                self.flush();
                self.print(at, process, &text);
            }
            Some(Line::Of(name, what)) => match &mut self.gathered {
                Some(gathered) if gathered.process == process && gathered.what == what => gathered.names.push(name),
                _ => {
                    self.flush();
                    self.gathered = Some(Gathered { at, process: process.to_owned(), what, names: vec![name] });
                }
            },
        }
    }

    /// Prints what was gathered; to be called when nothing more comes for a while.
    pub fn flush(&mut self) {
        if let Some(gathered) = self.gathered.take() {
            self.print(gathered.at, &gathered.process, &format!("{} {}", gathered.names.join(", "), gathered.what));
        }
    }

    /// The table at the end. Returns whether nothing is broken.
    pub fn table(&mut self, rows: &[Row], closing: &Closing) -> bool {
        self.flush();
        let worst = rows.iter().map(|row| row.verdict).max().unwrap_or(Verdict::Ok);
        let passed = worst < Verdict::Broken;
        if self.json {
            let rows: Vec<Value> = rows
                .iter()
                .map(|row| json!({ "what": row.what, "measured_s": row.measured, "bound_s": row.bound, "verdict": row.verdict.word() }))
                .collect();
            println!("{}", json!({ "event": "summary", "passed": passed, "rows": rows }));
            return passed;
        }
        let width = rows.iter().map(|row| row.what.len()).max().unwrap_or(0);
        println!("\n{:width$}  {:>10}  {:>10}", "", "measured", "bound");
        for row in rows {
            let (measured, bound, verdict) = (seconds(row.measured), seconds(row.bound), row.verdict.word());
            println!("{:width$}  {measured:>10}  {bound:>10}  {verdict}", row.what);
        }
        let whole = match worst {
            Verdict::Ok => closing.well,
            Verdict::Late => closing.late,
            Verdict::Broken => closing.broken,
        };
        println!("\n{whole}");
        passed
    }

    fn say(&self, who: &str, text: &str, value: &Value) {
        let at = unix_seconds();
        if self.json {
            let mut value = value.clone();
            value["at"] = json!(at);
            value["process"] = json!(who);
            println!("{value}");
        } else {
            self.print(at, who, text);
        }
    }

    fn print(&self, at: f64, who: &str, text: &str) {
        println!("{:7.3}  {who:8} {text}", at - self.start);
    }
}

/// Seconds in the unit in which people read them; nothing if there are none.
pub fn seconds(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value < 0.001 => format!("{:.1} us", value * 1e6),
        Some(value) if value < 1.0 => format!("{:.1} ms", value * 1e3),
        Some(value) => format!("{value:.3} s"),
    }
}

/// An epoch as people can compare it: the lower part of the clock in it, in milliseconds.
fn epoch(shard: &Value) -> u64 {
    shard["epoch"].as_u64().unwrap_or_default() >> 22 & 0xff_ffff
}

/// Who else says so, of a verdict.
fn said(line: &Value) -> String {
    let agrees = |one: &&Value| one["agrees"] == true;
    let all = line["evidence"].as_array().map_or(&[][..], Vec::as_slice);
    let refused = if all.iter().any(|one| one["refused"] == true) { ", connections refused" } else { "" };
    let names: Vec<&str> = all.iter().skip(1).filter(agrees).filter_map(|one| one["observer"].as_str()).collect();
    if names.is_empty() { refused.to_owned() } else { format!("{refused}; so say {}", names.join(", ")) }
}

/// What an event says in words; nothing for those that only repeat what another process said.
fn words(line: &Value, reporter: &str) -> Option<Line> {
    let text = |key: &str| line[key].as_str().unwrap_or("?").to_owned();
    let number = |key: &str| line[key].as_f64().unwrap_or_default();
    let (is_reporter, is_author) =
        (line["process"] == reporter, line["evidence"].as_array().is_some_and(|said| !said.is_empty()));
    let text_of_line = match line["event"].as_str()? {
        "joined" if is_reporter => Some(format!("{} joins", line["member"]["name"].as_str()?)),
        "suspected" if is_author => {
            Some(format!("suspects {}: silent for {:.3} s{}", text("node"), number("silent_for"), said(line)))
        }
        "cleared" if is_reporter => Some(format!("hears that {} lives", text("node"))),
        "died" if is_author => Some(format!(
            "concludes that {} is dead: silent for {:.3} s{}",
            text("node"),
            number("silent_for"),
            said(line)
        )),
        "died" if is_reporter => Some(format!("hears that {} is dead", text("node"))),
        "left" if is_reporter => Some(format!("{} leaves in good order", text("node"))),
        "returned" if is_reporter => {
            Some(format!("{} is back, return number {}", text("node"), line["incarnation"]["returns"]))
        }
        "zone_disrupted" => Some(format!("holds its verdicts: {} of {} are silent", line["silent"], line["members"])),
        "zone_recovered" => Some("gives verdicts again, after fresh timers for all".to_owned()),
        "unresolved" => Some(format!("cannot look up {}: {}", text("seed"), text("reason"))),
        "declared_dead" => Some("finds itself called dead, gives up its shards and comes back".to_owned()),
        "paused" => Some(format!("notices that it was paused for {:.3} s and blames nobody", number("late_by"))),
        "isolated" => Some(format!("has no answer for {:.3} s from {}", number("silent_for"), text("tried"))),
        "superseded" => Some("finds another process under its name".to_owned()),
        "authority_lost" => Some(format!("has no answer from the authority: {}", text("reason"))),
        "authority_reached" => Some("has answers from the authority again".to_owned()),
        "session_ended" => {
            Some(format!("gives up its shards, its session at the authority is over: {}", text("reason")))
        }
        "token_refused" => Some(format!("refuses an epoch of {} that goes back", text("group"))),
        "quorum_lost" => {
            Some(format!("gives up its shards: only {} of {} answer it", line["reached"], line["members"]))
        }
        "quorum_gained" => Some(format!("is answered by {} of {}", line["reached"], line["members"])),
        "replica_refused" => {
            let (group, index, by) = (text("group"), &line["index"], text("by"));
            Some(format!("has a snapshot of {group}/{index} refused by {by}: {} bytes", line["bytes"]))
        }
        "join_refused" => Some(format!("refuses {}: {}", text("address"), text("reason"))),
        "started" if line["shard"].is_object() => {
            let what = format!("now run here, under epoch {}", epoch(&line["shard"]));
            return Some(Line::Of(text("worker"), what));
        }
        "failed" if line["cause"]["kind"] == "displaced" => {
            let by = line["cause"]["by"].as_str().unwrap_or("?");
            return Some(Line::Of(text("worker"), format!("lose their thread to {by}, through no fault of their own")));
        }
        "replaced" if line["cause"]["kind"] == "displaced" => {
            return Some(Line::Of(text("worker"), "run on the fresh thread".to_owned()));
        }
        "failed" => {
            let cause = cause(&line["cause"]);
            match line["restart_in"].as_f64() {
                Some(0.0) => Some(format!("{} {cause}", text("worker"))),
                Some(pause) => Some(format!("{} {cause}; starts again in {pause:.3} s", text("worker"))),
                None => Some(format!("{} {cause}; is not started again", text("worker"))),
            }
        }
        "replaced" => {
            let after = seconds(Some(number("after")));
            Some(format!("{} is replaced, {after} after the failure began", text("worker")))
        }
        "gave_up" => Some(format!("gives up {}", text("worker"))),
        "thread_held" => {
            let count = |key: &str| line[key].as_array().map_or(0, Vec::len);
            let by = text("by");
            Some(match (count("waiting"), count("started_anew")) {
                (0, 0) => format!("a thread is held by the worker {by:?}, which is alone on it"),
                (waiting, 0) => {
                    format!("a thread is held by the worker {by:?}; its {waiting} neighbours wait and keep their state")
                }
                (waiting, anew) => {
                    format!("a thread is held by the worker {by:?}; {waiting} neighbours wait, {anew} start anew")
                }
            })
        }
        "thread_returned" => Some("the held thread came back, and the workers that waited for it go on".to_owned()),
        "abandoned" => Some("abandons a held thread, for which no worker waits".to_owned()),
        "zombie_ended" => Some("the blocked thread came back, handled nothing more, and ended".to_owned()),
        "too_many_zombies" => Some("has too many blocked threads".to_owned()),
        "lagged" => Some(format!("missed {} events", line["missed"])),
        _ => None,
    };
    text_of_line.map(Line::Line)
}

fn cause(cause: &Value) -> String {
    let text = |key: &str| cause[key].as_str().unwrap_or("?").to_owned();
    match cause["kind"].as_str().unwrap_or_default() {
        "panicked" => format!("panicked: {}", text("payload")),
        "blocked" => {
            let handling = cause["during"]["message"].as_str().unwrap_or("its start or a timer");
            let message = handling.rsplit("::").next().unwrap_or_default();
            format!("has blocked its thread in {message} for {:.3} s", cause["busy_for"].as_f64().unwrap_or_default())
        }
        "stopped" => "stopped itself".to_owned(),
        "start_failed" => format!("did not start: {}", text("reason")),
        _ => "lost its thread".to_owned(),
    }
}
