//! `Config`: every number a user may set, read from TOML, refused with a reason, and added up.
//!
//! The only source of defaults is `default.toml`, compiled in: the file that users copy, the book
//! shows and the code reads is one file. A user's table is laid over it key by key, so a config
//! holds only what differs. A typo is an error that points at its line; numbers that contradict
//! each other are an error that says which and what would be right. [`Config::check`] says what the
//! rest add up to, since nobody wants an interval or a threshold: they want to know when they will
//! hear of a crash (`sums`).
//!
//! Reading the file is the caller's; this module sees text.

pub mod rate;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::rate::MistakeRate;
use crate::member::{
    Epoch, METADATA_BYTES_MAX, Metadata, NAME_BYTES_MAX, Role, WEIGHT_KEY, Weight, canonical, metadata_bytes,
};
use crate::wire;

/// The compiled-in defaults with their comments, as users copy them.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// Seeds at most.
pub const SEEDS_MAX: usize = 64;

/// Shortest lease: less would be gone with the margin for clocks.
pub const LEASE_MIN: Duration = Duration::from_millis(500);

/// Most worker threads of one node; more is a typo, not a machine.
pub const ARBITERS_MAX: u32 = 1024;

/// Highest restart intensity that is counted; a limit above it is none, and is to be said so with
/// `u32::MAX`.
pub const INTENSITY_MAX: u32 = 1_000_000;

/// Largest share of heartbeats after which a wrong suspicion may follow; above it the detector
/// would be a coin.
const SHARE_MAX: f64 = 0.1;

/// All settings of a node. Each field is described, with how to choose it, in `default.toml`.
///
/// ```
/// use heartbeat_core::Config;
///
/// let config = Config::from_toml("timeout = '10s'").unwrap();
/// assert_eq!(config.timeout.as_secs(), 10);
/// let error = Config::from_toml("timeout = '300ms'").unwrap_err();
/// assert!(error.to_string().contains("is not longer than interval 1s"));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How often a node sends a heartbeat to each of its observers.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// Silence after which a node is concluded dead. Longer than `interval`.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Lateness of our own timer that means that we were paused. Not zero.
    #[serde(with = "duration")]
    pub stall: Duration,
    /// When silence becomes suspicion.
    pub detector: DetectorConfig,
    /// Workers of this process.
    pub workers: WorkersConfig,
    /// When a failed worker comes back.
    pub restart: RestartConfig,
    /// Subscribers.
    pub events: EventsConfig,
    /// The table of members.
    pub membership: MembershipConfig,
    /// Who may own shards.
    pub ownership: OwnershipConfig,
    /// The cluster this node is part of; without it the node stays within its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterConfig>,
}

/// When the silence of a node becomes suspicion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetectorConfig {
    /// Which detector.
    pub kind: DetectorKind,
    /// For `budget`: wrong suspicions allowed on each link.
    pub mistakes: MistakeRate,
    /// For `fixed`: longest silence that still counts as alive. Not zero, shorter than `timeout`.
    #[serde(with = "duration")]
    pub suspect_after: Duration,
    /// For `chen`: forgiven past the expected arrival; zero is allowed.
    #[serde(with = "duration")]
    pub margin: Duration,
    /// For `phi`: what the intervals are taken to be distributed like.
    pub reading: PhiReading,
    /// For `phi`: suspicion at this phi. Over 0, at most 16 (beyond that the formula runs out of
    /// floating point).
    pub threshold: f64,
    /// For `chen` and `phi`: heartbeats remembered, 2 to 10,000.
    pub window: u32,
    /// For `phi`, Akka's reading: least standard deviation. Not zero.
    #[serde(with = "duration")]
    pub deviation_min: Duration,
    /// For `phi`, Akka's reading: pause forgiven on top of the mean; zero is allowed.
    #[serde(with = "duration")]
    pub pause: Duration,
}

/// The detectors to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectorKind {
    /// As rarely as the user asked, by what was learnt of the target's silences.
    Budget,
    /// After a constant silence.
    Fixed,
    /// A constant margin after the expected arrival: NFD-E.
    Chen,
    /// Phi accrual.
    Phi,
}

/// The readings of phi accrual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PhiReading {
    /// Intervals are normally distributed, with a floor and a pause.
    Akka,
    /// Intervals are exponentially distributed.
    Cassandra,
}

/// Workers of this process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkersConfig {
    /// Threads that workers are spread over, 1 to [`ARBITERS_MAX`].
    pub arbiters: u32,
    /// How often a worker thread gives a sign of life. Not zero.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// Silence after which a blocked worker is replaced. Longer than `interval`.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// How long a worker may take to be up. Not zero.
    #[serde(with = "duration")]
    pub start_timeout: Duration,
    /// How long messages may wait for a worker that waits for a future. Not zero.
    #[serde(with = "duration")]
    pub await_timeout: Duration,
    /// How long a worker may take to stop; zero fences it at once.
    #[serde(with = "duration")]
    pub shutdown_timeout: Duration,
    /// How long all workers together may take to stop when the node leaves; zero fences them all at
    /// once.
    #[serde(with = "duration")]
    pub leave_timeout: Duration,
    /// How often all status cells are looked at. Not zero.
    #[serde(with = "duration")]
    pub scan: Duration,
    /// Messages handled in a row, at least 1.
    pub burst: u32,
    /// Messages that may wait in a queue, at least 1.
    pub capacity: u32,
    /// Answers of one worker that may be under way at once; zero means as many as `capacity`,
    /// `u32::MAX` no bound.
    pub answers_max: u32,
    /// What a worker that stops still finishes, within `shutdown_timeout`.
    pub drain: Drain,
    /// Blocked threads that may exist at once; zero means that a blocked worker is never replaced.
    pub zombies_max: u32,
    /// What a worker does when a neighbour holds the thread that they share.
    pub on_thread_held: HeldThread,
    /// How long it waits for that thread; zero means not at all.
    #[serde(with = "duration")]
    pub thread_wait_timeout: Duration,
    /// What follows when a worker or a group is given up, or too many threads are blocked.
    pub on_give_up: OnGiveUp,
    /// The code the process ends with for [`OnGiveUp::Exit`]; not 0, which would say that all is
    /// well.
    pub exit_code: u8,
}

