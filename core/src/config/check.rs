//! `Config::check`: which numbers contradict each other.
//!
//! Each key is checked by itself first, then against the keys that it depends on. An error names
//! both values and one that would be right. Only the settings of the chosen detector and authority
//! have to fit.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{
    ARBITERS_MAX, AuthorityKind, ClusterConfig, Config, ConfigError, DetectorConfig, DetectorKind, EntitiesConfig,
    EtcdConfig, HttpConfig, INTENSITY_MAX, LEASE_MIN, MESSAGE_BYTES_MAX, OwnershipConfig, PhiReading, PostgresConfig,
    QuorumRule, REQUESTS_WINDOW_MAX, RequestsConfig, RestartConfig, SEAL_KEY_DIGITS, SEAL_KEYS_MAX, SEEDS_MAX,
    SNAPSHOT_BYTES_MAX, SealConfig, TOKEN_BYTES_MIN, WorkersConfig,
};
use crate::member::{
    Epoch, METADATA_BYTES_MAX, Metadata, NAME_BYTES_MAX, SEAL_KEY, WEIGHT_KEY, WIRE_KEY, Weight, canonical,
    metadata_bytes,
};
use crate::wire::{self, VERSION_MAX, VERSION_MIN};

/// Largest share of heartbeats after which a wrong suspicion may follow; above it the detector
/// would be a coin.
const SHARE_MAX: f64 = 0.1;

impl Config {
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
        self.requests.check()?;
        self.entities.check()?;
        within("stop.drain", self.stop.drain, Duration::ZERO, Duration::from_secs(3600))?;
        self.http.as_ref().map_or(Ok(()), HttpConfig::check)?;
        self.cluster.as_ref().map_or(Ok(()), ClusterConfig::check)
    }

    fn check_timing(&self) -> Result<(), ConfigError> {
        within("interval", self.interval, Duration::from_millis(1), wire::INTERVAL_MAX)?;
        longer("timeout", self.timeout, "interval", self.interval)?;
        within("stall", self.stall, Duration::from_millis(1), Duration::from_secs(3600))?;
        if self.stall >= self.timeout {
            let (stall, timeout, right) = (show(self.stall), show(self.timeout), show(self.timeout / 4));
            return contradiction(format!(
                "stall {stall} is not shorter than timeout {timeout}, so this node would declare others dead for its own pauses; use at most {right}"
            ));
        }
        Ok(())
    }
}

impl DetectorConfig {
    /// Only the settings of the chosen detector have to fit. The threshold has to be a number in
    /// any case: a config that holds NaN would differ from itself.
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
            return contradiction("workers.exit_code 0 means success; use 1 to 255".to_owned());
        }
        Ok(())
    }
}

impl RestartConfig {
    /// Refuses numbers that contradict each other.
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
        // worker that always fails is restarted without end.
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
    fn check(&self, timeout: Duration) -> Result<(), ConfigError> {
        positive("ownership.quorum_min", self.quorum_min)?;
        positive("ownership.starts", self.starts)?;
        if self.epoch_min >= Epoch::MAX.0 {
            let (epoch, most) = (self.epoch_min, Epoch::MAX.0 - 1);
            return contradiction(format!("ownership.epoch_min {epoch} is out of range; use 0 to {most}"));
        }
        writable("ownership.copies_bytes_max", self.copies_bytes_max)?;
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
            // A node that has lost its quorum knows so before any member can declare it dead.
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
            AuthorityKind::Postgres => self.postgres.check()?,
            AuthorityKind::Etcd => self.etcd.check()?,
        }
        if self.quorum == QuorumRule::Majority {
            return contradiction(
                "ownership.quorum is \"majority\" beside an authority; use one of the two".to_owned(),
            );
        }
        within("ownership.session_ttl", self.session_ttl, Duration::from_secs(1), Duration::from_secs(3600))
    }
}

impl EntitiesConfig {
    /// Refuses bounds under which no entity could work.
    ///
    /// # Errors
    /// [`ConfigError::Contradiction`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(86_400));
        within("entities.idle_after", self.idle_after, least, most)?;
        positive("entities.active_max", self.active_max)
    }
}

