//! Nodes that cannot start, and nodes that receive nonsense.

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use heartbeat_actors::cluster::{Counters, Member, NodeId, Status};
use heartbeat_actors::worker::Generation;
use heartbeat_actors::{Config, Event, Node, SendError, Update, WorkerAddr};
use heartbeat_core::Incarnation;
use heartbeat_core::member::name_hash;
use heartbeat_core::wire::{
    Body, DATAGRAM_BYTES_MAX, Header, Heartbeat, Observers, Rows, encode, encode_join, push_rumour,
};

use crate::worker::{Add, Subject, hold};
use crate::{Events, PATIENCE, config, free, live};

fn cluster(node: &str, role: &str, listen: SocketAddr, monitor: SocketAddr) -> Config {
    Config::from_toml(&format!(
        "interval = '100ms'
         timeout = '1s'
         stall = '500ms'
         [detector]
         kind = 'fixed'
         suspect_after = '600ms'
         [cluster]
         name = 'live'
         node = '{node}'
         role = '{role}'
         mode = 'central'
         listen = '{listen}'
         seeds = ['{monitor}']"
    ))
    .unwrap()
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[test]
fn a_port_in_use_is_named() {
    live(async {
        let taken = UdpSocket::bind(any()).unwrap();
        let address = taken.local_addr().unwrap();
        let error = Node::start(cluster("a", "worker", address, free())).await.unwrap_err();
        let expected =
            format!("cluster.listen {address} is in use by another process; choose another port, or 0 for a free one");
        assert_eq!(error.to_string(), expected);
    });
}

#[test]
fn a_config_that_contradicts_itself_is_refused() {
    live(async {
        let mut config = Config::default();
        config.timeout = config.interval;
        let error = Node::start(config).await.unwrap_err();
        assert_eq!(error.to_string(), "timeout 1s is not longer than interval 1s; use at least 2s");
    });
}

#[test]
fn without_a_system_there_is_no_node() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(Node::start(Config::default())).unwrap_err();
    assert!(error.to_string().contains("no actix system"));
}

#[test]
fn a_monitor_that_is_not_there_is_named_and_found_when_it_comes() {
    live(async {
        let address = free();
        let node = Node::start(cluster("a", "worker", any(), address)).await.unwrap();
        let mut events = Events::of(&node);
        let subject = node.supervise("subject", Subject::default).unwrap();
        let isolated = |event: &Event| match event {
            Event::Isolated { tried, .. } => Some(tried.to_string()),
            _ => None,
        };
        assert_eq!(events.wait("the isolation", isolated).await, address.to_string());
        assert_eq!(subject.send(Add(1)).await, Ok(1), "it works on");
        let monitor = Node::start(cluster("monitor", "monitor", address, address)).await.unwrap();
        events.wait("the connection", |event| matches!(event, Event::Connected).then_some(())).await;
        node.leave().await;
        monitor.leave().await;
    });
}

#[test]
fn a_shard_is_closed_from_the_first_moment_until_it_is_owned() {
    live(async {
        let node = Node::start(cluster("a", "worker", any(), free())).await.unwrap();
        let shards = node.supervise_shards("orders", 64, |_| Ok(Subject::default())).unwrap();
        // Its monitor is not there, so no table of members is complete and no shard has an owner.
        for worker in shards.workers() {
            assert_eq!(worker.send(Add(1)).await, Err(SendError::Closed));
        }
        node.leave().await;
    });
}

/// One well-formed datagram of each kind, from another cluster.
fn datagrams_of_another_cluster(members: &[Member]) -> [Vec<u8>; 5] {
    let header = Header { cluster: 1, from: NodeId::of("a"), generation: Generation(3), clock: 0 };
    let heartbeat = Heartbeat {
        incarnation: Incarnation { returns: 0, refutations: 1 },
        stage: 16_000,
        interval: Duration::from_millis(100),
        slept: 0,
        health: 0,
        asks: true,
        observers: Observers::new([NodeId::of("monitor")]),
    };
    let rows = Rows { differing: u64::MAX, more: false, welcome: true, whole: true };
    let mut datagrams: [Vec<u8>; 5] = Default::default();
    encode(&mut datagrams[0], header, &Body::Heartbeat(heartbeat));
    encode_join(&mut datagrams[1], header, 0, &members[0]);
    encode(&mut datagrams[2], header, &Body::Probe { number: 1 });
    encode(&mut datagrams[3], header, &Body::Introduce);
    encode(&mut datagrams[4], header, &Body::Rows(rows));
    let count_at = datagrams[4].len() - 1;
    members.iter().for_each(|member| assert!(push_rumour(&mut datagrams[4], count_at, member, true)));
    datagrams
}

/// What a node could not use: malformed, of another version, of another cluster.
fn nonsense(counters: &Counters) -> [u64; 3] {
    [counters.malformed, counters.wrong_version, counters.wrong_cluster]
}

