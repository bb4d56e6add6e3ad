//! Restarts: generations rise, and no worker is restarted more often than allowed.

use std::time::Duration;

use heartbeat_core::{Generation, WorkerId};

use crate::checker::{Checker, nanos};
use crate::network::NodeIndex;

impl Checker {
    pub(crate) fn generation(&mut self, now: u64, place: NodeIndex, worker: WorkerId, generation: Generation) {
        let life = self.life(place);
        let newest = self.generations.entry((place, life, worker)).or_insert(Generation(0));
        if generation <= *newest {
            let text = format!("{} gives {worker:?} {generation:?} after {newest:?}", self.names[place]);
            self.note(now, &text);
        } else {
            *newest = generation;
        }
    }

    /// A restart that takes place at `at`: with the `intensity`-th before it, it must not lie in
    /// one period.
    pub(crate) fn check_intensity(&mut self, at: u64, place: NodeIndex, worker: &str) {
        /// A worker's thread reports up to this much later than it restarted.
        const SKEW: u64 = Duration::from_millis(2).as_nanos() as u64;
        let (intensity, period) = (self.config.restart.intensity as usize, nanos(self.config.restart.period));
        let life = self.life(place);
        let restarts = self.restarts.entry((place, life, worker.to_owned())).or_default();
        restarts.push(at);
        let first = restarts.len().checked_sub(intensity + 1).map(|index| restarts[index]);
        if first.is_some_and(|first| at + SKEW < first + period) {
            self.note(at, &format!("{worker} on {} was restarted too often", self.names[place]));
        }
    }
}
