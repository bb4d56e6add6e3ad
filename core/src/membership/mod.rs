//! `Cluster`: this node among the others: which members it sends heartbeats to, which it watches,
//! and what it holds of them.
//!
//! Every node has a few *observers* and sends its heartbeats to them. An observer that misses a
//! heartbeat probes the node, then asks the other observers, and publishes a suspicion or a death.
//! News travels as gossip. In `mode = "central"` only monitors are observers; nothing else differs.
//!
//! What the rules share:
//! - `peers`: this node, the table of members, the gossip, the observers; lent to every rule.
//! - `outbox`: what leaves this node; `clock`: the logical clock, of which epochs are made.
//!
//! The rules, each with a state of its own:
//! - `heartbeat`: when this node sends its heartbeats, and whether observers receive them.
//! - `watch`: the heartbeats of the nodes that this one watches.
//! - `inquiry`: what a silence leads to: asking, suspicion, death.
//! - `join`, `sync`: being admitted, admitting others, and comparing tables.
//! - `unconfirmed`: processes that are known only from the rows of others.
//! - `random_probe`: probes of members that this node does not watch.
//! - `streams`, `transfer`: lifelines, whose end is evidence, and snapshots of shards.
//! - `refutation`: what others hold of this node, and how it answers.
//! - `quorum`: whether enough members answer, where a shard may run in one place only.
//! - `settings`: settings with which a cluster cannot work.
//! - `own_profile`: what this node publishes of itself.
//! - `version_in_use`: the version of the wire format in which this node sends.
//!
//! `Cluster` joins them: `dispatch` takes each message to its rule, `change` does what follows from
//! a row that changed, `timers` does what is due, and `goodbye` is how this node leaves.
//!
//! What this does not do: decide which node may own shards. That is another question than which
//! nodes are alive, and gossip does not settle it. Both sides of a partition go on. Of two owners
//! that do not know of each other, the one whose clock is ahead has the higher epoch.

pub(crate) mod brake;
mod change;
mod clock;
mod contact;
mod dispatch;
#[cfg(test)]
mod fixture;
mod goodbye;
pub(crate) mod gossip;
mod heartbeat;
pub(crate) mod heartbeat_schedule;
mod inquiry;
mod join;
pub(crate) mod local_health;
pub(crate) mod observers;
mod outbox;
mod own_profile;
mod peers;
mod quorum;
mod random_probe;
mod refutation;
mod settings;
mod streams;
mod sync;
pub mod table;
mod timers;
mod transfer;
mod unconfirmed;
mod version_in_use;
mod watch;

pub(crate) use self::dispatch::Source;
pub(crate) use self::outbox::Outgoing;
pub(crate) use self::transfer::ShardMessage;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use self::clock::Clock;
use self::heartbeat::Heartbeats;
use self::inquiry::{Inquiries, InquiryCtx};
use self::join::Joining;
use self::outbox::{Encoding, Outbox, Payload};
use self::own_profile::OwnProfile;
use self::peers::Peers;
use self::quorum::Quorum;
use self::random_probe::RandomProbe;
use self::refutation::Refutations;
use self::settings::SettingsCheck;
use self::streams::Streams;
use self::sync::TableSync;
use self::table::MemberTable;
use self::transfer::Transfers;
use self::unconfirmed::Unconfirmed;
use self::version_in_use::VersionInUse;
pub use self::watch::Link;
use self::watch::Watching;
use crate::config::{ClusterConfig, Config, ConfigError};
use crate::ctx::Ctx;
use crate::detection::{Pause, monitor};
use crate::member::{
    Epoch, Generation, Member, Metadata, NodeId, Profile, ShardGroup, ShardKey, Weight, WireVersions, canonical,
};
use crate::output::StreamId;
use crate::snapshot::ShardSnapshot;
use crate::time::Instant;
use crate::wire::{Body, Datagram, Header, VERSION_MIN};

/// Who this node is; decided by its caller, since a name needs a config and a generation a clock.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Which start of the process: wall-clock milliseconds.
    pub generation: Generation,
    /// Where others reach this node.
    pub address: SocketAddr,
}

