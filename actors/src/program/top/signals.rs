//! `Signals`: the signals that end the program, so that it gives the terminal back first.
//!
//! Without this SIGTERM would leave a shell that echoes nothing, on the screen of the program.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::Failure;

/// The signals that have come; a thread of its own waits for them.
pub(super) struct Signals(Arc<AtomicU8>);

impl Signals {
    /// Takes them from now on.
    #[cfg(unix)]
    pub(super) fn watch() -> Result<Signals, Failure> {
        use actix_rt::signal::unix::{SignalKind, signal};

        let code = Arc::new(AtomicU8::new(0));
        let noted = code.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // Registered here, so that none is missed once the screen is taken.
        let (mut hangup, mut interrupt, mut quit, mut terminate) = runtime.block_on(async {
            let of = |kind| signal(kind);
            Ok::<_, std::io::Error>((
                of(SignalKind::hangup())?,
                of(SignalKind::interrupt())?,
                of(SignalKind::quit())?,
                of(SignalKind::terminate())?,
            ))
        })?;
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            let number = runtime.block_on(async {
                tokio::select! {
                    _ = hangup.recv() => SignalKind::hangup(),
                    _ = interrupt.recv() => SignalKind::interrupt(),
                    _ = quit.recv() => SignalKind::quit(),
                    _ = terminate.recv() => SignalKind::terminate(),
                }
            });
            // As a shell reports the end by a signal.
            noted.store(128 + number.as_raw_value() as u8, Ordering::Release);
        })?;
        Ok(Signals(code))
    }

    /// There are none here.
    #[cfg(not(unix))]
    pub(super) fn watch() -> Result<Signals, Failure> {
        Ok(Signals(Arc::default()))
    }

    /// The exit code that the first of them asks for; `None` if none has come.
    pub(super) fn exit_code(&self) -> Option<u8> {
        let code = self.0.load(Ordering::Acquire);
        (code != 0).then_some(code)
    }
}
