//! `Clock`: the only reader of the system's clocks, but for the one that processes of a host share
//! (`authority/file/host.rs`).
//!
//! Everything else is handed an [`Instant`]; so what time means for a whole node can be seen, and
//! changed, in one place.

use std::time::{Duration, SystemTime};

use heartbeat_core::{Generation, Instant};

/// A monotonic clock whose origin is its own making.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// The system's. On Linux it goes on while the machine sleeps, so that a lease is over by then:
    /// `CLOCK_BOOTTIME` (clock_gettime(2)).
    System { origin: Running },
    /// The virtual one of a tokio runtime whose time is paused.
    #[cfg(feature = "testkit")]
    Virtual { origin: tokio::time::Instant },
}

/// A look at the clock that goes on while the machine sleeps.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running(Duration);

#[cfg(target_os = "linux")]
impl Running {
    fn now() -> Running {
        use nix::time::{ClockId, clock_gettime};
        // Linux has had it since 2.6.39, and a clock that is there can be read.
        Running(clock_gettime(ClockId::CLOCK_BOOTTIME).expect("the system has CLOCK_BOOTTIME").into())
    }

    fn elapsed(self) -> Duration {
        Running::now().0.saturating_sub(self.0)
    }
}

/// A look at the monotonic clock, which stands still while the machine sleeps.
#[cfg(not(target_os = "linux"))]
use std::time::Instant as Running;

/// What a clock shows at its start: so that "a while before the start" can still be named.
const ORIGIN: Instant = Instant::from_millis(1_000);

/// Waits for this long. Outside of any tokio runtime, where there are no timers, a thread waits
/// instead.
pub(crate) async fn sleep(time: Duration) {
    if tokio::runtime::Handle::try_current().is_ok() {
        return tokio::time::sleep(time).await;
    }
    let (over, wait) = tokio::sync::oneshot::channel();
    let waits = std::thread::Builder::new().spawn(move || {
        std::thread::sleep(time);
        let _ = over.send(()); // Whoever waited may have what it waited for.
    });
    match waits {
        // An error would mean that the thread is gone without a word; then there is nothing to wait
        // for.
        Ok(_) => drop(wait.await),
        Err(_) => std::thread::sleep(time),
    }
}

impl Clock {
    /// The system's clock.
    pub(crate) fn start() -> Clock {
        Clock::System { origin: Running::now() }
    }

    /// The virtual clock of the runtime this is called in.
    #[cfg(feature = "testkit")]
    pub(crate) fn start_virtual() -> Clock {
        Clock::Virtual { origin: tokio::time::Instant::now() }
    }

    /// What it shows.
    pub(crate) fn now(&self) -> Instant {
        ORIGIN
            + match self {
                Clock::System { origin } => origin.elapsed(),
                #[cfg(feature = "testkit")]
                Clock::Virtual { origin } => origin.elapsed(),
            }
    }

    /// What it shows, and what the wall clock shows beside it: the time since 1970, or since the
    /// start in virtual time.
    pub(crate) fn with_wall(&self) -> (Instant, Duration) {
        // In this order: of a pause between the two looks the wall clock tells at once. The other
        // way round it would tell at the next look, when the pause is long known.
        let now = self.now();
        let wall = match self {
            Clock::System { .. } => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            #[cfg(feature = "testkit")]
            Clock::Virtual { origin } => origin.elapsed(),
        };
        (now, wall)
    }

    /// A process start's generation: the wall clock in milliseconds, so that a later start has a
    /// higher one. In virtual time it is always the same.
    pub(crate) fn generation(&self) -> Generation {
        match self {
            Clock::System { .. } => {
                let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                Generation(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
            }
            #[cfg(feature = "testkit")]
            Clock::Virtual { .. } => Generation(1),
        }
    }
}
