//! A connection for requests: what waits to be written to it, and payloads that arrive in parts.
//!
//! At most [`WRITE_AHEAD`] bytes are with the writer at a time. The rest waits here as whole
//! messages, so that it is known which requests a broken connection can have carried, and so that a
//! large message takes turns with the small ones, part by part.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use bytes::Bytes;

use crate::member::{Epoch, Generation, NodeId};
use crate::requests::frame::{self, Frame, PART_BYTES_MAX, PREFACE, RequestHead, Response};
use crate::requests::{RequestId, Target};
use crate::time::Instant;

/// Bytes that the writer of a connection has at a time.
pub(crate) const WRITE_AHEAD: usize = 256 << 10;

/// Smaller parts of payloads are copied, so that the writer has fewer pieces.
const SHARED_BYTES_MIN: usize = 8 << 10;

/// What waits to be written.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Hello {
        cluster: u32,
        from: NodeId,
        generation: Generation,
    },
    Welcome {
        generation: Generation,
    },
    Goodbye,
    Request {
        id: RequestId,
        /// The milliseconds left are filled in when it is written.
        head: RequestHead,
        deadline: Option<Instant>,
        payload: Bytes,
    },
    Forsake {
        number: u64,
    },
    Deadline {
        number: u64,
        deadline: Instant,
    },
    Response {
        number: u64,
        response: Response,
        payload: Bytes,
    },
    /// The rest of a payload.
    Parts {
        number: u64,
        of: PartOf,
        payload: Bytes,
        offset: usize,
    },
}

impl Message {
    /// Bytes of its payload that are not written yet.
    fn payload_bytes(&self) -> usize {
        match self {
            Message::Request { payload, .. } | Message::Response { payload, .. } => payload.len(),
            Message::Parts { payload, offset, .. } => payload.len() - offset,
            Message::Hello { .. } | Message::Welcome { .. } | Message::Goodbye => 0,
            Message::Deadline { .. } | Message::Forsake { .. } => 0,
        }
    }
}

/// What a part belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PartOf {
    Request,
    Response,
}

/// A payload that arrives in parts.
#[derive(Clone, Debug)]
pub(crate) struct Assembly<H> {
    pub(crate) head: H,
    total: usize,
    bytes: Vec<u8>,
}

impl<H> Assembly<H> {
    /// Begins with the first part. The space for all of them is there from the beginning, so that
    /// none is copied again; the caller bounds the total.
    pub(crate) fn new(head: H, total: u32, part: &[u8]) -> Assembly<H> {
        let mut bytes = Vec::with_capacity(total as usize);
        bytes.extend_from_slice(part);
        Assembly { head, total: total as usize, bytes }
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Adds a part. Whether it fits into the announced total.
    #[must_use]
    pub(crate) fn push(&mut self, part: &[u8]) -> bool {
        let fits = self.bytes.len() + part.len() <= self.total;
        if fits {
            self.bytes.extend_from_slice(part);
        }
        fits
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.bytes.len() >= self.total
    }

    pub(crate) fn into_parts(self) -> (H, Bytes) {
        (self.head, self.bytes.into())
    }
}

/// A request of another node, as its first frame had it.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    pub(crate) head: RequestHead,
    pub(crate) deadline: Option<Instant>,
}

/// A lane of another node, at the node that serves it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServedLane {
    /// The newest round in which a request was refused.
    pub(crate) refused_round: Option<u32>,
    /// The epoch under which workers have requests of it.
    pub(crate) epoch: Epoch,
    /// How many they have.
    pub(crate) serving: u32,
}

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// The driver connects it.
    Connecting,
    /// It is connected, and the first frame of the other side has not arrived.
    Greeting,
    /// Requests may pass.
    Open,
}

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    /// The other node; none until it has said so.
    pub(crate) peer: Option<NodeId>,
    pub(crate) is_outbound: bool,
    /// Inbound: the host that it comes from.
    pub(crate) from: Option<IpAddr>,
    pub(crate) phase: Phase,
    /// What waits for the writer.
    outbox: VecDeque<Message>,
    /// Bytes of the payloads in it.
    outbox_bytes: usize,
    /// Bytes that are with the writer.
    unwritten: usize,
    /// Outbound: since when nothing is under way.
    pub(crate) idle_since: Option<Instant>,
    /// Whether a timer looks after that.
    pub(crate) has_idle_timer: bool,
    /// Inbound: whether [`PREFACE`] has arrived.
    pub(crate) has_preface: bool,
    /// Bytes that do not make a frame yet.
    pub(crate) unread: Vec<u8>,
    /// Outbound: requests that the writer was given and that have no response, by their number on
    /// this connection.
    pub(crate) sent: BTreeMap<u64, RequestId>,
    /// Outbound: the number of the newest request.
    newest_sent: u64,
    /// Outbound: responses that arrive in parts.
    pub(crate) responses: BTreeMap<u64, Assembly<Response>>,
    /// Inbound: requests that arrive in parts.
    pub(crate) requests: BTreeMap<u64, Assembly<Incoming>>,
    /// Inbound: requests that were refused as too large, and how many of their bytes have not
    /// arrived.
    pub(crate) skipped: BTreeMap<u64, u32>,
    /// Inbound: the announced bytes of those that arrive in parts.
    pub(crate) assembling_bytes: usize,
    /// Inbound: the number of the newest request.
    pub(crate) newest: Option<u64>,
    /// Inbound: the lanes of that node whose requests are served, or were refused.
    pub(crate) lanes: BTreeMap<Target, ServedLane>,
    /// Inbound: requests that a worker has.
    pub(crate) serving: u32,
}

