//! `threads`: the threads that run workers, and what the silence of a thread means.
//!
//! A thread is silent for one of three reasons: it sleeps in a call, it runs without returning, or
//! it gets no CPU. Only the first two are caused by a worker. So before a verdict the operating
//! system is asked what the thread did since its last beat. The time in which it *waited for a CPU*
//! is subtracted, and the rest decides. It slept: blocked. It ran: spinning. It waited: starved,
//! and nothing follows. Where the system cannot be asked, the answer is coarser: the thread was
//! held.
//!
//! A held thread cannot be killed. It is counted, and a fresh one replaces it in its slot. The
//! neighbours of the worker that holds it may wait for it. It then gets a slot of its own with
//! those workers, and when it comes back it goes on there like any other. A held thread for which
//! no worker waits is abandoned: if it comes back, it ends. Above `zombies_max` no thread is
//! replaced, since every replacement could be held as well.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ctx::Ctx;
use crate::detection::monitor::{ReceivedHeartbeat, WatchId};
use crate::detection::{AnyDetector, Fixed};
use crate::event::{Cause, Event};
use crate::member::{ArbiterId, CpuTimes, Target, ThreadSample, ThreadSlotId, ThreadState, WorkerActivity};
use crate::output::Output;
use crate::time::Instant;

/// The longest wait for a CPU that is assumed beyond what the system has counted. A thread that is
/// runnable now may have waited since its last accounting. Of the time counted neither as running
/// nor as waiting, at most this much is taken for such a wait, and the rest for sleep. One wait
/// ends within a period of the scheduler or of a CPU quota: tens to hundreds of milliseconds.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// How many slots there are for held threads with waiting workers. They are reused in turn. There
/// are far more slots than threads that can be held at once.
const OWN_SLOTS: u32 = 1 << 24;
/// The pause before the next attempt to make a thread, after an attempt that failed: this much at
/// first, doubling up to `RETRY_MAX`. A missing resource is seldom back within a second, and a user
/// seldom waits longer than half a minute.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// The threads of this process that run workers.
#[derive(Clone, Debug, Default)]
pub(super) struct Threads {
    slots: BTreeMap<ThreadSlotId, ThreadSlot>,
    arbiters: BTreeMap<ArbiterId, Arbiter>,
    next: u32,
    /// Held threads, both those with waiting workers and those that were abandoned.
    zombies: u32,
    /// Counts the slots made for held threads with waiting workers. They have the highest numbers.
    next_own: u32,
}

#[derive(Clone, Debug)]
struct ThreadSlot {
    arbiter: ArbiterId,
    /// How many workers use its thread.
    workers: u32,
    /// The shortest `timeout` of its workers.
    timeout: Duration,
    /// Set since its thread could not be made, until a beat arrives from one.
    lack: Option<Lack>,
}

/// The thread of a slot could not be made.
#[derive(Clone, Copy, Debug)]
struct Lack {
    /// The pause before the next attempt, or before the one that is being made.
    pause: Duration,
    /// When the next attempt is due; `NEVER` while it is being made.
    retry_at: Instant,
}

#[derive(Clone, Debug)]
struct Arbiter {
    thread_slot: ThreadSlotId,
    state: State,
    /// Its CPU times at its last beat.
    times: Option<CpuTimes>,
    /// Whether `Event::Starved` was emitted since its last beat.
    starved_reported: bool,
    /// When to inspect it again; `NEVER` if the monitor reports its silence.
    inspect_at: Instant,
    /// When an inspection first found no worker busy, if the last one did. The worker has let go of
    /// the thread by then, and the beat is on its way.
    idle_since: Option<Instant>,
}

/// How far a thread is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Running(WatchId),
    /// Held since then, and the workers in its slot wait for it.
    Held(Instant),
    /// Abandoned, and not back yet.
    Zombie,
}

/// A held thread that has come back to the workers that waited for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Returned {
    pub(super) thread_slot: ThreadSlotId,
    pub(super) held_for: Duration,
    pub(super) zombies: u32,
}

