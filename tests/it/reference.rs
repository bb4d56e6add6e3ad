//! The detectors against the scores of another implementation, on the same traces
//! (`tests/data/traces`).

use heartbeat_core::detection::qos::{Contender, Quality, Replay, quality};
use heartbeat_core::{Instant, Trace};
use heartbeat_sim::data::{Reference, read_reference, read_trace};

/// What we score where the other implementation has this row.
fn ours(trace: &Trace, contender: Contender, row: &Reference) -> Quality {
    let interval = trace.intervals[0].1;
    let setting = match contender {
        // Its setting is the negative decimal logarithm of the share of heartbeats.
        Contender::Budget => 10f64.powf(-row.param) * 3_600.0 / interval.as_secs_f64(),
        Contender::Fixed | Contender::Chen | Contender::PhiAkka | Contender::PhiCassandra => row.param,
    };
    let mut detector = contender.detector(setting, interval, Instant::ZERO).unwrap();
    quality(trace, &mut detector, Replay { discount_pauses: row.guard, ..Replay::default() })
}

/// Each row of the reference for the detector of this name, with what we score there.
fn rows(name: &str, contender: Contender) -> Vec<(Reference, Quality)> {
    let rows = read_reference().into_iter().filter(|row| row.detector == name);
    rows.map(|row| (row.clone(), ours(&read_trace(&row.file), contender, &row))).collect()
}

/// Asserts the same mistakes, for as long, and detection times within 1 %; the slowest hundredth
/// within `late`.
#[track_caller]
fn check_the_same(name: &str, contender: Contender, late: f64) {
    let rows = rows(name, contender);
    assert_eq!(rows.len(), 4);
    for (row, quality) in rows {
        assert_eq!((quality.mistakes, quality.mistakes_early), (row.mistakes, row.mistakes_early), "{row:?}");
        let close = |ours: f64, theirs: f64, share: f64| (ours / theirs - 1.0).abs() < share;
        assert!(close(quality.detection_mean.as_secs_f64(), row.detection_mean, 0.01), "{row:?}: {quality}");
        assert!(close(quality.detection_p99.as_secs_f64(), row.detection_p99, late), "{row:?}: {quality}");
        assert!(close(quality.accuracy(), row.accuracy, 1e-5), "{row:?}: {quality}");
    }
}

#[test]
fn fixed_is_the_reference() {
    check_the_same("fixed", Contender::Fixed, 0.01);
}

#[test]
fn chen_is_the_reference() {
    check_the_same("chen", Contender::Chen, 0.01);
}

#[test]
fn phi_as_akka_reads_it_is_the_reference() {
    check_the_same("akka", Contender::PhiAkka, 0.01);
}

#[test]
fn phi_as_cassandra_reads_it_is_the_reference() {
    // The instants of the crashes are drawn, not those of the reference: on the mobile link that is
    // 1.3 % at the 99 %.
    check_the_same("phiexp", Contender::PhiCassandra, 0.015);
}

/// Where the reference makes fewer mistakes than its budget allows, it pays with its time; ours may
/// spend what it was given, give or take what three hours can show. Of the twelve rows ours is
/// slower on two, by 1 % and by 9 %; in the geometric mean it takes 0.77 of the reference's time.
#[test]
fn the_budget_is_as_fast_as_the_reference_and_keeps_its_budget() {
    let rows = rows("tail", Contender::Budget);
    assert_eq!(rows.len(), 12);
    let mut logarithms = 0.0;
    for (row, quality) in &rows {
        let interval = if row.file.starts_with("wan") { 0.103_501 } else { 0.1 };
        let allowed = 10f64.powf(-row.param) * quality.scored.as_secs_f64() / interval;
        let ratio = quality.detection_mean.as_secs_f64() / row.detection_mean;
        assert!(ratio <= 1.1, "{row:?}: {quality}");
        assert!(quality.mistakes as f64 <= (allowed * 1.2).max(row.mistakes as f64), "{row:?}: {quality}");
        logarithms += ratio.ln();
    }
    let mean = (logarithms / rows.len() as f64).exp();
    assert!(mean <= 0.85, "the geometric mean of the ratios is {mean:.2}");
}
