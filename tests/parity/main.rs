//! What an actor sees is the same under actix's context and under ours.
//!
//! Each case is compiled twice: once with actix's `Context`, once with ours. So it is one word that
//! differs, and what a case says of ours is known to hold of actix. The cases follow actix's own
//! tests (0.13.5), rewritten. Cases that cannot be written in one source are in `other_words`, and
//! cases that do not hold are in `differences`. The book has the table.
//!
//! `programs` goes further: random actor programs under both contexts must give the same events at
//! the same instants.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(clippy::duplicate_mod, reason = "each case is compiled once for each context")]
#![allow(clippy::mutable_key_type, reason = "addresses are compared by identity, which never changes")]

mod cases;
mod differences;
mod other_words;
mod programs;
mod tally;
