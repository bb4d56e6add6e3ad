//! `VersionInUse`: the version of the wire format in which this node sends to members.
//!
//! It is the highest version that all members have in common. A node that is not synced does not
//! know all members, and sends in the lowest version that it can use.
//!
//! The version rises when the last member ends that could not use a higher one. It falls again when
//! such a member joins. Two nodes may learn of that at different times: so each node decodes all
//! versions that it can use, not only the one that it sends. A node that is no member may know
//! less. It is answered in the version of its own datagram: see [`super::outbox`].

use crate::ctx::Ctx;
use crate::event::Event;
use crate::member::CommonVersion;
use crate::membership::peers::Peers;

/// The version in which this node sends to members.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct VersionInUse {
    /// `None` until the table is synced.
    version: Option<u8>,
}

impl VersionInUse {
    /// Finds the version anew after the table may have changed. Returns it. The first version of a
    /// node that is synced is no news, and has no event.
    pub(super) fn update(&mut self, is_synced: bool, peers: &Peers, ctx: &mut Ctx) -> u8 {
        let own = peers.me.wire_versions;
        let common = peers.table.common_wire_version();
        let version = common.filter(|_| is_synced).map(|version| own.nearest(version));
        if let (Some(from), Some(to)) = (self.version, version)
            && from != to
        {
            ctx.emit(if from < to {
                Event::WireVersionRaised { from, to }
            } else {
                let common = CommonVersion::of(peers.table.members());
                let held_back_by = common.map_or_else(Vec::new, |common| common.held_back_by).into();
                Event::WireVersionLowered { from, to, held_back_by }
            });
        }
        self.version = version;
        self.version.unwrap_or(own.min)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::member::{Member, Status, WireVersions};
    use crate::membership::fixture::{Fixture, id, member, ms};
    use crate::wire::{VERSION_MAX, VERSION_MIN};

    const BOTH: WireVersions = WireVersions { min: VERSION_MIN, max: VERSION_MAX };

    fn with(name: &str, wire_versions: WireVersions) -> Member {
        let mut member = member(name);
        Arc::make_mut(&mut member.profile).wire_versions = wire_versions;
        member
    }

    /// A node that can use both versions, with `a`, which can, too.
    fn node() -> Fixture {
        let mut node = Fixture::new(&[]);
        node.peers.me = with("me", BOTH);
        node.peers.table.set_local(ms(0), node.peers.me.clone());
        node.peers.table.preload(ms(0), &with("a", BOTH));
        node
    }

    #[test]
    fn a_node_that_is_not_synced_uses_its_lowest_version() {
        let (mut node, mut in_use) = (node(), VersionInUse::default());
        assert_eq!(in_use.update(false, &node.peers, &mut node.ctx), VERSION_MIN);
        assert_eq!(in_use.update(true, &node.peers, &mut node.ctx), VERSION_MAX);
        assert_eq!(in_use.update(false, &node.peers, &mut node.ctx), VERSION_MIN);
        assert_eq!(in_use.update(true, &node.peers, &mut node.ctx), VERSION_MAX);
        assert_eq!(node.events(), [], "the first version is no news");
    }

    #[test]
    fn it_falls_with_an_older_member_and_rises_when_that_ends() {
        let (mut node, mut in_use) = (node(), VersionInUse::default());
        in_use.update(true, &node.peers, &mut node.ctx);
        node.peers.table.preload(ms(1), &with("old", WireVersions::UNPUBLISHED));
        assert_eq!(in_use.update(true, &node.peers, &mut node.ctx), VERSION_MIN);
        let held_back_by = [Arc::from("old")].into();
        assert_eq!(node.events(), [Event::WireVersionLowered { from: VERSION_MAX, to: VERSION_MIN, held_back_by }]);
        node.peers.table.set_status(ms(2), id("old"), Status::Suspect);
        assert_eq!(in_use.update(true, &node.peers, &mut node.ctx), VERSION_MIN, "a suspect is a member");
        node.peers.table.set_status(ms(3), id("old"), Status::Dead);
        assert_eq!(in_use.update(true, &node.peers, &mut node.ctx), VERSION_MAX);
        assert_eq!(node.events(), [Event::WireVersionRaised { from: VERSION_MIN, to: VERSION_MAX }]);
    }
}
