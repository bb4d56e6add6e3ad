//! `Claims`: what this node asks the authority and when, and how long the answers let it own
//! shards.
//!
//! A process has one session, and all its shards belong to it. A session for each of a million
//! workers would bring heartbeats to the authority, which is not made for them. The node renews the
//! session three times per `session_ttl`. The session is valid for `session_ttl` minus a margin
//! (`lease`), counted from when the renewal was *sent*. The authority counts from receipt, so it
//! expires the session after this node has stopped using it.
//!
//! A missing answer proves nothing. A claim is sent again: the authority grants a shard that the
//! session has already under the same epoch. A shard that was granted and is not wanted any more is
//! released. A session that the authority does not know ends at once, and a session that could not
//! be renewed ends by this node's own clock.
//!
//! If the session ended because the authority did not answer, the other nodes' sessions ended, too.
//! In the first `session_ttl` of the new session this node claims only shards that it had before,
//! so that the other nodes get theirs back.
//!
//! This module does not stop a writer that checked its lease and then slept. Every write has to
//! carry the epoch.
//!
//! Source: C. Gray and D. Cheriton, "Leases: An efficient fault-tolerant mechanism for distributed
//! file cache consistency", SOSP 1989; M. Burrows, "The Chubby lock service for loosely-coupled
//! distributed systems", OSDI 2006, section 2.4 (sequencers).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::authority::{AuthorityRequest, AuthorityResponse, CLAIMS_MAX, Claimed, SessionId, ShardName};
use crate::config::{AuthorityKind, OwnershipConfig};
use crate::ctx::Ctx;
use crate::event::Event;
use crate::lease::valid_for;
use crate::member::{Epoch, Generation};
use crate::output::Output;
use crate::time::Instant;

/// Renewals per `session_ttl`.
const RENEWALS: u32 = 3;

/// The shortest time between two renewals, however often the session is rechecked.
const RENEW_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// How long to wait before a request that failed is sent again: this share of `session_ttl`, within
/// these bounds.
const RETRY_SHARE: u32 = 20;
const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(1);

/// How long to wait before a shard that another session held is claimed again: this share of
/// `session_ttl`, within the same bounds.
const RECLAIM_SHARE: u32 = 10;

/// What an answer means for the shards.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Outcome {
    Nothing,
    /// A session has begun, and shards can be claimed.
    SessionBegan,
    /// The session is over, and this node has no right to its shards.
    SessionLost,
    /// The results of a claim. They are stale if shards were released after the claim was sent: a
    /// shard that was held then may be free.
    Claimed {
        results: Vec<(ShardName, Claimed)>,
        is_stale: bool,
    },
    /// The claim of these shards got no usable answer: they may have been granted or not.
    Unknown(Vec<ShardName>),
    /// The release of these shards was answered, or failed and will be tried again.
    Released(Vec<ShardName>),
}

/// This node's session at the authority, and its requests.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    /// How long the session lasts: `ttl_requested` until the authority answers with another time.
    ttl: Duration,
    ttl_requested: Duration,
    fenced: bool,
    session: Session,
    /// When another node last released shards.
    released_at: Instant,
    /// When the renewal was last sent.
    renewed_at: Instant,
    /// Requests that are not answered yet, by number, with the instant at which they were sent.
    in_flight: BTreeMap<u64, (Instant, AuthorityRequest)>,
    number: u64,
    /// Shards that are to be released.
    to_release: BTreeSet<ShardName>,
    release_at: Instant,
    /// Processes whose sessions are to be ended.
    to_evict: BTreeMap<Arc<str>, Generation>,
    /// The authority does not answer, and an event has said so.
    is_unreachable: bool,
    /// The kind of the request that failed last, and when. While a disk is full, renewals succeed
    /// and claims fail, so a renewal does not show that the authority has recovered.
    last_failure: Option<(std::mem::Discriminant<AuthorityRequest>, Instant)>,
    /// Whether the authority was unreachable when the last session ended.
    was_unreachable: bool,
    /// Until when only shards that this node had before are claimed.
    grace_until: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Session {
    /// There is none; one is requested at this instant.
    None { at: Instant, previous: Option<SessionId> },
    /// One was requested.
    Opening { previous: Option<SessionId> },
    /// It ends at `until` unless it is renewed.
    Open { id: SessionId, until: Instant, renew_at: Instant },
}

