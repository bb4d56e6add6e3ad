//! What a node's door answers, as far as this program shows it.
//!
//! Keys that are not known here are left out, and most may be missing: the node may be older or
//! newer than this program.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `/members`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Members {
    /// The node that answers.
    pub(crate) node: String,
    /// Its cluster, if it is in one.
    pub(crate) cluster: Option<String>,
    #[serde(default)]
    pub(crate) is_joined: bool,
    /// Local health: 0 is well, 8 the worst. `None` if its control thread did not answer.
    #[serde(default)]
    pub(crate) health: Option<u8>,
    /// How it and the members can understand each other; `None` if traffic is plain.
    #[serde(default)]
    pub(crate) seals: Option<Seals>,
    pub(crate) members: Vec<Member>,
}

/// The keys of the node and of its members.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Seals {
    /// Its ids, the preferred one first.
    pub(crate) keys: String,
    pub(crate) accept_plain: bool,
    pub(crate) members: Vec<MemberSeal>,
}

/// The keys of a member.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct MemberSeal {
    pub(crate) name: String,
    pub(crate) keys: Vec<String>,
    /// The key of its newest datagram to the node; `None` if that was plain.
    pub(crate) used: Option<String>,
    /// Whether it has a key that the node has, too.
    pub(crate) can_open: bool,
}

/// A member as the node sees it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Member {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) address: String,
    #[serde(default)]
    pub(crate) role: String,
    #[serde(default)]
    pub(crate) zone: String,
    #[serde(default)]
    pub(crate) status: String,
    /// Whether it watches the node.
    #[serde(default)]
    pub(crate) watches_this_node: Option<bool>,
    /// If the node watches it: its silence in seconds.
    #[serde(default)]
    pub(crate) silent_for: Option<f64>,
    /// The event by which it was suspected or declared dead, with its evidence.
    #[serde(default)]
    pub(crate) verdict: Option<Value>,
}

impl Members {
    /// How many members have each status.
    pub(crate) fn by_status(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        self.members.iter().for_each(|member| *counts.entry(&*member.status).or_default() += 1);
        counts
    }
}

/// `/groups`: a group with the groups in it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Group {
    /// `None` is the node's root.
    pub(crate) name: Option<String>,
    pub(crate) is_running: bool,
    #[serde(default)]
    pub(crate) escalations: u64,
    /// Restarts in the period that ends now, and how many are allowed in it. `None` where the node
    /// does not say, or there is no limit.
    #[serde(default)]
    pub(crate) restarts: Option<u64>,
    #[serde(default)]
    pub(crate) intensity: Option<u64>,
    /// How many of its own workers are in each state.
    #[serde(default)]
    pub(crate) workers: BTreeMap<String, u64>,
    #[serde(default)]
    pub(crate) groups: Vec<Group>,
}

impl Group {
    /// How many workers are in each state, with those of the groups in it.
    pub(crate) fn by_state(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        let mut left = vec![self];
        while let Some(group) = left.pop() {
            group.workers.iter().for_each(|(state, count)| {
                let sum: &mut u64 = counts.entry(&**state).or_default();
                *sum = sum.saturating_add(*count);
            });
            left.extend(&group.groups);
        }
        counts
    }

    /// How many groups are in it, at any depth.
    pub(crate) fn size(&self) -> u64 {
        self.groups.iter().map(|group| 1 + group.size()).sum()
    }
}

/// `/workers`: a page of them.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Page {
    pub(crate) workers: Vec<Worker>,
    /// The name to go on behind.
    #[serde(default)]
    pub(crate) next: Option<String>,
}

