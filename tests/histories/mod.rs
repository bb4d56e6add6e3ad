//! Histories of messages: random sends, faults and commands, after which every send must have been
//! answered.
//!
//! A history is a list of steps that follows from a seed. The same [`player`] plays it in the
//! virtual time of the test kit or on real threads, against a node with single workers, groups, a
//! template and a pool. Afterwards no send may be unanswered, no message may be left anywhere, and
//! the sums of all `MessageCounts` must be right in every column.
//!
//! It does not say *which* answer a send gets: that depends on the instant. Other tests hold that.

pub mod player;
pub mod server;

use std::fmt::Write;
use std::time::Duration;

use heartbeat_actors::group::Strategy;
use heartbeat_actors::testkit::Fault;
use heartbeat_actors::worker::{OnReplace, Overflow, RestartKind};
use heartbeat_core::Random;

use self::server::Manner;

/// How the text of a panic begins that a history has asked for.
pub const MEANT: &str = "told to";

/// Workers that each history has from the start: two single ones, three in groups, two in a pool.
pub const WORKERS: usize = 7;
/// Groups that each history has from the start; the second one lies in the first, the third is the
/// template's.
pub const GROUPS: usize = 3;

/// Through which kind of address a message is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// A `WorkerAddr`.
    Worker,
    /// A plain `Addr`.
    Plain,
    /// A `Recipient`.
    Recipient,
    /// The pool.
    Pool,
}

/// A command to a worker or a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Start it.
    Start,
    /// Restart it.
    Restart,
    /// Stop it.
    Stop,
    /// Remove it.
    Remove,
}

/// One step. Indices count from the start and wrap around, so that any list of steps can be played.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Messages whose answers are awaited.
    Send {
        /// To which worker.
        to: usize,
        /// Through which address.
        via: Via,
        /// How each is to be answered.
        manner: Manner,
        /// How many.
        count: u32,
    },
    /// A message whose answer no sender wants.
    Post {
        /// To which worker.
        to: usize,
        /// Through which address.
        via: Via,
        /// How it would be answered.
        manner: Manner,
    },
    /// The sender of one of the messages that are not answered yet stops waiting.
    Forget(usize),
    /// A fault strikes a worker with its next message.
    Inject(usize, Fault),
    /// A fault strikes a worker at once.
    Strike(usize, Fault),
    /// A command to a worker.
    Worker(usize, Order),
    /// A command to a group.
    Group(usize, Order),
    /// A worker of the template starts.
    Child,
    /// A worker is supervised again under the name of one that was removed.
    Again(usize),
    /// Time passes.
    Pass(Duration),
    /// The node leaves.
    Leave,
}

/// How a history ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The node runs on: its workers answer.
    Stay,
    /// The node leaves.
    Leave,
    /// The System ends while messages are under way.
    System,
}

/// How the node is made on which a history is played.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Settings over the defaults.
    pub settings: String,
    /// Of the two groups.
    pub strategies: [Strategy; 2],
    /// Of each worker and of the template.
    pub kinds: [RestartKind; WORKERS + 1],
    /// Of each worker's queue.
    pub capacity: u32,
    /// Of each worker's queue.
    pub overflow: Overflow,
    /// Of each worker's queue.
    pub on_replace: OnReplace,
    /// How it ends.
    pub end: End,
}