#[test]
fn nonsense_is_counted_and_changes_nothing() {
    live(async {
        let address = free();
        // Slow enough to judge that no pause of a busy machine is worth an event.
        let slow = |mut config: Config| {
            (config.timeout, config.detector.suspect_after, config.stall) = (PATIENCE * 3, PATIENCE * 2, PATIENCE);
            config
        };
        let monitor = Node::start(slow(cluster("monitor", "monitor", address, address))).await.unwrap();
        let worker = Node::start(slow(cluster("a", "worker", any(), address))).await.unwrap();
        while monitor.view().members().len() < 2 || worker.view().members() != monitor.view().members() {
            tokio::task::yield_now().await;
        }
        for node in [&monitor, &worker] {
            let (mut events, before) = (Events::of(node), node.view().members());
            let stranger = UdpSocket::bind(any()).unwrap();
            let whole = datagrams_of_another_cluster(&before);
            // Whole, they are of another cluster; cut anywhere, they are nothing at all.
            let truncated = whole.iter().flat_map(|datagram| (0..datagram.len()).map(|length| &datagram[..length]));
            let oversized = vec![b'H'; DATAGRAM_BYTES_MAX * 2];
            let garbage: [&[u8]; 4] = [b"GET / HTTP/1.1", &[0xff; 100], &[0; DATAGRAM_BYTES_MAX], &oversized];
            let malformed: Vec<&[u8]> = truncated.chain(garbage).collect();
            let version: &[u8] = b"HB\x07\x00";
            let all: Vec<&[u8]> =
                malformed.iter().copied().chain([version]).chain(whole.iter().map(|d| &d[..])).collect();
            let mut sent = 0;
            // In portions that the socket's buffer has room for.
            for portion in all.chunks(32) {
                for datagram in portion {
                    stranger.send_to(datagram, node.address().unwrap()).unwrap();
                }
                sent += portion.len() as u64;
                let counted = async { while nonsense(&node.counters().await).iter().sum::<u64>() < sent {} };
                tokio::time::timeout(PATIENCE, counted).await.expect("some were not counted");
            }
            let expected = [malformed.len() as u64, 1, whole.len() as u64];
            assert_eq!(nonsense(&node.counters().await), expected);
            assert_eq!(node.view().members(), before);
            assert!(matches!(events.next().await, Update::View(_)));
            while let Ok(told) = events.0.try_recv() {
                // They may know of each other before the first heartbeat is acknowledged. A join
                // request of another cluster becomes an event.
                let is_meant = matches!(told, Update::Event(Event::Connected | Event::OtherCluster { .. }));
                assert!(is_meant, "nonsense led to {told:?}");
            }
            stranger.set_nonblocking(true).unwrap();
            // Joins of another cluster are answered once an interval, so that a misspelt name shows
            // on both sides.
            let mut answer = [0; DATAGRAM_BYTES_MAX];
            let answers = std::iter::from_fn(|| stranger.recv_from(&mut answer).ok().map(|(length, _)| length));
            let answers: Vec<usize> = answers.collect();
            let joins = whole.iter().map(Vec::len).max().unwrap_or_default();
            assert!(answers.iter().all(|length| *length <= joins), "with less than was sent: {answers:?}");
            assert!(answers.len() < whole.len(), "and nothing else is answered");
        }
        worker.leave().await;
        monitor.leave().await;
    });
}

#[test]
fn a_goodbye_from_nobody_makes_no_member() {
    live(async {
        let address = free();
        let monitor = Node::start(cluster("monitor", "monitor", address, address)).await.unwrap();
        let stranger = UdpSocket::bind(any()).unwrap();
        stranger.set_nonblocking(true).unwrap();
        while monitor.view().members().is_empty() {
            tokio::task::yield_now().await;
        }
        let (from, generation) = (NodeId::of("nobody"), Generation(3));
        let header = Header { cluster: name_hash("live") as u32, from, generation, clock: 0 };
        let gone = Member { id: from, status: Status::Left, ..monitor.view().members().remove(0) };
        let mut goodbye = Vec::new();
        encode(&mut goodbye, header, &Body::Gossip);
        let count_at = goodbye.len() - 1;
        assert!(push_rumour(&mut goodbye, count_at, &gone, true));
        for length in 0..=goodbye.len() {
            stranger.send_to(&goodbye[..length], address).unwrap();
        }
        while monitor.counters().await.malformed < goodbye.len() as u64 || monitor.counters().await.received < 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(monitor.view().members().len(), 1);
        monitor.leave().await;
    });
}

/// Waits for a future where there is no runtime.
fn wait_for<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);

    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn addresses_work_on_threads_that_have_no_runtime() {
    live(async {
        let node = Node::start(config()).await.unwrap();
        let subject: WorkerAddr<Subject> = node.supervise("subject", Subject::default).unwrap();
        let (here, held) = (subject.clone(), hold());
        let outside = std::thread::spawn(move || {
            assert_eq!(wait_for(here.send(Add(1))), Ok(1));
            assert_eq!(wait_for(here.send(Add(1)).within(PATIENCE)), Ok(2));
            let _holding = here.send(held.1);
            let late = wait_for(here.send(Add(1)).within(Duration::from_millis(50)));
            assert_eq!(late, Err(SendError::TimedOut));
            drop(held.0);
            here.stop();
        });
        while !outside.is_finished() {
            actix_rt::time::sleep(Duration::from_millis(5)).await;
        }
        outside.join().unwrap();
        node.leave().await;
    });
}