/// A worker of the node.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Worker {
    pub(crate) name: String,
    /// The type of its actor.
    pub(crate) kind: String,
    pub(crate) group: Option<String>,
    pub(crate) state: String,
    pub(crate) generation: u64,
    pub(crate) is_ready: bool,
    pub(crate) not_ready: Option<String>,
    pub(crate) failures: u64,
    /// Why it failed the last time, with the key `kind`.
    pub(crate) last_cause: Option<Value>,
    /// Messages in its queue, or in hand.
    pub(crate) queued: u64,
    pub(crate) capacity: u64,
    pub(crate) handled: u64,
    pub(crate) interrupted: u64,
    pub(crate) dead: u64,
    pub(crate) rejected: u64,
    /// What it does now, and for how many seconds.
    pub(crate) doing: Option<String>,
    pub(crate) busy_for: Option<f64>,
}

impl Worker {
    /// How full its queue is, 0 to 1.
    pub(crate) fn fullness(&self) -> f64 {
        self.queued as f64 / self.capacity.max(1) as f64
    }

    /// Why it failed the last time, in a word.
    pub(crate) fn cause(&self) -> &str {
        self.last_cause.as_ref().and_then(|cause| cause.get("kind")).and_then(Value::as_str).unwrap_or_default()
    }
}

/// `/summary`: what needs attention.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Summary {
    pub(crate) node: String,
    pub(crate) cluster: Option<String>,
    /// The checks of `/livez` and `/readyz`.
    pub(crate) live: Vec<Check>,
    pub(crate) ready: Vec<Check>,
    /// How many members have each status.
    pub(crate) members: BTreeMap<String, u64>,
    pub(crate) groups: GroupSums,
    pub(crate) workers: WorkerSums,
    /// Threads that are held past their timeout, and how many may be.
    pub(crate) threads_held: u64,
    pub(crate) threads_held_max: u64,
    /// `None` without a cluster.
    pub(crate) requests: Option<RequestCounts>,
}

/// Of `/summary`: the groups.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct GroupSums {
    pub(crate) count: u64,
    /// Names of groups that do not run.
    pub(crate) down: Vec<String>,
}

/// Of `/summary`: all workers together, and those to look at.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct WorkerSums {
    pub(crate) count: u64,
    /// How many are in each state.
    pub(crate) states: BTreeMap<String, u64>,
    /// Those at work for longest.
    pub(crate) busiest: Vec<Worker>,
    /// Those with the fullest queues.
    pub(crate) fullest: Vec<Worker>,
}

/// `/links`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Links {
    pub(crate) detector: String,
    pub(crate) links: Vec<Link>,
}

/// A member that the node watches; times are seconds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) verdict: String,
    pub(crate) silent_for: f64,
    pub(crate) expected_after: f64,
    pub(crate) suspected_after: f64,
    pub(crate) dead_after: f64,
    pub(crate) phi: f64,
    /// The members that watch it.
    pub(crate) observers: Vec<String>,
    /// What the detector `budget` has learnt.
    pub(crate) budget: Option<LinkBudget>,
}

/// What the detector `budget` has learnt of a link; times are seconds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct LinkBudget {
    /// Wrong suspicions lately, and how many were allowed.
    pub(crate) made: f64,
    pub(crate) allowed: f64,
    /// Wrong suspicions an hour where the budget cannot be kept below the timeout.
    pub(crate) kept_at: Option<f64>,
    /// The part of the heartbeats that are lost, 0 to 1.
    pub(crate) loss: f64,
    pub(crate) jitter: f64,
}

/// `/requests`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Requests {
    /// `None` without a cluster.
    pub(crate) requests: Option<RequestCounts>,
    pub(crate) held_max: u64,
    pub(crate) window: u64,
    /// The members to which requests may go.
    pub(crate) peers: Vec<Peer>,
}

/// What became of requests to other nodes.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct RequestCounts {
    pub(crate) sent: u64,
    pub(crate) handled: u64,
    pub(crate) refused: u64,
    pub(crate) interrupted: u64,
    pub(crate) timed_out: u64,
    /// Requests that wait for an owner, and that are under way.
    pub(crate) held: u64,
    pub(crate) under_way: u64,
    /// How many were refused for each reason.
    pub(crate) refused_by: BTreeMap<String, u64>,
    /// The longest that a held one has waited, in seconds.
    pub(crate) oldest_held_for: Option<f64>,
}

