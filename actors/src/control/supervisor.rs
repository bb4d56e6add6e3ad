//! `Supervisor`: the actor that owns the engine and its one timer, and carries out the engine's
//! outputs.
//!
//! Only this actor uses the engine. It passes each message on as one input, carries out all
//! outputs, and sets the timer to the engine's next deadline. It decides nothing: a line here that
//! compares two silences is in the wrong room. It runs on an arbiter of its own, where no code of
//! the application runs, and never waits for a worker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use actix_rt::Arbiter;
use heartbeat_core::detection::Pause;
use heartbeat_core::member::{Metadata, SEAL_KEY, name_hash};
use heartbeat_core::{
    ArbiterId, Child, Engine, Event, Generation, Input, Instant, Interruption, NodeId, Output, Start, StatusSample,
    StreamEvent, StreamId, WorkerId,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::{debug, error, warn};

use super::input::{NewWorkers, Request};
use super::log::Log;
use crate::authority::{Authority, AuthorityError, AuthorityRequest, AuthorityResponse};
use crate::clock::Clock;
use crate::control::orders::{Order, TakeOrders};
use crate::control::receiver::{Drain, Receiver};
use crate::control::record::Recorder;
use crate::control::sender::{BeatSender, End, NodeSender, Outgoing};
use crate::control::stream::{Streams, resolve};
use crate::control::until::Waiters;
use crate::requests::{RequestsLink, ToRequests};
use crate::seal::SealShared;
use crate::thread::{Thread, ThreadSource};
use crate::view::node_view::View;
use crate::view::peer_status::PeerStatus;
use crate::view::subscribe::Subscribers;
use crate::worker::mailbox::{CloseReason, FencedMessages};
use crate::worker::messages::ToSupervisor;
use crate::worker::node_lease::NodeLease;
use crate::worker::slot::{DynSlot, StartInfo};
use crate::worker::status_cell::{Cells, WorkerGeneration};

/// How many chunks of status cells one turn of a scan reads: about a quarter of a millisecond.
const SCAN_CHUNKS: usize = 64;

/// How long subscribers have to receive the reason before the process ends. No worker is waited
/// for: a worker may be the reason.
const EXIT_AFTER: Duration = Duration::from_millis(250);

/// How long the control thread of a node that has left goes on for streams and subscribers. A
/// stream that was closed has half a second to be read.
const END_AFTER: Duration = Duration::from_millis(600);

/// How long a node that has left waits for its authority to be done: longer than a change waits for
/// the lock of a folder.
const AUTHORITY_FOR: Duration = Duration::from_secs(3);

/// Owns the engine and carries out its outputs.
pub(crate) struct Supervisor {
    pub(super) clock: Clock,
    pub(super) engine: Engine,
    view: Arc<View>,
    cells: Arc<Cells>,
    /// By worker number.
    workers: Vec<Option<Worker>>,
    /// Makes its threads.
    thread_source: ThreadSource,
    pub(super) threads: BTreeMap<ArbiterId, Thread>,
    /// The threads that are held, and for which workers wait.
    held: BTreeSet<ArbiterId>,
    /// Answers to outputs, which become inputs once the engine is drained: a thread could not be
    /// made, or was inspected.
    answers: VecDeque<Input>,
    links: Links,
    streams: Streams,
    /// The version of the table of members that the view shows.
    members_shown: Option<u64>,
    subscribers: Subscribers,
    /// Callers that wait for a condition.
    waiters: Waiters,
    /// The timer that is set, and for when.
    timer: Option<(SpawnHandle, Instant)>,
    /// Where the engine writes the datagram that it hands out.
    buffer: Vec<u8>,
    /// Prints the events.
    log: Log,
    /// Whether a timer is set for [`Log::handle_timeout`].
    is_log_timed: bool,
    /// Records the heartbeats of other nodes, if asked to.
    recorder: Option<Recorder>,
    /// Callers that wait until this node has left.
    leavers: Vec<oneshot::Sender<()>>,
    /// Callbacks to run as soon as it leaves.
    on_leave: Vec<Box<dyn FnOnce() + Send>>,
    /// How far the end of this node has come.
    ending: Ending,
}

/// How far the end of a node has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    /// It runs, or leaves.
    No,
    /// It has left; its last datagrams are being sent and its port is given back.
    Closing,
    /// That is done, and the waiting callers were notified.
    Done,
}

