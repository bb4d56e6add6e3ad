//! `WorkerSpec`: how one worker is to be supervised, and where it runs.

use std::sync::Arc;
use std::time::Duration;

use heartbeat_core::config::{Drain, OnThreadHeld, RestartConfig};
use heartbeat_core::{Config, ConfigError, RestartKind, ThreadSlotId, Times, UNLIMITED};

use crate::worker::mailbox::{OnReplace, Overflow, Rules};

/// Longest pause before a member of a pool is started again. If each start fails, the factory is
/// called twice a second. If each request makes its handler fail, a request costs the pool one
/// member for a quarter of a second on average.
const MEMBER_DELAY_MAX: Duration = Duration::from_millis(500);

/// How a worker is to be supervised. A setting that is not made here is as in the config.
///
/// ```
/// # use std::time::Duration;
/// # use heartbeat_actors::prelude::*;
/// # struct Mailer;
/// # impl Actor for Mailer { type Context = Context<Self>; }
/// # actix::System::new().block_on(async {
/// # let node = Node::start(Config::default()).await.unwrap();
/// let spec = WorkerSpec::new("mailer").capacity(64).timeout(Duration::from_secs(2));
/// let mailer = node.supervise_with(spec, |_| Ok(Mailer)).unwrap();
/// assert_eq!(mailer.name(), "mailer");
///
/// let contradiction = WorkerSpec::new("other").capacity(0);
/// assert!(node.supervise_with(contradiction, |_| Ok(Mailer)).is_err());
/// # });
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct WorkerSpec {
    pub(crate) name: String,
    pub(crate) kind: RestartKind,
    pub(crate) significant: bool,
    pub(crate) limits: Limits,
    pub(crate) placement: Placement,
    timeout: Option<Duration>,
    start_timeout: Option<Duration>,
    await_timeout: Option<Duration>,
    shutdown_timeout: Option<Duration>,
    capacity: Option<u32>,
    answers_max: Option<u32>,
    drain: Option<Drain>,
    overflow: Overflow,
    on_replace: OnReplace,
    on_thread_held: Option<OnThreadHeld>,
}

/// Restart limits, where they are not those of the config.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) intensity: Option<(u32, Duration)>,
    delay: Option<(Duration, Duration)>,
}

/// On which thread a worker runs.
#[derive(Clone, Debug, Default)]
pub enum Placement {
    /// One of the `workers.arbiters` threads, in turn. A worker that holds its thread stops its
    /// neighbours: they wait for the thread, or start anew on another one, as
    /// [`WorkerSpec::on_thread_held`] says. Give a worker that may block a thread of its own.
    #[default]
    Shared,
    /// A thread of its own, which costs about 30 KiB. If the worker blocks, no other worker waits.
    /// The thread is made when the worker starts and ends with it.
    Dedicated,
    /// One of the threads of this pool, in turn.
    Pool(Arbiters),
}

/// Threads for the workers that are placed there and for no others; see
/// [`Node::arbiters`](crate::Node::arbiters). They are made when the first worker starts there.
#[derive(Clone, Debug)]
pub struct Arbiters {
    pub(crate) places: Arc<[ThreadSlotId]>,
    pub(crate) next: Arc<std::sync::atomic::AtomicU32>,
}

impl WorkerSpec {
    /// A permanent worker of this name with the limits of the config.
    pub fn new(name: impl Into<String>) -> WorkerSpec {
        WorkerSpec {
            name: name.into(),
            kind: RestartKind::Permanent,
            significant: false,
            limits: Limits::default(),
            placement: Placement::Shared,
            timeout: None,
            start_timeout: None,
            await_timeout: None,
            shutdown_timeout: None,
            capacity: None,
            answers_max: None,
            drain: None,
            overflow: Overflow::default(),
            on_replace: OnReplace::default(),
            on_thread_held: None,
        }
    }

    /// After which of its ends the worker is started again.
    pub fn restart(mut self, kind: RestartKind) -> WorkerSpec {
        self.kind = kind;
        self
    }

    /// The group may shut down when this worker ends by itself. Only for transient and temporary
    /// workers in a group with an `auto_shutdown`.
    pub fn significant(mut self) -> WorkerSpec {
        self.significant = true;
        self
    }

    /// At most `intensity` restarts in any `period`. At the next failure the worker is given up. In
    /// a group that counts its children together, the group's own limits hold instead.
    pub fn intensity(mut self, intensity: u32, period: Duration) -> WorkerSpec {
        self.limits.intensity = Some((intensity, period));
        self
    }

    /// Pauses before restarts after the first one, which is immediate. A pause is random, up to a
    /// limit that doubles from `delay_min` to `delay_max`. Zero means no pauses.
    pub fn delay(mut self, delay_min: Duration, delay_max: Duration) -> WorkerSpec {
        self.limits.delay = Some((delay_min, delay_max));
        self
    }

    /// On which thread it runs.
    pub fn placement(mut self, placement: Placement) -> WorkerSpec {
        self.placement = placement;
        self
    }

    /// How long it may hold its thread, instead of `workers.timeout`.
    pub fn timeout(mut self, timeout: Duration) -> WorkerSpec {
        self.timeout = Some(timeout);
        self
    }

    /// How long it may take to be up, instead of `workers.start_timeout`.
    pub fn start_timeout(mut self, start_timeout: Duration) -> WorkerSpec {
        self.start_timeout = Some(start_timeout);
        self
    }

