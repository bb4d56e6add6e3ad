//! `Cluster`: this node among the others: whom it sends heartbeats, whom it watches, and what it
//! holds of them.
//!
//! In a village without a constable, each house has a few neighbours who look whether the lamp is
//! lit in the evening. One that sees no light knocks; if nobody opens it asks the other neighbours;
//! and the village hears of it from one to the next. Here the lamp is the heartbeat, to a few
//! observers that every node has (`observers`), the knock a probe, and what is told a rumour
//! (`gossip`). Where there is a constable after all (`mode = "central"`), the neighbours are the
//! monitors; nothing else differs.
//!
//! - `beat`: our heartbeats, and whether our observers answer.
//! - `watch`: the heartbeats of those who named us, and what follows when they do not come:
//!   [`watch`] asks, then suspects, then concludes.
//! - `join`: seeds, being admitted, and comparing tables.
//! - `heard`: processes that this node has only heard of.
//! - `lifeline`: the connections whose end is evidence.
//! - `deliveries`: snapshots of shards.
//! - `refutation`: what others hold of this node, and what it answers.
//! - `quorum`: whether enough of the others answer us, where shards may run in one place only.
//!
//! A node that finds itself called suspect raises its word and says so at once; one that finds
//! itself called dead has lost its shards to others, drops them, and comes back in the next life.
//!
//! `clock` has the logical clock, of which epochs are made.
//!
//! What this does not do: two sides of a partition both go on, and of two owners who did not know
//! of each other the later epoch is the one whose clock was ahead. Who may own is another question
//! than who lives, and is not settled by rumours.

pub(crate) mod brake;
mod clock;
pub(crate) mod gossip;
mod heard;
mod heartbeat;
pub(crate) mod heartbeat_schedule;
mod inquiry;
mod join;
mod lifeline;
pub(crate) mod local_health;
pub(crate) mod observers;
mod outbox;
mod peers;
mod quorum;
mod refutation;
mod settings;
pub mod table;
mod transfer;
mod watch;

pub use self::lifeline::StreamEvent;
pub(crate) use self::transfer::Mail;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use self::clock::Clock;
use self::heard::Heard;
use self::heartbeat::Answers;
use self::inquiry::{Inquiry, Waiting};
use self::join::{Joining, Pages};
use self::lifeline::Streams;
use self::outbox::Outbox;
use self::peers::Peers;
use self::quorum::Quorum;
use self::refutation::Refutations;
use self::settings::Settings;
use self::transfer::{Deliveries, Parcel};
use self::watch::Link;
use crate::config::{AuthorityKind, ClusterConfig, Config, ConfigError, Mode};
use crate::ctx::Ctx;
use crate::detection::Pause;
use crate::event::Event;
use crate::member::{
    DECLINED_BYTES_MAX, Declined, Epoch, GROUPS_MAX, Generation, Incarnation, Member, Metadata, NodeId, Profile, Role,
    ShardGroup, Status, Weight, canonical, name_hash,
};
use crate::membership::brake::Brakes;
use crate::membership::gossip::{FANOUT, Gossip};
use crate::membership::heartbeat_schedule::HeartbeatSchedule;
use crate::membership::local_health::LocalHealth;
use crate::membership::observers::Observers;
use crate::membership::table::{Change, MemberTable, Refusal};
use crate::output::StreamId;
use crate::time::{Instant, earliest};
use crate::wire::{self, Body, Datagram, Header, Row};

/// Who this node is; decided by its caller, since a name needs a config and a generation a clock.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Which start of the process: wall-clock milliseconds.
    pub generation: Generation,
    /// Where others reach us.
    pub address: SocketAddr,
}

/// A datagram to be sent, encoded only when it is handed out, from what is known then.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Payload {
    /// In this turn of the slot, with or without a request for an answer.
    Heartbeat {
        turn: u64,
        asks: bool,
    },
    /// To be encoded as it is.
    Say(Body<'static>),
    Join {
        token: u64,
    },
    Sync,
    /// Rows of these parts, from this id on; over a stream, page after page.
    Rows(Pages),
    /// These rows.
    Some(Vec<NodeId>),
    /// Rumours that are still fresh, if there are any.
    Push,
    /// What we hold of a member, first of all.
    About(NodeId),
    /// This part of a snapshot.
    Part {
        parcel: Parcel,
        offset: u32,
    },
}

