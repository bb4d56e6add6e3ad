//! Pools: several workers of one kind behind one address.
//!
//! A [`Pool`] sends each message to a member that can serve it now. Either the pool chooses the
//! member from what the status cells show, or all members take their messages from one queue. A
//! member that fails is replaced alone, and the others serve meanwhile. Members are never given up,
//! however many requests make them fail, unless their spec sets an intensity.
//!
//! # Quick start
//! ```
//! use heartbeat_actors::prelude::*;
//!
//! struct Encoder;
//!
//! impl Actor for Encoder {
//!     type Context = Context<Self>;
//! }
//!
//! #[derive(Message)]
//! #[rtype(result = "u32")]
//! struct Encode(u32);
//!
//! impl Handler<Encode> for Encoder {
//!     type Result = u32;
//!
//!     fn handle(&mut self, encode: Encode, _: &mut Context<Self>) -> u32 {
//!         encode.0 * 2
//!     }
//! }
//! # actix::System::new().block_on(async {
//! # let node = Node::start(Config::default()).await.unwrap();
//! let encoders = node.root().pool("encoders", 4, || Encoder).unwrap();
//! encoders.until_ready().await;
//! assert_eq!(encoders.send(Encode(21)).await, Ok(42));
//! let always_the_same_member = encoders.send_by("customer 7", Encode(1));
//! assert_eq!(always_the_same_member.await, Ok(2));
//! # });
//! ```
//!
//! # Which routing
//! | [`Routing`] | the message goes to | choose it if |
//! |---|---|---|
//! | [`RoundRobin`](Routing::RoundRobin) | the next ready member | all messages cost the same |
//! | [`LeastLoaded`](Routing::LeastLoaded) | the member with the lowest load | their costs differ |
//! | [`SharedQueue`](Routing::SharedQueue) | the member that is free first | handlers block |
//! | any, with [`Pool::send_by`] | the key's member | members keep state for keys |

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::task::Poll;

use actix::{Actor, Handler, Message};
use heartbeat_core::Weight;
use heartbeat_core::member::{NodeId, name_hash};
use heartbeat_core::sharding::rendezvous;

use crate::lock::{lock, read, write};
use crate::node::group::{Group, GroupSpec};
use crate::node::supervise_error::SuperviseError;
use crate::worker::addr::WorkerAddr;
use crate::worker::context::Context;
use crate::worker::mailbox::MessageCounts;
use crate::worker::reply::Reply;
use crate::worker::send_error::{SendError, TrySendError};
use crate::worker::shared_queue::SharedQueue;
use crate::worker::slot::{Part, StartError, StartInfo};
use crate::worker::spec::WorkerSpec;

/// Most members of a pool: each message may look at all of them.
pub const POOL_SIZE_MAX: u32 = 1024;

/// Which member of a pool gets a message that has no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Routing {
    /// Each ready member in turn.
    #[default]
    RoundRobin,
    /// The ready member with the lowest load: messages in its queue, the one it handles, and
    /// answers under way.
    LeastLoaded,
    /// The member that is free first. Messages wait in one queue of the pool, whose bound and
    /// overflow are the spec's. A member takes the next message when it has nothing else to do, as
    /// with actix's `SyncArbiter`. The queue outlives members that fail. A message also waits while
    /// no member is up; it is refused once none will be.
    SharedQueue,
}

type Maker<A> = dyn Fn(&StartInfo) -> Result<A, StartError> + Send + Sync;

/// Several workers of one kind. Cloning it is cheap; dropping it stops nothing.
pub struct Pool<A: Actor<Context = Context<A>>> {
    inner: Arc<Inner<A>>,
}

struct Inner<A: Actor<Context = Context<A>>> {
    group: Group,
    spec: WorkerSpec,
    factory: Arc<Maker<A>>,
    routing: Routing,
    shared: Option<Arc<SharedQueue<A>>>,
    members: RwLock<Arc<[WorkerAddr<A>]>>,
    next: AtomicUsize,
    /// The number of the next member; held while members are added or removed.
    next_number: Mutex<u32>,
}

impl<A: Actor<Context = Context<A>>> Inner<A> {
    /// Starts one more member.
    fn start(&self, next_number: &mut u32) -> Result<WorkerAddr<A>, SuperviseError> {
        let mut spec = self.spec.clone();
        spec.name = format!("{}/{next_number}", spec.name);
        let part = self.shared.clone().map_or(Part::Alone, Part::Member);
        let factory = self.factory.clone();
        let member = self.group.supervise_part(spec, part, Box::new(move |start, _| factory(start)))?;
        *next_number += 1;
        Ok(member)
    }

