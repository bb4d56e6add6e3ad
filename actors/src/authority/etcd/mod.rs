//! An authority in an etcd cluster, for nodes on several hosts.
//!
//! A session is an etcd lease; a shard is taken by a transaction that puts its key, under the
//! lease, if there is none. The same transaction writes the shard's epoch: one more than its last
//! one, or the time if that is higher. The last epoch stays when the owner goes. So epochs rise
//! even over a restart of all servers and nodes. When a lease ends, by time or by hand, etcd
//! deletes its keys and notifies the watching nodes.
//!
//! # What it is careful about
//! - If a server does not answer, the next one is tried after a sixth of the session's time, a
//!   second at most (`client`).
//! - A leader of etcd that was paused may not know yet that it was replaced. It still answers
//!   renewals, and the new leader never receives them (etcd issues 12528 and 15247). So a renewal
//!   counts only after a read that most of the servers confirm, in the same term of the same leader
//!   (`renew`).
//! - Such a leader also ends leases that were renewed while it was paused. etcd mended this fault
//!   in November 2023 (pull request 16822, in later versions of 3.4 and 3.5). With an older one, as
//!   Debian 12's 3.4.23, a shard may have a new owner before the old one knows. The old owner
//!   learns of it with its next renewal. A node that renews whenever a shard became free learns of
//!   it within milliseconds.
//! - etcd counts a lease's time anew when its leader changes, and after a restart of all servers.
//!   The shards of a dead node may therefore be free up to twice as late as its time says. They are
//!   never free earlier.
//! - A paused server carries out the calls it received when it wakes. By then they were given up
//!   and repeated elsewhere. A late release would take back a shard that was claimed again since
//!   (seen in a test, with a leader paused for 10 s). So each change names a guard, which changes
//!   after each call whose outcome is not known (`guard`).
//! - **A lease is not fencing.** A write on its way while its sender is paused arrives after the
//!   lease is over. Only a write that names its epoch is then refused: [`EtcdAuthority::record`].
//!
//! # Limits
//! - etcd 3.4 or later.
//! - etcd's shortest lease is one and a half times its election timeout, in whole seconds: 2 s
//!   where that is not changed. Less is raised to it.

mod client;
mod keys;
mod tls;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, Error, GetOptions, KeyValue, PutOptions, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use heartbeat_core::Generation;
use heartbeat_core::authority::{AuthorityRequest, AuthorityResponse, Claimed, SessionId, ShardName};
use heartbeat_core::config::EtcdConfig;
use heartbeat_core::member::Epoch;

use super::guard::Guard;
use super::{Authority, AuthorityError, Claimant, check};
use client::{Connected, Failure, ServerClient};
use keys::Keys;
use watch::Watch;

/// How often a claim is repeated if its shards changed hands while it was made.
const CLAIM_TRIES: usize = 4;

/// Sessions of one node that one eviction ends: more processes of one name do not end within one
/// lease.
const SESSIONS_MAX: i64 = 1_000;

/// What one node asks of an etcd cluster. It belongs to the thread, and the tokio runtime, on which
/// it was first used.
pub struct EtcdAuthority {
    servers: ServerClient,
    keys: Keys,
    claimant: Claimant,
    guard: Guard,
    watch: tokio::sync::Mutex<Watch>,
}

/// What became of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recorded {
    /// It is written.
    Written,
    /// It is not: the shard has no owner, or its epoch is another one.
    Refused,
}

impl EtcdAuthority {
    /// The authority at these servers. Nothing is asked yet. `ttl` is how long the sessions are to
    /// last: calls that take longer than a sixth of it, or than a second, are repeated elsewhere.
    ///
    /// # Errors
    /// If an endpoint is not a valid address, or asks for TLS and there is no CA, or a file for TLS
    /// holds no certificate or key.
    pub fn new(config: &EtcdConfig, ttl: Duration, claimant: Claimant) -> Result<EtcdAuthority, AuthorityError> {
        let keys = Keys::new(&config.prefix, &claimant.cluster);
        let (servers, guard, watch) =
            (ServerClient::new(config, ttl)?, Guard::default(), tokio::sync::Mutex::default());
        Ok(EtcdAuthority { servers, keys, claimant, guard, watch })
    }

