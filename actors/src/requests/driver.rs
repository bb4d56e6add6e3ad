//! The driver of [`Requests`]: many threads call it, and each input is handled under one lock.
//!
//! A sender's own thread hands its request to the machine and writes it to the connection, and the
//! thread of a worker does the same with an answer. So an answer takes four wakeups of threads and
//! not six: the requests thread reads and keeps the time, and writes only what did not fit.
//!
//! No code of the application runs under the lock, and no thread waits for a connection. What an
//! input brings about is done after the lock is released: bytes are written by the thread that
//! caused them; requests are handed to workers by the requests thread alone, so that they keep
//! their order.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use dashmap::DashMap;
use heartbeat_core::member::Epoch;
use heartbeat_core::requests::{
    Bytes, ConnectionId, Counters, Input, MessageType, Outcome, Output, Refusal, RequestId, Requests, RequestsConfig,
    ServedId, Target, TraceContext,
};
use heartbeat_core::{Generation, Instant, Interruption, Member, NodeId, Status};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::lock::lock;
use crate::requests::answering::Answering;
use crate::requests::socket::{Line, Socket};
use crate::requests::{Door, FIRST_SENT, Pending, Route, ToRequests};
use crate::seal::{OpenHalf, SealShared};
use crate::transport::{Connection, Halves};
use crate::worker::envelope::Carried;
use crate::worker::worker_door::{Serving, WorkerDoors};

/// While more requests than this are under way, their bytes are left to the requests thread, so
/// that many share one write.
const WRITE_DIRECTLY_MAX: usize = 4;

/// Writes that one input may bring about on the thread that handled it. A message of 1 MiB takes
/// four, as far as the system takes it.
const WRITES_MAX: u32 = 8;

/// Who this node is.
pub(crate) struct Me {
    pub(crate) node: NodeId,
    pub(crate) generation: Generation,
    pub(crate) cluster: u32,
    /// Where its connections come from.
    pub(crate) host: IpAddr,
    /// What seals its connections; `None` if they are plain.
    pub(crate) seal: Option<Arc<SealShared>>,
    pub(crate) clock: Clock,
    /// The workers that accept messages of other nodes.
    pub(crate) doors: Arc<WorkerDoors>,
}

/// A request of this node.
pub(super) struct Own {
    pub(super) pending: Arc<dyn Pending>,
    pub(super) route: Arc<Route>,
}

impl Own {
    /// Decoding runs code of the application, which must not end the thread.
    pub(super) fn settle(self, outcome: Outcome) {
        let Own { pending, route } = self;
        route.end();
        if catch_unwind(AssertUnwindSafe(|| pending.settle(outcome, &route))).is_err() {
            pending.settle(Outcome::Interrupted(Interruption::AnswerUndecodable), &route);
        }
    }
}

/// Something that the requests thread does, after the lock is released and in this order.
pub(super) enum Job {
    Accept {
        connection: ConnectionId,
        stream: std::net::TcpStream,
        halves: Halves,
    },
    Connect {
        connection: ConnectionId,
        to: SocketAddr,
    },
    /// To send a message that waited in the queue of a worker here. It is encoded first.
    SendOn {
        id: RequestId,
        own: Own,
        /// Of its entity, if it is to one.
        key: Option<Arc<[u8]>>,
    },
    /// To send a request that must not overtake such a one.
    Send {
        own: Own,
        input: Input,
    },
    /// To handle an input that may be about one of these.
    Handle(Input),
    Deliver {
        served: ServedId,
        delivery: Delivery,
    },
    Expire(Arc<Answering>, Instant),
    Withdraw(Arc<Answering>),
    Settle(Own, Outcome),
    Flush(ConnectionId),
}

/// A request for a worker of this node.
pub(super) struct Delivery {
    pub(super) target: Target,
    pub(super) epoch: Epoch,
    pub(super) message: MessageType,
    pub(super) payload: Bytes,
    pub(super) deadline: Option<Instant>,
    pub(super) trace: Option<TraceContext>,
}

