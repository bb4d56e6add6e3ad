//! What others report about a silent node, and which reports count. One engine; the test answers
//! for all the others.

use std::net::SocketAddr;
use std::time::Duration;

use heartbeat_core::wire::{self, Ack, Body, Echo, Heartbeat, IndirectProbe, Observers, ProbeReport};
use heartbeat_core::{
    Config, Engine, Event, Generation, Identity, Incarnation, Input, Instant, Member, NodeId, Output, Status,
};

use crate::{header, member};

const SECOND: Duration = Duration::from_secs(1);
const GENERATION: Generation = Generation(7);

/// The others: one that is to fall silent, and two that watch it too.
const OTHERS: [&str; 3] = ["silent", "watcher-1", "watcher-2"];

fn ms(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 2 + index as u8], 7100))
}

fn other(index: usize) -> Member {
    member(OTHERS[index], GENERATION, address(index))
}

/// What the two watchers answer to a question.
type Answer = fn(&IndirectProbe) -> ProbeReport;

struct Cluster {
    engine: Engine,
    /// The newest slot in which the first of the others was heard.
    heard: u64,
    answer: Answer,
    told: Vec<Event>,
}

impl Cluster {
    /// The engine at 1 s, to which all are known.
    fn new(answer: Answer) -> Cluster {
        let text = "[detector]\nkind = 'fixed'\nsuspect_after = '3s'\n[membership]\nlifelines = false\n[cluster]\nname = 'sim'\n\
                    node = 'here'\nrole = 'worker'\nmode = 'random'\nlisten = '10.0.0.1:7100'\nseeds = []";
        let identity = Identity { generation: GENERATION, address: "10.0.0.1:7100".parse().unwrap() };
        let mut engine = Engine::new(Config::from_toml(text).unwrap(), identity, 1, ms(1_000)).unwrap();
        engine.handle(ms(1_000), Input::Recall([0, 1, 2].map(other).into()));
        Cluster { engine, heard: 0, answer, told: Vec::new() }
    }

    /// Lets time pass up to the end of this second, in which these of the others send their
    /// heartbeats.
    fn run(&mut self, seconds: std::ops::RangeInclusive<u64>, alive: &[usize]) {
        for second in seconds {
            let now = ms(second * 1_000);
            for &index in alive {
                let observers =
                    ["here"].into_iter().chain(OTHERS).filter(|name| *name != OTHERS[index]).map(NodeId::of);
                let heartbeat = Heartbeat {
                    incarnation: Incarnation::default(),
                    stage: second * wire::STAGES,
                    interval: SECOND,
                    slept: 0,
                    health: 0,
                    asks: false,
                    observers: Observers::new(observers),
                };
                self.say(now, index, &Body::Heartbeat(heartbeat));
            }
            if alive.contains(&0) {
                self.heard = second;
            }
            let end = ms(second * 1_000 + 999);
            while let Some(due) = self.engine.poll_timeout().filter(|&due| due <= end) {
                self.engine.handle(due, Input::Timeout);
                self.drain(due, alive);
            }
        }
    }

    /// One of the others says this.
    fn say(&mut self, now: Instant, index: usize, body: &Body<'_>) {
        let mut bytes = Vec::new();
        wire::encode(&mut bytes, header(&other(index)), body);
        self.engine.handle(now, Input::datagrams([(address(index), &*bytes)]));
    }

    /// Drains the engine's outputs. Each node in `alive` answers at once.
    fn drain(&mut self, now: Instant, alive: &[usize]) {
        let mut buffer = Vec::new();
        while let Some(output) = self.engine.poll_output(&mut buffer) {
            let to = match output {
                Output::Event(event) => {
                    self.told.push(event);
                    continue;
                }
                Output::Transmit { to, .. } => to,
                _ => continue,
            };
            let Some(index) = alive.iter().copied().find(|&index| address(index) == to) else { continue };
            let incarnation = Incarnation::default();
            let answer = match wire::decode(&buffer).unwrap().body {
                Body::Heartbeat(Heartbeat { stage, asks: true, .. }) => Body::Ack(Ack { stage, health: 0 }),
                Body::Probe { number } => Body::Echo(Echo { number, incarnation, is_observer: true }),
                Body::IndirectProbe(inquire) => {
                    let stage = self.heard * wire::STAGES;
                    Body::ProbeReport(ProbeReport { stage, ..(self.answer)(&inquire) })
                }
                _ => continue,
            };
            self.say(now, index, &answer);
        }
    }

    fn status(&self) -> Status {
        self.engine.members().find(|member| *member.name == *OTHERS[0]).unwrap().status
    }

    /// Who is named in the evidence of the first death.
    fn witnesses(&self) -> Vec<String> {
        let evidence = self.told.iter().find_map(|event| match event {
            Event::Died { evidence, .. } => Some(evidence),
            _ => None,
        });
        evidence.expect("it died").iter().map(|testimony| testimony.observer.to_string()).collect()
    }
}

/// "I have not heard it either, and would not call it dead."
fn doubtful(inquire: &IndirectProbe, health: u8) -> ProbeReport {
    let IndirectProbe { number, target, generation, .. } = *inquire;
    ProbeReport {
        number,
        target,
        generation,
        stage: 0,
        silence: SECOND * 4,
        reached: false,
        gone: false,
        agrees: false,
        health,
    }
}

/// All are heard for ten seconds, then the first falls silent for fifteen: what became of it.
fn silent_for_long(answer: Answer) -> Cluster {
    let mut cluster = Cluster::new(answer);
    cluster.run(1..=10, &[0, 1, 2]);
    assert_eq!(cluster.status(), Status::Alive);
    cluster.run(11..=25, &[1, 2]);
    cluster
}

#[test]
fn a_death_takes_a_majority_of_the_answers() {
    let cluster = silent_for_long(|inquire| ProbeReport { agrees: true, ..doubtful(inquire, 0) });
    assert_eq!(
        (cluster.status(), cluster.witnesses()),
        (Status::Dead, ["here", OTHERS[1], OTHERS[2]].map(String::from).into())
    );
    assert_eq!(silent_for_long(|inquire| doubtful(inquire, 0)).status(), Status::Suspect);
}

#[test]
fn reports_of_unhealthy_observers_do_not_count() {
    // At the edge: at three they are still believed.
    assert_eq!(silent_for_long(|inquire| doubtful(inquire, 3)).status(), Status::Suspect);
    let cluster = silent_for_long(|inquire| doubtful(inquire, 4));
    assert_eq!((cluster.status(), cluster.witnesses()), (Status::Dead, vec!["here".to_owned()]));
    // A report that the node was reached counts, however unhealthy the observer is.
    let cluster =
        silent_for_long(|inquire| ProbeReport { reached: true, silence: Duration::ZERO, ..doubtful(inquire, 8) });
    assert_eq!(cluster.status(), Status::Alive);
    assert!(cluster.told.iter().all(|event| !matches!(event, Event::Suspected { .. })), "{:?}", cluster.told);
}
