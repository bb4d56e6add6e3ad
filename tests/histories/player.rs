//! The player of histories: carries out the steps, waits for the answers, and adds up what became
//! of the messages.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::MailboxError;
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable, Either, select};
use futures_util::stream::FuturesUnordered;
use heartbeat_actors::group::{Group, GroupSpec, Template};
use heartbeat_actors::pool::{Pool, Routing};
use heartbeat_actors::testkit::{self, Fault};
use heartbeat_actors::worker::{MessageCounts, Placement};
use heartbeat_actors::{Node, SendError, WorkerAddr, WorkerSpec};

use super::server::{Ask, Ledger, Manner, Server};
use super::{End, History, Order, Step, Via, WORKERS};

/// Longer than all faults and messages of a history together: a send that is not answered then
/// never will be.
const BOUND: Duration = Duration::from_secs(600);
/// Template's children that a history has at most.
const CHILDREN_MAX: usize = 4;
/// Members of the pool.
const MEMBERS: u64 = 2;

/// The answer that a sender received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Received {
    Answered,
    Interrupted,
    Unhandled,
    /// Sent through a plain address, which says no more than that there will be no answer.
    PlainClosed,
    NotReady,
    Forgotten,
}

type Pending = Abortable<Pin<Box<dyn Future<Output = Received>>>>;

/// What the senders have been told, and how much of it is not known.
#[derive(Clone, Copy, Default, Debug)]
struct SentMessage {
    answered: u64,
    interrupted: u64,
    unhandled: u64,
    plain_closed: u64,
    /// Sent without waiting, or no longer waited for.
    silent: u64,
    /// Sent through a `WorkerAddr`: each is in a sum.
    to_worker: u64,
    /// Sent through a plain address: not in a sum if the address was closed.
    to_plain: u64,
    /// Sent through the pool: refused by any of its members, and taken by one or by none.
    to_pool: u64,
}

/// What remains of a history after its steps. It outlives the System on which they ran.
pub struct Remains {
    scale: u32,
    end: End,
    ledger: Arc<Ledger>,
    workers: Vec<WorkerAddr<Server>>,
    pending: FuturesUnordered<Pending>,
    told: SentMessage,
}

struct Player {
    node: Node,
    history: History,
    pool: Pool<Server>,
    template: Template<Server, usize>,
    groups: Vec<Group>,
    handles: Vec<AbortHandle>,
    remains: Remains,
}

/// Plays a history on a node, with all times divided by `scale`.
///
/// # Errors
/// What did not hold.
pub async fn play(node: Node, history: History, scale: u32) -> Result<Remains, String> {
    let mut player = Player::new(node, history, scale)?;
    for step in player.history.steps.clone() {
        player.step(step).await;
    }
    match player.history.shape.end {
        End::Stay => {}
        End::Leave => player.node.leave().await,
        End::System => return Ok(player.remains),
    }
    player.remains.settle(BOUND / scale).await;
    // The answers that are still due arrive at once.
    player.remains.pass(Duration::from_millis(20)).await;
    player.remains.check()?;
    player.check_node().await?;
    Ok(player.remains)
}