/// A request that is with a worker, or is to be handed to it.
#[derive(Default)]
struct Served {
    /// None until it is handed over.
    answering: Option<Arc<Answering>>,
    /// The newest deadline, if it has changed before.
    deadline: Option<Instant>,
}

/// What the lock guards.
struct State {
    requests: Requests,
    /// The number of the next request.
    next: u64,
    /// Requests among the jobs: later ones go the same way.
    queued: u32,
    own: HashMap<RequestId, Own>,
    serving: HashMap<ServedId, Served>,
    sockets: BTreeMap<ConnectionId, Socket>,
    members: BTreeMap<NodeId, Member>,
    next_accepted: u64,
    jobs: VecDeque<Job>,
    /// Connections with new bytes.
    unflushed: Vec<ConnectionId>,
    /// When the requests thread wakes to keep the time.
    due: Option<Instant>,
}

/// What other threads have put in, and the machine has not seen yet.
#[derive(Default)]
struct Inbox {
    messages: Vec<ToRequests>,
    /// The newest table of members, if it is new.
    members: Option<Vec<Member>>,
    /// By group and shard: the newest owner, if it is new.
    owners: BTreeMap<(u64, u32), Option<(NodeId, Epoch)>>,
    /// Whether the requests thread has ended.
    is_closed: bool,
}

/// Drives the requests of a node.
pub(crate) struct Driver {
    /// Where the connections of this node come from.
    pub(super) host: IpAddr,
    pub(super) seal: Option<Arc<SealShared>>,
    clock: Clock,
    /// The groups of this node that take requests, by the hash of their name.
    doors: DashMap<u64, Arc<dyn Door>>,
    worker_doors: Arc<WorkerDoors>,
    inbox: Mutex<Inbox>,
    has_mail: AtomicBool,
    state: Mutex<State>,
    /// Wakes the requests thread for its jobs.
    pub(super) has_jobs: Notify,
    /// Wakes its task that keeps the time, when something is due earlier.
    pub(super) is_earlier: Notify,
    /// Whether the node has left, or a thread has failed under the lock.
    has_ended: AtomicBool,
}

impl Driver {
    pub(super) fn new(config: RequestsConfig, me: Me) -> Driver {
        let state = State {
            requests: Requests::new(config, me.cluster, me.node, me.generation),
            next: FIRST_SENT,
            queued: 0,
            own: HashMap::new(),
            serving: HashMap::new(),
            sockets: BTreeMap::new(),
            members: BTreeMap::new(),
            next_accepted: 2,
            jobs: VecDeque::new(),
            unflushed: Vec::new(),
            due: None,
        };
        Driver {
            host: me.host,
            seal: me.seal,
            clock: me.clock,
            doors: DashMap::new(),
            worker_doors: me.doors,
            inbox: Mutex::default(),
            has_mail: AtomicBool::new(false),
            state: Mutex::new(state),
            has_jobs: Notify::new(),
            is_earlier: Notify::new(),
            has_ended: AtomicBool::new(false),
        }
    }

    pub(super) fn open_door(&self, group: u64, door: Arc<dyn Door>) {
        self.doors.insert(group, door);
    }

    /// Whether the node has left, or the requests have failed.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Hands a request to its worker.
    pub(super) fn deliver(&self, delivery: &Delivery) -> Result<Serving, Refusal> {
        let Delivery { target, epoch, message, payload, deadline, trace } = delivery;
        let carried = Carried::by_request(*deadline, *trace);
        match target {
            Target::Shard { group, .. } => {
                let door = self.doors.get(group).map(|door| door.value().clone());
                door.ok_or(Refusal::NoWorker)?.deliver(target, *epoch, *message, payload, carried)
            }
            Target::Worker { name, .. } => {
                self.worker_doors.of(name).ok_or(Refusal::NoWorker)?.deliver(*message, payload, carried)
            }
        }
    }

    // ---- for all threads -----------------------------------------------------------------------

