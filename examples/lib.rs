//! What the programs of this package share. The programs themselves are its examples: run one with
//! `cargo run --release --example hello`.

pub mod process;
pub mod report;
pub mod settings;

/// A failure of an example itself; the text is for people.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
