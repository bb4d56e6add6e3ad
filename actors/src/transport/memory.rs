//! Datagrams between nodes of one process, for tests and trials.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use super::{Batch, Transport};
use crate::lock::lock;

/// Datagrams that may wait at one address; more are lost, as a full socket buffer loses them.
const WAITING_MAX: usize = 4_096;

/// A network of one process: every address bound on it can send to every other.
#[derive(Clone, Debug, Default)]
pub struct MemoryNetwork {
    ports: Arc<Mutex<BTreeMap<SocketAddr, Arc<Port>>>>,
}

#[derive(Debug, Default)]
struct Port {
    waiting: Mutex<VecDeque<(SocketAddr, Vec<u8>)>>,
    waker: AtomicWaker,
}

/// One address of a [`MemoryNetwork`]; dropping it frees the address.
#[derive(Debug)]
struct MemoryTransport {
    network: MemoryNetwork,
    address: SocketAddr,
    port: Arc<Port>,
}

impl MemoryNetwork {
    /// A network without addresses.
    pub fn new() -> MemoryNetwork {
        MemoryNetwork::default()
    }

    /// Takes an address; port 0 takes a free one.
    ///
    /// # Errors
    /// `AddrInUse` if the address is taken.
    pub fn bind(&self, listen: SocketAddr) -> io::Result<impl Transport + use<>> {
        let mut ports = lock(&self.ports);
        let mut address = listen;
        if listen.port() == 0 {
            let free =
                (1..=u16::MAX).map(|port| SocketAddr::new(listen.ip(), port)).find(|free| !ports.contains_key(free));
            address = free.ok_or(io::ErrorKind::AddrInUse)?;
        } else if ports.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let port = Arc::new(Port::default());
        ports.insert(address, port.clone());
        Ok(MemoryTransport { network: self.clone(), address, port })
    }
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        lock(&self.network.ports).remove(&self.address);
    }
}

impl Transport for MemoryTransport {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let port = lock(&self.network.ports).get(&to).cloned();
        // No transport has this address: the datagram is lost, as on a real network.
        let Some(port) = port else { return Ok(()) };
        let mut waiting = lock(&port.waiting);
        if waiting.len() < WAITING_MAX {
            waiting.push_back((self.address, datagram.to_vec()));
            drop(waiting);
            port.waker.wake();
        }
        Ok(())
    }

    fn poll_receive(&self, task: &mut Context<'_>, batch: &mut Batch) -> Poll<io::Result<()>> {
        self.port.waker.register(task.waker());
        let mut waiting = lock(&self.port.waiting);
        while !batch.is_full()
            && let Some((from, datagram)) = waiting.pop_front()
        {
            batch.push_with(|room| {
                let length = datagram.len().min(room.len());
                room[..length].copy_from_slice(&datagram[..length]);
                Ok((length, from))
            })?;
        }
        if batch.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}
