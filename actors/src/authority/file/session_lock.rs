//! `session_lock`: the file of one session, which its process holds locked for its whole life, and
//! in which the end of the session stands.
//!
//! A process that can lock the file knows that its holder has ended. The kernel releases a lock
//! with the last open copy of its file, and a process that is only stopped keeps it (flock(2)). The
//! file is never synced to the disk. After a crash of the host the boot is another one, and all
//! sessions of the earlier boot are over.
//!
//! # A renewal without a lock
//! A session is renewed by writing a later end into its file. Another process may at that moment
//! read the old end, find it over, and take the session away. It reads the clock, *then* the file.
//! So the renewing process writes the file, *then* reads the clock. If the old end has not come by
//! then, no earlier reader found the session over, and each later reader sees the new end: the
//! session is renewed. If the old end has come, another process may have taken the session away.
//! The session is then over for good, and a zero replaces its end. A session that is ended early
//! loses its file, which its process sees with the next renewal.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::host::{self, BOOT_BYTES, Boot};
use crate::lock::lock;

/// Where the boot stands: after the end and its complement.
const BOOT_AT: u64 = 16;

/// How long a session whose file was cut short counts as alive, from each look on.
const CUT_FOR: Duration = Duration::from_secs(1);

/// How often a reader that met a write in progress reads again. A write takes less than a
/// microsecond.
const LOOKS_MAX: u32 = 1_000;

/// The file of a session of this process.
#[derive(Debug)]
pub(super) struct SessionLock {
    /// Locked as long as it is open. It is never closed while the session may have shards: see
    /// [`super::FileAuthority`].
    file: File,
    boot: Boot,
    ttl: Duration,
    /// The end that stands in the file; zero if the session is over. One renewal at a time.
    end: Mutex<u64>,
}

/// Where a session stands, as others see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LockState {
    /// Its process has ended, or its time is over, or its file is gone.
    Over,
    /// Until this moment at least.
    Until(u64),
}

impl SessionLock {
    /// Makes the file under a temporary name, locks it, and renames it. No reader sees it unlocked.
    pub(super) fn new(path: &Path, boot: Boot, ttl: Duration) -> io::Result<SessionLock> {
        let begun = path.with_extension("new");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&begun)?;
        file.try_lock()?;
        let end = host::later(host::now()?, ttl);
        file.write_all_at(&boot.0, BOOT_AT)?;
        file.write_all_at(&written(end), 0)?;
        std::fs::rename(&begun, path)?;
        Ok(SessionLock { file, boot, ttl, end: Mutex::new(end) })
    }

    /// Renews the session for its whole time from now on, unless its end has come. Returns whether
    /// it is still there; a session that is over stays over.
    pub(super) fn renew(&self) -> io::Result<bool> {
        let mut end = self.end();
        let previous = std::mem::take(&mut *end);
        let now = host::now()?;
        if now < previous {
            let next = host::later(now, self.ttl);
            // If the file was cut short or overwritten, the boot has to be written again as well.
            self.file.write_all_at(&self.boot.0, BOOT_AT)?;
            self.file.write_all_at(&written(next), 0)?;
            if host::now()? < previous && self.file.metadata()?.nlink() > 0 {
                *end = next;
                return Ok(true);
            }
        }
        self.file.write_all_at(&written(0), 0)?;
        Ok(false)
    }

    fn end(&self) -> MutexGuard<'_, u64> {
        lock(&self.end)
    }
}

/// The state of a session by its file. At its end itself a session is over.
///
/// An error may mean that a process on another host holds the file; its clock says nothing here.
pub(super) fn look(path: &Path, boot: Boot) -> io::Result<LockState> {
    // Before the file is read: see the head of this module.
    let now = host::now()?;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LockState::Over),
        Err(error) => return Err(error),
    };
    // A shared lock, so that a reader does not take another reader for the holder.
    match file.try_lock_shared() {
        Ok(()) => return Ok(LockState::Over),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let mut of = [0; BOOT_BYTES];
    match file.read_exact_at(&mut of, BOOT_AT) {
        // The file was cut short. Its process is there, and writes it anew with its next renewal.
        // Until then the session counts as alive, so that other sessions are served.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Ok(LockState::Until(host::later(now, CUT_FOR)));
        }
        other => other?,
    }
    if Boot(of) != boot {
        let text = "it is held by a process on another host, or in another boot; each host needs a folder of its own, on a disk of its own";
        return Err(io::Error::other(text));
    }
    let end = read(&file)?;
    Ok(if end <= now { LockState::Over } else { LockState::Until(end) })
}