    /// Puts something in, and waits for nothing: neither for the lock nor for a connection. The
    /// next thread that handles an input handles this first. Returns it if the requests thread has
    /// ended.
    pub(super) fn post(&self, message: ToRequests) -> Option<ToRequests> {
        {
            let mut inbox = lock(&self.inbox);
            if inbox.is_closed {
                return Some(message);
            }
            match message {
                ToRequests::Members(members) => inbox.members = Some(members),
                ToRequests::Input(Input::Owner { group, index, owner }) => {
                    inbox.owners.insert((group, index), owner);
                }
                other => inbox.messages.push(other),
            }
            self.has_mail.store(true, Ordering::Release);
        }
        self.has_jobs.notify_one();
        None
    }

    /// Sends a request of this node on the caller's thread.
    pub(super) fn send(&self, own: Own, input: impl FnOnce(RequestId) -> Input) -> RequestId {
        let mut state = self.lock();
        let id = RequestId(state.next);
        state.next += 1;
        if state.queued > 0 {
            state.queued += 1;
            state.jobs.push_back(Job::Send { own, input: input(id) });
            self.finish(state, false);
            return id;
        }
        state.own.insert(id, own);
        let finished = self.handle(&mut state, input(id), Some(id));
        let is_direct = state.own.len() <= WRITE_DIRECTLY_MAX;
        self.finish(state, is_direct);
        if let Some((own, outcome)) = finished {
            own.settle(outcome);
        }
        id
    }

    /// The sender of a request waits until then only.
    pub(super) fn set_deadline(&self, id: RequestId, deadline: Instant) {
        let mut state = self.lock();
        self.handle_in_turn(&mut state, Input::SetDeadline { id, deadline });
        self.finish(state, true);
    }

    /// A worker has answered a request, or cannot. Called on the thread where that happened.
    pub(super) fn answered(&self, served: ServedId, outcome: Outcome) {
        if !matches!(outcome, Outcome::Handled(_)) {
            // It may be the control thread, which must not wait.
            let _ = self.post(ToRequests::Input(Input::Served { served, outcome })); // Its thread may have ended.
            return;
        }
        let mut state = self.lock();
        if state.serving.remove(&served).is_some() {
            self.handle(&mut state, Input::Served { served, outcome }, None);
        }
        let is_direct = state.serving.len() < WRITE_DIRECTLY_MAX;
        self.finish(state, is_direct);
    }

    /// How the requests stand, for people who ask. It handles nothing that was put in meanwhile: a
    /// thread that only looks leaves no jobs behind.
    #[cfg(feature = "http")]
    pub(super) fn figures(&self) -> heartbeat_core::requests::Figures {
        let now = self.clock.now();
        lock(&self.state).requests.figures(now)
    }

    // ---- for the requests thread, which looks for jobs afterwards -------------------------------

    /// Handles an input; what follows is left as jobs.
    pub(super) fn handle_now(&self, input: Input) {
        let mut state = self.lock();
        self.handle(&mut state, input, None);
        drop(self.write_all(state));
    }

    /// A connection is there, which this node has opened or accepted.
    pub(super) fn add_socket(
        &self,
        connection: ConnectionId,
        Connection { stream, halves }: Connection,
        input: Input,
    ) -> (Arc<Line>, Option<OpenHalf>) {
        let (seal, open) = halves.map_or((None, None), |halves| {
            let (seal, open) = *halves;
            (Some(seal), Some(open))
        });
        let mut state = self.lock();
        let socket = Socket::new(stream, seal);
        let line = socket.line.clone();
        state.sockets.insert(connection, socket);
        self.handle(&mut state, input, None);
        drop(self.write_all(state));
        (line, open)
    }

    /// Whether a connection waits until it can be written to, and whether it is to be closed then;
    /// none if it is closed.
    pub(super) fn wait_of(&self, connection: ConnectionId) -> Option<(bool, bool)> {
        lock(&self.state).sockets.get(&connection).map(|socket| (socket.is_blocked, socket.is_closing))
    }

    /// Writes what waits on a connection that can be written to.
    pub(super) fn unblock(&self, connection: ConnectionId) {
        let mut state = self.lock();
        if let Some(socket) = state.sockets.get_mut(&connection) {
            socket.is_blocked = false;
            state.unflushed.push(connection);
        }
        drop(self.write_all(state));
    }

