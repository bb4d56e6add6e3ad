//! Entities: a worker for each key, started by its first message.
//!
//! A group of entities is a sharded group. Each key belongs to a shard, and its entity lives on the
//! node that owns the shard. An entity is a supervised worker like any other, with a queue, a
//! status and restarts of its own. It is stopped when it has been idle for a while. What it leaves
//! behind with [`Context::replicate`] starts its next life, on this node or another one.
//!
//! # Quick start
//! ```
//! use heartbeat_actors::entity::EntityStart;
//! use heartbeat_actors::prelude::*;
//! use heartbeat_actors::shard::RemoteMessage;
//! use heartbeat_actors::StartError;
//! use serde::{Deserialize, Serialize};
//!
//! struct Cart {
//!     items: u32,
//! }
//!
//! impl Cart {
//!     fn open(start: &EntityStart) -> Result<Cart, StartError> {
//!         let Some(left) = start.replica() else { return Ok(Cart { items: 0 }) };
//!         Ok(Cart { items: u32::from_le_bytes(left.up_to(1)?.try_into()?) })
//!     }
//! }
//!
//! impl Actor for Cart {
//!     type Context = Context<Self>;
//! }
//!
//! #[derive(Message, Serialize, Deserialize)]
//! #[rtype(result = "u32")]
//! struct Add(u32);
//!
//! impl RemoteMessage for Add {
//!     const NAME: &str = "cart.add";
//! }
//!
//! impl Handler<Add> for Cart {
//!     type Result = u32;
//!
//!     fn handle(&mut self, add: Add, context: &mut Context<Self>) -> u32 {
//!         self.items += add.0;
//!         context.replicate(1, self.items.to_le_bytes().to_vec()).expect("four bytes fit");
//!         self.items
//!     }
//! }
//! # actix::System::new().block_on(async {
//! # let node = Node::start(Config::default()).await.unwrap();
//! let carts = node.supervise_entities("cart", 64, Cart::open).unwrap().accept::<Add>();
//! carts.until_up().await.unwrap();
//! assert_eq!(carts.send("ada", Add(2)).await, Ok(2)); // ada's cart starts
//! assert_eq!(carts.send("bob", Add(1)).await, Ok(1));
//! assert_eq!(carts.send("ada", Add(3)).await, Ok(5));
//! # });
//! ```
//!
//! # Choices
//! | for | set |
//! |---|---|
//! | how long an entity may be idle | [`EntitySpec::idle_after`] |
//! | how many may be active on a node | [`EntitySpec::active_max`] |
//! | queue, timeouts, restarts and threads of each entity | [`EntitySpec::worker`] |
//! | how much the entities of a shard may leave | `ownership.snapshot_bytes_max`, and the number of shards |

mod group;
mod idle;
mod shard;
mod spec;
mod table;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Handler};
use heartbeat_core::{AutoShutdown, Counting, GroupId, Instant, RestartKind, Strategy, SuperviseGroup, UNLIMITED};

use self::group::EntityGroup;
use self::idle::Sweeper;
use self::shard::EntityShard;
use self::table::Table;
use crate::node::Node;
use crate::node::group::Group;
use crate::node::shard::Shards;
use crate::node::supervise_error::SuperviseError;
use crate::requests::{ByKey, RemoteMessage, Route, Ways};
use crate::view::owner::{NoOwner, Owner};
use crate::worker::context::Context;
use crate::worker::dead_letter::DeadReason;
use crate::worker::entity::ShardHost;
use crate::worker::envelope::{DynEnvelope, Envelope};
use crate::worker::mailbox::Item;
use crate::worker::messages::NotUp;
use crate::worker::reply::Reply;
use crate::worker::send_error::{SendError, TrySendError};
use crate::worker::slot::{Part, StartError};
use crate::worker::spec::WorkerSpec;

pub use self::spec::{EntitySpec, EntityStart};
pub use heartbeat_core::entities::{KEY_BYTES_MAX, STOPPING_MAX};

/// How much longer than its entities a shard may take to stop: the time to save what they leave.
const SAVE_FOR: Duration = Duration::from_millis(500);

/// The entities of a group: a worker for each key, on the node that owns the key's shard. Cloning
/// it is cheap; dropping it stops nothing.
pub struct Entities<A: Actor<Context = Context<A>>> {
    shards: Shards<EntityShard<A>>,
    tables: Arc<[Arc<Table<A>>]>,
    group: Arc<EntityGroup<A>>,
    ways: Option<Ways<A, Arc<Table<A>>>>,
}

/// How many entities of a group a node has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct EntityCounts {
    /// Started, and not asked to stop; those that were given up too.
    pub active: u32,
    /// Asked to stop, and not ended.
    pub stopping: u32,
    /// Not running, and with something left behind. Those of a shard are counted from its first
    /// message on.
    pub idle: u64,
}

