//! `client`: a connection to one server at a time. If that server does not answer, the next one is
//! tried.
//!
//! A client that waits for a paused server waits for as long as it is paused: 7 s and more were
//! measured with a plain one, longer than most leases. So each call has a short timeout. After any
//! failure the client turns to the next server over a new connection, and all streams are opened
//! anew there. A call may therefore be carried out twice, so only calls that allow this are made.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use etcd_client::{Client, ConnectOptions, Error, LeaseKeepAliveStream, LeaseKeeper};
use heartbeat_core::config::{EtcdConfig, Secret};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::super::tls_files::TlsFiles;
use super::super::{AuthorityError, secret};
use super::tls;

/// Longest time of one call. A healthy server answers within milliseconds. An election of a leader
/// takes about two seconds, in which the other servers are tried again.
const CALL_MAX: Duration = Duration::from_secs(1);

/// Longest time of a call with all its repetitions, however long the session lasts: the node has
/// other requests to make.
const ALL_TRIES_MAX: Duration = Duration::from_secs(5);

/// The pause after no server has answered. It doubles with each such round, up to the longest, and
/// is the first one again after an answer. While etcd elects a leader the servers are tried a few
/// times a second; an address without a server is not tried in a tight loop.
const ROUND_PAUSE: Duration = Duration::from_millis(50);
const ROUND_PAUSE_MAX: Duration = Duration::from_millis(400);

/// Numbers of gRPC (its "status codes").
const UNAUTHENTICATED: i32 = 16;
const UNIMPLEMENTED: i32 = 12;

/// The servers, and the connection to one of them.
pub(super) struct ServerClient {
    endpoints: Vec<String>,
    user: Option<(String, Secret)>,
    tls: Option<TlsFiles>,
    /// Longest time of one call.
    pub(super) call_max: Duration,
    /// Longest time of a call with all its repetitions.
    all_tries_max: Duration,
    state: RefCell<State>,
    /// Held while connecting, so that one task does it at a time.
    connects: tokio::sync::Mutex<()>,
    /// Counts the turns to the next server.
    turns: watch::Sender<u64>,
}

struct State {
    /// Which of the servers.
    at: usize,
    /// How long to wait after the next round in vain.
    pause: Duration,
    client: Option<Client>,
    /// The stream on which leases are kept alive, and of which lease that was the last one.
    keeper: Option<(i64, LeaseKeeper, LeaseKeepAliveStream)>,
}

/// A connection, and which turn it belongs to.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) client: Client,
    turn: u64,
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The lease is not there.
    Gone,
    /// Every other server would answer the same, or no server answers.
    Refused(AuthorityError),
}

/// What one attempt came to that did not succeed.
pub(super) enum Cause {
    Gone,
    /// No other server would answer otherwise.
    Final(String),
    /// Another server may succeed.
    Passing(String),
}

impl ServerClient {
    pub(super) fn new(config: &EtcdConfig, ttl: Duration) -> Result<ServerClient, AuthorityError> {
        for endpoint in &config.endpoints {
            let has_tls = endpoint.starts_with("https://");
            if !(has_tls || endpoint.starts_with("http://")) || address(endpoint).is_none() {
                return Err(AuthorityError(format!(
                    "ownership.etcd.endpoints holds {endpoint:?}; use one like \"http://10.0.0.2:2379\""
                )));
            }
            if has_tls != config.ca.is_some() {
                return Err(AuthorityError(format!(
                    "ownership.etcd.endpoints holds {endpoint:?}; use https and ownership.etcd.ca, or none of the two"
                )));
            }
        }
        if config.endpoints.is_empty() {
            let text = "ownership.etcd.endpoints is empty; use one like \"http://10.0.0.2:2379\"";
            return Err(AuthorityError(text.to_owned()));
        }
        let (certificate, key) = (config.certificate.as_deref(), config.key.as_deref());
        let tls = config.ca.as_deref().map(|ca| TlsFiles::open("ownership.etcd", ca, certificate, key));
        Ok(ServerClient {
            endpoints: config.endpoints.clone(),
            user: (!config.user.is_empty()).then(|| (config.user.clone(), config.password.clone())),
            tls: tls.transpose()?,
            call_max: CALL_MAX.min(ttl / 6),
            all_tries_max: ALL_TRIES_MAX.min(ttl / 3),
            state: RefCell::new(State { at: 0, client: None, keeper: None, pause: ROUND_PAUSE }),
            connects: tokio::sync::Mutex::default(),
            turns: watch::channel(0).0,
        })
    }