    fn members(&self) -> Arc<[WorkerAddr<A>]> {
        read(&self.members).clone()
    }
}

impl<A: Actor<Context = Context<A>>> Pool<A> {
    pub(crate) fn new<F>(
        parent: &Group,
        spec: WorkerSpec,
        count: u32,
        routing: Routing,
        factory: F,
    ) -> Result<Pool<A>, SuperviseError>
    where
        F: Fn(&StartInfo) -> Result<A, StartError> + Send + Sync + 'static,
    {
        if !(1..=POOL_SIZE_MAX).contains(&count) {
            return Err(SuperviseError::Members(count));
        }
        let spec = spec.for_member(parent.node().config());
        let rules = spec.rules(parent.node().config()).map_err(SuperviseError::Config)?;
        let shared = match routing {
            Routing::RoundRobin | Routing::LeastLoaded => None,
            Routing::SharedQueue => {
                let stamps = parent.node().inner.control.stamps();
                Some(Arc::new(SharedQueue::new(rules.capacity, rules.overflow, stamps)))
            }
        };
        let group = parent.group(GroupSpec::new(spec.name.clone()).each().dynamic())?;
        let pool = Pool {
            inner: Arc::new(Inner {
                group,
                spec,
                factory: Arc::new(factory),
                routing,
                shared,
                members: RwLock::new([].into()),
                next: AtomicUsize::new(0),
                next_number: Mutex::new(0),
            }),
        };
        match pool.resize(count) {
            Ok(()) => Ok(pool),
            Err(error) => {
                pool.inner.group.remove();
                Err(error)
            }
        }
    }

    /// Makes it a pool of `count` members. A larger pool starts new members, which serve once they
    /// are ready. A smaller pool sends its newest members no further message; they finish what they
    /// have within their `shutdown_timeout`, and are removed. It returns at once.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// # struct Encoder;
    /// # impl Actor for Encoder { type Context = Context<Self>; }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let encoders = node.root().pool("encoders", 2, || Encoder).unwrap();
    /// encoders.resize(8).unwrap();
    /// encoders.until_ready().await;
    /// assert_eq!(encoders.ready(), 8);
    /// # });
    /// ```
    ///
    /// # Errors
    /// [`SuperviseError::Members`] if `count` is 0 or over [`POOL_SIZE_MAX`], or
    /// [`SuperviseError::Left`]. Members that were started before the error stay.
    pub fn resize(&self, count: u32) -> Result<(), SuperviseError> {
        if !(1..=POOL_SIZE_MAX).contains(&count) {
            return Err(SuperviseError::Members(count));
        }
        let mut next_number = lock(&self.inner.next_number);
        let mut members = self.inner.members().to_vec();
        let gone = members.split_off(members.len().min(count as usize));
        let mut outcome = Ok(());
        while members.len() < count as usize && outcome.is_ok() {
            outcome = self.inner.start(&mut next_number).map(|member| members.push(member));
        }
        // Before the removal, so that no leaving member is chosen any more.
        *write(&self.inner.members) = members.into();
        gone.iter().for_each(WorkerAddr::remove);
        outcome
    }