/// What the silence of a thread means.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum ThreadVerdict {
    /// It is not silent any more, or is not watched any more.
    Alive,
    /// Nothing yet. Inspect it again then.
    Later(Instant),
    /// It is held, but the limit of held threads is reached.
    TooMany,
    /// It is held, and was silent for this long: call [`Threads::replace`]. The cause is that of
    /// the worker that holds it, if one does.
    Lost { thread_slot: ThreadSlotId, silence: Duration, cause: Option<Cause> },
}

impl Threads {
    /// Makes a thread for a slot that has none.
    pub(super) fn open(&mut self, thread_slot: ThreadSlotId, timeout: Duration, ctx: &mut Ctx) -> ArbiterId {
        let arbiter = ArbiterId(self.next);
        self.next += 1;
        let state = State::Running(watch(arbiter, timeout, ctx));
        // A thread without a beat so far had used nothing before it was made.
        let times = Some(CpuTimes::default());
        let fresh = Arbiter {
            thread_slot,
            state,
            times,
            starved_reported: false,
            inspect_at: Instant::NEVER,
            idle_since: None,
        };
        self.arbiters.insert(arbiter, fresh);
        self.slots.entry(thread_slot).or_insert(ThreadSlot { arbiter, workers: 0, timeout, lack: None }).arbiter =
            arbiter;
        ctx.push(Output::Spawn { arbiter });
        arbiter
    }

    /// Adds a worker to a slot, and returns the slot's thread, which is made if need be. The worker
    /// may hold the thread for `timeout`.
    pub(super) fn assign_worker(&mut self, thread_slot: ThreadSlotId, timeout: Duration, ctx: &mut Ctx) -> ArbiterId {
        if !self.slots.contains_key(&thread_slot) {
            self.open(thread_slot, timeout, ctx);
        }
        let Some(here) = self.slots.get_mut(&thread_slot) else { return ArbiterId(u32::MAX) };
        here.workers += 1;
        let arbiter = here.arbiter;
        if timeout < here.timeout {
            here.timeout = timeout;
            if let Some(Arbiter { state: State::Running(watched), .. }) = self.arbiters.get_mut(&arbiter) {
                ctx.monitor.unwatch(*watched);
                *watched = watch(arbiter, timeout, ctx);
            }
        }
        arbiter
    }

    /// Removes a worker from a slot. A thread without workers ends, unless it is a shared one.
    pub(super) fn release_worker(&mut self, thread_slot: ThreadSlotId, ctx: &mut Ctx) {
        let Some(here) = self.slots.get_mut(&thread_slot) else { return };
        here.workers -= 1;
        if here.workers > 0 || thread_slot.0 < ctx.config.workers.arbiters {
            return;
        }
        let arbiter = here.arbiter;
        self.slots.remove(&thread_slot);
        match self.arbiters.get(&arbiter).map(|arbiter| arbiter.state) {
            Some(State::Running(watch)) => ctx.monitor.unwatch(watch),
            Some(State::Held(_)) => return self.abandon(arbiter, ctx),
            Some(State::Zombie) => {}
            // There is no thread to dismiss if it could not be made.
            None => return,
        }
        self.arbiters.remove(&arbiter);
        ctx.push(Output::Dismiss { arbiter });
    }

    /// Abandons a held thread for which no worker waits.
    fn abandon(&mut self, id: ArbiterId, ctx: &mut Ctx) {
        if let Some(arbiter) = self.arbiters.get_mut(&id) {
            arbiter.state = State::Zombie;
        }
        ctx.push(Output::Abandon { arbiter: id });
        ctx.emit(Event::Abandoned { arbiter: id, zombies: self.zombies });
    }

    /// The thread of a slot.
    pub(super) fn at(&self, thread_slot: ThreadSlotId) -> ArbiterId {
        self.slots.get(&thread_slot).map_or(ArbiterId(u32::MAX), |thread_slot| thread_slot.arbiter)
    }