impl RequestsConfig {
    /// A message may be larger than `window_bytes`: then it is under way alone. It may not be
    /// larger than `held_bytes_max`, or it would be refused whenever its shard moves.
    fn check(&self) -> Result<(), ConfigError> {
        let (least, most) = (Duration::from_millis(1), Duration::from_secs(3600));
        within("requests.held_for", self.held_for, least, most)?;
        let (least, most) = (Duration::from_millis(10), Duration::from_secs(86_400));
        within("requests.idle_after", self.idle_after, least, most)?;
        positive("requests.hops_max", self.hops_max)?;
        if !(1..=REQUESTS_WINDOW_MAX).contains(&self.window) {
            let window = self.window;
            return contradiction(format!("requests.window {window} is out of range; use 1 to {REQUESTS_WINDOW_MAX}"));
        }
        writable("requests.window_bytes", self.window_bytes as u64)?;
        writable("requests.held_bytes_max", self.held_bytes_max as u64)?;
        if self.window_bytes == 0 {
            return contradiction("requests.window_bytes is 0; use at least 1".to_owned());
        }
        let bytes = self.message_bytes_max;
        if !(1..=MESSAGE_BYTES_MAX).contains(&bytes) {
            return contradiction(format!(
                "requests.message_bytes_max {bytes} is out of range; use 1 to {MESSAGE_BYTES_MAX}"
            ));
        }
        let held_bytes = self.held_bytes_max;
        if held_bytes < bytes && self.held_max > 0 {
            return contradiction(format!(
                "requests.held_bytes_max {held_bytes} is less than requests.message_bytes_max {bytes}, so the largest message could not wait; use at least {bytes}, or set requests.held_max to 0"
            ));
        }
        Ok(())
    }
}

impl HttpConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let (listen, bytes) = (self.listen, self.token.expose().len());
        if self.token.is_empty() && !self.insecure && !canonical(listen).ip().is_loopback() {
            return contradiction(format!(
                "http.listen {listen} can be reached by other hosts and http.token is not set; set a token of at least {TOKEN_BYTES_MIN} bytes, listen on 127.0.0.1, or set http.insecure to true"
            ));
        }
        if !self.token.is_empty() && bytes < TOKEN_BYTES_MIN {
            return contradiction(format!("http.token has {bytes} bytes; use at least {TOKEN_BYTES_MIN}"));
        }
        if !self.token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            return contradiction(
                "http.token holds a space or a character that is not ASCII; use letters, digits and signs".to_owned(),
            );
        }
        Ok(())
    }
}

impl PostgresConfig {
    /// Refuses what cannot be connected to.
    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |text: String| contradiction(format!("ownership.postgres.{text}"));
        if self.hosts.is_empty() {
            return refuse(
                "hosts is empty and ownership.authority is \"postgres\"; use one like \"10.0.0.2:5432\"".to_owned(),
            );
        }
        if let Some(host) = self.hosts.iter().find(|host| !is_host_and_port(host)) {
            return refuse(format!("hosts holds {host:?}; use a host and a port, like \"10.0.0.2:5432\""));
        }
        for (key, value) in [("user", &self.user), ("database", &self.database), ("schema", &self.schema)] {
            if value.is_empty() {
                return refuse(format!("{key} is empty; set it to the name of the {key}"));
            }
            // A longer name would be cut off by the server, and be another one.
            if value.len() > POSTGRES_NAME_BYTES_MAX || value.contains('\0') {
                return refuse(format!("{key} {value:?} is no name there; use 1 to {POSTGRES_NAME_BYTES_MAX} bytes"));
            }
        }
        check_files("ownership.postgres", &self.ca, &self.certificate, &self.key)
    }
}

