//! `Checker`: what must hold after every step, whatever is done to the world (the promises of
//! `docs/src/promises.md`, as far as they apply).
//!
//! It hears of every fault and every event, and keeps what it would need to call one a lie: a death
//! without a cause, a worker replaced through no fault of its own or of its neighbour, an epoch
//! with two owners, a generation given twice, more restarts than are allowed. It also keeps what is
//! owed: the death of a node that was killed, the end of a thread that is blocked, each by its
//! stated bound.
//!
//! It does not judge recovery: whether all is well again can only be said once all harm is over
//! (`World::unsettled`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heartbeat_core::config::AuthorityKind;
use heartbeat_core::{ArbiterId, Cause, Config, Event, Generation, Member, Shard, WorkerId};

use crate::network::Place;
use crate::world::{Fault, GROUP, Shape, WORKERS, generation_at};

/// Deaths by silence that the brake lets pass within [`PACE`], of a zone of up to forty: as
/// `heartbeat_core`'s brake has it.
const PACE_LEAST: usize = 4;
const PACE: Duration = Duration::from_secs(10);

/// Watches a world and notes what is broken.
pub struct Checker {
    seed: u64,
    shape: Shape,
    names: Vec<String>,
    config: Config,
    broken: Vec<String>,
    /// Which start of its process each place is at; what was noted of an earlier one is void.
    lives: BTreeMap<Place, u64>,
    /// Promise 3: who owned a shard at an epoch, by place and life.
    owners: BTreeMap<(u32, u64), (Place, u64)>,
    /// Promise 3: the epoch of the newest start of a shard on a node in one life.
    epochs: BTreeMap<(Place, u64, u32), u64>,
    generations: BTreeMap<(Place, u64, WorkerId), Generation>,
    nodes: Nodes,
    threads: Threads,
    /// Workers that were told to fail.
    harmed: BTreeSet<(Place, String)>,
    /// Promise 5: restarts of a worker within one life of its process.
    restarts: BTreeMap<(Place, u64, String), Vec<u64>>,
    /// How far each shard has counted anywhere.
    counts: BTreeMap<u32, u64>,
    /// The newest epoch of each shard that an authority gave out.
    tokens: BTreeMap<u32, u64>,
    /// Workers that failed too often, by place and life.
    given_up: BTreeSet<(Place, u64, String)>,
}

/// What is known of nodes, to judge deaths.
#[derive(Default)]
struct Nodes {
    killed: BTreeSet<Place>,
    left: BTreeSet<Place>,
    paused: BTreeSet<Place>,
    /// Links that carry nothing, each in one direction.
    cut: BTreeSet<(Place, Place)>,
    /// Those to whom some link was ever cut.
    deaf: BTreeSet<Place>,
    /// Those who lose most of what they send and receive.
    garbled: BTreeSet<Place>,
    /// From when to when a node was paused or cut off. Until it has had the time to be heard in
    /// between, it counts as one span.
    hampered: BTreeMap<Place, (u64, Option<u64>)>,
    /// Who was started and has not joined since: the death of the process before it may still be
    /// noticed.
    unknown: BTreeSet<Place>,
    /// When each was last started: for a while, some may still conclude the death of the process
    /// before it.
    started: BTreeMap<Place, u64>,
    /// The generation under which each was last started.
    generations: BTreeMap<Place, Generation>,
    /// How far the clock of each has jumped ahead.
    ahead: BTreeMap<Place, u64>,
    /// Whether the network ever lost or delayed datagrams.
    disturbed: bool,
    /// Whom anybody holds for a member.
    members: BTreeSet<Place>,
    /// Promise 2: by when somebody must have said that this node died, and who watched it.
    owed: BTreeMap<Place, (u64, Vec<Place>)>,
    /// When each death was first concluded by somebody.
    died: Vec<u64>,
    deaths: u32,
}

/// What is known of blocked threads, to judge replacements.
#[derive(Default)]
struct Threads {
    /// When a thread was last blocked, and until when.
    blocked: BTreeMap<(Place, ArbiterId), (u64, u64)>,
    /// Promise 2: by when a blocked thread must have been abandoned.
    owed: BTreeMap<(Place, ArbiterId), u64>,
    /// When a node last abandoned a thread.
    abandoned: BTreeMap<Place, u64>,
    /// When a node last refused to abandon a thread, since it had too many already.
    refused: BTreeMap<Place, u64>,
}

