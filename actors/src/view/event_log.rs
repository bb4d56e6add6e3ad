//! `EventLog`: how often each event happened, and the newest ones with their numbers.
//!
//! Any number of readers may follow it. A reader keeps only the number it has come to, so a slow
//! one costs nothing here: what it has missed is told to it as a number.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use heartbeat_core::{Event, Instant};
use tokio::sync::watch;

use crate::lock::lock;

/// Events that are kept for readers that come later.
pub(crate) const BACKLOG: usize = 1024;

/// An event with its number, 1 for the first that was kept.
#[derive(Clone, Debug)]
pub(crate) struct NumberedEvent {
    pub(crate) number: u64,
    pub(crate) at: Instant,
    pub(crate) event: Event,
}

/// The events of a node.
#[derive(Debug)]
pub(crate) struct EventLog {
    /// Whether the node's door is open. Until then events are only counted.
    is_kept: AtomicBool,
    inner: Mutex<Inner>,
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    newest: u64,
    events: VecDeque<NumberedEvent>,
    by_name: BTreeMap<&'static str, u64>,
    failures: BTreeMap<&'static str, u64>,
    /// The members that are suspected.
    suspected: BTreeSet<Arc<str>>,
    /// How many suspicions ended, by how.
    suspicions: BTreeMap<&'static str, u64>,
    /// The newest verdict on each member that is suspected or dead, by its name. An entry goes with
    /// the suspicion, or when the member is forgotten.
    verdicts: BTreeMap<Arc<str>, NumberedEvent>,
}

impl Inner {
    /// Counts a suspicion that ends.
    fn count_suspicion(&mut self, event: &Event) {
        let (node, outcome) = if let Event::Suspected { node, .. } = event {
            self.suspected.insert(node.clone());
            return;
        } else if let Event::Cleared { node } = event {
            (node, "cleared")
        } else if let Event::Died { node, .. } = event {
            (node, "died")
        } else if let Event::Left { node } | Event::Forgotten { node } = event {
            (node, "left")
        } else if let Event::Joined { member } = event {
            (&member.name, "restarted")
        } else {
            return;
        };
        if self.suspected.remove(node) {
            *self.suspicions.entry(outcome).or_default() += 1;
        }
    }

    /// Keeps a verdict for as long as it holds.
    fn note_verdict(&mut self, numbered: &NumberedEvent) {
        if let Event::Suspected { node, .. } | Event::Died { node, .. } = &numbered.event {
            self.verdicts.insert(node.clone(), numbered.clone());
        } else if let Event::Cleared { node }
        | Event::Returned { node, .. }
        | Event::Forgotten { node }
        | Event::Left { node } = &numbered.event
        {
            self.verdicts.remove(node);
        } else if let Event::Joined { member } = &numbered.event {
            self.verdicts.remove(&member.name);
        }
    }
}

impl Default for EventLog {
    fn default() -> EventLog {
        EventLog { is_kept: AtomicBool::new(false), inner: Mutex::default(), newest: watch::Sender::new(0) }
    }
}

impl EventLog {
    /// Keeps the newest events from now on.
    pub(crate) fn keep(&self) {
        self.is_kept.store(true, Ordering::Release);
    }

    pub(crate) fn push(&self, event: &Event, at: Instant) {
        let mut inner = lock(&self.inner);
        *inner.by_name.entry(event.name()).or_default() += 1;
        if let Event::Failed { cause, .. } = event {
            *inner.failures.entry(cause.name()).or_default() += 1;
        }
        inner.count_suspicion(event);
        if !self.is_kept.load(Ordering::Acquire) {
            return;
        }
        inner.newest += 1;
        let number = inner.newest;
        if inner.events.len() == BACKLOG {
            inner.events.pop_front();
        }
        let numbered = NumberedEvent { number, at, event: event.clone() };
        inner.note_verdict(&numbered);
        inner.events.push_back(numbered);
        drop(inner);
        self.newest.send_replace(number);
    }

    /// Changes with each event that is kept.
    pub(crate) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// At most `most` of the events after this number, and how many before them are no longer kept.
    pub(crate) fn after(&self, number: u64, most: usize) -> (u64, Vec<NumberedEvent>) {
        let inner = lock(&self.inner);
        let next = number.min(inner.newest) + 1;
        let oldest = inner.events.front().map_or(next, |event| event.number);
        let skip = next.saturating_sub(oldest) as usize;
        (oldest.saturating_sub(next), inner.events.iter().skip(skip).take(most).cloned().collect())
    }