impl EtcdConfig {
    /// Refuses what cannot be connected to. That there are endpoints is known.
    fn check(&self) -> Result<(), ConfigError> {
        self.endpoints.iter().try_for_each(|endpoint| check_endpoint(endpoint))?;
        check_files("ownership.etcd", &self.ca, &self.certificate, &self.key)?;
        for endpoint in &self.endpoints {
            match (endpoint.starts_with("https://"), &self.ca) {
                (true, None) => {
                    return contradiction(format!(
                        "ownership.etcd.endpoints holds {endpoint:?} and ownership.etcd.ca is not set; set it to a file with the CA of the servers"
                    ));
                }
                (false, Some(ca)) => {
                    return contradiction(format!(
                        "ownership.etcd.ca is {ca:?} and ownership.etcd.endpoints holds {endpoint:?}, which has no TLS; use https"
                    ));
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
        Ok(())
    }
}

/// Refuses files of TLS of which some are missing.
fn check_files(
    table: &str,
    ca: &Option<PathBuf>,
    certificate: &Option<PathBuf>,
    key: &Option<PathBuf>,
) -> Result<(), ConfigError> {
    match (ca, certificate, key) {
        (_, Some(certificate), None) => {
            contradiction(format!("{table}.certificate is {certificate:?} and {table}.key is not set; set both"))
        }
        (_, None, Some(key)) => {
            contradiction(format!("{table}.key is {key:?} and {table}.certificate is not set; set both"))
        }
        (None, Some(certificate), Some(_)) => contradiction(format!(
            "{table}.certificate is {certificate:?} and {table}.ca is not set, so there is no TLS; set it, too"
        )),
        (Some(_), Some(_), Some(_)) | (_, None, None) => Ok(()),
    }
}

/// Longest name in PostgreSQL (`NAMEDATALEN` - 1).
const POSTGRES_NAME_BYTES_MAX: usize = 63;

/// Whether it is a host and a port.
fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', ' ', '@']) && port.parse::<u16>().is_ok_and(|port| port != 0)
    })
}

/// Refuses a text that is not the address of an etcd server.
fn check_endpoint(endpoint: &str) -> Result<(), ConfigError> {
    let rest = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    let fits = rest.and_then(|rest| rest.trim_end_matches('/').rsplit_once(':')).is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', ' ']) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if fits {
        return Ok(());
    }
    contradiction(format!(
        "ownership.etcd.endpoints holds {endpoint:?}; use http or https, a host and a port, like \"http://10.0.0.2:2379\""
    ))
}

impl ClusterConfig {
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
        if !(VERSION_MIN..=VERSION_MAX).contains(&self.wire_version_max) {
            let version = self.wire_version_max;
            return contradiction(format!(
                "cluster.wire_version_max is {version}; this release can use {VERSION_MIN} to {VERSION_MAX}"
            ));
        }
        check_metadata("cluster.metadata", &self.metadata)?;
        if let Some(seal) = &self.seal {
            check_seal(seal, &self.metadata)?;
        }
        if self.seeds.len() > SEEDS_MAX {
            let count = self.seeds.len();
            return contradiction(format!("cluster.seeds has {count} entries; use at most {SEEDS_MAX}"));
        }
        self.seeds.iter().try_for_each(|seed| check_seed(seed))
    }
}

/// Refuses metadata that does not fit a datagram or has the key of the wire versions, and a weight
/// that is not a number in range.
pub(crate) fn check_metadata(key: &str, metadata: &Metadata) -> Result<(), ConfigError> {
    let bytes = metadata_bytes(metadata);
    if bytes > METADATA_BYTES_MAX {
        return contradiction(format!("{key} takes {bytes} bytes; use at most {METADATA_BYTES_MAX}"));
    }
    if metadata.contains_key(WIRE_KEY) {
        return contradiction(format!("{key} has the key {WIRE_KEY:?}, which this library uses; choose another one"));
    }
    if let Some(weight) = metadata.get(WEIGHT_KEY)
        && Weight::from_metadata(metadata).is_none()
    {
        return contradiction(format!("{key} has the weight {weight:?}; use a whole number from 0 to {}", Weight::MAX));
    }
    Ok(())
}

/// Refuses keys that are none, by their place: a key is not shown.
fn check_seal(seal: &SealConfig, metadata: &Metadata) -> Result<(), ConfigError> {
    let count = seal.keys.len();
    if count == 0 || count > SEAL_KEYS_MAX {
        return contradiction(format!("cluster.seal.keys has {count} entries; use 1 to {SEAL_KEYS_MAX}"));
    }
    for (place, key) in (1..).zip(&seal.keys) {
        if let Some((source, name)) = key.expose().split_once(':').filter(|_| key.names_source()) {
            if name.is_empty() {
                return contradiction(format!("key {place} of cluster.seal.keys names nothing after \"{source}:\""));
            }
        } else if let Some(fault) = key_fault(key.expose()) {
            return contradiction(format!("key {place} of cluster.seal.keys {fault}, or file:... or env:..."));
        }
        if seal.keys[..place - 1].contains(key) {
            return contradiction(format!("key {place} of cluster.seal.keys is there twice; leave one of them out"));
        }
    }
    let mut with_keys = metadata.clone();
    with_keys.insert(SEAL_KEY.to_owned(), ["0000"; SEAL_KEYS_MAX].join(","));
    check_metadata("cluster.metadata, with the ids of the keys,", &with_keys)?;
    if metadata.contains_key(SEAL_KEY) {
        return contradiction(format!(
            "cluster.metadata has {SEAL_KEY:?}, under which a node publishes its keys; use another name"
        ));
    }
    Ok(())
}