/// What the engine has to do after the cluster handled an input.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum OwnershipEffect {
    Nothing,
    /// The table is synced and may have changed: find the owners anew.
    Recompute,
    /// Others may own the shards that run here: stop all, then find the owners anew if the table is
    /// synced.
    Revoke,
}

/// This node among the others.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    peers: Peers,
    out: Outbox,
    heartbeats: Heartbeats,
    watching: Watching,
    inquiries: Inquiries,
    joining: Joining,
    sync: TableSync,
    unconfirmed: Unconfirmed,
    random_probe: RandomProbe,
    streams: Streams,
    transfers: Transfers,
    refutations: Refutations,
    /// None where the config asks for none.
    quorum: Option<Quorum>,
    settings: SettingsCheck,
    profile: OwnProfile,
    version_in_use: VersionInUse,
    /// Nodes that may have owned shards between two looks at the table. What they owned has had
    /// another owner since.
    transient_owners: Vec<(NodeId, Weight)>,
    /// Whether a later process uses this node's name.
    superseded: bool,
}

impl Cluster {
    pub(crate) fn new(config: &Config, cluster: &ClusterConfig, identity: Identity, ctx: &mut Ctx) -> Cluster {
        let profile = Profile {
            role: cluster.role,
            zone: Arc::from(&*cluster.zone),
            metadata: cluster.metadata.clone(),
            wire_versions: WireVersions { min: VERSION_MIN, max: cluster.wire_version_max },
            ..Profile::new(&*cluster.node, canonical(identity.address))
        };
        let me = Member::new(profile, identity.generation);
        let clock = Clock::new(identity.generation.0, Epoch(config.ownership.epoch_min), ctx.now);
        let peers = Peers::new(config, cluster, me, ctx);
        let out = Outbox::new(&cluster.name, clock, ctx);
        let sync = TableSync::new(config.interval, ctx);
        let random_probe = RandomProbe::new(config.interval, ctx);
        Cluster {
            heartbeats: Heartbeats::new(config, ctx.now),
            watching: Watching::default(),
            inquiries: Inquiries::default(),
            joining: Joining::new(config, cluster, &peers.me, ctx),
            sync,
            unconfirmed: Unconfirmed::default(),
            random_probe,
            streams: Streams::new(config),
            transfers: Transfers::default(),
            refutations: Refutations::default(),
            quorum: Quorum::new(config, ctx.now),
            settings: SettingsCheck::default(),
            profile: OwnProfile::new(config),
            version_in_use: VersionInUse::default(),
            transient_owners: Vec::new(),
            superseded: false,
            peers,
            out,
        }
    }

    // ---- inputs ---------------------------------------------------------------------------------

    /// Handles the verdict of the detector of a watched node.
    pub(crate) fn handle_verdict(&mut self, id: NodeId, change: monitor::Change, ctx: &mut Ctx) -> OwnershipEffect {
        let (inquiries, mut cx) = self.lend(ctx);
        let change = inquiries.handle_verdict(id, change.to, &mut cx);
        self.apply_own(change, ctx)
    }

    /// Takes a pause of this node out of everything that is timed here.
    pub(crate) fn discount_pause(&mut self, pause: Pause, ctx: &mut Ctx) {
        self.peers.health.degrade();
        self.peers.contact.discount_pause(pause);
        self.joining.discount_pause(pause);
        self.random_probe.discount_pause();
        let (inquiries, mut cx) = self.lend(ctx);
        inquiries.discount_pause(&mut cx);
    }

    /// Ends the quorum if its time is over.
    pub(crate) fn expire_quorum(&mut self, ctx: &mut Ctx) -> OwnershipEffect {
        let Some(quorum) = &mut self.quorum else { return OwnershipEffect::Nothing };
        if quorum.expire(&self.peers.table, ctx) { OwnershipEffect::Revoke } else { OwnershipEffect::Nothing }
    }