    /// Writes a value if the shard is still owned under this epoch; etcd checks this in the same
    /// step. Once the shard has a new owner, no write of the previous owner is accepted, however
    /// late it arrives.
    ///
    /// The value is put beside the shard's other records, at
    /// `PREFIX/CLUSTER/records/GROUP/INDEX/NAME`. It outlives the owner, and every client of etcd
    /// can read it there. etcd refuses values of over 1 MiB. Writes of one name arrive in the order
    /// in which they were made, if each is made after the one before has returned.
    ///
    /// # Errors
    /// If etcd does not answer. It is then not known whether the value is written. Once another
    /// write of that name has returned, it will not be written later.
    pub async fn record(
        &self,
        shard: &ShardName,
        epoch: Epoch,
        name: &str,
        value: impl Into<Vec<u8>>,
    ) -> Result<Recorded, AuthorityError> {
        let (owner, record, value) = (self.keys.shard(shard), self.keys.record(shard, name), value.into());
        let (last, epoch) = (self.keys.epoch(shard), epoch.0.to_string());
        // A session has the shard, and the last epoch that was given out is this one.
        let has_owner = || Compare::create_revision(&*owner, CompareOp::Greater, 0);
        let is_owned = || [has_owner(), Compare::value(&*last, CompareOp::Equal, &*epoch)];
        // A write of a call that timed out may still arrive. It succeeds only if the record is
        // still as that call has seen it.
        let write = async |Connected { mut client, .. }| {
            loop {
                let look = Txn::new().when(is_owned()).and_then([TxnOp::get(&*record, None)]);
                let looked = client.txn(look).await?;
                if !looked.succeeded() {
                    return Ok(Recorded::Refused);
                }
                let revision = got(looked.op_responses().first()).map_or(0, |record| record.mod_revision());
                let is_unchanged = Compare::mod_revision(&*record, CompareOp::Equal, revision);
                let put = TxnOp::put(&*record, value.clone(), None);
                let [has_owner, is_last] = is_owned();
                let write = Txn::new().when([has_owner, is_last, is_unchanged]).and_then([put]);
                if client.txn(write).await?.succeeded() {
                    return Ok(Recorded::Written);
                }
            }
        };
        self.servers.call(write).await.map_err(AuthorityError::from)
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
        if let Some(previous) = previous {
            match self.revoke(signed(previous.0)).await {
                Ok(()) | Err(Failure::Gone) => {}
                // It ends by itself, too.
                Err(Failure::Refused(error)) => {
                    tracing::debug!(event = "session_left", %error, "a previous session at etcd was not ended; it expires")
                }
            }
        }
        let seconds = i64::try_from(ttl.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX);
        self.servers
            .call(async |Connected { mut client, .. }| {
                let lease = client.lease_grant(seconds, None).await?;
                let session = SessionId(unsigned(lease.id()));
                let (key, value) =
                    (self.keys.session(&self.claimant.node, session), self.claimant.generation.0.to_string());
                client.put(key, value, Some(PutOptions::new().with_lease(lease.id()))).await?;
                Ok(AuthorityResponse::Opened { session, ttl: Duration::from_secs(unsigned(lease.ttl())) })
            })
            .await
    }

    /// Keeps the lease alive, and makes sure that it was the leader who did.
    ///
    /// The answer to a keep-alive names the term in which the server was before it passed it on.
    /// The read that follows is answered when most of the servers have confirmed the leader, and
    /// names the term after that. If the two are the same, there was one leader all along, and it
    /// has the renewal. If the session's key is gone, so is the lease.
    async fn renew(&self, session: SessionId) -> Result<AuthorityResponse, Failure> {
        let lease = signed(session.0);
        let key = self.keys.session(&self.claimant.node, session);
        self.servers
            .call(async |connected| {
                let mut client = connected.client.clone();
                let (mut keeper, mut stream) = match self.servers.take_keeper(&connected, lease) {
                    Some(open) => open,
                    None => client.lease_keep_alive(lease).await?,
                };
                loop {
                    keeper.keep_alive().await?;
                    let ended = || Error::LeaseKeepAliveError("the stream has ended".to_owned());
                    let kept = stream.message().await?.ok_or_else(ended)?;
                    if kept.ttl() <= 0 {
                        return Ok(AuthorityResponse::Gone);
                    }
                    let read = client.get(&*key, Some(GetOptions::new().with_count_only())).await?;
                    if read.count() == 0 {
                        return Ok(AuthorityResponse::Gone);
                    }
                    let term = |header: Option<&etcd_client::ResponseHeader>| header.map(|header| header.raft_term());
                    if term(kept.header()) == term(read.header()) {
                        self.servers.put_keeper(&connected, lease, (keeper, stream));
                        return Ok(AuthorityResponse::Renewed);
                    }
                }
            })
            .await
    }

