//! Streams: the engine's TCP connections.
//!
//! Frames are datagrams with their length in two bytes before each (big-endian). Each connection is
//! a task of its own on the control thread. It takes one frame at a time from the other side, and
//! the frames that wait to be written are bounded. Nothing is decided here: the engine gets the
//! input that a stream was opened, refused or closed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use heartbeat_core::requests::PREFACE;
use heartbeat_core::wire::DATAGRAM_BYTES_MAX;
use heartbeat_core::{Input, StreamEvent, StreamId};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::clock::Clock;
use crate::control::input::Request;
use crate::control::log::Repeated;
use crate::control::supervisor::Supervisor;
use crate::requests::{RequestsLink, ToRequests};
use crate::seal::{SealShared, StreamPurpose};
use crate::transport::Connection;
use crate::worker::messages::ToSupervisor;

/// How long connecting may take.
const CONNECT_FOR: Duration = Duration::from_secs(3);

/// Frames that may wait to be written to one stream; the table of ten thousand members takes six
/// hundred.
const FRAMES_MAX: usize = 4_096;

/// How long one frame may take to be written. After that the other side does not read any more.
const WRITE_FOR: Duration = Duration::from_secs(5);

/// How long a stream that we have closed has to write what waits in it.
const CLOSE_FOR: Duration = Duration::from_secs(10);

/// Bytes that may wait to be written to all streams together. The stream with most of them is
/// closed when there are more.
const BYTES_MAX: usize = 64 << 20;

/// How long a stream that we have closed waits for the other side to take what was sent.
const LINGER: Duration = Duration::from_millis(500);

/// How long a listener that gives errors is left alone.
const PAUSE: Duration = Duration::from_millis(100);

/// The input that this happened on a stream whose other end is `from`.
fn happened(clock: Clock, stream: StreamId, from: SocketAddr, event: StreamEvent) -> ToSupervisor {
    ToSupervisor::at(clock.now(), Input::Stream { stream, from, event })
}

/// The streams of this node, by the engine's numbers.
pub(crate) struct Streams {
    clock: Clock,
    /// The host of this node; `None` if its transport has no streams.
    own: Option<IpAddr>,
    seal: Option<Arc<SealShared>>,
    /// Where frames wait to be written.
    writers: BTreeMap<StreamId, Writer>,
    /// Bytes that wait in all streams, those that are being closed included.
    waiting: Rc<Cell<usize>>,
}

/// Where the frames of a stream wait; dropping `frames` closes the stream once they are written.
struct Writer {
    frames: mpsc::Sender<Frame>,
    /// Bytes that wait in this stream.
    waiting: Rc<Cell<usize>>,
    task: JoinHandle<()>,
    from: SocketAddr,
    supervisor: Addr<Supervisor>,
}

/// A frame that waits to be written. It counts until it is dropped.
struct Frame {
    bytes: Vec<u8>,
    counts: [Rc<Cell<usize>>; 2],
}

impl Frame {
    fn new(bytes: &[u8], counts: [Rc<Cell<usize>>; 2]) -> Frame {
        counts.iter().for_each(|count| count.set(count.get() + bytes.len()));
        Frame { bytes: bytes.to_vec(), counts }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.counts.iter().for_each(|count| count.set(count.get() - self.bytes.len()));
    }
}

impl Streams {
    pub(crate) fn new(clock: Clock, own: Option<IpAddr>, seal: Option<Arc<SealShared>>) -> Streams {
        Streams { clock, own, seal, writers: BTreeMap::new(), waiting: Rc::default() }
    }

