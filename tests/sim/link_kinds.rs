//! `Kind`: made-up links of many kinds, each put together from a sender, a path and a receiver.
//!
//! [`crate::links`] has the kinds that the literature uses. These are the kinds that broke a
//! detector elsewhere: queues that fill, clocks that are stepped, machines that are suspended,
//! senders that sleep between heartbeats, gaps at handovers, and many more. Each seed also draws
//! the figures of its link anew, within a factor of two. So a detector that fits one link of a kind
//! has not been fitted to the kind.

use std::f64::consts::TAU;
use std::time::Duration;

use heartbeat_core::detection::trace::Beat;
use heartbeat_core::{Instant, Random, Trace};

const MS: f64 = 1e6;
const SECOND: f64 = 1e9;
const HOUR: f64 = 3.6e12;

/// Something that happens at random: so many an hour, each as long as a Pareto distribution says.
#[derive(Clone, Copy, Debug)]
struct Spell {
    per_hour: f64,
    /// Shortest and longest, in milliseconds.
    least: f64,
    most: f64,
    /// Exponent of the Pareto distribution.
    shape: f64,
}

const NEVER: Spell = Spell { per_hour: 0.0, least: 0.0, most: 0.0, shape: 1.0 };

/// A spell of this many an hour, of this many milliseconds.
const fn spell(per_hour: f64, least: f64, most: f64, shape: f64) -> Spell {
    Spell { per_hour, least, most, shape }
}

/// What a link is made of. Times in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Model {
    interval: f64,
    /// By how much the sender's clock is slow, in parts per million.
    slow_ppm: f64,
    /// The schedule slips by the length of the spell: the clock stood still, and slots go on.
    slips: Spell,
    /// A clock that is corrected: hours between two steps, and their size, forward or back.
    steps: (f64, f64),
    /// The sender sleeps an interval after each heartbeat, whose work takes this long on average.
    sleeper: f64,
    /// The pace of the schedule wanders by this share.
    wander: f64,
    /// The sender is held; heartbeats due meanwhile are sent at the end, or slept through.
    holds: Spell,
    sleeps_through: bool,
    /// At each multiple of the first, the sender is held for up to the second.
    periodic: (f64, f64),
    /// Delay: least, mean above it, chance and longest of a heavy tail, and a slow swell.
    delay: (f64, f64),
    heavy: (f64, f64),
    swell: f64,
    /// A queue fills while a spell lasts, to this delay, and drains as fast.
    queue: Spell,
    queue_peak: f64,
    /// Nothing comes through; afterwards the path has another delay, by up to this much.
    gaps: Spell,
    path_change: f64,
    /// Chance of a loss, and that it goes on.
    loss: (f64, f64),
    /// While a spell lasts, this share is lost, and the sender is held again and again for up to so
    /// long.
    storms: Spell,
    storm_loss: f64,
    storm_hold: f64,
    /// Chance to be held on the way by this long on average, so that later ones overtake.
    overtaken: (f64, f64),
    /// Arrivals wait for the next multiple of this.
    batch: f64,
    /// The receiver takes nothing in.
    stalls: Spell,
    /// By how much more happens at the worst hour of a day than on average, as a share.
    daily: f64,
    /// Hours in which all that happens doubles in frequency; infinite if it stays.
    doubles: f64,
}

const QUIET: Model = Model {
    interval: 100.0,
    slow_ppm: 10.0,
    slips: NEVER,
    steps: (0.0, 0.0),
    sleeper: 0.0,
    wander: 0.0,
    holds: NEVER,
    sleeps_through: false,
    periodic: (0.0, 0.0),
    delay: (0.5, 0.3),
    heavy: (0.0, 0.0),
    swell: 0.0,
    queue: NEVER,
    queue_peak: 0.0,
    gaps: NEVER,
    path_change: 0.0,
    loss: (1e-6, 0.0),
    storms: NEVER,
    storm_loss: 0.0,
    storm_hold: 0.0,
    overtaken: (0.0, 0.0),
    batch: 0.0,
    stalls: NEVER,
    daily: 0.0,
    doubles: f64::INFINITY,
};

