//! A service that counts, over shards on five real processes, while they are killed, frozen, sent
//! away and replaced under load.
//!
//! cargo run --release --example failover
//!
//! - `node`, `counter`: the service. Clients ask any process over HTTP. The process sends the
//!   request by its key, and heartbeat brings it to the shard's worker, on whichever process.
//! - `ledger`: what stands for the world outside, to which every increment is written under its
//!   shard's epoch, and which refuses an epoch that is over.
//! - `load`: the clients. They ask any process, note what they were told, and how long each shard
//!   was without an answer. `outcome` compares that with the ledger: no request is lost silently,
//!   and none is handled twice.
//! - `scenario`: which process is killed, frozen and so on, and what was promised for it. `losses`
//!   finds the acknowledged increments that the service forgot.
//! - `bench`: how soon shards answer elsewhere, over many deaths, and how long requests wait while
//!   processes are killed, join and leave.

mod bench;
mod counter;
mod etcd;
mod http;
mod load;
mod losses;
mod node;
mod outcome;
mod scenario;
mod service;
mod store;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Settings of the example service.
pub(crate) const CONFIG: &str = include_str!("failover.toml");

/// The sharded group.
pub(crate) const GROUP: &str = "counters";

/// How long a shard's worker gathers changes before it makes a snapshot.
pub(crate) const SNAPSHOT_EVERY: Duration = Duration::from_millis(100);

/// How soon a client that was not served asks again.
pub(crate) const RETRY: Duration = Duration::from_millis(10);

/// Who hands out the right to run a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Authority {
    /// None: each node decides by its own view
    View,
    /// Files in a temporary folder
    File,
    /// An etcd, started for the occasion unless `--endpoints` names one that runs
    Etcd,
}

#[derive(Parser)]
#[command(about = "A counting service that survives its processes", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// Who hands out the right to run a shard
    #[arg(long, value_enum, global = true, default_value_t = Authority::File)]
    pub(crate) authority: Authority,
    /// With `--authority etcd`: the servers of an etcd that runs, like http://127.0.0.1:2379
    #[arg(long, global = true, value_delimiter = ',', value_name = "URL")]
    pub(crate) endpoints: Vec<String>,
    /// Into how many shards the keys are divided; with fewer, some process would have none
    #[arg(long, global = true, default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..=4096))]
    pub(crate) shards: u32,
    /// Print one JSON object a line instead of the timeline
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Kill, freeze, send away and add processes under load, and check that what was promised was
    /// kept (what happens without a command, too)
    Demo,
    /// Measure how soon shards answer on their new owners
    Bench {
        /// How many processes are killed, one after the other, in a service of the shards that
        /// `--shards` says; 0 leaves this part out
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1000))]
        kills: u32,
        /// How often, in a service of 1,000 shards, a process is killed, one joins, one leaves, and
        /// one joins
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: u32,
    },
    /// Run one process of the service
    #[command(hide = true)]
    Node {
        /// A config file with a [cluster] table
        #[arg(long)]
        config: PathBuf,
        /// Where the ledger is, if increments are written to one
        #[arg(long)]
        ledger: Option<SocketAddr>,
    },
}

fn main() -> ExitCode {
    let Arguments { command, settings } = Arguments::parse();
    let result = match command.unwrap_or(Command::Demo) {
        Command::Demo => scenario::run(&settings),
        Command::Bench { kills, rounds } => bench::run(&settings, kills, rounds),
        Command::Node { config, ledger } => node::run(&config, ledger, settings.shards),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