impl Checker {
    pub(crate) fn new(seed: u64, shape: Shape, names: Vec<String>, config: &Config) -> Checker {
        Checker {
            seed,
            shape,
            names,
            config: config.clone(),
            broken: Vec::new(),
            lives: BTreeMap::new(),
            owners: BTreeMap::new(),
            epochs: BTreeMap::new(),
            generations: BTreeMap::new(),
            nodes: Nodes::default(),
            threads: Threads::default(),
            harmed: BTreeSet::new(),
            restarts: BTreeMap::new(),
            given_up: BTreeSet::new(),
            counts: BTreeMap::new(),
            tokens: BTreeMap::new(),
        }
    }

    // ---- what it hears -------------------------------------------------------------------------------------------------------------------

    /// Takes in what is done; `watched_by` are those who watch whoever ends by it.
    pub(crate) fn fault(&mut self, now: u64, fault: &Fault, watched_by: &[Place]) {
        match fault {
            Fault::Kill(place) | Fault::Unplug(place) => self.killed(now, *place, watched_by),
            Fault::Start(place) => self.started(now, *place),
            Fault::Pause(place) => {
                self.nodes.paused.insert(*place);
                self.hampered(now);
                self.owe_nothing(*place);
            }
            Fault::Resume(place) => {
                self.nodes.paused.remove(place);
                self.hampered(now);
            }
            Fault::Panic(place, worker) | Fault::Finish(place, worker) | Fault::Block(place, worker, _) => {
                self.harmed.insert((*place, worker_name(*worker)));
            }
            Fault::Leave(place) => {
                self.nodes.left.insert(*place);
                self.owe_nothing(*place);
            }
            Fault::Cut(from, to) => {
                self.nodes.cut.insert((*from, *to));
                self.nodes.deaf.insert(*to);
                // What an observer says, or is asked, may be what is lost.
                self.nodes.owed.retain(|_, (_, watched_by)| !watched_by.contains(from) && !watched_by.contains(to));
                self.hampered(now);
            }
            Fault::Mend(from, to) => {
                self.nodes.cut.remove(&(*from, *to));
                self.hampered(now);
            }
            // Nobody is to be suspected for it, and nobody is excused by it.
            Fault::SetInterval(..) | Fault::Say(..) | Fault::Sever(_) | Fault::SetClock(..) => {}
            // Its epochs begin anew, so nothing is to be said of their order.
            Fault::Forget => self.tokens.clear(),
            Fault::Absent | Fault::Present | Fault::Delay(_) | Fault::Empty | Fault::CutOff(_) | Fault::Reach(_) => {}
            // It is a pause to the one concerned, and its threads have all their time anew.
            Fault::Jump(place, by) => {
                self.threads.owed.retain(|(here, _), _| here != place);
                // It counts restarts by its own clock.
                self.restarts.retain(|(here, ..), _| here != place);
                *self.nodes.ahead.entry(*place).or_default() += nanos(*by);
            }
            Fault::Slow(..) => self.nodes.owed.clear(),
            Fault::Garble(place, loss) => {
                if *loss > 0.0 {
                    self.nodes.garbled.insert(*place);
                } else {
                    self.nodes.garbled.remove(place);
                }
                self.nodes.owed.clear();
                self.hampered(now);
            }
            Fault::Partition(places) => {
                for place in 0..self.names.len() {
                    for &inside in places.iter().filter(|_| !places.contains(&place)) {
                        self.nodes.cut.extend([(inside, place), (place, inside)]);
                    }
                }
                self.nodes.owed.clear();
                self.hampered(now);
            }
            Fault::Disturb(loss, _, reordering) => self.nodes.disturbed |= *loss > 0.0 || *reordering > 0.0,
            Fault::Heal => {
                self.nodes.cut.clear();
                self.nodes.garbled.clear();
                self.hampered(now);
            }
        }
    }

