//! Nothing lives here: the programs are the examples of this package. Run one with `cargo run --release --example hello`.
