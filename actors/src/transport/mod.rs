//! `Transport`: sends and receives datagrams and does not look into them.
//!
//! A transport may lose, duplicate, delay and reorder datagrams, as UDP does; the code above it
//! must cope with that. It never waits on sending and never grows: a datagram for which there is no
//! room is lost. The two transports here pass the same suite (`tests/live/transport.rs`).

mod connection;
mod memory;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

pub(crate) use connection::{Connection, Halves};
pub use heartbeat_core::input::{BATCH_MAX, Batch};
pub use memory::MemoryNetwork;
pub use udp::UdpTransport;

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
