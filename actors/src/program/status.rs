//! `heartbeat status`: whether a node is healthy, in a few lines and an exit code.

use std::fmt::Write;
use std::process::ExitCode;

use serde::Serialize;

use crate::door::{AskError, Door, Order};
use crate::seen::{Group, Health, Members, Seals, Worker};
use crate::text::{Tone, coloured, count, safe, short_type, time};
use crate::{Access, Failure, text};

pub(crate) const EXAMPLES: &str = "Examples:
  heartbeat status http://127.0.0.1:7180
  heartbeat status http://127.0.0.1:7180 --json | jq .ready.holds
  HEARTBEAT_TOKEN=$(cat token) heartbeat status http://10.0.0.5:7180

Exit codes: 0 healthy, 1 not live or not ready, 2 could not ask.
Only plain HTTP is supported, as nodes have no other door.";

/// Workers that are named.
const NAMED_MAX: usize = 3;

/// A queue that is this full is named.
const FULL_FROM: f64 = 0.5;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where the node's HTTP door is, like http://127.0.0.1:7180
    url: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

/// What the node says of itself.
#[derive(Serialize)]
struct Status {
    url: String,
    /// Live and ready.
    healthy: bool,
    live: Health,
    ready: Health,
    #[serde(flatten)]
    members: Members,
    groups: Group,
    /// The workers that have been at work for longest.
    busy: Vec<Worker>,
    /// The workers with the fullest queues.
    fullest: Vec<Worker>,
}

