//! `folder`: one change of the state at a time, on the disk before it is answered.
//!
//! | file | what is in it |
//! |---|---|
//! | `lock` | locked during a change, for a few milliseconds; the holder's process number |
//! | `state` | the lease table as text, replaced as a whole: see `state` |
//! | `sessions/N` | the end of session N, locked by its process: see `session_lock` |
//!
//! A new state is written as `state.new`, synced and renamed; then the folder is synced. The
//! process number is for the error text of a process that waits too long for the lock. The lock
//! file is empty until there was a state for the first time. If it is not empty and there is no
//! state, the state was removed, and numbers would be given out twice. That is an error, and stays
//! one until a person has dealt with it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use heartbeat_core::authority::SessionId;

use super::super::AuthorityError;
use super::super::lease_table::LeaseTable;
use super::host::Boot;
use super::session_lock::{self, LockState, SessionLock};
use super::state::{self, HEAD_BYTES, StateError};
use crate::lock::lock;

/// How long a change waits for the lock. Sixteen nodes that start together need less, on a disk
/// that takes 20 ms to sync.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// Time between two attempts to take the lock: a change on a fast disk takes half a millisecond.
const LOCK_RETRY_EVERY: Duration = Duration::from_micros(200);

/// Longest state. A million shards with the longest names take 260 MB, with ordinary names about
/// 50.
const STATE_BYTES_MAX: u64 = 512 << 20;

/// Where a state is kept.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    boot: Boot,
    /// The state as this process left it. It is not read again unless another process has changed
    /// it.
    last: Mutex<Option<LeaseTable>>,
    /// Whether the state may be one that is not on the disk yet, since a sync has failed.
    is_unsynced: AtomicBool,
}

/// A change of the state: it holds the lock until it is dropped.
pub(super) struct Transaction<'a> {
    folder: &'a Folder,
    /// Its lock ends with it.
    _lock: File,
    table: LeaseTable,
    /// The numbers of the state before.
    before: (u64, u64),
}

impl Folder {
    /// Makes what is missing, and looks whether it can be used.
    pub(super) fn open(path: PathBuf) -> Result<Folder, AuthorityError> {
        let sessions = path.join("sessions");
        std::fs::create_dir_all(&sessions).map_err(|error| refused(&sessions, "made", &error))?;
        let boot =
            Boot::current().map_err(|error| refused("/proc/sys/kernel/random/boot_id".as_ref(), "read", &error))?;
        Ok(Folder { path, boot, last: Mutex::default(), is_unsynced: AtomicBool::new(false) })
    }

    /// Takes the lock, waiting for it for a bounded time. Called on a thread that may block.
    pub(super) fn begin(&self) -> Result<Transaction<'_>, AuthorityError> {
        let path = self.path.join("lock");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let lock = open.map_err(|error| refused(&path, "opened", &error))?;
        let begun = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT_MAX => {
                    std::thread::sleep(LOCK_RETRY_EVERY)
                }
                Err(TryLockError::WouldBlock) => return Err(busy(&path)),
                Err(TryLockError::Error(error)) => return Err(refused(&path, "locked", &error)),
            }
        }
        let is_first = lock.metadata().map_err(|error| refused(&path, "read", &error))?.len() == 0;
        let head = self.read_head();
        let last = self.last().take().filter(|last| head == Some(last.head()));
        let table = match last.map_or_else(|| self.read(), |last| Ok(Some(last)))? {
            Some(table) => table,
            None if is_first => {
                let table = LeaseTable { number: first_number(), ..LeaseTable::default() };
                self.write(&table)?;
                table
            }
            None => return Err(removed(&self.path)),
        };
        lock.write_all_at(format!("{:<10}\n", std::process::id()).as_bytes(), 0)
            .map_err(|error| refused(&path, "written", &error))?;
        Ok(Transaction { folder: self, _lock: lock, before: table.head(), table })
    }

    /// The state; `None` if there is none.
    pub(super) fn read(&self) -> Result<Option<LeaseTable>, AuthorityError> {
        let path = self.path.join("state");
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(STATE_BYTES_MAX).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(refused(&path, "read", &error)),
        }
        state::decode(&text).map(Some).map_err(|error| unusable(&path, &error))
    }

    /// The two numbers that tell any two states apart; `None` if there is no state, or none that
    /// can be read.
    pub(super) fn read_head(&self) -> Option<(u64, u64)> {
        let mut head = [0; HEAD_BYTES];
        File::open(self.path.join("state")).ok()?.read_exact_at(&mut head, 0).ok()?;
        state::decode_head(str::from_utf8(&head).ok()?)
    }

    /// Where a session stands.
    pub(super) fn look(&self, session: SessionId) -> Result<LockState, AuthorityError> {
        let path = self.session(session);
        session_lock::look(&path, self.boot).map_err(|error| refused(&path, "used", &error))
    }

    /// Makes the file of a new session.
    pub(super) fn lock_session(&self, session: SessionId, ttl: Duration) -> Result<SessionLock, AuthorityError> {
        SessionLock::new(&self.session(session), self.boot, ttl).map_err(|error| self.unwritable(session, &error))
    }

    pub(super) fn unwritable(&self, session: SessionId, error: &io::Error) -> AuthorityError {
        refused(&self.session(session), "written", error)
    }

    fn session(&self, session: SessionId) -> PathBuf {
        self.path.join("sessions").join(session.0.to_string())
    }

    fn last(&self) -> MutexGuard<'_, Option<LeaseTable>> {
        lock(&self.last)
    }

    fn write(&self, table: &LeaseTable) -> Result<(), AuthorityError> {
        let (new, path) = (self.path.join("state.new"), self.path.join("state"));
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(state::encode(table).as_bytes())?;
            file.sync_all()?;
            self.is_unsynced.store(true, Ordering::Relaxed);
            std::fs::rename(&new, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|error| refused(&path, "written", &error))?;
        self.is_unsynced.store(false, Ordering::Relaxed);
        Ok(())
    }
}

