//! `Cluster`: this node among the others: whom it sends heartbeats, whom it watches, and what it holds of them.
//!
//! In a school, each pupil says "here" to the teacher, and the teacher tells the class who is missing. Here the teacher is the monitor: every
//! node sends it a heartbeat each interval, it answers each with what is new in the table of members, and tells everyone at once when
//! the table changes. A node therefore hears from the monitor as often as it speaks, and notices its silence as the monitor notices a node's.
//!
//! A node that finds itself called suspect raises its incarnation and says so at once; one that finds itself called dead has lost its shards
//! to others, drops them, and comes back under a higher incarnation.
//!
//! The version of the table starts at the monitor's generation (wall-clock milliseconds) shifted left by 20 bits, so that the table of a
//! restarted monitor counts on from higher numbers, and epochs taken from it never go back. A monitor that has just started does not call its
//! view whole for two intervals: its members have yet to introduce themselves again.
//!
//! What this version does not do: there is one monitor, and what it says is believed.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{ClusterConfig, Config};
use crate::desk::Desk;
use crate::detector::{AnyDetector, Pause, Verdict};
use crate::event::Event;
use crate::member::{Epoch, Generation, Incarnation, Member, NodeId, Role, Status, Target, name_hash};
use crate::membership::{Heard, Membership, Refusal};
use crate::monitor::{Change, Sign, WatchId};
use crate::output::Output;
use crate::supervision::EPOCH_BITS;
use crate::time::{Instant, nanos};
use crate::trace::Arrived;
use crate::wire::{self, Answer, Body, Datagram, Entry, Header, Heartbeat, Join, Observers};

/// Who this node is; decided by its caller, since a name needs a config and a generation a clock.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Which start of the process: wall-clock milliseconds.
    pub generation: Generation,
    /// Where others reach us.
    pub address: SocketAddr,
}

/// A datagram to be sent, encoded only when it is handed out, from what is known then.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Letter {
    Heartbeat,
    Join,
    Leave,
    Introduce,
    /// What is new since this version, in answer to the heartbeat of this slot (zero: to none).
    Answer {
        since: u64,
        slot: u64,
    },
}

/// What the engine has to do after the cluster took something in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Follow {
    Nothing,
    /// The view is whole and may have changed: find the owners anew.
    Settle,
    /// Others may own what this node holds: give it all up, then find the owners anew if the view is whole.
    Void,
}

/// This node among the others.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    me: NodeId,
    address: SocketAddr,
    generation: Generation,
    incarnation: Incarnation,
    /// Lower half of the hash of the cluster's name; in every datagram.
    name: u32,
    role: Role,
    monitor: SocketAddr,
    membership: Membership,
    /// Of those we watch: all members if we are the monitor, else the monitor alone.
    links: BTreeMap<NodeId, Link>,
    /// The monitor's id, once it has answered.
    monitor_id: Option<NodeId>,
    /// The monitor's generation, once it has answered.
    monitor_generation: Generation,
    /// Number of the next slot of our schedule, from 1.
    slot: u64,
    /// When that is.
    slot_at: Instant,
    /// From the slot just sent to the next, as its heartbeat announces.
    announced: Duration,
    /// First slot of the present interval; what the slots before it were due at is not known any more.
    announced_from: u64,
    /// An announcement of a longer interval that nobody is known to have heard.
    unheard: Option<Unheard>,
    /// Whether somebody wants to know of each heartbeat.
    is_recorded: bool,
    /// Slots we slept through.
    slept: u64,
    /// The monitor's version that we hold; zero is none.
    view: u64,
    /// When the newest heartbeat was due that the monitor is known to have had: it cannot have called us dead before a timeout after that.
    proven: Instant,
    /// If we are the monitor: until when the view is not called whole.
    settled_at: Instant,
    /// Nodes that came and went between two views we saw: what they owned meanwhile has had another owner since.
    passed: Vec<NodeId>,
    /// Whether the monitor's table holds this life of ours as a member. Until it does we own nothing, whatever we see of the others.
    admitted: bool,
    /// Whether the latest answer left nothing out.
    whole: bool,
    /// Whether the monitor answers, once we know.
    connected: Option<bool>,
    /// Since when we try to reach the monitor, before its first answer.
    started: Instant,
    pub(crate) letters: VecDeque<(SocketAddr, Letter)>,
}