    /// Connects a stream.
    pub(crate) fn open(&mut self, stream: StreamId, to: SocketAddr, supervisor: Addr<Supervisor>) {
        let clock = self.clock;
        let report = move |event| happened(clock, stream, to, event);
        let Some(own) = self.own else {
            return supervisor.do_send(report(StreamEvent::Failed));
        };
        let (sender, frames) = mpsc::channel(FRAMES_MAX);
        let (reporter, seal) = (supervisor.clone(), self.seal.clone());
        let task = actix_rt::spawn(async move {
            let connecting = Connection::open(own, to, StreamPurpose::Engine, seal.as_ref());
            let what = match tokio::time::timeout(CONNECT_FOR, connecting).await {
                Ok(Ok(socket)) => {
                    supervisor.do_send(report(StreamEvent::Opened));
                    return converse(clock, stream, to, socket, frames, supervisor).await;
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => StreamEvent::Refused,
                Ok(Err(_)) | Err(_) => StreamEvent::Failed,
            };
            supervisor.do_send(report(what));
        });
        let writer = Writer { frames: sender, waiting: Rc::default(), task, from: to, supervisor: reporter };
        self.writers.insert(stream, writer);
    }

    /// Adds a stream that another node has connected.
    pub(crate) fn add(&mut self, stream: StreamId, from: SocketAddr, socket: Connection, supervisor: Addr<Supervisor>) {
        let (sender, frames) = mpsc::channel(FRAMES_MAX);
        let task = actix_rt::spawn(converse(self.clock, stream, from, socket, frames, supervisor.clone()));
        self.writers.insert(stream, Writer { frames: sender, waiting: Rc::default(), task, from, supervisor });
    }

    /// Queues one frame to be sent. A stream whose queue is full is closed.
    pub(crate) fn frame(&mut self, stream: StreamId, bytes: &[u8]) {
        let Some(writer) = self.writers.get(&stream) else { return };
        let frame = Frame::new(bytes, [self.waiting.clone(), writer.waiting.clone()]);
        if writer.frames.try_send(frame).is_err() {
            debug!(event = "stream_closed", stream = stream.0, "a stream takes no more frames; closing it");
            self.cut(stream);
        }
        while self.waiting.get() > BYTES_MAX
            && let Some((&largest, _)) = self.writers.iter().max_by_key(|(_, writer)| writer.waiting.get())
        {
            warn!(
                event = "stream_closed",
                stream = largest.0,
                bytes = BYTES_MAX,
                "too many bytes wait in all streams; closing the longest one"
            );
            self.cut(largest);
        }
    }

    /// Closes all streams once their frames are written. Returns whether there were any.
    pub(crate) fn shut_all(&mut self) -> bool {
        self.own = None;
        let streams: Vec<StreamId> = self.writers.keys().copied().collect();
        for &stream in &streams {
            self.shut(stream);
        }
        !streams.is_empty()
    }

    /// Ends a stream at once, with the frames that wait in it, and reports that to the engine.
    fn cut(&mut self, stream: StreamId) {
        let Some(Writer { task, from, supervisor, .. }) = self.writers.remove(&stream) else { return };
        task.abort();
        supervisor.do_send(happened(self.clock, stream, from, StreamEvent::Ended));
    }

    /// Closes a stream once its frames are written, or after [`CLOSE_FOR`].
    pub(crate) fn shut(&mut self, stream: StreamId) {
        let Some(Writer { frames, waiting, mut task, .. }) = self.writers.remove(&stream) else { return };
        drop(frames);
        if waiting.get() > 0 {
            actix_rt::spawn(async move {
                if tokio::time::timeout(CLOSE_FOR, &mut task).await.is_err() {
                    task.abort();
                }
            });
        }
    }
}

/// Looks a seed up and passes the outcome to the engine.
pub(crate) fn resolve(seed: std::sync::Arc<str>, supervisor: Addr<Supervisor>) {
    actix_rt::spawn(async move {
        let found = match tokio::net::lookup_host(&*seed).await {
            Ok(addresses) => Ok(addresses.collect()),
            Err(error) => Err(error.to_string().into()),
        };
        supervisor.do_send(ToSupervisor::unstamped(Input::Resolved { seed, found }));
    });
}

/// Connections whose first bytes are awaited at a time.
const GREETINGS_MAX: usize = 256;

/// How long a connection may take to send its first bytes.
const GREETING_FOR: Duration = Duration::from_secs(2);

/// Accepts connections without end. A connection that begins with [`PREFACE`] is for requests;
/// every other one is a stream of the engine.
pub(crate) async fn accept(
    clock: Clock,
    listener: TcpListener,
    supervisor: Addr<Supervisor>,
    requests: Option<Arc<RequestsLink>>,
    seal: Option<Arc<SealShared>>,
) {
    let greetings = Arc::new(Semaphore::new(GREETINGS_MAX));
    let mut failures = Repeated::new("accept_failed");
    let refused = Rc::new(RefCell::new(Repeated::new("connection_refused")));
    loop {
        failures.handle_timeout(|| clock.now());
        refused.borrow_mut().handle_timeout(|| clock.now());
        // While as many as that are awaited, further connections wait in the system's queue, which
        // is bounded.
        let Ok(permit) = greetings.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, from)) => {
                let (to, requests, seal) = (supervisor.clone(), requests.clone(), seal.clone());
                let refused = refused.clone();
                actix_rt::spawn(async move {
                    let _permit = permit;
                    match greet(socket, requests.as_deref(), seal.as_ref()).await {
                        Ok(Some(socket)) => {
                            // An error means that the node ends.
                            let _ = to.send(Request::Accepted { at: clock.now(), from, socket }).await;
                        }
                        Ok(None) => {}
                        Err(error) => {
                            if refused.borrow_mut().allows(clock.now()) {
                                warn!(event = "connection_refused", %from, %error, "a connection is refused");
                            }
                        }
                    }
                });
                if !supervisor.connected() {
                    return;
                }
            }
            Err(error) => {
                if failures.allows(clock.now()) {
                    warn!(event = "accept_failed", %error, "cannot accept connections; trying again");
                }
                actix_rt::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Finds out what a connection is for. One for requests goes to the requests thread, which has a
/// reactor of its own; any other one is returned.
///
/// # Errors
/// Its seal is missing or not right.
async fn greet(
    socket: TcpStream,
    requests: Option<&RequestsLink>,
    seal: Option<&Arc<SealShared>>,
) -> io::Result<Option<Connection>> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, "it sends nothing");
    let accepting = Connection::accept(socket, seal);
    let (connection, purpose) = tokio::time::timeout(GREETING_FOR, accepting).await.map_err(|_| late())??;
    let purpose = match purpose {
        Some(purpose) => purpose,
        None => {
            let begins = tokio::time::timeout(GREETING_FOR, begins_with_preface(&connection.stream)).await;
            if begins == Ok(true) { StreamPurpose::Requests } else { StreamPurpose::Engine }
        }
    };
    match (purpose, requests) {
        (StreamPurpose::Requests, Some(requests)) => {
            hand_over(connection, requests);
            Ok(None)
        }
        (StreamPurpose::Engine | StreamPurpose::Requests, _) => Ok(Some(connection)),
    }
}