/// A kind of link.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name, as tables show it.
    pub name: &'static str,
    model: Model,
}

const fn kind(name: &'static str, model: Model) -> Kind {
    Kind { name, model }
}

/// All kinds.
pub const KINDS: [Kind; 28] = [
    kind("quiet", Model { interval: 1_000.0, holds: spell(0.3, 20.0, 400.0, 1.2), ..QUIET }),
    kind(
        "bufferbloat",
        Model {
            delay: (20.0, 4.0),
            queue: spell(6.0, 1_500.0, 9_000.0, 1.0),
            queue_peak: 1_600.0,
            loss: (5e-4, 0.3),
            ..QUIET
        },
    ),
    kind("clock-steps", Model { slow_ppm: 200.0, steps: (1.5, 900.0), delay: (2.0, 1.0), ..QUIET }),
    kind("suspended", Model { slips: spell(0.6, 1_400.0, 4_000.0, 1.0), delay: (1.0, 0.5), ..QUIET }),
    kind("suspended-1s", Model { interval: 1_000.0, slips: spell(0.4, 1_400.0, 8_000.0, 1.0), ..QUIET }),
    kind(
        "sleeper",
        Model { sleeper: 4.0, delay: (15.0, 5.0), holds: spell(1.0, 100.0, 1_500.0, 1.2), loss: (1e-4, 0.1), ..QUIET },
    ),
    kind("wander", Model { wander: 0.1, delay: (5.0, 2.0), holds: spell(0.7, 100.0, 1_000.0, 1.5), ..QUIET }),
    kind(
        "handover",
        Model {
            delay: (30.0, 8.0),
            swell: 3.0,
            gaps: spell(12.0, 150.0, 4_000.0, 1.3),
            path_change: 15.0,
            loss: (1e-3, 0.2),
            ..QUIET
        },
    ),
    kind(
        "brownout",
        Model { storms: spell(0.15, 5_000.0, 40_000.0, 1.0), storm_hold: 1_500.0, delay: (1.0, 0.5), ..QUIET },
    ),
    kind("overtaken", Model { delay: (40.0, 10.0), overtaken: (0.03, 90.0), loss: (2e-4, 0.3), ..QUIET }),
    kind(
        "degrading",
        Model { delay: (10.0, 3.0), loss: (1e-4, 0.4), holds: spell(0.2, 100.0, 2_500.0, 1.0), doubles: 16.0, ..QUIET },
    ),
    kind(
        "cron",
        Model { interval: 60_000.0, delay: (300.0, 900.0), holds: spell(0.3, 2_000.0, 90_000.0, 1.1), ..QUIET },
    ),
    kind(
        "daily",
        Model { delay: (25.0, 6.0), loss: (2e-3, 0.3), holds: spell(1.0, 150.0, 2_000.0, 1.2), daily: 0.95, ..QUIET },
    ),
    kind("bursts", Model { delay: (60.0, 10.0), gaps: spell(3.0, 300.0, 20_000.0, 0.9), loss: (3e-4, 0.5), ..QUIET }),
    kind("collector", Model { holds: spell(40.0, 30.0, 1_500.0, 1.3), delay: (0.6, 0.4), ..QUIET }),
    kind(
        "satellite",
        Model {
            interval: 1_000.0,
            delay: (550.0, 30.0),
            swell: 10.0,
            loss: (4e-3, 0.3),
            gaps: spell(0.5, 1_000.0, 30_000.0, 1.0),
            ..QUIET
        },
    ),
    kind(
        "path-changes",
        Model {
            delay: (40.0, 2.0),
            gaps: spell(1.0, 50.0, 1_200.0, 1.5),
            path_change: 60.0,
            loss: (1e-4, 0.0),
            ..QUIET
        },
    ),
    kind("each-minute", Model { periodic: (60_000.0, 600.0), delay: (0.8, 0.4), loss: (1e-5, 0.0), ..QUIET }),
    kind(
        "lora",
        Model {
            interval: 10_000.0,
            delay: (300.0, 120.0),
            loss: (0.12, 0.25),
            gaps: spell(0.1, 30_000.0, 400_000.0, 1.0),
            ..QUIET
        },
    ),
    kind("bus", Model { interval: 20.0, delay: (0.3, 0.6), holds: spell(4.0, 8.0, 150.0, 1.3), ..QUIET }),
    kind(
        "car",
        Model {
            sleeper: 3.0,
            delay: (22.0, 9.0),
            swell: 2.0,
            heavy: (2e-3, 600.0),
            gaps: spell(20.0, 80.0, 2_500.0, 1.2),
            loss: (2e-3, 0.4),
            ..QUIET
        },
    ),
    kind(
        "power-line",
        Model {
            interval: 500.0,
            delay: (40.0, 30.0),
            loss: (0.01, 0.3),
            storms: spell(1.0, 10_000.0, 300_000.0, 1.0),
            storm_loss: 0.4,
            daily: 0.8,
            ..QUIET
        },
    ),
    kind("starved", Model { stalls: spell(6.0, 200.0, 4_000.0, 1.1), delay: (0.5, 0.5), ..QUIET }),
    kind("power-save", Model { batch: 307.0, delay: (3.0, 2.0), loss: (1e-3, 0.1), ..QUIET }),
    kind(
        "storms",
        Model { delay: (8.0, 2.0), storms: spell(0.04, 60_000.0, 400_000.0, 1.0), storm_loss: 0.35, ..QUIET },
    ),
    kind(
        "radio-motes",
        Model { interval: 2_000.0, wander: 0.02, delay: (15.0, 20.0), loss: (0.05, 0.4), daily: 0.5, ..QUIET },
    ),
    kind(
        "sleeps-through",
        Model { holds: spell(2.0, 300.0, 6_000.0, 1.2), sleeps_through: true, delay: (1.0, 0.6), ..QUIET },
    ),
    kind(
        "busy-host",
        Model {
            delay: (1.0, 1.0),
            heavy: (1e-3, 300.0),
            holds: spell(5.0, 100.0, 3_000.0, 1.2),
            slips: spell(0.05, 500.0, 3_000.0, 1.0),
            daily: 0.7,
            ..QUIET
        },
    ),
];