    /// Whether the thread of a slot is held, and its workers wait for it.
    pub(super) fn is_held(&self, thread_slot: ThreadSlotId) -> bool {
        let arbiter = self.slots.get(&thread_slot).and_then(|thread_slot| self.arbiters.get(&thread_slot.arbiter));
        arbiter.is_some_and(|arbiter| matches!(arbiter.state, State::Held(_)))
    }

    /// All threads that were made and have not ended, in the order of their numbers.
    pub(super) fn all(&self) -> impl Iterator<Item = (ArbiterId, ThreadSlotId, State)> {
        self.arbiters.iter().map(|(id, arbiter)| (*id, arbiter.thread_slot, arbiter.state))
    }

    /// The shortest timeout of the workers of a slot, and how many they are.
    pub(super) fn slot(&self, thread_slot: ThreadSlotId) -> Option<(Duration, u32)> {
        self.slots.get(&thread_slot).map(|slot| (slot.timeout, slot.workers))
    }

    /// How many threads are known to be held now.
    pub(super) fn zombies(&self) -> u32 {
        self.zombies
    }

    /// The threads that should run workers now.
    pub(super) fn running(&self) -> Vec<ArbiterId> {
        self.slots.values().map(|thread_slot| thread_slot.arbiter).collect()
    }

    /// Handles a beat. Returns what was waiting if the thread was held until now.
    pub(super) fn beat(
        &mut self,
        id: ArbiterId,
        slot: u64,
        times: Option<CpuTimes>,
        ctx: &mut Ctx,
    ) -> Option<Returned> {
        let arbiter = self.arbiters.get_mut(&id)?;
        let (watch, returned) = match arbiter.state {
            State::Zombie => return None,
            State::Running(watch) => (watch, None),
            State::Held(since) => {
                let timeout = self.slots.get(&arbiter.thread_slot)?.timeout;
                let watch = watch(id, timeout, ctx);
                arbiter.state = State::Running(watch);
                self.zombies -= 1;
                let held_for = ctx.now - since;
                (watch, Some(Returned { thread_slot: arbiter.thread_slot, held_for, zombies: self.zombies }))
            }
        };
        (arbiter.times, arbiter.starved_reported, arbiter.inspect_at) = (times, false, Instant::NEVER);
        if let Some(thread_slot) = self.slots.get_mut(&arbiter.thread_slot) {
            thread_slot.lack = None;
        }
        arbiter.idle_since = None;
        let interval = ctx.config.workers.interval;
        ctx.monitor
            .heartbeat(watch, ReceivedHeartbeat { at: ctx.now, slot, interval, slept: 0, waited: ctx.arrivals_stale });
        returned
    }

    /// The thread of a slot, if it has been silent for longer than two of its intervals.
    pub(super) fn silent(&self, thread_slot: ThreadSlotId, ctx: &Ctx) -> Option<ArbiterId> {
        let id = self.at(thread_slot);
        let State::Running(watch) = self.arbiters.get(&id)?.state else { return None };
        (ctx.monitor.silence(watch, ctx.now) > ctx.config.workers.interval * 2).then_some(id)
    }