    /// Handles that a stream was accepted. Returns its number.
    pub(crate) fn handle_accepted(&mut self, ctx: &Ctx) -> StreamId {
        if self.superseded { self.reject_accepted() } else { self.streams.handle_accepted(&mut self.out, ctx) }
    }

    /// Handles that a stream was accepted, and closes it again. Returns its number.
    pub(crate) fn reject_accepted(&mut self) -> StreamId {
        self.streams.reject_accepted(&mut self.out)
    }

    /// Handles that a message of this version came from this address.
    pub(crate) fn note_version(&mut self, from: SocketAddr, version: u8) {
        self.out.note_version(from, version);
    }

    /// Handles a datagram of another cluster.
    pub(crate) fn handle_foreign(&mut self, from: SocketAddr, datagram: &Datagram<'_>, ctx: &mut Ctx) {
        let (sender, body) = (datagram.header.sender(), &datagram.body);
        self.settings.handle_foreign(from, sender, body, &self.joining, &mut self.out, ctx);
    }

    /// Handles the addresses of a seed that is a name.
    pub(crate) fn handle_resolved(&mut self, seed: &str, addresses: &[SocketAddr], now: Instant) {
        let interval = self.heartbeats.schedule().announced();
        self.joining.handle_resolved(seed, addresses, &self.peers.me, interval, now);
    }

    /// Handles that a seed cannot be looked up.
    pub(crate) fn handle_unresolved(&mut self, seed: &str, reason: &str, ctx: &mut Ctx) {
        self.joining.handle_unresolved(seed, reason, ctx);
    }

    /// Puts members that are known from elsewhere into the table. They are not gossiped.
    pub(crate) fn preload(&mut self, members: &[Member], ctx: &Ctx) {
        let members_max = ctx.config.membership.members_max as usize;
        for member in members.iter().filter(|member| member.id != self.peers.me.id).take(members_max) {
            self.peers.table.preload(ctx.now, member);
        }
        self.joining.preload();
        self.fill_observers();
    }

    /// Puts out each heartbeat from now on.
    pub(crate) fn record(&mut self) {
        self.watching.record();
    }

    // ---- what this node publishes ---------------------------------------------------------------

    /// Whether this metadata may be published in place of the present.
    ///
    /// # Errors
    /// [`ConfigError::Contradiction`] if it changes the weight.
    pub(crate) fn check_metadata(&self, metadata: &Metadata) -> Result<(), ConfigError> {
        OwnProfile::check_metadata(metadata, &self.peers)
    }

    /// Publishes this metadata, which [`Cluster::check_metadata`] has accepted.
    /// What this node publishes of itself.
    pub(crate) fn metadata(&self) -> &Metadata {
        &self.peers.me.metadata
    }

    pub(crate) fn set_metadata(&mut self, metadata: Metadata, ctx: &mut Ctx) {
        OwnProfile::set_metadata(metadata, &mut self.peers, ctx);
    }

    /// Publishes that this node supervises a sharded group. It starts no shards for a lease: their
    /// present owners have to receive that.
    ///
    /// # Panics
    /// If it supervises [`GROUPS_MAX`](crate::member::GROUPS_MAX) already.
    pub(crate) fn announce(&mut self, sharded: ShardGroup, ctx: &mut Ctx) {
        self.profile.announce(sharded, &mut self.peers, ctx);
        if let Some(quorum) = &mut self.quorum {
            quorum.delay_starts(ctx.now);
        }
    }

    /// Publishes which shards this node cannot run, by group.
    pub(crate) fn set_declined(&mut self, declined: &BTreeMap<u64, BTreeSet<u32>>, ctx: &mut Ctx) {
        self.profile.set_declined(declined, &mut self.peers, ctx);
    }

    /// Publishes the groups of this node: it has a session at the authority. Returns whether that
    /// changes what it may own.
    pub(crate) fn publish_groups(&mut self, ctx: &mut Ctx) -> bool {
        self.profile.publish_groups(&mut self.peers, ctx)
    }

    /// Withholds the groups of this node: it has no session at the authority. Returns whether that
    /// changes what it may own.
    pub(crate) fn withhold_groups(&mut self, ctx: &mut Ctx) -> bool {
        self.profile.withhold_groups(&mut self.peers, ctx)
    }

