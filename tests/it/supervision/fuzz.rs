//! Whatever is asked and whatever fails, what must never happen does not.

use std::time::Duration;

use heartbeat_core::{
    AutoShutdown, Child, Counting, GroupId, PlaceId, Random, RestartKind, Strategy, Supervise, SuperviseGroup, WorkerId,
};

use super::play::Play;

const WORKERS: u64 = 10;
const GROUPS: u64 = 4;
const PERIOD: Duration = Duration::from_secs(20);

fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.below(from.len() as u64) as usize]
}

/// Takes on a worker or a group that is not there.
fn take_on(random: &mut Random, play: &mut Play, workers: &mut Vec<u32>, groups: &mut Vec<u32>, next: &mut u32) {
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
        let place = PlaceId(pick(random, &[0, 1, 2, 3 + id]));
        let worker = Supervise::new(WorkerId(id), format!("w{id}"), 2);
        play.worker_with(Supervise { group: parent, kind, place, significant: true, ..worker });
    }
}

/// Whoever was removed is not there any more, nor what was in it.
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

#[test]
fn random_orders_and_failures_break_nothing_and_leaving_ends_everything() {
    for seed in 0..1_000 {
        let mut random = Random::seeded(seed);
        let mut play = Play::new("workers.leave = '20s'\n[restart]\nintensity = 3\nperiod = '20s'\ndelay_max = '1s'");
        let (mut workers, mut groups, mut next) = (vec![], vec![0], 0);
        for _ in 0..120 {
            let running: Vec<WorkerId> = play.running.keys().copied().collect();
            let someone = WorkerId(random.below(WORKERS) as u32);
            let child = match random.below(3) {
                0 if groups.len() > 1 => {
                    Child::Group(GroupId(groups[1 + random.below(groups.len() as u64 - 1) as usize]))
                }
                _ => Child::Worker(someone),
            };
            match random.below(12) {
                0..=2 => take_on(&mut random, &mut play, &mut workers, &mut groups, &mut next),
                3..=5 if !running.is_empty() => play.panic(pick(&mut random, &running)),
                6 if !running.is_empty() => play.finish(pick(&mut random, &running)),
                7 => play.order(|engine, now| engine.start(now, child)),
                8 => play.order(|engine, now| engine.restart(now, child)),
                9 => play.order(|engine, now| engine.stop(now, child)),
                10 => play.order(|engine, now| engine.remove(now, child)),
                _ => {
                    if !play.stubborn.remove(&someone) {
                        play.stubborn.insert(someone);
                    }
                    if random.below(4) == 0 && !play.sluggish.remove(&someone) {
                        play.sluggish.insert(someone);
                    }
                    let time = Duration::from_millis(random.below(4_000));
                    play.advance(time);
                    let slot = play.now.as_nanos();
                    play.beat(slot);
                }
            }
            forget(&mut play, &mut workers, &mut groups);
            // Whoever runs is one whom somebody has taken on and nobody has removed.
            assert!(
                play.running.keys().all(|id| workers.contains(&id.0)),
                "seed {seed}: {:?} of {workers:?}",
                play.running
            );
        }
        play.order(|engine, now| engine.leave(now));
        play.advance(Duration::from_secs(21));
        assert!(play.engine.has_left(), "seed {seed}");
        assert!(play.running.is_empty(), "seed {seed}: {:?}", play.running);
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
