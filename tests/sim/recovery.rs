//! Recovery: whether all nodes agree again once all faults are over.

use heartbeat_core::config::QuorumRule;
use heartbeat_core::{Engine, Member, NodeId};

use crate::network::NodeIndex;
use crate::shape::NOTE;
use crate::world::{GROUP, SHARDS, World};

impl World {
    /// Where and what is wrong now that all faults are over; empty if nothing is.
    pub fn unsettled(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let running: Vec<NodeIndex> = self.running();
        let present: Vec<NodeIndex> =
            running.iter().copied().filter(|&place| !self.engine(place).is_some_and(Engine::has_left)).collect();
        if self.shape.monitors > 0 && !(0..self.shape.monitors).any(|place| present.contains(&place)) {
            return wrong;
        }
        let text = |member: &Member| {
            let note = member.metadata.get(NOTE).map(|note| format!(" saying {note}")).unwrap_or_default();
            (member.id, format!("{} {}{note}", member.name, member.status))
        };
        let own = |place: &NodeIndex| {
            let id = NodeId::of(&self.nodes[*place].name);
            self.engine(*place)?.members().find(|member| member.id == id).map(text)
        };
        let mut truth: Vec<(NodeId, String)> = present.iter().filter_map(own).collect();
        truth.sort();
        for &place in &present {
            let members = self.engine(place).into_iter().flat_map(Engine::members);
            let members = members.filter(|member| member.status.is_member());
            let view: Vec<(NodeId, String)> = members.map(text).collect();
            if view != truth {
                let name = &self.nodes[place].name;
                let texts = |rows: &[(NodeId, String)]| rows.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>();
                wrong.push(format!("{name} sees {:?}, and there are {:?}", texts(&view), texts(&truth)));
            }
        }
        if self.shape.workers {
            self.look_for_shards(&present, &mut wrong);
        }
        wrong
    }

    pub(crate) fn look_for_shards(&self, present: &[NodeIndex], wrong: &mut Vec<String>) {
        for shard in 0..SHARDS {
            let owners: Vec<NodeIndex> =
                present.iter().copied().filter(|&place| self.shards_on(place).contains(&shard)).collect();
            let enough = match self.config.ownership.quorum {
                QuorumRule::None => 1,
                QuorumRule::Majority => self.config.ownership.quorum_min as usize,
            };
            let may_own = present.iter().any(|&place| place >= self.shape.monitors) && present.len() >= enough;
            if owners.len() != 1 && may_own && !(owners.is_empty() && self.may_be_down(shard, present)) {
                wrong.push(format!("shard {shard} runs on {owners:?}"));
            }
        }
    }

    /// Whether the node that owns a shard now cannot run it.
    pub(crate) fn may_be_down(&self, shard: u32, present: &[NodeIndex]) -> bool {
        let one = present.first().and_then(|&place| self.engine(place));
        let owner = one.and_then(|engine| engine.owner(GROUP, shard)).map(|(owner, _)| owner);
        let place = self.nodes.iter().position(|node| Some(NodeId::of(&node.name)) == owner);
        place.is_some_and(|place| self.checker.may_be_down(self.now, place, shard))
    }
}
