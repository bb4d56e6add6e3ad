//! Links: made-up heartbeat traces of kinds of networks and machines, from a seed.
//!
//! Real networks are better judges, and [`heartbeat_core::Trace`] reads their recordings. These are
//! for what recordings cannot give: as many hours as one likes, on other seeds than those a
//! detector was tuned on, with the truth known.

use std::time::Duration;

use heartbeat_core::detection::Pause;
use heartbeat_core::detection::trace::Beat;
use heartbeat_core::{Instant, Random, Trace};

/// The kinds of links.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Link {
    /// A local network: hardly any loss, a hiccup of milliseconds now and then.
    Lan,
    /// Far away: 135 ms, correlated heavy-tailed delay; bursts of loss with a heavy tail, clustered
    /// over half hours.
    Wan,
    /// A shared host: load that comes and goes over hours, and a sender that pauses for half a
    /// second to five.
    Cloud,
    /// The same, but it is the receiver that pauses.
    CloudLocal,
    /// Regimes of 1, 10 and 30 % loss in short bursts, and outages of seconds.
    Mobile,
    /// A clock 100 ppm slow, and an interval that changes between 100 and 400 ms every two hours.
    Drift,
    /// Loss by a chain of two states, good and bad, that lasts minutes.
    Gilbert,
    /// A sender whose pauses come in clusters: one brings on others.
    Clusters,
    /// Wireless: every minute the receiver looks for other networks, and everything waits for a
    /// third of a second.
    Wifi,
}

/// The six kinds that the goals are stated for, in the order of their table.
pub const STATED: [Link; 6] = [Link::Lan, Link::Wan, Link::Cloud, Link::CloudLocal, Link::Mobile, Link::Drift];

/// Three kinds that no detector here was tuned on.
pub const OTHERS: [Link; 3] = [Link::Gilbert, Link::Clusters, Link::Wifi];

const MS: f64 = 1e6;
const SECOND: f64 = 1e9;
const HOUR: f64 = 3.6e12;

impl Link {
    /// Its name, as the tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Link::Lan => "lan",
            Link::Wan => "wan",
            Link::Cloud => "cloud",
            Link::CloudLocal => "cloudlocal",
            Link::Mobile => "mobile",
            Link::Drift => "drift",
            Link::Gilbert => "gilbert",
            Link::Clusters => "clusters",
            Link::Wifi => "wifi",
        }
    }

    /// A trace of this kind, `hours` long.
    pub fn trace(self, seed: u64, hours: f64) -> Trace {
        let mut weather = Weather::new(self, seed);
        let mut trace = Trace::default();
        let mut due = 0.0;
        let mut slot = 0;
        let mut announced = 0.0;
        while due < hours * HOUR {
            let interval = self.interval(due);
            if interval != announced {
                trace.intervals.push((slot, Duration::from_nanos(interval as u64)));
                announced = interval;
            }
            let (sent, arrived) = weather.heartbeat(due);
            let sent = Instant::from_nanos(sent as u64);
            trace.beats.push(Beat { slot, sent, arrived: arrived.map(|at| Instant::from_nanos(at as u64)) });
            due += interval * if self == Link::Drift { 1.0001 } else { 1.0 };
            slot += 1;
        }
        weather.stall(&mut trace, due);
        trace
    }

    fn interval(self, now: f64) -> f64 {
        match self {
            Link::Wan => 103.501 * MS,
            Link::Drift if (now / (2.0 * HOUR)) as u64 % 2 == 1 => 400.0 * MS,
            _ => 100.0 * MS,
        }
    }
}

/// What goes on at a link.
struct Weather {
    link: Link,
    random: Random,
    /// Delay that comes and goes slowly, in nanoseconds.
    swell: f64,
    /// The state that loss or load is in, and until when.
    regime: f64,
    regime_until: f64,
    /// Heartbeats still to be lost in this burst.
    losing: u64,
    /// The next pause of the sender, and its end.
    pause: (f64, f64),
    /// The next outage, and its end.
    outage: (f64, f64),
    /// Of pauses that bring on others: how many more an hour there are now.
    excitement: f64,
    newest: f64,
}

