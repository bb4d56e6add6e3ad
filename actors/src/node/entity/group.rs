//! What the entities of a group share on one node: how they are started, and which of them is
//! stopped to make room.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use actix::Actor;
use heartbeat_core::config::{EntitiesConfig, OnThreadHeld, RestartConfig};
use heartbeat_core::entities::{Activity, LifeId, Room};
use heartbeat_core::{AutoShutdown, GroupId, Instant, RestartKind, ShardSnapshot, Supervise, Times};

use super::idle::{Sweep, Sweeper};
use super::spec::{EntitySpec, EntityStart};
use super::table::Life;
use crate::control::orders::Orders;
use crate::lock::lock;
use crate::node::Node;
use crate::node::group::check_significant;
use crate::node::supervise_error::SuperviseError;
use crate::worker::context::Context;
use crate::worker::mailbox::Rules;
use crate::worker::send_error::SendError;
use crate::worker::slot::{DynSlot, Factory, Part, StartError, WorkerSlot};
use crate::worker::spec::Placement;
use crate::worker::weak_addr::WeakWorkerAddr;

/// Entities that are looked at to find an idle one, before a message is refused. Those that were
/// busy count as used now, so that the next message looks at others.
const LOOKS_MAX: usize = 64;

/// Makes an entity.
pub(super) type EntityFactory<A> = Box<dyn Fn(&EntityStart, &mut Context<A>) -> Result<A, StartError> + Send + Sync>;

/// What the entities of a group share on this node.
pub(super) struct EntityGroup<A: Actor<Context = Context<A>>> {
    node: Node,
    pub(super) id: GroupId,
    pub(super) name: Arc<str>,
    limits: Limits,
    factory: EntityFactory<A>,
    roster: Mutex<Roster<A>>,
    pub(super) orders: Arc<Orders>,
    next_life: AtomicU64,
    sweeper: OnceLock<WeakWorkerAddr<Sweeper<A>>>,
}

/// How each entity is supervised.
struct Limits {
    kind: RestartKind,
    restart: Option<Arc<RestartConfig>>,
    times: Option<Arc<Times>>,
    on_thread_held: Option<OnThreadHeld>,
    placement: Placement,
    rules: Rules,
}

/// The active entities.
struct Roster<A: Actor<Context = Context<A>>> {
    activity: Activity,
    lives: HashMap<LifeId, Arc<Life<A>>>,
    /// Whether the sweeper has set its timer, or is about to.
    is_timed: bool,
}

/// The right to start one entity.
pub(super) struct Ticket<A: Actor<Context = Context<A>>> {
    group: Arc<EntityGroup<A>>,
    life: Option<LifeId>,
}

impl<A: Actor<Context = Context<A>>> Ticket<A> {
    /// Uses it up.
    pub(super) fn take(mut self) -> LifeId {
        self.life.take().expect("a ticket is used once")
    }
}

impl<A: Actor<Context = Context<A>>> Drop for Ticket<A> {
    fn drop(&mut self) {
        if let Some(life) = self.life.take() {
            self.group.end(life);
        }
    }
}

impl<A: Actor<Context = Context<A>>> EntityGroup<A> {
    pub(super) fn new(
        node: &Node,
        spec: &EntitySpec,
        (id, name): (GroupId, Arc<str>),
        factory: EntityFactory<A>,
    ) -> Result<EntityGroup<A>, SuperviseError> {
        let (worker, config) = (&spec.worker, node.config());
        check_significant(&worker.name, worker.significant, worker.kind, AutoShutdown::Never)?;
        let limits = Limits {
            kind: worker.kind,
            restart: worker.limits.restart(config).map_err(SuperviseError::Config)?,
            times: worker.times(config).map_err(SuperviseError::Config)?,
            on_thread_held: worker.held(config).map_err(SuperviseError::Config)?,
            placement: worker.placement.clone(),
            rules: worker.rules(config).map_err(SuperviseError::Config)?,
        };
        let EntitiesConfig { idle_after, active_max } = spec.bounds(config).map_err(SuperviseError::Config)?;
        let activity = Activity::new(idle_after, active_max);
        Ok(EntityGroup {
            node: node.clone(),
            id,
            name,
            limits,
            factory,
            roster: Mutex::new(Roster { activity, lives: HashMap::new(), is_timed: true }),
            orders: Arc::new(Orders::new(node.inner.supervisor.clone())),
            next_life: AtomicU64::new(1),
            sweeper: OnceLock::new(),
        })
    }