impl Player {
    fn new(node: Node, history: History, scale: u32) -> Result<Player, String> {
        let wrong = |error: &dyn fmt::Display| format!("the world cannot be made: {error}");
        let ledger: Arc<Ledger> = Arc::default();
        let shape = &history.shape;
        let spec = |name: &str, index: usize| {
            let spec = WorkerSpec::new(name).restart(shape.kinds[index.min(WORKERS)]).capacity(shape.capacity);
            spec.overflow(shape.overflow).on_replace(shape.on_replace)
        };
        let make = |index: usize| {
            let ledger = ledger.clone();
            move |_: &_| Ok(Server::new(index, &ledger))
        };
        let group = |name: &str, index: usize| GroupSpec::new(name).strategy(shape.strategies[index]);
        let outer = node.root().group(group("outer", 0)).map_err(|error| wrong(&error))?;
        let inner = outer.group(group("inner", 1)).map_err(|error| wrong(&error))?;
        let own = spec("own", 1).placement(Placement::Dedicated);
        let workers = [
            node.supervise_with(spec("shared", 0), make(0)),
            node.supervise_with(own, make(1)),
            outer.supervise_with(spec("first", 2), make(2)),
            outer.supervise_with(spec("second", 3), make(3)),
            inner.supervise_with(spec("third", 4), make(4)),
        ];
        let mut workers = workers.into_iter().collect::<Result<Vec<_>, _>>().map_err(|error| wrong(&error))?;
        let pool = node.root().pool_with(spec("pool", 5), MEMBERS as u32, Routing::LeastLoaded, {
            let ledger = ledger.clone();
            move |start_info| Ok(Server::new(if start_info.name.ends_with("/1") { 6 } else { 5 }, &ledger))
        });
        let pool = pool.map_err(|error| wrong(&error))?;
        workers.extend(pool.members().iter().cloned());
        let template = node.root().template(spec("child", WORKERS), {
            let ledger = ledger.clone();
            move |index: &usize, _: &_| Ok(Server::new(*index, &ledger))
        });
        let template = template.map_err(|error| wrong(&error))?;
        let groups = vec![outer, inner, template.group().clone()];
        for (index, worker) in workers.iter().enumerate() {
            ledger.set_next((index + 1) % workers.len(), worker.clone());
        }
        let (pending, told) = (FuturesUnordered::new(), SentMessage::default());
        let remains = Remains { scale, end: history.shape.end, ledger, workers, pending, told };
        Ok(Player { node, history, pool, template, groups, handles: Vec::new(), remains })
    }

    async fn step(&mut self, step: Step) {
        let count = self.remains.workers.len();
        let scale = self.remains.scale;
        match step {
            Step::Send { to, via, manner, count: messages } => {
                for _ in 0..messages {
                    self.send(to % count, via, manner.scaled(scale));
                }
            }
            Step::Post { to, via, manner } => self.post(to % count, via, manner.scaled(scale)),
            Step::Forget(index) if !self.handles.is_empty() => {
                let handle = self.handles.swap_remove(index % self.handles.len());
                handle.abort();
            }
            Step::Forget(_) => {}
            Step::Inject(worker, fault) => {
                testkit::inject(&self.node, self.remains.workers[worker % count].name(), scaled(fault, scale));
            }
            Step::Strike(worker, fault) => {
                testkit::inject_now(&self.node, self.remains.workers[worker % count].name(), scaled(fault, scale));
            }
            Step::Worker(worker, order) => {
                let worker = &self.remains.workers[worker % count];
                match order {
                    Order::Start => worker.start(),
                    Order::Restart => worker.restart(),
                    Order::Stop => worker.stop(),
                    Order::Remove => worker.remove(),
                }
            }
            Step::Group(group, order) => {
                let group = &self.groups[group % self.groups.len()];
                match order {
                    Order::Start => group.start(),
                    Order::Restart => group.restart(),
                    Order::Stop => group.stop(),
                    Order::Remove => group.remove(),
                }
            }
            Step::Child if count < WORKERS + CHILDREN_MAX => {
                // A template that was removed takes no more.
                if let Ok(worker) = self.template.start(count) {
                    self.remains.workers.push(worker);
                }
            }
            Step::Child => {}
            Step::Again(worker) => self.supervise_again(worker % count),
            Step::Pass(time) => self.remains.pass(time / scale).await,
            Step::Leave => self.node.leave().await,
        }
    }

    /// The node supervises still, unless it has left.
    async fn check_node(&self) -> Result<(), String> {
        let ledger = self.remains.ledger.clone();
        let witness = self.node.supervise("witness", move || Server::new(usize::MAX, &ledger));
        let Ok(witness) = witness else { return Ok(()) };
        let answer = witness.send(Ask::new(Manner::Now, &self.remains.ledger)).within(BOUND / self.remains.scale).await;
        match answer {
            // The root gives up those that come when it has failed too often.
            Ok(_) | Err(SendError::GaveUp) => Ok(()),
            Err(error) => Err(format!("the node supervises nothing any more: {error}")),
        }
    }