/// What a worker does when a neighbour holds the thread that they share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldThread {
    /// It waits for the thread, and keeps its state.
    Wait,
    /// It is started anew on another thread at once.
    StartAnew,
}

/// What a worker does when a neighbour holds the thread that they share.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnThreadHeld {
    /// It waits for its thread, with its state, queue, timers and futures as they are, and goes on
    /// when the thread comes back. Meanwhile it is not ready. After `timeout` it is started anew on
    /// another thread; zero means at once.
    Wait {
        /// How long, counted from the verdict.
        timeout: Duration,
    },
    /// It is started anew on another thread at once. Its address, its queue and its snapshot stay;
    /// its state, its timers and its futures do not.
    StartAnew,
}

/// What a worker that is told to stop still finishes, within its shutdown timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Drain {
    /// The messages in its queue, if it stops for good, and the answers under way.
    Queue,
    /// The message in hand and the answers under way.
    Answers,
    /// Nothing.
    None,
}

/// What follows when supervision is at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnGiveUp {
    /// An event; everybody else goes on.
    Report,
    /// The event, then the node leaves in good order.
    Leave,
    /// The event, then the process ends with the exit code.
    Exit,
}

/// When a failed worker comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartConfig {
    /// Restarts allowed in any `period`, at most [`INTENSITY_MAX`]; zero means that the first
    /// failure is the last, `u32::MAX` no limit.
    pub intensity: u32,
    /// Length of the sliding window. Not zero.
    #[serde(with = "duration")]
    pub period: Duration,
    /// First limit of the random pause; zero means that no restart ever waits.
    #[serde(with = "duration")]
    pub delay_min: Duration,
    /// Last limit of the random pause. At least `delay_min`.
    #[serde(with = "duration")]
    pub delay_max: Duration,
    /// Time without a failure after which the pauses start over. Not zero.
    #[serde(with = "duration")]
    pub reset_after: Duration,
}

/// Subscribers to events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsConfig {
    /// Events that may wait for a slow subscriber, at least 1.
    pub queue: u32,
}

/// The table of members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MembershipConfig {
    /// Members known at most, at least 1.
    pub members_max: u32,
    /// How long the dead and the departed are remembered. Longer than `timeout`.
    #[serde(with = "duration")]
    pub forget_after: Duration,
    /// How long the dead are probed, so that the sides of a partition find each other.
    #[serde(with = "duration")]
    pub retry_for: Duration,
    /// Members that watch each node, 1 to [`wire::OBSERVERS_MAX`].
    pub observers: u32,
    /// How often one of them is drawn anew. Longer than `timeout`.
    #[serde(with = "duration")]
    pub redraw: Duration,
    /// How far the clock of a node may be from that of the members, 1 s to 1 day; a node that is
    /// farther off goes on from theirs.
    #[serde(with = "duration")]
    pub clock_skew_max: Duration,
    /// Whether each node keeps a connection to each of its observers, whose end tells of a crash at
    /// once.
    pub lifelines: bool,
    /// Whether deaths by silence are held up while many are silent at once.
    pub brake: bool,
    /// What an observer does that hears hardly anybody.
    pub on_isolated: OnIsolated,
}

/// What an observer does that hears hardly anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnIsolated {
    /// It holds its verdicts, since it is rather itself that is cut off; with two members nobody
    /// can tell, and it proceeds.
    Hold,
    /// It concludes what it sees.
    Proceed,
}

/// Who may own shards, and how they move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnershipConfig {
    /// Who hands out the right to run a shard.
    pub authority: AuthorityKind,
    /// For an authority: how long it lets a node keep its shards that does not renew, 1 s to 1 h.
    #[serde(with = "duration")]
    pub session_ttl: Duration,
    /// For an authority: whether whatever the shards write is refused when its epoch is too low, so
    /// that the session of a process that was seen to end may be ended early.
    pub fenced: bool,
    /// For `file`: the folder in which it is kept, on a disk of this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// For `etcd`: where it is.
    pub etcd: EtcdConfig,
    /// Who must answer a node that owns shards, where there is no authority.
    pub quorum: QuorumRule,
    /// Fewest that must answer, the node itself included; at least 1.
    pub quorum_min: u32,
    /// For how long an answer counts, 500 ms to half of `timeout`.
    #[serde(with = "duration")]
    pub lease: Duration,
    /// Epochs that this node gives out are above this one.
    pub epoch_min: u64,
    /// How long a shard that moves waits for the one who had it before; zero means not at all.
    #[serde(with = "duration")]
    pub hand_over_timeout: Duration,
    /// Least time from one copy of a shard's snapshot to the next.
    #[serde(with = "duration")]
    pub copy_every: Duration,
    /// Largest snapshot in bytes, at most [`SNAPSHOT_BYTES_MAX`].
    pub snapshot_bytes_max: u32,
    /// Bytes of other nodes' snapshots kept at most.
    pub copies_bytes_max: u64,
    /// Shards that start at once; further ones follow 50 ms later, and so on. At least 1.
    pub starts: u32,
}

/// Largest snapshot that can be allowed.
pub const SNAPSHOT_BYTES_MAX: u32 = 16 << 20;

/// Who hands out the right to run a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthorityKind {
    /// Nobody: each goes by its own view, and by `quorum`.
    View,
    /// Files on this host.
    File,
    /// An etcd cluster.
    Etcd,
}