impl Claims {
    /// `None` with `authority = "view"`.
    pub(super) fn new(ownership: &OwnershipConfig, now: Instant) -> Option<Claims> {
        match ownership.authority {
            AuthorityKind::View => None,
            AuthorityKind::File | AuthorityKind::Etcd | AuthorityKind::Postgres => Some(Claims {
                ttl: ownership.session_ttl,
                ttl_requested: ownership.session_ttl,
                fenced: ownership.fenced,
                session: Session::None { at: now, previous: None },
                released_at: Instant::ZERO,
                renewed_at: Instant::ZERO,
                in_flight: BTreeMap::new(),
                number: 0,
                to_release: BTreeSet::new(),
                release_at: Instant::ZERO,
                to_evict: BTreeMap::new(),
                is_unreachable: false,
                last_failure: None,
                was_unreachable: false,
                grace_until: Instant::ZERO,
            }),
        }
    }

    // ---- questions ------------------------------------------------------------------------------

    /// Until when this node may own shards, unless the session is renewed; `Instant::ZERO` without
    /// a session.
    pub(super) fn until(&self) -> Instant {
        match self.session {
            Session::Open { until, .. } => until,
            Session::None { .. } | Session::Opening { .. } => Instant::ZERO,
        }
    }

    /// Whether shards may be claimed that this node did not have before.
    pub(super) fn is_takeover_allowed(&self, now: Instant) -> bool {
        now >= self.grace_until
    }

    /// How long to wait before a shard that another session held is claimed again, if no release is
    /// announced.
    pub(super) fn reclaim_delay(&self) -> Duration {
        (self.ttl / RECLAIM_SHARE).clamp(RETRY_DELAY_MIN, RETRY_DELAY_MAX)
    }

    /// Whether a claim is in flight. Shards that become due meanwhile are claimed together
    /// afterwards: one claim a shard would cost the authority as many transactions.
    pub(super) fn is_claiming(&self) -> bool {
        self.in_flight.values().any(|(_, ask)| matches!(ask, AuthorityRequest::Claim { .. }))
    }

    /// Whether there is a session, and the authority has answered the last request.
    pub(super) fn is_answering(&self) -> bool {
        matches!(self.session, Session::Open { .. }) && !self.is_unreachable
    }

    /// Whether a release is in flight.
    fn is_releasing(&self) -> bool {
        self.in_flight.values().any(|(_, ask)| matches!(ask, AuthorityRequest::Release { .. }))
    }

    /// Whether the release of this shard is in flight. Until it is answered the shard must not be
    /// claimed, since the two requests may arrive in either order.
    pub(super) fn is_release_in_flight(&self, shard: &ShardName) -> bool {
        let releases = self.in_flight.values().filter_map(|(_, ask)| match ask {
            AuthorityRequest::Release { shards, .. } => Some(shards),
            AuthorityRequest::Open { .. }
            | AuthorityRequest::Renew { .. }
            | AuthorityRequest::Claim { .. }
            | AuthorityRequest::Evict { .. } => None,
        });
        releases.flatten().any(|released| released == shard)
    }

    pub(super) fn next_due(&self) -> Instant {
        let (session, is_open) = match self.session {
            Session::None { at, .. } => (at, false),
            Session::Opening { .. } => (Instant::NEVER, false),
            Session::Open { until, renew_at, .. } => (until.min(renew_at), true),
        };
        // Without a session there is nothing to release.
        let has_some = is_open && !self.to_release.is_empty() && !self.is_releasing() || !self.to_evict.is_empty();
        let release = has_some.then_some(self.release_at);
        let grace = (self.grace_until > Instant::ZERO).then_some(self.grace_until);
        [Some(session), release, grace].into_iter().flatten().min().unwrap_or(Instant::NEVER)
    }

    // ---- inputs ---------------------------------------------------------------------------------

    /// Ends the session if its time is over by this node's clock; at `until` itself it is. Called
    /// before any other input: after a pause the session may be over, and no input changes that.
    pub(super) fn expire(&mut self, ctx: &mut Ctx) -> Outcome {
        match self.session {
            Session::Open { id, until, .. } if until <= ctx.now => {
                self.was_unreachable |= self.is_unreachable;
                self.lose_session(Some(id), "it could not be renewed in time", ctx)
            }
            Session::Open { .. } | Session::None { .. } | Session::Opening { .. } => Outcome::Nothing,
        }
    }

