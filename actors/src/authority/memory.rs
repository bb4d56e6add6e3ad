//! An authority in memory, for tests and for several nodes in one process. It forgets everything
//! with the process, and it can be cut off and slowed down.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use heartbeat_core::authority::{AuthorityRequest, AuthorityResponse, SessionId};
use tokio::sync::watch;
use tokio::time::Instant;

use super::lease_table::{LeaseTable, SESSIONS_MAX, Session};
use super::{Authority, AuthorityError, Claimant, check};
use crate::lock::lock;

/// The state that several authorities of one process share: a shard that one of them hands out, no
/// other does. Its time is tokio's, virtual where that is.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

/// How well a node reaches the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reach {
    /// It is answered at once.
    #[default]
    Prompt,
    /// It is answered after this time. The request is carried out after half of it.
    Slow(Duration),
    /// Its requests are carried out, and the answers are lost.
    Unheard,
    /// Its requests are not carried out, and it is not notified.
    Cut,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Rises when a shard was freed, when a session begins, and when a node's reach is set.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    table: LeaseTable,
    /// How long each session lasts, and when it ends.
    ends: BTreeMap<SessionId, (Duration, Instant)>,
    reaches: BTreeMap<Arc<str>, Reach>,
}

/// What one node asks of a [`MemoryStore`].
#[derive(Debug)]
struct MemoryAuthority {
    store: MemoryStore,
    claimant: Claimant,
    /// How often a shard or a session had been freed when the node was last notified.
    seen: Mutex<u64>,
}

impl Default for Shared {
    fn default() -> Shared {
        Shared { state: Mutex::default(), changes: watch::channel(0).0 }
    }
}

impl MemoryStore {
    /// A store that has handed out nothing.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// The authority for one node. The name of its cluster has no effect: all nodes that share a
    /// store are in one.
    pub fn authority(&self, claimant: Claimant) -> Rc<dyn Authority> {
        let seen = Mutex::new(self.state().table.freed);
        Rc::new(MemoryAuthority { store: self.clone(), claimant, seen })
    }

    /// Changes how well a node reaches the store, from its next request on.
    pub fn set_reach(&self, node: &str, reach: Reach) {
        self.state().reaches.insert(node.into(), reach);
        self.shared.changes.send_modify(|changes| *changes += 1);
    }

    fn reach(&self, node: &str) -> Reach {
        self.state().reaches.get(node).copied().unwrap_or_default()
    }

    /// The state, without the sessions that are over. At its end itself a session is over.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = lock(&self.shared.state);
        let now = Instant::now();
        let over: Vec<_> = state.ends.iter().filter(|(_, (_, end))| *end <= now).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|session| state.end(session));
        state
    }

    fn answer(&self, claimant: &Claimant, ask: AuthorityRequest) -> Result<AuthorityResponse, AuthorityError> {
        let mut state = self.state();
        let before = (state.table.freed, state.ends.len());
        let answer = state.answer(claimant, ask);
        // A new session may be the next to end.
        if (state.table.freed, state.ends.len()) != before {
            self.shared.changes.send_modify(|changes| *changes += 1);
        }
        answer
    }
}

impl State {
    fn answer(&mut self, claimant: &Claimant, ask: AuthorityRequest) -> Result<AuthorityResponse, AuthorityError> {
        Ok(match ask {
            AuthorityRequest::Open { ttl, previous } => {
                previous.into_iter().for_each(|previous| self.end(previous));
                let begun = Session { node: claimant.node.clone(), generation: claimant.generation };
                let Some(session) = self.table.open(begun) else {
                    let text = format!("the store in memory has {SESSIONS_MAX} sessions; it has room for no more");
                    return Err(AuthorityError(text));
                };
                self.ends.insert(session, (ttl, Instant::now() + ttl));
                AuthorityResponse::Opened { session, ttl }
            }
            AuthorityRequest::Renew { session } => match self.ends.get_mut(&session) {
                Some((ttl, end)) => {
                    *end = Instant::now() + *ttl;
                    AuthorityResponse::Renewed
                }
                None => AuthorityResponse::Gone,
            },
            AuthorityRequest::Claim { session, shards, floor } => {
                self.table.claim(session, &shards, floor).map_or(AuthorityResponse::Gone, AuthorityResponse::Claimed)
            }
            AuthorityRequest::Release { session, shards } => {
                self.table.release(session, &shards);
                AuthorityResponse::Done
            }
            AuthorityRequest::Evict { node, generation } => {
                self.table.sessions_until(&node, generation).into_iter().for_each(|session| self.end(session));
                AuthorityResponse::Done
            }
        })
    }

    fn end(&mut self, session: SessionId) {
        self.ends.remove(&session);
        self.table.end(session);
    }
}

impl MemoryAuthority {
    /// `Ok` if a shard was freed since the last `Ok`; otherwise when the next session ends.
    fn look(&self) -> Result<(), Option<Instant>> {
        let state = self.store.state();
        let mut seen = lock(&self.seen);
        let is_cut = state.reaches.get(&self.claimant.node) == Some(&Reach::Cut);
        if is_cut || *seen == state.table.freed {
            return Err(state.ends.values().map(|(_, end)| *end).min());
        }
        *seen = state.table.freed;
        Ok(())
    }
}

impl Authority for MemoryAuthority {
    fn ask(
        self: Rc<Self>,
        ask: AuthorityRequest,
    ) -> LocalBoxFuture<'static, Result<AuthorityResponse, AuthorityError>> {
        async move {
            check(&ask)?;
            let node = &self.claimant.node;
            let reach = self.store.reach(node);
            match reach {
                Reach::Prompt => self.store.answer(&self.claimant, ask),
                Reach::Slow(time) => {
                    tokio::time::sleep(time / 2).await;
                    let answer = self.store.answer(&self.claimant, ask);
                    tokio::time::sleep(time / 2).await;
                    answer
                }
                Reach::Unheard => {
                    let _ = self.store.answer(&self.claimant, ask); // It is lost.
                    Err(AuthorityError(format!("the store in memory does not answer {node:?}; a test set that")))
                }
                Reach::Cut => {
                    Err(AuthorityError(format!("the store in memory is not reached by {node:?}; a test set that")))
                }
            }
        }
        .boxed_local()
    }

    fn freed(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move {
            let mut changes = self.store.shared.changes.subscribe();
            loop {
                changes.mark_unchanged();
                let Err(end) = self.look() else { return };
                let change = async { drop(changes.changed().await) }; // The sender is in the store, which is here.
                match end {
                    Some(end) => drop(tokio::time::timeout_at(end, change).await), // Either is a reason to look.
                    None => change.await,
                }
            }
        }
        .boxed_local()
    }
}