/// What leaves this node.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Outgoing {
    Send { to: SocketAddr, letter: Payload },
    Open { stream: StreamId, to: SocketAddr },
    Frame { stream: StreamId, letter: Payload },
    Shut { stream: StreamId },
}

/// What the engine has to do after the cluster took something in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum OwnershipEffect {
    Nothing,
    /// The view is whole and may have changed: find the owners anew.
    Recompute,
    /// Others may own what this node holds: give it all up, then find the owners anew if the view
    /// is whole.
    Revoke,
}

/// This node among the others.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) out: Outbox,
    peers: Peers,
    lifelines: bool,
    slots: HeartbeatSchedule,
    /// Whom we watch.
    links: BTreeMap<NodeId, Link>,
    inquiries: BTreeMap<NodeId, Inquiry>,
    /// When each inquiry is to be looked at.
    inquiries_due: BTreeSet<(Instant, NodeId)>,
    /// Who waits for us to reach somebody.
    waiting: Vec<Waiting>,
    brakes: Brakes,
    brake_due: Option<Instant>,
    joining: Joining,
    streams: Streams,
    deliveries: Deliveries,
    quorum: Option<Quorum>,
    settings: Settings,
    /// The sharded groups of this node while it may own no shard, for want of a session at the
    /// authority. They are not told to others, so that others own their shards.
    withheld: Option<Vec<ShardGroup>>,
    refutations: Refutations,
    heard: Heard,
    /// Nodes that came and went between two looks at the view: what they owned meanwhile has had
    /// another owner since.
    passed: Vec<(NodeId, Weight)>,
    /// Processes that were seen to have ended.
    ended: Vec<(Arc<str>, Generation)>,
    /// Another process speaks under our name.
    superseded: bool,
    /// Whether somebody wants to know of each heartbeat.
    is_recorded: bool,
}

impl Cluster {
    pub(crate) fn new(config: &Config, cluster: &ClusterConfig, identity: Identity, ctx: &mut Ctx) -> Cluster {
        let now = ctx.now;
        let profile = Profile {
            name: Arc::from(&*cluster.node),
            address: canonical(identity.address),
            role: cluster.role,
            zone: Arc::from(&*cluster.zone),
            metadata: cluster.metadata.clone(),
            groups: Vec::new(),
            revision: 1,
        };
        let me = Member {
            id: NodeId::of(&cluster.node),
            profile: Arc::new(profile),
            generation: identity.generation,
            incarnation: Incarnation::default(),
            status: Status::Alive,
        };
        // Spread over a redraw's time, so that nodes started together do not all redraw together.
        let redraw_at = now + config.membership.redraw / 2 + ctx.random.duration_below(config.membership.redraw);
        let out = Outbox {
            queue: VecDeque::new(),
            clock: Clock::new(identity.generation.0, now),
            number: ctx.random.next_u64() as u32,
            cluster: name_hash(&cluster.name) as u32,
            epoch_min: Epoch(config.ownership.epoch_min),
        };
        let joining = Joining::new(config, cluster, &me, ctx);
        let peers = Peers {
            mode: cluster.mode,
            table: MemberTable::new(me.clone(), now),
            gossip: Gossip::default(),
            observers: Observers::new(me.id, config.membership.observers as usize, redraw_at),
            answers: Answers::new(now),
            health: LocalHealth::default(),
            me,
        };
        Cluster {
            out,
            peers,
            lifelines: config.membership.lifelines,
            slots: HeartbeatSchedule::new(config.interval, now),
            links: BTreeMap::new(),
            inquiries: BTreeMap::new(),
            inquiries_due: BTreeSet::new(),
            waiting: Vec::new(),
            brakes: Brakes::default(),
            brake_due: None,
            joining,
            streams: Streams::default(),
            deliveries: Deliveries::default(),
            quorum: Quorum::new(config, now),
            settings: Settings::default(),
            withheld: match config.ownership.authority {
                AuthorityKind::View => None,
                AuthorityKind::File | AuthorityKind::Etcd => Some(Vec::new()),
            },
            refutations: Refutations::default(),
            heard: Heard::default(),
            passed: Vec::new(),
            ended: Vec::new(),
            superseded: false,
            is_recorded: false,
        }
    }