/// Where etcd is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdConfig {
    /// One or more, like `"http://10.0.0.2:2379"`.
    pub endpoints: Vec<String>,
    /// Whom it knows us as; empty if it does not ask.
    pub user: String,
    /// The password of `user`.
    pub password: String,
    /// What all our keys begin with.
    pub prefix: String,
}

/// Who must answer a node that owns shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuorumRule {
    /// Nobody: each goes by its own view.
    None,
    /// More than half of the members.
    Majority,
}

/// The cluster a node is part of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Only nodes with the same name talk to each other; 1 to [`NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// This node's name, unique in the cluster; 1 to [`NAME_BYTES_MAX`] bytes.
    pub node: String,
    /// What this node is in the cluster for.
    pub role: Role,
    /// Who watches whom.
    pub mode: Mode,
    /// The UDP address to bind; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where others reach us, if not at `listen`; needed when `listen` is `0.0.0.0` or `[::]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<SocketAddr>,
    /// Whom to ask to be let in: addresses, or host names with a port. A node that names itself, or
    /// nobody, may be the first.
    pub seeds: Vec<String>,
    /// What fails together with this node; at most [`NAME_BYTES_MAX`] bytes, empty for nothing.
    #[serde(default)]
    pub zone: String,
    /// What else others are told of this node; at most [`METADATA_BYTES_MAX`] bytes in all.
    #[serde(default)]
    pub metadata: Metadata,
}

/// Who may be an observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Members with the role monitor.
    Central,
    /// All of each other.
    Random,
}

/// Why a config was refused. Nothing was started.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not TOML, an unknown key, or a value of the wrong kind; the text shows the line.
    Syntax(toml::de::Error),
    /// A key that had another name in an earlier version; the text shows the line and the new name.
    Renamed {
        /// The key, with its table.
        key: &'static str,
        /// What it is called now, with its table.
        name: &'static str,
        /// The line of the key, counted from 1.
        line: usize,
    },
    /// Well-formed, but a value makes no sense by itself or beside another; the text names it and
    /// what would be right.
    Contradiction(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Syntax(error) => write_short(f, error.to_string().trim_end()),
            ConfigError::Renamed { key, name, line } => {
                write!(f, "unknown key {key} at line {line}: it is called {name} now")
            }
            ConfigError::Contradiction(text) => write_short(f, text),
        }
    }
}

/// Longest line of an error, in bytes. It quotes what a file holds, and a line of a file may have a
/// million.
const LINE_BYTES_MAX: usize = 400;

/// Writes a text, of whose longer lines the middle is left out.
fn write_short(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for (number, line) in text.split('\n').enumerate() {
        if number > 0 {
            f.write_str("\n")?;
        }
        if line.len() <= LINE_BYTES_MAX {
            f.write_str(line)?;
            continue;
        }
        let (mut from, mut to) = (LINE_BYTES_MAX / 2, line.len() - LINE_BYTES_MAX / 2);
        while !line.is_char_boundary(from) {
            from -= 1;
        }
        while !line.is_char_boundary(to) {
            to += 1;
        }
        write!(f, "{} [...] {}", &line[..from], &line[to..])?;
    }
    Ok(())
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConfigError::Syntax(error) => Some(error),
            ConfigError::Renamed { .. } | ConfigError::Contradiction(_) => None,
        }
    }
}

impl Default for Config {
    /// The values of `default.toml`.
    fn default() -> Config {
        Config::from_toml("").expect("the compiled-in default.toml is a config")
    }
}

impl Config {
    /// Reads a user's TOML, laid over the defaults.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`] for text that is not TOML, an unknown key or a value of the wrong
    /// kind; [`ConfigError::Renamed`] for a key of an earlier version;
    /// [`ConfigError::Contradiction`] for values that make no sense.
    pub fn from_toml(text: &str) -> Result<Config, ConfigError> {
        let mut merged = DeTable::parse(DEFAULT_TOML).expect("the compiled-in default.toml is TOML");
        let located = |mut error: toml::de::Error| {
            error.set_input(Some(text));
            ConfigError::Syntax(error)
        };
        let user = DeTable::parse(text).map_err(located)?;
        refuse_renamed(text, user.get_ref())?;
        lay_over(merged.get_mut(), user.into_inner());
        // Only what the user wrote can be wrong, so a position in an error is always one in the
        // user's text.
        let config = Config::deserialize(toml::de::Deserializer::from(merged)).map_err(located)?;
        config.refuse_contradictions()?;
        Ok(config)
    }

    /// Refuses numbers that contradict each other.
    pub(crate) fn refuse_contradictions(&self) -> Result<(), ConfigError> {
        self.check_timing()?;
        self.detector.check(self)?;
        self.workers.check()?;
        self.restart.check()?;
        positive("events.queue", self.events.queue)?;
        positive("membership.members_max", self.membership.members_max)?;
        longer("membership.forget_after", self.membership.forget_after, "timeout", self.timeout)?;
        longer("membership.redraw", self.membership.redraw, "timeout", self.timeout)?;
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(86_400));
        within("membership.clock_skew_max", self.membership.clock_skew_max, least, most)?;
        let observers = self.membership.observers;
        if observers == 0 || observers as usize > wire::OBSERVERS_MAX {
            let most = wire::OBSERVERS_MAX;
            return contradiction(format!("membership.observers {observers} is out of range; use 1 to {most}"));
        }
        self.ownership.check(self.timeout)?;
        self.cluster.as_ref().map_or(Ok(()), ClusterConfig::check)
    }

    fn check_timing(&self) -> Result<(), ConfigError> {
        within("interval", self.interval, Duration::from_millis(1), wire::INTERVAL_MAX)?;
        longer("timeout", self.timeout, "interval", self.interval)?;
        within("stall", self.stall, Duration::from_millis(1), Duration::from_secs(3600))?;
        if self.stall >= self.timeout {
            let (stall, timeout, right) = (show(self.stall), show(self.timeout), show(self.timeout / 4));
            return contradiction(format!(
                "stall {stall} is not shorter than timeout {timeout}, so this node would call others dead for its own pauses; use at most {right}"
            ));
        }
        Ok(())
    }
}