    fn supervise_again(&mut self, index: usize) {
        let (ledger, name) = (self.remains.ledger.clone(), self.remains.workers[index].name().to_owned());
        let again = self.node.supervise_with(WorkerSpec::new(name), move |_| Ok(Server::new(index, &ledger)));
        // Its name is taken as long as it was not removed.
        if let Ok(worker) = again {
            self.remains.workers.push(worker);
        }
    }

    /// A plain address of this worker, if it has run.
    fn plain(&self, to: usize) -> Option<actix::Addr<Server>> {
        self.remains.ledger.plain(to)
    }

    fn send(&mut self, to: usize, via: Via, manner: Manner) {
        let ask = Ask::new(manner, &self.remains.ledger);
        let future: Pin<Box<dyn Future<Output = Received>>> = match (via, self.plain(to)) {
            (Via::Plain, Some(addr)) => {
                self.remains.told.to_plain += 1;
                let request = addr.send(ask);
                Box::pin(async move { plain_answer_of(request.await) })
            }
            (Via::Recipient, Some(addr)) => {
                self.remains.told.to_plain += 1;
                let request = addr.recipient::<Ask>().send(ask);
                Box::pin(async move { plain_answer_of(request.await) })
            }
            (Via::Pool, _) => {
                self.remains.told.to_pool += 1;
                let answer = self.pool.send(ask);
                Box::pin(async move { answer_of(answer.await) })
            }
            (Via::Worker | Via::Plain | Via::Recipient, _) => {
                self.remains.told.to_worker += 1;
                let answer = self.remains.workers[to].send(ask);
                Box::pin(async move { answer_of(answer.await) })
            }
        };
        let (handle, registration) = AbortHandle::new_pair();
        self.handles.push(handle);
        self.remains.pending.push(Abortable::new(future, registration));
    }

    fn post(&mut self, to: usize, via: Via, manner: Manner) {
        let ask = Ask::new(manner, &self.remains.ledger);
        self.remains.told.silent += 1;
        match (via, self.plain(to)) {
            (Via::Plain, Some(addr)) => {
                self.remains.told.to_plain += 1;
                addr.do_send(ask);
            }
            (Via::Recipient, Some(addr)) => {
                self.remains.told.to_plain += 1;
                let _ = addr.recipient::<Ask>().try_send(ask); // A full or closed address refuses it.
            }
            (Via::Pool, _) => {
                self.remains.told.to_pool += 1;
                let _ = self.pool.try_send(ask); // Members that are not ready refuse it.
            }
            (Via::Worker | Via::Plain | Via::Recipient, _) => {
                self.remains.told.to_worker += 1;
                self.remains.workers[to].do_send(ask);
            }
        }
    }
}

impl Remains {
    /// Lets time pass, and notes the answers that arrive.
    async fn pass(&mut self, time: Duration) {
        let mut passed = Box::pin(async {
            tokio::time::sleep(time).await;
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        });
        loop {
            if self.pending.is_empty() {
                passed.await;
                return;
            }
            match select(self.pending.next(), passed).await {
                Either::Left((answered, rest)) => {
                    self.told.count(answered.map(|answer| answer.unwrap_or(Received::Forgotten)));
                    passed = rest;
                }
                Either::Right(((), _)) => return,
            }
        }
    }

    /// Waits until all is answered, and nothing is left in a queue, at most for `bound`.
    async fn settle(&mut self, bound: Duration) {
        let mut waited = Duration::ZERO;
        let step = bound / 600;
        while waited < bound && !(self.pending.is_empty() && self.left() == 0) {
            self.pass(step).await;
            waited += step;
        }
    }

    /// Messages and answers that are somewhere still.
    fn left(&self) -> u64 {
        let there = |worker: &WorkerAddr<Server>| worker.message_counts().queued + worker.message_counts().answering;
        self.ledger.alive() + self.workers.iter().map(there).sum::<u64>()
    }

