//! `Table`: the entities of one shard, on the node that runs it.
//!
//! A sender looks its key up here and puts its message into the entity's own queue, on its own
//! thread. If the entity does not run, the sender makes its queue and orders its start.
//!
//! An entity on its way out refuses messages, like any worker that stops. They wait here, behind
//! those that it has left in its queue. When the supervisor has forgotten its worker, the next life
//! starts with all of them, in their order.
//!
//! One lock guards a table. Under it a caller may lock a queue, the roster of the group and the
//! queue of orders, in this order. No code of the application runs under it, and nothing is sent to
//! the supervisor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use actix::Actor;
use heartbeat_core::entities::{self, FORMAT_VERSION, KEY_BYTES_MAX, Left, LifeId, split_key};
use heartbeat_core::{Epoch, Instant, Shard, ShardSnapshot};
use tokio::sync::Notify;
use tracing::error;

use super::group::{EntityGroup, Ticket};
use super::shard::{Copy, EntityShard};
use crate::control::orders::Order;
use crate::lock::lock;
use crate::requests::ShardHere;
use crate::worker::context::{Context, SnapshotTooLarge};
use crate::worker::dead_letter::DeadReason;
use crate::worker::entity::{EntityHost, ShardHost};
use crate::worker::envelope::DynEnvelope;
use crate::worker::mailbox::Item;
use crate::worker::send_error::SendError;
use crate::worker::slot::{StartError, WorkerSlot};
use crate::worker::weak_addr::WeakWorkerAddr;

/// The entities of one shard.
pub(super) struct Table<A: Actor<Context = Context<A>>> {
    group: Arc<EntityGroup<A>>,
    index: u32,
    state: Mutex<State<A>>,
    /// The worker of the shard.
    shard_worker: OnceLock<WeakWorkerAddr<EntityShard<A>>>,
    /// Wakes the shard's worker when no entity runs any more.
    all_ended: Notify,
}

struct State<A: Actor<Context = Context<A>>> {
    phase: Phase,
    /// The snapshot of the shard, until the first message needs it.
    unread: Option<ShardSnapshot>,
    entries: BTreeMap<Arc<[u8]>, Entry<A>>,
    /// Bytes of the shard's snapshot as it is now.
    bytes: usize,
    /// Lives whose workers have not ended.
    running: u32,
    /// Entries with a life.
    lives: u32,
    /// How many lives could not begin.
    refused: u64,
    /// Whether the snapshots have changed since they were last encoded.
    is_changed: bool,
    /// Whether the shard's worker knows that they have.
    is_copy_asked: bool,
}

/// Whether this node runs the shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Closed,
    Open(Shard),
    /// Its entities are being stopped, since it moves away or its worker is stopped.
    Closing(Shard),
}

impl Phase {
    fn epoch(self) -> Option<Epoch> {
        match self {
            Phase::Closed => None,
            Phase::Open(shard) | Phase::Closing(shard) => Some(shard.epoch),
        }
    }
}

/// One entity that is known: it has left something, or it lives.
struct Entry<A: Actor<Context = Context<A>>> {
    left: Option<Kept>,
    life: Option<Box<Living<A>>>,
}

/// What an entity leaves behind.
#[derive(Clone)]
struct Kept {
    version: u32,
    bytes: Arc<[u8]>,
}

struct Living<A: Actor<Context = Context<A>>> {
    number: LifeId,
    slot: Arc<WorkerSlot<A>>,
    /// Whether it was asked to stop.
    is_stopping: bool,
    /// Whether its worker has ended.
    has_ended: bool,
    /// Messages for the next life.
    waiting: Vec<Item<A>>,
}

/// One life of an entity, as its slot refers to it.
pub(super) struct Life<A: Actor<Context = Context<A>>> {
    table: Arc<Table<A>>,
    pub(super) key: Arc<[u8]>,
    number: LifeId,
    shard: Shard,
}

/// Messages that will not be handled here, by the keys of their entities.
type Refused<A> = Vec<(Arc<[u8]>, Vec<Item<A>>)>;

/// What a sender does next.
enum Step<A: Actor<Context = Context<A>>> {
    /// The message has a place, or none.
    Done(Result<(), SendError>),
    /// Put it into this queue.
    Push(LifeId, Arc<WorkerSlot<A>>),
    /// Ask for room for one more entity.
    Admit,
}

