//! `Config`: every number a user may set, read from TOML, refused with a reason, and added up.
//!
//! The only source of defaults is `default.toml`, which is compiled in: users copy it, the book
//! shows it and the code reads it. A user's table is laid over it key by key, so a config holds
//! only the differences. A typo is an error that points at its line. Numbers that contradict each
//! other are an error that names both and a value that would be right (`check`). [`Config::check`]
//! returns what the others add up to, such as the time until a crash is noticed
//! ([`crate::bounds`]).
//!
//! The caller reads the file and the environment; this module sees text.

mod check;
mod environment;
pub mod rate;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::rate::MistakeRate;
use crate::member::{Metadata, Role, canonical};
use crate::wire::VERSION_MAX;

pub(crate) use check::check_metadata;
pub use check::key_fault;

/// The compiled-in defaults with their comments, as users copy them.
pub const DEFAULT_TOML: &str = include_str!("default.toml");

/// Seeds at most.
pub const SEEDS_MAX: usize = 64;

/// Shortest lease: the margin for clocks would use up a shorter one.
pub const LEASE_MIN: Duration = Duration::from_millis(500);

/// Most worker threads of one node; more is a typo, not a machine.
pub const ARBITERS_MAX: u32 = 1024;

/// Highest restart intensity that is counted. For no limit, use `u32::MAX`.
pub const INTENSITY_MAX: u32 = 1_000_000;

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
    /// Silence after which a node is declared dead. Longer than `interval`.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Lateness of this process's own timer that counts as a pause of it. Not zero.
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
    /// Requests to shards and workers of other nodes.
    pub requests: RequestsConfig,
    /// Workers of single keys.
    pub entities: EntitiesConfig,
    /// How the node stops.
    pub stop: StopConfig,
    /// What is measured at each message.
    pub metrics: MetricsConfig,
    /// The HTTP server for operators; without it there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpConfig>,
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
    /// For `chen`: delay past the expected arrival that is tolerated; zero is allowed.
    #[serde(with = "duration")]
    pub margin: Duration,
    /// For `phi`: what the intervals are taken to be distributed like.
    pub reading: PhiReading,
    /// For `phi`: suspicion at this phi. Over 0, at most 16 (beyond that the formula runs out of
    /// floating point).
    pub threshold: f64,
    /// For `chen` and `phi`: heartbeats remembered, 2 to 10,000.
    pub window: u32,
    /// For `phi`, Akka's reading: the smallest standard deviation that is assumed. Not zero.
    #[serde(with = "duration")]
    pub deviation_min: Duration,
    /// For `phi`, Akka's reading: pause that is tolerated on top of the mean; zero is allowed.
    #[serde(with = "duration")]
    pub pause: Duration,
}

/// The detectors to choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectorKind {
    /// As rarely as the user asked; it learns from the target's silences.
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
    /// How often all status cells are read. Not zero.
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

/// Which of its messages a stopping worker still handles, within its shutdown timeout.
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
    /// An event; the other workers continue.
    Report,
    /// The event, then the node leaves gracefully.
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
    /// Members that watch each node, 1 to [`OBSERVERS_MAX`](crate::wire::OBSERVERS_MAX).
    pub observers: u32,
    /// How often one of them is drawn anew. Longer than `timeout`.
    #[serde(with = "duration")]
    pub redraw: Duration,
    /// How far the clock of a node may be from that of the members, 1 s to 1 day; a node that is
    /// farther off goes on from theirs.
    #[serde(with = "duration")]
    pub clock_skew_max: Duration,
    /// Whether each node keeps a connection to each of its observers. Its end shows a crash at
    /// once.
    pub lifelines: bool,
    /// Whether deaths by silence are held up while many are silent at once.
    pub brake: bool,
    /// What an observer does that receives heartbeats from few of the nodes it watches.
    pub on_isolated: OnIsolated,
}