    /// Repeats a call until it succeeds, its time is over, or a repetition would not help. It may
    /// be carried out more than once.
    pub(super) async fn call<T>(&self, call: impl AsyncFn(Connected) -> Result<T, Error>) -> Result<T, Failure> {
        let begun = Instant::now();
        let mut causes = vec![None; self.endpoints.len()];
        for attempt in 1_usize.. {
            let (at, turn) = (self.state.borrow().at, *self.turns.borrow());
            let cause = match self.attempt(&call).await {
                Ok(done) => {
                    self.state.borrow_mut().pause = ROUND_PAUSE;
                    return Ok(done);
                }
                Err(Cause::Gone) => return Err(Failure::Gone),
                Err(Cause::Final(text)) => return Err(Failure::Refused(self.error(at, &text))),
                Err(Cause::Passing(text)) => text,
            };
            causes[at] = Some(cause);
            self.turn_from(turn);
            if begun.elapsed() + self.call_max > self.all_tries_max && attempt >= 2 {
                break;
            }
            if attempt % self.endpoints.len() == 0 {
                tokio::time::sleep(self.next_pause()).await;
            }
        }
        let answers =
            self.endpoints.iter().zip(causes).filter_map(|(endpoint, cause)| Some(format!("{endpoint}: {}", cause?)));
        let answers: Vec<_> = answers.collect();
        Err(Failure::Refused(AuthorityError(format!("etcd does not answer ({})", answers.join("; ")))))
    }

    /// How long to wait now that no server has answered.
    fn next_pause(&self) -> Duration {
        let mut state = self.state.borrow_mut();
        let next = (state.pause * 2).min(ROUND_PAUSE_MAX);
        std::mem::replace(&mut state.pause, next)
    }

    async fn attempt<T>(&self, call: impl AsyncFn(Connected) -> Result<T, Error>) -> Result<T, Cause> {
        let connected = self.connected().await?;
        match tokio::time::timeout(self.call_max, call(connected)).await {
            Ok(answer) => answer.map_err(|error| cause(&error)),
            Err(_) => Err(self.silence()),
        }
    }

    /// The connection, which is made if there is none.
    pub(super) async fn connected(&self) -> Result<Connected, Cause> {
        // On the heap: its 40 KiB would lie in the future of each call, and fill a stack when it is
        // moved.
        let connects = Box::pin(self.connect_once());
        tokio::time::timeout(self.call_max, connects).await.unwrap_or_else(|_| Err(self.silence()))
    }

    async fn connect_once(&self) -> Result<Connected, Cause> {
        let _connects = self.connects.lock().await;
        let turn = *self.turns.borrow();
        let (at, client) = {
            let state = self.state.borrow();
            (state.at, state.client.clone())
        };
        if let Some(client) = client {
            return Ok(Connected { client, turn });
        }
        let client = self.connect(&self.endpoints[at]).await?;
        if turn == *self.turns.borrow() {
            self.state.borrow_mut().client = Some(client.clone());
        }
        Ok(Connected { client, turn })
    }

    async fn connect(&self, endpoint: &str) -> Result<Client, Cause> {
        // The client connects in the background and does not report a refused connection.
        let host_and_port = address(endpoint).unwrap_or_default();
        let stream = match TcpStream::connect(host_and_port).await {
            Ok(stream) => stream,
            Err(error) => return Err(Cause::Passing(format!("no process listens there, {error}"))),
        };
        let options = ConnectOptions::new().with_require_leader(true).with_connect_timeout(self.call_max);
        let options = match self.user.clone() {
            Some((user, password)) => {
                let password = secret::read("ownership.etcd.password", &password).map_err(Cause::Final)?;
                options.with_user(user, password)
            }
            None => options,
        };
        let options = match &self.tls {
            Some(files) => {
                let set = files.current();
                // Nor does it say why there is no TLS.
                tls::check(stream, host_and_port, &set).await.map_err(Cause::Passing)?;
                options.with_tls(tls::options(&set))
            }
            None => options,
        };
        Client::connect([endpoint], Some(options)).await.map_err(|error| cause(&error))
    }