    // ---- questions -----------------------------------------------------------------------------------------------------------------------

    /// The members as this node sees them.
    pub(crate) fn membership(&self) -> &MemberTable {
        &self.peers.table
    }

    pub(crate) fn me(&self) -> NodeId {
        self.peers.me.id
    }

    /// Our local health: 0 is well.
    pub(crate) fn health(&self) -> u8 {
        self.peers.health.score()
    }

    /// Who watches this node, former observers included.
    pub(crate) fn observers(&self) -> impl Iterator<Item = NodeId> {
        self.peers.observers.places().iter().map(|place| place.id)
    }

    /// Whom this node watches, and for how long it has heard nothing of them.
    pub(crate) fn watched(&self, ctx: &Ctx) -> impl Iterator<Item = (NodeId, Duration)> {
        self.links.iter().map(|(&id, link)| (id, ctx.monitor.silence(link.watch, ctx.now)))
    }

    /// Whether this node has been let in, or has begun a cluster itself, and its table is whole.
    pub(crate) fn is_joined(&self, now: Instant) -> bool {
        !self.superseded && !self.joining.is_waiting() && self.joining.is_whole(now)
    }

    /// Whether owners may be found in the view as it is at `now`.
    pub(crate) fn is_whole(&self, now: Instant) -> bool {
        !self.superseded && self.joining.is_whole(now) && !self.holds_starts()
    }

    /// When `tick` has something to do next, while nobody is judged before `held_until`.
    pub(crate) fn next_due(&self, held_until: Instant) -> Instant {
        if self.superseded {
            return Instant::NEVER;
        }
        let soon = [
            self.peers.gossip.due().filter(|_| !self.peers.table.others().is_empty()),
            self.inquiries_due.first().map(|(due, _)| (*due).max(held_until)),
            self.waiting.first().map(|waiting| waiting.until),
            self.peers.observers.next_release(),
            self.brake_due.map(|due| due.max(held_until)),
            self.peers.answers.again_at(),
            self.streams.next_due(),
            self.deliveries.next_due(),
            self.quorum.as_ref().map(Quorum::next_due),
            self.refutations.next_due(),
            self.heard.next_due(),
        ];
        let turn = self.slots.due(|turn| self.peers.observers.turn_from(turn));
        earliest(turn.min(self.peers.observers.redraw_at()).min(self.joining.next_due()), soon)
    }

    // ---- inputs --------------------------------------------------------------------------------------------------------------------------

    /// Says of each heartbeat from now on that it came in.
    pub(crate) fn record(&mut self) {
        self.is_recorded = true;
    }

    /// Nodes that came and went since this was last asked.
    pub(crate) fn take_passed(&mut self) -> Vec<(NodeId, Weight)> {
        std::mem::take(&mut self.passed)
    }

    /// Takes a pause of our own out of what is timed here.
    pub(crate) fn excuse(&mut self, pause: Pause, ctx: &mut Ctx) {
        self.peers.health.worsen();
        self.peers.answers.excuse(pause);
        self.joining.excuse(pause);
        let patience = self.patience(ctx);
        self.ask_all_again(ctx);
        for waiting in &mut self.waiting {
            waiting.until = waiting.until.max(ctx.now + patience);
        }
    }

    /// Does whatever is due. While verdicts are `held`, nobody is judged.
    pub(crate) fn tick(&mut self, held: bool, ctx: &mut Ctx) -> OwnershipEffect {
        if self.superseded {
            return OwnershipEffect::Nothing;
        }
        self.beat(ctx);
        self.poll(ctx);
        self.change_observers(ctx);
        let mut follow = OwnershipEffect::Nothing;
        if !held {
            follow = self.look_at_inquiries(ctx);
            self.look_at_brakes(ctx);
        }
        self.answer_those_who_wait(ctx);
        self.look_for_others(ctx);
        self.look_at_heard(ctx);
        self.look_at_streams(ctx);
        if self.deliveries.next_due().is_some_and(|due| due <= ctx.now) {
            self.look_at_deliveries(ctx.now);
        }
        self.say_what_waits(ctx.now);
        self.pass_on(ctx);
        follow
    }

