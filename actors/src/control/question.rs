//! `Question`: what the door shows and only the supervisor knows.
//!
//! An answer costs the control thread microseconds: it copies figures that the engine has anyway.
//! The thread that asks does what takes longer, such as looking at threads.

use std::collections::BTreeMap;
use std::sync::Arc;

use heartbeat_core::{GroupFigures, NodeId, ThreadFigures};
use tokio::sync::oneshot;

use crate::control::supervisor::Supervisor;
use crate::thread::{Thread, ThreadHandle};
use crate::view::link_status::LinkStatus;

/// A question, with the sender that takes the answer; its receiver may be gone.
pub(crate) enum Question {
    /// How do the members stand that this node watches? With so many steps of the curve of one of
    /// them.
    Links { curve: Option<(NodeId, u32)>, answer: oneshot::Sender<Vec<LinkStatus>> },
    /// How do the groups stand?
    Groups(oneshot::Sender<Vec<GroupFigures>>),
    /// How do the threads stand? Each comes with its handle, to look at it from outside.
    Threads(oneshot::Sender<Vec<(ThreadFigures, Option<ThreadHandle>)>>),
}

impl Supervisor {
    pub(super) fn answer(&self, question: Question) {
        let now = self.clock.now();
        match question {
            Question::Links { curve, answer } => drop(answer.send(self.links(curve))),
            Question::Groups(answer) => drop(answer.send(self.engine.groups(now))),
            Question::Threads(answer) => {
                let handle = |figures: &ThreadFigures| self.threads.get(&figures.arbiter).map(Thread::handle);
                let threads = self.engine.threads(now).into_iter().map(|figures| (figures, handle(&figures)));
                drop(answer.send(threads.collect()));
            }
        }
    }

    fn links(&self, curve: Option<(NodeId, u32)>) -> Vec<LinkStatus> {
        // Observers are named by short ids, so each member is looked up by its own.
        let names: BTreeMap<u32, &Arc<str>> =
            self.engine.members().map(|member| (member.id.short(), &member.name)).collect();
        let name = |short: u32| names.get(&short).map(|name| Arc::clone(name));
        let links = self.engine.links(self.clock.now()).filter_map(|link| {
            let curve = curve.filter(|(of, _)| *of == link.node);
            Some(LinkStatus {
                name: name(link.node.short())?,
                observers: link.observers.iter().filter_map(|short| name(*short)).collect(),
                curve: curve.and_then(|(of, points)| self.engine.link_curve(of, points)).unwrap_or_default(),
                figures: link.figures,
            })
        });
        links.collect()
    }
}