/// What is wrong with the text of a key, and what would be right; never the text.
pub fn key_fault(text: &str) -> Option<String> {
    let digits = text.chars().count();
    if digits == SEAL_KEY_DIGITS && text.chars().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let fault = if digits == SEAL_KEY_DIGITS {
        "has characters that are no hexadecimal digits".to_owned()
    } else {
        format!("has {digits} characters")
    };
    Some(format!("{fault}; use {SEAL_KEY_DIGITS} hexadecimal digits, such as those of `openssl rand -hex 32`"))
}

/// Refuses a seed that is neither an address nor a host name with a port.
pub(super) fn check_seed(seed: &str) -> Result<(), ConfigError> {
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

fn contradiction(text: String) -> Result<(), ConfigError> {
    Err(ConfigError::Contradiction(text))
}

fn show(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}

/// Refuses a number that TOML cannot write: its integers end at 2^63 - 1.
fn writable(name: &str, value: u64) -> Result<(), ConfigError> {
    let most = i64::MAX as u64;
    if value > most {
        return contradiction(format!("{name} {value} is out of range; use at most {most}"));
    }
    Ok(())
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
        check(&metadata, &["cluster.metadata takes 306 bytes; use at most 245"]);
        let wire = cluster("listen = '127.0.0.1:1'\nseeds = []\nmetadata = { wire = '3-4' }");
        check(&wire, &["cluster.metadata has the key \"wire\""]);
        for version in [2, 5] {
            let wire = cluster(&format!("listen = '127.0.0.1:1'\nseeds = []\nwire_version_max = {version}"));
            check(&wire, &[&format!("cluster.wire_version_max is {version}; this release can use 3 to 4")]);
        }
        let weight = cluster("listen = '127.0.0.1:1'\nseeds = []\nmetadata = { weight = '1001' }");
        check(&weight, &["cluster.metadata has the weight \"1001\"; use a whole number from 0 to 1000"]);
    }

    #[test]
    fn bounds_of_requests_that_cannot_work_are_refused() {
        for (text, expected) in [
            ("held_for = '0s'", "requests.held_for 0s is out of range; use 1ms to 1h"),
            ("window = 0", "requests.window 0 is out of range; use 1 to 65536"),
            ("hops_max = 0", "requests.hops_max is 0; use at least 1"),
            ("message_bytes_max = 0", "requests.message_bytes_max 0 is out of range"),
            (
                "held_bytes_max = 1000",
                "requests.held_bytes_max 1000 is less than requests.message_bytes_max 4194304, so the largest",
            ),
            ("on_suspected = 'hold'", "unknown variant `hold`"),
            ("held_bytes_max = -1", "invalid value"),
            // TOML has no such integers: the settings could not be written down again.
            ("held_bytes_max = 18446744073709551615", "requests.held_bytes_max 18446744073709551615 is out of range"),
            ("window_bytes = 9223372036854775808", "use at most 9223372036854775807"),
        ] {
            check(&format!("[requests]\n{text}"), &[expected]);
        }
        check("ownership.copies_bytes_max = 9223372036854775808", &["ownership.copies_bytes_max 9223372036854775808"]);
        let large = "[requests]\nmessage_bytes_max = 16777216\nwindow_bytes = 1";
        assert!(Config::from_toml(large).is_ok(), "it is under way alone");
    }

    #[test]
    fn a_server_that_others_reach_needs_a_token() {
        for (text, expected) in [
            (
                "listen = '0.0.0.0:7180'",
                "http.listen 0.0.0.0:7180 can be reached by other hosts and http.token is not set",
            ),
            ("listen = '[::]:7180'", "set a token of at least 16 bytes"),
            ("listen = '127.0.0.1:7180'\ntoken = 'short'", "http.token has 5 bytes; use at least 16"),
            ("listen = '127.0.0.1:7180'\ntoken = 'sixteen  or more'", "http.token holds a space"),
            ("token = '0123456789abcdef'", "missing field `listen`"),
        ] {
            check(&format!("[http]\n{text}"), &[expected]);
        }
        for text in [
            "listen = '127.0.0.1:7180'",
            "listen = '[::1]:7180'",
            "listen = '[::ffff:127.0.0.1]:7180'",
            "listen = '0.0.0.0:7180'\ntoken = '0123456789abcdef'",
            "listen = '0.0.0.0:7180'\ninsecure = true",
        ] {
            assert!(Config::from_toml(&format!("[http]\n{text}")).is_ok(), "{text}");
        }
        check("[stop]\ndrain = '2h'", &["stop.drain 2h is out of range; use 0s to 1h"]);
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = "[http]\nlisten = '127.0.0.1:0'\ntoken = '0123456789abcdef'
            [ownership.etcd]\nuser = 'node'\npassword = 'correct horse'";
        let config = Config::from_toml(text).unwrap();
        for shown in [format!("{config:?}"), format!("{:?}", config.without_secrets())] {
            assert!(!shown.contains("0123456789abcdef") && !shown.contains("correct horse"), "{shown}");
        }
        let shown = toml::to_string(&config.without_secrets()).unwrap();
        assert!(!shown.contains("0123456789abcdef") && !shown.contains("correct horse"), "{shown}");
        assert_eq!(config.ownership.etcd.password.expose(), "correct horse");
    }

    #[test]
    fn a_key_that_is_none_is_refused_and_not_shown() {
        let table =
            "[cluster]\nname = 'c'\nnode = 'n'\nrole = 'worker'\nmode = 'random'\nlisten = '127.0.0.1:1'\nseeds = []\n";
        let sound = "0123456789abcdef".repeat(4);
        for (seal, expected) in [
            ("keys = []".to_owned(), "cluster.seal.keys has 0 entries; use 1 to 4"),
            (format!("keys = ['{}']", &sound[1..]), "key 1 of cluster.seal.keys has 63 characters; use 64"),
            (
                format!("keys = ['{sound}', '{}g']", &sound[1..]),
                "key 2 of cluster.seal.keys has characters that are no",
            ),
            ("keys = ['file:']".to_owned(), "key 1 of cluster.seal.keys names nothing after \"file:\""),
            ("keys = ['env:A', 'env:A']".to_owned(), "key 2 of cluster.seal.keys is there twice"),
            ("keys = ['env:A']\n[cluster.metadata]\nseal = 'x'".to_owned(), "cluster.metadata has \"seal\""),
        ] {
            let error = Config::from_toml(&format!("{table}[cluster.seal]\n{seal}")).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("456789abcdef"), "{error}");
        }
        let text = format!("{table}[cluster.seal]\nkeys = ['{sound}', 'file:/run/secrets/heartbeat']");
        let config = Config::from_toml(&text).unwrap();
        let shown = toml::to_string(&config.without_secrets()).unwrap();
        assert!(shown.contains("file:/run/secrets/heartbeat") && !shown.contains(&sound), "{shown}");
        assert!(!format!("{config:?}").contains(&sound));
    }

    #[test]
    fn ownership_that_contradicts_itself_is_refused() {
        for (text, expected) in [
            ("authority = 'file'", "ownership.folder is not set"),
            ("authority = 'etcd'", "ownership.etcd.endpoints is empty"),
            (
                "authority = 'etcd'\netcd = { endpoints = ['ftp://a:2379'] }",
                "holds \"ftp://a:2379\"; use http or https,",
            ),
            ("authority = 'etcd'\netcd = { endpoints = ['https://a:2379'] }", "ownership.etcd.ca is not set"),
            ("authority = 'etcd'\netcd = { endpoints = ['http://a:1'], ca = 'c' }", "which has no TLS; use https"),
            (
                "authority = 'etcd'\netcd = { endpoints = ['http://a:1'], certificate = 'c', key = 'k' }",
                "ownership.etcd.ca is not set, so there is no TLS",
            ),
            ("authority = 'etcd'\netcd = { endpoints = ['http://a'] }", "holds \"http://a\""),
            ("authority = 'postgres'", "ownership.postgres.hosts is empty"),
            (
                "authority = 'postgres'\npostgres = { hosts = ['postgres://a'] }",
                "hosts holds \"postgres://a\"; use a host",
            ),
            ("authority = 'postgres'\npostgres = { hosts = ['a:0'] }", "hosts holds \"a:0\""),
            ("authority = 'postgres'\npostgres = { hosts = ['a:1'] }", "ownership.postgres.user is empty"),
            (
                "authority = 'postgres'\npostgres = { hosts = ['a:1'], user = 'u' }",
                "ownership.postgres.database is empty",
            ),
            (
                "authority = 'postgres'\npostgres = { hosts = ['a:1'], user = 'u', database = 'd', schema = '' }",
                "ownership.postgres.schema is empty",
            ),
            (
                "authority = 'postgres'\npostgres = { hosts = ['a:1'], user = 'u', database = 'd', certificate = 'c' }",
                "certificate is \"c\" and ownership.postgres.key is not set",
            ),
            (
                "authority = 'postgres'\npostgres = { hosts = ['a:1'], user = 'u', database = 'd', key = 'k' }",
                "key is \"k\" and ownership.postgres.certificate is not set",
            ),
            (
                "authority = 'postgres'\npostgres = { hosts = ['a:1'], user = 'u', database = 'd', certificate = 'c', key = 'k' }",
                "postgres.ca is not set, so there is no TLS",
            ),
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

    /// Edges: the bound itself is allowed, and one step past it is refused.
    #[test]
    fn each_bound_is_allowed_and_one_past_it_is_not() {
        for (allowed, refused) in [
            ("interval = '1ms'", "interval = '999us'"),
            (
                "interval = '1h'\ntimeout = '2h'\nmembership.redraw = '3h'\ndetector.kind = 'fixed'",
                "interval = '3601s'\ntimeout = '2h'",
            ),
            ("timeout = '1001ms'", "timeout = '1s'"),
            ("stall = '5999ms'", "stall = '6s'"),
            ("workers.arbiters = 1024", "workers.arbiters = 1025"),
            ("workers.leave_timeout = '0s'", "workers.start_timeout = '0s'"),
            ("workers.await_timeout = '1ms'", "workers.await_timeout = '999us'"),
            ("restart.intensity = 4294967295", "restart.intensity = 4294967294"),
            ("restart.delay_max = '100ms'", "restart.delay_max = '99ms'"),
            ("membership.observers = 16", "membership.observers = 17"),
            ("membership.clock_skew_max = '1s'", "membership.clock_skew_max = '999ms'"),
            (
                "ownership.quorum = 'majority'\nownership.lease = '3s'",
                "ownership.quorum = 'majority'\nownership.lease = '3001ms'",
            ),
            (
                "ownership.quorum = 'majority'\nownership.lease = '500ms'",
                "ownership.quorum = 'majority'\nownership.lease = '499ms'",
            ),
            ("ownership.hand_over_timeout = '1h'", "ownership.hand_over_timeout = '3601s'"),
            ("ownership.snapshot_bytes_max = 16777216", "ownership.snapshot_bytes_max = 16777217"),
            ("requests.held_for = '1ms'", "requests.held_for = '0s'"),
            ("requests.held_for = '1h'", "requests.held_for = '3601s'"),
            ("requests.idle_after = '10ms'", "requests.idle_after = '9ms'"),
            ("requests.idle_after = '1d'", "requests.idle_after = '86401s'"),
            ("requests.hops_max = 1", "requests.hops_max = 0"),
            ("entities.idle_after = '10ms'", "entities.idle_after = '9ms'"),
            ("entities.idle_after = '1d'", "entities.idle_after = '86401s'"),
            ("entities.active_max = 1", "entities.active_max = 0"),
            ("requests.window = 1", "requests.window = 0"),
            ("requests.window = 65536", "requests.window = 65537"),
            ("requests.window_bytes = 1", "requests.window_bytes = 0"),
            ("requests.message_bytes_max = 1", "requests.message_bytes_max = 0"),
            (
                "requests.message_bytes_max = 268435456\nrequests.held_bytes_max = 268435456",
                "requests.message_bytes_max = 268435457\nrequests.held_bytes_max = 268435457",
            ),
            ("requests.held_bytes_max = 4194304", "requests.held_bytes_max = 4194303"),
            (
                "requests.held_bytes_max = 0\nrequests.held_max = 0",
                "requests.held_bytes_max = 0\nrequests.held_max = 1",
            ),
            ("requests.on_suspected = 'refuse'", "requests.on_suspected = 'hold'"),
        ] {
            assert!(Config::from_toml(allowed).is_ok(), "{allowed}: {:?}", Config::from_toml(allowed).err());
            assert!(Config::from_toml(refused).is_err(), "{refused}");
        }
    }
}