/// Keys that had another name before: the old name and the one that took its place. Both are in
/// full, so that one line here is all that a renamed key needs.
const RENAMED: [(&str, &str); 6] = [
    ("workers.liveness", "workers.await_timeout"),
    ("workers.shutdown", "workers.shutdown_timeout"),
    ("workers.leave", "workers.leave_timeout"),
    ("workers.thread_wait", "workers.thread_wait_timeout"),
    ("ownership.ttl", "ownership.session_ttl"),
    ("ownership.hand_over", "ownership.hand_over_timeout"),
];

/// Refuses a key of [`RENAMED`] in the user's `text`, of which `user` is the root table.
fn refuse_renamed(text: &str, user: &DeTable<'_>) -> Result<(), ConfigError> {
    for (key, name) in RENAMED {
        let found = key.split_once('.').and_then(|(table, rest)| match user.get(table)?.get_ref() {
            DeValue::Table(inner) => inner.get_key_value(rest),
            _ => None,
        });
        if let Some((found, _)) = found {
            let line = 1 + text[..found.span().start].matches('\n').count();
            return Err(ConfigError::Renamed { key, name, line });
        }
    }
    Ok(())
}

/// Puts each of the user's values in the place of the default; tables are merged, all else is
/// replaced.
fn lay_over<'a>(defaults: &mut DeTable<'a>, user: DeTable<'a>) {
    for (key, value) in user {
        match (defaults.get_mut(&key).map(Spanned::get_mut), value.get_ref()) {
            (Some(DeValue::Table(inner)), DeValue::Table(_)) => {
                if let DeValue::Table(outer) = value.into_inner() {
                    lay_over(inner, outer);
                }
            }
            _ => {
                // The key carries its position too: an unknown one is reported at the user's line,
                // not at the default's.
                defaults.remove(&key);
                defaults.insert(key, value);
            }
        }
    }
}

fn contradiction(text: String) -> Result<(), ConfigError> {
    Err(ConfigError::Contradiction(text))
}

fn show(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}

fn positive(key: &str, value: u32) -> Result<(), ConfigError> {
    if value == 0 { contradiction(format!("{key} is 0; use at least 1")) } else { Ok(()) }
}

fn within(key: &str, value: Duration, least: Duration, most: Duration) -> Result<(), ConfigError> {
    if value < least || value > most {
        return contradiction(format!("{key} {} is out of range; use {} to {}", show(value), show(least), show(most)));
    }
    Ok(())
}

/// Refuses a `value` that is not longer than `other`, and proposes twice the other.
fn longer(key: &str, value: Duration, other_key: &str, other: Duration) -> Result<(), ConfigError> {
    if value <= other {
        let (value, other, right) = (show(value), show(other), show(other.saturating_mul(2)));
        return contradiction(format!("{key} {value} is not longer than {other_key} {other}; use at least {right}"));
    }
    Ok(())
}

fn name(key: &str, value: &str) -> Result<(), ConfigError> {
    if value.is_empty() || value.len() > NAME_BYTES_MAX {
        return contradiction(format!("{key} {value:?} has {} bytes; use 1 to {NAME_BYTES_MAX}", value.len()));
    }
    Ok(())
}

impl DetectorConfig {
    /// Only the settings of the chosen detector have to fit. The threshold has to be a number in any
    /// case: a config that holds NaN would differ from itself.
    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        if !self.threshold.is_finite() {
            return contradiction(format!("detector.threshold {} is not a number; use over 0 to 16", self.threshold));
        }
        match self.kind {
            DetectorKind::Fixed => {
                longer("timeout", config.timeout, "detector.suspect_after", self.suspect_after)?;
                within("detector.suspect_after", self.suspect_after, Duration::from_millis(1), config.timeout)
            }
            DetectorKind::Chen => {
                self.check_window()?;
                within("detector.margin", self.margin, Duration::ZERO, config.timeout)?;
                longer("timeout", config.timeout, "detector.margin", self.margin)
            }
            DetectorKind::Phi => {
                if !(self.threshold > 0.0 && self.threshold <= 16.0) {
                    let threshold = self.threshold;
                    return contradiction(format!("detector.threshold {threshold} is out of range; use over 0 to 16"));
                }
                self.check_window()?;
                match self.reading {
                    PhiReading::Akka => {
                        within("detector.deviation_min", self.deviation_min, Duration::from_nanos(1), config.timeout)?;
                        longer("timeout", config.timeout, "detector.pause", self.pause)
                    }
                    PhiReading::Cassandra => Ok(()),
                }
            }
            DetectorKind::Budget => {
                let share = self.mistakes.per_heartbeat(config.interval);
                if share > SHARE_MAX {
                    let (mistakes, interval) = (self.mistakes, show(config.interval));
                    let right = SHARE_MAX * 3_600.0 / config.interval.as_secs_f64();
                    return contradiction(format!(
                        "detector.mistakes {mistakes} is more than one in ten heartbeats at interval {interval}; use at most {right}/h"
                    ));
                }
                Ok(())
            }
        }
    }

    fn check_window(&self) -> Result<(), ConfigError> {
        if !(2..=10_000).contains(&self.window) {
            return contradiction(format!("detector.window {} is out of range; use 2 to 10000", self.window));
        }
        Ok(())
    }
}