    pub(super) fn set_sweeper(&self, sweeper: WeakWorkerAddr<Sweeper<A>>) {
        let _ = self.sweeper.set(sweeper); // It is set once, before any entity starts.
    }

    pub(super) fn now(&self) -> Instant {
        self.node.inner.control.clock.now()
    }

    /// Messages that may wait for one entity.
    pub(super) fn capacity(&self) -> usize {
        self.limits.rules.capacity as usize
    }

    /// How long an entity may take to stop.
    pub(super) fn shutdown_timeout(&self) -> Duration {
        let config = self.node.config();
        self.limits.times.as_ref().map_or(config.workers.shutdown_timeout, |times| times.shutdown_timeout)
    }

    /// Bytes that the entities of one shard may leave behind together.
    pub(super) fn snapshot_bytes_max(&self) -> u32 {
        self.node.inner.control.snapshot_bytes_max
    }

    /// Whether the node leaves, or has left: no entity starts any more.
    pub(super) fn is_leaving(&self) -> bool {
        self.node.inner.control.is_leaving.load(Ordering::Acquire)
    }

    /// Entities that are active, and those on their way out.
    pub(super) fn counts(&self) -> (u32, u32) {
        let roster = lock(&self.roster);
        (roster.activity.active(), roster.activity.stopping())
    }