    /// The newest verdict on each member that is suspected or dead, by its name.
    pub(crate) fn verdicts(&self) -> BTreeMap<Arc<str>, NumberedEvent> {
        lock(&self.inner).verdicts.clone()
    }

    /// How often each event happened, by its name.
    pub(crate) fn by_name(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.inner).by_name.clone()
    }

    /// How many suspicions of members ended so: `cleared`, `died`, `left` or `restarted`.
    pub(crate) fn suspicions(&self, outcome: &str) -> u64 {
        lock(&self.inner).suspicions.get(outcome).copied().unwrap_or_default()
    }

    /// How many generations of workers failed, by cause.
    pub(crate) fn failures(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.inner).failures.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use heartbeat_core::Cause;

    use super::*;

    fn pushed(count: usize) -> EventLog {
        let log = EventLog::default();
        log.keep();
        (0..count).for_each(|_| log.push(&Event::Connected, Instant::ZERO));
        log
    }

    fn numbers(log: &EventLog, after: u64, most: usize) -> (u64, Vec<u64>) {
        let (missed, events) = log.after(after, most);
        (missed, events.iter().map(|event| event.number).collect())
    }

    #[test]
    fn a_reader_gets_each_event_after_its_number_once() {
        let log = pushed(5);
        assert_eq!(numbers(&log, 0, 100), (0, vec![1, 2, 3, 4, 5]));
        assert_eq!(numbers(&log, 3, 1), (0, vec![4]));
        assert_eq!(numbers(&log, 5, 100), (0, vec![]));
        assert_eq!(numbers(&log, u64::MAX, 100), (0, vec![]), "a number that was never given");
    }

    #[test]
    fn a_reader_that_comes_late_learns_how_many_it_missed() {
        let log = pushed(BACKLOG + 10);
        let (missed, events) = log.after(4, BACKLOG * 2);
        assert_eq!((missed, events.len(), events[0].number), (6, BACKLOG, 11));
    }

    #[test]
    fn a_verdict_is_kept_however_many_events_follow_until_it_ends() {
        let log = pushed(0);
        let (node, silent_for) = (Arc::from("node"), std::time::Duration::from_secs(3));
        let suspected = |node: Arc<str>| Event::Suspected { node, silent_for, evidence: [].into(), reported_by: None };
        log.push(&suspected("node".into()), Instant::ZERO);
        log.push(&suspected("other".into()), Instant::ZERO);
        (0..BACKLOG).for_each(|_| log.push(&Event::Connected, Instant::ZERO));
        log.push(&Event::Cleared { node: "other".into() }, Instant::ZERO);
        let verdicts = log.verdicts();
        assert_eq!(verdicts.keys().collect::<Vec<_>>(), [&node]);
        assert_eq!(verdicts[&node].event, suspected(node));
    }

    #[test]
    fn a_suspicion_is_counted_once_by_how_it_ended() {
        let (log, node) = (EventLog::default(), Arc::<str>::from("node"));
        let suspected =
            Event::Suspected { node: node.clone(), silent_for: Duration::ZERO, evidence: [].into(), reported_by: None };
        let died =
            Event::Died { node: node.clone(), silent_for: Duration::ZERO, evidence: [].into(), reported_by: None };
        let cleared = Event::Cleared { node };
        for event in [&died, &suspected, &suspected, &cleared, &cleared, &suspected, &died] {
            log.push(event, Instant::ZERO);
        }
        assert_eq!(["cleared", "died", "left"].map(|outcome| log.suspicions(outcome)), [1, 1, 0]);
    }

    #[test]
    fn events_are_counted_before_anybody_reads() {
        let log = EventLog::default();
        log.push(&Event::Connected, Instant::ZERO);
        let (worker, generation) = ("worker".into(), heartbeat_core::Generation(1));
        log.push(&Event::Failed { worker, generation, cause: Cause::ReportedFailed, restart_in: None }, Instant::ZERO);
        assert_eq!(log.by_name(), BTreeMap::from([("connected", 1), ("failed", 1)]));
        assert_eq!(log.failures(), BTreeMap::from([("reported_failed", 1)]));
        assert_eq!(numbers(&log, 0, 100), (0, vec![]));
    }
}