    /// A connection has broken, or the other side has closed it.
    pub(super) fn end_socket(&self, connection: ConnectionId) {
        let mut state = self.lock();
        self.remove_socket(&mut state, connection);
        drop(self.write_all(state));
    }

    /// Writes what other threads have put in, and takes the next jobs. New ones come meanwhile.
    pub(super) fn take_jobs(&self) -> VecDeque<Job> {
        let state = self.lock();
        std::mem::take(&mut self.write_all(state).jobs)
    }

    /// Sends a request that was among the jobs. `input`: none if it needs not be sent.
    pub(super) fn send_queued(&self, own: Own, input: Option<Input>) {
        let mut state = self.lock();
        state.queued -= 1;
        match input {
            Some(input) => {
                if let Input::Send { id, .. } = &input {
                    state.own.insert(*id, own);
                }
                self.handle(&mut state, input, None);
            }
            None => own.route.end(),
        }
        drop(self.write_all(state));
    }

    /// Whether requests of this node wait or are under way.
    pub(super) fn has_own(&self) -> bool {
        let state = self.lock();
        !state.own.is_empty() || state.queued > 0
    }

    /// Whether a request that is to be handed over is still wanted.
    pub(super) fn is_wanted(&self, served: ServedId) -> bool {
        lock(&self.state).serving.contains_key(&served)
    }

    /// Requests were handed to workers, or refused.
    pub(super) fn set_delivered(&self, delivered: Vec<(ServedId, Result<Arc<Answering>, Refusal>)>) {
        let mut state = self.lock();
        for (served, delivered) in delivered {
            match (delivered, state.serving.get_mut(&served)) {
                (Ok(answering), Some(serving)) => {
                    if let Some(deadline) = serving.deadline {
                        answering.expire_at(deadline);
                    }
                    serving.answering = Some(answering);
                }
                (Err(refusal), Some(_)) => {
                    state.serving.remove(&served);
                    let outcome = Outcome::Refused(refusal);
                    self.handle(&mut state, Input::Served { served, outcome }, None);
                }
                // It was answered meanwhile, or withdrawn.
                (Ok(answering), None) => state.jobs.push_back(Job::Withdraw(answering)),
                (Err(_), None) => {}
            }
        }
        drop(self.write_all(state));
    }

    /// Writes what waits on a connection, and closes it if it is to be closed.
    pub(super) fn flush(&self, connection: ConnectionId) {
        let mut state = self.lock();
        state.unflushed.push(connection);
        drop(self.write_all(state));
    }

    /// When something is due next.
    pub(super) fn due(&self) -> Option<Instant> {
        lock(&self.state).due
    }

    /// Handles what is due now.
    pub(super) fn handle_due(&self) {
        let mut state = self.lock();
        state.due = None;
        self.handle(&mut state, Input::Timeout, None);
        drop(self.write_all(state));
    }

    pub(super) fn wait_until(&self, due: Instant) -> std::time::Duration {
        let now = self.clock.now();
        due.max(now) - now
    }

    /// The requests thread has ended: nothing more is put in, no request waits any more, and all
    /// connections are closed.
    pub(super) fn close(&self) {
        self.has_ended.store(true, Ordering::Release);
        // A door may hold its node, which holds the doors.
        self.doors.clear();
        lock(&self.inbox).is_closed = true;
        let mut state = self.lock();
        self.handle(&mut state, Input::Leave, None);
        state.queued = 0;
        let (own, serving) = (std::mem::take(&mut state.own), std::mem::take(&mut state.serving));
        let (sockets, jobs) = (std::mem::take(&mut state.sockets), std::mem::take(&mut state.jobs));
        drop(state);
        drop((serving, sockets));
        own.into_values().for_each(|own| own.settle(Outcome::Interrupted(Interruption::NodeLeft)));
        for job in jobs {
            match job {
                Job::Settle(own, outcome) => own.settle(outcome),
                Job::SendOn { own, .. } | Job::Send { own, .. } => own.settle(Outcome::Refused(Refusal::Leaving)),
                Job::Accept { .. }
                | Job::Connect { .. }
                | Job::Handle(_)
                | Job::Deliver { .. }
                | Job::Expire(..)
                | Job::Withdraw(_)
                | Job::Flush(_) => {}
            }
        }
    }

