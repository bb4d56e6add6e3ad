//! `Shards`: the workers of a sharded group on this node, and the owner of each key.

use std::fmt;
use std::sync::Arc;
use std::task::Poll;

use actix::{Actor, Addr};
use heartbeat_core::{Child, Engine, Standing};

use crate::control::supervisor::Supervisor;
use crate::control::until::until;
use crate::view::owner::{NoOwner, Owner};
use crate::view::{ShardOwners, View};
use crate::worker::addr::WorkerAddr;
use crate::worker::context::Context;
use crate::worker::messages::NotUp;

/// The workers of a sharded group that may run on this node, one for each shard.
pub struct Shards<A: Actor<Context = Context<A>>> {
    pub(crate) name: Arc<str>,
    pub(crate) workers: Arc<[WorkerAddr<A>]>,
    pub(crate) owners: Arc<ShardOwners>,
    pub(crate) view: Arc<View>,
    pub(crate) supervisor: Addr<Supervisor>,
}

impl<A: Actor<Context = Context<A>>> Shards<A> {
    /// The address of shard `index` on this node; it answers [`SendError::Closed`](crate::SendError::Closed) while another
    /// node owns the shard.
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

    /// Who is responsible for a key: the worker of its shard, if it runs here, or the member where
    /// it runs. The shard is not yet, or not any more, there for as long as the news take; whoever
    /// asks it is then told [`SendError::Closed`](crate::SendError::Closed), and asks here again.
    ///
    /// # Errors
    /// [`NoOwner`] if that is not known now, or if its owner is suspected.
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

impl<A: Actor<Context = Context<A>>> Clone for Shards<A> {
    fn clone(&self) -> Shards<A> {
        Shards {
            name: self.name.clone(),
            workers: self.workers.clone(),
            owners: self.owners.clone(),
            view: self.view.clone(),
            supervisor: self.supervisor.clone(),
        }
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for Shards<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shards").field("name", &self.name).field("count", &self.workers.len()).finish()
    }
}
