//! A connection for requests: its stream, and the bytes that wait to be written to it.
//!
//! Any thread may write, one at a time, without waiting: what the system does not take now is
//! written by the requests thread, which alone reads and waits.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use heartbeat_core::requests::Bytes;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::seal::SealHalf;

/// Bytes that are read at once: a few small messages.
pub(crate) const READ_BYTES_MIN: usize = 4 << 10;

/// The same while large messages arrive.
pub(crate) const READ_BYTES_MAX: usize = 256 << 10;

/// Small pieces are joined up to this size.
const JOIN_BYTES: usize = 16 << 10;

/// Plain bytes that are sealed before they are written.
const SEAL_BYTES_MAX: usize = 256 << 10;

/// Pieces that are written at once.
const PIECES_MAX: usize = 16;

/// What a writer needs of a connection without the driver's lock.
pub(crate) struct Line {
    pub(crate) stream: TcpStream,
    /// Wakes the task that reads: the connection is to be closed, or waits until more can be
    /// written.
    pub(crate) changed: Notify,
}

/// One connection.
pub(crate) struct Socket {
    pub(crate) line: Arc<Line>,
    waiting: Pieces,
    /// Whether a thread writes now; what waits is left to it, or to the requests thread.
    is_writing: bool,
    /// Whether the system took less than it was given: the requests thread waits until it takes
    /// more.
    pub(crate) is_blocked: bool,
    /// Whether it is closed once everything is written.
    pub(crate) is_closing: bool,
}

impl Socket {
    pub(crate) fn new(stream: TcpStream, seal: Option<SealHalf>) -> Socket {
        // Small messages must not wait for others; an error means that the other side is gone.
        let _ = stream.set_nodelay(true);
        Socket {
            line: Arc::new(Line { stream, changed: Notify::new() }),
            waiting: Pieces { seal, ..Pieces::default() },
            is_writing: false,
            is_blocked: false,
            is_closing: false,
        }
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.waiting.push(bytes);
    }

    /// Takes what is to be written now, for one writer. It must call [`Socket::end_write`]
    /// afterwards.
    pub(crate) fn begin_write(&mut self) -> Option<Pieces> {
        if self.is_writing || self.is_blocked || self.waiting.is_empty() {
            return None;
        }
        self.is_writing = true;
        Some(std::mem::take(&mut self.waiting))
    }

    /// A writer has written a part of what it took, or all of it; `rest` is what is left.
    pub(crate) fn end_write(&mut self, mut rest: Pieces) {
        self.is_writing = false;
        let is_blocked = !rest.is_empty();
        rest.append(std::mem::take(&mut self.waiting));
        self.waiting = rest;
        if is_blocked {
            self.is_blocked = true;
            self.line.changed.notify_one();
        }
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.waiting.is_empty() && !self.is_writing
    }

    /// Whether bytes wait that no writer has, though the system may take them.
    pub(crate) fn wants_writer(&self) -> bool {
        !self.waiting.is_empty() && !self.is_writing && !self.is_blocked
    }
}

/// One piece of what is to be written.
enum Piece {
    /// Small ones, joined.
    Joined(Vec<u8>),
    /// A part of a large payload.
    Shared(Bytes),
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Piece::Joined(bytes) => bytes,
            Piece::Shared(bytes) => bytes,
        }
    }
}

/// Bytes in pieces.
#[derive(Default)]
pub(crate) struct Pieces {
    pieces: VecDeque<Piece>,
    /// How many bytes of the first one are written.
    offset: usize,
    /// What seals them, if the connection is sealed.
    seal: Option<SealHalf>,
    /// Bytes that were taken out of the pieces and sealed.
    sealed: Sealed,
}

/// Bytes that are sealed, and not all written.
#[derive(Default)]
struct Sealed {
    bytes: Vec<u8>,
    /// How many of them are written.
    written: usize,
    /// How many plain bytes they hold.
    plain: usize,
}

impl Pieces {
    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.sealed.bytes.is_empty()
    }

    fn push(&mut self, bytes: Bytes) {
        match self.pieces.back_mut() {
            Some(Piece::Joined(last)) if last.len() + bytes.len() <= JOIN_BYTES => last.extend_from_slice(&bytes),
            Some(Piece::Joined(_) | Piece::Shared(_)) | None => self.pieces.push_back(if bytes.len() <= JOIN_BYTES {
                Piece::Joined(bytes.into())
            } else {
                Piece::Shared(bytes)
            }),
        }
    }

    fn append(&mut self, later: Pieces) {
        self.pieces.extend(later.pieces);
    }

    /// Writes what the system takes now. Returns how many bytes of the pieces that was. Bytes that
    /// are sealed together count when the last of them is written.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn write_to(&mut self, line: &Line) -> io::Result<usize> {
        let mut written = 0;
        while self.seal.is_some() && !self.is_empty() {
            self.seal_next();
            let rest = &self.sealed.bytes[self.sealed.written..];
            match line.stream.try_write(rest) {
                Ok(count) if count == rest.len() => {
                    written += self.sealed.plain;
                    (self.sealed.written, self.sealed.plain) = (0, 0);
                    self.sealed.bytes.clear();
                }
                Ok(count) => self.sealed.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(written),
                Err(error) => return Err(error),
            }
        }
        while !self.is_empty() {
            let count = match self.write_once(line) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            written += count;
            self.take(count);
        }
        Ok(written)
    }

    /// Seals the next bytes, if all that were sealed are written.
    fn seal_next(&mut self) {
        let Some(seal) = &mut self.seal else { return };
        while self.sealed.written == 0
            && self.sealed.plain < SEAL_BYTES_MAX
            && let Some(first) = self.pieces.pop_front()
        {
            let plain = &first.bytes()[self.offset..];
            self.offset = 0;
            self.sealed.plain += plain.len();
            seal.seal(plain, &mut self.sealed.bytes);
        }
    }

    fn write_once(&self, line: &Line) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); PIECES_MAX];
        let mut offset = self.offset;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(&piece.bytes()[offset..]);
            offset = 0;
        }
        match self.pieces.len() {
            1 => line.stream.try_write(&slices[0]),
            count => line.stream.try_write_vectored(&slices[..count.min(PIECES_MAX)]),
        }
    }

    fn take(&mut self, mut count: usize) {
        while let Some(first) = self.pieces.front() {
            let left = first.bytes().len() - self.offset;
            if count < left {
                self.offset += count;
                return;
            }
            count -= left;
            self.offset = 0;
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_keep_their_order_over_partial_writes() {
        let mut pieces = Pieces::default();
        for byte in 0..4 {
            pieces.push(vec![byte; JOIN_BYTES + usize::from(byte == 1)].into());
        }
        pieces.push(vec![4; 10].into());
        pieces.push(vec![5; 10].into());
        assert_eq!(pieces.pieces.len(), 5, "small ones are joined");
        pieces.take(JOIN_BYTES + 5);
        assert_eq!((pieces.pieces.len(), pieces.offset, pieces.pieces[0].bytes()[0]), (4, 5, 1));
        pieces.take(JOIN_BYTES - 4);
        assert_eq!((pieces.pieces.len(), pieces.offset, pieces.pieces[0].bytes()[0]), (3, 0, 2));
        let mut later = Pieces::default();
        later.push(vec![9].into());
        pieces.append(later);
        pieces.take(2 * JOIN_BYTES + 20);
        assert_eq!((pieces.pieces.len(), pieces.pieces[0].bytes()[0]), (1, 9));
        pieces.take(1);
        assert!(pieces.is_empty());
    }
}
