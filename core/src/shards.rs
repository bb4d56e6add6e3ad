//! `Shards`: which shards this node runs, as the view of the members changes.
//!
//! All nodes with the same view name the same owners (`ring`), so nobody has to be told what to run: each looks at the view and starts what
//! has become its own, stops what has not. The view's version is the epoch: it grows, and at one version a shard has one owner.
//!
//! It acts on whole views only. Two nodes that each know another half of the news would each find themselves the owner.

use std::sync::Arc;

use crate::event::Event;
use crate::member::{Epoch, NodeId, Shard, WorkerId, name_hash};
use crate::membership::Membership;
use crate::ring;

/// The sharded groups of this node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shards {
    groups: Vec<Group>,
}

#[derive(Clone, Debug)]
struct Group {
    name: Arc<str>,
    hash: u64,
    /// The worker of shard 0; those of the others follow.
    first: WorkerId,
    /// By shard: who owns it, at which epoch.
    owners: Vec<Option<(NodeId, Epoch)>>,
}

/// What a change of owners asks of this node.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Step {
    Start { worker: WorkerId, shard: Shard },
    Stop { worker: WorkerId },
    Tell(Event),
}

impl Shards {
    /// Takes on a group whose shard `i` is worker `first + i`.
    pub(crate) fn add(&mut self, name: Arc<str>, first: WorkerId, count: u32) {
        let hash = name_hash(&name);
        self.groups.push(Group { name, hash, first, owners: vec![None; count as usize] });
    }

    /// Finds the owners anew in a whole view, and says what that asks of `me`.
    pub(crate) fn settle(&mut self, me: NodeId, membership: &Membership, epoch: Epoch) -> Vec<Step> {
        let mut steps = Vec::new();
        let nodes: Vec<NodeId> = membership.owners().collect();
        let name_of = |id: NodeId| membership.member(id).map(|member| member.name.clone());
        for group in &mut self.groups {
            for (index, owner) in (0..).zip(&mut group.owners) {
                let now = ring::owner(group.hash, index, nodes.iter().copied());
                if now == owner.map(|(node, _)| node) {
                    continue;
                }
                let before = std::mem::replace(owner, now.map(|node| (node, epoch))).map(|(node, _)| node);
                let (worker, shard) = (WorkerId(group.first.0 + index), Shard { index, epoch });
                steps.push(Step::Tell(Event::Moved {
                    group: group.name.clone(),
                    shard,
                    from: before.and_then(name_of),
                    to: now.and_then(name_of),
                }));
                if before == Some(me) {
                    steps.push(Step::Stop { worker });
                } else if now == Some(me) {
                    steps.push(Step::Start { worker, shard });
                }
            }
        }
        steps
    }

    /// Without a cluster every shard runs here: starts those that do not run yet.
    pub(crate) fn settle_alone(&mut self, epoch: Epoch) -> Vec<Step> {
        const HERE: NodeId = NodeId(0);
        let mut steps = Vec::new();
        for group in &mut self.groups {
            for (index, owner) in (0..).zip(&mut group.owners) {
                if owner.is_none() {
                    *owner = Some((HERE, epoch));
                    steps.push(Step::Start { worker: WorkerId(group.first.0 + index), shard: Shard { index, epoch } });
                }
            }
        }
        steps
    }

    /// Gives up everything `me` owns: this node was concluded dead, and another may own it by now.
    pub(crate) fn void(&mut self, me: NodeId) -> Vec<Step> {
        let mut steps = Vec::new();
        for group in &mut self.groups {
            for (index, owner) in (0..).zip(&mut group.owners) {
                if owner.is_some_and(|(node, _)| node == me) {
                    *owner = None;
                    steps.push(Step::Stop { worker: WorkerId(group.first.0 + index) });
                }
            }
        }
        steps
    }

    /// Who owns a shard of the group with this name, at which epoch; `None` if nobody does or there is no such group or shard.
    pub(crate) fn owner(&self, group: &str, index: u32) -> Option<(NodeId, Epoch)> {
        let group = self.groups.iter().find(|candidate| *candidate.name == *group)?;
        *group.owners.get(index as usize)?
    }
}
