//! `guard`: a change that arrives too late has no effect.
//!
//! A call that was given up may still be carried out, at any time, by a server that was paused. So
//! each change names a revision of the session: in etcd the one at which its key was written last,
//! in PostgreSQL a counter in its row. After a call whose outcome is not known, the revision is
//! raised before any other change. A change under the previous revision fails from then on. Between
//! two such calls the guard costs nothing.

use std::cell::Cell;

use tokio::sync::Mutex;

/// The guard of one session at a time.
#[derive(Default)]
pub(super) struct Guard {
    /// The session, and its last revision.
    known: Mutex<Option<(i64, i64)>>,
    /// Whether the outcome of some call is not known.
    is_unsure: Cell<bool>,
}

/// A call under way.
pub(super) struct Attempt<'a> {
    guard: &'a Guard,
    is_done: bool,
}

impl Guard {
    /// Begins a call; if it is dropped before it is done, its outcome is not known.
    pub(super) fn attempt(&self) -> Attempt<'_> {
        Attempt { guard: self, is_done: false }
    }

    /// The revision to name; `None` if the session is gone. `renewal` raises the revision and
    /// returns it, if the session is there; one caller at a time does.
    pub(super) async fn revision<E>(
        &self,
        lease: i64,
        renewal: impl Future<Output = Result<Option<i64>, E>>,
    ) -> Result<Option<i64>, E> {
        let mut known = self.known.lock().await;
        match *known {
            Some((of, revision)) if of == lease && !self.is_unsure.get() => return Ok(Some(revision)),
            Some(_) | None => {}
        }
        // Before the write: a call that is given up during it needs another write.
        self.is_unsure.set(false);
        *known = None;
        let revision = renewal.await?;
        *known = revision.map(|revision| (lease, revision));
        Ok(revision)
    }

    /// The revision was not the last one. Another caller may have learnt the right one since.
    pub(super) async fn refuse(&self, lease: i64, revision: i64) {
        let mut known = self.known.lock().await;
        if *known == Some((lease, revision)) {
            *known = None;
        }
    }
}

impl Attempt<'_> {
    pub(super) fn is_done(&mut self) {
        self.is_done = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.is_done {
            self.guard.is_unsure.set(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// The revision that is named for a lease, where the next renewal would give `next`.
    #[track_caller]
    fn check(guard: &Guard, lease: i64, next: Option<i64>, expected: Option<i64>) {
        let revision = guard.revision(lease, async { Ok::<_, ()>(next) }).now_or_never().unwrap();
        assert_eq!(revision.unwrap(), expected);
    }

    #[test]
    fn the_guard_changes_after_each_call_whose_outcome_is_not_known() {
        let guard = Guard::default();
        check(&guard, 7, Some(1), Some(1));
        let mut done = guard.attempt();
        check(&guard, 7, Some(2), Some(1));
        done.is_done();
        drop(done);
        check(&guard, 7, Some(2), Some(1));
        drop(guard.attempt());
        check(&guard, 7, Some(2), Some(2));
        check(&guard, 7, Some(3), Some(2));
        check(&guard, 8, Some(3), Some(3));
        check(&guard, 7, None, None);
    }

    #[test]
    fn a_guard_that_was_refused_is_asked_for_again_by_one() {
        let guard = Guard::default();
        check(&guard, 7, Some(1), Some(1));
        guard.refuse(7, 1).now_or_never().unwrap();
        check(&guard, 7, Some(2), Some(2));
        guard.refuse(7, 1).now_or_never().unwrap();
        check(&guard, 7, Some(3), Some(2));
    }

    #[test]
    fn a_renewal_that_fails_is_made_again() {
        let guard = Guard::default();
        let failed = guard.revision(7, async { Err(()) });
        assert!(failed.now_or_never().unwrap().is_err());
        check(&guard, 7, Some(2), Some(2));
    }
}
