//! `Shards`: which shards this node runs, as the view of the members changes.
//!
//! All nodes with the same view name the same owners (`ring`), so nobody has to be told what to run: each looks at the view and starts what
//! has become its own, stops what has not. The epoch is the owner's logical clock when it began, which no other owner can have.
//!
//! It acts on whole views only. Two nodes that each know another half of the news would each find themselves the owner; while news travel, they do.

use std::sync::Arc;

use crate::event::Event;
use crate::member::{Epoch, NodeId, Shard, Weight, WorkerId, name_hash};
use crate::membership::Membership;
use crate::ring;
use crate::routes::Sharing;

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
    /// Another number of shards is in force.
    refused: Option<u32>,
}

impl Group {
    /// Those who may own its shards; nobody if another number of shards is in force, which is said when it begins and when it ends.
    fn share(&mut self, membership: &Membership, steps: &mut Vec<Step>) -> Vec<(NodeId, Weight)> {
        let count = self.owners.len() as u32;
        let sharing = Sharing::among(membership.members(), self.hash);
        let other = sharing.as_ref().filter(|sharing| sharing.count != count);
        if other.map(|sharing| sharing.count) != self.refused {
            self.refused = other.map(|sharing| sharing.count);
            let group = self.name.clone();
            let by = other.and_then(|sharing| membership.member(sharing.by)).map(|member| member.name.clone());
            steps.push(Step::Tell(match (self.refused, by) {
                (Some(in_force), Some(by)) => Event::ShardsRefused { group, count, in_force, by },
                _ => Event::ShardsAdmitted { group, count },
            }));
        }
        sharing.filter(|sharing| sharing.count == count).map(|sharing| sharing.owners).unwrap_or_default()
    }