    // ---- under the lock ------------------------------------------------------------------------

    /// The state, with everything handled that other threads have put in before.
    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = match self.state.lock() {
            Ok(state) => state,
            // A thread has failed in the middle of a change: no request is taken any more.
            Err(poisoned) => {
                self.has_ended.store(true, Ordering::Release);
                self.has_jobs.notify_one();
                poisoned.into_inner()
            }
        };
        self.take_mail(&mut state);
        state
    }

    fn take_mail(&self, state: &mut State) {
        if !self.has_mail.load(Ordering::Acquire) {
            return;
        }
        let (messages, members, owners) = {
            let mut inbox = lock(&self.inbox);
            self.has_mail.store(false, Ordering::Release);
            let Inbox { messages, members, owners, is_closed: _ } = &mut *inbox;
            (std::mem::take(messages), members.take(), std::mem::take(owners))
        };
        if let Some(members) = members {
            self.set_members(state, members);
        }
        for ((group, index), owner) in owners {
            self.handle(state, Input::Owner { group, index, owner }, None);
        }
        for message in messages {
            self.handle_message(state, message);
        }
    }

    fn handle_message(&self, state: &mut State, message: ToRequests) {
        match message {
            ToRequests::Input(input) => {
                if let Input::Served { served, .. } = &input
                    && state.serving.remove(served).is_none()
                {
                    return;
                }
                self.handle_in_turn(state, input);
            }
            ToRequests::SendOn { id, pending, route, key } => {
                state.queued += 1;
                state.jobs.push_back(Job::SendOn { id, own: Own { pending, route }, key });
            }
            // A stream needs the runtime of the requests thread.
            ToRequests::Accepted(stream, halves) => {
                let connection = ConnectionId(state.next_accepted);
                state.next_accepted += 2;
                state.jobs.push_back(Job::Accept { connection, stream, halves });
            }
            ToRequests::Members(members) => self.set_members(state, members),
            ToRequests::End => self.has_ended.store(true, Ordering::Release),
        }
    }

    /// Brings the requests up to the table of members, where it has changed.
    fn set_members(&self, state: &mut State, members: Vec<Member>) {
        let now: BTreeMap<NodeId, Member> = members.into_iter().map(|member| (member.id, member)).collect();
        let before = std::mem::replace(&mut state.members, now.clone());
        for (node, member) in &now {
            let is_same = |old: &Member| {
                (old.generation, old.status, old.address) == (member.generation, member.status, member.address)
            };
            if !before.get(node).is_some_and(is_same) {
                let (generation, address, status) = (member.generation, member.address, member.status);
                self.handle(state, Input::Member { node: *node, generation, address, status }, None);
            }
        }
        for (node, member) in before.iter().filter(|(node, _)| !now.contains_key(node)) {
            let (generation, address) = (member.generation, member.address);
            self.handle(state, Input::Member { node: *node, generation, address, status: Status::Dead }, None);
        }
    }

    /// Handles an input that may be about a request among the jobs: after these.
    fn handle_in_turn(&self, state: &mut State, input: Input) {
        if state.queued > 0 {
            state.jobs.push_back(Job::Handle(input));
        } else {
            self.handle(state, input, None);
        }
    }

    /// Handles one input. Returns the request `mine` if it has ended; all others are settled by the
    /// requests thread, since that runs code of their senders.
    fn handle(&self, state: &mut State, input: Input, mine: Option<RequestId>) -> Option<(Own, Outcome)> {
        let mut finished = None;
        state.requests.handle(self.clock.now(), input);
        while let Some(output) = state.requests.poll_output() {
            match output {
                Output::Connect { connection, to } => state.jobs.push_back(Job::Connect { connection, to }),
                Output::Write { connection, bytes } => {
                    if let Some(socket) = state.sockets.get_mut(&connection) {
                        socket.push(bytes);
                        if state.unflushed.last() != Some(&connection) {
                            state.unflushed.push(connection);
                        }
                    }
                }
                Output::Close { connection } => {
                    if let Some(socket) = state.sockets.get_mut(&connection) {
                        socket.is_closing = true;
                        socket.line.changed.notify_one();
                        state.unflushed.push(connection);
                    }
                }
                Output::Deliver { served, target, epoch, message, payload, deadline, trace } => {
                    state.serving.insert(served, Served::default());
                    let delivery = Delivery { target, epoch, message, payload, deadline, trace };
                    state.jobs.push_back(Job::Deliver { served, delivery });
                }
                Output::Deadline { served, deadline } => match state.serving.get_mut(&served) {
                    Some(Served { answering: Some(answering), .. }) => {
                        state.jobs.push_back(Job::Expire(answering.clone(), deadline));
                    }
                    Some(serving) => serving.deadline = Some(deadline),
                    None => {}
                },
                Output::Withdraw { served } => {
                    let serving = state.serving.remove(&served);
                    state.jobs.extend(serving.and_then(|serving| serving.answering).map(Job::Withdraw));
                    let outcome = Outcome::TimedOut;
                    state.requests.handle(self.clock.now(), Input::Served { served, outcome });
                }
                Output::Finish { id, outcome } => match state.own.remove(&id) {
                    Some(own) if Some(id) == mine => finished = Some((own, outcome)),
                    Some(own) => state.jobs.push_back(Job::Settle(own, outcome)),
                    None => {}
                },
            }
        }
        let due = state.requests.poll_timeout();
        if due.is_some_and(|due| state.due.is_none_or(|before| due < before)) {
            state.due = due;
            self.is_earlier.notify_one();
        }
        finished
    }

    // ---- writing -------------------------------------------------------------------------------

    /// Writes what is new, or leaves that to the requests thread, and wakes that for its jobs.
    fn finish<'a>(&'a self, mut state: MutexGuard<'a, State>, is_direct: bool) {
        if is_direct {
            state = self.write_all(state);
        } else {
            let state = &mut *state;
            state.jobs.extend(state.unflushed.drain(..).map(Job::Flush));
        }
        let has_jobs = !state.jobs.is_empty();
        drop(state);
        if has_jobs {
            self.has_jobs.notify_one();
        }
    }

    /// Writes what is new, as often as [`WRITES_MAX`]: a sender is not kept by the bytes of others.
    /// The requests thread goes on.
    fn write_all<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        for _ in 0..WRITES_MAX {
            let Some(connection) = state.unflushed.pop() else { return state };
            state = self.write(state, connection);
        }
        let left = &mut *state;
        left.jobs.extend(left.unflushed.drain(..).map(Job::Flush));
        state
    }

    /// Writes what waits on a connection.
    fn write<'a>(&'a self, mut state: MutexGuard<'a, State>, connection: ConnectionId) -> MutexGuard<'a, State> {
        let Some(socket) = state.sockets.get_mut(&connection) else { return state };
        if let Some(mut pieces) = socket.begin_write() {
            let line = socket.line.clone();
            drop(state);
            let written = pieces.write_to(&line);
            state = self.lock();
            let Some(socket) = state.sockets.get_mut(&connection) else { return state };
            match written {
                Ok(bytes) => {
                    socket.end_write(pieces);
                    if bytes > 0 {
                        self.handle(&mut state, Input::Written { connection, bytes }, None);
                    }
                }
                Err(_broken) => self.remove_socket(&mut state, connection),
            }
        }
        let Some(socket) = state.sockets.get_mut(&connection) else { return state };
        if socket.wants_writer() {
            state.unflushed.push(connection);
        } else if socket.is_closing && socket.is_flushed() {
            self.remove_socket(&mut state, connection);
        }
        state
    }

    fn remove_socket(&self, state: &mut State, connection: ConnectionId) {
        if let Some(socket) = state.sockets.remove(&connection) {
            socket.line.changed.notify_one(); // Its task ends.
            if !socket.is_closing {
                self.handle(state, Input::Ended { connection }, None);
            }
        }
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counters { sent, held, under_way, .. } = lock(&self.state).requests.counters();
        f.debug_struct("Driver").field("sent", &sent).field("held", &held).field("under_way", &under_way).finish()
    }
}