impl Connection {
    pub(crate) fn new(peer: Option<NodeId>, is_outbound: bool, phase: Phase) -> Connection {
        Connection {
            peer,
            is_outbound,
            from: None,
            phase,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            unwritten: 0,
            idle_since: None,
            has_idle_timer: false,
            has_preface: is_outbound,
            unread: Vec::new(),
            sent: BTreeMap::new(),
            newest_sent: 0,
            responses: BTreeMap::new(),
            requests: BTreeMap::new(),
            skipped: BTreeMap::new(),
            assembling_bytes: 0,
            newest: None,
            lanes: BTreeMap::new(),
            serving: 0,
        }
    }

    pub(crate) fn push(&mut self, message: Message) {
        self.outbox_bytes += message.payload_bytes();
        self.outbox.push_back(message);
    }

    /// How many messages wait to be written, and the bytes of their payloads.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.outbox.len(), self.outbox_bytes)
    }

    /// The number of the next request on this connection.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.newest_sent += 1;
        self.newest_sent
    }

    /// Whether nothing waits to be written and no request is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.outbox.is_empty() && self.sent.is_empty() && self.unwritten == 0
    }

    /// Takes a request out that the writer was not given.
    pub(crate) fn withdraw(&mut self, id: RequestId) -> bool {
        let is_it = |message: &Message| matches!(message, Message::Request { id: waiting, .. } if *waiting == id);
        let Some(place) = self.outbox.iter().position(is_it) else { return false };
        let message = self.outbox.remove(place);
        self.outbox_bytes -= message.map_or(0, |message| message.payload_bytes());
        true
    }

    /// Sets the deadline of a request that the writer was not given.
    pub(crate) fn set_deadline(&mut self, id: RequestId, set: Instant) {
        // Most often it is the newest one.
        for message in self.outbox.iter_mut().rev() {
            if let Message::Request { id: waiting, deadline, .. } = message
                && *waiting == id
            {
                *deadline = Some(set);
                return;
            }
        }
    }

    /// Tells the other node that a request's sender waits no more, which the writer had.
    pub(crate) fn forsake(&mut self, request: u64) {
        self.drop_rest(request);
        self.push(Message::Forsake { number: request });
    }

    /// The same for a request that has its response, if only a part of it was written.
    pub(crate) fn cut_short(&mut self, request: u64) {
        if self.drop_rest(request) {
            self.push(Message::Forsake { number: request });
        }
    }

    /// Drops the rest of a request that the writer has a part of. Whether there is one.
    fn drop_rest(&mut self, request: u64) -> bool {
        let is_rest = |message: &Message| matches!(message, Message::Parts { number, of: PartOf::Request, .. } if *number == request);
        let Some(place) = self.outbox.iter().position(is_rest) else { return false };
        let rest = self.outbox.remove(place);
        self.outbox_bytes -= rest.map_or(0, |rest| rest.payload_bytes());
        true
    }

    /// The requests that the writer was not given, in order.
    pub(crate) fn unsent(&self) -> Vec<RequestId> {
        let ids = self.outbox.iter().filter_map(|message| match message {
            Message::Request { id, .. } => Some(*id),
            Message::Hello { .. }
            | Message::Welcome { .. }
            | Message::Goodbye
            | Message::Forsake { .. }
            | Message::Deadline { .. }
            | Message::Response { .. }
            | Message::Parts { .. } => None,
        });
        ids.collect()
    }

    /// The writer has written this many bytes.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.unwritten = self.unwritten.saturating_sub(bytes);
    }

    /// What the writer may have now: any number of messages, in pieces.
    pub(crate) fn write(&mut self, now: Instant) -> Vec<Bytes> {
        let mut pieces = Pieces::default();
        if self.phase == Phase::Connecting {
            return pieces.end();
        }
        while self.unwritten + pieces.bytes() < WRITE_AHEAD {
            // Before the welcome only a greeting may pass.
            let may_pass = |message: &Message| {
                self.phase == Phase::Open || matches!(message, Message::Hello { .. } | Message::Goodbye)
            };
            if !self.outbox.front().is_some_and(may_pass) {
                break;
            }
            let Some(message) = self.outbox.pop_front() else { break };
            if let Message::Request { id, head, .. } = &message {
                self.sent.insert(head.number, *id);
            }
            self.outbox_bytes -= message.payload_bytes();
            if let Some(rest) = write(&mut pieces, message, now) {
                self.push(rest);
            }
        }
        self.unwritten += pieces.bytes();
        pieces.end()
    }
}