    /// Sends the requests that are due.
    pub(super) fn handle_timeout(&mut self, ctx: &mut Ctx) {
        let now = ctx.now;
        if self.grace_until <= now {
            self.grace_until = Instant::ZERO;
        }
        match self.session {
            Session::None { at, previous } if at <= now => {
                self.session = Session::Opening { previous };
                self.ask(AuthorityRequest::Open { ttl: self.ttl_requested, previous }, ctx);
            }
            Session::Open { id, until, renew_at } if renew_at <= now => {
                // An answer changes this; without one the renewal is sent again.
                self.session = Session::Open { id, until, renew_at: now + self.ttl / RENEWALS };
                self.renewed_at = now;
                self.ask(AuthorityRequest::Renew { session: id }, ctx);
            }
            Session::None { .. } | Session::Opening { .. } | Session::Open { .. } => {}
        }
        if self.release_at <= now {
            self.send_releases(ctx);
        }
    }

    /// Another node's shards have been released. Renews the session soon: a leader of etcd that
    /// wakes up ends live sessions, and this one may be among them.
    pub(super) fn recheck_session(&mut self, now: Instant) {
        self.released_at = now;
        if let Session::Open { renew_at, .. } = &mut self.session {
            *renew_at = (*renew_at).min(self.renewed_at + RENEW_INTERVAL_MIN).max(now);
        }
    }

    /// Claims shards, under epochs of `floor` or more. Without a session nothing is sent.
    pub(super) fn claim(&mut self, shards: Vec<ShardName>, floor: Epoch, ctx: &mut Ctx) {
        let Session::Open { id: session, .. } = self.session else { return };
        for some in shards.chunks(CLAIMS_MAX) {
            for shard in some {
                self.to_release.remove(shard);
            }
            self.ask(AuthorityRequest::Claim { session, shards: some.to_vec(), floor }, ctx);
        }
    }

    /// Releases a shard, with the next release that is sent.
    pub(super) fn release(&mut self, shard: ShardName) {
        self.to_release.insert(shard);
    }

    /// A process has ended. If writes are fenced, its session is ended now, so that its shards need
    /// not wait for that.
    pub(super) fn evict(&mut self, node: Arc<str>, generation: Generation) {
        if self.fenced {
            self.to_evict.insert(node, generation);
        }
    }

    /// Handles the answer to a request, or its failure. A second answer to the same request changes
    /// nothing.
    pub(super) fn handle_answer(
        &mut self,
        number: u64,
        answer: Result<AuthorityResponse, &str>,
        ctx: &mut Ctx,
    ) -> Outcome {
        let Some((sent, ask)) = self.in_flight.remove(&number) else { return Outcome::Nothing };
        self.note_reachability(&ask, &answer, ctx);
        let retry_at = ctx.now + (self.ttl / RETRY_SHARE).clamp(RETRY_DELAY_MIN, RETRY_DELAY_MAX);
        match (ask, answer) {
            (AuthorityRequest::Open { .. }, Ok(AuthorityResponse::Opened { session, ttl })) => {
                self.opened(session, ttl, sent, ctx)
            }
            (AuthorityRequest::Open { previous, .. }, _) => {
                self.session = Session::None { at: retry_at, previous };
                Outcome::Nothing
            }
            (AuthorityRequest::Renew { session }, Ok(AuthorityResponse::Renewed)) => {
                let valid_until = sent + valid_for(self.ttl);
                if let Session::Open { id, until, .. } = &mut self.session
                    && *id == session
                {
                    *until = valid_until.max(*until);
                }
                Outcome::Nothing
            }
            (
                AuthorityRequest::Renew { session } | AuthorityRequest::Claim { session, .. },
                Ok(AuthorityResponse::Gone),
            ) if self.is_ours(session) => self.lose_session(None, "the authority does not know it any more", ctx),
            (AuthorityRequest::Renew { session }, _) => {
                if let Session::Open { id, renew_at, .. } = &mut self.session
                    && *id == session
                {
                    *renew_at = retry_at.min(*renew_at);
                }
                Outcome::Nothing
            }
            (AuthorityRequest::Claim { session, shards, .. }, Ok(AuthorityResponse::Claimed(results)))
                if self.is_ours(session) && results.len() == shards.len() =>
            {
                let results = shards.into_iter().zip(results).collect();
                Outcome::Claimed { results, is_stale: sent < self.released_at }
            }
            (AuthorityRequest::Claim { session, shards, .. }, _) if self.is_ours(session) => Outcome::Unknown(shards),
            // It was a claim for a previous session, which is over.
            (AuthorityRequest::Claim { .. }, _) => Outcome::Nothing,
            (AuthorityRequest::Evict { .. }, Ok(_)) => Outcome::Nothing,
            (AuthorityRequest::Release { shards, .. }, Ok(_)) => Outcome::Released(shards),
            (AuthorityRequest::Release { session, shards }, Err(_)) => {
                if self.is_ours(session) {
                    self.to_release.extend(shards.iter().cloned());
                    self.release_at = retry_at;
                }
                Outcome::Released(shards)
            }
            (AuthorityRequest::Evict { node, generation }, Err(_)) => {
                self.to_evict.entry(node).or_insert(generation);
                self.release_at = retry_at;
                Outcome::Nothing
            }
        }
    }