    /// Says goodbye.
    pub(crate) fn leave(&mut self, ctx: &mut Ctx) {
        self.peers.me.status = Status::Left;
        self.peers.table.speak(ctx.now, self.peers.me.clone());
        let about = Payload::About(self.peers.me.id);
        // Three times to those who watch us, since nobody acknowledges it and we shall not be there
        // to repeat it; a lost goodbye costs a timeout.
        let watch = self.peers.observers.places().iter().filter_map(|place| self.peers.table.member(place.id));
        let told: Vec<SocketAddr> = watch.flat_map(|member| [member.address; 3]).collect();
        for to in told {
            self.send(to, about.clone());
        }
        for _ in 0..2 * FANOUT {
            if let Some(to) = self.peers.table.draw(&mut ctx.random).map(|member| member.address) {
                self.send(to, about.clone());
            }
        }
        // If nobody watches us, all have to be told.
        if self.peers.observers.places().is_empty() {
            let all: Vec<SocketAddr> = self.addresses().collect();
            for to in all.into_iter().flat_map(|to| [to; 3]) {
                self.send(to, about.clone());
            }
        }
        self.close_lifelines();
    }

    /// Tells others something else of this node from now on.
    ///
    /// # Errors
    /// It may not change the weight. Others go by what they see of us: a weight that came and went
    /// between two of their looks would have given a shard to another owner and back, and the one
    /// who has it would not know that its epoch is passed.
    pub(crate) fn set_metadata(&mut self, metadata: Metadata, ctx: &mut Ctx) -> Result<(), ConfigError> {
        let (is, would_be) = (self.peers.me.weight(), Weight::said_in(&metadata).unwrap_or_default());
        if is != would_be {
            let (is, would_be) = (is.get(), would_be.get());
            let reason = format!("the metadata has the weight {would_be}; this process began with {is} and keeps it");
            return Err(ConfigError::Contradiction(reason));
        }
        self.say(|profile| profile.metadata = metadata, ctx);
        Ok(())
    }

    /// Tells others that this node supervises a sharded group, so that it may own shards of it.
    ///
    /// # Panics
    /// If it supervises [`GROUPS_MAX`] already.
    pub(crate) fn announce(&mut self, sharded: ShardGroup, ctx: &mut Ctx) {
        assert!(self.groups().len() < GROUPS_MAX, "more than {GROUPS_MAX} sharded groups");
        self.change_groups(|groups| groups.push(sharded), ctx);
        // Whoever owns its shards now has to hear of it.
        self.wait_for_a_lease(ctx.now);
    }

    /// Tells others which shards this node cannot run, by group, in place of what it said before.
    pub(crate) fn set_declined(&mut self, declined: &BTreeMap<u64, BTreeSet<u32>>, ctx: &mut Ctx) {
        let declines = |sharded: &ShardGroup| declined.get(&sharded.group).is_some_and(|shards| !shards.is_empty());
        let groups = self.groups().iter().filter(|sharded| declines(sharded)).count().max(1);
        // Each group that declines nothing takes a byte.
        let bytes_max = (DECLINED_BYTES_MAX - GROUPS_MAX) / groups;
        let change = |groups: &mut Vec<ShardGroup>| {
            for sharded in groups {
                let shards = declined.get(&sharded.group);
                sharded.declined =
                    shards.map(|shards| Declined::of(shards, sharded.count, bytes_max)).unwrap_or_default();
            }
        };
        self.change_groups(change, ctx);
    }

    /// What this node says of a group that it supervises.
    pub(crate) fn said_of(&self, group: u64) -> Option<&ShardGroup> {
        self.groups().iter().find(|sharded| sharded.group == group)
    }

    /// Tells others whether this node has the right to own shards: whether it has a session at the
    /// authority. Returns whether that changes what it may own.
    pub(crate) fn set_right(&mut self, has_right: bool, ctx: &mut Ctx) -> bool {
        match (has_right, self.withheld.take()) {
            (true, None) => false,
            (false, withheld @ Some(_)) => {
                self.withheld = withheld;
                false
            }
            (true, Some(groups)) => {
                let is_news = !groups.is_empty();
                if is_news {
                    self.say(|profile| profile.groups = groups, ctx);
                }
                is_news
            }
            (false, None) => {
                let groups = self.peers.me.groups.clone();
                let is_news = !groups.is_empty();
                if is_news {
                    self.say(|profile| profile.groups.clear(), ctx);
                }
                self.withheld = Some(groups);
                is_news
            }
        }
    }

