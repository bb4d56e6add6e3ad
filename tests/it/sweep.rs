//! Many seeds: harm, healing, recovery, under the checker. A failure prints the seed and the command that replays it.

use heartbeat_tests::{Shape, schedule};

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

#[track_caller]
fn check_in(seeds: std::ops::Range<u64>, shape: Shape) {
    let broken: Vec<String> = seeds.filter_map(|seed| schedule::run_in(seed, shape).1.err()).collect();
    assert!(broken.is_empty(), "{} broken:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn worlds_without_a_centre_keep_their_promises() {
    check_in(30_000..31_000, Shape::new(0, 6));
}

#[test]
fn worlds_of_many_without_a_centre_keep_their_promises() {
    check_in(31_000..31_300, Shape::new(0, 15));
}

#[test]
fn worlds_of_three_monitors_keep_their_promises() {
    check_in(32_000..32_600, Shape::new(3, 5));
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
