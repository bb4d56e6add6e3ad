//! What several test programs share.

pub mod histories;
pub mod process;

/// The chapter of the book on tests, whose Rust code `cargo test` compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../docs/src/testing.md")]
struct Testing;
