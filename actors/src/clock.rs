//! `Clock`: the only reader of the system's clocks, apart from the clock that the processes of a
//! host share (`authority/file/host.rs`).
//!
//! All other code is handed an [`Instant`]. So the time of a whole node can be seen, and replaced,
//! in one place.

use std::time::{Duration, SystemTime};

use heartbeat_core::{Generation, Instant};

/// A monotonic clock that starts when it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// The system's clock. On Linux it advances while the machine sleeps (`CLOCK_BOOTTIME`,
    /// clock_gettime(2)), so that a lease ends meanwhile.
    System { origin: Running },
    /// The virtual clock of a tokio runtime whose time is paused.
    #[cfg(feature = "testkit")]
    Virtual { origin: tokio::time::Instant },
}

/// A reading of the clock that advances while the machine sleeps.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running(Duration);

#[cfg(target_os = "linux")]
impl Running {
    fn now() -> Running {
        use nix::time::{ClockId, clock_gettime};
        // Linux has had this clock since 2.6.39, and reading a clock that exists cannot fail.
        Running(clock_gettime(ClockId::CLOCK_BOOTTIME).expect("the system has CLOCK_BOOTTIME").into())
    }

    fn elapsed(self) -> Duration {
        Running::now().0.saturating_sub(self.0)
    }
}

/// A reading of the monotonic clock, which may stand still while the machine sleeps.
#[cfg(not(target_os = "linux"))]
use std::time::Instant as Running;

/// The time at the start. It is not zero, so that an instant shortly before the start can be
/// expressed.
const ORIGIN: Instant = Instant::from_millis(1_000);

/// Waits for this long. Outside a tokio runtime there are no timers, so a thread waits instead.
pub(crate) async fn sleep(time: Duration) {
    if tokio::runtime::Handle::try_current().is_ok() {
        return tokio::time::sleep(time).await;
    }
    let (over, wait) = tokio::sync::oneshot::channel();
    let waits = std::thread::Builder::new().spawn(move || {
        std::thread::sleep(time);
        let _ = over.send(()); // The future may have been dropped.
    });
    match waits {
        // An error would mean that the thread has ended early; then there is nothing to wait for.
        Ok(_) => drop(wait.await),
        Err(_) => std::thread::sleep(time),
    }
}

impl Clock {
    /// The system's clock.
    pub(crate) fn start() -> Clock {
        Clock::System { origin: Running::now() }
    }

    /// The virtual clock of the current runtime.
    #[cfg(feature = "testkit")]
    pub(crate) fn start_virtual() -> Clock {
        Clock::Virtual { origin: tokio::time::Instant::now() }
    }

    /// The current time.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        ORIGIN
            + match self {
                Clock::System { origin } => origin.elapsed(),
                #[cfg(feature = "testkit")]
                Clock::Virtual { origin } => origin.elapsed(),
            }
    }

    /// The current time, and the time of the wall clock: since 1970, or since the start in virtual
    /// time.
    pub(crate) fn with_wall(&self) -> (Instant, Duration) {
        // In this order: if the process is paused between the two readings, the wall clock shows
        // the pause at once. In the other order it would show at the next reading, when the pause
        // is known anyway.
        let now = self.now();
        let wall = match self {
            Clock::System { .. } => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            #[cfg(feature = "testkit")]
            Clock::Virtual { origin } => origin.elapsed(),
        };
        (now, wall)
    }

    /// The generation of this start of the process: the wall clock in milliseconds, so that a later
    /// start has a higher one. In virtual time it is always the same.
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
