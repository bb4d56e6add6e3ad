//! Datagrams over UDP.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use tokio::net::UdpSocket;

use super::{Batch, Transport};

/// A UDP socket, and a TCP listener at the same port.
#[derive(Debug)]
pub struct UdpTransport {
    socket: UdpSocket,
    /// The same socket for sending. The runtime's socket counts as not writable until the runtime
    /// has polled it, so the first datagrams would be lost.
    sender: std::net::UdpSocket,
    /// The listener at the same port.
    listener: RefCell<Option<std::net::TcpListener>>,
    address: SocketAddr,
}

impl UdpTransport {
    /// Binds a socket; port 0 takes a free one. Call it on the thread that uses the socket.
    ///
    /// # Errors
    /// The system's error; most often the port is in use.
    pub fn bind(listen: SocketAddr) -> io::Result<UdpTransport> {
        let (socket, listener) = bind_both(listen)?;
        socket.set_nonblocking(true)?;
        listener.set_nonblocking(true)?;
        let listener = RefCell::new(Some(listener));
        let (address, sender) = (socket.local_addr()?, socket.try_clone()?);
        Ok(UdpTransport { socket: UdpSocket::from_std(socket)?, sender, listener, address })
    }
}

/// Binds both at one port. A port that is free for one may be taken for the other; then another
/// port is tried.
fn bind_both(listen: SocketAddr) -> io::Result<(std::net::UdpSocket, std::net::TcpListener)> {
    const TRIES: u32 = 16;
    for _ in 1..TRIES {
        let socket = std::net::UdpSocket::bind(listen)?;
        match std::net::TcpListener::bind(socket.local_addr()?) {
            Ok(listener) => return Ok((socket, listener)),
            Err(error) if listen.port() == 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

impl Transport for UdpTransport {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn listener(&self) -> Option<std::net::TcpListener> {
        self.listener.borrow_mut().take()
    }

    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        // An IPv6 socket takes an IPv4 address as a mapped one.
        let to = match (self.address, to) {
            (SocketAddr::V6(_), SocketAddr::V4(to)) => SocketAddr::new(to.ip().to_ipv6_mapped().into(), to.port()),
            (SocketAddr::V4(_) | SocketAddr::V6(_), to) => to,
        };
        self.sender.send_to(datagram, to).map(drop)
    }

    fn poll_receive(&self, task: &mut Context<'_>, batch: &mut Batch) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_recv_ready(task))?;
            while !batch.is_full() {
                match batch.push_with(|room| self.socket.try_recv_from(room)) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // A late report that an earlier datagram was not received; it says nothing
                    // about this socket.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            if !batch.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
