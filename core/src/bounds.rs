//! `Bounds`: what the numbers of a config add up to.
//!
//! An interval, a threshold and a pause are what a detector works with; when a crash will be
//! noticed is what its user wants to know. This file does the sum, so that a config can be judged
//! before anything runs.

use std::fmt;
use std::time::Duration;

use crate::config::rate::MistakeRate;
use crate::config::{AuthorityKind, Config, ConfigError, DetectorKind, OwnershipConfig, QuorumRule};
use crate::detection::{Budget, Fixed, Phi};
use crate::wire;

impl Config {
    /// Refuses numbers that contradict each other, and says what the others add up to.
    ///
    /// # Errors
    /// [`ConfigError::Contradiction`] for the first contradiction found.
    pub fn check(&self) -> Result<Bounds, ConfigError> {
        self.refuse_contradictions()?;
        Ok(Bounds::of(self))
    }
}

/// What a config adds up to.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounds {
    /// A node that crashes is suspected at most this long afterwards, on a link as regular as the
    /// interval. With the budget detector this holds while the link is not known yet; suspicion is
    /// faster later.
    pub suspicion: Duration,
    /// A node that crashes is concluded dead at most this long afterwards.
    pub death: Duration,
    /// A worker that blocks its thread is replaced at most this long afterwards, timer granularity
    /// apart.
    pub blocked: Duration,
    /// Size of one heartbeat with IPv4 and UDP headers, where there are as many observers as there
    /// may be.
    pub heartbeat_bytes: usize,
    /// What a node then sends in heartbeats, and in answers to those of others, in bytes a second.
    pub bytes_per_second: f64,
    /// Members that watch a node, at most.
    pub observers: u32,
    /// Longest pause before a restart.
    pub delay_max: Duration,
    /// Restarts allowed, and in which time.
    pub intensity: (u32, Duration),
    /// The promise about a shard's owner, in a cluster.
    pub promise: &'static str,
    /// Where a node falls silent: the time until its shards start on other nodes, at most, apart
    /// from the delay of the network. `None` without a cluster.
    pub moved_after_silence: Option<Duration>,
    /// The same where its process is seen to end; zero means as soon as that is known, which takes
    /// milliseconds.
    pub moved_after_end: Option<Duration>,
    /// How long an orderly end takes at most: `stop.drain`, the hand-over, and the workers' time.
    pub stop: Duration,
    /// What the detector of one link keeps, in bytes at most.
    pub link_bytes: usize,
    /// What becomes of `detector.mistakes` with these settings; `None` for the other detectors.
    pub budget: Option<BudgetBounds>,
    /// What this node may hold for others, in bytes at most: requests that wait, and replicas of
    /// other nodes' snapshots. `None` without a cluster.
    pub held_bytes: Option<u64>,
    /// Settings that are allowed and unwise: each with the value, the consequence, and a value that
    /// would be right.
    pub warnings: Vec<String>,
}

/// What a budget of wrong suspicions adds up to, with `interval` and `timeout`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetBounds {
    /// Wrong suspicions allowed on each link.
    pub mistakes: MistakeRate,
    /// Lost heartbeats in a row that the detector waits for, at most: it does not wait past
    /// `timeout`.
    pub losses_max: u32,
    /// The largest share of heartbeats that may be lost, each by itself, so that the budget can be
    /// kept. Above it, and where losses come in longer bursts, there are more suspicions
    /// ([`Event::BudgetExceeded`](crate::Event::BudgetExceeded)).
    pub loss_max: f64,
    /// For how long heartbeats have to arrive until so rare a silence is known. Before that the
    /// detector guesses, and suspects later.
    pub known_after: Duration,
}

impl BudgetBounds {
    fn of(config: &Config) -> Option<BudgetBounds> {
        match config.detector.kind {
            DetectorKind::Budget => {
                let (mistakes, interval) = (config.detector.mistakes, config.interval);
                let losses_max = Budget::losses_max(interval, config.timeout);
                Some(BudgetBounds {
                    mistakes,
                    losses_max,
                    loss_max: mistakes.per_heartbeat(interval).powf(1.0 / (f64::from(losses_max) + 1.0)),
                    known_after: Duration::from_secs_f64(1_800.0 / mistakes.per_hour()),
                })
            }
            DetectorKind::Fixed | DetectorKind::Chen | DetectorKind::Phi => None,
        }
    }