/// What an observer does that receives heartbeats from few of the nodes it watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnIsolated {
    /// It holds its verdicts, since it is probably cut off itself. With two members it cannot tell,
    /// and proceeds.
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
    /// How long an authority keeps a node's shards without a renewal, 1 s to 1 h.
    #[serde(with = "duration")]
    pub session_ttl: Duration,
    /// For an authority: whether every write of a shard is refused when its epoch is too low. Then
    /// the session of a process that was seen to end may be ended early.
    pub fenced: bool,
    /// For `file`: the folder in which it is kept, on a disk of this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// For `etcd`: where it is.
    pub etcd: EtcdConfig,
    /// For `postgres`: where it is.
    pub postgres: PostgresConfig,
    /// Which members must answer a node that owns shards, where there is no authority.
    pub quorum: QuorumRule,
    /// Least number of answering nodes, this one included; at least 1.
    pub quorum_min: u32,
    /// For how long an answer counts, 500 ms to half of `timeout`.
    #[serde(with = "duration")]
    pub lease: Duration,
    /// Epochs that this node gives out are above this one.
    pub epoch_min: u64,
    /// How long a shard that moves waits for its previous owner; zero means not at all.
    #[serde(with = "duration")]
    pub hand_over_timeout: Duration,
    /// Least time from one copy of a shard's snapshot to the next.
    #[serde(with = "duration")]
    pub copy_every: Duration,
    /// Largest snapshot in bytes, at most [`SNAPSHOT_BYTES_MAX`].
    pub snapshot_bytes_max: u32,
    /// Bytes of other nodes' snapshots kept at most.
    pub copies_bytes_max: u64,
    /// Shards that start at once; others follow when these are up, or after 50 ms. At least 1.
    pub starts: u32,
}

/// Largest snapshot that can be allowed.
pub const SNAPSHOT_BYTES_MAX: u32 = 16 << 20;

/// Who hands out the right to run a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthorityKind {
    /// No authority: each node decides by its own view, and by `quorum`.
    View,
    /// Files on this host.
    File,
    /// An etcd cluster.
    Etcd,
    /// A PostgreSQL database.
    Postgres,
}

/// Where etcd is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EtcdConfig {
    /// One or more, like `"http://10.0.0.2:2379"`, or with TLS like `"https://10.0.0.2:2379"`.
    pub endpoints: Vec<String>,
    /// The user that this node authenticates as; empty if etcd does not ask.
    pub user: String,
    /// The password of `user`: itself, or `env:NAME` or `file:PATH`, where it is read at each
    /// connection.
    pub password: Secret,
    /// The beginning of all keys.
    pub prefix: String,
    /// With TLS: a file with the certificates (PEM) that the servers' certificates must be signed
    /// by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// A file with the certificate (PEM) that this node shows the servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// A file with the key (PEM) of `certificate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// Where PostgreSQL is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// One or more, like `"10.0.0.2:5432"`: the primary, and standbys that may become it.
    pub hosts: Vec<String>,
    /// The user that this node authenticates as.
    pub user: String,
    /// The password of `user`: itself, or `env:NAME` or `file:PATH`, where it is read at each
    /// connection.
    pub password: Secret,
    /// The database.
    pub database: String,
    /// The schema of the tables.
    pub schema: String,
    /// A file with the certificates (PEM) that the server's certificate must be signed by. With it
    /// each connection has TLS; without it none has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// A file with the certificate (PEM) that this node shows the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// A file with the key (PEM) of `certificate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// How a node stops that was asked to by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StopConfig {
    /// How long it goes on after it is not ready any more; at most an hour.
    #[serde(with = "duration")]
    pub drain: Duration,
}

/// What is measured at each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// Whether `/metrics` shows how long messages wait and are handled, as histograms by type of
    /// actor.
    pub histograms: bool,
}

/// The HTTP server that a node starts for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    /// The TCP address to bind; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What a client has to send as `Authorization: Bearer`; at least [`TOKEN_BYTES_MIN`] bytes. If
    /// empty, everybody who reaches the address may read.
    #[serde(default)]
    pub token: Secret,
    /// Whether an address that is not loopback may be without a token.
    #[serde(default)]
    pub insecure: bool,
}

/// Shortest token of the HTTP server.
pub const TOKEN_BYTES_MIN: usize = 16;

/// A password or a token. Its value is never shown by `Debug`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The value, for the one who has to send or compare it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this names the file or the variable that holds the value.
    pub(crate) fn names_source(&self) -> bool {
        self.0.starts_with("file:") || self.0.starts_with("env:")
    }

    /// Stands in for the value where a config is shown.
    fn hidden(&self) -> Secret {
        if self.is_empty() { Secret::default() } else { Secret("hidden".to_owned()) }
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Secret {
        Secret(value.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "none" } else { "hidden" })
    }
}

/// Which members must answer a node that owns shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuorumRule {
    /// No member: each node decides by its own view.
    None,
    /// More than half of the members.
    Majority,
}