    /// How long messages may wait while it waits for a future, instead of `workers.await_timeout`.
    pub fn await_timeout(mut self, await_timeout: Duration) -> WorkerSpec {
        self.await_timeout = Some(await_timeout);
        self
    }

    /// How long it may take to stop, instead of `workers.shutdown_timeout`.
    pub fn shutdown_timeout(mut self, shutdown_timeout: Duration) -> WorkerSpec {
        self.shutdown_timeout = Some(shutdown_timeout);
        self
    }

    /// How many messages may wait in its queue, instead of `workers.capacity`. The bound does not
    /// depend on the number of addresses. It does not hold for actix's own `Addr`: its messages
    /// wait outside the queue once that is full.
    pub fn capacity(mut self, capacity: u32) -> WorkerSpec {
        self.capacity = Some(capacity);
        self
    }

    /// How many answers may be under way at once, instead of `workers.answers_max`: those of
    /// handlers that have returned before the answer was there. At the bound it takes no further
    /// message from its queue and is not ready. Zero means as many as its queue has places,
    /// `u32::MAX` no bound.
    pub fn answers_max(mut self, answers_max: u32) -> WorkerSpec {
        self.answers_max = Some(answers_max);
        self
    }

    /// What it still finishes when it stops, within its `shutdown_timeout`, instead of
    /// `workers.drain`.
    pub fn drain(mut self, drain: Drain) -> WorkerSpec {
        self.drain = Some(drain);
        self
    }

    /// What happens to a message that finds the queue full.
    pub fn overflow(mut self, overflow: Overflow) -> WorkerSpec {
        self.overflow = overflow;
        self
    }

    /// What it does when a neighbour holds the thread that they share, instead of
    /// `workers.on_thread_held`. It waits for the thread and keeps its state, or it starts anew on
    /// another thread at once.
    pub fn on_thread_held(mut self, on_thread_held: OnThreadHeld) -> WorkerSpec {
        self.on_thread_held = Some(on_thread_held);
        self
    }

    /// What happens to the queue when this worker held its thread and is replaced.
    pub fn on_replace(mut self, on_replace: OnReplace) -> WorkerSpec {
        self.on_replace = on_replace;
        self
    }

    /// The spec of a pool's member: unless this spec says otherwise, the member is never given up,
    /// and pauses are short.
    pub(crate) fn for_member(mut self, config: &Config) -> WorkerSpec {
        let restart = &config.restart;
        self.limits.intensity.get_or_insert((UNLIMITED, restart.period));
        let delay_max = restart.delay_max.min(MEMBER_DELAY_MAX).max(restart.delay_min);
        self.limits.delay.get_or_insert((restart.delay_min, delay_max));
        self
    }

    /// How its queue is kept.
    pub(crate) fn rules(&self, config: &Config) -> Result<Rules, ConfigError> {
        let mut workers = config.workers.clone();
        workers.capacity = self.capacity.unwrap_or(workers.capacity);
        workers.check()?;
        Ok(Rules {
            capacity: workers.capacity,
            overflow: self.overflow,
            on_replace: self.on_replace,
            answers_max: match self.answers_max.unwrap_or(workers.answers_max) {
                0 => workers.capacity,
                answers_max => answers_max,
            },
            drain: self.drain.unwrap_or(workers.drain),
        })
    }

    /// What it does when a neighbour holds its thread, if not as the config says.
    pub(crate) fn held(&self, config: &Config) -> Result<Option<OnThreadHeld>, ConfigError> {
        if let Some(OnThreadHeld::Wait { timeout }) = self.on_thread_held {
            let mut workers = config.workers.clone();
            workers.thread_wait_timeout = timeout;
            workers.check()?;
        }
        Ok(self.on_thread_held)
    }

    /// Its times, if they are not those of the config.
    pub(crate) fn times(&self, config: &Config) -> Result<Option<Arc<Times>>, ConfigError> {
        let own = [self.timeout, self.start_timeout, self.await_timeout, self.shutdown_timeout];
        if own.iter().all(Option::is_none) {
            return Ok(None);
        }
        let mut workers = config.workers.clone();
        workers.timeout = self.timeout.unwrap_or(workers.timeout);
        workers.start_timeout = self.start_timeout.unwrap_or(workers.start_timeout);
        workers.await_timeout = self.await_timeout.unwrap_or(workers.await_timeout);
        workers.shutdown_timeout = self.shutdown_timeout.unwrap_or(workers.shutdown_timeout);
        workers.check()?;
        Ok(Some(Arc::new(Times {
            timeout: workers.timeout,
            start_timeout: workers.start_timeout,
            await_timeout: workers.await_timeout,
            shutdown_timeout: workers.shutdown_timeout,
        })))
    }
}

impl Limits {
    /// The restart limits, if they are not those of the config.
    pub(crate) fn restart(&self, config: &Config) -> Result<Option<Arc<RestartConfig>>, ConfigError> {
        if self.intensity.is_none() && self.delay.is_none() {
            return Ok(None);
        }
        let mut restart = config.restart.clone();
        if let Some((intensity, period)) = self.intensity {
            (restart.intensity, restart.period) = (intensity, period);
        }
        if let Some((delay_min, delay_max)) = self.delay {
            (restart.delay_min, restart.delay_max) = (delay_min, delay_max);
        }
        restart.check()?;
        Ok(Some(Arc::new(restart)))
    }
}
