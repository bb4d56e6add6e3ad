//! Same seed, same run, same bytes.

use heartbeat_sim::schedule;

#[test]
fn a_seed_gives_the_same_log_byte_for_byte() {
    for seed in 0..10 {
        let (first, second) = (schedule::run(seed, 6).0, schedule::run(seed, 6).0);
        assert!(first.log().len() > 100);
        assert_eq!(first.log(), second.log());
    }
}

#[test]
fn another_seed_gives_another_log() {
    assert_ne!(schedule::run(1, 6).0.log(), schedule::run(2, 6).0.log());
}
