//! Frames: what two nodes write to each other on a connection for requests.
//!
//! A connection belongs to the node that opened it: its requests go one way, the responses come
//! back. Each frame begins with the length of its rest in four bytes; all numbers are
//! little-endian. A payload longer than [`PART_BYTES_MAX`] follows its first frame in parts, so
//! that a large message does not delay the small ones behind it.
//!
//! What this does not do: it does not look into payloads, and it does not seal anything.

use std::fmt;
use std::sync::Arc;

use crate::interruption::Interruption;
use crate::member::{Epoch, Generation, NAME_BYTES_MAX, NodeId};
use crate::requests::outcome::{code, interruption};
use crate::requests::{MessageType, Refusal, Target, TraceContext};
use crate::time::Instant;

/// The first bytes on a connection for requests, before the first frame. No lifeline begins so:
/// there the first two bytes are the length of a frame, and this one would be too long.
pub const PREFACE: [u8; 4] = *b"HBRQ";

/// The version of these frames.
const VERSION: u8 = 1;

/// Most bytes of a payload in one frame.
pub const PART_BYTES_MAX: usize = 64 << 10;

/// Bytes of the length before each frame.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Longest text in a response: the payload of a panic.
const TEXT_BYTES_MAX: usize = 1024;

/// Longest frame, without the four bytes of its length.
pub const FRAME_BYTES_MAX: usize = PART_BYTES_MAX + NAME_BYTES_MAX + TEXT_BYTES_MAX + 128;

/// Instead of a time left.
const NO_DEADLINE: u32 = u32::MAX;

/// One frame.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Frame<'a> {
    /// The first frame of the node that connects.
    Hello { cluster: u32, from: NodeId, generation: Generation },
    /// The answer to it: requests may come.
    Welcome { generation: Generation },
    /// The answer to it, or the last frame of a connection: none may come.
    Goodbye,
    /// A request, with the first part of its payload.
    Request { head: RequestHead, total: u32, part: &'a [u8] },
    /// A later part of a payload.
    RequestPart { number: u64, part: &'a [u8] },
    /// The sender does not wait for this request any more.
    Forsake { number: u64 },
    /// The response to a request, with the first part of its payload.
    Response { number: u64, response: Response, total: u32, part: &'a [u8] },
    /// A later part of a payload.
    ResponsePart { number: u64, part: &'a [u8] },
    /// The sender of a request now waits this long only, in milliseconds.
    Deadline { number: u64, left_ms: u32 },
}

/// Everything about a request but its payload.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct RequestHead {
    /// Rises with each request on a connection.
    pub(crate) number: u64,
    pub(crate) target: Target,
    /// See [`super::lane`].
    pub(crate) round: u32,
    /// The highest epoch of the shard that its owners have shown this sender; zero for none.
    pub(crate) epoch: Epoch,
    pub(crate) message: MessageType,
    /// Milliseconds left; none if it has no deadline.
    pub(crate) left_ms: Option<u32>,
    pub(crate) trace: Option<TraceContext>,
}

/// What became of a request; the payload of `Handled` stands beside it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Response {
    /// It was handled under this epoch of the shard.
    Handled {
        epoch: Epoch,
    },
    Refused(Refusal),
    Interrupted(Interruption),
}

/// Why bytes are no frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum FrameError {
    /// The length of the frame is over [`FRAME_BYTES_MAX`].
    TooLong(u32),
    /// The frame ends before its fields do.
    Short,
    /// Bytes are left after the last field.
    Trailing(usize),
    /// There is no such kind of frame.
    Kind(u8),
    /// The other node has another version of these frames.
    Version(u8),
    /// This field holds what it cannot hold.
    Field(&'static str),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong(length) => {
                write!(f, "a frame of {length} bytes; at most {FRAME_BYTES_MAX} are allowed")
            }
            FrameError::Short => f.write_str("a frame that ends too early"),
            FrameError::Trailing(bytes) => write!(f, "{bytes} bytes after the end of a frame"),
            FrameError::Kind(kind) => write!(f, "a frame of kind {kind}; there are 0 to 8"),
            FrameError::Version(version) => write!(f, "frames of version {version}; this node speaks {VERSION}"),
            FrameError::Field(name) => write!(f, "{name} is out of range"),
        }
    }
}

impl std::error::Error for FrameError {}

/// Takes the first whole frame off `bytes`: the frame and how many bytes it took; `None` if more
/// bytes are needed.
///
/// # Errors
/// [`FrameError::TooLong`], from the length alone.
pub(crate) fn next(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, FrameError> {
    let missing = missing(bytes)?;
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>().filter(|_| missing == 0) else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length) as usize;
    Ok(Some((&rest[..length], LENGTH_BYTES + length)))
}