/// How many requests may wait or be under way, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestsConfig {
    /// Requests that wait at this node, all shards together; zero means that none waits.
    pub held_max: u32,
    /// Bytes of these, at least `message_bytes_max` unless `held_max` is zero.
    pub held_bytes_max: usize,
    /// How long a request waits for an owner that can take it, 1 ms to 1 h.
    #[serde(with = "duration")]
    pub held_for: Duration,
    /// What becomes of a request whose shard's owner is suspected.
    pub on_suspected: OnSuspected,
    /// Requests under way to one node, 1 to [`REQUESTS_WINDOW_MAX`].
    pub window: u32,
    /// Bytes of these. Not zero. One request may always be under way, of any size.
    pub window_bytes: usize,
    /// Largest message and largest answer in bytes, 1 to [`MESSAGE_BYTES_MAX`].
    pub message_bytes_max: usize,
    /// How often a node that is not the owner may refuse a request before its sender gives it up.
    /// At least 1.
    pub hops_max: u32,
    /// How long a connection may be unused before it is closed, 10 ms to 1 day.
    #[serde(with = "duration")]
    pub idle_after: Duration,
}

impl Default for RequestsConfig {
    /// The values of `default.toml`.
    fn default() -> RequestsConfig {
        Config::default().requests
    }
}

/// How many entities of a group are active on a node, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntitiesConfig {
    /// How long an entity may be idle before it is stopped, 10 ms to 1 day.
    #[serde(with = "duration")]
    pub idle_after: Duration,
    /// Entities of one group that may be active on this node at once. At least 1.
    pub active_max: u32,
}

impl Default for EntitiesConfig {
    /// The values of `default.toml`.
    fn default() -> EntitiesConfig {
        Config::default().entities
    }
}

/// Most requests that may be under way to one node.
pub const REQUESTS_WINDOW_MAX: u32 = 65_536;

/// Largest message that can be allowed.
pub const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// What becomes of a request whose shard's owner is suspected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnSuspected {
    /// It waits until the suspicion is refuted or the shard has another owner.
    Wait,
    /// It is sent all the same.
    Send,
    /// It is refused.
    Refuse,
}

/// The cluster a node is part of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Only nodes with the same name talk to each other; 1 to
    /// [`NAME_BYTES_MAX`](crate::member::NAME_BYTES_MAX) bytes.
    pub name: String,
    /// This node's name, unique in the cluster; 1 to
    /// [`NAME_BYTES_MAX`](crate::member::NAME_BYTES_MAX) bytes.
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
    /// Nodes to join through: addresses, or host names with a port. A node whose list is empty, or
    /// names only itself, may be the first.
    pub seeds: Vec<String>,
    /// The group of nodes that fail together with this one, such as a rack; at most
    /// [`NAME_BYTES_MAX`](crate::member::NAME_BYTES_MAX) bytes, empty for none.
    #[serde(default)]
    pub zone: String,
    /// Keys and values that this node publishes; at most
    /// [`METADATA_BYTES_MAX`](crate::member::METADATA_BYTES_MAX) bytes in all.
    #[serde(default)]
    pub metadata: Metadata,
    /// The keys that seal all traffic between nodes; none if it is sent plain. Needs the feature
    /// `seal` of heartbeat-actors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seal: Option<SealConfig>,
    /// The highest version of the wire format that this node uses. All members use the highest that
    /// all can use, so a lower one here holds all of them back. Leave it out, unless the former
    /// release must be able to join at any time.
    #[serde(default = "wire_version_max", skip_serializing_if = "is_wire_version_max")]
    pub wire_version_max: u8,
}

/// Keys that seal the traffic between the nodes of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealConfig {
    /// One to [`SEAL_KEYS_MAX`] keys of 32 bytes, the preferred one first. A node seals what it
    /// sends with the first of them that the receiver has, and opens with all. Each is
    /// `file:` and a path, `env:` and the name of a variable, or the key itself. A key is written
    /// as [`SEAL_KEY_DIGITS`] hexadecimal digits.
    pub keys: Vec<Secret>,
    /// Whether plain datagrams and connections are taken, and sent to members that have no key: for
    /// the time in which sealing is turned on or off. Until it is `false` again, the seal keeps no
    /// attacker out.
    #[serde(default)]
    pub accept_plain: bool,
}

/// Most keys of a seal: the present one, the next one, and two that linger.
pub const SEAL_KEYS_MAX: usize = 4;

