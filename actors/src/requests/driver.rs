//! The requests thread: drives [`Requests`], as the supervisor drives the engine.
//!
//! One task handles what other threads send; one task for each connection reads; one task for each
//! request waits for its worker. All of them run on one thread and share the driver.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use dashmap::DashMap;
use heartbeat_core::requests::{
    ConnectionId, Counters, Input, Outcome, Output, Refusal, RequestId, Requests, RequestsConfig, ServedId, Target,
};
use heartbeat_core::{Generation, Interruption, Member, NodeId};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tracing::{debug, error};

use crate::clock::Clock;
use crate::requests::socket::{READ_BYTES, Socket};
use crate::requests::{Door, FIRST_SENT, Pending, RequestsLink, Route, ToRequests};
use crate::worker::envelope::{Carried, Expiring};
use crate::worker::worker_door::{Serving, WorkerDoors};

/// How long connecting may take.
const CONNECT_FOR: Duration = Duration::from_secs(3);

/// How long a node that has left goes on, so that the last responses get out.
const LINGER: Duration = Duration::from_millis(500);

/// How long a node that has left waits for the answers to its own requests.
const ANSWERS_FOR: Duration = Duration::from_secs(5);

/// How often it looks whether all of them are there.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Messages of other threads that are handled before the outputs are written.
const BATCH: usize = 128;

/// Who this node is.
pub(crate) struct Me {
    pub(crate) node: NodeId,
    pub(crate) generation: Generation,
    pub(crate) cluster: u32,
    pub(crate) clock: Clock,
    /// The workers that accept messages of other nodes.
    pub(crate) doors: Arc<WorkerDoors>,
}

/// Starts the requests thread.
///
/// # Errors
/// The system makes no thread.
pub(crate) fn start(config: RequestsConfig, me: Me) -> io::Result<Arc<RequestsLink>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let doors = Arc::new(DashMap::new());
    let (next, next_moved) = (AtomicU64::new(FIRST_SENT), AtomicU64::new(1));
    let has_left = AtomicBool::new(false);
    let link = RequestsLink { sender, clock: me.clock, next, next_moved, doors: doors.clone(), has_left };
    std::thread::Builder::new().name("heartbeat-requests".into()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return error!(event = "no_requests", %error, "requests to other nodes are not possible"),
        };
        LocalSet::new().block_on(&runtime, Driver::run(config, me, doors, receiver));
    })?;
    Ok(Arc::new(link))
}

/// A request of this node.
struct Own {
    pending: Arc<dyn Pending>,
    route: Arc<Route>,
}

/// A request that a worker of this node has.
struct Served {
    task: AbortHandle,
    envelope: Option<Arc<dyn Expiring>>,
}

struct Driver {
    this: Weak<RefCell<Driver>>,
    clock: Clock,
    requests: Requests,
    doors: Arc<DashMap<u64, Arc<dyn Door>>>,
    worker_doors: Arc<WorkerDoors>,
    own: HashMap<RequestId, Own>,
    serving: HashMap<ServedId, Served>,
    sockets: BTreeMap<ConnectionId, Socket>,
    /// Connections with bytes that were not tried to be written yet.
    unflushed: BTreeSet<ConnectionId>,
    members: BTreeMap<NodeId, Member>,
    next_accepted: u64,
    /// Wakes the task that writes.
    flush: Rc<Notify>,
    /// Wakes the task that keeps the time, when the next timeout is another one.
    timer: Rc<Notify>,
    due: Option<heartbeat_core::Instant>,
}

impl Driver {
    async fn run(
        config: RequestsConfig,
        me: Me,
        doors: Arc<DashMap<u64, Arc<dyn Door>>>,
        mut receiver: mpsc::UnboundedReceiver<ToRequests>,
    ) {
        let driver = Rc::new_cyclic(|this| {
            RefCell::new(Driver {
                this: this.clone(),
                clock: me.clock,
                requests: Requests::new(config, me.cluster, me.node, me.generation),
                doors,
                worker_doors: me.doors,
                own: HashMap::new(),
                serving: HashMap::new(),
                sockets: BTreeMap::new(),
                unflushed: BTreeSet::new(),
                members: BTreeMap::new(),
                next_accepted: 2,
                flush: Rc::default(),
                timer: Rc::default(),
                due: None,
            })
        });
        spawn_local(keep_time(driver.clone()));
        spawn_local(write(driver.clone()));
        let mut batch = Vec::with_capacity(BATCH);
        while receiver.recv_many(&mut batch, BATCH).await > 0 {
            let mut is_end = false;
            for message in batch.drain(..) {
                is_end |= matches!(message, ToRequests::End);
                driver.borrow_mut().handle_message(message);
            }
            if is_end {
                break;
            }
        }
        let rest = async {
            // Messages of this node that went on to the new owners get their answers.
            while !driver.borrow().own.is_empty() {
                let look_again = tokio::time::sleep(LOOK_AGAIN);
                tokio::select! {
                    Some(message) = receiver.recv() => driver.borrow_mut().handle_message(message),
                    () = look_again => {}
                }
            }
        };
        let is_over = tokio::time::timeout(ANSWERS_FOR, rest).await.is_ok();
        debug!(event = "requests_end", is_over, "the node has left; its requests end");
        driver.borrow_mut().end();
        tokio::time::sleep(LINGER).await;
        receiver.close();
        while let Ok(message) = receiver.try_recv() {
            driver.borrow_mut().handle_message(message);
        }
    }