    /// Takes the stream for this lease, if it is open on this connection.
    pub(super) fn take_keeper(&self, connected: &Connected, lease: i64) -> Option<(LeaseKeeper, LeaseKeepAliveStream)> {
        let keeper = self.state.borrow_mut().keeper.take();
        let is_current = connected.turn == *self.turns.borrow();
        keeper.filter(|(of, ..)| is_current && *of == lease).map(|(_, keeper, stream)| (keeper, stream))
    }

    /// Puts the stream back, after it has answered.
    pub(super) fn put_keeper(
        &self,
        connected: &Connected,
        lease: i64,
        (keeper, stream): (LeaseKeeper, LeaseKeepAliveStream),
    ) {
        if connected.turn == *self.turns.borrow() {
            self.state.borrow_mut().keeper = Some((lease, keeper, stream));
        }
    }

    /// Turns to the next server, unless another task has done so since `turn`.
    pub(super) fn turn_from(&self, turn: u64) {
        if turn != *self.turns.borrow() {
            return;
        }
        let mut state = self.state.borrow_mut();
        state.at = (state.at + 1) % self.endpoints.len();
        state.client = None;
        state.keeper = None;
        self.turns.send_modify(|turns| *turns += 1);
    }

    /// Changes with each turn to another server.
    pub(super) fn turns(&self) -> watch::Receiver<u64> {
        self.turns.subscribe()
    }

    fn silence(&self) -> Cause {
        let time = self.call_max;
        Cause::Passing(format!("no answer within {time:?}; is it an etcd, and are most of its members there?"))
    }

    fn error(&self, at: usize, text: &str) -> AuthorityError {
        AuthorityError(format!("etcd at {}: {text}", self.endpoints[at]))
    }
}

impl Connected {
    pub(super) fn turn(&self) -> u64 {
        self.turn
    }
}

/// Host and port of an endpoint.
fn address(endpoint: &str) -> Option<&str> {
    let rest = endpoint.split_once("://")?.1.trim_end_matches('/');
    rest.rsplit_once(':').map(|_| rest)
}

/// What an error means. etcd's own errors differ by their texts, which are part of its API
/// (`rpctypes`).
fn cause(error: &Error) -> Cause {
    let status = match error {
        Error::GRpcStatus(status) => status,
        Error::LeaseKeepAliveError(text) if text == "lease not found" => return Cause::Gone,
        Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => {
            return Cause::Final(error.to_string());
        }
        // Not our own enum: its other variants are about the connection.
        _ => return Cause::Passing(error.to_string()),
    };
    let text = status.message();
    let says = |what: &str| text.contains(what);
    if says("requested lease not found") {
        Cause::Gone
    } else if says("user name is empty") {
        Cause::Final("it asks for a user; set ownership.etcd.user and ownership.etcd.password".to_owned())
    } else if says("invalid user ID or password") {
        Cause::Final(
            "it does not know this user or password; correct ownership.etcd.user and ownership.etcd.password"
                .to_owned(),
        )
    } else if says("authentication is not enabled") {
        Cause::Final("it asks for no user; leave ownership.etcd.user empty, or enable authentication there".to_owned())
    } else if says("permission denied") {
        Cause::Final("the user may not do that; let it read and write all keys under ownership.etcd.prefix".to_owned())
    } else if says("no leader") {
        Cause::Passing("it has no leader; are most of its members there?".to_owned())
    } else if i32::from(status.code()) == UNIMPLEMENTED {
        Cause::Passing("it is no etcd of version 3.4 or later".to_owned())
    } else if i32::from(status.code()) == UNAUTHENTICATED {
        Cause::Passing("our log-in is over".to_owned())
    } else if text.starts_with("etcdserver") {
        Cause::Passing(text.to_owned())
    } else {
        Cause::Passing(format!("the connection is of no use, {text}; is it an etcd?"))
    }
}
