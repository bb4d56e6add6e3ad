//! What the scenarios need of a cluster in virtual time, ours or another library's, and the figures
//! gathered.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, Instant};

use heartbeat_sim::{Fault, NodeIndex};

/// Time, kind and subject of a report.
#[derive(Default)]
pub(crate) struct Told {
    /// By the member concerned, then by the node that was notified, in seconds since the start.
    suspected: BTreeMap<NodeIndex, BTreeMap<NodeIndex, f64>>,
    died: BTreeMap<NodeIndex, BTreeMap<NodeIndex, f64>>,
    /// Deaths by a node's own verdict: the node, the member.
    concluded: Vec<(NodeIndex, NodeIndex)>,
    /// How often a node declared a member dead.
    views: Vec<(NodeIndex, NodeIndex)>,
}

/// Shared by a cluster and the one who gathers.
pub(crate) type Shared = Rc<RefCell<Told>>;

impl Told {
    pub(crate) fn suspected(&mut self, at: Duration, by: NodeIndex, whom: NodeIndex) {
        self.suspected.entry(whom).or_default().entry(by).or_insert(at.as_secs_f64());
    }

    pub(crate) fn died(&mut self, at: Duration, by: NodeIndex, whom: NodeIndex, is_own: bool) {
        self.died.entry(whom).or_default().entry(by).or_insert(at.as_secs_f64());
        self.views.push((by, whom));
        if is_own {
            self.concluded.push((by, whom));
        }
    }

    pub(crate) fn has_suspected(&self, by: NodeIndex, whom: NodeIndex) -> bool {
        self.suspected.get(&whom).is_some_and(|told| told.contains_key(&by))
    }

    /// How many nodes learnt of a suspicion.
    pub(crate) fn suspicions(&self) -> usize {
        self.suspected.values().map(BTreeMap::len).sum()
    }
}

/// A cluster in virtual time.
pub(crate) trait Played {
    /// Whose cluster it is.
    fn name(&self) -> &'static str;
    /// Does a fault now.
    fn apply(&mut self, fault: Fault);
    /// Lets this much time pass.
    fn run(&mut self, duration: Duration);
    /// The time since the start.
    fn elapsed(&self) -> Duration;
    /// Datagrams sent so far, and their bytes with the headers of IPv4 and UDP.
    fn sent(&self) -> (u64, u64);
    /// How many a node takes for dead or gone.
    fn missing(&self, observer: NodeIndex) -> usize;
    /// The members whose suspicions are looked for from now on, for libraries without such events.
    fn look_for(&mut self, victims: &[NodeIndex]);
}

/// Makes a cluster from a seed and a number of nodes.
pub(crate) type Make<'a> = &'a dyn Fn(u64, usize) -> Gathered;

/// A cluster, and what it tells.
pub(crate) struct Gathered {
    pub(crate) played: Box<dyn Played>,
    pub(crate) told: Shared,
    pub(crate) nodes: usize,
    begun: Instant,
}

/// How soon the survivors of some deaths learnt of them.
#[derive(Default)]
pub(crate) struct Spread {
    pub(crate) suspect_all: Vec<f64>,
    pub(crate) dead_first: Vec<f64>,
    pub(crate) dead_all: Vec<f64>,
    /// Deaths that not all survivors learnt of.
    pub(crate) not_known: usize,
}

impl Gathered {
    pub(crate) fn new(played: Box<dyn Played>, told: Shared, nodes: usize) -> Gathered {
        Gathered { played, told, nodes, begun: Instant::now() }
    }

    /// Lets some time pass, then counts what is sent in as much again. Returns bytes per node and
    /// second.
    pub(crate) fn warm_up(&mut self, time: Duration) -> f64 {
        self.played.run(time);
        let before = self.played.sent();
        self.played.run(time);
        let after = self.played.sent();
        (after.1 - before.1) as f64 / self.nodes as f64 / time.as_secs_f64()
    }

    /// Node-seconds played in a second.
    pub(crate) fn speed(&self) -> f64 {
        self.nodes as f64 * self.played.elapsed().as_secs_f64() / self.begun.elapsed().as_secs_f64()
    }

    /// For each of `victims`, harmed at `since`: when the first and the last of the others learnt
    /// of it.
    pub(crate) fn spread(&self, victims: &[NodeIndex], since: Duration) -> Spread {
        let told = self.told.borrow();
        let (mut spread, none) = (Spread::default(), BTreeMap::new());
        let times = |known: &BTreeMap<NodeIndex, f64>| -> Option<(f64, f64)> {
            let by_survivors = known.iter().filter(|(place, _)| !victims.contains(place));
            let times: Vec<f64> = by_survivors.map(|(_, at)| at - since.as_secs_f64()).collect();
            let (first, last) = (times.iter().copied().reduce(f64::min)?, times.iter().copied().reduce(f64::max)?);
            (times.len() >= self.nodes - victims.len()).then_some((first, last))
        };
        for victim in victims {
            let died = told.died.get(victim).unwrap_or(&none);
            // A node that learns of the death first need not learn of the suspicion.
            let mut suspected = told.suspected.get(victim).unwrap_or(&none).clone();
            for (place, at) in died {
                suspected.entry(*place).or_insert(*at);
            }
            spread.suspect_all.extend(times(&suspected).map(|(_, last)| last));
            match times(died) {
                Some((first, last)) => {
                    spread.dead_first.push(first);
                    spread.dead_all.push(last);
                }
                None => spread.not_known += 1,
            }
        }
        spread
    }

    /// Nodes declared dead though they were alive; the number of own verdicts; and the number of
    /// views with that death.
    pub(crate) fn false_deaths(&self, ended: &[NodeIndex]) -> (usize, usize, usize) {
        let told = self.told.borrow();
        let wrong = |deaths: &[(NodeIndex, NodeIndex)]| deaths.iter().filter(|(_, whom)| !ended.contains(whom)).count();
        let nodes: BTreeSet<NodeIndex> =
            told.views.iter().map(|(_, whom)| *whom).filter(|whom| !ended.contains(whom)).collect();
        (nodes.len(), wrong(&told.concluded), wrong(&told.views))
    }
}
