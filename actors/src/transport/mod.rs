//! `Transport`: sends and receives datagrams and does not look into them.
//!
//! A transport may lose, duplicate, delay and reorder datagrams, as UDP does; the code above it
//! must cope with that. It never waits on sending and never grows: a datagram for which there is no
//! room is lost. The two transports here pass the same suite (`tests/live/transport.rs`).

mod memory;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

pub use memory::MemoryNetwork;
pub use udp::UdpTransport;

/// Most datagrams in one batch: how many one wake-up takes from a socket before timers and other
/// tasks get their turn.
pub const BATCH_MAX: usize = 64;

/// Room for one datagram: one byte more than is allowed, so that a datagram that is too long is
/// recognised.
const ROOM: usize = heartbeat_core::wire::DATAGRAM_BYTES_MAX + 1;

/// Sends and receives datagrams for one node.
pub trait Transport {
    /// The address at which other nodes reach this one.
    fn address(&self) -> SocketAddr;

    /// Sends one datagram, or loses it.
    ///
    /// # Errors
    /// The system's error. The datagram is lost, and the transport can be used as before.
    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()>;

    /// The listener for connections at the same address; `None` if this transport carries datagrams
    /// only. Called once.
    fn listener(&self) -> Option<std::net::TcpListener> {
        None
    }

    /// Waits for datagrams, then puts as many into `batch` as it has room for. If the batch is not
    /// full afterwards, there were no more.
    ///
    /// # Errors
    /// The system's error. The transport can be used as before; a lasting error comes again.
    fn poll_receive(&self, task: &mut Context<'_>, batch: &mut Batch) -> Poll<io::Result<()>>;
}

/// Datagrams that were received together, each with its sender, in one buffer that is used again.
#[derive(Debug)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Sender and length of each.
    datagrams: Vec<(SocketAddr, usize)>,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch { bytes: vec![0; BATCH_MAX * ROOM], datagrams: Vec::with_capacity(BATCH_MAX) }
    }
}

impl Batch {
    /// Empties it.
    pub fn clear(&mut self) {
        self.datagrams.clear();
    }

    /// How many datagrams it holds.
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Whether there is no room for another one.
    pub fn is_full(&self) -> bool {
        self.datagrams.len() == BATCH_MAX
    }

    /// The datagrams in their order, each with its sender. A datagram that is too long for the
    /// protocol is cut to one byte more than is allowed.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.datagrams.iter().zip(self.bytes.chunks(ROOM)).map(|(&(from, length), room)| (from, &room[..length]))
    }

    /// Adds a datagram: `fill` writes it into the buffer and returns its length and its sender.
    ///
    /// # Errors
    /// The error of `fill`; the batch is then unchanged.
    ///
    /// # Panics
    /// If the batch is full.
    pub fn push_with(&mut self, fill: impl FnOnce(&mut [u8]) -> io::Result<(usize, SocketAddr)>) -> io::Result<()> {
        assert!(!self.is_full(), "a full batch was offered another datagram");
        let start = self.datagrams.len() * ROOM;
        let (length, from) = fill(&mut self.bytes[start..start + ROOM])?;
        self.datagrams.push((from, length));
        Ok(())
    }
}