/// The announcement of a longer interval, until it is known to be heard.
#[derive(Clone, Debug)]
struct Unheard {
    /// The former interval.
    every: Duration,
    again_at: Instant,
    /// How often it may be said again.
    left: u32,
}

/// How often a longer interval is announced again: all of them are lost one time in sixty thousand where every other datagram is.
const ANNOUNCEMENTS_MAX: u32 = 16;

#[derive(Clone, Debug)]
struct Link {
    watch: WatchId,
    /// If we are the monitor: the version this member holds.
    view: u64,
}

impl Cluster {
    pub(crate) fn new(config: &Config, cluster: &ClusterConfig, identity: Identity, now: Instant) -> Cluster {
        let me = Member {
            id: NodeId::of(&cluster.node),
            name: Arc::from(&*cluster.node),
            address: identity.address,
            role: cluster.role,
            generation: identity.generation,
            incarnation: Incarnation(0),
            status: Status::Alive,
        };
        Cluster {
            me: me.id,
            address: identity.address,
            generation: identity.generation,
            incarnation: Incarnation(0),
            name: name_hash(&cluster.name) as u32,
            role: cluster.role,
            monitor: cluster.monitors[0],
            membership: Membership::new(me, identity.generation.0 << EPOCH_BITS, now),
            links: BTreeMap::new(),
            monitor_id: None,
            monitor_generation: Generation(0),
            slot: 1,
            slot_at: now,
            announced: config.interval,
            announced_from: 1,
            unheard: None,
            is_recorded: false,
            slept: 0,
            view: 0,
            proven: now,
            settled_at: now + config.interval * 2,
            passed: Vec::new(),
            admitted: false,
            whole: false,
            connected: None,
            started: now,
            letters: VecDeque::new(),
        }
    }

    /// Says of each heartbeat from now on that it came in.
    pub(crate) fn record(&mut self) {
        self.is_recorded = true;
    }