struct Worker {
    slot: Arc<dyn DynSlot>,
    /// The thread it was last started on.
    arbiter: Option<ArbiterId>,
    /// The generation that was started there.
    generation: Option<WorkerGeneration>,
}

/// The other actors of the control thread, and the state that the node's other threads read.
pub(crate) struct Links {
    pub(crate) receiver: Addr<Receiver>,
    /// None where there is no cluster.
    pub(crate) sender: Option<Addr<NodeSender>>,
    /// The task that takes connections, if its transport has streams beside datagrams.
    pub(crate) accepting: Option<JoinHandle<()>>,
    /// Where its connections come from.
    pub(crate) host: IpAddr,
    /// What seals the traffic between nodes; `None` if it is plain.
    pub(crate) seal: Option<Arc<SealShared>>,
    /// Set once the node leaves.
    pub(crate) is_leaving: Arc<AtomicBool>,
    /// How long the node's shards may act.
    pub(crate) node_lease: Arc<NodeLease>,
    /// The requests to and from other nodes, if there is a cluster.
    pub(crate) requests: Option<Arc<RequestsLink>>,
    /// Hands out the right to run a shard; `None` with `ownership.authority = "view"` or without a
    /// cluster.
    pub(crate) authority: Option<Rc<dyn Authority>>,
}

impl Links {
    /// The parts that hold the node's port.
    fn end(&mut self) -> (Addr<Receiver>, Option<Addr<NodeSender>>, Option<JoinHandle<()>>) {
        (self.receiver.clone(), self.sender.clone(), self.accepting.take())
    }
}

impl Supervisor {
    pub(crate) fn new(
        clock: Clock,
        thread_source: ThreadSource,
        engine: Engine,
        view: Arc<View>,
        cells: Arc<Cells>,
        links: Links,
    ) -> Supervisor {
        Supervisor {
            clock,
            engine,
            view,
            cells,
            workers: Vec::new(),
            thread_source,
            threads: BTreeMap::new(),
            held: BTreeSet::new(),
            answers: VecDeque::new(),
            streams: Streams::new(clock, links.accepting.as_ref().map(|_| links.host), links.seal.clone()),
            links,
            members_shown: None,
            subscribers: Subscribers::default(),
            waiters: Waiters::default(),
            timer: None,
            buffer: Vec::new(),
            log: Log::default(),
            is_log_timed: false,
            recorder: None,
            leavers: Vec::new(),
            on_leave: Vec::new(),
            ending: Ending::No,
        }
    }