    /// One transaction with one more inside for each shard: one round trip and one write to the log
    /// of etcd, and yet each shard is a claim of its own.
    ///
    /// The last epoch of each shard is read before, and has to be the last one still.
    async fn claim(
        &self,
        session: SessionId,
        shards: &[ShardName],
        floor: Epoch,
    ) -> Result<AuthorityResponse, Failure> {
        let (places, shards) = places(shards);
        for _ in 0..CLAIM_TRIES {
            let claims = self.last_epochs(&shards).await?.into_iter().zip(&shards);
            let claims: Vec<Claim> = claims.map(|(last, shard)| self.claim_after(last, shard, floor)).collect();
            let operations: Vec<TxnOp> = claims.iter().map(|claim| claim.operation(&self.claimant, session)).collect();
            let done = self.guarded(session, &operations).await?;
            let lease = signed(session.0);
            let responses = done.op_responses();
            let results = responses.iter().zip(&claims).map(|(one, claim)| claim.result(one, lease));
            let Some(results) = results.collect::<Option<Vec<_>>>().filter(|results| results.len() == claims.len())
            else {
                let text = "etcd answered a transaction of claims with something else";
                return Err(Failure::Refused(AuthorityError(text.to_owned())));
            };
            if let Some(results) = results.into_iter().collect::<Option<Vec<_>>>() {
                return Ok(AuthorityResponse::Claimed(
                    places.into_iter().map(|place| results[place].clone()).collect(),
                ));
            }
        }
        let text = format!("shards changed hands {CLAIM_TRIES} times in etcd while they were claimed");
        Err(Failure::Refused(AuthorityError(text)))
    }

    /// What stands at the keys of these shards' last epochs.
    async fn last_epochs(&self, shards: &[&ShardName]) -> Result<Vec<Option<KeyValue>>, Failure> {
        let gets: Vec<TxnOp> = shards.iter().map(|shard| TxnOp::get(self.keys.epoch(shard), None)).collect();
        if gets.is_empty() {
            return Ok(Vec::new());
        }
        let get = async |Connected { mut client, .. }| client.txn(Txn::new().and_then(&*gets)).await;
        let done = self.servers.call(get).await?;
        Ok((0..shards.len()).map(|place| got(done.op_responses().get(place))).collect())
    }

    fn claim_after(&self, last: Option<KeyValue>, shard: &ShardName, floor: Epoch) -> Claim {
        let (key, epoch_key) = (self.keys.shard(shard), self.keys.epoch(shard));
        let previous = last.as_ref().and_then(|last| keys::epoch(last.value()));
        let epoch = previous.map_or(floor, |previous| floor.max(Epoch(previous.0.saturating_add(1)))).min(Epoch::MAX);
        Claim { key, epoch_key, revision: last.map_or(0, |last| last.mod_revision()), epoch }
    }

    async fn release(&self, session: SessionId, shards: &[ShardName]) -> Result<AuthorityResponse, Failure> {
        let (_, shards) = places(shards);
        let release = |shard: &&ShardName| {
            let key = self.keys.shard(shard);
            let is_ours = Compare::lease(&*key, CompareOp::Equal, signed(session.0));
            TxnOp::txn(Txn::new().when([is_ours]).and_then([TxnOp::delete(&*key, None)]))
        };
        match self.guarded(session, &shards.iter().map(release).collect::<Vec<_>>()).await {
            // With the session all its shards were given back.
            Ok(_) | Err(Failure::Gone) => Ok(AuthorityResponse::Done),
            Err(failure @ Failure::Refused(_)) => Err(failure),
        }
    }

    /// Makes changes for a session, if that is still there and the call was not given up meanwhile.
    async fn guarded(&self, session: SessionId, operations: &[TxnOp]) -> Result<TxnResponse, Failure> {
        let key = self.keys.session(&self.claimant.node, session);
        let (lease, generation) = (signed(session.0), self.claimant.generation.0.to_string());
        let change = async |Connected { mut client, .. }| {
            // If it is dropped in the middle, the guard notes that the outcome is not known.
            let mut attempt = self.guard.attempt();
            loop {
                let renewal = async |mut client: Client| {
                    let is_there = Compare::create_revision(&*key, CompareOp::Greater, 0);
                    let put = TxnOp::put(&*key, &*generation, Some(PutOptions::new().with_lease(lease)));
                    let done = client.txn(Txn::new().when([is_there]).and_then([put])).await?;
                    Ok::<_, Error>(done.header().filter(|_| done.succeeded()).map(|header| header.revision()))
                };
                let Some(revision) = self.guard.revision(lease, renewal(client.clone())).await? else { break };
                let is_known = Compare::mod_revision(&*key, CompareOp::Equal, revision);
                let done = client.txn(Txn::new().when([is_known]).and_then(operations)).await?;
                if done.succeeded() {
                    attempt.is_done();
                    return Ok(Some(done));
                }
                self.guard.refuse(lease, revision).await;
            }
            attempt.is_done();
            Ok(None)
        };
        self.servers.call(change).await?.ok_or(Failure::Gone)
    }

