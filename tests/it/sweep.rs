//! Many seeds: harm, healing, recovery, under the checker. A failure prints the seed and the
//! command that replays it.

use heartbeat_sim::{Releases, Shape, schedule};

#[track_caller]
fn check(seeds: std::ops::Range<u64>, nodes: usize) {
    check_in(seeds, Shape::central(1, nodes));
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
    let shape = Shape { requests: true, ..shape };
    let broken: Vec<String> = seeds.filter_map(|seed| schedule::run_in(seed, shape).1.err()).collect();
    assert!(broken.is_empty(), "{} broken:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn worlds_without_a_centre_keep_their_promises() {
    check_in(30_000..31_000, Shape::decentralised(6));
}

#[test]
fn worlds_of_many_without_a_centre_keep_their_promises() {
    check_in(31_000..31_300, Shape::decentralised(15));
}

#[test]
fn worlds_of_three_monitors_keep_their_promises() {
    check_in(32_000..32_600, Shape::central(3, 5));
}

#[test]
fn worlds_of_two_releases_keep_their_promises() {
    check_in(33_000..33_400, Shape { releases: Releases::Mixed, ..Shape::decentralised(6) });
    check_in(34_000..34_100, Shape { releases: Releases::Mixed, ..Shape::central(3, 5) });
}

/// Seeds that once found a fault, with the monitors and nodes of their worlds; each says which.
#[test]
fn seeds_that_found_faults_stay_mended() {
    for (seed, monitors, nodes, fault) in [
        (430, 1, 5, "an answer meant for a former process was taken for a whole view"),
        (47, 1, 5, "a restarted monitor let a node keep shards that had been given away"),
        (34, 1, 5, "a node admitted late kept its shards"),
        (142, 1, 5, "a worker that was to stop on a blocked thread was left to run"),
        (31_082, 0, 15, "another observer's old heartbeat counted as a new one, and was passed on"),
        (201_754, 0, 6, "one that had only begun to watch a dead node said that it was well"),
        (201_693, 0, 6, "an observer for want of others asked no member and concluded alone"),
        (206_395, 0, 6, "an observer without answers asked no other member"),
        (241_824, 0, 8, "one that had just been cut off took silence for an answer"),
        (31_043, 0, 15, "members that do not watch a node declared it dead in a short pause"),
        (210_721, 0, 15, "an unwell node waited so long for answers that the first were old"),
        (314_367, 0, 40, "a suspicion that only an island knew of counted as known to all"),
        (306_613, 0, 6, "two lives of one process had the same epoch"),
        (415_605, 0, 40, "a table from a node without power was waited for without end"),
        (115_643, 2, 6, "a node that woke counted answers from before its pause"),
        (104_062, 3, 5, "a monitor without a memory held up a death"),
        (111_410, 2, 6, "a monitor that had been declared dead held up a death"),
        (700_290, 0, 8, "one that came back did not ask what it had missed"),
    ] {
        let (_, result) = schedule::run_in(seed, Shape { monitors, ..Shape::decentralised(nodes) });
        assert_eq!(result, Ok(()), "again: {fault}");
    }
}
