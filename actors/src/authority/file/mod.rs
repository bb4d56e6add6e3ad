//! An authority in a folder of this host, for nodes on one host. It needs no further service, and
//! it is lost with the host's disk.
//!
//! A node that makes a change locks the folder, reads the lease table, and puts the changed table
//! on the disk before it answers. A batch of claims costs two syncs. A number that was given out is
//! never given out again, not even after a crash of the process or the host. A renewal takes no
//! lock and no sync (`session_lock`). So nodes keep their sessions even while a process that was
//! stopped in the middle of a change holds the lock. A change that waits for that lock fails after
//! two seconds, with the number of that process.
//!
//! The shards of a process that has *ended* are free at once, however it ended. The kernel then
//! releases its lock on its session's file, which is the best proof of death there is. A process
//! that is stopped or hangs keeps its lock, and its shards until its time is over.
//!
//! # Limits
//! - One host, and a disk of its own: not a network file system. Use by another host is an error
//!   where it is detected; it is not always detected.
//! - A child process that a node forks keeps the lock of its parent until it runs another program.
//!   Then only time frees the shards. Rust's `Command` does not keep the lock.
//! - A change writes the whole state, about 45 bytes a shard, and syncs twice. That took 1 to 16 ms
//!   on the disk at hand, with 10,000 shards 5 to 11 ms. If another node has changed the state
//!   since, it is read first: 10 ms more with 10,000 shards. The command is
//!   `cargo bench -p heartbeat-tests --bench authority`.
//! - A node that waits for a shard to become free looks at the folder 20 times a second: see
//!   `watch`.

mod folder;
mod host;
mod session_lock;
mod state;
mod watch;

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use heartbeat_core::authority::{AuthorityRequest, AuthorityResponse, Claimed, SessionId, ShardName};
use heartbeat_core::member::Epoch;
use tokio::sync::Notify;

use super::lease_table::{SESSIONS_MAX, Session};
use super::name::escaped;
use super::{Authority, AuthorityError, Claimant, check};
use crate::lock::lock;
use folder::Folder;
use session_lock::SessionLock;
use watch::Watch;

/// How often a node that waits for a shard to become free looks at the folder.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The authority of one node in a folder on a disk of its host. The folder must not be on a network
/// file system.
///
/// The shards of a process that has ended are free at once. If the process is stopped or hangs,
/// they are free when its session's time is over. Numbers are on the disk before they are given
/// out, and only rise. Dropping this releases no shard: a thread that cannot be stopped may still
/// run one. So the session lasts until its time is over or the process ends.
#[derive(Debug)]
pub struct FileAuthority {
    inner: Arc<Inner>,
}

/// The state that the blocking threads share.
#[derive(Debug)]
struct Inner {
    folder: Folder,
    claimant: Claimant,
    /// The sessions of this process. Their files stay open until the process ends, even after the
    /// node has left, unless a new session replaced them. A held thread may still run a shard of
    /// the session, and no code can stop it.
    locks: Mutex<BTreeMap<SessionId, Arc<SessionLock>>>,
    watch: Mutex<Watch>,
    work: Arc<Work>,
}

/// What the blocking threads have to do.
#[derive(Debug, Default)]
struct Work {
    /// Tasks that were begun and are not done.
    under_way: AtomicUsize,
    /// Notified when a task is done.
    is_less: Notify,
    /// Whether the node has left: the folder is not looked at any more.
    has_ended: AtomicBool,
}

/// A task for a blocking thread, until it is done or dropped.
struct Begun(Arc<Work>);

impl Begun {
    fn new(work: &Arc<Work>) -> Begun {
        work.under_way.fetch_add(1, Ordering::AcqRel);
        Begun(work.clone())
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
        self.0.is_less.notify_waiters();
    }
}

impl Work {
    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Waits until no task is under way.
    async fn until_done(&self) {
        loop {
            let mut is_less = pin!(self.is_less.notified());
            is_less.as_mut().enable();
            if self.under_way.load(Ordering::Acquire) == 0 {
                return;
            }
            is_less.await;
        }
    }
}

impl FileAuthority {
    /// The authority in a folder, which is made if it is not there. Nodes of other clusters may use
    /// the same folder. This waits for the disk.
    ///
    /// # Errors
    /// If the folder cannot be used, or what is in it is damaged; nothing is changed then.
    pub fn open(folder: &Path, claimant: Claimant) -> Result<FileAuthority, AuthorityError> {
        let folder = Folder::open(folder.join(escaped(&claimant.cluster)))?;
        let mut transaction = folder.begin()?;
        let watch = Mutex::new(Watch::new(transaction.table()));
        transaction.finish()?;
        Ok(FileAuthority {
            inner: Arc::new(Inner { folder, claimant, locks: Mutex::default(), watch, work: Arc::default() }),
        })
    }