/// A member to which requests may go.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) is_connected: bool,
    pub(crate) under_way: u64,
    pub(crate) under_way_bytes: u64,
    pub(crate) held: u64,
    pub(crate) connect_failures: u64,
}

/// `/threads`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Threads {
    pub(crate) held: u64,
    pub(crate) held_max: u64,
    pub(crate) threads: Vec<Thread>,
}

/// A thread that runs workers; times are seconds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Thread {
    pub(crate) number: u64,
    pub(crate) state: String,
    pub(crate) silent_for: Option<f64>,
    pub(crate) timeout: Option<f64>,
    pub(crate) workers: u64,
    /// What the operating system sees.
    pub(crate) seen: Option<String>,
    /// How long it ran, and how long it waited for a CPU.
    pub(crate) ran: Option<f64>,
    pub(crate) waited: Option<f64>,
}

/// A check of `/livez` or `/readyz`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) holds: bool,
    pub(crate) reason: String,
}

/// `/livez` or `/readyz`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Health {
    pub(crate) holds: bool,
    pub(crate) checks: Vec<Check>,
}

impl Health {
    /// Reads the lines of `?verbose`; `None` if they are no such lines.
    pub(crate) fn read(holds: bool, text: &str) -> Option<Health> {
        let check = |line: &str| {
            let (holds, rest) = match line.strip_prefix("failed ") {
                Some(rest) => (false, rest),
                None => (true, line.strip_prefix("ok ")?),
            };
            let (name, reason) = rest.trim_start().split_once(": ")?;
            Some(Check { name: name.to_owned(), holds, reason: reason.to_owned() })
        };
        let checks = text.lines().map(check).collect::<Option<Vec<Check>>>()?;
        (!checks.is_empty()).then_some(Health { holds, checks })
    }

    /// What `/summary` says of one of them.
    pub(crate) fn of(checks: Vec<Check>) -> Health {
        Health { holds: checks.iter().all(|check| check.holds), checks }
    }

    /// The checks that fail, in a line.
    pub(crate) fn failed(&self) -> String {
        let failed = self.checks.iter().filter(|check| !check.holds);
        failed.map(|check| format!("{}: {}", check.name, check.reason)).collect::<Vec<_>>().join("; ")
    }
}

/// An event of `/events`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct SeenEvent {
    /// Its id, to go on behind.
    pub(crate) id: String,
    /// Seconds since 1970.
    pub(crate) at: f64,
    /// Its name, like `failed`.
    #[serde(rename = "event")]
    pub(crate) name: String,
    /// Its other figures.
    #[serde(flatten)]
    pub(crate) figures: serde_json::Map<String, Value>,
}

impl SeenEvent {
    /// Reads the data of an event; `None` if it is none.
    pub(crate) fn read(id: &str, data: &str) -> Option<SeenEvent> {
        let Value::Object(mut figures) = serde_json::from_str(data).ok()? else { return None };
        let name = figures.remove("event")?.as_str()?.to_owned();
        let at = figures.remove("at").and_then(|at| at.as_f64()).unwrap_or_default();
        Some(SeenEvent { id: id.to_owned(), at, name, figures })
    }

    /// Whom it is about.
    pub(crate) fn subject(&self) -> &str {
        let member = || self.figures.get("member").and_then(|member| member.get("name"));
        let keys = ["worker", "group", "node", "by", "zone", "seed", "address"];
        let named = keys.iter().find_map(|key| self.figures.get(*key).filter(|value| value.is_string()));
        named.or_else(member).and_then(Value::as_str).unwrap_or_default()
    }

