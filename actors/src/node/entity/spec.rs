//! `EntitySpec` and `EntityStart`: how entities are to be supervised, and what their factory knows.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use heartbeat_core::config::EntitiesConfig;
use heartbeat_core::{Config, ConfigError, RestartKind};

use crate::worker::slot::StartInfo;
use crate::worker::spec::WorkerSpec;

/// How the entities of a group are to be supervised. A setting that is not made here is as in the
/// config.
///
/// ```
/// # use std::time::Duration;
/// # use heartbeat_actors::prelude::*;
/// use heartbeat_actors::entity::EntitySpec;
/// # struct Cart;
/// # impl Actor for Cart { type Context = Context<Self>; }
/// # actix::System::new().block_on(async {
/// # let node = Node::start(Config::default()).await.unwrap();
/// let spec = EntitySpec::new("cart")
///     .idle_after(Duration::from_secs(30))
///     .active_max(50_000)
///     .worker(|worker| worker.capacity(64));
/// let carts = node.supervise_entities_with(spec, 64, |_start| Ok(Cart)).unwrap();
/// assert_eq!(carts.name(), "cart");
/// # });
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct EntitySpec {
    pub(super) worker: WorkerSpec,
    idle_after: Option<Duration>,
    active_max: Option<u32>,
}

impl EntitySpec {
    /// Entities of a group of this name with the limits of the config. Each is a transient worker:
    /// it is started again after a failure, and not when it stops itself.
    pub fn new(name: impl Into<String>) -> EntitySpec {
        let worker = WorkerSpec::new(name).restart(RestartKind::Transient);
        EntitySpec { worker, idle_after: None, active_max: None }
    }

    /// How long an entity may be idle before it is stopped, instead of `entities.idle_after`.
    pub fn idle_after(mut self, idle_after: Duration) -> EntitySpec {
        self.idle_after = Some(idle_after);
        self
    }

    /// How many may be active on this node at once, instead of `entities.active_max`.
    pub fn active_max(mut self, active_max: u32) -> EntitySpec {
        self.active_max = Some(active_max);
        self
    }

    /// Changes the limits, times, placement and queue of each entity.
    pub fn worker(mut self, change: impl FnOnce(WorkerSpec) -> WorkerSpec) -> EntitySpec {
        self.worker = change(self.worker);
        self
    }

    /// Its bounds, with those of the config.
    pub(super) fn bounds(&self, config: &Config) -> Result<EntitiesConfig, ConfigError> {
        let mut entities = config.entities.clone();
        entities.idle_after = self.idle_after.unwrap_or(entities.idle_after);
        entities.active_max = self.active_max.unwrap_or(entities.active_max);
        entities.check()?;
        Ok(entities)
    }
}

/// What a factory knows about the entity that it starts: its key, and what is known of any worker.
///
/// [`StartInfo::replica`] is what the entity left behind in an earlier life, on this node or
/// another one. [`StartInfo::shard`] is the shard that it lives in.
#[derive(Clone, Debug)]
pub struct EntityStart {
    pub(super) key: Arc<[u8]>,
    pub(super) info: StartInfo,
}

impl EntityStart {
    /// The key, as its first message named it.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The key as text; bytes that are no UTF-8 are replaced.
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(&self.key).into_owned()
    }
}

impl Deref for EntityStart {
    type Target = StartInfo;

    fn deref(&self) -> &StartInfo {
        &self.info
    }
}
