//! The stall guard. A node that was paused attributes no silence to others and learns nothing from
//! it, and it still detects deaths in time.

use std::time::Duration;

use heartbeat_core::config::{DetectorKind, PhiReading};
use heartbeat_core::member::name_hash;
use heartbeat_core::wire::{self, Body, Header, Heartbeat, Observers};
use heartbeat_core::{Config, Engine, Event, Generation, Identity, Input, Instant, Member, NodeId, Output, Status};
use heartbeat_sim::{Fault, World};

use crate::events::{
    is_about, is_death, is_death_of, is_failure, is_isolated, is_move, is_paused, is_suspicion, is_suspicion_of, seen,
    seen_after, seen_by,
};
use crate::{after, check_well};

/// Every detector, and what to call it.
pub(crate) fn detectors() -> [(&'static str, Config); 5] {
    let with = |kind, reading| {
        let mut config = Config::default();
        (config.detector.kind, config.detector.reading) = (kind, reading);
        config
    };
    [
        ("fixed", with(DetectorKind::Fixed, PhiReading::Akka)),
        ("chen", with(DetectorKind::Chen, PhiReading::Akka)),
        ("phi, akka", with(DetectorKind::Phi, PhiReading::Akka)),
        ("phi, cassandra", with(DetectorKind::Phi, PhiReading::Cassandra)),
        ("budget", with(DetectorKind::Budget, PhiReading::Akka)),
    ]
}

/// A world of a monitor and four nodes on a network whose every datagram takes equally long, forty
/// seconds old.
fn regular_world(mut config: Config, timers_first: bool) -> World {
    config.membership.lifelines = false;
    let mut world = World::new(7, 4, config);
    world.timers_first = timers_first;
    world.network.delay_mean = Duration::ZERO;
    world.run(Duration::from_secs(40));
    world
}

/// Seconds from a kill of node-2, at the same instant in every world of this age, to the monitor's
/// first verdict. The monitor's reading of Cassandra never suspects, because its threshold and its
/// timeout are far apart here.
fn judged_after(world: &mut World, age: u64) -> f64 {
    world.run(Duration::from_secs(age).saturating_sub(world.elapsed()) + Duration::from_millis(700));
    let killed = world.elapsed();
    after(world, Fault::Kill(2), 10);
    let is_verdict = |event: &Event| (is_suspicion(event) || is_death(event)) && is_about(event, "node-2");
    (seen_by(world, "monitor", is_verdict)[0].at - killed).as_secs_f64()
}

#[test]
fn a_monitor_that_slept_suspects_no_node() {
    for (kind, config) in detectors() {
        for (seconds, timers_first) in [(5, false), (5, true), (60, false), (60, true)] {
            let mut world = regular_world(config.clone(), timers_first);
            let monitor = world.node("monitor");
            after(&mut world, Fault::Pause(monitor), seconds);
            after(&mut world, Fault::Resume(monitor), 30);
            let name = format!("{kind}, {seconds} s, timers first: {timers_first}");
            assert_eq!(seen_by(&world, "monitor", is_paused).len(), 1, "{name}");
            let is_wrong =
                |event: &Event| is_suspicion(event) || is_death(event) || is_failure(event) || is_move(event);
            assert_eq!(seen_after(&world, Duration::from_secs(40), is_wrong), [], "{name}");
            check_well(&world);
            let slept = judged_after(&mut world, 140);
            let awake = judged_after(&mut regular_world(config.clone(), timers_first), 140);
            assert!((slept - awake).abs() < 0.05, "{name}: judged after {slept} s, else after {awake} s");
        }
    }
}

#[test]
fn a_clock_jump_of_the_monitor_is_no_silence() {
    for (kind, config) in detectors() {
        for (seconds, timers_first) in [(2, false), (15, false), (15, true), (600, false)] {
            let mut world = regular_world(config.clone(), timers_first);
            let monitor = world.node("monitor");
            after(&mut world, Fault::JumpClock(monitor, Duration::from_secs(seconds)), 60);
            let name = format!("{kind}, {seconds} s, timers first: {timers_first}");
            assert_eq!(seen_by(&world, "monitor", is_paused).len(), 1, "{name}");
            let is_wrong = |event: &Event| is_suspicion(event) || is_death(event);
            assert_eq!(seen_after(&world, Duration::from_secs(40), is_wrong), [], "{name}");
            check_well(&world);
            let jumped = judged_after(&mut world, 140);
            let steady = judged_after(&mut regular_world(config.clone(), timers_first), 140);
            assert!((jumped - steady).abs() < 0.05, "{name}: judged after {jumped} s, else after {steady} s");
        }
    }
}

#[test]
fn a_node_that_slept_does_not_suspect_the_monitor() {
    for (kind, config) in detectors() {
        for (seconds, timers_first) in [(5, false), (5, true), (60, false), (60, true)] {
            let mut world = regular_world(config.clone(), timers_first);
            let node_1 = world.node("node-1");
            after(&mut world, Fault::Pause(node_1), seconds);
            after(&mut world, Fault::Resume(node_1), 30);
            assert_eq!(seen_by(&world, "node-1", is_paused).len(), 1, "{kind}");
            assert_eq!(seen_by(&world, "node-1", is_isolated), [], "{kind}");
            check_well(&world);
        }
    }
}

#[test]
fn a_death_before_or_during_our_pause_is_still_found() {
    for (kind, config) in detectors() {
        for (seconds, during, timers_first) in
            [(5, false, false), (5, true, true), (60, false, true), (60, true, false)]
        {
            let mut world = regular_world(config.clone(), timers_first);
            let [monitor, node_2] = ["monitor", "node-2"].map(|name| world.node(name));
            let killed = world.elapsed();
            if during {
                after(&mut world, Fault::Pause(monitor), 1);
                after(&mut world, Fault::Kill(node_2), seconds - 1);
            } else {
                after(&mut world, Fault::Kill(node_2), 1);
                after(&mut world, Fault::Pause(monitor), seconds);
            }
            after(&mut world, Fault::Resume(monitor), 20);
            let name = format!("{kind}, {seconds} s, during: {during}");
            let died = (seen_by(&world, "monitor", is_death_of("node-2"))[0].at - killed).as_secs_f64();
            let bound = (config.timeout + config.interval).as_secs_f64() + seconds as f64;
            assert!(died > seconds as f64 && died < bound, "{name}: dead after {died} s");
            // These two may take longer than the timeout: the former's threshold is high, the
            // latter has yet to learn.
            let suspects = !["phi, cassandra", "budget"].contains(&kind);
            assert!(!suspects || seen_by(&world, "monitor", is_suspicion_of("node-2")).len() == 1, "{name}");
            assert_eq!(seen_by(&world, "monitor", is_death).len(), 1, "{name}");
            check_well(&world);
        }
    }
}

#[test]
fn a_death_is_put_off_by_no_more_than_the_stalls() {
    for (kind, mut config) in detectors() {
        for stall in [100, 250] {
            config.stall = Duration::from_millis(stall);
            let mut world = regular_world(config.clone(), false);
            let [monitor, node_2] = ["monitor", "node-2"].map(|name| world.node(name));
            let killed = world.elapsed();
            world.apply(Fault::Kill(node_2));
            for _ in 0..10 {
                world.apply(Fault::Pause(monitor));
                world.run(Duration::from_millis(300));
                world.apply(Fault::Resume(monitor));
                world.run(Duration::from_millis(1_700));
            }
            let died = (seen_by(&world, "monitor", is_death_of("node-2"))[0].at - killed).as_secs_f64();
            let timeout = config.timeout.as_secs_f64();
            let stalls = (died / 2.0).ceil() * 0.3;
            assert!(died > timeout - 1.0 && died < timeout + stalls + 1.0, "{kind}: dead after {died} s");
            let is_of_another = |event: &Event| is_death(event) && !is_about(event, "node-2");
            assert_eq!(seen(&world, is_of_another), [], "{kind}");
            // Every one of them is longer than one stall of 100 ms and shorter than two of 250 ms;
            // only the former must show.
            assert!(stall > 100 || seen_by(&world, "monitor", is_paused).len() == 10, "{kind}");
        }
    }
}

/// A monitor alone, and a node whose datagrams the test writes.
pub(crate) struct Lone {
    pub(crate) engine: Engine,
    pub(crate) told: Vec<Event>,
    pub(crate) drains: usize,
    /// The latest token that it was sent.
    token: u64,
    me: Member,
}

const NODE: &str = "node-1";

impl Lone {
    /// The monitor at 1 s, with the node joined.
    pub(crate) fn new(mut config: Config) -> Lone {
        let cluster = "[cluster]\nname = 'sim'\nnode = 'monitor'\nrole = 'monitor'\nmode = 'central'\nlisten = '10.0.0.1:1'\nseeds = ['10.0.0.1:1']";
        config.cluster = Config::from_toml(cluster).unwrap().cluster;
        let identity = Identity { generation: Generation(5), address: "10.0.0.1:1".parse().unwrap() };
        let engine = Engine::new(config, identity, 1, ms(1_000)).unwrap();
        let me = crate::member(NODE, Generation(7), "10.0.0.2:1".parse().unwrap());
        let mut lone = Lone { engine, told: Vec::new(), drains: 0, token: 0, me };
        let mut bytes = Vec::new();
        for _ in 0..2 {
            wire::encode_join(&mut bytes, header(), lone.token, &lone.me);
            lone.hand_over(ms(1_000), &bytes);
        }
        lone
    }

    /// A heartbeat of the node; it contradicts if it is suspected.
    pub(crate) fn beat(&mut self, at: Instant, slot: u64, interval: Duration) {
        if self.status() == Status::Suspect {
            self.me.incarnation = self.me.incarnation.refuted().expect("far from its end");
        }
        let incarnation = self.me.incarnation;
        let (stage, observers) = (slot * wire::STAGES, Observers::new([NodeId::of("monitor")]));
        let heartbeat = Heartbeat { incarnation, stage, interval, slept: 0, health: 0, asks: false, observers };
        let mut bytes = Vec::new();
        wire::encode(&mut bytes, header(), &Body::Heartbeat(heartbeat));
        self.hand_over(at, &bytes);
    }

    /// One heartbeat a second, from slot 1 at 1 s to this slot, with all timeouts that are due
    /// between.
    fn beats_up_to(&mut self, last: u64) {
        for slot in 1..=last {
            self.run(ms(slot * 1_000));
            self.beat(ms(slot * 1_000), slot, Duration::from_secs(1));
        }
    }

    /// Does what is due up to this instant, each at its own.
    pub(crate) fn run(&mut self, end: Instant) {
        while let Some(due) = self.engine.poll_timeout().filter(|&due| due <= end) {
            self.engine.handle(due, Input::Timeout);
            self.drain();
        }
    }

    pub(crate) fn order(&mut self, input: impl FnOnce(&mut Engine)) {
        input(&mut self.engine);
        self.drain();
    }

    fn hand_over(&mut self, at: Instant, bytes: &[u8]) {
        self.order(|engine| engine.handle(at, Input::datagrams([("10.0.0.2:1".parse().unwrap(), bytes)])));
    }

    fn drain(&mut self) {
        let mut buffer = Vec::new();
        while let Some(output) = self.engine.poll_output(&mut buffer) {
            match output {
                Output::Event(event) => self.told.push(event),
                Output::Drain => self.drains += 1,
                Output::Transmit { .. } => {
                    if let Body::Challenge { token } = wire::decode(&buffer).unwrap().body {
                        self.token = token;
                    }
                }
                _ => {}
            }
        }
    }

    pub(crate) fn status(&self) -> Status {
        let status = |member: &Member| (*member.name == *NODE).then_some(member.status);
        self.engine.members().find_map(status).expect("it has joined")
    }

    fn pauses(&self) -> Vec<Duration> {
        let late_by = |event: &Event| match event {
            Event::Paused { late_by } => Some(*late_by),
            _ => None,
        };
        self.told.iter().filter_map(late_by).collect()
    }
}

fn header() -> Header {
    Header { cluster: name_hash("sim") as u32, from: NodeId::of(NODE), generation: Generation(7), clock: 0 }
}

fn ms(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// Suspect after 3 s, dead after 6 s, an interval of 1 s.
fn fixed() -> Config {
    let [(_, config), ..] = detectors();
    config
}

#[test]
fn no_verdict_falls_before_the_socket_was_drained() {
    let mut lone = Lone::new(fixed());
    lone.beats_up_to(20);
    // Silent for 5.9 s when we fall asleep, so an interval of grace is all that is left.
    lone.run(ms(25_900));
    assert_eq!(lone.status(), Status::Suspect);
    lone.order(|engine| engine.handle(ms(60_000), Input::Timeout));
    assert_eq!((lone.drains, lone.pauses().len()), (1, 1));
    // A look before the waking does not count; nor is anything judged while it is awaited.
    lone.order(|engine| engine.handle(ms(59_999), Input::Drained));
    lone.run(ms(60_999));
    assert_eq!(lone.status(), Status::Suspect);
    // Two heartbeats that had waited.
    lone.beat(ms(60_999), 58, Duration::from_secs(1));
    lone.beat(ms(60_999), 59, Duration::from_secs(1));
    lone.order(|engine| engine.handle(ms(60_999), Input::Drained));
    assert_eq!(lone.status(), Status::Alive);
    lone.run(ms(63_999));
    assert_eq!(lone.status(), Status::Alive);
    lone.run(ms(64_001));
    assert_eq!(lone.status(), Status::Suspect);
    lone.run(ms(67_001));
    assert_eq!(lone.status(), Status::Dead);
}

#[test]
fn an_undrained_socket_holds_verdicts_for_one_interval() {
    let mut lone = Lone::new(fixed());
    lone.beats_up_to(20);
    lone.run(ms(25_900));
    // Waking and pausing again, and never a word that the socket is empty.
    for pause in 0..4 {
        lone.order(|engine| engine.handle(ms(60_000 + pause * 10_300), Input::Timeout));
        lone.run(ms(60_350 + pause * 10_300));
    }
    assert_eq!((lone.drains, lone.status()), (4, Status::Dead));
    assert!(lone.engine.poll_timeout().unwrap() > ms(91_200), "it is not woken in vain");
}

#[test]
fn a_pause_between_two_slots_is_found() {
    let mut lone = Lone::new(fixed());
    lone.beats_up_to(20);
    lone.run(ms(20_300));
    lone.beat(ms(20_300), 21, Duration::from_secs(1));
    lone.order(|engine| engine.handle(ms(20_801), Input::Timeout));
    assert_eq!(lone.pauses(), [Duration::from_millis(251)]);
    // A pause that is not longer than `stall` is never found, at any phase.
    for step in 1..400 {
        lone.order(|engine| engine.handle(ms(20_801 + step * 250), Input::Timeout));
    }
    assert_eq!(lone.pauses().len(), 1);
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut lone = Lone::new(fixed());
    lone.beats_up_to(20);
    let due = lone.engine.poll_timeout();
    for back in [19_999, 5_000, 0] {
        lone.order(|engine| engine.handle(ms(back), Input::Timeout));
        lone.order(|engine| engine.handle(ms(back), Input::Drained));
        lone.order(|engine| engine.handle(ms(back), Input::WallClock(Duration::ZERO)));
        lone.beat(ms(back), 20, Duration::from_secs(1));
    }
    assert_eq!(lone.engine.poll_timeout(), due);
    lone.beat(ms(10_000), 21, Duration::from_secs(1));
    lone.run(ms(23_000));
    assert_eq!((lone.status(), lone.pauses()), (Status::Alive, vec![]), "the heartbeat counts as of 20 s");
    lone.run(ms(23_001));
    assert_eq!(lone.status(), Status::Suspect);
    lone.order(|engine| engine.handle(Instant::NEVER, Input::Timeout));
    lone.order(|engine| engine.handle(ms(23_001), Input::Timeout));
    assert_eq!(lone.pauses().len(), 1);
}

#[test]
fn a_wall_clock_ahead_is_a_pause_and_one_set_back_is_not() {
    let mut lone = Lone::new(fixed());
    let wall = |seconds: u64| Duration::from_secs(1_700_000_000 + seconds);
    lone.order(|engine| engine.handle(ms(1_000), Input::WallClock(wall(1))));
    lone.beats_up_to(20);
    lone.run(ms(25_900));
    lone.order(|engine| engine.handle(ms(25_900), Input::WallClock(wall(3_600))));
    assert_eq!((lone.drains, lone.pauses()), (1, vec![Duration::from_millis(3_574_100)]));
    lone.order(|engine| engine.handle(ms(25_900), Input::Drained));
    lone.run(ms(26_900));
    assert_eq!(lone.status(), Status::Suspect, "an interval for a heartbeat to arrive in");
    lone.run(ms(26_901));
    assert_eq!(lone.status(), Status::Dead);
    lone.order(|engine| engine.handle(ms(27_000), Input::WallClock(wall(0))));
    lone.order(|engine| engine.handle(ms(27_100), Input::WallClock(wall(0))));
    assert_eq!(lone.pauses().len(), 1);
}