impl<A: Actor<Context = Context<A>>> Table<A> {
    pub(super) fn new(group: Arc<EntityGroup<A>>, index: u32) -> Table<A> {
        let state = State {
            phase: Phase::Closed,
            unread: None,
            entries: BTreeMap::new(),
            bytes: 0,
            running: 0,
            lives: 0,
            refused: 0,
            is_changed: false,
            is_copy_asked: false,
        };
        let (shard_worker, all_ended) = (OnceLock::new(), Notify::new());
        Table { group, index, state: Mutex::new(state), shard_worker, all_ended }
    }

    pub(super) fn set_shard_worker(&self, worker: WeakWorkerAddr<EntityShard<A>>) {
        let _ = self.shard_worker.set(worker); // It is set once, before any entity starts.
    }

    fn lock(&self) -> MutexGuard<'_, State<A>> {
        lock(&self.state)
    }

    // ---- for senders ----------------------------------------------------------------------------

    /// Puts a message into the queue of the entity with this key, which starts if it does not run.
    ///
    /// # Errors
    /// [`SendError::Closed`] if the shard does not run here, else as a worker's queue; or
    /// [`SendError::Full`] if there is no room for one more entity. The envelope is unopened.
    pub(super) fn send(self: &Arc<Self>, key: &[u8], envelope: &Arc<dyn DynEnvelope<A>>) -> Result<(), SendError> {
        if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
            return Err(SendError::Key(key.len()));
        }
        let mut ticket = None;
        loop {
            let step = self.step(&mut self.lock(), key, envelope, &mut ticket);
            match step {
                Step::Done(result) => {
                    self.group.orders.post();
                    return result;
                }
                Step::Push(life, slot) => match slot.mailbox.push(envelope.clone()) {
                    Ok(undelivered) => {
                        undelivered.into_iter().for_each(|undelivered| slot.discard(undelivered));
                        return Ok(());
                    }
                    // It is on its way out.
                    Err(SendError::Closed) if !envelope.must_go_on() => {
                        if let Some(result) = self.wait(&mut self.lock(), key, life, envelope) {
                            return result;
                        }
                    }
                    Err(error) => return Err(error),
                },
                Step::Admit => match self.group.admit() {
                    Ok(admitted) => ticket = Some(admitted),
                    Err(error) => {
                        self.group.orders.post();
                        return Err(error);
                    }
                },
            }
        }
    }

    fn step(
        self: &Arc<Self>,
        state: &mut State<A>,
        key: &[u8],
        envelope: &Arc<dyn DynEnvelope<A>>,
        ticket: &mut Option<Ticket<A>>,
    ) -> Step<A> {
        let Phase::Open(shard) = state.phase else { return Step::Done(Err(SendError::Closed)) };
        if envelope.must_go_on() {
            // Its sender sends it the way of those before it.
            return Step::Done(Err(SendError::Closed));
        }
        if state.read().is_err() || self.group.is_leaving() {
            return Step::Done(Err(SendError::Closed));
        }
        let known = state.entries.get_key_value(key);
        if let Some(life) = known.and_then(|(_, entry)| entry.life.as_deref()) {
            return match life.waiting.is_empty() {
                true => Step::Push(life.number, life.slot.clone()),
                false => {
                    let number = life.number;
                    Step::Done(self.wait(state, key, number, envelope).unwrap_or(Err(SendError::Closed)))
                }
            };
        }
        let key = known.map_or_else(|| key.into(), |(key, _)| key.clone());
        match ticket.take() {
            None => Step::Admit,
            Some(ticket) => {
                let first = vec![Item::Envelope(envelope.clone())];
                Step::Done(self.start(state, shard, &key, ticket.take(), first).map_err(|(error, _)| error))
            }
        }
    }

    /// Lets a message wait for the next life of an entity whose present one is this. None if it has
    /// another life by now.
    fn wait(
        &self,
        state: &mut State<A>,
        key: &[u8],
        number: LifeId,
        envelope: &Arc<dyn DynEnvelope<A>>,
    ) -> Option<Result<(), SendError>> {
        if !matches!(state.phase, Phase::Open(_)) {
            return Some(Err(SendError::Closed));
        }
        let living = state.living(key, number)?;
        if living.waiting.len() + living.slot.mailbox.depth() as usize >= self.group.capacity() {
            return Some(Err(SendError::Full));
        }
        living.waiting.push(Item::Envelope(envelope.clone()));
        Some(Ok(()))
    }

    /// Starts an entity with these messages in its queue. The caller posts the order.
    ///
    /// # Errors
    /// [`SendError::Closed`], with the messages: a worker of this node has the entity's name.
    fn start(
        self: &Arc<Self>,
        state: &mut State<A>,
        shard: Shard,
        key: &Arc<[u8]>,
        number: LifeId,
        first: Vec<Item<A>>,
    ) -> Result<(), (SendError, Vec<Item<A>>)> {
        let life = Arc::new(Life { table: self.clone(), key: key.clone(), number, shard });
        let left = state.entries.get(key).and_then(|entry| entry.left.clone());
        let left =
            left.map(|Kept { version, bytes }| ShardSnapshot { epoch: shard.epoch, sequence: 0, version, bytes });
        let (supervise, slot) = match self.group.make_slot(self.index, &life, left) {
            Ok(made) => made,
            Err(refused) => {
                self.group.end(number);
                state.refused += 1;
                // Each message for the entity comes here: the 1st, 2nd, 4th and so on become lines.
                if state.refused.is_power_of_two() {
                    let (group, reason) = (&*self.group.name, refused.to_string());
                    error!(
                        event = "entity_not_started",
                        group,
                        reason,
                        times = state.refused,
                        "an entity cannot start"
                    );
                }
                return Err((SendError::Closed, first));
            }
        };
        slot.mailbox.fill(first);
        let living = Living { number, slot: slot.clone(), is_stopping: false, has_ended: false, waiting: Vec::new() };
        let entry = state.entries.entry(key.clone()).or_insert(Entry { left: None, life: None });
        entry.life = Some(Box::new(living));
        state.running += 1;
        state.lives += 1;
        self.group.enlist(number, life);
        self.group.orders.give(Order::Start(Box::new(supervise), slot));
        Ok(())
    }

    // ---- for the shard's worker
    // -------------------------------------------------------------------

    /// Reads the snapshot of the shard, if that was not done yet.
    ///
    /// # Errors
    /// It is no snapshot of entities, or that of a newer program.
    pub(super) fn read(&self) -> Result<(), StartError> {
        self.lock().read()
    }

    /// Stops all entities; no message comes in any more.
    pub(super) fn close(&self) {
        let refused = {
            let mut state = self.lock();
            if let Phase::Open(shard) = state.phase {
                state.phase = Phase::Closing(shard);
            }
            self.stop_all(&mut state)
        };
        self.group.orders.post();
        self.refuse(refused);
    }

    /// Whether no entity runs any more.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().running == 0
    }

    /// Waits until no entity runs any more.
    pub(super) async fn until_ended(&self) {
        while !self.has_ended() {
            self.all_ended.notified().await;
        }
    }

    /// What the entities leave behind, if that has changed since the last call.
    pub(super) fn encode_changes(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        state.is_copy_asked = false;
        if !std::mem::take(&mut state.is_changed) {
            return None;
        }
        Some(entities::encode(state.entries.iter().filter_map(|(key, entry)| {
            let kept = entry.left.as_ref()?;
            Some(Left { key, version: kept.version, bytes: &kept.bytes })
        })))
    }

    /// Orders the stop of all entities. Returns the messages that waited for their next lives.
    fn stop_all(&self, state: &mut State<A>) -> Refused<A> {
        let mut refused = Vec::new();
        for (key, entry) in &mut state.entries {
            let Some(living) = entry.life.as_deref_mut() else { continue };
            self.order_stop(living);
            if !living.waiting.is_empty() {
                refused.push((key.clone(), std::mem::take(&mut living.waiting)));
            }
        }
        refused
    }

    /// Orders the stop of an entity, unless that was done.
    fn order_stop(&self, living: &mut Living<A>) {
        if !std::mem::replace(&mut living.is_stopping, true) {
            self.group.stop(living.number);
            self.group.orders.give(Order::Remove(living.slot.worker, living.slot.clone()));
        }
    }

    /// Ends messages that no life of their entity will handle here. Those that were sent on this
    /// node in a cluster go on to the new owner of the shard, before any later one; the others are
    /// dropped.
    fn refuse(&self, refused: Refused<A>) {
        let mut dropped: Vec<(Arc<str>, Vec<Item<A>>)> = Vec::new();
        for (key, items) in refused {
            let mut rest = Vec::new();
            for item in items {
                match item {
                    Item::Envelope(envelope) if envelope.goes_on() => envelope.send_on(Some(key.clone())),
                    item @ (Item::Envelope(_) | Item::Actix(_)) => rest.push(item),
                }
            }
            if !rest.is_empty() {
                dropped.push((self.group.name_of(self.index, &key).into(), rest));
            }
        }
        if dropped.is_empty() {
            return;
        }
        let control = self.group.node().inner.control.clone();
        self.group.drop_elsewhere(move || {
            for (name, items) in dropped {
                control.dead_letters.discard(items, &name, DeadReason::Stopped);
            }
        });
    }

    /// Entities that are known and do not live.
    pub(super) fn idle(&self) -> u64 {
        let state = self.lock();
        state.entries.len() as u64 - u64::from(state.lives)
    }

    /// The epoch under which this node runs the shard, if it does.
    fn epoch(&self) -> Option<Epoch> {
        match self.lock().phase {
            Phase::Open(shard) => Some(shard.epoch),
            Phase::Closing(_) | Phase::Closed => None,
        }
    }
}

