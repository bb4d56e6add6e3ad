//! `watch`: whether a shard may have become free since the last answer.
//!
//! The kernel does not notify other processes when one ends, so each waiting node looks at the
//! folder. It reads the first two lines of the state. For each session it checks whether the file
//! can be locked or its time is over. With ten nodes on a host each makes about 60 system calls 20
//! times a second, 0.5 to 0.8 % of one core (`cargo bench -p heartbeat-tests --bench authority`).

use std::collections::BTreeSet;

use heartbeat_core::authority::SessionId;

use super::super::AuthorityError;
use super::super::lease_table::LeaseTable;
use super::folder::Folder;
use super::session_lock::LockState;

/// What the waiting node has seen of the folder.
#[derive(Debug)]
pub(super) struct Watch {
    /// The numbers of the state that `sessions` are of.
    head: (u64, u64),
    /// Sessions that were not over when they were last looked at.
    sessions: BTreeSet<SessionId>,
    /// Sessions that were over, and are still in the table.
    over: BTreeSet<SessionId>,
    /// Whether a shard may have become free since the last answer.
    is_news: bool,
}

impl Watch {
    pub(super) fn new(table: &LeaseTable) -> Watch {
        let mut watch = Watch { head: (0, 0), sessions: BTreeSet::new(), over: BTreeSet::new(), is_news: false };
        watch.take(table);
        watch.is_news = false;
        watch
    }

    /// Looks at the folder, and returns whether a shard may have become free since the last answer.
    pub(super) fn look(&mut self, folder: &Folder) -> Result<bool, AuthorityError> {
        if folder.read_head() != Some(self.head)
            && let Some(table) = folder.read()?
        {
            self.take(&table);
        }
        let sessions: Vec<_> = self.sessions.iter().copied().collect();
        for session in sessions {
            match folder.look(session)? {
                LockState::Over => {
                    self.sessions.remove(&session);
                    self.over.insert(session);
                    self.is_news = true;
                }
                LockState::Until(_) => {}
            }
        }
        Ok(self.is_news)
    }

    /// The node was answered.
    pub(super) fn clear_news(&mut self) {
        self.is_news = false;
    }

    fn take(&mut self, table: &LeaseTable) {
        self.is_news |= table.freed != self.head.1;
        self.head = table.head();
        self.over.retain(|session| table.sessions.contains_key(session));
        self.sessions = table.sessions.keys().filter(|session| !self.over.contains(session)).copied().collect();
    }
}