    /// Sends a message to a ready member, or into the queue of the pool. If the member refuses it
    /// after all, the next one gets it.
    ///
    /// # Errors
    /// [`SendError::NotReady`] if no member is ready; otherwise as [`WorkerAddr::send`].
    pub fn send<M>(&self, message: M) -> Reply<M::Result>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.offer(message, |member, shared, message| member.send_through(shared, message))
            .unwrap_or_else(|refused| Reply::refused(refused.error))
    }

    /// Sends a message as [`Pool::send`] does, without an answer.
    ///
    /// # Errors
    /// [`TrySendError`], with the message: no member took it.
    pub fn try_send<M>(&self, message: M) -> Result<(), TrySendError<M>>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.offer(message, |member, shared, message| member.try_send_through(shared, message))
    }

    /// Sends a message to the ready member that is responsible for `key`, by rendezvous hashing as
    /// for shards. A key keeps its member as long as that is ready; otherwise only that member's
    /// keys go to others. The message waits in the member's own queue, even in a pool with a shared
    /// queue.
    ///
    /// # Errors
    /// [`SendError::NotReady`] if no member is ready; otherwise as [`WorkerAddr::send`].
    pub fn send_by<M>(&self, key: &str, message: M) -> Reply<M::Result>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let members = self.inner.members();
        let ready = |index: &u64| members[*index as usize].is_ready();
        let ids = (0..members.len() as u64).filter(ready).map(|index| (NodeId(index), Weight::default()));
        let Some(NodeId(index)) = rendezvous::owner(name_hash(key), 0, ids) else {
            return Reply::refused(SendError::NotReady);
        };
        members[index as usize].send(message)
    }

    /// Restarts the members one after the other, each when the one before is ready again, so that
    /// the others serve meanwhile. Their queues are kept. It returns when all are done.
    pub async fn rolling_restart(&self) {
        for member in self.inner.members().iter() {
            let (cell, before) = (member.slot.cell.clone(), member.generation());
            member.restart();
            self.until(move || cell.is_closed() || cell.is_ready() && cell.generation() > before).await;
        }
    }

    /// Waits until all members are ready, as after the start. Give it a deadline: a member whose
    /// start fails each time is never ready.
    pub async fn until_ready(&self) {
        let cells: Vec<_> = self.inner.members().iter().map(|member| member.slot.cell.clone()).collect();
        self.until(move || cells.iter().all(|cell| cell.is_ready())).await;
    }

    /// Waits until the supervisor finds that this holds, or the node leaves.
    async fn until(&self, holds: impl Fn() -> bool + Send + 'static) {
        let check = move |_: &_, _: &_| if holds() { Poll::Ready(Ok(())) } else { Poll::Pending };
        // An error means that the node leaves: the condition will not hold any more.
        let _ = self.inner.group.node().until(check).await;
    }

    /// How many members are ready now.
    pub fn ready(&self) -> usize {
        self.inner.members().iter().filter(|member| member.is_ready()).count()
    }

    /// The members as they are now, the oldest first.
    pub fn members(&self) -> Arc<[WorkerAddr<A>]> {
        self.inner.members()
    }

    /// Messages that wait in the shared queue of the pool, if it has one, and in the queues of its
    /// members.
    pub fn depth(&self) -> u32 {
        let shared = self.inner.shared.as_ref().map_or(0, |shared| shared.depth());
        shared + self.inner.members().iter().map(WorkerAddr::depth).sum::<u32>()
    }

    /// Counts the messages in the shared queue of the pool that no member took; zeros if it has
    /// none. A message that a member took is counted in its [`WorkerAddr::message_counts`].
    pub fn message_counts(&self) -> MessageCounts {
        self.inner.shared.as_ref().map_or_else(MessageCounts::default, |shared| shared.message_counts())
    }

    /// The group they are in.
    pub fn group(&self) -> &Group {
        &self.inner.group
    }

    /// The indexes of the ready members in the order in which they are to be tried.
    fn order(&self, members: &[WorkerAddr<A>]) -> Vec<usize> {
        let (first, count) = (self.inner.next.fetch_add(1, Ordering::Relaxed), members.len());
        let turn = (0..count).map(|step| first.wrapping_add(step) % count);
        let mut ready: Vec<usize> = turn.filter(|&index| members[index].is_ready()).collect();
        if self.inner.routing == Routing::LeastLoaded {
            ready.sort_by_cached_key(|&index| members[index].load());
        }
        ready
    }

    fn offer<M, T>(
        &self,
        mut message: M,
        mut send: impl FnMut(&WorkerAddr<A>, Option<&SharedQueue<A>>, M) -> Result<T, TrySendError<M>>,
    ) -> Result<T, TrySendError<M>> {
        let members = self.inner.members();
        if let (Some(shared), Some(member)) = (&self.inner.shared, members.first()) {
            return send(member, Some(shared), message);
        }
        let mut error = SendError::NotReady;
        for index in self.order(&members) {
            match send(&members[index], None, message) {
                Ok(sent) => return Ok(sent),
                Err(refused) => (error, message) = (refused.error, refused.message),
            }
        }
        Err(TrySendError { error, message })
    }
}

impl<A: Actor<Context = Context<A>>> Clone for Pool<A> {
    fn clone(&self) -> Pool<A> {
        Pool { inner: self.inner.clone() }
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for Pool<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.inner.group.name())
            .field("members", &self.inner.members().len())
            .field("ready", &self.ready())
            .finish()
    }
}