impl WorkersConfig {
    /// What a worker does when a neighbour holds its thread, and how long it waits if it does.
    pub fn on_thread_held(&self) -> OnThreadHeld {
        match self.on_thread_held {
            HeldThread::Wait => OnThreadHeld::Wait { timeout: self.thread_wait_timeout },
            HeldThread::StartAnew => OnThreadHeld::StartAnew,
        }
    }

    /// Refuses numbers that contradict each other.
    ///
    /// # Errors
    /// [`ConfigError::Contradiction`] for the first contradiction found.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !(1..=ARBITERS_MAX).contains(&self.arbiters) {
            return contradiction(format!(
                "workers.arbiters {} is out of range; use 1 to {ARBITERS_MAX}",
                self.arbiters
            ));
        }
        within("workers.interval", self.interval, Duration::from_millis(1), wire::INTERVAL_MAX)?;
        longer("workers.timeout", self.timeout, "workers.interval", self.interval)?;
        let (least, most) = (Duration::from_millis(1), Duration::from_secs(86_400 * 365));
        within("workers.timeout", self.timeout, least, most)?;
        within("workers.start_timeout", self.start_timeout, least, most)?;
        within("workers.await_timeout", self.await_timeout, least, most)?;
        within("workers.shutdown_timeout", self.shutdown_timeout, Duration::ZERO, most)?;
        within("workers.leave_timeout", self.leave_timeout, Duration::ZERO, most)?;
        within("workers.thread_wait_timeout", self.thread_wait_timeout, Duration::ZERO, most)?;
        within("workers.scan", self.scan, least, most)?;
        positive("workers.burst", self.burst)?;
        positive("workers.capacity", self.capacity)?;
        if self.exit_code == 0 {
            return contradiction("workers.exit_code 0 would say that all is well; use 1 to 255".to_owned());
        }
        Ok(())
    }
}

impl RestartConfig {
    /// Refuses numbers no policy can follow.
    ///
    /// # Errors
    /// [`ConfigError::Contradiction`] for the first contradiction found.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.intensity > INTENSITY_MAX && self.intensity != u32::MAX {
            let intensity = self.intensity;
            return contradiction(format!(
                "restart.intensity {intensity} is out of range; use 0 to {INTENSITY_MAX}, or {} for no limit",
                u32::MAX
            ));
        }
        within("restart.period", self.period, Duration::from_millis(1), Duration::from_secs(86_400 * 365))?;
        within("restart.reset_after", self.reset_after, Duration::from_millis(1), Duration::from_secs(86_400 * 365))?;
        if self.delay_max < self.delay_min {
            let (most, least) = (show(self.delay_max), show(self.delay_min));
            return contradiction(format!(
                "restart.delay_max {most} is shorter than restart.delay_min {least}; use at least {least}"
            ));
        }
        // Pauses are half of their limit on average. If so many take longer than the period, a
        // worker that always fails is restarted for ever.
        let pauses = self.pauses() / 2;
        if self.intensity != u32::MAX && self.period < self.delay_max && self.period < pauses {
            let (intensity, period, pauses) = (self.intensity, show(self.period), show(pauses));
            return contradiction(format!(
                "restart.period {period} is too short for restart.intensity {intensity}: the pauses between so many restarts take {pauses} on average, so no worker would be given up; use a period of at least {pauses}, or a shorter restart.delay_max"
            ));
        }
        Ok(())
    }

    /// The longest pauses before `intensity` restarts in a row, together, to the second.
    fn pauses(&self) -> Duration {
        let (mut sum, mut limit, mut left) = (Duration::ZERO, self.delay_min, self.intensity);
        while left > 0 && limit < self.delay_max && !limit.is_zero() {
            sum = sum.saturating_add(limit);
            (limit, left) = (limit.saturating_mul(2), left - 1);
        }
        let rest = if limit.is_zero() { Duration::ZERO } else { self.delay_max.saturating_mul(left) };
        Duration::from_secs(sum.saturating_add(rest).as_secs())
    }
}

impl OwnershipConfig {
    /// What these settings promise of a shard, and what they do not, in one sentence.
    pub fn promise(&self) -> &'static str {
        match (self.authority, self.quorum, self.fenced) {
            (AuthorityKind::View, QuorumRule::None, _) => {
                "no authority and no quorum: in a partition both sides may run a shard, and of their epochs either may be the higher"
            }
            (AuthorityKind::View, QuorumRule::Majority, _) => {
                "held by a majority: a side with fewer gives its shards up before another starts them, as long as news travel within ownership.lease"
            }
            (AuthorityKind::File, ..) => {
                "one owner at a time among the processes of this host that use the folder; other hosts know nothing of it"
            }
            (AuthorityKind::Etcd, _, false) => {
                "one owner at a time, by leases in etcd; a write that was under way when a lease ended has to be told by its epoch"
            }
            (AuthorityKind::Etcd, _, true) => {
                "one epoch after the other, by leases in etcd; a process that was seen to end is not waited for, so whatever a shard writes has to carry its epoch and be refused if it is too low"
            }
        }
    }

    fn check(&self, timeout: Duration) -> Result<(), ConfigError> {
        positive("ownership.quorum_min", self.quorum_min)?;
        positive("ownership.starts", self.starts)?;
        if self.epoch_min >= Epoch::MAX.0 {
            let (epoch, most) = (self.epoch_min, Epoch::MAX.0 - 1);
            return contradiction(format!("ownership.epoch_min {epoch} is out of range; use 0 to {most}"));
        }
        within("ownership.hand_over_timeout", self.hand_over_timeout, Duration::ZERO, Duration::from_secs(3600))?;
        within("ownership.copy_every", self.copy_every, Duration::from_millis(1), Duration::from_secs(86_400))?;
        if self.snapshot_bytes_max > SNAPSHOT_BYTES_MAX {
            let bytes = self.snapshot_bytes_max;
            return contradiction(format!(
                "ownership.snapshot_bytes_max {bytes} is out of range; use 0 to {SNAPSHOT_BYTES_MAX}"
            ));
        }
        match self.quorum {
            QuorumRule::None => {}
            // Whoever has lost its quorum knows it before anybody can be called dead.
            QuorumRule::Majority => within("ownership.lease", self.lease, LEASE_MIN, timeout / 2)?,
        }
        match self.authority {
            AuthorityKind::View => return Ok(()),
            AuthorityKind::File if self.folder.is_none() => {
                return contradiction("ownership.authority is \"file\" and ownership.folder is not set; set it to a folder on a disk of this host".to_owned());
            }
            AuthorityKind::Etcd if self.etcd.endpoints.is_empty() => {
                return contradiction("ownership.authority is \"etcd\" and ownership.etcd.endpoints is empty; use one like \"http://10.0.0.2:2379\"".to_owned());
            }
            AuthorityKind::File => {}
            AuthorityKind::Etcd => self.etcd.endpoints.iter().try_for_each(|endpoint| check_endpoint(endpoint))?,
        }
        if self.quorum == QuorumRule::Majority {
            return contradiction(
                "ownership.quorum is \"majority\" beside an authority; use one of the two".to_owned(),
            );
        }
        within("ownership.session_ttl", self.session_ttl, Duration::from_secs(1), Duration::from_secs(3600))
    }
}