    fn handle_message(&mut self, message: ToRequests) {
        match message {
            ToRequests::Input(input) => self.handle(input),
            ToRequests::Send { input, pending, route } => {
                if let Input::Send { id, .. } = &input {
                    self.own.insert(*id, Own { pending, route });
                }
                self.handle(input);
            }
            ToRequests::SendOn { id, pending, route, key } => match pending.take_encoded() {
                Some(encoded) => {
                    let input = route.send_on_input(id, key.as_deref(), encoded);
                    self.own.insert(id, Own { pending, route });
                    self.handle(input);
                }
                None => route.end(),
            },
            ToRequests::Accepted(stream) => {
                let Ok(stream) = TcpStream::from_std(stream) else { return };
                let connection = ConnectionId(self.next_accepted);
                self.next_accepted += 2;
                self.add_socket(connection, stream);
                self.handle(Input::Accepted { connection });
            }
            ToRequests::Members(members) => self.set_members(members),
            ToRequests::End => {}
        }
    }

    /// Brings the requests up to the table of members, where it has changed.
    fn set_members(&mut self, members: Vec<Member>) {
        let now: BTreeMap<NodeId, Member> = members.into_iter().map(|member| (member.id, member)).collect();
        let before = std::mem::replace(&mut self.members, now.clone());
        for (node, member) in &now {
            let is_same = |old: &Member| {
                (old.generation, old.status, old.address) == (member.generation, member.status, member.address)
            };
            if !before.get(node).is_some_and(is_same) {
                let (generation, address, status) = (member.generation, member.address, member.status);
                self.handle(Input::Member { node: *node, generation, address, status });
            }
        }
        for (node, member) in before.iter().filter(|(node, _)| !now.contains_key(node)) {
            let (generation, address) = (member.generation, member.address);
            self.handle(Input::Member { node: *node, generation, address, status: heartbeat_core::Status::Dead });
        }
    }

    fn handle(&mut self, input: Input) {
        self.requests.handle(self.clock.now(), input);
        while let Some(output) = self.requests.poll_output() {
            self.act(output);
        }
        let due = self.requests.poll_timeout();
        if due != self.due {
            self.due = due;
            self.timer.notify_one();
        }
    }

    fn act(&mut self, output: Output) {
        match output {
            Output::Connect { connection, to } => {
                let Some(driver) = self.this.upgrade() else { return };
                spawn_local(async move {
                    let connected = tokio::time::timeout(CONNECT_FOR, TcpStream::connect(to)).await;
                    let mut driver = driver.borrow_mut();
                    match connected {
                        Ok(Ok(stream)) => {
                            driver.add_socket(connection, stream);
                            driver.handle(Input::Connected { connection });
                        }
                        Ok(Err(_)) | Err(_) => driver.handle(Input::Ended { connection }),
                    }
                });
            }
            Output::Write { connection, bytes } => {
                if let Some(socket) = self.sockets.get_mut(&connection) {
                    socket.push(bytes);
                    self.unflushed.insert(connection);
                    self.flush.notify_one();
                }
            }
            Output::Close { connection } => {
                if let Some(socket) = self.sockets.get_mut(&connection) {
                    socket.is_closing = true;
                    self.unflushed.insert(connection);
                    self.flush.notify_one();
                }
            }
            Output::Deliver { served, target, epoch, message, payload, deadline, .. } => {
                let carried = Carried::until(deadline);
                let delivered = match &target {
                    Target::Shard { group, .. } => match self.doors.get(group).map(|door| door.value().clone()) {
                        Some(door) => door.deliver(&target, epoch, message, &payload, carried),
                        None => Err(Refusal::NoWorker),
                    },
                    Target::Worker { name, .. } => match self.worker_doors.of(name) {
                        Some(door) => door.deliver(message, &payload, carried),
                        None => Err(Refusal::NoWorker),
                    },
                };
                self.serve(served, delivered);
            }
            Output::Deadline { served, deadline } => {
                let envelope = self.serving.get(&served).and_then(|served| served.envelope.as_ref());
                if let Some(envelope) = envelope {
                    envelope.expire_at(deadline);
                }
            }
            Output::Withdraw { served } => {
                // Ending the task drops the reply, which cancels a message that waits.
                if let Some(Served { task, .. }) = self.serving.remove(&served) {
                    task.abort();
                    self.requests.handle(self.clock.now(), Input::Served { served, outcome: Outcome::TimedOut });
                }
            }
            Output::Finish { id, outcome } => {
                if let Some(Own { pending, route }) = self.own.remove(&id) {
                    route.end();
                    // Decoding runs code of the application, which must not end the thread.
                    if catch_unwind(AssertUnwindSafe(|| pending.settle(outcome, &route))).is_err() {
                        pending.settle(Outcome::Interrupted(Interruption::AnswerUndecodable), &route);
                    }
                }
            }
        }
    }

