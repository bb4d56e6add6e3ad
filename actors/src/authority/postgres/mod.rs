//! An authority in a PostgreSQL database, for nodes on several hosts.
//!
//! A session is a row with the time at which it ends, by the server's clock. A renewal moves that
//! time. A node that finds the time over deletes the row; the database then makes the shards free
//! (`tables`). A claim of many shards is one statement. It grants each free shard under one more
//! than its last epoch, or under the node's or the server's time if that is higher. The last epoch
//! stays when the owner goes.
//!
//! # What it is careful about
//! - A renewal and the end of its session lock the same row, so only one of the two succeeds.
//! - If a server does not answer, the next one is tried after a sixth of the session's time, a
//!   second at most. Only a primary is used (`client`).
//! - A server that was paused carries out late what it was asked. So each change names a guard,
//!   which is raised after each call whose outcome is not known (`guard`).
//! - **A standby that takes over may lack the last commits.** It then knows neither all sessions
//!   nor all grants. It is recognised by its timeline or system identifier, at the first
//!   connection. From then on it grants nothing until every session that it may not know of has
//!   ended. A session whose last change it lacks is over, since each session counts its changes.
//! - A former primary that comes back is recognised by its lower timeline, and is not used.
//! - `NOTIFY` reports what became free. A look every few seconds finds what no notification
//!   reported, and ends the sessions whose time is over (`watch`).
//! - A pooler that gives each transaction another connection would lose settings, prepared
//!   statements and notifications. It is recognised and refused (`pooler`).
//! - **A lease is not fencing.** A write that was on its way when the lease ended is refused only
//!   if the statement compares its epoch.
//!
//! # Limits
//! - PostgreSQL 11 or later.
//! - A session lasts by the wall clock of the server. If that is set forward, sessions end early:
//!   by so much two nodes may own a shard, under two epochs.

mod causes;
mod client;
mod connection;
mod pooler;
mod tables;
mod tls;
mod watch;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use heartbeat_core::Generation;
use heartbeat_core::authority::{AuthorityRequest, AuthorityResponse, Claimed, SessionId, ShardName};
use heartbeat_core::config::PostgresConfig;
use heartbeat_core::member::Epoch;
use tokio_postgres::{Error, Row};

use super::guard::Guard;
use super::name::{escaped, unescaped};
use super::{Authority, AuthorityError, Claimant, check};
use client::{Failure, ServerClient};
use connection::Connection;
use watch::Watch;

/// How often a claim is repeated if its shards changed hands while it was made.
const CLAIM_TRIES: usize = 4;

/// What one node asks of a PostgreSQL database. It belongs to the thread, and the tokio runtime, on
/// which it was first used.
pub struct PostgresAuthority {
    servers: ServerClient,
    /// Names of cluster and node, as the tables have them.
    cluster: String,
    node: String,
    generation: Generation,
    guard: Guard,
    /// How many changes of this session were answered.
    version: Cell<(SessionId, i64)>,
    watch: tokio::sync::Mutex<Watch>,
}

/// What one statement of a claim came to.
enum Attempt {
    /// The results, in the order of the shards.
    Results(Vec<Claimed>),
    /// Some shards changed hands since the statement began, or are of sessions whose time is over.
    Changed,
    /// The server has taken over, and grants nothing for as long as this.
    Quiet(Duration),
    /// The session is not there under this guard.
    Missed,
}

impl PostgresAuthority {
    /// The authority in this database. Nothing is asked yet. `ttl` is how long the sessions are to
    /// last: calls that take longer than a sixth of it, or than a second, are repeated elsewhere.
    ///
    /// # Errors
    /// If there is no host, or a file of its TLS holds no certificate or key.
    pub fn new(
        config: &PostgresConfig,
        ttl: Duration,
        claimant: Claimant,
    ) -> Result<PostgresAuthority, AuthorityError> {
        let (cluster, node) = (escaped(&claimant.cluster), escaped(&claimant.node));
        Ok(PostgresAuthority {
            servers: ServerClient::new(config, ttl, &cluster)?,
            cluster,
            node,
            generation: claimant.generation,
            guard: Guard::default(),
            version: Cell::new((SessionId(0), 0)),
            watch: tokio::sync::Mutex::default(),
        })
    }

    async fn answer(&self, ask: AuthorityRequest) -> Result<AuthorityResponse, Failure> {
        check(&ask).map_err(Failure::Refused)?;
        match ask {
            AuthorityRequest::Open { ttl, previous } => self.begin(ttl, previous).await,
            AuthorityRequest::Renew { session } => self.renew(session).await,
            AuthorityRequest::Claim { session, shards, floor } => self.claim(session, &shards, floor).await,
            AuthorityRequest::Release { session, shards } => self.release(session, &shards).await,
            AuthorityRequest::Evict { node, generation } => self.evict(&node, generation).await,
        }
    }

