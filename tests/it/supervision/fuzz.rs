//! Under random commands and failures, the engine never does what it must never do.

use std::time::Duration;

use heartbeat_core::config::OnThreadHeld;
use heartbeat_core::{
    ArbiterId, AutoShutdown, Child, Config, Counting, GroupId, Health, Input, Random, RestartKind, StatusSample,
    Strategy, Supervise, SuperviseGroup, ThreadSlotId, WorkerId,
};

use super::play::{Play, Seed};

const WORKERS: u64 = 10;
const GROUPS: u64 = 4;
const PERIOD: Duration = Duration::from_secs(20);

fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.below(from.len() as u64) as usize]
}

/// Adds a worker or a group that does not exist yet.
fn add_child(random: &mut Random, play: &mut Play, workers: &mut Vec<u32>, groups: &mut Vec<u32>, next: &mut u32) {
    let parent = GroupId(pick(random, groups));
    let kind = pick(random, &[RestartKind::Permanent, RestartKind::Transient, RestartKind::Temporary]);
    if random.below(3) == 0 && groups.len() as u64 <= GROUPS {
        *next += 1;
        groups.push(*next);
        play.group_with(SuperviseGroup {
            group: GroupId(*next),
            name: format!("g{next}").into(),
            parent,
            strategy: pick(random, &[Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne]),
            counting: pick(random, &[Counting::Together, Counting::Each]),
            auto_shutdown: pick(random, &[AutoShutdown::Never, AutoShutdown::AnySignificant]),
            dynamic: random.below(4) == 0,
            kind,
            significant: kind != RestartKind::Permanent,
            restart: None,
        });
    } else if let Some(id) = (0..WORKERS as u32).find(|id| !workers.contains(id)) {
        workers.push(id);
        let place = ThreadSlotId(pick(random, &[0, 1, 2, 3 + id]));
        let worker = Supervise::new(WorkerId(id), format!("w{id}"), 2);
        let wait = OnThreadHeld::Wait { timeout: Duration::from_secs(random.below(20)) };
        let on_thread_held = pick(random, &[None, Some(OnThreadHeld::StartAnew), Some(wait)]);
        play.worker_with(Supervise {
            group: parent,
            kind,
            thread_slot: place,
            significant: true,
            on_thread_held,
            ..worker
        });
    }
}

/// Drops the workers and groups that were removed, and all that was in them.
fn forget(play: &mut Play, workers: &mut Vec<u32>, groups: &mut Vec<u32>) {
    use heartbeat_core::Output;
    for output in play.outputs.drain(..) {
        match output {
            Output::Forget { worker } => workers.retain(|id| *id != worker.0),
            Output::ForgetGroup { group } => groups.retain(|id| *group != *format!("g{id}")),
            _ => {}
        }
    }
}

/// Something is asked of a worker or a group, or one of them is taken on.
fn ask(random: &mut Random, play: &mut Play, known: &mut Known) {
    let child = match random.below(3) {
        0 if known.groups.len() > 1 => Child::Group(GroupId(pick(random, &known.groups[1..]))),
        _ => Child::Worker(WorkerId(random.below(WORKERS) as u32)),
    };
    match random.below(7) {
        0..=2 => add_child(random, play, &mut known.workers, &mut known.groups, &mut known.next),
        3 => play.order(|engine, now| engine.handle(now, Input::Start(child))),
        4 => play.order(|engine, now| engine.handle(now, Input::Restart(child))),
        5 => play.order(|engine, now| engine.handle(now, Input::Stop(child))),
        _ => play.order(|engine, now| engine.handle(now, Input::Remove(child))),
    }
}

/// Sends a command to a worker or a group that exists.
fn command(random: &mut Random, play: &mut Play, known: &Known) {
    let mut children: Vec<Child> = known.workers.iter().map(|&id| Child::Worker(WorkerId(id))).collect();
    children.extend(known.groups[1..].iter().map(|&id| Child::Group(GroupId(id))));
    if children.is_empty() {
        return;
    }
    let child = pick(random, &children);
    match random.below(7) {
        0 | 1 => play.order(|engine, now| engine.handle(now, Input::Start(child))),
        2 | 3 => play.order(|engine, now| engine.handle(now, Input::Restart(child))),
        4 | 5 => play.order(|engine, now| engine.handle(now, Input::Stop(child))),
        _ => play.order(|engine, now| engine.handle(now, Input::Remove(child))),
    }
}

