//! `Pool`: several workers of one kind behind one address that sends each message to one who can serve it now.
//!
//! Who can serve is read from the status cells, without asking anybody: up, not overloaded, and not having said otherwise. A member that fails is
//! replaced by itself; meanwhile the others get its share. A member that was given up is left out; when all are, the pool has failed and its
//! parent decides.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use actix::{Actor, Handler, Message};
use heartbeat_core::member::{NodeId, name_hash};
use heartbeat_core::{Weight, ring};

use crate::context::Context;
use crate::group::{Group, GroupSpec};
use crate::node::{Node, SuperviseError};
use crate::seat::{Birth, StartError};
use crate::spec::Spec;
use crate::worker::{Answer, SendError, TrySendError, WorkerAddr};

/// Most members of a pool: each message may look at all of them.
pub const MEMBERS_MAX: u32 = 1024;

/// To which of its ready members a pool sends a message that has no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Route {
    /// To each in turn.
    #[default]
    RoundRobin,
    /// To one with the least to do: the message in hand, its queue and the answers under way.
    LeastLoaded,
}

/// Several workers of one kind. Cloning it is cheap; dropping it stops nothing.
pub struct Pool<A: Actor<Context = Context<A>>> {
    group: Group,
    members: Arc<[WorkerAddr<A>]>,
    route: Route,
    next: Arc<AtomicUsize>,
}

impl<A: Actor<Context = Context<A>>> Pool<A> {
    pub(crate) fn new<F>(
        node: &Node,
        spec: &Spec,
        count: u32,
        route: Route,
        factory: F,
    ) -> Result<Pool<A>, SuperviseError>
    where
        F: Fn(&Birth) -> Result<A, StartError> + Send + Sync + 'static,
    {
        if !(1..=MEMBERS_MAX).contains(&count) {
            return Err(SuperviseError::Members(count));
        }
        let group = Group::root(node).group(GroupSpec::new(spec.name.clone()).each().dynamic())?;
        let factory = Arc::new(factory);
        let members = (0..count)
            .map(|index| {
                let mut spec = spec.clone();
                spec.name = format!("{}/{index}", spec.name);
                let factory = factory.clone();
                group.supervise_with(spec, move |birth| factory(birth))
            })
            .collect::<Result<Vec<_>, _>>();
        match members {
            Ok(members) => Ok(Pool { group, members: members.into(), route, next: Arc::default() }),
            Err(error) => {
                group.remove();
                Err(error)
            }
        }
    }

    /// Sends a message to one of the ready members; one that refuses it after all leaves it to the next.
    ///
    /// # Errors
    /// [`SendError::NotReady`] if no member is ready; otherwise as [`WorkerAddr::send`].
    pub fn send<M>(&self, message: M) -> Answer<M::Result>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.offer(self.order(), message, |member, message| member.ask(message))
            .unwrap_or_else(|refused| Answer::refused(refused.error))
    }

    /// As [`Pool::send`], without wanting an answer.
    ///
    /// # Errors
    /// [`TrySendError`], with the message: no member took it.
    pub fn try_send<M>(&self, message: M) -> Result<(), TrySendError<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.offer(self.order(), message, |member, message| member.try_send(message))
    }

    /// Sends a message to the member that is responsible for `key` among those that are ready: the same one as long as it is ready, and while it
    /// is not, only its keys go elsewhere (rendezvous hashing, as for shards).
    ///
    /// # Errors
    /// [`SendError::NotReady`] if no member is ready; otherwise as [`WorkerAddr::send`].
    pub fn send_by<M>(&self, key: &str, message: M) -> Answer<M::Result>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let ready = |index: &u64| self.members[*index as usize].is_ready();
        let ids = (0..self.members.len() as u64).filter(ready).map(|index| (NodeId(index), Weight::default()));
        let Some(NodeId(index)) = ring::owner(name_hash(key), 0, ids) else {
            return Answer::refused(SendError::NotReady);
        };
        self.members[index as usize].send(message)
    }

    /// Stops and starts the members one after the other, each when the one before is ready again, so that the others serve meanwhile. Their
    /// queues are kept. Returns when all are done.
    pub async fn roll(&self) {
        for member in self.members.iter() {
            let (cell, before) = (member.seat.cell.clone(), member.generation());
            member.restart();
            self.until(move || cell.is_ready() && cell.generation() > before).await;
        }
    }

    /// Waits until all members are ready, as after the start. Give it a deadline: one that was given up never is.
    pub async fn until_ready(&self) {
        let cells: Vec<_> = self.members.iter().map(|member| member.seat.cell.clone()).collect();
        self.until(move || cells.iter().all(|cell| cell.is_ready())).await;
    }

    /// Waits until the supervisor finds that this holds, or the node leaves.
    async fn until(&self, holds: impl Fn() -> bool + Send + 'static) {
        let check = move |_: &_, _: &_| if holds() { Poll::Ready(Ok(())) } else { Poll::Pending };
        // An error means that the node leaves: it will not hold any more.
        let _ = self.group.node().until(check).await;
    }

    /// How many members are ready now.
    pub fn ready(&self) -> usize {
        self.members.iter().filter(|member| member.is_ready()).count()
    }

    /// The members, in the order of their numbers.
    pub fn members(&self) -> &[WorkerAddr<A>] {
        &self.members
    }

    /// The group they are in.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The members in the order in which they are to be tried.
    fn order(&self) -> Vec<usize> {
        let (first, count) = (self.next.fetch_add(1, Ordering::Relaxed), self.members.len());
        let turn = (0..count).map(|step| first.wrapping_add(step) % count);
        let mut ready: Vec<usize> = turn.filter(|&index| self.members[index].is_ready()).collect();
        if self.route == Route::LeastLoaded {
            ready.sort_by_cached_key(|&index| self.members[index].load());
        }
        ready
    }

    fn offer<M, T>(
        &self,
        order: Vec<usize>,
        mut message: M,
        mut send: impl FnMut(&WorkerAddr<A>, M) -> Result<T, TrySendError<M>>,
    ) -> Result<T, TrySendError<M>> {
        let mut error = SendError::NotReady;
        for index in order {
            match send(&self.members[index], message) {
                Ok(sent) => return Ok(sent),
                Err(refused) => (error, message) = (refused.error, refused.message),
            }
        }
        Err(TrySendError { error, message })
    }
}

impl<A: Actor<Context = Context<A>>> Clone for Pool<A> {
    fn clone(&self) -> Pool<A> {
        Pool { group: self.group.clone(), members: self.members.clone(), route: self.route, next: self.next.clone() }
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for Pool<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.group.name())
            .field("members", &self.members.len())
            .field("ready", &self.ready())
            .finish()
    }
}
