//! `OwnProfile`: what this node publishes of itself: metadata, sharded groups, declined shards.
//!
//! Each change raises the revision of the profile and is gossiped. While this node may own no
//! shards, for want of a session at the authority, its groups are withheld, so that others own
//! their shards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::{AuthorityKind, Config, ConfigError};
use crate::ctx::Ctx;
use crate::event::Event;
use crate::member::{DECLINED_BYTES_MAX, Declined, GROUPS_MAX, Metadata, Profile, ShardGroup, Weight};
use crate::membership::gossip::Extent;
use crate::membership::peers::Peers;

/// The part of this node's profile that is not published.
#[derive(Clone, Debug)]
pub(super) struct OwnProfile {
    /// The sharded groups of this node while it may own no shards.
    withheld: Option<Vec<ShardGroup>>,
}

impl OwnProfile {
    /// A node that needs a session at an authority withholds its groups until it has one.
    pub(super) fn new(config: &Config) -> OwnProfile {
        let withheld = match config.ownership.authority {
            AuthorityKind::View => None,
            AuthorityKind::File | AuthorityKind::Etcd | AuthorityKind::Postgres => Some(Vec::new()),
        };
        OwnProfile { withheld }
    }

    /// Whether this metadata may replace the present.
    ///
    /// # Errors
    /// [`ConfigError::Contradiction`] if the weight would change. Other nodes find owners with the
    /// weight that they see. A weight that came and went between two of their looks would have
    /// given a shard to another owner and back. The present owner would not know that its epoch is
    /// over.
    pub(super) fn check_metadata(metadata: &Metadata, peers: &Peers) -> Result<(), ConfigError> {
        let (is, would_be) = (peers.me.weight(), Weight::from_metadata(metadata).unwrap_or_default());
        if is != would_be {
            let (is, would_be) = (is.get(), would_be.get());
            let reason = format!("the metadata has the weight {would_be}; this process began with {is} and keeps it");
            return Err(ConfigError::Contradiction(reason));
        }
        Ok(())
    }

    /// Replaces the metadata by what [`OwnProfile::check_metadata`] has accepted.
    pub(super) fn set_metadata(metadata: Metadata, peers: &mut Peers, ctx: &mut Ctx) {
        update(peers, |profile| profile.metadata = metadata, ctx);
    }

    /// Publishes that this node supervises a sharded group, so that it may own shards of it.
    ///
    /// # Panics
    /// If it supervises [`GROUPS_MAX`] already.
    pub(super) fn announce(&mut self, sharded: ShardGroup, peers: &mut Peers, ctx: &mut Ctx) {
        assert!(self.groups(peers).len() < GROUPS_MAX, "more than {GROUPS_MAX} sharded groups");
        self.change_groups(peers, |groups| groups.push(sharded), ctx);
    }

    /// Publishes which shards this node cannot run, by group, in place of what it published before.
    pub(super) fn set_declined(&mut self, declined: &BTreeMap<u64, BTreeSet<u32>>, peers: &mut Peers, ctx: &mut Ctx) {
        let declines = |sharded: &ShardGroup| declined.get(&sharded.group).is_some_and(|shards| !shards.is_empty());
        let groups = self.groups(peers).iter().filter(|sharded| declines(sharded)).count().max(1);
        // Each group that declines nothing takes a byte.
        let bytes_max = (DECLINED_BYTES_MAX - GROUPS_MAX) / groups;
        let change = |groups: &mut Vec<ShardGroup>| {
            for sharded in groups {
                let shards = declined.get(&sharded.group);
                sharded.declined =
                    shards.map(|shards| Declined::of(shards, sharded.count, bytes_max)).unwrap_or_default();
            }
        };
        self.change_groups(peers, change, ctx);
    }

    /// Publishes the groups: this node may own shards from now on. Returns whether that changes
    /// what it may own.
    pub(super) fn publish_groups(&mut self, peers: &mut Peers, ctx: &mut Ctx) -> bool {
        let groups = self.withheld.take().unwrap_or_default();
        let is_news = !groups.is_empty();
        if is_news {
            update(peers, |profile| profile.groups = groups, ctx);
        }
        is_news
    }

    /// Withholds the groups: this node may own no shards from now on. Returns whether that changes
    /// what it may own.
    pub(super) fn withhold_groups(&mut self, peers: &mut Peers, ctx: &mut Ctx) -> bool {
        if self.withheld.is_some() {
            return false;
        }
        let groups = peers.me.groups.clone();
        let is_news = !groups.is_empty();
        if is_news {
            update(peers, |profile| profile.groups.clear(), ctx);
        }
        self.withheld = Some(groups);
        is_news
    }

    /// Publishes that this node supervises no sharded group any more, so that others take its
    /// shards over.
    pub(super) fn withdraw(&mut self, peers: &mut Peers, ctx: &mut Ctx) {
        if !self.groups(peers).is_empty() {
            self.change_groups(peers, Vec::clear, ctx);
        }
    }