    /// Takes in what a node tells; `is_alone` says whether it knows of no other member now.
    pub(crate) fn event(&mut self, now: u64, place: Place, is_alone: bool, event: &Event) {
        match event {
            Event::Joined { member } => self.joined(member),
            Event::Returned { node, .. } => self.member(node),
            Event::Left { node } => drop(self.no_member(node)),
            Event::Died { node, evidence, .. } => {
                let is_own = !evidence.is_empty();
                self.nodes.deaths += u32::from(is_own);
                if self.place(node).is_some_and(|place| self.nodes.members.contains(&place)) {
                    self.nodes.died.push(now);
                }
                if let Some(dead) = self.no_member(node)
                    && is_own
                    // With two members nobody can tell whether it is the other one or the way from
                    // it.
                    && !(is_alone && self.nodes.deaf.contains(&place))
                {
                    self.check_death(now, place, dead);
                }
            }
            // Who is held up owes nothing.
            Event::ZoneDisrupted { .. } | Event::QuorumLost { .. } => self.nodes.owed.clear(),
            Event::Failed { worker, cause, restart_in, .. } => {
                self.check_failure(now, place, worker, cause);
                if let (Some(pause), false) = (restart_in, matches!(cause, Cause::Displaced { .. })) {
                    self.check_intensity(now + pause.as_nanos() as u64, place, worker);
                }
            }
            Event::GaveUp { worker, restarts, .. } => {
                self.given_up.insert((place, self.life(place), worker.to_string()));
                let intensity = self.config.restart.intensity;
                if *restarts != intensity {
                    let text = format!("{worker} on {} was given up after {restarts} restarts", self.names[place]);
                    self.note(now, &format!("{text}, not {intensity}"));
                }
            }
            Event::ThreadHeld { arbiter, zombies, .. } => {
                self.check_abandonment(now, place, *arbiter);
                if *zombies > self.config.workers.zombies_max {
                    self.note(now, &format!("{zombies} threads of {} are blocked and abandoned", self.names[place]));
                }
            }
            Event::TooManyZombies { arbiter, .. } => {
                self.threads.owed.remove(&(place, *arbiter));
                self.threads.refused.insert(place, now);
            }
            Event::Superseded { .. } => {
                self.note(now, &format!("{} finds itself superseded, by nobody", self.names[place]));
            }
            _ => {}
        }
    }

    pub(crate) fn thread_blocked(&mut self, now: u64, place: Place, arbiter: ArbiterId, duration: Duration) {
        /// Deadlines come up to a millisecond late, by construction.
        const SLACK: Duration = Duration::from_millis(2);
        self.threads.blocked.insert((place, arbiter), (now, now + nanos(duration)));
        let bound = self.config.workers.timeout + self.config.workers.interval + SLACK;
        if duration > bound {
            self.threads.owed.insert((place, arbiter), now + nanos(bound));
        }
    }

    pub(crate) fn shard_started(&mut self, now: u64, place: Place, shard: Shard) {
        let life = self.life(place);
        let (index, epoch) = (shard.index, shard.epoch.0);
        let first = *self.owners.entry((index, epoch)).or_insert((place, life));
        if first != (place, life) {
            let (other, here) = (&self.names[first.0], &self.names[place]);
            self.note(now, &format!("shard {index} has two owners at epoch {epoch}: {other} and {here}"));
        }
        let newest = self.epochs.entry((place, life, index)).or_insert(epoch);
        if epoch < *newest {
            let (newest, here) = (*newest, &self.names[place]);
            self.note(now, &format!("shard {index} starts on {here} at epoch {epoch}, after {newest}"));
        } else {
            *newest = epoch;
        }
    }

    /// Takes in that a shard has counted so far.
    pub(crate) fn counted(&mut self, shard: u32, count: u64) {
        let most = self.counts.entry(shard).or_default();
        *most = count.max(*most);
    }

    /// Takes in from where a shard goes on.
    pub(crate) fn took_over(&mut self, now: u64, place: Place, shard: Shard, count: u64) {
        let (index, here) = (shard.index, self.names[place].clone());
        let most = self.counts.get(&index).copied().unwrap_or_default();
        if count > most {
            self.note(now, &format!("shard {index} goes on from {count} on {here}, and nobody counted past {most}"));
        }
        if self.config.ownership.authority == AuthorityKind::View {
            return;
        }
        let newest = self.tokens.insert(index, shard.epoch.0).unwrap_or_default();
        // A local restart keeps its epoch; that no other node has it is looked at elsewhere.
        if shard.epoch.0 < newest {
            let epoch = shard.epoch.0;
            self.note(now, &format!("shard {index} starts on {here} at epoch {epoch}, after {newest} was given out"));
        }
    }