    /// Decides what the silence of a thread means. `blamed` is the activity that the thread began
    /// last, which may take `limit`.
    pub(super) fn judge(
        &mut self,
        id: ArbiterId,
        blamed: Option<WorkerActivity>,
        limit: Duration,
        seen: Option<ThreadSample>,
        deadlines_from: Instant,
        ctx: &mut Ctx,
    ) -> ThreadVerdict {
        let Some(arbiter) = self.arbiters.get_mut(&id) else { return ThreadVerdict::Alive };
        let State::Running(watch) = arbiter.state else { return ThreadVerdict::Alive };
        let Some(timeout) = self.slots.get(&arbiter.thread_slot).map(|thread_slot| thread_slot.timeout) else {
            return ThreadVerdict::Alive;
        };
        let silence = ctx.monitor.silence(watch, ctx.now);
        if silence < timeout.min(ctx.config.workers.interval * 2) {
            return ThreadVerdict::Alive;
        }
        // A thread that was just released stays silent until its next beat has arrived, which may
        // take a while on a busy machine. So if no worker is busy, the silence counts from the
        // first inspection that found this: the thread is then lost to something else.
        arbiter.idle_since = if blamed.is_none() { arbiter.idle_since.or(Some(ctx.now)) } else { None };
        let since = blamed.map(|busy| busy.since).or(arbiter.idle_since).unwrap_or(ctx.now);
        let busy_for = ctx.now - since.max(deadlines_from);
        let used = seen.zip(arbiter.times).map(|(seen, before)| Used::between(before, seen, silence));
        let waited = used.map_or(Duration::ZERO, |used| used.waited);
        let stuck = busy_for.saturating_sub(waited);
        // A short wait for a CPU is normal, and needs no other inspection.
        if busy_for < limit || stuck < limit - limit / 10 {
            if waited > silence / 2 && !arbiter.starved_reported {
                arbiter.starved_reported = true;
                ctx.emit(Event::Starved { arbiter: id, waited_for: waited });
            }
            let step = if waited.is_zero() { ctx.config.stall.min(limit / 10) } else { limit / 10 };
            let rest = if busy_for < limit { limit - busy_for } else { (limit - stuck).max(step) };
            return ThreadVerdict::Later(ctx.now + rest);
        }
        if self.zombies >= ctx.config.workers.zombies_max {
            ctx.emit(Event::TooManyZombies { arbiter: id, zombies: self.zombies });
            return ThreadVerdict::TooMany;
        }
        let thread_slot = arbiter.thread_slot;
        let cause = blamed.map(|busy| match used {
            None => Cause::HeldThread { during: busy.doing, busy_for },
            Some(used) if used.ran * 2 >= stuck => {
                Cause::Spinning { during: busy.doing, busy_for, ran_for: used.ran.min(busy_for) }
            }
            Some(_) => Cause::Blocked { during: busy.doing, busy_for },
        });
        ThreadVerdict::Lost { thread_slot, silence, cause }
    }

    /// Counts the thread of a slot as held, and makes a fresh one for the slot. `waiting` workers
    /// wait for the held one. It then moves to a slot of its own, which is returned. Without
    /// waiting workers it is abandoned.
    pub(super) fn replace(
        &mut self,
        thread_slot: ThreadSlotId,
        waiting: u32,
        silence: Duration,
        ctx: &mut Ctx,
    ) -> ThreadSlotId {
        let Some(here) = self.slots.get_mut(&thread_slot) else { return thread_slot };
        let (id, timeout) = (here.arbiter, here.timeout);
        here.workers -= waiting;
        let is_needed = here.workers > 0 || thread_slot.0 < ctx.config.workers.arbiters;
        let Some(arbiter) = self.arbiters.get_mut(&id) else { return thread_slot };
        if let State::Running(watch) = arbiter.state {
            ctx.monitor.unwatch(watch);
        }
        arbiter.inspect_at = Instant::NEVER;
        arbiter.state = State::Held(ctx.now - silence);
        self.zombies += 1;
        let own = if waiting > 0 { self.own_slot() } else { thread_slot };
        if waiting > 0 {
            self.slots.insert(own, ThreadSlot { arbiter: id, workers: waiting, timeout, lack: None });
            if let Some(arbiter) = self.arbiters.get_mut(&id) {
                arbiter.thread_slot = own;
            }
        } else {
            self.abandon(id, ctx);
        }
        if is_needed {
            self.open(thread_slot, timeout, ctx);
        } else {
            self.slots.remove(&thread_slot);
        }
        own
    }

    /// A slot that no worker was given.
    fn own_slot(&mut self) -> ThreadSlotId {
        loop {
            let thread_slot = ThreadSlotId(u32::MAX - self.next_own);
            self.next_own = (self.next_own + 1) % OWN_SLOTS;
            if !self.slots.contains_key(&thread_slot) {
                return thread_slot;
            }
        }
    }

    /// Has a silent thread inspected again at this instant, unless a beat arrives before.
    pub(super) fn inspect_again(&mut self, id: ArbiterId, at: Instant) {
        if let Some(arbiter) = self.arbiters.get_mut(&id) {
            arbiter.inspect_at = at;
        }
    }