    /// Checks what must hold once the System has ended: each sender without an answer receives one
    /// now. Needs a runtime of its own.
    ///
    /// # Errors
    /// What did not hold.
    pub async fn check_after_system(&mut self) -> Result<(), String> {
        if self.end != End::System {
            return Ok(());
        }
        for worker in self.workers.clone() {
            self.told.to_worker += 1;
            let answer = worker.send(Ask::new(Manner::Now, &self.ledger));
            let (_, registration) = AbortHandle::new_pair();
            self.pending.push(Abortable::new(Box::pin(async move { answer_of(answer.await) }), registration));
        }
        self.settle(Duration::from_secs(60) / self.scale).await;
        self.check()
    }

    fn check(&mut self) -> Result<(), String> {
        let told = self.told;
        if !self.pending.is_empty() {
            return Err(format!("{} sends are not answered; {told:?}", self.pending.len()));
        }
        let mut sum = MessageCounts::default();
        for worker in &self.workers {
            let counts = worker.message_counts();
            let wrong = |what: &str| Err(format!("{}: {what}: {counts:?}", worker.name()));
            let there = counts.queued + counts.answering;
            if counts.accepted != counts.handled + counts.interrupted + counts.dead + there {
                return wrong("the sums are not right");
            }
            if there != 0 {
                return wrong("messages are left");
            }
            sum.accepted += counts.accepted;
            sum.handled += counts.handled;
            sum.interrupted += counts.interrupted;
            sum.dead += counts.dead;
            sum.rejected += counts.rejected;
        }
        let vague = told.silent + told.plain_closed + self.forwarded();
        let (elsewhere, by_pool) = (told.to_plain + self.forwarded(), told.to_pool * MEMBERS);
        let columns = [
            ("handled", sum.handled, told.answered, told.silent + self.forwarded()),
            ("interrupted", sum.interrupted, told.interrupted, vague),
            ("dead and rejected", sum.dead + sum.rejected, told.unhandled, vague + by_pool),
            ("accepted and rejected", sum.accepted + sum.rejected, told.to_worker, elsewhere + by_pool),
        ];
        for (name, value, least, more) in columns {
            if value < least || value > least + more {
                return Err(format!("{name} is {value}, not {least} to {}: {sum:?} {told:?}", least + more));
            }
        }
        match self.left() {
            0 => Ok(()),
            left => Err(format!("{left} messages were never dropped")),
        }
    }

    /// Messages that a worker has sent on.
    fn forwarded(&self) -> u64 {
        self.ledger.forwarded.load(Ordering::Acquire)
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        // Workers hold the ledger, and the ledger holds addresses of theirs.
        self.ledger.clear();
    }
}

impl SentMessage {
    fn count(&mut self, heard: Option<Received>) {
        match heard {
            Some(Received::Answered) => self.answered += 1,
            Some(Received::Interrupted) => self.interrupted += 1,
            Some(Received::Unhandled) => self.unhandled += 1,
            Some(Received::PlainClosed) => self.plain_closed += 1,
            Some(Received::NotReady) | None => {}
            Some(Received::Forgotten) => self.silent += 1,
        }
    }
}

fn answer_of(answer: Result<u64, SendError>) -> Received {
    match answer {
        Ok(_) => Received::Answered,
        Err(SendError::NotReady) => Received::NotReady,
        Err(error) if error.is_unhandled() => Received::Unhandled,
        Err(_) => Received::Interrupted,
    }
}

fn plain_answer_of(answer: Result<u64, MailboxError>) -> Received {
    match answer {
        Ok(_) => Received::Answered,
        Err(MailboxError::Closed | MailboxError::Timeout) => Received::PlainClosed,
    }
}

/// The same fault, shorter.
fn scaled(fault: Fault, scale: u32) -> Fault {
    match fault {
        Fault::Block(time) => Fault::Block(time / scale),
        Fault::Spin(time) => Fault::Spin(time / scale),
        Fault::Starve(time) => Fault::Starve(time / scale),
        Fault::SlowStart(time) => Fault::SlowStart(time / scale),
        Fault::HangStart(time) => Fault::HangStart(time / scale),
        fault => fault,
    }
}