impl<A: Actor<Context = Context<A>>> Entities<A> {
    /// Lets messages of this type come from other nodes. Every node that supervises the group
    /// registers what its entities handle.
    #[must_use]
    pub fn accept<M>(self) -> Entities<A>
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        if let Some(ways) = &self.ways {
            ways.accept::<M>();
        }
        self
    }

    /// Sends a message to the entity with this key, which starts if it does not run.
    ///
    /// The message is handled at most once. One that meets its entity on its way out waits for the
    /// next life.
    ///
    /// # Errors
    /// The future's error is a [`SendError`]; [`SendError::is_unhandled`] says whether it is safe
    /// to send the message again. Beside those of a shard: [`SendError::Key`] if the key is empty
    /// or longer than [`KEY_BYTES_MAX`], [`SendError::Full`] also if `active_max` entities are
    /// active and none of them is idle.
    pub fn send<M>(&self, key: impl AsRef<[u8]>, message: M) -> Reply<M::Result>
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        self.send_by_key(key.as_ref(), message)
    }

    /// As [`Entities::send`], but asks for no answer.
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

    /// As [`Entities::send`], but reports nothing back. A message that is refused, at once or
    /// later, becomes a dead letter ([`Node::subscribe_dead_letters`]).
    pub fn do_send<M>(&self, key: impl AsRef<[u8]>, message: M)
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        self.do_send_by_key(key.as_ref(), message);
    }

    /// As [`Entities::send`], and again each time that the message is interrupted, at most
    /// `attempts_max` times in all. Use it only for messages that do no harm when they are handled
    /// twice.
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

    /// Where the entity with this key lives: on this node, or at a member.
    ///
    /// # Errors
    /// [`NoOwner`] if the owner of its shard is not known now, or is suspected.
    pub fn owner(&self, key: impl AsRef<[u8]>) -> Result<Owner<()>, NoOwner> {
        match self.shards.owner(key)? {
            Owner::Here(_) => Ok(Owner::Here(())),
            Owner::There(member) => Ok(Owner::There(member)),
        }
    }

    /// The shard that a key belongs to; see [`Shards::shard_of`].
    pub fn shard_of(&self, key: impl AsRef<[u8]>) -> u32 {
        self.shards.shard_of(key)
    }

    /// The group's name.
    pub fn name(&self) -> &str {
        self.shards.name()
    }

    /// How many entities this node has.
    ///
    /// ```
    /// # use heartbeat_actors::prelude::*;
    /// # struct Cart;
    /// # impl Actor for Cart { type Context = Context<Self>; }
    /// # actix::System::new().block_on(async {
    /// # let node = Node::start(Config::default()).await.unwrap();
    /// let carts = node.supervise_entities("cart", 16, |_| Ok(Cart)).unwrap();
    /// assert_eq!(carts.counts().active, 0); // each starts with its first message
    /// # });
    /// ```
    pub fn counts(&self) -> EntityCounts {
        let (active, stopping) = self.group.counts();
        EntityCounts { active, stopping, idle: self.tables.iter().map(|table| table.idle()).sum() }
    }

    /// Waits until this node knows an owner of each shard, and those shards that are its own take
    /// messages; see [`Shards::until_up`].
    ///
    /// # Errors
    /// [`NotUp`] if this node leaves.
    pub async fn until_up(&self) -> Result<(), NotUp> {
        self.shards.until_up().await
    }
}

impl<A: Actor<Context = Context<A>>> ByKey<A> for Entities<A> {
    fn index_of(&self, key: &[u8]) -> u32 {
        self.shard_of(key)
    }

    fn route(&self, index: u32) -> Option<&Arc<Route>> {
        self.ways.as_ref().map(|ways| &ways.routes[index as usize])
    }

    fn travelling_key<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        Some(key)
    }

    fn try_here<M>(
        &self,
        index: u32,
        key: &[u8],
        message: M,
        envelope: fn(M) -> Envelope<M>,
    ) -> Result<Arc<Envelope<M>>, TrySendError<M>>
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        let envelope = Arc::new(match self.route(index) {
            Some(route) => envelope(message).with_onward(route.clone()),
            None => envelope(message),
        });
        match self.tables[index as usize].send(key, &(envelope.clone() as Arc<dyn DynEnvelope<A>>)) {
            Ok(()) => Ok(envelope),
            Err(error) => match envelope.take() {
                Some(message) => Err(TrySendError { error, message }),
                None => unreachable!("an envelope that was refused was not opened"),
            },
        }
    }

    fn discard<M>(&self, key: &[u8], message: M, reason: DeadReason)
    where
        A: Handler<M>,
        M: RemoteMessage,
    {
        let name = self.group.name_of(self.shards.shard_of(key), key).into();
        let envelope: Arc<dyn DynEnvelope<A>> = Arc::new(Envelope::new(message));
        self.group.node().inner.control.dead_letters.discard([Item::Envelope(envelope)], &name, reason);
    }
}