    // ---- private --------------------------------------------------------------------------------

    /// Notes whether the authority can be reached, as this answer or its failure shows.
    fn note_reachability(&mut self, ask: &AuthorityRequest, answer: &Result<AuthorityResponse, &str>, ctx: &mut Ctx) {
        match answer {
            Err(reason) => {
                self.last_failure = Some((std::mem::discriminant(ask), ctx.now));
                self.note_unreachable(reason, ctx);
            }
            Ok(_) if self.is_unreachable && self.proves_recovery(ask, ctx.now) => {
                self.is_unreachable = false;
                ctx.emit(Event::AuthorityReached);
            }
            Ok(_) => {}
        }
    }

    fn ask(&mut self, ask: AuthorityRequest, ctx: &mut Ctx) {
        self.number += 1;
        self.in_flight.insert(self.number, (ctx.now, ask.clone()));
        ctx.push(Output::AskAuthority { number: self.number, ask });
    }

    /// Whether an answer to this request shows that the authority has recovered: it is of the kind
    /// that failed last, or no request has failed for half of the `ttl`.
    fn proves_recovery(&self, ask: &AuthorityRequest, now: Instant) -> bool {
        let same = |(failed, at): (_, Instant)| failed == std::mem::discriminant(ask) || now - at > self.ttl / 2;
        self.last_failure.is_none_or(same)
    }

    fn is_ours(&self, session: SessionId) -> bool {
        matches!(self.session, Session::Open { id, .. } if id == session)
    }

    fn opened(&mut self, id: SessionId, ttl: Duration, sent: Instant, ctx: &mut Ctx) -> Outcome {
        self.ttl = ttl;
        let until = sent + valid_for(self.ttl);
        if until <= ctx.now {
            // The answer took longer than the session is valid.
            self.session = Session::None { at: ctx.now, previous: Some(id) };
            return Outcome::Nothing;
        }
        self.session = Session::Open { id, until, renew_at: sent + ttl / RENEWALS };
        if std::mem::take(&mut self.was_unreachable) {
            self.grace_until = ctx.now + ttl;
        }
        Outcome::SessionBegan
    }

    fn lose_session(&mut self, previous: Option<SessionId>, reason: &str, ctx: &mut Ctx) -> Outcome {
        self.session = Session::None { at: ctx.now, previous };
        // Its shards are released with it.
        self.to_release.clear();
        ctx.emit(Event::SessionEnded { reason: reason.into() });
        Outcome::SessionLost
    }

    fn note_unreachable(&mut self, reason: &str, ctx: &mut Ctx) {
        if !std::mem::replace(&mut self.is_unreachable, true) {
            ctx.emit(Event::AuthorityLost { reason: reason.into() });
        }
    }

    fn send_releases(&mut self, ctx: &mut Ctx) {
        for (node, generation) in std::mem::take(&mut self.to_evict) {
            self.ask(AuthorityRequest::Evict { node, generation }, ctx);
        }
        let Session::Open { id: session, .. } = self.session else { return };
        if self.is_releasing() {
            return;
        }
        let shards: Vec<ShardName> = std::mem::take(&mut self.to_release).into_iter().collect();
        for some in shards.chunks(CLAIMS_MAX) {
            self.ask(AuthorityRequest::Release { session, shards: some.to_vec() }, ctx);
        }
    }
}