    /// The threads that are to be inspected by `now`.
    pub(super) fn due(&mut self, now: Instant) -> Vec<ArbiterId> {
        let due = |arbiter: &Arbiter| arbiter.inspect_at <= now;
        let ids: Vec<ArbiterId> = self.arbiters.iter().filter(|(_, arbiter)| due(arbiter)).map(|(&id, _)| id).collect();
        for id in &ids {
            self.inspect_again(*id, Instant::NEVER);
        }
        ids
    }

    /// When `due` or `retry` has something to do next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let looks = self.arbiters.values().map(|arbiter| arbiter.inspect_at);
        let retries = self.slots.values().filter_map(|thread_slot| thread_slot.lack).map(|lack| lack.retry_at);
        looks.chain(retries).min().filter(|&at| at != Instant::NEVER)
    }

    /// Handles that a thread could not be made: it is tried again after a pause. Returns its slot.
    pub(super) fn not_made(&mut self, id: ArbiterId, reason: &str, ctx: &mut Ctx) -> Option<ThreadSlotId> {
        let State::Running(watch) = self.arbiters.get(&id)?.state else { return None };
        ctx.monitor.unwatch(watch);
        let thread_slot = self.arbiters.remove(&id)?.thread_slot;
        let here = self.slots.get_mut(&thread_slot)?;
        let pause = here.lack.map_or(RETRY_MIN, |lack| (lack.pause * 2).min(RETRY_MAX));
        here.lack = Some(Lack { pause, retry_at: ctx.now + pause });
        ctx.emit(Event::NoThread { arbiter: id, reason: reason.into(), retry_in: pause });
        Some(thread_slot)
    }

    /// Whether a slot waits for the next attempt to make its thread.
    pub(super) fn lacks_thread(&self, thread_slot: ThreadSlotId) -> bool {
        self.slots
            .get(&thread_slot)
            .and_then(|thread_slot| thread_slot.lack)
            .is_some_and(|lack| lack.retry_at != Instant::NEVER)
    }

    /// Tries again to make the threads whose pause is over. Returns their slots.
    pub(super) fn retry(&mut self, ctx: &mut Ctx) -> Vec<ThreadSlotId> {
        let mut due = Vec::new();
        for (&thread_slot, here) in &mut self.slots {
            if let Some(lack) = &mut here.lack
                && lack.retry_at <= ctx.now
            {
                lack.retry_at = Instant::NEVER;
                due.push((thread_slot, here.timeout));
            }
        }
        for &(thread_slot, timeout) in &due {
            self.open(thread_slot, timeout, ctx);
        }
        due.into_iter().map(|(thread_slot, _)| thread_slot).collect()
    }

    /// Replaces a thread that has ended. Returns its slot.
    pub(super) fn replace_dead(&mut self, id: ArbiterId, ctx: &mut Ctx) -> Option<ThreadSlotId> {
        match self.arbiters.get(&id)?.state {
            State::Running(watch) => ctx.monitor.unwatch(watch),
            State::Held(_) => {
                self.zombies -= 1;
                ctx.emit(Event::ZombieEnded { arbiter: id, zombies: self.zombies });
            }
            State::Zombie => return None,
        }
        let thread_slot = self.arbiters.remove(&id)?.thread_slot;
        let timeout = self.slots.get(&thread_slot)?.timeout;
        self.open(thread_slot, timeout, ctx);
        Some(thread_slot)
    }

    /// Handles that an abandoned thread came back and ended.
    pub(super) fn ended(&mut self, id: ArbiterId, ctx: &mut Ctx) {
        if self.arbiters.get(&id).is_some_and(|arbiter| arbiter.state == State::Zombie) {
            self.arbiters.remove(&id);
            self.zombies -= 1;
            ctx.emit(Event::ZombieEnded { arbiter: id, zombies: self.zombies });
        }
    }
}

