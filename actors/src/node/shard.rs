//! Sharded groups: one worker for each slice of the keys, spread over the nodes of a cluster.
//!
//! All nodes that supervise a group of the same name share its shards out among themselves. Each
//! shard runs on one node, its owner. When the owner dies or leaves, another node starts the shard
//! under a higher [`Epoch`]. [`Shards::send`] brings a message to its owner; [`Shards::owner`] says
//! where a key belongs, and the application sends the request there.
//!
//! # Quick start
//! ```
//! use heartbeat_actors::prelude::*;
//! use heartbeat_actors::shard::Owner;
//!
//! struct Orders;
//!
//! impl Actor for Orders {
//!     type Context = Context<Self>;
//! }
//! # actix::System::new().block_on(async {
//! # let node = Node::start(Config::default()).await.unwrap();
//! let orders = node.supervise_shards("orders", 16, |start| {
//!     assert!(start.shard.is_some()); // its number and epoch
//!     Ok(Orders)
//! }).unwrap();
//! orders.until_up().await.unwrap();
//! match orders.owner("customer 7").unwrap() {
//!     Owner::Here(worker) => assert!(worker.is_ready()),
//!     Owner::There(member) => println!("send it to {}", member.address),
//! }
//! # });
//! ```
//!
//! # How a second owner is kept from doing harm
//! | `ownership.authority` | in a partition | add |
//! |---|---|---|
//! | `"view"`, `quorum = "none"` | both sides may run a shard | a [`Fence`] for all writes |
//! | `"view"`, `quorum = "majority"` | a minority runs none | a [`Fence`] for late writes |
//! | `"file"`, `"etcd"` or `"postgres"` | a node without a session runs no shard | a [`Fence`] for late writes |
//!
//! Before a side effect a worker asks its [`Lease`](crate::worker::Lease). A lease cannot stop a
//! write that is already under way; a [`Fence`] at the store can.

use std::fmt;
use std::sync::Arc;
use std::task::Poll;

use actix::{Actor, Addr, Handler};
use heartbeat_core::config::{AuthorityKind, OwnershipConfig, QuorumRule};
use heartbeat_core::member::name_hash;
use heartbeat_core::{Child, Engine, Role, Standing, Supervise};
use tracing::{info, warn};

use crate::control::input::{NewWorkers, Request};
use crate::control::supervisor::Supervisor;
use crate::control::until::until;
use crate::lock::lock;
use crate::node::supervise_error::SuperviseError;
use crate::node::{Node, check_name};
use crate::requests::{ByKey, Route, Ways};
use crate::view::node_view::{ShardOwners, View};
use crate::worker::addr::WorkerAddr;
use crate::worker::context::Context;
use crate::worker::dead_letter::DeadReason;
use crate::worker::entity::ShardHost;
use crate::worker::envelope::Envelope;
use crate::worker::mailbox::{CloseReason, Rules};
use crate::worker::messages::NotUp;
use crate::worker::reply::Reply;
use crate::worker::send_error::{SendError, TrySendError};
use crate::worker::slot::{DynSlot, Part, StartError, StartInfo, WorkerSlot};
use crate::worker::spec::WorkerSpec;
use crate::worker::status_cell::CellRef;

pub use crate::requests::RemoteMessage;
pub use crate::requests::remote::RemoteAddr;

pub use crate::authority::fence::{Fence, StaleEpoch};
pub use crate::view::owner::{NoOwner, Owner};
pub use crate::view::subscribe::ShardOwner;
pub use crate::worker::context::SnapshotTooLarge;
pub use heartbeat_core::member::{GROUPS_MAX, SHARDS_MAX};
pub use heartbeat_core::{Epoch, NewerSnapshot, Shard, ShardSnapshot};

/// The workers of a sharded group that may run on this node, one for each shard.
pub struct Shards<A: Actor<Context = Context<A>>> {
    name: Arc<str>,
    workers: Arc<[WorkerAddr<A>]>,
    owners: Arc<ShardOwners>,
    view: Arc<View>,
    supervisor: Addr<Supervisor>,
    ways: Option<Ways<A, WorkerAddr<A>>>,
}