    /// The members as this node sees them.
    pub(crate) fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Nodes that came and went since this was last asked.
    pub(crate) fn take_passed(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.passed)
    }

    pub(crate) fn me(&self) -> NodeId {
        self.me
    }

    /// The epoch of owners found in the present view.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(if self.role == Role::Monitor { self.membership.version() } else { self.view })
    }

    /// Whether owners may be found in the view as it is at `now`.
    pub(crate) fn is_whole(&self, now: Instant) -> bool {
        match self.role {
            Role::Monitor => now >= self.settled_at,
            Role::Worker => self.admitted && self.whole,
        }
    }

    /// When `beat` has something to do next.
    pub(crate) fn next_slot(&self) -> Instant {
        self.unheard.as_ref().map_or(self.slot_at, |unheard| unheard.again_at.min(self.slot_at))
    }

    /// Sends the heartbeats of the slot that has come, if one has.
    pub(crate) fn beat(&mut self, desk: &mut Desk) {
        if desk.now < self.slot_at {
            return self.announce_again(desk.now);
        }
        // Slots that passed while we slept are named as such and not made up for.
        let missed = nanos(desk.now - self.slot_at) / nanos(self.announced).max(1);
        self.slot += missed;
        self.slept += missed;
        self.slot_at += self.announced.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX));
        self.announce(desk);
        match self.role {
            Role::Worker => {
                self.letters.push_back((self.monitor, Letter::Heartbeat));
                self.watch_for_first_answer(desk);
            }
            Role::Monitor => self.membership.reap(desk.now, &desk.config.membership),
        }
        self.slot += 1;
        self.slot_at += self.announced;
    }

    /// Lets the interval of the config hold from this slot on.
    fn announce(&mut self, desk: &Desk) {
        let (former, interval) = (self.announced, desk.config.interval);
        self.unheard = None;
        if interval == former {
            return;
        }
        (self.announced, self.announced_from) = (interval, self.slot);
        if interval > former && self.role == Role::Worker {
            let again_at = self.slot_at + former;
            self.unheard = Some(Unheard { every: former, again_at, left: ANNOUNCEMENTS_MAX });
        }
    }

    /// Says once more that the next heartbeat will take longer, as often as heartbeats came until now: whoever missed it would wait in vain.
    fn announce_again(&mut self, now: Instant) {
        let Some(unheard) = &mut self.unheard else { return };
        if now < unheard.again_at {
            return;
        }
        self.letters.push_back((self.monitor, Letter::Heartbeat));
        unheard.again_at = now + unheard.every;
        unheard.left -= 1;
        if unheard.left == 0 {
            self.unheard = None;
        }
    }

    /// Takes a pause of our own out of what is timed here: a monitor that has yet to answer us, and members that have yet to introduce
    /// themselves to us.
    pub(crate) fn excuse(&mut self, pause: Pause) {
        self.started += pause.to - pause.from;
        self.settled_at = pause.excuse(self.settled_at, Duration::ZERO);
    }

    /// Says goodbye.
    pub(crate) fn leave(&mut self) {
        match self.role {
            // Three times, since nobody acknowledges it and we shall not be there to repeat it; a lost goodbye costs a timeout.
            Role::Worker => self.letters.extend([(self.monitor, Letter::Leave); 3]),
            Role::Monitor => {
                let others = self.membership.addresses().filter(|(id, _)| *id != self.me);
                self.letters.extend(others.flat_map(|(_, address)| [(address, Letter::Leave); 3]));
            }
        }
    }

    /// Takes in one datagram, already found to be of our cluster and not our own.
    pub(crate) fn receive(&mut self, from: SocketAddr, datagram: &Datagram<'_>, desk: &mut Desk) -> Follow {
        let header = datagram.header;
        match &datagram.body {
            Body::Heartbeat(heartbeat) if self.role == Role::Monitor => self.heard(from, header, heartbeat, desk),
            Body::Join(join) if self.role == Role::Monitor => self.admit(from, header, join, desk),
            Body::Leave { .. } if self.role == Role::Monitor => self.left(header, desk),
            Body::Leave { .. } if from == self.monitor => {
                // The monitor goes in good order; there is no other in this version, so we wait for its successor.
                self.judge_monitor(Duration::ZERO, desk);
                Follow::Nothing
            }
            Body::Introduce if from == self.monitor => {
                // It does not know us, or no more; until it does we are no member.
                self.admitted = false;
                self.letters.push_back((self.monitor, Letter::Join));
                Follow::Nothing
            }
            Body::Answer(answer) if from == self.monitor => self.learn(header, answer, desk),
            // Not for our role, or not from our monitor: nobody we believe.
            Body::Heartbeat(_) | Body::Join(_) | Body::Leave { .. } | Body::Introduce | Body::Answer(_) => {
                Follow::Nothing
            }
        }
    }

    /// Takes in a verdict of the monitor structure on a node.
    pub(crate) fn judge(&mut self, id: NodeId, change: Change, desk: &mut Desk) -> Follow {
        if self.role == Role::Worker {
            if change.to == Verdict::Dead {
                self.judge_monitor(change.silence, desk);
            }
            return Follow::Nothing;
        }
        let (status, silent_for) = match change.to {
            Verdict::Alive => return Follow::Nothing, // `heard` has said so already.
            Verdict::Suspect => (Status::Suspect, change.silence),
            Verdict::Dead => (Status::Dead, change.silence),
        };
        if !self.membership.judge(desk.now, id, status) {
            return Follow::Nothing;
        }
        if let Some(member) = self.membership.member(id) {
            let node = member.name.clone();
            desk.tell(match status {
                Status::Dead => Event::Died { node, silent_for },
                Status::Alive | Status::Suspect | Status::Left => Event::Suspected { node, silent_for },
            });
        }
        self.tell_everyone();
        Follow::Settle
    }

    /// Writes a letter into `buffer`.
    pub(crate) fn write(&self, letter: Letter, now: Instant, buffer: &mut Vec<u8>) {
        let header = Header { cluster: self.name, from: self.me, generation: self.generation };
        match letter {
            Letter::Heartbeat => {
                let heartbeat = Heartbeat {
                    incarnation: self.incarnation,
                    slot: self.slot - 1,
                    interval: self.announced,
                    slept: self.slept,
                    view: self.view,
                    observers: Observers::new(self.monitor_id),
                };
                wire::encode_heartbeat(buffer, header, &heartbeat);
            }
            Letter::Join => {
                let name = self.membership.member(self.me).map_or("", |me| &me.name);
                let join = Join { incarnation: self.incarnation, role: self.role, address: self.address, name };
                wire::encode_join(buffer, header, &join);
            }
            Letter::Leave => wire::encode_leave(buffer, header, self.incarnation),
            Letter::Introduce => wire::encode_introduce(buffer, header),
            Letter::Answer { since, slot } => {
                let changes = self.membership.changes_since(since);
                let settled = now >= self.settled_at;
                wire::encode_answer(buffer, header, (slot, since), self.membership.version(), settled, changes);
            }
        }
    }

    /// Whether a datagram that came from outside is meant for us.
    pub(crate) fn is_ours(&self, header: Header) -> bool {
        header.cluster == self.name
    }

    // ---- the monitor's side --------------------------------------------------------------------------------------------------------------

    fn heard(&mut self, from: SocketAddr, header: Header, heartbeat: &Heartbeat, desk: &mut Desk) -> Follow {
        let version = self.membership.version();
        let (generation, incarnation) = (header.generation, heartbeat.incarnation);
        let heard = self.membership.hear(desk.now, header.from, generation, incarnation, heartbeat.view);
        let Some(member) = self.membership.member(header.from) else {
            self.letters.push_back((from, Letter::Introduce));
            return Follow::Nothing;
        };
        let (node, home, current) = (member.name.clone(), member.address, member.generation);
        match heard {
            Heard::Unknown => {
                self.letters.push_back((from, Letter::Introduce));
                return Follow::Nothing;
            }
            Heard::Old => {
                if header.generation < current {
                    // The row of its successor tells an older process of this name to end.
                    let since = heartbeat.view.min(self.membership.changed(header.from) - 1);
                    self.letters.push_back((from, Letter::Answer { since, slot: 0 }));
                }
                return Follow::Nothing;
            }
            Heard::Dead => {
                // Tell it of its own death, whatever version it says it holds.
                let since = heartbeat.view.min(self.membership.changed(header.from) - 1);
                self.letters.push_back((home, Letter::Answer { since, slot: 0 }));
                return Follow::Nothing;
            }
            Heard::Alive | Heard::Cleared | Heard::Returned => {}
        }
        let Heartbeat { slot, interval, slept, .. } = *heartbeat;
        let sign = Sign { at: desk.now, slot, interval, slept, waited: desk.waited };
        if heard == Heard::Returned {
            self.watch(header.from, heartbeat.interval, desk);
        }
        let link = self.links.get_mut(&header.from).expect("every member is watched");
        link.view = heartbeat.view;
        let silent_for = desk.monitor.silence(link.watch, desk.now);
        desk.monitor.heartbeat(link.watch, sign);
        if self.is_recorded {
            let node = node.clone();
            desk.put(Output::Arrived(Arrived { node, generation, at: desk.now, slot, interval }));
        }
        if heard == Heard::Cleared {
            // A refutation comes outside the schedule and has no slot of its own; it is a sign of life all the same.
            desk.monitor.renew(link.watch, desk.now);
            desk.tell(Event::Cleared { node, silent_for });
        } else if heard == Heard::Returned {
            let incarnation = heartbeat.incarnation;
            desk.tell(Event::Returned { node, incarnation });
        }
        self.letters.push_back((home, Letter::Answer { since: heartbeat.view, slot: heartbeat.slot }));
        if self.membership.version() == version {
            return Follow::Nothing;
        }
        self.tell_everyone();
        Follow::Settle
    }

    fn admit(&mut self, from: SocketAddr, header: Header, join: &Join<'_>, desk: &mut Desk) -> Follow {
        match self.membership.admit(desk.now, header.from, header.generation, join, &desk.config.membership) {
            Ok(true) => {
                self.watch(header.from, desk.config.interval, desk);
                if let Some(member) = self.membership.member(header.from) {
                    desk.tell(Event::Joined { member: member.clone() });
                }
                self.tell_everyone();
                Follow::Settle
            }
            Ok(false) => {
                // Known already: the answer to its join was lost, or it has yet to learn of its death.
                self.letters.push_back((from, Letter::Answer { since: 0, slot: 0 }));
                Follow::Nothing
            }
            Err(refusal) => {
                let reason = refusal.to_string().into();
                desk.tell(Event::Refused { address: from, reason });
                if matches!(refusal, Refusal::Superseded(_)) {
                    // The row of its successor tells it to end.
                    let since = self.membership.changed(header.from) - 1;
                    self.letters.push_back((from, Letter::Answer { since, slot: 0 }));
                }
                Follow::Nothing
            }
        }
    }

    fn left(&mut self, header: Header, desk: &mut Desk) -> Follow {
        let Some(member) = self.membership.member(header.from) else { return Follow::Nothing };
        let (node, current) = (member.name.clone(), member.generation == header.generation);
        if !current || !self.membership.judge(desk.now, header.from, Status::Left) {
            return Follow::Nothing;
        }
        if let Some(link) = self.links.remove(&header.from) {
            desk.monitor.unwatch(link.watch);
        }
        desk.tell(Event::Left { node });
        self.tell_everyone();
        Follow::Settle
    }

    /// Watches a node from `now` on, in the place of whatever was held of it.
    fn watch(&mut self, id: NodeId, interval: Duration, desk: &mut Desk) {
        if let Some(link) = self.links.remove(&id) {
            desk.monitor.unwatch(link.watch);
        }
        let detector = AnyDetector::new(&desk.config.detector, interval, desk.now);
        let watch = desk.monitor.watch(Target::Node(id), detector, desk.config.timeout, desk.now);
        self.links.insert(id, Link { watch, view: 0 });
    }

    fn tell_everyone(&mut self) {
        for (id, address) in self.membership.addresses() {
            if let Some(link) = self.links.get(&id) {
                self.letters.push_back((address, Letter::Answer { since: link.view, slot: 0 }));
            }
        }
    }

    // ---- the other nodes' side -----------------------------------------------------------------------------------------------------------

    fn learn(&mut self, header: Header, answer: &Answer<'_>, desk: &mut Desk) -> Follow {
        if header.generation < self.monitor_generation {
            return Follow::Nothing; // A delayed answer of the monitor's former life.
        }
        let mut follow = Follow::Nothing;
        if header.generation > self.monitor_generation {
            // The former monitor may have called us dead, and given our shards away, without our hearing of it before it ended. An interval
            // is left for clocks that differ.
            if desk.now - self.proven > desk.config.timeout.saturating_sub(desk.config.interval) {
                follow = Follow::Void;
            }
            // Another table starts; what the former monitor said is over once the new one's view is whole.
            self.monitor_generation = header.generation;
            self.monitor_id = Some(header.from);
            self.view = 0;
            self.admitted = false;
            self.whole = false;
            self.watch(header.from, desk.config.interval, desk);
            self.membership.clear_but(self.me);
        }
        if self.hear_of_slot(header.from, answer.slot, desk) && self.connected != Some(true) {
            self.connected = Some(true);
            desk.tell(Event::Connected { monitor: self.monitor });
        }
        let successor = answer.entries.iter().find(|row| row.id == self.me && row.generation > self.generation);
        if let Some(row) = successor {
            return self.hear_of_myself(&row, answer.settled, follow, desk);
        }
        // Overtaken by a newer one; or meant for a former process at this address, who held what this one does not.
        if answer.version < self.view || answer.since > self.view {
            return follow;
        }
        for entry in answer.entries.iter() {
            if entry.id == self.me {
                follow = self.hear_of_myself(&entry, answer.settled, follow, desk);
            } else if let Some((before, after)) = self.membership.apply(desk.now, &entry, &desk.config.membership) {
                if !owns(Some(&after)) && !owns(before.as_ref()) && is_other_life(before.as_ref(), &after) {
                    self.passed.push(after.id);
                }
                tell(before.as_ref(), &after, desk);
            }
        }
        let progress = answer.version > self.view;
        self.view = answer.version;
        self.whole = !answer.more && answer.settled;
        if answer.more {
            if progress {
                // Ask for the rest at once; the answer to this is the next part.
                self.letters.push_back((self.monitor, Letter::Heartbeat));
            }
        } else if follow == Follow::Nothing && self.is_whole(desk.now) {
            follow = Follow::Settle;
        }
        follow
    }

    /// Takes in that the monitor lives, and that it has had our heartbeat of this slot; 0 if it answers none. Its answers come at our own pace, so
    /// our slots are theirs. Returns whether that is news: an answer that is repeated, or was overtaken, says nothing of how the monitor is now.
    fn hear_of_slot(&mut self, monitor: NodeId, slot: u64, desk: &mut Desk) -> bool {
        let is_ours = (1..self.slot).contains(&slot);
        if is_ours && slot >= self.announced_from {
            let ago = u32::try_from(self.slot - slot).unwrap_or(u32::MAX);
            self.proven = self.proven.max(self.slot_at - self.announced.saturating_mul(ago));
            self.unheard = None;
        }
        let Some(link) = self.links.get(&monitor) else { return false };
        let is_news = !is_ours || slot > desk.monitor.slot(link.watch);
        if is_ours {
            let (interval, slept, waited) = (self.announced, self.slept, desk.waited);
            desk.monitor.heartbeat(link.watch, Sign { at: desk.now, slot, interval, slept, waited });
            if self.is_recorded
                && let Some(member) = self.membership.member(monitor)
            {
                let (node, generation) = (member.name.clone(), member.generation);
                desk.put(Output::Arrived(Arrived { node, generation, at: desk.now, slot, interval }));
            }
        } else {
            desk.monitor.life(link.watch, desk.now);
        }
        is_news
    }

    /// Takes in what the keeper of the table says of this node, in a view that is `settled` or not.
    fn hear_of_myself(&mut self, row: &Entry<'_>, settled: bool, follow: Follow, desk: &mut Desk) -> Follow {
        let (incarnation, status) = (row.incarnation, row.status);
        if row.generation > self.generation {
            self.admitted = false;
            desk.tell(Event::Superseded { generation: row.generation });
            return Follow::Void;
        }
        if row.generation < self.generation {
            return follow;
        }
        let was_admitted = std::mem::replace(&mut self.admitted, status.is_member());
        // Others may have acted on a settled view without us, and owned what we hold; what we hold from before is over.
        let follow = if self.admitted && !was_admitted && settled { Follow::Void } else { follow };
        let refutable = match status {
            Status::Alive | Status::Left => return follow,
            // An older doubt was answered already; an older death was not, whatever else we said meanwhile: others have our shards.
            Status::Suspect => incarnation >= self.incarnation,
            Status::Dead => true,
        };
        if !refutable {
            return follow;
        }
        self.incarnation = self.incarnation.max(Incarnation(incarnation.0.saturating_add(1)));
        self.membership.raise(desk.now, self.me, self.incarnation);
        self.letters.push_back((self.monitor, Letter::Heartbeat));
        if status == Status::Dead {
            // Answers that were under way say it again.
            if was_admitted {
                desk.tell(Event::Buried { incarnation: self.incarnation });
            }
            return Follow::Void;
        }
        follow
    }

    fn judge_monitor(&mut self, silent_for: Duration, desk: &mut Desk) {
        if self.connected != Some(false) {
            self.connected = Some(false);
            desk.tell(Event::Isolated { monitor: self.monitor, silent_for });
        }
    }

    /// Before the first answer there is nobody to watch yet, only an address that does not answer.
    fn watch_for_first_answer(&mut self, desk: &mut Desk) {
        if self.connected.is_none() && desk.now - self.started > desk.config.timeout {
            self.judge_monitor(desk.now - self.started, desk);
        }
    }
}

