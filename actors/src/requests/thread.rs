//! The requests thread: reads connections, keeps the time, and does what the driver leaves to it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use heartbeat_core::requests::{ConnectionId, Input, Refusal, RequestsConfig, ServedId};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};
use tracing::{debug, error};

use crate::requests::RequestsLink;
use crate::requests::answering::Answering;
use crate::requests::driver::{Delivery, Driver, Job, Me};
use crate::requests::socket::{Line, READ_BYTES_MAX, READ_BYTES_MIN};
use crate::seal::{OpenHalf, StreamPurpose};
use crate::transport::{Connection, Halves};

/// How long connecting may take.
const CONNECT_FOR: Duration = Duration::from_secs(3);

/// How long a connection that is to be closed waits until the other side takes more bytes.
const CLOSE_FOR: Duration = Duration::from_secs(5);

/// How long a node that has left goes on, so that the last responses get out.
const LINGER: Duration = Duration::from_millis(500);

/// How long a node that has left waits for the answers to its own requests.
const ANSWERS_FOR: Duration = Duration::from_secs(5);

/// How often it looks whether all of them are there.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How often jobs are taken before other tasks have their turn.
const TURNS_MAX: u32 = 8;

/// Starts the requests thread.
///
/// # Errors
/// The system makes no thread.
pub(crate) fn start(config: RequestsConfig, me: Me) -> io::Result<Arc<RequestsLink>> {
    let driver = Arc::new(Driver::new(config, me));
    let link = RequestsLink::new(driver.clone());
    std::thread::Builder::new().name("heartbeat-requests".into()).spawn(move || {
        let close = Close(driver.clone());
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => LocalSet::new().block_on(&runtime, run(driver)),
            Err(error) => error!(event = "no_requests", %error, "requests to other nodes are not possible"),
        }
        drop(close);
    })?;
    Ok(Arc::new(link))
}

/// Ends all requests when the thread ends, however it does.
struct Close(Arc<Driver>);

impl Drop for Close {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Ends all requests if a task of the thread fails.
struct CloseIfFailed(Arc<Driver>);

impl Drop for CloseIfFailed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close();
        }
    }
}

fn spawn(driver: &Arc<Driver>, task: impl Future<Output = ()> + 'static) {
    let guard = CloseIfFailed(driver.clone());
    spawn_local(async move {
        let _guard = guard;
        task.await;
    });
}