impl<A: Actor<Context = Context<A>>> Shards<A> {
    /// The address of shard `index` on this node; it answers
    /// [`SendError::Closed`](crate::SendError::Closed) while another node owns the shard.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn worker(&self, index: u32) -> &WorkerAddr<A> {
        &self.workers[index as usize]
    }

    /// The addresses of all shards, in their order.
    pub fn workers(&self) -> &[WorkerAddr<A>] {
        &self.workers
    }

    /// The owner of a key: the worker of its shard, if it runs here, or the member where it runs.
    /// While the news of a move travels, the shard may not run there yet, or not any more. Its
    /// worker then answers [`SendError::Closed`](crate::SendError::Closed); ask here again.
    ///
    /// # Errors
    /// [`NoOwner`] if the owner is not known now, or is suspected.
    pub fn owner(&self, key: impl AsRef<[u8]>) -> Result<Owner<&WorkerAddr<A>>, NoOwner> {
        let index = self.shard_of(key);
        match self.view.owner_of_shard(&self.owners, index)? {
            Owner::Here(()) => Ok(Owner::Here(self.worker(index))),
            Owner::There(member) => Ok(Owner::There(member)),
        }
    }

    /// The shard that a key belongs to: the same on every node and in every release, as long as the
    /// number of shards stays the same.
    pub fn shard_of(&self, key: impl AsRef<[u8]>) -> u32 {
        self.owners.shard_of(key.as_ref())
    }

    /// The group's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets messages of this type come from other nodes. Every node that supervises the group
    /// registers what its workers handle; an owner that has not is no receiver of the message.
    #[must_use]
    pub fn accept<M>(self) -> Shards<A>
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        if let Some(ways) = &self.ways {
            ways.accept::<M>();
        }
        self
    }

    /// Sends a message to the owner of the key's shard, on whichever node it runs. On this node the
    /// message is handed over as with [`WorkerAddr::send`]; to another one it is encoded.
    ///
    /// The message is handled at most once, and this node never repeats one that may have been
    /// handled. While the shard moves, the message waits here, within the bounds of `[requests]`.
    /// Messages of one node to one shard arrive in their order, or the later one ends with an
    /// error.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// use heartbeat_actors::shard::RemoteMessage;
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Message, Serialize, Deserialize)]
    /// #[rtype(result = "u64")]
    /// struct Add(u64);
    ///
    /// impl RemoteMessage for Add {
    ///     const NAME: &str = "counter.add";
    /// }
    /// # struct Counter(u64);
    /// # impl Actor for Counter { type Context = Context<Self>; }
    /// # impl Handler<Add> for Counter {
    /// #     type Result = u64;
    /// #     fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 {
    /// #         self.0 += add.0;
    /// #         self.0
    /// #     }
    /// # }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    ///
    /// let counters = node.supervise_shards("counters", 16, |_| Ok(Counter(0))).unwrap();
    /// let counters = counters.accept::<Add>();
    /// counters.until_up().await.unwrap();
    /// assert_eq!(counters.send("customer 7", Add(2)).await, Ok(2));
    /// # });
    /// ```
    ///
    /// # Errors
    /// The future's error is a [`SendError`]; [`SendError::is_unhandled`] says whether it is safe
    /// to send the message again.
    pub fn send<M>(&self, key: impl AsRef<[u8]>, message: M) -> Reply<M::Result>
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        self.send_by_key(key.as_ref(), message)
    }

    /// As [`Shards::send`], but asks for no answer.
    ///
    /// # Errors
    /// [`TrySendError`] with the message if it is refused here and now. A message that is refused
    /// later becomes a dead letter.
    pub fn try_send<M>(&self, key: impl AsRef<[u8]>, message: M) -> Result<(), TrySendError<M>>
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        self.try_send_by_key(key.as_ref(), message)
    }

    /// As [`Shards::send`], but reports nothing back. A message that is refused, at once or later,
    /// becomes a dead letter ([`Node::subscribe_dead_letters`]).
    pub fn do_send<M>(&self, key: impl AsRef<[u8]>, message: M)
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        self.do_send_by_key(key.as_ref(), message);
    }

    /// As [`Shards::send`], and again each time that the message is interrupted, at most
    /// `attempts_max` times in all. Use it only for messages that do no harm when they are handled
    /// twice. A message that is refused is not sent again, as with [`WorkerAddr::send_retrying`].
    ///
    /// # Errors
    /// The error of the last attempt. If the attempt number `attempts_max` fails, the message
    /// becomes a dead letter.
    pub async fn send_retrying<M>(
        &self,
        key: impl AsRef<[u8]>,
        message: M,
        attempts_max: u32,
    ) -> Result<M::Result, SendError>
    where
        A: Handler<M>,
        M: RemoteMessage + Clone,
    {
        self.retry_by_key(key.as_ref(), message, attempts_max).await
    }

    /// The ways to the owners of the shards, if this node is in a cluster.
    pub(super) fn routes(&self) -> Option<Arc<[Arc<Route>]>> {
        self.ways.as_ref().map(|ways| ways.routes.clone())
    }

    /// Waits until this node knows an owner of each shard, and those shards that are its own are
    /// up. It has no deadline of its own.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// # struct Orders;
    /// # impl Actor for Orders { type Context = Context<Self>; }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let orders = node.supervise_shards("orders", 4, |_| Ok(Orders)).unwrap();
    /// orders.until_up().await.unwrap();
    /// assert!(orders.workers().iter().all(|worker| worker.status().is_up));
    /// # });
    /// ```
    ///
    /// # Errors
    /// [`NotUp`] if this node leaves.
    pub async fn until_up(&self) -> Result<(), NotUp> {
        let shards: Vec<_> = self.workers.iter().map(|worker| (worker.slot.worker, worker.slot.cell.clone())).collect();
        let owners = self.owners.clone();
        let check = move |engine: &Engine, view: &View| {
            let is_up = (0..).zip(&shards).all(|(index, (worker, cell))| {
                view.is_elsewhere(&owners, index)
                    || cell.is_up() && engine.standing(Child::Worker(*worker)) == Standing::Up
            });
            if is_up { Poll::Ready(Ok(())) } else { Poll::Pending }
        };
        until(&self.supervisor, check).await
    }
}

