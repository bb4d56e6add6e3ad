//! Nodes that hold shards as an engine does, and a log of who held what when.
//!
//! A node renews three times in a ttl, and has its shards until a ttl after it *sent* the last
//! renewal that was answered, less a margin. It writes a guarded record of each shard again and
//! again. Now and then it gives a shard back, so that there is something to claim.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use heartbeat_actors::authority::{
    Authority, AuthorityRequest, AuthorityResponse, Claimed, EtcdAuthority, Recorded, SessionId, ShardName,
};
use heartbeat_actors::shard::Epoch;

use crate::authority;
use crate::suite::shards;

/// Between two rounds of a node.
const ROUND: Duration = Duration::from_millis(50);

/// Rounds between two shards given back.
const RELEASE_EVERY: u32 = 10;

/// A shard that was a node's for a time.
pub(crate) struct Held {
    pub(crate) shard: ShardName,
    pub(crate) epoch: Epoch,
    pub(crate) since: Instant,
    pub(crate) until: Instant,
    pub(crate) end: End,
}

/// Why it was no longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// It was given back.
    Released,
    /// The time of the session was over, or that of the test.
    Over,
    /// etcd said that there was no such session.
    Gone,
}

/// What a node had, and what it wrote.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) held: Vec<Held>,
    /// A guarded write was accepted: when it was sent, and when that was known.
    pub(crate) written: Vec<(ShardName, Epoch, Instant, Instant)>,
    /// Guarded writes that were refused.
    pub(crate) refused: usize,
    /// When each renewal was sent that was answered.
    pub(crate) renewed: Vec<Instant>,
    /// When each claim was sent that was granted.
    pub(crate) granted: Vec<Instant>,
    /// How many sessions were begun.
    pub(crate) sessions: usize,
}

/// One node.
pub(crate) struct Node {
    authority: Rc<EtcdAuthority>,
    ttl: Duration,
    shards: Vec<ShardName>,
    session: Cell<Option<SessionId>>,
    former: Cell<Option<SessionId>>,
    /// Until when its session counts.
    until: Cell<Option<Instant>>,
    held: RefCell<BTreeMap<ShardName, (Epoch, Instant)>>,
    pub(crate) log: RefCell<Log>,
}

impl Node {
    pub(crate) fn new(endpoints: &[String], name: &str, ttl: Duration, count: u32) -> Node {
        Node {
            authority: authority(endpoints, ttl, name, 1),
            ttl,
            shards: shards("orders", 0..count),
            session: Cell::default(),
            former: Cell::default(),
            until: Cell::default(),
            held: RefCell::default(),
            log: RefCell::default(),
        }
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(&self) {
        tokio::join!(self.renew(), self.watch_time(), self.watch_etcd(), self.work());
    }

    pub(crate) fn held(&self) -> usize {
        self.held.borrow().len()
    }

    /// Gives up what it still has, for the log.
    pub(crate) fn end(&self) -> Log {
        self.give_up(Instant::now(), End::Over);
        self.log.take()
    }

    async fn ask(&self, ask: AuthorityRequest) -> Option<AuthorityResponse> {
        self.authority.clone().ask(ask).await.ok()
    }

    async fn renew(&self) {
        loop {
            let sent = Instant::now();
            let answer = match self.session.get() {
                Some(session) => self.ask(AuthorityRequest::Renew { session }).await,
                None => self.ask(AuthorityRequest::Open { ttl: self.ttl, previous: self.former.get() }).await,
            };
            let margin = (self.ttl / 10).max(Duration::from_millis(200));
            match answer {
                Some(AuthorityResponse::Opened { session, .. }) => {
                    self.session.set(Some(session));
                    self.until.set(Some(sent + self.ttl - margin));
                    self.log.borrow_mut().sessions += 1;
                }
                Some(AuthorityResponse::Renewed) if self.session.get().is_some() => {
                    self.until.set(Some(sent + self.ttl - margin));
                    self.log.borrow_mut().renewed.push(sent);
                }
                Some(AuthorityResponse::Gone) => self.give_up(Instant::now(), End::Gone),
                Some(_) => {}
                // Asked again sooner than one that was answered.
                None => tokio::time::sleep(ROUND).await,
            }
            if answer == Some(AuthorityResponse::Renewed) {
                tokio::time::sleep(self.ttl / 3).await;
            }
        }
    }

    /// The timer that waits for no answer.
    async fn watch_time(&self) {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if let Some(until) = self.until.get().filter(|until| *until <= Instant::now()) {
                self.give_up(until, End::Over);
            }
        }
    }

    /// What became free may have been ours.
    async fn watch_etcd(&self) {
        loop {
            self.authority.clone().freed().await;
            if let Some(session) = self.session.get()
                && self.ask(AuthorityRequest::Renew { session }).await == Some(AuthorityResponse::Gone)
                && self.session.get() == Some(session)
            {
                self.give_up(Instant::now(), End::Gone);
            }
        }
    }

