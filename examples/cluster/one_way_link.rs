//! A transport that drops datagrams of chosen senders: a link that fails in one direction, without
//! touching the machine's network.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use heartbeat_actors::transport::{Batch, Transport, UdpTransport};

/// Addresses whose datagrams are dropped.
pub(crate) type Unheard = Arc<Mutex<BTreeSet<SocketAddr>>>;

/// UDP, without what comes from some addresses.
pub(crate) struct Deaf {
    inner: UdpTransport,
    unheard: Unheard,
    all: RefCell<Batch>,
}

impl Deaf {
    pub(crate) fn bind(listen: SocketAddr, unheard: Unheard) -> io::Result<Deaf> {
        Ok(Deaf { inner: UdpTransport::bind(listen)?, unheard, all: RefCell::default() })
    }
}

impl Transport for Deaf {
    fn address(&self) -> SocketAddr {
        self.inner.address()
    }

    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.inner.send(to, datagram)
    }

    fn listener(&self) -> Option<std::net::TcpListener> {
        self.inner.listener()
    }

    fn poll_receive(&self, task: &mut Context<'_>, batch: &mut Batch) -> Poll<io::Result<()>> {
        let mut all = self.all.borrow_mut();
        loop {
            all.clear();
            ready!(self.inner.poll_receive(task, &mut all))?;
            let unheard = self.unheard.lock().unwrap_or_else(PoisonError::into_inner);
            for (from, datagram) in all.iter().filter(|(from, _)| !unheard.contains(from)) {
                batch.push_with(|room| {
                    room[..datagram.len()].copy_from_slice(datagram);
                    Ok((datagram.len(), from))
                })?;
            }
            if !batch.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
