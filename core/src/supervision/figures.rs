//! `figures`: how groups and threads stand, for people who ask.
//!
//! A group that counts its children together has one window of restarts. One that counts each
//! alone has as many as children, perhaps a million. Then only the children that were restarted
//! lately are looked at, so that the answer costs the same however many there are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::restart::UNLIMITED;
use super::threads::State;
use super::{Counting, RECENT_MAX, Strategy, Supervision};
use crate::ctx::Ctx;
use crate::member::{ArbiterId, Child, GroupId, ThreadSlotId};
use crate::time::Instant;

/// A group's restarts against its limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupFigures {
    /// Its name; `None` for the root.
    pub name: Option<Arc<str>>,
    /// Which children one child's failure concerns.
    pub strategy: Strategy,
    /// Whose restarts count against the limits.
    pub counting: Counting,
    /// Restarts allowed in a period; `None` means however many.
    pub intensity: Option<u32>,
    /// The period.
    pub period: Duration,
    /// Restarts in the period that ends now: of all children where they count together, else those
    /// of the child in `nearest`.
    pub restarts: u32,
    /// Where each child counts alone: the one that was restarted most often in its period. Its own
    /// limits may be others than those here. Only the newest 1,024 restarts of this node count.
    pub nearest: Option<Arc<str>>,
}

/// How far a thread that runs workers is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ThreadStanding {
    /// It beats, or was silent for less than its timeout.
    Running,
    /// It is held, and the workers of its slot wait for it.
    Held,
    /// It is held, and was replaced. It ends when it comes back.
    Abandoned,
}

/// A thread that runs workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThreadFigures {
    /// Its number.
    pub arbiter: ArbiterId,
    /// The slot that it was made for.
    pub thread_slot: ThreadSlotId,
    /// How far it is.
    pub standing: ThreadStanding,
    /// For how long it has not beaten, while it runs; for how long it has been known to be held,
    /// while workers wait for it. `None` if it was abandoned.
    pub silent_for: Option<Duration>,
    /// How long a worker may hold it: the shortest timeout of its workers.
    pub timeout: Option<Duration>,
    /// How many workers use it; none of an abandoned one.
    pub workers: u32,
}

impl Supervision {
    /// Notes that a child is started again after a failure.
    pub(super) fn note_restart(&mut self, child: Child) {
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(child);
    }

    /// Forgets the restarts of a child that was removed, and of those below it.
    pub(super) fn forget_restarts(&mut self, removed: Child) {
        match removed {
            Child::Worker(_) => self.recent.retain(|child| *child != removed),
            Child::Group(_) => self.recent.retain(|child| self.children.common(*child).is_some()),
        }
    }

    /// How the groups stand, the root first.
    pub(crate) fn group_figures(&self, now: Instant, ctx: &Ctx) -> Vec<GroupFigures> {
        let recent: BTreeSet<Child> = self.recent.iter().copied().collect();
        let figures = |(id, group): (GroupId, &super::children::Group)| {
            let policy = group.common.policy.as_deref().unwrap_or(&ctx.config.restart);
            let (restarts, nearest) = match group.counting {
                Counting::Together => (group.window.count_at(now, policy), None),
                Counting::Each => {
                    let own = recent.iter().filter_map(|child| {
                        let common = self.children.common(*child).filter(|common| common.parent == id)?;
                        let policy = common.policy.as_deref().unwrap_or(&ctx.config.restart);
                        Some((common.restart.count_at(now, policy), common.name.clone()))
                    });
                    let most = own.filter(|(restarts, _)| *restarts > 0).max_by_key(|(restarts, _)| *restarts);
                    most.map_or((0, None), |(restarts, name)| (restarts, Some(name)))
                }
            };
            GroupFigures {
                name: (id != GroupId::ROOT).then(|| group.common.name.clone()),
                strategy: group.strategy,
                counting: group.counting,
                intensity: (policy.intensity != UNLIMITED).then_some(policy.intensity),
                period: policy.period,
                restarts,
                nearest,
            }
        };
        self.children.groups().map(figures).collect()
    }