    /// Publishes that this node supervises no sharded group any more.
    pub(crate) fn withdraw(&mut self, ctx: &mut Ctx) {
        self.profile.withdraw(&mut self.peers, ctx);
    }

    /// What this node publishes, or would publish, of a group.
    pub(crate) fn own_group(&self, group: u64) -> Option<&ShardGroup> {
        self.profile.groups(&self.peers).iter().find(|sharded| sharded.group == group)
    }

    // ---- shards ---------------------------------------------------------------------------------

    /// Nodes that may have owned shards since this was last asked, and are members no more.
    pub(crate) fn take_transient_owners(&mut self) -> Vec<(NodeId, Weight)> {
        std::mem::take(&mut self.transient_owners)
    }

    /// Processes that have certainly ended since this was last asked: name and generation.
    pub(crate) fn take_exited_processes(&mut self) -> Vec<(Arc<str>, Generation)> {
        self.inquiries.take_exited()
    }

    /// An epoch for owners found now: higher than `former`, and than any that this node knows.
    pub(crate) fn next_epoch(&mut self, former: Epoch, now: Instant) -> Epoch {
        self.out.clock.next_epoch(&self.peers.table, former, now)
    }

    /// Handles an epoch that was given out elsewhere: later ones of this node are higher.
    pub(crate) fn note_epoch(&mut self, epoch: Epoch) {
        self.out.clock.note(epoch);
    }

    /// Asks a node whether it still runs these shards.
    pub(crate) fn request_shards(&mut self, node: NodeId, number: u32, group: u64, indexes: &[u32]) {
        for some in indexes.chunks(crate::wire::ASKED_MAX) {
            let body = Body::Ask { number, group, indexes: some.to_vec().into() };
            self.out.send_to(&self.peers, node, Payload::Body(body));
        }
    }

    /// Sends a node the snapshot of a shard, or the answer that there is none.
    pub(crate) fn send_snapshot(
        &mut self,
        to: NodeId,
        number: u32,
        key: ShardKey,
        snapshot: Option<ShardSnapshot>,
        now: Instant,
    ) {
        let parcel = (number, key, snapshot);
        self.transfers.send(to, parcel, &mut self.streams, &self.peers, &mut self.out, now);
    }

    /// Sets how many bytes of snapshots there is room for, and how long one may be.
    pub(crate) fn set_room(&mut self, room: u64, snapshot_bytes_max: u32) {
        self.transfers.set_room(room, snapshot_bytes_max);
    }

    // ---- outputs --------------------------------------------------------------------------------

    /// The next message or stream for the driver. A message has yet to be written.
    pub(crate) fn poll_outgoing(&mut self) -> Option<Outgoing> {
        self.out.poll()
    }

    /// Writes a message into `buffer`. Returns whether there is anything to be sent.
    pub(crate) fn write(
        &mut self,
        payload: Payload,
        stream: Option<StreamId>,
        now: Instant,
        buffer: &mut Vec<u8>,
    ) -> bool {
        let (schedule, is_synced) = (self.heartbeats.schedule(), self.joining.is_synced(now));
        let mut encoding = Encoding { peers: &mut self.peers, schedule, is_synced, now };
        self.out.write(payload, stream, &mut encoding, buffer)
    }

    /// What another node sent about shards.
    pub(crate) fn poll_shard_message(&mut self) -> Option<ShardMessage> {
        self.transfers.poll_message()
    }

    // ---- questions ------------------------------------------------------------------------------

    /// The members as this node sees them.
    pub(crate) fn table(&self) -> &MemberTable {
        &self.peers.table
    }

    pub(crate) fn me(&self) -> NodeId {
        self.peers.me.id
    }

    /// How many heartbeats this node has sent.
    pub(crate) fn heartbeats_sent(&self) -> u64 {
        self.heartbeats.sent()
    }

    /// In how many zones no member is declared dead for its silence now.
    pub(crate) fn zones_disrupted(&self) -> usize {
        self.inquiries.zones_disrupted()
    }

