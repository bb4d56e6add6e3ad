//! The timeline: what the processes say, in words, one line an event, time first.

use heartbeat_actors::Config;
use serde_json::{Value, json};

use crate::node::unix_seconds;

/// Prints what happens, for people or for programs.
pub(crate) struct Report {
    start: f64,
    json: bool,
}

/// What a check came to.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) measured: Option<f64>,
    pub(crate) bound: Option<f64>,
    pub(crate) passed: bool,
}

impl Report {
    /// A timeline that starts now.
    pub(crate) fn new(json: bool) -> Report {
        Report { start: unix_seconds(), json }
    }

    /// Says what the config promises.
    pub(crate) fn promise(&self, config: &Config) {
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
    pub(crate) fn step(&self, text: &str) {
        self.say("demo", text, &json!({ "event": "step", "text": text }));
    }

    /// Something a process said.
    pub(crate) fn event(&self, line: &Value) {
        if self.json {
            println!("{line}");
        } else if let Some(text) = words(line) {
            self.print(line["at"].as_f64().unwrap_or_default(), line["process"].as_str().unwrap_or_default(), &text);
        }
    }

    /// The table at the end. Returns whether all is well.
    pub(crate) fn table(&self, rows: &[Row]) -> bool {
        let passed = rows.iter().all(|row| row.passed);
        if self.json {
            let rows: Vec<Value> = rows
                .iter()
                .map(|row| json!({ "what": row.what, "measured_s": row.measured, "bound_s": row.bound, "passed": row.passed }))
                .collect();
            println!("{}", json!({ "event": "summary", "passed": passed, "rows": rows }));
            return passed;
        }
        let width = rows.iter().map(|row| row.what.len()).max().unwrap_or(0);
        println!("\n{:width$}  {:>10}  {:>10}", "", "measured", "bound");
        for row in rows {
            let verdict = if row.passed { "ok" } else { "BROKEN" };
            println!("{:width$}  {:>10}  {:>10}  {verdict}", row.what, seconds(row.measured), seconds(row.bound));
        }
        println!(
            "\n{}",
            if passed {
                "All failures were noticed and made good in time, and nothing healthy was touched."
            } else {
                "Not all is well: see the lines marked BROKEN."
            }
        );
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

fn seconds(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value < 0.001 => format!("{:.1} us", value * 1e6),
        Some(value) if value < 1.0 => format!("{:.1} ms", value * 1e3),
        Some(value) => format!("{value:.3} s"),
    }
}

/// An epoch as people can compare it: the count of changes, without the start of the monitor that it is counted from.
fn epoch(shard: &Value) -> u64 {
    shard["epoch"].as_u64().unwrap_or_default() & 0xf_ffff
}

/// What an event says in words; nothing for those that only repeat what another process said.
fn words(line: &Value) -> Option<String> {
    let text = |key: &str| line[key].as_str().unwrap_or("?").to_owned();
    let number = |key: &str| line[key].as_f64().unwrap_or_default();
    let is_monitor = line["process"] == "monitor";
    match line["event"].as_str()? {
        "joined" if is_monitor => Some(format!("{} joins", line["member"]["name"].as_str()?)),
        "suspected" if is_monitor => {
            Some(format!("suspects {}: silent for {:.3} s", text("node"), number("silent_for")))
        }
        "cleared" if is_monitor => Some(format!("clears {} after {:.3} s", text("node"), number("silent_for"))),
        "died" if is_monitor => {
            Some(format!("concludes that {} is dead: silent for {:.3} s", text("node"), number("silent_for")))
        }
        "left" if is_monitor => Some(format!("{} leaves in good order", text("node"))),
        "returned" if is_monitor => Some(format!("{} is back, incarnation {}", text("node"), line["incarnation"])),
        "buried" => Some("finds itself called dead, gives up its shards and comes back".to_owned()),
        "paused" => Some(format!("notices that it was paused for {:.3} s and blames nobody", number("late_by"))),
        "isolated" => Some(format!("has heard nothing of the monitor for {:.3} s", number("silent_for"))),
        "superseded" => Some("finds another process under its name".to_owned()),
        "refused" => Some(format!("refuses {}: {}", text("address"), text("reason"))),
        "started" if line["shard"].is_object() => {
            Some(format!("runs {} (epoch {})", text("worker"), epoch(&line["shard"])))
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
            Some(format!("{} is replaced, {} after the failure", text("worker"), seconds(Some(number("after"))),))
        }
        "gave_up" => Some(format!("gives up {}", text("worker"))),
        "abandoned" => Some("abandons a blocked thread; its workers move to a fresh one".to_owned()),
        "zombie_ended" => Some("the blocked thread came back, handled nothing more, and ended".to_owned()),
        "too_many_zombies" => Some("has too many blocked threads".to_owned()),
        "lagged" => Some(format!("missed {} events", line["missed"])),
        _ => None,
    }
}

fn cause(cause: &Value) -> String {
    let text = |key: &str| cause[key].as_str().unwrap_or("?").to_owned();
    match cause["kind"].as_str().unwrap_or_default() {
        "panicked" => format!("panicked: {}", text("payload")),
        "blocked" => {
            let handling = text("handling");
            let message = handling.rsplit("::").next().unwrap_or_default();
            format!("has blocked its thread in {message} for {:.3} s", cause["busy_for"].as_f64().unwrap_or_default())
        }
        "displaced" => format!("lost its thread to {}", text("by")),
        "stopped" => "stopped itself".to_owned(),
        "start_failed" => format!("did not start: {}", text("reason")),
        _ => "lost its thread".to_owned(),
    }
}