    /// Carries out the engine's outputs after an input, and sets the timer to its next deadline.
    fn drive(&mut self, context: &mut Context<Self>) {
        let mut outgoing = Outgoing::default();
        let mut events = Vec::new();
        let mut cut = FencedMessages::default();
        while let Some(output) = self.next_output() {
            match output {
                Output::Transmit { to, receiver } => {
                    outgoing.bytes.extend_from_slice(&self.buffer);
                    outgoing.datagrams.push((to, receiver, self.buffer.len()));
                }
                Output::Open { stream, to } => self.streams.open(stream, to, context.address()),
                Output::Frame { stream } => self.streams.frame(stream, &self.buffer),
                Output::Shut { stream } => self.streams.shut(stream),
                Output::Resolve { seed } => resolve(seed, context.address()),
                Output::Start(start) => self.start(start),
                Output::SetRestartPermit { worker, permit } => self.with_slot(worker, |slot| slot.set_permit(permit)),
                Output::Stop { worker, why } => self.with_slot(worker, |slot| slot.stop(why)),
                Output::Fence { worker, why } => cut = self.fence(worker, why),
                Output::Close { worker, gave_up } => {
                    let closing = if gave_up { CloseReason::GaveUp } else { CloseReason::Stopped };
                    self.with_slot(worker, |slot| slot.clone().close(closing));
                }
                Output::Forget { worker } => self.forget(worker),
                Output::ForgetGroup { group } => self.view.forget_group(&group),
                Output::Scan => context.notify(Request::Scan { from: 0 }),
                Output::Dismiss { arbiter } => self.dismiss(arbiter),
                Output::Exit { code } => exit(code, context),
                Output::Spawn { arbiter } => self.spawn(arbiter),
                Output::Inspect { arbiter } => self.inspect(arbiter),
                Output::Drain => self.links.receiver.do_send(Drain),
                Output::Abandon { arbiter } => self.abandon(arbiter, context.address()),
                Output::Held { arbiter, workers } => self.hold(arbiter, &workers),
                Output::Returned { arbiter, workers } => self.go_on(arbiter, &workers),
                Output::AskAuthority { number, ask } => self.ask(number, ask, context),
                Output::Arrived(arrived) => {
                    if let Some(recorder) = &mut self.recorder {
                        recorder.arrived(arrived);
                    }
                }
                Output::Event(mut event) => {
                    self.number(&mut event);
                    cut.write_into(&mut event);
                    if let (Event::Paused { late_by }, Some(recorder)) = (&event, &mut self.recorder) {
                        let to = self.clock.now();
                        recorder.paused(Pause { from: to - *late_by, to });
                    }
                    // Before the outputs that follow from it: a node that receives a message from a
                    // new owner finds it in the view.
                    self.view.apply(&event, self.clock.now());
                    self.route(&event);
                    if !self.is_routine(&event) {
                        events.push(event);
                    }
                }
            }
        }
        self.links.node_lease.set(self.engine.lease_until());
        if let Some(sender) = &self.links.sender
            && !outgoing.datagrams.is_empty()
        {
            sender.do_send(outgoing);
        }
        self.show_members();
        self.view.set_joined(self.engine.is_joined());
        self.waiters.look(&self.engine, &self.view);
        self.publish(&events);
        self.follow_leave(context);
        self.set_timer(context);
        self.set_log_timer(context);
    }

    /// Adds the ids of the keys to what this node publishes of itself.
    fn add_keys(&self, metadata: &mut Metadata) {
        if let Some(seal) = &self.links.seal {
            metadata.insert(SEAL_KEY.to_owned(), seal.published());
        }
    }

    /// Passes a shard's new owner on to the requests.
    fn route(&self, event: &Event) {
        let (Some(requests), Event::ShardMoved { group, shard, to, .. }) = (&self.links.requests, event) else {
            return;
        };
        let owner = to.as_ref().map(|name| (NodeId::of(name), shard.epoch));
        let (group, index) = (name_hash(group), shard.index);
        requests.post(ToRequests::Input(heartbeat_core::requests::Input::Owner { group, index, owner }));
    }

    /// Whether an event is the start or the regular stop of an entity. There may be a hundred
    /// thousand in a second, which would push all other events out of the queues of subscribers.
    fn is_routine(&self, event: &Event) -> bool {
        let (Event::Started { worker, .. } | Event::Stopped { worker, .. }) = event else { return false };
        let known = self.view.worker_id(worker).and_then(|id| self.workers.get(id.0 as usize)?.as_ref());
        known.is_some_and(|worker| worker.slot.is_entity())
    }

    /// Passes events on to the log and to subscribers.
    fn publish(&mut self, events: &[Event]) {
        let now = self.clock.now();
        self.log.handle_timeout(now);
        for event in events {
            self.log.event(event, now);
            self.subscribers.publish(event, self.engine.config().events.queue);
        }
    }