/// Whether the connection begins as those for requests do. Nothing is taken off it.
async fn begins_with_preface(socket: &TcpStream) -> bool {
    let mut first = [0; PREFACE.len()];
    loop {
        match socket.peek(&mut first).await {
            Ok(count) if count > 0 && !PREFACE.starts_with(&first[..count]) => return false,
            Ok(count) if count == first.len() => return true,
            Ok(0) | Err(_) => return false,
            // The rest is on its way.
            Ok(_) => actix_rt::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

/// Gives a connection to the requests thread, which has a reactor of its own.
fn hand_over(connection: Connection, requests: &RequestsLink) {
    if let Ok(socket) = connection.stream.into_std() {
        requests.post(ToRequests::Accepted(socket, connection.halves));
    }
}

/// Reads and writes a stream until it ends at either side.
async fn converse(
    clock: Clock,
    stream: StreamId,
    from: SocketAddr,
    socket: Connection,
    mut frames: mpsc::Receiver<Frame>,
    supervisor: Addr<Supervisor>,
) {
    let (mut reader, mut writer) = socket.into_split();
    let supervisor = Rc::new(supervisor);
    let reporter = supervisor.clone();
    let read = async move {
        loop {
            let mut length = [0; 2];
            if reader.read_exact(&mut length).await.is_err() {
                return;
            }
            let length = usize::from(u16::from_be_bytes(length));
            if length > DATAGRAM_BYTES_MAX {
                return;
            }
            let mut bytes = vec![0; length];
            if reader.read_exact(&mut bytes).await.is_err() {
                return;
            }
            let frame = happened(clock, stream, from, StreamEvent::Frame(bytes));
            if reporter.send(frame).await.is_err() {
                return;
            }
        }
    };
    let write = async move {
        while let Some(frame) = frames.recv().await {
            let length = (frame.bytes.len() as u16).to_be_bytes();
            let bytes = [&length, &frame.bytes[..]].concat();
            match tokio::time::timeout(WRITE_FOR, writer.write_all(&bytes)).await {
                Ok(Ok(())) => {}
                // The reader notices the end, too.
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) => {
                    debug!(
                        event = "stream_closed",
                        stream = stream.0,
                        "the other side of a stream does not read; closing it"
                    );
                    return;
                }
            }
        }
        // We have closed it: an error means that the other side has, too.
        let _ = writer.shutdown().await;
        actix_rt::time::sleep(LINGER).await;
    };
    tokio::select! { () = read => {}, () = write => {} }
    supervisor.do_send(happened(clock, stream, from, StreamEvent::Ended));
}
