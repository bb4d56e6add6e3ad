//! Datagrams over UDP.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, ready};

use tokio::net::UdpSocket;

use super::{Batch, Transport};

/// A UDP socket.
#[derive(Debug)]
pub struct UdpTransport {
    socket: UdpSocket,
    /// The same socket for sending: the runtime would call it not writable until it has had a look, and lose what is sent first.
    sender: std::net::UdpSocket,
    address: SocketAddr,
}

impl UdpTransport {
    /// Binds a socket; port 0 takes a free one. To be called on the thread that is to use it.
    ///
    /// # Errors
    /// What the system said; most often that the port is in use.
    pub fn bind(listen: SocketAddr) -> io::Result<UdpTransport> {
        let socket = std::net::UdpSocket::bind(listen)?;
        socket.set_nonblocking(true)?;
        let (address, sender) = (socket.local_addr()?, socket.try_clone()?);
        Ok(UdpTransport { socket: UdpSocket::from_std(socket)?, sender, address })
    }
}

impl Transport for UdpTransport {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.sender.send_to(datagram, to).map(drop)
    }

    fn poll_receive(&self, task: &mut Context<'_>, batch: &mut Batch) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_recv_ready(task))?;
            while !batch.is_full() {
                match batch.push_with(|room| self.socket.try_recv_from(room)) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // A datagram of ours that nobody received, told late; it says nothing about this socket.
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