impl<A: Actor<Context = Context<A>>> ShardHere<A> for Arc<Table<A>> {
    fn epoch(&self) -> Option<Epoch> {
        Table::epoch(self)
    }

    /// The key of the entity stands in front of each message.
    fn split<'p>(&self, payload: &'p [u8]) -> Option<(&'p [u8], &'p [u8])> {
        split_key(payload)
    }

    fn put(&self, key: &[u8], envelope: Arc<dyn DynEnvelope<A>>) -> Result<(), SendError> {
        self.send(key, &envelope)
    }
}

impl<A: Actor<Context = Context<A>>> State<A> {
    fn living(&mut self, key: &[u8], number: LifeId) -> Option<&mut Living<A>> {
        let living = self.entries.get_mut(key)?.life.as_deref_mut()?;
        (living.number == number).then_some(living)
    }

    /// Reads the snapshot of the shard, if that was not done yet. An entity that lives keeps what
    /// it has left since.
    fn read(&mut self) -> Result<(), StartError> {
        let Some(unread) = &self.unread else { return Ok(()) };
        for Left { key, version, bytes } in entities::decode(unread.up_to(FORMAT_VERSION)?)? {
            let entry = self.entries.entry(key.into()).or_insert(Entry { left: None, life: None });
            if entry.left.is_none() {
                entry.left = Some(Kept { version, bytes: bytes.into() });
                self.bytes += entities::encoded_bytes(key, bytes);
            }
        }
        self.unread = None;
        Ok(())
    }