    async fn begin(&self, ttl: Duration, previous: Option<SessionId>) -> Result<AuthorityResponse, Failure> {
        let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        let (generation, previous) = (self.generation.0.to_string(), previous.map(signed));
        let begin = async |connection: &Connection| {
            let payload = self.servers.payload();
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
                [&self.cluster, &self.node, &generation, &ttl_ms, &previous, &payload];
            connection.client.query_one(&connection.statements.begin, &parameters).await?.try_get::<_, i64>(0)
        };
        let session = SessionId(u64::try_from(self.servers.call(begin).await?).unwrap_or_default());
        Ok(AuthorityResponse::Opened { session, ttl: Duration::from_millis(u64::try_from(ttl_ms).unwrap_or_default()) })
    }

    async fn renew(&self, session: SessionId) -> Result<AuthorityResponse, Failure> {
        let (number, version) = (signed(session), self.version(session));
        let renew = async |connection: &Connection| {
            connection.client.query_opt(&connection.statements.renew, &[&number, &self.cluster, &version]).await
        };
        let renewed = self.servers.call(renew).await?;
        Ok(if renewed.is_some() { AuthorityResponse::Renewed } else { AuthorityResponse::Gone })
    }

    async fn claim(
        &self,
        session: SessionId,
        shards: &[ShardName],
        floor: Epoch,
    ) -> Result<AuthorityResponse, Failure> {
        let (places, shards) = places(shards);
        for _ in 0..CLAIM_TRIES {
            let attempt = async |connection: &Connection, guard| {
                self.claim_once(connection, session, guard, &shards, floor).await.map(|attempt| match attempt {
                    Attempt::Missed => None,
                    Attempt::Results(_) | Attempt::Changed | Attempt::Quiet(_) => Some(attempt),
                })
            };
            match self.guarded(session, attempt).await? {
                Attempt::Results(results) => {
                    let results = places.into_iter().map(|place| results[place].clone());
                    return Ok(AuthorityResponse::Claimed(results.collect()));
                }
                Attempt::Changed => self.end_over().await?,
                Attempt::Quiet(time) => {
                    let text = format!(
                        "PostgreSQL has another primary, which may lack the last grants: it grants no shard for another {:.1}s, until the sessions that it may not know of have ended",
                        time.as_secs_f64()
                    );
                    return Err(Failure::Refused(AuthorityError(text)));
                }
                Attempt::Missed => return Err(Failure::Gone),
            }
        }
        let text = format!("shards changed hands {CLAIM_TRIES} times in PostgreSQL while they were claimed");
        Err(Failure::Refused(AuthorityError(text)))
    }

    async fn claim_once(
        &self,
        connection: &Connection,
        session: SessionId,
        guard: i64,
        shards: &[&ShardName],
        floor: Epoch,
    ) -> Result<Attempt, Error> {
        let (groups, indices) = columns(shards);
        let (number, version, floor) = (signed(session), self.version(session), signed_epoch(floor));
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
            [&number, &self.cluster, &guard, &version, &groups, &indices, &floor];
        let rows = connection.client.query(&connection.statements.claim, &parameters).await?;
        let Some(first) = rows.first() else { return Ok(Attempt::Missed) };
        self.note_version(session, first.try_get(0)?);
        if shards.is_empty() {
            return Ok(Attempt::Results(Vec::new()));
        }
        let mut results = Vec::with_capacity(shards.len());
        for row in &rows {
            match Outcome::read(row)? {
                Outcome::Known(claimed) => results.push(claimed),
                Outcome::Changed => {
                    let quiet: Option<f64> = row.try_get(5)?;
                    let time = quiet.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                    return Ok(time.map_or(Attempt::Changed, Attempt::Quiet));
                }
            }
        }
        Ok(Attempt::Results(results))
    }

    async fn release(&self, session: SessionId, shards: &[ShardName]) -> Result<AuthorityResponse, Failure> {
        let (_, shards) = places(shards);
        let (groups, indices) = columns(&shards);
        let number = signed(session);
        let release = async |connection: &Connection, guard| {
            let payload = self.servers.payload();
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
                [&number, &self.cluster, &guard, &groups, &indices, &payload];
            let done = connection.client.query_opt(&connection.statements.release, &parameters).await?;
            let Some(row) = done else { return Ok(None) };
            self.note_version(session, row.try_get(0)?);
            Ok(Some(()))
        };
        match self.guarded(session, release).await {
            // With the session all its shards were given back.
            Ok(()) | Err(Failure::Gone) => Ok(AuthorityResponse::Done),
            Err(failure @ Failure::Refused(_)) => Err(failure),
        }
    }