impl<A: Actor<Context = Context<A>>> Clone for Entities<A> {
    fn clone(&self) -> Entities<A> {
        Entities {
            shards: self.shards.clone(),
            tables: self.tables.clone(),
            group: self.group.clone(),
            ways: self.ways.clone(),
        }
    }
}

impl<A: Actor<Context = Context<A>>> fmt::Debug for Entities<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entities").field("name", &self.name()).field("shards", &self.tables.len()).finish()
    }
}

impl Node {
    /// Supervises a worker for each key, spread in `shards` shards over the nodes that supervise
    /// entities of this name. Each is started by its first message, by the factory, on the node
    /// that owns its shard, and stopped when it has been idle for `entities.idle_after`.
    ///
    /// `shards` must be the same on all nodes; see [`Node::supervise_shards`]. What the entities of
    /// one shard leave behind is bounded, so choose it by that.
    ///
    /// # Errors
    /// As [`Node::supervise_shards`].
    pub fn supervise_entities<A, F>(&self, name: &str, shards: u32, factory: F) -> Result<Entities<A>, SuperviseError>
    where
        A: Actor<Context = Context<A>>,
        F: Fn(&EntityStart) -> Result<A, StartError> + Send + Sync + 'static,
    {
        self.supervise_entities_with(EntitySpec::new(name), shards, factory)
    }

    /// As [`Node::supervise_entities`], with limits of their own.
    ///
    /// # Errors
    /// As [`Node::supervise_shards_with`], or if the bounds of the spec contradict each other.
    pub fn supervise_entities_with<A, F>(
        &self,
        spec: EntitySpec,
        shards: u32,
        factory: F,
    ) -> Result<Entities<A>, SuperviseError>
    where
        A: Actor<Context = Context<A>>,
        F: Fn(&EntityStart) -> Result<A, StartError> + Send + Sync + 'static,
    {
        let (id, name) = self.take_group(&spec.worker.name, &self.root())?;
        let made = self.make_entities(&spec, shards, (id, name.clone()), Box::new(move |start, _| factory(start)));
        if made.is_err() {
            self.give_group_back(&name);
        }
        made
    }

    fn make_entities<A: Actor<Context = Context<A>>>(
        &self,
        spec: &EntitySpec,
        shards: u32,
        named: (GroupId, Arc<str>),
        factory: group::EntityFactory<A>,
    ) -> Result<Entities<A>, SuperviseError> {
        let group = Arc::new(EntityGroup::new(self, spec, named, factory)?);
        let tables: Arc<[Arc<Table<A>>]> =
            (0..shards.min(crate::shard::SHARDS_MAX)).map(|index| Arc::new(Table::new(group.clone(), index))).collect();
        let copy_every = self.config().ownership.copy_every;
        // The entities stop first, each within its own time.
        let worker = WorkerSpec::new(&*group.name).shutdown_timeout(group.shutdown_timeout() + SAVE_FOR);
        let (made_from, hosts) = (tables.clone(), tables.clone());
        let make = move |start: &crate::StartInfo| {
            let index = start.shard.map_or(0, |shard| shard.index);
            let table = made_from[index as usize].clone();
            table.read()?;
            let (copy_from, is_copy_timed, is_stopping) = (Instant::ZERO, false, false);
            Ok(EntityShard { table, copy_every, copy_from, is_copy_timed, is_stopping })
        };
        let host = move |index: u32| Some(hosts[index as usize].clone() as Arc<dyn ShardHost>);
        let shards = self.add_shards(worker, shards, make, host)?;
        for (table, worker) in tables.iter().zip(shards.workers()) {
            table.set_shard_worker(worker.downgrade());
        }
        self.add_group(SuperviseGroup {
            group: group.id,
            name: group.name.clone(),
            parent: GroupId::ROOT,
            strategy: Strategy::OneForOne,
            counting: Counting::Each,
            auto_shutdown: AutoShutdown::Never,
            dynamic: true,
            kind: RestartKind::Permanent,
            significant: false,
            restart: None,
        });
        self.add_sweeper(&group)?;
        // From here on messages come from other nodes, too.
        let ways = self.inner.requests.as_ref().zip(shards.routes());
        let ways = ways.map(|(link, routes)| Ways::open(link, &group.name, tables.clone(), routes));
        Ok(Entities { shards, tables, group, ways })
    }

    /// Adds the worker that stops idle entities. It is never given up.
    fn add_sweeper<A: Actor<Context = Context<A>>>(&self, group: &Arc<EntityGroup<A>>) -> Result<(), SuperviseError> {
        let spec = WorkerSpec::new(format!("{}/idle", group.name));
        let spec = spec.intensity(UNLIMITED, self.config().restart.period);
        let made_from = group.clone();
        let factory = Box::new(move |_: &_, _: &mut _| Ok(Sweeper { group: made_from.clone() }));
        let of = Group::of(self, group.id, group.name.clone());
        let sweeper = self.add_worker(&of, spec, factory, Part::Alone)?;
        group.set_sweeper(sweeper.downgrade());
        Ok(())
    }
}