    /// What is unwise about it.
    fn warnings(&self, config: &Config) -> Vec<String> {
        let BudgetBounds { mistakes, losses_max, loss_max, known_after } = *self;
        let mut warnings = Vec::new();
        if loss_max < LOSS_USUAL {
            let (interval, timeout) = (config.interval, show(config.timeout));
            let share = mistakes.per_heartbeat(interval);
            let losses = (share.ln() / LOSS_USUAL.ln()).ceil() as u32 - 1;
            let right = show(whole_millis(Budget::timeout_for(losses, interval)));
            let kept = LOSS_USUAL.powf(f64::from(losses_max) + 1.0) * 3_600.0 / interval.as_secs_f64();
            warnings.push(format!(
                "detector.mistakes {} cannot be kept with timeout {timeout} where one heartbeat in a hundred is lost: it leaves time for {losses_max} lost in a row, and there would be {}; use a timeout of at least {right}, or that rate",
                per(mistakes.per_hour()),
                per(kept)
            ));
        }
        if known_after > KNOWN_AFTER_USUAL {
            warnings.push(format!(
                "detector.mistakes {} is so rare that it takes {} of heartbeats to know such a silence: until then a node is suspected late, or wrongly; use at least 1/week",
                per(mistakes.per_hour()),
                long(known_after)
            ));
        }
        warnings
    }
}

/// A loss that a budget should bear: one heartbeat in a hundred, as on a network that is busy.
const LOSS_USUAL: f64 = 0.01;

/// A budget should be known within half a week.
const KNOWN_AFTER_USUAL: Duration = Duration::from_secs(84 * 3_600);

impl Bounds {
    fn of(config: &Config) -> Bounds {
        let detector = &config.detector;
        let suspicion = match detector.kind {
            DetectorKind::Fixed => detector.suspect_after,
            DetectorKind::Chen => config.interval + detector.margin,
            DetectorKind::Budget => Budget::first_silence(config.interval),
            DetectorKind::Phi => Phi::regular_silence(detector, config.interval),
        };
        let observers = config.membership.observers as usize;
        let heartbeat_bytes = wire::HEARTBEAT_BYTES_TYPICAL + 4 * observers + wire::HEADERS_BYTES;
        let bytes = observers * heartbeat_bytes + wire::ACK_BYTES_TYPICAL + wire::HEADERS_BYTES;
        let is_clustered = config.cluster.is_some();
        let budget = BudgetBounds::of(config);
        let mut warnings = warnings(config);
        warnings.extend(budget.iter().flat_map(|budget| budget.warnings(config)));
        let held_bytes = (config.requests.held_bytes_max as u64).saturating_add(config.ownership.copies_bytes_max);
        Bounds {
            suspicion: suspicion.min(config.timeout),
            death: config.timeout,
            blocked: config.workers.timeout + config.workers.interval,
            heartbeat_bytes,
            bytes_per_second: bytes as f64 / config.interval.as_secs_f64(),
            observers: config.membership.observers,
            delay_max: config.restart.delay_max,
            intensity: (config.restart.intensity, config.restart.period),
            promise: config.ownership.promise(),
            moved_after_silence: is_clustered.then(|| moved_after_silence(&config.ownership, config.timeout)),
            moved_after_end: is_clustered.then(|| moved_after_end(&config.ownership, config)),
            stop: config.stop.drain + config.ownership.hand_over_timeout + config.workers.leave_timeout,
            link_bytes: link_bytes(config),
            budget,
            held_bytes: is_clustered.then_some(held_bytes),
            warnings,
        }
    }
}

/// How long the shards of a node wait that has fallen silent.
fn moved_after_silence(ownership: &OwnershipConfig, timeout: Duration) -> Duration {
    match (ownership.authority, ownership.quorum) {
        (AuthorityKind::View, QuorumRule::None) => timeout,
        (AuthorityKind::View, QuorumRule::Majority) => timeout + ownership.lease,
        (AuthorityKind::File | AuthorityKind::Etcd | AuthorityKind::Postgres, _) => timeout.max(ownership.session_ttl),
    }
}

/// How long the shards of a node wait whose process has ended. Without lifelines that is a silence
/// like any other.
fn moved_after_end(ownership: &OwnershipConfig, config: &Config) -> Duration {
    if !config.membership.lifelines {
        return moved_after_silence(ownership, config.timeout);
    }
    match (ownership.authority, ownership.quorum) {
        (AuthorityKind::View, QuorumRule::None) | (AuthorityKind::File, _) => Duration::ZERO,
        (AuthorityKind::View, QuorumRule::Majority) => ownership.lease,
        (AuthorityKind::Etcd | AuthorityKind::Postgres, _) if ownership.fenced => Duration::ZERO,
        (AuthorityKind::Etcd | AuthorityKind::Postgres, _) => ownership.session_ttl,
    }
}

