//! A random program of a few actors: what they do when they start, and what they are sent when.

use heartbeat_core::Random;

/// Instant of a program's last event that counts, in milliseconds.
pub(crate) const HORIZON_MS: u64 = 100_000;

/// Something that an actor does.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// A timer that does more.
    Later { id: u32, after_ms: u64, then: Vec<Act> },
    /// A timer that ticks some times.
    Interval { id: u32, every_ms: u64, times: u32 },
    /// A future that sleeps and then does more.
    Spawn { id: u32, sleep_ms: u64, then: Vec<Act> },
    /// A future that is waited for.
    Wait { id: u32, sleep_ms: u64 },
    /// A message to itself.
    Notify(Plan),
    /// A message to itself, later.
    NotifyLater { id: u32, after_ms: u64, plan: Plan },
    /// A stream of items.
    Stream { id: u32, every_ms: u64, count: u32 },
    /// A stream of messages.
    Messages { every_ms: u64, plan: Plan, count: u32 },
    /// The timer, future or stream of this number is cancelled.
    Cancel(u32),
    /// A message to an actor, whose answer it handles.
    Send { to: usize, plan: Plan },
    /// A message to an actor.
    Post { to: usize, plan: Plan },
    /// It stops.
    Stop,
    /// It ends.
    Terminate,
}

/// How a message is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// At once.
    Now,
    /// By a future that sees the actor.
    Actor { after_ms: u64 },
    /// By a future that does not.
    Future { after_ms: u64 },
    /// By a future that other messages wait for.
    Atomic { after_ms: u64 },
}

/// What a message has its actor do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) id: u32,
    pub(crate) acts: Vec<Act>,
    pub(crate) reply: Reply,
}

/// A message that comes from outside.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) at_ms: u64,
    pub(crate) to: usize,
    pub(crate) plan: Plan,
}

/// What one actor is like.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    /// What it does when it starts.
    pub(crate) begins: Vec<Act>,
    /// How often it goes on when it is asked whether it stops.
    pub(crate) stays: u32,
}

/// A program.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) roles: Vec<Role>,
    /// In the order of their instants.
    pub(crate) steps: Vec<Step>,
}

struct Draw {
    random: Random,
    next: u32,
    actors: usize,
}

impl Program {
    /// The program of this seed.
    pub(crate) fn of(seed: u64) -> Program {
        let mut random = Random::seeded(seed);
        let actors = 1 + random.below(3) as usize;
        let mut draw = Draw { random, next: 0, actors };
        let roles = (0..actors).map(|_| draw.role()).collect();
        let count = 1 + draw.random.below(8);
        let mut steps: Vec<Step> = (0..count).map(|_| draw.step()).collect();
        steps.sort_by_key(|step| step.at_ms);
        Program { roles, steps }
    }

    /// Programs that lack one thing each, the largest first.
    pub(crate) fn shorter(&self) -> Vec<Program> {
        let mut shorter = Vec::new();
        for index in 0..self.steps.len() {
            let mut less = self.clone();
            less.steps.remove(index);
            shorter.push(less);
        }
        for (index, role) in self.roles.iter().enumerate() {
            for begins in without_one(&role.begins) {
                let mut less = self.clone();
                less.roles[index].begins = begins;
                shorter.push(less);
            }
            if role.stays > 0 {
                let mut less = self.clone();
                less.roles[index].stays = 0;
                shorter.push(less);
            }
        }
        for (index, step) in self.steps.iter().enumerate() {
            for acts in without_one(&step.plan.acts) {
                let mut less = self.clone();
                less.steps[index].plan.acts = acts;
                shorter.push(less);
            }
        }
        shorter
    }
}