impl Kind {
    /// A trace of this kind, `hours` long. The same seed gives the same trace.
    pub fn trace(&self, seed: u64, hours: f64) -> Trace {
        let name = self.name.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let mut random = Random::seeded(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(name));
        let model = self.model.drawn(&mut random);
        Play::new(model, random).trace(hours)
    }

    /// Its announced interval.
    pub fn interval(&self) -> Duration {
        Duration::from_nanos((self.model.interval * MS) as u64)
    }
}

impl Model {
    /// The same with other figures: each within a factor of two, most of them closer.
    fn drawn(mut self, random: &mut Random) -> Model {
        let mut factor = || 2f64.powf(random.unit() + random.unit() - 1.0);
        for spell in
            [&mut self.slips, &mut self.holds, &mut self.queue, &mut self.gaps, &mut self.storms, &mut self.stalls]
        {
            let longer = factor();
            *spell = Spell {
                per_hour: spell.per_hour * factor(),
                least: spell.least * longer,
                most: spell.most * longer,
                shape: spell.shape,
            };
        }
        self.slow_ppm *= factor();
        self.steps.1 *= factor();
        self.sleeper *= factor();
        self.wander *= factor();
        self.periodic.1 *= factor();
        self.delay = (self.delay.0 * factor(), self.delay.1 * factor());
        self.swell *= factor();
        self.queue_peak *= factor();
        self.path_change *= factor();
        self.loss.0 = (self.loss.0 * factor()).min(0.5);
        self.storm_loss = (self.storm_loss * factor()).min(0.8);
        self.overtaken.0 *= factor();
        self
    }
}

/// A spell that recurs: the next one, from and to, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Recurring {
    from: f64,
    to: f64,
}

/// One link, as it goes on.
struct Play {
    model: Model,
    random: Random,
    slips: Recurring,
    holds: Recurring,
    queue: Recurring,
    gaps: Recurring,
    storms: Recurring,
    stalls: Recurring,
    /// When the sender's clock is stepped next.
    step_at: f64,
    swell: f64,
    pace: f64,
    path: f64,
    losing: bool,
    /// Until when the sender is held in a storm.
    held_until: f64,
    newest_sent: f64,
    newest_arrival: f64,
}