    /// Waits for a worker's answer, in a task of its own.
    fn serve(&mut self, served: ServedId, delivered: Result<Serving, Refusal>) {
        let Some(driver) = self.this.upgrade() else { return };
        match delivered {
            Ok(Serving { outcome, envelope }) => {
                let task = spawn_local(async move {
                    let outcome = outcome.await;
                    let mut driver = driver.borrow_mut();
                    driver.serving.remove(&served);
                    driver.handle(Input::Served { served, outcome });
                });
                self.serving.insert(served, Served { task: task.abort_handle(), envelope });
            }
            // Its input waits until this one is done with.
            Err(refusal) => {
                self.requests.handle(self.clock.now(), Input::Served { served, outcome: Outcome::Refused(refusal) });
            }
        }
    }

    fn add_socket(&mut self, connection: ConnectionId, stream: TcpStream) {
        let Some(driver) = self.this.upgrade() else { return };
        let mut socket = Socket::new(stream);
        let (stream, has_more) = (socket.stream.clone(), socket.has_more.clone());
        let reading = spawn_local(read(driver.clone(), connection, stream.clone()));
        let writing = spawn_local(write_on(Rc::downgrade(&driver), connection, stream, has_more));
        socket.tasks = vec![reading.abort_handle(), writing.abort_handle()];
        self.sockets.insert(connection, socket);
    }

    /// Writes what waits on a connection.
    fn flush(&mut self, connection: ConnectionId) {
        let Some(socket) = self.sockets.get_mut(&connection) else { return };
        match socket.flush() {
            Ok(bytes) => {
                if socket.is_flushed() && socket.is_closing {
                    self.sockets.remove(&connection);
                } else if bytes > 0 {
                    self.handle(Input::Written { connection, bytes });
                }
            }
            Err(_broken) => self.end_socket(connection),
        }
    }

    fn flush_all(&mut self) {
        while let Some(connection) = self.unflushed.pop_first() {
            self.flush(connection);
        }
    }

    fn end_socket(&mut self, connection: ConnectionId) {
        if let Some(socket) = self.sockets.remove(&connection)
            && !socket.is_closing
        {
            self.handle(Input::Ended { connection });
        }
    }

    /// The node has left: no request waits any more.
    fn end(&mut self) {
        self.handle(Input::Leave);
        // A door may hold its node, which holds the doors.
        self.doors.clear();
        self.flush_all();
    }
}

/// Calls the requests when something is due.
async fn keep_time(driver: Rc<RefCell<Driver>>) {
    let changed = driver.borrow().timer.clone();
    loop {
        let wait = {
            let driver = driver.borrow();
            driver.due.map(|due| due.max(driver.clock.now()) - driver.clock.now())
        };
        match wait {
            Some(wait) => tokio::select! {
                () = tokio::time::sleep(wait) => driver.borrow_mut().handle(Input::Timeout),
                () = changed.notified() => {}
            },
            None => changed.notified().await,
        }
    }
}

/// Writes, after all that can be done now has been done, so that many frames share one write.
async fn write(driver: Rc<RefCell<Driver>>) {
    let flush = driver.borrow().flush.clone();
    loop {
        flush.notified().await;
        driver.borrow_mut().flush_all();
    }
}

/// Goes on writing when the system takes bytes again.
async fn write_on(
    driver: Weak<RefCell<Driver>>,
    connection: ConnectionId,
    stream: Rc<TcpStream>,
    has_more: Rc<Notify>,
) {
    loop {
        has_more.notified().await;
        let is_ready = stream.writable().await.is_ok();
        let Some(driver) = driver.upgrade() else { return };
        let mut driver = driver.borrow_mut();
        if !is_ready || !driver.sockets.contains_key(&connection) {
            return;
        }
        driver.flush(connection);
    }
}

/// Reads a connection until it ends.
async fn read(driver: Rc<RefCell<Driver>>, connection: ConnectionId, stream: Rc<TcpStream>) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        if stream.readable().await.is_err() {
            break;
        }
        match stream.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                let mut driver = driver.borrow_mut();
                if !driver.sockets.contains_key(&connection) {
                    return;
                }
                driver.handle(Input::Read { connection, bytes: buffer[..count].to_vec() });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_broken) => break,
        }
    }
    debug!(event = "connection_ended", connection = connection.0, "a connection for requests ended");
    driver.borrow_mut().end_socket(connection);
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counters { sent, held, under_way, .. } = self.requests.counters();
        f.debug_struct("Driver").field("sent", &sent).field("held", &held).field("under_way", &under_way).finish()
    }
}
