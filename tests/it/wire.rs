//! What comes in from the network and is not as it should be: counted, dropped, and nothing
//! changes.

use std::time::Duration;

use heartbeat_core::Random;
use heartbeat_core::member::name_hash;
use heartbeat_core::wire::{Body, DATAGRAM_BYTES_MAX, Header, encode, push_rumour};
use heartbeat_core::{Generation, NodeId, Status};
use heartbeat_sim::World;

use crate::events::{is_departure, is_isolated, seen};
use crate::{check_well, quiet_world};

fn inject(world: &mut World, bytes: &[u8]) {
    let from = "192.0.2.1:9".parse().unwrap();
    for place in 0..5 {
        world.inject(place, from, bytes.to_vec());
    }
}

fn header(cluster: &str, from: &str) -> Header {
    Header { cluster: name_hash(cluster) as u32, from: NodeId::of(from), generation: Generation(1), clock: 0 }
}

#[test]
fn garbage_is_counted_by_kind_and_changes_nothing() {
    let mut world = quiet_world(1);
    let (members, events) = (world.engine(0).unwrap().members().cloned().collect::<Vec<_>>(), world.events().count());
    let mut random = Random::seeded(1);
    for length in 0..200 {
        let bytes: Vec<u8> = (0..length).map(|_| random.next_u64() as u8).collect();
        inject(&mut world, &bytes);
    }
    inject(&mut world, &vec![b'H'; DATAGRAM_BYTES_MAX + 1]);
    inject(&mut world, b"HB\x05\x00 of a later version");
    let mut bytes = Vec::new();
    encode(&mut bytes, header("another cluster", "node-1"), &Body::Introduce);
    inject(&mut world, &bytes);
    encode(&mut bytes, header("sim", "node-1"), &Body::Introduce);
    inject(&mut world, &bytes[..bytes.len() - 1]);

    let counters = world.engine(0).unwrap().counters();
    assert_eq!((counters.malformed, counters.wrong_version, counters.wrong_cluster), (202, 1, 1));
    assert_eq!(world.engine(0).unwrap().members().cloned().collect::<Vec<_>>(), members);
    assert_eq!(world.events().count(), events);
    world.run(Duration::from_secs(10));
    check_well(&world);
}

#[test]
fn a_stranger_with_a_members_name_is_ignored() {
    let mut world = quiet_world(2);
    let mut bytes = Vec::new();
    let gone =
        heartbeat_core::Member { status: Status::Left, ..world.engine(0).unwrap().members().nth(2).unwrap().clone() };
    for name in ["node-1", "monitor", "nobody"] {
        // Not the generation of any member.
        encode(&mut bytes, header("sim", name), &Body::Gossip);
        let count_at = bytes.len() - 1;
        push_rumour(&mut bytes, count_at, &gone, true);
        inject(&mut world, &bytes);
        encode(&mut bytes, header("sim", name), &Body::Introduce);
        inject(&mut world, &bytes);
    }
    world.run(Duration::from_secs(10));
    assert_eq!(seen(&world, is_departure), []);
    assert_eq!(seen(&world, is_isolated), []);
    check_well(&world);
}