/// A list of steps and where they are played.
#[derive(Clone, Debug)]
pub struct History {
    /// What it follows from.
    pub seed: u64,
    /// Where it is played.
    pub shape: Shape,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl History {
    /// The history of this seed.
    pub fn of(seed: u64) -> History {
        let mut random = Random::seeded(seed);
        let shape = Shape::draw(&mut random);
        let count = 4 + random.below(28);
        let steps = (0..count).map(|_| Step::draw(&mut random)).collect();
        History { seed, shape, steps }
    }

    /// The history as a person reads it: a line for each step.
    pub fn told(&self) -> String {
        let mut told = format!("seed {}\n{:?}\n", self.seed, self.shape);
        for step in &self.steps {
            let _ = writeln!(told, "  {step:?}"); // Writing to a string cannot fail.
        }
        told
    }
}

/// One of these.
fn one_of<T: Clone, const N: usize>(random: &mut Random, of: [T; N]) -> T {
    of[random.below(N as u64) as usize].clone()
}

fn millis(random: &mut Random, below: u64) -> Duration {
    Duration::from_millis(random.below(below))
}

impl Shape {
    fn draw(random: &mut Random) -> Shape {
        let (arbiters, intensity) = (1 + random.below(2), one_of(random, [1, 3, 20]));
        let mut kind = || one_of(random, [RestartKind::Permanent, RestartKind::Transient, RestartKind::Temporary]);
        // Permanent ones for the most part: what has ended for good makes a dull history.
        let kinds = std::array::from_fn(|index| if index % 2 == 0 { RestartKind::Permanent } else { kind() });
        let strategy =
            |random: &mut Random| one_of(random, [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne]);
        let shutdown = one_of(random, ["500ms", "2s"]);
        Shape {
            settings: format!(
                "workers.arbiters = {arbiters}\nworkers.shutdown_timeout = '{shutdown}'\nworkers.zombies_max = 1000\n\
                 restart.intensity = {intensity}\nrestart.delay_max = '200ms'\n"
            ),
            strategies: [strategy(random), strategy(random)],
            kinds,
            capacity: one_of(random, [2, 8, 64]),
            overflow: one_of(random, [Overflow::Reject, Overflow::DropOldest, Overflow::DropNewest]),
            on_replace: one_of(
                random,
                [
                    OnReplace::Redeliver { attempts_max: 3 },
                    OnReplace::Redeliver { attempts_max: 1 },
                    OnReplace::DeadLetter,
                ],
            ),
            end: one_of(random, [End::Stay, End::Stay, End::Leave, End::System]),
        }
    }
}

impl Step {
    fn draw(random: &mut Random) -> Step {
        let index = random.below(64) as usize;
        match random.below(20) {
            0..=7 => {
                let via = one_of(random, [Via::Worker, Via::Worker, Via::Plain, Via::Recipient, Via::Pool]);
                Step::Send { to: index, via, manner: Manner::draw(random), count: 1 + random.below(4) as u32 }
            }
            8 => {
                let via = one_of(random, [Via::Worker, Via::Plain, Via::Recipient, Via::Pool]);
                Step::Post { to: index, via, manner: Manner::draw(random) }
            }
            9 => Step::Forget(index),
            10 => Step::Inject(index, fault(random)),
            11 => Step::Strike(index, fault(random)),
            12 | 13 => Step::Worker(index, Order::draw(random)),
            14 => Step::Group(index, Order::draw(random)),
            15 => Step::Child,
            16 => Step::Again(index),
            17 if random.below(10) == 0 => Step::Leave,
            17 => Step::Pass(Duration::ZERO),
            18 => Step::Pass(millis(random, 300)),
            _ => Step::Pass(millis(random, 8_000)),
        }
    }
}

impl Manner {
    fn draw(random: &mut Random) -> Manner {
        match random.below(16) {
            0..=4 => Manner::Now,
            5 | 6 => Manner::Later(millis(random, 1_000)),
            7 | 8 => Manner::Atomic(millis(random, 1_000)),
            9 => Manner::Wait(millis(random, 1_000)),
            10 => Manner::Forward,
            11 => Manner::Panic,
            12 => Manner::PanicLater(millis(random, 500)),
            13 => Manner::Stop,
            14 => Manner::Terminate,
            _ => Manner::Never,
        }
    }
}

impl Order {
    fn draw(random: &mut Random) -> Order {
        one_of(
            random,
            [Order::Start, Order::Start, Order::Restart, Order::Restart, Order::Stop, Order::Stop, Order::Remove],
        )
    }
}

fn fault(random: &mut Random) -> Fault {
    let time = millis(random, 15_000);
    match random.below(12) {
        0 | 1 => Fault::Panic(format!("{MEANT} fail by a fault")),
        2 | 3 => Fault::Block(time),
        4 => Fault::Spin(time),
        5 => Fault::Starve(time),
        6 => Fault::AwaitStuck,
        7 => Fault::Stop,
        8 => Fault::EndThread,
        9 => Fault::SlowStart(time),
        10 => Fault::HangStart(time),
        _ => Fault::FailStart(format!("{MEANT} fail to start")),
    }
}
