//! The requests that workers of this node handle, and the connections that bring them.
//!
//! Bytes of another node are never trusted: a frame that is malformed, a number that does not rise,
//! a part of no request, more parts than fit into the window, each ends its connection and is
//! counted. The requests it brought get no response. A payload that announces more than
//! `message_bytes_max` is refused, and its parts are skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use super::connection::{Assembly, Connection, Incoming, Message, Phase};
use super::frame::{self, Frame, FrameError, PREFACE, RequestHead, Response};
use super::sending::too_large;
use super::timers::Timer;
use super::{
    ConnectionId, GREETING_FOR, Outcome, Output, RECONNECT_MAX, RECONNECT_MIN, Refusal, RequestId, Requests, ServedId,
    Target,
};
use crate::config::REQUESTS_WINDOW_MAX;
use crate::interruption::Interruption;
use crate::member::Epoch;
use crate::time::Instant;

/// Requests of other nodes that workers of this node have, from all connections together.
const SERVED_MAX: usize = 65_536;

/// Targets of one connection that are served or were refused; a peer with more is cut off.
const LANES_MAX: usize = 65_536;

/// Requests of one connection that are skipped at a time, since they are too large. A sender stops
/// when it gets the refusal, so more are no oversight.
const SKIPPED_MAX: usize = 1_024;

/// Responses that wait to be written to one connection; a peer with more is cut off.
const RESPONSES_MAX: usize = REQUESTS_WINDOW_MAX as usize;

/// A request that a worker of this node has.
#[derive(Clone, Debug)]
struct Served {
    origin: Origin,
}

/// Where it came from.
#[derive(Clone, Debug)]
enum Origin {
    /// From this node: it waited until the shard came here.
    Own(RequestId),
    /// From another node.
    Connection { connection: ConnectionId, number: u64, target: Target, round: u32 },
}

/// The requests that workers of this node have.
#[derive(Clone, Debug, Default)]
pub(super) struct Serving {
    next: u64,
    served: BTreeMap<ServedId, Served>,
    /// By connection and number, to find a request that is forsaken.
    numbers: BTreeMap<(ConnectionId, u64), ServedId>,
}

impl Serving {
    /// Requests that workers of this node have.
    pub(super) fn count(&self) -> u32 {
        self.served.len() as u32
    }

    fn begin(&mut self, origin: Origin) -> ServedId {
        let id = ServedId(self.next);
        self.next += 1;
        if let Origin::Connection { connection, number, .. } = &origin {
            self.numbers.insert((*connection, *number), id);
        }
        self.served.insert(id, Served { origin });
        id
    }

    pub(super) fn begin_own(&mut self, id: RequestId) -> ServedId {
        self.begin(Origin::Own(id))
    }

    fn end(&mut self, id: ServedId) -> Option<Origin> {
        let served = self.served.remove(&id)?;
        if let Origin::Connection { connection, number, .. } = &served.origin {
            self.numbers.remove(&(*connection, *number));
        }
        Some(served.origin)
    }

    #[cfg(test)]
    pub(super) fn served_len(&self) -> usize {
        self.served.len()
    }

    pub(super) fn forget(&mut self, id: ServedId) {
        let _ = self.end(id); // It may have ended already.
    }
}

impl Requests {
    // ---- connections ---------------------------------------------------------------------------

    pub(super) fn handle_accepted(&mut self, number: ConnectionId, from: IpAddr) {
        let mut connection = Connection::new(None, false, Phase::Greeting);
        connection.from = Some(from.to_canonical());
        self.connections.insert(number, connection);
        self.timers.insert((self.now + GREETING_FOR, Timer::Greeting(number)));
    }