    /// Forgets what entities have left, and those that do not live.
    fn clear(&mut self) {
        self.unread = None;
        self.entries.retain(|_, entry| {
            entry.left = None;
            entry.life.is_some()
        });
        (self.bytes, self.is_changed, self.is_copy_asked) = (0, false, false);
    }
}

impl<A: Actor<Context = Context<A>>> ShardHost for Table<A> {
    fn opened(&self, shard: Shard, brought: Option<ShardSnapshot>, own: Option<ShardSnapshot>) {
        let refused = {
            let mut state = self.lock();
            let before = std::mem::replace(&mut state.phase, Phase::Open(shard));
            if before.epoch() == Some(shard.epoch) {
                return; // Only its worker starts again.
            }
            // Entities of the previous epoch must not act under this one. Messages to them wait for
            // their next lives.
            let refused = self.stop_all(&mut state);
            match (before, brought) {
                (Phase::Closed, brought) => {
                    state.clear();
                    state.unread = brought.or(own);
                }
                (Phase::Open(_) | Phase::Closing(_), Some(brought)) => {
                    state.clear();
                    state.unread = Some(brought);
                }
                (Phase::Open(_) | Phase::Closing(_), None) => {}
            }
            refused
        };
        self.group.orders.post();
        self.refuse(refused);
    }

    fn closed(&self) {
        let refused = {
            let mut state = self.lock();
            state.phase = Phase::Closed;
            let refused = self.stop_all(&mut state);
            state.clear();
            refused
        };
        self.group.orders.post();
        self.refuse(refused);
    }
}

impl<A: Actor<Context = Context<A>>> Life<A> {
    /// Stops the entity if it has had nothing to do for this long. Otherwise notes since when it
    /// has none.
    pub(super) fn stop_if_idle(&self, idle_after: Duration, now: Instant) {
        let group = &self.table.group;
        let mut state = self.table.lock();
        let Some(living) = state.living(&self.key, self.number) else { return group.end(self.number) };
        let (cell, mailbox) = (&living.slot.cell, &living.slot.mailbox);
        let is_busy = cell.is_waiting() || cell.busy().is_some() || mailbox.load() > 0 || !living.waiting.is_empty();
        let used = if is_busy { now } else { cell.since() };
        if is_busy || used + idle_after > now {
            group.touch(self.number, used);
        } else {
            self.table.order_stop(living);
        }
    }
}