/// How many bytes are missing until the first frame is whole, as far as it can be told: none if it
/// is.
///
/// # Errors
/// [`FrameError::TooLong`], from the length alone.
pub(crate) fn missing(bytes: &[u8]) -> Result<usize, FrameError> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(LENGTH_BYTES - bytes.len());
    };
    let length = u32::from_le_bytes(*length);
    if length as usize > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    Ok((length as usize).saturating_sub(rest.len()))
}

/// Appends a frame, with its length.
pub(crate) fn encode(out: &mut Vec<u8>, frame: &Frame<'_>) {
    encode_without(out, frame, 0);
}

/// Appends a frame without the last bytes of its part, this many, which are to follow.
pub(crate) fn encode_without(out: &mut Vec<u8>, frame: &Frame<'_>, later: usize) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    match frame {
        Frame::Hello { cluster, from, generation } => {
            out.push(0);
            out.push(VERSION);
            out.extend_from_slice(&cluster.to_le_bytes());
            out.extend_from_slice(&from.0.to_le_bytes());
            out.extend_from_slice(&generation.0.to_le_bytes());
        }
        Frame::Welcome { generation } => {
            out.push(1);
            out.push(VERSION);
            out.extend_from_slice(&generation.0.to_le_bytes());
        }
        Frame::Goodbye => out.push(2),
        Frame::Request { head, total, part } => {
            out.push(3);
            encode_head(out, head);
            out.extend_from_slice(&total.to_le_bytes());
            out.extend_from_slice(part);
        }
        Frame::RequestPart { number, part } => {
            out.push(4);
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(part);
        }
        Frame::Forsake { number } => {
            out.push(5);
            out.extend_from_slice(&number.to_le_bytes());
        }
        Frame::Response { number, response, total, part } => {
            out.push(6);
            out.extend_from_slice(&number.to_le_bytes());
            encode_response(out, response);
            out.extend_from_slice(&total.to_le_bytes());
            out.extend_from_slice(part);
        }
        Frame::ResponsePart { number, part } => {
            out.push(7);
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(part);
        }
        Frame::Deadline { number, left_ms } => {
            out.push(8);
            out.extend_from_slice(&number.to_le_bytes());
            out.extend_from_slice(&left_ms.to_le_bytes());
        }
    }
    let length = (out.len() - start - LENGTH_BYTES + later) as u32;
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
}

fn encode_head(out: &mut Vec<u8>, head: &RequestHead) {
    out.extend_from_slice(&head.number.to_le_bytes());
    match &head.target {
        Target::Shard { group, index } => {
            out.push(0);
            out.extend_from_slice(&group.to_le_bytes());
            out.extend_from_slice(&index.to_le_bytes());
        }
        Target::Worker { name, .. } => {
            out.push(1);
            out.push(name.len() as u8);
            out.extend_from_slice(name.as_bytes());
        }
    }
    out.extend_from_slice(&head.round.to_le_bytes());
    out.extend_from_slice(&head.epoch.0.to_le_bytes());
    out.extend_from_slice(&head.message.name_hash.to_le_bytes());
    out.extend_from_slice(&head.message.version.to_le_bytes());
    out.extend_from_slice(&head.left_ms.unwrap_or(NO_DEADLINE).to_le_bytes());
    match &head.trace {
        Some(trace) => {
            out.push(1);
            out.extend_from_slice(&trace.trace_id());
            out.extend_from_slice(&trace.parent_id());
            out.push(trace.flags());
        }
        None => out.push(0),
    }
}

/// The milliseconds from now until a deadline; none are left at the deadline itself.
pub(crate) fn left_ms(deadline: Instant, now: Instant) -> u32 {
    let left = (deadline.max(now) - now).as_nanos().div_ceil(1_000_000);
    left.min(u128::from(NO_DEADLINE - 1)) as u32
}