    /// The sharded groups of this node, published or withheld.
    pub(super) fn groups<'a>(&'a self, peers: &'a Peers) -> &'a [ShardGroup] {
        self.withheld.as_deref().unwrap_or(&peers.me.groups)
    }

    /// Changes the sharded groups, and publishes them unless they are withheld.
    fn change_groups(&mut self, peers: &mut Peers, change: impl FnOnce(&mut Vec<ShardGroup>), ctx: &mut Ctx) {
        match &mut self.withheld {
            Some(groups) => change(groups),
            None => update(peers, |profile| change(&mut profile.groups), ctx),
        }
    }
}

/// Changes this node's profile and publishes it under the next revision.
fn update(peers: &mut Peers, change: impl FnOnce(&mut Profile), ctx: &mut Ctx) {
    let profile = Arc::make_mut(&mut peers.me.profile);
    profile.revision += 1;
    change(profile);
    peers.publish_self(Extent::Row, ctx.now);
    ctx.emit(Event::Updated { member: peers.me.clone() });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::fixture::Fixture;

    const ORDERS: u64 = 11;

    /// A node that publishes its groups, or withholds them.
    fn own(is_withheld: bool) -> (Fixture, OwnProfile) {
        (Fixture::new(&[]), OwnProfile { withheld: is_withheld.then(Vec::new) })
    }

    fn published(node: &Fixture) -> Vec<u64> {
        node.peers.me.groups.iter().map(|sharded| sharded.group).collect()
    }

    #[test]
    fn each_change_is_gossiped_under_the_next_revision() {
        let (mut node, _) = own(false);
        let metadata = Metadata::from([("note".to_owned(), "x".to_owned())]);
        OwnProfile::set_metadata(metadata, &mut node.peers, &mut node.ctx);
        assert_eq!(node.peers.me.revision, 2);
        assert_eq!(node.peers.table.member(node.peers.me.id), Some(&node.peers.me));
        assert!(node.peers.gossip.due().is_some());
        assert_eq!(node.events(), [Event::Updated { member: node.peers.me.clone() }]);
    }

    #[test]
    fn metadata_may_not_change_the_weight() {
        let (node, _) = own(false);
        let weight = |text: &str| Metadata::from([("weight".to_owned(), text.to_owned())]);
        assert!(OwnProfile::check_metadata(&Metadata::default(), &node.peers).is_ok());
        let own = Weight::default().get().to_string();
        assert!(OwnProfile::check_metadata(&weight(&own), &node.peers).is_ok());
        let changed = OwnProfile::check_metadata(&weight("7"), &node.peers);
        assert!(matches!(changed, Err(ConfigError::Contradiction(_))), "{changed:?}");
    }

    #[test]
    fn withheld_groups_are_published_with_a_session() {
        let (mut node, mut own) = own(true);
        own.announce(ShardGroup::new(ORDERS, 4), &mut node.peers, &mut node.ctx);
        assert_eq!((published(&node), own.groups(&node.peers).len()), (vec![], 1));
        assert!(own.publish_groups(&mut node.peers, &mut node.ctx));
        assert_eq!((published(&node), own.groups(&node.peers).len()), (vec![ORDERS], 1));
        assert!(!own.publish_groups(&mut node.peers, &mut node.ctx), "again");
        assert!(own.withhold_groups(&mut node.peers, &mut node.ctx));
        assert_eq!((published(&node), own.groups(&node.peers).len()), (vec![], 1));
        assert!(!own.withhold_groups(&mut node.peers, &mut node.ctx), "again");
    }

    #[test]
    fn without_groups_nothing_is_published_or_withdrawn() {
        let (mut node, mut own) = own(true);
        assert!(!own.publish_groups(&mut node.peers, &mut node.ctx));
        assert!(!own.withhold_groups(&mut node.peers, &mut node.ctx));
        own.withdraw(&mut node.peers, &mut node.ctx);
        assert_eq!(node.peers.me.revision, 1);
    }

    #[test]
    fn declined_shards_replace_those_of_before() {
        let (mut node, mut own) = own(false);
        own.announce(ShardGroup::new(ORDERS, 8), &mut node.peers, &mut node.ctx);
        own.announce(ShardGroup::new(12, 8), &mut node.peers, &mut node.ctx);
        for declined in [BTreeSet::from([3, 5]), BTreeSet::from([0])] {
            own.set_declined(&BTreeMap::from([(ORDERS, declined.clone())]), &mut node.peers, &mut node.ctx);
            let declines = |at: usize, index: u32| node.peers.me.groups[at].declined.contains(index);
            assert_eq!((0..8).filter(|index| declines(0, *index)).collect::<BTreeSet<_>>(), declined);
            assert!((0..8).all(|index| !declines(1, index)));
        }
        own.withdraw(&mut node.peers, &mut node.ctx);
        assert_eq!(published(&node), []);
    }
}