    /// Makes a change for a session, if that is still there and the call was not given up
    /// meanwhile. The change says `None` if its guard was not the last one.
    async fn guarded<T>(
        &self,
        session: SessionId,
        change: impl AsyncFn(&Connection, i64) -> Result<Option<T>, Error>,
    ) -> Result<T, Failure> {
        let number = signed(session);
        let call = async |connection: &Connection| {
            // If it is dropped in the middle, the guard notes that the outcome is not known.
            let mut attempt = self.guard.attempt();
            loop {
                let raise = async {
                    let (statement, version) = (&connection.statements.raise_guard, self.version(session));
                    let raised = connection.client.query_opt(statement, &[&number, &self.cluster, &version]).await?;
                    raised.map(|row| row.try_get::<_, i64>(0)).transpose()
                };
                let Some(guard) = self.guard.revision(number, raise).await? else { break };
                if let Some(done) = change(connection, guard).await? {
                    attempt.is_done();
                    return Ok(Some(done));
                }
                self.guard.refuse(number, guard).await;
            }
            attempt.is_done();
            Ok(None)
        };
        self.servers.call(call).await?.ok_or(Failure::Gone)
    }

    async fn evict(&self, node: &str, until: Generation) -> Result<AuthorityResponse, Failure> {
        let (node, until, payload) = (escaped(node), until.0.to_string(), self.servers.payload());
        let evict = async |connection: &Connection| {
            let statement = &connection.statements.evict;
            connection.client.execute(statement, &[&self.cluster, &node, &until, &payload]).await
        };
        self.servers.call(evict).await?;
        Ok(AuthorityResponse::Done)
    }

    /// Ends the sessions whose time is over.
    async fn end_over(&self) -> Result<(), Failure> {
        let payload = self.servers.payload();
        let end = async |connection: &Connection| {
            connection.client.execute(&connection.statements.end_over, &[&self.cluster, &payload]).await
        };
        self.servers.call(end).await.map(drop)
    }

    fn version(&self, session: SessionId) -> i64 {
        let (of, version) = self.version.get();
        if of == session { version } else { 0 }
    }

    /// Answers come in any order.
    fn note_version(&self, session: SessionId, version: i64) {
        self.version.set((session, version.max(self.version(session))));
    }
}

/// What the row of one shard says.
enum Outcome {
    Known(Claimed),
    /// It has changed hands, or its session's time is over, or the server is quiet.
    Changed,
}

impl Outcome {
    fn read(row: &Row) -> Result<Outcome, Error> {
        let (epoch, holder): (Option<i64>, Option<String>) = (row.try_get(2)?, row.try_get(3)?);
        if let Some(epoch) = epoch {
            return Ok(Outcome::Known(Claimed::Granted(Epoch(u64::try_from(epoch).unwrap_or_default()))));
        }
        let is_over: bool = row.try_get(4)?;
        Ok(match holder {
            Some(node) if !is_over => Outcome::Known(Claimed::Held { by: unescaped(&node).unwrap_or(node).into() }),
            Some(_) | None => Outcome::Changed,
        })
    }
}

/// These shards, each once and in one order, so that two claims never wait for each other; and
/// where in them each is.
fn places(shards: &[ShardName]) -> (Vec<usize>, Vec<&ShardName>) {
    let mut known: BTreeMap<&ShardName, usize> = shards.iter().map(|shard| (shard, 0)).collect();
    known.values_mut().enumerate().for_each(|(place, value)| *value = place);
    (shards.iter().map(|shard| known[shard]).collect(), known.into_keys().collect())
}

fn columns(shards: &[&ShardName]) -> (Vec<String>, Vec<i64>) {
    shards.iter().map(|shard| (escaped(&shard.group), i64::from(shard.index))).unzip()
}

/// A number that no server has given out becomes one that it never will.
fn signed(session: SessionId) -> i64 {
    i64::try_from(session.0).unwrap_or(i64::MAX)
}

fn signed_epoch(epoch: Epoch) -> i64 {
    i64::try_from(epoch.0).unwrap_or(i64::MAX)
}

impl Authority for PostgresAuthority {
    fn ask(
        self: Rc<Self>,
        ask: AuthorityRequest,
    ) -> LocalBoxFuture<'static, Result<AuthorityResponse, AuthorityError>> {
        async move {
            match self.answer(ask).await {
                Err(Failure::Gone) => Ok(AuthorityResponse::Gone),
                Err(Failure::Refused(error)) => Err(error),
                Ok(response) => Ok(response),
            }
        }
        .boxed_local()
    }

    fn freed(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move { self.watch.lock().await.freed(&self.servers, &self.cluster).await }.boxed_local()
    }
}

impl fmt::Debug for PostgresAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresAuthority")
            .field("cluster", &self.cluster)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_asked_for_once_and_in_one_order() {
        let shard = |index| ShardName { group: "a".into(), index };
        let asked = [shard(3), shard(1), shard(3), shard(2)];
        let (places, distinct) = places(&asked);
        assert_eq!(places, [2, 0, 2, 1]);
        assert_eq!(distinct.into_iter().map(|shard| shard.index).collect::<Vec<_>>(), [1, 2, 3]);
    }
}