    /// The next output. An answer to an output is an input of its own, between two drains.
    fn next_output(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.engine.poll_output(&mut self.buffer) {
                return Some(output);
            }
            let answer = self.answers.pop_front()?;
            self.engine.handle(self.clock.now(), answer);
        }
    }

    /// Runs the callbacks as soon as the engine leaves, and closes the port once it has left.
    fn follow_leave(&mut self, context: &mut Context<Self>) {
        if self.engine.is_leaving() {
            self.links.is_leaving.store(true, Ordering::Release);
            self.on_leave.drain(..).for_each(|act| act());
        }
        if self.engine.has_left() && self.ending == Ending::No {
            self.close_links(context);
        }
    }

    /// Closes the node's port once its last datagrams are sent; then the node has left.
    fn close_links(&mut self, context: &mut Context<Self>) {
        self.ending = Ending::Closing;
        let (receiver, sender, accepting) = self.links.end();
        let authority = self.links.authority.clone();
        let closed = async move {
            // An error means that the actor has ended already. The sender handles this after the
            // datagrams.
            if let Some(sender) = sender {
                let _ = sender.send(End).await;
            }
            let _ = receiver.send(End).await;
            if let Some(accepting) = accepting {
                accepting.abort();
                let _ = accepting.await; // An error, as it was aborted.
            }
            if let Some(authority) = authority
                && tokio::time::timeout(AUTHORITY_FOR, authority.end()).await.is_err()
            {
                warn!(event = "authority_busy", waited = ?AUTHORITY_FOR, "the authority still works after the node has left");
            }
        };
        context.spawn(closed.into_actor(self).map(|(), supervisor, context| supervisor.end(context)));
    }

    /// The node has left: notifies the callers that wait for it, and ends the control thread. If
    /// events or frames are still to be delivered, the thread goes on for [`END_AFTER`].
    fn end(&mut self, context: &mut Context<Self>) {
        self.ending = Ending::Done;
        if let Some(requests) = &self.links.requests {
            requests.end();
        }
        for done in self.leavers.drain(..) {
            let _ = done.send(()); // Its node may have stopped waiting.
        }
        let has_streams = self.streams.shut_all();
        let rest = if has_streams || self.subscribers.are_waiting() { END_AFTER } else { Duration::ZERO };
        context.run_later(rest, |supervisor, context| {
            context.stop();
            match supervisor.thread_source {
                ThreadSource::System => drop(Arbiter::current().stop()), // False if it has ended already.
                #[cfg(feature = "testkit")]
                ThreadSource::SimulatedThread => {}
            }
        });
    }

    /// Brings the view up to the table of members, if that has changed. The table alone knows when:
    /// not every change of a row is an event.
    fn show_members(&mut self) {
        let version = self.engine.members_version();
        if self.members_shown != Some(version) {
            self.view.set_members(self.engine.members());
            if let Some(seal) = &self.links.seal {
                seal.set_members(self.engine.members());
            }
            if let Some(requests) = &self.links.requests {
                requests.post(ToRequests::Members(self.engine.members().cloned().collect()));
            }
            self.members_shown = Some(version);
        }
    }

    /// Sets the timer to the engine's next deadline. A timer that is set too early is kept: when it
    /// fires nothing is due, and it is set anew. So a beat that moves a deadline costs no timer.
    fn set_timer(&mut self, context: &mut Context<Self>) {
        let Some(due) = self.engine.poll_timeout() else { return };
        if let Some((handle, set)) = self.timer {
            if set <= due {
                return;
            }
            context.cancel_future(handle);
        }
        let handle = context.run_later(due - self.clock.now(), |supervisor, context| {
            supervisor.timer = None;
            let (now, wall) = supervisor.clock.with_wall();
            supervisor.engine.handle(now, Input::WallClock(wall));
            supervisor.engine.handle(now, Input::Timeout);
            supervisor.drive(context);
        });
        self.timer = Some((handle, due));
    }

    /// Has the log say how many events it left out, once that is due. Later ones are due later, so
    /// one timer is enough.
    fn set_log_timer(&mut self, context: &mut Context<Self>) {
        let Some(due) = self.log.poll_timeout().filter(|_| !self.is_log_timed) else { return };
        self.is_log_timed = true;
        context.run_later(due - self.clock.now(), |supervisor, context| {
            supervisor.is_log_timed = false;
            supervisor.log.handle_timeout(supervisor.clock.now());
            supervisor.set_log_timer(context);
        });
    }

    fn with_slot(&self, worker: WorkerId, act: impl FnOnce(&Arc<dyn DynSlot>)) {
        if let Some(Some(worker)) = self.workers.get(worker.0 as usize) {
            act(&worker.slot);
        }
    }

    /// Fences a worker, and returns the messages that were cut off.
    fn fence(&self, worker: WorkerId, why: Interruption) -> FencedMessages {
        let worker = self.workers.get(worker.0 as usize).and_then(Option::as_ref);
        worker.map_or(FencedMessages::default(), |worker| worker.slot.fence(why))
    }

    /// A thread is held, and these workers wait for it.
    fn hold(&mut self, arbiter: ArbiterId, workers: &[WorkerId]) {
        self.held.insert(arbiter);
        workers.iter().for_each(|&worker| self.with_slot(worker, |slot| slot.set_held(true)));
    }

    /// A thread that was held is back, and these workers go on.
    fn go_on(&mut self, arbiter: ArbiterId, workers: &[WorkerId]) {
        self.held.remove(&arbiter);
        workers.iter().for_each(|&worker| self.with_slot(worker, |slot| slot.set_held(false)));
    }

    fn start(&mut self, start: Start) {
        let Some(Some(worker)) = self.workers.get_mut(start.worker.0 as usize) else { return };
        worker.arbiter = Some(start.arbiter);
        let start_info = StartInfo {
            name: worker.slot.name().clone(),
            generation: start.generation,
            cause: start.cause,
            shard: start.shard,
            snapshot: None,
            replica: start.replica,
        };
        let thread = self.threads.get(&start.arbiter).map(Thread::handle);
        let generation = worker.slot.clone().launch(thread, start_info, start.permit);
        worker.generation = Some(generation);
        self.view.begin(worker.slot.name(), generation.shown);
    }

    /// Replaces the engine's generation in a worker's event by the one that users see.
    fn number(&self, event: &mut Event) {
        let (Event::Started { worker, generation, .. }
        | Event::Failed { worker, generation, .. }
        | Event::Replaced { worker, generation, .. }
        | Event::Stopped { worker, generation }
        | Event::Fenced { worker, generation, .. }
        | Event::NotReady { worker, generation, .. }
        | Event::Ready { worker, generation }) = event
        else {
            return; // Only these carry a generation.
        };
        let known = self.view.worker_id(worker).and_then(|id| self.workers.get(id.0 as usize)?.as_ref());
        // Generations that a thread starts by its restart permit have the numbers that follow.
        if let Some(WorkerGeneration { internal, shown }) = known.and_then(|worker| worker.generation) {
            *generation = Generation((shown.0 + generation.0).saturating_sub(internal.0));
        }
    }

    /// Asks the authority, and passes its answer to the engine.
    fn ask(&self, number: u64, ask: AuthorityRequest, context: &mut Context<Self>) {
        let Some(authority) = self.links.authority.clone() else { return };
        #[cfg(feature = "http")]
        let (request, sent) = (ask.name(), self.clock.now());
        let handle = move |answer, supervisor: &mut Supervisor, context: &mut Context<Supervisor>| {
            let answer: Result<AuthorityResponse, AuthorityError> = answer;
            #[cfg(feature = "http")]
            supervisor.view.times().answered(request, answer.is_ok(), supervisor.clock.now() - sent);
            let answer = answer.map_err(|error| error.0.into());
            supervisor.engine.handle(supervisor.clock.now(), Input::Answer { number, answer });
            supervisor.drive(context);
        };
        context.spawn(authority.ask(ask).into_actor(self).map(handle));
    }

    /// Waits for the authority to say that shards may be free, again and again.
    fn listen_to_authority(&self, context: &mut Context<Self>) {
        let Some(authority) = self.links.authority.clone() else { return };
        let handle = |(), supervisor: &mut Supervisor, context: &mut Context<Supervisor>| {
            supervisor.engine.handle(supervisor.clock.now(), Input::Freed);
            supervisor.drive(context);
            if !supervisor.engine.has_left() {
                supervisor.listen_to_authority(context);
            }
        };
        context.spawn(authority.freed().into_actor(self).map(handle));
    }

    fn spawn(&mut self, id: ArbiterId) {
        match Thread::new(self.thread_source) {
            Ok(thread) => {
                let (interval, receiver) = (self.engine.config().workers.interval, self.links.receiver.clone());
                let handle = thread.handle();
                let beating = handle.clone();
                // Before any worker is started there, so that the first beat comes before their
                // first activity.
                handle.run(move || {
                    BeatSender { arbiter: id, interval, receiver, slot: 0, thread: beating }.start();
                    std::future::ready(())
                });
                self.threads.insert(id, thread);
            }
            Err(error) => {
                self.answers.push_back(Input::ArbiterNotMade { arbiter: id, reason: error.to_string().into() });
            }
        }
    }

    /// Reports to the engine what the workers of a silent thread are doing.
    fn inspect(&mut self, arbiter: ArbiterId) {
        let mut busy = self.cells.busy();
        busy.retain(|busy| {
            let worker = self.workers.get(busy.worker.0 as usize).and_then(Option::as_ref);
            worker.is_some_and(|worker| worker.arbiter == Some(arbiter))
        });
        let seen = self.threads.get(&arbiter).and_then(Thread::sample);
        debug!(
            event = "thread_silent",
            arbiter = arbiter.0,
            busy = busy.len(),
            seen = seen.as_ref().map(tracing::field::debug),
            "a thread of workers gave no sign of life: its workers are looked at"
        );
        self.answers.push_back(Input::Inspection { arbiter, busy, seen });
    }

    /// Looks at the status cells of some chunks, and at the threads. The other chunks follow after
    /// the messages that wait here.
    fn scan(&mut self, from: usize, context: &mut Context<Self>) {
        let mut looks = Vec::new();
        let workers = &self.workers;
        let is_more = self.cells.visit(from..from + SCAN_CHUNKS, |worker, cell| {
            if !cell.take_noteworthy() {
                return;
            }
            let slot = workers.get(worker.0 as usize).and_then(Option::as_ref).map(|worker| &worker.slot);
            looks.push(StatusSample {
                worker,
                generation: cell.generation(),
                is_waiting: cell.is_waiting(),
                queued: slot.map_or(0, |slot| slot.sample_queue()),
                is_overloaded: cell.is_overloaded(),
                progress: cell.progress(),
                health: cell.health(),
            });
        });
        let now = self.clock.now();
        // A node that has left needs no threads.
        if from == 0 && self.ending == Ending::No {
            for arbiter in self.engine.arbiters() {
                if self.threads.get(&arbiter).is_none_or(|thread| !thread.handle().is_alive()) {
                    self.threads.remove(&arbiter);
                    self.held.remove(&arbiter);
                    self.engine.handle(now, Input::ArbiterDead(arbiter));
                }
            }
        }
        if !looks.is_empty() {
            self.engine.handle(now, Input::Looks(looks));
        }
        if is_more {
            context.notify(Request::Scan { from: from + SCAN_CHUNKS });
        }
    }

    /// Has the engine supervise these workers, and keeps their slots.
    fn add_workers(&mut self, mut workers: NewWorkers) {
        let now = self.clock.now();
        let (slots, group) = (std::mem::take(&mut workers.workers), workers.group.take());
        let mut supervised = Vec::with_capacity(slots.len());
        for (supervise, slot) in slots {
            let index = supervise.worker.0 as usize;
            if self.workers.len() <= index {
                self.workers.resize_with(index + 1, || None);
            }
            self.workers[index] = Some(Worker { slot, arbiter: None, generation: None });
            supervised.push(supervise);
        }
        match group {
            Some(group) => self.engine.handle(now, Input::SuperviseShards { group, workers: supervised }),
            None => {
                for supervise in supervised {
                    self.engine.handle(now, Input::Supervise(supervise.into()));
                }
            }
        }
    }

    /// Carries out some orders for entities. Returns the request for the rest, which comes after
    /// the messages that wait here.
    fn carry_out(&mut self, orders: TakeOrders) -> Option<TakeOrders> {
        let (orders, rest) = orders.take();
        for order in orders {
            match order {
                Order::Start(supervise, slot) => {
                    self.add_workers(NewWorkers { workers: vec![(*supervise, slot)], group: None });
                }
                Order::Remove(worker, _slot) => {
                    self.engine.handle(self.clock.now(), Input::Remove(Child::Worker(worker)));
                }
            }
        }
        rest
    }

    /// Which nodes watch this one, and which it watches.
    fn peer_status(&self) -> PeerStatus {
        let name = |id| self.engine.members().find(|member| member.id == id).map(|member| member.name.clone());
        PeerStatus {
            observers: self.engine.observers().filter_map(name).collect(),
            watched: self.engine.watched().filter_map(|(id, silent_for)| Some((name(id)?, silent_for))).collect(),
            health: self.engine.health(),
            zones_disrupted: self.engine.zones_disrupted() as u32,
        }
    }

    fn forget(&mut self, worker: WorkerId) {
        let Some(Worker { slot, .. }) = self.workers.get_mut(worker.0 as usize).and_then(Option::take) else { return };
        self.view.forget_worker(slot.name());
        slot.close_for_good();
    }

    /// Lets a thread end that no worker needs any more, after the work given to it before.
    fn dismiss(&mut self, id: ArbiterId) {
        self.held.remove(&id);
        if let Some(thread) = self.threads.remove(&id) {
            // If the thread has ended by itself, it is gone all the same.
            let _ = thread.handle().end_after(|| {});
        }
    }

    /// Abandons a thread that is blocked. If it comes back, its runners find themselves fenced, and
    /// it reports its return here and ends.
    fn abandon(&mut self, id: ArbiterId, supervisor: Addr<Supervisor>) {
        self.held.remove(&id);
        if let Some(thread) = self.threads.remove(&id) {
            // Stopping it from here would end the thread before it runs anything more. So it stops
            // itself after its report.
            let reporter = supervisor.clone();
            if !thread.handle().end_after(move || reporter.do_send(ToSupervisor::unstamped(Input::ArbiterEnded(id)))) {
                // It was silent because it had ended: a worker may stop the thread it runs on.
                supervisor.do_send(ToSupervisor::unstamped(Input::ArbiterEnded(id)));
            }
        }
    }
}