    /// Tells others that this node supervises no sharded group any more, so that they take its
    /// shards over.
    pub(crate) fn withdraw(&mut self, ctx: &mut Ctx) {
        if !self.groups().is_empty() {
            self.change_groups(Vec::clear, ctx);
        }
    }

    /// Processes that were seen to have ended since this was last asked: name and generation.
    pub(crate) fn take_ended(&mut self) -> Vec<(Arc<str>, Generation)> {
        std::mem::take(&mut self.ended)
    }

    /// Takes in one datagram of `length` bytes, already found to be of our cluster.
    pub(crate) fn receive(
        &mut self,
        from: SocketAddr,
        length: usize,
        datagram: &Datagram<'_>,
        ctx: &mut Ctx,
    ) -> OwnershipEffect {
        let header = datagram.header;
        if header.from == self.peers.me.id {
            return self.hear_namesake(from, header, ctx);
        }
        let mut follow = self.meet(from, header, ctx);
        match &datagram.body {
            Body::Join(join) => return follow.max(self.hear_join(from, header, join, ctx)),
            Body::Challenge { token } => {
                self.hear_challenge(from, *token);
                return follow;
            }
            Body::Introduce => {
                self.hear_introduce(from, ctx.now);
                return follow;
            }
            Body::Refused(refused) => return self.hear_refused(from, *refused, ctx),
            _ => {}
        }
        let known = self.peers.table.member(header.from).filter(|known| known.generation == header.generation);
        let Some(known) = known else {
            return self.hear_stranger(from, length, datagram, ctx);
        };
        let mut status = known.status;
        self.out.clock.hear(clock::clock_in(header), ctx.now);
        // A member's own heartbeat and echo say how it is, as a rumour would; nearly always what is
        // known.
        if let Body::Heartbeat(wire::Heartbeat { incarnation, .. }) | Body::Echo(wire::Echo { incarnation, .. }) =
            datagram.body
            && incarnation != known.incarnation
        {
            let (id, generation) = (header.from, header.generation);
            let note = Row { id, status: Status::Alive, generation, incarnation, revision: 0, details: None };
            follow = follow.max(self.hear_of(header.from, &note, ctx));
            status = self.status_of(id, status);
        }
        if datagram.rumours.count > 0 {
            follow = follow.max(self.hear_of_all(datagram, ctx));
            status = self.status_of(header.from, status);
        }
        follow.max(self.hear_member(header.from, status, datagram, ctx))
    }

    /// Writes a letter into `buffer`; false if there is nothing to be sent after all.
    pub(crate) fn write(
        &mut self,
        letter: Payload,
        stream: Option<StreamId>,
        now: Instant,
        buffer: &mut Vec<u8>,
    ) -> bool {
        let (header, is_push) = (self.header(now), matches!(letter, Payload::Push));
        let mut about = None;
        match letter {
            Payload::Join { token } => {
                wire::encode_join(buffer, self.join_header(now), token, &self.peers.me);
                return true;
            }
            Payload::Say(body @ (Body::Challenge { .. } | Body::Introduce | Body::Refused(_))) => {
                // Whoever is not known to receive there is told no more than this.
                wire::encode(buffer, header, &body);
                return true;
            }
            Payload::Rows(pages) => {
                self.write_rows(pages, stream, header, now, buffer);
                return true;
            }
            Payload::Part { parcel, offset } => {
                wire::encode(buffer, header, &Body::Part(parcel.part(offset)));
                return true;
            }
            Payload::Some(ids) => {
                let rows = wire::Rows { differing: 0, more: false, welcome: false, whole: self.joining.is_whole(now) };
                wire::encode(buffer, header, &Body::Rows(rows));
                let count_at = buffer.len() - 1;
                let members = ids.iter().filter_map(|&id| self.peers.table.member(id));
                members.take_while(|member| wire::push_rumour(buffer, count_at, member, true)).for_each(drop);
                return true;
            }
            Payload::Heartbeat { turn, asks } => {
                let heartbeat = wire::Heartbeat {
                    incarnation: self.peers.me.incarnation,
                    stage: self.slots.stage(turn),
                    interval: self.slots.announced(),
                    slept: self.slots.slept(),
                    health: self.peers.health.score(),
                    asks,
                    observers: self.peers.observers.named(),
                };
                wire::encode(buffer, header, &Body::Heartbeat(heartbeat));
            }
            Payload::Sync => wire::encode_sync(buffer, header, self.peers.table.digests()),
            Payload::Say(body) => wire::encode(buffer, header, &body),
            Payload::Push => wire::encode(buffer, header, &Body::Gossip),
            Payload::About(id) => {
                wire::encode(buffer, header, &Body::Gossip);
                about = Some(id);
            }
        }
        let count_at = buffer.len() - 1;
        if let Some(id) = about
            && let Some(member) = self.peers.table.member(id)
        {
            wire::push_rumour(buffer, count_at, member, id == self.peers.me.id);
        }
        let (membership, members) = (&self.peers.table, self.peers.table.others().len() + 1);
        self.peers.gossip.pick(members, |id, whole| match membership.member(id) {
            Some(member) => wire::push_rumour(buffer, count_at, member, whole),
            None => true,
        });
        !is_push || buffer[count_at] > 0
    }