    /// Runs this on a thread that may wait for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        begun: Begun,
        work: impl FnOnce(&Inner) -> Result<T, AuthorityError> + Send + 'static,
    ) -> Result<T, AuthorityError> {
        let inner = self.inner.clone();
        let task = move || {
            let _begun = begun;
            work(&inner)
        };
        tokio::task::spawn_blocking(task).await.unwrap_or_else(|error| {
            Err(AuthorityError(format!(
                "ownership.folder: the thread that reads and writes it has ended ({error}); restart this process"
            )))
        })
    }
}

impl FileAuthority {
    /// Looks at the folder, unless the node has left.
    async fn look(&self) -> bool {
        if self.inner.work.has_ended() {
            return false;
        }
        let begun = Begun::new(&self.inner.work);
        self.blocking(begun, |inner| inner.watch().look(&inner.folder)).await.unwrap_or(false)
    }
}

impl Authority for FileAuthority {
    fn ask(
        self: Rc<Self>,
        ask: AuthorityRequest,
    ) -> LocalBoxFuture<'static, Result<AuthorityResponse, AuthorityError>> {
        // It is under way from now on, also if it is polled only after the node has left.
        let begun = Begun::new(&self.inner.work);
        async move {
            check(&ask)?;
            self.blocking(begun, |inner| inner.answer(ask)).await
        }
        .boxed_local()
    }

    fn freed(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        async move {
            // The next request reports the error; here the wait goes on.
            while !self.look().await {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            self.inner.watch().clear_news();
        }
        .boxed_local()
    }

    fn end(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        self.inner.work.has_ended.store(true, Ordering::Release);
        async move { self.inner.work.until_done().await }.boxed_local()
    }
}

impl Inner {
    fn answer(&self, ask: AuthorityRequest) -> Result<AuthorityResponse, AuthorityError> {
        match ask {
            AuthorityRequest::Open { ttl, previous } => self.begin(ttl, previous),
            AuthorityRequest::Renew { session } => self.renew(session),
            AuthorityRequest::Claim { session, shards, floor } => self.claim(session, &shards, floor),
            AuthorityRequest::Release { session, shards } => {
                let mut transaction = self.folder.begin()?;
                transaction.table().release(session, &shards);
                transaction.finish()?;
                Ok(AuthorityResponse::Done)
            }
            AuthorityRequest::Evict { node, generation } => {
                let mut transaction = self.folder.begin()?;
                for session in transaction.table().sessions_until(&node, generation) {
                    transaction.end(session)?;
                }
                transaction.finish()?;
                Ok(AuthorityResponse::Done)
            }
        }
    }

    fn begin(&self, ttl: Duration, previous: Option<SessionId>) -> Result<AuthorityResponse, AuthorityError> {
        let mut transaction = self.folder.begin()?;
        // Only a session of this process: another number would be a mistake of the caller.
        let previous = previous.filter(|previous| self.locks().contains_key(previous));
        if let Some(previous) = previous {
            transaction.end(previous)?;
        }
        transaction.end_those_over()?;
        transaction.clear()?;
        let Claimant { node, generation, .. } = &self.claimant;
        let Some(session) = transaction.table().open(Session { node: node.clone(), generation: *generation }) else {
            let text =
                format!("ownership.folder has {SESSIONS_MAX} sessions that are not over; it has room for no more");
            return Err(AuthorityError(text));
        };
        let session_lock = self.folder.lock_session(session, ttl)?;
        transaction.finish()?;
        let mut locks = self.locks();
        previous.map(|previous| locks.remove(&previous));
        locks.insert(session, Arc::new(session_lock));
        Ok(AuthorityResponse::Opened { session, ttl })
    }

    fn renew(&self, session: SessionId) -> Result<AuthorityResponse, AuthorityError> {
        let Some(session_lock) = self.locks().get(&session).cloned() else { return Ok(AuthorityResponse::Gone) };
        let is_there = session_lock.renew().map_err(|error| self.folder.unwritable(session, &error))?;
        Ok(if is_there { AuthorityResponse::Renewed } else { AuthorityResponse::Gone })
    }

    fn claim(
        &self,
        session: SessionId,
        shards: &[ShardName],
        floor: Epoch,
    ) -> Result<AuthorityResponse, AuthorityError> {
        let mut transaction = self.folder.begin()?;
        // Our own session first: if it is over, shards given to it could be taken away at once.
        transaction.end_if_over(session)?;
        let is_held = |claimed: &Claimed| matches!(claimed, Claimed::Held { .. });
        if transaction.table().claim(session, shards, floor).is_some_and(|claimed| claimed.iter().any(is_held)) {
            transaction.end_those_over()?;
        }
        let claimed = transaction.table().claim(session, shards, floor);
        transaction.finish()?;
        Ok(claimed.map_or(AuthorityResponse::Gone, AuthorityResponse::Claimed))
    }

    fn locks(&self) -> MutexGuard<'_, BTreeMap<SessionId, Arc<SessionLock>>> {
        lock(&self.locks)
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        lock(&self.watch)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Never closed before the process ends: see `locks`.
        std::mem::take(&mut *self.locks()).into_values().for_each(std::mem::forget);
    }
}