/// Ends the process after [`EXIT_AFTER`], in which subscribers receive the reason.
fn exit(code: u8, context: &mut Context<Supervisor>) {
    error!(event = "exiting", code, "a worker was given up: ending the process, as workers.on_give_up says");
    context.run_later(EXIT_AFTER, move |_, _| std::process::exit(i32::from(code)));
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        self.drive(context);
        self.listen_to_authority(context);
    }

    /// The node has left, or its system ends: no worker is started any more, and each waiting
    /// sender gets an error.
    fn stopped(&mut self, _: &mut Context<Self>) {
        self.log.end();
        self.links.is_leaving.store(true, Ordering::Release);
        for worker in self.workers.drain(..).flatten() {
            worker.slot.end();
        }
        for thread in self.threads.values() {
            thread.stop();
        }
    }
}

impl Handler<ToSupervisor> for Supervisor {
    type Result = ();

    fn handle(&mut self, message: ToSupervisor, context: &mut Context<Self>) {
        match message {
            ToSupervisor::Input { at, input } => {
                let ended = ended_stream(&input);
                self.engine.handle(at.unwrap_or_else(|| self.clock.now()), input);
                if let Some(stream) = ended {
                    // The engine forgets a stream that the other side has ended, without an output.
                    self.streams.shut(stream);
                }
                self.drive(context);
            }
            ToSupervisor::Wait(wait) => {
                self.waiters.add(wait.into());
                self.waiters.look(&self.engine, &self.view);
            }
        }
    }
}