    /// Whether a datagram that came from outside is meant for us.
    pub(crate) fn is_ours(&self, header: Header) -> bool {
        header.cluster == self.out.cluster
    }

    // ---- what is told of members ---------------------------------------------------------------------------------------------------------

    /// Takes in all that a datagram tells of members. One that a table has as over, and of which
    /// there was no rumour, may be so for long: that is no news.
    fn hear_of_all(&mut self, datagram: &Datagram<'_>, ctx: &mut Ctx) -> OwnershipEffect {
        let is_table = matches!(datagram.body, Body::Rows(_));
        let mut follow = OwnershipEffect::Nothing;
        for row in datagram.rumours.iter() {
            if self.is_only_heard_of(&row, datagram.header, ctx) {
                self.hear_of_process(&row, datagram.header.from, ctx.now);
                continue;
            }
            let is_unknown = self.peers.table.member(row.id).is_none();
            follow = follow.max(self.hear_of(datagram.header.from, &row, ctx));
            if is_table && is_unknown && !row.status.is_member() {
                self.peers.table.keep_to_ourselves(row.id);
                self.peers.gossip.drop(row.id);
            }
        }
        follow
    }

    /// Takes in what `from` tells of another member, or of us.
    fn hear_of(&mut self, from: NodeId, row: &Row<'_>, ctx: &mut Ctx) -> OwnershipEffect {
        if row.id == self.peers.me.id {
            return self.hear_of_myself(row, ctx);
        }
        match self.peers.table.merge(ctx.now, row, &ctx.config.membership) {
            Ok(None) => OwnershipEffect::Nothing,
            Ok(Some(change)) => self.changed(&change, Source::News(Some(from)), ctx),
            Err(refusal) => {
                self.refuse(refusal, row.details.map(|details| details.address), ctx);
                OwnershipEffect::Nothing
            }
        }
    }

    /// Another process of this name was started after us.
    fn give_way(&mut self, generation: Generation, address: Option<SocketAddr>, ctx: &mut Ctx) -> OwnershipEffect {
        if std::mem::replace(&mut self.superseded, true) {
            return OwnershipEffect::Nothing;
        }
        ctx.emit(Event::Superseded { generation, address });
        self.close_all_streams();
        OwnershipEffect::Revoke
    }

    /// Takes in a datagram under our own name: our own, or a namesake's.
    fn hear_namesake(&mut self, from: SocketAddr, header: Header, ctx: &mut Ctx) -> OwnershipEffect {
        if header.generation > self.peers.me.generation {
            return self.give_way(header.generation, Some(from), ctx);
        }
        if header.generation < self.peers.me.generation {
            self.send(from, Payload::Say(Body::Introduce));
        }
        OwnershipEffect::Nothing
    }

    /// The sharded groups of this node, told to others or not.
    fn groups(&self) -> &[ShardGroup] {
        self.withheld.as_deref().unwrap_or(&self.peers.me.groups)
    }