    /// Takes in who else may act for a shard while it is started: nobody, where a quorum is wanted.
    pub(crate) fn alone(&mut self, now: u64, place: Place, shard: Shard, others: &[Place]) {
        if let Some(&other) = others.first() {
            let (index, here, other) = (shard.index, &self.names[place], &self.names[other]);
            self.note(now, &format!("shard {index} starts on {here} while {other} has a lease of it"));
        }
    }

    pub(crate) fn generation(&mut self, now: u64, place: Place, worker: WorkerId, generation: Generation) {
        let life = self.life(place);
        let newest = self.generations.entry((place, life, worker)).or_insert(Generation(0));
        if generation <= *newest {
            let text = format!("{} gives {worker:?} {generation:?} after {newest:?}", self.names[place]);
            self.note(now, &text);
        } else {
            *newest = generation;
        }
    }

    /// Looks whether anything that was owed by now has not come.
    pub(crate) fn step(&mut self, now: u64) {
        let late = |due: &u64| *due < now;
        while let Some((&place, _)) = self.nodes.owed.iter().find(|(_, (due, _))| late(due)) {
            let Some((due, watched_by)) = self.nodes.owed.remove(&place) else { continue };
            // The brake has paced it: so many have died lately that it has to wait its turn.
            if self.nodes.died.iter().filter(|&&at| at + nanos(PACE) > due).count() >= PACE_LEAST {
                self.nodes.owed.insert(place, (due + nanos(PACE), watched_by));
                continue;
            }
            // Who hears less than half of the others holds its verdicts.
            let silent = self.nodes.paused.union(&self.nodes.killed).count();
            if (silent + self.nodes.left.len()) * 2 >= self.names.len() - 1 {
                continue;
            }
            self.note(now, &format!("the crash of {} was not noticed in time", self.names[place]));
        }
        while let Some((&(place, arbiter), _)) = self.threads.owed.iter().find(|(_, due)| late(due)) {
            self.threads.owed.remove(&(place, arbiter));
            self.note(now, &format!("{arbiter:?} of {} is blocked and was not replaced in time", self.names[place]));
        }
    }

    // ---- questions -----------------------------------------------------------------------------------------------------------------------

    /// Whatever was found broken, each with the command that shows it.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    /// Deaths that the monitor concluded.
    pub fn deaths(&self) -> u32 {
        self.nodes.deaths
    }

    /// The highest epoch under which a shard was ever started.
    pub fn newest_epoch(&self, shard: u32) -> Option<u64> {
        self.owners.range((shard, 0)..=(shard, u64::MAX)).next_back().map(|(&(_, epoch), _)| epoch)
    }

    /// Whether a shard that is a node's need not run there at `now`: it failed too often, or it may
    /// sit on a blocked thread that was one too many.
    pub(crate) fn may_be_down(&self, now: u64, place: Place, shard: u32) -> bool {
        let workers = &self.config.workers;
        let refused = self.threads.refused.get(&place);
        self.given_up.contains(&(place, self.life(place), format!("{GROUP}/{shard}")))
            || refused.is_some_and(|since| now - since <= nanos(workers.timeout + workers.interval))
    }

    // ---- nodes ---------------------------------------------------------------------------------------------------------------------------