/// Bytes for the writer: small frames one after the other, and parts of large payloads as they are.
#[derive(Default)]
struct Pieces {
    ready: Vec<Bytes>,
    ready_bytes: usize,
    last: Vec<u8>,
}

impl Pieces {
    fn bytes(&self) -> usize {
        self.ready_bytes + self.last.len()
    }

    fn push(&mut self, frame: &Frame<'_>) {
        frame::encode(&mut self.last, frame);
    }

    /// Appends the frame that is made of this part. A large one is not copied.
    fn push_part<'a>(&mut self, part: &'a Bytes, frame: impl FnOnce(&'a [u8]) -> Frame<'a>) {
        if part.len() < SHARED_BYTES_MIN {
            return self.push(&frame(part));
        }
        frame::encode_without(&mut self.last, &frame(&[]), part.len());
        self.close_last();
        self.ready_bytes += part.len();
        self.ready.push(part.clone());
    }

    fn close_last(&mut self) {
        if !self.last.is_empty() {
            self.ready_bytes += self.last.len();
            self.ready.push(std::mem::take(&mut self.last).into());
        }
    }

    fn end(mut self) -> Vec<Bytes> {
        self.close_last();
        self.ready
    }
}

/// Writes a message, or its first part; returns the rest.
fn write(out: &mut Pieces, message: Message, now: Instant) -> Option<Message> {
    let first = |payload: &Bytes| payload.slice(..payload.len().min(PART_BYTES_MAX));
    let rest = |number, of, payload: Bytes, offset: usize| {
        (offset < payload.len()).then_some(Message::Parts { number, of, payload, offset })
    };
    match message {
        Message::Hello { cluster, from, generation } => {
            out.last.extend_from_slice(&PREFACE);
            out.push(&Frame::Hello { cluster, from, generation });
            None
        }
        Message::Welcome { generation } => {
            out.push(&Frame::Welcome { generation });
            None
        }
        Message::Goodbye => {
            out.push(&Frame::Goodbye);
            None
        }
        Message::Forsake { number } => {
            out.push(&Frame::Forsake { number });
            None
        }
        Message::Deadline { number, deadline } => {
            out.push(&Frame::Deadline { number, left_ms: frame::left_ms(deadline, now) });
            None
        }
        Message::Request { head, deadline, payload, .. } => {
            let left_ms = deadline.map(|deadline| frame::left_ms(deadline, now));
            let head = RequestHead { left_ms, ..head };
            let (number, total, part) = (head.number, payload.len() as u32, first(&payload));
            out.push_part(&part, |part| Frame::Request { head, total, part });
            rest(number, PartOf::Request, payload, part.len())
        }
        Message::Response { number, response, payload } => {
            let (total, part) = (payload.len() as u32, first(&payload));
            out.push_part(&part, |part| Frame::Response { number, response, total, part });
            rest(number, PartOf::Response, payload, part.len())
        }
        Message::Parts { number, of, payload, offset } => {
            let end = payload.len().min(offset + PART_BYTES_MAX);
            out.push_part(&payload.slice(offset..end), |part| match of {
                PartOf::Request => Frame::RequestPart { number, part },
                PartOf::Response => Frame::ResponsePart { number, part },
            });
            rest(number, of, payload, end)
        }
    }
}