/// Hexadecimal digits of a key.
pub const SEAL_KEY_DIGITS: usize = 64;

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
    /// An environment variable that makes no sense.
    Variable {
        /// Its name.
        name: &'static str,
        /// Its value; what is not UTF-8 in it is replaced.
        value: String,
        /// Why it is refused, and what would be right.
        reason: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Syntax(error) => write_short(f, error.to_string().trim_end()),
            ConfigError::Renamed { key, name, line } => {
                write!(f, "unknown key {key} at line {line}: it is called {name} now")
            }
            ConfigError::Contradiction(text) => write_short(f, text),
            ConfigError::Variable { name, value, reason } => write_short(f, &format!("{name} {value:?} {reason}")),
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
            ConfigError::Renamed { .. } | ConfigError::Contradiction(_) | ConfigError::Variable { .. } => None,
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
        Config::read(text, |_| Ok(()))
    }

    /// Reads a user's TOML, in which `amend` may put values in the place of the user's.
    fn read(
        text: &str,
        amend: impl FnOnce(&mut DeTable<'_>) -> Result<(), ConfigError>,
    ) -> Result<Config, ConfigError> {
        let mut merged = DeTable::parse(DEFAULT_TOML).expect("the compiled-in default.toml is TOML");
        let located = |mut error: toml::de::Error| {
            error.set_input(Some(text));
            ConfigError::Syntax(error)
        };
        let mut user = DeTable::parse(text).map_err(located)?;
        refuse_renamed(text, user.get_ref())?;
        amend(user.get_mut())?;
        lay_over(merged.get_mut(), user.into_inner());
        // Only what the user wrote can be wrong, so a position in an error is always one in the
        // user's text.
        let config = Config::deserialize(toml::de::Deserializer::from(merged)).map_err(located)?;
        config.refuse_contradictions()?;
        Ok(config)
    }

    /// The same settings without passwords and tokens, to be shown.
    pub fn without_secrets(&self) -> Config {
        let mut config = self.clone();
        config.ownership.etcd.password = config.ownership.etcd.password.hidden();
        for key in config.cluster.iter_mut().flat_map(|cluster| &mut cluster.seal).flat_map(|seal| &mut seal.keys) {
            if !key.names_source() {
                *key = key.hidden();
            }
        }
        config.ownership.postgres.password = config.ownership.postgres.password.hidden();
        if let Some(http) = &mut config.http {
            http.token = http.token.hidden();
        }
        config
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

impl WorkersConfig {
    /// What a worker does when a neighbour holds its thread, and how long it waits if it does.
    pub fn on_thread_held(&self) -> OnThreadHeld {
        match self.on_thread_held {
            HeldThread::Wait => OnThreadHeld::Wait { timeout: self.thread_wait_timeout },
            HeldThread::StartAnew => OnThreadHeld::StartAnew,
        }
    }
}

impl OwnershipConfig {
    /// What these settings promise of a shard, and what they do not, in one sentence.
    pub fn promise(&self) -> &'static str {
        match (self.authority, self.quorum, self.fenced) {
            (AuthorityKind::View, QuorumRule::None, _) => {
                "no authority, no quorum: in a partition both sides may run a shard, and the higher epoch need not be the later owner"
            }
            (AuthorityKind::View, QuorumRule::Majority, _) => {
                "held by a majority: a side with fewer members stops its shards before another side starts them, if news travels within ownership.lease"
            }
            (AuthorityKind::File, ..) => {
                "one owner at a time among the processes of this host that use the folder; other hosts do not see it"
            }
            (AuthorityKind::Etcd, _, false) => {
                "one owner at a time, by leases in etcd; a write in progress when a lease ends can be recognised only by its epoch"
            }
            (AuthorityKind::Postgres, _, false) => {
                "one owner at a time, by leases in PostgreSQL and the clock of its server; a write in progress when a lease ends can be recognised only by its epoch"
            }
            (AuthorityKind::Postgres, _, true) => {
                "one epoch after the other, by leases in PostgreSQL; a process that was seen to end is not waited for, so every write of a shard must carry its epoch and be refused if it is too low"
            }
            (AuthorityKind::Etcd, _, true) => {
                "one epoch after the other, by leases in etcd; a process that was seen to end is not waited for, so every write of a shard must carry its epoch and be refused if it is too low"
            }
        }
    }
}

fn wire_version_max() -> u8 {
    VERSION_MAX
}

fn is_wire_version_max(version: &u8) -> bool {
    *version == VERSION_MAX
}

impl ClusterConfig {
    /// The address that other nodes are given: `advertise`, or else the bound one.
    pub fn advertised(&self, bound: SocketAddr) -> SocketAddr {
        canonical(self.advertise.unwrap_or(bound))
    }
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
}
