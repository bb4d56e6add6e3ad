//! Many seeds: harm, healing, recovery, under the checker. A failure prints the seed and the command that replays it.

use heartbeat_tests::schedule;

#[track_caller]
fn check(seeds: std::ops::Range<u64>, nodes: usize) {
    let broken: Vec<String> = seeds.filter_map(|seed| schedule::run(seed, nodes).1.err()).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn worlds_of_five_nodes_keep_their_promises() {
    check(0..400, 5);
}

#[test]
fn worlds_of_two_nodes_keep_their_promises() {
    check(10_000..10_200, 2);
}

#[test]
fn worlds_of_sixty_nodes_keep_their_promises() {
    // More members than one datagram holds, so views come in parts.
    check(20_000..20_003, 60);
}

/// Seeds that once found a fault; each says which.
#[test]
fn seeds_that_found_faults_stay_mended() {
    for (seed, fault) in [
        (430, "an answer meant for a former process was taken for a whole view"),
        (47, "a restarted monitor let a node keep shards that had been given away"),
        (34, "a node admitted late kept its shards"),
        (142, "a worker told to stop on a blocked thread was left to run"),
    ] {
        let (_, result) = schedule::run(seed, 5);
        assert_eq!(result, Ok(()), "again: {fault}");
    }
}