/// Lists that lack one act, or one of the acts within an act.
fn without_one(acts: &[Act]) -> Vec<Vec<Act>> {
    let mut shorter = Vec::new();
    for (index, act) in acts.iter().enumerate() {
        let mut less = acts.to_vec();
        less.remove(index);
        shorter.push(less);
        let inner = match act {
            Act::Later { then, .. } | Act::Spawn { then, .. } => then,
            Act::Notify(plan) | Act::NotifyLater { plan, .. } | Act::Messages { plan, .. } => &plan.acts,
            Act::Send { plan, .. } | Act::Post { plan, .. } => &plan.acts,
            Act::Interval { .. } | Act::Wait { .. } | Act::Stream { .. } | Act::Cancel(_) => continue,
            Act::Stop | Act::Terminate => continue,
        };
        for fewer in without_one(inner) {
            let mut less = acts.to_vec();
            match &mut less[index] {
                Act::Later { then, .. } | Act::Spawn { then, .. } => *then = fewer,
                Act::Notify(plan) | Act::NotifyLater { plan, .. } | Act::Messages { plan, .. } => plan.acts = fewer,
                Act::Send { plan, .. } | Act::Post { plan, .. } => plan.acts = fewer,
                Act::Interval { .. } | Act::Wait { .. } | Act::Stream { .. } | Act::Cancel(_) => {}
                Act::Stop | Act::Terminate => {}
            }
            shorter.push(less);
        }
    }
    shorter
}

impl Draw {
    fn id(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// Far apart for the most part: what happens at one instant may happen in any order.
    fn pause_ms(&mut self) -> u64 {
        1 + self.random.below(4_000)
    }

    fn role(&mut self) -> Role {
        let begins = (0..self.random.below(3)).map(|_| self.act(2)).collect();
        Role { begins, stays: if self.random.below(4) == 0 { 1 + self.random.below(2) as u32 } else { 0 } }
    }

    fn step(&mut self) -> Step {
        let (at_ms, to) = (self.random.below(10_000), self.random.below(self.actors as u64) as usize);
        Step { at_ms, to, plan: self.plan(2) }
    }

    fn plan(&mut self, depth: u32) -> Plan {
        let count = if depth == 0 { 0 } else { self.random.below(4) };
        let (id, acts) = (self.id(), (0..count).map(|_| self.act(depth - 1)).collect());
        let after_ms = self.pause_ms();
        let reply = match self.random.below(6) {
            0..=2 => Reply::Now,
            3 => Reply::Actor { after_ms },
            4 => Reply::Future { after_ms },
            _ => Reply::Atomic { after_ms: 1 + after_ms / 4 },
        };
        Plan { id, acts, reply }
    }

    fn acts(&mut self, depth: u32) -> Vec<Act> {
        if depth == 0 { Vec::new() } else { (0..self.random.below(3)).map(|_| self.act(depth - 1)).collect() }
    }

    fn act(&mut self, depth: u32) -> Act {
        let (id, pause) = (self.id(), self.pause_ms());
        let to = self.random.below(self.actors as u64) as usize;
        let count = 1 + self.random.below(4) as u32;
        match self.random.below(26) {
            0..=2 => Act::Later { id, after_ms: pause, then: self.acts(depth) },
            3 | 4 => Act::Interval { id, every_ms: pause, times: count },
            5..=7 => Act::Spawn { id, sleep_ms: pause, then: self.acts(depth) },
            8..=10 => Act::Wait { id, sleep_ms: pause },
            11 | 12 => Act::Notify(self.plan(depth)),
            13 | 14 => Act::NotifyLater { id, after_ms: pause, plan: self.plan(depth) },
            15 | 16 => Act::Stream { id, every_ms: pause, count },
            17 => Act::Messages { every_ms: pause, plan: self.plan(depth), count },
            18 | 19 => Act::Cancel(self.random.below(u64::from(id) + 8) as u32),
            20..=22 => Act::Send { to, plan: self.plan(depth) },
            23 => Act::Post { to, plan: self.plan(depth) },
            24 => Act::Stop,
            _ if self.random.below(2) == 0 => Act::Terminate,
            _ => Act::Stop,
        }
    }
}
