//! `Authority`: whoever hands out shards in the simulated world, with what such engines do to their
//! users: answers that take long, that are lost though the thing was done, and absences after which
//! every session has its whole time anew.

use std::collections::BTreeMap;

use heartbeat_core::authority::{AuthorityRequest, AuthorityResponse, Claimed, SessionId, ShardName};
use heartbeat_core::{Epoch, Generation};

/// Sessions and shards, by the world's clock.
#[derive(Default)]
pub(crate) struct Authority {
    sessions: BTreeMap<SessionId, Session>,
    shards: BTreeMap<ShardName, (SessionId, Epoch)>,
    /// Sessions, and epochs, that were given out.
    given: u64,
    /// Whether it knows nothing of floors.
    is_old: bool,
    /// Whether it is away.
    pub(crate) is_down: bool,
}

struct Session {
    node: String,
    generation: Generation,
    ttl: u64,
    until: u64,
}

impl Authority {
    /// One that has given out nothing, and that knows nothing of floors.
    pub(crate) fn without_floors() -> Authority {
        Authority { is_old: true, ..Authority::default() }
    }

    /// Does what this process of a node asks at `now`. Returns the answer and whether shards may
    /// have become free.
    pub(crate) fn ask(
        &mut self,
        now: u64,
        node: &str,
        generation: Generation,
        ask: &AuthorityRequest,
    ) -> (AuthorityResponse, bool) {
        let mut freed = self.expire(now);
        let answer = match ask {
            AuthorityRequest::Open { ttl, previous } => {
                if let Some(previous) = previous {
                    freed |= self.end(*previous);
                }
                self.given += 1;
                let (session, nanos) = (SessionId(self.given), ttl.as_nanos() as u64);
                let opened = Session { node: node.into(), generation, ttl: nanos, until: now + nanos };
                self.sessions.insert(session, opened);
                AuthorityResponse::Opened { session, ttl: *ttl }
            }
            AuthorityRequest::Renew { session } => match self.sessions.get_mut(session) {
                Some(found) => {
                    found.until = now + found.ttl;
                    AuthorityResponse::Renewed
                }
                None => AuthorityResponse::Gone,
            },
            AuthorityRequest::Claim { session, shards, floor } if self.sessions.contains_key(session) => {
                AuthorityResponse::Claimed(shards.iter().map(|shard| self.claim(*session, shard, *floor)).collect())
            }
            AuthorityRequest::Claim { .. } => AuthorityResponse::Gone,
            AuthorityRequest::Release { session, shards } => {
                for shard in shards {
                    if self.shards.get(shard).is_some_and(|(holder, _)| holder == session) {
                        self.shards.remove(shard);
                        freed = true;
                    }
                }
                AuthorityResponse::Done
            }
            AuthorityRequest::Evict { node, generation } => {
                let is_its = |found: &Session| *found.node == **node && found.generation <= *generation;
                let ended: Vec<SessionId> =
                    self.sessions.iter().filter(|(_, found)| is_its(found)).map(|(id, _)| *id).collect();
                for session in ended {
                    freed |= self.end(session);
                }
                AuthorityResponse::Done
            }
        };
        (answer, freed)
    }

    /// Ends sessions whose time is over. Returns whether there were any.
    pub(crate) fn expire(&mut self, now: u64) -> bool {
        let over: Vec<SessionId> =
            self.sessions.iter().filter(|(_, session)| session.until <= now).map(|(id, _)| *id).collect();
        over.into_iter().fold(false, |freed, session| self.end(session) | freed)
    }

    /// It was away, and gives every session its whole time anew.
    pub(crate) fn return_at(&mut self, now: u64) {
        self.is_down = false;
        self.sessions.values_mut().for_each(|session| session.until = session.until.max(now + session.ttl));
    }

    fn claim(&mut self, session: SessionId, shard: &ShardName, floor: Epoch) -> Claimed {
        match self.shards.get(shard) {
            Some((holder, epoch)) if *holder == session => Claimed::Granted(*epoch),
            Some((holder, _)) => Claimed::Held { by: self.sessions[holder].node.as_str().into() },
            None => {
                self.given += 1;
                if !self.is_old {
                    self.given = self.given.max(floor.0);
                }
                self.shards.insert(shard.clone(), (session, Epoch(self.given)));
                Claimed::Granted(Epoch(self.given))
            }
        }
    }

    fn end(&mut self, session: SessionId) -> bool {
        self.shards.retain(|_, (holder, _)| *holder != session);
        self.sessions.remove(&session).is_some()
    }
}
