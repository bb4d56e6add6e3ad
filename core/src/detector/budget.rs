//! Budget: learn how long this target is silent while alive, and suspect it as rarely as the user asked.

use std::time::Duration;

use super::schedule::{Schedule, instant};
use super::{Arrival, Detector, Pause};
use crate::mistakes::Mistakes;
use crate::time::Instant;

/// Buckets of the histogram.
const BUCKETS: usize = 96;
const PER_OCTAVE: f32 = 5.0;
const LEAST: f32 = 1.0 / 128.0;

/// Suspects a target as rarely as the user asked.
#[derive(Clone, Debug)]
pub struct Budget {
    state: Box<State>,
}

#[derive(Clone, Debug)]
struct State {
    schedule: Schedule,
    mistakes: Mistakes,
    /// Wrong suspicions allowed for each heartbeat.
    p: f64,
    base: f64,
    dev: f64,
    enter: f64,
    more: f64,
    ends: f64,
    count: u32,
    /// Weight of the next entry.
    weight: f32,
    total: f32,
    long: f32,
    stale: u16,
    deadline: Instant,
    histogram: [f32; BUCKETS],
}

impl Budget {
    /// A detector for a target that sends every `interval`, watched since `now`.
    pub fn new(mistakes: Mistakes, interval: Duration, now: Instant) -> Budget {
        let mut state = Box::new(State {
            schedule: Schedule::new(interval, now),
            mistakes,
            p: mistakes.per_heartbeat(interval),
            base: 0.0,
            dev: 0.0,
            enter: 0.0,
            more: 0.0,
            ends: 0.0,
            count: 0,
            weight: 1.0,
            total: 0.0,
            long: 3.0,
            stale: 0,
            deadline: now,
            histogram: [0.0; BUCKETS],
        });
        state.histogram[bucket(3.0).expect("three intervals are a silence")] = 1.0;
        state.deadline = now + interval * 4;
        Budget { state }
    }
}

fn bucket(silence: f32) -> Option<usize> {
    (silence >= LEAST).then(|| (((silence / LEAST).log2() * PER_OCTAVE) as usize).min(BUCKETS - 1))
}

fn upper_edge(bucket: usize) -> f32 {
    LEAST * ((bucket + 1) as f32 / PER_OCTAVE).exp2()
}

impl State {
    fn short(&self, eta: f64) -> f64 {
        let slots = if self.enter > 0.003 {
            let r = (self.more + 0.5) / (self.more + self.ends + 1.5);
            (1.0 + (self.p / self.enter).ln() / r.ln()).ceil().max(0.0)
        } else {
            0.0
        };
        slots * eta + self.dev * (1.0 / self.p).ln() + 500_000.0
    }

    fn heartbeat(&mut self, arrival: Arrival) {
        let missing = arrival.slots - 1;
        let eta = self.schedule.interval() as f64;
        let place = self.schedule.heartbeat(arrival, self.base as i64);
        if place.anew {
            self.base = place.late as f64;
        }
        if !arrival.waited {
            let late = place.late as f64 - self.base;
            let over = late + missing as f64 * eta;
            let short = self.short(eta);
            let weight = self.weight;
            self.weight *= 1.0 + 1.0 / (8.0 / self.p).clamp(1e5, 1e7) as f32;
            self.total += weight;
            if over > short {
                if let Some(b) = bucket((over / eta) as f32) {
                    self.histogram[b] += weight;
                    self.stale = 256;
                }
            }
            let g = (1.0f64 / 64.0).max(1.0 / (f64::from(self.count) + 2.0));
            self.count = self.count.saturating_add(1);
            let dev = if self.count < 10 { eta } else { self.dev };
            self.base += g * late.clamp(-4.0 * dev, 4.0 * dev);
            self.dev += g * (late.abs().min(8.0 * dev) - self.dev);
            self.enter += (f64::from(u8::from(missing > 0)) - self.enter) / 1000.0;
            if missing > 0 {
                let keep = 1.0 - 1.0 / 50.0;
                self.more = self.more * keep + (missing - 1).min(5) as f64;
                self.ends = self.ends * keep + 1.0;
            }
            if self.weight > 1e6 {
                for h in &mut self.histogram {
                    *h /= self.weight;
                }
                self.total /= self.weight;
                self.weight = 1.0;
            }
            self.stale += 1;
            if self.stale >= 256 {
                self.stale = 0;
                self.long = self.quantile();
            }
        }
        let eta = self.schedule.interval() as f64;
        let margin = self.short(eta).max(f64::from(self.long) * eta).min(120.0 * eta);
        self.deadline = instant(self.schedule.next_due() + (self.base + margin) as i64);
        if arrival.waited {
            self.deadline = self.deadline.max(arrival.at + arrival.interval);
        }
    }

    fn quantile(&self) -> f32 {
        let unit = self.weight;
        let allowed = self.p as f32 * self.total;
        if allowed < 0.5 * unit {
            let longest = self.histogram.iter().rposition(|h| *h > 0.0).unwrap_or(0);
            return upper_edge(longest) * (0.5 * unit / allowed).powf(0.3).min(2.0);
        }
        let mut above = 0.0;
        for b in (0..BUCKETS).rev() {
            above += self.histogram[b];
            if above > allowed {
                return upper_edge(b);
            }
        }
        0.0
    }
}

impl Detector for Budget {
    fn heartbeat(&mut self, arrival: Arrival) {
        self.state.heartbeat(arrival);
    }

    fn deadline(&self) -> Instant {
        self.state.deadline
    }

    fn expected(&self) -> Instant {
        instant(self.state.schedule.next_due() + self.state.base as i64)
    }

    fn phi(&self, _now: Instant) -> f64 {
        0.0
    }

    fn excuse(&mut self, pause: Pause) {
        let interval = Duration::from_nanos(self.state.schedule.interval() as u64);
        self.state.deadline = pause.excuse(self.state.deadline, interval);
    }

    fn renew(&mut self, now: Instant) {
        let interval = Duration::from_nanos(self.state.schedule.interval() as u64);
        self.state.deadline = self.state.deadline.max(now + interval);
    }
}