impl Weather {
    fn new(link: Link, seed: u64) -> Weather {
        let mut weather = Weather {
            link,
            random: Random::seeded(seed.wrapping_mul(0x9e37_79b9).wrapping_add(link as u64)),
            swell: 0.0,
            regime: 0.0,
            regime_until: 0.0,
            losing: 0,
            pause: (f64::INFINITY, f64::INFINITY),
            outage: (f64::INFINITY, f64::INFINITY),
            excitement: 0.0,
            newest: 0.0,
        };
        weather.pause = weather.next_pause(0.0);
        if link == Link::Mobile {
            weather.outage = weather.next_outage(0.0);
        }
        weather
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.random.unit()).ln()
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.random.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.random.unit()).cos()
    }

    fn pareto(&mut self, least: f64, most: f64, shape: f64) -> f64 {
        let tail = (least / most).powf(shape);
        least / (1.0 - self.random.unit() * (1.0 - tail)).powf(1.0 / shape)
    }

    /// Pauses of the sender in an hour.
    fn pauses_per_hour(&self) -> f64 {
        match self.link {
            Link::Cloud => 7.5,
            Link::CloudLocal => 1.0,
            Link::Clusters => 0.7 + self.excitement,
            _ => 0.0,
        }
    }

    fn next_pause(&mut self, now: f64) -> (f64, f64) {
        let rate = self.pauses_per_hour();
        if rate == 0.0 {
            return (f64::INFINITY, f64::INFINITY);
        }
        let from = now + self.exponential(HOUR / rate);
        (from, from + self.pareto(0.5 * SECOND, 5.0 * SECOND, 1.5))
    }

    fn next_outage(&mut self, now: f64) -> (f64, f64) {
        let from = now + self.exponential(2.0 * HOUR);
        (from, from + SECOND + 9.0 * SECOND * self.random.unit())
    }

    /// When the heartbeat due at `due` is sent, and when it arrives.
    fn heartbeat(&mut self, due: f64) -> (f64, Option<f64>) {
        if due >= self.regime_until {
            self.change(due);
        }
        let mut sent = due + (self.normal().abs() * 0.1 * MS).min(2.0 * MS);
        if due >= self.pause.0 {
            if due < self.pause.1 - 100.0 * MS {
                return (due, None); // Slept through.
            }
            sent = sent.max(self.pause.1);
            if due >= self.pause.1 {
                self.excitement = if self.random.chance(0.6) { 40.0 } else { 0.0 };
                self.pause = self.next_pause(due);
            }
        }
        let sent = sent.max(self.newest);
        self.newest = sent;
        if sent >= self.outage.1 {
            self.outage = self.next_outage(sent);
        }
        if self.is_lost() || sent >= self.outage.0 {
            return (sent, None);
        }
        (sent, Some(sent + self.delay(due)))
    }

    /// Another regime of loss or load.
    fn change(&mut self, now: f64) {
        (self.regime, self.regime_until) = match self.link {
            Link::Wan => ((1.6 * self.normal() - 1.28).exp(), now + HOUR / 2.0),
            Link::Mobile => ([0.01, 0.1, 0.3][self.random.below(3) as usize], now + self.exponential(HOUR / 2.0)),
            Link::Gilbert => {
                let bad = self.regime == 0.0 || self.regime < 0.1;
                let loss = if bad { 0.1 + 0.4 * self.random.unit() } else { 0.0005 };
                (loss, now + self.exponential(if bad { HOUR / 30.0 } else { HOUR / 3.0 }))
            }
            Link::Lan | Link::Cloud | Link::CloudLocal | Link::Drift | Link::Clusters | Link::Wifi => {
                (0.0, f64::INFINITY)
            }
        };
    }

    fn is_lost(&mut self) -> bool {
        if self.losing > 0 {
            self.losing -= 1;
            return true;
        }
        let (chance, continues) = match self.link {
            Link::Lan => (2e-6, 0.0),
            Link::Wan => {
                if !self.random.chance(1.4e-4 * self.regime) {
                    return false;
                }
                self.losing = self.pareto(1.0, 1_101.0, 0.55) as u64 - 1;
                return true;
            }
            Link::Cloud | Link::CloudLocal | Link::Clusters | Link::Wifi => (1e-4, 0.2),
            Link::Mobile => match self.regime {
                regime if regime < 0.05 => (regime / 1.2, 1.0 - 1.0 / 1.2),
                regime if regime < 0.2 => (regime / 1.5, 1.0 - 1.0 / 1.5),
                regime => (regime / 2.0 / (1.0 - regime / 2.0), 0.5),
            },
            Link::Drift => (0.001, 0.0),
            Link::Gilbert => (self.regime * 0.7, 0.3),
        };
        if !self.random.chance(chance) {
            return false;
        }
        while self.random.chance(continues) {
            self.losing += 1;
        }
        true
    }

    fn delay(&mut self, now: f64) -> f64 {
        match self.link {
            Link::Lan => {
                let hiccup = if self.random.chance(1e-5) { (5.0 + 35.0 * self.random.unit()) * MS } else { 0.0 };
                0.14 * MS * (0.6 * self.normal()).exp() + hiccup
            }
            Link::Wan => {
                self.swell *= 0.7;
                if self.random.chance(0.02) {
                    self.swell += self.pareto(8.0 * MS, 400.0 * MS, 1.8);
                }
                135.0 * MS + 2.0 * MS * self.normal().abs() + self.swell
            }
            Link::Cloud | Link::CloudLocal | Link::Clusters => {
                let load = 10f64.powf(0.5 - 0.5 * (std::f64::consts::TAU * now / (3.0 * HOUR)).cos());
                let steal = if self.random.chance(1e-4 * load) { self.exponential(15.0 * MS) } else { 0.0 };
                0.3 * MS + self.exponential(0.1 * MS * load) + steal
            }
            Link::Mobile => {
                self.swell = 0.9 * self.swell + 12.0 * MS * self.normal();
                (85.0 * MS + self.swell + self.exponential(15.0 * MS)).max(30.0 * MS)
            }
            Link::Drift => 0.5 * MS + self.exponential(0.5 * MS),
            Link::Gilbert => 20.0 * MS + self.exponential(2.0 * MS),
            Link::Wifi => {
                let scan = 60.0 * SECOND - now % (60.0 * SECOND);
                let wait = if scan < 330.0 * MS { scan } else { 0.0 };
                2.0 * MS + self.exponential(1.5 * MS) + wait
            }
        }
    }

    /// Lets the receiver pause, if this link's does: what arrives meanwhile is seen at the end.
    fn stall(&mut self, trace: &mut Trace, end: f64) {
        if self.link != Link::CloudLocal {
            return;
        }
        let mut now = 0.0;
        loop {
            let from = now + self.exponential(HOUR / 7.5);
            now = from + self.pareto(0.5 * SECOND, 5.0 * SECOND, 1.5);
            if now > end {
                break;
            }
            trace.stalls.push(Pause { from: Instant::from_nanos(from as u64), to: Instant::from_nanos(now as u64) });
        }
        let mut stalls = trace.stalls.iter().copied().peekable();
        for beat in &mut trace.beats {
            let Some(at) = beat.arrived else { continue };
            while stalls.peek().is_some_and(|stall| stall.to < beat.sent) {
                stalls.next();
            }
            let _kept = stalls.peek().filter(|stall| at > stall.from && at <= stall.to).map(|stall| {
                beat.arrived = Some(stall.to + Duration::from_micros(2));
            });
        }
    }
}
