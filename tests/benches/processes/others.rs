//! Nodes of other libraries, each in a process of its own, that say what they hear in the words of
//! ours: `{"event": "died", "node": "node-3"}`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chitchat::transport::UdpTransport;
use chitchat::{ChitchatConfig, ChitchatId, FailureDetectorConfig, ProtocolVersion, spawn_chitchat};
use foca::{Config, Foca, PostcardCodec, State, Timer};
use memberlist::net::NetTransportOptions;
use memberlist::proto::{MaybeResolvedAddress, NodeId};
use memberlist::tokio::{TokioNetTransport, TokioSocketAddrResolver, TokioTcp};
use memberlist::{Memberlist, Options};
use rand::SeedableRng;
use rand::rngs::Xoshiro128PlusPlus;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use crate::foca_engine::{Asked, Engine, Id};

/// How often we look who is suspect, or there at all, where a library does not tell.
const LOOK: Duration = Duration::from_millis(50);

/// The ports of all nodes; the seed is the first.
pub(crate) struct Place {
    pub(crate) index: usize,
    pub(crate) ports: Vec<u16>,
}

impl Place {
    fn address_of(&self, index: usize) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.ports[index])
    }

    fn own(&self) -> SocketAddrV4 {
        self.address_of(self.index)
    }

    fn seed(&self) -> SocketAddrV4 {
        self.address_of(0)
    }
}

/// Runs a node of this library until its input ends.
pub(crate) fn run(library: &str, place: Place) {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new()); // Whether it ends or fails, it is over.
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match library {
        "foca" => runtime.block_on(run_foca(place)),
        "chitchat" => runtime.block_on(run_chitchat(place)),
        "memberlist" => runtime.block_on(run_memberlist(place)),
        other => panic!("no library is called {other:?} here"),
    }
}

fn tell(event: &str, node: &str) {
    println!("{{\"event\":\"{event}\",\"node\":\"{node}\"}}");
}

/// Tells who came and who went.
fn tell_changes(known: &mut BTreeSet<String>, now: BTreeSet<String>) {
    known.difference(&now).for_each(|node| tell("died", node));
    now.difference(known).for_each(|node| tell("joined", node));
    *known = now;
}

async fn run_foca(place: Place) {
    let socket = UdpSocket::bind(place.own()).await.unwrap();
    let names: BTreeMap<u16, String> =
        place.ports.iter().enumerate().map(|(index, port)| (*port, format!("node-{index}"))).collect();
    let name_of = |id: &Id| names[&id.address.port()].clone();
    let id_of = |address: SocketAddrV4| Id { address, life: 0 };
    let config = Config::new_lan(NonZeroU32::new(place.ports.len() as u32).unwrap());
    let rng = Xoshiro128PlusPlus::seed_from_u64(u64::from(std::process::id()));
    let mut engine: Engine = Foca::new(id_of(place.own()), config, rng, PostcardCodec);
    let mut timers: Vec<(Instant, Timer<Id>)> = Vec::new();
    let (mut suspects, mut look_at) = (BTreeSet::new(), Instant::now());
    let mut asked = Asked::default();
    if place.index > 0 {
        engine.announce(id_of(place.seed()), &mut asked).unwrap();
    }
    let mut buffer = [0; 65_536];
    loop {
        for (to, bytes) in asked.sent.drain(..) {
            let _ = socket.send_to(&bytes, to.address).await; // As with any datagram, it may be lost.
        }
        let now = Instant::now();
        timers.extend(asked.timers.drain(..).map(|(after, timer)| (now + after, timer)));
        asked.up.drain(..).for_each(|id| tell("joined", &name_of(&id)));
        asked.down.drain(..).for_each(|id| tell("died", &name_of(&id)));
        if look_at <= now {
            look_at = now + LOOK;
            let are: BTreeSet<String> = engine
                .iter_members()
                .filter(|member| member.state() == State::Suspect)
                .map(|member| name_of(member.id()))
                .collect();
            are.difference(&suspects).for_each(|node| tell("suspected", node));
            suspects = are;
        }
        timers.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let next = timers.last().map_or(look_at, |(at, _)| (*at).min(look_at));
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                if let Ok((size, _)) = received {
                    let _ = engine.handle_data(&buffer[..size], &mut asked); // What it does not take is its own affair.
                }
            }
            () = tokio::time::sleep_until(next) => {
                while timers.last().is_some_and(|(at, _)| *at <= Instant::now()) {
                    let (_, timer) = timers.pop().unwrap();
                    let _ = engine.handle_timer(timer, &mut asked); // As above.
                }
            }
        }
    }
}

async fn run_chitchat(place: Place) {
    let generation_id = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let node_id = format!("node-{}", place.index);
    let own = SocketAddr::from(place.own());
    let config = ChitchatConfig {
        chitchat_id: ChitchatId { node_id: node_id.as_str().into(), generation_id, gossip_advertise_addr: own },
        cluster_id: "bench".into(),
        gossip_interval: Duration::from_secs(1),
        listen_addr: own,
        seed_nodes: vec![place.seed().to_string()],
        failure_detector_config: FailureDetectorConfig::default(),
        marked_for_deletion_grace_period: Duration::from_secs(3_600),
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V1,
    };
    let handle = spawn_chitchat(config, Vec::new(), &UdpTransport).await.unwrap();
    let mut watcher = handle.with_chitchat(|chitchat| chitchat.live_nodes_watcher()).await;
    let mut known = BTreeSet::new();
    while watcher.changed().await.is_ok() {
        let live = watcher.borrow_and_update().clone();
        let now = live.keys().map(|id| id.node_id.to_string()).filter(|node| *node != node_id);
        tell_changes(&mut known, now.collect());
    }
}

async fn run_memberlist(place: Place) {
    let name = format!("node-{}", place.index);
    let mut transport = NetTransportOptions::new(NodeId::new(&name).unwrap());
    transport.add_bind_address(place.own().into());
    let list: Memberlist<TokioNetTransport<NodeId, TokioSocketAddrResolver, TokioTcp>> =
        Memberlist::new(transport, Options::lan()).await.unwrap();
    while place.index > 0 && list.join(MaybeResolvedAddress::Resolved(place.seed().into())).await.is_err() {
        tokio::time::sleep(LOOK).await;
    }
    let mut known = BTreeSet::new();
    loop {
        let now = list.online_members().await;
        tell_changes(&mut known, now.iter().map(|node| node.id().to_string()).filter(|node| *node != name).collect());
        tokio::time::sleep(LOOK).await;
    }
}