    fn killed(&mut self, now: u64, place: Place, watched_by: &[Place]) {
        /// A datagram that is held back arrives at most this long after its sender died; see
        /// `Network::reordering`.
        const HELD_BACK: Duration = Duration::from_millis(1_100);
        const SLACK: Duration = Duration::from_millis(50);
        self.nodes.killed.insert(place);
        self.owe_nothing(place);
        let spare = self.spare();
        let is_new = |observer: &Place| self.nodes.started.get(observer).is_some_and(|&at| now - at <= spare);
        let was_well = |place: &Place| {
            self.nodes.hampered.get(place).is_none_or(|(_, until)| until.is_some_and(|end| now - end > spare))
        };
        let is_well = |observer: &Place| {
            !is_new(observer)
                && was_well(observer)
                && !self.nodes.killed.contains(observer)
                && !self.nodes.paused.contains(observer)
                && !self.nodes.left.contains(observer)
        };
        // Who was hampered lately may not have been heard by those who are to watch it.
        let is_quiet = self.nodes.cut.is_empty() && self.nodes.garbled.is_empty() && was_well(&place);
        if !watched_by.is_empty() && watched_by.iter().all(is_well) && is_quiet && self.nodes.members.contains(&place) {
            let slack = if self.nodes.disturbed { HELD_BACK + self.config.interval } else { SLACK };
            // Where several watch, most of them have to have missed it, and are asked.
            let asking = if watched_by.len() > 1 { self.config.interval * 2 } else { Duration::ZERO };
            // While its observers change, one that is new may be all there is to ask; that one's
            // word waits for the suspicion to be old.
            let wanted =
                (self.config.membership.observers as usize).min(self.pool() - usize::from(self.may_observe(place)));
            let changing = if watched_by.len() < wanted { self.config.timeout } else { Duration::ZERO };
            let due = now + nanos(self.config.timeout + changing + asking + slack);
            self.nodes.owed.insert(place, (due, watched_by.to_vec()));
        }
    }

    fn started(&mut self, now: u64, place: Place) {
        self.nodes.unknown.insert(place);
        self.nodes.started.insert(place, now);
        let ahead = self.nodes.ahead.get(&place).copied().unwrap_or_default();
        self.nodes.generations.insert(place, generation_at(now + ahead));
        *self.lives.entry(place).or_default() += 1;
        self.nodes.killed.remove(&place);
        self.nodes.paused.remove(&place);
        self.hampered(now);
        self.nodes.left.remove(&place);
        self.owe_nothing(place);
        self.threads.blocked.retain(|(here, _), _| *here != place);
    }

    /// Looks who is paused or cut off now, after that changed.
    fn hampered(&mut self, now: u64) {
        let spare = self.spare();
        for place in 0..self.names.len() {
            let is_hampered = self.is_hampered(place);
            if !is_hampered && !self.nodes.hampered.contains_key(&place) {
                continue;
            }
            let (since, until) = self.nodes.hampered.entry(place).or_insert((now, None));
            match (*until, is_hampered) {
                (Some(end), true) if now - end > spare => (*since, *until) = (now, None),
                (_, true) => *until = None,
                (None, false) => *until = Some(now),
                (Some(_), false) => {}
            }
        }
    }

    /// Whether a node is paused, or more than a third of those who may observe it cannot hear it.
    fn is_hampered(&self, place: Place) -> bool {
        let pool = self.pool();
        let unheard = (0..pool).filter(|&other| self.nodes.cut.contains(&(place, other))).count();
        self.nodes.paused.contains(&place)
            || self.nodes.garbled.contains(&place)
            || unheard * 3 > pool.saturating_sub(1)
    }

    fn may_observe(&self, place: Place) -> bool {
        self.shape.monitors == 0 || place < self.shape.monitors
    }

    /// How many may observe.
    fn pool(&self) -> usize {
        if self.shape.monitors > 0 { self.shape.monitors } else { self.names.len() }
    }

    /// What this place was to show is not owed any more; nor what it was to notice.
    fn owe_nothing(&mut self, place: Place) {
        self.nodes.owed.retain(|dead, (_, watched_by)| *dead != place && !watched_by.contains(&place));
        self.threads.owed.retain(|(here, _), _| *here != place);
    }

    fn joined(&mut self, member: &Member) {
        self.member(&member.name);
        // Whoever has just started itself may still hear of the process that was there before.
        if let Some(place) = self.place(&member.name)
            && self.nodes.generations.get(&place).is_none_or(|generation| *generation == member.generation)
        {
            self.nodes.unknown.remove(&place);
        }
    }

    fn member(&mut self, name: &str) {
        if let Some(place) = self.place(name) {
            self.nodes.members.insert(place);
        }
    }

    fn no_member(&mut self, name: &str) -> Option<Place> {
        let place = self.place(name)?;
        self.nodes.members.remove(&place);
        self.nodes.owed.remove(&place);
        Some(place)
    }