fn encode_response(out: &mut Vec<u8>, response: &Response) {
    match response {
        Response::Handled { epoch } => {
            out.push(0);
            out.extend_from_slice(&epoch.0.to_le_bytes());
        }
        Response::Refused(refusal) => {
            out.push(1);
            out.push(refusal.code());
            out.extend_from_slice(&refusal.detail().to_le_bytes());
        }
        Response::Interrupted(why) => {
            out.push(2);
            out.push(code(why));
            let text = if let Interruption::Panicked(text) = why { text } else { "" };
            let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
            let text = &text[..end.unwrap_or(0)];
            out.extend_from_slice(&(text.len() as u16).to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    }
}

/// Reads one frame, without its length. `me` is the member that a request for a worker names.
///
/// # Errors
/// [`FrameError`] for bytes that are not exactly one frame.
pub(crate) fn decode(bytes: &[u8], me: NodeId) -> Result<Frame<'_>, FrameError> {
    let mut reader = Reader { bytes };
    let frame = match reader.byte()? {
        0 => {
            reader.version()?;
            let cluster = u32::from_le_bytes(reader.array()?);
            Frame::Hello { cluster, from: NodeId(reader.number()?), generation: Generation(reader.number()?) }
        }
        1 => {
            reader.version()?;
            Frame::Welcome { generation: Generation(reader.number()?) }
        }
        2 => Frame::Goodbye,
        3 => {
            let head = reader.head(me)?;
            let total = u32::from_le_bytes(reader.array()?);
            Frame::Request { head, total, part: reader.part()? }
        }
        4 => Frame::RequestPart { number: reader.number()?, part: reader.part()? },
        5 => Frame::Forsake { number: reader.number()? },
        6 => {
            let (number, response) = (reader.number()?, reader.response()?);
            let total = u32::from_le_bytes(reader.array()?);
            Frame::Response { number, response, total, part: reader.part()? }
        }
        7 => Frame::ResponsePart { number: reader.number()?, part: reader.part()? },
        8 => Frame::Deadline { number: reader.number()?, left_ms: u32::from_le_bytes(reader.array()?) },
        kind => return Err(FrameError::Kind(kind)),
    };
    if reader.bytes.is_empty() { Ok(frame) } else { Err(FrameError::Trailing(reader.bytes.len())) }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(FrameError::Short)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(FrameError::Short)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, FrameError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn number(&mut self) -> Result<u64, FrameError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn version(&mut self) -> Result<(), FrameError> {
        match self.byte()? {
            VERSION => Ok(()),
            other => Err(FrameError::Version(other)),
        }
    }

    /// The rest of the frame.
    fn part(&mut self) -> Result<&'a [u8], FrameError> {
        if self.bytes.len() > PART_BYTES_MAX {
            return Err(FrameError::Field("part"));
        }
        self.take(self.bytes.len())
    }

    fn text(&mut self, length: usize) -> Result<Arc<str>, FrameError> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| FrameError::Field("text"))?;
        Ok(text.into())
    }

    fn epoch(&mut self) -> Result<Epoch, FrameError> {
        let epoch = self.number()?;
        if epoch > Epoch::MAX.0 { Err(FrameError::Field("epoch")) } else { Ok(Epoch(epoch)) }
    }

    fn head(&mut self, me: NodeId) -> Result<RequestHead, FrameError> {
        let number = self.number()?;
        let target = match self.byte()? {
            0 => Target::Shard { group: self.number()?, index: u32::from_le_bytes(self.array()?) },
            1 => {
                let length = self.byte()?.into();
                Target::Worker { member: me, name: self.text(length)? }
            }
            _ => return Err(FrameError::Field("target")),
        };
        let round = u32::from_le_bytes(self.array()?);
        let epoch = self.epoch()?;
        let message = MessageType { name_hash: self.number()?, version: u16::from_le_bytes(self.array()?) };
        let left_ms = u32::from_le_bytes(self.array()?);
        let left_ms = (left_ms != NO_DEADLINE).then_some(left_ms);
        let trace = match self.byte()? {
            0 => None,
            1 => {
                let (trace_id, parent_id) = (self.array()?, self.array()?);
                // Ids of zero name no trace; the request is as good without one.
                TraceContext::new(trace_id, parent_id, self.byte()?)
            }
            _ => return Err(FrameError::Field("trace")),
        };
        Ok(RequestHead { number, target, round, epoch, message, left_ms, trace })
    }

    fn response(&mut self) -> Result<Response, FrameError> {
        match self.byte()? {
            0 => Ok(Response::Handled { epoch: self.epoch()? }),
            1 => {
                let (code, detail) = (self.byte()?, self.number()?);
                Ok(Response::Refused(Refusal::of_code(code, detail).ok_or(FrameError::Field("refusal"))?))
            }
            2 => {
                let code = self.byte()?;
                let length = usize::from(u16::from_le_bytes(self.array()?));
                if length > TEXT_BYTES_MAX {
                    return Err(FrameError::Field("text"));
                }
                let text = self.text(length)?;
                Ok(Response::Interrupted(interruption(code, text).ok_or(FrameError::Field("interruption"))?))
            }
            _ => Err(FrameError::Field("response")),
        }
    }
}
