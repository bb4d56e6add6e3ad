//! What the programs of this package share. The programs themselves are its examples: run one with
//! `cargo run --release --example hello`.

pub mod process;
pub mod report;
pub mod settings;

/// A failure of an example itself; the text is for people.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The Rust code of the README and of the book, which `cargo test` compiles and runs as doc tests.
///
/// Chapters whose code is `{{#include}}`d from an example are not here: the example holds it. The
/// chapter on tests is in the library of `heartbeat-tests`, which has the feature `testkit`.
#[cfg(doctest)]
mod book {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/src/quickstart.md")]
    struct Quickstart;
    #[doc = include_str!("../docs/src/configuration.md")]
    struct Configuration;
    #[doc = include_str!("../docs/src/supervision.md")]
    struct Supervision;
    #[doc = include_str!("../docs/src/ownership.md")]
    struct Ownership;
    #[doc = include_str!("../docs/src/requests.md")]
    struct Requests;
    #[doc = include_str!("../docs/src/http.md")]
    struct Http;
    #[doc = include_str!("../docs/src/entities.md")]
    struct Entities;
}