/// Something happens to a worker that runs.
fn befall(random: &mut Random, play: &mut Play) {
    let free: Vec<WorkerId> = play.running.keys().copied().filter(|id| !play.held.contains_key(&play.at[id])).collect();
    if free.is_empty() {
        return;
    }
    let worker = pick(random, &free);
    match random.below(6) {
        0 => play.panic(worker),
        1 | 2 => play.panic_with_leave(worker, random.below(2) == 0),
        3 => play.finish(worker),
        4 => play.hold(worker),
        _ => {
            let look = StatusSample {
                worker,
                generation: play.running[&worker],
                is_waiting: random.below(2) == 0,
                queued: 1,
                is_overloaded: random.below(4) == 0,
                progress: random.below(2),
                health: pick(random, &[Health::Ok, Health::NotReady, Health::Failed]),
            };
            play.order(|engine, now| engine.handle(now, Input::Looks(vec![look])));
        }
    }
}

/// Something happens to a thread.
fn befall_thread(random: &mut Random, play: &mut Play) {
    let threads: Vec<ArbiterId> = play.threads.iter().copied().collect();
    let held: Vec<ArbiterId> = play.held.keys().copied().collect();
    let zombies: Vec<ArbiterId> = play.zombies.iter().copied().collect();
    match random.below(4) {
        0 if random.below(4) == 0 => play.kill(pick(random, &threads)),
        1 if !held.is_empty() => {
            play.held.remove(&pick(random, &held));
            play.drain();
        }
        2 if !zombies.is_empty() => {
            let zombie = pick(random, &zombies);
            play.zombies.remove(&zombie);
            play.order(|engine, now| engine.handle(now, Input::ArbiterEnded(zombie)));
        }
        _ => {}
    }
}

/// Time passes, now and then without a wake-up of the engine; and a random worker becomes more or
/// less willing to start and stop.
fn pass(random: &mut Random, play: &mut Play) {
    let worker = WorkerId(random.below(WORKERS) as u32);
    if !play.stubborn.remove(&worker) {
        play.stubborn.insert(worker);
    }
    if random.below(4) == 0 && !play.sluggish.remove(&worker) {
        play.sluggish.insert(worker);
    }
    if random.below(8) == 0 {
        play.now += random.duration_below(Duration::from_secs(60));
        play.order(|engine, now| engine.handle(now, Input::Timeout));
    }
    for _ in 0..random.below(8) {
        play.advance(Duration::from_millis(500));
        let slot = play.now.as_nanos();
        play.beat(slot);
    }
}

/// Who was taken on and not forgotten.
struct Known {
    workers: Vec<u32>,
    groups: Vec<u32>,
    next: u32,
}

/// Seeds to run: as many as `HEARTBEAT_SEEDS` says, or `usual`.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    0..std::env::var("HEARTBEAT_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(usual)
}

/// A queue that is open has a reader, or a start that comes by itself. All faults are over, and
/// nothing more is asked.
#[track_caller]
fn assert_that_no_queue_is_unread(play: &mut Play, seed: u64) {
    play.come_to_rest();
    assert_eq!(play.unread(), [], "seed {seed}: these take messages, and nothing reads them");
}

/// Orders at any instant, to children and to groups that are starting, stopping or waiting, leave
/// no queue without a reader.
#[test]
fn no_order_leaves_an_open_queue_without_a_reader() {
    let config = Config::from_toml("[restart]\nintensity = 3\nperiod = '20s'\ndelay_max = '1s'").unwrap();
    for seed in seeds(6_000) {
        let _seed = Seed(seed);
        let mut random = Random::seeded(seed);
        let mut play = Play::with(config.clone());
        let mut known = Known { workers: vec![], groups: vec![0], next: 0 };
        for _ in 0..2 + random.below(6) {
            add_child(&mut random, &mut play, &mut known.workers, &mut known.groups, &mut known.next);
        }
        for id in known.workers.clone() {
            if random.below(2) == 0 {
                play.stubborn.insert(WorkerId(id));
            }
            if random.below(3) == 0 {
                play.sluggish.insert(WorkerId(id));
            }
        }
        for _ in 0..1 + random.below(12) {
            match random.below(10) {
                0 => befall(&mut random, &mut play),
                1 => pass(&mut random, &mut play),
                2 => ask(&mut random, &mut play, &mut known),
                _ => command(&mut random, &mut play, &known),
            }
            forget(&mut play, &mut known.workers, &mut known.groups);
        }
        assert_that_no_queue_is_unread(&mut play, seed);
    }
}

