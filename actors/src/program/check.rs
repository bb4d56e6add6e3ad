//! `heartbeat check`: a config file, with what its numbers add up to and what is not promised.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use heartbeat_core::Config;
use heartbeat_core::config::{AuthorityKind, QuorumRule};

use crate::text::{Tone, coloured, safe, safe_lines};
use crate::{Failure, text};

pub(crate) const EXAMPLES: &str = "Examples:
  heartbeat check orders.toml
  HEARTBEAT_NODE=orders-0 HEARTBEAT_LISTEN=0.0.0.0:7101 heartbeat check --env orders.toml
  heartbeat check - < orders.toml

Exit codes: 0 the config is right, 1 it is refused, 2 it could not be read.";

/// Longest config file, in bytes: a thousand times the longest sensible one. A device has no end.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The config file; - reads standard input
    file: PathBuf,
    /// Lay HEARTBEAT_NODE, HEARTBEAT_LISTEN, HEARTBEAT_ADVERTISE and HEARTBEAT_SEEDS over the file,
    /// as Config::from_toml_and_env does
    #[arg(long)]
    env: bool,
}

/// Checks the file and prints the outcome.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let shown = arguments.file.display();
    let text = read(arguments)?;
    let config = match arguments.env {
        true => Config::from_toml_and_env(&text, std::env::vars_os()),
        false => Config::from_toml(&text),
    };
    match config.and_then(|config| Ok((config.check()?.to_string(), config))) {
        Ok((sums, config)) => {
            text::print(&words(&shown.to_string(), &sums, &config, text::wants_colour()))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("{}: {}", safe(&shown.to_string()), safe_lines(&error.to_string()));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn read(arguments: &Arguments) -> Result<String, Failure> {
    let shown = arguments.file.display();
    let source: Box<dyn Read> = match arguments.file.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(File::open(&arguments.file).map_err(|error| format!("cannot read {shown}: {error}"))?),
    };
    let mut bytes = Vec::new();
    source
        .take(CONFIG_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot read {shown}: {error}"))?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(format!("{shown} is longer than {CONFIG_BYTES_MAX} bytes; it is no config").into());
    }
    String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8 text; it is no config").into())
}

/// What a right config adds up to.
fn words(file: &str, sums: &str, config: &Config, colour: bool) -> String {
    let mut words =
        format!("{}: {}\n\nWhat it adds up to\n", safe(file), coloured("a right config", Tone::Good, colour));
    for line in sums.lines() {
        let line = safe(line);
        let tone = line.starts_with("unwise: ").then_some(Tone::Doubtful);
        // A string takes all that is written to it.
        let _ = writeln!(words, "  {}", tone.map_or_else(|| line.clone(), |tone| coloured(&line, tone, colour)));
    }
    words += "\nWhat it does not promise\n";
    for limit in limits(config) {
        let _ = writeln!(words, "  {limit}");
    }
    words + "The chapter \"What it does not do\" of the book has all limits.\n"
}

/// What users take for granted and does not hold with these settings.
fn limits(config: &Config) -> Vec<&'static str> {
    let mut limits = vec![
        "A death is a conclusion: a silent node may be dead, slow, paused or cut off.",
        "A blocked thread cannot be killed: its worker is replaced, its locks and memory stay taken.",
        "A message is handled at most once: the one in hand at a failure is lost, and its sender gets an error.",
        "State is kept only by snapshots, in memory; state that must survive the end of all nodes needs a store.",
    ];
    if config.http.as_ref().is_some_and(|http| http.insecure) {
        limits.push("http.insecure is set: everyone who reaches the address reads what the node knows.");
    }
    if config.cluster.is_none() {
        limits.push("There is no [cluster] table: this node opens no port for others and detects no other node.");
        return limits;
    }
    limits.push("Datagrams are neither encrypted nor signed: run it in a network that you trust.");
    match (config.ownership.authority, config.ownership.quorum) {
        (AuthorityKind::View, QuorumRule::None) => limits.push("In a partition both sides may run the same shard."),
        (AuthorityKind::View, QuorumRule::Majority) => limits.push(
            "The quorum rests on time: news of members within ownership.lease, and clocks of the same rate to a tenth.",
        ),
        (AuthorityKind::File, _) => limits.push("The authority is this host's: nodes of other hosts do not see it."),
        (AuthorityKind::Etcd | AuthorityKind::Postgres, _) if !config.ownership.fenced => {
            limits
                .push("A lease is not a fence: a write in progress when it ends can be recognised only by its epoch.");
        }
        (AuthorityKind::Etcd | AuthorityKind::Postgres, _) => {
            limits.push("Each write of a shard must carry its epoch, or late writes get through.")
        }
    }
    if config.membership.brake {
        limits.push("If 55 % of a zone fails for good, it is not declared dead: see membership.brake.");
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str =
        "[cluster]\nname = 'c'\nnode = 'n'\nrole = 'worker'\nmode = 'random'\nlisten = '127.0.0.1:1'\nseeds = []\n";

    fn words_of(text: &str) -> String {
        let config = Config::from_toml(text).unwrap();
        words("orders.toml", &config.check().unwrap().to_string(), &config, false)
    }

    #[test]
    fn a_right_config_is_added_up() {
        let words = words_of(CLUSTER);
        for part in ["orders.toml: a right config", "concluded dead within 6s", "both sides may run", "55 %"] {
            assert!(words.contains(part), "{part}: {words}");
        }
        assert!(words_of("").contains("There is no [cluster] table"));
    }

    #[test]
    fn what_is_not_promised_follows_the_settings() {
        let quorum = words_of(&format!("[ownership]\nquorum = 'majority'\n{CLUSTER}"));
        assert!(quorum.contains("rests on time") && !quorum.contains("both sides may run the same"), "{quorum}");
        let no_brake = words_of(&format!("[membership]\nbrake = false\n{CLUSTER}"));
        assert!(!no_brake.contains("55 %"), "{no_brake}");
    }

    #[test]
    fn unwise_settings_are_coloured() {
        let config = Config::from_toml("stall = '4s'").unwrap();
        let words = words("x", &config.check().unwrap().to_string(), &config, true);
        assert!(words.contains("\u{1b}[33munwise: stall 4s"), "{words}");
    }
}