    fn give_up(&self, until: Instant, end: End) {
        self.until.set(None);
        self.former.set(self.session.take().or(self.former.get()));
        for (shard, (epoch, since)) in self.held.take() {
            self.log.borrow_mut().held.push(Held { shard, epoch, since, until, end });
        }
    }

    async fn work(&self) {
        for round in 0_u32.. {
            tokio::time::sleep(ROUND).await;
            let Some(session) = self.session.get() else { continue };
            self.claim(session).await;
            let held: Vec<_> = self.held.borrow().iter().map(|(shard, (epoch, _))| (shard.clone(), *epoch)).collect();
            futures_util::future::join_all(held.iter().map(|(shard, epoch)| self.record(shard, *epoch))).await;
            if round % RELEASE_EVERY == 0
                && let Some((shard, _)) = held.get(round as usize / RELEASE_EVERY as usize % held.len().max(1))
            {
                self.release(session, shard).await;
            }
        }
    }

    async fn claim(&self, session: SessionId) {
        let missing = |shard: &&ShardName| !self.held.borrow().contains_key(*shard);
        let shards: Vec<_> = self.shards.iter().filter(missing).cloned().collect();
        let sent = Instant::now();
        let Some(AuthorityResponse::Claimed(claimed)) =
            self.ask(AuthorityRequest::Claim { session, shards: shards.clone(), floor: Epoch(0) }).await
        else {
            return;
        };
        // What came for a session that is over by now counts for nothing.
        if self.session.get() != Some(session) || self.until.get().is_none_or(|until| until <= Instant::now()) {
            return;
        }
        for (shard, claimed) in shards.into_iter().zip(claimed) {
            if let Claimed::Granted(epoch) = claimed {
                self.held.borrow_mut().insert(shard, (epoch, Instant::now()));
                self.log.borrow_mut().granted.push(sent);
            }
        }
    }

    async fn release(&self, session: SessionId, shard: &ShardName) {
        // Its work has ended before it is given back.
        if let Some((epoch, since)) = self.held.borrow_mut().remove(shard) {
            let (shard, until) = (shard.clone(), Instant::now());
            self.log.borrow_mut().held.push(Held { shard, epoch, since, until, end: End::Released });
        }
        self.ask(AuthorityRequest::Release { session, shards: vec![shard.clone()] }).await;
        tokio::time::sleep(ROUND * 2).await;
    }

    async fn record(&self, shard: &ShardName, epoch: Epoch) {
        let sent = Instant::now();
        let mut log = match self.authority.record(shard, epoch, "value", epoch.0.to_string()).await {
            Ok(recorded) => (self.log.borrow_mut(), recorded),
            Err(_) => return,
        };
        match log.1 {
            Recorded::Written => log.0.written.push((shard.clone(), epoch, sent, Instant::now())),
            Recorded::Refused => log.0.refused += 1,
        }
    }
}

/// No two nodes had a shard at the same time, and no write was accepted that was sent after one of
/// a later owner.
///
/// Where etcd itself ends a session before its time, its node can only learn of it afterwards. Such
/// a node may have kept a shard for `forgiven` longer.
pub(crate) fn check(logs: &[Log], forgiven: Duration) {
    let held: Vec<_> =
        logs.iter().enumerate().flat_map(|(node, log)| log.held.iter().map(move |held| (node, held))).collect();
    for (node, former) in &held {
        let later = held.iter().filter(|(_, later)| later.shard == former.shard && later.epoch > former.epoch);
        for (other, later) in later.filter(|(other, _)| other != node) {
            let both = former.until.saturating_duration_since(later.since);
            let is_forgiven = former.end == End::Gone && both < forgiven;
            assert!(
                both.is_zero() || is_forgiven,
                "{:?} was held for {both:?} by {node} under {:?}, until {:?}, and by {other} under {:?}",
                former.shard,
                former.epoch,
                former.end,
                later.epoch
            );
        }
    }
    let written: Vec<_> = logs.iter().flat_map(|log| &log.written).collect();
    for (shard, epoch, sent, _) in &written {
        for (_, later, _, accepted) in written.iter().filter(|write| write.0 == *shard && write.1 > *epoch) {
            assert!(sent < accepted, "{shard:?}: a write under {epoch:?} was accepted after one under {later:?}");
        }
    }
}

/// The longest time between two of these instants within a span, its ends included.
pub(crate) fn longest_gap(instants: impl IntoIterator<Item = Instant>, from: Instant, to: Instant) -> Duration {
    let mut all: Vec<_> = instants.into_iter().filter(|at| (from..to).contains(at)).collect();
    all.extend([from, to]);
    all.sort();
    all.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}