/// Refuses what is no address of an etcd server.
fn check_endpoint(endpoint: &str) -> Result<(), ConfigError> {
    let rest = endpoint.strip_prefix("http://");
    let fits = rest.and_then(|rest| rest.trim_end_matches('/').rsplit_once(':')).is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', ' ']) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if fits {
        return Ok(());
    }
    contradiction(format!(
        "ownership.etcd.endpoints holds {endpoint:?}; use http, a host and a port, like \"http://10.0.0.2:2379\""
    ))
}

impl ClusterConfig {
    /// The address others are told: `advertise`, or else where we listen.
    pub fn advertised(&self, bound: SocketAddr) -> SocketAddr {
        canonical(self.advertise.unwrap_or(bound))
    }

    fn check(&self) -> Result<(), ConfigError> {
        name("cluster.name", &self.name)?;
        name("cluster.node", &self.node)?;
        if self.listen.ip().is_unspecified() && self.advertise.is_none() {
            let listen = self.listen;
            return contradiction(format!(
                "cluster.listen {listen} is no address others can reach; set cluster.advertise to this host's own"
            ));
        }
        if let Some(advertise) = self.advertise
            && (advertise.ip().is_unspecified() || advertise.port() == 0)
        {
            return contradiction(format!(
                "cluster.advertise {advertise} is no address others can reach; use this host's own address and port"
            ));
        }
        if self.zone.len() > NAME_BYTES_MAX {
            let (zone, length) = (&self.zone, self.zone.len());
            return contradiction(format!("cluster.zone {zone:?} has {length} bytes; use at most {NAME_BYTES_MAX}"));
        }
        let is_v4 = |address: SocketAddr| canonical(address).is_ipv4();
        if let Some(advertise) = self.advertise
            && !(self.listen.is_ipv6() && self.listen.ip().is_unspecified())
            && is_v4(advertise) != is_v4(self.listen)
        {
            let listen = self.listen;
            return contradiction(format!(
                "cluster.advertise {advertise} is not of the IP version of cluster.listen {listen}; use an address of the same version, or listen on [::]"
            ));
        }
        check_metadata("cluster.metadata", &self.metadata)?;
        if self.seeds.len() > SEEDS_MAX {
            let count = self.seeds.len();
            return contradiction(format!("cluster.seeds has {count} entries; use at most {SEEDS_MAX}"));
        }
        self.seeds.iter().try_for_each(|seed| check_seed(seed))
    }
}

/// Refuses metadata that would not travel, and a weight that is none.
pub(crate) fn check_metadata(key: &str, metadata: &Metadata) -> Result<(), ConfigError> {
    let bytes = metadata_bytes(metadata);
    if bytes > METADATA_BYTES_MAX {
        return contradiction(format!("{key} takes {bytes} bytes; use at most {METADATA_BYTES_MAX}"));
    }
    if let Some(weight) = metadata.get(WEIGHT_KEY)
        && Weight::said_in(metadata).is_none()
    {
        return contradiction(format!("{key} has the weight {weight:?}; use a whole number from 0 to {}", Weight::MAX));
    }
    Ok(())
}

/// Refuses what is neither an address nor a host name with a port.
fn check_seed(seed: &str) -> Result<(), ConfigError> {
    if let Some((scheme, rest)) = seed.split_once("://") {
        let right = rest.trim_end_matches('/');
        return contradiction(format!("cluster.seeds holds {seed:?}; leave out {scheme}://, like {right:?}"));
    }
    let fits = match seed.parse::<SocketAddr>() {
        Ok(address) => !address.ip().is_unspecified() && address.port() != 0,
        Err(_) => seed.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && !host.contains([' ', '/', '\t']) && port.parse::<u16>().is_ok_and(|port| port != 0)
        }),
    };
    if fits && seed.len() <= 260 {
        return Ok(());
    }
    contradiction(format!(
        "cluster.seeds holds {seed:?}; use an address or a host name and a port, like \"10.0.0.5:7101\""
    ))
}

