//! `Transport`: sends and receives datagrams and does not look into them.
//!
//! A transport may lose, duplicate, delay and reorder datagrams, as UDP does; the code above it
//! must cope with that. It never waits on sending and never grows: a datagram for which there is no
//! room is lost. The two transports here pass the same suite (`tests/live/transport.rs`).

mod memory;
mod udp;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

pub use heartbeat_core::input::{BATCH_MAX, Batch};
pub use memory::MemoryNetwork;
use tokio::net::{TcpSocket, TcpStream};
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

/// Connects to another node from this node's own address, by which the other end knows whose
/// connection it is. If this host does not have that address, the system chooses one.
pub(crate) async fn connect(own: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let is_usable = own.is_ipv4() == to.is_ipv4() && own.is_loopback() == to.ip().is_loopback();
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if is_usable && !own.is_unspecified() {
        let _ = socket.bind(SocketAddr::new(own, 0)); // The address may be another host's.
    }
    socket.connect(to).await
}
