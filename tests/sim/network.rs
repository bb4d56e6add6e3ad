//! `Network`: what becomes of a datagram, as named probabilities and cut links, from one stream of
//! chance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heartbeat_core::Random;

use crate::outcomes::Outcomes;

/// Which node of a world: its place in the list.
pub type NodeIndex = usize;

/// How links behave. The defaults are a quiet local network.
#[derive(Clone, Debug)]
pub struct Network {
    /// Chance that a datagram is lost.
    pub loss: f64,
    /// Chance that a datagram arrives twice.
    pub duplication: f64,
    /// Chance that a datagram is held back for up to a second, so that later ones overtake it.
    pub reordering: f64,
    /// Least delay.
    pub delay_min: Duration,
    /// Mean of the exponentially distributed delay on top of `delay_min`.
    pub delay_mean: Duration,
    /// Nodes that lose this share of all they send and receive.
    pub lossy: BTreeMap<NodeIndex, f64>,
    /// Nodes for which all takes up to this much longer.
    pub slow: BTreeMap<NodeIndex, Duration>,
    /// What becomes of datagrams by the traces of their links, in place of loss and delay here.
    pub outcomes: Option<Outcomes>,
    /// Links that carry nothing, each in one direction.
    cut: BTreeSet<(NodeIndex, NodeIndex)>,
}

impl Default for Network {
    fn default() -> Network {
        Network {
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            delay_min: Duration::from_micros(200),
            delay_mean: Duration::from_micros(300),
            lossy: BTreeMap::new(),
            slow: BTreeMap::new(),
            outcomes: None,
            cut: BTreeSet::new(),
        }
    }
}

impl Network {
    /// Cuts the link in one direction.
    pub fn cut(&mut self, from: NodeIndex, to: NodeIndex) {
        self.cut.insert((from, to));
    }

    /// Restores the link in one direction.
    pub fn mend(&mut self, from: NodeIndex, to: NodeIndex) {
        self.cut.remove(&(from, to));
    }

    /// Whether a link carries nothing in this direction.
    pub fn is_cut(&self, from: NodeIndex, to: NodeIndex) -> bool {
        !self.cut.is_empty() && self.cut.contains(&(from, to))
    }

    /// Cuts `island` off from the rest of `count` nodes, in both directions; within it all links
    /// stay as they are.
    pub fn partition(&mut self, island: &[NodeIndex], count: usize) {
        for other in (0..count).filter(|place| !island.contains(place)) {
            for &place in island {
                self.cut(place, other);
                self.cut(other, place);
            }
        }
    }

    /// Restores a quiet network.
    pub fn heal(&mut self) {
        *self = Network::default();
    }

    /// The delays after which a datagram sent at `now` arrives: none if it is lost, two if it is
    /// doubled.
    pub fn deliveries(&self, from: NodeIndex, to: NodeIndex, now: u64, random: &mut Random) -> [Option<Duration>; 2] {
        if let Some(outcomes) = &self.outcomes {
            return [outcomes.delay(from, to, now).filter(|_| !self.is_cut(from, to)), None];
        }
        if self.duplication == 0.0 && self.reordering == 0.0 {
            // The quick way; the chance drawn is always the same on one network.
            let (lost, delay) =
                (random.chance(self.loss.max(self.loss_of(from)).max(self.loss_of(to))), self.delay(random));
            let delay = delay + self.slowness(from, to, random);
            return [(!lost && !self.is_cut(from, to)).then_some(delay), None];
        }
        // All the chance is drawn in any case, so that cutting a link does not shift what happens
        // on the others.
        let loss = self.loss.max(self.loss_of(from)).max(self.loss_of(to));
        let (lost, doubled) = (random.chance(loss), random.chance(self.duplication));
        let slow = self.slowness(from, to, random);
        let delays = [self.delay(random) + slow, self.delay(random) + slow];
        if lost || self.is_cut(from, to) {
            return [None, None];
        }
        [Some(delays[0]), doubled.then_some(delays[1])]
    }

    fn loss_of(&self, place: NodeIndex) -> f64 {
        if self.lossy.is_empty() {
            return 0.0;
        }
        self.lossy.get(&place).copied().unwrap_or_default()
    }

    fn slowness(&self, from: NodeIndex, to: NodeIndex, random: &mut Random) -> Duration {
        if self.slow.is_empty() {
            return Duration::ZERO;
        }
        let ends = [from, to].into_iter().filter_map(|place| self.slow.get(&place));
        ends.map(|&by| random.duration_below(by)).sum()
    }

    /// One delay of this network.
    pub fn delay(&self, random: &mut Random) -> Duration {
        let exponential = self.delay_mean.mul_f64(-(1.0 - random.unit()).ln());
        if self.reordering == 0.0 {
            return self.delay_min + exponential;
        }
        let held_back = random.chance(self.reordering);
        let holding = random.duration_below(Duration::from_secs(1));
        self.delay_min + exponential + if held_back { holding } else { Duration::ZERO }
    }
}