impl<A: Actor<Context = Context<A>>> EntityHost<A> for Life<A> {
    fn shard(&self) -> Shard {
        self.shard
    }

    fn ended(&self, left: Vec<Item<A>>) {
        let table = &self.table;
        let (refused, gone) = {
            let mut state = table.lock();
            let (is_open, is_leaving) = (matches!(state.phase, Phase::Open(_)), table.group.is_leaving());
            let Some(living) = state.living(&self.key, self.number) else {
                drop(state);
                return table.refuse(vec![(self.key.clone(), left)]);
            };
            let is_first = !std::mem::replace(&mut living.has_ended, true);
            let mut waiting = left;
            waiting.append(&mut living.waiting);
            let refused = if is_open && !is_leaving { Vec::new() } else { std::mem::take(&mut waiting) };
            living.waiting = waiting;
            state.running -= u32::from(is_first);
            // Once the node leaves, the supervisor forgets no worker.
            let gone = if is_leaving { table.take_life(&mut state, &self.key) } else { None };
            (refused, gone)
        };
        table.end_life(gone);
        table.refuse(vec![(self.key.clone(), refused)]);
        if table.has_ended() {
            table.all_ended.notify_one();
        }
    }

    fn forgotten(&self) {
        let table = &self.table;
        let (refused, gone) = {
            let mut state = table.lock();
            if state.living(&self.key, self.number).is_none() {
                return;
            }
            let mut gone = table.take_life(&mut state, &self.key);
            let waiting = gone.as_mut().map(|living| std::mem::take(&mut living.waiting)).unwrap_or_default();
            let refused = match state.phase {
                Phase::Open(shard) if !waiting.is_empty() => {
                    let started = table.start(&mut state, shard, &self.key, table.group.readmit(), waiting);
                    started.err().map(|(_, waiting)| waiting).unwrap_or_default()
                }
                Phase::Open(_) | Phase::Closing(_) | Phase::Closed => waiting,
            };
            let is_left =
                state.entries.get(&self.key).is_some_and(|entry| entry.left.is_some() || entry.life.is_some());
            if !is_left {
                state.entries.remove(&self.key);
            }
            (refused, gone)
        };
        table.end_life(gone);
        table.group.shrink();
        table.group.orders.post();
        table.refuse(vec![(self.key.clone(), refused)]);
        if table.has_ended() {
            table.all_ended.notify_one();
        }
    }

    fn left_behind(&self, version: u32, bytes: &Arc<[u8]>) -> Result<(), SnapshotTooLarge> {
        let table = &self.table;
        let is_asked = {
            let mut state = table.lock();
            let is_own =
                state.phase.epoch() == Some(self.shard.epoch) && state.living(&self.key, self.number).is_some();
            if !is_own {
                return Ok(());
            }
            let Some(entry) = state.entries.get(&self.key) else { return Ok(()) };
            let before = entry.left.as_ref().map_or(0, |kept| entities::encoded_bytes(&self.key, &kept.bytes));
            let after = if bytes.is_empty() { 0 } else { entities::encoded_bytes(&self.key, bytes) };
            let (others, bytes_max) = (state.bytes - before, table.group.snapshot_bytes_max());
            if others + after > bytes_max as usize {
                return Err(SnapshotTooLarge { bytes: after, others, bytes_max });
            }
            let kept = (!bytes.is_empty()).then(|| Kept { version, bytes: bytes.clone() });
            if let Some(entry) = state.entries.get_mut(&self.key) {
                entry.left = kept;
            }
            (state.bytes, state.is_changed) = (others + after, true);
            std::mem::replace(&mut state.is_copy_asked, true)
        };
        if !is_asked && let Some(worker) = table.shard_worker.get().and_then(WeakWorkerAddr::upgrade) {
            // An error means that the shard stops, and it looks once more then.
            let _ = worker.try_send(Copy);
        }
        Ok(())
    }
}

impl<A: Actor<Context = Context<A>>> Table<A> {
    /// Takes the life out of an entry.
    fn take_life(&self, state: &mut State<A>, key: &[u8]) -> Option<Box<Living<A>>> {
        let living = state.entries.get_mut(key)?.life.take()?;
        state.lives -= 1;
        state.running -= u32::from(!living.has_ended);
        Some(living)
    }

    /// Frees the place of a life that is over.
    fn end_life(&self, gone: Option<Box<Living<A>>>) {
        if let Some(living) = gone {
            self.group.end(living.number);
            // This may be the last reference to its slot.
            self.group.drop_elsewhere(move || drop(living));
        }
    }
}
