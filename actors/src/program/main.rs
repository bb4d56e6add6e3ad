//! The program `heartbeat`: what an operator asks a node, what a config adds up to, and what a
//! recording says about detectors.
//!
//! It reads a running node through its HTTP door only, and changes nothing there. It is built with
//! the feature `program`; the library needs none of it.

mod check;
mod demo;
mod door;
mod qos;
mod seen;
mod status;
mod text;
mod top;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

/// A failure of the program; the text is for people.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The exit code if the question could not be asked, or makes no sense.
const NO_ANSWER: u8 = 2;

const EXAMPLES: &str = "Examples:
  heartbeat status http://127.0.0.1:7180        is this node healthy? the exit code says so, too
  heartbeat top http://127.0.0.1:7180           watch it: members, links, stuck workers, queues, events
  heartbeat top --demo                          look at a small cluster that this program starts
  heartbeat check orders.toml                   what the numbers of a config add up to
  heartbeat qos traces/*.csv --mistakes 1/h     how good the detectors are on recorded heartbeats

A node answers if its config has [http] with listen = \"127.0.0.1:7180\".";

#[derive(Parser)]
#[command(name = "heartbeat", about = "Ask nodes of heartbeat, check configs, judge detectors", version)]
#[command(after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Which node is asked, and how.
#[derive(clap::Args)]
pub(crate) struct Access {
    /// A file with the token of the node's config (http.token). Without it the environment variable
    /// HEARTBEAT_TOKEN is taken: a token on the command line could be read by every user
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// How long an answer may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = text::positive_duration)]
    within: std::time::Duration,
}

#[derive(Subcommand)]
enum Command {
    /// Watch a node: members, links, supervision tree, stuck workers, queues, requests, threads and
    /// events
    #[command(after_help = top::EXAMPLES)]
    Top(top::Arguments),
    /// Say in a few lines whether a node is healthy; exit code 0 if it is, 1 if not, 2 if it could
    /// not be asked
    #[command(after_help = status::EXAMPLES)]
    Status(status::Arguments),
    /// Check a config file, and say what its numbers add up to and what is not promised; exit code
    /// 0 if it is right, 1 if not, 2 if it could not be read
    #[command(after_help = check::EXAMPLES)]
    Check(check::Arguments),
    /// Replay recorded heartbeats and print how good each failure detector would have been
    #[command(after_help = qos::EXAMPLES)]
    Qos(qos::Arguments),
    /// Print a script that completes the arguments of this program in a shell
    #[command(after_help = "Example:\n  heartbeat completions bash > /etc/bash_completion.d/heartbeat")]
    Completions {
        /// Which shell
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Top(arguments) => top::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Qos(arguments) => qos::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Completions { shell } => completions(shell).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("heartbeat: {}", text::safe_lines(&error.to_string()));
        ExitCode::from(NO_ANSWER)
    })
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "heartbeat", &mut script);
    text::print(&String::from_utf8(script)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_contradict_nothing() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn each_shell_gets_a_script_with_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "heartbeat", &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in ["top", "status", "check", "qos"] {
                assert!(script.contains(command), "{shell} lacks {command}");
            }
        }
    }

    #[test]
    fn arguments_that_make_no_sense_are_refused_by_name() {
        for (line, expected) in [
            (&["heartbeat"][..], "Usage"),
            (&["heartbeat", "status"], "URL"),
            (&["heartbeat", "top"], "URL"),
            (&["heartbeat", "top", "--demo", "http://127.0.0.1:1"], "--demo"),
            (&["heartbeat", "top", "--demo", "--every", "0s"], "0s"),
            (&["heartbeat", "status", "http://127.0.0.1:1", "--within", "soon"], "soon"),
            (&["heartbeat", "check"], "FILE"),
            (&["heartbeat", "qos"], "TRACES"),
            (&["heartbeat", "qos", "x", "--mistakes", "many"], "many"),
            (&["heartbeat", "completions", "dos"], "dos"),
        ] {
            let error = Arguments::try_parse_from(line).err().unwrap_or_else(|| panic!("{line:?} is taken"));
            let error = error.to_string();
            assert!(error.contains(expected), "{line:?}: {error}");
        }
    }

    #[test]
    fn every_command_shows_examples() {
        for name in ["top", "status", "check", "qos", "completions"] {
            let mut command = Arguments::command();
            let help = command.find_subcommand_mut(name).unwrap().render_long_help().to_string();
            assert!(help.contains("Example") && help.contains(&format!("heartbeat {name}")), "{help}");
        }
    }
}