/// Whether a node of this row may own shards.
fn owns(row: Option<&Member>) -> bool {
    row.is_some_and(|member| member.role == Role::Worker && member.status.is_member())
}

/// Whether a row tells of a life that the row before it did not know.
fn is_other_life(before: Option<&Member>, after: &Member) -> bool {
    let life = |member: &Member| (member.generation, member.incarnation);
    before.is_none_or(|before| life(before) < life(after))
}

/// The event that a change of a row amounts to.
fn tell(before: Option<&Member>, after: &Member, desk: &mut Desk) {
    let same_life = before.filter(|before| before.generation == after.generation).map(|before| before.status);
    let (node, silent_for) = (after.name.clone(), Duration::ZERO);
    desk.tell(match (same_life, after.status) {
        (None, Status::Alive | Status::Suspect) => Event::Joined { member: after.clone() },
        // Over before we knew of it: no news.
        (None, Status::Dead | Status::Left) => return,
        (Some(Status::Suspect), Status::Alive) => Event::Cleared { node, silent_for },
        (Some(Status::Dead | Status::Left), Status::Alive | Status::Suspect) => {
            Event::Returned { node, incarnation: after.incarnation }
        }
        (Some(Status::Alive), Status::Alive) => return,
        (Some(_), Status::Suspect) => Event::Suspected { node, silent_for },
        (Some(_), Status::Dead) => Event::Died { node, silent_for },
        (Some(_), Status::Left) => Event::Left { node },
    });
}
