//! `client`: a connection to one server at a time. If that server does not answer, or is no
//! primary, the next one is tried.
//!
//! Each call has a short timeout. After it the connection is closed, and the client turns to the
//! next server. A call may therefore be carried out twice, so only calls that allow this are made.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use heartbeat_core::config::PostgresConfig;
use tokio::sync::watch;
use tokio_postgres::Error;

use super::super::AuthorityError;
use super::super::tls_files::TlsFiles;
use super::causes::{Cause, cause};
use super::connection::{Connection, Server};
use super::tables::Tables;

/// Longest time of one call, and of a new connection, which takes some ten round trips. A healthy
/// server answers a call within milliseconds.
pub(super) const CALL_MAX: Duration = Duration::from_secs(1);

/// Longest time of a call with all its repetitions, however long the session lasts: the node has
/// other requests to make.
const ALL_TRIES_MAX: Duration = Duration::from_secs(5);

/// The pause after no server has answered. It doubles with each such round, up to the longest, and
/// is the first one again after an answer.
const ROUND_PAUSE: Duration = Duration::from_millis(50);
const ROUND_PAUSE_MAX: Duration = Duration::from_millis(400);

/// The servers, and the connection to one of them.
pub(super) struct ServerClient {
    pub(super) config: PostgresConfig,
    pub(super) tables: Tables,
    pub(super) tls: Option<TlsFiles>,
    /// The cluster's name, as the tables have it.
    pub(super) cluster: String,
    pub(super) ttl: Duration,
    /// Longest time of one call.
    pub(super) call_max: Duration,
    all_tries_max: Duration,
    /// The last primary that this node has used.
    pub(super) primary: RefCell<Option<Server>>,
    state: RefCell<State>,
    pause: Cell<Duration>,
    /// Held while connecting, so that one task does it at a time.
    connects: tokio::sync::Mutex<()>,
    /// Counts the turns to the next server.
    turns: watch::Sender<u64>,
    /// Counts the notifications of freed shards, and the connections, since one may have come while
    /// there was none.
    pub(super) changes: watch::Sender<u64>,
}

struct State {
    /// Which of the servers.
    at: usize,
    connection: Option<Rc<Connection>>,
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The session is not there.
    Gone,
    /// Every other server would answer the same, or no server answers.
    Refused(AuthorityError),
}

impl ServerClient {
    pub(super) fn new(config: &PostgresConfig, ttl: Duration, cluster: &str) -> Result<ServerClient, AuthorityError> {
        if config.hosts.is_empty() {
            let text = "ownership.postgres.hosts is empty; use one like \"10.0.0.2:5432\"";
            return Err(AuthorityError(text.to_owned()));
        }
        let (certificate, key) = (config.certificate.as_deref(), config.key.as_deref());
        let tls = config.ca.as_deref().map(|ca| TlsFiles::open("ownership.postgres", ca, certificate, key));
        Ok(ServerClient {
            tables: Tables::new(&config.schema, &config.user),
            tls: tls.transpose()?,
            config: config.clone(),
            cluster: cluster.to_owned(),
            ttl,
            call_max: CALL_MAX.min(ttl / 6),
            all_tries_max: ALL_TRIES_MAX.min(ttl / 3),
            primary: RefCell::default(),
            state: RefCell::new(State { at: 0, connection: None }),
            pause: Cell::new(ROUND_PAUSE),
            connects: tokio::sync::Mutex::default(),
            turns: watch::channel(0).0,
            changes: watch::channel(1).0,
        })
    }

    /// Repeats a call until it succeeds, its time is over, or a repetition would not help. It may
    /// be carried out more than once.
    pub(super) async fn call<T>(&self, call: impl AsyncFn(&Connection) -> Result<T, Error>) -> Result<T, Failure> {
        let begun = Instant::now();
        let mut reasons = vec![None; self.config.hosts.len()];
        for attempt in 1_usize.. {
            let (at, turn) = (self.state.borrow().at, *self.turns.borrow());
            match self.attempt(&call).await {
                Ok(done) => {
                    self.pause.set(ROUND_PAUSE);
                    return Ok(done);
                }
                Err(Cause::Gone) => return Err(Failure::Gone),
                Err(Cause::Final(text)) => {
                    self.turn_from(turn);
                    let text = format!("PostgreSQL at {}: {text}", self.config.hosts[at]);
                    return Err(Failure::Refused(AuthorityError(text)));
                }
                Err(Cause::Again(text)) => reasons[at] = Some(text),
                Err(Cause::Passing(text)) => {
                    reasons[at] = Some(text);
                    self.turn_from(turn);
                }
            }
            if begun.elapsed() + self.call_max > self.all_tries_max && attempt >= 2 {
                break;
            }
            if attempt % self.config.hosts.len() == 0 {
                tokio::time::sleep(self.next_pause()).await;
            }
        }
        let reasons = self.config.hosts.iter().zip(reasons);
        let reasons: Vec<_> = reasons.filter_map(|(host, reason)| Some(format!("{host}: {}", reason?))).collect();
        Err(Failure::Refused(AuthorityError(format!("PostgreSQL does not answer ({})", reasons.join("; ")))))
    }

    /// How long to wait now that no server has answered.
    pub(super) fn next_pause(&self) -> Duration {
        self.pause.replace((self.pause.get() * 2).min(ROUND_PAUSE_MAX))
    }

    async fn attempt<T>(&self, call: impl AsyncFn(&Connection) -> Result<T, Error>) -> Result<T, Cause> {
        let connection = self.connected().await?;
        match tokio::time::timeout(self.call_max, call(&connection)).await {
            Ok(answer) => answer.map_err(|error| cause(&error, &self.config, &self.tables)),
            Err(_) => Err(silence(self.call_max)),
        }
    }

    /// The connection, which is made if there is none.
    async fn connected(&self) -> Result<Rc<Connection>, Cause> {
        tokio::time::timeout(CALL_MAX, self.connect_once()).await.unwrap_or_else(|_| Err(silence(CALL_MAX)))
    }

    async fn connect_once(&self) -> Result<Rc<Connection>, Cause> {
        let _connects = self.connects.lock().await;
        let turn = *self.turns.borrow();
        let (at, connection) = {
            let state = self.state.borrow();
            (state.at, state.connection.clone())
        };
        if let Some(connection) = connection {
            return Ok(connection);
        }
        let connection = Rc::new(Connection::open(self, &self.config.hosts[at]).await?);
        if turn == *self.turns.borrow() {
            self.state.borrow_mut().connection = Some(connection.clone());
            self.changes.send_modify(|changes| *changes += 1);
        }
        Ok(connection)
    }

    /// Turns to the next server, unless another task has done so since `turn`.
    fn turn_from(&self, turn: u64) {
        if turn != *self.turns.borrow() {
            return;
        }
        let mut state = self.state.borrow_mut();
        state.at = (state.at + 1) % self.config.hosts.len();
        state.connection = None;
        self.turns.send_modify(|turns| *turns += 1);
    }

    /// What a notification of this cluster says.
    pub(super) fn payload(&self) -> String {
        format!("{}/{}", self.config.schema, self.cluster)
    }
}

fn silence(time: Duration) -> Cause {
    Cause::Passing(format!("no answer within {time:?}; is it a PostgreSQL, and does it run?"))
}