/// Asks the node and prints what it says.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let door = Door::new(&arguments.url, &arguments.access)?;
    let status = ask(&door)?;
    if arguments.json {
        text::print(&(text::safe_json(&serde_json::to_string_pretty(&status)?) + "\n"))?;
    } else {
        text::print(&status.words(text::wants_colour()))?;
    }
    Ok(if status.healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn ask(door: &Door) -> Result<Status, AskError> {
    let (live, ready) = (door.health("/livez")?, door.health("/readyz")?);
    Ok(Status {
        url: door.url().to_owned(),
        healthy: live.holds && ready.holds,
        live,
        ready,
        members: door.json("/members")?,
        groups: door.json("/groups")?,
        busy: door.first_workers(Order::Busiest, "", NAMED_MAX)?,
        fullest: door.first_workers(Order::Fullest, "", NAMED_MAX)?,
    })
}

impl Status {
    fn words(&self, colour: bool) -> String {
        let Members { node, cluster, .. } = &self.members;
        let mut words = safe(node);
        if let Some(cluster) = cluster {
            words += &format!(" of cluster {}", safe(cluster));
        }
        let verdict = match self.healthy {
            true => coloured("healthy", Tone::Good, colour),
            false => coloured("not healthy", Tone::Bad, colour),
        };
        words += &format!(": {verdict}\n");
        let mut line = |name: &str, text: &str| {
            // A string takes all that is written to it.
            let _ = writeln!(words, "  {name:8} {text}");
        };
        for (name, health) in [("live", &self.live), ("ready", &self.ready)] {
            let text = match health.holds {
                true => "yes".to_owned(),
                false => format!("{}   {}", coloured("no", Tone::Bad, colour), safe(&health.failed())),
            };
            line(name, &text);
        }
        line("members", &self.members_line(colour));
        if let Some(seals) = &self.members.seals {
            line("seal", &seal_line(seals, colour));
        }
        let sums = sums(&self.groups.by_state());
        let workers: u64 = self.groups.by_state().values().fold(0, |sum, count| sum.saturating_add(*count));
        line("workers", &format!("{workers}{}, in {}", after_colon(&sums), count(self.groups.size(), "group")));
        for worker in &self.busy {
            let doing = worker.doing.as_deref().map(short_type).unwrap_or_default();
            let text =
                format!("{} in {} for {}", safe(&worker.name), safe(&doing), time(worker.busy_for.unwrap_or(0.0)));
            line("busy", &coloured(&text, Tone::Doubtful, colour));
        }
        for worker in self.fullest.iter().filter(|worker| worker.fullness() >= FULL_FROM) {
            let text = format!("{}: {} of {} messages", safe(&worker.name), worker.queued, worker.capacity);
            line("queue", &coloured(&text, Tone::Doubtful, colour));
        }
        words
    }

    fn members_line(&self, colour: bool) -> String {
        if self.members.cluster.is_none() {
            return "no cluster".to_owned();
        }
        let line = format!("{}{}", self.members.members.len(), after_colon(&sums(&self.members.by_status())));
        match self.members.is_joined {
            true => line,
            false => format!("{line}; {}", coloured("not joined", Tone::Bad, colour)),
        }
    }
}

/// The keys, how many members use each, and which members have none of them.
fn seal_line(seals: &Seals, colour: bool) -> String {
    let mut by_key = std::collections::BTreeMap::new();
    for member in &seals.members {
        *by_key.entry(member.used.as_deref().unwrap_or("plain or silent")).or_insert(0_u64) += 1;
    }
    let used: Vec<String> = by_key.iter().map(|(key, count)| format!("{count} with {}", safe(key))).collect();
    let mut line = format!("keys {}; members{}", safe(&seals.keys), after_colon(&used.join(", ")));
    let cut_off: Vec<String> =
        seals.members.iter().filter(|member| !member.can_open).map(|member| safe(&member.name)).collect();
    if !cut_off.is_empty() {
        let text = format!("no common key: {}", cut_off.join(", "));
        line += &format!("; {}", coloured(&text, Tone::Bad, colour));
    }
    if seals.accept_plain {
        line += &format!("; {}", coloured("plain traffic is accepted", Tone::Doubtful, colour));
    }
    line
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// Counts by state in a line: `118 up, 2 waiting`.
pub(crate) fn sums(counts: &std::collections::BTreeMap<&str, u64>) -> String {
    let mut sums: Vec<(&str, u64)> = counts.iter().map(|(state, count)| (*state, *count)).collect();
    sums.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let words = sums.iter().map(|(state, count)| format!("{count} {}", safe(state).replace('_', " ")));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        let member = |name: &str, status: &str| serde_json::json!({ "name": name, "status": status });
        let members = serde_json::json!({ "node": "node\u{1b}[31m", "cluster": "orders", "is_joined": true,
            "seals": { "keys": "4f44,10a3", "accept_plain": true, "members": [
                { "name": "b", "keys": ["4f44"], "used": "4f44", "can_open": true },
                { "name": "c", "keys": ["ffff"], "used": null, "can_open": false }] },
            "members": [member("a", "alive"), member("b", "suspect"), member("c", "alive")] });
        let groups = serde_json::json!({ "name": null, "is_running": true, "workers": { "up": 2, "given_up": 1 } });
        let live = Health::read(true, "ok     supervisor: receiver and supervisor answer\n").unwrap();
        let ready = Health::read(false, "failed groups: these groups do not run: \"mail\"\n").unwrap();
        let busy = Worker {
            name: "import\n".into(),
            doing: Some("app::Load".into()),
            busy_for: Some(12.34),
            ..Worker::default()
        };
        let fullest = [("mail", 50), ("post", 2)].map(|(name, queued)| Worker {
            name: name.into(),
            queued,
            capacity: 50,
            ..Worker::default()
        });
        Status {
            url: "http://127.0.0.1:1".into(),
            healthy: false,
            live,
            ready,
            members: serde_json::from_value(members).unwrap(),
            groups: serde_json::from_value(groups).unwrap(),
            busy: vec![busy],
            fullest: fullest.into(),
        }
    }

    #[test]
    fn a_status_is_told_in_a_few_lines() {
        let expected = "node\\u{1b}[31m of cluster orders: not healthy
  live     yes
  ready    no   groups: these groups do not run: \"mail\"
  members  3: 2 alive, 1 suspect
  seal     keys 4f44,10a3; members: 1 with 4f44, 1 with plain or silent; no common key: c; plain traffic is accepted
  workers  3: 2 up, 1 given up, in 0 groups
  busy     import\\n in Load for 12.3 s
  queue    mail: 50 of 50 messages
";
        assert_eq!(status().words(false), expected);
    }

    #[test]
    fn colours_change_no_word() {
        let coloured = status().words(true);
        assert!(coloured.contains("\u{1b}[31mnot healthy\u{1b}[0m"), "{coloured}");
        let plain =
            ["\u{1b}[31m", "\u{1b}[33m", "\u{1b}[0m"].iter().fold(coloured, |text, code| text.replace(code, ""));
        assert_eq!(plain, status().words(false));
    }
}
