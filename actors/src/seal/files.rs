//! Reads keys again when their files change, on a thread of its own: a file may be on a network.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use heartbeat_core::config::SealConfig;
use tracing::{error, warn};

use super::error::SealError;
use super::report::Removal;
use super::shared::SealShared;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks at the files until the node ends. `on_change` is called after the keys have changed.
pub(super) fn follow(shared: &Weak<SealShared>, config: &SealConfig, on_change: &impl Fn()) {
    let mut looked = look(config);
    let mut is_kept = false;
    let mut told = String::new();
    loop {
        std::thread::sleep(LOOK_EVERY);
        let Some(shared) = shared.upgrade() else { return };
        let now = look(config);
        if now == looked && !is_kept {
            continue;
        }
        let reloaded = shared.reload(Removal::WhenUnused);
        looked = now;
        is_kept = matches!(reloaded, Err(SealError::InUse(..)));
        match reloaded {
            Ok(true) => on_change(),
            Ok(false) => {}
            Err(error) => {
                let text = error.to_string();
                if told != text {
                    report(&error, is_kept);
                    told = text;
                    on_change();
                }
            }
        }
    }
}

fn report(fault: &SealError, is_kept: bool) {
    if is_kept {
        warn!(event = "key_in_use", reason = %fault, "a key that was taken away still opens what members send");
    } else {
        error!(event = "keys_not_read", reason = %fault, "the keys of the seal cannot be read again; the former ones stay");
    }
}

/// What tells that a file has changed.
type Look = Option<(SystemTime, u64)>;

fn look(config: &SealConfig) -> Vec<Look> {
    let files = config.keys.iter().filter_map(|key| key.expose().strip_prefix("file:"));
    files.map(|path| std::fs::metadata(path).and_then(|data| Ok((data.modified()?, data.len()))).ok()).collect()
}

impl SealShared {
    /// Reads the keys again whenever one of their files changes, and calls `on_change` after that.
    ///
    /// # Errors
    /// The thread that looks at the files cannot be made.
    pub(crate) fn follow_files(self: &Arc<SealShared>, on_change: impl Fn() + Send + 'static) -> std::io::Result<()> {
        let (shared, config) = (Arc::downgrade(self), self.config().clone());
        if config.keys.iter().all(|key| !key.expose().starts_with("file:")) {
            return Ok(());
        }
        let follow = move || follow(&shared, &config, &on_change);
        std::thread::Builder::new().name("heartbeat-keys".into()).spawn(follow).map(drop)
    }
}