fn read(file: &File) -> io::Result<u64> {
    for _ in 0..LOOKS_MAX {
        let mut bytes = [0; 16];
        file.read_exact_at(&mut bytes, 0)?;
        let number = u128::from_le_bytes(bytes);
        let (end, complement) = (number as u64, (number >> 64) as u64);
        if end == !complement {
            return Ok(end);
        }
        std::hint::spin_loop();
    }
    Err(io::Error::other(
        "the session file is corrupt (a damaged time); stop the process that holds it and it will be recreated",
    ))
}

/// A time with its complement, by which a reader sees that it has all of it.
fn written(time: u64) -> [u8; 16] {
    (u128::from(time) | u128::from(!time) << 64).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    /// Runs a test on a file of its own.
    fn with_file(name: &str, test: impl FnOnce(PathBuf, Boot)) {
        let folder = std::env::temp_dir().join(format!("heartbeat-lock-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        test(folder.join("1"), Boot::current().unwrap());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_held_file_lives_until_its_end_and_a_free_one_is_over() {
        with_file("life", |path, boot| {
            assert_eq!(look(&path, boot).unwrap(), LockState::Over);
            let lock = SessionLock::new(&path, boot, LONG).unwrap();
            assert_eq!(look(&path, boot).unwrap(), LockState::Until(*lock.end()));
            assert!(lock.renew().unwrap());
            assert_eq!(look(&path, boot).unwrap(), LockState::Until(*lock.end()));
            drop(lock);
            assert_eq!(look(&path, boot).unwrap(), LockState::Over);
        });
    }

    #[test]
    fn a_renewal_that_comes_too_late_ends_the_session_for_good() {
        with_file("late", |path, boot| {
            let lock = SessionLock::new(&path, boot, Duration::ZERO).unwrap();
            assert_eq!(look(&path, boot).unwrap(), LockState::Over);
            for _ in 0..2 {
                assert!(!lock.renew().unwrap());
                assert_eq!(look(&path, boot).unwrap(), LockState::Over);
            }
        });
    }

    #[test]
    fn a_session_that_was_ended_by_another_is_not_renewed() {
        with_file("ended", |path, boot| {
            let lock = SessionLock::new(&path, boot, LONG).unwrap();
            std::fs::remove_file(&path).unwrap();
            assert!(!lock.renew().unwrap());
        });
    }

    #[test]
    fn a_holder_of_another_boot_is_an_error_and_its_rest_is_over() {
        with_file("boot", |path, boot| {
            let lock = SessionLock::new(&path, Boot([b'x'; BOOT_BYTES]), LONG).unwrap();
            assert!(look(&path, boot).unwrap_err().to_string().contains("on another host"));
            drop(lock);
            assert_eq!(look(&path, boot).unwrap(), LockState::Over);
        });
    }

    #[test]
    fn a_file_that_was_cut_short_is_whole_again_after_a_renewal() {
        with_file("cut", |path, boot| {
            let lock = SessionLock::new(&path, boot, LONG).unwrap();
            for length in [0, 16, 20] {
                lock.file.set_len(length).unwrap();
                assert!(matches!(look(&path, boot).unwrap(), LockState::Until(_)), "its process is there");
                assert!(lock.renew().unwrap());
                assert_eq!(look(&path, boot).unwrap(), LockState::Until(*lock.end()));
            }
            lock.file.set_len(0).unwrap();
            drop(lock);
            assert_eq!(look(&path, boot).unwrap(), LockState::Over);
        });
    }

    #[test]
    fn half_a_time_is_not_taken_for_one() {
        with_file("torn", |path, boot| {
            let lock = SessionLock::new(&path, boot, LONG).unwrap();
            lock.file.write_all_at(&[0; 8], 0).unwrap();
            assert!(look(&path, boot).unwrap_err().to_string().contains("damaged"));
        });
    }
}