    /// Changes the sharded groups of this node, and tells others unless they are withheld.
    fn change_groups(&mut self, change: impl FnOnce(&mut Vec<ShardGroup>), ctx: &mut Ctx) {
        match &mut self.withheld {
            Some(groups) => change(groups),
            None => self.say(|profile| change(&mut profile.groups), ctx),
        }
    }

    /// Says something else of this node from now on.
    fn say(&mut self, change: impl FnOnce(&mut Profile), ctx: &mut Ctx) {
        let profile = Arc::make_mut(&mut self.peers.me.profile);
        profile.revision += 1;
        change(profile);
        self.speak(true, ctx.now);
        ctx.emit(Event::Updated { member: self.peers.me.clone() });
    }

    /// Puts down and spreads what this node says of itself.
    fn speak(&mut self, whole: bool, now: Instant) {
        self.peers.table.speak(now, self.peers.me.clone());
        self.peers.gossip.add(self.peers.me.id, whole, now);
    }

    /// Does what follows from a row that changed.
    fn changed(&mut self, change: &Change, source: Source, ctx: &mut Ctx) -> OwnershipEffect {
        let Change { before, after, unheard } = change;
        let (id, now) = (after.id, ctx.now);
        let same_process = before.as_ref().filter(|before| before.generation == after.generation);
        let is_known = same_process.is_some_and(|before| before.profile == after.profile);
        self.peers.gossip.add(id, !is_known, now);
        if let Source::News(from) = source {
            let told_by = from.and_then(|from| self.peers.table.member(from)).map(|member| member.name.clone());
            tell(before.as_ref(), after, told_by, ctx);
        }
        let (was, is) = (before.as_ref().is_some_and(|before| before.status.is_member()), after.status.is_member());
        if same_process.is_none() || !is {
            self.unwatch(id, ctx);
        }
        if let Some(quorum) = &mut self.quorum {
            match after.status {
                Status::Dead if was => quorum.bury(id, now),
                Status::Dead => {}
                Status::Alive | Status::Suspect | Status::Left => quorum.settle(id),
            }
        }
        if is && after.status == Status::Alive && before.as_ref().is_some_and(|before| before.status == Status::Suspect)
        {
            self.refuted(id, ctx);
        }
        if !is {
            self.streams_of_the_dead(id);
            self.cancel_deliveries(id);
            self.peers.observers.lose(id);
        } else if same_process.is_none() && before.is_some() {
            // A new process knows nothing of us: it is told, and its lifeline is another one.
            self.streams_of_the_dead(id);
            self.cancel_deliveries(id);
        }
        if is != was || same_process.is_none() {
            self.fill_places();
        }
        let is_new_life =
            is_other_life(before.as_ref(), after) && same_process.is_none_or(|before| !before.status.is_member());
        let (shared, shares) = (shares(before.as_ref()), shares(Some(after)));
        // It is over, and may have owned what it was not known to supervise.
        let said_more = *unheard || same_process.is_some_and(|before| before.groups != after.groups);
        let has_passed = !is && after.role == Role::Worker && (said_more || is_new_life);
        if has_passed {
            self.passed.push((id, after.weight()));
        }
        if shared != shares || is_new_life || has_passed {
            OwnershipEffect::Recompute
        } else {
            OwnershipEffect::Nothing
        }
    }

    /// Says that a row was refused, at most once an interval.
    fn refuse(&mut self, refusal: Refusal, from: Option<SocketAddr>, ctx: &mut Ctx) {
        if self.joining.may_complain(ctx) {
            let address = from.unwrap_or(self.peers.me.address);
            ctx.emit(Event::JoinRefused { address, reason: refusal.to_string().into() });
        }
    }

    /// Passes fresh rumours on to members drawn at random.
    fn pass_on(&mut self, ctx: &mut Ctx) {
        if self.peers.gossip.due().is_none_or(|due| due > ctx.now) || self.peers.table.others().is_empty() {
            return;
        }
        if !self.peers.gossip.begin_round(ctx.now) {
            return;
        }
        for _ in 0..FANOUT.min(self.peers.table.others().len()) {
            if let Some(to) = self.peers.table.draw(&mut ctx.random).map(|member| member.address) {
                self.send(to, Payload::Push);
            }
        }
    }