    /// Runs a job that drops values of the application.
    pub(super) fn drop_elsewhere(&self, job: impl FnOnce() + Send + 'static) {
        self.node.inner.control.drop_queue.run(job);
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    // ---- which one is active --------------------------------------------------------------------

    /// Makes room for one more entity. The caller holds no lock of a table.
    ///
    /// # Errors
    /// [`SendError::Full`] if as many are active as may be, and none of those that were looked at
    /// is idle.
    pub(super) fn admit(self: &Arc<Self>) -> Result<Ticket<A>, SendError> {
        for _ in 0..LOOKS_MAX {
            let now = self.now();
            let (life, idlest) = {
                let mut roster = lock(&self.roster);
                match roster.activity.room() {
                    Room::Free => return Ok(Ticket { group: self.clone(), life: Some(self.begin(&mut roster, now)) }),
                    Room::Full => return Err(SendError::Full),
                    Room::Stop => {
                        let Some(life) = roster.activity.idlest() else { return Err(SendError::Full) };
                        (life, roster.lives.get(&life).cloned())
                    }
                }
            };
            match idlest {
                Some(idlest) => idlest.stop_if_idle(Duration::ZERO, now),
                None => self.touch(life, now), // It has not begun to start.
            }
        }
        Err(SendError::Full)
    }

    /// Looks at the idlest entity and stops it if it is idle, if more are active than may be.
    pub(super) fn shrink(&self) {
        let now = self.now();
        let idlest = {
            let roster = lock(&self.roster);
            let life = if roster.activity.is_over() { roster.activity.idlest() } else { None };
            life.and_then(|life| roster.lives.get(&life).cloned())
        };
        if let Some(idlest) = idlest {
            idlest.stop_if_idle(Duration::ZERO, now);
        }
    }

    /// A number for an entity that starts although there may be no room: messages wait for its next
    /// life already.
    pub(super) fn readmit(&self) -> LifeId {
        let now = self.now();
        self.begin(&mut lock(&self.roster), now)
    }

    fn begin(&self, roster: &mut Roster<A>, now: Instant) -> LifeId {
        let life = LifeId(self.next_life.fetch_add(1, Ordering::Relaxed));
        roster.activity.start(life, now);
        if !std::mem::replace(&mut roster.is_timed, true)
            && let Some(sweeper) = self.sweeper.get().and_then(WeakWorkerAddr::upgrade)
        {
            // An error means that the node leaves.
            let _ = sweeper.try_send(Sweep);
        }
        life
    }

    /// Adds the entity that starts under its number.
    pub(super) fn enlist(&self, number: LifeId, life: Arc<Life<A>>) {
        lock(&self.roster).lives.insert(number, life);
    }

    /// Records that an entity was used at `at`.
    pub(super) fn touch(&self, life: LifeId, at: Instant) {
        lock(&self.roster).activity.touch(life, at);
    }

    /// Records that an entity was asked to stop.
    pub(super) fn stop(&self, life: LifeId) {
        lock(&self.roster).activity.stop(life);
    }

    /// Records that an entity has ended.
    pub(super) fn end(&self, life: LifeId) {
        let mut roster = lock(&self.roster);
        roster.activity.end(life);
        roster.lives.remove(&life);
    }

    /// Stops the idlest entity, if it has been idle for long enough. If none has, returns when one
    /// may be, if there are any.
    pub(super) fn sweep(&self, now: Instant) -> SweepStep {
        let (life, idlest, idle_after) = {
            let mut roster = lock(&self.roster);
            match (roster.activity.due(now), roster.activity.poll_timeout()) {
                (Some(life), _) => (life, roster.lives.get(&life).cloned(), roster.activity.idle_after()),
                (None, Some(at)) => return SweepStep::Until(at),
                (None, None) => {
                    roster.is_timed = false;
                    return SweepStep::Empty;
                }
            }
        };
        match idlest {
            Some(idlest) => idlest.stop_if_idle(idle_after, now),
            None => self.touch(life, now), // As in `admit`.
        }
        SweepStep::Looked
    }

    // ---- how one starts
    // ---------------------------------------------------------------------------

    /// Makes the slot of an entity, which is to be given to the supervisor.
    ///
    /// # Errors
    /// A worker of this node has its name.
    pub(super) fn make_slot(
        self: &Arc<Self>,
        index: u32,
        life: &Arc<Life<A>>,
        left: Option<ShardSnapshot>,
    ) -> Result<(Supervise, Arc<WorkerSlot<A>>), SuperviseError> {
        let inner = &self.node.inner;
        let cell = inner.cells.take();
        let worker = cell.worker();
        let name: Arc<str> = self.name_of(index, &life.key).into();
        if !inner.view.take_name(&name, worker, Some(self.name.clone())) {
            return Err(SuperviseError::NameTaken(name.to_string()));
        }
        let Limits { kind, restart, times, on_thread_held, placement, rules } = &self.limits;
        let shared = Supervise::new(worker, name.clone(), inner.config.workers.arbiters);
        let supervise = Supervise {
            group: self.id,
            kind: *kind,
            restart: restart.clone(),
            times: times.clone(),
            on_thread_held: *on_thread_held,
            thread_slot: self.node.place(placement, shared.thread_slot),
            ..shared
        };
        let part = Part::Entity(life.clone(), left);
        let slot = self.node.make_slot(cell, name, self.factory_for(life.key.clone()), *rules, part);
        inner.view.set_slot(&(slot.clone() as Arc<dyn DynSlot>));
        Ok((supervise, slot))
    }

    fn factory_for(self: &Arc<Self>, key: Arc<[u8]>) -> Factory<A> {
        let group = self.clone();
        Box::new(move |info, context| (group.factory)(&EntityStart { key: key.clone(), info: info.clone() }, context))
    }

    /// The name of an entity's worker: the group, the shard and the key. Bytes that are not
    /// printable are written as `%` and two digits, so no two keys have the same name.
    pub(super) fn name_of(&self, index: u32, key: &[u8]) -> String {
        let mut name = format!("{}/{index}/", self.name);
        for &byte in key {
            if byte.is_ascii_graphic() && byte != b'%' {
                name.push(char::from(byte));
            } else {
                // Writing to a string does not fail.
                let _ = write!(name, "%{byte:02x}");
            }
        }
        name
    }
}

/// What a step of the sweeper has found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SweepStep {
    /// One entity was looked at, and stopped if it was idle.
    Looked,
    /// None may be idle for long enough before this instant.
    Until(Instant),
    /// None is active.
    Empty,
}