/// What a detector keeps of one link, as the table in the book's chapter on detectors has it.
fn link_bytes(config: &Config) -> usize {
    match config.detector.kind {
        DetectorKind::Budget => Budget::LINK_BYTES_MAX,
        DetectorKind::Fixed => size_of::<Fixed>(),
        DetectorKind::Chen | DetectorKind::Phi => 8 * config.detector.window as usize,
    }
}

/// Settings that are allowed but unwise.
fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let (leave, shutdown) = (config.workers.leave_timeout, config.workers.shutdown_timeout);
    if leave < shutdown {
        let (leave, shutdown) = (show(leave), show(shutdown));
        warnings.push(format!(
            "workers.leave_timeout {leave} is shorter than workers.shutdown_timeout {shutdown}: a node that leaves cuts its workers off before their time; use at least {shutdown}"
        ));
    }
    for (key, timeout) in [("timeout", config.timeout), ("workers.timeout", config.workers.timeout)] {
        if config.stall > timeout / 2 {
            let (stall, timeout, right) = (show(config.stall), show(timeout), show(timeout / 4));
            warnings.push(format!(
                "stall {stall} is longer than half of {key} {timeout}: a pause of this process may be taken for the silence of others; use at most {right}"
            ));
        }
    }
    let ttl = config.ownership.session_ttl;
    if config.ownership.authority == AuthorityKind::Etcd && ttl < ETCD_TTL_MIN {
        let (ttl, least) = (show(ttl), show(ETCD_TTL_MIN));
        warnings.push(format!(
            "ownership.session_ttl {ttl} is shorter than an election of etcd's leader may take, so shards may stop for it; use at least {least}"
        ));
    }
    warnings
}

/// A session at etcd has to outlast the election of a leader there.
const ETCD_TTL_MIN: Duration = Duration::from_secs(5);

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |duration: Duration| show(Duration::from_millis(duration.as_millis() as u64));
        writeln!(f, "a node that crashes is suspected within {}", millis(self.suspicion))?;
        writeln!(f, "  and concluded dead within {}", millis(self.death))?;
        if let Some(BudgetBounds { mistakes, losses_max, loss_max, known_after }) = self.budget {
            let known_after = long(known_after);
            writeln!(
                f,
                "  and wrongly suspected {} by each observer, once {known_after} of heartbeats are known",
                per(mistakes.per_hour())
            )?;
            let percent = rounded(loss_max * 100.0);
            writeln!(
                f,
                "    if up to {percent} % of heartbeats are lost, and {losses_max} in a row: no more fit into timeout"
            )?;
        }
        writeln!(f, "a worker that blocks its thread is replaced within {}", millis(self.blocked))?;
        writeln!(f, "a worker that panics is restarted at once, later ones after at most {}", millis(self.delay_max))?;
        let (restarts, period) = self.intensity;
        writeln!(f, "  and given up after more than {restarts} restarts in {}", millis(period))?;
        writeln!(f, "shards: {}", self.promise)?;
        if let (Some(silence), Some(end)) = (self.moved_after_silence, self.moved_after_end) {
            let end = if end.is_zero() { "in milliseconds".to_owned() } else { format!("within {}", millis(end)) };
            writeln!(
                f,
                "  they start elsewhere {end} if their process ends, and within {} if their host falls silent",
                millis(silence)
            )?;
        }
        writeln!(
            f,
            "an orderly end takes at most {}: give the process manager more time than that",
            millis(self.stop)
        )?;
        for warning in &self.warnings {
            writeln!(f, "unwise: {warning}")?;
        }
        write!(
            f,
            "a heartbeat is {} bytes with headers: {:.0} bytes a second to {} observers, with answers to those of others",
            self.heartbeat_bytes, self.bytes_per_second, self.observers
        )?;
        write!(f, "\n  the detector keeps at most {} bytes for each node watched", self.link_bytes)?;
        match self.held_bytes {
            Some(bytes) => write!(
                f,
                "\n  this node holds at most {} MiB for others: requests that wait, and replicas",
                bytes.div_ceil(1 << 20)
            ),
            None => Ok(()),
        }
    }
}

/// A rate an hour as people say it: in the shortest unit in which it is one at least.
fn per(per_hour: f64) -> String {
    let units = [(1.0 / 60.0, "min"), (1.0, "h"), (24.0, "day"), (168.0, "week")];
    let fits = |(hours, _): &&(f64, &str)| per_hour * hours >= 0.999;
    let (hours, unit) = units.iter().find(fits).unwrap_or(&units[3]);
    format!("{}/{unit}", rounded(per_hour * hours))
}