/// Durations as people write them, "1m 30s", with an error that names the offending text.
mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map_err(|error| {
            serde::de::Error::custom(format!(
                "{text:?} is not a duration ({error}); write it like \"250ms\" or \"1m 30s\""
            ))
        })
    }

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asserts that `text` is refused and that the error holds each of `parts`.
    #[track_caller]
    fn check(text: &str, parts: &[&str]) {
        let error = Config::from_toml(text).expect_err(text).to_string();
        for part in parts {
            assert!(error.contains(part), "error of {text:?} lacks {part:?}: {error}");
        }
    }

    const CLUSTER: &str = "[cluster]\nname = 'c'\nnode = 'n'\nrole = 'worker'\nmode = 'central'\n";

    #[test]
    fn an_error_quotes_no_more_than_a_few_lines_hold() {
        let long = "ü".repeat(1 << 19);
        for text in [
            format!("interval = '{long}'"),
            format!("{long} = 1"),
            format!("{CLUSTER}listen = '127.0.0.1:1'\nseeds = ['{long}']"),
            format!("{CLUSTER}listen = '127.0.0.1:1'\nseeds = []\nzone = '{long}'"),
        ] {
            let error = Config::from_toml(&text).expect_err("it is refused").to_string();
            assert!(error.len() < 3_000, "{} bytes", error.len());
        }
    }

    #[test]
    fn an_empty_text_gives_the_defaults() {
        let config = Config::from_toml("").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.interval, Duration::from_secs(1));
        assert!(config.cluster.is_none());
    }

    #[test]
    fn a_users_table_is_laid_over_the_defaults() {
        let config = Config::from_toml("[detector]\nkind = 'fixed'").unwrap();
        assert_eq!(config.detector.kind, DetectorKind::Fixed);
        assert_eq!(config.detector.window, Config::default().detector.window);
    }

    #[test]
    fn every_value_survives_being_written_and_read() {
        let config = Config::from_toml(&format!("{CLUSTER}listen = '127.0.0.1:1'\nseeds = ['127.0.0.1:2']")).unwrap();
        let text = toml::Table::try_from(&config).unwrap().to_string();
        assert_eq!(Config::from_toml(&text).unwrap(), config);
    }

    #[test]
    fn an_unknown_key_is_refused_at_its_line() {
        check("timeout = '9s'\nintervall = '1s'", &["line 2", "unknown field `intervall`", "`interval`"]);
        check("\n\n[detector]\nkinds = 'phi'", &["line 4", "unknown field `kinds`"]);
        check("[detektor]\nkind = 'phi'", &["line 1", "unknown field `detektor`"]);
    }

    #[test]
    fn a_renamed_key_is_refused_at_its_line_with_its_new_name() {
        for (key, name) in RENAMED {
            let (table, old) = key.split_once('.').expect("a key of a table");
            let expected = |line| format!("unknown key {key} at line {line}: it is called {name} now");
            check(&format!("timeout = '9s'\n[{table}]\n{old} = '1s'"), &[&expected(3)]);
            check(&format!("\n{table}.{old} = '1s'"), &[&expected(2)]);
            check(&format!("\n{table} = {{ {old} = 1 }}"), &[&expected(2)]);
            let (_, new) = name.split_once('.').expect("a key of a table");
            let text = format!("[{table}]\n{new} = '7s'");
            let config = Config::from_toml(&text).expect("the new name is known");
            assert_ne!(config, Config::default(), "{text}");
        }
        check(
            "workers.liveness = '1s'",
            &["unknown key workers.liveness at line 1: it is called workers.await_timeout now"],
        );
        // Only the table itself knows the key, and a value that is no table is refused as such.
        check("liveness = '1s'", &["unknown field `liveness`"]);
        check("workers = 'liveness'", &["line 1", "expected struct WorkersConfig"]);
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_at_its_line() {
        check("interval = 5", &["line 1", "expected a string"]);
        check("interval = '250 parsecs'", &["line 1", "250 parsecs", "write it like"]);
        check("[detector]\nkind = 'psi'", &["line 2", "unknown variant `psi`", "`fixed`"]);
        check("interval = ", &["line 1"]);
        check("detector = 'phi'", &["line 1", "expected struct DetectorConfig"]);
    }

    #[test]
    fn contradictions_name_both_values_and_the_way_out() {
        check(
            "timeout = '300ms'\ninterval = '500ms'",
            &["timeout 300ms is not longer than interval 500ms; use at least 1s"],
        );
        check("interval = '0s'", &["interval 0s is out of range"]);
        check("interval = '1y'\ntimeout = '2y'", &["out of range"]);
        check("stall = '0s'", &["stall"]);
        check("stall = '6s'", &["stall 6s is not shorter than timeout 6s", "use at most 1s 500ms"]);
        let often = "[restart]\nintensity = 20\nperiod = '29s'";
        check(often, &["restart.period 29s is too short for restart.intensity 20", "at least 3m 10s"]);
        assert!(Config::from_toml("[restart]\nperiod = '5s'").is_ok(), "five pauses are short");
        assert!(Config::from_toml("[restart]\nintensity = 20\nperiod = '30s'").is_ok());
        check("ownership.epoch_min = 9223372036854775807", &["ownership.epoch_min"]);
        check(
            "[detector]\nkind = 'fixed'\nsuspect_after = '6s'",
            &["timeout 6s is not longer than detector.suspect_after 6s"],
        );
        check("[detector]\nkind = 'phi'\npause = '6s'", &["timeout 6s is not longer than detector.pause 6s"]);
        check("[detector]\nkind = 'phi'\nthreshold = 0.0", &["detector.threshold 0"]);
        check("[detector]\nkind = 'phi'\nthreshold = nan", &["detector.threshold NaN"]);
        check("[detector]\nkind = 'phi'\nwindow = 1", &["detector.window 1"]);
        check("[detector]\nkind = 'chen'\nwindow = 10001", &["detector.window 10001"]);
        check("[detector]\nkind = 'chen'\nmargin = '6s'", &["timeout 6s is not longer than detector.margin 6s"]);
        check("[detector]\nmistakes = '9/min'", &["detector.mistakes 540/h", "interval 1s", "use at most 360/h"]);
        check("[detector]\nmistakes = '0/h'", &["line 2", "\"0/h\" is out of range"]);
        check("[detector]\nmistakes = '1/fortnight'", &["line 2", "\"1/fortnight\" is not a rate", "1/h"]);
        check("[detector]\nmistakes = 1", &["line 2", "expected a string"]);
        check("[workers]\narbiters = 0", &["workers.arbiters 0 is out of range; use 1 to 1024"]);
        check("[workers]\ntimeout = '100ms'", &["workers.timeout 100ms is not longer than workers.interval 500ms"]);
        check("[workers]\nburst = 0", &["workers.burst is 0; use at least 1"]);
        check("[restart]\ndelay_min = '1m'", &["restart.delay_max 30s is shorter than restart.delay_min 1m"]);
        check("[events]\nqueue = 0", &["events.queue is 0"]);
        check("[membership]\nobservers = 0", &["membership.observers 0 is out of range; use 1 to 16"]);
        check("[membership]\nredraw = '1s'", &["membership.redraw 1s is not longer than timeout 6s"]);
        check("[membership]\non_isolated = 'panic'", &["line 2", "unknown variant `panic`"]);
        check("[membership]\nforget_after = '1s'", &["membership.forget_after 1s is not longer than timeout 6s"]);
    }

    /// Found by `tests/fuzz`.
    #[test]
    fn a_threshold_that_is_no_number_is_refused_for_every_detector() {
        for kind in ["budget", "fixed", "chen", "phi"] {
            for threshold in ["nan", "inf", "-inf"] {
                let text = format!("[detector]\nkind = '{kind}'\nthreshold = {threshold}");
                check(&text, &["detector.threshold", "is not a number; use over 0 to 16"]);
            }
        }
    }

    #[test]
    fn what_the_chosen_detector_does_not_use_does_not_have_to_fit() {
        assert!(Config::from_toml("timeout = '2s'").is_ok());
        assert!(Config::from_toml("timeout = '4s'\n[detector]\nkind = 'fixed'\npause = '5s'\nwindow = 0").is_ok());
    }

    #[test]
    fn a_cluster_that_cannot_work_is_refused() {
        check(CLUSTER, &["missing field `listen`"]);
        let cluster = |rest: &str| format!("{CLUSTER}{rest}");
        check(&cluster("listen = '0.0.0.0:1'\nseeds = ['127.0.0.1:2']"), &["cluster.advertise"]);
        for seed in ["127.0.0.1:0", "0.0.0.0:1", "seed.example", ":7100", "a b:7100", "seed:70000"] {
            let text = cluster(&format!("listen = '127.0.0.1:1'\nseeds = ['{seed}']"));
            check(&text, &[&format!("cluster.seeds holds {seed:?}"), "10.0.0.5:7101"]);
        }
        let scheme = cluster("listen = '127.0.0.1:1'\nseeds = ['http://10.0.0.2:7101/']");
        check(&scheme, &["cluster.seeds holds \"http://10.0.0.2:7101/\"; leave out http://, like \"10.0.0.2:7101\""]);
        for (listen, advertise) in [("[::1]:1", "10.0.0.1:1"), ("0.0.0.0:1", "[fd00::1]:1")] {
            let text = cluster(&format!("listen = '{listen}'\nadvertise = '{advertise}'\nseeds = []"));
            check(&text, &["is not of the IP version of cluster.listen"]);
        }
        for (listen, advertise) in
            [("[::]:1", "10.0.0.1:1"), ("[::]:1", "[fd00::1]:1"), ("10.0.0.1:1", "[::ffff:1.2.3.4]:1")]
        {
            let text = cluster(&format!("listen = '{listen}'\nadvertise = '{advertise}'\nseeds = []"));
            assert!(Config::from_toml(&text).is_ok(), "{text}");
        }
        check(&cluster("listen = 'localhost'\nseeds = []"), &["line 6"]);
        check(&cluster("listen = '127.0.0.1:1'\nadvertise = '127.0.0.1:0'\nseeds = []"), &["cluster.advertise"]);
        let long = "x".repeat(300);
        check(
            &cluster(&format!("listen = '127.0.0.1:1'\nseeds = []\nzone = '{long}'")),
            &["cluster.zone", "300 bytes"],
        );
        let metadata = cluster(&format!("listen = '127.0.0.1:1'\nseeds = []\nmetadata = {{ note = '{long}' }}"));
        check(&metadata, &["cluster.metadata takes 306 bytes; use at most 256"]);
        let weight = cluster("listen = '127.0.0.1:1'\nseeds = []\nmetadata = { weight = '1001' }");
        check(&weight, &["cluster.metadata has the weight \"1001\"; use a whole number from 0 to 1000"]);
    }

    #[test]
    fn ownership_that_contradicts_itself_is_refused() {
        for (text, expected) in [
            ("authority = 'file'", "ownership.folder is not set"),
            ("authority = 'etcd'", "ownership.etcd.endpoints is empty"),
            ("authority = 'etcd'\netcd = { endpoints = ['https://a:2379'] }", "holds \"https://a:2379\"; use http,"),
            ("authority = 'etcd'\netcd = { endpoints = ['http://a'] }", "holds \"http://a\""),
            ("authority = 'file'\nfolder = 'x'\nsession_ttl = '500ms'", "ownership.session_ttl 500ms"),
            ("authority = 'file'\nfolder = 'x'\nquorum = 'majority'", "use one of the two"),
            ("quorum = 'majority'\nlease = '4s'", "ownership.lease 4s"),
            ("quorum_min = 0", "ownership.quorum_min is 0; use at least 1"),
            ("starts = 0", "ownership.starts is 0; use at least 1"),
            ("snapshot_bytes_max = 16777217", "ownership.snapshot_bytes_max 16777217"),
            ("authority = 'zookeeper'", "unknown variant `zookeeper`"),
        ] {
            check(&format!("[ownership]\n{text}"), &[expected]);
        }
    }
}