async fn run(driver: Arc<Driver>) {
    spawn(&driver, keep_time(driver.clone()));
    run_jobs(&driver);
    while !driver.has_ended() {
        driver.has_jobs.notified().await;
        run_jobs(&driver);
    }
    let rest = async {
        // Messages of this node that went on to the new owners get their answers.
        while driver.has_own() {
            tokio::select! {
                () = driver.has_jobs.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
            run_jobs(&driver);
        }
    };
    let is_over = tokio::time::timeout(ANSWERS_FOR, rest).await.is_ok();
    debug!(event = "requests_end", is_over, "the node has left; its requests end");
    driver.handle_now(Input::Leave);
    run_jobs(&driver);
    let go_on = async {
        loop {
            driver.has_jobs.notified().await;
            run_jobs(&driver);
        }
    };
    let _ = tokio::time::timeout(LINGER, go_on).await; // It has no end of its own.
}

/// Does what the driver has left to this thread.
fn run_jobs(driver: &Arc<Driver>) {
    for _ in 0..TURNS_MAX {
        let jobs = driver.take_jobs();
        if jobs.is_empty() {
            return;
        }
        let mut delivered = Vec::new();
        for job in jobs {
            match job {
                Job::Accept { connection, stream, halves } => accept(driver, connection, stream, halves),
                Job::Connect { connection, to } => spawn(driver, connect(driver.clone(), connection, to)),
                Job::Deliver { served, delivery } => deliver(driver, served, &delivery, &mut delivered),
                Job::SendOn { id, own, key } => {
                    let encoded = own.pending.take_encoded(&own.route);
                    let input = encoded.map(|encoded| own.route.send_on_input(id, key.as_deref(), encoded));
                    driver.send_queued(own, input);
                }
                Job::Send { own, input } => driver.send_queued(own, Some(input)),
                Job::Handle(input) => driver.handle_now(input),
                Job::Expire(answering, deadline) => answering.expire_at(deadline),
                Job::Withdraw(answering) => answering.withdraw(),
                Job::Settle(own, outcome) => own.settle(outcome),
                Job::Flush(connection) => driver.flush(connection),
            }
        }
        if !delivered.is_empty() {
            driver.set_delivered(delivered);
        }
    }
    driver.has_jobs.notify_one();
}

/// Hands a request to its worker.
fn deliver(
    driver: &Arc<Driver>,
    served: ServedId,
    delivery: &Delivery,
    delivered: &mut Vec<(ServedId, Result<Arc<Answering>, Refusal>)>,
) {
    if !driver.is_wanted(served) {
        return;
    }
    delivered.push((served, driver.deliver(delivery).map(|serving| Answering::start(driver.clone(), served, serving))));
}

fn accept(driver: &Arc<Driver>, connection: ConnectionId, stream: std::net::TcpStream, halves: Halves) {
    let Ok(from) = stream.peer_addr() else { return };
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let accepted = Connection { stream, halves };
    let (line, open) = driver.add_socket(connection, accepted, Input::Accepted { connection, from: from.ip() });
    spawn(driver, tend(driver.clone(), connection, line, open));
}

async fn connect(driver: Arc<Driver>, connection: ConnectionId, to: SocketAddr) {
    let connecting = Connection::open(driver.host, to, StreamPurpose::Requests, driver.seal.as_ref());
    match tokio::time::timeout(CONNECT_FOR, connecting).await {
        Ok(Ok(connected)) => {
            let (line, open) = driver.add_socket(connection, connected, Input::Connected { connection });
            run_jobs(&driver);
            tend(driver.clone(), connection, line, open).await;
        }
        Ok(Err(_)) | Err(_) => {
            driver.handle_now(Input::Ended { connection });
            run_jobs(&driver);
        }
    }
}

/// Calls the requests when something is due.
async fn keep_time(driver: Arc<Driver>) {
    loop {
        match driver.due() {
            Some(due) => tokio::select! {
                () = tokio::time::sleep(driver.wait_until(due)) => {
                    driver.handle_due();
                    run_jobs(&driver);
                }
                () = driver.is_earlier.notified() => {}
            },
            None => driver.is_earlier.notified().await,
        }
    }
}

/// Reads a connection until it ends, and goes on writing when the system takes bytes again.
async fn tend(driver: Arc<Driver>, connection: ConnectionId, line: Arc<Line>, mut open: Option<OpenHalf>) {
    let (mut buffer, mut size) = (BytesMut::new(), READ_BYTES_MIN);
    loop {
        let Some((is_blocked, is_closing)) = driver.wait_of(connection) else { return };
        let interest = if is_blocked { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let ready = tokio::select! {
            ready = line.stream.ready(interest) => ready,
            () = line.changed.notified() => continue,
            // The other side takes no more bytes.
            () = tokio::time::sleep(CLOSE_FOR), if is_closing => break,
        };
        let Ok(ready) = ready else { break };
        if ready.is_writable() && is_blocked {
            driver.unblock(connection);
            run_jobs(&driver);
        }
        if ready.is_readable() || ready.is_read_closed() {
            // What was read before is handled: the same space serves again, unless it was for large
            // messages.
            if buffer.capacity() > 4 * size {
                buffer = BytesMut::new();
            }
            buffer.reserve(size);
            match line.stream.try_read_buf(&mut (&mut buffer).limit(size)) {
                Ok(0) => break,
                Ok(count) => {
                    // Large messages are read in few pieces, and small ones take little space.
                    size = if count >= size { size * 4 } else { (count * 2).next_power_of_two() };
                    size = size.clamp(READ_BYTES_MIN, READ_BYTES_MAX);
                    let bytes = match &mut open {
                        None => buffer.split(),
                        Some(open) => {
                            open.unread().unsplit(buffer.split());
                            let mut plain = BytesMut::new();
                            if open.open(&mut plain).is_err() {
                                break;
                            }
                            plain
                        }
                    };
                    driver.handle_now(Input::Read { connection, bytes: bytes.freeze() });
                    run_jobs(&driver);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_broken) => break,
            }
        }
    }
    debug!(event = "connection_ended", connection = connection.0, "a connection for requests ended");
    driver.end_socket(connection);
    run_jobs(&driver);
}