/// Watches a thread from now on.
fn watch(arbiter: ArbiterId, timeout: Duration, ctx: &mut Ctx) -> WatchId {
    let detector = AnyDetector::Fixed(Fixed::new(timeout, ctx.config.workers.interval, ctx.now));
    ctx.monitor.watch(Target::Arbiter(arbiter), detector, timeout, ctx.now)
}

/// How a thread spent its silence.
#[derive(Clone, Copy)]
struct Used {
    ran: Duration,
    waited: Duration,
}

impl Used {
    fn between(before: CpuTimes, seen: ThreadSample, silence: Duration) -> Used {
        let ran = seen.times.ran.saturating_sub(before.ran);
        let waited = seen.times.waited.saturating_sub(before.waited);
        let rest = silence.saturating_sub(ran + waited);
        match seen.state {
            ThreadState::Sleeping => Used { ran, waited },
            // A wait is counted by the system only when it is over.
            ThreadState::Runnable => Used { ran, waited: waited + rest.min(WAIT_MAX) },
            // Another process stopped it; no worker is the cause.
            ThreadState::Stopped => Used { ran, waited: waited + rest },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::ctx;
    use super::*;
    use crate::member::{Activity, WorkerId};

    const SLOT: ThreadSlotId = ThreadSlotId(0);
    const LIMIT: Duration = Duration::from_secs(5);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// One thread that was made at 0 and has sent no beat; returns its number.
    fn silent() -> (Threads, Ctx, ArbiterId) {
        let (mut threads, mut ctx) = (Threads::default(), ctx());
        let arbiter = threads.assign_worker(SLOT, LIMIT, &mut ctx);
        ctx.outputs.clear();
        (threads, ctx, arbiter)
    }

    /// Judges a thread that has been busy since 0, `silence` later.
    fn judge(silence: Duration, seen: Option<(ThreadState, u64, u64)>) -> (ThreadVerdict, Ctx) {
        let (mut threads, mut ctx, arbiter) = silent();
        ctx.now += silence;
        let busy = WorkerActivity { worker: WorkerId(0), doing: Activity::Message("M"), since: Instant::ZERO };
        let seen = seen.map(|(state, ran, waited)| ThreadSample {
            state,
            times: CpuTimes { ran: millis(ran), waited: millis(waited) },
        });
        (threads.judge(arbiter, Some(busy), LIMIT, seen, Instant::ZERO, &mut ctx), ctx)
    }

    #[track_caller]
    fn check_held(seen: Option<(ThreadState, u64, u64)>, expected: Cause) {
        let (verdict, _) = judge(LIMIT, seen);
        assert_eq!(verdict, ThreadVerdict::Lost { thread_slot: SLOT, silence: LIMIT, cause: Some(expected) });
    }

    #[test]
    fn a_thread_is_held_exactly_at_its_limit() {
        let short = Duration::from_nanos(1);
        assert_eq!(judge(LIMIT - short, None).0, ThreadVerdict::Later(Instant::ZERO + LIMIT));
        check_held(None, Cause::HeldThread { during: Activity::Message("M"), busy_for: LIMIT });
    }

    #[test]
    fn a_thread_that_ran_for_half_of_its_silence_spins() {
        let (during, busy_for) = (Activity::Message("M"), LIMIT);
        check_held(Some((ThreadState::Sleeping, 2_499, 0)), Cause::Blocked { during, busy_for });
        let ran_for = millis(2_500);
        check_held(Some((ThreadState::Sleeping, 2_500, 0)), Cause::Spinning { during, busy_for, ran_for });
    }

    #[test]
    fn time_spent_waiting_for_a_cpu_is_not_held_against_a_worker() {
        let (verdict, ctx) = judge(LIMIT, Some((ThreadState::Runnable, 0, 4_000)));
        assert!(matches!(verdict, ThreadVerdict::Later(at) if at > ctx.now));
        let starved = Event::Starved { arbiter: ArbiterId(0), waited_for: LIMIT };
        assert_eq!(ctx.outputs, [Output::Event(starved)]);
        // A tenth of the limit is normal.
        assert!(matches!(judge(LIMIT, Some((ThreadState::Sleeping, 0, 500))).0, ThreadVerdict::Lost { .. }));
        assert!(matches!(judge(LIMIT, Some((ThreadState::Sleeping, 0, 501))).0, ThreadVerdict::Later(_)));
    }

    #[test]
    fn a_thread_with_a_recent_beat_is_alive() {
        let (mut threads, mut ctx, arbiter) = silent();
        ctx.now += LIMIT;
        assert_eq!(threads.beat(arbiter, 1, None, &mut ctx), None);
        assert_eq!(threads.judge(arbiter, None, LIMIT, None, Instant::ZERO, &mut ctx), ThreadVerdict::Alive);
        assert_eq!(threads.judge(ArbiterId(9), None, LIMIT, None, Instant::ZERO, &mut ctx), ThreadVerdict::Alive);
    }

    #[test]
    fn at_the_limit_of_held_threads_none_is_replaced() {
        let (mut threads, mut ctx, arbiter) = silent();
        threads.zombies = ctx.config.workers.zombies_max;
        ctx.now += LIMIT;
        let busy = WorkerActivity { worker: WorkerId(0), doing: Activity::Drop, since: Instant::ZERO };
        let verdict = threads.judge(arbiter, Some(busy), LIMIT, None, Instant::ZERO, &mut ctx);
        assert_eq!(verdict, ThreadVerdict::TooMany);
    }

    #[test]
    fn a_held_thread_is_abandoned_unless_workers_wait_for_it() {
        for waiting in [0, 1] {
            let (mut threads, mut ctx, arbiter) = silent();
            let own = threads.replace(SLOT, waiting, LIMIT, &mut ctx);
            assert_eq!((threads.zombies(), threads.is_held(own)), (1, waiting == 1));
            assert_ne!(threads.at(SLOT), arbiter, "the slot has a fresh thread");
            assert_eq!(ctx.outputs.contains(&Output::Abandon { arbiter }), waiting == 0);
            ctx.now += LIMIT;
            let returned = threads.beat(arbiter, 1, None, &mut ctx);
            assert_eq!(returned.map(|returned| returned.thread_slot), (waiting == 1).then_some(own));
            assert_eq!(threads.zombies(), u32::from(waiting == 0));
            threads.ended(arbiter, &mut ctx);
            assert_eq!(threads.zombies(), 0);
        }
    }

    #[test]
    fn a_thread_that_cannot_be_made_is_tried_again_ever_later() {
        let (mut threads, mut ctx, _) = silent();
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            let arbiter = threads.at(SLOT);
            assert_eq!(threads.not_made(arbiter, "no memory", &mut ctx), Some(SLOT));
            let pause = Duration::from_secs(seconds);
            assert_eq!(threads.next_due(), Some(ctx.now + pause));
            ctx.now += pause - Duration::from_nanos(1);
            assert!(threads.retry(&mut ctx).is_empty() && threads.lacks_thread(SLOT));
            ctx.now += Duration::from_nanos(1);
            assert_eq!(threads.retry(&mut ctx), [SLOT]);
            assert!(!threads.lacks_thread(SLOT));
        }
    }

    #[test]
    fn a_thread_of_its_own_ends_with_its_last_worker() {
        let (mut threads, mut ctx) = (Threads::default(), ctx());
        let own = ThreadSlotId(ctx.config.workers.arbiters);
        let arbiter = threads.assign_worker(own, LIMIT, &mut ctx);
        assert_eq!(threads.assign_worker(own, LIMIT, &mut ctx), arbiter);
        ctx.outputs.clear();
        threads.release_worker(own, &mut ctx);
        assert!(ctx.outputs.is_empty());
        threads.release_worker(own, &mut ctx);
        assert_eq!(ctx.outputs, [Output::Dismiss { arbiter }]);
    }

    #[test]
    fn a_shared_thread_outlives_its_workers() {
        let (mut threads, mut ctx, arbiter) = silent();
        threads.release_worker(SLOT, &mut ctx);
        assert!(ctx.outputs.is_empty() && threads.at(SLOT) == arbiter);
    }
}
