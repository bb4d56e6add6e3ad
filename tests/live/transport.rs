//! One suite that every transport passes.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use heartbeat_actors::transport::{BATCH_MAX, Batch, MemoryNetwork, Transport, UdpTransport};
use heartbeat_core::wire::{DATAGRAM_BYTES_MAX, SEAL_BYTES};

use crate::{PATIENCE, live};

const ANY: &str = "127.0.0.1:0";

fn udp(listen: SocketAddr) -> io::Result<Box<dyn Transport>> {
    Ok(Box::new(UdpTransport::bind(listen)?))
}

fn memory() -> impl Fn(SocketAddr) -> io::Result<Box<dyn Transport>> {
    let network = MemoryNetwork::new();
    move |listen| Ok(Box::new(network.bind(listen)?))
}

async fn receive(transport: &dyn Transport, batch: &mut Batch) {
    batch.clear();
    let received = std::future::poll_fn(|task| transport.poll_receive(task, batch));
    tokio::time::timeout(PATIENCE, received).await.expect("nothing arrives").unwrap();
}

/// Receives until there are `count` datagrams.
async fn collect(transport: &dyn Transport, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let (mut all, mut batch) = (Vec::new(), Batch::default());
    while all.len() < count {
        receive(transport, &mut batch).await;
        assert!(!batch.is_empty() && batch.len() <= BATCH_MAX);
        all.extend(batch.iter().map(|(from, bytes)| (from, bytes.to_vec())));
    }
    all
}

/// Binds an address whose holder is gone. A process that another test is just starting has a copy
/// of all our sockets until it runs its own program.
async fn bind_again(
    bind: impl Fn(SocketAddr) -> io::Result<Box<dyn Transport>>,
    address: SocketAddr,
) -> Box<dyn Transport> {
    let end = Instant::now() + PATIENCE;
    loop {
        match bind(address) {
            Ok(transport) => return transport,
            Err(error) => assert!(error.kind() == io::ErrorKind::AddrInUse && Instant::now() < end, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

async fn suite(bind: impl Fn(SocketAddr) -> io::Result<Box<dyn Transport>>) {
    let (a, b) = (bind(ANY.parse().unwrap()).unwrap(), bind(ANY.parse().unwrap()).unwrap());
    assert_ne!(a.address(), b.address());

    // A datagram arrives once, whole, with its sender.
    a.send(b.address(), b"hello").unwrap();
    assert_eq!(collect(&*b, 1).await, [(a.address(), b"hello".to_vec())]);

    // More than one batch holds, in any order.
    let many = BATCH_MAX * 3 + 1;
    for number in 0..many {
        a.send(b.address(), &number.to_le_bytes()).unwrap();
    }
    let mut numbers: Vec<_> = collect(&*b, many).await.into_iter().map(|(_, bytes)| bytes).collect();
    numbers.sort_by_key(|bytes| usize::from_le_bytes(bytes[..].try_into().unwrap()));
    assert!(numbers.iter().enumerate().all(|(number, bytes)| bytes[..] == number.to_le_bytes()));

    // The longest one fits; a longer one is seen to be too long, and takes nothing along.
    a.send(b.address(), &vec![1; DATAGRAM_BYTES_MAX]).unwrap();
    a.send(b.address(), &vec![2; DATAGRAM_BYTES_MAX * 3]).unwrap();
    a.send(b.address(), b"after").unwrap();
    let lengths: Vec<usize> = collect(&*b, 3).await.iter().map(|(_, bytes)| bytes.len()).collect();
    assert_eq!(lengths, [DATAGRAM_BYTES_MAX, DATAGRAM_BYTES_MAX + SEAL_BYTES + 1, 5]);

    // An empty one is one.
    a.send(b.address(), b"").unwrap();
    assert_eq!(collect(&*b, 1).await[0].1, b"");

    // A taken address is refused, and free again when its holder is gone. A datagram to a free
    // address is lost without an error.
    let taken = b.address();
    assert_eq!(bind(taken).err().unwrap().kind(), io::ErrorKind::AddrInUse);
    drop(b);
    a.send(taken, b"anyone?").unwrap();
    let again = bind_again(bind, taken).await;
    a.send(taken, b"hello").unwrap();
    let last = collect(&*again, 1).await;
    assert_eq!(last.last().unwrap().1, b"hello");
}

#[test]
fn udp_passes() {
    live(suite(udp));
}

#[test]
fn memory_passes() {
    live(suite(memory()));
}