impl Play {
    fn new(model: Model, random: Random) -> Play {
        let none = Recurring { from: f64::INFINITY, to: f64::INFINITY };
        let mut play = Play {
            model,
            random,
            slips: none,
            holds: none,
            queue: none,
            gaps: none,
            storms: none,
            stalls: none,
            step_at: if model.steps.0 > 0.0 { model.steps.0 * HOUR } else { f64::INFINITY },
            swell: 0.0,
            pace: 0.0,
            path: 0.0,
            losing: false,
            held_until: 0.0,
            newest_sent: 0.0,
            newest_arrival: 0.0,
        };
        play.slips = play.next(model.slips, 0.0);
        play.holds = play.next(model.holds, 0.0);
        play.queue = play.next(model.queue, 0.0);
        play.gaps = play.next(model.gaps, 0.0);
        play.storms = play.next(model.storms, 0.0);
        play.stalls = play.next(model.stalls, 0.0);
        play
    }

    fn trace(mut self, hours: f64) -> Trace {
        let interval = self.model.interval * MS;
        let mut trace = Trace { intervals: vec![(0, Duration::from_nanos(interval as u64))], ..Trace::default() };
        let (mut due, mut slot) = (SECOND, 0);
        while due < hours * HOUR {
            let (sent, arrived) = self.heartbeat(due);
            let instant = |nanos: f64| Instant::from_nanos(nanos as u64);
            trace.beats.push(Beat { slot, sent: instant(sent), arrived: arrived.map(|at| instant(at.max(sent))) });
            due = self.next_due(due, sent, interval);
            slot += 1;
        }
        trace
    }

    fn next_due(&mut self, due: f64, sent: f64, interval: f64) -> f64 {
        let from = if self.model.sleeper > 0.0 { sent + self.exponential(self.model.sleeper * MS) } else { due };
        self.pace = 0.995 * self.pace + 0.1 * self.model.wander * self.normal();
        let mut next = from + interval * (1.0 + self.pace.clamp(-0.4, 0.4)) * (1.0 + self.model.slow_ppm * 1e-6);
        if next >= self.slips.from {
            next += self.slips.to - self.slips.from;
            self.slips = self.next(self.model.slips, next);
        }
        if next >= self.step_at {
            let size = self.model.steps.1 * MS * (0.3 + 0.7 * self.random.unit());
            next = if self.random.chance(0.5) { next + size } else { (next - size).max(from + 1.0) };
            self.step_at = next + self.exponential(self.model.steps.0 * HOUR);
        }
        next
    }

    /// When the heartbeat due at `due` is sent, and when it arrives.
    fn heartbeat(&mut self, due: f64) -> (f64, Option<f64>) {
        let Some(sent) = self.sent(due) else { return (due.max(self.newest_sent), None) };
        self.newest_sent = sent;
        if self.is_lost(sent) {
            return (sent, None);
        }
        let mut at = sent + self.delay(sent);
        if self.random.chance(self.model.overtaken.0) {
            // It goes another way, and holds up none.
            return (sent, Some(at + self.exponential(self.model.overtaken.1 * MS)));
        }
        if self.model.batch > 0.0 {
            let batch = self.model.batch * MS;
            at = (at / batch).ceil() * batch;
        }
        while at >= self.stalls.to {
            self.stalls = self.next(self.model.stalls, self.stalls.to);
        }
        if at >= self.stalls.from {
            at = self.stalls.to;
        }
        at = at.max(self.newest_arrival + 1_000.0);
        self.newest_arrival = at;
        (sent, Some(at))
    }