    async fn evict(&self, node: &str, until: Generation) -> Result<AuthorityResponse, Failure> {
        let all = GetOptions::new().with_prefix().with_limit(SESSIONS_MAX);
        let get = async |Connected { mut client, .. }| client.get(self.keys.sessions(node), Some(all.clone())).await;
        let sessions = self.servers.call(get).await?;
        let ended = sessions.kvs().iter().filter(|kv| keys::generation(kv.value()).is_some_and(|of| of <= until));
        for session in ended {
            match self.revoke(session.lease()).await {
                Ok(()) | Err(Failure::Gone) => {}
                Err(failure @ Failure::Refused(_)) => return Err(failure),
            }
        }
        Ok(AuthorityResponse::Done)
    }

    async fn revoke(&self, lease: i64) -> Result<(), Failure> {
        self.servers.call(async |Connected { mut client, .. }| client.lease_revoke(lease).await.map(drop)).await
    }
}

/// A claim to one shard, under its next epoch.
struct Claim {
    key: String,
    epoch_key: String,
    /// At which the last epoch was written; 0 if there is none.
    revision: i64,
    epoch: Epoch,
}

impl Claim {
    fn operation(&self, claimant: &Claimant, session: SessionId) -> TxnOp {
        let Claim { key, epoch_key, revision, epoch } = self;
        let is_free = Compare::create_revision(&**key, CompareOp::Equal, 0);
        let is_last = Compare::mod_revision(&**epoch_key, CompareOp::Equal, *revision);
        let with_lease = Some(PutOptions::new().with_lease(signed(session.0)));
        let take = TxnOp::put(&**key, keys::holder(claimant, session), with_lease);
        let number = TxnOp::put(&**epoch_key, epoch.0.to_string(), None);
        let look = [TxnOp::get(&**key, None), TxnOp::get(&**epoch_key, None)];
        TxnOp::txn(Txn::new().when([is_free, is_last]).and_then([take, number]).or_else(look))
    }

    /// The outcome: `Some(None)` if the shard changed hands since its last epoch was read; `None`
    /// if the response does not answer a claim.
    fn result(&self, response: &TxnOpResponse, lease: i64) -> Option<Option<Claimed>> {
        let claim: &TxnResponse = match response {
            TxnOpResponse::Txn(claim) => claim,
            TxnOpResponse::Put(_) | TxnOpResponse::Get(_) | TxnOpResponse::Delete(_) => return None,
        };
        if claim.succeeded() {
            return Some(Some(Claimed::Granted(self.epoch)));
        }
        let Some(held) = got(claim.op_responses().first()) else { return Some(None) };
        Some(Some(if held.lease() == lease {
            let last = got(claim.op_responses().get(1)).and_then(|last| keys::epoch(last.value()));
            // A previous release wrote none.
            Claimed::Granted(last.unwrap_or(Epoch(unsigned(held.create_revision()))))
        } else {
            Claimed::Held { by: keys::holder_node(held.value()).into() }
        }))
    }
}

/// These shards, each once, since no transaction may put a key twice; and where in them each is.
fn places(shards: &[ShardName]) -> (Vec<usize>, Vec<&ShardName>) {
    let (mut known, mut distinct) = (BTreeMap::new(), Vec::new());
    let mut place = |shard| {
        *known.entry(shard).or_insert_with(|| {
            distinct.push(shard);
            distinct.len() - 1
        })
    };
    (shards.iter().map(&mut place).collect(), distinct)
}

impl Authority for EtcdAuthority {
    fn ask(
        self: Rc<Self>,
        ask: AuthorityRequest,
    ) -> LocalBoxFuture<'static, Result<AuthorityResponse, AuthorityError>> {
        async move {
            match self.answer(ask).await {
                Err(Failure::Gone) => Ok(AuthorityResponse::Gone),
                other => other.map_err(AuthorityError::from),
            }
        }
        .boxed_local()
    }

    fn freed(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move { self.watch.lock().await.freed(&self.servers, &self.keys.shards()).await }.boxed_local()
    }
}

impl fmt::Debug for EtcdAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdAuthority")
            .field("keys", &self.keys)
            .field("claimant", &self.claimant)
            .finish_non_exhaustive()
    }
}

impl From<Failure> for AuthorityError {
    fn from(failure: Failure) -> AuthorityError {
        match failure {
            Failure::Gone => AuthorityError("etcd knows no such lease".to_owned()),
            Failure::Refused(error) => error,
        }
    }
}

/// What a read of one key found.
fn got(response: Option<&TxnOpResponse>) -> Option<KeyValue> {
    match response? {
        TxnOpResponse::Get(get) => get.kvs().first().cloned(),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
    }
}

/// etcd's numbers have a sign, and none is below zero.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// A number that no etcd has given out becomes one that it never will.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