impl<A: Actor<Context = Context<A>>> ByKey<A> for Shards<A> {
    fn index_of(&self, key: &[u8]) -> u32 {
        self.shard_of(key)
    }

    fn route(&self, index: u32) -> Option<&Arc<Route>> {
        self.ways.as_ref().map(|ways| &ways.routes[index as usize])
    }

    fn travelling_key<'k>(&self, _key: &'k [u8]) -> Option<&'k [u8]> {
        None
    }

    fn try_here<M>(
        &self,
        index: u32,
        _key: &[u8],
        message: M,
        envelope: fn(M) -> Envelope<M>,
    ) -> Result<Arc<Envelope<M>>, TrySendError<M>>
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        let worker = self.worker(index);
        match self.route(index) {
            Some(route) if route.is_busy() => Err(TrySendError { error: SendError::Closed, message }),
            Some(route) => worker.send_envelope(envelope(message).with_onward(route.clone())),
            None => worker.send_envelope(envelope(message)),
        }
    }

    fn discard<M>(&self, key: &[u8], message: M, reason: DeadReason)
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        self.worker(self.shard_of(key)).discard(message, reason);
    }
}

impl<A: Actor<Context = Context<A>>> Clone for Shards<A> {
    fn clone(&self) -> Shards<A> {
        Shards {
            name: self.name.clone(),
            workers: self.workers.clone(),
            owners: self.owners.clone(),
            view: self.view.clone(),
            supervisor: self.supervisor.clone(),
            ways: self.ways.clone(),
        }
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for Shards<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards").field("name", &self.name).field("count", &self.workers.len()).finish()
    }
}