    /// When a heartbeat is sent; `None` if it is slept through.
    fn sent(&mut self, due: f64) -> Option<f64> {
        let mut sent = due + (self.normal().abs() * 0.1 * MS).min(2.0 * MS);
        while due >= self.holds.to {
            self.holds = self.next(self.model.holds, self.holds.to);
        }
        if due >= self.holds.from {
            if self.model.sleeps_through && due + self.model.interval * MS < self.holds.to {
                return None;
            }
            sent = sent.max(self.holds.to);
        }
        let (period, longest) = (self.model.periodic.0 * MS, self.model.periodic.1 * MS);
        if period > 0.0 {
            let since = due % period;
            if since < longest && since < longest * (0.3 + 0.7 * ((due / period).floor() * 0.618).fract()) {
                sent += longest - since;
            }
        }
        if self.is_storm(due) && self.model.storm_hold > 0.0 && due >= self.held_until && self.random.chance(0.1) {
            self.held_until = due + self.model.storm_hold * MS * self.random.unit();
        }
        Some(sent.max(self.held_until.min(due + self.model.storm_hold * 2.0 * MS)).max(self.newest_sent))
    }

    fn is_storm(&mut self, now: f64) -> bool {
        while now >= self.storms.to {
            self.storms = self.next(self.model.storms, self.storms.to);
        }
        now >= self.storms.from
    }

    fn is_lost(&mut self, sent: f64) -> bool {
        while sent >= self.gaps.to {
            self.gaps = self.next(self.model.gaps, self.gaps.to);
            self.path = self.model.path_change * MS * (2.0 * self.random.unit() - 1.0);
        }
        if sent >= self.gaps.from {
            return true;
        }
        if self.is_storm(sent) && self.random.chance(self.model.storm_loss) {
            return true;
        }
        let (enters, goes_on) = self.model.loss;
        let chance = if self.losing { goes_on } else { enters * self.often(sent) };
        self.losing = self.random.chance(chance.min(0.9));
        self.losing
    }

    fn delay(&mut self, sent: f64) -> f64 {
        let (least, mean) = self.model.delay;
        self.swell = 0.98 * self.swell + 0.2 * self.model.swell * MS * self.normal();
        let mut delay = least * MS + self.exponential(mean * MS) + self.swell + self.path;
        if self.random.chance(self.model.heavy.0) {
            delay += self.pareto(10.0 * MS, self.model.heavy.1 * MS, 1.0);
        }
        while sent >= self.queue.to {
            self.queue = self.next(self.model.queue, self.queue.to);
        }
        if sent >= self.queue.from {
            let place = (sent - self.queue.from) / (self.queue.to - self.queue.from);
            delay += self.model.queue_peak * MS * (1.0 - (2.0 * place - 1.0).abs());
        }
        delay.max(0.1 * MS)
    }

    /// How often things happen now, as a multiple of the usual.
    fn often(&self, now: f64) -> f64 {
        let hours = now / HOUR;
        (1.0 - self.model.daily * (TAU * hours / 24.0).cos()) * (hours / self.model.doubles).exp2().min(64.0)
    }

    fn next(&mut self, spell: Spell, now: f64) -> Recurring {
        if spell.per_hour == 0.0 {
            return Recurring { from: f64::INFINITY, to: f64::INFINITY };
        }
        let most = spell.per_hour * (1.0 + self.model.daily);
        let mut from = now;
        loop {
            let often = self.often(from) / (1.0 + self.model.daily);
            from += self.exponential(HOUR / (most * often.max(1.0)));
            if often >= 1.0 || self.random.chance(often) {
                break;
            }
        }
        let length = self.pareto(spell.least * MS, spell.most * MS, spell.shape);
        Recurring { from, to: from + length }
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.random.unit()).ln()
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.random.unit()).ln()).sqrt();
        radius * (TAU * self.random.unit()).cos()
    }

    fn pareto(&mut self, least: f64, most: f64, shape: f64) -> f64 {
        let tail = (least / most).powf(shape);
        least / (1.0 - self.random.unit() * (1.0 - tail)).powf(1.0 / shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_reads_back_as_a_trace_and_has_its_own_seeds() {
        for kind in KINDS {
            let (one, same, other) = (kind.trace(1, 2.0), kind.trace(1, 2.0), kind.trace(2, 2.0));
            assert_eq!(one, same, "{}", kind.name);
            assert_ne!(one, other, "{}", kind.name);
            assert_eq!(Trace::from_text(&one.to_string()).as_ref(), Ok(&one), "{}", kind.name);
            assert!(one.beats.windows(2).all(|two| two[0].sent <= two[1].sent), "{}", kind.name);
        }
    }
}