    pub(super) fn handle_connected(&mut self, number: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.phase = Phase::Greeting;
            self.dirty.insert(number);
        }
    }

    pub(super) fn handle_written(&mut self, number: ConnectionId, bytes: usize) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.wrote(bytes);
        self.dirty.insert(number);
    }

    pub(super) fn handle_read(&mut self, number: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let mut begun = std::mem::take(&mut connection.unread);
        let mut rest = bytes;
        if !connection.has_preface {
            let missing = (PREFACE.len() - begun.len()).min(rest.len());
            begun.extend_from_slice(&rest[..missing]);
            if begun.len() < PREFACE.len() {
                connection.unread = begun;
                return;
            }
            if begun != PREFACE {
                return self.close_malformed(number);
            }
            connection.has_preface = true;
            begun.clear();
            rest = &rest[missing..];
        }
        match self.read_frames(number, begun, rest) {
            Ok(unread) => {
                if let Some(connection) = self.connections.get_mut(&number) {
                    connection.unread = unread;
                }
            }
            Err(_error) => self.close_malformed(number),
        }
    }

    /// Handles all whole frames; returns the bytes of the next one. `begun`: those of the first one
    /// that arrived before.
    fn read_frames(
        &mut self,
        number: ConnectionId,
        mut begun: Vec<u8>,
        mut rest: &[u8],
    ) -> Result<Vec<u8>, FrameError> {
        while !begun.is_empty() {
            // Only the one frame is joined: what follows it is read where it is.
            let missing = frame::missing(&begun)?;
            if missing == 0 {
                self.read_frame(number, &begun[frame::LENGTH_BYTES..])?;
                begun.clear();
            } else if rest.is_empty() {
                return Ok(begun);
            } else {
                let (next, later) = rest.split_at(missing.min(rest.len()));
                begun.extend_from_slice(next);
                rest = later;
            }
        }
        while let Some((one, taken)) = frame::next(rest)? {
            self.read_frame(number, one)?;
            rest = &rest[taken..];
        }
        begun.extend_from_slice(rest);
        Ok(begun)
    }

    fn read_frame(&mut self, number: ConnectionId, bytes: &[u8]) -> Result<(), FrameError> {
        let frame = frame::decode(bytes, self.me)?;
        self.handle_frame(number, frame)
    }

    fn close_malformed(&mut self, number: ConnectionId) {
        self.counters.malformed += 1;
        self.close(number, &Interruption::ConnectionLost);
    }

    fn handle_frame(&mut self, number: ConnectionId, frame: Frame<'_>) -> Result<(), FrameError> {
        let Some(connection) = self.connections.get(&number) else { return Ok(()) };
        let (is_outbound, phase, host) = (connection.is_outbound, connection.phase, connection.from);
        match frame {
            Frame::Hello { cluster, from, generation } if !is_outbound && phase == Phase::Greeting => {
                let is_member = cluster == self.cluster
                    && self.peers.get(&from).is_some_and(|peer| {
                        let is_it = peer.generation == generation && Some(peer.address.ip()) == host;
                        peer.status.is_member() && is_it
                    });
                self.greet(number, is_member.then_some(from));
                Ok(())
            }
            Frame::Welcome { .. } if is_outbound && phase == Phase::Greeting => {
                self.open(number);
                Ok(())
            }
            Frame::Goodbye => {
                self.close(number, &Interruption::ConnectionLost);
                Ok(())
            }
            Frame::Request { head, total, part } if !is_outbound && phase == Phase::Open => {
                self.handle_request(number, head, total, part)
            }
            Frame::RequestPart { number: request, part } if !is_outbound && phase == Phase::Open => {
                self.handle_request_part(number, request, part)
            }
            Frame::Forsake { number: request } if !is_outbound && phase == Phase::Open => {
                self.handle_forsake(number, request);
                Ok(())
            }
            Frame::Deadline { number: request, left_ms } if !is_outbound && phase == Phase::Open => {
                self.handle_deadline(number, request, left_ms);
                Ok(())
            }
            Frame::Response { number: request, response, total, part } if is_outbound && phase == Phase::Open => {
                self.handle_response(number, request, response, total, part)
            }
            Frame::ResponsePart { number: request, part } if is_outbound && phase == Phase::Open => {
                self.handle_response_part(number, request, part)
            }
            Frame::Hello { .. }
            | Frame::Welcome { .. }
            | Frame::Request { .. }
            | Frame::RequestPart { .. }
            | Frame::Forsake { .. }
            | Frame::Response { .. }
            | Frame::ResponsePart { .. }
            | Frame::Deadline { .. } => Err(FrameError::Field("kind")),
        }
    }

    /// Lets a member's requests in, or says goodbye to a node that is none.
    fn greet(&mut self, number: ConnectionId, from: Option<crate::member::NodeId>) {
        let generation = self.generation;
        let Some(connection) = self.connections.get_mut(&number) else { return };
        match from {
            Some(node) => {
                (connection.peer, connection.phase) = (Some(node), Phase::Open);
                connection.push(Message::Welcome { generation });
                self.dirty.insert(number);
            }
            None => {
                connection.push(Message::Goodbye);
                self.write_one(number);
                self.close(number, &Interruption::ConnectionLost);
            }
        }
    }

    fn open(&mut self, number: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.phase = Phase::Open;
        self.dirty.insert(number);
        if let Some(peer) = connection.peer.and_then(|node| self.peers.get_mut(&node)) {
            peer.failures = 0;
        }
    }

    /// Closes a connection from this side.
    pub(super) fn close(&mut self, number: ConnectionId, why: &Interruption) {
        if self.connections.contains_key(&number) {
            self.outputs.push_back(Output::Close { connection: number });
            self.end_connection(number, why);
        }
    }

    pub(super) fn close_idle(&mut self, number: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        match connection.idle_since.map(|since| since + self.config.idle_after) {
            Some(due) if due <= self.now => self.close(number, &Interruption::ConnectionLost),
            Some(due) => drop(self.timers.insert((due, Timer::Idle(number)))),
            None => connection.has_idle_timer = false,
        }
    }

    /// A connection is gone. What it never carried waits again; what it may have carried is
    /// interrupted.
    pub(super) fn end_connection(&mut self, number: ConnectionId, why: &Interruption) {
        let Some(connection) = self.connections.remove(&number) else { return };
        self.dirty.remove(&number);
        if !connection.is_outbound {
            let of_connection: Vec<ServedId> =
                self.serving.numbers.range((number, 0)..=(number, u64::MAX)).map(|(_, served)| *served).collect();
            for served in of_connection {
                self.serving.forget(served);
                self.outputs.push_back(Output::Withdraw { served });
            }
            return;
        }
        let (unsent, sent) = (connection.unsent(), connection.sent.clone());
        if let Some(node) = connection.peer
            && let Some(peer) = self.peers.get_mut(&node)
        {
            (peer.connection, peer.under_way, peer.under_way_bytes) = (None, 0, 0);
            if connection.phase != Phase::Open {
                let pause = RECONNECT_MIN.saturating_mul(1 << peer.failures.min(6)).min(RECONNECT_MAX);
                peer.failures = peer.failures.saturating_add(1);
                peer.not_before = self.now + pause;
                self.timers.insert((peer.not_before, Timer::Peer(node)));
            }
        }
        let mut targets = BTreeSet::new();
        for id in &unsent {
            targets.extend(self.pending.get(id).map(|pending| pending.target.clone()));
            self.hold_again(*id, false);
        }
        for id in sent.into_values() {
            self.finish(id, Outcome::Interrupted(why.clone()));
        }
        // Their shards may have another owner by now, and this was what they still waited for.
        targets.iter().for_each(|target| self.pump(target));
        if let Some(node) = connection.peer {
            self.pump_node(node);
            if self.peers.get(&node).is_some_and(|peer| !peer.status.is_member()) {
                self.peers.remove(&node);
            }
        }
    }

    /// Gives all writers what they may have.
    pub(super) fn write(&mut self) {
        while let Some(number) = self.dirty.pop_first() {
            self.write_one(number);
        }
    }

    fn write_one(&mut self, number: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let pieces = connection.write(self.now);
        let is_idle = connection.is_outbound && connection.is_idle();
        connection.idle_since = is_idle.then(|| connection.idle_since.unwrap_or(self.now));
        if is_idle && !connection.has_idle_timer {
            connection.has_idle_timer = true;
            self.timers.insert((self.now + self.config.idle_after, Timer::Idle(number)));
        }
        self.outputs.extend(pieces.into_iter().map(|bytes| Output::Write { connection: number, bytes }));
    }

    // ---- requests of other nodes ---------------------------------------------------------------

    fn handle_request(
        &mut self,
        number: ConnectionId,
        head: RequestHead,
        total: u32,
        part: &[u8],
    ) -> Result<(), FrameError> {
        let window_bytes = self.config.window_bytes.max(self.config.message_bytes_max);
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        if connection.newest.is_some_and(|newest| head.number <= newest) {
            return Err(FrameError::Field("number"));
        }
        connection.newest = Some(head.number);
        if part.len() > total as usize {
            return Err(FrameError::Field("total"));
        }
        let bytes_max = self.config.message_bytes_max;
        if total as usize > bytes_max {
            let left = total - part.len() as u32;
            if left > 0 {
                connection.skipped.insert(head.number, left);
            }
            if connection.skipped.len() > SKIPPED_MAX {
                return Err(FrameError::Field("total"));
            }
            let (lane, refusal) = ((&head.target, head.round, Epoch(0)), too_large(total as usize, bytes_max));
            self.respond(number, head.number, lane, Outcome::Refused(refusal));
            return Ok(());
        }
        let (deadline, request) = (head.left_ms.map(|left| self.now + millis(left)), head.number);
        let assembly = Assembly::new(Incoming { head, deadline }, total, part);
        if assembly.is_complete() {
            let (incoming, payload) = assembly.into_parts();
            self.serve(number, incoming, payload);
            return Ok(());
        }
        connection.assembling_bytes += assembly.total();
        if connection.assembling_bytes > window_bytes {
            return Err(FrameError::Field("parts"));
        }
        connection.requests.insert(request, assembly);
        Ok(())
    }

    fn handle_request_part(&mut self, number: ConnectionId, request: u64, part: &[u8]) -> Result<(), FrameError> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        if let Some(left) = connection.skipped.get_mut(&request) {
            let bytes = part.len() as u32;
            if bytes == 0 || bytes > *left {
                return Err(FrameError::Field("part"));
            }
            *left -= bytes;
            if *left == 0 {
                connection.skipped.remove(&request);
            }
            return Ok(());
        }
        let assembly = connection.requests.get_mut(&request).ok_or(FrameError::Field("number"))?;
        if part.is_empty() || !assembly.push(part) {
            return Err(FrameError::Field("part"));
        }
        if assembly.is_complete()
            && let Some(assembly) = connection.requests.remove(&request)
        {
            connection.assembling_bytes -= assembly.total();
            let (incoming, payload) = assembly.into_parts();
            self.serve(number, incoming, payload);
        }
        Ok(())
    }

    /// Hands a request to its worker, or refuses it.
    fn serve(&mut self, number: ConnectionId, incoming: Incoming, payload: Bytes) {
        let Incoming { head, deadline } = incoming;
        if let Some(refusal) = self.why_refused(number, &head, deadline) {
            let lane = (&head.target, head.round, Epoch(0));
            return self.respond(number, head.number, lane, Outcome::Refused(refusal));
        }
        let RequestHead { number: request, target, round, message, trace, .. } = head;
        let origin = Origin::Connection { connection: number, number: request, target: target.clone(), round };
        let served = self.serving.begin(origin);
        let epoch = self.own_epoch(&target);
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.serving += 1;
            let lane = connection.lanes.entry(target.clone()).or_default();
            lane.serving += 1;
            lane.epoch = epoch;
        }
        self.outputs.push_back(Output::Deliver { served, target, epoch, message, payload, deadline, trace });
    }

    /// The epoch under which this node owns a shard, as its own view has it; zero if it does not.
    fn own_epoch(&self, target: &Target) -> Epoch {
        let Target::Shard { group, index } = target else { return Epoch(0) };
        let owner = self.owners.get(&(*group, *index)).filter(|(node, _)| *node == self.me);
        owner.map_or(Epoch(0), |(_, epoch)| *epoch)
    }

    fn why_refused(&self, number: ConnectionId, head: &RequestHead, deadline: Option<Instant>) -> Option<Refusal> {
        let connection = self.connections.get(&number)?;
        if let Target::Shard { group, index } = &head.target {
            let is_owner = self.owners.get(&(*group, *index)).is_some_and(|(node, _)| *node == self.me);
            let epoch = self.own_epoch(&head.target);
            let lane = connection.lanes.get(&head.target).copied().unwrap_or_default();
            let is_behind = lane.refused_round == Some(head.round);
            // Under another epoch the worker has another queue, which could overtake the first one.
            let is_split = lane.serving > 0 && lane.epoch != epoch;
            if !is_owner || head.epoch > epoch || is_behind || is_split {
                return Some(Refusal::NotOwner { known: epoch });
            }
        }
        if deadline.is_some_and(|deadline| deadline <= self.now) {
            return Some(Refusal::Expired);
        }
        // A node that does not read its responses gets no further ones that are large.
        let (_, waiting_bytes) = connection.waiting();
        let is_full = connection.serving >= self.config.window.saturating_mul(2)
            || self.serving.served.len() >= SERVED_MAX
            || waiting_bytes >= self.config.window_bytes;
        is_full.then_some(Refusal::Full)
    }

    fn handle_forsake(&mut self, number: ConnectionId, request: u64) {
        if let Some(served) = self.serving.numbers.get(&(number, request)) {
            self.outputs.push_back(Output::Withdraw { served: *served });
        }
        // The sender writes no further part.
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.skipped.remove(&request);
        if let Some(assembly) = connection.requests.remove(&request) {
            connection.assembling_bytes -= assembly.total();
        }
    }

    fn handle_deadline(&mut self, number: ConnectionId, request: u64, left_ms: u32) {
        let deadline = self.now + millis(left_ms);
        if let Some(served) = self.serving.numbers.get(&(number, request)) {
            self.outputs.push_back(Output::Deadline { served: *served, deadline });
        }
        let assembly = self.connections.get_mut(&number).and_then(|connection| connection.requests.get_mut(&request));
        if let Some(assembly) = assembly {
            assembly.head.deadline = Some(deadline);
        }
    }

    pub(super) fn handle_served(&mut self, served: ServedId, outcome: Outcome) {
        match self.serving.end(served) {
            Some(Origin::Own(id)) => self.conclude(id, outcome),
            Some(Origin::Connection { connection, number, target, round }) => {
                let mut epoch = Epoch(0);
                if let Some(connection) = self.connections.get_mut(&connection) {
                    connection.serving = connection.serving.saturating_sub(1);
                    if let Some(lane) = connection.lanes.get_mut(&target) {
                        lane.serving = lane.serving.saturating_sub(1);
                        epoch = lane.epoch;
                        if lane.serving == 0 && lane.refused_round.is_none() {
                            connection.lanes.remove(&target);
                        }
                    }
                }
                self.respond(connection, number, (&target, round, epoch), outcome);
            }
            None => {}
        }
    }

    fn respond(
        &mut self,
        connection: ConnectionId,
        number: u64,
        (target, round, epoch): (&Target, u32, Epoch),
        outcome: Outcome,
    ) {
        let none = Bytes::new();
        let (response, payload) = match outcome {
            Outcome::Handled(bytes) if bytes.len() > self.config.message_bytes_max => {
                (Response::Interrupted(Interruption::AnswerTooLarge), none)
            }
            Outcome::Handled(bytes) => (Response::Handled { epoch }, bytes),
            Outcome::Refused(refusal) => (Response::Refused(refusal), none),
            Outcome::Interrupted(why) => (Response::Interrupted(why), none),
            // The sender's own clock has said so already.
            Outcome::TimedOut => (Response::Refused(Refusal::Expired), none),
        };
        let Some(found) = self.connections.get_mut(&connection) else { return };
        if matches!(response, Response::Refused(Refusal::NotOwner { .. })) {
            found.lanes.entry(target.clone()).or_default().refused_round = Some(round);
            if found.lanes.len() > LANES_MAX {
                return self.close_malformed(connection);
            }
        }
        // No node has more requests under way, so this one does not read.
        if found.waiting().0 > RESPONSES_MAX {
            return self.close_malformed(connection);
        }
        found.push(Message::Response { number, response, payload });
        self.dirty.insert(connection);
    }

    // ---- responses -----------------------------------------------------------------------------

    fn handle_response(
        &mut self,
        number: ConnectionId,
        request: u64,
        response: Response,
        total: u32,
        part: &[u8],
    ) -> Result<(), FrameError> {
        if part.len() > total as usize || (total > 0 && !matches!(response, Response::Handled { .. })) {
            return Err(FrameError::Field("total"));
        }
        if total as usize > self.config.message_bytes_max {
            let response = Response::Interrupted(Interruption::AnswerTooLarge);
            self.take_response(number, request, response, Bytes::new());
            return Ok(());
        }
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        let assembly = Assembly::new(response, total, part);
        if !assembly.is_complete() {
            // Parts of a response without a waiting request are dropped as they arrive.
            if connection.sent.contains_key(&request) {
                connection.responses.insert(request, assembly);
            }
            return Ok(());
        }
        let (response, payload) = assembly.into_parts();
        self.take_response(number, request, response, payload);
        Ok(())
    }

    fn handle_response_part(&mut self, number: ConnectionId, request: u64, part: &[u8]) -> Result<(), FrameError> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(()) };
        let Some(assembly) = connection.responses.get_mut(&request) else { return Ok(()) };
        if part.is_empty() || !assembly.push(part) {
            return Err(FrameError::Field("part"));
        }
        if assembly.is_complete()
            && let Some(assembly) = connection.responses.remove(&request)
        {
            let (response, payload) = assembly.into_parts();
            self.take_response(number, request, response, payload);
        }
        Ok(())
    }

    fn take_response(&mut self, number: ConnectionId, request: u64, response: Response, payload: Bytes) {
        let sent = self.connections.get(&number).and_then(|connection| connection.sent.get(&request).copied());
        let Some(id) = sent else {
            self.counters.late += 1;
            return;
        };
        // What a refusal says may be an estimate: only a worker shows under which epoch it runs.
        if let Response::Handled { epoch } = response {
            self.learn_epoch(id, epoch);
        }
        self.conclude(
            id,
            match response {
                Response::Handled { .. } => Outcome::Handled(payload),
                Response::Refused(refusal) => Outcome::Refused(refusal),
                Response::Interrupted(why) => Outcome::Interrupted(why),
            },
        );
    }
}

fn millis(count: u32) -> Duration {
    Duration::from_millis(count.into())
}