#[test]
fn random_commands_and_failures_keep_every_invariant() {
    let settings = "workers.leave_timeout = '20s'\nworkers.zombies_max = 3\n\
        [restart]\nintensity = 3\nperiod = '20s'\ndelay_max = '1s'";
    let config = Config::from_toml(settings).unwrap();
    for seed in seeds(1_000) {
        let _seed = Seed(seed);
        let mut random = Random::seeded(seed);
        let mut play = Play::with(config.clone());
        play.answers = true;
        let mut known = Known { workers: vec![], groups: vec![0], next: 0 };
        for _ in 0..150 {
            match random.below(10) {
                0..=3 => ask(&mut random, &mut play, &mut known),
                4..=6 => befall(&mut random, &mut play),
                7 => befall_thread(&mut random, &mut play),
                _ => pass(&mut random, &mut play),
            }
            forget(&mut play, &mut known.workers, &mut known.groups);
            // Each worker that runs was added and has not been removed.
            let strangers = play.running.keys().find(|id| !known.workers.contains(&id.0));
            assert_eq!(strangers, None, "seed {seed}: {:?} of {:?}", play.running, known.workers);
            assert!(play.zombies.len() <= 3, "seed {seed}");
            // Two threads for all workers, and one for each worker with a thread of its own.
            assert!(play.threads.len() <= 2 + known.workers.len(), "seed {seed}");
        }
        if seed % 2 == 0 {
            assert_that_no_queue_is_unread(&mut play, seed);
            forget(&mut play, &mut known.workers, &mut known.groups);
        }
        play.order(|engine, now| engine.handle(now, Input::Leave));
        play.advance(Duration::from_millis(20_002));
        assert!(play.engine.has_left(), "seed {seed}");
        assert!(play.running.is_empty(), "seed {seed}: {:?}", play.running);
        assert_eq!(play.unread(), [], "seed {seed}: a node that has left takes no message");
    }
}

#[test]
fn no_window_ever_holds_more_restarts_than_the_intensity() {
    for seed in 0..300 {
        for counting in [Counting::Each, Counting::Together] {
            let mut random = Random::seeded(seed);
            let mut play = Play::new("[restart]\nintensity = 3\nperiod = '20s'\ndelay_min = '0s'\ndelay_max = '0s'");
            let group = play.group_with(SuperviseGroup {
                group: GroupId(1),
                name: "g1".into(),
                parent: GroupId::ROOT,
                strategy: Strategy::OneForOne,
                counting,
                auto_shutdown: AutoShutdown::Never,
                dynamic: false,
                kind: RestartKind::Temporary,
                significant: false,
                restart: None,
            });
            let workers: Vec<WorkerId> = (0..2).map(|id| play.worker(id, group, RestartKind::Permanent)).collect();
            let (mut restarts, mut panics) = (vec![], 0);
            while let Some(&victim) =
                workers.iter().filter(|id| play.running.contains_key(id)).nth(random.below(2) as usize)
            {
                play.panic(victim);
                panics += 1;
                if play.running.contains_key(&victim) {
                    restarts.push((play.now, victim));
                }
                play.advance(Duration::from_millis(random.below(14_000)));
                assert!(panics < 10_000, "seed {seed}: it never ends");
                if panics > 100 {
                    break;
                }
            }
            for &(at, victim) in &restarts {
                let same = |other: &WorkerId| counting == Counting::Together || *other == victim;
                let window = restarts.iter().filter(|(then, other)| same(other) && *then <= at && at - *then < PERIOD);
                assert!(window.count() <= 3, "seed {seed}, {counting:?}: {restarts:?}");
            }
        }
    }
}