    /// The local health of this node: 0 is well.
    pub(crate) fn health(&self) -> u8 {
        self.peers.health.score()
    }

    /// The members that watch this node, former observers included.
    pub(crate) fn observers(&self) -> impl Iterator<Item = NodeId> {
        self.peers.observers.slots().iter().map(|slot| slot.id)
    }

    /// The members that this node watches, and for how long each has been silent.
    pub(crate) fn watched(&self, ctx: &Ctx) -> impl Iterator<Item = (NodeId, Duration)> {
        self.watching.silences(ctx)
    }

    /// The same with what their detectors have learnt.
    pub(crate) fn links(&self, now: Instant, ctx: &Ctx) -> impl Iterator<Item = Link> {
        self.watching.links(now, ctx)
    }

    /// How improbable silences of a watched member are.
    pub(crate) fn curve(&self, id: NodeId, points: u32, ctx: &Ctx) -> Option<Vec<(Duration, f64)>> {
        self.watching.curve(id, points, ctx)
    }

    /// Whether this node has been admitted, or has begun a cluster, and its table is synced.
    pub(crate) fn is_joined(&self, now: Instant) -> bool {
        !self.superseded && !self.joining.is_waiting() && self.joining.is_synced(now)
    }

    /// Whether owners may be found in the table as it is at `now`.
    pub(crate) fn may_find_owners(&self, now: Instant) -> bool {
        !self.superseded && self.joining.is_synced(now) && !self.delays_starts()
    }

    /// Until when this node may own shards; `None` where it needs no quorum for that.
    pub(crate) fn lease_until(&self) -> Option<Instant> {
        self.quorum.as_ref().map(Quorum::until)
    }

    /// Whether this node's shards have to wait before they may start.
    pub(crate) fn delays_starts(&self) -> bool {
        self.quorum.as_ref().is_some_and(|quorum| !quorum.may_start())
    }

    /// Whether all snapshots have arrived at members.
    pub(crate) fn has_delivered(&self) -> bool {
        self.transfers.is_idle()
    }

    /// How many snapshots have yet to arrive at members.
    pub(crate) fn undelivered(&self) -> usize {
        self.transfers.undelivered()
    }

    /// The versions of the wire format that this node can use.
    pub(crate) fn wire_versions(&self) -> WireVersions {
        self.peers.me.wire_versions
    }

    /// The version of the wire format in which this node sends to members.
    pub(crate) fn wire_version(&self) -> u8 {
        self.out.version()
    }

    /// Whether a datagram is of this cluster.
    pub(crate) fn is_own_cluster(&self, header: Header) -> bool {
        self.out.is_own_cluster(header)
    }

    // ---- private --------------------------------------------------------------------------------

    /// Finds anew in which version this node sends to members.
    fn update_wire_version(&mut self, ctx: &mut Ctx) {
        let version = self.version_in_use.update(self.joining.is_synced(ctx.now), &self.peers, ctx);
        self.out.set_version(version);
    }

    fn header(&self, now: Instant) -> Header {
        self.out.header(&self.peers.me, self.joining.is_synced(now), now)
    }

    /// Closes this node's lifelines; gracefully unless a later process uses its name.
    fn close_lifelines(&mut self) {
        if self.superseded {
            self.streams.abort_lifelines(&mut self.out);
        } else {
            self.streams.close_lifelines(self.peers.me.id, &mut self.out);
        }
    }

    /// The inquiries, and what they use of the other rules.
    fn lend<'a>(&'a mut self, ctx: &'a mut Ctx) -> (&'a mut Inquiries, InquiryCtx<'a>) {
        let cx = InquiryCtx {
            watching: &mut self.watching,
            streams: &mut self.streams,
            refutations: &mut self.refutations,
            unconfirmed: &self.unconfirmed,
            quorum: self.quorum.as_ref(),
            peers: &mut self.peers,
            out: &mut self.out,
            ctx,
        };
        (&mut self.inquiries, cx)
    }
}
