//! `Transport`: how datagrams leave and arrive, and nothing of what is in them.
//!
//! A transport may lose, double, delay and reorder, as UDP does; everything above has to bear that.
//! It never waits on sending and never grows: what there is no room for is lost. Two of them pass
//! the same suite (`tests/live/transport.rs`).

mod memory;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

pub use memory::MemoryNetwork;
pub use udp::UdpTransport;

/// Datagrams in one batch at most: what one wake-up takes from a socket before timers and others
/// have their turn.
pub const BATCH_MAX: usize = 64;

/// Room for one datagram: one byte more than is allowed, so that a longer one is seen to be too
/// long.
const ROOM: usize = heartbeat_core::wire::DATAGRAM_BYTES_MAX + 1;

/// Sends and receives datagrams for one node.
pub trait Transport {
    /// The address that others can send to.
    fn address(&self) -> SocketAddr;

    /// Sends one datagram, or loses it.
    ///
    /// # Errors
    /// What the system said; the datagram is then lost, and the transport is as good as before.
    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()>;

    /// Where others can connect to, at the same address; none if this transport carries datagrams
    /// only. Asked once.
    fn listener(&self) -> Option<std::net::TcpListener> {
        None
    }

    /// Waits for datagrams, then puts those that are there into `batch`, as many as it has room
    /// for. A batch that is not full afterwards says that nothing more was there.
    ///
    /// # Errors
    /// What the system said. The transport may be used further; an error that stays will come
    /// again.
    fn poll_receive(&self, task: &mut Context<'_>, batch: &mut Batch) -> Poll<io::Result<()>>;
}

/// Datagrams received together, each with its sender, in one buffer that is used again.
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

    /// The datagrams in their order, each with its sender. One that was longer than the buffer is
    /// one byte longer than is allowed.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.datagrams.iter().zip(self.bytes.chunks(ROOM)).map(|(&(from, length), room)| (from, &room[..length]))
    }

    /// Offers room for one more datagram; `fill` puts it there and says how long it is and whence
    /// it came.
    ///
    /// # Errors
    /// Those of `fill`; the batch is then as before.
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
