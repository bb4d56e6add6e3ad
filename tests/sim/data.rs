//! Data that lies in the repository: heartbeat traces, and what another implementation scored on
//! them. Where they come from is in `tests/data/traces/README.md`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use heartbeat_core::Trace;

/// One line of `reference.csv`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// The trace, without its folder and `.gz`.
    pub file: String,
    /// Whether pauses of the receiver were discounted.
    pub guard: bool,
    /// The detector, by the other implementation's name.
    pub detector: String,
    /// Its setting: in intervals for `fixed`, `chen` and `akka`, a phi for the others.
    pub param: f64,
    /// Mistakes after the warm-up of 120 s.
    pub mistakes: u64,
    /// Detection time in seconds: mean, and what 99 in 100 stay within.
    pub detection_mean: f64,
    /// See `detection_mean`.
    pub detection_p99: f64,
    /// Mean duration of a mistake in seconds.
    pub mistake_duration: f64,
    /// Query accuracy.
    pub accuracy: f64,
    /// Mistakes in the warm-up.
    pub mistakes_early: u64,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../data/traces")
}

/// The trace in this file, given without `.gz`.
///
/// # Panics
/// If it cannot be read: the repository is not whole.
pub fn read_trace(file: &str) -> Trace {
    let path = folder().join(format!("{file}.gz"));
    let mut text = String::new();
    let opened = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    GzDecoder::new(opened).read_to_string(&mut text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Trace::from_text(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the other implementation scored.
///
/// # Panics
/// If it cannot be read: the repository is not whole.
pub fn read_reference() -> Vec<Reference> {
    let text = std::fs::read_to_string(folder().join("reference.csv")).expect("reference.csv lies beside the traces");
    text.lines().skip(1).map(|line| read_row(line).unwrap_or_else(|| panic!("reference.csv: {line:?}"))).collect()
}

fn read_row(line: &str) -> Option<Reference> {
    let columns: Vec<&str> = line.split(',').collect();
    let number = |column: usize| columns.get(column)?.parse::<f64>().ok();
    Some(Reference {
        file: columns.first()?.to_string(),
        guard: number(1)? == 1.0,
        detector: columns.get(2)?.to_string(),
        param: number(3)?,
        mistakes: number(5)? as u64,
        detection_mean: number(7)?,
        detection_p99: number(9)?,
        mistake_duration: number(10)?,
        accuracy: number(11)?,
        mistakes_early: number(12)? as u64,
    })
}
