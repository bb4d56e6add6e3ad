//! A cluster of real processes on this machine: a demonstration with failures, or one to play with.
//!
//! cargo run --release --example cluster -- demo

mod control;
mod demo;
mod node;
mod one_way_link;
mod processes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use heartbeat_examples::Failure;

/// Settings of the example cluster: quick enough to watch.
pub(crate) const CONFIG: &str = include_str!("cluster.toml");

/// Who watches whom in the cluster that is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Mode {
    /// A monitor watches all others.
    Central,
    /// Each is watched by a few of the others.
    Random,
}

#[derive(Parser)]
#[command(about = "An example cluster of real processes", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a cluster, break it in several ways one after the other, and check that all was
    /// noticed and made good in time
    Demo {
        /// A monitor and four nodes, or seven nodes that watch each other
        #[arg(long, value_enum, default_value_t = Mode::Central)]
        mode: Mode,
        /// Print one JSON object a line instead of the timeline
        #[arg(long)]
        json: bool,
    },
    /// Start some nodes, with a monitor or without, and keep them running until Ctrl-C
    Up {
        /// With a monitor, or with nodes that watch each other
        #[arg(long, value_enum, default_value_t = Mode::Central)]
        mode: Mode,
        /// How many nodes besides the monitor
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=50))]
        nodes: u16,
        /// Record the heartbeats that come in as traces for `heartbeat qos`, in a folder for each
        /// process below this one
        #[arg(long, value_name = "FOLDER")]
        record: Option<PathBuf>,
        /// Print one JSON object a line instead of the timeline
        #[arg(long)]
        json: bool,
    },
    /// Run one node in this process, with a config of your own
    Node {
        /// A config file with a [cluster] table
        #[arg(long)]
        config: PathBuf,
        /// Where to answer `status`
        #[arg(long, default_value = "127.0.0.1:0")]
        control: SocketAddr,
        /// Record the arriving heartbeats as traces for `heartbeat qos`, one file for each
        /// process
        #[arg(long, value_name = "FOLDER")]
        record: Option<PathBuf>,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
        /// End when standard input does, so that no node outlives who started it
        #[arg(long, hide = true)]
        leash: bool,
    },
    /// Print what a node of a running cluster knows
    Status {
        /// A node's name (of the cluster that `up` runs), or its control address
        node: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// End a process of the cluster that `up` runs, with SIGKILL
    Kill {
        /// The node's name
        node: String,
    },
    /// Stop a process of the cluster that `up` runs, with SIGSTOP, and let it go on after a while
    Pause {
        /// The node's name
        node: String,
        /// For how long, like 5s
        #[arg(value_parser = humantime::parse_duration)]
        duration: Duration,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo { mode, json } => demo::run(mode, json),
        Command::Up { mode, nodes, record, json } => demo::up(mode, nodes, record, json),
        Command::Node { config, control, record, json, leash } => {
            node::run(&config, control, record, node::Manner { json, leash })
        }
        Command::Status { node, json } => control::status(&node, json),
        Command::Kill { node } => processes::kill(&node),
        Command::Pause { node, duration } => processes::pause(&node, duration),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