/// A number with two digits that count.
fn rounded(value: f64) -> f64 {
    let scale = 10f64.powf(1.0 - value.abs().max(1e-9).log10().floor());
    if scale < 1.0 { value.round() } else { (value * scale).round() / scale }
}

/// A time in days, if it is longer than two.
fn long(duration: Duration) -> String {
    let days = duration.as_secs_f64() / 86_400.0;
    if days > 2.0 { format!("{days:.0} days") } else { show(whole_millis(duration)).to_string() }
}

/// Rounded up to a whole millisecond.
fn whole_millis(duration: Duration) -> Duration {
    Duration::from_millis(duration.as_nanos().div_ceil(1_000_000) as u64)
}

fn show(duration: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sums_follow_from_the_numbers() {
        let sums = Config::from_toml("[detector]\nkind = 'fixed'").unwrap().check().unwrap();
        assert_eq!(sums.suspicion, Duration::from_secs(3));
        assert_eq!(sums.death, Duration::from_secs(6));
        assert_eq!(sums.blocked, Duration::from_millis(5_500));
        assert!(sums.to_string().contains("concluded dead within 6s"));
    }

    #[test]
    fn what_is_allowed_and_unwise_is_named_with_its_value() {
        let etcd = "authority = 'etcd'\netcd = { endpoints = ['http://127.0.0.1:1'] }";
        for (text, expected) in [
            ("[workers]\nleave_timeout = '2s'", "workers.leave_timeout 2s is shorter than workers.shutdown_timeout 5s"),
            ("stall = '4s'", "stall 4s is longer than half of timeout 6s"),
            ("[workers]\ntimeout = '499ms'\ninterval = '100ms'", "stall 250ms is longer than half of workers.timeout"),
            (
                &format!("[ownership]\nsession_ttl = '4s'\n{etcd}"),
                "ownership.session_ttl 4s is shorter than an election",
            ),
        ] {
            let sums = Config::from_toml(text).unwrap().check().unwrap();
            assert!(sums.warnings.iter().any(|warning| warning.contains(expected)), "{:?}", sums.warnings);
            assert!(sums.to_string().contains(expected));
        }
        assert_eq!(Config::default().check().unwrap().warnings, [] as [&str; 0]);
    }

    #[test]
    fn a_budget_that_no_timeout_allows_is_named_with_what_is_kept() {
        let of = |text: &str| Config::from_toml(text).unwrap().check().unwrap();
        let sums = of("timeout = '1500ms'\nstall = '100ms'\n[detector]\nmistakes = '1/h'");
        // Half an interval is left: a lost heartbeat is a mistake, and one in a hundred of 3,600 is
        // lost. With 100 / 36 / 36 of them no more than one in a hundred twice in a row may be.
        let [warning] = &sums.warnings[..] else { panic!("{:?}", sums.warnings) };
        let named =
            "detector.mistakes 1/h cannot be kept with timeout 1s 500ms where one heartbeat in a hundred is lost";
        assert!(warning.starts_with(named), "{warning}");
        assert!(warning.contains("time for 0 lost in a row, and there would be 36/h"), "{warning}");
        assert!(warning.ends_with("use a timeout of at least 2s 112ms, or that rate"), "{warning}");
        // What is proposed is right.
        for text in ["timeout = '2112ms'", "timeout = '1500ms'\nstall = '100ms'\n[detector]\nmistakes = '36/h'"] {
            assert_eq!(of(text).warnings, [] as [&str; 0], "{text}");
        }
        let sums = of("[detector]\nmistakes = '0.1/week'");
        assert!(sums.warnings[0].contains("detector.mistakes 0.1/week is so rare that it takes 35 days"), "{sums}");
        assert_eq!(of("[detector]\nmistakes = '1/week'").warnings, [] as [&str; 0]);
        assert_eq!(of("timeout = '1500ms'\nstall = '100ms'\n[detector]\nkind = 'chen'\nmargin = '1s'").budget, None);
    }

    #[test]
    fn a_budget_says_up_to_which_loss_it_is_kept() {
        let sums = Config::default().check().unwrap();
        let budget = sums.budget.unwrap();
        // Four lost heartbeats fit into nine tenths of five seconds: the fifth root of 1 / 3,600.
        assert_eq!((budget.losses_max, budget.known_after), (4, Duration::from_secs(1_800)));
        assert!((budget.loss_max - 0.194).abs() < 0.001, "{budget:?}");
        assert!(sums.to_string().contains("up to 19 % of heartbeats are lost, and 4 in a row"), "{sums}");
    }

    #[test]
    fn rates_are_given_in_the_unit_that_people_would_choose() {
        for (per_hour, expected) in [
            (3_600.0, "60/min"),
            (1.0, "1/h"),
            (0.25, "6/day"),
            (1.0 / 24.0, "1/day"),
            (1.0 / 168.0, "1/week"),
            (1e-4, "0.017/week"),
        ] {
            assert_eq!(per(per_hour), expected);
        }
        assert_eq!([rounded(123.4), rounded(0.01234), rounded(19.4), rounded(0.0)], [123.0, 0.012, 19.0, 0.0]);
    }

    /// An interval of a day is no interval; one of an hour asks for a budget that it can know.
    #[test]
    fn intervals_of_a_day_get_a_clear_answer() {
        let of = |text: &str| Config::from_toml(text).and_then(|config| config.check()).map(|sums| sums.to_string());
        let day = of("interval = '1d'\ntimeout = '3d'").unwrap_err().to_string();
        assert!(day.contains("interval 1day is out of range; use 1ms to 1h"), "{day}");
        let hour = "interval = '1h'\ntimeout = '6h'\nmembership.redraw = '1d'\nmembership.forget_after = '1d'";
        let refused = of(hour).unwrap_err().to_string();
        assert!(
            refused.contains("detector.mistakes 1/h is more than one in ten heartbeats at interval 1h"),
            "{refused}"
        );
        assert!(refused.contains("use at most 0.1/h"), "{refused}");
        let kept = of(&format!("detector.mistakes = '1/day'\n{hour}")).unwrap();
        assert!(kept.contains("wrongly suspected 1/day by each observer, once 12h of heartbeats are known"), "{kept}");
    }

    #[test]
    fn shards_of_a_lost_node_wait_for_what_makes_the_move_safe() {
        let cluster =
            "[cluster]\nname = 'c'\nnode = 'n'\nrole = 'worker'\nmode = 'random'\nlisten = '127.0.0.1:1'\nseeds = []";
        let etcd = "authority = 'etcd'\netcd = { endpoints = ['http://127.0.0.1:1'] }";
        for (more, silence, end) in [
            (String::new(), 6, 0),
            ("[membership]\nlifelines = false".to_owned(), 6, 6),
            ("[ownership]\nquorum = 'majority'".to_owned(), 8, 2),
            ("[ownership]\nauthority = 'file'\nfolder = 'x'".to_owned(), 10, 0),
            (format!("[ownership]\n{etcd}"), 10, 10),
            (format!("timeout = '20s'\n[ownership]\nfenced = true\n{etcd}"), 20, 0),
        ] {
            let sums = Config::from_toml(&format!("{more}\n{cluster}")).unwrap().check().unwrap();
            assert_eq!(sums.moved_after_silence, Some(Duration::from_secs(silence)), "{more}");
            assert_eq!(sums.moved_after_end, Some(Duration::from_secs(end)), "{more}");
            assert!(sums.to_string().contains(&format!("within {silence}s if their host falls silent")), "{sums}");
        }
        let alone = Config::default().check().unwrap();
        assert_eq!((alone.moved_after_silence, alone.held_bytes), (None, None));
        assert!(!alone.to_string().contains("elsewhere"), "{alone}");
    }

    #[test]
    fn an_orderly_end_takes_the_sum_of_its_parts() {
        let sums = Config::from_toml("[stop]\ndrain = '5s'").unwrap().check().unwrap();
        assert_eq!(sums.stop, Duration::from_secs(5 + 2 + 25));
        let sums = Config::from_toml("[detector]\nkind = 'chen'\nwindow = 100").unwrap().check().unwrap();
        assert_eq!(sums.link_bytes, 800);
    }

    #[test]
    fn with_a_budget_an_unknown_link_is_given_three_intervals() {
        assert_eq!(Config::default().check().unwrap().suspicion, Duration::from_secs(4));
    }

    #[test]
    fn phi_on_a_regular_link_waits_mean_pause_and_five_floors() {
        // y at phi 8 is about 5.2 for Akka's approximation: 1 s + 1.5 s + 5.2 * 0.1 s.
        let sums = Config::from_toml("[detector]\nkind = 'phi'").unwrap().check().unwrap();
        assert!((sums.suspicion.as_secs_f64() - 3.02).abs() < 0.05, "{:?}", sums.suspicion);
    }
}