/// The stream on which nothing more happens after this input.
fn ended_stream(input: &Input) -> Option<StreamId> {
    let Input::Stream { stream, event, .. } = input else { return None };
    match event {
        StreamEvent::Refused | StreamEvent::Failed | StreamEvent::Ended => Some(*stream),
        StreamEvent::Opened | StreamEvent::Frame(_) => None,
    }
}

impl Handler<Request> for Supervisor {
    type Result = ();

    fn handle(&mut self, request: Request, context: &mut Context<Self>) {
        match request {
            Request::Supervise(workers) => {
                self.add_workers(workers);
                self.drive(context);
            }
            Request::Orders(orders) => {
                let rest = self.carry_out(orders);
                self.drive(context);
                if let Some(rest) = rest {
                    context.notify(Request::Orders(rest));
                }
            }
            Request::Accepted { at, from, socket } => {
                self.engine.handle(at, Input::Accepted);
                self.streams.add(self.engine.accepted(), from, socket, context.address());
                self.drive(context);
            }
            Request::Scan { from } => {
                self.scan(from, context);
                self.drive(context);
            }
            Request::Record(recorder) => {
                self.recorder = Some(recorder);
                self.engine.handle(self.clock.now(), Input::Record);
            }
            Request::SetMetadata(mut metadata, answer) => {
                self.add_keys(&mut metadata);
                let checked = self.engine.check_metadata(&metadata);
                self.engine.handle(self.clock.now(), Input::SetMetadata(metadata));
                self.drive(context);
                let _ = answer.send(checked); // Its caller may have stopped waiting.
            }
            Request::PublishKeys => {
                let mut metadata = self.engine.metadata().cloned().unwrap_or_default();
                self.add_keys(&mut metadata);
                self.engine.handle(self.clock.now(), Input::SetMetadata(metadata));
                self.drive(context);
            }
            Request::SetInterval(interval, answer) => {
                let checked = self.engine.check_interval(interval);
                self.engine.handle(self.clock.now(), Input::SetInterval(interval));
                self.drive(context);
                let _ = answer.send(checked); // As above.
            }
            Request::Leave(done) if self.ending == Ending::Done => {
                let _ = done.send(()); // As above.
            }
            Request::Leave(done) => {
                self.leavers.push(done);
                self.engine.handle(self.clock.now(), Input::Leave);
                self.drive(context);
            }
            Request::Subscribe(subscriber) => self.subscribers.add(subscriber, self.view.snapshot()),
            Request::Until(until) => {
                self.waiters.add(until);
                self.waiters.look(&self.engine, &self.view);
            }
            Request::Counters(answer) => drop(answer.send(self.engine.counters())),
            Request::PeerStatus(answer) => drop(answer.send(self.peer_status())),
            #[cfg(feature = "http")]
            Request::Question(question) => self.answer(question),
            #[cfg(feature = "systemd")]
            Request::OnLeave(act) => self.on_leave.push(act),
            #[cfg(feature = "systemd")]
            Request::Receiver(answer) => drop(answer.send(self.links.receiver.clone())),
            #[cfg(any(feature = "systemd", feature = "http"))]
            Request::Pulse(pulse) => pulse.back.store(pulse.number, Ordering::Release),
        }
    }
}
