//! `Authority`: the engine that hands out shards in the simulated world, with the faults of such
//! engines. Answers take long. Answers are lost although the request was carried out. After an
//! absence every session has its whole time anew.

use std::collections::BTreeMap;
use std::time::Duration;

use heartbeat_core::authority::{AuthorityRequest, AuthorityResponse, Claimed, SessionId, ShardName};
use heartbeat_core::config::{AuthorityKind, QuorumRule};
use heartbeat_core::{Epoch, Generation, NodeId};

use crate::event_queue::Item;
use crate::network::NodeIndex;
use crate::world::{GROUP, World};

/// Sessions and shards, by the world's clock.
#[derive(Default)]
pub(crate) struct Authority {
    sessions: BTreeMap<SessionId, Session>,
    shards: BTreeMap<ShardName, (SessionId, Epoch)>,
    /// Sessions, and epochs, that were given out.
    given: u64,
    /// Claims that found their shard held.
    held: u64,
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
    /// An authority that has given out nothing, of an older release that knows nothing of floors.
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
            Some((holder, _)) => {
                self.held += 1;
                Claimed::Held { by: self.sessions[holder].node.as_str().into() }
            }
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

impl World {
    /// Whether a shard may run in one place only, in every state of the network.
    pub(crate) fn is_exclusive(&self) -> bool {
        self.config.ownership.quorum == QuorumRule::Majority || self.config.ownership.authority != AuthorityKind::View
    }

    /// How many claims at the authority have found their shard held.
    pub fn held_claims(&self) -> u64 {
        self.authority.held
    }

    /// Whether a node has the right to act for a shard, by its own word and by its own clock; it
    /// may be stopped just now.
    pub(crate) fn may_act(&self, place: NodeIndex, shard: u32) -> bool {
        let Some(engine) = self.engine(place).filter(|engine| !engine.has_left()) else { return false };
        self.is_exclusive()
            && engine.held(GROUP, shard).is_some()
            && engine.lease_until().is_some_and(|until| until > self.clock(place))
    }

    pub(crate) fn ask(&mut self, place: NodeIndex, life: u64, number: u64, ask: &AuthorityRequest) {
        let is_cut_off = self.nodes[place].is_cut_off;
        let is_down = self.authority.is_down || is_cut_off;
        // A node cannot tell a lost request from a lost answer.
        let is_done = !is_cut_off && (!is_down || self.random.chance(0.3));
        let mut answer = None;
        if is_done {
            let generation = self.nodes[place].process.as_ref().filter(|_| self.nodes[place].life == life);
            let generation = generation.map_or(Generation(0), |_| self.generations_of(place));
            let name = self.nodes[place].name.clone();
            let (said, freed) = self.authority.ask(self.now, &name, generation, ask);
            answer = (!is_down).then_some(said);
            if freed {
                self.tell_freed();
            }
        }
        let late = if is_down { Duration::from_secs(1) } else { Duration::ZERO };
        let at = self.soon(Duration::from_millis(2) + self.hesitation) + late.as_nanos() as u64;
        // A node waits for an answer for a second at most.
        let (at, answer) = match at - self.now > 1_000_000_000 {
            true => (self.now + 1_000_000_000, None),
            false => (at, answer),
        };
        self.put(at, Item::Answer { place, life, number, answer });
    }

    pub(crate) fn tell_freed(&mut self) {
        for place in (0..self.nodes.len()).filter(|&place| !self.nodes[place].is_cut_off).collect::<Vec<_>>() {
            let (life, at) = (self.nodes[place].life, self.soon(Duration::from_millis(5)));
            self.put(at, Item::Freed { place, life });
        }
    }

    pub(crate) fn generations_of(&self, place: NodeIndex) -> Generation {
        let id = NodeId::of(&self.nodes[place].name);
        let own = self.engine(place).and_then(|engine| engine.members().find(|member| member.id == id));
        own.map_or(Generation(0), |member| member.generation)
    }
}