impl Node {
    /// Shares `count` shards out over the nodes of the cluster that supervise a group of this name.
    /// Each shard runs on its owner. When the owner is gone, another node runs it under a higher
    /// epoch. Without a cluster all run here.
    ///
    /// The node that has supervised the group for longest sets `count`. Nodes with another `count`
    /// own none of its shards until that node is gone
    /// ([`Event::ShardsRefused`](heartbeat_core::Event::ShardsRefused)).
    ///
    /// A shard that moves away from a live node is stopped there first, and its last snapshot
    /// ([`Context::replicate`](crate::Context::replicate)) is handed over. If its node was killed,
    /// it goes on from the last copy. The factory finds the snapshot in its [`StartInfo`], with the
    /// shard's number and epoch. The promise under a partition depends on `ownership`; the log
    /// states it.
    ///
    /// # Errors
    /// [`SuperviseError`] if the name is taken, empty or too long, `count` is 0 or over
    /// [`SHARDS_MAX`], or the node is in a cluster and has [`GROUPS_MAX`] sharded groups already.
    pub fn supervise_shards<A, F>(&self, name: &str, count: u32, factory: F) -> Result<Shards<A>, SuperviseError>
    where
        A: Actor<Context = Context<A>>,
        F: Fn(&StartInfo) -> Result<A, StartError> + Send + Sync + 'static,
    {
        self.supervise_shards_with(WorkerSpec::new(name), count, factory)
    }

    /// As [`Node::supervise_shards`], each shard's worker with the limits, times, placement and
    /// queue of `spec`, whose name is the group's. A shard that is given up here is run by another
    /// node.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// # struct Orders;
    /// # impl Actor for Orders { type Context = Context<Self>; }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let spec = WorkerSpec::new("orders").capacity(64);
    /// let orders = node.supervise_shards_with(spec, 16, |_start| Ok(Orders)).unwrap();
    /// assert_eq!(orders.worker(3).name(), "orders/3");
    /// # });
    /// ```
    ///
    /// # Errors
    /// As [`Node::supervise_shards`], or if the limits contradict each other.
    pub fn supervise_shards_with<A, F>(
        &self,
        spec: WorkerSpec,
        count: u32,
        factory: F,
    ) -> Result<Shards<A>, SuperviseError>
    where
        A: Actor<Context = Context<A>>,
        F: Fn(&StartInfo) -> Result<A, StartError> + Send + Sync + 'static,
    {
        self.add_shards(spec, count, factory, |_| None)
    }