    /// Its other figures, in a line: `panicked in Load, restart in 1.0 s`. The cause comes first.
    pub(crate) fn detail(&self) -> String {
        let subject = self.subject();
        let mut keys: Vec<&String> = self.figures.keys().collect();
        // What is the same in most lines comes last.
        keys.sort_by_key(|key| match &***key {
            "cause" | "reason" | "shard" => 0,
            "generation" | "arbiter" => 2,
            _ => 1,
        });
        let shown = keys.into_iter().filter_map(|key| {
            let value = shown(key, &self.figures[key]).filter(|value| value != subject)?;
            // A cause needs no name.
            Some(if key == "cause" { value } else { format!("{} {value}", key.replace('_', " ")) })
        });
        shown.collect::<Vec<_>>().join(", ")
    }
}

/// A figure of an event in a few words; `None` if there is nothing to say.
fn shown(key: &str, value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(is) => Some(is.to_string()),
        // Numbers with a fraction are seconds.
        Value::Number(number) => Some(match number.as_f64().filter(|_| number.is_f64()) {
            Some(seconds) => crate::text::time(seconds),
            None => number.to_string(),
        }),
        Value::Array(values) => (!values.is_empty()).then(|| values.len().to_string()),
        Value::Object(_) if key == "cause" => Some(cause(value)),
        Value::Object(map) => {
            let index = map.get("index").filter(|_| key == "shard").map(Value::to_string);
            index.or_else(|| map.get("secs").map(|seconds| format!("{seconds} s")))
        }
    }
}

/// A cause in a line: `blocked in Load`.
fn cause(cause: &Value) -> String {
    let word = |key: &str| cause.get(key).and_then(Value::as_str).unwrap_or_default();
    let during = match cause.get("during") {
        Some(Value::String(during)) => during.clone(),
        Some(Value::Object(during)) => {
            during.values().next().and_then(Value::as_str).map(crate::text::short_type).unwrap_or_default()
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | None => String::new(),
    };
    let mut line = word("kind").replace('_', " ");
    for (before, text) in [(" in ", &*during), (": ", word("payload")), (": ", word("reason")), (" by ", word("by"))] {
        if !text.is_empty() {
            line.push_str(before);
            line.push_str(text);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_health_are_read_and_others_are_not() {
        let text = "ok     join: joined\nfailed groups: these groups do not run: \"mail: room\"\n";
        let health = Health::read(false, text).unwrap();
        assert_eq!(health.checks.len(), 2);
        assert_eq!(health.failed(), "groups: these groups do not run: \"mail: room\"");
        for text in ["", "ok\n", "<html>", "ok     join: joined\n<html>\n"] {
            assert_eq!(Health::read(true, text), None, "{text:?}");
        }
    }

    #[test]
    fn an_event_tells_whom_it_is_about_and_why() {
        let data = r#"{"at":1.5,"event":"failed","worker":"import","generation":3,"restart_in":null,
            "cause":{"kind":"blocked","during":{"message":"app::Load"},"busy_for":5.5}}"#;
        let event = SeenEvent::read("7.3", data).unwrap();
        assert_eq!((event.subject(), event.at, &*event.name), ("import", 1.5, "failed"));
        assert_eq!(event.detail(), "blocked in Load, generation 3");
        for data in ["", "[]", "{}", r#"{"event":1}"#] {
            assert_eq!(SeenEvent::read("", data), None, "{data}");
        }
        let joined = SeenEvent::read("1.1", r#"{"event":"joined","member":{"name":"node-1","id":4}}"#).unwrap();
        assert_eq!((joined.subject(), &*joined.detail()), ("node-1", ""));
    }

    #[test]
    fn a_tree_adds_up() {
        let tree = r#"{"name":null,"is_running":true,"workers":{"up":2},"groups":[
            {"name":"a","is_running":true,"workers":{"up":3,"waiting":1},"groups":[{"name":"b","is_running":false}]}]}"#;
        let tree: Group = serde_json::from_str(tree).unwrap();
        assert_eq!(tree.by_state(), BTreeMap::from([("up", 5), ("waiting", 1)]));
        assert_eq!(tree.size(), 2);
    }
}