    fn check_death(&mut self, now: u64, judge: Place, place: Place) {
        let spare = self.spare();
        let was_long = |place: &Place, at_least: u64| {
            self.nodes.hampered.get(place).is_some_and(|&(since, until)| {
                let end = until.unwrap_or(now);
                now - end <= spare && end - since + spare > at_least
            })
        };
        let timeout = nanos(self.config.timeout);
        // On the lesser side of a partition everybody else is silent; who was paused himself has no
        // such excuse.
        let is_apart = was_long(&judge, timeout) && !self.nodes.paused.contains(&judge);
        let nodes = &self.nodes;
        let is_gone = [&nodes.killed, &nodes.left, &nodes.unknown].iter().any(|gone| gone.contains(&place));
        let is_new = nodes.started.get(&place).is_some_and(|&at| now - at <= timeout + spare);
        // Whom the judge cannot hear now goes on being silent to him.
        let was_silent = nodes.cut.contains(&(place, judge))
            && nodes.hampered.get(&place).is_some_and(|&(since, _)| now - since + spare > timeout);
        if !was_long(&place, timeout) && !was_silent && !is_apart && !is_gone && !is_new {
            self.note(
                now,
                &format!("{} concluded without cause that {} is dead", self.names[judge], self.names[place]),
            );
        }
    }

    /// How much longer than its cause a silence may be: an interval before it and one after it, and
    /// a heartbeat or two that got lost there.
    fn spare(&self) -> u64 {
        nanos(self.config.interval) * if self.nodes.disturbed { 4 } else { 2 }
    }

    // ---- workers -------------------------------------------------------------------------------------------------------------------------

    fn check_abandonment(&mut self, now: u64, place: Place, arbiter: ArbiterId) {
        self.threads.owed.remove(&(place, arbiter));
        self.threads.abandoned.insert(place, now);
        let workers = &self.config.workers;
        let blocked_for =
            self.threads.blocked.get(&(place, arbiter)).map_or(0, |&(since, until)| now.min(until) - since.min(now));
        // Its last sign of life came at most an interval before it was blocked.
        if blocked_for + nanos(workers.interval) < nanos(workers.timeout) {
            self.note(now, &format!("{arbiter:?} of {} was abandoned without cause", self.names[place]));
        }
    }

    fn check_failure(&mut self, now: u64, place: Place, worker: &str, cause: &Cause) {
        let abandoned_now = self.threads.abandoned.get(&place) == Some(&now);
        let harmed = self.harmed.contains(&(place, worker.to_owned()));
        let has_cause = match cause {
            Cause::Panicked { .. } | Cause::Stopped => harmed,
            Cause::Blocked { .. } => harmed && abandoned_now,
            Cause::Displaced { .. } => abandoned_now,
            _ => false,
        };
        if !has_cause {
            self.note(now, &format!("{worker} on {} failed without cause: {cause}", self.names[place]));
        }
    }

    /// A restart that takes place at `at`: with the `intensity`-th before it, it must not lie in
    /// one period.
    fn check_intensity(&mut self, at: u64, place: Place, worker: &str) {
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

    // ---- small things --------------------------------------------------------------------------------------------------------------------

    fn life(&self, place: Place) -> u64 {
        self.lives.get(&place).copied().unwrap_or_default()
    }

    fn place(&self, name: &str) -> Option<Place> {
        self.names.iter().position(|known| known == name)
    }

    fn note(&mut self, now: u64, text: &str) {
        let at = Duration::from_nanos(now.saturating_sub(1_000_000_000));
        self.broken.push(format!("at {at:.3?}: {text}; {}", replay(self.seed, self.shape)));
    }
}

/// The name of a worker in the simulated world.
fn worker_name(worker: WorkerId) -> String {
    match worker.0.checked_sub(WORKERS) {
        Some(index) => format!("{GROUP}/{index}"),
        None => format!("worker-{}", worker.0),
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// The command that shows a run again.
pub(crate) fn replay(seed: u64, shape: Shape) -> String {
    let Shape { monitors, nodes, .. } = shape;
    format!("cargo run -p heartbeat-tests --bin replay -- {seed} --nodes {nodes} --monitors {monitors}")
}