    /// As [`Node::supervise_shards_with`]; `host` gives the table of entities of each shard, if
    /// there are any.
    pub(crate) fn add_shards<A, F>(
        &self,
        spec: WorkerSpec,
        count: u32,
        factory: F,
        host: impl Fn(u32) -> Option<Arc<dyn ShardHost>>,
    ) -> Result<Shards<A>, SuperviseError>
    where
        A: Actor<Context = Context<A>>,
        F: Fn(&StartInfo) -> Result<A, StartError> + Send + Sync + 'static,
    {
        let name = &*spec.name;
        if !(1..=SHARDS_MAX).contains(&count) {
            return Err(SuperviseError::Shards(count));
        }
        let _one_at_a_time = lock(&self.inner.sharding);
        if self.inner.config.cluster.is_some() && self.inner.view.sharded_groups() >= GROUPS_MAX {
            return Err(SuperviseError::Groups(name.to_owned()));
        }
        let group = check_name(name)?;
        let config = &self.inner.config;
        let restart = spec.limits.restart(config).map_err(SuperviseError::Config)?;
        let times = spec.times(config).map_err(SuperviseError::Config)?;
        let rules = spec.rules(config).map_err(SuperviseError::Config)?;
        let factory = Arc::new(factory);
        let (mut slots, mut workers) = (Vec::new(), Vec::new());
        for (index, cell) in (0..count).zip(self.inner.cells.take_run(count)) {
            let name = match self.take_name(&format!("{name}/{index}"), cell.worker(), None) {
                Ok(name) => name,
                Err(error) => {
                    self.give_names_back(&slots);
                    return Err(error);
                }
            };
            let shared = Supervise::new(cell.worker(), name.clone(), config.workers.arbiters);
            let thread_slot = self.place(&spec.placement, shared.thread_slot);
            let supervise = Supervise { restart: restart.clone(), times: times.clone(), thread_slot, ..shared };
            let slot = self.make_shard_slot(cell, name, rules, factory.clone(), host(index));
            workers.push((supervise, slot.clone() as Arc<dyn DynSlot>));
            slots.push(WorkerAddr { slot });
        }
        self.log_sharding(&group);
        let (owners, view) = (self.inner.view.open_shards(&group, count), self.inner.view.clone());
        self.inner.supervisor.do_send(Request::Supervise(NewWorkers { workers, group: Some(group.clone()) }));
        let supervisor = self.inner.supervisor.clone();
        let workers: Arc<[WorkerAddr<A>]> = slots.into();
        let ways = self.inner.requests.as_ref().map(|link| {
            let routes = (0..count).zip(&*workers).map(|(index, worker)| {
                let (link, slot) = (link.clone(), &worker.slot);
                let shard = (name_hash(&group), index);
                Arc::new(Route::to_shard(link, slot.control.clone(), shard, slot.name.clone()))
            });
            Ways::open(link, &group, workers.clone(), routes.collect())
        });
        Ok(Shards { name: group, workers, owners, view, supervisor, ways })
    }

    /// Makes the slot of a shard, closed until this node owns the shard.
    fn make_shard_slot<A, F>(
        &self,
        cell: CellRef,
        name: Arc<str>,
        rules: Rules,
        factory: Arc<F>,
        host: Option<Arc<dyn ShardHost>>,
    ) -> Arc<WorkerSlot<A>>
    where
        A: Actor<Context = Context<A>>,
        F: Fn(&StartInfo) -> Result<A, StartError> + Send + Sync + 'static,
    {
        let factory = Box::new(move |start: &StartInfo, _: &mut _| factory(start));
        let slot = self.make_slot(cell, name, factory, rules, Part::Shard(host));
        self.inner.view.set_slot(&(slot.clone() as Arc<dyn DynSlot>));
        // Before the address is returned: a message sent earlier would never be handled.
        slot.cell.close();
        slot.mailbox.close(CloseReason::Stopped);
        slot
    }

    /// Logs whether this node runs shards of a group, and under which promise.
    fn log_sharding(&self, group: &str) {
        let Some(cluster) = &self.inner.config.cluster else { return };
        match cluster.role {
            Role::Monitor => {
                let text = "cluster.role is \"monitor\": this node runs no shard of the group; use \"worker\"";
                warn!(event = "shards_on_monitor", group, "{text}");
            }
            Role::Worker => log_promise(group, &self.inner.config.ownership),
        }
    }

    /// Frees the names of workers that were not added after all.
    fn give_names_back<A: Actor<Context = Context<A>>>(&self, workers: &[WorkerAddr<A>]) {
        for WorkerAddr { slot } in workers {
            self.inner.view.forget_worker(&slot.name);
        }
    }
}

/// Logs the promise for the shards of a group.
fn log_promise(group: &str, ownership: &OwnershipConfig) {
    let promise = ownership.promise();
    match (ownership.authority, ownership.quorum) {
        (AuthorityKind::View, QuorumRule::None) => {
            warn!(event = "shards_promised", group, promise, "two nodes may run the same shard in a partition")
        }
        (AuthorityKind::View, QuorumRule::Majority)
        | (AuthorityKind::File | AuthorityKind::Etcd | AuthorityKind::Postgres, _) => {
            info!(event = "shards_promised", group, promise, "shards are supervised under this promise");
        }
    }
}