impl Transaction<'_> {
    pub(super) fn table(&mut self) -> &mut LeaseTable {
        &mut self.table
    }

    /// Ends a session. Its file is removed first, so that its process sees the end before its
    /// shards are given out.
    pub(super) fn end(&mut self, session: SessionId) -> Result<(), AuthorityError> {
        remove(&self.folder.session(session))?;
        self.table.end(session);
        Ok(())
    }

    /// Ends the sessions that are over.
    pub(super) fn end_those_over(&mut self) -> Result<(), AuthorityError> {
        let sessions: Vec<_> = self.table.sessions.keys().copied().collect();
        sessions.into_iter().try_for_each(|session| self.end_if_over(session))
    }

    /// Ends a session if it is over.
    pub(super) fn end_if_over(&mut self, session: SessionId) -> Result<(), AuthorityError> {
        match self.folder.look(session)? {
            LockState::Over => self.end(session),
            LockState::Until(_) => Ok(()),
        }
    }

    /// Removes the files of sessions that are not in the table: their processes were killed while
    /// they began one.
    pub(super) fn clear(&self) -> Result<(), AuthorityError> {
        let path = self.folder.path.join("sessions");
        let unreadable = |error| refused(&path, "read", &error);
        for entry in std::fs::read_dir(&path).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            let number = file.file_name().and_then(|name| name.to_str()?.parse().ok());
            if number.is_none_or(|number| !self.table.sessions.contains_key(&SessionId(number))) {
                remove(&file)?;
            }
        }
        Ok(())
    }

    /// Puts the changes on the disk, if there are any that are not.
    pub(super) fn finish(self) -> Result<(), AuthorityError> {
        if self.table.head() != self.before || self.folder.is_unsynced.load(Ordering::Relaxed) {
            self.folder.write(&self.table)?;
        }
        *self.folder.last() = Some(self.table);
        Ok(())
    }
}

/// The number after which a new state begins: the wall clock, in milliseconds. So numbers go on
/// rising even if the whole folder was lost.
fn first_number() -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or_default()
}

fn remove(path: &Path) -> Result<(), AuthorityError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(refused(path, "removed", &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn refused(path: &Path, done: &str, error: &io::Error) -> AuthorityError {
    AuthorityError(format!("ownership.folder: {} cannot be {done} ({error})", path.display()))
}

fn busy(lock: &Path) -> AuthorityError {
    let holder = std::fs::read_to_string(lock).unwrap_or_default();
    let (path, holder) = (lock.display(), holder.trim());
    AuthorityError(format!(
        "ownership.folder: {path} has been locked for {LOCK_WAIT_MAX:?}, last by process {holder}; if that is stopped, let it go on or end it"
    ))
}

/// What a person can do about a damaged state. The numbers of a new one are above the old ones: see
/// [`first_number`].
const REMEDY: &str = "stop the nodes that use it, then put a sound copy back or remove the whole folder";

fn removed(path: &Path) -> AuthorityError {
    let path = path.display();
    AuthorityError(format!(
        "ownership.folder: {path} has no file \"state\" any more, which held the owners of the shards; {REMEDY}"
    ))
}

fn unusable(path: &Path, error: &StateError) -> AuthorityError {
    let remedy = match error {
        StateError::Newer(_) => "use the release that wrote it, or a later one",
        StateError::NotATable | StateError::Sum | StateError::Line(_) => REMEDY,
    };
    AuthorityError(format!("ownership.folder: {} is no sound state ({error}); {remedy}", path.display()))
}