    /// Stops those of our shards of which `is_others` holds.
    fn give_up(&mut self, me: NodeId, table: &Membership, is_others: impl Fn(u32) -> bool, steps: &mut Vec<Step>) {
        let from = table.member(me).map(|member| member.name.clone());
        for (index, owner) in (0..).zip(&mut self.owners) {
            if let Some((_, epoch)) = owner.take_if(|(node, _)| *node == me && is_others(index)) {
                let (group, shard) = (self.name.clone(), Shard { index, epoch });
                steps.push(Step::Tell(Event::Moved { group, shard, from: from.clone(), to: None }));
                steps.push(Step::Stop { worker: WorkerId(self.first.0 + index) });
            }
        }
    }
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
        self.groups.push(Group { name, hash, first, owners: vec![None; count as usize], refused: None });
    }

    /// Finds the owners anew in a whole view, and says what that asks of `me`.
    ///
    /// `passed` are nodes that came and went between the last view and this one, unseen. A shard that one of them would have owned has had
    /// another owner meanwhile, under an epoch between ours and now; if it is ours still, it is ours anew.
    pub(crate) fn settle(
        &mut self,
        me: NodeId,
        membership: &Membership,
        passed: &[(NodeId, Weight)],
        epoch: Epoch,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        let name_of = |id: NodeId| membership.member(id).map(|member| member.name.clone());
        for group in &mut self.groups {
            let nodes = group.share(membership, &mut steps);
            for (index, owner) in (0..).zip(&mut group.owners) {
                let now = ring::owner(group.hash, index, nodes.iter().copied());
                let among_all = ring::owner(group.hash, index, nodes.iter().chain(passed).copied());
                if now == owner.map(|(node, _)| node) && now == among_all {
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
                if now == Some(me) {
                    steps.push(Step::Start { worker, shard });
                } else if before == Some(me) {
                    steps.push(Step::Stop { worker });
                }
            }
        }
        steps
    }

    /// Gives up what is another's by now, or nobody's, and starts nothing.
    pub(crate) fn yield_up(&mut self, me: NodeId, membership: &Membership) -> Vec<Step> {
        let mut steps = Vec::new();
        for group in &mut self.groups {
            let nodes = group.share(membership, &mut steps);
            let hash = group.hash;
            let is_others = |index| ring::owner(hash, index, nodes.iter().copied()) != Some(me);
            group.give_up(me, membership, is_others, &mut steps);
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
    pub(crate) fn void(&mut self, me: NodeId, membership: &Membership) -> Vec<Step> {
        let mut steps = Vec::new();
        for group in &mut self.groups {
            group.give_up(me, membership, |_| true, &mut steps);
        }
        steps
    }

    /// Who owns a shard of the group with this name, at which epoch; `None` if nobody does or there is no such group or shard.
    pub(crate) fn owner(&self, group: &str, index: u32) -> Option<(NodeId, Epoch)> {
        let group = self.groups.iter().find(|candidate| *candidate.name == *group)?;
        *group.owners.get(index as usize)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instant;
    use crate::member::{Generation, Incarnation, Member, Metadata, Profile, Role, Sharded, Status};

    fn member(name: &str, count: u32) -> Member {
        let profile = Profile {
            name: name.into(),
            address: "127.0.0.1:1".parse().unwrap(),
            role: Role::Worker,
            zone: "".into(),
            metadata: Metadata::new(),
            groups: vec![Sharded { group: name_hash("orders"), count }],
            revision: 1,
        };
        let (generation, incarnation) = (Generation(1), Incarnation::default());
        Member { id: NodeId::of(name), profile: profile.into(), generation, incarnation, status: Status::Alive }
    }

    fn starts(steps: &[Step]) -> Vec<u32> {
        let start = |step: &Step| match step {
            Step::Start { shard, .. } => Some(shard.index),
            Step::Stop { .. } | Step::Tell(_) => None,
        };
        steps.iter().filter_map(start).collect()
    }

    #[test]
    fn an_owner_nobody_saw_come_and_go_makes_its_shards_ours_anew() {
        let (me, other) = (NodeId::of("me"), NodeId::of("other"));
        let table = Membership::new(member("me", 20), Instant::ZERO);
        let mut shards = Shards::default();
        shards.add("orders".into(), WorkerId(0), 20);
        assert_eq!(starts(&shards.settle(me, &table, &[], Epoch(5))).len(), 20);
        assert_eq!(shards.settle(me, &table, &[], Epoch(6)), []);
        let anew = starts(&shards.settle(me, &table, &[(other, Weight::default())], Epoch(7)));
        let expected: Vec<u32> = (0..20)
            .filter(|&index| {
                let both = [me, other].map(|node| (node, Weight::default()));
                ring::owner(name_hash("orders"), index, both.into_iter()) == Some(other)
            })
            .collect();
        assert_eq!(anew, expected);
        assert!(anew.iter().all(|&index| shards.owner("orders", index) == Some((me, Epoch(7)))));
        assert!((1..20).contains(&anew.len()));
    }

    #[test]
    fn another_number_of_shards_than_that_in_force_owns_nothing_until_it_is_in_force() {
        let (me, other) = (NodeId::of("me"), NodeId::of("other"));
        let told = |steps: &[Step]| {
            let event = |step: &Step| match step {
                Step::Tell(event @ (Event::ShardsRefused { .. } | Event::ShardsAdmitted { .. })) => Some(event.clone()),
                _ => None,
            };
            steps.iter().filter_map(event).collect::<Vec<_>>()
        };
        let mut table = Membership::new(Member { generation: Generation(2), ..member("me", 20) }, Instant::ZERO);
        let mut shards = Shards::default();
        shards.add("orders".into(), WorkerId(0), 20);
        assert_eq!(starts(&shards.settle(me, &table, &[], Epoch(5))).len(), 20);
        table.recall(Instant::ZERO, &member("other", 30));
        let steps = shards.settle(me, &table, &[], Epoch(6));
        let (group, by) = (Arc::from("orders"), Arc::from("other"));
        assert_eq!(told(&steps), [Event::ShardsRefused { group, count: 20, in_force: 30, by }]);
        assert_eq!(steps.iter().filter(|step| matches!(step, Step::Stop { .. })).count(), 20);
        assert_eq!(shards.settle(me, &table, &[], Epoch(7)), [], "it is said once");
        assert!(table.judge(Instant::ZERO, other, Status::Dead).is_some());
        let steps = shards.settle(me, &table, &[], Epoch(8));
        assert_eq!(told(&steps), [Event::ShardsAdmitted { group: "orders".into(), count: 20 }]);
        assert_eq!(starts(&steps).len(), 20);
    }
}