    /// How the threads stand, in the order of their numbers.
    pub(crate) fn thread_figures(&self, now: Instant, ctx: &Ctx) -> Vec<ThreadFigures> {
        let figures = |(arbiter, thread_slot, state)| {
            let slot = self.threads.slot(thread_slot).filter(|_| self.threads.at(thread_slot) == arbiter);
            let (standing, silent_for) = match state {
                State::Running(watch) => (ThreadStanding::Running, Some(ctx.monitor.silence(watch, now))),
                State::Held(since) => (ThreadStanding::Held, Some(now - since)),
                State::Zombie => (ThreadStanding::Abandoned, None),
            };
            ThreadFigures {
                arbiter,
                thread_slot,
                standing,
                silent_for,
                timeout: slot.map(|(timeout, _)| timeout),
                workers: slot.map_or(0, |(_, workers)| workers),
            }
        };
        self.threads.all().map(figures).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::WorkerId;
    use crate::supervision::fixture::{Fixture, GROUP, group, worker};
    use crate::supervision::{Report, SuperviseGroup};

    #[test]
    fn a_group_shows_its_restarts_until_they_leave_the_window() {
        let mut fixture = Fixture::new();
        let together = SuperviseGroup { counting: Counting::Together, ..group(Strategy::OneForOne) };
        fixture.supervision.supervise_group(together, &mut fixture.ctx);
        fixture.add(worker(0, GROUP));
        fixture.report(0, Report::Started);
        fixture.fail(0);
        let named = |fixture: &Fixture| {
            let figures = fixture.supervision.group_figures(fixture.ctx.now, &fixture.ctx);
            (figures[0].clone(), figures[1].clone())
        };
        let (root, group) = named(&fixture);
        assert_eq!((root.name, root.counting, root.restarts, root.nearest), (None, Counting::Each, 0, None));
        assert_eq!((group.counting, group.restarts), (Counting::Together, 1));
        let restart = &fixture.ctx.config.restart;
        assert_eq!((group.intensity, group.period), (Some(restart.intensity), restart.period));
        fixture.pass(group.period);
        assert_eq!(named(&fixture).1.restarts, 0);
    }

    #[test]
    fn where_each_counts_alone_the_nearest_to_its_limit_is_named() {
        let mut fixture = Fixture::with_workers(3);
        for id in [1, 2, 2] {
            fixture.fail(id);
            fixture.pass(Duration::from_secs(1));
            fixture.expire();
            fixture.report(id, Report::Started);
        }
        let root = fixture.supervision.group_figures(fixture.ctx.now, &fixture.ctx).remove(0);
        assert_eq!((root.restarts, root.nearest), (2, Some(worker(2, GroupId::ROOT).name)));
    }

    #[test]
    fn the_newest_restarts_are_kept_and_no_more() {
        let mut fixture = Fixture::with_workers(1);
        let child = |id| Child::Worker(WorkerId(id));
        (0..RECENT_MAX as u32 + 5).for_each(|id| fixture.supervision.note_restart(child(id)));
        assert_eq!(fixture.supervision.recent.len(), RECENT_MAX);
        assert_eq!(fixture.supervision.recent.front(), Some(&child(5)));
    }

    #[test]
    fn threads_show_their_workers() {
        let fixture = Fixture::with_workers(3);
        let threads = fixture.supervision.thread_figures(fixture.ctx.now, &fixture.ctx);
        assert_eq!(threads.len() as u32, fixture.ctx.config.workers.arbiters);
        assert_eq!(threads.iter().map(|thread| thread.workers).sum::<u32>(), 3);
        assert!(threads.iter().all(|thread| thread.standing == ThreadStanding::Running));
    }
}