    // ---- small things --------------------------------------------------------------------------------------------------------------------

    fn send(&mut self, to: SocketAddr, letter: Payload) {
        self.out.queue.push_back(Outgoing::Send { to, letter });
    }

    /// Sends a letter to a member, if it is one.
    fn send_to(&mut self, id: NodeId, letter: Payload) {
        if let Some(to) = self.peers.table.member(id).map(|member| member.address) {
            self.send(to, letter);
        }
    }

    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.peers.table.others().iter().filter_map(|&id| self.peers.table.member(id)).map(|member| member.address)
    }

    /// The status of a member that was known to have this one.
    fn status_of(&self, id: NodeId, was: Status) -> Status {
        self.peers.table.member(id).map_or(was, |member| member.status)
    }

    fn next_number(&mut self) -> u32 {
        self.out.number = self.out.number.wrapping_add(1);
        self.out.number
    }

    /// Those who may observe.
    fn fill_places(&mut self) {
        let (mode, me) = (self.peers.mode, self.peers.me.id);
        let pool = self.peers.table.members().filter(move |member| may_observe(member, mode, me));
        let new = self.peers.observers.fill(pool);
        for id in new {
            self.open_lifeline(id);
        }
    }

    fn wait_for_a_lease(&mut self, now: Instant) {
        if let Some(quorum) = &mut self.quorum {
            quorum.wait(now);
        }
    }
}

/// Whether a member is in the pool of observers.
fn may_observe(member: &Member, mode: Mode, me: NodeId) -> bool {
    let is_fit = match mode {
        Mode::Random => true,
        Mode::Central => member.role == Role::Monitor,
    };
    is_fit && member.id != me && member.status.is_member()
}

/// What a node of this row may own shards of.
fn shares(row: Option<&Member>) -> Option<&[ShardGroup]> {
    row.filter(|member| member.role == Role::Worker && member.status.is_member()).map(|member| &*member.groups)
}

/// Whether a row tells of a life that the row before it did not know.
fn is_other_life(before: Option<&Member>, after: &Member) -> bool {
    let life = |member: &Member| (member.generation, member.incarnation.life);
    before.is_none_or(|before| life(before) < life(after))
}

/// Where a change of a row comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    /// A verdict of this node, whose event has left already.
    Verdict,
    /// News, from this member if it came from one.
    News(Option<NodeId>),
}

/// The event that a change of a row amounts to, where it is not of our own making.
fn tell(before: Option<&Member>, after: &Member, told_by: Option<Arc<str>>, ctx: &mut Ctx) {
    let same_process = before.filter(|before| before.generation == after.generation).map(|before| before.status);
    if let Some(before) = before.filter(|before| before.generation == after.generation) {
        if before.profile != after.profile && after.status.is_member() {
            ctx.emit(Event::Updated { member: after.clone() });
        }
        if (before.incarnation, before.status) == (after.incarnation, after.status) {
            return;
        }
    }
    let (node, silent_for, evidence) = (after.name.clone(), Duration::ZERO, Arc::from([]));
    // Of a later process only the end was heard: what was known of the former one is over with it.
    let was_member = before.is_some_and(|before| before.status.is_member());
    ctx.emit(match (same_process, after.status) {
        (None, Status::Alive | Status::Suspect) => Event::Joined { member: after.clone() },
        (None, Status::Dead) if was_member => Event::Died { node, silent_for, evidence, told_by },
        (None, Status::Left) if was_member => Event::Left { node },
        // Over before we knew of it: no news.
        (None, Status::Dead | Status::Left) => return,
        (Some(Status::Suspect), Status::Alive) => Event::Cleared { node },
        (Some(Status::Dead | Status::Left), Status::Alive | Status::Suspect) => {
            Event::Returned { node, incarnation: after.incarnation }
        }
        (Some(Status::Alive), Status::Alive) => return,
        (Some(_), Status::Suspect) => Event::Suspected { node, silent_for, evidence, told_by },
        (Some(_), Status::Dead) => Event::Died { node, silent_for, evidence, told_by },
        (Some(_), Status::Left) => Event::Left { node },
    });
}
