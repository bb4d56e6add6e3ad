//! `Outcomes`: what becomes of all that is sent between the nodes of a world, from made-up traces.
//!
//! A trace says of each slot of a sender's schedule whether its heartbeat was lost, and when it
//! arrived. Here a datagram shares the outcome of the slot in which it is sent. Traces of one kind
//! and of many seeds give each link an outcome of its own, or all links of a node the same one,
//! since it is the node that is slow.

use std::collections::BTreeMap;
use std::time::Duration;

use heartbeat_core::Trace;

use crate::network::NodeIndex;

/// Slots in which a clock drifts by less than a trace can show.
const BLOCK: usize = 600;

/// What links have their outcome from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Their sender: all that a node sends at one instant has the same outcome.
    Sender,
    /// The path: each link, in each direction, has an outcome of its own.
    Path,
    /// Their receiver: all that reaches a node at one instant has the same outcome.
    Receiver,
}

/// The outcomes of all links of a world.
#[derive(Clone, Debug)]
pub struct Outcomes {
    cause: Cause,
    interval: u64,
    /// For each link, by its two ends, the delay in each slot, in seconds; no number for a loss. If
    /// only one end counts, the other one is zero.
    delays: BTreeMap<(NodeIndex, NodeIndex), Vec<f32>>,
}

impl Outcomes {
    /// Outcomes of all links among so many nodes. `trace` makes the trace of a seed.
    ///
    /// # Panics
    /// If a trace is empty.
    pub fn new(cause: Cause, nodes: usize, first_seed: u64, trace: impl Fn(u64) -> Trace) -> Outcomes {
        let mut outcomes = Outcomes { cause, interval: 1, delays: BTreeMap::new() };
        let mut seed = first_seed;
        for from in 0..nodes {
            for to in (0..nodes).filter(|&to| to != from) {
                let key = outcomes.key(from, to);
                if !outcomes.delays.contains_key(&key) {
                    let trace = trace(seed);
                    outcomes.interval = trace.intervals[0].1.as_nanos() as u64;
                    outcomes.delays.insert(key, delays(&trace));
                    seed += 1;
                }
            }
        }
        outcomes
    }

    fn key(&self, from: NodeIndex, to: NodeIndex) -> (NodeIndex, NodeIndex) {
        match self.cause {
            Cause::Sender => (from, 0),
            Cause::Path => (from, to),
            Cause::Receiver => (0, to),
        }
    }

    /// How long what is sent at `now` is under way; `None` if it is lost. A trace that is over
    /// begins again.
    pub fn delay(&self, from: NodeIndex, to: NodeIndex, now: u64) -> Option<Duration> {
        let delays = self.delays.get(&self.key(from, to))?;
        let delay = delays[(now / self.interval) as usize % delays.len()];
        (!delay.is_nan()).then(|| Duration::from_secs_f32(delay.max(0.0)))
    }
}

/// The delay of each slot of a trace, from when it was due. When that was is not in the trace: as
/// early as the earliest of its neighbours was sent.
fn delays(trace: &Trace) -> Vec<f32> {
    let interval = trace.intervals[0].1.as_nanos() as u64;
    let mut delays = Vec::with_capacity(trace.beats.len());
    for block in trace.beats.chunks(BLOCK) {
        let shift = |sent: u64, slot: u64| sent as i64 - (slot * interval) as i64;
        let least = block.iter().map(|beat| shift(beat.sent.as_nanos(), beat.slot)).min().unwrap_or(0);
        delays.extend(block.iter().map(|beat| {
            let delay = |at: u64| (shift(at, beat.slot) - least) as f32 / 1e9;
            beat.arrived.map_or(f32::NAN, |at| delay(at.as_nanos()))
        }));
    }
    delays
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link_kinds::KINDS;

    #[test]
    fn links_share_the_outcome_of_what_causes_it() {
        let kind = KINDS.iter().find(|kind| kind.name == "handover").expect("it is a kind");
        let of = |cause| Outcomes::new(cause, 3, 1, |seed| kind.trace(seed, 0.5));
        let same = |outcomes: &Outcomes, one: (usize, usize), other: (usize, usize)| {
            let delay = |(from, to), slot| outcomes.delay(from, to, slot * 100_000_000);
            (0..10_000u64).all(|slot| delay(one, slot) == delay(other, slot))
        };
        let [sender, path, receiver] = [Cause::Sender, Cause::Path, Cause::Receiver].map(of);
        assert!(same(&sender, (0, 1), (0, 2)) && !same(&sender, (0, 1), (2, 1)));
        assert!(!same(&path, (0, 1), (0, 2)) && !same(&path, (0, 1), (1, 0)) && !same(&path, (0, 1), (2, 1)));
        assert!(same(&receiver, (0, 1), (2, 1)) && !same(&receiver, (0, 1), (0, 2)));
    }

    #[test]
    fn a_datagram_has_the_delay_and_the_losses_of_its_slot() {
        let kind = KINDS.iter().find(|kind| kind.name == "handover").expect("it is a kind");
        let trace = kind.trace(1, 2.0);
        let outcomes = Outcomes::new(Cause::Path, 2, 1, |seed| kind.trace(seed, 2.0));
        let (mut lost, mut delay) = (0, Duration::ZERO);
        for (slot, beat) in trace.beats.iter().enumerate() {
            match outcomes.delay(0, 1, slot as u64 * 100_000_000 + 1) {
                Some(after) => delay = delay.max(after),
                None => lost += 1,
            }
            assert_eq!(beat.arrived.is_none(), outcomes.delay(0, 1, slot as u64 * 100_000_000).is_none());
        }
        assert!(lost > 100 && delay > Duration::from_millis(30) && delay < Duration::from_secs(1), "{lost} {delay:?}");
    }
}