/// Whether a token is at least the highest epoch that this node knows of the shard. A lower token
/// comes from an authority that has lost its state.
pub(super) fn is_current_token(token: Epoch, highest: Epoch) -> bool {
    token >= highest
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::Config;
    use crate::detection::monitor::Monitor;
    use crate::random::Random;

    /// Claims with a `session_ttl` of 10 s, and a context to collect their outputs.
    fn begin() -> (Claims, Ctx) {
        let mut config = Config::default();
        (config.ownership.authority, config.ownership.folder) = (AuthorityKind::File, Some("here".into()));
        let (now, random) = (Instant::ZERO, Random::seeded(1));
        let claims = Claims::new(&config.ownership, now).unwrap();
        let ctx =
            Ctx { now, arrivals_stale: false, config, random, monitor: Monitor::new(now), outputs: VecDeque::new() };
        (claims, ctx)
    }

    /// The requests that are due at this instant, with their numbers.
    fn asked(claims: &mut Claims, ctx: &mut Ctx, at_ms: u64) -> Vec<(u64, AuthorityRequest)> {
        ctx.now = Instant::from_millis(at_ms);
        claims.handle_timeout(ctx);
        asks(ctx)
    }

    fn asks(ctx: &mut Ctx) -> Vec<(u64, AuthorityRequest)> {
        let ask = |output| match output {
            Output::AskAuthority { number, ask } => Some((number, ask)),
            _ => None,
        };
        std::mem::take(&mut ctx.outputs).into_iter().filter_map(ask).collect()
    }

    fn open(claims: &mut Claims, ctx: &mut Ctx) {
        let (number, _) = asked(claims, ctx, 0).pop().unwrap();
        let opened = AuthorityResponse::Opened { session: SessionId(4), ttl: Duration::from_secs(10) };
        assert_eq!(claims.handle_answer(number, Ok(opened), ctx), Outcome::SessionBegan);
    }

    #[test]
    fn a_renewal_does_not_show_that_claims_work_again() {
        let (mut claims, mut ctx) = begin();
        open(&mut claims, &mut ctx);
        let events = |ctx: &mut Ctx| -> Vec<Event> {
            let (told, rest): (VecDeque<_>, VecDeque<_>) =
                std::mem::take(&mut ctx.outputs).into_iter().partition(|output| matches!(output, Output::Event(_)));
            ctx.outputs = rest;
            told.into_iter()
                .filter_map(|output| if let Output::Event(event) = output { Some(event) } else { None })
                .collect()
        };
        let shards = vec![ShardName { group: "orders".into(), index: 1 }];
        let mut told = Vec::new();
        for round in 0..4 {
            ctx.now = Instant::from_millis(3_500 * (round + 1));
            claims.handle_timeout(&mut ctx);
            claims.claim(shards.clone(), Epoch(7), &mut ctx);
            told.extend(events(&mut ctx));
            for (number, ask) in asks(&mut ctx) {
                let answer = match ask {
                    AuthorityRequest::Claim { .. } if round < 3 => Err("no space is left on the disk"),
                    AuthorityRequest::Claim { .. } => Ok(AuthorityResponse::Claimed(vec![Claimed::Granted(Epoch(9))])),
                    _ => Ok(AuthorityResponse::Renewed),
                };
                claims.handle_answer(number, answer, &mut ctx);
            }
            told.extend(events(&mut ctx));
        }
        assert!(matches!(&told[..], [Event::AuthorityLost { .. }, Event::AuthorityReached]), "{told:?}");
    }

    #[test]
    fn a_session_is_valid_from_the_sending_of_its_renewal() {
        let (mut claims, mut ctx) = begin();
        open(&mut claims, &mut ctx);
        assert_eq!(claims.until(), Instant::from_millis(9_000));
        assert_eq!(claims.next_due(), Instant::from_nanos(3_333_333_333));
        assert!(asked(&mut claims, &mut ctx, 3_333).is_empty());
        let (number, ask) = asked(&mut claims, &mut ctx, 3_334).pop().unwrap();
        assert_eq!(ask, AuthorityRequest::Renew { session: SessionId(4) });
        ctx.now = Instant::from_millis(8_999);
        assert_eq!(claims.expire(&mut ctx), Outcome::Nothing, "a moment before its end it is valid");
        claims.handle_answer(number, Ok(AuthorityResponse::Renewed), &mut ctx);
        assert_eq!(claims.until(), Instant::from_millis(12_334), "the delay of the answer does not count");
        ctx.now = Instant::from_millis(12_334);
        assert_eq!(claims.expire(&mut ctx), Outcome::SessionLost, "at its end it is over");
        assert_eq!(claims.until(), Instant::ZERO);
    }

    #[test]
    fn a_session_that_is_gone_ends_at_once_and_another_begins() {
        let (mut claims, mut ctx) = begin();
        open(&mut claims, &mut ctx);
        let (number, _) = asked(&mut claims, &mut ctx, 4_000).pop().unwrap();
        assert_eq!(claims.handle_answer(number, Ok(AuthorityResponse::Gone), &mut ctx), Outcome::SessionLost);
        let (_, ask) = asked(&mut claims, &mut ctx, 4_000).pop().unwrap();
        assert_eq!(ask, AuthorityRequest::Open { ttl: Duration::from_secs(10), previous: None });
    }

    #[test]
    fn after_an_absence_takeovers_wait_for_one_session_ttl() {
        let (mut claims, mut ctx) = begin();
        open(&mut claims, &mut ctx);
        assert!(claims.is_takeover_allowed(ctx.now));
        let (number, _) = asked(&mut claims, &mut ctx, 3_334).pop().unwrap();
        claims.handle_answer(number, Err("no answer"), &mut ctx);
        ctx.now = Instant::from_millis(9_000);
        assert_eq!(claims.expire(&mut ctx), Outcome::SessionLost);
        let (number, ask) = asked(&mut claims, &mut ctx, 9_000).pop().unwrap();
        assert_eq!(ask, AuthorityRequest::Open { ttl: Duration::from_secs(10), previous: Some(SessionId(4)) });
        ctx.now = Instant::from_millis(9_001);
        let opened = AuthorityResponse::Opened { session: SessionId(5), ttl: Duration::from_secs(10) };
        assert_eq!(claims.handle_answer(number, Ok(opened), &mut ctx), Outcome::SessionBegan);
        assert!(!claims.is_takeover_allowed(Instant::from_millis(19_000)));
        assert!(claims.is_takeover_allowed(Instant::from_millis(19_001)));
    }

    #[test]
    fn a_release_or_claim_without_an_answer_is_sent_again() {
        let (mut claims, mut ctx) = begin();
        open(&mut claims, &mut ctx);
        let shard = ShardName { group: "orders".into(), index: 3 };
        claims.release(shard.clone());
        let (number, ask) = asked(&mut claims, &mut ctx, 1).pop().unwrap();
        assert_eq!(ask, AuthorityRequest::Release { session: SessionId(4), shards: vec![shard.clone()] });
        assert!(claims.is_release_in_flight(&shard));
        claims.handle_answer(number, Err("no answer"), &mut ctx);
        assert!(!claims.is_release_in_flight(&shard));
        assert_eq!(asked(&mut claims, &mut ctx, 600).len(), 1, "it is sent again");
        claims.claim(vec![shard.clone()], Epoch(7), &mut ctx);
        let (number, _) = asks(&mut ctx).pop().unwrap();
        assert_eq!(claims.handle_answer(number, Err("no answer"), &mut ctx), Outcome::Unknown(vec![shard]));
        assert_eq!(
            claims.handle_answer(number, Ok(AuthorityResponse::Done), &mut ctx),
            Outcome::Nothing,
            "it was answered already"
        );
    }

    #[test]
    fn shards_released_one_by_one_go_in_one_request() {
        let (mut claims, mut ctx) = begin();
        open(&mut claims, &mut ctx);
        let shard = |index| ShardName { group: "orders".into(), index };
        claims.release(shard(0));
        let (number, _) = asked(&mut claims, &mut ctx, 1).pop().unwrap();
        (1..5).for_each(|index| claims.release(shard(index)));
        assert!(asked(&mut claims, &mut ctx, 2).is_empty(), "one is in flight");
        assert!(claims.next_due() > ctx.now, "nothing is due before it is answered");
        claims.handle_answer(number, Ok(AuthorityResponse::Done), &mut ctx);
        let asked = asked(&mut claims, &mut ctx, 3);
        assert!(matches!(&asked[..], [(_, AuthorityRequest::Release { shards, .. })] if shards.len() == 4));
    }

    #[test]
    fn a_claim_sent_before_a_release_has_a_stale_result() {
        let (mut claims, mut ctx) = begin();
        open(&mut claims, &mut ctx);
        let shard = ShardName { group: "orders".into(), index: 3 };
        let held = || Ok(AuthorityResponse::Claimed(vec![Claimed::Held { by: "dead".into() }]));
        for (sent_at, released_at, is_stale) in [(10, 11, true), (20, 20, false), (31, 30, false)] {
            ctx.now = Instant::from_millis(sent_at.min(released_at));
            if released_at < sent_at {
                claims.recheck_session(ctx.now);
            }
            ctx.now = Instant::from_millis(sent_at);
            claims.claim(vec![shard.clone()], Epoch(7), &mut ctx);
            let (number, _) = asks(&mut ctx).pop().unwrap();
            if released_at >= sent_at {
                claims.recheck_session(Instant::from_millis(released_at));
            }
            ctx.now = Instant::from_millis(released_at.max(sent_at) + 1);
            let results = vec![(shard.clone(), Claimed::Held { by: "dead".into() })];
            assert_eq!(claims.handle_answer(number, held(), &mut ctx), Outcome::Claimed { results, is_stale });
        }
    }

    #[test]
    fn an_ended_process_is_evicted_only_if_writes_are_fenced() {
        let (mut claims, mut ctx) = begin();
        open(&mut claims, &mut ctx);
        claims.evict("node-1".into(), Generation(7));
        assert!(asked(&mut claims, &mut ctx, 1).is_empty());
        claims.fenced = true;
        claims.evict("node-1".into(), Generation(7));
        let (_, ask) = asked(&mut claims, &mut ctx, 1).pop().unwrap();
        assert_eq!(ask, AuthorityRequest::Evict { node: "node-1".into(), generation: Generation(7) });
    }

    #[test]
    fn a_session_that_opens_too_late_is_requested_anew() {
        let (mut claims, mut ctx) = begin();
        let (number, _) = asked(&mut claims, &mut ctx, 0).pop().unwrap();
        ctx.now = Instant::from_millis(9_000);
        let opened = AuthorityResponse::Opened { session: SessionId(4), ttl: Duration::from_secs(10) };
        assert_eq!(claims.handle_answer(number, Ok(opened), &mut ctx), Outcome::Nothing);
        let (_, request) = asked(&mut claims, &mut ctx, 9_000).pop().unwrap();
        let previous = Some(SessionId(4));
        assert_eq!(request, AuthorityRequest::Open { ttl: Duration::from_secs(10), previous });
    }

    #[test]
    fn more_shards_than_fit_in_one_claim_go_in_two() {
        let (mut claims, mut ctx) = begin();
        let shards: Vec<ShardName> =
            (0..=CLAIMS_MAX as u32).map(|index| ShardName { group: "orders".into(), index }).collect();
        claims.claim(shards.clone(), Epoch(7), &mut ctx);
        assert!(asks(&mut ctx).is_empty(), "without a session nothing is sent");
        open(&mut claims, &mut ctx);
        claims.claim(shards, Epoch(7), &mut ctx);
        let length = |(_, request): &(u64, AuthorityRequest)| match request {
            AuthorityRequest::Claim { shards, .. } => shards.len(),
            AuthorityRequest::Open { .. }
            | AuthorityRequest::Renew { .. }
            | AuthorityRequest::Release { .. }
            | AuthorityRequest::Evict { .. } => 0,
        };
        assert_eq!(asks(&mut ctx).iter().map(length).collect::<Vec<_>>(), [CLAIMS_MAX, 1]);
        assert!(claims.is_claiming());
    }

    #[test]
    fn a_token_is_current_from_the_highest_known_epoch_on() {
        assert!(is_current_token(Epoch(7), Epoch(7)) && is_current_token(Epoch(8), Epoch(7)));
        assert!(!is_current_token(Epoch(6), Epoch(7)));
    }
}
